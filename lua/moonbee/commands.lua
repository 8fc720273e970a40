-- SPDX-License-Identifier: BSD-2-Clause
-- All commands at once: their list, the overview, and what is said when none was named.
local core = require "moonbee.core"
local cli = require "moonbee.cli"
local files = require "moonbee.files"

local commands = {}

local function names()
  local dir = package.searchpath("moonbee.cli", package.path):gsub("cli%.lua$", "cmd")
  return files(dir, "^(%l[%l%d]*)%.lua$")
end

local function is_tool(name)
  local path = core.scripts_dir and ("%s/%s/%s.lua"):format(core.scripts_dir, name, name)
  local file <close> = path and io.open(path) or nil
  return file ~= nil
end

-- The tables of all commands, by name.
function commands.list()
  local list = {}
  for i, name in ipairs(names()) do list[i] = cli.command(name) end
  return list
end

local function unknown(name)
  local near = require "moonbee.near" (name, names())
  local hint = "moonbee --help lists the commands"
  if near then
    hint = ("did you mean '%s'?"):format(near)
  elseif name:find "%.lua$" or is_tool(name) then
    hint = "moonbee run " .. name
  end
  cli.say(("no command '%s'\nhint: %s"):format(name, hint))
  return cli.USAGE
end

local function overview()
  local lines = { "Usage: moonbee COMMAND [ARGUMENTS]", "", "Commands:" }
  for _, name in ipairs(names()) do
    local cmd = cli.command(name)
    lines[#lines + 1] = ("   %-10s %s"):format(name, cmd.summary)
  end
  lines[#lines + 1] = "\nmoonbee COMMAND --help tells more. moonbee --version names the versions.\n"
    .. "moonbee help NAME shows the reference of the Lua API: bpf.open, map:get, map."
  return table.concat(lines, "\n")
end

local function version()
  return ("moonbee %s (%s, libbpf %s)"):format(core.version, _VERSION, core.libbpf_version)
end

-- What the reference says of a name (bpf.open, map:get, map), or a command's help.
local function explain(name)
  local cmd = cli.command(name)
  local text = not cmd and require "moonbee.help".find(name)
  if cmd then return cli.run(cmd, { "--help" }) end
  if not text then return unknown(name) end
  print(text)
  return cli.OK
end

-- argv names no command: help, a version, a mistake. Returns the exit code.
function commands.main(argv)
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
    cli.say(("no option '%s'\nhint: moonbee --help"):format(name))
    return cli.USAGE
  else
    return unknown(name)
  end
  return cli.OK
end

return commands
