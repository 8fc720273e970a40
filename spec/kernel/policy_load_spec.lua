-- SPDX-License-Identifier: BSD-2-Clause
-- Reloads under load: numbered packets on a veth pair, each an event in a ring, while version after
-- version takes over. MB_SOAK=1 (make soak): a thousand reloads.
local uv = require "luv"
local bpf = require "moonbee"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"
local policy = require "support.policy"
local veth = require "support.veth"

local SOAK = os.getenv "MB_SOAK" == "1"
local OVERLAPS = SOAK and 1000 or support.slow and 6 or 60
local RELOADS = SOAK and 1000 or support.slow and 6 or 40
local PPS = 5000
local PACE = 30000 -- nanoseconds between events, so that there are moments without one

local POLICY = [[
local policy = { object = "p.bpf.o", attach = { count_xdp = { ifname = "%s" }, tail_xdp = false,
  on_getpriority = %s } }
function policy.setup(obj) obj.vars.who = %d end
function policy.start(ctx, state)
  ctx.state = state or { generation = 0, last = 0, n = 0 }
  local s = ctx.state
  s.generation = s.generation + 1
  ctx.vars.generation = s.generation
  ctx:on("events", "struct event", function(seq)
    s.n = s.n + 1
    if seq <= s.last then ctx.vars.doubled = ctx.vars.doubled + 1
    elseif seq > s.last + 1 then ctx.vars.gaps = ctx.vars.gaps + seq - s.last - 1 end
    s.last = math.max(seq, s.last)
    ctx.vars.got = s.n
  end, "seq")
end
return policy
]]

-- KiB. A libbpf before 1.6 reads the kernel's BTF at each load; malloc may keep the room of one.
local KEPT = support.libbpf < 106
  and uv.fs_stat "/sys/kernel/btf/vmlinux".size // 1024 or 0

-- Links of a kind that the kernel cannot update.
local OVERLAPPING = [[
local policy = { object = "p.bpf.o",
  attach = { on_setpriority = true, on_getpriority = %s, tail_xdp = false } }
function policy.setup(obj) obj.progs.on_setpriority.autoload = true obj.vars.who = 1 end
function policy.start(ctx)
  local got, doubled, gaps = bpf.ref(ctx.vars, "got"), bpf.ref(ctx.vars, "doubled"),
    bpf.ref(ctx.vars, "gaps")
  ctx:on("events", "struct event", function(seq)
    local last = ctx.vars.last
    if seq <= last then doubled:add(1) elseif seq > last + 1 then gaps:add(seq - last - 1) end
    ctx.vars.last = seq
    got:add(1)
  end, "seq")
end
return policy
]]

-- What a process holds: descriptors, and memory in KiB.
local function holds(pid)
  local fds, scan = 0, uv.fs_scandir(("/proc/%d/fd"):format(pid))
  while uv.fs_scandir_next(scan) do fds = fds + 1 end
  local file <close> = assert(io.open(("/proc/%d/status"):format(pid)))
  return fds, math.tointeger(tonumber(file:read "a":match "VmRSS:%s*(%d+)"))
end

describe("reloads under load #root", function()
  before_each(skip.root)

  local function settled(p, what, n)
    support.until_true(function() return p:get(what) >= n end, 20)
    assert.equal(n, p:get(what))
  end

  -- n events for on_setpriority, each so many nanoseconds after the one before.
  local function send(n, apart)
    local who, priority, due = math.tointeger(uv.os_getpid()), uv.os_getpriority(0), uv.hrtime()
    for _ = 1, n do
      due = due + apart
      while uv.hrtime() < due do end
      uv.os_setpriority(who, priority)
    end
    return n
  end

  it("lose no packet and no event, and double none, where links are updated", function()
    local pair <close> = veth.new()
    local p <close> = policy.new()
    p:object "policy"
    p:write("p.lua", POLICY:format(pair.ifname, "false", 0))
    p:start()
    local pid = p:ask("status").pid
    local sender = pair:send(PPS)
    support.until_true(function() return p:get "counted" > 0 end)
    local fds, memory
    local actions, swaps, beside = {}, {}, {}
    for i = 1, RELOADS do
      local plan = p:ask("reload", { fresh = i % 2 == 0 })
      local link = plan.links[1]
      actions[link.action] = (actions[link.action] or 0) + 1
      assert.same({}, plan.problems)
      if plan.object == "loaded" then
        swaps[#swaps + 1] = plan.swap_us - plan.links_us
        beside[#beside + 1] = plan.links_us - link.us
      end
      if i == math.min(RELOADS // 2, 100) then fds, memory = holds(pid) end
    end
    local sent = sender.stop()
    settled(p, "counted", sent)
    settled(p, "got", sent)
    assert.same({ 0, 0, 0 }, { p:get "gaps", p:get "doubled", p:get "lost" })
    assert.equal(RELOADS + 1, p:get "generation")
    assert.same({ kept = RELOADS - RELOADS // 2, updated = RELOADS // 2 }, actions)
    assert.is_true(sent > RELOADS, sent)
    table.sort(swaps)
    table.sort(beside)
    -- the switch of the links is their update and next to nothing else, for four in five
    local most = beside[#beside * 4 // 5 + 1]
    assert.is_true(most < (support.slow and 20000 or 1000), most)
    support.until_true(function() return not p:ask("status").retiring end)
    local fds_after, memory_after = holds(pid)
    assert.equal(fds, fds_after)
    if not support.slow then
      assert.is_true(memory_after < memory * 1.1 + 1024 + KEPT, memory .. " -> " .. memory_after)
    end
    if SOAK then
      print(("soak: %d reloads, %d packets sent, counted and read; 0 lost, 0 doubled; %d fds; "
        .. "%d -> %d KiB; swap beside the link updates: median %.0f us"):format(RELOADS, sent,
        fds_after, memory, memory_after, swaps[#swaps // 2 + 1]))
    end
    assert.equal(0, p:finish().rc)
  end)

  it("leave nothing of the versions before in memory", function()
    local p <close> = policy.new()
    p:object "policy"
    p:write("p.lua", POLICY:format("lo", "false", 0):gsub("count_xdp = %b{}", "count_xdp = false"))
    p:start()
    local pid = p:ask("status").pid
    local function reloads(n)
      for i = 1, n do p:ask("reload", { fresh = i % 4 == 0 }) end
      return select(2, holds(pid))
    end
    local before = reloads(support.slow and 10 or 60)
    local after = reloads(support.slow and 10 or 120)
    if not support.slow then assert.is_true(after < before + 2500, before .. " -> " .. after) end
  end)

  it("lose no event where links overlap, and double as many as the plan says", function()
    local p <close> = policy.new()
    p:object "policy"
    -- the old one of on_getpriority ends first, and takes a grace period
    p:write("p.lua", OVERLAPPING:format "true")
    p:start()
    local sent, told, most, all, ranges = 0, 0, 0, 0, 0
    for _ = 1, OVERLAPS do
      local plan
      p.client:send("reload", { fresh = true }, nil, function(ok, result)
        plan = ok and result or error(tostring(result))
      end)
      while not plan do -- events all the time that the reload takes
        sent = sent + send(20, PACE)
        uv.run "nowait"
      end
      assert.same({ "overlapped", "overlapped" }, { plan.links[1].action, plan.links[2].action })
      assert.same({}, plan.problems)
      local entry = plan.doubled[2]
      assert.same({ "on_setpriority", 1 }, { entry.program, entry.links })
      assert.is_nil(entry.why)
      ranges = ranges + (entry.events and 0 or 1)
      told = told + (entry.events or entry.least)
      most = most + (entry.events or entry.most)
      for _, each in ipairs(plan.doubled) do all = all + (each.events or each.most) end
    end
    local handled = p:get "handled"
    assert.is_true(told > 0) -- else nothing was doubled, and this shows nothing
    assert.is_true(sent + told <= handled and handled <= sent + most, bpf.json {
      sent = sent, handled = handled, told = told, most = most })
    -- a number, and a range of some events only where there was no moment without one
    assert.is_true(ranges <= 1 + OVERLAPS // 10, ranges)
    assert.is_true(most - told <= 10 * ranges, most - told)
    assert.equal(all, p:ask("status").doubled)
    settled(p, "got", handled)
    assert.same({ handled, 0, 0, 0 }, { p:get "calls", p:get "gaps", p:get "doubled",
      p:get "lost" })
    if SOAK then
      print(("soak: %d reloads with an overlapping link, %d events sent, %d handled: 0 lost, %d "
        .. "doubled"):format(OVERLAPS, sent, handled, handled - sent))
    end
  end)

  it("double nothing where no event comes while links overlap", function()
    local p <close> = policy.new()
    p:object "policy"
    local text = OVERLAPPING:format "false"
    p:write("p.lua", text)
    p:start()
    for i = 1, 5 do
      send(20, 0)
      local plan = p:ask("reload", { fresh = true })
      assert.same({ { program = "on_setpriority", links = 1, events = 0 } }, plan.doubled)
      assert.equal(20 * i, p:get "handled")
    end
    assert.matches("links 1 overlapped; on_setpriority: 0 events doubled", p.process.err)
    local r = run { support.moonbee, "ctl", "p", "plan" }
    assert.matches("link     on_setpriority: overlapped in [%d.]+ us\ndoubled  "
      .. "on_setpriority: 0 events doubled\n", r.out)
    p:write("p.lua", text .. "-- an edit\n")
    assert.same("keep", p:ask("reload", { dry_run = true }).links[1].action)
    local rate = 5
    support.until_true(function() -- the watch may take an edit over before it is asked about
      p:write("p.lua", (text:gsub("autoload = true", "%0 obj.vars.rate = " .. rate)))
      rate = rate + 1
      r = run { support.moonbee, "ctl", "p", "reload", "--dry-run" }
      return r.out:find("on_setpriority: overlap: events that come meanwhile are doubled\n", 1,
        true)
    end)
  end)
end)
