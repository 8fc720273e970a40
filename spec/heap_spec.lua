-- SPDX-License-Identifier: BSD-2-Clause
-- The program's memory: blocks that are kept for the next of their size are used again, and given
-- back.
local run = require "support.run"
local runtime = require "moonbee.runtime"

local moonbee = (os.getenv "MB_BUILD" or "build") .. "/moonbee"
local sanitized = moonbee:find "asan" -- its allocator keeps what was freed

local function resident()
  local file <close> = io.open "/proc/self/status"
  return tonumber(file:read "a":match "VmRSS:%s*(%d+)")
end

local function script(text)
  local path = os.tmpname()
  local file <close> = assert(io.open(path, "w"))
  file:write(text)
  file:close()
  local r = run { moonbee, "run", path }
  os.remove(path)
  assert(r.rc == 0, r.err)
  return r.out, r.err
end

local PRELUDE <const> = [[
  local function resident()
    return tonumber(io.open "/proc/self/status":read "a":match "VmRSS:%s*(%d+)")
  end
  local function make(n)
    local all = {}
    for i = 1, n do all[i] = { i } end
    return all
  end
]]

describe("the program's heap", function()
  it("uses again what a big table left, for other sizes", function()
    if sanitized then return end
    local full, after = script(PRELUDE .. [[
      local all = make(200000)
      local full = resident()
      all = nil
      collectgarbage()
      local texts = {}
      for i = 1, 80000 do texts[i] = ("x"):rep(100) .. i end
      print(full, resident())
    ]]):match "(%d+)%s+(%d+)"
    full, after = tonumber(full), tonumber(after)
    assert(full > 15000, full)
    assert(after < full * 5 // 4, ("%d kB, %d before"):format(after, full))
  end)

  it("does not grow by blocks that come and go", function()
    if sanitized then return end
    local first, last = script(PRELUDE .. [[
      local function turn(bytes)
        local text = ("x"):rep(bytes - 30)
        for i = 1, 20000 do local _ = text .. i end
      end
      for bytes = 40, 500, 20 do turn(bytes) end
      collectgarbage()
      local first = resident()
      for _ = 1, 5 do for bytes = 40, 500, 20 do turn(bytes) end end
      collectgarbage()
      print(first, resident())
    ]]):match "(%d+)%s+(%d+)"
    assert(last - first < 1000, last - first)
  end)

  it("holds blocks of any size that grow and shrink", function()
    assert.equal("ok\n", script [[
      local kept, sum = {}, 0
      math.randomseed(7)
      for i = 1, 100000 do
        local slot = math.random(500)
        local n = math.random(0, 40)
        local t = kept[slot] or {}
        for j = #t + 1, n do t[j] = j end
        for j = #t, n + 1, -1 do t[j] = nil end
        kept[slot] = math.random(9) > 1 and t or nil
        if i % 1000 == 0 then collectgarbage "step" end
      end
      for _, t in pairs(kept) do for j, v in ipairs(t) do assert(j == v) end end
      print "ok"
    ]])
  end)

  it("keeps nothing beyond a policy's limit", function()
    if sanitized then return end
    local limit <const> = 16 << 20
    local rt <close> = runtime.new { name = "limited", deadline = 30, memory = limit, log = print }
    rt:load(([[
      local function make(n, bytes)
        local all, text = {}, ("x"):rep(bytes - 40)
        for i = 1, n // bytes do all[i] = text .. i end
        return all
      end
      return { start = function()
        local live = make(%d, 200)
        for bytes = 100, 500, 50 do
          for _ = 1, 20 do make(1 << 20, bytes) end
        end
        return #live
      end }
    ]]):format(limit // 5 * 2), "@p.lua")
    local before = resident()
    rt:call "start"
    assert(resident() - before < (limit >> 10) * 5 // 4, resident() - before)
  end)

  it("gives way to a block that grows, by a policy's limit", function()
    if sanitized then return end
    local grown = tonumber((script(PRELUDE .. [==[
      local runtime = require "moonbee.runtime"
      local rt <close> = runtime.new { name = "grows", deadline = 30, memory = 64 << 20,
        log = print }
      rt:load([[
        local function make()
          local all, text = {}, ("x"):rep(300)
          for i = 1, (24 << 20) // 350 do all[i] = text .. i end
          return all
        end
        return { start = function()
          local live, numbers = make(), {}
          make() -- and leave it: it is kept, as much as is live
          for i = 1, 2 << 20 do numbers[i] = i end -- 32 MiB
          return #live + #numbers
        end }
      ]], "@p.lua")
      local before = resident()
      rt:call "start"
      print(resident() - before)
    ]==])))
    assert(grown < 72 << 10, grown)
  end)
end)

describe("warn", function()
  it("is silent until it is switched on, and takes its message in parts", function()
    local _, err = script [[
      warn "not heard"
      warn "@on"
      warn("one ", "two")
      warn("@off", " is a part here")
      warn "@off"
      warn "nor this"
    ]]
    assert.equal("moonbee: warning: one two\nmoonbee: warning: @off is a part here\n", err)
  end)
end)
