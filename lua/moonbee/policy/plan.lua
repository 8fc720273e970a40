-- SPDX-License-Identifier: BSD-2-Clause
-- What a reload did, or would do, for people and as JSON.
local links = require "moonbee.policy.links"

local plan = {}

local function sorted(t)
  local names = {}
  for name in pairs(t) do names[#names + 1] = name end
  table.sort(names)
  return names
end

-- How often each word: "2 kept, 1 new".
local function tally(list)
  local counts = {}
  for _, word in pairs(list) do counts[word] = (counts[word] or 0) + 1 end
  local words = {}
  for i, word in ipairs(sorted(counts)) do words[i] = ("%d %s"):format(counts[word], word) end
  return table.concat(words, ", ")
end

local function actions(entries)
  local list = {}
  for name, entry in pairs(entries) do list[name] = entry.action end
  return list
end

-- "on_open: 3 events doubled"
local function doubled_text(entry)
  local what = entry.links > 1 and ("%s (%d links)"):format(entry.program, entry.links)
    or entry.program
  if entry.why then return ("%s: doubled events not counted: %s"):format(what, entry.why) end
  if not entry.events then
    return ("%s: %d to %d events doubled"):format(what, entry.least, entry.most)
  end
  return ("%s: %d event%s doubled"):format(what, entry.events, entry.events == 1 and "" or "s")
end

-- In one line, for the log.
function plan.line(p)
  local parts = { ("%s: object %s"):format(p.kind, p.object) .. (p.why and p.kind ~= "start"
    and (" (%s)"):format(p.why) or "") }
  local maps, link = tally(actions(p.maps)), tally(actions(p.links or {}))
  if maps ~= "" then parts[#parts + 1] = "maps " .. maps end
  if link ~= "" then parts[#parts + 1] = "links " .. link end
  for _, entry in ipairs(p.doubled or {}) do parts[#parts + 1] = doubled_text(entry) end
  for _, var in ipairs(sorted(p.vars)) do
    parts[#parts + 1] = ("%s: %s"):format(var, p.vars[var])
  end
  if p.no_state then parts[#parts + 1] = "without the state of the version before" end
  for _, problem in ipairs(p.problems or {}) do parts[#parts + 1] = "not done: " .. problem end
  local time = p.swap_us and (" in %.0f us, staged in %.1f ms"):format(p.swap_us, p.stage_ms) or ""
  return table.concat(parts, "; ") .. time
end

local OBJECT = { __jsontype = "object" } -- also when it is empty

-- As plain data for JSON.
function plan.data(p)
  for _, what in ipairs { "maps", "sections", "vars" } do setmetatable(p[what], OBJECT) end
  return { kind = p.kind, n = p.n, object = p.object, why = p.why, maps = p.maps,
    sections = p.sections, vars = p.vars, links = p.links, doubled = p.doubled,
    stored = p.stored, tests = p.tests, uses = p.uses, metrics = p.metrics,
    problems = p.problems, reason = p.reason, no_state = p.no_state, dropped = p.dropped,
    stage_ms = p.stage_ms, swap_us = p.swap_us, links_us = p.links_us }
end

-- What would become of the links, for a dry run: the words of links.lua's report.
function plan.wanted(version, before)
  local list = {}
  local followed = links.pair(before and before.slots or {}, version.wanted)
  for i, slot in ipairs(version.wanted) do
    local old = followed[slot]
    list[i] = { link = slot.title, action = not old and "attach"
      or version.kept and old.key == slot.key and "keep"
      or links.overlaps(old) and "overlap" or "update" }
  end
  return list
end

local function add_entries(lines, title, entries)
  for _, name in ipairs(sorted(entries)) do
    local e = entries[name]
    local more = {}
    if e.entries then more[#more + 1] = ("%d entries"):format(e.entries) end
    if e.why then more[#more + 1] = tostring(e.why) end
    lines[#lines + 1] = ("%-8s %-16s %s%s"):format(title, name, e.action,
      more[1] and (" (%s)"):format(table.concat(more, ", ")) or "")
  end
end

local function uses_text(uses)
  local words = {}
  for _, kind in ipairs(sorted(uses or {})) do
    local x = uses[kind]
    words[#words + 1] = type(x) == "table" and ("%s %s"):format(kind, table.concat(x, ", ")) or kind
  end
  return #words > 0 and table.concat(words, "; ") or "nothing beyond its object"
end

local LINK = { overlap = "overlap: events that come meanwhile are doubled" }

local function metrics_text(m)
  if not m or m.entries == 0 and #m.listen == 0 then return nil end
  return ("%-8s %d%s"):format("metrics", m.entries,
    m.listen[1] and ", at " .. table.concat(m.listen, ", ") or "")
end

-- In full, for people.
function plan.text(p)
  local why = p.why and (" (%s)"):format(p.why) or ""
  local lines = { ("%-8s %s%s"):format("object", p.object, why) }
  add_entries(lines, "map", p.maps)
  add_entries(lines, "section", p.sections)
  for _, var in ipairs(sorted(p.vars)) do
    lines[#lines + 1] = ("%-8s %-16s %s"):format("variable", var, p.vars[var])
  end
  for _, link in ipairs(p.links or {}) do
    lines[#lines + 1] = ("%-8s %s: %s%s"):format("link", link.link, LINK[link.action] or
      link.action, link.us and (" in %.1f us"):format(link.us) or "")
  end
  for _, entry in ipairs(p.doubled or {}) do
    lines[#lines + 1] = ("%-8s %s"):format("doubled", doubled_text(entry))
  end
  if p.tests then lines[#lines + 1] = ("%-8s %d passed"):format("tests", p.tests) end
  lines[#lines + 1] = ("%-8s %s"):format("uses", uses_text(p.uses))
  lines[#lines + 1] = metrics_text(p.metrics)
  if p.no_state then lines[#lines + 1] = "state    that of the version before was left out" end
  for _, problem in ipairs(p.problems or {}) do lines[#lines + 1] = "problem  " .. problem end
  if p.swap_us then
    lines[#lines + 1] = ("%-8s %.0f us, of it links %.0f us; staged in %.1f ms"):format("swap",
      p.swap_us, p.links_us, p.stage_ms)
  end
  return table.concat(lines, "\n")
end

return plan
