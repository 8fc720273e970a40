-- SPDX-License-Identifier: BSD-2-Clause
-- "cfg.limits[3].rate=500", as given to --set: stored by the variable's type. Numbers, true and
-- false, names of enums, and text for char arrays; quotes force text.
local core = require "moonbee.core"

local MOST = "18446744073709551615" -- 2^64 - 1

local function value_of(text)
  local quoted = text:match '^"(.*)"$' or text:match "^'(.*)'$"
  if quoted then return quoted end
  if text == "true" then return true end
  if text == "false" then return false end
  local digits = text:match "^0*(%d+)$"
  if digits and #digits >= 19 and (#digits < #MOST or #digits == #MOST and digits <= MOST) then
    local bits = 0 -- beyond Lua's integers, maybe, and yet 64 bits
    for digit in digits:gmatch "%d" do bits = bits * 10 + tonumber(digit) end
    return bits
  end
  return tonumber(text) or text
end

local function malformed(text)
  error(core.error {
    code = "EINVAL", op = "set variable", subject = text, cause = "it has no value",
    hint = "VARIABLE=VALUE: sample_rate=10, cfg.mode=STRICT, name=eth0",
  }, 0)
end

-- Store what the text says into the variables.
return function(vars, text)
  local name, value = text:match "^%s*([^=]-)%s*=(.*)$"
  if not name or name == "" then malformed(text) end
  local ok, err = pcall(function() core.ref(vars, name):set(value_of(value)) end)
  if ok then return end
  if core.type(err) == "error" then error(err, 0) end
  local cause, hint = tostring(err):gsub("^[^\n]-:%d+: ", ""):match "^([^\n]*)\n?(.*)$"
  error(core.error {
    code = "EINVAL", op = "set variable", subject = text, cause = cause,
    hint = hint ~= "" and hint:gsub("^hint: ", "") or nil,
  }, 0)
end
