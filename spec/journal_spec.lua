-- SPDX-License-Identifier: BSD-2-Clause
-- The journal of tuning changes: kept across restarts, and what undo finds.
local journal = require "moonbee.policy.journal"
local support = require "support.bpf"

-- As a run directory, in memory.
local function directory()
  local files = {}
  return {
    read = function(_, name) return files[name] and table.concat(files[name]) end,
    write = function(_, name, text) files[name] = { text } end,
    append = function(_, name, text)
      files[name] = files[name] or {}
      table.insert(files[name], text)
    end,
  }
end

describe("the journal", function()
  it("keeps who changed what", function()
    local dir = directory()
    local j = journal.new(dir)
    j:add { who = "uid 0", what = "rate", old = 10, new = 20 }
    j:add { who = "--set", what = "cfg", old = { a = 1 }, new = { a = "x\ny" } }
    local again = journal.new(dir).entries
    assert.same(j.entries, again)
    assert.same({ 1, "uid 0", "rate", 10, 20 },
      { again[1].n, again[1].who, again[1].what, again[1].old, again[1].new })
    assert.is_true(again[1].time > 1e9)
    assert.equal(3, journal.new(dir):add { what = "x" }.n)
  end)

  it("finds what is to be undone", function()
    local j = journal.new()
    assert.matches("nothing was changed by hand", tostring(support.refusal(j.find, j)))
    for i = 1, 3 do j:add { what = "rate", old = i, new = i + 1 } end
    assert.equal(3, j:find().n)
    assert.equal(2, j:find(2).n)
    j:add { what = "rate", old = 4, new = 3, undo = 3 }
    assert.equal(2, j:find().n)
    assert.equal("EALREADY", support.refusal(j.find, j, 3).code)
    assert.equal("ENOENT", support.refusal(j.find, j, 9).code)
    assert.equal(4, j:find(4).n) -- an undo may be undone
    j:add { what = "(line)", new = "maps.flows:clear()" } -- a console's: nobody can
    assert.equal(2, j:find().n)
    assert.equal(5, j:find(5).n)
  end)

  it("is cut to its newest entries", function()
    local dir = directory()
    local j = journal.new(dir)
    for i = 1, 1010 do j:add { what = ("w"):rep(1000), new = i } end
    assert.equal(1000, #j.entries)
    local again = journal.new(dir)
    assert.equal(1010, again.entries[1000].new)
    assert.equal(1011, again:add { what = "x" }.n)
    assert.is_true(#dir:read "journal" < 1.2 * (1 << 20))
  end)

  it("passes over a line that a kill cut", function()
    local dir = directory()
    local j = journal.new(dir)
    j:add { what = "a", new = 1 }
    j:add { what = "b", new = 2 }
    dir:write("journal", dir:read "journal":sub(1, -8))
    assert.equal(1, #journal.new(dir).entries)
  end)
end)
