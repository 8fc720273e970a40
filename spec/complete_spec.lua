-- SPDX-License-Identifier: BSD-2-Clause
-- What Tab offers, by the text before the cursor. Without a terminal: spec/cli/terminal_spec.lua
-- has one.
local bpf = require "moonbee"
local complete = require "moonbee.complete"
local lfs = require "lfs"
local session = require "moonbee.session"

local BUILD = os.getenv "MB_BUILD" or "build"

local function with_session(fixture, fn)
  local obj <close> = bpf.open(BUILD .. "/fixtures/" .. fixture .. ".bpf.o")
  local calls = 0
  local trap = setmetatable({ own = 1 }, {
    __index = function() calls = calls + 1 end,
    __pairs = function() calls = calls + 1 return next, {} end,
  })
  local s = session.new {
    names = {
      obj = obj, vars = obj.vars, maps = obj.maps, progs = obj.progs, bpf = bpf, trap = trap,
      rate = bpf.has(obj.vars, "hits") and bpf.ref(obj.vars, "hits"), list = { 1, { deep = true } },
      text = "abc", ["not a name"] = 1,
    },
    lazy = { loop = function() return require "moonbee.loop" end },
    write = function() end,
    files = function(prefix)
      return prefix == "/sys/class/net/" and { "/sys/class/net/lo", "/sys/class/net/eth0" }
        or { "flow.bpf.o", "flowers/", "x" }
    end,
  }
  fn(s)
  assert.equal(0, calls, "somebody else's metamethod was called")
end

-- What Tab makes of a line (the cursor at its end).
local function tab(s, text)
  local inserted, choices = complete.line(s, text, #text)
  return text .. inserted, choices
end

describe("completion", function()
  it("goes through live objects to their fields", function()
    with_session("types", function(s)
      for text, whole in pairs {
        ["vars.cf"] = "vars.cfg", ["vars.cfg.lim"] = "vars.cfg.limits",
        ["vars.cfg.limits[3].ra"] = "vars.cfg.limits[3].rate",
        ["x = 1 + vars.cfg.limits[ 3 ].ra"] = "x = 1 + vars.cfg.limits[ 3 ].rate",
        ["vars['cfg'].range.l"] = "vars['cfg'].range.lo",
        ["f(vars.path[1][1]."] = "f(vars.path[1][1].", ["obj.vars.see"] = "obj.vars.seen",
        ["vars.grid[2][1"] = "vars.grid[2][1]", ["vars.limits["] = "vars.limits[",
        ["maps."] = "maps.", ["progs.ob"] = "progs.observe",
        ["progs.observe:ru"] = "progs.observe:run", ["obj:att"] = "obj:attach",
        ["rate:x"] = "rate:xchg", ["bpf.cop"] = "bpf.copy",
        ["obj.types['struct cf"] = "obj.types['struct cfg']", ["text:rev"] = "text:reverse",
        ["vars['v_uint"] = "vars['v_uint128']", ["vars[\"timed_nothing"] = "vars[\"timed_nothing",
        ["list[2].de"] = "list[2].deep", ["trap.o"] = "trap.own", ["loop.ever"] = "loop.every",
        ["vars.cfg.nothing_like_it"] = "vars.cfg.nothing_like_it", ["tra"] = "trap",
        ["func"] = "function",
        ["bpf.ref(vars, 'cfg.limits[1].bu"] = "bpf.ref(vars, 'cfg.limits[1].burst'",
        ["bpf.ref(vars.cfg, 'range.h"] = "bpf.ref(vars.cfg, 'range.hi'",
        ["bpf.enum(vars, 'v_mo"] = "bpf.enum(vars, 'v_mode'",
        ["bpf.open 'flow."] = "bpf.open 'flow.bpf.o",
        ["attach{ ifname = 'l"] = "attach{ ifname = 'lo'", ["-- vars.cf"] = "-- vars.cf",
        ["[[vars.cf"] = "[[vars.cf", ["f().x"] = "f().x", ["("] = "(", ["5.x"] = "5.x",
        ["vars.hits.x"] = "vars.hits.x", ["nothing.x.y"] = "nothing.x.y", [".x"] = ".x",
        ["]["] = "][", ["vars[[["] = "vars[[[", ["'\\"] = "'\\",
      } do
        assert.equal(whole, (tab(s, text)), text)
      end
    end)
  end)

  it("offers what there is, sorted, and no inner names unless they are asked for", function()
    with_session("types", function(s)
      local _, choices = tab(s, "vars.path[1][1].")
      assert.same({ "x", "y" }, choices)
      _, choices = tab(s, "vars.limits[")
      assert.same({ "0", "1", "2", "3", "4", "5", "6", "7" }, choices)
      _, choices = tab(s, "vars.odd.")
      assert.same({ "close", "get", "type" }, choices)
      _, choices = tab(s, "vars.odd['")
      assert.same({ "close", "end", "get", "type" }, choices)
      _, choices = tab(s, "vars.odd.__")
      assert.same({ "__gc", "__index" }, choices)
      _, choices = tab(s, "bpf.open '")
      assert.same({ "flow.bpf.o", "flowers/", "x" }, choices)
      _, choices = tab(s, "obj:")
      for _, name in ipairs(choices) do assert.is_nil(name:find "^vars$") end
      _, choices = tab(s, "")
      for _, name in ipairs(choices) do assert.truthy(name ~= "not a name") end
      assert.truthy(#choices > 40)
    end)
  end)

  it("offers an enum's names where one is assigned or compared", function()
    with_session("types", function(s)
      local _, choices = tab(s, "vars.v_mode = ")
      assert.same({ '"MODE_OFF"', '"MODE_SOFT"', '"MODE_STRICT"' }, choices)
      assert.equal("vars.v_mode = \"MODE_STRICT\"", (tab(s, "vars.v_mode = \"MODE_ST")))
      assert.equal("vars.cfg.mode = 'MODE_OFF'", (tab(s, "vars.cfg.mode = 'MODE_O")))
      assert.equal("if vars.cfg.mode == 'MODE_OFF'", (tab(s, "if vars.cfg.mode == 'MODE_O")))
    end)
  end)

  it("offers maps and their methods", function()
    with_session("maps", function(s)
      assert.equal("maps.flows", (tab(s, "maps.flo")))
      assert.equal("maps.flows:count", (tab(s, "maps.flows:cou")))
      assert.equal("maps.flows.max_entries", (tab(s, "maps.flows.max_e")))
      local _, choices = tab(s, "maps.flows:max_e")
      assert.same({}, choices)
    end)
  end)

  it("puts nothing twice that stands behind the cursor", function()
    with_session("types", function(s)
      local line = "vars['cf'] = 1"
      assert.equal("g", (complete.line(s, line, #"vars['cf")))
      assert.equal("g']", (complete.line(s, "vars['cf + 1", #"vars['cf")))
    end)
  end)

  it("survives any text", function()
    with_session("types", function(s)
      local alphabet = { "vars", ".", ":", "[", "]", "(", "'", '"', "\\", "cfg", " ", "3", "--",
        "[[", "=", "\n", "limits", "{", "obj", "\xff", "ä", "0x", "e", "," }
      local seed = 12345
      for _ = 1, os.getenv "MB_HARDGC" and 60 or 3000 do
        local parts = {}
        for i = 1, 12 do
          seed = (seed * 1103515245 + 12345) & 0x7fffffff
          parts[i] = alphabet[seed // 65536 % #alphabet + 1]
        end
        local text = table.concat(parts)
        local inserted, choices = complete.line(s, text, seed % (#text + 1))
        assert.is_string(inserted)
        assert.is_table(choices)
      end
    end)
  end)

  it("knows kernel symbols", function()
    if not lfs.attributes "lua/moonbee/kernel.lua" then return pending "no moonbee.kernel" end
    with_session("types", function(s)
      assert.equal("kernel.ksym 'tcp_v4_rcv'", (tab(s, "kernel.ksym 'tcp_v4_rc")))
      local _, choices = tab(s, "kernel.ksym('tcp_v4_")
      assert.truthy(#choices > 5)
    end)
  end)
end)
