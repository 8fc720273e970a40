# SPDX-License-Identifier: BSD-2-Clause
#
# moonbee's one Makefile. All that it makes is under build/; `make help` lists the targets.
#
# Targets that install packages first (test, asan, hardgc, demo) call this file again for the rest:
# what is found below (libbpf, Lua, clang) is looked up while it is read, and may just have come.

VERSION := 0.1.0

# --- settings, each may be given on the command line ---------------------------------------------

PREFIX  ?= /usr/local
BINDIR  ?= $(PREFIX)/bin
LIBDIR  ?= $(PREFIX)/lib
INCDIR  ?= $(PREFIX)/include
LUADIR  ?= $(PREFIX)/share/lua/5.4
LUACDIR ?= $(PREFIX)/lib/lua/5.4
DATADIR ?= $(PREFIX)/share/moonbee
MANDIR  ?= $(PREFIX)/share/man
BASHDIR ?= $(PREFIX)/share/bash-completion/completions
DOCDIR  ?= $(PREFIX)/share/doc/moonbee
UNITDIR ?= $(PREFIX)/lib/systemd/system
DESTDIR ?=
# Where install writes down what it put, for uninstall; empty: nowhere, a package does that itself.
RECORD  ?= $(if $(filter 1,$(ROCK)),,$(DATADIR)/installed)

# LIBBPF=system: the system's libbpf, in a build directory of its own. LIBBPF_DIR: another one.
LIBBPF     ?=
LIBBPF_DIR ?= build/deps
# Lua's own libraries in source, for policies; not there: see core/bind/guest.c.
LUALIB_DIR ?= build/deps/lua
# SAN=1: with address and undefined-behaviour sanitizers, in a build directory of its own;
# SAN=thread: with the thread sanitizer.
SAN    ?=
# LINE=readline: the line editor is GNU readline (GPL-3: then so is the whole) in place of libedit.
LINE   ?=
# ROCK=1: as LuaRocks wants it (see the rockspec): in a build directory of its own, so that a checkout's
# build stays what it is; install puts the Lua side only, no C library, man pages and units.
ROCK   ?=
WERROR ?=
V      ?=
CFLAGS ?= -O2 -g
# SPEC="files": only these; TESTFLAGS: more options for busted. FUZZ=name TIME=seconds for fuzz.
# KERNEL="6.1 7": what vmtest boots; FULL=1: every spec there, not only those skipped here.
SPEC      ?= $(wildcard spec/*_spec.lua spec/kernel spec/cli)
TESTFLAGS ?=
FUZZ      ?= $(patsubst spec/fuzz/%.c,%,$(wildcard spec/fuzz/*.c))
TIME      ?= 60
KERNEL    ?= 6.1 6.12 7
FULL      ?=

ifeq ($(origin CC),default)
CC := gcc
endif
CLANG      ?= clang
PKG_CONFIG ?= pkg-config
LUA        ?= lua5.4
BUSTED     ?= $(firstword $(wildcard /usr/bin/busted) $(shell command -v busted 2>/dev/null))
# Debian has it in /usr/sbin, which is not in every PATH.
BPFTOOL    ?= $(firstword $(shell command -v bpftool 2>/dev/null) $(wildcard /usr/sbin/bpftool))

MAKEFLAGS += --no-builtin-rules --no-print-directory
.SUFFIXES:
.SECONDARY:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all
Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),@:,@printf '  %-7s %s\n' $(1) $@)

# --- directories and sources ---------------------------------------------------------------------

# What the variants share is in build/ itself: deps, include (vmlinux.h), forbidden.
B := build$(if $(filter 1,$(ROCK)),/rock)$(if $(filter system,$(LIBBPF)),/system)$(if $(filter 1,$(SAN)),/asan)$(if $(filter thread,$(SAN)),/tsan)

engine_src := $(wildcard core/engine/*.c)
# testing.c is for specs only; line.c becomes a module of its own, it needs libedit.
bind_src   := $(filter-out core/bind/testing.c core/bind/line.c,$(wildcard core/bind/*.c))
obj         = $(patsubst core/%.c,$(B)/obj/%.o,$(1))
lib_objs   := $(call obj,$(engine_src) $(bind_src))
# Lua's own string, table and utf8 libraries for policies, which a deadline can end: made from Lua's
# source package, where deps could get it; else policies have the system's with bounds on sizes.
guest_lib  := $(wildcard $(LUALIB_DIR)/lstrlib.c)
ifneq ($(guest_lib),)
guest_objs := $(patsubst %,$(B)/obj/guest/%.o,lstrlib ltablib lutf8lib)
lib_objs   += $(guest_objs)
endif

# Objects: scripts/NAME/*.bpf.c go where the program, run from the tree, looks for them.
script_bpf  := $(patsubst %.bpf.c,$(B)/%.bpf.o,$(wildcard scripts/*/*.bpf.c))
fixture_bpf := $(patsubst spec/%.bpf.c,$(B)/%.bpf.o,$(wildcard spec/fixtures/*.bpf.c))

# --- what is there to build with -----------------------------------------------------------------

lua_pc := $(firstword $(foreach p,lua5.4 lua-5.4 lua54,$(shell $(PKG_CONFIG) --exists $(p) 2>/dev/null && echo $(p))))
ifneq ($(lua_pc),)
lua_cflags := $(shell $(PKG_CONFIG) --cflags $(lua_pc))
lua_a      := $(firstword $(wildcard $(shell $(PKG_CONFIG) --variable=libdir $(lua_pc))/lib$(lua_pc).a))
lua_libs   := $(if $(lua_a),$(lua_a) -lm -ldl,$(shell $(PKG_CONFIG) --libs $(lua_pc)))
endif

libbpf_a := $(if $(filter system,$(LIBBPF)),,$(wildcard $(LIBBPF_DIR)/lib/libbpf.a))
ifneq ($(libbpf_a),)
# Its own uapi headers come first: bookworm's <linux/bpf.h> is 6.1's.
libbpf_inc := $(patsubst %,-isystem %,$(wildcard $(LIBBPF_DIR)/include/uapi) $(LIBBPF_DIR)/include)
libbpf_ver := $(shell sed -n 1p $(LIBBPF_DIR)/VERSION 2>/dev/null)
libbpf     := $(libbpf_a)
libbpf_so  := $(libbpf_a)
else
libbpf_ver := $(shell $(PKG_CONFIG) --modversion libbpf 2>/dev/null)
libbpf     := $(or $(firstword $(wildcard $(shell $(PKG_CONFIG) --variable=libdir libbpf 2>/dev/null)/libbpf.a)),-lbpf)
# A distribution's archive need not be position independent: modules take its shared library.
libbpf_so  := -lbpf
endif
line_pc   := $(if $(filter readline,$(LINE)),readline,libedit)
line_libs := $(shell $(PKG_CONFIG) --libs $(line_pc) 2>/dev/null)
line_defs := $(shell $(PKG_CONFIG) --cflags $(line_pc) 2>/dev/null) \
	$(if $(filter readline,$(LINE)),-DMB_READLINE)
elf_libs := $(or $(shell $(PKG_CONFIG) --libs libelf zlib 2>/dev/null),-lelf -lz)

# --- flags ---------------------------------------------------------------------------------------

warnings := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
	-Wformat=2 -Wvla $(if $(filter 1,$(WERROR)),-Werror)
ifeq ($(SAN),1)
san := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
endif
ifeq ($(SAN),thread)
san := -fsanitize=thread -Wno-tsan
endif
# One set of objects for program, module and archive: -fPIC costs nothing where symbols are hidden.
cflags   := -std=gnu11 -D_GNU_SOURCE $(CFLAGS) -fPIC -fno-plt -fvisibility=hidden $(warnings) $(san)

# Layers: neither sees the other's library. Headers that #error come first in the path, as the
# system's lie in /usr/include, which no option takes away.
engine_cflags := -Ibuild/forbidden/engine -Icore $(libbpf_inc) -Wconversion
bind_cflags   := -Ibuild/forbidden/bind -Icore $(lua_cflags) -DMB_VERSION='"$(VERSION)"' \
	$(if $(guest_lib),-DMB_GUEST_LIB)
guest_cflags  := -w -DLUA_LIB -Icore -Icore/bind $(lua_cflags)
main_cflags   := $(bind_cflags) -DMB_LUADIR='"$(LUADIR)"' -DMB_LUACDIR='"$(LUACDIR)"' \
	-DMB_DATADIR='"$(DATADIR)"'
forbidden     := build/forbidden/stamp

bpf_arch   := $(shell uname -m | sed 's/x86_64/x86/;s/aarch64/arm64/;s/ppc64le/powerpc/;s/s390x/s390/;s/riscv64/riscv/')
bpf_cflags := -O2 -g -target bpf -mcpu=v3 -D__TARGET_ARCH_$(bpf_arch) -Wall \
	$(if $(filter 1,$(WERROR)),-Werror) -Ibuild/include -Iscripts/include \
	$(if $(libbpf_a),-isystem $(LIBBPF_DIR)/include) \
	-idirafter /usr/include/$(shell $(CC) -print-multiarch 2>/dev/null)

# --- products ------------------------------------------------------------------------------------

.PHONY: all
all: $(B)/moonbee $(B)/lib/moonbee/core.so $(B)/lib/moonbee/line.so $(B)/libmoonbee.a $(script_bpf) ## program, Lua module, archive, scripts (default)

# Text that decides how things are built lies in files, remade when it changes: what was built
# otherwise (other flags, another libbpf, another kernel's types) is built again.
flags_now := $(CC) $(cflags) $(engine_cflags) $(bind_cflags) $(guest_cflags) $(libbpf) $(libbpf_ver) $(lua_libs) $(LDFLAGS)
ifneq ($(strip $(file <$(B)/flags)),$(strip $(flags_now)))
$(B)/flags: FORCE
endif
$(B)/flags:
	$(if $(lua_pc),,$(error Lua 5.4's headers are missing; `make deps` installs what moonbee needs))
	$(if $(libbpf_ver),,$(error libbpf is missing; `make deps` installs what moonbee needs))
	$(shell mkdir -p $(@D))$(file >$@,$(flags_now))

ifneq ($(strip $(file <$(B)/flags.main)),$(strip $(main_cflags)))
$(B)/flags.main: FORCE
endif
$(B)/flags.main:
	$(shell mkdir -p $(@D))$(file >$@,$(main_cflags))

line_now := $(line_pc) $(line_libs) $(line_defs)
ifneq ($(strip $(file <$(B)/flags.line)),$(strip $(line_now)))
$(B)/flags.line: FORCE
endif
$(B)/flags.line:
	$(if $(line_libs),,$(error $(line_pc) is missing; `make deps` installs what moonbee needs))
	$(shell mkdir -p $(@D))$(file >$@,$(line_now))

kernel_now := $(shell uname -r -v)
ifneq ($(strip $(file <build/include/kernel)),$(strip $(kernel_now)))
build/include/kernel: FORCE
endif
build/include/kernel:
	$(shell mkdir -p $(@D))$(file >$@,$(kernel_now))

.PHONY: FORCE
FORCE:

$(forbidden): Makefile
	$(Q)mkdir -p $(@D)/engine/lua5.4 $(@D)/bind/bpf
	$(Q)for h in lua.h lauxlib.h lualib.h luaconf.h; do \
		echo '#error "core/engine must not see Lua"' | \
			tee $(@D)/engine/$$h >$(@D)/engine/lua5.4/$$h; done
	$(Q)for h in bpf btf libbpf libbpf_common libbpf_legacy libbpf_version; do \
		echo '#error "only core/engine may see libbpf"' >$(@D)/bind/bpf/$$h.h; done
	$(Q)touch $@

$(B)/obj/engine/%.o: core/engine/%.c $(B)/flags | $(forbidden)
	$(call say,CC)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(cflags) $(engine_cflags) $(CPPFLAGS) -MMD -MP -c -o $@ $<

$(B)/obj/bind/%.o: core/bind/%.c $(B)/flags | $(forbidden)
	$(call say,CC)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(cflags) $(bind_cflags) $(CPPFLAGS) -MMD -MP -c -o $@ $<

$(B)/obj/line.o: core/bind/line.c $(B)/flags $(B)/flags.line | $(forbidden)
	$(call say,CC)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(cflags) $(bind_cflags) $(line_defs) $(CPPFLAGS) -MMD -MP -c -o $@ $<

# Not our code: its warnings are not ours to mend.
$(B)/obj/guest/%.c: $(LUALIB_DIR)/%.c .ci/lualib.sh
	$(call say,LUA)
	$(Q).ci/lualib.sh $< $@
$(B)/obj/guest/%.o: $(B)/obj/guest/%.c core/bind/guest_loop.h $(B)/flags
	$(call say,CC)
	$(Q)$(CC) $(cflags) $(guest_cflags) $(CPPFLAGS) -c -o $@ $<

# Where the Lua files are is what embed.c and main.c need to know.
$(B)/obj/bind/embed.o: bind_cflags += -DMB_LUADIR='"$(LUADIR)"'
$(B)/obj/bind/embed.o: $(B)/flags.main

$(B)/obj/main.o: core/main.c $(B)/flags $(B)/flags.main | $(forbidden)
	$(call say,CC)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(cflags) $(main_cflags) $(CPPFLAGS) -MMD -MP -c -o $@ $<

$(B)/libmoonbee.a: $(lib_objs)
	$(call say,AR)
	$(Q)rm -f $@
	$(Q)$(AR) rcs $@ $^

# The program exports the whole Lua API (luv.so and other modules take it from the host), but not
# libbpf: a module that is bound to the system's libbpf.so would get ours.
$(B)/moonbee: $(B)/obj/main.o $(lib_objs) $(libbpf_a)
	$(call say,LINK)
	$(Q)$(CC) $(CFLAGS) $(san) $(LDFLAGS) -Wl,-E -Wl,--exclude-libs,libbpf.a -Wl,-u,luaL_openlibs \
		-o $@ $(filter %.o,$^) $(libbpf) $(lua_libs) $(elf_libs)

# The library for C programs (moonbee.h). They bring a libbpf of their own, and hand its objects over:
# so the shared one is linked with the system's shared libbpf, and so is what it is made of.
L := $(patsubst build%,build/system%,$(B:build/system%=build%))
L := $(if $(libbpf_a),$(L),$(B))
lib_files := $(addprefix $(L)/,libmoonbee.so libmoonbee.a moonbee.pc scripts/embed/flowd \
	spec/embed/api spec/embed/threads)
.PHONY: lib
ifneq ($(libbpf_a),)
lib: ## libmoonbee.so, libmoonbee.a and moonbee.pc with the system's libbpf; the example daemon
	$(Q)$(MAKE) LIBBPF=system lib
else
lib: $(lib_files)
endif
$(B)/libmoonbee.map: Makefile
	$(Q)mkdir -p $(@D)
	$(Q)echo '{ global: luaopen_moonbee; luaopen_moonbee_core; mb_runtime_*; local: *; };' >$@
$(B)/libmoonbee.so: $(lib_objs) $(B)/libmoonbee.map
	$(call say,LINK)
	$(Q)$(CC) $(CFLAGS) $(san) $(LDFLAGS) -shared -Wl,-soname,libmoonbee.so.0 -Wl,-z,defs,-z,nodelete \
		-Wl,--version-script=$(B)/libmoonbee.map -o $@.0 $(filter %.o,$^) \
		-lbpf $(shell $(PKG_CONFIG) --libs $(lua_pc)) $(elf_libs)
	$(Q)ln -sf $(@F).0 $@
$(B)/moonbee.pc: Makefile
	$(Q)mkdir -p $(@D)
	$(Q)printf '%s\n' 'prefix=$(PREFIX)' 'libdir=$(LIBDIR)' 'includedir=$(INCDIR)' '' 'Name: moonbee' \
		'Description: BPF objects scriptable from Lua' 'Version: $(VERSION)' \
		'Requires: libbpf $(lua_pc)' 'Requires.private: libelf zlib' \
		'Libs: -L$${libdir} -lmoonbee' 'Cflags: -I$${includedir}' >$@

# The example daemon, as a user of the library builds it.
$(B)/scripts/embed/flowd.skel.h: $(B)/scripts/embed/flowd.bpf.o
	$(call say,SKEL)
	$(Q)$(BPFTOOL) gen skeleton $< name flowd >$@
$(B)/scripts/embed/flowd: scripts/embed/flowd.c core/moonbee.h $(B)/scripts/embed/flowd.skel.h $(B)/libmoonbee.so
	$(call say,CC)
	$(Q)$(CC) $(CFLAGS) $(warnings) $(san) -Icore -I$(@D) $(LDFLAGS) -o $@ $< \
		-L$(B) -Wl,-rpath,'$$ORIGIN/../..' -lmoonbee -lbpf

$(B)/spec/embed/%: spec/embed/%.c core/moonbee.h $(B)/libmoonbee.so
	$(call say,CC)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(warnings) $(san) -Icore $(LDFLAGS) -o $@ $< -L$(B) \
		-Wl,-rpath,'$$ORIGIN/../..' -lmoonbee -lbpf $(shell $(PKG_CONFIG) --libs --cflags $(lua_pc)) -pthread

# Lua modules: only luaopen_* is visible, the Lua API stays open (the host has it). Anything of
# ours left undefined would show only at dlopen. A module stays mapped when the Lua state that loaded
# it ends: signals, threads' ends and libbpf's messages still call into it.
$(B)/module.map: Makefile
	$(Q)mkdir -p $(@D)
	$(Q)echo '{ global: luaopen_*; local: *; };' >$@
define module
	$(call say,LINK)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(san) $(LDFLAGS) -shared -Wl,--version-script=$(B)/module.map \
		-Wl,-z,nodelete -o $@ $(filter %.o,$^) $(2)
	$(Q)nm -D $@ | awk '/ U mb_/ { print "$@: undefined: " $$NF; bad = 1 } / T $(1)$$/ { ok = 1 } \
		END { if (!ok) print "$@: $(1) is not exported (visibility?)"; exit bad || !ok }' >&2
endef

$(B)/lib/moonbee/core.so: $(lib_objs) $(libbpf_a) $(B)/module.map
	$(call module,luaopen_moonbee_core,$(libbpf_so) $(elf_libs))

$(B)/lib/moonbee/line.so: $(B)/obj/line.o $(B)/module.map
	$(call module,luaopen_moonbee_line,$(line_libs))

$(B)/lib/mb_testing.so: $(B)/obj/bind/testing.o $(lib_objs) $(libbpf_a) $(B)/module.map
	$(call module,luaopen_mb_testing,$(libbpf_so) $(elf_libs))

# --- BPF programs --------------------------------------------------------------------------------

build/include/vmlinux.h: build/include/kernel
	$(call say,BTF)
	$(if $(BPFTOOL),,$(error bpftool is missing; `make deps` installs what moonbee needs))
	$(Q)test -r /sys/kernel/btf/vmlinux || { echo "/sys/kernel/btf/vmlinux is missing:" \
		"the running kernel was built without CONFIG_DEBUG_INFO_BTF" >&2; exit 1; }
	$(Q)$(BPFTOOL) btf dump file /sys/kernel/btf/vmlinux format c >$@.new && mv $@.new $@

define compile_bpf
	$(if $(shell command -v $(CLANG)),,$(error clang is missing; `make deps` installs what moonbee needs))
	$(call say,BPF)
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(bpf_cflags) -MMD -MP -c -o $@ $<
endef
$(B)/scripts/%.bpf.o: scripts/%.bpf.c $(B)/flags build/include/vmlinux.h
	$(compile_bpf)
$(B)/fixtures/%.bpf.o: spec/fixtures/%.bpf.c $(B)/flags build/include/vmlinux.h
	$(compile_bpf)

# --- specs ---------------------------------------------------------------------------------------

built_for_specs := all $(fixture_bpf) \
	$(if $(filter spec/kernel spec/kernel/embed_spec.lua,$(SPEC)),lib) \
	$(if $(wildcard core/bind/testing.c),$(B)/lib/mb_testing.so)

# The sanitizers' library is for the Lua process only; helper.lua hides it from what that starts.
spec_env = MB_BUILD=$(B) MB_LIB=$(L) PATH="$$PATH:/usr/sbin:/sbin" $(if $(filter 1,$(SAN)), \
	ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1)
# Results are kept of the normal runs only: vmtest looks at them.
results  = $(if $(filter 1,$(SAN))$(MB_HARDGC),,MB_RESULTS=build/results/host)
# libelf, too: what comes later has its thread's memory where gcc 12's leak checker guesses at it.
lua_env  = $(if $(filter 1,$(SAN)),LD_PRELOAD="$(shell $(CC) -print-file-name=libasan.so) libelf.so.1")
# Two runs at a time (make -j test asan) would meet in the kernel.
run_busted = $(LUA) $(BUSTED) --helper=spec/support/helper.lua -o spec/support/out.lua $(TESTFLAGS)
busted   = mkdir -p build/results; $(spec_env) $(results) flock -o build/specs.lock env $(lua_env) \
	$(run_busted)

.PHONY: check specs test asan hardgc
check: $(built_for_specs) ## the rootless specs
	$(Q)$(busted) --exclude-tags=root $(filter-out spec/kernel,$(SPEC))

specs: $(built_for_specs) ## every spec, as it is built (test without deps)
	$(Q)$(busted) $(SPEC)

test: deps ## install what is missing, build, run every spec (as root)
	$(Q)$(MAKE) specs

asan: deps ## every spec under address, leak and undefined-behaviour sanitizers
	$(Q)$(MAKE) SAN=1 specs

# Two runtimes on two threads of one process share nothing.
.PHONY: tsan
tsan: deps ## two runtimes on two threads under the thread sanitizer (as root)
	$(Q)$(MAKE) LIBBPF=system SAN=thread build/system/tsan/spec/embed/threads \
		build/system/tsan/fixtures/events.bpf.o
	$(Q)LUA_PATH='lua/?.lua;lua/?/init.lua;;' TSAN_OPTIONS=halt_on_error=1:ignore_noninstrumented_modules=1 \
		build/system/tsan/spec/embed/threads spec/embed/round.lua 10 build/system/tsan/fixtures/events.bpf.o

# What these look at is done by processes that they start, whose collector is as always.
in_processes := spec/hostile_spec.lua spec/packaging_spec.lua spec/fuzz_spec.lua spec/bench_spec.lua \
	$(wildcard spec/cli/*_spec.lua spec/kernel/policy_*spec.lua) $(patsubst %,spec/kernel/%_spec.lua, \
	console embed execsnoop gallery ratelimit readme repl run tutorial)
hardgc_specs := $(if $(filter file,$(origin SPEC)),$(filter-out $(in_processes), \
	$(wildcard spec/*_spec.lua spec/*/*_spec.lua)),$(SPEC))
HARDGC ?= 1
hardgc: deps ## specs with the hardest garbage collection (HARDGC=full: slower, harder)
	$(Q)MB_HARDGC=$(HARDGC) $(MAKE) specs SPEC="$(hardgc_specs)"

.PHONY: vmtest for-specs
for-specs: $(built_for_specs)
	@:
vmtest: deps ## the specs that this kernel skips, on others: KERNEL="6.1 6.12 7" FULL=1 (all specs)
	$(Q).ci/deps.sh vm
	$(Q)$(MAKE) for-specs
	$(Q)$(spec_env) KERNELS="$(KERNEL)" MATRIX="6.1 7" FULL=$(FULL) \
		SPECS="$(filter-out spec/fuzz_spec.lua spec/bench_spec.lua,$(SPEC))" spec/vm/test.sh $(run_busted)

# What make bench compares with. A peer whose tool chain is missing, or that does not build, is named
# by the driver and the rest runs. What Go and Rust fetch stays in build/bench.
bench_dir   := $(B)/bench
bench_peers := $(bench_dir)/c $(bench_dir)/go $(bench_dir)/rust
$(bench_dir)/bench.bpf.o: spec/bench/bench.bpf.c spec/bench/bench.h $(B)/flags build/include/vmlinux.h
	$(compile_bpf)
$(bench_dir)/bench.skel.h: $(bench_dir)/bench.bpf.o
	$(call say,SKEL)
	$(Q)$(BPFTOOL) gen skeleton $< name bench >$@
$(bench_dir)/c: spec/bench/c/bench.c $(bench_dir)/bench.skel.h $(libbpf_a)
	$(call say,CC)
	$(Q)$(CC) $(CFLAGS) $(warnings) $(libbpf_inc) -I$(@D) -Ispec/bench $(LDFLAGS) -o $@ $< \
		$(libbpf) $(elf_libs)
$(bench_dir)/go: $(wildcard spec/bench/go/*)
	$(call say,GO)
	$(Q)mkdir -p $(@D)
	$(Q)! command -v go >/dev/null || GOENV="$${XDG_CONFIG_HOME:-$$HOME/.config}/go/env" \
		XDG_CONFIG_HOME="$(CURDIR)/$(@D)/goconfig" GOPATH="$(CURDIR)/$(@D)/gopath" \
		GOCACHE="$(CURDIR)/$(@D)/gocache" GOFLAGS=-modcacherw GOTOOLCHAIN=local \
		go build -C $(<D) -buildvcs=false -o "$(CURDIR)/$@" . || echo "bench: go does not build" >&2
$(bench_dir)/rust: $(wildcard spec/bench/rust/Cargo.* spec/bench/rust/src/*)
	$(call say,CARGO)
	$(Q)mkdir -p $(@D)
	$(Q)! command -v cargo >/dev/null || { CARGO_HOME="$(CURDIR)/$(@D)/cargo" cargo build -q --release \
		--locked --manifest-path spec/bench/rust/Cargo.toml --target-dir $(@D)/target && \
		cp $(@D)/target/release/bench $@; } || echo "bench: rust does not build" >&2

.PHONY: soak soak-policies
soak: $(built_for_specs) ## TIME=seconds (60): rings, timers, attach and detach; nothing may grow
	$(Q)MB_BUILD=$(B) TIME=$(TIME) $(B)/moonbee run spec/soak/soak.lua

soak-policies: ## the specs of policies, with many more reloads (some minutes)
	$(Q)MB_SOAK=1 $(MAKE) specs SPEC="$(wildcard spec/kernel/policy_load_spec.lua \
		spec/kernel/policy_edits_spec.lua spec/kernel/policy_persist_spec.lua)"

.PHONY: bench fuzz demo
bench: all $(bench_peers) ## the same work in C, Go, Rust, Python: ROWS=globals,ring ROUNDS=7
	$(Q)MB_BUILD=$(B) ROWS="$(ROWS)" ROUNDS="$(ROUNDS)" $(B)/moonbee run spec/bench/bench.lua

demo: deps ## the main job on real packets: install what is missing, build, run scripts/ratelimit
	$(Q)$(MAKE) all
	$(Q)MB_BUILD=$(B) PATH="$$PATH:/usr/sbin:/sbin" scripts/ratelimit/demo.sh

# Fuzz targets: the engine's sources, once more with clang's instrumentation.
fuzz_cflags := -std=gnu11 -D_GNU_SOURCE -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined \
	-fno-sanitize-recover=undefined
fuzz_objs   := $(patsubst core/%.c,build/fuzz/obj/%.o,$(engine_src))
build/fuzz/obj/engine/%.o: core/engine/%.c $(B)/flags | $(forbidden)
	$(call say,CC)
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(fuzz_cflags) -fsanitize=fuzzer-no-link $(engine_cflags) -MMD -MP -c -o $@ $<
build/fuzz/%: spec/fuzz/%.c $(fuzz_objs) $(libbpf_a)
	$(call say,FUZZ)
	$(Q)$(CLANG) $(fuzz_cflags) -fsanitize=fuzzer $(engine_cflags) -MMD -MP -MF $@.d -o $@ \
		$< $(fuzz_objs) $(libbpf) $(elf_libs)
# Real objects and their BTF, to start from.
build/fuzz/seeds/stamp: spec/fuzz/seed.lua $(fixture_bpf) $(script_bpf)
	$(Q)rm -rf $(@D) && mkdir -p $(@D)/objects $(@D)/btf
	$(Q)$(LUA) $< $(@D) $(filter %.o,$^) && touch $@
# What spec/fuzz_spec.lua runs, where it does.
ifneq ($(filter spec/fuzz_spec.lua,$(if $(filter 1,$(SAN)),,$(SPEC))),)
check specs: $(FUZZ:%=build/fuzz/%) build/fuzz/seeds/stamp
endif
fuzz: $(FUZZ:%=build/fuzz/%) build/fuzz/seeds/stamp ## FUZZ=name TIME=seconds: libFuzzer on the engine (default: all, 60 s each)
	$(Q)printf '%s\n' $(FUZZ) | xargs -P "$$(nproc)" -I '{}' spec/fuzz/run.sh '{}' $(TIME)

# --- house keeping -------------------------------------------------------------------------------

.PHONY: deps lint fmt fmt-check
deps: ## install missing packages; build a recent libbpf where the system's is old
	$(Q).ci/deps.sh

format_src = $(wildcard core/*.[ch] core/*/*.[ch] spec/fixtures/*.[ch] spec/fuzz/*.[ch] spec/embed/*.c \
	scripts/*/*.[ch])
lint: $(forbidden) ## luacheck, clang-format, shellcheck, layers, headers, versions
	$(Q)VERSION='$(VERSION)' ENGINE_CC="$(subst ",\",$(CC) $(cflags) $(engine_cflags))" \
		BIND_CC="$(subst ",\",$(CC) $(cflags) $(bind_cflags))" .ci/lint.sh

# What .ci/lint.sh compares with.
CLANG_FORMAT ?= $(shell command -v clang-format-14 || command -v clang-format)
fmt: ## format all C sources (clang-format 14)
	$(Q)$(if $(format_src),$(CLANG_FORMAT) -i $(format_src))

fmt-check: ## fail when a C source is not formatted
	$(Q)$(if $(format_src),$(CLANG_FORMAT) --dry-run -Werror $(format_src))

# Man pages and shell completion come from the commands' own tables, from the tools and policies of
# scripts/ themselves, and from the reference.
commands := $(patsubst lua/moonbee/cmd/%.lua,%,$(wildcard lua/moonbee/cmd/*.lua))
tools    := $(foreach d,$(wildcard scripts/*),$(if $(wildcard $(d)/$(notdir $(d)).lua),$(notdir $(d)))) \
	adaptive flowd
nouns    := $(patsubst lua/moonbee/meta/%.lua,%,$(wildcard lua/moonbee/meta/*.lua))
manuals  := $(B)/man/moonbee.1 $(commands:%=$(B)/man/moonbee-%.1) $(tools:%=$(B)/man/moonbee-%.1) \
	$(B)/man/moonbee.3 $(patsubst %,$(B)/man/moonbee-%.3,$(filter-out moonbee,$(nouns)))
$(B)/man/stamp: .ci/manual.lua lua/moonbee/commands.lua lua/moonbee/options.lua lua/moonbee/help.lua $(wildcard lua/moonbee/cmd/*.lua \
	lua/moonbee/meta/*.lua scripts/*/*.lua) scripts/embed/flowd.c | $(B)/moonbee
	$(call say,MAN)
	$(Q)rm -rf $(@D) && mkdir -p $(@D)
	$(Q)$(B)/moonbee run .ci/manual.lua $(@D) '$(DATADIR)' && touch $@
$(manuals) $(B)/man/moonbee.bash: $(B)/man/stamp ;

.PHONY: man
man: $(manuals) $(B)/man/moonbee.bash ## man pages and bash completion, into build/man

# What is installed: mode=source=destination.
lua_files  := $(shell find lua -name '*.lua' 2>/dev/null)
script_mode = $(if $(filter $(1),$(runnable)),755,644)
runnable   := $(shell find scripts -name '*.lua' -perm -u+x)
lua_side    = 755=$(B)/moonbee=$(BINDIR)/moonbee \
	644=$(B)/lib/moonbee/core.so=$(LUACDIR)/moonbee/core.so \
	644=$(B)/lib/moonbee/line.so=$(LUACDIR)/moonbee/line.so \
	$(foreach f,$(lua_files),644=$(f)=$(LUADIR)/$(f:lua/%=%)) \
	$(foreach f,$(wildcard scripts/*/*.lua scripts/embed/*.c),$(call script_mode,$(f))=$(f)=$(DATADIR)/$(f)) \
	$(foreach f,$(script_bpf),644=$(f)=$(DATADIR)/$(f:$(B)/%=%)) \
	$(foreach f,$(wildcard scripts/include/*.h),644=$(f)=$(DATADIR)/include/$(notdir $(f)))
other_side  = 644=$(L)/libmoonbee.a=$(LIBDIR)/libmoonbee.a \
	755=$(L)/libmoonbee.so.0=$(LIBDIR)/libmoonbee.so.0 \
	link=libmoonbee.so.0=$(LIBDIR)/libmoonbee.so 644=$(L)/moonbee.pc=$(LIBDIR)/pkgconfig/moonbee.pc \
	$(foreach f,$(wildcard core/moonbee.h),644=$(f)=$(INCDIR)/$(notdir $(f))) \
	$(foreach f,$(manuals),644=$(f)=$(MANDIR)/man$(patsubst .%,%,$(suffix $(f)))/$(notdir $(f))) \
	644=$(B)/man/moonbee.bash=$(BASHDIR)/moonbee \
	$(foreach f,$(wildcard scripts/tutorials/*.md),644=$(f)=$(DATADIR)/$(f)) \
	link=$(shell realpath -ms --relative-to='$(DOCDIR)' '$(DATADIR)/scripts/tutorials')=$(DOCDIR)/tutorials \
	$(foreach f,$(wildcard scripts/systemd/*),644=$(f)=$(UNITDIR)/$(notdir $(f)))

.PHONY: install uninstall clean distclean help
install: all $(if $(filter 1,$(ROCK)),,lib man) ## PREFIX= DESTDIR=
	$(Q).ci/install.sh put '$(DESTDIR)' '$(RECORD)' $(lua_side) $(if $(filter 1,$(ROCK)),,$(other_side))

uninstall: ## take away what install put there (same PREFIX= DESTDIR=)
	$(Q).ci/install.sh take '$(DESTDIR)' '$(RECORD)'

# The version stands here; lint compares it with the rockspec's and CHANGELOG.md's.
.PHONY: dist deb fresh
REF  ?= HEAD
DIST ?= build
dist: ## build/moonbee-VERSION.tar.gz of HEAD (REF=, DIST=directory)
	$(Q)mkdir -p '$(DIST)'
	$(Q)git archive --format=tar.gz --prefix=moonbee-$(VERSION)/ \
		-o '$(DIST)/moonbee-$(VERSION).tar.gz' '$(REF)'
	@echo '$(DIST)/moonbee-$(VERSION).tar.gz'

deb: deps ## Debian packages of HEAD into build/deb
	$(Q).ci/deps.sh deb
	$(Q)scripts/packaging/deb.sh $(VERSION) build/deb

# The README's two commands on a machine that has nothing but make and git; packages that are built
# there, on one that has not even these libraries. LIBBPF=system: with that Debian's own.
SUITE ?= bookworm
fresh: ## demo, test and packages on a fresh Debian: SUITE=bookworm, trixie (debootstrap, as root)
	$(Q)KEEP=build/deb OUT=build/fresh/$(SUITE) spec/fresh/chroot.sh $(SUITE) \
		'make demo $(fresh_libbpf) && make test $(fresh_libbpf) && make deb'
	$(Q)$(MAKE) fresh-packages
fresh_libbpf = $(if $(LIBBPF),LIBBPF=$(LIBBPF))

.PHONY: fresh-packages
fresh-packages:
	$(Q)BOOT=1 FILES="$$(ls build/fresh/$(SUITE)/*.deb | grep -v dbgsym)" \
		spec/fresh/chroot.sh $(SUITE) spec/fresh/packages.sh

clean: ## all that was built, but build/deps, which needs the net again
	$(Q)find build -mindepth 1 -maxdepth 1 ! -name deps -exec rm -rf {} + 2>/dev/null || true

distclean: ## all that was built
	$(Q)rm -rf build

help: ## this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

-include $(lib_objs:.o=.d) $(B)/obj/main.d $(B)/obj/line.d $(B)/obj/bind/testing.d $(script_bpf:.o=.d) \
	$(fixture_bpf:.o=.d) $(fuzz_objs:.o=.d) $(wildcard build/fuzz/*.d)
