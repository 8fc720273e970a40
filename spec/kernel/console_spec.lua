-- SPDX-License-Identifier: BSD-2-Clause
-- moonbee console: a session inside a running policy: on a terminal, on a pipe, under load, against
-- hostile frames. #root
local dkjson = require "dkjson"
local lfs = require "lfs"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"
local terminal = require "support.terminal"
local uv = require "luv"

local MOONBEE = support.moonbee
local cwd = uv.cwd()

local POLICY = [[
local policy = { object = "%s/%s/fixtures/events.bpf.o", params = { who = 0 } }
function policy.setup(obj, params) obj.vars.who = params.who end
function policy.start(ctx, state)
  ctx.state = state or { n = 0 }
  ctx.state.n = ctx.state.n or 0
  ctx:on("events", "struct event", function() ctx.state.n = ctx.state.n + 1 end)
  ctx:every(0.02, function() ctx.vars.count = ctx.state.n end)
end
return policy
-- version %d
]]

describe("moonbee console #root", function()
  local dir, policy, name

  local function environment()
    return { MOONBEE_RUNTIME_DIR = dir .. "/run", XDG_STATE_HOME = dir, NO_COLOR = "1",
      LC_ALL = "C.UTF-8" }
  end

  local function write_policy(version)
    local path = dir .. "/p.lua"
    local file <close> = assert(io.open(path .. ".new", "w"))
    file:write(POLICY:format(cwd, support.build, version))
    file:close()
    os.rename(path .. ".new", path)
    return path
  end

  local function ctl(...)
    local r = run({ MOONBEE, "ctl", name, ... }, { env = environment() })
    assert.equal("", r.err)
    return (r.out:gsub("\n$", ""))
  end

  local function start(console, who)
    skip.root()
    policy = run.start({ MOONBEE, "policy", write_policy(1), "--name", name, "--console", console,
      "--param", ("who=%d"):format(who or 0x7ffffff0) }, { env = environment(), timeout = 120 })
    support.until_true(function()
      if policy.code then error("the policy ended: " .. policy.err) end
      uv.run "nowait"
      return run({ MOONBEE, "ctl", name, "status" }, { env = environment() }).rc == 0
    end, 30)
  end

  local function talk(lines, ...)
    return run({ MOONBEE, "console", name, ... },
      { env = environment(), stdin = table.concat(lines, "\n") .. "\n", timeout = 60 })
  end

  local broken -- pipes whose other end is gone are told by write
  setup(function()
    broken = uv.new_signal()
    broken:start("sigpipe", function() end)
    broken:unref()
    if terminal.available() then terminal.begin() end
  end)
  teardown(function()
    broken:close()
    uv.run "nowait"
    if terminal.available() then terminal.finish() end
  end)

  before_each(function()
    dir = os.tmpname()
    os.remove(dir)
    lfs.mkdir(dir)
    lfs.mkdir(dir .. "/run")
    uv.fs_chmod(dir .. "/run", 448)
    name = "spec"
  end)

  after_each(function()
    if policy then
      policy:kill()
      local r = policy:wait()
      policy = nil
      run { "rm", "-rf", dir }
      assert.truthy(r.rc == 0 or r.rc == 143, r.err)
    else
      run { "rm", "-rf", dir }
    end
  end)

  it("evaluates inside the policy, read-only unless it is told otherwise", function()
    start "rw"
    local r = talk { "vars.step", "vars.step = 5", "x = 20", "x + 1", "state.n", "maps.events",
      "obj", "print(type(ctx), type(io))", "error 'boom'", "vars.stepp", "help(vars)",
      "ctx:after(0, function() ctx.vars.step = 9 end)", "sleep(0.01)" }
    assert.equal(1, r.rc)
    assert.truthy(r.out:find("^1\n", 1), r.out)
    for _, text in ipairs { "error: ", "\n21\n", "map 'events' (ringbuf",
      "object 'events' (loaded)", "table\tnil\n", "error: boom\n", "error: no variable 'stepp'",
      "hint: did you mean 'step'?", "moonbee.view\n",
      "error: ctx:after: what runs here may only read" } do
      assert.truthy(r.out:find(text, 1, true), text .. " is not in\n" .. r.out)
    end
    assert.equal("1", ctl("get", "step"))
    r = talk({ "vars.step = 5", "vars.step", "bpf.update(vars, { step = 6 })" }, "--write")
    assert.equal("", r.err)
    assert.equal("5\n", r.out)
    assert.equal("6", ctl("get", "step"))
    local journal = ctl "journal"
    assert.truthy(journal:find("step: 1 -> 5  by console of user 0", 1, true), journal)
    assert.truthy(journal:find("(line) bpf.update(vars, { step = 6 })", 1, true), journal)
  end)

  it("leaves nothing behind that writes, whatever coroutine it is in", function()
    start "rw"
    local later = "ctx:%s(0.001, function() ctx.vars.step = 9 end)"
    local lines = {}
    for _, how in ipairs { "%s", "pcall(function() %s end)", "coroutine.wrap(function() %s end)()",
      "coroutine.resume(coroutine.create(function() %s end))",
      "coroutine.wrap(function() coroutine.wrap(function() %s end)() end)()",
      "coroutine.wrap(function() sleep(0.01) %s end)()",
      "table.sort({ 1, 2 }, function() %s end)" } do
      lines[#lines + 1] = how:format(later:format "after")
      lines[#lines + 1] = how:format(later:format "every")
      lines[#lines + 1] = how:format "ctx:on('events', nil, function() end)"
    end
    talk(lines)
    lines = { "sleep(0.05)", "vars.step" }
    assert.equal("1\n", talk(lines).out)
    assert.equal(2, dkjson.decode(ctl("status", "--json")).handlers)
  end)

  it("can be opened again by a client whose first try failed", function()
    start "ro"
    local path = write_policy(1)
    local file <close> = assert(io.open(path))
    local text = file:read "a"
    local memory = dkjson.decode(ctl("status", "--json")).memory
    local function edit(limits, version)
      local to <close> = assert(io.open(path .. ".new", "w"))
      to:write((text:gsub("params =", ("limits = { %s }, version = %d, %%0"):format(limits,
        version))))
      to:close()
      os.rename(path .. ".new", path)
      support.until_true(function()
        return dkjson.decode(ctl("status", "--json")).version == version
      end)
    end
    uv.os_setenv("MOONBEE_RUNTIME_DIR", dir .. "/run")
    local client <close> = require "moonbee.client".connect(name)
    uv.os_unsetenv "MOONBEE_RUNTIME_DIR"
    local function open() -- what it says, or why not: the request itself is answered at the end
      local opened, refused
      client:send("console_open", {}, function(part) opened = part end,
        function(_, why) refused = tostring(why) end)
      support.until_true(function()
        uv.run "nowait"
        return opened or refused
      end)
      return opened, refused
    end
    edit(("memory = %d"):format(memory + 30000), 2) -- not enough for a console
    assert.matches("memory limit", select(2, open()))
    edit("memory = 64 << 20", 3)
    assert.matches('"open":%d+', open())
  end)

  it("is refused where the policy allows none, or none that writes", function()
    start "ro"
    local r = talk({ "1" }, "--write")
    assert.equal(1, r.rc)
    assert.truthy(r.err:find "read only %(EPERM%)\nhint: start it with %-%-console rw", r.err)
    assert.equal("1\n", talk({ "1" }).out)
    r = run({ MOONBEE, "console", "none" }, { env = environment() })
    assert.equal(1, r.rc)
    assert.truthy(r.err:find("'none'", 1, true), r.err)
  end)

  it("completes, watches and interrupts on a terminal", function()
    skip.unless(terminal.available(), "no tmux")
    start "rw"
    local t <close> = terminal.start({ MOONBEE, "console", name, "--write" },
      { env = environment(), rows = 40 })
    t:expect "console of policy 'spec', process %d+, changes are in force at once\nhelp.*\nspec>$"
    t:type "vars.ste"
    t:key "Tab"
    t:expect "spec> vars%.step$"
    t:enter " = 41"
    t:enter "vars.step"
    t:expect "\n41\nspec>$"
    t:enter "function f(a)"
    t:expect "%.%.>$"
    t:enter "return a + 1"
    t:enter "end"
    t:enter "f(41)"
    t:expect "\n42\nspec>$"
    t:enter "w = watch(function() return vars.count + 1000 end, 0.05)"
    t:expect "\nfunction = %d+  [^\n]*\nspec>$"
    t:type "half a line"
    for _ = 1, 200 do uv.os_getpriority(0) end
    t:expect "\nfunction = %d+  [^\n]*\nspec> half a line$"
    t:key("C-a", "C-k")
    t:enter "w:stop()"
    t:expect "w:stop%(%)\n.*spec>$"
    for word, code in pairs { runs = "while true do end", waits = "sleep(1000)",
      holds = "while true do pcall(function() while true do end end) end" } do
      t:enter(("print '%s' %s"):format(word, code))
      t:expect("\n" .. word .. "$")
      t:key "C-c"
      t:expect("\n" .. word .. "\ninterrupted\nspec>$")
    end
    t:key "C-d"
    t:expect "%[ended 0%]"
  end)

  local function console(source)
    local p = run.start({ MOONBEE, "console", name }, { env = environment(), timeout = 90 })
    p:write(source .. "\n")
    return p
  end

  it("never costs the policy an event: consoles that spin, print, stall; reloads too", function()
    local me = math.tointeger(uv.os_getpid())
    start("rw", me)
    local spin <close> = console "print 'spins' while true do end"
    spin:expect "spins"
    local loud <close> = console "while true do print(('x'):rep(1000)) end"
    loud:expect "xxx"
    -- One that asks for much and reads nothing.
    local stalled = uv.new_pipe(false)
    local _close <close> = setmetatable({}, { __close = function()
      if not stalled:is_closing() then stalled:close() end
      uv.run "nowait"
    end })
    local connected
    stalled:connect(dir .. "/run/" .. name .. "/control.sock", function(err)
      connected = err or true
    end)
    while not connected do uv.run "once" end
    assert.is_true(connected)
    stalled:write '{"protocol":1,"id":1,"request":"console_open"}\n'
    stalled:write(dkjson.encode { protocol = 1, id = 2, request = "console_eval",
      source = "while true do print(('y'):rep(1000)) end" } .. "\n")
    local sent, swaps = 0, 1
    local rounds = support.slow and 150 or 400
    for round = 1, rounds do
      for _ = 1, 40 do
        uv.os_getpriority(me)
        sent = sent + 1
      end
      uv.run "nowait"
      loud.out = loud.out:sub(-10)
      if round % (rounds // 4) == 0 then
        swaps = swaps + 1
        write_policy(swaps)
        local r = run({ MOONBEE, "ctl", name, "reload" }, { env = environment(), timeout = 60 })
        assert.equal(0, r.rc, r.err)
      else
        -- A pause of about a millisecond: what the kernel gives without a timer.
        uv.sleep(1)
      end
    end
    support.until_true(function()
      uv.run "nowait"
      loud.out = loud.out:sub(-10)
      return ctl("get", "count") == tostring(sent)
    end, 30)
    assert.equal("0", ctl("get", "failed"))
    stalled:close()
    uv.run "nowait"
    -- Those that are open go on in the new version.
    spin:write "1 + 1\n"
    spin:expect "the policy was reloaded"
    spin:expect "\n2\n"
  end)

  it("ends with the policy, and says so", function()
    start "ro"
    local p <close> = run.start({ MOONBEE, "console", name }, { env = environment() })
    p:write "print 'on' sleep(1000)\n"
    p:expect "on"
    policy:kill()
    local r = p:wait()
    assert.equal(1, r.rc)
    assert.truthy(r.err:find "the policy has ended", r.err)
  end)

  it("answers 10,000 hostile frames with an error each, and does not grow", function()
    start "rw"
    local seed = 20261129
    local function random(n)
      seed = (seed * 6364136223846793005 + 1442695040888963407)
      return (seed >> 33) % n
    end
    local strange = { "null", "true", "-1", "1e999", "\"\"", "[]", "{}", "\"x\"", "99999999999999",
      "[[[[[[]]]]]]", "\"\\u0000\"", "0.5", "\"" .. ("a"):rep(300) .. "\"" }
    local requests = { "console_eval", "console_complete", "console_interrupt", "console_size",
      "console_none", "status!", "get", "set", "undo", "", "console_open" }
    local fields = { "source", "text", "point", "columns", "rows", "write", "path", "value", "n" }
    local function frame(i, last)
      local kind = last and 9 or random(8)
      if kind < 6 then
        local parts = { ('"id":%d'):format(i), '"protocol":1',
          ('"request":"%s"'):format(requests[random(#requests - 1) + 1]) }
        for _ = 0, random(3) do
          parts[#parts + 1] = ('"%s":%s'):format(fields[random(#fields) + 1],
            strange[random(#strange) + 1])
        end
        return "{" .. table.concat(parts, ",") .. "}"
      elseif kind == 6 then
        return ('{"id":%d,"protocol":%s,"request":"status"}'):format(i,
          strange[random(4) + 1])
      elseif kind == 7 then
        return ('{"id":%d,"request":%s,"protocol":1}'):format(i, strange[random(#strange) + 1])
      end
      local bytes = {}
      for b = 1, 1 + random(60) do bytes[b] = string.char(1 + random(255)) end
      return (table.concat(bytes):gsub("\n", " "))
    end
    local function memory()
      local file <close> = assert(io.open(("/proc/%d/status"):format(policy.pid)))
      return tonumber(file:read "a":match "VmRSS:%s+(%d+)")
    end
    local path = dir .. "/run/" .. name .. "/control.sock"
    local total = support.slow and 2000 or 10000
    local answered, unanswered, oks, sent, at_half = 0, {}, 0, 0, nil
    while sent < total do
      local pipe, buffer, open, pending = uv.new_pipe(false), "", true, 0
      pipe:connect(path, function(err) assert(not err, err) end)
      pipe:read_start(function(err, data)
        if err or not data then open = false return end
        buffer = buffer .. data
        for line in buffer:gmatch "([^\n]*)\n" do
          local ok = line:match '"ok":(%l+)'
          if answered % 100 == 0 then assert(dkjson.decode(line)) end
          if ok then
            answered, pending = answered + 1, pending - 1
            if ok == "true" then oks = oks + 1 end
          end
        end
        buffer = buffer:match "([^\n]*)$"
      end)
      local function ask(n, last)
        local frames = {}
        for i = 1, n do frames[i] = frame(sent + i, last) end
        pipe:write(table.concat(frames, "\n") .. "\n")
        sent, pending = sent + n, n
        local deadline = uv.hrtime() + 20e9
        while open and pending > 0 do
          uv.run "once"
          assert(uv.hrtime() < deadline, "no answer")
        end
        if pending > 0 then unanswered[#unanswered + 1] = frames end
      end
      ask(15)
      ask(1, true) -- no JSON: it ends the connection, after an answer
      if not at_half and sent >= total // 2 then at_half = memory() end
      pipe:close()
      uv.run "nowait"
    end
    assert.same({}, unanswered)
    assert.equal(sent, answered)
    -- Some random ones are right: an interrupt of nothing, say. The rest are errors.
    assert.truthy(oks < total // 2, oks)
    if not support.slow then -- sanitizers keep what was freed
      assert.truthy(memory() - at_half < 3000, ("%d KiB more"):format(memory() - at_half))
    end
    assert.equal("2\n", talk({ "1 + 1" }).out)
    assert.is_nil(policy.code)
  end)

  it("gives its memory back, however often it is opened", function()
    start "ro"
    local function used() return dkjson.decode(ctl("status", "--json")).memory end
    for _ = 1, 3 do talk { "x = ('x'):rep(100000)" } end
    local before = used()
    for _ = 1, support.slow and 5 or 20 do talk { "x = ('x'):rep(100000)", "watch(print)" } end
    assert.truthy(used() - before < 600000, ("%d bytes more"):format(used() - before))
  end)
end)
