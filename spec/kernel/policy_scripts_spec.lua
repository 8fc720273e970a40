-- SPDX-License-Identifier: BSD-2-Clause
-- The policies in scripts/: each does its work, is tuned, and goes on over a reload.
local uv = require "luv"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"
local exposition = require "support.exposition"
local policy = require "support.policy"
local veth = require "support.veth"

local NETNS = "moonbee-gentle"

-- Sends four megabytes to itself, by the congestion control of its namespace.
local TRANSFER = [[
local uv = require "luv"
local server, got, SIZE = uv.new_tcp(), 0, 4 << 20
server:bind("127.0.0.1", 0)
server:listen(1, function()
  local c = uv.new_tcp()
  server:accept(c)
  c:read_start(function(_, data)
    got = got + #(data or "")
    if got >= SIZE or not data then c:close() server:close() end
  end)
end)
local client = uv.new_tcp()
client:connect("127.0.0.1", server:getsockname().port, function()
  client:write(("x"):rep(SIZE), function() client:close() end)
end)
uv.run()
print(got)
]]

describe("the policies of scripts #root", function()
  before_each(skip.root)

  local function start(path, arguments)
    local p = policy.new()
    p.path = path
    local ok, err = pcall(p.start, p, arguments)
    if ok then return p end
    p:__close()
    error(err, 0)
  end

  it("ratelimit/adaptive: lowers the limit while too much passes, and raises it again", function()
    local pair <close> = veth.new()
    local p <close> = start("scripts/ratelimit/adaptive.lua", { "--param", "ifname=" .. pair.ifname,
      "--param", "seconds=0.1", "--param", "target=500", "--param", "rate=4000", "--param",
      "floor=100", "--param", "busy=0.99" })
    assert.equal(4, p:ask("plan").tests)
    assert.equal(4000, p:get "rate")
    local sender = pair:send(3000)
    support.until_true(function() return p:get "rate" < 1000 end)
    local dropped = p:get "stats.dropped"
    support.until_true(function() return p:get "stats.dropped" > dropped end)
    -- a reload with another object goes on where it was
    local before = p:get "stats.passed"
    local plan = p:ask("reload", { fresh = true })
    assert.same({ "updated", "kept", "kept" }, { plan.links[1].action, plan.maps.flows.action,
      plan.maps.drops.action })
    assert.is_true(p:get "stats.passed" >= before)
    assert.is_true(p:get "rate" < 1200)
    sender.stop()
    p:ask("set", { path = "rate", value = "100" })
    sender = pair:send(300) -- more than the limit, less than the target
    support.until_true(function() return p:get "rate" > 110 end)
    sender.stop()
    assert.matches("limit %d+/s %-> %d+/s", p.process.err)
    local least = p:get "rate" -- what was dropped last may yet raise it
    local r = run { support.moonbee, "ctl", "p", "metrics", "--openmetrics" }
    local found = exposition.openmetrics(r.out)
    local function value(name, labels)
      return tonumber(exposition.value(found, name, labels))
    end
    assert.is_true(value("ratelimit_packets_total", { what = "dropped" }) > 0)
    assert.equal(value("ratelimit_packets_total", { what = "dropped" }),
      value("ratelimit_source_dropped_total", { source = "10.77.0.2" }))
    assert.is_true(value("ratelimit_bytes_total", { what = "passed" }) > 0)
    assert.is_true(value "ratelimit_sources" >= 1)
    local limit = value "ratelimit_limit"
    assert.is_true(least <= limit and limit <= p:get "rate", limit)
    assert.matches("10%.77%.0%.2: %d+ dropped", p.process.err)
    assert.equal(0, p:finish().rc)
  end)

  it("sample: keeps to its budget, and its tallies over a reload", function()
    local p <close> = start("scripts/sample/sample.lua", { "--param", "budget=200", "--param",
      "seconds=0.1", "--param", "report=0.2", "--set", "every=1" })
    support.until_true(function()
      for _ = 1, 200 do uv.os_getpriority(0) end
      return p:get "every" > 8
    end)
    p.process:expect "one call in %d+; the most calls since the start:\np:   %g+ +%d+"
    local taken = p:get "taken"
    p:ask("reload", { fresh = true })
    assert.is_true(p:get "taken" >= taken)
    assert.equal(0, p:finish().rc)
  end)

  it("gentle: carries connections, and is updated under its name", function()
    skip.unless(function()
      local config = io.popen "zcat /proc/config.gz 2>/dev/null"
      local text = config and config:read "a" or ""
      if config then config:close() end
      return not text:find "TCP_CONG_ADVANCED is not set"
    end, "this kernel has no TCP congestion controls to choose from")
    run { "ip", "netns", "delete", NETNS }
    assert.equal(0, run({ "ip", "netns", "add", NETNS }).rc)
    local _ <close> = setmetatable({}, { __close = function()
      run { "ip", "netns", "delete", NETNS }
    end })
    run { "ip", "-n", NETNS, "link", "set", "lo", "up" }
    local p <close> = start("scripts/gentle/gentle.lua", { "--set", "keep=60" })
    local function transfer()
      local file = os.tmpname()
      local f <close> = assert(io.open(file, "w"))
      f:write(TRANSFER)
      f:close()
      local r = run { "ip", "netns", "exec", NETNS, "sh", "-c",
        "echo gentle >/proc/sys/net/ipv4/tcp_congestion_control && lua5.4 " .. file }
      os.remove(file)
      assert.same({ 0, ("%d\n"):format(4 << 20) }, { r.rc, r.out }, r.err)
    end
    transfer()
    local acked = p:get "acked"
    assert.is_true(p:get "opened" >= 1)
    assert.is_true(acked > 10)
    local plan = p:ask("reload", { fresh = true })
    assert.equal("updated", plan.links[1].action)
    assert.equal(60, p:get "keep")
    transfer()
    assert.is_true(p:get "opened" >= 2)
    assert.is_true(p:get "acked" > acked)
    assert.equal(0, p:finish().rc)
  end)

  it("have a unit that systemd takes", function()
    skip.unless(uv.fs_access("/usr/bin/systemd-analyze", "X"), "systemd-analyze is not here")
    local r = run({ "systemd-analyze", "verify", "--man=no",
      "scripts/systemd/moonbee@.service" }, { timeout = 60 })
    for line in (r.err .. r.out):gmatch "[^\n]+" do
      -- it is not installed where the specs run
      assert.truthy(line:find "moonbee is not executable" or line:find "Command moonbee"
        or not line:find "moonbee@", line)
    end
  end)
end)
