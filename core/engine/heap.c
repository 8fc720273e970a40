/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An allocator that counts. It takes the caller's word for a block's size, as Lua's contract says.
 *
 * A loop that looks at a map's entries makes a small block for each and leaves it to the collector,
 * which frees them by the thousand: more than malloc's own caches hold. So freed small blocks are kept
 * here, as many bytes as Lua uses and FLOOR more. All blocks are malloc's, and a small one has its
 * class's whole size; so it may grow or shrink from any size to any other.
 */
#include "engine/heap.h"
#include "internal.h"

#ifndef __has_feature
#define __has_feature(name) 0 /* clang's word */
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define KEEPS false /* a use after free must be seen to be one */
#else
#define KEEPS true
#endif
#define FLOOR (64u << 10)

static MB_THREAD struct mb_heap *entered;

/* ---- spare blocks -------------------------------------------------------------------------------- */

/* The classes' sizes are those of which glibc's malloc makes the most: 8, 24, 40, … */
static size_t class_of(size_t n)
{
	return (n + MB_HEAP_GRAIN / 2 - 1) / MB_HEAP_GRAIN;
}

static size_t class_size(size_t class)
{
	return class * MB_HEAP_GRAIN + MB_HEAP_GRAIN / 2;
}

/* A block of the class, or NULL: there is none. */
static void *spare_take(struct mb_heap *heap, size_t class)
{
	void *block = heap->spare[class];

	if (!block)
		return NULL;
	heap->spare[class] = *(void **)block;
	heap->kept -= class_size(class);
	return block;
}

static void spare_drop(struct mb_heap *heap)
{
	void *block;

	for (size_t class = 0; class < MB_HEAP_CLASSES; class ++)
		while ((block = spare_take(heap, class)) != NULL)
			free(block);
}

/* What is kept gives way to n bytes more, where both would be beyond the limit. */
static void spare_yield(struct mb_heap *heap, size_t n)
{
	if (heap->limit && heap->used + heap->kept + n > heap->limit)
		spare_drop(heap);
}

static void *block_new(struct mb_heap *heap, size_t size)
{
	size_t class = class_of(size);
	void *block = class < MB_HEAP_CLASSES ? spare_take(heap, class) : NULL;

	if (block)
		return block;
	spare_yield(heap, size);
	return malloc(class < MB_HEAP_CLASSES ? class_size(class) : size);
}

/* When more is kept than is used, one more of its class goes: what is kept shrinks with what is used. */
static void block_free(struct mb_heap *heap, void *block, size_t size)
{
	size_t class = class_of(size);

	if (class >= MB_HEAP_CLASSES || !KEEPS) {
		free(block);
		return;
	}
	if (heap->kept >= FLOOR + heap->used) {
		free(block);
		free(spare_take(heap, class));
		return;
	}
	*(void **)block = heap->spare[class];
	heap->spare[class] = block;
	heap->kept += class_size(class);
}

static void *block_resize(struct mb_heap *heap, void *block, size_t before, size_t size)
{
	size_t class = class_of(size);

	if (size > before)
		spare_yield(heap, size - before);
	if (class >= MB_HEAP_CLASSES)
		return realloc(block, size);
	return class == class_of(before) ? block : realloc(block, class_size(class));
}

/* ---- a heap ---------------------------------------------------------------------------------------- */

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
	if (!heap || --heap->refs)
		return;
	spare_drop(heap);
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
	spare_yield(entered, n);
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
		if (block)
			block_free(heap, block, before);
		heap->used -= before;
		return NULL;
	}
	if (size > before && !has_room(heap, size - before)) {
		heap->refused++;
		return NULL;
	}
	to = block ? block_resize(heap, block, before, size) : block_new(heap, size);
	if (!to && heap->kept) { /* the system has no more: what is kept may be what is missing */
		spare_drop(heap);
		to = block ? block_resize(heap, block, before, size) : block_new(heap, size);
	}
	if (!to && size > before)
		return NULL;
	if (!to)
		to = block; /* as large as it was */
	if (size > before)
		count(heap, size - before);
	else
		heap->used -= before - size;
	return to;
}
