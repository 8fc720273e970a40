/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fuzzes views: a type that compiled is laid over memory of a random length, mostly too short or
 * just long enough, and walked: fields, elements, paths, loads, stores, atomics, reductions. What a
 * view lets pass lies in the memory (whose end a sanitizer guards), what it refuses does not; after
 * the memory's end nothing is let pass.
 */
#include "btf.h"

#define MAX_LEN 4096u
#define MAX_WALK 4000 /* scalars looked at in one walk */

struct world {
	struct mb_region region;
	uint8_t *bytes; /* the allocation; base lies some bytes in it */
	struct input *in;
	int budget;
};

/* ---- memory ---------------------------------------------------------------------------------- */

/* Exactly len bytes up to the end of an allocation, aligned as it comes. */
static void region_make(struct world *w, size_t len, size_t shift, uint32_t flags)
{
	w->bytes = malloc(len + shift ? len + shift : 1);
	for (size_t i = 0; i < len + shift; i++)
		w->bytes[i] = (uint8_t)(i * 37 + 11);
	w->region = (struct mb_region){ .base = w->bytes + shift,
					.len = len,
					.gen = 7,
					.refs = 1,
					.flags = flags,
					.name = "memory" };
}

static bool within(const struct world *w, const uint8_t *p, size_t len)
{
	const struct mb_region *r = &w->region;

	return p >= r->base && len <= r->len && (size_t)(p - r->base) <= r->len - len;
}

static void expect_answer(int rc, struct mb_error *err, const char *what)
{
	EXPECT(!rc || (rc < 0 && rc == -err->code && err->op[0] && err->cause[0]),
	       "%s answers %d, says %d '%s'", what, rc, err->code, err->cause);
	mb_error_fini(err);
}

/* ---- one field ---------------------------------------------------------------------------------- */

static volatile uint8_t sink;

static void load(struct world *w, const struct mb_view *v, const struct mb_field *f, uint8_t *base)
{
	struct mb_value value;
	int64_t i;

	mb_value_load(base, f, &value);
	if (value.kind == MB_VALUE_BYTES) {
		const uint8_t *p = (const uint8_t *)value.bytes;

		EXPECT(value.len <= f->plan->size && within(w, p, value.len),
		       "%s: %zu bytes at %td", v->plan->name, value.len, p - w->region.base);
		for (size_t n = 0; n < value.len; n++)
			sink ^= p[n];
	}
	if (mb_value_integer(base, f, &i))
		EXPECT(i == value.i && value.kind <= MB_VALUE_UINT, "%s: %lld or %lld",
		       v->plan->name, (long long)i, (long long)value.i);
}

static void change(struct world *w, const struct mb_view *v, const struct mb_field *f,
		   uint8_t *base)
{
	struct mb_error err = { 0 };
	struct mb_value value;
	int64_t i = take8(w->in);
	int rc = mb_view_check_store(v, f, &err);

	EXPECT(!rc == mb_view_writable(v, f), "%s: check_store answers %d", v->plan->name, rc);
	expect_answer(rc, &err, "mb_view_check_store");
	if (rc)
		return;
	mb_value_load(base, f, &value);
	if (!mb_value_check(f, &value, NULL))
		mb_value_store(base, f, &value);
	mb_value_store_integer(base, f, i);
	memset(&err, 0, sizeof(err));
	rc = mb_view_atomic(v, f, (enum mb_atomic)take_below(w->in, 7), 3, &i, &err);
	expect_answer(rc, &err, "mb_view_atomic");
}

/* The checks agree with each other, and with where the field lies. */
static uint8_t *touch(struct world *w, const struct mb_view *v, const struct mb_field *f)
{
	struct mb_error err = { 0 };
	uint8_t *base = mb_view_peek(v, f);
	int rc = mb_view_check(v, f, &err);

	EXPECT(!rc == !!base, "%s: check answers %d, peek %s", v->plan->name, rc,
	       base ? "passes" : "refuses");
	expect_answer(rc, &err, "mb_view_check");
	if (!base)
		return NULL;
	EXPECT(within(w, base + f->off, f->end - f->off), "%s.%s: %u to %u from %td of %zu",
	       v->plan->name, f->name ? f->name : "[]", f->off, f->end, base - w->region.base,
	       w->region.len);
	if (f->enc != MB_ENC_NONE) {
		load(w, v, f, base);
		change(w, v, f, base);
	}
	return base;
}

/* ---- walking -------------------------------------------------------------------------------------- */

static void walk(struct world *w, const struct mb_view *v, unsigned int depth);

static void walk_field(struct world *w, const struct mb_view *v, const struct mb_field *f,
		       unsigned int depth)
{
	struct mb_error err = { 0 };
	struct mb_view next = { 0 };
	bool there = touch(w, v, f) != NULL;
	int rc;

	if (f->enc != MB_ENC_NONE)
		return;
	rc = mb_view_step(v, f, &next, &err);
	EXPECT(!rc == there, "%s.%s: step answers %d", v->plan->name, f->name ? f->name : "[]", rc);
	expect_answer(rc, &err, "mb_view_step");
	if (!rc)
		walk(w, &next, depth + 1);
}

static void reduce(struct world *w, const struct mb_view *v)
{
	const struct mb_field *f = v->plan->fields;
	enum mb_reduce op = (enum mb_reduce)take_below(w->in, 4);
	struct mb_reduction all, one;
	const uint8_t *bytes;
	struct mb_error err = { 0 };
	size_t len;
	int rc = mb_reduce_check(f, "it", &err);

	expect_answer(rc, &err, "mb_reduce_check");
	if (rc || mb_view_bytes(v, &bytes, &len, NULL) || !v->count || v->count > 4096 ||
	    (uint64_t)v->count * v->plan->stride > len)
		return;
	mb_reduce_init(&all, op, f);
	mb_reduce_init(&one, op, f);
	mb_reduce_run(&all, bytes, f, v->plan->stride, v->count);
	for (uint32_t i = 0; i < v->count; i++)
		mb_reduce_run(&one, bytes + (size_t)i * v->plan->stride, f, 1, 1);
	EXPECT(all.count == one.count && all.count == v->count, "%s: %llu reduced", v->plan->name,
	       (unsigned long long)all.count);
	EXPECT(all.i == one.i && memcmp(all.buckets, one.buckets, sizeof(all.buckets)) == 0,
	       "%s: %lld together, %lld one by one", v->plan->name, (long long)all.i,
	       (long long)one.i);
}

static void walk_array(struct world *w, const struct mb_view *v, unsigned int depth)
{
	uint64_t some[] = { 0, 1, (uint64_t)v->count - 1, take16(w->in) };
	struct mb_error err = { 0 };
	struct mb_view elem;
	int rc;

	reduce(w, v);
	for (size_t i = 0; i < sizeof(some) / sizeof(some[0]) && w->budget > 0; i++) {
		memset(&err, 0, sizeof(err));
		rc = mb_view_elem(v, some[i], &elem, &err);
		EXPECT(rc || some[i] < v->count, "%s: element %llu of %u", v->plan->name,
		       (unsigned long long)some[i], v->count);
		expect_answer(rc, &err, "mb_view_elem");
		if (!rc)
			walk_field(w, &elem, &elem.plan->fields[0], depth);
	}
	EXPECT(mb_view_elem(v, v->count, &elem, NULL) == -ERANGE, "%s: one element too many",
	       v->plan->name);
	EXPECT(mb_view_elem(v, (uint64_t)v->count + (1ULL << 32), &elem, NULL) == -ERANGE,
	       "%s: an index that wraps", v->plan->name);
}

static void walk(struct world *w, const struct mb_view *v, unsigned int depth)
{
	const uint8_t *bytes;
	size_t len;

	EXPECT(depth < 80, "views nest without end at %s", v->plan->name);
	if (!mb_view_bytes(v, &bytes, &len, NULL)) {
		EXPECT(within(w, bytes, len), "%s: %zu bytes at %td", v->plan->name, len,
		       bytes - w->region.base);
		if (len)
			sink ^= bytes[len - 1];
	}
	if (v->plan->kind == MB_KIND_ARRAY) {
		walk_array(w, v, depth);
		return;
	}
	for (uint32_t i = 0; i < v->plan->nfields && w->budget-- > 0; i++)
		walk_field(w, v, &v->plan->fields[i], depth);
}

/* ---- paths ---------------------------------------------------------------------------------------- */

/* Mostly a way that exists, by the fuzzer's choices; with a mistake in it now and then. */
static void make_path(struct world *w, const struct mb_plan *p, char *to, size_t room)
{
	size_t n = 0;

	to[0] = '\0';
	for (int step = 0; step < 8; step++) {
		uint8_t how = take8(w->in);
		const struct mb_field *f;

		if (!p->nfields || n + 40 > room)
			break;
		f = &p->fields[how % p->nfields];
		if (how == 255)
			n += (size_t)snprintf(to + n, room - n, "%c", take8(w->in));
		else if (p->kind == MB_KIND_ARRAY)
			n += (size_t)snprintf(to + n, room - n, "[%u]",
					      p->count && how < 240 ? how % p->count : how);
		else
			n += (size_t)snprintf(to + n, room - n, "%s%.30s", n ? "." : "", f->name);
		p = f->plan;
		if (p->enc != MB_ENC_NONE && how % 16)
			break;
	}
}

static void follow(struct world *w, const struct mb_view *v)
{
	const struct mb_field *f = NULL;
	struct mb_error err = { 0 };
	struct mb_view at;
	char path[256];
	int rc;

	make_path(w, v->plan, path, sizeof(path));
	rc = mb_view_path(v, path, &at, &f, &err);
	expect_answer(rc, &err, "mb_view_path");
	if (rc)
		return;
	if (f)
		touch(w, &at, f);
	else
		EXPECT(!path[0], "'%s' leads to no field", path);
}

/* ---- the end -------------------------------------------------------------------------------------- */

/* Nothing of what was may be touched; the memory is gone, so that a sanitizer sees who does. */
static void after_end(struct world *w, const struct mb_view *v)
{
	const struct mb_plan *p = v->plan;
	const struct mb_field *f;
	struct mb_view out;
	const uint8_t *bytes;
	int64_t i = 1;
	size_t len;

	mb_region_end(&w->region, "it is over");
	free(w->bytes);
	EXPECT(mb_view_check(v, NULL, NULL) == -ESTALE, "%s outlives its memory", p->name);
	EXPECT(mb_view_bytes(v, &bytes, &len, NULL) == -ESTALE, "%s: bytes outlive", p->name);
	for (uint32_t n = 0; n < p->nfields && n < 16; n++) {
		f = &p->fields[n];
		EXPECT(!mb_view_peek(v, f), "%s: peek after the end", p->name);
		EXPECT(mb_view_step(v, f, &out, NULL) == -ESTALE, "%s: step after the end",
		       p->name);
		EXPECT(mb_view_atomic(v, f, MB_ATOMIC_ADD, 0, &i, NULL) == -ESTALE,
		       "%s: atomic after the end", p->name);
	}
	if (p->kind == MB_KIND_ARRAY && v->count)
		EXPECT(mb_view_elem(v, 0, &out, NULL) == -ESTALE, "%s: element after the end",
		       p->name);
	follow(w, v);
}

/* ---- one input -------------------------------------------------------------------------------------- */

static size_t a_length(struct input *in, const struct mb_plan *p)
{
	uint8_t how = take8(in);

	if (how < 128 && p->size <= MAX_LEN)
		return p->size + (how < 64 ? 0 : how % 32);
	if (how < 160 && p->size && p->size <= MAX_LEN)
		return p->size - 1 - how % p->size;
	return how < 200 ? how % 40u : take_below(in, MAX_LEN);
}

/* A view of a plan, as objects and maps make it, or as readers do over a record of any length. */
static void one_view(const struct mb_plan *p, struct input *in)
{
	struct world w = { .in = in, .budget = MAX_WALK };
	uint8_t how = take8(in);
	size_t len = a_length(in, p);
	uint32_t off = how & 16 ? take_below(in, 64) : 0;
	struct mb_error err = { 0 };
	struct mb_view v;
	int rc;

	region_make(&w, len, how & 7, how & 8 ? MB_REGION_WRITABLE : MB_REGION_LEASE);
	rc = mb_view_init(&v, &w.region, off, p, &err);
	EXPECT(!rc == ((uint64_t)off + p->size <= len), "%s of %u bytes at %u of %zu: %d", p->name,
	       p->size, off, len, rc);
	expect_answer(rc, &err, "mb_view_init");
	if (rc && how & 32) {
		free(w.bytes);
		return;
	}
	if (rc)
		v = (struct mb_view){ &w.region, p, w.region.gen, 0, p->count };
	walk(&w, &v, 0);
	for (int i = take8(in) % 8; i > 0; i--)
		follow(&w, &v);
	after_end(&w, &v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = input_of(data, size);
	size_t len;
	uint8_t *raw = read_btf(&in, &len);
	struct mb_btf *btf = open_btf(raw, len);
	const struct mb_plan *p, *array;
	uint32_t n = 0;

	free(raw);
	if (!btf)
		return 0;
	while (n < 512 && mb_btf_plan(btf, n + 1, &p, NULL) != -EINVAL)
		n++;
	for (int i = 0; i < 24 && n; i++) {
		uint32_t id = 1 + (i ? take_below(&in, n) : n - 1);

		if (mb_btf_plan(btf, id, &p, NULL))
			continue;
		one_view(p, &in);
		if (p->size && p->size < 256 &&
		    !mb_plan_array(p, p->size + (take8(&in) & 8), 1 + take8(&in) % 8, &array, NULL))
			one_view(array, &in);
	}
	mb_btf_unref(btf);
	return 0;
}
