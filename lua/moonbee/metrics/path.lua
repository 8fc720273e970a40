-- SPDX-License-Identifier: BSD-2-Clause
-- Paths of metrics in C types: "stats.packets", "limits[3].rate", and "cpus.hits", where cpus is an
-- array: then it stands for each element's. Compiled once by BTF, walked at each scrape.
local words = require "moonbee.path"
local keys = require "moonbee.metrics.keys"

local path = {}

local AGGREGATE = { struct = true, union = true, section = true, group = true }

local function field_of(where, T, key, text)
  local names = {}
  for i, field in ipairs(T.fields) do
    if field.name == key then return field.type end
    names[i] = field.name
  end
  keys.fail(where, ("'%s': there is no '%s' in %s"):format(text, tostring(key),
    T.kind == "group" and "the object's variables" or T.name), keys.hint(key, names), "ENOENT")
end

local function element(where, T, i, text)
  if T.count and (i < 0 or i >= T.count) then
    keys.fail(where, ("'%s': %s has %d elements, none for [%d]"):format(text, T.name, T.count, i))
  end
  return T.elem
end

-- A step of a path: { key = } into a field or element, { count = } over an array, { fields = } over
-- a struct's numbers; the last one is { type = }.
local compile

local function each_element(where, T, list, i, text)
  if T.flexible or not T.count then
    keys.fail(where, ("'%s': %s has no size of its own"):format(text, T.name))
  end
  return { count = T.count, next = compile(where, T.elem, list, i, text) }
end

local NUMBER = { int = true, bool = true, float = true, enum = true }

local function each_field(where, T, fields, text)
  local step = { fields = {} }
  if not fields then
    fields = {}
    for _, field in ipairs(T.fields) do
      if NUMBER[field.type.kind] then fields[#fields + 1] = field.name end
    end
  end
  if #fields == 0 then keys.fail(where, ("'%s': %s has no numbers"):format(text, T.name)) end
  for i, name in ipairs(fields) do
    step.fields[i] = { name, { type = field_of(where, T, name, text) } }
  end
  return step
end

function compile(where, T, list, i, text)
  local key = list[i]
  if key == nil then
    if list.whole then return { type = T } end
    if T.kind == "array" then return each_element(where, T, list, i, text) end
    if AGGREGATE[T.kind] then return each_field(where, T, list.fields, text) end
    return { type = T }
  elseif T.kind == "array" then
    if math.type(key) ~= "integer" then return each_element(where, T, list, i, text) end
    return { key = key, next = compile(where, element(where, T, key, text), list, i + 1, text) }
  elseif AGGREGATE[T.kind] and type(key) == "string" then
    return { key = key, next = compile(where, field_of(where, T, key, text), list, i + 1, text) }
  end
  keys.fail(where, ("'%s': there is nothing in %s"):format(text, T.name))
end

local function keys_of(where, text)
  if not text then return {} end
  return words.whole(text) or keys.fail(where, ("'%s' is no path"):format(text),
    "as in C: cfg.limits[3].rate")
end

-- The steps of a path (nil: the thing itself) in type T. fields: of a struct at its end.
function path.compile(where, T, text, fields)
  local list = keys_of(where, text)
  list.fields = fields
  return compile(where, T, list, 1, text or T.name)
end

-- The steps that go over more than one thing, outermost first, and the types at the end.
function path.dimensions(step)
  local list, ends = {}, {}
  while step do
    if step.count or step.fields then list[#list + 1] = step end
    if step.type then ends[1] = step.type end
    for i, field in ipairs(step.fields or {}) do ends[i] = field[2].type end
    step = step.next
  end
  return list, ends
end

-- The only thing that a path leads to, and its type; raises where it goes over several.
function path.one(where, T, text)
  local list = keys_of(where, text)
  list.whole = true
  local step = compile(where, T, list, 1, text or T.name)
  local over, ends = path.dimensions(step)
  if over[1] then
    keys.fail(where, ("'%s' is more than one thing"):format(text), "[0] names one element")
  end
  return step, ends[1]
end

-- What one() found, in a view or a number.
function path.get(step, x)
  while step.key ~= nil do x, step = x[step.key], step.next end
  return x
end

-- Call visit(x, T, at) for each thing that the steps lead to in x; at: the indices and fields on
-- the way, a list that is used again.
local function walk(step, x, at, n, visit, pause)
  while step.key ~= nil do x, step = x[step.key], step.next end
  if step.count then
    for i = 0, step.count - 1 do
      at[n] = i
      walk(step.next, x[i], at, n + 1, visit, pause)
      if pause and i % 256 == 255 then pause() end
    end
  elseif step.fields then
    for _, field in ipairs(step.fields) do
      at[n] = field[1]
      visit(x[field[1]], field[2].type, at)
    end
  else
    visit(x, step.type, at)
  end
end

function path.walk(step, x, visit, pause)
  walk(step, x, {}, 1, visit, pause)
end

path.NUMBER = NUMBER

-- What stands for a value of type T in sums: booleans are 0 and 1.
function path.number(x)
  if x == true then return 1 elseif x == false then return 0 end
  return x
end

-- Does Lua have a number for it?
function path.check_number(where, T, text)
  if NUMBER[T.kind] then return T end
  keys.fail(where, ("'%s' is %s, which is no number"):format(text, T.name))
end

return path
