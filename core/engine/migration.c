/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From one map to another of a changed layout, while programs go on writing: the protocol is told in
 * migration.h. May it be, and what it needs; the work is migration_sweep.c's. It pins nothing: that is takeover.c's.
 */
#include "engine/hold.h"

#include "migrating.h"

/* ---- may it be? ---------------------------------------------------------------------------------------- */

enum family { FAMILY_NONE, FAMILY_HASH, FAMILY_ARRAY, FAMILY_TRIE };

static enum family family_of(uint32_t type)
{
	switch (type) {
	case BPF_MAP_TYPE_HASH:
	case BPF_MAP_TYPE_LRU_HASH:
	case BPF_MAP_TYPE_PERCPU_HASH:
	case BPF_MAP_TYPE_LRU_PERCPU_HASH:
		return FAMILY_HASH;
	case BPF_MAP_TYPE_ARRAY:
	case BPF_MAP_TYPE_PERCPU_ARRAY:
		return FAMILY_ARRAY;
	case BPF_MAP_TYPE_LPM_TRIE:
		return FAMILY_TRIE;
	default:
		return FAMILY_NONE;
	}
}

static int no_migration(struct mb_map *from, const char *why, struct mb_error *err)
{
	mb_fail(err, ENOTSUP, "migrate map", from->name, "%s", why);
	mb_error_hint(err, "on_mismatch = \"replace\" begins with an empty one");
	return -ENOTSUP;
}

static int compile(struct mb_map *from, struct mb_map *to, struct mb_conversion **key,
		   struct mb_conversion **value, struct mb_error *err)
{
	enum family a = family_of(from->info.type), b = family_of(to->info.type);
	MB_ERROR(why);
	int rc;

	if (a == FAMILY_NONE || a != b) {
		char text[160];

		snprintf(text, sizeof(text),
			 "a map of type %s has no entries that could go to one of "
			 "type %s",
			 mb_map_type_name(from->info.type), mb_map_type_name(to->info.type));
		return no_migration(from, text, err);
	}
	if (mb_map_is_percpu(from->info.type) != mb_map_is_percpu(to->info.type))
		return no_migration(from, "only one of the two has a value for each CPU", err);
	rc = mb_conversion_new(from->key, to->key, key, &why);
	if (!rc)
		rc = mb_conversion_new(from->seen, to->seen, value, &why);
	if (rc) {
		mb_fail(err, rc, "migrate map", from->name, "%s", why.cause);
		mb_error_hint(err, "%s", why.hint);
		mb_conversion_free(*key);
		*key = NULL;
	}
	mb_error_fini(&why);
	return rc;
}

int mb_migration_check(struct mb_map *from, struct mb_map *to, struct mb_error *err)
{
	struct mb_conversion *key = NULL, *value = NULL;
	int rc = compile(from, to, &key, &value, err);

	mb_conversion_free(key);
	mb_conversion_free(value);
	return rc;
}

/* ---- counters -------------------------------------------------------------------------------------------- */

/* The field that path names in a value; "" is the whole. */
static int find(struct mb_map *map, const char *path, struct mb_field *out, struct mb_error *err)
{
	const struct mb_plan *plan = map->value;
	struct mb_field whole = { .plan = plan, .end = plan->size, .enc = plan->enc };
	struct mb_region region = { .len = plan->size };
	struct mb_view view = { .region = &region, .plan = plan }, at;
	const struct mb_field *f;
	int rc;

	*out = whole;
	if (*path && plan->enc != MB_ENC_NONE)
		return mb_fail(err, EINVAL, "migrate map", map->name,
			       "its values have no fields: they are %s", plan->name);
	if (*path) {
		rc = mb_view_path(&view, path, &at, &f, err);
		if (rc)
			return rc;
		*out = *f;
		out->off += at.off;
		out->end += at.off;
	}
	if (out->plan->kind == MB_KIND_INT && !out->bits)
		return 0;
	return mb_fail(err, EINVAL, "migrate map", map->name, "'%s' is no counter but %s", path,
		       out->plan->name);
}

static int add_counter(struct mb_migration *m, const char *path, struct mb_error *err)
{
	struct counter *c = &m->counters[m->ncounters];
	int rc = find(m->from, path, &c->from, err);
	uint32_t size;

	if (!rc)
		rc = find(m->to, path, &c->to, err);
	if (rc)
		return rc;
	size = c->to.plan->size;
	if ((size != 4 && size != 8) || c->to.off % size)
		return mb_fail(err, EINVAL, "migrate map", m->to->name,
			       "'%s' cannot be added to: it is no aligned integer of 4 or 8 bytes",
			       path);
	memset(m->keep + c->to.off, KEEP_ADDEND, size);
	m->ncounters++;
	return 0;
}

static void mark_managed(uint8_t *keep, const struct mb_plan *plan, uint32_t off, uint32_t end)
{
	if (mb_layout_managed(plan) && off + plan->size <= end)
		memset(keep + off, KEEP_MANAGED, plan->size);
	else if (plan->kind == MB_KIND_ARRAY && mb_layout_holds_managed(plan))
		for (uint32_t i = 0; i < plan->count; i++)
			mark_managed(keep, plan->fields[0].plan, off + i * plan->stride, end);
	else if (plan->enc == MB_ENC_NONE && plan->kind != MB_KIND_ARRAY)
		for (uint32_t i = 0; i < plan->nfields; i++)
			mark_managed(keep, plan->fields[i].plan, off + plan->fields[i].off, end);
}

static int add_counters(struct mb_migration *m, const char *const *add, size_t n,
			struct mb_error *err)
{
	struct mb_addend addends[MAX_ADDENDS];
	int rc = 0;

	if (n > MAX_ADDENDS)
		return mb_fail(err, E2BIG, "migrate map", m->to->name,
			       "%zu counters are too many: at most %d", n, MAX_ADDENDS);
	for (size_t i = 0; i < n && !rc; i++)
		rc = add_counter(m, add[i], err);
	if (rc || !n)
		return rc;
	for (size_t i = 0; i < n; i++)
		addends[i] =
			(struct mb_addend){ m->counters[i].to.off, m->counters[i].to.plan->size };
	return mb_sum_new(m->to, addends, n, m->keep, &m->sum, err);
}

/* ---- making -------------------------------------------------------------------------------------------------- */

static bool has_lock(const struct mb_plan *value)
{
	for (uint32_t i = 0; value->kind == MB_KIND_STRUCT && i < value->nfields; i++)
		if (strcmp(value->fields[i].plan->name, "struct bpf_spin_lock") == 0)
			return true;
	return false;
}

static int allocate(struct mb_migration *m, struct mb_error *err)
{
	size_t key = m->to->info.key_size, value = m->to->seen->size;
	bool same = m->from->key->size == m->to->key->size &&
		    mb_layout_same(m->from->key, m->to->key);

	m->same_key = same;
	m->array = family_of(m->from->info.type) == FAMILY_ARRAY;
	m->from_lock = has_lock(m->from->value) ? BPF_F_LOCK : 0;
	m->lock = has_lock(m->to->value) ? BPF_F_LOCK : 0;
	m->shadow = mb_shadow_new(m->from->info.key_size, m->from->seen->size);
	m->keep = calloc(1, m->to->info.value_size);
	m->nkey = calloc(1, key);
	m->nvalue = calloc(1, value);
	m->written = calloc(1, value);
	m->there = calloc(1, value);
	m->zeros = calloc(1, m->from->seen->size);
	m->room = (uint32_t)(PENDING / (key + value));
	m->room = m->room ? m->room : 1;
	m->pending_keys = malloc(m->room * key);
	m->pending_values = malloc(m->room * value);
	if (m->pending_keys && m->pending_values && m->shadow && m->keep && m->nkey && m->nvalue &&
	    m->written && m->there && m->zeros)
		return 0;
	return mb_fail(err, ENOMEM, "migrate map", m->from->name, "out of memory");
}

int mb_migration_new(struct mb_map *from, struct mb_map *to, const char *const *add, size_t nadd,
		     struct mb_migration **out, struct mb_error *err)
{
	int rc = mb_map_check(from, "migrate map", err);
	struct mb_migration *m;

	if (!rc)
		rc = mb_map_check(to, "migrate map", err);
	if (!rc)
		rc = mb_refuse("migrate map", from->name, err);
	if (rc)
		return rc;
	if (from->info.id == to->info.id)
		return mb_fail(err, EINVAL, "migrate map", from->name, "it is the same map");
	m = calloc(1, sizeof(*m));
	if (!m)
		return mb_fail(err, ENOMEM, "migrate map", from->name, "out of memory");
	snprintf(m->name, sizeof(m->name), "%s", from->name);
	m->from = mb_map_ref(from);
	m->to = mb_map_ref(to);
	rc = compile(from, to, &m->key, &m->value, err);
	if (!rc)
		rc = allocate(m, err);
	if (!rc) {
		mark_managed(m->keep, to->value, 0, to->info.value_size);
		rc = add_counters(m, add, nadd, err);
	}
	if (rc) {
		mb_migration_free(m);
		return rc;
	}
	*out = m;
	return 0;
}

void mb_migration_close(struct mb_migration *m)
{
	if (m->closed)
		return;
	m->closed = true;
	mb_sum_free(m->sum);
	mb_conversion_free(m->key);
	mb_conversion_free(m->value);
	mb_shadow_free(m->shadow);
	free(m->keep);
	free(m->nkey);
	free(m->nvalue);
	free(m->written);
	free(m->there);
	free(m->zeros);
	free(m->pending_keys);
	free(m->pending_values);
	mb_map_unref(m->from);
	mb_map_unref(m->to);
}

bool mb_migration_closed(const struct mb_migration *m)
{
	return m->closed;
}

void mb_migration_free(struct mb_migration *m)
{
	if (m)
		mb_migration_close(m);
	free(m);
}

const struct mb_migration_report *mb_migration_report(const struct mb_migration *m)
{
	return &m->report;
}

const char *mb_migration_name(const struct mb_migration *m)
{
	return m->name;
}
