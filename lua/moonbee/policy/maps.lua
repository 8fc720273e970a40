-- SPDX-License-Identifier: BSD-2-Clause
-- What becomes of maps, rings, sections and variables from one version of a policy to the next.
local bpf = require "moonbee"
local runtime = require "moonbee.runtime"
local plain = require "moonbee.policy.plain"
local set = require "moonbee.policy.set"

local handover = bpf.handover
local FN = runtime.FUNCTION

local maps = {}

local RINGS = { ringbuf = true, perf_event_array = true }

local function lookup(list, name)
  for key, m in pairs(list) do
    if key == name then return m end
  end
end

-- ---- maps ---------------------------------------------------------------------------------------

local function refuse(host, m, why)
  error(bpf.error { code = "EEXIST", op = "keep map", subject = m.name,
    cause = ("policy '%s': it differs from the one in force: %s"):format(host.name, why),
    hint = 'on_mismatch = "migrate" takes the entries over, "replace" begins anew' }, 0)
end

-- Is every event type that the version before reads from this ring laid out the same?
local function ring_same(before, obj, name)
  local types = before.types
  if before.adopted and not (types and types[name]) then return false end
  for typename, T in pairs(types and types[name] or {}) do
    local ok, now = pcall(function() return obj.types[typename] end)
    if not ok or bpf.diff(T, now) then return false, typename end
  end
  return true
end

-- The new object's map is the old one from now on. Of sizes the kernel makes others than were asked
-- for (a ring's is a power of two): m:reuse knows.
local function try_reuse(m, old)
  return (pcall(handover.reuse, m, old)) or (pcall(m.reuse, m, old))
end

local function keep_ring(version, obj, m, old, before, options)
  local same, typename = ring_same(before, obj, m.name)
  local forced = options.fresh_rings and options.fresh_rings[m.name]
  if m.type == "ringbuf" and same and not forced and try_reuse(m, old) then return "kept" end
  version.drains[m.name] = true
  if before.adopted and not before.types then return "new", "what it holds is not known" end
  return "new", typename and ("%s changed"):format(typename) or forced or "its size changed"
end

local function may_keep_timers(version, name)
  local keep = version.desc.keep_timers
  if type(keep) ~= "table" then return keep == true end
  for _, known in ipairs(keep) do
    if known == name then return true end
  end
  return keep[name] == true
end

-- The map differs: what becomes of it, and why. A function is asked with the differences as of
-- bpf.diff, and the map's name.
local function mismatch(host, version, m, old)
  local diff = bpf.diff(old, m)
  if not diff then
    m:reuse(old) -- raises why it cannot be
    return "kept"
  end
  local how = version.desc.on_mismatch
  if how == FN then
    diff.map = m.name
    how = version.rt:call("on_mismatch", diff, m.name)
  end
  if how == "migrate" then
    version.migrations[#version.migrations + 1] = { name = m.name, old = old }
    return "migrated", diff.text
  elseif how == "replace" then
    return "replaced", diff.text
  elseif how == "adopt" or how == "keep" then
    m:reuse(old, how)
    return "kept", diff.text
  end
  refuse(host, m, diff.text)
end

-- What is pinned where this map is to be, of another version or of somebody else's. Nothing at a
-- pin changes before the version is in force (maps.pin): one that fails would have replaced what
-- the version in force needs, or the last good one.
local function pinned_there(version, m, path)
  local ok, there = pcall(bpf.pinned, path)
  if not ok then
    if there.code == "ENOENT" or version.scratch then return nil end
    error(there, 0)
  end
  version.borrowed[#version.borrowed + 1] = there
  if bpf.type(there) == "map" then return there end
  error(bpf.error { code = "EEXIST", op = "pin map", subject = m.name,
    cause = ("a %s is pinned at %s"):format(bpf.type(there), path),
    hint = "give another pin_root, or remove what is there" }, 0)
end

local function take_over(host, version, obj, m, before, options)
  local path = m.pin_by_name and version.desc.pin_root
    and ("%s/%s"):format(version.desc.pin_root, m.name)
  local own = before and lookup(before.maps, m.name)
  local old = own or path and pinned_there(version, m, path)
  version.pin_paths[m.name] = path or nil
  if m.type == "struct_ops" or not old then return "new" end
  if own and m.type == "prog_array" then return "refilled" end
  if own and RINGS[m.type] then return keep_ring(version, obj, m, old, before, options) end
  if own and handover.has_timer(m) and not may_keep_timers(version, m.name) then
    return "new", "it has timers, and keep_timers does not name it"
  end
  if try_reuse(m, old) then return "kept" end
  return mismatch(host, version, m, old)
end

-- ---- sections -----------------------------------------------------------------------------------

local function is_constant(name)
  return name:find "^%.rodata" or name == ".kconfig"
end

local function is_view(x)
  return bpf.type(x) == "view"
end

-- The part of a section's bytes that a variable is.
local function part(image, field)
  return image:sub(field.offset + 1, field.offset + field.type.size)
end

local function field_of(T, name)
  for _, field in ipairs(T.fields) do
    if field.name == name then return field end
  end
end

-- For each variable of both sections whose initial value the edit changed: was it tuned?
local function edited(version, before, name, new, old)
  local was_image, is_image = before.images and before.images[name], version.images[name]
  local taken, tuned = {}, {}
  if not was_image then return taken, tuned end
  local T, was_T = bpf.typeof(new), bpf.typeof(old)
  local live = bpf.bytes(old)
  for _, field in ipairs(T.fields) do
    local was = field_of(was_T, field.name)
    local a = was and set.plain(bpf.cast(was_T, was_image)[field.name])
    local b = was and set.plain(bpf.cast(T, is_image)[field.name])
    if was and not plain.same(a, b) then
      local list = part(live, was) == part(was_image, was) and taken or tuned
      list[#list + 1] = field.name
    end
  end
  return taken, tuned
end

local function plan_section(version, obj, before, name, new)
  if is_constant(name) then return "new" end
  local old = lookup(before.sections, name)
  if not is_view(new) or not is_view(old) then
    local m, was = handover.section(obj, name), before.section_map(name)
    return m and was and try_reuse(m, was) and "kept" or "new"
  end
  local taken, tuned = edited(version, before, name, new, old)
  version.edits[name] = { taken = taken, tuned = tuned }
  for _, var in ipairs(taken) do version.plan.vars[var] = "new initial value" end
  for _, var in ipairs(tuned) do
    version.plan.vars[var] = "keeps its tuned value, though the edit changed the initial one"
  end
  local was = before.section_map(name)
  if was and try_reuse(handover.section(obj, name), was) then return "kept" end
  version.carry[name] = true
  return "carried"
end

-- ---- before load, after load --------------------------------------------------------------------

local function begin(version)
  version.drains, version.migrations, version.carry, version.edits = {}, {}, {}, {}
  version.pin_paths, version.borrowed = {}, {}
end

-- Decide for each map and section of an open object; what is kept is put into it. Raises where a
-- map does not fit, and nobody said what then.
function maps.prepare(host, version, obj, before, options)
  begin(version)
  version.scratch = options.scratch
  local plan = version.plan
  for name, m in pairs(obj.maps) do
    local action, why = take_over(host, version, obj, m, before, options)
    plan.maps[name] = { action = action, why = why }
  end
  for name, section in pairs(obj.sections) do
    local action = before and plan_section(version, obj, before, name, section) or "new"
    plan.sections[name] = { action = action }
  end
end

-- The object stays: so do its maps. A perf buffer's reader is a new one, though.
function maps.kept(version, before)
  begin(version)
  for name, m in pairs(before.obj.maps) do
    version.plan.maps[name] = { action = "kept" }
    if m.type == "perf_event_array" then version.drains[name] = true end
  end
  for name in pairs(before.obj.sections) do version.plan.sections[name] = { action = "kept" } end
end

-- Migrations begin as soon as both maps are there.
function maps.loaded(version)
  for _, each in ipairs(version.migrations) do
    if not bpf.migration then
      error(bpf.error { code = "ENOTSUP", op = "keep map", subject = each.name,
        cause = "this build cannot migrate maps" }, 0)
    end
    each.migration = bpf.migration(each.old, version.obj.maps[each.name])
    each.report = each.migration:copy()
  end
end

local function give_back(version)
  for _, m in ipairs(version.borrowed or {}) do m:close() end
  version.borrowed = {}
end

-- The swap is over: what is in force is what is pinned. Returns what could not be done.
function maps.pin(version)
  local failed = {}
  for name, path in pairs(version.pin_paths or {}) do
    local m = lookup(version.obj.maps, name)
    local ok, err = pcall(function()
      if m.pin_path == path then return end
      if not m.pin_path then return m:pin(path, { replace = true }) end
      local other = handover.adopt(m.fd, name) -- a handle knows one pin, and it has persist's
      local done, why = pcall(other.pin, other, path, { replace = true })
      other:close()
      if not done then error(why, 0) end
    end)
    if not ok then failed[#failed + 1] = tostring(err) end
  end
  return failed
end

function maps.discard(version)
  give_back(version)
  for _, each in ipairs(version.migrations or {}) do
    if each.migration then each.migration:close() end
    each.migration = nil
  end
end

-- ---- the swap -----------------------------------------------------------------------------------

local function carry(version, before, name)
  local new, old = version.obj.sections[name], before.sections[name]
  local skip, names = {}, {}
  for _, var in ipairs(version.edits[name].taken) do skip[var] = true end
  for _, field in ipairs(bpf.typeof(new).fields) do
    if not skip[field.name] and field_of(bpf.typeof(old), field.name) then
      names[#names + 1] = field.name
    end
  end
  local _, refused = bpf.carry(new, old, { names = names })
  for var, why in pairs(refused or {}) do version.plan.vars[var] = "not carried over: " .. why end
end

local function refill(version, before, name)
  local old, new = before.maps[name], version.obj.maps[name]
  local by_id = {}
  for id, program in pairs(before.programs or {}) do by_id[id] = program end
  for program, prog in pairs(before.obj.progs or {}) do
    if prog.id then by_id[prog.id] = program end
  end
  local filled = 0
  for key, prog in pairs(old) do
    local id = type(prog) == "number" and prog or prog.id
    local program = by_id[id]
    local target = program and lookup(version.obj.progs, program)
    if target and target.loaded then
      new:set(key, target)
      filled = filled + 1
    end
    if bpf.type(prog) == "program" then prog:close() end
  end
  version.plan.maps[name].entries = filled
end

-- Before the programs are switched: all that the new ones must find. May be called again.
function maps.carry(version, before)
  if version.kept or not version.obj then return end
  for name in pairs(version.carry or {}) do carry(version, before, name) end
  for name, entry in pairs(version.plan.maps) do
    if entry.action == "refilled" then refill(version, before, name) end
  end
  for _, each in ipairs(version.migrations or {}) do each.report = each.migration:copy() end
end

-- After the switch: initial values that the edit changed in a section that is kept.
function maps.store(version)
  for name, edit in pairs(version.edits or {}) do
    if not version.carry[name] and #edit.taken > 0 then
      local section = version.obj.sections[name]
      bpf.carry(section, bpf.cast(bpf.typeof(section), version.images[name]),
        { names = edit.taken })
    end
  end
end

-- And the last entries that the old programs wrote. Returns what could not be done: the new
-- programs are in force.
function maps.finish(version)
  local failed = {}
  for _, each in ipairs(version.migrations or {}) do
    local ok, report = pcall(each.migration.finish, each.migration)
    each.migration:close()
    each.migration = nil
    local entry = version.plan.maps[each.name]
    if ok then
      entry.entries, entry.late, entry.conflicts = report.entries, report.late, report.conflicts
    else
      failed[#failed + 1] = ("map '%s': the last entries: %s"):format(each.name, tostring(report))
    end
  end
  version.migrations = {}
  give_back(version)
  return failed
end

return maps
