-- SPDX-License-Identifier: BSD-2-Clause
-- moonbee ctl: asks a running policy, tunes it, reloads it, ends it.
local bpf = require "moonbee"
local cli = require "moonbee.cli"

local function since(seconds)
  return os.date("%Y-%m-%d %H:%M:%S", math.floor(seconds))
end

local function flat(value)
  return type(value) == "table" and bpf.json(value) or tostring(value)
end

local function status_text(s)
  local lines = { ("%s: %s"):format(s.name, s.state) .. (s.degraded and " (" .. s.degraded .. ")"
    or "") }
  local function row(title, value)
    if value ~= nil then lines[#lines + 1] = ("  %-10s %s"):format(title, value) end
  end
  row("file", s.path)
  row("process", ("%d, since %s"):format(s.pid, since(s.since)))
  row("version", s.version)
  row("swaps", ("%d, %d failed, %d rolled back"):format(s.swaps, s.failures, s.rollbacks))
  row("events", (s.doubled > 0 or s.dropped > 0) and ("%d doubled by links that overlapped, %d "
    .. "dropped with their handlers"):format(s.doubled, s.dropped) or nil)
  row("handlers", s.handlers and ("%d, %d errors, %d KiB"):format(s.handlers, s.errors,
    s.memory // 1024))
  for _, link in ipairs(s.links) do row("link", ("%s, %s"):format(link.link, link.type)) end
  for _, address in ipairs(s.metrics or {}) do row("metrics", address) end
  row("error", s.last_error and s.last_error:gsub("\n", "\n             "))
  return table.concat(lines, "\n")
end

local function journal_text(entries)
  local lines = {}
  for i, e in ipairs(entries) do
    -- a line of a console, of which only its text is known
    local what = e.what == "(line)" and "(line) " .. flat(e.new)
      or ("%s: %s -> %s"):format(e.what, flat(e.old), flat(e.new))
    lines[i] = ("%4d  %s  %s  by %s%s"):format(e.n, since(e.time), what, e.who,
      e.undo and (" (undo of %d)"):format(e.undo) or "")
  end
  return #lines > 0 and table.concat(lines, "\n") or "nothing was changed by hand"
end

local function plan_text(p)
  return p and require "moonbee.policy.plan".text(p) or "none yet"
end

local function change_text(change)
  return ("%s: %s -> %s"):format(change.what, flat(change.old), flat(change.new))
end

-- action -> how many arguments it takes, the request, and the reply as text.
local ACTIONS = {
  status = { 0, 0, function() return {} end, status_text },
  vars = { 0, 0, function() return {} end, function(r) return r.text end,
    json = function(r) return r.value end },
  get = { 1, 1, function(a) return { path = a[1] } end, function(r) return r.text end,
    json = function(r) return r.value end },
  set = { 2, 2, function(a) return { path = a[1], value = a[2] } end,
    function(r, a) return change_text { what = a[1], old = r.old, new = r.new } end },
  journal = { 0, 0, function() return {} end, journal_text },
  undo = { 0, 1, function(a) return { n = tonumber(a[1]) } end, change_text },
  metrics = { 0, 0, function(_, opts)
    return { kind = opts.json and "data" or opts.openmetrics and "openmetrics" or nil }
  end, function() return nil end, part = function(text) io.write(text) end },
  plan = { 0, 0, function() return {} end, plan_text },
  reload = { 0, 0, function(_, opts)
    return { fresh = opts.fresh, no_state = opts.no_state, dry_run = opts.dry_run }
  end, plan_text },
  rollback = { 0, 0, function() return {} end, plan_text },
  stop = { 0, 0, function() return {} end, function() return nil end },
}

local NAMES = { "status", "vars", "get", "set", "journal", "undo", "metrics", "plan", "reload",
  "rollback", "stop" }

local function run(opts)
  local action = ACTIONS[opts.action]
  local arguments = opts.arguments or {}
  if #arguments < action[1] or #arguments > action[2] then
    cli.usage(("ctl %s takes %s\nhint: moonbee ctl --help"):format(opts.action,
      action[2] == 0 and "no argument" or action[2] == 1 and "one argument" or "VAR and VALUE"))
  elseif opts.action == "undo" and arguments[1] and not math.tointeger(tonumber(arguments[1])) then
    cli.usage("ctl undo takes the number of an entry of the journal")
  end
  local client <close> = require "moonbee.client".connect(opts.policy, opts.user)
  local result = client:request(opts.action, action[3](arguments, opts), action.part)
  if opts.json then
    print(bpf.json(action.json and action.json(result) or result, { indent = true }))
  else
    local text = action[4](result, arguments)
    if text then print(text) end
  end
end

return {
  name = "ctl",
  summary = "Ask, tune, reload or stop a running policy.",
  usage = "ctl NAME status|vars|get V|set V X|journal|undo [N]|metrics|plan|reload|"
    .. "rollback|stop",
  args = {
    { name = "policy", help = "The policy's name." },
    { name = "action", help = "status, vars, get VAR, set VAR VALUE, journal, undo [N] (the last "
      .. "change, or entry N), metrics (as Prometheus reads them), plan (of the last swap), "
      .. "reload, rollback, stop.", choices = NAMES },
    { name = "arguments", help = "Variable and value: as for policy --set.", args = "*" },
  },
  options = {
    { name = "--fresh", help = "reload: load the object anew, also when it is the same.",
      args = 0 },
    { name = "--no-state", help = "reload: start the next version without the state of the one in "
      .. "force, for when its save fails.", args = 0 },
    { name = "--dry-run", help = "reload: stage and check, tell what would be done, do nothing.",
      args = 0 },
    { name = "--openmetrics", help = "metrics: as OpenMetrics 1.0.0, not in the older format.",
      args = 0 },
    { name = "--user", argname = "USER", help = "As root: a policy that this user runs (name or "
      .. "number); MOONBEE_RUNTIME_DIR names another run directory." },
    { name = "--json", help = "As JSON.", args = 0 },
  },
  examples = {
    "moonbee ctl ratelimit status",
    "moonbee ctl ratelimit set rate 10k",
    "moonbee ctl ratelimit set offset -- -5",
    "moonbee ctl ratelimit undo",
    "moonbee ctl ratelimit reload --dry-run",
    "moonbee ctl ratelimit metrics >ratelimit.prom",
  },
  run = run,
}
