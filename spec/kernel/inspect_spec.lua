-- SPDX-License-Identifier: BSD-2-Clause
-- moonbee inspect on what is loaded: pins and ids, with the live values of variables. #root
local dkjson = require "dkjson"
local bpf = require "moonbee"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"
local uv = require "luv"

local function inspect(...)
  local r = run { support.moonbee, "inspect", ... }
  assert.equal("", r.err)
  assert.equal(0, r.rc)
  return r.out
end

local function as_json(...)
  return assert(dkjson.decode(inspect("--json", ...)))
end

describe("moonbee inspect of what is loaded #root", function()
  local function pinned(thing, fn)
    local path = ("/sys/fs/bpf/moonbee_inspect_%d"):format(uv.os_getpid())
    thing:pin(path)
    local _unpin <close> = setmetatable({}, { __close = function() os.remove(path) end })
    fn(path)
  end

  it("shows a program by its id, and its variables as they are now", function()
    skip.root()
    local obj <close> = support.load "types"
    local prog = obj.progs.observe
    obj.vars.hits = 41
    obj.vars.cfg.rate = 77
    local text = inspect(tostring(prog.id))
    assert.truthy(text:find("^program 'observe'\n", 1), text)
    assert.truthy(text:find("\n  id +" .. prog.id .. "\n"))
    assert.truthy(text:find "\n  type +syscall\n")
    assert.truthy(text:find "\nhits +%- +__u64 +8 +41\n")
    local about = as_json("prog:" .. prog.id)
    assert.equal("program", about.kind)
    assert.equal(prog.id, about.id)
    for _, v in ipairs(about.variables) do
      if v.name == "cfg" then assert.equal(77, v.value.rate) end
    end
    pinned(prog, function(path)
      about = as_json(path)
      assert.equal(path, about.pin_path)
      assert.equal("observe", about.name)
    end)
  end)

  it("shows a pinned map", function()
    skip.root()
    local maps <close> = support.load "maps"
    maps.maps.flows:set({ saddr = 1 }, { packets = 7 })
    pinned(maps.maps.flows, function(path)
      local about = as_json(path)
      assert.equal("map", about.kind)
      assert.equal("flows", about.name)
      assert.equal("hash", about.type)
      assert.equal("struct flow", about.value_type)
      assert.equal(1, about.entries)
      assert.truthy(inspect(path):find("^map 'flows'\n"))
      if bpf.map then assert.equal("flows", as_json("map:" .. about.id).name) end
    end)
  end)

  it("fails with one clear message for what is not there", function()
    skip.root()
    local r = run { support.moonbee, "inspect", "4294967295" }
    assert.equal(1, r.rc)
    assert.truthy(r.err:find "^moonbee: .*%(ENOENT%)", r.err)
    r = run { support.moonbee, "inspect", "dog:5" }
    assert.equal(2, r.rc)
    assert.truthy(r.err:find "no kind 'dog'", r.err)
    r = run { support.moonbee, "inspect", "99999999999999999999" }
    assert.truthy(r.rc == 1 or r.rc == 2)
  end)
end)
