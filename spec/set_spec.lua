-- SPDX-License-Identifier: BSD-2-Clause
-- Text as values of C types: what --set, ctl get and ctl set take.
local set = require "moonbee.policy.set"
local support = require "support.bpf"

describe("set", function()
  local obj, vars

  before_each(function()
    obj = support.open "types"
    vars = obj.vars
  end)
  after_each(function()
    obj:close()
    obj, vars = nil, nil
  end)

  -- Of a type by its C name.
  local function value(text, type, name)
    return set.value(text, obj.types[type], name)
  end
  local function refusal(...)
    local err = support.refusal(...)
    return err.cause .. (err.hint and " | " .. err.hint or "")
  end

  it("reads numbers with units", function()
    for text, n in pairs {
      ["10"] = 10, ["0x10"] = 16, ["-3"] = -3, ["10k"] = 10000, ["10K"] = 10000, ["1.5M"] = 1500000,
      ["2G"] = 2 * 10 ^ 9, ["4Ki"] = 4096, ["4KiB"] = 4096, ["3kB"] = 3000, ["1Gi"] = 1 << 30,
      ["1_000_000"] = 1000000, [" 7 "] = 7, ["1e3"] = 1000, ["5B"] = 5, ["2T"] = 2 * 10 ^ 12,
    } do
      local got = value(text, "__s64")
      assert.equal(n, got, text)
      assert.equal("integer", math.type(got), text)
    end
    assert.equal(-1, value("18446744073709551615", "__u64"))
    assert.equal(math.mininteger, value("9223372036854775808", "__u64"))
  end)

  it("reads times in what the name counts", function()
    for name, n in pairs {
      timeout_ns = 250000000, timeout_us = 250000, timeout_ms = 250, wait_usec = 250000,
    } do
      assert.equal(n, value("250ms", "__u64", name), name)
    end
    assert.equal(90, value("1.5min", "__u64", "age_s"))
    assert.matches("its name does not say .- | names that end in _ns",
      refusal(value, "5ms", "__u64", "timeout"))
    assert.matches("not a whole number", refusal(value, "1ms", "__u64", "age_s"))
  end)

  it("says what is no number", function()
    for _, text in ipairs { "", "x", "1x", "1.2.3", "--1", "nan", "inf", "1 2", "k", "0x", "1e" } do
      assert.truthy(refusal(value, text, "__u32", "v"), text)
    end
    assert.matches("unknown unit 'x' | units: k M G T, Ki", refusal(value, "1x", "__u32"))
    assert.matches("1.5 is not a whole number, and it is", refusal(value, "1.5", "__u32"))
    for _, text in ipairs {
      "18446744073709551616", "99999999999999999999", "184467440737095516150",
    } do
      assert.matches("out of range", refusal(value, text, "__u64"))
    end
  end)

  it("sets variables by path, and tells what they were", function()
    local before, after = set.set(vars, "hits", "10k")
    assert.same({ 0, 10000 }, { before, after })
    assert.equal(10000, vars.hits)
    assert.equal(10000, set.get(vars, "hits"))
  end)

  it("knows enums, truth, text, floats", function()
    local function is(path, text, want)
      assert.same(want, (select(2, set.set(vars, path, text))), path .. "=" .. text)
    end
    is("v_mode", "MODE_SOFT", 1)
    is("v_mode", "mode_strict", 10)
    is("v_mode", "off", 0)
    is("v_mode", "strict", 10)
    is("v_mode", "0", 0)
    assert.matches("'MODE_SOF' is no value of enum mode | did you mean 'MODE_SOFT'",
      refusal(set.set, vars, "v_mode", "MODE_SOF"))
    assert.matches("it has MODE_OFF, MODE_SOFT, MODE_STRICT", refusal(set.set, vars, "v_mode", "?"))
    for text, truth in pairs { ["true"] = true, on = true, ["1"] = true, Yes = true, no = false,
      ["0"] = false, off = false, ["false"] = false } do
      is("v_bool", text, truth)
    end
    assert.matches("neither true nor false", refusal(set.set, vars, "v_bool", "2"))
    is("name", "web one", "web one")
    is("name", '"a,b "', "a,b ")
    assert.truthy(refusal(set.set, vars, "name", ("x"):rep(17)))
    is("v_float", "2.5", 2.5)
    is("v_double", "10k", 10000.0)
    is("v_double", "250ms", 0.25)
    is("flags.delta", "-1", -1)
    assert.matches("pointer", refusal(set.set, vars, "v_ptr", "1"))
    assert.matches("no number for", refusal(set.set, vars, "v_int128", "1"))
    assert.matches("out of range", refusal(set.set, vars, "v_u8", "256"))
    assert.matches("out of range", refusal(set.set, vars, "v_u8", "-1"))
  end)

  it("knows arrays and structs", function()
    set.set(vars, "limits[2]", "{rate=10k, burst=7}")
    assert.same({ 10000, 7 }, { vars.limits[2].rate, vars.limits[2].burst })
    set.set(vars, "limits[2].burst", "8")
    assert.equal(8, vars.limits[2].burst)
    set.set(vars, "limits[2]", "{ rate = 1 }") -- only the named
    assert.same({ 1, 8 }, { vars.limits[2].rate, vars.limits[2].burst })
    local cells = set.plain(vars.grid)
    local rows = {}
    for i, row in ipairs(cells) do
      for j in ipairs(row) do row[j] = i * 10 + j end
      rows[i] = "{" .. table.concat(row, ",") .. "}"
    end
    local before, after = set.set(vars, "grid", "[" .. table.concat(rows, ",") .. "]")
    assert.not_same(before, after)
    assert.same(cells, after)
    set.set(vars, "mac", "1,2,0x10,4")
    assert.same({ 1, 2, 16, 4 }, set.plain(vars.mac))
    for _, bad in ipairs { "[1,2", "1,2,3,4,5", "{1}}", "1,,2" } do
      assert.is_false(pcall(set.set, vars, "mac", bad), bad)
    end
    assert.same({ 1, 2, 16, 4 }, set.plain(vars.mac))
    assert.matches("no field of struct limit", refusal(set.set, vars, "limits[0]", "{rat=1}"))
    assert.matches("{field=value", refusal(set.set, vars, "limits[0]", "5"))
    assert.is_false(pcall(set.set, vars, "limits[99].rate", "1"))
  end)

  it("refuses what does not fit, and leaves the variable", function()
    local before = vars.hits
    assert.matches("hit'", refusal(set.set, vars, "hit", "1"))
    for _, path in ipairs { "", ".", "1", "hits.", "hits[", "hits[x]", "hits[0]", "a b", "[0]",
      "hits.x", "hits..x" } do
      assert.is_false(pcall(set.set, vars, path, "1"), path)
    end
    assert.equal(before, vars.hits)
  end)

  it("splits at the first equals sign", function()
    assert.same({ "a.b", "c=d" }, { set.split "a.b=c=d" })
    assert.matches("not variable=value", refusal(set.split, "a"))
    assert.matches("not variable=value", refusal(set.split, "=a"))
  end)
end)
