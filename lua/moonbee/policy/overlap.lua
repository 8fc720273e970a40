-- SPDX-License-Identifier: BSD-2-Clause
-- How many events two versions of a program both handled while their links overlapped.
--
-- The kernel counts the runs of programs (bpf.stats) from before the first new link is attached.
-- While both versions are attached each event is one run of both, so that the old one's runs less
-- the new one's are what they were when the new one came: that much the old one handled alone.
-- What it has run more often than that at its end, when it is detached and no run of it is left
-- (a grace period later), it shared with the new one.
--
-- The counts are read one by one, under load: where events come without a moment between, what is
-- told is a range (engine/overlap.c), of as many events as there are CPUs.
local bpf = require "moonbee"
local loop = require "moonbee.loop"
local uv = require "luv"

local overlap = {}
overlap.__index = overlap

function overlap.new()
  return setmetatable({ pairs = {} }, overlap)
end

local function runs(prog)
  return prog.stats.run_count
end

-- Begin to count: before the first new link is attached. What cannot be is no reason not to swap.
function overlap:count()
  if self.stats or self.why then return end
  local ok, stats = pcall(bpf.stats)
  if ok then
    self.stats = stats
  else
    self.why = ("the kernel does not count runs: %s"):format(bpf.type(stats) == "error"
      and stats.cause or tostring(stats))
  end
end

-- A new link is attached beside an old one. slot, old: as links.lua has them.
function overlap:add(slot, old)
  if slot.kind == "ops" then return end -- it is no program that events run
  self.pairs[#self.pairs + 1] = { slot = slot, old = old }
end

-- ---- what can be counted ------------------------------------------------------------------------

local function id_of(slot)
  return slot.target and slot.target.id or slot.link and slot.link.prog_id
end

-- Runs are counted by program: right for its links if each of them overlaps with one of the same
-- other program's.
local function reason(group, wanted, old_slots)
  local prog = group.slot.target
  if prog.type == "perf_event" then return "each of the two samples by itself" end
  if prog.section:match "^[^/]*":find "%.s$" then
    return "it may sleep: nobody knows when it ends"
  end
  if group.mixed then return "its links overlap with those of several programs" end
  for _, slot in ipairs(wanted) do
    if id_of(slot) == group.new_id and not group.new_slots[slot] then
      return "it has links that do not overlap"
    end
  end
  for _, old in ipairs(old_slots) do
    if id_of(old) == group.old_id and not group.old_slots[old] then
      return "the version before has links that do not overlap"
    end
  end
end

-- The pairs by their programs.
local function grouped(list)
  local groups, by_old, by_new = {}, {}, {}
  for _, pair in ipairs(list) do
    local old_id, new_id = id_of(pair.old), id_of(pair.slot)
    local group = by_new[new_id] or by_old[old_id]
    if not group then
      group = { slot = pair.slot, old_id = old_id, new_id = new_id, links = 0, old_slots = {},
        new_slots = {} }
      groups[#groups + 1] = group
    end
    group.mixed = group.mixed or group.old_id ~= old_id or group.new_id ~= new_id
    by_old[old_id or 0], by_new[new_id or 0] = group, group
    group.links = group.links + 1
    group.old_slots[pair.old], group.new_slots[pair.slot] = true, true
  end
  return groups
end

-- ---- counting -----------------------------------------------------------------------------------

local function begin(group)
  -- handles of our own: the old object is closed before the count is over
  group.old, group.new = bpf.program(group.old_id), bpf.program(group.new_id)
  group.misses = group.old.stats.recursion_misses
  group.least, group.most = bpf.handover.alone(group.old, group.new)
end

-- All new links are attached, and all old ones still are.
function overlap:between(wanted, old_slots)
  self.groups = grouped(self.pairs)
  for _, group in ipairs(self.groups) do
    group.why = self.why or reason(group, wanted, old_slots)
    if not group.why then
      local ok, err = pcall(begin, group)
      if not ok then group.why = tostring(err) end
    end
  end
end

-- Until no program that was detached by now is still at work.
local function grace()
  local fd <const> = bpf.handover.grace()
  local _close <close> = setmetatable({}, { __close = function() bpf.rundir.close_fd(fd) end })
  local poll
  loop.await(function(wake)
    poll = assert(uv.new_poll(fd))
    poll:start("r", function() wake() end)
    return function() poll:close() end
  end)
  poll:close()
end

local function result(group)
  local entry = { program = group.slot.program, links = group.links, why = group.why }
  if group.why then return entry end
  -- an event that one of them missed was not handled twice
  local misses = group.new.stats.recursion_misses + group.old.stats.recursion_misses
    - group.misses
  local total = runs(group.old)
  local least, most = math.max(0, total - group.most - misses), total - group.least
  if least == most then
    entry.events = most
  else
    entry.least, entry.most = least, most
  end
  return entry
end

-- The old links are gone. Waits in a coroutine of the loop, and returns for each program
-- { program, links, events | least, most | why }; nil: nothing overlapped.
function overlap:finish()
  local _end <close> = self
  if not self.groups or not self.groups[1] then return nil end
  local ok, err = pcall(grace)
  local list = setmetatable({}, { __jsontype = "array" })
  for i, group in ipairs(self.groups) do
    if not ok then group.why = group.why or tostring(err) end
    list[i] = result(group)
  end
  return list
end

function overlap:close()
  for _, group in ipairs(self.groups or {}) do
    if group.old and not group.old.closed then group.old:close() end
    if group.new and not group.new.closed then group.new:close() end
  end
  if self.stats and not self.stats.closed then self.stats:close() end
end
overlap.__close = overlap.close

return overlap
