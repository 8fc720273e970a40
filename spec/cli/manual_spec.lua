-- SPDX-License-Identifier: BSD-2-Clause
-- Man pages and bash completion, made from the commands' tables.
local lfs = require "lfs"
local run = require "support.run"

local MOONBEE = (os.getenv "MB_BUILD" or "build") .. "/moonbee"
local MACROS = { TH = true, SH = true, SS = true, TP = true, PP = true, nf = true, fi = true }
local POLICIES = { sample = "sample/sample.lua", gentle = "gentle/gentle.lua",
  adaptive = "ratelimit/adaptive.lua" }

local function commands()
  local names = {}
  for file in lfs.dir "lua/moonbee/cmd" do names[#names + 1] = file:match "^(.*)%.lua$" end
  return names
end

-- Directories of scripts/ whose file of the same name is a tool or a policy.
local function tools()
  local names = {}
  for name in lfs.dir "scripts" do
    if lfs.attributes(("scripts/%s/%s.lua"):format(name, name)) then names[#names + 1] = name end
  end
  return names
end

local function escaped(text) return (text:gsub("%-", "\\-")) end

local function read(path)
  local file <close> = assert(io.open(path))
  return file:read "a"
end

local function installed(program)
  return run({ "sh", "-c", "command -v " .. program }).rc == 0
end

describe("the manual", function()
  local dir

  setup(function()
    dir = os.tmpname()
    os.remove(dir)
    lfs.mkdir(dir)
    local r = run { MOONBEE, "run", ".ci/manual.lua", dir, lfs.currentdir() }
    assert.equal("", r.err)
    assert.equal(0, r.rc)
  end)
  teardown(function() run { "rm", "-rf", dir } end)

  it("has a page for every command, with its options, and one for all", function()
    for _, name in ipairs(commands()) do
      local text = read(("%s/moonbee-%s.1"):format(dir, name))
      local cmd = assert(loadfile(("lua/moonbee/cmd/%s.lua"):format(name)))
      assert.is_function(cmd)
      assert.truthy(text:find("\n.SH NAME\nmoonbee\\-" .. name .. " \\- ", 1, true), name)
      local help = run({ MOONBEE, name, "--help" }).out
      for option in help:gmatch "\n +(%-%-[%l-]+)" do
        assert.truthy(text:find(option:gsub("%-", "\\-"), 1, true), name .. ": " .. option)
      end
      assert.truthy(read(dir .. "/moonbee.1"):find("moonbee\\-" .. name .. "(1)", 1, true))
    end
  end)

  it("has a page for every tool of scripts/, with what it takes, and for the policies", function()
    local all = read(dir .. "/moonbee.1")
    for _, name in ipairs(tools()) do
      local text = read(("%s/moonbee-%s.1"):format(dir, name))
      assert.truthy(text:find("\n%.SH NAME\nmoonbee\\%-" .. name .. " \\%- %u"), name)
      assert.truthy(all:find(escaped(("moonbee-%s(1)"):format(name)), 1, true), name)
      assert.truthy(text:find "\n.SH EXAMPLES\n.nf\nmoonbee ", name)
      if not POLICIES[name] then
        local help = run({ MOONBEE, "run", name, "--help" }).out
        local options = 0
        for option in help:gmatch "%-%-[%l-]+%f[%s,]" do
          if help:find("\n +[^\n]*" .. escaped(option):gsub("\\", "%%") .. "[ ,]") then
            assert.truthy(text:find(escaped(option), 1, true), name .. ": " .. option)
            options = options + 1
          end
        end
        assert.truthy(options > 1, name)
        assert.truthy(text:find(escaped(help:match "\n\n(%u[^\n]+)"), 1, true), name)
      end
    end
  end)

  it("tells the params of the policies, with their defaults", function()
    for name, path in pairs(POLICIES) do
      local text = read(("%s/moonbee-%s.1"):format(dir, name))
      local policy = assert(loadfile("scripts/" .. path))()
      for param, default in pairs(policy.params) do
        default = type(default) == "string" and ('"%s"'):format(default) or tostring(default)
        assert.truthy(text:find(escaped(("--param %s=%s"):format(param, default)), 1, true),
          name .. ": " .. param)
      end
    end
  end)

  it("has a page for the daemon that embeds us, and every noun of the reference", function()
    local flowd = read(dir .. "/moonbee-flowd.1")
    assert.truthy(flowd:find("flowd INTERFACE [\\-\\-script FILE", 1, true))
    for file in lfs.dir "lua/moonbee/meta" do
      local noun = file:match "^(.*)%.lua$"
      if noun then
        local page = noun == "moonbee" and noun or "moonbee-" .. noun
        local text = read(("%s/%s.3"):format(dir, page))
        assert.truthy(text:find("\n.SH NAME\n" .. escaped(page):gsub("%p", "%%%0")
          .. " \\%- %u"), page)
        local meta = read("lua/moonbee/meta/" .. file)
        for name in meta:gmatch "\nfunction [%w_]+[.:]([%w_]+)%(" do
          assert.truthy(text:find("\n.SS [%w_]+[.:]" .. name .. "%("), page .. ": " .. name)
        end
        for name in meta:gmatch "\n%-%-%-@field ([%w_]+%??) " do
          assert.truthy(text:find("\n" .. name .. ": ", 1, true), page .. ": " .. name)
        end
      end
    end
  end)

  it("is installed, and the tutorials with it", function()
    local r = run { "make", "-n", "install", "DESTDIR=/nowhere", "PREFIX=/usr" }
    assert.equal(0, r.rc, r.err)
    local function installed_as(path)
      assert.truthy(r.out:find("=/usr/share/" .. path, 1, true), path)
    end
    for file in lfs.dir(dir) do
      local section = file:match "%.([13])$"
      if section then installed_as(("man/man%s/%s"):format(section, file)) end
    end
    for file in lfs.dir "scripts/tutorials" do
      if file:find "%.md$" then installed_as("moonbee/scripts/tutorials/" .. file) end
    end
    installed_as "doc/moonbee/tutorials"
  end)

  it("uses known macros only, and nothing that roff would take for one", function()
    for file in lfs.dir(dir) do
      if file:find "%.[13]$" then
        for line in read(dir .. "/" .. file):gmatch "[^\n]+" do
          local macro = line:match "^[.'](%a+)"
          assert.truthy(not macro or MACROS[macro], file .. ": " .. line)
          assert.is_nil(line:find "[^\\]%-%-", file .. ": " .. line)
        end
        if installed "groff" then
          local r = run { "groff", "-man", "-ww", "-z", "-Tutf8", "-k", dir .. "/" .. file }
          assert.equal("", r.err)
        end
      end
    end
  end)

  local function complete(...)
    local words = { ... }
    for i, word in ipairs(words) do words[i] = "'" .. word .. "'" end
    local r = run({ "bash", "-c", ([[
      source %s/moonbee.bash
      COMP_WORDS=(%s) COMP_CWORD=%d
      _moonbee_names moonbee "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
      printf '%%s\n' "${COMPREPLY[@]}" | sort]]):format(dir, table.concat(words, " "),
      #words - 1) }, { env = { MOONBEE_RUNTIME_DIR = dir .. "/run" } })
    assert.equal("", r.err)
    local list = {}
    for word in r.out:gmatch "%S+" do list[#list + 1] = word end
    return list
  end

  it("completes commands, options, their choices and running policies", function()
    lfs.mkdir(dir .. "/run")
    lfs.mkdir(dir .. "/run/flow")
    lfs.mkdir(dir .. "/run/limits")
    assert.same({ "repl" }, complete("moonbee", "rep"))
    local names = complete("moonbee", "")
    for _, name in ipairs(commands()) do
      local found
      for _, word in ipairs(names) do found = found or word == name end
      assert.truthy(found, name)
    end
    assert.same({ "--prog" }, complete("moonbee", "repl", "--pr"))
    assert.same({ "ro", "rw" }, complete("moonbee", "policy", "--console", "r"))
    assert.same({ "execsnoop" }, complete("moonbee", "run", "exec"))
    assert.same({}, complete("moonbee", "run", "tutor")) -- is there, and no tool
    assert.same({ "flow" }, complete("moonbee", "ctl", "fl"))
    assert.same({ "reload" }, complete("moonbee", "ctl", "flow", "rel"))
  end)
end)
