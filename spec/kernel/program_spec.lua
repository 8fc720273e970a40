-- SPDX-License-Identifier: BSD-2-Clause
-- Programs: what they are, and test runs.
local uv = require "luv"
local bpf = require "moonbee"
local skip = require "support.skip"
local support = require "support.bpf"

local mistake, refusal, load = support.mistake, support.refusal, support.load

local PACKET = ("\255"):rep(12) .. "\8\0" .. ("x"):rep(46)

describe("a program #root", function()
  before_each(skip.root)

  it("describes itself", function()
    local obj <close> = load "hooks"
    local prog = obj.progs.on_call
    assert.same({ "on_call", "tracepoint", "tracepoint/syscalls/sys_enter_getpriority", true, true,
      true }, { prog.name, prog.type, prog.section, prog.autoload, prog.loaded, prog.attaches })
    assert.equal("moonbee.program 'on_call'", tostring(prog))
    assert.equal("program", bpf.type(prog))
    assert.is_false(obj.progs.nowhere.autoload)
    assert.is_false(obj.progs.sum.attaches)
    assert.equal("a program has no 'nam'\nhint: did you mean 'name'?",
      mistake(function() return prog.nam end))
    assert.equal("'name' of a program cannot be set",
      mistake(function() prog.name = "x" end))
  end)

  describe("run", function()
    it("returns what it returned, and the packet as it left", function()
      local obj <close> = load "hooks"
      local r = obj.progs.grow:run { data = PACKET }
      assert.equal(#PACKET, r.ret)
      assert.equal("\xee" .. PACKET:sub(2), r.data)
      assert.is_true(r.duration_ns >= 0)
      assert.is_nil(r.ctx)
      assert.equal(("\255"):rep(12), PACKET:sub(1, 12))   -- ours did not change
    end)

    it("takes data as a view, too", function()
      local obj <close> = load "xdp"
      local maps <close> = support.open "maps"
      local data = bpf.cast(maps.types["struct flow"], ("\0"):rep(40))
      assert.equal(2, obj.progs.pass:run({ data = data }).ret)
      assert.same({ 1, 40 }, { obj.vars.passed, obj.vars.bytes })
      assert.equal(1, obj.progs.drop:run({ data = PACKET }).ret)
    end)

    it("gives a context and gets it back changed, and never changes the string", function()
      local obj <close> = load "hooks"
      local ctx = string.pack("I4I4", 3, 4)
      local r = obj.progs.sum:run { ctx = ctx }
      assert.equal(7, r.ret)
      assert.equal(7, obj.vars.total)
      assert.equal(string.pack("I4I4", 7, 4), r.ctx)
      assert.equal(string.pack("I4I4", 3, 4), ctx)
      assert.is_nil(r.data)
    end)

    it("takes a context as a view", function()
      local obj <close> = load "hooks"
      local args = obj.types["struct args"] { a = 5, b = 6 }
      assert.equal(11, obj.progs.sum:run({ ctx = args }).ret)
      assert.equal(5, args.a)
    end)

    it("may be many runs, of every type", function()
      local obj <close> = load "hooks"
      local r = obj.progs.grow:run { data = PACKET, times = 1000 }
      assert.equal(1000, obj.vars.runs)
      assert.is_true(r.duration_ns > 0)
      r = obj.progs.sum:run { ctx = string.pack("I4I4", 1, 2), times = 10 }
      assert.equal(1010, obj.vars.runs)
      assert.same({ 3, 2 }, { r.ret, obj.vars.last.b })
      assert.equal(1, obj.vars.last.a)  -- each run began with the same context
    end)

    it("ends with a SIGINT, however many runs are left", function()
      local p <close> = support.script([[
        local obj <close> = require "moonbee".load(arg[1])
        print "ready"
        obj.progs.sum:run { ctx = string.pack("I4I4", 1, 2), times = 2147483647 }
        print "done"]], { timeout = 10 }, support.fixture "hooks")
      p:expect "ready"
      uv.sleep(200)
      p:kill "sigint"
      local r = p:wait()
      assert.equal(130, r.rc)
      assert.equal("ready\n", r.out)
    end)

    it("gives back large packets whole", function()
      local obj <close> = load "xdp"
      local big = ("x"):rep(3000)
      local r = obj.progs.pass:run { data = big }
      assert.equal(big, r.data)
    end)

    it("takes options as they lie in the table, and calls nobody for them", function()
      local obj <close> = load "hooks"
      local types = support.open "types"
      local calls = 0
      local options = setmetatable({ ctx = types.vars.cfg }, { __index = function()
        calls = calls + 1
        types:close()
      end })
      pcall(obj.progs.sum.run, obj.progs.sum, options)
      assert.equal(0, calls)
      assert.equal("open", types.state)
      types:close()
      assert.matches("object 'types' is closed", mistake(function() obj.progs.sum:run(options) end))
    end)

    it("reads no view that a finalizer ended while it made room", function()
      local obj <close> = load "hooks"
      local gc <close> = setmetatable({}, { __close = function()
        collectgarbage("incremental", 200, 100, 13)
      end })
      assert.truthy(gc)
      collectgarbage("incremental", 1, 1000, 2)
      for _ = 1, 100 do
        local types = support.open "types"
        setmetatable({}, { __gc = function() types:close() end })
        pcall(function() obj.progs.sum:run { ctx = types.vars.cfg } end)
        types:close()
      end
    end)

    it("refuses options that it does not know or that do not fit", function()
      local obj <close> = load "hooks"
      local prog = obj.progs.grow
      assert.equal("run has no option 'dta'\nhint: data, ctx, times, cpu, live",
        mistake(function() prog:run { dta = PACKET } end))
      assert.equal("option 'data' of run is a string or a view, not a number",
        mistake(function() prog:run { data = 3 } end))
      for _, times in ipairs { 0, -1, 1.5, "5", 2 ^ 31 } do
        assert.equal("option 'times' of run is a whole number from 1 to 2147483647",
          mistake(function() prog:run { data = PACKET, times = times } end))
      end
      assert.matches("table expected, got number", mistake(function() prog:run(3) end))
    end)

    it("says that a packet is missing", function()
      local obj <close> = load "xdp"
      assert.equal([[
run program 'pass': Invalid argument (EINVAL)
hint: an xdp or tc program needs data of at least 14 bytes]],
        tostring(refusal(function() obj.progs.pass:run() end)))
      assert.equal("an xdp or tc program needs data of at least 14 bytes",
        refusal(function() obj.progs.pass:run { data = "short" } end).hint)
    end)

    it("says that a syscall program gets no data", function()
      local obj <close> = load "hooks"
      assert.equal([[
run program 'sum': a program of type syscall gets no data (EINVAL)
hint: what it is called with is its ctx]],
        tostring(refusal(function() obj.progs.sum:run { data = PACKET } end)))
    end)

    it("says which types have no test run", function()
      local obj <close> = load "hooks"
      local err = refusal(function() obj.progs.on_call:run() end)
      assert.equal("ENOTSUPP", err.code)
      assert.equal("the kernel has no test run for programs of type tracepoint", err.hint)
    end)

    it("says what is not loaded", function()
      local obj <close> = support.open "hooks"
      assert.equal([[
run program 'sum': its object is not loaded (EINVAL)
hint: call obj:load() first]], tostring(refusal(function() obj.progs.sum:run() end)))
      obj:load()
      assert.equal([[
run program 'nowhere': it was left out of the load (EINVAL)
hint: its autoload is false]], tostring(refusal(function() obj.progs.nowhere:run() end)))
      local prog = obj.progs.sum
      obj:close()
      assert.equal("attempt to use closed program 'sum'", mistake(function() prog:run() end))
    end)
  end)
end)
