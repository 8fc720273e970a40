-- SPDX-License-Identifier: BSD-2-Clause
-- A policy version's own Lua state, as its host drives it: load, setup, start, commit, fire.
-- Internal. Only plain data and engine handles cross; every call has a deadline, and the state a
-- memory limit.
local core = require "moonbee.core"

local runtime = {
  FUNCTION = core.runtime.marker(), -- what stands for a function in a description
  checked = core.runtime.checked(), -- false: Lua's libraries have bounds instead of a deadline
  watchdog = core.runtime.watchdog,
}

-- Flags of bind/runtime.c's calls.
local MAY_WAIT, LOADING, HANDLES, FUNCTIONS, SLICED, COPY, REFUSE = 1, 2, 4, 8, 16, 32, 64

local MEMORY, DEADLINE, STAGE_DEADLINE = 64 << 20, 0.5, 5

local rt = {}
rt.__index = rt
rt.__name = "moonbee.runtime"

-- ---- sources of our own modules -----------------------------------------------------------------

local function read_all(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read "a"
end

local texts = {}

local function source(name)
  if type(name) ~= "string" or not (name:find "^moonbee%.[%w_.]+$" or name == "dkjson") then
    return nil
  end
  if not texts[name] then
    local path = package.searchpath(name, package.path)
    if not path then return nil end
    texts[name] = read_all(path)
  end
  return texts[name], name
end

-- ---- errors -------------------------------------------------------------------------------------

local function size_text(bytes)
  if bytes % (1 << 20) == 0 then return ("%d MiB"):format(bytes >> 20) end
  return ("%d bytes"):format(bytes)
end

-- What the guest's error means, in parts.
local function explain(self, e, seconds)
  if e.kind == "deadline" then
    return ("%s: the deadline of %g s is over"):format(e.where ~= "" and e.where or "?", seconds),
      "ETIMEDOUT", "a callback must end in this time (limits.deadline); ctx.sleep waits without it"
  elseif e.kind == "memory" then
    return ("the memory limit of %s is reached"):format(size_text(self.limit)), "ENOMEM",
      "the policy's limits.memory says how much it may have"
  elseif e.kind == "yield" then
    return "a handler yielded to the loop", "EINVAL", "wait with ctx.sleep"
  end
  local text = e.text or "an error without text"
  local cause, hint = text:match "^(.-)\nhint: (.*)$"
  return cause or text, e.code or "EINVAL", e.hint or hint
end

local function error_text(cause, hint, trace)
  local lines = { cause }
  if hint then lines[#lines + 1] = "hint: " .. hint end
  if trace and trace ~= "" then lines[#lines + 1] = "stack traceback:" .. trace end
  return table.concat(lines, "\n")
end

local function error_of(self, what, e, seconds)
  local cause, code, hint = explain(self, e, seconds)
  return core.error {
    code = code, op = "run", subject = ("policy '%s': %s"):format(self.name, what), cause = cause,
    hint = hint, log = error_text(cause, hint, e.trace),
  }
end

-- ---- making -------------------------------------------------------------------------------------

local function check_options(opts)
  if type(opts) ~= "table" or type(opts.name) ~= "string" then
    error("runtime.new: a table with a name expected", 3)
  end
  for _, name in ipairs { "memory", "deadline", "stage_deadline" } do
    local value = opts[name]
    if value ~= nil and not (math.type(value) and value > 0 and value < 2 ^ 53) then
      error(("runtime.new: %s is a number above 0, got %s"):format(name, tostring(value)), 3)
    end
  end
end

-- What the guest allowed itself may be asked again here, where its text cannot reach.
local function named(list, path)
  for _, entry in pairs(type(list) == "table" and list or {}) do
    local dir = type(entry) == "string" and entry:match "^(.*/)%*$"
    if entry == path or dir and path:sub(1, #dir) == dir and not path:find("..", 1, true) then
      return true
    end
  end
  return false
end

local MAX_FILE = 16 << 20

local function read_file(path)
  local uv = require "luv"
  local at = uv.fs_stat(path)
  if at and at.type ~= "file" then error(path .. ": no regular file", 0) end
  local file, why = io.open(path, "rb")
  if not file then error(why, 0) end
  local pieces, length = {}, 0
  for piece in file:lines(1 << 16) do -- /proc has no more at once
    pieces[#pieces + 1], length = piece, length + #piece
    if length > MAX_FILE then break end
  end
  file:close()
  if length > MAX_FILE then error(path .. ": longer than 16 MiB", 0) end
  return table.concat(pieces)
end

local function reader_of(self, read)
  return function(path)
    if not named(self.uses.files, path) then error(path .. ": not in the policy's uses", 0) end
    return read(path)
  end
end

local function functions_of(self, opts)
  local function none() end
  return {
    source = source,
    log = opts.log or none,
    module = opts.modules or none,
    read = reader_of(self, opts.read or read_file),
    register = opts.on_register or none,
    unregister = opts.on_unregister or none,
  }
end

function runtime.new(opts)
  check_options(opts)
  local self = setmetatable({
    name = opts.name,
    limit = math.tointeger(opts.memory or MEMORY) or math.floor(opts.memory),
    deadline = opts.deadline or DEADLINE,
    stage_deadline = math.max(opts.stage_deadline or STAGE_DEADLINE, opts.deadline or DEADLINE),
    errors = 0,
    waiting = {},  -- task -> { source =, … }
    busy = {},     -- source -> its task that waits
    modules = 0,
    uses = {},
  }, rt)
  self.functions = functions_of(self, opts)
  self.guest = core.runtime.new(opts.name, self.functions)
  self.guest:open(source "moonbee.guest", "=[moonbee]", self.limit)
  return self
end

-- ---- calls --------------------------------------------------------------------------------------

-- Call one of guest.lua's entries, which may not wait; raises what it raised.
local function call(self, what, seconds, flags, entry, ...)
  local results = table.pack(self.guest:call(entry, seconds, flags, ...))
  if results[1] == "done" then return table.unpack(results, 2, results.n) end
  self.errors = self.errors + 1
  error(error_of(self, what, results[2], seconds), 0)
end

function rt:load(text, chunkname)
  local policy = call(self, "load", self.stage_deadline, LOADING | FUNCTIONS, "load", text,
    chunkname)
  self.uses = type(policy.uses) == "table" and policy.uses or {}
  return policy
end

function rt:has(...)
  return call(self, "has", self.stage_deadline, 0, "has", { ... })
end

-- name: "setup", "attach", "save", "stop", { "tests", "name" }
function rt:call(name, ...)
  if type(name) == "table" then
    return call(self, "test " .. tostring(name[2]), self.stage_deadline, HANDLES, "test", name[2],
      ...)
  elseif name == "save" then
    return call(self, name, self.deadline, REFUSE, name)
  elseif name == "stop" then
    return call(self, name, self.deadline, 0, name, ...)
  end
  return call(self, name, self.stage_deadline, HANDLES, "call", { name }, ...)
end

function rt:start(opts)
  return call(self, "start", self.deadline, COPY | LOADING | HANDLES, "start", opts.object,
    opts.params, opts.state, opts.from)
end

function rt:commit()
  return self.guest:commit()
end

function rt:drop()
  self.guest:drop()
end

-- ---- handlers -----------------------------------------------------------------------------------

-- What came of a handler that was resumed: "done" | "more" | "gone", "wait", seconds, task, or
-- "error", text.
local function outcome(self, id, status, a, b)
  if status == "wait" then
    self.waiting[b], self.busy[id] = { source = id }, b
    return "wait", a, b
  end
  self.busy[id] = nil
  if status == "done" then return a end
  self.errors = self.errors + 1
  self.guest:call("failed", self.deadline, 0, id)
  if status == "gone" then return "error", "a handler was ended while it waited" end
  local cause, _, hint = explain(self, a, self.deadline)
  return "error", error_text(cause, hint, a.trace)
end

function rt:fire(id)
  if self.busy[id] then return "busy" end
  return outcome(self, id, self.guest:call("fire", self.deadline, MAY_WAIT, id))
end

local resume_console

function rt:resume(task)
  if type(task) == "table" then return resume_console(self, task) end
  local waits = self.waiting[task]
  if not waits then return "gone" end
  self.waiting[task] = nil
  return outcome(self, waits.source, self.guest:resume(task, self.deadline, MAY_WAIT))
end

function rt:kill(task)
  if type(task) == "table" then
    if task.number then self.guest:kill(task.number, self.deadline) end
    task.ended = true
    return
  end
  local waits = self.waiting[task]
  if not waits then return end
  self.waiting[task], self.busy[waits.source] = nil, nil
  self.guest:kill(task, self.deadline)
  self.guest:call("failed", self.deadline, 0, waits.source)
end

function rt:tasks()
  local list = {}
  for task, waits in pairs(self.waiting) do
    list[#list + 1] = { task = task, id = waits.source }
  end
  table.sort(list, function(a, b) return a.task < b.task end)
  return list
end

-- End the handlers that wait: all, or those of the sources in ids (a set). Returns how many.
function rt:end_waiting(ids)
  local n = 0
  for _, waits in ipairs(self:tasks()) do
    if not ids or ids[waits.id] then
      self:kill(waits.task)
      n = n + 1
    end
  end
  return n
end

-- A reader's handler takes no record after the one at hand, or does again.
function rt:hold(id, held)
  call(self, "hold", self.deadline, 0, "hold", id, held)
end

function rt:pending(id)
  return call(self, "pending", self.deadline, 0, "pending", id)
end

-- What its readers have counted, also those that have ended: see guest.lua.
function rt:readers(ended)
  return call(self, "readers", self.deadline, 0, "readers", ended)
end

function rt:interrupt()
  self.guest:interrupt()
end

-- ---- console ------------------------------------------------------------------------------------

-- Trusted text that runs in the guest, and gives a function there: chunk(core, env, functions). Its
-- functions are the host's; they get and give plain data.
function rt:module(text, functions)
  self.modules = self.modules + 1
  local id, names = self.modules, {}
  for name, fn in pairs(functions or {}) do
    names[name] = ("%d/%s"):format(id, name)
    self.functions[names[name]] = fn
  end
  call(self, "module", self.stage_deadline, 0, "module", id, text, names)
  return id
end

-- A call of a module's function, cut into slices of a millisecond by rt:resume.
function rt:task(id, opts, ...)
  local flags = SLICED | MAY_WAIT | (opts and opts.write and 0 or REFUSE)
  return { entry = "task", flags = flags, args = table.pack(id, ...) }
end

-- A call of the read of metrics[i], cut into slices, too. It may only read, and not wait.
function rt:read(i)
  return { entry = "read", flags = SLICED | REFUSE, args = table.pack(i) }
end

function resume_console(self, task)
  if task.ended then return "gone" end
  local results
  if task.number then
    results = table.pack(self.guest:resume(task.number, self.deadline, task.flags))
  else
    results = table.pack(self.guest:call(task.entry, self.deadline, task.flags,
      table.unpack(task.args, 1, task.args.n)))
  end
  local status = results[1]
  if status == "wait" or status == "more" then
    task.number = results[3]
    return status, results[2], task
  end
  task.ended = true
  if status == "error" then
    local cause, _, hint = explain(self, results[2], self.deadline)
    return "error", error_text(cause, hint, results[2].trace)
  end
  return table.unpack(results, 1, results.n)
end

-- ---- the rest -----------------------------------------------------------------------------------

function rt:stats()
  local used, peak, limit = self.guest:memory()
  local tasks = 0
  for _ in pairs(self.waiting) do tasks = tasks + 1 end
  return {
    memory = used, peak = peak, limit = limit, errors = self.errors, tasks = tasks,
    handlers = not self.closed and call(self, "count", self.deadline, 0, "count") or 0,
  }
end

-- Idempotent. What waits is closed, readers end; then the state goes with all that it has.
function rt:close()
  if self.closed then return end
  self.closed = true
  self.waiting, self.busy = {}, {}
  self.guest:close()
end
rt.__close = rt.close

return runtime
