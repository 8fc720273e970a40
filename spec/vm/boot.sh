#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# boot.sh VERSION COMMAND [ARG…]: runs a command as root on that Debian kernel, in a virtual machine that
# has this machine's root as its own (read and write), in the same directory, with the same
# environment. Its output comes as one stream; its exit code is ours. 124: it took longer than
# VM_TIMEOUT seconds (600); 125: the machine went down before it ended, and the end of its console
# is on stderr.
# The processors are emulated, which works everywhere: VM_ACCEL=kvm for those whose KVM works.
# It has its own /proc, /sys, /dev, /run, bpffs, tracefs, cgroups and network (lo only).
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 2 ] || { echo "usage: boot.sh VERSION COMMAND [ARG...]" >&2; exit 2; }

kernel=$("$here/kernel.sh" "$1") || exit 125
shift
vm=$(mktemp -d)
machine= # the process group
trap '[ -z "$machine" ] || kill -9 -- "-$machine" 2>/dev/null; rm -rf "$vm"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

{
	export -p
	printf 'export MB_VM=%q\ncd %q || exit 126\nexec' "$(<"$kernel/release")" "$PWD"
	printf ' %q' "$@"
	echo
} >"$vm/guest.sh"

# Its second serial line is our output; the exit code comes as the last line.
set -m
{
	timeout --foreground -k 5 "${VM_TIMEOUT:-600}" qemu-system-x86_64 \
		-M q35 -accel "${VM_ACCEL:-tcg,thread=multi}" -cpu max -smp 2 -m 2G -display none -monitor none -nic none -no-reboot \
		-serial "file:$vm/console" -serial stdio -kernel "$kernel/vmlinuz" -initrd "$kernel/initrd" \
		-append "console=ttyS0 quiet panic=-1 mitigations=off vm=$vm kernel=$kernel" \
		-fsdev local,id=h,path=/,security_model=none,multidevs=remap \
		-device virtio-9p-pci,fsdev=h,mount_tag=host </dev/null 2>"$vm/qemu" |
		awk '/^vm-exit [0-9]+\r?$/ { code = $2 + 0; ended = 1; next } { sub(/\r$/, ""); print; fflush() }
			END { exit ended ? code : 125 }'
	codes=("${PIPESTATUS[@]}")
	exit $((codes[0] == 124 ? 124 : codes[1]))
} &
machine=$!
wait $machine
code=$?
machine=
if [ $code = 124 ]; then echo "vm: stopped after ${VM_TIMEOUT:-600} s" >&2; fi
if [ $code = 125 ]; then
	echo "vm: it went down before the command ended" >&2
	tail -n 40 "$vm/qemu" "$vm/console" >&2
fi
exit $code
