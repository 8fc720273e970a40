-- SPDX-License-Identifier: BSD-2-Clause
--
-- busted's output handler: failures in full when they occur, skips with their reason, one line per
-- file, the slowest five, and last `N passed, N failed, N skipped`. Every test counts once, as does
-- everything else that goes wrong (a file that does not load, a failing setup, a leaking file).

local busted = require "busted"

local counts = { passed = 0, failed = 0, skipped = 0 }
local times = {}            -- {name, seconds} of every test
local current               -- the test that runs or ran last, until its after_each are through
local file_start, before_file

local function print_now(...)
  io.stdout:write(string.format(...), "\n")
  io.stdout:flush()
end

local function indent(text)
  return "    " .. text:gsub("\n+$", ""):gsub("\n", "\n    ")
end

local function full_name(element)
  local names = {}
  while element and element.descriptor ~= "file" do
    if element.name then table.insert(names, 1, element.name) end
    element = busted.parent(element)
  end
  return table.concat(names, " ")
end

local function file_of(element)
  while element and element.descriptor ~= "file" do element = busted.parent(element) end
  return element and element.name or "?"
end

local function place_of(element)
  local trace = element.trace
  if trace and trace.short_src then return trace.short_src .. ":" .. trace.currentline end
  return file_of(element)
end

-- busted puts the place of a raise before its message; in spec/support it tells the reader nothing.
local function bare(message)
  local text, found = tostring(message):gsub("^[^\n]-spec/support/%a+%.lua:%d+: ", "")
  return text, found > 0
end

local function settle()                 -- the current test's result is final
  if not current then return end
  counts[current.result] = counts[current.result] + 1
  if current.result == "skipped" then
    print_now("SKIP %s: %s\n    %s", place_of(current.element), full_name(current.element),
      bare(current.reason or "no reason given"))
  end
  current = nil
end

local function failure(element, _, message, trace)
  local what = element.descriptor or "busted"
  local text, from_support = bare(message)
  if what ~= "it" and what ~= "after_each" then settle() end
  if (what == "it" or what == "after_each") and current then
    current.result = "failed"
    element = current.element
    if what == "after_each" then text = "after the test: " .. text end
  else
    counts.failed = counts.failed + 1
  end
  local name = full_name(element)
  if element.descriptor ~= "it" then name = (name .. " (" .. what .. ")"):gsub("^ ", "") end
  print_now("FAIL %s: %s\n%s", place_of(element), name, indent(text))
  local traceback = trace and trace.traceback
  if not from_support and traceback and traceback:find "%S" then
    print_now("%s", indent(traceback:gsub("^%s+", "")))
  end
  return nil, true
end

local function skip(element, _, message)
  if element.descriptor == "it" and current then
    current.reason = message
  else                                  -- a setup or before_each that skips what follows
    settle()
    counts.skipped = counts.skipped + 1
    print_now("SKIP %s: %s (%s)\n    %s", place_of(element), full_name(element),
      element.descriptor or "?", bare(message))
  end
  return nil, true
end

local function test_start(element)
  settle()
  current = { element = element, result = "passed" }
  return nil, true
end

local function test_end(element, _, status)
  if status == "pending" then
    current.result = "skipped"
    -- pending("text") outside a test has its name as the only reason.
    if element.descriptor == "pending" then current.reason = "marked as pending" end
  elseif status ~= "success" then
    current.result = "failed"
  end
  times[#times + 1] = { full_name(element), element.duration or 0, place_of(element) }
  return nil, true
end

local function file_started(file)
  settle()
  file_start = file.starttick or 0
  before_file = { passed = counts.passed, failed = counts.failed, skipped = counts.skipped }
  return nil, true
end

local function file_ended(file)
  settle()
  local function since(what) return counts[what] - before_file[what] end
  print_now("%-44s %4d passed%s%s  %.2f s", file.name, since "passed",
    since "failed" > 0 and (", " .. since "failed" .. " failed") or "",
    since "skipped" > 0 and (", " .. since "skipped" .. " skipped") or "",
    (file.endtick or 0) - file_start)
  return nil, true
end

local function finish()
  settle()
  table.sort(times, function(a, b) return a[2] > b[2] end)
  if times[1] then print_now("slowest:") end
  for i = 1, math.min(5, #times) do
    print_now("  %7.3f s  %s  (%s)", times[i][2], times[i][1], times[i][3])
  end
  print_now("%d passed, %d failed, %d skipped", counts.passed, counts.failed, counts.skipped)
  return nil, true
end

return function()
  local handler = {}
  function handler.subscribe()
    busted.subscribe({ "file", "start" }, file_started)
    -- Last, so that what other subscribers find at a file's end is in its line.
    busted.subscribe({ "file", "end" }, file_ended, { priority = 1000 })
    busted.subscribe({ "test", "start" }, test_start)
    busted.subscribe({ "test", "end" }, test_end)
    busted.subscribe({ "failure" }, failure)
    busted.subscribe({ "error" }, failure)
    busted.subscribe({ "pending" }, skip)
    busted.subscribe({ "exit" }, finish)
  end
  return handler
end
