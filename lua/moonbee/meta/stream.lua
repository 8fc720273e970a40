---@meta
-- SPDX-License-Identifier: BSD-2-Clause

---A connected socket: loop.connect, loop.listen. Its methods wait as loop.sleep does, so they are for
---the loop's functions. It ends by close, `<close>`, or with the loop's run.
---@class moonbee.stream
---@field address string
---@field closed boolean
local stream = {}

---Read: what is there (nil), so many bytes, a line without its end, or all up to the end. Fewer bytes,
---or a line without an end, where the peer's end comes before.
---
---Raises ECONNRESET and the like, EBUSY (another coroutine reads), ECANCELED (closed meanwhile),
---EMSGSIZE (a line of more than 1 MiB); text when it is closed.
---```lua
---local loop = require "moonbee.loop"
---loop.spawn(function()
---  local s <close> = loop.connect "/run/x.sock"
---  print(s:read "line", s:read(16), s:read(), s:read "all")
---end)
---```
---@param how? integer|"line"|"all"
---@return string|nil data nil: the peer has finished ("all": "")
function stream:read(how) end

---Iterate over lines: stream.read "line" until the peer has finished.
---```lua
---local loop = require "moonbee.loop"
---loop.spawn(function()
---  for line in loop.connect("/run/x.sock"):lines() do print(line) end
---end)
---```
---@return fun(): string|nil
function stream:lines() end

---Write all of it; returns when the system has taken it. Raises EPIPE, ECONNRESET.
---```lua
---local loop = require "moonbee.loop"
---loop.spawn(function()
---  local s <close> = loop.connect "/run/x.sock"
---  s:write("status", "\n")
---end)
---```
---@param ... string|number
---@return moonbee.stream stream itself
function stream:write(...) end

---Say that nothing more is written: the peer reads the end. Reading goes on.
---```lua
---local loop = require "moonbee.loop"
---loop.spawn(function()
---  local s <close> = loop.connect "/run/x.sock"
---  s:write "text"
---  s:finish()
---  print(s:read "all")
---end)
---```
function stream:finish() end

---Close it; who waits for it gets an error. May be called again.
---```lua
---local loop = require "moonbee.loop"
---loop.spawn(function() loop.connect("/run/x.sock"):close() end)
---```
function stream:close() end

return stream
