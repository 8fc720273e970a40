-- SPDX-License-Identifier: BSD-2-Clause
-- The Lua files of a directory that names match, by name: what the pattern captures.
local uv = require "luv"

return function(dir, pattern)
  local found, scan = {}, uv.fs_scandir(dir)
  while scan do
    local name = uv.fs_scandir_next(scan)
    if not name then break end
    found[#found + 1] = name:match(pattern)
  end
  table.sort(found)
  return found
end
