-- SPDX-License-Identifier: BSD-2-Clause
--
-- make soak: a minute (TIME=seconds) of what a long-running program does, all at once: four rings,
-- timers, child processes, sockets, and objects that are loaded, attached, detached and closed in a
-- loop. Memory, descriptors and BPF objects must be as many at the end as after the first quarter,
-- and each ring must have given or counted what was written. Prints numbers; fails when one grows.
local uv = require "luv"
local bpf = require "moonbee"
local loop = require "moonbee.loop"

local SECONDS = tonumber(os.getenv "TIME") or 60
local BUILD = os.getenv "MB_BUILD" or "build"
local SAMPLE = math.max(0.25, SECONDS / 120)

local function fixture(name) return ("%s/fixtures/%s.bpf.o"):format(BUILD, name) end

-- ---- what is measured ---------------------------------------------------------------------------

local function descriptors()
  local all, ours = 0, { map = 0, prog = 0, link = 0 }
  local scan = uv.fs_scandir "/proc/self/fd"
  while true do
    local fd = uv.fs_scandir_next(scan)
    if not fd then break end
    all = all + 1
    local target = uv.fs_readlink("/proc/self/fd/" .. fd) or ""
    local kind = target:match "^anon_inode:bpf[-_](%a+)"
    if ours[kind] then ours[kind] = ours[kind] + 1 end
  end
  return all, ours
end

local function resident()
  local file <close> = assert(io.open "/proc/self/statm")
  local pages = select(2, file:read("n", "n"))
  return pages * 4
end

local function children()
  local file <close> = io.open(("/proc/self/task/%d/children"):format(uv.os_getpid()))
  local n = 0
  for _ in (file and file:read "a" or ""):gmatch "%d+" do n = n + 1 end
  return n
end

local function sample()
  collectgarbage()
  collectgarbage()
  local fds, ours = descriptors()
  return {
    rss = resident(), lua = collectgarbage "count", fds = fds, children = children(),
    maps = ours.map, programs = ours.prog, links = ours.link,
  }
end

-- How much may a number have grown: what is measured in kB wobbles, counts do not.
local SLACK = { rss = 1024, lua = 64, fds = 0, maps = 0, programs = 0, links = 0, children = 1 }

-- ---- the load -----------------------------------------------------------------------------------

local rings = {}

-- write() makes records; produced() says how many there were in all; a failed reserve is lost.
local function ring(name, reader, columns, write, produced, lost)
  local r = { name = name, reader = reader, seen = 0, produced = produced, lost = lost }
  rings[#rings + 1] = r
  loop.on(reader, function(first)
    r.seen = r.seen + 1
    if r.seen % 5000 == 0 then loop.sleep(0.001) end  -- a handler that waits now and then
    if not columns then r.last = bpf.copy(first) end
  end, table.unpack(columns or {}))
  loop.every(0.005 + #rings / 1000, write)
  return r
end

local function rings_of(events, records)
  for i, obj in ipairs(events) do
    ring("events" .. i, obj.maps.events:reader "struct event", i == 1 and { "seq", "comm" } or nil,
      function()
        obj.vars.count = 50 * i
        obj.progs.emit:run()
      end, function() return obj.vars.seq end, function() return obj.vars.failed end)
  end
  local counted = records.maps.counted:reader "struct reading"
  ring("counted", counted, { "seq" }, function()
    records.vars.count = 40
    records.progs.fill:run()
  end, function() return records.vars.produced end, function() return counted.stats.lost end)
  local samples = records.maps.samples:reader("struct reading", { pages = 8 })
  ring("samples", samples, { "seq", "delta" }, function()
    records.vars.count = 20
    records.progs.sample:run()
  end, function() return records.vars.sampled end, function() return 0 end)
end

local done = { attached = 0, processes = 0, connections = 0, ticks = 0 }

-- An object's whole life, its events read while it lasts.
local function live()
  local obj <close> = bpf.load(fixture "hooks", { vars = { who = uv.os_getpid() } })
  for name in pairs(obj.progs) do
    if name == "on_enter" or name == "on_call" then
      local link <close> = obj.progs[name]:attach()
      uv.os_getpriority(0)
      loop.sleep(0.001)
      link:detach()
    end
  end
  local events <close> = bpf.load(fixture "events")
  local reader <close> = events.maps.events:reader "struct event"
  events.vars.count = 10
  events.progs.emit:run()
  for ev in reader:drain() do
    if ev.seq == 5 then break end
  end
  done.attached = done.attached + 1
end

local function talk(address)
  local s <close> = loop.connect(address)
  s:write("ping\n")
  assert(s:read "line" == "PING")
  done.connections = done.connections + 1
end

local function load_all()
  local server = loop.listen("localhost:0", function(s)
    for line in s:lines() do s:write(line:upper(), "\n") end
  end)
  loop.every(0.02, live)
  loop.every(0.25, function()
    assert(loop.exec({ "true" }).code == 0)
    done.processes = done.processes + 1
  end)
  loop.every(0.05, function() talk(server.address) end)
  loop.every(0.001, function() done.ticks = done.ticks + 1 end)
  loop.every(0.01, function() loop.spawn(function() loop.sleep(0.005) end) end)
end

-- ---- judging ------------------------------------------------------------------------------------

local function median(samples, name, from, to)
  local list = {}
  for i = from, to do list[#list + 1] = samples[i][name] end
  table.sort(list)
  return list[(#list + 1) // 2]
end

local function judge(samples)
  local n, bad = #samples, {}
  for _, name in ipairs { "rss", "lua", "fds", "maps", "programs", "links", "children" } do
    local first = median(samples, name, math.max(n // 4, 1), math.max(n // 2, 1))
    local last = median(samples, name, n - n // 4, n)
    print(("%-9s %10.0f %10.0f"):format(name, first, last))
    if last > first + SLACK[name] then
      bad[#bad + 1] = ("%s grew from %.0f to %.0f"):format(name, first, last)
    end
  end
  return bad
end

local function judge_rings(bad)
  for _, r in ipairs(rings) do
    for _ in r.reader:drain() do r.seen = r.seen + 1 end
    local produced, lost = r.produced(), r.lost()
    print(("%-9s %10d written %10d read %8d lost"):format(r.name, produced, r.seen, lost))
    if produced ~= r.seen + lost then bad[#bad + 1] = r.name .. ": records are missing" end
    if r.seen < SECONDS then bad[#bad + 1] = r.name .. ": hardly anything was read" end
  end
end

local function main()
  local events = { bpf.load(fixture "events"), bpf.load(fixture "events") }
  local records = bpf.load(fixture "records")
  rings_of(events, records)
  load_all()
  local samples = {}
  loop.every(SAMPLE, function() samples[#samples + 1] = sample() end)
  loop.after(SECONDS, function() loop.stop "time" end)
  local errors = loop.errors
  local why = loop.run()
  if why ~= "time" then error("ended early: " .. tostring(why)) end
  print(("soak: %g s, %d samples; the second quarter and the last one"):format(SECONDS, #samples))
  local bad = judge(samples)
  judge_rings(bad)
  for name, n in pairs(done) do print(("%-11s %8d"):format(name, n)) end
  if loop.errors > errors then bad[#bad + 1] = loop.errors - errors .. " errors in handlers" end
  if done.attached < SECONDS then bad[#bad + 1] = "objects: hardly any" end
  for _, text in ipairs(bad) do io.stderr:write("soak: ", text, "\n") end
  for _, obj in ipairs { records, table.unpack(events) } do obj:close() end
  return #bad == 0 and 0 or 1
end

os.exit(main(), true)
