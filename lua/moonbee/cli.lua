-- SPDX-License-Identifier: BSD-2-Clause
-- The command line: finds cmd/NAME.lua, reads its options, runs it, tells what went wrong.
--
-- A command is a table: name, summary, args and options (lists of {name, help, …}), examples (a
-- list), run(opts) -> exit code. opts has the fields that argparse makes of args and options. With
-- rest = true all that follows the first argument is left as it is, in opts.rest.
--
-- Every script's start waits for this file: what `moonbee run` does not need is in commands.lua
-- (help) and options.lua (argparse).
local core = require "moonbee.core"

local cli = { OK = 0, FAILED = 1, USAGE = 2 }

local SIGNALS = { SIGINT = 130, SIGTERM = 143, SIGPIPE = 141 } -- 128 + number, as shells have it
local EPIPE = 32

-- ---- what is written ----------------------------------------------------------------------------

function cli.say(text)
  io.stderr:write("moonbee: ", text, "\n")
end

local failure = { __tostring = function(self) return self.text end }

-- Raise an error that is shown as this text alone.
function cli.fail(text)
  error(setmetatable({ text = text }, failure), 0)
end

local usage = { __tostring = failure.__tostring }

-- The same for a wrong call: exit code 2.
function cli.usage(text)
  error(setmetatable({ text = text }, usage), 0)
end

-- Is err meant to be read by people?
local function speaks(err)
  local meta = type(err) == "table" and getmetatable(err)
  return core.type(err) == "error" or type(meta) == "table" and meta.__tostring ~= nil
end

local function handler(err)
  if speaks(err) and os.getenv "MB_TRACEBACK" ~= "1" then return { err = err } end
  return { err = err, text = require "moonbee.trace" (err, nil, 2) }
end

-- The verifier's last words, which its error only sums up.
local function log_tail(err)
  local log = core.type(err) == "error" and err.log
  if not log or not log:find("processed %d+ insns") then return end
  local lines = {}
  for line in log:gmatch "[^\n]+" do lines[#lines + 1] = line end
  io.stderr:write("… ", table.concat(lines, "\n  ", math.max(1, #lines - 19)), "\n")
end

local function report(raised, opts)
  local err = raised.err
  local signal = core.interrupt.name and core.interrupt.name(err)
  if signal then return SIGNALS[signal] or cli.FAILED end
  log_tail(err)
  if opts and opts.json and core.type(err) == "error" then
    print(require "moonbee.json".encode { error = err })
  end
  cli.say(raised.text or tostring(err))
  return getmetatable(err) == usage and cli.USAGE or cli.FAILED
end

-- What was printed may be refused only now. A reader that has gone needs no words.
local function flush(code)
  core.interrupt.hold(true) -- the end is here: a signal now would only spoil the message
  local ok, why, errno = io.stdout:flush()
  if ok then return code end
  if errno == EPIPE then return SIGNALS.SIGPIPE end
  cli.say("write standard output: " .. tostring(why))
  return cli.FAILED
end

-- ---- commands -----------------------------------------------------------------------------------

-- The command of that name, or nil.
function cli.command(name)
  return name:find "^%l[%l%d]*$" and package.searchpath("moonbee.cmd." .. name, package.path)
    and require("moonbee.cmd." .. name)
end

-- A command whose words after the first are its script's own, read without argparse, which would
-- cost a script's start more than all else here. nil: argparse has to tell what is wrong.
local function read_rest(cmd, argv)
  local first = argv[1]
  if not cmd.rest or not first or first:sub(1, 1) == "-" then return nil end
  return { [cmd.args[1].name] = first, rest = table.move(argv, 2, #argv, 1, {}) }
end

-- Run a command as the user called it. Returns the exit code.
function cli.run(cmd, argv)
  local opts, code = read_rest(cmd, argv), nil
  if not opts then opts, code = require "moonbee.options".parse(cmd, argv) end
  if not opts then return code end
  local ok, result = xpcall(cmd.run, handler, opts)
  if not ok then return report(result, opts) end
  return math.type(result) == "integer" and result or cli.OK
end

local function main(argv)
  local cmd = argv[1] and cli.command(argv[1])
  if not cmd then return require "moonbee.commands".main(argv) end
  return cli.run(cmd, table.move(argv, 2, #argv, 1, {}))
end

-- Run a command for a program that embeds us: what goes wrong is raised, help is not offered.
function cli.call(name, argv)
  local cmd = cli.command(name) or error("no command " .. name, 0)
  local opts = read_rest(cmd, argv)
  if not opts then
    local ok, read = require "moonbee.options".parser(cmd):pparse(argv)
    if not ok then cli.usage(tostring(read)) end
    opts = read
  end
  return cmd.run(opts)
end

-- Run the command that argv names (argv[1]; its arguments follow). Returns the exit code.
function cli.main(argv)
  local ok, code = xpcall(main, handler, argv)
  if not ok then code = report(code) end
  return flush(code)
end

return cli
