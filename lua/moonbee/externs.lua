-- SPDX-License-Identifier: BSD-2-Clause
-- What an object wants from a kernel, for people and for JSON: the rows of kernel.externs, and each
-- one's fate in words.
local kernel = require "moonbee.kernel"

local externs = {}

local ORDER = {
  "name", "kind", "type", "typed", "weak", "fate", "predicted", "kernel_type", "module", "address",
  "value", "why", "differs",
}
local DIFFERENCE = { "field", "declared", "kernel" }

local function row(order, from)
  local out = setmetatable({}, { __jsonorder = order })
  for _, name in ipairs(order) do out[name] = from[name] end
  return out
end

-- The rows, addresses as text (numbers of JSON do not reach that far). btf: another kernel's, a
-- file.
function externs.rows(obj, btf)
  local list = setmetatable({}, { __jsontype = "array" })
  for i, e in ipairs(kernel.externs(obj, btf and { btf = btf } or nil)) do
    local out = row(ORDER, e)
    out.address = e.address and ("0x%x"):format(e.address) or nil
    if e.differs then
      out.differs = setmetatable({}, { __jsontype = "array" })
      for k, d in ipairs(e.differs) do out.differs[k] = row(DIFFERENCE, d) end
    end
    list[i] = out
  end
  return list
end

local function found(e)
  if e.value ~= nil then return tostring(e.value) end
  return e.address or "resolved"
end

local function difference(d)
  local name = d.field and d.field .. ": " or ""
  if not d.kernel then return name .. "not in the kernel's" end
  return ("%s%s, in the kernel %s"):format(name, d.declared, d.kernel)
end

-- "0xffffffff81a3b2c0 of nf_conntrack", "missing: …", "250".
function externs.fate(e)
  local text
  if e.fate == "resolved" then
    text = found(e) .. (e.module and " of " .. e.module or "")
  else
    text = ("%s%s%s"):format(e.fate, e.weak and e.fate == "missing" and " (weak, 0)" or "",
      e.why and ": " .. e.why or "")
  end
  if e.differs and e.fate ~= "clash" then
    local parts = {}
    for i, d in ipairs(e.differs) do parts[i] = difference(d) end
    text = text .. "; " .. table.concat(parts, "; ")
  end
  return text
end

return externs
