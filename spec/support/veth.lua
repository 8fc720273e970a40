-- SPDX-License-Identifier: BSD-2-Clause
--
-- A veth pair of our own: one end here, the other in a network namespace of its own, from which
-- numbered packets come.
--
--   local pair <close> = veth.new()
--   pair.ifname                                  -- of the end here
--   local s = pair:send(20000)                   -- packets a second
--   local sent = s:stop()

local run = require "support.run"

local HERE, THERE, NETNS = "mbp0", "mbp1", "moonbee-policy"

local veth = {}
veth.__index = veth

local function ip(...)
  local r = run { "ip", ... }
  if r.rc ~= 0 then error("ip " .. table.concat({ ... }, " ") .. ": " .. r.err, 2) end
end

local function delete()
  run { "ip", "link", "delete", HERE }
  run { "ip", "netns", "delete", NETNS }
end

function veth.new()
  delete() -- of a run that was killed
  ip("netns", "add", NETNS)
  ip("link", "add", HERE, "type", "veth", "peer", "name", THERE, "netns", NETNS)
  ip("address", "add", "10.77.0.1/24", "dev", HERE)
  ip("link", "set", HERE, "up")
  ip("-n", NETNS, "address", "add", "10.77.0.2/24", "dev", THERE)
  ip("-n", NETNS, "link", "set", THERE, "up")
  -- known neighbours: no packet waits for ARP
  local mac = run({ "ip", "-o", "link", "show", HERE }).out:match "link/ether (%S+)"
  ip("-n", NETNS, "neigh", "add", "10.77.0.1", "lladdr", mac, "dev", THERE)
  return setmetatable({ ifname = HERE }, veth)
end

function veth:send(pps)
  local p = run.start({ "ip", "netns", "exec", NETNS, "lua5.4", "spec/support/sender.lua",
    "10.77.0.1", "7777", tostring(pps) }, { timeout = 3000 })
  return { stop = function()
    p:write "stop\n"
    local r = p:wait()
    return math.tointeger(tonumber(r.out)) or error("the sender failed: " .. r.err)
  end, close = function() p:close() end }
end

function veth.__close() delete() end

return veth
