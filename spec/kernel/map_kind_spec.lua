-- SPDX-License-Identifier: BSD-2-Clause
-- Map types whose keys or values are more than data: tries, maps in maps, programs, sockets, owners
-- of storage, stacks. Queues are queue_spec.lua's, hashes and arrays map_spec.lua's.
local lfs = require "lfs"
local uv = require "luv"
local bpf = require "moonbee"
local cgroup = require "support.cgroup"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"

local mistake, refusal, load = support.mistake, support.refusal, support.load
local PACKET = ("\0"):rep(64)

local function inner_map(name)
  return bpf.create_map { name = name or "inner", type = "array", key = "u32", value = "u64",
    max_entries = 8 }
end

local function count_fds()
  local n = 0
  for _ in lfs.dir "/proc/self/fd" do n = n + 1 end
  return n
end

-- A listening TCP socket on the loopback, and its fd.
local function listener()
  local s = uv.new_tcp()
  assert(s:bind("127.0.0.1", 0))
  assert(s:listen(1, function() end))
  return setmetatable({ socket = s, fd = s:fileno() }, { __close = function()
    s:close()
    uv.run "nowait"
  end })
end

describe("a map #root", function()
  before_each(skip.root)

  describe("of type lpm_trie", function()
    it("finds the longest prefix; keys are tables or bpf.lpm's", function()
      local obj <close> = load "kinds"
      local m = obj.maps.routes
      m:set(bpf.lpm "10.0.0.0/8", 8)
      m:set({ prefix = 16, addr = { 10, 1 } }, 16)
      m:set({ prefix = 0 }, 1)
      assert.equal(16, m:get(bpf.lpm "10.1.2.3"))
      assert.equal(8, m:get(bpf.lpm "10.2.2.3"))
      assert.equal(1, m[{ prefix = 32, addr = "\11\0\0\1" }])
      local seen = {}
      for k, v in pairs(m) do seen[k.prefix] = v end
      assert.same({ [0] = 1, [8] = 8, [16] = 16 }, seen)
      assert.is_true(m:delete(bpf.lpm "10.1.0.0/16"))
      assert.is_false(m:delete(bpf.lpm "10.1.0.0/16"))
      assert.equal(8, m:get(bpf.lpm "10.1.2.3"))
      assert.equal(2, m:clear())
    end)

    it("cannot take, has room for so many, and prefixes of so many bits", function()
      local obj <close> = load "kinds"
      local m = obj.maps.routes
      assert.equal("lpm_trie 'routes' cannot take: reading and deleting are two steps here\n" ..
        "hint: use m:get(key), then m:delete(key)",
        mistake(function() m:take(bpf.lpm "10.0.0.0/8") end))
      assert.equal("EINVAL", refusal(function() m:set({ prefix = 33 }, 1) end).code)
      local small <close> = bpf.create_map { name = "small", type = "lpm_trie", key = 8,
        value = "u32", max_entries = 1 }
      small:set(bpf.lpm "10.0.0.0/8", 1)
      assert.matches("it is full", tostring(refusal(function()
        small:set(bpf.lpm "11.0.0.0/8", 1)
      end)))
    end)
  end)

  describe("of maps", function()
    for _, case in ipairs {
      { "array_of_maps", "tables", 0, 3 },
      { "hash_of_maps", "by_name", "one\0\0\0\0\0", ("x"):rep(8) },
    } do
      local kind, name, key, other = table.unpack(case)

      it(kind .. " takes maps and gives maps: each a handle of its own", function()
        local obj <close> = load "kinds"
        local outer = obj.maps[name]
        local inner <close> = inner_map "first"
        assert.equal(kind, outer.type)
        assert.is_nil(outer:get(key))
        assert.is_true(outer:set(key, inner))
        local seen <close> = outer:get(key)
        assert.equal("map", bpf.type(seen))
        assert.equal(inner.id, seen.id)
        assert.equal("u64", seen.value_type.name)
        assert.are_not.equal(inner.fd, seen.fd)
        seen[1] = 7
        assert.equal(7, inner[1])
        seen:close()
        assert.equal(7, inner[1])
        assert.is_true(outer:delete(key))
        assert.is_nil(outer:get(key))
      end)

      it(kind .. " keeps its maps alive by itself, and takes a fd", function()
        local obj <close> = load "kinds"
        local outer = obj.maps[name]
        do
          local inner <close> = inner_map()
          inner[3] = 9
          outer:set(key, inner.fd)
        end
        assert.equal(9, outer:get(key)[3])
        local second <close> = inner_map "second"
        outer:set(key, second)
        assert.equal("second", outer:get(key).name)
        outer:set(other, second)
        local names = {}
        for k, m in pairs(outer) do
          names[k] = m.name
          m:close()
        end
        assert.same({ [key] = "second", [other] = "second" }, names)
        assert.equal(2, outer:count())
        assert.equal(2, #outer:snapshot())
        assert.equal("second", outer:get_many({ other })[1].name)
        assert.equal(2, outer:clear())
        assert.equal(0, outer:count())
        collectgarbage()
      end)

      it(kind .. " refuses other maps, and what is none", function()
        local obj <close> = load "kinds"
        local outer = obj.maps[name]
        assert.equal(("set in map '%s': Invalid argument (EINVAL)\n"):format(name) ..
          "hint: an inner map must be like the one declared: type, sizes and flags, of arrays " ..
          "max_entries, too", tostring(refusal(function() outer:set(key, obj.maps.locked) end)))
        local article = kind == "array_of_maps" and "an " or "a "
        for _, wrong in ipairs { "x", {}, true, obj.progs.jump } do
          assert.equal(article .. kind .. " holds maps, not a " .. type(wrong),
            mistake(function() outer:set(key, wrong) end))
        end
        assert.matches("file descriptor is a number from 0 on",
          mistake(function() outer:set(key, -1) end))
        assert.matches("the descriptor is not open", mistake(function() outer:set(key, 999999) end))
        local closed = inner_map()
        closed:close()
        assert.matches("closed map", mistake(function() outer:set(key, closed) end))
        local open <close> = support.open "kinds"
        assert.matches("not loaded", tostring(refusal(function()
          outer:set(key, open.maps.last)
        end)))
        assert.matches("has no numbers", mistake(function() outer:sum() end))
        assert.is_nil(outer:get(key))
      end)
    end

    it("is what BPF programs look into, also after a replacement", function()
      local obj <close> = load "kinds"
      local one <close> = inner_map "one"
      local two <close> = inner_map "two"
      obj.vars.amount, obj.vars.at = 5, 2
      obj.progs.count_in:run { data = PACKET }
      assert.equal(1, obj.vars.missing)
      obj.maps.tables[2] = one
      obj.progs.count_in:run { data = PACKET }
      obj.maps.tables[2] = two
      obj.progs.count_in:run { data = PACKET }
      obj.progs.count_in:run { data = PACKET }
      assert.same({ 5, 10 }, { one[1], two[1] })
      obj.maps.tables[2] = nil
      obj.progs.count_in:run { data = PACKET }
      assert.equal(2, obj.vars.missing)
    end)

    it("with more maps than descriptors is walked all the same", function()
      local n = 60
      local template <close> = inner_map()
      local outer <close> = bpf.create_map { name = "outer", type = "hash_of_maps", key = "u32",
        value = "u32", max_entries = n, inner = template }
      for i = 1, n do
        local inner <close> = inner_map("m" .. i)
        outer[i] = inner
      end
      local path, script = ("/sys/fs/bpf/mbspec-%d"):format(uv.os_getpid()), os.tmpname()
      outer:pin(path)
      local _ <close> = setmetatable({}, { __close = function()
        os.remove(script)
        outer:unpin()
      end })
      -- Only who needs descriptors collects there what holds them.
      local file <close> = assert(io.open(script, "w"))
      file:write [[
        local bpf = require "moonbee"
        collectgarbage "stop"
        local outer <close>, n = bpf.pinned(arg[1]), 0
        for k, inner in pairs(outer) do
          if inner.name == "m" .. string.unpack("=I4", k) then n = n + 1 end
        end
        print(n)]]
      file:close()
      local r = run { "bash", "-c", 'ulimit -n 32; exec "$@"', "bash", support.moonbee, "run",
        script, path }
      assert.equal(n .. "\n", r.out, r.err)
    end)
  end)

  describe("of type prog_array", function()
    it("takes programs, gives programs, and BPF jumps to them", function()
      local obj <close> = load "kinds"
      local jumps, at = obj.maps.jumps, 3
      obj.vars.at = at
      assert.equal(2, obj.progs.jump:run({ data = PACKET }).ret)
      assert.equal(1, obj.vars.missing)
      jumps[at] = obj.progs.tail
      assert.equal(1, obj.progs.jump:run({ data = PACKET }).ret)
      assert.equal(1, obj.vars.jumped)
      local prog = jumps[at]
      assert.equal("program", bpf.type(prog))
      assert.equal(obj.progs.tail.id, prog.id)
      prog:close()
      assert.is_nil(jumps[0])
      local found = {}
      for k, p in pairs(jumps) do found[#found + 1] = { k, p.name } end
      assert.same({ { at, "tail" } }, found)
      jumps[at] = nil
      jumps:set(at, obj.progs.tail.fd)
      assert.equal(1, jumps:clear())
      assert.equal(2, obj.progs.jump:run({ data = PACKET }).ret)
      collectgarbage()
    end)

    it("refuses programs of another type, and what is none", function()
      local obj <close> = load "kinds"
      local jumps = obj.maps.jumps
      assert.equal("set in map 'jumps': Invalid argument (EINVAL)\nhint: a program array takes " ..
        "programs that are alike: of the type of those that call it",
        tostring(refusal(function() jumps[0] = obj.progs.bump end)))
      assert.equal("a prog_array holds programs, not a userdata",
        mistake(function() jumps[0] = obj.maps.jobs end))
      assert.equal([[
set in map 'jumps': there is no such key (E2BIG)
hint: a prog_array of 4 entries has the keys 0 to 3]],
        tostring(refusal(function() jumps[4] = obj.progs.tail end)))
      local open <close> = support.open "kinds"
      assert.matches("not loaded", tostring(refusal(function() jumps[0] = open.progs.tail end)))
    end)
  end)

  it("holds what C puts there: maps and programs", function()
    local obj <close> = load "kinds"
    local nested, filled = obj.maps.nested, obj.maps.filled
    assert.equal(obj.maps.preset.id, nested[1].id)
    assert.equal(1, nested:count())
    assert.equal("tail", filled[2].name)
    assert.equal(1, filled:count())
    collectgarbage()
  end)

  it("program array is emptied when its last descriptor goes, as the kernel has it", function()
    local obj = load "kinds"
    local path = ("/sys/fs/bpf/mbspec-%d"):format(uv.os_getpid())
    obj.maps.jumps[1] = obj.progs.tail
    obj.maps.jumps:pin(path)
    obj:close()
    local pinned <close> = bpf.pinned(path)
    pinned:unpin()
    assert.equal("tail", pinned[1].name)
    collectgarbage()
  end)

  describe("of type stack_trace", function()
    it("gives the addresses of a stack, as many as it has", function()
      local obj <close> = load "kinds"
      local m = obj.maps.stacks
      assert.equal("__u32", m.key_type.name)
      assert.equal("__u64[32]", m.value_type.name)
      obj.vars.pid = uv.os_getpid()
      local link <close> = obj.progs.trace:attach()
      uv.fs_stat "/"
      obj.vars.pid = 0
      link:detach()
      local id = obj.vars.stack
      assert.is_true(id >= 0, id)
      local stack = m:get(id)
      assert.is_true(#stack >= 1 and #stack <= 32)
      for i, address in pairs(stack) do assert.are_not.equal(0, address, i) end
      local walked
      for k, v in pairs(m) do
        if k == id then walked = v end
      end
      assert.same(bpf.totable(stack), bpf.totable(walked))
      assert.equal("stack_trace 'stacks' is filled by BPF programs\nhint: use bpf_get_stackid() " ..
        "in C, and m:get(id)", mistake(function() m[id] = { 1 } end))
      m[id] = nil
      assert.is_nil(m:get(id))
      assert.equal(stack[0], bpf.totable(stack)[1])
    end)

    it("has room for as many addresses as its value_size says, set before load", function()
      local obj <close> = support.open "kinds"
      local m = obj.maps.stacks
      m.value_size = 8 * 8
      assert.equal("__u64[8]", m.value_type.name)
      obj:load()
      assert.equal(64, m.value_size)
      assert.equal("EBUSY", refusal(function() m.value_size = 8 end).code)
    end)

    it("gives build ids where it was made with them", function()
      local m <close> = bpf.create_map { name = "ids", type = "stack_trace", key = 4,
        value = 4 * 32, max_entries = 4, flags = "stack_build_id" }
      assert.equal("struct bpf_stack_build_id[4]", m.value_type.name)
      assert.equal(0, m:count())
    end)
  end)

  describe("of sockets", function()
    it("takes their fds, and gives their cookies where values have 8 bytes", function()
      local s <close> = listener()
      for _, kind in ipairs { "sockmap", "sockhash" } do
        local m <close> = bpf.create_map { name = "socks", type = kind, key = "u32", value = "u64",
          max_entries = 4 }
        m[1] = s.fd
        assert.is_true(m[1] ~= 0)
        assert.is_nil(m[2])
        local n = 0
        for k, cookie in pairs(m) do
          assert.same({ 1, m[1] }, { k, cookie })
          n = n + 1
        end
        assert.equal(1, n)
        m[1] = nil
        assert.is_nil(m[1])
        local narrow <close> = bpf.create_map { name = "narrow", type = kind, key = "u32",
          value = "u32", max_entries = 4 }
        narrow[1] = s.fd
        assert.equal(kind .. " 'narrow' cannot be read, as its values have 4 bytes\nhint: make " ..
          "them __u64 in C: reading then gives the sockets' cookies",
          mistake(function() return narrow[1] end))
        assert.is_true(narrow:delete(1))
      end
    end)

    it("says which sockets the kernel takes", function()
      local m <close> = bpf.create_map { name = "socks", type = "sockmap", key = "u32",
        value = "u64", max_entries = 4 }
      local s <const> = uv.new_tcp()
      s:bind("127.0.0.1", 0)            -- neither listens nor is connected
      local err = refusal(function() m[1] = s:fileno() end)
      s:close()
      uv.run "nowait"
      assert.equal("the kernel takes TCP sockets that are connected or listen, UDP ones that " ..
        "are bound", err.hint)
      assert.matches("the descriptor is not open", mistake(function() m[1] = 999999 end))
    end)

    it("reuseport_sockarray is described, and refuses what does not share its port", function()
      local m <close> = bpf.create_map { name = "ports", type = "reuseport_sockarray",
        key = "u32", value = "u64", max_entries = 4 }
      local s <close> = listener()
      assert.equal("EINVAL", refusal(function() m[1] = s.fd end).code)
      assert.is_nil(m[1])
      assert.is_false(m:delete(1))
      assert.equal(0, m:count())
    end)

    it("xskmap cannot be read, and says so", function()
      local m <close> = bpf.create_map { name = "xsks", type = "xskmap", key = "u32",
        value = "u32", max_entries = 4 }
      assert.equal("xskmap 'xsks' cannot be read: only BPF programs see what it holds\nhint: " ..
        "use m:set(key, fd) and m:delete(key)", mistake(function() return m[1] end))
      local s <close> = listener()
      assert.is_string(refusal(function() m[1] = s.fd end).code)
      m[1] = nil
    end)
  end)

  describe("of devices and CPUs", function()
    it("devmap and devmap_hash take interfaces by index", function()
      for _, kind in ipairs { "devmap", "devmap_hash" } do
        local m <close> = bpf.create_map { name = "devs", type = kind, key = "u32", value = "u32",
          max_entries = 4 }
        m[2] = 1                        -- lo
        assert.equal(1, m[2])
        assert.is_nil(m[3])
        local all = {}
        for k, v in pairs(m) do all[k] = v end
        assert.same({ [2] = 1 }, all)
        assert.is_true(m:delete(2))
        assert.is_nil(m[2])
        assert.is_string(refusal(function() m[1] = 99999 end).code)
        assert.matches("cannot take", mistake(function() m:take(1) end))
      end
    end)

    it("cpumap takes queue lengths by CPU", function()
      local m <close> = bpf.create_map { name = "cpus", type = "cpumap", key = "u32",
        value = "u32" }
      assert.equal(bpf.cpus.possible, m.max_entries)
      m[0] = 64
      assert.equal(64, m[0])
      m[0] = nil
      assert.is_nil(m[0])
    end)
  end)

  describe("of storage", function()
    it("of tasks has process ids for keys, or pidfds", function()
      local m <close> = bpf.create_map { name = "tasks", type = "task_storage", key = "u32",
        value = "u64" }
      local me = uv.os_getpid()
      assert.is_nil(m:get(me))
      local before = count_fds()
      m:set(me, 5)
      assert.equal(5, m:get(me))
      assert.is_true(m:set(me, 6, "exist"))
      assert.is_false(m:set(me, 7, "noexist"))
      local all, found = m:get_many { me, 4194304, me }
      assert.same({ 6, nil, 6 }, { all[1], all[2], all[3] })
      assert.equal(2, found)
      assert.is_nil(m:get(4194304))
      assert.is_false(m:delete(4194304))
      assert.equal(1, m:delete_many { 4194304, me })
      assert.is_nil(m:get(me))
      assert.equal(1, m:set_many { [me] = 8 })
      assert.is_true(m:delete(me))
      assert.equal(before, count_fds())
      assert.equal("find process '4194304': there is none with this id (ESRCH)",
        tostring(refusal(function() m:set(4194304, 1) end)))
      for _, wrong in ipairs { -1, 0, 2 ^ 31, math.mininteger } do
        assert.is_nil(m:get(wrong))
      end
      assert.equal("the key of task storage is a process, not a string\n" ..
        "hint: m:get(pid), or m:get { pidfd = fd }", mistake(function() m:get "init" end))
      assert.matches("file descriptor is a number", mistake(function() m:get { pid = 1 } end))
      assert.is_string(mistake(function() m:get { pidfd = 999999 } end))
    end)

    it("of files has paths for keys, or fds", function()
      local m <close> = bpf.create_map { name = "files", type = "inode_storage", key = "u32",
        value = "u64" }
      local path = os.tmpname()
      local _ <close> = setmetatable({}, { __close = function() os.remove(path) end })
      local before = count_fds()
      m:set(path, 5)
      assert.equal(5, m:get(path))
      local fd = assert(uv.fs_open(path, "r", 0))
      assert.equal(5, m:get(fd))
      assert.equal(5, m[fd])
      m[fd] = 6
      uv.fs_close(fd)
      assert.equal(6, m:get(path))
      assert.is_true(m:delete(path))
      assert.is_false(m:delete(path))
      assert.equal(before, count_fds())
      assert.equal("ENOENT", refusal(function() m:get "/nowhere/at/all" end).code)
      assert.matches("zero byte", mistake(function() m:get "/tmp\0x" end))
    end)

    it("of sockets has fds for keys", function()
      local m <close> = bpf.create_map { name = "socks", type = "sk_storage", key = "u32",
        value = "u64" }
      local s <close> = listener()
      m[s.fd] = 9
      assert.equal(9, m[s.fd])
      assert.is_true(m:delete(s.fd))
      assert.is_nil(m[s.fd])
      assert.is_string(refusal(function() return m[0] end).code)
    end)

    it("of cgroups has paths for keys", function()
      skip.unless "cgrp_storage"
      local group <close> = cgroup.new()
      skip.unless(group, "no cgroup2 is mounted")
      local m <close> = bpf.create_map { name = "groups", type = "cgrp_storage", key = "u32",
        value = "u64" }
      m:set(group.path, 3)
      assert.equal(3, m:get(group.path))
      assert.is_true(m:delete(group.path))
      assert.is_string(mistake(function() m:get(999999) end))
    end)

    it("cannot be walked, and says how to read it", function()
      for _, kind in ipairs { "task_storage", "inode_storage", "sk_storage" } do
        local m <close> = bpf.create_map { name = "store", type = kind, key = "u32", value = "u64" }
        local text = kind .. " 'store' cannot be walked: it lies with its owners\nhint: ask for " ..
          "one owner by m:get(owner), or walk it by a BPF iterator program"
        for _, fn in ipairs {
          function() return pairs(m) end, function() m:count() end, function() m:clear() end,
          function() m:snapshot() end, function() m:sum() end, function() m:top(3) end,
        } do assert.equal(text, mistake(fn)) end
      end
    end)
  end)

  describe("of cgroups", function()
    it("cgroup_array takes paths and fds, and cannot be read", function()
      local group <close> = cgroup.new()
      skip.unless(group, "no cgroup2 is mounted")
      local m <close> = bpf.create_map { name = "groups", type = "cgroup_array", key = "u32",
        value = "u32", max_entries = 2 }
      local before = count_fds()
      m[0] = group.path
      assert.equal(before, count_fds())
      local fd = assert(uv.fs_open(group.path, "r", 0))
      m[1] = fd
      uv.fs_close(fd)
      assert.matches("cgroup_array 'groups' cannot be read", mistake(function() return m[0] end))
      assert.is_true(m:delete(0))
      m[1] = nil
      assert.equal("set in map 'groups': the descriptor is not open, or of something else",
        mistake(function() m[0] = "/tmp" end))
      assert.equal("ENOENT", refusal(function() m[0] = "/nowhere/at/all" end).code)
    end)

    it("percpu_cgroup_storage has the packets that a program counted, by CPU", function()
      local group <close> = cgroup.new()
      skip.unless(group, "no cgroup2 is mounted")
      local obj <close> = load "kinds"
      local m = obj.maps.buckets
      local link <close> = obj.progs.egress:attach { cgroup = group.path }
      local n = 0
      for key, counts in pairs(m) do
        n = n + 1
        assert.equal(uv.fs_stat(group.path).ino, key.cgroup_inode_id)
        assert.equal(bpf.cpus.possible, #counts)
        assert.equal(0, bpf.sum(counts))
        m:set(key, { [0] = 4, 5 })
        assert.equal(9, bpf.sum(m:get(key)))
        assert.equal(4, m:get(key)[0])
      end
      assert.equal(1, n)
      assert.matches("deletes nothing", mistake(function()
        m:delete { cgroup_inode_id = 1 }
      end))
      local err = refusal(function() m:set({ cgroup_inode_id = 1 }, { 1 }) end)
      assert.equal("an entry is there when a program that uses the map is attached to that " ..
        "cgroup", err.hint)
      link:detach()
    end)
  end)

  it("of type arena is described, and its memory refused with the reason", function()
    skip.unless "arena"
    local m <close> = bpf.create_map { name = "heap", type = "arena", max_entries = 4 }
    assert.same({ "arena", 4, 0, 0 }, { m.type, m.max_entries, m.key_size, m.value_size })
    assert.is_nil(m.value_type)
    assert.equal("map memory of 'heap': an arena's pages come and go with BPF programs, and " ..
      "touching one that is not there ends the process (EOPNOTSUPP)\n" ..
      "hint: share data by a global variable or an array map",
      tostring(refusal(function() m:mmap() end)))
    assert.equal("arena 'heap' has no keys\nhint: it is memory of BPF programs: share data by a " ..
      "global variable or an array map", mistake(function() return m[0] end))
  end)

  it("of type perf_event_array has types from its object, and no values to read", function()
    local obj <close> = load "kinds"
    local m = obj.maps.events
    assert.equal("__u32", m.key_type.name)
    assert.equal(bpf.cpus.possible, m.max_entries)
    assert.equal("perf_event_array 'events' has no values to read\n" ..
      "hint: use m:reader() for its events", mistake(function() return m[0] end))
    assert.is_string(mistake(function() m[0] = 999999 end))
  end)
end)
