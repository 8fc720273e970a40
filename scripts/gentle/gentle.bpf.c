/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * A TCP congestion control whose two constants can be tuned while connections use it: after a loss
 * the window becomes `keep` hundredths of what it was, and without one it grows by `grow` segments
 * per round trip. (keep = 50, grow = 1: Reno.) The kernel's link to it can be updated: a new version
 * takes over, and connections that run go on with the old one to their end.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define MOST_GROW 64
#define TCP_CONG_NON_RESTRICTED 1 /* whoever opens a connection may choose it */

volatile __u32 keep = 70; /* percent, 10 … 95 */
volatile __u32 grow = 1;  /* segments, 1 … 64 */

/* What its connections did. */
__u64 opened;
__u64 losses;
__u64 acked; /* segments */

static __always_inline __u32 share(__u32 window)
{
	__u32 percent = keep;

	if (percent < 10)
		percent = 10;
	if (percent > 95)
		percent = 95;
	/* by 64 bits: windows may be large */
	window = (__u64)window * percent / 100;
	return window < 2 ? 2 : window;
}

SEC("struct_ops")
void BPF_PROG(gentle_init, struct sock *sk)
{
	__sync_fetch_and_add(&opened, 1);
}

SEC("struct_ops")
__u32 BPF_PROG(gentle_ssthresh, struct sock *sk)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;

	__sync_fetch_and_add(&losses, 1);
	return share(tp->snd_cwnd);
}

SEC("struct_ops")
void BPF_PROG(gentle_cong_avoid, struct sock *sk, __u32 ack, __u32 segments)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;
	__u32 window = tp->snd_cwnd, step = grow, count;

	__sync_fetch_and_add(&acked, segments);
	if (!tp->is_cwnd_limited)
		return;
	if (window < tp->snd_ssthresh) { /* slow start */
		window += segments;
		if (window > tp->snd_ssthresh)
			window = tp->snd_ssthresh;
	} else {
		if (step < 1)
			step = 1;
		if (step > MOST_GROW)
			step = MOST_GROW;
		count = tp->snd_cwnd_cnt + segments * step;
		if (window && count >= window) {
			window += count / window;
			count %= tp->snd_cwnd ? tp->snd_cwnd : 1;
		}
		tp->snd_cwnd_cnt = count;
	}
	if (window > tp->snd_cwnd_clamp)
		window = tp->snd_cwnd_clamp;
	tp->snd_cwnd = window;
}

SEC("struct_ops")
__u32 BPF_PROG(gentle_undo_cwnd, struct sock *sk)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;

	return tp->snd_cwnd > tp->prior_cwnd ? tp->snd_cwnd : tp->prior_cwnd;
}

SEC(".struct_ops.link")
struct tcp_congestion_ops gentle = {
	.init = (void *)gentle_init,
	.ssthresh = (void *)gentle_ssthresh,
	.cong_avoid = (void *)gentle_cong_avoid,
	.undo_cwnd = (void *)gentle_undo_cwnd,
	.flags = TCP_CONG_NON_RESTRICTED,
	.name = "gentle",
};
