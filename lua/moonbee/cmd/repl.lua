-- SPDX-License-Identifier: BSD-2-Clause
-- moonbee repl: an object, a pin or a loaded program at hand, and a line to type.
local bpf = require "moonbee"
local cli = require "moonbee.cli"
local uv = require "luv"

local BPF_FS = 0xcafe4a11

local function is_pin(path)
  local fs = uv.fs_statfs(path)
  return fs ~= nil and fs.type == BPF_FS
end

local SIGNALS = { SIGINT = 130, SIGTERM = 143, SIGPIPE = 141 }

-- ---- what is at hand ----------------------------------------------------------------------------

local function use_object(path, opts, names)
  local obj = bpf.open(path)
  names.obj, names.vars, names.maps, names.progs = obj, obj.vars, obj.maps, obj.progs
  for _, text in ipairs(opts.set) do require "moonbee.assign" (obj.vars, text) end
  if not opts.open then obj:load() end
  return obj, tostring(obj):gsub("^moonbee%.", "") .. (opts.open and ", not loaded" or ", loaded")
end

local function use_program(prog, opts, names)
  names.prog, names.progs = prog, { [prog.name] = prog }
  local ok, vars = pcall(bpf.vars, prog, { write = opts.write })
  if ok then names.vars = vars end
  if not ok and #opts.set > 0 then error(vars, 0) end
  for _, text in ipairs(opts.set) do require "moonbee.assign" (vars, text) end
  return prog, ("program '%s', id %d%s"):format(prog.name, prog.id,
    ok and (opts.write and ", vars are writable" or ", vars are read-only") or ", no variables")
end

local function use_pin(path, opts, names)
  local thing = bpf.pinned(path, not opts.write and { readonly = true } or nil)
  local kind = bpf.type(thing)
  if kind == "program" then return use_program(thing, opts, names) end
  if #opts.set > 0 then cli.usage("--set is for objects and programs, and that is a " .. kind) end
  names[kind] = thing
  if kind == "map" then names.maps = { [thing.name] = thing } end
  return thing, ("%s of %s%s"):format(kind, path, opts.write and "" or ", read-only")
end

local function at_hand(opts, names)
  if opts.prog then
    if opts.what then cli.usage "give an object or a pin, or --prog ID, not both" end
    return use_program(bpf.program(opts.prog), opts, names)
  elseif not opts.what then
    if #opts.set > 0 then cli.usage "--set needs an object" end
    return nil, "no object"
  elseif is_pin(opts.what) then
    return use_pin(opts.what, opts, names)
  end
  return use_object(opts.what, opts, names)
end

local function run(opts)
  local names = { bpf = bpf }
  local _thing <close>, about = at_hand(opts, names)
  local repl = require "moonbee.repl"
  local values, signal, well = repl.run {
    names = names,
    lazy = repl.lazy(),
    banner = ("moonbee %s (%s, libbpf %s): %s\n%s"):format(bpf.version, _VERSION,
      bpf.libbpf_version, about, "help() says what is at hand, Tab completes, Ctrl-D ends"),
  }
  if signal then return SIGNALS[signal] or cli.FAILED end
  if math.type(values[1]) == "integer" then return values[1] & 255 end
  return well and cli.OK or cli.FAILED
end

return {
  name = "repl",
  summary = "Look into an object or a loaded program, line by line.",
  args = { { name = "what", args = "?", help = "A BPF object file, or a pin in bpffs." } },
  options = {
    { name = "--prog", argname = "ID", convert = math.tointeger,
      help = "A loaded program, whoever loaded it." },
    { name = "--set", argname = "VARIABLE=VALUE", count = "*", default = {},
      help = "Set a variable before the load; may be repeated." },
    { name = "--open", args = 0, help = "Do not load the object: no privilege is needed." },
    { name = "--write", args = 0,
      help = "What others loaded may be changed, too (else it is read-only)." },
  },
  examples = {
    "moonbee repl flow.bpf.o --set sample_rate=10",
    "moonbee repl /sys/fs/bpf/flow/stats",
    "moonbee repl --prog 17 --write",
    "echo 'vars.cfg' | moonbee repl flow.bpf.o --open",
  },
  run = run,
}
