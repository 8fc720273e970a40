-- SPDX-License-Identifier: BSD-2-Clause
-- What goes wrong is told well: the world's refusals as objects, the caller's mistakes as text with
-- the caller's place. Hints that need the kernel to say no are in spec/kernel.
local bpf = require "moonbee"
local mistake = require "support.mistake"
local run = require "support.run"

local BUILD = os.getenv "MB_BUILD" or "build"
local FIXTURE = BUILD .. "/fixtures/types.bpf.o"

local function refusal(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.falsy(ok)
  assert.equal("error", bpf.type(err), tostring(err))
  return err
end

-- Runs Lua code by build/moonbee, as nobody if user says so.
local function run_code(code, user)
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write(code)
  file:close()
  os.execute("chmod 644 " .. path)
  local r = run({ BUILD .. "/moonbee", "run", path }, { user = user })
  os.remove(path)
  return r
end

describe("an error object", function()
  it("has code, errno, op, subject, cause and hint", function()
    local err = refusal(bpf.open, "/nonexistent/x.bpf.o")
    assert.same({ "ENOENT", 2, "open object", "/nonexistent/x.bpf.o", "No such file or directory",
      "check the path; relative ones start at the working directory" },
      { err.code, err.errno, err.op, err.subject, err.cause, err.hint })
    assert.is_nil(err.log)
  end)

  it("is printed as op 'subject': cause (CODE), and the hint in a line of its own", function()
    assert.equal("open object '/nonexistent/x.bpf.o': No such file or directory (ENOENT)\n"
      .. "hint: check the path; relative ones start at the working directory",
      tostring(refusal(bpf.open, "/nonexistent/x.bpf.o")))
  end)

  it("is made in Lua by bpf.error", function()
    local err = bpf.error { code = "EBUSY", errno = 16, op = "attach", subject = "lo",
      cause = "in use", hint = "detach it", log = "words", other = 1 }
    assert.equal("error", bpf.type(err))
    assert.equal("attach 'lo': in use (EBUSY)\nhint: detach it", tostring(err))
    assert.same({ "EBUSY", 16, "words" }, { err.code, err.errno, err.log })
    assert.is_nil(err.other)
    assert.equal(err, refusal(error, err))
  end)

  it("is printed without a hint when it has none, and with less if it has less", function()
    assert.equal("attach 'lo': in use (EBUSY)",
      tostring(bpf.error { code = "EBUSY", op = "attach", subject = "lo", cause = "in use" }))
    assert.equal("error '?': failed (?)", tostring(bpf.error {}))
    assert.equal("error '5': failed (?)", tostring(bpf.error { subject = 5 }))
  end)

  it("is made of a table only", function()
    assert.equal("bad argument #1 to 'error' (table expected, got string)",
      mistake(function() bpf.error "x" end))
  end)

  it("reaches the user of `moonbee run` as text", function()
    local r = run_code 'require "moonbee".open "/nonexistent/x.bpf.o"'
    assert.equal(1, r.rc)
    assert.matches("open object '/nonexistent/x.bpf.o': No such file or directory (ENOENT)",
      r.err, 1, true)
    assert.matches("\nhint: check the path; relative ones start at the working directory",
      r.err, 1, true)
  end)
end)

describe("the caller's mistake", function()
  local obj
  before_each(function() obj = bpf.open(FIXTURE) end)
  after_each(function() obj:close() end)

  it("is text with the place of the caller", function()
    local line = debug.getinfo(1, "l").currentline + 1
    local _, text = pcall(function() obj.vars.v_u8 = 256 end)
    assert.equal("string", type(text))
    assert.matches("error_spec.lua:" .. line .. ": store 'v_u8': 256 is out of range", text, 1,
      true)
  end)

  it("is its place, too, through functions of moonbee", function()
    for _, fn in ipairs {
      function() bpf.update(obj.vars.cfg, { rate = -1 }) end,
      function() return bpf.ref(obj.vars, "nope") end,
      function() bpf.ref(obj.vars, "v_u8"):set(256) end,
      function() return obj.vars.cfg.limits[8] end,
      function() obj.types["struct limit"] { rat = 1 } end,
      function() bpf.open(FIXTURE, { nope = 1 }) end,
      function() bpf.open(5, 6) end,
      function() bpf.open "a\0b" end,
      function() return obj.maps.nope end,
      function() return obj.nope end,
    } do
      mistake(fn)
    end
  end)
end)

describe("the hint", function()
  it("of a missing privilege says which one", function()
    -- libbpf's first question to the kernel is refused before anything is made
    local script = ('local ok, e = pcall(require "moonbee".load, %q) print(tostring(e))')
      :format(FIXTURE)
    local r = run_code(script, "nobody")
    assert.matches("(EPERM)", r.out, 1, true)
    assert.matches("\nhint: it lacks CAP_BPF", r.out, 1, true)
    assert.matches("setcap cap_bpf[%l_,]*%+ep PROGRAM\n$", r.out)
  end)

  it("of a file that one may not read says whom to ask", function()
    local path = os.tmpname()
    os.execute("chmod 000 " .. path)
    local script = ('local ok, e = pcall(require "moonbee".open, %q) print(tostring(e))')
      :format(path)
    local r = run_code(script, "nobody")
    os.remove(path)
    assert.equal("open object '" .. path .. "': Permission denied (EACCES)\n"
      .. "hint: run as root, or ask the owner of the path for access\n", r.out)
  end)

  it("of a name that is near nothing is not there", function()
    local obj <close> = bpf.open(FIXTURE)
    assert.equal("object 'types' has no map 'nope'",
      mistake(function() return obj.maps.nope end))
    assert.equal("object 'types' has no program 'observ'\nhint: did you mean 'observe'?",
      mistake(function() return obj.progs.observ end))
    assert.equal("object 'types' has no section '.dat'\nhint: did you mean '.data'?",
      mistake(function() return obj.sections[".dat"] end))
  end)
end)
