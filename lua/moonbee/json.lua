-- SPDX-License-Identifier: BSD-2-Clause
-- Views and tables as JSON, by dkjson. What JSON readers would round, or refuse, becomes text.
local core = require "moonbee.core"
local dkjson = require "dkjson"
local format = require "moonbee.format"
local shape = require "moonbee.shape"

local EXACT = 1 << 53 -- integers up to here survive in a double
local MAX_DEPTH = 128

-- What dkjson is to write as it stands.
local raw = { __tojson = function(self) return self.text end }

local function number(text)
  return setmetatable({ text = text }, raw)
end

local function integer(x, unsigned)
  if x >= -EXACT and x <= EXACT and not (unsigned and x < 0) then return x end
  return unsigned and format.unsigned(x) or ("%d"):format(x)
end

local function float(x, size)
  local text = format.float(x, size)
  return text:find "n" and dkjson.null or number(text) -- nan, inf
end

-- JSON is UTF-8: where text is not, each byte above 127 stands for the character of its number.
local function text(s)
  if utf8.len(s) then return s end
  return (s:gsub("[\x80-\xFF]", function(c) return utf8.char(c:byte()) end))
end

local scalar = {
  int = function(s, x) return integer(x, not s.signed) end,
  enum = function(s, x) return s.names[x] or integer(x, not s.signed) end,
  bool = function(_, x) return x end,
  float = function(s, x) return float(x, s.size) end,
  pointer = function(_, x) return ("0x%x"):format(x) end,
  chars = function(_, x) return text(x) end,
  bytes = function(s, x)
    if s.name:find "__int128" then return format.wide(x) end
    return (x:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
  end,
}

local function from_view(s, v)
  local convert = scalar[s.kind]
  if convert then return convert(s, v) end
  local out = {}
  if s.kind == "array" then
    for i = 0, #v - 1 do out[i + 1] = from_view(s.elem, v[i]) end
    return out
  end
  local order = {}
  for i, field in ipairs(s.fields) do
    order[i] = field[1]
    out[field[1]] = from_view(field[2], v[field[1]])
  end
  return setmetatable(out, { __jsontype = "object", __jsonorder = order })
end

local from

local function refuse(what)
  error { refused = "bpf.json: " .. what .. "\nhint: JSON knows tables, views, text, numbers" }
end

local function from_table(t, depth)
  if depth > MAX_DEPTH then refuse "a table that holds itself, or is too deep" end
  local meta = getmetatable(t)
  if type(meta) ~= "table" then meta = nil end
  if meta and meta.__tojson then return t end
  local out, keys = {}, {}
  for k, x in pairs(t) do
    if type(k) == "string" then
      k = text(k)
      keys[#keys + 1] = k
    elseif math.type(k) ~= "integer" then
      refuse("a key that is a " .. type(k))
    end
    out[k] = from(x, depth + 1)
  end
  table.sort(keys)
  -- dkjson would take a table whose field n is a number for an array of that length
  if type(out.n) == "number" then out.n = number(("%d"):format(out.n)) end
  return setmetatable(out, {
    __jsontype = meta and meta.__jsontype,
    __jsonorder = meta and meta.__jsonorder or keys,
  })
end

function from(x, depth)
  local kind = math.type(x) or type(x)
  if x == dkjson.null or kind == "nil" or kind == "boolean" then return x end
  if kind == "integer" then return integer(x) end
  if kind == "float" then return float(x, 8) end
  if kind == "string" then return text(x) end
  if kind == "table" then return from_table(x, depth) end
  if core.type(x) == "view" then return from_view(shape(core.typeof(x)), x) end
  refuse("no JSON for a " .. (core.type(x) or kind))
end

local json = {}

-- A value of the type T (v.x of the field x) as what json.encode takes for it.
function json.value(T, x)
  return from_view(shape(T), x)
end

-- bpf.json
function json.encode(value, opts)
  local ok, plain = pcall(from, value, 0)
  if not ok then
    if type(plain) == "table" and plain.refused then error(plain.refused, 2) end
    error(plain, 0)
  end
  if plain == nil then plain = dkjson.null end
  return dkjson.encode(plain, { indent = opts and opts.indent or false })
end

return json
