-- SPDX-License-Identifier: BSD-2-Clause
-- Tracebacks that show the script's own lines: frames of C and of moonbee's Lua tell its user
-- nothing. MB_TRACEBACK=1 shows all.
local OURS = debug.getinfo(1, "S").source:match "^(.*)trace%.lua$"

local function name_of(info)
  if info.what == "main" then return "main chunk" end
  if info.name then
    local kind = info.namewhat ~= "" and info.namewhat or "function"
    return ("%s '%s'"):format(kind == "global" and "function" or kind, info.name)
  end
  return ("function <%s:%d>"):format(info.short_src, info.linedefined)
end

local trace = {}

local MOST = 12 -- frames

-- Where something is begun, level frames up: for started. (debug.traceback searches all modules for
-- the name of each function, and takes a third of a millisecond.)
function trace.here(level)
  local frames = {}
  for at = level + 1, level + MOST do
    local info = debug.getinfo(at, "Sln")
    if not info then break end
    frames[#frames + 1] = info
  end
  return frames
end

local function is_shown(info)
  return info.what ~= "C" and info.source:sub(1, #OURS) ~= OURS
    or os.getenv "MB_TRACEBACK" == "1"
end

local function line_of(info)
  return ("\t%s:%d: in %s"):format(info.short_src, info.currentline, name_of(info))
end

-- What trace.here gave as text, without frames of C and of ours; nil: there are no others.
function trace.started(frames)
  local lines = {}
  for _, info in ipairs(frames) do
    if is_shown(info) then lines[#lines + 1] = line_of(info) end
  end
  return lines[1] and table.concat(lines, "\n") or nil
end

-- err as text and the calls below it: of a coroutine, or of this stack from level on.
local function render(_, err, co, level)
  local text = tostring(err)
  if os.getenv "MB_TRACEBACK" == "1" then
    return co and debug.traceback(co, text) or debug.traceback(text, level + 1)
  end
  local lines = { text, "stack traceback:" }
  local at = co and 0 or level + 1
  while true do
    local info = co and debug.getinfo(co, at, "Sln") or not co and debug.getinfo(at, "Sln")
    if not info then break end
    if is_shown(info) then lines[#lines + 1] = line_of(info) end
    at = at + 1
  end
  return table.concat(lines, "\n", 1, #lines > 2 and #lines or 1)
end

return setmetatable(trace, { __call = render })
