-- SPDX-License-Identifier: BSD-2-Clause
-- Metrics of maps, readers and programs, as scripts have them; policies' are in
-- policy_metrics_spec.lua.
local lfs = require "lfs"
local bpf = require "moonbee"
local loop = require "moonbee.loop"
local metrics = require "moonbee.metrics"
local exposition = require "support.exposition"
local skip = require "support.skip"
local support = require "support.bpf"

describe("metrics of maps #root", function()
  before_each(skip.root)

  local function scrape(address)
    local s <close> = loop.connect(address)
    s:write "GET /metrics HTTP/1.0\r\n\r\n"
    return s:read "all":match "\r\n\r\n(.*)$"
  end

  local function lines(set, kind)
    return exposition.lines(set:text(kind))
  end

  local function sorted(set, kind)
    local list = lines(set, kind)
    table.sort(list)
    return list
  end

  local function of(m, entry)
    entry.map, entry.name, entry.type = m, "x", entry.type or "gauge"
    return metrics.new { entry }
  end

  -- The fixture with n entries in its maps, keys from 1 on.
  local function filled(n)
    local obj = support.load "maps"
    obj.vars.first, obj.vars.n = 1, n
    obj.progs.fill:run {}
    return obj
  end

  it("have a label for each field of the key, or for those that are named", function()
    local obj <close> = filled(2)
    local m = obj.maps.flows
    assert.same({ 'x{saddr="1",daddr="0",sport="0",dport="0",proto="6"} 1',
      'x{saddr="2",daddr="0",sport="0",dport="0",proto="6"} 2' },
      sorted(of(m, { value = "packets" })))
    assert.same({ 'x_total{client="1.0.0.0"} 100', 'x_total{client="2.0.0.0"} 200' },
      sorted(of(m, { value = "stats.bytes", type = "counter", key = { client = "saddr" },
        as = { client = "ip" } })))
    m:set({ saddr = 2, proto = 17 }, { packets = 40 })
    assert.same({ 'x{proto="17",saddr="2"} 40', 'x{proto="6",saddr="1"} 1',
      'x{proto="6",saddr="2"} 2' }, sorted(of(m, { value = "packets",
      key = { "proto", "saddr" } })))
    -- what has the same labels is added up
    assert.same({ 'x{proto="tcp"} 3', 'x{proto="udp"} 40' }, sorted(of(m, { value = "packets",
      key = { "proto" }, as = { proto = { [6] = "tcp", [17] = "udp" } } })))
    assert.same({ "x 43" }, lines(of(m, { value = "packets", key = {} })))
    assert.same({ "x 43" }, lines(of(m, { value = "packets", sum = true })))
    assert.same({ "x 3" }, lines(of(m, { count = true })))
    m:delete { saddr = 2, proto = 17 }
    assert.same({ "x 2" }, lines(of(m, { count = true })))
  end)

  it("have text as keys, whatever it is", function()
    local obj <close> = support.load "maps"
    local m = obj.maps.names
    for i, name in ipairs { "plain", 'a"\\\n', "\xff\xfe", "\27[31m", "" } do m:set(name, i) end
    local set = of(m, { key = "name" })
    assert.same({ 'x{name=""} 5', 'x{name="\\\\x1b[31m"} 4', 'x{name="\\\\xff\\\\xfe"} 3',
      'x{name="a\\"\\\\\\n"} 2', 'x{name="plain"} 1' }, sorted(set))
    exposition.openmetrics(set:text "openmetrics")
  end)

  it("are added up over CPUs, or told for each", function()
    local obj <close> = support.load "maps"
    local m, cpus = obj.maps.cpu_hits, bpf.cpus.possible
    local values = {}
    for i = 1, cpus do values[i] = 1 << 62 | i end
    m:set(2, values)
    local sum = 0
    for i = 1, cpus do sum = sum + values[i] end
    assert.equal(("x_total{slot=\"2\"} %s"):format(require "moonbee.format".unsigned(sum)),
      lines(of(m, { key = "slot", type = "counter" }))[3])
    local each = lines(of(m, { key = "slot", cpu = "cpu" }))
    assert.equal(4 * cpus, #each)
    assert.equal(('x{slot="2",cpu="1"} %d'):format(values[2]), each[2 * cpus + 2])
    local flows = obj.maps.cpu_flows
    local limits = {}
    for i = 1, cpus do limits[i] = { rate = 10, burst = i } end
    flows:set(7, limits)
    assert.same({ ('x{id="7"} %d'):format(10 * cpus) }, lines(of(flows, { key = "id",
      value = "rate" })))
    assert.same({ ("x %d"):format(10 * cpus) }, lines(of(flows, { sum = true, value = "rate" })))
    -- without labels for keys, but for CPUs
    assert.equal('x{cpu="1"} 2', lines(of(flows, { key = {}, cpu = "cpu", value = "burst" }))[2])
  end)

  it("make histograms of arrays, of keys, and of arrays in values", function()
    local obj <close> = support.load "maps"
    local cpus = bpf.cpus.possible
    for slot = 0, 3 do
      local values = {}
      for i = 1, cpus do values[i] = slot end
      obj.maps.cpu_hits:set(slot, values)
    end
    local set = of(obj.maps.cpu_hits, { type = "histogram", buckets = "log2" })
    assert.same({ 'x_bucket{le="1.0"} 0', ('x_bucket{le="3.0"} %d'):format(cpus),
      ('x_bucket{le="7.0"} %d'):format(3 * cpus), ('x_bucket{le="+Inf"} %d'):format(6 * cpus) },
      lines(set, "openmetrics"))
    local m = obj.maps.flows
    for proto = 0, 9 do m:set({ saddr = proto % 2, proto = proto },
      { packets = 1, stats = { bytes = 100 } }) end
    set = of(m, { type = "histogram", buckets = "bits", value = "packets", bucket = "proto",
      key = { "saddr" }, slots = 4, sum = "stats.bytes" })
    local families = exposition.openmetrics(set:text "openmetrics")
    local function bucket(saddr, le)
      return exposition.value(families, "x_bucket", { saddr = saddr, le = le })
    end
    assert.same({ "1", "1", "2", "5" }, { bucket("0", "0.0"), bucket("0", "1.0"),
      bucket("0", "3.0"), bucket("0", "+Inf") })
    assert.same({ "0", "1", "1", "5" }, { bucket("1", "0.0"), bucket("1", "1.0"),
      bucket("1", "3.0"), bucket("1", "+Inf") })
    assert.equal("500", exposition.value(families, "x_sum", { saddr = "1" }))
    local slots <close> = bpf.create_map { name = "slots", type = "hash", key = "char[8]",
      value = "u64[4]", max_entries = 4 }
    slots:set("read", { 1, 2, 3, 4 })
    slots:set("write", { 0, 0, 0, 1 << 62 })
    set = of(slots, { type = "histogram", buckets = "log2", key = "op", scale = 1e-3 })
    families = exposition.openmetrics(set:text "openmetrics")
    assert.same({ "1", "3", "6", "10" }, { exposition.value(families, "x_bucket",
      { op = "read", le = "0.002" }), exposition.value(families, "x_bucket", { op = "read",
      le = "0.004" }), exposition.value(families, "x_bucket", { op = "read", le = "0.008" }),
      exposition.value(families, "x_bucket", { op = "read", le = "+Inf" }) })
    assert.equal("4611686018427387904", exposition.value(families, "x_bucket", { op = "write",
      le = "+Inf" }))
  end)

  it("are refused where they cannot be", function()
    local obj <close> = support.load "maps"
    for want, entry in pairs {
      ["there is no 'packts' in struct flow .*did you mean 'packets'"] =
        { map = "flows", value = "packts" },
      ["the label 'proto' is there twice"] =
        { map = "flows", value = "packets", key = { "proto", proto = "saddr" } },
      ["there is no map 'flow' .*did you mean 'flows'"] = { map = "flow", value = "packets" },
      ["'value' is struct flow, which is no number"] = { map = "flows" },
      ["the key of 'totals' is __u32: it needs a label.*hint: key = \"pid\""] = { map = "totals" },
      ["'value' is bytes%[12%], which is no number"] = { map = "raw", key = "x" },
      ["map 'totals' is not per CPU"] = { map = "totals", key = "x", cpu = "cpu" },
      ["sum = true and key do not go together"] = { map = "totals", key = "x", sum = true },
      ["how many entries a map has is a gauge"] = { map = "totals", count = true,
        type = "counter" },
      ["'key' does not go with count"] = { map = "totals", count = true, key = "x" },
      ["how many buckets map 'totals' has is not known.*slots = 27"] = { map = "totals",
        type = "histogram", buckets = "log2" },
      ["which part is the bucket%?.*hint: bucket = \"slot\""] = { map = "flows",
        value = "packets", type = "histogram", buckets = "log2", slots = 4 },
      ["is the bucket: it makes no labels"] = { map = "totals", key = "x", slots = 4,
        type = "histogram", buckets = "log2" },
      ["'saddrr' in struct flow_key.*did you mean 'saddr'"] = { map = "flows",
        value = "packets", key = { "saddrr" } },
    } do
      entry.name, entry.type = "x", entry.type or "gauge"
      assert.matches(want, tostring(support.refusal(metrics.new, { object = obj, entry })))
    end
    local ring <close> = bpf.create_map { name = "ring", type = "ringbuf", max_entries = 4096 }
    assert.matches("map 'ring' is a ringbuf, which has no entries to walk over.*hint: reader = ",
      tostring(support.refusal(of, ring, { key = "x" })))
  end)

  it("are added up in slices where the map is large", function()
    local large <close> = bpf.create_map { name = "large", type = "percpu_hash", key = "u32",
      value = "u64", max_entries = 100000 }
    local cpus, values = bpf.cpus.possible, {}
    for i = 1, cpus do values[i] = 1 << 61 end
    for key = 1, 500 do large:set(key, values) end
    local want = ("x %s"):format(require "moonbee.format".unsigned((1 << 61) * cpus * 500 // 1))
    assert.same({ want }, lines(of(large, { sum = true })))
    assert.same({ want }, lines(of(large, { key = {} })))
    assert.same({ "x 500" }, lines(of(large, { count = true })))
    large:clear()
    assert.same({ "x 0" }, lines(of(large, { sum = true })))
    assert.same({ "x 0" }, lines(of(large, { count = true })))
  end)

  it("leave out a map that is closed, and go on", function()
    local obj <close> = filled(1)
    local gone = bpf.create_map { name = "gone", type = "hash", key = "u32", value = "u64",
      max_entries = 4 }
    local set = metrics.new { object = obj, { name = "x", type = "gauge", map = gone, key = "k" },
      { name = "y", type = "gauge", map = "totals", key = "k" } }
    set.set.warn = function() end
    gone:close()
    assert.same({ 'y{k="1"} 2' }, lines(set))
    assert.equal("2", exposition.value(exposition.prometheus(set:text()),
      "moonbee_scrape_errors_total", { metric = "x" }))
  end)

  it("of large maps let the loop's handlers have their turn", function()
    local n = support.slow and 3000 or 20000 -- a scrape may take 5 s
    local obj <close> = filled(n)
    local set = { object = obj, max_series = 50000,
      { name = "x", type = "gauge", map = "totals", key = "k" } }
    local longest, last, body = 0, nil, nil
    local now = require "luv".hrtime
    loop.spawn(function()
      local server = metrics.serve("127.0.0.1:0", set)
      local ticks = loop.every(0.001, function()
        longest, last = math.max(longest, last and now() - last or 0), now()
      end)
      body = scrape(server.address)
      ticks:stop()
      loop.stop()
    end)
    loop.run()
    assert.equal(n, #exposition.prometheus(body).x.samples)
    -- all of it takes many times as long as one slice does
    assert.is_true(longest < (support.slow and 1000e6 or 100e6), longest / 1e6)
    assert.is_true(tonumber(body:match "\nmoonbee_scrape_duration_seconds (%S+)") > 0.02)
  end)

  it("of readers tell what came and what was lost", function()
    local obj <close> = support.load "records"
    local reader <close> = obj.maps.counted:reader "struct reading"
    local samples <close> = obj.maps.samples:reader "struct reading"
    local set = metrics.new { object = obj, readers = { reader, samples },
      { name = "taken", type = "counter", reader = "counted" },
      { name = "lost", type = "counter", reader = reader, field = "lost" },
      { name = "room_bytes", type = "gauge", reader = "counted", field = "size", unit = "bytes" } }
    obj.vars.count = 40
    obj.progs.fill:run {}
    local stats = reader.stats
    assert.is_true(stats.lost > 0)
    local function value(name, labels)
      return exposition.value(exposition.prometheus(set:text()), name, labels)
    end
    assert.equal("0", value "taken_total")
    assert.equal(("%d"):format(stats.lost), value "lost_total")
    assert.equal(("%d"):format(stats.pending), value("moonbee_reader_pending_bytes",
      { map = "counted" }))
    for _ in reader:drain { max = 3 } do end -- luacheck: ignore 542
    assert.equal("3", value "taken_total")
    assert.equal("3", value("moonbee_reader_records_total", { map = "counted" }))
    assert.equal("0", value("moonbee_reader_lost_total", { map = "samples" }))
    assert.equal("4096", value "room_bytes")
    reader:close()
    assert.is_nil(value "taken_total")
  end)

  it("of programs count runs while the kernel does", function()
    local obj <close> = support.load "maps"
    local set = metrics.new { object = obj,
      { name = "runs", type = "counter", program = "fill" },
      { name = "ran_seconds", type = "counter", program = obj.progs.fill, field = "run_time_ns",
        scale = 1e-9, unit = "seconds" } }
    local families = exposition.prometheus(set:text())
    assert.equal("0", exposition.value(families, "runs_total"))
    local _ <close> = bpf.stats()
    obj.progs.fill:run { times = 1 }
    families = exposition.openmetrics(set:text "openmetrics")
    assert.equal("1", exposition.value(families, "runs_total"))
    assert.equal("1", exposition.value(families, "moonbee_program_runs_total",
      { program = "fill" }))
    assert.equal(exposition.value(families, "ran_seconds_total"), exposition.value(families,
      "moonbee_program_run_time_seconds_total", { program = "fill" }))
    assert.matches("^0%.%d+$", exposition.value(families, "ran_seconds_total"))
  end)

  it("are served by a script of ten lines", function()
    local path = os.tmpname()
    os.remove(path)
    local p <close> = support.script([[
      local bpf = require "moonbee"
      local loop = require "moonbee.loop"
      local metrics = require "moonbee.metrics"
      local object, socket = ...
      local obj <close> = bpf.load(object)
      obj.vars.first, obj.vars.n = 1, 3
      obj.progs.fill:run {}
      local server = metrics.serve("127.0.0.1:0", { object = obj,
        { name = "packets", type = "counter", map = "flows", value = "packets", sum = true } })
      metrics.serve(socket, { { name = "x", type = "gauge", read = function() return 1 end } })
      print(server.address)
      loop.run()]], nil, support.fixture "maps", path)
    local address = p:expect "127%.0%.0%.1:%d+"
    local body
    loop.spawn(function()
      body = scrape(address)
      loop.stop()
    end)
    loop.run()
    assert.equal("6", exposition.value(exposition.prometheus(body), "packets_total"))
    assert.equal("socket", lfs.attributes(path, "mode"))
    p:kill "sigterm"
    assert.equal(0, p:wait().rc)
    assert.is_nil(lfs.attributes(path)) -- also where nobody stopped the server
  end)
end)
