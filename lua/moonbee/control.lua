-- SPDX-License-Identifier: BSD-2-Clause
-- A policy's control socket: requests and events as JSON lines, for `moonbee ctl` and the console.
--
-- Nothing here waits for a client: what it does not read is kept up to a bound, then events are
-- left out, and a client that reads nothing for some seconds is closed. Each request runs in a
-- coroutine of the loop.
local bpf = require "moonbee"
local loop = require "moonbee.loop"
local uv = require "luv"
local dkjson = require "dkjson"

local rundir = bpf.rundir

local control = {
  PROTOCOL = 1,
  MAX_LINE = 1 << 20,   -- bytes of a request
  MAX_QUEUE = 1 << 20,  -- bytes that a client has not read yet; of events and parts
  MAX_REPLY = 16 << 20,
  MAX_CLIENTS = 32,
  MAX_REQUESTS = 16,    -- at hand, of one client
  STALL = 10,           -- seconds without reading
}

local function now()
  return uv.hrtime() / 1e9
end

local requests = {} -- name -> function(host, request, client) -> result

-- Have requests of this name answered by fn; what it raises is an error reply.
function control.register(name, fn)
  requests[name] = fn
end

-- ---- a client -----------------------------------------------------------------------------------

local client = {}
client.__index = client

function client:close()
  if self.closed then return end
  self.closed = true
  self.server.clients[self] = nil
  self.server.count = self.server.count - 1
  if not self.pipe:is_closing() then self.pipe:close() end
  for _, wake in ipairs(self.waiting) do wake() end
  self.waiting = {}
  for _, fn in ipairs(self.closers) do self.server.guard(fn)() end
end

-- fn is called once, when the client has gone.
function client:on_close(fn)
  self.closers[#self.closers + 1] = fn
end

function client:queued()
  return self.closed and 0 or self.pipe:get_write_queue_size()
end

local function written(self)
  return self.server.guard(function(err)
    self.read_at = now()
    if err then return self:close() end
    if self:queued() > control.MAX_QUEUE // 2 then return end
    local waiting = self.waiting
    self.waiting = {}
    for _, wake in ipairs(waiting) do wake() end
  end)
end

local function send(self, message)
  if self.closed then return end
  local ok, line = pcall(bpf.json, message)
  if not ok or #line > control.MAX_REPLY then
    local why = ok and "the reply is larger than 16 MiB" or tostring(line)
    line = bpf.json { id = message.id, ok = false,
      error = { code = "EMSGSIZE", op = "answer request", cause = why, text = why } }
  end
  if self:queued() == 0 then self.read_at = now() end
  self.pipe:write(line .. "\n", self.written)
end

-- Part of the reply to the request that this coroutine answers. Waits while the client has not read
-- what it was sent before; raises when it has gone.
function client:part(request, text)
  while not self.closed and self:queued() > control.MAX_QUEUE do
    loop.await(function(wake)
      self.waiting[#self.waiting + 1] = wake
    end)
  end
  if self.closed then error("the client has gone", 0) end
  send(self, { id = request.id, part = text })
end

local function event(self, name, data)
  if self:queued() > control.MAX_QUEUE then
    self.dropped = self.dropped + 1
    return
  end
  send(self, { event = name, data = data, dropped = self.dropped > 0 and self.dropped or nil })
  self.dropped = 0
end

-- ---- requests -----------------------------------------------------------------------------------

local function failure(err)
  if bpf.type(err) == "error" then
    return { code = err.code, op = err.op, subject = err.subject, cause = err.cause,
      hint = err.hint, text = tostring(err) }
  end
  return { code = "EINVAL", text = tostring(err) }
end

local function refuse(code, cause, hint)
  error(bpf.error { code = code, op = "answer request", subject = "control socket", cause = cause,
    hint = hint }, 0)
end

local function handler_of(request)
  if request.protocol ~= control.PROTOCOL then
    refuse("EPROTO", ("it is of protocol %s, and this is %d"):format(tostring(request.protocol),
      control.PROTOCOL), "the versions of moonbee differ: use the one that runs the policy")
  end
  local name = request.request
  if type(name) ~= "string" then refuse("EINVAL", "it names no request") end
  if not requests[name] and name:find "^console_" then require "moonbee.console.server" end
  return requests[name] or refuse("ENOSYS", ("there is no request '%s'"):format(name))
end

local function answer(self, request)
  local ok, result = xpcall(function()
    return handler_of(request)(self.server.host, request, self)
  end, function(err)
    if type(err) == "string" and not err:find "^[%w_./-]+:%d+: " then return err end
    return bpf.type(err) and err or require "moonbee.trace" (err, nil, 2)
  end)
  self.at_hand = self.at_hand - 1
  if ok then return send(self, { id = request.id, ok = true, result = result }) end
  send(self, { id = request.id, ok = false, error = failure(result) })
end

local function receive(self, line)
  local ok, request = pcall(dkjson.decode, line) -- raises where it is nested without end
  if not ok or type(request) ~= "table" then
    send(self, { ok = false, error = { code = "EBADMSG", text = "a line that is no JSON object" } })
    return self:close_soon()
  end
  if self.at_hand >= control.MAX_REQUESTS then
    return send(self, { id = request.id, ok = false,
      error = { code = "EBUSY", text = "too many requests at hand" } })
  end
  self.at_hand = self.at_hand + 1
  loop.spawn(answer, self, request)
end

-- After what is queued has gone out.
function client:close_soon()
  if self.closed then return end
  self.pipe:read_stop()
  if not self.pipe:shutdown(self.server.guard(function() self:close() end)) then self:close() end
end

local function readable(self, err, data)
  if err or not data then return self:close() end
  local from, seen = 1, #self.buffer
  self.buffer = self.buffer .. data
  while not self.closed do
    local at = self.buffer:find("\n", math.max(from, seen), true)
    if not at then break end
    if at > from then receive(self, self.buffer:sub(from, at - 1)) end
    from = at + 1
  end
  self.buffer = self.buffer:sub(from)
  if #self.buffer > control.MAX_LINE then
    send(self, { ok = false, error = { code = "EMSGSIZE", text = "a request of more than 1 MiB" } })
    self:close_soon()
  end
end

-- ---- the server ---------------------------------------------------------------------------------

local server = {}
server.__index = server

local function greet(self, fd, pid, uid)
  local pipe = uv.new_pipe(false)
  assert(pipe:open(fd))
  local c = setmetatable({ server = self, pipe = pipe, pid = pid, uid = uid, buffer = "",
    waiting = {}, closers = {}, at_hand = 0, dropped = 0, events = {}, data = {},
    read_at = now() }, client)
  self.clients[c] = true
  self.count = self.count + 1
  c.written = written(c)
  pipe:read_start(self.guard(function(err, data) readable(c, err, data) end))
  send(c, { moonbee = bpf.version, protocol = control.PROTOCOL, name = self.host.name,
    pid = math.tointeger(uv.os_getpid()), console = self.host.console or "off" })
end

local function accept(self)
  while true do
    local fd, pid, uid, allowed = rundir.accept(self.fd)
    if not fd then return end
    if not allowed or self.count >= control.MAX_CLIENTS then
      rundir.close_fd(fd)
      if not allowed and self.host.log then
        self.host.log:warn("a client of user %d was refused", uid)
      end
    else
      greet(self, fd, pid, uid)
    end
  end
end

-- Those who read nothing any more.
local function sweep(self)
  for c in pairs(self.clients) do
    if c:queued() > 0 and now() - c.read_at > control.STALL then c:close() end
  end
end

-- Tell those who asked for it.
function server:event(name, data)
  for c in pairs(self.clients) do
    if c.events[name] then event(c, name, data) end
  end
end

function server:close()
  if self.closed then return end
  self.closed = true
  self.sweeper:stop()
  self.poll:close()
  for c in pairs(self.clients) do c:close() end
  rundir.close_fd(self.fd)
end

-- Let what was answered go out (a second at most), then close.
function server:finish()
  local left = 0
  for _ in pairs(self.clients) do left = left + 1 end
  if left > 0 then
    loop.await(function(wake)
      local timer = loop.after(1, wake)
      local function gone()
        left = left - 1
        if left > 0 then return end
        timer:stop()
        wake()
      end
      for c in pairs(self.clients) do
        c:on_close(gone)
        c:close_soon()
      end
      return function() timer:stop() end
    end)
  end
  self:close()
end

-- Serve in a run directory, until close. host: name, console, log, and what the requests use.
function control.serve(host, dir)
  local self = setmetatable({ host = host, clients = {}, count = 0 }, server)
  function self.guard(fn)
    return function(...)
      local ok, err = xpcall(fn, debug.traceback, ...)
      if not ok and host.log then host.log:error("control socket: " .. tostring(err)) end
    end
  end
  self.fd = dir:listen()
  self.poll = uv.new_poll(self.fd)
  self.poll:start("r", self.guard(function() accept(self) end))
  self.sweeper = loop.every(1, function() sweep(self) end)
  return self
end

-- Events that this client wants.
control.register("subscribe", function(_, request, c)
  for _, name in ipairs(type(request.events) == "table" and request.events or {}) do
    c.events[name] = true
  end
  return true
end)

return control
