-- SPDX-License-Identifier: BSD-2-Clause
-- Ring buffers beyond one record after the other: what is lost is counted, records of any length,
-- several rings at a time, ten million events.
local uv = require "luv"
local bpf = require "moonbee"
local loop = require "moonbee.loop"
local skip = require "support.skip"
local support = require "support.bpf"

local load = support.load

describe("a ring #root", function()
  before_each(skip.root)

  describe("with MB_LOST", function()
    it("tells how many records found no room", function()
      local obj <close> = load "records"
      local r <close> = obj.maps.counted:reader "struct reading"
      assert.equal(0, r.stats.lost)
      obj.vars.count = 100
      obj.progs.fill:run()
      local stats = r.stats
      assert.is_true(stats.lost > 50 and stats.lost < 100)
      local n = 0
      for _ in r:drain "seq" do n = n + 1 end
      assert.equal(obj.vars.produced, n + r.stats.lost)
      obj.vars.output = true            -- MB_OUTPUT
      obj.progs.fill:run()
      for _ in r:drain "seq" do n = n + 1 end
      assert.same({ 200, 200 }, { obj.vars.produced, n + r.stats.lost })
      assert.is_true(r.stats.lost > stats.lost)
    end)

    it("tells it also when its object has closed", function()
      local obj = load "records"
      local r <close> = obj.maps.counted:reader()
      obj.vars.count = 100
      obj.progs.fill:run()
      local lost = r.stats.lost
      obj:close()
      assert.equal(lost, r.stats.lost)
    end)
  end)

  it("without it tells nothing of it", function()
    local obj <close> = load "records"
    local r <close> = obj.maps.notes:reader()
    assert.is_nil(r.stats.lost)
  end)

  describe("whose records have any length", function()
    local function note(obj, text)
      obj.vars.text = text
      assert.equal(0, obj.progs.write_note:run { ctx = string.pack("I4", #text) }.ret)
    end

    local function list(obj, n)
      assert.equal(0, obj.progs.write_list:run { ctx = string.pack("I4", n) }.ret)
    end

    it("gives text at their end", function()
      local obj <close> = load "records"
      local r <close> = obj.maps.notes:reader "struct note"
      for _, text in ipairs { "", "a", "some words" } do note(obj, text) end
      local kept = {}
      for ev in r:drain() do
        assert.equal(ev.len, #ev.text)
        kept[#kept + 1] = bpf.copy(ev)
      end
      assert.same({ "", "a", "some words" }, { kept[1].text, kept[2].text, kept[3].text })
      assert.equal(('{"pid":%d,"len":10,"text":"some words"}'):format(uv.os_getpid()),
        bpf.json(kept[3]))
      assert.matches('%.text = "some words"', tostring(kept[3]))
      kept[3].text = "other"            -- room for ten
      assert.same({ "other", 10 + 6 }, { kept[3].text, #bpf.bytes(kept[3]) })
      assert.equal("store 'text': text of 11 bytes, and there is room for 10",
        support.mistake(function() kept[3].text = "some words!" end))
      for _, text in ipairs { "", "xyz" } do note(obj, text) end
      local columns = {}
      for len, text in r:drain("len", "text") do columns[#columns + 1] = len .. text end
      assert.same({ "0", "3xyz" }, columns)
    end)

    it("gives as many elements as there are", function()
      local obj <close> = load "records"
      local r <close> = obj.maps.lists:reader "struct list"
      for _, n in ipairs { 0, 1, 8 } do list(obj, n) end
      local seen = {}
      for ev in r:drain() do
        seen[#seen + 1] = #ev.items
        assert.equal(ev.n, #ev.items)
        if ev.n > 0 then
          local last = ev.n - 1
          assert.same({ last, last * last }, { ev.items[last].i, ev.items[last].square })
        end
        assert.matches("has no element", support.mistake(function() return ev.items[ev.n].i end))
        if ev.n == 8 then
          assert.equal(28, bpf.sum(ev.items, "i"))
          assert.equal(8, #bpf.totable(ev).items)
          assert.equal(49, bpf.copy(ev).items[7].square)
        end
      end
      assert.same({ 0, 1, 8 }, seen)
    end)

    it("gives columns of elements, and tells where there is none", function()
      local obj <close> = load "records"
      local r <close> = obj.maps.lists:reader "struct list"
      list(obj, 4)
      for n, square in r:drain("n", "items[3].square") do assert.same({ 4, 9 }, { n, square }) end
      list(obj, 3)
      assert.matches("a record of 'lists' has only 56", support.mistake(function()
        for _ in r:drain("n", "items[3].square") do error "a turn" end
      end))
    end)
  end)

  it("whose type is missing names the line of C that keeps it", function()
    local obj <close> = load "records"
    assert.equal([[
find type 'struct gone_event': no such type in the BTF of records (ENOENT)
hint: only types that the program uses are in its BTF; if C knows it, this line keeps it: ]] ..
      "struct gone_event *keep_gone_event __attribute__((unused));",
      tostring(support.refusal(function() obj.maps.notes:reader "struct gone_event" end)))
    assert.equal(4, obj.types["struct unseen"].size) -- kept by such a line
  end)

  it("shares the loop fairly with others, however full they are", function()
    local obj <close> = load "events"
    local small <close> = load "records"
    local full = obj.maps.events:reader "struct event"
    local quiet = small.maps.notes:reader "struct note"
    obj.vars.count = 2800
    obj.progs.emit:run()
    local seen, before_note = 0, nil
    loop.on(full, function()
      seen = seen + 1
      if seen % 64 == 0 then            -- it never gets empty
        obj.vars.count = 64
        obj.progs.emit:run()
      end
    end, "seq")
    loop.on(quiet, function()
      before_note = seen
      loop.stop "note"
    end)
    loop.spawn(function()
      small.progs.write_note:run { ctx = string.pack("I4", 1) }
      seen = 0
    end)
    loop.after(20, function() loop.stop "late" end)
    assert.equal("note", loop.run())
    assert.is_true(before_note <= 3 * 1024, before_note)
    full:close()
    quiet:close()
  end)

  it("of ten million events: what is consumed and lost is what was produced", function()
    local total = support.slow and 200000 or 10000000
    local obj <close> = load("records", { max_entries = { counted = 1 << 20 } })
    local r <close> = obj.maps.counted:reader "struct reading"
    local path = ("/sys/fs/bpf/mbspec-%d"):format(uv.os_getpid())
    obj.vars.count = 2000
    obj.progs.fill:pin(path)
    local _ <close> = setmetatable({}, { __close = function() os.remove(path) end })
    local p <close> = support.script([[
      local fill = require "moonbee".pinned(arg[1])
      for _ = 1, arg[2] // 2000 do fill:run() end
      print "done"]], { timeout = 120 }, path, ("%d"):format(total))
    local n, last = 0, 0
    local function drain()
      for seq in r:drain "seq" do
        n = n + 1
        if seq <= last then error(("%d after %d"):format(seq, last)) end
        last = seq
      end
    end
    while not p.out:find "done" do
      r:wait(0.01)
      drain()
      uv.run "nowait"
    end
    assert.equal(0, p:wait().rc)
    drain()
    assert.equal(total, obj.vars.produced)
    assert.equal(total, n + r.stats.lost)
    assert.equal(n, r.stats.consumed)
    assert.is_true(n > total / 100, n)
  end)
end)
