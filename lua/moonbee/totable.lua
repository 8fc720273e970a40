-- SPDX-License-Identifier: BSD-2-Clause
-- A view as plain tables, for Lua's own and the policies' states alike: arrays from 1 on.
local core = require "moonbee.core"

local function totable(x)
  if core.type(x) ~= "view" then return x end
  local out = {}
  if core.typeof(x).kind == "array" then
    for i, element in pairs(x) do out[i + 1] = totable(element) end
  else
    for name, value in pairs(x) do out[name] = totable(value) end
  end
  return out
end

return {
  totable = function(view)
    if core.type(view) ~= "view" then
      error("bpf.totable: view expected, got " .. (core.type(view) or type(view)), 2)
    end
    return totable(view)
  end,
}
