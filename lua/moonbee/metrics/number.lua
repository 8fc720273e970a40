-- SPDX-License-Identifier: BSD-2-Clause
-- Numbers as the text formats of metrics write them. Integers of 64 bits keep every digit, also in
-- another unit: 1e-9 of a number of nanoseconds is its digits with a point among them.
local format = require "moonbee.format"

local number = {}

-- How many digits come behind the point: 1e-9 -> 9.
local PLACES = {}
for places = 1, 18 do PLACES[tonumber(("1e-%d"):format(places))] = places end

local function point(digits, places)
  local sign, rest = digits:match "^(%-?)(%d+)$"
  rest = ("0"):rep(places + 1 - #rest) .. rest
  local whole, part = rest:sub(1, -places - 1), rest:sub(-places):gsub("0+$", "")
  return sign .. whole .. (part ~= "" and "." .. part or "")
end

-- An integer's value as a float; its bits are unsigned.
local function unsigned_float(x)
  return x >= 0 and x + 0.0 or (x >> 1) * 2.0 + (x & 1)
end

local function float(x)
  if x ~= x then return "NaN" end
  if x == math.huge then return "+Inf" end
  if x == -math.huge then return "-Inf" end
  return (format.float(x):gsub("%.0$", ""))
end

-- x times scale; of 1e-6 and the like the nearest float to the decimal number.
function number.scaled(x, scale)
  local places = PLACES[scale]
  return places and x / 10.0 ^ places or x * scale
end

-- x: an integer (its bits unsigned, where that is so) or a float; scale: what it is multiplied by.
function number.text(x, unsigned, scale)
  if math.type(x) == "float" then return float(scale and number.scaled(x, scale) or x) end
  local digits = unsigned and format.unsigned(x) or ("%d"):format(x)
  if not scale or scale == 1 then return digits end
  if PLACES[scale] then return point(digits, PLACES[scale]) end
  local factor = math.tointeger(scale)
  if factor and x >= 0 and x <= math.maxinteger // factor then return ("%d"):format(x * factor) end
  return float(number.scaled(unsigned and unsigned_float(x) or x + 0.0, scale))
end

-- Is a below 0? (An unsigned one never is.)
function number.negative(x, unsigned)
  return x < 0 and not (unsigned and math.type(x) == "integer")
end

-- A bound of a bucket, as Go writes it: 0.5, 1.0, 1.048575e+06. Not open: "+Inf".
function number.bound(x)
  if x == math.huge then return "+Inf" end
  local mantissa, exponent
  for digits = 0, 16 do
    local text = ("%%.%de"):format(digits):format(x)
    if digits == 16 or tonumber(text) == x then
      mantissa, exponent = text:match "^(.-)e(.*)$"
      break
    end
  end
  exponent = math.tointeger(tonumber(exponent))
  if exponent >= -4 and exponent < 6 then
    local text = ("%.17g"):format(x)
    for digits = 1, 17 do
      text = ("%%.%dg"):format(digits):format(x)
      if tonumber(text) == x and not text:find "e" then break end
    end
    return text:find "%." and text or text .. ".0"
  end
  return ("%se%s%02d"):format(mantissa, exponent < 0 and "-" or "+", math.abs(exponent))
end

return number
