-- SPDX-License-Identifier: BSD-2-Clause
-- The front of a session: a terminal's line editor, or plain lines from a pipe. What evaluates is a
-- backend: a session of this process, or a policy's at the other end of a socket.
--
--   backend.run(source, wake) -> cancel     evaluates; then wake(ok, signal). cancel() ends it
--   backend.complete(text, point, wake) -> cancel     then wake(inserted, choices)
--   backend.columns(n)                      the terminal's width, when it is known and changes
--   backend.name                            for the prompt
local core = require "moonbee.core"
local history = require "moonbee.history"
local loop = require "moonbee.loop"
local session = require "moonbee.session"
local uv = require "luv"

local front = {}
front.__index = front

local CHOICES = 100 -- that are listed at once

-- ---- output -------------------------------------------------------------------------------------

-- Text of the session, of handlers and of scripts: above the line that is typed.
function front:write(text)
  if self.screen then return self.screen:write(text) end
  io.stdout:write(text)
end

-- Errors: beside the data where nobody watches.
function front:warn(text)
  if self.screen then return self.screen:write(text) end
  io.stdout:flush()
  io.stderr:write(text)
end

-- print and io.write of everybody's, for as long as lines are edited.
function front:take_output()
  local real_print, real_write = print, io.write
  local write = function(text) self:write(text) end
  _G.print = function(...)
    local parts = table.pack(...)
    for i = 1, parts.n do parts[i] = tostring(parts[i]) end
    write(table.concat(parts, "\t") .. "\n")
  end
  -- luacheck: ignore 122 (all of the process's output has to go through here)
  io.write = function(...)
    write(table.concat({ ... }))
    return io.stdout
  end
  local sink = loop.on_error(function(text) write("moonbee: " .. text .. "\n") end)
  return function()
    _G.print, io.write = real_print, real_write
    loop.on_error(sink)
  end
end

-- ---- keys and lines -----------------------------------------------------------------------------

-- Wait until standard input is readable. False: it cannot be waited for, and is read as it is.
local function wait_input(self)
  if self.poll == nil then
    self.poll = uv.guess_handle(0) ~= "file" and uv.new_poll(0) or false
  end
  if not self.poll then return false end
  loop.await(function(wake)
    self.poll:start("r", function()
      self.poll:stop()
      wake()
    end)
    return function() self.poll:stop() end
  end)
  return true
end

-- The next line of a pipe or file; nil at its end.
local function plain_line(self)
  while true do
    local text, rest = self.input:match "^([^\n]*)\n(.*)$"
    if text then
      self.input = rest
      return text
    end
    if self.ended then
      text, self.input = self.input, ""
      return text ~= "" and text or nil
    end
    wait_input(self)
    local data = uv.fs_read(0, 65536, -1)
    self.ended = not data or data == ""
    self.input = self.input .. (data or "")
  end
end

local function list_choices(self, choices)
  local lines, width, columns = {}, 0, self.screen.columns
  for i = 1, math.min(#choices, CHOICES) do width = math.max(width, #choices[i] + 2) end
  local per_row = math.max(1, columns // width)
  local rows = (math.min(#choices, CHOICES) + per_row - 1) // per_row
  for row = 1, rows do
    local cells = {}
    for i = row, math.min(#choices, CHOICES), rows do
      cells[#cells + 1] = choices[i] .. (" "):rep(width - #choices[i])
    end
    lines[row] = table.concat(cells):gsub("%s+$", "")
  end
  if #choices > CHOICES then lines[#lines + 1] = ("… %d more"):format(#choices - CHOICES) end
  self:write(table.concat(lines, "\n") .. "\n")
end

local function complete(self)
  local text, point = self.line.text()
  local inserted, choices = loop.await(function(wake)
    return self.backend.complete(text, point, wake)
  end)
  -- More may have been typed while a policy thought about it.
  if not self.screen.shown or select(2, self.line.text()) ~= point then return end
  if inserted and inserted ~= "" then
    self.screen:hide()
    self.line.insert(inserted)
    self.screen:show()
  elseif choices and #choices > 1 then
    list_choices(self, choices)
  end
end

local function edited_line(self)
  self.screen:edit(self:prompt())
  while true do
    wait_input(self)
    local event, text = nil, nil
    if self.screen.shown then event, text = self.line.read() end
    if event == "line" then
      self.screen:accept(text)
      return text
    elseif event == "end" then
      self.screen:accept ""
      self:write "\n"
      return nil
    elseif event == "tab" then
      complete(self)
    end
    if not self.screen.shown and not self.stopped then self.screen:edit(self:prompt()) end
  end
end

function front:prompt()
  local name = self.backend.name
  return (self.pending and (" "):rep(#name - 2) .. "..> " or name .. "> ")
end

local function next_line(self)
  if self.screen then return edited_line(self) end
  if self.prompts then
    io.stdout:write(self:prompt())
    io.stdout:flush()
  end
  return plain_line(self)
end

-- ---- signals ------------------------------------------------------------------------------------

local function on_interrupt(self)
  if self.cancel and self.prompts then
    return self.cancel()
  end
  self.pending = nil
  if self.screen then
    self.screen:leave "^C"
    self.screen:edit(self:prompt())
  elseif not self.prompts then
    loop.stop "SIGINT" -- in a pipe it means what it means elsewhere
  else
    io.stdout:write("\n", self:prompt())
    io.stdout:flush()
  end
end

-- Ctrl-Z: the shell gets its terminal back as it was.
local function on_stop(self)
  local typed = self.screen:suspend()
  self.stopped = true
  uv.kill(uv.os_getpid(), "sigstop")
  self.stopped = false
  self.screen.columns = self.line.size() or 80
  if typed then self.screen:edit(self:prompt(), typed) end
end

local function listen(self)
  local handles = { loop.signal("SIGINT", function() on_interrupt(self) end) }
  if self.screen then
    handles[2] = loop.signal("SIGWINCH", function()
      self.screen:resize()
      self:tell_size()
    end)
    handles[3] = loop.signal("SIGTSTP", function() on_stop(self) end)
  end
  return handles
end

-- ---- the conversation ---------------------------------------------------------------------------

local function evaluate(self, source)
  return loop.await(function(wake)
    local cancel = self.backend.run(source, wake)
    self.cancel = function()
      cancel()
      -- Far away it ends when it is told; asked twice, it is left.
      if not self.backend.remote then
        self:warn "interrupted\n"
        wake(false)
      elseif self.asked then
        self:finish "SIGINT"
      end
      self.asked = true
    end
    return cancel
  end)
end

local function feed(self, text)
  local source = self.pending and self.pending .. "\n" .. text or text
  if source:find "^%s*$" then return end
  if session.unfinished(source) then
    self.pending = source
    return
  end
  self.pending = nil
  if self.screen then
    for _, entry in ipairs(history.entries(source)) do
      self.line.remember(entry)
      self.remember(entry)
    end
  end
  local ok, signal = evaluate(self, source)
  self.cancel, self.asked = nil, nil
  if not ok then self.failed = true end
  -- Where lines are typed, Ctrl-C ends the expression. Else it means what it means elsewhere.
  if signal and (signal ~= "SIGINT" or not self.prompts) then
    self.ending = { n = 0 }
    loop.stop(signal)
  end
end

local function converse(self)
  while not self.ending do
    local text = next_line(self)
    if text then
      feed(self, text)
    elseif self.pending and self.screen then
      self.pending = nil -- Ctrl-D in the middle of a statement drops that
    else
      if self.pending then
        evaluate(self, self.pending)
        self.failed = true
      end
      return
    end
  end
end

local function is_terminal()
  local term = os.getenv "TERM"
  return uv.guess_handle(0) == "tty" and uv.guess_handle(1) == "tty", term and term ~= "dumb"
    and term ~= ""
end

function front:open_editor()
  local ok, line = pcall(require, "moonbee.line")
  if not ok then
    io.stderr:write("moonbee: no line editor (moonbee/line.so, which needs libedit); lines are"
      .. " read as they come\n")
    return
  end
  local lines, remember = history.open()
  for _, text in ipairs(lines) do line.remember(text) end
  self.line, self.remember = line, remember
  self.screen = require "moonbee.screen".new()
  self:tell_size()
end

function front:tell_size()
  if self.backend.columns then
    self.backend.columns(self.screen.columns, select(2, self.line.size()) or 24)
  end
end

-- Live lines from now on; without a screen what changed is told.
function front:show_live(lines)
  if self.screen then return self.screen:set_live(lines) end
  local text = table.concat(lines, "\n")
  if text ~= "" and text ~= self.shown then self:write(text .. "\n") end
  self.shown = text
end

function front:greet(text)
  if self.screen then io.stdout:write(text, "\n") end
end

-- End the conversation from outside.
function front:finish(why)
  self.ending = self.ending or { n = 0 }
  loop.stop(why)
end

-- ---- public -------------------------------------------------------------------------------------

local repl = {}

-- Is there a terminal whose lines can be edited? Does it take colors?
function repl.terminal()
  local tty, capable = is_terminal()
  local no_color = os.getenv "NO_COLOR"
  return tty and capable or false, tty and capable and not (no_color and no_color ~= "") or false
end

-- Columns and rows of the terminal, where there is one.
function repl.size()
  local ok, line = pcall(require, "moonbee.line")
  if ok then return line.size() end
end

function repl.new(backend)
  local self = setmetatable({ backend = backend, input = "" }, front)
  local tty, capable = is_terminal()
  self.prompts = tty
  if tty and capable then self:open_editor() end
  return self
end

-- Talk until the end of input, or until self.ending is set. In a coroutine of the loop. Returns
-- whether all went well, which counts where nobody watches.
function front:converse()
  local restore = self.screen and self:take_output()
  local handles = listen(self)
  local _guard <close> = setmetatable({}, { __close = function()
    for _, handle in ipairs(handles) do handle:stop() end
    if self.screen then
      self.screen.live = {}
      self.screen:leave()
      self.line.stop()
    end
    if restore then restore() end
    if self.poll then self.poll:close() end
  end })
  converse(self)
  return self.screen ~= nil or not self.failed
end

-- ---- a session of this process ------------------------------------------------------------------

-- Evaluate in a coroutine of the loop, so that it may wait. Until it does, Ctrl-C is an error in
-- it.
local function run_here(s, source, wake)
  local handle = loop.spawn(function()
    local _free <close> = setmetatable({}, { __close = core.interrupt.drop })
    local ok, err = s:run(source)
    wake(ok, not ok and core.interrupt.name(err) or nil)
  end)
  return function() handle:stop() end
end

-- The session's own coroutines: Ctrl-C is for the one that runs.
local function followed()
  local swap = core.interrupt.swap
  local function back(before, ...)
    if before then swap(before) end
    return ...
  end
  local function resume(co, ...)
    local before = type(co) == "thread" and coroutine.status(co) == "suspended" and swap(co)
    return back(before, coroutine.resume(co, ...))
  end
  local function check(ok, ...)
    if not ok then error((...), 0) end
    return ...
  end
  return setmetatable({
    resume = resume,
    wrap = function(fn)
      local co = coroutine.create(fn)
      return function(...) return check(resume(co, ...)) end
    end,
  }, { __index = coroutine })
end

-- The backend of a session: how it is asked.
function repl.backend(s, name)
  return {
    name = name or "moonbee",
    run = function(source, wake) return run_here(s, source, wake) end,
    complete = function(text, point, wake)
      local ok, inserted, choices = pcall(require "moonbee.complete".line, s, text, point)
      if ok then wake(inserted, choices) else wake() end
    end,
    columns = function(n) s.columns = function() return n end end,
  }
end

-- The files that a prefix may become; directories end in a slash.
local function files(prefix)
  local dir, base = prefix:match "^(.*/)([^/]*)$"
  dir, base = dir or "", base or prefix
  local list, scan = {}, uv.fs_scandir(dir == "" and "." or dir)
  while scan do
    local name, kind = uv.fs_scandir_next(scan)
    if not name then break end
    if name:sub(1, #base) == base and (base ~= "" or name:sub(1, 1) ~= ".") then
      if kind == "link" then
        local about = uv.fs_stat(dir .. name)
        kind = about and about.type
      end
      list[#list + 1] = dir .. name .. (kind == "directory" and "/" or "")
    end
  end
  return list
end

function repl.has_unicode()
  for _, name in ipairs { "LC_ALL", "LC_CTYPE", "LANG" } do
    local value = os.getenv(name)
    if value and value ~= "" then return value:upper():find "UTF%-?8" ~= nil end
  end
  return false
end

-- Where watches and plots of a session of this process are shown.
local function host_of(s, front_of)
  return {
    every = loop.every,
    columns = function() return s.columns() end,
    rows = function() return front_of().screen and select(2, front_of().line.size()) or 50 end,
    now = function() return uv.hrtime() / 1e9 end,
    unicode = repl.has_unicode(),
    warn = s.warn,
    show = function(lines) front_of():show_live(lines) end,
  }
end

local function in_loop()
  return (pcall(loop.await, function(wake) wake() end))
end

-- Talk until the end: in a coroutine of the loop, or with a loop of its own. Returns what ended
-- that loop, and whether all went well.
function repl.serve(self)
  if in_loop() then return nil, self:converse() end
  if not core.interrupt.fd() then core.interrupt.install() end
  local well, err
  loop.spawn(function()
    local ok, result = xpcall(self.converse, debug.traceback, self)
    if ok then well = result else err = result end
    loop.stop()
  end)
  local signal = loop.run()
  if err then error(err, 0) end
  return signal, well
end

-- opts: names, lazy (as session.new), name (of the prompt), banner. Returns what exit() was given,
-- or nothing at the end of input; second what ended the loop, and whether all went well.
function repl.run(opts)
  local _, color = repl.terminal()
  local self
  local names = {}
  for name, value in pairs(opts.names or {}) do names[name] = value end
  local function finish(...) self.ending = table.pack(...) end
  names.exit, names.quit, names.coroutine = finish, finish, followed()
  local s = session.new {
    names = names, lazy = opts.lazy, color = color, files = files, call = core.interrupt.call,
    write = function(text) self:write(text) end,
    warn = function(text) self:warn(text) end,
  }
  names.help = function(...)
    local help = require "moonbee.help"
    s:print(help.text(s, help.lookup, select("#", ...), ...))
  end
  local moving = require "moonbee.live".new(host_of(s, function() return self end))
  for name, value in pairs(moving:names()) do names[name] = value end
  s:add(names)
  self = repl.new(repl.backend(s, opts.name))
  if opts.banner then self:greet(opts.banner) end
  local signal, well = repl.serve(self)
  return self.ending or { n = 0 }, signal, well
end

-- The names that are at hand beside a caller's own, made when they are first used.
function repl.lazy()
  return {
    bpf = function() return require "moonbee" end,
    loop = function() return require "moonbee.loop" end,
    kernel = function() return require "moonbee.kernel" end,
  }
end

-- bpf.repl
function repl.here(names, prompt)
  return repl.run { names = names, lazy = repl.lazy(), name = prompt }
end

return repl
