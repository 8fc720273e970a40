---@meta
-- SPDX-License-Identifier: BSD-2-Clause

---A program attached to a hook, or a struct_ops map in force: program.attach, map.attach,
---object.attach, bpf.pinned. The collector never detaches it; it ends by close, detach, `<close>`,
---with its object or with the process, unless it is pinned.
---@class moonbee.link
---@field name string of the program or map
---@field id integer|nil nil where the kernel has no link: tc's clsact, sockets, USDT
---@field type string "xdp", "perf_event", "tracing", …; "tc", "socket", "usdt" without a kernel's link
---@field prog_id integer|nil nil for struct_ops
---@field pin_path string|nil
---@field info moonbee.link_info what the kernel says of it now
---@field fd integer|nil the link's: do not close it
---@field updatable boolean the kernel can swap its program in one step: update. Else replace overlaps
---@field closed boolean
local link = {}

---What all links have, and what the kernel tells of some; a detached one has lost its place.
---@class moonbee.link_info
---@field id integer|nil
---@field type string
---@field prog_id integer|nil
---@field program string|nil
---@field pin_path string|nil
---@field attach string|nil "tcx_ingress", "cgroup_inet4_connect", "trace_fentry", …
---@field ifindex integer|nil xdp, tcx, netkit, tc; with ifname
---@field ifname string|nil
---@field handle integer|nil tc
---@field priority integer|nil tc, netfilter
---@field cgroup_id integer|nil
---@field netns integer|nil sk_lookup, flow_dissector: the namespace's inode
---@field family string|nil netfilter, with hook
---@field hook string|nil
---@field map_id integer|nil sockmap, struct_ops, iter
---@field iterator string|nil "task", "bpf_map_elem", …
---@field target_btf_id integer|nil tracing: the function's type in its BTF
---@field tracepoint string|nil
---@field function string|nil kprobe (Linux 6.6)
---@field binary string|nil uprobe (Linux 6.6)
---@field offset integer|nil
---@field retprobe integer|nil 1: at the return
---@field missed integer|nil kprobe: calls that were not seen
---@field count integer|nil kprobe.multi, uprobe.multi: functions
---@field pid integer|nil
---@field cookie integer|nil
---@field links integer|nil perf_event on several CPUs: one for each

---Swap its program in one step: no packet or event in between goes without. Raises EOPNOTSUPP where
---the kernel cannot for this kind of link (tracing, kprobe), EINVAL for a program of another type, or
---loaded for another hook. bpf(BPF_LINK_UPDATE), kernel 5.7; xdp 5.9; struct_ops 6.4, with libbpf 1.2.
---```lua
---local bpf = require "moonbee"
---local old <close> = bpf.pinned "/sys/fs/bpf/flow/link"
---local obj <close> = bpf.load "flow.bpf.o"
---old:update(obj.progs.on_xdp)
---```
---@param new moonbee.program|moonbee.map loaded; a map for struct_ops
function link:update(new) end

---Put another program in its place, in the best way there is. The link is the same, its id may be
---another one; a pin stays where it is.
--- * "updated": in one step, as update does
--- * "overlapped": attached by the options that this link was attached by (where these were none, by the
---   new program's section), then the old one detached; for a moment both run
--- * "gap": the old one had to go first, as two cannot be there; only if you allow it. If the new one
---   cannot be attached then, the old one is attached again
---
---Raises with nothing changed: EBUSY (only a gap would do), EOPNOTSUPP (one from a pin, that the kernel
---cannot update: nobody knows its options), EINVAL as update.
---```lua
---local bpf = require "moonbee"
---local old <close> = bpf.load "flow.bpf.o"
---local new <close> = bpf.load "flow.bpf.o"
---local link = old.progs.on_xdp:attach { ifname = "lo" }
---print(link:replace(new.progs.on_xdp))                   -- updated
---```
---@param new moonbee.program|moonbee.map loaded; a map for struct_ops
---@param opts? { gap: boolean }
---@return "updated"|"overlapped"|"gap"
function link:replace(new, opts) end

---Pin it in bpffs: it stays attached without this process. Raises as map.pin; EOPNOTSUPP for what the
---kernel has no link for; EBUSY where its program tail-calls through a prog array that is not pinned:
---the kernel would empty it when this process ends.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "flow.bpf.o"
---obj.progs.on_xdp:attach({ ifname = "lo" }):pin "/sys/fs/bpf/flow/link"
---```
---@param path string absolute
---@param opts? { replace: boolean } as map.pin
function link:pin(path, opts) end

---Remove its pin. Raises ENOENT when it is not pinned.
---```lua
---local bpf = require "moonbee"
---local link <close> = bpf.pinned "/sys/fs/bpf/flow/link"
---link:unpin()
---```
function link:unpin() end

---Detach it now, also when it is pinned; the pin goes, too.
---```lua
---local bpf = require "moonbee"
---bpf.pinned("/sys/fs/bpf/flow/link"):detach()
---```
function link:detach() end

---Close it: detached, unless it is pinned. May be called again.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "flow.bpf.o"
---obj.progs.on_xdp:attach({ ifname = "lo" }):close()
---```
function link:close() end

---Run an iterator program (SEC("iter/…")) and read all that it writes. Each call runs it anew.
---
---Raises EINVAL for another kind of link, and what read(2) does.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "iters.bpf.o"
---print(obj.progs.text:attach():read())
---```
---@return string
function link:read() end

---The same by lines, without their ends; the program runs as they are read.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "iters.bpf.o"
---for line in obj.progs.text:attach():lines() do print(line) end
---```
---@return fun(): string|nil iterator
function link:lines() end

---The same by records of one size, for programs that bpf_seq_write structs: views, which may be kept,
---or columns.
---
---Raises ENOENT (no such type); text when the output ends within a record.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "iters.bpf.o"
---local link <close> = obj.progs.records:attach()
---for r in link:records "struct task_record" do print(r.pid, r.comm) end
---for pid, comm in link:records("struct task_record", "pid", "comm") do print(pid, comm) end
---```
---@param type string|moonbee.type
---@param ... string columns
---@return fun(): any iterator
function link:records(type, ...) end

return link
