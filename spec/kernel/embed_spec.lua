-- SPDX-License-Identifier: BSD-2-Clause
-- moonbee.h: runtimes in C programs; the example daemon in scripts/embed.
local uv = require "luv"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"

local LIB = os.getenv "MB_LIB" or "build/system"
local ENV = { LUA_PATH = "lua/?.lua;lua/?/init.lua;;" }

local function api(...)
  return run({ LIB .. "/spec/embed/api", ... }, { env = ENV })
end

-- fn(path) with a script of that text.
local function with_script(text, fn)
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
  local ok, err = pcall(fn, path)
  os.remove(path)
  if not ok then error(err, 0) end
end

local function lines(r)
  local list = {}
  for line in r.out:gmatch "[^\n]+" do list[#list + 1] = line end
  return list
end

describe("moonbee.h", function()
  it("runs a script that needs no loop to its end", function()
    with_script("print('script', ...) return 0", function(path)
      assert.same({ "before: -1 -1 0 ''", "script\ta\tb", "run: 0" },
        lines(api("run", path, "a", "b")))
    end)
  end)

  it("lets the program turn the loop, and a script only wait in loop.run", function()
    with_script([[
      local loop = require "moonbee.loop"
      local n = 0
      loop.every(0.001, function()
        n = n + 1
        loop.sleep(0.001)
        if n == 3 then loop.stop("enough") end
      end)
      print("script waits")
      print("script goes on", loop.run(), n)
      loop.after(0.001, function() print "and waits again" end)
      print("script ends", loop.run())
    ]], function(path)
      assert.same({ "before: -1 -1 0 ''", "script waits", "run: 1", "again: -16",
        "script goes on\tenough\t3", "and waits again", "script ends\tnil", "turned: 0" },
        lines(api("run", path)))
    end)
  end)

  it("outlives a client that goes in the middle of a reply", function()
    with_script([[
      local loop = require "moonbee.loop"
      local big = {}
      for i = 1, 9000 do big[i] = { i, n = ("x"):rep(300) .. i } end
      local path = os.tmpname()
      os.remove(path)
      local server = require "moonbee.metrics".serve(path, {
        { name = "x", type = "gauge", read = function() return big end } })
      loop.spawn(function()
        for _ = 1, 3 do
          local s = loop.connect(path)
          s:write "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
          print(#s:read(1000))
          s:close()
          while server.count > 0 do loop.sleep(0.01) end
        end
        server:stop()
        loop.stop()
      end)
      loop.run()
    ]], function(path)
      assert.same({ "before: -1 -1 0 ''", "run: 1", "again: -16", "1000", "1000", "1000",
        "turned: 0" }, lines(api("run", path)))
    end)
  end)

  it("tells what went wrong, with a place, and its errno", function()
    with_script("local x = nil\nprint(x.y)", function(path)
      local out = lines(api("run", path))
      assert.equal("run: -22", out[2])
      assert.equal("error: " .. path .. ":2: attempt to index a nil value (local 'x')", out[3])
      assert.equal("stack traceback:", out[4])
    end)
    local out = lines(api("run", "/nonexistent.lua"))
    assert.equal("run: -2", out[2])
    assert.equal("error: run script '/nonexistent.lua': no such file (ENOENT)", out[3])
    assert.matches("^hint: ", out[4])
    with_script("this is no Lua", function(path)
      assert.equal("run: -22", lines(api("run", path))[2])
    end)
  end)

  it("reports an error in a handler to the program, and goes on", function()
    with_script([[
      local loop = require "moonbee.loop"
      loop.after(0.001, function() error "oops" end)
      loop.after(0.005, loop.stop)
      loop.run()
    ]], function(path)
      local out = lines(api("run", path))
      assert.matches("^log here 0: error in the handler of loop.after", out[4])
      assert.equal("turned: 0", out[#out])
    end)
  end)

  it("tells an error that comes after loop.run", function()
    with_script([[
      local loop = require "moonbee.loop"
      loop.after(0.001, loop.stop)
      loop.run()
      error "later"
    ]], function(path)
      local out = lines(api("run", path))
      assert.equal("turned: -22", out[4])
      assert.matches("^error: .*:4: later", out[5])
    end)
  end)

  local CLOSING = [[
    local loop = require "moonbee.loop"
    local guard <close> = setmetatable({}, { __close = function() print "closed" end })
    loop.every(100, print)
    print("stopped by", loop.run())
  ]]

  it("stops what runs as Ctrl-C does, and a second time does nothing", function()
    with_script(CLOSING, function(path)
      assert.same({ "run: 1", "step: 1", "stopped by\tstop", "closed", "stop: 0", "once more: 0" },
        lines(api("stop", path)))
    end)
  end)

  it("frees a runtime in the midst of a run, and <close> is run", function()
    with_script(CLOSING, function(path)
      assert.same({ "run: 1", "stopped by\tstop", "closed", "freed" }, lines(api("free", path)))
    end)
  end)

  it("does without moonbee's Lua files only with an error", function()
    local r = run({ LIB .. "/spec/embed/api", "no_lua", "/nonexistent" },
      { env = { LUA_PATH = "" } })
    local out = lines(r)
    assert.equal("none: 1", out[1])
    assert.matches("^why: .*module 'moonbee", out[2])
    assert.matches("none: 1\nfew: .......\n$", r.out)
  end)

  it("gives require 'moonbee' to a state of the program's own", function()
    local r = api("own_state",
      "print(require('moonbee').type(1), require('moonbee').ip('1.2.3.4'))")
    assert.equal("nil\t67305985\n", r.out)
  end)

  it("takes libbpf's words of its own calls, #root and leaves the program its", function()
    skip.root()
    with_script([[
      local ok, err = pcall(require "moonbee".load, arg[1])
      print(ok, err.cause:match "rejected by the verifier", #err.log > 0)
    ]], function(path)
      assert.same({ "false\trejected by the verifier\ttrue", "run: 0, heard 0", "heard 1" },
        lines(api("printer", path, support.fixture "reject")))
    end)
  end)

  it("lends loaded objects of its own libbpf only, #root and leaves them whole", function()
    skip.root()
    local object = support.fixture "events"
    with_script([[
      local bpf = require "moonbee"
      local one = bpf.lent.one
      one.vars.count = 3
      one.progs.emit:run()
      print(one.state, one.vars.submitted, one.vars.step)
      local n = 0
      for ev in one.maps.events:reader "struct event":drain() do n = n + ev.seq end
      one:close()
      print(n, pcall(function() return one.vars.count end))
    ]], function(path)
      assert.same({
        "unloaded: -22", "error: lend object 'early': it is not loaded (EINVAL)",
        "hint: lend it after bpf_object__load or the skeleton's load",
        "lent: 0", "twice: -17", "other: -18",
        "error: lend object 'two': it was made by another copy of libbpf than moonbee's (EXDEV)",
        "hint: link the program and moonbee with the same libbpf, both shared or both static",
        "loaded\t3\t1", ("6\tfalse\t%s:9: attempt to use closed object 'one'"):format(path),
        "run: 0 lend object 'two': it was made by another copy of libbpf than moonbee's (EXDEV)",
        "hint: link the program and moonbee with the same libbpf, both shared or both static",
        "whole: 0",
      }, lines(api("lend", object, path)))
    end)
  end)
end)

describe("the example daemon #root", function()
  local dir

  before_each(skip.root)
  setup(function()
    dir = assert(uv.fs_mkdtemp "/tmp/mb-embed-XXXXXX")
    ENV.MOONBEE_RUNTIME_DIR = dir .. "/run"
  end)
  teardown(function() run { "rm", "-rf", dir } end)

  local function flowd(...)
    return run.start({ LIB .. "/scripts/embed/flowd", "lo", ... }, { env = ENV, timeout = 60 })
  end

  local function send(n)
    local socket = uv.new_udp()
    for _ = 1, n do assert(socket:try_send("x", "127.0.0.1", 9)) end
    socket:close()
    uv.run "nowait"
  end

  it("is tuned by a script that it runs in its own loop", function()
    local p <close> = flowd("--script", "scripts/embed/control.lua", "1")
    p:expect "control: begins with sample 10"
    send(2000)
    p:expect "control: packet %d+ has %d+ bytes"
    p:expect "control: %d+ packets a second, so every [1-9]%d%d+th is told"
    p:kill "sigterm"
    local r = p:wait()
    assert.equal(0, r.rc, r.err)
    assert.matches("control: ends, stop\n$", r.out)
  end)

  it("goes on without a script that fails", function()
    local p <close> = flowd("--script", "/nonexistent.lua")
    p:expect "flowd: run script '/nonexistent.lua': no such file %(ENOENT%)"
    send(5)
    p:expect "flowd: %d+ packets"
    p:kill "sigint"
    assert.equal(0, p:wait().rc)
  end)

  -- Edits the policy in a place of its own; calls moonbee ctl and console.
  local function with_policy(argv, fn)
    local path = dir .. "/flowpol.lua"
    local source <close> = assert(io.open "scripts/embed/policy.lua")
    local text = source:read "a"
    local function write(new)
      local file <close> = assert(io.open(path, "w"))
      file:write(new)
    end
    write(text)
    table.move({ LIB .. "/scripts/embed/flowd", "lo", "--policy", path, "--console", "rw" }, 1, 6,
      #argv + 1, argv)
    local p = run.start(argv, { env = ENV, timeout = 120 })
    local ok, err = pcall(fn, p, text, write)
    p:close()
    os.remove(path)
    if not ok then error(err, 0) end
  end

  local function moonbee(...)
    local r = run({ support.moonbee, ... }, { env = ENV, stdin = "vars.packets\n" })
    assert.same({ 0, "" }, { r.rc, r.err })
    return r.out
  end

  local function live(p, text, write)
    p:expect "start: object lent"
    send(30)
    p:expect "packet %d+ has %d+ bytes; 1 told"
    assert.matches("running", moonbee("ctl", "flowpol", "status"))
    write((text:gsub("%%d told", "%%d in all")))
    assert.matches("object +lent", moonbee("ctl", "flowpol", "reload"))
    send(30)
    local all = tonumber(p:expect "bytes; (%d+) in all")
    assert.is_true(all > 1)             -- the state went on
    -- the edit may be seen by its watch, too, just when the console is open: it says so first
    assert.matches("%f[%d]%d+\n$", moonbee("console", "flowpol"))
    moonbee("ctl", "flowpol", "stop")
    p:expect "flowd: script ended"
    send(5)                             -- the daemon, its object and its program go on
    p:expect "flowd: %d+ packets, %d+ bytes, sample %d+\n.-flowd: "
    p:kill "sigterm"
    return p:wait()
  end

  it("has a policy that is edited, asked and looked into while it runs", function()
    with_policy({}, function(p, text, write)
      local r = live(p, text, write)
      assert.equal(0, r.rc, r.err)
    end)
  end)

  it("says what a lent object cannot have, and goes on", function()
    local path = os.tmpname()
    for key, value in pairs { setup = "function() end", open = "{}", tests = "{}" } do
      local file = assert(io.open(path, "w"))
      file:write(("return { object = '@flow', %s = %s, start = function() end }")
        :format(key, value))
      file:close()
      local p <close> = flowd("--policy", path)
      p:expect(("'%s' is not for an object that is lent"):format(key))
      p:kill "sigterm"
      assert.equal(0, p:wait().rc)
    end
    os.remove(path)
  end)

  it("is clean under valgrind with a policy: load, reload, unload", function()
    if LIB:find "[at]san" then return pending "the sanitizer sees to that" end
    with_policy({ "valgrind", "-q", "--error-exitcode=99", "--leak-check=full",
      "--errors-for-leak-kinds=definite", "--suppressions=spec/embed/valgrind.supp" },
      function(p, text, write)
        local r = live(p, text, write)
        assert.equal(0, r.rc, r.err)
        assert.is_nil(r.err:find "==%d+==")
      end)
  end)

  it("needs at most 40 lines for all that", function()
    local ours, n = false, 0
    for line in io.lines "scripts/embed/flowd.c" do
      if line:find("--- moonbee ---", 1, true) then
        ours = true
      elseif line:find("--- end ---", 1, true) then
        ours = false
      elseif ours and line:find "%S" then
        n = n + 1
      end
    end
    assert.is_true(n > 20 and n <= 40, n .. " lines")
  end)

  it("is clean under valgrind", function()
    if LIB:find "[at]san" then return pending "the sanitizer sees to that" end
    local p <close> = run.start({ "valgrind", "-q", "--error-exitcode=99", "--leak-check=full",
      "--errors-for-leak-kinds=definite", "--suppressions=spec/embed/valgrind.supp",
      LIB .. "/scripts/embed/flowd", "lo", "--script",
      "scripts/embed/control.lua", "50" }, { env = ENV, timeout = 120 })
    p:expect "control: begins"
    send(100)
    p:expect "control: packet"
    p:kill "sigterm"
    local r = p:wait()
    -- of bpf(2)'s newer commands valgrind says only that it does not know them
    assert.equal("", (r.err:gsub("%-%-%d+%-%- WARNING: unhandled eBPF command %d+\n", "")))
    assert.equal(0, r.rc)
  end)
end)
