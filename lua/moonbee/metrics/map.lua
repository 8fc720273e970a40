-- SPDX-License-Identifier: BSD-2-Clause
-- Metrics of maps: the keys' fields become labels, values are added up over CPUs and over keys that
-- have the same labels.
local bpf = require "moonbee"
local label = require "moonbee.metrics.label"
local keys = require "moonbee.metrics.keys"
local path = require "moonbee.metrics.path"

local map = {}

local AT_ONCE = 65536 -- values of a map that C adds up in some milliseconds

local WALKED = { hash = true, array = true, lru_hash = true, lpm_trie = true, percpu_hash = true,
  percpu_array = true, lru_percpu_hash = true }

local function at_once(m)
  return m.max_entries * (m.percpu and bpf.cpus.possible or 1) <= AT_ONCE
end

-- ---- labels -------------------------------------------------------------------------------------

-- Every field of a struct, those of structs in it by "outer_inner": { label, path }.
local function all_fields(T, prefix, out)
  for _, field in ipairs(T.fields) do
    local at = prefix .. field.name
    if field.type.kind == "struct" then
      all_fields(field.type, at .. ".", out)
    else
      out[#out + 1] = { (at:gsub("%.", "_")), at }
    end
  end
  return out
end

local function chosen(key)
  local list, named = {}, {}
  for name, at in pairs(key) do
    if math.tointeger(name) then
      list[name] = { (at:gsub("[^%w_]+", "_"):gsub("_$", "")), at }
    else
      named[#named + 1] = { name, at }
    end
  end
  table.sort(named, function(a, b) return a[1] < b[1] end)
  return table.move(named, 1, #named, #list + 1, list)
end

-- Which parts of the key become labels: a list of { label, path }. bucket: the part that is none.
local function parts(where, entry, K)
  local key = entry.key
  if type(key) == "string" then return { { key } } end
  if type(key) == "table" then return chosen(key) end
  if K.kind ~= "struct" then
    keys.fail(where, ("the key of '%s' is %s: it needs a label"):format(entry.title, K.name),
      'key = "pid"; key = {} adds all entries up')
  end
  local list = {}
  for _, part in ipairs(all_fields(K, "", {})) do
    if part[2] ~= entry.bucket then list[#list + 1] = part end
  end
  return list
end

-- A function that gives the labels' texts for a key, and the labels' names.
function map.labels(where, entry, m, env)
  local K, names, getters, as = m.key_type, {}, {}, entry.as or {}
  for i, part in ipairs(parts(where, entry, K)) do
    local name, at = part[1], part[2]
    keys.label(where, name)
    local step, T = { type = K }, K
    if at then step, T = path.one(where, K, at) end
    names[i] = name
    getters[i] = { step, label.text(where, at or "key", T, as[name], env) }
  end
  local values = {}
  return names, function(key)
    for i, getter in ipairs(getters) do values[i] = getter[2](path.get(getter[1], key)) end
    return values
  end
end

-- ---- values -------------------------------------------------------------------------------------

-- The map that an entry means, which can be walked over.
function map.find(where, entry, env)
  local m = entry.map
  if type(m) == "string" then
    m = env.map(m)
    if not m then
      keys.fail(where, ("there is no map '%s'"):format(entry.map),
        keys.hint(entry.map, env.map_names()), "ENOENT")
    end
  end
  entry.title = m.name
  if not WALKED[m.type] then
    keys.fail(where, ("map '%s' is a %s, which has no entries to walk over"):format(m.name, m.type),
      m.type:find "ring" and 'reader = "' .. m.name .. '"' or nil)
  elseif not m.key_type or not m.value_type then
    keys.fail(where, ("map '%s' has no BTF for its keys and values"):format(m.name),
      "__type(key, …) and __type(value, …) in C")
  end
  return m
end

-- Call fn(key, values, cpu) for each entry. step: to the number in the value; per CPU once for
-- each.
function map.walk(m, step, pause, fn)
  local percpu, n = m.percpu, 0
  for key, value in m:pairs() do
    if percpu then
      for cpu = 0, #value - 1 do fn(key, path.get(step, value[cpu]), cpu) end
    else
      fn(key, path.get(step, value))
    end
    n = n + 1
    if pause and n % 64 == 0 then pause() end
  end
end

-- A small map's is added up in C, at once; a large one's in slices.
local function collect_sum(where, entry, m)
  local step, T = path.one(where, m.value_type, entry.value)
  path.check_number(where, T, entry.value or "value")
  local unsigned = not T.signed
  return function(out, pause)
    out:add(out.fixed, 0, unsigned)
    if at_once(m) and T.kind ~= "bool" then
      return out:add(out.fixed, m:sum(entry.value), unsigned)
    end
    map.walk(m, step, pause, function(_, x) out:add(out.fixed, path.number(x), unsigned) end)
  end
end

local function collect_count(where, entry, m)
  if entry.type ~= "gauge" then keys.fail(where, "how many entries a map has is a gauge") end
  for _, key in ipairs { "key", "value", "cpu", "as", "sum" } do
    if entry[key] ~= nil then keys.fail(where, ("'%s' does not go with count"):format(key)) end
  end
  return function(out, pause)
    if at_once(m) then return out:add(out.fixed, m:count()) end
    out:add(out.fixed, 0)
    local step = { type = m.value_type }
    map.walk(m, step, pause, function(_, _, cpu)
      if not cpu or cpu == 0 then out:add(out.fixed, 1) end
    end)
  end
end

local function collect_entries(where, entry, m, env)
  local step, T = path.one(where, m.value_type, entry.value)
  path.check_number(where, T, entry.value or "value")
  local names, values_of = map.labels(where, entry, m, env)
  local unsigned, cpu_label = not T.signed, entry.cpu
  label.check(where, entry, names)
  if cpu_label then
    if not m.percpu then keys.fail(where, ("map '%s' is not per CPU"):format(m.name)) end
    names[#names + 1] = cpu_label
  end
  return function(out, pause)
    map.walk(m, step, pause, function(key, x, cpu)
      local values = values_of(key)
      if cpu_label then values[#names] = cpu end
      out:add(out:labels(names, values), path.number(x), unsigned)
    end)
  end
end

-- A collector for a counter or a gauge of a map: function(out, pause).
function map.collector(where, entry, env)
  local m = map.find(where, entry, env)
  if entry.count then return collect_count(where, entry, m) end
  local none = type(entry.key) == "table" and next(entry.key) == nil
  if entry.sum and entry.key and not none then
    keys.fail(where, "sum = true and key do not go together", "sum = true has no labels")
  elseif entry.cpu and entry.sum then
    keys.fail(where, "sum = true and cpu do not go together")
  end
  if not entry.cpu and (entry.sum or none) then return collect_sum(where, entry, m) end
  return collect_entries(where, entry, m, env)
end

return map
