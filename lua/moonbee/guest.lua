-- SPDX-License-Identifier: BSD-2-Clause
-- The Lua half of a policy's own state: what a policy file sees, and the functions that the host
-- calls by name (returned). Runs in that state, once, before the policy; lib is bind/guest.c's.
local lib = ...
local core = lib.core
local error, pcall, type, next, pairs, select = error, pcall, type, next, pairs, select
local setmetatable, tostring, rawget, load = setmetatable, tostring, rawget, load
local concat, unpack, format = table.concat, table.unpack, string.format
local mathtype, host = math.type, lib.host

local getinfo, sub, search, replace = lib.debug.getinfo, string.sub, string.find, string.gsub

-- Raise text with the place in the policy that called us.
local function mistake(...)
  local text, level = format(...), 2
  while true do
    local at = getinfo(level, "Sl")
    if not at then error(text, 0) end
    if at.currentline > 0 and sub(at.short_src, 1, 1) ~= "[" then
      error(format("%s:%d: %s", at.short_src, at.currentline, text), 0)
    end
    level = level + 1
  end
end

local MAX_RECORDS = 1024 -- of one reader, before other sources have their turn
local MAX_SECONDS = 1e9
local MAX_TEXT = 16384   -- bytes of what is logged at once
local MAX_SOURCES = 1000 -- that one policy has at a time

-- What a policy's own bpf has: functions of values. Objects come by ctx.
local VALUES = {
  "type", "ref", "update", "txn", "copy", "bytes", "typeof", "sizeof", "has", "key", "cast", "enum",
  "sum", "min", "max", "hist", "fill", "ip", "iptext", "ntoh", "hton", "lpm", "now_ns", "error",
  "version", "libbpf_version", "layout", "refresh", "mac", "mactext",
}

-- ---- modules of moonbee -------------------------------------------------------------------------

-- Our own modules see copies of the libraries, and a require of their own.
local ours = { debug = lib.debug }
for name, value in pairs(_G) do
  if type(value) == "table" and name ~= "_G" then
    local copy = {}
    for key, x in pairs(value) do copy[key] = x end
    value = copy
  end
  ours[name] = value
end
ours._G = ours
ours.os = { getenv = function() return nil end }

local full = {} -- what our modules get as "moonbee"
local loaded = { ["moonbee.core"] = core, moonbee = full }

local function source_of(name)
  local text, chunk = host("source", name)
  if not text then mistake("module '%s' not found", name) end
  return text, chunk
end

function ours.require(name)
  if loaded[name] == nil then
    local chunk, why = load(source_of(name), "=[moonbee]", "t", ours)
    if not chunk then error(why, 0) end
    local value = chunk(name)
    loaded[name] = value == nil or value
  end
  return loaded[name]
end
ours.package = { loaded = loaded }

-- Loaded when first used: few policies print.
local function lazily(module, name)
  return function(...) return ours.require(module)[name](...) end
end

local extra = {
  format = lazily("moonbee.format", "format"),
  json = lazily("moonbee.json", "encode"),
  totable = lazily("moonbee.totable", "totable"),
}

core.set_format(extra.format)

local bpf = {}
for _, name in pairs(VALUES) do bpf[name] = core[name] end
for name, fn in pairs(extra) do bpf[name] = fn end
bpf.cpus = core.cpus
for _, from in pairs { core, extra } do
  for name, value in pairs(from) do full[name] = value end
end
full.cpus = bpf.cpus

-- ---- libraries without a look at the time -------------------------------------------------------

-- Where Lua's own could not be built with a deadline in their loops, the system's are used, and
-- what might take long is refused: by an upper bound of the steps that a call does.
if not lib.checked then
  local find, MOST = string.find, 1e8

  local function bound(library, name, steps)
    local fn = library[name]
    library[name] = function(...)
      local n = steps(...)
      if n and n > MOST then
        mistake("%s: too much work for one call (%.0e steps)\nhint: this moonbee was built "
          .. "without the source of Lua's libraries, and bounds sizes instead of the time", name, n)
      end
      return fn(...)
    end
  end

  -- Each repetition of a pattern may try every rest of the subject; so may where it starts.
  local function pattern_steps(s, p, _, plain)
    if type(s) ~= "string" or type(p) ~= "string" then return nil end
    local n = #s + 1.0
    if plain then return n * (#p + 1) end
    local steps, at = find(p, "^", 1, true) == 1 and n or n * n, 1
    if not find(p, "[*+?%-]") and not find(p, "%b", 1, true) then return n * #p end
    while true do
      at = find(p, "[*+%-]", at)
      if not at then break end
      steps, at = steps * n, at + 1
    end
    return find(p, "%b", 1, true) and steps * n or steps
  end
  bound(string, "find", pattern_steps)
  bound(string, "match", pattern_steps)
  bound(string, "gmatch", pattern_steps)
  bound(string, "gsub", function(s, p) return pattern_steps(s, p) end)
  bound(string, "rep", function(_, n) return mathtype(n) == "integer" and n or nil end)
  local function length(t) return type(t) == "table" and #t * 300.0 or nil end
  for _, name in pairs { "sort", "insert", "remove" } do bound(table, name, length) end
  local function range(first, last)
    return mathtype(first) == "integer" and mathtype(last) == "integer"
      and (last + 0.0 - first) * 50 or nil
  end
  bound(table, "move", function(_, f, e) return range(f, e) end)
  bound(table, "unpack", function(t, i, j) return range(i or 1, j or 1) or length(t) end)
  bound(table, "concat", function(t, _, i, j) return range(i or 1, j or 1) or length(t) end)
  for _, name in pairs { "len", "codepoint", "codes", "offset" } do
    bound(utf8, name, function(s) return type(s) == "string" and #s * 20.0 or nil end)
  end
end

-- ---- the policy's globals -----------------------------------------------------------------------

local uses = {} -- what the policy's table names: nothing, before there is one
local required = {}
local G = _G

-- May a path be used? By its own name, or by a directory's with /* at the end.
local function named(list, path)
  for _, entry in pairs(type(list) == "table" and list or {}) do
    if entry == path then return true end
    if type(entry) == "string" and sub(entry, -2) == "/*" then
      local dir = sub(entry, 1, -2)
      if sub(path, 1, #dir) == dir and not search(path, "..", 1, true) then return true end
    end
  end
  return false
end

local function refuse_use(what, key, example)
  mistake("%s: not in the policy's uses\nhint: policy.uses = { %s = %s }", what, key, example)
end

function bpf.pinned(path, options)
  if type(path) ~= "string" then mistake("bpf.pinned: path expected, got %s", type(path)) end
  if not named(uses.pins, path) then
    refuse_use("bpf.pinned '" .. path .. "'", "pins", format("{ %q }", path))
  end
  return core.pinned(path, options)
end

local function read_file(path)
  if type(path) ~= "string" then mistake("ctx.read: path expected, got %s", type(path)) end
  if not named(uses.files, path) then
    refuse_use("ctx.read '" .. path .. "'", "files", format("{ %q }", path))
  end
  return (host("read", path))
end

local function require_kernel(name)
  if not uses.kernel then refuse_use("require '" .. name .. "'", "kernel", "true") end
  return ours.require(name)
end

function G.require(name)
  if type(name) ~= "string" then mistake("require: name expected, got %s", type(name)) end
  if name == "moonbee" then return bpf end
  if name == "moonbee.kernel" or sub(name, 1, 15) == "moonbee.kernel." then
    return require_kernel(name)
  end
  if required[name] ~= nil then return required[name] end
  if not lib.loading() then
    mistake("require '%s': modules are loaded while the policy's file or start runs only",
      name)
  end
  local source, chunk = host("module", name)
  if not source then
    mistake("module '%s' not found%s", name, chunk and ": " .. tostring(chunk) or "")
  end
  local fn, why = load(source, chunk, "t", G)
  if not fn then error(why, 0) end
  required[name] = true -- one that requires itself
  local value = fn(name)
  if value ~= nil then required[name] = value end
  return required[name]
end

local function log_text(level, text)
  host("log", level, #text <= MAX_TEXT and text or sub(text, 1, MAX_TEXT) .. "…")
end

local function log_values(level, ...)
  local parts = {}
  for i = 1, select("#", ...) do parts[i] = tostring((select(i, ...))) end
  log_text(level, concat(parts, "\t"))
end

function G.print(...)
  log_values("info", ...)
end

G.bpf = bpf

-- ---- ctx ----------------------------------------------------------------------------------------

local policy           -- the table that the file returned
local ctx              -- of start and of what it registered
local sources = {}     -- id -> { kind, fn, … }
local last_id, count = 0, 0
local started = false  -- start has returned: what is registered now is told at once
local closing = false
local jobs = {}        -- columns -> a drain's loop

local function check_function(fn, what)
  if type(fn) ~= "function" then
    mistake("%s: function expected, got %s", what, type(fn))
  end
end

local function check_seconds(value, least, what)
  if not mathtype(value) or not (value >= least and value <= MAX_SECONDS) then
    mistake("%s: seconds expected (a number from %g to %g), got %s", what, least, MAX_SECONDS,
      tostring(value))
  end
end

-- What runs later would not be held back.
local function check_writing(what)
  if lib.reading() then
    mistake("%s: what runs here may only read\nhint: a console writes by --write", what)
  end
end

local taken = {} -- map -> records (and losses that are the reader's own) of readers that have ended

local function end_reader(source)
  local reader = source.reader
  if not reader or reader.closed then return end
  local stats, sum = reader.stats, taken[source.map] or { consumed = 0, lost = 0 }
  taken[source.map], sum.perf = sum, source.perf or nil
  sum.consumed = sum.consumed + stats.consumed
  if source.perf then sum.lost = sum.lost + (stats.lost or 0) end
  reader:close()
end

local function description(source)
  return {
    id = source.id, kind = source.kind, seconds = source.seconds, map = source.map,
    type = source.type, columns = source.columns, fd = source.reader and source.reader.fd,
  }
end

local handle = {}
handle.__index = handle
handle.__name = "moonbee.handle"
handle.__metatable = false

function handle:stop()
  local source = sources[self.id]
  if not source then return end
  check_writing "handle:stop"
  sources[self.id], count = nil, count - 1
  source.stopped = true
  -- one that stops itself goes on to its end: its reader is closed after that
  if not source.busy then end_reader(source) end
  if started then host("unregister", self.id) end
end

local function add(source, what)
  if closing then mistake("%s: the policy is ending", what) end
  check_writing(what)
  if count >= MAX_SOURCES then mistake("%s: the policy has %d handlers", what, count) end
  last_id, count = last_id + 1, count + 1
  source.id = last_id
  sources[last_id] = source
  if started then host("register", description(source)) end
  return setmetatable({ id = last_id }, handle)
end

local function every(_, seconds, fn)
  check_seconds(seconds, 0.001, "ctx:every")
  check_function(fn, "ctx:every")
  return add({ kind = "every", seconds = seconds, fn = fn }, "ctx:every")
end

local function after(_, seconds, fn)
  check_seconds(seconds, 0, "ctx:after")
  check_function(fn, "ctx:after")
  return add({ kind = "after", seconds = seconds, fn = fn }, "ctx:after")
end

-- A drain with n loop variables, as loop.lua's: no pcall and no C below the handler.
local function drain_job(n)
  if jobs[n] then return jobs[n] end
  local names = {}
  for i = 1, n do names[i] = "v" .. i end
  local code = [[
    local limit, turns = ...
    return function(source, unpack)
      local fn, seen = source.fn, 0
      local iter, state, first, closing = source.reader:drain(limit, unpack(source.columns))
      turns(state)
      for LIST in iter, state, first, closing do
        seen = seen + 1
        fn(LIST)
        if source.stopped or source.held then break end
      end
      return seen
    end]]
  code = replace(code, "LIST", concat(names, ", "))
  jobs[n] = load(code, "=[moonbee]", "t", {})({ max = MAX_RECORDS }, lib.turns)
  return jobs[n]
end

-- ctx:on(map, type, fn, columns…)
local function on(_, map, typename, fn, ...)
  if type(typename) == "function" then
    mistake "ctx:on: the type comes second: ctx:on(\"events\", \"struct event\", fn)"
  end
  check_function(fn, "ctx:on")
  local columns = { ... }
  local source = { kind = "on", map = map, type = typename, fn = fn, columns = columns }
  local m = core.type(map) == "map" and map or type(map) == "string" and ctx.maps and ctx.maps[map]
  if not m then mistake("ctx:on: name of a map expected, got %s", type(map)) end
  check_writing "ctx:on"
  source.map, source.perf = m.name, m.type == "perf_event_array"
  if core.type(typename) == "type" then source.type = typename.name end -- plain data crosses
  local ok, reader = pcall(lib.reader, m, typename)
  if not ok then error(reader, 0) end
  source.reader = reader
  source.job = drain_job(columns[1] and #columns or 1)
  -- a wrong column is told here, and not by the first record
  ok, map = pcall(lib.columns, reader, ...)
  if not ok then
    reader:close()
    error(map, 0)
  end
  return add(source, "ctx:on")
end

local log = {}
for _, level in pairs { "debug", "info", "warn", "error" } do
  log[level] = function(fmt, ...)
    log_text(level, select("#", ...) > 0 and format(fmt, ...) or tostring(fmt))
  end
end

local function new_ctx(obj, params, state)
  local c = { params = params, state = state, log = log, every = every, after = after, on = on,
    sleep = lib.sleep, read = read_file }
  if obj then c.obj, c.vars, c.maps, c.progs = obj, obj.vars, obj.maps, obj.progs end
  return c
end

-- ---- what the host calls ------------------------------------------------------------------------

local entries = {}

local function words(list)
  local copy = {}
  for i, word in next, type(list) == "table" and list or {} do copy[i] = tostring(word) end
  return copy
end

function entries.load(source, chunk)
  local fn, why = load(source, chunk, "t", G)
  if not fn then error(why, 0) end
  local result = fn()
  if type(result) ~= "table" then
    error(format("the policy's file returned %s, not a table\nhint: local policy = { … } … "
      .. "return policy", type(result)), 0)
  end
  policy = result
  local used = rawget(policy, "uses")
  if type(used) == "table" then -- as it is now: what it becomes later nobody was shown
    uses = { kernel = used.kernel == true, pins = words(used.pins), files = words(used.files) }
  end
  -- a list of functions and plain data crosses; its metatable, if any, does not count
  local plain = {}
  for key, value in next, policy do plain[key] = value end
  return plain
end

local function find(path)
  local at = policy
  for i = 1, #path do
    if type(at) ~= "table" then return nil end
    at = rawget(at, path[i])
  end
  return at
end

function entries.has(path)
  return type(find(path)) == "function"
end

function entries.call(path, ...)
  local fn = find(path)
  if fn == nil then return end
  return fn(...)
end

-- What a test gets as its second argument gets these, too.
local function same(a, b)
  if a == b then return true end
  if type(a) ~= "table" or type(b) ~= "table" then return false end
  for key, value in next, a do
    if not same(value, b[key]) then return false end
  end
  for key in next, b do
    if a[key] == nil then return false end
  end
  return true
end

local function show(x)
  return type(x) == "string" and format("%q", x) or tostring(x)
end

function entries.test(name, obj, t)
  local fn = find { "tests", name }
  t = t or {}
  function t.equal(expected, actual, what)
    if not same(expected, actual) then
      mistake("%sexpected %s, got %s", what and what .. ": " or "", show(expected), show(actual))
    end
  end
  function t.ok(value, what)
    if not value then mistake("%s", what or "expected something true, got " .. tostring(value)) end
  end
  fn(obj, t)
end

function entries.start(obj, params, state, from)
  ctx = new_ctx(obj, params, state)
  local fn = rawget(policy, "start")
  if fn ~= nil then fn(ctx, state, from) end
  local list = {}
  for id = 1, last_id do
    if sources[id] then list[#list + 1] = description(sources[id]) end
  end
  started = true
  return list
end

function entries.save()
  local fn = rawget(policy, "save")
  if not ctx then return nil end
  if fn ~= nil then return fn(ctx) end
  return ctx.state == nil and {} or ctx.state
end

function entries.stop(reason)
  closing = true
  local fn = rawget(policy, "stop")
  if fn ~= nil then fn(ctx, reason) end
end

-- Nothing of it is called any more: its readers end.
function entries.finish()
  closing = true
  for id, source in next, sources do
    sources[id] = nil
    end_reader(source)
  end
end

local function done(source)
  source.busy = false
  if source.stopped then end_reader(source) end
end

function entries.fire(id)
  local source = sources[id]
  if not source then return "gone" end
  if source.kind ~= "on" then
    if source.kind == "after" then sources[id], count = nil, count - 1 end
    source.fn()
    return "done"
  end
  source.busy = true
  local seen = source.job(source, unpack)
  done(source)
  return seen == MAX_RECORDS and "more" or "done"
end

-- After the record at hand it takes no other.
function entries.hold(id, held)
  local source = sources[id]
  if source then source.held = held end
end

-- Its handler ended by an error, or was ended.
function entries.failed(id)
  local source = sources[id]
  if source then done(source) end
end

function entries.pending(id)
  local source = sources[id]
  return source and source.reader and source.reader.stats.pending or 0
end

function entries.count()
  return count
end

-- ---- metrics ------------------------------------------------------------------------------------

-- What readers have counted, those that have ended with the others: a list, one for each map that
-- is read; with ended also for those that were. perf: what is lost the reader itself has counted.
function entries.readers(ended)
  local list, found = {}, {}
  for _, source in next, sources do
    local reader, name = source.reader, source.map
    if reader and not reader.closed then
      local stats, sum = reader.stats, found[name]
      if not sum then
        local before = taken[name] or { consumed = 0, lost = 0 }
        sum = { name = name, perf = source.perf or nil, consumed = before.consumed,
          lost = stats.lost and before.lost, pending = stats.pending, size = stats.size }
        found[name], list[#list + 1] = sum, sum
      end
      sum.consumed = sum.consumed + stats.consumed
      if stats.lost then sum.lost = (source.perf and sum.lost or 0) + stats.lost end
    end
  end
  for name, sum in next, ended and taken or {} do
    if not found[name] then
      list[#list + 1] = { name = name, perf = sum.perf, consumed = sum.consumed, lost = sum.lost }
    end
  end
  return list
end

-- metrics[i].read
function entries.read(i)
  local fn = find { "metrics", i, "read" }
  if type(fn) ~= "function" then error("read is no function any more", 0) end
  return fn(ctx)
end

-- ---- trusted code of the host's -----------------------------------------------------------------

local modules = {}

local function environment()
  return setmetatable({}, {
    __index = function(_, name)
      local value = G[name]
      if value ~= nil then return value end
      return ctx and ctx[name]
    end,
  })
end

-- functions: names of the host's, under which host() knows them
function entries.module(id, source, functions)
  local fn, why = load(source, "=[moonbee]", "t", ours)
  if not fn then error(why, 0) end
  local hosts = {}
  for name, real in next, functions do
    hosts[name] = function(...) return host(real, ...) end
  end
  local env = environment()
  env.ctx = ctx
  modules[id] = fn(full, env, hosts)
  if type(modules[id]) ~= "function" then error("the module returned no function", 0) end
end

function entries.task(id, ...)
  return modules[id](...)
end

function entries.forget(id)
  modules[id] = nil
end

return entries
