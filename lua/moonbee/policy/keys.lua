-- SPDX-License-Identifier: BSD-2-Clause
-- The keys of a policy's table: what they may be, and what a wrong one is told.
local bpf = require "moonbee"
local runtime = require "moonbee.runtime"

local FN = runtime.FUNCTION

local function fail(name, key, cause, hint)
  error(bpf.error { code = "EINVAL", op = "check policy", subject = name,
    cause = ("%s %s"):format(key, cause), hint = hint }, 0)
end

local function kind(x)
  if x == FN then return "function" end
  return math.type(x) or type(x)
end

local function is(...)
  local kinds = { ... }
  return function(name, key, x)
    for _, k in ipairs(kinds) do
      if kind(x) == k or k == "number" and type(x) == "number" then return end
    end
    fail(name, key, ("is a %s, not a %s"):format(table.concat(kinds, " or a "), kind(x)))
  end
end

local function positive(name, key, x)
  if type(x) ~= "number" or not (x > 0 and x < 2 ^ 53) then
    fail(name, key, "is a number above 0, not " .. tostring(x))
  end
end

local function fields(what)
  return function(name, key, x)
    is "table" (name, key, x)
    for field, value in pairs(x) do
      local check = what[field]
      if not check then
        local names = {}
        for known in pairs(what) do names[#names + 1] = known end
        table.sort(names)
        fail(name, key, ("has no field '%s'"):format(tostring(field)),
          "it has " .. table.concat(names, ", "))
      end
      check(name, key .. "." .. field, value)
    end
  end
end

local MISMATCH = { error = true, replace = true, migrate = true, adopt = true, keep = true }

local function mismatch(name, key, x)
  if x == FN then return end
  if not MISMATCH[x] then
    fail(name, key, ("is not known: %s"):format(tostring(x)),
      '"error", "replace", "migrate", "adopt", "keep", or a function')
  end
end

local function path(name, key, x)
  is "string" (name, key, x)
  if x:sub(1, 1) ~= "/" then
    fail(name, key, ("is an absolute path in bpffs, not '%s'"):format(x),
      "/sys/fs/bpf/" .. (x ~= "" and x or "NAME"))
  end
end

-- Paths, as uses has them: what is not one would never match.
local function paths(name, key, x)
  is "table" (name, key, x)
  for i, entry in pairs(x) do
    if not math.type(i) then
      fail(name, key, "is a list of paths", ("uses = { %s = { %q } }"):format(key:match "%a+$",
        type(entry) == "string" and entry or "/path"))
    end
    local at = ("%s[%d]"):format(key, i)
    is "string" (name, at, entry)
    if entry:sub(1, 1) ~= "/" then
      fail(name, at, ("is an absolute path, not '%s'"):format(entry))
    elseif (entry .. "/"):find("/../", 1, true) or (entry .. "/"):find("/./", 1, true) then
      fail(name, at, ("leads elsewhere: '%s'"):format(entry), "without . and ..")
    elseif entry:sub(1, -2):find("*", 1, true) or entry:find "[^/]%*$" then
      fail(name, at, ("has a * in its midst: '%s'"):format(entry),
        "a whole directory is /path/*, with * as its last part")
    end
  end
end

local scalar = is("string", "number", "boolean")

local function params(name, key, x)
  is "table" (name, key, x)
  for param, value in pairs(x) do
    if type(param) ~= "string" then fail(name, key, "are by name") end
    scalar(name, "params." .. param, value)
  end
end

-- Lists and options of attach: each program's are options, a list of these, or false.
local function attach(name, key, x)
  if x == FN then return end
  is "table" (name, key, x)
  for program, how in pairs(x) do
    if type(program) ~= "string" then
      fail(name, key, "is by program", "attach = { on_xdp = { ifname = \"eth0\" } }")
    end
    if how ~= false and type(how) ~= "table" and how ~= true then
      fail(name, ("attach.%s"):format(program), ("is a table of options, a list of them, or false, "
        .. "not a %s"):format(kind(how)))
    end
  end
end

local function tests(name, key, x)
  is "table" (name, key, x)
  for label, test in pairs(x) do
    if type(label) == "string" then
      is "function" (name, "tests." .. label, test)
    elseif type(test) ~= "table" or type(test.prog) ~= "string" then
      fail(name, ("tests[%s]"):format(tostring(label)), "names no program",
        "{ prog = \"on_xdp\", data = packet, expect = { ret = 1 } }, or name = function(obj, t)")
    else
      fields { prog = is "string", data = is "string", ctx = is("string", "table"),
        times = is "integer", vars = is "table", expect = is "table", name = is "string" }
        (name, ("tests[%s]"):format(tostring(label)), test)
    end
  end
end

local function metrics(name, key, x)
  is "table" (name, key, x)
  local table_of = require "moonbee.metrics.keys"
  table_of.set(x, table_of.POLICY)
end

local KEYS = {
  object = is "string", open = is "table", pin_root = path, persist = is "boolean",
  on_mismatch = mismatch, attach = attach, params = params, allow_gap = is "boolean",
  keep_timers = is("boolean", "table"), version = is("string", "number"), tests = tests,
  uses = fields { pins = paths, kernel = is "boolean", files = paths },
  limits = fields { memory = positive, deadline = positive, finish = positive,
    errors = fields { count = positive, seconds = positive } },
  metrics = metrics,
  setup = is "function", start = is "function", save = is "function", stop = is "function",
}

local OPEN = { btf = true, kconfig = true, log_level = true, vars = true, max_entries = true,
  name = true, on_mismatch = true }

local function near(word, known)
  local names = {}
  for name in pairs(known) do names[#names + 1] = name end
  table.sort(names)
  local found = require "moonbee.near" (word, names)
  return found and ("did you mean '%s'?"):format(found) or "it has " .. table.concat(names, ", ")
end

-- Check what rt:load gave; raises an error object that names the key.
local function check(name, desc)
  for key, value in pairs(desc) do
    if type(key) ~= "string" then
      fail(name, ("[%s]"):format(tostring(key)), "is no key of a policy", "keys are names")
    elseif not KEYS[key] then
      fail(name, ("'%s'"):format(key), "is no key of a policy", near(key, KEYS))
    end
    KEYS[key](name, key, value)
  end
  if not desc.start then
    fail(name, "start", "is missing", "function policy.start(ctx, state, from) … end")
  end
  for key in pairs(desc.open or {}) do
    if not OPEN[key] then
      fail(name, ("open.%s"):format(tostring(key)), "is no option here", near(tostring(key), OPEN))
    end
  end
  if desc.persist and not desc.pin_root then
    fail(name, "persist", "needs pin_root", "pin_root = \"/sys/fs/bpf/NAME\"")
  end
  if desc.object == nil then
    for _, key in ipairs { "open", "attach", "setup", "tests", "pin_root", "persist" } do
      if desc[key] then fail(name, key, "needs an object", "object = \"NAME.bpf.o\"") end
    end
  end
  return desc
end

-- The parameters: the policy's own, and what was given instead, as text or of the type.
local function merge(name, own, given)
  local out = {}
  for key, value in pairs(own or {}) do out[key] = value end
  for key, text in pairs(given or {}) do
    local default = out[key]
    if default == nil then
      fail(name, ("parameter '%s'"):format(key), "is not one of this policy's",
        near(key, own or {}))
    end
    local value = text
    if type(default) == "number" then
      value = tonumber(text)
    elseif type(default) == "boolean" then
      value = ({ ["true"] = true, ["1"] = true, yes = true, on = true, ["false"] = false,
        ["0"] = false, no = false, off = false })[tostring(text)]
    end
    if value == nil then
      fail(name, ("parameter '%s'"):format(key), ("is a %s, not '%s'"):format(type(default), text))
    end
    out[key] = value
  end
  return out
end

return { check = check, params = merge }
