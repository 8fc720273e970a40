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
  return status
end

-- A reader as loop.on wants one: a turn of its drain is a drain in the policy's state.
local function reader_of(version, reg, heard)
  local self = { name = reg.map, fd = reg.fd }
  function self.drain()
    local done
    return function()
      if done then return nil end
      done = true
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

-- What waits in the middle of a record is ended, so that another may drain the ring.
function handlers.end_readers(version)
  local ids = {}
  for _, reg in ipairs(version.regs or {}) do
    if reg.kind == "on" then ids[reg.id] = true end
  end
  version.rt:end_waiting(ids)
end

return handlers
