-- SPDX-License-Identifier: BSD-2-Clause
-- moonbee policy and ctl: what a reload keeps, what an edit changes, the ways back.
local uv = require "luv"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"
local policy = require "support.policy"

-- Counts events in variables of the object, and knows how often it was started.
local COUNTER = [[
local policy = { object = "p.bpf.o", attach = { on_getpriority = true, tail_xdp = false }, %s }
function policy.setup(obj) obj.vars.who = %d end
function policy.start(ctx, state)
  ctx.state = state or { starts = 0, n = 0 }
  local s = ctx.state
  s.starts = s.starts + 1
  ctx.vars.generation = s.starts
  local got = bpf.ref(ctx.vars, "got")
  ctx:on("events", "struct event", function(seq)
    s.n = s.n + 1
    got:add(1) -- the version before may still count what is in its own ring
    if seq ~= ctx.vars.last + 1 then ctx.vars.gaps = ctx.vars.gaps + 1 end
    ctx.vars.last = seq
  end, "seq")
end
%s
return policy
]]

local STOP = [[function policy.stop(ctx, reason) print("ends: " .. reason) end]]

describe("moonbee policy #root", function()
  before_each(skip.root)

  local WHO = math.tointeger(uv.os_getpid())

  local function counter(keys, code)
    return COUNTER:format(keys or "", WHO, code or "")
  end

  local function calls(n)
    for _ = 1, n do uv.os_getpriority(WHO) end
  end

  -- Until the policy's handlers have seen n events in all.
  local function seen(p, n)
    support.until_true(function() return p:get "got" >= n end)
    assert.equal(n, p:get "got")
    assert.equal(0, p:get "gaps")
  end

  local function started(keys, code, arguments, files)
    local p = policy.new()
    p:object "policy"
    for name, text in pairs(files or {}) do p:write(name, text) end
    p:write("p.lua", counter(keys, code))
    local ok, err = pcall(p.start, p, arguments)
    if ok then return p end
    p:__close()
    error(err, 0)
  end

  it("keeps object, links, ring and state where only the policy changed", function()
    local p <close> = started()
    calls(5)
    seen(p, 5)
    local before = p:ask("status").links[1].id
    p:write("p.lua", counter(nil, "-- an edit"))
    p:wait(function(s) return s.swaps == 2 end)
    calls(5)
    seen(p, 10)
    local plan = p:ask "plan"
    assert.equal("kept", plan.object)
    assert.equal("kept", plan.maps.events.action)
    assert.equal("kept", plan.links[1].action)
    assert.equal(2, p:get "generation")
    assert.equal(before, p:ask("status").links[1].id)
    assert.equal(0, p:finish().rc)
  end)

  it("keeps maps, sections and tuned values where the object is loaded anew", function()
    local p <close> = started()
    calls(3)
    seen(p, 3)
    p:ask("set", { path = "rate", value = "7k" })
    p:ask("set", { path = "mode", value = "strict" })
    local plan = p:ask("reload", { fresh = true })
    assert.same({ "loaded", "kept", "kept", "refilled", "kept", "kept" }, { plan.object,
      plan.maps.events.action, plan.maps.flows.action, plan.maps.tails.action,
      plan.sections[".bss"].action, plan.sections[".data"].action })
    assert.equal("overlapped", plan.links[1].action)
    calls(3)
    seen(p, 6)
    assert.same({ 7000, 2 }, { p:get "rate", p:get "mode" })
  end)

  it("takes a new initial value where it was not tuned, and says where it was", function()
    local p <close> = started(nil, [[
      local setup = policy.setup
      function policy.setup(obj) setup(obj) obj.vars.rate = 11 obj.vars.timeout_ns = 11 end]])
    p:ask("set", { path = "timeout_ns", value = "5ms" })
    p:write("p.lua", counter(nil, [[
      local setup = policy.setup
      function policy.setup(obj) setup(obj) obj.vars.rate = 12 obj.vars.timeout_ns = 12 end]]))
    p:wait(function(s) return s.swaps == 2 end)
    assert.same({ 12, 5000000 }, { p:get "rate", p:get "timeout_ns" })
    local plan = p:ask "plan"
    assert.same({ rate = "new initial value",
      timeout_ns = "keeps its tuned value, though the edit changed the initial one" }, plan.vars)
    assert.equal("kept", plan.sections[".data"].action)
  end)

  it("migrates maps and carries sections over by name where the object changed", function()
    local p <close> = started('on_mismatch = "migrate",', [[
      local start = policy.start
      function policy.start(ctx, state)
        start(ctx, state)
        if state then return end
        ctx:after(0, function()
          local keys, values = {}, {}
          for i = 1, 100 do ctx.maps.flows:set(i, { packets = i, gone = 1, bytes = i * 1000 }) end
          ctx.vars.doubled = 1
        end)
      end]])
    support.until_true(function() return p:get "doubled" == 1 end)
    calls(3)
    seen(p, 3)
    p:ask("set", { path = "mode", value = "strict" })
    local file <close> = assert(io.open(support.fixture "policy_changed", "rb"))
    p:write("p.bpf.o", file:read "a")
    p:wait(function(s) return s.swaps == 2 or s.failures > 0 end)
    assert.equal("", p:ask("status").last_error or "")
    local plan = p:ask "plan"
    assert.same({ "migrated", "new", "carried" }, { plan.maps.flows.action,
      plan.maps.events.action, plan.sections[".data"].action })
    assert.equal(100, plan.maps.flows.entries)
    assert.same({ 200, 2, 5, 1000000 }, { p:get "rate", p:get "mode", p:get "added",
      p:get "timeout_ns" })
    calls(3)
    seen(p, 6)
  end)

  it("refuses a map that differs where nobody asked for it, and says what differs", function()
    local p <close> = started()
    local file <close> = assert(io.open(support.fixture "policy_changed", "rb"))
    p:write("p.bpf.o", file:read "a")
    local s = p:wait(function(s) return s.failures == 1 end)
    assert.matches("keep map 'flows': policy 'p': it differs from the one in force: .-packets",
      s.last_error)
    assert.matches('hint: on_mismatch = "migrate"', s.last_error)
    calls(3)
    seen(p, 3)
  end)

  it("serves what was in a ring that the new version cannot read", function()
    local p <close> = started('on_mismatch = "replace",', [[
      local start = policy.start
      function policy.start(ctx, state)
        start(ctx, state)
        ctx:every(0.01, function() ctx.sleep(0.05) end)
      end]])
    for round = 1, 4 do
      calls(50)
      local name = round % 2 == 1 and "policy_changed" or "policy"
      local file <close> = assert(io.open(support.fixture(name), "rb"))
      p:write("p.bpf.o", file:read "a")
      for _ = 1, 20 do
        calls(5)
        uv.sleep(2)
      end
      p:wait(function(s) return s.swaps == round + 1 and not s.retiring end)
    end
    -- overlapping links: some calls may be seen by both programs
    support.until_true(function() return p:get "calls" == p:get "got" end)
    assert.is_true(p:get "got" >= 4 * 150)
  end)

  it("fills prog arrays anew before the entry point is switched", function()
    local p <close> = started(nil, [[
      local start = policy.start
      function policy.start(ctx, state)
        start(ctx, state)
        if not state then
          ctx:after(0, function()
            ctx.maps.tails:set(0, ctx.progs.tail_xdp)
            ctx.vars.doubled = 1
          end)
        end
        ctx:every(0.01, function()
          local r = ctx.progs.count_xdp:run { data = ctx.params.packet }
          ctx.vars.lost = ctx.vars.lost + 1
        end)
      end]] .. ("\npolicy.params = { packet = %q }"):format(("\2"):rep(12) .. "\8\0" ..
      "\x45\0\0\x24\0\0\0\0\x40\x11\0\0\10\0\0\2\10\0\0\1" ..
      string.pack(">I2I2I2I2", 1000, 7777, 16, 0) .. ("\0"):rep(22)))
    support.until_true(function() return p:get "doubled" == 1 and p:get "lost" > 2 end)
    local plan = p:ask("reload", { fresh = true })
    assert.same({ action = "refilled", entries = 1 }, plan.maps.tails)
    local runs = p:get "lost"
    support.until_true(function() return p:get "lost" > runs + 3 end)
    assert.is_true(p:get "counted" > 0)
    local skipped = p:get "counted" - p:get "tailed"
    assert.is_true(skipped <= 3, skipped) -- before the array was filled for the first time
  end)

  it("ends no handler that waits where the next version fails", function()
    local p <close> = policy.new()
    p:object "policy"
    local code = ([[
      local policy = { object = "p.bpf.o", attach = { on_getpriority = true, tail_xdp = false },
        limits = { finish = 0.1 } }
      function policy.setup(obj) obj.vars.who = %d end
      function policy.start(ctx) %%s
        ctx:on("events", "struct event", function(seq)
          ctx.vars.last = seq
          while ctx.vars.rate ~= 1 do ctx.sleep(0.01) end
          ctx.vars.got = ctx.vars.got + 1
        end, "seq")
      end
      return policy]]):format(WHO)
    p:write("p.lua", code:format "")
    p:start()
    calls(2)
    support.until_true(function() return p:get "last" == 1 end)
    p:write("p.lua", code:format 'error "no"')
    p:wait(function(s) return s.failures == 1 end)
    p:ask("set", { path = "rate", value = "1" })
    support.until_true(function() return p:get "got" == 2 end)
  end)

  -- Each record waits until `rate` is as the spec says, and is counted after that.
  local WAITING = [[
    local policy = { object = "p.bpf.o", attach = { on_getpriority = true, tail_xdp = false },
      limits = { finish = %g } }
    function policy.setup(obj) obj.vars.who = %d end
    function policy.start(ctx, state)
      ctx.state = state or { n = 0 }
      ctx.vars.generation = ctx.vars.generation + 1
      ctx:on("events", "struct event", function(seq)
        ctx.vars.last = seq
        while ctx.vars.rate ~= 1 do ctx.sleep(0.01) end
        ctx.state.n = ctx.state.n + 1
        if seq ~= ctx.state.n then ctx.vars.gaps = ctx.vars.gaps + 1 end
        ctx.vars.got = ctx.state.n
      end, "seq")
    end
    return policy]]

  for _, fresh in ipairs { false, true } do
    it(("lets a handler end its record before the next version%s"):format(fresh
      and " with a new object" or ""), function()
      local p <close> = policy.new()
      p:object "policy"
      p:write("p.lua", WAITING:format(5, WHO))
      p:start()
      calls(3)
      support.until_true(function() return p:get "last" == 1 end)
      p.client:send("reload", { fresh = fresh }, nil, function() end)
      assert.equal(1, p:ask("status").swaps)
      assert.equal(0, p:get "got")
      p:ask("set", { path = "rate", value = "1" })
      support.until_true(function() return p:get "got" == 3 end)
      support.until_true(function() return p:ask("status").swaps == 2 end)
      assert.same({}, p:ask("plan").problems)
      assert.same({ 2, 0, 3 }, { p:get "generation", p:get "gaps", p:get "calls" })
      assert.same({ 2, 0 }, { p:ask("status").swaps, p:ask("status").dropped })
    end)
  end

  it("drops a record that its handler does not end, and says so", function()
    local p <close> = policy.new()
    p:object "policy"
    p:write("p.lua", WAITING:format(0.1, WHO))
    p:start()
    calls(3)
    support.until_true(function() return p:get "last" == 1 end)
    local plan = p:ask "reload"
    assert.equal(1, plan.dropped)
    assert.same({ "1 record dropped: the handler waited longer than 0.1 s (limits.finish)" },
      plan.problems)
    p:ask("set", { path = "rate", value = "1" })
    support.until_true(function() return p:get "got" == 2 end)
    assert.same({ 3, 2, 1 }, { p:get "last", p:get "gaps", p:ask("status").dropped })
    assert.matches("events     0 doubled by links that overlapped, 1 dropped with their handlers",
      run { support.moonbee, "ctl", "p", "status" }.out)
  end)

  it("watches what a version that was rolled back was read from", function()
    local p <close> = started("limits = { errors = { count = 2, seconds = 10 } },", [[
      local start, part = policy.start, require "part"
      function policy.start(ctx, state)
        start(ctx, state)
        ctx:every(0.005, part)
      end]], nil, { ["part.lua"] = "return function() end" })
    p:write("part.lua", 'return function() error "bad" end')
    p:wait(function(s) return s.rollbacks == 1 end)
    p:write("part.lua", "return function() local mended = true end")
    p:wait(function(s) return s.swaps == 4 end)
  end)

  it("undoes what was tuned, by the journal", function()
    local p <close> = started(nil, nil, { "--set", "rate=5k" })
    p:ask("set", { path = "rate", value = "6k" })
    assert.same({ 5000, 6000 }, { p:ask("journal")[2].old, p:ask("journal")[2].new })
    local r = run { support.moonbee, "ctl", "p", "undo" }
    assert.equal("rate: 6000 -> 5000\n", r.out)
    assert.equal(5000, p:get "rate")
    assert.matches("what it was before is not known", p:ask_error("undo", { n = 1 }).cause)
    p:ask("set", { path = "rate", value = "1" })
    local n = #p:ask "journal"
    p:ask("set", { path = "rate", value = "2" })
    assert.equal("EBUSY", p:ask_error("undo", { n = n }).code)
    assert.equal("EINVAL", p:ask_error("set", { path = "rate", value = "x" }).code)
    for _, wrong in ipairs { "x", "2", 1.5, true, {} } do -- and not the last one instead
      assert.matches("n is the number of an entry", p:ask_error("undo", { n = wrong }).cause)
    end
    assert.equal(2, p:get "rate")
    assert.matches("uid 0 %(pid %d+%)", p:ask("journal")[2].who)
  end)

  it("reloads a version whose save fails only without its state, and tells who did", function()
    local p <close> = started('version = "one",', [[function policy.save() error "no way" end]])
    calls(2)
    seen(p, 2)
    p:write("p.lua", counter('version = "two",'))
    local s = p:wait(function(s) return s.failures == 1 end)
    assert.matches("p.lua:%d+: no way\n.*hint: moonbee ctl p reload %-%-no%-state", s.last_error)
    assert.equal("one", s.version)
    assert.matches("^moonbee ctl p reload %-%-no%-state ", p:ask_error("reload").hint)
    local r = run { support.moonbee, "ctl", "p", "reload", "--no-state" }
    assert.equal(0, r.rc, r.err)
    assert.matches("\nstate    that of the version before was left out\n", r.out)
    assert.equal("two", p:ask("status").version)
    assert.equal(1, p:get "generation") -- it was given nothing
    local entry = p:ask("journal")[1]
    assert.same({ "(reload)", "--no-state" }, { entry.what, entry.new })
    assert.matches("uid 0 %(pid %d+%)", entry.who)
    p:ask "reload" -- and from now on as ever
    assert.equal(2, p:get "generation")
    assert.equal(1, #p:ask "journal")
  end)

  it("says at the end what keeps its state from the next process", function()
    local p <close> = started('persist = true, pin_root = "/sys/fs/bpf/moonbee-save",',
      [[function policy.save() error "no way" end]])
    p.client:close()
    p.client = nil
    p.process:kill "sigterm"
    assert.matches("its state is lost to the next process: .-p.lua:%d+: no way",
      p.process:wait().err)
    p:write("p.lua", counter('persist = true, pin_root = "/sys/fs/bpf/moonbee-save",'))
    p:start()
    p:ask "stop"
    p.process:wait()
    run { "/bin/rm", "-rf", "/sys/fs/bpf/moonbee-save" }
  end)

  it("rolls back on command, with the state of then", function()
    local p <close> = started('version = "one",')
    calls(2)
    seen(p, 2)
    p:write("p.lua", counter('version = "two",'))
    p:wait(function(s) return s.version == "two" end)
    local plan = p:ask "rollback"
    assert.equal("rollback", plan.kind)
    assert.equal("one", p:ask("status").version)
    assert.equal(2, p:get "generation")
    calls(2)
    support.until_true(function() return p:get "last" == 4 end)
    assert.equal("ENOENT", p:ask_error("rollback").code)
  end)

  it("rolls back by itself in a storm of errors", function()
    local p <close> = started('version = "good",')
    calls(2)
    seen(p, 2)
    local limits = "limits = { errors = { count = 5, seconds = 10 } },"
    local bad = counter('version = "bad", ' .. limits, [[
      local start = policy.start
      function policy.start(ctx, state)
        start(ctx, state)
        ctx:every(0.005, function() error "at it again" end)
      end]])
    p:write("p.lua", bad)
    local s = p:wait(function(s) return s.rollbacks == 1 end)
    assert.equal("good", s.version)
    assert.equal("running", s.state)
    local errors = s.errors
    assert.is_true(errors >= 6) -- one may come before it is away
    assert.equal("6 errors in 10 s", s.last_error)
    assert.matches("p.lua:%d+: at it again", p.process.err)
    calls(2)
    support.until_true(function() return p:get "last" == 4 end)
    -- and the bad file is not tried again before it changes
    assert.equal(3, s.swaps)
    p:write("p.lua", bad) -- the same again is no news
    p:write("p.lua", counter('version = "mended",'))
    s = p:wait(function(now) return now.version == "mended" end)
    assert.same({ 4, errors }, { s.swaps, s.errors })
  end)

  it("does not roll back what a reload has mended meanwhile", function()
    local p <close> = policy.new()
    p:object "policy"
    local code = ([[
      local policy = { object = "p.bpf.o", attach = { on_getpriority = true, tail_xdp = false },
        version = "VERSION", limits = { finish = 10, errors = { count = 3, seconds = 10 } } }
      function policy.setup(obj)
        obj.vars.who = %d
        print "staged: VERSION"
      end
      function policy.start(ctx)
        ctx:on("events", "struct event", function(seq)
          ctx.vars.last = seq
          while ctx.vars.rate ~= 1 do ctx.sleep(0.01) end
        end, "seq")
        ctx:every(0.005, function() if ctx.vars.rate == 5 then error "at it again" end end)
      end
      return policy]]):format(WHO)
    p:write("p.lua", (code:gsub("VERSION", "bad")))
    p:start()
    calls(1)
    p:wait(function() return p:get "last" == 1 end)
    p:write("p.lua", (code:gsub("VERSION", "mended"):gsub("rate == 5", "rate == 6")))
    p:wait(function() return p.process.err:find "staged: mended" end) -- the record keeps it waiting
    p:ask("set", { path = "rate", value = "5" })
    p:wait(function(s) return s.errors > 3 end)
    p:ask("set", { path = "rate", value = "1" })
    p:wait(function() return p.process.err:find "roll%-back: the version with 4 errors in 10 s" end)
    local s = p:ask "status"
    assert.same({ "mended", 2, 0 }, { s.version, s.swaps, s.rollbacks })
  end)

  it("runs the last good version where the file is broken at the start, and says so", function()
    local p <close> = started('version = "good",')
    p:finish()
    p:write("p.lua", "return {")
    p:start()
    local s = p:ask "status"
    assert.equal("degraded", s.state)
    assert.equal("good", s.version)
    assert.matches("p.lua:1: unexpected symbol near <eof>", s.degraded)
    assert.matches("the last good version runs instead", p.process.err)
    calls(2)
    seen(p, 2)
    p:write("p.lua", counter('version = "mended",'))
    s = p:wait(function(now) return now.version == "mended" end)
    assert.equal("running", s.state)
  end)

  it("is told what in uses would never be used", function()
    local p <close> = policy.new()
    local function told(uses)
      p:write("p.lua", ("return { uses = %s, start = function() end }"):format(uses))
      return run { support.moonbee, "policy", p.path, "--dry-run" }.err
    end
    for uses, says in pairs {
      ["{ files = { 5 } }"] = "uses.files[1] is a string, not a integer",
      ["{ files = { 'etc/hostname' } }"] = "uses.files[1] is an absolute path, not 'etc/hostname'",
      ["{ pins = { '/sys/fs/bpf/../x' } }"] = "uses.pins[1] leads elsewhere",
      ["{ pins = { '/sys/fs/bpf/x*' } }"] = "uses.pins[1] has a * in its midst",
      ["{ files = { '/a/*/b' } }"] = "uses.files[1] has a * in its midst",
      ["{ files = { a = '/etc/hostname' } }"] = "uses.files is a list of paths",
    } do
      local err = told(uses)
      assert.truthy(err:find(says, 1, true), err)
    end
    assert.equal("", told "{ files = { '/etc/hostname', '/proc/*' }, pins = { '/sys/fs/bpf/x' } }")
  end)

  it("fails at the start where there is no last good version", function()
    local p <close> = policy.new()
    p:write("p.lua", "return {}")
    local r = p:run():wait()
    assert.equal(1, r.rc)
    assert.matches("^moonbee: check policy 'p': start is missing %(EINVAL%)", r.err)
  end)

  it("ends on SIGTERM with nothing left, and calls stop", function()
    local p <close> = started(nil, STOP)
    local r = p:finish()
    assert.equal(0, r.rc)
    assert.matches("p: ends: exit\n$", r.err)
  end)

  it("is stopped by ctl", function()
    local p <close> = started(nil, STOP)
    local r = run { support.moonbee, "ctl", "p", "stop" }
    assert.same({ 0, "", "" }, { r.rc, r.out, r.err })
    r = p.process:wait()
    assert.equal(0, r.rc)
    assert.matches("p: ends: stop\n$", r.err)
    assert.equal(1, run { support.moonbee, "ctl", "p", "status" }.rc)
  end)

  it("reloads on SIGHUP, also where nothing changed", function()
    local p <close> = started()
    p.process:kill "sighup"
    p:wait(function(s) return s.swaps == 2 end)
  end)

  it("sees edits of modules, quick double saves, and swaps of a symlink", function()
    local p <close> = policy.new()
    p:object "policy"
    p:write("mod.lua", "return 1")
    local text = counter(nil, 'policy.version = require "mod"')
    p:write("v1.lua", text)
    assert(uv.fs_symlink("v1.lua", p.path))
    p:start()
    p:write("mod.lua", "return 2")
    p:wait(function(s) return s.version == 2 end)
    for i = 3, 8 do p:write("mod.lua", "return " .. i) end
    local s = p:wait(function(now) return now.version == 8 end)
    assert.is_true(s.swaps <= 4, s.swaps)
    p:write("v2.lua", (text:gsub('require "mod"', "20")))
    assert(uv.fs_symlink("v2.lua", p.path .. "~"))
    assert(os.rename(p.path .. "~", p.path))
    p:wait(function(now) return now.version == 20 end)
  end)

  it("tells what it would do, and does nothing", function()
    local p <close> = started()
    p:write("q.lua", counter('uses = { files = { "/etc/hostname" } },'))
    local r = run { support.moonbee, "policy", p.dir .. "/q.lua", "--dry-run" }
    assert.equal(0, r.rc, r.err)
    assert.matches("object   loaded %(first%)\n.*link     on_getpriority: attach\n"
      .. "uses     files /etc/hostname\n", r.out)
    local before = p:ask "status"
    local plan = p:ask("reload", { dry_run = true, fresh = true })
    assert.equal("kept", plan.object)
    assert.equal(before.swaps, p:ask("status").swaps)
  end)

  it("swaps in less than a millisecond where the object is kept", function()
    local p <close> = started()
    local times = {}
    for i = 1, 21 do
      local plan = p:ask "reload"
      assert.equal("kept", plan.object)
      times[i] = plan.swap_us
    end
    table.sort(times)
    if not support.slow then assert.is_true(times[11] < 1000, times[11]) end
  end)

  it("runs a policy without an object", function()
    local p <close> = policy.new()
    p:write("p.lua", [[return { start = function(ctx) ctx:every(0.01, function()
      ctx.log.info("tick") end) end }]])
    p:start()
    p.process:expect "p: tick"
    assert.equal("none", p:ask("plan").object)
    assert.equal(0, p:finish().rc)
  end)

  it("runs tests of its own before it is in force", function()
    local p <close> = started()
    local tests = [[policy.tests = {
      { prog = "count_xdp", data = ("\0"):rep(64), expect = { ret = %d, vars = { counted = 0 } } },
      own = function(obj, t) obj.vars.rate = 9 t.equal(%d, obj.vars.rate) end }]]
    p:write("p.lua", counter(nil, tests:format(1, 9)))
    local s = p:wait(function(now) return now.failures == 1 end)
    assert.matches("test 1 failed: ret is 2, expected 1", s.last_error)
    p:write("p.lua", counter(nil, tests:format(2, 8)))
    s = p:wait(function(now) return now.failures == 2 end)
    assert.matches("p.lua:%d+: expected 8, got 9", s.last_error)
    p:write("p.lua", counter(nil, [[policy.tests = { { name = "wrong", prog = "count_xdp",
      data = ("\0"):rep(64), vars = { rate = -1 } } }]]))
    s = p:wait(function(now) return now.failures == 3 end)
    assert.matches("set variable 'rate': -1 is out of range", s.last_error, 1, true)
    p:write("p.lua", counter(nil, tests:format(2, 9)))
    p:wait(function(now) return now.swaps == 2 end)
    assert.equal(2, p:ask("plan").tests)
    assert.equal(100, p:get "rate")
  end)

  it("logs JSON lines", function()
    local p <close> = started(nil, nil, { "--log", "json" })
    local entry = require "dkjson".decode(p.process.err:match "^[^\n]+")
    assert.same({ "info", "p", "loaded" }, { entry.level, entry.policy, entry.plan.object })
    assert.is_true(entry.time > 1e9)
  end)
end)
