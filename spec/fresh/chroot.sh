#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# chroot.sh SUITE COMMAND: runs a shell command on a fresh Debian (debootstrapped, minimal) in a clean
# clone of this repository's HEAD. The base is kept as an archive outside the tree
# (${XDG_CACHE_HOME:-~/.cache}/moonbee/fresh); what the command does to it is thrown away. As root.
# FILES="a b": files of the tree that are copied into the clone's parent, /root.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=/dev/null
. .ci/apt.sh

suite=${1:?usage: chroot.sh SUITE COMMAND} command=${2:?usage: chroot.sh SUITE COMMAND}
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/moonbee/fresh
base=$cache/$suite.tar

[ "$(id -u)" = 0 ] || { echo "chroot.sh needs root" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "chroot.sh needs debootstrap" >&2; exit 1; }

# A minimal system with apt sources of the same mirror. It has make and git, to clone; nothing else.
make_base() {
	local uri tree
	uri=$(mirror)
	tree=$(mktemp -d)
	mkdir -p "$cache"
	echo "fresh: debootstrap of $suite" >&2
	debootstrap --variant=minbase --include=make,git,ca-certificates "$suite" "$tree" "$uri" >"$cache/$suite.log" 2>&1 ||
		{ tail -n 5 "$cache/$suite.log" >&2; rm -rf "$tree"; exit 1; }
	rm -rf "$tree"/var/cache/apt/archives/*.deb
	tar -C "$tree" -cf "$base.new" .
	rm -rf "$tree"
	mv "$base.new" "$base"
}

# In a mount namespace of its own: the system's views of the kernel, none of its mounts on them.
inside() {
	local tree=$1
	mount -t proc proc "$tree/proc"
	mount -t sysfs sysfs "$tree/sys"
	mount -t bpf bpf "$tree/sys/fs/bpf"
	mount -t cgroup2 none "$tree/sys/fs/cgroup" 2>/dev/null || true
	mount -t devtmpfs dev "$tree/dev" 2>/dev/null || mount --rbind /dev "$tree/dev"
	mkdir -p "$tree/dev/shm" "$tree/dev/pts"
	mount -t tmpfs tmpfs "$tree/dev/shm"
	mount -t devpts devpts "$tree/dev/pts" 2>/dev/null || true
	mount -t tmpfs tmpfs "$tree/run"
	for f in /etc/resolv.conf /etc/hosts; do cat "$f" >"$tree$f" 2>/dev/null || true; done
	exec chroot "$tree" /usr/bin/env -i HOME=/root TERM=dumb LC_ALL=C.UTF-8 \
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		bash -c "cd /root/moonbee && $2"
}

if [ "${3:-}" = inside ]; then inside "$4" "$command"; fi
[ -f "$base" ] || make_base
tree=$(mktemp -d "${TMPDIR:-/tmp}/moonbee-fresh.XXXXXX")
trap 'rm -rf --one-file-system "$tree"' EXIT
tar -C "$tree" -xf "$base"
# the mirror's settings of this machine (proxies, keys) are what reaches it
cp -r /etc/apt/apt.conf.d/. "$tree/etc/apt/apt.conf.d/" 2>/dev/null || true
git clone -q . "$tree/root/moonbee"
for f in ${FILES:-}; do cp "$f" "$tree/root/"; done
unshare -m --propagation private -- "$0" "$suite" "$command" inside "$tree"
