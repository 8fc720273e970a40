---@meta
-- SPDX-License-Identifier: BSD-2-Clause

---Typed memory: a struct, union or array somewhere. Fields are read and written by name, elements by
---index from 0, as in C; pairs(v) goes through fields in order, or through 0 … #v - 1. Views have no
---methods: every name belongs to the C struct, and what can be done with one are functions of the
---module moonbee.
---
---Reading a scalar gives a number, boolean or string (char arrays, up to the first NUL); an aggregate
---its own view. Unsigned 64-bit values keep their bits in Lua's integer: compare with math.ult.
---Enums and pointers read as integers; an enum takes a name, too. Aligned scalars of up to 8 bytes
---are read and written at once; `v.x = v.x + 1` is no atomic step (moonbee.ref has some).
---
---A table that is assigned to an aggregate must name every field (of a union, one); a sequence fills
---elements from 0, a shorter one leaves zeros. All is checked before anything is written.
---
---Raises text: unknown field (with a near name), value out of range (256 into a u8), a fraction into
---an integer, read-only memory (loaded .rodata, snapshots of map values), memory that has ended (a
---closed object, a record after its turn).
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---obj.vars.cfg.limits[3].rate = 500
---obj.vars.mode = "STRICT"
---for name, value in pairs(obj.vars.cfg) do print(name, value) end
---```
---@class moonbee.view
---@field [string] any
---@field [integer] any
---@operator len: integer
local view = {}

return view
