-- SPDX-License-Identifier: BSD-2-Clause
-- The event loop, on luv: readers, timers, signals and file changes, each with a handler.
--
-- A handler runs in a coroutine whose Lua loop drains the reader. No C frame and no pcall lie under
-- an event, so a handler may wait anywhere, and an error ends its coroutine only. luv ends the
-- process when a callback raises: each one goes through guard().
local core = require "moonbee.core"
local trace = require "moonbee.trace"

-- luv calls back on the Lua thread that first required it. That must not be one that is collected
-- or suspended: a coroutine that has ended, and is kept, will do where it is not the main one.
local function load_luv()
  if package.loaded.luv or select(2, coroutine.running()) then return require "luv" end
  local co = coroutine.create(require)
  local ok, luv = coroutine.resume(co, "luv")
  if not ok then error(luv, 0) end
  debug.getregistry()["moonbee.luv"] = co
  return luv
end

local uv = load_luv()
local resume, yield, running = coroutine.resume, coroutine.yield, coroutine.running

local MAX_RECORDS = 1024 -- of one reader, before the other sources have their turn
local MAX_SECONDS = 1e9
local POOL = 16          -- idle coroutines that are kept
local IDLE, WAIT = {}, {} -- what our coroutines yield

local loop = { errors = 0 }

local state = "idle"  -- "idle" | "running" | "ending"
local stopping, reason
local sources = {}    -- set of live handles
local tasks = {}      -- coroutine -> task
local pool = {}       -- tasks without work
local interrupts = {} -- signal's name -> set of handles: SIGINT and SIGTERM have one receiver
local sink

-- ---- errors -------------------------------------------------------------------------------------

local SOURCE = debug.getinfo(1, "S").source

local function default_sink(text)
  io.stderr:write("moonbee: ", text, "\n")
end

local function report(source, text, err)
  loop.errors = loop.errors + 1
  if source then
    source.errors = source.errors + 1
    text = ("error in %s: %s"):format(source.label, text)
    local started = trace.started(source.born)
    if started then text = text .. "\nstarted at:\n" .. started end
  end
  local ok, why = pcall(sink or default_sink, text, err, source)
  if not ok then
    default_sink(text)
    default_sink("error in the function of loop.on_error: " .. tostring(why))
  end
end

-- Every function that luv calls. Where the loop is stopping, what is left of the turn is skipped.
local function guard(fn, source)
  return function(...)
    if stopping then return end
    local ok, err = xpcall(fn, debug.traceback, ...)
    if not ok then report(source, tostring(err), err) end
  end
end

-- luv 1.44 crashes at the end of a state in which a handle was closed and no turn came after it:
-- outside of a run handles are only stopped, and closed by the next run.
local stopped = {}

local function close(handle)
  if not handle or handle:is_closing() then return end
  if state == "idle" then
    if handle.stop then handle:stop() end
    stopped[#stopped + 1] = handle
  else
    handle:close()
  end
end

-- luv's nil, "ENOENT: no such file or directory", "ENOENT" as an error object.
local function check(ok, text, code, op, subject, hint)
  if ok then return ok end
  error(core.error {
    code = code or "EINVAL", op = op, subject = subject,
    cause = (tostring(text):gsub("^%u+: ", "")), hint = hint,
  }, 0)
end

-- ---- tasks: coroutines that run handlers --------------------------------------------------------

local function work(task)
  while true do
    task.job(task.source)
    yield(IDLE)
  end
end

local function new_task()
  local task = { co = coroutine.create(work) }
  tasks[task.co] = task
  return task
end

local function end_coroutine(task)
  tasks[task.co] = nil
  return coroutine.close(task.co)
end

-- End a task where it waits. What it holds (a record, to-be-closed variables) is closed.
local function kill(task)
  local source, cancel = task.source, task.cancel
  tasks[task.co] = nil
  task.cancel, task.source = nil, nil
  if source then source.task = nil end
  local cancelled, why = true, nil
  if cancel then cancelled, why = pcall(cancel) end
  if not cancelled then report(source, tostring(why), why) end
  local ok, err = coroutine.close(task.co)
  if not ok then report(source, tostring(err), err) end
end

-- Did this function raise, itself or by error()?
local function raised_by(co, fn)
  for level = 0, 1 do
    local at = debug.getinfo(co, level, "f")
    if fn and at and at.func == fn then return true end
  end
  return false
end

local function fail(task, source, err)
  local co = task.co
  local text = trace(err, co)
  local by_iter = raised_by(co, source.iter)
  local ok, second = end_coroutine(task)
  -- A reader that was closed in its handler: its iterator says so, and that is no error.
  if not (by_iter and source.reader.closed) then report(source, text, err) end
  if not ok and second ~= err then report(source, tostring(second), second) end
end

-- Run a task until it waits or is done.
local function step(task, ...)
  local source = task.source
  local ok, what = resume(task.co, ...)
  if ok and what == WAIT then return end
  task.source, source.task = nil, nil
  if ok and what == IDLE then
    task.job = nil
    if #pool < POOL then pool[#pool + 1] = task else end_coroutine(task) end
  else
    if ok then
      what = "a handler yielded to the loop\nhint: wait with loop.sleep or loop.await"
    end
    fail(task, source, what)
  end
  if source.done then source:done(ok) end
end

-- Give a source's work to a coroutine.
local function start(source, job)
  local task = table.remove(pool) or new_task()
  task.job, task.source, source.task = job, source, task
  step(task, task)
end

local function call(source)
  return source.fn(source.argument)
end

-- ---- handles ------------------------------------------------------------------------------------

local handle = {}
handle.__index = handle
handle.__name = "moonbee.handle"

function handle:stop()
  if self.stopped then return end
  self.stopped, self.halt = true, true
  sources[self] = nil
  if self.ends then self:ends() end
  close(self.poll)
  close(self.timer)
  close(self.signal)
  close(self.socket)
  -- One that stops itself goes on to its end.
  local task = self.task
  if task and coroutine.status(task.co) == "suspended" then kill(task) end
end

function handle:__tostring()
  return ("moonbee.handle (%s%s)"):format(self.label, self.stopped and ", stopped" or "")
end

local function add(label, fn)
  if type(fn) ~= "function" then
    error(("%s: function expected, got %s"):format(label, type(fn)), 3)
  end
  if state == "ending" then
    error(label .. ": the loop is ending\nhint: nothing can be added while it closes handlers", 3)
  end
  local source = setmetatable({
    label = label, fn = fn, errors = 0, born = trace.here(3),
  }, handle)
  sources[source] = true
  return source
end

local function check_seconds(value, least, what)
  if not math.type(value) or not (value >= least and value <= MAX_SECONDS) then
    error(("%s: seconds expected (a number from %g to %g), got %s")
      :format(what, least, MAX_SECONDS, tostring(value)), 3)
  end
  return value
end

-- Milliseconds from the turn's time (uv.now) until due (in ns of the same clock), never too early.
local function ms_until(due)
  return math.max(0, math.ceil(due / 1e6) - uv.now())
end

local function due_in(seconds)
  return uv.hrtime() + seconds * 1e9
end

-- ---- readers ------------------------------------------------------------------------------------

local jobs = {}

-- A drain with n loop variables. Generated, since Lua's loop takes a fixed number of them. An error
-- of drain() itself comes while source.iter is nil: the handle ends.
local function drain_job(n)
  if jobs[n] then return jobs[n] end
  local names = {}
  for i = 1, n do names[i] = "v" .. i end
  local code = [[
    local limit = ...
    return function(source)
      local fn = source.fn
      local iter, state, first, closing = source:drain(limit)
      source.iter = iter
      local none = true
      for LIST in iter, state, first, closing do
        none = false
        fn(LIST)
        if source.halt then break end
      end
      source.none = none
    end]]
  code = code:gsub("LIST", table.concat(names, ", "))
  jobs[n] = assert(load(code, SOURCE, "t"))({ max = MAX_RECORDS })
  return jobs[n]
end

local reader = {}

function reader.drain(source, limit)
  return source.reader:drain(limit, table.unpack(source.columns))
end

local function left_over(source)
  return core.type(source.reader) == "reader" and source.reader.stats.pending > 0
end

-- To begin to poll a perf buffer may itself use up the news of what is there: a look afterwards.
function reader.listen(source)
  assert(source.poll:start("r", source.readable))
  if source.timer then source.timer:start(0, 0, source.look) end
end

function reader.look(source)
  if source.stopped or source.task or source.reader.closed then return end
  if not source.poll:is_active() then
    source:listen()
  elseif left_over(source) then
    reader.readable(source)
  end
end

function reader.readable(source, err)
  if source.reader.closed then return source:stop() end
  if err then
    report(source, "poll: " .. tostring(err), err)
    return source:stop()
  end
  source.iter, source.none = nil, nil
  start(source, source.job)
  if source.task and not source.stopped then source.poll:stop() end -- it waits, its reader too
end

function reader.done(source, ok)
  if source.stopped then return end
  if source.reader.closed or not ok and not source.iter then return source:stop() end
  if source.none and left_over(source) then
    -- A record that a program has reserved and not yet submitted: readable, and nothing to take.
    source.poll:stop()
    return source.timer:start(1, 0, source.look)
  end
  if not source.poll:is_active() then source:listen() end
end

-- A closed reader's fd must not be polled once more: its number may be another file's by now.
local function sweep()
  for source in pairs(sources) do
    if source.reader and source.reader.closed and not source.task then source:stop() end
  end
end

local function check_reader(r)
  local kind = core.type(r)
  if kind == "map" then
    error("loop.on: reader expected, got a map\nhint: loop.on(map:reader(\"struct event\"), fn)", 3)
  elseif kind ~= "reader" and kind ~= "trace" and not (type(r) == "table" and r.drain) then
    error("loop.on: reader expected, got " .. (kind or type(r)), 3)
  elseif r.closed then
    error("loop.on: attempt to use a closed reader", 3)
  end
end

-- Asked before luv is: luv 1.44 loses the memory of a handle that it cannot make.
local function check_free(r)
  for source in pairs(sources) do
    if source.reader and source.reader.fd == r.fd then
      error(core.error {
        code = "EEXIST", op = "listen to reader", subject = r.name, cause = "it has a handler",
        hint = "a reader has one handler: stop the first one",
      }, 0)
    end
  end
end

function loop.on(r, fn, ...)
  check_reader(r)
  sweep()
  check_free(r)
  local label = ("the handler of reader '%s'"):format(r.name or "?")
  local source = add(label, fn)
  source.reader, source.columns = r, { ... }
  source.drain, source.listen, source.done = reader.drain, reader.listen, reader.done
  source.job = drain_job(math.max(1, select("#", ...)))
  source.readable = guard(function(err) reader.readable(source, err) end, source)
  local poll, err, code = uv.new_poll(r.fd)
  if not poll then
    source:stop()
    check(nil, err, code, "listen to reader", r.name)
  end
  source.poll = poll
  if core.type(r) == "reader" then
    source.timer = uv.new_timer()
    source.look = guard(function() reader.look(source) end, source)
  end
  source:listen()
  return source
end

-- ---- timers -------------------------------------------------------------------------------------

local function stop_when_done(source)
  source:stop()
end

local function once(label, seconds, fn, argument)
  local source = add(label, fn)
  source.timer, source.done, source.argument = uv.new_timer(), stop_when_done, argument
  local function due()
    start(source, call)
  end
  source.timer:start(ms_until(due_in(seconds)), 0, guard(due, source))
  return source
end

function loop.after(seconds, fn)
  check_seconds(seconds, 0, "loop.after")
  return once("the handler of loop.after", seconds, fn)
end

function loop.spawn(fn, ...)
  if select("#", ...) == 0 or type(fn) ~= "function" then return once("loop.spawn", 0, fn) end
  local args = table.pack(...)
  return once("loop.spawn", 0, function() return fn(table.unpack(args, 1, args.n)) end)
end

-- Due times are multiples of the interval since the start: a late tick makes no later one late, and
-- the ticks that passed while the handler ran or waited are left out.
function loop.every(seconds, fn)
  check_seconds(seconds, 0.001, "loop.every")
  local source = add("the handler of loop.every", fn)
  local interval, due = seconds * 1e9, due_in(seconds)
  local tick
  local function arm()
    source.timer:start(ms_until(due), 0, tick)
  end
  tick = guard(function()
    local late = math.max(0, uv.hrtime() - due)
    due = due + (late // interval + 1) * interval
    arm()
    if not source.task then start(source, call) end
  end, source)
  source.timer = uv.new_timer()
  arm()
  return source
end

-- ---- signals ------------------------------------------------------------------------------------

-- A source that was set off while its handler runs is run once more after it.
local function fire(source)
  if source.task then
    source.again = true
  else
    source.again = false
    start(source, call)
  end
end

local function fire_again(source)
  if source.again and not source.stopped then fire(source) end
end

local function interrupted(name)
  local handlers = interrupts[name]
  if not handlers or not next(handlers) then return loop.stop(name) end
  core.interrupt.rearm() -- else a second one would kill
  for source in pairs(handlers) do fire(source) end
end

function loop.signal(name, fn)
  if type(name) ~= "string" or not name:find("^SIG%u") or not uv.constants[name] then
    error(("loop.signal: no signal %q\nhint: names are as in kill -l: \"SIGHUP\"")
      :format(tostring(name)), 2)
  end
  local source = add("the handler of " .. name, fn)
  source.argument, source.done = name, fire_again
  if name == "SIGINT" or name == "SIGTERM" then
    interrupts[name] = interrupts[name] or {}
    interrupts[name][source] = true
    source.ends = function() interrupts[name][source] = nil end
    return source
  end
  source.signal = uv.new_signal()
  local set_off = guard(function() fire(source) end, source)
  local ok, err, code = source.signal:start(name:lower(), set_off)
  if not ok then
    source:stop()
    check(nil, err, code, "handle signal", name, "SIGKILL and SIGSTOP cannot be handled")
  end
  return source
end

-- ---- files --------------------------------------------------------------------------------------

function loop.watch(path, fn)
  if type(path) ~= "string" then
    error("loop.watch: path expected, got " .. type(path), 2)
  end
  local source = add(("the handler of loop.watch '%s'"):format(path), fn)
  source.argument, source.done = path, fire_again
  local ok, err, code = require "moonbee.watch" (source, {
    uv = uv, guard = guard, close = close, fire = fire,
  })
  if not ok then
    source:stop()
    check(nil, err, code, "watch file", path, "its directory must exist")
  end
  return source
end

-- ---- waiting ------------------------------------------------------------------------------------

local function current(what)
  local co = running()
  local task = tasks[co]
  if not task or not task.source then
    error(what .. ": not in a handler of the loop\nhint: " .. what .. " waits in functions that the"
      .. " loop runs: start one with loop.spawn(fn), then loop.run()", 3)
  elseif not coroutine.isyieldable() then
    error(what .. ": a C function below (sort, gsub, a metamethod of close) cannot wait", 3)
  end
  return task
end

function loop.sleep(seconds)
  check_seconds(seconds, 0, "loop.sleep")
  local task = current("loop.sleep")
  local timer = uv.new_timer()
  timer:start(ms_until(due_in(seconds)), 0, guard(function()
    timer:close()
    task.cancel = nil
    step(task)
  end))
  task.cancel = function() close(timer) end
  yield(WAIT)
end

-- Wait until wake(...) is called, and return what it was given. begin(wake) arranges that; what it
-- returns, if anything, is called when the wait is ended before.
function loop.await(begin)
  local task = current("loop.await")
  local values, waiting
  local function go()
    task.cancel = nil
    step(task)
  end
  local function wake(...)
    if values then return end
    values = table.pack(...)
    if not waiting then return end
    if not tasks[running()] then return guard(go)() end
    local timer = uv.new_timer() -- called by a handler: not on top of its stack
    task.cancel = function() close(timer) end
    timer:start(0, 0, guard(function()
      timer:close()
      go()
    end))
  end
  task.cancel = begin(wake)
  if not values then
    waiting = true
    yield(WAIT)
  end
  task.cancel = nil
  return table.unpack(values, 1, values.n)
end

-- ---- processes and sockets ----------------------------------------------------------------------

-- What process.lua and stream.lua need of the loop, and what they leave to it at the end.
local host = {
  uv = uv, guard = guard, close = close, await = loop.await,
  dying = {},   -- children that were killed and are not reaped yet
  streams = {}, -- open ones
}

function loop.exec(argv, options)
  current "loop.exec"
  return require "moonbee.process" (host, argv, options)
end

function loop.connect(address)
  current "loop.connect"
  return require "moonbee.stream".connect(host, address)
end

local function serve(source)
  local stream <close> = source.argument
  source.fn(stream)
end

local function accept(listener, stream)
  local source = setmetatable({
    label = listener.label, fn = listener.fn, errors = 0, born = listener.born,
    done = stop_when_done, argument = stream, ends = function() stream:close() end,
  }, handle)
  sources[source] = true
  start(source, serve)
end

function loop.listen(address, fn)
  local source = add(("the handler of loop.listen '%s'"):format(tostring(address)), fn)
  source.accept = accept
  local ok, socket, at = pcall(require "moonbee.stream".listen, host, source, address)
  if not ok then
    source:stop()
    error(socket, 2)
  end
  source.socket, source.address = socket, at
  return source
end

function loop.guard(fn)
  if type(fn) ~= "function" then error("loop.guard: function expected, got " .. type(fn), 2) end
  local source = setmetatable({
    label = "a function of loop.guard", fn = fn, errors = 0, born = trace.here(2),
  }, handle)
  return function(...)
    local ok, err = xpcall(fn, debug.traceback, ...)
    if not ok then report(source, tostring(err), err) end
  end
end

-- Those that were killed end soon; the kernel tells when.
local function reap()
  if not next(host.dying) then return end
  local late, timer = false, uv.new_timer()
  timer:start(2000, 0, function() late = true end)
  while next(host.dying) and not late do uv.run "once" end
  timer:close()
end

-- ---- running ------------------------------------------------------------------------------------

-- SIGINT and SIGTERM end the loop, and so <close> runs. The program moonbee has a handler of its
-- own for them, and tells by an fd; else luv's are taken for as long as the loop runs.
local function catch_interrupts()
  local fd = core.interrupt.fd()
  if fd then
    local poll = assert(uv.new_poll(fd))
    core.interrupt.hold(true)
    poll:start("r", guard(function()
      local name = core.interrupt.take()
      if name then interrupted(name) end
    end))
    poll:unref()
    return { poll }
  end
  local handles = {}
  for i, name in ipairs { "SIGINT", "SIGTERM" } do
    handles[i] = uv.new_signal()
    handles[i]:start(name:lower(), guard(function() interrupted(name) end))
    handles[i]:unref()
  end
  handles[3] = uv.new_signal() -- a socket whose peer has gone: the write says so
  handles[3]:start("sigpipe", function() end)
  handles[3]:unref()
  return handles
end

-- Close all handles and coroutines, so that nothing of this run is left for the next one.
local function finish(handles)
  state = "ending"
  table.move(stopped, 1, #stopped, #handles + 1, handles)
  stopped = {}
  for _, h in ipairs(handles) do close(h) end
  while next(sources) do next(sources):stop() end
  while next(tasks) do kill(select(2, next(tasks))) end
  while next(host.streams) do next(host.streams):close() end
  reap()
  pool = {}
  stopping = false
  uv.run("nowait") -- luv frees handles in a turn
  if core.interrupt.fd() then core.interrupt.hold(false) end
  state = "idle"
end

-- For a program with a loop of its own (embed.lua): it turns this one, and takes its signals
-- itself. From then on loop.run suspends its coroutine, until step has said that the run is over.
local elsewhere

function loop.host()
  elsewhere = yield
  return {
    fd = uv.backend_fd,
    timeout = uv.backend_timeout, -- milliseconds, or -1
    step = function()
      uv.run "nowait"
      return stopping or not uv.loop_alive()
    end,
  }
end

function loop.run()
  if state ~= "idle" then
    error("loop.run: the loop runs already\nhint: start another function with loop.spawn", 2)
  end
  local handles = elsewhere and {} or catch_interrupts()
  state = "running"
  handles[#handles + 1] = uv.new_prepare()
  handles[#handles]:start(guard(sweep))
  handles[#handles]:unref()
  local ok, err = true, nil
  if not stopping then ok, err = pcall(elsewhere or uv.run, "default") end
  local why = reason
  finish(handles)
  reason = nil
  if not ok then error(err, 0) end
  return why
end

function loop.stop(why)
  if stopping then return end
  stopping, reason = true, why
  for source in pairs(sources) do source.halt = true end
  if state == "running" then uv.stop() end
end

function loop.on_error(fn)
  if fn ~= nil and type(fn) ~= "function" then
    error("loop.on_error: function or nil expected, got " .. type(fn), 2)
  end
  local before = sink
  sink = fn
  return before
end

return loop
