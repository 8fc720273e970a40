-- SPDX-License-Identifier: BSD-2-Clause
--
-- Man pages and bash completion from the commands' tables (lua/moonbee/cmd), for make man:
--   moonbee run .ci/manual.lua DIRECTORY DATADIR
local cli = require "moonbee.cli"
local core = require "moonbee.core"

local out, datadir = ...

local function write(name, text)
  local file <close> = assert(io.open(out .. "/" .. name, "w"))
  assert(file:write(text))
  assert(file:flush())
end

-- ---- man pages ----------------------------------------------------------------------------------

local function roff(text)
  text = text:gsub("\\", "\\e"):gsub("%-", "\\-"):gsub("…", "..."):gsub("→", "->")
  return (text:gsub("^([.'])", "\\&%1"):gsub("\n([.'])", "\n\\&%1"))
end

local page = {}
page.__index = page

local function new_page(name)
  local title = name:upper():gsub("%-", "\\-")
  return setmetatable({ ('.TH "%s" "1" "" "moonbee %s" "User Commands"')
    :format(title, core.version) }, page)
end

function page:put(macro, text)
  if macro then self[#self + 1] = macro end
  if text then self[#self + 1] = roff(text) end
end

function page:section(title) self:put(".SH " .. title) end

function page:entry(term, text)
  self:put ".TP"
  self:put(nil, term)
  self:put(nil, text)
end

-- Aliases of an option, with the name of its argument.
local function option_term(spec)
  local aliases = {}
  for alias in spec.name:gmatch "%S+" do aliases[#aliases + 1] = alias end
  local argument = ""
  if spec.args ~= 0 then
    argument = " " .. (spec.argname or aliases[#aliases]:gsub("^%-+", ""):upper())
  end
  return table.concat(aliases, ", ") .. argument
end

local function help_of(spec)
  local text = spec.help or ""
  if spec.choices then text = text .. " One of: " .. table.concat(spec.choices, ", ") .. "." end
  if type(spec.default) == "string" then text = text .. " Default: " .. spec.default .. "." end
  return text
end

local function synopsis(cmd)
  return cli.parser(cmd):get_usage():gsub("^Usage: ", ""):gsub("%s+", " ")
end

local function exit_status(p)
  p:section "EXIT STATUS"
  p:put(nil, "0: done. 1: failed; the message on standard error says why. 2: wrong usage.")
end

local function command_page(cmd, commands)
  local p = new_page("moonbee-" .. cmd.name)
  p:section "NAME"
  p:put(nil, ("moonbee-%s - %s"):format(cmd.name, cmd.summary:gsub("%.$", "")))
  p:section "SYNOPSIS"
  p:put(nil, (synopsis(cmd)))
  p:section "DESCRIPTION"
  p:put(nil, cmd.description or cmd.summary)
  if cmd.args and #cmd.args > 0 then
    p:section "ARGUMENTS"
    for _, spec in ipairs(cmd.args) do p:entry(spec.name, help_of(spec)) end
  end
  p:section "OPTIONS"
  for _, spec in ipairs(cmd.options or {}) do p:entry(option_term(spec), help_of(spec)) end
  p:entry("-h, --help", "Show what the command takes.")
  if cmd.examples then
    p:section "EXAMPLES"
    p:put ".nf"
    for _, line in ipairs(cmd.examples) do p:put(nil, line) end
    p:put ".fi"
  end
  exit_status(p)
  p:section "SEE ALSO"
  local others = { "moonbee(1)" }
  for _, other in ipairs(commands) do
    if other ~= cmd then others[#others + 1] = ("moonbee-%s(1)"):format(other.name) end
  end
  p:put(nil, table.concat(others, ", "))
  return table.concat(p, "\n") .. "\n"
end

local function overview_page(commands)
  local p = new_page "moonbee"
  p:section "NAME"
  p:put(nil, "moonbee - script BPF programs from Lua")
  p:section "SYNOPSIS"
  p:put(nil, "moonbee COMMAND [ARGUMENTS]")
  p:section "DESCRIPTION"
  p:put(nil, "moonbee makes the kernel side of a BPF program scriptable: it loads, attaches,"
    .. " tunes, reads and upgrades BPF objects by control scripts, an interactive session, and"
    .. " policies that are reloaded in place.")
  p:section "COMMANDS"
  for _, cmd in ipairs(commands) do p:entry(("moonbee-%s(1)"):format(cmd.name), cmd.summary) end
  p:section "OPTIONS"
  p:entry("-h, --help", "List the commands.")
  p:entry("-V, --version", "Tell the versions of moonbee, Lua and libbpf.")
  exit_status(p)
  p:section "ENVIRONMENT"
  p:entry("NO_COLOR", "If it is set and not empty, nothing is colored.")
  p:entry("XDG_STATE_HOME", "Where the history of typed lines is kept (default: ~/.local/state).")
  p:entry("MB_TRACEBACK", "If it is 1, errors show all calls that led to them.")
  return table.concat(p, "\n") .. "\n"
end

-- ---- bash completion ----------------------------------------------------------------------------

-- What argparse cannot know: which policies run, which tools are installed.
local DYNAMIC = [[
_moonbee_names() {
    local dir="${MOONBEE_RUNTIME_DIR:-/run/moonbee}" cur="${COMP_WORDS[COMP_CWORD]}" words=""
    _moonbee "$@"
    case "${COMP_WORDS[1]}:$COMP_CWORD" in
    ctl:2|console:2) words="$(command ls "$dir" 2>/dev/null)" ;;
    run:2) words="$(command ls "DATADIR/scripts" 2>/dev/null)" ;;
    CHOICES
    esac
    if [ -n "$words" ]; then
        mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -W "$words" -- "$cur")
    fi
}

complete -F _moonbee_names -o bashdefault -o default moonbee
]]

local function completion(commands)
  local parser = require "argparse" "moonbee"
  local choices = {}
  for _, cmd in ipairs(commands) do
    cli.fill(parser:command(cmd.name, cmd.summary), cmd)
    for i, spec in ipairs(cmd.args or {}) do
      if spec.choices then
        choices[#choices + 1] = ('%s:%d) words="%s" ;;'):format(cmd.name, i + 1,
          table.concat(spec.choices, " "))
      end
    end
  end
  local text = parser:get_bash_complete():gsub("\ncomplete [^\n]*\n", "\n")
  return "# Made from moonbee's own tables of commands.\n" .. text
    .. DYNAMIC:gsub("DATADIR", (datadir:gsub("%%", "%%%%")))
      :gsub("CHOICES", (table.concat(choices, "\n    "):gsub("%%", "%%%%")))
end

local commands = cli.commands()
write("moonbee.1", overview_page(commands))
for _, cmd in ipairs(commands) do
  write(("moonbee-%s.1"):format(cmd.name), command_page(cmd, commands))
end
write("moonbee.bash", completion(commands))
