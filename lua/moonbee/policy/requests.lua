-- SPDX-License-Identifier: BSD-2-Clause
-- What a policy's control socket answers: moonbee ctl's requests.
local bpf = require "moonbee"
local loop = require "moonbee.loop"
local control = require "moonbee.control"
local plan = require "moonbee.policy.plan"

local function who(client)
  return ("uid %d (pid %d)"):format(client.uid, client.pid)
end

local function text_argument(request, name)
  local value = request[name]
  if type(value) ~= "string" then
    error(bpf.error { code = "EINVAL", op = "answer request", subject = request.request,
      cause = ("%s is missing"):format(name) }, 0)
  end
  return value
end

control.register("status", function(host) return host:status() end)

control.register("plan", function(host)
  local last = host:plan()
  return last and plan.data(last) or false
end)

control.register("vars", function(host)
  local obj = host:handles().obj
  return { text = obj and bpf.format(obj.vars) or "", value = obj and obj.vars or false }
end)

control.register("get", function(host, request)
  local value = host:get(text_argument(request, "path"))
  return { text = bpf.type(value) == "view" and bpf.format(value) or tostring(value),
    value = value }
end)

control.register("set", function(host, request, client)
  local old, new = host:set(text_argument(request, "path"), text_argument(request, "value"),
    who(client))
  return { old = old, new = new }
end)

local PIECE = 64 << 10

-- Text comes in parts, as it may be large.
control.register("metrics", function(host, request, client)
  local kind = request.kind == "openmetrics" and "openmetrics" or request.kind == "data" and "data"
    or "prometheus"
  local result = host.metrics.render(kind)
  if not result then
    error(bpf.error { code = "ENOENT", op = "answer request", subject = "metrics",
      cause = "no version of the policy is in force" }, 0)
  end
  if kind == "data" then return result end
  for at = 1, #result, PIECE do client:part(request, result:sub(at, at + PIECE - 1)) end
  return true
end)

control.register("journal", function(host)
  local list = setmetatable({}, { __jsontype = "array" })
  for i, entry in ipairs(host.journal.entries) do list[i] = entry end
  return list
end)

control.register("undo", function(host, request, client)
  local n = request.n
  if n ~= nil and not (math.type(n) and math.tointeger(n)) then
    error(bpf.error { code = "EINVAL", op = "answer request", subject = "undo",
      cause = "n is the number of an entry of the journal, not a " .. type(n) }, 0)
  end
  return host:undo(n and math.tointeger(n), who(client))
end)

control.register("reload", function(host, request, client)
  if request.dry_run then return plan.data(host:dry_run()) end
  return plan.data(host:reload { kind = "reload", fresh = request.fresh,
    no_state = request.no_state == true or nil, who = who(client) })
end)

control.register("rollback", function(host)
  return plan.data(host:rollback())
end)

control.register("stop", function(host)
  loop.spawn(function() host.quit "stop" end)
  return true
end)
