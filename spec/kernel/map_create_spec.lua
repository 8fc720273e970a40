-- SPDX-License-Identifier: BSD-2-Clause
-- bpf.create_map: maps without an object.
local bpf = require "moonbee"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"

local mistake, refusal = support.mistake, support.refusal
local PAGE = 4096

local function hash(options)
  local all = { name = "made", type = "hash", key = "u32", value = "u64", max_entries = 16 }
  for k, v in pairs(options or {}) do all[k] = v end
  return bpf.create_map(all)
end

describe("bpf.create_map #root", function()
  before_each(skip.root)

  it("makes a map that works as any other, and goes with its handle", function()
    local m <close> = hash()
    assert.equal("map", bpf.type(m))
    assert.same({ "made", "hash", 4, 8, 16, 0 },
      { m.name, m.type, m.key_size, m.value_size, m.max_entries, m.flags })
    assert.same({ "u32", "u64" }, { m.key_type.name, m.value_type.name })
    m[1] = 5
    assert.equal(5, m[1])
    local id = m.id
    m:close()
    assert.matches("closed", mistake(function() return m[1] end))
    assert.are_not.equal(0, run({ "bpftool", "map", "show", "id", tostring(id) }).rc)
  end)

  it("takes types of an object: others see them, too", function()
    local obj <close> = support.open "maps"
    local m <close> = bpf.create_map { name = "flows", type = "hash", max_entries = 16,
      key = obj.types["struct flow_key"], value = obj.types["struct flow"] }
    m:set({ saddr = 1 }, { packets = 9, stats = { drops = 2 } })
    local r = run { "bpftool", "-j", "map", "dump", "id", tostring(m.id) }
    assert.equal(0, r.rc, r.err)
    assert.matches('"saddr"', r.out, 1, true)
    assert.matches('"packets"', r.out, 1, true)
    obj:close()
    collectgarbage()
    assert.equal(2, m:get({ saddr = 1 }).stats.drops)
  end)

  it("takes key and value types of different objects", function()
    local one <close>, other = support.open "maps", support.open "kinds"
    local m <close> = bpf.create_map { name = "mixed", type = "hash", max_entries = 4,
      key = one.types["struct flow_key"], value = other.types["struct table"] == nil and "u32" or
        other.types["struct event"] }
    other:close()
    m:set({ saddr = 3 }, { pid = 7 })
    assert.equal(7, m:get({ saddr = 3 }).pid)
  end)

  it("takes C's names of numbers and arrays of them", function()
    for name, size in pairs { u8 = 1, __u16 = 2, uint32_t = 4, u64 = 8, s8 = 1, __s16 = 2, int = 4,
        int64_t = 8, bool = 1, ["char[16]"] = 16, ["u32[3]"] = 12, ["unsigned int"] = 4 } do
      local m <close> = hash { value = name }
      assert.equal(size, m.value_size, name)
    end
    local text <close> = hash { key = "char[16]", value = "u32[3]" }
    text:set("moon", { 1, 2, 3 })
    assert.equal(3, text:get("moon")[2])
    for _, wrong in ipairs { "", "u33", "u32[", "u32[]", "u32[0]", "u32[-1]", "u32[4]x", "[4]",
        "u32[4][2]", "u32[99999999999]", "struct flow", ("x"):rep(5000), "u32 ", "u32[ 4]" } do
      local err = refusal(function() hash { value = wrong } end)
      assert.equal("EINVAL", err.code, wrong)
    end
    assert.matches("hint: u8 to u64", tostring(refusal(function() hash { key = "u33" } end)))
  end)

  it("takes numbers of bytes: strings then", function()
    local m <close> = hash { key = 6, value = 10 }
    m:set("abcdef", "0123456789")
    assert.equal("0123456789", m:get "abcdef")
    local mixed <close> = hash { key = 6, value = "u32" }
    mixed:set("abcdef", 7)
    assert.equal(7, mixed:get "abcdef")
  end)

  it("keeps types that the kernel wants not for that kind of map", function()
    local m <close> = bpf.create_map { name = "q", type = "queue", value = "s16", max_entries = 4 }
    m:push(-5)
    assert.equal(-5, m:pop())
  end)

  it("sanitizes names, and shows what became of them", function()
    for name, made in pairs { ["a-b c/d"] = "a_b_c_d", [("x"):rep(40)] = ("x"):rep(15),
        ["ä"] = "__", ["a.b"] = "a.b" } do
      local m <close> = hash { name = name }
      assert.equal(made, m.name)
    end
    local a <close> = hash()
    local b <close> = hash()
    assert.equal(a.name, b.name)
    assert.are_not.equal(a.id, b.id)
    local none <close> = bpf.create_map { type = "hash", key = 4, value = 4, max_entries = 1 }
    assert.equal("#" .. none.id, none.name)
  end)

  it("adds what the type demands", function()
    local trie <close> = bpf.create_map { type = "lpm_trie", key = 8, value = "u32",
      max_entries = 4 }
    assert.equal(1, trie.flags)         -- BPF_F_NO_PREALLOC
    for _, size in ipairs { { 1, PAGE }, { PAGE, PAGE }, { PAGE + 1, 2 * PAGE },
        { 5 * PAGE, 8 * PAGE } } do
      local ring <close> = bpf.create_map { type = "ringbuf", max_entries = size[1] }
      assert.equal(size[2], ring.max_entries)
    end
    local events <close> = bpf.create_map { type = "perf_event_array", key = "u32", value = "u32" }
    assert.equal(bpf.cpus.possible, events.max_entries)
  end)

  it("takes flags by name", function()
    local m <close> = bpf.create_map { type = "array", key = "u32", value = "u64", max_entries = 8,
      flags = { "mmapable", "rdonly_prog" } }
    assert.equal((1 << 10) | (1 << 7), m.flags)
    m[3] = 7
    assert.equal(7, m:mmap()[3])
    local one <close> = hash { flags = "no_prealloc" }
    assert.equal(1, one.flags)
    local number <close> = hash { flags = 1 }
    assert.equal(1, number.flags)
    assert.equal("there is no map flag 'mmapabel'\nhint: did you mean 'mmapable'?",
      mistake(function() hash { flags = "mmapabel" } end))
    for _, wrong in ipairs { true, { true }, { 1, 2 }, 1.5, -1, 2 ^ 32, print } do
      assert.is_string(mistake(function() hash { flags = wrong } end))
    end
  end)

  it("makes maps of maps from a map that is like the inner ones", function()
    local inner <close> = hash()
    local outer <close> = bpf.create_map { name = "outer", type = "array_of_maps", key = "u32",
      value = "u32", max_entries = 2, inner = inner }
    outer[1] = inner
    assert.equal(inner.id, outer[1].id)
    assert.equal("create map 'x': it holds maps: of what kind? (EINVAL)\n" ..
      "hint: inner = a map that is like those it will hold",
      tostring(refusal(bpf.create_map, { name = "x", type = "hash_of_maps", key = "u32",
        value = "u32", max_entries = 2 })))
    inner:close()
    assert.is_string(mistake(function()
      bpf.create_map { type = "array_of_maps", key = 4, value = 4, max_entries = 2, inner = inner }
    end))
    collectgarbage()
  end)

  it("says what the kernel refuses, and what is missing", function()
    assert.equal("create map 'made': Invalid argument (EINVAL)\nhint: a hash wants max_entries",
      tostring(refusal(function() hash { max_entries = 0 } end)))
    assert.equal("create map 'made': there is no map type 'hsh' (EINVAL)\n" ..
      "hint: did you mean 'hash'?", tostring(refusal(function() hash { type = "hsh" } end)))
    assert.equal("EINVAL", refusal(function() hash { type = "struct_ops" } end).code)
    assert.equal("EINVAL", refusal(function() hash { key = 0 } end).code)
    assert.equal("create map 'made': Invalid argument (EINVAL)\nhint: a task_storage wants the " ..
      'key "int", a type for its value, and max_entries 0',
      tostring(refusal(function() hash { type = "task_storage" } end)))
    assert.equal("E2BIG", refusal(function() hash { max_entries = 4294967295 } end).code)
    assert.is_string(refusal(function() hash { type = "unknown" } end).code)
    assert.is_string(refusal(function() hash { type = "" } end).code)
  end)

  it("refuses options that are none", function()
    for _, wrong in ipairs { { size = 1 }, { type = false }, { type = 5 }, { name = 5 },
        { key = true }, { value = {} }, { key = -1 }, { key = 1.5 }, { key = 2 ^ 40 },
        { max_entries = "x" }, { max_entries = -1 }, { max_entries = 2 ^ 32 },
        { max_entries = 1.5 }, { inner = 5 }, { inner = {} }, { [1] = "hash" } } do
      assert.is_string(mistake(function() hash(wrong) end))
    end
    for _, wrong in ipairs { 1, "hash", true } do
      assert.is_string(mistake(function() bpf.create_map(wrong) end))
    end
    assert.is_string(mistake(function() bpf.create_map() end))
    assert.is_string(mistake(function() bpf.create_map {} end))
    assert.equal("create_map has no option 'size'\n" ..
      "hint: it has name, type, key, value, max_entries, flags, inner",
      mistake(function() hash { size = 1 } end))
  end)
end)
