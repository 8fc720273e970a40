-- SPDX-License-Identifier: BSD-2-Clause
-- What a map is can be said between bpf.open and obj:load(). max_entries are object_spec.lua's.
local skip = require "support.skip"
local support = require "support.bpf"

local mistake, refusal = support.mistake, support.refusal

describe("a map that is not loaded #root", function()
  before_each(skip.root)

  it("may be left out, and says so afterwards", function()
    local obj <close> = support.open "maps"
    local m = obj.maps.unmarked
    assert.is_true(m.autocreate)
    m.autocreate = false
    obj.progs.count.autoload = false  -- it uses that map
    obj:load()
    assert.is_false(m.autocreate)
    assert.is_nil(m.id)
    assert.equal([[
get from map 'unmarked': it was not created (EINVAL)
hint: its autocreate is false]], tostring(refusal(function() return m[1] end)))
    assert.equal("EBUSY", refusal(function() m.autocreate = true end).code)
    obj.maps.kept[1] = 1
    assert.is_string(mistake(function() m.autocreate = 1 end))
  end)

  it("may get values of another size: bytes", function()
    local obj <close> = support.open "maps"
    local m, raw = obj.maps.totals, obj.maps.raw
    m.value_size, raw.value_size = 12, 3
    obj.progs.fill.autoload, obj.progs.count.autoload = false, false
    obj:load()
    assert.same({ 12, 3 }, { m.value_size, raw.value_size })
    m[1] = "123456789012"
    assert.equal("123456789012", m[1])
    raw:set("abcd", "xyz")
    assert.equal("xyz", raw:get "abcd")
    for _, wrong in ipairs { 0, -1, 1.5, 2 ^ 32, "x", {} } do
      assert.equal("value_size is a whole number from 1 to 4294967295",
        mistake(function() m.value_size = wrong end))
    end
    local ring <close> = support.open "events"
    assert.equal("EINVAL", refusal(function() ring.maps.events.value_size = 8 end).code)
  end)
end)
