---@meta moonbee
-- SPDX-License-Identifier: BSD-2-Clause

---Script BPF programs: require "moonbee". Failures raise a moonbee.error, mistakes of the caller raise
---text with the caller's line, absence is nil. Time spans are seconds (float); names that end in _ns
---are nanoseconds; sizes are bytes. Kernel versions are the oldest that will do.
---@class moonbee
---@field version string moonbee's version: "0.1.0"
---@field libbpf_version string the libbpf that it was linked with: "1.7"
---@field cpus { possible: integer, online: integer[] } CPU ids run from 0 to possible - 1
---@field scripts_dir string|nil where installed tools lie; set by the program moonbee
---@field lent table<string, moonbee.object>|nil objects that the C program lends which embeds us (moonbee.h): loaded, and its own; nil elsewhere
---@field log nil|fun(level: integer, line: string) where the C program that embeds us wants to hear what is reported; nil elsewhere
---@field build_dir string|nil where make puts objects; set by the program run in its source tree
local bpf = {}

---Read a BPF object file. Nothing reaches the kernel before load, so no privilege is needed: edit
---variables (.rodata, too), `max_entries` and `autoload` in between. The file is checked with bounds
---before libbpf sees it.
---
---Raises ENOENT and the like of open(2); ENOEXEC (no BPF object), EINVAL (damaged), ENODATA (no BTF:
---compile with -g). The object is the caller's: it ends by close, `<close>` or the collector.
---libbpf: bpf_object__open_mem.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open("flow.bpf.o", { pin_root = "/sys/fs/bpf/flow" })
---obj.vars.sample_rate = 10
---```
---@param path string a file, or with `bytes = true` its contents
---@param opts? moonbee.open
---@return moonbee.object
function bpf.open(path, opts) end

---@class moonbee.open
---@field bytes? boolean the first argument is the object itself
---@field name? string of the object; default: from the path
---@field pin_root? string an absolute path in bpffs: pins maps marked LIBBPF_PIN_BY_NAME in C
---@field on_mismatch? string|fun(diff: table, old: moonbee.map): string a pinned map differs (type, sizes, flags, BTF layout): "error" (default); "replace": a new one in its place, in one step, when all is loaded; "migrate": the same with its entries; "adopt": take its max_entries and flags; "keep": take it as it is, where type and sizes allow; or a function of the differences (bpf.diff) that returns one of these
---@field migrate? { add: table<string, true|string|string[]>, switch: fun(obj: moonbee.object), passes: integer } of on_mismatch = "migrate". switch puts the new programs in the old ones' place, between the last pass and the last sweep; add: counters to be summed, by map; passes before the switch, 2. What fails leaves the old maps pinned as they were and closes the object
---@field pin_cleanup? boolean what the object pins goes when it is closed; what is left by a kill, bpf.collect_pins finds
---@field btf? string path of another kernel's BTF for CO-RE; default: the running kernel's
---@field kconfig? string|table<string, boolean|integer|string> comes before the kernel's configuration, and stands in where there is none: "CONFIG_HZ=100\n", or { HZ = 100, BPF = true, NET = "m" }
---@field log_level? integer of the verifier: 0 (default), 1, 2

---Open and load: bpf.open(path, opts):load(). A failed load closes the object.
---
---Raises what open and object.load raise. Needs CAP_BPF, or root.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load(bpf.find "flow.bpf.o")
---```
---@param path string
---@param opts? moonbee.open
---@return moonbee.object
function bpf.load(path, opts) end

---Find a script's object file: beside the script (arg[0]), then where make builds the tree's. An
---absolute path is itself.
---
---Raises ENOENT, with all places that were tried.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open(bpf.find "flow.bpf.o")
---```
---@param name string "flow.bpf.o"
---@return string path
function bpf.find(name) end

---Open what is pinned at a path: a map, a program or a link, whichever it is. It is the caller's;
---closing it leaves the pin.
---
---Raises ENOENT, EPERM, EINVAL (not in bpffs). Needs CAP_BPF, or the right to the file with
---unprivileged BPF allowed. bpf(BPF_OBJ_GET).
---```lua
---local bpf = require "moonbee"
---local stats <close> = bpf.pinned("/sys/fs/bpf/flow/stats", { readonly = true })
---print(stats.name, stats:count())
---```
---@param path string absolute, in bpffs
---@param opts? { readonly: boolean, writeonly: boolean } maps only: the kernel refuses to change it, or to look at it
---@return moonbee.map|moonbee.program|moonbee.link
function bpf.pinned(path, opts) end

---The maps that the kernel holds, whoever made them, by id: `id`, `name` (at most 15 letters), `type`,
---`key_size`, `value_size`, `max_entries`, `flags`, `memory` (bytes that the kernel charges for it). What
---goes meanwhile is left out.
---
---Raises EPERM (needs CAP_SYS_ADMIN). bpf(BPF_MAP_GET_NEXT_ID).
---```lua
---local bpf = require "moonbee"
---for _, m in ipairs(bpf.maps()) do print(m.id, m.name, m.type, m.memory) end
---```
---@return { id: integer, name: string, type: string, key_size: integer, value_size: integer, max_entries: integer, flags: integer, memory: integer? }[]
function bpf.maps() end

---The programs that the kernel holds: `id`, `name`, `type`, `uid` (who loaded it), `loaded_ns` (when, in
---bpf_ktime_get_boot_ns's clock), `map_ids`, `memory`. As bpf.maps.
---```lua
---local bpf = require "moonbee"
---for _, p in ipairs(bpf.programs()) do print(p.id, p.name, p.type) end
---```
---@return { id: integer, name: string, type: string, uid: integer, loaded_ns: integer, map_ids: integer[], memory: integer? }[]
function bpf.programs() end

---The links that the kernel holds: `id`, `name` (its program's), `type`, `prog_id`. As bpf.maps.
---```lua
---local bpf = require "moonbee"
---for _, l in ipairs(bpf.links()) do print(l.id, l.type, l.prog_id) end
---```
---@return { id: integer, name: string, type: string, prog_id: integer? }[]
function bpf.links() end

---The map of an id, whoever made it. Raises ENOENT, EPERM (needs CAP_SYS_ADMIN).
---bpf(BPF_MAP_GET_FD_BY_ID).
---```lua
---local bpf = require "moonbee"
---local ok, map = pcall(bpf.map, 17)
---print(ok and map.name)
---```
---@param id integer 1 to 2^32 - 1
---@return moonbee.map
function bpf.map(id) end

---The link of an id, whoever made it: closing it leaves the link as it is. Raises as bpf.map.
---bpf(BPF_LINK_GET_FD_BY_ID).
---```lua
---local bpf = require "moonbee"
---local ok, link = pcall(bpf.link, 3)
---print(ok and link.info.type)
---```
---@param id integer 1 to 2^32 - 1
---@return moonbee.link
function bpf.link(id) end

---Which processes hold maps, programs and links: `kind` ("map", "program", "link"), `id`, `pid`, `name`
---(the process's); and how many processes could not be looked into. From the fds in /proc.
---```lua
---local bpf = require "moonbee"
---for _, h in ipairs(bpf.holders()) do print(h.pid, h.name, h.kind, h.id) end
---```
---@return { kind: string, id: integer, pid: integer, name: string }[] holders
---@return integer hidden
function bpf.holders() end

---What is pinned in a directory and the directories below it, by path: `path`, `kind` ("map", "program",
---"link"), `id`, `name`, `type`, and `owner` of those that moonbee made: `pid`, `uid`, `alive` (does that
---process live?), `cleanup` (was it to go with it: pin_cleanup?). What goes meanwhile is left out.
---
---Raises ENOENT, ENOTDIR, EINVAL (not in bpffs), EACCES.
---```lua
---local bpf = require "moonbee"
---for _, pin in ipairs(bpf.pins "/sys/fs/bpf/flow") do print(pin.path, pin.kind, pin.name) end
---```
---@param dir? string "/sys/fs/bpf"
---@return { path: string, kind: string, id: integer, name: string, type: string, owner: table? }[]
function bpf.pins(dir) end

---Remove what processes of moonbee left behind in a directory and below it: pins made with pin_cleanup
---whose process is gone, and steps of replacements that were never finished. Each is looked at again
---before; what moonbee did not make is never touched, nor is a directory. What is kept on purpose (pins
---without pin_cleanup) stays, unless all is true. Returns what was found: `path`, `kind`, `id`, `owner`,
---`removed`, and `error` where it could not be.
---
---Raises as bpf.pins.
---```lua
---local bpf = require "moonbee"
---for _, left in ipairs(bpf.collect_pins("/sys/fs/bpf", { dry = true })) do print(left.path) end
---```
---@param dir? string "/sys/fs/bpf"
---@param opts? { all: boolean, dry: boolean } dry: only say what would be removed
---@return { path: string, kind: string, id: integer, owner: table, removed: boolean, error: string? }[]
function bpf.collect_pins(dir, opts) end

---Take what one map holds into another of a changed layout, step by step, while programs write both:
---copy (as often as wanted), switch the programs, finish. Entries are converted field by field by name,
---as bpf.carry does. Maps of the same family: hash (also LRU), array, LPM trie; per-CPU to per-CPU.
---bpf.open with on_mismatch = "migrate" does all of it for pinned maps.
---
---`add` names counters (paths in the value; true: the value itself): what both maps counted is summed,
---atomically, so they may be incremented meanwhile. In the new map they are aligned integers of 4 or 8
---bytes.
---
---Raises ENOTSUP (no way from the one layout to the other, other kinds of maps), ENOENT, EINVAL (add).
---```lua
---local bpf = require "moonbee"
---local old <close> = bpf.pinned "/sys/fs/bpf/flow/flows"
---local obj <close> = bpf.load "flow2.bpf.o"
---local move <close> = bpf.migration(old, obj.maps.flows, { add = { "packets" } })
---move:copy()
---obj.progs.on_xdp:attach { ifname = "eth0" }
---print(move:finish().late.changed)
---```
---@param old moonbee.map
---@param new moonbee.map
---@param opts? { add: true|string|string[] }
---@return moonbee.migration
function bpf.migration(old, new, opts) end

---The loaded program of an id, whoever loaded it. Raises ENOENT, EPERM (needs CAP_SYS_ADMIN).
---bpf(BPF_PROG_GET_FD_BY_ID).
---```lua
---local bpf = require "moonbee"
---local ok, prog = pcall(bpf.program, 17)
---print(ok and prog.name)
---```
---@param id integer 1 to 2^32 - 1; bpftool prog lists them
---@return moonbee.program
function bpf.program(id) end

---The global variables of a program that someone else loaded: a view of live memory, read-only unless
---asked otherwise. Those of the sections that this program uses. The view needs neither the program nor
---its owner any more.
---
---Raises ENOENT, EPERM, ENODATA (no variables, or no BTF); text for a pin that is no program.
---```lua
---local bpf = require "moonbee"
---local ok, vars = pcall(bpf.vars, "/sys/fs/bpf/flow/on_xdp", { write = true })
---print(ok and vars)
---```
---@param program moonbee.program|integer|string the program, its id or its pin
---@param opts? { write: boolean }
---@return moonbee.view
function bpf.vars(program, opts) end

---What differs between two layouts: nil, or a list of differences, each with `change` ("added",
---"removed", "moved", "type", "enum", "size"), `field` (its path, "cfg.limits[].rate"; "" for the whole),
---`was` and `is` (types), `was_offset` and `is_offset` (bytes), `converts` (can bpf.carry and a migration
---take the value over?) and `text`; `text` of the list is all in one line. Compared by meaning: typedefs,
---qualifiers, names of structs, u8[n] for char[n], a number for an enum of its size make no difference.
---```lua
---local bpf = require "moonbee"
---local old <close> = bpf.open "flow.bpf.o"
---local new <close> = bpf.open "flow2.bpf.o"
---local diff = bpf.diff(old.types["struct flow"], new.types["struct flow"])
---print(diff and diff.text)    -- field 'rate' u32 at 8 became u64 at 16; field 'x' added
---```
---@param was moonbee.type|moonbee.view|moonbee.map two maps: type, sizes and flags, too ("parameter")
---@param is moonbee.type|moonbee.view|moonbee.map
---@return table? differences
function bpf.diff(was, is) end

---Carry values over by name and type, from one struct, section or all variables to another: the hot
---reload's way. Each field or variable goes over whole or not at all: integers, booleans, enums (by
---name) and floats with checks of the range, texts and arrays where they fit, structs field by field,
---unions only as they are. What the kernel manages (locks, timers, lists, kptrs) never does. What only
---`to` has stays as it is. Without names: all that both have and that can be written.
---
---Raises text: no struct, section or variables.
---```lua
---local bpf = require "moonbee"
---local old <close> = bpf.open "flow.bpf.o"
---local new <close> = bpf.open "flow2.bpf.o"
---local carried, refused = bpf.carry(new.vars, old.vars)
---for name, why in pairs(refused) do print(name, why) end
---```
---@param to moonbee.view writable
---@param from moonbee.view
---@param opts? { names: string[], check: boolean } check: only say what would be carried
---@return string[] carried names
---@return table<string, string> refused why, by name
function bpf.carry(to, from, opts) end

---Bind a variable or field for repeated use: about three times as fast as an access by a path of
---several names, and the way to atomics. It lives as long as the view's memory.
---
---Raises text: unknown field (with a near name), a path that leads to an aggregate, no view.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---local rate = bpf.ref(obj.vars, "cfg.limits[3].rate")
---rate:set(rate:get() * 2)
---```
---@param view moonbee.view
---@param path string a name, or a path: "cfg.limits[3].rate"
---@return moonbee.ref
function bpf.ref(view, path) end

---Change only the named fields, in nested tables too. All values are checked before the first one is
---written. Several fields are not written as one: a BPF program may see some of them.
---
---Raises text: unknown field, value out of range, read-only or ended memory.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---bpf.update(obj.vars.cfg, { rate = 5, range = { lo = 1 } })
---```
---@param view moonbee.view writable
---@param t table field -> value
function bpf.update(view, t) end

---Change several fields as one: the function gets a private, writable copy; what it leaves is stored
---at once under the sequence word that MB_SEQ(name) of moonbee.bpf.h declares, so that no BPF program
---sees a part. An error in the function changes nothing. Readers never wait: while it is stored, they
---get the value from before. One process at a time may write.
---
---Raises text: no such word beside the variable, read-only or ended memory; EBUSY: another process
---keeps writing it.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---bpf.txn(obj.vars.cfg, function(c) c.rate, c.burst = 5, 50 end)
---```
---@param view moonbee.view a variable that has MB_SEQ
---@param fn fun(copy: moonbee.view)
function bpf.txn(view, fn) end

---The sum over an array, in C. Integers wrap at 64 bits.
---
---Raises text for what is no array, no number, and for an unknown field.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---print(bpf.sum(obj.vars.counters), bpf.sum(obj.vars.cfg.limits, "rate"))
---```
---@param array moonbee.view
---@param path? string a field of the elements
---@return integer|number
function bpf.sum(array, path) end

---The least number of an array, by its type's sign; NaNs are passed over. Raises as sum.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---print(bpf.min(obj.vars.counters))
---```
---@param array moonbee.view
---@param path? string
---@return integer|number|nil least nil: it has no elements
function bpf.min(array, path) end

---The greatest number of an array, by its type's sign; NaNs are passed over. Raises as sum.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---print(bpf.max(obj.vars.counters))
---```
---@param array moonbee.view
---@param path? string
---@return integer|number|nil greatest nil: it has no elements
function bpf.max(array, path) end

---How the numbers of an array are spread over powers of two. Raises as sum.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---for power, n in pairs(bpf.hist(obj.vars.counters)) do print(power, n) end
---```
---@param array moonbee.view
---@param path? string
---@return table buckets [0]: zeros; [n]: those from 2^(n-1) to 2^n - 1; negative; count: all
function bpf.hist(array, path) end

---Store a value into every element of an array. Raises as a store does, and then has written nothing.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---bpf.fill(obj.vars.counters, 0)
---```
---@param array moonbee.view writable
---@param value any
function bpf.fill(array, value) end

---Read a view of kernel memory again, in place: views of its members see it, too.
---
---Raises EFAULT, ERANGE; the view is as it was then. Text for a view of anything else.
---```lua
---local bpf, kernel = require "moonbee", require "moonbee.kernel"
---local task = kernel.current()
---print(task.utime, bpf.refresh(task).utime)
---```
---@generic V
---@param view V
---@return V view the same
function bpf.refresh(view) end

---Look at a value every so often, on the loop, and call fn when it is another than at the last look;
---the first look counts. Views are compared by their bytes; those of kernel memory are read again.
---
---Raises text for what cannot change: a number is a copy.
---```lua
---local bpf, loop = require "moonbee", require "moonbee.loop"
---local obj <close> = bpf.open "flow.bpf.o"
---bpf.watch(bpf.ref(obj.vars, "hits"), 0.5, function(new, old) print(new, old) end)
---loop.after(2, loop.stop)
---loop.run()
---```
---@param what fun(): any|moonbee.ref|moonbee.view
---@param seconds number
---@param fn? fun(new: any, old: any) default: print. old is nil at first, and for views
---@return moonbee.handle
function bpf.watch(what, seconds, fn) end

---The same value in memory of its own: writable, and there for as long as it is used. Keeps a
---ring buffer's record beyond its turn. A bitfield or scalar has no view: its value is a copy.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---local before = bpf.copy(obj.vars.cfg)
---```
---@param view moonbee.view
---@return moonbee.view
function bpf.copy(view) end

---The bytes of a view. Raises text for obj.vars (several sections) and for ended memory.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---print(#bpf.bytes(obj.vars.cfg))
---```
---@param view moonbee.view
---@return string
function bpf.bytes(view) end

---The size of a view or of a type, in bytes, as C's sizeof; of obj.vars that of all sections.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---print(bpf.sizeof(obj.vars.cfg))
---```
---@param view moonbee.view|moonbee.type
---@return integer
function bpf.sizeof(view) end

---The type of a view.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---print(bpf.typeof(obj.vars.cfg))
---```
---@param view moonbee.view
---@return moonbee.type
function bpf.typeof(view) end

---Has the view a field of this name? Reading an unknown field raises, this does not.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---if bpf.has(obj.vars, "debug") then obj.vars.debug = true end
---```
---@param view moonbee.view
---@param name string
---@return boolean
function bpf.has(view, name) end

---A view's bytes as a string that is equal for equal values: a key of Lua tables, where a view is
---only equal to itself.
---```lua
---local bpf = require "moonbee"
---local seen = {}
---local function first_time(ev)
---  local key = bpf.key(ev.flow)
---  local first = not seen[key]
---  seen[key] = true
---  return first
---end
---print(first_time)
---```
---@param view moonbee.view
---@return string
function bpf.key(view) end

---See bytes as a value of a type. The bytes are copied; the view is writable.
---
---Raises text if there are fewer bytes than the type has.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---local ev = bpf.cast(obj.types["struct event"], string.rep("\0", 64))
---print(ev.pid)
---```
---@param T moonbee.type
---@param bytes string at least T.size bytes
---@return moonbee.view
function bpf.cast(T, bytes) end

---The name of the value that an enum field has now; nil when the enum has none for it.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---print(bpf.enum(obj.vars, "mode") or obj.vars.mode)
---```
---@param view moonbee.view
---@param field string
---@return string|nil
function bpf.enum(view, field) end

---What is x? As io.type, for what moonbee makes.
---```lua
---local bpf = require "moonbee"
---assert(bpf.type(print) == nil)
---```
---@param x any
---@return "object"|"map"|"view"|"type"|"ref"|"program"|"link"|"reader"|"error"|string|nil kind
--- "closed object" and so on for closed ones; nil: none of ours
function bpf.type(x) end

---A value as text: a C initializer, on one line where it fits. Numbers print by their C type,
---unsigned 64-bit ones right; char arrays as quoted text; enums by name; pointers in hex. C fills
---initializers up with zeros, so those at the end of arrays are left out. Anything but a view prints
---as by tostring. tostring(view) is this without options.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---print(bpf.format(obj.vars.cfg, { hex = true, depth = 1 }))
---```
---@param v any
---@param opts? moonbee.format
---@return string
function bpf.format(v, opts) end

---@class moonbee.format
---@field depth? integer nested aggregates that are shown (default: all); deeper ones are { … }
---@field hex? boolean integers in hex
---@field names? boolean false: without names of fields and type
---@field zeros? boolean false: no zero fields; true: also zeros at the end of arrays
---@field max? integer elements of an array that are shown (default 64)
---@field width? integer columns (default 80)

---A view or a plain table (views in it, too) as JSON, by dkjson. Integers beyond 2^53 and pointers
---become strings, NaN and infinities null, enums their names; bytes above 127 in text that is not
---UTF-8 become the characters of their numbers. Fields keep C's order.
---
---Raises text for functions, threads, cycles and odd keys.
---```lua
---local bpf = require "moonbee"
---print(bpf.json({ rate = 5, list = { 1, 2 } }, { indent = true }))
---```
---@param v any
---@param opts? { indent: boolean }
---@return string
function bpf.json(v, opts) end

---A view as plain tables, nested: arrays as sequences from 1, structs as field -> value.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---for i, limit in ipairs(bpf.totable(obj.vars.cfg.limits)) do print(i, limit.rate) end
---```
---@param view moonbee.view
---@return table
function bpf.totable(view) end

---An address as text to the bytes that network headers hold: 4 or 16 of them.
---
---Raises text for what is no address.
---```lua
---local bpf = require "moonbee"
---assert(#bpf.ip "10.0.0.1" == 4 or bpf.iptext(bpf.ip "10.0.0.1") == "10.0.0.1")
---```
---@param text string "10.0.0.1", "fe80::1"
---@return integer|string IPv4: an integer for a __be32 field; IPv6: 16 bytes
function bpf.ip(text) end

---An address as text: of a __be32 field's value, or of 4 or 16 bytes.
---```lua
---local bpf = require "moonbee"
---print(bpf.iptext(bpf.ip "10.0.0.1"))
---```
---@param address integer|string|moonbee.view
---@return string
function bpf.iptext(address) end

---Turn a number from network byte order to the machine's, or back.
---```lua
---local bpf = require "moonbee"
---assert(bpf.ntoh(bpf.ntoh(80, 16), 16) == 80)
---```
---@param value integer
---@param bits 16|32|64
---@return integer
function bpf.ntoh(value, bits) end

---Make a map without an object. It goes with its last user: pin it, or keep the handle. Types of key and
---value are types of an object, or names ("u8" to "u64", "s8" to "s64", "char", "bool", arrays of them
---such as "char[16]"), or a number of bytes; they become the map's BTF where the kernel keeps one.
---
---The name is cut to 15 letters, digits, '_' and '.', others become '_'. What a type demands anyway is
---added: BPF_F_NO_PREALLOC for tries and storages, a ring's size in pages, the number of CPUs for
---cpumap and perf_event_array. Raises what the kernel refuses: EINVAL, E2BIG, EPERM. bpf(BPF_MAP_CREATE).
---```lua
---local bpf = require "moonbee"
---local seen <close> = bpf.create_map { name = "seen", type = "hash", key = "u32", value = "u64", max_entries = 1024 }
---seen[7] = 1
---```
---@param options { name?: string, type: string, key?: moonbee.type|string|integer, value?: moonbee.type|string|integer, max_entries?: integer, flags?: integer|string|string[], inner?: moonbee.map }
---flags: BPF_F_… as a number, or names: "mmapable", "no_prealloc", "rdonly_prog", …; inner: a map that is
---like those which a map of maps will hold
---@return moonbee.map
function bpf.create_map(options) end

---A prefix as the key of an LPM trie: struct bpf_lpm_trie_key's bytes.
---```lua
---local bpf = require "moonbee"
---print(#bpf.lpm "10.0.0.0/8")
---```
---@param text string "10.0.0.0/8"
---@return string bytes
function bpf.lpm(text) end

---Now, by the clock of bpf_ktime_get_ns (CLOCK_MONOTONIC): the difference to a program's stamp is an
---age.
---```lua
---local bpf = require "moonbee"
---local start = bpf.now_ns()
---print((bpf.now_ns() - start) / 1e9)
---```
---@return integer nanoseconds
function bpf.now_ns() end

---Talk to a person at the terminal, line by line, in the middle of a script: the caller's locals and
---upvalues are at hand (as they are now; a change stays in the session), with `bpf`, `loop` and
---`kernel`. In a handler of a loop, the others go on meanwhile; outside, a loop runs for as long as it
---lasts, and what was registered with it ends with it, as loop.run has it. Ctrl-D or exit(…) ends it.
---From a pipe lines are read as they come. SIGINT and SIGTERM are taken over. `return bpf.repl()` is
---a tail call: the locals are gone by then.
---
---Raises text for unknown options, and "interrupted" when SIGTERM ended it.
---```lua
---local bpf = require "moonbee"
---local function look(obj)
---  local vars <const> = obj.vars
---  local answer = bpf.repl { names = { cfg = vars.cfg }, prompt = "flow" }
---  return answer
---end
---print(look)
---```
---@param opts? { names: table<string, any>|nil, prompt: string|nil } names: more of them
---@return any ... what exit(…) was given
function bpf.repl(opts) end

---Make an error object, for modules that fail as moonbee does: error(bpf.error{…}).
---```lua
---local bpf = require "moonbee"
---local err = bpf.error { code = "ENOENT", op = "read rules", subject = "x", cause = "no file" }
---assert(tostring(err) == "read rules 'x': no file (ENOENT)")
---```
---@param t { code: string, op: string, subject: string, cause: string, hint: string|nil }
---@return moonbee.error
function bpf.error(t) end

---Open the kernel's trace pipe: what bpf_printk of any program writes, by lines. There is one for the
---machine: a line that one reader takes no other gets. Mounts tracefs where nothing is.
---
---Raises EACCES, EPERM (not root).
---```lua
---local bpf = require "moonbee"
---local loop = require "moonbee.loop"
---loop.on(bpf.trace_pipe(), print)
---loop.after(1, loop.stop)
---loop.run()
---```
---@return moonbee.trace
function bpf.trace_pipe() end

---Let the kernel count runs of programs and their time, for as long as this is open: program.stats. It
---costs each run of each program on the machine some nanoseconds. Linux 5.8.
---
---Raises EPERM without CAP_SYS_ADMIN.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "flow.bpf.o"
---local counting <close> = bpf.stats()
---obj.progs.on_xdp:run { data = string.rep("\0", 64), times = 1000 }
---print(obj.progs.on_xdp.stats.run_time_ns)
---```
---@return moonbee.stats
function bpf.stats() end

return bpf
