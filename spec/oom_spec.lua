-- SPDX-License-Identifier: BSD-2-Clause
-- Memory that runs out at any allocation of Lua's: an error, never a crash, nothing left behind.
local testing = require "mb_testing"
local leaks = require "support.leaks"

local FIXTURES = (os.getenv "MB_BUILD" or "build") .. "/fixtures/"

-- Runs the chunk in a fresh state over and over, the n-th allocation failing, and all after it;
-- until it passes. Returns how often it failed.
local function survives(chunk)
  local source = ("local bpf = ...\nlocal TYPES, MAPS = %q, %q\n"):format(FIXTURES .. "types.bpf.o",
    FIXTURES .. "maps.bpf.o") .. chunk
  local before = leaks.snapshot()
  for n = 0, 20000 do
    local ok, text, failed = testing.oom(source, n)
    if not failed then
      assert.truthy(ok, text)
      assert.is_nil(leaks.since(before))
      return n
    end
    -- Lua does without some (a smaller string table), so that it may have passed all the same.
    if not ok and text ~= "not enough memory" then
      error(("allocation %d: %s"):format(n, text))
    end
    if n % 50 == 0 then assert.is_nil(leaks.since(before)) end
  end
  error "it never ends"
end

describe("when memory runs out,", function()
  for what, chunk in pairs {
    ["opening an object"] = "local obj <close> = bpf.open(TYPES)",
    ["opening one with options"] = [[
      local obj <close> = bpf.open(TYPES, { vars = { c_version = 5, tune_limit = { rate = 1,
        burst = 2 } } })
      local maps <close> = bpf.open(MAPS, { max_entries = { flows = 7 } })]],
    ["closing none"] = "local obj = bpf.open(TYPES)  local x = obj.vars.cfg.rate",
    ["reaching into views"] = [[
      local obj <close> = bpf.open(TYPES)
      local v = obj.vars
      local x = v.cfg.limits[3].rate + v.grid[1][2] + v.flags.delta + v.tune_limit.rate
      x = v.name .. v.v_int128 .. v.names[1]
      for i = 0, #v.limits - 1 do x = v.limits[i] end]],
    ["storing"] = [[
      local obj <close> = bpf.open(TYPES)
      local v = obj.vars
      v.v_u8, v.name, v.v_mode, v.mac = 5, "x", "MODE_SOFT", "abcd"
      v.limits = { { rate = 1, burst = 2 }, v.tune_limit }
      v.grid = { { 1, 2 }, [3] = { 3 } }
      bpf.update(v.cfg, { range = { lo = 5 }, any = { point = { x = 1 } } })]],
    ["copying and casting"] = [[
      local obj <close> = bpf.open(TYPES)
      local copy = bpf.copy(obj.vars.cfg)
      copy.rate = 3
      local x = bpf.bytes(copy)
      local limit = bpf.cast(obj.types["struct limit"], "abcdefgh")
      x = bpf.cast(obj.types.__u16, "ab")
      x = bpf.typeof(limit) == bpf.typeof(copy)]],
    ["making values"] = [[
      local obj <close> = bpf.open(TYPES)
      local T = obj.types["struct cfg"]
      local x = T { rate = 1, limits = { { rate = 2 } }, label = "x" }
      x = T()
      x = T(x)]],
    ["describing types"] = [[
      local obj <close> = bpf.open(TYPES)
      local T = obj.types["struct cfg"]
      local x = T.fields[3].type.enums[1].name .. T.name
      x = obj.types["enum mode"].enums]],
    ["using refs"] = [[
      local obj <close> = bpf.open(TYPES)
      local ref = bpf.ref(obj.vars, "cfg.limits[3].rate")
      ref:set(5) ref:add(1) ref:cas(6, 7)
      local x = ref:get() + bpf.ref(obj.vars, "hits"):xchg(3)]],
    ["listing maps, programs, sections"] = [[
      local obj <close> = bpf.open(MAPS)
      local x = obj.maps.flows.key_type
      x = obj.maps.flows.value_type.fields
      x = obj.progs
      x = obj.sections[".bss"]
      x = obj.externs]],
    ["making errors"] = "local err = bpf.error { code = 'EBUSY', op = 'x', subject = 'y' }",
  } do
    it(what .. " fails cleanly", function()
      assert.truthy(survives(chunk) > 0)
    end)
  end

  for what, chunk in pairs {
    ["a failed open"] = { "bpf.open '/nonexistent'", "open object '/nonexistent'" },
    ["an unknown field"] = { "bpf.open(TYPES).vars.cfg.rat = 1",
      "no field 'rat' in 'cfg' (struct cfg)" },
    ["a value out of range"] = { "bpf.open(TYPES).vars.v_u8 = 256", "256 is out of range" },
    ["a wrong option"] = { "bpf.open(TYPES, { vars = { v_u8 = 256 } })", "256 is out of range" },
    ["a closed object"] = { "local o = bpf.open(TYPES) local c = o.vars.cfg o:close() c.rate = 1",
      "object 'types' is closed" },
  } do
    it(what .. " is told, or the lack of memory is", function()
      local source = ("local bpf = ...\nlocal TYPES = %q\n"):format(FIXTURES .. "types.bpf.o")
        .. chunk[1]
      for n = 0, 20000 do
        local ok, text, failed = testing.oom(source, n)
        assert.falsy(ok)
        if not failed then
          assert.matches(chunk[2], text, 1, true)
          return
        end
        if text ~= "not enough memory" then assert.matches(chunk[2], text, 1, true) end
      end
      error "it never ends"
    end)
  end
end)
