-- SPDX-License-Identifier: BSD-2-Clause
-- Every kind of hook, by one table: attached, heard, updated or replaced, pinned, opened, detached.
-- A new kind is a pair of programs in spec/fixtures/links.bpf.c and a row here.
local lfs = require "lfs"
local uv = require "luv"
local bpf = require "moonbee"
local hooks = require "support.hooks"
local skip = require "support.skip"
local support = require "support.bpf"
local testing = require "mb_testing"

local refusal = support.refusal
local PID = uv.os_getpid()
local DIR = ("/sys/fs/bpf/mbkinds-%d"):format(PID)
local UDP4, UDP6 = function() hooks.udp "127.0.0.1" end, function() hooks.udp "::1" end
local PROBE = { binary = support.build .. "/lib/mb_testing.so", usdt = "moonbee:probe" }
local LIBBPF = support.libbpf

-- type: of the link. how: what replace says; "updated": update works, too. options: how it is
-- attached, a table or what the object gives; nil: by the section. also: other options that do, as
-- well. fire: makes the programs run; nil: nothing here does. needs: features of support/skip.lua.
-- libbpf: the first that knows it. pins = false: the kernel has no link for it. cookie: programs
-- get one.
local kinds = {
  -- probes and tracepoints
  kprobe = { type = "perf_event", how = "overlapped", fire = hooks.call, needs = "kprobe",
    cookie = true, also = { { ["function"] = "__x64_sys_getpriority", offset = 0 } } },
  kretprobe = { type = "perf_event", how = "overlapped", fire = hooks.call, needs = "kprobe",
    cookie = true, also = { { ["function"] = "__x64_sys_getpriority", retprobe = true } } },
  ksyscall = { type = "perf_event", how = "overlapped", fire = hooks.call, needs = "kprobe",
    cookie = true, also = { { syscall = "getpriority" },
      { ["function"] = "__x64_sys_getpriority" } } },
  kretsyscall = { type = "perf_event", how = "overlapped", fire = hooks.call, needs = "kprobe",
    cookie = true },
  kprobe_multi = { type = "kprobe_multi", how = "overlapped", fire = hooks.call,
    needs = "kprobe_multi", cookie = true,
    also = { { functions = { "__x64_sys_getpriority", "__x64_sys_setpriority" } },
      { functions = { __x64_sys_getpriority = 5, __x64_sys_setpriority = 6 }, cookie = 5 } } },
  kretprobe_multi = { type = "kprobe_multi", how = "overlapped", fire = hooks.call,
    needs = "kprobe_multi", cookie = true },
  kprobe_session = { type = "kprobe_multi", how = "overlapped", fire = hooks.call,
    needs = { "kprobe_multi", "kprobe_session" }, libbpf = 105 },
  uprobe = { type = "perf_event", how = "overlapped", fire = hooks.call, needs = "uprobe",
    cookie = true, also = { { pid = PID },
      { binary = "libc.so.6", ["function"] = "getpriority" },
      { binary = "libc.so.6", ["function"] = "getpriority", pid = PID } } },
  uretprobe = { type = "perf_event", how = "overlapped", fire = hooks.call, needs = "uprobe",
    cookie = true },
  uprobe_multi = { type = "uprobe_multi", how = "overlapped", fire = hooks.call,
    needs = "uprobe_multi", libbpf = 103, cookie = true, also = { { pid = PID },
      { binary = "libc.so.6", functions = { getpriority = 7, setpriority = 8 }, pid = PID } } },
  uretprobe_multi = { type = "uprobe_multi", how = "overlapped", fire = hooks.call,
    needs = "uprobe_multi", libbpf = 103, cookie = true },
  uprobe_session = { type = "uprobe_multi", how = "overlapped", fire = hooks.call,
    needs = "uprobe_session", libbpf = 106 },
  usdt = { type = "usdt", how = "overlapped", fixture = "usdt", needs = "uprobe", pins = false,
    fire = testing.probe, cookie = true, options = PROBE,
    also = { { binary = PROBE.binary, usdt = PROBE.usdt, pid = PID } } },
  tracepoint = { type = "perf_event", how = "overlapped", fire = hooks.call, cookie = true,
    also = { { tracepoint = "syscalls:sys_enter_getpriority" } } },
  raw_tp = { type = "raw_tracepoint", how = "overlapped", fire = hooks.call,
    also = { { tracepoint = "sys_enter" } } },
  perf_event = { type = "perf_event", how = "overlapped", fire = hooks.switch, cookie = true,
    options = { event = "context-switches", pid = PID },
    also = { { event = "context-switches", period = 2, pid = PID },
      { event = "task-clock", frequency = 1000, pid = PID } } },
  perf_event_on_all = { programs = "perf_event", type = "perf_event", how = "overlapped",
    fire = hooks.spin, options = { event = "cpu-clock", frequency = 1000 },
    pins = bpf.cpus.online[2] == nil },
  tp_btf = { type = "raw_tracepoint", how = "overlapped", fire = hooks.call },
  fentry = { type = "tracing", how = "overlapped", fire = hooks.call, needs = "fentry",
    cookie = true },
  fexit = { type = "tracing", how = "overlapped", fire = hooks.call, needs = "fentry",
    cookie = true },
  fmod_ret = { type = "tracing", how = "overlapped", fire = hooks.file, needs = "fentry" },
  lsm = { type = "tracing", how = "overlapped", fire = hooks.file, needs = "lsm" },
  lsm_sleepable = { type = "tracing", how = "overlapped", fire = hooks.file, needs = "lsm" },
  lsm_cgroup = { type = "cgroup", how = "updated", fire = UDP4, needs = "lsm", cgroup = true },
  iter = { type = "iter", how = "updated", reads = true, also = { { pid = PID } } },
  iter_map = { type = "iter", how = "updated", reads = true,
    options = function(obj) return { map = obj.maps.numbers } end },
  iter_cgroup = { type = "iter", how = "updated", reads = true, cgroup = true,
    needs = "iter_cgroup" },
  -- network
  xdp = { type = "xdp", how = "updated", fire = hooks.packet, options = { ifname = hooks.here },
    also = { { ifname = hooks.here, mode = "generic" },
      { ifname = hooks.here, mode = "native" } } },
  tcx_ingress = { type = "tcx", how = "updated", fire = hooks.packet, needs = "tcx", libbpf = 103,
    options = { ifname = hooks.here },
    also = { { ifname = hooks.here, place = "first" }, { ifname = hooks.here, place = "last" } } },
  tcx_egress = { type = "tcx", how = "updated", fire = hooks.packet, needs = "tcx", libbpf = 103,
    options = { ifname = hooks.there } },
  tcx = { programs = "tc", type = "tcx", how = "updated", fire = hooks.packet, needs = "tcx",
    options = { ifname = hooks.here, direction = "ingress" },
    also = { { ifname = hooks.there, direction = "egress", mode = "tcx" } } },
  clsact = { programs = "tc", type = "tc", how = "updated", fire = hooks.packet, pins = false,
    options = { ifname = hooks.here, direction = "ingress", mode = "clsact" },
    also = { { ifname = hooks.there, direction = "egress", mode = "clsact", priority = 7,
      handle = 3 } } },
  netkit_primary = { type = "netkit", how = "updated", fire = hooks.kit_packet, kit = true,
    libbpf = 103, options = { ifname = hooks.kit } },
  netkit_peer = { type = "netkit", how = "updated", kit = true, libbpf = 103,
    options = { ifname = hooks.kit } },
  netfilter = { type = "netfilter", how = "gap", fire = UDP4, needs = "netfilter_link",
    libbpf = 103, options = { family = "ipv4", hook = "output", priority = -7 },
    also = { { family = "ipv4", hook = "input", priority = 9, defrag = true } } },
  sk_lookup = { type = "netns", how = "updated", fire = UDP4, options = { netns = "self" },
    also = { { netns = "/proc/self/ns/net" } } },
  flow_dissector = { type = "netns", how = "updated", options = { netns = "self" } },
  sk_msg = { type = "sockmap", how = "updated",
    options = function(obj) return { map = obj.maps.sockets } end, pins = "kernel" },
  sk_skb_verdict = { type = "sockmap", how = "updated",
    options = function(obj) return { map = obj.maps.sockets } end, pins = "kernel" },
  sk_skb_parser = { type = "sockmap", how = "updated",
    options = function(obj) return { map = obj.maps.sockets } end, pins = "kernel" },
  socket = { type = "socket", how = "updated", socket = true, pins = false },
  -- control groups
  sockops = { fire = hooks.tcp },
  cgroup_skb_ingress = { fire = UDP4 },
  cgroup_skb_egress = { fire = UDP6 },
  cgroup_sock_create = { fire = UDP4 },
  cgroup_sock_release = { fire = UDP4 },
  cgroup_post_bind4 = { fire = UDP4 },
  cgroup_post_bind6 = { fire = UDP6 },
  cgroup_bind4 = { fire = UDP4 },
  cgroup_bind6 = { fire = UDP6 },
  cgroup_connect4 = { fire = UDP4 },
  cgroup_connect6 = { fire = UDP6 },
  cgroup_connect_unix = { fire = hooks.unix, needs = "cgroup_unix", libbpf = 103 },
  cgroup_sendmsg4 = { fire = UDP4 },
  cgroup_sendmsg6 = { fire = UDP6 },
  cgroup_sendmsg_unix = { needs = "cgroup_unix", libbpf = 103 },
  cgroup_recvmsg4 = { fire = UDP4 },
  cgroup_recvmsg6 = { fire = UDP6 },
  cgroup_recvmsg_unix = { needs = "cgroup_unix", libbpf = 103 },
  cgroup_getpeername4 = { fire = UDP4 },
  cgroup_getpeername6 = { fire = UDP6 },
  cgroup_getpeername_unix = { fire = hooks.unix, needs = "cgroup_unix", libbpf = 103 },
  cgroup_getsockname4 = { fire = UDP4 },
  cgroup_getsockname6 = { fire = UDP6 },
  cgroup_getsockname_unix = { fire = hooks.unix, needs = "cgroup_unix", libbpf = 103 },
  cgroup_getsockopt = { fire = UDP4 },
  cgroup_setsockopt = { fire = UDP4 },
  cgroup_sysctl = { fire = hooks.sysctl },
  cgroup_dev = { fire = hooks.file },
}
for name, kind in pairs(kinds) do
  kind.name = name
  if name:find "^cgroup_" or name == "sockops" then
    kind.type, kind.how, kind.cgroup = "cgroup", "updated", true
  end
end

-- --- what the tests share -----------------------------------------------------------------------

local function check_needs(kind)
  local needs = type(kind.needs) == "table" and kind.needs or { kind.needs }
  for _, feature in ipairs(needs) do skip.unless(feature) end
  skip.unless(LIBBPF >= (kind.libbpf or 0), "libbpf " .. bpf.libbpf_version .. " lacks it")
  if kind.cgroup then skip.unless(hooks.has_cgroup, "no cgroup v2 file system is mounted") end
end

-- What a test needs, for the time of fn(kind's environment).
local function with(kind, fn)
  check_needs(kind)
  local env = { fire = kind.fire }
  local function run()
    local obj <close> = support.open(kind.fixture or "links")
    local name = kind.programs or kind.name
    env.obj, env.a, env.b = obj, obj.progs[name .. "_a"], obj.progs[name .. "_b"]
    env.wrong = obj.progs.wrong
    for _, prog in ipairs { env.a, env.b, env.wrong } do prog.autoload = true end
    obj.vars.who = PID
    obj:load()
    local options = kind.options
    if type(options) == "function" then options = options(obj) end
    if env.cgroup then options = { cgroup = env.cgroup } end
    if env.socket then options = { socket = env.socket:fileno() } end
    env.options = options
    fn(env)
  end
  if kind.cgroup then
    hooks.in_cgroup(function(path)
      env.cgroup = path
      run()
    end)
  elseif kind.kit then
    skip.unless(hooks.netkit(run), "this kernel makes no netkit devices")
  elseif kind.socket then
    env.socket = uv.new_udp()
    assert(env.socket:bind("127.0.0.1", 0))
    env.fire = function()
      local sender = uv.new_udp()
      sender:try_send("moonbee", "127.0.0.1", env.socket:getsockname().port)
      sender:close()
    end
    local ok, err = pcall(run)
    env.socket:close()
    uv.run "nowait"
    if not ok then error(err, 0) end
  else
    run()
  end
end

-- Let what is attached run: `name` counts, and the other does not.
local function counts(kind, env, link, name)
  local other = name == "a" and "b" or "a"
  local fire = env.fire
  if kind.reads and pcall(function() return link.read end) then
    fire = function() link:read() end
  end
  if not fire then return end
  local was, before = env.obj.vars[other], env.obj.vars[name]
  support.until_true(function()
    fire()
    return env.obj.vars[name] > before
  end)
  assert.equal(was, env.obj.vars[other])
end

local function counts_nothing(kind, env)
  if not env.fire or kind.reads then return end
  local a, b = env.obj.vars.a, env.obj.vars.b
  env.fire()
  assert.same({ a, b }, { env.obj.vars.a, env.obj.vars.b })
end

local function merged(options, more)
  local all = {}
  for _, t in ipairs { options or {}, more } do
    for k, v in pairs(t) do all[k] = v end
  end
  return all
end

local function names()
  local list = {}
  for name in pairs(kinds) do list[#list + 1] = name end
  table.sort(list)
  return list
end

-- --- the tests ----------------------------------------------------------------------------------

describe("a link of every kind #root", function()
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

  local function takes_another(kind, env)
    local link <close> = env.a:attach(env.options)
    assert.same({ "link", kind.type, env.a.name }, { bpf.type(link), link.type, link.name })
    assert.equal(env.a.id, link.prog_id)
    assert.equal(link.id, link.info.id)
    counts(kind, env, link, "a")
    assert.equal(kind.how == "updated", link.updatable)
    -- in one step, or not at all
    if kind.how == "updated" then
      local id = link.id
      link:update(env.b)
      assert.same({ id, env.b.id, env.b.name }, { link.id, link.prog_id, link.name })
    else
      assert.equal("EOPNOTSUPP", refusal(link.update, link, env.b).code)
      assert.same({ env.a.id, env.a.name }, { link.prog_id, link.name })
      counts(kind, env, link, "a")
      if kind.how == "gap" then
        local err = refusal(link.replace, link, env.b)
        assert.matches("gap = true", err.hint)
        counts(kind, env, link, "a")
      end
      assert.equal(kind.how, link:replace(env.b, { gap = kind.how == "gap" }))
      assert.same({ env.b.id, env.b.name }, { link.prog_id, link.name })
    end
    counts(kind, env, link, "b")
    assert.equal(kind.how, link:replace(env.a, { gap = true }))
    counts(kind, env, link, "a")
    -- what is no program for this hook leaves the one that is there
    for _, method in ipairs { "update", "replace" } do
      local code = refusal(link[method], link, env.wrong).code
      assert.is_true(code == "EINVAL" or code == "EOPNOTSUPP", code)
    end
    assert.same({ env.a.id, env.a.name }, { link.prog_id, link.name })
    counts(kind, env, link, "a")
    link:close()
    counts_nothing(kind, env)
  end

  local function is_pinned(kind, env)
    local link = env.a:attach(env.options)
    local pins = kind.pins
    if pins == "kernel" then pins = link.id ~= nil end
    if pins == false then
      assert.equal("EOPNOTSUPP", refusal(link.pin, link, DIR .. "/link").code)
      assert.is_nil(lfs.attributes(DIR .. "/link"))
      link:detach()
      return
    end
    local id = link.id
    link:pin(DIR .. "/link")
    local twin <close> = bpf.pinned(DIR .. "/link")
    assert.same({ id, kind.type, env.a.id }, { twin.id, twin.type, twin.prog_id })
    assert.not_equal(link.fd, twin.fd)
    local info = link.info
    info.program = twin.info.program                     -- of a pin only its name is known
    assert.same(info, twin.info)
    link:close()
    counts(kind, env, twin, "a")
    if kind.how == "updated" then
      assert.equal("updated", twin:replace(env.b))
      counts(kind, env, twin, "b")
    else
      assert.matches("it comes from a pin", refusal(twin.replace, twin, env.b).cause)
      counts(kind, env, twin, "a")
    end
    twin:detach()
    assert.is_nil(lfs.attributes(DIR .. "/link"))
    counts_nothing(kind, env)
  end

  -- One that takes another program although it is pinned stays pinned at its place.
  local function moves_its_pin(kind, env)
    local link = env.a:attach(env.options)
    link:pin(DIR .. "/link")
    assert.equal(kind.how, link:replace(env.b, { gap = kind.how == "gap" }))
    assert.equal(DIR .. "/link", link.pin_path)
    local twin <close> = bpf.pinned(DIR .. "/link")
    assert.same({ link.id, env.b.id }, { twin.id, twin.prog_id })
    link:close()
    counts(kind, env, twin, "b")
    twin:detach()
    local entries = ""
    for entry in lfs.dir(DIR) do entries = entries .. (entry:find "^%." and "" or entry) end
    assert.equal("", entries)
  end

  local function takes_options(kind, env)
    for _, options in ipairs(kind.also or {}) do
      local link <close> = env.a:attach(options)
      counts(kind, env, link, "a")
    end
    if kind.cookie then
      local link <close> = env.a:attach(merged(env.options, { cookie = 0x123456789abc }))
      counts(kind, env, link, "a")
      assert.equal(0x123456789abc, env.obj.vars.cookie)
    end
    for _, bad in ipairs { { socket = 1, event = "x" }, { syscall = "x", ifname = "lo" } } do
      local err = refusal(function() env.a:attach(merged(env.options, bad)) end)
      assert.same({ "EINVAL", "attach program" }, { err.code, err.op })
      assert.matches("^prog:attach takes: ", err.hint)
    end
    counts_nothing(kind, env)
    -- the last one ends with its object
    local link = env.a:attach(env.options)
    env.obj:close()
    assert.is_true(link.closed)
    assert.matches("closed", support.mistake(function() link:update(env.b) end))
    link:close()
  end

  for _, name in ipairs(names()) do
    local kind = kinds[name]
    it(name .. " takes another program's place", function()
      with(kind, function(env) takes_another(kind, env) end)
    end)
    it(name .. " is pinned, opened and detached", function()
      with(kind, function(env) is_pinned(kind, env) end)
    end)
    if kind.pins == nil and kind.how ~= "updated" then
      it(name .. " stays pinned with another program", function()
        with(kind, function(env) moves_its_pin(kind, env) end)
      end)
    end
    it(name .. " takes its options and no others, and ends with its object", function()
      with(kind, function(env) takes_options(kind, env) end)
    end)
  end
end)
