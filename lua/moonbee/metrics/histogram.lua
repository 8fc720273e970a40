-- SPDX-License-Identifier: BSD-2-Clause
-- Histograms: arrays of counters, one for each bucket, in a variable, in the values of a map, or as
-- a map whose key (or a field of it) is the bucket.
local keys = require "moonbee.metrics.keys"
local label = require "moonbee.metrics.label"
local map = require "moonbee.metrics.map"
local number = require "moonbee.metrics.number"
local path = require "moonbee.metrics.path"

local histogram = {}

local MOST_SLOTS = 1024

-- ---- bounds -------------------------------------------------------------------------------------

-- The greatest value of element i. A number that has a scale is a measure that was cut to whole
-- units, time in microseconds say: those of the element lie below the next whole one.
local EDGE = {
  log2 = function(i, scale)
    return scale and number.scaled(2.0 ^ (i + 1), scale) or 2.0 ^ (i + 1) - 1
  end,
  bits = function(i, scale) return scale and number.scaled(2.0 ^ i, scale) or 2.0 ^ i - 1 end,
}

-- Upper bounds of n buckets. What is too large for a program's array it counts in the last one,
-- which therefore has none.
local function bounds_of(where, entry, n)
  local how, bounds = entry.buckets, {}
  if n < 2 or n > MOST_SLOTS then
    keys.fail(where, ("%d buckets: there are from 2 to %d"):format(n, MOST_SLOTS))
  elseif type(how) == "table" then
    if n ~= #how and n ~= #how + 1 then
      keys.fail(where, ("it has %d buckets, and %d bounds"):format(n, #how),
        "a bound for each, or for each but the last")
    end
    for i, bound in ipairs(how) do
      bounds[i] = entry.scale and number.scaled(bound, entry.scale) or bound
    end
  else
    if n > 65 then
      keys.fail(where, ('%d buckets: "%s" has at most 65'):format(n, how))
    end
    for i = 1, n - 1 do bounds[i] = EDGE[how](i - 1, entry.scale) end
  end
  bounds[#bounds + 1] = math.huge
  return bounds
end

local function finish(entry, bounds)
  return function(out) return out:cumulate(entry, bounds) end
end

-- ---- of variables -------------------------------------------------------------------------------

-- Labels' names for what a path goes over, its last n steps aside; those without are added up.
local function index_labels(where, entry, over)
  local index = type(entry.index) == "string" and { entry.index } or entry.index or {}
  if #index > #over then
    keys.fail(where, ("index has %d labels, and '%s' goes over %d"):format(#index, entry.var,
      #over))
  end
  return index
end

local function texts_of(where, entry, index, over, env)
  local texts = {}
  for i, name in ipairs(index) do
    local how = entry.as and entry.as[name]
    texts[i] = over[i].fields and tostring or label.index(where, how, env)
  end
  label.check(where, entry, index)
  return texts
end

-- The labels' text for where a walk is.
local function at_labels(out, index, texts, at, values)
  for i = 1, #index do values[i] = texts[i](at[i]) end
  return out:labels(index, values)
end

local function sum_of_var(where, entry, env, over)
  if not entry.sum then return nil end
  local step = path.compile(where, env.vars_type, entry.sum)
  local also, ends = path.dimensions(step)
  path.check_number(where, ends[1], entry.sum)
  if #also ~= #over then
    keys.fail(where, ("'%s' and '%s' do not go over the same"):format(entry.sum, entry.var))
  end
  return step
end

function histogram.of_var(where, entry, env)
  local step = path.compile(where, env.need_vars(where), entry.var)
  local over, ends = path.dimensions(step)
  local last = table.remove(over)
  if not last or not last.count then
    keys.fail(where, ("'%s' is no array: a histogram is one of counters"):format(entry.var))
  end
  path.check_number(where, ends[1], entry.var)
  local bounds = bounds_of(where, entry, last.count)
  local n = #bounds
  local index = index_labels(where, entry, over)
  local texts, values = texts_of(where, entry, index, over, env), {}
  local sum = sum_of_var(where, entry, env, over)
  return function(out, pause)
    local depth = #over + 1
    path.walk(step, env.vars(), function(x, _, at)
      out:count(at_labels(out, index, texts, at, values), at[depth], n, x)
    end, pause)
    if not sum then return end
    path.walk(sum, env.vars(), function(x, T, at)
      out:total(at_labels(out, index, texts, at, values), x, not T.signed)
    end, pause)
  end, finish(entry, bounds)
end

-- ---- of maps ------------------------------------------------------------------------------------

local function slots_of(where, entry, m)
  local n = entry.slots or m.type:find "array" and m.max_entries
  if n then return math.tointeger(n) or keys.fail(where, "slots is a whole number") end
  keys.fail(where, ("how many buckets map '%s' has is not known"):format(m.name),
    "slots = 27; what a program counts beyond is added to the last one")
end

-- A step to what adds up values: in the map's value, or a variable.
local function sum_of_map(where, entry, m, env)
  if not entry.sum then return nil, nil end
  if m.value_type.kind == "struct" then
    local step, T = path.one(where, m.value_type, entry.sum)
    return step, path.check_number(where, T, entry.sum)
  end
  local step, T = path.one(where, env.need_vars(where), entry.sum)
  path.check_number(where, T, entry.sum)
  return nil, T, step
end

-- The value's array has the buckets, the key the labels.
local function in_values(where, entry, m, env, step, count)
  local bounds = bounds_of(where, entry, count)
  local names, values_of = map.labels(where, entry, m, env)
  label.check(where, entry, names)
  local sum, T = sum_of_map(where, entry, m, env)
  local n = #bounds
  return function(out, pause)
    map.walk(m, { type = m.value_type }, pause, function(key, value)
      local labels = out:labels(names, values_of(key))
      local array = path.get(step, value)
      for i = 0, count - 1 do out:count(labels, i, n, array[i]) end
      if sum then out:total(labels, path.get(sum, value), not T.signed) end
    end)
  end, finish(entry, bounds)
end

-- The key, or a field of it, is the bucket.
local function in_keys(where, entry, m, env, step)
  local slot, T = { type = m.key_type }, m.key_type
  if entry.bucket then slot, T = path.one(where, m.key_type, entry.bucket) end
  if T.kind ~= "int" and T.kind ~= "enum" then
    keys.fail(where, ("the key of map '%s' is %s: which part is the bucket?"):format(m.name,
      m.key_type.name), 'bucket = "slot"')
  end
  if entry.key and not entry.bucket then
    keys.fail(where, ("the key of map '%s' is the bucket: it makes no labels"):format(m.name),
      'bucket = "slot" names the part of a key that is the bucket')
  end
  local bounds = bounds_of(where, entry, slots_of(where, entry, m))
  local names, values_of = {}, function() return {} end
  if entry.bucket then names, values_of = map.labels(where, entry, m, env) end
  label.check(where, entry, names)
  local n, sum, sum_type, sum_var = #bounds, sum_of_map(where, entry, m, env)
  return function(out, pause)
    map.walk(m, { type = m.value_type }, pause, function(key, value)
      local labels = out:labels(names, values_of(key))
      out:count(labels, path.get(slot, key), n, path.get(step, value))
      if sum then out:total(labels, path.get(sum, value), not sum_type.signed) end
    end)
    if sum_var then out:total(out.fixed, path.get(sum_var, env.vars()), not sum_type.signed) end
  end, finish(entry, bounds)
end

function histogram.of_map(where, entry, env)
  local m = map.find(where, entry, env)
  if entry.cpu or entry.count then
    keys.fail(where, ("'%s' does not go with a histogram"):format(entry.cpu and "cpu" or "count"))
  end
  local step = path.compile(where, m.value_type, entry.value)
  local over, ends = path.dimensions(step)
  path.check_number(where, ends[1], entry.value or "value")
  if #over > 1 or over[1] and not over[1].count then
    keys.fail(where, ("'%s' is not one array of counters"):format(entry.value or m.value_type.name),
      'value = "slots" names the field')
  elseif over[1] and not entry.bucket then
    return in_values(where, entry, m, env, step, over[1].count)
  elseif over[1] then
    keys.fail(where, "bucket is for maps whose value is one counter")
  end
  return in_keys(where, entry, m, env, step)
end

return histogram
