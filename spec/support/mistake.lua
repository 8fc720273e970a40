-- SPDX-License-Identifier: BSD-2-Clause
--
-- What a caller's mistake says: fn must raise a text that begins with the place of the mistake,
-- which is in the spec itself. Returned without that place.
--
--   local mistake = require "support.mistake"
--   assert.equal("struct cfg has fields by name, not by number", mistake(function() … end))

return function(fn, ...)
  local ok, text = pcall(fn, ...)
  if ok then error("it raised nothing", 2) end
  if type(text) ~= "string" then
    error("no text, but a " .. type(text) .. ": " .. tostring(text), 2)
  end
  local place, rest = text:match "^([^\n]-:%d+:) (.*)$"
  if not place then error("it says no place: " .. text, 2) end
  if not place:find "_spec%.lua:%d+:$" then error("it says another place: " .. text, 2) end
  return rest
end
