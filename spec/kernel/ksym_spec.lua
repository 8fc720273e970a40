-- SPDX-License-Identifier: BSD-2-Clause
-- The kernel's symbols: names to addresses and back.
local bpf = require "moonbee"
local kernel = require "moonbee.kernel"
local disguise = require "support.disguise"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"

local mistake, refusal = support.mistake, support.refusal

-- What the file itself says: name -> list of addresses. BPF programs, which come and go, are left
-- out; and most of the names, where a large heap is slow.
local function listed()
  local file <close> = assert(io.open "/proc/kallsyms")
  local lines = support.slow and "\n(%x+) %S (t[cr][^\t\n]+)(\t?)" or "\n(%x+) %S ([^\t\n]+)(\t?)"
  local all = {}
  for address, name in ("\n" .. file:read "a"):gmatch(lines) do
    if not name:find "^bpf_" then
      all[name] = all[name] or {}
      table.insert(all[name], tonumber(address, 16))
    end
  end
  return all
end

local function once(list)
  local seen, different = {}, {}
  for _, x in ipairs(list) do
    if not seen[x] then different[#different + 1] = x end
    seen[x] = true
  end
  return different
end

local FAKE = [[
0000000000000000 A per_cpu_thing
ffffffff81000000 T _text
ffffffff81000000 T _stext
ffffffff81000100 t twice
FFFFFFFF81000200 T Upper
ffffffff81000300 t alias
ffffffff81000300 t alias
ffffffff81000300 T alias_too
ffffffff81000400 T __kstrtab_功能
not a line
ffffffff81000500 t last
ffffffff81000600 T _etext
ffffffffc0000000 t twice	[mod_a]
ffffffffc0000040 T only_a	[mod_a]
ffffffffc0001000 t twice	[mod_b]
ffffffffc0002000 t bpf_prog_1234_x	[bpf]
]]

local PRELUDE = [[
local kernel = require "moonbee.kernel"
local function show(...)
  local t = table.pack(...)
  for i = 1, t.n do t[i] = tostring(t[i]) end
  print((table.concat(t, " "):gsub("\n", "|")))
end
local function hex(s) return s and ("%x %s %s"):format(s.address or 0, s.type, s.module) end
]]

-- Lines of Lua in the place of which each result is printed.
local function faked(files, ...)
  local script = { PRELUDE }
  for _, code in ipairs { ... } do
    script[#script + 1] = ("show(pcall(function() %s end))\n"):format(code)
  end
  local r = disguise(files, table.concat(script))
  assert.equal("", r.err)
  assert.equal(0, r.rc)
  local lines = {}
  for line in r.out:gmatch "[^\n]+" do lines[#lines + 1] = line end
  return lines
end

describe("kernel.ksym #root", function()
  before_each(skip.root)

  it("knows a function's address, kind and declaration", function()
    local s = kernel.ksym "tcp_v4_rcv"
    assert.equal(listed().tcp_v4_rcv[1], s.address)
    assert.same({ "tcp_v4_rcv", "T" }, { s.name, s.type })
    assert.is_nil(s.module)
    skip.unless "btf"
    assert.equal("int tcp_v4_rcv(struct sk_buff *skb)", s.declaration)
  end)

  it("is nil for an unknown name, and says what that means here", function()
    local s, why = kernel.ksym "moonbee_no_such_symbol"
    assert.is_nil(s)
    if skip.has "kallsyms_data" then
      assert.equal("the kernel has no symbol 'moonbee_no_such_symbol'", why)
    else
      assert.equal("the kernel has no function 'moonbee_no_such_symbol'; variables are not " ..
        "among " ..
        "its symbols, as it was built without CONFIG_KALLSYMS_ALL", why)
    end
  end)

  it("says of a variable that the kernel was built without variables' addresses", function()
    if skip.has "kallsyms_data" then
      local s = kernel.ksym "runqueues"
      assert.is_true(s.percpu)
      assert.equal("struct rq runqueues", s.declaration)
      return
    end
    local err = refusal(kernel.ksym, "runqueues")
    assert.equal("find symbol 'runqueues': this kernel was built without " ..
      "CONFIG_KALLSYMS_ALL: its " ..
      "symbol table has functions only, so that no variable's address is known (EOPNOTSUPP)\n" ..
      "hint: functions, tasks and what they lead to can be read; variables need a kernel with " ..
      "CONFIG_KALLSYMS_ALL=y", tostring(err))
  end)

  it("raises for a name at several addresses, and lists them all", function()
    local checked = 0
    for name, list in pairs(listed()) do
      local different = once(list)
      if #different > 1 and #different < 8 and #name < 60 and checked < 20 then
        local err = refusal(kernel.ksym, name)
        assert.equal("ENOTUNIQ", err.code)
        for _, address in ipairs(different) do
          assert.truthy(err.cause:find(("0x%x"):format(address), 1, true), name)
        end
        checked = checked + 1
      end
    end
    assert.truthy(checked > (support.slow and 0 or 5))
  end)

  it("finds each symbol of the file that has one address", function()
    local checked = 0
    for name, list in pairs(listed()) do
      checked = checked + 1
      if checked % (support.slow and 41 or 97) == 0 and #once(list) == 1 then
        if assert(kernel.ksym(name), name).address ~= list[1] then error(name) end
      end
    end
    assert.truthy(checked > (support.slow and 100 or 1000))
  end)

  it("takes modules, twins, odd names and odd lines", function()
    local lines = faked({ ["/proc/kallsyms"] = FAKE },
      'return hex(kernel.ksym "only_a")', 'return hex(kernel.ksym("twice", "mod_b"))',
      'return hex(kernel.ksym("twice", "vmlinux"))', 'return hex(kernel.ksym "alias")',
      'return hex(kernel.ksym "Upper")', 'return hex(kernel.ksym "__kstrtab_功能")',
      'return kernel.ksym("twice", "mod_c")', 'return kernel.ksym "twice"')
    assert.equal("true ffffffffc0000040 T mod_a", lines[1])
    assert.equal("true ffffffffc0001000 t mod_b", lines[2])
    assert.equal("true ffffffff81000100 t nil", lines[3])
    assert.equal("true ffffffff81000300 t nil", lines[4])
    assert.equal("true ffffffff81000200 T nil", lines[5])
    assert.equal("true ffffffff81000400 T nil", lines[6])
    assert.matches("^true nil the kernel has no function 'twice'", lines[7])
    assert.equal("false find symbol 'twice': 3 symbols have that name: 0xffffffff81000100, " ..
      "0xffffffffc0000000 of mod_a, 0xffffffffc0001000 of mod_b (ENOTUNIQ)|" ..
      "hint: name the module, or 'vmlinux' for the kernel itself", lines[8])
  end)

  it("raises when addresses are hidden, and names what hides them", function()
    local hidden = FAKE:gsub("%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x", ("0"):rep(16))
    local ask, symbolize = 'return kernel.ksym "Upper"', "return kernel.symbolize(1)"
    local walk = [[
      local n = 0
      for s in kernel.ksyms "*wice" do
        assert(not s.address)
        n = n + 1
      end
      return n]]
    local lines = faked({ ["/proc/kallsyms"] = hidden, ["/proc/sys/kernel/kptr_restrict"] = "2\n" },
      ask, symbolize, 'return kernel.ksym "absent"', walk)
    assert.equal("false find symbol 'Upper': the kernel hides its addresses from everybody: " ..
      "kernel.kptr_restrict is 2 (EPERM)|hint: as root: sysctl kernel.kptr_restrict=1", lines[1])
    assert.matches("^false symbolize '0x1': the kernel hides its addresses from everybody",
      lines[2])
    assert.matches("^true nil the kernel has no function 'absent'", lines[3])
    assert.equal("true 3", lines[4])
    lines = faked({ ["/proc/kallsyms"] = hidden, ["/proc/sys/kernel/kptr_restrict"] = "1\n" }, ask)
    assert.matches("from who lacks CAP_SYSLOG: kernel.kptr_restrict is 1 %(EPERM%)", lines[1])
    lines = faked({ ["/proc/kallsyms"] = hidden, ["/proc/sys/kernel/kptr_restrict"] = "0\n",
      ["/proc/sys/kernel/perf_event_paranoid"] = "2\n" }, ask)
    assert.matches("lacks CAP_SYSLOG, as long as kernel.perf_event_paranoid is 2 %(EPERM%)",
      lines[1])
  end)

  it("says so when there is no symbol table", function()
    skip.unless(not support.build:find "asan", "the address sanitizer needs /proc")
    local r = disguise.hide("/proc", {}, [[
      local kernel = require "moonbee.kernel"
      print(select(2, pcall(kernel.ksym, "schedule")))]])
    assert.equal("read '/proc/kallsyms': the kernel has no symbol table there (ENOENT)\n" ..
      "hint: it needs CONFIG_KALLSYMS, and /proc mounted\n", r.out)
  end)

  it("finds the symbol of a BPF program that was loaded after the first look", function()
    assert.truthy(kernel.ksym "schedule")
    local obj <close> = support.load "externs"
    local name
    local file <close> = assert(io.open "/proc/kallsyms")
    name = file:read "a":match " (bpf_prog_%x+_look)\t%[bpf%]"
    skip.unless(name ~= nil, "no symbols for BPF programs (net.core.bpf_jit_kallsyms)")
    support.until_true(function() return kernel.ksym(name) end)
    local s = kernel.ksym(name)
    assert.equal("bpf", s.module)
    assert.same({ name, 4, "bpf" }, { kernel.symbolize(s.address + 4) })
    assert.equal("loaded", obj.state)
  end)

  it("sees modules come and go, and their declarations", function()
    local function there()
      local file <close> = io.open "/proc/modules"
      return file and ("\n" .. file:read "a"):find "\ndummy " ~= nil
    end
    skip.unless(there() == false, "no modules, or the one for this test is in use")
    assert.is_nil(kernel.ksym("dummy_xmit", "dummy"))
    skip.unless(run({ "modprobe", "dummy", "numdummies=0" }).rc == 0, "modprobe dummy fails")
    local unload <close> = setmetatable({}, { __close = function() run { "rmmod", "dummy" } end })
    assert.truthy(unload)
    support.until_true(function() return kernel.ksym("dummy_xmit", "dummy") end)
    local s = kernel.ksym("dummy_xmit", "dummy")
    assert.equal("dummy", s.module)
    assert.matches("^netdev_tx_t dummy_xmit%(struct sk_buff %*skb, struct net_device %*dev%)$",
      s.declaration)
    assert.same({ "dummy_xmit", 3, "dummy" }, { kernel.symbolize(s.address + 3) })
    run { "rmmod", "dummy" }
    support.until_true(function() return not kernel.ksym("dummy_xmit", "dummy") end)
    support.until_true(function() return kernel.symbolize(s.address + 3) ~= "dummy_xmit" end)
  end)

  it("refuses what is no name", function()
    assert.matches("string expected", mistake(function() kernel.ksym() end))
    assert.matches("it is no symbol's name", mistake(function() kernel.ksym "a\0b" end))
    assert.matches("it is no symbol's name", mistake(function() kernel.ksym "" end))
    assert.matches("number expected", mistake(function() kernel.symbolize "x" end))
  end)
end)

describe("kernel.ksyms #root", function()
  before_each(skip.root)

  it("lists those that fit a glob, in the order of their addresses", function()
    local want, last = 0, 0
    local file <close> = assert(io.open "/proc/kallsyms")
    for name in file:read "a":gmatch "\n%x+ %S (tcp_v4_[^\t\n]*)" do
      want = want + (name:find "send" and 1 or 0)
    end
    for s in kernel.ksyms "tcp_v4_*send*" do
      assert.truthy(s.name:find "^tcp_v4_.*send")
      assert.truthy(math.ult(last, s.address + 1))
      last, want = s.address, want - 1
    end
    assert.equal(0, want)
  end)

  it("lists all without one", function()
    skip.unless(not support.slow, "a hundred thousand tables take their time")
    local n, lines = 0, 0
    for _ in kernel.ksyms() do n = n + 1 end
    for _ in io.lines "/proc/kallsyms" do lines = lines + 1 end
    assert.truthy(math.abs(n - lines) < 100, n .. " of " .. lines) -- BPF programs come and go
  end)
end)

describe("kernel.symbolize #root", function()
  before_each(skip.root)

  it("names the symbol, the offset and the module", function()
    local s = kernel.ksym "tcp_v4_rcv"
    assert.same({ "tcp_v4_rcv", 0 }, { kernel.symbolize(s.address) })
    assert.same({ "tcp_v4_rcv", 17 }, { kernel.symbolize(s.address + 17) })
    local lines = faked({ ["/proc/kallsyms"] = FAKE },
      "return kernel.symbolize(0xffffffffc0000041)",
      "return kernel.symbolize(0xffffffff81000301)", "return kernel.symbolize(0xffffffff810005ff)")
    assert.same({ "true only_a 1 mod_a", "true alias 1", "true last 255" }, lines)
  end)

  it("is nil outside of all symbols", function()
    for _, address in ipairs { 0, 1, -1, math.mininteger, math.maxinteger, 0xffff888000000000 } do
      assert.is_nil(kernel.symbolize(address))
    end
    local lines = faked({ ["/proc/kallsyms"] = FAKE },
      "return kernel.symbolize(0xffffffff81000600)",
      "return kernel.symbolize(0xffffffff80ffffff)", "return kernel.symbolize(0xffffffffc0013000)",
      "return kernel.symbolize(4)")
    assert.same({ "true nil", "true nil", "true nil", "true nil" }, lines)
  end)

  it("names a million addresses in a second #bench", function()
    skip.unless(not support.slow, "speed is measured at full speed")
    local base, best = kernel.ksym "tcp_v4_rcv".address, math.huge
    for _ = 1, 3 do
      local start = os.clock()
      for i = 1, 200000 do kernel.symbolize(base + i * 64 % 0x100000) end
      best = math.min(best, os.clock() - start)
    end
    assert.truthy(200000 / best > 1e6, ("%.0f a second"):format(200000 / best))
  end)
end)

describe("kernel.ksym without root", function()
  it("hides nothing in silence", function()
    local child <close> = support.script([[
      local kernel = require "moonbee.kernel"
      local ok, found = pcall(kernel.ksym, "tcp_v4_rcv")
      print(ok and found.address ~= 0 or found.code)]], { user = "nobody" })
    local r = child:wait()
    assert.equal("", r.err)
    assert.truthy(r.out == "true\n" or r.out == "EPERM\n", r.out)
  end)
end)

describe("kernel.features", function()
  it("is moonbee.feature", function()
    assert.equal(require "moonbee.feature", kernel.features)
    assert.is_nil(kernel.no_such_thing)
  end)
end)

describe("the core", function()
  it("has the kernel's functions for every state", function()
    assert.equal("table", type(bpf.kernel))
  end)
end)
