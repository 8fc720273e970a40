-- SPDX-License-Identifier: BSD-2-Clause
-- Watches, plots and histograms as lines of text. On a terminal: spec/cli/terminal_spec.lua.
local bpf = require "moonbee"
local live = require "moonbee.live"
local mistake = require "support.mistake"

local BUILD = os.getenv "MB_BUILD" or "build"

-- A host without clock: time goes on by tick().
local function new_host()
  local host = { time = 0, timers = {}, lines = {}, warned = {}, unicode = false }
  function host.every(seconds, fn)
    local timer = { seconds = seconds, fn = fn, stop = function(self) host.timers[self] = nil end }
    host.timers[timer] = true
    return timer
  end
  function host.show(lines) host.lines = lines end
  function host.warn(text) table.insert(host.warned, text) end
  function host.columns() return 60 end
  function host.rows() return 24 end
  function host.now() return host.time end
  function host.tick(seconds)
    host.time = host.time + seconds
    local due = {}
    for timer in pairs(host.timers) do due[#due + 1] = timer end
    for _, timer in ipairs(due) do timer.fn() end
  end
  return host, live.new(host)
end

describe("watch", function()
  it("shows a ref with its rate, and a function's values", function()
    local obj <close> = bpf.open(BUILD .. "/fixtures/types.bpf.o")
    local host, l = new_host()
    local hits = bpf.ref(obj.vars, "hits")
    local w = l:watch(hits)
    assert.same({ "hits = 0" }, host.lines)
    hits:set(50)
    host.tick(2)
    assert.same({ "hits = 50  +25/s" }, host.lines)
    l:watch(function() return "a", 2 end, 0.5)
    assert.equal(2, #host.lines)
    assert.truthy(host.lines[2]:find '= "a"  2$', host.lines[2])
    w:stop()
    w:stop()
    assert.equal(1, #host.lines)
    l:stop_all()
    assert.same({}, host.lines)
    assert.is_nil(next(host.timers))
  end)

  it("shows a table as a table, and a view as C", function()
    local obj <close> = bpf.open(BUILD .. "/fixtures/types.bpf.o")
    local host, l = new_host()
    local t = { drops = 5, ["long name"] = 1 }
    l:watch(function() return t end)
    assert.truthy(host.lines[1]:find ":$")
    assert.same({ "  drops      5", "  long name  1" }, { host.lines[2], host.lines[3] })
    t.drops = 8
    host.tick(1)
    assert.same("  drops      8  +3/s", host.lines[2])
    l:stop_all()
    l:watch(obj.vars.tune_limit)
    assert.same({ "struct limit = (struct limit){ .rate = 5, .burst = 9 }" }, host.lines)
    for i = 1, 100 do t[i] = i end
    l:stop_all()
    l:watch(function() return t end)
    assert.truthy(#host.lines <= 20)
  end)

  it("ends with what its function raises, and tells it", function()
    local host, l = new_host()
    local fail
    l:watch(function() if fail then error("gone", 0) end return 1 end)
    fail = true
    host.tick(1)
    assert.same({}, host.lines)
    assert.is_nil(next(host.timers))
    assert.truthy(host.warned[1]:find "ended: gone\n$")
  end)

  it("refuses what was read once, and odd spans", function()
    local _, l = new_host()
    assert.equal("watch: function, ref, view or map expected, got a number\nhint: that was read"
      .. " once: give watch(bpf.ref(vars, \"name\")), or a function, watch(function() return"
      .. " vars.name end)", mistake(function() l:watch(5) end))
    for _, x in ipairs { "text", true, {} } do
      assert.truthy(mistake(function() l:watch(x) end):find "expected, got ")
    end
    assert.truthy(mistake(function() l:watch(nil) end):find "got nil\nhint")
    for _, seconds in ipairs { 0, -1, 0 / 0, 1e9, "1", {} } do
      assert.truthy(mistake(function() l:watch(print, seconds) end):find "seconds expected")
    end
    assert.truthy(mistake(function() l:plot(print, { sec = 1 }) end):find "no option 'sec'")
    assert.truthy(mistake(function() l:plot(print, { height = 1 }) end):find "height expected")
  end)
end)

describe("plot", function()
  it("draws samples with axis, least, greatest and rate", function()
    local lines = live.plot_lines({ 0, 5, 10 }, { title = "x", seconds = 1, height = 4, width = 12,
      unicode = false, rate = "  rate +5/s" })
    assert.same({
      "x  now 10  min 0  max 10  rate +5/s",
      "10|           #",
      "  |           #",
      " 5|          ##",
      " 0|         ###",
      "  +------------",
      "   -12 s    now",
    }, lines)
  end)

  it("keeps as many samples as there are columns", function()
    local host, l = new_host()
    local n = 0
    local p = l:plot(function() n = n + 1 return n end, 1)
    local ticks = os.getenv "MB_HARDGC" and 60 or 200
    for _ = 1, ticks do host.tick(1) end
    assert.equal(44, #p.samples)
    assert.equal(ticks + 1, p.samples[#p.samples])
    for _, line in ipairs(host.lines) do assert.truthy(#line <= 60, line) end
    p:stop()
    local r = l:plot(function() n = n + 3 return n end, { rate = true, height = 3 })
    assert.equal(1, #host.lines)
    for _ = 1, 3 do host.tick(1) end
    assert.truthy(host.lines[1]:find "per second  now 3  min 3  max 3", host.lines[1])
    r:stop()
  end)

  it("ends where there is no number", function()
    local host, l = new_host()
    l:plot(function() return "x" end)
    assert.truthy(host.warned[1]:find 'a number expected, got "x"')
    assert.is_nil(next(host.timers))
  end)
end)

describe("hist", function()
  it("shows how numbers are spread over powers of two", function()
    local _, l = new_host()
    local text = tostring(l:hist { 0, 1, 2, 3, 4, 1000 })
    local rows = {}
    for row in text:gmatch "[^\n]+" do rows[#rows + 1] = row end
    assert.equal(12, #rows)
    assert.truthy(rows[2]:find "^ +0 +1  |@+ +|$")
    assert.truthy(rows[4]:find "^ +2 %.%. 3 +2  |@+|$")
    assert.truthy(rows[12]:find "^ *512 %.%. 1023 +1  |@+ +|$")
    assert.truthy(tostring(l:hist { -5, 2 }):find "negative +1 ")
    assert.equal("no values", tostring(l:hist {}))
  end)

  it("takes arrays of objects, their fields, and a program's own slots", function()
    local obj <close> = bpf.open(BUILD .. "/fixtures/types.bpf.o")
    local _, l = new_host()
    bpf.fill(obj.vars.counters, 7)
    assert.truthy(tostring(l:hist(obj.vars.counters)):find "4 %.%. 7 +1024  |@+|$")
    assert.truthy(tostring(l:hist(obj.vars.limits, "rate")):find "256 %.%. 511 +2 ")
    bpf.fill(obj.vars.counters, 0)
    obj.vars.counters[3] = 9
    assert.truthy(tostring(l:hist(obj.vars.counters, { slots = true })):find "4 %.%. 7 +9  |@+|$")
    obj.vars.v_u64 = -1
    assert.truthy(tostring(l:hist({ count = 1, negative = 0, [64] = 1 }))
      :find "9223372036854775808 .. 18446744073709551615 +1 ")
    assert.truthy(mistake(function() l:hist(5) end):find "array or list expected, got number")
    assert.truthy(mistake(function() l:hist { "x" } end):find 'numbers expected, got "x"')
  end)
end)
