/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The kernel's memory, read by address: through small BPF programs that are made when first needed and
 * run by BPF_PROG_TEST_RUN. They only read (bpf_probe_read_kernel); an address that cannot be read is
 * an error, never a fault. Needs CAP_BPF and CAP_PERFMON.
 */
#ifndef MB_KMEM_H
#define MB_KMEM_H

#include "engine/kernel.h"

struct mb_kmem;

enum {
	MB_KMEM_SLOTS = 8192,	    /* addresses of one run */
	MB_KMEM_DATA = 256 << 10,   /* bytes of one run */
	MB_KMEM_LONGEST = 64 << 10, /* bytes of one read in a run */
	MB_KMEM_LIST_MAX = 1 << 20, /* elements of a list */
};

/* How the programs run; the best that the kernel has is taken. */
enum mb_kmem_way {
	MB_KMEM_BEST,
	MB_KMEM_RAW_TP,	 /* raw tracepoint programs, for kernels without the syscall type (5.14) */
	MB_KMEM_BOUNDED, /* these, and loops unrolled by the verifier, without bpf_loop (5.17) */
};

/* Makes the map; programs come when they are needed. -EPERM names what is missing. */
int mb_kmem_new(enum mb_kmem_way way, struct mb_kmem **out, struct mb_error *err);
void mb_kmem_free(struct mb_kmem *m);

/* len bytes at address. -EFAULT: nothing is mapped there, -ERANGE: no kernel address; nothing is
 * written to *to then. */
int mb_kmem_read(struct mb_kmem *m, uint64_t address, void *to, size_t len, struct mb_error *err);
/* Many, of `each` bytes, in as few runs as there can be: to + i * each, and in codes[i] 0 or -errno.
 * What could not be read is 0. -E2BIG: each is more than MB_KMEM_LONGEST. */
int mb_kmem_read_many(struct mb_kmem *m, const uint64_t *addresses, size_t n, size_t each, void *to,
		      int32_t *codes, struct mb_error *err);
/* Say that the address could not be read. */
int mb_kmem_fault(struct mb_error *err, uint64_t address, int code);

/* Follow pointers, each `next` bytes from where the last one led, from first until end: the addresses
 * on the way, to be freed by the caller. -ELOOP: more than MB_KMEM_LIST_MAX; -EFAULT; -EINVAL: it came to
 * NULL, and end is another. With end 0 an odd pointer (hlist_nulls) is an end, too. */
int mb_kmem_list(struct mb_kmem *m, uint64_t first, uint64_t end, uint32_t next, uint64_t **out,
		 size_t *n, struct mb_error *err);
/* The task that calls. */
int mb_kmem_current(struct mb_kmem *m, uint64_t *task, struct mb_error *err);

/* ktask.c: all tasks, each as it was in one moment: records that lie stride bytes apart, one after the
 * other; freed by the caller. threads: not only the leaders of their groups. Through a task iterator
 * (Linux 5.8): a task that is there all the time is there once. */
struct mb_task {
	uint64_t address;
	int32_t ppid;	 /* as /proc shows it */
	int32_t code;	 /* -errno: its bytes could not be read */
	uint8_t bytes[]; /* of its struct task_struct */
};
int mb_kmem_tasks(struct mb_kernel *kernel, bool threads, const struct mb_plan **plan,
		  uint8_t **out, size_t *stride, size_t *n, struct mb_error *err);

/* Give back what the two above returned. */
void mb_kmem_release(void *memory);

/* Why a program of ours was refused: missing capabilities, lockdown, an old kernel. */
int mb_kmem_explain(struct mb_error *err, int code, const char *log);
/* The same for a kernel that is locked down, or not. */
int mb_kmem_refused(struct mb_error *err, int code, const char *log, bool locked);

#endif
