-- SPDX-License-Identifier: BSD-2-Clause
--
-- Runs what a Markdown document shows: its fenced blocks, from the first to the last, in a
-- directory of their own. What follows the language in a fence, which readers do not see, says what
-- a block is:
--
--   ```c FILE, ```lua FILE      that file
--   ```sh                       commands; each must succeed, what they print is not compared
--   ```console                  "# command" lines, each with what it prints, all of it
--   ```console NAME             the last command goes on, as in a terminal called NAME
--   ```console NAME             once more: what it prints then. "moonbee> text" types text, "^C"
--                               interrupts it, "^D" ends its input: what follows is all that it
--                               prints until its end, and it must succeed
--   ```console fails            its commands must fail
--   ```console numbers          numbers stand for numbers, of any width
--   ```go, ```text              nothing is run
--   <!-- each line: command --> before a block: that command before each line that is waited for
--
-- In what is printed "…" stands for anything within a line, a line of "…" for any lines, and blanks
-- for blanks. A document fails with its path, the block's line, what was expected and what came.
--
--   local doc = document.read "README.md"      -- doc.text, doc.blocks
--   doc:block "kills.lua"                       -- the text of a file's block
--   local session <close> = doc:session { env = {}, setup = "export X=1" }
--   session:run_all()               -- or session:run(doc.blocks[1]), …; session:finish()

local uv = require "luv"
local run = require "support.run"

local document = {}
document.__index = document

local ELLIPSIS = "…"

-- ---- reading ------------------------------------------------------------------------------------

local function info_of(fence)
  local words = {}
  for word in fence:gmatch "%S+" do words[#words + 1] = word end
  local block = { language = table.remove(words, 1) or "" }
  for _, word in ipairs(words) do
    if word == "numbers" or word == "fails" then block[word] = true else block.name = word end
  end
  return block
end

local function read_blocks(text)
  local blocks, block, lines, each, number = {}, nil, nil, nil, 0
  for line in text:gmatch "([^\n]*)\n" do
    number = number + 1
    local fence = line:match "^```(.*)$"
    if fence and not block then
      block, lines = info_of(fence), {}
      block.line, block.each, each = number, each, nil
    elseif fence then
      block.text = #lines > 0 and table.concat(lines, "\n") .. "\n" or ""
      block.lines = lines
      blocks[#blocks + 1], block = block, nil
    elseif block then
      lines[#lines + 1] = line
    else
      each = line:match "^<!%-%- each line: (.*) %-%->$" or each
    end
  end
  assert(not block, "a block has no end")
  return blocks
end

function document.parse(text, path)
  return setmetatable({ path = path, text = text, blocks = read_blocks(text) }, document)
end

function document.read(path)
  local file <close> = assert(io.open(path))
  return document.parse(file:read "a", path)
end

-- The text of the block that names a file.
function document:block(name)
  for _, block in ipairs(self.blocks) do
    if block.name == name then return block.text end
  end
  error(("%s has no block %s"):format(self.path, name), 2)
end

-- ---- comparing ----------------------------------------------------------------------------------

-- A line as it is printed -> a pattern for it.
local function line_pattern(line, numbers)
  local parts = {}
  for text in (line .. ELLIPSIS):gmatch("(.-)" .. ELLIPSIS) do
    text = text:gsub("[%^%$%(%)%%%.%[%]%*%+%-%?]", "%%%0"):gsub("[ \t]+", "[ \t]+")
    parts[#parts + 1] = numbers and text:gsub("%d+", "%%d+") or text
  end
  local pattern = table.concat(parts, "[^\n]-") .. "[ \t]*\n"
  if numbers then pattern = "[ \t]*" .. pattern:gsub("^%[ \t%]%+", "") end -- aligned on the right
  return pattern
end

local function pattern_of(lines, numbers)
  local parts = {}
  for i, line in ipairs(lines) do
    parts[i] = line == ELLIPSIS and ".-" or line_pattern(line, numbers)
  end
  return table.concat(parts)
end

-- ---- commands -----------------------------------------------------------------------------------

local session = {}
session.__index = session

-- options: env; setup, shell text before each command, run where the specs are; timeout, seconds
-- of each command and of each wait.
function document:session(options)
  options = options or {}
  local dir = assert(uv.fs_mkdtemp "/tmp/moonbee-doc-XXXXXX")
  local env = { MOONBEE_RUNTIME_DIR = dir .. "/.run", NO_COLOR = "1" }
  for name, value in pairs(options.env or {}) do env[name] = value end
  assert(uv.fs_mkdir(env.MOONBEE_RUNTIME_DIR, tonumber("700", 8)))
  return setmetatable({ doc = self, dir = dir, env = env, setup = options.setup or "",
    timeout = options.timeout or 30, terminals = {} }, session)
end

function session:fail(block, what, expected, got)
  error(("%s:%d: %s\n--- expected:\n%s\n--- got:\n%s"):format(self.doc.path, block.line, what,
    expected, got), 0)
end

-- In a process group of its own, as a terminal has it: what ends it ends its children, too.
function session:start(command, typed)
  local script = ("exec 2>&1\n%s\ncd %s || exit\n%s"):format(self.setup, self.dir, command)
  local p = run.start({ "setsid", "bash", "-c", script }, { env = self.env,
    timeout = self.timeout })
  if not typed then p:eof() end
  return p
end

local function close(p)
  if not p.code then uv.kill(-p.pid, "sigkill") end
  p:close()
end

local function closing(p)
  return setmetatable({}, { __close = function() close(p) end })
end

function session:execute(block, command, expected, fails)
  local p = self:start(command)
  local _guard <close> = closing(p)
  local r = p:wait()
  if (r.rc ~= 0) ~= (fails or false) then
    self:fail(block, command, fails and "exit code not 0" or "exit code 0",
      ("exit code %d\n%s"):format(r.rc, r.out))
  end
  if expected and not r.out:find("^" .. pattern_of(expected, block.numbers) .. "$") then
    self:fail(block, command, table.concat(expected, "\n"), r.out)
  end
end

-- ---- what goes on in a terminal -----------------------------------------------------------------

local terminal = {}
terminal.__index = terminal

function session:terminal(block, command)
  local t = setmetatable({ session = self, name = block.name, at = 1,
    process = self:start(command, true) }, terminal)
  self.terminals[t.name] = t
  return t
end

-- Have as many lines come as are expected? Then there is nothing to wait for.
local function all_there(text, lines)
  for _, line in ipairs(lines) do
    if line == ELLIPSIS then return false end
  end
  return select(2, text:gsub("\n", "")) >= #lines
end

-- Waits for these lines, right after those before. final: and for its end, with nothing more.
function terminal:await(block, lines, final)
  local p, pattern = self.process, "^" .. pattern_of(lines, block.numbers)
  local first, last
  uv.update_time()
  p.timer:start(self.session.timeout * 1000, 0, function() p.late = true end) -- anew for each wait
  while true do
    local ended = p.code and p.open == 0
    first, last = p.out:find(pattern .. (final and "$" or ""), self.at)
    if first and (ended or not final) or ended or p.late then break end
    if not first and not final and all_there(p.out:sub(self.at), lines) then break end
    uv.run "once"
  end
  if not first then
    self.session:fail(block, ("'%s' %s with"):format(self.name, final and "ends" or "goes on"),
      table.concat(lines, "\n"), p.out:sub(self.at))
  end
  self.at = last + 1
end

function terminal:finish(block, lines)
  self:await(block, lines, true)
  self.session.terminals[self.name] = nil
  local r = self.process:wait()
  if (r.rc ~= 0) ~= (block.fails or false) then
    self.session:fail(block, ("'%s' ends"):format(self.name), "exit code 0",
      "exit code " .. r.rc)
  end
end

-- The lines of a block: what it prints, and between them what is typed.
function terminal:go_on(block, from)
  local lines, ending = {}, nil
  local function flush()
    self:await(block, lines)
    lines = {}
  end
  for i = from, #block.lines do
    local line = block.lines[i]
    local typed = line:match "^[%w_-]+> (.*)$"
    if typed then
      flush()
      self.process:write(typed .. "\n")
    elseif line == "^C" or line == "^D" then
      flush()
      ending = true
      if line == "^C" then uv.kill(-self.process.pid, "sigint") else self.process:eof() end
    else
      if block.each then self.session:execute(block, block.each) end
      lines[#lines + 1] = line
      if block.each then flush() end
    end
  end
  if ending then self:finish(block, lines) else flush() end
end

-- ---- blocks -------------------------------------------------------------------------------------

local function is_command(line) return line:find "^# " ~= nil end

-- A command may go on in the next lines, after a "\".
local function command_at(lines, i)
  local words = { (lines[i]:gsub("^# ", "")) }
  while lines[i]:find "\\$" do
    i = i + 1
    words[#words + 1] = lines[i]
  end
  return table.concat(words, "\n"), i + 1
end

function session:console(block)
  local lines, i = block.lines, 1
  if not is_command(lines[1]) then
    local t = self.terminals[block.name] or error(("%s:%d: nothing runs in '%s'")
      :format(self.doc.path, block.line, tostring(block.name)), 0)
    return t:go_on(block, 1)
  end
  while i <= #lines do
    local command, after = command_at(lines, i)
    local stop = after
    while lines[stop] and not is_command(lines[stop]) do stop = stop + 1 end
    local last = not lines[stop]
    if last and block.name then return self:terminal(block, command):go_on(block, after) end
    self:execute(block, command, table.move(lines, after, stop - 1, 1, {}), block.fails)
    i = stop
  end
end

local kinds = { console = session.console }

function kinds.sh(self, block) self:execute(block, "set -e\n" .. block.text) end

function session:run(block)
  if kinds[block.language] then return kinds[block.language](self, block) end
  if not block.name or block.language == "text" then return end
  local file <close> = assert(io.open(self.dir .. "/" .. block.name, "w"))
  assert(file:write(block.text))
end

function session:run_all()
  for _, block in ipairs(self.doc.blocks) do self:run(block) end
  self:finish()
end

-- At its end nothing may be left that does not end by itself.
function session:finish()
  for _, t in pairs(self.terminals) do
    t:finish(self.doc.blocks[#self.doc.blocks], {})
  end
end

function session:__close()
  for _, t in pairs(self.terminals) do close(t.process) end
  run { "rm", "-rf", self.dir }
end

return document
