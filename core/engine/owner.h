/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who made a pin. bpffs holds no files, but symbolic links: the pin DIR/NAME that is ours has a link
 * DIR/_moonbee_owner/NAME whose text is the record. It lives as long as the file system that the pin
 * is in, is made before the pin and goes after it, so that no pin of ours is ever without one.
 * Conventions are engine.h's.
 */
#ifndef MB_OWNER_H
#define MB_OWNER_H

#include "engine/engine.h"

#define MB_OWNER_DIR "_moonbee_owner"

struct mb_owner {
	enum mb_pinned_kind kind;
	uint32_t id;	/* of the map, program or link */
	uint32_t uid;	/* whose process it was */
	int pid;	/* in the pid namespace pidns */
	uint64_t start; /* when that process began, in clock ticks: a pid is used again */
	uint64_t pidns;
	bool cleanup;	/* it was to go with its owner */
	bool temporary; /* a step of a replacement that was not finished */
};

/* The record of a pin whose thing has this id: 1, or 0 when it is not ours. */
int mb_owner_find(const char *path, uint32_t id, struct mb_owner *out);
/* One record, by its own path: 1 or 0. */
int mb_owner_read(const char *record, struct mb_owner *out);
/* Write that this process owns what is, or is about to be, pinned at path. */
int mb_owner_record(const char *path, enum mb_pinned_kind kind, uint32_t id, bool cleanup,
		    const char *op, struct mb_error *err);
/* The pin at from is at to by now: so is its record. */
void mb_owner_move(const char *from, const char *to);
/* The pin at path is gone: its record, too, and an empty directory of records. */
void mb_owner_forget(const char *path);
/* Does the process live? Also yes where that cannot be known. */
bool mb_owner_alive(const struct mb_owner *owner);
bool mb_owner_is_us(const struct mb_owner *owner);

/* One moonbee process at a time changes the pins of a directory. Waits for the others; the lock goes
 * when fd is closed. -EINTR when a signal came. */
int mb_pin_lock(const char *dir, int *fd, const char *op, struct mb_error *err);

/* The pins that an object made and that are to go with it. */
struct mb_own_pin {
	struct mb_own_pin *next;
	enum mb_pinned_kind kind;
	uint32_t id;
	char path[];
};
/* Remove each that is still what it was, and ours; then the list. */
void mb_own_pins_remove(struct mb_own_pin **list);
int mb_own_pins_add(struct mb_own_pin **list, enum mb_pinned_kind kind, uint32_t id,
		    const char *path);

#endif
