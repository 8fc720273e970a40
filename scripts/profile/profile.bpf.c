// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
/* Samples what the CPUs do: the kernel stack and the task, counted by both. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define DEPTH 64

struct seen {
	__s32 stack; /* of stacks; negative: none could be taken, in user space for instance */
	__u32 pid;
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 8192);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, DEPTH * sizeof(__u64));
} stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct seen);
	__type(value, __u64);
} counts SEC(".maps");

const volatile __u32 only_pid; /* 0: all */
const volatile bool idle_too;

volatile __u64 samples, missed;

SEC("perf_event")
int on_sample(void *ctx)
{
	struct seen s = {};
	__u64 one = 1, *n;

	s.pid = bpf_get_current_pid_tgid() >> 32;
	if (only_pid ? s.pid != only_pid : !s.pid && !idle_too)
		return 0;
	bpf_get_current_comm(s.comm, sizeof(s.comm));
	s.stack = bpf_get_stackid(ctx, &stacks, 0);
	__sync_fetch_and_add(&samples, 1);
	n = bpf_map_lookup_elem(&counts, &s);
	if (n)
		__sync_fetch_and_add(n, 1);
	else if (bpf_map_update_elem(&counts, &s, &one, BPF_NOEXIST) != 0)
		__sync_fetch_and_add(&missed, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
