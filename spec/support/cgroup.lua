-- SPDX-License-Identifier: BSD-2-Clause
--
-- A cgroup of our own, of version 2, wherever that is mounted; gone with <close>.
--
--   local cgroup = require "support.cgroup"
--   local group <close> = cgroup.new()         -- nil where there is no cgroup2
--   group.path

local uv = require "luv"

local cgroup = {}

function cgroup.root()
  for line in io.lines "/proc/mounts" do
    local at = line:match "^%S+ (%S+) cgroup2 "
    if at then return at end
  end
end

function cgroup.new()
  local root = cgroup.root()
  if not root then return end
  local path = ("%s/mbspec-%d"):format(root, uv.os_getpid())
  assert(uv.fs_mkdir(path, 448))
  return setmetatable({ path = path }, { __close = function() assert(uv.fs_rmdir(path)) end })
end

return cgroup
