/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * What the BPF object of `make bench` and its peer in C share. The types __u32 and so on are the
 * includer's: from vmlinux.h or linux/types.h.
 */
#pragma once

struct limit {
	__u32 rate;
	__u32 burst;
};

struct flow {
	__u64 packets;
	__u64 bytes;
	__u64 last_ns;
	__u32 rate;
	__u32 flags;
};

struct event {
	__u64 time_ns;
	__u32 pid;
	__u32 cpu;
	__u64 cookie;
	__u32 len;
	__u16 port;
	__u16 proto;
	__u64 bytes;
	__u64 unused;
	char comm[16];
};

_Static_assert(sizeof(struct event) == 64, "the rows say 64 bytes");
