---@meta
-- SPDX-License-Identifier: BSD-2-Clause

---A program attached to a hook: program.attach, object.attach, bpf.pinned. The collector never
---detaches it; it ends by close, detach, `<close>`, with its object or with the process, unless it is
---pinned.
---@class moonbee.link
---@field name string of the program
---@field id integer
---@field type string "xdp", "perf_event", "tracing", …
---@field prog_id integer
---@field pin_path string|nil
---@field info { id: integer, type: string, prog_id: integer, program: string|nil, ifindex: integer|nil, pin_path: string|nil } what the kernel says of it now; ifindex: xdp
---@field fd integer
---@field closed boolean
local link = {}

---Swap its program in one step: no packet or event in between goes without. Raises EOPNOTSUPP where
---the kernel cannot for this kind of link (tracing, kprobe), EINVAL for a program of another type.
---bpf(BPF_LINK_UPDATE), kernel 5.7; xdp 5.9.
---```lua
---local bpf = require "moonbee"
---local old <close> = bpf.pinned "/sys/fs/bpf/flow/link"
---local obj <close> = bpf.load "flow.bpf.o"
---old:update(obj.progs.on_xdp)
---```
---@param prog moonbee.program loaded
function link:update(prog) end

---Pin it in bpffs: it stays attached without this process. Raises as map.pin.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "flow.bpf.o"
---obj.progs.on_xdp:attach({ ifname = "lo" }):pin "/sys/fs/bpf/flow/link"
---```
---@param path string absolute
function link:pin(path) end

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

return link
