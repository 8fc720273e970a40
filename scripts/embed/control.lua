-- SPDX-License-Identifier: BSD-2-Clause
-- A control script inside flowd: it tunes the sampling to the traffic, live, and tells of it.
--   flowd eth0 --script control.lua [EVENTS-A-SECOND]
local bpf = require "moonbee"
local loop = require "moonbee.loop"

local wanted = tonumber((...)) or 5
local flow = bpf.lent.flow              -- the daemon's own object
local before = flow.vars.packets

loop.on(flow.maps.events:reader "struct event", function(ev)
  print(("control: packet %d has %d bytes"):format(ev.packets, ev.len))
end)
loop.every(0.2, function()
  local now = flow.vars.packets
  local a_second = (now - before) * 5
  before = now
  local sample = math.max(1, a_second // wanted)
  if sample ~= flow.vars.sample then
    flow.vars.sample = sample           -- the program counts by it from the next packet on
    print(("control: %d packets a second, so every %dth is told"):format(a_second, sample))
  end
end)
print("control: begins with sample " .. flow.vars.sample)
local why = loop.run()                  -- the daemon turns the loop
print("control: ends, " .. tostring(why))
