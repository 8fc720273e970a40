-- SPDX-License-Identifier: BSD-2-Clause
-- Whose the pins are: replaced in one step, removed with their owner, collected after it; two
-- processes at the same pins, pins and file systems that go away under us.
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

-- What is in a directory, by name.
local function names(dir)
  local list = {}
  for entry in lfs.dir(dir) do
    if entry ~= "." and entry ~= ".." then list[#list + 1] = entry end
  end
  table.sort(list)
  return list
end

local function id_at(path)
  local m <close> = bpf.pinned(path)
  return m.id
end

-- A process that runs this with DIR, says "go" and is killed.
local function killed(source)
  local p <close> = support.script("local bpf, dir, fixtures = require 'moonbee', ...\n" ..
    source .. "\nprint 'go' io.stdout:flush() io.read()", nil, DIR, support.build .. "/fixtures/")
  p:expect "go"
  p:kill "sigkill"
  p:wait()
end

describe("a pin's owner #root", function()
  before_each(skip.root)
  after_each(function()
    if exists(DIR) then remove(DIR) end
  end)

  describe("replaces what is pinned", function()
    it("in one step, of the same kind only", function()
      local a <close> = support.load "maps"
      local b <close> = support.load "maps"
      local path = DIR .. "/x"
      a.maps.totals:pin(path, { replace = true })     -- nothing is there yet
      b.maps.totals:pin(path, { replace = true })
      assert.equal(b.maps.totals.id, id_at(path))
      assert.same({ "_moonbee_owner", "x" }, names(DIR))
      assert.same({ "x" }, names(DIR .. "/_moonbee_owner"))
      assert.equal(uv.os_getpid(), bpf.pins(DIR)[1].owner.pid)
      b.maps.totals:pin(path, { replace = true })     -- itself
      a.maps.totals:pin(path, { replace = true })     -- and back: its own pin was taken
      assert.equal(a.maps.totals.id, id_at(path))
      assert.matches("it is pinned at", tostring(refusal(a.maps.totals.pin, a.maps.totals,
        DIR .. "/y", { replace = true })))
      assert.matches("what is there is of another kind (EEXIST)",
        tostring(refusal(a.progs.count.pin, a.progs.count, path, { replace = true })), 1, true)
      assert(lfs.mkdir(DIR .. "/dir"))
      assert.matches("what is there is no pin (EEXIST)", tostring(refusal(b.maps.kept.pin,
        b.maps.kept, DIR .. "/dir", { replace = true })), 1, true)
      assert.matches("pin has no option 'replac'\nhint: did you mean 'replace'?",
        mistake(function() b.maps.kept:pin(DIR .. "/z", { replac = true }) end), 1, true)
    end)

    it("of programs and links, too", function()
      local a <close> = support.load "xdp"
      local b <close> = support.load "xdp"
      local path = DIR .. "/p"
      a.progs.pass:pin(path)
      b.progs.pass:pin(path, { replace = true })
      assert.equal(b.progs.pass.id, bpf.pinned(path).id)
      local link <close> = a.progs.pass:attach { ifname = "lo", mode = "generic" }
      link:pin(DIR .. "/l")
      link:pin(DIR .. "/l", { replace = true })
      link:unpin()
      assert.is_false(exists(DIR .. "/l"))
    end)

    it("after a process that was killed in the middle of it", function()
      local a <close> = support.load "maps"
      local b <close> = support.load "maps"
      a.maps.totals:pin(DIR .. "/x")
      a.maps.kept:pin(DIR .. "/x~")     -- what such a process leaves
      b.maps.totals:pin(DIR .. "/x", { replace = true })
      assert.equal(b.maps.totals.id, id_at(DIR .. "/x"))
      assert.is_false(exists(DIR .. "/x~"))
    end)
  end)

  describe("with pin_cleanup", function()
    it("takes its pins along, and nobody else's", function()
      local other <close> = support.load "maps"
      other.maps.totals:pin(DIR .. "/other")
      do
        local obj <close> = support.load("maps", { pin_root = DIR, pin_cleanup = true })
        obj.maps.flows:pin(DIR .. "/sub/flows")
        obj.progs.count:pin(DIR .. "/count")
        obj.maps.names:pin(DIR .. "/taken")
        assert.is_true(bpf.pins(DIR)[2].owner.cleanup)
        os.remove(DIR .. "/taken")      -- another one's by now
        other.maps.names:pin(DIR .. "/taken")
        assert.same({ "_moonbee_owner", "count", "kept", "other", "sub", "taken" }, names(DIR))
      end
      assert.same({ "_moonbee_owner", "other", "sub", "taken" }, names(DIR))
      assert.equal(other.maps.names.id, id_at(DIR .. "/taken"))
      assert.same({}, names(DIR .. "/sub"))
    end)

    it("goes with the state, too", function()
      local p <close> = support.script([[
        local bpf = require "moonbee"
        local obj = bpf.load(arg[2], { pin_root = arg[1], pin_cleanup = true })
        print(obj.maps.kept.pin_path)]], nil, DIR, support.fixture "maps")
      local r = p:wait()
      assert.equal(DIR .. "/kept\n", r.out)
      assert.is_false(exists(DIR .. "/kept"))
    end)

    it("does not take what it found", function()
      do local _ <close> = support.load("maps", { pin_root = DIR }) end
      do
        local obj <close> = support.load("maps", { pin_root = DIR, pin_cleanup = true })
        assert.equal(DIR .. "/kept", obj.maps.kept.pin_path)
      end
      assert.is_true(exists(DIR .. "/kept"))
    end)

    it("inherits what a killed one left", function()
      killed "obj = bpf.load(fixtures .. 'maps.bpf.o', { pin_root = dir, pin_cleanup = true })"
      assert.is_true(exists(DIR .. "/kept"))
      do local _ <close> = support.load("maps", { pin_root = DIR, pin_cleanup = true }) end
      assert.is_false(exists(DIR .. "/kept"))
    end)
  end)

  describe("that is gone", function()
    local LEAVE = [[
      obj = bpf.load(fixtures .. 'maps.bpf.o', { pin_root = dir .. '/a', pin_cleanup = true })
      obj.progs.count:pin(dir .. '/b/c/count')
      keep = bpf.load(fixtures .. 'maps.bpf.o', { pin_root = dir .. '/keep' })
      keep.maps.totals:pin(dir .. '/keep/step~')]]

    it("leaves what collect_pins finds: its own, and only what was to go", function()
      killed(LEAVE)
      local r = run { "bpftool", "map", "create", DIR .. "/a/foreign", "type", "hash", "key", "4",
        "value", "4", "entries", "1", "name", "foreign" }
      assert.equal(0, r.rc, r.err)
      local mine <close> = support.load("maps", { pin_root = DIR .. "/mine", pin_cleanup = true })
      local found = bpf.collect_pins(DIR, { dry = true })
      local paths = {}
      for i, left in ipairs(found) do
        paths[i] = left.path:sub(#DIR + 2)
        assert.is_false(left.removed)
        assert.is_false(left.owner.alive)
      end
      table.sort(paths)
      assert.same({ "a/kept", "b/c/count", "keep/step~" }, paths)
      assert.is_true(exists(DIR .. "/a/kept"))

      r = run { support.moonbee, "pins", DIR, "--gc" }
      assert.same({ 0, "" }, { r.rc, r.err })
      assert.equal(3, select(2, r.out:gsub("removed /sys", "")))
      assert.same({ "foreign" }, names(DIR .. "/a"))
      assert.same({}, names(DIR .. "/b/c"))
      assert.same({ "_moonbee_owner", "kept" }, names(DIR .. "/keep"))
      assert.equal(mine.maps.kept.id, id_at(DIR .. "/mine/kept"))
      assert.equal("", run({ support.moonbee, "pins", DIR, "--gc" }).out)

      r = run { support.moonbee, "pins", DIR, "--gc", "--all", "--dry-run" }
      assert.matches("^would be removed: %S+/keep/kept %(map, pid %d+, gone%)\n$", r.out)
      r = run { support.moonbee, "pins", DIR, "--gc", "--all", "--json" }
      assert.matches('"removed":true', r.out, 1, true)
      assert.same({}, names(DIR .. "/keep"))
      assert.equal(mine.maps.kept.id, id_at(DIR .. "/mine/kept"))
    end)

    it("leaves another one's pin of the same name alone", function()
      killed "obj = bpf.load(fixtures .. 'maps.bpf.o', { pin_root = dir, pin_cleanup = true })"
      os.remove(DIR .. "/kept")
      local r = run { "bpftool", "map", "create", DIR .. "/kept", "type", "hash", "key", "4",
        "value", "4", "entries", "1", "name", "kept" }
      assert.equal(0, r.rc, r.err)
      assert.is_nil(bpf.pins(DIR)[1].owner)
      assert.same({}, bpf.collect_pins(DIR, { all = true }))
      assert.same({ "kept" }, names(DIR))             -- and the record is gone
    end)
  end)

  describe("is not alone:", function()
    it("two processes that start at once share one map", function()
      local source = [[
        local obj = require "moonbee".open(arg[1], { pin_root = arg[2] })
        io.stdout:write "go\n"
        io.stdout:flush()
        io.read()
        obj:load()
        print(obj.maps.kept.id)
        io.stdout:flush()
        io.read()]]
      for _ = 1, 5 do
        local two = {}
        for i = 1, 2 do two[i] = support.script(source, nil, support.fixture "maps", DIR) end
        local a <close> = two[1]
        local b <close> = two[2]
        for _, p in ipairs(two) do p:expect "go" end
        for _, p in ipairs(two) do p:write "\n" end
        local ids = {}
        for i, p in ipairs(two) do ids[i] = p:expect "go\n(%d+)\n" end
        assert.equal(ids[1], ids[2])
        assert.equal(ids[1], tostring(id_at(DIR .. "/kept")))
        assert.truthy(a.pid ~= b.pid)
        a:kill "sigkill"
        b:kill "sigkill"
        a:wait()
        b:wait()
        os.remove(DIR .. "/kept")
      end
    end)

    it("a pin that was taken away under us is none of ours", function()
      local obj <close> = support.load("maps", { pin_root = DIR })
      os.remove(DIR .. "/kept")
      obj.maps.kept[1] = 1              -- the map is there
      obj.maps.kept:unpin()
      assert.is_nil(obj.maps.kept.pin_path)
      obj.maps.kept:pin(DIR .. "/kept")
      assert.equal(obj.maps.kept.id, id_at(DIR .. "/kept"))
      remove(DIR)
      assert.equal("ENOENT", refusal(bpf.pinned, DIR .. "/kept").code)
      assert.equal("ENOENT", refusal(bpf.pins, DIR).code)
      obj.maps.kept:unpin()
      local again <close> = support.load("maps", { pin_root = DIR })
      assert.not_equal(obj.maps.kept.id, again.maps.kept.id)
    end)

    it("a bpffs that was unmounted under us", function()
      -- In a mount namespace, and a bpffs, of its own.
      local path = os.tmpname()
      local file = assert(io.open(path, "w"))
      file:write [[
        local bpf = require "moonbee"
        local root = "/sys/fs/bpf/gone"
        local obj <close> = bpf.load(arg[1], { pin_root = root, pin_cleanup = true })
        local other <close> = bpf.open(arg[1], { pin_root = "/proc/gone" })
        while os.execute "umount -l /sys/fs/bpf 2>/dev/null" do end
        obj.maps.kept[1] = 7
        print(obj.maps.kept[1])
        print(select(2, pcall(bpf.pinned, root .. "/kept")))
        print(select(2, pcall(bpf.pins)))
        print(select(2, pcall(other.load, other)))
        obj.maps.kept:unpin()
        print(obj.maps.kept.pin_path)]]
      file:close()
      local r = run { "unshare", "-m", "sh", "-c", 'mount -t bpf bpf /sys/fs/bpf && exec "$@"',
        "sh", support.moonbee, "run", path, support.fixture "maps" }
      os.remove(path)
      assert.equal(0, r.rc, r.err)
      local out = {}
      for line in r.out:gmatch "[^\n]+" do
        if not line:find "^hint" then out[#out + 1] = line end
      end
      assert.same({ "7",
        "open pin '/sys/fs/bpf/gone/kept': No such file or directory (ENOENT)",
        "list pins '/sys/fs/bpf': it is not on a BPF file system (EINVAL)",
        "prepare pins '/proc/gone': it is not on a BPF file system (EINVAL)", "nil" }, out)
    end)
  end)

  describe("opens what is pinned", function()
    it("of maps of maps, whose inner maps live on with it alone", function()
      for name, key in pairs { tables = 2, by_name = "one\0\0\0\0\0" } do
        local path <const> = DIR .. "/" .. name
        local id
        do
          local obj <close> = support.load "kinds"
          local inner <close> = bpf.create_map {
            name = "inner", type = "array", key = "u32", value = "u64", max_entries = 8,
          }
          inner[1] = 7
          obj.maps[name]:set(key, inner)
          obj.maps[name]:pin(path)
          id = inner.id
        end
        local outer <close> = bpf.pinned(path)
        local inner <close> = outer:get(key)
        assert.same({ id, 7 }, { inner.id, inner[1] })
        inner:pin(DIR .. "/inner")                    -- an inner map is a map like others
        outer:unpin()
        local again <close> = bpf.pinned(DIR .. "/inner")
        assert.same({ id, 7 }, { again.id, again[1] })
        again:unpin()
      end
    end)

    it("with the map's own BTF, though its object is gone", function()
      do
        local obj <close> = support.load "maps"
        obj.maps.flows:set({ saddr = 1 }, { packets = 5, stats = { bytes = 9 } })
        obj.maps.flows:pin(DIR .. "/flows")
      end
      local flows <close> = bpf.pinned(DIR .. "/flows")
      assert.same({ "struct flow_key", "struct flow" },
        { flows.key_type.name, flows.value_type.name })
      local value = flows:get { saddr = 1 }
      assert.same({ 5, 9 }, { value.packets, value.stats.bytes })
      flows:unpin()
    end)

    it("for writing only", function()
      local obj <close> = support.load "maps"
      obj.maps.totals:pin(DIR .. "/t")
      local m <close> = bpf.pinned(DIR .. "/t", { writeonly = true })
      m[1] = 5
      assert.equal("EPERM", refusal(function() return m[1] end).code)
      assert.equal(5, obj.maps.totals[1])
      assert.equal("a pin is opened readonly or writeonly, not both", mistake(function()
        bpf.pinned(DIR .. "/t", { readonly = true, writeonly = true })
      end))
      assert.matches("option 'readonly' of pinned is a boolean, not a number",
        mistake(function() bpf.pinned(DIR .. "/t", { readonly = 0xffffffff }) end))
    end)

    it("also maps of maps and prog arrays, which keep what they hold", function()
      local obj <close> = support.load "upgrade"
      obj.maps.jump[0] = obj.progs.step
      obj.maps.jump:pin(DIR .. "/jump")
      local jump <close> = bpf.pinned(DIR .. "/jump")
      assert.equal("prog_array", jump.type)
      obj.progs.entry:run { data = ("\0"):rep(64) }
      assert.equal(1, obj.maps.state[0])
    end)

    it("of each type of map again at load", function()
      for _, name in ipairs { "flows", "totals", "slots", "cpu_hits", "cpu_flows", "recent",
        "raw" } do
        local obj <close> = support.load "maps"
        local map = obj.maps[name]
        map:pin(DIR .. "/" .. name)
        local other <close> = support.open "maps"
        local pinned <close> = bpf.pinned(DIR .. "/" .. name)
        other.maps[name]:reuse(pinned)
        other:load()
        assert.equal(map.id, other.maps[name].id)
      end
    end)
  end)
end)
