#!/usr/bin/env -S moonbee run
-- SPDX-License-Identifier: BSD-2-Clause
-- bpftop: which BPF programs run, how often, and what they cost.
--
--   moonbee run bpftop
--   moonbee run bpftop --interval 5 --top 3 --json
local bpf = require "moonbee"
local loop = require "moonbee.loop"
local argparse = require "argparse"
local cli = require "moonbee.cli"

local within = require "moonbee.options".within

local parser = argparse("moonbee run bpftop",
  "Show which BPF programs of this machine run, how often, and what they cost.")
  :epilog("The kernel counts for as long as this runs, which costs each run some nanoseconds. "
  .. "Ctrl-C ends it.")
  :usage_max_width(80):help_max_width(80)
parser:option("-i --interval", "Seconds from one table to the next.", 1,
  within(0.01, 3600, "a number of seconds from 0.01 to 3600"))
parser:option("-c --count", "End after this many tables.", nil,
  within(1, 2 ^ 31, "a whole number from 1 on", true))
parser:option("-n --top", "Only the programs that cost the most.", 20,
  within(1, 10000, "a whole number from 1 to 10000", true))
parser:flag("-a --all", "Those that did not run, too.")
parser:flag("-j --json", "One JSON object for each table.")

local parsed, opts = parser:pparse { ... }
if not parsed then cli.usage(("bpftop: %s\n%s"):format(opts, parser:get_usage())) end
io.stdout:setvbuf "line"
local interval = tonumber(opts.interval)

local counting <close> = bpf.stats() -- luacheck: ignore 211
local before, at = {}, bpf.now_ns()

-- Runs and time of each program since the last look; the first look of one only begins.
local function look()
  local rows, now, seen = {}, bpf.now_ns(), {}
  local seconds = (now - at) / 1e9
  for _, p in ipairs(bpf.programs()) do
    local ok, prog = pcall(bpf.program, p.id)
    if ok then                          -- it may have gone meanwhile
      local s <const> = prog.stats
      prog:close()
      local last = before[p.id] or s
      seen[p.id] = s
      local runs, ns = s.run_count - last.run_count, s.run_time_ns - last.run_time_ns
      if runs > 0 or opts.all then
        rows[#rows + 1] = {
          id = p.id, name = p.name, type = p.type, runs = runs, run_time_ns = ns,
          runs_a_second = runs / seconds, cpu_percent = ns / seconds / 1e7,
          ns_a_run = runs > 0 and ns / runs or 0,
        }
      end
    end
  end
  before, at = seen, now
  table.sort(rows, function(a, b)
    if a.run_time_ns ~= b.run_time_ns then return a.run_time_ns > b.run_time_ns end
    return a.id < b.id
  end)
  return table.move(rows, 1, math.min(#rows, tonumber(opts.top)), 1, {})
end

local function print_text(rows)
  print(("%-8s %-16s %-20s %12s %10s %8s"):format("ID", "NAME", "TYPE", "RUNS/s", "ns/RUN",
    "CPU %"))
  for _, r in ipairs(rows) do
    print(("%-8d %-16s %-20s %12.1f %10.0f %8.3f"):format(r.id, r.name, r.type, r.runs_a_second,
      r.ns_a_run, r.cpu_percent))
  end
end

local function print_json(rows)
  print(bpf.json { time = os.time(), programs = setmetatable(rows, { __jsontype = "array" }) })
end

local shown = 0
look()
loop.every(interval, function()
  local rows = look()
  if opts.json then
    print_json(rows)
  else
    print_text(rows)
  end
  shown = shown + 1
  if shown == opts.count then loop.stop() end
end)
loop.run()
