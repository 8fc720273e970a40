-- SPDX-License-Identifier: BSD-2-Clause
-- What moves on a session's screen: watches, plots, and histograms. Each makes lines of text; where
-- they are shown is the front's affair.
--
--   local l = live.new{ every = loop.every, show = function(lines) … end, columns = …, rows = …,
--     unicode = true, warn = function(text) … end, now = function() return seconds end }
local core = require "moonbee.core"
local format = require "moonbee.format"
local show = require "moonbee.show"

local live = {}
live.__index = live

local TABLE_ROWS = 20 -- of one watch
local HEIGHT = 8      -- rows of a plot

function live.new(host)
  return setmetatable({ host = host, items = {}, last = 0 }, live)
end

-- ---- numbers ------------------------------------------------------------------------------------

local SCALES = { { 1e15, "P" }, { 1e12, "T" }, { 1e9, "G" }, { 1e6, "M" }, { 1e4, "k", 1e3 } }

-- A number as a person reads it: 12.3M, 1234, 0.25.
local function short(x)
  local size = math.abs(x)
  for _, scale in ipairs(SCALES) do
    if size >= scale[1] then return ("%.4g%s"):format(x / (scale[3] or scale[1]), scale[2]) end
  end
  if x == math.floor(x) then return ("%d"):format(x) end
  return ("%.4g"):format(x)
end
live.short = short

local function is_number(x)
  return math.type(x) ~= nil and x == x and math.abs(x) < math.huge
end

-- How fast a number changed since it was last asked for this key: text, or "".
local function rate_of(item, key, value, now)
  local before = item.before[key]
  item.before[key] = { value, now }
  if not before or now <= before[2] or not is_number(value) then return "" end
  local rate = (value - before[1]) / (now - before[2])
  return ("  %s%s/s"):format(rate >= 0 and "+" or "", short(rate))
end

-- ---- items --------------------------------------------------------------------------------------

local handle = { __name = "moonbee.watch" }
handle.__index = handle

function live:refresh()
  local lines, room = {}, math.max(1, self.host.rows() - 4)
  for _, item in ipairs(self.items) do table.move(item.lines, 1, #item.lines, #lines + 1, lines) end
  if #lines > room then
    lines = table.move(lines, 1, room, 1, {})
    lines[room] = "… more than the terminal has room for"
  end
  self.host.show(lines)
end

local function remove(self, item)
  for i, other in ipairs(self.items) do
    if other == item then
      table.remove(self.items, i)
      return true
    end
  end
end

function handle:stop()
  if self.timer then self.timer:stop() end
  self.timer = nil
  if remove(self.live, self) then self.live:refresh() end
end

function handle:__tostring()
  return ("%s: %s"):format(self.title, self.timer and "every " .. short(self.seconds)
    .. " s; :stop() or unwatch() ends it" or "stopped")
end

-- Draw at once, and then each time.
local function start(self, item, seconds)
  item.live, item.seconds, item.before, item.lines = self, seconds, {}, {}
  setmetatable(item, handle)
  local function tick()
    local ok, lines = pcall(item.draw, item)
    if not ok then
      local text = core.type(lines) == "error" and tostring(lines)
        or tostring(lines):gsub("^repl:%d+: ", "")
      item:stop()
      return self.host.warn(("%s ended: %s\n"):format(item.title, text))
    end
    item.lines = lines
    self:refresh()
  end
  item.timer = self.host.every(seconds, tick)
  self.items[#self.items + 1] = item
  tick()
  return item
end

function live:stop_all()
  for _, item in ipairs { table.unpack(self.items) } do item:stop() end
end

-- What may be watched, as a function, and a name for it. what: "watch", "plot".
local function source_of(what, x)
  local kind = core.type(x)
  if kind == "view" and core.refresh and pcall(core.refresh, x) then
    return function() return core.refresh(x) end, core.typeof(x).name -- memory of the kernel
  elseif kind == "ref" then
    return function() return x:get() end, tostring(x):match "'(.*)'" or "ref"
  elseif kind == "view" or kind == "map" then
    local T = kind == "view" and core.typeof(x)
    return function() return x end, T and T.name or ("map '%s'"):format(x.name)
  elseif type(x) == "function" then
    local info = debug and debug.getinfo and debug.getinfo(x, "S")
    return x, info and info.source ~= "=repl" and ("%s:%d"):format(info.short_src, info.linedefined)
      or "function"
  end
  local hint = ""
  if x == nil or math.type(x) or type(x) == "string" or type(x) == "boolean" then
    hint = ("\nhint: that was read once: give %s(bpf.ref(vars, \"name\")), or a function,"
      .. " %s(function() return vars.name end)"):format(what, what)
  end
  error(("%s: function, ref, view or map expected, got %s%s"):format(what, kind
    or math.type(x) and "a number" or type(x), hint), 3)
end

local function check_seconds(what, seconds)
  if seconds == nil then return 1 end
  if not (is_number(seconds) and seconds >= 0.01 and seconds <= 86400) then
    error(("%s: seconds expected (a number from 0.01 to 86400), got %s"):format(what,
      tostring(seconds)), 3)
  end
  return seconds
end

-- ---- watch --------------------------------------------------------------------------------------

local function is_record(x)
  return type(x) == "table" and not (type(getmetatable(x)) == "table"
    and getmetatable(x).__tostring)
end

local function sorted(t)
  local keys = {}
  for key in next, t do keys[#keys + 1] = key end
  table.sort(keys, function(a, b)
    if math.type(a) and math.type(b) then return a < b end
    return tostring(a) < tostring(b)
  end)
  return keys
end

local function record_lines(item, t, now)
  local lines, width = { item.title .. ":" }, 0
  local keys = sorted(t)
  for i = 1, math.min(#keys, TABLE_ROWS) do width = math.max(width, #tostring(keys[i])) end
  for i = 1, math.min(#keys, TABLE_ROWS) do
    local key = keys[i]
    lines[#lines + 1] = ("  %s%s  %s%s"):format(tostring(key),
      (" "):rep(width - #tostring(key)), show.value(t[key], { width = math.huge }),
      rate_of(item, key, t[key], now))
  end
  if #keys > TABLE_ROWS then lines[#lines + 1] = ("  … %d more"):format(#keys - TABLE_ROWS) end
  return lines
end

local function split(title, text)
  local lines = {}
  for line in text:gmatch "[^\n]+" do lines[#lines + 1] = line end
  if #lines <= 1 then return { title .. " = " .. (lines[1] or "") } end
  table.insert(lines, 1, title .. ":")
  return lines
end

local function draw_watch(item)
  local values = table.pack(item.source())
  local now, host = item.live.host.now(), item.live.host
  if values.n == 1 and is_record(values[1]) then return record_lines(item, values[1], now) end
  local parts = {}
  for i = 1, values.n do
    parts[i] = show.value(values[i], { width = host.columns() - 2 })
      .. rate_of(item, i, values[i], now)
  end
  return split(item.title, table.concat(parts, "  "))
end

-- watch(fn | ref | view | map [, seconds])
function live:watch(x, seconds)
  local source, name = source_of("watch", x)
  seconds = check_seconds("watch", seconds)
  return start(self, { title = name, source = source, draw = draw_watch }, seconds)
end

-- ---- plot ---------------------------------------------------------------------------------------

local BLOCKS = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" }

-- The rows of a plot, without axis: each column as high as its sample between least and most.
local function bars(samples, least, most, height, unicode)
  local rows = {}
  local steps = unicode and 8 or 1
  for row = height, 1, -1 do
    local cells = {}
    for i, x in ipairs(samples) do
      local part = most > least and (x - least) / (most - least) or 0.5
      -- The least one shows, too.
      local full = math.max(1, math.floor(part * height * steps + 0.5))
      local here = math.max(0, math.min(steps, full - (row - 1) * steps))
      cells[i] = here == 0 and " " or unicode and BLOCKS[here] or "#"
    end
    rows[#rows + 1] = table.concat(cells)
  end
  return rows
end

local function extent(samples)
  local least, most = math.huge, -math.huge
  for _, x in ipairs(samples) do
    least, most = math.min(least, x), math.max(most, x)
  end
  return least, most
end

-- Lines of a plot. opts: title, seconds (from one sample to the next), height, width, unicode, rate
-- (text).
function live.plot_lines(samples, opts)
  local least, most = extent(samples)
  local labels = { short(most), short((least + most) / 2), short(least) }
  local left = math.max(#labels[1], #labels[2], #labels[3])
  local lines = { ("%s  now %s  min %s  max %s%s"):format(opts.title, short(samples[#samples]),
    labels[3], labels[1], opts.rate or "") }
  local axis, corner, dash = opts.unicode and "┤" or "|", opts.unicode and "└" or "+",
    opts.unicode and "─" or "-"
  local rows = bars(samples, least, most, opts.height, opts.unicode)
  for i, row in ipairs(rows) do
    local label = i == 1 and labels[1] or i == opts.height and labels[3]
      or i == opts.height // 2 + 1 and labels[2] or ""
    local at = opts.width - #samples
    lines[#lines + 1] = (" "):rep(left - #label) .. label .. axis .. (" "):rep(at) .. row
  end
  lines[#lines + 1] = (" "):rep(left) .. corner .. dash:rep(opts.width)
  local from = ("-%s s"):format(short(opts.width * opts.seconds))
  lines[#lines + 1] = (" "):rep(left + 1) .. from
    .. (" "):rep(math.max(1, opts.width - #from - 3)) .. "now"
  return lines
end

local function draw_plot(item)
  local value = item.source()
  if not is_number(value) then
    error(("a number expected, got %s"):format(show.value(value)), 0)
  end
  local host = item.live.host
  local now = host.now()
  local rate = rate_of(item, 1, value, now):gsub("^  ", "")
  local sample = value + 0.0
  if item.by_rate then
    local before = item.value_before
    item.value_before = value
    sample = before and (value - before) / item.seconds or nil
  end
  local samples, width = item.samples, math.max(10, math.min(host.columns() - 16, 120))
  if sample then samples[#samples + 1] = sample end
  while #samples > width do table.remove(samples, 1) end
  if #samples == 0 then return { item.title .. "  …" } end
  return live.plot_lines(samples, {
    title = item.title, seconds = item.seconds, width = width, unicode = host.unicode,
    height = math.max(2, math.min(item.height, host.rows() - 8)),
    rate = rate ~= "" and "  rate " .. rate or nil,
  })
end

-- plot(fn | ref [, seconds | { seconds =, height =, rate = true }])
function live:plot(x, options)
  if type(options) ~= "table" then options = { seconds = options } end
  for key in pairs(options) do
    if key ~= "seconds" and key ~= "height" and key ~= "rate" then
      error(("plot: no option '%s'\nhint: seconds, height, rate"):format(tostring(key)), 2)
    end
  end
  local kind = core.type(x)
  local source, name = source_of("plot", kind ~= "view" and kind ~= "map" and x or nil)
  local seconds = check_seconds("plot", options.seconds)
  local height = options.height or HEIGHT
  if math.type(height) ~= "integer" or height < 2 or height > 100 then
    error("plot: height expected (rows, from 2 to 100), got " .. tostring(height), 2)
  end
  return start(self, {
    title = name .. (options.rate and " per second" or ""), source = source, samples = {},
    by_rate = options.rate and true or false, height = height, draw = draw_plot,
  }, seconds)
end

-- ---- hist ---------------------------------------------------------------------------------------

local function range(n)
  if n <= 1 then return tostring(n) end
  return ("%s .. %s"):format(format.unsigned(1 << n - 1), format.unsigned((1 << n) - 1))
end

-- Lines of a histogram: buckets as bpf.hist gives them, width columns.
function live.hist_lines(buckets, width)
  local first, last, most = nil, 0, buckets.negative or 0
  for n, count in pairs(buckets) do
    if math.type(n) == "integer" and count > 0 then
      first, last, most = math.min(first or n, n), math.max(last, n), math.max(most, count)
    end
  end
  local rows, left, right = {}, #"value", #"count"
  local function row(name, count)
    rows[#rows + 1] = { name, ("%d"):format(count), count }
    left, right = math.max(left, #name), math.max(right, #rows[#rows][2])
  end
  if (buckets.negative or 0) > 0 then row("negative", buckets.negative) end
  for n = first or 0, first and last or -1 do row(range(n), buckets[n] or 0) end
  if #rows == 0 then return { "no values" } end
  local room = math.max(10, math.min(width - left - right - 8, 50))
  local lines = { ("%" .. left .. "s  %" .. right .. "s  distribution"):format("value", "count") }
  for i, r in ipairs(rows) do
    local n = math.ceil(r[3] / most * room)
    lines[i + 1] = ("%" .. left .. "s  %" .. right .. "s  |%s%s|"):format(r[1], r[2],
      ("@"):rep(n), (" "):rep(room - n))
  end
  return lines
end

local histogram = { __name = "moonbee.histogram" }
function histogram:__tostring()
  return table.concat(live.hist_lines(self.buckets, self.width), "\n")
end

-- A BPF program's own histogram: element n counts the numbers of n bits.
local function from_slots(array)
  local buckets = { count = 0 }
  for i, n in pairs(array) do
    local slot = type(array) == "table" and i - 1 or i
    buckets[slot], buckets.count = n, buckets.count + n
  end
  return buckets
end

local function from_list(list)
  local buckets = { count = #list, negative = 0 }
  for _, x in ipairs(list) do
    if not is_number(x) then error("hist: numbers expected, got " .. show.value(x), 3) end
    local n = 0
    if x < 0 then
      buckets.negative = buckets.negative + 1
    else
      while n < 64 and x >= 2.0 ^ n do n = n + 1 end
      buckets[n] = (buckets[n] or 0) + 1
    end
  end
  return buckets
end

-- hist(array [, field | { slots = true }]) -> an object that prints as the histogram
function live:hist(array, field)
  local buckets
  if type(field) == "table" and field.slots then
    buckets = from_slots(array)
  elseif core.type(array) == "view" then
    buckets = core.hist(array, field)
  elseif type(array) == "table" and array.count and array[1] == nil and array.negative then
    buckets = array
  elseif type(array) == "table" then
    buckets = from_list(array)
  else
    error(("hist: array or list expected, got %s"):format(core.type(array) or type(array)), 2)
  end
  return setmetatable({ buckets = buckets, width = self.host.columns() }, histogram)
end

-- The functions of a session.
function live:names()
  return {
    watch = function(x, seconds) return self:watch(x, seconds) end,
    unwatch = function(w) if w then w:stop() else self:stop_all() end end,
    plot = function(x, options) return self:plot(x, options) end,
    hist = function(array, field) return self:hist(array, field) end,
  }
end

return live
