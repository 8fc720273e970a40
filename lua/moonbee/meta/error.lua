---@meta
-- SPDX-License-Identifier: BSD-2-Clause

---What is raised when the system refuses: a table with this metatable. tostring gives
---`op 'subject': cause (CODE)` and, on a line of its own, `hint: …`. A caller's mistake is raised as
---text with the caller's line instead.
---```lua
---local bpf = require "moonbee"
---local ok, err = pcall(bpf.open, "/none.bpf.o")
---assert(not ok and err.code == "ENOENT")
---```
---@class moonbee.error
---@field code string errno's name: "EPERM"
---@field errno integer|nil
---@field op string what was tried: "load object"
---@field subject string with what: a path, a name
---@field cause string a sentence
---@field hint string|nil what to do about it
---@field log string|nil libbpf's and the verifier's words, whole
local err = {}

return err
