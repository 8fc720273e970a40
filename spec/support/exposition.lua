-- SPDX-License-Identifier: BSD-2-Clause
--
-- Reads what a scrape gives, and refuses what is against the rules: OpenMetrics 1.0.0 by its ABNF
-- and its MUSTs, and Prometheus's text format 0.0.4. judge() asks the reference parser of
-- Prometheus's Python client, and compares.
--
--   local exposition = require "support.exposition"
--   local families = exposition.openmetrics(text)      -- raises; exposition.prometheus(text)
--   families.x.type, .unit, .help                      -- by the family's name
--   families.x.samples[1] = { name =, labels =, value = text }
--   exposition.value(families, "x_total", { a = "b" }) -- the value's text, or nil
--   exposition.judge(text, "openmetrics")              -- both; the families

local dkjson = require "dkjson"
local run = require "support.run"

local exposition = {}

local NAME, LABEL = "^[%a_:][%w_:]*", "^[%a_][%w_]*"

local function wrong(line, why)
  error(("line %d: %s: %s"):format(line.n, why, line.text), 0)
end

-- ---- lines --------------------------------------------------------------------------------------

local UNESCAPED = { n = "\n", ['"'] = '"', ["\\"] = "\\" }

-- A quoted value from a position on; returns it and where it ends.
local function quoted(line, at)
  local out = {}
  if line.text:sub(at, at) ~= '"' then wrong(line, "no quote") end
  at = at + 1
  while true do
    local c = line.text:sub(at, at)
    if c == "" then wrong(line, "a value that does not end") end
    if c == '"' then return table.concat(out), at + 1 end
    if c == "\\" then
      at = at + 1
      c = UNESCAPED[line.text:sub(at, at)] or wrong(line, "an unknown escape")
    end
    out[#out + 1] = c
    at = at + 1
  end
end

local function labels_of(line, at)
  local labels = {}
  if line.text:sub(at, at) ~= "{" then return labels, at end
  at = at + 1
  while line.text:sub(at, at) ~= "}" do
    if next(labels) then
      if line.text:sub(at, at) ~= "," then wrong(line, "no comma between labels") end
      at = at + 1
    end
    local name = line.text:match(LABEL, at) or wrong(line, "no label")
    if labels[name] then wrong(line, "a label twice") end
    at = at + #name
    if line.text:sub(at, at) ~= "=" then wrong(line, "no =") end
    labels[name], at = quoted(line, at + 1)
  end
  return labels, at + 1
end

local function is_number(text)
  if text == "NaN" or text == "+Inf" or text == "-Inf" then return true end
  return text:find "^[+-]?%d+%.?%d*$" or text:find "^[+-]?%d+%.?%d*[eE][+-]?%d+$"
    or text:find "^[+-]?%.%d+$"
end

-- name{labels} value, and nothing more: moonbee gives no timestamps.
local function sample_of(line)
  local name = line.text:match(NAME) or wrong(line, "no name")
  local labels, at = labels_of(line, #name + 1)
  local value = line.text:match("^ (%S+)$", at) or wrong(line, "not one value")
  if not is_number(value) then wrong(line, "no number") end
  return { name = name, labels = labels, value = value, line = line }
end

local function unescape(line, text, known)
  return (text:gsub("\\(.?)", function(c)
    return known:find(c, 1, true) and c ~= "" and UNESCAPED[c] or wrong(line, "an unknown escape")
  end))
end

local function lines_of(text)
  if not utf8.len(text) then error("it is no UTF-8", 0) end
  if text:sub(-1) ~= "\n" then error("the last line does not end", 0) end
  if text:find "\r" then error("it has a carriage return", 0) end
  local list = {}
  for each in text:gmatch "([^\n]*)\n" do list[#list + 1] = { n = #list + 1, text = each } end
  return list
end

-- ---- rules --------------------------------------------------------------------------------------

local SUFFIXES = {
  openmetrics = {
    counter = { _total = true }, gauge = { [""] = true }, info = { _info = true },
    histogram = { _bucket = true, _count = true, _sum = true }, unknown = { [""] = true },
  },
  prometheus = {
    counter = { [""] = true }, gauge = { [""] = true }, untyped = { [""] = true },
    histogram = { _bucket = true, _count = true, _sum = true },
  },
}

local function series_key(sample, without)
  local parts = {}
  for name, value in pairs(sample.labels) do
    if name ~= without then parts[#parts + 1] = ("%s=%q"):format(name, value) end
  end
  table.sort(parts)
  return table.concat(parts, ",")
end

local function below_zero(value)
  return value:find "^%-" and tonumber(value) ~= 0
end

local function check_bucket(group, sample)
  local le = sample.labels.le or wrong(sample.line, "a bucket without le")
  local bound = le == "+Inf" and math.huge or tonumber(le)
  if not bound then wrong(sample.line, "le is no number") end
  if group.bound and bound <= group.bound then wrong(sample.line, "buckets out of order") end
  if not sample.value:find "^%d+$" then wrong(sample.line, "a bucket is a whole number") end
  if group.last and math.tointeger(tonumber(sample.value))
    and math.ult(math.tointeger(tonumber(sample.value)), group.last) then
    wrong(sample.line, "a bucket counts less than the one before")
  end
  group.bound, group.last = bound, math.tointeger(tonumber(sample.value))
  group.text = sample.value
end

local function check_group(group, kind)
  local line = group.line
  if group.bound ~= math.huge then wrong(line, "no bucket +Inf") end
  if group.count and group.count ~= group.text then wrong(line, "_count is not the last bucket") end
  if kind == "openmetrics" and (group.count == nil) ~= (group.sum == nil) then
    wrong(line, "_sum and _count come together")
  elseif kind == "prometheus" and not group.count then
    wrong(line, "no _count")
  end
end

local function check_histogram(family, kind)
  local groups, order, last = {}, {}, nil
  for _, sample in ipairs(family.samples) do
    local key = series_key(sample, "le")
    if not groups[key] then
      groups[key] = { line = sample.line }
      order[#order + 1] = groups[key]
    elseif groups[key] ~= last then
      wrong(sample.line, "lines of a histogram apart")
    end
    last = groups[key]
    local suffix = sample.name:sub(#family.name + 1)
    if suffix == "_bucket" then
      check_bucket(last, sample)
    else
      if sample.labels.le then wrong(sample.line, "le, and no bucket") end
      last[suffix:sub(2)] = sample.value
    end
  end
  for _, group in ipairs(order) do check_group(group, kind) end
end

local COUNTED = { _total = true, _bucket = true, _count = true, _sum = true }

local function check_sample(family, sample, seen)
  local suffix = sample.name:sub(#family.name + 1)
  local key = sample.name .. "{" .. series_key(sample) .. "}"
  if seen[key] then wrong(sample.line, "a series twice") end
  seen[key] = true
  if family.type == "counter" or COUNTED[suffix] then
    if sample.value == "NaN" or below_zero(sample.value) then
      wrong(sample.line, "a counter that is no number from 0 on")
    end
  elseif family.type == "info" and sample.value ~= "1" then
    wrong(sample.line, "an info is 1")
  end
end

-- ---- both formats -------------------------------------------------------------------------------

local function new_family(families, name, line)
  if families[name] then wrong(line, "a family in two places") end
  local family = { name = name, samples = {}, seen = {} }
  families[name] = family
  families[#families + 1] = family
  return family
end

local function metadata(families, family, line, kind)
  local what, name, rest = line.text:match "^# (%u+) (%S+) (.+)$"
  if not what then wrong(line, "no such comment") end
  if not name:find(NAME .. "$") then wrong(line, "no name") end
  if not family or family.name ~= name then family = new_family(families, name, line) end
  if #family.samples > 0 then wrong(line, "it comes after samples") end
  local key = ({ TYPE = "type", HELP = "help", UNIT = kind == "openmetrics" and "unit" or nil })
    [what] or wrong(line, "no such comment")
  if family[key] then wrong(line, "told twice") end
  if key == "type" and not SUFFIXES[kind][rest] then wrong(line, "no such type") end
  if key == "help" then
    rest = unescape(line, rest, kind == "openmetrics" and 'n"\\' or "n\\")
    if kind == "openmetrics" and line.text:gsub("\\.", ""):find '"' then
      wrong(line, "a quote in a help that is not escaped")
    end
  end
  family[key] = rest
  return family
end

-- Names that lines begin with, of all families, are different.
local function check_names(families, kind)
  local owners = {}
  for _, family in ipairs(families) do
    local unit = family.unit
    if not family.type then error(family.name .. ": no type", 0) end
    if unit and family.name:sub(-#unit - 1) ~= "_" .. unit then
      error(family.name .. ": its unit is " .. unit, 0)
    end
    local suffixes = { [""] = true }
    for suffix in pairs(SUFFIXES[kind][family.type]) do suffixes[suffix] = true end
    for suffix in pairs(suffixes) do
      local name = family.name .. suffix
      if owners[name] then error(name .. ": two families have it", 0) end
      owners[name] = true
    end
  end
end

local function parse(text, kind)
  local families, family = {}, nil
  local lines = lines_of(text)
  if kind == "openmetrics" and table.remove(lines).text ~= "# EOF" then error("no # EOF", 0) end
  for _, line in ipairs(lines) do
    if line.text == "" then wrong(line, "a blank line") end
    if line.text == "# EOF" then wrong(line, "not at the end") end
    if line.text:sub(1, 1) == "#" then
      family = metadata(families, family, line, kind)
    else
      local sample = sample_of(line)
      local suffix = family and sample.name:sub(1, #family.name) == family.name
        and sample.name:sub(#family.name + 1)
      if not suffix or not family.type or not SUFFIXES[kind][family.type][suffix] then
        wrong(line, "not of the family above")
      end
      check_sample(family, sample, family.seen)
      table.insert(family.samples, sample)
    end
  end
  for _, each in ipairs(families) do
    if each.type == "histogram" then check_histogram(each, kind) end
  end
  check_names(families, kind)
  return families
end

function exposition.openmetrics(text) return parse(text, "openmetrics") end
function exposition.prometheus(text) return parse(text, "prometheus") end

-- The value of a series: its lines's name, all its labels.
function exposition.value(families, name, labels)
  local want = series_key { labels = labels or {} }
  for _, family in ipairs(families) do
    for _, sample in ipairs(family.samples) do
      if sample.name == name and series_key(sample) == want then return sample.value end
    end
  end
end

-- ---- the reference ------------------------------------------------------------------------------

local PYTHON = "/usr/bin/python3" -- the system's: it has the package

local JUDGE = [[
import json, sys
if sys.argv[1] == "openmetrics":
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
else:
    from prometheus_client.parser import text_string_to_metric_families as parse
out = []
for f in parse(sys.stdin.buffer.read().decode("utf-8")):
    out.append({"name": f.name, "type": f.type, "help": f.documentation, "unit": f.unit,
        "samples": [{"name": s.name, "labels": s.labels, "value": repr(s.value)}
            for s in f.samples]})
print(json.dumps(out))
]]

local function same_number(mine, theirs)
  theirs = ({ nan = "NaN", inf = "+Inf", ["-inf"] = "-Inf" })[theirs] or theirs
  return mine == theirs or tonumber(mine) and tonumber(mine) + 0.0 == (tonumber(theirs) or 0) + 0.0
end

local function compare(mine, theirs)
  for i, sample in ipairs(mine.samples) do
    local other = theirs.samples[i] or error(mine.name .. ": the reference has fewer samples", 0)
    if sample.name ~= other.name or series_key(sample) ~= series_key(other)
      or not same_number(sample.value, other.value) then
      error(("%s: read as %s %s by the reference"):format(sample.line.text, other.name,
        other.value), 0)
    end
  end
  if #mine.samples ~= #theirs.samples then error(mine.name .. ": other samples", 0) end
  if (mine.help or "") ~= theirs.help then error(mine.name .. ": another help", 0) end
  if (mine.unit or "") ~= theirs.unit then error(mine.name .. ": another unit", 0) end
end

-- By our rules and by the reference parser, which must read the same.
function exposition.judge(text, kind)
  local mine = exposition[kind](text)
  local r = run({ PYTHON, "-c", JUDGE, kind }, { stdin = text, timeout = 60 })
  if r.rc ~= 0 then error("the reference refuses it: " .. r.err:match "[^\n]*\n?$", 0) end
  local theirs = dkjson.decode(r.out)
  for i, family in ipairs(mine) do
    local other = theirs[i] or error("the reference has fewer families", 0)
    local name = kind == "prometheus" and family.name:gsub("_total$", "") or family.name
    if other.name ~= name or other.type ~= family.type then
      error(("%s is %s for the reference, a %s"):format(family.name, other.name, other.type), 0)
    end
    compare(family, other)
  end
  if #theirs ~= #mine then error("the reference has more families", 0) end
  return mine
end

-- Is the reference here?
function exposition.has_reference()
  return run({ PYTHON, "-c", "import prometheus_client.openmetrics.parser" }).rc == 0
end

-- Lines of the families that are not moonbee's own.
function exposition.lines(text)
  local out = {}
  for line in text:gmatch "[^\n]+" do
    if not line:find "^moonbee" and not line:find "^#" then out[#out + 1] = line end
  end
  return out
end

return exposition
