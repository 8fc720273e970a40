-- SPDX-License-Identifier: BSD-2-Clause
-- bpf.txn: several fields of a variable as one, for the readers of moonbee.bpf.h.
local uv = require "luv"
local bpf = require "moonbee"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"

local mistake, refusal, load = support.mistake, support.refusal, support.load

-- Runs the pinned program until it returns something.
local READER = [[
local bpf = require "moonbee"
local prog = bpf.pinned(...)
print "ready"
io.stdout:flush()
while prog:run().ret == 0 do end]]

local function set_all(c, n)
  c.a, c.b, c.c = n, n, n
  local list, range = c.list, c.range
  list[0], list[1], list[2], list[3] = n, n, n, n
  range.lo, range.hi = n, n
end

local DIR = string.format("/sys/fs/bpf/moonbee_txn_spec_%d", uv.os_getpid())
local PIN = DIR .. "/look"

describe("bpf.txn #root", function()
  before_each(skip.root)
  after_each(function()
    require "support.leaks".remove(DIR)
  end)

  it("changes a private copy and stores it as one when the function has returned", function()
    local obj <close> = load "txn"
    local cfg = obj.vars.cfg
    cfg.b = 5
    local inside, copied
    local results = table.pack(bpf.txn(cfg, function(c)
      copied = c.b
      c.a, c.b = 1, 2
      inside = { cfg.a, cfg.b, obj.vars.mb_seq_cfg }
      return "nothing of this"
    end))
    assert.same({ 0, 5, 0 }, inside)
    assert.equal(5, copied)
    assert.same({ 1, 2 }, { cfg.a, cfg.b })
    assert.equal(0, results.n)
  end)

  it("stores nested fields, arrays and texts, and leaves the rest as it is", function()
    local obj <close> = load "txn"
    local cfg = obj.vars.cfg
    bpf.txn(cfg, function(c) set_all(c, 3) end)
    bpf.txn(cfg, function(c)
      c.list[2] = 99
      c.range.hi = 77
      c.label = "new"
    end)
    assert.same({ a = 3, b = 3, c = 3, list = { 3, 3, 99, 3 }, range = { lo = 3, hi = 77 },
      label = "new" }, bpf.totable(cfg))
    bpf.txn(cfg, function(c)
      c.list = { 1, 2, 3, 4 }
      bpf.update(c, { range = { lo = 0 } })
    end)
    assert.same({ 1, 2, 3, 4 }, bpf.totable(cfg.list))
    assert.same({ lo = 0, hi = 77 }, bpf.totable(cfg.range))
  end)

  it("is seen whole by the program's reader", function()
    local obj <close> = load "txn"
    bpf.txn(obj.vars.cfg, function(c) set_all(c, 42) end)
    obj.vars.reads = 10
    obj.progs.look:run()
    local ok, failed, torn = 0, 0, 0
    for _, tally in pairs(obj.vars.tally) do
      ok, failed, torn = ok + tally.ok, failed + tally.failed, torn + tally.torn
    end
    assert.same({ 10, 0, 0 }, { ok, failed, torn })
    assert.equal(42, obj.vars.seen.range.hi)
  end)

  it("counts by the word, which is even and unlocked after each", function()
    local obj <close> = load "txn"
    local before = obj.vars.mb_seq_cfg
    for i = 1, 10 do
      bpf.txn(obj.vars.cfg, function(c) c.a = i end)
      assert.equal(0, obj.vars.mb_seq_cfg % 4)
    end
    assert.is_true(obj.vars.mb_seq_cfg > before)
  end)

  it("puts the last whole value beside the variable before it writes", function()
    local obj <close> = load "txn"
    bpf.txn(obj.vars.cfg, function(c) set_all(c, 1) end)
    obj.vars.cfg.label = "by hand"
    bpf.txn(obj.vars.cfg, function(c) set_all(c, 2) end)
    assert.same({ a = 1, b = 1, c = 1, list = { 1, 1, 1, 1 }, range = { lo = 1, hi = 1 },
      label = "by hand" }, bpf.totable(obj.vars.mb_old_cfg))
    assert.equal(2, obj.vars.cfg.a)
  end)

  it("goes on when the word wraps around", function()
    local obj <close> = load "txn"
    obj.vars.mb_seq_cfg = 0xfffffffc
    bpf.txn(obj.vars.cfg, function(c) set_all(c, 7) end)
    assert.equal(0, obj.vars.mb_seq_cfg)
    obj.vars.reads = 1
    obj.progs.look:run()
    assert.equal(7, obj.vars.seen.a)
  end)

  it("leaves the variable and its word as they were when the function raises", function()
    local obj <close> = load "txn"
    local cfg = obj.vars.cfg
    bpf.txn(cfg, function(c) set_all(c, 5) end)
    local before, word = bpf.bytes(cfg), obj.vars.mb_seq_cfg
    local raised = {}
    local ok, err = pcall(bpf.txn, cfg, function(c)
      set_all(c, 6)
      error(raised)
    end)
    assert.is_false(ok)
    assert.equal(raised, err)
    assert.equal("store 'b': 4294967296 is out of range for __u32 (0..4294967295)",
      mistake(function() bpf.txn(cfg, function(c) c.a, c.b = 1, 1 << 32 end) end))
    assert.equal(before, bpf.bytes(cfg))
    assert.equal(word, obj.vars.mb_seq_cfg)
  end)

  it("does nothing to the variable after the end through a copy that was kept", function()
    local obj <close> = load "txn"
    local kept
    bpf.txn(obj.vars.cfg, function(c)
      kept = c
      c.a = 1
    end)
    kept.a = 2
    assert.equal(1, obj.vars.cfg.a)
  end)

  it("may stand in another one", function()
    local obj <close> = load "txn"
    bpf.txn(obj.vars.cfg, function(c)
      bpf.txn(obj.vars.triple, function(t) t.a = 10 end)
      bpf.txn(obj.vars.cfg, function(inner) inner.b = 3 end) -- the outer one's copy does not see it
      c.a = 4
    end)
    assert.equal(10, obj.vars.triple.a)
    assert.same({ 4, 0 }, { obj.vars.cfg.a, obj.vars.cfg.b })
  end)

  it("works on a section's view, and on the image before load", function()
    local obj <close> = support.open "txn"
    bpf.txn(obj.bss.cfg, function(c) set_all(c, 8) end)
    bpf.txn(obj.data.triple, function(t) t.c = 30 end)
    obj:load()
    assert.equal(8, obj.vars.cfg.list[3])
    assert.equal(0, obj.progs.look_triple:run().ret)
    assert.same({ a = 1, b = 2, c = 30 }, bpf.totable(obj.vars.seen_triple))
  end)

  it("writes a variable whose word lies in another section, and a packed one", function()
    local obj <close> = load "txn"
    assert.truthy(bpf.has(obj.sections[".data.words"], "mb_seq_triple"))
    bpf.txn(obj.vars.triple, function(t) t.a, t.b, t.c = 7, 8, 9 end)
    assert.equal(0, obj.progs.look_triple:run().ret)
    assert.same({ a = 7, b = 8, c = 9 }, bpf.totable(obj.vars.seen_triple))
    bpf.txn(obj.vars.odds, function(o) o.a, o.b, o.c = 1, -1, 65535 end)
    assert.same({ a = 1, b = -1, c = 65535 }, bpf.totable(obj.vars.odds))
  end)

  describe("refuses", function()
    it("a variable without a sequence word, and says how to give it one", function()
      local obj <close> = load "txn"
      for _, name in ipairs { "plain", "wrong" } do
        assert.equal("change '" .. name .. "': it has no sequence word\n" ..
          "hint: put MB_SEQ(" .. name .. "); of moonbee.bpf.h after it in C, " ..
          "and read it by MB_SEQ_READ",
          mistake(function() bpf.txn(obj.vars[name], function() error "never called" end) end))
      end
    end)

    it("what is no global variable", function()
      local obj <close> = load "txn"
      local value = obj.types["struct triple"] { a = 1 }
      assert.equal("change 'struct triple': it is no global variable\n" ..
        "hint: bpf.txn(obj.vars.cfg, fn) changes a variable as a whole",
        mistake(function() bpf.txn(value, print) end))
      assert.equal("change '__u64[4]': it is no global variable\n" ..
        "hint: bpf.txn(obj.vars.cfg, fn) changes a variable as a whole",
        mistake(function() bpf.txn(obj.vars.cfg.list, print) end))
      assert.equal("variables together are not changed as one\n" ..
        "hint: change one: bpf.txn(obj.vars.cfg, fn)",
        mistake(function() bpf.txn(obj.vars, print) end))
    end)

    it("a constant after load", function()
      local obj <close> = load "txn"
      assert.matches("^write 'fixed': %.rodata of 'txn' is read%-only\nhint: constants",
        mistake(function() bpf.txn(obj.vars.fixed, print) end))
    end)

    it("other arguments", function()
      local obj <close> = load "txn"
      assert.equal("bad argument #1 to 'txn' (moonbee.view expected, got number)",
        mistake(function() bpf.txn(3, print) end))
      assert.equal("bad argument #2 to 'txn' (function expected, got no value)",
        mistake(function() bpf.txn(obj.vars.cfg) end))
    end)

    it("a view of a closed object, also of one that the function closes", function()
      local obj = load "txn"
      local cfg = obj.vars.cfg
      assert.equal("access 'cfg': object 'txn' is closed",
        mistake(function() bpf.txn(cfg, function() obj:close() end) end))
      assert.equal("access 'cfg': object 'txn' is closed",
        mistake(function() bpf.txn(cfg, function() end) end))
    end)
  end)

  describe("with a writer in another process", function()
    it("takes over the word of one that died, and the last whole value", function()
      local obj <close> = load "txn"
      local vars = obj.vars
      bpf.txn(vars.cfg, function(c) set_all(c, 1) end)
      bpf.txn(vars.cfg, function(c) set_all(c, 2) end)
      -- As it dies in the middle: odd, what was whole is beside, half of it is written.
      vars.mb_old_cfg = vars.cfg
      vars.mb_seq_cfg = vars.mb_seq_cfg + 3
      vars.cfg.a, vars.cfg.b = 3, 3
      vars.reads = 1
      obj.progs.look:run() -- the program reads the last whole value meanwhile
      assert.equal(2, vars.seen.a)
      local start, seen = uv.hrtime(), nil
      bpf.txn(vars.cfg, function(c)
        seen = c.a
        c.label = "mine"
      end)
      assert.is_true((uv.hrtime() - start) / 1e9 < 1)
      assert.equal(2, seen)
      assert.same({ a = 2, b = 2, c = 2, list = { 2, 2, 2, 2 }, range = { lo = 2, hi = 2 },
        label = "mine" }, bpf.totable(vars.cfg))
      assert.equal(0, vars.mb_seq_cfg % 4)
      obj.progs.look:run()
      assert.equal("mine", vars.seen.label)
    end)

    it("takes over the word of one that died before its first change, at any word", function()
      local obj <close> = load "txn"
      local vars = obj.vars
      for _, word in ipairs { 1, 2, 3, 5, 0xfffffffd, 0xfffffffe, 0xffffffff } do
        vars.mb_old_cfg = vars.cfg
        vars.mb_seq_cfg = word
        bpf.txn(vars.cfg, function(c) c.a = word end)
        assert.equal(word, vars.cfg.a)
        -- Past all that the dead one would have set, were it only asleep.
        assert.equal((word | 3) + 5 & 0xffffffff, vars.mb_seq_cfg)
      end
    end)

    it("raises EBUSY while the word is locked again and again", function()
      local obj <close> = load "txn"
      obj.progs.look:pin(PIN)
      -- It holds the lock almost always: a whole txn's states, far longer in the middle.
      local busy <close> = support.script([[
        local bpf = require "moonbee"
        local vars = bpf.vars(bpf.pinned(...), { write = true })
        local word, stop = bpf.ref(vars, "mb_seq_cfg"), bpf.ref(vars, "stop")
        word:set(3)
        print "ready"
        io.stdout:flush()
        while stop:get() == 0 do
          local till = bpf.now_ns() + 1000000
          while bpf.now_ns() < till do end
          word:add(4)
        end
        word:set(0)]], nil, PIN)
      busy:expect "ready"
      local err = refusal(bpf.txn, obj.vars.cfg, function(c) c.a = 1 end)
      assert.equal("change variable 'cfg': another process is writing it (EBUSY)\n" ..
        "hint: one process at a time may write it", tostring(err))
      assert.equal(0, obj.vars.cfg.a)
      obj.vars.stop = 1
      local ended = busy:wait()
      assert.equal("ready\n", ended.out .. ended.err)
      bpf.txn(obj.vars.cfg, function(c) c.a = 1 end) -- and afterwards it works
      assert.equal(1, obj.vars.cfg.a)
    end)

    it("loses no field when both write, and tears none", function()
      local obj <close> = load "txn"
      obj.progs.look:pin(PIN)
      local rounds = support.slow and 2000 or 20000
      local other <close> = support.script([[
        local bpf = require "moonbee"
        local path, rounds = ...
        local vars = bpf.vars(path, { write = true })
        print "ready"
        io.stdout:flush()
        for i = 1, rounds do
          bpf.txn(vars.cfg, function(c)
            c.a, c.b, c.c = i, i, i
            for n = 0, 3 do c.list[n] = i end
            c.range.lo, c.range.hi = i, i
          end)
        end]], nil, PIN, tostring(rounds))
      other:expect "ready"
      obj.vars.reads = 10
      for i = 1, rounds do
        bpf.txn(obj.vars.cfg, function(c) set_all(c, i) end)
        if i % 100 == 0 then obj.progs.look:run() end
      end
      local ended = other:wait()
      assert.equal("", ended.err)
      obj.progs.look:run()
      for _, tally in pairs(obj.vars.tally) do assert.equal(0, tally.torn) end
      assert.equal(obj.vars.cfg.a, obj.vars.cfg.range.hi)
      assert.equal(0, obj.vars.mb_seq_cfg % 4)
    end)
  end)

  it("never shows a program on any CPU a torn variable, and hardly ever makes it fail", function()
    local commits = os.getenv "MB_HARDGC" and 3000 or support.slow and 20000 or 1000000
    local obj <close> = load "txn"
    local cfg, vars = obj.vars.cfg, obj.vars
    local readers <close> = setmetatable({}, { __close = function(list)
      vars.stop = 1
      for _, reader in ipairs(list) do reader:close() end
    end })
    local path = os.tmpname()
    local script <close> = assert(io.open(path, "w"))
    script:write(READER)
    script:close()
    vars.reads = 10000
    obj.progs.look:pin(PIN)
    for i, cpu in ipairs(bpf.cpus.online) do
      readers[i] = run.start({ "taskset", "-c", tostring(cpu), support.moonbee, "run", path, PIN },
        { timeout = 120 })
      readers[i]:expect "ready"
    end
    os.remove(path)
    local n = 0
    local function change(c) set_all(c, n) end
    local start = uv.hrtime()
    -- a million where the readers leave us that much of the CPUs, else what 40 s allow
    while n < commits and uv.hrtime() - start < 40e9 do
      n = n + 1
      bpf.txn(cfg, change)
    end
    commits = n
    local per_txn = (uv.hrtime() - start) / commits
    assert.is_true(commits >= 300, commits .. " transactions in 40 s")
    vars.stop = 1
    local ok, failed = 0, 0
    for i, cpu in ipairs(bpf.cpus.online) do
      local ended = readers[i]:wait()
      assert.equal("", ended.err)
      local tally = vars.tally[cpu]
      assert.same({ 0, 0 }, { tally.torn, tally.stale }, "CPU " .. cpu)
      assert.is_true(tally.ok > 10000, "CPU " .. cpu .. " read only " .. tally.ok)
      ok, failed = ok + tally.ok, failed + tally.failed
    end
    print(string.format("    %d transactions of %.0f ns beside %d reads on %d CPUs: %d failed",
      commits, per_txn, ok, #bpf.cpus.online, failed))
    assert.is_true(ok / (ok + failed) >= 0.99, failed .. " of " .. ok + failed .. " reads failed")
    assert.is_true(support.slow or per_txn < 50000, per_txn)
  end)
end)
