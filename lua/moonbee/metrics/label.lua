-- SPDX-License-Identifier: BSD-2-Clause
-- What the kernel has as text of a label: by its C type, or as an entry's `as` says.
local bpf = require "moonbee"
local format = require "moonbee.format"
local keys = require "moonbee.metrics.keys"
local uv = require "luv"

local label = {}

-- ---- by the type --------------------------------------------------------------------------------

local function integer(T)
  return function(x) return T.signed and ("%d"):format(x) or format.unsigned(x) end
end

local function names_of(T)
  local names = {}
  for _, e in ipairs(T.enums) do names[e.value] = names[e.value] or e.name end
  return names
end

local function enumerator(T)
  local names, otherwise = names_of(T), integer(T)
  return function(x) return names[x] or otherwise(x) end
end

local PLAIN = {
  int = integer, enum = enumerator,
  bool = function() return tostring end,
  chars = function() return function(x) return x end end,
  float = function(T) return function(x) return format.float(x, T.size) end end,
  pointer = function() return function(x) return ("0x%x"):format(x) end end,
}

-- ---- as -----------------------------------------------------------------------------------------

local function raw(x)
  return bpf.type(x) == "view" and bpf.bytes(x) or x
end

local function ip(x)
  local text = bpf.iptext(raw(x))
  return text:match "^::ffff:(%d+%.%d+%.%d+%.%d+)$" or text
end

local function hex(x)
  x = raw(x)
  if type(x) ~= "string" then return ("0x%x"):format(x) end
  return (x:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

local function symbol(x)
  local told, name = pcall(require "moonbee.kernel".symbolize, x)
  return told and name or ("0x%x"):format(x)
end

local interfaces, looked = {}, nil -- names by index; when

-- Not uv.if_indextoname: luv 1.44's does not pass the index on.
local function look()
  interfaces = {}
  local scan = uv.fs_scandir "/sys/class/net"
  local name = scan and uv.fs_scandir_next(scan)
  while name do
    local file <close> = io.open("/sys/class/net/" .. name .. "/ifindex")
    local index = file and file:read "n"
    if index then interfaces[index] = name end
    name = uv.fs_scandir_next(scan)
  end
end

local function interface(x)
  local now = uv.hrtime()
  if not looked or now - looked > 1e9 then
    looked = now
    look()
  end
  return interfaces[x] or ("%d"):format(x)
end

-- word -> the sizes in bytes that it is for (any: nil), whether it takes numbers only, and what it
-- does with a value of type T.
local AS = {
  ip = { sizes = { [4] = true, [16] = true }, with = function() return ip end },
  mac = { sizes = { [6] = true }, with = function()
    return function(x) return bpf.mactext(raw(x)) end
  end },
  hex = { with = function() return hex end },
  ntoh = { sizes = { [2] = true, [4] = true, [8] = true }, numbers = true, with = function(T)
    return function(x) return format.unsigned(bpf.ntoh(x, T.size * 8)) end
  end },
  ksym = { sizes = { [8] = true }, numbers = true, with = function() return symbol end },
  ifname = { numbers = true, with = function() return interface end },
}

local function is_number(T)
  return T.kind == "int" or T.kind == "enum" or T.kind == "pointer" or T.kind == "bool"
end

local function by_table(names, otherwise)
  return function(x)
    local name = names[raw(x)]
    if name == nil then return otherwise(x) end
    return tostring(name)
  end
end

local function by_enum(where, word, env)
  local T = env.type(word)
  if T and T.kind == "enum" then return names_of(T) end
  keys.fail(where, ("there is no '%s' in the object's types"):format(word),
    T and "it is a " .. T.kind, "ENOENT")
end

local function words()
  local list = { "enum NAME" }
  for word in pairs(AS) do list[#list + 1] = word end
  table.sort(list)
  return list
end

-- A function that gives the text for a value of type T. how: `as` of this label, or nil. where: the
-- entry's name for errors; what: the field's; env: source.lua's.
function label.text(where, what, T, how, env)
  local plain = PLAIN[T.kind] and PLAIN[T.kind](T)
  if type(how) == "string" and how:find "^enum " then how = by_enum(where, how, env) end
  if type(how) == "table" then return by_table(how, plain or hex) end
  if how == nil then
    return plain or keys.fail(where, ("'%s' is %s, which is no text for a label"):format(what,
      T.name), ('as = { LABEL = "ip" }; %s'):format(keys.hint("", words())))
  end
  local as = AS[how]
  if not as then
    keys.fail(where, ("as: there is no '%s'"):format(how), keys.hint(how, words()))
  elseif as.sizes and not as.sizes[T.size] or as.numbers and not is_number(T) then
    keys.fail(where, ("as: '%s' is not for '%s', which is %s"):format(how, what, T.name))
  end
  return as.with(T)
end

-- The texts of an array's indices, as `as` says: numbers, or the names that a table or an enum has.
function label.index(where, how, env)
  if type(how) == "string" and how:find "^enum " then how = by_enum(where, how, env) end
  if how ~= nil and type(how) ~= "table" then
    keys.fail(where, ("as: '%s' is not for the index of an array"):format(how),
      'a table, { [0] = "pass", "drop" }, or "enum NAME"')
  end
  return function(i)
    local name = how and how[i]
    return name ~= nil and tostring(name) or ("%d"):format(i)
  end
end

-- No label is there twice: a server refuses the whole scrape for one that is.
local function check_once(where, entry, have)
  local taken = {}
  local function take(name)
    if taken[name] then keys.fail(where, ("the label '%s' is there twice"):format(name)) end
    taken[name] = true
  end
  for name in pairs(entry.labels or {}) do take(name) end
  if entry.cpu then take(entry.cpu) end
  for _, name in ipairs(have) do take(name) end
end

-- as may name labels of this entry only. have: list of them, but that of cpu.
function label.check(where, entry, have)
  check_once(where, entry, have)
  for name in pairs(entry.as or {}) do
    local found
    for _, known in ipairs(have) do found = found or known == name end
    if not found then
      keys.fail(where, ("as: it has no label '%s'"):format(name), keys.hint(name, have))
    end
  end
end

return label
