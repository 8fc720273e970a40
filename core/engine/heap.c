/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An allocator that counts. It takes the caller's word for a block's size, as Lua's contract says.
 */
#include "engine/heap.h"
#include "internal.h"

static MB_THREAD struct mb_heap *entered;

struct mb_heap *mb_heap_new(void)
{
	struct mb_heap *heap = calloc(1, sizeof(*heap));

	if (heap)
		heap->refs = 1;
	return heap;
}

struct mb_heap *mb_heap_ref(struct mb_heap *heap)
{
	heap->refs++;
	return heap;
}

void mb_heap_unref(struct mb_heap *heap)
{
	if (heap && !--heap->refs)
		free(heap);
}

struct mb_heap *mb_heap_enter(struct mb_heap *heap)
{
	struct mb_heap *before = entered;

	entered = heap;
	return before;
}

static bool has_room(const struct mb_heap *heap, size_t n)
{
	return !heap->limit || (heap->used <= heap->limit && n <= heap->limit - heap->used);
}

static void count(struct mb_heap *heap, size_t n)
{
	heap->used += n;
	if (heap->used > heap->peak)
		heap->peak = heap->used;
}

bool mb_heap_take(size_t n, struct mb_heap **account)
{
	*account = NULL;
	if (!entered)
		return true;
	if (!has_room(entered, n)) {
		entered->refused++;
		return false;
	}
	count(entered, n);
	*account = mb_heap_ref(entered);
	return true;
}

void mb_heap_give(struct mb_heap *account, size_t n)
{
	if (!account)
		return;
	account->used -= n;
	mb_heap_unref(account);
}

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
	if (size > before && !has_room(heap, size - before)) {
		heap->refused++;
		return NULL;
	}
	to = realloc(block, size);
	if (!to)
		return size <= before ? block : NULL;
	if (size > before)
		count(heap, size - before);
	else
		heap->used -= before - size;
	return to;
}
