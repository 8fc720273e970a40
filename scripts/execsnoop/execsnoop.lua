#!/usr/bin/env -S moonbee run
-- SPDX-License-Identifier: BSD-2-Clause
-- execsnoop: prints every program that is started, with its arguments, and the attempts that fail.
--
--   moonbee run execsnoop --timestamp
--   moonbee run execsnoop --failed --json
--   moonbee run execsnoop --uid 0 --name "^/tmp/" --count 10
local bpf = require "moonbee"
local loop = require "moonbee.loop"
local argparse = require "argparse"
local cli = require "moonbee.cli"
local uv = require "luv"

-- ---- options ------------------------------------------------------------------------------------

local function integer(least, most)
  return function(text)
    local n = math.tointeger(tonumber(text))
    if n and n >= least and n <= most then return n end
    return nil, ("a whole number from %d to %d is expected, not '%s'"):format(least, most, text)
  end
end

local function pattern(text)
  local ok, why = pcall(string.find, "", text)
  if ok then return text end
  return nil, ("'%s' is no Lua pattern: %s"):format(text, why)
end

local parser = argparse("moonbee run execsnoop",
  "Print every program that is started (execve, execveat) on this machine, with its arguments.")
  :epilog("Arguments are shown quoted for a shell, those of a script with its interpreter before "
  .. "them; \"...\" says that there are more than fit. RET is 0 or the error. Ctrl-C ends it; "
  .. "nothing stays attached.")
  :usage_max_width(80):help_max_width(80)
parser:flag("-x --failed", "Only the attempts that fail.")
parser:option("-u --uid", "Only those of this user id.", nil, integer(0, 0xffffffff))
parser:option("-n --name", "Only files or commands that match this Lua pattern.", nil, pattern)
  :argname "PATTERN"
parser:option("-c --count", "End after this many.", nil, integer(1, math.maxinteger))
parser:flag("-t --timestamp", "Show the time of day.")
parser:flag("-j --json", "One JSON object per line.")

local function options(args)
  local ok, opts = parser:pparse(args)
  if not ok then cli.usage(("execsnoop: %s\n%s"):format(opts, parser:get_usage())) end
  return opts
end

-- ---- events -------------------------------------------------------------------------------------

-- The bytes of the arguments, each with its NUL; the last one's may be cut off.
local function split(bytes)
  local args = {}
  if bytes ~= "" and bytes:sub(-1) ~= "\0" then bytes = bytes .. "\0" end
  for argument in bytes:gmatch "([^\0]*)\0" do args[#args + 1] = argument end
  return args
end

local function error_name(ret)
  if ret == 0 then return nil end
  local _, name = uv.translate_sys_error(-ret)
  return name or tostring(ret)
end

-- bpf_ktime_get_ns counts from the start of the machine.
local BOOT
do
  local seconds, micro = uv.gettimeofday()
  BOOT = seconds + micro / 1e6 - bpf.now_ns() / 1e9
end

local function time_of_day(ts_ns)
  local t = BOOT + ts_ns / 1e9
  return os.date("%H:%M:%S", math.floor(t)) .. (".%03d"):format(math.floor(t % 1 * 1000))
end

local function from_record(ev)
  return {
    ts_ns = ev.ts_ns, pid = ev.pid, ppid = ev.ppid, uid = ev.uid, comm = ev.comm, file = ev.file,
    ret = ev.ret, error = error_name(ev.ret), truncated = ev.truncated ~= 0,
    unread = ev.unread ~= 0, args = split(bpf.bytes(ev.args):sub(1, ev.args_size)),
  }
end

-- ---- printing -----------------------------------------------------------------------------------

-- For a terminal: as a shell would read it, and nothing that moves the cursor.
local function quote(argument)
  if not argument:find "^[%w@%%+=:,./_-]+$" then
    argument = "'" .. argument:gsub("'", "'\\''") .. "'"
  end
  return (argument:gsub("%c", function(c) return ("\\x%02x"):format(c:byte()) end))
end

local ROW = "%-8s %-8s %-6s %-16s %-8s %s"

local function print_header(opts)
  local time = opts.timestamp and ("%-13s"):format "TIME" or ""
  print(time .. ROW:format("PID", "PPID", "UID", "COMM", "RET", "ARGS"))
end

local function print_text(e, opts)
  local words = {}
  for i, argument in ipairs(e.args) do words[i] = quote(argument) end
  if e.error or not e.args[1] then table.insert(words, 1, quote(e.file) .. ":") end
  if e.truncated then words[#words + 1] = "..." end
  if e.unread then words[#words + 1] = "(not all could be read)" end
  local time = opts.timestamp and time_of_day(e.ts_ns) .. " " or ""
  print(time .. ROW:format(e.pid, e.ppid, e.uid, quote(e.comm), e.error or "0",
    table.concat(words, " ")))
end

local KEYS = { "time", "ts_ns", "pid", "ppid", "uid", "comm", "file", "args", "truncated", "unread",
  "ret", "error" }

local function print_json(e, opts)
  setmetatable(e.args, { __jsontype = "array" })
  if opts.timestamp then e.time = time_of_day(e.ts_ns) end
  print(bpf.json(setmetatable(e, { __jsonorder = KEYS })))
end

-- ---- main ---------------------------------------------------------------------------------------

local opts = options { ... }
local show = opts.json and print_json or print_text
local shown = 0
io.stdout:setvbuf "line"

local obj <close> = bpf.open(bpf.find "execsnoop.bpf.o")
if opts.uid then obj.vars.only_uid, obj.vars.uid = true, opts.uid end
if opts.failed then obj.progs.on_exec.autoload = false end
obj:load()
local reader <close> = obj.maps.events:reader "struct event"
obj:attach()
if not opts.json then loop.spawn(function() print_header(opts) end) end

loop.on(reader, function(ev)
  if shown == opts.count then return end
  if opts.name and not ev.file:find(opts.name) and not ev.comm:find(opts.name) then return end
  show(from_record(ev), opts)
  shown = shown + 1
  if shown == opts.count then loop.stop() end
end)
loop.run()

if obj.vars.lost > 0 then
  io.stderr:write(("moonbee run execsnoop: %d events lost\n"):format(obj.vars.lost))
end
