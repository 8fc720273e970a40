-- SPDX-License-Identifier: BSD-2-Clause
--
-- Policies for specs: files in a directory of their own, a running `moonbee policy`, its socket.
--
--   local p <close> = policy.new()             -- a directory and a run directory
--   p:write("p.lua", text)                     -- as an editor does: aside, then renamed
--   p:object("policy")                         -- build/fixtures/policy.bpf.o as p.bpf.o
--   local run = p:start { "--set", "rate=5" }  -- waits until it is in force; p.process
--   p:ask("get", { path = "rate" }).value      -- a request of moonbee ctl
--   p:ask_error("reload").code                 -- one that is refused
--   p:wait(function(s) return s.swaps == 2 end)  -- until its status is so

local uv = require "luv"
local bpf = require "moonbee"
local client = require "moonbee.client"
local run = require "support.run"
local support = require "support.bpf"

local policy = {}
policy.__index = policy

function policy.new(name)
  local dir = assert(uv.fs_mkdtemp "/tmp/moonbee-policy-XXXXXX")
  uv.fs_mkdir(dir .. "/run", tonumber("700", 8))
  uv.os_setenv("MOONBEE_RUNTIME_DIR", dir .. "/run")
  return setmetatable({ dir = dir, name = name or "p", path = dir .. "/p.lua" }, policy)
end

function policy:write(name, text)
  local path = self.dir .. "/" .. name
  local file <close> = assert(io.open(path .. "~", "w"))
  file:write(text)
  file:close()
  assert(os.rename(path .. "~", path))
end

function policy:object(fixture, name)
  local file <close> = assert(io.open(support.fixture(fixture), "rb"))
  self:write(name or "p.bpf.o", file:read "a")
end

function policy:run(arguments, options)
  local argv = { support.moonbee, "policy", self.path, "--name", self.name }
  for _, word in ipairs(arguments or {}) do argv[#argv + 1] = word end
  options = options or {}
  options.timeout = options.timeout or 60
  self.process = run.start(argv, options)
  return self.process
end

function policy:start(arguments, options)
  local process = self:run(arguments, options)
  self:connect()
  return process
end

-- Once it is in force.
function policy:connect()
  local process = self.process
  process:expect "in %d+ us, staged"
  support.until_true(function()
    uv.run "nowait"
    if process.code then error("ended: " .. process.err) end
    local ok = pcall(function() self.client = client.connect(self.name) end)
    if not ok then uv.sleep(5) end
    return ok
  end)
end

function policy:ask(name, arguments)
  return self.client:request(name, arguments)
end

function policy:get(path)
  return self:ask("get", { path = path }).value
end

function policy:ask_error(name, arguments)
  local ok, err = pcall(self.client.request, self.client, name, arguments)
  if ok then error("it was not refused", 2) end
  return err
end

-- Until its status is as fn says, at most some seconds: asked for after each event of the policy's,
-- and now and then, as not all that is in it is an event.
function policy:wait(fn)
  local status, heard, late
  local function hear() heard = true end
  local deadline, now_and_then = uv.new_timer(), uv.new_timer()
  local _end <close> = setmetatable({}, { __close = function()
    deadline:close()
    now_and_then:close()
    if self.client then self.client:on_message(nil) end
  end })
  deadline:start(10000, 0, function() late = true end)
  now_and_then:start(50, 50, hear)
  self.client:on_message(hear)
  self:ask("subscribe", { events = { "reload", "failed" } })
  repeat
    heard = false
    status = self:ask "status"
    local done = fn(status)
    while not done and not heard and not late do uv.run "once" end
  until done or late
  if late then
    error("its status stays " .. bpf.json(status) .. "\n" .. self.process.err, 2)
  end
  return status
end

-- End it by a signal; its result.
function policy:finish(signal)
  if self.client then self.client:close() end
  self.client = nil
  self.process:kill(signal or "sigterm")
  return self.process:wait()
end

function policy:kill9()
  if self.client then self.client:close() end
  self.client = nil
  self.process:kill "sigkill"
  self.process:close()
end

function policy:__close()
  if self.client then self.client:close() end
  if self.process then self.process:close() end
  -- Linux empties a prog array in a moment of its own after its last user; one that is listed in
  -- that moment (as the leak check does) stays for ever.
  uv.sleep(30)
  run { "/bin/rm", "-rf", self.dir }
  uv.os_unsetenv "MOONBEE_RUNTIME_DIR"
end

return policy
