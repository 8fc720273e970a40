-- SPDX-License-Identifier: BSD-2-Clause
-- m:mmap and m:freeze: the memory of arrays as live views.
local uv = require "luv"
local bpf = require "moonbee"
local skip = require "support.skip"
local support = require "support.bpf"

local mistake, refusal, load = support.mistake, support.refusal, support.load

local DIR = string.format("/sys/fs/bpf/moonbee_memory_spec_%d", uv.os_getpid())

-- Mappings of BPF maps in this process.
local function mappings()
  local n = 0
  for line in io.lines "/proc/self/maps" do
    if line:find("bpf-map", 1, true) then n = n + 1 end
  end
  return n
end

local function collect()
  collectgarbage()
  collectgarbage()
end

describe("m:mmap #root", function()
  before_each(skip.root)

  it("is an array view of all entries", function()
    local obj <close> = load "memory"
    local numbers = obj.maps.numbers:mmap()
    assert.equal("view", bpf.type(numbers))
    assert.equal(1000, #numbers)
    assert.equal(8000, bpf.sizeof(numbers))
    assert.equal("__u64[1000]", bpf.typeof(numbers).name)
    assert.equal(0, numbers[999])
    assert.equal("index '__u64[1000]': __u64[1000] has no element 1000 (0..999)",
      mistake(function() return numbers[1000] end))
    assert.equal("store '[1]': it is __u64 and takes an integer, " ..
      "not a number with a fraction (1.5)", mistake(function() numbers[1] = 1.5 end))
  end)

  it("is live in both directions, without a system call per entry", function()
    local obj <close> = load "memory"
    local map = obj.maps.numbers
    local numbers = map:mmap()
    numbers[3] = 41
    assert.equal(41, map[3])
    obj.progs.step_all:run()
    assert.equal(42, numbers[3])
    map[3] = 50
    assert.equal(50, numbers[3])
    assert.equal(50, bpf.ref(numbers, "[3]"):add(5))
    assert.equal(55, map[3])
    assert.equal(55, bpf.sum(numbers))
  end)

  it("gives structs their place: a stride of 16 for 12 bytes", function()
    local obj <close> = load "memory"
    local map = obj.maps.triples
    local triples = map:mmap()
    assert.equal(100, #triples)
    assert.equal(12, map.value_size)
    assert.equal(16, bpf.typeof(triples).stride)
    assert.equal(1600, bpf.sizeof(triples))
    for i = 0, 99 do triples[i] = { a = i, b = 2 * i, c = 3 * i } end
    for i = 0, 99 do
      assert.same({ a = i, b = 2 * i, c = 3 * i }, bpf.totable(map[i]))
    end
    obj.progs.step_all:run()
    assert.equal(7, triples[3].b)
    triples[99].c = 1
    assert.equal(1, map[99].c)
    assert.equal(4950, bpf.sum(triples, "a"))
  end)

  it("gives bytes where the map has no BTF", function()
    local obj <close> = load "memory"
    local bare = obj.maps.bare:mmap()
    bare[3] = "abcdef"
    assert.equal("abcdef", obj.maps.bare:get(3))
    assert.equal(("\0"):rep(6), bare[2])
  end)

  it("shares one mapping among all views of it", function()
    local obj <close> = load "memory"
    local before = mappings()
    local one = obj.maps.numbers:mmap()
    local two = obj.maps.numbers:mmap()
    assert.equal(before + 1, mappings())
    one[0] = 7
    assert.equal(7, two[0])
  end)

  it("unmaps with the last view, not before", function()
    local obj <close> = load "memory"
    collect()
    local before = mappings()
    local element = obj.maps.triples:mmap()[5]
    collect()
    assert.equal(before + 1, mappings())
    element.a = 9
    assert.equal(9, obj.maps.triples[5].a)
    element = nil -- luacheck: ignore
    collect()
    assert.equal(before, mappings())
    assert.equal(9, obj.maps.triples:mmap()[5].a) -- and again
  end)

  it("ends with the map", function()
    local obj <close> = load "memory"
    local numbers, triples = obj.maps.numbers:mmap(), obj.maps.triples:mmap()
    local element, ref = triples[1], bpf.ref(numbers, "[1]")
    local before = mappings()
    obj.maps.numbers:close()
    obj.maps.triples:close()
    assert.equal(before, mappings()) -- somebody may still read it: only the views have ended
    assert.equal("access '__u64[1000]': its map is closed",
      mistake(function() return numbers[0] end))
    assert.equal("access '__u64[1000]': its map is closed",
      mistake(function() numbers[0] = 1 end))
    assert.equal("access '[1].a': its map is closed", mistake(function() return element.a end))
    assert.equal("access '[1]': its map is closed", mistake(function() ref:set(1) end))
    assert.equal("moonbee.view __u64[1000] (its map is closed)", tostring(numbers))
    assert.equal("attempt to use closed map 'numbers'",
      mistake(function() obj.maps.numbers:mmap() end))
    numbers, triples, element, ref = nil, nil, nil, nil -- luacheck: ignore
    collect()
    assert.equal(before - 2, mappings())
  end)

  it("ends with the object", function()
    local obj = load "memory"
    local numbers = obj.maps.numbers:mmap()
    obj:close()
    assert.equal("access '__u64[1000]': its map is closed",
      mistake(function() return numbers[0] end))
  end)

  it("keeps the map's object alive", function()
    local numbers = load("memory").maps.numbers:mmap()
    collect()
    numbers[1] = 2
    assert.equal(2, numbers[1])
  end)

  it("holds a million entries", function()
    local obj <close> = load "memory"
    local million = obj.maps.million:mmap()
    assert.equal(1 << 20, #million)
    bpf.fill(million, 3)
    million[(1 << 20) - 1] = 10
    assert.equal(3 * (1 << 20) + 7, bpf.sum(million))
    assert.equal(10, bpf.max(million))
    assert.equal(10, obj.maps.million[(1 << 20) - 1])
    assert.equal(3 * (1 << 20) + 7, obj.maps.million:sum())
  end)

  describe("refuses", function()
    it("arrays that were not made for it", function()
      local obj <close> = load "memory"
      assert.equal("map memory of 'closed': it was not made with BPF_F_MMAPABLE (EINVAL)\n" ..
        "hint: in C: __uint(map_flags, BPF_F_MMAPABLE); (Linux 5.5)",
        tostring(refusal(obj.maps.closed.mmap, obj.maps.closed)))
    end)

    it("other types of map", function()
      local obj <close> = load "memory"
      for name, kind in pairs { table = "hash", per_cpu = "percpu_array" } do
        local map = obj.maps[name]
        assert.equal("map memory of '" .. name .. "': it was not made with BPF_F_MMAPABLE " ..
          "(EINVAL)\nhint: only arrays can be, and this is a " .. kind,
          tostring(refusal(map.mmap, map)))
      end
    end)

    it("a map that is not loaded", function()
      local obj <close> = support.open "memory"
      assert.equal("map memory of 'numbers': its object is not loaded (EINVAL)\n" ..
        "hint: call obj:load() first", tostring(refusal(obj.maps.numbers.mmap, obj.maps.numbers)))
    end)
  end)

  it("is live where only programs may not write", function()
    local obj <close> = load "memory"
    local map = obj.maps.settings
    local settings = map:mmap()
    map[2] = 30
    assert.equal(30, settings[2])
    assert.equal("write '[2]': memory of map 'settings' is read-only\nhint: programs may only "
      .. "read it (BPF_F_RDONLY_PROG): write by m[key] = value",
      mistake(function() settings[2] = 31 end))
    obj.progs.step_all:run()
    assert.equal(1 + 4 + 30, obj.vars.total)
  end)

  describe("by a pin", function()
    local obj
    before_each(function()
      obj = load "memory"
      obj.maps.numbers:pin(DIR .. "/numbers")
      obj.maps.triples:pin(DIR .. "/triples")
    end)
    after_each(function()
      if not obj then return end
      obj:close()
      require "support.leaks".remove(DIR)
      obj = nil
    end)

    it("is the same memory", function()
      local pinned <close> = bpf.pinned(DIR .. "/triples")
      local there, here = pinned:mmap(), obj.maps.triples:mmap()
      there[7] = { a = 1, b = 2, c = 3 }
      assert.equal(3, here[7].c)
      assert.equal("struct triple", bpf.typeof(there[7]).name)
    end)

    it("keeps the kernel's map alive by the views alone", function()
      local pinned = bpf.pinned(DIR .. "/numbers")
      local id = pinned.id
      local numbers = pinned:mmap()
      pinned = nil -- luacheck: ignore
      collect()
      numbers[1] = 5
      assert.equal(5, numbers[1])
      assert.equal(5, obj.maps.numbers[1])
      assert.equal(id, obj.maps.numbers.id)
    end)

    it("is a read-only copy when the pin is opened read-only", function()
      obj.maps.numbers[5] = 50
      obj.maps.triples[99] = { a = 1, b = 2, c = 3 }
      local numbers_map <close> = bpf.pinned(DIR .. "/numbers", { readonly = true })
      local triples_map <close> = bpf.pinned(DIR .. "/triples", { readonly = true })
      local before = mappings()
      local numbers, triples = numbers_map:mmap(), triples_map:mmap()
      assert.equal(before, mappings())
      assert.equal(1000, #numbers)
      assert.equal(50, numbers[5])
      assert.same({ a = 1, b = 2, c = 3 }, bpf.totable(triples[99]))
      assert.equal(1, bpf.sum(triples, "a"))
      obj.maps.numbers[5] = 51
      assert.equal(50, numbers[5])              -- of the moment
      assert.equal(51, numbers_map:mmap()[5])   -- and anew
      assert.equal("write '[5]': copy of map 'numbers' is read-only",
        mistake(function() numbers[5] = 1 end))
      assert.equal("freeze map 'numbers': Operation not permitted (EPERM)",
        (tostring(refusal(numbers_map.freeze, numbers_map)):match "^[^\n]+"))
    end)
  end)
end)

describe("m:freeze #root", function()
  before_each(skip.root)

  it("ends writes from Lua, by call and by memory; programs still write", function()
    local obj <close> = load "memory"
    local map = obj.maps.numbers
    map[3] = 1
    map:freeze()
    assert.equal("EPERM", refusal(function() map[3] = 2 end).code)
    local numbers = map:mmap()
    assert.equal("write '[3]': memory of map 'numbers' is read-only"
      .. "\nhint: the map is frozen", mistake(function() numbers[3] = 2 end))
    assert.equal("write '__u64[1000]': memory of map 'numbers' is read-only"
      .. "\nhint: the map is frozen", mistake(function() bpf.fill(numbers, 2) end))
    obj.progs.step_all:run()
    assert.equal(2, numbers[3])
    assert.equal(2, map[3])
  end)

  it("is refused while a writable view lives", function()
    local obj <close> = load "memory"
    local map = obj.maps.triples
    local element = map:mmap()[4]
    collect()
    assert.equal("freeze map 'triples': a writable view of its memory lives (EBUSY)\n" ..
      "hint: let the views of m:mmap() go and collect garbage, then freeze",
      tostring(refusal(map.freeze, map)))
    element.a = 5
    element = nil -- luacheck: ignore
    collect()
    map:freeze()
    assert.equal(5, map[4].a)
  end)

  it("is refused a second time, also while a read-only view lives", function()
    local obj <close> = load "memory"
    local map = obj.maps.numbers
    map:freeze()
    local text = "freeze map 'numbers': it is frozen already (EBUSY)"
    assert.equal(text, tostring(refusal(map.freeze, map)))
    local view = map:mmap()
    assert.equal(text, tostring(refusal(map.freeze, map)))
    assert.equal(0, view[0])
  end)

  it("is refused while another handle has mapped it for writing", function()
    local obj <close> = load "memory"
    obj.maps.numbers:pin(DIR .. "/numbers")
    local pinned <close> = bpf.pinned(DIR .. "/numbers")
    pinned:unpin()
    require "support.leaks".remove(DIR)
    local view = pinned:mmap()
    assert.equal("freeze map 'numbers': it is mapped for writing elsewhere (EBUSY)",
      tostring(refusal(obj.maps.numbers.freeze, obj.maps.numbers)))
    view[0] = 1
  end)

  it("works on a map that cannot be mapped, and says when a map is not there", function()
    local obj <close> = load "memory"
    obj.maps.table[1] = 2
    obj.maps.table:freeze()
    assert.equal("EPERM", refusal(function() obj.maps.table[1] = 3 end).code)
    assert.equal(2, obj.maps.table[1])
    local unloaded <close> = support.open "memory"
    assert.equal("freeze map 'table': its object is not loaded (EINVAL)\n" ..
      "hint: call obj:load() first",
      tostring(refusal(unloaded.maps.table.freeze, unloaded.maps.table)))
  end)
end)
