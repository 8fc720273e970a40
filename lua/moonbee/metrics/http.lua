-- SPDX-License-Identifier: BSD-2-Clause
-- As much of HTTP/1.1 as a scrape needs, on the loop's sockets (Lua's HTTP libraries bring event
-- loops of their own): GET and HEAD of one path, kept connections, bounds on all that a client may
-- take.
local core = require "moonbee.core"
local loop = require "moonbee.loop"
local uv = require "luv"

local http = {
  MAX_HEADER = 8 << 10,  -- bytes of a request
  MAX_CLIENTS = 16,      -- connections; the one that idles longest makes room for a new one
  HEADER_SECONDS = 5,    -- from a request's first byte to its end
  IDLE_SECONDS = 120,    -- between two requests
  STALL_SECONDS = 10,    -- that a client takes nothing of a reply
  PIECE = 64 << 10,      -- bytes that are written at once
}

local server = {}
server.__index = server

-- ---- requests -----------------------------------------------------------------------------------

local REASONS = { [200] = "OK", [400] = "Bad Request", [404] = "Not Found",
  [405] = "Method Not Allowed", [431] = "Request Header Fields Too Large",
  [500] = "Internal Server Error", [503] = "Service Unavailable",
  [505] = "HTTP Version Not Supported" }

local stopping = { __close = function(self) self.handle:stop() end }

-- fn(), or the end of the stream when the time is over.
local function timed(client, seconds, fn)
  local _ <close> = setmetatable({ handle = loop.after(seconds, function()
    client.late = true
    client.stream:close()
  end) }, stopping)
  return fn()
end

local function read_some(client)
  local data = client.stream:read()
  if data then client.buffer = client.buffer .. data end
  return data ~= nil
end

-- The lines of one request without their ends; nil: the client has finished. "long": too long.
local function read_head(client)
  client.idle_since = uv.hrtime()
  client.buffer = client.buffer:gsub("^[\r\n]+", "")
  if client.buffer == "" then
    local there = timed(client, http.IDLE_SECONDS, function() return read_some(client) end)
    if not there then return nil end
  end
  client.idle_since = nil
  return timed(client, http.HEADER_SECONDS, function()
    while true do
      local stop, after = client.buffer:match "()\r?\n\r?\n()"
      if (stop or #client.buffer) > http.MAX_HEADER then return "long" end
      if stop then
        local head = client.buffer:sub(1, stop - 1)
        client.buffer = client.buffer:sub(after)
        return head
      end
      if not read_some(client) then return nil end
    end
  end)
end

local function headers_of(lines)
  local headers = {}
  for line in lines do
    local name, value = line:match "^([%w!#$%%&'*+.^_`|~-]+):[ \t]*(.-)[ \t]*\r?$"
    if not name then return nil end
    name = name:lower()
    headers[name] = headers[name] and headers[name] .. "," .. value or value
  end
  return headers
end

-- A request, or the status of what is none.
local function parse(head)
  if head == "long" then return nil, 431 end
  local lines = head:gmatch "[^\n]+"
  local method, target, version = (lines() or ""):match "^(%u+) (%S+) HTTP/(%d%.%d)\r?$"
  if not method then
    return nil, head:find "^%u+ %S+ HTTP/" and 505 or 400
  elseif version:sub(1, 1) ~= "1" then
    return nil, 505
  end
  local headers = headers_of(lines)
  if not headers or version == "1.1" and not headers.host then return nil, 400 end
  local connection = (headers.connection or ""):lower()
  local keep = version == "1.1" and not connection:find "close"
    or version == "1.0" and connection:find "keep%-alive" ~= nil
  local body = headers["transfer-encoding"] or (headers["content-length"] or "0") ~= "0"
  return { method = method, path = (target:gsub("^http://[^/]*", ""):gsub("[?#].*$", "")),
    headers = headers, keep = keep and not body, body = body }
end

-- ---- replies ------------------------------------------------------------------------------------

local function write(client, text)
  for at = 1, #text, http.PIECE do
    timed(client, http.STALL_SECONDS, function()
      client.stream:write(text:sub(at, at + http.PIECE - 1))
    end)
  end
end

local function reply(client, request, status, headers, body)
  local keep = request and request.keep and not client.server.stopped
  local lines = {
    ("HTTP/1.1 %d %s"):format(status, REASONS[status]),
    "Date: " .. os.date("!%a, %d %b %Y %H:%M:%S GMT"),
    ("Content-Length: %d"):format(#body),
    "Connection: " .. (keep and "keep-alive" or "close"),
    "X-Content-Type-Options: nosniff",
  }
  for _, line in ipairs(headers) do lines[#lines + 1] = line end
  local head = table.concat(lines, "\r\n") .. "\r\n\r\n"
  write(client, request and request.method == "HEAD" and head or head .. body)
  return keep
end

local PLAIN = "Content-Type: text/plain; charset=utf-8"

local function refuse(client, request, status, more)
  return reply(client, request, status, { PLAIN, more },
    ("%d %s\n"):format(status, REASONS[status]))
end

-- One request, if there is one. False: the connection is over.
local function serve_one(client)
  local head = read_head(client)
  if not head then return false end
  local request, status = parse(head)
  if not request then return refuse(client, nil, status) end
  if request.path ~= client.server.path then return refuse(client, request, 404) end
  if request.method ~= "GET" and request.method ~= "HEAD" then
    return refuse(client, request, 405, "Allow: GET, HEAD")
  end
  local ok, kind, body
  ok, status, kind, body = xpcall(client.server.answer, debug.traceback,
    request.headers.accept or "")
  if not ok then
    refuse(client, request, 500)
    error(tostring(status), 0) -- an error object would pass for the client's
  end
  if status ~= 200 then return refuse(client, request, status) end
  return reply(client, request, 200, { "Content-Type: " .. kind, "Vary: Accept",
    "Cache-Control: no-store" }, body)
end

-- Say that nothing follows, and read what the client still sends: to close at once would take back
-- what it has not read yet.
local function part(client)
  timed(client, 1, function()
    client.stream:finish()
    for _ = 1, 16 do
      if not client.stream:read() then return end
    end
  end)
end

-- What a client does wrong, or its end, is no error of ours.
local function is_ours(client, err)
  return not client.late and not client.stream.closed and core.type(err) ~= "error"
end

-- Is there room for one more? The connection that idles longest makes some.
local function has_room(self)
  if self.count < http.MAX_CLIENTS then return true end
  local oldest
  for client in pairs(self.clients) do
    if client.idle_since and not (oldest and oldest.idle_since < client.idle_since) then
      oldest = client
    end
  end
  if not oldest then return false end
  oldest.idle_since = nil
  oldest.stream:close()
  return true
end

local function serve(self, stream)
  local client = { server = self, stream = stream, buffer = "" }
  local room = has_room(self)
  if room then
    self.clients[client] = true
    self.count = self.count + 1
  end
  local ok, err = xpcall(function()
    if not room then return refuse(client, nil, 503) end
    while serve_one(client) do end -- luacheck: ignore 542
    part(client)
  end, function(err)
    return is_ours(client, err) and type(err) == "string" and debug.traceback(err) or err
  end)
  local ours = not ok and is_ours(client, err)
  if room then
    self.clients[client] = nil
    self.count = self.count - 1
  end
  stream:close()
  if ours then error(err, 0) end
end

-- ---- the server ---------------------------------------------------------------------------------

-- Accept no more; who waits for a reply gets it.
function server:stop()
  if self.stopped then return end
  self.stopped = true
  self.handle:stop()
  for client in pairs(self.clients) do
    if client.idle_since then client.stream:close() end
  end
end

-- Serve path on a listening socket. begin(fn) is to call fn with the stream of each connection, and
-- gives a handle with stop; answer(accept) -> status, type, body.
function http.serve(path, begin, answer)
  local self = setmetatable({ path = path, answer = answer, clients = {}, count = 0 }, server)
  self.handle = begin(function(stream) serve(self, stream) end)
  self.address = self.handle.address
  return self
end

-- ---- content negotiation ------------------------------------------------------------------------

local function parameters(text)
  local found = {}
  for name, value in text:gmatch ";%s*([%w-]+)%s*=%s*\"?([^;\"]*)\"?" do
    found[name:lower()] = value
  end
  return found
end

-- Does the client want OpenMetrics 1.0.0 more than the older text?
function http.wants_openmetrics(accept)
  local open, plain, any = -1, -1, -1
  for range in accept:gmatch "[^,]+" do
    local kind = range:match "^%s*([^;%s]*)":lower()
    local p = parameters(range)
    local q = tonumber(p.q or 1) or 0
    if kind == "application/openmetrics-text" then
      if (p.version or "1.0.0") == "1.0.0" then open = math.max(open, q) end
    elseif kind == "text/plain" then
      if (p.version or "0.0.4") == "0.0.4" then plain = math.max(plain, q) end
    elseif kind == "text/*" then
      plain = math.max(plain, q)
    elseif kind == "*/*" then
      any = math.max(any, q)
    end
  end
  if plain < 0 then plain = any end
  return open > 0 and open >= plain
end

return http
