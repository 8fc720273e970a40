-- SPDX-License-Identifier: BSD-2-Clause
-- The command line: finds cmd/NAME.lua, reads its options, runs it, tells what went wrong.
--
-- A command is a table: name, summary, args and options (lists of {name, help, …}), examples (a
-- list), run(opts) -> exit code. opts has the fields that argparse makes of args and options. With
-- rest = true all that follows the first argument is left as it is, in opts.rest.
local core = require "moonbee.core"

local cli = { OK = 0, FAILED = 1, USAGE = 2 }

local SIGNALS = { SIGINT = 130, SIGTERM = 143, SIGPIPE = 141 } -- 128 + number, as shells have it
local EPIPE = 32

-- ---- what is written ----------------------------------------------------------------------------

local function say(text)
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
  say(raised.text or tostring(err))
  return getmetatable(err) == usage and cli.USAGE or cli.FAILED
end

-- What was printed may be refused only now. A reader that has gone needs no words.
local function flush(code)
  core.interrupt.hold(true) -- the end is here: a signal now would only spoil the message
  local ok, why, errno = io.stdout:flush()
  if ok then return code end
  if errno == EPIPE then return SIGNALS.SIGPIPE end
  say("write standard output: " .. tostring(why))
  return cli.FAILED
end

-- ---- commands -----------------------------------------------------------------------------------

local function command_path(name)
  return name:find "^%l[%l%d]*$" and package.searchpath("moonbee.cmd." .. name, package.path)
end

local function command(name)
  return command_path(name) and require("moonbee.cmd." .. name)
end

local function names()
  local uv = require "luv"
  local dir = package.searchpath("moonbee.cli", package.path):gsub("cli%.lua$", "cmd")
  local found, scan = {}, uv.fs_scandir(dir)
  while scan do
    local file = uv.fs_scandir_next(scan)
    if not file then break end
    found[#found + 1] = file:match "^(%l[%l%d]*)%.lua$"
  end
  table.sort(found)
  return found
end

local function nearest(word)
  return require "moonbee.near" (word, names())
end

local function is_tool(name)
  local path = core.scripts_dir and ("%s/%s/%s.lua"):format(core.scripts_dir, name, name)
  local file <close> = path and io.open(path) or nil
  return file ~= nil
end

-- The tables of all commands, by name.
function cli.commands()
  local list = {}
  for i, name in ipairs(names()) do list[i] = command(name) end
  return list
end

local function unknown(name)
  local near = nearest(name)
  local hint = "moonbee --help lists the commands"
  if near then
    hint = ("did you mean '%s'?"):format(near)
  elseif name:find "%.lua$" or is_tool(name) then
    hint = "moonbee run " .. name
  end
  say(("no command '%s'\nhint: %s"):format(name, hint))
  return cli.USAGE
end

-- ---- options and help ---------------------------------------------------------------------------

local function epilog(cmd)
  if not cmd.examples then return nil end
  return "Examples:\n   " .. table.concat(cmd.examples, "\n   ")
end

-- Fields that argparse knows by another word, or not at all.
local function configure(element, spec)
  for key, value in pairs(spec) do
    if key == "help" then
      element:description(value)
    elseif key ~= "name" then
      element[key](element, value)
    end
  end
end

-- A command's arguments and options, for a parser.
function cli.fill(parser, cmd)
  for _, spec in ipairs(cmd.args or {}) do configure(parser:argument(spec.name), spec) end
  for _, spec in ipairs(cmd.options or {}) do
    configure(spec.args == 0 and parser:flag(spec.name) or parser:option(spec.name), spec)
  end
  return parser
end

function cli.parser(cmd)
  local parser = require "argparse" ("moonbee " .. cmd.name, cmd.summary, epilog(cmd))
  if cmd.usage then parser:usage("Usage: moonbee " .. cmd.usage) end
  return cli.fill(parser, cmd)
end

-- The options, or nil and an exit code.
local function parse(cmd, argv)
  local parser = cli.parser(cmd)
  for _, word in ipairs(argv) do
    if word == "--help" or word == "-h" then
      print(parser:get_help())
      return nil, cli.OK
    elseif word == "--" then
      break
    end
  end
  local ok, opts = parser:pparse(argv)
  if ok then return opts end
  say(("%s\nhint: moonbee %s --help\n%s"):format(opts, cmd.name, parser:get_usage()))
  return nil, cli.USAGE
end

-- Without argparse, which would cost a script's start more than all else here.
local function parse_rest(cmd, argv)
  local first = argv[1]
  if not first or first:sub(1, 1) == "-" then return parse(cmd, { first }) end
  return { [cmd.args[1].name] = first, rest = table.move(argv, 2, #argv, 1, {}) }
end

local function overview()
  local lines = { "Usage: moonbee COMMAND [ARGUMENTS]", "", "Commands:" }
  for _, name in ipairs(names()) do
    local cmd = command(name)
    lines[#lines + 1] = ("   %-10s %s"):format(name, cmd.summary)
  end
  lines[#lines + 1] = "\nmoonbee COMMAND --help tells more. moonbee --version names the versions.\n"
    .. "moonbee help NAME shows the reference of the Lua API: bpf.open, map:get, map."
  return table.concat(lines, "\n")
end

local function version()
  return ("moonbee %s (%s, libbpf %s)"):format(core.version, _VERSION, core.libbpf_version)
end

-- ---- main ---------------------------------------------------------------------------------------

local function run(name, argv)
  local cmd = command(name)
  if not cmd then return unknown(name) end
  local opts, code = (cmd.rest and parse_rest or parse)(cmd, argv)
  if not opts then return code end
  local ok, result = xpcall(cmd.run, handler, opts)
  if not ok then return report(result, opts) end
  return math.type(result) == "integer" and result or cli.OK
end

-- A command's help, or what the reference says of a name: bpf.open, map:get, map.
local function explain(name)
  local text = not command(name) and require "moonbee.help".find(name)
  if not text then return run(name, { "--help" }) end
  print(text)
  return cli.OK
end

local function main(argv)
  local name = argv[1]
  if not name then
    io.stderr:write(overview(), "\n")
    return cli.USAGE
  elseif name == "--version" or name == "-V" then
    print(version())
  elseif name == "help" and argv[2] then
    return explain(argv[2])
  elseif name == "help" or name == "--help" or name == "-h" then
    print(overview())
  elseif name:sub(1, 1) == "-" then
    say(("no option '%s'\nhint: moonbee --help"):format(name))
    return cli.USAGE
  else
    return run(name, table.move(argv, 2, #argv, 1, {}))
  end
  return cli.OK
end

-- For an option of a tool: converts text to a number from least to most; what names such a number.
function cli.within(least, most, what, whole)
  return function(text)
    local n = tonumber(text)
    if n and whole then n = math.tointeger(n) end
    if n and n >= least and n <= most then return n end
    return nil, ("%s is expected, not '%s'"):format(what, text)
  end
end

-- Run a command for a program that embeds us: what goes wrong is raised, help is not offered.
function cli.call(name, argv)
  local cmd = command(name) or error("no command " .. name, 0)
  if cmd.rest then
    return cmd.run { [cmd.args[1].name] = argv[1], rest = table.move(argv, 2, #argv, 1, {}) }
  end
  local ok, opts = cli.parser(cmd):pparse(argv)
  if not ok then cli.usage(tostring(opts)) end
  return cmd.run(opts)
end

-- Run the command that argv names (argv[1]; its arguments follow). Returns the exit code.
function cli.main(argv)
  local ok, code = xpcall(main, handler, argv)
  if not ok then code = report(code) end
  return flush(code)
end

return cli
