-- SPDX-License-Identifier: BSD-2-Clause
-- A command's arguments and options, by argparse; what tools want of a number.
local cli = require "moonbee.cli"

local options = {}

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
function options.fill(parser, cmd)
  for _, spec in ipairs(cmd.args or {}) do configure(parser:argument(spec.name), spec) end
  for _, spec in ipairs(cmd.options or {}) do
    configure(spec.args == 0 and parser:flag(spec.name) or parser:option(spec.name), spec)
  end
  return parser
end

function options.parser(cmd)
  local parser = require "argparse" ("moonbee " .. cmd.name, cmd.summary, epilog(cmd))
  if cmd.usage then parser:usage("Usage: moonbee " .. cmd.usage) end
  return options.fill(parser, cmd)
end

-- The options that a user gave, or nil and an exit code: all has been said then.
function options.parse(cmd, argv)
  local parser = options.parser(cmd)
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
  cli.say(("%s\nhint: moonbee %s --help\n%s"):format(opts, cmd.name, parser:get_usage()))
  return nil, cli.USAGE
end

-- For an option of a tool: converts text to a number from least to most; what names such a number.
function options.within(least, most, what, whole)
  return function(text)
    local n = tonumber(text)
    if n and whole then n = math.tointeger(n) end
    if n and n >= least and n <= most then return n end
    return nil, ("%s is expected, not '%s'"):format(what, text)
  end
end

return options
