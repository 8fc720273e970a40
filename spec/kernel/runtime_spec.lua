-- SPDX-License-Identifier: BSD-2-Clause
-- A policy's own state with a loaded object: events, maps, what start may not do to the kernel.
local runtime = require "moonbee.runtime"
local skip = require "support.skip"
local support = require "support.bpf"

local function started(obj, body, options)
  local said = {}
  local opts = { name = "p", deadline = 5, log = function(_, text) said[#said + 1] = text end }
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
        local till = spin() + (seq == 30 and 10 or 0.01) * 1000000000
        while spin() < till do end
      end, "seq")]], { deadline = 0.1 })
    emit(obj, 40)
    local status, text = rt:fire(regs[1].id)
    assert.equal("error", status)
    assert.matches("p.lua:4: the deadline of 0.1 s is over", text)
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
end)
