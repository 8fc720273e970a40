-- SPDX-License-Identifier: BSD-2-Clause
-- What the verifier says: of a program that it rejects, an object; of one that it takes, text.
local bpf = require "moonbee"
local skip = require "support.skip"
local support = require "support.bpf"

describe("the verifier #root", function()
  before_each(skip.root)

  local function rejected(name)
    local obj <close> = support.open(name)
    return support.refusal(function() obj:load() end)
  end

  it("tells program, reason, source and instruction of a rejection", function()
    local err = rejected "reject"
    local v = err.verifier
    assert.equal("careless", v.program)
    assert.same({ "R0 invalid mem access 'map_value_or_null'" }, v.reasons)
    assert.equal("*value += 1; /* here: value may be NULL */", v.source)
    assert.is_true(v.insn > 0 and v.processed >= v.insn)
    if v.file then                      -- kernels that name it
      assert.equal("reject.bpf.c", v.file)
      assert.equal(24, v.line)
    end
    assert.matches("-- BEGIN PROG LOAD LOG --", err.log, 1, true)
    assert.matches(("%d: %%("):format(v.insn), err.log)
  end)

  it("gives all that it minded, in the text and in JSON", function()
    local err = rejected "overrun"
    assert.equal("load object 'overrun': program 'overrun' was rejected by the verifier: " ..
      "invalid access to map value, value_size=16 off=32 size=8; " ..
      "R%d min value is outside of the allowed memory range", (tostring(err):match "^[^\n]*"
      :gsub("; R%d", "; R%%d")))
    assert.equal(2, #err.verifier.reasons)
    assert.equal("invalid access to map value, value_size=16 off=32 size=8",
      err.verifier.reasons[1])
    assert.matches('"reasons":%["invalid access', bpf.json(err))
  end)

  it("says nothing of another failure", function()
    local obj <close> = support.load "hooks"
    assert.is_nil(support.refusal(function() obj:load() end).verifier)
  end)

  it("has words for a success, too, where they are asked for", function()
    local obj <close> = support.load("hooks", { log_level = 1 })
    assert.matches("processed %d+ insns", obj.progs.sum.log)
    assert.matches("processed %d+ insns", obj.progs.grow.log)
    local long <close> = support.load("hooks", { log_level = 2 })
    assert.is_true(#long.progs.sum.log > #obj.progs.sum.log)
    assert.matches("%d+: %(%x%x%) ", long.progs.sum.log)
    local plain <close> = support.load "hooks"
    assert.is_nil(plain.progs.sum.log)
    assert.is_nil(obj.progs.nowhere.log) -- left out of the load
  end)
end)
