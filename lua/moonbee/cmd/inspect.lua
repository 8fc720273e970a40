-- SPDX-License-Identifier: BSD-2-Clause
-- moonbee inspect: what is in an object file. Nothing is loaded, so that no privilege is needed.
local bpf = require "moonbee"
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

local PROGRAM = { "name", "section", "type", "autoload" }

local function programs(obj)
  local list = rows()
  for _, entry in ipairs(sorted(obj.progs)) do
    local p = entry[2]
    list[#list + 1] = row(PROGRAM, {
      name = p.name, section = p.section, type = p.type, autoload = p.autoload,
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

local function variables(obj, value)
  local list = rows()
  for _, entry in ipairs(sorted(obj.sections)) do
    local section, view = entry[1], entry[2]
    local fields = section == ".kconfig" and {} or bpf.typeof(view).fields -- those are externs
    for _, field in ipairs(fields) do
      list[#list + 1] = row(VARIABLE, {
        name = field.name, section = section, type = field.type.name, size = field.type.size,
        value = value(field.type, view[field.name]),
      })
    end
  end
  return list
end

local EXTERN = { "name", "kind", "type", "weak" }

local function externs(obj)
  local list = rows()
  for _, e in ipairs(obj.externs) do
    list[#list + 1] = row(EXTERN, { name = e.name, kind = e.kind, type = e.type, weak = e.weak })
  end
  return list
end

local ORDER = { "path", "name", "license", "programs", "maps", "variables", "externs" }

local function describe(obj, path, value)
  return row(ORDER, {
    path = path, name = obj.name, license = obj.license, programs = programs(obj),
    maps = maps(obj), variables = variables(obj, value), externs = externs(obj),
  })
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
  { "programs", "PROGRAM TYPE SECTION AUTOLOAD", function(p)
    return p.name, p.type, p.section, p.autoload
  end },
  { "maps", "MAP TYPE KEY VALUE ENTRIES PINNED", function(m)
    return m.name, m.type, with_size(m.key_type, m.key_size),
      with_size(m.value_type, m.value_size), m.max_entries, m.pinning == "by_name" and "by name"
  end },
  { "variables", "VARIABLE SECTION TYPE SIZE VALUE", function(v)
    return v.name, v.section, v.type, v.size, v.value
  end },
  { "externs", "EXTERN KIND TYPE WEAK", function(e)
    return e.name, e.kind, e.type, e.weak
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

local function as_text(about)
  local parts = { ("%s: object '%s', license %s"):format(about.path, about.name,
    about.license ~= "" and about.license or "-") }
  for _, c in ipairs(columns) do
    if #about[c[1]] > 0 then parts[#parts + 1] = section(about[c[1]], c[2], c[3]) end
  end
  return table.concat(parts, "\n\n")
end

local function run(opts)
  local obj <close> = bpf.open(opts.file)
  if opts.json then
    local json = require "moonbee.json"
    print(json.encode(describe(obj, opts.file, json.value), { indent = true }))
  else
    print(as_text(describe(obj, opts.file, one_line)))
  end
end

return {
  name = "inspect",
  summary = "Show the programs, maps, variables and externs of an object file.",
  args = { { name = "file", help = "A BPF object file (clang -target bpf)." } },
  options = { { name = "--json", args = 0, help = "Print JSON." } },
  examples = { "moonbee inspect flow.bpf.o", "moonbee inspect flow.bpf.o --json | jq .maps" },
  run = run,
}
