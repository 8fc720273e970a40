-- SPDX-License-Identifier: BSD-2-Clause
-- Any value as the REPL prints it: views by bpf.format, tables as Lua writes them, handles with
-- what they stand for. Colors are put on afterwards, by what the text looks like.
local core = require "moonbee.core"
local format = require "moonbee.format"
local shape = require "moonbee.shape"

local show = {}

local DEPTH = 5    -- nested tables
local ENTRIES = 64 -- of a table
local STRING = 4096 -- bytes

-- ---- strings and names --------------------------------------------------------------------------

local named = { ["\n"] = "\\n", ["\t"] = "\\t", ["\r"] = "\\r", ['"'] = '\\"', ["\\"] = "\\\\" }

local function escape(s)
  return (s:gsub(".", function(c) return ("\\x%02x"):format(c:byte()) end))
end

-- As Lua source. What a terminal would obey never gets through.
function show.quote(s)
  local cut = #s > STRING and ("… (%d bytes)"):format(#s) or ""
  if cut ~= "" then s = s:sub(1, STRING) end
  s = s:gsub('[%c"\\]', function(c) return named[c] or escape(c) end)
  if utf8.len(s) then
    s = s:gsub("\xC2[\x80-\x9F]", escape)
  else
    s = s:gsub("[\x80-\xFF]", escape)
  end
  return '"' .. s .. '"' .. cut
end

local reserved = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat
  return then true until while]]):gmatch "%a+" do reserved[word] = true end
show.reserved = reserved

function show.is_name(key)
  return type(key) == "string" and key:find "^[%a_][%w_]*$" ~= nil and not reserved[key]
end

-- ---- handles ------------------------------------------------------------------------------------

local function property(x, name)
  local ok, value = pcall(function() return x[name] end)
  return ok and value or nil
end

local function type_name(T, size)
  return T and T.name or size and size > 0 and ("bytes[%d]"):format(size) or nil
end

local describe = {}

function describe.map(m)
  local key = type_name(property(m, "key_type"), property(m, "key_size"))
  local value = type_name(property(m, "value_type"), property(m, "value_size"))
  local types = (key and key .. " -> " or "") .. (value or "")
  local most = property(m, "max_entries") or 0
  local kind = property(m, "type") or "?"
  local entries = ("%d entries"):format(most)
  if kind == "ringbuf" then
    entries = ("%d bytes"):format(most)
  elseif not kind:find "array" and types ~= "" then
    local ok, n = pcall(m.count, m)
    if ok then entries = ("%d of %d entries"):format(n, most) end
  end
  return ("map '%s' (%s%s, %s)"):format(m.name, kind, types ~= "" and ": " .. types or "", entries)
end

function describe.program(p)
  local stats = property(p, "id") and (", id %d"):format(p.id) or ""
  return ("program '%s' (%s, section %s%s)"):format(p.name, property(p, "type") or "?",
    property(p, "section") or "-", stats)
end

function describe.link(l)
  local id = property(l, "id")
  return ("link (%s%s)"):format(property(l, "type") or "?", id and ", id " .. id or "")
end

function describe.object(o)
  return ("object '%s' (%s)"):format(o.name, o.state)
end

function describe.ref(r)
  local ok, value = pcall(r.get, r)
  return ("%s = %s"):format(tostring(r):gsub("^moonbee%.", ""), ok and show.value(value) or "?")
end

-- ---- values -------------------------------------------------------------------------------------

local function parameters(f)
  local info = debug and debug.getinfo and debug.getinfo(f, "Su")
  if not info then return "", "" end
  local names = {}
  for i = 1, info.nparams do names[i] = debug.getlocal(f, i) end
  if info.isvararg and info.what ~= "C" then names[#names + 1] = "..." end
  if info.what == "C" then return "", " (C)" end
  return ("(%s)"):format(table.concat(names, ", ")),
    (" at %s:%d"):format(info.short_src, info.linedefined)
end

local function sorted_keys(t)
  local keys, sequence = {}, #t
  for key in next, t do
    if not (math.type(key) == "integer" and key >= 1 and key <= sequence) then
      keys[#keys + 1] = key
      if #keys > 10 * ENTRIES then break end
    end
  end
  table.sort(keys, function(a, b)
    local x, y = type(a), type(b)
    if x ~= y then return x < y end
    if x == "number" or x == "string" then return a < b end
    return tostring(a) < tostring(b)
  end)
  return keys, sequence
end

local render

local function join(items, indent, width)
  local flat = "{ " .. table.concat(items, ", ") .. " }"
  if #indent + #flat <= width and not flat:find "\n" then return flat end
  local inner = "\n" .. indent .. "  "
  return "{" .. inner .. table.concat(items, "," .. inner) .. "\n" .. indent .. "}"
end

-- Maps, programs, sections of an object: tables that keep what they hold to themselves.
local function collection(t, opts, depth, indent)
  local items, names = {}, {}
  for name in pairs(t) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do
    if i > ENTRIES then
      items[i] = ("…%d more…"):format(#names - ENTRIES)
      break
    end
    local label = show.is_name(name) and name or ("[%q]"):format(name)
    local ok, x = pcall(function() return t[name] end)
    local text = ok and render(x, opts, depth - 1, indent .. "  ") or "?"
    if core.type(x) == "view" then text = ("%d bytes"):format(core.sizeof(x)) end
    items[i] = label .. " = " .. text
  end
  return #items == 0 and "{ }" or join(items, indent, opts.width)
end

local function plain_table(t, opts, depth, indent)
  if opts.seen[t] then return "{ …its own parent… }" end
  if depth == 0 then return "{ … }" end
  opts.seen[t] = true
  local keys, n = sorted_keys(t)
  local items, inner = {}, indent .. "  "
  for i = 1, math.min(n, ENTRIES) do items[i] = render(rawget(t, i), opts, depth - 1, inner) end
  for i = 1, math.min(#keys, ENTRIES - #items) do
    local key = keys[i]
    local label = show.is_name(key) and key or "[" .. render(key, opts, 1, inner) .. "]"
    local value = rawget(t, key)
    local text = key == "address" and math.type(value) == "integer" and ("0x%x"):format(value)
      or render(value, opts, depth - 1, inner)
    items[#items + 1] = label .. " = " .. text
  end
  local left = n + #keys - #items
  if left > 0 then items[#items + 1] = ("…%d more…"):format(left) end
  opts.seen[t] = nil
  if #items == 0 then return "{ }" end
  return join(items, indent, opts.width)
end

function render(x, opts, depth, indent)
  local kind, ours = type(x), core.type(x)
  if ours == "view" then
    local ok, text = pcall(format.format, x, { width = opts.width - #indent })
    return (ok and text or tostring(text)):gsub("\n", "\n" .. indent)
  elseif ours and describe[ours] then
    local ok, text = pcall(describe[ours], x)
    return ok and text or tostring(x)
  elseif kind == "string" then
    return show.quote(x)
  elseif kind == "function" then
    local list, place = parameters(x)
    return "function" .. list .. place
  elseif kind == "table" then
    local meta = getmetatable(x)
    if type(meta) == "table" and (meta.__tostring or meta.__name) then return tostring(x) end
    if meta == false then return collection(x, opts, depth, indent) end
    return plain_table(x, opts, depth, indent)
  end
  return tostring(x)
end

-- Text for x. opts: width (columns).
function show.value(x, opts)
  local width = opts and opts.width or 80
  return (render(x, { width = width, seen = {} }, DEPTH, ""))
end

-- What the field of the type T holds: enums by name, numbers by their C type.
function show.typed(T, x, opts)
  local s = shape(T)
  if s.kind == "enum" then
    local name = s.names[x]
    return name and ("%s (%s)"):format(name, s.signed and x or format.unsigned(x))
      or tostring(x)
  elseif s.kind == "chars" then
    return show.quote(x)
  end
  return format.value(T, x, { width = opts and opts.width or 80 })
end

-- ---- colors -------------------------------------------------------------------------------------

local codes = { string = "32", number = "36", note = "2", type = "34", error = "31", hint = "33" }

function show.paint(text, code)
  return ("\27[%sm%s\27[0m"):format(codes[code], text)
end

-- Strings, numbers, notes and types of a printed value.
function show.color(text)
  local out, at = {}, 1
  while at <= #text do
    local from, to = text:find('["/%d(…]', at)
    if not from then break end
    local word, code
    local c = text:sub(from, from)
    if c == '"' then
      local stop = from
      repeat
        stop = text:find('["\\]', stop + 1)
        local skip = stop and text:sub(stop, stop) == "\\"
        if skip then stop = stop + 1 end
      until not skip
      word, code = text:sub(from, stop or #text), "string"
    elseif c == "(" then
      word, code = text:match("^%([%a_][%w_ ]*[%[%]%d]*%)", from), "type"
    elseif c == "/" then
      word, code = text:match("^/%*.-%*/", from), "note"
    elseif c:find "%d" and not text:sub(math.max(1, from - 1), from - 1):find "[%w_]" then
      word, code = text:match("^0x%x+", from) or text:match("^[%d.]+e?[-+]?%d*", from), "number"
    end
    if word and word ~= "" then
      out[#out + 1] = text:sub(at, from - 1)
      out[#out + 1] = show.paint(word, code)
      at = from + #word
    else
      out[#out + 1] = text:sub(at, to)
      at = to + 1
    end
  end
  out[#out + 1] = text:sub(at)
  return table.concat(out)
end

return show
