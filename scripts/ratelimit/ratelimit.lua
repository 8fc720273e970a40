#!/usr/bin/env -S moonbee run
-- SPDX-License-Identifier: BSD-2-Clause
-- ratelimit: limits the packets per second of each source address of an interface, at XDP, and
-- tunes the limit to the load while it runs: a store into a variable of the BPF program.
--
--   moonbee run ratelimit --iface eth0 --rate 5000
--   moonbee run ratelimit --iface eth0 --target auto --drops 5
local bpf = require "moonbee"
local loop = require "moonbee.loop"
local argparse = require "argparse"
local cli = require "moonbee.cli"

local MAX_RATE, MAX_BURST = 10000000, 1 << 20 -- the BPF side's arithmetic is exact up to here
local STEP = 4             -- a limit changes at most by this factor at once
local CLOSE = 0.05         -- this near to the target is near enough
local BUSY, CALM = 0.25, 0.15 -- "auto": share of CPU time that packets may take; below: raise
local SEEN_MAX = 1000      -- sources whose first drop is told

-- ---- options ------------------------------------------------------------------------------------

local function integer(least, most)
  return function(text)
    local n = math.tointeger(tonumber(text))
    if n and n >= least and n <= most then return n end
    return nil, ("a whole number from %d to %d is expected, not '%s'"):format(least, most, text)
  end
end

local function seconds(text)
  local n = tonumber(text)
  if n and n > 0 and n < 1e9 then return n end
  return nil, ("a number of seconds is expected, not '%s'"):format(text)
end

local function target(text)
  if text == "auto" then return text end
  return integer(1, MAX_RATE)(text)
end

local parser = argparse("moonbee run ratelimit",
  "Limit the packets per second that each source address gets through an interface (XDP), and "
  .. "tune the limit to the load.")
  :epilog("Without --target the limit stays as it is. With \"--target auto\" it goes down while "
  .. "the machine spends more than " .. math.floor(BUSY * 100) .. "% of its CPU time on packets, "
  .. "and up again. Ctrl-C ends it; nothing stays attached.")
  :usage_max_width(80):help_max_width(80)
parser:option("-i --iface", "Interface (default: that of the default route)."):argname "IF"
parser:option("-r --rate", "First limit: packets per second and source.")
  :convert(integer(0, MAX_RATE)):default "1000":argname "N"
parser:option("-b --burst", "Packets that a source may send at once.")
  :convert(integer(1, MAX_BURST)):default "100":argname "N"
parser:option("-t --target", "Keep what passes, of all sources together, near this many packets"
  .. " per second; or \"auto\".", nil, target):argname "PPS"
parser:option("-s --seconds", "End after this time.", nil, seconds):argname "S"
parser:option("-n --top", "Busiest sources to show.")
  :convert(integer(0, 1000)):default "3":argname "N"
parser:option("-d --drops", "Dropped packets to show one by one, per second at most.")
  :convert(integer(0, 100000)):default "0":argname "N"
parser:option("-f --flows", "Sources to remember.")
  :convert(integer(16, 1 << 24)):default "16384":argname "N"
parser:option("-m --mode", "XDP in the driver (native), or generic (default: the best there is).")
  :choices { "native", "generic" }:argname "MODE"
parser:flag("-j --json", "One JSON object per line.")

local function options(args)
  local ok, opts = parser:pparse(args)
  if not ok then cli.usage(("ratelimit: %s\n%s"):format(opts, parser:get_usage())) end
  return opts
end

local function default_interface()
  local routes <close> = io.open "/proc/net/route"
  for line in routes and routes:lines() or function() end do
    local word = {}
    for w in line:gmatch "%S+" do word[#word + 1] = w end
    -- Interface, destination, gateway, flags, ..., mask.
    if word[2] == "00000000" and word[8] == "00000000" then return word[1] end
  end
  cli.fail "ratelimit: there is no default route\nhint: name an interface with --iface"
end

-- ---- addresses ----------------------------------------------------------------------------------

local MAPPED = ("\0"):rep(10) .. "\xff\xff" -- what an IPv4 address begins with here

-- IPv6 as RFC 5952 writes it: the longest run of zeros becomes "::".
local function v6_text(bytes)
  local groups, best, run = { string.unpack(">I2I2I2I2I2I2I2I2", bytes) }, { 0, 1 }, 0
  groups[9] = nil
  for i = 1, 8 do
    run = groups[i] == 0 and run + 1 or 0
    if run > best[2] then best = { i - run + 1, run } end
  end
  local parts = {}
  for i = 1, 8 do parts[i] = ("%x"):format(groups[i]) end
  if best[1] == 0 then return table.concat(parts, ":") end
  return table.concat(parts, ":", 1, best[1] - 1) .. "::"
    .. table.concat(parts, ":", best[1] + best[2])
end

local function address(bytes)
  if bytes:sub(1, 12) ~= MAPPED then return v6_text(bytes) end
  return ("%d.%d.%d.%d"):format(bytes:byte(13, 16))
end

-- ---- measuring ----------------------------------------------------------------------------------

-- Share of all CPUs' time since the last call that went into interrupts, where packets are handled.
local function new_cpu_meter()
  local last_busy, last_all
  return function()
    local file <close> = io.open "/proc/stat"
    local times, all = {}, 0
    for n in file:read "l":gmatch "%d+" do times[#times + 1] = math.tointeger(n) end
    for i = 1, 8 do all = all + (times[i] or 0) end
    local busy = times[6] + times[7]
    local share = last_all and all > last_all and (busy - last_busy) / (all - last_all) or 0
    last_busy, last_all = busy, all
    return share
  end
end

-- What the flow table says since the last call: how many sources sent, and the busiest of them.
local function new_ranking(flows, count)
  local before = {}
  return function(span)
    local now, active = {}, {}
    for key, flow in pairs(flows) do
      local id, passed, dropped = bpf.bytes(key), flow.passed, flow.dropped
      local was = before[id]
      now[id] = { passed, dropped }
      if was and was[1] <= passed and was[2] <= dropped then
        passed, dropped = passed - was[1], dropped - was[2]
      end
      if passed + dropped > 0 then
        active[#active + 1] = { id = id, passed = passed / span, dropped = dropped / span }
      end
    end
    before = now
    table.sort(active, function(a, b) return a.passed + a.dropped > b.passed + b.dropped end)
    local top = table.move(active, 1, math.min(count, #active), 1, {})
    for _, source in ipairs(top) do source.address = address(source.id) end
    return #active, top
  end
end

-- The counters' growth per second since the last call.
local function new_meter(vars, opts, flows)
  local ranking, cpu = new_ranking(flows, opts.top), new_cpu_meter()
  local stats = vars.stats
  local start = bpf.now_ns()
  local last, passed, dropped = start, stats.passed, stats.dropped
  cpu()
  return function()
    local now, p, d = bpf.now_ns(), stats.passed, stats.dropped
    local span = (now - last) / 1e9
    local s = { time = (now - start) / 1e9, passed = (p - passed) / span,
      dropped = (d - dropped) / span, rate = vars.rate, cpu = cpu() }
    s.sources, s.top = ranking(span)
    last, passed, dropped = now, p, d
    return s
  end
end

-- ---- tuning -------------------------------------------------------------------------------------

local function bounded(x, least, most)
  return math.max(least, math.min(x, most))
end

-- Proportional: what passes grows at most as the limit does, so this comes nearer with each step.
-- Up only while the limit is what holds packets back.
local function toward(s, pps)
  if s.passed > pps * (1 + CLOSE) or s.dropped > 0 and s.passed < pps * (1 - CLOSE) then
    return s.rate * bounded(pps / math.max(s.passed, 1), 1 / STEP, STEP)
  end
  return s.rate
end

-- Additive up, multiplicative down: the load that packets cause is not proportional to them.
local function toward_calm(s)
  if s.cpu > BUSY then return s.rate * 0.7 end
  if s.cpu < CALM and s.dropped > 0 then return s.rate + math.max(1, s.rate * 0.1) end
  return s.rate
end

local function next_rate(s, pps)
  if not pps then return s.rate end
  local rate = pps == "auto" and toward_calm(s) or pps ~= "auto" and toward(s, pps)
  return math.floor(bounded(rate, 1, MAX_RATE) + 0.5)
end

-- ---- printing -----------------------------------------------------------------------------------

local function whole(x)
  return math.floor(x + 0.5)
end

local text = {}

function text.start(iface, opts)
  local goal = opts.target == "auto" and ", tuned to the machine's load"
    or opts.target and (", tuned to pass %d/s in all"):format(opts.target) or ""
  print(("ratelimit: on %s, %d packets/s for each source, burst %d%s"):format(iface, opts.rate,
    opts.burst, goal))
  print(("%6s %10s %10s %8s %10s"):format("time", "passed/s", "dropped/s", "sources", "limit/s"))
end

function text.second(s)
  print(("%5.1fs %10d %10d %8d %10d"):format(s.time, whole(s.passed), whole(s.dropped), s.sources,
    s.rate))
  for _, source in ipairs(s.top) do
    print(("         %-22s %8d/s passed %8d/s dropped"):format(source.address,
      whole(source.passed), whole(source.dropped)))
  end
end

function text.tuned(s, rate, pps)
  local why = pps == "auto" and ("%.0f%% of CPU time goes into packets"):format(s.cpu * 100)
    or ("passed %d/s, target %d/s"):format(whole(s.passed), pps)
  print(("         tuned: limit %d/s -> %d/s (%s)"):format(s.rate, rate, why))
end

function text.drop(d)
  print(("         %s %s:%d, %d bytes, its drop %d"):format(d.first and "first drop:" or "dropped:",
    d.source, d.port, d.bytes, d.dropped))
end

function text.finish(t)
  print(("ratelimit: passed %d, dropped %d packets of %d sources; tuned %d times, limit %d/s")
    :format(t.passed, t.dropped, t.sources, t.tuned, t.rate))
  if t.untracked > 0 then
    print(("ratelimit: %d packets passed without a place in the flow table (--flows)")
      :format(t.untracked))
  end
  if t.reports_lost > 0 then print(("ratelimit: %d drop reports lost"):format(t.reports_lost)) end
end

local function line(t)
  print(bpf.json(t))
end

local lines = {}

function lines.start(iface, opts)
  line { type = "start", iface = iface, rate = opts.rate, burst = opts.burst, target = opts.target }
end

function lines.second(s)
  local top = setmetatable({}, { __jsontype = "array" })
  for i, source in ipairs(s.top) do
    top[i] = { address = source.address, passed = whole(source.passed),
      dropped = whole(source.dropped) }
  end
  line { type = "second", time = s.time, passed = whole(s.passed), dropped = whole(s.dropped),
    sources = s.sources, rate = s.rate, cpu = math.floor(s.cpu * 1000) / 1000, top = top }
end

function lines.tuned(s, rate)
  line { type = "tuned", time = s.time, from = s.rate, to = rate }
end

function lines.drop(d)
  d.type = "drop"
  line(d)
end

function lines.finish(t)
  t.type = "end"
  line(t)
end

-- ---- attaching ----------------------------------------------------------------------------------

-- A driver that knows XDP may refuse it as it is set up (offloads, MTU): generic XDP always works.
local function attach(program, iface, mode)
  local ok, link = pcall(program.attach, program, { ifname = iface, mode = mode })
  if ok then return link end
  local first = link
  if not mode then
    ok, link = pcall(program.attach, program, { ifname = iface, mode = "generic" })
    if ok then
      io.stderr:write(("ratelimit: the driver of %s refuses (%s): generic XDP\n")
        :format(iface, first.code))
      return link
    end
  end
  error(first, 0)
end

-- ---- main ---------------------------------------------------------------------------------------

local opts = options { ... }
local iface = opts.iface or default_interface()
local out = opts.json and lines or text
local tuned = 0
io.stdout:setvbuf "line"

local obj <close> = bpf.open(bpf.find "ratelimit.bpf.o")
obj.maps.flows.max_entries = opts.flows
obj.vars.rate, obj.vars.burst = opts.rate, opts.burst
obj.vars.report_rate = math.max(opts.drops, 10)
obj:load()
local vars = obj.vars
local reader <close> = obj.maps.drops:reader "struct drop"
local link <close> = attach(obj.progs.ratelimit, iface, opts.mode)
local meter = new_meter(vars, opts, obj.maps.flows)

local function each_second()
  local s = meter()
  out.second(s)
  local rate = next_rate(s, opts.target)
  if rate ~= s.rate then
    vars.rate = rate -- the next packet meets the new limit
    tuned = tuned + 1
    out.tuned(s, rate, opts.target)
  end
end

local seen, seen_count = {}, 0

local function each_drop(drop)
  local id = bpf.bytes(drop.source)
  local first = not seen[id] and seen_count < SEEN_MAX
  if first then seen[id], seen_count = true, seen_count + 1 end
  if first or opts.drops > 0 then
    out.drop { first = first, source = address(id), port = drop.dport, proto = drop.proto,
      bytes = drop.len, dropped = drop.dropped }
  end
end

-- The start is told in the loop: who reads it may interrupt us, and gets the totals.
loop.spawn(function()
  out.start(iface, opts)
  loop.every(1, each_second)
  loop.on(reader, each_drop)
  -- A little later, so that the last second is told, too.
  if opts.seconds then loop.after(opts.seconds + 0.02, loop.stop) end
end)
loop.run()

link:close()
local stats = vars.stats
out.finish { passed = stats.passed, dropped = stats.dropped, sources = stats.sources,
  tuned = tuned, rate = vars.rate, untracked = stats.untracked, reports_lost = stats.reports_lost }
