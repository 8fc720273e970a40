-- SPDX-License-Identifier: BSD-2-Clause
-- What the README shows is run from the README, and every command line in it.
local uv = require "luv"
local document = require "support.document"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"

local NO_TOOLS = { include = true, packaging = true, embed = true, systemd = true,
  tutorials = true }

-- Commands in running text, and where they are executed, as they stand or as their parts.
local ELSEWHERE = {
  ["make"] = "every spec: nothing else has built what it runs",
  ["make demo"] = "kernel/ratelimit_spec.lua: scripts/ratelimit/demo.sh",
  ["make test"] = "this is its run of the specs",
  ["make install"] = "packaging_spec.lua", ["make uninstall"] = "packaging_spec.lua",
  ["make dist"] = "packaging_spec.lua", ["luarocks make"] = "packaging_spec.lua",
  ["pkg-config moonbee"] = "packaging_spec.lua",
  ["moonbee policy"] = "below",
  ["man 3 moonbee-map"] = "cli/manual_spec.lua: groff",
  ["make fuzz"] = "fuzz_spec.lua: its targets, two seconds each",
}

-- Heavy, or of other machines: what they would run is looked at here, and they are run by hand.
local BY_HAND = { "deps", "bench", "vmtest", "soak", "deb", "fresh" }

-- As they stand in running text -> arguments, run here.
local HERE = {
  ["apt-get install make"] = { "sh", "-c",
    "! command -v apt-get >/dev/null || apt-get install --simulate make" },
  ["make help"] = { "make", "-s", "help" },
  ["moonbee help map:get"] = { support.moonbee, "help", "map:get" },
  ["moonbee run execsnoop"] = { support.moonbee, "run", "execsnoop", "--help" },
}

local COMMANDS = { make = true, moonbee = true, man = true, luarocks = true, ["apt-get"] = true,
  ["pkg-config"] = true, clang = true, ["build/moonbee"] = true, sh = true, lua = true }

local readme = document.read "README.md"

-- `words` in running text that begin with a command.
local function inline_commands()
  local prose, found = readme.text:gsub("\n```.-\n```\n", "\n"), {}
  for span in prose:gmatch "`([^`\n]+)`" do
    if COMMANDS[span:match "^%S+"] and not span:find "[A-Z]+=" then found[span] = true end
  end
  return found
end

local function code_lines(text)
  local n = 0
  for line in text:gmatch "[^\n]+" do
    if line:find "%S" and not line:find "^%s*%-%-" then n = n + 1 end
  end
  return n
end

-- A directory that has what the README's commands name by path from the tree.
local function tree_links(dir)
  local function link(target, name)
    assert(uv.fs_symlink(uv.cwd() .. "/" .. target, dir .. "/" .. name))
  end
  assert(uv.fs_mkdir(dir .. "/build", tonumber("755", 8)))
  link(support.moonbee, "build/moonbee")
  link("build/include", "build/include")
  link("build/deps", "build/deps")
  link("scripts", "scripts")
end

describe("README #root", function()
  it("has a script of ten lines", function()
    assert.equal(10, code_lines(readme:block "kills.lua"))
  end)

  it("does what it says: a script, a policy, a tool", function()
    skip.root()
    local session <close> = readme:session { timeout = support.slow and 120 or 30 }
    tree_links(session.dir)
    local ran = 0
    for _, block in ipairs(readme.blocks) do
      if block.name ~= "fresh" then
        session:run(block)
        ran = ran + (block.language == "console" and 1 or 0)
      end
    end
    session:finish()
    assert.truthy(ran >= 8, ran)
  end)

  it("shows commands in blocks that are run", function()
    for _, block in ipairs(readme.blocks) do
      if block.language == "sh" then
        assert.equal("fresh", block.name)
        for _, line in ipairs(block.lines) do
          assert.truthy(ELSEWHERE[line:match "^(make %l+) +#"], line)
        end
      elseif block.language ~= "console" then
        for _, line in ipairs(block.lines) do
          assert.is_nil(line:match "^[#$] ?build/", line)
        end
      end
    end
  end)

  it("names no command in its text that nothing runs", function()
    local known = {}
    for command in pairs(ELSEWHERE) do known[command] = true end
    for command, argv in pairs(HERE) do
      known[command] = true
      local r = run(argv)
      assert.equal(0, r.rc, command .. ": " .. r.err)
    end
    local help = run({ "make", "-s", "help" }).out
    for _, target in ipairs(BY_HAND) do
      known["make " .. target] = true
      assert.truthy(help:find("\n  " .. target .. " ", 1, true), target)
      local r = run { "make", "-n", target }
      assert.equal(0, r.rc, target .. ": " .. r.err)
      assert.truthy(#r.out > 0, target)
    end
    for command in pairs(inline_commands()) do
      local by_block = readme.text:find("\n# " .. command, 1, true)
      assert.truthy(known[command] or by_block, "nothing runs: " .. command)
    end
    for command in pairs(known) do
      assert.truthy(readme.text:find(command, 1, true), "it has no more: " .. command)
    end
  end)

  it("has links that lead somewhere", function()
    for target in readme.text:gmatch "%]%(([^)#]+)" do
      if not target:find "^https?:" then assert.truthy(uv.fs_stat(target), target) end
    end
  end)

  it("names the two commands that the Makefile has", function()
    local help = run({ "make", "-s", "help" }, {})
    for _, target in ipairs { "demo", "test" } do
      assert.is_truthy(readme.text:find("\nmake " .. target .. " ", 1, true))
      assert.is_truthy(help.out:find("%f[%w]" .. target .. "%f[%W]"))
    end
    -- what demo does, when all is there and built
    local r = run { "make", "-n", "demo" }
    assert.truthy(r.out:find("scripts/ratelimit/demo.sh", 1, true), r.out .. r.err)
  end)

  it("lists every command that the program has", function()
    local help = run({ support.moonbee, "--help" }, {})
    for name in help.out:match("Commands:\n(.-)\n\n"):gmatch "\n?   (%l+)" do
      assert.is_truthy(readme.text:find("\nmoonbee " .. name .. " ", 1, true), name)
    end
    for name in readme.text:gmatch "\nmoonbee (%l+) " do
      if not name:find "^makes$" then
        assert.equal(0, run({ support.moonbee, name, "--help" }).rc, name)
      end
    end
  end)

  it("lists every tool of scripts/", function()
    for name, kind in uv.fs_scandir_next, assert(uv.fs_scandir "scripts") do
      if kind == "directory" and not NO_TOOLS[name] then
        assert.is_truthy(readme.text:find("| [`" .. name .. "`](scripts/" .. name .. ")", 1, true),
          name)
      end
    end
  end)
end)
