-- SPDX-License-Identifier: BSD-2-Clause
-- The watchdog behind the deadlines: a call that is stuck where no flag is looked at.
local support = require "support.bpf"

-- A collection of millions of tables is one step of Lua's, and looks at no flag.
local HEAD = [[
  local runtime = require "moonbee.runtime"
  local name = os.getenv "MOONBEE_STUCK"
  if name then
    print("again: " .. name .. ", " .. table.concat(arg, " "))
    os.exit(0)
  end
  local rt = runtime.new { name = "heavy", memory = 1 << 30, deadline = 60, stage_deadline = 60 }
  rt:load("t = {} for i = 1, 2000000 do t[i] = {} end return { start = function(ctx)"
    .. " ctx:after(0, function() collectgarbage() collectgarbage() end) end }", "@p.lua")
  rt:start {}
  rt:commit()
  rt.deadline = 0.005
]]

local function run(tail)
  local p <close> = support.script(HEAD .. tail, { timeout = 60 })
  return p:wait()
end

describe("a stuck policy", function()
  it("ends the process, which starts anew where it is told how", function()
    local r = run [[
      runtime.watchdog(0.01, { "moonbee", "run", arg[0], "last", "good" })
      rt:fire(1)
      print "it went on"]]
    assert.equal(0, r.rc, r.err)
    assert.equal("again: heavy, last good\n", r.out)
    assert.equal("moonbee: 'heavy' is stuck after its deadline: the program starts anew\n", r.err)
  end)

  it("ends the process with a code of its own where it is not", function()
    local r = run "runtime.watchdog(0.01) rt:fire(1) print 'it went on'"
    assert.equal(70, r.rc)
    assert.equal("", r.out)
    assert.equal("moonbee: 'heavy' is stuck after its deadline: the program ends\n", r.err)
  end)

  it("is left alone without a watchdog, and while it is within its grace", function()
    for _, line in ipairs { "", "runtime.watchdog(600)",
      "runtime.watchdog(0.01) runtime.watchdog(0)" } do
      local r = run(line .. [[
        local status, text = rt:fire(1)
        print(status, (text:match "^[^\n]*"))]])
      assert.equal("error\tp.lua:1: the deadline of 0.005 s is over\n", r.out, r.err)
    end
  end)

  it("refuses nonsense", function()
    local runtime = require "moonbee.runtime"
    for _, args in ipairs { { -1 }, { 1, {} }, { 1, { {} } }, { "x" }, { 1, "x" }, { 0 / 0 } } do
      assert.is_false(pcall(runtime.watchdog, table.unpack(args)))
    end
  end)
end)
