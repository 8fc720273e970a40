-- SPDX-License-Identifier: BSD-2-Clause
--
-- Runs commands for specs: no shell in between, with a time limit, optionally as nobody.
--
--   local run = require "support.run"
--   local r = run({ "build/moonbee", "--help" }, { stdin = "", timeout = 10, env = { A = "b" },
--                   user = "nobody", cwd = "/", fds = { fd } })    -- fds: its 3, 4, …
--   r.rc, r.out, r.err, r.signal                 -- rc is 128 + signal for a killed one
--
--   local p <close> = run.start({ "build/moonbee", "run", "x.lua" })  -- same options
--   p:expect("listening")         -- waits until this pattern is in p.out (or p.err), else raises
--   p:write("text") p:kill("sigint")
--   local r = p:wait()            -- at most timeout seconds from the start
--
-- An unfinished process is killed, and `run` raises, when the time is over. A command with a slash
-- is a path, from the current directory; others are looked up in PATH.

local lfs = require "lfs"
local uv = require "luv"

local process = {}
process.__index = process

local function environment(changes)
  local all = uv.os_environ()
  for name, value in pairs(changes or {}) do all[name] = value or nil end
  local list = {}
  for name, value in pairs(all) do list[#list + 1] = name .. "=" .. value end
  return list
end

-- The ids of a user, from the password file; nil when we are not root and so nobody special anyway.
local function ids(user)
  if not user or uv.getuid() ~= 0 then return end
  local passwd <close> = assert(io.open "/etc/passwd")
  for line in passwd:lines() do
    local name, uid, gid = line:match "^([^:]*):[^:]*:(%d+):(%d+):"
    if name == user then return tonumber(uid), tonumber(gid) end
  end
  error("no user " .. user, 3)
end

-- May others enter the current directory? The tree may lie in root's own, /root.
local function open_to_others()
  local dir = lfs.currentdir()
  while dir ~= "" do
    if lfs.attributes(dir, "permissions"):sub(9) ~= "x" then return false end
    dir = dir:match "^(.*)/[^/]*$"
  end
  return true
end

-- The command as another user who finds the tree in /mnt, in a mount namespace of its own.
local function in_the_open(argv, uid, gid)
  local script = 'mount --bind . /mnt && cd /mnt && exec setpriv --reuid "$0" --regid "$1" '
    .. '--clear-groups -- "${@:2}"'
  return { "unshare", "--mount", "--propagation", "private", "bash", "-c", script,
    tostring(uid), tostring(gid), table.unpack(argv) }
end

local function describe(p)
  return string.format("%s\n  stdout: %s\n  stderr: %s", table.concat(p.argv, " "), p.out, p.err)
end

-- Runs the loop until `done` returns something true. Raises when the process's time is over.
local function turn_until(p, done, what)
  while true do
    local result = done()
    if result then return result end
    if p.late then
      p:close()
      error(string.format("%s: not within %g s: %s", what, p.timeout, describe(p)), 3)
    end
    uv.run "once"
  end
end

local function collect(p, pipe, name)
  p.open = p.open + 1
  pipe:read_start(function(_, data)
    if data then p[name] = p[name] .. data; return end
    p.open = p.open - 1
    if not pipe:is_closing() then pipe:close() end
  end)
end

local function start(argv, options)
  options = options or {}
  local p = setmetatable({ argv = argv, out = "", err = "", open = 0,
    timeout = options.timeout or 30 }, process)
  local uid, gid = ids(options.user)
  if uid and not options.cwd and not open_to_others() then
    argv, uid, gid = in_the_open(argv, uid, gid), nil, nil
  end
  local stdin, stdout, stderr = uv.new_pipe(false), uv.new_pipe(false), uv.new_pipe(false)
  local why
  p.open = 1
  p.handle, p.pid, why = uv.spawn(argv[1], {
    args = table.move(argv, 2, #argv, 1, {}),
    stdio = { stdin, stdout, stderr, table.unpack(options.fds or {}) },
    env = environment(options.env), cwd = options.cwd, uid = uid, gid = gid,
  }, function(code, signal)
    p.code, p.signal = code, signal
    p.open = p.open - 1
    p.handle:close()
  end)
  if not p.handle then
    for _, pipe in ipairs { stdin, stdout, stderr } do pipe:close() end
    uv.run "nowait"
    error(string.format("cannot run %s: %s (%s)", argv[1], p.pid, why), 3)
  end
  collect(p, stdout, "out")
  collect(p, stderr, "err")
  p.stdin, p.stdout, p.stderr = stdin, stdout, stderr
  uv.update_time() -- else the time that a long test took before counts
  p.timer = uv.new_timer()
  p.timer:start(math.floor(p.timeout * 1000), 0, function() p.late = true end)
  -- One that ended at once would answer even an empty write with SIGPIPE.
  if (options.stdin or "") ~= "" then p:write(options.stdin) end
  if options.stdin ~= nil or not options.interactive then p:eof() end
  return p
end

function process:write(text)
  self.stdin:write(text)
end

function process:eof()
  if self.ended or self.stdin:is_closing() then return end
  self.ended = true
  self.open = self.open + 1
  self.stdin:shutdown(function()        -- after what is written has gone out
    self.open = self.open - 1
    if not self.stdin:is_closing() then self.stdin:close() end
  end)
end

function process:kill(signal)
  self.handle:kill(signal or "sigterm")
end

-- Waits until pattern is in the output (plain text with plain = true); returns what it matched.
function process:expect(pattern, plain)
  return turn_until(self, function()
    local found = self.out:match(pattern) or self.err:match(pattern)
    if plain then
      found = (self.out:find(pattern, 1, true) or self.err:find(pattern, 1, true)) and pattern
    end
    if not found and self.code then
      error(string.format("ended without %q: %s", pattern, describe(self)), 4)
    end
    return found
  end, "expect " .. pattern)
end

-- Waits for the end; returns { rc, out, err, signal }.
function process:wait()
  self:eof()
  turn_until(self, function() return self.code and self.open == 0 end, "wait")
  self:close()
  return { rc = self.signal > 0 and 128 + self.signal or self.code, out = self.out, err = self.err,
    signal = self.signal > 0 and self.signal or nil }
end

-- Ends what is left of it. Harmless when it has ended.
function process:close()
  if self.closed then return end
  self.closed = true
  if not self.code then self.handle:kill "sigkill" end
  if not self.timer:is_closing() then self.timer:close() end
  -- Its own children may hold the pipes open: after its death they need not be waited for.
  for _, pipe in ipairs { self.stdin, self.stdout, self.stderr } do
    if not pipe:is_closing() then pipe:close() end
  end
  while not self.code do uv.run "once" end
  uv.run "nowait"
end
process.__close = process.close

return setmetatable({ start = function(argv, options)
  options = options or {}
  local own = { interactive = true }
  for k, v in pairs(options) do own[k] = v end
  return start(argv, own)
end }, { __call = function(_, argv, options) return start(argv, options):wait() end })
