-- SPDX-License-Identifier: BSD-2-Clause
-- scripts/ratelimit: the bucket's arithmetic by test runs, and the tool on real packets.
local json = require "dkjson"
local lfs = require "lfs"
local uv = require "luv"
local run = require "support.run"
local skip = require "support.skip"

local BUILD = os.getenv "MB_BUILD" or "build"
local MOONBEE = BUILD .. "/moonbee"
local OBJECT = BUILD .. "/scripts/ratelimit/ratelimit.bpf.o"
local SCRIPT = "scripts/ratelimit/ratelimit.lua"
local PASS, DROP = 2, 1

-- ---- packets ------------------------------------------------------------------------------------

local ETHERNET = ("\2"):rep(12)

local function udp4(source, tags)
  local ip = "\x45\0\0\x2e\0\0\0\0\x40\x11\0\0" .. string.pack("BBBB", table.unpack(source))
    .. "\10\0\0\1"
  return ETHERNET .. (tags or "") .. "\8\0" .. ip .. string.pack(">I2I2I2I2", 1000, 53, 26, 0)
    .. ("x"):rep(18)
end

local function udp6(last)
  return ETHERNET .. "\x86\xdd" .. "\x60\0\0\0\0\x1a\x11\x40" .. "\xfd\x77" .. ("\0"):rep(13)
    .. string.char(last) .. ("\0"):rep(15) .. "\1" .. string.pack(">I2I2I2I2", 1000, 53, 26, 0)
    .. ("x"):rep(18)
end

local function arp()
  return ETHERNET .. "\8\6" .. ("\0"):rep(46)
end

describe("ratelimit.bpf.c #root", function()
  local bpf, obj

  before_each(function()
    skip.root()
    bpf = require "moonbee"
    obj = bpf.load(OBJECT)
  end)
  after_each(function()
    if obj then obj:close() end
    obj = nil
  end)

  -- How many of n packets pass.
  local function passes(packet, n)
    local before = obj.vars.stats.passed
    obj.progs.ratelimit:run { data = packet, times = n }
    return obj.vars.stats.passed - before
  end

  local function verdict(packet)
    return obj.progs.ratelimit:run { data = packet }.ret
  end

  it("lets a burst through and drops the rest", function()
    obj.vars.rate, obj.vars.burst = 1, 7
    assert.equal(7, passes(udp4 { 10, 0, 0, 2 }, 100))
    assert.equal(93, obj.vars.stats.dropped)
    assert.equal(1, obj.vars.stats.sources)
  end)

  it("gives each source a bucket of its own, IPv6 too", function()
    obj.vars.rate, obj.vars.burst = 1, 3
    assert.equal(3, passes(udp4 { 10, 0, 0, 2 }, 10))
    assert.equal(3, passes(udp4 { 10, 0, 0, 3 }, 10))
    assert.equal(3, passes(udp6(1), 10))
    assert.equal(3, passes(udp6(2), 10))
    assert.equal(4, obj.maps.flows:count())
  end)

  it("sees the source through one and two VLAN tags", function()
    obj.vars.rate, obj.vars.burst = 1, 3
    local source = { 10, 0, 0, 2 }
    assert.equal(3, passes(udp4(source), 10))
    assert.equal(DROP, verdict(udp4(source, "\x81\0\0\5")))
    assert.equal(DROP, verdict(udp4(source, "\x88\xa8\0\5\x81\0\0\6")))
    assert.equal(1, obj.maps.flows:count())
  end)

  it("passes what is no IP, and what is cut short", function()
    obj.vars.rate = 0
    assert.equal(PASS, verdict(arp()))
    assert.equal(PASS, verdict(udp4({ 10, 0, 0, 2 }):sub(1, 33)))
    assert.equal(PASS, verdict(ETHERNET .. "\x81\0\0"))
    assert.equal(3, obj.vars.stats.other)
    assert.equal(0, obj.maps.flows:count())
  end)

  it("meets a new limit with the next packet", function()
    local packet = udp4 { 10, 0, 0, 2 }
    obj.vars.rate = 0
    assert.equal(0, passes(packet, 50))
    obj.vars.rate, obj.vars.burst = 1, 5
    assert.equal(5, passes(packet, 50))
    -- The debt of a limit of 1/s does not outlive it: at 10 M/s the bucket fills in no time.
    obj.vars.rate = 10000000
    assert.is_true(passes(packet, 10000) > 100)
    obj.vars.rate = 0
    assert.equal(0, passes(packet, 50))
  end)

  it("holds the rate over time", function()
    local packet, times = udp4 { 10, 0, 0, 2 }, 1000000
    for _, rate in ipairs { 5000, 300000 } do
      obj.vars.rate, obj.vars.burst = rate, 100
      local before, start = obj.vars.stats.passed, bpf.now_ns()
      local r = obj.progs.ratelimit:run { data = packet, times = times }
      local passed, wall = obj.vars.stats.passed - before, (bpf.now_ns() - start) / 1e9
      local most, least = 100 + rate * wall, rate * r.duration_ns * times / 1e9
      assert.is_true(passed <= most + 1, passed .. ", at most " .. most)
      assert.is_true(passed >= least * 0.9, passed .. ", at least " .. least)
    end
  end)

  it("does its sums without overflow at the ends of the ranges", function()
    local packet = udp4 { 10, 0, 0, 2 }
    obj.vars.rate, obj.vars.burst = 1, 0xffffffff
    assert.equal(1000, passes(packet, 1000))
    obj.vars.rate, obj.vars.burst = 0xffffffff, 0xffffffff
    assert.is_true(passes(packet, 1000) >= 999)
    obj.vars.rate, obj.vars.burst = 1, 0
    assert.is_true(passes(packet, 1000) <= 1)
  end)

  it("reports drops by the variable's limit and counts those it held back", function()
    obj.vars.rate, obj.vars.burst, obj.vars.report_rate = 0, 1, 4
    local reader <close> = obj.maps.drops:reader "struct drop"
    passes(udp4 { 10, 0, 0, 2 }, 100)
    local n = 0
    for drop in reader:drain() do
      n = n + 1
      assert.same({ 53, 17, n }, { drop.dport, drop.proto, drop.dropped })
    end
    assert.equal(4, n)
    assert.same({ 4, 96, 0 },
      { obj.vars.stats.reports, obj.vars.stats.reports_held, obj.vars.stats.reports_lost })
    obj.vars.report_rate = 0
    passes(udp4 { 10, 0, 0, 2 }, 10)
    assert.equal(4, obj.vars.stats.reports)
  end)

  it("counts reports that the ring has no room for", function()
    obj.vars.rate, obj.vars.report_rate = 0, 1000000
    passes(udp4 { 10, 0, 0, 2 }, 5000)
    local stats = obj.vars.stats
    assert.is_true(stats.reports_lost > 0)
    assert.equal(5000, stats.reports + stats.reports_lost + stats.reports_held)
  end)

  it("keeps no more sources than the table has room for", function()
    obj:close()
    obj = bpf.open(OBJECT)
    obj.maps.flows.max_entries = 64
    obj:load()
    for i = 1, 200 do passes(udp4 { 10, 1, i // 256, i % 256 }, 1) end
    assert.is_true(obj.maps.flows:count() <= 64)
    assert.equal(200, obj.vars.stats.passed)
  end)
end)

-- ---- real packets -------------------------------------------------------------------------------

describe("moonbee run ratelimit #root", function()
  local pid = math.tointeger(uv.os_getpid())
  local tx, rx = "mbst" .. pid, "mbsr" .. pid
  local made

  local function ip(...)
    local r = run { "ip", ... }
    assert.equal(0, r.rc, r.err)
    return r.out
  end

  local function in_ns(ns, argv, options)
    return run.start(table.move(argv, 1, #argv, 3, { "nsenter", "--net=/run/netns/" .. ns }),
      options)
  end

  local function traffic(seconds, ...)
    return in_ns(tx, { "lua5.4", "scripts/ratelimit/traffic.lua", "10.78.0.1", "9",
      tostring(seconds), ... })
  end

  local function xdp_attached()
    local link = json.decode(ip("-n", rx, "-j", "link", "show", rx))
    return link[1].xdp ~= nil
  end

  setup(function()
    if not skip.is_root() then return end
    made = true
    ip("netns", "add", tx)
    ip("netns", "add", rx)
    ip("-n", tx, "link", "add", tx, "type", "veth", "peer", "name", rx, "netns", rx)
    ip("-n", rx, "addr", "add", "10.78.0.1/24", "dev", rx)
    ip("-n", tx, "addr", "add", "10.78.0.2/24", "dev", tx)
    ip("-n", tx, "addr", "add", "10.78.0.3/24", "dev", tx)
    ip("-n", rx, "link", "set", "lo", "up")
    ip("-n", rx, "link", "set", rx, "up")
    ip("-n", tx, "link", "set", tx, "up")
  end)

  teardown(function()
    if not made then return end
    run { "ip", "netns", "del", tx }
    run { "ip", "netns", "del", rx }
  end)

  before_each(function() skip.root() end)

  for _, mode in ipairs { "native", "generic" } do
    it("limits, tunes and tells it as JSON, and leaves nothing attached: " .. mode, function()
      local p <close> = in_ns(rx, { MOONBEE, "run", SCRIPT, "--iface", rx, "--mode", mode,
        "--rate", "200", "--burst", "20", "--target", "1500", "--json" })
      p:expect '"type":"start"'
      assert.is_true(xdp_attached())
      local sender <close> = traffic(30, "10.78.0.2=4000", "10.78.0.3=50")
      p:expect '"type":"tuned".*"type":"second"'
      p:kill "sigint"
      local r = p:wait()
      assert.same({ 0, "" }, { r.rc, r.err })
      assert.is_false(xdp_attached())

      local seen = {}
      for line in r.out:gmatch "[^\n]+" do
        local t = assert(json.decode(line), line)
        seen[t.type] = t
      end
      assert.is_true(seen["end"].passed > 0 and seen["end"].dropped > 0)
      assert.is_true(seen["end"].tuned >= 1)
      assert.is_true(seen["end"].rate > 200, "the limit went up towards the target")
      assert.equal("10.78.0.2", seen.second.top[1].address)
      assert.equal("10.78.0.2", seen.drop.source)
      sender:eof()
      assert.equal(0, sender:wait().rc)
    end)
  end

  it("a limit that is changed live changes what passes", function()
    local path = os.tmpname()
    local script <close> = assert(io.open(path, "w"))
    script:write(([[
      local bpf, loop = require "moonbee", require "moonbee.loop"
      local obj <close> = bpf.load %q
      local stats = obj.vars.stats
      obj.vars.rate = 0
      local link <close> = obj.progs.ratelimit:attach { ifname = %q }
      print "ready"
      local function wait_for(condition)
        while not condition() do loop.sleep(0.005) end
      end
      loop.spawn(function()
        wait_for(function() return stats.dropped > 200 end)
        print("closed", stats.passed)
        obj.vars.rate, obj.vars.burst = 1000000, 1000
        wait_for(function() return stats.passed > 200 end)
        local dropped = stats.dropped
        obj.vars.rate = 0
        wait_for(function() return stats.dropped > dropped + 200 end)
        print("opened", stats.passed > 200)
        loop.stop()
      end)
      loop.run()]]):format(lfs.currentdir() .. "/" .. OBJECT, rx))
    script:flush()
    local p <close> = in_ns(rx, { MOONBEE, "run", path })
    p:expect "ready"
    local sender <close> = traffic(20, "10.78.0.2=4000")
    local r = p:wait()
    os.remove(path)
    assert.equal("ready\nclosed\t0\nopened\ttrue\n", r.out, r.err)
    assert.equal(0, r.rc)
    assert.is_false(xdp_attached())
    sender:eof()
    sender:wait()
  end)

  it("takes generic XDP where the driver refuses, and only if no mode is asked for", function()
    ip("-n", tx, "link", "set", tx, "mtu", "9000")
    finally(function() ip("-n", tx, "link", "set", tx, "mtu", "1500") end)
    local p <close> = in_ns(rx, { MOONBEE, "run", SCRIPT, "--iface", rx, "--mode", "native" })
    assert.equal(1, p:wait().rc)
    local q <close> = in_ns(rx, { MOONBEE, "run", SCRIPT, "--iface", rx })
    q:expect "ratelimit: on"
    q:kill "sigint"
    local r = q:wait()
    assert.equal(0, r.rc)
    assert.equal(("ratelimit: the driver of %s refuses (ERANGE): generic XDP\n"):format(rx), r.err)
  end)

  it("SIGTERM ends it as well", function()
    local p <close> = in_ns(rx, { MOONBEE, "run", SCRIPT, "--iface", rx })
    p:expect "ratelimit: on"
    p:kill "sigterm"
    local r = p:wait()
    assert.equal(0, r.rc, r.err)
    assert.matches("passed %d+, dropped 0 packets", r.out)
    assert.is_false(xdp_attached())
  end)

  it("an interface that is not there is named in the error", function()
    local r = run { MOONBEE, "run", "ratelimit", "--iface", "mbnone0" }
    assert.equal(1, r.rc)
    assert.matches("mbnone0", r.err, 1, true)
  end)

  it("the demo passes, drops and tunes on real packets", function()
    local r = run({ "scripts/ratelimit/demo.sh", MOONBEE }, { timeout = 40 })
    assert.equal(0, r.rc, r.out .. r.err)
    assert.matches("tuned: limit %d+/s %-> %d+/s", r.out)
    assert.matches("demo: passed, dropped, tuned %d+ times; nothing is left attached", r.out)
    assert.is_nil(run({ "ip", "netns", "list" }).out:match "mb[tr]x%d+")
  end)
end)

describe("moonbee run ratelimit", function()
  it("has help", function()
    local r = run { MOONBEE, "run", "ratelimit", "--help" }
    assert.equal(0, r.rc, r.err)
    for option in ("iface rate burst target seconds json top mode"):gmatch "%a+" do
      assert.matches("--" .. option, r.out, 1, true)
    end
  end)

  it("wrong usage is 2", function()
    for _, args in ipairs { { "--nonsense" }, { "--rate", "x" }, { "--rate", "-1" },
        { "--mode", "fast" }, { "--target", "much" }, { "--seconds", "0" } } do
      local r = run { MOONBEE, "run", "ratelimit", table.unpack(args) }
      assert.same({ 2, "" }, { r.rc, r.out })
      assert.matches("Usage: moonbee run ratelimit", r.err, 1, true)
    end
  end)
end)
