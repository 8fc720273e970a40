-- SPDX-License-Identifier: BSD-2-Clause
-- bpf.sum, min, max, hist and fill over arrays, on values of our own: no kernel is asked.
local bpf = require "moonbee"
local support = require "support.bpf"

local mistake = support.mistake

local INTS = { -- name, least, greatest
  { "u8", 0, 255 }, { "s8", -128, 127 }, { "u16", 0, 65535 }, { "s16", -32768, 32767 },
  { "u32", 0, 0xffffffff }, { "s32", -2147483648, 2147483647 },
  { "u64", 0, -1 }, { "s64", math.mininteger, math.maxinteger },
}

-- The histogram as a table of its buckets that are not 0, by number and name.
local function buckets(...)
  local found = {}
  for k, n in pairs(bpf.hist(...)) do
    if n ~= 0 then found[k] = n end
  end
  return found
end

describe("reductions", function()
  local obj, Numbers, Rows

  setup(function()
    obj = support.open "numbers"
    Numbers, Rows = obj.types["struct numbers"], obj.types["struct rows"]
  end)
  teardown(function() obj:close() end)

  describe("of whole numbers", function()
    it("sum, min and max of every width are those of a Lua loop", function()
      for _, case in ipairs(INTS) do
        local name, low, high = table.unpack(case)
        local list = { low, high, 1, 2, 3, 100, 7, 0 }
        local array = Numbers { [name] = list }[name]
        local sum = 0
        for _, x in ipairs(list) do sum = sum + x end
        assert.equal(sum, bpf.sum(array), name)
        assert.equal(low, bpf.min(array), name)
        assert.equal(high, bpf.max(array), name)
      end
    end)

    it("sum wraps at 64 bits, as in C", function()
      local unsigned = Numbers { u64 = { -1, 2 } }.u64
      assert.equal(1, bpf.sum(unsigned))
      local signed = Numbers { s64 = { math.maxinteger, 1 } }.s64
      assert.equal(math.mininteger, bpf.sum(signed))
    end)

    it("min and max compare unsigned where C does", function()
      local array = Numbers { u64 = { 1 << 63, 5, -1, 7, 8, 9, 10, 11 } }.u64
      assert.equal(5, bpf.min(array))
      assert.equal(-1, bpf.max(array))
      local signed = Numbers { s64 = { 1 << 63, 5, -1, 7, 8, 9, 10, 11 } }.s64
      assert.equal(1 << 63, bpf.min(signed))
      assert.equal(11, bpf.max(signed))
    end)

    it("give integers, also of addresses, enums and booleans", function()
      local value = Numbers { pointers = { 0x1000, 0xffff888000001000 },
        colors = { "GREEN", "BLUE", 77 }, flags = { true, false, true, true } }
      assert.equal(0xffff888000002000, bpf.sum(value.pointers))
      assert.equal(0xffff888000001000, bpf.max(value.pointers))
      assert.equal(91, bpf.sum(value.colors))
      assert.equal(77, bpf.max(value.colors))
      assert.equal(3, bpf.sum(value.flags))
      assert.equal(0, bpf.min(value.flags))
      for _, name in ipairs { "pointers", "colors", "flags", "u8" } do
        assert.equal("integer", math.type(bpf.sum(value[name])), name)
      end
    end)

    it("histograms count by powers of two, negative ones apart", function()
      assert.same({ [0] = 2, [1] = 1, [2] = 2, [3] = 1, [8] = 2, count = 8 },
        buckets(Numbers { u8 = { 0, 1, 2, 3, 4, 128, 255, 0 } }.u8))
      assert.same({ [64] = 2, [63] = 1, [0] = 5, count = 8 },
        buckets(Numbers { u64 = { -1, 1 << 63, (1 << 63) - 1 } }.u64))
      assert.same({ negative = 3, [0] = 4, [7] = 1, count = 8 },
        buckets(Numbers { s8 = { -1, -128, 127, -5 } }.s8))
      local dense = bpf.hist(Numbers { u8 = { 8 } }.u8) -- no holes: up to the greatest
      assert.same({ 7, 0, 0, 0, 1 }, { table.unpack(dense, 0, 4) })
      assert.is_nil(dense[5])
      assert.equal(0, dense.negative)
    end)
  end)

  describe("of floats", function()
    it("sum, min and max are floats", function()
      for _, name in ipairs { "f32", "f64" } do
        local array = Numbers { [name] = { 1.5, -2.25, 1e10, 0.5, 0, 0, 0, 0 } }[name]
        assert.equal(1e10 - 0.25, bpf.sum(array), name)
        assert.equal(-2.25, bpf.min(array), name)
        assert.equal(1e10, bpf.max(array), name)
        assert.equal("float", math.type(bpf.sum(array)))
      end
      assert.equal(8e300, bpf.sum(Numbers { f64 = { 4e300, 4e300 } }.f64))
    end)

    it("min and max pass over what is no number, wherever it is", function()
      local nan = 0 / 0
      for _, list in ipairs { { nan, 3, 1, 2, 4, 4, 4, 4 }, { 3, nan, 1, 2, 4, 4, 4, 4 },
        { 3, 1, 2, 4, 4, 4, 4, nan } } do
        local array = Numbers { f64 = list }.f64
        assert.equal(1.0, bpf.min(array))
        assert.equal(4.0, bpf.max(array))
        assert.is_true(bpf.sum(array) ~= bpf.sum(array))
      end
      local none = Numbers { f64 = { nan, nan, nan, nan, nan, nan, nan, nan } }.f64
      assert.is_true(bpf.min(none) ~= bpf.min(none))
      assert.is_true(bpf.max(none) ~= bpf.max(none))
    end)

    it("histograms have infinity at the end and what is no number nowhere", function()
      assert.same({ [0] = 3, [1] = 1, [2] = 1, [64] = 1, negative = 1, count = 8 },
        buckets(Numbers { f64 = { 0.5, 0, -0.0, 1.99, 2, math.huge, -math.huge, 0 / 0 } }.f64))
      assert.same({ [64] = 1, [63] = 1, [0] = 6, count = 8 },
        buckets(Numbers { f64 = { 2.0 ^ 63, 2.0 ^ 62 } }.f64))
    end)
  end)

  describe("of a field of structs", function()
    local rows

    before_each(function()
      rows = Rows { row = {
        { bytes = 10, delta = -5, kind = 1, bias = -16, score = 0.5,
          range = { lo = 1, hi = { 1, 2, 3 } },
          pairs = { { a = 1, b = 2 }, { a = 3, b = 4 } }, name = "a" },
        { bytes = 20, delta = 7, kind = 7, bias = 15, score = -1.5,
          range = { lo = 65535, hi = { 4, 5, 6 } },
          pairs = { { a = 5, b = 6 }, { a = 7, b = 8 } } },
        { bytes = -1, delta = 100, kind = 2, bias = -1 },
        {},
      } }.row
    end)

    it("take every element's, by name, path and index", function()
      assert.equal(29, bpf.sum(rows, "bytes"))
      assert.equal(-1, bpf.max(rows, "bytes"))
      assert.equal(0, bpf.min(rows, "bytes"))
      assert.equal(102, bpf.sum(rows, "delta"))
      assert.equal(-5, bpf.min(rows, "delta"))
      assert.equal(65536, bpf.sum(rows, "range.lo"))
      assert.equal(9, bpf.sum(rows, "range.hi[2]"))
      assert.equal(12, bpf.sum(rows, "pairs[1].b"))
      assert.equal(-1.0, bpf.sum(rows, "score"))
      assert.equal(-1.5, bpf.min(rows, "score"))
    end)

    it("take bitfields, with their sign", function()
      assert.equal(10, bpf.sum(rows, "kind"))
      assert.equal(7, bpf.max(rows, "kind"))
      assert.equal(-2, bpf.sum(rows, "bias"))
      assert.equal(-16, bpf.min(rows, "bias"))
      assert.equal(15, bpf.max(rows, "bias"))
      assert.same({ [0] = 1, [4] = 1, negative = 2, count = 4 }, buckets(rows, "bias"))
    end)

    it("take arrays of arrays by index", function()
      local grid = Numbers { grid = { { 1, 2, 3 }, { 40, 50, 60 } } }.grid
      assert.equal(52, bpf.sum(grid, "[1]"))
      assert.equal(60, bpf.max(grid, "[2]"))
      assert.equal(150, bpf.sum(grid[1]))
    end)
  end)

  it("take flexible arrays, whose length is the memory's", function()
    local Rest = obj.types["struct rest"]
    local rest = bpf.cast(Rest, string.pack("<I4I4I4I4", 3, 10, 20, 30))
    assert.equal(60, bpf.sum(rest.items))
    assert.equal(30, bpf.max(rest.items))
    bpf.fill(rest.items, 2)
    assert.equal(6, bpf.sum(rest.items))
    assert.equal(3, rest.n)
  end)

  it("stay within the memory where an element's flexible array reaches beyond it", function()
    local rests = obj.vars.rests
    local last = #rests[0].items - 1
    assert.matches("^the last element has no 'items%[%d+%]': it would lie outside of ",
      mistake(function() bpf.sum(rests, ("items[%d]"):format(last)) end))
    local copy = bpf.copy(rests)
    assert.equal(0, bpf.sum(copy, "n"))
    assert.matches("^the last element has no ", mistake(function()
      bpf.max(copy, ("items[%d]"):format(#copy[0].items - 1))
    end))
  end)

  it("are 0, nil and an empty histogram of nothing", function()
    local empty = bpf.cast(obj.types["struct rest"], "\0\0\0\0").items
    assert.equal(0, #empty)
    assert.equal(0, bpf.sum(empty))
    assert.is_nil(bpf.min(empty))
    assert.is_nil(bpf.max(empty))
    assert.same({ [0] = 0, negative = 0, count = 0 }, bpf.hist(empty))
    bpf.fill(empty, 1)
  end)

  describe("refuse", function()
    it("what is no array", function()
      local value = Numbers {}
      for _, name in ipairs { "sum", "min", "max", "hist" } do
        assert.equal("struct numbers is no array", mistake(function() bpf[name](value) end))
      end
      assert.equal("bad argument #1 to 'sum' (moonbee.view expected, got number)",
        mistake(function() bpf.sum(7) end))
      assert.equal("struct numbers is no array", mistake(function() bpf.fill(value, 1) end))
      assert.equal("variables is no array", mistake(function() bpf.sum(obj.vars) end))
    end)

    it("what is no number, and say what to name", function()
      local value = Numbers {}
      assert.equal("reduce 'char[4][8]': char[8] is no number",
        mistake(function() bpf.sum(value.words) end))
      assert.equal("reduce '__u32[2][3]': __u32[3] is no number",
        mistake(function() bpf.sum(value.grid) end))
      assert.matches("^reduce '[^']+': [^:]+ is no number$",
        mistake(function() bpf.sum(value.wide) end))
      local rows = Rows {}.row
      assert.equal("reduce 'struct row[4]': struct row is no number\n" ..
        "hint: name a field of it: bpf.sum(arr, \"field\")", mistake(function() bpf.sum(rows) end))
      assert.equal("reduce 'name': char[4] is no number",
        mistake(function() bpf.max(rows, "name") end))
      assert.equal("reduce 'pairs[0]': struct pair is no number\n" ..
        "hint: name a field of it: bpf.sum(arr, \"field\")",
        mistake(function() bpf.hist(rows, "pairs[0]") end))
    end)

    it("wrong paths", function()
      local rows = Rows {}.row
      assert.equal("resolve 'byte': no field 'byte' in struct row\nhint: did you mean 'bytes'?",
        mistake(function() bpf.sum(rows, "byte") end))
      assert.equal("index 'row[0].range.hi': __u16[3] has no element 3 (0..2)",
        mistake(function() bpf.sum(rows, "range.hi[3]") end))
      assert.equal("__u8 has no fields: no 'x'",
        mistake(function() bpf.sum(Numbers {}.u8, "x") end))
    end)
  end)
end)

describe("bpf.fill", function()
  local obj, Numbers, Rows

  setup(function()
    obj = support.open "numbers"
    Numbers, Rows = obj.types["struct numbers"], obj.types["struct rows"]
  end)
  teardown(function() obj:close() end)

  it("sets every element, and nothing beside the array", function()
    local value = Numbers { u8 = { 1 }, s8 = { 2 }, s16 = { 3 }, u16 = { 4 } }
    bpf.fill(value.s8, -7)
    assert.same({ -7, -7, -7, -7, -7, -7, -7, -7 }, bpf.totable(value.s8))
    assert.same({ 1, 0, 0, 0, 0, 0, 0, 0 }, bpf.totable(value.u8))
    assert.equal(4, value.u16[0])
    bpf.fill(value.u64, 1.8446744073709550e19)
    assert.equal(-2048, value.u64[7])
    bpf.fill(value.f32, 0.5)
    assert.equal(4.0, bpf.sum(value.f32))
    bpf.fill(value.flags, true)
    assert.equal(8, bpf.sum(value.flags))
    bpf.fill(value.colors, "BLUE")
    assert.equal(72, bpf.sum(value.colors))
    bpf.fill(value.words, "four")
    assert.same({ "four", "four", "four", "four" }, bpf.totable(value.words))
    bpf.fill(value.grid, { 1, 2 })
    assert.same({ { 1, 2, 0 }, { 1, 2, 0 } }, bpf.totable(value.grid))
  end)

  it("takes tables and views for structs, also one of its own elements", function()
    local rows = Rows { row = { { bytes = 1 }, { bytes = 3, delta = 4, name = "x" } } }.row
    bpf.fill(rows, rows[1])
    for i = 0, 3 do assert.same({ 3, 4, "x" }, { rows[i].bytes, rows[i].delta, rows[i].name }) end
    local pairs_of = rows[2].pairs
    bpf.fill(pairs_of, { a = 5, b = 6 })
    assert.same({ { a = 5, b = 6 }, { a = 5, b = 6 } }, bpf.totable(pairs_of))
    assert.equal(0, rows[1].pairs[0].a)
    bpf.fill(rows, obj.types["struct row"] { kind = 7 })
    assert.equal(28, bpf.sum(rows, "kind"))
    assert.equal(0, bpf.sum(rows, "bytes"))
  end)

  it("writes nothing when the value does not fit", function()
    local value = Numbers { u8 = { 1, 2 }, colors = { "RED" } }
    local before = bpf.bytes(value)
    assert.equal("store 'element': 256 is out of range for __u8 (0..255)",
      mistake(function() bpf.fill(value.u8, 256) end))
    assert.equal("store 'element': -1 is out of range for __u32 (0..4294967295)",
      mistake(function() bpf.fill(value.u32, -1) end))
    assert.equal("store 'element': it is __u8 and takes an integer, " ..
      "not a number with a fraction (1.5)", mistake(function() bpf.fill(value.u8, 1.5) end))
    assert.matches("^store 'element': it is __s32 and takes an integer, not a number with a " ..
      "fraction %(%-?nan%)$", mistake(function() bpf.fill(value.s32, 0 / 0) end))
    assert.equal("store 'element': enum color has no 'BLU'\nhint: did you mean 'BLUE'?",
      mistake(function() bpf.fill(value.colors, "BLU") end))
    assert.equal("store 'element': 9 bytes do not fit into char[8]",
      mistake(function() bpf.fill(value.words, "nine char") end))
    assert.equal("store 'element': it is __u8, and a table is no value for that",
      mistake(function() bpf.fill(value.u8, {}) end))
    assert.equal("bad argument #2 to 'fill' (value expected)",
      mistake(function() bpf.fill(value.u8) end))
    local rows = Rows { row = { { bytes = 1 } } }.row
    assert.equal("store 'struct pair': field 'b' of struct pair is not named\n" ..
      "hint: name every field, or use bpf.update to change only some",
      mistake(function() bpf.fill(rows[0].pairs, { a = 1 }) end))
    assert.equal("store 'b': it is __u32 and takes an integer, not a string",
      mistake(function() bpf.fill(rows[0].pairs, { a = 1, b = "x" }) end))
    assert.equal("store 'element': it is struct pair, and the view is struct row",
      mistake(function() bpf.fill(rows[0].pairs, rows[0]) end))
    assert.equal(0, bpf.sum(rows[0].pairs, "a"))
    assert.equal(before, bpf.bytes(value))
  end)

  it("writes into an object's image, and not into what has ended", function()
    local mine = support.open "numbers"
    local words = mine.vars.numbers.u32
    bpf.fill(words, 3)
    assert.equal(24, bpf.sum(mine.vars.numbers.u32))
    mine:close()
    for _, name in ipairs { "sum", "min", "max", "hist" } do
      assert.equal("access 'numbers.u32': object 'numbers' is closed",
        mistake(function() bpf[name](words) end))
    end
    assert.equal("access 'numbers.u32': object 'numbers' is closed",
      mistake(function() bpf.fill(words, 1) end))
  end)
end)
