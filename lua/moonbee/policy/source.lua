-- SPDX-License-Identifier: BSD-2-Clause
-- What a policy version is made of: its file, the modules it requires, its object. Each is read
-- once, through one descriptor; these bytes are what is checked, compared, compiled, kept.
local bpf = require "moonbee"

local MAX_MODULES = 1000

local source = {}
source.__index = source

local function directory(path)
  return path:match "^(.*/)[^/]*$" or "./"
end

local function refuse_exposed(op, path, exposed)
  error(bpf.error {
    code = "EPERM", op = op, subject = path, cause = "others may write it: " .. exposed,
    hint = "chmod go-w, chown root; or --allow-writable",
  }, 0)
end

-- Read a file of the policy's. As root, what others may write is refused; where it is allowed, the
-- log says so.
local function read(self, path, op)
  self.files[path] = true
  local bytes, real, exposed = bpf.service.read_file(path, op)
  self.files[real] = true
  if exposed and self.checked then
    if not self.allow_writable then refuse_exposed(op, path, exposed) end
    self.warn(("%s is used although others may write it: %s"):format(path, exposed))
  end
  return bytes, real
end

-- Read the policy at path. options: allow_writable, warn = function(text). Raises as read_file.
function source.read(path, options)
  local self = setmetatable({
    path = path, dir = directory(path), files = {}, modules = {}, count = 0,
    checked = require "luv".getuid() == 0, allow_writable = options and options.allow_writable,
    warn = options and options.warn or function() end,
  }, source)
  self.text = read(self, path, "read policy")
  return self
end

-- One that was kept, as plain data: nothing is read any more.
function source.kept(record)
  return setmetatable({ path = record.path, dir = directory(record.path), text = record.text,
    modules = record.modules, object_bytes = record.object, object_path = record.object_path,
    files = {}, count = 0, frozen = true }, source)
end

-- What source.kept takes.
function source:record()
  local modules = {}
  for name, m in pairs(self.modules) do
    if m.text then modules[name] = { text = m.text, path = m.path } end
  end
  return { path = self.path, text = self.text, modules = modules, object = self.object_bytes,
    object_path = self.object_path }
end

-- Where a module of the policy's may be.
local function candidates(self, name)
  local path = name:gsub("%.", "/")
  return { self.dir .. path .. ".lua", self.dir .. path .. "/init.lua" }
end

local function find_module(self, name)
  local tried = candidates(self, name)
  for _, path in ipairs(tried) do
    local ok, bytes = pcall(read, self, path, "read module")
    if ok then return { text = bytes, path = path } end
    if bytes.code ~= "ENOENT" and bytes.code ~= "ENOTDIR" then error(bytes, 0) end
  end
  return { why = "no " .. table.concat(tried, ", no ") }
end

-- The policy's require: text and chunk name, or nil and why not.
function source:module(name)
  local known = self.modules[name]
  if not known then
    if self.frozen then return nil, ("module '%s' was not kept"):format(name) end
    if not name:find "^[%w_][%w_.-]*$" or name:find("..", 1, true) then
      return nil, ("'%s' is no name of a module"):format(name)
    end
    self.count = self.count + 1
    if self.count > MAX_MODULES then return nil, "too many modules" end
    known = find_module(self, name)
    self.modules[name] = known
  end
  if not known.text then return nil, known.why end
  return known.text, "@" .. known.path
end

-- Beside the policy, or where make built it.
local function object_places(self, name)
  if name:sub(1, 1) == "/" then return { name } end
  local places = { self.dir .. name }
  if bpf.build_dir then
    local own = require "luv".fs_realpath(self.dir) or self.dir
    places[2] = ("%s/scripts/%s/%s"):format(bpf.build_dir, own:match "([^/]+)/*$" or "?", name)
  end
  return places
end

-- The bytes of the policy's object.
function source:object(name)
  if self.frozen then
    if self.object_bytes then return self.object_bytes, self.object_path end
    error(bpf.error { code = "ENOENT", op = "read object", subject = name,
      cause = "it was not kept" }, 0)
  end
  local first
  for _, path in ipairs(object_places(self, name)) do
    local ok, bytes = pcall(read, self, path, "read object")
    if ok then
      self.object_bytes, self.object_path = bytes, path
      return bytes, path
    end
    if bytes.code ~= "ENOENT" then error(bytes, 0) end
    first = first or bytes
  end
  error(bpf.error { code = first.code, op = first.op, subject = first.subject, cause = first.cause,
    hint = "policy.object is a path from the policy's directory; compile it with clang "
      .. "-target bpf" }, 0)
end

-- Are they the same bytes?
function source:same(other)
  if self.text ~= other.text or self.object_bytes ~= other.object_bytes then return false end
  for name, m in pairs(self.modules) do
    local there = other.modules[name]
    if (there and there.text) ~= m.text then return false end
  end
  for name, m in pairs(other.modules) do
    if m.text and not self.modules[name] then return false end
  end
  return true
end

return source
