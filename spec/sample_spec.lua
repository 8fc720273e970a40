-- SPDX-License-Identifier: BSD-2-Clause
-- bpf.watch and kernel.watch: a value that is looked at again and again.
local bpf = require "moonbee"
local kernel = require "moonbee.kernel"
local loop = require "moonbee.loop"
local mistake = require "support.mistake"

local build = os.getenv "MB_BUILD" or "build"

-- Each change, as a list of { new, old }; change(n) is called with the number of changes so far.
local function changes(watch, n, change)
  local seen = {}
  local handle
  handle = watch(function(new, old)
    seen[#seen + 1] = { new, old }
    if #seen == n then
      handle:stop()
      loop.stop()
    elseif change then
      change(#seen)
    end
  end)
  loop.run()
  return seen
end

describe("bpf.watch", function()
  it("tells each change of a ref, the first look included", function()
    local obj <close> = bpf.open(build .. "/fixtures/types.bpf.o")
    local ref = bpf.ref(obj.vars, "hits")
    ref:set(7)
    local looks = 0
    local seen = changes(function(fn) return bpf.watch(ref, 0.001, fn) end, 3,
      function(n) loop.after(0.01, function() ref:set(7 + n); looks = looks + 1 end) end)
    assert.same({ { 7 }, { 8, 7 }, { 9, 8 } }, seen)
    assert.equal(2, looks)
  end)

  it("tells changes of a view by its bytes", function()
    local obj <close> = bpf.open(build .. "/fixtures/types.bpf.o")
    local cfg = obj.vars.cfg
    local seen = changes(function(fn)
      return bpf.watch(cfg, 0.001, function(view) fn(view.limits[1].rate) end)
    end, 2, function() loop.after(0.01, function() cfg.limits[1].rate = 99 end) end)
    assert.equal(99, seen[2][1])
  end)

  it("calls a function, whose value may be nil or not a number", function()
    local list, i = { 1, 1, nil, 0 / 0, 0 / 0, 2 }, 0
    local seen = changes(function(fn)
      return bpf.watch(function() i = i + 1; return list[i] end, 0.001, fn)
    end, 4)
    assert.same({ 1, nil, 2 }, { seen[1][1], seen[2][1], seen[4][1] })
    assert.truthy(seen[3][1] ~= seen[3][1])
  end)

  it("counts an error of the function as the loop does, and goes on", function()
    local said, i = {}, 0
    loop.on_error(function(text) said[#said + 1] = text end)
    local seen = changes(function(fn)
      return bpf.watch(function()
        i = i + 1
        if i == 2 then error "no look" end
        return i
      end, 0.001, fn)
    end, 2)
    loop.on_error(nil)
    assert.same({ 1, 3 }, { seen[1][1], seen[2][1] })
    assert.equal(1, #said)
    assert.matches("no look", said[1])
  end)

  it("refuses what cannot change", function()
    assert.equal("bpf.watch: a function, a ref or a view is expected, not a number\n" ..
      "hint: a number is a copy that never changes: give a function, " ..
      'bpf.ref(obj.vars, "name"), or a view', mistake(function() bpf.watch(5, 1, print) end))
    assert.equal("bpf.watch: a function, a ref or a view is expected, not a table",
      mistake(function() bpf.watch({}, 1, print) end))
    assert.equal("kernel.watch: a function, a ref or a view is expected, not a string",
      mistake(function() kernel.watch("x", 1) end))
    assert.equal("bpf.watch: a function is expected, not a number",
      mistake(function() bpf.watch(print, 1, 2) end))
    assert.matches("loop.every", mistake(function() bpf.watch(print, -1, print) end))
  end)
end)

describe("kernel.watch", function()
  it("gives what the function returns to the sink, when it has changed", function()
    local i = 0
    local seen = changes(function(fn)
      return kernel.watch(function() i = i + 1; return i // 3 end, 0.001, fn)
    end, 3)
    assert.same({ { 0 }, { 1, 0 }, { 2, 1 } }, seen)
  end)
end)
