-- SPDX-License-Identifier: BSD-2-Clause
-- Readers of ring buffers: drains, leases, what is consumed when, and that nothing is lost or torn.
local uv = require "luv"
local bpf = require "moonbee"
local skip = require "support.skip"
local support = require "support.bpf"

local mistake, refusal, load = support.mistake, support.refusal, support.load

local STALE = "access 'seq': the record's turn is over\n" ..
  "hint: bpf.copy(ev) keeps an event beyond its turn"

-- n records into obj's ring, on top of what is there; options are variables of events.bpf.c.
local function emit(obj, n, options)
  for _, name in ipairs { "discard_every", "short_bytes" } do
    obj.vars[name] = options and options[name] or 0
  end
  obj.vars.quiet = options and options.quiet or false
  obj.vars.count = n
  obj.progs.emit:run()
end

local function seqs(r, ...)
  local list = {}
  for ev in r:drain(...) do list[#list + 1] = ev.seq end
  return list
end

describe("a reader #root", function()
  before_each(skip.root)

  local function events(options)
    local obj = load("events", options)
    return obj, obj.maps.events:reader "struct event"
  end

  describe("drained", function()
    it("gives each record once, in order, as a view", function()
      local obj <close>, r = events()
      assert.same({}, seqs(r))
      emit(obj, 3)
      local n = 0
      for ev in r:drain() do
        n = n + 1
        assert.equal("view", bpf.type(ev))
        assert.equal("struct event", bpf.typeof(ev).name)
        assert.same({ n, n, -n, n % 2, n, 53, uv.os_getpid() },
          { ev.seq, ev.len, ev.delta, ev.kind, ev.ports.sport, ev.ports.dport, ev.pid })
        assert.equal(7, ev.payload[7])
        assert.is_true(ev.ts <= bpf.now_ns())
        assert.is_true(#ev.comm > 0)
      end
      assert.equal(3, n)
      assert.same({}, seqs(r))
    end)

    it("tells columns of a record that a finalizer ended between two of them", function()
      local obj <close> = load "events"
      local gc <close> = setmetatable({}, { __close = function()
        collectgarbage("incremental", 200, 100, 13)
      end })
      assert.truthy(gc)
      collectgarbage("incremental", 1, 1000, 2)
      for _ = 1, 1000 do
        local r = obj.maps.events:reader "struct event"
        emit(obj, 40)
        local turn = 0
        local ok, text = pcall(function()
          for comm, len, again in r:drain("comm", "len", "comm") do
            if len == 0 or comm ~= again then error "torn" end
            turn = turn + 1
            if turn > 3 then setmetatable({}, { __gc = function() r:close() end }) end
          end
        end)
        if not ok then assert.matches("reader .* closed", text) end
        r:close()
      end
    end)

    it("gives columns as values", function()
      local obj <close>, r = events()
      emit(obj, 3)
      local n = 0
      for seq, delta, port, byte, comm in r:drain("seq", "delta", "ports.dport", "payload[3]",
        "comm") do
        n = n + 1
        assert.same({ n, -n, 53, 3, "string" }, { seq, delta, port, byte, type(comm) })
      end
      assert.equal(3, n)
    end)

    it("gives bytes without a type", function()
      local obj <close> = load "events"
      local r <close> = obj.maps.events:reader()
      emit(obj, 2)
      local n = 0
      for bytes in r:drain() do
        n = n + 1
        local ev = bpf.cast(obj.types["struct event"], bytes)
        assert.equal(n, ev.seq)
        assert.equal(bpf.sizeof(ev), #bytes)
      end
      assert.equal(2, n)
      assert.equal("a reader without type has no columns\nhint: " ..
        "m:reader(\"struct event\") says what a record is",
        mistake(function() r:drain "seq" end))
    end)

    it("takes what was there when called, at most max", function()
      local obj <close>, r = events()
      emit(obj, 5)
      assert.same({ 1, 2 }, seqs(r, { max = 2 }))
      assert.same({}, seqs(r, { max = 0 }))
      local list = {}
      for ev in r:drain() do
        list[#list + 1] = ev.seq
        if #list == 1 then emit(obj, 4) end
      end
      assert.same({ 3, 4, 5 }, list)
      assert.same({ 6, 7, 8, 9 }, seqs(r))
      for seq in r:drain({ max = 1 }, "seq") do list = seq end
      assert.same({ 3, 4, 5 }, list)
      assert.equal("drain has no option 'mx'\nhint: did you mean 'max'?",
        (mistake(function() r:drain { mx = 1 } end)))
    end)

    it("passes over discarded records", function()
      local obj <close>, r = events()
      emit(obj, 10, { discard_every = 2 })
      assert.same({ 1, 3, 5, 7, 9 }, seqs(r))
      emit(obj, 3, { discard_every = 1 })
      assert.same({}, seqs(r))
      assert.equal(0, r.stats.pending)
      assert.same({ 5, 8 }, { r.stats.consumed, obj.vars.discarded })
    end)

    it("refuses unknown types and columns with a near name", function()
      local obj <close>, r = events()
      assert.matches("did you mean 'seq'", mistake(function() r:drain "seqq" end))
      assert.matches("column 'ports' is struct", mistake(function() r:drain "ports" end))
      assert.matches("find type 'struct evnt': no such type in the BTF of events %(ENOENT%)",
        tostring(refusal(function() obj.maps.events:reader "struct evnt" end)))
      assert.matches("records are structs, not", mistake(function()
        obj.maps.events:reader "__u32"
      end))
    end)

    it("is for rings", function()
      local obj <close> = load "maps"
      assert.equal("read ring 'totals': a map of type hash has no events (EINVAL)",
        tostring(refusal(function() obj.maps.totals:reader() end)))
    end)
  end)

  describe("consumes a record", function()
    it("when its turn ends: not before, and also by break", function()
      local obj <close>, r = events()
      emit(obj, 4)
      local pending = r.stats.pending
      for ev in r:drain() do
        assert.equal(1, ev.seq)
        assert.equal(pending, r.stats.pending)
        if ev then break end
      end
      assert.is_true(r.stats.pending < pending)
      assert.equal(1, r.stats.consumed)
      assert.same({ 2, 3, 4 }, seqs(r))
    end)

    it("when an error leaves the loop", function()
      local obj <close>, r = events()
      emit(obj, 3)
      assert.has_error(function()
        for _ in r:drain() do error("out", 0) end
      end, "out")
      assert.has_error(function()
        for _ in r:drain "seq" do error("out", 0) end
      end, "out")
      assert.same({ 3 }, seqs(r))
    end)

    it("when a drain that was left by other means is collected", function()
      local obj <close>, r = events()
      emit(obj, 3)
      do
        local step, state = r:drain()
        assert.equal(1, step(state).seq)
      end
      collectgarbage()
      collectgarbage()
      assert.same({ 2, 3 }, seqs(r))
    end)
  end)

  describe("lends its records", function()
    it("for one turn: a kept view raises and never shows another record", function()
      local obj <close>, r = events()
      emit(obj, 2)
      local kept, ports
      for ev in r:drain() do
        if kept then
          assert.equal(STALE, mistake(function() return kept.seq end))
          assert.matches("the record's turn is over", mistake(function() return ports.dport end))
        end
        kept, ports = ev, ev.ports
      end
      assert.equal(STALE, mistake(function() return kept.seq end))
      assert.matches("the record's turn is over", mistake(function() return kept.comm end))
      assert.matches("the record's turn is over", mistake(function() return bpf.copy(kept) end))
      assert.matches("the record's turn is over", mistake(function() return bpf.bytes(kept) end))
    end)

    it("and bpf.copy keeps one", function()
      local obj, r = events()
      emit(obj, 2)
      local kept = {}
      for ev in r:drain() do kept[#kept + 1] = bpf.copy(ev) end
      r:close()
      obj:close()
      collectgarbage()
      assert.same({ 1, 2, -2, 53 },
        { kept[1].seq, kept[2].seq, kept[2].delta, kept[2].ports.dport })
      kept[1].seq = 7                   -- and it is a value of its own
      assert.equal(7, kept[1].seq)
    end)

    it("read-only", function()
      local obj <close>, r = events()
      emit(obj, 1)
      for ev in r:drain() do
        assert.equal("write 'seq': a record of 'events' is read-only\n" ..
          "hint: bpf.copy(ev) makes a value that can be changed",
          mistake(function() ev.seq = 1 end))
      end
    end)

    it("though they are too short: it names the type", function()
      local obj <close>, r = events()
      emit(obj, 2, { short_bytes = 20 })
      local n = 0
      for ev in r:drain() do
        n = n + 1
        assert.equal(n, ev.len)
        assert.equal("access 'seq': it ends at byte 48, but a record of 'events' has only 20\n" ..
          "hint: the record is shorter than struct event",
          mistake(function() return ev.seq end))
        assert.matches("the record is shorter than struct event",
          mistake(function() return ev.ports.sport end))
        assert.is_string(mistake(function() return bpf.copy(ev) end))
      end
      assert.equal(2, n)
      emit(obj, 2, { short_bytes = 20 })
      assert.matches("the record is shorter than struct event", mistake(function()
        for _ in r:drain("len", "seq") do n = n + 1 end
      end))
      assert.equal(2, n)                -- no turn began, and the short one is consumed
      for len in r:drain "len" do n = n + len end
      assert.equal(2 + 4, n)
    end)
  end)

  describe("drained twice at a time", function()
    it("refuses the inner drain, and goes on with the outer one", function()
      local obj <close>, r = events()
      emit(obj, 3)
      local list = {}
      for ev in r:drain() do
        list[#list + 1] = ev.seq
        local err = refusal(function() for _ in r:drain() do list = nil end end)
        assert.equal([[
read ring 'events': it is being drained (EBUSY)
hint: one drain at a time: let the other loop end, or break out of it]], tostring(err))
        assert.equal(#list, ev.seq)
      end
      assert.same({ 1, 2, 3 }, list)
    end)

    it("by two readers: refused within a turn, else each record goes to one of them", function()
      local obj <close>, a = events()
      local b <close> = obj.maps.events:reader "struct event"
      emit(obj, 6)
      assert.same({ 1, 2 }, seqs(a, { max = 2 }))
      assert.same({ 3 }, seqs(b, { max = 1 }))
      for ev in a:drain() do
        assert.equal(4, ev.seq)
        assert.matches("it is being drained by another reader (EBUSY)",
          tostring(refusal(function() b:drain() end)), 1, true)
        a:close()
      end
      assert.same({ 5, 6 }, seqs(b))
    end)

    it("by a reader of the same ring elsewhere: nothing comes twice", function()
      local obj <close>, a = events()
      local path = ("/sys/fs/bpf/mbspec-%d"):format(uv.os_getpid())
      obj.maps.events:pin(path)
      local m <close> = bpf.pinned(path)
      m:unpin()
      local b <close> = m:reader()
      emit(obj, 6)
      local list = {}
      for ev in a:drain() do
        list[#list + 1] = ev.seq
        if ev.seq == 2 then
          for _ in b:drain { max = 3 } do list[#list + 1] = "b" end   -- 2 again, 3, 4
        end
      end
      assert.same({ 1, 2, "b", "b", "b", 5, 6 }, list)
      assert.equal(0, a.stats.pending)
    end)
  end)

  describe("closed", function()
    it("inside its loop ends it, and its views", function()
      local obj <close>, r = events()
      emit(obj, 3)
      local n, kept = 0, nil
      for ev in r:drain() do
        n, kept = n + 1, ev
        r:close()
      end
      assert.equal(1, n)
      assert.matches("its reader is closed", mistake(function() return kept.seq end))
      assert.is_true(r.closed)
      assert.equal("closed reader", bpf.type(r))
      assert.equal("moonbee.reader (closed)", tostring(r))
      for _, call in ipairs {
        function() r:drain() end, function() r:wait(0) end, function() return r.stats end,
        function() return r.fd end,
      } do
        assert.equal("attempt to use closed reader 'events'", mistake(call))
      end
      r:close()
      local again <close> = obj.maps.events:reader "struct event"
      assert.same({ 2, 3 }, seqs(again))
    end)

    it("is not what the map and the object are: it lives on", function()
      local obj, r = events()
      emit(obj, 3)
      local list = {}
      for ev in r:drain() do
        list[#list + 1] = ev.seq
        if ev.seq == 1 then obj.maps.events:close() end
        if ev.seq == 2 then
          obj:close()
          obj = nil
          collectgarbage()
        end
      end
      assert.same({ 1, 2, 3 }, list)
      assert.is_false(r:wait(0))
      r:close()
    end)

    it("by the collector ends its views", function()
      local obj <close> = load "events"
      emit(obj, 1)
      local kept
      do
        local r = obj.maps.events:reader "struct event"
        for ev in r:drain() do kept = ev end
      end
      collectgarbage()
      assert.equal(STALE, mistake(function() return kept.seq end))
    end)
  end)

  describe("waiting", function()
    it("returns true when something is there, false when the time is over", function()
      local obj <close>, r = events()
      local from = uv.hrtime()
      assert.is_false(r:wait(0))
      assert.is_false(r:wait(0.05))
      assert.is_true(uv.hrtime() - from >= 0.05e9)
      emit(obj, 1)
      assert.is_true(r:wait())
      assert.is_true(r:wait(10))
      seqs(r)
      assert.is_false(r:wait(0))
    end)

    it("sees what was written without a wake-up", function()
      local obj <close>, r = events()
      emit(obj, 2, { quiet = true })
      assert.is_true(r:wait(0))
      assert.same({ 1, 2 }, seqs(r))
    end)

    it("ends with the event of another process", function()
      local obj <close> = support.open "events"
      obj.vars.who = 4242
      obj:load()
      local link <close> = obj.progs.on_getpriority:attach()
      local r <close> = obj.maps.events:reader "struct event"
      local p <close> = support.script([[
        io.stdin:read()
        require "luv".os_getpriority(4242)]])
      p:write "go\n"
      assert.is_true(r:wait(20))
      for ev in r:drain() do assert.same({ 4242, 2 }, { ev.len, ev.kind }) end
      p:wait()
      assert.is_not_nil(link)
    end)

    it("takes its time whatever other signals come", function()
      local p <close> = support.script([[
        local bpf, uv = require "moonbee", require "luv"
        local obj <close> = bpf.load(arg[1])
        local r <close> = obj.maps.events:reader()
        local signal = uv.new_signal()
        signal:start("sigusr1", function() end)
        local from = uv.hrtime()
        print "ready"
        print(r:wait(1), uv.hrtime() - from >= 1e9)]], nil, support.fixture "events")
      p:expect "ready"
      for _ = 1, 3 do
        uv.sleep(50)
        p:kill "sigusr1"
      end
      assert.equal("ready\nfalse\ttrue\n", p:wait().out)
    end)

    it("for ever ends with a SIGINT", function()
      local p <close> = support.script([[
        local obj <close> = require "moonbee".load(arg[1])
        local r <close> = obj.maps.events:reader()
        print "ready"
        r:wait()
        print "done"]], nil, support.fixture "events")
      p:expect "ready"
      p:kill "sigint"
      assert.same({ 130, "ready\n" }, { p:wait().rc, p.out })
    end)

    it("needs a time that is a number", function()
      local _ <close>, r = events()
      assert.equal("wait for 'events': the time is no number (EINVAL)",
        tostring(refusal(function() r:wait(0 / 0) end)))
    end)

    it("has a descriptor that poll knows", function()
      local obj <close>, r = events()
      local poll, seen = uv.new_poll(r.fd), 0
      poll:start("r", function() seen = seen + 1 poll:stop() end)
      uv.run "nowait"
      assert.equal(0, seen)
      emit(obj, 1)
      uv.run "nowait"
      assert.equal(1, seen)
      poll:close()
      uv.run()
    end)
  end)

  describe("summed up", function()
    it("takes in runs of any length, with other records in between", function()
      local obj <close>, r = events()
      local record = bpf.sizeof(obj.types["struct event"] {})
      local expected, taken = 0, 0
      for _, run in ipairs { { 1 }, { 600 }, { 7, { discard_every = 2 } }, { 255 },
        { 3, { short_bytes = 48 } }, { 2, { short_bytes = 49 } }, { 257 },
        { 5, { discard_every = 1 } }, { 2 } } do
        local n, options = run[1], run[2]
        local first, every = obj.vars.seq, options and options.discard_every
        emit(obj, n, options)
        for i = first + 1, first + n do
          if not every or i % every ~= 0 then expected, taken = expected + i, taken + 1 end
        end
      end
      assert.is_true(record > 49)
      assert.equal(expected, r:sum "seq")
      assert.same({ taken, 0 }, { r.stats.consumed, r.stats.pending })
      assert.equal(0, r:sum "seq")
    end)

    it("goes round a small ring many times", function()
      local obj <close>, r = events { max_entries = { events = 4096 } }
      for _ = 1, 300 do
        local first, before = obj.vars.seq, obj.vars.submitted
        emit(obj, 60)                   -- more than there is room for
        local n = obj.vars.submitted - before
        assert.equal(n * first + n * (n + 1) // 2, r:sum "seq")
        assert.equal(0, r.stats.pending)
      end
      assert.equal(obj.vars.submitted, r.stats.consumed)
    end)

    it("consumes the one that is too short, and keeps those behind it", function()
      local obj <close>, r = events()
      emit(obj, 3)
      emit(obj, 1, { short_bytes = 20 })
      emit(obj, 2)
      assert.matches("it ends at byte 48, but a record of 'events' has only 20",
        tostring(select(2, pcall(r.sum, r, "seq"))), 1, true)
      assert.equal(4, r.stats.consumed)
      assert.equal(5 + 6, r:sum "seq")
    end)
  end)

  it("tells consumed, pending, size", function()
    local obj <close>, r = events { max_entries = { events = 8192 } }
    assert.same({ consumed = 0, pending = 0, size = 8192 }, r.stats)
    emit(obj, 3)
    local record = (bpf.sizeof(obj.types["struct event"] {}) + 8 + 7) // 8 * 8
    assert.same({ consumed = 0, pending = 3 * record, size = 8192 }, r.stats)
    seqs(r)
    assert.same({ consumed = 3, pending = 0, size = 8192 }, r.stats)
    assert.equal("events", r.name)
    assert.equal("moonbee.reader 'events'", tostring(r))
  end)

  it("stops before a record that is not finished, and goes on when it is", function()
    local obj <close> = load "shapes"
    local r <close> = obj.maps.ring:reader "struct record"
    local path = ("/sys/fs/bpf/mbspec-%d"):format(uv.os_getpid())
    obj.progs.append:run()
    obj.progs.reserve:pin(path)
    local _ <close> = setmetatable({}, { __close = function() os.remove(path) end })
    local p <close> = support.script([[
      os.exit(require "moonbee".pinned(arg[1]):run().ret)]], nil, path)
    support.until_true(function() return obj.vars.reserved == 1 end)
    obj.progs.append:run()              -- finished, but behind the one that is not
    assert.same({ 1 }, seqs(r))
    assert.same({}, seqs(r))
    assert.is_true(r.stats.pending > 0)
    obj.vars.go = 1
    assert.equal(0, p:wait().rc)
    assert.same({ 1, 2 }, seqs(r))
  end)

  describe("of a small ring", function()
    it("goes round it many times, and counts what found no room", function()
      local obj <close>, r = events { max_entries = { events = 4096 } }
      local rounds = support.slow and 300 or 3000
      local n = 0
      for _ = 1, rounds do
        emit(obj, 60)                   -- more than there is room for
        for seq, delta, len in r:drain("seq", "delta", "len") do
          n = n + 1
          if delta ~= -seq or len ~= seq then error("torn record " .. seq) end
        end
      end
      assert.equal(rounds * 60, obj.vars.submitted + obj.vars.failed)
      assert.equal(obj.vars.submitted, n)
      assert.is_true(obj.vars.failed > 0)
      assert.equal(0, r.stats.pending)
    end)

    it("loses and tears nothing while another process writes without a pause", function()
      local total = support.slow and 50000 or 1000000
      local obj <close>, r = events { max_entries = { events = 65536 } }
      local path = ("/sys/fs/bpf/mbspec-%d"):format(uv.os_getpid())
      obj.vars.count = 100
      obj.progs.emit:pin(path)
      local _ <close> = setmetatable({}, { __close = function() os.remove(path) end })
      local p <close> = support.script([[
        local emit = require "moonbee".pinned(arg[1])
        while true do emit:run() end]], nil, path)
      local n, last = 0, 0
      local function drain()
        for seq, delta, len, port in r:drain({ max = 300 }, "seq", "delta", "len", "ports.sport") do
          n = n + 1
          if seq <= last or delta ~= -seq or len ~= seq or port ~= seq & 0xffff then
            error(("torn: %d after %d, %d, %d, %d"):format(seq, last, delta, len, port))
          end
          last = seq
        end
        for ev in r:drain { max = 100 } do
          n = n + 1
          local seq = ev.seq
          if seq <= last or ev.delta ~= -seq or ev.payload[7] ~= 7 then error "torn view" end
          last = seq
        end
      end
      while n < total do
        assert.is_true(r:wait(20))
        drain()
      end
      p:close()
      while r.stats.pending > 0 do drain() end
      assert.equal(obj.vars.submitted, n)
      assert.equal(obj.vars.seq, obj.vars.submitted + obj.vars.failed)
      assert.equal(n, r.stats.consumed)
    end)
  end)
end)
