-- SPDX-License-Identifier: BSD-2-Clause
-- Where a policy's programs are attached, and how that goes over to its next version: a list of
-- steps, each of which can be taken back until all are done.
local bpf = require "moonbee"
local uv = require "luv"
local overlaps = require "moonbee.policy.overlap"
local plain = require "moonbee.policy.plain"

local links = {}

local function fail(name, subject, cause, hint)
  error(bpf.error { code = "EINVAL", op = "attach policy", subject = name,
    cause = ("%s: %s"):format(subject, cause), hint = hint }, 0)
end

-- ---- what is wanted -----------------------------------------------------------------------------

-- The program, or the struct_ops map, of this name; nil: none.
local function target_of(obj, name)
  for program, prog in pairs(obj.progs) do
    if program == name then return prog, "program" end
  end
  for map, m in pairs(obj.maps) do
    if map == name and m.type == "struct_ops" then return m, "ops" end
  end
end

local function names_of(obj)
  local names = {}
  for name in pairs(obj.progs) do names[#names + 1] = name end
  for name, m in pairs(obj.maps) do
    if m.type == "struct_ops" then names[#names + 1] = name end
  end
  table.sort(names)
  return names
end

local function is_list(how)
  return how[1] ~= nil or next(how) == nil
end

-- "on_xdp on eth0"
local function describe(name, options)
  if not options or not next(options) then return name end
  local words, keys = {}, {}
  for key in pairs(options) do keys[#keys + 1] = key end
  table.sort(keys)
  for i, key in ipairs(keys) do words[i] = ("%s=%s"):format(key, tostring(options[key])) end
  return ("%s (%s)"):format(name, table.concat(words, ", "))
end

local function add(list, obj, name, options)
  local target, kind = target_of(obj, name)
  if options and not next(options) then options = nil end
  local hook = plain.dump {
    options or {}, kind == "ops" and "ops" or target.type,
    not options and (kind == "program" and target.section or name) or nil,
  }
  list[#list + 1] = { program = name, target = target, kind = kind, options = options, hook = hook,
    title = describe(name, options) }
end

local function add_named(list, policy, obj, name, how)
  local target = target_of(obj, name)
  if not target then
    local names = names_of(obj)
    local near = require "moonbee.near" (name, names)
    fail(policy, ("attach.%s"):format(name), "the object has no such program",
      near and ("did you mean '%s'?"):format(near) or "it has " .. table.concat(names, ", "))
  end
  if how == false then return end
  if how == true then return add(list, obj, name) end
  if not is_list(how) then return add(list, obj, name, how) end
  for i, options in ipairs(how) do
    if type(options) ~= "table" then
      fail(policy, ("attach.%s[%d]"):format(name, i), "it is no table of options")
    end
    add(list, obj, name, options)
  end
end

-- The attachments that a policy wants: by its table attach, else as the sections say.
function links.wanted(policy, obj, attach)
  local list = {}
  attach = attach or {}
  for _, name in ipairs(names_of(obj)) do
    local target, kind = target_of(obj, name)
    if attach[name] == nil and (kind == "ops" or target.autoload and target.attaches) then
      add(list, obj, name)
    end
  end
  for name, how in pairs(attach) do add_named(list, policy, obj, name, how) end
  table.sort(list, function(a, b)
    if a.program ~= b.program then return a.program < b.program end
    return a.hook < b.hook
  end)
  local seen = {}
  for _, slot in ipairs(list) do -- the same twice: numbered
    local key = slot.program .. " " .. slot.hook
    seen[key] = (seen[key] or 0) + 1
    slot.key = ("%s %d"):format(key, seen[key])
  end
  return list
end

-- ---- steps --------------------------------------------------------------------------------------

local function attach(slot)
  return slot.target:attach(slot.options)
end

local function timed(fn, ...)
  local start = uv.hrtime()
  local result = table.pack(pcall(fn, ...))
  return (uv.hrtime() - start) / 1e3, table.unpack(result, 1, result.n)
end

local function note(txn, slot, action, us)
  txn.entries[slot] = { link = slot.title, action = action, us = us }
end

local TAKEN = { EBUSY = true, EEXIST = true }

-- The hook has room for one: the old link must go first.
local function with_gap(txn, slot, old, refused)
  if not TAKEN[refused.code] then error(refused, 0) end
  if not txn.allow_gap then
    error(bpf.error { code = refused.code, op = "attach program", subject = slot.program,
      cause = refused.cause, hint = "the hook is taken by the version before, and the kernel "
        .. "cannot swap it: allow_gap = true lets it go first" }, 0)
  end
  old.link:detach()
  txn.undo[#txn.undo + 1] = function() old.link = attach(old) end
  slot.link = attach(slot)
  txn.undo[#txn.undo + 1] = function() slot.link:detach() end
  return "gap"
end

local function overlap(txn, slot, old)
  txn.overlap:count()
  local ok, link = pcall(attach, slot)
  if not ok then return with_gap(txn, slot, old, link) end
  slot.link = link
  txn.undo[#txn.undo + 1] = function() link:detach() end
  txn.overlap:add(slot, old)
  txn.finish[#txn.finish + 1] = function() old.link:detach() end
  return "overlapped"
end

-- Which refusals of update mean "not this kind of link" and not "not now"?
local CANNOT = { EOPNOTSUPP = true, EINVAL = true, ENOTSUP = true }

-- In one step; false: the kernel cannot.
local function update(txn, slot, old)
  local us, ok, err = timed(old.link.update, old.link, slot.target)
  if ok then
    slot.link = old.link
    if old.target then
      txn.undo[#txn.undo + 1] = function() old.link:update(old.target) end
    end
    note(txn, slot, "updated", us)
    return true
  end
  if bpf.type(err) ~= "error" or not CANNOT[err.code] then error(err, 0) end
  return false
end

local function replace(txn, slot, old)
  local us, ok, action = timed(overlap, txn, slot, old)
  if not ok then error(action, 0) end
  note(txn, slot, action, us)
end

-- Old slots, each with the wanted one that follows it: the same program and options, else the same
-- hook (another program, or another name of it). Returns these, and the set of those that go.
function links.pair(old_slots, wanted)
  local free, followed = {}, {}
  for _, old in ipairs(old_slots) do free[old] = true end
  for _, by in ipairs { "key", "hook" } do
    for _, slot in ipairs(wanted) do
      for _, old in ipairs(old_slots) do
        if not followed[slot] and free[old] and old[by] == slot[by] then
          followed[slot], free[old] = old, nil
        end
      end
    end
  end
  return followed, free
end

local function attach_new(txn, slot)
  local us, ok, link = timed(attach, slot)
  if not ok then error(link, 0) end
  slot.link = link
  txn.undo[#txn.undo + 1] = function() link:detach() end
  note(txn, slot, "attached", us)
end

-- Those that overlap come last: updates may take long (XDP's a grace period), and events that come
-- meanwhile would be doubled.
local function switch(txn, followed, wanted, kept)
  local overlapping = {}
  for _, slot in ipairs(wanted) do
    local old = followed[slot]
    if old and kept and old.key == slot.key then
      slot.link = old.link
      note(txn, slot, "kept")
    elseif not old then
      attach_new(txn, slot)
    elseif not update(txn, slot, old) then
      overlapping[#overlapping + 1] = slot
    end
  end
  for _, slot in ipairs(overlapping) do replace(txn, slot, followed[slot]) end
end

-- Go over from the old slots to the wanted ones. kept: the object is the same, so what is attached
-- stays. Returns a transaction: slots, report, overlap (overlap.lua), problems; then between()
-- and finish(), or undo().
-- Raises with all taken back.
function links.switch(old_slots, wanted, kept, allow_gap)
  local txn = { slots = wanted, old_slots = old_slots, entries = {}, report = {}, undo = {},
    finish = {}, problems = {}, allow_gap = allow_gap, overlap = overlaps.new() }
  local followed, gone = links.pair(old_slots, wanted)
  local ok, err = pcall(switch, txn, followed, wanted, kept)
  if not ok then
    links.undo(txn)
    error(err, 0)
  end
  for i, slot in ipairs(wanted) do txn.report[i] = txn.entries[slot] end
  for old in pairs(gone) do
    note(txn, old, "detached")
    txn.report[#txn.report + 1] = txn.entries[old]
    txn.finish[#txn.finish + 1] = function() old.link:detach() end
  end
  return txn
end

-- Take all steps back, the last one first. Returns what could not be.
function links.undo(txn)
  local failed = {}
  for i = #txn.undo, 1, -1 do
    local ok, err = pcall(txn.undo[i])
    if not ok then failed[#failed + 1] = tostring(err) end
  end
  txn.undo, txn.finish = {}, {}
  txn.overlap:close()
  return failed
end

-- All new links are there, and so are the old ones.
function links.between(txn)
  local ok, err = pcall(txn.overlap.between, txn.overlap, txn.slots, txn.old_slots)
  if not ok then
    table.insert(txn.problems, "doubled events are not counted: " .. tostring(err))
  end
end

-- Now the old links go. What cannot be done is in problems.
function links.finish(txn)
  for _, fn in ipairs(txn.finish) do
    local ok, err = pcall(fn)
    if not ok then table.insert(txn.problems, tostring(err)) end
  end
end

-- Will the old link and the new one be there together for a moment, so that both handle an event?
function links.overlaps(old)
  return old.link ~= nil and not old.link.updatable
end

-- Detach all: the policy ends.
function links.detach(slots)
  local failed = {}
  for _, slot in ipairs(slots) do
    if slot.link and not slot.link.closed then
      local ok, err = pcall(slot.link.detach, slot.link)
      if not ok then failed[#failed + 1] = tostring(err) end
    end
  end
  return failed
end

return links
