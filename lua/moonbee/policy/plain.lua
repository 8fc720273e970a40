-- SPDX-License-Identifier: BSD-2-Clause
-- Plain data (nil, booleans, numbers, text, tables of these) as text that reads back exactly.
local plain = {}

local MAX_DEPTH = 128 -- what crosses states is less deep
local MAX_PIECES = 1 << 21

local write

local function write_table(t, out, depth)
  if depth > MAX_DEPTH then error("a table that holds itself, or is too deep", 0) end
  if #out > MAX_PIECES then
    error("too large: a table that is reached in several ways counts each time", 0)
  end
  out[#out + 1] = "{"
  local keys = {}
  for k in pairs(t) do keys[#keys + 1] = k end
  -- The same data is the same text: keys in order, numbers first.
  table.sort(keys, function(a, b)
    local ta, tb = type(a), type(b)
    if ta ~= tb then return ta < tb end
    if ta == "boolean" then return not a and b end
    return a < b
  end)
  for _, k in ipairs(keys) do
    out[#out + 1] = "["
    write(k, out, depth + 1)
    out[#out + 1] = "]="
    write(t[k], out, depth + 1)
    out[#out + 1] = ","
  end
  out[#out + 1] = "}"
end

function write(x, out, depth)
  local kind = type(x)
  if kind == "table" then return write_table(x, out, depth) end
  if kind ~= "nil" and kind ~= "boolean" and kind ~= "number" and kind ~= "string" then
    error("no plain data: a " .. kind, 0)
  end
  out[#out + 1] = ("%q"):format(x):gsub("\\\n", "\\n"):gsub("\r", "\\r")
end

-- One line of text for a value. Raises text for what is not plain.
function plain.dump(value)
  local out = {}
  write(value, out, 0)
  return table.concat(out)
end

-- The value back, or nil: no such text. Only for text that we wrote ourselves.
function plain.parse(text)
  local chunk = load("return " .. text, "=plain", "t", {})
  local ok, value = pcall(chunk or error)
  if ok then return value end
end

-- Are two values the same data?
function plain.same(a, b)
  if a == b then return true end
  if type(a) ~= "table" or type(b) ~= "table" then return a ~= a and b ~= b end
  for k, x in pairs(a) do
    if not plain.same(x, b[k]) then return false end
  end
  for k in pairs(b) do
    if a[k] == nil then return false end
  end
  return true
end

return plain
