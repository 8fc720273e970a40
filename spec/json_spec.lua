-- SPDX-License-Identifier: BSD-2-Clause
local bpf = require "moonbee"
local dkjson = require "dkjson"

local FIXTURE = (os.getenv "MB_BUILD" or "build") .. "/fixtures/types.bpf.o"

describe("bpf.json of a view", function()
  local obj, vars

  before_each(function()
    obj = bpf.open(FIXTURE)
    vars = obj.vars
  end)
  after_each(function() obj:close() end)

  local function member(view, name)
    return bpf.json(view):match('"' .. name .. '":("?[^,}]*)')
  end

  it("keeps a field n of a table", function()
    assert.equal('{"n":3}', bpf.json { n = 3 })
    assert.equal('{"a":[1,2],"n":501}', bpf.json { n = 501, a = { 1, 2 } })
  end)

  it("keeps the order of the fields", function()
    assert.equal('{"rate":5,"burst":9}', bpf.json(vars.tune_limit))
    assert.equal('{"ready":1,"kind":5,"delta":-9,"span":100000,"big":734744827512,'
      .. '"sbig":-500000,"mode":"MODE_STRICT","on":true,"tail":77}', bpf.json(vars.flags))
  end)

  it("writes arrays as arrays, also of one element and of none", function()
    assert.equal('[{"rate":1,"burst":2},{"rate":3,"burst":4}]', bpf.json(vars.c_limits))
    assert.equal('["zero","one","two"]', bpf.json(vars.names))
  end)

  it("writes integers that a double would round as strings, by their sign", function()
    assert.equal('"18364758544493064720"', member(obj.data, "v_u64"))
    assert.equal('"-81985529216486895"', member(obj.data, "v_s64"))
    assert.equal("4000000000", member(obj.data, "v_u32"))
    vars.v_u64 = 1 << 53
    assert.equal("9007199254740992", member(obj.data, "v_u64"))
    vars.v_u64 = (1 << 53) + 1
    assert.equal('"9007199254740993"', member(obj.data, "v_u64"))
    vars.v_u64 = -1
    assert.equal('"18446744073709551615"', member(obj.data, "v_u64"))
  end)

  it("writes floats in full, and null for what JSON has no number for", function()
    vars.v_double, vars.v_float = 0.1 + 0.2, 0.1
    assert.equal("0.30000000000000004", member(obj.data, "v_double"))
    assert.equal("0.1", member(obj.data, "v_float"))
    for _, x in ipairs { math.huge, -math.huge, 0 / 0 } do
      vars.v_double = x
      assert.equal("null", member(obj.data, "v_double"))
    end
  end)

  it("writes enums by name, numbers without one, pointers and bytes as text", function()
    assert.equal('"MODE_STRICT"', member(obj.data, "v_mode"))
    vars.v_mode = 7
    assert.equal("7", member(obj.data, "v_mode"))
    assert.equal('"0xffff888000001000"', member(obj.data, "v_ptr"))
    assert.equal('"0x' .. ("f"):rep(31) .. 'e"', member(obj.data, "v_int128"))
  end)

  it("is JSON whatever the text holds", function()
    local T = obj.types["struct seen"]
    local function name(text) return dkjson.decode(bpf.json(T { name = text })).name end
    assert.equal("é…", name "é…")
    assert.equal('a"\\\n\27', name 'a"\\\n\27')
    assert.equal("\u{c3}1\u{ff}", name "\xC31\xFF")
    assert.truthy(utf8.len(bpf.json(T { name = "\xC31\xFF" })))
  end)

  it("writes all variables, and reads back", function()
    local all = dkjson.decode(bpf.json(vars))
    assert.equal(10, all.cfg.rate)
    assert.equal("moonbee", all.name)
  end)
end)

describe("bpf.json of a table", function()
  it("sorts the keys, and takes sequences as arrays", function()
    assert.equal('{"a":[1,2,3],"b":{"c":true},"d":"x"}',
      bpf.json { d = "x", b = { c = true }, a = { 1, 2, 3 } })
  end)

  it("keeps the order that __jsonorder gives", function()
    assert.equal('{"z":1,"a":2}', bpf.json(setmetatable({ a = 2, z = 1 },
      { __jsonorder = { "z", "a" } })))
  end)

  it("converts big integers, floats, text and views inside", function()
    local obj <close> = bpf.open(FIXTURE)
    assert.equal('{"big":"9007199254740993","f":0.30000000000000004,"limit":{"rate":5,"burst":9},'
      .. '"list":["-9223372036854775808",null]}', bpf.json {
        big = (1 << 53) + 1, f = 0.1 + 0.2, limit = obj.vars.tune_limit,
        list = { math.mininteger, 0 / 0 },
      })
  end)

  it("writes scalars alone", function()
    assert.equal("null", bpf.json(nil))
    assert.equal("true", bpf.json(true))
    assert.equal('"x"', bpf.json "x")
    assert.equal("1.5", bpf.json(1.5))
  end)

  it("indents where asked", function()
    assert.equal('{\n  "a":1\n}', bpf.json({ a = 1 }, { indent = true }))
  end)

  it("writes error objects", function()
    local err = bpf.error { code = "ENOENT", op = "open object", subject = "x", cause = "none" }
    local read = dkjson.decode(bpf.json { error = err })
    assert.equal("ENOENT", read.error.code)
    assert.equal("open object", read.error.op)
  end)

  it("refuses functions, cycles and odd keys, with the caller's line", function()
    local cycle = {}
    cycle.again = { cycle }
    for _, case in ipairs {
      { print, "no JSON for a function" }, { { f = print }, "no JSON for a function" },
      { cycle, "holds itself" }, { { [{}] = 1 }, "a key that is a table" },
      { { [1.5] = 1 }, "a key that is a number" },
    } do
      local ok, err = pcall(function() bpf.json(case[1]) end)
      assert.is_false(ok)
      assert.truthy(err:find(case[2], 1, true), err)
      assert.truthy(err:find "^spec/json_spec%.lua:%d+: bpf%.json: ", err)
    end
  end)
end)
