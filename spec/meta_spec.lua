-- SPDX-License-Identifier: BSD-2-Clause
-- The reference in lua/moonbee/meta says what there is: no name more, no name less.
local bpf = require "moonbee"
local kernel = require "moonbee.kernel"
local loop = require "moonbee.loop"

local INTERNAL = require "support.internal"

local NOUNS = {
  "moonbee", "object", "view", "map", "program", "link", "reader", "error", "ref", "type", "loop",
  "stream", "stats", "writer", "trace",
  "kernel", "policy", "client", "metrics",
}

local function text_of(noun)
  local file <close> = assert(io.open("lua/moonbee/meta/" .. noun .. ".lua"))
  return file:read "a"
end

-- What stands in a file about the class: name -> "method" | "property".
local function documented(noun, class, variable)
  local text, names = text_of(noun), {}
  local block = text:match("\n%-%-%-@class " .. class:gsub("%p", "%%%0")
    .. "%f[\n](.-\nlocal )") or ""
  for name in block:gmatch "%-%-%-@field ([%a_][%w_]*)" do names[name] = "property" end
  for name in text:gmatch("\nfunction " .. variable .. "[.:]([%w_]+)%(") do
    names[name] = "method"
  end
  return names
end

local function kinds_of(module)
  local names = {}
  for name, x in pairs(module) do
    if not INTERNAL[name] then names[name] = type(x) == "function" and "method" or "property" end
  end
  return names
end

describe("the reference", function()
  it("holds the functions and fields of moonbee", function()
    local known = documented("moonbee", "moonbee", "bpf")
    assert.truthy(bpf.cpus) -- made when it is first asked for
    for _, name in ipairs { "scripts_dir", "build_dir", "lent", "log" } do -- the program's
      if not bpf[name] then known[name] = nil end
    end
    assert.same(known, kinds_of(bpf))
  end)

  it("holds the functions and fields of the loop", function()
    assert.same(documented("loop", "moonbee.loop", "loop"), kinds_of(loop))
  end)

  it("holds the functions and fields of the kernel", function()
    local known = documented("kernel", "moonbee.kernel", "kernel")
    known.features = nil -- looked up when it is asked for
    local there = kinds_of(kernel)
    there.features = nil
    assert.same(known, there)
  end)

  it("holds the functions of metrics", function()
    assert.same(documented("metrics", "moonbee.metrics", "metrics"),
      kinds_of(require "moonbee.metrics"))
  end)

  it("holds the methods of the loop's handles", function()
    local handle <const> = loop.after(0, print)
    handle:stop()
    local methods = {}
    for name, x in pairs(getmetatable(handle)) do
      if type(x) == "function" and not name:find "^__" then methods[name] = "method" end
    end
    local known = documented("loop", "moonbee.handle", "handle")
    for name, kind in pairs(known) do
      if kind == "property" then known[name] = nil end
    end
    assert.same(known, methods)
  end)

  it("holds the methods of streams", function()
    local stream
    local server = loop.listen("localhost:0", function(s)
      stream = getmetatable(s)
      loop.stop()
    end)
    loop.spawn(function() loop.connect(server.address) end)
    loop.run()
    local methods = {}
    for name, x in pairs(stream) do
      if type(x) == "function" and not name:find "^__" then methods[name] = "method" end
    end
    local known = documented("stream", "moonbee.stream", "stream")
    known.address = nil
    known.closed = nil
    assert.same(known, methods)
  end)

  it("holds the methods and properties of every class", function()
    for class, names in pairs(bpf.classes()) do
      local known = documented(class, "moonbee." .. class, class == "type" and "T" or class)
      known.closed, names.closed = nil, nil -- all have it
      assert.same(known, names, class)
    end
  end)

  it("holds the methods of refs", function()
    local build = os.getenv "MB_BUILD" or "build"
    local obj <close> = bpf.open(build .. "/fixtures/types.bpf.o")
    local ref = bpf.ref(obj.vars, "hits")
    for name in pairs(documented("ref", "moonbee.ref", "ref")) do
      assert.is_function(ref[name], name)
    end
    assert.is_false(pcall(function() return ref.gett end))
  end)

  it("has a file for every noun", function()
    for _, noun in ipairs(NOUNS) do assert.truthy(text_of(noun):find "^%-%-%-@meta") end
  end)

  it("gives every function a text and an example", function()
    for _, noun in ipairs(NOUNS) do
      local comment = ""
      for line in text_of(noun):gmatch "[^\n]*" do
        local name = line:match "^function ([%w_.:]+)%("
        if name then
          assert.truthy(comment:find "^%-%-%-%u", noun .. ": no text for " .. name)
          assert.truthy(comment:find "\n%-%-%-```lua\n", noun .. ": no example of " .. name)
        end
        comment = line:find "^%-%-%-" and comment .. line .. "\n" or ""
      end
    end
  end)

  it("has only examples that compile", function()
    local examples = 0
    for _, noun in ipairs(NOUNS) do
      for code in text_of(noun):gmatch "\n%-%-%-```lua\n(.-)\n%-%-%-```" do
        code = ("\n" .. code):gsub("\n%-%-%-", "\n")
        assert(load(code, "=" .. noun))
        examples = examples + 1
      end
    end
    assert.truthy(examples >= 60, examples)
  end)
end)
