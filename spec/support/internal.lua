-- SPDX-License-Identifier: BSD-2-Clause
-- What of the core is between it and our own Lua, and so in no reference.
return {
  classes = true, set_format = true, interrupt = true, kernel = true, features = true,
  privileges = true, runtime = true, rundir = true, service = true, handover = true,
}
