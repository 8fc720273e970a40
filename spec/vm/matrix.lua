-- SPDX-License-Identifier: BSD-2-Clause
--
-- What is left for other kernels, from what support/results.lua put down in DIRECTORY, a file for
-- each kernel ("host": this machine's own).
--
--   matrix.lua stale DIRECTORY SPEC…     the files that the host has not run as they are now
--   matrix.lua left DIRECTORY SPEC…      how many the host skipped; DIRECTORY/left lists them
--   matrix.lua files LIST                the files of such a list
--   matrix.lua report DIRECTORY "KERNEL…" SPEC…  the tests of these files that no kernel ran; exit
--                                        code 1: there are any, and all of the kernels have run

package.path = "./lua/?.lua;./spec/?.lua;" .. package.path
package.preload.busted = function() return {} end
local lfs = require "lfs"
local results = require "support.results"

local commands = {}

local function set_of(list)
  local set = {}
  for _, one in ipairs(list) do set[one] = true end
  return set
end

function commands.stale(dir, ...)
  local known = {}
  for _, r in ipairs(results.read(dir .. "/host")) do
    if r.changed == results.changed(r.file) then known[r.file] = true end
  end
  for _, spec in ipairs { ... } do
    if not known[spec] then print(spec) end
  end
end

function commands.left(dir, ...)
  local specs, left = set_of { ... }, {}
  for _, r in ipairs(results.read(dir .. "/host")) do
    if r.status == "skipped" and specs[r.file] then left[#left + 1] = r end
  end
  results.write(dir .. "/left", left)
  print(#left)
end

function commands.files(list)
  local seen = {}
  for _, r in ipairs(results.read(list)) do
    if not seen[r.file] then print(r.file) end
    seen[r.file] = true
  end
end

function commands.report(dir, names, ...)
  local kernels, specs, missing, ran = { "host" }, set_of { ... }, {}, {}
  for name in names:gmatch "%S+" do kernels[#kernels + 1] = name end
  for _, kernel in ipairs(kernels) do
    if not lfs.attributes(dir .. "/" .. kernel) then missing[#missing + 1] = kernel end
  end
  for kernel in lfs.dir(dir) do
    local one = kernel == "host" or kernel:find "^%d[%d.]*$"
    for _, r in ipairs(one and results.read(dir .. "/" .. kernel) or {}) do
      if r.status == "ran" then ran[results.key(r)] = true end
    end
  end
  local none = {}
  for _, r in ipairs(results.read(dir .. "/host")) do
    if specs[r.file] and not ran[results.key(r)] then none[#none + 1] = r end
  end
  if #none == 0 then
    print "every spec ran on some kernel"
  else
    print(#none .. " specs that no kernel ran:")
    for _, r in ipairs(none) do print(("  %-36s %s"):format(r.file, r.name)) end
  end
  if #missing > 0 then print("not run here yet: " .. table.concat(missing, ", ")) end
  os.exit(#none == 0 or #missing > 0)
end

local command = commands[arg[1]] or error "matrix.lua stale|left|files|report"
command(table.unpack(arg, 2))
