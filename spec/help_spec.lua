-- SPDX-License-Identifier: BSD-2-Clause
-- help(x): what the reference says about a function, a class, a name.
local bpf = require "moonbee"
local INTERNAL = require "support.internal"
local help = require "moonbee.help"
local session = require "moonbee.session"

local BUILD = os.getenv "MB_BUILD" or "build"

local function has(text, ...)
  for _, part in ipairs { ... } do
    assert.truthy(text:find(part, 1, true), ("no %q in:\n%s"):format(part, text))
  end
end

describe("help", function()
  local obj, s
  before_each(function()
    obj = bpf.open(BUILD .. "/fixtures/types.bpf.o")
    s = session.new {
      names = { obj = obj, vars = obj.vars, maps = obj.maps, watch = print }, write = print,
      lazy = { loop = function() return require "moonbee.loop" end },
    }
  end)
  after_each(function() obj:close() end)

  local function ask(...) return help.text(s, help.lookup, select("#", ...), ...) end

  it("without a word lists what is at hand", function()
    has(ask(), "At hand:", "\n  obj ", "moonbee.object 'types'", "\n  vars ", "\n  maps ",
      "\n  loop ", "watch(ref | function")
  end)

  it("of a function gives signature, text, types, what it returns and an example", function()
    has(ask(bpf.ref), "bpf.ref(view, path)\n  Bind a variable", "\n  takes   view: moonbee.view\n",
      "path: string  a name, or a path", "\n  returns moonbee.ref\n",
      "\n  for example:\n    local bpf")
    has(ask(require "moonbee.loop".every), "loop.every(seconds, fn)")
    has(ask(obj.load), "object:load()")
    has(ask(bpf.enum), "returns string|nil")
  end)

  it("of every function of ours finds its place in the reference", function()
    local n = 0
    for name, f in pairs(bpf) do
      if type(f) == "function" and not INTERNAL[name] then
        has(ask(f), "bpf." .. (name == "key" and "bytes" or name) .. "(") -- key is bytes
        n = n + 1
      end
    end
    for class, methods in pairs(bpf.classes(true)) do
      for name, f in pairs(methods) do
        if type(f) == "function" then
          has(ask(f), class .. ":" .. name .. "(")
          n = n + 1
        end
      end
    end
    assert.truthy(n > 60, n)
  end)

  it("of a handle or its class lists methods and properties", function()
    has(ask(obj), "moonbee.object\n", "\n  object:load() ", "\n  .state ")
    has(ask "map", "moonbee.map\n", "map:sum(", ".max_entries")
    has(ask(obj.vars.cfg), "struct cfg {", "__u32 rate;", "moonbee.view\n")
    has(ask(obj.types["struct limit"]), "struct limit {")
    has(ask(bpf.ref(obj.vars, "hits")), "moonbee.ref", "ref:xchg(")
  end)

  it("of a name finds what it may mean", function()
    has(ask "bpf.open", "bpf.open(path, opts)")
    has(ask "open", "bpf.open(path, opts)")
    has(ask "map:get", "map:get(key")
    has(ask "map.get", "map:get(key")
    has(ask "every", "loop.every(seconds, fn)")
    has(ask "loop", "loop.spawn(fn, ...)")
    has(ask "bpf", "bpf.find(name)")
    has(ask(bpf), "bpf.find(name)")
    has(ask "zzz", "no help on 'zzz'")
    has(ask "attac", "there is: ")
  end)

  it("of other values says what there is to say", function()
    has(ask(5), "a number")
    has(ask(nil), "a nil")
    has(ask(print), "function")
    has(ask(s.env.watch), "watch(ref | function")
    -- Adds one.
    local function add(a, ...) return a + 1, ... end
    has(ask(add), "function(a, ...) at ", "help_spec.lua:", "\n  Adds one.")
    has(ask(load "return 1"), "function(...) at ")
  end)
end)
