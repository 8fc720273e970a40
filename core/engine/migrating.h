/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A migration as migration.c makes it and migration_sweep.c works it off.
 */
#ifndef MB_MIGRATING_H
#define MB_MIGRATING_H

#include "engine/migration.h"

#include "engine/layout.h"
#include "engine/shadow.h"
#include "engine/sum.h"

#include "internal.h"

#define MAX_ADDENDS 32
#define PENDING (256u << 10) /* bytes */
#define SWEEPS 4	     /* last ones, until the old map is quiet */

enum { KEEP_ADDEND = 1, KEEP_MANAGED = 2 };

/* A counter: where it is in both values. */
struct counter {
	struct mb_field from, to; /* with offsets from the value's start */
};

struct mb_migration {
	char name[64];
	bool closed;
	struct mb_map *from, *to;
	struct mb_conversion *key, *value;
	bool array, same_key;
	uint64_t from_lock, lock; /* BPF_F_LOCK where a value has a spin lock */
	struct mb_shadow *shadow;
	uint32_t pass;
	struct counter counters[MAX_ADDENDS];
	size_t ncounters;
	struct mb_sum *sum;
	uint8_t *keep;				  /* of one value of to: KEEP_… of each byte */
	uint8_t *nkey, *nvalue, *written, *there; /* of to */
	uint8_t *zeros;				  /* a value of from */
	uint32_t npending, room; /* entries that wait to be written to the new map together */
	uint8_t *pending_keys, *pending_values;
	bool broken; /* some of them could not be */
	struct mb_migration_report report;
};

#endif
