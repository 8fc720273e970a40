/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An allocator that counts. It takes the caller's word for a block's size, as Lua's contract says.
 */
#include "engine/heap.h"
#include "internal.h"

void *mb_heap_alloc(void *ud, void *block, size_t before, size_t size)
{
	struct mb_heap *heap = ud;
	void *to;

	if (!block)
		before = 0;
	if (!size) {
		free(block);
		heap->used -= before;
		return NULL;
	}
	if (size > before && heap->limit &&
	    (heap->used > heap->limit || size - before > heap->limit - heap->used)) {
		heap->refused++;
		return NULL;
	}
	to = realloc(block, size);
	if (!to)
		return size <= before ? block : NULL;
	heap->used += size - before;
	if (heap->used > heap->peak)
		heap->peak = heap->used;
	return to;
}
