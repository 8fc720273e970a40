/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A hash table of a map's former values: entries one after the other, and a table of their numbers
 * with open addressing. It knows nothing of maps.
 */
#include "engine/shadow.h"

#include <sys/random.h>

#include "internal.h"

struct mb_shadow {
	size_t key_size, value_size, entry;
	uint8_t *entries;
	size_t n, room;
	uint32_t *table; /* number of an entry + 1, or 0 */
	size_t mask;
	uint64_t seed; /* keys come from packets: nobody shall choose where they land */
};

static uint64_t mix(uint64_t h)
{
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93u;
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93u;
	return h ^ h >> 32;
}

static uint64_t hash(const struct mb_shadow *s, const uint8_t *key)
{
	uint64_t h = s->seed, word;
	size_t i = 0;

	for (; i + 8 <= s->key_size; i += 8) {
		memcpy(&word, key + i, 8);
		h = mix(h ^ word) + s->seed;
	}
	word = 0;
	memcpy(&word, key + i, s->key_size - i);
	return mix(h ^ word);
}

struct mb_shadow *mb_shadow_new(size_t key_size, size_t value_size)
{
	struct mb_shadow *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->key_size = key_size;
	s->value_size = value_size;
	s->entry = mb_round_up(sizeof(struct mb_seen) + key_size + value_size, 8);
	s->mask = 255;
	s->table = calloc(s->mask + 1, sizeof(*s->table));
	if (getrandom(&s->seed, sizeof(s->seed), GRND_NONBLOCK) != sizeof(s->seed))
		s->seed = mb_now_ns();
	if (s->table)
		return s;
	mb_shadow_free(s);
	return NULL;
}

void mb_shadow_free(struct mb_shadow *s)
{
	if (!s)
		return;
	free(s->entries);
	free(s->table);
	free(s);
}

static struct mb_seen *nth(const struct mb_shadow *s, size_t i)
{
	return (struct mb_seen *)(void *)(s->entries + i * s->entry);
}

struct mb_seen *mb_shadow_nth(struct mb_shadow *s, size_t i)
{
	return i < s->n ? nth(s, i) : NULL;
}

uint8_t *mb_seen_value(const struct mb_shadow *s, struct mb_seen *seen)
{
	return seen->bytes + s->key_size;
}

/* Where the key's number is in the table, or where it would be. */
static uint32_t *slot(struct mb_shadow *s, const void *key)
{
	for (size_t i = hash(s, key) & s->mask;; i = (i + 1) & s->mask) {
		uint32_t *at = &s->table[i];

		if (!*at || memcmp(nth(s, *at - 1)->bytes, key, s->key_size) == 0)
			return at;
	}
}

struct mb_seen *mb_shadow_find(struct mb_shadow *s, const void *key)
{
	uint32_t number = *slot(s, key);

	return number ? nth(s, number - 1) : NULL;
}

static bool grow(struct mb_shadow *s)
{
	if (s->n == s->room) {
		size_t room = s->room ? s->room * 2 : 128;
		uint8_t *more = room > UINT32_MAX / 2 ? NULL : realloc(s->entries, room * s->entry);

		if (!more)
			return false;
		s->entries = more;
		s->room = room;
	}
	if (s->n * 2 > s->mask) { /* at most half full */
		size_t mask = s->mask * 2 + 1;
		uint32_t *table = calloc(mask + 1, sizeof(*table));

		if (!table)
			return false;
		free(s->table);
		s->table = table;
		s->mask = mask;
		for (size_t i = 0; i < s->n; i++)
			*slot(s, nth(s, i)->bytes) = (uint32_t)i + 1;
	}
	return true;
}

struct mb_seen *mb_shadow_put(struct mb_shadow *s, const void *key, const void *value)
{
	struct mb_seen *seen = mb_shadow_find(s, key);

	if (!seen) {
		if (!grow(s))
			return NULL;
		seen = nth(s, s->n);
		memcpy(seen->bytes, key, s->key_size);
		s->n++;
		*slot(s, key) = (uint32_t)s->n;
	}
	seen->gone = false;
	memcpy(seen->bytes + s->key_size, value, s->value_size);
	return seen;
}
