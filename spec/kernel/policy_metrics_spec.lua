-- SPDX-License-Identifier: BSD-2-Clause
-- Metrics of policies: what is in force is what a scrape measures, over reloads, bad edits and
-- roll-backs.
local lfs = require "lfs"
local uv = require "luv"
local exposition = require "support.exposition"
local policy = require "support.policy"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"

-- Counts getpriority calls of this process; %s: more keys, entries of metrics, more code.
local COUNTER = [[
local policy = { object = "p.bpf.o", version = "%s",
  attach = { on_getpriority = true, tail_xdp = false }, metrics = { %s } }
function policy.setup(obj) obj.vars.who = %d end
function policy.start(ctx, state)
  ctx.state = state or { n = 0 }
  ctx:on("events", "struct event", function()
    ctx.state.n = ctx.state.n + 1
    ctx.vars.got = ctx.vars.got + 1
  end, "seq")
end
%s
return policy
]]

local CALLS = [[{ name = "calls", type = "counter", var = "calls", help = "All of them." },
  { name = "taken", type = "counter", reader = "events" },
  { name = "runs", type = "counter", program = "on_getpriority" }]]

describe("metrics of a policy #root", function()
  before_each(skip.root)

  local WHO = math.tointeger(uv.os_getpid())

  local function counter(entries, version, code)
    return COUNTER:format(version or "1", entries or CALLS, WHO, code or "")
  end

  local function calls(n)
    for _ = 1, n do uv.os_getpriority(WHO) end
  end

  local function started(entries, arguments, code)
    local p = policy.new()
    p:object "policy"
    p:write("p.lua", counter(entries, "1", code))
    local ok, err = pcall(p.start, p, arguments)
    if ok then return p end
    p:__close()
    error(err, 0)
  end

  -- ---- a client ---------------------------------------------------------------------------------

  local function connect(address)
    local host, port = address:match "^(.*):(%d+)$"
    local self, why = { text = "" }, nil
    local function connected(err) why = err or true end
    if port then
      self.socket = uv.new_tcp()
      self.socket:connect(host, math.tointeger(port), connected)
    else
      self.socket = uv.new_pipe(false)
      self.socket:connect(address, connected)
    end
    while not why do uv.run "once" end
    function self.close()
      if not self.socket:is_closing() then self.socket:close() end
      uv.run "nowait"
    end
    if why ~= true then
      self.close()
      error(why, 0)
    end
    self.socket:read_start(function(_, data)
      if data then self.text = self.text .. data else self.ended = true end
    end)
    return self
  end

  -- A scrape on a connection that is kept: the body.
  local function scrape(client, kind)
    client.text = ""
    client.socket:write(("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: %s\r\n\r\n"):format(
      kind == "openmetrics" and "application/openmetrics-text" or "text/plain"))
    local body
    support.until_true(function()
      uv.run "nowait"
      local head, rest = client.text:match "^(.-)\r\n\r\n(.*)$"
      local length = head and tonumber(head:match "Content%-Length: (%d+)")
      if length and #rest == length then
        assert.matches("^HTTP/1.1 200 OK\r\n", head)
        body = rest
      end
      if client.ended and not body then error("ended: " .. client.text, 0) end
      return body
    end)
    return body
  end

  local function once(address, kind)
    local client = connect(address)
    local ok, body = pcall(scrape, client, kind)
    client.close()
    if not ok then error(body, 0) end
    return body
  end

  local function address_of(p)
    return p:ask("status").metrics[1]
  end

  local function families(p)
    return exposition.openmetrics(once(address_of(p), "openmetrics"))
  end

  local function value(p, name, labels)
    return exposition.value(families(p), name, labels)
  end

  local function own(p, name, more)
    local labels = { policy = "p" }
    for k, v in pairs(more or {}) do labels[k] = v end
    return value(p, "moonbee_" .. name, labels)
  end

  -- The text of moonbee ctl p metrics.
  local function ctl(...)
    local r = run { support.moonbee, "ctl", "p", ... }
    assert.equal(0, r.rc, r.err)
    return r.out
  end

  -- ---- what is there ----------------------------------------------------------------------------

  it("are in its run directory, by the rules of both formats", function()
    local p <close> = started(CALLS .. [[, stats = true, { name = "seen", type = "gauge",
      read = function(ctx) return { { ctx.state.n, what = "n" }, { 0.5, what = 'h"\n' } } end }]])
    calls(3)
    p:wait(function() return p:get "got" == 3 end)
    local address = p.dir .. "/run/p/metrics.sock"
    assert.same({ address }, p:ask("status").metrics)
    assert.matches("metrics    " .. address:gsub("%p", "%%%0"), ctl "status")
    local judged = exposition.has_reference() and exposition.judge
      or function(text, kind) return exposition[kind](text) end
    judged(once(address), "prometheus")
    local found = judged(once(address, "openmetrics"), "openmetrics")
    local function is(want, name, labels)
      assert.equal(want, exposition.value(found, name, labels), name)
    end
    is("3", "calls_total")
    is("3", "taken_total")
    is("3", "seen", { what = "n" })
    is("0.5", "seen", { what = 'h"\n' })
    local runs = exposition.value(found, "runs_total") -- others call, too
    assert.is_true(tonumber(runs) >= 3)
    is("1", "moonbee_policy_info", { policy = "p", version = "1" })
    is("1", "moonbee_policy_swaps_total", { policy = "p" })
    is("0", "moonbee_policy_failures_total", { policy = "p" })
    is("0", "moonbee_policy_rollbacks_total", { policy = "p" })
    is("0", "moonbee_policy_degraded", { policy = "p" })
    is("3", "moonbee_reader_records_total", { policy = "p", map = "events" })
    is(runs, "moonbee_program_runs_total", { policy = "p", program = "on_getpriority" })
    is("0", "moonbee_scrape_errors_total", { policy = "p", metric = "seen" })
    local uptime = tonumber(exposition.value(found, "moonbee_policy_uptime_seconds",
      { policy = "p" }))
    assert.is_true(uptime > 0 and uptime < 60)
    assert.equal("All of them.", found.calls.help)
    assert.equal(0, p:finish().rc)
    assert.is_nil(lfs.attributes(address))
  end)

  it("are printed by ctl, with or without a place where they are served", function()
    local p <close> = started "listen = false"
    assert.same({}, p:ask("status").metrics)
    assert.is_nil(lfs.attributes(p.dir .. "/run/p/metrics.sock"))
    p:write("p.lua", counter(CALLS .. ", listen = false"))
    p:wait(function(s) return s.swaps == 2 end)
    calls(2)
    local found = exposition.prometheus(ctl "metrics")
    assert.equal("2", exposition.value(found, "calls_total"))
    found = exposition.openmetrics(ctl("metrics", "--openmetrics"))
    assert.equal("2", exposition.value(found, "calls_total"))
    local list = require "dkjson".decode(ctl("metrics", "--json"))
    for _, family in ipairs(list) do list[family.name] = family end
    assert.same({ { labels = {}, value = 2 } }, list.calls.series)
    assert.same({ policy = "p", map = "events" }, list.moonbee_reader_records.series[1].labels)
    assert.equal("counter", list.calls.type)
  end)

  it("are moonbee's own for a policy that names none", function()
    local p <close> = policy.new()
    p:write("p.lua", "return { start = function() end }")
    p:start()
    assert.same({}, p:ask("status").metrics)
    local found = exposition.prometheus(ctl "metrics")
    assert.equal("1", exposition.value(found, "moonbee_policy_swaps_total", { policy = "p" }))
    assert.is_nil(p:ask("plan").metrics.listen[1])
  end)

  it("are where the command line says, if it does", function()
    local p <close> = started(CALLS, { "--metrics", "127.0.0.1:0" })
    assert.matches("^127%.0%.0%.1:%d+$", address_of(p))
    assert.truthy(value(p, "calls_total"))
    assert.equal(0, p:finish().rc)
    p:start { "--metrics", "off" }
    assert.same({}, p:ask("status").metrics)
    assert.equal(0, p:finish().rc)
    local r = p:run({ "--metrics", "0.0.0.0:9435" }):wait()
    assert.equal(1, r.rc)
    assert.matches("metrics are for this machine only: '0%.0%.0%.0' is not its loopback", r.err)
  end)

  -- ---- over reloads -----------------------------------------------------------------------------

  it("never go back, and never fail, over a hundred reloads under scraping", function()
    -- slow takes several slices: swaps come into the middle of scrapes
    local p <close> = started(CALLS .. [[, stats = true, listen = "127.0.0.1:0",
      { name = "slow", type = "gauge", read = function()
        local till = bpf.now_ns() + 4000000
        while bpf.now_ns() < till do end
        return 1
      end }]])
    local address = address_of(p)
    local kept, last, scrapes = connect(address), {}, 0
    local function look(body)
      local found = exposition.openmetrics(body)
      scrapes = scrapes + 1
      assert.equal("1", exposition.value(found, "slow"))
      for _, name in ipairs { "calls", "taken", "runs", "slow" } do
        assert.equal("0", exposition.value(found, "moonbee_scrape_errors_total",
          { policy = "p", metric = name }), p.process.err)
      end
      for _, name in ipairs { "calls_total", "taken_total", "runs_total",
        "moonbee_policy_swaps_total", "moonbee_reader_records_total",
        "moonbee_policy_uptime_seconds" } do
        local labels = name:find "^moonbee" and { policy = "p",
          map = name:find "reader" and "events" or nil } or nil
        local x = tonumber(exposition.value(found, name, labels))
        assert.is_true(x >= (last[name] or 0), name)
        last[name] = x
      end
    end
    local rounds = support.slow and 20 or 100
    local reloads = 0
    local function reload(fresh)
      local done
      p.client:send("reload", { fresh = fresh }, nil, function(ok, result)
        assert(ok, tostring(result))
        done = true
      end)
      -- scrapes come in before, within and after it
      repeat
        look(scrape(kept, "openmetrics"))
      until done
      reloads = reloads + 1
    end
    for i = 1, rounds do
      calls(3)
      reload(i % 4 == 0)
      if i % 10 == 0 then look(once(address, "openmetrics")) end
    end
    assert.is_true(scrapes > rounds)
    assert.same({ address }, p:ask("status").metrics)
    support.until_true(function()
      uv.run "nowait"
      look(scrape(kept, "openmetrics"))
      return last.taken_total == 3 * rounds
    end)
    assert.equal(3 * rounds, last.calls_total)
    assert.is_true(last.runs_total >= 3 * rounds)
    assert.equal(rounds + 1, last.moonbee_policy_swaps_total)
    kept.close()
    assert.equal(0, p:finish().rc)
  end)

  it("are of one version: what an edit takes out is gone, what it adds is there", function()
    local p <close> = started(CALLS)
    -- what counts events that are doubled counts runs, for a moment
    calls(1)
    p:ask("reload", { fresh = true })
    assert.is_nil(families(p).moonbee_program_runs)
    p:write("p.lua", counter([[{ name = "calls", type = "gauge", var = "calls" },
      { name = "new", type = "gauge", var = "rate" }]], "2"))
    p:wait(function(s) return s.swaps == 3 end)
    local found = families(p)
    assert.equal("gauge", found.calls.type)
    assert.equal("100", exposition.value(found, "new"))
    assert.is_nil(found.taken)
    assert.is_nil(exposition.value(found, "moonbee_scrape_errors_total", { policy = "p",
      metric = "taken" }))
    assert.equal(1, #found.moonbee_policy.samples)
    assert.equal("2", found.moonbee_policy.samples[1].labels.version)
  end)

  it("go on where readers end in between", function()
    local p <close> = started(CALLS, nil, [[
      local start = policy.start
      function policy.start(ctx, state)
        start(ctx, state)
        ctx:every(0.01, function()
          if ctx.vars.rate ~= 5 then return end
          ctx.vars.rate = 6
          local handle
          handle = ctx:on("events", "struct event", function() handle:stop() end, "seq")
        end)
      end]])
    calls(4)
    p:wait(function() return own(p, "reader_records_total", { map = "events" }) == "4" end)
    p:ask("set", { path = "rate", value = "5" })
    p:wait(function() return p:get "rate" == 6 end)
    calls(4)
    p:wait(function() return own(p, "reader_records_total", { map = "events" }) == "8" end)
  end)

  it("go on where a version's only reader ended before the next version", function()
    local ENDS <const> = [[
      function policy.start(ctx, state)
        ctx.state = state or { n = 0 }
        local handle
        handle = ctx:on("events", "struct event", function()
          ctx.state.n = ctx.state.n + 1
          ctx.vars.got = ctx.state.n
          if ctx.state.n == 3 then handle:stop() end
        end, "seq")
      end]]
    local p <close> = started(CALLS, nil, ENDS)
    calls(3)
    p:wait(function() return p:get "got" == 3 end)
    p:wait(function() return own(p, "reader_records_total", { map = "events" }) == nil end)
    p:write("p.lua", counter(CALLS, "2"))
    p:wait(function(s) return s.swaps == 2 end)
    calls(1)
    p:wait(function() return own(p, "reader_records_total", { map = "events" }) == "4" end)
  end)

  it("of a program that is not loaded are left out, and say why", function()
    local p <close> = started([[{ name = "x", type = "counter", program = "tail_xdp" } ]], nil, [[
      local setup = policy.setup
      function policy.setup(obj)
        setup(obj)
        obj.progs.tail_xdp.autoload = false
      end]])
    assert.equal("1", own(p, "scrape_errors_total", { metric = "x" }))
    p:wait(function()
      return p.process.err:find "metric 'x': program 'tail_xdp' is not loaded\n"
    end)
  end)

  it("move with an edit, and only when it is in force", function()
    local p <close> = started(CALLS .. ", listen = '127.0.0.1:0'")
    local first = address_of(p)
    local second = p.dir .. "/m.sock"
    p:write("p.lua", counter(CALLS .. (", listen = %q"):format(second)))
    p:wait(function(s) return s.swaps == 2 end)
    assert.same({ second }, p:ask("status").metrics)
    assert.equal("rw-rw----", lfs.attributes(second, "permissions"))
    assert.truthy(value(p, "calls_total"))
    assert.is_false((pcall(connect, first)))
    -- the same place by another name
    local kept = connect(second)
    p:write("p.lua", counter(CALLS .. (", listen = { %q, %q }"):format(second, second), "2"))
    p:wait(function(s) return s.swaps == 3 end)
    assert.truthy(scrape(kept))
    kept.close()
    -- both, then none
    p:write("p.lua", counter(CALLS .. (", listen = { %q, '[::1]:0' }"):format(second)))
    p:wait(function(s) return s.swaps == 4 end)
    local both = p:ask("status").metrics
    assert.equal(2, #both)
    assert.matches("^%[::1%]:%d+$", both[2])
    assert.truthy(exposition.prometheus(once(second)))
    -- a port that the system has chosen, by its number
    p:write("p.lua", counter(CALLS .. (", listen = %q"):format(both[2])))
    p:wait(function(s) return s.swaps == 5 end)
    assert.same({ both[2] }, p:ask("status").metrics)
    p:write("p.lua", counter(CALLS .. ", listen = false"))
    p:wait(function(s) return s.swaps == 6 end)
    assert.is_false((pcall(connect, second)))
    assert.is_nil(lfs.attributes(second))
  end)

  -- ---- bad edits --------------------------------------------------------------------------------

  it("keep a bad edit out, with the nearest name", function()
    local p <close> = started(CALLS .. ", listen = '127.0.0.1:0'")
    local address = address_of(p)
    local failures, taken = 0, uv.new_tcp()
    taken:bind("127.0.0.1", 0)
    taken:listen(1, function() end)
    for want, entries in pairs {
      ["check metrics 'x': 'cals': there is no 'cals' in the object's variables.*"
        .. "did you mean 'calls'"] = '{ name = "x", type = "counter", var = "cals" }',
      ["there is no map 'flow'.*did you mean 'flows'"] =
        '{ name = "x", type = "gauge", map = "flow", key = "k", value = "packets" }',
      ["there is no map 'event'.*did you mean 'events'"] =
        '{ name = "x", type = "counter", reader = "event" }',
      ["map 'flows' is a hash, which has no reader"] =
        '{ name = "x", type = "counter", reader = "flows" }',
      ["there is no program 'on_getpriorit'.*did you mean"] =
        '{ name = "x", type = "counter", program = "on_getpriorit" }',
      ["'listn' is no key of metrics.*did you mean 'listen'"] = 'listn = "x"',
      ["listen is a string or a table"] = "listen = 5",
      ["'object' is no key of metrics"] = "object = 5",
      ["read is a function, not a integer"] = '{ name = "x", type = "gauge", read = 5 }',
      ["for this machine only: '0%.0%.0%.0'"] = 'listen = "0.0.0.0:80"',
      ["EADDRINUSE"] = ("listen = 'localhost:%d'"):format(taken:getsockname().port),
      ["listen is a path that is not absolute"] = "listen = './x.sock'",
      ["No such file or directory"] = 'listen = { "127.0.0.1:0", "/no/such/dir/x.sock" }',
    } do
      failures = failures + 1
      p:write("p.lua", counter(entries .. (" --[[%d]] "):format(failures)))
      p:wait(function(s) return s.failures == failures end)
      assert.matches(want, p:ask("status").last_error)
      assert.equal("0", value(p, "calls_total"))
      assert.equal(("%d"):format(failures), own(p, "policy_failures_total"))
    end
    assert.same({ address }, p:ask("status").metrics)
    assert.equal(1, p:ask("status").swaps)
    -- nor is a place open that a version would have had, which fails later
    local path = p.dir .. "/m.sock"
    p:write("p.lua", counter(CALLS .. (", listen = %q"):format(path), "2",
      'function policy.start() error "no" end'))
    p:wait(function(s) return s.failures == failures + 1 end)
    assert.matches("no", p:ask("status").last_error)
    assert.is_nil(lfs.attributes(path))
    assert.equal("0", value(p, "calls_total"))
    taken:close()
    uv.run "nowait"
  end)

  it("are checked by a dry run, which listens nowhere", function()
    local p <close> = started(CALLS)
    p:write("p.lua", counter('{ name = "x", type = "counter", var = "cals" }'))
    p:wait(function(s) return s.failures == 1 end)
    assert.matches("did you mean 'calls'", tostring(p:ask_error("reload", { dry_run = true })))
    local path = p.dir .. "/m.sock"
    p:write("q.lua", counter(CALLS .. (", listen = %q"):format(path)))
    local r = run { support.moonbee, "policy", p.dir .. "/q.lua", "--dry-run" }
    assert.equal(0, r.rc, r.err)
    assert.matches("metrics  3, at " .. path:gsub("%p", "%%%0"), r.out)
    assert.is_nil(lfs.attributes(path))
    p:write("q.lua", counter(CALLS))
    r = run { support.moonbee, "policy", p.dir .. "/q.lua", "--dry-run" }
    assert.matches("metrics  3, at metrics.sock of the run directory", r.out)
  end)

  it("do not hinder a roll-back by an address that is taken", function()
    local p <close> = started(CALLS .. ", listen = '127.0.0.1:0'")
    local path = p.dir .. "/m.sock"
    p:write("p.lua", counter(CALLS .. (", listen = %q"):format(path)))
    p:wait(function(s) return s.swaps == 2 end)
    p:write("p.lua", counter(CALLS .. ", listen = false"))
    p:wait(function(s) return s.swaps == 3 end)
    local taken = uv.new_pipe(false)
    assert(taken:bind(path))
    taken:listen(1, function() end)
    local plan = p:ask "rollback"
    assert.matches("listen on '" .. path:gsub("%p", "%%%0") .. "': .*EADDRINUSE",
      plan.problems[1])
    assert.equal(4, p:ask("status").swaps)
    assert.equal("1", exposition.value(exposition.prometheus(ctl "metrics"),
      "moonbee_policy_rollbacks_total", { policy = "p" }))
    taken:close()
    uv.run "nowait"
  end)

  it("are served anew after a kill, at the same place", function()
    local p <close> = started(CALLS)
    local address = address_of(p)
    p:kill9()
    assert.equal("socket", lfs.attributes(address, "mode"))
    p:start()
    assert.equal(address, address_of(p))
    assert.truthy(value(p, "calls_total"))
  end)

  -- ---- functions, and too much ------------------------------------------------------------------

  it("by functions may only read, wait for nothing, and end in time", function()
    local p <close> = started([[
      { name = "good", type = "gauge", read = function(ctx) return ctx.vars.rate end },
      { name = "writes", type = "gauge", read = function(ctx) ctx.vars.rate = 1 return 1 end },
      { name = "waits", type = "gauge", read = function(ctx) ctx.sleep(1) return 1 end },
      { name = "hangs", type = "gauge", read = function() while true do end end },
      { name = "fails", type = "gauge", read = function(ctx) return ctx.nothing.x end },
      { name = "view", type = "gauge", read = function(ctx) return ctx.vars end },
      { name = "late", type = "gauge", var = "rate" }]], nil, [[
      policy.limits = { deadline = 0.2 }
      local start = policy.start
      function policy.start(ctx, state)
        start(ctx, state)
        ctx:every(0.005, function() ctx.vars.doubled = ctx.vars.doubled + 1 end)
      end]])
    local ticks = p:get "doubled"
    local found = families(p)
    assert.equal("100", exposition.value(found, "good"))
    assert.equal("100", exposition.value(found, "late"))
    -- its other handlers went on while one hung
    assert.is_true(p:get "doubled" - ticks > 10)
    for name, why in pairs { writes = "write 'rate': what runs here may only read",
      waits = "this may not wait", hangs = "the deadline of 0.2 s is over",
      fails = "p.lua:6: attempt to index a nil value",
      view = "no plain data" } do
      assert.is_nil(found[name])
      assert.equal("1", exposition.value(found, "moonbee_scrape_errors_total", { policy = "p",
        metric = name }))
      assert.truthy(p.process.err:find(("metric '%s': "):format(name), 1, true), name)
      assert.truthy(p.process.err:find(why, 1, true), p.process.err)
    end
    assert.equal(0, p:ask("status").errors)
    local told = select(2, p.process.err:gsub("metric '", ""))
    assert.equal("2", exposition.value(families(p), "moonbee_scrape_errors_total",
      { policy = "p", metric = "hangs" }))
    assert.equal(told, select(2, p.process.err:gsub("metric '", "")))
  end)

  it("of too many series are cut, and events are handled meanwhile", function()
    local p <close> = started([[max_series = 100, { name = "packets", type = "counter",
      map = "flows", key = "flow", value = "packets" }, { name = "flows", type = "gauge",
      map = "flows", count = true }]], nil, [[
      local start = policy.start
      function policy.start(ctx, state)
        start(ctx, state)
        ctx:after(0, function()
          local keys, values = {}, {}
          for i = 1, 20000 do keys[i], values[i] = i, { packets = 1 } end
          ctx.maps.flows:set_many(keys, values)
          ctx.vars.rate = 7
        end)
      end]])
    p:wait(function() return p:get "rate" == 7 end)
    local found = families(p)
    assert.equal(100, #found.packets.samples)
    assert.is_nil(found.flows)
    assert.is_true(tonumber(exposition.value(found, "moonbee_scrape_series_left_out",
      { policy = "p", metric = "packets" })) == 19900)
    p.process:expect "metric 'packets': it has more series than there is room for"
    calls(5)
    p:wait(function() return p:get "got" == 5 end)
  end)
end)
