-- SPDX-License-Identifier: BSD-2-Clause
-- What moonbee inspect says of externs, for this kernel and for another one.
local dkjson = require "dkjson"
local run = require "support.run"
local skip = require "support.skip"

local BUILD = os.getenv "MB_BUILD" or "build"
local BTF = "/sys/kernel/btf/vmlinux"

local function inspect(fixture, ...)
  return run { BUILD .. "/moonbee", "inspect", BUILD .. "/fixtures/" .. fixture .. ".bpf.o", ... }
end

local function externs(fixture, ...)
  local r = inspect(fixture, "--json", ...)
  assert.equal("", r.err)
  local all = {}
  for _, e in ipairs(assert(dkjson.decode(r.out)).externs) do all[e.name] = e end
  return all
end

-- What follows on the name in its line.
local function fate(fixture, name, ...)
  local r = inspect(fixture, ...)
  assert.equal("", r.err)
  return ("\n" .. r.out):match("\n" .. name .. " +([^\n]*)")
end

describe("externs in moonbee inspect", function()
  before_each(function() skip.unless "btf" end)

  it("have their fate on this kernel", function()
    assert.matches("missing %(weak, 0%): no", fate("externs", "moonbee_missing_symbol"))
    assert.matches("clash: declared as int, but in the kernel it is struct rq$",
      fate("clash", "runqueues"))
    local kfunc = fate("kfuncs", "bpf_rcu_read_lock")
    skip.unless(not kfunc:find "missing", "no kfunc bpf_rcu_read_lock")
    assert.matches("clash: declared as int bpf_rcu_read_lock%(int%)", kfunc)
  end)

  it("have it on another kernel, by its BTF", function()
    local e = externs("externs", "--kernel-btf", BTF)
    assert.same({ "resolved", "unknown" }, { e.schedule.fate, e.CONFIG_HZ.fate })
    assert.is_nil(e.schedule.address)
    assert.is_true(e.schedule.predicted)
    assert.matches("unknown: that kernel's configuration is not known here$",
      fate("externs", "CONFIG_HZ", "--kernel-btf", BTF))
    assert.matches("^ksym .*resolved; irqs_sum: unsigned int at 0, in the kernel .*; " ..
      "invented: not in the kernel's$", fate("clash", "kstat", "--kernel-btf", BTF))
  end)

  it("show both types of a clash, field by field, as JSON", function()
    local e = externs "clash"
    assert.same({ "int", "struct rq" }, { e.runqueues.type, e.runqueues.kernel_type })
    assert.matches("^int, 4 bytes$", e.runqueues.differs[1].declared)
    assert.equal("irqs_sum", e.kstat.differs[1].field)
  end)

  it("refuse a file that is no BTF", function()
    local r = inspect("externs", "--kernel-btf", "/etc/passwd")
    assert.equal(1, r.rc)
    assert.matches("/etc/passwd", r.err)
    r = inspect("externs", "--kernel-btf", "/nonexistent")
    assert.equal("moonbee: read BTF '/nonexistent': No such file or directory (ENOENT)",
      r.err:match "^[^\n]+")
  end)
end)
