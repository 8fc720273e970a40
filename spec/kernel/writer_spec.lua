-- SPDX-License-Identifier: BSD-2-Clause
-- Writers of user ring buffers: typed records, in place or as a whole, in the order of reservation.
local uv = require "luv"
local bpf = require "moonbee"
local skip = require "support.skip"
local support = require "support.bpf"

local mistake, refusal = support.mistake, support.refusal

describe("a writer #root", function()
  local obj
  before_each(function()
    skip.root()
    obj = support.load "commands"
  end)
  after_each(function()
    obj:close()
    obj = nil
  end)

  local function take(limit)
    obj.vars.limit = limit or 0
    local before = obj.vars.taken
    obj.progs.take:run()
    return obj.vars.taken - before
  end

  it("reserves a record, typed and zeroed, and submits it", function()
    local w <close> = obj.maps.commands:writer "struct command"
    local v = w:reserve()
    assert.equal("struct command", bpf.typeof(v).name)
    assert.same({ 0, 0 }, { v.op, v.arg })
    v.op, v.arg = 3, 40
    assert.equal(0, take())             -- not yet
    w:submit(v)
    assert.equal(1, take())
    assert.same({ 3, 40 }, { obj.vars.last_op, obj.vars.sum })
    assert.equal("it was submitted", mistake(function() return v.op end):match ": (.*)$")
    assert.same({ submitted = 1, discarded = 0, pending = 0, size = 4096 }, w.stats)
  end)

  it("sends tables, bytes and views", function()
    local w <close> = obj.maps.commands:writer "struct command"
    assert.is_true(w:send { op = 1, arg = 2 })
    assert.is_true(w:send(string.pack("I4I4", 5, 6) .. "text"))
    assert.is_true(w:send(obj.types["struct command"] { arg = 7 }))
    assert.equal(3, take())
    assert.equal(15, obj.vars.sum)
    assert.matches("no field 'opp' in struct command", mistake(function() w:send { opp = 1 } end))
    assert.equal("struct command has 8 bytes, and this has 3",
      mistake(function() w:send "abc" end))
    assert.equal(0, take())             -- nothing half done
  end)

  it("reserves more for a flexible array, which takes text", function()
    local w <close> = obj.maps.commands:writer "struct command"
    local v = w:reserve(8 + 5)
    v.text = "hello"
    assert.matches("there is room for 5", mistake(function() v.text = "hello!" end))
    w:submit(v)
    take()
    assert.same({ 5, "hello" }, { obj.vars.last_len, obj.vars.last_text })
  end)

  it("hands records over in the order of reservation, and skips discarded ones", function()
    local w <close> = obj.maps.commands:writer "struct command"
    local a, b, c = w:reserve(), w:reserve(), w:reserve()
    a.arg, b.arg, c.arg = 1, 10, 100
    w:submit(c)
    assert.equal(0, take())
    w:discard(b)
    assert.equal(0, take())
    w:submit(a)
    assert.equal(2, take())
    assert.equal(101, obj.vars.sum)
    assert.same({ 2, 1 }, { w.stats.submitted, w.stats.discarded })
  end)

  it("tells a full ring, goes round it, and loses nothing", function()
    local w <close> = obj.maps.commands:writer "struct command"
    local sent, taken, expected = 0, 0, 0
    for round = 1, 50 do
      while w:send { arg = round } do
        sent, expected = sent + 1, expected + round
      end
      assert.is_nil(w:reserve())
      assert.is_true(w.stats.pending > 4096 - 16)
      taken = taken + take(round * 7)
    end
    taken = taken + take()
    assert.same({ sent, expected }, { taken, obj.vars.sum })
    assert.is_true(sent > 1000)
  end)

  it("waits for room until the program has taken something", function()
    local w <close> = obj.maps.commands:writer "struct command"
    assert.is_true(w:wait(0))
    while w:send {} do end -- luacheck: ignore 542
    local from = uv.hrtime()
    assert.is_false(w:wait(0.05))
    assert.is_true(uv.hrtime() - from >= 0.05e9)
    local path = ("/sys/fs/bpf/mbspec-%d"):format(uv.os_getpid())
    obj.progs.take:pin(path)
    local _ <close> = setmetatable({}, { __close = function() os.remove(path) end })
    local p <close> = support.script([[
      io.read()
      require "moonbee".pinned(arg[1]):run()]], nil, path)
    p:write "go\n"
    assert.is_true(w:wait(20))
    p:wait()
    assert.is_true(w:wait(0, 1000))
    while w:send {} do end -- luacheck: ignore 542
    take(1)
    assert.is_true(w:wait(0))
    assert.is_false(w:wait(0, 1000))    -- some, not that much
  end)

  it("is the only one of its map", function()
    local w <close> = obj.maps.commands:writer "struct command"
    assert.equal("write ring 'commands': it has a writer (EBUSY)\n" ..
      "hint: a user ring buffer has one: use that, or close it first",
      tostring(refusal(function() obj.maps.commands:writer() end)))
    w:close()
    local again <close> = obj.maps.commands:writer()
    assert.is_true(again:send "12345678")
    assert.equal(1, take())
  end)

  it("discards what is reserved when it closes", function()
    local w = obj.maps.commands:writer "struct command"
    local v = w:reserve()
    v.arg = 5
    w:close()
    assert.is_string(mistake(function() return v.arg end))
    assert.equal("attempt to use closed writer 'commands'", mistake(function() w:send {} end))
    local next_one <close> = obj.maps.commands:writer "struct command"
    next_one:send { arg = 1 }
    assert.equal(1, take())
    assert.equal(1, obj.vars.sum)
  end)

  it("refuses what is no reservation of its own", function()
    local w <close> = obj.maps.commands:writer "struct command"
    local v = w:reserve()
    w:submit(v)
    assert.matches("no record that it has reserved", mistake(function() w:submit(v) end))
    local other = obj.types["struct command"] {}
    assert.matches("no record that it has reserved",
      tostring(refusal(function() w:discard(other) end)))
    assert.matches("a record of 5000 bytes never fits: 1 to 4088 bytes do",
      tostring(refusal(function() w:reserve(5000) end)))
    assert.equal("a record has at least 8 bytes, not 7", mistake(function() w:reserve(7) end))
    assert.matches("a writer without type reserves nothing", mistake(function()
      w:close()
      obj.maps.commands:writer():reserve(8)
    end))
  end)

  it("is for user ring buffers", function()
    local events <close> = support.load "events"
    assert.matches("write ring 'events': a map of type ringbuf takes no records from us (EINVAL)",
      tostring(refusal(function() events.maps.events:writer() end)), 1, true)
    assert.matches("write to it by m:writer(type)",
      tostring(refusal(function() obj.maps.commands:reader() end)), 1, true)
  end)
end)
