-- SPDX-License-Identifier: BSD-2-Clause
-- moonbee console: the REPL inside a running policy, over its control socket.
local cli = require "moonbee.cli"
local core = require "moonbee.core"

local SIGNALS = { SIGINT = 130, SIGTERM = 143, SIGPIPE = 141 }

-- ---- the backend: what repl.lua asks ------------------------------------------------------------

local function backend_of(client, front_of)
  local backend = { name = client.name, remote = true }

  function backend.run(source, wake)
    client:send("console_eval", { source = source }, function(text)
      front_of():write(text)
    end, function(ok, result)
      if not ok then front_of():warn("error: " .. tostring(result) .. "\n") end
      wake(ok and result.ok or false)
    end)
    return function() client:send("console_interrupt", {}, nil, function() end) end
  end

  function backend.complete(text, point, wake)
    client:send("console_complete", { text = text, point = point }, nil, function(ok, result)
      if ok then wake(result.inserted, result.choices) else wake() end
    end)
  end

  function backend.columns(columns, rows)
    client:send("console_size", { columns = columns, rows = rows }, nil, function() end)
  end

  return backend
end

-- What comes unasked: lines of watches, and notes.
local function hear(front, part)
  local message = require "dkjson".decode(part)
  if type(message) ~= "table" then return end
  if message.text then front:write(message.text) end
  if message.live then front:show_live(message.live) end
end

local function open(client, opts, front_of)
  local repl = require "moonbee.repl"
  local _, color = repl.terminal()
  local columns, rows = repl.size()
  local opened
  client:send("console_open", {
    write = opts.write or nil, color = color or nil, columns = columns, rows = rows,
    unicode = repl.has_unicode() or nil,
  }, function(part)
    opened = true
    if front_of() then hear(front_of(), part) end
  end, function(ok, err)
    if not ok and not opened then opened = err end
  end)
  local uv = require "luv"
  while opened == nil do uv.run "once" end
  if opened ~= true then error(opened, 0) end
end

local function run(opts)
  local client <close> = require "moonbee.client".connect(opts.name, opts.user)
  local repl = require "moonbee.repl"
  local front
  open(client, opts, function() return front end)
  front = repl.new(backend_of(client, function() return front end))
  client:on_message(function(_, err)
    if not err then return end
    front:warn(("%s: %s\n"):format(client.name, "the policy has ended, or closed the connection"))
    front:finish "gone"
  end)
  front:greet(("moonbee %s, console of policy '%s', process %s%s\n%s"):format(core.version,
    client.name, client.hello.pid, opts.write and ", changes are in force at once" or ", read-only",
    "help() says what is at hand, Tab completes, Ctrl-D ends"))
  local signal, well = repl.serve(front)
  client:on_message(nil)
  client.pending = {} -- nobody waits for their replies any more
  if signal then return SIGNALS[signal] or cli.FAILED end
  return well and cli.OK or cli.FAILED
end

return {
  name = "console",
  summary = "Look into a running policy, line by line.",
  args = { { name = "name", help = "The policy's name." } },
  options = { { name = "--write", args = 0,
    help = "Variables and maps may be changed; changes go into the journal." },
    { name = "--user", argname = "USER", help = "As root: a policy that this user runs (name or "
      .. "number); MOONBEE_RUNTIME_DIR names another run directory." } },
  examples = {
    "moonbee console ratelimit",
    "moonbee console ratelimit --write",
    "echo 'vars.cfg' | moonbee console ratelimit",
  },
  run = run,
}
