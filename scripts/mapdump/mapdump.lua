#!/usr/bin/env -S moonbee run
-- SPDX-License-Identifier: BSD-2-Clause
-- mapdump: the entries of any map, typed by its BTF.
--
--   moonbee run mapdump /sys/fs/bpf/flow/flows --field stats.bytes --top 10
--   moonbee run mapdump flows --json
local bpf = require "moonbee"
local argparse = require "argparse"
local cli = require "moonbee.cli"
local named = require "moonbee.named"

local parser = argparse("moonbee run mapdump",
  "Print the entries of a map, whoever made it, with keys and values by their types.")
  :epilog "A name that several maps have is refused; moonbee ps lists them with their ids."
  :usage_max_width(80):help_max_width(80)
parser:argument("map", "The path of a pin, an id, or a name.")
parser:option("-f --field", "Only this field of each value: stats.bytes. May be given again.")
  :count "*":argname "PATH"
parser:option("-t --top", "Only the N entries with the largest FIELD (or value), largest first.")
  :args(1):argname "N"
parser:option("-c --count", "At most so many entries."):argname "N"
parser:flag("-j --json", "One JSON object for each entry.")

local parsed, opts = parser:pparse { ... }
if not parsed then cli.usage(("mapdump: %s\n%s"):format(opts, parser:get_usage())) end
io.stdout:setvbuf "full"

local function number_of(option)
  local text = opts[option]
  if not text then return nil end
  local n = math.tointeger(tonumber(text))
  if n and n > 0 then return n end
  cli.usage(("mapdump: option --%s: a whole number from 1 on is expected, not '%s'")
    :format(option, text))
end
local top, most = number_of "top", number_of "count"
if top and #opts.field > 1 then cli.usage "mapdump: --top goes by one --field" end

-- ---- printing -----------------------------------------------------------------------------------

local function text_of(x)
  if bpf.type(x) == "view" then return bpf.format(x) end
  if type(x) == "string" then return ("%q"):format(x):gsub("\\\n", "\\n") end
  return tostring(x)
end

local function emit(key, value)
  if opts.json then
    print(bpf.json { key = key, value = value })
  else
    print(("%s: %s"):format(text_of(key), text_of(value)))
  end
end

-- The chosen fields by name, for JSON; for text: a = 1, b = 2.
local function emit_fields(key, ...)
  local values = { ... }
  if opts.json then
    local fields = {}
    for i, path in ipairs(opts.field) do fields[path] = values[i] end
    print(bpf.json { key = key, value = fields })
    return
  end
  local words = {}
  for i, path in ipairs(opts.field) do words[i] = path .. " = " .. text_of(values[i]) end
  print(("%s: %s"):format(text_of(key), table.concat(words, ", ")))
end

local map <close> = named("map", opts.map, "dump map", { readonly = true })

local function dump_top()
  for _, entry in ipairs(map:top(top, opts.field[1])) do
    if opts.field[1] then
      emit_fields(entry.key, entry.value)
    else
      emit(entry.key, entry.value)
    end
  end
end

local function dump_all()
  local n = 0
  local function more()
    n = n + 1
    return n ~= most
  end
  if opts.field[1] then
    for key, a, b, c, d, e, f, g, h in map:pairs(table.unpack(opts.field)) do
      emit_fields(key, a, b, c, d, e, f, g, h)
      if not more() then break end
    end
  else
    for key, value in pairs(map) do
      emit(key, value)
      if not more() then break end
    end
  end
end

if #opts.field > 8 then cli.usage "mapdump: at most 8 fields" end
if top then dump_top() else dump_all() end
