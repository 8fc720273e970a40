/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An object's map and the one that is pinned where it is to be: what differs between them, and which
 * of the two it will be. Conventions are engine.h's.
 */
#ifndef MB_TAKEOVER_H
#define MB_TAKEOVER_H

#include "engine/layout.h"

/* What to do when they differ. */
enum mb_mismatch {
	MB_MISMATCH_ERROR,
	MB_MISMATCH_REPLACE, /* a new one in its place, in one step, once all is loaded */
	MB_MISMATCH_MIGRATE, /* the same, with what the old one holds: migration.h */
	MB_MISMATCH_ADOPT,   /* the pinned one with its max_entries and flags */
	MB_MISMATCH_KEEP,    /* the pinned one, as far as type and sizes allow */
};

struct mb_map_diff {
	struct mb_diff map, key, value;	   /* parameters; layouts, where both have BTF */
	const char *key_type, *value_type; /* names, of the plans that were compared */
};
void mb_map_diff_fini(struct mb_map_diff *diff);
/* How many differences there are between an existing map and another or one that an object declares;
 * 0: the one can be used for the other. -ENOMEM. */
int mb_map_compare(struct mb_map *was, struct mb_map *is, struct mb_map_diff *out,
		   struct mb_error *err);
/* "value size 12 there, 8 here; value struct flow: field 'x' added", as snprintf does. */
size_t mb_map_diff_text(const struct mb_map_diff *diff, char *to, size_t room);

/* The map that is pinned where this one of an open object is to be: 1 (the caller gets the reference),
 * 0: none, or the object has no pin_root. -EEXIST: something else is there. */
int mb_map_pinned_there(struct mb_map *map, struct mb_map **out, struct mb_error *err);
/* Before load: what to do if the pinned one differs. id: only if it is that very map (0: any). */
void mb_map_on_mismatch(struct mb_map *map, enum mb_mismatch what, uint32_t id);
/* Before load: use that map instead of a new one, where it differs no more than how allows (ERROR, ADOPT,
 * KEEP). -EEXIST: it differs. */
int mb_map_reuse(struct mb_map *map, struct mb_map *other, enum mb_mismatch how,
		 struct mb_error *err);

/* After load: the pinned map from which this one still has to be migrated, or NULL; until
 * mb_map_migrated puts this one in its place. -EBUSY: another one was pinned there meanwhile. */
struct mb_map *mb_map_migrates_from(const struct mb_map *map);
int mb_map_migrated(struct mb_map *map, struct mb_error *err);

#endif
