-- SPDX-License-Identifier: BSD-2-Clause
-- The value of a struct_ops map: as C initializes it before load, as the kernel has it afterwards.
local bpf = require "moonbee"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"

local mistake, refusal = support.mistake, support.refusal

-- libbpf makes it larger at load than the file says: the kernel's struct has more members.
local SOURCE = [[
#define SEC(name) __attribute__((section(name), used))
char LICENSE[] SEC("license") = "GPL";
struct sock;
struct tcp_congestion_ops {
  unsigned (*ssthresh)(struct sock *sk);
  void (*cong_avoid)(struct sock *sk, unsigned ack, unsigned acked);
  unsigned (*undo_cwnd)(struct sock *sk);
  char name[16];
};
SEC("struct_ops/a") unsigned threshold(unsigned long long *ctx) { return 2; }
SEC("struct_ops/b") void avoid(unsigned long long *ctx) { }
SEC("struct_ops/c") unsigned undo(unsigned long long *ctx) { return 2; }
SEC(".struct_ops") struct tcp_congestion_ops ops = {
  .ssthresh = (void *)threshold, .cong_avoid = (void *)avoid, .undo_cwnd = (void *)undo,
  .name = "mbspec",
};
]]

local bytes
local function open()
  if not bytes then
    local path = os.tmpname()
    local r = run({ "clang", "-O2", "-g", "-target", "bpf", "-x", "c", "-c", "-o", path, "-" },
      { stdin = SOURCE })
    assert.equal(0, r.rc, r.err)
    local file <close> = assert(io.open(path, "rb"))
    os.remove(path)
    bytes = file:read "a"
  end
  return bpf.open(bytes, { bytes = true, name = "ops" })
end

-- Older libbpfs do not let it, and then the one that does is named.
local function need_image()
  local obj <close> = open()
  local ok, err = pcall(function() return obj.maps.ops.value end)
  if not ok then
    assert.equal("EOPNOTSUPP", err.code)
    assert.equal("it can from 1.5 on", err.hint)
  end
  skip.unless(ok, "this libbpf has no value of struct_ops maps before load")
end

describe("a struct_ops map #root", function()
  before_each(skip.root)

  it("has a value before load, typed, which can be changed", function()
    need_image()
    local obj <close> = open()
    local m = obj.maps.ops
    assert.equal("struct_ops", m.type)
    assert.equal("mbspec", m.value.name)
    m.value.name = "mbother"
    assert.equal("mbother", m.value.name)
    m.value = { name = "mbthird" }
    assert.equal("mbthird", m.value.name)
    assert.are_not.equal(0, m.value.ssthresh)
    bpf.update(m.value, { name = "mb4" })
    assert.equal("mb4", obj.maps.ops.value.name)
    assert.equal("no field 'nam' in struct tcp_congestion_ops\nhint: did you mean 'name'?",
      mistake(function() m.value.nam = "x" end))
    assert.is_string(mistake(function() m.value = { name = "x", no = 1 } end))
    assert.is_string(mistake(function() m.value = 5 end))
    assert.equal("mb4", m.value.name)
  end)

  it("takes what was set there into the kernel", function()
    need_image()
    local obj <close> = open()
    local m = obj.maps.ops
    m.value.name = "mbkernel"
    m.value.undo_cwnd = 0               -- leaves that one out: the kernel wants it
    local ok = pcall(obj.load, obj)
    assert.is_true(ok)
    local again <close> = open()
    again.maps.ops.value.ssthresh = 123456      -- no program's address
    assert.is_string(refusal(function() again:load() end).code)
  end)

  it("ends that value's views at load and at close, and says so", function()
    need_image()
    local obj = open()
    local m, v = obj.maps.ops, obj.maps.ops.value
    obj:load()
    assert.matches("its object has been loaded$", mistake(function() return v.name end))
    assert.equal("set value of 'ops': its object has been loaded already (EBUSY)\nhint: set it " ..
      "between bpf.open and obj:load(); m:get(0) reads what the kernel has",
      tostring(refusal(function() return m.value end)))
    assert.equal("EBUSY", refusal(function() m.value = { name = "x" } end).code)
    obj:close()
    local other = open()
    v = other.maps.ops.value
    other:close()
    collectgarbage()
    assert.matches("its map is closed$", mistake(function() v.name = "x" end))
  end)

  it("has the kernel's own type and size after load", function()
    local obj <close> = open()
    local m = obj.maps.ops
    local declared = m.value_size
    obj:load()
    assert.is_true(m.value_size > declared)
    local kept = {}
    for i = 1, 20 do
      kept[i] = m:get(0)
      assert.equal(m.value_size, bpf.sizeof(kept[i]))
    end
    assert.equal("struct bpf_struct_ops_tcp_congestion_ops", m.value_type.name)
    assert.equal("", kept[1].data.name) -- nothing is in use before it is attached
    assert.equal(1, m:count())
    assert.equal("struct_ops 'ops' is set before load, and then attached\nhint: use " ..
      "obj.maps.NAME.value.FIELD = … between bpf.open and obj:load()",
      mistake(function() m[0] = {} end))
    assert.matches("hint: use link:detach()", mistake(function() m[0] = nil end), 1, true)
  end)

  it("is the only one with a value of its own", function()
    local obj <close> = support.open "maps"
    assert.equal("set value of 'totals': a map of type hash has no value of its own (EINVAL)\n" ..
      "hint: struct_ops maps have one; others: m:get(key), m:set(key, value)",
      tostring(refusal(function() return obj.maps.totals.value end)))
  end)
end)
