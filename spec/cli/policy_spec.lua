-- SPDX-License-Identifier: BSD-2-Clause
-- moonbee policy and ctl on the command line: wrong calls, and policies without an object.
local uv = require "luv"
local run = require "support.run"
local support = require "support.bpf"
local policy = require "support.policy"

describe("moonbee policy", function()
  local function moonbee(...)
    local r = run { support.moonbee, ... }
    return r.rc, r.out, r.err
  end

  it("refuses a wrong call", function()
    local p <close> = policy.new()
    p:write("p.lua", "return { start = function() end }")
    for says, words in pairs {
      ["no name of a policy"] = { "--name", "a/b" },
      ["%-%-set rate: not NAME=VALUE"] = { "--set", "rate" },
      ["%-%-param x: not NAME=VALUE"] = { "--param", "x" },
    } do
      local rc, out, err = moonbee("policy", p.path, table.unpack(words))
      assert.same({ 2, "" }, { rc, out })
      assert.matches(says, err)
    end
    local rc, _, err = moonbee("policy", p.dir .. "/none.lua")
    assert.equal(1, rc)
    assert.matches("read policy '.-/none.lua': No such file or directory %(ENOENT%)", err)
    rc, _, err = moonbee("policy", p.path, "--param", "x=1")
    assert.equal(1, rc)
    assert.matches("parameter 'x' is not one of this policy's", err)
  end)

  it("is asked by ctl, which tells what does not run", function()
    local p <close> = policy.new()
    p:write("p.lua", 'return { version = "7", start = function() end }')
    local rc, _, err = moonbee("ctl", "p", "status")
    assert.equal(1, rc)
    assert.matches("no policy of this name runs .-\nhint: moonbee policy FILE %-%-name p", err)
    p:start()
    local out
    rc, out = moonbee("ctl", "p", "status")
    assert.equal(0, rc)
    assert.matches("^p: running\n", out)
    assert.matches("\n  version    7\n", out)
    rc, out = moonbee("ctl", "p", "status", "--json")
    assert.equal("running", require "dkjson".decode(out).state)
    assert.equal(0, rc)
    assert.same({ 0, "nothing was changed by hand\n", "" }, { moonbee("ctl", "p", "journal") })
    assert.equal(2, (moonbee("ctl", "p", "get")))
    assert.equal(2, (moonbee("ctl", "p", "set", "rate")))
    assert.equal(2, (moonbee("ctl", "p", "undo", "x")))
    assert.equal(2, (moonbee("ctl", "p", "nothing")))
    rc, _, err = moonbee("ctl", "p", "get", "rate")
    assert.equal(1, rc)
    assert.matches("the policy has no object", err)
    -- the name is taken
    rc, _, err = moonbee("policy", p.path, "--name", "p")
    assert.equal(1, rc)
    assert.matches("a policy of this name is running %(EBUSY%)", err)
    assert.equal(0, p:finish().rc)
  end)

  it("refuses, as root, what others may write, and says so where it is allowed", function()
    if uv.getuid() ~= 0 then return pending "needs root" end
    local p <close> = policy.new()
    p:write("p.lua", "return { start = function() end }")
    uv.fs_chmod(p.path, tonumber("666", 8))
    local rc, _, err = moonbee("policy", p.path)
    assert.equal(1, rc)
    assert.matches("others may write it: .-p.lua: everybody may write it %(EPERM%)\nhint: chmod",
      err)
    p:start { "--allow-writable" }
    p.process:expect "p: warn: .-p.lua is used although others may write it"
    assert.equal(0, p:finish().rc)
  end)
end)
