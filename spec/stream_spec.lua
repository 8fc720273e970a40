-- SPDX-License-Identifier: BSD-2-Clause
-- loop.connect and loop.listen: sockets in coroutines of the loop.
local loop = require "moonbee.loop"
local uv = require "luv"

local function within(fn)
  local ok, err = true, nil
  loop.spawn(function()
    ok, err = pcall(fn)
    loop.stop "done"
  end)
  loop.after(20, function() loop.stop "late" end)
  local why = loop.run()
  if not ok then error(err, 0) end
  assert.equal("done", why)
end

local function socket_path()
  local path = os.tmpname()
  os.remove(path)
  return path
end

describe("a stream", function()
  for _, kind in ipairs { "unix", "tcp", "tcp6" } do
    it("carries text both ways over " .. kind, function()
      local path = socket_path()
      within(function()
        local address = ({ unix = path, tcp = "localhost:0", tcp6 = "[::1]:0" })[kind]
        local peers = 0
        local server = loop.listen(address, function(s)
          peers = peers + 1
          for line in s:lines() do s:write(line:upper(), "\n") end
          s:write "bye"
        end)
        for _ = 1, 2 do
          local s <close> = loop.connect(server.address)
          s:write("one\ntw", "o\n")
          assert.equal("ONE", s:read "line")
          assert.equal("TWO", s:read "line")
          s:write "rest"
          s:finish()
          assert.equal("REST\nbye", s:read "all")
          assert.is_nil(s:read())
          assert.is_nil(s:read "line")
          assert.equal("", s:read "all")
        end
        assert.equal(2, peers)
        server:stop()
      end)
      os.remove(path)
    end)
  end

  it("comes by a descriptor that listens already", function()
    local path = socket_path()
    local rundir = require "moonbee".rundir
    within(function()
      local server = loop.listen(rundir.listen(path, tonumber("600", 8)), function(s)
        s:write(s:read "line", "!")
      end)
      local s <close> = loop.connect(path)
      s:write "x\n"
      assert.equal("x!", s:read "all")
      server:stop()
      local ok, err = pcall(loop.listen, require("luv").fs_open("/dev/null", "r", 0), print)
      assert.is_false(ok)
      assert.matches("listen on 'descriptor %d+': it is no socket %(ENOTSOCK%)", tostring(err))
      rundir.close_fd(math.tointeger(tostring(err):match "descriptor (%d+)"))
    end)
    os.remove(path)
  end)

  it("reads so many bytes, and what is there", function()
    local path = socket_path()
    within(function()
      local server = loop.listen(path, function(s) s:write("abc", "defgh") end)
      local s <close> = loop.connect(path)
      assert.equal("ab", s:read(2))
      assert.equal("cdef", s:read(4))
      assert.equal("gh", s:read(10))
      assert.is_nil(s:read(1))
      server:stop()
    end)
  end)

  it("waits with a full peer, and loses nothing of much", function()
    local path = socket_path()
    within(function()
      local text = ("0123456789abcdef"):rep(1 << 16)
      local server = loop.listen(path, function(s)
        s:write(text)
        s:write(text)
      end)
      local s <close> = loop.connect(path)
      loop.sleep(0.01)
      assert.is_true(s:read "all" == text .. text)
      server:stop()
    end)
  end)

  it("is refused with words", function()
    within(function()
      local ok, err = pcall(loop.connect, "/nonexistent/x.sock")
      assert.is_false(ok)
      assert.equal("connect to '/nonexistent/x.sock': no such file or directory (ENOENT)",
        tostring(err))
      local _, refused = pcall(loop.connect, "127.0.0.1:1")
      assert.equal("connect to '127.0.0.1:1': connection refused (ECONNREFUSED)",
        tostring(refused))
      local _, denied = pcall(loop.listen, "/nonexistent/x.sock", print)
      assert.matches("^listen on '/nonexistent/x.sock': ", tostring(denied))
    end)
  end)

  it("closed by another coroutine ends the wait", function()
    local path = socket_path()
    within(function()
      local server = loop.listen(path, function() loop.sleep(60) end)
      local s = loop.connect(path)
      loop.after(0.01, function() s:close() end)
      local ok, err = pcall(s.read, s)
      assert.is_false(ok)
      assert.equal(("read from '%s': the stream was closed (ECANCELED)"):format(path),
        tostring(err))
      assert.matches("attempt to use a closed stream", select(2, pcall(s.read, s)))
      assert.matches("%(closed%)", tostring(s))
      server:stop()
    end)
  end)

  it("has one reader at a time", function()
    local path = socket_path()
    within(function()
      local server = loop.listen(path, function() loop.sleep(60) end)
      local s <close> = loop.connect(path)
      loop.spawn(function() s:read() end)
      loop.sleep(0.01)
      local ok, err = pcall(s.read, s)
      assert.is_false(ok)
      assert.equal("EBUSY", err.code)
      server:stop()
    end)
  end)

  it("of a handler that fails is closed, and the others go on", function()
    local path, errors = socket_path(), {}
    local before = loop.on_error(function(text) errors[#errors + 1] = text end)
    within(function()
      local server = loop.listen(path, function(s)
        if s:read "line" == "fail" then error "on purpose" end
        s:write "fine"
      end)
      local a <close> = loop.connect(path)
      local b <close> = loop.connect(path)
      a:write "fail\n"
      assert.is_nil(a:read())
      b:write "go\n"
      assert.equal("fine", b:read "all")
      server:stop()
    end)
    loop.on_error(before)
    assert.equal(1, #errors)
    assert.matches("on purpose", errors[1])
    assert.matches("loop.listen", errors[1])
  end)

  it("that is open when the loop ends is closed with it", function()
    local path = socket_path()
    local kept
    loop.listen(path, function() loop.sleep(60) end)
    loop.spawn(function()
      kept = loop.connect(path)
      loop.stop()
    end)
    loop.run()
    assert.is_true(kept.closed)
  end)

  it("tells a caller's mistakes", function()
    within(function()
      assert.matches("no address 'nowhere'", select(2, pcall(loop.connect, "nowhere")))
      assert.matches("no address 'x:99999'", select(2, pcall(loop.connect, "x:99999")))
      assert.matches("address expected, got nil", select(2, pcall(loop.connect)))
      assert.matches("function expected", select(2, pcall(loop.listen, "/tmp/x")))
    end)
    assert.matches("not in a handler of the loop", select(2, pcall(loop.connect, "/tmp/x")))
  end)
end)

describe("loop.guard", function()
  it("keeps an error out of luv, and counts it", function()
    local errors = {}
    local before = loop.on_error(function(text) errors[#errors + 1] = text end)
    local count = loop.errors
    local timer = uv.new_timer()
    local turns = 0
    loop.spawn(function()
      timer:start(0, 1, loop.guard(function()
        turns = turns + 1
        if turns == 1 then error "in a callback" end
        timer:close()
        loop.stop()
      end))
      loop.sleep(10)
    end)
    loop.run()
    loop.on_error(before)
    assert.same({ 2, count + 1, 1 }, { turns, loop.errors, #errors })
    assert.matches("error in a function of loop.guard: .*in a callback", errors[1])
  end)
end)
