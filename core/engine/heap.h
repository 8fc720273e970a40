/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * heap.c: memory with a limit, in the form of Lua's allocator. One Lua state's, and one thread's at a time.
 */
#ifndef MB_HEAP_H
#define MB_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MB_HEAP_GRAIN 16
#define MB_HEAP_CLASSES 32

struct mb_heap {
	uint32_t refs;
	size_t used, peak;
	size_t limit;	  /* 0: none */
	uint64_t refused; /* how often */
	size_t kept;	  /* bytes of spare blocks; beside used, and with it below limit */
	void *spare[MB_HEAP_CLASSES]; /* lists: a block begins with the next one's address */
};

struct mb_heap *mb_heap_new(void); /* NULL: out of memory */
struct mb_heap *mb_heap_ref(struct mb_heap *heap);
void mb_heap_unref(struct mb_heap *heap);

/* On whose account the code at hand on this thread allocates beside Lua; NULL: nobody's. Returns the one
 * before. */
struct mb_heap *mb_heap_enter(struct mb_heap *heap);
/* Take n bytes from that account: false if it has not so many. *account is for giving them back; it is
 * kept alive until then. */
bool mb_heap_take(size_t n, struct mb_heap **account);
void mb_heap_give(struct mb_heap *account, size_t n);

/* Allocate, resize or (size 0) free. Refuses what would grow beyond the limit: NULL. before is the
 * block's size, or anything for none. What shrinks is never refused. */
void *mb_heap_alloc(void *heap, void *block, size_t before, size_t size);

#endif
