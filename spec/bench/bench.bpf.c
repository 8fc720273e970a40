/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What all peers of `make bench` load. Maps are tiny here, so that a start does not pay for them;
 * a row that needs more sets max_entries before the load. bcc, which cannot load objects, declares
 * the same in its own dialect (bcc/bench.py).
 *
 *   fill          (test run) flows[0 … n-1] = { packets = i, bytes = 2 * i, … }
 *   fill_samples  (test run) samples[0 … n-1] = i
 *   emit          (test run) n events into the ring: pid = i, len = i % 1500, …
 *   mirror        (test run) seen_x = x, seen_rate = limits[3].rate: proves that a peer's store arrived
 *   on_switch     what the start row attaches
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bench.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u64);
	__type(value, struct flow);
	__uint(max_entries, 1);
} flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1);
} samples SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

const struct event *for_btf __attribute__((unused)); /* brings struct event into the BTF */

/* In a section of their own, in this order: Rust, without a skeleton, lays a struct over them. */
#define KNOB SEC(".data.knobs")
volatile __u64 x KNOB = 1;
volatile struct limit limits[8] KNOB = { { 1, 1 } };
volatile __u64 seen_x KNOB = 1;
volatile __u64 seen_rate KNOB = 1;
volatile __u64 n KNOB = 1;
volatile __u64 failed KNOB = 1; /* set to 0 by the programs that fill */

__u64 switches;

static long fill_one(__u32 i, void *unused)
{
	__u64 key = i;
	struct flow flow = { .packets = i, .bytes = 2 * (__u64)i, .rate = i, .flags = 1 };

	if (bpf_map_update_elem(&flows, &key, &flow, BPF_ANY))
		failed++;
	return 0;
}

SEC("syscall")
int fill(void *ctx)
{
	failed = 0;
	bpf_loop(n, fill_one, 0, 0);
	return 0;
}

static long fill_sample(__u32 i, void *unused)
{
	__u64 *sample = bpf_map_lookup_elem(&samples, &i);

	if (sample)
		*sample = i;
	else
		failed++;
	return 0;
}

SEC("syscall")
int fill_samples(void *ctx)
{
	failed = 0;
	bpf_loop(n, fill_sample, 0, 0);
	return 0;
}

static long emit_one(__u32 i, void *unused)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e) {
		failed++;
		return 0;
	}
	e->time_ns = i;
	e->pid = i;
	e->cpu = i & 1;
	e->cookie = i;
	e->len = i % 1500;
	e->port = i;
	e->proto = 6;
	e->bytes = i;
	e->unused = 0;
	e->comm[0] = 'b';
	e->comm[1] = 0;
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}

SEC("syscall")
int emit(void *ctx)
{
	failed = 0;
	bpf_loop(n, emit_one, 0, 0);
	return 0;
}

SEC("syscall")
int mirror(void *ctx)
{
	seen_x = x;
	seen_rate = limits[3].rate;
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	__sync_fetch_and_add(&switches, 1);
	return 0;
}
