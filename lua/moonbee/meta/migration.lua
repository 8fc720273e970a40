---@meta
-- SPDX-License-Identifier: BSD-2-Clause

---A migration from one map to another: bpf.migration. The report counts from its beginning: `passes` over
---the old map, its `entries` at the last one, `copied` and `deleted` before the switch; `late`, what was
---written to the old map between the last copy and the switch: `added`, `changed`, `deleted`;
---`conflicts`, of those: the new map had a later value, and kept it; `summed`, entries whose counters got
---what the old map had counted since; `busy`: the old map is still written, so some program was not
---switched.
---@class moonbee.migration
---@field name string the old map's
---@field report { passes: integer, entries: integer, copied: integer, deleted: integer, late: { added: integer, changed: integer, deleted: integer }, conflicts: integer, summed: integer, busy: boolean }
---@field closed boolean
local migration = {}

---One pass before the switch: what is new or changed in the old map since the last pass goes to the new
---one, what is gone there goes here.
---
---Raises ERANGE (a value does not fit into the new layout; field and value are named), E2BIG (the new map
---is full), EEXIST (two keys become one): the old map is as it was, give the new one up.
---```lua
---local bpf = require "moonbee"
---local old <close> = bpf.pinned "/sys/fs/bpf/flow/flows"
---local new <close> = bpf.pinned "/sys/fs/bpf/flow/flows2"
---local move <close> = bpf.migration(old, new)
---print(move:copy().copied)
---```
---@return table report
function migration:copy() end

---After the switch: wait until programs that were running are through, then sweep the old map until it is
---quiet (four times at most). A key that a program wrote in the new map since the switch keeps that value;
---one that a program deleted there stays deleted. A key that came into the old map after the last copy and
---that a program tried to delete from the new one before this sweep had brought it does come: `late` says
---how many there can be.
---
---Raises as migration.copy.
---```lua
---local bpf = require "moonbee"
---local old <close> = bpf.pinned "/sys/fs/bpf/flow/flows"
---local new <close> = bpf.pinned "/sys/fs/bpf/flow/flows2"
---local move <close> = bpf.migration(old, new)
---local report = move:finish()
---assert(not report.busy)
---```
---@return table report
function migration:finish() end

---Give back its memory; the maps stay. Also <close> and the collector.
---```lua
---local bpf = require "moonbee"
---local old <close> = bpf.pinned "/sys/fs/bpf/flow/flows"
---local new <close> = bpf.pinned "/sys/fs/bpf/flow/flows2"
---bpf.migration(old, new):close()
---```
function migration:close() end
