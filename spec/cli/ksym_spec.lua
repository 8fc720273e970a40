-- SPDX-License-Identifier: BSD-2-Clause
local dkjson = require "dkjson"
local run = require "support.run"
local skip = require "support.skip"

local BUILD = os.getenv "MB_BUILD" or "build"

local function ksym(...) return run { BUILD .. "/moonbee", "ksym", ... } end

-- The address as the kernel lists it; nil: hidden.
local function address_of(name)
  local file <close> = assert(io.open "/proc/kallsyms")
  local address = file:read "a":match("\n(%x+) %S " .. name .. "\n")
  return address and not address:find "^0+$" and address:gsub("^0+", "") or nil
end

local function visible() skip.unless(address_of "tcp_v4_rcv" ~= nil, "addresses are hidden") end

describe("moonbee ksym", function()
  it("shows a name's address and declaration", function()
    visible()
    local r = ksym "tcp_v4_rcv"
    assert.equal("", r.err)
    assert.equal(0, r.rc)
    assert.equal(("0x%s T tcp_v4_rcv"):format(address_of "tcp_v4_rcv"), r.out:match "^[^\n]+")
    skip.unless "btf"
    assert.equal("  int tcp_v4_rcv(struct sk_buff *skb)", r.out:match "\n([^\n]+)\n$")
  end)

  it("shows an address's name, with the offset", function()
    visible()
    local address = address_of "tcp_v4_rcv"
    local within = ("0x%x"):format(tonumber("0x" .. address) + 20)
    for _, word in ipairs { within, within:sub(3) } do
      assert.matches("^0x" .. address .. " T tcp_v4_rcv%+0x14\n", ksym(word).out)
    end
    assert.matches("^0x" .. address .. " T tcp_v4_rcv\n", ksym("0x" .. address).out)
  end)

  it("lists what fits a glob, several at once", function()
    visible()
    local r = ksym("tcp_v4_send_*", "tcp_v4_rcv")
    local n = 0
    local file <close> = assert(io.open "/proc/kallsyms")
    for _ in file:read "a":gmatch "\n%x+ %S tcp_v4_send_" do n = n + 1 end
    for line in r.out:gmatch "[^\n]+" do
      if line:find " tcp_v4_send_[%w_.]+$" then n = n - 1 end
    end
    assert.equal(0, n)
    assert.truthy(r.out:find(" T tcp_v4_rcv\n", 1, true))
  end)

  it("prints JSON, addresses as text", function()
    visible()
    local list = assert(dkjson.decode(ksym("--json", "tcp_v4_rcv", "0x" ..
      address_of "tcp_v4_rcv").out))
    assert.equal(2, #list)
    assert.equal("0x" .. address_of "tcp_v4_rcv", list[1].address)
    assert.same({ "tcp_v4_rcv", "T", 0 }, { list[2].name, list[2].type, list[2].offset })
  end)

  it("fails for what is not there, with a near name", function()
    visible()
    local r = ksym "tcp_v4_rcvv"
    assert.same({ 1, "" }, { r.rc, r.out })
    assert.matches("^moonbee: find symbol 'tcp_v4_rcvv': the kernel has no .*%(ENOENT%)\n" ..
      "hint: did you mean 'tcp_v%d_rcv'%?\n$", r.err)
    r = ksym "moonbee_*_nothing"
    assert.same({ 1, "moonbee: find symbol 'moonbee_*_nothing': no symbol fits (ENOENT)\n" },
      { r.rc, r.err })
    r = ksym "0x1"
    assert.same({ 1, "moonbee: find symbol '0x1': no symbol of the kernel's is there (ENOENT)\n" },
      { r.rc, r.err })
  end)

  it("says what hides addresses", function()
    local r = run({ BUILD .. "/moonbee", "ksym", "tcp_v4_rcv" }, { user = "nobody" })
    skip.unless(r.rc ~= 0, "nothing hides addresses here")
    assert.matches("^moonbee: find symbol 'tcp_v4_rcv': the kernel hides its addresses .*" ..
      "%(EPERM%)\n" ..
      "hint: ", r.err)
    r = run({ BUILD .. "/moonbee", "ksym", "tcp_v4_rc[v]" }, { user = "nobody" })
    assert.matches("^%-%s+T tcp_v4_rcv\n$", r.out)
    assert.matches("the kernel hides its addresses", r.err)
    assert.equal(0, r.rc)
  end)

  it("refuses wrong calls with exit code 2", function()
    assert.equal(2, ksym().rc)
    local r = ksym "0x1ffffffffffffffff"
    assert.same({ 2, "moonbee: '0x1ffffffffffffffff' has more than 64 bits\n" }, { r.rc, r.err })
    assert.matches("^Usage: moonbee ksym", ksym("--help").out)
  end)
end)
