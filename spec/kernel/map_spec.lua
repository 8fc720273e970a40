-- SPDX-License-Identifier: BSD-2-Clause
-- Maps: single operations on every type that there is, keys and values of every form, and what is
-- said when something does not fit. Walking is walk_spec.lua's, pins are pin_spec.lua's.
local uv = require "luv"
local bpf = require "moonbee"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"

local mistake, refusal, load = support.mistake, support.refusal, support.load

describe("a map #root", function()
  before_each(skip.root)

  it("knows the names of rare types", function()
    local path = ("/sys/fs/bpf/mbspec-%d"):format(uv.os_getpid())
    for _, name in ipairs { "cgroup_storage", "percpu_cgroup_storage" } do
      local r = run { "bpftool", "map", "create", path, "type", name, "key", "8", "value", "8",
        "entries", "0", "name", "rare" }
      assert.equal(0, r.rc, r.err)
      local m <close> = bpf.pinned(path)
      m:unpin()
      assert.equal(name, m.type)
      assert.equal(0, m:count())
    end
  end)

  describe("of type hash", function()
    it("gives back what was set, and nil for what is absent", function()
      local obj <close> = load "maps"
      local m = obj.maps.totals
      assert.is_nil(m:get(1))
      assert.is_true(m:set(1, 10))
      assert.equal(10, m:get(1))
      assert.is_true(m:set(1, 11))
      assert.equal(11, m:get(1))
      assert.equal(1, m:count())
    end)

    it("keeps all 64 bits of a value, and all 32 of a key", function()
      local obj <close> = load "maps"
      local m = obj.maps.totals
      m[4294967295] = -1
      assert.equal(-1, m[4294967295])
      m[0] = math.mininteger
      assert.equal(math.mininteger, m[0])
    end)

    it("takes: the value, and it is gone", function()
      local obj <close> = load "maps"
      local m = obj.maps.totals
      m:set(1, 10)
      assert.equal(10, m:take(1))
      assert.is_nil(m:take(1))
      assert.equal(0, m:count())
    end)

    it("deletes: true, or false for what is absent", function()
      local obj <close> = load "maps"
      local m = obj.maps.totals
      m:set(1, 10)
      assert.is_true(m:delete(1))
      assert.is_false(m:delete(1))
    end)

    it("obeys noexist and exist by true and false", function()
      local obj <close> = load "maps"
      local m = obj.maps.totals
      assert.is_false(m:set(1, 1, "exist"))
      assert.is_true(m:set(1, 2, "noexist"))
      assert.is_false(m:set(1, 3, "noexist"))
      assert.equal(2, m:get(1))
      assert.is_true(m:set(1, 4, "exist"))
      assert.equal(4, m:get(1))
      assert.is_true(m:set(1, 5, "any"))
      assert.matches("bad argument #3 to 'set' (invalid option 'maybe')",
        mistake(function() m:set(1, 1, "maybe") end), 1, true)
    end)

    it("is indexed by its keys: read, set, delete", function()
      local obj <close> = load "maps"
      local m = obj.maps.totals
      assert.is_nil(m[7])
      m[7] = 70
      assert.equal(70, m[7])
      assert.equal(70, m[7.0])
      m[7] = nil
      assert.is_nil(m[7])
      m[7] = nil                        -- deleting what is absent is no failure
    end)

    it("counts and clears", function()
      local obj <close> = load "maps"
      local m = obj.maps.totals
      assert.equal(0, m:count())
      assert.equal(0, m:clear())
      obj.vars.n = 5000
      obj.progs.fill:run()
      assert.equal(5000, m:count())
      assert.equal(5000, m:clear())
      assert.equal(0, m:count())
      assert.is_nil(m[1])
    end)

    it("says that it is full, and how much room it has", function()
      local obj <close> = load "maps"
      local m = obj.maps.kept
      for i = 1, 16 do m[i] = i end
      local err = refusal(function() m[17] = 1 end)
      assert.equal([[
set in map 'kept': it is full (E2BIG)
hint: it has room for 16 entries: raise max_entries before load, or delete some]], tostring(err))
      m[16] = 1                         -- what is there may change
      assert.equal(16, m:count())
    end)

    it("describes itself", function()
      local obj <close> = load "maps"
      local m = obj.maps.flows
      assert.equal("moonbee.map 'flows'", tostring(m))
      assert.same({ "flows", "hash", 16, 40, 65536, 0, false },
        { m.name, m.type, m.key_size, m.value_size, m.max_entries, m.flags, m.percpu })
      assert.equal("struct flow_key", m.key_type.name)
      assert.equal("struct flow", m.value_type.name)
      assert.is_nil(m.pin_path)
      assert.is_true(obj.maps.kept.pin_by_name)
      assert.is_false(obj.maps.unmarked.pin_by_name)
    end)
  end)

  describe("key", function()
    it("may be a table, unnamed fields are 0", function()
      local obj <close> = load "maps"
      local m = obj.maps.flows
      m:set({ saddr = 1, proto = 6 }, { packets = 5 })
      assert.equal(5, m:get({ saddr = 1, daddr = 0, sport = 0, dport = 0, proto = 6 }).packets)
      assert.is_nil(m:get { saddr = 1 })
    end)

    it("may be a view: of a type made by hand, and the key of another entry", function()
      local obj <close> = load "maps"
      local m = obj.maps.flows
      local key = obj.types["struct flow_key"] { saddr = 7, proto = 17 }
      m[key] = { packets = 1 }
      assert.equal(1, m[{ saddr = 7, proto = 17 }].packets)
      for k in pairs(m) do assert.equal(1, m[k].packets) end
      m[key] = nil
      assert.equal(0, m:count())
    end)

    it("of a struct finds what BPF put there: its padding is 0", function()
      local obj <close> = load "maps"
      obj.vars.first, obj.vars.n = 41, 3
      obj.progs.fill:run()
      assert.equal(4200, obj.maps.flows:get({ saddr = 42, proto = 6 }).stats.bytes)
    end)

    it("may be the bytes of a struct", function()
      local obj <close> = load "maps"
      local m = obj.maps.flows
      m:set({ saddr = 1, proto = 6 }, { packets = 5 })
      assert.equal(5, m:get(string.pack("I4I4I2I2I4", 1, 0, 0, 0, 6)).packets)
      assert.equal("key: struct flow_key has 16 bytes, the string 3",
        mistake(function() m:get "abc" end))
    end)

    it("of char[16] is text, up to 16 letters", function()
      local obj <close> = load "maps"
      local m = obj.maps.names
      m:set("moon", 5)
      assert.equal(5, m:get "moon")
      assert.is_nil(m:get "mo")
      local full = ("x"):rep(16)
      m:set(full, 6)
      assert.equal(6, m:get(full))
      assert.equal("store 'key': 17 bytes do not fit into char[16]",
        mistake(function() m:set(full .. "x", 1) end))
      local keys = {}
      for k, v in pairs(m) do keys[k] = v end
      assert.same({ moon = 5, [full] = 6 }, keys)
    end)

    it("with an unknown field is refused, with a near name", function()
      local obj <close> = load "maps"
      local m = obj.maps.flows
      assert.equal("no field 'saddrr' in struct flow_key\nhint: did you mean 'saddr'?",
        mistake(function() m:get { saddrr = 1 } end))
      assert.equal("no field 'saddrr' in struct flow_key\nhint: did you mean 'saddr'?",
        mistake(function() return m[{ saddrr = 1 }] end))
    end)

    it("of another type or out of range is refused", function()
      local obj <close> = load "maps"
      local m, flows = obj.maps.totals, obj.maps.flows
      assert.matches("'key': %-1 is out of range for %S+ %(0%.%.4294967295%)",
        mistake(function() return m[-1] end))
      assert.matches("'key': 4294967296 is out of range", mistake(function() m[2 ^ 32] = 1 end))
      assert.matches("not a number with a fraction %(1%.5%)",
        mistake(function() return m[1.5] end))
      assert.matches("takes an integer, not a boolean", mistake(function() m[true] = 1 end))
      assert.equal("store 'key': it is struct flow_key and takes a table or a view, not a number",
        mistake(function() flows:get(5) end))
      assert.equal("bad argument #1 to 'get' (value expected)",
        mistake(function() m:get() end))
    end)
  end)

  describe("value", function()
    it("of a struct may be given in part: the rest is 0", function()
      local obj <close> = load "maps"
      local m = obj.maps.flows
      m:set({ saddr = 1 }, { packets = 9, rate = 8, stats = { bytes = 7, drops = 6 } })
      m:set({ saddr = 1 }, { stats = { drops = 1 } })
      assert.same({ packets = 0, rate = 0, delta = 0, stats = { bytes = 0, drops = 1 },
        label = "" }, bpf.totable(m:get { saddr = 1 }))
    end)

    it("may be a view of the same type", function()
      local obj <close> = load "maps"
      local m = obj.maps.flows
      m:set({ saddr = 1 }, { packets = 9, label = "abc" })
      m:set({ saddr = 2 }, m:get { saddr = 1 })
      assert.equal("abc", m:get({ saddr = 2 }).label)
      assert.is_string(mistake(function() m:set({ saddr = 2 }, obj.vars) end))
    end)

    it("that was read is a snapshot: read-only, and it says what to use", function()
      local obj <close> = load "maps"
      local m = obj.maps.flows
      m:set({ saddr = 1 }, { packets = 1 })
      local v = m:get { saddr = 1 }
      assert.equal([[
write 'packets': value of map 'flows' is read-only: a snapshot, the write would be lost
hint: use map:update(key, { packets = … }) or map:edit(key, fn)]],
        mistake(function() v.packets = 2 end))
      assert.matches("a snapshot, the write would be lost",
        mistake(function() v.stats.bytes = 2 end))
      m:set({ saddr = 1 }, { packets = 5 })
      assert.equal(1, v.packets)
    end)

    it("outlives the map", function()
      local obj = load "maps"
      obj.maps.flows:set({ saddr = 1 }, { packets = 1 })
      local v = obj.maps.flows:get { saddr = 1 }
      obj:close()
      collectgarbage()
      assert.equal(1, v.packets)
    end)

    it("that does not fit changes nothing", function()
      local obj <close> = load "maps"
      local m = obj.maps.flows
      m:set({ saddr = 1 }, { packets = 1 })
      assert.equal("no field 'pakets' in struct flow\nhint: did you mean 'packets'?",
        mistake(function() m:set({ saddr = 1 }, { pakets = 2 }) end))
      assert.matches("out of range", mistake(function()
        m:set({ saddr = 1 }, { packets = 2, rate = 2 ^ 32 })
      end))
      assert.matches("out of range", mistake(function()
        m:update({ saddr = 1 }, { packets = 2, rate = 2 ^ 32 })
      end))
      assert.equal(1, m:get({ saddr = 1 }).packets)
    end)
  end)

  describe("update and edit", function()
    it("change what is named, and keep the rest", function()
      local obj <close> = load "maps"
      local m = obj.maps.flows
      m:set({ saddr = 1 }, { packets = 5, stats = { bytes = 7 }, label = "abc" })
      assert.is_true(m:update({ saddr = 1 }, { stats = { drops = 3 }, rate = 2 }))
      assert.same({ packets = 5, rate = 2, delta = 0, stats = { bytes = 7, drops = 3 },
        label = "abc" }, bpf.totable(m:get { saddr = 1 }))
      assert.is_true(m:edit({ saddr = 1 }, function(v) v.packets = v.packets + 1 end))
      assert.equal(6, m:get({ saddr = 1 }).packets)
    end)

    it("are false for what is absent, and make nothing", function()
      local obj <close> = load "maps"
      local m = obj.maps.flows
      assert.is_false(m:update({ saddr = 1 }, { rate = 2 }))
      assert.is_false(m:edit({ saddr = 1 }, error))
      assert.equal(0, m:count())
    end)

    it("are false when the entry goes meanwhile", function()
      local obj <close> = load "maps"
      local m = obj.maps.flows
      m:set({ saddr = 1 }, { packets = 5 })
      assert.is_false(m:edit({ saddr = 1 }, function() m:delete { saddr = 1 } end))
      assert.equal(0, m:count())
    end)

    it("write nothing when the function raises", function()
      local obj <close> = load "maps"
      local m = obj.maps.flows
      m:set({ saddr = 1 }, { packets = 5 })
      assert.has_error(function()
        m:edit({ saddr = 1 }, function(v)
          v.packets = 99
          error("boo", 0)
        end)
      end, "boo")
      assert.equal(5, m:get({ saddr = 1 }).packets)
    end)

    it("survive that the function closes the object", function()
      local obj <close> = load "maps"
      local m = obj.maps.flows
      m:set({ saddr = 1 }, { packets = 5 })
      assert.equal("set in map 'flows': the map is closed", mistake(function()
        m:edit({ saddr = 1 }, function() obj:close() end)
      end))
    end)

    it("are for structs", function()
      local obj <close> = load "maps"
      local m = obj.maps.totals
      m[1] = 1
      assert.equal("update is for structs, and the value is __u64\nhint: use m:set(key, value)",
        mistake(function() m:update(1, { a = 1 }) end))
      assert.equal("edit is for structs, and the value is __u64\nhint: use m:set(key, value)",
        mistake(function() m:edit(1, print) end))
      assert.matches("table expected, got number", mistake(function() m:update(1, 3) end))
      assert.matches("function expected, got number", mistake(function() m:edit(1, 3) end))
    end)
  end)

  describe("with a spin lock", function()
    it("sets and updates under the lock", function()
      local obj <close> = load "maps"
      local m = obj.maps.locked
      m:set(1, { a = 1, b = 2 })
      assert.is_true(m:set(1, { a = 3, b = 4 }, "lock"))
      assert.is_true(m:update(1, { a = 9 }, "lock"))
      assert.is_true(m:edit(1, function(v) v.b = v.b + 1 end, "lock"))
      local v = m:get(1)
      assert.same({ 9, 5 }, { v.a, v.b })
    end)

    it("is what the flag needs", function()
      local obj <close> = load "maps"
      assert.equal([[
set in map 'totals': Invalid argument (EINVAL)
hint: a map of type hash may not have this operation or flag]],
        tostring(refusal(function() obj.maps.totals:set(1, 2, "lock") end)))
    end)
  end)

  describe("of type array", function()
    it("has all its entries from the start", function()
      local obj <close> = load "maps"
      local m = obj.maps.slots
      assert.equal(16, m:count())
      assert.equal(0, m[15].packets)
      m[15] = { packets = 3 }
      assert.is_true(m:update(15, { rate = 4 }))
      assert.same({ 3, 4 }, { m[15].packets, m[15].rate })
      assert.is_false(m:set(3, {}, "noexist"))
    end)

    it("deletes nothing, and hints at zero", function()
      local obj <close> = load "maps"
      local text = [[
array 'slots' deletes nothing: its entries are always there
hint: set them to zero: m:set(key, 0), m:set(key, {}), or m:clear() for all]]
      assert.equal(text, mistake(function() obj.maps.slots:delete(1) end))
      assert.equal(text, mistake(function() obj.maps.slots[1] = nil end))
      assert.equal(text, mistake(function() obj.maps.slots:delete_many { 1 } end))
    end)

    it("is cleared: all its entries are zero", function()
      local obj <close> = load "maps"
      local m, percpu = obj.maps.slots, obj.maps.cpu_hits
      for i = 0, 15 do m[i] = { packets = i + 1, label = "x" } end
      assert.equal(16, m:clear())
      assert.equal(0, m:sum "packets")
      assert.equal("", m[15].label)
      percpu[3] = { 7, 8 }
      assert.equal(4, percpu:clear())
      assert.equal(0, percpu:sum())
    end)

    it("has no key beyond its end", function()
      local obj <close> = load "maps"
      local m = obj.maps.slots
      assert.is_nil(m[16])
      assert.equal([[
set in map 'slots': there is no such key (E2BIG)
hint: an array of 16 entries has the keys 0 to 15]],
        tostring(refusal(function() m[16] = {} end)))
    end)

    it("takes nothing", function()
      local obj <close> = load "maps"
      assert.equal([[
array 'slots' cannot take: its entries are always there
hint: use m:get(key)]], mistake(function() obj.maps.slots:take(1) end))
    end)
  end)

  describe("that is empty", function()
    it("has no first entry, whatever its type", function()
      for _, kind in ipairs { "hash", "lru_hash", "percpu_hash", "lru_percpu_hash", "lpm_trie",
          "sockhash", "devmap_hash", "devmap", "sockmap", "cpumap", "prog_array", "stack_trace" } do
        local m <close> = bpf.create_map { name = "empty", type = kind, max_entries = 2,
          key = kind == "lpm_trie" and 8 or "u32",
          value = kind == "stack_trace" and 80 or kind:find "sock" and "u64" or "u32" }
        for _ in pairs(m) do error(kind) end
        assert.same({ 0, {}, true, 0 }, { m:count(), m:snapshot(), select(2, m:snapshot()),
          m:clear() })
      end
    end)
  end)

  it("needs privileges, and says which", function()
    local p <close> = support.script([[
      local bpf = require "moonbee"
      local ok, err = pcall(bpf.create_map, { type = "hash", key = 4, value = 4, max_entries = 1 })
      print(ok, err.code, err.hint)]], { user = "nobody" })
    local r = p:wait()
    assert.matches("^false\tEPERM\t%S.*\n$", r.out, r.err)
  end)

  describe("of a per-CPU type", function()
    it("has a value for each possible CPU, by its id", function()
      local obj <close> = load "maps"
      local m = obj.maps.cpu_hits
      assert.is_true(m.percpu)
      assert.equal(bpf.cpus.possible, #m:get(0))
      assert.equal("__u64", m.value_type.name)
      local all = {}
      for cpu = 0, bpf.cpus.possible - 1 do all[cpu + 1] = 10 + cpu end
      m:set(0, all)
      for cpu = 0, bpf.cpus.possible - 1 do assert.equal(10 + cpu, m:get(0)[cpu]) end
      assert.matches("has no element " .. bpf.cpus.possible .. " ",
        mistake(function() return m[0][bpf.cpus.possible] end))
    end)

    it("takes a table with a key 0 as by CPU id; who is not named is 0", function()
      local obj <close> = load "maps"
      local m = obj.maps.cpu_hits
      m:set(0, { [0] = 9 })
      assert.equal(9, m[0][0])
      for cpu = 1, bpf.cpus.possible - 1 do assert.equal(0, m[0][cpu]) end
    end)

    it("refuses one value for all, and more values than CPUs", function()
      local obj <close> = load "maps"
      local m = obj.maps.cpu_hits
      assert.matches("takes a table or a view, not a number", mistake(function() m[0] = 5 end))
      local all = {}
      for i = 1, bpf.cpus.possible + 1 do all[i] = i end
      assert.matches(" has " .. bpf.cpus.possible .. " elements",
        mistake(function() m[0] = all end))
    end)

    it("keeps apart values whose size is no multiple of 8", function()
      local obj <close> = load "shapes"
      local n = bpf.cpus.possible
      for _, m in ipairs { obj.maps.triples, obj.maps.cpu_triples } do
        local all = {}
        for cpu = 0, n - 1 do all[cpu + 1] = { a = 1, b = 2, c = 100 + cpu } end
        m:set(3, all)
        assert.equal(12, m.value_size)
        assert.equal(n, #m[3])
        for cpu = 0, n - 1 do
          local v = m[3][cpu]
          assert.same({ 1, 2, 100 + cpu }, { v.a, v.b, v.c })
        end
      end
    end)

    it("shows what BPF wrote, on the CPU where it ran", function()
      local obj <close> = load "shapes"
      assert.equal(0, obj.progs.spread:run().ret)
      for _, got in ipairs { obj.maps.triples[2], obj.maps.cpu_triples[7] } do
        local found = 0
        for cpu, v in pairs(got) do
          if v.a == 1 then
            found = found + 1
            assert.same({ 2, 3 + cpu }, { v.b, v.c })
          end
        end
        assert.equal(1, found)
      end
    end)

    it("is a hash like others: absent is nil, delete, take, update of one CPU", function()
      local obj <close> = load "maps"
      local m = obj.maps.cpu_flows
      assert.is_nil(m[5])
      m[5] = { { rate = 1, burst = 2 } }
      assert.is_true(m:update(5, { [0] = { burst = 7 } }))
      assert.same({ 1, 7 }, { m[5][0].rate, m[5][0].burst })
      assert.equal(1, m:take(5)[0].rate)
      assert.is_false(m:delete(5))
    end)
  end)

  describe("of an LRU type", function()
    it("makes room for new entries itself", function()
      local obj <close> = load "maps"
      local m = obj.maps.recent
      for i = 1, 1000 do m[i] = 2 * i end
      assert.equal(2000, m[1000])
      assert.is_true(m:count() <= 64)
      assert.equal(2000, m:take(1000))
      local percpu = obj.maps.cpu_recent
      percpu[3] = { 5 }
      assert.equal(5, percpu[3][0])
      assert.is_true(percpu:delete(3))
    end)
  end)

  describe("without BTF", function()
    it("has keys and values of bytes: strings of their very size", function()
      local obj <close> = load "maps"
      local m = obj.maps.raw
      assert.equal("bytes", m.key_type.kind)
      assert.is_true(m:set("abcd", "123456789\0\0\1"))
      assert.equal("123456789\0\0\1", m:get "abcd")
      assert.is_nil(m:get "abce")
      for k, v in pairs(m) do assert.same({ "abcd", "123456789\0\0\1" }, { k, v }) end
      assert.equal("store 'key': bytes[4] takes exactly 4 bytes, not 3",
        mistake(function() m:get "abc" end))
      assert.equal("store 'value': bytes[12] takes exactly 12 bytes, not 11",
        mistake(function() m:set("abcd", ("x"):rep(11)) end))
      assert.equal("store 'value': 13 bytes do not fit into bytes[12]",
        mistake(function() m:set("abcd", ("x"):rep(13)) end))
      assert.matches("takes a string, not an integer", mistake(function() m:get(4) end))
      assert.is_true(m:delete "abcd")
    end)
  end)

  describe("name", function()
    it("that is no property raises, with a near name or the way to a string key", function()
      local obj <close> = load "maps"
      local m = obj.maps.names
      assert.equal("a map has no 'pin_pat'\nhint: did you mean 'pin_path'?",
        mistake(function() return m.pin_pat end))
      local text = "a map has no 'moon'\nhint: a string after a dot or in brackets is a " ..
        "property; for keys: m:get(key), m:set(key, value)"
      assert.equal(text, mistake(function() return m.moon end))
      assert.equal(text, mistake(function() return m["moon"] end))
      assert.equal(text, mistake(function() m.moon = 1 end))
      assert.equal("'id' of a map cannot be set", mistake(function() m.id = 1 end))
      assert.equal(0, m:count())
    end)

    it("# raises, and names count and max_entries", function()
      local obj <close> = load "maps"
      assert.equal([[
the length of a map costs a walk: # is not offered
hint: m:count() walks it, m.max_entries is its size]],
        mistake(function() return #obj.maps.flows end))
    end)
  end)

  it("of events has no keys, and says where they are", function()
    local obj <close> = load "events"
    local m = obj.maps.events
    assert.equal("ringbuf 'events' has no keys\nhint: use m:reader() for its events",
      mistake(function() return m[1] end))
    assert.matches("has no keys", mistake(function() m:count() end))
    assert.matches("has no keys", mistake(function() m:set(1, 2) end))
    assert.is_nil(m.key_type)
  end)

  it("says that its object is not loaded", function()
    local obj <close> = support.open "maps"
    for _, fn in ipairs {
      function() return obj.maps.totals[1] end, function() obj.maps.totals[1] = 1 end,
      function() obj.maps.totals:delete(1) end, function() return obj.maps.totals:take(1) end,
      function() return obj.maps.totals:count() end, function() obj.maps.totals:pin "/x" end,
    } do
      assert.matches("its object is not loaded (EINVAL)\nhint: call obj:load() first",
        tostring(refusal(fn)), 1, true)
    end
  end)
end)
