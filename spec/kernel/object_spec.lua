-- SPDX-License-Identifier: BSD-2-Clause
-- Objects: open, configure, load, attach, close; and every way in which that fails.
local lfs = require "lfs"
local uv = require "luv"
local bpf = require "moonbee"
local skip = require "support.skip"
local support = require "support.bpf"

local mistake, refusal = support.mistake, support.refusal
local open, load = support.open, support.load

local REJECTED = [[
load object 'reject': program 'careless' was rejected by the verifier: ]] ..
  [[R0 invalid mem access 'map_value_or_null'
  at: *value += 1; /* here: value may be NULL */ @ reject.bpf.c:24 (EACCES)
hint: check the result of bpf_map_lookup_elem for NULL before using it]]

local function read(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read "a"
end

describe("an object #root", function()
  before_each(skip.root)

  describe("open", function()
    it("knows its name, state, license, maps and programs, and touches no kernel", function()
      local obj <close> = open "maps"
      assert.equal("maps", obj.name)
      assert.equal("open", obj.state)
      assert.equal("Dual BSD/GPL", obj.license)
      assert.equal("moonbee.object 'maps'", tostring(obj))
      assert.equal("object", bpf.type(obj))
      assert.equal("hash", obj.maps.flows.type)
      assert.is_nil(obj.maps.flows.id)
      assert.is_nil(obj.maps.flows.fd)
      assert.is_nil(obj.progs.fill.id)
      assert.is_false(obj.progs.fill.loaded)
    end)

    it("lists its maps and programs by pairs, sections not among the maps", function()
      local obj <close> = open "xdp"
      local progs = {}
      for name, prog in pairs(obj.progs) do progs[#progs + 1] = name .. " " .. prog.type end
      table.sort(progs)
      assert.same({ "drop xdp", "pass xdp" }, progs)
      for name in pairs(obj.maps) do error(name) end
    end)

    it("takes bytes, under the name that is given", function()
      local obj <close> = bpf.load(read(support.fixture "types"), { bytes = true, name = "mine" })
      assert.equal("mine", obj.name)
      assert.equal(10, obj.progs.observe:run().ret)
      local other <close> = bpf.open(read(support.fixture "types"), { bytes = true })
      assert.equal("bytes", other.name)
    end)

    it("says that bytes need the option", function()
      assert.equal("the path has a NUL in it\nhint: bytes of an object need { bytes = true }",
        mistake(function() bpf.open(read(support.fixture "types")) end))
    end)

    it("sets variables and constants by the option vars", function()
      local obj <close> = load("types", { vars = { c_version = 9, v_u8 = 17, name = "other",
        tune_rate = 5 } })
      obj.progs.observe:run()
      local seen = obj.vars.seen
      assert.same({ 9, 17, "other", 5 }, { seen.version, seen.u8, seen.name, seen.tune })
    end)

    it("refuses unknown and unfit variables, with a near name", function()
      assert.equal("no variable 'cfgg' in the object\nhint: did you mean 'cfg'?",
        mistake(function() open("types", { vars = { cfgg = 1 } }) end))
      assert.matches("^store 'v_u8': 256 is out of range for %S+ %(0%.%.255%)",
        mistake(function() open("types", { vars = { v_u8 = 256 } }) end))
    end)

    it("sets max_entries, by option and by property", function()
      local obj <close> = open("maps", { max_entries = { flows = 100 } })
      obj.maps.totals.max_entries = 200
      obj:load()
      assert.equal(100, obj.maps.flows.max_entries)
      assert.equal(200, obj.maps.totals.max_entries)
      local kernel <close> = assert(io.open("/proc/self/fdinfo/" .. obj.maps.totals.fd))
      assert.matches("max_entries:%s*200\n", kernel:read "a")
    end)

    it("refuses a max_entries that is none", function()
      for _, n in ipairs { 0, -1, 1.5, 4294967296, "12" } do
        assert.equal("max_entries is a whole number from 1 to 4294967295",
          mistake(function() open("maps", { max_entries = { flows = n } }) end))
      end
      assert.equal("object 'maps' has no map 'flow'\nhint: did you mean 'flows'?",
        mistake(function() open("maps", { max_entries = { flow = 1 } }) end))
    end)

    it("refuses options that it does not know or that have another type", function()
      assert.equal("bpf.open has no option 'varz'\nhint: did you mean 'vars'?",
        mistake(function() open("types", { varz = {} }) end))
      assert.equal("option 'vars' of bpf.open is a table, not a number",
        mistake(function() open("types", { vars = 3 }) end))
      assert.equal("option 'pin_root' of bpf.open is a string, not a boolean",
        mistake(function() open("types", { pin_root = true }) end))
      assert.equal("bpf.open has options by name, not by number",
        mistake(function() open("types", { "vars" }) end))
      assert.equal("option 'log_level' of bpf.open is a whole number from 0 on",
        mistake(function() open("types", { log_level = -1 }) end))
      for _, level in ipairs { 16, 1 << 32 } do
        assert.equal("option 'log_level' of bpf.open is a whole number from 0 to 15",
          mistake(function() open("types", { log_level = level }) end))
      end
      assert.equal("on_mismatch = 'replaec' is not known\nhint: did you mean 'replace'?",
        mistake(function() open("types", { on_mismatch = "replaec" }) end))
      assert.equal("option 'on_mismatch' of bpf.open is a string or a function, not a boolean",
        mistake(function() open("types", { on_mismatch = true }) end))
      assert.equal("migrate has no option 'swich'\nhint: did you mean 'switch'?",
        mistake(function() open("types", { migrate = { swich = print } }) end))
      for _, passes in ipairs { 0, 101, 1.5, "2" } do
        assert.equal("option 'passes' of migrate is a whole number from 1 to 100",
          mistake(function() open("types", { migrate = { passes = passes } }) end))
      end
    end)

    it("says what is wrong with a file that is no BPF object", function()
      assert.equal([[
open object 'build/nosuch.bpf.o': No such file or directory (ENOENT)
hint: check the path; relative ones start at the working directory]],
        tostring(refusal(bpf.open, "build/nosuch.bpf.o")))
      assert.equal("open object '/tmp': it is a directory (EISDIR)",
        tostring(refusal(bpf.open, "/tmp")))
      assert.equal("open object '/dev/null': it is no regular file (EINVAL)",
        tostring(refusal(bpf.open, "/dev/null")))
      assert.equal([[
open object 'Makefile': is not an ELF file (ENOEXEC)
hint: BPF objects are made by clang -g -O2 -target bpf -c x.bpf.c]],
        tostring(refusal(bpf.open, "Makefile")))
    end)

    it("names what an object does not have, and what is near", function()
      local obj <close> = open "maps"
      assert.equal("object 'maps' has no map 'flow'\nhint: did you mean 'flows'?",
        mistake(function() return obj.maps.flow end))
      assert.equal("object 'maps' has no program 'xyz'",
        mistake(function() return obj.progs.xyz end))
      assert.equal("an object has no 'stat'\nhint: did you mean 'state'?",
        mistake(function() return obj.stat end))
      assert.equal("'name' of an object cannot be set",
        mistake(function() obj.name = "x" end))
      assert.equal("the table of maps cannot be changed",
        mistake(function() obj.maps.mine = 1 end))
    end)

    it("has tables that stay as they are, whatever is tried", function()
      local obj <close> = open "maps"
      local flows = obj.maps.flows
      assert.equal("the table of maps cannot be changed",
        mistake(function() obj.maps.flows = 5 end))
      assert.equal("the table of programs cannot be changed",
        mistake(function() obj.progs.fill = nil end))
      rawset(obj.maps, true, 1)
      for _, key in ipairs { 7, false, 1.5 } do
        assert.equal(("object 'maps' has no map '%s'"):format(key),
          mistake(function() return obj.maps[key] end))
      end
      assert.equal("object 'maps' has no map 'folws'\nhint: did you mean 'flows'?",
        mistake(function() return obj.maps.folws end))
      local iter, state = pairs(obj.maps)
      assert.is_nil(state)
      local found = {}
      for name, map in iter do found[name] = map end
      assert.equal(flows, found.flows)
      assert.equal(flows, obj.maps.flows)
      assert.is_nil(found[true])
    end)
  end)

  describe("load", function()
    it("returns the object, with ids and descriptors", function()
      local obj <close> = open "maps"
      assert.equal(obj, obj:load())
      assert.equal("loaded", obj.state)
      assert.is_true(obj.maps.flows.id > 0)
      assert.is_true(obj.progs.fill.id > 0)
      assert.is_true(obj.progs.fill.loaded)
      local target = lfs.symlinkattributes("/proc/self/fd/" .. obj.maps.flows.fd, "target")
      assert.equal("anon_inode:bpf-map", target)
    end)

    it("can be done once", function()
      local obj <close> = load "types"
      assert.equal("load object 'types': it is loaded already (EALREADY)",
        tostring(refusal(obj.load, obj)))
      assert.equal("loaded", obj.state)
    end)

    it("leaves out programs whose autoload is false", function()
      local obj <close> = open "reject"
      obj.progs.careless.autoload = false
      obj:load()
      assert.is_false(obj.progs.careless.loaded)
      assert.equal([[
run program 'careless': it was left out of the load (EINVAL)
hint: its autoload is false]], tostring(refusal(obj.progs.careless.run, obj.progs.careless)))
      assert.equal(0, obj.progs.careful:run().ret)
    end)

    it("fixes autoload and max_entries", function()
      local obj <close> = load "maps"
      assert.equal([[
configure program 'fill': its object has been loaded already (EBUSY)
hint: autoload can be set between bpf.open and obj:load()]],
        tostring(refusal(function() obj.progs.fill.autoload = false end)))
      assert.equal([[
resize map 'flows': its object has been loaded already (EBUSY)
hint: max_entries can be set between bpf.open and obj:load()]],
        tostring(refusal(function() obj.maps.flows.max_entries = 5 end)))
      local other <close> = open "maps"
      assert.equal("autoload is true or false, not a number",
        mistake(function() other.progs.fill.autoload = 0 end))
    end)

    it("tells a verifier's no: program, reason, source line, the whole log", function()
      local obj <close> = open "reject"
      local err = refusal(obj.load, obj)
      assert.equal(REJECTED, tostring(err))
      assert.equal("EACCES", err.code)
      assert.equal(13, err.errno)
      assert.equal("load object", err.op)
      assert.equal("reject", err.subject)
      assert.matches("BEGIN PROG LOAD LOG", err.log, 1, true)
      assert.matches("R1=ctx%(%) R10=fp0", err.log)
      assert.matches("\nprocessed %d+ insns", err.log)
      assert.matches("END PROG LOAD LOG", err.log, 1, true)
    end)

    it("leaves an object that failed with nothing but close", function()
      local obj <close> = open "reject"
      refusal(obj.load, obj)
      assert.equal("failed", obj.state)
      assert.equal([[
load object 'reject': it failed to load before (EALREADY)
hint: open it again: an object can be loaded once]], tostring(refusal(obj.load, obj)))
      assert.equal([[
get from map 'counts': its object failed to load (EINVAL)
hint: open it again: an object can be loaded once]],
        tostring(refusal(function() return obj.maps.counts:get(1) end)))
      assert.equal([[
run program 'careful': its object failed to load (EINVAL)
hint: open it again: an object can be loaded once]],
        tostring(refusal(obj.progs.careful.run, obj.progs.careful)))
      assert.equal([[
attach object 'reject': it is one that failed to load (EINVAL)
hint: open it again: an object can be loaded once]], tostring(refusal(obj.attach, obj)))
      obj:close()
      assert.equal("closed object", bpf.type(obj))
    end)

    it("ends the variables of an object that failed, and says which map it was", function()
      local obj <close> = open("maps", { max_entries = { flows = 0xffffffff } })
      local vars, bss = obj.vars, obj.bss
      vars.n = 7
      local err = refusal(obj.load, obj)
      assert.matches("flows", err.cause, 1, true)
      assert.equal("failed", obj.state)
      for _, view in ipairs { vars, bss } do
        assert.equal("access 'n': object 'maps' failed to load",
          mistake(function() return view.n end))
      end
    end)

    it("of bpf.load closes what it cannot load, and raises the same", function()
      local err = refusal(load, "reject")
      assert.equal(REJECTED, tostring(err))
    end)

    it("survives a map that was closed before it", function()
      local obj <close> = open "maps"
      local kept = obj.maps.kept
      kept:close()
      obj:load()
      assert.equal("attempt to use closed map 'kept'", mistake(function() kept:get(1) end))
      assert.equal(0, obj.maps.flows:count())
    end)
  end)

  describe("close", function()
    it("may be repeated, and ends all that came from it", function()
      local obj = load "maps"
      local m, prog, vars, bss = obj.maps.flows, obj.progs.fill, obj.vars, obj.bss
      obj:close()
      obj:close()
      assert.equal("moonbee.object (closed)", tostring(obj))
      assert.is_true(obj.closed)
      assert.equal("closed object", bpf.type(obj))
      assert.equal("closed map", bpf.type(m))
      assert.equal("closed program", bpf.type(prog))
      assert.equal("attempt to use closed object 'maps'",
        mistake(function() return obj.state end))
      assert.equal("attempt to use closed object 'maps'",
        mistake(function() obj:load() end))
      assert.equal("attempt to use closed map 'flows'",
        mistake(function() return m:get { saddr = 1 } end))
      assert.equal("attempt to use closed map 'flows'", mistake(function() return m.name end))
      assert.equal("attempt to use closed program 'fill'", mistake(function() prog:run() end))
      assert.equal("access 'n': object 'maps' is closed", mistake(function() return vars.n end))
      assert.equal("access 'n': object 'maps' is closed", mistake(function() return bss.n end))
      assert.equal("access 'n': object 'maps' is closed", mistake(function() bss.n = 1 end))
    end)

    it("comes with <close> and with the last reference", function()
      local id
      do
        local obj <close> = load "types"
        id = obj.progs.observe.id
      end
      local function gone(number)
        return not os.execute("bpftool prog show id " .. number .. " >/dev/null 2>&1")
      end
      support.until_true(function() return gone(id) end)
      id = load("types").progs.observe.id
      collectgarbage()
      collectgarbage()
      support.until_true(function() return gone(id) end)
    end)

    it("waits for nobody: a view keeps memory, not the object", function()
      local obj = load "types"
      local limits = obj.vars.cfg.limits
      obj = obj:close()
      collectgarbage()
      assert.matches("object 'types' is closed", mistake(function() return limits[0].rate end))
      assert.is_nil(obj)
    end)
  end)

  describe("attach", function()
    local function call() uv.os_getpriority(0) end

    it("attaches all that know where, by name", function()
      local obj <close> = load("hooks", { vars = { who = uv.os_getpid() } })
      local links = obj:attach()
      local names = {}
      for name, link in pairs(links) do names[#names + 1] = name .. " " .. bpf.type(link) end
      table.sort(names)
      assert.same({ "on_call link", "on_enter link" }, names)
      call()
      assert.equal(1, obj.vars.tp_hits)
      assert.equal(1, obj.vars.raw_hits)
    end)

    it("is all or none", function()
      local obj <close> = open("hooks", { vars = { who = uv.os_getpid() } })
      obj.progs.nowhere.autoload = true
      obj:load()
      local err = refusal(obj.attach, obj)
      assert.equal("ENOENT", err.code)
      assert.equal("nowhere", err.subject)
      assert.matches("sys_enter_moonbee", err.cause, 1, true)
      call()
      assert.equal(0, obj.vars.tp_hits)
      assert.equal(0, obj.vars.raw_hits)
    end)

    it("needs a loaded object", function()
      local obj <close> = open "hooks"
      assert.equal("attach object 'hooks': it is not loaded (EINVAL)\nhint: call obj:load() first",
        tostring(refusal(obj.attach, obj)))
    end)

    it("survives that the script loses sight of the links", function()
      local obj <close> = load("hooks", { vars = { who = uv.os_getpid() } })
      obj:attach()
      collectgarbage()
      collectgarbage()
      call()
      assert.equal(1, obj.vars.tp_hits)
    end)

    it("survives that the script loses sight of the object", function()
      local vars
      do
        local obj = load("hooks", { vars = { who = uv.os_getpid() } })
        vars = obj.vars
        obj:attach()
      end
      collectgarbage()
      collectgarbage()
      call()
      assert.equal(1, vars.tp_hits)
      -- The test has only the view left; a new link to the same object leads back to it.
      local obj = debug.getuservalue(vars, 1)
      assert.equal("object", bpf.type(obj))
      obj:close()
    end)

    it("ends with the object", function()
      local obj <close> = load("hooks", { vars = { who = uv.os_getpid() } })
      local links = obj:attach()
      obj:close()
      assert.is_true(links.on_call.closed)
      assert.equal("attempt to use closed link 'on_call'",
        mistake(function() return links.on_call.id end))
    end)

    it("ends with the state", function()
      local p <close> = support.script([[
        local bpf = require "moonbee"
        local obj = bpf.load(arg[1])
        obj:attach()
        print(obj.progs.on_call.id)]], nil, support.fixture "hooks")
      local r = p:wait()
      assert.equal(0, r.rc, r.err)
      local id = assert(r.out:match "%d+")
      support.until_true(function()
        return not os.execute("bpftool prog show id " .. id .. " >/dev/null 2>&1")
      end)
    end)

    it("lets a closed object go, its links' handles too", function()
      local seen = setmetatable({}, { __mode = "k" })
      for _ = 1, 3 do
        local obj = load "hooks"
        seen[obj] = true
        obj:attach()
        obj:close()
      end
      local obj <close> = load "hooks"
      obj:attach()
      collectgarbage()
      collectgarbage()
      assert.is_nil(next(seen))
    end)
  end)

  describe("without privilege", function()
    local source = [[
      local bpf = require "moonbee"
      local obj <close> = bpf.open(arg[1])
      local loaded, err = pcall(obj.load, obj)
      print(obj.state, err.code)
      error(err)]]

    it("opens, and says who may load", function()
      local p <close> = support.script(source, { user = "nobody" }, support.fixture "hooks")
      local r = p:wait()
      assert.equal(1, r.rc)
      assert.equal("failed\tEPERM\n", r.out)
      assert.matches([[
load object 'hooks': Operation not permitted (EPERM)
hint: it lacks CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN]], r.err, 1, true)
      assert.matches("run as root, or give the program that runs it: " ..
        "setcap cap_bpf,cap_perfmon,cap_net_admin+ep PROGRAM", r.err, 1, true)
    end)
  end)
end)
