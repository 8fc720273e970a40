-- SPDX-License-Identifier: BSD-2-Clause
-- Test runs of every kind of program that the kernel can run so, with contexts that have a type.
local bpf = require "moonbee"
local skip = require "support.skip"
local support = require "support.bpf"

local PACKET = ("\255"):rep(12) .. "\8\0" .. "\x45\0\0\x28" .. ("\0"):rep(36)

describe("a test run #root", function()
  local obj
  before_each(function()
    skip.root()
    obj = support.load "runs"
  end)
  after_each(function()
    if obj then obj:close() end
    obj = nil
  end)

  it("of xdp takes its ctx as a table, and gives it back typed", function()
    local r = obj.progs.on_xdp:run { data = PACKET, ctx = { ingress_ifindex = 1 } }
    assert.equal(1, r.ret)
    assert.equal("struct xdp_md", bpf.typeof(r.ctx).name)
    assert.same({ 1, #PACKET }, { r.ctx.ingress_ifindex, r.ctx.data_end })
    assert.equal(PACKET, r.data)
  end)

  it("of tc changes its ctx", function()
    local ctx = { mark = 21, priority = 7 }
    local r = obj.progs.on_tc:run { data = PACKET, ctx = ctx }
    assert.same({ 7, 42, 21 }, { r.ret, r.ctx.cb[0], r.ctx.mark })
    assert.equal(0, ctx.cb and 1 or 0)
    local skb = obj.types["struct __sk_buff"] { mark = 5 }
    r = obj.progs.on_tc:run { data = PACKET, ctx = skb }
    assert.same({ 10, 0 }, { r.ctx.cb[0], skb.cb[0] })
    r = obj.progs.on_tc:run { data = PACKET, ctx = bpf.bytes(skb) }
    assert.is_string(r.ctx)
  end)

  it("of filters, cgroups and light-weight tunnels takes a packet", function()
    assert.equal(#PACKET - 14, obj.progs.on_filter:run({ data = PACKET }).ret)
    assert.equal(1, obj.progs.on_cgroup:run({ data = PACKET }).ret)
    local v6 = PACKET:sub(1, 12) .. "\x86\xdd\x60" .. ("\0"):rep(39)
    assert.equal(0, obj.progs.on_cgroup:run({ data = v6 }).ret)
    assert.equal(#PACKET - 14, obj.progs.on_lwt:run({ data = PACKET }).ret)
  end)

  it("of sk_lookup takes a ctx only", function()
    local function lookup(port)
      return obj.progs.on_lookup:run { ctx = { family = 2, protocol = 6, local_port = port } }
    end
    assert.same({ 1, 0 }, { lookup(80).ret, lookup(81).ret })
    assert.equal("a sk_lookup program needs its ctx: struct bpf_sk_lookup",
      support.refusal(function() obj.progs.on_lookup:run() end).hint)
    assert.equal("a sk_lookup program gets no data, only its ctx",
      support.refusal(function() obj.progs.on_lookup:run { data = PACKET } end).hint)
  end)

  it("of a flow dissector gives its keys", function()
    local r = obj.progs.on_flow:run { data = PACKET }
    local keys = bpf.cast(obj.types["struct bpf_flow_keys"], r.data)
    assert.same({ 0, 1, 2 }, { r.ret, keys.sport, keys.dport })
  end)

  it("of a raw tracepoint takes words, on the CPU that one names", function()
    for _, cpu in ipairs(bpf.cpus.online) do
      local r = obj.progs.on_raw:run { ctx = { 7 + cpu, 2 }, cpu = cpu }
      assert.same({ 7 + cpu, cpu }, { r.ret, obj.vars.cpu })
    end
    assert.equal("CPU 4000 is not online",
      support.refusal(function() obj.progs.on_raw:run { ctx = { 1 }, cpu = 4000 } end).hint)
    assert.matches("only raw tracepoints run on a given CPU, and this is a xdp", tostring(
      support.refusal(function() obj.progs.on_xdp:run { data = PACKET, cpu = 0 } end)))
  end)

  it("of a syscall program gives its ctx back changed", function()
    local r = obj.progs.on_syscall:run { ctx = { a = 1, b = 2 } }
    assert.same({ 2, 1 }, { r.ctx.a, r.ctx.b })
    assert.equal("no field 'c' in struct swap", support.mistake(function()
      obj.progs.on_syscall:run { ctx = { c = 1 } }
    end))
    assert.equal("word 2 of ctx is no integer", support.mistake(function()
      obj.progs.on_syscall:run { ctx = { 1, "x" } }
    end))
  end)

  it("of xdp on live packets sends them on", function()
    local r = obj.progs.on_xdp:run { data = PACKET, times = 64, live = true }
    assert.same({ 0 }, { r.ret })
    assert.is_nil(r.data)
    assert.matches("only xdp programs run on live packets", tostring(
      support.refusal(function() obj.progs.on_tc:run { data = PACKET, live = true } end)))
  end)

  it("says what a table cannot say", function()
    local hooks <close> = support.load "hooks"
    assert.matches("its C source does not say what its ctx is", tostring(support.refusal(function()
      hooks.progs.on_call:run { ctx = { a = 1 } }
    end)))
    assert.equal("option 'ctx' of run is a string, a table or a view, not a number",
      support.mistake(function() obj.progs.on_syscall:run { ctx = 3 } end))
  end)

  it("of fentry calls the kernel's test functions", function()
    skip.unless("fentry", "tests one")
    local own <close> = support.open "runs"
    for name, prog in pairs(own.progs) do prog.autoload = name == "on_entry" end
    own:load()
    local link <close> = own.progs.on_entry:attach()
    own.progs.on_entry:run()
    assert.equal(1, own.vars.seen)
    assert.matches("a program of type tracing gets no ctx", tostring(support.refusal(function()
      own.progs.on_entry:run { ctx = { 1 } }
    end)))
    assert.is_not_nil(link)
  end)

  it("of netfilter takes a packet", function()
    local own <close> = support.open "runs"
    for name, prog in pairs(own.progs) do prog.autoload = name == "on_netfilter" end
    local ok = pcall(own.load, own)
    skip.unless(ok and own.progs.on_netfilter.type == "netfilter", "no netfilter programs")
    assert.equal(1, own.progs.on_netfilter:run({ data = PACKET:sub(15) .. PACKET }).ret)
  end)
end)
