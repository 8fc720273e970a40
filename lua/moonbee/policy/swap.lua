-- SPDX-License-Identifier: BSD-2-Clause
-- One version of a policy in the place of another, in one turn of the loop: save, start, links,
-- stores, handlers. Up to the links nothing is changed that a failure would have to mend, and those
-- are taken back.
local bpf = require "moonbee"
local loop = require "moonbee.loop"
local uv = require "luv"
local handlers = require "moonbee.policy.handlers"
local links = require "moonbee.policy.links"
local maps = require "moonbee.policy.maps"
local metrics = require "moonbee.policy.metrics"
local persist = require "moonbee.policy.persist"

local GRACE = 0.25 -- seconds for which an old program may still write to a ring after its last link

local SPARE = 8    -- descriptors

local swap = { FRESH_RINGS = {} }

-- ---- rings --------------------------------------------------------------------------------------

-- The types that a version reads from each ring of its object's; a pinned one is another's.
local function types_read(version, regs)
  local types = {}
  for _, reg in ipairs(regs) do
    if reg.kind == "on" and version.plan.maps[reg.map] then
      types[reg.map] = types[reg.map] or {}
      if reg.type then types[reg.map][reg.type] = version.obj.types[reg.type] end
    end
  end
  return types
end

-- Rings whose records the new version would misread: it reads another type than was written.
local function misread(before, types)
  local found
  for map, read in pairs(types) do
    local was = before.types and before.types[map]
    if was and next(was) then
      for _, T in pairs(read) do
        local fits = false
        for _, W in pairs(was) do fits = fits or not bpf.diff(W, T) end
        if not fits then found = found or {}; found[map] = "another type is read from it" end
      end
    end
  end
  return found
end

-- ---- the steps ----------------------------------------------------------------------------------

-- What the version before leaves to the next one. One that cannot be saved would block each reload:
-- the error says how to do without.
local function saved_state(host, before, how)
  if how.state_given or not before or not before.rt then return how.state end
  if how.no_state then return nil end
  local ok, state = pcall(before.rt.call, before.rt, "save")
  if ok then return state end
  local way = ("moonbee ctl %s reload --no-state starts without the state of the version in force")
    :format(host.name)
  error(bpf.error { code = state.code, op = state.op, subject = state.subject, cause = state.cause,
    hint = state.hint and state.hint .. "; " .. way or way,
    log = state.log and state.log .. "\nhint: " .. way }, 0)
end

local function start(version, before, state, from)
  local regs = version.rt:start { object = version.obj, params = version.params, state = state,
    from = from }
  version.types = types_read(version, regs)
  local wrong = before and before.obj and not next(version.drains or {})
    and misread(before, version.types)
  for map in pairs(wrong or {}) do
    if version.plan.maps[map].action ~= "kept" then wrong[map] = nil end
  end
  if wrong and next(wrong) then
    error(setmetatable({ fresh_rings = wrong }, swap.FRESH_RINGS), 0)
  end
  return regs
end

local function us_since(start_ns)
  return (uv.hrtime() - start_ns) / 1e3
end

-- All that may fail because there is no more of something (descriptors, memory) comes before the
-- switch: timers and readers are armed, and hear nothing before this turn of the loop is over.
local function arm(host, version, regs)
  version.maps = version.obj and version.obj.maps or {}
  version.sections = version.obj and version.obj.sections or {}
  function version.section_map(name)
    return version.obj and bpf.handover.section(version.obj, name)
  end
  version.regs, version.armed = regs, true
  for _, reg in ipairs(regs) do host:register(version, reg) end
end

local function disarm(version)
  version.armed = nil
  handlers.stop(version)
end

-- Descriptors that are kept back, for what must not fail any more once the new links are there.
local function keep_spare(host)
  local fds = {}
  local spare = setmetatable({}, { __close = function()
    for _, fd in ipairs(fds) do uv.fs_close(fd) end
    fds = {}
  end })
  for i = 1, SPARE do
    local fd, text, code = uv.fs_open("/dev/null", "r", 0)
    if not fd then
      getmetatable(spare).__close()
      error(bpf.error { code = code, op = "swap policy", subject = host.name,
        cause = (text:gsub("^%u+: ", ""):gsub(": /dev/null$", "")),
        hint = "ulimit -n: it needs some more for a moment" }, 0)
    end
    fds[i] = fd
  end
  return spare
end

-- Go over to the new links: the old ones are still there. Raises with all as it was.
local function switch(host, version, before)
  persist.prepare(host, version, before)
  local txn = links.switch(before and before.slots or {}, version.wanted, version.kept,
    version.desc.allow_gap)
  version.plan.links = txn.report
  version.slots, version.overlap = txn.slots, txn.overlap
  local ok, err = pcall(persist.links, host, version)
  if ok then
    links.between(txn)
    return txn
  end
  version.slots = {}
  links.undo(txn)
  error(err, 0)
end

local function tell_dropped(host, version, before, n)
  version.plan.dropped, host.dropped = n, host.dropped + n
  local text = ("%d record%s dropped: the handler waited longer than %g s (limits.finish)")
    :format(n, n == 1 and "" or "s", before.finish)
  table.insert(version.plan.problems, text)
  host.log:warn("%s", text)
end

-- The new links are there, and there is no way back: what cannot be done is told.
local function complete(host, version, before, keep)
  local problems = version.plan.problems
  local function try(what, fn, ...)
    local ok, result = pcall(fn, ...)
    if ok then return result end
    problems[#problems + 1] = ("%s: %s"):format(what, tostring(result))
    host.log:error(problems[#problems])
  end
  try("new initial values", maps.store, version)
  version.plan.stored = try("stores of start", version.rt.commit, version.rt)
  if before and before.rt then
    local dropped = try("end of handlers", handlers.end_readers, before, keep) or 0
    if dropped > 0 then tell_dropped(host, version, before, dropped) end
    try("end of handlers", handlers.stop, before, keep)
  end
  version.fresh = nil
  host.current = version
end

-- Readers of rings that the new version has not taken over: they go on until these are empty.
function swap.draining(version, before)
  if not before or not before.rt then return nil end
  local keep
  for _, reg in ipairs(before.regs or {}) do
    if reg.kind == "on" and version.drains and version.drains[reg.map] then
      keep = keep or {}
      keep[reg.id] = reg.map
    end
  end
  return keep
end

-- Put version in the place of before (nil: nothing). how: reason, from, state, state_given,
-- no_state. Raises with all as it was; an error of swap.FRESH_RINGS asks to be staged again with
-- new rings.
function swap.swap(host, version, before, how)
  local begin = uv.hrtime()
  local plan = version.plan
  local keep = swap.draining(version, before)
  local state = saved_state(host, before, how)
  maps.carry(version, before)
  local regs = start(version, before, state, how.from)
  if us_since(begin) > 1000 then maps.carry(version, before) end
  local switched = uv.hrtime()
  local ok, txn = pcall(function()
    local _spare <close> = not (version.kept and not version.desc.persist) and keep_spare(host)
      or nil
    arm(host, version, regs)
    switched = uv.hrtime()
    return switch(host, version, before)
  end)
  if not ok then
    disarm(version)
    error(txn, 0)
  end
  links.finish(txn)
  plan.problems = txn.problems
  plan.links_us = us_since(switched)
  complete(host, version, before, keep)
  plan.swap_us = us_since(begin)
  for _, problem in ipairs(maps.finish(version)) do
    table.insert(plan.problems, problem)
    host.log:error(problem)
  end
  version.state = state
  return state, keep
end

-- ---- retire -------------------------------------------------------------------------------------

local function close(host, version, reason)
  if version.closed then return end
  version.closed = true
  local obj = version.obj
  local used = version.lent or host.current and host.current.obj == obj
  if version.rt then
    handlers.stop(version)
    if version.armed then
      local ok, err = pcall(version.rt.call, version.rt, "stop", reason)
      if not ok then host.log:error("stop: " .. (err.log or tostring(err))) end
    end
    metrics.retire(host, version, not used)
    version.rt:close()
  end
  if obj and not obj.closed and not used then obj:close() end
  if version.release then version.release() end
end

-- Let the old version go: at once, or when the rings that only it reads are empty.
function swap.retire(host, version, reason, keep)
  if not keep then return close(host, version, reason) end
  local due = uv.hrtime() + GRACE * 1e9
  host.retiring[version] = loop.every(0.02, function()
    local left = 0
    for id in pairs(keep) do
      local ok, bytes = pcall(version.rt.pending, version.rt, id)
      left = left + (ok and bytes or 0)
    end
    if left > 0 or uv.hrtime() < due then return end
    local handle = host.retiring[version]
    host.retiring[version] = nil
    close(host, version, reason)
    handle:stop()
  end)
end

swap.close = close

return swap
