-- SPDX-License-Identifier: BSD-2-Clause
-- A set of metrics: what one table names, checked by BTF when it is made. A scrape measures all of
-- it and raises nothing: an entry that fails is left out, counted, and told once.
local bpf = require "moonbee"
local loop = require "moonbee.loop"
local http = require "moonbee.metrics.http"
local keys = require "moonbee.metrics.keys"
local number = require "moonbee.metrics.number"
local own = require "moonbee.metrics.own"
local series = require "moonbee.metrics.series"
local source = require "moonbee.metrics.source"
local text = require "moonbee.metrics.text"
local uv = require "luv"

local MAX_SERIES = 10000
local MAX_SECONDS = 5 -- of one scrape; what comes later is left out
local MOST_TOLD = 3   -- reasons of an entry, to a log
local SLICE = 1e6     -- ns, after which others have their turn

local set = {}
set.__index = set
set.__name = "moonbee.metrics"

-- ---- making -------------------------------------------------------------------------------------

local SUFFIXES = {
  counter = { "", "_total" }, gauge = { "" }, info = { "", "_info" },
  histogram = { "", "_bucket", "_count", "_sum" },
}

-- Names that lines begin with belong to one family.
local function claim(self, name, kind)
  for _, suffix in ipairs(SUFFIXES[kind]) do
    local owner = self.claimed[name .. suffix]
    if owner and owner ~= name then
      keys.fail(name, ("its name clashes with that of '%s'"):format(owner))
    end
    self.claimed[name .. suffix] = name
  end
end

-- Entries of the same name are one family: of one type, one unit.
local function family_of(self, name, entry)
  local family = self.by_name[name]
  if not family then
    claim(self, name, entry.type)
    family = { name = name, type = entry.type, unit = entry.unit, help = entry.help }
    self.by_name[name] = family
    self.order[#self.order + 1] = family
  end
  for _, key in ipairs { "type", "unit", "help" } do
    if entry[key] ~= nil and family[key] ~= nil and entry[key] ~= family[key]
      or key == "unit" and entry.unit ~= family.unit then
      keys.fail(name, ("entries of this name have different %ss"):format(key))
    end
  end
  family.help = family.help or entry.help
  return family
end

local function fixed_labels(entry)
  local names, out = {}, {}
  for label in pairs(entry.labels or {}) do names[#names + 1] = label end
  table.sort(names)
  for i, label in ipairs(names) do out[i] = text.label(label, entry.labels[label]) end
  return table.concat(out, ",")
end

local function add(self, t, i, env, is_function)
  local name, kind = keys.entry(t, i, is_function)
  local entry = { number = i }
  for key, value in pairs(t) do entry[key] = value end
  entry.name, entry.scale = name, t.scale ~= 1 and t.scale or nil
  local family = family_of(self, name, t)
  local collect, finish = source.compile(name, entry, kind, env)
  self.entries[i] = { family = family, collect = collect, fixed = fixed_labels(t),
    finish = finish or function(out) return out:finish(entry) end }
end

-- The set of a table of entries. env: source.env's; is_function: does a value stand for a function?
-- warn(text) is told once of each entry that fails. Raises an error object that names the entry.
function set.compile(t, env, is_function, warn)
  local self = setmetatable({ entries = {}, by_name = {}, order = {}, claimed = {}, told = {},
    errors = {}, max = t.max_series or MAX_SERIES, warn = warn }, set)
  for i = 1, #t do add(self, t[i], i, env, is_function) end
  return self
end

-- ---- a scrape -----------------------------------------------------------------------------------

local function reason(err)
  if bpf.type(err) == "error" then return err.cause, err.hint end
  return (tostring(err):gsub("^%S*moonbee/metrics/%l+%.lua:%d+: ", "")) -- a policy's line stays
end

-- Told once for each reason, and for few of them: a text may change with each scrape.
local function tell(self, name, why, hint)
  local told = self.told[name] or {}
  self.told[name] = told
  if told[why] or #told == MOST_TOLD then return end
  told[why], told[#told + 1] = true, why
  self.warn(("metric '%s': %s%s"):format(name, why, hint and "\nhint: " .. hint or ""))
end

-- Have others their turn now and then; and an end to a scrape that takes too long.
local function pacer(pause)
  local begin = uv.hrtime()
  local last = begin
  return function()
    local now = uv.hrtime()
    if now - begin > MAX_SECONDS * 1e9 then
      error(("the scrape took longer than %d seconds"):format(MAX_SECONDS), 0)
    end
    if not pause or now - last < SLICE then return end
    pause()
    last = uv.hrtime()
  end
end

-- Series of an earlier entry of the same family are not there twice.
local function merge(family, list, seen)
  for _, one in ipairs(list) do
    if seen[one.labels] then
      error(("two entries have a series {%s}"):format(one.labels), 0)
    end
  end
  for _, one in ipairs(list) do
    seen[one.labels] = true
    table.insert(family.series, one)
  end
end

local function measure(self, entry, budget, pace)
  local out = series.new(budget, entry.fixed)
  pace()
  entry.collect(out, pace)
  return entry.finish(out)
end

local function scrape_entry(self, entry, families, budget, pace)
  local name, left, cut = entry.family.name, budget.left, budget.cut
  local family = families[name]
  local ok, err = pcall(function()
    merge(family, measure(self, entry, budget, pace), family.seen)
  end)
  if not ok then
    budget.left = left
    self.errors[name] = (self.errors[name] or 0) + 1
    tell(self, name, reason(err))
  elseif budget.cut > cut then
    family.cut = (family.cut or 0) + budget.cut - cut
    tell(self, name, "it has more series than there is room for: the rest is left out",
      ("max_series is %d; key = {…} names fewer labels"):format(self.max))
  end
end

-- What moonbee says of the scrape itself. label: of all its own.
local function about(self, families, label, begin)
  local errors, cut = {}, {}
  for i, family in ipairs(families) do
    local labels = own.labels(label, "metric", family.name)
    errors[i] = { labels = labels, value = number.text(self.errors[family.name] or 0) }
    cut[i] = { labels = labels, value = number.text(family.cut or 0) }
  end
  return own.family("scrape_errors", "counter", errors),
    own.family("scrape_series_left_out", "gauge", cut),
    own.family("scrape_duration_seconds", "gauge",
      { { labels = label, value = ("%.6f"):format((uv.hrtime() - begin) / 1e9) } })
end

-- Measure all of it: a list of families, moonbee's own first. pause() lets others have their turn,
-- where there is one; label: text of a label for moonbee's own; mine: more of those.
function set:families(pause, label, mine)
  local begin, pace = uv.hrtime(), pacer(pause)
  local list, budget = {}, { left = self.max, cut = 0 }
  for i, family in ipairs(self.order) do
    list[i] = { name = family.name, type = family.type, unit = family.unit, help = family.help,
      series = {}, seen = {} }
    list[family.name] = list[i]
  end
  for _, entry in ipairs(self.entries) do scrape_entry(self, entry, list, budget, pace) end
  local all = mine or {}
  for _, family in ipairs { about(self, list, label or "", begin) } do all[#all + 1] = family end
  return table.move(list, 1, #self.order, #all + 1, all)
end

-- work(…), for one coroutine of the loop at a time: many clients take no more of it than one does.
function set.in_turn(work)
  local busy, waiting = false, {}
  local free = setmetatable({}, { __close = function()
    busy = false
    local list = waiting
    waiting = {}
    for _, wake in ipairs(list) do wake() end
  end })
  return function(...)
    while busy do
      loop.await(function(wake) waiting[#waiting + 1] = wake end)
    end
    busy = true
    local _ <close> = free
    return work(...)
  end
end

-- What a scrape over HTTP is answered, by its Accept. render(kind) -> text, or nil: nothing is
-- there.
function set.answer(render)
  return function(accept)
    local open = http.wants_openmetrics(accept)
    local body = render(open and "openmetrics" or "prometheus")
    if not body then return 503 end
    return 200, open and text.OPENMETRICS or text.PROMETHEUS, body
  end
end

return set
