#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Shows ratelimit on real packets: two network namespaces joined by a veth pair, UDP from several
# addresses on one side, `moonbee run ratelimit` on the other. Nothing leaves the namespaces, and
# nothing of it is left at the end. Fails when nothing was passed, dropped or tuned.
# Usage: demo.sh [PROGRAM], or make demo. As root.
set -euo pipefail
cd "$(dirname "$0")/../.."

moonbee=${1:-${MB_BUILD:-build}/moonbee}
PATH=$PATH:/usr/sbin:/sbin
seconds=6
target=5000
id=$$
tx=mbtx$id # the sender's namespace and its end of the veth pair
rx=mbrx$id # the receiver's
senders=()
pids=()
log=

die() { printf 'demo: %s\n' "$*" >&2; exit 1; }

cleanup() {
	trap '' INT TERM
	local pid
	for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
	for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
	ip netns del "$tx" 2>/dev/null || true
	ip netns del "$rx" 2>/dev/null || true
	[ -z "$log" ] || rm -rf "$log"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

check_needs() {
	[ "$(id -u)" = 0 ] || die "needs root: for XDP and network namespaces"
	[ -x "$moonbee" ] || die "$moonbee is missing: make builds it"
	command -v ip >/dev/null || die "ip is missing: apt-get install iproute2"
	command -v nsenter >/dev/null || die "nsenter is missing: apt-get install util-linux"
	command -v lua5.4 >/dev/null || die "lua5.4 is missing: apt-get install lua5.4 lua-luv"
}

# ip netns exec would mount a new /sys, without BPF's file system.
in_ns() { nsenter --net="/run/netns/$1" "${@:2}"; }

# A source: its packets per second, and from when to when it sends.
add_sender() {
	local address=10.77.0.$((11 + ${#senders[@]}))
	ip -n "$tx" addr add "$address/24" dev "$tx"
	senders+=("$address=$1")
	printf 'demo: %s sends %s packets/s%s\n' "$address" "${1%@*}" "${2:-}"
}

make_network() {
	local ns
	ip netns add "$tx" || die "cannot make a network namespace (needs CAP_SYS_ADMIN)"
	ip netns add "$rx"
	# IPv6 would send packets that nobody asked for.
	for ns in "$tx" "$rx"; do
		in_ns "$ns" sh -c 'echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6' \
			2>/dev/null || true
	done
	ip -n "$tx" link add "$tx" type veth peer name "$rx" netns "$rx"
	ip -n "$rx" addr add 10.77.0.1/24 dev "$rx"
	ip -n "$rx" link set lo up
	ip -n "$rx" link set "$rx" up
	ip -n "$tx" link set "$tx" up
	add_sender 300
	add_sender 600
	add_sender 9000
	add_sender 8000@2-4 ', from second 2 to 4'
	add_sender 6000@2-4 ', from second 2 to 4'
}

# Datagrams that came through to the receiver's UDP, as the kernel counts them there.
received() {
	# shellcheck disable=SC2016  # awk's
	in_ns "$rx" awk '$1 == "Udp:" && $2 ~ /^[0-9]/ { print $2 + $3 }' /proc/net/snmp
}

run() {
	local line
	log=$(mktemp -d)
	mkfifo "$log/out" "$log/hold"
	nsenter --net="/run/netns/$rx" "$moonbee" run scripts/ratelimit/ratelimit.lua --iface "$rx" \
		--rate 500 --burst 50 --target "$target" --seconds "$seconds" --top 2 \
		>"$log/out" 2>&1 &
	pids+=($!)
	limiter=$!
	exec 3<"$log/out" 4<>"$log/hold"
	# It says so when it is attached: then the traffic begins.
	while IFS= read -r line <&3; do
		printf '%s\n' "$line" | tee -a "$log/text"
		case $line in "ratelimit: on "*) break ;; esac
	done
	nsenter --net="/run/netns/$tx" lua5.4 scripts/ratelimit/traffic.lua 10.77.0.1 9 \
		"$seconds" "${senders[@]}" <"$log/hold" >"$log/sent" 4>&- &
	pids+=($!)
	tee -a "$log/text" <&3 4>&-
	wait "$limiter"
}

check_result() {
	local words passed dropped tuned through
	through=$(received)
	words=$(sed -n 's/^ratelimit: passed \([0-9]*\), dropped \([0-9]*\) .* tuned \([0-9]*\) times.*/\1 \2 \3/p' "$log/text")
	read -r passed dropped tuned <<<"$words" || die "ratelimit ended without its summary"
	printf 'demo: %d datagrams came through, as the receiving kernel counts them\n' "$through"
	[ "$passed" -gt 0 ] || die "nothing was passed"
	[ "$dropped" -gt 0 ] || die "nothing was dropped"
	[ "$tuned" -gt 0 ] || die "the limit was not tuned"
	# What passed XDP arrived, and what was sent after its end.
	[ $((passed - through)) -lt 100 ] || die "not all that passed XDP has arrived"
	[ $((through - passed)) -lt 2000 ] || die "more has arrived than passed XDP"
	if ip -n "$rx" -j link show "$rx" | grep -q '"xdp":'; then die "XDP is still attached"; fi
	printf 'demo: passed, dropped, tuned %d times; nothing is left attached\n' "$tuned"
}

check_needs
make_network
run
check_result
