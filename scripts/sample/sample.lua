-- SPDX-License-Identifier: BSD-2-Clause
-- sample: which processes make the system calls, within a budget of samples; a policy. It looks at
-- one call in so many; how many is tuned each second, so that about params.budget samples come in a
-- second, whatever the load is.
--
--   moonbee policy scripts/sample/sample.lua --param budget=500
--   moonbee ctl sample get every
--
-- The tallies are the policy's state: an edit of this file goes on with them.
local policy = {
  object = "sample.bpf.o",
  version = "1",
  params = {
    budget = 1000,    -- samples a second
    seconds = 1,      -- between two looks at the interval
    report = 10,      -- seconds between two reports
    top = 5,          -- processes in a report
  },
}

local MOST = 1 << 30
local TALLIES = 1000    -- processes that are kept; beyond it the small ones go

-- The next interval: at most four times as far at once, so that a pause does not blind it.
local function next_every(every, samples, budget)
  local want = every * samples / budget
  if samples == 0 then want = every / 4 end
  want = math.max(every / 4, math.min(want, every * 4))
  return math.max(1, math.min(math.floor(want + 0.5), MOST))
end

local function busiest(tallies, n)
  local list = {}
  for comm, calls in pairs(tallies) do list[#list + 1] = { comm = comm, calls = calls } end
  table.sort(list, function(a, b)
    if a.calls ~= b.calls then return a.calls > b.calls end
    return a.comm < b.comm
  end)
  return table.move(list, 1, math.min(n, #list), 1, {})
end

function policy.start(ctx, state)
  local params = ctx.params
  ctx.state = state or { tallies = {}, samples = 0, names = 0 }
  local s = ctx.state

  ctx:on("samples", "struct call_sample", function(comm, weight)
    s.samples = s.samples + 1
    if not s.tallies[comm] then
      s.names = s.names + 1
      if s.names > TALLIES then
        local kept = {}
        for _, t in ipairs(busiest(s.tallies, TALLIES // 2)) do kept[t.comm] = t.calls end
        s.tallies, s.names = kept, TALLIES // 2 + 1
      end
    end
    s.tallies[comm] = (s.tallies[comm] or 0) + weight
  end, "comm", "weight")

  ctx:every(params.seconds, function()
    local every = ctx.vars.every
    local want = next_every(every, s.samples, params.budget * params.seconds)
    s.samples = 0
    if want ~= every then ctx.vars.every = want end
  end)

  ctx:every(params.report, function()
    ctx.log.info("one call in %d; the most calls since the start:", ctx.vars.every)
    for _, t in ipairs(busiest(s.tallies, math.floor(params.top))) do
      ctx.log.info("  %-16s %d", t.comm, t.calls)
    end
  end)
end

policy.tests = {
  ["the interval follows the load"] = function(_, t)
    t.equal(2000, next_every(1000, 2000, 1000))
    t.equal(500, next_every(1000, 500, 1000))
    t.equal(4000, next_every(1000, 1000000, 1000))
    t.equal(250, next_every(1000, 0, 1000))
    t.equal(1, next_every(1, 0, 1000))
  end,
  ["names of the busiest come first"] = function(_, t)
    local top = busiest({ a = 1, b = 3, c = 2 }, 2)
    t.equal({ { comm = "b", calls = 3 }, { comm = "c", calls = 2 } }, top)
  end,
}

return policy
