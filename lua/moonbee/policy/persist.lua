-- SPDX-License-Identifier: BSD-2-Clause
-- persist = true: links, programs and maps stay in force when the process does not, under
-- pin_root/_moonbee/NAME, and are taken up again by the next one.
--
-- Pins' names tell what they are: map-NAME-GEN, prog-NAME-GEN, link-NAME-KEY-HOOK-GEN. KEY and HOOK
-- are digests of a slot's (links.lua), GEN is a time, so that the pins of two versions lie beside
-- each other for the moment of the swap: whenever the process is killed, what is attached is there,
-- and what its programs use. Dots, which bpffs refuses, are written as "+".
local bpf = require "moonbee"
local uv = require "luv"

local persist = {}

local MODE = tonumber("700", 8)

local function digest(text)
  local h = 0xcbf29ce484222325 -- FNV-1a
  for i = 1, #text do h = (h ~ text:byte(i)) * 0x100000001b3 end
  return ("%016x"):format(h):sub(1, 12)
end

local function generation()
  return ("%x"):format(uv.hrtime())
end

local function directory(host, desc)
  return ("%s/_moonbee/%s"):format(desc.pin_root, host.name)
end

local function make(path)
  local at = path:find("/", 2, true)
  while at do -- each directory above
    uv.fs_mkdir(path:sub(1, at - 1), MODE)
    at = path:find("/", at + 1, true)
  end
  local ok, text, code = uv.fs_mkdir(path, MODE)
  if ok or code == "EEXIST" then return end
  error(bpf.error { code = code, op = "make pin directory", subject = path,
    cause = text:gsub("^%u+: ", "") }, 0)
end

local function list(dir)
  local names, scan = {}, uv.fs_scandir(dir)
  while scan do
    local name = uv.fs_scandir_next(scan)
    if not name then break end
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

-- ---- names --------------------------------------------------------------------------------------

local function plain_name(name)
  return (name:gsub("%.", "+"))
end

local function parse(name)
  local kind, rest, gen = name:match "^(%a+)%-(.+)%-(%x+)$"
  if not kind then return nil end
  local entry = { kind = kind, name = rest:gsub("%+", "."), gen = tonumber(gen, 16), pin = name }
  if kind == "link" then
    entry.name, entry.key, entry.hook = rest:match "^(.+)%-(%x+)%-(%x+)$"
    if not entry.name then return nil end
  end
  return entry
end

local function link_name(slot, gen)
  return ("link-%s-%s-%s-%s"):format(plain_name(slot.program), digest(slot.key), digest(slot.hook),
    gen)
end

local function base(path)
  return path:match "[^/]+$"
end

-- ---- keeping ------------------------------------------------------------------------------------

local OWNERS = "/_moonbee_owner" -- pin.c's: a record for each pin of ours, by the same name

local function remove(dir, names)
  for _, name in ipairs(names) do
    uv.fs_unlink(dir .. "/" .. name)
    uv.fs_unlink(dir .. OWNERS .. "/" .. name)
  end
end

-- Maps of an object, data sections too, but those that have a pin elsewhere: name -> handle.
local function all_maps(version, dir)
  local found = {}
  for name, m in pairs(version.obj.maps) do
    local path = m.pin_path
    if not path or path:sub(1, #dir + 1) == dir .. "/" then found[name] = m end
  end
  for name in pairs(version.obj.sections) do
    found[name] = bpf.handover.section(version.obj, name)
  end
  return found
end

-- Before the switch: pin what the new programs are and use. A map that stays has its pin.
function persist.prepare(host, version, before)
  if not version.desc.persist then return end
  local dir = directory(host, version.desc)
  make(dir)
  version.pins = {}
  if version.kept and before and before.pins then
    for name, id in pairs(before.pins) do version.pins[name] = id end
    return
  end
  local gen = generation()
  local by_id = {}
  for name, id in pairs(before and before.pins or {}) do by_id[id] = name end
  for name, m in pairs(all_maps(version, dir)) do
    local pin = by_id["map " .. m.id]
    if not pin then
      pin = ("map-%s-%s"):format(plain_name(name), gen)
      m:pin(dir .. "/" .. pin)
      version.new_pins = version.new_pins or {}
      table.insert(version.new_pins, pin)
    end
    version.pins[pin] = "map " .. m.id
  end
  for name, prog in pairs(version.obj.progs) do
    if prog.loaded then
      local pin = ("prog-%s-%s"):format(plain_name(name), gen)
      prog:pin(dir .. "/" .. pin)
      version.pins[pin] = "prog " .. prog.id
      version.new_pins = version.new_pins or {}
      table.insert(version.new_pins, pin)
    end
  end
end

-- The swap failed: what was pinned for it goes.
function persist.undo(host, version)
  if version.new_pins then remove(directory(host, version.desc), version.new_pins) end
end

-- After the switch, and before old links go: pin the new ones.
function persist.links(host, version)
  if not version.desc.persist then return end
  local dir = directory(host, version.desc)
  local gen = generation()
  for _, slot in ipairs(version.slots) do
    local link, pin = slot.link, link_name(slot, gen)
    local path = link.pin_path
    -- one that follows another slot keeps its place in the kernel, and gets its own name
    if not path then
      link:pin(dir .. "/" .. pin)
    elseif base(path):sub(1, -#gen - 1) ~= pin:sub(1, -#gen - 1) then
      bpf.handover.move_pin(link, dir .. "/" .. pin)
    end
    version.pins[base(link.pin_path)] = "link " .. link.id
  end
end

-- ---- the service manager's store ----------------------------------------------------------------

local function store_fds(host, version, dir)
  host.stored_fds = host.stored_fds or {}
  local want = {}
  for _, slot in ipairs(version.slots) do want[base(slot.link.pin_path)] = slot.link.fd end
  for name, m in pairs(all_maps(version, dir)) do
    for pin, id in pairs(version.pins) do
      if id == "map " .. m.id and pin:find("map-" .. plain_name(name), 1, true) == 1 then
        want[pin] = m.fd
      end
    end
  end
  for name in pairs(host.stored_fds) do
    if not want[name] then
      host:notify("FDSTOREREMOVE=1\nFDNAME=" .. name)
      host.stored_fds[name] = nil
    end
  end
  for name, fd in pairs(want) do
    if not host.stored_fds[name] then
      host:notify("FDSTORE=1\nFDNAME=" .. name, { fd })
      host.stored_fds[name] = true
    end
  end
end

-- The swap is over: pins of versions before go.
function persist.keep(host, version)
  if not version.desc.persist then
    if host.persisted then persist.clear(host, host.persisted) end
    return
  end
  local dir = directory(host, version.desc)
  if host.persisted and host.persisted ~= dir then persist.clear(host, host.persisted) end
  host.persisted = dir
  local stale = {}
  for _, name in ipairs(list(dir)) do
    if parse(name) and not version.pins[name] then stale[#stale + 1] = name end
  end
  remove(dir, stale)
  version.new_pins = nil
  if os.getenv "NOTIFY_SOCKET" then store_fds(host, version, dir) end
end

-- All pins of ours in dir go, and the directory.
function persist.clear(host, dir)
  remove(dir, list(dir))
  remove(dir, list(dir .. OWNERS)) -- of pins that went otherwise
  uv.fs_rmdir(dir .. OWNERS)
  uv.fs_rmdir(dir)
  uv.fs_rmdir((dir:gsub("/[^/]+$", "")))
  if host.stored_fds then
    for name in pairs(host.stored_fds) do host:notify("FDSTOREREMOVE=1\nFDNAME=" .. name) end
    host.stored_fds = {}
  end
  host.persisted = nil
end

function persist.forget(host)
  if host.persisted then persist.clear(host, host.persisted) end
end

-- ---- adoption -----------------------------------------------------------------------------------

-- What is pinned, or what the service manager kept of it: a list of parsed names with .thing.
local function find(host, desc)
  local dir, found, seen = directory(host, desc), {}, {}
  for _, name in ipairs(list(dir)) do
    local entry = parse(name)
    local ok, thing = pcall(bpf.pinned, dir .. "/" .. name)
    if entry and ok then
      entry.thing = thing
      found[#found + 1] = entry
      seen[name] = true
    end
  end
  host.stored_fds = {}
  for _, passed in ipairs(host.embedded and {} or bpf.service.passed()) do
    host.stored_fds[passed.name] = true -- there until it is taken out
    local entry = not seen[passed.name] and parse(passed.name)
    local ok, thing = pcall(bpf.handover.adopt, passed.fd, passed.name)
    bpf.rundir.close_fd(passed.fd)
    if entry and ok then
      entry.thing, entry.unpinned = thing, true
      found[#found + 1] = entry
    end
  end
  return found
end

-- Handles of maps and programs; the links are slots by now.
local function release(entries)
  for _, entry in ipairs(entries) do
    if entry.kind ~= "link" and not entry.thing.closed then entry.thing:close() end
  end
end

-- The maps that the attached programs use; without links those that were made last.
local function maps_in_use(entries)
  local progs, used = {}, {}
  for _, e in ipairs(entries) do
    if e.kind == "prog" then progs[e.thing.id] = e.thing end
  end
  for _, e in ipairs(entries) do
    local prog = e.kind == "link" and progs[e.thing.prog_id]
    for _, id in ipairs(prog and prog.info.maps or {}) do used[id] = true end
  end
  local maps, at = {}, {}
  for _, e in ipairs(entries) do
    local rank = e.kind == "map" and (used[e.thing.id] and math.huge or e.gen)
    if rank and (not maps[e.name] or rank > at[e.name]) then
      maps[e.name], at[e.name] = e.thing, rank
    end
  end
  return maps, progs
end

local function section_view(m)
  local ok, view = pcall(function() return m:mmap()[0] end)
  return ok and view or nil
end

-- The event types that the version before read, from its object as it was kept.
local function types_of(good)
  if not good or not good.rings or not good.record.object then return nil end
  local ok, obj = pcall(bpf.open, good.record.object, { bytes = true, name = "kept" })
  if not ok then return nil end
  local types = {}
  for map, names in pairs(good.rings) do
    types[map] = {}
    for _, name in ipairs(names) do types[map][name] = obj.types[name] end
  end
  obj:close()
  return types
end

-- What an earlier process of this policy left in force, in the form of the version before; or nil.
function persist.adopt(host, desc)
  local entries = find(host, desc)
  if #entries == 0 then return nil end
  local good = host.good
  local maps, progs = maps_in_use(entries)
  local before = { adopted = true, obj = { closed = true }, maps = {}, sections = {},
    slots = {}, pins = {}, programs = {},
    images = good and good.images, types = types_of(good), label = good and good.label }
  local section_maps = {}
  for name, m in pairs(maps) do
    if name:sub(1, 1) == "." then
      section_maps[name], before.sections[name] = m, section_view(m)
    else
      before.maps[name] = m
    end
  end
  function before.section_map(name) return section_maps[name] end
  for _, e in ipairs(entries) do
    if not e.unpinned then before.pins[e.pin] = ("%s %d"):format(e.kind, e.thing.id) end
    if e.kind == "prog" then before.programs[e.thing.id] = e.name end
    if e.kind == "link" then
      before.slots[#before.slots + 1] = { program = e.name, link = e.thing, digest_key = e.key,
        digest_hook = e.hook, title = e.name, target = progs[e.thing.prog_id] }
    end
  end
  function before.release() release(entries) end
  host.persisted = directory(host, desc)
  host.log:info("taking over what is in force: %d links, %d maps", #before.slots,
    #entries - #before.slots)
  return before
end

-- Which of the wanted slots is an adopted one?
function persist.match(before, wanted)
  for i, old in ipairs(before.slots) do
    old.key, old.hook = "adopted " .. i, "adopted " .. i
    for _, slot in ipairs(wanted) do
      if digest(slot.key) == old.digest_key then old.key = slot.key end
      if digest(slot.hook) == old.digest_hook then old.hook = slot.hook end
    end
  end
end

return persist
