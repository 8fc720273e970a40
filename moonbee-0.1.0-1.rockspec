-- SPDX-License-Identifier: BSD-2-Clause
rockspec_format = "3.0"
package = "moonbee"
version = "0.1.0-1"
source = { url = "." }
description = {
  summary = "Typed BPF objects, maps and events in Lua",
  detailed = [[
    Load, attach, tune, read and upgrade BPF programs from Lua 5.4: global variables, maps and
    ring-buffer events typed from BTF, without code generation.
  ]],
  license = "BSD-2-Clause",
}
supported_platforms = { "linux" }
dependencies = { "lua ~> 5.4", "luv >= 1.44", "dkjson >= 2.5", "argparse >= 0.7" }
external_dependencies = {
  LIBBPF = { header = "bpf/libbpf.h" },
  LIBELF = { header = "libelf.h" },
  ZLIB = { header = "zlib.h" },
}
build = {
  type = "make",
  build_variables = { CFLAGS = "$(CFLAGS)" },
  install_variables = {
    PREFIX = "$(PREFIX)", BINDIR = "$(BINDIR)", LUADIR = "$(LUADIR)", LUACDIR = "$(LIBDIR)",
  },
}
