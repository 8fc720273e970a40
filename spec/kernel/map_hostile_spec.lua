-- SPDX-License-Identifier: BSD-2-Clause
-- Every method of maps of every type with arguments that nobody would give: what does not fit
-- raises text or an error object, and nothing is left behind.
local uv = require "luv"
local bpf = require "moonbee"
local skip = require "support.skip"
local support = require "support.bpf"

local KINDS = {
  { "hash", "u32", "u64" }, { "array", "u32", "u64" }, { "percpu_hash", "u32", "u32" },
  { "percpu_array", "u32", "char[9]" }, { "lru_hash", "char[5]", "u8[3]" },
  { "lpm_trie", 8, "u32" }, { "queue", nil, "u64" }, { "stack", nil, 300 },
  { "bloom_filter", nil, "u32" }, { "ringbuf", nil, nil, 4096 },
  { "user_ringbuf", nil, nil, 4096 }, { "perf_event_array", "u32", "u32" },
  { "prog_array", "u32", "u32" }, { "sockmap", "u32", "u64" }, { "sockhash", 6, "u32" },
  { "devmap", "u32", "u64" }, { "devmap_hash", "u32", "u32" }, { "cpumap", "u32", "u32" },
  { "xskmap", "u32", "u32" }, { "sk_storage", "u32", "u64" }, { "task_storage", "int", "u64" },
  { "inode_storage", "u32", "char[12]" }, { "cgroup_array", "u32", "u32" },
  { "reuseport_sockarray", "u32", "u64" }, { "stack_trace", 4, 80 }, { "array_of_maps", 4, 4 },
  { "hash_of_maps", "u64", "u32" }, { "array", 4, 5000 },
}

-- Not close and the like: they end the game. mmap and reader have specs of their own.
local METHODS = {
  "get", "set", "take", "delete", "update", "edit", "get_many", "set_many", "delete_many", "push",
  "pop", "peek", "count", "clear", "pairs", "snapshot", "sum", "top",
}

local PLAIN = {
  0, 1, -1, 2, 3, 255, 256, 2 ^ 31, 2 ^ 32, math.maxinteger, math.mininteger, 0.5, 0 / 0, 1 / 0,
  -1 / 0, "", "x", "lock", "exist", "noexist", "overwrite", "abcd", "12345678", ("x"):rep(300),
  ("\0"):rep(4), "/", "/nowhere", "a\0b", true, false,
}

describe("hostile arguments of maps #root", function()
  before_each(skip.root)

  -- The same numbers each time: a failure can be looked at.
  local function random(seed)
    local state = seed
    return function(n)
      state = (state * 6364136223846793005 + 1442695040888963407) & math.maxinteger
      return (state >> 33) % n + 1
    end
  end

  local function pool(obj, inner, closed)
    local all = { table.unpack(PLAIN) }
    local cyclic = {}
    cyclic[1] = cyclic
    for _, x in ipairs {
      {}, { 1 }, { [0] = 1 }, { 1, 2, 3 }, { a = 1 }, { pidfd = 0 }, { pidfd = -1 }, { {}, {} },
      cyclic, { prefix = 1 }, setmetatable({}, { __index = error }), print, function() end,
      coroutine.create(print), io.stdout, bpf, obj, inner, closed, obj.vars, obj.progs.tail,
      obj.maps.locked, obj.types["struct locked"], obj.types["struct locked"] {},
      function(v) v.a = 1 end,
    } do all[#all + 1] = x end
    return all
  end

  local function check(ok, err, what)
    if ok or type(err) == "string" then return end
    assert.equal("error", bpf.type(err), what)
  end

  local function play(m, args, pick, rounds)
    for _ = 1, rounds do
      local name = METHODS[pick(#METHODS)]
      local a, b, c = args[pick(#args)], args[pick(#args)], args[pick(#args)]
      local n = pick(4) - 1
      local given = n == 0 and {} or n == 1 and { a } or n == 2 and { a, b } or { a, b, c }
      local what = m.type .. ":" .. name
      check(pcall(m[name], m, table.unpack(given, 1, n)))
      local ok, err = pcall(function()
        if name == "pairs" then
          local i = 0
          for k in pairs(m) do
            i = i + 1
            if i > 20 then return k end
          end
        end
      end)
      check(ok, err, what)
      if type(a) ~= "string" then
        check(pcall(function() return m[a] end))
        check(pcall(function() m[a] = b end))
        check(pcall(function() m[a] = nil end))
      end
    end
  end

  it("raise, or do what they say, and leave nothing", function()
    local obj <close> = support.load "kinds"
    local inner <close> = bpf.create_map { name = "in", type = "array", key = 4, value = 8,
      max_entries = 2 }
    local closed = bpf.create_map { type = "array", key = 4, value = 8, max_entries = 2 }
    closed:close()
    local args = pool(obj, inner, closed)
    for seed, kind in ipairs(KINDS) do
      local of_maps = kind[1]:find "of_maps"
      local m <close> = bpf.create_map { name = "hostile", type = kind[1], key = kind[2],
        value = kind[3], max_entries = not kind[1]:find "storage" and (kind[4] or 4) or nil,
        inner = of_maps and inner or nil }
      play(m, args, random(seed), support.slow and 60 or 300)
    end
    for _, m in pairs(obj.maps) do play(m, args, random(99), support.slow and 30 or 100) end
    uv.run "nowait"
    collectgarbage()
  end)

  it("cannot make create_map fall", function()
    local obj <close> = support.load "kinds"
    local pick = random(7)
    local args = pool(obj, obj.maps.locked, obj.maps.jobs)
    local names = { "name", "type", "key", "value", "max_entries", "flags", "inner" }
    for _ = 1, support.slow and 200 or 2000 do
      local options = { type = KINDS[pick(#KINDS)][1], key = "u32", value = "u32",
        max_entries = 2 ^ (pick(14) - 1) }
      for _ = 1, pick(3) do options[names[pick(#names)]] = args[pick(#args)] end
      if pick(20) == 1 then options[pick(3)] = 1 end
      if (math.tointeger(options.max_entries) or 0) > 70000 then options.max_entries = 8 end
      local ok, m = pcall(bpf.create_map, options)
      check(ok, m, "create_map")
      if ok then m:close() end
    end
  end)
end)
