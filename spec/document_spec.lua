-- SPDX-License-Identifier: BSD-2-Clause
-- How the specs run what a document shows: that it fails when the document is wrong.
local document = require "support.document"

local function run(text, options)
  options = options or {}
  options.timeout = options.timeout or 20
  local session <close> = document.parse(text:gsub("~~~", "```"), "doc"):session(options)
  session:run_all()
end

local function fails(text, ...)
  local ok, err = pcall(run, text)
  assert.is_false(ok, "it did not fail")
  for _, words in ipairs { ... } do assert.truthy(tostring(err):find(words, 1, true), err) end
end

describe("a document", function()
  it("writes its files and runs its commands, with what they print", function()
    run [[
~~~text a.txt
never written
~~~
~~~lua a.lua
print(1)
~~~
~~~sh
test -f a.lua && ! test -e a.txt
echo not compared
~~~
~~~console
# cat a.lua
print(1)
# echo "one  two"; echo three >&2
one two
three
# true
# printf '%s\n' a \
    b
a
b
~~~
]]
  end)

  it("fails when a command does, or prints something else, or something more", function()
    fails("~~~sh\nfalse\ntrue\n~~~\n", "doc:1", "exit code 1")
    fails("~~~console\n# echo a\na\n# exit 3\n~~~\n", "doc:1: exit 3", "exit code 3")
    fails("\n~~~console\n# echo b\na\n~~~\n", "doc:2: echo b", "expected:\na", "got:\nb")
    fails("~~~console\n# echo a; echo b\na\n~~~\n", "got:\na\nb")
    fails("~~~console\n# echo a\na\nb\n~~~\n", "expected:\na\nb")
    fails("~~~console\n# nosuchcommand\n~~~\n", "exit code 127")
    fails("~~~lua a.lua\nprint(1)\n~~~\n~~~console\n# cat a.lua\nprint(2)\n~~~\n", "print(2)")
  end)

  it("fails when a command that must fail does not", function()
    run "~~~console fails\n# echo a; exit 1\na\n# false\n~~~\n"
    fails("~~~console fails\n# false\n# true\n~~~\n", "exit code 0")
  end)

  it("compares with what varies, and with nothing more", function()
    run "~~~console\n# echo 'a 17 b'; echo x; echo y\na … b\n…\n~~~\n"
    run "~~~console numbers\n# echo '  17 of 2'\n4 of 333\n~~~\n"
    fails("~~~console\n# echo 'a 17 c'\na … b\n~~~\n", "a 17 c")
    fails("~~~console\n# echo '17 of 2'\n4 of 333\n~~~\n", "17 of 2")
    fails("~~~console numbers\n# echo 'x of 2'\n4 of 333\n~~~\n", "x of 2")
    fails("~~~console\n# echo 'a.c(%d)'\nabc(%d)\n~~~\n", "a.c(%d)")
  end)

  local TERMINAL = "~~~console t\n# trap 'echo bye; exit 0' INT; while read -r x; do echo got $x; "
    .. "done; echo end\n"

  it("goes on with a command in a terminal: types, interrupts, ends its input", function()
    run(TERMINAL .. "~~~\n~~~console\n# echo else\nelse\n~~~\n~~~console t\nme> one\ngot one\n"
      .. "me> two\ngot two\n^D\nend\n~~~\n")
    run(TERMINAL .. "me> one\ngot one\n^C\nbye\n~~~\n")
    run "~~~console t\n# echo a; read -r x; echo $x\na\nme> b\nb\n~~~\n"
  end)

  it("fails when a terminal shows something else, or more, or fails", function()
    fails(TERMINAL .. "me> one\ngot two\n~~~\n", "'t' goes on with", "got two", "got one")
    fails(TERMINAL .. "me> one\n^D\nend\n~~~\n", "'t' ends with", "got one\nend")
    fails("~~~console t\n# echo a; exit 2\na\n^D\n~~~\n", "exit code 2")
    fails("~~~console t\na\n~~~\n", "nothing runs in 't'")
  end)

  it("runs a command before each line that is waited for", function()
    run("~~~console t\n# touch f; tail -n +1 -s 0.01 -f f\n~~~\n"
      .. "<!-- each line: echo x >>f -->\n~~~console t\nx\nx\n~~~\n"
      .. "~~~console t fails\n^C\n~~~\n")
  end)

  it("begins each command with the setup, and has an environment", function()
    run("~~~console\n# echo $A $B\n1 2\n~~~\n", { setup = "A=1", env = { B = "2" } })
  end)
end)
