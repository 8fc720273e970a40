#!/usr/bin/env -S moonbee run
-- SPDX-License-Identifier: BSD-2-Clause
-- tcprtt: round-trip times of TCP connections, by peer.
--
--   moonbee run tcprtt --port 443
--   moonbee run tcprtt --duration 60 --json
local bpf = require "moonbee"
local loop = require "moonbee.loop"
local argparse = require "argparse"
local cli = require "moonbee.cli"

local within = require "moonbee.options".within

local parser = argparse("moonbee run tcprtt",
  "Show the round-trip times of TCP connections by peer, as the kernel smooths them.")
  :epilog "Ctrl-C, or the end of the time, prints what was seen; nothing stays attached."
  :usage_max_width(80):help_max_width(80)
parser:option("-p --port", "Only connections with this port, on either side.", nil,
  within(1, 65535, "a port"))
parser:option("-n --top", "Only the peers with the most samples.", "20",
  within(1, 4096, "a number from 1 to 4096"))
parser:option("-d --duration", "End after so many seconds.", nil,
  within(0.001, 86400, "a number of seconds"))
parser:flag("-j --json", "One JSON object for each peer.")

local parsed, opts = parser:pparse { ... }
if not parsed then cli.usage(("tcprtt: %s\n%s"):format(opts, parser:get_usage())) end
io.stdout:setvbuf "line"

local obj <close> = bpf.open(bpf.find "tcprtt.bpf.o")
obj.vars.only_port = opts.port and math.tointeger(opts.port) or 0
obj:load():attach()

local MAPPED = ("\0"):rep(10) .. "\xff\xff"

local function text_of(bytes)
  if bytes:sub(1, 12) == MAPPED then return ("%d.%d.%d.%d"):format(bytes:byte(13, 16)) end
  local words = {}
  for i = 1, 16, 2 do words[#words + 1] = ("%x"):format((">I2"):unpack(bytes, i)) end
  return table.concat(words, ":")
end

-- Microseconds that half of the samples, or some other part of them, do not exceed.
local function quantile(slots, samples, part)
  local seen = 0
  for i = 0, #slots - 1 do
    seen = seen + slots[i]
    if seen >= samples * part then return i == 0 and 0 or (1 << i) - 1 end
  end
  return 0
end

local function rows()
  local list = {}
  for _, entry in ipairs(obj.maps.peers:top(math.tointeger(opts.top), "samples")) do
    local peer = obj.maps.peers:get(entry.key)
    if peer then                        -- it may have been evicted meanwhile
      list[#list + 1] = {
        peer = text_of(bpf.bytes(entry.key)), samples = peer.samples,
        mean_us = peer.total_us // math.max(1, peer.samples), least_us = peer.least_us,
        most_us = peer.most_us, median_us = quantile(peer.slots, peer.samples, 0.5),
        p99_us = quantile(peer.slots, peer.samples, 0.99),
      }
    end
  end
  return list
end

if not opts.json then loop.spawn(print, "Measuring. Ctrl-C ends.") end
if opts.duration then
  loop.after(opts.duration, loop.stop)
else
  loop.every(3600, function() end)      -- keeps the loop going until Ctrl-C
end
loop.run()

if not opts.json then
  print(("%-39s %9s %9s %9s %9s %9s %9s"):format("PEER", "SAMPLES", "MEAN us", "LEAST", "<= MEDIAN",
    "<= 99%", "MOST"))
end
for _, r in ipairs(rows()) do
  if opts.json then
    print(bpf.json(r))
  else
    print(("%-39s %9d %9d %9d %9d %9d %9d"):format(r.peer, r.samples, r.mean_us, r.least_us,
      r.median_us, r.p99_us, r.most_us))
  end
end
