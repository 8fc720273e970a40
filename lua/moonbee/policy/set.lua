-- SPDX-License-Identifier: BSD-2-Clause
-- Text of the command line as values of a variable's type: numbers with units, names of enums,
-- lists. --set, ctl get and ctl set.
local bpf = require "moonbee"
local shape = require "moonbee.shape"

local set = {}

local function fail(name, cause, hint)
  error(bpf.error { code = "EINVAL", op = "set variable", subject = name, cause = cause,
    hint = hint }, 0)
end

-- ---- numbers ------------------------------------------------------------------------------------

local SCALE = { k = 10 ^ 3, K = 10 ^ 3, M = 10 ^ 6, G = 10 ^ 9, T = 10 ^ 12, Ki = 1 << 10,
  Mi = 1 << 20, Gi = 1 << 30, Ti = 1 << 40 }
local NS = { ns = 1, us = 10 ^ 3, ms = 10 ^ 6, s = 10 ^ 9, min = 60 * 10 ^ 9, h = 3600 * 10 ^ 9,
  d = 86400 * 10 ^ 9 }
-- What a variable counts time in, by the end of its name.
local NAMED = { ns = 1, nsec = 1, us = 10 ^ 3, usec = 10 ^ 3, ms = 10 ^ 6, msec = 10 ^ 6,
  s = 10 ^ 9, sec = 10 ^ 9, secs = 10 ^ 9, seconds = 10 ^ 9, min = 60 * 10 ^ 9,
  minutes = 60 * 10 ^ 9 }
local UNITS = "units: k M G T, Ki Mi Gi Ti (with or without B); ns us ms s min h d for times"

-- number * numerator / denominator, exactly where the result is an integer.
local function scaled(text, numerator, denominator)
  local n = math.tointeger(tonumber(text))
  numerator, denominator = math.tointeger(numerator), math.tointeger(denominator or 1)
  if n then
    local product = n * numerator
    if n == 0 or product // n == numerator and product % denominator == 0 then
      return product // denominator
    end
  end
  return tonumber(text) * numerator / denominator
end

local function time(text, unit, name, s)
  local base = NAMED[name:match "_(%a+)$" or ""]
  if not base and s.kind == "float" then base = NS.s end
  if not base then
    fail(name, ("'%s%s' is a time, and its name does not say what it counts in"):format(text, unit),
      "names that end in _ns, _us, _ms, _s do; else give a plain number")
  end
  return scaled(text, NS[unit], base)
end

-- "10k", "1.5M", "4KiB", "0x10", "250ms".
local function number(text, name, s)
  local bare = text:gsub("(%d)_(%d)", "%1%2")
  if tonumber(bare) and not bare:find "[nN]" then return tonumber(bare) end
  local digits, unit = bare:match "^([%-+]?[%d.]+)%s*(%a+)$"
  if not digits or not tonumber(digits) then return nil end
  local scale = SCALE[unit] or unit == "B" and 1 or SCALE[unit:match "^(.+)B$" or ""]
  if scale then return scaled(digits, scale) end
  if NS[unit] then return time(digits, unit, name, s) end
  fail(name, ("unknown unit '%s'"):format(unit), UNITS)
end

-- Decimal digits beyond 2^63 as the bits of an unsigned number.
local function unsigned(text, name, s)
  if s.signed or #text > 20 or #text == 20 and text > "18446744073709551615" then
    fail(name, ("%s is out of range for %s"):format(text, s.name))
  end
  local n = 0
  for digit in text:gmatch "%d" do n = n * 10 + math.tointeger(digit) end
  return n
end

local function integer(text, name, s)
  if text:find "^%d+$" and math.type(tonumber(text)) == "float" then
    return unsigned(text, name, s)
  end
  local n = number(text, name, s)
  if not n then fail(name, ("'%s' is no number"):format(text), UNITS) end
  local whole = math.tointeger(n)
  if not whole then
    fail(name, ("%s is not a whole number, and it is %s"):format(text, s.name))
  end
  return whole
end

-- ---- other scalars ------------------------------------------------------------------------------

local TRUTH = { ["true"] = true, yes = true, on = true, ["1"] = true, ["false"] = false, no = false,
  off = false, ["0"] = false }

local function enum(text, name, s)
  local n = number(text, name, s)
  if n then return integer(text, name, s) end
  local names, folded, ends = {}, nil, {}
  for _, known in pairs(s.names) do
    if known == text then return text end
    if known:lower() == text:lower() then folded = known end
    -- strict for MODE_STRICT, where that is the only one
    if known:lower():sub(-#text - 1) == "_" .. text:lower() then ends[#ends + 1] = known end
    names[#names + 1] = known
  end
  if folded or #ends == 1 then return folded or ends[1] end
  table.sort(names)
  local near = require "moonbee.near" (text, names)
  fail(name, ("'%s' is no value of %s"):format(text, s.name),
    near and ("did you mean '%s'?"):format(near) or "it has " .. table.concat(names, ", "))
end

local scalar = {
  int = integer,
  float = function(text, name, s)
    local n = number(text, name, s)
    if not n then fail(name, ("'%s' is no number"):format(text), UNITS) end
    return n + 0.0
  end,
  bool = function(text, name)
    local truth = TRUTH[text:lower()]
    if truth == nil then fail(name, ("'%s' is neither true nor false"):format(text)) end
    return truth
  end,
  enum = enum,
  chars = function(text)
    return text:match '^"(.*)"$' or text
  end,
  pointer = function(_, name, s)
    fail(name, ("it is a pointer (%s)"):format(s.name))
  end,
  bytes = function(_, name, s)
    fail(name, ("Lua has no number for %s"):format(s.name))
  end,
}

-- ---- aggregates ---------------------------------------------------------------------------------

-- Parts of "a,b,{c,d}" at the commas that stand in no brackets.
local function split(text, name)
  local parts, depth, from = {}, 0, 1
  for at, c in text:gmatch "()([,%[%]{}])" do
    if c == "," and depth == 0 then
      parts[#parts + 1] = text:sub(from, at - 1)
      from = at + 1
    elseif c ~= "," then
      depth = depth + ((c == "[" or c == "{") and 1 or -1)
    end
  end
  if depth ~= 0 then fail(name, ("'%s' has brackets that do not match"):format(text)) end
  if from > 1 or text:find "%S" then parts[#parts + 1] = text:sub(from) end
  return parts
end

local value

local function array(text, name, s)
  local list = {}
  for i, part in ipairs(split(text:match "^%s*[%[{](.*)[%]}]%s*$" or text, name)) do
    list[i] = value(part, ("%s[%d]"):format(name, i - 1), s.elem)
  end
  return list
end

local function struct(text, name, s)
  local inner = text:match "^%s*{(.*)}%s*$"
  if not inner then
    fail(name, ("it is %s"):format(s.name), "{field=value,…}, or a field: " .. name .. ".field")
  end
  local types, out = {}, {}
  for _, field in ipairs(s.fields) do types[field[1]] = field[2] end
  for _, part in ipairs(split(inner, name)) do
    local key, rest = part:match "^%s*([%a_][%w_]*)%s*=(.*)$"
    if not key or not types[key] then
      fail(name, ("'%s' is no field of %s"):format(key or part, s.name))
    end
    out[key] = value(rest, name .. "." .. key, types[key])
  end
  return out
end

function value(text, name, s)
  if s.kind == "array" then return array(text, name, s) end
  if s.kind == "struct" or s.kind == "union" then return struct(text, name, s) end
  if s.kind ~= "chars" then text = text:match "^%s*(.-)%s*$" end
  return scalar[s.kind](text, name, s)
end

-- ---- paths --------------------------------------------------------------------------------------

local function no_path(path)
  fail(path, "it is no name of a variable", "as in C: cfg.limits[3].rate")
end

-- "cfg.limits[3].rate" as { "cfg", "limits", 3, "rate" }.
local function steps(path)
  local first, at = path:match "^([%a_][%w_]*)()"
  if not first then no_path(path) end
  local list = { first }
  while at <= #path do
    local name, after_name = path:match("^%.([%a_][%w_]*)()", at)
    local digits, after_digits = path:match("^%[(%w+)%]()", at)
    local key = name or math.tointeger(tonumber(digits))
    if not key then no_path(path) end
    list[#list + 1] = key
    at = name and after_name or after_digits
  end
  return list
end

-- One step down: raises as the view does, as an error object and without our line.
local function index(view, key, path)
  if bpf.type(view) ~= "view" then
    fail(path, ("there is nothing in it by the name '%s'"):format(key))
  end
  local ok, x = pcall(function() return view[key] end)
  if ok then return x end
  local text = tostring(x):gsub("^[^\n]-:%d+: ", "")
  local cause, hint = text:match "^(.-)\nhint: (.*)$"
  error(bpf.error { code = "ENOENT", op = "find variable", subject = path, cause = cause or text,
    hint = hint }, 0)
end

local function shape_in(s, key)
  if s.kind == "array" then return s.elem end
  for _, field in ipairs(s.fields or {}) do
    if field[1] == key then return field[2] end
  end
end

-- Where a path leads from obj.vars: the view that holds it, its key there, its shape, its value.
function set.find(vars, path)
  local list = steps(path)
  local view, s = vars, shape(bpf.typeof(vars))
  for i = 1, #list - 1 do
    s = shape_in(s, list[i])
    view = index(view, list[i], path)
  end
  local key = list[#list]
  local now = index(view, key, path)
  return { view = view, key = key, shape = shape_in(s, key), now = now, path = path }
end

-- A value as plain data.
function set.plain(x)
  return bpf.type(x) == "view" and bpf.totable(x) or x
end

function set.get(vars, path)
  return set.find(vars, path).now
end

-- Store plain data where find found; the view checks it.
function set.store(found, data)
  local ok, err = pcall(function()
    if type(data) == "table" and found.shape.kind ~= "array" then
      bpf.update(found.view[found.key], data)
    else
      found.view[found.key] = data
    end
  end)
  if ok then return end
  if bpf.type(err) == "error" then error(err, 0) end
  local text = tostring(err):gsub("^[^\n]-:%d+: ", ""):gsub("^store '[^']*': ", "")
  local cause, hint = text:match "^(.-)\nhint: (.*)$"
  fail(found.path, cause or text, hint)
end

-- "v=x" -> path, text. Raises where there is no "=".
function set.split(word)
  local path, text = word:match "^([^=]+)=(.*)$"
  if not path then fail(word, "it is not variable=value", "--set rate=10k") end
  return path, text
end

-- Set by text; returns what it was and what it is, as plain data.
function set.set(vars, path, text)
  local found = set.find(vars, path)
  local before = set.plain(found.now)
  set.store(found, value(text, path, found.shape))
  return before, set.plain(set.get(vars, path))
end

-- A value that text means for a type object's type; for specs and params.
function set.value(text, T, name)
  return value(text, name or "value", shape(T))
end

return set
