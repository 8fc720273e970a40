/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reductions: bpf.sum and its kind over array views, m:sum and m:top over maps. The loops are the
 * engine's.
 */
#include <math.h>

#include "bind.h"
#include "engine/map_kind.h"

/* What is summed up: a field of the elements of an array, or the elements themselves. */
struct series {
	struct mb_view first; /* element 0, and */
	const struct mb_field *field;
	uint32_t stride, count;
};

static void push_result(lua_State *L, const struct mb_reduction *r)
{
	int last = 64;

	if (r->op != MB_REDUCE_HIST) {
		if (!r->count && r->op != MB_REDUCE_SUM)
			lua_pushnil(L);
		else if (r->is_float)
			lua_pushnumber(L, r->f);
		else
			lua_pushinteger(L, r->i);
		return;
	}
	while (last > 0 && !r->buckets[last])
		last--;
	lua_createtable(L, last, 3);
	for (int i = 0; i <= last; i++) {
		lua_pushinteger(L, (lua_Integer)r->buckets[i]);
		lua_rawseti(L, -2, i);
	}
	lua_pushinteger(L, (lua_Integer)r->negative);
	lua_setfield(L, -2, "negative");
	lua_pushinteger(L, (lua_Integer)r->count);
	lua_setfield(L, -2, "count");
}

/* The field at a path within elements of plan, or the element itself. */
static void find_field(lua_State *L, const struct mb_view *top, const char *path,
		       struct mb_view *at, const struct mb_field **field)
{
	MB_ERROR(err);

	if (mb_view_path(top, path, at, field, &err) != 0)
		mb_raise(L, &err);
}

static void check_number(lua_State *L, const struct mb_field *f, const char *what)
{
	MB_ERROR(err);

	if (mb_reduce_check(f, what, &err) != 0)
		mb_mistake(L, err.hint[0] ? err.hint : NULL, "%s '%s': %s", err.op, err.subject,
			   err.cause);
}

/* The path was resolved in element 0. In a flexible array it may reach over that element's end: the
 * last one's has to lie within the memory, too. */
static void check_last(lua_State *L, const struct series *s, const char *path)
{
	const struct mb_region *r = s->first.region;
	uint64_t last = (uint64_t)(s->count - 1) * s->stride;

	if (r->parts)
		r = r->parts[s->field->part];
	if (s->first.off + last + s->field->end > r->len)
		mb_mistake(L, NULL, "the last element has no '%s': it would lie outside of %s",
			   path, r->name);
}

static struct series series_arg(lua_State *L)
{
	const struct mb_view *v = mb_view_arg(L, 1);
	const char *path = luaL_optstring(L, 2, NULL);
	struct series s = { .first = *v };
	MB_ERROR(err);
	struct mb_view elem;

	if (v->plan->kind != MB_KIND_ARRAY)
		mb_mistake(L, NULL, "%s is no array", v->plan->name);
	s.stride = v->plan->stride;
	s.count = v->count;
	s.field = &v->plan->fields[0];
	if (mb_view_check(v, NULL, &err) != 0)
		mb_raise(L, &err);
	if (path && v->count) {
		if (s.field->enc != MB_ENC_NONE)
			mb_mistake(L, NULL, "%s has no fields: no '%s'", s.field->plan->name, path);
		if (mb_view_step(v, s.field, &elem, &err) != 0)
			mb_raise(L, &err);
		find_field(L, &elem, path, &s.first, &s.field);
		check_last(L, &s, path);
	}
	if (v->count || !path)
		check_number(L, s.field, path ? path : v->plan->name);
	return s;
}

static int reduce(lua_State *L, enum mb_reduce op)
{
	struct series s = series_arg(L);
	struct mb_reduction r;

	mb_reduce_init(&r, op, s.field);
	if (s.count)
		mb_reduce_run(&r, mb_view_at(&s.first, s.field), s.field, s.stride, s.count);
	push_result(L, &r);
	return 1;
}

/* sum(array [, path]) -> number      integers wrap at 64 bits, as in C */
static int lib_sum(lua_State *L)
{
	return reduce(L, MB_REDUCE_SUM);
}

/* min(array [, path]) -> number | nil: no elements */
static int lib_min(lua_State *L)
{
	return reduce(L, MB_REDUCE_MIN);
}

/* max(array [, path]) -> number | nil: no elements */
static int lib_max(lua_State *L)
{
	return reduce(L, MB_REDUCE_MAX);
}

/* hist(array [, path]) -> { [0] = zeros, [n] = how many of 2^(n-1) to 2^n - 1, negative =, count = } */
static int lib_hist(lua_State *L)
{
	return reduce(L, MB_REDUCE_HIST);
}

/* fill(array, value): every element; the value is checked before the first is written */
static int lib_fill(lua_State *L)
{
	const struct mb_view *v = mb_view_arg(L, 1);
	MB_ERROR(err);
	const struct mb_field *f;
	struct mb_view first;
	struct mb_value scalar;
	uint8_t *to, *from;

	luaL_checkany(L, 2);
	if (v->plan->kind != MB_KIND_ARRAY)
		return mb_mistake(L, NULL, "%s is no array", v->plan->name);
	f = &v->plan->fields[0];
	if (mb_view_check_store(v, NULL, &err) != 0)
		return mb_raise(L, &err);
	/* an element of our own, seen as element 0 */
	first = *v;
	first.region =
		mb_view_push_new(L, f->plan, f->plan->size, MB_REGION_WRITABLE, "value")->region;
	first.born = first.region->gen;
	first.off = 0;
	first.count = 1;
	mb_encode_field(L, 2, &first, f, MB_ENCODE_ASSIGN);
	from = first.region->base;
	if (mb_view_check_store(v, NULL, &err) != 0) /* a finalizer may have run */
		return mb_raise(L, &err);
	to = mb_view_at(v, f);
	if (f->enc != MB_ENC_NONE)
		mb_value_load(from, f, &scalar);
	for (uint32_t i = 0; i < v->count; i++, to += v->plan->stride)
		if (f->enc != MB_ENC_NONE)
			mb_value_store(to, f, &scalar);
		else
			memcpy(to, from, f->plan->size);
	return 0;
}

/* ---- maps ------------------------------------------------------------------------------------------ */

struct map_series {
	struct mb_map_iter *iter; /* freed by the box */
	struct mb_region *keys, *values;
	const struct mb_plan *key, *value; /* value: one CPU's */
	const struct mb_field *field;
	uint32_t off;	       /* of the field's aggregate in a value */
	uint32_t cpus, stride; /* 1 and 0 where there is one value */
	uint32_t span;
};

static const char *const BOX = "moonbee.reduction";

static int box_gc(lua_State *L)
{
	struct map_series *s = luaL_checkudata(L, 1, BOX);

	mb_region_unref(s->keys);
	mb_region_unref(s->values);
	mb_map_iter_free(s->iter);
	s->keys = s->values = NULL;
	s->iter = NULL;
	return 0;
}

/* Push a box with the walk in it. path: at index i, or none for a scalar value. */
static struct map_series *map_series(lua_State *L, struct mb_map *map, int i)
{
	const char *path = luaL_optstring(L, i, NULL);
	struct map_series *s;
	const struct mb_plan *seen;
	MB_ERROR(err);

	lua_settop(L, i);
	s = lua_newuserdatauv(L, sizeof(*s), 0);
	memset(s, 0, sizeof(*s));
	luaL_setmetatable(L, BOX);
	mb_map_need(L, map, MB_OP_WALK | MB_OP_GET);
	if (mb_map_kind(map)->holds != MB_HOLDS_DATA)
		mb_mistake(L, NULL, "%s '%s' has no numbers", mb_map_kind(map)->name,
			   mb_map_name(map));
	if (mb_map_plans(map, &s->key, &seen, &err) != 0 ||
	    mb_map_iter_new(map, 0, &s->iter, &err) != 0)
		mb_raise(L, &err);
	s->value = mb_map_value_plan(map);
	s->cpus = seen == s->value ? 1 : seen->count;
	s->stride = seen == s->value ? 0 : seen->stride;
	s->span = seen->size;
	if (s->value->enc == MB_ENC_NONE) {
		struct mb_region full = { .len = s->value->size, .refs = 1 };
		struct mb_view top = { &full, s->value, 0, 0, s->value->count }, at;

		if (!path)
			mb_mistake(L,
				   i == 2 ? "name a field: m:sum(\"bytes\")" :
					    "name a field: m:top(10, \"bytes\")",
				   "the value is %s", s->value->name);
		find_field(L, &top, path, &at, &s->field);
		s->off = at.off;
	} else if (path) {
		mb_mistake(L, NULL, "the value is %s and has no fields", s->value->name);
	} else {
		struct mb_field *whole = lua_newuserdatauv(L, sizeof(*whole), 0);

		*whole = (struct mb_field){ .plan = s->value,
					    .end = s->value->size,
					    .enc = s->value->enc };
		s->field = whole;
		lua_insert(L, -2); /* kept below the box */
	}
	check_number(L, s->field, path ? path : s->value->name);
	return s;
}

/* The next batch; 0: the end. */
static uint32_t next_batch(lua_State *L, struct map_series *s)
{
	MB_ERROR(err);
	uint32_t n;

	mb_region_unref(s->keys);
	mb_region_unref(s->values);
	s->keys = s->values = NULL;
	if (mb_map_iter_next(s->iter, &s->keys, &s->values, &n, &err) != 0)
		mb_raise(L, &err);
	return n;
}

/* map:sum([path]) -> number      over all entries, and all CPUs */
int mb_map_sum(lua_State *L)
{
	struct mb_map *map = mb_class_check(L, 1, &mb_map_class);
	struct map_series *s = map_series(L, map, 2);
	struct mb_reduction r;
	uint32_t n;

	mb_reduce_init(&r, MB_REDUCE_SUM, s->field);
	while ((n = next_batch(L, s)) > 0)
		for (uint32_t cpu = 0; cpu < s->cpus; cpu++)
			mb_reduce_run(&r, s->values->base + s->off + (size_t)cpu * s->stride,
				      s->field, s->span, n);
	push_result(L, &r);
	return 1;
}

/* reader:sum(path) -> sum, records      of what is there now, which is consumed by it */
int mb_reader_sum(lua_State *L)
{
	struct mb_reader *reader = mb_class_check(L, 1, &mb_reader_class);
	const char *path = luaL_checkstring(L, 2);
	const struct mb_plan *plan = mb_reader_plan(reader);
	const struct mb_field *field;
	MB_ERROR(err);
	struct mb_region full = { .refs = 1 };
	struct mb_view top = { .region = &full, .plan = plan }, at;
	struct mb_reduction r;

	if (!plan)
		return mb_mistake(L, "m:reader(\"struct event\") says what a record is",
				  "a reader without type has no fields");
	full.len = plan->size;
	find_field(L, &top, path, &at, &field);
	check_number(L, field, path);
	mb_reduce_init(&r, MB_REDUCE_SUM, field);
	if (mb_reader_reduce(reader, at.off, field, &r, &err) != 0)
		return mb_raise(L, &err);
	push_result(L, &r);
	lua_pushinteger(L, (lua_Integer)r.count);
	return 2;
}

/* One of the greatest: which entry of which batch, and its number. */
struct top {
	bool is_float, is_signed;
	int64_t i;
	double f;
	struct mb_region *key;
};

static bool less(const struct top *a, const struct top *b)
{
	if (a->is_float) /* what is no number is the least */
		return a->f < b->f || (isnan(a->f) && !isnan(b->f));
	return a->is_signed ? a->i < b->i : (uint64_t)a->i < (uint64_t)b->i;
}

/* Keep the heap's root the least of it. */
static void sift(struct top *heap, uint32_t n, uint32_t at)
{
	for (;;) {
		uint32_t least = at, kid = 2 * at + 1;
		struct top kept;

		if (kid < n && less(&heap[kid], &heap[least]))
			least = kid;
		if (kid + 1 < n && less(&heap[kid + 1], &heap[least]))
			least = kid + 1;
		if (least == at)
			return;
		kept = heap[at];
		heap[at] = heap[least];
		heap[least] = kept;
		at = least;
	}
}

static const char *const HEAP = "moonbee.heap";

struct heap {
	uint32_t n, room;
	struct top top[];
};

static int heap_gc(lua_State *L)
{
	struct heap *h = luaL_checkudata(L, 1, HEAP);

	for (uint32_t i = 0; i < h->n; i++)
		mb_region_unref(h->top[i].key);
	h->n = 0;
	return 0;
}

static struct heap *heap_new(lua_State *L, uint32_t room)
{
	struct heap *h = lua_newuserdatauv(L, sizeof(*h) + room * sizeof(h->top[0]), 0);

	h->n = 0;
	h->room = room;
	luaL_setmetatable(L, HEAP);
	return h;
}

static void keep(lua_State *L, struct heap *h, struct top *t, const struct mb_region *keys,
		 uint32_t i, uint32_t key_size)
{
	struct mb_region *key;

	if (h->n == h->room && !less(&h->top[0], t))
		return;
	key = mb_region_bytes(key_size, MB_REGION_SNAPSHOT, keys->name);
	if (!key)
		luaL_error(L, "not enough memory");
	memcpy(key->base, keys->base + (size_t)i * key_size, key_size);
	t->key = key;
	if (h->n < h->room) {
		h->top[h->n++] = *t;
		for (uint32_t at = h->n / 2; at-- > 0 && h->n == h->room;)
			sift(h->top, h->n, at);
		return;
	}
	mb_region_unref(h->top[0].key);
	h->top[0] = *t;
	sift(h->top, h->n, 0);
}

static int compare(const void *a, const void *b)
{
	return less(a, b) ? 1 : less(b, a) ? -1 : 0;
}

static void push_top(lua_State *L, const struct heap *h, const struct mb_plan *key)
{
	lua_createtable(L, (int)h->n, 0);
	for (uint32_t i = 0; i < h->n; i++) {
		const struct top *t = &h->top[i];
		struct mb_view view = { t->key, key, t->key->gen, 0, key->count };

		lua_createtable(L, 0, 2);
		mb_push_view(L, &view, 0);
		lua_setfield(L, -2, "key");
		if (t->is_float)
			lua_pushnumber(L, t->f);
		else
			lua_pushinteger(L, t->i);
		lua_setfield(L, -2, "value");
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
}

/* map:top(n [, path]) -> { { key =, value = }, … }: the n greatest, greatest first; of a per-CPU map
 * by the sum over CPUs */
int mb_map_top(lua_State *L)
{
	struct mb_map *map = mb_class_check(L, 1, &mb_map_class);
	lua_Integer room = luaL_checkinteger(L, 2);
	struct mb_map_info info;
	MB_ERROR(err);
	struct map_series *s;
	struct heap *h;
	uint32_t n;

	luaL_argcheck(L, room >= 1 && room <= 1000000, 2, "from 1 to 1000000");
	s = map_series(L, map, 3);
	if (mb_map_info(map, &info, &err) != 0)
		return mb_raise(L, &err);
	if (info.max_entries && room > info.max_entries) /* 0: local storage has no limit */
		room = info.max_entries;
	h = heap_new(L, (uint32_t)room);
	while ((n = next_batch(L, s)) > 0) {
		for (uint32_t i = 0; i < n; i++) {
			struct mb_reduction r;
			struct top t;

			mb_reduce_init(&r, MB_REDUCE_SUM, s->field);
			mb_reduce_run(&r, s->values->base + (size_t)i * s->span + s->off, s->field,
				      s->stride, s->cpus);
			t = (struct top){ r.is_float, r.is_signed, r.i, r.f, NULL };
			keep(L, h, &t, s->keys, i, s->key->size);
		}
	}
	qsort(h->top, h->n, sizeof(h->top[0]), compare);
	push_top(L, h, s->key);
	return 1;
}

void mb_reduce_open(lua_State *L)
{
	luaL_newmetatable(L, BOX);
	lua_pushcfunction(L, box_gc);
	lua_setfield(L, -2, "__gc");
	lua_pop(L, 1);
	luaL_newmetatable(L, HEAP);
	lua_pushcfunction(L, heap_gc);
	lua_setfield(L, -2, "__gc");
	lua_pop(L, 1);
}

const luaL_Reg mb_reduce_functions[] = {
	{ "sum", lib_sum },   { "min", lib_min },   { "max", lib_max },
	{ "hist", lib_hist }, { "fill", lib_fill }, { NULL, NULL },
};
