-- SPDX-License-Identifier: BSD-2-Clause
local lfs = require "lfs"
local run = require "support.run"

local MOONBEE = (os.getenv "MB_BUILD" or "build") .. "/moonbee"

local function moonbee(...)
  return run { MOONBEE, ... }
end

local function commands()
  local names = {}
  for file in lfs.dir "lua/moonbee/cmd" do names[#names + 1] = file:match "^(.*)%.lua$" end
  return names
end

describe("moonbee", function()
  it("lists every command with what it does", function()
    for _, word in ipairs { "--help", "-h", "help" } do
      local r = moonbee(word)
      assert.equal(0, r.rc)
      assert.equal("", r.err)
      assert.truthy(r.out:find "^Usage: moonbee COMMAND")
      for _, name in ipairs(commands()) do
        assert.truthy(r.out:find("\n   " .. name .. " +%u[^\n]+%."), name)
      end
    end
  end)

  it("without a command says the same on stderr, as a usage error", function()
    local r = moonbee()
    assert.equal(2, r.rc)
    assert.equal("", r.out)
    assert.equal(moonbee("--help").out, r.err)
  end)

  it("tells its versions", function()
    local r = moonbee "--version"
    assert.equal(0, r.rc)
    assert.truthy(r.out:find "^moonbee %d+%.%d+%.%d+ %(Lua 5%.4, libbpf %d+%.%d+.*%)\n$", r.out)
  end)

  it("shows a command's options and examples", function()
    for _, name in ipairs(commands()) do
      local r = moonbee(name, "--help")
      assert.equal(0, r.rc)
      assert.equal("", r.err)
      assert.truthy(r.out:find("^Usage: moonbee " .. name .. " "), r.out)
      assert.truthy(r.out:find "\nExamples:\n   moonbee ")
      assert.same(r, moonbee("help", name))
      assert.same(r, moonbee(name, "-h"))
    end
  end)

  it("shows the reference of the Lua API by name", function()
    local r = moonbee("help", "bpf.open")
    assert.equal(0, r.rc)
    assert.truthy(r.out:find("^bpf%.open%(path, opts%)\n  Read a BPF object file%."))
    assert.truthy(moonbee("help", "map:get").out:find "^map:get%(key, how%)\n")
    assert.truthy(moonbee("help", "map").out:find("trace's has room for more or fewer", 1, true))
    assert.truthy(moonbee("help", "every").out:find "^loop%.every%(")
    assert.truthy(moonbee("help", "policy").out:find "^Usage: moonbee policy ")
  end)

  it("names the nearest command for an unknown one", function()
    for word, near in pairs { inspct = "inspect", rnu = "run", insp = "inspect" } do
      local r = moonbee(word)
      assert.equal(2, r.rc)
      assert.equal("", r.out)
      local text = "moonbee: no command '%s'\nhint: did you mean '%s'?\n"
      assert.equal(text:format(word, near), r.err)
    end
    assert.equal("moonbee: no command 'frobnicate'\nhint: moonbee --help lists the commands\n",
      moonbee("frobnicate").err)
    assert.equal(2, moonbee("help", "frobnicate").rc)
  end)

  it("says how to run a script that is given as a command", function()
    assert.truthy(moonbee("x.lua").err:find("hint: moonbee run x.lua", 1, true))
    assert.truthy(moonbee("execsnoop").err:find("hint: moonbee run execsnoop", 1, true))
  end)

  it("takes no command's name for a path, nor a module outside", function()
    for _, word in ipairs { "../cli", "cmd.run", ".", "", "run/", "RUN" } do
      assert.equal(2, moonbee(word).rc)
    end
  end)

  it("refuses unknown options and missing arguments as usage errors", function()
    for _, argv in ipairs { { "--frob" }, { "inspect" }, { "inspect", "--frob", "x" }, { "run" },
      { "run", "--frob" }, { "inspect", "a", "b" } } do
      local r = moonbee(table.unpack(argv))
      assert.equal(2, r.rc)
      assert.equal("", r.out)
      assert.truthy(r.err:find "^moonbee: ", r.err)
      assert.truthy(r.err:find "\nhint: moonbee ", r.err)
    end
  end)
end)
