-- SPDX-License-Identifier: BSD-2-Clause
--
-- Seeds of the fuzz targets from real objects: lua seed.lua DIR x.bpf.o … puts each object into
-- DIR/objects and its .BTF into DIR/btf, both under the name x.

local function read(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:read "a"
end

local function write(path, bytes)
  local file <close> = assert(io.open(path, "wb"))
  assert(file:write(bytes))
end

local function btf_of(bytes)
  local shoff = string.unpack("<I8", bytes, 41)
  local n, names = string.unpack("<I2 I2", bytes, 61)
  local strings = string.unpack("<I8", bytes, shoff + 64 * names + 25)
  for i = 1, n - 1 do
    local name, _, _, _, at, size = string.unpack("<I4 I4 I8 I8 I8 I8", bytes, shoff + 64 * i + 1)
    if string.unpack("z", bytes, strings + name + 1) == ".BTF" then
      return bytes:sub(at + 1, at + size)
    end
  end
end

local dir = arg[1]
for i = 2, #arg do
  local name = arg[i]:match "([^/]+)%.bpf%.o$"
  local bytes = read(arg[i])
  write(dir .. "/objects/" .. name, bytes)
  write(dir .. "/btf/" .. name, assert(btf_of(bytes), arg[i]))
end
