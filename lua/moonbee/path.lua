-- SPDX-License-Identifier: BSD-2-Clause
-- Source text as words, and what a path in it leads to (obj.vars.cfg.limits[3]), found without a
-- call of anything: for completion, and to print a value by the type of where it lies.
local core = require "moonbee.core"

local path = {}

-- ---- words --------------------------------------------------------------------------------------

local function long_bracket(text, at)
  local level = text:match("^%[(=*)%[", at)
  if not level then return end
  local _, stop = text:find("]" .. level .. "]", at + 2 + #level, true)
  return stop or #text, stop ~= nil
end

-- The end of the quoted string that begins at `at`, and whether it has one.
local function quoted(text, at)
  local quote = text:sub(at, at)
  local from = at
  while true do
    local stop = text:find("[\\\n" .. quote .. "]", from + 1)
    if not stop then return #text, false end
    local c = text:sub(stop, stop)
    if c == quote then return stop, true end
    if c == "\n" then return stop, true end
    from = stop + 1
  end
end

local function comment(text, at)
  local stop, closed = long_bracket(text, at + 2)
  if stop then return stop, closed end
  local line = text:find("\n", at, true)
  return line or #text, line ~= nil
end

-- A list of { kind, from, to, open = not ended }: "name", "number", "string", "long", "comment",
-- "op".
function path.words(text)
  local words, at = {}, 1
  while true do
    at = text:find("%S", at)
    if not at then return words end
    local c, kind, closed, stop = text:sub(at, at), "op", true
    if c:find "[%a_]" then
      kind, stop = "name", select(2, text:find("^[%w_]+", at))
    elseif c:find "%d" then
      kind, stop = "number", select(2, text:find("^[%w_]+%.?[%w_]*", at))
    elseif c == '"' or c == "'" then
      kind, stop, closed = "string", quoted(text, at)
    elseif text:find("^%-%-", at) then
      kind, stop, closed = "comment", comment(text, at)
    elseif text:find("^%[=*%[", at) then
      kind, stop, closed = "long", long_bracket(text, at)
    else
      stop = select(2, text:find("^[=~<>]=", at)) or select(2, text:find("^%.%.%.?", at)) or at
    end
    words[#words + 1] = { kind = kind, from = at, to = stop, open = not closed or nil,
      text = text:sub(at, stop) }
    at = stop + 1
  end
end

-- ---- paths --------------------------------------------------------------------------------------

-- The string that a word of quoted source stands for.
local function unquote(text)
  local chunk = load("return " .. text, "=", "t", {})
  local ok, value = pcall(chunk or error)
  return ok and value or nil
end

local function key_of(word)
  if word.kind == "number" then return math.tointeger(tonumber(word.text)) end
  if word.kind == "string" and not word.open then return unquote(word.text) end
end

-- The path that ends with words[last]: a list of keys, from a global name on, and the index of its
-- first word; nil where it is not only names and literal indices.
function path.ending(words, last)
  local keys, i = {}, last
  while i >= 1 do
    local word = words[i]
    if word.kind == "name" then
      table.insert(keys, 1, word.text)
      local before = words[i - 1]
      if not before or before.text ~= "." and before.text ~= ":" then return keys, i end
      i = i - 2
    elseif word.text == "]" and words[i - 2] and words[i - 2].text == "[" then
      local key = key_of(words[i - 1])
      if key == nil then return end
      table.insert(keys, 1, key)
      i = i - 3
    else
      return
    end
  end
end

-- The whole text as a path, or nil.
function path.whole(text)
  local words = path.words(text)
  local keys, first = path.ending(words, #words)
  return first == 1 and keys or nil
end

-- ---- looking ------------------------------------------------------------------------------------

-- x[key] where nobody else's code runs by that; nil else, and where it is not there.
function path.step(x, key)
  local kind = type(x)
  if kind == "string" then
    return string[key]
  elseif kind == "table" then
    local value = rawget(x, key)
    if value ~= nil then return value end
    local meta = getmetatable(x)
    if type(meta) == "table" and type(meta.__index) == "function" and x ~= core then return end
    if type(meta) == "table" and type(meta.__index) == "table" then
      return path.step(meta.__index, key)
    end
  elseif kind ~= "userdata" or not tostring(getmetatable(x)):find "^moonbee%." then
    return
  end
  local ok, value = pcall(function() return x[key] end)
  return ok and value or nil
end

-- Where the first n keys (default: all) lead to, from a name of env on.
function path.follow(keys, env, n)
  local ok, x = pcall(function() return env[keys[1]] end)
  if not ok then return end
  for i = 2, n or #keys do
    if x == nil then return end
    x = path.step(x, keys[i])
  end
  return x
end

-- The type of what the keys name, if it lies in a view.
function path.type(keys, env)
  if #keys < 2 then return end
  local view = path.follow(keys, env, #keys - 1)
  if core.type(view) ~= "view" then return end
  local T, key = core.typeof(view), keys[#keys]
  if T.kind == "array" then return math.type(key) == "integer" and T.elem or nil end
  for _, field in ipairs(T.fields or {}) do
    if field.name == key then return field.type end
  end
end

return path
