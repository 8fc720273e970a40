-- SPDX-License-Identifier: BSD-2-Clause
-- What programs print: bpf_printk's lines in the trace pipe, and their streams.
local bpf = require "moonbee"
local loop = require "moonbee.loop"
local skip = require "support.skip"
local support = require "support.bpf"

-- The fixture with this program only.
local function load(name)
  local obj = support.open "iters"
  obj.progs[name].autoload = true
  obj:load()
  return obj
end

describe("the trace pipe #root", function()
  before_each(skip.root)

  -- Whatever others printed before.
  local function drained()
    local pipe = bpf.trace_pipe()
    while pipe:wait(0) do for _ in pipe:drain() do end end -- luacheck: ignore 542
    return pipe
  end

  local function says(n) return "bpf_trace_printk: moonbee says " .. n .. "$" end

  it("gives what bpf_printk writes, by lines", function()
    local obj <close> = load "trace"
    local pipe <close> = drained()
    assert.is_false(pipe:wait(0.01))
    for i = 1, 5 do obj.progs.trace:run { ctx = { n = i } } end
    assert.is_true(pipe:wait(20))
    local seen = {}
    for line in pipe:drain { max = 2 } do seen[#seen + 1] = line end
    assert.equal(2, #seen)
    for line in pipe:drain() do seen[#seen + 1] = line end
    assert.equal(5, #seen)
    for i = 1, 5 do assert.matches(says(i), seen[i]) end
  end)

  it("is a source of the loop", function()
    local obj <close> = load "trace"
    local pipe <close> = drained()
    local seen = {}
    loop.on(pipe, function(line)
      seen[#seen + 1] = line
      if #seen == 3 then loop.stop "all" end
    end)
    loop.spawn(function()
      for i = 1, 3 do
        obj.progs.trace:run { ctx = { n = i } }
        loop.sleep(0.001)
      end
    end)
    loop.after(20, function() loop.stop "late" end)
    assert.equal("all", loop.run())
    for i = 1, 3 do assert.matches(says(i), seen[i]) end
  end)

  it("ends when it is closed", function()
    local obj <close> = load "trace"
    local pipe = drained()
    for i = 1, 3 do obj.progs.trace:run { ctx = { n = i } } end
    pipe:wait(20)
    local n = 0
    for _ in pipe:drain() do
      n = n + 1
      pipe:close()
    end
    assert.equal(1, n)
    assert.equal("attempt to use closed trace 'trace_pipe'",
      support.mistake(function() pipe:drain() end))
  end)

  it("is not for everybody", function()
    local p <close> = support.script([[
      local ok, err = pcall(require "moonbee".trace_pipe)
      print(ok, err.code)]], { user = "nobody" })
    local out = p:wait().out
    assert.is_true(out == "false\tEACCES\n" or out == "false\tEPERM\n", out)
  end)
end)

describe("a program's stream #root", function()
  before_each(skip.root)

  it("gives what it wrote since the last time", function()
    local obj <close> = load "speak"
    local prog = obj.progs.speak
    local ok, err = pcall(prog.stream, prog, "stdout")
    skip.unless(ok or err.code ~= "EOPNOTSUPP", "no streams in this kernel or libbpf")
    assert(ok, err)
    prog:run { ctx = { n = 7 } }
    skip.unless(obj.vars.spoken >= 0, "the kernel gives the stream no memory")
    prog:run { ctx = { n = 8 } }
    assert.equal("said 7\nsaid 8\n", prog:stream "stdout")
    assert.equal("", prog:stream())
    assert.equal("", prog:stream "stderr")
    prog:run { ctx = { n = 9 } }
    assert.equal("said 9\n", prog:stream())
  end)

  it("is standard output or error", function()
    local obj <close> = load "trace"
    assert.matches("invalid option 'log'", select(2, pcall(function()
      obj.progs.trace:stream "log"
    end)))
  end)
end)
