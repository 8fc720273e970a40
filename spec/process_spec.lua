-- SPDX-License-Identifier: BSD-2-Clause
-- loop.exec: child processes in coroutines of the loop.
local lfs = require "lfs"
local uv = require "luv"
local loop = require "moonbee.loop"

-- fn in a coroutine of the loop, to its end; its error is this one's.
local function within(fn)
  local ok, err = true, nil
  loop.spawn(function() ok, err = pcall(fn) end)
  loop.run()
  if not ok then error(err, 0) end
end

local function alive(pid)
  return lfs.attributes("/proc/" .. pid, "mode") ~= nil
end

describe("loop.exec", function()
  it("gives the exit code and what was written", function()
    within(function()
      local r = loop.exec { "sh", "-c", "echo out; echo err >&2; exit 3" }
      assert.same({ code = 3, out = "out\n", err = "err\n" }, r)
    end)
  end)

  it("feeds standard input, changes directory and environment", function()
    within(function()
      assert.equal("some text", loop.exec({ "cat" }, { stdin = "some text" }).out)
      local big = ("x"):rep(1 << 20)
      assert.equal(big, loop.exec({ "cat" }, { stdin = big }).out)
      assert.equal("", loop.exec({ "cat" }).out)
      assert.equal("/usr\n", loop.exec({ "pwd" }, { cwd = "/usr" }).out)
      local env = { MB_A = "b", HOME = false }
      assert.equal("b-\n", loop.exec({ "sh", "-c", "echo $MB_A-$HOME" }, { env = env }).out)
    end)
  end)

  it("leaves the others their turns, and runs several at a time", function()
    local active, most, ended = 0, 0, 0
    for _ = 1, 3 do
      loop.spawn(function()
        active = active + 1
        most = math.max(most, active)
        loop.exec { "sleep", "0.1" }
        active, ended = active - 1, ended + 1
      end)
    end
    local ticks = 0
    loop.every(0.01, function()
      ticks = ticks + 1
      if ended == 3 and ticks > 3 then loop.stop() end
    end)
    loop.after(20, loop.stop)
    loop.run()
    assert.same({ 3, 3 }, { most, ended })
  end)

  it("names the signal that ended it", function()
    within(function()
      local r = loop.exec { "sh", "-c", "kill -TERM $$" }
      assert.same({ 0, "SIGTERM" }, { r.code, r.signal })
    end)
  end)

  it("refuses what is not there", function()
    within(function()
      local ok, err = pcall(loop.exec, { "moonbee-no-such-program" })
      assert.is_false(ok)
      assert.equal("run 'moonbee-no-such-program': no such file or directory (ENOENT)\n" ..
        "hint: there is no such program in PATH", tostring(err))
    end)
  end)

  it("kills what takes too long", function()
    within(function()
      local from = uv.hrtime()
      local ok, err = pcall(loop.exec, { "sleep", "60" }, { timeout = 0.05 })
      assert.is_false(ok)
      assert.equal("run 'sleep': not done within 0.05 s: killed (ETIMEDOUT)", tostring(err))
      assert.is_true(uv.hrtime() - from < 20e9)
    end)
  end)

  it("kills and reaps a child whose coroutine ends", function()
    local path = os.tmpname()
    loop.spawn(function()
      loop.exec { "sh", "-c", "echo $$ > " .. path .. "; exec sleep 60" }
    end)
    local pid
    loop.every(0.005, function()
      local file <close> = io.open(path)
      pid = file and tonumber(file:read "a")
      if pid then loop.stop() end
    end)
    loop.after(20, loop.stop)
    loop.run()
    os.remove(path)
    assert.is_number(pid)
    assert.is_false(alive(pid))
  end)

  it("tells a caller's mistakes", function()
    within(function()
      local function mistake(...)
        local ok, text = pcall(loop.exec, ...)
        assert.is_false(ok)
        return (text:gsub("^[^:]+:%d+: ", ""))
      end
      assert.equal("loop.exec: a list of strings expected, the program first", mistake "ls")
      assert.equal("loop.exec: argument 2 is a table, not a string", mistake { "ls", {} })
      assert.matches("no option 'stdn'\nhint: stdin, cwd, env, timeout",
        mistake({ "ls" }, { stdn = "" }))
      assert.matches("option 'cwd' is a string, not a number", mistake({ "ls" }, { cwd = 1 }))
      assert.matches("seconds above 0", mistake({ "ls" }, { timeout = 0 }))
    end)
    local ok, text = pcall(loop.exec, { "true" })
    assert.is_false(ok)
    assert.matches("loop.exec: not in a handler of the loop", text)
  end)
end)
