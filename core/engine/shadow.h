/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a map held when it was last looked at: values by key, in memory of ours. Entries are never
 * taken out, only marked as gone. Conventions are engine.h's.
 */
#ifndef MB_SHADOW_H
#define MB_SHADOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mb_shadow;

/* NULL: out of memory. */
struct mb_shadow *mb_shadow_new(size_t key_size, size_t value_size);
void mb_shadow_free(struct mb_shadow *s);

struct mb_seen {
	uint32_t pass; /* in which it was last seen */
	bool gone;
	uint8_t bytes[]; /* key, value */
};
/* What is known of a key, or NULL. Also of one that is gone. Valid until the next put. */
struct mb_seen *mb_shadow_find(struct mb_shadow *s, const void *key);
/* Remember this value; NULL: out of memory. */
struct mb_seen *mb_shadow_put(struct mb_shadow *s, const void *key, const void *value);
/* Number i, from 0 on; NULL after the last. */
struct mb_seen *mb_shadow_nth(struct mb_shadow *s, size_t i);
static inline uint8_t *mb_seen_key(struct mb_seen *seen)
{
	return seen->bytes;
}
uint8_t *mb_seen_value(const struct mb_shadow *s, struct mb_seen *seen);

#endif
