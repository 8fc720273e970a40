// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Counts packets of an interface, and tells of every sample-th. Knows nothing of moonbee. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct event {
	__u64 packets;
	__u32 len;
	__u32 sample;
};
const struct event *for_btf __attribute__((unused)); /* brings struct event into the BTF */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} events SEC(".maps");

volatile __u32 sample = 10; /* every how many packets an event is sent; 0: never */
volatile __u64 packets, bytes;

SEC("xdp")
int count(struct xdp_md *ctx)
{
	__u32 len = ctx->data_end - ctx->data, every = sample;
	__u64 n = __sync_fetch_and_add(&packets, 1) + 1;
	struct event *e;

	__sync_fetch_and_add(&bytes, len);
	if (!every || n % every)
		return XDP_PASS;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (e) {
		*e = (struct event){ .packets = n, .len = len, .sample = every };
		bpf_ringbuf_submit(e, 0);
	}
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
