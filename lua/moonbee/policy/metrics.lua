-- SPDX-License-Identifier: BSD-2-Clause
-- A policy's metrics. What a version names is compiled when it is staged, and its sockets are
-- opened then; what is in force is what a scrape measures. Sockets that a version does not change
-- stay open over reloads, and what readers and programs have counted in versions before is added.
local bpf = require "moonbee"
local loop = require "moonbee.loop"
local uv = require "luv"
local http = require "moonbee.metrics.http"
local keys = require "moonbee.metrics.keys"
local listen = require "moonbee.metrics.listen"
local own = require "moonbee.metrics.own"
local runtime = require "moonbee.runtime"
local set = require "moonbee.metrics.set"
local source = require "moonbee.metrics.source"
local text = require "moonbee.metrics.text"

local MOST_TRIES = 4 -- of a scrape that a reload comes into

local metrics = {}

-- ---- what versions before have counted ----------------------------------------------------------

local READER = { "consumed", "lost", "pending", "size" }
local OWN, OF_RING = { "consumed", "lost" }, { "consumed" } -- what the reader itself has counted
local PROGRAM = { "run_count", "run_time_ns", "recursion_misses" }

local function add(into, name, stats, fields)
  local sum = into[name] or { name = name }
  into[name] = sum
  for _, field in ipairs(fields) do
    if stats[field] then sum[field] = (sum[field] or 0) + stats[field] end
  end
end

-- The versions whose readers and programs may still be at work, and each object once.
local function at_work(host)
  local versions, objects = { host.current }, {}
  for version in pairs(host.retiring) do versions[#versions + 1] = version end
  for _, version in ipairs(versions) do
    if version.obj then objects[version.obj] = true end
  end
  return versions, objects
end

-- What a ring loses is counted in a variable, which goes on with the ring; of a perf event array
-- its reader counts it.
local function counted_by(stats)
  return stats.perf and OWN or OF_RING
end

local function readers_of(version, ended)
  local ok, list = pcall(version.rt.readers, version.rt, ended)
  return ok and list or {}
end

-- Before a version is closed: closes: its object goes, too.
function metrics.retire(host, version, closes)
  local kept = host.metrics
  for _, stats in ipairs(version.armed and readers_of(version, true) or {}) do
    add(kept.readers, stats.name, stats, counted_by(stats))
  end
  for _, stats in ipairs(closes and own.program_stats(version.obj) or {}) do
    add(kept.programs, stats.name, stats, PROGRAM)
  end
  local m = version.metrics
  if m and m.stats then m.stats:close() end
end

local function sorted(sums)
  local list = {}
  for _, sum in pairs(sums) do list[#list + 1] = sum end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

-- Of this moment, over all versions; by name, and as lists. Rings that nobody reads any more, and
-- programs that the object has no more, are not there.
local function counted(host)
  local versions, objects = at_work(host)
  local readers, programs = {}, {}
  for i, version in ipairs(versions) do
    for _, stats in ipairs(readers_of(version)) do
      add(readers, stats.name, stats, i == 1 and READER or counted_by(stats))
    end
  end
  for obj in pairs(objects) do
    for _, stats in ipairs(own.program_stats(obj)) do add(programs, stats.name, stats, PROGRAM) end
  end
  for name, sum in pairs(host.metrics.readers) do
    if readers[name] then add(readers, name, sum, READER) end
  end
  for name, sum in pairs(host.metrics.programs) do
    if programs[name] then add(programs, name, sum, PROGRAM) end
  end
  return { readers = readers, programs = programs }
end

-- ---- functions of the policy's ------------------------------------------------------------------

-- Call an entry's read, in slices: events are handled in between. All of it has the time that a
-- callback has.
local function read(version, entry, pause)
  local rt = version.rt
  local task = rt:read(entry.number)
  local _ <close> = setmetatable({}, { __close = function()
    if not task.ended and not rt.closed then rt:kill(task) end
  end })
  local spent = 0
  while not rt.closed do
    local begin = uv.hrtime()
    local status, result = rt:resume(task)
    spent = spent + uv.hrtime() - begin
    if status == "done" then return result end
    if status == "error" then error(result:match "^(.-)\nstack traceback:" or result, 0) end
    if spent > rt.deadline * 1e9 then
      error(("the deadline of %g s is over"):format(rt.deadline), 0)
    end
    pause()
  end
  error("the policy was reloaded meanwhile", 0)
end

-- ---- staging ------------------------------------------------------------------------------------

local RINGS = { ringbuf = true, perf_event_array = true }

local function check_ring(env, where, name)
  local m = env.map(name)
  if m and RINGS[m.type] then return end
  keys.fail(where, m and ("map '%s' is a %s, which has no reader"):format(name, m.type)
    or ("there is no map '%s'"):format(name), not m and keys.hint(name, env.map_names()) or nil,
    "ENOENT")
end

-- An object's names, for the entries of a version. now() is what was counted at this scrape.
local function env_of(version)
  local env
  local function now() return version.metrics.now end
  env = source.env(version.obj, nil, {
    reader = function(where, name)
      check_ring(env, where, name)
      return function() return { now().readers[name] } end
    end,
    program = function(name)
      return function()
        return now().programs[name] or error(("program '%s' is not loaded"):format(name), 0)
      end
    end,
    read = function(entry, pause) return read(version, entry, pause) end,
  })
  return env
end

local function is_function(x)
  return x == runtime.FUNCTION
end

-- The same place under the same name: what is served there already is left as it is.
local function canonical(host, address)
  if address == "run" then return address end
  listen.check(address)
  address = address:gsub("^localhost:", "127.0.0.1:")
  for name, server in pairs(host.metrics.servers) do
    if server.address == address then return name end
  end
  return address
end

-- Where a version is to be served: a list and set of addresses; "run": the run directory's socket.
local function wanted(host, desc)
  local at = host.metrics_at
  if at == nil then at = desc and desc.listen end
  if at == nil and desc then at = { "run" } end
  local list = {}
  for _, address in ipairs(type(at) == "table" and at or { at or nil }) do
    address = canonical(host, address)
    if not list[address] then list[#list + 1] = address end
    list[address] = true
  end
  return list
end

local function open_server(host, address)
  return http.serve("/metrics", function(fn)
    return listen.begin(address ~= "run" and address, host.dir, fn)
  end, host.metrics.answer)
end

-- Those that are not open yet. lenient: one that cannot be opened is a problem, and no refusal.
local function open_servers(host, m, lenient)
  for _, address in ipairs(m.wanted) do
    if not host.metrics.servers[address] and not m.servers[address] then
      local ok, server = pcall(open_server, host, address)
      if ok then
        m.servers[address] = server
      elseif lenient then
        m.problems[#m.problems + 1] = tostring(server)
      else
        error(server, 0)
      end
    end
  end
end

-- Compile what the version names, and open its sockets: when its object is staged. options: scratch
-- (open nothing), lenient.
function metrics.stage(host, version, options)
  local desc = version.desc.metrics
  local m = { servers = {}, problems = {}, wanted = wanted(host, desc) }
  version.metrics = m
  m.set = set.compile(desc or {}, env_of(version), is_function,
    function(message)
      if host.current == version then host.log:warn(message) end -- else it is measured again
    end)
  m.set.errors = host.metrics.errors
  version.plan.metrics = { entries = #m.set.entries, listen = metrics.addresses(host, version) }
  if options.scratch then return end
  if desc and desc.stats then m.stats = bpf.stats() end
  open_servers(host, m, options.lenient)
end

-- It was not put in force.
function metrics.discard(version)
  local m = version.metrics
  if not m then return end
  for _, server in pairs(m.servers) do server:stop() end
  if m.stats then m.stats:close() end
end

-- It is in force: its sockets are the host's, and those that it does not name go. Returns what
-- could not be done.
function metrics.in_force(host, version)
  local m, servers, errors = version.metrics, host.metrics.servers, host.metrics.errors
  for address, server in pairs(m.servers) do servers[address] = server end
  m.servers = {}
  for address, server in pairs(servers) do
    if not m.wanted[address] then
      servers[address] = nil
      server:stop()
    end
  end
  for name in pairs(errors) do
    if not m.set.by_name[name] then errors[name] = nil end
  end
  return m.problems
end

-- The end of the host.
function metrics.close(host)
  for address, server in pairs(host.metrics.servers) do
    host.metrics.servers[address] = nil
    server:stop()
  end
end

-- Where a version is, or is to be, served.
function metrics.addresses(host, version)
  local list = setmetatable({}, { __jsontype = "array" })
  for i, address in ipairs(version.metrics.wanted) do
    local server = host.metrics.servers[address] or version.metrics.servers[address]
    list[i] = server and server.address or address ~= "run" and address
      or host.dir and host.dir.path .. "/metrics.sock" or "metrics.sock of the run directory"
  end
  return list
end

-- ---- a scrape -----------------------------------------------------------------------------------

local function pause()
  loop.sleep(0)
end

-- Does the kernel count runs all the time? (A reload whose links overlap has it do so for a
-- moment.)
local function counts_runs(version)
  if version.metrics.stats then return true end
  local file <close> = io.open "/proc/sys/kernel/bpf_stats_enabled"
  return file ~= nil and file:read "n" == 1
end

local function families(host, version)
  local label = text.label("policy", host.name)
  local now = counted(host)
  version.metrics.now = now
  local list = own.policy(label, host:status(), (uv.hrtime() - host.metrics.born) / 1e9)
  for _, family in ipairs { own.readers(label, sorted(now.readers)) } do
    list[#list + 1] = family
  end
  for _, family in ipairs { own.programs(label, counts_runs(version) and sorted(now.programs)
    or {}) } do
    list[#list + 1] = family
  end
  return version.metrics.set:families(pause, label, list)
end

-- Measure what is in force; nil: nothing is. One that a swap came into begins anew, so that it is
-- of one version; its errors were the swap's.
local function scrape(host)
  local list
  for _ = 1, MOST_TRIES do
    local version, errors = host.current, {}
    if not version then return nil end
    for name, n in pairs(host.metrics.errors) do errors[name] = n end
    list = families(host, version)
    if host.current == version then break end
    for name in pairs(host.metrics.errors) do host.metrics.errors[name] = errors[name] end
  end
  return list
end

-- What a host keeps over all versions. render(kind) measures, for one client at a time: kind is
-- "openmetrics", "prometheus" or "data".
function metrics.new(host)
  local render = set.in_turn(function(kind)
    local list = scrape(host)
    if not list then return nil end
    if kind == "data" then return text.data(list) end
    return text.render(list, kind == "openmetrics", pause)
  end)
  return { servers = {}, errors = {}, readers = {}, programs = {}, born = uv.hrtime(),
    render = render, answer = set.answer(render) }
end

return metrics
