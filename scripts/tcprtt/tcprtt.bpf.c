// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Round-trip times of TCP connections, as the kernel smooths them, at each segment that comes in. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define SLOTS 27

struct peer {
	__u64 samples;
	__u64 total_us;
	__u32 least_us;
	__u32 most_us;
	__u64 slots[SLOTS]; /* element n: 2^(n-1) to 2^n - 1 us */
};

/* IPv4 in the last four bytes, as ::ffff:a.b.c.d */
struct address {
	__u8 bytes[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct address);
	__type(value, struct peer);
} peers SEC(".maps");

const volatile __u16 only_port; /* of either side; 0: all */

static const struct peer zero;

static __u32 bits_of(__u32 us)
{
	__u32 n = 0;

	for (int shift = 16; shift; shift >>= 1)
		if (us >> shift) {
			us >>= shift;
			n += shift;
		}
	return us ? n + 1 : 0;
}

static bool address_of(const __u8 *sockaddr, struct address *to)
{
	__u16 family = *(__u16 *)sockaddr;

	if (family == 2) { /* AF_INET */
		to->bytes[10] = to->bytes[11] = 0xff;
		__builtin_memcpy(to->bytes + 12, sockaddr + 4, 4);
		return true;
	}
	if (family != 10) /* AF_INET6 */
		return false;
	__builtin_memcpy(to->bytes, sockaddr + 8, 16);
	return true;
}

SEC("tracepoint/tcp/tcp_probe")
int on_segment(struct trace_event_raw_tcp_probe *ctx)
{
	__u8 sockaddr[sizeof(ctx->daddr)];
	struct address who = {};
	__u32 us = ctx->srtt, slot;
	struct peer *peer;

	if (!us || (only_port && ctx->sport != only_port && ctx->dport != only_port))
		return 0;
	/* a copy: the verifier refuses loads from a pointer into the context */
	if (bpf_probe_read_kernel(sockaddr, sizeof(sockaddr), ctx->daddr) != 0 ||
	    !address_of(sockaddr, &who))
		return 0;
	peer = bpf_map_lookup_elem(&peers, &who);
	if (!peer) {
		bpf_map_update_elem(&peers, &who, &zero, BPF_NOEXIST);
		peer = bpf_map_lookup_elem(&peers, &who);
		if (!peer)
			return 0;
	}
	slot = bits_of(us);
	if (slot < SLOTS)
		__sync_fetch_and_add(&peer->slots[slot], 1);
	__sync_fetch_and_add(&peer->total_us, us);
	if (us > peer->most_us)
		peer->most_us = us;
	if (!peer->least_us || us < peer->least_us)
		peer->least_us = us;
	__sync_fetch_and_add(&peer->samples, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
