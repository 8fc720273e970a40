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

---Read kernel memory by address: a moment's copy, typed. Scalars are values, text and bytes strings,
---aggregates read-only views that know where they were (kernel.address, bpf.refresh). Through a small
---BPF program of ours that only reads; about 1 us. What is mapped there by chance is read as it is: an
---address that makes no sense need not be an error.
---
---Raises EFAULT (nothing can be read there) and ERANGE (no kernel address) with the address; EPERM names
---the capability (CAP_BPF, CAP_PERFMON) or lockdown; of a variable's name EOPNOTSUPP without
---CONFIG_KALLSYMS_ALL, ENOENT, ENOTUNIQ, and EPERM where addresses are hidden.
---```lua
---local kernel = require "moonbee.kernel"
---local code = kernel.read(kernel.ksym "tcp_v4_rcv".address, "u8[16]")
---print(code[0])
---```
---@param what integer|string|moonbee.view an address, a variable's or function's name, or a view of kernel memory
---@param type? string|moonbee.type as kernel.types takes it; may be left out for a variable that BTF knows
---@return any
function kernel.read(what, type) end

---Many addresses in as few runs as can be: more than 10 million 8-byte values a second.
---
---Raises what kernel.read does, save for an address that cannot be read: that is in faults.
---```lua
---local kernel = require "moonbee.kernel"
---local a = kernel.ksym "tcp_v4_rcv".address
---local values, faults = kernel.read_many({ a, a + 8, 0 }, "unsigned long")
---print(values[1], values[3], faults and faults[3])
---```
---@param addresses integer[]
---@param type string|moonbee.type of each; at most 64 KiB
---@return any[] values false where there is a fault
---@return table<integer, moonbee.error>|nil faults by index; nil: none
function kernel.read_many(addresses, type) end

---A per-CPU variable, typed by the kernel's BTF: a copy of the moment; bpf.refresh reads it again.
---
---Raises what kernel.read does. Needs a kernel with CONFIG_KALLSYMS_ALL.
---```lua
---local bpf, kernel = require "moonbee", require "moonbee.kernel"
---local rq = kernel.percpu("runqueues", 1)
---print(rq.nr_running, bpf.refresh(rq).nr_running)
---```
---@param name string
---@param cpu? integer from 0; without: a table of all, by CPU id from 0
---@param type? string|moonbee.type of a variable that BTF does not know
---@return any
function kernel.percpu(name, cpu, type) end

---What a pointer in a view leads to; "->" goes on. A char pointer gives text (at most 4096 bytes). The
---view may also be a program's: its types are then taken from the kernel by their names.
---
---Raises EFAULT, ERANGE; text for what is no pointer, or leads to nothing with a type.
---```lua
---local kernel = require "moonbee.kernel"
---local task = kernel.current()
---print(kernel.deref(task, "real_parent").comm, kernel.deref(task, "fs->pwd.mnt->mnt_sb->s_type->name"))
---```
---@param view moonbee.view
---@param path string
---@return any nil: NULL
function kernel.deref(view, path) end

---What is at an address, as another type. It is read anew.
---```lua
---local kernel = require "moonbee.kernel"
---local task = kernel.current()
---print(kernel.cast(task.tasks, "struct hlist_node").next)
---```
---@param what integer|string|moonbee.view
---@param type string|moonbee.type
---@return any
function kernel.cast(what, type) end

---The struct that a member is in.
---```lua
---local kernel = require "moonbee.kernel"
---local task = kernel.current()
---print(kernel.container_of(task.tasks.next, "struct task_struct", "tasks").comm)
---```
---@param what integer|moonbee.view the member, or its address
---@param type string|moonbee.type of the struct
---@param member string a path
---@return moonbee.view
function kernel.container_of(what, type, member) end

---Where in the kernel a view, or a member of it, was read.
---```lua
---local kernel = require "moonbee.kernel"
---print(("%x"):format(kernel.address(kernel.current(), "comm")))
---```
---@param view moonbee.view
---@param path? string
---@return integer|nil address nil: it is no view of kernel memory
function kernel.address(view, path) end

---Text up to its NUL.
---
---Raises EFAULT, ERANGE.
---```lua
---local kernel = require "moonbee.kernel"
---print(kernel.string(kernel.address(kernel.current(), "comm")))
---```
---@param what integer|string|moonbee.view
---@param max? integer bytes; 4096
---@return string
function kernel.string(what, max) end

---The elements of a list, as views. What the list is, its member says: a struct list_head (which has to
---come back to the head), an hlist_node or llist_node, or a pointer to the next one (both to NULL; head
---is the first one's address then). The walk is done at once, bounded, without locks; the elements are
---read one by one.
---
---Raises ELOOP: after 1048576 elements it has not come back to its head; EINVAL: it ends elsewhere; EFAULT.
---```lua
---local kernel = require "moonbee.kernel"
---for child in kernel.list(kernel.current().children, "struct task_struct", "sibling") do
---  print(child.pid)
---end
---```
---@param head integer|string|moonbee.view
---@param type string|moonbee.type of the elements
---@param member string a path
---@return fun(): moonbee.view|nil
function kernel.list(head, type, member) end

---All processes in one moment: each struct task_struct as it was, and the parent's process id as /proc
---has it. By the kernel's own iterator, which misses none and shows none twice; of this process's pid
---namespace. Process ids in the struct are those of the initial namespace.
---
---Raises EPERM, EOPNOTSUPP. Needs Linux 5.8.
---```lua
---local kernel = require "moonbee.kernel"
---for task, ppid in kernel.tasks() do print(task.pid, ppid, task.comm) end
---```
---@param options? { threads: boolean } threads: all of them, not only the groups' leaders
---@return fun(): moonbee.view|nil, integer|nil
function kernel.tasks(options) end

---The struct task_struct of the thread that asks.
---```lua
---local kernel = require "moonbee.kernel"
---print(kernel.current().comm)
---```
---@return moonbee.view
function kernel.current() end

---Call a function every so often, on the loop, and print what it returns whenever that has changed.
---```lua
---local kernel, loop = require "moonbee.kernel", require "moonbee.loop"
---kernel.watch(function() return kernel.current().nvcsw end, 0.5)
---loop.after(2, loop.stop)
---loop.run()
---```
---@param fn fun(): any or a ref, or a view: bpf.watch
---@param seconds number
---@param sink? fun(new: any, old: any) instead of print
---@return moonbee.handle
function kernel.watch(fn, seconds, sink) end

---Give back the programs and the map that read memory; the next read makes new ones. Views stay, as they
---are copies.
---```lua
---local kernel = require "moonbee.kernel"
---kernel.release()
---```
function kernel.release() end

return kernel
