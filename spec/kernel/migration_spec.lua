-- SPDX-License-Identifier: BSD-2-Clause
-- Entries of one map into another of a changed layout: step by step, under a BPF program that goes
-- on writing, and when the process is killed in the middle.
local lfs = require "lfs"
local uv = require "luv"
local bpf = require "moonbee"
local skip = require "support.skip"
local support = require "support.bpf"

local mistake, refusal = support.mistake, support.refusal

local DIR = ("/sys/fs/bpf/mbspec-%d"):format(uv.os_getpid())
local PACKET = ("\0"):rep(64)

local function exists(path) return lfs.symlinkattributes(path, "mode") ~= nil end

local remove = require "support.leaks".remove

describe("a migration #root", function()
  before_each(skip.root)
  after_each(function()
    if exists(DIR) then remove(DIR) end
  end)

  -- The old version and the new one, each with maps of its own.
  local function pair()
    return support.load "upgrade", support.load "upgrade_new"
  end

  describe("step by step", function()
    local old, new
    before_each(function() old, new = pair() end)
    after_each(function()
      old:close()
      new:close()
      old, new = nil, nil
    end)

    it("copies what is new or changed, and deletes what is gone", function()
      local from, to = old.maps.flows, new.maps.flows
      for i = 1, 1000 do from[i] = { seq = i, packets = i, rate = i } end
      local move <close> = bpf.migration(from, to)
      local report = move:copy()
      assert.same({ 1, 1000, 1000, 0 },
        { report.passes, report.entries, report.copied, report.deleted })
      assert.same({ x = 0, rate = 7, packets = 7, seq = 7 }, bpf.totable(to[7]))
      from[7] = { seq = 70 }
      from[2000] = { seq = 2000 }
      for i = 11, 20 do from:delete(i) end
      report = move:copy()
      assert.same({ 2, 991, 1002, 10 },
        { report.passes, report.entries, report.copied, report.deleted })
      assert.equal(991, to:count())
      assert.same({ 70, 2000 }, { to[7].seq, to[2000].seq })
      assert.is_nil(to[15])
      assert.same({ added = 0, changed = 0, deleted = 0 }, report.late)
      report = move:finish()
      assert.same({ 3, 991, false }, { report.passes, report.entries, report.busy })
      assert.same(report, move.report)
    end)

    it("counts what was written between last pass and switch, and takes it along", function()
      local from, to = old.maps.flows, new.maps.flows
      for i = 1, 10 do from[i] = { seq = i } end
      local move <close> = bpf.migration(from, to)
      move:copy()
      from[1] = { seq = 100 }           -- changed
      from[2] = nil                     -- deleted
      from[11] = { seq = 11 }           -- added
      from[3] = { seq = 300 }           -- changed in both: the new one's is the later one
      to[3] = { seq = 333 }
      from[4] = { seq = 400 }           -- deleted in the new one since
      to[4] = nil
      from[5] = nil                     -- deleted, and made again in the new one
      to[5] = { seq = 555 }
      from[12] = { seq = 12 }           -- in both
      to[12] = { seq = 1212 }
      local report = move:finish()
      assert.same({ added = 2, changed = 3, deleted = 2 }, report.late)
      assert.equal(4, report.conflicts)
      assert.is_false(report.busy)
      local seqs = {}
      for k, seq in to:pairs "seq" do seqs[k] = seq end
      assert.same({ [1] = 100, [3] = 333, [5] = 555, [6] = 6, [7] = 7, [8] = 8, [9] = 9, [10] = 10,
        [11] = 11, [12] = 1212 }, seqs)
    end)

    it("sums counters from both", function()
      local from, to = old.maps.flows, new.maps.flows
      for i = 1, 7 do from[i] = { seq = i, packets = 100 } end
      local move <close> = bpf.migration(from, to, { add = { "packets" } })
      move:copy()
      local function both(key, was, is)
        from:update(key, { packets = was })
        to:update(key, { packets = is })
      end
      both(1, 110, 105)                 -- 10 in the old one since, 5 in the new one
      from:update(2, { packets = 130, seq = 20 })
      to:update(3, { packets = 101 })
      from[4] = nil                     -- what it had counted is gone with it
      to:update(4, { packets = 103, seq = 44 })
      from[8] = { seq = 8, packets = 4 }
      to[8] = { seq = 88, packets = 5 }
      from:update(5, { packets = 120 })
      to[5] = { seq = 55, packets = 1 } -- deleted and made again: it began anew
      both(6, 0xffffffff, 100)
      local report = move:finish()
      local packets, seqs = {}, {}
      for k, n, seq in to:pairs("packets", "seq") do packets[k], seqs[k] = n, seq end
      assert.same({ 115, 130, 101, 3, 1, 0xffffffff, 100, 9 }, packets)
      assert.same({ 1, 20, 3, 44, 55, 6, 7, 88 }, seqs)
      assert.equal(5, report.summed)
    end)

    it("sums counters of each CPU where it is", function()
      local from, to = old.maps.cpus, new.maps.cpus
      local n = bpf.cpus.possible
      local function set(map, key, base)
        local t = {}
        for cpu = 0, n - 1 do t[cpu] = { hits = base + cpu } end
        map[key] = t
      end
      set(from, 1, 10)
      set(from, 2, 10)
      local move <close> = bpf.migration(from, to, { add = "hits" })
      move:copy()
      set(from, 1, 15)
      set(to, 1, 17)
      set(from, 2, 20)
      move:finish()
      for cpu = 0, n - 1 do
        assert.equal(22 + cpu, to[1][cpu].hits)
        assert.equal(20 + cpu, to[2][cpu].hits)
      end
    end)

    it("sums values that are counters themselves", function()
      local from, to = old.maps.same, new.maps.same
      from[1] = 5
      local move <close> = bpf.migration(from, to, { add = true })
      move:copy()
      from[1] = 8
      to[1] = 15
      move:finish()
      assert.equal(18, to[1])
      local whole <close> = support.load "maps"
      assert.matches("its values have no fields: they are __u64", tostring(refusal(bpf.migration,
        whole.maps.totals, whole.maps.recent, { add = "x" })), 1, true)
    end)

    it("goes into a map that is in use already, too", function()
      local from, to = old.maps.flows, new.maps.flows
      from[1] = { seq = 1, packets = 10 }
      from[2] = { seq = 2, packets = 20 }
      to[2] = { seq = 22, packets = 2 }
      to[3] = { seq = 33, packets = 3 }
      local move <close> = bpf.migration(from, to, { add = { "packets" } })
      assert.same({ added = 2, changed = 0, deleted = 0 }, move:finish().late)
      local packets = {}
      for k, n in to:pairs "packets" do packets[k] = n end
      assert.same({ 10, 22, 3 }, packets)
      assert.equal(22, to[2].seq)
    end)

    it("ends at a value that does not fit, and the old map is as it was", function()
      local from, to = new.maps.flows, old.maps.flows -- the other way: packets get narrower
      for i = 1, 10 do from[i] = { seq = i, packets = 1 } end
      from[5] = { packets = 1 << 32 }
      local move <close> = bpf.migration(from, to)
      assert.equal([[
migrate map 'flows': field 'packets' of a value: 4294967296 is out of range for __u32 ]] ..
        [[(0..4294967295) (ERANGE)
hint: the old map is as it was; give the field a type that holds its values]],
        tostring(refusal(move.copy, move)))
      assert.equal(10, from:count())
      from[5] = { packets = 5 }
      assert.equal(10, move:copy().entries)
      assert.equal(5, to[5].packets)
    end)

    it("ends when the new map is full", function()
      local small <close> = support.load("upgrade_new", { max_entries = { flows = 5 } })
      for i = 1, 10 do old.maps.flows[i] = {} end
      local move <close> = bpf.migration(old.maps.flows, small.maps.flows)
      local err = refusal(move.copy, move)
      assert.same({ "E2BIG", "set in map" }, { err.code, err.op })
      assert.equal(10, old.maps.flows:count())
    end)

    it("needs maps of a family, with a way from one layout to the other", function()
      local maps <close> = support.load "maps"
      local m = maps.maps
      for text, two in pairs {
        ["a map of type hash has no entries that could go to one of type array"] =
          { m.flows, m.slots },
        ["only one of the two has a value for each CPU"] = { m.totals, m.cpu_recent },
        ["it is the same map"] = { m.totals, m.totals },
        ["field '' was __u64 and is struct locked: no way leads there"] = { m.totals, m.locked },
      } do
        assert.matches(text, tostring(refusal(bpf.migration, two[1], two[2])), 1, true)
      end
      local move <close> = bpf.migration(m.totals, m.recent)  -- hash to LRU
      m.totals[1] = 1
      move:copy()
      assert.equal(1, m.recent[1])
    end)

    it("needs counters that can be added to", function()
      local from, to = old.maps.flows, new.maps.flows
      local function add(what)
        return mistake(function() bpf.migration(from, to, { add = what }) end)
      end
      assert.equal("resolve 'nothing': no field 'nothing' in struct flow", add "nothing")
      assert.equal("resolve 'gone': no field 'gone' in struct flow", add { "packets", "gone" })
      assert.equal("resolve 'x': no field 'x' in struct flow", add "x")
      assert.matches("'gone' cannot be added to: it is no aligned integer of 4 or 8 bytes",
        tostring(refusal(function()
          bpf.migration(from, support.load("upgrade").maps.flows, { add = "gone" })
        end)), 1, true)
      assert.matches("33 counters are too many: at most 32", tostring(refusal(function()
        local many = {}
        for i = 1, 40 do many[i] = "packets" end
        bpf.migration(from, to, { add = many })
      end)), 1, true)
    end)

    it("refuses what is no migration", function()
      local from, to = old.maps.flows, new.maps.flows
      assert.matches("add is true, a path of a counter or a list of them, not a number",
        mistake(function() bpf.migration(from, to, { add = 5 }) end))
      assert.matches("paths of counters are strings, not boolean",
        mistake(function() bpf.migration(from, to, { add = { true } }) end))
      assert.matches("moonbee.map expected", mistake(function() bpf.migration(from, 5) end))
      local move <close> = bpf.migration(from, to)
      new:close()
      assert.matches("the map is closed", mistake(function() move:copy() end))
    end)
  end)

  -- A process in which this pinned program runs over and over, some 100000 times a second, until it
  -- is killed.
  local function writing(path)
    local writer = support.script([[
      local loop = require "moonbee.loop"
      local entry = require "moonbee".pinned(arg[1])
      io.stdout:write "go\n"
      io.stdout:flush()
      loop.every(0.005, function() entry:run { data = ("\0"):rep(64), times = 500 } end)
      loop.run()]],
      { timeout = 120 }, path)
    writer:expect "go"
    return writer
  end

  -- Each of the first n keys as the programs themselves say that it should be.
  local function check(obj, n)
    obj.maps.state[1] = 0
    obj.progs.check:run { data = PACKET, times = n // 16 + 1 }
    local v = obj.vars
    return { wrong = v.wrong, back = v.back, lost = v.lost, counted = v.counted,
      right = v.right + v.doubts }
  end

  describe("under a program that goes on writing", function()
    it("loses no value, brings no deleted key back, counts what both counted", function()
      local n = support.slow and 50000 or 1000000
      local options = { pin_root = DIR, vars = { keys = n }, max_entries = { flows = n, want = n } }
      local old <close> = support.open("upgrade", options):load()
      old.progs.entry:pin(DIR .. "/entry")
      old.progs.fill:run { data = PACKET, times = n // 16 + 1 }
      assert.same({ wrong = 0, back = 0, lost = 0, counted = 0, right = n }, check(old, n))
      old.maps.jump[0] = old.progs.step

      options.pin_root = nil
      local new <close> = support.open("upgrade_new", options)
      for _, name in ipairs { "want", "state", "jump" } do
        new.maps[name]:reuse(old.maps[name])
      end
      new:load()
      local writer <close> = writing(DIR .. "/entry")
      local state = old.maps.state
      support.until_true(function() return state[0] > 20000 end)

      local move <close> = bpf.migration(old.maps.flows, new.maps.flows, { add = "packets" })
      local cpus <close> = bpf.migration(old.maps.cpus, new.maps.cpus, { add = "hits" })
      move:copy()
      local seen = state[0]
      new.vars.copied_from = seen
      cpus:copy()
      move:copy()
      new.vars.sweeping = 1
      new.maps.jump[0] = new.progs.step -- the switch
      local switched = state[0]
      local report = move:finish()
      new.vars.sweeping = 0
      cpus:finish()
      new.maps.flows:pin(DIR .. "/flows", { replace = true })
      support.until_true(function() return state[0] > switched + 20000 end)
      writer:close()

      local late = report.late
      local found = check(new, n)
      assert.same({ wrong = 0, back = 0, lost = 0, counted = 0, right = n }, found)
      assert.is_false(report.busy)
      assert.equal(0, new.vars.failed)
      -- what was written between the last pass and the switch is told, and the keys of which it
      -- cannot be known what came last are few
      local told = late.added + late.changed + late.deleted
      assert.truthy(told > 0 and told <= switched - seen)
      -- a small map's window may be too short for each kind of write
      if not support.slow then
        assert.truthy(late.changed > 0 and late.added > 0 and late.deleted > 0)
      end
      assert.truthy(new.vars.doubts < n // 100, new.vars.doubts)
      -- each operation was counted once, by the one version or the other
      local hits = 0
      for _, each in pairs(new.maps.cpus) do hits = hits + bpf.sum(each, "hits") end
      assert.equal(state[0], hits)
      local there <close> = bpf.pinned(DIR .. "/flows")
      assert.equal(new.maps.flows.id, there.id)
    end)
  end)

  describe("at load", function()
    it("calls switch when all is copied and nothing is swept yet", function()
      local id
      do
        local old <close> = support.load("upgrade", { pin_root = DIR })
        for i = 1, 10 do old.maps.flows[i] = { seq = i, packets = i } end
        id = old.maps.flows.id
      end
      local late <close> = bpf.pinned(DIR .. "/flows")
      local calls = 0
      local obj <close> = support.load("upgrade_new", { pin_root = DIR, on_mismatch = "migrate",
        migrate = { passes = 3, add = { flows = "packets" }, switch = function(o)
          calls = calls + 1
          assert.equal("loaded", o.state)
          assert.equal(10, o.maps.flows:count())
          local there <close> = bpf.pinned(DIR .. "/flows")
          assert.equal(id, there.id)
          late:update(1, { packets = 11 })
          o.maps.flows:update(1, { packets = 2 + o.maps.flows[1].packets })
        end } })
      assert.equal(1, calls)
      assert.equal(13, obj.maps.flows[1].packets)
      local report = obj.migrated.flows
      assert.same({ 5, 1, 1 }, { report.passes, report.late.changed, report.summed })
    end)

    it("leaves the old map pinned, whole, when switch raises or a value does not fit", function()
      local id
      do
        local old <close> = support.load("upgrade_new", { pin_root = DIR })
        for i = 1, 10 do old.maps.flows[i] = { seq = i, packets = i } end
        id = old.maps.flows.id
      end
      local function still()
        local there <close> = bpf.pinned(DIR .. "/flows")
        assert.same({ id, 10 }, { there.id, there:count() })
        assert.is_false(exists(DIR .. "/flows~"))
      end
      local obj <close> = support.open("upgrade", { pin_root = DIR, on_mismatch = "migrate",
        migrate = { switch = function() error("no", 0) end } })
      local ok, err = pcall(obj.load, obj)
      assert.same({ false, "no", "closed" }, { ok, err, obj.closed and "closed" })
      still()
      do
        local there <close> = bpf.pinned(DIR .. "/flows")
        there[5] = { packets = 1 << 40 }
      end
      local other <close> = support.open("upgrade", { pin_root = DIR, on_mismatch = "migrate" })
      assert.matches("field 'packets' of a value: 1099511627776 is out of range",
        tostring(refusal(other.load, other)), 1, true)
      still()
      local wrong <close> = support.open("upgrade", { pin_root = DIR, on_mismatch = "migrate",
        migrate = { add = { flows = "nothing" } } })
      assert.equal("resolve 'nothing': no field 'nothing' in struct flow",
        mistake(function() wrong:load() end))
      still()
    end)
  end)

  describe("killed at any moment", function()
    local MOMENTS = support.slow and 8 or 50

    -- Run the script until it says "go", and kill it this much later.
    local function kill_after(source, seconds, ...)
      local p <close> = support.script(source, nil, ...)
      p:expect "go"
      local until_ns = uv.hrtime() + seconds * 1e9
      while uv.hrtime() < until_ns do end
      p:kill "sigkill"
      p:wait()
    end

    it("leaves the old map or the new one, whole", function()
      local n, olds, news = 2000, 0, 0
      local source = [[
        local bpf = require "moonbee"
        local obj = bpf.open(arg[1], { pin_root = arg[2], on_mismatch = "migrate" })
        io.stdout:write "go\n"
        io.stdout:flush()
        obj:load()
        io.stdout:write "done\n"
        io.stdout:flush()
        io.read()]]
      -- how long it takes such a process, to spread the moments over it
      local seconds
      local function leave()
        remove(DIR)
        local old <close> = support.load("upgrade", { pin_root = DIR })
        local keys, values = {}, {}
        for i = 1, n do keys[i], values[i] = i, { seq = i, packets = 2 * i, rate = 3 * i } end
        old.maps.flows:set_many(keys, values)
        return old.maps.flows.id
      end
      leave()
      do
        local p <close> = support.script(source, nil, support.fixture "upgrade_new", DIR)
        p:expect "go"
        local start = uv.hrtime()
        p:expect "done"
        seconds = (uv.hrtime() - start) / 1e9
        local there <close> = bpf.pinned(DIR .. "/flows")
        assert.same({ n, 32 }, { there:count(), there.value_size })
        p:kill "sigkill"
        p:wait()
      end
      local id
      for moment = 1, MOMENTS do
        id = id or leave()
        kill_after(source, seconds * 2 * (moment + math.random()) / MOMENTS,
          support.fixture "upgrade_new", DIR)
        do
          local there <close> = bpf.pinned(DIR .. "/flows")
          local size = there.value_size
          assert.truthy(there.id == id and size == 24 or there.id ~= id and size == 32)
          if there.id == id then
            olds = olds + 1
          else
            news, id = news + 1, nil      -- the next one begins with the old version again
          end
          local count = 0
          for k, seq, packets, rate in there:pairs("seq", "packets", "rate") do
            assert.truthy(seq == k and packets == 2 * k and rate == 3 * k)
            count = count + 1
          end
          assert.equal(n, count)
        end
        -- the next start finds its way, and clears up what was left
        if moment % 5 == 0 then
          local obj <close> = support.load("upgrade_new",
            { pin_root = DIR, on_mismatch = "migrate" })
          assert.equal(n, obj.maps.flows:count())
          bpf.collect_pins(DIR)
          assert.is_false(exists(DIR .. "/flows~"))
          id = nil
        end
      end
      assert.truthy(support.slow or olds > 0 and news > 0, olds .. " " .. news)
    end)

    it("leaves one of two maps that replace each other at a pin", function()
      local source = [[
        local bpf = require "moonbee"
        local obj = bpf.load(arg[1])
        local a, b = obj.maps.same, obj.maps.turned
        io.stdout:write "go\n"
        io.stdout:flush()
        while true do
          for _, m in ipairs { a, b } do
            m:pin(arg[2] .. "/x", { replace = true })
          end
        end]]
      do
        local first <close> = support.load "maps"
        first.maps.totals:pin(DIR .. "/x")
      end
      for _ = 1, MOMENTS do
        kill_after(source, math.random() * 0.004, support.fixture "upgrade", DIR)
        local there <close> = bpf.pinned(DIR .. "/x")
        assert.equal("map", bpf.type(there))
        there[1] = there[1]
      end
    end)
  end)
end)
