-- SPDX-License-Identifier: BSD-2-Clause
-- What may follow the text before the cursor: names, members of live objects, indices, names of
-- enums where one is assigned, kernel symbols, files. Nothing is called but our own classes.
local core = require "moonbee.core"
local path = require "moonbee.path"
local show = require "moonbee.show"

local complete = {}

local MOST = 1000   -- candidates
local INDICES = 256 -- of an array

-- ---- members ------------------------------------------------------------------------------------

local function add_all(list, t)
  for name in pairs(t) do
    if #list >= MOST then return end
    list[#list + 1] = name
  end
end

-- Methods, and properties where they are asked for, of a handle.
local function class_members(kind, methods_only)
  local list = {}
  for name, what in pairs(core.classes()[kind] or {}) do
    if what == "method" or not methods_only then list[#list + 1] = name end
  end
  return list
end

local REF = { "get", "set", "add", "xchg", "cas" }

local function table_keys(x, only_methods)
  local list = {}
  local function note(key, value)
    if type(key) == "string" and (not only_methods or type(value) == "function") then
      list[#list + 1] = key
    end
    return #list < MOST
  end
  -- pairs, which our own collections answer; those of others only tell what lies in them.
  local meta = getmetatable(x)
  if type(meta) == "table" and meta.__pairs then
    for key, value in next, x do if not note(key, value) then break end end
  else
    for key, value in pairs(x) do if not note(key, value) then break end end
  end
  local index = type(meta) == "table" and rawget(meta, "__index")
  if type(index) == "table" then
    for key, value in next, index do note(key, value) end
  end
  return list
end

-- All string keys of x, as they may follow a dot (only_methods: a colon).
local function members(x, only_methods)
  local kind = core.type(x)
  if kind == "view" then
    local list = {}
    for _, field in ipairs(not only_methods and core.typeof(x).fields or {}) do
      list[#list + 1] = field.name
    end
    return list
  elseif kind == "ref" then
    return REF
  elseif kind then
    return class_members(kind:gsub("^closed ", ""), only_methods)
  elseif type(x) == "string" then
    return table_keys(string)
  elseif type(x) == "table" then
    return table_keys(x, only_methods)
  elseif type(x) == "userdata" then
    local list = {}
    pcall(add_all, list, x) -- obj.types
    return list
  end
  return {}
end

local function indices(x)
  local list = {}
  if core.type(x) == "view" and core.typeof(x).kind == "array" then
    for i = 0, math.min(#x, INDICES) - 1 do list[#list + 1] = tostring(i) end
  elseif type(x) == "table" then
    for i = 1, math.min(rawlen(x), INDICES) do list[#list + 1] = tostring(i) end
  end
  return list
end

-- ---- strings ------------------------------------------------------------------------------------

local function enum_names(T)
  local list = {}
  for _, e in ipairs(T and T.kind == "enum" and T.enums or {}) do list[#list + 1] = e.name end
  return list
end

-- Kernel symbols that begin so.
local function ksyms(_, prefix)
  local ok, kernel = pcall(require, "moonbee.kernel")
  local list = {}
  if not ok or #prefix < 2 then return list end
  pcall(function()
    for symbol in kernel.ksyms(prefix:gsub("[%*%?%[%]]", "?") .. "*") do
      list[#list + 1] = symbol.name
      if #list >= MOST then break end
    end
  end)
  return list
end

-- Paths below a view: what the last dot or bracket is after decides.
local function paths(s, prefix, words, open)
  local first = words[open + 1]
  local keys = first and path.ending(words, open + 1)
  -- The first argument may be a path itself: it ends before the comma.
  for i = open + 1, #words do
    if words[i].text == "," then
      keys = path.ending(words, i - 1)
      break
    end
  end
  local base = keys and path.follow(keys, s.env)
  local before, name = prefix:match "^(.*)%.([%w_]*)$"
  if before then
    local below = path.whole("x." .. before)
    base = below and path.follow(below, { x = base })
    before = before .. "."
  else
    before, name = "", prefix
  end
  local list = {}
  for _, member in ipairs(members(base)) do
    if member:sub(1, #name) == name then list[#list + 1] = before .. member end
  end
  return list
end

local function fields(s, _, words, open)
  local keys
  for i = open + 1, #words do
    if words[i].text == "," then
      keys = path.ending(words, i - 1)
      break
    end
  end
  return members(keys and path.follow(keys, s.env))
end

local function interfaces(s)
  local list = {}
  for _, name in ipairs(s.files and s.files "/sys/class/net/" or {}) do
    list[#list + 1] = name:match "([^/]+)/?$"
  end
  return list
end

local functions = {
  ksym = ksyms, ksyms = ksyms, read = ksyms, percpu = ksyms, kprobe = ksyms,
  ref = paths, enum = fields, has = fields,
}

-- The names of types, for m:reader("struct …") and obj.types["…"].
local function type_names(s)
  local list = {}
  local obj = s.env.obj
  if core.type(obj) == "object" then pcall(add_all, list, obj.types) end
  return list
end
functions.reader, functions.writer, functions.cast = type_names, type_names, type_names

-- Where the call that word i is an argument of opens; nil: in none.
local function call_of(words, i)
  local depth = 0
  while i >= 1 do
    local text = words[i].text
    if text == ")" or text == "}" or text == "]" then
      depth = depth + 1
    elseif text == "(" or text == "{" or text == "[" then
      if depth == 0 then return text == "(" and i or nil, text end
      depth = depth - 1
    end
    i = i - 1
  end
end

-- The choices for an unfinished string, and what ends it.
local function in_string(s, words)
  local word = words[#words]
  local prefix, quote = word.text:sub(2), word.text:sub(1, 1)
  local before = words[#words - 1]
  if not before then return s.files and s.files(prefix) or {}, prefix, "" end
  if before.text == "[" then
    local keys = path.ending(words, #words - 2)
    return members(keys and path.follow(keys, s.env)), prefix, quote .. "]"
  elseif before.text == "=" or before.text == "==" or before.text == "~=" then
    local keys = path.ending(words, #words - 2)
    if keys and #keys == 1 and keys[1] == "ifname" then return interfaces(s), prefix, quote end
    local names = enum_names(keys and path.type(keys, s.env))
    if #names > 0 then return names, prefix, quote end
  end
  local open = call_of(words, #words - 1)
  local name = open and words[open - 1] or before.kind == "name" and before
  local from = name and name.kind == "name" and functions[name.text]
  if from then return from(s, prefix, words, open or #words), prefix, quote end
  return s.files and s.files(prefix) or {}, prefix, ""
end

-- ---- names --------------------------------------------------------------------------------------

local function first_names(s)
  local list = {}
  s:each_name(function(name)
    if show.is_name(name) then list[#list + 1] = name end
  end)
  for word in pairs(show.reserved) do list[#list + 1] = word end
  return list
end

-- The choices at the end of words: candidates, the part that is there, what ends a candidate.
local function outside(s, words, adjacent)
  local last = words[#words]
  local typed = adjacent and last and (last.kind == "name" or last.kind == "number") and last
  local part = typed and typed.text or ""
  local i = typed and #words - 1 or #words
  local before = words[i]
  if before and (before.text == "." or before.text == ":") then
    local keys = path.ending(words, i - 1)
    local x = keys and path.follow(keys, s.env)
    local list = {}
    for _, name in ipairs(members(x, before.text == ":")) do
      if show.is_name(name) then list[#list + 1] = name end
    end
    return list, part, ""
  elseif before and before.text == "[" then
    local keys = path.ending(words, i - 1)
    local x = keys and path.follow(keys, s.env)
    local list = indices(x)
    if #list > 0 then return list, part, "]" end
    if part == "" then
      for _, name in ipairs(members(x)) do list[#list + 1] = ("%q"):format(name) end
      if #list > 0 then return list, part, "]" end
    end
  elseif before and (before.text == "=" or before.text == "==" or before.text == "~=") then
    local keys = path.ending(words, i - 1)
    local names = enum_names(keys and path.type(keys, s.env))
    if #names > 0 and part == "" then
      for k, name in ipairs(names) do names[k] = ("%q"):format(name) end
      return names, part, ""
    end
  end
  if typed and typed.kind == "number" then return {}, part, "" end
  return first_names(s), part, ""
end

-- ---- public -------------------------------------------------------------------------------------

local function by_name(a, b)
  local x, y = tonumber(a), tonumber(b)
  if x and y then return x < y end
  return a < b
end

local function common(list)
  local prefix = list[1]
  for _, text in ipairs(list) do
    while text:sub(1, #prefix) ~= prefix do prefix = prefix:sub(1, -2) end
  end
  -- No half of a character.
  return utf8.len(prefix) and prefix or prefix:gsub("[\xC0-\xFF][\x80-\xBF]*$", "")
end

-- Names that begin with a mark are somebody's inner ones: offered only when it is typed.
local function fits(candidate, part)
  if candidate:sub(1, #part) ~= part then return false end
  return part ~= "" or candidate:sub(1, 2) ~= "__"
end

-- All candidates for the text before the cursor: a sorted list, the part of them that is typed,
-- what ends one.
function complete.candidates(s, text)
  local words = path.words(text)
  local last = words[#words]
  local list, part, tail
  if last and last.open and last.kind == "string" then
    list, part, tail = in_string(s, words)
  elseif last and (last.open or last.kind == "comment" and not text:find "\n$") then
    return {}, "", ""
  else
    list, part, tail = outside(s, words, last and last.to == #text)
  end
  local found, seen = {}, {}
  for _, candidate in ipairs(list) do
    if not seen[candidate] and fits(candidate, part) then
      seen[candidate] = true
      found[#found + 1] = candidate
    end
  end
  table.sort(found, by_name)
  return found, part, tail
end

-- What Tab does after `point` bytes of a line: the text that it inserts, or the choices there are.
function complete.line(s, text, point)
  local found, part, tail = complete.candidates(s, text:sub(1, point))
  if #found == 0 then return "", {} end
  local after = text:sub(point + 1)
  local inserted = common(found):sub(#part + 1)
  if #found == 1 and found[1]:sub(-1) ~= "/" and after:sub(1, #tail) ~= tail then
    inserted = inserted .. tail
  end
  return inserted, found
end

return complete
