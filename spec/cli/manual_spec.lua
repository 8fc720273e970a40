-- SPDX-License-Identifier: BSD-2-Clause
-- Man pages and bash completion, made from the commands' tables.
local lfs = require "lfs"
local run = require "support.run"

local MOONBEE = (os.getenv "MB_BUILD" or "build") .. "/moonbee"
local MACROS = { TH = true, SH = true, TP = true, nf = true, fi = true }

local function commands()
  local names = {}
  for file in lfs.dir "lua/moonbee/cmd" do names[#names + 1] = file:match "^(.*)%.lua$" end
  return names
end

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
    local r = run { MOONBEE, "run", ".ci/manual.lua", dir, "/usr/share/moonbee" }
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

  it("uses known macros only, and nothing that roff would take for one", function()
    for file in lfs.dir(dir) do
      if file:find "%.1$" then
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
    assert.same({ "flow" }, complete("moonbee", "ctl", "fl"))
    assert.same({ "reload" }, complete("moonbee", "ctl", "flow", "rel"))
  end)
end)
