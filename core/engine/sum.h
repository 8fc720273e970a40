/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Atomic additions to values of a map that BPF programs write, too: by small BPF programs, since user
 * space can only replace a value. Conventions are engine.h's.
 */
#ifndef MB_SUM_H
#define MB_SUM_H

#include "engine/engine.h"

struct mb_addend {
	uint32_t off;  /* in the value; aligned to its size */
	uint32_t size; /* 4 or 8 */
};

struct mb_sum;

/* Programs for n addends in values of map. keep: a byte for each of a value's, not 0: store never
 * writes it (addends and what the kernel manages). -ENOTSUP: the value is too large; -EPERM, -EINVAL:
 * the kernel's no. */
int mb_sum_new(struct mb_map *map, const struct mb_addend *addends, size_t n, const uint8_t *keep,
	       struct mb_sum **out, struct mb_error *err);
void mb_sum_free(struct mb_sum *s);
/* Add deltas to the value of a key, of a per-CPU map to that CPU's (else cpu < 0); value not NULL:
 * store its other bytes, too. 1; 0: there is no such key; -errno. */
int mb_sum_run(struct mb_sum *s, const void *key, int cpu, const int64_t *deltas, const void *value,
	       struct mb_error *err);

#endif
