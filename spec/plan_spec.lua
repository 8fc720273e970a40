-- SPDX-License-Identifier: BSD-2-Clause
-- Types as BTF has them: names, kinds, sizes, offsets, definitions, values made from them.
local bpf = require "moonbee"
local mistake = require "support.mistake"

local FIXTURE = (os.getenv "MB_BUILD" or "build") .. "/fixtures/types.bpf.o"

describe("a type", function()
  local obj, types, v

  before_each(function()
    obj = bpf.open(FIXTURE)
    types, v = obj.types, obj.vars
  end)
  after_each(function() obj:close() end)

  -- "name offset" of each field, "name byte:bit width" of bitfields
  local function layout(T)
    local lines = {}
    for i, f in ipairs(T.fields) do
      lines[i] = f.bits and ("%s %d:%d %d"):format(f.name, f.offset, f.shift, f.bits)
        or f.name .. " " .. f.offset
    end
    return table.concat(lines, ", ")
  end

  describe("has the layout that clang gives it:", function()
    -- name, size, fields: by `bpftool btf dump` and the rules of C
    for name, expected in pairs {
      ["struct limit"] = { 8, "rate 0, burst 4" },
      ["struct cfg"] = { 128, "rate 0, burst 4, mode 8, strict 12, range 16, anon_a 24, anon_b 25, "
        .. "word 28, quad 28, half_lo 28, half_hi 30, limits 32, label 96, timeout_ns 112, "
        .. "any 120, nothing 128" },
      ["union any"] = { 8, "raw 0, real 0, point 0, text 0" },
      ["struct flags"] = { 24, "ready 0:0 1, kind 0:1 3, delta 0:4 5, span 1:1 17, big 8:0 40, "
        .. "sbig 13:0 20, mode 15:4 4, on 16:0 1, tail 17" },
      ["struct straddle"] = { 20, "lead 0:0 3, cross 0:3 30, scross 4:1 13, lots 5:6 50, "
        .. "slots 12:0 61" },
      ["struct packed"] = { 21, "tag 0, value 1, wide 5, limit 13" },
      ["struct flex"] = { 4, "n 0, items 4" },
      ["struct node"] = { 16, "next 0, value 8" },
      ["struct empty"] = { 0, "" },
    } do
      it(name, function()
        local T = types[name]
        assert.equal(name, T.name)
        assert.same(expected, { T.size, layout(T) })
      end)
    end
  end)

  it("is told by its kind, size and sign", function()
    for name, expected in pairs {
      __u8 = { "int", 1, false }, __s64 = { "int", 8, true }, bool = { "bool", 1, false },
      float = { "float", 4, true }, double = { "float", 8, true }, char = { "int", 1, true },
      ["__int128"] = { "bytes", 16, true }, ["enum mode"] = { "enum", 4, false },
      ["enum level"] = { "enum", 4, true }, ["struct cfg"] = { "struct", 128, false },
      ["union any"] = { "union", 8, false }, user_type = { "int", 4, false },
    } do
      local T = types[name]
      assert.same(expected, { T.kind, T.size, T.signed }, name)
      assert.equal(name, T.name)
    end
  end)

  it("of a field is told as C spells it", function()
    local names = {}
    for _, section in ipairs { obj.data, obj.bss, obj.rodata } do
      for _, f in ipairs(bpf.typeof(section).fields) do
        names[f.name] = f.type.kind .. " " .. f.type.name
      end
    end
    for name, expected in pairs {
      v_ptr = "pointer void *", v_limit_ptr = "pointer struct limit *", v_fn = "pointer void (*)()",
      name = "chars char[16]", mac = "array unsigned char[4]", limits = "array struct limit[8]",
      grid = "array __u32[3][4]", names = "array char[3][8]", path = "array struct point[2][2]",
      v_user = "int user_type", v_wide = "enum enum wide", counters = "array __u64[1024]",
      v_const = "int steady_type", c_name = "chars char[8]",
    } do
      assert.equal(expected, names[name])
    end
    assert.equal("section", bpf.typeof(obj.data).kind)
    assert.equal(".data", bpf.typeof(obj.data).name)
    assert.equal("group", bpf.typeof(v).kind)
  end)

  it("of an array has its elements' count, stride and type", function()
    local T = bpf.typeof(v.grid)
    assert.same({ 3, 16, 48, "__u32[4]", false }, { T.count, T.stride, T.size, T.elem.name,
      T.flexible })
    assert.same({ 4, 4, "__u32" }, { T.elem.count, T.elem.stride, T.elem.elem.name })
    assert.same({ 0, 4, true }, { bpf.typeof(v.flex.items).count, bpf.typeof(v.flex.items).stride,
      bpf.typeof(v.flex.items).flexible })
    assert.is_nil(types["struct cfg"].elem)
  end)

  it("of an enum has its enumerators, as signed as they are", function()
    assert.same({ { name = "MODE_OFF", value = 0 }, { name = "MODE_SOFT", value = 1 },
      { name = "MODE_STRICT", value = 10 } }, types["enum mode"].enums)
    assert.equal(-5, types["enum level"].enums[1].value)
    assert.same({}, types["struct cfg"].enums)
  end)

  it("prints as its C definition with offsets", function()
    assert.equal("struct limit {\n\t__u32 rate; /* 0 */\n\t__u32 burst; /* 4 */\n}; /* 8 bytes */",
      tostring(types["struct limit"]))
    assert.equal("struct straddle {\n\t__u8 lead : 3; /* 0:0 */\n\t__u32 cross : 30; /* 0:3 */\n"
      .. "\t__s16 scross : 13; /* 4:1 */\n\t__u64 lots : 50; /* 5:6 */\n"
      .. "\t__s64 slots : 61; /* 12:0 */\n}; /* 20 bytes */", tostring(types["struct straddle"]))
    assert.equal("struct node {\n\tstruct node *next; /* 0 */\n\t__u32 value; /* 8 */\n"
      .. "}; /* 16 bytes */", tostring(types["struct node"]))
    assert.equal("enum level {\n\tLEVEL_LOW = -5,\n\tLEVEL_MID = 0,\n\tLEVEL_HIGH = 5,\n"
      .. "}; /* 4 bytes */", tostring(types["enum level"]))
    assert.equal("__u32; /* 4 bytes */", tostring(types.__u32))
    local data = tostring(bpf.typeof(obj.data))
    assert.matches("\n\t__u32 grid[3][4]; /* ", data, 1, true)
    assert.matches("\n\tchar names[3][8]; /* ", data, 1, true)
  end)

  describe("is found", function()
    it("by its name, with or without its keyword", function()
      assert.equal(types["struct limit"], types.limit)
      assert.equal(types["enum mode"], types.mode)
      assert.equal(types["union any"], types.any)
      assert.equal(types.__u32, types.__u32)
    end)

    it("not by another keyword", function()
      assert.equal("ENOENT", select(2, pcall(function() return types["union limit"] end)).code)
    end)

    it("not when misspelt: the error names the nearest", function()
      local ok, err = pcall(function() return types["struct limt"] end)
      assert.falsy(ok)
      assert.equal("error", bpf.type(err))
      assert.equal("find type 'struct limt': no such type in the BTF of types (ENOENT)\n"
        .. "hint: did you mean 'struct limit'?", tostring(err))
      assert.equal("did you mean '__u32'?", select(2, pcall(function() return types.u32 end)).hint)
      assert.equal("only types that the program uses are in its BTF; if C knows it, "
        .. "this line keeps it: struct qqqqqqqq *keep_qqqqqqqq __attribute__((unused));",
        select(2, pcall(function() return types["struct qqqqqqqq"] end)).hint)
      assert.equal("only types that the program uses are in its BTF",
        select(2, pcall(function() return types["struct q(q"] end)).hint)
    end)

    it("by walking all of them", function()
      local names = {}
      for name, T in pairs(types) do
        assert.equal(name, T.name)
        names[name] = true
      end
      for _, name in ipairs { "struct cfg", "union any", "enum mode", "__u32", "bool", "double",
          "user_type", "struct empty" } do
        assert.truthy(names[name], name)
      end
    end)
  end)

  it("outlives its object", function()
    local T, all = types["struct limit"], types
    obj:close()
    collectgarbage()
    assert.equal(4, T.fields[2].offset)
    assert.equal(3, T { rate = 3 }.rate)
    assert.equal(128, all["struct cfg"].size)
  end)

  describe("called makes a value:", function()
    it("zeros, but for what is named", function()
      local cfg = types["struct cfg"] { rate = 5, limits = { [3] = { burst = 7 } },
        mode = "MODE_SOFT" }
      assert.same({ 5, 0, 1, 7, 0, "" }, { cfg.rate, cfg.burst, cfg.mode, cfg.limits[2].burst,
        cfg.limits[0].rate, cfg.label })
      assert.equal(("\0"):rep(8), bpf.bytes(types["struct limit"]()))
      assert.equal(("\0"):rep(8), bpf.bytes(types["struct limit"] {}))
    end)

    it("from a view or from bytes", function()
      local limit = types["struct limit"](v.tune_limit)
      limit.rate = 6
      assert.same({ 6, 9, 5 }, { limit.rate, limit.burst, v.tune_limit.rate })
      assert.equal(2, types["struct limit"](("<I4I4"):pack(1, 2)).burst)
      assert.equal("struct limit: struct limit has 8 bytes, the string 3",
        mistake(function() types["struct limit"] "abc" end))
    end)

    it("from an array's type, too", function()
      local T = bpf.typeof(v.grid)
      assert.same({ { 1, 2, 0, 0 }, { 0, 0, 0, 0 }, { 0, 0, 0, 9 } },
        bpf.totable(T { { 1, 2 }, {}, { 0, 0, 0, 9 } }))
    end)

    it("checks as a store does", function()
      local T = types["struct limit"]
      assert.equal("no field 'rat' in struct limit\nhint: did you mean 'rate'?",
        mistake(function() T { rat = 1 } end))
      assert.equal("store 'rate': -1 is out of range for __u32 (0..4294967295)",
        mistake(function() T { rate = -1 } end))
      assert.equal("store 'struct limit': fields of struct limit have names, not a number",
        mistake(function() T { 1, 2 } end))
      assert.equal("store 'struct limit': it is struct limit and takes a table or a view, not a "
        .. "number", mistake(function() T(5) end))
    end)

    it("not of scalars, which are Lua's own", function()
      assert.equal("__u32 is no struct, union or array: its values are Lua's own",
        mistake(function() types.__u32(5) end))
    end)
  end)

  it("reads the same under every libbpf: fields of a section are sorted by offset", function()
    for _, section in pairs(obj.sections) do
      local last = -1
      for _, f in ipairs(bpf.typeof(section).fields) do
        assert.truthy(f.offset > last, f.name)
        last = f.offset
      end
    end
  end)
end)
