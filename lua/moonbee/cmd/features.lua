-- SPDX-License-Identifier: BSD-2-Clause
-- moonbee features: what this kernel can do, as its BTF tells or as probing shows.
local LONG = { helper = true, kfunc = true } -- lists that are shown when they are asked for
local ORDER = { "group", "name", "state", "from", "why" }

local function glob_of(pattern)
  return "^" .. pattern:gsub("%p", "%%%0"):gsub("%%%*", ".*") .. "$"
end

local function matches(f, patterns)
  if #patterns == 0 then return not LONG[f.group] end
  for _, p in ipairs(patterns) do
    local glob = glob_of(p)
    local full = f.group .. "." .. f.name
    if f.group == p or f.name:find(glob) or full:find(glob) then return true end
  end
  return false
end

local function as_text(list)
  local lines, width, group = {}, 0, nil
  for _, f in ipairs(list) do width = math.max(width, #f.name) end
  for _, f in ipairs(list) do
    if f.group ~= group then
      group = f.group
      lines[#lines + 1] = (#lines > 0 and "\n" or "") .. group
    end
    local line = ("  %s%s  %-7s  %s"):format(f.name, (" "):rep(width - #f.name), f.state,
      f.why or "")
    lines[#lines + 1] = (line:gsub("%s+$", ""))
  end
  return table.concat(lines, "\n")
end

local function run(opts)
  local features = require "moonbee.feature"
  local list = setmetatable({}, { __jsontype = "array" })
  for _, f in ipairs(features.list { probe = opts.probe and true or false }) do
    if matches(f, opts.name) then list[#list + 1] = setmetatable(f, { __jsonorder = ORDER }) end
  end
  if #list == 0 then
    local cli = require "moonbee.cli"
    cli.fail(("no feature '%s' is known of\nhint: moonbee features lists them; helpers and " ..
      "kfuncs: moonbee features helper kfunc"):format(table.concat(opts.name, " ")))
  end
  if opts.json then
    print(require "moonbee.json".encode({ features = list }, { indent = true }))
  else
    print(as_text(list))
  end
end

return {
  name = "features",
  summary = "List what this kernel can do: yes, no or unknown.",
  args = { {
    name = "name", args = "*",
    help = "Only these: a list (prog_type, helper, …), a name, or a glob: 'map_type.*ring*'.",
  } },
  options = {
    { name = "--probe", args = 0, help = "Load a program, make a map of each type to see (root)." },
    { name = "--json", args = 0, help = "Print JSON." },
  },
  examples = {
    "moonbee features", "moonbee features tcx ring_buffer", "moonbee features helper kfunc",
  },
  run = run,
}
