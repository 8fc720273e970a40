-- SPDX-License-Identifier: BSD-2-Clause
-- What this kernel can do: kernel.features.
--
--   features.tcx                     "yes" | "no" | "unknown"
--   features.map_type.arena          of a list: prog_type, map_type, attach_type, link_type,
--                                    helper, kfunc
--   features.list { probe = true }   all, each with where that is known from, and why not
--
-- The kernel's BTF is asked once, when the first name is asked for.
local core = require "moonbee.core"

local features = {}

local LISTS = {
  prog_type = true, map_type = true, attach_type = true, link_type = true, helper = true,
  kfunc = true,
}

-- list name -> name -> state
local known

local function load()
  if known then return known end
  known = { feature = {} }
  for name in pairs(LISTS) do known[name] = {} end
  for _, f in ipairs(core.features(false)) do known[f.group][f.name] = f.state end
  return known
end

function features.list(opts)
  if opts ~= nil and type(opts) ~= "table" then
    error("features.list: table of options expected, got " .. type(opts), 2)
  end
  for name, value in pairs(opts or {}) do
    if name ~= "probe" or type(value) ~= "boolean" then
      error("features.list: only option 'probe', true or false", 2)
    end
  end
  return core.features(opts ~= nil and opts.probe == true)
end

return setmetatable(features, {
  __index = function(_, name)
    return LISTS[name] and load()[name] or load().feature[name]
  end,
  __pairs = function() return pairs(load().feature) end,
})
