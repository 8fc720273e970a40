-- SPDX-License-Identifier: BSD-2-Clause
--
-- Runs a moonbee script where some of the kernel's files say something else: in a mount
-- namespace of
-- its own, in which nothing else sees it. Needs root.
--
--   local disguise = require "support.disguise"
--   local r = disguise({ ["/proc/kallsyms"] = "ffffffff81000000 T _text\n" }, [[ print(…) ]])
--   disguise.hide("/proc", { ["/boot/config-x"] = "…" }, script)  -- an empty /proc, other
-- directories
--
-- The result is support.run's: rc, out, err.

local run = require "support.run"
local support = require "support.bpf"

local function written(text)
  local path = os.tmpname()
  local file <close> = assert(io.open(path, "w"))
  file:write(text)
  return path
end

-- commands: lines of shell that come before the script in its namespace.
local function inside(commands, script, temporary)
  local path = written(script)
  temporary[#temporary + 1] = path
  table.insert(commands, 1, "set -e")
  -- the program finds its own Lua by /proc
  commands[#commands + 1] = "export LUA_PATH='./lua/?.lua;./lua/?/init.lua;;'"
  commands[#commands + 1] = ("exec %s run %s"):format(support.moonbee, path)
  local cleanup <close> = setmetatable({}, { __close = function()
    for _, file in ipairs(temporary) do os.remove(file) end
  end })
  return cleanup and run { "unshare", "-m", "--propagation", "private", "sh", "-c",
    table.concat(commands, "\n") }
end

local disguise = {}

-- An empty directory in place of dir; then files, of which those in other directories are alone
-- there.
function disguise.hide(dir, files, script)
  -- the leak sanitizer looks into /proc
  local commands = { "mount -t tmpfs none " .. dir, "export ASAN_OPTIONS=detect_leaks=0" }
  local temporary = {}
  for path, text in pairs(files) do
    local source = written(text)
    temporary[#temporary + 1] = source
    table.insert(commands, ("mount -t tmpfs none %s; cp %s %s"):format(path:match "^(.*)/",
      source, path))
  end
  return inside(commands, script, temporary)
end

return setmetatable(disguise, { __call = function(_, files, script)
  local commands, temporary = {}, {}
  for path, text in pairs(files) do
    local source = written(text)
    temporary[#temporary + 1] = source
    commands[#commands + 1] = ("mount --bind %s %s"):format(source, path)
  end
  return inside(commands, script, temporary)
end })
