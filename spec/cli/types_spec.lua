-- SPDX-License-Identifier: BSD-2-Clause
-- moonbee types, and the annotations of our own API: syntax here; meaning by emmylua_check, where
-- it is installed (cargo install emmylua_check).
local lfs = require "lfs"
local luacats = require "support.luacats"
local run = require "support.run"

local BUILD = os.getenv "MB_BUILD" or "build"
local MOONBEE = BUILD .. "/moonbee"
local FIXTURES = { "types", "maps", "core", "events", "shapes", "externs", "numbers" }

local function types(fixture, ...)
  local r = run({ MOONBEE, "types", BUILD .. "/fixtures/" .. fixture .. ".bpf.o", ... },
    { user = "nobody" })
  assert.equal("", r.err)
  assert.equal(0, r.rc)
  return r.out
end

local function read(path)
  local file <close> = assert(io.open(path))
  return file:read "a"
end

local function reference(known)
  for name in lfs.dir "lua/moonbee/meta" do
    if name:find "%.lua$" then
      known = luacats.parse(read("lua/moonbee/meta/" .. name), name, known)
    end
  end
  return known
end

-- emmylua_check, of PATH or where cargo puts it.
local function checker()
  local places = (os.getenv "PATH" or "") .. ":" .. (os.getenv "HOME" or "") .. "/.cargo/bin"
  for dir in places:gmatch "[^:]+" do
    local path = dir .. "/emmylua_check"
    if lfs.attributes(path, "mode") == "file" then return path end
  end
end

describe("moonbee types", function()
  it("writes classes for variables, maps, enums and events", function()
    local out = types "types"
    for _, line in ipairs {
      "---@meta types", "---@class types.vars : moonbee.view", "---@field v_u64 integer __u64",
      "---@field v_bool boolean bool", "---@field v_double number double",
      "---@field name string char[16]", "---@field v_int128 string __int128",
      "---@field v_ptr integer void *", "---@field cfg types.cfg struct cfg",
      "---@field limits { [integer]: types.limit } struct limit[8]",
      "---@field grid { [integer]: { [integer]: integer } } __u32[3][4]",
      "---@alias types.mode integer|\"MODE_OFF\"|\"MODE_SOFT\"|\"MODE_STRICT\"",
      "---@field v_mode types.mode enum mode", "---@class types.object : moonbee.object",
      "---@field [\"end\"] integer __u32", "---@field observe moonbee.program syscall",
      "---@class types.any : moonbee.view", "---@field anon_a integer __u8",
      "---@class types.cfg.range : moonbee.view",
    } do
      assert.truthy(("\n" .. out):find("\n" .. line .. "\n", 1, true), line .. ": " .. out)
    end
    out = types "maps"
    for _, line in ipairs {
      "---@class maps.maps.flows : moonbee.map", "---@param key maps.flow_key|table",
      "---@param value maps.flow|table", "---@return maps.flow|nil",
      "function map:set(key, value, how) end", "---@field flows maps.maps.flows",
    } do
      assert.truthy(("\n" .. out):find("\n" .. line .. "\n", 1, true), line .. ": " .. out)
    end
    assert.truthy(types("maps", "--name", "my-flow"):find "\n---@class my_flow%.object : ")
  end)

  it("types the records of a ring by the name that is asked for", function()
    local out = types "events"
    local reader = out:match '%-%-%-@overload fun%(self: [%w_.]+, type: "struct %w+"%): (%S+)\n'
    assert.truthy(reader, out)
    local class = "---@class " .. reader .. " : moonbee.reader\n---@field drain fun("
    assert.truthy(out:find(class, 1, true))
  end)

  it("leaves out what CO-RE asks of the kernel, and bears Lua's keywords", function()
    local out = types "core"
    assert.is_nil(out:find "task_struct")
    for _, line in ipairs { "---@field [\"function\"] core.state enum state",
      "---@field [\"repeat\"] { [integer]: core.anonymous.repeat } struct (anonymous)[2]",
      "---@field [\"local\"] { [integer]: integer } __u8[4]" } do
      assert.truthy(out:find(line, 1, true), line)
    end
  end)

  it("is Lua, in annotations that parse, with every name defined", function()
    for _, fixture in ipairs(FIXTURES) do
      local out = types(fixture)
      assert(load(out, "=" .. fixture, "t"))
      local known = luacats.parse(out, fixture)
      assert.same({}, luacats.unknown(reference(known)), fixture)
    end
  end)

  it("writes to a file, and says when it cannot", function()
    local path = os.tmpname()
    local r = run { MOONBEE, "types", BUILD .. "/fixtures/core.bpf.o", "-o", path }
    assert.same({ rc = 0, out = "", err = "" }, r)
    assert.equal(types "core", read(path))
    os.remove(path)
    r = run { MOONBEE, "types", BUILD .. "/fixtures/core.bpf.o", "-o", "/none/x.lua" }
    assert.equal(1, r.rc)
    local text = "write definitions '/none/x.lua': No such file or directory (ENOENT)"
    assert.truthy(r.err:find(text, 1, true), r.err)
  end)
end)

describe("the annotations of our own API", function()
  it("parse, and use no type that is not there", function()
    assert.same({}, luacats.unknown(reference(nil)))
  end)

  it("would not parse with a mistake in them", function()
    for _, line in ipairs {
      "---@field x", "---@field 5 integer", "---@param x", "---@param x? { a: integer", "---@class",
      "---@retrun integer", "---@return fun(x: integer", "---@alias a", "---@field x integer|",
      "---@field [\"end\" integer", "---@class a b", "---@param x string, integer",
      "---@overload integer", "---@operator len integer", "---@return \"open",
    } do
      assert.is_false((pcall(luacats.parse, line .. "\n", "x")), line)
    end
    local known = luacats.parse("---@type moonbee.none", "x")
    assert.same({ "x:1: moonbee.none" }, luacats.unknown(known))
  end)

  -- No Debian package has it: where it is not installed, there is no such spec.
  local check = checker()
  if not check then return end

  it("are accepted by emmylua_check, with an object's, and find a mistake", function()
    local dir = os.tmpname()
    os.remove(dir)
    lfs.mkdir(dir)
    local _rm <close> = setmetatable({}, { __close = function() run { "rm", "-rf", dir } end })
    run { "cp", "-r", "lua/moonbee/meta", dir .. "/meta" }
    for _, fixture in ipairs(FIXTURES) do
      run { MOONBEE, "types", BUILD .. "/fixtures/" .. fixture .. ".bpf.o", "-o",
        ("%s/%s.meta.lua"):format(dir, fixture) }
    end
    local function check_with(code)
      local file <close> = assert(io.open(dir .. "/use.lua", "w"))
      file:write([[
        local bpf = require "moonbee"
        ---@type types.object
        local obj = bpf.load "types.bpf.o"
      ]], code)
      file:flush()
      return run({ check, "--warnings-as-errors", dir }, { timeout = 120 })
    end
    local good = check_with [[
      obj.vars.cfg.limits[3].rate = 5
      print(obj.vars.cfg.limits[3].rate + 1, bpf.sum(obj.vars.limits, "rate"))
      print(obj.progs.observe.name)
    ]]
    assert.equal(0, good.rc, good.out .. good.err)
    local bad = check_with [[
      print(obj.vars.cfg.limits[3].rat)
      bpf.ref(obj.vars, 5)
    ]]
    assert.truthy(bad.rc ~= 0)
    assert.truthy(bad.out:find "rat" and bad.out:find "use%.lua", bad.out)
  end)
end)
