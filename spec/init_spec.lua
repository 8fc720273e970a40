-- SPDX-License-Identifier: BSD-2-Clause
-- What lua/moonbee/init.lua adds to the core, but format and json, which have files of their own.
local bpf = require "moonbee"

local FIXTURE = (os.getenv "MB_BUILD" or "build") .. "/fixtures/types.bpf.o"

describe("bpf.totable", function()
  it("gives plain tables, arrays from 1", function()
    local obj <close> = bpf.open(FIXTURE)
    assert.same({ rate = 5, burst = 9 }, bpf.totable(obj.vars.tune_limit))
    assert.same({ { rate = 1, burst = 2 }, { rate = 3, burst = 4 } },
      bpf.totable(obj.vars.c_limits))
    assert.same({ "zero", "one", "two" }, bpf.totable(obj.vars.names))
  end)

  it("refuses what is no view, with the caller's line", function()
    local ok, err = pcall(function() bpf.totable {} end)
    assert.is_false(ok)
    assert.truthy(err:find "init_spec%.lua:%d+: bpf%.totable: view expected, got table")
  end)
end)

describe("bpf.load", function()
  it("raises what open raises: error objects, and mistakes with the caller's line", function()
    local ok, err = pcall(function() bpf.load "/none.bpf.o" end)
    assert.is_false(ok)
    assert.equal("ENOENT", err.code)
    for _, args in ipairs { { {} }, { FIXTURE, { pinroot = "/x" } } } do
      ok, err = pcall(function() bpf.load(args[1], args[2]) end)
      assert.is_false(ok)
      assert.truthy(err:find "^spec/init_spec%.lua:%d+: ", err)
    end
  end)
end)

describe("bpf.find", function()
  local arg0 = _G.arg[0]
  after_each(function() _G.arg[0] = arg0 end)

  it("takes an absolute path as it is", function()
    local ok, err = pcall(bpf.find, "/none.bpf.o")
    assert.is_false(ok)
    assert.equal("not in /none.bpf.o", err.cause)
    assert.equal("/proc/self/maps", bpf.find "/proc/self/maps")
  end)

  it("looks beside the script first", function()
    _G.arg[0] = "spec/fixtures/x.lua"
    assert.equal("spec/fixtures/types.bpf.c", bpf.find "types.bpf.c")
    _G.arg[0] = "x.lua"
    assert.equal("Makefile", bpf.find "Makefile")
  end)

  it("then where make puts what it built for the script's directory", function()
    finally(function() bpf.build_dir = nil end)
    bpf.build_dir = "/b"
    for script, own in pairs {
      ["/t/scripts/tool/tool.lua"] = "tool", ["./tool.lua"] = "tool", ["tool.lua"] = "tool",
      ["../tool/x.lua"] = "tool",
    } do
      _G.arg[0] = script
      local _, err = pcall(bpf.find, "none.bpf.o")
      assert.truthy(err.cause:find(("/b/scripts/%s/none.bpf.o"):format(own), 1, true), err.cause)
    end
  end)
end)
