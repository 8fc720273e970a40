-- SPDX-License-Identifier: BSD-2-Clause
-- Links: XDP on a veth pair of our own, tracepoints, raw tracepoints; update, detach, close, pin.
local lfs = require "lfs"
local uv = require "luv"
local bpf = require "moonbee"
local leaks = require "support.leaks"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"
local testing = require "mb_testing"

local mistake, refusal, load = support.mistake, support.refusal, support.load

local PID = ("%d"):format(uv.os_getpid())
local DIR = "/sys/fs/bpf/mbspec-" .. PID
-- Here and, in a network namespace, there. Names of interfaces have at most 15 letters.
local NETNS, HERE, THERE = "mbspec-" .. PID, "mba" .. PID, "mbb" .. PID
-- A network for documentation, which nothing else uses.
local ADDRESS, OTHER = "198.51.100.1", "198.51.100.2"

local function ip(...)
  local r = run { "ip", ... }
  assert(r.rc == 0, "ip " .. table.concat({ ... }, " ") .. ": " .. r.err)
  return r.out
end

local function call() uv.os_getpriority(0) end

describe("a link #root", function()
  local mac

  setup(function()
    if not skip.is_root() then return end
    ip("netns", "add", NETNS)
    ip("link", "add", HERE, "type", "veth", "peer", "name", THERE, "netns", NETNS)
    ip("address", "add", ADDRESS .. "/24", "dev", HERE)
    ip("link", "set", HERE, "up")
    ip("-n", NETNS, "address", "add", OTHER .. "/24", "dev", THERE)
    ip("-n", NETNS, "link", "set", THERE, "up")
    mac = ip("link", "show", HERE):match "link/ether (%S+)"
    ip("-n", NETNS, "neigh", "add", ADDRESS, "lladdr", mac, "dev", THERE, "nud", "permanent")
  end)

  teardown(function()
    if not skip.is_root() then return end
    run { "ip", "link", "delete", HERE }
    run { "ip", "netns", "delete", NETNS }
  end)

  before_each(skip.root)
  after_each(function()
    require "support.leaks".remove(DIR)
  end)

  -- One UDP packet from the other side.
  local function send()
    local r = run { "ip", "netns", "exec", NETNS, "bash", "-c",
      "echo moonbee >/dev/udp/" .. ADDRESS .. "/9" }
    assert.equal(0, r.rc, r.err)
  end

  -- Sends until a variable has grown: some packets may be someone else's (IPv6 says hello).
  local function grows(obj, name)
    local before = obj.vars[name]
    send()
    support.until_true(function() return obj.vars[name] > before end)
  end

  local function attached()
    return ip("link", "show", HERE):match "prog/xdp id (%d+)"
  end

  local function other_id(id)
    return tostring(math.tointeger(id))
  end

  describe("of XDP", function()
    it("attaches to an interface, and real packets come", function()
      local obj <close> = load "xdp"
      local link <close> = obj.progs.pass:attach { ifname = HERE, mode = "generic" }
      grows(obj, "passed")
      assert.equal("link", bpf.type(link))
      assert.equal("moonbee.link 'pass'", tostring(link))
      assert.same({ "pass", "xdp", obj.progs.pass.id }, { link.name, link.type, link.prog_id })
      assert.equal(other_id(obj.progs.pass.id), attached())
      local index = ip("link", "show", HERE):match "^(%d+):"
      assert.same({ id = link.id, type = "xdp", prog_id = obj.progs.pass.id, program = "pass",
        ifindex = tonumber(index), ifname = HERE }, link.info)
    end)

    it("attaches natively, too, and by the driver's best", function()
      local obj <close> = load "xdp"
      for _, mode in ipairs { "native", "generic", false } do
        local link <close> = obj.progs.pass:attach { ifname = HERE, mode = mode or nil }
        assert.is_true(link.id > 0)
        assert.equal(other_id(obj.progs.pass.id), attached())
      end
      assert.is_nil(attached())
    end)

    it("updates its program in one step", function()
      local obj <close> = load "xdp"
      local link <close> = obj.progs.pass:attach { ifname = HERE, mode = "generic" }
      local id = link.id
      grows(obj, "passed")
      link:update(obj.progs.drop)
      assert.same({ id, obj.progs.drop.id, "drop" }, { link.id, link.prog_id, link.name })
      local passed = obj.vars.passed
      grows(obj, "dropped")
      assert.equal(passed, obj.vars.passed)
      link:update(obj.progs.pass)
      grows(obj, "passed")
    end)

    it("goes over to the object of its new program", function()
      local old = load "xdp"
      local new <close> = load "xdp"
      local link <close> = old.progs.pass:attach { ifname = HERE, mode = "generic" }
      link:update(new.progs.pass)
      old:close()
      collectgarbage()
      assert.is_false(link.closed)
      grows(new, "passed")
      new:close()
      assert.is_true(link.closed)
      assert.is_nil(attached())
    end)

    it("keeps the object of its new program, whoever loses sight of it", function()
      local old <close> = load "xdp"
      local link <close> = old.progs.pass:attach { ifname = HERE, mode = "generic" }
      local vars
      do
        local new = load "xdp"
        vars = new.vars
        link:update(new.progs.pass)
      end
      collectgarbage()
      collectgarbage()
      grows({ vars = vars }, "passed")
    end)

    it("cannot take a program of another type", function()
      local obj <close> = load "xdp"
      local other <close> = load "hooks"
      local link <close> = obj.progs.pass:attach { ifname = HERE, mode = "generic" }
      for _, method in ipairs { "update", "replace" } do
        assert.equal("update link 'pass': 'on_call' is of type tracepoint, and the link's of " ..
          "xdp (EINVAL)", tostring(refusal(link[method], link, other.progs.on_call)))
      end
      assert.equal("pass", link.name)
      assert.equal(obj.progs.pass.id, link.prog_id)
      assert.matches("moonbee.program expected, got nil",
        mistake(function() link:update(nil) end))
    end)

    it("says that the interface is taken", function()
      local obj <close> = load "xdp"
      local _ <close> = obj.progs.pass:attach { ifname = HERE, mode = "generic" }
      assert.equal(([[
attach program 'drop': %s: Device or resource busy (EBUSY)
hint: another XDP program is on %s: see `ip link show %s`]]):format(HERE, HERE, HERE),
        tostring(refusal(function()
          obj.progs.drop:attach { ifname = HERE, mode = "generic" }
        end)))
    end)

    it("says that there is no such interface", function()
      local obj <close> = load "xdp"
      assert.equal([[
attach program 'pass': there is no network interface 'mbnone' (ENODEV)
hint: no such network interface; see `ip link`]],
        tostring(refusal(function() obj.progs.pass:attach { ifname = "mbnone" } end)))
    end)

    it("says that the section names no interface", function()
      local obj <close> = load "xdp"
      assert.equal([[
attach program 'pass': its section 'xdp' does not say where (EOPNOTSUPP)
hint: prog:attach takes: ifname, perhaps mode (XDP)]],
        tostring(refusal(function() obj.progs.pass:attach() end)))
      assert.same({}, obj:attach())
    end)

    it("refuses wrong options", function()
      local obj <close> = load "xdp"
      local prog = obj.progs.pass
      assert.equal("attach has no option 'ifnam'\nhint: did you mean 'ifname'?",
        mistake(function() prog:attach { ifnam = HERE } end))
      assert.equal("option 'ifname' of attach is a string, not a number",
        mistake(function() prog:attach { ifname = 1 } end))
      assert.equal("attach program 'pass': mode is native, generic or offload, not 'fast' " ..
        "(EINVAL)", tostring(refusal(function()
        prog:attach { ifname = HERE, mode = "fast" }
      end)))
      for _, options in ipairs { { mode = "generic" }, { ifname = HERE, cookie = 1 },
        { cgroup = "/" }, { ifname = HERE, tracepoint = "a:b" } } do
        assert.equal([[
attach program 'pass': a program of type xdp is not attached by these options (EINVAL)
hint: prog:attach takes: ifname, perhaps mode (XDP)]],
          tostring(refusal(function() prog:attach(options) end)))
      end
      assert.is_nil(attached())
    end)

    it("is detached by detach, close and <close>, each of which may be repeated", function()
      local obj <close> = load "xdp"
      local prog = obj.progs.pass
      local link = prog:attach { ifname = HERE, mode = "generic" }
      link:detach()
      assert.is_nil(attached())
      assert.is_true(link.closed)
      assert.equal("attempt to use closed link 'pass'", mistake(function() link:detach() end))
      assert.equal("closed link", bpf.type(link))
      link:close()
      link = prog:attach { ifname = HERE, mode = "generic" }
      link:close()
      link:close()
      assert.is_nil(attached())
      assert.equal("attempt to use closed link 'pass'",
        mistake(function() link:update(prog) end))
      assert.equal("attempt to use closed link 'pass'", mistake(function() return link.id end))
      do local _ <close> = prog:attach { ifname = HERE, mode = "generic" } end
      assert.is_nil(attached())
    end)

    it("stays when it is pinned, and can be updated through the pin", function()
      local path = DIR .. "/link"
      do
        local obj <close> = load "xdp"
        local link = obj.progs.pass:attach { ifname = HERE, mode = "generic" }
        link:pin(path)
        assert.equal(path, link.pin_path)
        assert.equal(path, link.info.pin_path)
        assert.equal(("pin link 'pass': it is pinned at %s (EEXIST)"):format(path),
          tostring(refusal(link.pin, link, path .. "2")))
      end
      assert.is_string(attached())
      local obj <close> = load "xdp"
      local link = bpf.pinned(path)
      link:update(obj.progs.drop)
      assert.equal(other_id(obj.progs.drop.id), attached())
      grows(obj, "dropped")
      link:close()
      assert.equal(other_id(obj.progs.drop.id), attached())
      link = bpf.pinned(path)
      link:detach()
      assert.is_nil(attached())
      assert.is_nil(lfs.attributes(path, "mode"))
    end)

    it("goes with close when it was unpinned again", function()
      local obj <close> = load "xdp"
      local link = obj.progs.pass:attach { ifname = HERE, mode = "generic" }
      link:pin(DIR .. "/link")
      link:unpin()
      assert.is_nil(link.pin_path)
      assert.equal("unpin link 'pass': it is not pinned by us (ENOENT)",
        tostring(refusal(link.unpin, link)))
      link:close()
      assert.is_nil(attached())
    end)

    it("is detached from under whoever else holds it", function()
      local obj <close> = load "xdp"
      local path = DIR .. "/link"
      local link = obj.progs.pass:attach { ifname = HERE, mode = "generic" }
      link:pin(path)
      local other <close> = bpf.pinned(path)
      link:unpin()
      link:detach()
      assert.is_nil(attached())
      assert.is_true(link.closed)
      other:detach()                    -- the second time changes nothing
    end)

    it("is unpinned only where its pin is still its own", function()
      local obj <close> = load "xdp"
      local path = DIR .. "/link"
      local link <close> = obj.progs.pass:attach { ifname = HERE, mode = "generic" }
      link:pin(path)
      local other = bpf.pinned(path)
      link:unpin()
      local hooks <close> = load("hooks", { vars = { who = uv.os_getpid() } })
      local tp = hooks.progs.on_call:attach()
      tp:pin(path)
      other:detach()
      assert.is_nil(attached())
      assert.is_string(lfs.attributes(path, "mode"))
      call()
      assert.equal(1, hooks.vars.tp_hits)
      tp:detach()
      assert.is_nil(lfs.attributes(path, "mode"))
    end)

    it("knows that its interface has gone", function()
      local obj <close> = load "xdp"
      ip("link", "add", HERE .. "x", "type", "veth", "peer", "name", THERE .. "x")
      local link <close> = obj.progs.pass:attach { ifname = HERE .. "x", mode = "generic" }
      ip("link", "delete", HERE .. "x")
      assert.is_nil(link.info.ifindex)
      assert.equal("xdp", link.type)
      assert.equal("ENOLINK", refusal(link.update, link, obj.progs.drop).code)
    end)
  end)

  describe("of a tracepoint", function()
    it("attaches by the section's name, and by the option", function()
      local obj <close> = load("hooks", { vars = { who = uv.os_getpid() } })
      do
        local link <close> = obj.progs.on_call:attach()
        call()
        assert.equal(1, obj.vars.tp_hits)
        assert.same({ "on_call", "perf_event" }, { link.name, link.type })
      end
      call()
      assert.equal(1, obj.vars.tp_hits)
      for _, place in ipairs { "syscalls:sys_enter_getpriority",
        "syscalls/sys_enter_getpriority" } do
        local before = obj.vars.tp_hits
        local _ <close> = obj.progs.placeless:attach { tracepoint = place }
        call()
        assert.equal(before + 1, obj.vars.tp_hits)
      end
    end)

    it("cannot be updated, and says what to do", function()
      local obj <close> = load("hooks", { vars = { who = uv.os_getpid() } })
      local link <close> = obj.progs.on_call:attach()
      assert.equal([[
update link 'on_call': the kernel cannot swap 'placeless' in on a link of type perf_event ]] ..
        [[(EOPNOTSUPP)
hint: link:replace attaches the new one and then detaches the old one]],
        tostring(refusal(link.update, link, obj.progs.placeless)))
      call()
      assert.equal(1, obj.vars.tp_hits)
    end)

    it("goes on when it is pinned, and no descriptor stays behind", function()
      local obj <close> = load("hooks", { vars = { who = uv.os_getpid() } })
      local link = obj.progs.on_call:attach()
      link:pin(DIR .. "/tp")
      link:close()
      call()
      assert.equal(1, obj.vars.tp_hits)
      local again = bpf.pinned(DIR .. "/tp")
      again:detach()
      call()
      assert.equal(1, obj.vars.tp_hits)
    end)

    it("says that there is none of that name", function()
      local obj <close> = support.open "hooks"
      obj.progs.nowhere.autoload = true
      obj:load()
      local hint = "hint: /sys/kernel/tracing/available_events lists them"
      local near = "\nhint: did you mean 'syscalls:sys_enter_%l+'%? "
      assert.matches("^attach program 'nowhere': there is no tracepoint " ..
        "'syscalls:sys_enter_moonbee' %(ENOENT%)" .. near,
        tostring(refusal(function() obj.progs.nowhere:attach() end)))
      assert.equal("attach program 'placeless': there is no tracepoint 'a:b' (ENOENT)\n" .. hint,
        tostring(refusal(function() obj.progs.placeless:attach { tracepoint = "a:b" } end)))
    end)

    it("says that its section names none, and which options there are", function()
      local obj <close> = load "hooks"
      assert.equal([[
attach program 'placeless': its section 'tracepoint' does not say where (EOPNOTSUPP)
hint: prog:attach takes: tracepoint = "category:name", perhaps cookie (tracepoint)]],
        tostring(refusal(function() obj.progs.placeless:attach() end)))
      for _, options in ipairs { { tracepoint = "sys_enter_getpriority" }, { ifname = "lo" },
        { cookie = 5 } } do
        assert.equal([[
attach program 'placeless': a program of type tracepoint is not attached by these options (EINVAL)
hint: prog:attach takes: tracepoint = "category:name", perhaps cookie (tracepoint)]],
          tostring(refusal(function() obj.progs.placeless:attach(options) end)))
      end
      assert.equal([[
attach program 'sum': its section 'syscall' does not say where (EOPNOTSUPP)
hint: a syscall program runs by prog:run()]],
        tostring(refusal(function() obj.progs.sum:attach() end)))
    end)

    it("mounts tracefs where there is none", function()
      local path = os.tmpname()
      local file <close> = assert(io.open(path, "w"))
      file:write [[
        local bpf = require "moonbee"
        local obj <close> = bpf.load(arg[1], { vars = { who = require "luv".os_getpid() } })
        obj.progs.on_call:attach()
        require "luv".os_getpriority(0)
        print(obj.vars.tp_hits)]]
      file:close()
      local r = run { "unshare", "-m", "sh", "-c",
        'umount -l /sys/kernel/tracing; umount -l /sys/kernel/debug 2>/dev/null; exec "$@"',
        "sh", support.moonbee, "run", path, support.fixture "hooks" }
      os.remove(path)
      assert.equal("1\n", r.out, r.err)
    end)
  end)

  describe("of a raw tracepoint", function()
    it("attaches by its section and by name, pins and detaches", function()
      local obj <close> = load("hooks", { vars = { who = uv.os_getpid() } })
      local link = obj.progs.on_enter:attach()
      call()
      assert.equal(1, obj.vars.raw_hits)
      assert.equal("raw_tracepoint", link.type)
      link:pin(DIR .. "/raw")
      link:close()
      call()
      assert.equal(2, obj.vars.raw_hits)
      bpf.pinned(DIR .. "/raw"):detach()
      call()
      assert.equal(2, obj.vars.raw_hits)
      link = obj.progs.on_enter:attach { tracepoint = "sys_enter" }
      call()
      assert.equal(3, obj.vars.raw_hits)
      link:detach()
    end)
  end)

  it("checks the range of numbers, and takes any 64 bits as a cookie", function()
    local obj <close> = load "hooks"
    for _, pid in ipairs { 0, 1 << 31, 1 << 32 } do
      assert.equal("option 'pid' of attach is a whole number from 1 to 2147483647",
        mistake(function() obj.progs.on_call:attach { pid = pid } end))
    end
    assert.equal("option 'pid' of attach is a whole number from 0 on",
      mistake(function() obj.progs.on_call:attach { pid = -1 } end))
    assert.equal("option 'offset' of attach is a whole number from 0 on",
      mistake(function() obj.progs.on_call:attach { offset = -1 } end))
    assert.equal("option 'cookie' of attach is a whole number",
      mistake(function() obj.progs.on_call:attach { cookie = 1.5 } end))
    assert.equal("option 'cookie' of attach is a number, not a string",
      mistake(function() obj.progs.on_call:attach { cookie = "x" } end))
    local link <close> = obj.progs.placeless:attach {
      tracepoint = "syscalls:sys_enter_getpriority", cookie = -1,
    }
    assert.equal("perf_event", link.type)
  end)

  it("leaves nothing behind when memory runs out while a pinned one is opened", function()
    local obj <close> = load "hooks"
    local link <close> = obj.progs.on_call:attach()
    link:pin(DIR .. "/oom")
    local before = leaks.snapshot()
    local source = ("local l = (...).pinned(%q)\nl:close()"):format(DIR .. "/oom")
    for n = 0, 2000 do
      local ok, _, failed = testing.oom(source, n)
      if ok and not failed then break end
      assert.is_true(n < 2000)
    end
    assert.is_nil(leaks.since(before))
    link:unpin()
  end)

  it("needs a program that is loaded, and of an object of ours", function()
    local obj <close> = support.open "hooks"
    assert.equal("attach program 'on_call': its object is not loaded (EINVAL)\n" ..
      "hint: call obj:load() first", tostring(refusal(function() obj.progs.on_call:attach() end)))
    obj:load()
    assert.matches("it was left out of the load",
      tostring(refusal(function() obj.progs.nowhere:attach() end)))
    obj.progs.on_call:pin(DIR .. "/prog")
    local pinned = bpf.pinned(DIR .. "/prog")
    assert.matches("only programs of an object of ours can be attached",
      tostring(refusal(function() pinned:attach() end)))
  end)
end)
