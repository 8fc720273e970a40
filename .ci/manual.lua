-- SPDX-License-Identifier: BSD-2-Clause
--
-- Man pages and bash completion, for make man:
--   moonbee run .ci/manual.lua DIRECTORY DATADIR
-- Section 1 comes from the commands' tables (lua/moonbee/cmd) and from the tools and policies of
-- scripts/: their parsers, the comments at their heads and of a policy's params. Section 3 comes
-- from the reference in lua/moonbee/meta.
local options = require "moonbee.options"
local core = require "moonbee.core"
local uv = require "luv"

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

local TITLES = { [1] = "User Commands", [3] = "Lua API" }

local function new_page(name, section)
  local title = name:upper():gsub("%-", "\\-")
  section = section or 1
  return setmetatable({ ('.TH "%s" "%d" "" "moonbee %s" "%s"')
    :format(title, section, core.version, TITLES[section]) }, page)
end

function page:put(macro, text)
  if macro then self[#self + 1] = macro end
  if text then self[#self + 1] = roff(text) end
end

function page:section(title) self:put(".SH " .. title) end

function page:entry(term, text)
  self:put ".TP"
  self:put(nil, term)
  if text == "" then self:put "\\&" else self:put(nil, text) end
end

-- Lines as they are.
function page:verbatim(lines)
  self:put ".nf"
  for _, line in ipairs(lines) do self:put(nil, line) end
  self:put ".fi"
end

-- Lines of a comment: paragraphs, and what is indented as it is.
function page:prose(lines)
  local as_is
  for _, line in ipairs(lines) do
    local indented = line:find "^ " ~= nil
    if line == "" then
      if self[#self] ~= ".PP" then self:put ".PP" end
    else
      if indented ~= (as_is or false) then self:put(indented and ".nf" or ".fi") end
      as_is = indented
      self:put(nil, line)
    end
  end
  if as_is then self:put ".fi" end
  if self[#self] == ".PP" then self[#self] = nil end
end

function page:text()
  return table.concat(self, "\n") .. "\n"
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
  return options.parser(cmd):get_usage():gsub("^Usage: ", ""):gsub("%s+", " ")
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
    p:verbatim(cmd.examples)
  end
  exit_status(p)
  p:section "SEE ALSO"
  local others = { "moonbee(1)" }
  for _, other in ipairs(commands) do
    if other ~= cmd then others[#others + 1] = ("moonbee-%s(1)"):format(other.name) end
  end
  p:put(nil, table.concat(others, ", "))
  return p:text()
end

local function overview_page(commands, tools)
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
  p:section "TOOLS"
  for _, tool in ipairs(tools) do p:entry(("moonbee-%s(1)"):format(tool.name), tool.summary) end
  p:section "OPTIONS"
  p:entry("-h, --help", "List the commands.")
  p:entry("-V, --version", "Tell the versions of moonbee, Lua and libbpf.")
  exit_status(p)
  p:section "ENVIRONMENT"
  p:entry("NO_COLOR", "If it is set and not empty, nothing is colored.")
  p:entry("XDG_STATE_HOME", "Where the history of typed lines is kept (default: ~/.local/state).")
  p:entry("MB_TRACEBACK", "If it is 1, errors show all calls that led to them.")
  p:section "FILES"
  p:entry(datadir .. "/scripts", "The tools and policies, and tutorials.")
  p:entry(datadir .. "/include/moonbee.bpf.h", "What BPF programs include.")
  p:section "SEE ALSO"
  p:put(nil, "moonbee(3), bpf(2), bpftool(8)")
  return p:text()
end

-- ---- tools and policies -------------------------------------------------------------------------

-- The comment at a file's head: "-- NAME: summary.", paragraphs, and examples, which are indented.
local function read_tool(path, name)
  local tool = { name = name, path = path, about = {}, examples = {}, params = {} }
  local head, summary = true, nil
  for line in io.lines(path) do
    local text = line:match "^%-%- ?(.*)$" or line:match "^ %* ?([^/]*)$"
    if line:find "^#!" or line:find "SPDX" or line == "/*" then
      text = nil
    elseif not text then
      head = false
    end
    if head and text then
      summary = summary or text:match("^" .. name .. ": (.*)$") and "" or nil
      if text:find "^  " then
        table.insert(tool.examples, (text:gsub("^ +", "")))
      elseif summary then
        table.insert(tool.about, (text:gsub("^" .. name .. ": ", "")))
      end
    end
    local param, default, meaning = line:match "^    ([%w_]+) = ([^,]+),%s*%-%- (.*)$"
    if param then table.insert(tool.params, { param, default, meaning }) end
  end
  if summary then tool.about[1] = tool.about[1]:gsub("^%l", string.upper) end
  tool.summary = (table.concat(tool.about, " ") .. " "):match "^(.-)[.;]%s"
  assert(summary and tool.examples[1], path .. ": its head does not say what it is, by examples")
  return tool
end

-- The parser that a tool makes before it does anything else.
local function parser_of(path)
  local class = getmetatable(require "argparse" "any")
  local pparse, found = class.pparse, nil
  class.pparse = function(parser)
    found = parser
    error "that will do"
  end
  local chunk = loadfile(path)
  if chunk then pcall(chunk) end
  class.pparse = pparse
  return found
end

local function element_entries(p, title, elements)
  if #elements == 0 then return end
  p:section(title)
  for _, element in ipairs(elements) do
    local label = table.concat(element:_get_label_lines(), " "):gsub("%s+", " "):gsub("^ ", "")
    local help = element:_get_description()
    if element._choices then
      help = ("%s One of: %s."):format(help, table.concat(element._choices, ", "))
    end
    p:entry(label, help)
  end
end

local function tool_page(tool)
  local p, parser = new_page("moonbee-" .. tool.name), parser_of(tool.path)
  p:section "NAME"
  p:put(nil, ("moonbee-%s - %s"):format(tool.name, tool.summary))
  p:section "SYNOPSIS"
  p:put(nil, (parser:get_usage():gsub("^Usage: ", ""):gsub("%s+", " ")))
  p:section "DESCRIPTION"
  p:put(nil, parser._description)
  if parser._epilog then
    p:put ".PP"
    p:put(nil, parser._epilog)
  end
  element_entries(p, "ARGUMENTS", parser._arguments)
  element_entries(p, "OPTIONS", parser._options)
  p:section "EXAMPLES"
  p:verbatim(tool.examples)
  exit_status(p)
  p:section "FILES"
  p:put(nil, ("%s/%s"):format(datadir, tool.path))
  p:section "SEE ALSO"
  p:put(nil, "moonbee(1), moonbee-run(1)")
  return p:text()
end

-- A policy's page, and that of the example daemon.
local function written_page(tool)
  local p = new_page("moonbee-" .. tool.name)
  p:section "NAME"
  p:put(nil, ("moonbee-%s - %s"):format(tool.name, tool.summary))
  p:section "SYNOPSIS"
  p:verbatim { tool.examples[1] }
  p:section "DESCRIPTION"
  p:prose(tool.about)
  if #tool.params > 0 then
    p:section "PARAMETERS"
    for _, param in ipairs(tool.params) do
      p:entry(("--param %s=%s"):format(param[1], param[2]), param[3])
    end
  end
  p:section "EXAMPLES"
  local first = tool.examples[1]:find "%[" and 2 or 1 -- the synopsis alone
  p:verbatim(table.move(tool.examples, first, #tool.examples, 1, {}))
  p:section "FILES"
  p:put(nil, ("%s/%s"):format(datadir, tool.path))
  p:section "SEE ALSO"
  p:put(nil, "moonbee(1), moonbee-policy(1), moonbee-ctl(1), moonbee-console(1)")
  return p:text()
end

local function tools()
  local list = { read_tool("scripts/ratelimit/adaptive.lua", "adaptive"),
    read_tool("scripts/embed/flowd.c", "flowd") }
  for name in uv.fs_scandir_next, assert(uv.fs_scandir "scripts") do
    local path = ("scripts/%s/%s.lua"):format(name, name)
    if uv.fs_stat(path) then list[#list + 1] = read_tool(path, name) end
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

-- ---- the Lua API --------------------------------------------------------------------------------

local function typed_entries(p, list)
  for _, item in ipairs(list) do
    p:entry(("%s: %s"):format(item.name, item.type), item.text)
  end
end

local function reference_entry(p, about)
  if about.signature then p:put(".SS " .. roff(about.signature)) end
  if not about.signature and about ~= p.class then p:put(".SS " .. roff(about.name)) end
  p:prose(about.text)
  typed_entries(p, about.fields)
  typed_entries(p, about.params)
  for _, item in ipairs(about.returns) do item.name = "returns" end
  typed_entries(p, about.returns)
  if about.example then
    p:put ".PP"
    p:verbatim(about.example)
  end
end

local function reference_page(noun, entries)
  local name = noun == "moonbee" and noun or "moonbee-" .. noun
  local p = new_page(name, 3)
  p:section "NAME"
  p:put(nil, ("%s - %s"):format(name, entries.title))
  p:section "DESCRIPTION"
  for _, about in ipairs(entries) do
    if not about.signature and not p.class then p.class = about end
  end
  if p.class then reference_entry(p, p.class) end
  p:section "REFERENCE"
  for _, about in ipairs(entries) do
    if about ~= p.class then reference_entry(p, about) end
  end
  p:section "SEE ALSO"
  p:put(nil, "moonbee(1), moonbee(3); help(x) in moonbee-repl(1)")
  return p:text()
end

-- ---- bash completion ----------------------------------------------------------------------------

-- What argparse cannot know: which policies run, which tools are installed.
local DYNAMIC = [[
_moonbee_names() {
    local dir="${MOONBEE_RUNTIME_DIR:-/run/moonbee}" cur="${COMP_WORDS[COMP_CWORD]}" words=""
    _moonbee "$@"
    case "${COMP_WORDS[1]}:$COMP_CWORD" in
    ctl:2|console:2) words="$(command ls "$dir" 2>/dev/null)" ;;
    run:2) words="$(cd "DATADIR/scripts" 2>/dev/null && for d in *; do
        [ ! -e "$d/$d.lua" ] || echo "$d"; done)" ;;
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
    options.fill(parser:command(cmd.name, cmd.summary), cmd)
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

local commands, gallery = require "moonbee.commands".list(), tools()
write("moonbee.1", overview_page(commands, gallery))
for _, cmd in ipairs(commands) do
  write(("moonbee-%s.1"):format(cmd.name), command_page(cmd, commands))
end
for _, tool in ipairs(gallery) do
  local make = parser_of(tool.path) and tool_page or written_page
  write(("moonbee-%s.1"):format(tool.name), make(tool))
end
for noun, entries in pairs(require "moonbee.help".nouns()) do
  local name = noun == "moonbee" and noun or "moonbee-" .. noun
  write(name .. ".3", reference_page(noun, entries))
end
write("moonbee.bash", completion(commands))
