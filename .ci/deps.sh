#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Installs what moonbee is built, tested and demonstrated with (Debian packages), and builds a
# recent libbpf into build/deps when the system's is too old. Does nothing, quickly, when all of
# it is there. The system's apt sources stay as they are: libbpf comes through a private apt
# directory. Usage: .ci/deps.sh, or make deps; LIBBPF=system leaves the libbpf part out.
# .ci/deps.sh vm, .ci/deps.sh deb: only what `make vmtest`, `make deb` need beside that.
set -euo pipefail
cd "$(dirname "$0")/.."
. .ci/apt.sh

# The one list. Also what a maintainer reads to know what moonbee needs.
packages=(
	# build: C, Lua, libbpf, BPF programs and vmlinux.h
	gcc libc6-dev make pkg-config libbpf-dev libelf-dev zlib1g-dev liblua5.4-dev lua5.4
	clang bpftool
	# run time: event loop, JSON, command line
	lua-luv lua-dkjson lua-argparse
	# the REPL's line editor, BSD-licensed, by its readline interface
	libedit-dev
	# libbpf, and Lua's own libraries for policies, from Debian's source packages
	dpkg-dev xz-utils patch debian-archive-keyring
	# tests and demo
	lua-busted luarocks iproute2 procps util-linux mount valgrind
	# a real terminal for the REPL's specs
	tmux
	# reads what metrics are, by Prometheus's own rules: the judge of their specs
	python3-prometheus-client
	# lint
	lua-check clang-format shellcheck git
)
# make vmtest: kernels of other suites under qemu
vm_packages=(
	qemu-system-x86 busybox-static kmod cpio gzip xz-utils zstd debian-archive-keyring
)
# make deb
deb_packages=(build-essential debhelper lintian)
libbpf_min=1.6        # maps vmlinux BTF instead of copying it; refuses damaged BTF
deps=build/deps

say() { printf 'deps: %s\n' "$*"; }
die() { printf 'deps: %s\n' "$*" >&2; exit 1; }

# --- packages ------------------------------------------------------------------------------------

missing() {
	local p
	local -A have=()
	while read -r p; do have[$p]=1; done < <(
		dpkg-query -W -f='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null |
			sed -n 's/^installed //p')
	for p; do [ -n "${have[$p]:-}" ] || printf '%s\n' "$p"; done
}

apt() {
	DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600 \
		-o Acquire::Retries=3 "$@" </dev/null
}

# Tries with the package lists as they are; absent or stale ones are the usual reason to fail.
install_packages() {
	local log=build/apt.log
	say "installing: $*"
	apt --no-install-recommends install "$@" >"$log" 2>&1 && return
	apt update >"$log" 2>&1 || { cat "$log" >&2; die "apt-get update failed"; }
	apt --no-install-recommends install "$@" >"$log" 2>&1 && return
	cat "$log" >&2
	die "cannot install: $*"
}

need() {
	local -a want
	mapfile -t want < <(missing "$@")
	[ ${#want[@]} -gt 0 ] || return 0
	[ "$(id -u)" = 0 ] || die "packages are missing; as root: apt-get install ${want[*]}"
	install_packages "${want[@]}"
}

# --- libbpf --------------------------------------------------------------------------------------

at_least() { dpkg --compare-versions "$1" ge "$2"; }

# Fetches and unpacks the source of package $3 of suite $1 from mirror $2 into $4.
fetch_source() {
	rm -rf "$4"
	mkdir -p "$4"
	private_apt "$PWD/$deps/apt/$1" "$1" "$2" deb-src &&
		(cd "$4" && apt-get "${apt_options[@]}" -q --only-source source "$3" </dev/null)
}

# Builds the unpacked source and puts archive, headers and record in place, the record last.
build_libbpf() {
	local out=$PWD/$deps tree dsc
	tree=$(find "$out/src" -mindepth 1 -maxdepth 1 -type d -name 'libbpf-*' | head -n 1)
	dsc=$(find "$out/src" -maxdepth 1 -name '*.dsc' | head -n 1)
	[ -f "$tree/src/libbpf.c" ] && [ -f "$dsc" ] || return 1
	# The caller's make variables and flags are not for libbpf's Makefile.
	env -u MAKEFLAGS -u MFLAGS -u MAKEOVERRIDES -u MAKELEVEL -u LDFLAGS -u V \
		make -C "$tree/src" -j"$(nproc)" BUILD_STATIC_ONLY=1 OBJDIR="$out/src/obj" \
		DESTDIR="$out/src/root" PREFIX=/usr LIBDIR=/usr/lib \
		CFLAGS='-O2 -g -fPIC -fvisibility=hidden -ftls-model=initial-exec' install || return 1
	rm -rf "${out:?}"/{include,lib,VERSION}
	mkdir -p "$out/include" "$out/lib"
	cp -r "$out/src/root/usr/include/bpf" "$out/include/bpf" &&
		cp -r "$tree/include/uapi" "$out/include/uapi" &&
		cp "$out/src/root/usr/lib/libbpf.a" "$out/lib/libbpf.a" || return 1
	{
		sed -n 's/^Version: *//p' "$dsc" | head -n 1
		sha256sum "$dsc" | sed 's, .*/,  ,'
	} >"$out/VERSION"
	rm -rf "$out/src" "$out/apt"
}

libbpf() {
	local sys uri suite log=build/libbpf.log
	if [ "${LIBBPF:-}" = system ]; then return; fi
	if [ -f $deps/VERSION ] && [ -f $deps/lib/libbpf.a ]; then return; fi
	sys=$(pkg-config --modversion libbpf)
	if at_least "$sys" $libbpf_min; then
		say "the system's libbpf $sys is recent enough"
		return
	fi
	uri=$(mirror)
	if [ -z "$uri" ] && [ "$(id -u)" = 0 ]; then
		apt update >build/apt.log 2>&1 || true
		uri=$(mirror)
	fi
	for suite in ${uri:+sid trixie}; do
		say "building libbpf of Debian $suite (the system's $sys is older than $libbpf_min)"
		if { fetch_source "$suite" "$uri" libbpf "$PWD/$deps/src" && build_libbpf; } >$log 2>&1; then
			say "libbpf $(head -n 1 $deps/VERSION) is in $deps"
			return
		fi
		say "that failed: $(grep -m1 -E '^(E|W|Err)|rror' $log || tail -n 1 $log) (all of it: $log)"
	done
	[ -n "$uri" ] || say "the system's apt lists name no Debian mirror"
	say "no newer libbpf to be had; moonbee is built with the system's $sys, which it supports"
}

# --- Lua's libraries in source ---------------------------------------------------------------------

# Policies get Lua's string, table and utf8 libraries with a deadline in their loops (.ci/lualib.sh),
# from the system's own version of Lua. Without them moonbee builds, and policies have limits on sizes.

# Takes them from the unpacked source in $1, if they are what lualib.sh knows.
take_lualib() {
	local name
	mkdir -p $deps/lua
	for name in lstrlib ltablib lutf8lib; do
		cp "$1"/lua5.4-*/src/$name.c $deps/lua/ || return 1
		.ci/lualib.sh $deps/lua/$name.c build/lualib/$name.c || return 1
	done
	{
		sed -n 's/^Version: *//p' "$1"/*.dsc | head -n 1
		sha256sum "$1"/*.dsc | sed 's, .*/,  ,'
	} >$deps/lua/VERSION
}

lualib() {
	local uri suite log=build/lualib.log src=$PWD/$deps/lua-src
	if [ -f $deps/lua/VERSION ]; then return; fi
	suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
	uri=$(mirror)
	if [ -n "$uri" ] && { fetch_source "$suite" "$uri" lua5.4 "$src" && take_lualib "$src"; } \
		>$log 2>&1; then
		say "the libraries of Lua $(head -n 1 $deps/lua/VERSION) are in $deps/lua"
	else
		rm -rf $deps/lua
		say "no source of Lua's libraries to be had (see $log): policies get them with bounds"
	fi
	rm -rf "$src" $deps/apt build/lualib
}

# --- main ----------------------------------------------------------------------------------------

mkdir -p build
# Two makes may want the same at the same time.
exec 9>build/deps.lock
flock 9

if ! command -v dpkg-query >/dev/null; then
	say "this is no Debian; moonbee needs what Debian calls: ${packages[*]}"
	exit 0
fi
case "${1:-}" in
vm) need "${vm_packages[@]}"; exit ;;
deb) need "${packages[@]}" "${deb_packages[@]}"; exit ;;
esac
need "${packages[@]}"
# libFuzzer and the sanitizers of clang come in a package named after clang's version.
need "libclang-rt-$(clang -dumpversion | cut -d. -f1)-dev"
libbpf
lualib
