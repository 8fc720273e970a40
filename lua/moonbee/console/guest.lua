-- SPDX-License-Identifier: BSD-2-Clause
-- The console's part inside a policy's own state: trusted text that the host has loaded there. It
-- keeps a session for each console, prints to the host, and is called in slices.
--
-- chunk(core, env, host) -> function(operation, session's number, …)
local core, env, host = ...
local complete = require "moonbee.complete"
local help = require "moonbee.help"
local live = require "moonbee.live"
local session = require "moonbee.session"

local sessions = {}
local timers = {} -- number -> function

-- ---- what a session is given --------------------------------------------------------------------

local function new_live(s, id, opts)
  return live.new {
    every = function(seconds, fn)
      local number = host.every(id, seconds)
      timers[number] = fn
      return { stop = function()
        timers[number] = nil
        host.unevery(id, number)
      end }
    end,
    show = function(lines) host.show(id, lines) end,
    warn = s.warn,
    columns = function() return opts.columns end,
    rows = function() return opts.rows end,
    now = function() return core.now_ns() / 1e9 end,
    unicode = opts.unicode,
  }
end

local function names_of()
  local names = {}
  for _, name in ipairs { "obj", "vars", "maps", "progs", "params", "state", "ctx", "bpf" } do
    names[name] = env[name]
  end
  names.sleep = env.ctx and env.ctx.sleep
  return names
end

local operations = {}

function operations.open(id, opts)
  local s
  s = session.new {
    names = names_of(), globals = setmetatable({}, { __index = env }), color = opts.color,
    columns = function() return opts.columns end,
    write = function(text) host.write(id, text) end,
  }
  local moving = new_live(s, id, opts)
  s:add(moving:names())
  s:add { help = function(...) s:print(help.text(s, host.help, select("#", ...), ...)) end }
  sessions[id] = { session = s, opts = opts, live = moving }
end

function operations.close(id)
  local it = sessions[id]
  sessions[id] = nil
  if it then it.live:stop_all() end
end

function operations.size(id, columns, rows)
  sessions[id].opts.columns, sessions[id].opts.rows = columns, rows
end

function operations.run(id, source)
  return (sessions[id].session:run(source))
end

function operations.complete(id, text, point)
  return complete.line(sessions[id].session, text, point)
end

function operations.tick(_, number)
  if timers[number] then timers[number]() end
end

return function(operation, id, ...)
  if operation ~= "open" and not sessions[id] then return nil end
  return operations[operation](id, ...)
end
