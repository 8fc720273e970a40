-- SPDX-License-Identifier: BSD-2-Clause
-- What every userdata keeps to: closed handles say so, closing twice is fine, names are checked.
local bpf = require "moonbee"
local mistake = require "support.mistake"
local skip = require "support.skip"

local FIXTURES = (os.getenv "MB_BUILD" or "build") .. "/fixtures/"

-- class -> title, an argument that methods take (or "x"), and a function that makes a handle and
-- what it belongs to
local classes = {
  object = { title = "types", make = function() return bpf.open(FIXTURES .. "types.bpf.o") end },
  map = { title = "flows", make = function()
    local obj = bpf.open(FIXTURES .. "maps.bpf.o")
    return obj.maps.flows, obj
  end },
  program = { title = "observe", make = function()
    local obj = bpf.open(FIXTURES .. "types.bpf.o")
    return obj.progs.observe, obj
  end },
  rundir = { title = "spec", make = function()
    local uv = require "luv"
    local before = os.getenv "MOONBEE_RUNTIME_DIR"
    local base = assert(uv.fs_mkdtemp "/tmp/moonbee-class-XXXXXX")
    uv.os_setenv("MOONBEE_RUNTIME_DIR", base)
    local dir = bpf.rundir.open "spec"
    if before then uv.os_setenv("MOONBEE_RUNTIME_DIR", before)
    else uv.os_unsetenv "MOONBEE_RUNTIME_DIR" end
    return dir, { close = function()
      uv.fs_rmdir(base .. "/spec")
      uv.fs_rmdir(base)
    end }
  end },
}
local live = {
  writer = { title = "commands", make = function()
    local obj = bpf.load(FIXTURES .. "commands.bpf.o")
    return obj.maps.commands:writer(), obj
  end },
  trace = { title = "trace_pipe", make = function() return bpf.trace_pipe() end },
  stats = { title = "of programs", make = function() return bpf.stats() end },
  link = { title = "pass", make = function()
    local obj = bpf.load(FIXTURES .. "xdp.bpf.o")
    return obj.progs.pass:attach { ifname = "lo", mode = "generic" }, obj
  end },
  migration = { title = "totals", make = function()
    local obj = bpf.load(FIXTURES .. "maps.bpf.o")
    return bpf.migration(obj.maps.totals, obj.maps.recent), obj
  end },
  reader = { title = "events", arg = 1, make = function()
    local obj = bpf.load(FIXTURES .. "events.bpf.o")
    return obj.maps.events:reader(), obj
  end },
}

local function article(class) return (class:find "^[aeiou]" and "an " or "a ") .. class end

local function keeps_the_rules(class, how)
  local handle, obj
  local function make()
    handle, obj = how.make()
    return handle
  end
  local function finish()
    if handle and class ~= "program" then handle:close() end
    if obj then obj:close() end
    handle, obj = nil, nil
  end
  -- Ends the handle in the way that its class has.
  local function close()
    if class == "program" then obj:close() else handle:close() end
  end
  before_each(function()
    if live[class] then skip.root() end
    if not live[class] or skip.is_root() then make() end
  end)
  after_each(finish)

  it("says what it is, open and closed", function()
    assert.equal(class, bpf.type(handle))
    assert.matches("^moonbee%." .. class .. " '" .. how.title .. "'", tostring(handle))
    assert.falsy(handle.closed)
    close()
    assert.equal("closed " .. class, bpf.type(handle))
    assert.equal("moonbee." .. class .. " (closed)", tostring(handle))
    assert.equal(true, handle.closed)
  end)

  it("raises in every method and property once it is closed", function()
    local names = bpf.classes()[class]
    close()
    for name, kind in pairs(names) do
      if name ~= "closed" and name ~= "close" then
        local text = mistake(function()
          local x = handle[name]        -- a property raises here
          if kind == "method" then x(handle, how.arg or "x", "x") end
        end)
        assert.matches("attempt to use a? ?closed " .. class, text)
      end
    end
  end)

  it("may be closed twice, and then be collected", function()
    close()
    close()
    finish()
    collectgarbage()
    collectgarbage()
  end)

  it("may be collected without being closed", function()
    if live[class] then return end      -- links and readers are never only collected
    handle, obj = nil, nil
    collectgarbage()
    collectgarbage()
  end)

  it("refuses another thing in its place", function()
    for name, kind in pairs(bpf.classes()[class]) do
      if kind == "method" then
        local method = handle[name]
        for what, wrong in pairs { number = 5, ["nil"] = false, table = {}, ["FILE*"] = io.stdout,
            ["moonbee.view"] = bpf.open(FIXTURES .. "types.bpf.o").vars } do
          local ok, text = pcall(method, wrong or nil, how.arg or "x", "x")
          assert.falsy(ok, name)
          assert.matches("moonbee." .. class .. " expected, got ", text, 1, true)
          assert.matches("got " .. what, text, 1, true)
        end
      end
    end
  end)

  it("has no other names, and tells the nearest", function()
    assert.equal(article(class) .. " has no 'nam'\nhint: did you mean 'name'?",
      mistake(function() return handle.nam end))
    assert.matches(article(class) .. " has no 'qqqqqqqq'",
      mistake(function() return handle.qqqqqqqq end), 1, true)
    assert.matches(article(class) .. " has no 'qqqqqqqq'",
      mistake(function() handle.qqqqqqqq = 1 end), 1, true)
  end)

  it("has names that cannot be set", function()
    assert.equal("'name' of " .. article(class) .. " cannot be set",
      mistake(function() handle.name = "x" end))
  end)

  it("shows no metatable", function()
    assert.equal("moonbee." .. class, getmetatable(handle))
    assert.falsy(pcall(setmetatable, handle, {}))
    assert.equal(handle, handle)
  end)
end

for class, how in pairs(classes) do
  describe(article(class), function() keeps_the_rules(class, how) end)
end
for class, how in pairs(live) do
  describe(article(class) .. " #root", function() keeps_the_rules(class, how) end)
end

describe("a type", function()
  it("keeps to the rules for names, and has nothing to close", function()
    local obj <close> = bpf.open(FIXTURES .. "types.bpf.o")
    local T = obj.types["struct cfg"]
    assert.equal("a type has no 'siz'\nhint: did you mean 'size'?",
      mistake(function() return T.siz end))
    assert.equal("'size' of a type cannot be set", mistake(function() T.size = 1 end))
    assert.equal("a type has no index of type number", mistake(function() return T[1] end))
    assert.equal("a type has no 'close'", (mistake(function() T:close() end):gsub("\n.*", "")))
    assert.equal("moonbee.type", getmetatable(T))
  end)
end)

describe("the classes", function()
  it("are all under these rules", function()
    for class in pairs(bpf.classes()) do
      assert.truthy(classes[class] or live[class] or class == "type", class)
    end
  end)

  it("close at the end of a block", function()
    local obj
    do
      local block <close> = bpf.open(FIXTURES .. "types.bpf.o")
      obj = block
      assert.equal("open", obj.state)
    end
    assert.equal("closed object", bpf.type(obj))
  end)

  it("close although the block raises", function()
    local obj
    pcall(function()
      local block <close> = bpf.open(FIXTURES .. "types.bpf.o")
      obj = block
      error "x"
    end)
    assert.equal("closed object", bpf.type(obj))
  end)

  it("end what an object has when it is closed", function()
    local obj = bpf.open(FIXTURES .. "maps.bpf.o")
    local map, prog = obj.maps.flows, select(2, pairs(obj.progs)(nil))
    obj:close()
    assert.equal("closed map", bpf.type(map))
    if prog then assert.equal("closed program", bpf.type(prog)) end
  end)
end)
