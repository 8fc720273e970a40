-- SPDX-License-Identifier: BSD-2-Clause
-- The map or program that a word on a command line stands for: the path of a pin, an id, or a name
-- that only one has.
local bpf = require "moonbee"

local function fail(code, op, subject, cause, hint)
  error(bpf.error { code = code, op = op, subject = subject, cause = cause, hint = hint }, 0)
end

local function by_name(kind, name, op)
  local ids = {}
  for _, each in ipairs(bpf[kind .. "s"]()) do
    if each.name == name:sub(1, 15) then ids[#ids + 1] = each.id end
  end
  if #ids == 1 then return bpf[kind](ids[1]) end
  if not ids[1] then
    fail("ENOENT", op, name, "no such " .. kind,
      ("moonbee ps lists the %ss of this machine"):format(kind))
  end
  fail("EEXIST", op, name, ("%ss %s have this name"):format(kind, table.concat(ids, ", ")),
    "give the id of one")
end

-- kind: "map" or "program"; op: for errors; options: of bpf.pinned.
return function(kind, text, op, options)
  local id = math.tointeger(tonumber(text))
  if id then return bpf[kind](id) end
  if not text:find "/" then return by_name(kind, text, op) end
  local pinned = bpf.pinned(text, options)
  local found = bpf.type(pinned)
  if found == kind then return pinned end
  pinned:close()
  fail("EINVAL", op, text, ("it is a %s, no %s"):format(found, kind))
end
