-- SPDX-License-Identifier: BSD-2-Clause
-- Run directories: who may have one, its lock, files and socket.
local lfs = require "lfs"
local uv = require "luv"
local bpf = require "moonbee"
local run = require "support.run"
local support = require "support.bpf"

local rundir = bpf.rundir

local function tree()
  local path = assert(uv.fs_mkdtemp "/tmp/moonbee-rundir-XXXXXX")
  local before = os.getenv "MOONBEE_RUNTIME_DIR"
  uv.os_setenv("MOONBEE_RUNTIME_DIR", path)
  return setmetatable({ path = path }, { __close = function()
    if before then uv.os_setenv("MOONBEE_RUNTIME_DIR", before)
    else uv.os_unsetenv "MOONBEE_RUNTIME_DIR" end
    run { "/bin/rm", "-rf", path }
  end })
end

local function refusal(fn, ...)
  local err = support.refusal(fn, ...)
  return err.code, err
end

describe("a run directory", function()
  it("is made for its owner alone", function()
    local base <close> = tree()
    local dir <close> = rundir.open "web-1_A"
    assert.equal(base.path .. "/web-1_A", dir.path)
    assert.equal("rwx------", lfs.attributes(dir.path, "permissions"))
  end)

  it("has one process", function()
    local _ <close> = tree()
    local dir <close> = rundir.open "x"
    local code, err = refusal(rundir.open, "x")
    assert.equal("EBUSY", code)
    assert.matches("run policy 'x': a policy of this name is running %(EBUSY%)\n"
      .. "hint: moonbee ctl x", tostring(err))
    assert.same({ "x" }, rundir.running())
    dir:close()
    assert.same({}, rundir.running())
    rundir.open "x":close()
  end)

  it("is got by exactly one, whoever looks who runs", function()
    local _ <close> = tree()
    rundir.open "x":close()
    local lookers = {}
    for i = 1, 2 do
      lookers[i] = support.script [[
        local rundir = require "moonbee".rundir
        print "looks"
        while true do rundir.running() end]]
    end
    for _, looker in ipairs(lookers) do looker:expect "looks" end
    for _ = 1, 20000 do rundir.open "x":close() end
    for _, looker in ipairs(lookers) do getmetatable(looker).__close() end
    -- of some that start at once one runs
    local starters = {}
    for i = 1, 8 do
      starters[i] = support.script [[
        local dir <close> = require "moonbee".rundir.open "y"
        print "runs"
        io.read()]]
    end
    local function count(pattern)
      local n = 0
      for _, s in ipairs(starters) do n = n + ((s.out .. s.err):find(pattern) and 1 or 0) end
      return n
    end
    support.until_true(function()
      uv.run "nowait"
      return count "runs" + count "a policy of this name is running" == 8
    end)
    assert.equal(1, count "runs")
    for _, s in ipairs(starters) do
      s:eof()
      s:wait()
      getmetatable(s).__close()
    end
  end)

  it("of another user is root's to reach, and nobody else's", function()
    if uv.getuid() ~= 0 then return end
    local home = "/run/user/65534"
    if uv.fs_stat(home) then return end
    local base <close> = tree()
    local _gone <close> = setmetatable({}, { __close = function()
      run { "/bin/rm", "-rf", home }
    end })
    uv.fs_mkdir("/run/user", tonumber("755", 8))
    for _, dir in ipairs { home, home .. "/moonbee" } do
      assert(uv.fs_mkdir(dir, tonumber("700", 8)))
      assert(uv.fs_chown(dir, 65534, 65534))
    end
    local path = home .. "/p.lua"
    local file <close> = assert(io.open(path, "w"))
    file:write [[return { version = "theirs\27[2J\194\155\9.", start = function() end }]]
    file:close()
    local policy <close> = run.start({ support.moonbee, "policy", path, "--name", "x" },
      { user = "nobody", env = { XDG_RUNTIME_DIR = home, MOONBEE_RUNTIME_DIR = false } })
    policy:expect "staged in"
    local function status(options, ...)
      return run({ support.moonbee, "ctl", "x", "status", ... }, options)
    end
    local found
    support.until_true(function() -- its socket comes after it is in force
      found = status(nil, "--user", "65534")
      return found.rc == 0
    end)
    assert.matches("version    theirs?[2J?\t.\n", found.out, 1, true) -- nothing for a terminal
    assert.equal(0, status(nil, "--user", "nobody").rc)
    assert.equal(0, status { env = { MOONBEE_RUNTIME_DIR = home .. "/moonbee" } }.rc)
    assert.matches("no such user", status(nil, "--user", "no-such-user").err)
    local own <close> = rundir.open "y"
    local r = run({ support.moonbee, "ctl", "y", "status" }, { user = "nobody",
      env = { MOONBEE_RUNTIME_DIR = base.path } })
    assert.matches("Permission denied", r.err)
    assert.truthy(own)
    -- and root runs nothing there
    uv.os_setenv("MOONBEE_RUNTIME_DIR", home .. "/moonbee")
    assert.equal("EPERM", (refusal(rundir.open, "z")))
    uv.os_setenv("MOONBEE_RUNTIME_DIR", base.path)
  end)

  it("has a name that leads nowhere else", function()
    local _ <close> = tree()
    for _, name in ipairs { "", ".", "..", "a/b", "../x", "a b", "a\0b", ("n"):rep(33), "ä" } do
      assert.is_false(rundir.valid(name), name)
      assert.equal("EINVAL", (refusal(rundir.open, name)))
    end
    assert.is_true(rundir.valid(("n"):rep(32)))
  end)

  it("is refused where others may enter, or a link stands", function()
    local base <close> = tree()
    assert(uv.fs_mkdir(base.path .. "/open", tonumber("755", 8)))
    local code, err = refusal(rundir.open, "open")
    assert.equal("EPERM", code)
    assert.matches("its mode is 0755, not 0700", err.cause)
    assert(uv.fs_symlink("/tmp", base.path .. "/link"))
    assert.equal("EPERM", (refusal(rundir.open, "link")))
    assert(io.open(base.path .. "/file", "w")):close()
    assert.equal("EPERM", (refusal(rundir.open, "file")))
    uv.fs_chmod(base.path, tonumber("750", 8))
    assert.equal("EPERM", (refusal(rundir.open, "fine")))
    uv.fs_chmod(base.path, tonumber("700", 8))
  end)

  it("is refused where another user has it", function()
    if uv.getuid() ~= 0 then return pending "needs root" end
    local base <close> = tree()
    assert(uv.fs_mkdir(base.path .. "/theirs", tonumber("700", 8)))
    uv.fs_chown(base.path .. "/theirs", 65534, 65534)
    local code, err = refusal(rundir.open, "theirs")
    assert.equal("EPERM", code)
    assert.matches("belongs to user 65534", err.cause)
  end)

  it("keeps files, whole or not at all", function()
    local _ <close> = tree()
    local dir <close> = rundir.open "x"
    assert.is_nil(dir:read "last")
    local bytes = ("\0\n\xff"):rep(100000)
    dir:write("last", bytes)
    assert.equal(bytes, dir:read "last")
    dir:write("last", "")
    assert.equal("", dir:read "last")
    dir:append("log", "a")
    dir:append("log", "b")
    assert.equal("ab", dir:read "log")
    dir:remove "log"
    dir:remove "log"
    assert.is_nil(dir:read "log")
    assert.equal("rw-------", lfs.attributes(dir.path .. "/last", "permissions"))
    for _, name in ipairs { "", "..", "../x", "a/b" } do
      assert.equal("EINVAL", (refusal(dir.write, dir, name, "x")))
      assert.equal("EINVAL", (refusal(dir.read, dir, name)))
    end
  end)

  it("follows no link in it", function()
    local base <close> = tree()
    local dir <close> = rundir.open "x"
    local outside = base.path .. "/outside"
    local file <close> = assert(io.open(outside, "w"))
    file:write "mine"
    file:flush()
    uv.fs_symlink(outside, dir.path .. "/last")
    assert.equal("ELOOP", (refusal(dir.read, dir, "last")))
    assert.equal("ELOOP", (refusal(dir.append, dir, "last", "x")))
    dir:write("last", "new") -- takes the link's place
    assert.equal("mine", io.open(outside):read "a")
    uv.fs_symlink(outside, dir.path .. "/log.new")
    dir:write("log", "new")
    assert.equal("mine", io.open(outside):read "a")
  end)

  it("says where it cannot be", function()
    local _ <close> = tree()
    uv.os_setenv("MOONBEE_RUNTIME_DIR", "/proc/nowhere/x")
    local code, err = refusal(rundir.open, "x")
    assert.equal("ENOENT", code)
    assert.matches("^make run directory '/proc/nowhere/x'", tostring(err))
    assert.same({}, rundir.running())
    uv.os_setenv("MOONBEE_RUNTIME_DIR", "/tmp/" .. ("x"):rep(5000))
    code, err = refusal(rundir.open, "x")
    assert.equal("ENAMETOOLONG", code)
    assert.matches("its path is longer than 4031 bytes", tostring(err))
  end)
end)

describe("its socket", function()
  it("tells who connects", function()
    local _ <close> = tree()
    assert.equal("ENOENT", (refusal(rundir.connect, "x")))
    local dir <close> = rundir.open "x"
    assert.equal("ECONNREFUSED", (refusal(rundir.connect, "x")))
    local listening = dir:listen()
    assert.is_nil((rundir.accept(listening)))
    local client = rundir.connect "x"
    local fd, pid, uid, allowed = rundir.accept(listening)
    assert.same({ uv.os_getpid(), uv.getuid(), true }, { pid, uid, allowed })
    for _, each in ipairs { fd, client, listening } do rundir.close_fd(each) end
    assert.equal("ECONNREFUSED", (refusal(rundir.connect, "x"))) -- a stale one
    rundir.close_fd(dir:listen())                                -- which is no hindrance
  end)

  it("has other sockets, under names that lead nowhere else", function()
    local _ <close> = tree()
    local dir <close> = rundir.open "x"
    for _ = 1, 2 do
      local listening = dir:listen "other.sock" -- a stale one is no hindrance
      assert.equal("socket", lfs.attributes(dir.path .. "/other.sock", "mode"))
      rundir.close_fd(listening)
    end
    for _, name in ipairs { "", ".x", "../x.sock", "a/b" } do
      assert.equal("EINVAL", (refusal(dir.listen, dir, name)))
    end
    dir:remove "other.sock"
  end)

  it("works where its path is too long for a socket's name", function()
    local base <close> = tree()
    local deep = base.path .. "/" .. ("d"):rep(150)
    uv.fs_mkdir(deep, tonumber("700", 8))
    uv.os_setenv("MOONBEE_RUNTIME_DIR", deep)
    local dir <close> = rundir.open "x"
    local listening = dir:listen()
    rundir.close_fd(rundir.connect "x")
    rundir.close_fd(listening)
    assert.equal("x", rundir.running()[1])
  end)
end)
