-- SPDX-License-Identifier: BSD-2-Clause
--
-- busted --helper: where the modules of this build are, garbage collection at its hardest where
-- MB_HARDGC is set, and the leak check around every test and file. Specs find what is in
-- spec/support as require "support.NAME".

local busted = require "busted"
local uv = require "luv"

local build = os.getenv "MB_BUILD" or "build"
package.path = "./lua/?.lua;./lua/?/init.lua;./spec/?.lua;" .. package.path
package.cpath = "./" .. build .. "/lib/?.so;" .. package.cpath

-- The sanitizers' library is for this process; compilers and shells that specs start do without.
require "support.preload"
uv.os_unsetenv "LD_PRELOAD"

local skip = require "support.skip"
local leaks = require "support.leaks"
require "support.results".install()

-- What luv opens once and keeps must not look like a leak of the test that comes first.
do
  local signal, watch, pipe = uv.new_signal(), uv.new_fs_event(), uv.new_pipe(false)
  signal:start("sigusr2", function() end)
  watch:start(".", {}, function() end)
  signal:close()
  watch:close()
  pipe:close()
  uv.run()
end

-- Collection at its hardest. MB_HARDGC=full: a whole cycle at each allocation (pause 0), half a
-- millisecond each. Else a slice of a cycle at each, so that a cycle ends every thirty or so: most
-- of the effect, barriers included, for a thirtieth of the time.
local hard = os.getenv "MB_HARDGC"
if hard then
  collectgarbage("incremental", 100, 1000, hard == "full" and 13 or 6)
  -- ("incremental", 0, …) would leave the pause as it is.
  if hard == "full" then collectgarbage("setpause", 0) end
  collectgarbage()                      -- the settings count from the next cycle on
end

-- At the root, these run before all before_each and after all after_each of the specs.
local before
busted.before_each(function() before = leaks.snapshot() end)
busted.after_each(function()
  local leaked = leaks.since(before)
  if leaked then error(leaked, 0) end
end)

-- The variables that a file has left otherwise than they were; they are put back.
local function restore(environment)
  local names = {}
  for name, value in pairs(uv.os_environ()) do
    if environment[name] ~= value then names[name] = true end
  end
  for name in pairs(environment) do
    if not os.getenv(name) then names[name] = true end
  end
  local list = {}
  for name in pairs(names) do
    list[#list + 1] = name
    if environment[name] then uv.os_setenv(name, environment[name]) else uv.os_unsetenv(name) end
  end
  table.sort(list)
  return list[1] and "left changed in the environment: " .. table.concat(list, ", ")
end

local before_file, environment
busted.subscribe({ "file", "start" }, function()
  before_file, environment = leaks.file_snapshot(), uv.os_environ()
  return nil, true
end)
busted.subscribe({ "file", "end" }, function(file)
  local changed = restore(environment)
  if changed then busted.publish({ "error", "file" }, file, nil, changed) end
  local leaked = leaks.since_file(before_file, file.name)
  if leaked then busted.publish({ "error", "file" }, file, nil, leaked) end
  leaks.sweep_pins()
  return nil, true
end, { priority = 1 })

-- busted keeps every block that has run, and with its functions the file's modules: a heap to mark
-- through that grows from file to file. All that is asked for later is what an element is called.
local function forget(element)
  for _, child in ipairs(busted.children(element)) do forget(child) end
  for key, value in pairs(element) do
    if type(value) == "function" or type(value) == "table" then element[key] = nil end
  end
end
busted.subscribe({ "file", "end" }, function(file)
  for _, child in ipairs(busted.children(file)) do forget(child) end
  return nil, true
end, { priority = 100 })

busted.subscribe({ "test", "start" }, function(element)
  skip.pending = element.env and element.env.pending
  return nil, true
end)
busted.subscribe({ "test", "end" }, function()
  skip.pending = nil
  return nil, true
end)
