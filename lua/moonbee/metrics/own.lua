-- SPDX-License-Identifier: BSD-2-Clause
-- moonbee's own metrics: what it is, what its readers took, what programs cost, how the policy
-- fares.
local bpf = require "moonbee"
local number = require "moonbee.metrics.number"
local text = require "moonbee.metrics.text"

local own = {}

-- name without moonbee_ -> help, unit
local KNOWN = {
  info = { "The moonbee that tells this." },
  scrape_errors = { "Times that an entry was left out of a scrape: the log says why." },
  scrape_series_left_out = { "Series of this scrape that were over max_series." },
  scrape_duration_seconds = { "What this scrape took, pauses included.", "seconds" },
  reader_records = { "Records that were taken out of a ring." },
  reader_lost = { "Records that found no room in a ring." },
  reader_pending_bytes = { "Bytes that wait in a ring.", "bytes" },
  reader_size_bytes = { "Bytes that a ring has room for.", "bytes" },
  program_runs = { "Runs of a program, while the kernel counted them." },
  program_run_time_seconds = { "Time that a program ran, while the kernel counted it.", "seconds" },
  program_recursion_misses = { "Runs left out, since the program ran already on that CPU." },
  policy = { "The version of the policy that is in force." },
  policy_swaps = { "Versions that were put in force: the start, reloads, roll-backs." },
  policy_failures = { "Edits that were refused; the version before stayed in force." },
  policy_rollbacks = { "Roll-backs to the version before." },
  policy_handler_errors = { "Errors in handlers of the policy." },
  policy_degraded = { "1: what is in force is not what its file says." },
  policy_paused = { "1: its handlers are paused, after a roll-back that failed." },
  policy_handlers = { "Handlers that are registered." },
  policy_memory_bytes = { "What the policy's Lua state takes.", "bytes" },
  policy_uptime_seconds = { "Since the process of the policy began.", "seconds" },
  policy_start_time_seconds = { "When the process of the policy began, in Unix time.", "seconds" },
}

-- A family of moonbee's own, by its name without moonbee_.
function own.family(name, kind, list)
  local help, unit = table.unpack(KNOWN[name])
  return { name = kind == "info" and name == "info" and "moonbee" or "moonbee_" .. name,
    type = kind, help = help, unit = unit, series = list }
end

-- Labels as text: a first one, which is text, and one more.
function own.labels(first, name, value)
  local one = text.label(name, value)
  return first ~= "" and first .. "," .. one or one
end

-- One number.
local function single(name, kind, label, x, unsigned)
  return own.family(name, kind, { { labels = label, value = number.text(x, unsigned) } })
end

function own.info(label)
  return own.family("info", "info", { { labels = own.labels(label, "version", bpf.version),
    value = "1" } })
end

-- A family over things that have a field: nil where none has it.
local function over(name, kind, label, what, things, field, scale)
  local list = {}
  for _, thing in ipairs(things) do
    if thing[field] then
      list[#list + 1] = { labels = own.labels(label, what, thing.name),
        value = number.text(thing[field], true, scale) }
    end
  end
  return own.family(name, kind, list)
end

-- readers: a list of { name = of the map, consumed =, lost =, pending =, size = }.
function own.readers(label, readers)
  return over("reader_records", "counter", label, "map", readers, "consumed"),
    over("reader_lost", "counter", label, "map", readers, "lost"),
    over("reader_pending_bytes", "gauge", label, "map", readers, "pending"),
    over("reader_size_bytes", "gauge", label, "map", readers, "size")
end

-- programs: a list of { name =, run_count =, run_time_ns =, recursion_misses = }; nothing while
-- none was counted.
function own.programs(label, programs)
  local any = false
  for _, program in ipairs(programs) do any = any or program.run_count ~= 0 end
  if not any then return nil end
  return over("program_runs", "counter", label, "program", programs, "run_count"),
    over("program_run_time_seconds", "counter", label, "program", programs, "run_time_ns", 1e-9),
    over("program_recursion_misses", "counter", label, "program", programs, "recursion_misses")
end

-- Statistics of an object's programs that are loaded, by name.
function own.program_stats(obj)
  local list = {}
  for name, program in pairs(obj and not obj.closed and obj.progs or {}) do
    local ok, stats = pcall(function() return program.loaded and program.stats end)
    if ok and stats then
      stats.name = name
      list[#list + 1] = stats
    end
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  return list
end

-- Of a script: its readers, and its object's programs.
function own.script(obj, readers)
  local rings = {}
  for _, reader in ipairs(readers) do
    if not reader.closed then
      local stats = reader.stats
      stats.name = reader.name
      rings[#rings + 1] = stats
    end
  end
  local list = { own.info "", own.readers("", rings) }
  return table.move({ own.programs("", own.program_stats(obj)) }, 1, 3, #list + 1, list)
end

-- Of a policy, from its status.
function own.policy(label, s, uptime)
  local list = { own.info(label) }
  local function add(...) list[#list + 1] = single(...) end
  local version = s.version ~= nil and own.labels(label, "version", s.version) or label
  list[2] = own.family("policy", "info", { { labels = version, value = "1" } })
  add("policy_swaps", "counter", label, s.swaps)
  add("policy_failures", "counter", label, s.failures)
  add("policy_rollbacks", "counter", label, s.rollbacks)
  add("policy_handler_errors", "counter", label, s.errors)
  add("policy_degraded", "gauge", label, s.degraded and 1 or 0)
  add("policy_paused", "gauge", label, s.paused and 1 or 0)
  add("policy_handlers", "gauge", label, s.handlers or 0)
  add("policy_memory_bytes", "gauge", label, s.memory or 0)
  add("policy_start_time_seconds", "gauge", label, s.since)
  add("policy_uptime_seconds", "gauge", label, uptime)
  return list
end

return own
