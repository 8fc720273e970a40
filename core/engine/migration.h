/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What one map holds into another of a changed layout, while programs go on writing. Conventions are
 * engine.h's.
 *
 * The old map O is copied to the new one N in passes; what a pass saw is remembered, so that the next
 * one knows what changed, came or went since. Then the caller switches the programs, from O to N.
 * After that nobody writes O any more, and a last sweep of O finds what was written between the last
 * pass and the switch: it goes to N, but where a program wrote N since the switch, N has the later
 * value and keeps it. Fields marked `add` are counters: both maps' share is summed, by a small BPF
 * program, so that no increment is lost.
 *
 * A key that was deleted in O after it was copied is deleted in N; one that a program deleted in N
 * does not come back. One case cannot be seen from outside: a key was written in O between the last
 * pass and the switch, and a program deletes it from N before the last sweep has come to it. If N did
 * not have it yet, it comes back; if it was made again since, a counter may get what the first one
 * had counted (that a counter stands lower than before tells most of these). The report counts what
 * was written then (late_…), so that it is known how many keys this can be at most: often none.
 */
#ifndef MB_MIGRATION_H
#define MB_MIGRATION_H

#include "engine/engine.h"

struct mb_migration;

struct mb_migration_report {
	uint64_t passes;	  /* over the old map, last sweeps included */
	uint64_t entries;	  /* in the old map, at the last pass */
	uint64_t copied, deleted; /* before the switch: written to the new map, deleted there */
	/* found by the last sweep: written between the last pass before the switch and the switch */
	uint64_t late_added, late_changed, late_deleted;
	uint64_t conflicts; /* of those: the new map had a later value, which it kept */
	uint64_t summed;    /* entries whose add fields got what was counted in the old map since */
	bool busy;	    /* the old map is still written: some program was not switched */
};

/* Can what the one holds go to the other (which may not exist yet)? -ENOTSUP, -EINVAL, with the
 * reason. err must not be NULL. */
int mb_migration_check(struct mb_map *from, struct mb_map *to, struct mb_error *err);
/* add: paths of counters in the value. -ENOENT, -EINVAL. Holds both maps. */
int mb_migration_new(struct mb_map *from, struct mb_map *to, const char *const *add, size_t nadd,
		     struct mb_migration **out, struct mb_error *err);
/* One pass before the switch. -ERANGE: a value does not fit into the new layout, -E2BIG: the new map
 * is full; then the new map is to be given up, the old one is as it was. */
int mb_migration_copy(struct mb_migration *m, struct mb_error *err);
/* After the switch: waits until programs that were running are through, then sweeps until the old map
 * is quiet. */
int mb_migration_finish(struct mb_migration *m, struct mb_error *err);
/* The old map's. */
const char *mb_migration_name(const struct mb_migration *m);
const struct mb_migration_report *mb_migration_report(const struct mb_migration *m);
/* Give back its memory and the maps; the report stays. May be called again. */
void mb_migration_close(struct mb_migration *m);
bool mb_migration_closed(const struct mb_migration *m);
void mb_migration_free(struct mb_migration *m);

#endif
