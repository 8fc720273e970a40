/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Making a map without an object. Types of key and value go along as BTF, so that others see them,
 * too; where the kernel wants none for that kind of map, the handle still knows them.
 */
#include <ctype.h>

#include "engine/hold.h"
#include "engine/map_kind.h"

#include "internal.h"

#define NAME_ROOM 16 /* BPF_OBJ_NAME_LEN */

/* ---- flags ------------------------------------------------------------------------------------ */

static const struct {
	const char *name;
	uint32_t bit;
} flags[] = {
	{ "no_prealloc", BPF_F_NO_PREALLOC },
	{ "no_common_lru", BPF_F_NO_COMMON_LRU },
	{ "rdonly", BPF_F_RDONLY },
	{ "wronly", BPF_F_WRONLY },
	{ "stack_build_id", BPF_F_STACK_BUILD_ID },
	{ "zero_seed", BPF_F_ZERO_SEED },
	{ "rdonly_prog", BPF_F_RDONLY_PROG },
	{ "wronly_prog", BPF_F_WRONLY_PROG },
	{ "clone", BPF_F_CLONE },
	{ "mmapable", BPF_F_MMAPABLE },
	{ "preserve_elems", BPF_F_PRESERVE_ELEMS },
	{ "inner_map", BPF_F_INNER_MAP },
};
#define NFLAGS (sizeof(flags) / sizeof(flags[0]))

uint32_t mb_map_flag(const char *name)
{
	for (size_t i = 0; i < NFLAGS; i++)
		if (strcmp(flags[i].name, name) == 0)
			return flags[i].bit;
	return 0;
}

const char *mb_map_flag_nth(const void *unused, size_t n)
{
	(void)unused;
	return n < NFLAGS ? flags[n].name : NULL;
}

/* ---- types -------------------------------------------------------------------------------------- */

static const struct {
	const char *names[4];
	uint32_t size;
	int encoding;
} scalars[] = {
	{ { "u8", "__u8", "uint8_t", "unsigned char" }, 1, 0 },
	{ { "u16", "__u16", "uint16_t", "unsigned short" }, 2, 0 },
	{ { "u32", "__u32", "uint32_t", "unsigned int" }, 4, 0 },
	{ { "u64", "__u64", "uint64_t", "unsigned long" }, 8, 0 },
	{ { "s8", "__s8", "int8_t", "signed char" }, 1, BTF_INT_SIGNED },
	{ { "s16", "__s16", "int16_t", "short" }, 2, BTF_INT_SIGNED },
	{ { "s32", "__s32", "int32_t", "int" }, 4, BTF_INT_SIGNED },
	{ { "s64", "__s64", "int64_t", "long" }, 8, BTF_INT_SIGNED },
	{ { "char", "char", "char", "char" }, 1, BTF_INT_SIGNED },
	{ { "bool", "_Bool", "bool", "bool" }, 1, BTF_INT_BOOL },
};

/* Add "u32" or "u32[4]"; its id, or a negative errno. */
static int add_named(struct btf *btf, const char *text)
{
	size_t n = strcspn(text, "[");
	char name[32], rest[4];
	uint32_t count;
	int id = -ENOENT;

	if (n >= sizeof(name))
		return -ENOENT;
	memcpy(name, text, n);
	name[n] = '\0';
	for (size_t i = 0; i < sizeof(scalars) / sizeof(scalars[0]) && id == -ENOENT; i++)
		for (size_t k = 0; k < 4; k++)
			if (strcmp(scalars[i].names[k], name) == 0) {
				id = btf__add_int(btf, name, scalars[i].size, scalars[i].encoding);
				break;
			}
	if (id < 0 || !text[n])
		return id;
	/* "[n]" and nothing else */
	if (!isdigit((unsigned char)text[n + 1]) ||
	    sscanf(text + n, "[%9u%3[]]", &count, rest) != 2 || strcmp(rest, "]") != 0 || !count ||
	    text[strlen(text) - 1] != ']' || strchr(text, ']') != text + strlen(text) - 1)
		return -ENOENT;
	return btf__add_array(btf, id, id, count);
}

struct types {
	struct btf *btf;
	const struct mb_btf *from; /* whose types are in it already, and */
	uint32_t base;		   /* by how much their ids have moved */
};

/* Ids of types that another BTF has: all of it goes along, since they refer to each other. */
static int add_plan(struct types *t, const struct mb_plan *plan)
{
	int first;

	if (!plan->id)
		return -ENOENT;
	if (t->from != plan->btf) {
		first = btf__add_btf(t->btf, plan->btf->btf);
		if (first < 0)
			return first;
		t->from = plan->btf;
		t->base = (uint32_t)first - 1;
	}
	return (int)(plan->id + t->base);
}

static int add_type(struct types *t, const struct mb_create_type *type, const char *what,
		    uint32_t *id, uint32_t *size, struct mb_error *err)
{
	int rc;

	*id = 0;
	*size = type->plan ? type->plan->size : type->bytes;
	if (!type->plan && !type->name)
		return 0;
	rc = type->plan ? add_plan(t, type->plan) : add_named(t->btf, type->name);
	if (rc == -ENOENT && type->plan) /* made by us: no type in BTF, so bytes for others */
		return 0;
	if (rc == -ENOENT) {
		mb_fail(err, EINVAL, "create map", what, "'%s' is no type that is known here",
			type->name);
		mb_error_hint(err, "u8 to u64, s8 to s64, char, bool, and arrays of them such as "
				   "\"char[16]\"; structs: obj.types[\"struct x\"]");
		return -EINVAL;
	}
	if (rc < 0)
		return mb_fail(err, rc, "create map", what, "%s", mb_error_text(-rc));
	*id = (uint32_t)rc;
	if (!type->plan) {
		int64_t bytes = btf__resolve_size(t->btf, *id);

		if (bytes < 0 || bytes > INT32_MAX)
			return mb_fail(err, ERANGE, "create map", what, "it is too large");
		*size = (uint32_t)bytes;
	}
	return 0;
}

/* ---- creating ---------------------------------------------------------------------------------- */

/* The kernel takes these characters only, and cuts the rest off. */
static void sanitize(const char *name, char *to)
{
	size_t n = 0;

	for (; name && *name && n < NAME_ROOM - 1; name++)
		to[n++] = isalnum((unsigned char)*name) || *name == '_' || *name == '.' ? *name :
											  '_';
	to[n] = '\0';
}

/* What the type demands and everybody forgets. */
static void complete(uint32_t type, struct mb_create *how)
{
	uint32_t pages, page = (uint32_t)sysconf(_SC_PAGESIZE);

	switch (type) {
	case BPF_MAP_TYPE_LPM_TRIE:
	case BPF_MAP_TYPE_SK_STORAGE:
	case BPF_MAP_TYPE_INODE_STORAGE:
	case BPF_MAP_TYPE_TASK_STORAGE:
	case MB_TYPE_CGRP_STORAGE:
		how->flags |= BPF_F_NO_PREALLOC;
		break;
	case MB_TYPE_ARENA:
		how->flags |= BPF_F_MMAPABLE;
		break;
	case BPF_MAP_TYPE_PERF_EVENT_ARRAY:
	case BPF_MAP_TYPE_CPUMAP:
		if (!how->max_entries)
			how->max_entries = (uint32_t)libbpf_num_possible_cpus();
		break;
	case BPF_MAP_TYPE_RINGBUF:
	case BPF_MAP_TYPE_USER_RINGBUF: /* a power of two pages */
		for (pages = 1; pages < how->max_entries / page + !!(how->max_entries % page);)
			pages *= 2;
		if (how->max_entries && pages <= UINT32_MAX / page)
			how->max_entries = pages * page;
		break;
	default:
		break;
	}
}

static bool is_storage(const struct mb_create *how)
{
	const struct mb_map_kind *kind = mb_map_kind_of((uint32_t)mb_map_kind_find(how->type));

	return kind->keys != MB_KEYS_PLAIN && kind->keys != MB_KEYS_NONE;
}

static void explain(const struct mb_create *how, int code, struct mb_error *err)
{
	mb_fail(err, code, "create map", how->name, "%s", mb_error_text(code));
	if (code == EINVAL && is_storage(how))
		mb_error_hint(err,
			      "a %s wants the key \"int\", a type for its value, and max_entries 0",
			      how->type);
	else if (code == EINVAL && !how->max_entries)
		mb_error_hint(err, "a %s wants max_entries", how->type);
	else if (code == EINVAL)
		mb_error_hint(err,
			      "the kernel has no %s of that key size, value size, max_entries "
			      "and flags",
			      how->type);
	else if (code == E2BIG)
		mb_error_hint(err, "max_entries or the sizes are beyond what a %s may have",
			      how->type);
}

static int create(uint32_t type, const struct mb_create *how, const char *name,
		  const struct types *t, const uint32_t ids[2], const uint32_t sizes[2],
		  struct mb_error *err)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = how->flags);
	struct mb_capture cap;
	int fd = -1;

	if (how->inner)
		opts.inner_map_fd = (uint32_t)how->inner->fd;
	mb_capture_begin(&cap); /* a BTF that the kernel refuses is no failure */
	if ((ids[0] || ids[1]) && btf__load_into_kernel(t->btf) == 0) {
		opts.btf_fd = (uint32_t)btf__fd(t->btf);
		opts.btf_key_type_id = ids[0];
		opts.btf_value_type_id = ids[1];
		fd = bpf_map_create(type, name, sizes[0], sizes[1], how->max_entries, &opts);
		opts.btf_fd = opts.btf_key_type_id = opts.btf_value_type_id = 0;
	}
	if (fd < 0)
		fd = bpf_map_create(type, name, sizes[0], sizes[1], how->max_entries, &opts);
	if (fd < 0) {
		fd = -errno;
		explain(how, -fd, err);
	}
	mb_capture_end(&cap, NULL);
	return fd;
}

/* Where the kernel keeps no types, the handle does. */
static int keep_types(struct mb_map *map, const struct types *t, const uint32_t ids[2],
		      struct mb_error *err)
{
	uint32_t len;
	const void *raw;
	int rc;

	if (map->info.btf_id || !(ids[0] || ids[1]) || map->kind->holds == MB_HOLDS_STACK)
		return 0;
	raw = btf__raw_data(t->btf, &len);
	if (!raw)
		return mb_fail(err, ENOMEM, "create map", map->name, "out of memory");
	mb_btf_unref(map->btf);
	map->btf = NULL;
	map->value_title = map->record_name = NULL; /* they lay in its memory */
	rc = mb_btf_new(raw, len, map->name, &map->btf, err);
	return rc ? rc : mb_map_make_plans(map, ids[0], ids[1], err);
}

static int check(const struct mb_create *how, int type, struct mb_error *err)
{
	const char *near;

	if (type < 0) {
		near = mb_near(how->type, mb_map_kind_nth, NULL);
		mb_fail(err, EINVAL, "create map", how->name, "there is no map type '%s'",
			how->type);
		if (near)
			mb_error_hint(err, "did you mean '%s'?", near);
		return -EINVAL;
	}
	if (type == BPF_MAP_TYPE_STRUCT_OPS) {
		mb_fail(err, EINVAL, "create map", how->name,
			"a struct_ops map belongs to the programs of an object");
		mb_error_hint(err, "declare it in C, in SEC(\".struct_ops.link\")");
		return -EINVAL;
	}
	if (mb_map_kind_of((uint32_t)type)->holds == MB_HOLDS_MAP && !how->inner) {
		mb_fail(err, EINVAL, "create map", how->name, "it holds maps: of what kind?");
		mb_error_hint(err, "inner = a map that is like those it will hold");
		return -EINVAL;
	}
	return how->inner ? mb_map_check(how->inner, "create map of", err) : 0;
}

int mb_map_create(const struct mb_create *asked, struct mb_map **out, struct mb_error *err)
{
	int type = mb_map_kind_find(asked->type), fd,
	    rc = mb_refuse("create map", asked->name, err);
	struct mb_create how = *asked;
	uint32_t ids[2], sizes[2];
	struct types t = { NULL, NULL, 0 };
	struct mb_map *map = NULL;
	char name[NAME_ROOM];

	if (!rc)
		rc = check(asked, type, err);
	if (rc)
		return rc;
	t.btf = btf__new_empty();
	if (!t.btf)
		return mb_fail(err, ENOMEM, "create map", how.name, "out of memory");
	sanitize(how.name, name);
	complete((uint32_t)type, &how);
	rc = add_type(&t, &how.key, "key", &ids[0], &sizes[0], err);
	if (!rc)
		rc = add_type(&t, &how.value, "value", &ids[1], &sizes[1], err);
	if (!rc) {
		fd = create((uint32_t)type, &how, name, &t, ids, sizes, err);
		rc = fd < 0 ? fd : mb_map_from_fd(fd, NULL, &map, err);
	}
	if (!rc)
		rc = keep_types(map, &t, ids, err);
	btf__free(t.btf);
	if (rc) {
		mb_map_unref(map);
		return rc;
	}
	*out = map;
	return 0;
}
