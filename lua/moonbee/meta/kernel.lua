---@meta
-- SPDX-License-Identifier: BSD-2-Clause

---The kernel at hand: `local kernel = require "moonbee.kernel"`. What it knows is read when it is first
---asked for and kept: the symbol table, the types (BTF), the configuration.
---@class moonbee.kernel
---@field config table<string, boolean|integer|string> by name, with or without CONFIG_: y is true, n and "is not set" false, m "m"; nil for what the configuration does not name. Raises ENOENT where the kernel shows none
---@field types table<string, moonbee.type> of the kernel and its modules, as C writes them: types["struct sock"], "unsigned long", "u8[16]", "struct file *"; raises ENOENT with a near name. pairs walks those of vmlinux
---@field features table what this kernel can do: moonbee.feature
local kernel = {}

---@class moonbee.symbol
---@field name string
---@field address integer|nil nil: hidden (in a walk only)
---@field type string a letter, as nm has it: "T" a function, "t" a static one, "D", "d", "B", "b", "R" variables
---@field module string|nil nil: the kernel itself; "bpf" for BPF programs
---@field declaration string|nil as C declares it, if BTF knows: "int tcp_v4_rcv(struct sk_buff *skb)"
---@field percpu boolean|nil a per-CPU variable

---Where is a symbol? Reads /proc/kallsyms the first time (some 60 ms), and again when modules have come
---or gone.
---
---Raises ENOTUNIQ: symbols of that name are at several addresses, which are listed; name the module then.
---EPERM: the kernel hides its addresses; the error names the setting and the capability. EOPNOTSUPP: it
---is a variable, and the kernel has no CONFIG_KALLSYMS_ALL.
---```lua
---local kernel = require "moonbee.kernel"
---local s = kernel.ksym "tcp_v4_rcv"
---print(("%x"):format(s.address), s.declaration)
---```
---@param name string
---@param module? string of this module only; "vmlinux": the kernel itself
---@return moonbee.symbol|nil symbol nil: there is none
---@return string|nil why what its absence means on this kernel
function kernel.ksym(name, module) end

---All symbols whose names fit a glob (*, ?, [a-z]), in the order of their addresses. Hidden addresses
---are nil here and raise nothing.
---```lua
---local kernel = require "moonbee.kernel"
---for s in kernel.ksyms "tcp_*_rcv" do print(s.name, s.module) end
---```
---@param glob? string without: all
---@return fun(): moonbee.symbol|nil
function kernel.ksyms(glob) end

---Which symbol is an address in? About 0.1 us once the table is read.
---
---Raises EPERM: addresses are hidden.
---```lua
---local kernel = require "moonbee.kernel"
---local name, offset = kernel.symbolize(kernel.ksym "tcp_v4_rcv".address + 4)
---print(name, offset)
---```
---@param address integer
---@return string|nil name nil: in none
---@return integer|nil offset bytes from its start
---@return string|nil module nil: the kernel itself
function kernel.symbolize(address) end

---@class moonbee.extern
---@field name string
---@field kind "ksym"|"kfunc"|"kconfig"
---@field type string as declared
---@field typed boolean false: extern const void name __ksym
---@field weak boolean a missing one is 0, and does not keep the object from loading
---@field fate "resolved"|"missing"|"clash"|"unknown" clash: there, but not as declared
---@field predicted boolean true before load, and for another kernel
---@field kernel_type string|nil as the kernel declares it
---@field module string|nil the module that has it; nil: the kernel itself
---@field address integer|nil of symbols and functions; nil: not known, or not needed
---@field value boolean|integer|string|nil of __kconfig, as the program reads it
---@field why string|nil of one that is not resolved
---@field differs { field: string|nil, declared: string, kernel: string|nil }[]|nil fields of the declared type that the kernel's has elsewhere, otherwise or not; without field: the type itself

---What becomes of an object's externs on this kernel, or on another one: obj.externs is
---kernel.externs(obj). Before load a prediction by libbpf's rules, after it what libbpf did.
---
---Raises EINVAL, ENODATA, ENOENT for a file that has no sound BTF.
---```lua
---local bpf, kernel = require "moonbee", require "moonbee.kernel"
---local obj <close> = bpf.open "flow.bpf.o"
---for _, e in ipairs(kernel.externs(obj)) do print(e.name, e.fate, e.why) end
---```
---@param obj moonbee.object
---@param options? { btf: string } the BTF of another kernel: raw, or an ELF file with .BTF
---@return moonbee.extern[]
function kernel.externs(obj, options) end

return kernel
