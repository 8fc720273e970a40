-- SPDX-License-Identifier: BSD-2-Clause
-- The nearest of some words to a misspelt one, for "did you mean".

-- Edits from a to b: insert, delete, replace, swap two neighbours.
local function distance(a, b)
  local d = {}
  for i = 0, #a do d[i] = { [0] = i } end
  for j = 1, #b do d[0][j] = j end
  for i = 1, #a do
    for j = 1, #b do
      local same = a:byte(i) == b:byte(j)
      d[i][j] = math.min(d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (same and 0 or 1))
      if a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        d[i][j] = math.min(d[i][j], d[i - 2][j - 2] + 1)
      end
    end
  end
  return d[#a][#b]
end

return function(word, names)
  local best, least
  for _, name in ipairs(names) do
    local d = distance(word, name)
    if name:sub(1, #word) == word then d = 0 end
    if not least or d < least then best, least = name, d end
  end
  return least and least <= math.max(1, #word // 3) and best or nil
end
