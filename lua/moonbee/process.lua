-- SPDX-License-Identifier: BSD-2-Clause
-- Child processes for coroutines of the loop: what loop.exec does. No shell in between; what the
-- child writes is collected, and a child whose waiter ends is killed.
local core = require "moonbee.core"

local OPTIONS = { stdin = "string", cwd = "string", env = "table", timeout = "number" }

local function mistake(text)
  error("loop.exec: " .. text, 4)
end

local function check_argv(argv)
  if type(argv) ~= "table" or type(argv[1]) ~= "string" then
    mistake "a list of strings expected, the program first"
  end
  for i = 1, #argv do
    local kind = type(argv[i])
    if kind ~= "string" and kind ~= "number" then
      mistake(("argument %d is a %s, not a string"):format(i, kind))
    end
  end
end

local function check_options(options)
  for name, value in pairs(options) do
    if not OPTIONS[name] then
      mistake(("no option '%s'\nhint: stdin, cwd, env, timeout"):format(tostring(name)))
    elseif type(value) ~= OPTIONS[name] then
      mistake(("option '%s' is a %s, not a %s"):format(name, OPTIONS[name], type(value)))
    end
  end
  local timeout = options.timeout
  if timeout and not (timeout > 0 and timeout <= 1e9) then
    mistake "option 'timeout' is a number of seconds above 0"
  end
end

-- The environment as luv takes it: ours with changes; false takes a variable away.
local function environment(uv, changes)
  if not changes then return nil end
  local all, list = uv.os_environ(), {}
  for name, value in pairs(changes) do all[name] = value or nil end
  for name, value in pairs(all) do list[#list + 1] = name .. "=" .. tostring(value) end
  return list
end

local function signal_name(uv, number)
  for name, value in pairs(uv.constants) do
    if value == number and name:find "^SIG%u" then return name end
  end
  return number ~= 0 and ("signal %d"):format(number) or nil
end

-- Ends with the child's exit and the ends of its output; done(nil, code) when it cannot be started.
local function start(host, child, argv, options, done)
  local uv = host.uv
  local stdio = { uv.new_pipe(false), uv.new_pipe(false), uv.new_pipe(false) }
  local open, result = 3, { out = "", err = "" }
  local function ended()
    open = open - 1
    if open == 0 and not child.over then done(result) end
  end
  -- Runs also when the loop is stopping: the child is reaped, whatever comes.
  local handle, err, code = uv.spawn(argv[1], {
    args = table.move(argv, 2, #argv, 1, {}), stdio = stdio, cwd = options.cwd,
    env = environment(uv, options.env),
  }, function(exit, signal)
    result.code, result.signal = exit, signal ~= 0 and signal_name(uv, signal) or nil
    host.dying[child] = nil
    if not child.handle:is_closing() then child.handle:close() end
    host.guard(ended)()
  end)
  child.handle, child.stdio = handle, stdio
  if not handle then
    child:release()
    return done(nil, err, code)
  end
  for i, name in ipairs { "out", "err" } do
    local pieces, pipe = {}, stdio[i + 1]
    pipe:read_start(host.guard(function(_, data)
      if data then
        pieces[#pieces + 1] = data
        return
      end
      result[name] = table.concat(pieces)
      if not pipe:is_closing() then pipe:close() end
      ended()
    end))
  end
  if options.stdin and options.stdin ~= "" then stdio[1]:write(options.stdin) end
  stdio[1]:shutdown(function()
    if not stdio[1]:is_closing() then stdio[1]:close() end
  end)
end

local child = {}
child.__index = child

function child:release()
  self.over = true
  for _, pipe in ipairs(self.stdio) do
    if not pipe:is_closing() then pipe:close() end
  end
  if self.timer and not self.timer:is_closing() then self.timer:close() end
end

-- The loop waits at its end for those that are killed here, so that none stays a zombie.
function child:kill(host)
  if self.handle and not self.handle:is_closing() then
    host.dying[self] = true
    self.handle:kill "sigkill"
  end
  self:release()
end

local function fail(argv, code, text, hint)
  error(core.error {
    code = code, op = "run", subject = argv[1], cause = (text:gsub("^%u+: ", "")), hint = hint,
  }, 0)
end

return function(host, argv, options)
  check_argv(argv)
  options = options or {}
  if type(options) ~= "table" then mistake("a table of options expected, got " .. type(options)) end
  check_options(options)
  local self = setmetatable({}, child)
  local result, err, code = host.await(function(wake)
    start(host, self, argv, options, wake)
    if self.over then return end
    if options.timeout then
      self.timer = host.uv.new_timer()
      self.timer:start(math.ceil(options.timeout * 1000), 0, host.guard(function()
        self:kill(host)
        wake(nil, ("not done within %g s: killed"):format(options.timeout), "ETIMEDOUT")
      end))
    end
    return function() self:kill(host) end
  end)
  self:release()
  if not result then
    fail(argv, code, err, code == "ENOENT" and "there is no such program in PATH" or nil)
  end
  return result
end
