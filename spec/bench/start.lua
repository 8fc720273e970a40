-- SPDX-License-Identifier: BSD-2-Clause
--
-- The start rows of `make bench` with moonbee: a script that loads and attaches (as people do).
-- The other rows' code would be read with it, and counted.
--
--   build/moonbee run spec/bench/start.lua OBJECT

local bpf = require "moonbee"

local obj <close> = bpf.open(arg[1])
for name, prog in pairs(obj.progs) do prog.autoload = name == "on_switch" end
obj:load():attach()
print(string.format('{"row": "start.attached", "at_ns": %d}', bpf.now_ns()))

local status <close> = assert(io.open "/proc/self/status")
print(string.format('{"row": "start.rss", "kb": %s}', status:read "a":match "VmHWM:%s*(%d+)"))
