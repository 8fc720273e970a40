-- SPDX-License-Identifier: BSD-2-Clause
-- What the kernel says of loaded programs: runs counted on demand, sizes, lines.
local bpf = require "moonbee"
local skip = require "support.skip"
local support = require "support.bpf"

describe("a loaded program #root", function()
  before_each(skip.root)

  local function sysctl()
    local file <close> = io.open "/proc/sys/kernel/bpf_stats_enabled"
    return file and file:read "n"
  end

  it("has its runs counted as long as bpf.stats() is open", function()
    skip.unless(sysctl() == 0, "kernel.bpf_stats_enabled is set")
    local obj <close> = support.load "hooks"
    local prog = obj.progs.sum
    local function sum() prog:run { ctx = { a = 1, b = 2 } } end
    local before = prog.stats.run_count
    do
      local stats <close> = bpf.stats()
      assert.equal("stats", bpf.type(stats))
      for _ = 1, 10 do sum() end
      assert.equal(before + 10, prog.stats.run_count)
      assert.is_true(prog.stats.run_time_ns > 0)
      assert.equal(0, prog.stats.recursion_misses)
    end
    sum()
    assert.equal(before + 10, prog.stats.run_count)
  end)

  it("tells its sizes, its tag and its maps", function()
    local obj <close> = support.load "maps"
    local info = obj.progs.fill.info
    assert.matches("^%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x$", info.tag)
    assert.is_true(info.insns > 10 and info.memory >= 4096 and info.loaded_ns > 0)
    assert.is_true(info.verified_insns == nil or info.verified_insns > 10)
    assert.same({ 0, true }, { info.uid, info.gpl })
    assert.is_true(info.btf_id > 0)
    local ids = {}
    for _, id in ipairs(info.maps) do ids[id] = true end
    assert.is_true(ids[obj.maps.totals.id])
    assert.is_nil(obj.progs.fill.log)
  end)

  it("tells which line each instruction comes from", function()
    local obj <close> = support.load "hooks"
    local lines = obj.progs.sum:lines()
    local last, texts = -1, {}
    for _, line in ipairs(lines) do
      assert.is_true(line.insn > last and line.line > 0 and line.column >= 0)
      assert.matches("hooks%.bpf%.c$", line.file)
      last = line.insn
      texts[#texts + 1] = line.text
    end
    assert.matches("return", texts[#texts])
    assert.is_true(last < obj.progs.sum.info.insns)
  end)

  it("tells nothing before it is loaded, nor when it is closed", function()
    local obj <close> = support.open "hooks"
    for _, name in ipairs { "stats", "info" } do
      assert.matches("describe program 'sum': its object is not loaded",
        tostring(support.refusal(function() return obj.progs.sum[name] end)))
    end
    assert.matches("its object is not loaded",
      tostring(support.refusal(function() return obj.progs.sum:lines() end)))
    local prog = obj.progs.sum
    obj:close()
    assert.equal("attempt to use closed program 'sum'",
      support.mistake(function() return prog.stats end))
  end)

  it("is not counted by who may not", function()
    local p <close> = support.script([[
      local ok, err = pcall(require "moonbee".stats)
      print(ok, err.code)]], { user = "nobody" })
    assert.equal("false\tEPERM\n", p:wait().out)
  end)
end)
