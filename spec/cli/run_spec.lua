-- SPDX-License-Identifier: BSD-2-Clause
local lfs = require "lfs"
local run = require "support.run"

local BUILD = os.getenv "MB_BUILD" or "build"
local MOONBEE = BUILD .. "/moonbee"

describe("moonbee run", function()
  local dir

  before_each(function()
    dir = os.tmpname()
    os.remove(dir)
    assert(lfs.mkdir(dir))
  end)
  after_each(function() os.execute("rm -r " .. dir) end)

  local function write(name, text)
    local path = dir .. "/" .. name
    local file <close> = assert(io.open(path, "w"))
    file:write(text)
    return path
  end

  -- Run a script of this text.
  local function script(text, ...)
    return run { MOONBEE, "run", write("s.lua", text), ... }
  end

  it("gives a script all that follows its name, untouched", function()
    local r = script([[
      print(select("#", ...), ...)
      print(#arg, arg[-2], arg[-1], arg[0]:match "[^/]+$", arg[1], arg[2], arg[3])
    ]], "--help", "--", "-x y")
    assert.same({ rc = 0, err = "",
      out = "3\t--help\t--\t-x y\n3\tmoonbee\trun\ts.lua\t--help\t--\t-x y\n" }, r)
  end)

  it("runs a file that begins with #!/usr/bin/env -S moonbee run", function()
    local path = write("tool", "#!/usr/bin/env -S moonbee run\nprint(...)\n")
    assert.is_true(os.execute("chmod +x " .. path))
    local r = run({ path, "--json" },
      { env = { PATH = lfs.currentdir() .. "/" .. BUILD .. ":" .. os.getenv "PATH" } })
    assert.same({ rc = 0, out = "--json\n", err = "" }, r)
  end)

  it("finds modules that lie beside the script, from any directory", function()
    write("helper.lua", "return 'helped'")
    local path = write("s.lua", "print(require 'helper', (require 'moonbee'.version))")
    local r = run({ lfs.currentdir() .. "/" .. MOONBEE, "run", path }, { cwd = "/" })
    assert.equal(0, r.rc)
    assert.truthy(r.out:find "^helped\t%d")
  end)

  it("finds the object beside the script; else says where it looked", function()
    write("x.bpf.o", "")
    local r = script [[
      local bpf = require "moonbee"
      print(bpf.find "x.bpf.o")
      print(select(2, pcall(bpf.find, "none.bpf.o")))]]
    assert.equal(0, r.rc)
    local found, rest = r.out:match "^([^\n]+)\n(.*)$"
    assert.equal(dir .. "/x.bpf.o", found)
    assert.truthy(rest:find "find object 'none%.bpf%.o': not in ")
    assert.truthy(rest:find(dir .. "/none.bpf.o", 1, true))
    assert.truthy(rest:find("/scripts/" .. dir:match "[^/]+$" .. "/none.bpf.o", 1, true))
    assert.truthy(rest:find "%(ENOENT%)\nhint: ")
  end)

  it("runs an installed tool by its name", function()
    local r = run { MOONBEE, "run", "execsnoop", "--help" }
    assert.equal(0, r.rc)
    assert.truthy(r.out:find "execsnoop")
  end)

  it("ends with the code that the script returns", function()
    assert.equal(7, script("return 7").rc)
    assert.equal(0, script("return 'text'").rc)
    assert.equal(0, script("").rc)
  end)

  it("shows an error with the script's own lines, after closing what it opened", function()
    local r = script [[
      local function inner() error "boom" end
      local function outer()
        local _ <close> = setmetatable({}, { __close = function() print "closed" end })
        pcall(string.rep)
        inner()
      end
      outer()]]
    local path = (dir .. "/s.lua"):gsub("%p", "%%%0")
    assert.equal(1, r.rc)
    assert.equal("closed\n", r.out)
    assert.truthy(r.err:find("^moonbee: " .. path .. ":1: boom\nstack traceback:\n"
      .. "\t" .. path .. ":1: in upvalue 'inner'\n\t" .. path .. ":5: in local 'outer'\n"
      .. "\t" .. path .. ":7: in main chunk\n$"), r.err)
  end)

  it("shows an error object as its text and hint, and where with MB_TRACEBACK=1", function()
    local path = write("s.lua", [[
      local bpf = require "moonbee"
      bpf.open "/none.bpf.o"]])
    local r = run { MOONBEE, "run", path }
    assert.equal(1, r.rc)
    assert.truthy(r.err:find "^moonbee: .*'/none%.bpf%.o': .*%(ENOENT%)\n", r.err)
    assert.falsy(r.err:find "traceback")
    r = run({ MOONBEE, "run", path }, { env = { MB_TRACEBACK = "1" } })
    assert.truthy(r.err:find "%(ENOENT%)\n.*stack traceback:\n.*s%.lua:2: in ")
  end)

  it("says what is wrong with a script that cannot be run", function()
    local r = script "local x = = 1"
    assert.equal(1, r.rc)
    assert.truthy(r.err:find "^moonbee: .*s%.lua:1: unexpected symbol near '='\n$", r.err)
    r = run { MOONBEE, "run", dir .. "/none.lua" }
    assert.equal(1, r.rc)
    assert.truthy(r.err:find "^moonbee: run script '.*none%.lua': no such file.*%(ENOENT%)\nhint: ")
    r = run { MOONBEE, "run", dir }
    assert.truthy(r.err:find "%(ENOENT%)")
    r = script(string.dump(function() end))
    assert.equal(1, r.rc)
    assert.truthy(r.err:find "binary chunk")
  end)

  it("ends quietly with 130 on SIGINT and 143 on SIGTERM, and closes what is open", function()
    for signal, code in pairs { sigint = 130, sigterm = 143 } do
      local path = write("s.lua", [[
        local _ <close> = setmetatable({}, { __close = function() io.stdout:write "closed\n" end })
        io.stdout:write "ready\n"
        io.stdout:flush()
        while true do end]])
      local p <close> = run.start { MOONBEE, "run", path }
      p:expect "ready"
      p:kill(signal)
      assert.same({ rc = code, out = "ready\nclosed\n", err = "" }, p:wait())
    end
  end)

  it("outlives a signal after the state that asked for signals has ended", function()
    local r = script([[
      package.cpath = arg[1] .. "/lib/?.so;" .. package.cpath
      local testing, uv = require "mb_testing", require "luv"
      -- mb_testing has an engine of its own, and so a handler: the last one that was installed.
      assert(testing.oom("local i = (...).interrupt; i.install(); i.install()", -1))
      uv.kill(uv.os_getpid(), "sigint")
      print "alive"]], lfs.currentdir() .. "/" .. BUILD)
    assert.same({ rc = 0, out = "alive\n", err = "" }, r)
  end)

  it("lets a script with a loop end as it wants on SIGINT", function()
    local path = write("s.lua", [[
      local loop = require "moonbee.loop"
      loop.after(0, function() io.stdout:write "ready\n" io.stdout:flush() end)
      loop.every(60, print)
      print(loop.run())]])
    local p <close> = run.start { MOONBEE, "run", path }
    p:expect "ready"
    p:kill "sigint"
    assert.same({ rc = 0, out = "ready\nSIGINT\n", err = "" }, p:wait())
  end)

  it("ends quietly when nobody reads on", function()
    local path = write("s.lua", "for i = 1, 100000 do print(i) end")
    local r = run { "sh", "-c", MOONBEE .. " run " .. path .. " | head -n 1" }
    assert.same({ rc = 0, out = "1\n", err = "" }, r)
    path = write("s.lua", "while os.clock() < 0.1 do end io.write 'late'")
    r = run { "sh", "-c", MOONBEE .. " run " .. path .. " | true" }
    assert.same({ rc = 0, out = "", err = "" }, r)
  end)

  it("loads nothing that a script does not ask for", function()
    local r = script [[
      require "moonbee"
      for _, name in ipairs { "luv", "argparse", "dkjson", "moonbee.format" } do
        print(package.loaded[name] ~= nil)
      end]]
    assert.equal(("false\n"):rep(4), r.out)
  end)
end)
