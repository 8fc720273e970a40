-- SPDX-License-Identifier: BSD-2-Clause
-- Pins: the automatic ones of maps, those by hand, opening what is pinned; and each way in which a
-- path is wrong. All in a directory of this process.
local lfs = require "lfs"
local uv = require "luv"
local bpf = require "moonbee"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"

local mistake, refusal, load = support.mistake, support.refusal, support.load

local DIR = ("/sys/fs/bpf/mbspec-%d"):format(uv.os_getpid())

local function exists(path) return lfs.symlinkattributes(path, "mode") ~= nil end

local remove = require "support.leaks".remove

describe("pins #root", function()
  before_each(skip.root)
  after_each(function()
    if exists(DIR) then remove(DIR) end
  end)

  describe("by themselves", function()
    it("come only with the mark in C and pin_root", function()
      -- Where libbpf would put it: it must not come there, nor stay if it did.
      local root_had, stray = exists "/sys/fs/bpf/kept", nil
      for _, root in ipairs { false, DIR } do
        local obj <close> = load("maps", { pin_root = root or nil })
        if not root_had and exists "/sys/fs/bpf/kept" then
          os.remove "/sys/fs/bpf/kept"
          stray = true
        end
        assert.is_nil(stray)
        assert.equal(root and DIR .. "/kept" or nil, obj.maps.kept.pin_path)
        assert.is_nil(obj.maps.unmarked.pin_path)
        assert.equal(root and true or false, exists(DIR .. "/kept"))
        assert.is_false(exists(DIR .. "/unmarked"))
      end
      local names = {}
      for entry in lfs.dir(DIR) do names[#names + 1] = entry end
      table.sort(names)
      assert.same({ ".", "..", "_moonbee_owner", "kept" }, names)
    end)

    it("outlive the object, and a second load goes on with the same values", function()
      local id
      do
        local obj <close> = load("maps", { pin_root = DIR })
        obj.maps.kept[3] = 33
        obj.maps.unmarked[3] = 33
        id = obj.maps.kept.id
      end
      local obj <close> = load("maps", { pin_root = DIR })
      assert.equal(id, obj.maps.kept.id)
      assert.equal(33, obj.maps.kept[3])
      assert.is_nil(obj.maps.unmarked[3])
      local other <close> = load("maps", { pin_root = DIR })
      other.maps.kept[3] = 34
      assert.equal(34, obj.maps.kept[3])
      -- BPF of the second load counts into the same map
      other.progs.count:run { data = ("\0"):rep(64) }
      assert.equal(1, obj.maps.kept[0])
    end)

    it("name each difference of a map that is another one", function()
      assert(lfs.mkdir(DIR))
      local r = run { "bpftool", "map", "create", DIR .. "/kept", "type", "array", "key", "4",
        "value", "12", "entries", "5", "name", "other", "flags", "0x400" }
      assert.equal(0, r.rc, r.err)
      local obj <close> = support.open("maps", { pin_root = DIR })
      assert.equal(([[
load object 'maps': map 'kept' is pinned at %s/kept, and that one differs: ]] ..
        [[type array there, hash here; value size 12 there, 8 here; ]] ..
        [[max_entries 5 there, 16 here; flags 1024 there, 0 here (EEXIST)
hint: set on_mismatch (replace, migrate, adopt, a function), give another pin_root, or ]] ..
        [[remove the pin if its data may go]]):format(DIR), tostring(refusal(obj.load, obj)))
    end)

    it("of which one number differs say that one", function()
      do local _ <close> = load("maps", { pin_root = DIR }) end
      local obj <close> = support.open("maps", { pin_root = DIR, max_entries = { kept = 32 } })
      assert.matches("that one differs: max_entries 16 there, 32 here (EEXIST)",
        tostring(refusal(obj.load, obj)), 1, true)
      obj.maps.kept.max_entries = 16    -- nothing has been loaded: it may be tried again
      obj:load()
      assert.equal(DIR .. "/kept", obj.maps.kept.pin_path)
    end)

    it("are refused where a program has the name", function()
      do
        local obj <close> = load "maps"
        obj.progs.count:pin(DIR .. "/kept")
      end
      local obj <close> = support.open("maps", { pin_root = DIR })
      assert.equal(([[
load object 'maps': map 'kept' is to be pinned at %s/kept, where a program is (EEXIST)
hint: give another pin_root, or remove what is there]]):format(DIR),
        tostring(refusal(obj.load, obj)))
    end)

    it("make their directories, for the owner only", function()
      local obj <close> = load("maps", { pin_root = DIR .. "/a/b" })
      assert.equal(DIR .. "/a/b/kept", obj.maps.kept.pin_path)
      for _, dir in ipairs { DIR, DIR .. "/a", DIR .. "/a/b" } do
        assert.equal("rwx------", lfs.attributes(dir, "permissions"))
      end
    end)

    it("leave nothing pinned when the load fails", function()
      local obj <close> = support.open("maps",
        { pin_root = DIR, max_entries = { unmarked = 0xffffffff } })
      refusal(obj.load, obj)
      assert.is_false(exists(DIR .. "/kept"))
    end)

    it("need a pin_root that can be one", function()
      local function open(root) return function() support.open("maps", { pin_root = root }) end end
      assert.equal([[
open object 'mine': the pin path is relative (EINVAL)
hint: give an absolute path, such as /sys/fs/bpf/NAME]], tostring(refusal(open "mine")))
      assert.equal([[
open object '/sys/fs/bpf/x.y': 'x.y' has a dot, and bpffs allows none (EINVAL)
hint: use an underscore instead of the dot]], tostring(refusal(open "/sys/fs/bpf/x.y")))
      assert.equal("open object '': the pin path is empty (EINVAL)", tostring(refusal(open "")))
      local obj <close> = support.open("maps", { pin_root = "/tmp" })
      assert.equal([[
prepare pins '/tmp': it is not on a BPF file system (EINVAL)
hint: pin below /sys/fs/bpf, or mount one: mount -t bpf bpf DIRECTORY]],
        tostring(refusal(obj.load, obj)))
    end)
  end)

  describe("of a map by hand", function()
    it("come and go", function()
      local obj <close> = load "maps"
      local m = obj.maps.totals
      m:pin(DIR .. "/t")
      assert.equal(DIR .. "/t", m.pin_path)
      assert.is_true(exists(DIR .. "/t"))
      m:unpin()
      assert.is_nil(m.pin_path)
      assert.is_false(exists(DIR .. "/t"))
      m:pin(DIR .. "/u")
      assert.equal(DIR .. "/u", m.pin_path)
    end)

    it("can be taken away once", function()
      local obj <close> = load "maps"
      local m = obj.maps.totals
      assert.equal("unpin map 'totals': it is not pinned by us (ENOENT)",
        tostring(refusal(m.unpin, m)))
      m:pin(DIR .. "/t")
      assert.equal(("pin map 'totals': it is pinned at %s/t (EEXIST)\nhint: m:unpin() first")
        :format(DIR), tostring(refusal(m.pin, m, DIR .. "/u")))
      m:unpin()
      assert.equal("unpin map 'totals': it is not pinned by us (ENOENT)",
        tostring(refusal(m.unpin, m)))
    end)

    it("make sub-directories for the owner only", function()
      local obj <close> = load "maps"
      obj.maps.totals:pin(DIR .. "/a/b/c")
      for _, dir in ipairs { DIR, DIR .. "/a", DIR .. "/a/b" } do
        assert.equal("rwx------", lfs.attributes(dir, "permissions"))
      end
    end)

    it("refuse a path that is taken", function()
      local obj <close> = load "maps"
      obj.maps.totals:pin(DIR .. "/t")
      assert.equal(([[
pin map '%s/t': something is there already (EEXIST)
hint: choose another name, or unpin what is there]]):format(DIR),
        tostring(refusal(obj.maps.kept.pin, obj.maps.kept, DIR .. "/t")))
      assert.is_nil(obj.maps.kept.pin_path)
      assert.matches("something is there already",
        tostring(refusal(obj.maps.kept.pin, obj.maps.kept, DIR)))
    end)

    it("refuse a path that bpffs cannot have", function()
      local obj <close> = load "maps"
      local m = obj.maps.totals
      local function text(path) return tostring(refusal(m.pin, m, path)) end
      assert.equal([[
pin map '/sys/fs/bpf/a.b': 'a.b' has a dot, and bpffs allows none (EINVAL)
hint: use an underscore instead of the dot]], text "/sys/fs/bpf/a.b")
      assert.matches("'%.%.' has a dot", text "/sys/fs/bpf/../bpf/x")
      assert.equal([[
pin map 'x': the pin path is relative (EINVAL)
hint: give an absolute path, such as /sys/fs/bpf/NAME]], text "x")
      assert.equal("pin map '': the pin path is empty (EINVAL)", text "")
      assert.matches("it ends in a slash: a name is missing %(EINVAL%)", text(DIR .. "/x/"))
      assert.matches("has 256 letters, at most 255 fit %(ENAMETOOLONG%)",
        text(DIR .. "/" .. ("x"):rep(256)))
      assert.matches("the pin path is too long %(ENAMETOOLONG%)",
        text(DIR .. ("/" .. ("x"):rep(200)):rep(21)))
      assert.is_false(exists(DIR))
    end)

    it("refuse a path outside of bpffs", function()
      local obj <close> = load "maps"
      local m = obj.maps.totals
      assert.equal([[
prepare pins '/tmp': it is not on a BPF file system (EINVAL)
hint: pin below /sys/fs/bpf, or mount one: mount -t bpf bpf DIRECTORY]],
        tostring(refusal(m.pin, m, "/tmp/mbspec")))
      assert.matches("it is not on a BPF file system",
        tostring(refusal(m.pin, m, "/nonexistent/a/b")))
      assert.is_false(exists "/tmp/mbspec")
      assert.is_false(exists "/nonexistent")
      assert.matches("is there and no directory", tostring(refusal(function()
        obj.maps.kept:pin(DIR .. "/k")
        m:pin(DIR .. "/k/below")
      end)))
    end)

    it("take a path", function()
      local obj <close> = load "maps"
      assert.matches("string expected, got no value",
        mistake(function() obj.maps.totals:pin() end))
    end)
  end)

  describe("opened by bpf.pinned", function()
    it("are maps with types", function()
      do
        local obj <close> = load "maps"
        obj.maps.flows[{ saddr = 1, proto = 6 }] = { packets = 5, label = "abc" }
        obj.maps.flows:pin(DIR .. "/flows")
      end
      local m <close> = bpf.pinned(DIR .. "/flows")
      assert.equal("map", bpf.type(m))
      assert.same({ "flows", "hash", DIR .. "/flows" }, { m.name, m.type, m.pin_path })
      assert.equal("struct flow_key", m.key_type.name)
      assert.equal("abc", m[{ saddr = 1, proto = 6 }].label)
      m[{ saddr = 2 }] = { packets = 7 }
      assert.equal(2, m:count())
      m:close()
      assert.equal("attempt to use closed map 'flows'", mistake(function() m:count() end))
      assert.equal("closed map", bpf.type(m))
    end)

    it("can be taken away by whoever opened them", function()
      local obj <close> = load "maps"
      obj.maps.totals:pin(DIR .. "/t")
      local m <close> = bpf.pinned(DIR .. "/t")
      m:unpin()
      assert.is_false(exists(DIR .. "/t"))
      obj.maps.totals:unpin()           -- it is gone already, and that is what was wanted
      assert.is_nil(obj.maps.totals.pin_path)
    end)

    it("are left alone by unpin when they are another's by now", function()
      local a <close> = load "maps"
      local b <close> = load "hooks"
      local c <close> = load "maps"
      local path = DIR .. "/t"
      for _, put in ipairs {
        function() c.maps.totals:pin(path) end,
        function() b.progs.sum:pin(path) end,
        function() lfs.mkdir(path) end,
      } do
        a.maps.totals:pin(path)
        os.remove(path)
        put()
        a.maps.totals:unpin()
        assert.is_nil(a.maps.totals.pin_path)
        assert.is_true(exists(path))
        remove(path)
        if c.maps.totals.pin_path then c.maps.totals:unpin() end
      end
    end)

    it("are programs that run", function()
      local id
      do
        local obj <close> = load "types"
        obj.progs.observe:pin(DIR .. "/observe")
        id = obj.progs.observe.id
      end
      local prog = bpf.pinned(DIR .. "/observe")
      assert.equal("program", bpf.type(prog))
      assert.same({ "observe", "syscall", id, true },
        { prog.name, prog.type, prog.id, prog.loaded })
      assert.equal(10, prog:run().ret)
    end)

    it("are links", function()
      local obj <close> = load("hooks", { vars = { who = uv.os_getpid() } })
      obj.progs.on_call:attach():pin(DIR .. "/link")
      local link <close> = bpf.pinned(DIR .. "/link")
      assert.equal("link", bpf.type(link))
      assert.equal("link", link.name)
      assert.equal(DIR .. "/link", link.pin_path)
      assert.equal(obj.progs.on_call.id, link.prog_id)
      link:unpin()
    end)

    it("refuse a write when opened read-only", function()
      local obj <close> = load "maps"
      obj.maps.totals[1] = 10
      obj.maps.totals:pin(DIR .. "/t")
      local m <close> = bpf.pinned(DIR .. "/t", { readonly = true })
      assert.equal(10, m[1])
      assert.equal(1, m:count())
      assert.equal([[
set in map 'totals': Operation not permitted (EPERM)
hint: the map was opened or made read-only or write-only, or frozen]],
        tostring(refusal(function() m[1] = 11 end)))
      assert.equal("EPERM", refusal(function() m:delete(1) end).code)
      assert.equal("EPERM", refusal(function() m:clear() end).code)
      assert.equal(10, obj.maps.totals[1])
    end)

    it("say that only maps are opened read-only", function()
      local obj <close> = load("hooks", { vars = { who = uv.os_getpid() } })
      local link <close> = obj.progs.on_call:attach()
      link:pin(DIR .. "/link")
      assert.equal(([[
open pin '%s/link': the kernel opens no link read-only (EINVAL)
hint: readonly and writeonly are for maps]]):format(DIR),
        tostring(refusal(bpf.pinned, DIR .. "/link", { readonly = true })))
      link:unpin()
      assert.equal("pinned has no option 'readonyl'\nhint: did you mean 'readonly'?",
        mistake(function() bpf.pinned(DIR, { readonyl = true }) end))
    end)

    it("say what is wrong with a path", function()
      assert.equal(([[
open pin '%s/none': No such file or directory (ENOENT)
hint: check the path; relative ones start at the working directory]]):format(DIR),
        tostring(refusal(bpf.pinned, DIR .. "/none")))
      assert.equal([[
open pin '/etc/passwd': it is not on a BPF file system (EINVAL)
hint: pin below /sys/fs/bpf, or mount one: mount -t bpf bpf DIRECTORY]],
        tostring(refusal(bpf.pinned, "/etc/passwd")))
      assert.equal("open pin '/sys/fs/bpf': it is no pinned map, program or link (EACCES)",
        tostring(refusal(bpf.pinned, "/sys/fs/bpf")))
    end)

    it("say to nobody who may", function()
      local obj <close> = load "maps"
      obj.maps.totals:pin(DIR .. "/t")
      local p <close> = support.script([[require "moonbee".pinned(arg[1])]], { user = "nobody" },
        DIR .. "/t")
      local r = p:wait()
      assert.equal(1, r.rc)
      assert.matches("open pin '" .. DIR .. "/t': ", r.err, 1, true)
      assert.matches("hint: run as root", r.err, 1, true)
    end)
  end)

  describe("without a mounted bpffs", function()
    local source = [[
      local bpf = require "moonbee"
      local obj <close> = bpf.load(arg[1], { pin_root = "/sys/fs/bpf/deep/er" })
      print(obj.maps.kept.pin_path)
      local m <close> = bpf.pinned("/sys/fs/bpf/deep/er/kept")
      print(m.id == obj.maps.kept.id)]]

    -- In a mount namespace of its own: what is done there is not seen outside.
    local function alone(before)
      local path = os.tmpname()
      local file <close> = assert(io.open(path, "w"))
      file:write(source)
      file:close()
      local r = run { "unshare", "-m", "sh", "-c",
        "while umount -l /sys/fs/bpf 2>/dev/null; do :; done; exec " .. before .. ' "$@"', "sh",
        support.moonbee, "run", path, support.fixture "maps" }
      os.remove(path)
      return r
    end

    it("mount one", function()
      local r = alone ""
      assert.equal(0, r.rc, r.err)
      assert.equal("/sys/fs/bpf/deep/er/kept\ntrue\n", r.out)
      assert.is_false(exists "/sys/fs/bpf/deep")
    end)

    it("or say what is missing", function()
      local r = alone "setpriv --bounding-set=-sys_admin"
      assert.equal(1, r.rc)
      assert.matches([[
mount bpffs at '/sys/fs/bpf': Operation not permitted (EPERM)
hint: mount it from outside of this container or sandbox: mount -t bpf bpf /sys/fs/bpf]],
        r.err, 1, true)
    end)
  end)
end)
