-- SPDX-License-Identifier: BSD-2-Clause
-- Views of a loaded object: the same memory that the BPF program works on. `observe` copies what it
-- sees into .bss, once per call.
local bpf = require "moonbee"
local mistake = require "support.mistake"
local skip = require "support.skip"

local FIXTURE = (os.getenv "MB_BUILD" or "build") .. "/fixtures/types.bpf.o"

describe("a view of a loaded object #root", function()
  local obj, v

  -- Runs the BPF program once and returns what it saw.
  local function observe()
    obj.progs.observe:run()
    return v.seen
  end

  before_each(function()
    skip.root()
    obj = bpf.open(FIXTURE)
    v = obj.vars
  end)
  after_each(function()
    if obj then obj:close() end
    obj, v = nil, nil                   -- views keep the mapping, though they show nothing of it
  end)

  it("is what the BPF program reads, at once", function()
    obj:load()
    v.cfg.rate, v.cfg.mode, v.flags.delta, v.straddle.cross = 77, "MODE_STRICT", -16, 0x3fffffff
    v.cfg.limits[3].burst, v.v_u8, v.v_bool, v.name, v.tune_rate = 5, 255, false, "live", 1 << 31
    assert.equal(77, obj.progs.observe:run().ret)
    assert.same({ rate = 77, burst = 5, mode = 10, version = 3, tune = 1 << 31, delta = -16,
      cross = 0x3fffffff, u8 = 255, on = false, name = "live" }, bpf.totable(v.seen))
    v.cfg.rate = 78
    assert.equal(78, observe().rate)
    bpf.update(v.cfg, { limits = { [0] = {}, [3] = { burst = 6 } } })
    assert.equal(6, observe().burst)
    v.cfg.limits = { { rate = 0, burst = 0 } }
    assert.equal(0, observe().burst)
    v.straddle = { lead = 7, cross = 1, scross = -1, lots = 0, slots = -1 }
    assert.equal(1, observe().cross)
  end)

  it("shows what the BPF program writes, at once", function()
    obj:load()
    local seen, hits = v.seen, bpf.ref(v, "hits")
    for i = 1, 3 do
      observe()
      assert.equal(i, v.hits)
      assert.equal(i, hits:get())
      assert.equal(i, obj.bss.hits)
    end
    assert.equal(10, seen.rate)
    assert.equal("moonbee", seen.name)
    assert.equal(-9, seen.delta)
  end)

  it("has what was set before the load, constants too", function()
    v.c_version, v.cfg.rate, v.tune_rate, v.hits = 42, 5, 6, 100
    obj:load()
    local seen = observe()
    assert.same({ 42, 5, 6, 101 }, { seen.version, seen.rate, seen.tune, v.hits })
    assert.equal(42, v.c_version)
  end)

  it("may have been made before the load", function()
    local cfg, limits, limit, bss = v.cfg, v.cfg.limits, v.cfg.limits[3], obj.bss
    local tune, rate, hits = obj.sections[".data.tune"], bpf.ref(v, "cfg.rate"), bpf.ref(v, "hits")
    obj:load()
    assert.equal(cfg, v.cfg)
    limit.burst = 9
    rate:set(8)
    tune.tune_rate = 7
    local seen = observe()
    assert.same({ 8, 9, 7, 1, 1 }, { seen.rate, seen.burst, seen.tune, bss.hits, hits:get() })
    assert.same({ 8, 9 }, { cfg.rate, limits[3].burst })
  end)

  it("is read-only where it is constant: reads, raises and hints", function()
    local version, limits, before = bpf.ref(v, "c_version"), v.c_limits, obj.rodata
    obj:load()
    local hint = ".rodata of 'types' is read-only\nhint: constants are fixed at load: set it "
      .. "before obj:load(), or declare it volatile without const to tune it live"
    assert.equal("write 'c_version': " .. hint, mistake(function() v.c_version = 4 end))
    assert.equal("write 'c_version': " .. hint, mistake(function() before.c_version = 4 end))
    assert.equal("write 'c_version': " .. hint, mistake(function() version:set(4) end))
    assert.equal("write 'c_version': " .. hint, mistake(function() version:add(1) end))
    assert.equal("write 'c_limits[0].rate': " .. hint, mistake(function() limits[0].rate = 4 end))
    assert.equal("write 'c_limits': " .. hint,
      mistake(function() v.c_limits = { { rate = 1, burst = 1 } } end))
    assert.equal("write 'c_name': " .. hint,
      mistake(function() bpf.update(v, { c_name = "x" }) end))
    assert.equal(3, v.c_version)
    assert.same({ 3, "fixture", 4, 0.5, 99 }, { version:get(), v.c_name, limits[1].burst, v.c_ratio,
      v.v_const })
    local copy = bpf.copy(before)
    copy.c_version = 4                  -- its own memory
    assert.equal(4, copy.c_version)
  end)

  it("writes nothing when a part of the store is constant", function()
    obj:load()
    mistake(function() bpf.update(v, { hits = 5, tune_rate = 1, c_version = 9 }) end)
    assert.same({ 0, 100, 3 }, { v.hits, v.tune_rate, v.c_version })
  end)

  it("ends when the object is closed, however it was made", function()
    local cfg = v.cfg
    obj:load()
    local limit, rate, bss = v.cfg.limits[2], bpf.ref(v, "cfg.rate"), obj.bss
    local copy = bpf.copy(cfg)
    obj:close()
    local closed = ": object 'types' is closed"
    assert.equal("access 'hits'" .. closed, mistake(function() return v.hits end))
    assert.equal("access 'hits'" .. closed, mistake(function() v.hits = 1 end))
    assert.equal("access 'hits'" .. closed, mistake(function() return bss.hits end))
    assert.equal("access 'cfg.rate'" .. closed, mistake(function() return cfg.rate end))
    assert.equal("access 'cfg.limits[2].burst'" .. closed, mistake(function() limit.burst = 1 end))
    assert.equal("access 'cfg.rate'" .. closed, mistake(function() return rate:get() end))
    assert.equal("access 'cfg.rate'" .. closed, mistake(function() rate:add(1) end))
    assert.equal("access 'c_version'" .. closed, mistake(function() v.c_version = 1 end))
    assert.equal(10, copy.rate)
  end)

  it("of a section of its own is tuned like any other", function()
    obj:load()
    local tune = obj.sections[".data.tune"]
    assert.same({ tune_rate = 100, tune_on = true, tune_limit = { rate = 5, burst = 9 } },
      bpf.totable(tune))
    tune.tune_rate = 3
    assert.equal(3, observe().tune)
    assert.equal(3, v.tune_rate)
  end)

  it("may span pages", function()
    obj:load()
    local counters = v.counters
    assert.equal(8192, bpf.sizeof(counters))
    local numbers = {}
    for i = 0, 1023 do numbers[i + 1] = i * 3 end
    v.counters = numbers
    assert.same(numbers, bpf.totable(counters))
    counters[1023] = -1
    assert.equal(-1, bpf.ref(v, "counters[1023]"):add(2))
    assert.equal(1, counters[1023])
    assert.equal(8192, #bpf.bytes(counters))
    assert.equal("index 'counters': __u64[1024] has no element 1024 (0..1023)",
      mistake(function() return counters[1024] end))
  end)

  it("is changed atomically from both sides: no addition is lost", function()
    obj:load()
    local hits = bpf.ref(v, "hits")
    local ours, theirs = 0, 0
    for i = 1, 200 do
      obj.progs.observe:run()
      theirs = theirs + 1
      hits:add(i)
      ours = ours + i
    end
    assert.equal(ours + theirs, v.hits)
    assert.equal(ours + theirs, hits:xchg(0))
    obj.progs.observe:run()
    assert.equal(1, hits:cas(1, 50))
    obj.progs.observe:run()
    assert.equal(51, v.hits)
  end)

  it("keeps object and memory when nothing else refers to them", function()
    obj:load()
    local cfg, hits = v.cfg, bpf.ref(v, "hits")
    obj, v = nil, nil
    collectgarbage()
    collectgarbage()
    cfg.rate = 5
    assert.equal(5, cfg.rate)
    assert.equal(0, hits:add(2))
    assert.equal(2, hits:get())
  end)

  it("of an object whose load failed has what was set", function()
    obj:close()
    obj = bpf.open((os.getenv "MB_BUILD" or "build") .. "/fixtures/reject.bpf.o")
    v = obj.vars
    local ok, err = pcall(obj.load, obj)
    assert.falsy(ok)
    assert.equal("error", bpf.type(err))
    assert.equal("failed", obj.state)
    for name in pairs(v) do assert.truthy(name) end
  end)
end)
