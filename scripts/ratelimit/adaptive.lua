-- SPDX-License-Identifier: BSD-2-Clause
-- adaptive: limits the packets of each source address of an interface (XDP), tuned while it runs; a
-- policy. Edits of this file are taken over with nothing detached and no bucket emptied.
--
--   moonbee policy scripts/ratelimit/adaptive.lua --name ratelimit --param ifname=eth0
--   moonbee ctl ratelimit set rate 5k           (by hand; the next second tunes on from there)
--
-- The limit goes down while packets take more than params.busy of the CPU time, or while more than
-- params.target packets pass in a second; up again, to params.rate at most, when there is room.
local bpf = require "moonbee"

local policy = {
  object = "ratelimit.bpf.o",
  version = "1",
  params = {
    ifname = "lo",    -- the interface
    mode = "",        -- "native", "generic"; empty: the best there is
    rate = 1000,      -- packets per second and source: the most
    floor = 10,       -- and the least
    burst = 100,      -- packets that a source may send at once
    target = 0,       -- packets per second, all sources together; 0: only the CPU time counts
    busy = 0.25,      -- share of CPU time that packets may take
    flows = 16384,    -- sources to remember
    seconds = 1,      -- between two looks
    report = 5,       -- busiest sources to name when the limit changes; 0: none
  },
  -- moonbee ctl ratelimit metrics; GET /metrics on a socket in the run directory, or, for a
  -- Prometheus on this machine, moonbee policy … --metrics 127.0.0.1:9435
  metrics = {
    { name = "ratelimit_packets", type = "counter", help = "Packets by what became of them.",
      var = "stats", index = "what", fields = { "passed", "dropped", "other", "untracked" } },
    { name = "ratelimit_bytes", type = "counter", unit = "bytes", help = "Of packets that passed.",
      var = "stats.passed_bytes", labels = { what = "passed" } },
    { name = "ratelimit_bytes", type = "counter", unit = "bytes",
      var = "stats.dropped_bytes", labels = { what = "dropped" } },
    { name = "ratelimit_limit", type = "gauge", help = "Packets per second and source, as tuned.",
      var = "rate" },
    { name = "ratelimit_sources", type = "gauge", help = "That the flow table holds.",
      map = "flows", count = true },
    { name = "ratelimit_source_dropped", type = "counter", help = "Packets of a source.",
      map = "flows", value = "dropped", key = { source = "addr" }, as = { source = "ip" } },
    max_series = 20000,
  },
  uses = { files = { "/proc/stat" } },
  limits = { deadline = 0.2, errors = { count = 20, seconds = 60 } },
}

local STEP = 2          -- a limit changes at most by this factor in a second
local DOWN, UP = 0.7, 1.1

function policy.attach(params)
  local mode = params.mode ~= "" and params.mode or nil
  return { ratelimit = { ifname = params.ifname, mode = mode } }
end

function policy.setup(obj, params)
  obj.maps.flows.max_entries = params.flows
  obj.vars.rate, obj.vars.burst = params.rate, params.burst
end

-- ---- measuring ----------------------------------------------------------------------------------

-- Busy and all jiffies of all CPUs; busy: interrupts, where packets are handled.
local function cpu_times(ctx)
  local times, all = {}, 0
  for n in ctx.read "/proc/stat":match "[^\n]*":gmatch "%d+" do
    times[#times + 1] = math.tointeger(n)
  end
  for i = 1, 8 do all = all + (times[i] or 0) end
  return times[6] + times[7], all
end

-- What happened since the last look, which is kept in the state: a reload goes on with it.
local function measure(ctx, last)
  local stats, now = ctx.vars.stats, bpf.now_ns()
  local busy, all = cpu_times(ctx)
  local span = last.time and math.max((now - last.time) / 1e9, 1e-3) or 1
  local m = {
    passed = last.passed and (stats.passed - last.passed) / span or 0,
    dropped = last.dropped and (stats.dropped - last.dropped) / span or 0,
    cpu = last.all and all > last.all and (busy - last.busy) / (all - last.all) or 0,
  }
  last.time, last.passed, last.dropped = now, stats.passed, stats.dropped
  last.busy, last.all = busy, all
  return m
end

-- ---- tuning -------------------------------------------------------------------------------------

local function bounded(x, least, most)
  return math.max(least, math.min(x, most))
end

-- The next limit. Down by what is too much, up only while it is the limit that holds packets back.
local function next_rate(rate, m, params)
  local factor = 1.0
  if m.cpu > params.busy then factor = DOWN end
  if params.target > 0 and m.passed > params.target then
    factor = math.min(factor, params.target / m.passed)
  end
  if factor == 1.0 and m.dropped > 0 and m.cpu < params.busy * 0.6
    and (params.target == 0 or m.passed < params.target * 0.9) then
    factor = UP
  end
  factor = bounded(factor, 1 / STEP, STEP)
  return math.floor(bounded(rate * factor, params.floor, params.rate))
end

local function name_sources(ctx, n)
  for _, row in ipairs(ctx.maps.flows:top(n, "dropped")) do
    local bytes = bpf.bytes(row.key)
    local v4 = bytes:sub(1, 12) == ("\0"):rep(10) .. "\xff\xff"
    local text = v4 and bpf.iptext(bytes:sub(13)) or bpf.iptext(bytes)
    local flow = row.value > 0 and ctx.maps.flows:get(row.key)
    if flow then ctx.log.info("  %s: %d dropped, %d passed", text, flow.dropped, flow.passed) end
  end
end

function policy.start(ctx, state, from)
  local params = ctx.params
  ctx.state = state or { last = {}, tuned = 0 }
  if from then ctx.log.info("goes on from version %s, tuned %d times", from, ctx.state.tuned) end
  ctx.vars.rate = math.floor(bounded(ctx.vars.rate, params.floor, params.rate))

  ctx:every(params.seconds, function()
    local m = measure(ctx, ctx.state.last)
    local rate = ctx.vars.rate
    local want = next_rate(rate, m, params)
    if want == rate then return end
    ctx.vars.rate = want
    ctx.state.tuned = ctx.state.tuned + 1
    ctx.log.info("limit %d/s -> %d/s: passed %.0f/s, dropped %.0f/s, %.0f%% of CPU time", rate,
      want, m.passed, m.dropped, m.cpu * 100)
    if params.report > 0 then name_sources(ctx, math.floor(params.report)) end
  end)
end

-- ---- tests: each on a load of its own, before this version is put in force ----------------------

local PASS, DROP = 2, 1
local UDP = ("\2"):rep(12) .. "\8\0" .. "\x45\0\0\x2e\0\0\0\0\x40\x11\0\0\10\0\0\2\10\0\0\1"
  .. string.pack(">I2I2I2I2", 1000, 53, 26, 0) .. ("x"):rep(18)

policy.tests = {
  { name = "no limit, no drop", prog = "ratelimit", data = UDP, vars = { rate = 1000 },
    expect = { ret = PASS, vars = { ["stats.passed"] = 1 } } },
  { name = "nothing passes at rate 0", prog = "ratelimit", data = UDP, vars = { rate = 0 },
    expect = { ret = DROP, vars = { ["stats.dropped"] = 1, ["stats.passed"] = 0 } } },
  ["a burst passes, the rest does not"] = function(obj, t)
    obj.vars.rate, obj.vars.burst = 1, 7
    obj.progs.ratelimit:run { data = UDP, times = 20 }
    t.equal(7, obj.vars.stats.passed)
    t.ok(obj.vars.stats.dropped >= 13) -- an interrupted run is made again
  end,
  ["the limit follows the load"] = function(_, t)
    local params = { rate = 1000, floor = 10, busy = 0.25, target = 0 }
    t.equal(700, next_rate(1000, { cpu = 0.5, passed = 0, dropped = 0 }, params))
    t.equal(1000, next_rate(1000, { cpu = 0.1, passed = 0, dropped = 9 }, params))
    t.equal(550, next_rate(500, { cpu = 0.1, passed = 0, dropped = 9 }, params))
    t.equal(500, next_rate(500, { cpu = 0.1, passed = 0, dropped = 0 }, params))
    t.equal(10, next_rate(11, { cpu = 1, passed = 0, dropped = 0 }, params))
    params.target = 100
    t.equal(250, next_rate(500, { cpu = 0, passed = 1000, dropped = 0 }, params))
  end,
}

return policy
