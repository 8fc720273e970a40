-- SPDX-License-Identifier: BSD-2-Clause
-- moonbee run: a control script, with all that follows its name as its arguments.
local core = require "moonbee.core"
local cli = require "moonbee.cli"

-- A file that can be read, and is no directory.
local function is_file(path)
  local file <close> = io.open(path, "rb")
  if not file then return false end
  local _, err = file:read(0)
  return err == nil
end

-- A path, or the name of a tool that is installed (or lies in the tree).
local function locate(name)
  if is_file(name) then return name end
  local tool = not name:find "/" and core.scripts_dir
    and ("%s/%s/%s.lua"):format(core.scripts_dir, name, name)
  if tool and is_file(tool) then return tool end
  error(core.error {
    code = "ENOENT", op = "run script", subject = name,
    cause = "no such file" .. (tool and ", nor " .. tool or ""),
    hint = "give the path of a Lua file, or the name of a tool of moonbee's",
  }, 0)
end

local function set_arg(script, rest)
  _G.arg = table.move(rest, 1, #rest, 1, { [0] = script, [-1] = "run", [-2] = "moonbee" })
end

local function run(opts)
  local script = locate(opts.script)
  local dir = script:match "^(.*/)[^/]*$" or "./"
  package.path = ("%s?.lua;%s?/init.lua;%s"):format(dir, dir, package.path)
  set_arg(script, opts.rest)
  local chunk, err = loadfile(script, "t")
  if not chunk then cli.fail(err) end
  local code = chunk(table.unpack(opts.rest)) -- no tail call: errors show where the script begins
  return code
end

return {
  name = "run",
  summary = "Run a control script.",
  usage = "run SCRIPT [ARGUMENT…]",
  args = { { name = "script", help = "A Lua file, or the name of an installed tool." } },
  rest = true,
  examples = {
    "moonbee run count.lua eth0",
    "moonbee run execsnoop --json",
    "#!/usr/bin/env -S moonbee run          (first line of a script)",
  },
  run = run,
}
