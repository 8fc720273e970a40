-- SPDX-License-Identifier: BSD-2-Clause
-- require "moonbee": the core's functions, and what is Lua. Modules that a script may not need are
-- loaded by the first call.
local bpf = require "moonbee.core"

function bpf.format(value, opts)
  return require "moonbee.format".format(value, opts)
end

function bpf.json(value, opts)
  return require "moonbee.json".encode(value, opts)
end

function bpf.totable(view)
  return require "moonbee.totable".totable(view)
end

-- Under pcall the core has no line to give to a mistake of the caller's: level 2 adds it.
function bpf.load(path, opts)
  local opened, obj = pcall(bpf.open, path, opts)
  if not opened then error(obj, 2) end
  local loaded, err = pcall(obj.load, obj)
  if loaded then return obj end
  obj:close()
  error(err, 2)
end

function bpf.watch(x, seconds, fn)
  local sample = require "moonbee.sample"
  return sample.watch("bpf.watch", x, seconds, fn or sample.print, 1)
end

local function readable(path)
  local file <close> = io.open(path, "rb")
  return file ~= nil
end

-- Where a script's object may be: beside it, or where make built it.
local function places(name)
  if name:sub(1, 1) == "/" then return { name } end
  local script = type(arg) == "table" and type(arg[0]) == "string" and arg[0] or ""
  local dir = script:match "^(.*/)[^/]*$" or ""
  local found = { dir .. name }
  if bpf.build_dir then
    local own = dir:match "([^/.][^/]*)/$" or script:match "([^/]+)%.lua$" or "?"
    found[2] = ("%s/scripts/%s/%s"):format(bpf.build_dir, own, name)
  end
  return found
end

function bpf.find(name)
  if type(name) ~= "string" then error("bpf.find: name expected, got " .. type(name), 2) end
  local tried = places(name)
  for _, path in ipairs(tried) do
    if readable(path) then return path end
  end
  error(bpf.error {
    code = "ENOENT", op = "find object", subject = name,
    cause = "not in " .. table.concat(tried, ", nor in "),
    hint = "compile it with clang -target bpf, or run make in the source tree",
  }, 2)
end

-- The locals and upvalues of the function that called, as they are now.
local function visible(level)
  local names = {}
  local fn = debug.getinfo(level + 1, "f").func
  local function note(name, value)
    if name:find "^[%a_]" and name ~= "_ENV" then names[name] = value end
  end
  for i = 1, math.huge do
    local name, value = debug.getupvalue(fn, i)
    if not name then break end
    note(name, value)
  end
  for i = 1, math.huge do
    local name, value = debug.getlocal(level + 1, i)
    if not name then break end
    note(name, value)
  end
  return names
end

function bpf.repl(opts)
  if opts ~= nil and type(opts) ~= "table" then
    error("bpf.repl: table expected, got " .. (bpf.type(opts) or type(opts)), 2)
  end
  opts = opts or {}
  for key in pairs(opts) do
    if key ~= "names" and key ~= "prompt" then
      error(("bpf.repl: no option '%s'\nhint: names, prompt"):format(tostring(key)), 2)
    end
  end
  local names = visible(2)
  for name, value in pairs(opts.names or {}) do names[name] = value end
  local values, signal = require "moonbee.repl".here(names, opts.prompt)
  if signal then
    error(setmetatable({
      code = "EINTR", op = "run", subject = "script", cause = "interrupted", signal = signal,
    }, debug.getregistry()["moonbee.error"]), 0)
  end
  return table.unpack(values, 1, values.n)
end

bpf.set_format(bpf.format)

return bpf
