-- SPDX-License-Identifier: BSD-2-Clause
-- What an error calls a field: the path that leads to it from the whole, however it was reached.
local bpf = require "moonbee"
local mistake = require "support.mistake"

local FIXTURE = (os.getenv "MB_BUILD" or "build") .. "/fixtures/types.bpf.o"

describe("an error names", function()
  local obj, v

  before_each(function()
    obj = bpf.open(FIXTURE)
    v = obj.vars
  end)
  after_each(function() obj:close() end)

  local function store(at, fn)
    local text = mistake(fn)
    assert.equal("store '" .. at .. "'", text:match "^store '[^']*'", text)
  end

  it("the path from the section, also of a view that was kept", function()
    local limit = v.cfg.limits[3]
    store("cfg.limits[3].rate", function() v.cfg.limits[3].rate = -1 end)
    store("cfg.limits[3].rate", function() limit.rate = "x" end)
    store("cfg.limits[3].rate", function() bpf.ref(v, "cfg.limits[3].rate"):set(2 ^ 40) end)
    store("cfg.limits[2].burst", function()
      local fine = { rate = 1, burst = 1 }
      v.cfg.limits = { fine, fine, { rate = 1, burst = 1.5 }, { rate = -1, burst = 1 } }
    end)
  end)

  it("members of anonymous ones by their own names", function()
    store("cfg.anon_b", function() v.cfg.anon_b = 256 end)
    store("cfg.half_hi", function() v.cfg.half_hi = 65536 end)
    store("cfg.quad[2]", function() v.cfg.quad[2] = 256 end)
    store("cfg.range.hi", function() v.cfg.range = { lo = 1, hi = -1 } end)
  end)

  it("each index of an array of arrays", function()
    store("grid[2][3]", function() v.grid[2][3] = -1 end)
    store("grid[1][0]", function() local row = v.grid[1]; row[0] = {} end)
  end)

  it("the path within a value or a copy", function()
    local Cfg = obj.types["struct cfg"]
    store("limits[7].rate", function()
      return Cfg { limits = { [0] = {}, [7] = { rate = -1 } } }
    end)
    local copy = bpf.copy(v.cfg.limits[3])
    store("burst", function() copy.burst = -1 end)
    store("limits[1].burst", function() bpf.update(Cfg {}, { limits = { {}, { burst = -5 } } }) end)
  end)

  it("the type of what lacks a field, and where that is", function()
    assert.equal("no field 'rat' in 'cfg.limits[3]' (struct limit)\nhint: did you mean 'rate'?",
      mistake(function() return v.cfg.limits[3].rat end))
    assert.equal("index 'cfg.limits': struct limit[8] has no element 8 (0..7)",
      mistake(function() return v.cfg.limits[8] end))
  end)
end)
