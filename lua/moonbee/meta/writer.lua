---@meta
-- SPDX-License-Identifier: BSD-2-Clause

---The producer of a user ring buffer: map.writer. Programs take its records by bpf_user_ringbuf_drain,
---in the order of reservation. It ends by close, `<close>` or the collector; what is reserved then is
---discarded.
---@class moonbee.writer
---@field name string of the map
---@field fd integer readable once each time a program has made room; for poll, do not close it
---@field stats moonbee.writer_stats
---@field closed boolean
local writer = {}

---@class moonbee.writer_stats
---@field submitted integer records
---@field discarded integer records
---@field pending integer bytes that no program has taken yet
---@field size integer bytes

---Reserve a record in the ring, zeroed and typed, to be filled in place; then submit or discard it:
---programs get none behind it before.
---
---Raises E2BIG (it never fits); text without a type.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "flow.bpf.o"
---local commands <close> = obj.maps.commands:writer "struct command"
---local c = commands:reserve()
---if c then
---  c.op = 1
---  commands:submit(c)
---end
---```
---@param bytes? integer more than its type has, for a flexible array at its end
---@return moonbee.view|nil record nil: the ring is full
function writer:reserve(bytes) end

---Hand a reserved record over. Its view ends.
---
---Raises text for what is not reserved (any more).
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "flow.bpf.o"
---local commands <close> = obj.maps.commands:writer "struct command"
---commands:submit(commands:reserve())
---```
---@param record moonbee.view
function writer:submit(record) end

---Give a reserved record up: programs pass over it. Its view ends. Raises as submit.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "flow.bpf.o"
---local commands <close> = obj.maps.commands:writer "struct command"
---commands:discard(commands:reserve())
---```
---@param record moonbee.view
function writer:discard(record) end

---Reserve, fill and submit at once. All is checked before.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "flow.bpf.o"
---local commands <close> = obj.maps.commands:writer "struct command"
---if not commands:send { op = 1, arg = 80 } then print "full" end
---```
---@param record table|string|moonbee.view fields, bytes, or a value
---@return boolean sent false: the ring is full
function writer:send(record) end

---Wait until there is room. It blocks the whole process.
---
---Raises "interrupted" on SIGINT and SIGTERM in the program moonbee.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "flow.bpf.o"
---local commands <close> = obj.maps.commands:writer "struct command"
---if not commands:wait(1.5) then print "nobody takes them" end
---```
---@param seconds? number nil: for ever
---@param bytes? integer of the record; its type's size
---@return boolean room false: the time is over
function writer:wait(seconds, bytes) end

---Close it. May be called again.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "flow.bpf.o"
---obj.maps.commands:writer():close()
---```
function writer:close() end

return writer
