---@meta
-- SPDX-License-Identifier: BSD-2-Clause

---The kernel's trace pipe: bpf.trace_pipe. A source for loop.on, which calls its handler for each line.
---It ends by close, `<close>` or the collector.
---@class moonbee.trace
---@field name string for messages
---@field fd integer readable as long as lines are there; do not close it
---@field closed boolean
local trace = {}

---Go through the lines that are there now. Does not wait. Raises what read(2) does.
---```lua
---local bpf = require "moonbee"
---for line in bpf.trace_pipe():drain { max = 100 } do print(line) end
---```
---@param opts? { max: integer } at most so many
---@return fun(): string|nil iterator
function trace:drain(opts) end

---Wait until a line is there. It blocks the whole process: in a handler of the loop use loop.on.
---
---Raises "interrupted" on SIGINT and SIGTERM in the program moonbee.
---```lua
---local bpf = require "moonbee"
---local trace <close> = bpf.trace_pipe()
---if not trace:wait(1.5) then print "silence" end
---```
---@param seconds? number nil: for ever
---@return boolean there false: the time is over
function trace:wait(seconds) end

---Close it. May be called again, also in its own drain.
---```lua
---local bpf = require "moonbee"
---bpf.trace_pipe():close()
---```
function trace:close() end

return trace
