---@meta
-- SPDX-License-Identifier: BSD-2-Clause

---An object file, open or loaded: bpf.open. `<close>` and close() end it with all its maps,
---programs, links, readers and views; links that are attached keep it from the collector.
---@class moonbee.object
---@field name string
---@field state "open"|"loaded"|"failed"|"closed" failed: only close is left
---@field license string
---@field vars moonbee.view all variables of all sections, by name
---@field bss moonbee.view the section .bss; raises if there is none
---@field data moonbee.view .data
---@field rodata moonbee.view .rodata: writable before load only
---@field sections table<string, moonbee.view> by name: ".data.tune"
---@field maps table<string, moonbee.map> by name; unknown ones raise with a near name
---@field progs table<string, moonbee.program>
---@field types table<string, moonbee.type> any type of the object's BTF: types["struct flow"]
---@field externs moonbee.extern[] what it wants from the kernel, and what becomes of it: kernel.externs
---@field relocations { section: string, kind: string, type: string, field: string|nil }[] what its programs
--- ask of the kernel's types (CO-RE): kind "offset", "exists", "size", "type_exists", "enum_value", …
---@field migrated table<string, table>|nil reports of the maps that load migrated (moonbee.migration), by name
---@field closed boolean
local object = {}

---Give the last array variable of a section another number of elements, before load. Views of that
---section end: take them anew.
---
---Raises text, or EINVAL, for what is no array at the end of its section, and after load.
---libbpf: bpf_map__set_value_size, 1.3.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---obj:resize("counters", bpf.cpus.possible)
---```
---@param name string of the variable
---@param n integer elements
function object:resize(name, n) end

---Create the maps, load the programs, pin what is marked in C if open's pin_root was given. Views of
---variables live on, now on the kernel's memory; .rodata becomes read-only.
---
---Raises EPERM (no CAP_BPF), EACCES (the verifier's no: .log has all it said), EINVAL; text when it
---is loaded or has failed already. libbpf: bpf_object__load.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open("flow.bpf.o"):load()
---```
---@return moonbee.object self
function object:load() end

---Attach all programs whose section names say where to, and all struct_ops maps. All, or none: a
---failure detaches what was attached before it.
---
---Raises ENOENT (no such hook), EPERM, EBUSY. Needs what the kinds of program need; as a rule root.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "flow.bpf.o"
---for name, link in pairs(obj:attach()) do print(name, link.type) end
---```
---@return table<string, moonbee.link> by program or map
function object:attach() end

---End it: links are detached (unless pinned), maps and programs closed, views ended. May be called
---again.
---```lua
---local bpf = require "moonbee"
---bpf.open("flow.bpf.o"):close()
---```
function object:close() end

return object
