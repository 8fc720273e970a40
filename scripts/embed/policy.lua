-- SPDX-License-Identifier: BSD-2-Clause
-- A policy inside flowd, for the object that flowd has loaded and attached: edit it while it runs.
--   flowd eth0 --policy policy.lua --console rw
--   moonbee ctl policy status, moonbee console policy          (in another terminal)
local policy = { object = "@flow", params = { wanted = 5 } }

function policy.start(ctx, state)
  local before = ctx.vars.packets
  ctx.state = state or { told = 0 }
  ctx:on("events", "struct event", function(ev)
    ctx.state.told = ctx.state.told + 1
    ctx.log.info("packet %d has %d bytes; %d told", ev.packets, ev.len, ctx.state.told)
  end)
  ctx:every(0.2, function()
    local now = ctx.vars.packets
    ctx.vars.sample = math.max(1, (now - before) * 5 // ctx.params.wanted)
    before = now
  end)
end

return policy
