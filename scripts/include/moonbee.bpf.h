/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * For BPF programs that moonbee drives: settings of several fields that change as one, and ring
 * buffers that count what they lose. Include it after vmlinux.h (or linux/bpf.h) and
 * bpf/bpf_helpers.h.
 *
 *	struct cfg { __u64 rate, burst; } cfg;
 *	MB_SEQ(cfg);
 *	…
 *	struct cfg now;
 *	if (MB_SEQ_READ(cfg, &now))	// 0: now is one whole setting
 *		return XDP_PASS;	// it was changed MB_SEQ_TRIES times meanwhile: do without
 *
 * In Lua: bpf.txn(obj.vars.cfg, function(c) c.rate, c.burst = 100, 500 end)
 * Compile with -D__TARGET_ARCH_x86 (or that of the target) and -mcpu=v3.
 *
 *	struct { __uint(type, BPF_MAP_TYPE_RINGBUF); … } events SEC(".maps");
 *	MB_LOST(events);
 *	…
 *	struct event *e = MB_RESERVE(events, sizeof(*e));
 *	if (!e)				// no room: it is counted
 *		return 0;
 *	…
 *	bpf_ringbuf_submit(e, 0);
 *
 * In Lua: obj.maps.events:reader("struct event").stats.lost
 */
#ifndef MOONBEE_BPF_H
#define MOONBEE_BPF_H

#ifndef MB_SEQ_TRIES
#define MB_SEQ_TRIES 32 /* the verifier walks each: many reads in a loop want bpf_loop() */
#endif

/* After the variable: its sequence word, and what it was before. While the word is even the variable
 * is whole; while it is odd the variable is being written, and its last whole value is in mb_old_. So
 * a reader never waits for a writer, not even for one that was put to sleep or died. */
#define MB_SEQ(var)                                                                                \
	volatile __u32 mb_seq_##var;                                                               \
	__typeof__(var) mb_old_##var

/* Copy a variable that has a sequence word. 0, or -11 (EAGAIN) when it was changed each time. */
#define MB_SEQ_READ(var, to)                                                                       \
	({                                                                                         \
		_Static_assert(sizeof(*(to)) == sizeof(var), "not of the variable's type");        \
		mb_seq_read(&mb_seq_##var, (to), (const void *)&(var),                             \
			    (const void *)&mb_old_##var, sizeof(var));                             \
	})

/* The processor must not move loads across: on x86 it never does, elsewhere an atomic keeps it. */
#if defined(__TARGET_ARCH_x86)
#define mb_seq_load(word) (*(word))
#define mb_seq_fence(word) asm volatile("" ::: "memory")
#else
#define mb_seq_load(word) __sync_fetch_and_add((__u32 *)(word), 0)
#define mb_seq_fence(word) ((void)__sync_fetch_and_add((__u32 *)(word), 0))
#endif

static __always_inline int mb_seq_read(volatile __u32 *word, void *to, const void *now,
				       const void *old, unsigned long size)
{
	for (int i = 0; i < MB_SEQ_TRIES; i++) {
		__u32 before = mb_seq_load(word);

		mb_seq_fence(word);
		if (before & 1)
			__builtin_memcpy(to, old, size);
		else
			__builtin_memcpy(to, now, size);
		mb_seq_fence(word);
		if (mb_seq_load(word) == before)
			return 0;
	}
	return -11;
}

/* ---- ring buffers that count what they lose ----------------------------------------------------- */

/* After the ring: the number of records that found no room in it. */
#define MB_LOST(ring) volatile __u64 mb_lost_##ring

/* bpf_ringbuf_reserve(&ring, size, 0), counted: NULL is one more in mb_lost_. */
#define MB_RESERVE(ring, size)                                                                     \
	({                                                                                         \
		void *mb_room = bpf_ringbuf_reserve(&(ring), (size), 0);                           \
		if (!mb_room)                                                                      \
			__sync_fetch_and_add(&mb_lost_##ring, 1);                                  \
		mb_room;                                                                           \
	})

/* bpf_ringbuf_output(&ring, data, size, flags), counted: for records whose length varies. */
#define MB_OUTPUT(ring, data, size, flags)                                                         \
	({                                                                                         \
		long mb_rc = bpf_ringbuf_output(&(ring), (data), (size), (flags));                 \
		if (mb_rc)                                                                         \
			__sync_fetch_and_add(&mb_lost_##ring, 1);                                  \
		mb_rc;                                                                             \
	})

#endif
