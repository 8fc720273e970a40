-- SPDX-License-Identifier: BSD-2-Clause
-- A policy's own state as its host has it: what crosses, what start holds back, what handlers do.
local bpf = require "moonbee"
local runtime = require "moonbee.runtime"
local run = require "support.run"
local support = require "support.bpf"

-- A runtime with this file loaded; rt.log collects what it says.
local function load(source, options)
  local log = {}
  local opts = { name = "limited", deadline = 30, log = function(level, text)
    log[#log + 1] = level .. ": " .. text
  end }
  for key, value in pairs(options or {}) do opts[key] = value end
  local rt = runtime.new(opts)
  rt.said = log
  local ok, description = pcall(rt.load, rt, source, "@p.lua")
  if not ok then
    rt:close()
    error(description, 0)
  end
  rt.description = description
  return rt
end

local function refused(source, options)
  local ok, err = pcall(load, source, options)
  assert.is_false(ok, "it was taken")
  assert.equal("error", bpf.type(err), tostring(err))
  return err
end

local function failure(...)
  return support.refusal(...)
end

describe("a policy's state", function()
  describe("describes the file's table", function()
    it("with functions as markers and the rest copied", function()
      local rt <close> = load [[
        return { object = "x.bpf.o", limits = { memory = 1 << 20, deadline = 0.5 }, on = true,
          attach = { a = { ifname = "lo" }, b = false }, start = function() end,
          tests = { { prog = "x", data = "\0\1" }, named = function() end } }]]
      local F = runtime.FUNCTION
      assert.same({
        object = "x.bpf.o", limits = { memory = 1 << 20, deadline = 0.5 }, on = true,
        attach = { a = { ifname = "lo" }, b = false }, start = F,
        tests = { { prog = "x", data = "\0\1" }, named = F },
      }, rt.description)
      assert.is_true(rt:has "start")
      assert.is_true(rt:has("tests", "named"))
      assert.is_false(rt:has "stop")
      assert.is_false(rt:has("object", "x"))
    end)

    it("and refuses what is no table, no plain data, or no Lua", function()
      assert.matches("returned nil, not a table", refused "local x = 1".cause)
      assert.equal("p.lua:1: unexpected symbol near '='", refused "x = = 1".cause)
      assert.matches("holds a thread, which is no plain data",
        refused "return { x = coroutine.create(print) }".cause)
      assert.matches("holds a table that is within itself",
        refused "local t = { {} } t[1][1] = t return t".cause)
      assert.matches("nested deeper than 100 tables",
        refused "local t = {} local p = t for i = 1, 101 do p[1] = {} p = p[1] end return t".cause)
      assert.matches("holds a table with a metatable",
        refused "return { x = setmetatable({}, {}) }".cause)
    end)

    it("keeps what is shared shared, so that a small file makes no giant", function()
      local rt <close> = load "local t = {} for i = 1, 90 do t = { t, t } end return t"
      local t, n = rt.description, 0
      while t[1] do
        assert.equal(t[1], t[2])
        t, n = t[1], n + 1
      end
      assert.equal(90, n)
    end)
  end)

  it("tells an error with file, line and traceback", function()
    local err = refused "local function f(x)\n  return x.y.z\nend\nf {}"
    assert.equal("run 'policy 'limited': load': p.lua:2: attempt to index a nil value (field 'y') "
      .. "(EINVAL)", tostring(err))
    assert.equal("p.lua:2: attempt to index a nil value (field 'y')\nstack traceback:\n"
      .. "\tp.lua:2: in local 'f'\n\tp.lua:4: in main chunk", err.log)
    err = refused 'error(bpf.error { code = "EPERM", op = "a", subject = "b", cause = "c" })'
    assert.equal("EPERM", err.code)
    assert.equal("a 'b': c (EPERM)", err.cause)
    assert.equal("table: ", refused "error {}".cause:sub(1, 7))
    assert.equal("tost", refused [[error(setmetatable({}, { __tostring = function()
      return "tost" end }))]].cause)
  end)

  describe("requires modules", function()
    local function modules(name)
      if name == "good" then return "loads = (loads or 0) + 1 return { n = loads }", "@good.lua" end
      if name == "bad" then return "x = = 1", "@bad.lua" end
      return nil, "no file 'm/" .. name .. ".lua'"
    end

    it("from its host, once, while the file or start runs", function()
      local rt <close> = load([[
        local good = require "good"
        return { n = good.n, same = good == require "good", bpf = require "moonbee" == bpf,
          start = function() return require "good" end,
          late = function() local x = require "other" return x end }]], { modules = modules })
      assert.equal(1, rt.description.n)
      assert.is_true(rt.description.same)
      assert.is_true(rt.description.bpf)
      assert.matches("p.lua:4: require 'other': modules are loaded while",
        failure(rt.call, rt, "late").cause)
    end)

    it("and tells what is wrong with them", function()
      assert.matches("module 'none' not found: no file 'm/none.lua'",
        refused("require 'none'", { modules = modules }).cause)
      assert.matches("bad.lua:1: unexpected symbol", refused("require 'bad'",
        { modules = modules }).cause)
      assert.matches("the host is cross", refused("require 'x'", { modules = function()
        error("the host is cross", 0)
      end }).cause)
    end)
  end)

  describe("start", function()
    local function start(body, options)
      local rt = load("return { start = function(ctx, state, from) " .. body .. " end }", options)
      local obj = support.open "types"
      return rt, obj
    end

    it("gets ctx, state and from", function()
      local rt <close>, obj = start [[
        assert(ctx.obj.vars == ctx.vars and ctx.maps and ctx.progs.observe)
        assert(ctx.params.x == 1 and state.n == 2 and ctx.state == state and from == "start")
        ctx.log.info("%d and %s", 5, "x")
        ctx.log.warn("100%")]]
      local _ <close> = obj
      assert.same({}, rt:start { object = obj, params = { x = 1 }, state = { n = 2 },
        from = "start" })
      assert.same({ "info: 5 and x", "warn: 100%" }, rt.said)
    end)

    local BODY = [[
      local v = ctx.vars
      v.v_u8, v.cfg.rate, v.cfg.limits[3].burst = 7, 77, 5
      v.flags.delta = -3
      v.name = "held"
      bpf.update(v.cfg, { label = "new" })
      bpf.ref(v, "tune_rate"):set(9)
      assert(v.v_u8 == 7 and v.cfg.rate == 77 and v.name == "held" and v.tune_rate == 9)
      kept = bpf.ref(v, "hits")]]

    it("holds its stores back until they are committed", function()
      local rt <close>, obj = start(BODY)
      local _ <close> = obj
      obj.vars.cfg.burst = 21
      rt:start { object = obj }
      local v = obj.vars
      assert.same({ 200, 10, "moonbee", 100 }, { v.v_u8, v.cfg.rate, v.name, v.tune_rate })
      v.v_u16 = 3 -- what changed meanwhile stays
      local changed = rt:commit()
      table.sort(changed)
      assert.same({ "cfg.label", "cfg.limits[3].burst", "cfg.rate", "flags.delta", "name",
        "tune_rate", "v_u8" }, changed)
      assert.same({ 7, 77, 5, -3, "held", "new", 9, 3, 21 }, { v.v_u8, v.cfg.rate,
        v.cfg.limits[3].burst, v.flags.delta, v.name, v.cfg.label, v.tune_rate, v.v_u16,
        v.cfg.burst })
      assert.same({}, rt:commit())
    end)

    it("leaves nothing when they are dropped, or when it fails", function()
      local rt <close>, obj = start(BODY)
      local _ <close> = obj
      local before = bpf.json(obj.vars)
      rt:start { object = obj }
      rt:drop()
      assert.equal(before, bpf.json(obj.vars))
      assert.same({}, rt:commit())
      local bad <close> = start(BODY .. "\nerror 'late'")
      assert.matches("p.lua:9: late", failure(bad.start, bad, { object = obj }).cause)
      bad:drop()
      assert.equal(before, bpf.json(obj.vars))
    end)

    it("gives views that are live after the commit", function()
      local rt <close>, obj = start(BODY .. [[
        ctx:after(0, function() kept:set(kept:get() + 1) v.v_u8 = v.v_u8 + 1 end)]])
      local _ <close> = obj
      local regs = rt:start { object = obj }
      rt:commit()
      obj.vars.hits = 41
      assert.equal("done", rt:fire(regs[1].id))
      assert.same({ 42, 8 }, { obj.vars.hits, obj.vars.v_u8 })
      obj:close()
      local rt2 <close> = start "assert(not pcall(function() return ctx.vars.v_u8 end))"
      assert.is_false(pcall(rt2.start, rt2, { object = obj }))
    end)

    it("refuses atomics and waiting", function()
      local rt <close>, obj = start [[bpf.ref(ctx.vars, "hits"):add(1)]]
      local _ <close> = obj
      local err = failure(rt.start, rt, { object = obj })
      assert.equal("p.lua:1: change 'hits': a policy's start may not: it may yet fail", err.cause)
      assert.matches("put it into ctx:after", err.hint)
      local own <close> = start [[local c = bpf.copy(ctx.vars.cfg)
        bpf.ref(c, "rate"):add(1) assert(c.rate == 11)]]
      own:start { object = obj }
      local waits <close> = start "ctx.sleep(0)"
      assert.matches("this may not wait", failure(waits.start, waits, {}).cause)
      local yields <close> = start "coroutine.yield()"
      assert.matches("yielded to the loop", failure(yields.start, yields, {}).cause)
    end)
  end)

  describe("runs handlers", function()
    local function started(body, options)
      local rt = load("return { start = function(ctx) " .. body .. " end }", options)
      return rt, rt:start {}, rt:commit()
    end

    it("when they are due, and not before", function()
      local rt <close>, regs = started [[
        ctx:every(1.5, function() ctx.log.info "tick" end)
        ctx:after(3, function() ctx.log.info "once" end)]]
      assert.same({ { id = 1, kind = "every", seconds = 1.5 },
        { id = 2, kind = "after", seconds = 3 } }, regs)
      assert.same({}, rt.said)
      assert.equal("done", rt:fire(1))
      assert.equal("done", rt:fire(1))
      assert.equal("done", rt:fire(2))
      assert.equal("gone", rt:fire(2))
      assert.same({ "info: tick", "info: tick", "info: once" }, rt.said)
    end)

    it("that wait, without a limit to that", function()
      local rt <close> = started [[
        ctx:every(1, function() ctx.log.info "a" ctx.sleep(0.25) ctx.log.info "b" end)]]
      local status, seconds, task = rt:fire(1)
      assert.same({ "wait", 0.25 }, { status, seconds })
      assert.equal("busy", rt:fire(1))
      assert.equal(1, #rt:tasks())
      assert.equal("done", rt:resume(task))
      assert.equal("gone", rt:resume(task))
      assert.same({ "info: a", "info: b" }, rt.said)
      assert.equal("wait", rt:fire(1))
    end)

    it("and closes what one has open when it is ended", function()
      local rt <close> = started [[
        ctx:every(1, function()
          local x <close> = setmetatable({}, { __close = function() ctx.log.info "closed" end })
          ctx.sleep(9)
        end)]]
      rt:fire(1)
      rt:end_waiting()
      assert.same({ "info: closed" }, rt.said)
      rt:fire(1)
      rt:close()
      assert.same({ "info: closed", "info: closed" }, rt.said)
    end)

    it("whose error is told, counted, and ends only them", function()
      local rt <close> = started [[
        local n = 0
        ctx:every(1, function() n = n + 1 if n == 1 then error "first" end ctx.log.info(n) end)]]
      local status, text = rt:fire(1)
      assert.equal("error", status)
      assert.equal("p.lua:2: first\nstack traceback:\n\tp.lua:2: in function <p.lua:2>", text)
      assert.equal(1, rt:stats().errors)
      assert.equal("done", rt:fire(1))
      assert.same({ "info: 2" }, rt.said)
    end)

    it("that stop themselves and start others", function()
      local made, ended = {}, {}
      local rt <close> = started([[
        local h h = ctx:every(1, function() h:stop() ctx:after(2, function() end) end)]],
        { on_register = function(reg) made[#made + 1] = reg end,
          on_unregister = function(id) ended[#ended + 1] = id end })
      assert.equal("done", rt:fire(1))
      assert.same({ { id = 2, kind = "after", seconds = 2 } }, made)
      assert.same({ 1 }, ended)
      assert.equal("gone", rt:fire(1))
    end)

    it("and tells who asks for nonsense where", function()
      for body, text in pairs {
        ["ctx:every(0, print)"] = "ctx:every: seconds expected %(a number from 0.001",
        ["ctx:after('x', print)"] = "ctx:after: seconds expected",
        ["ctx:every(1)"] = "ctx:every: function expected, got nil",
        ["ctx:on('nope', 'struct event', print)"] = "ctx:on: name of a map expected",
        ["ctx:on('nope', print)"] = "ctx:on: the type comes second",
      } do
        local ok, err = pcall(started, body)
        assert.is_false(ok)
        assert.matches("^p.lua:1: " .. text, err.cause)
      end
    end)
  end)

  it("saves its state, and stops", function()
    local rt <close> = load [[return { start = function(ctx, s) ctx.state = { n = s.n + 1 } end,
      stop = function(ctx, reason) ctx.log.info(reason) end }]]
    rt:start { state = { n = 1 } }
    assert.same({ n = 2 }, rt:call "save")
    rt:call("stop", "reload")
    assert.same({ "info: reload" }, rt.said)
    local own <close> = load [[return { start = function(ctx) ctx:after(0, print) end,
      save = function(ctx) return { 1, x = "y" }, 2 end }]]
    own:start { }
    assert.same({ 1, x = "y" }, (own:call "save"))
    local none <close> = load "return {}"
    none:start {}
    assert.same({}, none:call "save")
    assert.is_nil(none:call("stop", "exit"))
  end)

  it("has what the reference says, and no more", function()
    local file <close> = assert(io.open "lua/moonbee/meta/policy.lua")
    local text, known = file:read "a", {}
    for name in text:match("%-%-%-@class moonbee%.ctx\n(.-)local ctx"):gmatch "@field (%w+)" do
      known[name] = true
    end
    for name in text:gmatch "\nfunction ctx[.:](%w+)%(" do known[name] = true end
    local rt <close> = load [[return { start = function(ctx)
      local names = {}
      for name in pairs(ctx) do names[name] = true end
      for name in pairs(ctx.log) do names["log." .. name] = true end
      ctx.state = names
    end }]]
    local obj <close> = support.open "types"
    rt:start { object = obj, params = {}, state = {} }
    for name in text:match("\n%-%-%-@field log ([^\n]*)"):gmatch "(%w+): fun" do
      known["log." .. name] = true
    end
    assert.same(known, rt:call "save")
  end)

  it("is closed once and for all", function()
    local rt = load "return { start = function(ctx) ctx:every(1, print) end }"
    rt:start {}
    rt:close()
    rt:close()
    assert.is_false(pcall(rt.fire, rt, 1))
  end)
end)

describe("code of the host's in a policy's state", function()
  local function session(write)
    local rt = runtime.new { name = "limited", deadline = 30 }
    local out = {}
    rt:load("secret = 42 return { start = function(ctx) ctx.state = { n = 1 } end }", "@p.lua")
    local obj = support.open "types"
    rt:start { object = obj, params = { x = 5 } }
    rt:commit()
    local id = rt:module([[
      local core, env, host = ...
      assert(debug.getinfo and core.typeof and core.classes)
      return function(text)
        local fn = assert(load(text, "=console", "t", env))
        local results = table.pack(fn())
        for i = 1, results.n do host.write(core.format(results[i])) end
        return results.n
      end]], { write = function(text) out[#out + 1] = text end })
    local function eval(text)
      local task = rt:task(id, { write = write }, text)
      local slices = 0
      while true do
        local results = table.pack(rt:resume(task))
        if results[1] ~= "more" then return slices, table.unpack(results, 1, results.n) end
        slices = slices + 1
        if slices == 50 then
          rt:kill(task)
          assert.equal("gone", rt:resume(task))
          return "killed"
        end
      end
    end
    return rt, obj, eval, out
  end

  it("sees what the policy sees, and talks to its host", function()
    local rt <close>, obj, eval, out = session(true)
    local _ <close> = obj
    assert.same({ 0, "done", 4 }, { eval "return secret, params.x, ctx.state.n, vars.cfg.rate" })
    assert.same({ "42", "5", "1", "10" }, out)
    assert.same({ 0, "done", 0 }, { eval "vars.cfg.rate = 11" })
    assert.equal(11, obj.vars.cfg.rate)
    local _, status, text = eval "error 'no'"
    assert.equal("error", status)
    assert.matches("^console:1: no\n", text)
    assert.matches("syntax error near", (select(3, eval "x x")))
    assert.truthy(rt)
  end)

  it("gives way every millisecond, and can be ended then", function()
    local rt <close>, obj, eval = session(true)
    local _ <close> = obj
    assert.equal("killed", (eval "while true do pcall(function() while true do end end) end"))
    assert.equal("killed", (eval "local function f() return f() end f()"))
    local slices, status = eval "local t = bpf.now_ns() + 10000000 while bpf.now_ns() < t do end"
    assert.equal("done", status)
    assert.is_true(slices >= 1)
    assert.truthy(rt)
  end)

  it("changes nothing where it is to read only", function()
    local rt <close>, obj, eval = session(false)
    local _ <close> = obj
    for _, text in ipairs { "vars.cfg.rate = 11", "bpf.ref(vars, 'hits'):set(1)",
      "bpf.ref(vars, 'hits'):add(1)", "bpf.update(vars.cfg, { rate = 1 })",
      "bpf.fill(vars.counters, 1)", "for i = 1, 1e6 do end vars.v_u8 = 1" } do
      local _, status, message = eval(text)
      assert.equal("error", status, text)
      assert.matches("what runs here may only read", message)
    end
    assert.same({ 10, 0, 200 }, { obj.vars.cfg.rate, obj.vars.hits, obj.vars.v_u8 })
    local _, status = eval "local c = bpf.copy(vars.cfg) c.rate = 5 return c.rate"
    assert.equal("done", status)
    obj.vars.cfg.rate = 12 -- the host itself may
    assert.equal(12, obj.vars.cfg.rate)
    assert.truthy(rt)
  end)
end)

-- The main state never has moonbee: with the last state that has, the module would be unloaded. It
-- is not closed, as luv 1.48 has threads abort the process then, moonbee or not.
local THREADS = [[
  local uv = require "luv"
  for n = 1, 3 do
    local thread = uv.new_thread(function()
      local runtime = require "moonbee.runtime"
      local rt <close> = runtime.new { name = "x", deadline = 5, memory = 1 << 24, log = print }
      rt:load("return { start = function() return 1 end }", "@x.lua")
      rt:call "start"
    end)
    thread:join()
    print(n)
  end
  os.exit(0)
]]

describe("a Lua state in a thread", function()
  it("ends, and the process goes on", function()
    if (os.getenv "MB_BUILD" or ""):find "san$" then return end -- it wants the sanitizer's library
    local r = run({ "lua5.4", "-" }, { stdin = THREADS,
      env = { LUA_PATH = package.path, LUA_CPATH = package.cpath } })
    assert.equal("1\n2\n3\n", r.out, r.err)
    assert.equal(0, r.rc)
  end)
end)
