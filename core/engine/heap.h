/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * heap.c: memory with a limit, in the form of Lua's allocator.
 */
#ifndef MB_HEAP_H
#define MB_HEAP_H

#include <stddef.h>
#include <stdint.h>

struct mb_heap {
	size_t used, peak;
	size_t limit;	  /* 0: none */
	uint64_t refused; /* how often */
};

/* Allocate, resize or (size 0) free. Refuses what would grow beyond the limit: NULL. before is the
 * block's size, or anything for none. What shrinks is never refused. */
void *mb_heap_alloc(void *heap, void *block, size_t before, size_t size);

#endif
