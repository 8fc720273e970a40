/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The table of map types. Nothing here asks the kernel: what a type may have and this kernel has not
 * is told by the call itself.
 */
#include "engine/map_kind.h"

#include "internal.h"

#define KEYED (MB_OP_GET | MB_OP_SET | MB_OP_DELETE | MB_OP_WALK | MB_OP_CLEAR)
#define BY_KEY (MB_OP_GET | MB_OP_TAKE | MB_OP_SET | MB_OP_DELETE | MB_OP_WALK)
#define QUEUE (MB_OP_PUSH | MB_OP_POP | MB_OP_PEEK)
#define ALL (BY_KEY | QUEUE | MB_OP_CLEAR)

#define NO_QUEUE                                                                                   \
	{                                                                                          \
		QUEUE, "is no queue", "use m:set(key, value) and m:get(key)"                       \
	}
#define NO_TAKE                                                                                    \
	{                                                                                          \
		MB_OP_TAKE, "cannot take: reading and deleting are two steps here",                \
			"use m:get(key), then m:delete(key)"                                       \
	}
#define END                                                                                        \
	{                                                                                          \
		0, NULL, NULL                                                                      \
	}

static const struct mb_map_lack hash_lacks[] = { NO_QUEUE, END };
static const struct mb_map_lack keyed_lacks[] = { NO_QUEUE, NO_TAKE, END };
static const struct mb_map_lack array_lacks[] = {
	NO_QUEUE,
	{ MB_OP_DELETE, "deletes nothing: its entries are always there",
	  "set them to zero: m:set(key, 0), m:set(key, {}), or m:clear() for all" },
	{ MB_OP_TAKE, "cannot take: its entries are always there", "use m:get(key)" },
	END,
};
static const struct mb_map_lack queue_lacks[] = {
	{ BY_KEY, "has no keys", "use m:push(value), m:pop() and m:peek()" },
	END,
};
static const struct mb_map_lack bloom_lacks[] = {
	{ BY_KEY, "has no keys", "use m:push(value) to add and m:peek(value) to ask" },
	{ MB_OP_POP | MB_OP_CLEAR, "forgets nothing",
	  "use m:peek(value) to ask; only a new map is empty again" },
	END,
};
static const struct mb_map_lack ringbuf_lacks[] = {
	{ ALL, "has no keys", "use m:reader() for its events" },
	END,
};
static const struct mb_map_lack user_ringbuf_lacks[] = {
	{ ALL, "has no keys", "use m:writer() to send records to BPF programs" },
	END,
};
static const struct mb_map_lack perf_lacks[] = {
	NO_QUEUE,
	{ MB_OP_GET | MB_OP_TAKE | MB_OP_WALK | MB_OP_CLEAR, "has no values to read",
	  "use m:reader() for its events" },
	END,
};
static const struct mb_map_lack write_only_lacks[] = {
	NO_QUEUE,
	{ MB_OP_GET | MB_OP_TAKE | MB_OP_WALK | MB_OP_CLEAR,
	  "cannot be read: only BPF programs see what it holds",
	  "use m:set(key, fd) and m:delete(key)" },
	END,
};
/* Of sockmaps and their like with values of 4 bytes. */
static const struct mb_map_lack no_cookies = {
	MB_OP_GET | MB_OP_TAKE | MB_OP_WALK | MB_OP_CLEAR,
	"cannot be read, as its values have 4 bytes",
	"make them __u64 in C: reading then gives the sockets' cookies",
};
static const struct mb_map_lack stack_lacks[] = {
	NO_QUEUE,
	{ MB_OP_SET, "is filled by BPF programs", "use bpf_get_stackid() in C, and m:get(id)" },
	END,
};
static const struct mb_map_lack storage_lacks[] = {
	NO_QUEUE,
	NO_TAKE,
	{ MB_OP_WALK | MB_OP_CLEAR, "cannot be walked: it lies with its owners",
	  "ask for one owner by m:get(owner), or walk it by a BPF iterator program" },
	END,
};
static const struct mb_map_lack cgroup_storage_lacks[] = {
	NO_QUEUE,
	NO_TAKE,
	{ MB_OP_DELETE | MB_OP_CLEAR, "deletes nothing: entries go when the program is detached",
	  "set them to zero: m:set(key, {})" },
	END,
};
static const struct mb_map_lack struct_ops_lacks[] = {
	NO_QUEUE,
	NO_TAKE,
	{ MB_OP_SET | MB_OP_CLEAR, "is set before load, and then attached",
	  "use obj.maps.NAME.value.FIELD = … between bpf.open and obj:load()" },
	{ MB_OP_DELETE, "is taken out of use by detaching it", "use link:detach()" },
	END,
};
static const struct mb_map_lack arena_lacks[] = {
	{ ALL, "has no keys",
	  "it is memory of BPF programs: share data by a global variable or an array map" },
	END,
};

#define HASH .ops = BY_KEY | MB_OP_CLEAR, .batch = true, .lacks = hash_lacks
#define ARRAY                                                                                      \
	.ops = MB_OP_GET | MB_OP_SET | MB_OP_WALK | MB_OP_CLEAR, .batch = true, .indexed = true,   \
	.fixed = true, .lacks = array_lacks
#define STORAGE .ops = MB_OP_GET | MB_OP_SET | MB_OP_DELETE, .lacks = storage_lacks
#define CGROUP_STORAGE .ops = MB_OP_GET | MB_OP_SET | MB_OP_WALK, .lacks = cgroup_storage_lacks

static const struct mb_map_kind kinds[] = {
	[BPF_MAP_TYPE_HASH] = { "hash", HASH },
	[BPF_MAP_TYPE_ARRAY] = { "array", ARRAY },
	[BPF_MAP_TYPE_PROG_ARRAY] = { "prog_array", KEYED, .holds = MB_HOLDS_PROGRAM,
				      .indexed = true, .lacks = keyed_lacks },
	[BPF_MAP_TYPE_PERF_EVENT_ARRAY] = { "perf_event_array", MB_OP_SET | MB_OP_DELETE,
					    .holds = MB_HOLDS_FILE, .indexed = true,
					    .lacks = perf_lacks },
	[BPF_MAP_TYPE_PERCPU_HASH] = { "percpu_hash", HASH, .percpu = true },
	[BPF_MAP_TYPE_PERCPU_ARRAY] = { "percpu_array", ARRAY, .percpu = true },
	[BPF_MAP_TYPE_STACK_TRACE] = { "stack_trace",
				       MB_OP_GET | MB_OP_TAKE | MB_OP_DELETE | MB_OP_WALK |
					       MB_OP_CLEAR,
				       .holds = MB_HOLDS_STACK, .lacks = stack_lacks },
	[BPF_MAP_TYPE_CGROUP_ARRAY] = { "cgroup_array", MB_OP_SET | MB_OP_DELETE,
					.holds = MB_HOLDS_FILE, .indexed = true,
					.lacks = write_only_lacks },
	[BPF_MAP_TYPE_LRU_HASH] = { "lru_hash", HASH },
	[BPF_MAP_TYPE_LRU_PERCPU_HASH] = { "lru_percpu_hash", HASH, .percpu = true },
	[BPF_MAP_TYPE_LPM_TRIE] = { "lpm_trie", KEYED, .lacks = keyed_lacks },
	[BPF_MAP_TYPE_ARRAY_OF_MAPS] = { "array_of_maps", KEYED, .holds = MB_HOLDS_MAP,
					 .indexed = true, .lacks = keyed_lacks },
	[BPF_MAP_TYPE_HASH_OF_MAPS] = { "hash_of_maps", KEYED, .holds = MB_HOLDS_MAP,
					.lacks = keyed_lacks },
	[BPF_MAP_TYPE_DEVMAP] = { "devmap", KEYED, .indexed = true, .lacks = keyed_lacks },
	[BPF_MAP_TYPE_SOCKMAP] = { "sockmap", KEYED, .indexed = true, .sockets = true,
				   .lacks = keyed_lacks },
	[BPF_MAP_TYPE_CPUMAP] = { "cpumap", KEYED, .indexed = true, .lacks = keyed_lacks },
	[BPF_MAP_TYPE_XSKMAP] = { "xskmap", MB_OP_SET | MB_OP_DELETE, .indexed = true,
				  .lacks = write_only_lacks },
	[BPF_MAP_TYPE_SOCKHASH] = { "sockhash", KEYED, .sockets = true, .lacks = keyed_lacks },
	[BPF_MAP_TYPE_CGROUP_STORAGE] = { "cgroup_storage", CGROUP_STORAGE },
	[BPF_MAP_TYPE_REUSEPORT_SOCKARRAY] = { "reuseport_sockarray", KEYED, .indexed = true,
					       .sockets = true, .lacks = keyed_lacks },
	[BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE] = { "percpu_cgroup_storage", CGROUP_STORAGE,
						 .percpu = true },
	[BPF_MAP_TYPE_QUEUE] = { "queue", QUEUE | MB_OP_CLEAR, MB_KEYS_NONE, .lacks = queue_lacks },
	[BPF_MAP_TYPE_STACK] = { "stack", QUEUE | MB_OP_CLEAR, MB_KEYS_NONE, .lacks = queue_lacks },
	[BPF_MAP_TYPE_SK_STORAGE] = { "sk_storage", STORAGE, .keys = MB_KEYS_SOCKET },
	[BPF_MAP_TYPE_DEVMAP_HASH] = { "devmap_hash", KEYED, .lacks = keyed_lacks },
	[BPF_MAP_TYPE_STRUCT_OPS] = { "struct_ops", MB_OP_GET | MB_OP_WALK,
				      .lacks = struct_ops_lacks },
	[BPF_MAP_TYPE_RINGBUF] = { "ringbuf", 0, MB_KEYS_NONE, .lacks = ringbuf_lacks },
	[BPF_MAP_TYPE_INODE_STORAGE] = { "inode_storage", STORAGE, .keys = MB_KEYS_FILE },
	[BPF_MAP_TYPE_TASK_STORAGE] = { "task_storage", STORAGE, .keys = MB_KEYS_TASK },
	[BPF_MAP_TYPE_BLOOM_FILTER] = { "bloom_filter", MB_OP_PUSH | MB_OP_PEEK, MB_KEYS_NONE,
					.lacks = bloom_lacks },
	[BPF_MAP_TYPE_USER_RINGBUF] = { "user_ringbuf", 0, MB_KEYS_NONE,
					.lacks = user_ringbuf_lacks },
	[MB_TYPE_CGRP_STORAGE] = { "cgrp_storage", STORAGE, .keys = MB_KEYS_FILE },
	[MB_TYPE_ARENA] = { "arena", 0, MB_KEYS_NONE, .lacks = arena_lacks },
};
#define N (sizeof(kinds) / sizeof(kinds[0]))

const struct mb_map_kind *mb_map_kind_of(uint32_t type)
{
	static const struct mb_map_kind unknown = { .name = "unknown", .ops = ALL };

	return type < N && kinds[type].name ? &kinds[type] : &unknown;
}

const char *mb_map_kind_nth(const void *unused, size_t n)
{
	(void)unused;
	if (n >= N)
		return NULL;
	return kinds[n].name ? kinds[n].name : "";
}

int mb_map_kind_find(const char *name)
{
	for (size_t i = 0; i < N; i++)
		if (kinds[i].name && strcmp(kinds[i].name, name) == 0)
			return (int)i;
	return -1;
}

const struct mb_map_kind *mb_map_kind(const struct mb_map *map)
{
	return map->kind;
}

static const struct mb_map_lack *lack_of(const struct mb_map_kind *kind, uint32_t missing)
{
	for (const struct mb_map_lack *lack = kind->lacks; lack && lack->ops; lack++)
		if (lack->ops & missing)
			return lack;
	return NULL;
}

int mb_map_allow(const struct mb_map *map, uint32_t ops, struct mb_error *err)
{
	const struct mb_map_kind *kind = map->kind;
	const struct mb_map_lack *lack = NULL;

	if (ops & ~kind->ops)
		lack = lack_of(kind, ops & ~kind->ops);
	else if (kind->sockets && map->info.value_size == 4 && ops & no_cookies.ops)
		lack = &no_cookies;
	if (!lack)
		return 0;
	mb_fail(err, EOPNOTSUPP, "use map", map->name, "%s '%s' %s", kind->name, map->name,
		lack->why);
	mb_error_hint(err, "%s", lack->hint);
	return -EOPNOTSUPP;
}
