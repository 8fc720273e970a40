-- SPDX-License-Identifier: BSD-2-Clause
-- What moonbee.h runs: a script or a policy as a coroutine, whose loop.run() waits while the C
-- program turns the loop. One at a time.
local core = require "moonbee.core"
local loop = require "moonbee.loop"

local embed = {}
local turn = loop.host()
local main          -- the coroutine, while it runs

-- core.log: where the program wants to hear of what goes wrong.
if core.log then
  loop.on_error(function(text) core.log(0, text) end)
end

-- Resumes it: true while it waits in loop.run(), false at its end; its error is raised, with where.
local function advance(...)
  local ok, err = coroutine.resume(main, ...)
  if ok and coroutine.status(main) == "suspended" then return true end
  local ended = main
  main = nil
  if not ok and type(err) == "string" then err = debug.traceback(ended, err) end
  coroutine.close(ended)
  if not ok then error(err, 0) end
  return false
end

local function begin(fn, ...)
  if main then
    error(core.error {
      code = "EBUSY", op = "run", subject = "script", cause = "another one runs already",
      hint = "stop it first, or make a second runtime",
    }, 0)
  end
  main = coroutine.create(fn)
  return advance(...)
end

local function run_command(name, words)
  return begin(function()
    local status = require "moonbee.cli".call(name, words)
    if status ~= nil and status ~= 0 then error("it ended with status " .. tostring(status), 0) end
  end)
end

function embed.file(path, ...)
  return run_command("run", { path, ... })
end

function embed.policy(path, ...)
  return run_command("policy", { path, ... })
end

function embed.fd() return main and turn.fd() or -1 end
function embed.timeout() return main and turn.timeout() or -1 end

function embed.step()
  if not main then return false end
  if turn.step() then return advance() end
  return true
end

-- The way out runs at once as far as it can: what waits for events still needs steps.
function embed.stop(reason)
  if not main then return false end
  loop.stop(reason)
  return embed.step()
end

-- The end, come what may: what still runs gets no more turns, but its <close>.
function embed.close()
  pcall(embed.stop, "stop")
  if main then
    local ended = main
    main = nil
    coroutine.close(ended)
  end
end

return embed
