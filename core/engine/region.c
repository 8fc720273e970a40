/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A span of bytes with a life: who looks at it holds a reference, who ends it moves its generation
 * on, and the memory goes with the last reference. It knows nothing of types.
 */
#include "engine/heap.h"
#include "engine/hold.h"
#include "internal.h"

struct mb_region *mb_region_bytes(size_t len, uint32_t flags, const char *name)
{
	/* one allocation: bytes, aligned for any scalar, and name follow the header */
	size_t head = mb_round_up(sizeof(struct mb_region), 16);
	size_t body = mb_round_up(len ? len : 1, 8), tail = name ? strlen(name) + 1 : 1;
	struct mb_heap *account;
	struct mb_region *r;

	if (!mb_heap_take(head + body, &account))
		return NULL;
	r = calloc(1, head + body + tail);
	if (!r) {
		mb_heap_give(account, head + body);
		return NULL;
	}
	r->account = account;
	r->paid = head + body;
	r->base = (uint8_t *)r + head;
	r->name = memcpy(r->base + body, name ? name : "", tail);
	r->len = len;
	r->refs = 1;
	r->flags = flags;
	return r;
}

struct mb_region *mb_region_ref(struct mb_region *region)
{
	region->refs++;
	return region;
}

void mb_region_unref(struct mb_region *region)
{
	if (!region || --region->refs)
		return;
	if (region->drop)
		region->drop(region);
	mb_heap_give(region->account, region->paid);
	free(region);
}

void mb_region_end(struct mb_region *region, const char *why)
{
	region->gen++;
	region->ended = why;
	if (region->shadows)
		mb_region_moved(region);
	for (uint32_t i = 0; i < region->nparts; i++)
		if (region->parts[i])
			mb_region_end(region->parts[i], why);
}
