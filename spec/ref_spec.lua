-- SPDX-License-Identifier: BSD-2-Clause
-- Bound accessors: one scalar, found once.
local bpf = require "moonbee"
local mistake = require "support.mistake"

local FIXTURE = (os.getenv "MB_BUILD" or "build") .. "/fixtures/types.bpf.o"

describe("a ref", function()
  local obj, v

  before_each(function()
    obj = bpf.open(FIXTURE)
    v = obj.vars
  end)
  after_each(function() obj:close() end)

  it("gets and sets what the view does", function()
    for _, name in ipairs { "v_u8", "v_s8", "v_u16", "v_s16", "v_u32", "v_s32", "v_u64", "v_s64",
        "v_bool", "v_char", "v_float", "v_double", "name", "v_mode", "v_ptr", "v_int128",
        "hits" } do
      local ref = bpf.ref(v, name)
      assert.equal(v[name], ref:get())
    end
    local hits, text = bpf.ref(v, "hits"), bpf.ref(v, "name")
    hits:set(7)
    assert.equal(7, v.hits)
    v.hits = 8
    assert.equal(8, hits:get())
    text:set "x"
    assert.equal("x", v.name)
    bpf.ref(v, "v_mode"):set "MODE_OFF"
    assert.equal(0, v.v_mode)
    bpf.ref(v, "v_bool"):set(false)
    assert.equal(false, v.v_bool)
    bpf.ref(v, "v_double"):set(1)
    assert.equal(1.0, v.v_double)
  end)

  it("follows a path", function()
    for path, value in pairs { ["cfg.limits[3].rate"] = 7, ["grid[1][3]"] = 13,
        ["names[2]"] = "two", ["path[1][0].x"] = 1, ["cfg.range.hi"] = 9, ["cfg.half_hi"] = 0x403,
        ["mac[3]"] = 255, ["flags.delta"] = -9,
        ["packed.wide"] = 0x0102030405060708, ["odd.__gc"] = 6 } do
      assert.equal(value, bpf.ref(v, path):get(), path)
    end
    assert.equal(30, bpf.ref(v.limits, "[3].burst"):get() - 10)
    assert.equal(7, bpf.ref(v.cfg, "limits[3].rate"):get())
    assert.equal(13, bpf.ref(v.grid[1], "[3]"):get())
    bpf.ref(v, "flags.delta"):set(-16)
    assert.equal(-16, v.flags.delta)
  end)

  it("refuses to set what the view would refuse", function()
    assert.equal("store 'v_u8': 256 is out of range for __u8 (0..255)",
      mistake(function() bpf.ref(v, "v_u8"):set(256) end))
    assert.equal("store 'v_u32': -1 is out of range for __u32 (0..4294967295)",
      mistake(function() bpf.ref(v, "v_u32"):set(-1) end))
    assert.equal("store 'v_s32': 2147483648 is out of range for __s32 (-2147483648..2147483647)",
      mistake(function() bpf.ref(v, "v_s32"):set(1 << 31) end))
    assert.equal("store 'hits': it is __u64 and takes an integer, "
      .. "not a number with a fraction (1.5)", mistake(function() bpf.ref(v, "hits"):set(1.5) end))
    assert.equal("store 'flags.delta': 16 is out of range for __s32 : 5 (-16..15)",
      mistake(function() bpf.ref(v, "flags.delta"):set(16) end))
    assert.equal("bad argument #1 to 'set' (value expected)",
      mistake(function() bpf.ref(v, "hits"):set() end))
  end)

  describe("changes atomically, and gives the old value:", function()
    -- name, low, high
    for _, row in ipairs { { "v_u8", 0, 255 }, { "v_s8", -128, 127 }, { "v_u16", 0, 65535 },
        { "v_s16", -32768, 32767 }, { "v_u32", 0, 4294967295 },
        { "v_s32", -2147483648, 2147483647 }, { "v_s64", math.mininteger, math.maxinteger },
        { "v_u64", 0, -1 } } do
      local name, low, high = table.unpack(row)

      it(name .. " wraps around", function()
        local ref = bpf.ref(v, name)
        ref:set(high)
        assert.equal(high, ref:add(1))
        assert.equal(low, ref:get())
        assert.equal(low, ref:sub(1))
        assert.equal(high, ref:get())
        assert.equal(high, ref:add(2))
        assert.equal(low + 1, ref:get())
      end)

      it(name .. " does bits, exchange and compare", function()
        local ref = bpf.ref(v, name)
        ref:set(0x5c)
        assert.equal(0x5c, ref:band(0x3c))
        assert.equal(0x1c, ref:bor(0x41))
        assert.equal(0x5d, ref:bxor(0x0f))
        assert.equal(0x52, ref:xchg(9))
        assert.equal(9, ref:cas(8, 1))
        assert.equal(9, ref:get())
        assert.equal(9, ref:cas(9, 1))
        assert.equal(1, ref:xchg(high))
        assert.equal(high, ref:cas(high, low))
        assert.equal(low, ref:get())
      end)
    end

    it("an enum, by name too", function()
      local ref = bpf.ref(v, "v_mode")
      assert.equal(10, ref:xchg "MODE_SOFT")
      assert.equal(1, ref:cas("MODE_SOFT", "MODE_OFF"))
      assert.equal(0, ref:get())
      local level = bpf.ref(v, "v_level")
      assert.equal(-5, level:xchg(5))
    end)

    it("a bool, which stays one", function()
      local ref = bpf.ref(v, "v_bool")
      assert.equal(true, ref:xchg(false))
      assert.equal(false, ref:cas(false, true))
      assert.equal(true, ref:bxor(true))
      assert.equal(false, ref:get())
      local text = "change 'v_bool': bool is true or false, and would be neither"
      assert.equal(text, mistake(function() ref:add(1) end))
      assert.equal(text, mistake(function() ref:sub(1) end))
      assert.equal(text, mistake(function() ref:xchg(2) end))
      assert.equal(text, mistake(function() ref:bor(-1) end))
      assert.equal(false, ref:get())
    end)

    it("an element, a nested field, a pointer", function()
      assert.equal(0, bpf.ref(v, "counters[1023]"):add(5))
      assert.equal(5, v.counters[1023])
      assert.equal(7, bpf.ref(v, "cfg.limits[3].rate"):add(1))
      assert.equal(0x1000, bpf.ref(v, "v_limit_ptr"):add(8))
      assert.equal(255, bpf.ref(v, "mac[3]"):add(1))
      assert.same({ 1, 2, 254, 0 }, bpf.totable(v.mac))
    end)
  end)

  it("refuses operands that are no integers", function()
    local ref = bpf.ref(v, "hits")
    assert.equal("bad argument #1 to 'add' (number has no integer representation)",
      mistake(function() ref:add(1.5) end))
    assert.equal("bad argument #1 to 'add' (number expected, got nil)",
      mistake(function() ref:add(nil) end))
    assert.equal("bad argument #1 to 'cas' (number expected, got table)",
      mistake(function() ref:cas({}, 1) end))
  end)

  it("refuses atomics on bitfields, floats, text and what is not aligned", function()
    local function refused(path) return mistake(function() bpf.ref(v, path):add(1) end) end
    assert.equal("change 'flags.delta': __s32 bitfield is no whole integer: no atomic operation",
      refused "flags.delta")
    assert.equal("change 'v_double': double is no whole integer: no atomic operation",
      refused "v_double")
    assert.equal("change 'name': char[16] is no whole integer: no atomic operation", refused "name")
    assert.equal("change 'packed.value': it is not aligned to 4 bytes: no atomic operation",
      refused "packed.value")
    assert.equal("change 'packed.wide': it is not aligned to 8 bytes: no atomic operation",
      refused "packed.wide")
    assert.equal(0x01020304, v.packed.value)
  end)

  it("refuses a path that leads nowhere", function()
    for path, text in pairs {
      [""] = "a name is missing in it", ["cfg."] = "a name is missing in it",
      ["cfg..rate"] = "a name is missing in it", [".cfg"] = "a name is missing in it",
      ["cfg.limits["] = "an index like [3] is expected",
      ["cfg.limits[]"] = "an index like [3] is expected",
      ["cfg.limits[ 1].rate"] = "an index like [3] is expected",
      ["cfg.limits[+1].rate"] = "an index like [3] is expected",
      ["cfg.limits[-1].rate"] = "an index like [3] is expected",
      ["cfg.limits[0x1].rate"] = "an index like [3] is expected",
      ["cfg.limits[1x].rate"] = "an index like [3] is expected",
      ["cfg.limits[99999999999999999999].rate"] = "an index like [3] is expected",
      ["cfg.limits[1]rate"] = "'r' is not expected there",
      ["cfg.rate.x"] = "'cfg.rate' is __u32 and has no members",
      ["cfg.rate[0]"] = "'cfg.rate' is __u32 and has no members",
      ["hits."] = "'hits' is __u64 and has no members",
      ["hit"] = "no field 'hit' in variables\nhint: did you mean 'hits'?",
      ["cfg.limits[1].rat"] = "no field 'rat' in struct limit\nhint: did you mean 'rate'?",
      ["s_static"] = "no field 's_static' in variables\n"
        .. "hint: it is static or hidden in C: only global variables are shown",
    } do
      assert.equal("resolve '" .. path .. "': " .. text,
        mistake(function() return bpf.ref(v, path) end))
    end
    assert.equal("index 'cfg.limits': struct limit[8] has no element 8 (0..7)",
      mistake(function() return bpf.ref(v, "cfg.limits[8].rate") end))
    assert.equal("index 'variables': it is variables, no array",
      mistake(function() return bpf.ref(v, "[0]") end))
    assert.equal(3, bpf.ref(v, "cfg.limits[01].rate"):get()) -- decimal, as it reads
  end)

  it("is for scalars", function()
    for path, type in pairs { cfg = "struct cfg", limits = "struct limit[8]",
        ["limits[1]"] = "struct limit" } do
      assert.equal("'" .. path .. "' is " .. type .. ": a ref is for one scalar\n"
        .. "hint: a view of it does: local v = view.field",
        mistake(function() return bpf.ref(v, path) end))
    end
  end)

  it("has no other methods, and no fields", function()
    local ref = bpf.ref(v, "hits")
    assert.equal("a ref has no 'ad'\nhint: did you mean 'add'?",
      mistake(function() return ref.ad end))
    assert.equal("a ref has no fields to set\nhint: ref:set(value) changes what it refers to",
      mistake(function() ref.value = 1 end))
    assert.equal("moonbee.ref 'hits'", tostring(ref))
    assert.equal("ref", bpf.type(ref))
    assert.equal("moonbee.ref", getmetatable(ref))
  end)

  it("works as a function, too", function()
    local ref = bpf.ref(v, "hits")
    local get, set, add = ref.get, ref.set, ref.add
    set(ref, 4)
    add(ref, 1)
    assert.equal(5, get())
    assert.equal(ref.add, ref.add)
  end)

  it("keeps its memory, and ends with its object", function()
    local ref = bpf.ref(bpf.open(FIXTURE).vars, "v_u8")
    collectgarbage()
    collectgarbage()
    assert.equal(200, ref:get())
    local own = bpf.ref(obj.types["struct limit"] { rate = 3 }, "rate")
    local hits, made = bpf.ref(v, "hits"), bpf.ref(v.limits, "[1].rate")
    obj:close()
    collectgarbage()
    assert.equal(3, own:add(1))
    assert.equal(4, own:get())
    local text = "access 'hits': object 'types' is closed"
    assert.equal(text, mistake(function() return hits:get() end))
    assert.equal(text, mistake(function() hits:set(1) end))
    assert.equal(text, mistake(function() hits:add(1) end))
    assert.equal(text, mistake(function() hits:cas(1, 2) end))
    assert.equal("access 'limits[1].rate': object 'types' is closed",
      mistake(function() return made:get() end))
  end)

  it("of memory that has ended is not made", function()
    obj:close()
    assert.equal("access 'v_s8': object 'types' is closed",
      mistake(function() return bpf.ref(v, "v_s8") end))
  end)
end)
