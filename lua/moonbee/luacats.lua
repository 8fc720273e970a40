-- SPDX-License-Identifier: BSD-2-Clause
-- LuaCATS definitions for an object: classes for its variables, maps, events and enums, for a Lua
-- language server. Nothing of it is run.
local core = require "moonbee.core"
local shape = require "moonbee.shape"
local show = require "moonbee.show"

local SCALARS = {
  int = "integer", bool = "boolean", float = "number", pointer = "integer", chars = "string",
  bytes = "string",
}

local function identifier(text)
  local name = text:gsub("[^%w_]", "_")
  return name:find "^%d" and "_" .. name or name
end

local function put(self, ...)
  for _, line in ipairs { ... } do self.out[#self.out + 1] = line end
end

-- ---- names --------------------------------------------------------------------------------------

-- A class or alias name that nothing else has.
local function unique(self, name)
  local full, n = self.prefix .. "." .. name, 1
  while self.taken[full] do
    n = n + 1
    full = ("%s.%s_%d"):format(self.prefix, name, n)
  end
  self.taken[full] = true
  return full
end

local function is_anonymous(s)
  return s.name:find "%(anonymous%)" ~= nil
end

-- ---- types --------------------------------------------------------------------------------------

local class_of

-- What a thing of the shape is for the language server. where: words that name it if it has none.
local function type_of(self, s, where)
  if s.kind == "array" then
    return ("{ [integer]: %s }"):format(type_of(self, s.elem, where))
  elseif SCALARS[s.kind] then
    return SCALARS[s.kind]
  end
  return class_of(self, s, where)
end

local function field_line(name, kind, note)
  -- Quoted where Lua's grammar has another use for the word.
  local label = show.is_name(name) and name or ("[%q]"):format(name)
  return ("---@field %s %s%s"):format(label, kind, note and " " .. note or "")
end

local function write_struct(self, s, full, where)
  local lines = { ("---%s"):format(s.name:gsub("%(anonymous%)", "without a name")),
    ("---@class %s : moonbee.view"):format(full) }
  for _, field in ipairs(s.fields) do
    lines[#lines + 1] = field_line(field[1], type_of(self, field[2], where .. "." .. identifier(
      field[1])), field[2].name)
  end
  put(self, "", table.unpack(lines))
end

local function write_enum(self, s, full)
  local names = {}
  for _, e in ipairs(self.enums[s.name] or {}) do names[#names + 1] = ("%q"):format(e.name) end
  if #names == 0 then
    for _, name in pairs(s.names) do names[#names + 1] = ("%q"):format(name) end
    table.sort(names)
  end
  put(self, "", ("---%s: reads as a number, takes a name, too"):format(s.name),
    ("---@alias %s integer|%s"):format(full, table.concat(names, "|")))
end

function class_of(self, s, where)
  local key = is_anonymous(s) and where or s.name
  local full = self.known[key]
  if full then return full end
  local short = is_anonymous(s) and where
    or s.name:gsub("^struct ", ""):gsub("^union ", ""):gsub("^enum ", "")
  full = unique(self, short:gsub("[^%w_.]", "_"))
  self.known[key] = full
  if s.kind == "enum" then write_enum(self, s, full) else write_struct(self, s, full, short) end
  return full
end

-- ---- maps ---------------------------------------------------------------------------------------

local function per_cpu(map, kind)
  return map.percpu and ("{ [integer]: %s }"):format(kind) or kind
end

-- A table stands for an aggregate, too.
local function accepts(T, kind)
  return T and not SCALARS[shape(T).kind] and kind .. "|table" or kind
end

local function head_of(full)
  return { ("---@type %s"):format(full), "---@diagnostic disable-next-line: missing-fields",
    "local map = {}" }
end

local function write_methods(self, full, map, key, value)
  local takes_key = accepts(map.key_type, key)
  local takes_value = accepts(map.value_type, per_cpu(map, value))
  local read = per_cpu(map, value)
  local function method(name, args, returns)
    local names = {}
    for _, arg in ipairs(args) do
      names[#names + 1] = arg[1]:gsub("%?$", "")
      put(self, ("---@param %s %s"):format(arg[1], arg[2]))
    end
    put(self, "---@return " .. returns,
      ("function map:%s(%s) end"):format(name, table.concat(names, ", ")))
  end
  put(self, "", "do", table.unpack(head_of(full)))
  local how = { "how?", '"noexist"|"exist"|"lock"' }
  method("get", { { "key", takes_key }, { "how?", '"lock"' } }, read .. "|nil")
  method("take", { { "key", takes_key } }, read .. "|nil")
  method("set", { { "key", takes_key }, { "value", takes_value }, how }, "boolean")
  method("delete", { { "key", takes_key } }, "boolean")
  put(self, "end")
end

local function write_reader(self, full, events)
  put(self, "", "do", table.unpack(head_of(full)))
  for _, event in ipairs(events) do
    put(self, ("---@overload fun(self: %s, type: %q): %s"):format(full, event.name, event.reader))
  end
  put(self, "---@param type? string|moonbee.type", "---@return moonbee.reader",
    "function map:reader(type) end", "end")
end

local READ = { ringbuf = true, perf_event_array = true }

local function write_map(self, map, events)
  local name = map.name
  local full = unique(self, "maps." .. identifier(name))
  local key = map.key_type and type_of(self, shape(map.key_type), name .. ".key")
    or (map.key_size or 0) > 0 and "string" or nil
  local value = map.value_type and type_of(self, shape(map.value_type), name .. ".value")
    or (map.value_size or 0) > 0 and "string" or nil
  local head = { "", ("---%s map"):format(map.type), ("---@class %s : moonbee.map"):format(full) }
  if key == "integer" and value then
    head[#head + 1] = ("---@field [integer] %s"):format(per_cpu(map, value))
  end
  put(self, table.unpack(head))
  if READ[map.type] then
    write_reader(self, full, events)
  elseif key and value then
    write_methods(self, full, map, key, value)
  end
  return full
end

-- ---- the whole ----------------------------------------------------------------------------------

local function sorted(t)
  local names = {}
  for name in pairs(t) do names[#names + 1] = name end
  table.sort(names)
  return names
end

-- Kernel types that CO-RE asks about are no events.
local function events_of(self, obj)
  local asked, events = {}, {}
  for _, r in ipairs(obj.relocations) do asked[r.type] = true end
  local names = {}
  for name in pairs(obj.types) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local ok, T = pcall(function() return obj.types[name] end)
    local s = ok and T and (T.kind == "struct" or T.kind == "union") and shape(T)
    if s and #s.fields > 0 and not asked[s.name] and s.name:find "^%a+ [%w_]+$" then
      local class = class_of(self, s, name)
      local reader = unique(self, "readers." .. identifier(s.name:match "[%w_]+$"))
      events[#events + 1] = { name = s.name, class = class, reader = reader }
    elseif ok and T and T.kind == "enum" and T.name:find "^enum " and not asked[T.name] then
      class_of(self, shape(T), name)
    end
  end
  return events
end

local function write_readers(self, events)
  for _, event in ipairs(events) do
    put(self, "", ("---@class %s : moonbee.reader"):format(event.reader),
      ("---@field drain fun(self: %s, ...): fun(): %s"):format(event.reader, event.class))
  end
end

local function write_list(self, name, fields)
  put(self, "", ("---@class %s.%s"):format(self.prefix, name))
  for _, field in ipairs(fields) do put(self, field_line(field[1], field[2], field[3])) end
end

local function each_enum(obj)
  local found = {}
  for name in pairs(obj.types) do
    local ok, T = pcall(function() return obj.types[name] end)
    if ok and T and T.kind == "enum" then found[T.name] = T.enums end
  end
  return found
end

-- The definitions as text. title: where they come from. name: of the classes, default the object's.
return function(obj, title, name)
  local prefix = identifier(name or obj.name)
  local self = { out = {}, known = {}, prefix = prefix, enums = each_enum(obj), taken = {} }
  for _, word in ipairs { "vars", "maps", "progs", "object" } do
    self.taken[prefix .. "." .. word] = true
  end
  put(self, "---@meta " .. prefix, ("-- %s, by moonbee %s: ---@type %s.object")
    :format(title:gsub("%c", "?"), core.version, prefix))
  local vars, maps, progs = {}, {}, {}
  for _, field in ipairs(core.typeof(obj.vars).fields) do
    local s = shape(field.type)
    vars[#vars + 1] = { field.name, type_of(self, s, identifier(field.name)), s.name }
  end
  local events = events_of(self, obj)
  write_readers(self, events)
  for _, map in ipairs(sorted(obj.maps)) do
    maps[#maps + 1] = { map, write_map(self, obj.maps[map], events) }
  end
  for _, prog in ipairs(sorted(obj.progs)) do
    progs[#progs + 1] = { prog, "moonbee.program", obj.progs[prog].section }
  end
  put(self, "", ("---@class %s.vars : moonbee.view"):format(prefix))
  for _, field in ipairs(vars) do put(self, field_line(field[1], field[2], field[3])) end
  write_list(self, "maps", maps)
  write_list(self, "progs", progs)
  put(self, "", ("---@class %s.object : moonbee.object"):format(prefix),
    ("---@field vars %s.vars"):format(prefix), ("---@field maps %s.maps"):format(prefix),
    ("---@field progs %s.progs"):format(prefix))
  return table.concat(self.out, "\n")
end
