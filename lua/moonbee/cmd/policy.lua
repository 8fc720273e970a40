-- SPDX-License-Identifier: BSD-2-Clause
-- moonbee policy: runs a policy file, and takes over its edits.
local bpf = require "moonbee"
local cli = require "moonbee.cli"
local loop = require "moonbee.loop"

local GRACE = 5 -- seconds beyond its deadline, until a policy's code that does not end is left

-- ratelimit.lua -> ratelimit; what a name may not have becomes "-".
local function default_name(path)
  local name = path:match "([^/]+)/*$" or "policy"
  return (name:gsub("%.lua$", ""):gsub("[^%w_-]", "-"):sub(1, 32))
end

local function pairs_of(words, what)
  local list = {}
  for i, word in ipairs(words or {}) do
    local name, text = word:match "^([^=]+)=(.*)$"
    if not name then
      cli.usage(("%s %s: not NAME=VALUE\nhint: moonbee policy --help"):format(what, word))
    end
    list[i] = { name, text }
  end
  return list
end

local function new_host(opts, log, dir)
  local params = {}
  for _, word in ipairs(pairs_of(opts.param, "--param")) do params[word[1]] = word[2] end
  return require "moonbee.policy".new {
    path = opts.file, name = opts.name, params = params, sets = pairs_of(opts.set, "--set"),
    console = opts.console, allow_writable = opts.allow_writable, log = log, dir = dir,
    embedded = package.loaded["moonbee.embed"] ~= nil,
    metrics_at = opts.metrics ~= "off" and opts.metrics,
  }
end

local function dry_run(opts, log)
  local plan = require "moonbee.policy.plan"
  local p = new_host(opts, log):dry_run()
  print(opts.json and bpf.json(plan.data(p)) or plan.text(p))
end

-- How this process is started anew, by the last good version, when a policy's code is stuck.
local function restart_argv(opts)
  local argv = { "moonbee", "policy", opts.file, "--name", opts.name, "--console", opts.console }
  for _, option in ipairs { "set", "param" } do
    for _, word in ipairs(opts[option] or {}) do
      argv[#argv + 1] = "--" .. option
      argv[#argv + 1] = word
    end
  end
  for _, option in ipairs { "log", "log_level", "metrics" } do
    if opts[option] then
      argv[#argv + 1] = "--" .. option:gsub("_", "-")
      argv[#argv + 1] = opts[option]
    end
  end
  if opts.allow_writable then argv[#argv + 1] = "--allow-writable" end
  return argv
end

local function serve(opts, log)
  local dir <close> = bpf.rundir.open(opts.name)
  local host = new_host(opts, log, dir)
  local stuck = os.getenv "MOONBEE_STUCK"
  local failure
  -- To start the process anew, its SIGHUP, its service manager: in a daemon these are the daemon's.
  if not host.embedded then
    require "moonbee.runtime".watchdog(GRACE, restart_argv(opts))
    loop.signal("SIGHUP", function() host:request_reload { kind = "reload" } end)
  end
  function host.quit(reason)
    host:finish(reason)
    if host.server then host.server:finish() end
    loop.stop(reason)
  end
  loop.on_error(function(text) log:error(text) end)
  loop.spawn(function()
    local ok, err = pcall(host.start, host,
      stuck and ("its code did not end: %s"):format(stuck) or nil)
    if not ok then
      failure = err
      return loop.stop "failed"
    end
    require "moonbee.policy.requests"
    host.server = require "moonbee.control".serve(host, dir)
  end)
  for _, signal in ipairs { "SIGTERM", "SIGINT" } do
    loop.signal(signal, function() host.quit "exit" end)
  end
  local ok, err = pcall(loop.run)
  host:finish "exit"
  if failure then error(failure, 0) end
  if not ok then error(err, 0) end
end

local function run(opts)
  local logs = require "moonbee.policy.log"
  opts.name = opts.name or default_name(opts.file)
  if not bpf.rundir.valid(opts.name) then
    cli.usage(("--name %s: no name of a policy\nhint: 1 to 32 letters, digits, - and _")
      :format(opts.name))
  end
  local log = logs.new { name = opts.name, format = opts.log, level = opts.log_level,
    priorities = opts.log == "text" and logs.to_journal() }
  if opts.dry_run then return dry_run(opts, log) end
  serve(opts, log)
end

return {
  name = "policy",
  summary = "Run a policy, and take over its edits while it runs.",
  usage = "policy FILE [--set VAR=VALUE]… [--param NAME=VALUE]… [--dry-run]",
  args = { { name = "file", help = "A Lua file that returns a policy's table." } },
  options = {
    { name = "--set", help = "Set a variable of the object before it is loaded: rate=10k, "
      .. "mode=STRICT, timeout_ns=5ms, limits[2].burst=7.", count = "*", argname = "VAR=VALUE" },
    { name = "--param", help = "Another value for one of the policy's params.", count = "*",
      argname = "NAME=VALUE" },
    { name = "--name", help = "Its name for moonbee ctl (default: the file's).",
      argname = "NAME" },
    { name = "--dry-run", help = "Read and check it, tell what would be done, do nothing.",
      args = 0 },
    { name = "--console", help = "The most that a console may do.",
      choices = { "off", "ro", "rw" }, default = "off" },
    { name = "--metrics", help = "Where metrics are served, whatever the policy says: a port of "
      .. "the loopback (127.0.0.1:9435), a path for a socket, or off.", argname = "ADDRESS" },
    { name = "--log", help = "Log lines as text or JSON.", choices = { "text", "json" },
      default = "text" },
    { name = "--log-level", help = "The least that is logged.",
      choices = { "debug", "info", "warn", "error" }, default = "info" },
    { name = "--allow-writable", help = "As root: also a file that others may write.", args = 0 },
    { name = "--json", help = "With --dry-run: as JSON.", args = 0 },
  },
  examples = {
    "moonbee policy ratelimit.lua --param ifname=eth0 --set rate=10k",
    "moonbee policy ratelimit.lua --dry-run",
    "moonbee ctl ratelimit status        (in another terminal)",
  },
  run = run,
}
