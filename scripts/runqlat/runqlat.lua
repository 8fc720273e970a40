#!/usr/bin/env -S moonbee run
-- SPDX-License-Identifier: BSD-2-Clause
-- runqlat: how long tasks that are ready wait for a CPU, as a histogram.
--
--   moonbee run runqlat --interval 1
--   moonbee run runqlat --pid 4242 --duration 10 --json
local bpf = require "moonbee"
local loop = require "moonbee.loop"
local argparse = require "argparse"
local cli = require "moonbee.cli"

local function number(text)
  local n = tonumber(text)
  if n and n > 0 and n <= 86400 then return n end
  return nil, ("a number of seconds is expected, not '%s'"):format(text)
end

local function natural(text)
  local n = math.tointeger(tonumber(text))
  if n and n > 0 and n < 2 ^ 31 then return n end
  return nil, ("a whole number from 1 on is expected, not '%s'"):format(text)
end

local parser = argparse("moonbee run runqlat",
  "Show how long tasks that are ready to run wait for a CPU.")
  :epilog "Ctrl-C, or the end of the time, prints what was counted; nothing stays attached."
  :usage_max_width(80):help_max_width(80)
parser:option("-p --pid", "Only the threads of this process.", nil, natural)
parser:option("-i --interval", "Print, and begin anew, every so many seconds.", nil, number)
parser:option("-d --duration", "End after so many seconds.", nil, number)
parser:flag("-j --json", "One JSON object for each histogram.")

local parsed, opts = parser:pparse { ... }
if not parsed then cli.usage(("runqlat: %s\n%s"):format(opts, parser:get_usage())) end
io.stdout:setvbuf "line"

local obj <close> = bpf.open(bpf.find "runqlat.bpf.o")
obj.vars.only_tgid = opts.pid or 0
obj:load():attach()
local v = obj.vars

-- What was counted, and zero from now on: each counter is taken by one exchange.
local function take()
  local counted = { slots = {}, missed = bpf.ref(v, "missed"):xchg(0) }
  for i = 0, #v.slots - 1 do
    counted.slots[i + 1] = bpf.ref(v, ("slots[%d]"):format(i)):xchg(0)
  end
  for _, name in ipairs { "waits", "total_ns", "longest_ns" } do
    counted[name] = bpf.ref(v, name):xchg(0)
  end
  return counted
end

local function bounds(slot)
  if slot == 1 then return 0, 0 end
  return 1 << slot - 2, (1 << slot - 1) - 1
end

local function last_used(slots)
  for i = #slots, 1, -1 do
    if slots[i] > 0 then return i end
  end
  return 0
end

local function print_text(counted)
  local most = math.max(1, table.unpack(counted.slots))
  print(("%12s : %-9s distribution"):format("us", "waits"))
  for i = 1, last_used(counted.slots) do
    local low, high = bounds(i)
    local n = counted.slots[i]
    print(("%12s : %-9d |%-40s|"):format(low == high and low or low .. "-" .. high, n,
      ("*"):rep(math.ceil(n / most * 40))))
  end
  local mean = counted.waits > 0 and counted.total_ns / counted.waits / 1000 or 0
  print(("%d waits, %.1f us on average, at most %.1f us"):format(counted.waits, mean,
    counted.longest_ns / 1000))
  if counted.missed > 0 then print(counted.missed .. " not counted: too many tasks at once") end
end

local function print_json(counted)
  local histogram = setmetatable({}, { __jsontype = "array" })
  for i = 1, last_used(counted.slots) do
    local low, high = bounds(i)
    histogram[i] = { low_us = low, high_us = high, count = counted.slots[i] }
  end
  print(bpf.json {
    histogram = histogram, waits = counted.waits, total_ns = counted.total_ns,
    longest_ns = counted.longest_ns, missed = counted.missed,
  })
end

local show = opts.json and print_json or print_text
if opts.interval then
  loop.every(opts.interval, function()
    if not opts.json then print(os.date "%H:%M:%S") end
    show(take())
  end)
end
if opts.duration then loop.after(opts.duration, loop.stop) end
if not opts.json then loop.spawn(print, "Measuring. Ctrl-C ends.") end
if not opts.interval and not opts.duration then
  loop.every(3600, function() end)      -- nothing else keeps the loop going until Ctrl-C
end
loop.run()
show(take())
