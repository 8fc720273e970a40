-- SPDX-License-Identifier: BSD-2-Clause
-- The other end of a policy's control socket: moonbee ctl, the console, scripts.
local bpf = require "moonbee"
local uv = require "luv"
local dkjson = require "dkjson"

local PROTOCOL = 1
local LONGEST = 64 << 20 -- bytes of a message

local client = {}
client.__index = client

local function fail(self, code, cause, hint)
  return bpf.error { code = code, op = "ask policy", subject = self.name, cause = cause,
    hint = hint }
end

local function finish(self, err)
  if self.closed then return end
  self.closed = true
  self.error = err or fail(self, "ECONNRESET", "it has closed the connection")
  if not self.pipe:is_closing() then self.pipe:close() end
  for id, pending in pairs(self.pending) do
    self.pending[id] = nil
    pending.done(false, self.error)
  end
  if self.hear then self.hear(nil, self.error) end
end

local function receive(self, message)
  local pending = message.id and self.pending[message.id]
  if not pending then
    if message.protocol and message.moonbee then
      self.hello = message
    elseif message.ok == false then
      finish(self, fail(self, message.error.code, message.error.text))
    elseif self.hear then
      self.hear(message)
    end
  elseif message.part then
    if pending.on_part then pending.on_part(message.part) end
  else
    self.pending[message.id] = nil
    if message.ok then return pending.done(true, message.result) end
    local e = message.error or {}
    pending.done(false, e.cause and bpf.error { code = e.code, op = e.op, subject = e.subject,
      cause = e.cause, hint = e.hint } or fail(self, e.code, e.text or "it failed"))
  end
end

-- Another user's texts may end on root's terminal: without what that would take for commands.
local function printable(value)
  if type(value) == "string" then
    return (value:gsub("[%c\127]", function(c) return c:find "[\n\t]" and c or "?" end)
      :gsub("\xc2[\x80-\x9f]", "?"))
  elseif type(value) ~= "table" then
    return value
  end
  local out = {}
  for k, v in pairs(value) do out[printable(k)] = printable(v) end
  return out
end

local function readable(self, data)
  local from, seen = 1, #self.buffer
  if seen + #data > LONGEST then
    return finish(self, fail(self, "EMSGSIZE", "it sends a message without an end"))
  end
  self.buffer = self.buffer .. data
  while not self.closed do
    local at = self.buffer:find("\n", math.max(from, seen), true)
    if not at then break end
    local ok, message = pcall(dkjson.decode, self.buffer:sub(from, at - 1))
    from = at + 1
    if not ok or type(message) ~= "table" then
      return finish(self, fail(self, "EBADMSG", "it does not speak JSON"))
    end
    receive(self, self.foreign and printable(message) or message)
  end
  self.buffer = self.buffer:sub(from)
end

-- Send a request; done(ok, result | error) is called once, from the event loop.
function client:send(name, arguments, on_part, done)
  if self.closed then return done(false, self.error) end
  local message = {}
  for k, v in pairs(arguments or {}) do message[k] = v end
  self.last = self.last + 1
  message.protocol, message.id, message.request = PROTOCOL, self.last, name
  self.pending[self.last] = { done = done, on_part = on_part }
  self.pipe:write(bpf.json(message) .. "\n", function(err)
    if err then finish(self, fail(self, err:match "^%u+" or "EPIPE", "it has gone")) end
  end)
  return self.last
end

-- What a request gives, or its error raised. In a coroutine of the loop only that one waits; else
-- the event loop turns until the reply is there.
function client:request(name, arguments, on_part)
  local ok, result
  if coroutine.isyieldable() then
    ok, result = require "moonbee.loop".await(function(wake)
      self:send(name, arguments, on_part, wake)
    end)
  else
    local ready
    self:send(name, arguments, on_part, function(...) ready, ok, result = true, ... end)
    while not ready do uv.run "once" end
  end
  if ok then return result end
  error(result, 0)
end

-- fn(event) hears events; fn(nil, err) the end.
function client:on_message(fn)
  self.hear = fn
end

function client:close()
  self.hear = nil
  finish(self)
  if not coroutine.isyieldable() then uv.run "nowait" end -- luv frees handles in a turn
end
client.__close = client.close

local function wait_for_hello(self)
  local timer = uv.new_timer()
  local late
  timer:start(5000, 0, function() late = true end)
  while not self.hello and not self.closed and not late do uv.run "once" end
  timer:close()
  if self.closed then error(self.error, 0) end
  if late then
    self:close()
    error(fail(self, "ETIMEDOUT", "it does not answer", "its process hangs: see its log"), 0)
  end
  if self.hello.protocol ~= PROTOCOL then
    local theirs = self.hello.protocol
    self:close()
    error(fail(self, "EPROTO", ("it speaks protocol %s, and this is %d")
      :format(tostring(theirs), PROTOCOL), "use the moonbee that runs the policy"), 0)
  end
end

local function unknown(err, name)
  if err.code ~= "ENOENT" and err.code ~= "ECONNREFUSED" then return err end
  local ok, names = pcall(bpf.rundir.running)
  local hint = "moonbee policy FILE --name " .. name .. " runs one"
  if ok and #names > 0 then hint = "running: " .. table.concat(names, ", ") end
  return bpf.error { code = err.code, op = err.op, subject = name, cause = err.cause, hint = hint }
end

local function uid_of(user)
  if user:find "^%d+$" then return user end
  local file <close> = io.open "/etc/passwd"
  for line in (file and file:read "a" or ""):gmatch "[^\n]+" do
    local name, uid = line:match "^([^:]*):[^:]*:(%d+):"
    if name == user then return uid end
  end
  error(bpf.error { code = "ENOENT", op = "ask policy", subject = user, cause = "no such user",
    hint = "a user's number will do" }, 0)
end

-- A socket to the policy of this name, in the run directory of the user, or ours (nil).
local function open_socket(name, user)
  local before = uv.os_getenv "MOONBEE_RUNTIME_DIR"
  if user then
    uv.os_setenv("MOONBEE_RUNTIME_DIR", ("/run/user/%s/moonbee"):format(uid_of(user)))
  end
  local ok, fd = pcall(bpf.rundir.connect, name)
  local err = not ok and bpf.type(fd) == "error" and unknown(fd, name) or fd
  if before then
    uv.os_setenv("MOONBEE_RUNTIME_DIR", before)
  elseif user then
    uv.os_unsetenv "MOONBEE_RUNTIME_DIR"
  end
  if not ok then error(err, 0) end
  return fd
end

-- Connect to the policy of this name; of this user (name or number), which root may: control
-- characters in what that says are shown as "?". Raises: none runs, it is another user's.
return { connect = function(name, user)
  local fd = open_socket(name, user)
  local pipe = uv.new_pipe(false)
  assert(pipe:open(fd))
  local self = setmetatable({ name = name, pipe = pipe, pending = {}, last = 0, buffer = "",
    foreign = user ~= nil }, client)
  pipe:read_start(function(err, data)
    if err or not data then return finish(self) end
    readable(self, data)
  end)
  wait_for_hello(self)
  return self
end }
