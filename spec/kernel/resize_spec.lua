-- SPDX-License-Identifier: BSD-2-Clause
-- obj:resize: more or fewer elements for the last array of a section, before load.
local bpf = require "moonbee"
local skip = require "support.skip"
local support = require "support.bpf"

local mistake, refusal, open = support.mistake, support.refusal, support.open

local OLD = support.libbpf < 103

-- 1.0 to 1.2 have no such call.
local function skip_old()
  skip.unless(not OLD, "libbpf " .. bpf.libbpf_version .. " cannot resize")
end

local function refused(obj, name, n)
  return tostring(refusal(obj.resize, obj, name, n))
end

describe("obj:resize #root", function()
  before_each(skip.root)

  it("gives a section's last array more elements, in the image and in the kernel", function()
    skip_old()
    local obj <close> = open("memory", { vars = { last = 999 } })
    obj:resize("grow", 1000)
    local grow = obj.vars.grow
    assert.equal(1000, #grow)
    assert.equal("__u32[1000]", bpf.typeof(grow).name)
    assert.same({ 1, 2, 3, 4, 0 }, { grow[0], grow[1], grow[2], grow[3], grow[4] })
    grow[999] = 77
    obj:load()
    assert.equal(1000, #obj.vars.grow)
    assert.equal(77, obj.vars.grow[999])
    obj.progs.step_all:run()
    assert.equal(78, obj.vars.total) -- grow[0] + grow[last]
    assert.equal(3, obj.vars.grow[1])
    obj.vars.grow[999] = 100
    obj.progs.step_all:run()
    assert.equal(101, obj.vars.total)
    assert.equal("index '__u32[1000]': __u32[1000] has no element 1000 (0..999)",
      mistake(function() return obj.vars.grow[1000] end))
  end)

  it("takes fewer, the same number, and several calls", function()
    skip_old()
    local obj <close> = open "memory"
    obj:resize("grow", 2)
    assert.same({ 1, 2 }, bpf.totable(obj.vars.grow))
    obj:resize("grow", 4)
    assert.equal(4, #obj.vars.grow)
    assert.equal(2, obj.vars.grow[1])
    obj:resize("grow", 4)
    obj:resize("grow", 5000)
    assert.equal(5000, #obj.vars.grow)
    obj:load()
    assert.equal(5000, #obj.vars.grow)
    assert.equal(1, obj.vars.first)
  end)

  it("takes texts, structs and arrays of arrays", function()
    skip_old()
    local obj <close> = open "memory"
    obj:resize("text", 100)
    obj:resize("pairs", 3)
    obj:resize("squares", 4)
    assert.equal("abc", obj.vars.text)
    obj.vars.text = ("x"):rep(100)
    obj.vars.pairs[2] = { tag = 3, n = 30 }
    obj.vars.squares[3] = { 7, 8, 9 }
    obj:load()
    assert.equal(("x"):rep(100), obj.vars.text)
    assert.equal("store 'text': 101 bytes do not fit into char[100]",
      mistake(function() obj.vars.text = ("x"):rep(101) end))
    assert.equal(60, bpf.sum(obj.vars.pairs, "n"))
    assert.equal("__u32[4][3]", bpf.typeof(obj.vars.squares).name)
    assert.same({ { 1, 2, 3 }, { 4, 5, 6 }, { 0, 0, 0 }, { 7, 8, 9 } },
      bpf.totable(obj.vars.squares))
  end)

  it("keeps obj.vars and other sections' views, and ends the views of its section", function()
    skip_old()
    local obj <close> = open "memory"
    local vars, pairs_of, text = obj.vars, obj.vars.pairs, obj.sections[".data.text"]
    local grow, section = obj.vars.grow, obj.sections[".data.grow"]
    local first, runs = bpf.ref(grow, "[0]"), bpf.ref(vars, "runs")
    vars.first = 5
    obj:resize("grow", 10)
    for _, dead in ipairs { function() return grow[0] end, function() grow[0] = 1 end,
      function() return first:get() end, function() return bpf.sum(grow) end } do
      assert.matches("^access '[^']+': its section was resized$", mistake(dead))
    end
    assert.equal("access 'first': its section was resized",
      mistake(function() return section.first end))
    assert.equal(10, #vars.grow)
    assert.equal(5, vars.first)
    assert.equal(5, obj.sections[".data.grow"].first)
    runs:set(3)
    assert.equal(3, vars.runs)
    pairs_of[0].n = 11
    assert.equal(11, vars.pairs[0].n)
    assert.equal("abc", text.text)
    obj:load()
    assert.same({ 5, 10, 3, 11 }, { vars.first, #vars.grow, runs:get(), pairs_of[0].n })
    assert.equal(5, bpf.ref(vars, "first"):get())
  end)

  it("shows its new size to others who read the program's variables", function()
    skip_old()
    local obj <close> = open "memory"
    obj:resize("grow", 50)
    obj:load()
    obj.vars.grow[49] = 9
    local seen = bpf.vars(obj.progs.step_all.id)
    assert.equal(50, #seen.grow)
    assert.equal(9, seen.grow[49])
  end)

  describe("refuses", function()
    it("what is not the last of its section, and says where to put it", function()
      skip_old()
      local obj <close> = open "types"
      assert.equal("resize variable 'names': 'path' comes after it in .data (EINVAL)\n" ..
        "hint: give it a section of its own: SEC(\".data.names\")",
        (refused(obj, "names", 9):gsub("'%w+' comes", "'path' comes")))
      local memory <close> = open "memory"
      assert.equal("resize variable 'behind': a static or hidden variable comes after it in " ..
        ".data.behind (EINVAL)\nhint: give it a section of its own: SEC(\".data.behind\")",
        refused(memory, "behind", 9))
      assert.same({ 1, 2 }, bpf.totable(memory.vars.behind))
    end)

    it("what is no array", function()
      skip_old()
      local obj <close> = open "memory"
      assert.equal("resize variable 'single': it is __u32, no array (EINVAL)",
        refused(obj, "single", 2))
    end)

    it("after load", function()
      local obj <close> = support.load "memory"
      assert.equal("resize variable 'grow': the object is loaded already (EBUSY)\n" ..
        "hint: resize it between bpf.open and obj:load()", refused(obj, "grow", 9))
      assert.equal(4, #obj.vars.grow)
    end)

    it("names that are not there", function()
      local obj <close> = open "memory"
      assert.equal("resize variable 'growl': there is no such variable (ENOENT)",
        (refused(obj, "growl", 9):match "^[^\n]+"))
      assert.equal("resize variable 'hidden_behind': there is no such variable (ENOENT)",
        (refused(obj, "hidden_behind", 9):match "^[^\n]+"))
    end)

    it("numbers that are none", function()
      local obj <close> = open "memory"
      for _, n in ipairs { 0, -1, 1 << 40 } do
        assert.equal("bad argument #2 to 'resize' (from 1 element on)",
          mistake(function() obj:resize("grow", n) end))
      end
      assert.equal("bad argument #2 to 'resize' (number expected, got no value)",
        mistake(function() obj:resize("grow") end))
      obj:close()
      assert.equal("attempt to use closed object 'memory'",
        mistake(function() obj:resize("grow", 3) end))
    end)

    it("a size that no memory has, and leaves all as it was", function()
      skip_old()
      local obj <close> = open "memory"
      local before = bpf.totable(obj.vars.grow)
      local err = refusal(obj.resize, obj, "squares", 2147483647)
      assert.equal("EFBIG", err.code)
      assert.same(before, bpf.totable(obj.vars.grow))
      assert.equal(2, #obj.vars.squares)
      obj:load()
      assert.equal(2, #obj.vars.squares)
    end)

    it("all of it with a libbpf that has no such call", function()
      skip.unless(OLD, "libbpf " .. bpf.libbpf_version .. " can resize")
      local obj <close> = open "memory"
      assert.equal("resize variable 'grow': it needs libbpf 1.3, and this is " ..
        bpf.libbpf_version .. " (EOPNOTSUPP)", (refused(obj, "grow", 9):match "^[^\n]+"))
      assert.equal(4, #obj.vars.grow)
    end)
  end)
end)
