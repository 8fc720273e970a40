-- SPDX-License-Identifier: BSD-2-Clause
-- moonbee inspect: what is in an object file (nothing is loaded, so that no privilege is needed),
-- or what a pinned or loaded program, map or link is, with the live values of its variables.
local bpf = require "moonbee"
local cli = require "moonbee.cli"
local externs = require "moonbee.externs"
local format = require "moonbee.format"

local WIDEST = 60 -- columns of a value

-- ---- what there is, as plain tables -------------------------------------------------------------

local function sorted(t)
  local list = {}
  for name, x in pairs(t) do list[#list + 1] = { name, x } end
  table.sort(list, function(a, b) return a[1] < b[1] end)
  return list
end

local function row(order, t)
  return setmetatable(t, { __jsonorder = order })
end

local function rows()
  return setmetatable({}, { __jsontype = "array" })
end

local PROGRAM = { "name", "section", "target", "type", "autoload" }

-- What the section's name says after its kind: a function, a tracepoint, a path.
local function target_of(section)
  return section and section:match "^[^/]+/(.+)$" or nil
end

local function programs(obj)
  local list = rows()
  for _, entry in ipairs(sorted(obj.progs)) do
    local p = entry[2]
    list[#list + 1] = row(PROGRAM, {
      name = p.name, section = p.section, target = target_of(p.section), type = p.type,
      autoload = p.autoload,
    })
  end
  return list
end

local MAP = {
  "name", "type", "key_type", "key_size", "value_type", "value_size", "max_entries", "pinning",
}

local function maps(obj)
  local list = rows()
  for _, entry in ipairs(sorted(obj.maps)) do
    local m = entry[2]
    list[#list + 1] = row(MAP, {
      name = m.name, type = m.type,
      key_type = m.key_type and m.key_type.name, key_size = m.key_size,
      value_type = m.value_type and m.value_type.name, value_size = m.value_size,
      max_entries = m.max_entries, pinning = m.pin_by_name and "by_name" or "none",
    })
  end
  return list
end

local VARIABLE = { "name", "section", "type", "size", "value" }

local function add_variables(list, view, section, value)
  for _, field in ipairs(bpf.typeof(view).fields) do
    list[#list + 1] = row(VARIABLE, {
      name = field.name, section = section, type = field.type.name, size = field.type.size,
      value = value(field.type, view[field.name]),
    })
  end
end

local function variables(obj, value)
  local list = rows()
  for _, entry in ipairs(sorted(obj.sections)) do
    -- Those of .kconfig are externs.
    if entry[1] ~= ".kconfig" then add_variables(list, entry[2], entry[1], value) end
  end
  return list
end

local RELOCATION = { "type", "kind", "field", "count" }

-- The same question is asked once for each instruction: they are counted.
local function relocations(obj)
  local list, known = rows(), {}
  for _, r in ipairs(obj.relocations) do
    local key = ("%s\0%s\0%s"):format(r.type, r.kind, r.field or "")
    if not known[key] then
      known[key] = row(RELOCATION, { type = r.type, kind = r.kind, field = r.field, count = 0 })
      list[#list + 1] = known[key]
    end
    known[key].count = known[key].count + 1
  end
  table.sort(list, function(a, b)
    if a.type ~= b.type then return a.type < b.type end
    if (a.field or "") ~= (b.field or "") then return (a.field or "") < (b.field or "") end
    return a.kind < b.kind
  end)
  return list
end

local ORDER = {
  "path", "name", "license", "programs", "maps", "variables", "externs", "relocations",
}

local function describe_object(obj, path, value, kernel_btf)
  return row(ORDER, {
    path = path, name = obj.name, license = obj.license, programs = programs(obj),
    maps = maps(obj), variables = variables(obj, value), externs = externs.rows(obj, kernel_btf),
    relocations = relocations(obj),
  })
end

-- ---- what is loaded -----------------------------------------------------------------------------

local function property(x, name)
  local ok, value = pcall(function() return x[name] end)
  return ok and value or nil
end

local LOADED = {
  program = { "kind", "name", "id", "type", "tag", "uid", "insns", "verified_insns", "jited",
    "memory", "gpl", "maps", "pin_path", "variables" },
  map = { "kind", "name", "id", "type", "key_type", "key_size", "value_type", "value_size",
    "max_entries", "entries", "flags", "pin_path" },
  link = { "kind", "name", "id", "type", "prog_id", "pin_path", "info" },
}

local function describe_program(prog, value)
  local about = { kind = "program", name = prog.name, id = prog.id, type = prog.type }
  local info = property(prog, "info") or {}
  for _, name in ipairs { "tag", "uid", "insns", "verified_insns", "jited", "memory", "gpl" } do
    about[name] = info[name]
  end
  if info.maps then about.maps = setmetatable(info.maps, { __jsontype = "array" }) end
  local ok, vars = pcall(bpf.vars, prog)
  if ok then
    about.variables = rows()
    add_variables(about.variables, vars, nil, value)
  end
  return about
end

local function describe_map(map)
  local about = { kind = "map" }
  local known = { "name", "id", "type", "key_size", "value_size", "max_entries", "flags" }
  for _, name in ipairs(known) do about[name] = property(map, name) end
  about.key_type = map.key_type and map.key_type.name
  about.value_type = map.value_type and map.value_type.name
  local ok, n = pcall(map.count, map)
  if ok then about.entries = n end
  return about
end

local function describe_link(link)
  local about = { kind = "link" }
  local known = { "name", "id", "type", "prog_id" }
  for _, name in ipairs(known) do about[name] = property(link, name) end
  about.info = property(link, "info")
  return about
end

local function describe_loaded(thing, path, value)
  local kind = bpf.type(thing)
  local describe = { program = describe_program, map = describe_map, link = describe_link }
  local about = describe[kind](thing, value)
  about.pin_path = path
  return row(LOADED[kind], about)
end

-- ---- as text ------------------------------------------------------------------------------------

local function one_line(T, x)
  local text = format.value(T, x, { width = math.huge, max = 16 })
  if utf8.len(text) and utf8.len(text) > WIDEST then
    text = text:sub(1, utf8.offset(text, WIDEST) - 1) .. "…"
  end
  return text
end

local function cell(x)
  if type(x) == "boolean" then return x and "yes" or "no" end
  return (tostring(x or "-"):gsub("%c", "?"))
end

local function with_size(name, size)
  return size == 0 and "-" or ("%s (%d)"):format(name or "bytes", size)
end

local columns = {
  { "programs", "PROGRAM TYPE SECTION TARGET AUTOLOAD", function(p)
    return p.name, p.type, p.section, p.target, p.autoload
  end },
  { "maps", "MAP TYPE KEY VALUE ENTRIES PINNED", function(m)
    return m.name, m.type, with_size(m.key_type, m.key_size),
      with_size(m.value_type, m.value_size), m.max_entries, m.pinning == "by_name" and "by name"
  end },
  { "variables", "VARIABLE SECTION TYPE SIZE VALUE", function(v)
    return v.name, v.section, v.type, v.size, v.value
  end },
  { "externs", "EXTERN KIND TYPE WEAK FATE", function(e)
    return e.name, e.kind, e.type, e.weak, externs.fate(e)
  end },
  { "relocations", "RELOCATION FIELD KIND TIMES", function(r)
    return r.type, r.field, r.kind, r.count
  end },
}

local function aligned(lines)
  local widths = {}
  for _, line in ipairs(lines) do
    for i, x in ipairs(line) do widths[i] = math.max(widths[i] or 0, utf8.len(x) or #x) end
  end
  for n, line in ipairs(lines) do
    for i = 1, #line - 1 do
      line[i] = line[i] .. (" "):rep(widths[i] - (utf8.len(line[i]) or #line[i]) + 2)
    end
    lines[n] = table.concat(line)
  end
  return table.concat(lines, "\n")
end

local function section(list, head, cells)
  local lines = { {} }
  for word in head:gmatch "%S+" do table.insert(lines[1], word) end
  for i, entry in ipairs(list) do
    local line = table.pack(cells(entry))
    for k = 1, #lines[1] do line[k] = cell(line[k]) end
    lines[i + 1] = line
  end
  return aligned(lines)
end

local function tables_of(about, parts)
  for _, c in ipairs(columns) do
    local list = about[c[1]]
    if type(list) == "table" and list[1] and type(list[1]) == "table" then
      parts[#parts + 1] = section(list, c[2], c[3])
    end
  end
  return table.concat(parts, "\n\n")
end

local function object_text(about)
  return tables_of(about, { ("%s: object '%s', license %s"):format(about.path, about.name,
    about.license ~= "" and about.license or "-") })
end

local function loaded_text(about)
  local lines = { ("%s '%s'"):format(about.kind, about.name or "") }
  for _, name in ipairs(LOADED[about.kind]) do
    local value = about[name]
    if name == "info" or name == "maps" then
      local parts = {}
      for k, v in pairs(value or {}) do
        parts[#parts + 1] = math.type(k) and tostring(v) or ("%s %s"):format(k, cell(v))
      end
      table.sort(parts)
      value = #parts > 0 and table.concat(parts, ", ") or nil
    end
    if value ~= nil and type(value) ~= "table" and name ~= "kind" and name ~= "name" then
      lines[#lines + 1] = ("  %-15s %s"):format(name:gsub("_", " "), cell(value))
    end
  end
  return tables_of(about, { table.concat(lines, "\n") })
end

-- ---- what is asked for --------------------------------------------------------------------------

local BPF_FS = 0xcafe4a11

-- A pin, or an id: 17, prog:17, map:5, link:3. Nil: a file.
local function loaded(what)
  local kind, id = what:match "^(%a+):(%d+)$"
  if not kind then kind, id = "prog", what:match "^%d+$" end
  local file <close> = io.open(what, "rb")
  if id and not file then
    local open = { prog = bpf.program, program = bpf.program, map = bpf.map, link = bpf.link }
    if not open[kind] then
      cli.usage("no kind '" .. kind .. "'\nhint: prog:ID, map:ID or link:ID")
    end
    return open[kind](math.tointeger(tonumber(id)) or cli.usage("no id: " .. id))
  end
  local fs = require "luv".fs_statfs(what)
  if fs and fs.type == BPF_FS then return bpf.pinned(what), what end
end

local function run(opts)
  local json = opts.json and require "moonbee.json"
  local value = json and json.value or one_line
  local thing <close>, path = loaded(opts.what)
  if thing then
    local about = describe_loaded(thing, path, value)
    print(json and json.encode(about, { indent = true }) or loaded_text(about))
    return
  end
  local obj <close> = bpf.open(opts.what)
  local about = describe_object(obj, opts.what, value, opts.kernel_btf)
  print(json and json.encode(about, { indent = true }) or object_text(about))
end

return {
  name = "inspect",
  summary = "Show what is in an object file, or what a pin or an id stands for.",
  args = { { name = "what",
    help = "A BPF object file, a pin in bpffs, or an id: 17 (a program), map:5, link:3." } },
  options = {
    { name = "--json", args = 0, help = "Print JSON." },
    { name = "--kernel-btf", argname = "FILE",
      help = "Tell externs' fate for another kernel, by its BTF (raw, or an ELF file)." },
  },
  examples = {
    "moonbee inspect flow.bpf.o",
    "moonbee inspect flow.bpf.o --json | jq .maps",
    "moonbee inspect /sys/fs/bpf/flow/stats",
    "moonbee inspect 17",
  },
  run = run,
}
