---@meta moonbee.loop
-- SPDX-License-Identifier: BSD-2-Clause

---The event loop, on luv's default loop: require "moonbee.loop". Other users of luv share it. Each
---handler runs in a coroutine and may wait anywhere (loop.sleep, loop.await). An error in a handler is
---reported, counted and never fatal. Handlers of one source run in order, one at a time.
---@class moonbee.loop
---@field errors integer that were reported since the start
local loop = {}

---@class moonbee.handle
---@field label string for messages
---@field errors integer of its handler
---@field stopped boolean|nil
---@field address string|nil of loop.listen: where
local handle = {}

---Stop it: its handler is not called again. One that waits is ended where it waits, and what it holds
---is closed; one that stops itself goes on to its end. May be called again.
---```lua
---local loop = require "moonbee.loop"
---local ticks = loop.every(1, print)
---ticks:stop()
---```
function handle:stop() end

---Call fn for each record of a reader. A handler that waits keeps its record, and its reader waits
---with it; at most 1024 records are handled before other sources have their turn. A reader has one
---handler; when it is closed, the handle stops. Also when its drain fails before a record is there.
---
---Raises text (no reader, a closed one, no function), EEXIST (it has a handler).
---```lua
---local bpf = require "moonbee"
---local loop = require "moonbee.loop"
---local obj <close> = bpf.load "flow.bpf.o"
---loop.on(obj.maps.events:reader "struct event", function(ev) print(ev.pid, ev.comm) end)
---loop.run()
---```
---@param reader moonbee.reader
---@param fn fun(...) gets the record, or the columns' values
---@param ... string columns: fields to give as values, the fast way
---@return moonbee.handle
function loop.on(reader, fn, ...) end

---Call fn every so many seconds, for the first time after that span. Ticks do not drift; those that
---pass while fn runs or waits are left out.
---
---Raises text for less than 0.001, NaN, no number.
---```lua
---local loop = require "moonbee.loop"
---loop.every(1.0, function() print(os.date "%T") end)
---loop.after(3, loop.stop)
---loop.run()
---```
---@param seconds number 0.001 to 1e9; the clock has milliseconds
---@param fn fun()
---@return moonbee.handle
function loop.every(seconds, fn) end

---Call fn once, after so many seconds, not earlier; 0: in the next turn.
---```lua
---local loop = require "moonbee.loop"
---loop.after(0.5, function() print "done" end)
---loop.run()
---```
---@param seconds number 0 to 1e9
---@param fn fun()
---@return moonbee.handle
function loop.after(seconds, fn) end

---Run a function in the loop, from the next turn on.
---```lua
---local loop = require "moonbee.loop"
---loop.spawn(function(name)
---  loop.sleep(0.1)
---  print(name)
---end, "later")
---loop.run()
---```
---@param fn fun(...)
---@param ... any its arguments
---@return moonbee.handle
function loop.spawn(fn, ...) end

---Call fn at a signal. Signals that come while fn runs or waits are one more call after it. A handler
---of SIGINT or SIGTERM takes the place of the loop's end, and does not keep the loop running.
---
---Raises text for an unknown name, EINVAL for SIGKILL and SIGSTOP.
---```lua
---local loop = require "moonbee.loop"
---loop.signal("SIGHUP", function() print "reload" end)
---loop.after(1, loop.stop)
---loop.run()
---```
---@param name string "SIGHUP"
---@param fn fun(name: string)
---@return moonbee.handle
function loop.signal(name, fn) end

---Call fn when a file has changed: edited in place, replaced by a rename, behind a symlink that was
---swapped, or made anew. Changes within 50 ms are one call; so are those that come while fn runs or
---waits. That it is gone is no change: its return is. The file need not exist, its directory must.
---
---Raises text for no path, ENOENT (no directory), EACCES, ENOSPC (inotify's limit). Needs inotify:
---network file systems tell of local changes only.
---```lua
---local loop = require "moonbee.loop"
---loop.watch("/etc/hosts", function(path) print("changed:", path) end)
---loop.after(1, loop.stop)
---loop.run()
---```
---@param path string
---@param fn fun(path: string)
---@return moonbee.handle
function loop.watch(path, fn) end

---Wait, in a handler or a spawned function, at least so long; others run meanwhile. 0: let the others
---have a turn.
---
---Raises text outside of the loop's functions, in a coroutine of one's own, under a C function
---(string.gsub's, table.sort's), and for what is no time span.
---```lua
---local loop = require "moonbee.loop"
---loop.spawn(function()
---  loop.sleep(0.2)
---  print "later"
---end)
---loop.run()
---```
---@param seconds number 0 to 1e9
function loop.sleep(seconds) end

---Wait for something else: begin is called with a function wake, and the wait ends when wake is
---called, from a callback of luv's or another handler; later calls do nothing. What begin returns, if
---anything, is called when the wait is ended otherwise. Raises as sleep.
---```lua
---local loop = require "moonbee.loop"
---local uv = require "luv"
---loop.spawn(function()
---  local err, stat = loop.await(function(wake) uv.fs_stat("/", wake) end)
---  print(err or stat.type)
---end)
---loop.run()
---```
---@param begin fun(wake: fun(...)): fun()|nil
---@return any ... what wake was given
function loop.await(begin) end

---Run a program and wait for its end, in a handler or a spawned function; others run meanwhile. No
---shell in between. A child whose waiter ends before (handle.stop, the loop's end) is killed.
---
---Raises ENOENT and the like when it cannot be started, ETIMEDOUT when it took longer than timeout (it
---is killed then), text outside of the loop's functions.
---```lua
---local loop = require "moonbee.loop"
---loop.spawn(function()
---  local r = loop.exec({ "ip", "-j", "link" }, { timeout = 5 })
---  print(r.code, #r.out)
---end)
---loop.run()
---```
---@param argv string[] the program, looked up in PATH, and its arguments
---@param options? moonbee.exec_options
---@return { code: integer, signal: string|nil, out: string, err: string } result
function loop.exec(argv, options) end

---@class moonbee.exec_options
---@field stdin? string
---@field cwd? string
---@field env? table<string, string|false> changes to our environment; false takes one away
---@field timeout? number seconds

---Connect to a socket, in a handler or a spawned function. Close the stream, or hold it in `<close>`;
---the loop's end closes it, too.
---
---Raises ECONNREFUSED, ENOENT, EAI_NONAME (no such host) and the like; text for no address.
---```lua
---local loop = require "moonbee.loop"
---loop.spawn(function()
---  local s <close> = loop.connect "localhost:80"
---  s:write "GET / HTTP/1.0\r\n\r\n"
---  print(s:read "line")
---end)
---```
---@param address string "/run/x.sock", "./x.sock", "host:port", "[::1]:port"
---@return moonbee.stream
function loop.connect(address) end

---Listen on a socket, and call fn with the stream of each connection, in a coroutine of its own; when
---fn returns or fails its stream is closed. An error is reported as any handler's. handle.address says
---where it listens: with port 0 the system chooses. A path's socket file is left there.
---
---Raises EADDRINUSE, EACCES and the like; text for no address, no function. Names are not looked up,
---but "localhost"; without a host it is every one of this machine's IPv4 addresses. A number is a
---descriptor that listens already, as service managers give them; it is the loop's from then on.
---```lua
---local loop = require "moonbee.loop"
---local server = loop.listen("localhost:0", function(s)
---  for line in s:lines() do s:write(line:upper(), "\n") end
---end)
---print(server.address)
---server:stop()
---```
---@param address string|integer as loop.connect's, or a descriptor
---@param fn fun(stream: moonbee.stream)
---@return moonbee.handle
function loop.listen(address, fn) end

---Wrap a callback for luv, which ends the process when one raises: an error in fn is reported, counted
---in loop.errors, and goes no further.
---```lua
---local loop = require "moonbee.loop"
---local uv = require "luv"
---local timer = uv.new_timer()
---timer:start(100, 0, loop.guard(function() timer:close() end))
---loop.run()
---```
---@param fn fun(...)
---@return fun(...)
function loop.guard(fn) end

---For a C program that turns the loop itself (moonbee.h does all of this for it): from now on loop.run()
---suspends the coroutine that calls it, and the program's signals are its own. When fd is readable, or
---timeout milliseconds (-1: none) have passed, step handles what is due; it is true when the run is over:
---then the coroutine is to be resumed.
---```lua
---local turn = require "moonbee.loop".host()
---local script = coroutine.wrap(function() require "moonbee.loop".run() end)
---script()                                                  -- it waits in loop.run()
---while not turn.step() do end                              -- a program waits for turn.fd() here
---script()
---```
---@return { fd: (fun(): integer), timeout: (fun(): integer), step: (fun(): boolean) }
function loop.host() end

---Run handlers until nothing is left to do, stop is called, or SIGINT or SIGTERM comes. Then all
---handles are closed, and handlers that wait are ended where they wait; so the next run starts anew.
---
---Raises text within itself.
---```lua
---local loop = require "moonbee.loop"
---loop.after(0.1, function() loop.stop "enough" end)
---assert(loop.run() == "enough")
---```
---@return any reason stop's; "SIGINT", "SIGTERM"; nil: nothing was left to do
function loop.run() end

---End the run when the current handler returns or waits; before a run, that one ends at once. The
---first call decides.
---```lua
---local loop = require "moonbee.loop"
---loop.after(0.1, loop.stop)
---loop.run()
---```
---@param reason? any what run returns
function loop.stop(reason) end

---Set who is told of handlers' errors; nil: stderr. An error in fn goes to stderr.
---```lua
---local loop = require "moonbee.loop"
---loop.on_error(function(text) io.stderr:write("handler: ", text, "\n") end)
---```
---@param fn? fun(text: string, err: any, handle: moonbee.handle|nil) text: with the tracebacks of its
--- coroutine and of who started it
---@return function|nil before
function loop.on_error(fn) end

return loop
