-- SPDX-License-Identifier: BSD-2-Clause
-- Maps without keys: queues, stacks, bloom filters.
local bpf = require "moonbee"
local skip = require "support.skip"
local support = require "support.bpf"

local mistake, refusal, load = support.mistake, support.refusal, support.load
local PACKET = ("\0"):rep(64)

describe("a map without keys #root", function()
  before_each(skip.root)

  local function keyless(m, hint)
    local text = ("%s '%s' has no keys\nhint: %s"):format(m.type, m.name, hint)
    for _, fn in ipairs {
      function() return m:get(1) end, function() m:set(1, 1) end, function() m:delete(1) end,
      function() m:take(1) end, function() return m[1] end, function() m[1] = 1 end,
      function() m[1] = nil end, function() m:count() end, function() m:get_many { 1 } end,
      function() m:set_many { 1 } end, function() m:delete_many { 1 } end,
      function() pairs(m) end, function() m:snapshot() end,
      function() m:sum() end, function() m:top(1) end, function() m:edit(1, print) end,
      function() m:update(1, {}) end,
    } do
      assert.equal(text, mistake(fn))
    end
  end

  it("of type queue gives the oldest first, what BPF pushed, too", function()
    local obj <close> = load "kinds"
    local m = obj.maps.jobs
    assert.is_nil(m:pop())
    assert.is_nil(m:peek())
    m:push(1)
    obj.vars.amount = 4294967295
    obj.progs.push:run { data = PACKET }
    assert.equal(0, obj.vars.missing)
    assert.equal(1, m:peek())
    assert.same({ 1, 4294967295 }, { m:pop(), m:pop() })
    assert.is_nil(m:pop())
    keyless(m, "use m:push(value), m:pop() and m:peek()")
  end)

  it("of type stack gives the newest first", function()
    local obj <close> = load "kinds"
    local m = obj.maps.pile
    for i = 1, 3 do m:push(i) end
    assert.equal(3, m:peek())
    assert.same({ 3, 2, 1 }, { m:pop(), m:pop(), m:pop() })
    assert.is_nil(m:pop())
    keyless(m, "use m:push(value), m:pop() and m:peek()")
  end)

  it("says that it is full, and drops the oldest when told to", function()
    local obj <close> = load "kinds"
    for _, m in ipairs { obj.maps.jobs, obj.maps.pile } do
      for i = 1, 4 do m:push(i) end
      assert.equal(("push to map '%s': it is full (E2BIG)\n"):format(m.name) ..
        'hint: it has room for 4 values: pop some, or use m:push(value, "overwrite"), ' ..
        "which drops the oldest", tostring(refusal(function() m:push(5) end)))
      m:push(5, "overwrite")
      local all = {}
      for v in function() return m:pop() end do all[#all + 1] = v end
      table.sort(all)
      assert.same({ 2, 3, 4, 5 }, all)
    end
  end)

  it("is emptied by clear, which says of how many", function()
    local obj <close> = load "kinds"
    local m = obj.maps.jobs
    for i = 1, 3 do m:push(i) end
    assert.equal(3, m:clear())
    assert.equal(0, m:clear())
    assert.is_nil(m:peek())
  end)

  it("has values of any type", function()
    local obj <close> = load "kinds"
    local T = obj.types["struct event"]
    local m <close> = bpf.create_map { name = "q", type = "queue", value = T, max_entries = 2 }
    m:push { pid = 7 }
    m:push(T { pid = 8 })
    assert.equal(7, m:peek().pid)
    local v = m:pop()
    assert.matches("read%-only", mistake(function() v.pid = 1 end))
    assert.equal(8, m:pop().pid)
    local text <close> = bpf.create_map { type = "stack", value = "char[300]", max_entries = 2 }
    text:push(("x"):rep(299))
    assert.equal(("x"):rep(299), text:pop())
  end)

  it("of type bloom filter is asked by peek", function()
    local obj <close> = load "kinds"
    local m = obj.maps.seen
    m:push(7)
    obj.vars.amount = 8
    obj.progs.push:run { data = PACKET }
    assert.is_true(m:peek(7))
    assert.is_true(m:peek(8))
    local wrong = 0
    for i = 1000, 1099 do wrong = wrong + (m:peek(i) and 1 or 0) end
    assert.is_true(wrong < 50)
    keyless(m, "use m:push(value) to add and m:peek(value) to ask")
    local text = "bloom_filter 'seen' forgets nothing\n" ..
      "hint: use m:peek(value) to ask; only a new map is empty again"
    assert.equal(text, mistake(function() m:pop() end))
    assert.equal(text, mistake(function() m:clear() end))
    assert.matches("value expected", mistake(function() m:peek() end))
  end)

  it("refuses values that do not fit, and pushes nothing", function()
    local obj <close> = load "kinds"
    local m = obj.maps.jobs
    for _, value in ipairs { -1, 2 ^ 32, 1.5, "abc", {}, false } do
      assert.is_string(mistake(function() m:push(value) end))
    end
    assert.matches("value expected", mistake(function() m:push() end))
    assert.matches("invalid option", mistake(function() m:push(1, "exist") end))
    assert.matches("only a bloom filter is asked for one", mistake(function() m:peek(1) end))
    assert.is_nil(m:pop())
    obj:close()
    assert.equal("attempt to use closed map 'jobs'", mistake(function() m:push(1) end))
  end)

  it("is what push, pop and peek are for", function()
    local obj <close> = load "maps"
    local text = "hash 'totals' is no queue\nhint: use m:set(key, value) and m:get(key)"
    for _, name in ipairs { "push", "pop", "peek" } do
      assert.equal(text, mistake(function() obj.maps.totals[name](obj.maps.totals, 1) end))
    end
  end)
end)
