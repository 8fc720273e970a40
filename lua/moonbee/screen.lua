-- SPDX-License-Identifier: BSD-2-Clause
-- The bottom of a terminal: live lines (watches), and below them the line that is typed. What is
-- printed meanwhile appears above both, and what is typed stays as it is.
local line = require "moonbee.line"

local screen = {}
screen.__index = screen

function screen.new()
  return setmetatable({ live = {}, columns = line.size() or 80, shown = false, column = 0 }, screen)
end

local function put(...)
  io.stdout:write(...)
end

-- ---- measures -----------------------------------------------------------------------------------

local function plain(text)
  return (text:gsub("\27%[[%d;]*m", ""))
end

-- Rows below the first one that the cursor is on, after so much text.
function screen:rows(text)
  return line.width(self.prompt .. text) // self.columns
end

-- Text cut to a row: more would wrap, and the rows above could not be counted.
function screen:fit(text)
  if line.width(plain(text)) < self.columns then return text end
  local out, width = {}, 0
  text = plain(text)
  local chars = utf8.len(text) and utf8.charpattern or "."
  for c in text:gmatch(chars) do
    width = width + line.width(c)
    if width > self.columns - 2 then break end
    out[#out + 1] = c
  end
  return table.concat(out) .. "…"
end

-- ---- the line that is typed ---------------------------------------------------------------------

local function up(n)
  return n > 0 and ("\27[%dA"):format(n) or ""
end

function screen:put_live()
  for _, text in ipairs(self.live) do put(self:fit(text), "\n") end
end

-- Take everything of ours away; the cursor is where it began.
function screen:hide()
  local text, point = line.text()
  put("\r", up(self:rows(text:sub(1, point)) + #self.live), "\27[J")
end

function screen:show()
  self:put_live()
  line.redraw()
end

-- Show a prompt and edit a line. text: what is typed already.
function screen:edit(prompt, text)
  if self.column > 0 then put "\n" end
  self.column, self.prompt, self.shown = 0, prompt, true
  self:put_live()
  io.stdout:flush()
  line.start(prompt)
  if text and text ~= "" then
    line.insert(text)
    put("\r")
    line.redraw()
  end
end

-- The line was ended by a key: the live lines above it go, it stays, and output follows it.
function screen:accept(text)
  self.shown = false
  if #self.live == 0 then return end
  put(up(self:rows(text) + 1 + #self.live), "\r\27[J", self.prompt, text, "\n")
  io.stdout:flush()
end

-- Give the terminal back. note: what ends the line that was typed ("^C").
function screen:leave(note)
  if not self.shown then return end
  local text = line.text()
  self:hide()
  line.stop()
  put(self.prompt, text, note or "", "\n")
  io.stdout:flush()
  self.shown = false
end

-- The same for the time of a stop: returns what was typed.
function screen:suspend()
  if not self.shown then return end
  local text = line.text()
  self:leave()
  return text
end

-- ---- what others print --------------------------------------------------------------------------

function screen:write(text)
  if text == "" then return end
  if self.shown then
    self:hide()
    put(text, text:sub(-1) == "\n" and "" or "\n")
    self:show()
  else
    put(text)
    self.column = text:sub(-1) == "\n" and 0 or 1
    io.stdout:flush()
  end
end

-- The live lines from now on.
function screen:set_live(lines)
  if self.shown then
    self:hide()
    self.live = lines
    self:show()
  else
    self.live = lines
  end
end

-- The terminal has another size.
function screen:resize()
  if self.shown then self:hide() end
  self.columns = line.size() or 80
  line.resize()
  if self.shown then self:show() end
end

return screen
