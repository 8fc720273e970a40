-- SPDX-License-Identifier: BSD-2-Clause
-- A view as text: a C initializer, from its type. On one line where that fits, else indented.
local core = require "moonbee.core"
local shape = require "moonbee.shape"

local format = {}

local WIDTH = 80     -- columns
local MAX = 64       -- elements of an array
local SUFFICES = { [4] = { 6, 9 }, [8] = { 15, 17 } } -- digits of a float by its size

-- ---- scalars ------------------------------------------------------------------------------------

-- The bits of an integer, as an unsigned decimal number.
function format.unsigned(x)
  if x >= 0 then return ("%d"):format(x) end
  local tenth = (x >> 1) // 5
  return ("%d%d"):format(tenth, x - tenth * 10)
end

local function rounded(x, size)
  return size == 4 and string.unpack("f", string.pack("f", x)) or x
end

-- A short decimal number that reads back as x.
function format.float(x, size)
  if x ~= x then return "nan" end
  if x == math.huge or x == -math.huge then return x > 0 and "inf" or "-inf" end
  local digits = SUFFICES[size] or SUFFICES[8]
  for n = digits[1], digits[2] do
    local text = ("%%.%dg"):format(n):format(x)
    if n == digits[2] or rounded(tonumber(text), size) == x then
      return text:find "[%.e]" and text or text .. ".0"
    end
  end
end

local named = { ["\n"] = "\\n", ["\t"] = "\\t", ["\r"] = "\\r", ['"'] = '\\"', ["\\"] = "\\\\" }

local function octal(s)
  return (s:gsub(".", function(c) return ("\\%03o"):format(c:byte()) end))
end

-- Octal, as \x takes all hex digits that follow. UTF-8 stays, save for control characters.
local function quote(s)
  s = s:gsub('[%c"\\]', function(c) return named[c] or octal(c) end)
  if utf8.len(s) then
    s = s:gsub("\xC2[\x80-\x9F]", octal)
  else
    s = s:gsub("[\x80-\xFF]", octal)
  end
  return '"' .. s .. '"'
end

local function hex(x, size)
  return ("0x%x"):format(size < 8 and x & (1 << size * 8) - 1 or x)
end

-- An integer wider than Lua's, of which we have the bytes.
function format.wide(bytes)
  local little = string.pack("=I2", 1):byte() == 1
  local digits = (little and bytes:reverse() or bytes):gsub(".", function(c)
    return ("%02x"):format(c:byte())
  end)
  return "0x" .. digits:gsub("^0+(.)", "%1")
end

-- " <tcp_v4_rcv>": the function at an address, if the kernel tells.
local function symbol(address)
  local told, name, offset, module = pcall(core.kernel.symbolize, address)
  if not told or not name then return "" end
  return (" <%s%s%s>"):format(name, offset > 0 and ("+0x%x"):format(offset) or "",
    module and " [" .. module .. "]" or "")
end

local function integer(s, x, opts)
  if opts.hex then return hex(x, s.size) end
  if s.name == "char" and x >= 32 and x < 127 then
    local c = string.char(x)
    return "'" .. (c:find "['\\]" and "\\" or "") .. c .. "'"
  end
  return s.signed and ("%d"):format(x) or format.unsigned(x)
end

local scalar = {
  int = integer,
  enum = function(s, x, opts) return s.names[x] or integer(s, x, opts) end,
  bool = function(_, x) return tostring(x) end,
  float = function(s, x) return format.float(x, s.size) end,
  pointer = function(s, x)
    if x == 0 then return "NULL" end
    return hex(x, 8) .. (s.callable and symbol(x) or "")
  end,
  chars = function(_, x) return quote(x) end,
  bytes = function(s, x)
    if s.name:find "__int128" then return format.wide(x) end
    local list = {}
    for i = 1, #x do list[i] = ("0x%02x"):format(x:byte(i)) end
    return "{ " .. table.concat(list, ", ") .. " }"
  end,
}

-- ---- aggregates: trees of text ------------------------------------------------------------------

local function is_zero(x)
  if type(x) == "userdata" then
    for _, element in pairs(x) do
      if not is_zero(element) then return false end
    end
    return true
  end
  return x == 0 or x == false or type(x) == "string" and not x:find "%Z"
end

local tree

local function fields(s, v, opts, depth)
  local items = {}
  for _, field in ipairs(s.fields) do
    local x = v[field[1]]
    if opts.zeros ~= false or not is_zero(x) then
      local label = opts.names ~= false and "." .. field[1] .. " = " or ""
      items[#items + 1] = { label, tree(field[2], x, opts, depth) }
    end
  end
  return items
end

-- C fills up with zeros: those at the end are left out, unless all are asked for.
local function elements(s, v, opts, depth)
  local items, n, only = { fill = scalar[s.elem.kind] ~= nil }, #v, opts.zeros == false
  local last, max = n, opts.max or MAX
  while not opts.zeros and last > 0 and is_zero(v[last - 1]) do last = last - 1 end
  if last == 0 and n > 0 and not only then return { { "", "0" } } end
  for i = 0, last - 1 do
    if #items == max then
      items[#items + 1] = { "", ("/* %d more */"):format(last - i) }
      break
    end
    local x = v[i]
    if not only or not is_zero(x) then
      items[#items + 1] = { only and ("[%d] = "):format(i) or "", tree(s.elem, x, opts, depth) }
    end
  end
  return items
end

-- A string, or for an aggregate a list of {label, tree}.
function tree(s, x, opts, depth)
  if scalar[s.kind] then return scalar[s.kind](s, x, opts) end
  if depth == 0 then return "{ … }" end
  return (s.kind == "array" and elements or fields)(s, x, opts, depth - 1)
end

local function flat(node)
  if type(node) == "string" then return node end
  if not node.text then
    local parts = {}
    for i, item in ipairs(node) do parts[i] = item[1] .. flat(item[2]) end
    node.text = #parts == 0 and "{ }" or "{ " .. table.concat(parts, ", ") .. " }"
  end
  return node.text
end

local function is_note(item)
  return type(item[2]) == "string" and item[2]:sub(1, 2) == "/*"
end

local render

-- Scalars: as many in a line as fit.
local function filled(node, indent, width)
  local lines, line = {}, indent
  for _, item in ipairs(node) do
    local word = item[1] .. item[2] .. (is_note(item) and "" or ",")
    if line ~= indent and #line + 1 + #word > width then
      lines[#lines + 1], line = line, indent
    end
    line = line .. (line == indent and "" or " ") .. word
  end
  lines[#lines + 1] = line
  return table.concat(lines, "\n")
end

local function broken(node, indent, width)
  local lines = {}
  for i, item in ipairs(node) do
    local head = indent .. item[1]
    lines[i] = head .. render(item[2], indent, #head + 1, width) .. (is_note(item) and "" or ",")
  end
  return table.concat(lines, "\n")
end

-- used: columns of the first line that are taken.
function render(node, indent, used, width)
  local text = flat(node)
  if type(node) == "string" or #node == 0 or used + #text <= width then return text end
  local inner = indent .. "  "
  return "{\n" .. (node.fill and filled or broken)(node, inner, width) .. "\n" .. indent .. "}"
end

-- ---- public -------------------------------------------------------------------------------------

local function print_tree(s, x, prefix, opts)
  local node = tree(s, x, opts, opts.depth or math.huge)
  return prefix .. render(node, "", #prefix, opts.width or WIDTH)
end

-- bpf.format
function format.format(v, opts)
  if core.type(v) ~= "view" then return tostring(v) end
  opts = opts or {}
  local s = shape(core.typeof(v))
  return print_tree(s, v, opts.names ~= false and "(" .. s.name .. ")" or "", opts)
end

-- One value of the type T, without its type: v.x of the field x.
function format.value(T, x, opts)
  return print_tree(shape(T), x, "", opts or {})
end

return format
