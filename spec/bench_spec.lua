-- SPDX-License-Identifier: BSD-2-Clause
-- Built for speed: what reaching into typed memory may cost. Not with sanitizers: that is another
-- program.
local run = require "support.run"

local BUILD = os.getenv "MB_BUILD" or "build"
if BUILD:find "asan$" then return end

describe("spec/bench/field.lua #bench", function()
  local function check(argv)
    local r = run(argv, { timeout = 60 })
    local ratio = {}
    for name, x in r.out:gmatch "\n(%S[^\n]-%S?) +%-?[%d.]+ +(%-?[%d.]+)" do
      ratio[name] = tonumber(x)
    end
    local table_and_text = r.out .. r.err
    assert.equal(0, r.rc, table_and_text)
    assert.truthy(ratio["v.x (u64)"] <= 3.5, table_and_text)
    assert.truthy(ratio["v.x (u32)"] <= 3.5, table_and_text)
    assert.truthy(ratio["ref:get()"] <= 2.5, table_and_text)
    assert.truthy(ratio["v.limits[3].rate"], table_and_text)
  end

  it("costs at most 3.5 calls a field and 2.5 a get, in stock Lua", function()
    check { "lua5.4", "spec/bench/field.lua" }
  end)

  it("costs at most 3.5 calls a field and 2.5 a get, in moonbee", function()
    check { BUILD .. "/moonbee", "run", "spec/bench/field.lua" }
  end)
end)
