-- SPDX-License-Identifier: BSD-2-Clause
-- The next version of a policy, made ready aside: its file run in a state of its own, its object
-- opened, set up and loaded, its tests run. Nothing of the version in force is touched, and all is
-- let go of when a step fails.
local bpf = require "moonbee"
local runtime = require "moonbee.runtime"
local keys = require "moonbee.policy.keys"
local lent = require "moonbee.policy.lent"
local links = require "moonbee.policy.links"
local maps = require "moonbee.policy.maps"
local metrics = require "moonbee.policy.metrics"
local persist = require "moonbee.policy.persist"
local plain = require "moonbee.policy.plain"
local set = require "moonbee.policy.set"

local FN = runtime.FUNCTION

local stage = {}

local FINISH = 5 -- seconds for a handler to end its record
local ERRORS = { count = 100, seconds = 10 } -- more of them: roll back

-- ---- the file -----------------------------------------------------------------------------------

-- Limits stand in the policy's table, and count from its first line on only in what the host gives:
-- so a file is read under the defaults, and what it starts under its own.
local function new_runtime(host, version)
  local limits = version.limits or {}
  return runtime.new {
    name = host.name, memory = limits.memory, deadline = limits.deadline,
    modules = function(name) return version.source:module(name) end,
    log = function(level, text) host.log:write(level, text) end,
    on_register = function(reg)
      if reg.kind == "on" and version.regs then table.insert(version.regs, reg) end
      host:register(version, reg)
    end,
    on_unregister = function(id) host:unregister(version, id) end,
  }
end

local function load_file(host, version)
  local src = version.source
  version.rt = new_runtime(host, version)
  local desc = keys.check(host.name, version.rt:load(src.text, "@" .. src.path))
  if desc.limits and (desc.limits.memory or desc.limits.deadline) then
    version.limits = desc.limits
    version.rt:close()
    version.rt = new_runtime(host, version)
    desc = keys.check(host.name, version.rt:load(src.text, "@" .. src.path))
  end
  version.desc = desc
  local errors = desc.limits and desc.limits.errors or {}
  version.finish = desc.limits and desc.limits.finish or FINISH
  version.errors = { count = errors.count or ERRORS.count,
    seconds = errors.seconds or ERRORS.seconds }
  version.params = keys.params(host.name, desc.params, version.given_params)
end

-- ---- the object ---------------------------------------------------------------------------------

-- Without pin_root: nothing is pinned at load. What is there is taken over by maps.lua, and becomes
-- another one by maps.pin, after the swap.
local function open_options(host, version)
  local desc, o = version.desc, {}
  for key, value in pairs(desc.open or {}) do o[key] = value end
  o.bytes, o.name = true, o.name or (desc.object:match "([^/]+)$":match "^[^.]+" or host.name)
  o.on_mismatch = nil
  return o
end

-- Open, set up, and set what was given on the command line: as it will be loaded.
local function open_object(host, version)
  local obj = bpf.open(version.bytes, open_options(host, version))
  local ok, err = pcall(function()
    if version.rt:has "setup" then version.rt:call("setup", obj, version.params) end
    for _, word in ipairs(host.sets) do set.set(obj.vars, word[1], word[2]) end
  end)
  if ok then return obj end
  obj:close()
  error(err, 0)
end

local function option_data(options)
  local out = {}
  for key, value in pairs(options) do
    if type(value) ~= "function" then out[key] = value end
  end
  return out
end

-- All that decides what is loaded, as plain data: the same of two versions, and the object of the
-- first one may stay. The sections' images are apart, in version.images.
local function definition(host, version, obj)
  local d = { options = option_data(open_options(host, version)), maps = {}, progs = {} }
  d.pin_root = version.desc.pin_root
  d.on_mismatch = version.desc.on_mismatch ~= FN and version.desc.on_mismatch or nil
  for name, m in pairs(obj.maps) do
    d.maps[name] = m.max_entries
    if m.type == "struct_ops" then
      local ok, value = pcall(function() return bpf.bytes(m.value) end)
      d.maps[name] = ok and value or 0
    end
  end
  for name, prog in pairs(obj.progs) do d.progs[name] = prog.autoload end
  return d
end

local function images_of(obj)
  local images = {}
  for name, section in pairs(obj.sections) do
    images[name] = bpf.type(section) == "view" and bpf.bytes(section) or section
  end
  return images
end

-- Why is the object loaded anew? nil: it need not be.
local function changed(version, before)
  if not before or not before.obj then return "first" end
  if before.adopted then return "adopted" end
  if version.bytes ~= before.bytes then return "its bytes changed" end
  if not plain.same(version.definition, before.definition) then return "its options changed" end
  for name, image in pairs(version.images) do
    if image ~= before.images[name] then return ("initial values in %s changed"):format(name) end
  end
end

-- ---- tests --------------------------------------------------------------------------------------

local function test_failed(host, label, cause)
  error(bpf.error { code = "ECANCELED", op = "check policy", subject = host.name,
    cause = ("test %s failed: %s"):format(label, cause) }, 0)
end

local function show(x)
  return type(x) == "string" and ("%q"):format(x) or bpf.type(x) == "view" and bpf.json(x)
    or tostring(x)
end

local function run_data_test(host, obj, label, test)
  for name, value in pairs(test.vars or {}) do
    set.store(set.find(obj.vars, name), value)
  end
  local result = obj.progs[test.prog]:run { data = test.data, ctx = test.ctx, times = test.times }
  local expect = test.expect or {}
  for _, field in ipairs { "ret", "data" } do
    if expect[field] ~= nil and expect[field] ~= result[field] then
      test_failed(host, label, ("%s is %s, expected %s"):format(field, show(result[field]),
        show(expect[field])))
    end
  end
  for name, want in pairs(expect.vars or {}) do
    local found = set.find(obj.vars, name)
    local got = set.plain(found.now)
    local named = found.shape.kind == "enum" and found.shape.names[got] == want
    if not named and not plain.same(got, want) then
      test_failed(host, label, ("%s is %s, expected %s"):format(name, show(found.now), show(want)))
    end
  end
end

local function run_test(host, version, obj, label, test)
  if test == FN then return version.rt:call({ "tests", label }, obj, {}) end
  run_data_test(host, obj, test.name or tostring(label), test)
end

-- Each test on a load of its own: what one leaves in maps and variables is not the next one's.
local function run_tests(host, version)
  local labels = {}
  for label in pairs(version.desc.tests or {}) do labels[#labels + 1] = label end
  table.sort(labels, function(a, b)
    if type(a) ~= type(b) then return type(a) == "number" end
    return a < b
  end)
  for _, label in ipairs(labels) do
    local obj <close> = open_object(host, version)
    obj:load()
    local ok, err = pcall(run_test, host, version, obj, label, version.desc.tests[label])
    if not ok then
      if bpf.type(err) ~= "error" then test_failed(host, label, tostring(err)) end
      error(err, 0)
    end
  end
  version.plan.tests = #labels
end

-- ---- staging ------------------------------------------------------------------------------------

local function stage_object(host, version, before, options)
  version.bytes = version.source:object(version.desc.object)
  local obj = open_object(host, version)
  version.fresh = obj -- closed by discard until it is the version's
  version.images = images_of(obj)
  version.definition = definition(host, version, obj)
  local why = options.fresh and "asked for" or changed(version, before)
  version.plan.object = why and "loaded" or "kept"
  version.plan.why = why
  if not why then
    obj:close()
    version.fresh, version.obj, version.kept = nil, before.obj, true
    maps.kept(version, before)
    return
  end
  maps.prepare(host, version, obj, before, options)
  if options.open_only then
    version.obj = obj
    return
  end
  if next(version.pin_paths) and not options.scratch then
    bpf.handover.pin_dir(version.desc.pin_root) -- told now, and not when all is in force
  end
  obj:load()
  version.obj = obj
  maps.loaded(version)
end

local function attach_of(host, version)
  local attach = version.desc.attach
  if attach ~= FN then return attach end
  attach = version.rt:call("attach", version.params)
  if attach == nil or type(attach) == "table" then return attach end
  error(bpf.error { code = "EINVAL", op = "check policy", subject = host.name,
    cause = "attach returned a " .. type(attach) .. ", not a table" }, 0)
end

local function stage_all(host, version, before, options)
  load_file(host, version)
  local desc = version.desc
  if host.may_adopt and desc.persist and not before and not options.scratch then
    host.adopted = host.adopted or persist.adopt(host, desc)
    before = host.adopted
  end
  version.before = before
  if lent.name(desc) then
    lent.stage(host, version, before, attach_of(host, version))
  elseif desc.object then
    stage_object(host, version, before, options)
    version.wanted = links.wanted(host.name, version.obj, attach_of(host, version))
    if before and before.adopted then persist.match(before, version.wanted) end
    if desc.tests and not options.open_only then run_tests(host, version) end
  else
    version.plan.object, version.wanted = "none", {}
  end
  metrics.stage(host, version, options)
end

-- Stage a version from a source. before: the one in force, or nil. options: fresh (load the object
-- anew), fresh_rings (set of maps), open_only (do not load), scratch (pin nothing, listen nowhere),
-- lenient (that it cannot listen is no reason). Raises with nothing left of it.
function stage.stage(host, src, before, options)
  local version = { source = src, given_params = host.params, handles = {}, slots = {},
    plan = { maps = {}, sections = {}, links = {}, vars = {} } }
  local ok, err = pcall(stage_all, host, version, before, options or {})
  if ok then return version end
  stage.discard(version)
  error(err, 0)
end

-- Let go of one that was not put in force.
function stage.discard(version)
  metrics.discard(version)
  if version.rt then version.rt:close() end
  maps.discard(version)
  local obj = version.fresh
  version.fresh = nil
  if obj and not obj.closed then obj:close() end
end

return stage
