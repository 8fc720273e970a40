-- SPDX-License-Identifier: BSD-2-Clause
-- What the README shows is run from the README.
local uv = require "luv"
local run = require "support.run"
local skip = require "support.skip"

local BUILD = os.getenv "MB_BUILD" or "build"

local function readme()
  local file <close> = assert(io.open "README.md")
  return file:read "a"
end

local NO_TOOLS = { include = true, packaging = true, embed = true, systemd = true,
  tutorials = true }

-- The text of the block that names a file: ```lua kills.lua
local function block(name)
  for info, text in readme():gmatch "\n```(%S+ %S+)\n(.-)\n```" do
    if info:match "%S+$" == name then return text .. "\n" end
  end
  error("README.md has no block " .. name)
end

local function write(path, text)
  local file <close> = assert(io.open(path, "w"))
  file:write(text)
end

local function code_lines(text)
  local n = 0
  for line in text:gmatch "[^\n]+" do
    if line:find "%S" and not line:find "^%s*%-%-" then n = n + 1 end
  end
  return n
end

local function absolute(path)
  return path:sub(1, 1) == "/" and path or uv.cwd() .. "/" .. path
end

describe("README #root", function()
  local dir

  before_each(function()
    dir = assert(uv.fs_mkdtemp "/tmp/mb-readme-XXXXXX")
    write(dir .. "/kills.bpf.c", block "kills.bpf.c")
    write(dir .. "/kills.lua", block "kills.lua")
    write(dir .. "/kills-policy.lua", block "kills-policy.lua")
  end)

  after_each(function()
    for _, name in ipairs { "kills.bpf.c", "kills.bpf.o", "kills.lua", "kills-policy.lua" } do
      uv.fs_unlink(dir .. "/" .. name)
    end
    uv.fs_rmdir(dir)
  end)

  it("has a script of at most 15 lines", function()
    assert.is_true(code_lines(block "kills.lua") <= 15)
  end)

  local function compile()
    -- the headers of this build's libbpf, or the system's
    local flags = { "-I", absolute(BUILD .. "/include"), "-I", absolute "build/include",
      "-I", absolute "build/deps/include" }
    local clang = { "clang", "-O2", "-g", "-target", "bpf", "-c", "kills.bpf.c" }
    table.move(flags, 1, #flags, #clang + 1, clang)
    local r = run(clang, { cwd = dir })
    assert.equal(0, r.rc, r.err)
  end

  -- bash signals itself once for each line that it reads
  local function killer()
    return run.start({ "bash", "-c", "while read -r; do kill -URG $$; done" }, { timeout = 30 })
  end

  it("shows the script's real output: fields, and a variable that BPF sees at once", function()
    skip.root()
    compile()
    local p <close> = run.start({ absolute(BUILD .. "/moonbee"), "run", "kills.lua" },
      { cwd = dir, timeout = 30 })
    local shell <close> = killer()
    for _, seen in ipairs { "attached", "turn 0", "turn 1" } do
      p:expect(seen)
      shell:write "\n"
    end
    local result = p:wait()
    assert.equal("", result.err)
    assert.equal(block "kills.out", result.out)
    assert.equal(0, result.rc)
  end)

  it("has a policy whose edits are taken over, with its state", function()
    skip.root()
    compile()
    local moonbee, text = absolute(BUILD .. "/moonbee"), block "kills-policy.lua"
    local p <close> = run.start({ moonbee, "policy", "kills-policy.lua" },
      { cwd = dir, timeout = 60 })
    local shell <close> = killer()
    local function ctl(...)
      local r = run { moonbee, "ctl", "kills-policy", ... }
      assert.equal(0, r.rc, r.err)
      return r.out
    end
    p:expect "links 1 attached"
    shell:write "\n"
    p:expect "bash sent signal 23, the 1th time"
    write(dir .. "/kills-policy.lua", (text:gsub("sent signal", "has sent")))
    ctl "reload"
    shell:write "\n"
    p:expect "bash has sent 23, the 2th time"
    ctl("set", "turn", "100")
    assert.matches("100", ctl("get", "turn"))
    ctl "undo"
    assert.matches("2", ctl("get", "turn"))
    ctl "stop"
    assert.equal(0, p:wait().rc)
  end)

  it("names the two commands that the Makefile has", function()
    local help = run({ "make", "-s", "help" }, {})
    for _, target in ipairs { "demo", "test" } do
      assert.is_truthy(readme():find("\nmake " .. target .. " ", 1, true))
      assert.is_truthy(help.out:find("%f[%w]" .. target .. "%f[%W]"))
    end
  end)

  it("lists every command that the program has", function()
    local help = run({ BUILD .. "/moonbee", "--help" }, {})
    for name in help.out:match("Commands:\n(.-)\n\n"):gmatch "\n?   (%l+)" do
      assert.is_truthy(readme():find("\nmoonbee " .. name .. " ", 1, true), name)
    end
  end)

  it("lists every tool of scripts/", function()
    for name, kind in uv.fs_scandir_next, assert(uv.fs_scandir "scripts") do
      if kind == "directory" and not NO_TOOLS[name] then
        assert.is_truthy(readme():find("| [`" .. name .. "`](scripts/" .. name .. ")", 1, true),
          name)
      end
    end
  end)
end)
