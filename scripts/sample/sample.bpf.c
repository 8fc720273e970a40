/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Sampling: one system call out of `every` goes to the ring, whoever makes it. sample.lua tunes
 * `every`, so that the stream stays within a budget on an idle machine and on a busy one.
 */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#include "moonbee.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct call_sample {
	__u64 ts_ns;
	__u32 pid;
	__u32 weight; /* calls that it stands for */
	__s64 nr;
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} samples SEC(".maps");
MB_LOST(samples);

volatile __u32 every = 1000; /* change it at any time; 0 takes none */
volatile __u32 skip_pid;     /* calls of this process are not looked at */

__u64 seen;
__u64 taken;

/* Not inlined: a function's parameter brings struct call_sample into the object's BTF. */
static __noinline void fill(struct call_sample *s, __u32 pid, __u32 weight, __s64 nr)
{
	s->ts_ns = bpf_ktime_get_ns();
	s->pid = pid;
	s->weight = weight;
	s->nr = nr;
	bpf_get_current_comm(s->comm, sizeof(s->comm));
}

SEC("tracepoint/raw_syscalls/sys_enter")
int on_call(struct trace_event_raw_sys_enter *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32, n = every;
	struct call_sample *s;

	if (pid == skip_pid)
		return 0;
	/* any CPU's n-th: one counter, so that a quiet CPU is not overrated */
	if (!n || __sync_fetch_and_add(&seen, 1) % n)
		return 0;
	s = MB_RESERVE(samples, sizeof(*s));
	if (!s)
		return 0;
	fill(s, pid, n, ctx->id);
	bpf_ringbuf_submit(s, 0);
	__sync_fetch_and_add(&taken, 1);
	return 0;
}
