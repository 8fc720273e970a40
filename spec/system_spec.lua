-- SPDX-License-Identifier: BSD-2-Clause
-- Small functions of the module: addresses and byte order, the clock, CPUs, types.
local uv = require "luv"
local bpf = require "moonbee"

-- The text of what fn raises, without its place.
local function mistake(fn)
  local ok, err = pcall(fn)
  assert.is_false(ok, "nothing was raised")
  local text, places = err:gsub("^%./", ""):gsub("^spec/system_spec%.lua:%d+: ", "")
  assert.equal(1, places, err)
  return text
end

local function read(path)
  local file <close> = assert(io.open(path))
  return file:read "a"
end

-- "0-3,5" -> { 0, 1, 2, 3, 5 }
local function cpu_list(text)
  local list = {}
  for from, to in text:gmatch "(%d+)%-?(%d*)" do
    for cpu = tonumber(from), tonumber(to) or tonumber(from) do list[#list + 1] = cpu end
  end
  return list
end

describe("bpf.ip", function()
  it("gives an address as it lies in a packet", function()
    assert.equal("\10\0\0\1", string.pack("=I4", bpf.ip "10.0.0.1"))
    assert.equal(0, bpf.ip "0.0.0.0")
    assert.equal(4294967295, bpf.ip "255.255.255.255")
  end)

  it("gives the 16 bytes of an IPv6 address", function()
    assert.equal(("\0"):rep(15) .. "\1", bpf.ip "::1")
    assert.equal("\x20\x01\x0d\xb8" .. ("\0"):rep(11) .. "\xff", bpf.ip "2001:db8::ff")
  end)

  it("refuses what is none", function()
    for _, text in ipairs { "", "10.0.0", "10.0.0.256", "localhost", "10.0.0.1/8", "::g",
      "10.0.0.1\0" } do
      assert.matches("is no IP address", mistake(function() bpf.ip(text) end))
    end
    assert.matches("string expected", mistake(function() bpf.ip() end))
  end)
end)

describe("bpf.iptext", function()
  it("is the way back", function()
    for _, text in ipairs { "10.0.0.1", "0.0.0.0", "255.255.255.255", "::1", "2001:db8::ff" } do
      assert.equal(text, bpf.iptext(bpf.ip(text)))
    end
    assert.equal("1.2.3.4", bpf.iptext "\1\2\3\4")
  end)

  it("refuses what has no 4 or 16 bytes", function()
    assert.matches("an address has 4 or 16 bytes", mistake(function() bpf.iptext "12345" end))
    assert.matches("an address has 4 or 16 bytes", mistake(function() bpf.iptext(2 ^ 32) end))
    assert.matches("an address has 4 or 16 bytes", mistake(function() bpf.iptext(-1) end))
    assert.matches("string expected", mistake(function() bpf.iptext {} end))
  end)
end)

describe("bpf.ntoh", function()
  it("turns the byte order, and back", function()
    local swap = string.pack("=I2", 1) == "\1\0"
    assert.equal(swap and 0x3412 or 0x1234, bpf.ntoh(0x1234, 16))
    assert.equal(swap and 0x78563412 or 0x12345678, bpf.ntoh(0x12345678, 32))
    assert.equal(string.unpack(">I8", string.pack("=I8", 0x0123456789abcdef)),
      bpf.ntoh(0x0123456789abcdef, 64))
    for _, bits in ipairs { 16, 32, 64 } do
      assert.equal(443, bpf.ntoh(bpf.ntoh(443, bits), bits))
    end
  end)

  it("refuses other widths, and values that are wider", function()
    assert.matches("bits is 16, 32 or 64", mistake(function() bpf.ntoh(1, 8) end))
    assert.matches("number expected, got no value", mistake(function() bpf.ntoh(1) end))
    assert.matches("the value has more than 16 bits", mistake(function() bpf.ntoh(65536, 16) end))
    assert.matches("the value has more than 32 bits", mistake(function() bpf.ntoh(-1, 32) end))
    assert.equal(-1, bpf.ntoh(-1, 64))
  end)
end)

describe("bpf.lpm", function()
  it("gives the bytes of a key: prefix length, then the address", function()
    assert.equal(string.pack("=I4", 8) .. "\10\0\0\0", bpf.lpm "10.0.0.0/8")
    assert.equal(string.pack("=I4", 32) .. "\10\0\0\1", bpf.lpm "10.0.0.1")
    assert.equal(string.pack("=I4", 0) .. "\0\0\0\0", bpf.lpm "0.0.0.0/0")
    assert.equal(string.pack("=I4", 64) .. "\x20\x01\x0d\xb8" .. ("\0"):rep(12),
      bpf.lpm "2001:db8::/64")
    assert.equal(20, #bpf.lpm "::1")
  end)

  it("refuses what is none", function()
    for _, text in ipairs { "", "/8", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0.0/8x",
      "10.0.0.0/ 8", "10.0.0.0/+8", "10.0.0.0/-1", "10.0.0/8", "10.0.0.0/8/8",
      "10.0.0.0/99999999999999999999", "10.0.0.0/8\0" } do
      assert.matches("is no IP prefix", mistake(function() bpf.lpm(text) end))
    end
  end)
end)

describe("bpf.now_ns", function()
  it("is the clock of bpf_ktime_get_ns: monotonic, an integer", function()
    local before = uv.hrtime()
    local now = bpf.now_ns()
    local after = uv.hrtime()
    assert.equal("integer", math.type(now))
    assert.is_true(before <= now and now <= after)
    assert.is_true(bpf.now_ns() >= now)
  end)

  it("is not ahead of the uptime", function()
    assert.is_true(bpf.now_ns() / 1e9 <= tonumber(read("/proc/uptime"):match "%S+") + 1)
  end)
end)

describe("bpf.cpus", function()
  it("tells those that can exist and those that are up", function()
    local possible = cpu_list(read "/sys/devices/system/cpu/possible")
    assert.equal(possible[#possible] + 1, bpf.cpus.possible)
    assert.same(cpu_list(read "/sys/devices/system/cpu/online"), bpf.cpus.online)
  end)
end)

describe("bpf.type", function()
  it("is nil for what is not moonbee's", function()
    for _, x in ipairs { 1, "x", true, {}, print, io.stdout, setmetatable({}, {}) } do
      assert.is_nil(bpf.type(x))
    end
    assert.is_nil(bpf.type(nil))
    assert.matches("value expected", mistake(function() bpf.type() end))
  end)

  it("names what is", function()
    local path = (os.getenv "MB_BUILD" or "build") .. "/fixtures/types.bpf.o"
    local obj = bpf.open(path)
    assert.equal("object", bpf.type(obj))
    assert.equal("view", bpf.type(obj.vars))
    assert.equal("view", bpf.type(obj.vars.cfg))
    assert.equal("type", bpf.type(obj.types["struct limit"]))
    assert.equal("ref", bpf.type(bpf.ref(obj.vars, "hits")))
    assert.equal("program", bpf.type(obj.progs.observe))
    assert.equal("error", bpf.type(select(2, pcall(bpf.open, "/nonexistent"))))
    local prog = obj.progs.observe
    obj:close()
    assert.equal("closed object", bpf.type(obj))
    assert.equal("closed program", bpf.type(prog))
  end)
end)

describe("the module", function()
  it("tells its version and libbpf's", function()
    assert.matches("^%d+%.%d+%.%d+$", bpf.version)
    assert.matches("^%d+%.%d+", bpf.libbpf_version)
  end)
end)
