-- SPDX-License-Identifier: BSD-2-Clause
-- A running policy: the version in force, the way to the next one, and the way back.
--
-- Reload is stage (stage.lua: aside), check, swap (swap.lua: in one turn of the loop), retire.
local bpf = require "moonbee"
local loop = require "moonbee.loop"
local uv = require "luv"
local handlers = require "moonbee.policy.handlers"
local journal = require "moonbee.policy.journal"
local links = require "moonbee.policy.links"
local maps = require "moonbee.policy.maps"
local metrics = require "moonbee.policy.metrics"
local persist = require "moonbee.policy.persist"
local plan = require "moonbee.policy.plan"
local set = require "moonbee.policy.set"
local source = require "moonbee.policy.source"
local stage = require "moonbee.policy.stage"
local store = require "moonbee.policy.store"
local swap = require "moonbee.policy.swap"

local SETTLE = 0.02 -- seconds; several files of one edit

local host = {}
host.__index = host

-- options: path, name, params (text by name), sets (list of { path, text }), console,
-- allow_writable, log (policy/log.lua), dir (run directory, or nil), embedded (in a program of
-- somebody else's: its service manager is not ours to talk to), metrics_at (where metrics are
-- served whatever the policy says; false: nowhere).
local function create(options)
  local self = setmetatable({
    path = options.path, name = options.name, params = options.params or {},
    sets = options.sets or {}, console = options.console or "off", log = options.log,
    allow_writable = options.allow_writable, dir = options.dir, embedded = options.embedded,
    metrics_at = options.metrics_at,
    retiring = {}, watched = {},
    swaps = 0, failures = 0, rollbacks = 0, error_times = {}, errors = 0, doubled = 0,
    dropped = 0, hooks = {}, turns = {}, since = os.time(),
  }, host)
  self.journal = journal.new(self.dir)
  self.metrics = metrics.new(self)
  return self
end

local function text_of(err)
  return bpf.type(err) == "error" and err.log and err.op == "run" and err.log or tostring(err)
end

-- ---- handlers -----------------------------------------------------------------------------------

local function storm(self, version)
  local now, limit = uv.hrtime(), version.errors
  local times = self.error_times
  times[#times + 1] = now
  while times[1] and now - times[1] > limit.seconds * 1e9 do table.remove(times, 1) end
  return #times > limit.count
end

-- An error of a handler: told, counted, never fatal. Too many: back to the version before.
local function handler_failed(self, version, text, id)
  self.errors = self.errors + 1
  local what = ("handler %d"):format(id)
  for _, reg in ipairs(version.regs or {}) do
    if reg.id == id then
      what = reg.kind == "on" and ("handler of '%s'"):format(reg.map)
        or ("handler of %s(%g)"):format(reg.kind, reg.seconds)
    end
  end
  self.log:write("error", ("%s: %s"):format(what, text))
  if version ~= self.current or version.stormed or not storm(self, version) then return end
  version.stormed = true
  local why = ("%d errors in %g s"):format(#self.error_times, version.errors.seconds)
  loop.spawn(function() self:rollback(why, version) end)
end

function host:register(version, reg)
  if not version.armed or version.closed then return end
  handlers.arm(version, reg, function(text, id) handler_failed(self, version, text, id) end)
end

function host:unregister(version, id)
  for i, reg in ipairs(version.regs or {}) do
    if reg.id == id and not version.rt.busy[id] then -- else it goes on to the end of its record
      table.remove(version.regs, i)
      break
    end
  end
  handlers.drop(version, id)
end

-- ---- telling ------------------------------------------------------------------------------------

function host:notify(text, fds)
  if self.embedded then return end
  local ok, err = pcall(bpf.service.notify, text, fds)
  if not ok then self.log:warn("the service manager was not told: " .. tostring(err)) end
end

local function ready(self)
  self:notify(("READY=1\nSTATUS=%s"):format(self.degraded and "degraded: "
    .. self.degraded:gsub("\n", " ") or ("version %d in force"):format(self.swaps)))
end

-- CLOCK_MONOTONIC in microseconds, as the service manager wants it with RELOADING=1.
local function reloading(self)
  self:notify(("RELOADING=1\nMONOTONIC_USEC=%d"):format(uv.hrtime() // 1000))
end

-- fn(version) is called after each swap: the object may be another one.
function host:on_swap(fn)
  self.hooks[#self.hooks + 1] = fn
end

local function announce(self, version)
  self.last_plan = version.plan
  for _, fn in ipairs(self.hooks) do
    local ok, err = pcall(fn, version)
    if not ok then self.log:error(tostring(err)) end
  end
  if self.server then self.server:event("reload", plan.data(version.plan)) end
end

-- ---- from version to version --------------------------------------------------------------------

local function label(version)
  return version.desc.version
end

-- The swap, at a moment when no handler of the version before is in the middle of a record.
local function settled_swap(self, version, before, how)
  if not before or not before.rt then return swap.swap(self, version, before, how) end
  local done = false
  local _release <close> = setmetatable({}, { __close = function()
    if not done then handlers.release(before) end
  end })
  handlers.settle(before, swap.draining(version, before), before.finish)
  if self.stopping then error("the policy is ending", 0) end
  local state, keep = swap.swap(self, version, before, how)
  done = true
  return state, keep
end

-- Stage and swap. Returns the version that is in force now, and the state that it was given; nil:
-- with how.news, it is none.
local function replace(self, src, how)
  -- what is gone back to must not fail by what others have taken meanwhile
  local lenient = how.kind == "rollback" or how.degraded ~= nil
  local options = { fresh = how.fresh, lenient = lenient }
  for _ = 1, 2 do
    local staging = uv.hrtime()
    local version = stage.stage(self, src, self.current or self.adopted, options)
    local in_force = false
    local _discard <close> = setmetatable({}, { __close = function()
      if in_force then return end
      persist.undo(self, version)
      stage.discard(version)
    end })
    local before = version.before
    version.before = nil -- else each would hold all those before it
    version.plan.kind, version.plan.n = how.kind, self.swaps + 1
    version.plan.stage_ms = (uv.hrtime() - staging) / 1e6
    version.plan.uses, version.plan.no_state = version.desc.uses, how.no_state
    if how.news and self.current and version.source:same(self.current.source) then
      return nil -- it was put back while it was read
    end
    how.from = how.from or before and before.desc and label(before)
    if before and before.adopted and not how.degraded then
      how.state, how.from = self.good and self.good.state, before.label
    end
    local ok, state, keep = pcall(settled_swap, self, version, before, how)
    in_force = ok
    if ok then return version, before, state, keep end
    if getmetatable(state) ~= swap.FRESH_RINGS then error(state, 0) end
    options = { fresh = true, fresh_rings = state.fresh_rings, lenient = lenient }
  end
  error(bpf.error { code = "EAGAIN", op = "reload policy", subject = self.name,
    cause = "the rings that it reads could not be made anew" }, 0)
end

-- What rolls back to: the version that was replaced, as it was when it was. Where its state was not
-- asked for, with what it was given itself.
local function keep_version(self, before, state, how)
  if how.kind == "rollback" or not before or not before.source then
    self.kept = nil
    return
  end
  if how.no_state then state = before.state end
  self.kept = { record = before.source:record(), state = state, label = label(before) }
end

-- What is in force is kept for a start that fails; that it cannot be kept fails no reload.
local function keep_good(self, version, state)
  if not self.dir then return end
  local ok, err = pcall(store.write, self, version, state)
  if ok then return end
  local text = "it is not kept as the last good version: " .. tostring(err)
  version.plan.problems[#version.plan.problems + 1] = text
  self.log:error(text)
end

-- What both versions handled while their links overlapped. Waits, in a coroutine of the loop.
local function count_doubled(self, version)
  local ok, list = pcall(version.overlap.finish, version.overlap)
  version.overlap = nil
  if not ok then
    table.insert(version.plan.problems, "doubled events are not counted: " .. tostring(list))
    return
  end
  version.plan.doubled = list
  for _, entry in ipairs(list or {}) do
    self.doubled = self.doubled + (entry.events or entry.most or 0)
  end
end

local function put_in_force(self, src, how)
  local version, before, state, keep = replace(self, src, how)
  if not version then return nil end
  self.swaps, self.error_times = self.swaps + 1, {}
  self.last_error = nil
  self.degraded = how.degraded
  self.paused = nil
  keep_version(self, before, state, how)
  self.adopted, self.may_adopt, self.good = nil, nil, nil
  for _, list in ipairs { maps.pin(version), metrics.in_force(self, version) } do
    for _, text in ipairs(list) do
      table.insert(version.plan.problems, text)
      self.log:error(text)
    end
  end
  local ok, err = pcall(persist.keep, self, version)
  if not ok then
    version.plan.problems[#version.plan.problems + 1] = tostring(err)
    self.log:error(tostring(err))
  end
  local reason = how.kind == "rollback" and "rollback" or "reload"
  if before then swap.retire(self, before, reason, keep) end
  if not how.degraded then keep_good(self, version, state) end
  self:watch(src)
  count_doubled(self, version)
  self.log:write("info", plan.line(version.plan), { plan = plan.data(version.plan) })
  announce(self, version)
  return version
end

-- ---- watching -----------------------------------------------------------------------------------

local function changed(self)
  if self.settling then return end
  self.settling = loop.after(SETTLE, function()
    self.settling = nil
    self:request_reload { kind = "reload", why = "file" }
  end)
end

-- Watch what a source was read from, together with what the version in force was, and what was
-- tried in vain: a kept version was read from nowhere.
function host:watch(src)
  local want = { [self.path] = true }
  for _, from in pairs { src, self.current and self.current.source or src,
    self.failed_source or src } do
    for path in pairs(from.files) do want[path] = true end
  end
  for path, handle in pairs(self.watched) do
    if not want[path] then
      handle:stop()
      self.watched[path] = nil
    end
  end
  for path in pairs(want) do
    if not self.watched[path] then
      local ok, handle = pcall(loop.watch, path, function() changed(self) end)
      if ok then self.watched[path] = handle end -- else: its directory is not there
    end
  end
end

-- ---- reload, roll back --------------------------------------------------------------------------

local function read_source(self)
  return source.read(self.path, { allow_writable = self.allow_writable,
    warn = function(text) self.log:warn(text) end })
end

local function reload_failed(self, err, what)
  self.failures = self.failures + 1
  self.last_error = text_of(err)
  self.log:write("error", ("%s failed, the version before stays: %s"):format(what, text_of(err)))
  if self.server then self.server:event("failed", { text = text_of(err) }) end
end

-- Is what a fresh source reads the same as what another one was?
local function unchanged(src, other, current)
  if src.text ~= other.text then return false end
  for name, m in pairs(other.modules) do
    local ok, text = pcall(src.module, src, name)
    if not ok or text ~= m.text then return false end
  end
  local name = current and current.desc.object
  if not name then return not other.object_bytes end
  local ok, bytes = pcall(src.object, src, name)
  return ok and bytes == other.object_bytes
end

-- Is it neither what is in force nor what was tried in vain? A file that is only touched, or put
-- back as it was, is no news; one that failed is tried again when it changes.
local function news(self, src)
  local current, failed = self.current, self.failed_source
  if current and unchanged(src, current.source, current) then
    self.failed_source = nil
    return false
  end
  return not (failed and unchanged(src, failed, current))
end

-- One reload or roll-back at a time: waits for the one at hand, in a coroutine of the loop. Returns
-- what ends the turn, to be closed.
function host:turn()
  while self.busy do
    loop.await(function(wake)
      table.insert(self.turns, wake)
      return function()
        for i, other in ipairs(self.turns) do
          if other == wake then table.remove(self.turns, i) end
        end
      end
    end)
  end
  self.busy = true
  return setmetatable({}, { __close = function()
    self.busy = nil
    local wake = table.remove(self.turns, 1)
    if wake then wake() end
  end })
end

-- Reload now. how: kind, fresh, no_state (the next version starts without the old one's state), who
-- asked. Raises what went wrong, after it was told; nothing changed.
-- Returns the plan, or nil where a change of files turned out to be none.
function host:reload(how)
  local _turn <close> = self:turn()
  if self.stopping then error("the policy is ending", 0) end
  local src
  reloading(self)
  local ok, result = pcall(function()
    src = read_source(self)
    if how.why == "file" and not news(self, src) then return end
    return put_in_force(self, src, { kind = how.kind or "reload", fresh = how.fresh,
      no_state = how.no_state, news = how.why == "file" })
  end)
  if ok then
    if how.no_state then self:note(how.who or "host", "(reload)", nil, "--no-state") end
    if result then self.failed_source = nil end
    ready(self)
    return result and result.plan
  end
  self.failed_source = src
  if src then pcall(self.watch, self, src) end
  reload_failed(self, result, "reload")
  ready(self)
  error(result, 0)
end

-- Have it reloaded soon: requests that come meanwhile become one.
function host:request_reload(how)
  if self.reloading then
    self.again = how
    return
  end
  self.reloading = true
  loop.spawn(function()
    local next_how = how
    while next_how and not self.stopping do
      self.again = nil
      pcall(self.reload, self, next_how)
      next_how = self.again
    end
    self.reloading = false
  end)
end

-- Back to the version that was replaced, with its state of then. Where that cannot be staged the
-- one in force stays, with its handlers paused. why, of: what is wrong with which version; a reload
-- that was at hand may have put another one in its place.
function host:rollback(why, of)
  local _turn <close> = self:turn()
  local kept, failing = self.kept, self.current
  if self.stopping then error("the policy is ending", 0) end
  if of and of ~= failing then
    self.log:info("no roll-back: the version with %s is not in force any more", why)
    return
  end
  if not kept then
    local text = why and ("%s, and there is no version to roll back to"):format(why)
      or "there is no version to roll back to"
    self.log:error(text)
    self.last_error = text
    if why then
      self.degraded = why
      return
    end
    error(bpf.error { code = "ENOENT", op = "roll back policy", subject = self.name, cause = text,
      hint = "only the version before the one in force is kept" }, 0)
  end
  self.log:warn("rolling back: " .. (why or "asked for"))
  local ok, result = pcall(put_in_force, self, source.kept(kept.record), { kind = "rollback",
    state = kept.state, state_given = true, from = failing and label(failing) })
  if ok then
    self.rollbacks = self.rollbacks + 1
    self.failed_source = failing.source
    self:watch(failing.source)
    self.last_error = why
    result.plan.reason = why
    ready(self)
    return result.plan
  end
  if why and failing then
    handlers.stop(failing)
    self.paused = true
    self.degraded = ("%s, and the roll-back failed: %s"):format(why, tostring(result))
  end
  reload_failed(self, result, "roll-back")
  ready(self)
  error(result, 0)
end

-- ---- start and end ------------------------------------------------------------------------------

-- The file, or where it fails the last good version, which the run directory has.
local function first_version(self, last_good)
  local _turn <close> = self:turn()
  local good = self.dir and store.read(self)
  self.good, self.may_adopt = good, true
  local how = { kind = "start", state_given = true }
  local err
  if not last_good then
    local src, ok
    ok, err = pcall(function()
      src = read_source(self)
      return put_in_force(self, src, how)
    end)
    if ok then return end
    self.failed_source = src
    if not good then error(err, 0) end
  end
  local why = last_good or text_of(err)
  self.failures = self.failures + 1
  self.last_error = why
  self.log:error(("%s\nthe last good version runs instead"):format(why))
  how.degraded = why
  how.state, how.from = good.state, good.label
  put_in_force(self, source.kept(good.record), how)
end

-- Put it in force, and go on: in a coroutine of the running loop. last_good: text, why the file is
-- not tried. Raises where nothing can be put in force.
function host:start(last_good)
  first_version(self, last_good)
  for _, word in ipairs(self.sets) do
    self:note("--set", word[1], nil, set.plain(set.get(self.current.obj.vars, word[1])))
  end
  ready(self)
  local period = not self.embedded and bpf.service.watchdog()
  if period then
    self.alive = loop.every(math.max(period / 2, 0.001), function() self:notify "WATCHDOG=1" end)
  end
end

-- reason: "exit" (a signal; a persistent policy stays in force), "stop" (on command: all goes).
function host:finish(reason)
  if self.stopping then return end
  self.stopping = true
  self:notify "STOPPING=1"
  for _, handle in pairs(self.watched) do handle:stop() end
  self.watched = {}
  if self.alive then self.alive:stop() end
  metrics.close(self)
  for version, handle in pairs(self.retiring) do
    handle:stop()
    swap.close(self, version, "reload")
  end
  local version = self.current
  if not version then return end
  handlers.stop(version)
  local stays = version.desc.persist and reason == "exit"
  if stays and self.dir then
    local ok, state = pcall(version.rt.call, version.rt, "save")
    if ok then ok, state = pcall(store.write, self, version, state) end
    if not ok then self.log:error("its state is lost to the next process: " .. text_of(state)) end
  end
  self.current = nil
  if not stays then
    for _, text in ipairs(links.detach(version.slots)) do self.log:error(text) end
    persist.forget(self, version)
  end
  swap.close(self, version, reason)
  if self.dir and reason == "stop" then store.forget(self) end
end

-- ---- tuning -------------------------------------------------------------------------------------

function host:note(who, what, was, is, undo)
  return self.journal:add { who = who, what = what, old = was, new = is, undo = undo }
end

host.journal_add = function(self, entry)
  return self.journal:add(entry)
end

local function vars(self)
  local version = self.current
  if not version or not version.obj then
    error(bpf.error { code = "ENOENT", op = "set variable", subject = self.name,
      cause = "the policy has no object" }, 0)
  end
  return version.obj.vars
end

function host:get(path)
  return set.get(vars(self), path)
end

-- Set a variable by text, and remember who did. Returns old and new.
function host:set(path, text, who)
  local was, is = set.set(vars(self), path, text)
  self:note(who, path, was, is)
  self.log:info("%s set %s to %s (was %s)", who, path, bpf.json(is), bpf.json(was))
  return was, is
end

-- Take a change back: entry n of the journal, or the last one. Refused where the variable was
-- changed since.
function host:undo(n, who)
  local entry = self.journal:find(n)
  if entry.old == nil then
    error(bpf.error { code = "ENODATA", op = "undo", subject = entry.what,
      cause = "what it was before is not known" }, 0)
  end
  local found = set.find(vars(self), entry.what)
  local now = set.plain(found.now)
  if not require "moonbee.policy.plain".same(now, entry.new) then
    error(bpf.error { code = "EBUSY", op = "undo", subject = entry.what,
      cause = ("it is %s by now, not %s"):format(bpf.json(now), bpf.json(entry.new)),
      hint = ("moonbee ctl %s set %s …"):format(self.name, entry.what) }, 0)
  end
  set.store(found, entry.old)
  self:note(who, entry.what, now, entry.old, entry.n)
  self.log:info("%s took %s back to %s", who, entry.what, bpf.json(entry.old))
  return { what = entry.what, old = now, new = entry.old }
end

-- What a console works with; ask again after a swap.
function host:handles()
  local version = self.current
  local obj = version and version.obj
  return { runtime = version and version.rt, obj = obj, vars = obj and obj.vars,
    maps = obj and obj.maps, progs = obj and obj.progs, params = version and version.params,
    state = version and version.state, status = function() return self:status() end }
end

-- ---- asking -------------------------------------------------------------------------------------

local function as_object(t)
  local copy = setmetatable({}, { __jsontype = "object" })
  for key, value in pairs(t) do copy[key] = value end
  return copy
end

function host:status()
  local version = self.current
  local stats = version and version.rt:stats() or {}
  local list = setmetatable({}, { __jsontype = "array" })
  for i, slot in ipairs(version and version.slots or {}) do
    list[i] = { link = slot.title, id = slot.link.id, type = slot.link.type }
  end
  return {
    name = self.name, path = self.path, pid = math.tointeger(uv.os_getpid()),
    state = self.stopping and "stopping" or self.degraded and "degraded" or "running",
    degraded = self.degraded, paused = self.paused, console = self.console,
    persist = version and version.desc.persist or false, version = version and label(version),
    swaps = self.swaps, failures = self.failures, rollbacks = self.rollbacks,
    last_error = self.last_error, errors = self.errors, doubled = self.doubled,
    dropped = self.dropped, since = self.since,
    can_roll_back = self.kept ~= nil, retiring = next(self.retiring) ~= nil or nil, links = list,
    handlers = stats.handlers, memory = stats.memory,
    metrics = version and metrics.addresses(self, version) or nil,
    params = version and as_object(version.params),
  }
end

-- What the last swap did; waits for one that is at hand.
function host:plan()
  local _turn <close> = self:turn()
  return self.last_plan
end

-- Stage what the files say, and tell what would be; nothing is changed.
function host:dry_run()
  local src = read_source(self)
  local before = self.current
  local version = stage.stage(self, src, before, { scratch = true, -- nothing is pinned
    open_only = not before and uv.getuid() ~= 0 })
  version.plan.kind, version.plan.uses = "dry run", version.desc.uses
  version.plan.links = plan.wanted(version, before)
  stage.discard(version)
  return version.plan
end

return { new = create }
