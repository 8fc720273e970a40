-- SPDX-License-Identifier: BSD-2-Clause
--
-- Skips a test, inside it(), for want of a kernel feature or of root. By feature, never by version.
--
--   local skip = require "support.skip"
--   skip.unless("kprobe", "attaches a kprobe")       -- a feature below
--   skip.unless(has_it, "kernel has no netkit")      -- a truth value, or a function that gives one
--   skip.root()                                      -- in CI (env CI) a failure instead

local lfs = require "lfs"

local skip = {
  pending = nil,                        -- busted's, while a test runs; set by helper.lua
}

local function exists(path) return lfs.attributes(path, "mode") ~= nil end

local function kallsyms_has(pattern)
  local file <close> = io.open "/proc/kallsyms"
  return file and file:read "a":find(pattern) ~= nil
end

local function file_has(path, pattern)
  local file <close> = io.open(path)
  return file and file:read "a":find(pattern) ~= nil
end

-- The kernel's BTF has the names of its enumerators.
local function btf_has(name) return file_has("/sys/kernel/btf/vmlinux", "%z" .. name .. "%z") end

-- Lockdown forbids what can write to kernel memory or run before the checks: fentry, lsm, ext.
local function no_lockdown()
  return not file_has("/sys/kernel/security/lockdown", "%[integrity%]")
    and not file_has("/sys/kernel/security/lockdown", "%[confidentiality%]")
end

-- Does this program of a fixture load? Lockdown may be there and not tell of itself.
local function loads(fixture, program)
  local bpf = require "moonbee"
  local build = os.getenv "MB_BUILD" or "build"
  local obj <close> = bpf.open(("%s/fixtures/%s.bpf.o"):format(build, fixture))
  for name, prog in pairs(obj.progs) do prog.autoload = name == program end
  return (pcall(obj.load, obj))
end

local function in_btf(name)
  return function() return btf_has(name) end
end

local features = {
  btf = function() return exists "/sys/kernel/btf/vmlinux" end,
  kprobe = function() return exists "/sys/bus/event_source/devices/kprobe" end,
  uprobe = function() return exists "/sys/bus/event_source/devices/uprobe" end,
  tracefs = function() return exists "/sys/kernel/tracing" end,
  cgroup2 = function() return file_has("/proc/filesystems", "cgroup2") end,
  netns = function() return exists "/proc/self/ns/net" end,
  kallsyms_data = function() return kallsyms_has " [dDbB] jiffies" end,   -- CONFIG_KALLSYMS_ALL
  fentry = function() return no_lockdown() and loads("runs", "on_entry") end,
  arena = function() return btf_has "BPF_MAP_TYPE_ARENA" end,
  cgrp_storage = function() return btf_has "BPF_MAP_TYPE_CGRP_STORAGE" end,
  tcx = in_btf "BPF_TCX_INGRESS",
  netfilter_link = in_btf "bpf_nf_link_attach",
  kprobe_multi = function()
    return exists "/sys/bus/event_source/devices/kprobe" and btf_has "register_fprobe_ips"
  end,
  kprobe_session = in_btf "BPF_TRACE_KPROBE_SESSION",
  uprobe_multi = in_btf "BPF_TRACE_UPROBE_MULTI",
  uprobe_session = in_btf "BPF_TRACE_UPROBE_SESSION",
  cgroup_unix = in_btf "BPF_CGROUP_UNIX_CONNECT",
  iter_cgroup = in_btf "bpf_iter__cgroup",
  struct_ops_link = in_btf "bpf_struct_ops_link_create",
  sched_ext = in_btf "sched_ext_ops",
  lsm = function() return no_lockdown() and file_has("/sys/kernel/security/lsm", "bpf") end,
}
local known = {}                        -- answers, by name

local function has(what)
  if type(what) == "function" then return what() end
  if type(what) ~= "string" then return what end
  local probe = features[what] or error("no such feature in support/skip.lua: " .. what, 3)
  if known[what] == nil then known[what] = probe() and true or false end
  return known[what]
end

local function pending(reason)
  if not skip.pending then error("skip works inside it() only", 3) end
  skip.pending(reason)
end

function skip.has(feature) return has(feature) and true or false end

function skip.unless(feature, reason)
  if has(feature) then return end
  if type(feature) == "string" then
    reason = "this kernel lacks " .. feature .. (reason and (": " .. reason) or "")
  end
  pending(reason or "a kernel feature is missing")
end

function skip.is_root() return lfs.attributes("/proc/self", "uid") == 0 end

function skip.root()
  if skip.is_root() then return end
  if os.getenv "CI" then error("needs root, and CI must have it", 2) end
  pending "needs root"
end

return skip
