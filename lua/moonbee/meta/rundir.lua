---@meta
-- SPDX-License-Identifier: BSD-2-Clause

---The directory of a running policy, locked by its process: what `moonbee policy` keeps there, and
---its control socket. Internal: for moonbee's own modules.
---@class moonbee.rundir
---@field name string of the policy
---@field path string
---@field closed boolean
local rundir = {}

---Replace a file as a whole.
---@param file string name without directory
---@param bytes string
function rundir:write(file, bytes) end

---@param file string
---@param bytes string
function rundir:append(file, bytes) end

---@param file string
---@return string|nil bytes
function rundir:read(file) end

---Also when there is none.
---@param file string
function rundir:remove(file) end

---Listen on a socket in it, the control socket unless named; a stale one goes first.
---@param file? string
---@return integer fd
function rundir:listen(file) end

---Give the lock back.
function rundir:close() end

return rundir
