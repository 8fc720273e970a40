-- SPDX-License-Identifier: BSD-2-Clause
-- m:sum and m:top: reductions over whole maps, by the kernel's batches.
local bpf = require "moonbee"
local skip = require "support.skip"
local support = require "support.bpf"

local mistake, refusal, load = support.mistake, support.refusal, support.load

-- "key=value …", for scalars.
local function text_of(list)
  local words = {}
  for i, entry in ipairs(list) do words[i] = entry.key .. "=" .. entry.value end
  return table.concat(words, " ")
end

describe("a whole map #root", function()
  local obj

  before_each(function()
    skip.root()
    obj = load "numbers"
  end)
  after_each(function()
    if obj then obj:close() end
    obj = nil
  end)

  local function fill(n)
    obj.vars.n = n
    obj.progs.fill:run()
  end

  it("of 100,000 entries sums up to what a Lua loop finds, and has the same greatest", function()
    local n = support.slow and 5000 or 100000
    fill(n)
    local stats = obj.maps.stats
    local bytes, delta, lo, count = 0, 0, 0, 0
    for _, b, d, l in stats:pairs("bytes", "delta", "range.lo") do
      bytes, delta, lo, count = bytes + b, delta + d, lo + l, count + 1
    end
    assert.equal(n, count)
    assert.equal(10 * n * (n - 1) // 2, bytes)
    assert.same({ bytes, delta, lo },
      { stats:sum "bytes", stats:sum "delta", stats:sum "range.lo" })
    assert.equal(("%d=%d %d=%d %d=%d"):format(n - 1, 10 * (n - 1), n - 2, 10 * (n - 2), n - 3,
      10 * (n - 3)), text_of(stats:top(3, "bytes")))
    assert.equal("0=0 1=-1", text_of(stats:top(2, "delta")))
  end)

  describe("sum", function()
    it("is 0 of an empty map", function()
      assert.equal(0, obj.maps.stats:sum "bytes")
      assert.equal(0, obj.maps.keyed:sum())
      assert.equal(0, obj.maps.flat:sum())
      assert.equal(0.0, obj.maps.reals:sum())
    end)

    it("takes scalars of hashes, arrays and LRU hashes, with their sign", function()
      for i = 0, 63 do obj.maps.flat[i] = -i end
      assert.equal(-2016, obj.maps.flat:sum())
      for i = 1, 20 do obj.maps.recent[i] = 1 << 60 end
      local sum = 0
      for _, x in pairs(obj.maps.recent) do sum = sum + x end
      assert.equal(sum, obj.maps.recent:sum()) -- wraps as Lua's does
      for i = 1, 4 do obj.maps.reals[i] = i / 4 end
      assert.equal(2.5, obj.maps.reals:sum())
      for i = 0, 9 do obj.maps.keyed[{ a = i, b = 1 }] = i end
      assert.equal(45, obj.maps.keyed:sum())
    end)

    it("takes fields by path, bitfields, floats and unaligned ones", function()
      local stats = obj.maps.stats
      stats[1] = { kind = 7, bias = -16, score = 0.25, range = { hi = { 0, 65535 } } }
      stats[2] = { kind = 1, bias = 15, score = -1, pairs = { {}, { b = 0xffffffff } } }
      assert.equal(8, stats:sum "kind")
      assert.equal(-1, stats:sum "bias")
      assert.equal(-0.75, stats:sum "score")
      assert.equal(65535, stats:sum "range.hi[1]")
      assert.equal(0xffffffff, stats:sum "pairs[1].b")
      for i = 0, 4 do obj.maps.odd_array[i] = { tag = i, n = 1 << 40, rest = 3 } end
      assert.same({ 10, 5 << 40, 15 }, { obj.maps.odd_array:sum "tag", obj.maps.odd_array:sum "n",
        obj.maps.odd_array:sum "rest" })
    end)

    it("of a per-CPU map is over all CPUs", function()
      local cpus = bpf.cpus.possible
      local all, rows = {}, {}
      for cpu = 1, cpus do
        all[cpu] = 100 * cpu
        rows[cpu] = { bytes = cpu, delta = -cpu, pairs = { { a = 2 * cpu } } }
      end
      obj.maps.cpu_flat[0], obj.maps.cpu_flat[3] = all, all
      assert.equal(2 * 100 * cpus * (cpus + 1) // 2, obj.maps.cpu_flat:sum())
      obj.maps.cpu_rows[7], obj.maps.cpu_rows[8] = rows, rows
      local each = cpus * (cpus + 1) // 2
      assert.same({ 2 * each, -2 * each, 4 * each }, { obj.maps.cpu_rows:sum "bytes",
        obj.maps.cpu_rows:sum "delta", obj.maps.cpu_rows:sum "pairs[0].a" })
    end)
  end)

  describe("top", function()
    it("is sorted, greatest first, and no longer than the map", function()
      for key, value in pairs { 5, -3, 9, 0, 9, -100, 7 } do obj.maps.flat[key] = value end
      assert.same({ 9, 9, 7, 5 }, { obj.maps.flat:top(4)[1].value, obj.maps.flat:top(4)[2].value,
        obj.maps.flat:top(4)[3].value, obj.maps.flat:top(4)[4].value })
      local all = obj.maps.flat:top(1000000)
      assert.equal(64, #all)
      for i = 2, 64 do assert.is_true(all[i - 1].value >= all[i].value) end
      assert.same({ key = 6, value = -100 }, all[64])
      assert.same({ { key = 1, value = 3 } },
        (function() obj.maps.recent[1] = 3 return obj.maps.recent:top(10) end)())
      assert.same({}, obj.maps.keyed:top(3))
    end)

    it("of ties has as many of them as fit, each key once", function()
      for i = 0, 63 do obj.maps.flat[i] = 7 end
      obj.maps.flat[20] = 8
      local seen = {}
      for _, entry in ipairs(obj.maps.flat:top(10)) do
        assert.is_nil(seen[entry.key])
        seen[entry.key] = entry.value
      end
      assert.equal(8, seen[20])
      seen[20] = nil
      local n = 0
      for _, value in pairs(seen) do
        n = n + 1
        assert.equal(7, value)
      end
      assert.equal(9, n)
    end)

    it("compares unsigned values as such", function()
      for i, value in ipairs { 5, -1, 1 << 63, 7 } do obj.maps.recent[i] = value end
      assert.equal("2=-1 3=" .. (1 << 63) .. " 4=7 1=5", text_of(obj.maps.recent:top(9)))
    end)

    it("has keys that are structs as views, good after the map has closed", function()
      for i = 1, 9 do obj.maps.keyed[{ a = i, b = 10 * i }] = i * i end
      local top = obj.maps.keyed:top(2)
      obj:close()
      assert.same({ { a = 9, b = 90 }, 81 }, { bpf.totable(top[1].key), top[1].value })
      assert.equal(8, top[2].key.a)
      assert.equal("struct pair", bpf.typeof(top[2].key).name)
    end)

    it("deletes by the keys it gave", function()
      for i = 1, 9 do obj.maps.keyed[{ a = i }] = i end
      for _, entry in ipairs(obj.maps.keyed:top(5)) do
        assert.is_true(obj.maps.keyed:delete(entry.key))
      end
      assert.equal(4, obj.maps.keyed:count())
      assert.equal(10, obj.maps.keyed:sum())
    end)

    it("of a per-CPU map compares the sums over CPUs", function()
      local function spread(n)
        local list = {}
        for cpu = 1, bpf.cpus.possible do list[cpu] = { bytes = n, delta = -n, score = n / 2 } end
        return list
      end
      for i = 1, 5 do obj.maps.cpu_rows[i] = spread(i) end
      local cpus = bpf.cpus.possible
      assert.equal(("5=%d 4=%d"):format(5 * cpus, 4 * cpus),
        text_of(obj.maps.cpu_rows:top(2, "bytes")))
      assert.equal("1=" .. -cpus, text_of(obj.maps.cpu_rows:top(1, "delta")))
      assert.equal(2.5 * cpus, obj.maps.cpu_rows:top(1, "score")[1].value)
    end)

    it("takes what is no number for the least", function()
      for i, value in ipairs { 1.5, 0 / 0, -1e300, 2 } do obj.maps.reals[i] = value end
      local top = obj.maps.reals:top(4)
      assert.same({ 4, 1, 3, 2 }, { top[1].key, top[2].key, top[3].key, top[4].key })
    end)

    it("wants a number of entries", function()
      for _, n in ipairs { 0, -1, 1000001 } do
        assert.equal("bad argument #1 to 'top' (from 1 to 1000000)",
          mistake(function() obj.maps.flat:top(n) end))
      end
      assert.equal("bad argument #1 to 'top' (number expected, got no value)",
        mistake(function() obj.maps.flat:top() end))
    end)
  end)

  describe("refuses", function()
    it("values that are structs without a path", function()
      assert.equal("the value is struct row\nhint: name a field: m:sum(\"bytes\")",
        mistake(function() obj.maps.stats:sum() end))
      assert.equal("the value is struct row\nhint: name a field: m:top(10, \"bytes\")",
        mistake(function() obj.maps.stats:top(3) end))
    end)

    it("a path of a value without fields, and wrong paths", function()
      assert.equal("the value is __u64 and has no fields",
        mistake(function() obj.maps.recent:sum "x" end))
      assert.equal("resolve 'bites': no field 'bites' in struct row\nhint: did you mean 'bytes'?",
        mistake(function() obj.maps.stats:sum "bites" end))
      assert.equal("index 'struct pair[2]': struct pair[2] has no element 2 (0..1)",
        mistake(function() obj.maps.stats:sum "pairs[2].a" end))
    end)

    it("what is no number", function()
      assert.equal("reduce 'name': char[4] is no number",
        mistake(function() obj.maps.stats:sum "name" end))
      assert.matches("^reduce '[^']+': [^ ]+ is no number$",
        mistake(function() obj.maps.words:sum() end))
    end)

    it("a map without keys, one that is not loaded and one that is closed", function()
      assert.equal("ringbuf 'ring' has no keys\nhint: use m:reader() for its events",
        mistake(function() obj.maps.ring:sum() end))
      local open <close> = support.open "numbers"
      assert.equal("walk map 'flat': its object is not loaded (EINVAL)\n" ..
        "hint: call obj:load() first", tostring(refusal(open.maps.flat.sum, open.maps.flat)))
      local flat = obj.maps.flat
      obj:close()
      assert.equal("attempt to use closed map 'flat'", mistake(function() flat:sum() end))
    end)
  end)
end)
