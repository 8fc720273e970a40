-- SPDX-License-Identifier: BSD-2-Clause
-- A refused load names what is missing: capabilities, one by one, or what else stands in the way.
local lfs = require "lfs"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"

local setpriv = "/usr/bin/setpriv"

-- The hint of a load by root without these capabilities; only programs of type, if given.
local function hint_without(caps, fixture, type)
  skip.unless(lfs.attributes(setpriv, "mode") ~= nil, "no setpriv")
  local path = os.tmpname()
  local file <close> = assert(io.open(path, "w"))
  file:write [[
    local obj <close> = require "moonbee".open(arg[1])
    for _, prog in pairs(obj.progs) do prog.autoload = not arg[2] or prog.type == arg[2] end
    local ok, err = pcall(obj.load, obj)
    print(ok or err.code, ok or err.hint)]]
  file:close()
  local r = run { setpriv, "--bounding-set", "-" .. caps:gsub(",", ",-"), support.moonbee, "run",
    path, support.fixture(fixture), type }
  os.remove(path)
  return r.out, r.err
end

describe("a load without a privilege #root", function()
  before_each(skip.root)

  it("names each capability that is missing, and only those", function()
    local out = hint_without("bpf,perfmon,net_admin,sys_admin", "hooks")
    assert.matches("^EPERM\tit lacks CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN", out)
    assert.matches("setcap cap_bpf,cap_perfmon,cap_net_admin%+ep PROGRAM", out)
  end)

  it("knows which a kind of program needs", function()
    local out = hint_without("perfmon,sys_admin", "events", "tracepoint")
    assert.matches("^EPERM\tit lacks CAP_PERFMON[ :]", out)
    out = hint_without("net_admin,sys_admin", "xdp")
    assert.matches("^EPERM\tit lacks CAP_NET_ADMIN[ :]", out)
    assert.matches("setcap cap_net_admin%+ep PROGRAM", out)
  end)

  it("knows that helpers are hidden without CAP_PERFMON", function()
    local out = hint_without("perfmon,sys_admin", "events", "syscall")
    assert.matches("^EINVAL\tthe kernel hides some helpers from who lacks CAP_PERFMON", out)
  end)

  it("loads with just what it needs", function()
    assert.equal("true\ttrue\n", (hint_without("sys_admin", "xdp")))
  end)
end)
