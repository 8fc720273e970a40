-- SPDX-License-Identifier: BSD-2-Clause
--
-- Things to attach programs to, and what makes these run: a pair of network interfaces, a control
-- group, sockets. For the specs of links.
--
--   local hooks = require "support.hooks"
--   hooks.setup()                        -- in setup(); hooks.teardown() in teardown()
--   hooks.here, hooks.there              -- names of the pair; hooks.packet() sends one to here
--   hooks.udp("127.0.0.1")               -- all that a UDP socket does, once
--   hooks.in_cgroup(function(path) … end)     -- this process is in that control group meanwhile

local lfs = require "lfs"
local uv = require "luv"
local run = require "support.run"

local PID = ("%d"):format(uv.os_getpid())
local hooks = {
  here = "mbc" .. PID, there = "mbd" .. PID, kit = "mbk" .. PID,
  -- From there to here. Networks for documentation, which nothing else uses.
  address = "198.51.100.2", broadcast = "198.51.100.255",
}
local KIT, BEHIND = "203.0.113.1", "203.0.113.2"

function hooks.ip(...)
  local r = run { "ip", ... }
  if r.rc ~= 0 then error("ip " .. table.concat({ ... }, " ") .. ": " .. r.err) end
  return r.out
end

function hooks.setup()
  hooks.ip("link", "add", hooks.here, "type", "veth", "peer", "name", hooks.there)
  for _, name in ipairs { hooks.here, hooks.there } do   -- nobody else's packets
    local file <close> = assert(io.open("/proc/sys/net/ipv6/conf/" .. name .. "/disable_ipv6", "w"))
    file:write "1"
  end
  hooks.ip("address", "add", hooks.address .. "/24", "dev", hooks.there)
  hooks.ip("link", "set", hooks.here, "up")
  hooks.ip("link", "set", hooks.there, "up")
end

function hooks.teardown()
  run { "ip", "link", "delete", hooks.here }
end

local function close(...)
  for _, handle in ipairs { ... } do
    if not handle:is_closing() then handle:close() end
  end
  uv.run "nowait"
end

local function send(from, to)
  local udp = uv.new_udp()
  assert(udp:bind(from, 0))
  udp:set_broadcast(true)
  udp:try_send("moonbee", to, 9)
  close(udp)
end

function hooks.packet() send(hooks.address, hooks.broadcast) end

-- A netkit pair, for the time of fn; false where the kernel makes none.
function hooks.netkit(fn)
  if run({ "ip", "link", "add", hooks.kit, "type", "netkit" }).rc ~= 0 then return false end
  local _ <close> = setmetatable({}, { __close = function()
    run { "ip", "link", "delete", hooks.kit }
  end })
  local peer = hooks.ip("link", "show", hooks.kit):match(hooks.kit .. "@([%w]+)")
  hooks.ip("address", "add", KIT .. "/24", "dev", hooks.kit)
  hooks.ip("link", "set", hooks.kit, "up")
  hooks.ip("link", "set", peer, "up")
  fn()
  return true
end

function hooks.kit_packet() send(KIT, BEHIND) end

-- Creates, binds, asks for names, sets and gets options, sends, receives, connects, ends.
function hooks.udp(address)
  local udp, got = uv.new_udp(), false
  assert(udp:bind(address, 0))
  local port = udp:getsockname().port
  udp:set_ttl(64)
  udp:send_buffer_size()
  udp:recv_start(function(_, data) got = got or data ~= nil end)
  local sender = uv.new_udp()
  sender:try_send("moonbee", address, port)
  for _ = 1, 100 do
    if got then break end
    uv.run "nowait"
  end
  if sender:connect(address, port) then sender:getpeername() end
  close(udp, sender)
end

-- A TCP connection over lo, both ends closed.
function hooks.tcp()
  local server, client = uv.new_tcp(), uv.new_tcp()
  local accepted, connected = nil, false
  assert(server:bind("127.0.0.1", 0))
  server:listen(1, function()
    accepted = uv.new_tcp()
    server:accept(accepted)
  end)
  client:connect("127.0.0.1", server:getsockname().port, function() connected = true end)
  while not (accepted and connected) do uv.run "once" end
  close(server, client, accepted)
end

-- A connection by a path, and its names.
function hooks.unix()
  local path = "/run/mbspec-" .. PID           -- not everywhere can sockets be: not on 9p
  local server, client, connected = uv.new_pipe(false), uv.new_pipe(false), false
  assert(server:bind(path))
  server:listen(1, function() end)
  client:connect(path, function() connected = true end)
  while not connected do uv.run "once" end
  client:getpeername()
  server:getsockname()
  close(server, client)
  os.remove(path)
end

function hooks.call() uv.os_getpriority(0) end

function hooks.file() io.open("/dev/null"):close() end

function hooks.sysctl()
  local file <close> = assert(io.open "/proc/sys/kernel/ostype")
  file:read "a"
end

-- Another task runs for a while, or none.
function hooks.switch() uv.sleep(1) end

-- Time of this CPU passes.
function hooks.spin()
  local till = uv.hrtime() + 2e6
  while uv.hrtime() < till do end
end

-- --- control groups -----------------------------------------------------------------------------

local function mount_point()
  for line in io.lines "/proc/mounts" do
    local path = line:match "^%S+ (%S+) cgroup2 "
    if path then return path end
  end
end

local function write(path, text)
  local file <close> = assert(io.open(path, "w"))
  assert(file:write(text))
end

local function own_group()
  for line in io.lines "/proc/self/cgroup" do
    local path = line:match "^0::(.*)$"
    if path then return path end
  end
end

function hooks.has_cgroup() return mount_point() ~= nil end

function hooks.in_cgroup(fn)
  local root, before = assert(mount_point()), own_group()
  local path = root .. "/mbspec-" .. PID
  assert(lfs.mkdir(path))
  local _ <close> = setmetatable({}, { __close = function()
    write(root .. before .. "/cgroup.procs", PID)
    lfs.rmdir(path)
  end })
  write(path .. "/cgroup.procs", PID)
  fn(path)
end

return hooks
