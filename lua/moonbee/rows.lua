-- SPDX-License-Identifier: BSD-2-Clause
-- Lines of cells as text, each column as wide as its widest cell. The first line is the heading.
return function(lines)
  local widths, out = {}, {}
  for _, line in ipairs(lines) do
    for i, x in ipairs(line) do widths[i] = math.max(widths[i] or 0, utf8.len(x) or #x) end
  end
  for n, line in ipairs(lines) do
    local cells = {}
    for i, x in ipairs(line) do
      cells[i] = i == #line and x or x .. (" "):rep(widths[i] - (utf8.len(x) or #x) + 2)
    end
    out[n] = table.concat(cells)
  end
  return table.concat(out, "\n")
end
