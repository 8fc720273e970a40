-- SPDX-License-Identifier: BSD-2-Clause
-- object = "@NAME": an object that a C program lends which embeds us (moonbee.h). It is loaded, and
-- the program's: no version opens, loads or closes it, and only what attach names is attached.
local bpf = require "moonbee"
local links = require "moonbee.policy.links"
local maps = require "moonbee.policy.maps"

local lent = {}

-- What says how an object is opened, loaded or kept.
local REFUSED = { "setup", "open", "pin_root", "persist", "on_mismatch", "tests" }

function lent.name(desc)
  return desc.object and desc.object:match "^@(.+)$"
end

local function fail(code, host, cause, hint)
  error(bpf.error { code = code, op = "stage policy", subject = host.name, cause = cause,
    hint = hint }, 0)
end

local function find(host, desc)
  local name = lent.name(desc)
  local obj = (bpf.lent or {})[name]
  if not obj then
    fail("ENOENT", host, ("no object '%s' is lent"):format(name), bpf.lent
      and "the program lends objects by mb_runtime_add_object"
      or "only a program that embeds moonbee lends objects: object = \"FILE.bpf.o\"")
  end
  for _, key in ipairs(REFUSED) do
    if desc[key] ~= nil then
      fail("EINVAL", host, ("'%s' is not for an object that is lent: it is loaded"):format(key))
    end
  end
  if next(host.sets) then fail("EINVAL", host, "--set is not for an object that is lent") end
  return obj
end

-- The programs that attach does not name are the program's business.
local function named_only(obj, attach)
  local all = {}
  for name in pairs(obj.progs) do all[name] = false end
  for name, how in pairs(attach or {}) do all[name] = how end
  return all
end

function lent.stage(host, version, before, attach)
  local obj = find(host, version.desc)
  version.obj, version.lent, version.kept = obj, true, before ~= nil
  version.bytes, version.images, version.definition = "", {}, {}
  version.plan.object = "lent"
  if before and before.obj then maps.kept(version, before) end
  version.wanted = links.wanted(host.name, obj, named_only(obj, attach))
end

return lent
