-- SPDX-License-Identifier: BSD-2-Clause
-- Many entries of a map in one call: get_many, set_many, delete_many, snapshot.
local uv = require "luv"
local bpf = require "moonbee"
local skip = require "support.skip"
local support = require "support.bpf"

local mistake, refusal, load = support.mistake, support.refusal, support.load

-- Each type with batches, one without, and keys too short for the kernel's walk by batches.
local KINDS = {
  { type = "hash" }, { type = "lru_hash" }, { type = "array" }, { type = "percpu_hash" },
  { type = "percpu_array" }, { type = "lru_percpu_hash" }, { type = "hash", key = "u8" },
}

local function make(kind, n)
  return bpf.create_map { name = "many", type = kind.type, key = kind.key or "u32", value = "u64",
    max_entries = n }
end

local function value_of(i, percpu)
  if not percpu then return 3 * i end
  local all = {}
  for cpu = 1, bpf.cpus.possible do all[cpu] = 3 * i + cpu end
  return all
end

local function same_value(i, v, percpu)
  if not percpu then return v == 3 * i end
  for cpu = 0, bpf.cpus.possible - 1 do
    if v[cpu] ~= 3 * i + cpu + 1 then return false end
  end
  return #v == bpf.cpus.possible
end

describe("many entries #root", function()
  before_each(skip.root)

  for _, kind in ipairs(KINDS) do
    local fixed = kind.type:find "array"

    it(("of a %s with keys %s are set, read, deleted"):format(kind.type, kind.key or "u32"),
      function()
      local n = kind.key and 200 or support.slow and 2000 or 20000
      local m <close> = make(kind, kind.type:find "lru" and 4 * n or n)
      local entries, keys = {}, {}
      for i = 0, n - 1 do
        entries[i], keys[i + 1] = value_of(i, m.percpu), i
      end
      assert.equal(n, m:set_many(entries))
      assert.equal(n, m:count())
      local values, found = m:get_many(keys)
      assert.equal(n, found)
      for i = 0, n - 1 do
        if not same_value(i, values[i + 1], m.percpu) then error("value of " .. i) end
      end
      local all, complete = m:snapshot()
      assert.equal(n, #all)
      assert.is_true(complete)
      local seen = {}
      for _, e in ipairs(all) do
        if seen[e.key] or not same_value(e.key, e.value, m.percpu) then error("entry " .. e.key) end
        seen[e.key] = true
      end
      if fixed then return end
      for i = 1, #keys, 2 do m:delete(keys[i]) end
      assert.equal(n // 2, m:delete_many(keys))         -- the others are gone already
      assert.equal(0, m:delete_many(keys))
      assert.equal(0, m:count())
      values, found = m:get_many(keys)
      assert.equal(0, found)
      assert.is_nil(next(values))
    end)
  end

  it("are none: nothing happens", function()
    local obj <close> = load "maps"
    local m = obj.maps.totals
    assert.same({ {}, 0 }, { m:get_many {} })
    assert.equal(0, m:set_many {})
    assert.equal(0, m:set_many({}, {}))
    assert.equal(0, m:delete_many {})
    assert.same({ {}, true }, { m:snapshot() })
  end)

  it("have holes where a key is absent", function()
    local obj <close> = load "maps"
    local m = obj.maps.totals
    m:set_many { [1] = 10, [3] = 30 }
    local values, found = m:get_many { 1, 2, 3, 1 }
    assert.same({ 10, nil, 30, 10 }, values)
    assert.equal(3, found)
  end)

  it("may have structs for keys and values: sequences, or views as keys of the table", function()
    local obj <close> = load "maps"
    local m = obj.maps.flows
    local K = obj.types["struct flow_key"]
    assert.equal(2, m:set_many({ { saddr = 1 }, { saddr = 2 } },
      { { packets = 1 }, { packets = 2 } }))
    assert.equal(1, m:set_many { [K { saddr = 3 }] = { packets = 3 } })
    local values = m:get_many { { saddr = 3 }, { saddr = 9 }, K { saddr = 2 } }
    assert.same({ 3, nil, 2 }, { values[1].packets, values[2], values[3].packets })
    assert.matches("a snapshot", mistake(function() values[1].packets = 4 end))
    obj.maps.flows:clear()
    collectgarbage()
    assert.equal(3, values[1].packets)
    assert.equal(0, m:count())
  end)

  it("obey noexist and exist, and are counted by that", function()
    local obj <close> = load "maps"
    local m = obj.maps.totals
    m:set_many { [1] = 1, [2] = 2 }
    assert.equal(1, m:set_many({ [2] = 22, [3] = 33 }, "noexist"))
    assert.equal(2, m:set_many({ 1, 4, 3 }, { 11, 44, 333 }, "exist"))
    assert.same({ 11, 2, 333, nil }, (m:get_many { 1, 2, 3, 4 }))
  end)

  it("are read and written under their locks", function()
    local obj <close> = load "maps"
    local m = obj.maps.locked
    assert.equal(2, m:set_many({ [1] = { a = 1 }, [2] = { a = 2 } }))
    assert.equal(2, m:set_many({ [1] = { a = 3 }, [2] = { a = 4 } }, "lock"))
    local values = m:get_many({ 1, 2 }, "lock")
    assert.same({ 3, 4 }, { values[1].a, values[2].a })
    local all, complete = m:snapshot "lock"
    assert.same({ 2, true }, { #all, complete })
    assert.equal("EINVAL", refusal(function() obj.maps.totals:get_many({ 1 }, "lock") end).code)
    obj.maps.totals[1] = 1
    assert.equal("EINVAL", refusal(function() obj.maps.totals:snapshot "lock" end).code)
    assert.is_string(refusal(function() obj.maps.totals:set_many({ 1 }, "lock") end).code)
  end)

  it("that are more than views can count are refused", function()
    local m <close> = bpf.create_map { name = "large", type = "hash", key = "u32",
      value = 2000000, max_entries = 2, flags = "no_prealloc" }
    local keys = {}
    for i = 1, 2200 do keys[i] = i end
    assert.equal("values of map 'large': more than 4 GiB in one call\nhint: do it in parts",
      mistake(function() m:get_many(keys) end))
  end)

  it("are all checked before one is written", function()
    local obj <close> = load "maps"
    local m = obj.maps.totals
    for _, wrong in ipairs { { [1] = 1, [2] = "x" }, { [1] = 1, [-1] = 1 }, { [1] = 1, x = 1 } } do
      assert.is_string(mistake(function() m:set_many(wrong) end))
    end
    assert.is_string(mistake(function() m:set_many({ 1, 2, 2 ^ 32 }, { 1, 2, 3 }) end))
    assert.equal("2 keys and 1 values", mistake(function() m:set_many({ 1, 2 }, { 1 }) end))
    assert.equal(0, m:count())
    m[1] = 1
    assert.is_string(mistake(function() m:delete_many { 1, "x" } end))
    assert.is_string(mistake(function() m:get_many { 1, {} } end))
    assert.equal(1, m:count())
    for _, wrong in ipairs { 1, "x", true, print } do
      assert.is_string(mistake(function() m:set_many(wrong) end))
      assert.is_string(mistake(function() m:get_many(wrong) end))
      assert.is_string(mistake(function() m:delete_many(wrong) end))
    end
    assert.is_string(mistake(function() m:set_many() end))
    assert.is_string(mistake(function() m:set_many({}, "soon") end))
  end)

  it("say how many are stored when the kernel refuses one", function()
    local obj <close> = load "maps"
    local m = obj.maps.kept
    local entries = {}
    for i = 1, 20 do entries[i] = i end
    local text = "set in map 'kept': 16 of 20 are stored, then: it is full (E2BIG)\nhint: it " ..
      "has room for 16 entries: raise max_entries before load, or delete some"
    assert.equal(text, tostring(refusal(function() m:set_many(entries) end)))
    assert.equal(16, m:count())
    m:clear()
    assert.equal(text, tostring(refusal(function() m:set_many(entries, "noexist") end)))
    assert.equal(16, m:count())
    local err = refusal(function() obj.maps.slots:set_many { [15] = {}, [16] = {} } end)
    assert.equal("E2BIG", err.code)
  end)

  it("of a read-only map are read, and none is written", function()
    local obj <close> = load "maps"
    local path = ("/sys/fs/bpf/mbspec-%d"):format(uv.os_getpid())
    obj.maps.totals[1] = 7
    obj.maps.totals:pin(path)
    local m <close> = bpf.pinned(path, { readonly = true })
    obj.maps.totals:unpin()
    assert.equal(7, m:get_many({ 1 })[1])
    assert.equal(1, #m:snapshot())
    assert.matches("set in map 'totals': 0 of 2 are stored, then: ",
      tostring(refusal(function() m:set_many { 1, 2 } end)), 1, true)
    assert.matches("delete from map 'totals': 0 of 2 are deleted, then: ",
      tostring(refusal(function() m:delete_many { 1, 2 } end)), 1, true)
    assert.equal("EPERM", refusal(function() m:clear() end).code)
    assert.equal(1, obj.maps.totals:count())
  end)

  it("of a closed map, or one not loaded, are refused", function()
    local open <close> = support.open "maps"
    assert.matches("not loaded", tostring(refusal(function() open.maps.totals:get_many { 1 } end)))
    assert.matches("not loaded", tostring(refusal(function() open.maps.totals:snapshot() end)))
    local obj = load "maps"
    local m = obj.maps.totals
    obj:close()
    for _, name in ipairs { "get_many", "set_many", "delete_many", "snapshot" } do
      assert.equal("attempt to use closed map 'totals'", mistake(function() m[name](m, { 1 }) end))
    end
  end)

  it("that a finalizer closes in the midst of it are refused, not touched", function()
    local obj <close> = load "maps"
    local m = obj.maps.flows
    local keys = {}
    for i = 1, 2000 do
      keys[i] = { saddr = i }
      m:set(keys[i], { packets = i })
    end
    local armed = true
    local function arm()
      setmetatable({}, { __gc = function()
        if armed then obj:close() end
      end })
    end
    arm()
    for _ = 1, 20 do
      local ok, text = pcall(function() return #m:get_many(keys) end)
      if not ok then assert.matches("closed", tostring(text)) end
      ok, text = pcall(function() return #m:snapshot() end)
      if not ok then assert.matches("closed", tostring(text)) end
    end
    armed = false
  end)
end)

describe("m:snapshot #root", function()
  before_each(skip.root)

  it("grows its batches where a bucket holds more than one takes", function()
    -- A batch of such values begins with 2 of them; of 64 keys in as many buckets, which without a
    -- seed are the same always, some bucket has more, and to that the kernel says ENOSPC.
    local m <close> = bpf.create_map { name = "few", type = "hash", key = "u32",
      value = "char[700000]", max_entries = 64, flags = { "no_prealloc", "zero_seed" } }
    for i = 1, 64 do m[i] = "v" .. i end
    local all, complete = m:snapshot()
    assert.same({ 64, true }, { #all, complete })
  end)

  it("says that it is not complete when a walk by keys was thrown back", function()
    local m <close> = bpf.create_map { name = "trie", type = "lpm_trie", key = 8, value = "u64",
      max_entries = 20000 }
    local n, keys, entries = 2000, {}, {}
    for i = 1, n do
      keys[i] = string.pack("=I4>I4", 32, i)
      entries[keys[i]] = i
    end
    m:set_many(entries)
    local all, complete = m:snapshot()
    assert.same({ n, true }, { #all, complete })
    -- In the midst of a walk a finalizer deletes all, also the key that comes next.
    local walking, cut = false, false
    local function arm()
      setmetatable({}, { __gc = function()
        if walking then m:delete_many(keys) end
      end })
    end
    local pause <const> = collectgarbage("setpause", 100)
    support.until_true(function()
      m:set_many(entries)
      arm()
      walking = true
      all, complete = m:snapshot()
      walking = false
      cut = #all < n
      assert.equal(not cut, complete)
      return cut
    end)
    collectgarbage("setpause", pause)
  end)

  it("never misses or doubles what is there all the time, while BPF churns the rest", function()
    local obj <close> = load "maps"
    local dir = ("/sys/fs/bpf/mbspec-%d"):format(uv.os_getpid())
    local m = obj.maps.totals
    local stays = 2000
    obj.progs.fill:pin(dir .. "/fill")
    obj.vars.first, obj.vars.n = 100000, 3000   -- the other process adds and deletes these
    m:pin(dir .. "/totals")
    local _ <close> = setmetatable({}, { __close = function()
      m:unpin()
      os.remove(dir .. "/fill")
      os.remove(dir)
    end })
    local entries = {}
    for i = 1, stays do entries[i] = i end
    m:set_many(entries)
    local p <close> = support.script([[
      local bpf = require "moonbee"
      local m, fill = bpf.pinned(arg[1] .. "/totals"), bpf.pinned(arg[1] .. "/fill")
      local keys = {}
      for i = 1, 3000 do keys[i] = 100000 + i - 1 end
      print "going"
      io.stdout:flush()
      while true do
        fill:run()
        m:delete_many(keys)
      end]], nil, dir)
    p:expect "going"
    for _ = 1, support.slow and 3 or 20 do
      local all, complete = m:snapshot()
      assert.is_true(complete)
      local seen, n = {}, 0
      for _, e in ipairs(all) do
        if e.key <= stays then
          if seen[e.key] then error("twice: " .. e.key) end
          seen[e.key], n = true, n + 1
        end
      end
      assert.equal(stays, n)
    end
  end)
end)
