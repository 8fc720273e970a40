-- SPDX-License-Identifier: BSD-2-Clause
-- What each thread of threads.c runs: all that the engine has, in a short time.
local bpf = require "moonbee"
local loop = require "moonbee.loop"

local path = ...
local obj <close> = bpf.load(path)
local v, sum, ticks = obj.vars, 0, 0
v.count = 100
assert(not pcall(bpf.open, "/nonexistent"))
assert(not pcall(function() return v.nosuch end))
loop.on(obj.maps.events:reader "struct event", function(ev)
  sum = sum + 1
  if ev.seq % 2 == 0 then loop.sleep(0) end
end)
loop.every(0.002, function()
  ticks = ticks + 1
  obj.progs.emit:run()
  assert(next(bpf.totable(v)) and obj.types["struct event"])
  if ticks == 5 then loop.stop() end
end)
loop.run()
assert(sum > 0 and ticks == 5)
