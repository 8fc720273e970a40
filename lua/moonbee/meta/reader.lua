---@meta
-- SPDX-License-Identifier: BSD-2-Clause

---The consumer of a ring buffer or of a perf event array: map.reader. It ends by close, `<close>`, the
---collector, or with the map's object. A perf event array has one reader; its records are copied, in
---order per CPU only, and may be some bytes longer than what the program wrote: the kernel fills up.
---@class moonbee.reader
---@field name string of the map
---@field fd integer readable as long as records are there; for poll and the like, do not close it. Of
--- a perf event array: ask for it again before polling anew, since polling uses up the kernel's news
---@field stats moonbee.reader_stats
---@field closed boolean
local reader = {}

---@class moonbee.reader_stats
---@field consumed integer records
---@field pending integer bytes
---@field size integer bytes; of a perf event array those of all CPUs
---@field lost integer|nil records that found no room: what MB_LOST(ring) of moonbee.bpf.h counts, or the
--- kernel for a perf event array, which tells of a loss with the next record; nil when nothing counts

---Go through the records that are there now. Does not wait. Each is a view of the ring's memory,
---fresh each time: after its turn it raises, and never shows another record; bpf.copy keeps it. A
---record is consumed when its turn ends, also by break and error.
---
---Raises text: a closed reader, a drain within another one, an unknown column, a record that is
---shorter than its type.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "flow.bpf.o"
---local events <close> = obj.maps.events:reader "struct event"
---for ev in events:drain { max = 100 } do print(ev.pid) end
---for pid, comm in events:drain("pid", "comm") do print(pid, comm) end
---```
---@param ... string|{ max: integer } at most max records; then columns: these fields as values, no view
---@return fun(): any iterator
function reader:drain(...) end

---Wait until a record is there. It blocks the whole process: in a handler of the loop use loop.on.
---
---Raises "interrupted" on SIGINT and SIGTERM in the program moonbee.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "flow.bpf.o"
---local events <close> = obj.maps.events:reader "struct event"
---if not events:wait(1.5) then print "nothing happened" end
---```
---@param seconds? number nil: for ever
---@return boolean there false: the time is over
function reader:wait(seconds) end

---Add up one field of all records that are there now, in C. They are consumed by it.
---
---Raises for a record that is too short for the field, and while the reader is being drained.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "flow.bpf.o"
---local bytes, records = obj.maps.events:reader "struct event":sum "len"
---print(bytes, records)
---```
---@param path string a number: "len", "stats.bytes"
---@return number sum integers wrap at 64 bits, as in C
---@return integer records
function reader:sum(path) end

---Close it. Records that are left stay in the ring. May be called again, also in its own drain.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.load "flow.bpf.o"
---obj.maps.events:reader():close()
---```
function reader:close() end

return reader
