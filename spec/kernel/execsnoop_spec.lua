-- SPDX-License-Identifier: BSD-2-Clause
-- scripts/execsnoop on real processes.
local json = require "dkjson"
local lfs = require "lfs"
local uv = require "luv"
local run = require "support.run"
local skip = require "support.skip"

local BUILD = os.getenv "MB_BUILD" or "build"
local MOONBEE = BUILD .. "/moonbee"

-- Programs of our own, so that no one else's are in the output.
local dir = ("/tmp/mbexec%d"):format(uv.os_getpid())
local program = dir .. "/mbtrue"
local plain = dir .. "/mbplain"

local function write(path, text, mode)
  local file <close> = assert(io.open(path, "w"))
  file:write(text)
  assert(uv.fs_chmod(path, tonumber(mode, 8)))
end

local function events(text)
  local list = {}
  for line in text:gmatch "[^\n]+" do list[#list + 1] = assert(json.decode(line), line) end
  return list
end

describe("moonbee run execsnoop #root", function()
  setup(function()
    assert(lfs.mkdir(dir))
    assert(uv.fs_chmod(dir, tonumber("755", 8)))
    assert(uv.fs_copyfile("/bin/true", program))
    assert(uv.fs_chmod(program, tonumber("755", 8)))
    write(plain, "no program\n", "644")
    write(dir .. "/mbscript", "#!/bin/sh\nexit 0\n", "755")
  end)

  teardown(function()
    for name in lfs.dir(dir) do os.remove(dir .. "/" .. name) end
    lfs.rmdir(dir)
  end)

  before_each(function() skip.root() end)

  -- Starts it and returns when it is attached: text mode says so by its header, else by an event.
  local function start(...)
    local p = run.start({ MOONBEE, "run", "execsnoop", "--name", dir, ... })
    for _, argument in ipairs { ... } do
      if argument == "--json" then
        repeat run { program, "ready" } until p.out:find '"ready"' or p.code
        return p
      end
    end
    p:expect "PID +PPID"
    return p
  end

  local function interrupt(p)
    p:kill "sigint"
    local r = p:wait()
    assert.same({ 0, "" }, { r.rc, r.err })
    return r.out
  end

  -- The events of what fn does, without those of the start.
  local function events_of(p, fn)
    fn()
    run { program, "the end" }
    p:expect '"the end"'
    local list = {}
    for _, e in ipairs(events(interrupt(p))) do
      if e.args[2] ~= "ready" and e.args[2] ~= "the end" then list[#list + 1] = e end
    end
    return list
  end

  it("shows each argument as it was given", function()
    local p <close> = start "--json"
    local args = { program, "two words", "it's", 'say "x"', "", "tab\there", "line\nbreak", "ü" }
    local list = events_of(p, function() run(args) end)
    assert.equal(1, #list)
    local e = list[1]
    assert.same(args, e.args)
    assert.same({ program, "mbtrue", 0, uv.os_getpid() }, { e.file, e.comm, e.ret, e.ppid })
    assert.equal(uv.getuid(), e.uid)
    assert.is_false(e.truncated)
    assert.is_nil(e.error)
    assert.is_true(e.pid > 0 and e.ts_ns > 0)
  end)

  it("bytes that are no UTF-8 still make valid JSON", function()
    local p <close> = start "--json"
    local list = events_of(p, function() run { program, "\xff\xfe" } end)
    assert.equal("ÿþ", list[1].args[2])
  end)

  it("says when there is more than fits", function()
    local p <close> = start "--json"
    local list = events_of(p, function()
      run { program, ("x"):rep(5000) }
      run { program, ("y"):rep(1000) }
    end)
    assert.is_true(list[1].truncated)
    assert.equal(("x"):rep(2048 - #program - 1), list[1].args[2])
    assert.is_false(list[2].truncated)
    assert.equal(("y"):rep(1000), list[2].args[2])
  end)

  it("shows a script with its interpreter", function()
    local p <close> = start "--json"
    local list = events_of(p, function() run { dir .. "/mbscript", "x" } end)
    assert.same({ "/bin/sh", dir .. "/mbscript", "x" }, list[1].args)
    assert.equal(dir .. "/mbscript", list[1].file)
  end)

  it("shows attempts that fail, with the error", function()
    local p <close> = start "--json"
    local list = events_of(p, function()
      pcall(run, { dir .. "/mbnone", "a b" })
      pcall(run, { plain })
    end)
    assert.equal(2, #list)
    assert.same({ dir .. "/mbnone", -2, "ENOENT" }, { list[1].file, list[1].ret, list[1].error })
    assert.same({ dir .. "/mbnone", "a b" }, list[1].args)
    assert.same({ plain, -13, "EACCES" }, { list[2].file, list[2].ret, list[2].error })
  end)

  it("--failed shows only those", function()
    local p <close> = start "--failed"
    run { program }
    pcall(run, { dir .. "/mbnone", "a b" })
    p:expect "ENOENT"
    local out = interrupt(p)
    assert.is_nil(out:find("mbtrue", 1, true))
    assert.matches(dir .. "/mbnone: " .. dir .. "/mbnone 'a b'", out, 1, true)
  end)

  it("--uid shows only that user's", function()
    local p <close> = start("--uid", "65534")
    run { program, "root" }
    run({ program, "nobody" }, { user = "nobody" })
    p:expect "nobody"
    local out = interrupt(p)
    assert.is_nil(out:find " root")
    assert.matches("65534 +mbtrue", out)
  end)

  it("quotes for a shell, and lets no control byte through to the terminal", function()
    local p <close> = start "--timestamp"
    run { program, "two words", "it's", "\27[31m" }
    p:expect "31m"
    local out = interrupt(p)
    assert.matches([[mbtrue 'two words' 'it'\''s' '\x1b[31m']], out, 1, true)
    assert.matches("\n%d%d:%d%d:%d%d%.%d%d%d %d+ ", out)
  end)

  it("--count ends it", function()
    local p <close> = start("--count", "2")
    for i = 1, 4 do run { program, tostring(i) } end
    local r = p:wait()
    assert.same({ 0, "" }, { r.rc, r.err })
    local _, lines = r.out:gsub("\n", "")
    assert.equal(3, lines)
  end)

  local function run_many(n)
    local loop = "i=0; while [ $i -lt %d ]; do i=$((i+1)); %s $i; done"
    run({ "sh", "-c", loop:format(n, program) }, { timeout = 60 })
  end

  it("counts what is lost while it does not read", function()
    local p <close> = start()
    p:kill "sigstop"
    run_many(1000)
    p:kill "sigcont"
    p:expect "mbtrue 1\n"                -- it reads; others' programs may have filled the ring, too
    run { program, "end" }
    p:expect "mbtrue end\n"
    p:kill "sigint"
    local r = p:wait()
    assert.equal(0, r.rc)
    local lost = tonumber(r.err:match "^moonbee run execsnoop: (%d+) events lost\n$")
    local _, seen = r.out:gsub("mbtrue %d+\n", "")
    assert.is_true(lost > 0 and lost + seen >= 1000, r.err)
  end)

  it("loses nothing of a thousand execs in a row", function()
    local p <close> = start "--json"
    local list = events_of(p, function() run_many(1000) end)
    assert.equal(1000, #list)
    for i, e in ipairs(list) do assert.equal(tostring(i), e.args[2]) end
  end)
end)

describe("moonbee run execsnoop", function()
  it("has help", function()
    local r = run { MOONBEE, "run", "execsnoop", "--help" }
    assert.equal(0, r.rc, r.err)
    for _, option in ipairs { "json", "failed", "uid", "name", "count", "timestamp" } do
      assert.matches("--" .. option, r.out, 1, true)
    end
  end)

  it("wrong usage is 2", function()
    for _, args in ipairs { { "--nonsense" }, { "--count", "0" }, { "--uid", "-1" },
        { "--name", "[" } } do
      local r = run { MOONBEE, "run", "execsnoop", table.unpack(args) }
      assert.same({ 2, "" }, { r.rc, r.out })
      assert.matches("Usage: moonbee run execsnoop", r.err, 1, true)
    end
  end)
end)
