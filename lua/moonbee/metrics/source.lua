-- SPDX-License-Identifier: BSD-2-Clause
-- From an entry to what measures it: collect(out, pause) adds the series of one scrape to a series
-- object. All that can be checked by BTF is checked here, once.
--
-- env says where names lead: vars() and vars_type, map(name), map_names(), program(name),
-- program_names(), reader(where, name) -> function -> { stats, … }, type(name), read(entry, pause).
local bpf = require "moonbee"
local histogram = require "moonbee.metrics.histogram"
local keys = require "moonbee.metrics.keys"
local label = require "moonbee.metrics.label"
local map = require "moonbee.metrics.map"
local path = require "moonbee.metrics.path"

local source = {}

local fail = keys.fail

-- ---- variables ----------------------------------------------------------------------------------

local function index_of(where, entry, over)
  local index = type(entry.index) == "string" and { entry.index } or entry.index or {}
  if #index > #over then
    fail(where, ("index has %d labels, and '%s' goes over %d"):format(#index, entry.var, #over),
      #over == 0 and "it is one number" or nil)
  elseif #index < #over and not entry.sum then
    fail(where, ("'%s' is more than one number"):format(entry.var),
      'index = "cpu" is the label that tells them apart; sum = true adds them up')
  end
  return index
end

-- Texts of what a step goes over: indices by as, fields by their names.
local function text_of(where, entry, step, name, env)
  if step.fields then return tostring end
  return label.index(where, entry.as and entry.as[name], env)
end

local function of_var(where, entry, env)
  local step = path.compile(where, env.need_vars(where), entry.var, entry.fields)
  local over, ends = path.dimensions(step)
  for _, T in ipairs(ends) do path.check_number(where, T, entry.var) end
  if entry.fields and not (over[#over] and over[#over].fields) then
    fail(where, ("'%s' is no struct: it has no fields"):format(entry.var))
  end
  local index, texts, values = index_of(where, entry, over), {}, {}
  for i, name in ipairs(index) do texts[i] = text_of(where, entry, over[i], name, env) end
  label.check(where, entry, index)
  return function(out, pause)
    path.walk(step, env.vars(), function(x, T, at)
      for i = 1, #index do values[i] = texts[i](at[i]) end
      out:add(out:labels(index, values), path.number(x), not T.signed)
    end, pause)
  end
end

-- ---- info ---------------------------------------------------------------------------------------

local function of_vars(where, entry, env)
  local names, steps, texts = {}, {}, {}
  for name in pairs(entry.vars) do names[#names + 1] = name end
  table.sort(names)
  label.check(where, entry, names)
  for i, name in ipairs(names) do
    local T
    steps[i], T = path.one(where, env.need_vars(where), entry.vars[name])
    texts[i] = label.text(where, entry.vars[name], T, entry.as and entry.as[name], env)
  end
  return function(out)
    local values, vars = {}, env.vars()
    for i in ipairs(names) do values[i] = texts[i](path.get(steps[i], vars)) end
    out:add(out:labels(names, values), 1)
  end
end

-- ---- readers and programs -----------------------------------------------------------------------

local READER = { consumed = "counter", lost = "counter", pending = "gauge", size = "gauge" }
local PROGRAM = { run_count = "counter", run_time_ns = "counter", recursion_misses = "counter" }

local function field_of(where, entry, known, default)
  local field = entry.field or default
  if not known[field] then
    local list = {}
    for name in pairs(known) do list[#list + 1] = name end
    table.sort(list)
    fail(where, ("field: there is no '%s'"):format(field), keys.hint(field, list))
  elseif entry.type ~= known[field] then
    fail(where, ("'%s' is a %s"):format(field, known[field]))
  end
  return field
end

-- Nothing counts what is lost of some rings: then there is no series.
local function of_reader(where, entry, env)
  local field = field_of(where, entry, READER, "consumed")
  local stats = env.reader(where, entry.reader)
  return function(out)
    for _, each in ipairs(stats()) do
      if each[field] then out:add(out.fixed, each[field], true) end
    end
  end
end

local function of_program(where, entry, env)
  local field = field_of(where, entry, PROGRAM, "run_count")
  local stats = env.program(where, entry.program)
  return function(out)
    out:add(out.fixed, stats()[field], true)
  end
end

-- ---- functions ----------------------------------------------------------------------------------

local function labelled(out, where, entry, row)
  local names, values = {}, {}
  for name in pairs(row) do
    if name ~= 1 then names[#names + 1] = keys.label(where, name) end
  end
  table.sort(names)
  label.check(where, entry, names)
  for i, name in ipairs(names) do
    local value = row[name]
    if type(value) ~= "string" and type(value) ~= "boolean" and not math.type(value) then
      fail(where, ("read gave a %s for the label '%s'"):format(type(value), name))
    end
    values[i] = value
  end
  return out:labels(names, values)
end

-- What read returns: nil, a number, or a list of { number, label = text, … }.
local function of_function(where, entry, env)
  return function(out, pause)
    local got = env.read(entry, pause)
    if got == nil then return end
    for i, row in ipairs(type(got) == "table" and got or { { got } }) do
      if i % 256 == 0 then pause() end
      local x = type(row) == "table" and path.number(row[1])
      if not math.type(x) then
        fail(where, ("read gave a %s, not a number"):format(type(row) == "table" and type(row[1])
          or type(row)), 'a number, or a list: { { 5, cpu = "0" }, … }')
      end
      out:add(labelled(out, where, entry, row), x)
    end
  end
end

-- ---- all ----------------------------------------------------------------------------------------

local OF = { var = of_var, vars = of_vars, reader = of_reader, program = of_program,
  read = of_function }

-- The collector of a checked entry, and how its series are finished (nil: as plain ones). where:
-- for errors; kind: the entry's source.
function source.compile(where, entry, kind, env)
  if kind == "map" then
    if entry.type == "histogram" then return histogram.of_map(where, entry, env) end
    return map.collector(where, entry, env)
  elseif kind == "var" and entry.type == "histogram" then
    return histogram.of_var(where, entry, env)
  end
  return OF[kind](where, entry, env)
end

-- ---- where names lead ---------------------------------------------------------------------------

local function names_of(list)
  local names = {}
  for name in pairs(list) do names[#names + 1] = name end
  table.sort(names)
  return names
end

local function find(list, name)
  for key, x in pairs(list) do
    if key == name then return x end
  end
end

-- env of an object (or nil), and of variables that stand for its. more: reader and read.
function source.env(obj, vars, more)
  local env = { reader = more.reader, read = more.read }
  vars = vars or obj and obj.vars
  env.vars_type = vars and bpf.typeof(vars)
  function env.vars() return vars end
  function env.need_vars(where)
    return env.vars_type or fail(where, "there is no object whose variables it could be of")
  end
  function env.map(name) return obj and find(obj.maps, name) end
  function env.map_names() return obj and names_of(obj.maps) or {} end
  function env.type(name)
    local ok, T = pcall(function() return obj.types[name] end)
    return ok and T or nil
  end
  function env.program(where, program)
    if bpf.type(program) == "program" then return function() return program.stats end end
    local found = obj and find(obj.progs, program)
    if not found then
      fail(where, ("there is no program '%s'"):format(program),
        keys.hint(program, obj and names_of(obj.progs) or {}), "ENOENT")
    end
    return more.program and more.program(program) or function() return found.stats end
  end
  return env
end

return source
