---@meta
-- SPDX-License-Identifier: BSD-2-Clause

---A program of an object (obj.progs.NAME), or a pinned one (bpf.pinned): that goes with its last user.
---@class moonbee.program
---@field name string
---@field section string|nil "xdp", "tracepoint/syscalls/sys_enter_execve"; nil for pinned ones
---@field type string "xdp", "tracepoint", …
---@field id integer|nil nil before load
---@field fd integer|nil nil before load; the program's: do not close it
---@field autoload boolean false: object.load leaves it out; may be set before load
---@field loaded boolean
---@field attaches boolean its section name says where to attach
---@field stats moonbee.program_stats runs, counted while bpf.stats() is open
---@field info moonbee.program_info what the kernel says of it; when it is loaded
---@field log string|nil what the verifier said, where bpf.open was given a log_level: 1 its summary, 2 all
--- that it walked
---@field closed boolean
local program = {}

---@class moonbee.program_stats
---@field run_count integer
---@field run_time_ns integer
---@field recursion_misses integer runs left out, since it ran already on that CPU

---@class moonbee.program_info
---@field tag string of its instructions, as in bpftool
---@field uid integer who loaded it
---@field loaded_ns integer when, of the clock that counts from the start of the machine
---@field insns integer instructions
---@field verified_insns integer|nil that the verifier walked (Linux 5.16)
---@field jited integer bytes of machine code
---@field memory integer bytes that are accounted for it
---@field btf_id integer|nil
---@field gpl boolean
---@field maps integer[] ids

---The lines of C that its instructions come from, in order.
---
---Raises ENODATA when the kernel has none; text when it is not loaded.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "flow.bpf.o"
---for _, l in ipairs(obj.progs.on_xdp:lines()) do print(l.insn, l.line, l.text) end
---```
---@return { insn: integer, file: string, line: integer, column: integer, text: string }[]
function program:lines() end

---Attach it: as its section name says, or as the options do; options that say no other place complete
---what the section says (SEC("uprobe/libc.so.6:malloc") with pid). The link is the caller's, and no
---collector takes it: it ends by close, detach, `<close>`, or with the object.
---
---Raises EINVAL (an option that its type has not), ENOENT (no such hook; the hint has the nearest name),
---EBUSY (the hook is taken), EOPNOTSUPP (this kernel or libbpf lacks it: the hint says what has it),
---EPERM; text when it is not loaded.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "flow.bpf.o"
---local link <close> = obj.progs.on_xdp:attach { ifname = "lo" }
---```
---@param opts? moonbee.attach
---@return moonbee.link
function program:attach(opts) end

---Which options say where, by kind of program; those in parentheses may come with them:
--- * xdp: ifname (mode)
--- * tcx, tc: ifname, direction unless the section has it (mode = "clsact", priority, handle; place,
---   before, after); netkit: the same with direction "primary" or "peer"
--- * netfilter: family, hook (priority, defrag)
--- * sk_lookup, flow_dissector: netns
--- * cgroup/…, sockops, lsm_cgroup: cgroup (place, before, after)
--- * sk_msg, sk_skb: map; socket, sk_reuseport: socket
--- * iter: nothing (map, cgroup or pid); fentry, fexit, fmod_ret, tp_btf, lsm: nothing (cookie)
--- * tracepoint, raw_tp: tracepoint (cookie)
--- * kprobe, kretprobe: function (offset, retprobe, cookie); ksyscall: syscall (retprobe, cookie)
--- * kprobe.multi, kprobe.session: function (a pattern) or functions (retprobe, cookie)
--- * uprobe, uretprobe: binary with function or offset (pid, retprobe, cookie); uprobe.multi: binary with
---   function (a pattern) or functions (pid, retprobe, cookie); usdt: binary, usdt (pid, cookie)
--- * perf_event: event (frequency or period, pid, cpu, cookie)
---@class moonbee.attach
---@field ifname? string the network interface
---@field mode? string xdp: "native", "generic", "offload"; default: the driver's best. tc: "tcx"
--- (default, Linux 6.6), "clsact", "netkit"
---@field direction? "ingress"|"egress"|"primary"|"peer"
---@field place? "first"|"last" among those that are there already
---@field before? moonbee.link|moonbee.program which of those
---@field after? moonbee.link|moonbee.program
---@field priority? integer
---@field handle? integer tc's, with mode "clsact"
---@field family? "ipv4"|"ipv6"
---@field hook? "prerouting"|"input"|"forward"|"output"|"postrouting"
---@field defrag? boolean netfilter: fragments are put together before
---@field netns? string "self", a path, or a name of `ip netns`
---@field cgroup? string path of a cgroup v2 directory
---@field map? moonbee.map sk_msg, sk_skb: a sockmap; iter: the map to go over
---@field socket? integer descriptor
---@field tracepoint? string "syscalls:sys_enter_execve"; raw_tp: "sched_switch"
---@field function? string of the kernel; with binary: of that
---@field functions? string[]|table<string, integer> names, or a cookie by name
---@field syscall? string "openat", whatever the kernel calls the function
---@field binary? string a path, a library's name ("libc.so.6"), or a program in PATH
---@field usdt? string "provider:name"
---@field event? string "cpu-clock", "page-faults", "context-switches", "cycles", …
---@field frequency? integer samples a second; default for clocks and counters: 99
---@field period? integer a sample each so many; default for faults, switches: 1
---@field cpu? integer default: all, by a link for each
---@field pid? integer one process; default: all
---@field offset? integer bytes from the function's, or the binary's start
---@field retprobe? boolean at the return
---@field cookie? integer for bpf_get_attach_cookie

---Run it on given data, without a hook: BPF_PROG_TEST_RUN. It needs to be loaded, not attached. The
---kernel has it for packets (socket filters, tc, xdp, cgroup_skb, lwt, flow dissectors, netfilter:
---data, and a ctx if you like), sk_lookup (ctx), syscall and raw tracepoint programs (ctx), fentry and
---fexit (neither: the kernel calls its own functions bpf_fentry_test1 … for it).
---
---Raises EINVAL (the type, or the size of data or ctx, does not suit), ENOTSUPP (the kernel has no test
---run for such programs), EPERM.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "flow.bpf.o"
---local result = obj.progs.on_xdp:run { data = string.rep("\0", 64), times = 1000 }
---print(result.ret, result.duration_ns)
---print(obj.progs.on_xdp:run({ data = string.rep("\0", 64), ctx = { ingress_ifindex = 1 } }).ctx)
---```
---@param how? moonbee.run
---@return moonbee.run_result result
function program:run(how) end

---@class moonbee.run
---@field data? string|moonbee.view
---@field ctx? string|moonbee.view|table bytes, a value, a table for the struct that the program's source
--- names as its argument, or a list of 64-bit words
---@field times? integer so many runs
---@field cpu? integer raw tracepoints: where it runs
---@field live? boolean xdp: the packets go where the program sends them; nothing comes back (Linux 5.18)

---@class moonbee.run_result
---@field ret integer
---@field data string|nil as the program left it
---@field ctx string|moonbee.view|nil as the program left it: typed when it went typed
---@field duration_ns integer of one run, on average

---What it wrote to its standard output or error since the last call; the kernel writes its own words
---about it to stderr. Linux 6.17, libbpf 1.7; bpf_printk's words are in bpf.trace_pipe.
---
---Raises EOPNOTSUPP where there are no streams.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "flow.bpf.o"
---io.write(obj.progs.on_xdp:stream "stderr")
---```
---@param which? "stdout"|"stderr" stdout
---@return string text "" when there is none
function program:stream(which) end

---Pin it in bpffs. Raises as map.pin.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "flow.bpf.o"
---obj.progs.on_xdp:pin "/sys/fs/bpf/flow/on_xdp"
---```
---@param path string absolute
---@param opts? { replace: boolean } as map.pin
function program:pin(path, opts) end

---Close this handle; what is attached stays so. For programs by bpf.program and bpf.pinned; one of an object
---closes with it. May be called again; also by <close>.
---```lua
---local bpf = require "moonbee"
---local prog <close> = bpf.pinned "/sys/fs/bpf/flow/on_xdp"
---print(prog.name, prog.id)
---```
function program:close() end

return program
