-- SPDX-License-Identifier: BSD-2-Clause
--
-- Each fuzz target for two seconds, from its seeds: the targets build, take real objects, and what
-- was once found stays mended. Longer: make fuzz TIME=600.
local lfs = require "lfs"
local run = require "support.run"
local skip = require "support.skip"

local build = os.getenv "MB_BUILD" or "build"

local targets = {}
for file in lfs.dir "spec/fuzz" do targets[#targets + 1] = file:match "^(.+)%.c$" end
table.sort(targets)

describe("fuzzing", function()
  it("has its targets", function()
    assert.same({ "check", "plan", "value", "view" }, targets)
  end)

  for _, name in ipairs(targets) do
    it("finds nothing in two seconds: " .. name, function()
      skip.unless(not build:find "asan", "targets have sanitizers of their own")
      skip.unless(lfs.attributes("build/fuzz/" .. name), "make fuzz builds it")
      local corpus = "build/fuzz/spec-" .. name
      run { "rm", "-rf", corpus }
      local function runs_in(seconds)
        local r = run({ "spec/fuzz/run.sh", name, seconds },
          { timeout = 120, env = { FUZZ_CORPUS = corpus } })
        assert.equal("", r.err)
        assert.equal(0, r.rc)
        return tonumber(r.out:match("^fuzz " .. name .. ": (%d+) runs")) or error(r.out)
      end
      -- On a busy machine the seeds alone may take two.
      assert.is_true(runs_in "2" > 100 or runs_in "20" > 100, "no fair trial")
    end)
  end
end)
