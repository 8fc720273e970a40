/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Maps without keys: queues, stacks and bloom filters.
 */
#include "engine/map_kind.h"

#include "internal.h"

int mb_queue_push(struct mb_map *map, const void *value, bool overwrite, struct mb_error *err)
{
	int rc = mb_map_begin(map, "push to map", MB_OP_PUSH, err), code;

	if (rc)
		return rc;
	/* BPF_EXIST is the kernel's word for: drop the oldest where it is full */
	if (bpf_map_update_elem(map->fd, NULL, value, overwrite ? BPF_EXIST : BPF_ANY) == 0)
		return 0;
	code = errno;
	if (code != E2BIG)
		return mb_map_refused(map, "push to map", code, err);
	mb_fail(err, code, "push to map", map->name, "it is full");
	mb_error_hint(err,
		      "it has room for %u values: pop some, or use m:push(value, \"overwrite\"), "
		      "which drops the oldest",
		      map->info.max_entries);
	return -code;
}

int mb_queue_pop(struct mb_map *map, void *value, struct mb_error *err)
{
	int rc = mb_map_begin(map, "pop from map", MB_OP_POP, err);

	if (rc)
		return rc;
	if (bpf_map_lookup_and_delete_elem(map->fd, NULL, value) == 0)
		return 1;
	return errno == ENOENT ? 0 : mb_map_refused(map, "pop from map", errno, err);
}

int mb_queue_peek(struct mb_map *map, void *value, struct mb_error *err)
{
	int rc = mb_map_begin(map, "peek into map", MB_OP_PEEK, err);

	if (rc)
		return rc;
	if (bpf_map_lookup_elem(map->fd, NULL, value) == 0)
		return 1;
	return errno == ENOENT ? 0 : mb_map_refused(map, "peek into map", errno, err);
}
