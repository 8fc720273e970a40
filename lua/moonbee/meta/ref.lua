---@meta
-- SPDX-License-Identifier: BSD-2-Clause

---One scalar, bound: bpf.ref(view, path). It lives as long as the memory: when that has ended, every
---method raises text. All but get and set are atomic, for aligned integers of 1, 2, 4 and 8 bytes; BPF
---programs see them as such when they use atomics themselves. They raise text for other types.
---@class moonbee.ref
local ref = {}

---The value now.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---print(bpf.ref(obj.vars, "hits"):get())
---```
---@return integer|number|boolean|string
function ref:get() end

---Store a value. Raises text: out of range, read-only.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---bpf.ref(obj.vars, "hits"):set(0)
---```
---@param value integer|number|boolean|string
function ref:set(value) end

---Add, and wrap around as C does.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---local before = bpf.ref(obj.vars, "hits"):add(1)
---print(before)
---```
---@param n integer may be negative
---@return integer old the value before
function ref:add(n) end

---Subtract, and wrap around as C does.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---bpf.ref(obj.vars, "budget"):sub(10)
---```
---@param n integer
---@return integer old the value before
function ref:sub(n) end

---Bitwise and: clears the bits that mask has not.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---bpf.ref(obj.vars, "flags"):band(~1)
---```
---@param mask integer
---@return integer old
function ref:band(mask) end

---Bitwise or: sets the bits of mask.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---if bpf.ref(obj.vars, "flags"):bor(1) & 1 == 0 then print "first" end
---```
---@param mask integer
---@return integer old
function ref:bor(mask) end

---Bitwise exclusive or: flips the bits of mask.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---bpf.ref(obj.vars, "flags"):bxor(1)
---```
---@param mask integer
---@return integer old
function ref:bxor(mask) end

---Store a value, and take the one that was there.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---print("since the last look:", bpf.ref(obj.vars, "hits"):xchg(0))
---```
---@param value integer
---@return integer old
function ref:xchg(value) end

---Store a value if the expected one is there.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---local owner = bpf.ref(obj.vars, "owner")
---if owner:cas(0, 7) == 0 then print "mine" end
---```
---@param expected integer
---@param value integer
---@return integer old expected: it was stored
function ref:cas(expected, value) end

return ref
