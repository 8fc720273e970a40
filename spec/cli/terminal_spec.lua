-- SPDX-License-Identifier: BSD-2-Clause
-- The REPL on a real terminal: lines edited, history, what is printed meanwhile, signals, resize.
local lfs = require "lfs"
local skip = require "support.skip"
local support = require "support.bpf"
local terminal = require "support.terminal"

local BUILD = os.getenv "MB_BUILD" or "build"
local MOONBEE = BUILD .. "/moonbee"
local TYPES = BUILD .. "/fixtures/types.bpf.o"

describe("moonbee repl on a terminal", function()
  local state = terminal.for_specs(setup, teardown)

  local function start(options, ...)
    skip.unless(state() ~= nil, "no tmux")
    options = options or {}
    local env = { NO_COLOR = "1", XDG_STATE_HOME = state(), LC_ALL = "C.UTF-8" }
    for name, value in pairs(options.env or {}) do env[name] = value end
    options.env = env
    local t = terminal.start({ MOONBEE, "repl", ... }, options)
    t:expect "moonbee>$"
    return t
  end

  it("edits a line and shows what it gives", function()
    local t <close> = start(nil, TYPES, "--open")
    t:expect "^moonbee %d[^\n]*: object 'types', not loaded\nhelp%(%) says"
    t:type "vars.v_u46"
    t:key("BSpace", "BSpace")
    t:enter "64"
    t:expect "\n18364758544493064720\nmoonbee>$"
    t:key "C-d"
    t:expect "%[ended 0%]"
  end)

  it("goes on with a function's lines, and keeps it as one line of the history", function()
    local t <close> = start()
    t:enter "function twice(a)"
    t:expect "%.%.>$"
    t:enter "  return a * 2"
    t:enter "end"
    t:enter "twice(21)"
    t:expect "twice%(21%)\n42\nmoonbee>$"
    t:key("Up", "Up")
    t:expect "moonbee> function twice%(a%) return a %* 2 end$"
    local other <close> = start()
    other:key("Up", "Up")
    other:expect "moonbee> function twice%(a%) return a %* 2 end$"
    assert.equal("rw-------", lfs.attributes(state() .. "/moonbee/history", "permissions"))
  end)

  it("prints above the line while one types, and the line stays", function()
    local t <close> = start()
    t:enter "n = 0 function tick() n = n + 1 if n % 50 == 0 then print('tick', n) end end"
    t:enter "h = loop.every(0.002, tick)"
    t:type "local typed = 'half a line'"
    t:expect "\ntick%s+150\n[^\0]*moonbee> local typed = 'half a line'$"
    t:key("C-a", "C-k")
    t:enter "h:stop()"
    t:expect "h:stop%(%)\n.*moonbee>$"
    local text = t:screen()
    for row in text:gmatch "[^\n]+" do
      assert.truthy(row:find "^moonbee" or row:find "^tick%s+%d+$" or row:find "^help", row)
    end
  end)

  it("keeps a line of several rows whole, too, and after a resize", function()
    local t <close> = start({ columns = 40 })
    t:enter "h = loop.every(0.01, function() n = (n or 0) + 1 print('tick', n) end)"
    t:type(("x"):rep(100))
    t:expect("tick%s+20\n.*moonbee> " .. ("x"):rep(100) .. "$")
    t:resize(60, 20)
    t:expect("tick%s+%d+\nmoonbee> " .. ("x"):rep(100) .. "$")
    t:key("C-a", "C-k")
    t:enter "h:stop()"
    t:expect "h:stop%(%)\n.*moonbee>$"
  end)

  it("interrupts what runs, what waits and what is typed", function()
    local t <close> = start()
    -- The terminal forgets at Ctrl-C what was typed and not read: it must run by then.
    t:enter "print 'runs' while true do end"
    t:expect "\nruns$"
    t:key "C-c"
    t:expect "\nruns\ninterrupted\nmoonbee>$"
    t:enter "print 'inner' for _ in coroutine.wrap(function() while true do end end) do end"
    t:expect "\ninner$"
    t:key "C-c"
    t:expect "\ninner\ninterrupted\nmoonbee>$"
    t:enter "print 'waits' loop.sleep(1000)"
    t:expect "\nwaits$"
    t:key "C-c"
    t:expect "\nwaits\ninterrupted\nmoonbee>$"
    t:enter "function half("
    t:expect "%.%.>$"
    t:type "abc"
    t:expect "abc$"
    t:key "C-c"
    t:expect "%.%.> abc%^C\nmoonbee>$"
    t:enter "6 * 7"
    t:expect "\n42\nmoonbee>$"
  end)

  it("completes names, fields of live objects and enums, and lists choices", function()
    local t <close> = start(nil, TYPES, "--open")
    t:type "vars.cfg.limits[3].ra"
    t:key "Tab"
    t:expect "moonbee> vars%.cfg%.limits%[3%]%.rate$"
    t:enter " = 12345"
    t:enter "vars.cfg.limits[3].rate"
    t:expect "\n12345\nmoonbee>$"
    t:type "vars.cfg.mode = "
    t:key "Tab"
    t:expect 'mode = "MODE_$'
    t:type "ST"
    t:key "Tab"
    t:expect 'mode = "MODE_STRICT"$'
    t:key "Enter"
    t:enter "vars.cfg.mode"
    t:expect "\nMODE_STRICT %(10%)\nmoonbee>$"
    t:type "vars.cfg.ra"
    t:key "Tab"
    t:key "Tab"
    t:expect "\nrange  rate\nmoonbee> vars%.cfg%.ra$"
  end)

  it("shows a value that changes while one types, and plots it", function()
    local t <close> = start({ rows = 40 }, TYPES, "--open")
    -- A long line before it: what is typed begins anew.
    t:enter "hits = bpf.ref(vars, 'hits') h = loop.every(0.003, function() hits:add(1) end)"
    t:enter("w = watch(hits, 0.01) -- " .. ("long "):rep(20))
    local first = tonumber(t:expect "\nhits = %d+  %+[%d.]+/s\nmoonbee>$":match "\nhits = (%d+)")
    support.until_true(function()
      return (tonumber(t:screen():match "\nhits = (%d+)") or 0) > first + 40
    end)
    t:expect "^moonbee %d"               -- nothing above was eaten meanwhile
    t:type "hits:get() > 0 or"
    local before = tonumber(t:expect "moonbee> hits:get%(%) > 0 or$":match "\nhits = (%d+)")
    repeat
      local text = t:screen()
      local now, typed = text:match "\nhits = (%d+)[^\n]*\n(moonbee>[^\n]*)$"
      if typed then assert.equal("moonbee> hits:get() > 0 or", typed) end
    until now and tonumber(now) > before + 20
    t:enter " 'no'"
    -- The lines that moved have not been left behind.
    local text = t:expect "moonbee> hits:get%(%) > 0 or 'no'\ntrue\nhits = %d+  [^\n]*\nmoonbee>$"
    assert.equal(1, select(2, text:gsub("\nhits = ", "")))
    t:enter "w:stop()"
    t:expect "w:stop%(%)\nmoonbee>$"
    t:enter "plot(hits, 0.01)"
    t:expect "\nhits  now %d+  min %d+  max %d+  rate %+[%d.]+/s\n"
    t:expect "█.*\n *└─[^\n]*─\n[^\n]* now\nmoonbee>$"
    t:enter "unwatch()"
    t:expect "unwatch%(%)\nmoonbee>$"
    t:enter "watch(function() return { a = 1, b = hits:get() } end, 0.01)"
    t:expect "\nfunction:\n  a  1  %+0/s\n  b  %d+  %+[%d.]+/s\nmoonbee>$"
    t:enter "unwatch() watch(function() error 'no more' end, 0.01)"
    t:expect "function ended: no more\n"
    t:enter "watch(5)"
    t:expect "error: watch: function, ref, view or map expected, got a number\nhint: that was read"
  end)

  it("has no word out of place after thousands of prints and watches", function()
    local t <close> = start({ rows = 50 })
    t:enter "n = 0 function tick() n = n + 1 if n % 10 == 0 then print('tick ' .. n) end end"
    t:enter "h = loop.every(0.001, tick) w = watch(function() return n end, 0.01)"
    t:type "abc"
    t:expect "tick 600\n"
    t:key("C-a", "C-k")
    t:enter "h:stop() w:stop()"
    t:expect "stop%(%)\n.*moonbee>$"
    local text = t:screen()
    for row in text:gmatch "[^\n]+" do
      assert.truthy(row:find "^tick %d+$" or row:find "^moonbee" or row:find "^help", text)
    end
  end)

  it("stops and goes on with the line", function()
    skip.unless(state() ~= nil, "no tmux")
    local t <close> = terminal.start({ "bash", "--norc", "-i" },
      { env = { PS1 = "sh:", LC_ALL = "C.UTF-8", NO_COLOR = "1", XDG_STATE_HOME = state() } })
    t:expect "[#$]$"
    t:enter "PS1=sh:"
    t:expect "\nsh:$"
    t:enter(MOONBEE .. " repl")
    t:expect "moonbee>$"
    t:type "1 + 41"
    t:expect "41$"
    t:key "C-z"
    t:expect "Stopped.*\nsh:$"
    t:enter "fg"
    t:expect "moonbee> 1 %+ 41$"
    t:key "Enter"
    t:expect "\n42\nmoonbee>$"
    t:key "C-d"
    t:expect "\nsh:$"
    t:enter "echo $((6 * 7))"            -- the shell sees and shows what is typed
    t:expect "echo %$%(%(6 %* 7%)%)\n42\nsh:$"
    t:enter "exit"
  end)

  it("colors values unless NO_COLOR forbids it", function()
    local t <close> = start()
    t:enter "'text'"
    t:expect "\n\"text\"\nmoonbee>$"
    assert.is_nil(t:screen(true):find "\27%[3")
    local c <close> = start { env = { NO_COLOR = "" } }
    c:enter "'text'"
    c:expect "\n\"text\"\nmoonbee>$"
    assert.truthy(c:screen(true):find "\27%[32m\"text\"")
  end)

  it("without a capable terminal reads lines as they come", function()
    skip.unless(state() ~= nil, "no tmux")
    local t <close> = terminal.start({ "env", "TERM=dumb", MOONBEE, "repl" })
    t:expect "moonbee>$"
    t:enter "6 * 7"
    t:expect "6 %* 7\n42\nmoonbee>$"
    t:key "C-d"
    t:expect "%[ended 0%]"
  end)

  it("gives the terminal back when it is ended from outside", function()
    local t <close> = start()
    t:enter "uv = require 'luv'"
    t:type "uv.kill(uv.os_getpid(), 'sigterm')"
    t:key "Enter"
    t:expect "%[ended 143%]"
  end)
end)
