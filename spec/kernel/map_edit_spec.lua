-- SPDX-License-Identifier: BSD-2-Clause
-- m:edit and m:update with "lock": atomic against all who take the value's spin lock. Without a
-- lock they are map_spec.lua's.
local uv = require "luv"
local bpf = require "moonbee"
local skip = require "support.skip"
local support = require "support.bpf"

local mistake, refusal, load = support.mistake, support.refusal, support.load

describe("a locked edit #root", function()
  before_each(skip.root)

  it("changes what the function changes, wherever the lock lies", function()
    local obj <close> = load "kinds"
    local m, last = obj.maps.locked, obj.maps.last
    m[1] = { a = 1, b = 2, text = "abc" }
    assert.is_true(m:edit(1, function(v)
      v.a, v.b, v.text = v.a + 1, -1, "vwxyz"
    end, "lock"))
    assert.same({ 2, -1, "vwxyz" }, { m[1].a, m[1].b, m[1].text })
    assert.is_true(m:update(1, { text = "" }, "lock"))
    assert.same({ 2, -1, "" }, { m[1].a, m[1].b, m[1].text })
    assert.is_true(last:edit(3, function(v)
      v.a, v.b, v["end"] = 255, math.mininteger, 7
      for i = 0, 2 do v.pad[i] = i + 1 end
    end, "lock"))
    local v = last[3]
    assert.same({ 255, math.mininteger, 7, 1, 2, 3 },
      { v.a, v.b, v["end"], v.pad[0], v.pad[1], v.pad[2] })
    assert.equal(0, last[2]["end"])
  end)

  it("leaves the lock alone, whatever the function writes there", function()
    local obj <close> = load "kinds"
    local m = obj.maps.locked
    m[1] = { a = 1 }
    assert.is_true(m:edit(1, function(v)
      v.lock.val = 1
      v.a = 2
    end, "lock"))
    obj.vars.at, obj.vars.n = 1, 1
    obj.progs.bump:run { data = ("\0"):rep(64) }        -- would wait for ever
    assert.equal(3, m[1].a)
  end)

  it("is false for what is absent, or goes meanwhile", function()
    local obj <close> = load "kinds"
    local m = obj.maps.locked
    assert.is_false(m:edit(1, error, "lock"))
    assert.is_false(m:update(1, { a = 1 }, "lock"))
    m[1] = { a = 1 }
    assert.is_false(m:edit(1, function() m:delete(1) end, "lock"))
    assert.equal(0, m:count())
  end)

  it("begins anew when somebody else came in between", function()
    local obj <close> = load "kinds"
    local m, turns = obj.maps.locked, 0
    m[1] = { a = 1, b = 10 }
    assert.is_true(m:edit(1, function(v)
      turns = turns + 1
      if turns < 3 then m:set(1, { a = turns * 100, b = 10 }, "lock") end
      v.b = v.b + 1
    end, "lock"))
    assert.equal(3, turns)
    assert.same({ 200, 11 }, { m[1].a, m[1].b })
  end)

  it("gives up where it never ends, and writes nothing when the function raises", function()
    local obj <close> = load "kinds"
    local m, turns = obj.maps.locked, 0
    m[1] = { a = 1 }
    assert.matches("edit in map 'locked': other writers changed the value all the time",
      mistake(function()
        m:edit(1, function(v)
          turns = turns + 1
          m:set(1, { a = turns, b = 7 }, "lock")
          v.b = 8
        end, "lock")
      end))
    assert.equal(7, m[1].b)
    assert.has_error(function()
      m:edit(1, function(v)
        v.b = 9
        error("boo", 0)
      end, "lock")
    end, "boo")
    assert.equal(7, m[1].b)
  end)

  it("loses no change of a program that runs in another process", function()
    local obj <close> = load "kinds"
    local dir = ("/sys/fs/bpf/mbspec-%d"):format(uv.os_getpid())
    local m = obj.maps.locked
    m[0] = { a = 0, b = 0 }
    obj.vars.at, obj.vars.n = 0, 200
    obj.progs.bump:pin(dir .. "/bump")
    local _ <close> = setmetatable({}, { __close = function()
      require "support.leaks".remove(dir)
    end })
    local p <close> = support.script([[
      local bpf = require "moonbee"
      local bump = bpf.pinned(arg[1] .. "/bump")
      print "going"
      io.stdout:flush()
      for _ = 1, tonumber(arg[2]) do bump:run { data = ("\0"):rep(64) } end]], nil, dir,
      support.slow and 100 or 1000)
    p:expect "going"
    local edits, turns = support.slow and 100 or 1500, 0
    for _ = 1, edits do
      assert.is_true(m:edit(0, function(v)
        turns = turns + 1
        v.a, v.b = v.a + 1, v.b + 2
      end, "lock"))
    end
    assert.equal(0, p:wait().rc)
    local bumps = (support.slow and 100 or 1000) * 200
    local v = m:get(0, "lock")
    assert.same({ edits + bumps, 2 * (edits + bumps) }, { v.a, v.b })
    assert.is_true(turns >= edits)
  end)

  it("needs a lock in the value, and a way to write", function()
    local obj <close> = load "kinds"
    local flows <close> = load "maps"
    flows.maps.flows:set({ saddr = 1 }, { packets = 1 })
    assert.equal("EINVAL", refusal(function()
      flows.maps.flows:edit({ saddr = 1 }, print, "lock")
    end).code)
    local path = ("/sys/fs/bpf/mbspec-%d"):format(uv.os_getpid())
    local m = obj.maps.locked
    m[1] = { a = 1 }
    m:pin(path)
    local seen <close> = bpf.pinned(path, { readonly = true })
    m:unpin()
    local err = refusal(function()
      seen:edit(1, function(v) v.a = 2 end, "lock")
    end)
    assert.equal("EPERM", err.code)
    assert.equal(1, m[1].a)
    for _, how in ipairs { "noexist", "exist", "often" } do
      assert.is_string(mistake(function() m:update(1, { a = 3 }, how) end))
    end
  end)

  it("leaves no descriptor behind, and works on pinned maps and again after a close", function()
    local obj = load "kinds"
    local m = obj.maps.locked
    m[1] = { a = 1 }
    local path = ("/sys/fs/bpf/mbspec-%d"):format(uv.os_getpid())
    m:pin(path)
    m:update(1, { a = 2 }, "lock")
    obj:close()
    local again <close> = bpf.pinned(path)
    again:unpin()
    again:update(1, { b = 5 }, "lock")
    assert.same({ 2, 5 }, { again[1].a, again[1].b })
    assert.matches("closed", mistake(function() m:update(1, { a = 2 }, "lock") end))
  end)

  it("survives that the function closes the object", function()
    local obj <close> = load "kinds"
    local m = obj.maps.locked
    m[1] = { a = 1 }
    assert.matches("the map is closed", mistake(function()
      m:edit(1, function() obj:close() end, "lock")
    end))
  end)
end)
