#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# kernel.sh VERSION: prints the directory of a Debian kernel to boot, with vmlinuz, initrd and its
# modules. VERSION is the start of a release: 6.1, 6.12, 7. One that is not in the cache
# (${XDG_CACHE_HOME:-~/.cache}/moonbee/kernels) comes from Debian's mirror, with the system's own apt
# settings; nothing of it is installed. To get a newer one, remove its directory.
set -euo pipefail
cd "$(dirname "$0")/../.."
. .ci/apt.sh

want=${1:?usage: kernel.sh VERSION}
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/moonbee/kernels
suites=(bookworm bookworm-backports trixie sid)

say() { printf 'kernel: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

[ "$(uname -m)" = x86_64 ] || die "only amd64 kernels are known here, and this is $(uname -m)"

# The newest release of suite (apt_options) that starts with $want, or nothing: what the
# meta package names if it fits, else the last by version. Not the cloud flavour: it has no 9p.
release() {
	{
		apt-cache "${apt_options[@]}" pkgnames linux-image-
		apt-cache "${apt_options[@]}" depends linux-image-amd64 2>/dev/null | sed -n 's/.*Depends: //p'
	} | sed -nE 's/^linux-image-([0-9].*)-amd64$/\1/p' | grep -vE -- '-(cloud|rt)$' | sort -V |
		awk -v w="$want" 'index($0, w) == 1 && substr($0, length(w) + 1, 1) ~ /^[^0-9]?$/' | tail -n 1
}

# Unpacks release $1 to directory $2. Newer ones are split; there the image is a package over these.
unpack() {
	local rel=$1-amd64 dir=$2 p
	local -a packages=()
	for p in linux-binary linux-modules linux-base; do
		if apt-cache "${apt_options[@]}" show "$p-$rel" >/dev/null 2>&1; then packages+=("$p-$rel"); fi
	done
	[ ${#packages[@]} -gt 0 ] || packages=("linux-image-$rel")
	mkdir -p "$dir/deb"
	(cd "$dir/deb" && apt-get "${apt_options[@]}" -q download "${packages[@]}" </dev/null >&2)
	for p in "$dir"/deb/*.deb; do dpkg-deb -x "$p" "$dir"; done
	rm -rf "$dir/deb"
	[ -d "$dir/lib/modules" ] || { mkdir -p "$dir/lib" && ln -s ../usr/lib/modules "$dir/lib/modules"; }
	depmod -b "$dir" "$rel"
	for p in "boot/vmlinuz-$rel" "lib/modules/$rel/vmlinuz"; do
		if [ -e "$dir/$p" ]; then ln -s "$p" "$dir/vmlinuz"; fi
	done
	[ -e "$dir/vmlinuz" ] || die "no vmlinuz in ${packages[*]}"
	# libbpf reads /boot/config-RELEASE for __kconfig variables
	mkdir -p "$dir/boot"
	[ -e "$dir/boot/config-$rel" ] || ln -s "../lib/modules/$rel/config" "$dir/boot/config-$rel"
	echo "$rel" >"$dir/release"
}

# An initramfs that finds the host's root over 9p, and goes on there (guest.sh).
initrd() {
	local dir=$1 rel tree kind file name
	local -a modules=()
	rel=$(<"$dir/release")
	tree=$(mktemp -d)
	mkdir -p "$tree"/{bin,modules,proc,dev,root}
	cp "$(command -v busybox)" "$tree/bin/busybox"
	while read -r kind file _; do
		[ "$kind" = insmod ] || continue
		name=$(basename "$file")
		name=${name%%.ko*}
		case $file in
			*.xz) xz -dc "$file" ;;
			*.zst) zstd -qdc "$file" ;;
			*) cat "$file" ;;
		esac >"$tree/modules/$name.ko"
		modules+=("$name")
	done < <(for m in virtio_pci 9pnet_virtio 9p; do
		modprobe -d "$dir" -S "$rel" --show-depends "$m"; done | awk '!seen[$2]++')
	echo "${modules[*]}" >"$tree/modules/order"
	cp spec/vm/init "$tree/init"
	cp spec/vm/modprobe "$tree/bin/modprobe"
	(cd "$tree" && find . | cpio -o -H newc --quiet | gzip -1) >"$dir/initrd"
	rm -rf "$tree"
}

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
dir=$cache/$want
if [ ! -e "$dir/release" ]; then
	uri=$(mirror)
	[ -n "$uri" ] || die "the system's apt lists name no Debian mirror"
	rel=
	for suite in "${suites[@]}"; do
		say "looking for Linux $want in $suite"
		private_apt "$cache/apt" "$suite" "$uri" deb >&2
		rel=$(release)
		[ -z "$rel" ] || break
	done
	[ -n "$rel" ] || die "Debian has no Linux $want (${suites[*]})"
	say "fetching $rel of $suite"
	rm -rf "$dir.new"
	unpack "$rel" "$dir.new"
	rm -rf "$dir" "$cache/apt"
	mv "$dir.new" "$dir"
fi
# It takes a second, and carries this tree's init.
initrd "$dir"
echo "$dir"
