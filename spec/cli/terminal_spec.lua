-- SPDX-License-Identifier: BSD-2-Clause
-- The REPL on a real terminal: lines edited, history, what is printed meanwhile, signals, resize.
local lfs = require "lfs"
local run = require "support.run"
local skip = require "support.skip"
local terminal = require "support.terminal"

local BUILD = os.getenv "MB_BUILD" or "build"
local MOONBEE = BUILD .. "/moonbee"
local TYPES = BUILD .. "/fixtures/types.bpf.o"

describe("moonbee repl on a terminal", function()
  local state

  setup(function()
    if not terminal.available() then return end
    terminal.begin()
    state = os.tmpname()
    os.remove(state)
    lfs.mkdir(state)
  end)

  teardown(function()
    if not state then return end
    terminal.finish()
    run { "rm", "-rf", state }
  end)

  local function start(options, ...)
    skip.unless(state ~= nil, "no tmux")
    options = options or {}
    local env = { NO_COLOR = "1", XDG_STATE_HOME = state, LC_ALL = "C.UTF-8" }
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
    assert.equal("rw-------", lfs.attributes(state .. "/moonbee/history", "permissions"))
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
    t:enter "while true do end"
    t:expect "while true do end$"
    t:key "C-c"
    t:expect "do end\ninterrupted\nmoonbee>$"
    t:enter "loop.sleep(1000)"
    t:expect "%(1000%)$"
    t:key "C-c"
    t:expect "%(1000%)\ninterrupted\nmoonbee>$"
    t:enter "function half("
    t:expect "%.%.>$"
    t:type "abc"
    t:key "C-c"
    t:expect "%.%.> abc%^C\nmoonbee>$"
    t:enter "6 * 7"
    t:expect "\n42\nmoonbee>$"
  end)

  it("stops and goes on with the line", function()
    skip.unless(state ~= nil, "no tmux")
    local t <close> = terminal.start({ "bash", "--norc", "-i" },
      { env = { PS1 = "sh:", LC_ALL = "C.UTF-8", NO_COLOR = "1", XDG_STATE_HOME = state } })
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
    skip.unless(state ~= nil, "no tmux")
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
