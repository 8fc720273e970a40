-- SPDX-License-Identifier: BSD-2-Clause
-- gentle: a TCP congestion control (struct_ops, Linux 6.4), tuned as it runs; a policy. How much of
-- the window is kept after a loss follows how many losses there are.
--
--   moonbee policy scripts/gentle/gentle.lua
--   sysctl net.ipv4.tcp_congestion_control=gentle        (or setsockopt TCP_CONGESTION)
--   moonbee ctl gentle set keep 80
local policy = {
  object = "gentle.bpf.o",
  version = "1",
  params = {
    least = 50,            -- the least that is kept of the window after a loss, percent
    most = 90,             -- the most
    seconds = 5,           -- between two looks
    rare = 0.0001,         -- losses for each segment: fewer, and more of the window is kept
    many = 0.01,           -- more, and less
  },
}

local STEP = 5

local function next_keep(keep, losses, segments, params)
  if segments == 0 then return keep end
  local share = losses / segments
  if share > params.many then
    keep = keep - STEP
  elseif share < params.rare then
    keep = keep + STEP
  end
  return math.floor(math.max(params.least, math.min(keep, params.most)))
end

function policy.start(ctx, state)
  ctx.state = state or { losses = 0, acked = 0 }
  local s = ctx.state
  ctx:every(ctx.params.seconds, function()
    local losses, acked = ctx.vars.losses, ctx.vars.acked
    local keep = ctx.vars.keep
    local want = next_keep(keep, losses - s.losses, acked - s.acked, ctx.params)
    s.losses, s.acked = losses, acked
    if want == keep then return end
    ctx.vars.keep = want
    ctx.log.info("keeps %d%% of the window after a loss (%d connections so far)", want,
      ctx.vars.opened)
  end)
end

policy.tests = {
  ["follows the losses"] = function(_, t)
    local params = { least = 50, most = 90, rare = 0.0001, many = 0.01 }
    t.equal(75, next_keep(70, 0, 1000, params))
    t.equal(65, next_keep(70, 50, 1000, params))
    t.equal(70, next_keep(70, 1, 1000, params))
    t.equal(70, next_keep(70, 0, 0, params))
    t.equal(50, next_keep(50, 500, 1000, params))
    t.equal(90, next_keep(90, 0, 1000, params))
  end,
}

return policy
