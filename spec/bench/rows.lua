-- SPDX-License-Identifier: BSD-2-Clause
--
-- The rows of `make bench` with moonbee, but those of start.lua; the C peer says what each one is.
--
--   build/moonbee run spec/bench/rows.lua OBJECT globals|maps|iter100k|iter1m|array|ring

local bpf = require "moonbee"

local path, group = arg[1], arg[2]
local EVENTS = 100000

local function report(row, seconds, operations)
  print(string.format('{"row": "%s", "ns": %.4f}', row, seconds * 1e9 / operations))
end

-- The process's CPU time of fn(...), and what it returns.
local function time(fn, ...)
  local start = os.clock()
  local a, b = fn(...)
  return os.clock() - start, a, b
end

-- Keeps the best of all repetitions by row: best("x", took).
local function keep_best()
  return setmetatable({}, { __call = function(self, row, took)
    self[row] = math.min(took, self[row] or took)
  end })
end

local function load(flows, samples, ring)
  local obj = bpf.open(path)
  obj.maps.flows.max_entries = flows
  obj.maps.samples.max_entries = samples
  obj.maps.events.max_entries = ring
  return obj:load()
end

local function fill(obj, program, n)
  obj.vars.n = n
  obj.progs[program]:run()
  assert(obj.vars.failed == 0, "fill")
end

local groups = {}

-- ---- globals ------------------------------------------------------------------------------------

local globals = {}

function globals.read(v, _, n)
  local sum = 0
  for _ = 1, n do sum = sum + v.x end
  return sum
end

function globals.write(v, _, n)
  for i = 1, n do v.x = i end
end

function globals.ref_get(_, refs, n)
  local ref, sum = refs.x, 0
  for _ = 1, n do sum = sum + ref:get() end
  return sum
end

function globals.ref_set(_, refs, n)
  local ref = refs.x
  for i = 1, n do ref:set(i) end
end

function globals.nested(v, _, n)
  local sum = 0
  for _ = 1, n do sum = sum + v.limits[3].rate end
  return sum
end

function globals.nested_ref(_, refs, n)
  local ref, sum = refs.rate, 0
  for _ = 1, n do sum = sum + ref:get() end
  return sum
end

function groups.globals()
  local obj <close> = load(1, 1, 4096)
  local v = obj.vars
  local refs = { x = bpf.ref(v, "x"), rate = bpf.ref(v, "limits[3].rate") }
  local best, n = keep_best(), 500000

  v.limits[3].rate = 7
  for _ = 1, 5 do
    for row, loop in pairs(globals) do best(row, (time(loop, v, refs, n))) end
  end
  obj.progs.mirror:run()
  assert(v.seen_x == n and v.seen_rate == 7, "mirror")
  for row in pairs(globals) do report("globals." .. row, best[row], n) end

  collectgarbage()
  collectgarbage "stop"
  local before = collectgarbage "count"
  globals.nested(v, refs, n)
  local bytes = (collectgarbage "count" - before) * 1024
  print(string.format('{"row": "globals.nested.garbage", "bytes": %.4f}', bytes / n))
end

-- ---- maps ---------------------------------------------------------------------------------------

local maps = {}

function maps.get(m, n)
  local sum = 0
  for i = 0, n - 1 do sum = sum + m:get(i & 1023).bytes end
  return sum
end

function maps.set(m, n, value)
  for i = 0, n - 1 do
    value.bytes = i
    m:set(i & 1023, value)
  end
end

function maps.set_table(m, n)
  for i = 0, n - 1 do m:set(i & 1023, { bytes = i }) end
end

function maps.delete(m, n)
  for i = 0, n - 1 do m:delete(i) end
end

function groups.maps()
  local n <const> = 100000
  local obj <close> = load(n, 1, 4096)
  local m, value = obj.maps.flows, obj.types["struct flow"] {}
  local best = keep_best()

  for _ = 1, 3 do
    fill(obj, "fill", n)
    for _, row in ipairs { "get", "set", "set_table", "delete" } do
      best(row, (time(maps[row], m, n, value)))
    end
    assert(m:count() == 0, "deleted")
  end
  for row in pairs(maps) do report("maps." .. row, best[row], n) end
end

-- ---- iteration ----------------------------------------------------------------------------------

local iter = {}

function iter.view(m)
  local count, sum = 0, 0
  for _, flow in pairs(m) do
    count = count + 1
    sum = sum + flow.bytes
  end
  return sum, count
end

function iter.columns(m)
  local count, sum = 0, 0
  for _, bytes in m:pairs "bytes" do
    count = count + 1
    sum = sum + bytes
  end
  return sum, count
end

function iter.sum(m)
  return m:sum "bytes"
end

local function iterate(prefix, n, reps)
  local obj <close> = load(n, 1, 4096)
  local best = keep_best()

  fill(obj, "fill", n)
  for _ = 1, reps do
    for row, loop in pairs(iter) do
      local took, sum, count = time(loop, obj.maps.flows)
      assert(sum == n * (n - 1) and (not count or count == n), "count")
      best(row, took)
      collectgarbage()
    end
  end
  for row in pairs(iter) do report(prefix .. row, best[row], n) end
end

function groups.iter100k() iterate("iter.100k.", 100000, 5) end
function groups.iter1m() iterate("iter.1m.", 1000000, 2) end

-- ---- array --------------------------------------------------------------------------------------

function groups.array()
  local n <const> = 1 << 20
  local obj <close> = load(1, n, 4096)
  local samples = obj.maps.samples:mmap()
  local best = keep_best()

  fill(obj, "fill_samples", n)
  for _ = 1, 20 do
    local took, sum = time(bpf.sum, samples)
    assert(sum == n * (n - 1) // 2, "sum")
    best("sum", took)
  end
  report("array.sum", best.sum, n)
end

-- ---- ring ---------------------------------------------------------------------------------------

local ring = {}

function ring.columns1(r)
  local count, sum = 0, 0
  for len in r:drain "len" do
    count = count + 1
    sum = sum + len
  end
  return sum, count
end

function ring.columns5(r)
  local count, sum = 0, 0
  for len, pid, time_ns, port, bytes in r:drain("len", "pid", "time_ns", "port", "bytes") do
    count = count + 1
    sum = sum + len + pid + time_ns + port + bytes
  end
  return sum, count
end

function ring.view1(r)
  local count, sum = 0, 0
  for ev in r:drain() do
    count = count + 1
    sum = sum + ev.len
  end
  return sum, count
end

function ring.sum(r)
  return r:sum "len"
end

function groups.ring()
  local obj <close> = load(1, 1, 8 << 20)
  local reader <close> = obj.maps.events:reader "struct event"
  local best = keep_best()

  if not pcall(function() return reader.sum end) then ring.sum = nil end
  for _ = 1, 7 do
    for row, loop in pairs(ring) do
      fill(obj, "emit", EVENTS)
      local took, sum, count = time(loop, reader)
      assert(sum > 0 and (not count or count == EVENTS), "count")
      assert(reader.stats.pending == 0, "drained")
      best(row, took)
    end
  end
  for row in pairs(ring) do report("ring." .. row, best[row], EVENTS) end
end

local run = groups[group]
if not run then
  io.stderr:write "usage: rows.lua OBJECT globals|maps|iter100k|iter1m|array|ring\n"
  os.exit(2)
end
run()
