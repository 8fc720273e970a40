-- SPDX-License-Identifier: BSD-2-Clause
-- What stands in a table of metrics, and what a wrong key is told: names, types, and which keys go
-- with which source. Whether the object has what they name is source.lua's.
local bpf = require "moonbee"
local near = require "moonbee.near"

local keys = {}

local OP = "check metrics"

-- Raise an error object about an entry (or about the whole, where there is no name).
function keys.fail(name, cause, hint, code)
  error(bpf.error { code = code or "EINVAL", op = OP, subject = name or "metrics", cause = cause,
    hint = hint }, 0)
end

local fail = keys.fail

local function sorted(t)
  local names = {}
  for name in pairs(t) do names[#names + 1] = tostring(name) end
  table.sort(names)
  return names
end

-- "did you mean 'x'?", or what there is.
function keys.hint(word, names)
  local found = near(tostring(word), names)
  if found then return ("did you mean '%s'?"):format(found) end
  if #names == 0 then return "there is none" end
  local list = table.concat(names, ", ", 1, math.min(#names, 20))
  return "there is " .. list .. (#names > 20 and ", …" or "")
end

-- ---- kinds of values ----------------------------------------------------------------------------

local function kind_of(x)
  return bpf.type(x) or math.type(x) or type(x)
end

local function is(...)
  local kinds = { ... }
  return function(name, key, x)
    local kind = kind_of(x)
    for _, k in ipairs(kinds) do
      if k == kind or k == "number" and math.type(x) then return end
    end
    fail(name, ("%s is a %s, not a %s"):format(key, table.concat(kinds, " or a "), kind))
  end
end

local function positive(name, key, x)
  if not math.type(x) or not (x > 0 and x < math.huge) then
    fail(name, ("%s is a number above 0, not %s"):format(key, tostring(x)))
  end
end

local function word_of(list)
  return function(name, key, x)
    for _, word in ipairs(list) do
      if x == word then return end
    end
    fail(name, ("%s is not known: %s"):format(key, tostring(x)), keys.hint(x, list))
  end
end

-- A label's name. le is for histograms' own; what begins with __ is Prometheus's.
function keys.label(name, label)
  if type(label) ~= "string" or not label:find "^[%a_][%w_]*$" or label:find "^__" then
    fail(name, ("'%s' is no name of a label"):format(tostring(label)),
      "letters, digits and _, and no __ at the beginning")
  elseif label == "le" or label == "quantile" then
    fail(name, ("the label '%s' is one of Prometheus's own"):format(label))
  end
  return label
end

local function label_of(name, _, x)
  keys.label(name, x)
end

local function constants(name, key, x)
  is "table" (name, key, x)
  for label, value in pairs(x) do
    keys.label(name, label)
    is("string", "number", "boolean") (name, ("%s.%s"):format(key, label), value)
  end
end

-- A label, or a list of them.
local function labels(name, key, x)
  if type(x) == "string" then return keys.label(name, x) end
  is "table" (name, key, x)
  for i, label in ipairs(x) do keys.label(name, label, i) end
  for i in pairs(x) do
    if not math.tointeger(i) then fail(name, key .. " is a name, or a list of names") end
  end
end

-- A label for the key, or a list of paths in it, each perhaps with a label: { "dport", ip = "saddr"
-- }.
local function key_labels(name, key, x)
  if type(x) == "string" then return keys.label(name, x) end
  is "table" (name, key, x)
  for label, path in pairs(x) do
    if not math.tointeger(label) then keys.label(name, label) end
    is "string" (name, ("%s[%s]"):format(key, tostring(label)), path)
  end
end

-- A table of labels, each with what check takes.
local function labelled(check)
  return function(name, key, x)
    is "table" (name, key, x)
    for label, value in pairs(x) do
      keys.label(name, label)
      check(name, ("%s.%s"):format(key, label), value)
    end
  end
end

local paths, as = labelled(is "string"), labelled(is("string", "table"))

local function names(name, key, x)
  is "table" (name, key, x)
  for i, field in pairs(x) do
    if not math.tointeger(i) then fail(name, key .. " is a list of names") end
    is "string" (name, ("%s[%d]"):format(key, i), field)
  end
end

local BUCKETS = { "log2", "bits" }

local function buckets(name, key, x)
  if type(x) == "string" then return word_of(BUCKETS) (name, key, x) end
  is("table", "string") (name, key, x)
  if #x == 0 then fail(name, key .. " names no bounds", 'buckets = "log2", or { 1, 10, 100 }') end
  for i, bound in ipairs(x) do
    if not math.type(bound) or bound ~= bound or bound == math.huge or i > 1 and bound <= x[i - 1]
    then
      fail(name, ("%s[%d] is not a number above the one before"):format(key, i),
        "the last bucket has no bound: what is above all of them")
    end
  end
end

-- ---- entries ------------------------------------------------------------------------------------

keys.TYPES = { "counter", "gauge", "histogram", "info" }
keys.SOURCES = { "var", "map", "reader", "program", "read", "vars" }

local ENTRY = {
  name = is "string", type = word_of(keys.TYPES), help = is "string", unit = is "string",
  scale = positive, labels = constants,
  var = is "string", map = is("string", "map"), reader = is("string", "reader"),
  program = is("string", "program"), vars = paths,
  index = labels, fields = names, as = as, sum = is("boolean", "string"), key = key_labels,
  value = is "string", cpu = label_of, count = is "boolean", bucket = is "string",
  slots = positive, buckets = buckets, field = is "string",
}

-- Which keys go with which source.
local WITH = {
  var = { index = true, fields = true, as = true, sum = true, buckets = true },
  map = { key = true, value = true, cpu = true, count = true, sum = true, as = true,
    bucket = true, slots = true, buckets = true },
  reader = { field = true }, program = { field = true }, read = {}, vars = { as = true },
}
local COMMON = { name = true, type = true, help = true, unit = true, scale = true, labels = true }

local function source_of(name, entry)
  local found
  for _, source in ipairs(keys.SOURCES) do
    if entry[source] ~= nil then
      if found then fail(name, ("it has both %s and %s"):format(found, source)) end
      found = source
    end
  end
  return found or fail(name, "it names nothing that is measured",
    "one of " .. table.concat(keys.SOURCES, ", "))
end

local function check_keys(name, entry, is_function)
  local known = {}
  for key, value in pairs(entry) do
    if key == "read" then
      if not is_function(value) then fail(name, "read is a function, not a " .. kind_of(value)) end
    elseif not ENTRY[key] then
      for word in pairs(ENTRY) do known[#known + 1] = word end
      table.sort(known)
      fail(name, ("'%s' is no key of a metric"):format(tostring(key)), keys.hint(key, known))
    else
      ENTRY[key](name, key, value)
    end
  end
end

-- What the text formats add to a name; the family's own is without it.
local ADDED = { counter = "_total", info = "_info" }
local RESERVED = { "_total", "_bucket", "_created", "_info" }

local function family_name(entry, own)
  local name, added = entry.name, ADDED[entry.type]
  if added and name:sub(-#added) == added then name = name:sub(1, -#added - 1) end
  if not name:find "^[%a_][%w_]*$" then
    fail(entry.name, "it is no name of a metric", "letters, digits and _")
  elseif name:find "^moonbee_" and not own then
    fail(name, "names that begin with moonbee_ are moonbee's own")
  end
  for _, suffix in ipairs(RESERVED) do
    if name:sub(-#suffix) == suffix then
      fail(name, ("a %s may not end in %s"):format(entry.type, suffix))
    end
  end
  return name
end

local function check_unit(name, entry)
  local unit = entry.unit
  if not unit then return end
  if entry.type == "info" then fail(name, "an info has no unit") end
  if not unit:find "^[%a_][%w_]*$" or name:sub(-#unit - 1) ~= "_" .. unit then
    fail(name, ("its unit is %s, and so its name must end in _%s"):format(unit, unit),
      "unit is a word like seconds or bytes; scale = 1e-9 makes seconds of nanoseconds")
  end
end

local function check_type(name, entry, source)
  local histogram, info = entry.type == "histogram", entry.type == "info"
  if info ~= (source == "vars") then
    fail(name, info and "an info has vars" or ("a %s has no vars"):format(entry.type),
      "vars = { label = \"variable\" } makes labels of an info")
  elseif histogram and source ~= "var" and source ~= "map" then
    fail(name, "a histogram is of a var or a map")
  elseif histogram and not entry.buckets then
    fail(name, "a histogram needs buckets", '"log2": element n counts 2^n to 2^(n+1)-1; "bits": '
      .. "2^(n-1) to 2^n-1; or a list of upper bounds")
  elseif not histogram and (entry.buckets or entry.bucket or entry.slots) then
    fail(name, ("a %s has no buckets"):format(entry.type), 'type = "histogram"')
  elseif entry.sum ~= nil and histogram ~= (type(entry.sum) == "string") then
    fail(name, histogram and "sum of a histogram is a path: what adds up the values"
      or "sum is true: all elements are added up")
  elseif info and entry.scale then
    fail(name, "an info has no scale")
  end
end

-- Check one entry; own: it is moonbee's. Returns the family's name and the source's.
function keys.entry(entry, i, is_function, own)
  local where = ("metrics[%d]"):format(i)
  if type(entry) ~= "table" then
    fail(where, "it is a " .. kind_of(entry) .. ", not a table",
      '{ name = "x_packets", type = "counter", var = "stats.packets" }')
  end
  local label = type(entry.name) == "string" and entry.name or where
  check_keys(label, entry, is_function)
  for _, key in ipairs { "name", "type" } do
    if entry[key] == nil then
      fail(label, ("its %s is missing"):format(key), key == "type"
        and "one of " .. table.concat(keys.TYPES, ", ") or nil)
    end
  end
  local source = source_of(label, entry)
  for key in pairs(entry) do
    if key ~= source and not COMMON[key] and not WITH[source][key] then
      fail(label, ("'%s' does not go with %s"):format(key, source),
        keys.hint(key, sorted(WITH[source])))
    end
  end
  local name = family_name(entry, own)
  check_type(name, entry, source)
  check_unit(name, entry)
  return name, source
end

-- ---- the whole ----------------------------------------------------------------------------------

local function listen_at(name, key, x)
  is "string" (name, key, x)
  if x:find "^%.?%.?/" and x:sub(1, 1) ~= "/" then
    fail(name, ("%s is a path that is not absolute: '%s'"):format(key, x))
  end
end

local function listen(name, key, x)
  if x == false then return end
  if type(x) == "string" then return listen_at(name, key, x) end
  is("string", "table") (name, key, x)
  for i, address in pairs(x) do listen_at(name, ("%s[%s]"):format(key, tostring(i)), address) end
end

keys.SET = { max_series = positive }
keys.SCRIPT = { object = is "object", vars = is "view", readers = is "table" }
keys.POLICY = { listen = listen, stats = is "boolean" }

-- Check the table: a list of entries, and options. more: keys.SCRIPT or keys.POLICY.
function keys.set(t, more)
  if type(t) ~= "table" then fail(nil, "they are a table, not a " .. kind_of(t)) end
  local known = {}
  for _, list in ipairs { keys.SET, more } do
    for key, check in pairs(list) do known[key] = check end
  end
  for key, value in pairs(t) do
    if math.type(key) ~= "integer" then
      if not known[key] then
        fail(nil, ("'%s' is no key of metrics"):format(tostring(key)),
          type(value) == "table" and ENTRY[key] == nil
          and ('they are a list: { { name = "%s", … }, … }'):format(tostring(key))
          or keys.hint(key, sorted(known)))
      end
      known[key](nil, key, value)
    elseif key < 1 or key > #t then
      fail(nil, "they are a list, and it has holes")
    end
  end
end

return keys
