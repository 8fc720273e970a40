-- SPDX-License-Identifier: BSD-2-Clause
-- help(x): signature, types and text, from the annotations in moonbee/meta, which are the
-- reference.
local core = require "moonbee.core"

local help = {}

-- ---- the reference ------------------------------------------------------------------------------

-- A table of entries by name: { name, signature, text (list of lines), params, returns, class }.
local entries, order

local function read(noun)
  local file = package.searchpath("moonbee.meta." .. noun, package.path)
  local handle <close> = file and io.open(file) or nil
  return handle and handle:read "a"
end

local function add(entry)
  if not entries[entry.name] then order[#order + 1] = entry.name end
  entries[entry.name] = entry
end

local LISTS = { param = "params", ["return"] = "returns", field = "fields" }

-- The lines of one comment block -> what they say.
local function parse(block)
  local about = { text = {}, params = {}, returns = {}, fields = {} }
  local example, tagged = false, nil
  for _, line in ipairs(block) do
    local tag, rest = line:match "^@(%a+)%s*(.*)$"
    if line:find "^```" then
      example = line:find "^```lua" ~= nil
      about.example = about.example or {}
    elseif example then
      table.insert(about.example, line)
    elseif tag then
      tagged = about[LISTS[tag]]
      if tagged then table.insert(tagged, rest) end
      if tag == "class" then about.class = rest:match "^[%w_.]+" end
    elseif tagged then                  -- a tag's text goes on
      tagged[#tagged] = tagged[#tagged] .. line:gsub("^ ?", " ")
    else
      table.insert(about.text, line)
    end
  end
  return about
end

-- Local names of the files -> the prefix that a user writes.
local PREFIX = { bpf = "bpf.", loop = "loop.", kernel = "kernel.", T = "type:" }

local function name_of(variable, mark, name)
  return (PREFIX[variable] and PREFIX[variable] .. name) or variable .. mark .. name
end

local function scan(noun, text)
  local block = {}
  local function add_of(about)
    about.noun = noun
    add(about)
  end
  for line in text:gmatch "([^\n]*)\n?" do
    local comment = line:match "^%-%-%-(.*)$"
    local variable, mark, name, params = line:match "^function ([%a_]+)([.:])([%w_]+)(%b())"
    if comment then
      block[#block + 1] = comment
    else
      if name then
        local about = parse(block)
        about.name = name_of(variable, mark, name)
        about.signature = about.name .. params
        add_of(about)
      elseif #block > 0 then
        local about = parse(block)
        if about.class then
          about.name = about.class
          add_of(about)
        end
      end
      block = {}
    end
  end
end

local function reference()
  if entries then return entries end
  entries, order = {}, {}
  local dir = package.searchpath("moonbee.meta.moonbee", package.path):match "^(.*)/"
  for _, noun in ipairs(require "moonbee.files" (dir, "^([%w_]+)%.lua$")) do
    scan(noun, read(noun))
  end
  return entries
end

-- ---- text ---------------------------------------------------------------------------------------

-- "name? type text" -> name, type, text. A type may hold spaces within braces, brackets and commas.
local function split(param)
  local name, rest = param:match "^(%S+)%s*(.*)$"
  local depth, at = 0, 1
  while at <= #rest do
    local c = rest:sub(at, at)
    if c:find "[%(%[{<]" then depth = depth + 1 end
    if c:find "[%)%]}>]" then depth = depth - 1 end
    if c == " " and depth == 0 and not rest:sub(1, at - 1):find "[,|:]$"
      and not rest:find("^ *|", at) then break end
    at = at + 1
  end
  return name, rest:sub(1, at - 1), rest:sub(at + 1)
end

local function typed_lines(list, title, out, named)
  for i, param in ipairs(list) do
    local name, kind, text = split(named and param or "- " .. param)
    local head = i == 1 and title or (" "):rep(#title)
    out[#out + 1] = ("%s %s%s%s"):format(head, named and name .. ": " or "", kind,
      text ~= "" and "  " .. text or "")
  end
end

local function render(about)
  local out = { about.signature or about.name }
  for _, line in ipairs(about.text) do out[#out + 1] = line ~= "" and "  " .. line or "" end
  typed_lines(about.params, "  takes  ", out, true)
  typed_lines(about.returns, "  returns", out, false)
  if about.example and #about.example > 0 then
    out[#out + 1] = "  for example:"
    for _, line in ipairs(about.example) do out[#out + 1] = "    " .. line end
  end
  return table.concat(out, "\n")
end

-- The first sentence.
local function summary(about)
  local lines = {}
  for _, line in ipairs(about.text) do
    if line == "" then break end
    lines[#lines + 1] = line
  end
  local text = table.concat(lines, " ")
  return text:match "^(.-%.)%s" or text
end

local function listing(prefix)
  local out = {}
  for _, name in ipairs(order) do
    if name:sub(1, #prefix) == prefix and entries[name].signature then
      out[#out + 1] = ("  %-34s %s"):format(entries[name].signature, summary(entries[name]))
    end
  end
  return table.concat(out, "\n")
end

local function class_help(kind)
  local about = entries["moonbee." .. kind]
  local out = { about and render(about) or kind }
  if about then
    for _, field in ipairs(about.fields) do
      local name, typename, text = split(field)
      out[#out + 1] = ("  .%-18s %s%s"):format(name, typename, text ~= "" and "  " .. text or "")
    end
  end
  local methods = listing(kind .. ":")
  if methods ~= "" then out[#out + 1] = methods end
  return table.concat(out, "\n")
end

local function typed(list, named)
  local out = {}
  for i, item in ipairs(list) do
    local name, kind, text = split(named and item or "- " .. item)
    out[i] = { name = name, type = kind, text = text }
  end
  return out
end

-- The reference by nouns, for the manual: { map = { title = …, entry, … }, … } in the files' order,
-- an entry { name, signature (of functions), text, params, returns, fields, example }.
function help.nouns()
  local all = {}
  reference()
  for _, name in ipairs(order) do
    local about = entries[name]
    local noun = all[about.noun] or {}
    all[about.noun] = noun
    noun.title = noun.title or summary(about)
    noun[#noun + 1] = {
      name = about.name, signature = about.signature, text = about.text, example = about.example,
      params = typed(about.params, true), returns = typed(about.returns, false),
      fields = typed(about.fields, true),
    }
  end
  return all
end

-- ---- what a value is ----------------------------------------------------------------------------

-- Functions -> names of the reference. Methods are found by their class.
local function known_functions()
  local known = {}
  local function note(prefix, module)
    for name, value in next, module do
      name = prefix .. name
      -- Some have two names.
      if type(value) == "function" and (not known[value] or name < known[value]) then
        known[value] = name
      end
    end
  end
  note("bpf.", core)
  for prefix, name in pairs { ["loop."] = "moonbee.loop", ["kernel."] = "moonbee.kernel" } do
    if package and package.loaded[name] then note(prefix, package.loaded[name]) end
  end
  for class, methods in pairs(core.classes(true)) do note(class .. ":", methods) end
  return known
end

-- A function of the user's: where it is, and the comment above it.
local function described(f)
  if not (debug and debug.getinfo) then return "a function" end
  local info = debug.getinfo(f, "Su")
  local names = {}
  for i = 1, info.nparams do names[i] = debug.getlocal(f, i) end
  if info.isvararg then names[#names + 1] = "..." end
  if info.what == "C" then return "a function of C, of which nothing more is known" end
  local out = { ("function(%s) at %s:%d"):format(table.concat(names, ", "), info.short_src,
    info.linedefined) }
  local path = info.source:match "^@(.*)"
  local file <close> = path and io and io.open(path) or nil
  if not file then return out[1] end
  local comment, at = {}, 0
  for line in file:lines() do
    at = at + 1
    if at == info.linedefined then
      for _, text in ipairs(comment) do out[#out + 1] = "  " .. text end
      break
    end
    local text = line:match "^%s*%-%-+%s?(.*)$"
    if text then comment[#comment + 1] = text else comment = {} end
  end
  return table.concat(out, "\n")
end

local WORDS = [[
  watch(ref | function [, seconds])   a live line, or a table; w:stop() ends it, unwatch() all
  plot(ref | function [, seconds])    a live plot over time, with least, greatest and rate
  hist(array [, field])               how the numbers of an array are spread over powers of two
  help(x)                             text on a function, a class or a name: help(bpf.open)
  exit([code])                        or Ctrl-D; Ctrl-C interrupts, Tab completes
  _                                   the last value]]

local function overview(s)
  local out = { "At hand:" }
  local names = {}
  for name, value in next, s.env do
    if type(name) == "string" and core.type(value) then names[#names + 1] = name end
  end
  for _, name in ipairs { "vars", "maps", "progs" } do
    if s.env[name] and not core.type(s.env[name]) then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local kind = core.type(s.env[name])
    out[#out + 1] = ("  %-18s %s"):format(name, kind and kind ~= "view" and tostring(s.env[name])
      or kind == "view" and "variables, live: vars.x, vars.x = 1" or "by name: " .. name .. ".x")
  end
  for name in pairs(s.lazy) do out[#out + 1] = ("  %-18s help \"%s\""):format(name, name) end
  out[#out + 1] = WORDS
  return table.concat(out, "\n")
end

local function no_help(name)
  local near = {}
  for _, known in ipairs(order) do
    if known:find(name, 1, true) then near[#near + 1] = known end
  end
  return ("no help on '%s'%s"):format(name, #near > 0
    and "; there is: " .. table.concat(near, ", ", 1, math.min(#near, 12)) or "")
end

local MODULES = { bpf = "bpf.", moonbee = "bpf.", loop = "loop.", kernel = "kernel." }

-- The text for a name, or nil: "bpf.open", "map:get", "map", "loop", "open".
function help.find(name)
  local known = reference()
  if known[name] and known[name].signature then return render(known[name]) end
  if MODULES[name] then return name .. ":\n" .. listing(MODULES[name]) end
  local is_noun = name:find "^%a+$" and read(name) and known["moonbee." .. name]
  if is_noun then return class_help(name) end
  local about = known["bpf." .. name] or known[(name:gsub("%.", ":"))]
  if about then return render(about) end
  if known["moonbee." .. name] then return class_help(name) end
  for _, full in ipairs(order) do
    if full:match "[%w_]+$" == name then return render(known[full]) end
  end
end

-- The text for a name, or what names there are that look like it.
function help.lookup(name)
  return help.find(name) or no_help(name)
end

-- One of the session's own words.
local function word_help(s, f)
  for line in WORDS:gmatch "[^\n]+" do
    local name = line:match "^%s*([%w_]+)"
    if rawget(s.env, name) == f then return (line:gsub("^%s+", "")) end
  end
end

local function function_help(s, f, lookup)
  local name = known_functions()[f]
  return name and lookup(name) or word_help(s, f) or described(f)
end

-- The text for help(x). n: how many arguments there were. lookup: who has the reference.
function help.text(s, lookup, n, x)
  if n == 0 then return overview(s) end
  local kind = core.type(x)
  if type(x) == "string" then
    return lookup(x)
  elseif kind == "view" then
    return tostring(core.typeof(x)) .. "\n" .. lookup "view"
  elseif kind == "type" then
    return tostring(x)
  elseif kind then
    return lookup((kind:gsub("^closed ", "")))
  elseif x == core then
    return lookup "bpf"
  elseif type(x) == "table" and package and x == package.loaded["moonbee.loop"] then
    return lookup "loop"
  elseif type(x) == "table" and package and x == package.loaded["moonbee.kernel"] then
    return lookup "kernel"
  elseif type(x) == "function" then
    return function_help(s, x, lookup)
  end
  return ("a %s; help \"name\" tells what a name means"):format(type(x))
end

return help
