-- SPDX-License-Identifier: BSD-2-Clause
-- What a policy may try: to get out of its state, to run for ever, to take all memory, to outlive
-- its end. None of it reaches the host, and each ends within its limits.
local uv = require "luv"
local bpf = require "moonbee"
local runtime = require "moonbee.runtime"
local support = require "support.bpf"

local DEADLINE = 0.05
local MEMORY = 32 << 20
local LATE = support.slow and 30 or 10 -- seconds; more is outlived, also on a busy machine

local said

local function new(options)
  said = {}
  local opts = { name = "evil", deadline = DEADLINE, stage_deadline = DEADLINE, memory = MEMORY,
    log = function(_, text) said[#said + 1] = text end }
  for key, value in pairs(options or {}) do opts[key] = value end
  return runtime.new(opts)
end

-- Run source as a policy's file: true | false, error. Nothing of the host's may have changed, and
-- it must not have taken much longer than it may.
local function attempt(source, options)
  local rt <close> = new(options)
  local late = math.max(LATE, options and options.stage_deadline or 0)
  local strings = getmetatable("")
  local index = strings.__index
  local from = uv.hrtime()
  local ok, result = pcall(rt.load, rt, source, "@evil.lua")
  local took = (uv.hrtime() - from) / 1e9
  assert.equal(strings, getmetatable "")
  assert.equal(index, strings.__index)
  assert.equal(string, index)
  assert.is_true(took < late, ("it took %.1f s"):format(took))
  local used, _, limit = rt.guest:memory()
  assert.is_true(used <= limit)
  if not ok then assert.equal("error", bpf.type(result), tostring(result)) end
  return ok, result
end

-- ---- out of the state ---------------------------------------------------------------------------

-- Each runs to its end, and finds nothing.
local outside = {
  ["bytecode from a string"] = [[
    local f, why = load("\27Lua\84\0\25\147\r\n\26\n")
    assert(not f and why:find "binary chunk")]],
  ["bytecode from a function"] = [[
    local n = 0
    local f, why = load(function() n = n + 1 return n == 1 and "\27Lua" or nil end)
    assert(not f and why:find "binary chunk")]],
  ["bytecode by asking for it"] = [[
    local f, why = load("\27Lua", "x", "b", {})
    assert(not f and why:find "binary chunk")]],
  ["making bytecode"] = "assert(string.dump == nil and (''):rep(0) == '')",
  ["debug"] = "assert(debug == nil and not pcall(require, 'debug'))",
  ["os and io"] = [[assert(os == nil and io == nil and not pcall(require, "os")
    and not pcall(require, "io"))]],
  ["package"] = "assert(package == nil and not pcall(require, 'package'))",
  ["dofile, loadfile, loadlib"] = "assert(dofile == nil and loadfile == nil and loadlib == nil)",
  ["moonbee's own modules"] = [[
    for _, name in ipairs { "moonbee.core", "moonbee.runtime", "moonbee.loop", "moonbee.guest",
      "luv", "dkjson", "../x", "/etc/passwd", "_G", "string" } do
      assert(not pcall(require, name), name)
    end]],
  ["objects by bpf"] = [[
    for _, name in ipairs { "open", "load", "create_map", "map", "program", "programs", "maps",
      "links", "vars", "find", "runtime", "interrupt", "classes", "set_format", "kernel",
      "pins" } do
      assert(bpf[name] == nil, name)
    end
    assert(require "moonbee" == bpf)]],
  ["pins that were not named"] = [[
    assert(not pcall(bpf.pinned, "/sys/fs/bpf/x"))
    local ok, why = pcall(bpf.pinned, "/sys/fs/bpf/x")
    assert(why:find "not in the policy's uses")]],
  ["kernel reads that were not named"] = [[
    local ok, why = pcall(require, "moonbee.kernel")
    assert(not ok and why:find "not in the policy's uses")]],
  ["the metatable of strings"] = [[
    local mt = getmetatable ""
    assert(mt == false)
    assert(not pcall(setmetatable, "", {}))]],
  ["metatables of moonbee's things"] = [[
    assert(getmetatable(bpf.typeof or print) == nil)
    local e = select(2, pcall(bpf.typeof, 5))
    assert(type(e) == "string")
    for _, x in ipairs { bpf.error { code = "EPERM" }, "", print } do
      local mt = getmetatable(x)
      if type(mt) == "table" then
        mt.__gc = function() while true do end end
        for i = 1, 100 do bpf.error { code = "EPERM" } end
        collectgarbage()
      end
      assert(type(mt) ~= "table")
    end]],
  ["a finalizer"] = [[
    assert(not pcall(setmetatable, {}, { __gc = function() end }))
    assert(not pcall(setmetatable, {}, { __gc = true }))
    local t = setmetatable({}, {})
    getmetatable(t).__gc = function() error "never" end
    t = nil
    collectgarbage()]],
  ["a protected metatable"] = [[
    local t = setmetatable({}, { __metatable = "no" })
    assert(not pcall(setmetatable, t, {}))]],
  ["the collector"] = [[
    for _, what in ipairs { "stop", "restart", "generational", "incremental", "setpause" } do
      assert(not pcall(collectgarbage, what), what)
    end]],
  ["the environment"] = [[
    local g = load "return _ENV"()
    assert(g == _G and g.core == nil and g.lib == nil and g.ours == nil and g.host == nil)
    local own = load("return x", "x", "t", { x = 5 })
    assert(own() == 5)]],
  ["the message handler"] = [[
    local seen
    xpcall(function() local secret = 1 error "x" end, function(m) seen = m end)
    assert(seen:find "x")]],
  ["upvalue tricks with constants (CVE-2022-28805)"] = [[
    local ok = load "local _ENV <const> = 11; X = 'hi'"
    if ok then assert(not pcall(ok)) end]],
  ["an error within an error's overflow (CVE-2022-33099)"] = [[
    local function loop(x, y, z) return 1 + loop(x, y, z) end
    local ok, why = pcall(loop)
    assert(not ok)
    ok, why = xpcall(loop, loop)
    assert(not ok)
    ok, why = pcall(string.rep, "x", -1)
    local function err() error(err) end
    assert(not xpcall(err, err))]],
  ["yielding where nobody resumes"] = [[
    local ok, why = pcall(table.sort, { 3, 2, 1 }, function() coroutine.yield() end)
    assert(not ok and why:find "outside a coroutine" or why:find "C%-call")
    ok = pcall(string.gsub, "x", "x", coroutine.yield)
    assert(not ok)]],
  ["resuming and closing what runs"] = [[
    local me = coroutine.running()
    assert(not coroutine.resume(me))
    assert(not pcall(coroutine.close, me))
    local co
    co = coroutine.create(function()
      assert(not coroutine.resume(me))
      assert(not pcall(coroutine.close, me))
      assert(not coroutine.resume(co))
    end)
    assert(coroutine.resume(co))]],
  ["a comparator that lies"] = [[
    local t = {}
    for i = 1, 1000 do t[i] = i * 7 % 1000 end
    pcall(table.sort, t, function() return true end)
    pcall(table.sort, t, function(a, b) return a ~= b end)
    pcall(table.sort, t, function() t[1], t[500] = nil, nil return false end)
    pcall(table.sort, t, function(a, b) t = nil return math.random() < 0.5 end)]],
  ["patterns out of bounds"] = [[
    for _, p in ipairs { "%", "[", "[%", "[a", "%f", "%b", "%bx", "(()", "%1", "(()%1)", "[]",
      "[^]",
      ("("):rep(40), ("%a"):rep(300) .. "%", "%g[%z-\255", ("(a?)"):rep(33) } do
      pcall(string.find, "abc", p)
      pcall(string.gsub, ("abc"):rep(100), p, "%1%2%9%0")
    end
    assert(not pcall(string.rep, "x", 1 << 62) and not pcall(string.rep, "xx", math.maxinteger))
    assert(not pcall(string.format, "%99999d", 1))
    assert(not pcall(string.format, ("%s"):rep(300)))
    assert(not pcall(string.unpack, "s8", ("\255"):rep(8)))
    assert(not pcall(string.pack, "i17", 1))
    assert(not pcall(string.byte, "x", 1, 2, 3) or true)]],
  ["sources that nest without an end"] = [[
    for _, piece in ipairs { "(", "{", "a[", "x=", "- ", "not ", "do ", "if a then ", "function() ",
      "return function() ", "a=a..", "a=2^" } do
      assert(not load(piece:rep(100000)))
    end
    assert(not load("local " .. ("a,"):rep(300) .. "a"))
    assert(not load("goto " .. ("x"):rep(1000)))]],
  ["coroutines in one another without an end"] = [[
    local depth = 0
    local function f() depth = depth + 1 return coroutine.wrap(f)() end
    local ok, why = pcall(f)
    assert(not ok and why:find "C stack overflow" and depth < 300)]],
  ["closes in one another without an end"] = [[
    local list, at = {}, 0
    for i = 1, 5000 do
      list[i] = coroutine.create(function()
        local x <close> = setmetatable({}, { __close = function()
          at = at + 1
          if list[at] then coroutine.close(list[at]) end
        end })
        coroutine.yield()
      end)
      coroutine.resume(list[i])
    end
    at = 1
    coroutine.close(list[1])]],
  ["texts of objects in one another without an end"] = [[
    local mt = {}
    mt.__tostring = function(x) return tostring(setmetatable({}, mt)) end
    local ok, why = pcall(tostring, setmetatable({}, mt))
    assert(not ok and tostring(why):find "overflow")]],
  ["changing what moonbee's Lua calls"] = [[
    string.format, string.sub, string.find = nil, function() return "x" end, function() end
    table.concat, table.unpack = nil, nil
    local ok, why = pcall(bpf.pinned, "/sys/fs/bpf/x")
    assert(not ok)
    setmetatable(_G, { __index = function() return 5 end, __newindex = function() end })
    getmetatable, type, pairs, next, tostring, select = nil]],
}

describe("a policy that tries to get at", function()
  for what, source in pairs(outside) do
    it(what .. " gets nothing", function()
      local ok, err = attempt(source .. "\nreturn {}", { deadline = 10, stage_deadline = 10 })
      assert.is_true(ok, ok or err.log)
    end)
  end

  it("pins and files by changing what it was allowed gets nothing", function()
    local rt <close> = new { deadline = 30, stage_deadline = 30 }
    local path = os.tmpname()
    local file <close> = io.open(path, "w")
    file:write "text"
    file:close()
    rt:load(([[
      local policy = { uses = { files = { %q, "/proc/sys/kernel/*" } } }
      function policy.start(ctx)
        assert(ctx.read(%q) == "text")
        assert(ctx.read "/proc/sys/kernel/ostype" == "Linux\n")
        for _, path in ipairs { "/etc/hostname", "/proc/sys/kernel/../../version", "/dev/zero" } do
          policy.uses.files[1] = path
          policy.uses.files[path] = path
          assert(not pcall(ctx.read, path), path)
        end
        policy.uses.kernel = true
        policy.uses.pins = { "/sys/fs/bpf/x" }
        assert(not pcall(require, "moonbee.kernel"))
        assert(select(2, pcall(bpf.pinned, "/sys/fs/bpf/x")):find "not in the policy's uses")
      end
      return policy]]):format(path, path), "@evil.lua")
    rt:start {}
    os.remove(path)
  end)

  it("its object's life gets nothing", function()
    local obj <close> = support.open "maps"
    local rt <close> = new { deadline = 30 }
    rt:load([[return { start = function(ctx)
      local m, p = select(2, next(ctx.maps)), nil
      for name, map in pairs(ctx.maps) do m = map end
      for name, prog in pairs(ctx.progs) do p = prog end
      for _, try in ipairs {
        function() ctx.obj:close() end, function() ctx.obj:load() end,
        function() ctx.obj:attach() end, function() m:close() end,
        function() m:pin "/sys/fs/bpf/x" end, function() m:unpin() end,
        function() m:freeze() end, function() p:pin "/sys/fs/bpf/x" end,
        function() local x <close> = ctx.obj end, function() local x <close> = m end,
        function() ctx.maps.x = m end, function() rawset(ctx.maps, 1, m) error "own" end,
        function() getmetatable(ctx.obj).__gc(ctx.obj) end,
        function() getmetatable(ctx.vars).__index = 1 end,
        function() getmetatable(ctx.maps).__index = 1 end,
      } do
        local ok, why = pcall(try)
        assert(not ok, _)
      end
    end }]], "@evil.lua")
    rt:start { object = obj }
    assert.equal("open", obj.state)
  end)
end)

-- ---- without an end -----------------------------------------------------------------------------

-- Each is ended by the deadline, or by the memory limit where it says so.
local PRELUDE = [[
  local function spin() while true do end end
  local function close(f) return setmetatable({}, { __close = f }) end
  local long = ("a"):rep(1000000)
]]

local runaway = {
  ["while"] = "while true do end",
  ["goto"] = "::a:: goto a",
  ["repeat"] = "repeat local x = 1 until false",
  ["for"] = "for i = 1, math.huge do end",
  ["tail calls"] = "local function f() return f() end f()",
  ["calls of C"] = "while true do math.abs(1) end",
  ["pcall around it"] = "while true do pcall(spin) end",
  ["pcalls in pcalls"] = "local function f() while true do pcall(f) end end f()",
  ["pcall of C functions"] = "while true do pcall(pcall, pcall, error) end",
  ["pcall that is called by C"] = "while true do pcall(string.gsub, 'x', 'x', spin) end",
  ["xpcall whose handler spins"] = "xpcall(error, spin)",
  ["xpcall whose handler spins after the end"] = "while true do xpcall(spin, spin) end",
  ["xpcall whose handler raises"] = [[
    local function again() error "again" end
    while true do xpcall(spin, again) end]],
  ["recursion and pcall"] = "local function f() pcall(f) f() end while true do pcall(f) end",
  ["a coroutine"] = "coroutine.wrap(spin)()",
  ["coroutines that are resumed again"] =
    "while true do coroutine.resume(coroutine.create(spin)) end",
  ["coroutines that take turns"] = [[
    local co = coroutine.wrap(function() while true do coroutine.yield() end end)
    while true do co() end]],
  ["coroutines that never run long"] = [[
    while true do
      coroutine.wrap(function() pcall(coroutine.wrap(function() for i = 1, 100 do end end)) end)()
    end]],
  ["pcall in coroutines in pcall"] = [[
    local function f()
      while true do pcall(coroutine.wrap(function() while true do pcall(spin) end end)) end
    end
    while true do pcall(f) end]],
  ["closing a coroutine"] = [[
    local co = coroutine.create(function() local x <close> = close(spin) coroutine.yield() end)
    coroutine.resume(co)
    while true do coroutine.close(co) end]],
  ["a wrap that fails and closes"] = [[
    local co = coroutine.wrap(function() local x <close> = close(spin) error "x" end)
    while true do pcall(co) end]],
  ["__close at a block's end"] = "do local x <close> = close(spin) end",
  ["__close in an error"] =
    "while true do pcall(function() local x <close> = close(spin) error 'x' end) end",
  ["__close at the end of the time"] = [[
    local function f()
      local a <close> = close(spin)
      local b <close> = close(function() pcall(spin) spin() end)
      spin()
    end
    while true do pcall(f) end]],
  ["__close of a for loop"] = "for _ in next, {}, nil, close(spin) do end",
  ["__index"] = "local t = setmetatable({}, { __index = spin }) local x = t.x",
  ["__index that asks itself"] = [[
    local t = setmetatable({}, { __index = function(t, k) return t[k + 1] end })
    while true do pcall(function() return t[1] end) end]],
  ["__newindex"] = "local t = setmetatable({}, { __newindex = spin }) t.x = 1",
  ["__eq, __lt and __le"] = [[
    local mt = { __eq = spin, __lt = spin, __le = spin }
    local a, b = setmetatable({}, mt), setmetatable({}, mt)
    local x = a == b]],
  ["__concat"] = "local x = setmetatable({}, { __concat = spin }) .. ''",
  ["__len"] = "local x = #setmetatable({}, { __len = spin })",
  ["__call"] = "setmetatable({}, { __call = spin })()",
  ["__tostring"] = "local x = tostring(setmetatable({}, { __tostring = spin }))",
  ["__tostring of an error"] = "error(setmetatable({}, { __tostring = spin }))",
  ["__tostring that catches"] = [[
    error(setmetatable({}, { __tostring = function() while true do pcall(spin) end end }))]],
  ["__tostring of what is printed"] = "print(setmetatable({}, { __tostring = spin }))",
  ["__pairs"] = "for _ in pairs(setmetatable({}, { __pairs = spin })) do end",
  ["__name"] = "while true do pcall(error, setmetatable({}, { __name = ('x'):rep(1000) })) end",
  ["string.rep of nothing"] = "string.rep('', 1e18 // 1 | 0)",
  ["string.rep again and again"] = "while true do pcall(string.rep, 'x', 1 << 24) end",
  ["a pattern of repetitions"] = "long:find(('a*'):rep(10) .. 'b')",
  ["a lazy pattern"] = "long:find('.-b')",
  ["a short subject, a cubic pattern"] = "local s = (' '):rep(20000) s:match('.-.-.-x')",
  ["gsub"] = "while true do long:gsub('a', 'b') end",
  ["gsub with a function"] = "long:gsub('a', function() for i = 1, 1000 do end end)",
  ["gmatch"] = "for _ in long:gmatch '.-b' do end",
  ["a frontier"] = "while true do long:find('%f[b].-%f[c]') end",
  ["balanced letters"] = "local s = ('('):rep(99999) while true do s:find '%b()x' end",
  ["plain find"] = "while true do long:find(('a'):rep(500000) .. 'b', 1, true) end",
  ["reverse, upper, lower"] = "while true do long:reverse():upper():lower() end",
  ["string.byte and char"] = "while true do string.char(long:byte(1, 5000)) end",
  ["string.format"] = "while true do local s = ('%99.50f %q'):format(1, long) end",
  ["string.pack"] =
    "local f = ('b'):rep(1000) while true do pcall(string.packsize, f:rep(1000)) end",
  ["table.concat"] =
    "local t = {} for i = 1, 1e5 do t[i] = i end while true do table.concat(t, 'x') end",
  ["table.move"] = "table.move({}, 1, 1 << 40, 2)",
  ["table.move to another"] = "table.move({}, 1, 1 << 40, 1 << 41, {})",
  ["table.insert at the front"] = "local t = {} while true do table.insert(t, 1, 1) end",
  ["table.insert with a __len"] =
    "table.insert(setmetatable({}, { __len = function() return 1 << 40 end }), 1, 1)",
  ["table.remove with a __len"] =
    "table.remove(setmetatable({}, { __len = function() return 1 << 40 end }), 1)",
  ["table.concat with a __index"] = [[
    table.concat(setmetatable({}, { __index = function() return "" end }), "", 1, 1 << 40)]],
  ["table.unpack"] = "while true do table.unpack({}, 1, 100000) end",
  ["table.sort"] = "while true do local t = {} for i = 1, 1e5 do t[i] = i end table.sort(t) end",
  ["table.sort with an evil order"] = [[
    local t = {} for i = 1, 1e5 do t[i] = i end
    while true do pcall(table.sort, t, function() return true end) end]],
  ["table.sort that spins"] = "table.sort({ 1, 2 }, spin)",
  ["table.sort with a __len"] = [[
    table.sort(setmetatable({}, { __len = function() return (1 << 31) - 2 end,
      __index = function() return 1 end, __newindex = function() end }))]],
  ["utf8.len"] = "while true do utf8.len(long) end",
  ["utf8.codepoint"] = "while true do utf8.codepoint(long, 1, 1000) end",
  ["utf8.offset"] = "while true do utf8.offset(long, 900000) end",
  ["utf8.codes"] = "while true do for _ in utf8.codes(long) do end end",
  ["tonumber"] = "while true do pcall(tonumber, ('1'):rep(4000), 10) tonumber(long) end",
  ["a comparison of long strings"] =
    "local a, b = long .. 'a', long .. 'b' while true do local x = a < b end",
  ["load of a long source"] = "while true do load(('local x = 1\\n'):rep(100000)) end",
  ["load of a source without an end"] = "load(function() return 'x = 1\\n' end)",
  ["load of one line without an end"] = "load(function() return ' ' end)",
  ["load whose reader spins"] = "load(spin)",
  ["load in pcall"] = "while true do pcall(load, spin) end",
  ["the collector"] =
    "local t = {} for i = 1, 1e5 do t[i] = {} end while true do collectgarbage() end",
  ["a log without an end"] = "while true do print 'x' end",
  ["require without an end"] = "while true do pcall(require, 'none') end",
  ["select"] = "while true do select('#', table.unpack({}, 1, 1000)) end",
  ["functions of values"] = "while true do bpf.ip '10.0.0.1' bpf.lpm '10.0.0.0/8' bpf.now_ns() end",
}

local hogs = {
  ["a table"] = "local t = {} for i = 1, math.huge do t[i] = i end",
  ["a table of tables"] = "local t = {} while true do t = { t } end",
  ["a string that doubles"] = "local s = 'x' while true do s = s .. s end",
  ["strings"] = "local t = {} for i = 1, math.huge do t[i] = 'x' .. i end",
  ["string.rep"] = "local s = ('x'):rep(1e9 // 1 | 0)",
  ["closures"] = "local f while true do local g = f f = function() return g end end",
  ["coroutines"] = "local t = {} while true do t[#t + 1] = coroutine.create(spin) end",
  ["gsub"] = "local s = ('x'):rep(1000000):gsub('x', ('y'):rep(1000))",
  ["table.concat"] = "local t = {} for i = 1, 10000 do t[i] = long end local s = table.concat(t)",
  ["table.pack"] =
    "local t = {} while true do t[#t + 1] = table.pack(table.unpack({}, 1, 1000)) end",
  ["load"] = "local t = {} while true do t[#t + 1] = load(('x = {} '):rep(1000)) end",
  ["globals"] = "for i = 1, math.huge do _G[i .. ''] = i end",
}

-- Built without Lua's libraries in source, a call of theirs may be refused at once.
local function bounded(err)
  if runtime.checked or err.code ~= "EINVAL" then return false end
  assert.matches("too much work for one call", err.cause)
  return true
end

describe("a policy that does not end by itself is ended:", function()
  for what, source in pairs(runaway) do
    it(what, function()
      local ok, err = attempt(PRELUDE .. source .. "\nreturn {}")
      assert.is_false(ok)
      if bounded(err) then return end
      assert.equal("ETIMEDOUT", err.code, err.log)
      assert.matches("^evil.lua:%d+: the deadline of 0.05 s is over$", err.cause)
    end)
  end
end)

describe("a policy that takes too much memory is ended:", function()
  for what, source in pairs(hogs) do
    it(what, function()
      local ok, err = attempt(PRELUDE .. source .. "\nreturn {}",
        { stage_deadline = 30, memory = 8 << 20 })
      assert.is_false(ok)
      if bounded(err) then return end
      assert.equal("ENOMEM", err.code, err.log)
      assert.equal("the memory limit of 8 MiB is reached", err.cause)
    end)
    it(what .. ", and by its time when it tries again and again", function()
      local ok, err = attempt(PRELUDE .. "while true do pcall(function() " .. source .. " end) end")
      assert.is_false(ok)
      assert.equal("ETIMEDOUT", err.code, err.log)
    end)
  end
end)

-- ---- beyond the end -----------------------------------------------------------------------------

-- Started in peace; what comes then has little time.
local GENTLE = { deadline = 30, stage_deadline = 30 }

local function started(body, options)
  local rt = new(GENTLE)
  rt:load(PRELUDE .. "return { start = function(ctx) " .. body .. " end }", "@evil.lua")
  local regs = rt:start {}
  rt:commit()
  rt.deadline = options and options.deadline or DEADLINE
  return rt, regs
end

local function within(seconds, fn, ...)
  local from = uv.hrtime()
  local results = table.pack(fn(...))
  local took = (uv.hrtime() - from) / 1e9
  assert.is_true(took < seconds, ("it took %.1f s"):format(took))
  return table.unpack(results, 1, results.n)
end

describe("a policy at its end", function()
  it("cannot hold it up by what its handlers have open", function()
    local rt = started [[
      for i = 1, 30 do
        ctx:every(1, function()
          local x <close> = close(spin)
          local y <close> = close(function() while true do pcall(spin) end end)
          ctx.sleep(1)
        end)
      end]]
    for id = 1, 30 do assert.equal("wait", (rt:fire(id))) end
    within(LATE + 2, rt.close, rt)
  end)

  it("has no finalizers, whatever is set later", function()
    local rt = started [[
      local mt = {}
      for i = 1, 100 do _G[i] = setmetatable({}, mt) end
      mt.__gc = function() ctx.log.info "alive" spin() end]]
    within(LATE, rt.close, rt)
    assert.same({}, said)
  end)

  it("ends a handler that was ended once more in its own time", function()
    local rt <close> = started [[
      ctx:every(1, function() local x <close> = close(spin) spin() end)]]
    local status, text = within(LATE, rt.fire, rt, 1)
    assert.equal("error", status)
    assert.matches("the deadline of 0.05 s is over", text)
    assert.equal("error", (within(LATE, rt.fire, rt, 1)))
  end)

  it("that saves for ever, saves what is no data, or changes what it saves, is told", function()
    for body, code in pairs {
      ["spin()"] = "ETIMEDOUT", ["return spin"] = "EINVAL", ["return { { print } }"] = "EINVAL",
      ["return setmetatable({}, { __pairs = spin, __index = spin })"] = "EINVAL",
      ["local t = {} t.t = t return t"] = "EINVAL", ["error {}"] = "EINVAL",
      ["ctx.vars.v_u8 = 1"] = "EINVAL",
    } do
      local obj <close> = support.open "types"
      local rt <close> = new(GENTLE)
      rt:load(PRELUDE .. ("return { save = function(ctx) %s end }"):format(body), "@evil.lua")
      rt:start { object = obj }
      rt:commit()
      rt.deadline = DEADLINE
      local ok, err = within(LATE, pcall, rt.call, rt, "save")
      assert.is_false(ok, body)
      assert.equal(code, err.code, body)
      assert.equal(200, obj.vars.v_u8)
    end
  end)

  it("stops for ever, and is ended", function()
    local rt = new(GENTLE)
    rt:load(PRELUDE .. "return { stop = function() while true do pcall(spin) end end }",
      "@evil.lua")
    rt:start {}
    rt.deadline = DEADLINE
    assert.is_false((within(LATE, pcall, rt.call, rt, "stop", "exit")))
    rt:close()
  end)
end)

describe("handlers that meddle with one another", function()
  it("by their coroutines gain nothing", function()
    local rt <close> = started([[
      local co
      ctx:every(1, function() co = coroutine.running() ctx.sleep(1) ctx.log.info "first" end)
      ctx:every(1, function()
        ctx.log.info(tostring(coroutine.resume(co)))
        ctx.log.info(tostring(coroutine.close(co)))
      end)]], { deadline = 30 })
    local status, _, task = rt:fire(1)
    assert.equal("wait", status)
    assert.equal("done", (rt:fire(2)))
    status = rt:resume(task)
    assert.truthy(status == "error" or status == "gone" or status == "done", status)
    assert.equal("wait", (rt:fire(1)))
  end)

  it("by yielding to the host are told so", function()
    local rt <close> = started([[
      ctx:every(1, function() coroutine.yield() end)
      ctx:every(1, function() coroutine.yield(1, 2, 3) end)
      ctx:every(1, function() coroutine.wrap(function() ctx.sleep(1) end)() end)]],
      { deadline = 30 })
    for id = 1, 3 do
      local status, text = rt:fire(id)
      assert.equal("error", status)
      assert.matches(id < 3 and "yielded to the loop" or "only a handler itself can wait", text)
    end
  end)

  it("by making more of them are bounded", function()
    local rt <close> = new { deadline = 30 }
    rt:load([[return { start = function(ctx)
      for i = 1, 100000 do ctx:every(1, print) end end }]], "@evil.lua")
    local err = support.refusal(rt.start, rt, {})
    assert.matches("the policy has 1000 handlers", err.cause)
  end)

  it("by calling the host from within are refused", function()
    local rt
    rt = new { deadline = 30, modules = function() return rt:has "start" end }
    local _ <close> = rt
    local err = support.refusal(rt.load, rt, "require 'x'", "@evil.lua")
    assert.matches("cannot be called from within itself", err.cause)
    assert.is_table(rt:load("return {}", "@evil.lua"))
  end)
end)
