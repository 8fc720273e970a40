#!/usr/bin/env lua5.4
-- SPDX-License-Identifier: BSD-2-Clause
-- Sends UDP for ratelimit's demo and specs: a bounded amount, from several source addresses.
--   lua5.4 traffic.lua DESTINATION PORT SECONDS SOURCE=PPS[@FROM-TO]...
-- A source sends PPS packets a second all the time, or between FROM and TO seconds from the start.
-- Prints how many packets each has sent. Ends earlier when its standard input ends.
local uv = require "luv"

local TICK = 5          -- ms
local MAX_PPS, MAX_SECONDS = 100000, 60
local PAYLOAD = ("."):rep(64)

local function usage(why)
  io.stderr:write("traffic.lua: ", why,
    "\nusage: traffic.lua DESTINATION PORT SECONDS SOURCE=PPS[@FROM-TO]...\n")
  os.exit(2)
end

local destination, port, seconds = arg[1], math.tointeger(tonumber(arg[2])), tonumber(arg[3])
if not (destination and port and seconds and arg[4]) then usage "arguments are missing" end
if seconds > MAX_SECONDS then usage(("at most %d seconds"):format(MAX_SECONDS)) end

local function new_source(spec)
  local address, pps, from, to = spec:match "^([%x:.]+)=(%d+)@([%d.]+)-([%d.]+)$"
  if not address then address, pps = spec:match "^([%x:.]+)=(%d+)$" end
  pps = tonumber(pps)
  if not pps or pps > MAX_PPS then usage("no source: " .. spec) end
  local socket = uv.new_udp()
  assert(socket:bind(address, 0))
  return { address = address, socket = socket, pps = pps, from = tonumber(from) or 0,
    to = math.min(tonumber(to) or seconds, seconds), sent = 0, due = 0 }
end

local sources = {}
for i = 4, #arg do sources[#sources + 1] = new_source(arg[i]) end

-- What is due by now, and not more than was due in one tick late: no bursts after a pause.
local function send(source, now, span)
  if now < source.from or now > source.to then return end
  source.due = math.min(source.due + source.pps * span, source.pps * 0.05 + 1)
  while source.due >= 1 do
    source.due = source.due - 1
    if source.socket:try_send(PAYLOAD, destination, port) then source.sent = source.sent + 1 end
  end
end

local timer, stdin = uv.new_timer(), uv.new_pipe(false)
local start = uv.hrtime()
local last = 0

local function finish()
  timer:close()
  stdin:close()
  for _, source in ipairs(sources) do
    source.socket:close()
    print(source.address, source.sent)
  end
end

timer:start(0, TICK, function()
  local now = (uv.hrtime() - start) / 1e9
  if now >= seconds then return finish() end
  for _, source in ipairs(sources) do send(source, now, now - last) end
  last = now
end)
-- The one who started it holds the other end: when that one dies, so does this.
stdin:open(0)
stdin:read_start(function(_, data)
  if not data and not timer:is_closing() then finish() end
end)
uv.run()
