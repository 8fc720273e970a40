-- SPDX-License-Identifier: BSD-2-Clause
-- What reaching into typed memory costs, against a call of an empty C function:
--   build/moonbee run spec/bench/field.lua        lua5.4 spec/bench/field.lua
-- Exit 1 when v.x costs more than 3.5 such calls, or a ref's get more than 2.5.
--
-- All is measured in turns, some milliseconds each, so that a slow moment of the machine hits all
-- alike; a turn's ratios are its own, and what is printed is their median.
local build = os.getenv "MB_BUILD" or "build"
package.path = "lua/?.lua;lua/?/init.lua;" .. package.path
package.cpath = build .. "/lib/?.so;" .. package.cpath

local bpf = require "moonbee"
local nop = require "mb_testing".nop

local N, ROUNDS = 100000, 121           -- calls in a turn, turns
local LIMIT = { ["v.x (u64)"] = 3.5, ["v.x (u32)"] = 3.5, ["ref:get()"] = 2.5 }

local obj <close> = bpf.open(build .. "/fixtures/types.bpf.o")
local vars, bss, l3 = obj.vars, obj.bss, obj.vars.limits[3]
local u64, u32 = bpf.ref(vars, "v_u64"), bpf.ref(vars, "v_u32")

-- name, what the loop is over as a local, the loop
local cases = {
  { "empty loop", nop, function() for _ = 1, N do end end },
  { "nop()", nop, function(f) for _ = 1, N do f() end end },
  { "v.x (u64)", vars, function(v) for _ = 1, N do local _ = v.v_u64 end end },
  { "v.x (u32)", vars, function(v) for _ = 1, N do local _ = v.v_u32 end end },
  { "bss.x (u64)", bss, function(v) for _ = 1, N do local _ = v.hits end end },
  { "v.x = n", vars, function(v) for i = 1, N do v.v_u64 = i end end },
  { "v.x = n (u32)", vars, function(v) for i = 1, N do v.v_u32 = i end end },
  { "ref:get()", u64, function(ref) for _ = 1, N do local _ = ref:get() end end },
  { "ref:get() (u32)", u32, function(ref) for _ = 1, N do local _ = ref:get() end end },
  { "ref:set(n)", u64, function(ref) for i = 1, N do ref:set(i) end end },
  { "ref:add(1)", u64, function(ref) for _ = 1, N do ref:add(1) end end },
  { "l3.rate", l3, function(v) for _ = 1, N do local _ = v.rate end end },
  { "v.limits[3].rate", vars, function(v) for _ = 1, N do local _ = v.limits[3].rate end end },
}

local function median(list)
  table.sort(list)
  return list[#list // 2 + 1]
end

local clock = os.clock
local times, ratios = {}, {}
for i = 1, #cases do times[i], ratios[i] = {}, {} end
for _, case in ipairs(cases) do case[3](case[2]) end -- what is made once is made
collectgarbage()
collectgarbage "stop"
for round = 1, ROUNDS do
  local took = {}
  for k = 1, #cases do
    local i = (k + round) % #cases + 1  -- nobody is always after the same
    local start = clock()
    cases[i][3](cases[i][2])
    took[i] = clock() - start
  end
  for i = 1, #cases do
    local net = took[i] - took[1]
    times[i][round] = net / N * 1e9
    ratios[i][round] = net / (took[2] - took[1])
  end
end
collectgarbage "restart"

local missed = false
print(("%-18s %8s %8s %8s"):format("", "ns", "x nop()", "limit"))
for i = 2, #cases do
  local name = cases[i][1]
  local ratio, limit = median(ratios[i]), LIMIT[name]
  if limit and (ratio > limit or ratio ~= ratio) then missed = true end
  print(("%-18s %8.1f %8.2f %8s%s"):format(name, median(times[i]), ratio, limit or "",
    limit and ratio > limit and "  missed" or ""))
end
if missed then os.exit(1, true) end
