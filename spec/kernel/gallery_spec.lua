-- SPDX-License-Identifier: BSD-2-Clause
-- The small tools in scripts/: what they measure, print and leave behind.
local json = require "dkjson"
local uv = require "luv"
local run = require "support.run"
local skip = require "support.skip"
local support = require "support.bpf"

local function tool(name, ...)
  return { support.moonbee, "run", name, ... }
end

local function objects(text)
  local list = {}
  for line in text:gmatch "[^\n]+" do list[#list + 1] = assert(json.decode(line), line) end
  return list
end

-- The output of a run that must succeed.
local function output(argv)
  local r = run(argv)
  assert.same({ 0, "" }, { r.rc, r.err })
  return r.out
end

describe("tools #root", function()
  before_each(skip.root)

  for _, name in ipairs { "runqlat", "tcprtt", "bpftop", "mapdump", "varset", "profile" } do
    it(name .. " has help, and refuses what it does not know", function()
      assert.matches("^Usage: moonbee run " .. name, output(tool(name, "--help")))
      local r = run(tool(name, "--nonsense"))
      assert.equal(2, r.rc)
      assert.matches(name .. ": ", r.err, 1, true)
      assert.equal("", r.out)
    end)
  end
end)

describe("moonbee run runqlat #root", function()
  before_each(skip.root)

  it("counts every wait once, in the slot of its length", function()
    local h = objects(output(tool("runqlat", "--duration", "0.4", "--json")))[1]
    local sum, low = 0, -1
    for _, slot in ipairs(h.histogram) do
      assert.is_true(slot.low_us > low and slot.high_us >= slot.low_us)
      low, sum = slot.high_us, sum + slot.count
    end
    assert.is_true(h.waits > 0)
    -- a program counts while the counters are read one by one: at most some are apart
    assert.is_true(math.abs(sum - h.waits) <= 5 + h.waits // 10, sum .. " of " .. h.waits)
    assert.is_true(h.longest_ns * h.waits >= h.total_ns)
  end)

  it("draws a histogram at each interval, and ends on Ctrl-C", function()
    local p <close> = run.start(tool("runqlat", "--interval", "0.2"))
    p:expect "us : waits +distribution.-on average.-us : waits"
    p:kill "sigint"
    local r = p:wait()
    assert.same({ 0, "" }, { r.rc, r.err })
    assert.matches("%d+ : %d+ +|%*+ *|", r.out)
  end)
end)

describe("moonbee run tcprtt #root", function()
  before_each(skip.root)

  -- An echo over loopback, n round trips.
  local function echo(n)
    local server, client = uv.new_tcp(), uv.new_tcp()
    local done, peer = 0, nil
    assert(server:bind("127.0.0.1", 0))
    local port = server:getsockname().port
    server:listen(1, function()
      peer = uv.new_tcp()
      server:accept(peer)
      peer:read_start(function(_, data) if data then peer:write(data) end end)
    end)
    return port, function()
      client:connect("127.0.0.1", port, function()
        client:read_start(function(_, data)
          if not data then return end
          done = done + 1
          if done < n then client:write "x" end
        end)
        client:write "x"
      end)
      while done < n do uv.run "once" end
      for _, h in ipairs { server, client, peer } do h:close() end
      uv.run "nowait"
    end
  end

  it("shows a peer with its samples, smallest, middle and largest", function()
    local port, talk = echo(50)
    local p <close> = run.start(tool("tcprtt", "--port", tostring(port)))
    p:expect "Measuring"
    talk()
    p:kill "sigint"
    local r = p:wait()
    assert.same({ 0, "" }, { r.rc, r.err })
    local samples, mean, least, median, most_of, most = r.out:match
      "\n127%.0%.0%.1 +(%d+) +(%d+) +(%d+) +(%d+) +(%d+) +(%d+)\n"
    assert.is_true(tonumber(samples) >= 50, r.out)
    assert.is_true(tonumber(least) <= tonumber(mean) and tonumber(mean) <= tonumber(most))
    assert.is_true(tonumber(median) <= tonumber(most_of))
  end)

  it("prints objects for programs", function()
    assert.equal("", output(tool("tcprtt", "--port", "1", "--duration", "0.05", "--json")))
  end)
end)

describe("moonbee run bpftop #root", function()
  before_each(skip.root)

  it("counts the runs of a program between two looks", function()
    local obj <close> = support.load "maps"
    local p <close> = run.start(tool("bpftop", "--interval", "0.3", "--count", "2", "--json"))
    p:expect '"programs"'               -- the first table: it counts
    for _ = 1, 7 do obj.progs.fill:run() end
    local r = p:wait()
    assert.same({ 0, "" }, { r.rc, r.err })
    local seen
    for _, row in ipairs(objects(r.out)[2].programs) do
      if row.id == obj.progs.fill.id then seen = row end
    end
    assert.equal(7, seen.runs)
    assert.equal("fill", seen.name)
    assert.is_true(seen.run_time_ns > 0 and seen.cpu_percent > 0)
  end)

  it("prints a table", function()
    assert.matches("^ID +NAME +TYPE +RUNS/s +ns/RUN +CPU %%\n",
      output(tool("bpftop", "--interval", "0.05", "--count", "1", "--all", "--top", "3")))
  end)
end)

describe("moonbee run mapdump #root", function()
  before_each(skip.root)

  local obj
  before_each(function()
    obj = support.load "maps"
    for i = 1, 3 do
      obj.maps.flows:set({ saddr = i, dport = 80 }, { packets = i * 10, stats = { bytes = i } })
    end
  end)
  after_each(function()
    obj:close()
    obj = nil                           -- and what it has mapped goes with it
  end)

  it("prints keys and values by their types", function()
    local id = tostring(obj.maps.flows.id)
    local found = {}
    for _, e in ipairs(objects(output(tool("mapdump", id, "--json")))) do
      found[e.key.saddr] = e.value.packets
      assert.equal(80, e.key.dport)
    end
    assert.same({ 10, 20, 30 }, found)
    assert.matches("saddr = 2.-packets = 20", output(tool("mapdump", id)))
  end)

  it("chooses fields, the largest, and how many", function()
    local id = tostring(obj.maps.flows.id)
    local rows = objects(output(tool("mapdump", id, "--json", "--field", "packets", "--field",
      "stats.bytes")))
    assert.equal(3, #rows)
    for _, row in ipairs(rows) do
      assert.equal(row.value.packets, row.value["stats.bytes"] * 10)
    end
    local top = objects(output(tool("mapdump", id, "--json", "--field", "packets", "--top", "2")))
    assert.same({ 3, 2 }, { top[1].key.saddr, top[2].key.saddr })
    assert.equal(1, #objects(output(tool("mapdump", id, "--json", "--count", "1"))))
  end)

  it("says what it cannot find", function()
    local r = run(tool("mapdump", "nosuchmap"))
    assert.equal(1, r.rc)
    assert.matches("dump map 'nosuchmap': no such map (ENOENT)", r.err, 1, true)
    assert.equal(1, run(tool("mapdump", "4294967295")).rc)
    assert.equal(2, run(tool("mapdump", "1", "--count", "0")).rc)
  end)
end)

describe("moonbee run varset #root", function()
  before_each(skip.root)

  it("shows and sets variables of a program that someone else loaded", function()
    local obj <close> = support.load "maps"
    local id = tostring(obj.progs.fill.id)
    assert.matches("first = 0\n", output(tool("varset", id)), 1, true)
    assert.equal("first = 42\n", output(tool("varset", id, "first=42")))
    assert.equal(42, obj.vars.first)
    assert.same({ first = 42 }, json.decode(output(tool("varset", id, "--json", "first"))))
  end)

  it("changes nothing when a name or a value is wrong", function()
    local obj <close> = support.load "maps"
    local id = tostring(obj.progs.fill.id)
    local r = run(tool("varset", id, "first=7", "frist=8"))
    assert.equal(1, r.rc)
    assert.matches("no variable 'frist'.-did you mean 'first'", r.err)
    assert.equal(0, obj.vars.first)
    r = run(tool("varset", id, "first=-1"))
    assert.equal(1, r.rc)
    assert.matches("out of range", r.err)
  end)
end)

describe("moonbee run profile #root", function()
  before_each(skip.root)

  it("counts samples by task, for people and for flame graphs", function()
    local busy <close> = run.start({ "sh", "-c", "while :; do :; done" })
    local rows = objects(output(tool("profile", "--duration", "0.5", "--pid", tostring(busy.pid),
      "--frequency", "200", "--json")))
    assert.is_true(#rows > 0)
    for _, row in ipairs(rows) do assert.same({ busy.pid, "sh" }, { row.pid, row.comm }) end
    assert.matches("^sh[%w_;.]* %d+\n", output(tool("profile", "--duration", "0.3", "--pid",
      tostring(busy.pid), "--folded")))
    assert.matches("%d+ samples %(%d+%.%d %%%)  sh  " .. busy.pid, output(tool("profile",
      "--duration", "0.3", "--pid", tostring(busy.pid))))
    busy:kill "sigkill"
    busy:wait()
  end)
end)
