-- SPDX-License-Identifier: BSD-2-Clause
-- bpf.vars: variables of programs that someone else loaded; and sections of every making.
local lfs = require "lfs"
local uv = require "luv"
local bpf = require "moonbee"
local leaks = require "support.leaks"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"
local testing = require "mb_testing"

local mistake, refusal, load = support.mistake, support.refusal, support.load

local DIR = string.format("/sys/fs/bpf/moonbee_variables_spec_%d", uv.os_getpid())
local PIN = DIR .. "/program"
local HELD = support.build .. "/variables_spec.bpf.o" -- what the linker makes

-- Another moonbee that has loaded the object at its first argument: it prints its program's id and
-- serves until its input ends. Commands: a Lua chunk a line, whose result it prints.
local OWNER = [[
local bpf = require "moonbee"
local path, name, pin = ...
local obj <close> = bpf.load(path)
vars = obj.vars
if pin then obj.progs[name]:pin(pin) end
print("id " .. obj.progs[name].id)
io.stdout:flush()
local asked = 0
for line in io.lines() do
  asked = asked + 1
  print("answer " .. asked .. " = " .. tostring((load(line)())))
  io.stdout:flush()
end]]

local function owner(name, prog, pin)
  local child = support.script(OWNER, { interactive = true }, support.fixture(name), prog, pin)
  return child, math.tointeger(child:expect "id (%d+)")
end

local function ask(child, chunk)
  child.asked = (child.asked or 0) + 1
  child:write(chunk .. "\n")
  return child:expect("answer " .. child.asked .. " = ([^\n]*)\n")
end

local function collect()
  collectgarbage()
  collectgarbage()
end

local function mappings()
  local n = 0
  for line in io.lines "/proc/self/maps" do
    if line:find("bpf-map", 1, true) then n = n + 1 end
  end
  return n
end

describe("bpf.vars #root", function()
  before_each(skip.root)
  after_each(function()
    require "support.leaks".remove(DIR)
  end)

  it("reads the variables of a program by its handle, live", function()
    local obj <close> = load "types"
    local vars = bpf.vars(obj.progs.observe)
    assert.equal("view", bpf.type(vars))
    assert.equal(0, vars.hits)
    obj.progs.observe:run()
    assert.equal(1, vars.hits)
    obj.vars.cfg.limits[3].burst = 88
    assert.equal(88, vars.cfg.limits[3].burst)
    obj.progs.observe:run()
    assert.equal(88, vars.seen.burst)
  end)

  it("has every section that the program uses: data, bss, rodata and custom ones", function()
    local obj <close> = load("types", { vars = { c_version = 12 } })
    local vars = bpf.vars(obj.progs.observe)
    assert.same({ 200, 0, 12, 100, "moonbee", -9 }, { vars.v_u8, vars.counters[1023],
      vars.c_version, vars.tune_rate, vars.name, vars.flags.delta })
    for name, value in pairs(vars) do
      assert.is_true(bpf.has(obj.vars, name), name)
      if bpf.type(value) ~= "view" then assert.equal(obj.vars[name], value, name) end
    end
    assert.equal("no variable 's_static' in the object\n" ..
      "hint: it is static or hidden in C: only global variables are shown",
      mistake(function() return vars.s_static end))
    assert.equal("no variable 'hitz' in the object\nhint: did you mean 'hits'?",
      mistake(function() return vars.hitz end))
  end)

  it("leaves nothing behind when memory runs out", function()
    local obj <close> = load "types"
    local id = obj.progs.observe.id
    local before = leaks.snapshot()
    for n = 0, 2000 do
      local ok, _, failed = testing.oom(("local v = (...).vars(%d)"):format(id), n)
      if ok and not failed then break end
      assert.is_true(n < 2000)
    end
    assert.is_nil(leaks.since(before))
  end)

  it("is read-only", function()
    local obj <close> = load "types"
    local vars = bpf.vars(obj.progs.observe.id)
    for _, store in ipairs { function() vars.hits = 7 end, function() vars.cfg.rate = 7 end,
      function() vars.limits[0] = { rate = 1, burst = 2 } end,
      function() bpf.update(vars, { v_u8 = 1 }) end,
      function() bpf.fill(vars.counters, 1) end,
      function() bpf.ref(vars, "hits"):add(1) end } do
      assert.matches("^write '[^']+': %.%l+ of map %d+ is read%-only\n"
        .. "hint: bpf.vars%(prog, { write = true }%)", mistake(store))
    end
    assert.same({ 0, 10, 200 }, { obj.vars.hits, obj.vars.cfg.rate, obj.vars.v_u8 })
  end)

  it("writes when it is asked for, constants excepted", function()
    local obj <close> = load "types"
    local vars = bpf.vars(obj.progs.observe, { write = true })
    vars.hits = 7
    vars.cfg = { rate = 1, burst = 2, mode = "MODE_OFF", strict = false, range = { lo = 0, hi = 0 },
      anon_a = 0, anon_b = 0, word = 0, limits = {}, label = "x", timeout_ns = 0,
      any = { raw = 0 } }
    assert.equal(7, bpf.ref(vars, "hits"):add(1))
    vars.tune_rate = 55
    assert.same({ 8, 1, "x", 55 },
      { obj.vars.hits, obj.vars.cfg.rate, obj.vars.cfg.label, obj.vars.tune_rate })
    assert.matches("^write 'c_version': %.rodata of map %d+ is read%-only\nhint: constants are",
      mistake(function() vars.c_version = 1 end))
  end)

  it("takes part in transactions, also by a section's view alone", function()
    local obj <close> = load "txn"
    local cfg = bpf.vars(obj.progs.look, { write = true }).cfg
    collect()
    bpf.txn(cfg, function(c) c.a = 5 end)
    assert.equal(5, obj.vars.cfg.a)
    local readonly = bpf.vars(obj.progs.look).cfg
    collect()
    assert.matches("^write 'struct cfg': %.bss of map %d+ is read%-only\nhint: bpf.vars",
      mistake(function() bpf.txn(readonly, print) end))
  end)

  it("reads a program that another process loaded, by its id", function()
    local child <close>, id = owner("types", "observe")
    local vars = bpf.vars(id)
    assert.equal("fixture", vars.c_name)
    assert.equal("nil", ask(child, "vars.cfg.rate, vars.hits = 77, 1 << 40"))
    assert.equal(77, vars.cfg.rate)
    assert.equal(1 << 40, vars.hits)
    bpf.vars(id, { write = true }).cfg.limits[7].rate = 9
    assert.equal("9", ask(child, "return vars.cfg.limits[7].rate"))
  end)

  it("keeps the variables readable after their owner has gone", function()
    local child <close>, id = owner("types", "observe")
    local vars = bpf.vars(id)
    ask(child, "vars.hits = 5")
    assert.equal(0, child:wait().rc)
    assert.equal(5, vars.hits)
    support.until_true(function() return not pcall(bpf.program, id) end)
    assert.equal(5, vars.hits)
    assert.equal("moonbee", vars.name)
  end)

  it("reads a program by its pin, also one whose owner has gone", function()
    local child <close> = owner("types", "observe", PIN)
    assert.equal(0, child:wait().rc)
    local vars = bpf.vars(PIN, { write = true })
    vars.cfg.rate = 31
    local prog = bpf.pinned(PIN)
    assert.equal(31, prog:run().ret)
    assert.equal(1, vars.hits)
    assert.equal(1, bpf.vars(prog).hits)
  end)

  it("reads what bpftool loaded", function()
    local bpftool = lfs.attributes("/usr/sbin/bpftool", "mode") and "/usr/sbin/bpftool" or "bpftool"
    skip.unless(os.execute(bpftool .. " version >/dev/null 2>&1"), "bpftool is missing")
    assert(lfs.mkdir(DIR))
    local loaded = run { bpftool, "prog", "load", support.fixture "types", PIN }
    assert.equal("", loaded.err)
    local vars = bpf.vars(PIN)
    assert.same({ 10, "default", 3, 100 },
      { vars.cfg.rate, vars.cfg.label, vars.c_version, vars.tune_rate })
    local prog = bpf.pinned(PIN)
    prog:run()
    assert.equal(1, vars.hits)
  end)

  it("keeps no descriptor open for a program by id or pin", function()
    local function descriptors()
      local n = 0
      for fd in lfs.dir "/proc/self/fd" do
        local target = lfs.symlinkattributes("/proc/self/fd/" .. fd, "target")
        if target and target:find "bpf%-" then n = n + 1 end
      end
      return n
    end
    local obj <close> = load "types"
    obj.progs.observe:pin(PIN)
    collect()
    local before = descriptors()
    local by_id, by_pin = bpf.vars(obj.progs.observe.id), bpf.vars(PIN)
    assert.equal(before, descriptors())
    assert.equal(by_id.v_u8, by_pin.v_u8)
    assert.equal(10, obj.progs.observe:run().ret) -- a handle of one's own stays open
    assert.equal(1, bpf.vars(obj.progs.observe).hits)
    assert.is_false(obj.progs.observe.closed)
  end)

  it("holds one mapping a section, and lets go with the last view", function()
    local obj <close> = load "types"
    collect()
    local before = mappings()
    local vars = bpf.vars(obj.progs.observe)
    assert.equal(before + 4, mappings())
    local cfg = vars.cfg
    vars = nil -- luacheck: ignore
    collect()
    assert.equal(10, cfg.rate)
    cfg = nil -- luacheck: ignore
    collect()
    assert.equal(before, mappings())
  end)

  describe("refuses", function()
    it("a program without variables, and says what is missing", function()
      local obj <close> = load "statics"
      assert.equal("read variables of 'three': it uses no data section with BTF (ENODATA)\n" ..
        "hint: compile it with clang -g, and read or write the variable in it",
        tostring(refusal(bpf.vars, obj.progs.three)))
    end)

    it("ids of no program", function()
      assert.equal("open 'program 4294967295': there is no such program (ENOENT)",
        (tostring(refusal(bpf.vars, 4294967295)):match "^[^\n]+"))
      for _, id in ipairs { 0, -1, 1 << 32 } do
        assert.equal("bad argument #1 to 'vars' (an id is a number from 1 on)",
          mistake(function() bpf.vars(id) end))
      end
      assert.equal("bad argument #1 to 'vars' (number has no integer representation)",
        mistake(function() bpf.vars(1.5) end))
    end)

    it("what is no program", function()
      local obj <close> = load "memory"
      obj.maps.numbers:pin(PIN)
      assert.equal("what is pinned at " .. PIN .. " is a map, no program",
        mistake(function() bpf.vars(PIN) end))
      obj.maps.numbers:unpin()
      assert.equal("open pin '" .. PIN .. "': No such file or directory (ENOENT)",
        (tostring(refusal(bpf.vars, PIN)):match "^[^\n]+"))
      assert.equal("bad argument #1 to 'vars' (moonbee.program expected, got moonbee.map)",
        mistake(function() bpf.vars(obj.maps.numbers) end))
      assert.equal("bad argument #1 to 'vars' (moonbee.program expected, got no value)",
        (mistake(function() bpf.vars() end):gsub("got nil", "got no value")))
      assert.equal("bpf.vars has no option 'writ'\nhint: did you mean 'write'?",
        mistake(function() bpf.vars(obj.progs.step_all, { writ = true }) end))
    end)

    it("a program that is not loaded, or closed", function()
      local obj <close> = support.open "types"
      assert.equal("EINVAL", refusal(bpf.vars, obj.progs.observe).code)
      local prog = obj.progs.observe
      obj:close()
      assert.equal("attempt to use closed program 'observe'",
        mistake(function() bpf.vars(prog) end))
    end)
  end)

  describe("bpf.program", function()
    it("is the handle of any loaded program by id", function()
      local obj <close> = load "types"
      local prog = bpf.program(obj.progs.observe.id)
      assert.equal("program", bpf.type(prog))
      assert.equal(obj.progs.observe.id, prog.id)
      assert.equal("observe", prog.name)
      assert.equal("syscall", prog.type)
      assert.is_true(prog.loaded)
      obj.vars.cfg.rate = 3
      assert.equal(3, prog:run().ret)
    end)

    it("refuses ids of none", function()
      assert.equal("open 'program 4294967295': there is no such program (ENOENT)",
        (tostring(refusal(bpf.program, 4294967295)):match "^[^\n]+"))
      assert.equal("bad argument #1 to 'program' (an id is a number from 1 on)",
        mistake(function() bpf.program(0) end))
      assert.equal("bad argument #1 to 'program' (number expected, got table)",
        mistake(function() bpf.program {} end))
    end)
  end)
end)

describe("sections #root", function()
  before_each(skip.root)

  it("without types are bytes", function()
    local obj <close> = load "statics"
    assert.equal("no DATASEC\0", obj.sections[".rodata.str1.1"])
    assert.equal("no section '.rodata.str1.2' in the object",
      (mistake(function() return obj.sections[".rodata.str1.2"] end)
        :gsub("^object 'statics' has (no section '[^']+').*", "%1 in the object")))
    obj.progs.one:run()
    assert.equal("no DATASEC", obj.vars.said)
  end)

  it("of static variables only, which cannot be mapped, load and show nothing", function()
    local obj <close> = load "statics"
    assert.equal("struct", bpf.typeof(obj.sections[".data.quiet"]).kind == "section" and "struct")
    assert.is_nil(next(bpf.totable(obj.sections[".data.quiet"])))
    assert.equal("no variable 'quiet' in the object\n" ..
      "hint: it is static or hidden in C: only global variables are shown",
      mistake(function() return obj.vars.quiet end))
    assert.equal(8, obj.progs.one:run().ret)
    assert.equal(2, obj.vars.total_calls)
    assert.equal(2, bpf.vars(obj.progs.one).total_calls)
  end)

  it("with several static variables of one name do not mix them up", function()
    local bpftool = lfs.attributes("/usr/sbin/bpftool", "mode") and "/usr/sbin/bpftool" or "bpftool"
    skip.unless(os.execute(bpftool .. " version >/dev/null 2>&1"), "bpftool is missing")
    local linked = run { bpftool, "gen", "object", HELD, support.fixture "statics",
      support.fixture "statics_more" }
    assert.equal("", linked.err)
    local obj <close> = bpf.load(HELD)
    os.remove(HELD)
    assert.equal(5, obj.progs.more:run().ret)
    assert.equal(10, obj.progs.more:run().ret)
    obj.progs.one:run()
    obj.progs.two:run()
    assert.same({ 15, 3 }, { obj.vars.more_calls, obj.vars.total_calls })
    assert.equal("no variable 'same' in the object\n" ..
      "hint: it is static or hidden in C: only global variables are shown",
      mistake(function() return obj.vars.same end))
    local vars = bpf.vars(obj.progs.more, { write = true })
    vars.more_calls = 1
    assert.same({ 1, 3 }, { obj.vars.more_calls, vars.total_calls })
  end)

  it("of an object whose BTF the kernel refuses are read through the object's own", function()
    local obj <close> = load "refused"
    assert.equal(6, obj.progs.count:run().ret)
    assert.same({ 6, 1, 2 }, { obj.vars["price$total"], obj.vars.hits, obj.vars.cfg.burst })
    obj.vars.cfg.rate = 10
    assert.equal(16, obj.progs.count:run().ret)
    obj.maps.settings[1] = { rate = 3, burst = 4 }
    assert.equal(4, obj.maps.settings[1].burst)
    assert.equal(3, obj.maps.settings:sum "rate")
    -- It is true that the kernel has none of it:
    assert.equal("read variables of 'count': it uses no data section with BTF (ENODATA)",
      (tostring(refusal(bpf.vars, obj.progs.count)):match "^[^\n]+"))
  end)
end)
