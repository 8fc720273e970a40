-- SPDX-License-Identifier: BSD-2-Clause
-- require "moonbee.metrics": variables, maps and readers under names that Prometheus and its kin
-- read, for scripts. Policies have theirs by policy/metrics.lua.
local bpf = require "moonbee"
local loop = require "moonbee.loop"
local http = require "moonbee.metrics.http"
local keys = require "moonbee.metrics.keys"
local listen = require "moonbee.metrics.listen"
local own = require "moonbee.metrics.own"
local set = require "moonbee.metrics.set"
local source = require "moonbee.metrics.source"
local text = require "moonbee.metrics.text"

local metrics = {}

local script = {}
script.__index = script
script.__name = "moonbee.metrics_set"

-- Readers of scripts: by handle, or by the name of their map.
local function reader_in(readers)
  return function(where, reader)
    if bpf.type(reader) ~= "reader" then
      local names, found = {}, nil
      for i, each in ipairs(readers or {}) do
        names[i] = each.name
        if each.name == reader then found = each end
      end
      reader = found or keys.fail(where, ("there is no reader '%s'"):format(reader),
        "readers = { reader, … }; " .. keys.hint(reader, names), "ENOENT")
    end
    return function() return reader.closed and {} or { reader.stats } end
  end
end

local function is_function(x)
  return type(x) == "function"
end

local function default_warn(message)
  io.stderr:write("moonbee: ", message, "\n")
end

function metrics.new(t)
  keys.set(t, keys.SCRIPT)
  local env = source.env(t.object, t.vars, {
    reader = reader_in(t.readers), read = function(entry) return entry.read() end })
  return setmetatable({ set = set.compile(t, env, is_function, default_warn),
    readers = t.readers or {}, object = t.object }, script)
end

local function render(self, kind, pause)
  local mine = own.script(self.object, self.readers)
  return text.render(self.set:families(pause, "", mine), kind == "openmetrics", pause)
end

function script:text(kind)
  if kind ~= nil and kind ~= "openmetrics" and kind ~= "prometheus" then
    error(('metrics: no format %q\nhint: "openmetrics", "prometheus"'):format(tostring(kind)), 2)
  end
  return render(self, kind)
end

function metrics.serve(address, self)
  if type(address) ~= "string" then
    error("metrics.serve: address expected, got " .. type(address), 2)
  elseif getmetatable(self) ~= script then
    self = metrics.new(self)
  end
  local function pause() loop.sleep(0) end
  local answer = set.answer(set.in_turn(function(kind) return render(self, kind, pause) end))
  return http.serve("/metrics", function(fn) return listen.begin(address, nil, fn) end, answer)
end

return metrics
