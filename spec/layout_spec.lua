-- SPDX-License-Identifier: BSD-2-Clause
-- Two layouts of one thing: what differs, told as text and as data, and values carried from the one
-- to the other. Types that clang laid out; then random ones, against a model in Lua.
local bpf = require "moonbee"
local mistake = require "support.mistake"
local run = require "support.run"
local skip = require "support.skip"

local FIXTURE = (os.getenv "MB_BUILD" or "build") .. "/fixtures/layouts.bpf.o"

describe("layouts", function()
  local obj, types
  before_each(function()
    obj = bpf.open(FIXTURE)
    types = obj.types
  end)
  after_each(function() obj:close() end)

  local function diff(name)
    return bpf.diff(types["struct was_" .. name], types["struct is_" .. name])
  end
  local function lines(d)
    local list = {}
    for i, x in ipairs(d) do list[i] = x.text end
    return list
  end

  describe("compared", function()
    it("are the same through typedefs, qualifiers, names, u8 for char, int for enum", function()
      assert.is_nil(diff "same")
      for _, name in ipairs { "same", "flow", "many", "values" } do
        local T = types["struct was_" .. name]
        assert.is_nil(bpf.diff(T, T))
      end
      assert.is_nil(bpf.diff(obj.bss, obj.bss))
      assert.is_nil(bpf.diff(obj.vars, obj.vars))
    end)

    it("are told as a sentence", function()
      assert.equal("field 'rate' __u32 at 8 became __u64 at 16; field 'x' added",
        diff "flow".text)
    end)

    it("are told as data", function()
      assert.same({
        { change = "type", field = "rate", was = "__u32", is = "__u64", was_offset = 8,
          is_offset = 16, converts = true, text = "field 'rate' __u32 at 8 became __u64 at 16" },
        { change = "added", field = "x", is = "__u64", is_offset = 8, converts = false,
          text = "field 'x' added" },
        text = "field 'rate' __u32 at 8 became __u64 at 16; field 'x' added",
      }, diff "flow")
    end)

    it("name each kind of difference", function()
      assert.same({
        "field 'moved' __u8 moved from 0 to 4",
        "field 'gone' is gone",
        "field 'sign' __s32 at 8 became __u32 at 8",
        "field 'wide' __u32 at 12 became __u16 at 12",
        "field 'text' char[16] at 16 became char[8] at 14",
        "field 'list' __u16[4] at 32 became __u16[6] at 22",
        "field 'grid' __u32[2][3] at 40 became __u32[3][2] at 36",
        "field 'limits[].rate' __u32 at 64 became __u64 at 72",
        "field 'limits[].burst' __u32 moved from 68 to 64",
        "field 'one' struct was_limit moved from 88 to 112",
        "field 'one.rate' __u32 at 88 became __u64 at 120",
        "field 'one.burst' __u32 moved from 92 to 112",
        "field 'bits' __u32 : 3 at 96 became __u32 : 5 at 128",
        "field 'more' __u32 : 5 moved from 96 bit 3 to 128 bit 5",
        "field 'flag' bool at 97 became __u8 at 130",
        "field 'real' double at 104 became float at 132",
        "field 'single' __u32 at 112 became struct was_limit at 136",
        "field 'kind' struct was_limit at 116 became __u32 at 144",
        "field 'mode' enum was_mode moved from 124 to 148",
        "field 'mode': OFF = 0 became NEW_OFF = 0",
        "field 'mode': SLOW = 1 became NEW_SLOW = 1",
        "field 'mode': FAST = 2 became NEW_FAST = 2",
        "field 'mode': TURBO = 3 is gone",
        "field 'any' union (anonymous) moved from 128 to 152",
        "field 'any.a' __u32 at 128 became __u64 at 152",
        "field 'pad' added",
      }, lines(diff "many"))
      assert.same({ "it had 8 bytes and has 16 bytes" }, lines(diff "padded"))
    end)

    it("say which of them a conversion can bridge", function()
      local not_these = {}
      for _, x in ipairs(diff "many") do
        if not x.converts then not_these[#not_these + 1] = x.field end
      end
      assert.same({ "gone", "single", "kind", "any", "any.a", "pad" }, not_these)
    end)

    it("of arrays and numbers are compared as a whole", function()
      local u32, u64 = types.__u32, types.__u64
      assert.equal("it was __u32 and is __u64", bpf.diff(u32, u64).text)
      assert.equal("it was __u32[4] and is __u32[8]",
        bpf.diff(obj.vars.was_array, obj.vars.is_array).text)
      assert.equal("field '[].rate' __u32 at 8 became __u64 at 16; field '[].x' added",
        bpf.diff(obj.vars.was_flows, obj.vars.is_flows).text)
      assert.equal("it was __u32 and is struct was_flow",
        bpf.diff(u32, types["struct was_flow"]).text)
    end)

    it("see the kernel's own fields move, too", function()
      assert.same({
        "field 'lock' struct bpf_spin_lock moved from 0 to 32",
        "field 'a' __u32 moved from 4 to 36",
        "field 'list' struct bpf_list_head moved from 32 to 40",
        "field 'plain' struct task_struct * moved from 48 to 56",
        "field 'b' __u64 moved from 56 to 0",
      }, lines(diff "kept"))
    end)

    it("need types or views", function()
      assert.matches("type, view or map expected, got number",
        mistake(function() bpf.diff(types.__u32, 4) end))
      assert.matches("type, view or map expected, got no value", mistake(function() bpf.diff() end))
    end)
  end)

  describe("carried over", function()
    local W, I
    before_each(function() W, I = types["struct was_values"], types["struct is_values"] end)

    -- One field of W with this value, carried: its value in I, or why not.
    local function carry(name, value, over)
      local to = I(over or {})
      local carried, refused = bpf.carry(to, W { [name] = value }, { names = { name } })
      if refused[name] then
        assert.same({}, carried)
        return nil, refused[name], to[name]
      end
      assert.same({ name }, carried)
      return to[name]
    end

    it("take what both have and leave the rest", function()
      local to = I { fresh = 9, narrow = 1 }
      local carried, refused = bpf.carry(to, W { narrow = 5, text = "abcdefgh",
        raw = { 1, 2, 3, 4 },
        limits = { { rate = 1, burst = 2 }, { rate = 3, burst = 4 } }, mode = 2, lost = 1 })
      assert.same({}, refused)
      assert.same({ "narrow", "sign", "big", "real", "whole", "flag", "number", "text", "raw",
        "list", "bits", "limits", "mode" }, carried)
      assert.same({ 5, "abcdefgh", 9, 2 }, { to.narrow, to.text, to.fresh, to.mode })
      assert.same({ 1, 2, 3, 4, 0, 0, 0, 0 }, bpf.totable(to.raw))
      assert.same({ { rate = 1, burst = 2 }, { rate = 3, burst = 4 }, { rate = 0, burst = 0 } },
        bpf.totable(to.limits))
    end)

    it("check every range", function()
      assert.equal(255, carry("narrow", 255))
      local _, why, left = carry("narrow", 256, { narrow = 7 })
      assert.equal("256 is out of range for __u8 (0..255)", why)
      assert.equal(7, left)
      assert.equal(0xffffffff, carry("sign", 0xffffffff))
      assert.matches("%-1 is out of range for __u32", (select(2, carry("sign", -1))))
      assert.equal(-8, carry("real", -8.0))
      assert.equal("0.5 does not fit into __s32", (select(2, carry("real", 0.5))))
      assert.equal("inf does not fit into __s32", (select(2, carry("real", math.huge))))
      assert.matches("does not fit into __s32", (select(2, carry("real", 0 / 0))))
      assert.matches("3000000000 is out of range for __s32", (select(2, carry("real", 3e9))))
      assert.equal(16777216.0, carry("big", 16777216))
      assert.equal("16777217 has more digits than float", (select(2, carry("big", 16777217))))
      assert.equal("18446744073709551615 has more digits than float", (select(2, carry("big", -1))))
      assert.equal(2.0 ^ 63, carry("big", math.mininteger))
      assert.equal(4294967295.0, carry("whole", 0xffffffff))
      assert.equal(1, carry("flag", true))
      assert.is_true(carry("number", 1))
      assert.matches("it is bool and takes a boolean, 0 or 1", (select(2, carry("number", 2))))
      assert.equal(7, carry("bits", 7))
      assert.matches("8 is out of range for __s32 : 4", (select(2, carry("bits", 8))))
      assert.equal("12345678", carry("text", "12345678"))
      assert.equal("9 bytes do not fit into 8", (select(2, carry("text", "123456789"))))
      assert.same({ 1, 255 }, bpf.totable(carry("list", { 1, 255 })))
      assert.equal("field '[]': 256 is out of range for __u8 (0..255)",
        (select(2, carry("list", { 1, 256 }))))
      assert.equal("element 2 is not zero, and there are only 2 now",
        (select(2, carry("list", { 1, 2, 3 }))))
    end)

    it("say what is gone and what never was", function()
      local _, refused = bpf.carry(I {}, W {}, { names = { "lost", "fresh", "nothing" } })
      assert.same({ lost = "it is gone", fresh = "there was none", nothing = "there was none" },
        refused)
    end)

    it("refuse what no conversion leads to", function()
      local to = types["struct is_many"] {}
      local carried, refused = bpf.carry(to, types["struct was_many"] { single = 5, moved = 3 })
      assert.equal("field 'single' was __u32 and is struct was_limit: no way leads there",
        (refused.single:gsub("field '' ", "field 'single' ")))
      assert.truthy(refused.kind)
      assert.truthy(refused.any)
      assert.equal("moved", carried[1])
      assert.equal(3, to.moved)
    end)

    it("take an enumerator by its name", function()
      local to = types["struct is_many"] {}
      local from = types["struct was_many"]
      local _, refused = bpf.carry(to, from { mode = 1 }, { names = { "mode" } })
      assert.equal("SLOW (1) is no more in enum is_mode", refused.mode)
      _, refused = bpf.carry(to, from { mode = 77 }, { names = { "mode" } })
      assert.same({}, refused) -- a number without a name stays one
      assert.equal(77, to.mode)
    end)

    it("never touch what the kernel manages", function()
      local from = bpf.cast(types["struct was_kept"], ("\1"):rep(64))
      local to = types["struct is_kept"] {}
      local carried, refused = bpf.carry(to, from)
      -- Older clangs write type tags for debuggers, newer ones (15) into the BTF, too.
      local file <close> = assert(io.open(FIXTURE, "rb"))
      local tagged = select(2, file:read "a":gsub("%zkptr%z", "")) > 1
      assert.same(tagged and { "b", "a", "plain" } or { "b", "task", "a", "plain" }, carried)
      for _, name in ipairs { "lock", "timer", "list", tagged and "task" or "lock" } do
        assert.equal("it is the kernel's own", refused[name])
      end
      local ones = 0
      for byte in bpf.bytes(to):gmatch "." do ones = ones + (byte == "\1" and 1 or 0) end
      assert.equal(8 + 4 + 8 + (tagged and 0 or 8), ones)
    end)

    it("only check when asked to", function()
      local to = I {}
      assert.same({ "narrow" }, (bpf.carry(to, W { narrow = 5 }, { names = { "narrow" },
        check = true })))
      assert.equal(0, to.narrow)
    end)

    it("go between the variables of two objects", function()
      local other <close> = bpf.open(FIXTURE, { vars = { constant = 4 } })
      obj.vars.was_flow.rate = 5
      obj.vars.was_array[3] = 6
      local carried, refused = bpf.carry(other.vars, obj.vars)
      assert.same({}, refused)
      assert.equal(5, other.vars.was_flow.rate)
      assert.equal(6, other.vars.was_array[3])
      assert.equal(3, other.vars.constant) -- before load constants are variables
      assert.equal(#bpf.typeof(obj.vars).fields, #carried)
      assert.same({}, (bpf.carry(other.rodata, obj.bss)))
    end)

    it("refuse memory that has ended", function()
      local other = bpf.open(FIXTURE)
      local vars = other.vars
      other:close()
      local carried, refused = bpf.carry(obj.vars, vars)
      assert.same({}, carried)
      assert.matches("closed", refused.was_flow)
    end)

    it("take structs, sections, all variables", function()
      assert.matches("carry takes structs, sections or all variables, not __u32%[4%]",
        mistake(function() bpf.carry(obj.vars.was_array, obj.vars.was_flow) end))
      assert.matches("view expected", mistake(function() bpf.carry(I {}, 5) end))
      assert.matches("has no option 'name'\nhint: did you mean 'names'",
        mistake(function() bpf.carry(I {}, W {}, { name = {} }) end))
      assert.matches("names of carry are strings",
        mistake(function() bpf.carry(I {}, W {}, { names = { {} } }) end))
    end)
  end)
end)

-- ---- random pairs, against a model -------------------------------------------------------------

local INTS = {
  { "unsigned char", 8 }, { "signed char", 8, true }, { "unsigned short", 16 },
  { "short", 16, true },
  { "unsigned int", 32 }, { "int", 32, true }, { "unsigned long", 64 }, { "long", 64, true },
}

local function pick(list) return list[math.random(#list)] end

local function random_type(depth)
  local dice = math.random(depth < 3 and 12 or 10)
  if dice <= 4 then
    local int = pick(INTS)
    return { kind = "int", c = int[1], bits = int[2], signed = int[3] }
  elseif dice == 5 then
    local int = INTS[math.random(2) + 4]
    return { kind = "int", c = int[1], bits = math.random(31), signed = int[3], field = true }
  elseif dice == 6 then
    return { kind = "bool", c = "_Bool" }
  elseif dice == 7 then
    local double = math.random(2) == 1
    return { kind = "float", c = double and "double" or "float", double = double }
  elseif dice == 8 then
    return { kind = "chars", c = "char", n = math.random(12) }
  elseif dice <= 10 then
    return { kind = "array", n = math.random(4), elem = random_type(9) }
  end
  local fields = {}
  for i = 1, math.random(5) do fields[i] = { name = "m" .. i, type = random_type(depth + 1) } end
  return { kind = "struct", fields = fields }
end

-- A type that is often the same, sometimes another one of its kind, sometimes anything.
local function mutated(t, depth)
  local dice = math.random(10)
  if dice == 1 then return random_type(depth) end
  if t.kind == "struct" then
    local fields = {}
    for _, f in ipairs(t.fields) do
      if math.random(6) > 1 then
        table.insert(fields, math.random(#fields + 1),
          { name = f.name, type = mutated(f.type, depth + 1) })
      end
    end
    if math.random(3) == 1 or #fields == 0 then
      table.insert(fields, math.random(#fields + 1), { name = "n", type = random_type(depth + 1) })
    end
    return { kind = "struct", fields = fields }
  elseif dice > 4 then
    return t
  elseif t.kind == "chars" then
    return { kind = "chars", c = "char", n = math.random(12) }
  elseif t.kind == "array" then
    return { kind = "array", n = math.random(4), elem = mutated(t.elem, 9) }
  end
  repeat t = random_type(9) until t.kind == "int" or t.kind == "bool" or t.kind == "float"
  return t
end

local function declare(t, name, indent)
  if t.kind == "struct" then
    local lines = {}
    for i, f in ipairs(t.fields) do lines[i] = declare(f.type, f.name, indent .. "\t") end
    return ("%sstruct {\n%s%s} %s;\n"):format(indent, table.concat(lines), indent, name)
  elseif t.kind == "array" then
    -- bitfields have no arrays
    local elem = t.elem
    if elem.field then elem.field, elem.bits = nil, 32 end
    return declare(elem, ("%s[%d]"):format(name, t.n), indent)
  elseif t.kind == "chars" then
    name = ("%s[%d]"):format(name, t.n)
  elseif t.field then
    name = ("%s : %d"):format(name, t.bits)
  end
  return ("%s%s %s;\n"):format(indent, t.c, name)
end

-- What a value of type a becomes in b, by the rules of the reference; REFUSED: it does not.
local REFUSED = {}

local function convert_number(v, a, b)
  if b.kind == "float" then
    if a.kind == "float" then
      if b.double then return v end
      local huge = v == v and math.abs(v) ~= math.huge and math.abs(v) > 0x1.fffffep127
      return huge and REFUSED or string.unpack("f", string.pack("f", v))
    end
    local unsigned = a.bits == 64 and not a.signed and v < 0
    local d = v + 0.0
    if unsigned then                    -- 2^64 + v
      if v & 0x7ff ~= 0 then return REFUSED end
      d = d + 0x1p64
    elseif math.tointeger(d) ~= v then
      return REFUSED
    end
    return not b.double and string.unpack("f", string.pack("f", d)) ~= d and REFUSED or d
  end
  local big = a.bits == 64 and not a.signed and v < 0 -- beyond 2^63 - 1
  if a.kind == "float" then
    if v ~= v or v >= 0x1p64 or v < -0x1p63 or v % 1 ~= 0 then return REFUSED end
    big = v >= 0x1p63
    v = big and math.tointeger(v - 0x1p64) or math.tointeger(v)
  end
  if b.kind == "bool" then return (v == 0 or v == 1) and v == 1 or v ~= 0 and REFUSED or false end
  if b.bits == 64 then
    if b.signed and big or not b.signed and not big and v < 0 then return REFUSED end
    return v
  end
  if big then return REFUSED end
  local low, high = 0, (1 << b.bits) - 1
  if b.signed then low, high = -(1 << b.bits - 1), (1 << b.bits - 1) - 1 end
  return v >= low and v <= high and v or REFUSED
end

local function bytes_like(t)
  return t.kind == "chars" or t.kind == "array" and t.elem.kind == "int" and t.elem.bits == 8
end

local function same(a, b)
  if a == b then return true end
  if bytes_like(a) and bytes_like(b) then return a.n == b.n end
  if a.kind ~= b.kind then return false end
  if a.kind == "array" then return a.n == b.n and same(a.elem, b.elem) end
  if a.kind == "struct" then return nil end
  return a.c == b.c and a.n == b.n and a.bits == b.bits and a.field == b.field
end

local convert, convert_fields

local function convert_bytes(a, b, old, raw)
  local counts = a.kind == "chars" and a.n ~= b.n and raw:match "^[^\0]*" or raw:match "^(.-)\0*$"
  if #counts > b.n then return REFUSED end
  raw = raw:sub(1, b.n) .. ("\0"):rep(b.n - #raw)
  if b.kind == "chars" then return (raw:match "^[^\0]*") end
  for i = 1, b.n do old[i] = string.unpack(b.elem.signed and "b" or "B", raw, i) end
  return old
end

-- old: what stands there, which may stay in parts; raw: a's bytes, laid out as T says.
function convert(v, a, b, old, raw, T)
  if bytes_like(a) and bytes_like(b) then return convert_bytes(a, b, old, raw) end
  local number = { int = true, bool = true, float = true }
  if number[a.kind] and number[b.kind] then
    if a.kind == "bool" then
      if b.kind == "bool" then return v end
      v = v and 1 or 0
    end
    return convert_number(v, a, b)
  end
  if a.kind ~= b.kind then return REFUSED end
  if a.kind == "array" then
    local size = #raw // a.n
    if raw:find("[^\0]", b.n * size + 1) then return REFUSED end
    for i = 1, math.min(a.n, b.n) do
      old[i] = convert(v[i], a.elem, b.elem, old[i], raw:sub((i - 1) * size + 1, i * size), T.elem)
      if old[i] == REFUSED then return REFUSED end
    end
    return old
  end
  for name, value in pairs(convert_fields(v, a, b, old, raw, T)) do
    if value == REFUSED then return REFUSED end
    old[name] = value
  end
  return old
end

-- Of each field that both have: what it becomes.
function convert_fields(v, a, b, old, raw, T)
  local was, out = {}, {}
  for i, f in ipairs(a.fields) do was[f.name] = { f.type, T.fields[i] } end
  for _, f in ipairs(b.fields) do
    local from = was[f.name]
    if from then
      local bytes = raw:sub(from[2].offset + 1, from[2].offset + from[2].type.size)
      out[f.name] = convert(v[f.name], from[1], f.type, old[f.name], bytes, from[2].type)
    end
  end
  return out
end

describe("random layouts", function()
  local PAIRS, VALUES = os.getenv "MB_HARDGC" and 4 or 60, 12
  local seed = math.random(1 << 30)

  -- Bytes of which many are zero, so that not everything is out of range.
  local function random_bytes(n)
    local list = {}
    for i = 1, n do list[i] = string.char(math.random(3) == 1 and math.random(0, 255) or 0) end
    return table.concat(list)
  end

  local function compiled(dir, name, list)
    local lines = {}
    for i, t in ipairs(list) do
      local inner = {}
      for k, f in ipairs(t.fields) do inner[k] = declare(f.type, f.name, "\t") end
      lines[i] = ("struct s%d {\n%s};\nstruct s%d v%d;\n"):format(i, table.concat(inner), i, i)
    end
    local path = dir .. "/" .. name
    local file <close> = assert(io.open(path .. ".bpf.c", "w"))
    file:write(table.concat(lines))
    file:close()
    local r = run { os.getenv "CLANG" or "clang", "-O2", "-g", "-target", "bpf",
      "-c", path .. ".bpf.c", "-o", path .. ".bpf.o" }
    assert.equal(0, r.rc, r.err)
    return bpf.open(path .. ".bpf.o")
  end

  local function plain(x)               -- not a number becomes a text, which is equal to itself
    if type(x) == "table" then
      local out = {}
      for k, v in pairs(x) do out[k] = plain(v) end
      return out
    end
    return x ~= x and "nan" or x
  end

  it("differ where the model says, and values go over as it says", function()
    skip.unless(os.execute "clang --version >/dev/null 2>&1", "no clang")
    math.randomseed(seed)
    local was, is = {}, {}
    for i = 1, PAIRS do
      repeat was[i] = random_type(1) until was[i].kind == "struct"
      repeat is[i] = mutated(was[i], 1) until is[i].kind == "struct"
    end
    local dir = os.tmpname()
    os.remove(dir)
    assert(os.execute("mkdir " .. dir))
    local _ <close> = setmetatable({}, { __close = function() os.execute("rm -r " .. dir) end })
    local a <close> = compiled(dir, "was", was)
    local b <close> = compiled(dir, "is", is)
    local carried_all, refused_all = 0, 0
    for i = 1, PAIRS do
      local name = ("struct s%d"):format(i)
      local A, B = a.types[name], b.types[name]
      local where = ("seed %d, %s\n%s\n%s\n"):format(seed, name, A, B)
      assert.is_nil(bpf.diff(A, A), where)
      local found = {}
      for _, d in ipairs(bpf.diff(A, B) or {}) do found[d.field] = d.change end
      local by_name = {}
      for _, f in ipairs(was[i].fields) do by_name[f.name] = f.type end
      for _, f in ipairs(is[i].fields) do
        local old = by_name[f.name]
        local equal = old and same(old, f.type)
        if not old then
          assert.equal("added", found[f.name], where .. f.name)
        elseif equal then
          assert.is_true(found[f.name] == nil or found[f.name] == "moved", where .. f.name)
        elseif equal == false then
          assert.equal("type", found[f.name], where .. f.name)
        end
        by_name[f.name] = nil
      end
      for f in pairs(by_name) do assert.equal("removed", found[f], where .. f) end
      for _ = 1, VALUES do
        local from = bpf.cast(A, random_bytes(A.size))
        local to = bpf.copy(bpf.cast(B, random_bytes(B.size)))
        local expect, refused = bpf.totable(to), {}
        for f, v in pairs(convert_fields(bpf.totable(from), was[i], is[i], bpf.totable(to),
          bpf.bytes(from), A)) do
          if v == REFUSED then refused[#refused + 1] = f else expect[f] = v end
        end
        local carried, why = bpf.carry(to, from)
        for _, f in ipairs(refused) do
          assert.truthy(why[f], where .. f .. bpf.format(from))
          why[f] = nil
        end
        assert.same({}, why, where .. bpf.format(from))
        assert.same(plain(expect), plain(bpf.totable(to)), where .. bpf.format(from))
        carried_all, refused_all = carried_all + #carried, refused_all + #refused
      end
    end
    if PAIRS < 60 then return end -- too few to be sure of both
    assert.truthy(carried_all > PAIRS * VALUES, carried_all)
    assert.truthy(refused_all > 0, refused_all)
  end)
end)
