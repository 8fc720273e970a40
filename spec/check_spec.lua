-- SPDX-License-Identifier: BSD-2-Clause
--
-- No file, however damaged, may reach libbpf unchecked (1.1 crashes on some), and each refusal says
-- what is wrong. Damage is done in a child process: a crash there must not end the specs.
local core = require "moonbee.core"
local preload = require "support.preload"
local run = require "support.run"

local build = os.getenv "MB_BUILD" or "build"
local fixtures = { "events", "externs", "maps", "types", "xdp" }
local again = "the file is damaged or truncated; build it again"
local other = "BPF objects are made by clang -g -O2 -target bpf -c x.bpf.c"

local function read(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read "a"
end

local function fixture(name) return build .. "/fixtures/" .. name .. ".bpf.o" end

-- The error that opening raises.
local function refusal(what, opts)
  local ok, err = pcall(core.open, what, opts)
  assert.is_false(ok)
  return err
end

local function assert_refused(code, cause, hint, what, opts)
  local err = refusal(what, opts)
  assert.equal(cause, err.cause)
  assert.equal(code, err.code)
  assert.equal(hint, err.hint)
  assert.equal("open object", err.op)
  assert.equal(("open object '%s': %s (%s)%s"):format(err.subject, cause, code,
    hint and "\nhint: " .. hint or ""), tostring(err))
end

local function assert_damaged(cause, bytes)
  assert_refused("EINVAL", cause, again, bytes, { bytes = true })
end

-- --- a file's parts: { [section's name] = { at =, size =, header = } } --------------------------

local function sections(bytes)
  local shoff = string.unpack("<I8", bytes, 41)
  local n, names = string.unpack("<I2 I2", bytes, 61)
  local strings = string.unpack("<I8", bytes, shoff + 64 * names + 25)
  local found = {}
  for i = 1, n - 1 do
    local header = shoff + 64 * i
    local name, kind, _, _, at, size = string.unpack("<I4 I4 I8 I8 I8 I8", bytes, header + 1)
    found[string.unpack("z", bytes, strings + name + 1)] =
      { at = at, size = size, header = header, index = i, kind = kind }
  end
  return found
end

-- Where the first BTF type of a kind begins, and its id.
local function find_type(bytes, kind)
  local tail = { [1] = 4, [3] = 12, [14] = 4, [17] = 4 }
  local item = { [4] = 12, [5] = 12, [6] = 8, [13] = 8, [15] = 12, [19] = 12 }
  local at = sections(bytes)[".BTF"].at
  local header, off, len = string.unpack("<I4 I4 I4", bytes, at + 5)
  local here, id = at + header + off, 1
  local stop = here + len
  while here < stop do
    local info = string.unpack("<I4", bytes, here + 5)
    local this = info >> 24 & 0x1f
    if this == kind then return here, id end
    here = here + 12 + (tail[this] or 0) + (item[this] or 0) * (info & 0xffff)
    id = id + 1
  end
  error("no type of kind " .. kind)
end

local function patch(bytes, at, format, ...)
  local new = string.pack(format, ...)
  return bytes:sub(1, at) .. new .. bytes:sub(at + #new + 1)
end

-- --- specs --------------------------------------------------------------------------------------

describe("a file that is no BPF object", function()
  local path

  before_each(function() path = os.tmpname() end)
  after_each(function() os.remove(path) end)

  local function compile_for(target, debug)
    local r = run({ "clang", "-O2", debug, "-target", target, "-x", "c", "-c", "-o", path, "-" },
      { stdin = "int x = 1; int f(void) { return x; }\n" })
    assert.equal("", r.err)
    assert.equal(0, r.rc)
  end

  local function write(text)
    local file <close> = assert(io.open(path, "wb"))
    file:write(text)
  end

  it("is said to be empty", function()
    write ""
    assert_refused("ENOEXEC", "is empty", other, path)
  end)

  it("is said to be no ELF file", function()
    write "#include <linux/bpf.h>\n"
    assert_refused("ENOEXEC", "is not an ELF file", other, path)
  end)

  it("is said to be for another machine", function()
    compile_for("x86_64-linux-gnu", "-g")
    assert_refused("ENOEXEC", "is an ELF file for x86-64, not BPF", other, path)
    compile_for("s390x-linux-gnu", "-g")
    assert_refused("ENOEXEC", "is an ELF file for s390, not BPF", other, path)
  end)

  it("is said to be of the other byte order", function()
    local little = string.pack("=I2", 1) == "\1\0"
    compile_for(little and "bpfeb" or "bpfel", "-g")
    assert_refused("ENOEXEC", little and "is big-endian, this machine is little-endian"
      or "is little-endian, this machine is big-endian", other, path)
  end)

  it("is said to have no BTF", function()
    compile_for("bpf", "-g0")
    assert_refused("ENODATA", "has no BTF", "compile with clang -g -O2 -target bpf", path)
  end)

  it("is named in the text", function()
    write ""
    assert.equal(path, refusal(path).subject)
  end)

  it("is a directory", function()
    local err = refusal "/tmp"
    assert.equal("EISDIR", err.code)
    assert.equal("open object '/tmp': it is a directory (EISDIR)", tostring(err):match "^[^\n]*")
  end)

  it("is missing", function()
    local err = refusal "/nowhere/x.bpf.o"
    assert.equal("ENOENT", err.code)
    assert.equal("open object '/nowhere/x.bpf.o': No such file or directory (ENOENT)",
      tostring(err):match "^[^\n]*")
  end)
end)

describe("a damaged object", function()
  local bytes = read(fixture "types")
  local parts = sections(bytes)

  it("was whole before", function()
    for _, name in ipairs(fixtures) do core.open(read(fixture(name)), { bytes = true }):close() end
  end)

  it("is cut off in its header", function()
    assert_damaged("is truncated: 63 bytes of a 64-byte ELF header", bytes:sub(1, 63))
  end)

  it("is cut off at its end", function()
    local shoff = string.unpack("<I8", bytes, 41)
    local n = string.unpack("<I2", bytes, 61)
    assert_damaged(("is truncated: %d section headers from byte %d, %d bytes in all"):format(n,
      shoff, #bytes - 1), bytes:sub(1, -2))
  end)

  it("has a section outside the file", function()
    local s = parts[".BTF"]
    assert_damaged(("section %d: bytes %d + %d lie outside the file (%d bytes)"):format(s.index,
      #bytes, s.size, #bytes), patch(bytes, s.header + 24, "<I8", #bytes))
  end)

  it("has a compressed section", function()
    assert_damaged("section '.BTF': is compressed", patch(bytes, parts[".BTF"].header + 8,
      "<I8", 0x800))
  end)

  it("has no symbols", function()
    assert_refused("EINVAL", "has no symbol table",
      "it was stripped too far: llvm-strip -g keeps what is needed",
      patch(bytes, parts[".symtab"].header + 4, "<I4", 1), { bytes = true })
  end)

  it("has a symbol without a section", function()
    assert_damaged("section '.symtab': symbol 1 is in no section (64000)",
      patch(bytes, parts[".symtab"].at + 24 + 6, "<I2", 64000))
  end)

  -- A function: FUNC, global. libbpf 1.1 reads before the section.
  it("has a function that wraps around", function()
    local s, i = parts[".symtab"], 0
    while bytes:byte(s.at + 24 * i + 5) ~= 0x12 do i = i + 1 end
    local shndx = string.unpack("<I2", bytes, s.at + 24 * i + 7)
    local name
    for section, part in pairs(parts) do if part.index == shndx then name = section end end
    assert_damaged(("section '.symtab': symbol %d reaches out of section '%s'"):format(i, name),
      patch(bytes, s.at + 24 * i + 8, "<i8 I8", -8, 8))
  end)

  it("has a type id too large", function()
    local at, id = find_type(bytes, 2)
    local err = refusal(patch(bytes, at + 8, "<I4", 0xffffff), { bytes = true })
    assert.matches("^section '.BTF': type " .. id .. " %(pointer%) refers to type 16777215 of %d+$",
      err.cause)
    assert.equal(again, err.hint)
  end)

  it("has a name beyond the strings", function()
    local at, id = find_type(bytes, 4)
    local size = string.unpack("<I4", bytes, parts[".BTF"].at + 21)
    assert_damaged(("section '.BTF': type %d (struct) has a name at %d, beyond the strings " ..
      "(%d bytes)"):format(id, size, size), patch(bytes, at, "<I4", size))
  end)

  it("has a type of an unknown kind", function()
    local at, id = find_type(bytes, 1)
    assert_damaged(("section '.BTF': type %d is of no known kind (0x14000000)"):format(id),
      patch(bytes, at + 4, "<I4", 20 << 24))
  end)

  -- libbpf follows it for ever.
  it("has a typedef of itself", function()
    local at, id = find_type(bytes, 8)
    assert_damaged(("section '.BTF': type %d (typedef) contains itself"):format(id),
      patch(bytes, at + 8, "<I4", id))
  end)

  it("has a struct that contains itself", function()
    local at, id = find_type(bytes, 4)
    assert_damaged(("section '.BTF': type %d (struct) contains itself"):format(id),
      patch(bytes, at + 12 + 4, "<I4", id))
  end)

  it("has a member beyond its struct's end", function()
    local at, id = find_type(bytes, 4)
    assert_damaged(("section '.BTF': type %d (struct) of 0 bytes: member 0 reaches beyond its end")
      :format(id), patch(bytes, at + 8, "<I4", 0))
  end)

  it("has a function without prototype", function()
    local at, id = find_type(bytes, 12)
    local _, int = find_type(bytes, 1)
    assert_damaged(("section '.BTF': type %d (function) has type %d, no prototype"):format(id, int),
      patch(bytes, at + 8, "<I4", int))
  end)

  it("has a section's variable that is none", function()
    local at, id = find_type(bytes, 15)
    local _, int = find_type(bytes, 1)
    local err = refusal(patch(bytes, at + 12, "<I4", int), { bytes = true })
    assert.matches(("^section '.BTF': type %d %%(section%%) '[%%w.]+': entry 0, type %d, is no " ..
      "variable$"):format(id, int), err.cause)
  end)

  it("has an instruction's line beyond the code", function()
    local ext = parts[".BTF.ext"]
    local header, _, _, line = string.unpack("<I4 I4 I4 I4", bytes, ext.at + 5)
    local rec = header + line + 4 + 8
    assert_damaged(("section '.BTF.ext': line records: instruction beyond its section's end " ..
      "at byte %d"):format(rec), patch(bytes, ext.at + rec, "<I4", 0x7ffffff8))
  end)

  it("does not speak in control characters", function()
    local names = parts[".strtab"] or parts[".shstrtab"]
    local name = bytes:find(".BTF\0", names.at + 1, true)
    local err = refusal(patch(patch(bytes, name - 1, "c4", "\27[2J"),
      parts[".BTF"].header + 8, "<I8", 0x800), { bytes = true })
    assert.equal("section '?[2J': is compressed", err.cause)
  end)
end)

-- --- damage at random ---------------------------------------------------------------------------

-- Reads: object's path, how ("cut", "change"), seed, count. Tells of each what it is about to do,
-- so that the last line names what killed it; then how many were opened and refused.
local child = [[
local core = require "moonbee.core"
local path, how, seed, count = arg[1], arg[2], tonumber(arg[3]), tonumber(arg[4])
local file <close> = assert(io.open(path, "rb"))
local whole = file:read "a"
local opened, refused = 0, 0

local function try(bytes, ...)
  io.write(string.format(...), "\n")
  local ok, result = pcall(core.open, bytes, { bytes = true })
  if ok then
    opened = opened + 1
    result:close()
    return
  end
  refused = refused + 1
  if type(result) ~= "table" or not result.code or not result.cause
    or not tostring(result):find("(" .. result.code .. ")", 1, true) then
    error("no error object: " .. tostring(result))
  end
end

local function part(...)
  local at, size = select("#", ...) == 1 and 0 or ..., select(-1, ...)
  return { at = at, size = size }
end

-- Headers, .BTF, .BTF.ext, symbols, relocations.
local function parts()
  local shoff = string.unpack("<I8", whole, 41)
  local n, names = string.unpack("<I2 I2", whole, 61)
  local strings = string.unpack("<I8", whole, shoff + 64 * names + 25)
  local list = { part(64), part(shoff, 64 * n) }
  for i = 1, n - 1 do
    local name, kind, _, _, at, size =
      string.unpack("<I4 I4 I8 I8 I8 I8", whole, shoff + 64 * i + 1)
    name = string.unpack("z", whole, strings + name + 1)
    if size > 0 and (name == ".BTF" or name == ".BTF.ext" or kind == 2
      or kind == 9 and not name:find "^%.rel%.[dB]") then
      list[#list + 1] = part(at, size)
    end
  end
  return list
end

local values = { "\0", "\1", "\4", "\8", "\127", "\128", "\255", "\255\255", "\0\0\0\0",
  "\255\255\255\127", "\255\255\255\255", "\248\255\255\255", "\0\0\0\128" }

local function change(bytes, list)
  local p = list[math.random(#list)]
  local new = math.random(2) == 1 and string.char(math.random(0, 255)) or
    values[math.random(#values)]
  local at = p.at + math.random(0, p.size - 1)
  if #new > 1 then at = at - at % 4 end
  return bytes:sub(1, at) .. new .. bytes:sub(at + #new + 1), at
end

io.stdout:setvbuf "no"
if how == "cut" then
  for len = 0, #whole - 1, count do try(whole:sub(1, len), "%s cut to %d", path, len) end
else
  local list = parts()
  math.randomseed(seed)
  for i = 1, count do
    local bytes, at = whole, nil
    for _ = 1, math.random(2) do bytes, at = change(bytes, list) end
    try(bytes, "%s seed %d, change %d, last at %d", path, seed, i, at)
  end
end
io.write(string.format("opened %d, refused %d\n", opened, refused))
]]

describe("any damage", function()
  local function survive(name, how, seed, count)
    local r = run({ "lua5.4", "-", fixture(name), how, tostring(seed), tostring(count) },
      { stdin = child, timeout = 300, env = { LD_PRELOAD = preload.libraries,
        LUA_PATH = package.path, LUA_CPATH = package.cpath } })
    local last = r.out:match "([^\n]*)\n$"
    assert(r.rc == 0, ("exit %d at %s\n%s"):format(r.rc, last, r.err))
    local opened, refused = last:match "^opened (%d+), refused (%d+)$"
    return tonumber(opened), tonumber(refused)
  end

  it("leaves an object or an error: cut at every 97th byte", function()
    for _, name in ipairs(fixtures) do
      local opened, refused = survive(name, "cut", 0, 97)
      assert.equal(0, opened)
      assert.equal(math.ceil(#read(fixture(name)) / 97), refused)
    end
  end)

  it("leaves an object or an error: changed in 2000 ways", function()
    for i, name in ipairs(fixtures) do
      local opened, refused = survive(name, "change", i, 400)
      assert.equal(400, opened + refused)
      assert(opened > 20 and refused > 20, name .. ": no fair trial: " .. opened)
    end
  end)
end)

describe("an object's debug sections", function()
  local path

  before_each(function() path = os.tmpname() end)
  after_each(function() os.remove(path) end)

  -- The file of "types" with its debug section anywhere.
  local function write(at, size, tail)
    local bytes = read(fixture "types")
    local header = assert(sections(bytes)[".debug_info"]).header
    bytes = patch(bytes, header + 24, "<I8 I8", at or #bytes, size) .. tail
    local file <close> = assert(io.open(path, "wb"))
    file:write(bytes)
    return bytes
  end

  local function variables(...)
    local names = {}
    local obj <close> = core.open(...)
    for name, value in pairs(obj.vars) do
      names[#names + 1] = name .. " = " .. tostring(value)
    end
    assert(#names > 10)
    table.sort(names)
    return names
  end

  it("take no memory", function()
    local size = 64 << 20
    local bytes = write(nil, size, ("x"):rep(size))
    local r = run({ "lua5.4", "-", path }, { env = { LD_PRELOAD = preload.libraries,
      LUA_PATH = package.path, LUA_CPATH = package.cpath }, stdin = [[
        local core = require "moonbee.core"
        local function peak()
          return tonumber(io.open "/proc/self/status":read "a":match "VmHWM:%s*(%d+)")
        end
        local before = peak()
        local obj = core.open(arg[1])
        print(peak() - before)
      ]] })
    assert.equal("", r.err)
    assert(tonumber(r.out) < 16 << 10, r.out .. " kB")
    assert.same(variables(bytes, { bytes = true }), variables(path))
  end)

  it("that share bytes with others are read", function()
    local all = #read(fixture "types")
    local btf = sections(read(fixture "types"))[".BTF"]
    for _, span in ipairs { { 0, all }, { btf.at + 8, all - btf.at - 8 }, { btf.at - 64, 8256 } } do
      local bytes = write(span[1], span[2], "")
      assert.same(variables(bytes, { bytes = true }), variables(path))
    end
  end)

  it("may lie outside of the file, which is damage", function()
    local all = #read(fixture "types")
    for _, span in ipairs { { all, 8192 }, { -8192, 16384 }, { 64, -1 } } do
      local bytes = write(span[1], span[2], "")
      local cause = refusal(bytes, { bytes = true }).cause
      assert.matches("lie outside the file", cause)
      assert_refused("EINVAL", cause, again, path)
    end
  end)
end)
