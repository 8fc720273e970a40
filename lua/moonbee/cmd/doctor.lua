-- SPDX-License-Identifier: BSD-2-Clause
-- moonbee doctor: what stands in the way of loading, attaching and reading, and what to do.
local core = require "moonbee.core"

local cmd = {}

-- ---- looking ------------------------------------------------------------------------------------

local function first_line(path)
  local file <close> = io.open(path)
  return file and file:read "l"
end

-- The first mount of this type of file system: its directory.
local function mounted(kind)
  local file <close> = io.open "/proc/self/mounts"
  for line in file and file:lines() or function() end do
    local dir, found = line:match "^%S+ (%S+) (%S+) "
    if found == kind then return (dir:gsub("\\(%d%d%d)", function(n)
      return string.char(tonumber(n, 8))
    end)) end
  end
end

local function in_path(program)
  for dir in (os.getenv "PATH" or ""):gmatch "[^:]+" do
    local file <close> = io.open(dir .. "/" .. program)
    if file then return dir .. "/" .. program end
  end
end

-- ---- checks -------------------------------------------------------------------------------------

-- Each gives what it found and, unless that is well, how bad it is and what to do:
-- "warn" something will not work; "bad" hardly anything will; "unknown".
local function capability(p, name, what, level)
  if p.caps[name] then return "yes" end
  if name ~= "CAP_SYS_ADMIN" and name ~= "CAP_SYSLOG" and p.caps.CAP_SYS_ADMIN then
    return "by CAP_SYS_ADMIN"
  end
  return "no", level, ("%s needs it: run as root, or setcap %s+ep"):format(what, name:lower())
end

local checks = {
  { "kernel", function()
    return first_line "/proc/sys/kernel/osrelease" or "unknown"
  end },
  { "libbpf", function() return core.libbpf_version end },
  { "kernel types (BTF)", function()
    local file <close> = io.open "/sys/kernel/btf/vmlinux"
    if file then return "yes" end
    return "no", "bad", "CO-RE, kernel variables and this list need /sys/kernel/btf/vmlinux: " ..
      "CONFIG_DEBUG_INFO_BTF"
  end },
  { "CAP_BPF", function(p) return capability(p, "CAP_BPF", "loading", "bad") end },
  { "CAP_PERFMON", function(p)
    return capability(p, "CAP_PERFMON", "tracing (and many helpers)", "warn")
  end },
  { "CAP_NET_ADMIN", function(p)
    return capability(p, "CAP_NET_ADMIN", "xdp, tc, cgroups", "warn")
  end },
  { "CAP_SYS_ADMIN", function(p)
    return capability(p, "CAP_SYS_ADMIN", "looking into what others loaded, bpf.stats", "warn")
  end },
  { "unprivileged BPF", function(p)
    local n = p.unprivileged_bpf_disabled
    if not n then return "unknown", "unknown" end
    return n == 0 and "allowed" or "refused (kernel.unprivileged_bpf_disabled = " .. n .. ")"
  end },
  { "lockdown", function(p)
    if not p.lockdown then
      return "unknown", "unknown", "securityfs tells: mount -t securityfs securityfs " ..
        "/sys/kernel/security"
    elseif p.lockdown == "none" then
      return "none"
    end
    return p.lockdown, "warn", p.lockdown == "confidentiality" and
      "the kernel's memory cannot be read by programs" or
      "programs cannot write to the kernel's memory; some kernels refuse fentry, lsm, ext"
  end },
  { "BPF LSM", function(p)
    if not p.lsm then return "unknown", "unknown", "securityfs tells (see lockdown)" end
    if ("," .. p.lsm .. ","):find(",bpf,", 1, true) then return "yes" end
    return "no", "warn", "lsm programs attach and are never called: boot with lsm=…,bpf"
  end },
  { "seccomp", function(p)
    if p.seccomp ~= 2 then return p.seccomp and "none" or "unknown", not p.seccomp and "unknown" end
    return "a filter", "warn", "it must allow bpf(2) and perf_event_open(2): containers' do not"
  end },
  { "JIT", function(p)
    if p.jit_enable == 0 then
      return "off", "warn", "programs are interpreted, and fentry is refused: " ..
        "sysctl net.core.bpf_jit_enable=1"
    end
    if p.jit_enable then return "on" end
    return "unknown", "unknown", "only the machine's own network namespace tells"
  end },
  { "kernel addresses", function(p)
    local address = (first_line "/proc/kallsyms" or ""):match "^%x+"
    if not address then return "unknown", "unknown" end
    if address:find "[^0]" then return "shown" end
    return "hidden", "warn", ("kernel.ksym has none: it needs CAP_SYSLOG%s"):format(
      p.kptr_restrict == 2 and ", and kernel.kptr_restrict below 2" or "")
  end },
  { "bpffs", function()
    local dir = mounted "bpf"
    if dir then return dir end
    return "not mounted", "warn", "pins need it: mount -t bpf bpf /sys/fs/bpf (root: done)"
  end },
  { "tracefs", function()
    local dir = mounted "tracefs"
    if dir then return dir end
    return "not mounted", "warn", "tracepoints need it: mount -t tracefs tracefs " ..
      "/sys/kernel/tracing (root: by itself)"
  end },
  { "cgroup v2", function()
    local dir = mounted "cgroup2"
    if dir then return dir end
    return "not mounted", "warn", "cgroup programs attach to it: mount -t cgroup2 cgroup2 DIR"
  end },
  { "kernel configuration", function()
    local ok, path = pcall(function() return core.kernel and core.kernel.config_path() end)
    if ok and path then return path end
    return "not found", "warn", "__kconfig externs and kernel.config read /proc/config.gz or " ..
      "/boot/config-*"
  end },
  { "deadlines in Lua's library", function()
    local ok, runtime = pcall(require, "moonbee.runtime")
    if not ok then return "unknown", "unknown" end
    if runtime.checked then return "yes" end
    return "no", "warn", "Lua's source was not there when it was built: patterns, sort, rep … " ..
      "are bounded in size in policies"
  end },
  { "clang", function()
    local path = in_path "clang"
    return path or "not found", not path and "unknown",
      "only to compile BPF programs; what is compiled needs none"
  end },
}

-- ---- command ------------------------------------------------------------------------------------

local function examine()
  local p = core.privileges()
  local list = setmetatable({}, { __jsontype = "array" })
  for _, check in ipairs(checks) do
    local ok, found, level, advice = pcall(check[2], p)
    if not ok then found, level, advice = "unknown", "unknown", tostring(found) end
    list[#list + 1] = setmetatable({
      check = check[1], found = found, level = level or "ok", advice = level and advice or nil,
    }, { __jsonorder = { "check", "found", "level", "advice" } })
  end
  return list
end

local MARK = { ok = "  ", unknown = "? ", warn = "! ", bad = "!!" }

local function as_text(list)
  local width, lines = 0, {}
  for _, c in ipairs(list) do width = math.max(width, #c.check) end
  for _, c in ipairs(list) do
    lines[#lines + 1] = ("%s %s%s  %s"):format(MARK[c.level], c.check, (" "):rep(width - #c.check),
      c.found)
    if c.advice then lines[#lines + 1] = (" "):rep(width + 5) .. "hint: " .. c.advice end
  end
  return table.concat(lines, "\n")
end

function cmd.run(opts)
  local list = examine()
  if opts.json then
    print(require "moonbee.json".encode({ checks = list }, { indent = true }))
  else
    print(as_text(list))
  end
  for _, c in ipairs(list) do
    if c.level == "bad" then return 1 end
  end
  return 0
end

cmd.name = "doctor"
cmd.summary = "Examine what this machine allows, and say what to do about the rest."
cmd.options = { { name = "--json", args = 0, help = "Print JSON." } }
cmd.examples = {
  "moonbee doctor", "moonbee doctor --json | jq '.checks[] | select(.level != \"ok\")'",
}

return cmd
