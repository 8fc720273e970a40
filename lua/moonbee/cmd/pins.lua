-- SPDX-License-Identifier: BSD-2-Clause
-- moonbee pins: what is pinned in bpffs, by whom; removing what moonbee's processes left behind.
local bpf = require "moonbee"
local cli = require "moonbee.cli"
local rows = require "moonbee.rows"

local function owner_text(owner)
  if not owner then return "-" end
  return ("pid %d%s%s"):format(owner.pid, owner.alive and "" or ", gone",
    owner.cleanup and ", cleans up" or "")
end

local OWNER = { "pid", "uid", "alive", "cleanup" }
local PIN = { "path", "kind", "type", "name", "id", "owner" }
local LEFT = { "path", "kind", "id", "owner", "removed", "error" }

local function ordered(list, order)
  for _, entry in ipairs(list) do
    setmetatable(entry, { __jsonorder = order })
    if entry.owner then setmetatable(entry.owner, { __jsonorder = OWNER }) end
  end
  return setmetatable(list, { __jsontype = "array" })
end

local function print_json(list, order)
  print(require "moonbee.json".encode(ordered(list, order), { indent = true }))
end

local function show(opts)
  local list = bpf.pins(opts.dir)
  if opts.json then return print_json(list, PIN) end
  local lines = { { "PATH", "KIND", "TYPE", "NAME", "ID", "OWNER" } }
  for i, pin in ipairs(list) do
    lines[i + 1] = { pin.path, pin.kind, pin.type, pin.name ~= "" and pin.name or "-",
      tostring(pin.id), owner_text(pin.owner) }
  end
  if #list > 0 then print(rows(lines)) end
end

local function collect(opts)
  local list = bpf.collect_pins(opts.dir, { all = opts.all or false, dry = opts.dry_run or false })
  local failed = 0
  if opts.json then
    print_json(list, LEFT)
  end
  for _, left in ipairs(list) do
    if left.error then failed = failed + 1 end
    if not opts.json then
      print(("%s %s (%s, %s)"):format(
        left.removed and "removed" or left.error and "not removed: " .. left.error .. ":"
          or "would be removed:",
        left.path, left.kind, owner_text(left.owner)))
    end
  end
  return failed > 0 and cli.FAILED or cli.OK
end

local function run(opts)
  if (opts.all or opts.dry_run) and not opts.gc then
    cli.usage(("%s belongs to --gc"):format(opts.all and "--all" or "--dry-run"))
  end
  if opts.gc then return collect(opts) end
  show(opts)
end

return {
  name = "pins",
  summary = "Show what is pinned in bpffs and who pinned it; remove what was left behind.",
  args = { { name = "dir", args = "?", default = "/sys/fs/bpf",
    help = "Where to look, with all below it." } },
  options = {
    { name = "--gc", args = 0, help = "Remove pins that processes of moonbee left behind: those " ..
      "that were to go with them (pin_cleanup), and unfinished replacements. Nothing else." },
    { name = "--all", args = 0, help = "With --gc: also pins that were to stay, if the process " ..
      "that made them is gone." },
    { name = "--dry-run", args = 0, help = "With --gc: only say what would be removed." },
    { name = "--json", args = 0, help = "Print JSON." },
  },
  examples = {
    "moonbee pins", "moonbee pins /sys/fs/bpf/flow --json", "moonbee pins --gc --dry-run",
  },
  run = run,
}
