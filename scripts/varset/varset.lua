#!/usr/bin/env -S moonbee run
-- SPDX-License-Identifier: BSD-2-Clause
-- varset: shows and changes global variables of any loaded BPF program.
--
--   moonbee run varset flow
--   moonbee run varset flow sample=10 mode=STRICT
--   moonbee run varset /sys/fs/bpf/flow/on_xdp cfg.limits[3].rate
local bpf = require "moonbee"
local argparse = require "argparse"
local cli = require "moonbee.cli"
local named = require "moonbee.named"

local parser = argparse("moonbee run varset",
  "Show and change the global variables of a BPF program that is loaded, whoever loaded it.")
  :epilog("Without variables all are shown. Constants (.rodata) can be shown only. A name that "
  .. "several programs have is refused; moonbee ps lists them with their ids.")
  :usage_max_width(80):help_max_width(80)
parser:argument("program", "The path of a pin, an id, or a name.")
parser:argument("variable", "A variable to show (cfg.limits[3].rate), or to set (sample=10, "
  .. "mode=STRICT)."):args "*"
parser:flag("-j --json", "One JSON object of all that is shown.")

local parsed, opts = parser:pparse { ... }
if not parsed then cli.usage(("varset: %s\n%s"):format(opts, parser:get_usage())) end

local writes = false
for _, word in ipairs(opts.variable) do writes = writes or word:find "=" ~= nil end

local prog <close> = named("program", opts.program, "show variables")
local vars = bpf.vars(prog, { write = writes })
local assign = require "moonbee.assign"

-- What a path leads to: a value, or a view.
local function value_at(path)
  local at = vars
  local rest = path
  while rest ~= "" do
    local name, after = rest:match "^%.?([%a_][%w_]*)(.*)$"
    local index
    if not name then index, after = rest:match "^%[(%d+)%](.*)$" end
    if not name and not index then
      error(bpf.error {
        code = "EINVAL", op = "show variable", subject = path, cause = "that is no path",
        hint = "as in C: cfg.limits[3].rate",
      }, 0)
    end
    at, rest = at[name or math.tointeger(tonumber(index))], after
  end
  return at
end

local shown, order = {}, {}
local function show(path, value)
  shown[path] = value
  order[#order + 1] = path
end

-- All words are looked at before the first is stored: a wrong name changes nothing.
for _, word in ipairs(opts.variable) do value_at(word:match "^%s*([^=%s]*)") end
for _, word in ipairs(opts.variable) do
  if word:find "=" then assign(vars, word) end
  local path = word:match "^%s*([^=%s]*)"
  show(path, value_at(path))
end
if not opts.variable[1] then
  for name, value in pairs(vars) do show(name, value) end
end

if opts.json then
  print(bpf.json(setmetatable(shown, { __jsonorder = order })))
else
  for _, path in ipairs(order) do
    local value = shown[path]
    print(path .. " = " .. (bpf.type(value) == "view" and bpf.format(value) or tostring(value)))
  end
end
