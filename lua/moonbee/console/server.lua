-- SPDX-License-Identifier: BSD-2-Clause
-- Consoles of a running policy: the requests of its control socket that begin with console_. A
-- console is a session inside the policy's own state. What it evaluates runs there in slices of a
-- millisecond, with pauses of the same length, so that events are handled in between; what it
-- prints is bounded, and waits for a client that does not read, never the policy for it.
local bpf = require "moonbee"
local control = require "moonbee.control"
local loop = require "moonbee.loop"
local path = require "moonbee.path"

local PAUSE = 0.001
local MOST_OUTPUT = 1 << 20    -- bytes of one slice
local MOST_LIVE = 64 << 10     -- queued, before a watch's lines are left out
local MOST_SOURCE = 256 << 10
local MOST_TIMERS = 16         -- watches of one console
local MOST_CHOICES = 1000

local consoles = setmetatable({}, { __mode = "k" })  -- client -> console
local versions = setmetatable({}, { __mode = "k" })  -- runtime -> the module in it
local by_number = setmetatable({}, { __mode = "v" }) -- console's number -> console
local last = 0

local console = {}
console.__index = console

local function refuse(code, cause, hint)
  error(bpf.error { code = code, op = "open console", subject = "control socket", cause = cause,
    hint = hint }, 0)
end

-- ---- what the guest may ask for -----------------------------------------------------------------

local functions = {}

function functions.write(number, text)
  local self = by_number[number]
  if not self or type(text) ~= "string" then return end
  if self.size + #text > MOST_OUTPUT then
    if not self.cut then
      self.cut = true
      self.out[#self.out + 1] = "\n… more than a client could read at once\n"
    end
    return
  end
  self.out[#self.out + 1], self.size = text, self.size + #text
end

-- Lines of watches go out unasked, on the request that opened the console.
function functions.show(number, lines)
  local self = by_number[number]
  if not self then return end
  self.live = lines
  if self.telling then return end
  self.telling = true
  loop.spawn(function()
    self.telling = false
    if self.client.closed or self.client:queued() > MOST_LIVE then return end
    self.client:part(self.request, bpf.json { live = setmetatable(self.live,
      { __jsontype = "array" }) })
  end)
end

function functions.help(name)
  return require "moonbee.help".lookup(tostring(name))
end

function functions.every(number, seconds)
  local self = by_number[number]
  if not self then return 0 end
  local n = 0
  for _ in pairs(self.timers) do n = n + 1 end
  if n >= MOST_TIMERS then error("a console has at most 16 watches", 0) end
  last = last + 1
  local id, rt = last, self.rt
  self.timers[id] = loop.every(math.max(seconds, 0.05), function()
    if self.rt == rt and not self.client.closed then self:call(rt, nil, "tick", self.number, id) end
  end)
  return id
end

function functions.unevery(number, id)
  local self = by_number[number]
  if self and self.timers[id] then
    -- It may be this timer's own tick that ends it.
    local timer = self.timers[id]
    self.timers[id] = nil
    loop.spawn(function() timer:stop() end)
  end
end

-- ---- calls into the policy's state --------------------------------------------------------------

local function module_of(rt)
  if not versions[rt] then
    local file <close> = assert(io.open(assert(package.searchpath("moonbee.console.guest",
      package.path))))
    versions[rt] = rt:module(file:read "a", functions)
  end
  return versions[rt]
end

-- What the slice printed, as parts of the request's reply. Waits for the client.
function console:flush(request)
  if #self.out == 0 then return end
  local text = table.concat(self.out)
  self.out, self.size, self.cut = {}, 0, nil
  if request then self.client:part(request, text) end
end

function console:pause(seconds)
  loop.await(function(wake)
    local timer = loop.after(seconds, wake)
    self.wake = wake
    return function() timer:stop() end
  end)
  self.wake = nil
end

-- One call, in slices. Returns true and results; false, text for what the policy's limits ended;
-- nil when it was interrupted or the version is gone.
function console:call(rt, request, ...)
  if rt.closed then return nil end
  local task = rt:task(module_of(rt), { write = self.write }, ...)
  local _end <close> = setmetatable({}, { __close = function()
    if not task.ended and not rt.closed then rt:kill(task) end
  end })
  while not rt.closed do
    local results = table.pack(rt:resume(task))
    local status = results[1]
    self:flush(request)
    if status == "done" then return true, table.unpack(results, 2, results.n) end
    if status == "error" then return false, results[2] end
    if status ~= "more" and status ~= "wait" then return nil end
    self:pause(status == "wait" and math.max(results[2], PAUSE) or PAUSE)
    if request and self.interrupted then return nil end
  end
end

-- The session in the version that is in force: made anew after a swap.
function console:session()
  local rt = self.host:handles().runtime
  if not rt then refuse("ENOENT", "no version of the policy is in force") end
  if self.rt ~= rt then
    self:leave()
    self.rt = rt
    local ok, why = self:call(rt, nil, "open", self.number, self.opts)
    if not ok then
      self.rt = nil
      refuse("EIO", why or "the policy was reloaded meanwhile")
    end
  end
  return rt
end

-- Its timers go; a session in a state that is still there is closed.
function console:leave()
  for id, timer in pairs(self.timers) do
    self.timers[id] = nil
    timer:stop()
  end
  local rt = self.rt
  self.rt = nil
  if rt and not rt.closed then self:call(rt, nil, "close", self.number) end
end

-- ---- the journal --------------------------------------------------------------------------------

-- The variables that a line assigns to, by their paths: vars.cfg.rate = 5.
local function assigned(source)
  local words, list = path.words(source), {}
  for i, word in ipairs(words) do
    if word.text == "=" then
      local at = i - 1
      while at >= 1 do
        local keys, first = path.ending(words, at)
        if not keys then break end
        if keys[1] == "obj" or keys[1] == "ctx" then table.remove(keys, 1) end
        if keys[1] == "vars" and #keys > 1 then
          local text = tostring(keys[2])
          for k = 3, #keys do
            text = text .. (math.type(keys[k]) and ("[%d]"):format(keys[k]) or "." .. keys[k])
          end
          list[#list + 1] = text
        end
        at = first - 1
        if not words[at] or words[at].text ~= "," then break end
        at = at - 1
      end
    end
  end
  return list
end

local function value_of(host, name)
  local ok, set = pcall(require, "moonbee.policy.set")
  local found, thing = pcall(function() return set.find(host:handles().vars, name) end)
  if not ok or not found then return nil end
  local read, value = pcall(set.plain, thing.now)
  return read and value
end

-- Other ways to change something: any call but a method that only reads.
local function may_change(source)
  for _, word in ipairs(path.words(source)) do
    if word.text == "(" or word.kind == "string" or word.text == "=" then return true end
  end
end

function console:who()
  return ("console of user %s, process %s"):format(self.client.uid, self.client.pid)
end

-- Run fn; what the source assigned to goes into the journal with old and new values, and a line
-- that may have changed something else as it is.
function console:journaled(source, fn)
  if not self.write then return fn() end
  local names, before = assigned(source), {}
  for i, name in ipairs(names) do before[i] = value_of(self.host, name) end
  local results = table.pack(fn())
  local same = require "moonbee.policy.plain".same
  local noted = false
  for i, name in ipairs(names) do
    local now = value_of(self.host, name)
    if before[i] ~= nil and now ~= nil and not same(before[i], now) then
      self.host:note(self:who(), name, before[i], now)
      noted = true
    end
  end
  if not noted and may_change(source) then
    self.host:journal_add { who = self:who(), what = "(line)", new = source:sub(1, 1000) }
  end
  return table.unpack(results, 1, results.n)
end

-- ---- requests -----------------------------------------------------------------------------------

local function number_of(request, name, least, most, default)
  local value = request[name]
  if value == nil then return default end
  value = math.type(value) and math.tointeger(value)
  if not value or value < least or value > most then
    refuse("EINVAL", ("'%s' is an integer from %d to %d"):format(name, least, most))
  end
  return value
end

local function text_of(request, name, most)
  local value = request[name]
  if type(value) ~= "string" then refuse("EINVAL", ("'%s' is a text"):format(name)) end
  if #value > most then refuse("EMSGSIZE", ("'%s' is longer than %d bytes"):format(name, most)) end
  return value
end

local function console_of(client)
  return consoles[client] or refuse("EINVAL", "no console is open", "console_open comes first")
end

local swaps = setmetatable({}, { __mode = "k" }) -- hosts that are listened to

local function tell(self, text)
  loop.spawn(function()
    if not self.client.closed then self.client:part(self.request, bpf.json { text = text }) end
  end)
end

local function listen_to_swaps(host)
  if swaps[host] then return end
  swaps[host] = true
  host:on_swap(function()
    for _, self in pairs(consoles) do
      if self.host == host and self.rt then
        tell(self, "the policy was reloaded: names and watches of this console are gone\n")
        loop.spawn(function() self:leave() end)
        functions.show(self.number, {})
      end
    end
  end)
end

control.register("console_open", function(host, request, client)
  local most = host.console or "off"
  if most == "off" then
    refuse("EPERM", "the policy allows no console", "start it with --console ro, or rw")
  end
  if request.write and most ~= "rw" then
    refuse("EPERM", "the policy allows consoles that read only", "start it with --console rw")
  end
  if consoles[client] then refuse("EBUSY", "this client has a console already") end
  last = last + 1
  local self = setmetatable({
    host = host, client = client, request = request, number = last, out = {}, size = 0,
    timers = {}, write = request.write == true,
    opts = {
      columns = number_of(request, "columns", 10, 10000, 80),
      rows = number_of(request, "rows", 2, 10000, 24),
      color = request.color == true, unicode = request.unicode == true,
    },
  }, console)
  listen_to_swaps(host)
  consoles[client], by_number[self.number] = self, self
  client:on_close(function()
    if consoles[client] ~= self then return end -- it could not be opened
    consoles[client] = nil
    self.interrupted = true
    if self.wake then self.wake() end
    if self.closed_wake then self.closed_wake() end
    loop.spawn(function() self:leave() end)
  end)
  local ok, err = pcall(self.session, self)
  if not ok then
    consoles[client], by_number[self.number] = nil, nil
    error(err, 0)
  end
  client:part(request, bpf.json { open = self.number })
  loop.await(function(wake) self.closed_wake = wake end)
  return true
end)

control.register("console_eval", function(_, request, client)
  local self = console_of(client)
  local source = text_of(request, "source", MOST_SOURCE)
  if self.running then refuse("EBUSY", "this console evaluates something already") end
  self.running, self.interrupted = true, false
  local _idle <close> = setmetatable({}, { __close = function() self.running = false end })
  local rt = self:session()
  local ok, result = self:journaled(source, function()
    return self:call(rt, request, "run", self.number, source)
  end)
  if ok == nil then
    local text = rt.closed and "the policy was reloaded meanwhile\n" or "interrupted\n"
    client:part(request, text)
  elseif not ok then
    client:part(request, "error: " .. tostring(result):match "^[^\n]*" .. "\n")
  end
  return { ok = ok and result == true }
end)

control.register("console_complete", function(_, request, client)
  local self = console_of(client)
  local text = text_of(request, "text", MOST_SOURCE)
  local point = number_of(request, "point", 0, #text, #text)
  local rt = self:session()
  local ok, inserted, choices = self:call(rt, nil, "complete", self.number, text, point)
  if not ok then return { inserted = "", choices = setmetatable({}, { __jsontype = "array" }) } end
  choices = table.move(choices, 1, math.min(#choices, MOST_CHOICES), 1, {})
  return { inserted = inserted, choices = setmetatable(choices, { __jsontype = "array" }) }
end)

control.register("console_interrupt", function(_, _, client)
  local self = console_of(client)
  self.interrupted = true
  if self.wake then self.wake() end
  return { running = self.running == true }
end)

control.register("console_size", function(_, request, client)
  local self = console_of(client)
  self.opts.columns = number_of(request, "columns", 10, 10000, self.opts.columns)
  self.opts.rows = number_of(request, "rows", 2, 10000, self.opts.rows)
  if self.rt then
    self:call(self.rt, nil, "size", self.number, self.opts.columns, self.opts.rows)
  end
  return true
end)
