/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hold.c: stores that wait. A hold stands between one user of objects and their memory: what it looks
 * at are shadows of the live regions. Shadows lie on the same bytes, and cost nothing; while the hold
 * is on, the first store into a section gives its shadow a private copy, whose changed fields are
 * stored when the hold is committed, or dropped.
 */
#ifndef MB_HOLD_H
#define MB_HOLD_H

#include "engine/engine.h"

enum mb_hold_mode {
	MB_HOLD_OFF,	/* stores go through */
	MB_HOLD_COPY,	/* into a private copy of the section; other memory is refused */
	MB_HOLD_REFUSE, /* all stores are refused */
};

struct mb_hold;

struct mb_hold *mb_hold_new(void); /* NULL: out of memory */
/* Its shadows stay, as plain views of the live memory. */
void mb_hold_free(struct mb_hold *hold);
/* The hold's shadow of a region, a section's, a group's or a map's memory; the caller gets a
 * reference. NULL: out of memory. */
struct mb_region *mb_hold_region(struct mb_hold *hold, struct mb_region *live);
/* From now on. COPY after COPY goes on with the copies; REFUSE keeps them aside, unchanged. */
enum mb_hold_mode mb_hold_set(struct mb_hold *hold, enum mb_hold_mode mode); /* the one before */
/* Store what differs into the live memory, a variable with a sequence word (MB_SEQ) as one. Ends COPY.
 * An object that was closed meanwhile has nothing to store to. Cannot fail. paths gets the names of
 * what changed, each with a newline, as many as there is room for. */
void mb_hold_commit(struct mb_hold *hold, char *paths, size_t room);
/* Forget what was not stored. Ends COPY. */
void mb_hold_drop(struct mb_hold *hold);

/* Which hold the code at hand works through; NULL: none. Of this thread. Returns the one before. */
struct mb_hold *mb_hold_enter(struct mb_hold *hold);
/* The shadow, if a hold is entered, else the region itself; a reference on it. NULL: out of memory. */
struct mb_region *mb_hold_see(struct mb_region *live);

/* First in every function that changes the kernel's state by a call: -EPERM while a hold in COPY or
 * REFUSE is entered, else 0. */
int mb_refuse(const char *op, const char *subject, struct mb_error *err);

/* ---- for region.c, view.c and section.c ---- */

/* The live region has other bytes now, or has ended. */
void mb_region_moved(struct mb_region *live);
/* A store into a shadow that is held: give it its copy, or refuse. */
int mb_hold_store(struct mb_region *shadow, const char *what, struct mb_error *err);
/* An atomic operation on what may be a shadow: not on a private copy. */
int mb_hold_atomic(const struct mb_region *region, const char *what, struct mb_error *err);

#endif
