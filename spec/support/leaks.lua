-- SPDX-License-Identifier: BSD-2-Clause
--
-- Finds what a test leaves behind: descriptors and mappings of this process after every test; BPF
-- objects and child processes after every file (listing the kernel's objects is too slow for each
-- test). Other processes own BPF objects, too: what one of them holds is not ours, nor is a name
-- that neither our BPF objects nor the spec knows.

local lfs = require "lfs"
local json = require "dkjson"

local leaks = {}

local function lines_of(path)
  local file <close> = io.open(path)
  return file and file:read "a" or ""
end

-- --- descriptors and mappings -------------------------------------------------------------------

local function descriptors()
  local found = {}
  for fd in lfs.dir "/proc/self/fd" do
    local target = tonumber(fd) and lfs.symlinkattributes("/proc/self/fd/" .. fd, "target")
    -- lfs.dir's own descriptor is among them, and gone by now or soon.
    if target and not target:find "^/proc/%d+/fd$" then found[fd .. " " .. target] = true end
  end
  return found
end

-- Mappings of maps and files by address; code is not counted, as a test may load a module.
local function mappings()
  local found, code = {}, {}
  for line in lines_of "/proc/self/maps":gmatch "[^\n]+" do
    local range, mode, path = line:match "^(%S+) (%S+) %S+ %S+ %S+%s+(%S.*)$"
    -- the kernel's types stay until the state's end, once they were asked for
    local kept = path == "/sys/kernel/btf/vmlinux"
    if path and not kept and (path:find "^/" or path:find "^anon_inode:") then
      found[range .. " " .. path] = path
      if mode:find "x" or path:find "%.so[.%d]*$" then code[path] = true end
    end
  end
  for key, path in pairs(found) do
    if code[path] then found[key] = nil end
  end
  return found
end

local function sorted(set)
  local list = {}
  for key in pairs(set) do list[#list + 1] = key end
  table.sort(list)
  return list
end

local function new_in(after, before)
  local new = {}
  for key in pairs(after) do
    if not before[key] then new[key] = true end
  end
  return sorted(new)
end

local function collect()
  collectgarbage()
  collectgarbage()                      -- what finalizers let go
end

-- The state of this process, to be compared with later.
function leaks.snapshot()
  return { fds = descriptors(), maps = mappings() }
end

-- What is there now and was not then, as text; nil when nothing is.
function leaks.since(before)
  collect()
  local now, report = leaks.snapshot(), {}
  for _, fd in ipairs(new_in(now.fds, before.fds)) do
    report[#report + 1] = "file descriptor " .. fd
  end
  for _, map in ipairs(new_in(now.maps, before.maps)) do
    report[#report + 1] = "mapping " .. map
  end
  return report[1] and "leaked:\n  " .. table.concat(report, "\n  ") or nil
end

-- --- BPF objects of the kernel ------------------------------------------------------------------

local bpftool = lfs.attributes("/usr/sbin/bpftool", "mode") and "/usr/sbin/bpftool" or "bpftool"
local kinds = { "map", "prog", "link" }

-- All there are: { ["map 12"] = {kind, id, name, …} }; nil when we may not see them.
local function objects()
  local found = {}
  for _, kind in ipairs(kinds) do
    local pipe <close> = io.popen(bpftool .. " -j " .. kind .. " show 2>/dev/null </dev/null")
    local list = json.decode(pipe:read "a")
    if type(list) ~= "table" or list.error then return nil end
    for _, object in ipairs(list) do
      object.kind = kind
      -- One that went while bpftool looked at it is an error without an id.
      if object.id then found[kind .. " " .. object.id] = object end
    end
  end
  return found
end

local function parents()
  local parent = {}
  for pid in lfs.dir "/proc" do
    if tonumber(pid) then
      parent[pid] = lines_of("/proc/" .. pid .. "/stat"):match "^%d+ %(.*%) %S (%d+)"
    end
  end
  return parent
end

-- Objects that processes other than this one and its descendants hold by a descriptor.
local function held_by_others()
  local held, parent = {}, parents()
  local self = lines_of "/proc/self/stat":match "^%d+"
  local function ours(pid)
    while pid do
      if pid == self then return true end
      pid = parent[pid]
    end
  end
  for pid in pairs(parent) do
    local dir = "/proc/" .. pid .. "/fd"
    -- A process may end while it is looked at.
    local ok, names, state = pcall(lfs.dir, dir)
    if ok and not ours(pid) then
      for fd in names, state do
        local target = lfs.symlinkattributes(dir .. "/" .. fd, "target")
        if target and target:find "^anon_inode:bpf" then
          local info = lines_of("/proc/" .. pid .. "/fdinfo/" .. fd)
          for _, kind in ipairs(kinds) do
            local id = info:match("\n" .. kind .. "_id:%s*(%d+)")
            if id then held[kind .. " " .. id] = true end
          end
        end
      end
    end
  end
  return held
end

-- The bytes of all that may have given an object its name: our BPF objects and the spec itself.
local function sources(spec)
  local build, text = os.getenv "MB_BUILD" or "build", { lines_of(spec) }
  local function add(dir)
    if lfs.attributes(dir, "mode") ~= "directory" then return end
    for entry in lfs.dir(dir) do
      local path = dir .. "/" .. entry
      if entry:find "%.bpf%.o$" then
        text[#text + 1] = entry         -- x.bpf.o's sections are maps called x.bss, x.data, …
        text[#text + 1] = lines_of(path)
      elseif not entry:find "^%." and lfs.attributes(path, "mode") == "directory" then
        add(path)
      end
    end
  end
  add(build .. "/fixtures")
  add(build .. "/scripts")
  return table.concat(text, "\0")
end

local function named_by_us(object, text, now)
  if object.kind == "link" then
    object = now["prog " .. tostring(object.prog_id)] or object
  end
  local name = object.name and object.name:gsub("%.%a+$", "")
  return name and name ~= "" and text:find(name, 1, true) ~= nil
end

local function pins()
  local found = {}
  local function add(dir)
    local ok, names, state = pcall(lfs.dir, dir)
    if not ok then return end
    for entry in names, state do
      local path = dir .. "/" .. entry
      if entry ~= "." and entry ~= ".." then
        if lfs.symlinkattributes(path, "mode") == "directory" then add(path) end
        found[path] = true
      end
    end
  end
  add "/sys/fs/bpf"
  return found
end

-- A file, or a directory with all that is in it: records of owners, too.
local function remove(path)
  if lfs.symlinkattributes(path, "mode") == "directory" then
    for entry in lfs.dir(path) do
      if entry ~= "." and entry ~= ".." then remove(path .. "/" .. entry) end
    end
    lfs.rmdir(path)
  else
    os.remove(path)
  end
end

leaks.remove = remove

-- Empty directories and records of owners that a file has left in bpffs, where this process's id
-- says whose they are: the next file finds the names free. Only after the objects were checked.
function leaks.sweep_pins()
  local pid = lines_of "/proc/self/stat":match "^%d+"
  local root, records = "/sys/fs/bpf", "/sys/fs/bpf/_moonbee_owner"
  if not pcall(lfs.dir, root) then return end
  for entry in lfs.dir(root) do
    if entry:find("%f[%d]" .. pid .. "%f[%D]") then remove(root .. "/" .. entry) end
  end
  if lfs.symlinkattributes(records, "mode") ~= "directory" then return end
  for entry in lfs.dir(records) do
    local target = lfs.symlinkattributes(records .. "/" .. entry, "target") or ""
    if target:find(":" .. pid .. ":", 1, true) then os.remove(records .. "/" .. entry) end
  end
  lfs.rmdir(records)                    -- if nothing is left in it
end

local function children()
  local found = {}
  local self = lines_of "/proc/self/stat":match "^%d+"
  for pid in lines_of("/proc/self/task/" .. self .. "/children"):gmatch "%d+" do
    found[pid .. " " .. lines_of("/proc/" .. pid .. "/comm"):gsub("\n", "")] = true
  end
  return found
end

-- The kernel's objects as they are before a file. Root only, else it holds nothing.
function leaks.file_snapshot()
  collect()
  local before = leaks.snapshot()
  before.children = children()
  if lfs.attributes("/proc/self", "uid") == 0 then
    before.objects, before.pins = objects(), pins()
  end
  return before
end

local function new_objects(before, text)
  local now = objects()
  if not now then return {} end
  local left, others = {}, nil
  for key, object in pairs(now) do
    if not before.objects[key] then
      others = others or held_by_others()
      if not others[key] and named_by_us(object, text, now) then
        left[#left + 1] = key .. " " .. (object.name or object.type or "")
      end
    end
  end
  table.sort(left)
  return left
end

-- As leaks.since, for a whole file of the name `spec`.
function leaks.since_file(before, spec)
  local report = {}
  local process = leaks.since(before)
  if process then report[1] = process end
  for _, child in ipairs(new_in(children(), before.children)) do
    report[#report + 1] = "leaked: child process " .. child
  end
  if before.objects then
    local text = sources(spec)
    local left = new_objects(before, text)
    -- The kernel frees some of them a little later; each look takes it some milliseconds.
    local deadline = os.time() + 3
    while left[1] and os.time() <= deadline do left = new_objects(before, text) end
    for _, object in ipairs(left) do report[#report + 1] = "leaked: BPF " .. object end
    if left[1] then
      for _, path in ipairs(new_in(pins(), before.pins)) do
        report[#report + 1] = "pinned since: " .. path
      end
    end
  end
  return report[1] and table.concat(report, "\n") or nil
end

return leaks
