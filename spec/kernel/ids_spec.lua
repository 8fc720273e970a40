-- SPDX-License-Identifier: BSD-2-Clause
-- What the kernel holds, by id, with its pins and holders: bpf.maps and the like, moonbee ps,
-- moonbee pins. Others may load and close meanwhile: only what is ours is looked for.
local dkjson = require "dkjson"
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

local function by_id(list, id)
  for _, entry in ipairs(list) do
    if entry.id == id then return entry end
  end
end

local function moonbee(...) return run({ support.moonbee, ... }) end

local function json(...)
  local r = moonbee(...)
  assert.equal(0, r.rc, r.err)
  return assert(dkjson.decode(r.out))
end

describe("what the kernel holds #root", function()
  before_each(skip.root)
  after_each(function()
    if exists(DIR) then remove(DIR) end
  end)

  describe("is listed by id:", function()
    it("maps", function()
      local obj <close> = support.load "maps"
      local m = obj.maps.flows
      local row = by_id(bpf.maps(), m.id)
      assert.truthy(row.memory > 65536)
      row.memory = nil
      assert.same({ id = m.id, name = "flows", type = "hash", key_size = 16, value_size = 40,
        max_entries = 65536, flags = 0 }, row)
      local id = m.id
      obj:close()
      support.until_true(function() return not by_id(bpf.maps(), id) end)
    end)

    it("programs", function()
      local obj <close> = support.load "maps"
      local p = obj.progs.count
      local row = by_id(bpf.programs(), p.id)
      assert.same({ "count", "xdp", 0 }, { row.name, row.type, row.uid })
      assert.truthy(row.memory > 0 and row.loaded_ns > 0)
      local maps = {}
      for _, id in ipairs(row.map_ids) do maps[id] = true end
      assert.truthy(maps[obj.maps.kept.id] and maps[obj.maps.cpu_hits.id])
      assert.is_nil(maps[obj.maps.flows.id])
    end)

    it("links", function()
      local obj <close> = support.load "xdp"
      local link <close> = obj.progs.pass:attach { ifname = "lo", mode = "generic" }
      assert.same({ id = link.info.id, name = "pass", type = "xdp", prog_id = obj.progs.pass.id },
        by_id(bpf.links(), link.info.id))
    end)
  end)

  describe("is opened by id:", function()
    it("maps, with their types", function()
      local obj <close> = support.load "maps"
      obj.maps.flows[{ saddr = 1 }] = { packets = 5 }
      local m <close> = bpf.map(obj.maps.flows.id)
      assert.equal(5, m[{ saddr = 1 }].packets)
      assert.equal("struct flow", m.value_type.name)
      local id = m.id
      m:close()
      assert.equal(5, obj.maps.flows[{ saddr = 1 }].packets)
      assert.equal(id, obj.maps.flows.id)
    end)

    it("links, which closing leaves as they are", function()
      local obj <close> = support.load "xdp"
      local link <close> = obj.progs.pass:attach { ifname = "lo", mode = "generic" }
      local same = bpf.link(link.info.id)
      assert.equal(link.info.id, same.info.id)
      same:close()
      assert.truthy(by_id(bpf.links(), link.info.id))
    end)

    it("or not at all", function()
      for _, fn in ipairs { bpf.map, bpf.link, bpf.program } do
        assert.equal("ENOENT", refusal(fn, 0xfffffff0).code)
        assert.matches("an id is a number from 1 on", mistake(function() fn(0) end))
        assert.matches("number expected", mistake(function() fn "x" end))
      end
    end)
  end)

  it("is held by processes", function()
    local obj <close> = support.load "maps"
    local p <close> = support.script([[
      local m = require "moonbee".map(tonumber(arg[1]))
      print(m.id) io.stdout:flush() io.read()]], nil, tostring(obj.maps.flows.id))
    p:expect "%d"
    local pids, all = {}, bpf.holders()
    for _, h in ipairs(all) do
      if h.kind == "map" and h.id == obj.maps.flows.id then pids[h.pid] = h.name end
    end
    assert.truthy(pids[uv.os_getpid()])
    assert.equal("moonbee", pids[p.pid])
    local own = 0
    for _, h in ipairs(all) do
      if h.pid == uv.os_getpid() and h.kind == "program" then own = own + 1 end
    end
    assert.truthy(own >= 2)             -- each of its programs, once
  end)

  describe("is shown by moonbee ps", function()
    it("as JSON, with pins and holders", function()
      local obj <close> = support.load "maps"
      obj.maps.flows:pin(DIR .. "/flows")
      obj.progs.count:pin(DIR .. "/count")
      local all = json("ps", "--json")
      local m, p = by_id(all.maps, obj.maps.flows.id), by_id(all.programs, obj.progs.count.id)
      assert.same({ DIR .. "/flows" }, m.pins)
      assert.same({ DIR .. "/count" }, p.pins)
      assert.equal(uv.os_getpid(), m.holders[1].pid)
      assert.same({ "hash", 16, 40, 65536 }, { m.type, m.key_size, m.value_size, m.max_entries })
      local only = json("ps", "maps", "--json")
      assert.truthy(only.maps and not only.programs)
      local r = moonbee "ps"
      local line = ("\n" .. r.out):match("\n(flows +" .. m.id .. " [^\n]*)")
      assert.matches("^flows +" .. m.id .. " +hash +16 +40 +65536 +%d+ %a+ +" ..
        DIR:gsub("%p", "%%%0") .. ("/flows +%%S+%%(%d%%)$"):format(uv.os_getpid()), line)
    end)

    it("or refused to nobody", function()
      local r = run({ support.moonbee, "ps" }, { user = "nobody" })
      assert.equal(1, r.rc)
      assert.matches("(EPERM)", r.err, 1, true)
      assert.equal(2, moonbee("ps", "things").rc)
    end)
  end)

  describe("is pinned, says moonbee pins,", function()
    it("by whom", function()
      local obj <close> = support.load("maps", { pin_root = DIR })
      obj.progs.count:pin(DIR .. "/deep/count")
      local r = run { "bpftool", "map", "create", DIR .. "/foreign", "type", "hash", "key", "4",
        "value", "4", "entries", "1", "name", "foreign" }
      assert.equal(0, r.rc, r.err)
      local list = json("pins", DIR, "--json")
      local me = math.tointeger(uv.os_getpid())
      for i, expected in ipairs {
        { "deep/count", "program", "xdp", "count", obj.progs.count.id, me },
        { "foreign", "map", "hash", "foreign" },
        { "kept", "map", "hash", "kept", obj.maps.kept.id, me },
      } do
        local pin = list[i]
        assert.same(expected, { pin.path:sub(#DIR + 2), pin.kind, pin.type, pin.name,
          expected[5] and pin.id, pin.owner and pin.owner.pid })
      end
      assert.equal(3, #list)
      assert.same({ pid = me, uid = 0, alive = true, cleanup = false }, list[3].owner)
      local text = moonbee("pins", DIR).out
      assert.matches("PATH +KIND +TYPE +NAME +ID +OWNER\n", text)
      assert.matches("/foreign +map +hash +foreign +%d+ +%-\n", text)
      assert.matches("/kept +map +hash +kept +%d+ +pid " .. me .. "\n", text)
    end)

    it("and where there is nothing to see", function()
      for path, text in pairs { ["/tmp"] = "it is not on a BPF file system (EINVAL)",
        ["/nowhere"] = "No such file or directory (ENOENT)",
        ["/etc/passwd"] = "it is no directory (ENOTDIR)" } do
        assert.matches(text, tostring(refusal(bpf.pins, path)), 1, true)
        assert.matches(text, tostring(refusal(bpf.collect_pins, path)), 1, true)
        assert.matches(text, moonbee("pins", path).err, 1, true)
      end
      assert.equal(2, moonbee("pins", "--all").rc)
      local _ <close> = support.load("maps", { pin_root = DIR })
      local r = run({ support.moonbee, "pins", DIR }, { user = "nobody" })
      assert.equal(1, r.rc)
      assert.matches("(EACCES)", r.err, 1, true)
    end)
  end)
end)
