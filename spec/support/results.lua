-- SPDX-License-Identifier: BSD-2-Clause
--
-- Which test ran on which kernel. With MB_RESULTS=FILE every test's result is put down there,
-- beside those of earlier runs; with MB_ONLY=FILE only the tests that it lists run. A line of these
-- is STATUS, the spec's time of change, its path and the test's full name, with tabs in between; a
-- status is "ran" or "skipped". spec/vm/matrix.lua reads them.

local busted = require "busted"
local lfs = require "lfs"

local results = {}

-- The describes' names and the test's own, as out.lua prints them; the file it is in.
local function place_of(element)
  local names = {}
  while element and element.descriptor ~= "file" do
    if element.name then table.insert(names, 1, element.name) end
    element = busted.parent(element)
  end
  return element and element.name:gsub("^%./", "") or "?", table.concat(names, " ")
end

function results.read(path)
  local list, file = {}, io.open(path)
  if not file then return list end
  for line in file:lines() do
    local status, changed, spec, name = line:match "^(%l+)\t(%d+)\t([^\t]+)\t(.*)$"
    if status then
      list[#list + 1] = { status = status, changed = tonumber(changed), file = spec, name = name }
    end
  end
  file:close()
  return list
end

function results.write(path, list)
  local file <close> = assert(io.open(path .. ".new", "w"))
  for _, r in ipairs(list) do
    file:write(r.status, "\t", r.changed, "\t", r.file, "\t", r.name, "\n")
  end
  assert(os.rename(path .. ".new", path))
end

function results.changed(spec) return lfs.attributes(spec, "modification") or 0 end

function results.key(r) return r.file .. "\t" .. r.name end

-- What is new, and of the old what is of the same text: what it ran once (perhaps with another
-- libbpf), it runs.
local function merge(old, new)
  local at, merged = {}, {}
  for _, list in ipairs { old, new } do
    for _, r in ipairs(list) do
      local key, current = results.key(r), r.changed == results.changed(r.file)
      if current and not at[key] then
        at[key] = #merged + 1
        merged[#merged + 1] = r
      elseif current and r.status == "ran" then
        merged[at[key]] = r
      end
    end
  end
  return merged
end

local function record(path)
  local new = {}
  busted.subscribe({ "test", "end" }, function(element, _, status)
    local file, name = place_of(element)
    new[#new + 1] = { status = status == "pending" and "skipped" or "ran",
      changed = results.changed(file), file = file, name = name }
    return nil, true
  end)
  busted.subscribe({ "exit" }, function()
    results.write(path, merge(results.read(path), new))
    return nil, true
  end)
end

local function only(path)
  local listed, block = {}, nil
  for _, r in ipairs(results.read(path)) do listed[results.key(r)] = true end
  -- What is in a block is registered right after its start.
  local function started(element)
    block = element
    return nil, true
  end
  busted.subscribe({ "file", "start" }, started)
  busted.subscribe({ "describe", "start" }, started)
  busted.subscribe({ "register", "it" }, function(name)
    local file, outer = place_of(block)
    local full = outer == "" and name or outer .. " " .. name
    return nil, listed[file .. "\t" .. full] == true
  end, { priority = 1 })
end

-- From helper.lua, as the variables say.
function results.install()
  local into, these = os.getenv "MB_RESULTS", os.getenv "MB_ONLY"
  if into then record(into) end
  if these then only(these) end
end

return results
