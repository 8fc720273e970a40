-- SPDX-License-Identifier: BSD-2-Clause
local bpf = require "moonbee"

local FIXTURE = (os.getenv "MB_BUILD" or "build") .. "/fixtures/types.bpf.o"

describe("bpf.format", function()
  local obj, vars

  before_each(function()
    obj = bpf.open(FIXTURE)
    vars = obj.vars
  end)
  after_each(function() obj:close() end)

  -- What one field prints as, in a view's text without options.
  local function field(view, name, opts)
    local one_line = { width = math.huge }
    for k, v in pairs(opts or {}) do one_line[k] = v end
    local text = bpf.format(view, one_line)
    return (text:match("[{ ]%." .. name .. " = ([^,{}]+)[, ]"):gsub(" $", ""))
  end

  it("prints a small struct on one line, as a C initializer", function()
    assert.equal("(struct limit){ .rate = 5, .burst = 9 }", bpf.format(vars.tune_limit))
  end)

  it("is what tostring and print show", function()
    assert.equal(bpf.format(vars.cfg), tostring(vars.cfg))
  end)

  it("breaks what is too long into lines, indented by two", function()
    assert.equal([[
(struct cfg){
  .rate = 10,
  .burst = 20,
  .mode = MODE_SOFT,
  .strict = true,
  .range = { .lo = 1, .hi = 9 },
  .anon_a = 3,
  .anon_b = 4,
  .word = 67305985,
  .quad = { 1, 2, 3, 4 },
  .half_lo = 513,
  .half_hi = 1027,
  .limits = {
    { .rate = 1, .burst = 2 },
    { .rate = 3, .burst = 4 },
    { .rate = 5, .burst = 6 },
    { .rate = 7, .burst = 8 },
  },
  .label = "default",
  .timeout_ns = 5000000000,
  .any = {
    .raw = 12884901887,
    .real = 6.36598737240175e-314,
    .point = { .x = -1, .y = 2 },
    .text = "\377\377\377\377\002",
  },
  .nothing = { },
}]], bpf.format(vars.cfg))
  end)

  it("keeps to the width", function()
    assert.equal("(struct limit){\n  .rate = 5,\n  .burst = 9,\n}",
      bpf.format(vars.tune_limit, { width = 20 }))
    assert.falsy(bpf.format(vars.cfg, { width = math.huge }):find "\n")
  end)

  it("prints integers by the signedness of their type", function()
    local section = obj.data
    assert.equal("18364758544493064720", field(section, "v_u64"))
    assert.equal("-81985529216486895", field(section, "v_s64"))
    assert.equal("4000000000", field(section, "v_u32"))
    assert.equal("-2000000000", field(section, "v_s32"))
    assert.equal("200", field(section, "v_u8"))
    assert.equal("-100", field(section, "v_s8"))
    local any = obj.types["union any"] { raw = -1 }
    assert.equal("18446744073709551615", field(any, "raw"))
    any.raw = math.mininteger
    assert.equal("9223372036854775808", field(any, "raw"))
  end)

  it("prints integers in hex by their size", function()
    assert.equal("0x9c", field(obj.data, "v_s8", { hex = true }))
    assert.equal("0xfedcba9876543210", field(obj.data, "v_u64", { hex = true }))
    assert.equal("MODE_STRICT", field(obj.data, "v_mode", { hex = true }))
  end)

  it("prints bools, characters, enums by name, pointers in hex", function()
    local section = obj.data
    assert.equal("true", field(section, "v_bool"))
    assert.equal("'x'", field(section, "v_char"))
    assert.equal("MODE_STRICT", field(section, "v_mode"))
    assert.equal("0xffff888000001000", field(section, "v_ptr"))
    assert.equal("NULL", field(vars.node, "next"))
    vars.v_mode = 7
    assert.equal("7", field(section, "v_mode"))
    vars.v_char = 10
    assert.equal("10", field(section, "v_char"))
    vars.v_char = 39
    assert.equal("'\\''", field(section, "v_char"))
  end)

  it("prints floats so that they read back, in their own precision", function()
    vars.v_double = 0.1 + 0.2
    vars.v_float = 0.1
    assert.equal("0.30000000000000004", field(obj.data, "v_double"))
    assert.equal("0.1", field(obj.data, "v_float"))
    vars.v_double = 5.0
    assert.equal("5.0", field(obj.data, "v_double"))
    vars.v_double = 1e300
    assert.equal(1e300, tonumber(field(obj.data, "v_double")))
    vars.v_double = -math.huge
    assert.equal("-inf", field(obj.data, "v_double"))
    vars.v_double = 0 / 0
    assert.equal("nan", field(obj.data, "v_double"))
  end)

  it("prints bitfields as the numbers they hold", function()
    assert.equal("(struct flags){ .ready = 1, .kind = 5, .delta = -9, .span = 100000, "
      .. ".big = 734744827512, .sbig = -500000, .mode = MODE_STRICT, .on = true, .tail = 77 }",
      (bpf.format(vars.flags, { width = math.huge })))
    assert.equal("-1000000000000000000", field(vars.straddle, "slots"))
  end)

  it("quotes text, and escapes what a terminal or C would misread", function()
    local T = obj.types["struct seen"]
    local function quoted(name) return field(T { name = name }, "name") end
    assert.equal([["moonbee"]], quoted "moonbee")
    assert.equal([["a\"b\\c\n\t\033[1m"]], quoted 'a"b\\c\n\t\27[1m')
    assert.equal([["é…"]], quoted "é…")
    assert.equal([["\3031"]], quoted "\xC31")
    assert.equal([["\302\2331m"]], quoted "\u{9b}1m")
    assert.equal([["abcd"]], field(obj.data, "full"))
  end)

  it("leaves out zeros at the end of arrays, as C fills up with them", function()
    local T = obj.types["struct cfg"]
    assert.equal("{ 0 }", bpf.format(T {}, { width = math.huge }):match "%.limits = ({.-})")
    assert.truthy(bpf.format(T { limits = { { rate = 1 } } }, { width = math.huge })
      :find(".limits = { { .rate = 1, .burst = 0 } }", 1, true))
    local all = bpf.format(vars.limits, { zeros = true })
    assert.equal(8, select(2, all:gsub("%.rate", "")))
  end)

  it("leaves out all zeros with zeros = false, and says where the others are", function()
    local T = obj.types["struct cfg"]
    local value = T { burst = 1, limits = { [0] = {}, {}, { rate = 2 } } }
    assert.equal("(struct cfg){ .burst = 1, .limits = { [2] = { .rate = 2 } } }",
      bpf.format(value, { zeros = false }))
    assert.equal("(struct limit){ }", bpf.format(obj.types["struct limit"] {}, { zeros = false }))
  end)

  it("prints arrays of arrays, and of text", function()
    local text = bpf.format(vars.grid, { width = math.huge })
    assert.truthy(text:find("{ { 0, 1, 2, 3 }, { 10, 11, 12, 13 }, { 20, 21, 22, 23 } }", 1, true))
    assert.truthy(bpf.format(vars.names):find('{ "zero", "one", "two" }', 1, true))
  end)

  it("folds long arrays, and fills lines with their numbers", function()
    for i = 0, 99 do vars.counters[i] = 1000 + i end
    local text = bpf.format(vars.counters)
    local lines = 0
    for line in text:gmatch "[^\n]+" do
      lines = lines + 1
      assert.truthy(#line <= 80, line)
    end
    assert.truthy(lines < 10)
    assert.truthy(text:find "1063,\n  /%* 36 more %*/\n}$")
    assert.truthy(bpf.format(vars.counters, { max = 2 }):find "{ 1000, 1001, /%* 98 more %*/ }$")
  end)

  it("stops at a depth, and leaves out names, where asked", function()
    assert.truthy(bpf.format(vars.cfg, { depth = 1 }):find("  .range = { … },\n", 1, true))
    assert.equal("{ 5, 9 }", bpf.format(vars.tune_limit, { names = false }))
  end)

  it("prints integers that are wider than Lua's in hex", function()
    assert.equal("0x" .. ("f"):rep(31) .. "e", field(obj.data, "v_int128"))
    assert.equal("0x10000000000000002", field(obj.data, "v_uint128"))
  end)

  it("prints all variables together", function()
    local text = bpf.format(vars)
    assert.truthy(text:find("\n  .hits = 0,\n", 1, true))
    assert.truthy(text:find("\n  .tune_rate = 100,\n", 1, true))
    assert.truthy(text:find('\n  .c_name = "fixture",\n', 1, true))
  end)

  it("prints what is no view as tostring does", function()
    assert.equal("5", bpf.format(5))
    assert.equal("nil", bpf.format(nil))
    assert.equal(tostring(obj.types["struct limit"]), bpf.format(obj.types["struct limit"]))
  end)

  it("raises for a view that has ended", function()
    local cfg = vars.cfg
    obj:close()
    assert.has_error(function() bpf.format(cfg) end)
  end)
end)
