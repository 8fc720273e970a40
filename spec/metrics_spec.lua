-- SPDX-License-Identifier: BSD-2-Clause
-- Metrics: what a table may name, and what its text is, by the rules of OpenMetrics and Prometheus.
-- spec/metrics_http_spec.lua is about how it is served.
local bpf = require "moonbee"
local metrics = require "moonbee.metrics"
local number = require "moonbee.metrics.number"
local exposition = require "support.exposition"
local skip = require "support.skip"
local support = require "support.bpf"

describe("metrics", function()
  local obj
  before_each(function() obj = support.open "types" end)
  after_each(function() obj:close() end)

  -- A set of these entries of the fixture's variables.
  local function set_of(...)
    return metrics.new { object = obj, ... }
  end

  local function both(set)
    return exposition.prometheus(set:text()), exposition.openmetrics(set:text "openmetrics")
  end

  -- Lines of the families that are not moonbee's own.
  local function lines(set, kind)
    return exposition.lines(set:text(kind))
  end

  local function refused(entry)
    return tostring(support.refusal(set_of, entry))
  end

  -- What was told of entries that failed.
  local function quietly(set)
    local told = {}
    set.set.warn = function(text) told[#told + 1] = text end
    return told
  end

  it("are read by a judge of the rules that finds faults", function()
    local good = "# TYPE a counter\n# HELP a x\na_total{b=\"c\"} 1\n# EOF\n"
    assert.equal("1", exposition.value(exposition.openmetrics(good), "a_total", { b = "c" }))
    for fault, text in pairs {
      ["no # EOF"] = good:gsub("# EOF\n", ""),
      ["blank"] = good:gsub("# EOF", "\n# EOF"),
      ["not of the family above"] = good:gsub("a_total", "a"),
      ["two places"] = good:gsub("# EOF", "# TYPE b gauge\nb 1\n# TYPE a counter\n# EOF"),
      ["twice"] = good:gsub("# EOF", 'a_total{b="c"} 2\n# EOF'),
      ["told twice"] = good:gsub("# HELP a x", "# TYPE a counter"),
      ["from 0 on"] = good:gsub("} 1", "} -1"),
      ["not one value"] = good:gsub("} 1", "} 1 1"),
      ["unknown escape"] = good:gsub('"c"', '"\\x"'),
      ["does not end"] = good:gsub('"c"', '"c'),
      ["no number"] = good:gsub("} 1", "} x"),
      ["no UTF%-8"] = good:gsub('"c"', '"\xff"'),
      ["not escaped"] = good:gsub("a x", 'a "x"'),
      ["two families have it"] = good:gsub("# EOF", "# TYPE a_total gauge\na_total 1\n# EOF"),
      ["its unit is s"] = good:gsub("# HELP", "# UNIT a s\n# HELP"),
      ["%+Inf"] = '# TYPE h histogram\nh_bucket{le="1.0"} 1\n# EOF\n',
      ["out of order"] = '# TYPE h histogram\nh_bucket{le="2.0"} 1\nh_bucket{le="1.0"} 1\n# EOF\n',
      ["less than the one before"] =
        '# TYPE h histogram\nh_bucket{le="1.0"} 2\nh_bucket{le="+Inf"} 1\n# EOF\n',
      ["come together"] = '# TYPE h histogram\nh_bucket{le="+Inf"} 1\nh_count 1\n# EOF\n',
      ["not the last bucket"] =
        '# TYPE h histogram\nh_bucket{le="+Inf"} 1\nh_count 2\nh_sum 2\n# EOF\n',
    } do
      local ok, err = pcall(exposition.openmetrics, text)
      assert.is_false(ok, fault)
      assert.matches(fault, err)
    end
  end)

  it("follow the rules, and are what the reference parser reads", function()
    skip.unless(exposition.has_reference(), "python3-prometheus-client is not here")
    local set = set_of(
      { name = "a_total", type = "counter", var = "v_u64", help = 'He said "x\\y"\nand left' },
      { name = "b_bytes", type = "gauge", var = "v_s64", unit = "bytes",
        labels = { x = "\xff\27" } },
      { name = "b_bytes", type = "gauge", var = "v_double", unit = "bytes",
        labels = { x = 'a"\\\n' } },
      { name = "c_seconds", type = "histogram", var = "grid", index = "row", buckets = "log2",
        scale = 1e-6, unit = "seconds" },
      { name = "d", type = "histogram", var = "grid[2]", buckets = { -1, 0.5, 1e6 } },
      { name = "e", type = "histogram", var = "grid[0]", sum = "v_u64", buckets = "bits" },
      { name = "f_info", type = "info", vars = { name = "name", mode = "v_mode", mac = "mac" },
        as = { mac = "hex" } },
      { name = "g", type = "gauge", read = function()
        return { { 0 / 0, x = 1 }, { 1 / 0, x = 2 }, { -1 / 0, x = 3 }, { 1e300, x = "" },
          { 5e-324, x = "ä€𝄞" } }
      end },
      { name = "h", type = "gauge", var = "limits", sum = true })
    for _, kind in ipairs { "openmetrics", "prometheus" } do
      local families = exposition.judge(set:text(kind), kind)
      assert.equal(12, #families)
    end
  end)

  describe("of variables", function()
    it("are exact to 64 bits, by the C type's sign", function()
      local set = set_of(
        { name = "u", type = "counter", var = "v_u64" },
        { name = "s", type = "gauge", var = "v_s64" }, { name = "t", type = "gauge",
          var = "v_bool" }, { name = "f", type = "gauge", var = "v_float" },
        { name = "e", type = "gauge", var = "v_mode" }, { name = "b", type = "gauge",
          var = "flags.sbig" },
        { name = "u_seconds", type = "counter", var = "v_u64", scale = 1e-9, unit = "seconds" })
      assert.same({ "u_total 18364758544493064720", "s -81985529216486895", "t 1", "f 1.5", "e 10",
        "b -500000", "u_seconds_total 18364758544.49306472" }, lines(set))
    end)

    it("are read anew at each scrape", function()
      local set = set_of { name = "x", type = "gauge", var = "cfg.limits[3].rate" }
      assert.same({ "x 7" }, lines(set))
      obj.vars.cfg.limits[3].rate = 8
      assert.same({ "x 8" }, lines(set))
    end)

    it("tell elements and fields apart by index, or add them up", function()
      local set = set_of({ name = "r", type = "gauge", var = "cfg.limits.rate", index = "slot" })
      local families = both(set)
      assert.equal(8, #families.r.samples)
      assert.equal("5", exposition.value(families, "r", { slot = "2" }))
      assert.same({ "r 16" }, lines(set_of { name = "r", type = "gauge", var = "cfg.limits.rate",
        sum = true }))
      assert.same({ 'r{row="a"} 6', 'r{row="1"} 46', 'r{row="2"} 86' }, lines(set_of { name = "r",
        type = "gauge", var = "grid", index = "row", sum = true, as = { row = { [0] = "a" } } }))
      assert.same({ 'p{kind="lo"} 1', 'p{kind="hi"} 9' }, lines(set_of { name = "p", type = "gauge",
        var = "cfg.range", index = "kind" }))
      assert.same({ 'p{kind="hi"} 9' }, lines(set_of { name = "p", type = "gauge",
        var = "cfg.range", index = "kind", fields = { "hi" } }))
      assert.same({ 'q{a="0",b="rate"} 100', 'q{a="0",b="burst"} 10' },
        { table.unpack(lines(set_of { name = "q", type = "gauge", var = "limits",
          index = { "a", "b" } }), 1, 2) })
      assert.same({ 'm{mode="MODE_OFF"} 6', 'm{mode="MODE_SOFT"} 46', 'm{mode="2"} 86' },
        lines(set_of { name = "m", type = "gauge", var = "grid", index = "mode", sum = true,
          as = { mode = "enum mode" } }))
    end)

    it("have labels as text, by type or as said", function()
      local function label(path, how)
        return lines(set_of { name = "i", type = "info", vars = { x = path },
          as = how and { x = how } })[1]:match '^i_info{x="(.*)"} 1$'
      end
      assert.equal("moonbee", label "name")
      assert.equal("MODE_STRICT", label "v_mode")
      assert.equal("true", label "v_bool")
      assert.equal("18364758544493064720", label "v_u64")
      assert.equal("-2.25", label "v_double")
      assert.equal("0x1000", label "v_limit_ptr")
      assert.equal("0102feff", label("mac", "hex"))
      assert.equal("0xea60", label("v_u16", "hex"))
      assert.equal("1.2.254.255", label("mac", "ip"))
      assert.equal("24810", label("v_u16", "ntoh"))
      assert.equal("lo", label("cfg.range.lo", "ifname"))
      assert.equal("strict", label("v_mode", { [10] = "strict" }))
      assert.equal("MODE_OFF", label("cfg.limits[7].rate", "enum mode"))
    end)

    it("make histograms of arrays", function()
      -- grid[1] = 10, 11, 12, 13
      assert.same({ 'h_bucket{le="1"} 10', 'h_bucket{le="3"} 21', 'h_bucket{le="7"} 33',
        'h_bucket{le="+Inf"} 46', "h_count 46" },
        lines(set_of { name = "h", type = "histogram", var = "grid[1]", buckets = "log2" }))
      assert.same({ 'h_bucket{le="0.0"} 10', 'h_bucket{le="1.0"} 21', 'h_bucket{le="3.0"} 33',
        'h_bucket{le="+Inf"} 46', "h_count 46", "h_sum 4000000000" },
        lines(set_of { name = "h", type = "histogram", var = "grid[1]", buckets = "bits",
          sum = "v_u32" }, "openmetrics"))
      -- a measure that was cut to whole units lies below the next one
      assert.same({ 'h_bucket{le="2e-06"} 10', 'h_bucket{le="4e-06"} 21', 'h_bucket{le="8e-06"} 33',
        'h_bucket{le="+Inf"} 46', "h_count 46", "h_sum 4000" },
        lines(set_of { name = "h", type = "histogram", var = "grid[1]", buckets = "log2",
          sum = "v_u32", scale = 1e-6 }))
      assert.same({ 'h_bucket{le="5"} 10', 'h_bucket{le="6"} 21', 'h_bucket{le="7"} 33',
        'h_bucket{le="8"} 46', 'h_bucket{le="+Inf"} 46', "h_count 46" },
        lines(set_of { name = "h", type = "histogram", var = "grid[1]", buckets = { 5, 6, 7, 8 } }))
      local families = both(set_of { name = "h", type = "histogram", var = "grid", index = "row",
        buckets = "log2" })
      assert.equal("86", exposition.value(families, "h_bucket", { row = "2", le = "+Inf" }))
      families = both(set_of { name = "h", type = "histogram", var = "grid", buckets = "log2" })
      assert.equal("138", exposition.value(families, "h_count"))
    end)
  end)

  describe("by functions", function()
    it("take numbers and lists, and add up what has the same labels", function()
      local set = set_of({ name = "x", type = "counter", read = function() return 5 end },
        { name = "y", type = "gauge", read = function()
          return { { 1, a = "b" }, { 2, a = "c" }, { 4, a = "b" } }
        end }, { name = "z", type = "gauge", read = function() end })
      assert.same({ "x_total 5", 'y{a="b"} 5', 'y{a="c"} 2' }, lines(set))
    end)

    it("leave out what fails, count it, and tell it once", function()
      local good = false
      local set = set_of({ name = "x", type = "gauge", read = function()
        if not good then error "not now" end
        return 1
      end }, { name = "y", type = "gauge", var = "v_u8" },
        { name = "z", type = "counter", read = function() return -1 end },
        { name = "w", type = "gauge", read = function() return { { "text" } } end },
        { name = "v", type = "gauge", read = function() return { { 1, le = "x" } } end },
        { name = "u", type = "gauge", read = function() return { { 1, a = "x" } } end,
          labels = { a = "y" } })
      local told = quietly(set)
      for n = 1, 3 do
        local families = both(set) -- two scrapes
        assert.equal("200", exposition.value(families, "y"))
        for _, name in ipairs { "x", "z", "w", "v", "u" } do
          assert.equal(("%d"):format(2 * n - 1), exposition.value(families,
            "moonbee_scrape_errors_total", { metric = name }))
        end
      end
      assert.equal(5, #told)
      assert.matches("^metric 'x': spec/metrics_spec%.lua:%d+: not now$", told[1])
      assert.matches("^metric 'z': a counter cannot be %-1\nhint: type = \"gauge\"$", told[2])
      assert.matches("^metric 'w': read gave a string, not a number\nhint: a number, or", told[3])
      assert.matches("^metric 'v': the label 'le' is one of Prometheus's own$", told[4])
      assert.equal("metric 'u': the label 'a' is there twice", told[5])
      good = true
      assert.equal("1", exposition.value(both(set), "x"))
    end)
  end)

  it("tell few of the reasons that change with each scrape", function()
    local n = 0
    local set = set_of { name = "x", type = "counter", read = function()
      n = n - 1
      return n
    end }
    local told = quietly(set)
    for _ = 1, 10 do set:text() end
    assert.equal(3, #told)
    assert.matches("cannot be %-3", told[3])
  end)

  it("are as many series as max_series allows, and the rest is counted", function()
    local set = metrics.new { object = obj, max_series = 10,
      { name = "a", type = "gauge", var = "cfg.limits.rate", index = "slot" },
      { name = "b", type = "gauge", var = "limits.rate", index = "slot" },
      { name = "c", type = "histogram", var = "grid[1]", buckets = "log2" },
      { name = "d", type = "gauge", var = "v_u8" } }
    local told = quietly(set)
    local families = both(set)
    assert.equal(8, #families.a.samples)
    assert.equal(2, #families.b.samples)
    assert.is_nil(families.c)
    local function left_out(name)
      return exposition.value(families, "moonbee_scrape_series_left_out", { metric = name })
    end
    assert.same({ "0", "6", "1", "1" }, { left_out "a", left_out "b", left_out "c", left_out "d" })
    assert.matches("^metric 'b': it has more series than there is room for: the rest is left out\n"
      .. "hint: max_series is 10", told[1])
    assert.equal(3, #told)
  end)

  it("of one name are one family, with each series once", function()
    local set = set_of({ name = "p", type = "counter", var = "v_u8", labels = { what = "a" },
      help = "Both." }, { name = "p", type = "counter", var = "v_u16", labels = { what = "b" } },
      { name = "p", type = "counter", var = "v_u32", labels = { what = "a" } })
    local told = quietly(set)
    local _, families = both(set)
    assert.equal(2, #families.p.samples)
    assert.equal("Both.", families.p.help)
    assert.matches("two entries have a series {what=\"a\"}", told[1])
  end)

  it("name what is wrong with an entry, and what was meant", function()
    for want, entry in pairs {
      ["check metrics 'x': 'stats.x': there is no 'stats' in the object's variables %(ENOENT%)\n"
        .. "hint: there is "] = { name = "x", type = "gauge", var = "stats.x" },
      ["'v_u23': there is no 'v_u23' .*hint: did you mean 'v_u32'%?"] =
        { name = "x", type = "gauge", var = "v_u23" },
      ["there is no 'rates' in struct limit.*did you mean 'rate'"] =
        { name = "x", type = "gauge", var = "limits[0].rates" },
      ["limit%[8%] has 8 elements, none for %[8%]"] =
        { name = "x", type = "gauge", var = "limits[8].rate" },
      ["'%]' is no path"] = { name = "x", type = "gauge", var = "]" },
      ["'name' is char%[16%], which is no number"] = { name = "x", type = "gauge", var = "name" },
      ["there is nothing in __u8"] = { name = "x", type = "gauge", var = "v_u8.x" },
      ["has no size of its own"] = { name = "x", type = "gauge", var = "flex.items", index = "i" },
      ["'limits.rate' is more than one number.*index = \"cpu\""] =
        { name = "x", type = "gauge", var = "limits.rate" },
      ["index has 1 labels, and 'v_u8' goes over 0"] =
        { name = "x", type = "gauge", var = "v_u8", index = "i" },
      ["as: it has no label 'j'.*did you mean 'i'"] =
        { name = "x", type = "gauge", var = "limits.rate", index = "i", as = { j = "ip" } },
      ["as: there is no 'ipp'.*did you mean 'ip'"] =
        { name = "x", type = "info", vars = { a = "v_u32" }, as = { a = "ipp" } },
      ["as: 'mac' is not for 'v_u32', which is"] =
        { name = "x", type = "info", vars = { a = "v_u32" }, as = { a = "mac" } },
      ["there is no 'enum moode'"] =
        { name = "x", type = "info", vars = { a = "v_u32" }, as = { a = "enum moode" } },
      ["which is no text for a label"] = { name = "x", type = "info", vars = { a = "mac" } },
      ["there is no map 'flows'"] = { name = "x", type = "gauge", map = "flows" },
      ["there is no program 'obsserve'.*did you mean 'observe'"] =
        { name = "x", type = "counter", program = "obsserve" },
      ["there is no reader 'events'"] = { name = "x", type = "counter", reader = "events" },
      ["'value' does not go with var.*there is as, buckets"] =
        { name = "x", type = "gauge", var = "v_u8", value = "x" },
      ["'lables' is no key of a metric.*did you mean 'labels'"] =
        { name = "x", type = "gauge", var = "v_u8", lables = {} },
      ["'metrics%[1%]': its name is missing"] = { type = "gauge", var = "v_u8" },
      ["its type is missing.*hint: one of counter"] = { name = "x", var = "v_u8" },
      ["type is not known: countr.*did you mean 'counter'"] =
        { name = "x", type = "countr", var = "v_u8" },
      ["it has both var and map"] = { name = "x", type = "gauge", var = "v_u8", map = "y" },
      ["it names nothing that is measured"] = { name = "x", type = "gauge" },
      ["'a b': it is no name of a metric"] = { name = "a b", type = "gauge", var = "v_u8" },
      ["begin with moonbee_ are moonbee's own"] =
        { name = "moonbee_x", type = "gauge", var = "v_u8" },
      ["a gauge may not end in _total"] = { name = "x_total", type = "gauge", var = "v_u8" },
      ["its name must end in _seconds"] =
        { name = "x", type = "gauge", var = "v_u8", unit = "seconds" },
      ["an info has vars"] = { name = "x", type = "info", var = "v_u8" },
      ["the label 'i' is there twice"] =
        { name = "x", type = "gauge", var = "limits.rate", index = "i", labels = { i = "a" } },
      ["the label 'row' is there twice"] =
        { name = "x", type = "gauge", var = "grid", index = { "row", "row" } },
      ["the label 'a' is there twice"] =
        { name = "x", type = "info", vars = { a = "v_u32" }, labels = { a = 1 } },
      ["the label 'slot' is there twice"] = { name = "x", type = "histogram", var = "grid",
        index = "slot", buckets = "log2", labels = { slot = 1 } },
      ["'__a' is no name of a label"] =
        { name = "x", type = "gauge", var = "v_u8", labels = { __a = "x" } },
      ["a histogram needs buckets"] = { name = "x", type = "histogram", var = "grid[1]" },
      ["'v_u8' is no array"] =
        { name = "x", type = "histogram", var = "v_u8", buckets = "log2" },
      ["it has 4 buckets, and 2 bounds"] =
        { name = "x", type = "histogram", var = "grid[1]", buckets = { 1, 2 } },
      ["buckets%[2%] is not a number above the one before"] =
        { name = "x", type = "histogram", var = "grid[1]", buckets = { 2, 1, 3 } },
      ['1024 buckets: "log2" has at most 65'] =
        { name = "x", type = "histogram", var = "counters", buckets = "log2" },
      ["do not go over the same"] =
        { name = "x", type = "histogram", var = "grid", sum = "v_u8", buckets = "log2" },
      ["read is a function, not a integer"] = { name = "x", type = "gauge", read = 5 },
      ["'pending' is a gauge"] = { name = "x", type = "counter", reader = "e", field = "pending" },
    } do
      local ok, text = pcall(refused, entry)
      assert.is_true(ok, want)
      assert.matches(want, text)
    end
  end)

  it("refuse names that clash, and tables that are none", function()
    local function clash(...) return tostring(support.refusal(set_of, ...)) end
    assert.matches("its name clashes with that of 'x'", clash({ name = "x", type = "histogram",
      var = "grid[1]", buckets = "log2" }, { name = "x_count", type = "gauge", var = "v_u8" }))
    assert.matches("have different types", clash({ name = "x", type = "gauge", var = "v_u8" },
      { name = "x", type = "counter", var = "v_u8" }))
    assert.matches("have different units", clash({ name = "x_bytes", type = "gauge", var = "v_u8" },
      { name = "x_bytes", type = "gauge", var = "v_u16", unit = "bytes", labels = { a = 1 } }))
    local function wrong(t) return tostring(support.refusal(metrics.new, t)) end
    assert.matches("they are a table, not a integer", wrong(5))
    assert.matches("'objct' is no key of metrics.*did you mean 'object'", wrong { objct = obj })
    assert.matches("they are a list: { { name = \"hits\"", wrong { hits = { var = "hits" } })
    assert.matches("it has holes", wrong { [1] = { name = "x", type = "gauge",
      read = function() end }, [3] = {} })
    assert.matches("no object whose variables", wrong { { name = "x", type = "gauge", var = "y" } })
  end)

  it("write bounds as Go does", function()
    for want, x in pairs { ["0.0"] = 0, ["1.0"] = 1, ["0.5"] = 0.5, ["999999.0"] = 999999,
      ["1e+06"] = 1000000, ["1.048575e+06"] = 1048575, ["0.0001"] = 0.0001, ["1e-05"] = 1e-5,
      ["-2.5"] = -2.5, ["1.8446744073709552e+19"] = 2.0 ^ 64, ["+Inf"] = math.huge } do
      assert.equal(want, number.bound(x))
    end
  end)

  it("of a script have an own label, and no format but two", function()
    local set = set_of { name = "x", type = "gauge", var = "v_u8" }
    assert.equal("1", exposition.value(both(set), "moonbee_info", { version = bpf.version }))
    assert.matches('^metrics: no format "json"\nhint: "openmetrics", "prometheus"$',
      support.mistake(function() set:text "json" end))
  end)
end)
