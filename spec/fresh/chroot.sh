#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# chroot.sh SUITE COMMAND: runs a shell command on a fresh Debian (debootstrapped, minimal) in a clean
# clone of this repository's HEAD, in root's home. The base is kept as an archive outside the tree
# (${XDG_CACHE_HOME:-~/.cache}/moonbee/fresh); what the command does to it is thrown away. As root.
# FILES="a b": files that are copied into root's home. KEEP=path OUT=directory: what the command left
# there in the clone is copied out. BOOT=1: the command is run by that Debian's systemd.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=/dev/null
. .ci/apt.sh

suite=${1:?usage: chroot.sh SUITE COMMAND} command=${2:?usage: chroot.sh SUITE COMMAND}
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/moonbee/fresh
base=$cache/$suite.tar

die() { echo "fresh: $*" >&2; exit 1; }

# A minimal system with apt sources of the same mirror. It has make and git, to clone; nothing else.
make_base() {
	local uri tree
	uri=$(mirror)
	[ -n "$uri" ] || die "the system's apt lists name no Debian mirror (apt-get update)"
	mkdir -p "$cache"
	tree=$(mktemp -d)
	echo "fresh: debootstrap of $suite" >&2
	debootstrap --variant=minbase --include=make,git,ca-certificates "$suite" "$tree" "$uri" \
		>"$cache/$suite.log" 2>&1 || {
		tail -n 5 "$cache/$suite.log" >&2
		rm -rf --one-file-system "$tree"
		die "debootstrap of $suite failed (all of it: $cache/$suite.log)"
	}
	rm -rf "$tree"/var/cache/apt/archives/*.deb
	chmod 755 "$tree" # mktemp's is root's alone
	tar -C "$tree" -cf "$base.new" .
	rm -rf --one-file-system "$tree"
	mv "$base.new" "$base"
}

# Own device nodes: what a booted system makes of them is not the machine's.
devices() {
	local name
	mount -t tmpfs -o mode=755 tmpfs dev
	for name in null zero full random urandom tty; do
		: >"dev/$name"
		mount --bind "/dev/$name" "dev/$name"
	done
	ln -s /proc/self/fd dev/fd
	ln -s fd/0 dev/stdin
	ln -s fd/1 dev/stdout
	ln -s fd/2 dev/stderr
	ln -s pts/ptmx dev/ptmx
	mkdir dev/shm dev/pts
	mount -t tmpfs tmpfs dev/shm
	mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
}

# In a mount namespace of its own, as its root directory: the system's views of the kernel, none of
# its mounts.
inside() {
	local tree=$1 command=$2
	mount --bind "$tree" "$tree"
	cd "$tree"
	mount -t proc proc proc
	mount -t sysfs sysfs sys
	mount -t bpf bpf sys/fs/bpf
	mount -t cgroup2 none sys/fs/cgroup
	mount -t tmpfs -o mode=755 tmpfs run
	devices
	for f in /etc/resolv.conf /etc/hosts; do cat "$f" >".$f" 2>/dev/null || true; done
	pivot_root . mnt
	if [ -n "${BOOT:-}" ]; then command="exec spec/fresh/boot.sh ${command@Q}"; fi
	exec chroot . /usr/bin/env -i HOME=/root TERM=dumb LC_ALL=C.UTF-8 \
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		bash -c "umount -l /mnt && cd /root/moonbee && $command"
}

# A cgroup of its own for what is booted, as that is the root of its cgroup namespace.
enter_cgroup() {
	local v2
	v2=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
	[ -n "$v2" ] || die "no cgroup2 is mounted, which systemd needs"
	cgroup=$v2/moonbee-fresh.$$
	mkdir "$cgroup"
	echo $$ >"$cgroup/cgroup.procs"
}

if [ "${3:-}" = inside ]; then inside "$4" "$command"; fi

[ "$(id -u)" = 0 ] || die "needs root"
command -v debootstrap >/dev/null || die "needs debootstrap (apt-get install debootstrap)"
[ -f "$base" ] || make_base
tree=$(mktemp -d "${TMPDIR:-/tmp}/moonbee-fresh.XXXXXX")
trap 'rm -rf --one-file-system "$tree"' EXIT
tar -C "$tree" -xf "$base"
# this machine's own settings (proxies, keys) are what reaches the mirror; packages' files are theirs
for f in /etc/apt/apt.conf.d/*; do
	dpkg -S "$f" >/dev/null 2>&1 || cp "$f" "$tree/etc/apt/apt.conf.d/"
done
git clone -q . "$tree/root/moonbee"
for f in ${FILES:-}; do cp "$f" "$tree/root/"; done
echo "fresh: Debian $(cat "$tree/etc/debian_version"): $command"
spaces=(--mount)
if [ -n "${BOOT:-}" ]; then
	enter_cgroup
	spaces+=(--pid --fork --kill-child --uts --ipc --cgroup)
fi
rc=0
unshare "${spaces[@]}" --propagation private -- "$0" "$suite" "$command" inside "$tree" || rc=$?
if [ -n "${BOOT:-}" ]; then
	echo $$ >"${cgroup%/*}/cgroup.procs"
	find "$cgroup" -depth -type d -exec rmdir {} +
	cat "$tree/root/output" || tail -n 20 "$tree/root/boot.log"
fi
if [ -n "${KEEP:-}" ] && [ -e "$tree/root/moonbee/$KEEP" ]; then
	rm -rf "${OUT:?}"
	mkdir -p "$OUT"
	cp -r "$tree/root/moonbee/$KEEP/." "$OUT/"
fi
exit $rc
