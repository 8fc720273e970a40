-- SPDX-License-Identifier: BSD-2-Clause
-- Where metrics are served: on this machine only, by a socket file or a port of the loopback.
local bpf = require "moonbee"
local loop = require "moonbee.loop"
local uv = require "luv"

local MODE = tonumber("660", 8)
local FILE = "metrics.sock" -- in a policy's run directory

local listen = {}

local function refuse(address, cause, hint)
  error(bpf.error { code = "EINVAL", op = "serve metrics", subject = address, cause = cause,
    hint = hint }, 0)
end

local function is_loopback(host)
  return host == "localhost" or host == "::1" or host:find "^127%.%d+%.%d+%.%d+$" ~= nil
end

-- Raises what is wrong with an address; returns whether it is a path.
function listen.check(address)
  if address:find "^%.?/" then return true end
  local host, port = address:match "^%[(.*)%]:(%d+)$"
  if not host then host, port = address:match "^([^:]*):(%d+)$" end
  port = math.tointeger(tonumber(port))
  if not port or port > 65535 then
    refuse(address, "it is no address", '"127.0.0.1:9435", "[::1]:9435", or a path "/run/x.sock"')
  elseif not is_loopback(host) then
    refuse(address, ("metrics are for this machine only: '%s' is not its loopback"):format(host),
      "127.0.0.1 or ::1; what lets others read them (a proxy with TLS) connects to that")
  end
  return false
end

local function inode(path)
  local st = uv.fs_lstat(path)
  return st and ("%d:%d"):format(st.dev, st.ino)
end

-- The socket file goes with its listener, if it still is its.
local function on_fd(fd, path, fn)
  local made, handle = inode(path), nil
  local ok, err = pcall(function() handle = loop.listen(fd, fn) end)
  if not ok then
    bpf.rundir.close_fd(fd)
    error(err, 0)
  end
  handle.address = path
  function handle.ends() -- also by the loop's end
    if made and inode(path) == made then uv.fs_unlink(path) end
  end
  return handle
end

-- Listen, and call fn with the stream of each connection. address: false: the run directory dir's
-- socket. Returns a handle: address, stop.
function listen.begin(address, dir, fn)
  if not address then return on_fd(dir:listen(FILE), dir.path .. "/" .. FILE, fn) end
  if listen.check(address) then return on_fd(bpf.rundir.listen(address, MODE), address, fn) end
  return loop.listen(address, fn)
end

return listen
