-- SPDX-License-Identifier: BSD-2-Clause
-- The tutorials are run from their text: every command, every script, and what they print.
local uv = require "luv"
local document = require "support.document"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"

local DIR = "scripts/tutorials"

-- Commands of running text that are run by another spec.
local ELSEWHERE = {
  ["moonbee repl --prog ID --write"] = "kernel/repl_spec.lua",
  ["moonbee types count.bpf.o"] = "cli/types_spec.lua",
  ["moonbee ctl NAME stop"] = "kernel/policy_persist_spec.lua",
}

local function setup()
  return document.read(DIR .. "/README.md"):block "setup"
    .. ("export PATH=%s/%s:$PATH"):format(uv.cwd(), support.build)
end

-- Files of another tutorial that one goes on with: <!-- with: guard.bpf.c of tuning.md -->
local function take_over(session)
  for name, other in session.doc.text:gmatch "\n<!%-%- with: (%S+) of (%S+) %-%->" do
    for _, block in ipairs(document.read(DIR .. "/" .. other).blocks) do
      if block.name == name then session:run(block) end
    end
  end
end

describe("the tutorial #root", function()
  before_each(skip.root)
  -- what one pins that fails halfway
  after_each(function() run { "sh", "-c", "rm -rf /sys/fs/bpf/moonbee-tutorial*" } end)

  local names = {}
  for name in uv.fs_scandir_next, assert(uv.fs_scandir(DIR)) do
    if name:find "%.md$" then names[#names + 1] = name end
  end
  table.sort(names)

  for _, name in ipairs(names) do
    it(name .. " does what it says", function()
      local session <close> = document.read(DIR .. "/" .. name):session { setup = setup(),
        timeout = support.slow and 120 or 30 }
      take_over(session)
      session:run_all()
    end)

    it(name .. " is listed, and its links lead somewhere", function()
      local doc = document.read(DIR .. "/" .. name)
      local index = document.read(DIR .. "/README.md").text
      assert.truthy(name == "README.md" or index:find("](" .. name .. ")", 1, true))
      for target in doc.text:gmatch "%]%(([^)#]+)" do
        if not target:find "^https?:" then
          assert.truthy(uv.fs_stat(DIR .. "/" .. target), name .. ": " .. target)
        end
      end
    end)
  end

  it("names no command that nothing runs, and shows no file that nothing takes", function()
    local typed = {}
    for _, name in ipairs(names) do
      for _, block in ipairs(document.read(DIR .. "/" .. name).blocks) do
        if block.language == "console" or block.language == "sh" or block.language == "lua" then
          typed[#typed + 1] = block.text
        end
      end
    end
    typed = table.concat(typed)
    for _, name in ipairs(names) do
      local doc = document.read(DIR .. "/" .. name)
      for span in doc.text:gsub("\n```.-\n```\n", "\n"):gmatch "`(%l[^`\n]+)`" do
        if span:find "^moonbee " then
          assert.truthy(ELSEWHERE[span] or typed:find(span, 1, true), name .. ": " .. span)
        end
      end
      for _, block in ipairs(doc.blocks) do
        if block.language == "lua" or block.language == "c" then
          local stem = block.name:gsub("%.lua$", ""):gsub("%.bpf%.c$", ""):gsub("%p", "%%%0")
          assert.truthy(typed:find("%f[%w_-]" .. stem .. "%f[^%w_-]"), block.name)
        end
      end
    end
  end)

  it("shows Go that is well-formed", function()
    skip.unless(run({ "sh", "-c", "command -v gofmt" }).rc == 0, "no gofmt")
    for _, name in ipairs(names) do
      for _, block in ipairs(document.read(DIR .. "/" .. name).blocks) do
        if block.language == "go" then
          local r = run({ "gofmt", "-e" }, { stdin = block.text })
          assert.equal("", r.err, name .. ":" .. block.line)
          assert.equal(block.text, r.out, name .. ":" .. block.line)
        end
      end
    end
  end)
end)
