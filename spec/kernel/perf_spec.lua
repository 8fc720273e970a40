-- SPDX-License-Identifier: BSD-2-Clause
-- Perf event arrays by the same reader as rings: a buffer per CPU, lost samples, one reader.
local uv = require "luv"
local bpf = require "moonbee"
local loop = require "moonbee.loop"
local skip = require "support.skip"
local support = require "support.bpf"

local refusal, load = support.refusal, support.load

-- n samples (of so many bytes) into the buffer of the CPU that this runs on.
local function emit(obj, n, bytes)
  obj.vars.bytes = bytes or 256
  for at = 1, n, 512 do
    obj.vars.count = math.min(512, n - at + 1)
    obj.progs.sample:run()
  end
end

local function seqs(r, ...)
  local list = {}
  for s in r:drain(...) do list[#list + 1] = s.seq end
  table.sort(list)
  return list
end

describe("a reader of a perf event array #root", function()
  before_each(skip.root)

  local function samples(options)
    local obj = load "records"
    return obj, obj.maps.samples:reader("struct reading", options)
  end

  it("gives each sample once, as views, as columns and as bytes", function()
    local obj <close>, r = samples()
    assert.same({}, seqs(r))
    emit(obj, 3)
    local n = 0
    for s in r:drain() do
      n = n + 1
      assert.equal("view", bpf.type(s))
      assert.same({ n, -n }, { s.seq, s.delta })
    end
    assert.equal(3, n)
    emit(obj, 2)
    for seq, delta in r:drain("seq", "delta") do
      n = n + 1
      assert.same({ n, -n }, { seq, delta })
    end
    assert.same({ 5, 0, 0 }, { r.stats.consumed, r.stats.lost, r.stats.pending })
    r:close()
    local bytes <close> = obj.maps.samples:reader()
    emit(obj, 1, 16)
    for text in bytes:drain() do
      -- The kernel fills up to 4 bytes beyond a multiple of 8.
      assert.same({ 6, 20 }, { (string.unpack("I8", text)), #text })
    end
  end)

  it("sums up, takes at most max, and what was there when called", function()
    local obj <close>, r = samples()
    emit(obj, 9)
    assert.same({ 1, 2 }, seqs(r, { max = 2 }))
    assert.equal(2, r.stats.consumed)
    local taken = 0
    for _ in r:drain() do
      taken = taken + 1
      if taken == 1 then emit(obj, 4) end
    end
    assert.is_true(taken == 7, taken)
    assert.equal(10 + 11 + 12 + 13, r:sum "seq")
  end)

  it("consumes a sample when its turn ends, and lends it for that long", function()
    local obj <close>, r = samples()
    emit(obj, 3)
    local kept
    for s in r:drain() do
      kept = s
      assert.equal(0, r.stats.consumed)
      if s then break end
    end
    assert.equal(1, r.stats.consumed)
    assert.matches("the record's turn is over", support.mistake(function() return kept.seq end))
    assert.same({ 2, 3 }, seqs(r))
  end)

  it("tears no sample at the end of a buffer, whatever the lengths", function()
    local obj <close>, r = samples { pages = 1 }
    local expected = 0
    for round = 1, support.slow and 200 or 2000 do
      emit(obj, 5, 16 + round % 240)
      for seq, delta, cpu in r:drain("seq", "delta", "cpu") do
        if seq ~= expected + 1 or delta ~= -seq or cpu >= bpf.cpus.possible then
          error(("torn: %d after %d"):format(seq, expected))
        end
        expected = seq
      end
    end
    assert.same({ expected, 0 }, { obj.vars.sampled, r.stats.lost })
  end)

  it("counts what found no room: consumed and lost are what was produced", function()
    local obj <close>, r = samples { pages = 2 }
    emit(obj, 2000)
    emit(obj, 1)
    local n = #seqs(r)
    assert.equal(obj.vars.sampled, n)
    emit(obj, 1)                        -- the kernel tells of the loss before the next sample
    n = n + #seqs(r)
    assert.is_true(obj.vars.refused > 1000)
    assert.equal(2002, obj.vars.seq)
    assert.equal(obj.vars.seq, n + r.stats.lost)
    assert.equal(obj.vars.refused, r.stats.lost)
  end)

  it("reads every CPU's buffer", function()
    skip.unless(#bpf.cpus.online > 1, "one CPU only")
    local obj <close>, r = samples()
    obj.vars.count = 2
    for _, cpu in ipairs(bpf.cpus.online) do obj.progs.sample:run { cpu = cpu } end
    local by_cpu = {}
    for cpu in r:drain "cpu" do by_cpu[cpu] = (by_cpu[cpu] or 0) + 1 end
    for _, cpu in ipairs(bpf.cpus.online) do assert.equal(2, by_cpu[cpu], cpu) end
  end)

  it("waits, and stays readable for who polls until nothing is left", function()
    local obj <close>, r = samples()
    assert.is_false(r:wait(0))
    assert.is_false(r:wait(0.02))
    emit(obj, 3)
    assert.is_true(r:wait())
    assert.is_true(r:wait(10))          -- polled before, and still there
    local poll, seen = uv.new_poll(r.fd), 0
    poll:start("r", function() seen = seen + 1 end)
    uv.run "nowait"
    assert.equal(1, seen)
    for left = 2, 0, -1 do
      assert.equal(1, #seqs(r, { max = 1 }))
      seen = 0
      uv.run "nowait"
      assert.equal(left > 0 and 1 or 0, seen, left)
    end
    poll:close()
    uv.run()
    assert.is_false(r:wait(0))
  end)

  it("is taken by the loop, more samples than one turn has", function()
    local obj <close>, r = samples { pages = 256 }
    emit(obj, 2500, 16)
    local n = 0
    loop.on(r, function()
      n = n + 1
      if n == 2500 then loop.stop "all" end
    end, "seq")
    loop.after(20, function() loop.stop "late" end)
    assert.equal("all", loop.run())
  end)

  it("is the only one of its map", function()
    local obj <close>, r = samples()
    assert.equal("read perf buffer 'samples': it has a reader (EBUSY)\n" ..
      "hint: a perf event array has one reader: close the other first",
      tostring(refusal(function() obj.maps.samples:reader() end)))
    r:close()
    local again <close> = obj.maps.samples:reader "struct reading"
    emit(obj, 1)
    assert.same({ 1 }, seqs(again))
  end)

  it("leaves the buffers when it closes: nobody takes samples then", function()
    local obj <close>, r = samples()
    emit(obj, 1)
    r:close()
    emit(obj, 2)
    assert.same({ 1, 2 }, { obj.vars.sampled, obj.vars.refused })
  end)

  it("takes a size in pages", function()
    local obj <close>, r = samples { pages = 2 }
    local page = r.stats.size // #bpf.cpus.online // 2
    assert.equal(4096, page)
    r:close()
    assert.matches("pages is a power of 2, at most 65536, not 3",
      tostring(refusal(function() obj.maps.samples:reader(nil, { pages = 3 }) end)))
    assert.matches("a ring's size is its max_entries",
      tostring(refusal(function() obj.maps.notes:reader(nil, { pages = 2 }) end)))
    assert.matches("reader has no option 'page'\nhint: did you mean 'pages'",
      support.mistake(function() obj.maps.samples:reader(nil, { page = 2 }) end))
  end)
end)
