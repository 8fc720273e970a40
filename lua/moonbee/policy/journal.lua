-- SPDX-License-Identifier: BSD-2-Clause
-- What was tuned by hand: who, when, what, from what to what; and back again.
local bpf = require "moonbee"
local uv = require "luv"
local plain = require "moonbee.policy.plain"

local KEPT = 1000       -- entries
local MAX_BYTES = 1 << 20
local FILE = "journal"

local journal = {}
journal.__index = journal

-- dir: the run directory, where it is kept across restarts; nil: only in memory.
function journal.new(dir)
  local self = setmetatable({ dir = dir, entries = {}, last = 0 }, journal)
  local text = dir and dir:read(FILE) or ""
  for line in text:gmatch "[^\n]+" do
    local entry = plain.parse(line)
    -- The line at the end may have been cut by a kill.
    if type(entry) == "table" and math.type(entry.n) == "integer" then self:keep(entry) end
  end
  if #text > MAX_BYTES then self:rewrite() end
  return self
end

function journal:keep(entry)
  self.entries[#self.entries + 1] = entry
  self.last = entry.n
  if #self.entries > KEPT then table.remove(self.entries, 1) end
end

function journal:rewrite()
  local lines = {}
  for i, entry in ipairs(self.entries) do lines[i] = plain.dump(entry) .. "\n" end
  self.dir:write(FILE, table.concat(lines))
end

-- entry: { who =, what =, old =, new =, undo = n of the one that it takes back | nil }. Plain data.
function journal:add(entry)
  local sec, usec = uv.gettimeofday()
  local kept = { n = self.last + 1, time = sec + usec / 1e6, who = entry.who, what = entry.what,
    old = entry.old, new = entry.new, undo = entry.undo }
  self:keep(kept)
  if self.dir then self.dir:append(FILE, plain.dump(kept) .. "\n") end
  return kept
end

local function undone(self)
  local gone = {}
  for _, entry in ipairs(self.entries) do
    if entry.undo then gone[entry.undo] = true end
  end
  return gone
end

-- The entry to take back: number n, or the last one that can be and was not. Raises.
function journal:find(n)
  local gone = undone(self)
  for i = #self.entries, 1, -1 do
    local entry = self.entries[i]
    local can = entry.old ~= nil and not entry.undo and not gone[entry.n]
    if n and entry.n == n or not n and can then
      if gone[entry.n] then
        error(bpf.error { code = "EALREADY", op = "undo", subject = tostring(n),
          cause = "it was taken back already" }, 0)
      end
      return entry
    end
  end
  error(bpf.error { code = "ENOENT", op = "undo", subject = tostring(n or "the last change"),
    cause = n and "the journal has no such entry" or "nothing was changed by hand",
    hint = "moonbee ctl NAME journal lists them" }, 0)
end

return journal
