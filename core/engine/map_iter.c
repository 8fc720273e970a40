/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Walking a map: by batches where the kernel has them, else key by key. Ends under churn, and the
 * entry at hand may be deleted.
 */
#include "engine/map_kind.h"

#include "internal.h"

#define BATCH 4096u
#define BATCH_BYTES (1u << 20)

struct mb_map_iter {
	struct mb_map *map;
	uint32_t batch;	 /* entries asked for at once */
	uint64_t visits; /* of the key-by-key walk: bounds it under churn */
	bool one_by_one, started, done;
	bool incomplete; /* it started over, or was cut short */
	uint64_t flags;
	uint8_t *cursor; /* the kernel's place (batches), or the key to visit next */
	uint8_t *spare;
};

static size_t cursor_size(const struct mb_map *map)
{
	return map->info.key_size < 8 ? 8 : map->info.key_size;
}

/* Of a walk key by key: under churn it must end. Storages have no size of their own. */
static uint64_t visits_allowed(const struct mb_map *map)
{
	return map->info.max_entries ? 2 * (uint64_t)map->info.max_entries + 1024 : 1u << 20;
}

/* Not of tries: their place is a key, and the walk starts over when that is deleted. A bucket's number
 * is kept in as many bytes as a key has. */
static bool has_batches(const struct mb_map *map)
{
	return map->kind->batch && map->info.key_size >= 4;
}

int mb_map_iter_new(struct mb_map *map, uint64_t flags, struct mb_map_iter **out,
		    struct mb_error *err)
{
	int rc = mb_map_begin(map, "walk map", MB_OP_WALK, err);
	struct mb_map_iter *it;
	size_t entry;

	if (rc)
		return rc;
	if (!map->key || !map->seen)
		return mb_fail(err, EINVAL, "walk map", map->name, "it has no keys or no values");
	it = calloc(1, sizeof(*it) + 2 * mb_round_up(cursor_size(map), 8));
	if (!it)
		return mb_fail(err, ENOMEM, "walk map", map->name, "out of memory");
	it->map = mb_map_ref(map);
	it->flags = flags;
	it->cursor = (uint8_t *)(it + 1);
	it->spare = it->cursor + mb_round_up(cursor_size(map), 8);
	it->one_by_one = !has_batches(map);
	entry = map->info.key_size + map->seen->size;
	it->batch = BATCH;
	if (it->batch > map->info.max_entries)
		it->batch = map->info.max_entries ? map->info.max_entries : 1;
	if (it->batch * entry > BATCH_BYTES)
		it->batch = (uint32_t)(BATCH_BYTES / entry) + 1;
	*out = it;
	return 0;
}

void mb_map_iter_free(struct mb_map_iter *it)
{
	if (!it)
		return;
	mb_map_unref(it->map);
	free(it);
}

static int room_for(struct mb_map_iter *it, uint32_t n, struct mb_region **keys,
		    struct mb_region **values, struct mb_error *err)
{
	struct mb_map *map = it->map;
	*keys = mb_region_bytes((size_t)n * map->info.key_size, MB_REGION_SNAPSHOT, NULL);
	*values = mb_region_bytes((size_t)n * map->seen->size, MB_REGION_SNAPSHOT, NULL);
	if (*keys && *values) {
		(*keys)->name = (*values)->name = map->value_title;
		(*keys)->whole = map->key;
		(*keys)->each = map->info.key_size;
		(*values)->whole = map->seen;
		(*values)->each = map->seen->size;
		return 0;
	}
	mb_region_unref(*keys);
	mb_region_unref(*values);
	*keys = *values = NULL;
	return mb_fail(err, ENOMEM, "walk map", map->name, "out of memory");
}

/* Views count their bytes in 32 bits. */
static bool may_grow(const struct mb_map_iter *it)
{
	const struct mb_map *map = it->map;
	uint64_t entry = (uint64_t)map->info.key_size + map->seen->size;

	return 2 * (uint64_t)it->batch * entry <= UINT32_MAX;
}

/* A batch of the kernel's: short ones are usual (the next bucket did not fit), only ENOENT is the
 * end, and what came with it counts. ENOSPC: one bucket holds more than we asked for. */
static int next_batch(struct mb_map_iter *it, struct mb_region **keys, struct mb_region **values,
		      uint32_t *n, struct mb_error *err)
{
	LIBBPF_OPTS(bpf_map_batch_opts, opts);
	struct mb_map *map = it->map;

	opts.elem_flags = it->flags;
	for (;;) {
		uint32_t count = it->batch;
		int rc = room_for(it, count, keys, values, err), code;

		if (rc)
			return rc;
		code = bpf_map_lookup_batch(map->fd, it->started ? it->cursor : NULL, it->spare,
					    (*keys)->base, (*values)->base, &count, &opts) == 0 ?
			       0 :
			       errno;
		if (!code || code == ENOENT) {
			memcpy(it->cursor, it->spare, cursor_size(map));
			it->started = true;
			it->done = code == ENOENT;
			*n = count;
			if (count || it->done)
				return 0;
		}
		mb_region_unref(*keys);
		mb_region_unref(*values);
		*keys = *values = NULL;
		if (code == EINTR || !code)
			continue;
		if (code == ENOSPC && may_grow(it)) {
			it->batch *= 2;
			continue;
		}
		if (!it->started && (code == EINVAL || code == ENOTSUPP || code == EOPNOTSUPP)) {
			it->one_by_one = true;
			*n = 0;
			return 0;
		}
		return mb_fail(err, code, "walk map", map->name, "%s", mb_error_text(code));
	}
}

static int first_key(struct mb_map_iter *it, struct mb_error *err)
{
	struct mb_map *map = it->map;

	it->started = true;
	if (bpf_map_get_next_key(map->fd, NULL, it->cursor) == 0)
		return 0;
	it->done = true;
	return errno == ENOENT ?
		       0 :
		       mb_fail(err, errno, "walk map", map->name, "%s", mb_error_text(errno));
}

/* The next key, from the one at hand. That is asked for before the value is: if the value is there
 * then, the kernel found the key, and did not start over. */
static void next_key(struct mb_map_iter *it)
{
	uint8_t *key = it->cursor;

	if (bpf_map_get_next_key(it->map->fd, key, it->spare) != 0) {
		it->done = true;
	} else if (++it->visits >= visits_allowed(it->map)) {
		it->done = true;
		it->incomplete = true;
	}
	it->cursor = it->spare;
	it->spare = key;
}

/* The key after the one at hand is fetched before that one is given out, so that deleting it does
 * not start the walk over. */
static int next_single(struct mb_map_iter *it, struct mb_region **keys, struct mb_region **values,
		       uint32_t *n, struct mb_error *err)
{
	struct mb_map *map = it->map;
	int rc = it->started ? 0 : first_key(it, err);

	*n = 0;
	while (!rc && !it->done) {
		int code;

		rc = room_for(it, 1, keys, values, err);
		if (rc)
			return rc;
		memcpy((*keys)->base, it->cursor, map->info.key_size);
		next_key(it);
		code = bpf_map_lookup_elem_flags(map->fd, (*keys)->base, (*values)->base,
						 it->flags) == 0 ?
			       0 :
			       errno;
		if (!code) {
			*n = 1;
			return 0;
		}
		mb_region_unref(*keys);
		mb_region_unref(*values);
		*keys = *values = NULL;
		if (code != ENOENT)
			rc = mb_map_refused(map, "walk map", code, err);
		else if (!map->kind->indexed) /* deleted meanwhile, and no empty slot */
			it->incomplete = true;
	}
	return rc;
}

bool mb_map_iter_complete(const struct mb_map_iter *it)
{
	return it->done && !it->incomplete;
}

int mb_map_iter_next(struct mb_map_iter *it, struct mb_region **keys, struct mb_region **values,
		     uint32_t *n, struct mb_error *err)
{
	int rc = mb_map_check(it->map, "walk map", err);

	*n = 0;
	*keys = *values = NULL;
	if (rc || it->done)
		return rc;
	if (mb_stop_asked())
		return mb_fail(err, EINTR, "walk map", it->map->name, "interrupted");
	if (!it->one_by_one)
		rc = next_batch(it, keys, values, n, err);
	if (!rc && it->one_by_one)
		rc = next_single(it, keys, values, n, err);
	if (!rc && !*n) {
		mb_region_unref(*keys);
		mb_region_unref(*values);
		*keys = *values = NULL;
	}
	return rc;
}
