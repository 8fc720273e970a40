-- SPDX-License-Identifier: BSD-2-Clause
-- Broken edits: the policy in force goes on untouched, and the error says what and where.
-- MB_SOAK=1 (make soak): 500 of them.
local uv = require "luv"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"
local policy = require "support.policy"

local ROUNDS = os.getenv "MB_SOAK" == "1" and 36 or support.slow and 1 or 2

local ROOT = "/sys/fs/bpf/moonbee-edits"

local GOOD = [[
local policy = { object = "p.bpf.o", version = "good", attach = { on_getpriority = true },
  limits = { deadline = 0.2, memory = 2 << 20 }, tests = %s }
function policy.setup(obj) obj.vars.who = %d %s end
function policy.start(ctx, state)
  ctx.state = state or { n = 0 }
  %s
  local s = ctx.state
  ctx:on("events", "struct event", function(seq)
    s.n = s.n + 1
    ctx.vars.got = s.n
  end, "seq")
end
%s
return policy
]]

describe("broken edits #root", function()
  after_each(function()
    if skip.is_root() then run { "/bin/rm", "-rf", ROOT } end
  end)
  before_each(skip.root)

  local who = math.tointeger(uv.os_getpid())

  local function good(parts)
    parts = parts or {}
    return GOOD:format(parts.tests or "{}", who, parts.setup or "", parts.start or "",
      parts.code or "")
  end

  local function file(path)
    local f <close> = assert(io.open(path, "rb"))
    return f:read "a"
  end

  -- Each: what is written, and what the error says. Stores of the new version before its failure
  -- must not be seen: `rate` is 1 in each.
  local STORE = "ctx.vars.rate = 1 "
  local edits = {
    { "syntax", function(p) p:write("p.lua", good { code = "function (" }) end,
      "p%.lua:%d+: <name> expected near '%('" },
    { "an error in start", function(p)
      p:write("p.lua", good { start = STORE .. 'error "no start today"' })
    end, "p%.lua:%d+: no start today" },
    { "an endless loop", function(p)
      p:write("p.lua", good { start = STORE .. "while true do pcall(string.rep, 'x', 10) end" })
    end, "p%.lua:%d+: the deadline of 0%.2 s is over" },
    { "a memory hog", function(p)
      p:write("p.lua", good { start = STORE .. "local t = {} for i = 1, 1e8 do t[i] = {} end" })
    end, "the memory limit of 2 MiB is reached" },
    { "a program that the verifier rejects", function(p)
      p:write("p.bpf.o", file(support.fixture "reject"))
      p:write("p.lua", 'return { object = "p.bpf.o", on_mismatch = "replace", '
        .. 'start = function() end }')
    end, "reject" },
    { "a map that differs", function(p)
      p:write("p.bpf.o", file(support.fixture "policy_changed"))
    end, "keep map 'flows': .-value struct flow: .-packets" },
    { "a missing module", function(p)
      p:write("p.lua", good { code = 'require "nowhere"' })
    end, "module 'nowhere' not found: no .-/nowhere%.lua" },
    { "a missing file", function(p) os.remove(p.path) end,
      "read policy '.-/p%.lua': No such file" },
    { "an object that is cut", function(p)
      p:write("p.bpf.o", file(support.fixture "policy"):sub(1, 3000))
    end, "open object 'p'" },
    { "a missing object", function(p) os.remove(p.dir .. "/p.bpf.o") end,
      "read object '.-/p%.bpf%.o'.-No such file" },
    { "an unknown key", function(p)
      p:write("p.lua", good { code = "policy.atach = {}" })
    end, "'atach' is no key of a policy.-did you mean 'attach'" },
    { "a failing test", function(p)
      p:write("p.lua", good {
        tests = '{ { prog = "count_xdp", data = ("x"):rep(64), expect = { ret = 0 } } }' })
    end, "test 1 failed: ret is 2, expected 0" },
    { "a file that others may write", function(p)
      p:write("p.lua", good())
      uv.fs_chmod(p.path, tonumber("666", 8))
    end, "others may write it: .-everybody may write it" },
    { "an unknown variable in setup", function(p)
      p:write("p.lua", good { setup = "obj.vars.nothing = 1" })
    end, "p%.lua:%d+: .-nothing" },
    { "a wait in start", function(p)
      p:write("p.lua", good { start = STORE .. "ctx.sleep(1)" })
    end, "p%.lua:%d+: " },
    { "a map write in start", function(p)
      p:write("p.lua", good { start = STORE .. "ctx.maps.flows:delete(1) ctx.maps.flows:clear()" })
    end, "flows" },
    { "a program that is not there", function(p)
      p:write("p.lua", good():gsub("on_getpriority = true", "on_getpriorit = true"))
    end, "attach.on_getpriorit: the object has no such program.-did you mean 'on_getpriority'" },
    { "a link that is refused after another one was made", function(p)
      p:write("p.lua", good { start = STORE }:gsub("on_getpriority = true",
        'on_getpriority = true, count_xdp = { ifname = "nowhere0" }'))
    end, "there is no network interface 'nowhere0'" },
  }

  it("leave the policy in force as it is", function()
    local p <close> = policy.new()
    local calls, failures, took = 0, 0, 0
    p:object "policy"
    p:write("p.lua", good())
    p:start()
    p:ask("set", { path = "timeout_ns", value = "7us" })
    local link = p:ask("status").links[1].id
    for _ = 1, ROUNDS do
      for _, edit in ipairs(edits) do
        local what, write, says = table.unpack(edit)
        write(p)
        -- the watch may be faster
        local ok, err = pcall(p.ask_error, p, "reload")
        assert.is_true(ok, what .. ": " .. tostring(err))
        took = took + 1
        assert.matches(says, tostring(err) .. (err.log or ""), 1, false)
        local s = p:ask "status"
        assert.is_true(s.failures > failures, what)
        failures = s.failures
        assert.same({ "good", link, 1 }, { s.version, s.links[1].id, s.swaps }, what)
        assert.matches(says, s.last_error)
        uv.os_getpriority(who)
        calls = calls + 1
        support.until_true(function() return p:get "got" == calls end)
        assert.same({ 100, 7000 }, { p:get "rate", p:get "timeout_ns" }, what)
        p:write("p.lua", good()) -- what is in force: nothing to do
        p:object "policy"
      end
    end
    p:write("p.lua", good():gsub('"good"', '"mended"'))
    p:wait(function(s) return s.version == "mended" end)
    assert.equal(calls, p:get "got")
    if ROUNDS > 2 then print(("soak: %d broken edits of %d kinds"):format(took, #edits)) end
    assert.equal(0, p:finish().rc)
  end)

  it("leave it also where save fails", function()
    local p <close> = policy.new()
    p:object "policy"
    p:write("p.lua", good { code = 'function policy.save() error "cannot save" end' })
    p:start()
    p:write("p.lua", good():gsub('"good"', '"next"'))
    local s = p:wait(function(now) return now.failures == 1 end)
    assert.matches("p%.lua:%d+: cannot save", s.last_error)
    assert.equal("good", s.version)
    uv.os_getpriority(who)
    support.until_true(function() return p:get "got" == 1 end)
  end)

  -- With each number of descriptors from none on: either all of the next version, or nothing. (No
  -- reader, as one is refused while the host has not many left.)
  it("leave it where the process has no more descriptors, wherever that strikes", function()
    local p <close> = policy.new()
    p:object "policy"
    p:write("p.lua", ([[
      local policy = { object = "p.bpf.o", persist = true, pin_root = "%s",
        attach = { on_getpriority = true, on_setpriority = true } }
      function policy.setup(obj)
        obj.vars.who = %d
        obj.progs.on_setpriority.autoload = true
      end
      function policy.start(ctx, state)
        ctx.state = { n = (state and state.n or 0) + 1 }
        ctx.vars.generation = ctx.state.n
        ctx:every(0.001, function() ctx.vars.got = ctx.state.n end)
      end
      return policy]]):format(ROOT, who))
    p:start()
    local pid = p:ask("status").pid
    local function links()
      local list = {}
      for i, link in ipairs(p:ask("status").links) do list[i] = link.id end
      return list
    end
    -- what is in force: one version's links, timer, stores
    local calls = 0
    local function whole(n, generation)
      calls = calls + 1
      uv.os_getpriority(who)
      assert.same({ calls, generation }, { p:get "calls", p:get "generation" }, n)
      p:ask("set", { path = "got", value = "0" })
      support.until_true(function() return p:get "got" == generation end)
    end
    local refused, complete, swaps = {}, 0, 1
    for n = 3, 400 do
      local before = links()
      assert.equal(0, run { "prlimit", "--pid", pid, "--nofile=" .. n .. ":" }.rc)
      local ok, result = pcall(p.ask, p, "reload", { fresh = true })
      assert.equal(0, run { "prlimit", "--pid", pid, "--nofile=1024:" }.rc)
      if ok then
        swaps = swaps + 1
        assert.not_same(before, links())
        assert.same({}, result.problems)
        local counted = not result.doubled[1].why and not result.doubled[2].why
        complete = complete + (counted and 1 or 0)
      else
        refused[tostring(result):match "^%a+ %a+"] = true
        assert.matches("EMFILE", tostring(result))
        assert.same(before, links())
      end
      assert.equal(swaps, p:ask("status").swaps)
      whole(n, swaps)
      if complete == 3 then break end
    end
    assert.equal(3, complete)
    for _, op in ipairs { "read policy", "open object", "load object", "swap policy", "pin map",
      "attach program" } do
      assert.is_true(refused[op], op)
    end
    assert.equal(0, p:finish().rc)
    p:start()
    assert.equal("adopted", p:ask("plan").why)
    whole("again", swaps + 1)
    p:ask "stop"
    p.process:wait()
  end)
end)
