-- SPDX-License-Identifier: BSD-2-Clause
-- The series of one scrape: values by their labels. What comes for the same labels is added up;
-- what is more than the budget is left out, and counted.
local keys = require "moonbee.metrics.keys"
local number = require "moonbee.metrics.number"
local text = require "moonbee.metrics.text"

local series = {}
series.__index = series

local MOST_REMEMBERED = 10000

-- budget: { left = series that may still be made, cut = that were not }. fixed: labels' text.
function series.new(budget, fixed)
  return setmetatable({ budget = budget, fixed = fixed or "", by_labels = {}, list = {},
    refused = {} }, series)
end

-- Labels as text: names and values are lists of the same length.
function series:labels(names, values)
  local out = self.fixed
  for i = 1, #names do
    out = out .. (out ~= "" and "," or "") .. text.label(names[i], values[i])
  end
  return out
end

-- Counted once, as far as we remember.
local function cut(self, labels)
  if self.refused[labels] then return nil end
  local budget = self.budget
  budget.cut = budget.cut + 1
  if budget.cut < MOST_REMEMBERED then self.refused[labels] = true end
end

-- The series of these labels; nil where there is no room for it. cost: lines that it takes.
function series:at(labels, cost)
  local one = self.by_labels[labels]
  if one then return one end
  local budget = self.budget
  if budget.left < cost then return cut(self, labels) end
  budget.left = budget.left - cost
  one = { labels = labels }
  self.by_labels[labels] = one
  self.list[#self.list + 1] = one
  return one
end

-- Add x; unsigned: its bits are.
function series:add(labels, x, unsigned)
  local one = self:at(labels, 1)
  if not one then return end
  one.x = one.x and one.x + x or x
  one.unsigned = unsigned
end

-- The list with values as text. what: name, type, scale.
function series:finish(what)
  local list = self.list
  for _, one in ipairs(list) do
    if what.type == "counter" and (number.negative(one.x, one.unsigned) or one.x ~= one.x) then
      keys.fail(what.name, ("a counter cannot be %s"):format(number.text(one.x)),
        'type = "gauge"')
    end
    one.value = number.text(one.x, one.unsigned, what.scale)
  end
  return list
end

-- ---- histograms ---------------------------------------------------------------------------------

-- Add x to the bucket of a number, in a histogram with n buckets; what is beyond is the last's.
function series:count(labels, slot, n, x)
  local one = self:at(labels, n + 2)
  if not one then return end
  one.slots = one.slots or {}
  slot = math.max(0, math.min(slot, n - 1))
  one.slots[slot] = (one.slots[slot] or 0) + x
end

-- And to what adds up its values.
function series:total(labels, x, unsigned)
  local one = self.by_labels[labels]
  if not one then return end
  one.x, one.unsigned = one.x and one.x + x or x, unsigned
end

-- The list, cumulative. bounds: of all buckets; the last is infinite.
function series:cumulate(what, bounds)
  for _, one in ipairs(self.list) do
    local sum = 0
    one.buckets = {}
    for i, bound in ipairs(bounds) do
      sum = sum + (one.slots[i - 1] or 0)
      one.buckets[i] = { bound, number.text(sum, true) }
    end
    if one.x then
      if number.negative(one.x, one.unsigned) then
        keys.fail(what.name, "the sum of a histogram's values cannot be negative")
      end
      one.sum = number.text(one.x, one.unsigned, what.scale)
    end
  end
  return self.list
end

return series
