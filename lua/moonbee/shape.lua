-- SPDX-License-Identifier: BSD-2-Clause
-- A type object as plain tables, made once: { kind, name, size, signed, elem = shape, fields =
-- { { name, shape }, … }, names = { [value] = enumerator },
-- callable = true }.
local known = setmetatable({}, { __mode = "k" })

local shape

local function make(T)
  local s = { kind = T.kind, name = T.name, size = T.size, signed = T.signed }
  if s.kind == "pointer" then
    s.callable = T.callable
  elseif s.kind == "array" then
    s.elem = shape(T.elem)
  elseif s.kind == "enum" then
    s.names = {}
    for _, e in ipairs(T.enums) do s.names[e.value] = s.names[e.value] or e.name end
  else
    s.fields = {}
    for i, field in ipairs(T.fields) do s.fields[i] = { field.name, shape(field.type) } end
  end
  return s
end

function shape(T)
  local s = known[T]
  if not s then
    s = make(T)
    known[T] = s
  end
  return s
end

return shape
