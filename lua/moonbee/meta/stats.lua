---@meta
-- SPDX-License-Identifier: BSD-2-Clause

---While one of these is open the kernel counts runs of all programs and their time: bpf.stats. It ends
---by close, `<close>` or the collector.
---@class moonbee.stats
---@field name string for messages
---@field closed boolean
local stats = {}

---Stop counting, unless somebody else counts. May be called again.
---```lua
---local bpf = require "moonbee"
---bpf.stats():close()
---```
function stats:close() end

return stats
