/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is pinned below a directory, and what of it processes of moonbee left behind. Conventions are
 * engine.h's.
 */
#ifndef MB_PINS_H
#define MB_PINS_H

#include "engine/owner.h"

struct mb_pin_row {
	char *path;
	enum mb_pinned_kind kind;
	uint32_t id;
	char name[64];	  /* the thing's own; of a link its program's; "": it has none */
	const char *type; /* "hash", "xdp", … */
	bool owned;	  /* owner says by whom of ours */
	struct mb_owner owner;
};
/* Everything pinned in dir and the directories below it, by path. What cannot be opened any more is
 * left out; -EINVAL when dir is not in bpffs. The caller frees with mb_pins_free. */
int mb_pins_list(const char *dir, struct mb_pin_row **out, size_t *n, struct mb_error *err);
void mb_pins_free(struct mb_pin_row *list, size_t n);

struct mb_left {
	char *path;
	struct mb_owner owner;
	bool removed;
	int code; /* why it could not be, positive errno; 0: it was, or need not */
};
/* Go through the records of dir and of the directories below it. Found are pins of ours whose owner is
 * gone and that were to go with it (all: also those that were to stay), and steps of replacements that
 * were not finished. Unless dry they are removed, each after a look whether it is still that thing;
 * nothing else ever is. The caller frees with mb_left_free. */
int mb_pins_collect(const char *dir, bool all, bool dry, struct mb_left **out, size_t *n,
		    struct mb_error *err);
void mb_left_free(struct mb_left *list, size_t n);

#endif
