/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A type laid over a region: stepping into fields and elements, paths, atomics. Each call asks in
 * this order: is the memory still what it was, is the field within it, may it be written.
 */
#include "internal.h"

static struct mb_region *region_of(const struct mb_view *view, const struct mb_field *f)
{
	struct mb_region *r = view->region;

	return r->parts && f ? r->parts[f->part] : r;
}

static const char *label(const struct mb_view *view, const struct mb_field *f)
{
	return f && f->name ? f->name : view->plan->name;
}

int mb_view_check(const struct mb_view *view, const struct mb_field *f, struct mb_error *err)
{
	const struct mb_region *r = view->region;
	uint64_t end = f ? f->end : view->plan->size;

	if (r->gen != view->born) {
		mb_fail(err, ESTALE, "access", label(view, f), "%s",
			r->ended ? r->ended : "what it looked at has ended");
		if (r->flags & MB_REGION_LEASE)
			mb_error_hint(err, "bpf.copy(ev) keeps an event beyond its turn");
		return -ESTALE;
	}
	r = region_of(view, f);
	if (view->off + end > r->len) {
		mb_fail(err, ERANGE, "access", label(view, f),
			"it ends at byte %llu, but %s has only %zu",
			(unsigned long long)(view->off + end), r->name, r->len);
		if (r->flags & MB_REGION_LEASE)
			mb_error_hint(err, "the record is shorter than %s", view->plan->name);
		return -ERANGE;
	}
	return 0;
}

int mb_view_check_store(const struct mb_view *view, const struct mb_field *f, struct mb_error *err)
{
	const struct mb_region *r = region_of(view, f);
	int rc = mb_view_check(view, f, err);

	if (rc || r->flags & MB_REGION_WRITABLE)
		return rc;
	rc = mb_fail(err, EROFS, "write", label(view, f), "%s is read-only%s", r->name,
		     r->flags & MB_REGION_SNAPSHOT ? ": a snapshot, the write would be lost" : "");
	if (r->flags & MB_REGION_SNAPSHOT && f && f->name)
		mb_error_hint(err, "use map:update(key, { %s = … }) or map:edit(key, fn)", f->name);
	else if (r->flags & MB_REGION_SNAPSHOT)
		mb_error_hint(err, "use map:set(key, value) or map:edit(key, fn)");
	else if (r->flags & MB_REGION_LEASE)
		mb_error_hint(err, "bpf.copy(ev) makes a value that can be changed");
	else if (r->fix)
		mb_error_hint(err, "%s", r->fix);
	return rc;
}

/* How many elements a flexible array has is known only from the memory it lies in: room bytes, or
 * the region's rest. In a view of a struct the count is that room, if known, for its last member. */
static uint32_t elements(const struct mb_view *view, size_t room)
{
	const struct mb_plan *p = view->plan;
	size_t rest = view->region->len > view->off ? view->region->len - view->off : 0;

	if (room && room < rest)
		rest = room;
	if (p->kind == MB_KIND_STRUCT || p->kind == MB_KIND_UNION)
		return room ? (uint32_t)rest : 0;
	if (p->kind != MB_KIND_ARRAY || !p->flexible)
		return p->count;
	rest /= p->stride;
	return rest > INT32_MAX ? INT32_MAX : (uint32_t)rest;
}

/* Bytes that belong to f's thing, if it may be longer than its type; else 0. */
static size_t room_of(const struct mb_view *view, const struct mb_field *f)
{
	uint32_t own = f->end - f->off;

	if (own > f->plan->size)
		return own;
	return view->plan->kind != MB_KIND_ARRAY && view->count > f->off ? view->count - f->off : 0;
}

int mb_view_init(struct mb_view *view, struct mb_region *region, uint32_t off,
		 const struct mb_plan *plan, struct mb_error *err)
{
	if (!region->parts && (uint64_t)off + plan->size > region->len)
		return mb_fail(err, ERANGE, "view", plan->name, "it needs %u bytes, %s has %zu",
			       plan->size, region->name, region->len > off ? region->len - off : 0);
	*view = (struct mb_view){ region, plan, region->gen, off, 0 };
	view->count = elements(view, 0);
	return 0;
}

int mb_view_step(const struct mb_view *view, const struct mb_field *f, struct mb_view *out,
		 struct mb_error *err)
{
	int rc = mb_view_check(view, f, err);
	struct mb_region *r;

	if (rc)
		return rc;
	r = region_of(view, f);
	*out = (struct mb_view){ r, f->plan, r->gen, view->off + f->off, 0 };
	out->count = elements(out, room_of(view, f));
	return 0;
}

int mb_view_elem(const struct mb_view *view, uint64_t index, struct mb_view *out,
		 struct mb_error *err)
{
	const struct mb_plan *p = view->plan;

	if (p->kind != MB_KIND_ARRAY)
		return mb_fail(err, EINVAL, "index", p->name, "it is no array");
	if (index >= view->count)
		return mb_fail(err, ERANGE, "index", p->name,
			       "index %lld is out of range (0..%lld)", (long long)index,
			       (long long)view->count - 1);
	*out = *view;
	out->off = view->off + (uint32_t)index * p->stride;
	out->plan = p;
	return mb_view_check(out, &p->fields[0], err);
}

static bool has_tail(const struct mb_plan *p)
{
	const struct mb_field *last = p->nfields ? &p->fields[p->nfields - 1] : NULL;

	return p->kind == MB_KIND_STRUCT && last && last->plan->flexible;
}

/* Its type's size, and what a flexible array has beyond that. */
static size_t bytes_of(const struct mb_view *view)
{
	const struct mb_plan *p = view->plan;
	size_t n = p->size;

	if (p->kind == MB_KIND_ARRAY && p->flexible)
		return (size_t)view->count * p->stride;
	if (!has_tail(p))
		return n;
	if (view->count > n)
		return view->count;
	if (view->region->flags & MB_REGION_LEASE && view->region->len > view->off + n)
		return view->region->len - view->off;
	return n;
}

int mb_view_bytes(const struct mb_view *view, const uint8_t **bytes, size_t *len,
		  struct mb_error *err)
{
	size_t n = bytes_of(view);
	int rc;

	if (view->region->parts)
		return mb_fail(err, EINVAL, "read bytes of", view->plan->name,
			       "it lies in several sections");
	rc = mb_view_check(view, NULL, err);
	if (rc)
		return rc;
	*bytes = view->region->base + view->off;
	*len = n;
	return 0;
}

/* ---- paths --------------------------------------------------------------------------------------- */

struct walk {
	const char *path, *at;
	struct mb_view view;
	const struct mb_field *field; /* the last step, not yet taken */
	struct mb_error *err;
};

static int walk_take(struct walk *w)
{
	struct mb_view next;
	int rc;

	if (!w->field)
		return 0;
	if (w->field->enc != MB_ENC_NONE)
		return mb_fail(w->err, EINVAL, "resolve", w->path, "'%s' is %s and has no members",
			       label(&w->view, w->field), w->field->plan->name);
	rc = mb_view_step(&w->view, w->field, &next, w->err);
	w->view = next;
	w->field = NULL;
	return rc;
}

static int walk_name(struct walk *w)
{
	size_t n = strcspn(w->at, ".[");
	bool hidden = false;
	const char *near;
	char name[128];
	int rc = walk_take(w);

	if (rc)
		return rc;
	if (!n || n >= sizeof(name))
		return mb_fail(w->err, EINVAL, "resolve", w->path, "a name is missing in it");
	memcpy(name, w->at, n);
	name[n] = '\0';
	w->at += n;
	w->field = w->view.plan->kind == MB_KIND_ARRAY ? NULL : mb_plan_field(w->view.plan, name);
	if (w->field)
		return 0;
	rc = mb_fail(w->err, ENOENT, "resolve", w->path, "no field '%s' in %s", name,
		     w->view.plan->name);
	near = mb_plan_near(w->view.plan, name);
	for (uint32_t i = 0; i < w->view.plan->nhidden; i++)
		if (strcmp(w->view.plan->hidden[i], name) == 0)
			hidden = true;
	if (hidden)
		mb_error_hint(w->err,
			      "it is static or hidden in C: only global variables are shown");
	else if (near)
		mb_error_hint(w->err, "did you mean '%s'?", near);
	return rc;
}

static int walk_index(struct walk *w)
{
	unsigned long long index;
	struct mb_view elem;
	char *end;
	int rc = walk_take(w);

	if (rc)
		return rc;
	errno = 0;
	index = strtoull(w->at + 1, &end, 10);
	if (w->at[1] < '0' || w->at[1] > '9' || *end != ']' || errno)
		return mb_fail(w->err, EINVAL, "resolve", w->path, "an index like [3] is expected");
	w->at = end + 1;
	rc = mb_view_elem(&w->view, index, &elem, w->err);
	if (rc)
		return rc;
	w->view = elem;
	w->field = &w->view.plan->fields[0];
	return 0;
}

int mb_view_path(const struct mb_view *view, const char *path, struct mb_view *out,
		 const struct mb_field **field, struct mb_error *err)
{
	struct walk w = { .path = path, .at = path, .view = *view, .err = err };
	int rc = 0;

	if (*w.at != '[')
		rc = walk_name(&w);
	while (!rc && *w.at) {
		if (*w.at == '[') {
			rc = walk_index(&w);
		} else if (*w.at == '.') {
			w.at++;
			rc = walk_name(&w);
		} else {
			rc = mb_fail(err, EINVAL, "resolve", path, "'%c' is not expected there",
				     *w.at);
		}
	}
	if (rc)
		return rc;
	*out = w.view;
	*field = w.field;
	return 0;
}

/* ---- atomics -------------------------------------------------------------------------------------- */

#define ATOMIC(bits)                                                                               \
	static uint64_t atomic_##bits(void *at, enum mb_atomic op, uint64_t expect, uint64_t v)    \
	{                                                                                          \
		uint##bits##_t *p = at, w = (uint##bits##_t)v, e = (uint##bits##_t)expect;         \
                                                                                                   \
		switch (op) {                                                                      \
		case MB_ATOMIC_ADD:                                                                \
			return __atomic_fetch_add(p, w, __ATOMIC_SEQ_CST);                         \
		case MB_ATOMIC_SUB:                                                                \
			return __atomic_fetch_sub(p, w, __ATOMIC_SEQ_CST);                         \
		case MB_ATOMIC_AND:                                                                \
			return __atomic_fetch_and(p, w, __ATOMIC_SEQ_CST);                         \
		case MB_ATOMIC_OR:                                                                 \
			return __atomic_fetch_or(p, w, __ATOMIC_SEQ_CST);                          \
		case MB_ATOMIC_XOR:                                                                \
			return __atomic_fetch_xor(p, w, __ATOMIC_SEQ_CST);                         \
		case MB_ATOMIC_XCHG:                                                               \
			return __atomic_exchange_n(p, w, __ATOMIC_SEQ_CST);                        \
		case MB_ATOMIC_CAS:                                                                \
			__atomic_compare_exchange_n(p, &e, w, false, __ATOMIC_SEQ_CST,             \
						    __ATOMIC_SEQ_CST);                             \
			return e;                                                                  \
		}                                                                                  \
		return 0;                                                                          \
	}

ATOMIC(8)
ATOMIC(16)
ATOMIC(32)
ATOMIC(64)

static int64_t old_value(uint64_t v, const struct mb_field *f)
{
	unsigned int up = 64 - f->plan->size * 8;

	return f->plan->is_signed ? (int64_t)(v << up) >> up : (int64_t)(v << up >> up);
}

int mb_view_atomic(const struct mb_view *view, const struct mb_field *f, enum mb_atomic op,
		   int64_t expect, int64_t *value, struct mb_error *err)
{
	int rc = mb_view_check_store(view, f, err);
	uint64_t v = (uint64_t)*value, old;
	uint8_t *at;

	if (rc)
		return rc;
	at = mb_view_at(view, f) + f->off;
	if (f->enc < MB_ENC_U8 || f->enc > MB_ENC_BOOL)
		return mb_fail(err, EINVAL, "change", label(view, f),
			       "%s%s is no whole integer: no atomic operation", f->plan->name,
			       f->bits ? " bitfield" : "");
	if (f->enc == MB_ENC_BOOL && (op == MB_ATOMIC_ADD || op == MB_ATOMIC_SUB || v > 1))
		return mb_fail(err, EINVAL, "change", label(view, f),
			       "%s is true or false, and would be neither", f->plan->name);
	if ((uintptr_t)at % f->plan->size)
		return mb_fail(err, EINVAL, "change", label(view, f),
			       "it is not aligned to %u bytes: no atomic operation", f->plan->size);
	switch (f->plan->size) {
	case 1:
		old = atomic_8(at, op, (uint64_t)expect, v);
		break;
	case 2:
		old = atomic_16(at, op, (uint64_t)expect, v);
		break;
	case 4:
		old = atomic_32(at, op, (uint64_t)expect, v);
		break;
	default:
		old = atomic_64(at, op, (uint64_t)expect, v);
	}
	*value = old_value(old, f);
	return 0;
}
