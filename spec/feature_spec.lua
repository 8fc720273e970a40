-- SPDX-License-Identifier: BSD-2-Clause
-- What this kernel can do, as its BTF tells, without a privilege.
local bpf = require "moonbee"
local features = require "moonbee.feature"
local skip = require "support.skip"

local STATES = { yes = true, no = true, unknown = true }

local function by_name(list)
  local found = {}
  for _, f in ipairs(list) do found[f.group .. "." .. f.name] = f end
  return found
end

describe("the kernel's features", function()
  it("are yes, no or unknown, each with where that is known from", function()
    local groups = {}
    for _, f in ipairs(features.list()) do
      groups[f.group] = (groups[f.group] or 0) + 1
      assert.is_true(STATES[f.state], f.name)
      assert.is_true(f.state == "unknown" or f.from == "btf", f.name)
      assert.is_true(f.state ~= "no" or #f.why > 0, f.name)
    end
    for _, group in ipairs { "feature", "prog_type", "map_type", "attach_type", "link_type" } do
      assert.is_true((groups[group] or 0) > 5, group)
    end
  end)

  it("are read by name, and by list and name", function()
    skip.unless("btf", "nothing tells")
    assert.equal("yes", features.map_type.hash)
    assert.equal("yes", features.prog_type.xdp)
    assert.equal("yes", features.helper.map_lookup_elem)
    assert.equal("yes", features.links)
    assert.is_nil(features.no_such_thing)
    assert.is_nil(features.map_type.no_such_thing)
    local n = 0
    for name, state in pairs(features) do
      n = n + 1
      assert.is_true(type(name) == "string" and STATES[state])
    end
    assert.is_true(n > 15)
    assert.equal(features, require "moonbee.kernel".features)
  end)

  it("agree with what this kernel does", function()
    skip.unless("btf", "nothing tells")
    local kprobe = skip.has "kprobe"
    assert.equal(kprobe and "yes" or "no", features.kprobe)
    assert.is_nil(by_name(features.list())["map_type.unspec"])
  end)

  it("are probed when that is asked for #root", function()
    skip.root()
    local found = by_name(features.list { probe = true })
    for _, name in ipairs { "map_type.hash", "map_type.ringbuf", "prog_type.xdp" } do
      assert.same({ "yes", "probe" }, { found[name].state, found[name].from })
    end
    assert.equal("yes", found["map_type.struct_ops"].state)
  end)

  it("take no other options", function()
    assert.matches("only option 'probe'", select(2, pcall(features.list, { prob = true })))
    assert.matches("table of options expected, got string", select(2, pcall(features.list, "x")))
    assert.is_nil(bpf.type(features))
  end)
end)
