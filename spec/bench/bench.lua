-- SPDX-License-Identifier: BSD-2-Clause
--
-- make bench: the same work in C, Go, Rust, Python and moonbee. In each round every peer does every
-- group of rows, one after another; a ratio is the median of the rounds' ratios, so that a busy
-- moment of the machine spoils one round for all and not one peer.
--
--   ROWS=globals,ring ROUNDS=3 build/moonbee run spec/bench/bench.lua
--
-- Prints one table, and writes build/bench.json and the README's table, build/bench.md. A peer that
-- is not built is named as missing.

package.path = "spec/?.lua;" .. package.path
local bpf = require "moonbee"
local run = require "support.run"
local uv = require "luv"

local build = os.getenv "MB_BUILD" or "build"
local object = build .. "/bench/bench.bpf.o"
local rounds = math.tointeger(os.getenv "ROUNDS" or 7) or 7
local STARTS <const> = 15               -- of which the best counts, in each round

-- Groups: what one process of a peer measures. Names are those of ROWS, or begin with them.
local groups = { "globals", "maps", "iter100k", "iter1m", "array", "ring", "start" }

-- moonbee's rows: { row, what it says in the table, the peers' row, limits… }. A limit is
-- { peer, at most } of moonbee's time over the peer's, or { peer, least = n }: how many times
-- slower (bigger) the peer is. Peers' rows by peer where they differ.
local rows = {
  { "globals.read", "v.x", "globals.read", { "go", 1.3 }, { "bcc", least = 10 } },
  { "globals.write", "v.x = n", "globals.write", { "go", 1.3 }, { "bcc", least = 10 } },
  { "globals.ref_get", "ref:get()", "globals.read", { "go", 0.7 } },
  { "globals.ref_set", "ref:set(n)", "globals.write", { "go", 0.7 } },
  { "globals.nested", "v.limits[3].rate", "globals.nested", { "go", 2 }, { "bcc", least = 10 } },
  { "globals.nested_ref", "ref with a path", "globals.nested", { "go", 0.4 } },
  { "maps.get", "m:get(k).bytes", "maps.get", { "go", 0.9 } },
  { "maps.set", "m:set(k, view)", "maps.set", { "go", 0.8 } },
  { "maps.set_table", "m:set(k, { bytes = n })", { "maps.set", go = "maps.set.value" } },
  { "maps.delete", "m:delete(k)", "maps.delete", { "go", 0.85 } },
  { "iter.100k.view", "100k: pairs(m), one field", "iter.100k.batch" },
  { "iter.100k.columns", "100k: m:pairs(field)", "iter.100k.batch" },
  { "iter.100k.sum", "100k: m:sum(field)", "iter.100k.batch" },
  { "iter.1m.view", "1M: pairs(m), one field", "iter.1m.batch", { "c", 1.4 },
    { "self", 1.3, row = "iter.100k.view" } },
  { "iter.1m.columns", "1M: m:pairs(field)", "iter.1m.batch", { "c", 1.25 },
    { "self", 1.3, row = "iter.100k.columns" } },
  { "iter.1m.sum", "1M: m:sum(field)", "iter.1m.batch", { "c", 1.1 },
    { "self", 1.3, row = "iter.100k.sum" } },
  { "array.sum", "bpf.sum(m:mmap()), 1M", "array.sum", { "c", 1.1 }, { "bcc", least = 10 } },
  { "ring.columns1", "r:drain(1 column)", "ring.fields1", { "go", 2 } },
  { "ring.columns5", "r:drain(5 columns)", "ring.fields5", { "go", 4.5 } },
  { "ring.view1", "r:drain(), one field", { "ring.fields1", go = "ring.decode" }, { "go", 0.5 },
    { "bcc", least = 20 } },
  { "ring.sum", "r:sum(field)", "ring.fields1", { "c", 1.1 } },
  { "start.attached", "start to attached", "start.attached", { "c", 1.1 }, { "go", 0.35 },
    { "bcc", least = 10 } },
  { "start.rss", "peak resident memory", "start.rss", { "c", 1.15 }, { "bcc", least = 8 } },
}

-- ---- peers --------------------------------------------------------------------------------------

local titles = { c = "C libbpf", go = "cilium/ebpf", rust = "libbpf-rs", bcc = "bcc",
  moonbee = "moonbee", self = "100k" }
local notes = {}

local function note(format, ...)
  notes[#notes + 1] = string.format(format, ...)
end

-- The Python that has bcc: Debian's, which need not be the first in PATH.
local function find_python()
  for _, python in ipairs { "python3", "/usr/bin/python3" } do
    local ok, r = pcall(run, { python, "-c", "import bcc" })
    if ok and r.rc == 0 then return python end
  end
end

local function find_peers()
  local moonbee = { build .. "/moonbee", "run" }
  local peers = { { name = "moonbee", argv = moonbee, scripts = true } }
  for _, name in ipairs { "c", "go", "rust" } do
    local path = build .. "/bench/" .. name
    if uv.fs_access(path, "X") then
      peers[#peers + 1] = { name = name, argv = { path } }
    else
      note("%s is missing: its tool chain is not installed, or it did not build", titles[name])
    end
  end
  local python = find_python()
  if python then
    peers[#peers + 1] = { name = "bcc", argv = { python, "spec/bench/bcc/bench.py" }, slow = true }
  else
    note "bcc is missing: no python3 has it (Debian: python3-bpfcc and linux-headers-amd64)"
  end
  return peers
end

-- ---- measuring ----------------------------------------------------------------------------------

-- One process; its figures by row. start.attached becomes a span: both read the same clock.
local function measure(peer, group)
  local argv = table.move(peer.argv, 1, #peer.argv, 1, {})
  if peer.scripts then
    argv[#argv + 1] = group == "start" and "spec/bench/start.lua" or "spec/bench/rows.lua"
  end
  argv[#argv + 1], argv[#argv + 2] = object, group
  local figures, began = {}, uv.hrtime()
  local ok, r = pcall(run, argv, { timeout = 120 })
  if not ok or r.rc ~= 0 then
    local why = ok and (r.err:match "([^\n]*)\n*$" or "") or tostring(r)
    return nil, why ~= "" and why or "exit code " .. r.rc
  end
  for row, unit, value in r.out:gmatch '{"row": "([^"]+)", "([%w_]+)": ([%d.]+)}' do
    value = assert(tonumber(value))
    figures[row] = unit == "at_ns" and value - began or value
  end
  return figures
end

-- One turn: every peer does one group. figures[peer][row]: the best of this round.
local function turn(peers, group, first, figures, failed)
  for i = 0, #peers - 1 do
    local peer = peers[(first + i) % #peers + 1]
    local key = peer.name .. " " .. group
    if not failed[key] then
      local found, why = measure(peer, group)
      local best = figures[peer.name]
      for row, value in pairs(found or {}) do best[row] = math.min(value, best[row] or value) end
      if why then
        failed[key] = true
        note("%s failed in %s: %s", titles[peer.name], group, why)
      end
    end
  end
end

-- Results: results[peer][row] = { a figure for each round }.
local function run_rounds(peers, wanted)
  local results, failed, quick = {}, {}, {}
  for _, peer in ipairs(peers) do
    results[peer.name] = setmetatable({}, { __index = function(t, row)
      t[row] = {}
      return t[row]
    end })
    if not peer.slow then quick[#quick + 1] = peer end
  end
  for round = 1, rounds do
    local figures = {}
    for _, peer in ipairs(peers) do figures[peer.name] = {} end
    for _, group in ipairs(wanted) do
      turn(peers, group, round, figures, failed)       -- each is first in some round
      for again = 2, group == "start" and STARTS or 1 do
        turn(quick, group, round + again, figures, failed)
      end
    end
    for name, best in pairs(figures) do
      for row, value in pairs(best) do results[name][row][round] = value end
    end
    io.stderr:write(string.format("bench: round %d of %d\n", round, rounds))
  end
  for _, result in pairs(results) do setmetatable(result, nil) end
  return results, failed
end

-- ---- figures ------------------------------------------------------------------------------------

local function median(list)
  local sorted = {}
  for _, x in pairs(list or {}) do sorted[#sorted + 1] = x end
  if #sorted == 0 then return end
  table.sort(sorted)
  local mid = #sorted // 2
  return #sorted % 2 == 1 and sorted[mid + 1] or (sorted[mid] + sorted[mid + 1]) / 2
end

-- The median of the rounds' ratios a/b.
local function ratio(a, b)
  local all = {}
  for round, x in pairs(a or {}) do
    if b and b[round] and b[round] > 0 then all[#all + 1] = x / b[round] end
  end
  return median(all)
end

local function peer_row(row, peer)
  local theirs = row[3]
  return type(theirs) == "string" and theirs or theirs[peer] or theirs[1]
end

local function check_limit(row, limit, results)
  local ours = results.moonbee[row[1]]
  local theirs
  if limit[1] == "self" then
    theirs = results.moonbee[limit.row]
  else
    theirs = results[limit[1]] and results[limit[1]][peer_row(row, limit[1])]
  end
  local found = limit.least and ratio(theirs, ours) or not limit.least and ratio(ours, theirs)
  if not found then return end
  local ok = limit.least and found >= limit.least or not limit.least and found <= limit[2]
  return { row = row[1], against = titles[limit[1]], ratio = found, at_most = limit[2],
    at_least = limit.least, verdict = ok and "ok" or "short" }
end

local function limits_of(results)
  local list = {}
  for _, row in ipairs(rows) do
    for i = 4, #row do list[#list + 1] = check_limit(row, row[i], results) end
  end
  local garbage = median(results.moonbee["globals.nested.garbage"])
  if garbage then
    list[#list + 1] = { row = "globals.nested", against = "garbage, bytes", ratio = garbage,
      at_most = 0, verdict = garbage == 0 and "ok" or "short" }
  end
  return list
end

-- ---- output -------------------------------------------------------------------------------------

local function amount(row, value)
  if row == "start.rss" then return string.format("%.1f MiB", value / 1024) end
  if value >= 1e6 then return string.format("%.1f ms", value / 1e6) end
  return string.format(value < 10 and "%.2f ns" or "%.0f ns", value)
end

local function times(x)
  if not x then return "-" end
  local format = x < 0.095 and "%.3fx" or x < 9.95 and "%.2fx" or "%.0fx"
  return format:format(x)
end

local function limit_text(limit)
  local bound = limit.at_least and ">= " .. limit.at_least or "<= " .. limit.at_most
  return string.format("%s %s %s %s", limit.against, times(limit.ratio):gsub("x$", ""), bound,
    limit.verdict)
end

local COLUMNS <const> = { "c", "go", "rust", "bcc" }

-- What it is, how long moonbee takes, and that as times of each peer's.
local function cells_of(row, results)
  local ours = results.moonbee[row[1]]
  if not ours then return end
  local cells = { row[2], amount(row[1], median(ours)) }
  for _, peer in ipairs(COLUMNS) do
    cells[#cells + 1] = times(ratio(ours, results[peer] and results[peer][peer_row(row, peer)]))
  end
  return cells
end

local function print_table(results, limits)
  local shape = "%-26s %10s  %8s %8s %8s %8s   %s\n"
  io.write(shape:format("moonbee, against:", "", "C", "cilium", "rust", "bcc", "limits"))
  for _, row in ipairs(rows) do
    local cells, texts = cells_of(row, results), {}
    for _, limit in ipairs(cells and limits or {}) do
      if limit.row == row[1] then texts[#texts + 1] = limit_text(limit) end
    end
    if cells then
      cells[#cells + 1] = table.concat(texts, "; ")
      io.write((shape:format(table.unpack(cells)):gsub("%s+\n$", "\n")))
    end
  end
  local short = 0
  for _, limit in ipairs(limits) do
    if limit.verdict == "short" then short = short + 1 end
  end
  io.write(string.format("\nAs times of moonbee over the peer's, medians of %d rounds; C is the " ..
    "same libbpf (%s).\n%d of %d limits ok.\n", rounds, bpf.libbpf_version, #limits - short,
    #limits))
  for _, text in ipairs(notes) do io.write("note: ", text, "\n") end
end

local function write_markdown(results)
  local file <close> = assert(io.open(build .. "/bench.md", "w"))
  local heads = { "", "moonbee" }
  for _, peer in ipairs(COLUMNS) do heads[#heads + 1] = "÷ " .. titles[peer] end
  file:write("| ", table.concat(heads, " | "), " |\n|---|", ("---|"):rep(#heads - 1), "\n")
  for _, row in ipairs(rows) do
    local cells = cells_of(row, results)
    if cells then file:write("| ", table.concat(cells, " | "), " |\n") end
  end
end

local function write_json(results, limits)
  local figures = {}
  for peer, all in pairs(results) do
    figures[peer] = {}
    for row, list in pairs(all) do
      local values = {}
      for _, x in pairs(list) do values[#values + 1] = x end
      table.sort(values)
      figures[peer][row] = { median = median(values), least = values[1], most = values[#values] }
    end
  end
  local system = uv.os_uname()
  local file <close> = assert(io.open(build .. "/bench.json", "w"))
  file:write(bpf.json({ kernel = system.release, machine = system.machine, cpus = bpf.cpus.possible,
    libbpf = bpf.libbpf_version, version = bpf.version, rounds = rounds, notes = notes,
    units = "ns, start.rss: KiB", figures = figures, limits = limits }, { indent = true }), "\n")
end

-- ---- main ---------------------------------------------------------------------------------------

local function wanted_groups()
  local names = os.getenv "ROWS" or ""
  local wanted = {}
  for _, group in ipairs(groups) do
    local want = not names:find "%S"
    for name in names:gmatch "[^%s,]+" do want = want or group:sub(1, #name) == name end
    if want then wanted[#wanted + 1] = group end
  end
  if #wanted == 0 then
    io.stderr:write("bench: no rows: ", names, "; there are ", table.concat(groups, ", "), "\n")
    os.exit(2)
  end
  return wanted
end

local wanted = wanted_groups()
local peers = find_peers()
local results, failed = run_rounds(peers, wanted)
if results.moonbee["ring.columns1"] and not results.moonbee["ring.sum"] then
  note "r:sum(field) is missing: readers have no reduction yet"
end
local limits = limits_of(results)
print_table(results, limits)
write_json(results, limits)
write_markdown(results)
for key in pairs(failed) do
  if key:find "^moonbee " then os.exit(1) end
end
