-- SPDX-License-Identifier: BSD-2-Clause
-- A policy's own state with a loaded object: events, maps, what start may not do to the kernel.
local uv = require "luv"
local runtime = require "moonbee.runtime"
local skip = require "support.skip"
local support = require "support.bpf"

local function started(obj, body, options)
  local said = {}
  local opts = { name = "limited", deadline = 5,
    log = function(_, text) said[#said + 1] = text end }
  for key, value in pairs(options or {}) do opts[key] = value end
  local rt = runtime.new(opts)
  rt.said = said
  rt:load("return { start = function(ctx, state) " .. body .. " end }", "@p.lua")
  local ok, regs = pcall(rt.start, rt, { object = obj })
  if not ok then
    rt:close()
    error(regs, 0)
  end
  rt:commit()
  return rt, regs
end

local function emit(obj, n)
  obj.vars.count = n
  obj.progs.emit:run()
end

describe("a policy's state #root", function()
  before_each(skip.root)

  it("drains a ring in its own loop, a thousand records at a time", function()
    local obj <close> = support.load "events"
    local rt <close>, regs = started(obj, [[
      local sum, n = 0, 0
      ctx:on("events", "struct event", function(seq) sum, n = sum + seq, n + 1 end, "seq")
      ctx:after(0, function() ctx.log.info("%d %d", n, sum) end)]])
    assert.same({ id = 1, kind = "on", map = "events", type = "struct event", columns = { "seq" },
      fd = regs[1].fd }, regs[1])
    assert.equal("integer", math.type(regs[1].fd))
    emit(obj, 1500)
    assert.is_true(rt:pending(1) > 0)
    assert.equal("more", rt:fire(1))
    assert.equal("done", rt:fire(1))
    assert.equal(0, rt:pending(1))
    rt:fire(2)
    assert.same({ ("%d %d"):format(1500, 1500 * 1501 // 2) }, rt.said)
  end)

  it("keeps a record while its handler waits, and consumes it when that is ended", function()
    local obj <close> = support.load "events"
    local rt <close>, regs = started(obj, [[
      ctx:on("events", "struct event", function(ev)
        ctx.log.info("%d", ev.seq)
        ctx.sleep(1)
        ctx.log.info("%d again", ev.seq)
        if ev.seq == 2 then error "two" end
      end)]])
    local id = regs[1].id
    emit(obj, 4)
    local status, _, task = rt:fire(id)
    assert.equal("wait", status)
    assert.equal("busy", rt:fire(id))
    status, _, task = rt:resume(task)
    assert.equal("wait", status)
    assert.equal("error", (rt:resume(task)))
    status, _, task = rt:fire(id)
    assert.equal("wait", status)
    assert.truthy(task)
    rt:end_waiting { [id] = true }
    -- another version takes over where this one was ended
    local new <close>, others = started(obj, [[
      ctx:on("events", "struct event", function(seq) ctx.log.info("%d", seq) end, "seq")]])
    assert.equal("done", new:fire(others[1].id))
    assert.same({ "1", "1 again", "2", "2 again", "3" }, rt.said)
    assert.same({ "4" }, new.said)
  end)

  it("gives each record its own deadline", function()
    local obj <close> = support.load "events"
    local rt <close>, regs = started(obj, [[
      local spin = bpf.now_ns
      ctx:on("events", "struct event", function(seq)
        local till = spin() + (seq == 30 and 10 or 0.02) * 1000000000
        while spin() < till do end
      end, "seq")]], { deadline = 0.5 })
    emit(obj, 40)
    local status, text = rt:fire(regs[1].id)
    assert.equal("error", status)
    assert.matches("p.lua:4: the deadline of 0.5 s is over", text)
    assert.equal("done", rt:fire(regs[1].id))
    assert.equal(0, rt:pending(regs[1].id))
  end)

  it("tells a wrong map, type or column of ctx:on at start", function()
    local obj <close> = support.load "events"
    for args, text in pairs {
      ['"event", "struct event", print'] = "has no map 'event'",
      ['"events", "struct evil", print'] = "struct evil",
      ['"events", "struct event", print, "sequ"'] = "sequ",
    } do
      local ok, err = pcall(started, obj, ("ctx:on(%s)"):format(args))
      assert.is_false(ok)
      assert.matches(text, err.cause, 1, true)
    end
  end)

  -- A map of the fixture that takes numbers, by name.
  local function plain_hash(obj)
    local names = {}
    for name, m in pairs(obj.maps) do
      if m.type == "hash" and pcall(m.set, m, 1, 2) then names[#names + 1] = name end
    end
    table.sort(names)
    return assert(names[1], "no such map in the fixture")
  end

  it("may read in start, and change the kernel's state later only", function()
    local obj <close> = support.load "maps"
    local name = plain_hash(obj)
    local prog
    for n in pairs(obj.progs) do prog = n end
    for call, what in pairs {
      ["m[1] = 5"] = "set in map", ["m:set(1, 5)"] = "set in map",
      ["m[1] = nil"] = "delete from map", ["m:delete(1)"] = "delete from map",
      ["m:take(1)"] = "take from map", ["m:clear()"] = "clear map",
      ["p:run { data = ('x'):rep(64) }"] = "run program", ["p:attach()"] = "attach program",
    } do
      local ok, err = pcall(started, obj, ([[
        local m, p = ctx.maps[%q], ctx.progs[%q]
        assert(m:get(1) == 2)
        for k, v in pairs(m) do assert(v) end
        %s]]):format(name, prog, call))
      assert.is_false(ok, call)
      assert.matches(what .. " '[%w_]+': a policy's start may not: it may yet fail", err.cause)
      assert.equal("EPERM", err.code)
      assert.matches("ctx:after", err.hint)
    end
    assert.equal(2, obj.maps[name]:get(1))
    local rt <close> = started(obj,
      ("ctx:after(0, function() ctx.maps[%q][1] = 7 end)"):format(name))
    assert.equal("done", rt:fire(1))
    assert.equal(7, obj.maps[name]:get(1))
  end)

  it("is ended in what takes long in C, too", function()
    local obj <close> = support.load "maps"
    local events <close> = support.load "events"
    local name = plain_hash(obj)
    for _, attempt in ipairs {
      { obj, "while true do for k, v in pairs(m) do end end" },
      { obj, "while true do m:count() end" },
      { obj, "while true do pcall(m.clear, m) end" },
      { obj, "while true do pcall(m.set, m, 'x') end" },
      { events, "while true do ctx.progs.emit:run { times = 1000000000 } end" },
      { events, "while true do pcall(ctx.progs.emit.run, ctx.progs.emit) end" },
      { events, "while true do bpf.copy(ctx.vars.seq and ctx.obj.bss) end" },
      { events, "while true do bpf.format(ctx.obj.bss) bpf.totable(ctx.obj.bss) end" },
      { events, "while true do bpf.json(ctx.obj.bss) end" },
    } do
      local rt <close> = started(attempt[1],
        ("local m = ctx.maps[%q] ctx:after(0, function() %s end)")
          :format(attempt[1] == obj and name or "events", attempt[2]))
      rt.deadline = 0.05
      local from = uv.hrtime()
      local status, text = rt:fire(1)
      assert.equal("error", status, attempt[2])
      assert.matches("p.lua:1: the deadline of 0.05 s is over", text)
      assert.is_true(uv.hrtime() - from < (support.slow and 20e9 or 3e9), attempt[2])
    end
  end)

  it("has no memory but its own, in C either", function()
    local obj <close> = support.load "maps"
    local name = plain_hash(obj)
    for i = 1, 100 do pcall(obj.maps[name].set, obj.maps[name], i, i) end
    local rt <close> = started(obj, ([[
      ctx:after(0, function()
        local t = {}
        while true do -- each walk has a batch of the map at hand
          local step, walk = ctx.maps[%q]:pairs()
          step(walk)
          t[#t + 1] = walk
        end
      end)]]):format(name), { memory = 8 << 20 })
    local status, text = rt:fire(1)
    assert.equal("error", status)
    assert.matches("memory", text)
    local used, peak, limit = rt.guest:memory()
    assert.is_true(used <= limit and peak <= limit)
  end)

  it("cannot take the host's last files", function()
    local obj <close> = support.load "events"
    local rt = runtime.new { name = "limited", deadline = 30 }
    rt:load([[return { start = function(ctx)
      for i = 1, 100000 do ctx:on("events", "struct event", print) end end }]], "@p.lua")
    local err = support.refusal(rt.start, rt, { object = obj })
    assert.truthy(err.cause:find("too many files are open", 1, true)
      or err.cause:find("the policy has 1000 handlers", 1, true), err.cause)
    assert(io.open "/dev/null"):close()
    rt:close()
    for id = 1, 1000 do assert.is_false(pcall(rt.fire, rt, id)) end
  end)
end)
