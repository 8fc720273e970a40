-- SPDX-License-Identifier: BSD-2-Clause
-- An edit that changes the types of maps and events: entries go over by field, records are read as
-- what they are.
local uv = require "luv"
local bpf = require "moonbee"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"
local policy = require "support.policy"

local ENTRIES = support.slow and 5000 or 100000
local ROOT = "/sys/fs/bpf/moonbee-migrate"

local POLICY = [[
local policy = { object = "p.bpf.o", on_mismatch = "migrate", persist = true, pin_root = "%s",
  attach = { on_getpriority = true, tail_xdp = false } }
function policy.setup(obj) obj.vars.who = %d end
function policy.start(ctx, state)
  ctx.state = state or { last = 0 }
  local got, gaps = bpf.ref(ctx.vars, "got"), bpf.ref(ctx.vars, "gaps")
  ctx:on("events", "struct event", function(ev)
    -- what another layout would show is out of these bounds
    if ev.cpu > 4096 or ev.seq > 1 << 40 or (bpf.has(ev, "version") and ev.version ~= 2) then
      gaps:add(1)
    end
    got:add(1)
  end)
end
return policy
]]

describe("migration of a policy's maps #root", function()
  before_each(skip.root)
  after_each(function()
    if skip.is_root() then run { "/bin/rm", "-rf", ROOT } end
  end)

  local who = math.tointeger(uv.os_getpid())

  local function pinned(name)
    local dir = ROOT .. "/_moonbee/p"
    local scan = uv.fs_scandir(dir)
    while true do
      local file = uv.fs_scandir_next(scan)
      if file:find("map-" .. name .. "-", 1, true) == 1 then
        return bpf.pinned(dir .. "/" .. file)
      end
    end
  end

  it("takes fields over that were gained, lost, widened, and put in another order", function()
    local p <close> = policy.new()
    p:object "policy"
    p:write("p.lua", POLICY:format(ROOT, who))
    p:start()
    local old <close> = pinned "flows"
    local keys, values = {}, {}
    for i = 1, ENTRIES do
      keys[i], values[i] = i, { packets = i, gone = 7, bytes = i << 20 }
    end
    old:set_many(keys, values)
    local file <close> = assert(io.open(support.fixture "policy_changed", "rb"))
    p:write("p.bpf.o", file:read "a")
    local s = p:wait(function(now) return now.swaps == 2 or now.failures > 0 end)
    assert.equal("", s.last_error or "")
    local plan = p:ask "plan"
    assert.equal("migrated", plan.maps.flows.action)
    assert.equal(ENTRIES, plan.maps.flows.entries)
    assert.matches("packets", plan.maps.flows.why)
    local new <close> = pinned "flows"
    local n, wrong = 0, 0
    for key, packets, bytes, fresh in new:pairs("packets", "bytes", "fresh") do
      n = n + 1
      if packets ~= key or bytes ~= key << 20 or fresh ~= 0 then wrong = wrong + 1 end
    end
    assert.same({ ENTRIES, 0 }, { n, wrong })
  end)

  it("leaves pins to what is in force until the next version is", function()
    local p <close> = policy.new()
    local function edit(how, start)
      p:write("p.lua", ([[return { object = "p.bpf.o", pin_root = "%s", on_mismatch = "%s",
        start = function() %s end }]]):format(ROOT, how, start or ""))
    end
    local function id()
      local m <close> = bpf.pinned(ROOT .. "/flows")
      return m.id
    end
    p:object "upgrade"
    edit "replace"
    p:start()
    for n, how in ipairs { "replace", "migrate" } do
      local before = id()
      edit(how, "error 'no'")
      p:object(n == 1 and "upgrade_new" or "upgrade")
      p:ask_error "reload"
      p:ask("reload", { dry_run = true })
      assert.equal(before, id())
      edit(how)
      p:wait(function(s) return s.swaps == n + 1 end)
      assert.equal(how .. "d", p:ask("plan").maps.flows.action)
      assert.not_equal(before, id())
    end
  end)

  for _, persist in ipairs { false, true } do
    it(("leaves pins to the last good version where a start fails%s"):format(persist
      and ", also what persist left in force" or ""), function()
      local p <close> = policy.new()
      local function edit(version, how, start)
        p:write("p.lua", ([[return { object = "p.bpf.o", pin_root = "%s", on_mismatch = %s,
          persist = %s, version = "%s", start = function() %s end }]]):format(ROOT, how, persist,
          version, start or ""))
      end
      local function there()
        local m <close> = bpf.pinned(ROOT .. "/flows")
        local value = m:get(7)
        return { m.id, value and value.packets }
      end
      p:object "upgrade"
      edit("good", '"error"')
      p:start()
      do
        local m <close> = bpf.pinned(ROOT .. "/flows")
        m:set(7, { packets = 70, seq = 1, rate = 2, gone = 3 })
      end
      local before = there()
      assert.equal(70, before[2])
      p:finish()
      for _, how in ipairs { '"replace"', '"migrate"', 'function() return "replace" end' } do
        p:object "upgrade_new"
        edit("bad", how, "error 'no'")
        p:start()
        local s = p:ask "status"
        assert.same({ "degraded", "good" }, { s.state, s.version })
        assert.same(before, there())
        assert.equal("kept", p:ask("plan").maps.flows.action)
        p:finish()
      end
      edit("mended", '"migrate"')
      p:start()
      assert.equal("migrated", p:ask("plan").maps.flows.action)
      local after = there()
      assert.not_equal(before[1], after[1])
      assert.equal(70, after[2])
      run { support.moonbee, "ctl", "p", "stop" }
    end)
  end

  it("asks a function of on_mismatch the same at a start and at a reload", function()
    local p <close> = policy.new()
    local function edit(version)
      p:write("p.lua", ([[return { object = "p.bpf.o", pin_root = "%s", version = "%s",
        on_mismatch = function(diff, name)
          if name == "flows" then
            print("asked", name, diff.map, #diff, diff[1].what, diff[1].field, diff.text)
          end
          return "replace"
        end, start = function() end }]]):format(ROOT, version))
    end
    local function asked(from)
      local text = p.process.err:match("asked[^\n]*", from)
      assert.is_string(text, p.process.err)
      return text
    end
    p:object "upgrade"
    edit "one"
    p:start()
    p:object "upgrade_new"
    p:wait(function(s) return s.swaps == 2 end)
    local at_reload = asked()
    p:finish()
    p:object "upgrade" -- what is pinned is the new one's
    p:start()
    p:object "upgrade_new"
    p:wait(function(s) return s.swaps == 2 end)
    p:finish()
    p:object "upgrade"
    p:start()
    p:finish()
    p:object "upgrade_new"
    p:start()
    assert.equal(at_reload, asked())
    assert.matches("asked\tflows\tflows\t%d+\tmap\tvalue size\t.*field 'gone' is gone", at_reload)
  end)

  it("takes a map as it is where on_mismatch says adopt or keep", function()
    local p <close> = policy.new()
    local function edit(how, entries, object)
      if object then p:object(object) end
      p:write("p.lua", ([[return { object = "p.bpf.o", pin_root = "%s", on_mismatch = "%s",
        setup = function(obj) obj.maps.flows.max_entries = %d end,
        start = function() end }]]):format(ROOT, how, entries))
    end
    edit("error", 100, "upgrade")
    p:start()
    edit("adopt", 200)
    p:wait(function(s) return s.swaps == 2 end)
    assert.equal("kept", p:ask("plan").maps.flows.action)
    local id
    do
      local m <close> = bpf.pinned(ROOT .. "/flows")
      id = m.id
      assert.equal(100, m.max_entries)
    end
    p:finish()
    edit("keep", 300) -- by a start
    p:start()
    local m <close> = bpf.pinned(ROOT .. "/flows")
    assert.same({ id, 100 }, { m.id, m.max_entries })
    edit("error", 400)
    p:wait(function(s) return s.failures == 1 end)
    assert.matches("max_entries", p:ask("status").last_error)
    edit("adopt", 100, "upgrade_new")
    p:wait(function(s) return s.failures > 1 end)
    assert.matches('"adopt" takes max_entries and flags as they are, nothing else',
      p:ask("status").last_error)
  end)

  it("fails before anything is in force where there can be no pins", function()
    local p <close> = policy.new()
    p:object "upgrade"
    p:write("p.lua", [[return { object = "p.bpf.o", pin_root = "/tmp/moonbee-no-bpffs",
      start = function() print "started" end }]])
    local r = p:run():wait()
    assert.equal(1, r.rc)
    assert.matches("^moonbee: prepare pins '/tmp/moonbee%-no%-bpffs'", r.err)
    assert.not_matches("started", r.err)
  end)

  it("misreads no record of an event type that changed", function()
    local p <close> = policy.new()
    p:object "policy"
    p:write("p.lua", POLICY:format(ROOT, who))
    p:start()
    local calls = 0
    for round = 1, 4 do
      local name = round % 2 == 1 and "policy_changed" or "policy"
      local file <close> = assert(io.open(support.fixture(name), "rb"))
      p:write("p.bpf.o", file:read "a")
      for _ = 1, 40 do
        uv.os_getpriority(who)
        calls = calls + 1
        uv.sleep(1)
      end
      local s = p:wait(function(now) return now.swaps == round + 1 or now.failures > 0 end)
      assert.equal("", s.last_error or "")
      assert.equal("new", p:ask("plan").maps.events.action)
    end
    support.until_true(function() return p:get "got" >= p:get "calls" end)
    assert.equal(p:get "calls", p:get "got")
    assert.is_true(p:get "got" >= calls)
    assert.equal(0, p:get "gaps")
  end)
end)
