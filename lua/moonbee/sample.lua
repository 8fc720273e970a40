-- SPDX-License-Identifier: BSD-2-Clause
-- A value that is looked at again and again, on the loop: bpf.watch and kernel.watch.
local core = require "moonbee.core"

local sample = {}

local HINT = "\nhint: a number is a copy that never changes: give a function, " ..
  'bpf.ref(obj.vars, "name"), or a view'

-- A function that gives the value, and what tells whether it is another one.
local function source_of(what, x, level)
  local kind = core.type(x)
  if type(x) == "function" then return x end
  if kind == "ref" then return function() return x:get() end end
  if kind ~= "view" then
    error(("%s: a function, a ref or a view is expected, not a %s%s"):format(what, kind or type(x),
      type(x) == "number" and HINT or ""), level + 1)
  end
  local live = not core.kernel.address(x)
  return function()
    if not live then core.refresh(x) end
    return x, core.bytes(x)
  end
end

local function same(a, b)
  return a == b or a ~= a and b ~= b -- not a number stays what it is
end

-- Call fn(new, old) whenever the value of x has changed since the last look; the first look
-- counts, its
-- old is nil. level: of the caller, who calls this by a tail call. Views are compared by their
-- bytes; old is nil for them, as they are the same view.
function sample.watch(what, x, seconds, fn, level)
  local look = source_of(what, x, level + 1)
  if type(fn) ~= "function" then
    error(("%s: a function is expected, not a %s"):format(what, type(fn)), level + 1)
  end
  local loop = require "moonbee.loop"
  local known, last, value = false, nil, nil
  local function turn()
    local new, bytes = look()
    local key = bytes or new
    if known and same(key, last) then return end
    local old = value
    known, last, value = true, key, not bytes and new or nil
    fn(new, old)
  end
  local made, handle = pcall(loop.every, seconds, turn)
  if not made then error((handle:gsub("^.-:%d+: ", "")), level + 1) end
  loop.spawn(turn)
  return handle
end

-- One line: text from the loop's handlers comes between whole lines.
function sample.print(value)
  print(require "moonbee.format".format(value))
end

return sample
