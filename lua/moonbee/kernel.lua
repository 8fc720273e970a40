-- SPDX-License-Identifier: BSD-2-Clause
-- require "moonbee.kernel": the kernel at hand. Symbols, configuration, types and memory; most
-- of it is
-- the core's, here is what reads better in Lua.
local bpf = require "moonbee"
local core = bpf.kernel

local kernel = {
  ksym = core.ksym, ksyms = core.ksyms, symbolize = core.symbolize, externs = core.externs,
  read = core.read, read_many = core.read_many, percpu = core.percpu, string = core.string,
  deref = core.deref, cast = core.cast, container_of = core.container_of, address = core.address,
  list = core.list, tasks = core.tasks, current = core.current,
  release = core.release,
}

local function frozen(what)
  return function() error(what .. " cannot be changed", 2) end
end

-- kernel.config.HZ
kernel.config = setmetatable({}, {
  __index = function(_, name)
    if type(name) ~= "string" then error("kernel.config has options by name", 2) end
    return core.config(name)
  end,
  __newindex = frozen "kernel.config",
  __pairs = function()
    local n = -1
    return function()
      n = n + 1
      return core.config_nth(n)
    end
  end,
  __tostring = function() return "kernel configuration " .. core.config_path() end,
})

-- kernel.types["struct sock"]
kernel.types = setmetatable({}, {
  __index = function(_, name)
    if type(name) ~= "string" then error("kernel.types has types by name", 2) end
    return core.type(name)
  end,
  __newindex = frozen "kernel.types",
  __pairs = function() return pairs(core.types()) end,
})

-- kernel.watch(fn, seconds [, sink]): what fn returns goes to sink (print) whenever it has changed.
function kernel.watch(fn, seconds, sink)
  local sample = require "moonbee.sample"
  return sample.watch("kernel.watch", fn, seconds, sink or sample.print, 1)
end

-- What this kernel can do is asked for when it is first needed.
setmetatable(kernel, {
  __index = function(_, name)
    if name ~= "features" then return nil end
    local features = require "moonbee.feature"
    rawset(kernel, name, features)
    return features
  end,
})

return kernel
