-- SPDX-License-Identifier: BSD-2-Clause
-- One conversation with Lua: names at hand, evaluation, printing. It knows no terminal: what it
-- prints goes to a function, so that the same code serves the REPL and a policy's console.
--
--   local s = session.new{ names = { obj = obj }, globals = _G, write = function(text) … end,
--     columns = function() return 80 end, color = false }
--   s:run("vars.mode = 3")    -- true, or false where it raised, which was printed
--
-- names: values, or functions in `lazy`, which are called when the name is first used.
local core = require "moonbee.core"
local path = require "moonbee.path"
local show = require "moonbee.show"

local session = {}
session.__index = session

local CHUNK = "=repl"
local CAPTURE = "(moonbee capture)" -- no name that source text can use
local TELL = ("\nif _ENV['%s'] then _ENV['%s']() end"):format(CAPTURE, CAPTURE)

-- ---- names --------------------------------------------------------------------------------------

local function environment(names, lazy, globals)
  local env = {}
  for name, value in pairs(names) do env[name] = value end
  return setmetatable(env, { __index = function(_, name)
    local make = lazy[name]
    if make then
      lazy[name] = nil
      env[name] = make()
      return env[name]
    end
    return globals[name]
  end })
end

function session.new(opts)
  local self = setmetatable({
    write = opts.write, warn = opts.warn or opts.write,
    columns = opts.columns or function() return 80 end,
    color = opts.color, lazy = opts.lazy or {}, globals = opts.globals or _G,
    call = opts.call or pcall, debug = opts.debug or debug, files = opts.files, failures = 0,
  }, session)
  self.env = environment(opts.names or {}, self.lazy, self.globals)
  self.env.print = function(...) self:print(...) end
  self.env[CAPTURE] = function() self:capture() end
  return self
end

-- More names, after the session is there.
function session:add(names)
  for name, value in pairs(names) do rawset(self.env, name, value) end
end

-- All names that a line may begin with.
function session:each_name(fn)
  for name in next, self.env do fn(name) end
  for name in pairs(self.lazy) do fn(name) end
  for name in next, self.globals do fn(name) end
end

-- The value of a name, without a raise.
function session:lookup(name)
  local ok, value = pcall(function() return self.env[name] end)
  return ok and value or nil
end

-- ---- output -------------------------------------------------------------------------------------

function session:print(...)
  local parts = table.pack(...)
  for i = 1, parts.n do parts[i] = tostring(parts[i]) end
  self.write(table.concat(parts, "\t") .. "\n")
end

function session:paint(text, code)
  return self.color and show.paint(text, code) or text
end

function session:emit(text)
  self.write((self.color and show.color(text) or text) .. "\n")
end

local function text_of(err, source)
  local signal = core.interrupt and core.interrupt.name
  if signal and signal(err) then return "interrupted" end
  local ok, text = pcall(tostring, err)
  if not ok then return "error object without text" end
  if type(err) ~= "string" and type(err) ~= "number" and core.type(err) ~= "error"
    and not (type(err) == "table" and getmetatable(err)) then
    return "error object: " .. show.value(err)
  end
  -- Of one line there is no line number to tell.
  if not source:find "\n" then text = text:gsub("^repl:1: ", "") end
  return text
end

-- An error as it is shown: the cause, then the hint; no stack.
function session:complain(err, source)
  local text = text_of(err, source or "")
  if text == "interrupted" then
    self.failures = self.failures + 1
    return self.warn "interrupted\n"
  end
  local cause, hint = text:match "^(.-)(\nhint:.*)$"
  self.failures = self.failures + 1
  self.warn(self:paint("error: ", "error") .. (cause or text)
    .. (hint and self:paint(hint, "hint") or "") .. "\n")
end

-- ---- evaluation ---------------------------------------------------------------------------------

-- A chunk, whether it is an expression, and for a chunk that goes on on the next line: nil, text,
-- true.
function session:compile(source)
  local expression = source:gsub("^%s*=", "", 1)
  local chunk = load("return " .. expression, CHUNK, "t", self.env)
  if chunk then return chunk, true end
  local err
  -- What it makes local stays at hand: its last act is to tell.
  chunk = load(source .. TELL, CHUNK, "t", self.env)
  if chunk then chunk = load(source, CHUNK, "t", self.env) and chunk end
  if chunk then return chunk, false end
  chunk, err = load(source, CHUNK, "t", self.env)
  if chunk then return chunk, false end
  return nil, err, err:find "<eof>$" ~= nil
end

-- Called by the chunk as its last act: its locals become names of the session.
function session:capture()
  local getlocal = self.debug and self.debug.getlocal
  if not getlocal then return end
  local level, i = 4, 1 -- getlocal's caller is this, then pcall, the closure, the chunk
  while true do
    local ok, name, value = pcall(getlocal, level, i)
    if not ok or not name then return end
    if not name:find "^%(" then rawset(self.env, name, value) end
    i = i + 1
  end
end

-- A number printed as C has it, where the source says which variable it is.
function session:typed(source, value)
  local scalar = math.type(value) or type(value) == "string" or type(value) == "boolean"
  local keys = scalar and path.whole((source:gsub("^%s*=", "", 1)))
  local T = keys and path.type(keys, self.env)
  if not T then return end
  local ok, text = pcall(show.typed, T, value, { width = self.columns() })
  return ok and text or nil
end

function session:results(source, values)
  if values.n == 0 then return end
  self.env._ = values[1]
  if values.n == 1 then
    local typed = self:typed(source, values[1])
    if typed then return self:emit(typed) end
  end
  for i = 1, values.n do
    self:emit(show.value(values[i], { width = self.columns() }))
  end
end

-- Evaluate and print. Returns false where it raised, and the error, which was printed.
function session:run(source)
  local chunk, expression = self:compile(source)
  if not chunk then
    self:complain(expression, source)
    return false
  end
  local values = table.pack(self.call(chunk))
  if not values[1] then
    self:complain(values[2], source)
    return false, values[2]
  end
  local ok, err = pcall(self.results, self, source,
    { n = values.n - 1, table.unpack(values, 2, values.n) })
  if not ok then self:complain(err, source) end
  return ok
end

-- Does the source end in the middle of a statement?
function session.unfinished(source)
  if load("return " .. source:gsub("^%s*=", "", 1), CHUNK, "t") then return false end
  local chunk, err = load(source, CHUNK, "t")
  return not chunk and err:find "<eof>$" ~= nil
end

return session
