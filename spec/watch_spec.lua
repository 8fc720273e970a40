-- SPDX-License-Identifier: BSD-2-Clause
local loop = require "moonbee.loop"
local uv = require "luv"

describe("loop.watch", function()
  local dir, path, errors

  local function write(text, to)
    local file <close> = assert(io.open(to or path, "w"))
    file:write(text)
  end

  local function read()
    local file <close> = assert(io.open(path))
    return file:read "a"
  end

  before_each(function()
    dir = uv.fs_mkdtemp "/tmp/moonbee-watch-XXXXXX"
    path = dir .. "/policy.lua"
    write "old"
    errors = {}
    loop.on_error(function(text) errors[#errors + 1] = text end)
  end)
  after_each(function()
    os.execute("rm -r " .. dir)
    loop.on_error(nil)
    loop.stop()
    loop.run() -- drops what a failed test has left
    assert.same({}, errors)
  end)

  -- What the handler saw until change() has been made and seen.
  local function seen_after(change)
    local seen, paths = {}, {}
    loop.watch(path, function(p)
      seen[#seen + 1], paths[p] = read(), true
      loop.stop "seen"
    end)
    loop.spawn(change)
    loop.after(5, function() loop.stop "nothing seen" end)
    assert.equal("seen", loop.run())
    assert.same({ [path] = true }, paths)
    return seen
  end

  it("sees an edit in place, once for many writes", function()
    assert.same({ "new" }, seen_after(function()
      for _ = 1, 5 do
        write "draft"
        loop.sleep(0.002)
      end
      write "new"
    end))
  end)

  it("sees an edit that leaves size and time as they were", function()
    local old = uv.fs_stat(path)
    assert.same({ "new" }, seen_after(function()
      write "new"
      local mtime = old.mtime.sec + old.mtime.nsec / 1e9
      assert(uv.fs_utime(path, mtime, mtime))
    end))
  end)

  it("sees an edit of what a symlink leads to, in another directory", function()
    os.remove(path)
    assert(uv.fs_mkdir(dir .. "/real", 448))
    write("old", dir .. "/real/file")
    assert(uv.fs_symlink("real/file", path))
    assert.same({ "new" }, seen_after(function() write("new", dir .. "/real/file") end))
  end)

  it("sees a file that is renamed over it", function()
    assert.same({ "new" }, seen_after(function()
      write("new", dir .. "/.policy.lua.swp")
      os.rename(dir .. "/.policy.lua.swp", path)
    end))
  end)

  it("sees it come back after it was removed, and not that it has gone", function()
    assert.same({ "back" }, seen_after(function()
      os.remove(path)
      loop.sleep(0.15)
      write "back"
    end))
  end)

  it("sees the swap of a symlink on the way to it", function()
    os.remove(path)
    for _, version in ipairs { "1", "2" } do
      assert(uv.fs_mkdir(dir .. "/.v" .. version, 448))
      write(version, dir .. "/.v" .. version .. "/policy.lua")
    end
    assert(uv.fs_symlink(".v1", dir .. "/..data"))
    assert(uv.fs_symlink("..data/policy.lua", path))
    assert.same({ "2" }, seen_after(function()
      assert(uv.fs_symlink(".v2", dir .. "/..data_tmp"))
      os.rename(dir .. "/..data_tmp", dir .. "/..data")
    end))
  end)

  it("sees it again when its directory was made anew", function()
    assert.same({ "again" }, seen_after(function()
      os.execute("rm -r " .. dir)
      loop.sleep(0.15)
      assert(uv.fs_mkdir(dir, 448))
      write "again"
    end))
  end)

  it("sees each of several changes, and one that is made while its handler waits", function()
    local seen = {}
    loop.watch(path, function()
      seen[#seen + 1] = read()
      if #seen == 1 then
        loop.sleep(0.01)
        write "two"
        loop.sleep(0.15)
      else
        loop.stop "seen"
      end
    end)
    loop.spawn(function() write "one" end)
    loop.after(5, function() loop.stop "nothing seen" end)
    assert.equal("seen", loop.run())
    assert.same({ "one", "two" }, seen)
  end)

  it("does not call for other files of the directory", function()
    local n = 0
    loop.watch(path, function() n = n + 1 end)
    loop.spawn(function()
      write("x", dir .. "/other")
      loop.sleep(0.15)
      loop.stop()
    end)
    loop.run()
    assert.equal(0, n)
  end)

  it("raises where there is no directory, and for what is no path", function()
    local ok, err = pcall(loop.watch, dir .. "/none/x.lua", print)
    assert.is_false(ok)
    assert.equal("ENOENT", err.code)
    assert.truthy(tostring(err):find(dir .. "/none/x.lua", 1, true))
    ok, err = pcall(loop.watch, nil, print)
    assert.is_false(ok)
    assert.truthy(err:find "path expected, got nil")
  end)
end)
