-- SPDX-License-Identifier: BSD-2-Clause
-- The handlers of a policy version on the host's event loop: each is a call into the version's own
-- state, and what waits there waits here.
local loop = require "moonbee.loop"

local handlers = {}

-- Run one to its end, in a coroutine of the loop. heard(text): an error of the policy's.
local function run(version, id, heard)
  local rt = version.rt
  local status, a, task = rt:fire(id)
  while status == "wait" do
    loop.sleep(a)
    if version.closed then return end
    status, a, task = rt:resume(task)
  end
  if status == "error" then heard(a, id) end
  if version.settled then version.settled() end
  return status
end

local function wait_while_held(version, id)
  while version.held and version.held[id] do
    loop.await(function(wake) table.insert(version.held[id], wake) end)
  end
end

-- A reader as loop.on wants one: a turn of its drain is a drain in the policy's state.
local function reader_of(version, reg, heard)
  local self = { name = reg.map, fd = reg.fd }
  function self.drain()
    local done
    return function()
      if done then return nil end
      done = true
      wait_while_held(version, reg.id)
      run(version, reg.id, heard)
      return nil
    end
  end
  return self
end

-- Arm what a version registered: { id, kind, seconds, fd, map }.
function handlers.arm(version, reg, heard)
  local handle
  if reg.kind == "every" then
    handle = loop.every(reg.seconds, function() run(version, reg.id, heard) end)
  elseif reg.kind == "after" then
    handle = loop.after(reg.seconds, function()
      version.handles[reg.id] = nil
      run(version, reg.id, heard)
    end)
  else
    handle = loop.on(reader_of(version, reg, heard), function() end)
  end
  version.handles[reg.id] = handle
end

-- One ended itself (handle:stop() in the policy). What runs goes on to its end.
function handlers.drop(version, id)
  local handle = version.handles[id]
  version.handles[id] = nil
  if handle then handle:stop() end
end

-- End all but those in keep (a set of ids).
function handlers.stop(version, keep)
  for id, handle in pairs(version.handles) do
    if not (keep and keep[id]) then
      version.handles[id] = nil
      handle:stop()
    end
  end
end

-- ---- between two versions -----------------------------------------------------------------------

-- Readers whose handler waits in the middle of a record, but those in keep: a set of ids.
local function at_work(version, keep)
  local ids = {}
  for _, reg in ipairs(version.regs or {}) do
    if reg.kind == "on" and version.rt.busy[reg.id] and not (keep and keep[reg.id]) then
      ids[reg.id] = true
    end
  end
  return ids
end

-- Wait until no handler is in the middle of a record, at most some seconds: the state is saved
-- next, and another version drains the ring. Those that are end it, and take no other.
function handlers.settle(version, keep, seconds)
  local late = false
  local timer = loop.after(seconds, function()
    late = true
    if version.settled then version.settled() end
  end)
  local _stop <close> = setmetatable({}, { __close = function() timer:stop() end })
  version.held = {}
  while not late do
    local ids = at_work(version, keep)
    if not next(ids) then break end
    for id in pairs(ids) do
      if not version.held[id] then
        version.held[id] = {}
        version.rt:hold(id, true)
      end
    end
    loop.await(function(wake) version.settled = wake end)
  end
  version.settled = nil
end

-- It stays in force: they go on.
function handlers.release(version)
  local held = version.held
  version.held, version.settled = nil, nil
  for id, wakes in pairs(held or {}) do
    if not version.rt.closed then version.rt:hold(id, nil) end
    for _, wake in ipairs(wakes) do wake() end
  end
end

-- What still is in the middle of a record is ended, so that another may drain the ring; the
-- record goes with it. Returns how many.
function handlers.end_readers(version, keep)
  return version.rt:end_waiting(at_work(version, keep))
end

return handlers
