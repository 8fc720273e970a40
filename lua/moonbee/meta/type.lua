---@meta
-- SPDX-License-Identifier: BSD-2-Clause

---A C type of an object: obj.types["struct flow"], bpf.typeof(view), map.value_type. Calling it makes
---a value in memory of its own, writable: T{ rate = 1 }; unnamed fields are 0, as in a C initializer.
---tostring(T) is the C definition with offsets. It keeps its object's type information, not the
---object.
---```lua
---local bpf = require "moonbee"
---local obj <close> = bpf.open "flow.bpf.o"
---local T = obj.types["struct flow"]
---print(T, T { packets = 1 }.packets)
---```
---@class moonbee.type
---@field name string as C writes it: "struct flow", "u32", "char[16]"
---@field kind "int"|"bool"|"float"|"enum"|"pointer"|"chars"|"bytes"|"array"|"struct"|"union"|"section"|"group"
---@field size integer bytes
---@field signed boolean integers and enums
---@field count integer|nil elements of an array
---@field stride integer|nil bytes from one element to the next
---@field elem moonbee.type|nil of an array
---@field flexible boolean|nil an array without a size of its own, at the end of a struct
---@field fields moonbee.field[]|nil
---@field enums { name: string, value: integer }[]|nil
---@field target moonbee.type|nil what a pointer leads to; nil for void and functions
---@field callable boolean|nil a pointer to a function
---@overload fun(value: table): moonbee.view
local T = {}

---@class moonbee.field
---@field name string
---@field offset integer bytes
---@field bits integer|nil of a bitfield: its width
---@field shift integer|nil of a bitfield: its lowest bit, counted from offset
---@field type moonbee.type

return T
