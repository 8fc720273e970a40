-- SPDX-License-Identifier: BSD-2-Clause
-- Pinned maps taken over at load: what differs is named, by BTF layout too; on_mismatch decides.
local lfs = require "lfs"
local uv = require "luv"
local bpf = require "moonbee"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"

local mistake, refusal = support.mistake, support.refusal

local DIR = ("/sys/fs/bpf/mbspec-%d"):format(uv.os_getpid())

local function exists(path) return lfs.symlinkattributes(path, "mode") ~= nil end

local remove = require "support.leaks".remove

local function open(name, options)
  options = options or {}
  options.pin_root = DIR
  return support.open(name, options)
end

local function load(name, options) return open(name, options):load() end

-- The differences of two maps, pinned by the old version, as the new one's load tells them.
local FLOWS = "value size 24 there, 32 here; value struct flow: "
  .. "field 'seq' __u64 moved from 0 to 24; field 'packets' __u32 at 8 became __u64 at 16; "
  .. "field 'rate' __u32 at 12 became __u64 at 8; "
  .. "field 'gone' is gone; field 'x' added"

describe("a pinned map #root", function()
  before_each(skip.root)
  after_each(function()
    if exists(DIR) then remove(DIR) end
  end)

  -- Load the old version, put this into its maps, and close it.
  local function leave(fill, options)
    local obj <close> = load("upgrade", options)
    if fill then fill(obj.maps, obj) end
    return obj.maps.flows.id
  end

  describe("that differs", function()
    it("is refused, and each difference is named", function()
      leave()
      local obj <close> = open "upgrade_new"
      local err = refusal(obj.load, obj)
      assert.equal("EEXIST", err.code)
      -- the first that differs, in the order of the file
      assert.matches(("load object 'upgrade_new': map 'cpus' is pinned at %s/cpus, and that one " ..
        "differs: value size 8 there, 16 here; value struct count: field 'last' __u32 moved " ..
        "from 0 to 8; field 'hits' __u32 at 4 became __u64 at 0 (EEXIST)"):format(DIR),
        tostring(err), 1, true)
      assert.equal("open", obj.state)
    end)

    it("in its layout only is refused, too", function()
      leave(function(maps) maps.turned[1] = { a = 1, b = 2 } end)
      for _, name in ipairs { "cpus", "flows", "slots" } do os.remove(DIR .. "/" .. name) end
      local obj <close> = open "upgrade_new"
      assert.matches(("map 'turned' is pinned at %s/turned, and that one differs: value struct " ..
        "pair: field 'a' __u32 moved from 0 to 4; field 'b' __u32 moved from 4 to 0 (EEXIST)")
        :format(DIR), tostring(refusal(obj.load, obj)), 1, true)
      -- what libbpf would do without a word
      local kept <close> = load("upgrade_new", { on_mismatch = "keep" })
      assert.same({ a = 2, b = 1 }, bpf.totable(kept.maps.turned[1]))
    end)

    it("is kept only where type and sizes allow", function()
      leave()
      local obj <close> = open("upgrade_new", { on_mismatch = "keep" })
      assert.matches("on_mismatch = \"keep\" needs the same type and the same sizes",
        refusal(obj.load, obj).hint, 1, true)
    end)

    it("is no mismatch where types only have other names", function()
      local id = leave()
      local again <close> = load "upgrade"
      assert.equal(id, again.maps.flows.id)
      assert.is_nil(bpf.diff(again.maps.flows, again.maps.flows))
    end)

    it("is told as data", function()
      local old <close> = load "upgrade"
      local new <close> = support.load "upgrade_new"
      local diff = bpf.diff(old.maps.flows, new.maps.flows)
      assert.equal(FLOWS, diff.text)
      assert.same({ what = "map", change = "parameter", field = "value size", was = "24", is = "32",
        converts = false, text = "value size 24 there, 32 here" }, diff[1])
      assert.same({ "map", "value", "value", "value", "value", "value" }, (function()
        local list = {}
        for i, d in ipairs(diff) do list[i] = d.what end
        return list
      end)())
      assert.is_nil(bpf.diff(old.maps.same, new.maps.same))
      assert.matches("moonbee.map expected, got", mistake(function()
        bpf.diff(old.maps.same, old.types.__u32)
      end))
    end)

    it("is refused without its BTF by its sizes", function()
      assert(lfs.mkdir(DIR))
      local r = run { "bpftool", "map", "create", DIR .. "/same", "type", "hash", "key", "4",
        "value", "8", "entries", "64", "name", "same" }
      assert.equal(0, r.rc, r.err)
      load("upgrade"):close()           -- sizes agree, and there is no layout to compare
      os.remove(DIR .. "/same")
      r = run { "bpftool", "map", "create", DIR .. "/same", "type", "hash", "key", "4",
        "value", "4", "entries", "64", "name", "same" }
      assert.equal(0, r.rc, r.err)
      local obj <close> = open "upgrade"
      assert.matches("differs: value size 4 there, 8 here (EEXIST)",
        tostring(refusal(obj.load, obj)), 1, true)
    end)
  end)

  describe("with on_mismatch", function()
    it("= \"replace\" gives way in one step, when all is loaded", function()
      local id = leave(function(maps) maps.flows[1] = { seq = 1 } maps.same[1] = 1 end)
      local held <close> = bpf.pinned(DIR .. "/flows")
      local obj <close> = load("upgrade_new", { on_mismatch = "replace" })
      assert.not_equal(id, obj.maps.flows.id)
      assert.equal(0, obj.maps.flows:count())
      assert.equal(1, obj.maps.same[1]) -- which does not differ
      assert.equal(DIR .. "/flows", obj.maps.flows.pin_path)
      local there <close> = bpf.pinned(DIR .. "/flows")
      assert.equal(obj.maps.flows.id, there.id)
      assert.equal(1, held[1].seq)      -- whoever has the old one keeps it
      assert.is_false(exists(DIR .. "/flows~"))
      for _, pin in ipairs(bpf.pins(DIR)) do assert.equal(uv.os_getpid(), pin.owner.pid) end
    end)

    it("= \"replace\" leaves all as it was when the load fails", function()
      local id = leave(function(maps) maps.flows[1] = { seq = 1 } end)
      local obj <close> = open("upgrade_new", { on_mismatch = "replace",
        max_entries = { flows = 0xffffffff } })
      refusal(obj.load, obj)
      local there <close> = bpf.pinned(DIR .. "/flows")
      assert.equal(id, there.id)
      assert.equal(1, there[1].seq)
    end)

    it("= \"adopt\" keeps its own size and flags", function()
      local id = leave(nil, { max_entries = { flows = 100, want = 512 } })
      local plain <close> = open("upgrade", { max_entries = { want = 512 } })
      assert.matches("max_entries 100 there, 4096 here", tostring(refusal(plain.load, plain)))
      local obj <close> = load("upgrade", { on_mismatch = "adopt" })
      assert.same({ id, 100, 512 }, { obj.maps.flows.id, obj.maps.flows.max_entries,
        obj.maps.want.max_entries })
      obj:close()
      local new <close> = open("upgrade_new", { on_mismatch = "adopt" })
      local err = refusal(new.load, new)
      assert.matches("field 'hits' __u32 at 4 became __u64 at 0", err.cause, 1, true)
      assert.equal("on_mismatch = \"adopt\" takes max_entries and flags as they are, nothing else",
        err.hint)
    end)

    it("= \"migrate\" takes the entries along", function()
      local id = leave(function(maps)
        for i = 1, 100 do maps.flows[i] = { seq = i, packets = 2 * i, rate = 3 * i, gone = 1 } end
        maps.slots[3] = { seq = 33 }
        maps.same[1] = 1
      end)
      local obj <close> = load("upgrade_new", { on_mismatch = "migrate" })
      local flows = obj.maps.flows
      assert.not_equal(id, flows.id)
      assert.equal(100, flows:count())
      for i = 1, 100 do
        assert.same({ x = 0, seq = i, packets = 2 * i, rate = 3 * i }, bpf.totable(flows[i]))
      end
      assert.equal(33, obj.maps.slots[3].seq)
      assert.equal(100, obj.migrated.flows.copied)
      assert.is_nil(obj.migrated.same)
      local there <close> = bpf.pinned(DIR .. "/flows")
      assert.equal(flows.id, there.id)
      assert.equal("struct flow", there.value_type.name)
      assert.equal(32, there.value_size)
      obj:close()
      local again <close> = load "upgrade_new"        -- nothing differs any more
      assert.equal(there.id, again.maps.flows.id)
      assert.is_nil(again.migrated)
    end)

    it("= a function decides each by its differences", function()
      local id = leave(function(maps) maps.flows[1] = { seq = 7 } maps.slots[1] = { seq = 8 } end)
      local asked = {}
      local obj <close> = load("upgrade_new", { on_mismatch = function(diff, old)
        asked[#asked + 1] = diff.map
        assert.equal("map", bpf.type(old))
        if diff.map == "flows" then
          assert.equal(FLOWS, diff.text)
          assert.equal(id, old.id)
          assert.equal(7, old[1].seq)
          return "migrate"
        end
        return "replace"
      end })
      table.sort(asked)
      assert.same({ "cpus", "flows", "slots", "turned" }, asked)
      assert.equal(7, obj.maps.flows[1].seq)
      assert.equal(0, obj.maps.slots[1].seq)
    end)

    it("= a function may refuse, raise, and must return a word", function()
      leave()
      for text, fn in pairs {
        ["no, thanks"] = function() error("no, thanks", 0) end,
        ["and that one differs"] = function() return "error" end,
        ["on_mismatch = 'migrat' is not known\nhint: did you mean 'migrate'?"] =
          function() return "migrat" end,
        ["the function of on_mismatch returned a nil, not a word"] = function() end,
      } do
        local obj <close> = open("upgrade_new", { on_mismatch = fn })
        local ok, err = pcall(obj.load, obj)
        assert.is_false(ok)
        assert.matches(text, tostring(err), 1, true)
        assert.equal("open", obj.state)
      end
    end)

    it("= a function is told when another map was pinned meanwhile", function()
      leave()
      local other <close> = support.load "upgrade"
      local obj <close> = open("upgrade_new", { on_mismatch = function(diff)
        if diff.map == "flows" then
          os.remove(DIR .. "/flows")
          other.maps.flows:pin(DIR .. "/flows")
        end
        return "replace"
      end })
      assert.matches("another map 'flows' was pinned at " .. DIR .. "/flows meanwhile (EAGAIN)",
        tostring(refusal(obj.load, obj)), 1, true)
      local there <close> = bpf.pinned(DIR .. "/flows")
      assert.equal(other.maps.flows.id, there.id)
    end)
  end)

  describe("of another object", function()
    it("is used instead of a new one when told so", function()
      local old <close> = support.load "upgrade"
      old.maps.flows[1] = { seq = 5 }
      local obj <close> = support.open "upgrade"
      obj.maps.flows:reuse(old.maps.flows)
      obj:load()
      assert.equal(old.maps.flows.id, obj.maps.flows.id)
      assert.equal(5, obj.maps.flows[1].seq)
      assert.not_equal(old.maps.same.id, obj.maps.same.id)
      old:close()
      assert.equal(5, obj.maps.flows[1].seq)
      assert.matches("its object has been loaded already (EBUSY)",
        tostring(refusal(obj.maps.flows.reuse, obj.maps.flows, obj.maps.same)), 1, true)
    end)

    it("is refused when it differs", function()
      local old <close> = support.load "upgrade"
      local obj <close> = support.open "upgrade_new"
      assert.equal("reuse map 'flows': the other one differs: " .. FLOWS .. " (EEXIST)",
        tostring(refusal(obj.maps.flows.reuse, obj.maps.flows, old.maps.flows)):match "[^\n]*")
      local closed = old.maps.flows
      old:close()
      assert.equal("attempt to use closed map 'flows'",
        mistake(function() obj.maps.flows:reuse(closed) end))
    end)
  end)
end)
