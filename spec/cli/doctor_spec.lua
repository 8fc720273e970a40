-- SPDX-License-Identifier: BSD-2-Clause
-- moonbee doctor and moonbee features.
local json = require "dkjson"
local run = require "support.run"
local skip = require "support.skip"

local moonbee = (os.getenv "MB_BUILD" or "build") .. "/moonbee"

local function checks_of(options)
  local r = run({ moonbee, "doctor", "--json" }, options)
  local found = {}
  for _, c in ipairs(json.decode(r.out).checks) do found[c.check] = c end
  return found, r
end

describe("moonbee doctor", function()
  it("tells each check and, where it is not well, what to do", function()
    local r = run { moonbee, "doctor" }
    assert.is_true(r.rc == 0 or r.rc == 1)
    assert.equal("", r.err)
    for _, name in ipairs { "kernel", "libbpf", "CAP_BPF", "lockdown", "bpffs", "cgroup v2" } do
      assert.matches("\n.. " .. name .. " +%S", "\n" .. r.out)
    end
  end)

  it("says the same in JSON", function()
    for name, c in pairs((checks_of())) do
      assert.is_true(#c.found > 0, name)
      assert.is_true(({ ok = true, warn = true, bad = true, unknown = true })[c.level], name)
      assert.is_true(c.level == "ok" or c.level == "unknown" or #c.advice > 0, name)
    end
  end)

  it("fails, and names the capability, for who may not load #root", function()
    skip.root()
    local found, r = checks_of { user = "nobody" }
    assert.equal(1, r.rc)
    assert.same({ "no", "bad" }, { found.CAP_BPF.found, found.CAP_BPF.level })
    assert.equal("loading needs it: run as root, or setcap cap_bpf+ep", found.CAP_BPF.advice)
    assert.equal("hidden", found["kernel addresses"].found)
    local mine = checks_of()
    assert.equal("ok", mine.CAP_BPF.level)
  end)
end)

describe("moonbee features", function()
  it("lists what this kernel can do", function()
    skip.unless("btf", "nothing tells")
    local r = run { moonbee, "features" }
    assert.equal(0, r.rc)
    assert.matches("^feature\n  ring_buffer +yes", r.out)
    assert.matches("\nmap_type\n  hash +yes\n", r.out)
    assert.is_nil(r.out:find "\nhelper\n")
  end)

  it("lists those that are named, also by globs", function()
    skip.unless("btf", "nothing tells")
    local r = run { moonbee, "features", "map_type.*ring*", "loop" }
    assert.matches("^feature\n  loop +yes\n.*\nmap_type\n  ringbuf +yes", r.out)
    assert.is_nil(r.out:find "hash")
    local helpers = run { moonbee, "features", "helper", "--json" }
    local list = json.decode(helpers.out).features
    assert.is_true(#list > 100)
    assert.same({ "helper", "yes" }, { list[1].group, list[1].state })
  end)

  it("says that it knows of no such thing", function()
    local r = run { moonbee, "features", "no_such_thing" }
    assert.equal(1, r.rc)
    assert.matches("no feature 'no_such_thing' is known of\nhint: ", r.err)
  end)
end)
