-- SPDX-License-Identifier: BSD-2-Clause
--
-- What the specs of kernel/ share: fixtures, what a call raises, waiting for what the kernel does.
--
--   local support = require "support.bpf"
--   local obj <close> = support.load "maps"              -- spec/fixtures/maps.bpf.c, loaded
--   local text = support.mistake(function() … end)       -- a caller's mistake: text, its place off
--   local err = support.refusal(function() … end)        -- the world's: an error object
--   support.until_true(function() return x > 3 end)      -- spins, at most some seconds

local assert = require "luassert"
local uv = require "luv"
local bpf = require "moonbee"
local run = require "support.run"

local support = {
  build = os.getenv "MB_BUILD" or "build",
  -- Sanitizers, hard collection and virtual machines slow the heavy tests down: those do less of
  -- the same then.
  slow = os.getenv "MB_HARDGC" ~= nil or os.getenv "MB_VM" ~= nil
    or (os.getenv "MB_BUILD" or ""):find "asan" ~= nil,
}
support.moonbee = support.build .. "/moonbee"

-- libbpf's version as one number: 1.6 is 106.
do
  local major, minor = bpf.libbpf_version:match "^(%d+)%.(%d+)"
  support.libbpf = tonumber(major) * 100 + tonumber(minor)
end

function support.fixture(name)
  return support.build .. "/fixtures/" .. name .. ".bpf.o"
end

function support.open(name, options) return bpf.open(support.fixture(name), options) end
function support.load(name, options) return bpf.load(support.fixture(name), options) end

-- fn must raise text that starts with the place in the spec that called; returns the rest.
function support.mistake(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok, "nothing was raised")
  assert.equal("string", type(err), tostring(err))
  -- Calls of support.open are tail calls: theirs is the place here.
  local text, places = err:gsub("^%./", ""):gsub("^spec/[%w_/]+%.lua:%d+: ", "")
  assert.equal(1, places, "without the caller's place: " .. err)
  return text
end

function support.refusal(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok, "nothing was raised")
  assert.equal("error", bpf.type(err), tostring(err))
  return err
end

-- For what the kernel does by itself soon, and tells nobody.
function support.until_true(what, seconds)
  local deadline = uv.hrtime() + (seconds or 10) * 1e9
  while not what() do
    if uv.hrtime() > deadline then error("did not come true in time", 2) end
  end
end

-- A running moonbee that executes this script; ARG are the script's arguments, from ... on.
function support.script(source, options, ...)
  local path = os.tmpname()
  local file <close> = assert(io.open(path, "w"))
  file:write(source)
  file:close()
  uv.fs_chmod(path, 420)                -- 0644: nobody may read it
  local p = run.start({ support.moonbee, "run", path, ... }, options)
  return setmetatable({ path = path }, {
    __index = function(_, name)
      local value = p[name]
      if type(value) ~= "function" then return value end
      return function(_, ...) return value(p, ...) end
    end,
    __close = function()
      p:close()
      os.remove(path)
    end,
  })
end

return support
