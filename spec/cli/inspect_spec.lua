-- SPDX-License-Identifier: BSD-2-Clause
local dkjson = require "dkjson"
local run = require "support.run"

local BUILD = os.getenv "MB_BUILD" or "build"
local MOONBEE = BUILD .. "/moonbee"

local function inspect(fixture, ...)
  return run({ MOONBEE, "inspect", BUILD .. "/fixtures/" .. fixture .. ".bpf.o", ... },
    { user = "nobody" })
end

local function as_json(fixture)
  local r = inspect(fixture, "--json")
  assert.equal("", r.err)
  assert.equal(0, r.rc)
  return assert(dkjson.decode(r.out)), r.out
end

local function named(list, name)
  for _, x in ipairs(list) do
    if x.name == name then return x end
  end
end

-- The cells of the line that begins with this name.
local function line(text, name)
  local cells = {}
  local found = ("\n" .. text):match("\n(" .. name .. " [^\n]*)")
  for word in (found or ""):gmatch "%S+" do cells[#cells + 1] = word end
  return table.concat(cells, " ")
end

describe("moonbee inspect", function()
  it("shows programs, maps and variables as aligned text, without root", function()
    local r = inspect "maps"
    assert.equal("", r.err)
    assert.equal(0, r.rc)
    assert.truthy(r.out:find "^build[^\n]*/maps%.bpf%.o: object '[^\n]*', license Dual BSD/GPL\n\n")
    assert.truthy(r.out:find "\nPROGRAM +TYPE +SECTION +TARGET +AUTOLOAD\n")
    assert.equal("count xdp xdp - yes", line(r.out, "count"))
    assert.equal("flows hash struct flow_key (16) struct flow (40) 65536 no", line(r.out, "flows"))
    assert.equal("raw hash bytes[4] (4) bytes[12] (12) 16 no", line(r.out, "raw"))
    assert.truthy(line(r.out, "kept"):find "16 by name$")
    assert.truthy(line(r.out, "filled"):find "%.bss .* 8 0$")
    local at
    for row in r.out:match "\n(MAP.-)\n\n":gmatch "[^\n]+" do
      local column = row:find "  %S+ *%S*$"
      at = at or row:find "ENTRIES"
      assert.truthy(column)
      assert.truthy(row:sub(at - 2, at):find "^  %S", row)
    end
  end)

  it("shows the initial values of variables by their types", function()
    local r = inspect "types"
    assert.equal("v_u64 .data 8 18364758544493064720",
      (line(r.out, "v_u64"):gsub("data .* 8", "data 8")))
    assert.truthy(line(r.out, "c_name"):find '"fixture"$')
    assert.truthy(line(r.out, "v_mode"):find "enum mode 4 MODE_STRICT$")
    assert.equal("tune_limit .data.tune struct limit 8 { .rate = 5, .burst = 9 }",
      line(r.out, "tune_limit"))
    for row in r.out:gmatch "[^\n]+" do assert.truthy(utf8.len(row) < 140, row) end
  end)

  it("shows externs", function()
    local r = inspect "externs"
    assert.truthy(r.out:find "\nEXTERN +KIND +TYPE +WEAK +FATE\n")
    assert.truthy(line(r.out, "schedule"):find "^schedule ksym .* yes %S+")
    local version = line(r.out, "LINUX_KERNEL_VERSION")
    assert.truthy(version:find "^LINUX_KERNEL_VERSION kconfig .* no %d+$")
  end)

  it("shows what is asked of the kernel's types", function()
    local r = inspect "core"
    assert.equal("ask raw_tracepoint raw_tp/sched_switch sched_switch yes", line(r.out, "ask"))
    for _, text in ipairs { "struct task_struct pid offset 1", "struct task_struct mm offset 1",
      "struct task_struct comm[3] offset 1", "struct task_struct comm exists 1",
      "struct task_struct comm size 1", "struct mm_struct___mine map_count offset 1",
      "struct no_such_struct - type_exists 1", "struct task_struct - type_size 1",
      "enum zone_type ZONE_NORMAL enum_exists 1", "enum zone_type ZONE_NORMAL enum_value 1" } do
      local found
      for row in r.out:gmatch "[^\n]+" do found = found or row:gsub(" +", " ") == text end
      assert.truthy(found, text .. " is not in\n" .. r.out)
    end
    local about = as_json "core"
    assert.equal(10, #about.relocations)
    assert.same({ type = "enum zone_type", field = "ZONE_NORMAL", kind = "enum_exists", count = 1 },
      about.relocations[1])
    assert.same({}, as_json "types".relocations)
  end)

  it("prints the same as JSON, in a fixed order", function()
    local about, text = as_json "maps"
    assert.truthy(text:find '^{\n  "path":"[^"]*",\n  "name":"[^"]*",\n  "license":"Dual BSD/GPL",')
    assert.same({ name = "count", section = "xdp", type = "xdp", autoload = true },
      named(about.programs, "count"))
    assert.same({
      name = "flows", type = "hash", key_type = "struct flow_key", key_size = 16,
      value_type = "struct flow", value_size = 40, max_entries = 65536, pinning = "none",
    }, named(about.maps, "flows"))
    assert.equal("by_name", named(about.maps, "kept").pinning)
    assert.same({}, about.externs)
    assert.is_nil(named(about.maps, "maps.bss"))
    local filled = named(about.variables, "filled")
    assert.equal(".bss", filled.section)
    assert.equal(0, filled.value)
  end)

  it("writes values as JSON of their types", function()
    local about = as_json "types"
    assert.equal("18364758544493064720", named(about.variables, "v_u64").value)
    assert.equal("moonbee", named(about.variables, "name").value)
    assert.same({ rate = 5, burst = 9 }, named(about.variables, "tune_limit").value)
    assert.equal(1.5, named(about.variables, "v_float").value)
    local externs = as_json "externs".externs
    assert.equal("ksym", named(externs, "schedule").kind)
    assert.is_true(named(externs, "schedule").weak)
  end)

  it("fails with one clear message for what is no object", function()
    local r = run { MOONBEE, "inspect", "/none.bpf.o" }
    assert.equal(1, r.rc)
    assert.equal("", r.out)
    assert.truthy(r.err:find "^moonbee: .*'/none%.bpf%.o': .*%(ENOENT%)\n", r.err)
    r = run { MOONBEE, "inspect", "Makefile" }
    assert.equal(1, r.rc)
    assert.truthy(r.err:find "^moonbee: .*'Makefile': .*%(ENOEXEC%)", r.err)
  end)

  it("with --json prints the error as JSON, too", function()
    local r = run { MOONBEE, "inspect", "--json", "/none.bpf.o" }
    assert.equal(1, r.rc)
    local err = dkjson.decode(r.out).error
    assert.equal("ENOENT", err.code)
    assert.equal("/none.bpf.o", err.subject)
    assert.truthy(r.err:find "^moonbee: ")
  end)
end)
