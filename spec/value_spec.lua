-- SPDX-License-Identifier: BSD-2-Clause
-- Scalars of every type in memory: what they read as, what they take, what they refuse.
local bpf = require "moonbee"
local mistake = require "support.mistake"

local FIXTURE = (os.getenv "MB_BUILD" or "build") .. "/fixtures/types.bpf.o"

describe("a variable", function()
  local obj, v

  before_each(function()
    obj = bpf.open(FIXTURE)
    v = obj.vars
  end)
  after_each(function() obj:close() end)

  local function set(name, value)
    return function() v[name] = value end
  end

  -- The bytes of a variable: from its section.
  local function bytes(section, name)
    for _, f in ipairs(bpf.typeof(section).fields) do
      if f.name == name then
        return bpf.bytes(section):sub(f.offset + 1, f.offset + f.type.size)
      end
    end
  end

  describe("has the value that the C source gives it:", function()
    local initial = {
      v_u8 = 200, v_s8 = -100, v_u16 = 60000, v_s16 = -30000, v_u32 = 4000000000,
      v_s32 = -2000000000, v_u64 = 0xfedcba9876543210, v_s64 = -81985529216486895,
      v_bool = true, v_char = 120, v_float = 1.5, v_double = -2.25, name = "moonbee", full = "abcd",
      v_mode = 10, v_level = -5, v_wide = 1, v_user = 1000, v_ptr = 0xffff888000001000,
      v_limit_ptr = 0x1000, v_fn = 0x2000, v_weak = 7, hits = 0, c_version = 3, c_name = "fixture",
      c_ratio = 0.5, v_const = 99, tune_rate = 100, tune_on = true,
    }
    for name, value in pairs(initial) do
      it(name, function()
        assert.equal(value, v[name])
        assert.equal(math.type(value), math.type(v[name]))
      end)
    end

    it("v_int128 and v_uint128, as bytes", function()
      assert.equal(("<i16"):pack(-2), v.v_int128)
      assert.equal(("<I8I8"):pack(2, 1), v.v_uint128)
    end)
  end)

  -- name, pack's format, lowest, highest, type's name
  local integers = {
    { "v_u8", "<I1", 0, 255, "__u8" }, { "v_s8", "<i1", -128, 127, "__s8" },
    { "v_u16", "<I2", 0, 65535, "__u16" }, { "v_s16", "<i2", -32768, 32767, "__s16" },
    { "v_u32", "<I4", 0, 4294967295, "__u32" },
    { "v_s32", "<i4", -2147483648, 2147483647, "__s32" },
    { "v_user", "<I4", 0, 4294967295, "user_type" },
    { "v_char", "<i1", -128, 127, "char" },
  }
  for _, row in ipairs(integers) do
    local name, format, low, high, type = table.unpack(row)
    describe("of type " .. type, function()
      it("takes all of its range", function()
        for _, value in ipairs { low, low + 1, 0, 1, high - 1, high } do
          v[name] = value
          assert.equal(value, v[name])
          assert.equal(format:pack(value), bytes(obj.data, name))
        end
      end)

      it("takes an integral float, and gives an integer back", function()
        v[name] = 3.0
        assert.equal("integer", math.type(v[name]))
        assert.equal(3, v[name])
      end)

      it("refuses what is out of its range, and stays what it was", function()
        v[name] = 5
        for _, value in ipairs { low - 1, high + 1, math.mininteger, math.maxinteger } do
          assert.equal(("store '%s': %d is out of range for %s (%d..%d)"):format(name, value, type,
            low, high), mistake(set(name, value)))
        end
        assert.equal(5, v[name])
      end)

      it("refuses what is no whole number", function()
        v[name] = 5
        local takes = ("store '%s': it is %s and takes an integer, not "):format(name, type)
        assert.equal(takes .. "a number with a fraction (1.5)", mistake(set(name, 1.5)))
        assert.equal(takes .. "a number with a fraction (nan)",
          (mistake(set(name, 0 / 0)):gsub("%-nan", "nan")))
        assert.equal(takes .. "a number with a fraction (inf)", mistake(set(name, math.huge)))
        assert.equal(takes .. "a boolean", mistake(set(name, true)))
        assert.equal(takes .. "a string", mistake(set(name, "5")))
        for _, value in ipairs { {}, print, obj } do
          assert.equal(("store '%s': it is %s, and a %s is no value for that"):format(name, type,
            _G.type(value)), mistake(set(name, value)))
        end
        assert.equal(("store '%s': it is %s, and a nil is no value for that"):format(name, type),
          mistake(set(name, nil)))
        assert.equal(5, v[name])
      end)
    end)
  end

  it("of a u8 refuses 256 by name, type and range", function()
    assert.equal("store 'v_u8': 256 is out of range for __u8 (0..255)", mistake(set("v_u8", 256)))
    assert.equal("store 'v_u8': -1 is out of range for __u8 (0..255)", mistake(set("v_u8", -1)))
  end)

  describe("of 64 bits, unsigned,", function()
    it("keeps its bits in a Lua integer", function()
      for _, value in ipairs { 0, 1, -1, math.maxinteger, math.mininteger, 0xfedcba9876543210 } do
        v.v_u64 = value
        assert.equal(value, v.v_u64)
        assert.equal(("<i8"):pack(value), bytes(obj.data, "v_u64"))
      end
    end)

    it("takes floats from 2^63 on, which have no Lua integer", function()
      v.v_u64 = 2^63
      assert.equal(math.mininteger, v.v_u64)
      v.v_u64 = 2^64 - 2048
      assert.equal(-2048, v.v_u64)
    end)

    it("refuses floats beyond", function()
      assert.equal("store 'v_u64': 1.84467e+19 is out of range for __u64 (0..18446744073709551615)",
        mistake(set("v_u64", 2^64)))
      assert.equal("store 'v_u64': -1e+300 is out of range for __u64 (0..18446744073709551615)",
        mistake(set("v_u64", -1e300)))
    end)
  end)

  it("of 64 bits, signed, takes each integer, and refuses 2^63", function()
    for _, value in ipairs { 0, -1, math.maxinteger, math.mininteger } do
      v.v_s64 = value
      assert.equal(value, v.v_s64)
    end
    assert.equal("store 'v_s64': 9223372036854775808 is out of range for __s64 "
      .. "(-9223372036854775808..9223372036854775807)", mistake(set("v_s64", 2^63)))
    assert.equal("store 'v_u8': 9223372036854775808 is out of range for __u8 (0..255)",
      mistake(set("v_u8", 2^63)))
  end)

  describe("of type bool", function()
    it("takes true, false, 1 and 0, and reads as a boolean", function()
      for value, expected in pairs { [true] = true, [false] = false, [1] = true, [0] = false } do
        v.v_bool = value
        assert.equal(expected, v.v_bool)
      end
    end)

    it("refuses all else", function()
      local takes = "store 'v_bool': it is bool and takes a boolean, 0 or 1, not "
      assert.equal(takes .. "an integer", mistake(set("v_bool", 2)))
      assert.equal(takes .. "a string", mistake(set("v_bool", "true")))
      assert.equal(takes .. "a number with a fraction (0.5)", mistake(set("v_bool", 0.5)))
    end)

    it("reads any byte but 0 as true", function()
      local any = bpf.cast(obj.types["struct seen"], ("\x80"):rep(48))
      assert.equal(true, any.on)
    end)
  end)

  describe("that is a float", function()
    it("takes integers and floats, and reads as a float", function()
      for _, name in ipairs { "v_float", "v_double" } do
        for _, value in ipairs { 0, -1, 0.25, -1e10, math.huge, -math.huge, 2^63, 2^64 } do
          v[name] = value
          assert.equal(value + 0.0, v[name])
          assert.equal("float", math.type(v[name]))
        end
        v[name] = 0 / 0
        assert.truthy(v[name] ~= v[name])
      end
      v.v_double = 0.1
      assert.equal(0.1, v.v_double)
      assert.equal(("<d"):pack(0.1), bytes(obj.data, "v_double"))
      v.v_float = 0.1
      assert.equal(("<f"):pack(0.1), bytes(obj.data, "v_float"))
    end)

    it("refuses what is no number", function()
      assert.equal("store 'v_double': it is double and takes a number, not a string",
        mistake(set("v_double", "1")))
      assert.equal("store 'v_float': it is float and takes a number, not a boolean",
        mistake(set("v_float", true)))
    end)

    it("of 32 bits refuses what would become infinite", function()
      assert.equal("store 'v_float': 1e+300 is out of range for float",
        mistake(set("v_float", 1e300)))
      v.v_double = 1e300
      assert.equal(1e300, v.v_double)
    end)
  end)

  describe("of characters", function()
    it("takes a string and reads up to the first NUL", function()
      v.name = "x"
      assert.equal("x", v.name)
      assert.equal("x" .. ("\0"):rep(15), bytes(obj.data, "name"))
      v.name = "ab\0cd"
      assert.equal("ab", v.name)
      assert.equal("ab\0cd" .. ("\0"):rep(11), bytes(obj.data, "name"))
      v.name = ""
      assert.equal("", v.name)
      assert.equal(("\0"):rep(16), bytes(obj.data, "name"))
    end)

    it("may fill its array without a NUL", function()
      v.full = "wxyz"
      assert.equal("wxyz", v.full)
      v.name = ("n"):rep(16)
      assert.equal(("n"):rep(16), v.name)
    end)

    it("refuses what does not fit, and what is no string", function()
      assert.equal("store 'full': 5 bytes do not fit into char[4]", mistake(set("full", "abcde")))
      assert.equal("store 'full': it is char[4] and takes a string, not an integer",
        mistake(set("full", 5)))
      assert.equal("store 'full': it is char[4], and a table is no value for that",
        mistake(set("full", { "a" })))
      assert.equal("abcd", v.full)
    end)
  end)

  describe("of 128 bits", function()
    it("takes its bytes", function()
      v.v_int128 = ("<i16"):pack(-3)
      assert.equal(("<i16"):pack(-3), v.v_int128)
    end)

    it("refuses fewer, more, and numbers", function()
      assert.equal("store 'v_int128': __int128 takes exactly 16 bytes, not 1",
        mistake(set("v_int128", "x")))
      assert.equal("store 'v_uint128': 17 bytes do not fit into unsigned __int128",
        mistake(set("v_uint128", ("x"):rep(17))))
      assert.equal("store 'v_int128': it is __int128 and takes a string, not an integer",
        mistake(set("v_int128", 1)))
    end)
  end)

  describe("of an enum", function()
    it("takes a name or a number and reads as a number", function()
      v.v_mode = "MODE_SOFT"
      assert.equal(1, v.v_mode)
      v.v_mode = 10
      assert.equal(10, v.v_mode)
      v.v_mode = 4                      -- C lets it, too
      assert.equal(4, v.v_mode)
      v.v_level = "LEVEL_LOW"
      assert.equal(-5, v.v_level)
      v.v_wide = 1 << 40
      assert.equal(1 << 40, v.v_wide)
    end)

    it("refuses an unknown name, with the nearest one", function()
      assert.equal("store 'v_mode': enum mode has no 'MODE_STRIC'\n"
        .. "hint: did you mean 'MODE_STRICT'?", mistake(set("v_mode", "MODE_STRIC")))
      assert.equal("store 'v_mode': enum mode has no 'LEVEL_XYZ_ABC'",
        mistake(set("v_mode", "LEVEL_XYZ_ABC")))
    end)

    it("refuses what its bits cannot hold", function()
      assert.equal("store 'v_mode': -1 is out of range for enum mode (0..4294967295)",
        mistake(set("v_mode", -1)))
      assert.equal("store 'v_level': 2147483648 is out of range for enum level "
        .. "(-2147483648..2147483647)", mistake(set("v_level", 1 << 31)))
    end)

    it("has its number named by bpf.enum", function()
      assert.equal("MODE_STRICT", bpf.enum(v, "v_mode"))
      assert.equal("LEVEL_LOW", bpf.enum(v, "v_level"))
      assert.equal("MODE_SOFT", bpf.enum(v, "cfg.mode"))
      assert.equal("MODE_STRICT", bpf.enum(v.flags, "mode"))
      v.v_mode = 4
      assert.is_nil(bpf.enum(v, "v_mode"))
      assert.equal("'v_u8' is __u8, no enum", mistake(function() bpf.enum(v, "v_u8") end))
    end)
  end)

  describe("that is a pointer", function()
    it("reads and takes an address", function()
      v.v_ptr = 0xffffffff81000000
      assert.equal(0xffffffff81000000, v.v_ptr)
      v.v_ptr = 0
      assert.equal(0, v.v_ptr)
    end)

    it("refuses a string", function()
      assert.equal("store 'v_ptr': it is void * and takes an integer, not a string",
        mistake(set("v_ptr", "x")))
    end)
  end)

  describe("of bitfields", function()
    local flags = { ready = 1, kind = 5, delta = -9, span = 100000, big = 0xab12345678,
      sbig = -500000, mode = 10, on = true, tail = 77 }
    local straddle = { lead = 5, cross = 0x2bcdef01, scross = -4000, lots = 0x2fedcba987654,
      slots = -1000000000000000000 }

    it("has the values that the C source gives them", function()
      assert.same(flags, bpf.totable(v.flags))
      assert.same(straddle, bpf.totable(v.straddle))
    end)

    -- view's name, field, bits, signed, type's name
    local fields = {
      { "flags", "ready", 1, false, "__u32" }, { "flags", "kind", 3, false, "__u32" },
      { "flags", "delta", 5, true, "__s32" }, { "flags", "span", 17, false, "__u32" },
      { "flags", "big", 40, false, "__u64" }, { "flags", "sbig", 20, true, "__s64" },
      { "flags", "mode", 4, false, "enum mode" },
      { "straddle", "lead", 3, false, "__u8" }, { "straddle", "cross", 30, false, "__u32" },
      { "straddle", "scross", 13, true, "__s16" }, { "straddle", "lots", 50, false, "__u64" },
      { "straddle", "slots", 61, true, "__s64" },
    }
    for _, row in ipairs(fields) do
      local view, name, bits, signed, type = table.unpack(row)
      local low = signed and -(1 << bits - 1) or 0
      local high = signed and (1 << bits - 1) - 1 or (1 << bits) - 1

      it(("%s.%s takes its %d bits and leaves its neighbours"):format(view, name, bits), function()
        local expected = {}
        for k, value in pairs(view == "flags" and flags or straddle) do expected[k] = value end
        for _, value in ipairs { low, high, 0, 1 + low, high - 1 } do
          v[view][name], expected[name] = value, value
          assert.same(expected, bpf.totable(v[view]))
        end
      end)

      it(("%s.%s refuses what they cannot hold"):format(view, name), function()
        for _, value in ipairs { low - 1, high + 1 } do
          assert.equal(("store '%s.%s': %d is out of range for %s : %d (%d..%d)"):format(view,
            name, value, type, bits, low, high), mistake(function() v[view][name] = value end))
        end
      end)
    end

    it("lies where C puts them", function()
      local packed = obj.types["struct straddle"] {}
      packed.cross = (1 << 30) - 1
      assert.equal("\xf8\xff\xff\xff\x01" .. ("\0"):rep(15), bpf.bytes(packed))
      packed.cross, packed.scross = 0, -1
      assert.equal("\0\0\0\0\xfe\x3f" .. ("\0"):rep(14), bpf.bytes(packed))
      packed.scross, packed.slots = 0, -1
      assert.equal(("\0"):rep(12) .. ("\xff"):rep(7) .. "\x1f", bpf.bytes(packed))
    end)

    it("is a boolean where it is a bool", function()
      assert.equal(true, v.flags.on)
      v.flags.on = false
      assert.equal(false, v.flags.on)
      v.flags.on = 1
      assert.equal(true, v.flags.on)
      assert.equal("store 'flags.on': it is bool and takes a boolean, 0 or 1, not an integer",
        mistake(function() v.flags.on = 2 end))
    end)

    it("takes an enumerator's name", function()
      v.flags.mode = "MODE_SOFT"
      assert.equal(1, v.flags.mode)
    end)
  end)

  it("of a packed struct reads and writes unaligned", function()
    assert.same({ tag = 1, value = 0x01020304, wide = 0x0102030405060708,
      limit = { rate = 11, burst = 12 } }, bpf.totable(v.packed))
    v.packed.value, v.packed.wide, v.packed.limit.burst = 0xfffffffe, -2, 7
    assert.equal(("<BI4i8I4I4"):pack(1, 0xfffffffe, -2, 11, 7), bpf.bytes(v.packed))
    assert.equal("store 'packed.value': 4294967296 is out of range for __u32 (0..4294967295)",
      mistake(function() v.packed.value = 1 << 32 end))
  end)
end)
