-- SPDX-License-Identifier: BSD-2-Clause
-- The last good version in the run directory: what a start falls back on, and what a restart of a
-- persistent policy goes on with.
local plain = require "moonbee.policy.plain"

local FILE = "good"
local FORMAT = "<s8s8" -- the rest, then the object's bytes

local store = {}

-- Which types are read from which rings, by name.
local function ring_types(version)
  local rings = {}
  for map, types in pairs(version.types or {}) do
    rings[map] = {}
    for name in pairs(types) do table.insert(rings[map], name) end
  end
  return rings
end

-- One file, replaced as a whole: a kill leaves the one before, or this one.
function store.write(host, version, state)
  local record = version.source:record()
  local object = record.object or ""
  record.object = nil
  local kept = { record = record, state = state, label = version.desc.version,
    images = version.images, rings = ring_types(version), has_object = version.bytes ~= nil,
    swaps = host.swaps }
  host.dir:write(FILE, FORMAT:pack(plain.dump(kept), object))
end

-- The last good version, or nil.
function store.read(host)
  local bytes = host.dir:read(FILE)
  if not bytes then return nil end
  local ok, text, object = pcall(string.unpack, FORMAT, bytes)
  local kept = ok and plain.parse(text)
  if type(kept) ~= "table" or type(kept.record) ~= "table" then return nil end
  if kept.has_object then kept.record.object = object end
  return kept
end

function store.forget(host)
  host.dir:remove(FILE)
end

return store
