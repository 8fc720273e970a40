-- SPDX-License-Identifier: BSD-2-Clause
--
-- LuaCATS annotations, parsed: the grammar of types, and what each tag demands.
--
--   local known = luacats.parse(text, "name.lua", known)   -- raises "name.lua:12: …"
--   luacats.unknown(known)       -- names that are used as types and defined nowhere

local luacats = {}

local BUILTIN = {}
for name in ([[nil any boolean string number integer function table thread userdata lightuserdata
  unknown self true false]]):gmatch "%a+" do BUILTIN[name] = true end

-- ---- types --------------------------------------------------------------------------------------

local function skip(text, at) return (text:find("[^ ]", at) or #text + 1) end

local function fail(text, at, what)
  error(("%s expected at %q"):format(what, text:sub(at, at + 20)), 0)
end

local function expect(text, at, token)
  at = skip(text, at)
  if text:sub(at, at + #token - 1) ~= token then fail(text, at, token) end
  return at + #token
end

local parse_type

local function parse_list(text, at, close, use, item)
  at = skip(text, at)
  while text:sub(at, at) ~= close do
    at = skip(text, item(text, at, use))
    if text:sub(at, at) == "," then
      at = skip(text, at + 1)
    elseif text:sub(at, at) ~= close then
      fail(text, at, "',' or '" .. close .. "'")
    end
  end
  return at + 1
end

local function parameter(text, at, use)
  local name = text:match("^[%a_][%w_]*%??", at) or text:match("^%.%.%.", at)
  if not name then fail(text, at, "parameter") end
  at = skip(text, at + #name)
  if text:sub(at, at) ~= ":" then return at end
  return parse_type(text, at + 1, use)
end

local function field(text, at, use)
  if text:sub(at, at) == "[" then
    at = expect(text, parse_type(text, at + 1, use), "]")
  else
    local name = text:match("^[%a_][%w_]*%??", at)
    if not name then return parse_type(text, at, use) end -- a tuple
    local after = skip(text, at + #name)
    if text:sub(after, after) ~= ":" then return parse_type(text, at, use) end
    at = at + #name
  end
  return parse_type(text, expect(text, at, ":"), use)
end

local function returned(text, at, use)
  local name = text:match("^%.%.%.", at)
  if name then at = at + 3 end
  if name and not text:find("^ *:", at) then return parse_type(text, at, use) end
  if name then at = expect(text, at, ":") end
  return parse_type(text, at, use)
end

local function parse_function(text, at, use)
  at = parse_list(text, expect(text, at, "("), ")", use, parameter)
  local colon = skip(text, at)
  if text:sub(colon, colon) ~= ":" then return at end
  at = returned(text, skip(text, colon + 1), use)
  while text:find("^,", at) do at = returned(text, skip(text, at + 1), use) end
  return at
end

local function primary(text, at, use)
  at = skip(text, at)
  local c = text:sub(at, at)
  if c == '"' or c == "'" then
    local stop = text:find(c, at + 1, true)
    return stop and stop + 1 or fail(text, at, "closing quote")
  elseif c == "(" then
    return expect(text, parse_type(text, at + 1, use), ")")
  elseif c == "{" then
    return parse_list(text, at + 1, "}", use, field)
  elseif text:find("^%-?%d", at) then
    return at + #text:match("^%-?[%d.]+", at)
  elseif text:find("^%.%.%.", at) then
    return at + 3
  end
  local name = text:match("^[%a_][%w_.]*", at)
  if not name then fail(text, at, "type") end
  at = at + #name
  if name == "fun" then return parse_function(text, at, use) end
  use(name)
  if text:sub(at, at) == "<" then at = parse_list(text, at + 1, ">", use, parse_type) end
  return at
end

function parse_type(text, at, use)
  while true do
    at = primary(text, at, use)
    while true do
      if text:find("^%[%]", at) then
        at = at + 2
      elseif text:find("^%?", at) then
        at = at + 1
      else
        break
      end
    end
    local bar = text:match("^ *|()", at)
    if not bar then return at end
    at = bar
  end
end

-- ---- tags ---------------------------------------------------------------------------------------

local tags = {}

local function nothing() end

local function type_and_text(rest, at, use)
  at = parse_type(rest, at, use)
  if rest:sub(at, at):find "[^ ]" then fail(rest, at, "space after the type") end
end

function tags.class(rest, use, define)
  local name, at = rest:match "^([%a_][%w_.]*)()"
  if not name then fail(rest, 1, "class") end
  define(name)
  at = skip(rest, at)
  if rest:sub(at, at) == ":" then
    at = parse_type(rest, at + 1, use)
    while rest:find("^,", at) do at = parse_type(rest, at + 1, use) end
  end
  if rest:find("%S", at) then fail(rest, at, "end of line") end
end

function tags.alias(rest, use, define)
  local name, at = rest:match "^([%a_][%w_.]*)() "
  if not name then fail(rest, 1, "alias") end
  define(name)
  type_and_text(rest, at, use)
end

function tags.field(rest, use)
  local at
  if rest:sub(1, 1) == "[" then
    at = expect(rest, parse_type(rest, 2, use), "]")
  else
    local name = rest:match "^[%a_][%w_]*%??"
    if not name then fail(rest, 1, "field") end
    at = #name + 1
  end
  type_and_text(rest, at, use)
end

function tags.param(rest, use)
  local name = rest:match "^[%a_][%w_]*%?? " or rest:match "^%.%.%. "
  if not name then fail(rest, 1, "parameter") end
  type_and_text(rest, #name, use)
end

tags["return"] = function(rest, use) type_and_text(rest, 1, use) end
tags.type = tags["return"]

function tags.overload(rest, use)
  if not rest:find "^fun%(" then fail(rest, 1, "fun(…)") end
  type_and_text(rest, 1, use)
end

function tags.operator(rest, use)
  local name, at = rest:match "^(%l+)()"
  if not name then fail(rest, 1, "operator") end
  if rest:sub(at, at) == "(" then at = parse_list(rest, at + 1, ")", use, parse_type) end
  type_and_text(rest, expect(rest, at, ":"), use)
end

function tags.generic(rest, _, define)
  for name in rest:gmatch "[%a_]%w*" do define(name) end
end

tags.meta, tags.diagnostic, tags.nodiscard, tags.deprecated, tags.async = nothing, nothing, nothing,
  nothing, nothing

-- ---- files --------------------------------------------------------------------------------------

function luacats.parse(text, name, known)
  known = known or { defined = {}, used = {} }
  local at = 0
  for line in text:gmatch "([^\n]*)\n?" do
    at = at + 1
    local tag, rest = line:match "^%s*%-%-%-@(%S*)%s*(.-)$"
    if tag then
      local where = ("%s:%d: "):format(name, at)
      if not tags[tag] then error(where .. "no tag '" .. tag .. "'", 0) end
      local ok, why = pcall(tags[tag], rest, function(used)
        if not BUILTIN[used] then known.used[used] = known.used[used] or where end
      end, function(defined) known.defined[defined] = true end)
      if not ok then error(where .. why, 0) end
    end
  end
  return known
end

function luacats.unknown(known)
  local list = {}
  for name, where in pairs(known.used) do
    if not known.defined[name] then list[#list + 1] = where .. name end
  end
  table.sort(list)
  return list
end

return luacats
