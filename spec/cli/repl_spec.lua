-- SPDX-License-Identifier: BSD-2-Clause
-- moonbee repl on pipes: what is evaluated, how it is printed, what an error says. Without root.
local run = require "support.run"

local BUILD = os.getenv "MB_BUILD" or "build"
local MOONBEE = BUILD .. "/moonbee"

local function repl(lines, ...)
  if type(lines) == "table" then lines = table.concat(lines, "\n") .. "\n" end
  return run({ MOONBEE, "repl", ... }, { stdin = lines, env = { HOME = "/nonexistent" } })
end

local TYPES = BUILD .. "/fixtures/types.bpf.o"

-- The output of lines that must all go well.
local function told(lines, ...)
  local r = repl(lines, ...)
  assert.equal("", r.err)
  assert.equal(0, r.rc)
  return r.out
end

describe("moonbee repl on a pipe", function()
  it("prints expressions, and nothing for statements", function()
    assert.equal("42\n", told { "x = 21", "x * 2" })
    assert.equal("1\ntrue\n\"a\\n\"\nnil\n", told { "return 1, true", "= 'a\\n'", "nil" })
    assert.equal("", told { "for i = 1, 3 do end", "", "  ", "-- a note" })
    assert.equal("{ 1, 2, [\"a b\"] = { c = 3 }, end_ = false }\n",
      told { "{1, 2, ['a b'] = {c = 3}, end_ = false}" })
  end)

  it("keeps _, globals and the locals of a line", function()
    assert.equal("5\n6\n", told { "5", "_ + 1" })
    assert.equal("7\n", told { "local a, b = 3, 4", "a + b" })
    assert.equal("8\n", told { "local _ENV = setmetatable({}, {__index = _ENV})", "8" })
  end)

  it("takes statements of several lines", function()
    assert.equal("6\n", told { "function f(a)", "  return a * 2", "end", "f(3)" })
    assert.equal("\"a\\nb\"\n", told { "[[a", "b]]" })
    local r = repl { "function f(" }
    assert.equal(1, r.rc)
    assert.truthy(r.err:find "^error: .* expected near <eof>\n$", r.err)
  end)

  it("prints views as C, by their types", function()
    local out = told({ "vars.cfg.limits", "vars.v_u64", "vars.v_mode", "vars.v_level", "vars.name",
      "vars.cfg.limits[3].rate", "vars.v_ptr", "vars.counters", "obj", "vars.v_char" }, TYPES,
      "--open")
    assert.truthy(out:find("(struct limit[8]){\n  { .rate = 1, .burst = 2 },\n", 1, true), out)
    for _, line in ipairs { "18364758544493064720", "MODE_STRICT (10)", "\"moonbee\"", "7",
      "0xffff888000001000", "(__u64[1024]){ 0 }", "object 'types' (open)", "'x'" } do
      assert.truthy(("\n" .. out):find("\n" .. line .. "\n", 1, true), line .. " not in\n" .. out)
    end
  end)

  it("folds long arrays", function()
    local out = told({ "bpf.fill(vars.counters, 7)", "vars.counters" }, TYPES, "--open")
    assert.truthy(out:find("7, /* 960 more */\n}\n$") or out:find("/* 960 more */", 1, true), out)
  end)

  it("prints maps with type and count", function()
    assert.truthy(told({ "maps.flows" }, BUILD .. "/fixtures/maps.bpf.o", "--open")
      :find("^map 'flows' %(hash: struct flow_key %-> struct flow, 65536 entries%)\n$"))
  end)

  it("prints an object's collections, and addresses in hex", function()
    local out = told({ "maps", "progs", "obj.sections", "{ address = -1 }" },
      BUILD .. "/fixtures/maps.bpf.o", "--open")
    for _, text in ipairs { "\n  flows = map 'flows' (hash: struct flow_key -> struct flow, ",
      "count = program 'count' (xdp, section xdp)", "[\".bss\"] = ", " bytes",
      "{ address = 0xffffffffffffffff }\n" } do
      assert.truthy(out:find(text, 1, true), text .. " is not in\n" .. out)
    end
  end)

  it("changes variables before the load by --set, with the types' rules", function()
    assert.equal("5\nMODE_SOFT (1)\n\"eth0\"\n18446744073709551615\ntrue\n", told({
      "vars.cfg.limits[3].rate", "vars.v_mode", "vars.name", "vars.v_u64", "vars.v_bool",
    }, TYPES, "--open", "--set", "cfg.limits[3].rate=5", "--set", "v_mode=MODE_SOFT", "--set",
      "name=eth0", "--set", "v_u64=18446744073709551615", "--set", "v_bool=true"))
    for text, why in pairs {
      ["cfg.ratee=5"] = "no field 'ratee'", ["v_u8=256"] = "256", ["v_u8"] = "it has no value",
      ["v_mode=MODE_STRIC"] = "MODE_STRIC", ["v_u64=18446744073709551616"] = "v_u64",
    } do
      local r = repl("", TYPES, "--open", "--set", text)
      assert.equal(1, r.rc)
      local said = "moonbee: set variable '" .. text .. "': "
      assert.equal(said, r.err:sub(1, #said))
      assert.truthy(r.err:find("(EINVAL)", 1, true), r.err)
      assert.truthy(r.err:find(why, 1, true), r.err)
    end
  end)

  it("tells errors by cause and hint on stderr, without a stack, and goes on", function()
    local r = repl({ "vars.cfgg", "error 'boom'", "error({})", "x = = 1", "1 + nil", "2" }, TYPES,
      "--open")
    assert.equal(1, r.rc)
    assert.equal("2\n", r.out)
    for _, text in ipairs { "error: no variable 'cfgg' in the object\nhint: did you mean 'cfg'?\n",
      "\nerror: boom\nerror: error object: { }\nerror: unexpected symbol" } do
      assert.truthy(r.err:find(text, 1, true), r.err)
    end
    assert.is_nil(r.err:find "traceback")
    assert.is_nil(r.err:find "\27")
  end)

  it("waits in the loop, and so do its timers", function()
    assert.equal("tick\ntick\ntick\ndone\n", told { "n = 0",
      "h = loop.every(0.005, function() n = n + 1 print 'tick' if n == 3 then h:stop() end end)",
      "while n < 3 do loop.sleep(0.002) end", "print 'done'" })
  end)

  it("ends with exit, and its number", function()
    local r = repl { "exit(3)", "print 'never'" }
    assert.equal(3, r.rc)
    assert.equal("", r.out)
    assert.equal(0, repl({ "1" }).rc)
  end)

  it("ends by a signal as other programs do", function()
    for signal, rc in pairs { sigint = 130, sigterm = 143 } do
      for _, source in ipairs { "print 'on' while true do end", "print 'on' loop.sleep(1000)" } do
        local p <close> = run.start({ MOONBEE, "repl" })
        p:write(source .. "\nprint 'never'\n")
        p:expect "on"
        p:kill(signal)
        local r = p:wait()
        assert.equal(rc, r.rc)
        assert.equal("on\n", r.out)
      end
    end
  end)

  it("reads a file, too, and a last line without an end", function()
    local r = run({ "sh", "-c", "printf '1+1' >$1; $2 repl <$1; rm $1", "sh", os.tmpname(),
      MOONBEE })
    assert.equal("2\n", r.out)
    assert.equal("3\n", told "1+2")
    assert.equal("", told "")
  end)

  it("refuses what it cannot have, and says how", function()
    local r = repl("", "/none.bpf.o")
    assert.equal(1, r.rc)
    assert.truthy(r.err:find "^moonbee: .*'/none%.bpf%.o': .*%(ENOENT%)", r.err)
    assert.equal(2, repl("", "--prog", "x").rc)
    r = repl("", TYPES, "--prog", "1")
    assert.equal(2, r.rc)
    assert.truthy(r.err:find "not both", r.err)
    assert.equal(2, repl("", "--set", "a=1").rc)
  end)

  it("in the middle of a script has its locals, and gives back what exit was given", function()
    local path = os.tmpname()
    local file <close> = assert(io.open(path, "w"))
    file:write [[
      local bpf = require "moonbee"
      local up = 3
      local function ask(a)
        local b = a + up
        local x, y = bpf.repl { names = { c = 100 } }
        return x, y
      end
      print("got", ask(4))
      local loop = require "moonbee.loop"
      local ticks = 0
      loop.every(0.001, function() ticks = ticks + 1 end)
      print(pcall(bpf.repl, { nams = {} }))
    ]]
    file:flush()
    local r = run({ MOONBEE, "run", path }, { stdin = "a + b + up + c\nexit(b, 'x')\n" })
    os.remove(path)
    assert.equal("", r.err)
    assert.equal(0, r.rc)
    assert.truthy(r.out:find "^114\ngot\t7\tx\nfalse\t[^\n]*bpf.repl: no option 'nams'\n", r.out)
  end)
end)
