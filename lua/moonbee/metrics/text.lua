-- SPDX-License-Identifier: BSD-2-Clause
-- Families of metrics as text: OpenMetrics 1.0.0, or the text format 0.0.4 of Prometheus.
--
-- A family: { name, type, unit, help, series = { … } }. A series: { labels = text, value = text },
-- or of a histogram { labels, buckets = { { bound, count }, … }, sum = text | nil }, cumulative,
-- the last one's bound infinite.
local number = require "moonbee.metrics.number"

local text = {
  OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8",
  PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8",
}

-- ---- labels -------------------------------------------------------------------------------------

local ESCAPES = { ["\\"] = "\\\\", ['"'] = '\\"', ["\n"] = "\\n" }

local function bytes(s)
  return (s:gsub(".", function(c) return ("\\x%02x"):format(c:byte()) end))
end

-- Text from the kernel as text of a label: what is no UTF-8, and what steers terminals, by numbers.
local function harmless(s)
  if not s:find "[\0-\8\11-\31\127-\255]" then return s end
  if not utf8.len(s) then s = s:gsub("[\x80-\xFF]", bytes) end
  return (s:gsub("[\0-\8\11-\31\127]", bytes):gsub("\xC2[\x80-\x9F]", bytes))
end

-- One label, name="value".
function text.label(name, value)
  return name .. '="' .. harmless(tostring(value)):gsub('[\\"\n]', ESCAPES) .. '"'
end

-- ---- lines --------------------------------------------------------------------------------------

local function braces(labels, more)
  if labels ~= "" and more then return "{" .. labels .. "," .. more .. "}" end
  labels = more or labels
  return labels ~= "" and "{" .. labels .. "}" or ""
end

local SUFFIX = { counter = "_total", info = "_info" }

local function plain_lines(out, family, one)
  local name = family.name .. (SUFFIX[family.type] or "")
  out[#out + 1] = name .. braces(one.labels) .. " " .. one.value .. "\n"
end

-- Without a sum OpenMetrics has no count; the older format always has one.
local function histogram_lines(out, family, one, open)
  local total
  for _, bucket in ipairs(one.buckets) do
    local bound = number.bound(bucket[1])
    if not open then bound = bound:gsub("%.0$", "") end
    total = bucket[2]
    out[#out + 1] = family.name .. "_bucket" .. braces(one.labels, 'le="' .. bound .. '"') .. " "
      .. total .. "\n"
  end
  local labels = braces(one.labels)
  if one.sum or not open then
    out[#out + 1] = family.name .. "_count" .. labels .. " " .. total .. "\n"
  end
  if one.sum then out[#out + 1] = family.name .. "_sum" .. labels .. " " .. one.sum .. "\n" end
end

local function head(out, family, open)
  local name, kind = family.name, family.type
  if not open then
    name = name .. (SUFFIX[kind] or "")
    if kind == "info" then kind = "gauge" end
  end
  out[#out + 1] = ("# TYPE %s %s\n"):format(name, kind)
  if open and family.unit then out[#out + 1] = ("# UNIT %s %s\n"):format(name, family.unit) end
  if family.help and family.help ~= "" then
    local help = harmless(family.help):gsub(open and '[\\"\n]' or "[\\\n]", ESCAPES)
    out[#out + 1] = ("# HELP %s %s\n"):format(name, help)
  end
end

-- All of them. open: OpenMetrics. pause is called now and then, where there is one.
function text.render(families, open, pause)
  local out, pieces = {}, {}
  for _, family in ipairs(families) do
    if #family.series > 0 then
      head(out, family, open)
      local lines = family.type == "histogram" and histogram_lines or plain_lines
      for i, one in ipairs(family.series) do
        lines(out, family, one, open)
        if pause and i % 256 == 0 then pause() end
      end
      pieces[#pieces + 1] = table.concat(out)
      out = {}
    end
  end
  if open then pieces[#pieces + 1] = "# EOF\n" end
  return table.concat(pieces)
end

-- ---- as data ------------------------------------------------------------------------------------

local UNESCAPED = { n = "\n", ['"'] = '"', ["\\"] = "\\" }

local function labels_of(labels)
  local out, at = setmetatable({}, { __jsontype = "object" }), 1
  while at <= #labels do
    local name, from = labels:match('^([%w_]+)="()', at)
    local stop = from
    while labels:sub(stop, stop) ~= '"' do
      stop = stop + (labels:sub(stop, stop) == "\\" and 2 or 1)
    end
    out[name] = labels:sub(from, stop - 1):gsub("\\(.)", UNESCAPED)
    at = stop + 2
  end
  return out
end

-- A number where it is exact, else its digits.
local function value_of(digits)
  local x = tonumber(digits)
  if math.type(x) == "integer" or x and digits:find "[%.e]" then return x end
  return digits
end

-- The families as plain data.
function text.data(families)
  local list = setmetatable({}, { __jsontype = "array" })
  for _, family in ipairs(families) do
    local rows = setmetatable({}, { __jsontype = "array" })
    for i, one in ipairs(family.series) do
      local row = { labels = labels_of(one.labels), value = one.value and value_of(one.value),
        sum = one.sum and value_of(one.sum) }
      for n, bucket in ipairs(one.buckets or {}) do
        row.buckets = row.buckets or {}
        row.buckets[n] = { le = number.bound(bucket[1]), count = value_of(bucket[2]) }
      end
      rows[i] = row
    end
    list[#list + 1] = { name = family.name, type = family.type, unit = family.unit,
      help = family.help, series = rows }
  end
  return list
end

return text
