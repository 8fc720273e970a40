/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Many entries at once: by the kernel's batches where it has them, else one by one. Walking is
 * map_iter.c's.
 */
#include "engine/map_kind.h"

#include "internal.h"

#define CHUNK 65536u /* entries for one system call */

/* A map without batches, or a kernel. The kernel counts only once it has begun. */
static bool no_batches(int code)
{
	return code == EINVAL || code == ENOTSUPP || code == EOPNOTSUPP;
}

int mb_map_get_many(struct mb_map *map, const void *keys, void *values, uint8_t *found, uint32_t n,
		    uint64_t flags, struct mb_error *err)
{
	int rc = mb_map_begin(map, "get from map", MB_OP_GET, err);

	for (uint32_t i = 0; i < n && rc >= 0; i++) {
		const uint8_t *key = (const uint8_t *)keys + (size_t)i * map->info.key_size;
		uint8_t *value = (uint8_t *)values + (size_t)i * map->seen->size;

		rc = mb_map_get(map, key, value, flags, err);
		found[i] = rc > 0;
	}
	return rc < 0 ? rc : 0;
}

static int set_singly(struct mb_map *map, const uint8_t *keys, const uint8_t *values, uint32_t n,
		      uint64_t flags, uint64_t *done, struct mb_error *err)
{
	for (uint32_t i = 0; i < n; i++) {
		int rc = mb_stop_asked() ?
				 mb_fail(err, EINTR, "set in map", map->name, "interrupted") :
				 0;

		if (!rc)
			rc = mb_map_set(map, keys + (size_t)i * map->info.key_size,
					values + (size_t)i * map->seen->size, flags, err);

		if (rc < 0)
			return rc;
		*done += rc > 0;
	}
	return 0;
}

/* A chunk by the kernel; it stops at the first that it refuses. 1: it has no batches here. */
static int set_chunk(struct mb_map *map, const uint8_t *keys, const uint8_t *values, uint32_t n,
		     uint64_t flags, uint64_t *done, struct mb_error *err)
{
	LIBBPF_OPTS(bpf_map_batch_opts, opts, .elem_flags = flags);
	uint32_t at = 0;

	while (at < n) {
		uint32_t count = n - at;
		int code = bpf_map_update_batch(map->fd, keys + (size_t)at * map->info.key_size,
						values + (size_t)at * map->seen->size, &count,
						&opts) == 0 ?
				   0 :
				   errno;

		if (code && count == n - at)
			count = 0; /* refused as a whole: nothing was counted */
		at += count;
		*done += count;
		if (code && !count && no_batches(code))
			return at ? set_singly(map, keys + (size_t)at * map->info.key_size,
					       values + (size_t)at * map->seen->size, n - at, flags,
					       done, err) :
				    1;
		if (code && code != EINTR)
			return mb_map_refused(map, "set in map", code, err);
	}
	return 0;
}

int mb_map_set_many(struct mb_map *map, const void *keys, const void *values, uint32_t n,
		    uint64_t flags, uint64_t *done, struct mb_error *err)
{
	int rc = mb_map_begin(map, "set in map", MB_OP_SET, err);
	bool singly = !map->kind->batch || flags & (MB_MAP_NOEXIST | MB_MAP_EXIST);

	*done = 0;
	for (uint32_t at = 0; at < n && !rc; at += CHUNK) {
		const uint8_t *key = (const uint8_t *)keys + (size_t)at * map->info.key_size;
		const uint8_t *value = (const uint8_t *)values + (size_t)at * map->seen->size;
		uint32_t some = n - at < CHUNK ? n - at : CHUNK;

		if (!singly)
			singly = (rc = set_chunk(map, key, value, some, flags, done, err)) > 0;
		if (singly && rc >= 0)
			rc = set_singly(map, key, value, some, flags, done, err);
	}
	return rc;
}

/* The kernel stops at a key that is not there: the rest is another batch. 1: no batches here. */
static int delete_chunk(struct mb_map *map, const uint8_t *keys, uint32_t n, uint64_t *done,
			struct mb_error *err)
{
	LIBBPF_OPTS(bpf_map_batch_opts, opts);
	uint32_t at = 0;

	while (at < n) {
		uint32_t count = n - at;
		const uint8_t *from = keys + (size_t)at * map->info.key_size;
		int code = bpf_map_delete_batch(map->fd, from, &count, &opts) == 0 ? 0 : errno;

		if (code && count == n - at)
			count = 0;
		at += count;
		*done += count;
		if (code == ENOENT)
			at++;
		else if (code && !at && no_batches(code))
			return 1;
		else if (code && code != EINTR)
			return mb_map_refused(map, "delete from map", code, err);
	}
	return 0;
}

int mb_map_delete_many(struct mb_map *map, const void *keys, uint32_t n, uint64_t *done,
		       struct mb_error *err)
{
	int rc = mb_map_begin(map, "delete from map", MB_OP_DELETE, err);
	bool singly = !map->kind->batch;

	*done = 0;
	for (uint32_t at = 0; at < n && !rc; at += CHUNK) {
		const uint8_t *key = (const uint8_t *)keys + (size_t)at * map->info.key_size;
		uint32_t some = n - at < CHUNK ? n - at : CHUNK;

		if (!singly)
			singly = (rc = delete_chunk(map, key, some, done, err)) > 0;
		for (uint32_t i = 0; i < some && singly && rc >= 0; i++) {
			rc = mb_map_delete(map, key + (size_t)i * map->info.key_size, err);
			*done += rc > 0;
		}
		rc = rc < 0 ? rc : 0;
	}
	return rc;
}

/* ---- the whole map ---------------------------------------------------------------------------- */

int mb_map_count(struct mb_map *map, uint64_t *out, struct mb_error *err)
{
	struct mb_region *keys, *values;
	struct mb_map_iter *it;
	uint64_t total = 0;
	uint32_t n;
	int rc = mb_map_iter_new(map, 0, &it, err);

	if (rc)
		return rc;
	while (!(rc = mb_map_iter_next(it, &keys, &values, &n, err)) && n) {
		total += n;
		mb_region_unref(keys);
		mb_region_unref(values);
	}
	mb_map_iter_free(it);
	if (!rc)
		*out = total;
	return rc;
}

/* Arrays keep their entries: those become zero. */
static int clear_batch(struct mb_map *map, struct mb_region *keys, struct mb_region *values,
		       uint32_t n, uint64_t *done, struct mb_error *err)
{
	if (!map->kind->fixed)
		return mb_map_delete_many(map, keys->base, n, done, err);
	memset(values->base, 0, values->len);
	return mb_map_set_many(map, keys->base, values->base, n, 0, done, err);
}

/* Others may push meanwhile: as many as it has room for, and no more. */
static int empty_queue(struct mb_map *map, uint64_t *out, struct mb_error *err)
{
	uint8_t *value = malloc(map->seen->size);
	uint64_t n = 0;
	int rc = 1;

	if (!value)
		return mb_fail(err, ENOMEM, "clear map", map->name, "out of memory");
	while (n < map->info.max_entries && !mb_stop_asked() &&
	       (rc = mb_queue_pop(map, value, err)) > 0)
		n++;
	free(value);
	if (rc >= 0)
		*out = n;
	return rc < 0 ? rc : 0;
}

int mb_map_clear(struct mb_map *map, uint64_t *out, struct mb_error *err)
{
	struct mb_region *keys, *values;
	struct mb_map_iter *it;
	uint64_t total = 0, some;
	uint32_t n;
	int rc = mb_map_begin(map, "clear map", MB_OP_CLEAR, err);

	if (!rc && map->kind->keys == MB_KEYS_NONE)
		return empty_queue(map, out, err);
	if (!rc)
		rc = mb_map_iter_new(map, 0, &it, err);
	if (rc)
		return rc;
	while (!(rc = mb_map_iter_next(it, &keys, &values, &n, err)) && n) {
		rc = clear_batch(map, keys, values, n, &some, err);
		total += some;
		mb_region_unref(keys);
		mb_region_unref(values);
		if (rc)
			break;
	}
	mb_map_iter_free(it);
	if (!rc)
		*out = total;
	return rc;
}
