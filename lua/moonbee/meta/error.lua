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
---@field verifier? moonbee.rejection of a program that the verifier rejected
---@field log string|nil libbpf's and the verifier's words, whole
local err = {}

---What the verifier said of a program that it rejected, read from the log.
---@class moonbee.rejection
---@field program string
---@field reasons string[] its last words: what it minded
---@field source string|nil the line of C that it was at
---@field file string|nil of that line, where the kernel tells (Linux 6.9)
---@field line integer|nil
---@field insn integer|nil the instruction
---@field processed integer instructions that it walked

return err
