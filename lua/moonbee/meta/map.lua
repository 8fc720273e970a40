---@meta
-- SPDX-License-Identifier: BSD-2-Clause

---A map of an object (obj.maps.NAME), a pinned one (bpf.pinned), or one made by bpf.create_map. Keys
---and values are numbers, tables or views by their BTF types; bytes (strings) where a map has none. A
---value read is a snapshot: a view that is read-only, since a store into it would be lost. Values of
---per-CPU maps are arrays by CPU id, from 0, for each CPU that is possible.
---
---Some types make something of their keys and values:
---  array_of_maps, hash_of_maps   values are maps: reading opens one, writing takes one (or its fd)
---  prog_array                    values are programs, likewise. The kernel empties it when the last
---                                descriptor and pin of it are gone: keep it open, or pin it
---  sockmap, sockhash, reuseport_sockarray, xskmap    values are sockets' fds; read as their cookies
---                                where C declares values of 8 bytes
---  cgroup_array                  values are fds of cgroups, or their paths; they cannot be read
---  perf_event_array              values are fds of perf events; m:reader for what programs send
---  devmap, cpumap                plain values: an interface's index, a queue's length, and the program
---                                as a fd (prog.fd)
---  task_storage                  keys are process ids, or { pidfd = fd }
---  inode_storage, cgrp_storage   keys are paths, or fds
---  sk_storage                    keys are sockets' fds
---  stack_trace                   values are arrays of addresses, as many as the stack has
---  lpm_trie                      get finds the longest prefix; bpf.lpm makes keys
---  queue, stack, bloom_filter    have no keys: push, pop, peek
---  arena                         is memory of BPF programs, not offered here
---What a type does not have raises text that says why, and what to use.
---
---m[k], m[k] = v and m[k] = nil are get, set and delete for number, table and view keys. A string
---index is a method or property; any other string raises, also where keys are strings: use get.
---
---All methods raise text on a closed map and for keys and values of the wrong type, and an error
---object for what the kernel refuses: EPERM, E2BIG (full), ENOMEM. Needs CAP_BPF, unless said
---otherwise where the map was opened.
---@class moonbee.map
---@field name string
---@field type string "hash", "array", "percpu_array", "lru_hash", "ringbuf", …
---@field key_type moonbee.type|nil nil: no BTF, or no keys
---@field value_type moonbee.type|nil
---@field key_size integer bytes
---@field value_size integer bytes; of one CPU for per-CPU maps. May be set before load: values that are
---not of their type's size are bytes then; a stack trace's has room for more or fewer addresses
---@field max_entries integer may be set before load
---@field flags integer BPF_F_…
---@field id integer|nil nil before load
---@field fd integer|nil nil before load; the map's: do not close it
---@field pin_path string|nil
---@field pin_by_name boolean marked LIBBPF_PIN_BY_NAME in C
---@field percpu boolean
---@field internal boolean a data section
---@field autocreate boolean may be set to false before load: the map is left out, for kernels that have
---no such type; programs that use it must have autoload = false
---@field value moonbee.view of a struct_ops map, before load: may be changed, also as a whole by a table
---of some fields. Raises EINVAL for other types, EBUSY after load, EOPNOTSUPP with libbpf before 1.5
---@field closed boolean
local map = {}

---The value of a key. bpf(BPF_MAP_LOOKUP_ELEM).
---```lua
---local bpf = require "moonbee"
---local flows <close> = bpf.pinned "/sys/fs/bpf/flow/flows"
---local flow = flows:get { saddr = bpf.ip "10.0.0.1" }
---print(flow and flow.packets)
---```
---@param key any
---@param how? "lock" read it under its spin lock (Linux 5.1): a whole value, never half of a new one
---@return any|nil value nil: absent. An aggregate is a read-only view with memory of its own
function map:get(key, how) end

---Get and delete in one step. Hash maps: kernel 5.14. bpf(BPF_MAP_LOOKUP_AND_DELETE_ELEM).
---```lua
---local bpf = require "moonbee"
---local pending <close> = bpf.pinned "/sys/fs/bpf/pending"
---print(pending:take(7))
---```
---@param key any
---@return any|nil value nil: absent
function map:take(key) end

---Store a value. Unnamed fields of a table are 0. bpf(BPF_MAP_UPDATE_ELEM).
---```lua
---local bpf = require "moonbee"
---local limits <close> = bpf.pinned "/sys/fs/bpf/limits"
---if not limits:set(7, { rate = 5 }, "noexist") then print "it has one" end
---```
---@param key any
---@param value any
---@param how? "noexist"|"exist"|"lock" only if absent; only if there; under the value's spin lock
---@return boolean stored false: the key's presence, or absence, decided against it
function map:set(key, value, how) end

---Delete a key. bpf(BPF_MAP_DELETE_ELEM). Raises text for arrays, whose entries are always there.
---```lua
---local bpf = require "moonbee"
---local flows <close> = bpf.pinned "/sys/fs/bpf/flow/flows"
---flows:delete(7)
---```
---@param key any
---@return boolean deleted false: it was not there
function map:delete(key) end

---Change only the named fields of a value: read, change, write back. Another writer in between is
---overwritten.
---```lua
---local bpf = require "moonbee"
---local limits <close> = bpf.pinned "/sys/fs/bpf/limits"
---limits:update(7, { rate = 5 })
---```
---@param key any
---@param fields table
---@param how? "lock" in one step, as with edit
---@return boolean updated false: there is no such key
function map:update(key, fields, how) end

---Read a value, let a function change it, write it back. The function gets a writable copy; an error
---in it writes nothing. For values that are structs; others: set.
---
---With "lock" it is atomic, for others who take the value's spin lock: BPF programs, and user space that
---sets with "lock". A small BPF program of ours compares and stores under the lock. Where somebody else
---came in between, all begins anew: the function may be called several times. Raises EINVAL where the
---value has no lock, EPERM without CAP_BPF and CAP_NET_ADMIN, EFBIG from 8 KiB on.
---```lua
---local bpf = require "moonbee"
---local limits <close> = bpf.pinned "/sys/fs/bpf/limits"
---limits:edit(7, function(v) v.rate = v.rate * 2 end)
---```
---@param key any
---@param fn fun(value: moonbee.view)
---@param how? "lock"
---@return boolean edited false: there is no such key
function map:edit(key, fn, how) end

---The values of many keys in one call.
---```lua
---local bpf = require "moonbee"
---local flows <close> = bpf.pinned "/sys/fs/bpf/flow/flows"
---local values, found = flows:get_many { 1, 2, 3 }
---print(found, values[2])
---```
---@param keys any[]
---@param how? "lock"
---@return table<integer, any> values values[i] is that of keys[i]; nil: absent
---@return integer found how many
function map:get_many(keys, how) end

---Store many entries: a table from keys to values, or a sequence of keys and one of values, for keys that
---are tables. All are checked before the first is stored; then in batches where the kernel has them
---(Linux 5.6). What it refuses raises, and says how many are stored. bpf(BPF_MAP_UPDATE_BATCH).
---```lua
---local bpf = require "moonbee"
---local limits <close> = bpf.pinned "/sys/fs/bpf/limits"
---limits:set_many { [1] = { rate = 5 }, [2] = { rate = 6 } }
---limits:set_many({ { ip = 1 }, { ip = 2 } }, { { rate = 5 }, { rate = 6 } }, "noexist")
---```
---@param keys_or_entries table
---@param values? any[]
---@param how? "noexist"|"exist"|"lock" also as the second argument, where there are no values
---@return integer stored those that the keys' presence allowed
function map:set_many(keys_or_entries, values, how) end

---Delete many keys; in batches where the kernel has them. bpf(BPF_MAP_DELETE_BATCH).
---```lua
---local bpf = require "moonbee"
---local flows <close> = bpf.pinned "/sys/fs/bpf/flow/flows"
---print(flows:delete_many { 1, 2, 3 })
---```
---@param keys any[]
---@return integer deleted those that were there
function map:delete_many(keys) end

---Put a value into a queue, onto a stack, into a bloom filter. Raises E2BIG where it is full.
---```lua
---local bpf = require "moonbee"
---local jobs <close> = bpf.pinned "/sys/fs/bpf/jobs"
---jobs:push(7)
---jobs:push(8, "overwrite")
---```
---@param value any
---@param how? "overwrite" where it is full, drop the oldest
function map:push(value, how) end

---Take the next value: of a queue the oldest, of a stack the newest.
---```lua
---local bpf = require "moonbee"
---local jobs <close> = bpf.pinned "/sys/fs/bpf/jobs"
---for job in function() return jobs:pop() end do print(job) end
---```
---@return any|nil value nil: it is empty
function map:pop() end

---What pop would give, left where it is. Of a bloom filter: is this value in it?
---```lua
---local bpf = require "moonbee"
---local seen <close> = bpf.pinned "/sys/fs/bpf/seen"
---print(seen:peek(7))
---```
---@param value? any of a bloom filter only
---@return any|nil value nil: it is empty. Of a bloom filter true (it may be there) or false (it is not)
function map:peek(value) end

---Walk over the entries: pairs(m) is this without columns. Read in batches where the kernel can; ends
---also while others insert, and what the walk has passed may be deleted.
---```lua
---local bpf = require "moonbee"
---local flows <close> = bpf.pinned "/sys/fs/bpf/flow/flows"
---for key, packets in flows:pairs "packets" do print(key, packets) end
---```
---@param ... string columns: fields of the value, given as values; no view is made
---@return fun(): any, any iterator of key and value, or of key and columns
function map:pairs(...) end

---All entries at once. complete: it has seen every entry that was there all the time, each once. false
---only where a walk key by key (tries, keys shorter than 4 bytes, kernels without batches) was thrown
---back by the deletion of the key at hand, or did not end under churn and was cut short.
---```lua
---local bpf = require "moonbee"
---local flows <close> = bpf.pinned "/sys/fs/bpf/flow/flows"
---local entries, complete = flows:snapshot()
---print(#entries, complete)
---```
---@param how? "lock" read each value under its spin lock
---@return { key: any, value: any }[] entries
---@return boolean complete
function map:snapshot(how) end

---How many entries it has, counted by walking over the keys.
---```lua
---local bpf = require "moonbee"
---local flows <close> = bpf.pinned "/sys/fs/bpf/flow/flows"
---print(flows:count(), flows.max_entries)
---```
---@return integer
function map:count() end

---The sum over all entries, and all CPUs, in C. Integers wrap at 64 bits. Raises text for what is no
---number, for an unknown field, and where the value is a struct and no field is named.
---```lua
---local bpf = require "moonbee"
---local flows <close> = bpf.pinned "/sys/fs/bpf/flow/flows"
---print(flows:sum "stats.bytes")
---```
---@param path? string a field of the value
---@return integer|number
function map:sum(path) end

---The entries with the greatest numbers, in C; of per-CPU maps by the sum over CPUs. Raises as sum.
---```lua
---local bpf = require "moonbee"
---local flows <close> = bpf.pinned "/sys/fs/bpf/flow/flows"
---for _, e in ipairs(flows:top(10, "stats.bytes")) do print(e.key, e.value) end
---```
---@param n integer 1 to 1000000
---@param path? string a field of the value
---@return { key: any, value: integer|number }[] top greatest first
function map:top(n, path) end

---Delete all entries; an array's values become 0, a queue is emptied.
---```lua
---local bpf = require "moonbee"
---local flows <close> = bpf.pinned "/sys/fs/bpf/flow/flows"
---print(flows:clear())
---```
---@return integer cleared entries that were deleted, or set to 0
function map:clear() end

---A live view of an array map that is marked BPF_F_MMAPABLE in C: no copies, no system calls.
---Read-only once the map is frozen, or made with BPF_F_RDONLY_PROG. It ends with the map. A pin that
---was opened read-only cannot be mapped: that gives a read-only copy of the moment. Kernel 5.5.
---
---Raises text, or EINVAL, for other maps; EPERM.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "flow.bpf.o"
---local slots = obj.maps.slots:mmap()
---print(slots[0])
---```
---@return moonbee.view array
function map:mmap() end

---Make it read-only for user space, for ever; BPF programs may still write, unless C says
---BPF_F_RDONLY_PROG. bpf(BPF_MAP_FREEZE), kernel 5.2. Raises EBUSY when it is mapped writable, or
---frozen already.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "flow.bpf.o"
---obj.maps.config:freeze()
---```
function map:freeze() end

---Pin it in bpffs: it outlives this process. Directories are made (0700); /sys/fs/bpf is mounted if
---it is not.
---
---With replace it takes the place of the map that is pinned there, in one step: at each moment one of
---the two is there. The pin's owner is recorded (bpf.pins, bpf.collect_pins).
---
---Raises EEXIST (path is taken; to be replaced: no map is there), ENAMETOOLONG, EINVAL (a dot in the
---name, not in bpffs). bpf(BPF_OBJ_PIN), rename(2).
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "flow.bpf.o"
---obj.maps.flows:pin "/sys/fs/bpf/flow/flows"
---```
---@param path string absolute
---@param opts? { replace: boolean }
function map:pin(path, opts) end

---Before load: let the object use that map instead of making a new one.
---
---Raises EEXIST when type, sizes, flags or the BTF layout of key and value differ (each difference is
---named; bpf.diff(other, map) has them as data), EBUSY after load.
---```lua
---local bpf = require "moonbee"
---local old <close> = bpf.load "flow.bpf.o"
---local new <close> = bpf.open "flow2.bpf.o"
---new.maps.flows:reuse(old.maps.flows)
---new:load()
---```
---@param other moonbee.map of another object, pinned, or by id
---@param how? "adopt"|"keep" it may differ as this word of on_mismatch says
function map:reuse(other, how) end

---Remove its pin. The map goes with its last user. Raises ENOENT when it is not pinned.
---```lua
---local bpf = require "moonbee"
---local flows <close> = bpf.pinned "/sys/fs/bpf/flow/flows"
---flows:unpin()
---```
function map:unpin() end

---Open a consumer of a ring buffer (Linux 5.8) or of a perf event array, in all else the same. One at a
---time for each ring: two would take each other's records. The reader has its own fd: it may outlive
---this handle, not the object. A perf event array needs CAP_PERFMON.
---
---Raises EINVAL for other types of map, EBUSY (a perf event array has a reader), ENOENT for an unknown
---type: when the type is in C and not in the object's BTF, the hint is the line of C that keeps it.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "flow.bpf.o"
---local events <close> = obj.maps.events:reader "struct event"
---print(events.stats.pending)
---```
---@param type? string|moonbee.type of the records; nil: records are strings
---@param opts? { pages: integer } of a perf event array: each CPU's buffer, a power of 2; 64
---@return moonbee.reader
function map:reader(type, opts) end

---Put a struct_ops map in force: the kernel calls its functions from now on. One of
---SEC(".struct_ops.link") can be updated and pinned (Linux 6.4, libbpf 1.2); one of
---SEC(".struct_ops") is in force as long as its link is.
---
---Raises EINVAL (not of that type; the kernel misses something in it), EEXIST or EBUSY (one of that name,
---or another one, is in force). libbpf: bpf_map__attach_struct_ops.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "flow.bpf.o"
---for _, m in pairs(obj.maps) do
---  if m.type == "struct_ops" then local link <close> = m:attach() end
---end
---```
---@return moonbee.link
function map:attach() end

---Open the producer of a user ring buffer: records from us for programs. One for each ring. Linux 6.1.
---
---Raises EINVAL for other types of map, EBUSY (it has a writer), ENOENT for an unknown type.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "flow.bpf.o"
---local commands <close> = obj.maps.commands:writer "struct command"
---commands:send { op = 1 }
---```
---@param type? string|moonbee.type of the records; nil: bytes
---@return moonbee.writer
function map:writer(type) end

---Close this handle. A map of an object stays with the object; others go with their last user.
---```lua
---local bpf = require "moonbee"
---bpf.pinned("/sys/fs/bpf/flow/flows"):close()
---```
function map:close() end

return map
