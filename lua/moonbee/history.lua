-- SPDX-License-Identifier: BSD-2-Clause
-- The lines that were typed, kept in $XDG_STATE_HOME/moonbee/history: each is added at once, so
-- that several sessions lose nothing of each other. A line that begins with a space is not kept.
local uv = require "luv"

local history = {}

local KEEP = 1000  -- lines that a session begins with
local MOST = 4000  -- lines of the file before it is cut to that

local function directory()
  local state, home = os.getenv "XDG_STATE_HOME", os.getenv "HOME"
  -- By the XDG specification a relative path is to be ignored.
  if state and state:sub(1, 1) == "/" then return state .. "/moonbee" end
  if home and home:sub(1, 1) == "/" then return home .. "/.local/state/moonbee" end
end

local function make_directory(path)
  local at = 1
  repeat
    at = path:find("/", at + 1, true)
    uv.fs_mkdir(path:sub(1, at and at - 1), 448) -- 0700
  until not at
end

local function read(path)
  local lines = {}
  local file <close> = io.open(path, "rb")
  -- A directory opens, but has no lines.
  if not file or not file:read(0) then return lines end
  for text in file:lines() do
    if text ~= "" then lines[#lines + 1] = text end
  end
  return lines
end

local function open(path, flags)
  return uv.fs_open(path, flags, 384) -- 0600: what is typed is nobody else's
end

-- Cut a long file: written aside, then renamed.
local function rewrite(path, lines)
  local aside = ("%s.%d"):format(path, uv.os_getpid())
  local fd = open(aside, "w")
  if not fd then return end
  local ok = uv.fs_write(fd, table.concat(lines, "\n") .. "\n", -1)
  uv.fs_close(fd)
  if not (ok and uv.fs_rename(aside, path)) then uv.fs_unlink(aside) end
end

-- The lines there are, and a function that adds one. Without a place for a file both forget.
function history.open()
  local dir = directory()
  if not dir then return {}, function() end end
  local path = dir .. "/history"
  local lines = read(path)
  if #lines > MOST then
    lines = table.move(lines, #lines - KEEP + 1, #lines, 1, {})
    rewrite(path, lines)
  end
  local last = lines[#lines]
  return table.move(lines, math.max(1, #lines - KEEP + 1), #lines, 1, {}), function(text)
    if text == last or text:find "^%s" or text:find "%c" then return end
    last = text
    make_directory(dir)
    local fd = open(path, "a")
    if not fd then return end
    uv.fs_write(fd, text .. "\n", -1)
    uv.fs_close(fd)
  end
end

-- Source of several lines as one, or as it is, a list: comments and long strings end with lines.
function history.entries(source)
  if not source:find "\n" then return { source } end
  local one = source:gsub("%s*\n%s*", " ")
  if not source:find("--", 1, true) and not source:find "%[=*%[" and not source:find "\\\n"
    and (load(one, "=", "t", {}) or load("return " .. one, "=", "t", {})) then
    return { one }
  end
  local lines = {}
  for text in source:gmatch "[^\n]+" do lines[#lines + 1] = text end
  return lines
end

return history
