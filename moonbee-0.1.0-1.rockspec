-- SPDX-License-Identifier: BSD-2-Clause
rockspec_format = "3.0"
package = "moonbee"
version = "0.1.0-1"
-- Not published: `luarocks make` in a checkout.
source = { url = "." }
description = {
  summary = "Typed BPF objects, maps and events in Lua",
  detailed = [[
    Load, attach, tune, read and upgrade BPF programs from Lua 5.4: global variables, maps and
    ring-buffer events typed from BTF, without code generation. The rock has the module, the
    program `moonbee` and its tools; the C library is not part of it. Beside the libraries below,
    clang and bpftool are needed to build it, and a kernel with BTF.
  ]],
  license = "BSD-2-Clause",
  labels = { "bpf", "ebpf", "linux", "tracing" },
}
supported_platforms = { "linux" }
dependencies = { "lua ~> 5.4", "luv >= 1.44", "dkjson >= 2.5", "argparse >= 0.7" }
external_dependencies = {
  LIBBPF = { header = "bpf/libbpf.h" },
  LIBELF = { header = "libelf.h" },
  ZLIB = { header = "zlib.h" },
  LIBEDIT = { header = "editline/readline.h" },
}
build = {
  type = "make",
  -- Both passes get the same: other flags would build all of it again.
  variables = {
    ROCK = "1", CFLAGS = "$(CFLAGS)",
    PREFIX = "$(PREFIX)", BINDIR = "$(BINDIR)", LUADIR = "$(LUADIR)", LUACDIR = "$(LIBDIR)",
  },
}
