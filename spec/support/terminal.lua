-- SPDX-License-Identifier: BSD-2-Clause
--
-- A real terminal for specs: a tmux server of this process's own, driven by looking at its screen.
--
--   local t <close> = terminal.start({ "build/moonbee", "repl" }, { columns = 80, rows = 24,
--     env = { NO_COLOR = "1" } })
--   t:expect "moonbee> $"        -- waits until the screen matches; returns the screen
--   t:type "vars.x"              -- literally
--   t:key("Tab", "C-c")          -- by tmux's names
--   t:resize(60, 20)
--   t:screen([true])             -- what it shows: lines, without spaces at their ends
--
-- One session is kept until the end: a server whose last one ends is on its way out when the next
-- one is started.

local uv = require "luv"
local lfs = require "lfs"
local run = require "support.run"

local terminal = {}
terminal.__index = terminal

local SOCKET = ("moonbee-spec-%d"):format(uv.os_getpid())
local count = 0

local function tmux(...)
  local r = run({ "tmux", "-L", SOCKET, "-f", "/dev/null", ... }, { env = { TMUX = false } })
  if r.rc ~= 0 then error("tmux: " .. r.err, 3) end
  return r.out
end

function terminal.available()
  for dir in (os.getenv "PATH" or ""):gmatch "[^:]+" do
    if lfs.attributes(dir .. "/tmux", "mode") == "file" then return true end
  end
  return false
end

-- The server, until stop().
function terminal.begin()
  tmux("new-session", "-d", "-s", "keep", "-x", "20", "-y", "5", "cat")
end

function terminal.finish()
  tmux "kill-server"
end

-- A server for the specs of a describe, with a directory for what programs keep: its path by the
-- function that comes back, or nil without tmux.
function terminal.for_specs(setup, teardown)
  local state
  setup(function()
    if not terminal.available() then return end
    terminal.begin()
    state = os.tmpname()
    os.remove(state)
    lfs.mkdir(state)
  end)
  teardown(function()
    if not state then return end
    terminal.finish()
    run { "rm", "-rf", state }
  end)
  return function() return state end
end

function terminal.start(argv, options)
  options = options or {}
  count = count + 1
  local t = setmetatable({ name = "t" .. count }, terminal)
  local command = { "new-session", "-d", "-s", t.name, "-x", tostring(options.columns or 80),
    "-y", tostring(options.rows or 24) }
  for name, value in pairs(options.env or {}) do
    command[#command + 1] = "-e"
    command[#command + 1] = name .. "=" .. value
  end
  command[#command + 1] = "-c"
  command[#command + 1] = uv.cwd()
  -- The screen of a program that has ended stays to be looked at.
  command[#command + 1] = table.concat(argv, " ")
    .. "; printf '[ended %d]\\n' $?; exec tail -f /dev/null"
  tmux(table.unpack(command))
  return t
end

-- escapes: with its colors.
function terminal:screen(escapes)
  local command = { "capture-pane", "-p", "-J", "-t", self.name }
  if escapes then command[#command + 1] = "-e" end
  return (tmux(table.unpack(command)):gsub("[ \t]+\n", "\n")
    :gsub("\n+$", ""))
end

-- Wait until the screen matches the pattern (plain text with plain = true).
function terminal:expect(pattern, plain, seconds)
  local deadline = uv.hrtime() + (seconds or 20) * 1e9
  while true do
    local text = self:screen()
    if text:find(pattern, 1, plain) then return text end
    if uv.hrtime() > deadline then
      error(("the terminal never showed %q:\n%s\n"):format(pattern, text), 2)
    end
  end
end

-- Wait until the screen does not match any more.
function terminal:expect_gone(pattern, plain)
  local deadline = uv.hrtime() + 20 * 1e9
  while self:screen():find(pattern, 1, plain) do
    if uv.hrtime() > deadline then error("still there: " .. pattern .. "\n" .. self:screen(), 2) end
  end
end

function terminal:type(text)
  -- tmux takes a ; at an argument's end for its own.
  tmux("send-keys", "-t", self.name, "-l", "--", (text:gsub(";$", "\\;")))
end

function terminal:key(...)
  tmux("send-keys", "-t", self.name, ...)
end

-- A line and its Enter.
function terminal:enter(text)
  self:type(text)
  self:key "Enter"
end

function terminal:resize(columns, rows)
  tmux("resize-window", "-t", self.name, "-x", tostring(columns), "-y", tostring(rows))
end

function terminal:close()
  if self.closed then return end
  self.closed = true
  tmux("kill-session", "-t", self.name)
end
terminal.__close = terminal.close

return terminal
