-- SPDX-License-Identifier: BSD-2-Clause
-- Sends numbered UDP packets, each with its number as a 64-bit payload, for specs that count them.
--   lua5.4 sender.lua ADDRESS PORT PACKETS-PER-SECOND
-- Until its standard input ends, or a line "stop" comes; prints how many were sent.
local uv = require "luv"

local TICK = 2 -- ms
local address, port, pps = arg[1], math.tointeger(tonumber(arg[2])), tonumber(arg[3])

local socket, timer, stdin = uv.new_udp(), uv.new_timer(), uv.new_pipe(false)
local sent, due, last = 0, 0, uv.hrtime()

timer:start(0, TICK, function()
  local now = uv.hrtime()
  due = math.min(due + (now - last) / 1e9 * pps, pps * 0.05 + 1)
  last = now
  while due >= 1 do
    due = due - 1
    if socket:try_send(("<I8"):pack(sent + 1), address, port) then sent = sent + 1 end
  end
end)

local function finish()
  if timer:is_closing() then return end
  timer:close()
  stdin:close()
  socket:close()
  print(sent)
end

stdin:open(0)
stdin:read_start(function(_, data)
  if not data or data:find "stop" then finish() end
end)
uv.run()
