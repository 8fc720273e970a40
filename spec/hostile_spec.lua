-- SPDX-License-Identifier: BSD-2-Clause
--
-- BTF made to harm: types added to those of a real object, so that all else in it is in order. Such
-- an object is refused when it is opened, with an error object that says what is wrong, or its bad
-- types are when they are asked for; either in less than a second, and never by a crash: a child
-- process opens it.
local preload = require "support.preload"
local run = require "support.run"

local build = os.getenv "MB_BUILD" or "build"
local again = "the file is damaged or truncated; build it again"

local INT <const>, PTR <const>, ARRAY <const>, STRUCT <const>, UNION <const> = 1, 2, 3, 4, 5
local ENUM <const>, FWD <const>, TYPEDEF <const>, CONST <const> = 6, 7, 8, 10
local VAR <const>, DATASEC <const>, FLOAT <const>, ENUM64 <const> = 14, 15, 16, 19
local FLAG <const> = 1 << 31

-- --- an object with more types -----------------------------------------------------------------

local function read(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read "a"
end

local real = read(build .. "/fixtures/types.bpf.o")

-- Where a section's header is, its offset and size.
local function section(bytes, want)
  local shoff = string.unpack("<I8", bytes, 41)
  local n, names = string.unpack("<I2 I2", bytes, 61)
  local strings = string.unpack("<I8", bytes, shoff + 64 * names + 25)
  for i = 1, n - 1 do
    local name, _, _, _, at, size = string.unpack("<I4 I4 I8 I8 I8 I8", bytes, shoff + 64 * i + 1)
    if string.unpack("z", bytes, strings + name + 1) == want then
      return shoff + 64 * i, at, size
    end
  end
  error("no section " .. want)
end

local function count_types(types)
  local tail = { [INT] = 4, [ARRAY] = 12, [VAR] = 4, [17] = 4 }
  local item = { [STRUCT] = 12, [UNION] = 12, [ENUM] = 8, [13] = 8, [DATASEC] = 12, [ENUM64] = 12 }
  local at, n = 1, 0
  while at <= #types do
    local info = string.unpack("<I4", types, at + 4)
    local kind = info >> 24 & 0x1f
    at = at + 12 + (tail[kind] or 0) + (item[kind] or 0) * (info & 0xffff)
    n = n + 1
  end
  return n
end

local header_at, btf_at, btf_size = section(real, ".BTF")
local btf_header, type_off, type_len, str_off, str_len =
  string.unpack("<I4 I4 I4 I4 I4", real, btf_at + 5)
local old_types = real:sub(btf_at + btf_header + type_off + 1, btf_at + btf_header + type_off
  + type_len)
local old_strings = real:sub(btf_at + btf_header + str_off + 1, btf_at + btf_header + str_off
  + str_len)
local old_count = count_types(old_types)
assert(btf_size >= btf_header + type_len + str_len)

-- What `add` puts there. b:type(kind, name, { vlen, flag }, size or type, words …) returns the id;
-- b.next is the id of the type to come, b.strings the length of all names so far.
local function object_with(add, header)
  local types, strings = { old_types }, { old_strings }
  local b = { next = old_count + 1, strings = #old_strings }
  function b:name(text)
    local at = self.strings
    strings[#strings + 1] = text .. "\0"
    self.strings = at + #text + 1
    return at
  end
  function b:type(kind, name, info, word, words)
    if type(name) == "string" then name = self:name(name) end
    types[#types + 1] = string.pack("<I4 I4 I4", name or 0,
      kind << 24 | (info[1] or 0) | (info[2] and FLAG or 0), word)
    for _, w in ipairs(words or {}) do types[#types + 1] = string.pack("<I4", w & 0xffffffff) end
    self.next = self.next + 1
    return self.next - 1
  end
  function b:int(name, size, bits)
    return self:type(INT, name or "int", {}, size or 4, { bits or (size or 4) * 8 })
  end
  function b:array(of, n) return self:type(ARRAY, 0, {}, 0, { of, 1, n }) end
  function b:struct(name, size, ...)
    local words, n = {}, 0
    for _, m in ipairs { ... } do
      local at = m[1] and self:name(m[1]) or 0
      table.move({ at, m[2], m[3] or 0 }, 1, 3, #words + 1, words)
      n = n + 1
    end
    return self:type(STRUCT, name, { n }, size, words)
  end
  add(b)
  local new_types, new_strings = table.concat(types), table.concat(strings)
  local h = { magic = 0xeb9f, version = 1, flags = 0, len = 24, type_off = 0, type_len = #new_types,
    str_off = #new_types, str_len = #new_strings }
  for k, v in pairs(header or {}) do h[k] = v end
  local blob = string.pack("<I2 I1 I1 I4 I4 I4 I4 I4", h.magic, h.version, h.flags, h.len,
    h.type_off, h.type_len, h.str_off, h.str_len) .. new_types .. new_strings
  local padded = real .. ("\0"):rep(-#real % 8)
  return padded:sub(1, header_at + 24) .. string.pack("<I8 I8", #padded, #blob) ..
    padded:sub(header_at + 41) .. blob
end

-- --- opening it ---------------------------------------------------------------------------------

-- Opens the object, asks for all of its types, and says how long both took and what was wrong.
local child = [=[
local core = require "moonbee.core"
local file <close> = assert(io.open(arg[1], "rb"))
local bytes = file:read "a"
local from = os.clock()
local ok, obj = pcall(core.open, bytes, { bytes = true })
local code, cause, hint = "", "", ""
if not ok then
  assert(type(obj) == "table" and obj.code, "no error object: " .. tostring(obj))
  code, cause, hint = obj.code, obj.cause, obj.hint or ""
  assert(obj.op == "open object", obj.op)
  assert(tostring(obj):find(obj.cause, 1, true))
end
print(string.format("open\t%.3f\t%s\t%s\t%s", os.clock() - from, code, cause, hint))
if not ok then return end
from = os.clock()
local n, bad = 0, {}
for name, T in pairs(obj.types) do n = n + 1; assert(tostring(T), name) end
for i = 2, #arg do
  local found, T = pcall(function() return obj.types[arg[i]] end)
  if found and T then found, T = pcall(function() return T.size and #tostring(T) end) end
  bad[#bad + 1] = found and arg[i] .. ": ok" or arg[i] .. ": " .. tostring(T):gsub("\n.*", "")
end
for name in pairs(obj.vars) do assert(name) end
print(string.format("use\t%.3f\t%d\t%s", os.clock() - from, n, table.concat(bad, "; ")))
obj:close()
]=]

local slow = build:find "asan" and 8 or 1

-- What the child says: { open = seconds, code, cause, hint, use = seconds, n = types, said = text }
local function open(bytes, ...)
  local path = os.tmpname()
  do
    local file <close> = assert(io.open(path, "wb"))
    file:write(bytes)
  end
  local r = run({ "lua5.4", "-", path, ... }, { stdin = child, timeout = 60, env = {
    LD_PRELOAD = preload.libraries, LUA_PATH = package.path, LUA_CPATH = package.cpath } })
  os.remove(path)
  assert(r.rc == 0, ("exit %d: %s\n%s"):format(r.rc, r.out, r.err))
  local took, code, cause, hint = r.out:match "^open\t([%d.]+)\t([^\t]*)\t([^\t]*)\t([^\n]*)\n"
  local use, n, said = r.out:match "\nuse\t([%d.]+)\t(%d+)\t([^\n]*)\n"
  local all = tonumber(took) + (tonumber(use) or 0)
  assert(all < slow, ("it took %.3f s: %s"):format(all, r.out))
  return { code = code, cause = cause, hint = hint, n = tonumber(n), said = said }
end

local function refused(cause, add, header)
  local got = open(object_with(add, header))
  assert.equal("EINVAL", got.code)
  assert.matches(cause, got.cause)
  assert.equal(again, got.hint)
end

-- It opens, and these types say what is wrong with them (or "ok").
local function usable(wanted, add, ...)
  local got = open(object_with(add), ...)
  assert.equal("", got.code .. got.cause)
  assert.matches(wanted, got.said)
  assert(got.n > 5)
end

-- --- specs --------------------------------------------------------------------------------------

describe("hostile BTF", function()
  it("is none when nothing was added", function()
    usable("^$", function() end)
  end)

  it("is none when what was added is in order", function()
    usable("^struct added: ok; added_t: ok$", function(b)
      local int = b:int()
      local s = b:struct("added", 16, { "a", int }, { "b", b:array(int, 2), 32 })
      b:type(TYPEDEF, "added_t", {}, s)
    end, "struct added", "added_t")
  end)

  describe("in cycles", function()
    it("of a struct through a member", function()
      refused("%(struct%) contains itself$", function(b)
        b:struct("me", 8, { "again", b.next })
      end)
    end)

    it("of two structs", function()
      refused("%(struct%) contains itself$", function(b)
        local first = b.next
        b:struct("one", 8, { "two", first + 1 })
        b:struct("two", 8, { "one", first })
      end)
    end)

    it("of a struct through an array of a const typedef", function()
      refused("contains itself$", function(b)
        local s = b:struct("me", 0, { "all", b.next + 3 })
        local t = b:type(TYPEDEF, "me_t", {}, s)
        b:array(b:type(CONST, 0, {}, t), 4)
      end)
    end)

    it("of an anonymous member", function()
      refused("contains itself$", function(b) b:struct("me", 8, { nil, b.next }) end)
    end)

    it("of typedefs and qualifiers", function()
      refused("%(typedef%) contains itself$", function(b) b:type(TYPEDEF, "t", {}, b.next) end)
      refused("contains itself$", function(b)
        b:type(TYPEDEF, "t", {}, b.next + 1)
        b:type(CONST, 0, {}, b.next - 1)
      end)
    end)

    it("of arrays", function()
      refused("%(array%) contains itself$", function(b) b:array(b.next, 2) end)
    end)

    it("of pointers, which are none", function()
      usable("^struct list: ok$", function(b)
        local s = b.next + 1
        b:type(PTR, 0, {}, s)
        b:struct("list", 8, { "next", s - 1 })
        b:type(PTR, 0, {}, b.next)
      end, "struct list")
    end)
  end)

  describe("of absurd sizes", function()
    it("in a struct of 4 GiB", function()
      refused("%(struct%) of 4294967295 bytes is too large$", function(b)
        b:struct("big", 0xffffffff, { "a", b:int() })
      end)
    end)

    -- Its bits cannot be counted in 32 bits: ends would come before beginnings.
    it("in a struct with a bit field at its far end", function()
      refused("%(struct%) of 536870928 bytes is too large$", function(b)
        b:struct("far", 0x20000010, { "bits", b:int("odd", 4, 20), 0xfffffff0 })
      end)
    end)

    it("in arrays whose product wraps around", function()
      refused("member 0 reaches beyond its end$", function(b)
        local at = b:int()
        for _ = 1, 4 do at = b:array(at, 0x10000) end
        b:struct("small", 8, { "all", at })
      end)
    end)

    it("in an array of its own", function()
      usable("^big_t: .*2 GiB", function(b)
        b:type(TYPEDEF, "big_t", {}, b:array(b:int(), 0xffffffff))
      end, "big_t")
    end)

    it("in a section", function()
      refused("'.data.huge': of 4294967295 bytes is too large$", function(b)
        local v = b:type(VAR, "v", {}, b:int(), { 1 })
        b:type(DATASEC, ".data.huge", { 1 }, 0xffffffff, { v, 0xfffffff0, 4 })
      end)
    end)

    it("in a section's variable", function()
      refused("variable 0, 4294967295 bytes at 4, is out of 8$", function(b)
        local v = b:type(VAR, "v", {}, b:int(), { 1 })
        b:type(DATASEC, ".data.x", { 1 }, 8, { v, 4, 0xffffffff })
      end)
    end)

    it("in integers", function()
      refused("%(int%) of 0 bytes$", function(b) b:int("none", 0, 0) end)
      refused("%(int%) of 4294967295 bytes$", function(b) b:int("all", 0xffffffff, 32) end)
      refused("%(int%) of 4 bytes has 64 bits from bit 0$", function(b) b:int("wide", 4, 64) end)
      refused("%(int%) of 4 bytes has 32 bits from bit 255$", function(b)
        b:int("off", 4, 255 << 16 | 32)
      end)
      refused("%(int%) of 4 bytes has 0 bits from bit 0$", function(b) b:int("thin", 4, 0) end)
    end)

    it("in enums and floats, where they are asked for", function()
      usable("^enum e: .+ is wrong: an enum's size.*; f: .+ is wrong: a float's size", function(b)
        b:type(ENUM, "e", {}, 3)
        b:type(FLOAT, "f", {}, 0xffffffff)
      end, "enum e", "f")
    end)
  end)

  describe("that lies about its length", function()
    it("in a struct of more members than there are", function()
      refused("reaches beyond the end of the types$", function(b)
        b:type(STRUCT, "short", { 0xffff }, 8, { 0, 1, 0 })
      end)
    end)

    it("in an enum, a section, a type cut off", function()
      refused("reaches beyond the end of the types$", function(b)
        b:type(ENUM, "e", { 100 }, 4, { 0, 1 })
      end)
      refused("reaches beyond the end of the types$", function(b)
        b:type(DATASEC, ".data.x", { 3 }, 8, { 1, 0, 4 })
      end)
      refused("reaches beyond the end of the types$", function(b) b:type(ARRAY, 0, {}, 0) end)
    end)

    it("in its header", function()
      local function none() end
      refused("its strings are out of place$", none, { str_len = 0xffffffff })
      refused("its types are out of place$", none, { type_len = 0xffffffff })
      refused("its types are out of place$", none, { type_off = 0xfffffffc })
      refused("its header's length is wrong$", none, { len = 0xfffffffc })
      refused("its strings are out of place$", none, { str_len = 0 })
      refused("is of an unknown version$", none, { version = 9 })
    end)
  end)

  it("has ids out of range", function()
    for _, id in ipairs { 0x7fffffff, 0xffffffff } do
      refused("refers to type " .. id .. " of %d+$", function(b) b:type(PTR, 0, {}, id) end)
      refused("refers to type " .. id .. " of %d+$", function(b) b:array(id, 1) end)
      refused("refers to type " .. id .. " of %d+$", function(b)
        b:struct("s", 8, { "m", id })
      end)
      refused("refers to type " .. id .. " of %d+$", function(b)
        b:type(VAR, "v", {}, id, { 1 })
      end)
      refused("refers to type " .. id .. " of %d+$", function(b)
        b:type(DATASEC, ".data.x", { 1 }, 8, { id, 0, 4 })
      end)
    end
  end)

  it("has names outside", function()
    refused("has a name at 4294967295, beyond the strings", function(b)
      b:type(STRUCT, 0xffffffff, {}, 0)
    end)
    refused("has a name at 2147483647, beyond the strings", function(b)
      b:type(STRUCT, 0, { 1 }, 4, { 0x7fffffff, b:int(), 0 })
    end)
    refused("has a name at 4294967295, beyond the strings", function(b)
      b:type(ENUM, "e", { 1 }, 4, { 0xffffffff, 1 })
    end)
    refused("%(variable%) has no name$", function(b) b:type(VAR, 0, {}, b:int(), { 1 }) end)
  end)

  describe("nested deeply", function()
    local function tower(b, n)
      local at = b:int()
      for i = 1, n do at = b:struct("s" .. i, 4, { "in", at }) end
      return at
    end

    it("beyond all measure is refused", function()
      refused("nested too deeply$", function(b) tower(b, 20000) end)
      refused("nested too deeply$", function(b) tower(b, 64) end)
    end)

    it("as no compiler does, opens", function()
      usable("^struct s20: ok; struct s63: ok$", function(b) tower(b, 63) end, "struct s20",
        "struct s63")
    end)

    it("in anonymous members twice each, has more members than can be walked", function()
      refused("has too many members", function(b)
        local at = b:struct(nil, 0)
        for _ = 1, 31 do at = b:struct(nil, 0, { nil, at }, { nil, at }) end
        b:struct("tower", 8, { nil, at })
      end)
    end)

    it("in many types of many anonymous members each", function()
      refused("has too many members", function(b)
        local int, wide = b:int(), {}
        for i = 1, 30000 do wide[i] = { nil, int } end
        local at = b:struct(nil, 4, table.unpack(wide))
        for i = 1, 1000 do b:struct("s" .. i, 4, { nil, at }) end
      end)
    end)

    it("in named members twice each, is compiled once", function()
      usable("^struct s9: ok$", function(b)
        local at = b:struct("s0", 0)
        for i = 1, 31 do at = b:struct("s" .. i, 0, { "a", at }, { "b", at }) end
      end, "struct s9")
    end)
  end)

  describe("of many members", function()
    local function wide(b, n, name)
      local words, int, at = {}, b:int(), b:name "m"
      for i = 1, n do table.move({ at, int, (i - 1) * 32 }, 1, 3, #words + 1, words) end
      return b:type(STRUCT, name, { n }, n * 4, words)
    end

    it("compiles up to 65534", function()
      usable("^struct wide: ok$", function(b) wide(b, 65534, "wide") end, "struct wide")
    end)

    it("is refused from 65535 on, where it is asked for", function()
      usable("^struct wide: .*too many fields", function(b) wide(b, 65535, "wide") end,
        "struct wide")
    end)

    it("is refused as often as it is asked for, in bounded time", function()
      usable("^t1: .*too many fields", function(b)
        local at = wide(b, 65535, "wide")
        for i = 1, 2000 do b:type(TYPEDEF, "t" .. i, {}, at) end
      end, "t1")
    end)
  end)

  it("has forward declarations, functions and void where values belong", function()
    usable("^struct odd: ok$", function(b)
      local fwd = b:type(FWD, "gone", {}, 0)
      b:struct("odd", 8, { "a", fwd }, { "b", 0 }, { "c", b:int() })
      b:array(fwd, 4)
      b:array(0, 4)
    end, "struct odd")
  end)
end)
