-- SPDX-License-Identifier: BSD-2-Clause
-- The kernel's memory as typed values: variables, pointers, lists, tasks; and what cannot be read.
local uv = require "luv"
local bpf = require "moonbee"
local kernel = require "moonbee.kernel"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"
local testing = require "mb_testing"

local mistake, refusal = support.mistake, support.refusal

local GPF = 0xdead000000000000 -- not canonical: no page table leads there

local function status(pid)
  local file <close> = io.open(("/proc/%d/status"):format(pid))
  local text = file and file:read "a"
  return text and {
    name = text:match "Name:\t([^\n]*)", pid = tonumber(text:match "\nPid:\t(%d+)"),
    tgid = tonumber(text:match "\nTgid:\t(%d+)"), ppid = tonumber(text:match "\nPPid:\t(%d+)"),
  }
end

local function here() return math.tointeger(uv.os_getpid()) end

local function ready()
  skip.root()
  skip.unless "btf"
end

describe("kernel.read #root", function()
  before_each(ready)
  after_each(kernel.release)

  it("reads the code of a function, as any type", function()
    local address = kernel.ksym "tcp_v4_rcv".address
    local bytes = kernel.read(address, "u8[8]")
    local word = kernel.read(address, "unsigned long")
    assert.equal(word, (string.unpack("<i8", bpf.bytes(bytes))))
    assert.equal(word & 0xffffffff, kernel.read(address, "u32"))
    assert.equal(bytes[0], kernel.read("tcp_v4_rcv", "unsigned char"))
    assert.equal(word, kernel.read(address, kernel.types["unsigned long"]))
    assert.equal(address, kernel.address(bytes))
  end)

  it("gives text and bytes as strings, and pointers as numbers", function()
    local task = kernel.current()
    local at = kernel.address(task, "comm")
    assert.equal(task.comm, kernel.read(at, "char[16]"))
    assert.equal(task.comm, kernel.string(at))
    assert.equal(task.comm:sub(1, 2), kernel.string(at, 2))
    assert.equal(task.mm, kernel.read(kernel.address(task, "mm"), "struct mm_struct *"))
  end)

  it("reads what is longer than one run can", function()
    local start = kernel.ksym "_stext".address
    local long = kernel.read(start, "u8[200000]")
    assert.equal(200000, bpf.sizeof(long))
    for _, off in ipairs { 0, 65535, 65536, 131072, 199999 } do
      assert.equal(kernel.read(start + off, "u8"), long[off])
    end
  end)

  it("says of variables what this kernel can do", function()
    if skip.has "kallsyms_data" then
      local before = kernel.read("jiffies", "unsigned long")
      support.until_true(function() return kernel.read("jiffies", "unsigned long") > before end)
      assert.equal(0, kernel.read("init_task", "struct task_struct").pid)
    else
      for _, name in ipairs { "jiffies", "init_task" } do
        local err = refusal(kernel.read, name, "unsigned long")
        assert.equal("EOPNOTSUPP", err.code)
        assert.matches("built without CONFIG_KALLSYMS_ALL", err.cause)
      end
    end
    assert.matches("'runqueues' is a per%-CPU variable.*\nhint: kernel.percpu%('runqueues', cpu%)",
      mistake(function() kernel.read "runqueues" end))
  end)

  it("is a read-only copy of a moment, which refresh reads again", function()
    local task = kernel.current()
    local before = task.utime + task.stime + task.nvcsw + task.nivcsw
    assert.matches("^write 'pid': .*read%-only\nhint: moonbee only reads the kernel",
      mistake(function() task.pid = 1 end))
    support.until_true(function()
      assert.equal(task, bpf.refresh(task))
      return task.utime + task.stime + task.nvcsw + task.nivcsw ~= before
    end)
    local copy = bpf.copy(task)
    copy.pid = 77
    assert.same({ 77, here() }, { copy.pid, task.pid })
    assert.is_nil(kernel.address(copy))
    assert.matches("is no view of the kernel's memory", mistake(function() bpf.refresh(copy) end))
  end)

  it("raises EFAULT or ERANGE with the address, and changes nothing then", function()
    for _, address in ipairs { 0, 1, 4096, 0x7fffffffe000, GPF, -4096, -8, math.mininteger } do
      local err = refusal(kernel.read, address, "unsigned long")
      assert.truthy(err.code == "EFAULT" or err.code == "ERANGE", err.code)
      assert.equal(("0x%x"):format(address), err.subject)
    end
    assert.equal("read kernel memory at '0xdead000000000000': it is no address of the kernel's " ..
      "(ERANGE)", tostring(refusal(kernel.read, GPF, "u8")))
    local err = refusal(kernel.read, -4096, "struct task_struct")
    assert.truthy(err.code == "EFAULT" or err.code == "ERANGE")
  end)

  it("refuses what is no address, and no type", function()
    local address = kernel.ksym "tcp_v4_rcv".address
    assert.matches("a type is expected, or its name, not a boolean",
      mistake(function() kernel.read(address, true) end))
    assert.matches("the type at that address is not known\nhint: kernel.read%(address",
      mistake(function() kernel.read(address) end))
    assert.matches("does not know the type of 'tcp_v4_rcv'",
      mistake(function() kernel.read "tcp_v4_rcv" end))
    assert.matches("an address is a whole number",
      mistake(function() kernel.read(1.5, "u8") end))
    assert.matches("an address is expected, a symbol's name or a view of the kernel's memory",
      mistake(function() kernel.read({}, "u8") end))
    assert.matches("has no size", mistake(function() kernel.read(address,
      "struct lock_class_key") end))
    assert.equal("ENOENT", refusal(kernel.read, address, "struct nonsense_moonbee").code)
    local obj <close> = support.open "types"
    assert.matches("is no view of the kernel's memory",
      mistake(function() kernel.read(obj.vars.cfg, "u8") end))
  end)

  it("reads many in one go, with an error for each that cannot be read", function()
    local address = kernel.ksym "tcp_v4_rcv".address
    local list, n = {}, support.slow and 9000 or 20000
    for i = 1, n do list[i] = i % 100 == 0 and GPF + i or address + i % 512 * 8 end
    local values, faults = kernel.read_many(list, "unsigned long")
    assert.equal(n, #values)
    for i = 1, n do
      if i % 100 == 0 then
        assert.is_false(values[i])
        assert.equal(("0x%x"):format(GPF + i), faults[i].subject)
      elseif i % 997 == 0 then
        assert.equal(kernel.read(list[i], "unsigned long"), values[i])
        assert.is_nil(faults[i])
      end
    end
    assert.is_nil(select(2, kernel.read_many({ address }, "u8")))
    assert.same({}, kernel.read_many({}, "u8"))
  end)

  it("reads many of any type: small, text, structs with their addresses", function()
    local task = kernel.current()
    local comm = kernel.address(task, "comm")
    assert.same({ task.comm, task.comm:sub(2) },
      kernel.read_many({ comm, comm + 1 }, "char[15]"))
    assert.same({ task.pid, task.tgid }, kernel.read_many({ kernel.address(task, "pid"),
      kernel.address(task, "tgid") }, "pid_t"))
    local list = {}
    for i = 1, 200 do list[i] = kernel.address(task) end
    local tasks = kernel.read_many(list, "struct task_struct")
    assert.same({ task.pid, task.comm }, { tasks[200].pid, tasks[137].comm })
    assert.equal(kernel.address(task), kernel.address(tasks[3]))
    assert.matches("reads things of 1 to 65536 bytes",
      mistake(function() kernel.read_many(list, "u8[65537]") end))
    assert.matches("address 2 is a string, no whole number",
      mistake(function() kernel.read_many({ 1, "x" }, "u8") end))
    assert.matches("address 1 is a number, no whole number",
      mistake(function() kernel.read_many({ 1.5 }, "u8") end))
  end)

  it("survives thousands of garbage addresses", function()
    math.randomseed(9)
    local bits = { 0, 0xffff800000000000, 0xffffffff80000000, 0xffff888000000000,
      0xffffc90000000000,
      0xffffea0000000000, 0xfffffe0000000000, 0xffffffffff600000 }
    local list = {}
    for i = 1, support.slow and 1200 or 20000 do
      local width = math.random(0, 63)
      list[i] = (bits[i % #bits + 1] ~ (math.random(0) >> width)) & -1
    end
    local _, faults = kernel.read_many(list, "unsigned long")
    local n = 0
    for i, err in pairs(faults) do
      if err.code ~= "EFAULT" and err.code ~= "ERANGE" or err.subject
        ~= ("0x%x"):format(list[i]) then
        error(err)
      end
      n = n + 1
    end
    assert.truthy(n > #list // 4, n)
    for i = 1, #list, 50 do
      pcall(kernel.read, list[i], "struct task_struct")
      pcall(kernel.string, list[i])
      pcall(kernel.list, list[i], "struct task_struct", "tasks")
      pcall(kernel.container_of, list[i], "struct task_struct", "tasks")
      pcall(kernel.symbolize, list[i])
    end
    assert.equal(here(), kernel.current().pid)
  end)

  it("reads 500000 single values a second, and 10 million in bulk #bench", function()
    skip.unless(not support.slow, "speed is measured at full speed")
    local address, T = kernel.ksym "tcp_v4_rcv".address, kernel.types["unsigned long"]
    local single, bulk, list = math.huge, math.huge, {}
    for i = 1, 200000 do list[i] = address + i % 4096 * 8 end
    -- Processor time: other processes do not count.
    for _ = 1, 5 do
      local start = os.clock()
      for _ = 1, 100000 do kernel.read(address, T) end
      single = math.min(single, os.clock() - start)
      start = os.clock()
      kernel.read_many(list, T)
      bulk = math.min(bulk, os.clock() - start)
    end
    local singles, bulks = 100000 / single, 200000 / bulk
    assert.truthy(singles > 500000 * 0.8, ("%.0f single reads a second"):format(singles))
    assert.truthy(bulks > 10e6 * 0.8, ("%.0f bulk reads a second"):format(bulks))
  end)
end)

describe("kernel.deref #root", function()
  before_each(ready)
  after_each(kernel.release)

  it("follows pointers, also several, to views that can be followed on", function()
    local task = kernel.current()
    local parent = kernel.deref(task, "real_parent")
    assert.equal(status(here()).ppid, parent.tgid)
    assert.equal(kernel.deref(parent, "signal").nr_threads, kernel.deref(task,
      "real_parent->signal").nr_threads)
    assert.equal(task.mm, kernel.address(kernel.deref(task, "mm")))
    assert.equal(task.tgid, kernel.deref(task, "group_leader->group_leader->group_leader").pid)
  end)

  it("is nil for NULL, on the way too, and text for char pointers", function()
    for worker in kernel.tasks() do
      if worker.mm == 0 then
        assert.is_nil(kernel.deref(worker, "mm"))
        assert.is_nil(kernel.deref(worker, "mm->exe_file->f_op"))
        break
      end
    end
    local root = kernel.deref(kernel.current(), "nsproxy->mnt_ns->root")
    assert.truthy(root)
    local fs = kernel.deref(kernel.current(), "fs->pwd.mnt->mnt_sb->s_type")
    assert.matches("^%w[%w_.]+$", kernel.deref(fs, "name"))
  end)

  it("refuses what leads nowhere", function()
    local task = kernel.current()
    assert.matches("'pid' is pid_t, no pointer", mistake(function() kernel.deref(task, "pid") end))
    assert.matches("no field 'mmm' in struct task_struct\nhint: did you mean 'mm'",
      mistake(function() kernel.deref(task, "mmm") end))
    assert.matches("'stack' is void %*: what it leads to has no type that is known",
      mistake(function() kernel.deref(task, "stack") end))
    assert.matches("view expected", mistake(function() kernel.deref(1, "mm") end))
  end)

  it("takes a program's own view by its types' names, with the kernel's layout", function()
    local obj <close> = support.load "ktypes"
    obj.progs.look:run()
    local task = kernel.deref(obj.vars, "task")
    assert.same({ here(), status(here()).name }, { task.pid, task.comm })
    assert.equal("struct task_struct", bpf.typeof(task).name)
    assert.truthy(bpf.sizeof(task) > obj.types["struct task_struct"].size)
  end)

  it("takes the same bytes as another type, and the struct around a member", function()
    local task = kernel.current()
    local at = kernel.address(task, "tasks")
    assert.equal(task.pid, kernel.container_of(at, "struct task_struct", "tasks").pid)
    assert.equal(task.pid, kernel.container_of(task.tasks, "struct task_struct", "tasks").pid)
    assert.equal(task.tasks.next, kernel.cast(task.tasks, "struct hlist_node").next)
    assert.equal(task.tasks.next, kernel.cast(at, "unsigned long"))
    assert.matches("is a bitfield and has no address",
      mistake(function() kernel.container_of(at, "struct task_struct", "in_execve") end))
  end)

  it("prints function pointers with their symbols", function()
    local class = kernel.deref(kernel.current(), "sched_class")
    assert.matches("%.enqueue_task = 0xffffffff%x+ <enqueue_task_%l+>,\n", tostring(class))
    local T = kernel.types["struct sched_class"]
    assert.matches("\n\tvoid %(%*enqueue_task%)%(struct rq %*, struct task_struct %*, int%);",
      tostring(T))
  end)
end)

describe("kernel.percpu #root", function()
  before_each(ready)
  after_each(kernel.release)

  it("equals what a program reads of this CPU and the others", function()
    if not skip.has "kallsyms_data" then
      local err = refusal(kernel.percpu, "runqueues", 0)
      assert.equal("EOPNOTSUPP", err.code)
      assert.matches("built without CONFIG_KALLSYMS_ALL", err.cause)
    end
    skip.unless "kallsyms_data"
    local obj <close> = support.load "ksyms"
    for cpu = 0, bpf.cpus.possible - 1 do
      obj.vars.cpu = cpu
      assert.equal(0, obj.progs.look:run().ret)
      local rq = kernel.percpu("runqueues", cpu)
      assert.same({ cpu, obj.vars.rq_cpu }, { rq.cpu, cpu })
      assert.equal(obj.vars.rq_address, kernel.address(rq))
      assert.equal(obj.vars.active_address,
        kernel.address(kernel.percpu("bpf_prog_active", cpu, "int[1]")))
      assert.equal(obj.vars.active, kernel.percpu("bpf_prog_active", cpu))
    end
    local all = kernel.percpu "runqueues"
    for cpu = 0, bpf.cpus.possible - 1 do assert.equal(cpu, all[cpu].cpu) end
    local before = kernel.read("jiffies", "unsigned long")
    obj.progs.look:run()
    local after = kernel.read("jiffies", "unsigned long")
    assert.truthy(before <= obj.vars.jiffies_now and obj.vars.jiffies_now <= after)
    assert.equal(kernel.ksym "jiffies".address, obj.vars.jiffies_address)
    assert.equal(0, obj.vars.absent)
    local plain <close> = support.load "ksyms_plain"
    plain.progs.look:run()
    assert.equal(plain.vars.rqs, kernel.ksym "runqueues".address)
    assert.equal(plain.vars.active, kernel.ksym "bpf_prog_active".address)
  end)

  it("equals what an attached program reads at its hook", function()
    skip.unless "kallsyms_data"
    local obj <close> = support.load "ksyms"
    local v = obj.vars
    local link <close> = obj.progs.on_syscall:attach()
    assert.truthy(link)
    for cpu = 0, bpf.cpus.possible - 1 do
      v.cpu, v.tid = cpu, 0
      local before, seen = kernel.read("jiffies", "unsigned long"), v.seen
      v.tid = here()
      uv.os_getppid() -- a system call, which runs the program
      v.tid = 0
      local after = kernel.read("jiffies", "unsigned long")
      assert.truthy(v.seen > seen)
      local rq = kernel.percpu("runqueues", cpu)
      assert.same({ cpu, cpu }, { rq.cpu, v.rq_cpu })
      assert.equal(kernel.address(rq), v.rq_address)
      assert.equal(kernel.address(kernel.percpu("bpf_prog_active", cpu, "int[1]")),
        v.active_address)
      -- Of the kernel's kprobes and perf programs alone: no such one runs on this CPU or that.
      assert.equal(kernel.percpu("bpf_prog_active", cpu), v.active)
      assert.truthy(before <= v.jiffies_now and v.jiffies_now <= after)
      assert.equal(kernel.ksym "jiffies".address, v.jiffies_address)
      assert.equal(kernel.ksym "init_task".address, v.init_address)
      assert.equal(0, v.absent)
    end
  end)

  it("refuses CPUs and variables that there are not", function()
    assert.matches("a CPU is a number from 0 to %d+",
      mistake(function() kernel.percpu("runqueues", bpf.cpus.possible) end))
    assert.matches("a CPU is a number from 0 to", mistake(function() kernel.percpu("runqueues",
      -1) end))
    skip.unless "kallsyms_data"
    assert.equal("ENOENT", refusal(kernel.percpu, "moonbee_absent", 0).code)
    assert.matches("knows no per%-CPU variable 'jiffies'\nhint: kernel.percpu%(name, cpu, type%)",
      mistake(function() kernel.percpu("jiffies", 0) end))
  end)
end)

describe("kernel.list #root", function()
  before_each(ready)
  after_each(kernel.release)

  it("walks a list to its head, every element once", function()
    local task, seen, n = kernel.current(), {}, 0
    for other in kernel.list(task.tasks, "struct task_struct", "tasks") do
      assert.is_nil(seen[other.pid])
      seen[other.pid], n = true, n + 1
    end
    assert.truthy(seen[0] and seen[2] and n > 5)
    assert.is_nil(seen[here()]) -- the head itself
    n = 0
    for child in kernel.list(kernel.address(task, "children"), "struct task_struct", "sibling") do
      error("a child " .. child.pid)
    end
    local child <close> = run.start({ "sleep", "100" }, { interactive = true })
    for other in kernel.list(bpf.refresh(task).children, "struct task_struct", "sibling") do
      n = n + (other.pid == child.pid and 1 or 0)
    end
    assert.equal(1, n)
  end)

  it("follows plain pointers to NULL, and hash chains", function()
    local task, n = kernel.current(), 0
    local pid = kernel.deref(task, "thread_pid")
    for other in kernel.list(pid.tasks[0], "struct task_struct", "pid_links[0]") do
      assert.equal(here(), other.pid)
      n = n + 1
    end
    assert.equal(1, n)
    local domain = kernel.deref(task, "nsproxy->pid_ns_for_children")
    local level = 0
    for ns in kernel.list(kernel.address(domain), "struct pid_namespace", "parent") do
      level = level + 1
      assert.truthy(ns.level <= domain.level)
    end
    assert.equal(domain.level + 1, level)
  end)

  it("refuses what is no list, and what comes not back", function()
    local task = kernel.current()
    assert.matches("'pid' is pid_t: a list's member is a struct list_head",
      mistake(function() kernel.list(task.tasks, "struct task_struct", "pid") end))
    assert.matches("no field 'taskss'",
      mistake(function() kernel.list(task.tasks, "struct task_struct", "taskss") end))
    assert.truthy(refusal(kernel.list, 0, "struct task_struct", "tasks").code)
    -- a head that is not in its list: a pointer to one
    local at = kernel.address(task, "comm") -- text: leads to no address
    assert.truthy(refusal(kernel.list, at, "struct task_struct", "tasks").code)
    -- the list is entered at its first element, and never comes back to this head
    local fake = kernel.address(kernel.deref(task, "real_parent"), "children") + 8
    local ok, err = pcall(kernel.list, fake, "struct task_struct", "sibling")
    assert.truthy(ok or err.code == "ELOOP" or err.code == "EFAULT" or err.code == "EINVAL")
  end)
end)

describe("kernel.tasks #root", function()
  before_each(ready)
  after_each(kernel.release)

  -- Processes that /proc shows. Those that even root may not look into are the machine's own: its
  -- kernel hides them from its iterators, too.
  local function processes()
    local found = {}
    local scan = uv.fs_scandir "/proc"
    while true do
      local name = uv.fs_scandir_next(scan)
      if not name then return found end
      if name:find "^%d+$" and uv.fs_readlink("/proc/" .. name .. "/ns/pid") then
        found[tonumber(name)] = status(tonumber(name))
      end
    end
  end

  it("has every task once, with name and parent as in /proc, while tasks come and go", function()
    -- shells that start and end processes all the time
    local churn = {}
    for i = 1, 3 do
      churn[i] = run.start({ "sh", "-c", "while :; do sleep 0 & sleep 0; wait; done" },
        { interactive = true, timeout = 60 })
    end
    local busy <close> = setmetatable({}, { __close = function()
      for _, p in ipairs(churn) do p:close() end
    end })
    assert.truthy(busy)
    local checked = 0
    for _ = 1, support.slow and 1 or 12 do
      local before = processes()
      local seen = {}
      for task, ppid in kernel.tasks() do
        local pid = task.pid
        if seen[pid] then error(pid .. " twice") end
        if task.tgid ~= pid then error(pid .. " is a thread") end
        seen[pid] = { comm = task.comm, ppid = ppid }
      end
      local after = processes()
      for pid, s in pairs(before) do
        local now = after[pid]
        if now and s.name == now.name and s.ppid == now.ppid then
          if not seen[pid] then error(("%d %s is missing"):format(pid, s.name)) end
          if seen[pid].ppid ~= s.ppid then error(("%d %s: parent"):format(pid, s.name)) end
          if not s.name:find "^kworker" and not s.name:find "\\"
            and s.name:sub(1, 15) ~= seen[pid].comm then
            error(("%d %s is called %s"):format(pid, s.name, seen[pid].comm))
          end
          checked = checked + 1
        end
      end
      for pid, s in pairs(seen) do
        if pid <= 0 or pid > 4194304 or #s.comm == 0 or s.ppid < 0 or s.ppid > 4194304 then
          error(("%d %s never lived"):format(pid, s.comm))
        end
      end
    end
    assert.truthy(checked > 10)
  end)

  it("has the threads where they are asked for", function()
    local threads, leaders = 0, 0
    for task in kernel.tasks { threads = true } do
      threads = threads + (task.tgid == here() and 1 or 0)
      leaders = leaders + (task.tgid == task.pid and 1 or 0)
    end
    local n = 0
    local scan = uv.fs_scandir "/proc/self/task"
    while uv.fs_scandir_next(scan) do n = n + 1 end
    assert.equal(n, threads)
    assert.truthy(leaders > 5)
    assert.matches("no option 'thread'", mistake(function() kernel.tasks { thread = true } end))
  end)

  it("knows who asks", function()
    local task, mine = kernel.current(), status(here())
    assert.same({ mine.pid, mine.tgid, mine.name }, { task.pid, task.tgid, task.comm })
  end)

  it("may be left early, and leaves nothing open", function()
    for _ = 1, 20 do
      assert.truthy(kernel.tasks()())
    end
    collectgarbage()
  end)
end)

describe("reading the kernel's memory", function()
  after_each(kernel.release)

  it("works in the ways of older kernels, too #root", function()
    skip.root()
    for _, way in ipairs { "best", "raw_tp", "bounded" } do
      local address = kernel.ksym "tcp_v4_rcv".address
      local list, many = {}, support.slow and 300 or 1000
      for i = 1, many do list[i] = i % 7 == 0 and GPF or address + i end
      local one, eight, four, codes, tasks = testing.kmem(way, address, list,
        kernel.address(kernel.current(), "tasks"))
      assert.equal(kernel.read(address, "unsigned long"), one)
      for i = 1, many, 7 do
        assert.equal(kernel.read(list[i], "unsigned long"), eight[i])
        assert.equal(kernel.read(list[i], "u32"), four[i])
        assert.equal(0, codes[i])
      end
      for i = 7, many, 7 do assert.truthy(codes[i] < 0) end
      local n = 0
      for _ in kernel.tasks() do n = n + 1 end
      assert.truthy(math.abs(tasks - n) < 20, way .. ": " .. tasks .. " of " .. n)
    end
  end)

  local function without(capabilities, script)
    local path = os.tmpname()
    local file <close> = assert(io.open(path, "w"))
    file:write(script)
    file:close()
    local r = run { "setpriv", "--bounding-set", capabilities, "--inh-caps", capabilities, "sh",
      "-c",
      'exec "$0" run "$1"', support.moonbee, path }
    os.remove(path)
    return r
  end

  local TRY = [[
    local kernel = require "moonbee.kernel"
    print(select(2, pcall(kernel.read, 0xffffffff81000000, "u64")))]]

  it("names the capabilities that are missing #root", function()
    skip.root()
    skip.unless "btf"
    local r = without("-perfmon,-sys_admin", TRY)
    -- older kernels let CAP_BPF alone do it
    if not r.out:find "^read kernel memory at" and not r.out:find "^%-?%d+\n$" then
      assert.equal("read 'kernel memory': it needs CAP_PERFMON (EPERM)\n" ..
        "hint: run as root, or with these capabilities\n", r.out .. r.err)
    end
    r = without("-bpf,-perfmon,-sys_admin", TRY)
    assert.equal("read 'kernel memory': it needs CAP_BPF and CAP_PERFMON (EPERM)\n" ..
      "hint: run as root, or with these capabilities\n", r.out .. r.err)
  end)

  it("says that lockdown forbids it, or that a helper is missing", function()
    local text = testing.kmem_explain(22, "unknown func bpf_probe_read_kernel#113\nmore", true)
    assert.equal("read 'kernel memory': the kernel is locked down (confidentiality): nobody may " ..
      "read its memory (EPERM)\nhint: see /sys/kernel/security/lockdown; only a boot without " ..
      "lockdown=confidentiality changes it", text)
    if skip.is_root() then
      text = testing.kmem_explain(22, "unknown func bpf_probe_read_kernel#113\nmore", false)
      assert.equal("read 'kernel memory': this kernel lacks a helper for it: unknown func " ..
        "bpf_probe_read_kernel#113 (EOPNOTSUPP)\nhint: bpf_probe_read_kernel came with Linux 5.5",
        text)
    end
  end)
end)
