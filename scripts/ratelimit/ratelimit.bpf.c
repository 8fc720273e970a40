/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A token bucket per source address, at XDP. ratelimit.lua loads it, and tunes it while it runs.
 *
 * The bucket is kept as one number (the virtual scheduling form of a token bucket, GCRA): the time
 * up to which a source has spent its tokens. A packet costs 1/rate seconds; the bucket is empty
 * when that time is burst/rate seconds ahead of now, and full when it has passed. So one
 * compare-and-swap updates it, packets of one source on several CPUs lose no token, nothing needs
 * a refill, and a new limit holds from the next packet on. rate and burst are variables of their
 * own, and any mixture of old and new is a valid limit.
 */
#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86DD
#define ETH_P_8021Q 0x8100
#define ETH_P_8021AD 0x88A8
#define VLAN_TAGS 2

/* Time in 1/16 ns, so that 1/rate is exact to 0.1 % up to 10 M packets/s. With a burst of 2^20 at
 * 1 packet/s the greatest sum stays below 2^63 for 18 years of uptime. */
#define FRACTION 4
#define SECOND (1000000000ULL << FRACTION)
#define MAX_BURST (1U << 20)
#define CAS_TRIES 4

/* Network byte order; IPv4 as ::ffff:a.b.c.d. */
struct source {
	__u32 addr[4];
};

struct flow {
	__u64 clock; /* see above; in 1/16 ns */
	__u64 passed;
	__u64 dropped;
};

/* What goes to the ring. */
struct drop {
	__u64 ts_ns;
	struct source source;
	__u64 dropped; /* of this source, so far */
	__u32 len;     /* bytes of the packet */
	__u16 dport;   /* UDP and TCP, else 0 */
	__u8 proto;
};

struct stats {
	__u64 passed;
	__u64 passed_bytes;
	__u64 dropped;
	__u64 dropped_bytes;
	__u64 other;	    /* neither IPv4 nor IPv6: passed, not counted in passed */
	__u64 untracked;    /* passed, as the flow table had no room */
	__u64 sources;	    /* entries made in the flow table */
	__u64 reports;	    /* drops sent to the ring */
	__u64 reports_held; /* not sent: over report_rate */
	__u64 reports_lost; /* not sent: the ring was full */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct source);
	__type(value, struct flow);
	__uint(max_entries, 16384);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} drops SEC(".maps");

/* The limits: change them at any time. */
volatile __u32 rate = 1000;	 /* packets per second and source; 0 lets nothing through */
volatile __u32 burst = 100;	 /* packets at once; 1 … 2^20 */
volatile __u32 report_rate = 10; /* drops reported per second, all sources together; 0: none */

struct stats stats;
static __u64 report_clock;

struct packet {
	struct source source;
	__u32 len;
	__u16 dport;
	__u8 proto;
};

static __always_inline void add(__u64 *counter, __u64 n)
{
	__sync_fetch_and_add(counter, n);
}

/* Take one token out of a bucket, if there is one. */
static __always_inline bool take(__u64 *clock, __u64 now, __u32 per_second, __u32 at_once)
{
	__u64 cost, full, old, next;

	if (!per_second)
		return false;
	if (at_once < 1)
		at_once = 1;
	if (at_once > MAX_BURST)
		at_once = MAX_BURST;
	cost = SECOND / per_second;
	full = now + cost * at_once;
	for (int i = 0; i < CAS_TRIES; i++) {
		old = *(volatile __u64 *)clock;
		next = (old < now ? now : old) + cost;
		if (next <= full) {
			if (__sync_val_compare_and_swap(clock, old, next) == old)
				return true;
		} else {
			/* A debt from the time of a lower limit: here the bucket is just empty. */
			if (old > full)
				__sync_val_compare_and_swap(clock, old, full);
			return false;
		}
	}
	/* Many CPUs work for this source: charge it without looking. */
	add(clock, cost);
	return true;
}

static __always_inline __u16 dport_of(void *l4, void *end, __u8 proto)
{
	__be16 *ports = l4;

	if ((proto != IPPROTO_UDP && proto != IPPROTO_TCP) || (void *)(ports + 2) > end)
		return 0;
	return bpf_ntohs(ports[1]);
}

static __always_inline bool parse_v4(void *at, void *end, struct packet *p)
{
	struct iphdr *ip = at;

	if ((void *)(ip + 1) > end)
		return false;
	p->source.addr[0] = 0;
	p->source.addr[1] = 0;
	p->source.addr[2] = bpf_htonl(0xffff);
	p->source.addr[3] = ip->saddr;
	p->proto = ip->protocol;
	/* Ports are for the report only: not worth options or fragments. */
	p->dport = 0;
	if (*(__u8 *)at == 0x45 && !(ip->frag_off & bpf_htons(0x1fff)))
		p->dport = dport_of(ip + 1, end, p->proto);
	return true;
}

static __always_inline bool parse_v6(void *at, void *end, struct packet *p)
{
	struct ipv6hdr *ip = at;

	if ((void *)(ip + 1) > end)
		return false;
	__builtin_memcpy(&p->source, &ip->saddr, sizeof(p->source));
	p->proto = ip->nexthdr;
	p->dport = dport_of(ip + 1, end, p->proto);
	return true;
}

/* Who sent it? False for what is no IP, or cut short. */
static __always_inline bool parse(struct xdp_md *ctx, struct packet *p)
{
	void *at = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = at;
	__be16 proto;

	if ((void *)(eth + 1) > end)
		return false;
	p->len = end - at;
	proto = eth->h_proto;
	at = eth + 1;
	for (int i = 0; i < VLAN_TAGS; i++) {
		__be16 *tag = at;

		if (proto != bpf_htons(ETH_P_8021Q) && proto != bpf_htons(ETH_P_8021AD))
			break;
		if ((void *)(tag + 2) > end)
			return false;
		proto = tag[1];
		at = tag + 2;
	}
	if (proto == bpf_htons(ETH_P_IP))
		return parse_v4(at, end, p);
	if (proto == bpf_htons(ETH_P_IPV6))
		return parse_v6(at, end, p);
	return false;
}

static __always_inline struct flow *flow_of(struct source *source)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, source);
	struct flow fresh = {};

	if (flow)
		return flow;
	/* Another CPU may be first: then its entry is the one. */
	if (!bpf_map_update_elem(&flows, source, &fresh, BPF_NOEXIST))
		add(&stats.sources, 1);
	return bpf_map_lookup_elem(&flows, source);
}

/* Not inlined: a function's parameter brings struct drop into the object's BTF. */
static __noinline void drop_write(struct drop *drop, const struct packet *p, __u64 dropped,
				  __u64 ns)
{
	drop->ts_ns = ns;
	drop->source = p->source;
	drop->dropped = dropped;
	drop->len = p->len;
	drop->dport = p->dport;
	drop->proto = p->proto;
}

/* Tell user space, with a bucket of its own, so that a flood cannot swamp it. */
static __always_inline void report(struct packet *p, __u64 dropped, __u64 ns)
{
	struct drop *drop;

	if (!take(&report_clock, ns << FRACTION, report_rate, report_rate)) {
		add(&stats.reports_held, 1);
		return;
	}
	drop = bpf_ringbuf_reserve(&drops, sizeof(*drop), 0);
	if (!drop) {
		add(&stats.reports_lost, 1);
		return;
	}
	drop_write(drop, p, dropped, ns);
	bpf_ringbuf_submit(drop, 0);
	add(&stats.reports, 1);
}

SEC("xdp")
int ratelimit(struct xdp_md *ctx)
{
	struct packet p;
	struct flow *flow;
	__u64 ns;

	if (!parse(ctx, &p)) {
		add(&stats.other, 1);
		return XDP_PASS;
	}
	flow = flow_of(&p.source);
	if (!flow) {
		add(&stats.untracked, 1);
		return XDP_PASS;
	}
	ns = bpf_ktime_get_ns();
	if (take(&flow->clock, ns << FRACTION, rate, burst)) {
		add(&flow->passed, 1);
		add(&stats.passed, 1);
		add(&stats.passed_bytes, p.len);
		return XDP_PASS;
	}
	add(&stats.dropped, 1);
	add(&stats.dropped_bytes, p.len);
	report(&p, __sync_fetch_and_add(&flow->dropped, 1) + 1, ns);
	return XDP_DROP;
}
