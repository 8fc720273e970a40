-- SPDX-License-Identifier: BSD-2-Clause
-- moonbee types: an object's variables, maps, events and enums for the Lua language server.
local bpf = require "moonbee"

local function run(opts)
  local obj <close> = bpf.open(opts.file)
  local text = require "moonbee.luacats" (obj, opts.file:match "[^/]*$", opts.name)
  if not opts.output then
    print(text)
    return
  end
  local file <close>, why, errno = io.open(opts.output, "w")
  local ok = file and file:write(text, "\n") and file:flush()
  if not ok then
    error(bpf.error {
      code = errno == 2 and "ENOENT" or errno == 13 and "EACCES" or "EIO", op = "write definitions",
      subject = opts.output, cause = (tostring(why):gsub("^.-: ", "")),
    }, 0)
  end
end

return {
  name = "types",
  summary = "Print LuaCATS definitions of an object for the Lua language server.",
  args = { { name = "file", help = "A BPF object file." } },
  options = {
    { name = "--name", argname = "NAME", help = "Of the classes; default: the object's name." },
    { name = "-o --output", argname = "FILE", help = "Write there, not to standard output." },
  },
  examples = {
    "moonbee types flow.bpf.o -o flow.meta.lua",
    "---@type flow.object           (in the script: local obj = bpf.open \"flow.bpf.o\")",
  },
  run = run,
}
