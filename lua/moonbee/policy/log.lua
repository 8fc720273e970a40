-- SPDX-License-Identifier: BSD-2-Clause
-- A policy's log: lines of text or JSON on stderr, with journald's priorities where it reads them.
local bpf = require "moonbee"

local LEVELS = { debug = 7, info = 6, warn = 4, error = 3 } -- syslog's
local RANK = { debug = 1, info = 2, warn = 3, error = 4 }

local log = {}
log.__index = log

-- Is our stderr the journal? JOURNAL_STREAM names the socket's device and inode.
function log.to_journal()
  local stream = os.getenv "JOURNAL_STREAM"
  local uv = require "luv"
  local st = stream and uv.fs_fstat(2)
  return st and stream == ("%d:%d"):format(st.dev, st.ino) or false
end

local NUMBER = { error = 0, warn = 1, info = 2, debug = 3 } -- moonbee.h's

-- A program that embeds us may want to hear it itself.
local function default_write(line, level)
  if bpf.log then return bpf.log(NUMBER[level], (line:gsub("\n$", ""))) end
  io.stderr:write(line)
end

-- name of the policy; format "text" | "json"; level: the least that is written; priorities: "<6>"
-- before each line; write(text).
function log.new(options)
  return setmetatable({
    name = options.name, format = options.format or "text", level = options.level or "info",
    priorities = options.priorities, out = options.write or default_write, listeners = {},
  }, log)
end

-- What a process calls itself may be in it: nothing that steers a terminal goes out.
local function harmless(text)
  return (text:gsub("[\0-\8\11-\31\127]", function(c) return ("\\x%02x"):format(c:byte()) end)
    :gsub("\xC2([\x80-\x9F])", function(c) return ("\\x%02x"):format(c:byte()) end))
end

local function as_text(self, level, text)
  local prefix = self.priorities and ("<%d>"):format(LEVELS[level]) or ""
  local mark = not self.priorities and (level == "error" or level == "warn") and level .. ": " or ""
  local lines = {}
  for line in (harmless(text) .. "\n"):gmatch "([^\n]*)\n" do
    lines[#lines + 1] = #lines == 0 and ("%s%s: %s%s\n"):format(prefix, self.name, mark, line)
      or ("%s  %s\n"):format(prefix, line)
  end
  return table.concat(lines)
end

local function as_json(self, level, text, fields)
  local sec, usec = require "luv".gettimeofday()
  local entry = { time = sec + usec / 1e6, level = level, policy = self.name, text = text }
  for k, v in pairs(fields or {}) do entry[k] = v end
  local order = { "time", "level", "policy", "text" }
  return bpf.json(setmetatable(entry, { __jsonorder = order })) .. "\n"
end

-- fields: more for a JSON line.
function log:write(level, text, fields)
  if RANK[level] < RANK[self.level] then return end
  text = tostring(text):gsub("\n+$", "")
  local line = self.format == "json" and as_json(self, level, text, fields)
    or as_text(self, level, text)
  pcall(self.out, line, level)
  for _, fn in ipairs(self.listeners) do pcall(fn, level, text) end
end

for level in pairs(LEVELS) do
  log[level] = function(self, fmt, ...)
    self:write(level, select("#", ...) > 0 and fmt:format(...) or fmt)
  end
end
function log:listen(fn)
  self.listeners[#self.listeners + 1] = fn
end

return log
