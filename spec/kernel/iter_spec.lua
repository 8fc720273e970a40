-- SPDX-License-Identifier: BSD-2-Clause
-- What iterator programs write: text, lines, records; each reading runs the program anew.
local uv = require "luv"
local bpf = require "moonbee"
local skip = require "support.skip"
local support = require "support.bpf"

describe("an iterator #root", function()
  before_each(skip.root)

  -- The fixture with this program only, and its link.
  local function attach(name, vars)
    local obj = support.open "iters"
    obj.progs[name].autoload = true
    for variable, value in pairs(vars or {}) do obj.vars[variable] = value end
    obj:load()
    return obj, obj.progs[name]:attach()
  end

  it("is read whole, as often as one likes", function()
    local _ <close>, link = attach "text"
    local me = ("\n%d "):format(uv.os_getpid())
    for _ = 1, 3 do assert.matches(me, "\n" .. link:read(), 1, true) end
  end)

  it("is read by lines", function()
    local _ <close>, link = attach("lines", { count = 200 })
    local n = 0
    for line in link:lines() do
      assert.equal(("%d %s"):format(n, ("x"):rep(99) .. "\0"), line)
      n = n + 1
    end
    assert.equal(200, n)                -- the last one has no end
    for line in link:lines() do
      assert.equal("0 ", line:sub(1, 2))
      if line then break end
    end
  end)

  it("is read by records, typed, that may be kept", function()
    local _ <close>, link = attach "records"
    local kept, found = {}, nil
    for r in link:records "struct task_record" do
      assert.equal(r.pid, r.tgid)
      kept[#kept + 1] = r
      if r.pid == uv.os_getpid() then found = r end
    end
    collectgarbage()
    assert.is_true(#kept > 1)
    assert.equal(uv.os_getpid(), found.pid)
    assert.is_true(#found.comm > 0)
    assert.is_string(support.mistake(function() found.pid = 1 end))
  end)

  it("may end by a finalizer in the midst of a step, and is stepped by none", function()
    local _ <close>, link = attach "records"
    local texts, whole = {}, 0
    for _ in link:records "struct task_record" do whole = whole + 1 end
    for round = 1, 300 do
      local f, s, c, w = link:records "struct task_record"
      local n = 0
      for r in f, s, c do
        assert.equal(r.pid, r.tgid)
        n = n + 1
        setmetatable({}, { __gc = function()
          local ok, text = true, nil
          if round % 2 == 0 then ok, text = pcall(f, s) end
          if not ok then texts[text] = true end
          local _ <close> = w
        end })
      end
      assert.truthy(n > 0 and n <= whole + 50)
    end
    for text in pairs(texts) do assert.matches("a step of this loop was not finished", text) end
  end)

  it("is read by columns", function()
    local obj <close>, link = attach "records"
    local T = obj.types["struct task_record"]
    local mine
    for pid, comm in link:records(T, "pid", "comm") do
      if pid == uv.os_getpid() then mine = comm end
    end
    assert.is_string(mine)
    assert.matches("did you mean 'pid'", support.mistake(function()
      link:records("struct task_record", "pidd")
    end))
  end)

  it("tells output that ends within a record", function()
    local _ <close>, link = attach "broken"
    assert.equal("abc", link:read())
    local ok, err = pcall(function()
      for _ in link:records "struct task_record" do error "a record" end
    end)
    assert.is_false(ok)
    assert.matches("ends within a record: struct task_record has 24 bytes, and 3 are left", err)
  end)

  it("ends its reading with the loop, also when its link closes meanwhile", function()
    local _ <close>, link = attach "text"
    local n = 0
    for line in link:lines() do
      n = n + #line
      if not link.closed then link:close() end
    end
    assert.is_true(n > 0)
    assert.matches("closed link", support.mistake(function() link:read() end))
  end)

  it("is only what an iterator's link is", function()
    local obj <close> = support.load "hooks"
    local link <close> = obj.progs.on_enter:attach()
    assert.equal("read iterator 'on_enter': a link of type raw_tracepoint gives nothing to read " ..
      "(EINVAL)\nhint: only programs of SEC(\"iter/…\") write what can be read",
      tostring(support.refusal(function() link:read() end)))
    local iters <close>, iter = attach "records"
    assert.matches("find type 'struct nope'",
      tostring(support.refusal(function() iter:records "struct nope" end)))
    assert.matches("records are structs, not __u32",
      support.mistake(function() iter:records "__u32" end))
    assert.is_not_nil(bpf.type(iter) and iters)
  end)
end)
