-- SPDX-License-Identifier: BSD-2-Clause
-- Sockets for coroutines of the loop: what loop.connect and loop.listen do. Reading and writing
-- wait as loop.sleep does. A stream that the loop's end finds open is closed.
local core = require "moonbee.core"

local MAX_LINE = 1 << 20

-- ---- addresses ----------------------------------------------------------------------------------

-- "/run/x.sock", "./x.sock": a path; "host:port", "[::1]:80", ":80".
local function split(address, what)
  if type(address) ~= "string" then
    error(what .. ": address expected, got " .. type(address), 4)
  elseif address:find "^%.?%.?/" then
    return nil, address
  end
  local host, port = address:match "^%[(.*)%]:(%d+)$"
  if not host then host, port = address:match "^([^:]*):(%d+)$" end
  port = math.tointeger(tonumber(port))
  if not port or port > 65535 then
    error(("%s: no address '%s'\nhint: \"/run/x.sock\", \"host:port\", \"[::1]:port\"")
      :format(what, address), 4)
  end
  return port, host
end

local function refuse(op, subject, text, code)
  error(core.error {
    code = code or tostring(text):match "^%u+" or "EIO", op = op, subject = subject,
    cause = (tostring(text):gsub("^%u+: ", "")),
  }, 0)
end

-- luv's callbacks tell an error by its name alone.
local WORDS = {
  EACCES = "permission denied", ECANCELED = "it was ended", ECONNREFUSED = "connection refused",
  ECONNRESET = "connection reset by peer", EHOSTUNREACH = "no route to host",
  EMFILE = "too many open files", ENETUNREACH = "network is unreachable",
  ENOENT = "no such file or directory", EPIPE = "nobody reads it any more",
  ETIMEDOUT = "connection timed out", EAI_NONAME = "unknown host",
  EAI_AGAIN = "no name server answers",
}

local function words(err)
  return WORDS[err] or err
end

-- ---- streams ------------------------------------------------------------------------------------

local stream = {}
stream.__index = stream
stream.__name = "moonbee.stream"

function stream:__tostring()
  return ("moonbee.stream '%s'%s"):format(self.address, self.closed and " (closed)" or "")
end

local function new_stream(host, socket, address)
  local s = setmetatable({
    host = host, socket = socket, address = address, closed = false, ended = false, buffer = "",
  }, stream)
  host.streams[s] = true
  return s
end

local function check_open(s, what)
  if s.closed then error(what .. ": attempt to use a closed stream", 3) end
end

function stream:close()
  if self.closed then return end
  self.closed = true
  self.host.streams[self] = nil
  if not self.socket:is_closing() then self.socket:close() end
  -- Who waits for it (another coroutine) learns that it is over.
  local wake = self.wake
  if wake then wake(nil, "the stream was closed", "ECANCELED") end
end

stream.__close = stream.close

-- One more piece into the buffer; false at the end.
local function fill(s)
  if s.ended then return false end
  if s.wake then refuse("read from", s.address, "another coroutine reads it", "EBUSY") end
  local data, err, code = s.host.await(function(wake)
    s.wake = wake
    s.socket:read_start(s.host.guard(function(failed, piece)
      if not s.socket:is_closing() then s.socket:read_stop() end
      s.wake = nil
      if failed then return wake(nil, words(failed), failed) end
      wake(piece or false)
    end))
    return function()
      s.wake = nil
      if not s.socket:is_closing() then s.socket:read_stop() end
    end
  end)
  s.wake = nil
  if data == nil then refuse("read from", s.address, err, code) end
  if not data then
    s.ended = true
    return false
  end
  s.buffer = s.buffer .. data
  return true
end

local function take(s, n, skip)
  n = math.min(n, #s.buffer)
  local text = s.buffer:sub(1, n)
  s.buffer = s.buffer:sub(n + 1 + (skip or 0))
  return text
end

local function read_line(s)
  local from = 1
  while true do
    local at = s.buffer:find("\n", from, true)
    if at then return take(s, at - 1, 1) end
    from = #s.buffer + 1
    if from > MAX_LINE then
      refuse("read from", s.address, "a line of more than 1 MiB", "EMSGSIZE")
    end
    if not fill(s) then return s.buffer ~= "" and take(s, #s.buffer) or nil end
  end
end

function stream:read(how)
  check_open(self, "stream:read")
  if how == "line" then return read_line(self) end
  if how == nil then
    if self.buffer == "" and not fill(self) then return nil end
    return take(self, #self.buffer)
  end
  local n = how == "all" and math.maxinteger or math.type(how) == "integer" and how > 0 and how
  if not n then
    error("stream:read: a number of bytes, \"line\" or \"all\" expected, got " .. tostring(how), 2)
  end
  while #self.buffer < n and fill(self) do end -- luacheck: ignore 542
  if self.buffer == "" and how ~= "all" then return nil end
  return take(self, n)
end

function stream:lines()
  return function() return self:read "line" end
end

-- begin(done) starts a request of luv's; what it does is over when done(err) is called.
local function request(s, op, begin)
  local ok, err, code = s.host.await(function(wake)
    local started, text, name = begin(s.host.guard(function(failed)
      if failed then return wake(nil, words(failed), failed) end
      wake(true)
    end))
    if not started then wake(nil, text, name) end
  end)
  if not ok then refuse(op, s.address, err, code) end
end

function stream:write(...)
  check_open(self, "stream:write")
  local pieces = { ... }
  for i, piece in ipairs(pieces) do
    if type(piece) ~= "string" and type(piece) ~= "number" then
      error(("stream:write: argument %d is a %s, not a string"):format(i, type(piece)), 2)
    end
    pieces[i] = tostring(piece)
  end
  request(self, "write to", function(done) return self.socket:write(pieces, done) end)
  return self
end

function stream:finish()
  check_open(self, "stream:finish")
  request(self, "finish", function(done) return self.socket:shutdown(done) end)
end

-- ---- making -------------------------------------------------------------------------------------

local function resolve(host, op, address, name, port)
  local uv = host.uv
  local list, err, code = host.await(function(wake)
    local req, text, failed = uv.getaddrinfo(name ~= "" and name or "localhost", tostring(port),
      { socktype = "stream" }, host.guard(function(why, found)
        if why then return wake(nil, words(why), why) end
        wake(found)
      end))
    if not req then return wake(nil, text, failed) end
    -- It may have ended in the turn in which the loop stopped.
    return function() pcall(uv.cancel, req) end
  end)
  if not list then refuse(op, address, err, code) end
  return list
end

-- One attempt: true, or nil, text, code.
local function dial(s, begin)
  return s.host.await(function(wake)
    local req, text, code = begin(s.host.guard(function(failed)
      if failed then return wake(nil, words(failed), failed) end
      wake(true)
    end))
    if not req then return wake(nil, text, code) end
    return function() s:close() end
  end)
end

local connections = {}

function connections.connect(host, address)
  local port, name = split(address, "loop.connect")
  local uv = host.uv
  if not port then
    local s = new_stream(host, uv.new_pipe(false), address)
    local ok, err, code = dial(s, function(done) return s.socket:connect(name, done) end)
    if ok then return s end
    s:close()
    return refuse("connect to", address, err, code)
  end
  local err, code
  for _, at in ipairs(resolve(host, "connect to", address, name, port)) do
    local s = new_stream(host, uv.new_tcp(), address)
    local function begin(done) return s.socket:connect(at.addr, at.port, done) end
    local ok
    ok, err, code = dial(s, begin)
    if ok then return s end
    s:close()
  end
  return refuse("connect to", address, err or "no address", code or "ENOTFOUND")
end

-- A socket that listens already: a service manager's, one of rundir's.
local function adopt(host, fd)
  local kind = host.uv.guess_handle(fd)
  local socket = kind == "pipe" and host.uv.new_pipe(false) or kind == "tcp" and host.uv.new_tcp()
  if not socket then
    refuse("listen on", ("descriptor %d"):format(fd), "it is no socket", "ENOTSOCK")
  end
  return socket, socket:open(fd)
end

-- Bind now: names are not looked up, but "localhost" and "".
local function bind(host, address)
  if math.type(address) == "integer" then return adopt(host, address) end
  local port, name = split(address, "loop.listen")
  if not port then
    local socket = host.uv.new_pipe(false)
    return socket, socket:bind(name)
  end
  local socket = host.uv.new_tcp()
  if name == "localhost" then name = "127.0.0.1" end
  return socket, socket:bind(name ~= "" and name or "0.0.0.0", port)
end

-- Where it listens; with port 0 the system has chosen one.
local function bound(socket, address)
  local at = socket.getsockname and socket:getsockname()
  if type(at) ~= "table" then return address end
  return (at.family == "inet6" and "[%s]:%d" or "%s:%d"):format(at.ip, at.port)
end

-- source:accept(stream) for each connection. Returns the socket and its address.
function connections.listen(host, source, address)
  local uv = host.uv
  local socket, ok, err, code = bind(host, address)
  if ok then
    ok, err, code = socket:listen(128, host.guard(function(failed)
      if failed then refuse("listen on", tostring(address), words(failed), failed) end
      local peer = socket.getsockname and type(socket:getsockname()) == "table" and uv.new_tcp()
        or uv.new_pipe(false)
      local accepted, text, name = socket:accept(peer)
      if not accepted then
        peer:close()
        refuse("accept from", tostring(address), text, name)
      end
      source:accept(new_stream(host, peer, tostring(address)))
    end, source))
  end
  if ok then return socket, bound(socket, address) end
  host.close(socket)
  return refuse("listen on", tostring(address), err, code)
end

return connections
