-- SPDX-License-Identifier: BSD-2-Clause
-- Views of structs, unions, arrays and sections: reaching in, storing whole ones, asking.
local bpf = require "moonbee"
local mistake = require "support.mistake"

local FIXTURE = (os.getenv "MB_BUILD" or "build") .. "/fixtures/types.bpf.o"

describe("a view", function()
  local obj, v

  before_each(function()
    obj = bpf.open(FIXTURE)
    v = obj.vars
  end)
  after_each(function() obj:close() end)

  local function names_of(view)
    local names = {}
    for name in pairs(view) do names[#names + 1] = name end
    return names
  end

  -- ---- reaching in ------------------------------------------------------------------------------

  describe("of a struct", function()
    it("reads what the C source puts there, at any depth", function()
      assert.equal(10, v.cfg.rate)
      assert.equal(9, v.cfg.range.hi)
      assert.equal(7, v.cfg.limits[3].rate)
      assert.equal("default", v.cfg.label)
      assert.equal(-1, v.cfg.any.point.x)
      assert.equal(5000000000, v.cfg.timeout_ns)
      assert.equal(42, v.node.value)
      assert.equal(9, v.tune_limit.burst)
      assert.equal(4, v.c_limits[1].burst)
    end)

    it("has the members of its anonymous ones as its own", function()
      assert.equal(4, v.cfg.anon_b)
      assert.equal(0x04030201, v.cfg.word)
      assert.equal(3, v.cfg.quad[2])
      assert.equal(0x0403, v.cfg.half_hi)
    end)

    it("writes through to the memory that others see", function()
      local limits, limit = v.cfg.limits, v.cfg.limits[3]
      v.cfg.limits[3].rate = 500
      assert.equal(500, limit.rate)
      limit.rate = 600
      assert.equal(600, limits[3].rate)
      assert.equal(600, obj.data.cfg.limits[3].rate)
      assert.equal(600, obj.sections[".data"].cfg.limits[3].rate)
      assert.equal(("<I4I4"):pack(600, 8), bpf.bytes(v.cfg.limits):sub(25, 32))
    end)

    it("has every name for itself, those of methods and metamethods too", function()
      assert.same({ type = 1, close = 2, get = 3, ["end"] = 4, __index = 5, __gc = 6 },
        bpf.totable(v.odd))
      v.odd.__gc, v.odd.close = 60, 20
      assert.equal(60, v.odd.__gc)
      assert.equal(20, v.odd.close)
    end)

    it("refuses an unknown field, with the nearest name", function()
      assert.equal("no field 'rat' in 'cfg' (struct cfg)\nhint: did you mean 'rate'?",
        mistake(function() return v.cfg.rat end))
      assert.equal("no field 'rat' in 'cfg' (struct cfg)\nhint: did you mean 'rate'?",
        mistake(function() v.cfg.rat = 1 end))
      assert.equal("no field 'qqqqqqqq' in 'cfg' (struct cfg)",
        mistake(function() return v.cfg.qqqqqqqq end))
      local long = ("x"):rep(80)
      assert.equal("no field '" .. long .. "' in 'cfg.limits[0]' (struct limit)",
        mistake(function() return v.cfg.limits[0][long] end))
    end)

    it("refuses an index that is no name", function()
      assert.equal("struct cfg has fields by name, not by number",
        mistake(function() return v.cfg[1] end))
      assert.equal("struct cfg has fields by name, not by boolean",
        mistake(function() v.cfg[true] = 1 end))
    end)

    it("has no length", function()
      assert.equal("struct cfg is no array and has no length",
        mistake(function() return #v.cfg end))
    end)

    it("is walked in the order of C", function()
      assert.same({ "rate", "burst", "mode", "strict", "range", "anon_a", "anon_b", "word", "quad",
        "half_lo", "half_hi", "limits", "label", "timeout_ns", "any", "nothing" }, names_of(v.cfg))
      assert.same({}, names_of(v.cfg.nothing))
      for name, value in pairs(v.cfg) do assert.equal(v.cfg[name], value) end
    end)
  end)

  describe("of a union", function()
    it("shows the same bytes in each member", function()
      v.u_any.point = { x = 1, y = 2 }
      assert.equal(0x200000001, v.u_any.raw)
      v.u_any.real = 1.0
      assert.equal(0x3ff0000000000000, v.u_any.raw)
      v.u_any.text = "hi"
      assert.equal(0x6968, v.u_any.raw)
    end)
  end)

  describe("of an array", function()
    it("counts from 0, as C does", function()
      assert.equal(100, v.limits[0].rate)
      assert.equal(8, #v.limits)
      assert.equal(1024, #v.counters)
      v.counters[1023] = 5
      assert.equal(5, v.counters[1023])
      assert.equal(5, v.counters[1023.0])
    end)

    it("may hold arrays", function()
      assert.equal(3, #v.grid)
      assert.equal(4, #v.grid[0])
      assert.equal(13, v.grid[1][3])
      assert.equal("two", v.names[2])
      assert.same({ x = 1, y = 0 }, bpf.totable(v.path[1][0]))
      v.grid[2][0], v.names[0] = 99, "seven77"
      assert.equal(99, v.grid[2][0])
      assert.equal("seven77\0one\0", bpf.bytes(v.names):sub(1, 12))
    end)

    it("refuses an index outside", function()
      for _, i in ipairs { -1, 8, math.maxinteger, math.mininteger } do
        local text = "index 'limits': struct limit[8] has no element " .. i .. " (0..7)"
        assert.equal(text, mistake(function() return v.limits[i] end))
        assert.equal(text, mistake(function() v.limits[i] = {} end))
      end
      assert.equal("index 'grid': __u32[3][4] has no element 3 (0..2)",
        mistake(function() return v.grid[3] end))
    end)

    it("refuses an index that is no whole number", function()
      for name, i in pairs { x = "x", ["1"] = "1", ["1.5"] = 1.5, ["true"] = true } do
        assert.equal("struct limit[8] has no '" .. name
          .. "'\nhint: elements are numbered from 0, as in C",
          mistake(function() return v.limits[i] end))
      end
    end)

    it("is walked from 0 to its last element", function()
      local seen = {}
      for i, x in pairs(v.mac) do seen[#seen + 1] = i .. "=" .. x end
      assert.same({ "0=1", "1=2", "2=254", "3=255" }, seen)
      local n = 0
      for i, limit in pairs(v.limits) do
        assert.equal(n, i)
        assert.equal(v.limits[i].rate, limit.rate)
        n = n + 1
      end
      assert.equal(8, n)
    end)

    it("that is flexible ends where its variable does", function()
      assert.equal(3, #v.flex.items)
      assert.same({ n = 3, items = { 10, 20, 30 } }, bpf.totable(v.flex))
      v.flex.items[2] = 31
      assert.equal(31, v.flex.items[2])
      assert.equal("index 'flex.items': __u32[0] has no element 3 (0..2)",
        mistake(function() v.flex.items[3] = 1 end))
      assert.equal(12, bpf.sizeof(v.flex.items))
      assert.equal(("<I4I4I4"):pack(10, 20, 31), bpf.bytes(v.flex.items))
      assert.equal(100, v.limits[0].rate) -- what lies behind it
    end)

    it("that is flexible ends where its bytes do", function()
      local T = obj.types["struct flex"]
      assert.equal(0, #T {}.items)
      local some = bpf.cast(T, ("<I4I4I4I2"):pack(2, 7, 8, 9))
      assert.same({ 7, 8 }, bpf.totable(some.items))
      v.flex.items = { 1, 2 }
      assert.same({ 1, 2, 0 }, bpf.totable(v.flex.items))
      assert.equal("store 'flex.items': it has 3 elements, and the view has 2",
        mistake(function() v.flex.items = some.items end))
    end)
  end)

  describe("of all variables", function()
    it("finds them in any section", function()
      assert.equal(3, v.c_version)
      assert.equal(0, v.hits)
      assert.equal(100, v.tune_rate)
      v.hits, v.tune_rate, v.c_version = 7, 8, 9
      assert.equal(7, obj.bss.hits)
      assert.equal(8, obj.sections[".data.tune"].tune_rate)
      assert.equal(9, obj.rodata.c_version)
    end)

    it("refuses an unknown one, with the nearest name or what may be wrong", function()
      assert.equal("no variable 'v_u9' in the object\nhint: did you mean 'v_u8'?",
        mistake(function() return v.v_u9 end))
      assert.equal("no variable 'qqqqqqqq' in the object\n"
        .. "hint: not global, or optimised away? declare it volatile",
        mistake(function() return v.qqqqqqqq end))
    end)

    it("leaves out static and hidden ones, and says so", function()
      for _, name in ipairs { "s_static", "s_hidden", "observe.calls" } do
        assert.falsy(bpf.has(v, name))
        local text = "no variable '" .. name .. "' in the object\n"
          .. "hint: it is static or hidden in C: only global variables are shown"
        assert.equal(text, mistake(function() return v[name] end))
        assert.equal(text, mistake(function() v[name] = 1 end))
      end
      for name in pairs(v) do assert.falsy(name:find "^s_") end
    end)

    it("lies in several sections: has no bytes, no copy and no size", function()
      local text = "read bytes of 'variables': it lies in several sections"
      assert.equal(text, mistake(function() bpf.bytes(v) end))
      assert.equal(text, mistake(function() bpf.copy(v) end))
      assert.equal("variables lie in several sections and have no size",
        mistake(function() bpf.sizeof(v) end))
    end)
  end)

  -- ---- identity ---------------------------------------------------------------------------------

  describe("that is asked for again", function()
    it("is the same userdata, by field and by the last element", function()
      assert.equal(v.cfg, v.cfg)
      assert.equal(v.cfg.range, v.cfg.range)
      assert.equal(v.cfg.limits, v.cfg.limits)
      assert.equal(v.limits[3], v.limits[3])
      assert.equal(obj.vars, v)
      assert.equal(obj.bss, obj.sections[".bss"])
    end)

    it("is the right element after another one", function()
      local three = v.limits[3]
      assert.equal(100, v.limits[0].rate)
      assert.equal(400, v.limits[3].rate)
      assert.equal(400, three.rate)
      assert.equal(11, v.grid[1][1])
      assert.equal(21, v.grid[2][1])
    end)

    it("makes no garbage", function()
      local f = function() return v.cfg.limits[3].rate end
      f()
      collectgarbage()
      collectgarbage "stop"
      local before = collectgarbage "count"
      for _ = 1, 1000 do f() end
      local after = collectgarbage "count"
      collectgarbage "restart"
      assert.truthy(after - before < 1)
    end)
  end)

  it("keeps its object alive", function()
    local function field() return bpf.open(FIXTURE).vars.cfg.limits end
    local limits = field()
    collectgarbage()
    collectgarbage()
    assert.equal(7, limits[3].rate)
  end)

  -- ---- whole stores -----------------------------------------------------------------------------

  describe("takes a table of all fields", function()
    it("for a struct", function()
      v.cfg.limits[2] = { rate = 8, burst = 9 }
      assert.same({ rate = 8, burst = 9 }, bpf.totable(v.cfg.limits[2]))
      v.seen = { rate = 1, burst = 2, mode = "MODE_STRICT", version = 3, tune = 4, delta = -5,
        cross = 6, u8 = 7, on = true, name = "n" }
      assert.equal(10, v.seen.mode)
      assert.equal("n", v.seen.name)
    end)

    it("for bitfields", function()
      v.flags = { ready = 0, kind = 1, delta = 2, span = 3, big = 4, sbig = -5, mode = "MODE_OFF",
        on = false, tail = 7 }
      assert.same({ ready = 0, kind = 1, delta = 2, span = 3, big = 4, sbig = -5, mode = 0,
        on = false, tail = 7 }, bpf.totable(v.flags))
    end)

    it("as bpf.totable gives it", function()
      local whole, bytes = bpf.totable(v.cfg), bpf.bytes(v.cfg)
      v.cfg = obj.types["struct cfg"] {}
      assert.equal(("\0"):rep(128), bpf.bytes(v.cfg))
      v.cfg = whole
      assert.equal(bytes, bpf.bytes(v.cfg))
    end)

    it("and names the one that is missing", function()
      local text = "': field 'burst' of struct limit is not named\n"
        .. "hint: name every field, or use bpf.update to change only some"
      assert.equal("store 'tune_limit" .. text, mistake(function() v.tune_limit = { rate = 1 } end))
      assert.equal("store 'limits[1]" .. text,
        mistake(function() v.limits = { { rate = 1, burst = 2 }, { rate = 3 } } end))
      assert.equal(100, v.limits[0].rate)
      assert.equal(5, v.tune_limit.rate)
    end)

    it("of a union one, of an anonymous one too", function()
      v.u_any = { real = 1.0 }
      assert.equal(0x3ff0000000000000, v.u_any.raw)
      assert.equal("store 'u_any': field 'raw' of union any is not named\n"
        .. "hint: name every field, or use bpf.update to change only some",
        mistake(function() v.u_any = {} end))
      local whole = bpf.totable(v.cfg)
      whole.word, whole.quad, whole.half_lo, whole.half_hi = nil, nil, nil, nil
      assert.equal("store 'cfg': field 'word' of struct cfg is not named\n"
        .. "hint: name every field, or use bpf.update to change only some",
        mistake(function() v.cfg = whole end))
      whole.half_lo = 5
      assert.matches("'half_hi' of struct cfg is not named", mistake(function() v.cfg = whole end))
      whole.half_hi = 6
      v.cfg = whole
      assert.equal(0x60005, v.cfg.word)
    end)

    it("and of several members of a union keeps the last that C declares", function()
      for _ = 1, 20 do
        v.u_any = { text = "hi", raw = math.random(1 << 40), real = math.random() }
        assert.equal(0x6968, v.u_any.raw)
      end
    end)

    it("and refuses what is no field", function()
      assert.equal("no field 'rat' in 'tune_limit' (struct limit)\nhint: did you mean 'rate'?",
        mistake(function() v.tune_limit = { rate = 1, burst = 2, rat = 3 } end))
      assert.equal("store 'tune_limit': fields of struct limit have names, not a number",
        mistake(function() v.tune_limit = { 1, 2 } end))
    end)

    it("and looks at the table itself, not at what its metatable makes up", function()
      local proxy = setmetatable({ rate = 1 }, { __index = function() return 2 end })
      assert.equal("store 'tune_limit': field 'burst' of struct limit is not named\n"
        .. "hint: name every field, or use bpf.update to change only some",
        mistake(function() v.tune_limit = proxy end))
    end)
  end)

  describe("of an array takes", function()
    it("a sequence, which fills it from element 0; the rest becomes 0", function()
      v.mac = { 9, 8 }
      assert.same({ 9, 8, 0, 0 }, bpf.totable(v.mac))
      v.grid = { { 1 }, { 2, 3 } }
      assert.same({ { 1, 0, 0, 0 }, { 2, 3, 0, 0 }, { 0, 0, 0, 0 } }, bpf.totable(v.grid))
      v.names = { "a", "b" }
      assert.same({ "a", "b", "" }, bpf.totable(v.names))
      v.mac = {}
      assert.same({ 0, 0, 0, 0 }, bpf.totable(v.mac))
    end)

    it("a table with a key 0, counted from there", function()
      v.mac = { [0] = 1, 2, 3, 4 }
      assert.same({ 1, 2, 3, 4 }, bpf.totable(v.mac))
      v.mac = { [0] = 1, [3] = 4 }
      assert.same({ 1, 0, 0, 4 }, bpf.totable(v.mac))
    end)

    it("no table that is too long", function()
      assert.equal("store 'mac': unsigned char[4] has 4 elements, none for [5]",
        mistake(function() v.mac = { 1, 2, 3, 4, 5 } end))
      assert.equal("store 'mac': unsigned char[4] has 4 elements, none for [4]",
        mistake(function() v.mac = { [0] = 0, 1, 2, 3, 4 } end))
      assert.equal("store 'mac': unsigned char[4] has 4 elements, none for [-1]",
        mistake(function() v.mac = { [-1] = 0 } end))
      assert.same({ 1, 2, 254, 255 }, bpf.totable(v.mac))
    end)

    it("no keys that are no numbers", function()
      assert.equal("store 'mac': elements of unsigned char[4] have numbers, not 'x'",
        mistake(function() v.mac = { x = 1 } end))
      assert.equal("store 'mac': elements of unsigned char[4] have numbers, not '1.5'",
        mistake(function() v.mac = { [1.5] = 1 } end))
    end)

    it("a string where its elements are bytes", function()
      v.mac = "\1\2\3\4"
      assert.same({ 1, 2, 3, 4 }, bpf.totable(v.mac))
      assert.equal("store 'mac': unsigned char[4] takes no string of 3 bytes",
        mistake(function() v.mac = "abc" end))
      assert.equal("store 'limits': struct limit[8] takes no string of 64 bytes",
        mistake(function() v.limits = ("x"):rep(64) end))
    end)
  end)

  describe("takes another view", function()
    it("of the same type, its own memory too", function()
      v.limits[1] = v.limits[3]
      assert.same({ rate = 400, burst = 40 }, bpf.totable(v.limits[1]))
      v.limits[1] = v.limits[1]
      assert.equal(400, v.limits[1].rate)
      v.limits = v.cfg.limits
      assert.equal(bpf.bytes(v.cfg.limits), bpf.bytes(v.limits))
    end)

    it("of another object, if it has the same layout", function()
      local other <close> = bpf.open(FIXTURE)
      other.vars.cfg.rate = 77
      v.cfg = other.vars.cfg
      assert.equal(77, v.cfg.rate)
    end)

    it("within a table", function()
      v.limits = { v.tune_limit, { rate = 1, burst = 2 } }
      assert.same({ rate = 5, burst = 9 }, bpf.totable(v.limits[0]))
    end)

    it("of no other type", function()
      assert.equal("store 'cfg': it is struct cfg, and the view is struct flags",
        mistake(function() v.cfg = v.flags end))
      -- as large, and anonymous or not: the fields count
      assert.equal("store 'tune_limit': it is struct limit, and the view is struct point",
        mistake(function() v.tune_limit = v.path[0][0] end))
      assert.equal("store 'cfg.range': it is struct (anonymous), and the view is struct limit",
        mistake(function() v.cfg.range = v.tune_limit end))
    end)

    it("of no memory that has ended", function()
      local other = bpf.open(FIXTURE)
      local cfg = other.vars.cfg
      other:close()
      assert.equal("access 'cfg': object 'types' is closed",
        mistake(function() v.cfg = cfg end))
    end)
  end)

  it("takes nothing else", function()
    for _, value in ipairs { 5, 1.5, true, print } do
      assert.equal("store 'cfg': it is struct cfg and takes a table or a view, not a "
        .. type(value), mistake(function() v.cfg = value end))
    end
    assert.equal("store 'limits[0]': it is struct limit and takes a table or a view, not a number",
      mistake(function() v.limits[0] = 1 end))
    assert.equal("store 'cfg': it is struct cfg and takes a table or a view, not a nil",
      mistake(function() v.cfg = nil end))
  end)

  it("keeps its bytes when any part of a store is refused", function()
    local before = bpf.bytes(obj.data)
    for _, wrong in ipairs {
      function() v.limits = { { rate = 1, burst = 1 }, { rate = 2, burst = 1 << 32 } } end,
      function() v.grid = { { 1, 2, 3, 4 }, { 5, 6, 7, "x" } } end,
      function() v.cfg = { rate = 1 } end,
      function() v.names = { "a", "b", "much too long" } end,
      function() bpf.update(v.cfg, { rate = 1, limits = { { rate = 5 }, { rate = -1 } } }) end,
      function() bpf.update(v.cfg, { rate = 1, label = "x", nope = 1 }) end,
      function() bpf.update(v, { v_u8 = 1, hits = 2, v_u16 = 1 << 16 }) end,
      function() bpf.update(v.limits, { { rate = 1 }, 5 }) end,
    } do
      mistake(wrong)
      assert.equal(before, bpf.bytes(obj.data))
      assert.equal(0, v.hits)
    end
  end)
end)

describe("the function", function()
  local obj, v

  before_each(function()
    obj = bpf.open(FIXTURE)
    v = obj.vars
  end)
  after_each(function() obj:close() end)

  describe("bpf.update", function()
    it("changes only what is named, at any depth", function()
      bpf.update(v.cfg, { rate = 5, range = { hi = 8 }, limits = { [0] = { burst = 7 } },
        any = { raw = 1 } })
      assert.same({ 5, 20, 1, 8, 1, 7, 3, 1 }, { v.cfg.rate, v.cfg.burst, v.cfg.range.lo,
        v.cfg.range.hi, v.cfg.limits[0].rate, v.cfg.limits[0].burst, v.cfg.limits[1].rate,
        v.cfg.any.raw })
      bpf.update(v, { hits = 3, tune_limit = { rate = 4 } })
      assert.same({ 3, 4, 9 }, { v.hits, v.tune_limit.rate, v.tune_limit.burst })
      bpf.update(v.cfg, {})
      assert.equal(5, v.cfg.rate)
    end)

    it("takes a table", function()
      assert.equal("bad argument #2 to 'update' (table expected, got number)",
        mistake(function() bpf.update(v.cfg, 5) end))
      assert.equal("bad argument #1 to 'update' (moonbee.view expected, got table)",
        mistake(function() bpf.update({}, {}) end))
    end)

    it("says which field is wrong", function()
      assert.equal("store 'cfg.burst': 4294967296 is out of range for __u32 (0..4294967295)",
        mistake(function() bpf.update(v.cfg, { rate = 1, burst = 1 << 32 }) end))
      assert.equal("no field 'rat' in 'cfg' (struct cfg)\nhint: did you mean 'rate'?",
        mistake(function() bpf.update(v.cfg, { rat = 1 }) end))
    end)
  end)

  it("bpf.copy makes a value of its own", function()
    local copy = bpf.copy(v.cfg)
    v.cfg.rate = 11
    assert.equal(10, copy.rate)
    copy.rate = 12
    assert.equal(11, v.cfg.rate)
    assert.equal("struct cfg", bpf.typeof(copy).name)
    local element = bpf.copy(v.limits)[3]
    obj:close()
    assert.equal(20, copy.burst)
    assert.equal(400, element.rate)
  end)

  it("bpf.bytes gives what is in memory, bpf.key the same", function()
    assert.equal(("<I4I4"):pack(5, 9), bpf.bytes(v.tune_limit))
    assert.equal(("<I4I4"):pack(5, 9), bpf.key(v.tune_limit))
    assert.equal("\1\2\xfe\xff", bpf.bytes(v.mac))
    assert.equal(8192, #bpf.bytes(v.counters))
    assert.equal("", bpf.bytes(v.cfg.nothing))
  end)

  it("bpf.cast lays a type over bytes", function()
    local limit = bpf.cast(obj.types["struct limit"], ("<I4I4"):pack(7, 8))
    assert.same({ rate = 7, burst = 8 }, bpf.totable(limit))
    limit.rate = 9
    assert.equal(9, limit.rate)
    assert.equal(258, bpf.cast(obj.types.__u16, "\2\1"))
    assert.equal("ab", bpf.cast(obj.types["struct seen"], ("\0"):rep(30) .. "ab" .. ("\0"):rep(16))
      .name)
    assert.equal("view 'struct limit': it needs 8 bytes, struct limit has 3",
      mistake(function() bpf.cast(obj.types["struct limit"], "abc") end))
    assert.equal("bad argument #1 to 'cast' (moonbee.type expected, got string)",
      mistake(function() bpf.cast("struct limit", "abc") end))
  end)

  it("bpf.sizeof is C's, of views and of types", function()
    assert.equal(128, bpf.sizeof(v.cfg))
    assert.equal(24, bpf.sizeof(v.flags))
    assert.equal(20, bpf.sizeof(v.straddle))
    assert.equal(21, bpf.sizeof(v.packed))
    assert.equal(8192, bpf.sizeof(v.counters))
    assert.equal(0, bpf.sizeof(v.cfg.nothing))
    assert.equal(128, bpf.sizeof(obj.types["struct cfg"]))
  end)

  it("bpf.typeof is the type that obj.types has", function()
    assert.equal(obj.types["struct cfg"], bpf.typeof(v.cfg))
    assert.equal(bpf.typeof(v.limits[0]), bpf.typeof(v.cfg.limits[3]))
    assert.falsy(bpf.typeof(v.cfg) == bpf.typeof(v.flags))
    assert.falsy(bpf.typeof(v.cfg) == v.cfg)
    assert.falsy(obj == bpf.typeof(v.cfg))
  end)

  it("bpf.has knows the fields", function()
    assert.equal(true, bpf.has(v.cfg, "rate"))
    assert.equal(false, bpf.has(v.cfg, "rat"))
    assert.equal(true, bpf.has(v, "tune_rate"))
    assert.equal(false, bpf.has(v.limits, "rate"))
  end)

  it("bpf.type tells views from all else", function()
    assert.equal("view", bpf.type(v))
    assert.equal("view", bpf.type(v.cfg.limits))
    assert.equal("type", bpf.type(bpf.typeof(v.cfg)))
    assert.is_nil(bpf.type(v.v_u8))
    assert.is_nil(bpf.type {})
    assert.is_nil(bpf.type(io.stdout))
  end)

  it("tostring prints the value, as bpf.format does", function()
    assert.equal("(struct limit){ .rate = 5, .burst = 9 }", tostring(v.tune_limit))
    assert.equal(bpf.format(v.limits), tostring(v.limits))
  end)

  it("getmetatable shows nothing to change", function()
    assert.equal("moonbee.view", getmetatable(v.cfg))
    assert.falsy(pcall(setmetatable, v.cfg, {}))
  end)
end)
