// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/*
 * How long tasks that are ready wait for a CPU: a histogram by powers of two of microseconds. Counted
 * from the moment when a task is woken, or loses its CPU while it could go on.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

#define SLOTS 27

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, __u64);
} since SEC(".maps");

const volatile __s32 only_tgid; /* 0: all */

volatile __u64 slots[SLOTS]; /* element n: waits of 2^(n-1) to 2^n - 1 us */
volatile __u64 waits, total_ns, longest_ns, missed;

static bool wanted(struct task_struct *p)
{
	return p->pid && (!only_tgid || p->tgid == only_tgid);
}

static void ready(struct task_struct *p)
{
	__u64 now = bpf_ktime_get_ns();
	__u32 pid = p->pid;

	if (wanted(p) && bpf_map_update_elem(&since, &pid, &now, BPF_ANY) != 0)
		__sync_fetch_and_add(&missed, 1);
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(on_wakeup, struct task_struct *p)
{
	ready(p);
	return 0;
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(on_wakeup_new, struct task_struct *p)
{
	ready(p);
	return 0;
}

static __u32 bits_of(__u64 us)
{
	__u32 n = 0;

	for (int shift = 32; shift; shift >>= 1)
		if (us >> shift) {
			us >>= shift;
			n += shift;
		}
	return us ? n + 1 : 0;
}

static void count(__u64 ns)
{
	__u32 slot = bits_of(ns / 1000);

	if (slot >= SLOTS)
		slot = SLOTS - 1;
	__sync_fetch_and_add(&slots[slot], 1);
	__sync_fetch_and_add(&waits, 1);
	__sync_fetch_and_add(&total_ns, ns);
	if (ns > longest_ns)
		longest_ns = ns; /* two CPUs at once: one of them may win wrongly, once */
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	__u32 pid = next->pid;
	__u64 *then;

	/* one that could go on waits from now */
	if (BPF_CORE_READ(prev, __state) == 0)
		ready(prev);
	then = bpf_map_lookup_elem(&since, &pid);
	if (!then)
		return 0;
	count(bpf_ktime_get_ns() - *then);
	bpf_map_delete_elem(&since, &pid);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
