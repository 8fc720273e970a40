-- SPDX-License-Identifier: BSD-2-Clause
--
-- What others get: the archive, the rock that is built from it, what make install puts. The rock is
-- built anew like on their machines, which takes half a minute.
local lfs = require "lfs"
local document = require "support.document"
local run = require "support.run"
local skip = require "support.skip"

local build = os.getenv "MB_BUILD" or "build"

local function read(path)
  local file <close> = assert(io.open(path))
  return file:read "a"
end

local function write(path, text)
  local file <close> = assert(io.open(path, "w"))
  file:write(text)
end

-- Runs a command that must succeed; what it prints.
local function must(argv, options)
  local r = run(argv, options)
  if r.rc ~= 0 then error(table.concat(argv, " ") .. ":\n" .. r.out .. r.err, 2) end
  return r.out
end

local function lines(text)
  local list = {}
  for line in text:gmatch "[^\n]+" do list[#list + 1] = line end
  return list
end

local function files_in(dir)
  return lines(must { "sh", "-c", "cd \"$0\" && find . -type f -o -type l | sort", dir })
end

local version = read "Makefile":match "\nVERSION := (%S+)"

describe("the version", function()
  it("is one wherever it stands", function()
    local name = ("moonbee-%s-1.rockspec"):format(version)
    local rockspec = {}
    assert(load(read(name), name, "t", rockspec))()
    assert.equal(version .. "-1", rockspec.version)
    assert.equal(version, read "CHANGELOG.md":match "\n## %[?([%d.]+)")
    assert.equal(version, require "moonbee.core".version)
    assert.equal("moonbee " .. version, must({ build .. "/moonbee", "--version" }):match "^[^(]*%d")
  end)
end)

describe("the Lua module", function()
  it("has a thread's variables there before the first use", function()
    local relocations = must { "readelf", "-rW", build .. "/lib/moonbee/core.so" }
    assert.matches("R_%S+_TPOFF", relocations)
    assert.is_nil(relocations:match "R_%S+_DTPMOD[^\n]*")
  end)
end)

describe("what is packed", function()
  -- The make that runs the specs, with its variables and jobs, has nothing to say to these.
  local ALONE = { MAKEFLAGS = false, MFLAGS = false, MAKEOVERRIDES = false, MAKELEVEL = false }
  local dir, source, ref

  local function make_dist()
    return must({ "make", "-s", "dist", "REF=" .. ref, "DIST=" .. dir }, { env = ALONE })
      :match "([^\n]+)\n$"
  end

  -- The archive of the work tree as git knows it, committed or not. Once, by the first who asks.
  local function unpack()
    skip.unless(build == "build", "it is built as always anyway")
    skip.unless(run({ "git", "rev-parse", "-q", "--verify", "HEAD" }).rc == 0, "this is no clone")
    if source then return end
    ref = must({ "git", "-c", "user.name=spec", "-c", "user.email=spec@localhost", "stash",
      "create" }):match "%x+" or must({ "git", "rev-parse", "HEAD" }):match "%x+"
    dir = os.tmpname()
    os.remove(dir)
    assert(lfs.mkdir(dir))
    must { "tar", "-C", dir, "-xf", make_dist() }
    source = ("%s/moonbee-%s"):format(dir, version)
  end

  teardown(function() if dir then run { "rm", "-rf", dir } end end)

  it("is what git has, nothing that was made of it", function()
    unpack()
    assert.equal(("moonbee-%s\nmoonbee-%s.tar.gz\n"):format(version, version), must { "ls", dir })
    must { "git", "--work-tree=" .. source, "diff", "--quiet", ref }
    local known = lines(must { "git", "ls-tree", "-r", "--name-only", ref })
    local packed = files_in(source)
    assert.equal(#known, #packed)
    for _, path in ipairs(packed) do
      assert.is_nil(path:match "%.[ao]$" or path:match "%.so" or path:match "^%./build/", path)
    end
  end)

  it("is the same each time", function()
    unpack()
    local path = make_dist()
    local first = read(path)
    os.remove(path)
    assert.is_true(first == read(make_dist()))
  end)

  -- ---- the rock ---------------------------------------------------------------------------------

  local tree

  local function luarocks(...)
    return must({ "luarocks", "--lua-version", "5.4", "--tree", dir .. "/tree", ... }, {
      cwd = source, timeout = 600,
      env = { LUAROCKS_CONFIG = dir .. "/luarocks.lua", HOME = dir, MAKEFLAGS = "-j2",
        MAKELEVEL = false, MAKEOVERRIDES = false, MFLAGS = false },
    })
  end

  local function rock()
    unpack()
    if tree then return end
    -- The libraries are there, as Debian's packages, which LuaRocks does not know.
    write(dir .. "/luarocks.lua",
      [[rocks_provided = { luv = "1.44.2-1", dkjson = "2.6-1", argparse = "0.7.1-1" }]])
    luarocks "make"
    tree = dir .. "/tree"
  end

  -- What a script prints that runs in no tree, with the given paths and else the system's.
  local function script(command, text, path, cpath)
    write(dir .. "/script.lua", text)
    return lines(must(table.move({ dir .. "/script.lua" }, 1, 1, #command + 1, command),
      { cwd = "/", env = { LUA_PATH = path or false, LUA_CPATH = cpath or false } }))
  end

  local PLACES = [[
    local bpf, line = require "moonbee", require "moonbee.line"
    local obj <close> = bpf.open "OBJECT"
    print(require "moonbee.core".version, type(line), obj.state)
    for _, name in ipairs { "moonbee", "moonbee.loop" } do
      print((package.searchpath(name, package.path)))
    end
    for _, name in ipairs { "moonbee.core", "moonbee.line" } do
      print((package.searchpath(name, package.cpath)))
    end]]

  local function places()
    return (PLACES:gsub("OBJECT", source .. "/build/rock/scripts/execsnoop/execsnoop.bpf.o"))
  end

  local function expected()
    return { version .. "\ttable\topen",
      tree .. "/share/lua/5.4/moonbee/init.lua", tree .. "/share/lua/5.4/moonbee/loop.lua",
      tree .. "/lib/lua/5.4/moonbee/core.so", tree .. "/lib/lua/5.4/moonbee/line.so" }
  end

  it("becomes a rock that stock Lua requires", function()
    rock()
    assert.same(expected(), script({ "lua5.4" }, places(),
      luarocks("path", "--lr-path"):match "[^\n]+" .. ";;",
      luarocks("path", "--lr-cpath"):match "[^\n]+" .. ";;"))
    for _, path in ipairs(files_in(source .. "/lua")) do
      assert.is_truthy(lfs.attributes(tree .. "/share/lua/5.4/" .. path), path)
    end
  end)

  it("has in it the program, which finds its own, and the tools", function()
    rock()
    local moonbee = tree .. "/bin/moonbee"
    assert.same(expected(), script({ moonbee, "run" }, places()))
    local help = must({ moonbee, "run", "execsnoop", "--help" }, { cwd = "/" })
    assert.matches("^Usage: moonbee run execsnoop ", help)
    local object = script({ moonbee, "run" }, [[
      local dir = require "moonbee.core".scripts_dir
      print(dir, io.open(dir .. "/execsnoop/execsnoop.bpf.o") ~= nil)]])
    assert.same({ ("%s/lib/luarocks/rocks-5.4/moonbee/%s-1/share/moonbee/scripts\ttrue")
      :format(tree, version) }, object)
  end)

  it("goes without a trace", function()
    rock()
    luarocks("remove", "moonbee")
    assert.same({ "./lib/luarocks/rocks-5.4/manifest" }, files_in(tree))
  end)
end)

-- What debhelper would find out after minutes: a file that no package takes ends make deb.
describe("Debian's packages", function()
  local DEBIAN = "scripts/packaging/debian/"

  local function taken()
    local patterns = {}
    for file in lfs.dir(DEBIAN) do
      if file:find "%.install$" then
        for _, line in ipairs(lines(read(DEBIAN .. file))) do
          patterns[#patterns + 1] = "^/" .. line:gsub("[%.%-]", "%%%0"):gsub("%*", "[^/]*")
            .. "%f[/%z]"
        end
      end
    end
    return patterns
  end

  it("take all that is installed", function()
    skip.unless(build == "build", "it is installed as always anyway")
    local out = must { "make", "-n", "install", "DESTDIR=/nowhere", "PREFIX=/usr",
      "LIBDIR=/usr/lib/multi-arch", "LUACDIR=/usr/lib/multi-arch/lua/5.4", "RECORD=" }
    local patterns, n = taken(), 0
    for path in out:gmatch "=(/usr/[^%s'\\]+)%f[%s]" do
      local found
      for _, pattern in ipairs(patterns) do found = found or path:find(pattern) end
      assert.truthy(found, path)
      n = n + 1
    end
    assert.truthy(n > 100, n)
  end)
end)

-- The tutorial from its installed text, with what is installed and nothing of the tree.
local function follow_tutorial(prefix)
  local tutorials = prefix .. "/share/doc/moonbee/tutorials/"
  local session <close> = document.read(tutorials .. "first-script.md"):session {
    setup = ("export PATH=%s/bin:$PATH CPATH=%s/share/moonbee/include"):format(prefix, prefix),
  }
  session:run(document.read(tutorials .. "README.md").blocks[2]) -- vmlinux.h
  session:run_all()
end

describe("make install", function()
  it("puts what uninstall takes away, and only that", function()
    skip.unless(build == "build", "it is built as always anyway")
    skip.unless(lfs.attributes "build/system/libmoonbee.so.0", "make lib is not made")
    local root = os.tmpname()
    os.remove(root)
    local _ <close> = setmetatable({}, { __close = function() run { "rm", "-rf", root } end })
    must { "mkdir", "-p", root .. "/usr/local/bin" }
    write(root .. "/usr/local/bin/other", "")
    -- With the variables of the make that runs the specs: others would build all of it again.
    must({ "make", "install", "DESTDIR=" .. root }, { timeout = 300 })
    local there = "\n" .. table.concat(files_in(root .. "/usr/local"), "\n") .. "\n"
    for _, path in ipairs { "bin/moonbee", "lib/lua/5.4/moonbee/core.so", "lib/libmoonbee.so",
      "lib/pkgconfig/moonbee.pc", "include/moonbee.h", "share/lua/5.4/moonbee/init.lua",
      "share/man/man1/moonbee-policy.1", "lib/systemd/system/moonbee@.service",
      "share/moonbee/scripts/execsnoop/execsnoop.bpf.o" } do
      assert.is_truthy(there:find("\n./" .. path .. "\n", 1, true), path)
    end
    must({ "pkg-config", "--exists", "--print-errors", "moonbee" },
      { env = { PKG_CONFIG_PATH = root .. "/usr/local/lib/pkgconfig" } })
    local r = run({ root .. "/usr/local/bin/moonbee", "run", "execsnoop", "--help" }, { cwd = "/" })
    assert.equal("", r.err)
    assert.matches("^Usage: moonbee run execsnoop ", r.out)
    if skip.is_root() then follow_tutorial(root .. "/usr/local") end
    must { "make", "uninstall", "DESTDIR=" .. root }
    assert.same({ "./usr/local/bin/other" }, files_in(root))
    assert.equal("", must { "find", root, "-mindepth", "1", "-type", "d", "-empty" })
  end)
end)
