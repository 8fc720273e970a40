-- SPDX-License-Identifier: BSD-2-Clause
-- Memory that has ended: what still looks at it raises, and reads nothing.
local bpf = require "moonbee"
local mistake = require "support.mistake"

local FIXTURE = (os.getenv "MB_BUILD" or "build") .. "/fixtures/types.bpf.o"

describe("a view of a closed object", function()
  local v, cfg, limits, limit

  before_each(function()
    local obj <close> = bpf.open(FIXTURE)
    v = obj.vars
    cfg, limits, limit = v.cfg, v.limits, v.limits[2]
  end)

  it("raises whatever is done with it, and names the object", function()
    local closed = ": object 'types' is closed"
    for what, fn in pairs {
      ["access 'v_u8'"] = function() return v.v_u8 end,
      ["access 'cfg'"] = function() return v.cfg end,
      ["access 'cfg.burst'"] = function() return cfg.burst end,
      ["access 'cfg.rate'"] = function() cfg.rate = 1 end,
      ["access 'cfg.range'"] = function() cfg.range = { lo = 1, hi = 2 } end,
      ["access 'cfg.limits'"] = function() return cfg.limits end,
      ["access 'limits'"] = function() return limits[2] end,
      ["access 'limits[2]'"] = function() return bpf.copy(limit) end,
      ["access 'v_u16'"] = function() bpf.update(v, { v_u16 = 1 }) end,
      ["access 'v_s8'"] = function() return bpf.ref(v, "v_s8"):get() end,
    } do
      assert.equal(what .. closed, mistake(fn))
    end
    assert.equal("access 'cfg'" .. closed, mistake(function() return bpf.bytes(cfg) end))
    assert.falsy(pcall(function() for name in pairs(cfg) do error(name) end end))
  end)

  it("says so when it is printed", function()
    assert.equal("moonbee.view struct cfg (object 'types' is closed)", tostring(cfg))
    assert.equal("moonbee.view variables (object 'types' is closed)", tostring(v))
  end)

  it("still knows its type", function()
    assert.equal("struct cfg", bpf.typeof(cfg).name)
    assert.equal(8, #limits)
    assert.equal(128, bpf.sizeof(cfg))
  end)
end)

describe("a store during which a finalizer closes the object", function()
  local pause, speed

  before_each(function()
    pause, speed = collectgarbage("setpause", 100), collectgarbage("setstepmul", 400)
  end)
  after_each(function()
    collectgarbage("setpause", pause)
    collectgarbage("setstepmul", speed)
  end)

  it("raises, and touches no memory that is gone", function()
    for step = 1, 40 do
      local obj = bpf.open(FIXTURE)
      local cfg = obj.vars.cfg
      local whole = bpf.totable(cfg)
      setmetatable({}, { __gc = function() obj:close() end })
      local ok, text = pcall(function()
        for i = 1, 100 do
          cfg.range = { lo = i, hi = step }
          cfg.limits = whole.limits
          bpf.copy(cfg)
        end
        collectgarbage()
        cfg.rate = 1
      end)
      assert.falsy(ok)
      assert.matches("object 'types' is closed", text, 1, true)
    end
  end)
end)
