/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A type laid over a region: stepping into fields and elements, atomics. Each call asks in
 * this order: is the memory still what it was, is the field within it, may it be written.
 */
#include "engine/hold.h"
#include "internal.h"

static struct mb_region *region_of(const struct mb_view *view, const struct mb_field *f)
{
	struct mb_region *r = view->region;

	return r->parts && f ? r->parts[f->part] : r;
}

int mb_view_check(const struct mb_view *view, const struct mb_field *f, struct mb_error *err)
{
	const struct mb_region *r = view->region;
	uint64_t end = f ? f->end : view->plan->size;

	if (r->gen != view->born) {
		mb_fail(err, ESTALE, "access", mb_view_where(view, f).text, "%s",
			r->ended ? r->ended : "what it looked at has ended");
		if (r->flags & MB_REGION_LEASE)
			mb_error_hint(err, "bpf.copy(ev) keeps an event beyond its turn");
		return -ESTALE;
	}
	r = region_of(view, f);
	if (view->off + end > r->len) {
		mb_fail(err, ERANGE, "access", mb_view_where(view, f).text,
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
	struct mb_region *r = region_of(view, f);
	int rc = mb_view_check(view, f, err);

	if (rc || r->flags & MB_REGION_WRITABLE)
		return rc;
	if (r->flags & MB_REGION_HELD)
		return mb_hold_store(r, mb_view_where(view, f).text, err);
	rc = mb_fail(err, EROFS, "write", mb_view_where(view, f).text, "%s is read-only%s", r->name,
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

int mb_view_check_value(const struct mb_view *view, const struct mb_field *f,
			const struct mb_value *value, struct mb_error *err)
{
	int rc = mb_value_check(f, value, err);

	if (rc && err)
		snprintf(err->subject, sizeof(err->subject), "%s", mb_view_where(view, f).text);
	return rc;
}

#define UNKNOWN SIZE_MAX

/* How many elements a flexible array has is known only from the memory it lies in: room bytes, or
 * the region's rest. In a view of a struct the count is that room, if known, for its last member. */
static uint32_t elements(const struct mb_view *view, size_t room)
{
	const struct mb_plan *p = view->plan;
	size_t rest = view->region->len > view->off ? view->region->len - view->off : 0;

	if (room < rest)
		rest = room;
	if (p->kind == MB_KIND_STRUCT || p->kind == MB_KIND_UNION)
		return room != UNKNOWN ? (uint32_t)rest : 0;
	if (!p->flexible)
		return p->count;
	rest /= p->stride;
	return rest > INT32_MAX ? INT32_MAX : (uint32_t)rest;
}

/* Bytes that belong to f's thing, if it may be longer than its type. */
static size_t room_of(const struct mb_view *view, const struct mb_field *f)
{
	uint32_t own = f->end - f->off;

	if (own > f->plan->size)
		return own;
	return view->plan->kind != MB_KIND_ARRAY && view->count && view->count >= f->off ?
		       view->count - f->off :
		       UNKNOWN;
}

int mb_view_init(struct mb_view *view, struct mb_region *region, uint32_t off,
		 const struct mb_plan *plan, struct mb_error *err)
{
	if (!region->parts && (uint64_t)off + plan->size > region->len)
		return mb_fail(err, ERANGE, "view", plan->name, "it needs %u bytes, %s has %zu",
			       plan->size, region->name, region->len > off ? region->len - off : 0);
	if (!off && !region->whole)
		region->whole = plan;
	*view = (struct mb_view){ region, plan, region->gen, off, 0 };
	view->count = elements(view, UNKNOWN);
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
		return mb_fail(err, EINVAL, "index", mb_view_where(view, NULL).text,
			       "it is %s, no array", p->name);
	if (index >= view->count)
		return mb_fail(err, ERANGE, "index", mb_view_where(view, NULL).text,
			       view->count ? "%s has no element %lld (0..%lld)" :
					     "%s has no element %lld: it is empty",
			       p->name, (long long)index, (long long)view->count - 1);
	*out = *view;
	out->off = view->off + (uint32_t)index * p->stride;
	out->plan = p;
	return mb_view_check(out, &p->fields[0], err);
}

bool mb_plan_tail(const struct mb_plan *p)
{
	const struct mb_field *last = p->nfields ? &p->fields[p->nfields - 1] : NULL;

	return p->kind == MB_KIND_STRUCT && last && last->plan->flexible;
}

size_t mb_plan_least(const struct mb_plan *plan)
{
	return mb_plan_tail(plan) ? plan->fields[plan->nfields - 1].off : plan->size;
}

/* Its type's size, or what it has with its flexible array: that may begin within the type's padding. */
static size_t bytes_of(const struct mb_view *view)
{
	const struct mb_plan *p = view->plan;
	size_t n = p->size;

	if (p->flexible)
		return (size_t)view->count * p->stride;
	if (!mb_plan_tail(p))
		return n;
	if (view->count)
		return view->count;
	if (view->region->flags & MB_REGION_LEASE &&
	    view->region->len >= view->off + mb_plan_least(p))
		return view->region->len - view->off;
	return n;
}

int mb_view_bytes(const struct mb_view *view, const uint8_t **bytes, size_t *len,
		  struct mb_error *err)
{
	size_t n = bytes_of(view);
	struct mb_field all = { .name = view->plan->name, .end = (uint32_t)n };
	int rc;

	if (view->region->parts)
		return mb_fail(err, EINVAL, "read bytes of", view->plan->name,
			       "it lies in several sections");
	rc = mb_view_check(view, n < view->plan->size ? &all : NULL, err);
	if (!rc && n > view->plan->size)
		rc = mb_view_check(view, &all, err);
	if (rc)
		return rc;
	*bytes = view->region->base + view->off;
	*len = n;
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
	int rc = mb_hold_atomic(region_of(view, f), mb_view_where(view, f).text, err);
	uint64_t v = (uint64_t)*value, old;
	uint8_t *at;

	if (!rc)
		rc = mb_view_check_store(view, f, err);
	if (rc)
		return rc;
	at = mb_view_at(view, f) + f->off;
	if (f->enc < MB_ENC_U8 || f->enc > MB_ENC_BOOL)
		return mb_fail(err, EINVAL, "change", mb_view_where(view, f).text,
			       "%s%s is no whole integer: no atomic operation", f->plan->name,
			       f->bits ? " bitfield" : "");
	if (f->enc == MB_ENC_BOOL && (op == MB_ATOMIC_ADD || op == MB_ATOMIC_SUB || v > 1))
		return mb_fail(err, EINVAL, "change", mb_view_where(view, f).text,
			       "%s is true or false, and would be neither", f->plan->name);
	if ((uintptr_t)at % f->plan->size)
		return mb_fail(err, EINVAL, "change", mb_view_where(view, f).text,
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
