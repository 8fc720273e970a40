-- SPDX-License-Identifier: BSD-2-Clause
-- When has a file changed? What loop.watch does. Its directories are watched, not the file: then an
-- edit, an editor's rename-over and a ConfigMap's swap of a symlink all show.
local SETTLE = 50 -- ms from the first event of a burst to the look at the file
local RETRY = 250 -- ms; the directory itself has gone

local function split(path)
  local dir, base = path:match("^(.*)/([^/]+)/*$")
  if not dir then return ".", path end
  return dir == "" and "/" or dir, base
end

-- The file that a path leads to now: another one, another time or size is a change.
local function signature(uv, path)
  local s = uv.fs_stat(path)
  return s and ("%d:%d:%d:%d.%d"):format(s.dev, s.ino, s.size, s.mtime.sec, s.mtime.nsec)
end

local function identity(uv, dir)
  local s = uv.fs_stat(dir)
  return s and s.dev .. ":" .. s.ino
end

-- Where a change of path shows: directory -> the entry's name in it. Both ends of a symlink.
local function places(uv, path)
  local found = {}
  for _, p in ipairs { uv.fs_realpath(path) or path, path } do
    local dir, base = split(p)
    found[dir] = base
  end
  return found
end

-- True, or luv's nil, text, code: a directory is not there.
local function arm(source, host, noticed)
  source:ends()
  for dir, base in pairs(places(host.uv, source.argument)) do
    local event = host.uv.new_fs_event()
    source.watches[dir] = { event = event, base = base, id = identity(host.uv, dir) }
    local ok, err, code = event:start(dir, {}, noticed(base))
    if not ok then return ok, err, code end
  end
  return true
end

local function armed_right(source, uv)
  local want = places(uv, source.argument)
  for dir, base in pairs(want) do
    local w = source.watches[dir]
    if not w or w.base ~= base or w.id ~= identity(uv, dir) then return false end
  end
  for dir in pairs(source.watches) do
    if not want[dir] then return false end
  end
  return true
end

-- Watch the file source.argument. host: the loop's uv, guard, close, and fire(source), which is
-- called after a change. source.timer, .watches and .ends are made here.
return function(source, host)
  local uv, guard = host.uv, host.guard
  local dirty, last = false, signature(uv, source.argument)
  local settle

  local function noticed(base)
    return guard(function(_, name)
      if not name or name == base then dirty = true end
      if not source.timer:is_active() then source.timer:start(SETTLE, 0, settle) end
    end, source)
  end

  settle = guard(function()
    if not armed_right(source, uv) and not arm(source, host, noticed) then
      source.timer:start(RETRY, 0, settle)
    end
    -- A file that is not there (an editor is at it) changes when it is back.
    local now = signature(uv, source.argument)
    if now and (dirty or now ~= last) then
      dirty, last = false, now
      host.fire(source)
    end
  end, source)

  function source:ends()
    for _, w in pairs(self.watches) do host.close(w.event) end
    self.watches = {}
  end

  source.watches = {}
  source.timer = uv.new_timer()
  return arm(source, host, noticed)
end
