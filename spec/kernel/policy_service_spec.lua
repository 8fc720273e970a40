-- SPDX-License-Identifier: BSD-2-Clause
-- Under a service manager, which this spec plays with a real notify socket: readiness, reload,
-- watchdog, and descriptors that it keeps for the next process.
local uv = require "luv"
local testing = require "mb_testing"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"
local policy = require "support.policy"
local veth = require "support.veth"

local ROOT = "/sys/fs/bpf/moonbee-service"

local POLICY = [[
local policy = { object = "p.bpf.o", version = "%s", %s
  attach = { count_xdp = { ifname = "%s" }, tail_xdp = false, on_getpriority = false } }
function policy.start(ctx, state)
  local got = bpf.ref(ctx.vars, "got")
  ctx:on("events", "struct event", function() got:add(1) end, "seq")
end
return policy
]]

-- What was told so far, and the store of descriptors, as systemd keeps it.
local function new_manager()
  local name = ("@moonbee-manager-%d"):format(uv.os_getpid())
  local self = { name = name, fd = testing.notify_socket(name), told = {}, store = {} }
  function self.pump()
    while true do
      local text, fds = testing.notify_receive(self.fd)
      if not text then return end
      self.told[#self.told + 1] = text
      local fdname = text:match "FDNAME=([^\n]+)"
      if text:find("FDSTORE=1", 1, true) then
        self.store[fdname] = fds[1]
      elseif text:find("FDSTOREREMOVE=1", 1, true) and self.store[fdname] then
        testing.close_fd(self.store[fdname])
        self.store[fdname] = nil
      end
    end
  end
  function self.wait(pattern)
    support.until_true(function()
      self.pump()
      for _, text in ipairs(self.told) do
        if text:find(pattern) then return true end
      end
    end)
  end
  function self.count(pattern)
    self.pump()
    local n = 0
    for _, text in ipairs(self.told) do
      if text:find(pattern) then n = n + 1 end
    end
    return n
  end
  -- while the process is waited for
  local timer = uv.new_timer()
  timer:start(2, 2, self.pump)
  return setmetatable(self, { __close = function()
    timer:close()
    uv.run "nowait"
    self.pump()
    for _, fd in pairs(self.store) do testing.close_fd(fd) end
    testing.close_fd(self.fd)
  end })
end

describe("a policy under a service manager #root", function()
  before_each(skip.root)
  after_each(function()
    if skip.is_root() then run { "/bin/rm", "-rf", ROOT } end
  end)

  it("tells when it is ready, reloads, lives and ends", function()
    local pair <close> = veth.new()
    local manager <close> = new_manager()
    local p <close> = policy.new()
    p:object "policy"
    p:write("p.lua", POLICY:format("one", "", pair.ifname))
    p:start(nil, { env = { NOTIFY_SOCKET = manager.name, WATCHDOG_USEC = "40000" } })
    manager.wait "^READY=1\nSTATUS=version 1 in force"
    manager.wait "^WATCHDOG=1"
    assert.equal(0, manager.count "RELOADING")
    p.process:kill "sighup"
    manager.wait "^RELOADING=1\nMONOTONIC_USEC=%d+$"
    manager.wait "^READY=1\nSTATUS=version 2 in force"
    -- a reload that fails ends, too
    p:write("p.lua", "syntax")
    p:wait(function(s) return s.failures == 1 end)
    support.until_true(function()
      return manager.count "^RELOADING=1" == 2 and manager.count "^READY=1" == 3
    end)
    p:finish()
    manager.wait "^STOPPING=1"
    assert.equal(0, manager.count "FDSTORE")
  end)

  it("leaves its descriptors there, and takes them up without any pin", function()
    local pair <close> = veth.new()
    local manager <close> = new_manager()
    local p <close> = policy.new()
    local persist = ('persist = true, pin_root = "%s",'):format(ROOT)
    p:object "policy"
    p:write("p.lua", POLICY:format("one", persist, pair.ifname))
    local env = { NOTIFY_SOCKET = manager.name }
    p:start(nil, { env = env })
    manager.wait "FDSTORE=1\nFDNAME=link%-count_xdp"
    local sender = pair:send(2000)
    support.until_true(function() return p:get "counted" > 10 end)
    p:kill9()
    manager.pump()
    run { "/bin/rm", "-rf", ROOT } -- a bpffs of the service's own goes with it
    local names, fds = {}, {}
    for name, fd in pairs(manager.store) do
      names[#names + 1], fds[#fds + 1] = name, fd
    end
    assert.equal(7, #fds, table.concat(names, " "))
    local script = ('LISTEN_PID=$$ exec %s policy %s --name p'):format(support.moonbee, p.path)
    p.process = run.start({ "/bin/sh", "-c", script }, { fds = fds, timeout = 60, env = {
      LISTEN_FDS = ("%d"):format(#fds), LISTEN_FDNAMES = table.concat(names, ":"),
      NOTIFY_SOCKET = manager.name,
    } })
    p:connect()
    local plan = p:ask "plan"
    assert.same({ "adopted", "updated", "kept", "kept" }, { plan.why, plan.links[1].action,
      plan.maps.events.action, plan.sections[".bss"].action })
    local sent = sender.stop()
    support.until_true(function() return p:get "counted" >= sent end)
    assert.same({ sent, 0 }, { p:get "counted", p:get "lost" })
    run { support.moonbee, "ctl", "p", "stop" }
    p.process:wait()
    manager.pump()
    -- what was passed was closed there by its process; the store itself is empty
    local left = 0
    for _ in pairs(manager.store) do left = left + 1 end
    assert.equal(0, left)
  end)
end)
