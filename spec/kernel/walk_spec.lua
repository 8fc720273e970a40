-- SPDX-License-Identifier: BSD-2-Clause
-- Walking maps: for k, v in pairs(m), columns, deleting meanwhile, churn.
local uv = require "luv"
local bpf = require "moonbee"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"

local mistake, load = support.mistake, support.load

-- Entries of the heavy tests.
local N = support.slow and 5000 or 20000

local function fill(obj, n, first)
  obj.vars.first, obj.vars.n = first or 0, n
  obj.progs.fill:run()
  assert.equal(0, obj.vars.failed)
end

-- Every key from 0 to n - 1 once, with its value, in whatever order.
local function complete(seen, n, map)
  local count = 0
  for k, v in pairs(map) do
    if seen[k] ~= nil then error("twice: " .. k) end
    seen[k] = v
    count = count + 1
  end
  assert.equal(n, count)
end

describe("pairs of a map #root", function()
  before_each(skip.root)

  for _, n in ipairs { 0, 1, 2, 5000, 60000 } do
    it("gives each of " .. n .. " entries once", function()
      local obj <close> = load "maps"
      fill(obj, n)
      local seen = {}
      complete(seen, n, obj.maps.totals)
      for i = 0, n - 1 do
        if seen[i] ~= 2 * i then error("key " .. i .. ": " .. tostring(seen[i])) end
      end
      assert.equal(n, obj.maps.totals:count())
    end)
  end

  it("of a trie goes on after the entry at hand is deleted, from wherever", function()
    local path = ("/sys/fs/bpf/mbspec-%d"):format(uv.os_getpid())
    local r = run { "bpftool", "map", "create", path, "type", "lpm_trie", "key", "8", "value", "4",
      "entries", "9000", "name", "trie", "flags", "1" }
    assert.equal(0, r.rc, r.err)
    local m <close> = bpf.pinned(path)
    m:unpin()
    for i = 1, 9000 do m:set(("<I4>I4"):pack(32, i), ("<I4"):pack(i)) end
    local n, seen = 0, {}
    for k, v in pairs(m) do
      n = n + 1
      local i = ("<I4"):unpack(v)
      if seen[i] then error("twice: " .. i) end
      seen[i] = true
      if n % 1024 == 0 then m:delete(k) end
    end
    assert.same({ 9000, 9000 - 8 }, { n, m:count() })
  end)

  it("gives views of structs for keys and values", function()
    local obj <close> = load "maps"
    fill(obj, 5000)
    local n = 0
    for k, v in pairs(obj.maps.flows) do
      n = n + 1
      if k.proto ~= 6 or v.packets ~= k.saddr or v.stats.bytes ~= 100 * k.saddr then
        error("torn entry " .. k.saddr)
      end
    end
    assert.equal(5000, n)
  end)

  it("gives keys and values that can be kept, and are read-only", function()
    local obj <close> = load "maps"
    fill(obj, 100)
    local keys, values = {}, {}
    for k, v in pairs(obj.maps.flows) do keys[#keys + 1], values[#values + 1] = k, v end
    obj:close()
    collectgarbage()
    for i, k in ipairs(keys) do assert.equal(k.saddr, values[i].packets) end
    assert.matches("value of map 'flows' is read%-only: a snapshot, the write would be lost",
      mistake(function() values[1].packets = 1 end))
    assert.matches("read%-only", mistake(function() keys[1].saddr = 1 end))
  end)

  it("name the path within the entry, whichever of the batch it is", function()
    local obj <close> = load "maps"
    local m = obj.maps.flows
    for i = 1, 5 do m:set({ saddr = i }, { packets = i }) end
    for key, value in pairs(m) do
      assert.matches("^write 'stats%.bytes': ", mistake(function() value.stats.bytes = 1 end))
      assert.matches("^write 'saddr': ", mistake(function() key.saddr = 1 end))
    end
  end)

  it("walks arrays in order, all of it", function()
    local obj <close> = load "maps"
    fill(obj, 16, 32)
    local keys = {}
    for k, v in pairs(obj.maps.slots) do
      keys[#keys + 1] = k
      assert.equal(32 + k, v.packets)
    end
    assert.same({ 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 }, keys)
  end)

  it("walks per-CPU maps, a value for each CPU", function()
    local obj <close> = load "shapes"
    local m = obj.maps.cpu_triples
    for k = 1, 8 do
      local all = {}
      for cpu = 0, bpf.cpus.possible - 1 do all[cpu + 1] = { c = 100 * k + cpu } end
      m[k] = all
    end
    local n = 0
    for k, v in pairs(m) do
      n = n + 1
      assert.equal(bpf.cpus.possible, #v)
      for cpu, triple in pairs(v) do assert.equal(100 * k + cpu, triple.c) end
    end
    assert.equal(8, n)
    n = 0
    for _ in pairs(obj.maps.triples) do n = n + 1 end
    assert.equal(4, n)
  end)

  it("walks LRU maps", function()
    local obj <close> = load "maps"
    fill(obj, 20)
    local n = 0
    for k, v in pairs(obj.maps.recent) do
      n = n + 1
      assert.equal(2 * k, v)
    end
    assert.equal(20, n)
    n = 0
    for _ in pairs(obj.maps.cpu_recent) do n = n + 1 end
    assert.equal(20, n)
  end)

  it("walks maps whose keys are too short for batches", function()
    local obj <close> = load "shapes"
    local m = obj.maps.shorts
    local seen = {}
    complete(seen, 0, m)
    for i = 0, 4095 do m[i] = 3 * i end
    complete(seen, 4096, m)
    for i = 0, 4095 do
      if seen[i] ~= 3 * i then error("key " .. i) end
    end
  end)

  it("walks a map that has every key of one byte", function()
    local obj <close> = load "shapes"
    local m = obj.maps.octets
    for i = 0, 255 do m[i] = 255 - i end
    local seen = {}
    complete(seen, 256, m)
    for i = 0, 255 do assert.equal(255 - i, seen[i]) end
    assert.equal(256, m:clear())
  end)

  -- So large that they come one at a time, and some share a bucket of the kernel's hash.
  it("walks values of more than 1 MiB", function()
    local obj <close> = load "shapes"
    local m = obj.maps.wide
    for i = 1, 24 do m[i] = { n = i } end
    local n = 0
    for k, v in pairs(m) do
      n = n + 1
      assert.equal(k, v.n)
    end
    assert.equal(24, n)
  end)

  it("may be nested, and left early", function()
    local obj <close> = load "maps"
    fill(obj, 50)
    local n = 0
    for _ in pairs(obj.maps.totals) do
      for _ in pairs(obj.maps.totals) do n = n + 1 end
    end
    assert.equal(2500, n)
    for k in pairs(obj.maps.totals) do
      if k then break end
    end
    pcall(function()
      for _ in pairs(obj.maps.totals) do error "out" end
    end)
  end)

  describe("while the map changes", function()
    it("still gives every entry once when each is deleted at its turn", function()
      local obj <close> = load "maps"
      local m = obj.maps.totals
      fill(obj, N)
      local seen = {}
      local n = 0
      for k in pairs(m) do
        if seen[k] then error("twice: " .. k) end
        seen[k] = true
        n = n + 1
        if not m:delete(k) then error("was not there: " .. k) end
      end
      assert.equal(N, n)
      assert.equal(0, m:count())
    end)

    it("the same where it goes key by key", function()
      local obj <close> = load "shapes"
      local m = obj.maps.shorts
      for i = 0, 4095 do m[i] = i end
      local n = 0
      for k in pairs(m) do
        n = n + 1
        m[k] = nil
      end
      assert.equal(4096, n)
      assert.equal(0, m:count())
    end)

    it("ends though each turn adds and deletes", function()
      for name, fixture in pairs { totals = "maps", shorts = "shapes" } do
        local obj <close> = load(fixture)
        local m = obj.maps[name]
        for i = 0, 999 do m[i] = i end
        local next_key, turns = 1000, 0
        for k in pairs(m) do
          turns = turns + 1
          m[k] = nil
          m[next_key] = 1
          next_key = next_key + 1
          if turns > 200000 then error(name .. ": does not end") end
          if next_key == 65536 then break end
        end
        assert.is_true(turns >= 1000)
        assert.equal(1000, m:count())
      end
    end)

    it("ends while BPF in another process churns, and never shows a torn entry", function()
      local obj <close> = load "maps"
      local dir = ("/sys/fs/bpf/mbspec-%d"):format(uv.os_getpid())
      local m = obj.maps.flows
      fill(obj, 3000)
      obj.progs.fill:pin(dir .. "/fill")
      m:pin(dir .. "/flows")
      local _ <close> = setmetatable({}, { __close = function()
        m:unpin()
        os.remove(dir .. "/fill")
        os.remove(dir)
      end })
      -- Its clear and fill run in turns until it is killed.
      local p <close> = support.script([[
        local bpf = require "moonbee"
        local flows, fill = bpf.pinned(arg[1] .. "/flows"), bpf.pinned(arg[1] .. "/fill")
        print "going"
        io.stdout:flush()
        while true do
          fill:run()
          flows:clear()
        end]], nil, dir)
      p:expect "going"
      local entries = 0
      for _ = 1, support.slow and 5 or 50 do
        for k, v in pairs(m) do
          entries = entries + 1
          if v.packets ~= k.saddr or v.stats.bytes ~= 100 * k.saddr then
            error(("torn: %d has %d"):format(k.saddr, v.packets))
          end
        end
        m:count()
      end
      assert.is_true(entries > 0)
    end)

    it("raises when the map is closed, where it needs more of it", function()
      local obj <close> = load "maps"
      fill(obj, 60000)
      local n = 0
      assert.equal("walk map 'totals': the map is closed", mistake(function()
        for _ in pairs(obj.maps.totals) do
          n = n + 1
          if n == 1 then obj:close() end
        end
      end))
      assert.is_true(n < 60000)
      local closed = load "maps"
      local m = closed.maps.totals
      closed:close()
      assert.equal("attempt to use closed map 'totals'", mistake(function() pairs(m) end))
    end)
  end)

  -- In a process of its own: in the specs' big heap collections are too far apart.
  it("may be closed by a finalizer in the midst of a step, and stepped by none", function()
    local p <close> = support.script([[
      local bpf = require "moonbee"
      local obj <close> = bpf.load(arg[1])
      obj.vars.n = 20000
      obj.progs.fill:run()
      local texts, short = {}, 0
      for round = 1, 300 do
        local f, s, c, w = obj.maps.flows:pairs()
        local n = 0
        for k, v in f, s, c do
          assert(k.saddr == v.packets)
          n = n + 1
          setmetatable({}, { __gc = function()
            local ok, text = true, nil
            if round % 2 == 0 then ok, text = pcall(f, s) end
            if not ok then texts[text] = true end
            local _ <close> = w
          end })
        end
        if n < 20000 then short = short + 1 end
      end
      for text in pairs(texts) do
        assert(text:find "a step of this walk was not finished", text)
      end
      print(short)]], nil, support.fixture "maps")
    local r = p:wait()
    assert.equal("", r.err)
    assert.equal(0, r.rc)
    assert.truthy(tonumber(r.out) > 250, r.out) -- ended so
  end)

  describe("with columns", function()
    it("has room for all of them on any stack", function()
      local obj <close> = load "maps"
      fill(obj, 64)
      local columns = {}
      for i = 1, 32 do columns[i] = "label" end
      local f, s = obj.maps.flows:pairs(table.unpack(columns))
      for i = 1, 40 do -- the arguments move the stack's end to where it hurts
        local args = {}
        for j = 1, i do args[j] = j end
        local values = table.pack(coroutine.resume(coroutine.create(f), s, table.unpack(args)))
        assert.equal(34, values.n)
        assert.same({ true, "", "" }, { values[1], values[3], values[34] })
      end
      columns[33] = "label"
      assert.matches("at most 32 columns",
        select(2, pcall(obj.maps.flows.pairs, obj.maps.flows, table.unpack(columns))))
    end)

    it("gives the key and the named fields' values", function()
      local obj <close> = load "maps"
      fill(obj, 5000)
      obj.maps.flows:update({ saddr = 9, proto = 6 }, { label = "nine" })
      local n = 0
      for k, packets, bytes, label in obj.maps.flows:pairs("packets", "stats.bytes", "label") do
        n = n + 1
        if packets ~= k.saddr or bytes ~= 100 * k.saddr or
          label ~= (k.saddr == 9 and "nine" or "") then error("torn " .. k.saddr) end
      end
      assert.equal(5000, n)
    end)

    it("gives a CPU's value of a per-CPU map", function()
      local obj <close> = load "shapes"
      obj.maps.cpu_triples[1] = { { a = 1, c = 5 } }
      for k, c in obj.maps.cpu_triples:pairs("[0].c") do assert.same({ 1, 5 }, { k, c }) end
    end)

    it("without names is pairs", function()
      local obj <close> = load "maps"
      obj.maps.flows[{ saddr = 1 }] = { packets = 4 }
      for k, v in obj.maps.flows:pairs() do assert.same({ 1, 4 }, { k.saddr, v.packets }) end
    end)

    it("refuses what is no scalar field, with a near name", function()
      local obj <close> = load "maps"
      assert.equal([[
resolve 'pakets': no field 'pakets' in struct flow
hint: did you mean 'packets'?]], mistake(function() obj.maps.flows:pairs "pakets" end))
      assert.matches("column 'stats' is struct", mistake(function()
        obj.maps.flows:pairs "stats"
      end))
      assert.equal("columns are for structs, and the value is __u64",
        mistake(function() obj.maps.totals:pairs "x" end))
    end)
  end)
end)
