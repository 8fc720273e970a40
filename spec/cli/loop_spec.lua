-- SPDX-License-Identifier: BSD-2-Clause
local run = require "support.run"

local MOONBEE = (os.getenv "MB_BUILD" or "build") .. "/moonbee"

describe("the loop, in a process of its own,", function()
  local function script(text)
    local path = os.tmpname()
    local file <close> = assert(io.open(path, "w"))
    file:write(text)
    return path
  end

  local function run_script(text)
    local path <const> = script(text)
    local _ <close> = setmetatable({}, { __close = function() os.remove(path) end })
    return run { MOONBEE, "run", path }
  end

  it("writes an error in a handler to stderr and goes on", function()
    local r = run_script [[
      local loop = require "moonbee.loop"
      loop.spawn(function() error "boom" end)
      loop.after(0.01, function() print "went on" end)
      loop.run()]]
    assert.equal("went on\n", r.out)
    assert.truthy(r.err:find "^moonbee: error in loop%.spawn: .*:2: boom\nstack traceback:\n\t")
    assert.equal(0, r.rc)
  end)

  it("survives an error in the error's function", function()
    local r = run_script [[
      local loop = require "moonbee.loop"
      loop.on_error(function() error "worse" end)
      loop.spawn(function() error "boom" end)
      loop.after(0.01, function() print "went on" end)
      loop.run()]]
    assert.equal("went on\n", r.out)
    assert.truthy(r.err:find "boom" and r.err:find "worse")
  end)

  it("may be required first in a coroutine that ends", function()
    local r = run_script [[
      local loop
      coroutine.wrap(function() loop = require "moonbee.loop" end)()
      collectgarbage()
      loop.after(0.01, function() loop.sleep(0.01) print "done" end)
      collectgarbage()
      loop.run()]]
    assert.same({ rc = 0, out = "done\n", err = "" }, r)
  end)

  it("ends without a crash when handles were stopped and it never ran", function()
    local r = run_script [[
      local loop = require "moonbee.loop"
      loop.after(1, print):stop()
      loop.watch("/tmp/x", print):stop()
      loop.signal("SIGHUP", print):stop()
      pcall(loop.watch, "/none/x", print)
      loop.every(1, print)]]
    assert.same({ rc = 0, out = "", err = "" }, r)
  end)

  it("leaves SIGINT to a handler of its own, as often as it comes", function()
    local r = run_script [[
      local loop = require "moonbee.loop"
      local uv = require "luv"
      local n = 0
      loop.signal("SIGINT", function()
        n = n + 1
        if n == 3 then loop.stop(n) else uv.kill(uv.os_getpid(), "sigint") end
      end)
      loop.every(60, print)
      loop.spawn(function() uv.kill(uv.os_getpid(), "sigint") end)
      print(loop.run())]]
    assert.same({ rc = 0, out = "3\n", err = "" }, r)
  end)

  it("uses no processor time while it waits", function()
    local r = run_script [[
      local loop = require "moonbee.loop"
      loop.spawn(function() loop.sleep(0.3) end)
      loop.watch("/tmp/x", print)
      loop.after(0.3, function() loop.stop() end)
      loop.run()
      print(os.clock() < 0.15)]]
    assert.equal("true\n", r.out)
  end)
end)
