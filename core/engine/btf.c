/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * BTF and the memory of what is made from it. Plans and their names live as long as their btf; it
 * is a copy of our own, since libbpf's goes with the object. Compiling types is plan.c's.
 */
#include "internal.h"

struct chunk {
	struct chunk *next;
	size_t used, room;
	_Alignas(16) char bytes[];
};

void *mb_btf_alloc(struct mb_btf *btf, size_t size)
{
	struct chunk *c = btf->chunks;
	void *p;

	size = mb_round_up(size ? size : 1, 16);
	if (!c || c->room - c->used < size) {
		size_t room = size > 4096 ? size : 4096;

		c = calloc(1, sizeof(*c) + room);
		if (!c)
			return NULL;
		c->room = room;
		c->next = btf->chunks;
		btf->chunks = c;
	}
	p = c->bytes + c->used;
	c->used += size;
	return p;
}

char *mb_btf_strdup(struct mb_btf *btf, const char *s)
{
	size_t n = strlen(s) + 1;
	char *p = mb_btf_alloc(btf, n);

	if (p)
		memcpy(p, s, n);
	return p;
}

int mb_btf_wrap(struct btf *raw, const char *name, struct mb_btf **out, struct mb_error *err)
{
	struct mb_btf *btf = calloc(1, sizeof(*btf));

	if (!btf) {
		btf__free(raw);
		return mb_fail(err, ENOMEM, "read BTF", name, "out of memory");
	}
	btf->btf = raw;
	btf->refs = 1;
	btf->ntypes = raw ? btf__type_cnt(raw) : 0;
	btf->first = 1;
	snprintf(btf->name, sizeof(btf->name), "%s", name ? name : "?");
	btf->plans = calloc(btf->ntypes + 1, sizeof(btf->plans[0]));
	if (!btf->plans) {
		mb_btf_unref(btf);
		return mb_fail(err, ENOMEM, "read BTF", name, "out of memory");
	}
	*out = btf;
	return 0;
}

int mb_btf_new(const void *raw, size_t len, const char *name, struct mb_btf **out,
	       struct mb_error *err)
{
	struct mb_capture cap;
	struct btf *btf;
	int rc = 0;

	if (len > UINT32_MAX)
		return mb_fail(err, EFBIG, "read BTF", name, "%zu bytes are too many", len);
	mb_capture_begin(&cap);
	errno = 0;
	btf = len ? btf__new(raw, (uint32_t)len) : btf__new_empty();
	if (!btf)
		rc = mb_fail(err, mb_errno(), "read BTF", name, "libbpf cannot parse it");
	mb_capture_end(&cap, err);
	return rc ? rc : mb_btf_wrap(btf, name, out, err);
}

int mb_btf_by_id(uint32_t id, struct mb_btf **out, struct mb_error *err)
{
	char name[32];
	struct btf *btf;

	snprintf(name, sizeof(name), "BTF %u", id);
	errno = 0;
	btf = btf__load_from_kernel_by_id(id);
	if (!btf)
		return mb_fail(err, mb_errno(), "read BTF", name, "the kernel does not give it");
	return mb_btf_wrap(btf, name, out, err);
}

struct mb_btf *mb_btf_ref(struct mb_btf *btf)
{
	if (btf)
		btf->refs++;
	return btf;
}

struct kept {
	struct kept *next;
	struct mb_btf *btf;
};

int mb_btf_keep(struct mb_btf *btf, struct mb_btf *other)
{
	struct kept *k = mb_btf_alloc(btf, sizeof(*k));

	if (!k) {
		mb_btf_unref(other);
		return -ENOMEM;
	}
	*k = (struct kept){ btf->kept, other };
	btf->kept = k;
	return 0;
}

void mb_btf_unref(struct mb_btf *btf)
{
	if (!btf || --btf->refs)
		return;
	for (struct kept *k = btf->kept; k; k = k->next)
		mb_btf_unref(k->btf);
	while (btf->chunks) {
		struct chunk *c = btf->chunks;

		btf->chunks = c->next;
		free(c);
	}
	free(btf->plans);
	free(btf->heads);
	free(btf->nexts);
	btf__free(btf->btf);
	free(btf);
}

/* Through typedefs and qualifiers to the type itself; a chain longer than the BTF is a cycle. */
uint32_t mb_btf_skip(const struct btf *btf, uint32_t id)
{
	const struct btf_type *t = btf__type_by_id(btf, id);

	for (unsigned int hops = 0; t && hops < MB_MAX_DEPTH; hops++) {
		if (!btf_is_mod(t) && !btf_is_typedef(t))
			return id;
		id = t->type;
		t = btf__type_by_id(btf, id);
	}
	return 0;
}

static bool has_layout(const struct btf_type *t)
{
	return btf_is_int(t) || btf_is_composite(t) || btf_is_any_enum(t) || btf_is_typedef(t) ||
	       btf_kind(t) == BTF_KIND_FLOAT;
}

static const char *tag_of(const struct btf_type *t)
{
	switch (btf_kind(t)) {
	case BTF_KIND_STRUCT:
		return "struct ";
	case BTF_KIND_UNION:
		return "union ";
	case BTF_KIND_ENUM:
	case BTF_KIND_ENUM64:
		return "enum ";
	default:
		return "";
	}
}

/* ---- by name: an index where a walk over all types would be slow ---------------------------------- */

#define INDEX_FROM 4096 /* types */

static uint32_t hash_name(const struct mb_btf *btf, const char *name)
{
	uint32_t h = 2166136261u;

	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 16777619u;
	return (h ^ h >> 15) & btf->mask;
}

/* Chains by name, in the order of ids. Without memory for it there is the walk. */
static void make_index(struct mb_btf *btf)
{
	uint32_t n = btf->ntypes - btf->first, size = 1024;

	if (btf->heads || n < INDEX_FROM)
		return;
	while (size < n)
		size *= 2;
	btf->mask = size - 1;
	btf->heads = calloc(size, sizeof(*btf->heads));
	btf->nexts = calloc(n, sizeof(*btf->nexts));
	if (!btf->heads || !btf->nexts) {
		free(btf->heads);
		free(btf->nexts);
		btf->heads = btf->nexts = NULL;
		return;
	}
	for (uint32_t i = n; i-- > 0;) {
		const struct btf_type *t = btf__type_by_id(btf->btf, btf->first + i);
		const char *name = t ? mb_btf_raw_name(btf, t) : "";
		uint32_t at;

		if (!*name)
			continue;
		at = hash_name(btf, name);
		btf->nexts[i] = btf->heads[at];
		btf->heads[at] = i + 1;
	}
}

uint32_t mb_btf_named(struct mb_btf *btf, const char *name, uint32_t after)
{
	uint32_t i;

	make_index(btf);
	if (!btf->heads) {
		i = after < btf->first ? btf->first : after + 1;
		for (; i < btf->ntypes; i++)
			if (strcmp(mb_btf_raw_name(btf, btf__type_by_id(btf->btf, i)), name) == 0)
				return i;
		return 0;
	}
	i = after < btf->first ? btf->heads[hash_name(btf, name)] : btf->nexts[after - btf->first];
	for (; i; i = btf->nexts[i - 1]) {
		const struct btf_type *t = btf__type_by_id(btf->btf, btf->first + i - 1);

		if (strcmp(mb_btf_raw_name(btf, t), name) == 0)
			return btf->first + i - 1;
	}
	return 0;
}

static uint32_t find_with_tag(struct mb_btf *btf, const char *name, const char *tag)
{
	if (!*name)
		return 0;
	for (uint32_t id = mb_btf_named(btf, name, 0); id; id = mb_btf_named(btf, name, id)) {
		const struct btf_type *t = btf__type_by_id(btf->btf, id);

		if (has_layout(t) && (!*tag || strcmp(tag_of(t), tag) == 0))
			return id;
	}
	return 0;
}

/*
 * "struct flow" wants that kind, "flow" takes the first that has the name. BTF that no compiler made
 * may call an integer "struct flow".
 */
static uint32_t find_id(struct mb_btf *btf, const char *name)
{
	static const char *const tags[] = { "struct ", "union ", "enum " };

	for (size_t i = 0; i < 3; i++) {
		size_t n = strlen(tags[i]);
		uint32_t id = strncmp(name, tags[i], n) ? 0 : find_with_tag(btf, name + n, tags[i]);

		if (id)
			return id;
	}
	return find_with_tag(btf, name, "");
}

/* The compiler leaves out what nothing refers to: the line of C that keeps a type. */
static void hint_keep(const char *name, struct mb_error *err)
{
	const char *space = strrchr(name, ' '), *bare = space ? space + 1 : name;

	if (strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_ ") !=
		    strlen(name) ||
	    !*bare || (*bare >= '0' && *bare <= '9'))
		mb_error_hint(err, "only types that the program uses are in its BTF");
	else
		mb_error_hint(
			err,
			"only types that the program uses are in its BTF; if C knows it, this "
			"line keeps it: %s *keep_%s __attribute__((unused));",
			name, bare);
}

int mb_btf_find(struct mb_btf *btf, const char *name, const struct mb_plan **out,
		struct mb_error *err)
{
	uint32_t id = find_id(btf, name);
	const struct mb_plan *found;
	const char *near;
	int rc;

	if (id)
		return mb_btf_plan(btf, id, out, err);
	rc = mb_fail(err, ENOENT, "find type", name, "no such type in the BTF of %s", btf->name);
	near = mb_btf_near(btf, name);
	if (near && mb_btf_plan(btf, find_id(btf, near), &found, NULL) == 0)
		mb_error_hint(err, "did you mean '%s'?", found->name);
	else
		hint_keep(name, err);
	return rc;
}

int mb_btf_next(struct mb_btf *btf, uint32_t *cursor, const char **name)
{
	for (uint32_t id = *cursor + 1; id < btf->ntypes; id++) {
		const struct btf_type *t = btf__type_by_id(btf->btf, id);
		const struct mb_plan *plan;

		if (!t || !t->name_off || !has_layout(t))
			continue;
		if (mb_btf_plan(btf, id, &plan, NULL) != 0)
			continue;
		*cursor = id;
		*name = plan->name;
		return 1;
	}
	return 0;
}

static const char *nth_type(const void *ctx, size_t i)
{
	const struct mb_btf *btf = ctx;
	const struct btf_type *t;

	if (i + 1 >= btf->ntypes)
		return NULL;
	t = btf__type_by_id(btf->btf, (uint32_t)i + 1);
	return t && has_layout(t) && t->name_off ? btf__name_by_offset(btf->btf, t->name_off) : "";
}

const char *mb_btf_near(struct mb_btf *btf, const char *name)
{
	static const char *const tags[] = { "struct ", "union ", "enum " };

	for (size_t i = 0; i < 3; i++)
		if (strncmp(name, tags[i], strlen(tags[i])) == 0)
			name += strlen(tags[i]);
	return mb_near(name, nth_type, btf);
}
