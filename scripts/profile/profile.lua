#!/usr/bin/env -S moonbee run
-- SPDX-License-Identifier: BSD-2-Clause
-- profile: where the kernel spends its time, by sampled stacks.
--
--   moonbee run profile --duration 10
--   moonbee run profile --duration 10 --folded | flamegraph.pl >kernel.svg
local bpf = require "moonbee"
local kernel = require "moonbee.kernel"
local loop = require "moonbee.loop"
local argparse = require "argparse"
local cli = require "moonbee.cli"

local within = require "moonbee.options".within

local parser = argparse("moonbee run profile",
  "Sample what the CPUs do, and show the kernel stacks that were seen most.")
  :epilog "Ctrl-C, or the end of the time, prints what was seen; nothing stays attached."
  :usage_max_width(80):help_max_width(80)
parser:option("-F --frequency", "Samples a second on each CPU.", 99,
  within(1, 10000, "a whole number from 1 to 10000", true))
parser:option("-p --pid", "Only this process.", nil,
  within(1, 2 ^ 31 - 1, "the id of a process", true))
parser:option("-n --top", "Only the stacks that were seen most.", 20,
  within(1, 16384, "a whole number from 1 to 16384", true))
parser:option("-d --duration", "End after so many seconds.", nil,
  within(0.001, 86400, "a number of seconds"))
parser:flag("-I --idle", "Idle CPUs, too.")
parser:flag("-f --folded", "One line a stack, as flame graphs want it.")
parser:flag("-j --json", "One JSON object for each stack.")

local parsed, opts = parser:pparse { ... }
if not parsed then cli.usage(("profile: %s\n%s"):format(opts, parser:get_usage())) end
io.stdout:setvbuf "line"

local obj <close> = bpf.open(bpf.find "profile.bpf.o")
obj.vars.only_pid, obj.vars.idle_too = opts.pid or 0, opts.idle or false
obj:load()
local link <close> = obj.progs.on_sample:attach {
  event = "cpu-clock", frequency = tonumber(opts.frequency),
}

-- ---- stacks -------------------------------------------------------------------------------------

local hidden = false -- by kptr_restrict, or for want of a capability

local function symbol(address)
  local ok, name, offset = pcall(kernel.symbolize, address)
  if not ok then hidden = true end
  if not ok or not name then return ("0x%x"):format(address) end
  return name, offset
end

-- Its functions, the innermost first; nil when none could be taken.
local function frames_of(id)
  local addresses = id >= 0 and obj.maps.stacks:get(id)
  if not addresses then return nil end
  local frames = {}
  for i = 0, #addresses - 1 do
    if addresses[i] == 0 then break end
    frames[#frames + 1] = symbol(addresses[i])
  end
  return frames
end

local function seen()
  local list = {}
  for sample, count in pairs(obj.maps.counts) do
    list[#list + 1] = { stack = sample.stack, pid = sample.pid, comm = sample.comm, count = count }
  end
  table.sort(list, function(a, b)
    if a.count ~= b.count then return a.count > b.count end
    return a.pid < b.pid or a.pid == b.pid and a.stack < b.stack
  end)
  return table.move(list, 1, math.min(#list, tonumber(opts.top)), 1, {})
end

-- ---- printing -----------------------------------------------------------------------------------

local function print_text(s, total)
  print(("%d samples (%.1f %%)  %s  %d"):format(s.count, s.count * 100 / total, s.comm, s.pid))
  for _, name in ipairs(s.frames or { "[user space]" }) do print("    " .. name) end
end

local function print_folded(s)
  local parts = { s.comm }
  for i = #(s.frames or {}), 1, -1 do parts[#parts + 1] = s.frames[i] end
  print(table.concat(parts, ";") .. " " .. s.count)
end

local function print_json(s)
  print(bpf.json {
    count = s.count, pid = s.pid, comm = s.comm,
    stack = s.frames and setmetatable(s.frames, { __jsontype = "array" }) or nil,
  })
end

local show = opts.json and print_json or opts.folded and print_folded or print_text
if not opts.json and not opts.folded then loop.spawn(print, "Sampling. Ctrl-C ends.") end
if opts.duration then
  loop.after(opts.duration, loop.stop)
else
  loop.every(3600, function() end)      -- keeps the loop going until Ctrl-C
end
loop.run()
link:close()

local total = obj.vars.samples
for _, s in ipairs(seen()) do
  s.frames = frames_of(s.stack)
  show(s, total)
end
if not opts.json and not opts.folded then print(total .. " samples") end
if hidden then
  io.stderr:write("profile: names of functions are hidden: see kernel.kptr_restrict\n")
end
