-- SPDX-License-Identifier: BSD-2-Clause
-- Files that are read once, and what the service manager is told.
local uv = require "luv"
local testing = require "mb_testing"
local bpf = require "moonbee"
local run = require "support.run"
local support = require "support.bpf"

local service = bpf.service

local function directory()
  local path = assert(uv.fs_mkdtemp "/tmp/moonbee-service-XXXXXX")
  return setmetatable({ path = path }, { __close = function() run { "/bin/rm", "-rf", path } end })
end

local function write(path, text, mode)
  local file <close> = assert(io.open(path, "w"))
  file:write(text)
  file:close()
  uv.fs_chmod(path, tonumber(mode or "644", 8))
  return path
end

describe("service.read_file", function()
  it("gives bytes and where they really lie", function()
    local dir <close> = directory()
    write(dir.path .. "/a", "x\0y")
    uv.fs_symlink("a", dir.path .. "/b")
    local bytes, path, exposed = service.read_file(dir.path .. "/b")
    assert.equal("x\0y", bytes)
    assert.equal(dir.path .. "/a", path)
    assert.is_nil(exposed)
    assert.equal("", (service.read_file(write(dir.path .. "/empty", ""))))
  end)

  it("refuses what is no file", function()
    local dir <close> = directory()
    run { "/usr/bin/mkfifo", dir.path .. "/fifo" }
    for path, code in pairs {
      [dir.path] = "EISDIR", [dir.path .. "/none"] = "ENOENT", ["/dev/null"] = "EINVAL",
      [dir.path .. "/fifo"] = "EINVAL",
    } do
      local err = support.refusal(service.read_file, path, "read policy")
      assert.equal(code, err.code)
      assert.equal("read policy", err.op)
    end
  end)

  it("tells who else may write it, or a directory above it", function()
    local dir <close> = directory()
    local function exposed(path) return (select(3, service.read_file(path))) end
    assert.matches("/a: everybody may write it$", exposed(write(dir.path .. "/a", "", "646")))
    uv.fs_mkdir(dir.path .. "/sub", tonumber("777", 8))
    uv.fs_chmod(dir.path .. "/sub", tonumber("777", 8))
    local below = write(dir.path .. "/sub/b", "")
    assert.matches("/sub: everybody may write it$", exposed(below))
    uv.fs_symlink(below, dir.path .. "/link")
    assert.matches("/sub: everybody may write it$", exposed(dir.path .. "/link"))
    uv.fs_chmod(dir.path .. "/sub", tonumber("1777", 8)) -- as /tmp is
    assert.is_nil(exposed(below))
    if uv.getuid() ~= 0 then return end
    uv.fs_chown(below, 65534, 65534)
    assert.matches("/b: its owner is another user$", exposed(below))
    uv.fs_chown(below, 0, 65534)
    assert.is_nil(exposed(below))
    uv.fs_chmod(below, tonumber("664", 8))
    assert.matches("/b: its group may write it$", exposed(below))
  end)
end)

describe("service.notify", function()
  local function told(name, code)
    local fd, path, lines = testing.notify_socket(name), os.tmpname(), {}
    write(path, "local service = require 'moonbee.core'.service\n" .. code)
    local r = run({ support.moonbee, "run", path }, { env = { NOTIFY_SOCKET = name } })
    os.remove(path)
    assert.equal("", r.err)
    while true do
      local text, fds = testing.notify_receive(fd)
      if not text then break end
      lines[#lines + 1] = ("%d %s\n"):format(#fds, text:gsub("\n", "|"))
      for _, each in ipairs(fds) do testing.close_fd(each) end
    end
    testing.close_fd(fd)
    return table.concat(lines)
  end

  it("tells by a path and by an abstract name", function()
    local dir <close> = directory()
    for _, name in ipairs { dir.path .. "/notify", "@moonbee-spec-" .. uv.os_getpid() } do
      local out = told(name, [[
        assert(service.notify("READY=1\nSTATUS=fine") == true)
        local uv = require "luv"
        local fds = { uv.fs_open("/dev/null", "r", 0), uv.fs_open("/dev/null", "r", 0) }
        assert(service.notify("FDSTORE=1\nFDNAME=map.a", fds))]])
      assert.equal("0 READY=1|STATUS=fine\n2 FDSTORE=1|FDNAME=map.a\n", out)
    end
  end)

  it("is quiet where nobody asked", function()
    uv.os_unsetenv "NOTIFY_SOCKET"
    assert.is_false(service.notify "READY=1")
    assert.same({}, service.passed())
    assert.is_nil(service.watchdog())
  end)

  it("refuses a name that is none, and a socket that is not there", function()
    for name, code in pairs { relative = "EINVAL", ["/nowhere/x"] = "ENOENT",
      ["@" .. ("x"):rep(200)] = "EINVAL" } do
      uv.os_setenv("NOTIFY_SOCKET", name)
      assert.equal(code, support.refusal(service.notify, "READY=1").code)
    end
    uv.os_unsetenv "NOTIFY_SOCKET"
  end)

  it("takes descriptors back that are meant for this process", function()
    local script = os.tmpname()
    write(script, [[
      local service = require "moonbee.core".service
      local uv = require "luv"
      uv.os_setenv("LISTEN_PID", ("%d"):format(uv.os_getpid() + arg[1]))
      for _, p in ipairs(service.passed()) do print(p.fd, p.name) end
      print(service.watchdog())]])
    local function out(offset, env)
      return run({ "/bin/sh", "-c", ("exec 3</dev/null 4</dev/null; exec %s run %s %d")
        :format(support.moonbee, script, offset) }, { env = env }).out
    end
    local env = { LISTEN_FDS = "2", LISTEN_FDNAMES = "map.a:link.b", WATCHDOG_USEC = "1500000" }
    assert.equal("3\tmap.a\n4\tlink.b\n1.5\n", out(0, env))
    assert.equal("1.5\n", out(1, env)) -- another process's
    assert.equal("3\t\n4\t\n1.5\n", out(0, { LISTEN_FDS = "2", WATCHDOG_USEC = "1500000" }))
    assert.equal("", out(0, { LISTEN_FDS = "x", WATCHDOG_USEC = "-1" }):gsub("%s", ""))
    os.remove(script)
  end)
end)
