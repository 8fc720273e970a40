-- SPDX-License-Identifier: BSD-2-Clause
-- Links that take another program: nothing escapes under traffic; struct_ops; order; what fails
-- leaves all as it was; prog arrays; what is refused says what is missing.
local uv = require "luv"
local bpf = require "moonbee"
local hooks = require "support.hooks"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"

local mistake, refusal = support.mistake, support.refusal
local PID = uv.os_getpid()
local DIR = ("/sys/fs/bpf/mbnext-%d"):format(PID)
local LIBBPF = support.libbpf
local CONTROL = "/proc/sys/net/ipv4/tcp_congestion_control"

-- The fixture with these programs loaded.
local function load(...)
  local obj = support.open "links"
  for _, name in ipairs { ... } do obj.progs[name].autoload = true end
  obj.vars.who = PID
  return obj:load()
end

local function read(path)
  local file <close> = assert(io.open(path))
  return file:read "l"
end

-- A congestion control in force for new connections of this network namespace, for the time of fn.
local function controlled_by(name, fn)
  local before = read(CONTROL)
  local function set(what)
    local file <close> = assert(io.open(CONTROL, "w"))
    assert(file:write(what) and file:flush())
  end
  local _ <close> = setmetatable({}, { __close = function() set(before) end })
  set(name)
  return fn()
end

local function connection_counts(obj, name)
  local before = obj.vars[name]
  controlled_by("moonbee", hooks.tcp)
  support.until_true(function() return obj.vars[name] > before end)
end

describe("a link and its next program #root", function()
  setup(function()
    if skip.is_root() then hooks.setup() end
  end)
  teardown(function()
    if skip.is_root() then hooks.teardown() end
  end)
  before_each(skip.root)
  after_each(function()
    require "support.leaks".remove(DIR)
  end)

  describe("under traffic", function()
    local UPDATES = support.slow and 100 or 1000

    -- A process of its own that sends all the time, also in the middle of an update; it says how
    -- many it has sent when it is told to stop.
    local SENDER = [[
local uv = require "luv"
local from, to = arg[1], arg[2]
local udp = uv.new_udp()
assert(udp:bind(from, 0))
udp:set_broadcast(true)
local sent, stop = 0, false
local signal = uv.new_signal()
signal:start("sigterm", function() stop = true end)
io.stdout:write("ready\n")
io.stdout:flush()
while not stop do
  for _ = 1, 50 do
    if udp:try_send("moonbee", to, 9) then sent = sent + 1 end
  end
  uv.run "nowait"
end
io.stdout:write("sent ", sent, "\n")
io.stdout:flush()
os.exit(0)
]]

    local function beside_a_sender(from, to, fn)
      local path = os.tmpname()
      local file = assert(io.open(path, "w"))
      file:write(SENDER)
      file:close()
      local _ <close> = setmetatable({}, { __close = function() os.remove(path) end })
      local p <close> = run.start({ "lua5.4", path, from, to }, { timeout = 120 })
      p:expect "ready"
      fn()
      p:kill "sigterm"
      return tonumber(p:expect "sent (%d+)")
    end

    -- Packets that came faster than they could be taken, before any program saw them.
    local function overrun()
      local n = 0
      for line in io.lines "/proc/net/softnet_stat" do
        n = n + tonumber(line:match "^%x+ (%x+)", 16)
      end
      return n
    end

    local function updates(obj, link, a, b, from, to)
      local before, lost = obj.vars.a + obj.vars.b, overrun()
      local sent = beside_a_sender(from, to, function()
        for i = 1, UPDATES do
          local name = i % 2 == 1 and "b" or "a"
          local seen = obj.vars[name]
          link:update(name == "b" and b or a)
          support.until_true(function() return obj.vars[name] > seen end)
        end
      end)
      assert.is_true(sent >= UPDATES)
      support.until_true(function()
        return obj.vars.a + obj.vars.b + overrun() - lost >= before + sent
      end)
      assert.equal(before + sent, obj.vars.a + obj.vars.b + overrun() - lost)
    end

    it("lets no packet pass XDP uncounted", function()
      local obj <close> = load("xdp_a", "xdp_b")
      local link <close> = obj.progs.xdp_a:attach { ifname = hooks.here, mode = "generic" }
      updates(obj, link, obj.progs.xdp_a, obj.progs.xdp_b, hooks.address, hooks.broadcast)
    end)

    it("lets no packet pass tcx uncounted", function()
      skip.unless "tcx"
      local obj <close> = load("tc_a", "tc_b")
      local link <close> = obj.progs.tc_a:attach { ifname = hooks.here, direction = "ingress" }
      updates(obj, link, obj.progs.tc_a, obj.progs.tc_b, hooks.address, hooks.broadcast)
    end)

    it("lets no packet pass a control group uncounted", function()
      skip.unless(hooks.has_cgroup, "no cgroup v2 file system is mounted")
      hooks.in_cgroup(function(path)
        local obj <close> = load("cgroup_skb_egress_a", "cgroup_skb_egress_b")
        local a, b = obj.progs.cgroup_skb_egress_a, obj.progs.cgroup_skb_egress_b
        local link <close> = a:attach { cgroup = path }
        updates(obj, link, a, b, "127.0.0.1", "127.0.0.1")
      end)
    end)
  end)

  describe("of struct_ops", function()
    local function linked()
      skip.unless(LIBBPF >= 102, "libbpf " .. bpf.libbpf_version .. " does not know them")
      skip.unless "struct_ops_link"
      return support.load "linked"
    end

    it("is updated by another map of the same name", function()
      local obj <close> = linked()
      local link <close> = obj.maps.linked_a:attach()
      assert.same({ "struct_ops", "linked_a" }, { link.type, link.name })
      assert.equal(obj.maps.linked_a.id, link.info.map_id)
      connection_counts(obj, "a")
      link:update(obj.maps.linked_b)
      connection_counts(obj, "b")
      assert.equal("updated", link:replace(obj.maps.linked_a))
      assert.equal("linked_a", link.name)
      connection_counts(obj, "a")
    end)

    it("is updated by the map of another object, and through a pin", function()
      local old = linked()
      local new <close> = support.load "linked"
      local link = old.maps.linked_a:attach()
      link:pin(DIR .. "/link")
      assert.equal("updated", link:replace(new.maps.linked_a))
      old:close()
      assert.is_false(link.closed)
      connection_counts(new, "a")
      link:close()
      local pinned <close> = bpf.pinned(DIR .. "/link")
      assert.equal("updated", pinned:replace(new.maps.linked_b))
      connection_counts(new, "b")
      pinned:detach()
    end)

    it("refuses programs, other maps, and what is no struct_ops map", function()
      local obj <close> = linked()
      local others <close> = load "xdp_a"
      local link <close> = obj.maps.linked_a:attach()
      assert.matches("takes another struct_ops map",
        refusal(link.update, link, others.progs.xdp_a).cause)
      assert.matches("is no struct_ops map", refusal(link.update, link, others.maps.numbers).cause)
      assert.equal("attach map 'numbers': a map of type array is not attached (EINVAL)\n" ..
        "hint: struct_ops maps are; programs are by prog:attach",
        tostring(refusal(function() others.maps.numbers:attach() end)))
      assert.equal("EEXIST", refusal(function() obj.maps.linked_b:attach() end).code)
      connection_counts(obj, "a")
    end)

    it("goes with all of its object's", function()
      local obj <close> = linked()
      -- two of one name: all or none
      assert.equal("EEXIST", refusal(obj.attach, obj).code)
      local plain <close> = support.load "ops"
      local links = plain:attach()
      assert.equal("struct_ops", links.plain.type)
      connection_counts(plain, "a")
    end)

    it("without a link is in force as long as ours is, and overlaps", function()
      local obj <close> = support.load "ops"
      local link = obj.maps.plain:attach()
      assert.same({ "struct_ops" }, { link.type, link.id, link.fd })
      connection_counts(obj, "a")
      assert.equal("EOPNOTSUPP", refusal(link.update, link, obj.maps.other).code)
      assert.equal("EOPNOTSUPP", refusal(link.pin, link, DIR .. "/link").code)
      assert.equal("overlapped", link:replace(obj.maps.other))
      assert.equal("other", link.name)
      assert.is_nil(read "/proc/sys/net/ipv4/tcp_available_congestion_control":find "moonbee ")
      link:close()
      assert.is_nil(read "/proc/sys/net/ipv4/tcp_available_congestion_control":find "moonbee")
    end)

    it("without a link leaves a gap for one of the same name, only if allowed", function()
      local old <close> = support.load "ops"
      local new <close> = support.load "ops"
      local link <close> = old.maps.plain:attach()
      local err = refusal(link.replace, link, new.maps.plain)
      assert.equal("EEXIST", err.code)
      assert.matches("gap = true", err.hint)
      connection_counts(old, "a")
      assert.equal("gap", link:replace(new.maps.plain, { gap = true }))
      local seen = old.vars.a
      connection_counts(new, "a")
      assert.equal(seen, old.vars.a)
    end)

    it("may be a scheduler", function()
      skip.unless(LIBBPF >= 104, "libbpf " .. bpf.libbpf_version .. " does not know them")
      skip.unless "sched_ext"
      local obj <close> = support.load "scx"
      local link <close> = obj.maps.scx_a:attach()
      support.until_true(function() return obj.vars.a > 0 end)
      assert.equal("enabled", read "/sys/kernel/sched_ext/state")
      local err = refusal(link.replace, link, obj.maps.scx_b)
      assert.matches("gap = true", err.hint)
      assert.equal("gap", link:replace(obj.maps.scx_b, { gap = true }))
      support.until_true(function() return obj.vars.b > 0 end)
      link:detach()
      support.until_true(function() return read "/sys/kernel/sched_ext/state" == "disabled" end)
    end)

    it("that this libbpf would drop is an error", function()
      skip.unless(LIBBPF < 102, "libbpf " .. bpf.libbpf_version .. " knows them")
      local err = refusal(support.open, "linked")
      assert.equal("EOPNOTSUPP", err.code)
      assert.matches("%.struct_ops%.link", err.cause)
      assert.matches("libbpf 1%.2", err.hint)
    end)

    it("needs a kernel that has links for it", function()
      skip.unless(LIBBPF >= 102, "libbpf " .. bpf.libbpf_version .. " does not know them")
      skip.unless(not skip.has "struct_ops_link", "this kernel has them")
      local obj <close> = support.open "linked"
      local err = refusal(obj.load, obj)
      assert.equal("EOPNOTSUPP", err.code)
      assert.matches("Linux 6%.4", err.hint)
    end)
  end)

  it("stands where it was told among others", function()
    skip.unless "tcx"
    skip.unless(LIBBPF >= 103, "libbpf " .. bpf.libbpf_version .. " cannot order them")
    local obj <close> = load("tc_a", "tc_b", "tcx_ingress_a", "tcx_ingress_b")
    local here = { ifname = hooks.here, direction = "ingress" }
    local function at(prog, place)
      for k, v in pairs(here) do place[k] = place[k] or v end
      return prog:attach(place)
    end
    local first <close> = at(obj.progs.tc_a, {})
    local last <close> = at(obj.progs.tc_b, { after = first })
    local mid <close> = at(obj.progs.tcx_ingress_a, { before = last })
    local head <close> = at(obj.progs.tcx_ingress_b, { place = "first" })
    local json = run { "bpftool", "-j", "net", "show", "dev", hooks.here }
    local order = {}
    for name in json.out:gmatch '"kind":"tcx/ingress".-"name":"([%w_]+)"' do
      order[#order + 1] = name
    end
    if #order > 0 then -- bpftool knows tcx from 7.3 on
      assert.same({ "tcx_ingress_b", "tc_a", "tcx_ingress_a", "tc_b" }, order)
    end
    assert.same({ "tcx", "tcx" }, { mid.type, head.type })
    assert.matches("exclude each other",
      mistake(function() at(obj.progs.tc_a, { before = last, place = "first" }) end))
    assert.matches("a link or a program, not a number",
      mistake(function() at(obj.progs.tc_a, { before = 5 }) end))
    assert.matches("first or last", mistake(function() at(obj.progs.tc_a, { place = "mid" }) end))
  end)

  it("comes back when its next program cannot be attached after a gap", function()
    skip.unless "netfilter_link"
    skip.unless(LIBBPF >= 103, "libbpf " .. bpf.libbpf_version .. " does not know netfilter")
    local obj <close> = load("netfilter_a", "netfilter_b", "wrong")
    local where = { family = "ipv4", hook = "output", priority = -7 }
    local link <close> = obj.progs.netfilter_a:attach(where)
    link:pin(DIR .. "/link")
    assert.equal("gap", link:replace(obj.progs.netfilter_b, { gap = true }))
    local pinned <close> = bpf.pinned(DIR .. "/link")
    assert.equal(obj.progs.netfilter_b.id, pinned.prog_id)
    assert.equal("EINVAL", refusal(link.replace, link, obj.progs.wrong, { gap = true }).code)
    assert.same({ obj.progs.netfilter_b.id, DIR .. "/link" }, { link.prog_id, link.pin_path })
    hooks.udp "127.0.0.1"
    support.until_true(function() return obj.vars.b > 0 end)
    link:unpin()
  end)

  it("leaves a pin alone that is another's by the time of a gap", function()
    skip.unless "netfilter_link"
    skip.unless(LIBBPF >= 103, "libbpf " .. bpf.libbpf_version .. " does not know netfilter")
    local obj <close> = load("netfilter_a", "netfilter_b", "xdp_a")
    local link <close> = obj.progs.netfilter_a:attach { family = "ipv4", hook = "output",
      priority = -7 }
    local path = DIR .. "/link"
    link:pin(path)
    os.remove(path)
    obj.progs.xdp_a:pin(path) -- somebody else's, for all that the link knows
    local err = refusal(link.replace, link, obj.progs.netfilter_b, { gap = true })
    assert.matches("it is replaced, but not pinned any more", err.cause)
    local pinned <close> = bpf.pinned(path)
    assert.equal(obj.progs.xdp_a.id, pinned.id)
    assert.same({ obj.progs.netfilter_b.id, nil }, { link.prog_id, link.pin_path })
    os.remove(path)
  end)

  it("refuses wrong uses of replace", function()
    local obj <close> = load("xdp_a", "xdp_b")
    local link <close> = obj.progs.xdp_a:attach { ifname = hooks.here }
    assert.matches("replace has no option 'gaps'",
      mistake(function() link:replace(obj.progs.xdp_b, { gaps = true }) end))
    assert.matches("is a boolean, not a number",
      mistake(function() link:replace(obj.progs.xdp_b, { gap = 1 }) end))
    assert.matches("moonbee.program expected, got table",
      mistake(function() link:replace {} end))
    link:close()
    assert.matches("closed", mistake(function() link:replace(obj.progs.xdp_b) end))
  end)

  it("is not pinned without the prog array that its program needs", function()
    local obj <close> = support.load "tail"
    local link <close> = obj.progs.entry:attach { ifname = hooks.here }
    assert.equal([[
pin link 'entry': its program tail-calls through 'jumps', which ends with this process (EBUSY)
hint: pin that map first: the kernel empties a prog array that nobody holds]],
      tostring(refusal(link.pin, link, DIR .. "/link")))
    obj.maps.jumps:set(0, obj.progs.target)
    hooks.packet()
    support.until_true(function() return obj.vars.reached > 0 end)
    obj.maps.jumps:pin(DIR .. "/map")
    link:pin(DIR .. "/link")
    obj:close()
    local jumps <close> = bpf.pinned(DIR .. "/map")
    local pinned <close> = bpf.pinned(DIR .. "/link")
    local target <close> = jumps:get(0)
    local vars = bpf.vars(target)
    local before = vars.reached
    hooks.packet()
    support.until_true(function() return vars.reached > before end)
    pinned:detach()
    jumps:unpin()
  end)

  describe("that is refused says", function()
    it("which name is near", function()
      local obj <close> = load("uprobe_a", "raw_tp_a", "tracepoint_a", "xdp_a", "perf_event_a")
      local progs = obj.progs
      local cases = {
        { progs.uprobe_a, { binary = "libc.so.6", ["function"] = "getpriorty" }, "getpriority" },
        { progs.raw_tp_a, { tracepoint = "sys_entr" }, "sys_enter" },
        { progs.tracepoint_a, { tracepoint = "syscalls:sys_enter_getpriorty" },
          "sys_enter_getpriority" },
        { progs.xdp_a, { ifname = hooks.here .. "x" }, hooks.here },
        { progs.perf_event_a, { event = "cpu-clok" }, "cpu-clock" },
      }
      for _, case in ipairs(cases) do
        local err = refusal(case[1].attach, case[1], case[2])
        assert.is_true(err.hint:find("did you mean '", 1, true) == 1, err.hint)
        assert.is_truthy(err.hint:find(case[3], 1, true), err.hint)
      end
      assert.equal("ENOENT", refusal(progs.uprobe_a.attach, progs.uprobe_a,
        { binary = "libmoonbee-none.so" }).code)
      assert.equal("ENOEXEC", refusal(progs.uprobe_a.attach, progs.uprobe_a,
        { binary = "/etc/passwd", ["function"] = "x" }).code)
    end)

    it("which function of the kernel is near", function()
      skip.unless "kprobe"
      local obj <close> = load("kprobe_a", "ksyscall_a")
      assert.matches("did you mean '__x64_sys_getpriority'", refusal(function()
        obj.progs.kprobe_a:attach { ["function"] = "__x64_sys_getpriorty" }
      end).hint)
      assert.matches("did you mean '__x64_sys_getpriority'", refusal(function()
        obj.progs.ksyscall_a:attach { syscall = "getpriorty" }
      end).hint)
    end)

    it("that the kernel has no kprobes", function()
      skip.unless(not skip.has "kprobe", "this kernel has them")
      local obj <close> = load "kprobe_a"
      local err = refusal(function() obj.progs.kprobe_a:attach() end)
      assert.equal("attach program 'kprobe_a': there is no kprobe here (EOPNOTSUPP)\n" ..
        "hint: it needs a kernel with CONFIG_KPROBE_EVENTS", tostring(err))
    end)

    it("that the kernel has no tcx, and what does without", function()
      skip.unless(not skip.has "tcx", "this kernel has it")
      local obj <close> = load "tc_a"
      local err = refusal(function()
        obj.progs.tc_a:attach { ifname = hooks.here, direction = "ingress" }
      end)
      assert.equal("EOPNOTSUPP", err.code)
      assert.matches("Linux 6%.6.*clsact", err.hint)
    end)

    it("which libbpf knows a section", function()
      skip.unless(LIBBPF < 103, "libbpf " .. bpf.libbpf_version .. " knows them")
      local obj <close> = support.open "links"
      obj.progs.tcx_ingress_a.autoload = true
      local err = refusal(obj.load, obj)
      assert.equal("EOPNOTSUPP", err.code)
      assert.matches("libbpf 1%.3", err.hint)
    end)
  end)
end)
