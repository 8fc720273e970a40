-- SPDX-License-Identifier: BSD-2-Clause
-- persist = true: what is in force outlives its process, however that ends.
-- MB_SOAK=1 (make soak): 100 kills.
local uv = require "luv"
local bpf = require "moonbee"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"
local policy = require "support.policy"
local veth = require "support.veth"

local SOAK = os.getenv "MB_SOAK" == "1"
local KILLS = SOAK and 100 or support.slow and 3 or 10
local ROOT = "/sys/fs/bpf/moonbee-persist"
local PINS = ROOT .. "/_moonbee/p"
local PPS = 3000

local POLICY = [[
local policy = { object = "p.bpf.o", pin_root = "%s", persist = %s, version = "%s",
  attach = { count_xdp = { ifname = "%s" }, tail_xdp = false, on_getpriority = false } }
function policy.start(ctx, state)
  ctx.state = state or { generation = 0 }
  ctx.state.generation = ctx.state.generation + 1
  ctx.vars.generation = ctx.state.generation
  local got = bpf.ref(ctx.vars, "got")
  ctx:on("events", "struct event", function() got:add(1) end, "seq")
end
return policy
]]

local function names(dir)
  local found, scan = {}, uv.fs_scandir(dir)
  while scan do
    local name = uv.fs_scandir_next(scan)
    if not name then return found end
    if name ~= "_moonbee_owner" then found[#found + 1] = name end
  end
  return found
end

describe("a persistent policy #root", function()
  before_each(skip.root)
  after_each(function()
    if skip.is_root() then run { "/bin/rm", "-rf", ROOT } end
  end)

  local function new(pair, keys)
    keys = keys or {}
    local p = policy.new()
    p:object "policy"
    function p.edit(version, persist)
      p:write("p.lua", POLICY:format(ROOT, tostring(persist ~= false), version, pair.ifname))
    end
    p.edit("one", keys.persist)
    return p
  end

  -- One pin for each program that is loaded, each map, each link; links' programs are among them.
  local function consistent()
    local progs, kinds = {}, {}
    local link_prog
    for _, name in ipairs(names(PINS)) do
      local kind, rest = name:match "^(%a+)%-(.+)%-%x+$"
      local key = kind .. " " .. (kind == "link" and "" or rest)
      kinds[key] = (kinds[key] or 0) + 1
      local thing = bpf.pinned(PINS .. "/" .. name)
      if kind == "prog" then progs[thing.id] = rest end
      if kind == "link" then link_prog = thing.prog_id end
      thing:close()
    end
    for key, n in pairs(kinds) do assert.equal(1, n, key) end
    assert.equal("count_xdp", progs[link_prog])
    return kinds
  end

  local function pin_of(what)
    for _, name in ipairs(names(PINS)) do
      if name:find(what .. "-", 1, true) == 1 then return PINS .. "/" .. name end
    end
  end

  it("stays in force on SIGTERM, and is taken over with its state", function()
    local pair <close> = veth.new()
    local p <close> = new(pair)
    p:start()
    local sender = pair:send(PPS)
    support.until_true(function() return p:get "got" > 100 end)
    assert.equal(0, p:finish().rc)
    consistent()
    do -- packets come while nobody reads
      local vars <close> = bpf.pinned(pin_of "map-+bss")
      local counted = bpf.ref(vars:mmap()[0], "counted")
      local before = counted:get()
      support.until_true(function() return counted:get() > before + 100 end)
    end
    p.edit "two"
    p:start()
    assert.equal("adopted", p:ask("plan").why)
    assert.equal("updated", p:ask("plan").links[1].action)
    assert.equal("kept", p:ask("plan").maps.events.action)
    local sent = sender.stop()
    support.until_true(function() return p:get "got" >= sent end)
    assert.same({ sent, sent, 0, 2 },
      { p:get "got", p:get "counted", p:get "lost", p:get "generation" })
    consistent()
    run { support.moonbee, "ctl", "p", "stop" }
    assert.equal(0, p.process:wait().rc)
    assert.is_nil(uv.fs_stat(PINS))
  end)

  it("leaves pins and attachment where persist is taken back", function()
    local pair <close> = veth.new()
    local p <close> = new(pair)
    p:start()
    assert.is_true(#names(PINS) > 0)
    p.edit("two", false)
    p:wait(function(s) return s.version == "two" end)
    assert.same({}, names(PINS))
    assert.equal(0, p:finish().rc)
  end)

  it("has no gap, no orphan and no stale pin after kill -9 at any moment of a reload", function()
    local pair <close> = veth.new()
    local p <close> = new(pair)
    p:start()
    local sender = pair:send(PPS)
    support.until_true(function() return p:get "counted" > 10 end)
    math.randomseed(7)
    for i = 1, KILLS do
      -- a reload with a new object, or an edit, and the kill somewhere in it
      p.client:send(i % 3 == 0 and "rollback" or "reload", { fresh = i % 2 == 0 }, nil,
        function() end)
      if i % 4 == 0 then p.edit("v" .. i) end
      uv.run "nowait"
      uv.sleep(math.random(0, 60))
      p:kill9()
      p:start()
      consistent()
    end
    local sent = sender.stop()
    support.until_true(function() return p:get "counted" >= sent end)
    assert.same({ sent, 0 }, { p:get "counted", p:get "lost" })
    support.until_true(function() return p:get "got" >= sent end)
    -- the record that a kill found in its handler's turn is read once more
    assert.is_true(p:get "got" - sent <= KILLS, p:get "got" - sent)
    assert.is_true(sent > KILLS * 10)
    assert.equal("running", p:ask("status").state)
    run { support.moonbee, "ctl", "p", "stop" }
    assert.equal(0, p.process:wait().rc)
    assert.same({}, names(PINS))
    if KILLS >= 100 then
      print(("soak: %d kills, %d packets sent and counted"):format(KILLS, sent))
    end
  end)

  -- unlink, unlinkat, rename, renameat, renameat2, symlink, symlinkat; bpf (last) is called often
  local CALLS = { x86_64 = { 87, 263, 82, 264, 316, 88, 266, 321 },
    aarch64 = { 35, 38, 276, 36, 280 } }

  it("has its link and its pin wherever in a reload a kill strikes", function()
    local calls = CALLS[uv.os_uname().machine]
    skip.unless(calls ~= nil, "system calls have other numbers here")
    local strike <close> = support.open("strike")
    for i = 1, SOAK and #calls or #calls - 1 do strike.vars.calls[i - 1] = calls[i] end
    strike:load()
    strike:attach()
    local pair <close> = veth.new()
    local p <close> = new(pair)
    -- the link goes over to a program of another name, and so does its pin
    local function edit(on, off)
      p:write("p.lua", (POLICY:format(ROOT, "true", on, pair.ifname)
        :gsub("count_xdp = (%b{}), tail_xdp", on .. " = %1, " .. off)))
    end
    edit("count_xdp", "tail_xdp")
    p:start()
    local sender = pair:send(PPS)
    local at, kills = 0, 0
    repeat
      at = at + 1
      edit("count_xdp", "tail_xdp")
      p:wait(function(s) return s.version == "count_xdp" end)
      p:ask "plan" -- it is over
      strike.vars.struck, strike.vars.seen, strike.vars.at = 0, 0, at
      strike.vars.who = p:ask("status").pid
      edit("tail_xdp", "count_xdp")
      support.until_true(function()
        uv.run "nowait"
        if p.process.code then return true end
        local ok, s = pcall(p.ask, p, "status")
        return ok and s.version == "tail_xdp"
      end)
      pcall(p.ask, p, "plan") -- it is over
      strike.vars.who = 0
      if strike.vars.struck == 1 then
        kills = kills + 1
        local links = 0
        for _, name in ipairs(names(PINS)) do
          if name:find "^link%-" then
            links = links + 1
            local link <close> = bpf.pinned(PINS .. "/" .. name)
            assert.equal(pair.ifname, link.info.ifname, at)
          end
        end
        assert.equal(1, links, at)
        p:kill9()
        p:start()
        assert.equal("tail_xdp", p:ask("status").version)
      end
    until strike.vars.seen < at
    local sent = sender.stop()
    support.until_true(function() return p:get "counted" + p:get "tailed" >= sent end)
    assert.equal(sent, p:get "counted" + p:get "tailed")
    assert.is_true(kills > 2, kills)
    if SOAK then print(("soak: killed at each of %d steps of a reload"):format(kills)) end
    run { support.moonbee, "ctl", "p", "stop" }
    assert.equal(0, p.process:wait().rc)
    assert.same({}, names(PINS))
  end)
end)
