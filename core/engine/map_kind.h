/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the kernel's map types can do, one row each: the operations that a type has, why it lacks the
 * others and what to use instead, what its keys stand for and what its values hold. It knows types
 * only, no maps' state.
 */
#ifndef MB_MAP_KIND_H
#define MB_MAP_KIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mb_error;
struct mb_map;

/* Operations, as bits. */
enum mb_map_op {
	MB_OP_GET = 1 << 0,
	MB_OP_TAKE = 1 << 1,
	MB_OP_SET = 1 << 2,
	MB_OP_DELETE = 1 << 3,
	MB_OP_WALK = 1 << 4,
	MB_OP_PUSH = 1 << 5,
	MB_OP_POP = 1 << 6,
	MB_OP_PEEK = 1 << 7, /* also: is it in there? */
	MB_OP_CLEAR = 1 << 8,
	MB_OP_WRITES = MB_OP_TAKE | MB_OP_SET | MB_OP_DELETE | MB_OP_PUSH | MB_OP_POP | MB_OP_CLEAR,
};

/* What user space gives for a key. */
enum mb_map_keys {
	MB_KEYS_PLAIN,
	MB_KEYS_NONE,
	MB_KEYS_TASK,  /* a process: the kernel wants a pidfd */
	MB_KEYS_FILE,  /* a file or cgroup: the kernel wants a fd */
	MB_KEYS_SOCKET /* a socket's fd */
};

/* What a value is: for all but data user space gives a fd. */
enum mb_map_holds {
	MB_HOLDS_DATA,
	MB_HOLDS_MAP,	  /* reads as its id */
	MB_HOLDS_PROGRAM, /* reads as its id */
	MB_HOLDS_FILE,	  /* a cgroup's or perf event's fd: reads not at all */
	MB_HOLDS_STACK,	  /* addresses, up to the first 0 */
};

struct mb_map_lack {
	uint32_t ops;
	const char *why;  /* after "queue 'q' " */
	const char *hint; /* what to use */
};

struct mb_map_kind {
	const char *name; /* "hash" */
	uint32_t ops;
	enum mb_map_keys keys;
	enum mb_map_holds holds;
	bool percpu;
	bool indexed; /* keys are 0 to max_entries - 1 */
	bool fixed;   /* its entries are always there: clearing sets them to zero */
	bool batch;   /* the kernel reads, writes and deletes many at once */
	bool sockets; /* values are sockets: only cookies of 8 bytes can be read */
	const struct mb_map_lack *lacks;
};

/* The row of a type; one that allows everything for those that are not known. Never NULL. */
const struct mb_map_kind *mb_map_kind_of(uint32_t type);
/* The type with this name, or -1. */
int mb_map_kind_find(const char *name);
/* The n-th type's name, "" for a gap, or NULL at the end: for mb_near. */
const char *mb_map_kind_nth(const void *unused, size_t n);
/* Of a map; also of a closed one. */
const struct mb_map_kind *mb_map_kind(const struct mb_map *map);
/* Has every map of the type all of these operations? false: mb_map_allow tells. */
static inline bool mb_map_kind_has(const struct mb_map_kind *kind, uint32_t ops)
{
	return !(ops & ~kind->ops) && !kind->sockets;
}
/* Has it all of these operations? -EOPNOTSUPP: cause and hint say why not, and what to use. */
int mb_map_allow(const struct mb_map *map, uint32_t ops, struct mb_error *err);

#endif
