-- SPDX-License-Identifier: BSD-2-Clause
-- moonbee ps: programs, maps and links that the kernel holds, whoever made them; where they are
-- pinned and which processes hold them.
local bpf = require "moonbee"
local rows = require "moonbee.rows"

-- kind -> id -> list of what knows it
local function by_id(list)
  local found = { map = {}, program = {}, link = {} }
  for _, entry in ipairs(list) do
    local of = found[entry.kind]
    of[entry.id] = of[entry.id] or {}
    table.insert(of[entry.id], entry)
  end
  return found
end

-- Without bpffs, or the right to look into it, there are no pins to show.
local function pins_of(dir)
  local ok, list = pcall(bpf.pins, dir)
  return by_id(ok and list or {})
end

local HOLDER = { "pid", "name" }

local function array() return setmetatable({}, { __jsontype = "array" }) end

local function complete(list, kind, order, pins, holders)
  setmetatable(list, { __jsontype = "array" })
  for _, entry in ipairs(list) do
    entry.pins, entry.holders = array(), array()
    for _, pin in ipairs(pins[kind][entry.id] or {}) do table.insert(entry.pins, pin.path) end
    for _, h in ipairs(holders[kind][entry.id] or {}) do
      table.insert(entry.holders, setmetatable({ pid = h.pid, name = h.name },
        { __jsonorder = HOLDER }))
    end
    setmetatable(entry, { __jsonorder = order })
  end
  return list
end

local ORDER = {
  programs = { "id", "name", "type", "uid", "memory", "loaded_ns", "map_ids", "pins", "holders" },
  maps = { "id", "name", "type", "key_size", "value_size", "max_entries", "flags", "memory", "pins",
    "holders" },
  links = { "id", "name", "type", "prog_id", "pins", "holders" },
}
local KIND = { programs = "program", maps = "map", links = "link" }

local function gather(opts)
  local holders, hidden = bpf.holders()
  holders = by_id(holders)
  local pins = pins_of(opts.bpffs)
  local all = setmetatable({}, { __jsonorder = { "programs", "maps", "links" } })
  for what, kind in pairs(KIND) do
    if not opts.kind or opts.kind == what then
      all[what] = complete(bpf[what](), kind, ORDER[what], pins, holders)
    end
  end
  for _, p in ipairs(all.programs or {}) do
    setmetatable(p.map_ids, { __jsontype = "array" })
  end
  return all, hidden
end

local function bytes(n)
  if not n then return "-" end
  if n < 10240 then return ("%d B"):format(n) end
  if n < 10240 * 1024 then return ("%d KiB"):format(n // 1024) end
  return ("%d MiB"):format(n // 1048576)
end

local function words(list, fn)
  local out = {}
  for i, x in ipairs(list) do out[i] = fn and fn(x) or tostring(x) end
  return #out > 0 and table.concat(out, ",") or "-"
end

local function who(h) return ("%s(%d)"):format(h.name, h.pid) end

local COLUMNS = {
  { "programs", "PROGRAM ID TYPE MEMORY MAPS PINS HELD-BY", function(p)
    return p.type, bytes(p.memory), words(p.map_ids)
  end },
  { "maps", "MAP ID TYPE KEY VALUE ENTRIES MEMORY PINS HELD-BY", function(m)
    return m.type, tostring(m.key_size), tostring(m.value_size), tostring(m.max_entries),
      bytes(m.memory)
  end },
  { "links", "LINK ID TYPE PROGRAM PINS HELD-BY", function(l)
    return l.type, l.prog_id and tostring(l.prog_id) or "-"
  end },
}

local function as_text(all)
  local parts = {}
  for _, c in ipairs(COLUMNS) do
    local list, lines = all[c[1]], { {} }
    for word in c[2]:gmatch "%S+" do table.insert(lines[1], word) end
    for i, entry in ipairs(list or {}) do
      local line = { entry.name ~= "" and entry.name or "-", tostring(entry.id), c[3](entry) }
      line[#line + 1] = words(entry.pins)
      line[#line + 1] = words(entry.holders, who)
      lines[i + 1] = line
    end
    if #lines > 1 then parts[#parts + 1] = rows(lines) end
  end
  return table.concat(parts, "\n\n")
end

local function run(opts)
  local all, hidden = gather(opts)
  if opts.json then
    print(require "moonbee.json".encode(all, { indent = true }))
  else
    local text = as_text(all)
    if text ~= "" then print(text) end
  end
  if hidden > 0 then
    io.stderr:write(("moonbee: %d processes could not be looked into: holders may be missing\n")
      :format(hidden))
  end
end

return {
  name = "ps",
  summary = "Show programs, maps and links that the kernel holds, their pins and holders.",
  args = { { name = "kind", args = "?", choices = { "programs", "maps", "links" },
    help = "Only these." } },
  options = {
    { name = "--bpffs", args = 1, default = "/sys/fs/bpf", help = "Where to look for pins." },
    { name = "--json", args = 0, help = "Print JSON." },
  },
  examples = { "moonbee ps", "moonbee ps maps --json" },
  run = run,
}
