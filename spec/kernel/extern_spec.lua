-- SPDX-License-Identifier: BSD-2-Clause
-- Externs: predicted before load, told after it; configuration in all its forms.
local bpf = require "moonbee"
local kernel = require "moonbee.kernel"
local disguise = require "support.disguise"
local skip = require "support.skip"
local support = require "support.bpf"

local mistake, refusal, open, load = support.mistake, support.refusal, support.open, support.load

local function by_name(externs)
  local all = {}
  for _, e in ipairs(externs) do all[e.name] = e end
  return all
end

-- All but whether it was predicted.
local function told(externs)
  for _, e in ipairs(externs) do e.predicted = nil end
  return externs
end

describe("obj.externs #root", function()
  before_each(skip.root)

  it("predicts before load what is true after it", function()
    for _, name in ipairs { "externs", "kconfigs" } do
      local obj <close> = open(name)
      local before = obj.externs
      for _, e in ipairs(before) do assert.is_true(e.predicted) end
      obj:load()
      local after = obj.externs
      for _, e in ipairs(after) do assert.is_false(e.predicted) end
      assert.same(told(before), told(after))
    end
  end)

  it("tells the address that the program sees, and the value that it reads", function()
    local obj <close> = load "externs"
    obj.progs.look:run()
    local e = by_name(obj.externs)
    assert.equal("resolved", e.schedule.fate)
    assert.equal(obj.vars.known, e.schedule.address)
    assert.equal(kernel.ksym "schedule".address, e.schedule.address)
    assert.same({ "ksym", "void", false, true },
      { e.schedule.kind, e.schedule.type, e.schedule.typed, e.schedule.weak })
    assert.equal("missing", e.moonbee_missing_symbol.fate)
    assert.is_nil(e.moonbee_missing_symbol.address)
    assert.equal(0, obj.vars.unknown)
    assert.equal(obj.vars.version, e.LINUX_KERNEL_VERSION.value)
    assert.equal(obj.vars.hz, e.CONFIG_HZ.value)
    assert.same({ "missing", 0 }, { e.CONFIG_MOONBEE_MISSING.fate, e.CONFIG_MOONBEE_MISSING.value })
  end)

  it("knows kfuncs: there, absent, and with other arguments", function()
    local obj <close> = open "kfuncs"
    local e = by_name(obj.externs)
    skip.unless(e.bpf_task_from_pid.fate == "resolved", "no kfunc bpf_task_from_pid")
    assert.equal("kfunc", e.bpf_task_from_pid.kind)
    assert.equal("struct task_struct *bpf_task_from_pid(s32 pid)", e.bpf_task_from_pid.kernel_type)
    assert.same({ "missing", true }, { e.moonbee_absent_kfunc.fate, e.moonbee_absent_kfunc.weak })
    assert.equal("clash", e.bpf_rcu_read_lock.fate)
    assert.equal("declared as int bpf_rcu_read_lock(int), but in the kernel it is void " ..
      "bpf_rcu_read_lock(void)", e.bpf_rcu_read_lock.why)
    local ok, err = pcall(obj.load, obj)
    if not ok and support.libbpf < 105 then
      -- libbpf 1.1 ends the load there, be it weak or not; 1.5 does not
      assert.matches("'bpf_rcu_read_lock': func_proto .* incompatible with kernel", err.cause)
      return
    end
    assert(ok, err)
    obj.progs.look:run()
    assert.equal(42, obj.vars.absent)
    e = by_name(obj.externs)
    assert.same({ "resolved", "missing", "clash" },
      { e.bpf_task_from_pid.fate, e.moonbee_absent_kfunc.fate, e.bpf_rcu_read_lock.fate })
  end)

  it("lists all missing strong ones in one error, with near names", function()
    local obj <close> = open "wanting"
    local err = refusal(obj.load, obj)
    local shown = pcall(function() return kernel.config.HZ end)
    for _, words in ipairs {
      shown and "'CONFIG_HZZ' (kconfig): the kernel's configuration does not set it, " ..
        "did you mean 'CONFIG_HZ'?" or "'CONFIG_HZZ' (kconfig): this kernel shows no configuration",
      "'moonbee_no_kfunc' (kfunc): neither the kernel's BTF nor a loaded module's has it",
      "'moonbee_no_variable' (ksym): the kernel's BTF has no such variable",
      "'schedul' (ksym): ", "did you mean 'schedule'?",
    } do
      assert.truthy(err.cause:find(words, 1, true), err.cause)
    end
    assert.is_nil(err.cause:find("'schedule' (ksym)", 1, true))
    assert.equal("this kernel lacks them; what a program can do without is declared __weak, and " ..
      "tested before use", err.hint)
  end)

  it("refuses a typed one of another type, with both types; and shows other fields", function()
    local obj <close> = open "clash"
    local e = by_name(obj.externs)
    assert.same({ "clash", "int", "struct rq" },
      { e.runqueues.fate, e.runqueues.type, e.runqueues.kernel_type })
    assert.equal("irqs_sum", e.kstat.differs[1].field)
    assert.equal("unsigned int at 0", e.kstat.differs[1].declared)
    assert.matches("^l?o?n?g? ?unsigned .*at 0$", e.kstat.differs[1].kernel)
    assert.same({ field = "invented", declared = "unsigned long at 8" }, e.kstat.differs[2])
    local err = refusal(obj.load, obj)
    assert.truthy(err.cause:find("'runqueues' (ksym): declared as int, but in the kernel it is " ..
      "struct rq", 1, true), err.cause)
  end)

  it("knows variables where the kernel shows their addresses, and why not elsewhere", function()
    local obj <close> = open "ksyms"
    local e = by_name(obj.externs)
    if skip.has "kallsyms_data" then
      obj:load()
      assert.equal(0, obj.progs.look:run().ret)
      local after = by_name(obj.externs)
      for _, name in ipairs { "runqueues", "bpf_prog_active", "jiffies", "init_task" } do
        assert.equal("resolved", e[name].fate, name)
        assert.equal("resolved", after[name].fate, name)
        assert.equal(kernel.ksym(name).address, after[name].address)
      end
      assert.equal(obj.vars.jiffies_address, after.jiffies.address)
      assert.equal(obj.vars.init_address, after.init_task.address)
      assert.equal(0, obj.vars.absent)
      return
    end
    assert.equal("no address is known: this kernel has no CONFIG_KALLSYMS_ALL", e.runqueues.why)
    assert.equal("struct rq", e.runqueues.kernel_type)
    local err = refusal(obj.load, obj)
    for _, name in ipairs { "runqueues", "bpf_prog_active", "jiffies", "init_task" } do
      assert.truthy(err.cause:find("'" .. name .. "'", 1, true), err.cause)
    end
    assert.truthy(err.cause:find("CONFIG_KALLSYMS_ALL", 1, true))
  end)

  it("is told for another kernel by its BTF", function()
    skip.unless "btf"
    local obj <close> = open "clash"
    local e = by_name(kernel.externs(obj, { btf = "/sys/kernel/btf/vmlinux" }))
    assert.equal("clash", e.runqueues.fate)
    assert.equal("resolved", e.kstat.fate) -- a symbol table is not looked at
    local other <close> = open "externs"
    e = by_name(kernel.externs(other, { btf = "/sys/kernel/btf/vmlinux" }))
    assert.equal("resolved", e.schedule.fate)
    assert.is_nil(e.schedule.address)
    assert.same({ "unknown", "that kernel's configuration is not known here" },
      { e.CONFIG_HZ.fate, e.CONFIG_HZ.why })
  end)

  it("refuses what is no BTF", function()
    local obj <close> = open "clash"
    local function externs(path) return refusal(kernel.externs, obj, { btf = path }) end
    assert.equal("ENOENT", externs("/nonexistent/btf").code)
    assert.equal("EINVAL", externs("/etc/passwd").code)
    assert.equal("EISDIR", externs("/proc").code)
    assert.equal("read BTF '" .. support.moonbee .. "': the ELF file has no section .BTF (ENODATA)",
      tostring(externs(support.moonbee)))
    assert.matches("no option 'btff'", mistake(function() kernel.externs(obj, { btff = "" }) end))
  end)

  it("is empty without externs, and ends with its object", function()
    local obj <close> = open "xdp"
    assert.same({}, obj.externs)
    obj:close()
    assert.matches("attempt to use closed object 'xdp'", mistake(function() return obj.externs end))
  end)
end)

describe("the option kconfig #root", function()
  before_each(skip.root)

  local FORMS = {
    MB_YES = true, CONFIG_MB_NO = false, MB_MODULE = "m", MB_CHAR = "y", MB_INT = -5,
    MB_HEX = 0xffffffffff, MB_SMALL = -128, MB_TEXT = "hello", MB_SHORT = "longer",
  }

  local function check(kconfig)
    local obj <close> = open("kconfigs", { kconfig = kconfig })
    local before = obj.externs
    obj:load()
    obj.progs.look:run()
    local v = obj.vars
    assert.same({ true, false, 2, ("y"):byte(), -5, 0xffffffffff, -128, "hello", "lon" },
      { v.yes, v.no, v.module, v.letter, v.number, v.hex, v.small, v.text, v.brief })
    local e = by_name(before)
    assert.same({ true, false, 2, ("y"):byte(), -5, 0xffffffffff, -128, "hello", "lon" },
      { e.CONFIG_MB_YES.value, e.CONFIG_MB_NO.value, e.CONFIG_MB_MODULE.value,
        e.CONFIG_MB_CHAR.value, e.CONFIG_MB_INT.value, e.CONFIG_MB_HEX.value,
        e.CONFIG_MB_SMALL.value, e.CONFIG_MB_TEXT.value, e.CONFIG_MB_SHORT.value })
    assert.same(told(before), told(obj.externs))
  end

  it("takes every form of value, as a table", function() check(FORMS) end)

  it("takes them as lines of a configuration", function()
    check [[
# a comment
CONFIG_MB_YES=y
# CONFIG_MB_NO is not set
CONFIG_MB_NO=n
CONFIG_MB_MODULE=m
CONFIG_MB_CHAR=y
CONFIG_MB_INT=-5
CONFIG_MB_HEX=0xffffffffff
CONFIG_MB_SMALL=-128
CONFIG_MB_TEXT="hello"
CONFIG_MB_SHORT="longer"
]]
  end)

  it("comes before the kernel's own values", function()
    local obj <close> = load("externs", { kconfig = { HZ = 12345 } })
    obj.progs.look:run()
    assert.equal(12345, obj.vars.hz)
    assert.equal(12345, by_name(obj.externs).CONFIG_HZ.value)
  end)

  it("refuses lines that are none, and values that are none", function()
    assert.equal("open object 'externs': option kconfig: 'HZ=100' is no line of a configuration " ..
      "(EINVAL)\nhint: lines are CONFIG_NAME=value: y, n, m, a number, or \"text\"",
      tostring(refusal(open, "externs", { kconfig = "CONFIG_A=y\nHZ=100\n" })))
    assert.equal("EINVAL", refusal(open, "externs", { kconfig = "CONFIG_HZ=" }).code)
    assert.matches("option kconfig: HZ is a boolean, an integer or a string, not a table",
      mistake(function() open("externs", { kconfig = { HZ = {} } }) end))
    assert.matches("the text of HZ has a quote",
      mistake(function() open("externs", { kconfig = { HZ = 'a"b' } }) end))
    assert.matches("options go by name, not by number",
      mistake(function() open("externs", { kconfig = { 1 } }) end))
    assert.matches("option 'kconfig' of bpf.open is a string or a table, not a boolean",
      mistake(function() open("externs", { kconfig = true }) end))
  end)

  it("refuses a value that does not fit, before load in words, at load for good", function()
    for name, value in pairs { MB_SMALL = 128, MB_INT = 1 << 31, MB_YES = "m", MB_HEX = true,
      MB_TEXT = 5 } do
      local obj <close> = open("kconfigs", { kconfig = { [name] = value } })
      local e = by_name(obj.externs)["CONFIG_" .. name]
      assert.equal("clash", e.fate, name)
      assert.matches("which does not fit", e.why)
      local err = refusal(obj.load, obj)
      assert.truthy(err.cause:find("'CONFIG_" .. name .. "' (kconfig): it is ", 1, true), err.cause)
    end
  end)

  it("is not needed where the configuration lies in a third place", function()
    skip.unless(os.rename("/usr/lib/kernel", "/usr/lib/kernel"), "no directory /usr/lib/kernel")
    local uts <close> = io.popen "uname -r"
    local path = "/usr/lib/kernel/config-" .. uts:read "l"
    local r = disguise.hide("/proc", { [path] = "CONFIG_MB_INT=77\n", ["/boot/x"] = "" }, ([[
      local bpf, kernel = require "moonbee", require "moonbee.kernel"
      local obj <close> = bpf.load %q
      obj.progs.look:run()
      print(obj.vars.number, kernel.config.MB_INT, tostring(kernel.config))]]):format(
      support.fixture "kconfigs"))
    assert.equal("77\t77\tkernel configuration " .. path .. "\n", r.out, r.err)
  end)

  it("is enough where there is no configuration at all, and weak externs are 0", function()
    local script = ([[
      local bpf, kernel = require "moonbee", require "moonbee.kernel"
      local obj <close> = bpf.load(%q, { kconfig = { MB_INT = 5, MB_TEXT = "x" } })
      obj.progs.look:run()
      local v = obj.vars
      print(v.number, v.text, v.brief, v.yes, v.module, v.hex)]]):format(support.fixture "kconfigs")
    local r = disguise.hide("/proc", { ["/boot/x"] = "" }, script)
    assert.equal("5\tx\t\tfalse\t0\t0\n", r.out, r.err)
  end)
end)

describe("kernel.config", function()
  local function there() return pcall(function() return kernel.config.BPF end) end

  it("gives y, n, m, numbers and text as they are", function()
    skip.unless(there, "the kernel shows no configuration")
    local file <close> = io.popen "zcat /proc/config.gz 2>/dev/null || cat /boot/config-$(uname -r)"
    local checked = 0
    for line in file:lines() do
      local name, value = line:match "^CONFIG_([%w_]+)=(.*)$"
      local unset = line:match "^# CONFIG_([%w_]+) is not set$"
      local want = value == "y"
      if value and value:find '^"' then
        want = value:sub(2, -2):gsub("\\(.)", "%1")
      elseif value == "m" then
        want = "m"
      elseif value and value ~= "y" then
        want = math.tointeger(tonumber(value))
      end
      -- a bare comparison: luassert's takes its time, thousands of times
      if (name or unset) and (kernel.config[name or unset] ~= want
          or kernel.config["CONFIG_" .. (name or unset)] ~= want) then
        error(("%s: %s"):format(line, tostring(kernel.config[name or unset])))
      end
      checked = checked + ((name or unset) and 1 or 0)
    end
    local n = 0
    for name, value in pairs(kernel.config) do
      if kernel.config[name] ~= value then error(name) end
      n = n + 1
    end
    assert.equal(checked, n)
    assert.truthy(n > 100)
  end)

  it("is nil for what it does not name, and cannot be changed", function()
    skip.unless(there, "the kernel shows no configuration")
    assert.is_nil(kernel.config.MOONBEE_NO_SUCH_OPTION)
    assert.is_nil(kernel.config[""])
    assert.matches("kernel.config cannot be changed", mistake(function() kernel.config.HZ = 1 end))
    assert.matches("options by name", mistake(function() return kernel.config[1] end))
  end)

  it("names all the places where it was looked for #root", function()
    skip.root()
    local r = disguise.hide("/proc", { ["/boot/x"] = "" }, [[
      local kernel = require "moonbee.kernel"
      print(select(2, pcall(function() return kernel.config.HZ end)))]])
    skip.unless(not r.out:find "^%d", "the configuration lies in one more place")
    assert.matches("^read kernel configuration '[^']+': neither /proc/config.gz, " ..
      "/boot/config%-%S+ " ..
      "nor /lib/modules/%S+/config is there %(ENOENT%)\nhint: a kernel with CONFIG_IKCONFIG_PROC=y",
      r.out)
  end)

  it("says that a damaged file is damaged #root", function()
    skip.root()
    skip.unless(io.open "/proc/config.gz" ~= nil, "no /proc/config.gz")
    local r = disguise({ ["/proc/config.gz"] = "\x1f\x8b\8\0\0\0\0\0\0\0garbage" }, [[
      local kernel = require "moonbee.kernel"
      print(select(2, pcall(function() return kernel.config.HZ end)))]])
    assert.matches("^read kernel configuration '/proc/config.gz': it is damaged: .* %(EINVAL%)",
      r.out)
  end)
end)

describe("kernel.types", function()
  it("has the kernel's types by name, with offsets", function()
    skip.unless "btf"
    local T = kernel.types["struct task_struct"]
    assert.equal("struct", T.kind)
    local text = tostring(T)
    assert.matches("^struct task_struct {\n", text)
    local pid
    for _, f in ipairs(T.fields) do
      if f.name == "pid" then pid = f end
    end
    assert.truthy(text:find(("\n\tpid_t pid; /* %d */\n"):format(pid.offset), 1, true))
    assert.matches(("}; /%%* %d bytes %%*/$"):format(T.size), text)
  end)

  it("takes what C writes: integers in every spelling, pointers, arrays", function()
    skip.unless "btf"
    for name, size in pairs { ["unsigned long"] = 8, ["long unsigned int"] = 8, int = 4,
      ["u8[3][4]"] = 12,
      ["void *"] = 8, ["struct file *"] = 8, ["struct sock **"] = 8, ["char[16]"] = 16, bool = 1,
      ["struct list_head"] = 16, ["unsigned short"] = 2 } do
      assert.equal(size, kernel.types[name].size, name)
    end
    assert.equal("chars", kernel.types["char[16]"].kind)
    assert.same({ 3, 4 }, { kernel.types["u8[3][4]"].count, kernel.types["u8[3][4]"].elem.count })
  end)

  it("raises for the rest, with a near name", function()
    skip.unless "btf"
    local function refused(name) return refusal(function() return kernel.types[name] end) end
    assert.equal("find type 'struct task_strukt': the kernel's BTF has no such type (ENOENT)\n" ..
      "hint: did you mean 'struct task_struct'?", tostring(refused "struct task_strukt"))
    for _, name in ipairs { "u8[0]", "u8[", "u8[1", "u8[x]", "u8[1]]", "u8[99999999999]" } do
      assert.equal("EINVAL", refused(name).code, name)
    end
    assert.equal("ENOENT", refused "".code)
    assert.equal("ENOENT", refused "*".code)
    assert.matches("types by name", mistake(function() return kernel.types[1] end))
    assert.matches("cannot be changed", mistake(function() kernel.types.x = 1 end))
  end)

  it("can be walked", function()
    skip.unless "btf"
    local n = 0
    for name, T in pairs(kernel.types) do
      assert.equal(name, T.name)
      n = n + 1
      if n == 500 then break end
    end
    assert.equal(500, n)
  end)

  it("is there for every state", function() assert.equal(bpf.kernel.ksym, kernel.ksym) end)
end)
