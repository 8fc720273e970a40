/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Lua values <-> typed memory. A table is walked twice: once to check all of it, once to write it,
 * so that a refused store has changed nothing. Access is raw, so only a finalizer of somebody's could
 * change the table or end the memory in between: hence the second walk checks again.
 */
#include <math.h>

#include "bind.h"

/* ---- out ------------------------------------------------------------------------------------------- */

/* char[] at the end of something. */
static void push_text(lua_State *L, const struct mb_view *view, const struct mb_field *f)
{
	MB_ERROR(err);
	struct mb_view sub;
	const char *text;

	if (mb_view_step(view, f, &sub, &err) != 0)
		mb_raise(L, &err);
	text = (const char *)sub.region->base + sub.off;
	lua_pushlstring(L, text, strnlen(text, sub.count));
}

void mb_push_field(lua_State *L, const struct mb_view *view, const struct mb_field *f, int owner)
{
	MB_ERROR(err);
	struct mb_value v;
	const uint8_t *base;

	if (f->enc == MB_ENC_NONE) {
		struct mb_view sub;

		if (mb_view_step(view, f, &sub, &err) != 0)
			mb_raise(L, &err);
		mb_view_push(L, &sub, owner);
		return;
	}
	if (f->enc == MB_ENC_TEXT) {
		push_text(L, view, f);
		return;
	}
	base = mb_view_peek(view, f);
	if (!base) {
		mb_view_check(view, f, &err);
		mb_raise(L, &err);
	}
	mb_value_load(base, f, &v);
	switch (v.kind) {
	case MB_VALUE_INT:
	case MB_VALUE_UINT:
		lua_pushinteger(L, v.i);
		return;
	case MB_VALUE_FLOAT:
		lua_pushnumber(L, v.f);
		return;
	case MB_VALUE_BOOL:
		lua_pushboolean(L, v.i != 0);
		return;
	case MB_VALUE_BYTES:
		lua_pushlstring(L, v.bytes, v.len);
		return;
	}
}

/* A plan as if it were the only field of something. */
static struct mb_field whole(const struct mb_plan *plan, const char *name)
{
	struct mb_field f = { .name = name, .plan = plan, .end = plan->size, .enc = plan->enc };

	return f;
}

void mb_push_view(lua_State *L, const struct mb_view *view, int owner)
{
	struct mb_field f;
	const uint8_t *base;
	int64_t i;

	if (view->plan->enc == MB_ENC_NONE) {
		mb_view_push(L, view, owner);
		return;
	}
	f = whole(view->plan, NULL);
	base = mb_view_peek(view, &f);
	if (base && mb_value_integer(base, &f, &i))
		lua_pushinteger(L, i);
	else
		mb_push_field(L, view, &f, owner);
}

/* How texts call a field of a view (NULL: the view); left on the stack. */
static const char *where(lua_State *L, const struct mb_view *view, const struct mb_field *f)
{
	return lua_pushstring(L, mb_view_where(view, f).text);
}

/* ---- in: scalars ------------------------------------------------------------------------------------- */

static const char *nth_enumerator(const void *ctx, size_t i)
{
	const struct mb_plan *p = ctx;

	return i < p->nenums ? p->enums[i].name : NULL;
}

static void enum_value(lua_State *L, int i, const struct mb_view *view, const struct mb_field *f,
		       struct mb_value *out)
{
	const char *name = lua_tostring(L, i), *near;

	out->kind = MB_VALUE_INT;
	if (mb_plan_enum_value(f->plan, name, &out->i) == 0)
		return;
	near = mb_near(name, nth_enumerator, f->plan);
	mb_mistake(L, near ? lua_pushfstring(L, "did you mean '%s'?", near) : NULL,
		   "store '%s': %s has no '%s'", where(L, view, f), f->plan->name, name);
}

static void number_value(lua_State *L, int i, struct mb_value *out)
{
	int whole_number;

	out->i = lua_tointegerx(L, i, &whole_number);
	out->kind = MB_VALUE_INT;
	if (whole_number)
		return;
	out->f = lua_tonumber(L, i);
	out->kind = MB_VALUE_FLOAT;
	if (out->f >= 0x1p63 && out->f < 0x1p64 && floor(out->f) == out->f) {
		out->i = (int64_t)(uint64_t)out->f;
		out->kind = MB_VALUE_UINT;
	}
}

static void to_value(lua_State *L, int i, const struct mb_view *view, const struct mb_field *f,
		     struct mb_value *out)
{
	switch (lua_type(L, i)) {
	case LUA_TNUMBER:
		number_value(L, i, out);
		return;
	case LUA_TBOOLEAN:
		out->kind = MB_VALUE_BOOL;
		out->i = lua_toboolean(L, i);
		return;
	case LUA_TSTRING:
		if (f->plan->kind == MB_KIND_ENUM) {
			enum_value(L, i, view, f, out);
		} else {
			out->kind = MB_VALUE_BYTES;
			out->bytes = lua_tolstring(L, i, &out->len);
		}
		return;
	default:
		mb_mistake(L, NULL, "store '%s': it is %s, and a %s is no value for that",
			   where(L, view, f), f->plan->name, luaL_typename(L, i));
	}
}

/* ---- in: aggregates ---------------------------------------------------------------------------------- */

struct sink {
	lua_State *L;
	enum mb_encode how;
	bool dry; /* only check */
};

static void put(struct sink *s, int i, const struct mb_view *view, const struct mb_field *f);

static void check(struct sink *s, int rc, struct mb_error *err)
{
	if (rc)
		mb_raise(s->L, err);
}

static void put_text(struct sink *s, const struct mb_view *view, const struct mb_field *f,
		     const struct mb_value *v)
{
	struct mb_view sub;
	MB_ERROR(err);
	uint8_t *to;

	check(s, mb_view_step(view, f, &sub, &err), &err);
	if (v->len > sub.count)
		mb_mistake(s->L, NULL, "store '%s': text of %d bytes, and there is room for %d",
			   where(s->L, view, f), (int)v->len, (int)sub.count);
	if (s->dry)
		return;
	to = sub.region->base + sub.off;
	memset(to + v->len, 0, sub.count - v->len);
	memcpy(to, v->bytes, v->len);
}

static void put_scalar(struct sink *s, int i, const struct mb_view *view, const struct mb_field *f)
{
	MB_ERROR(err);
	struct mb_value v;

	to_value(s->L, i, view, f, &v);
	check(s, mb_view_check_value(view, f, &v, &err), &err);
	check(s, mb_view_check_store(view, f, &err), &err);
	if (f->enc == MB_ENC_TEXT)
		put_text(s, view, f, &v);
	else if (!s->dry)
		mb_value_store(mb_view_at(view, f), f, &v);
}

/* The same bytes mean the same in both: names of types do not matter, typedefs have others. */
static bool same_layout(const struct mb_plan *a, const struct mb_plan *b)
{
	if (a == b)
		return true;
	if (a->size != b->size || a->kind != b->kind || a->enc != b->enc || a->count != b->count ||
	    a->stride != b->stride || a->nfields != b->nfields)
		return false;
	for (uint32_t i = 0; i < a->nfields && a->fields != b->fields; i++) {
		const struct mb_field *f = &a->fields[i], *g = &b->fields[i];

		if (f->off != g->off || f->bits != g->bits || f->shift != g->shift ||
		    strcmp(f->name ? f->name : "", g->name ? g->name : "") != 0 ||
		    !same_layout(f->plan, g->plan))
			return false;
	}
	return true;
}

static bool bytes_beyond(const uint8_t *bytes, size_t from, size_t to)
{
	while (from < to && !bytes[from])
		from++;
	return from < to;
}

/* From a view of the same type: its bytes. One that ends in a flexible array may be shorter. */
static void put_view(struct sink *s, const struct mb_view *from, const struct mb_view *to,
		     const struct mb_view *view, const struct mb_field *f)
{
	MB_ERROR(err);
	const uint8_t *bytes, *there;
	size_t len, room;

	if (!same_layout(from->plan, to->plan))
		mb_mistake(s->L, NULL, "store '%s': it is %s, and the view is %s",
			   where(s->L, view, f), to->plan->name, from->plan->name);
	check(s, mb_view_bytes(from, &bytes, &len, &err), &err);
	if (to->plan->flexible && from->count != to->count)
		mb_mistake(s->L, NULL, "store '%s': it has %d elements, and the view has %d",
			   where(s->L, view, f), (int)to->count, (int)from->count);
	check(s, mb_view_bytes(to, &there, &room, &err), &err);
	if (len > room && bytes_beyond(bytes, room, len))
		mb_mistake(s->L, NULL, "store '%s': it has room for %d bytes, and the view has %d",
			   where(s->L, view, f), (int)room, (int)len);
	if (s->dry)
		return;
	memmove(to->region->base + to->off, bytes, len < room ? len : room);
	if (len < room)
		memset(to->region->base + to->off + len, 0, room - len);
}

/* A string for an array of single bytes: a MAC address, an IPv6 address. */
static void put_bytes(struct sink *s, int i, const struct mb_view *to, const struct mb_view *view,
		      const struct mb_field *f)
{
	const struct mb_plan *p = to->plan;
	size_t len;
	const char *bytes = lua_tolstring(s->L, i, &len);

	if (p->kind != MB_KIND_ARRAY || p->fields[0].plan->size != 1 || len != to->count)
		mb_mistake(s->L, NULL, "store '%s': %s takes no string of %d bytes",
			   where(s->L, view, f), p->name, (int)len);
	if (!s->dry)
		memcpy(to->region->base + to->off, bytes, len);
}

static void zero(struct sink *s, const struct mb_view *to, uint32_t off, uint32_t len)
{
	MB_ERROR(err);

	if (s->dry || s->how == MB_ENCODE_UPDATE)
		return;
	check(s, mb_view_check_store(to, NULL, &err), &err);
	memset(to->region->base + to->off + off, 0, len);
}

/* A table with a key 0 is 0-based, else it is a sequence from 1: too long raises, too short fills
 * with zeros (an update leaves the rest alone). */
static void put_array(struct sink *s, int i, const struct mb_view *to)
{
	MB_ERROR(err);
	const struct mb_plan *p = to->plan;
	lua_Integer base;
	struct mb_view elem;

	base = lua_rawgeti(s->L, i, 0) == LUA_TNIL ? 1 : 0;
	lua_pop(s->L, 1);
	for (lua_pushnil(s->L); lua_next(s->L, i); lua_pop(s->L, 1)) {
		int whole_number;
		lua_Integer at = lua_tointegerx(s->L, -2, &whole_number);

		if (lua_type(s->L, -2) != LUA_TNUMBER || !whole_number)
			mb_mistake(s->L, NULL, "store '%s': elements of %s have numbers, not '%s'",
				   where(s->L, to, NULL), p->name, luaL_tolstring(s->L, -2, NULL));
		if (at < base || (uint64_t)(at - base) >= to->count)
			mb_mistake(s->L, NULL, "store '%s': %s has %d elements, none for [%d]",
				   where(s->L, to, NULL), p->name, (int)to->count, (int)at);
	}
	for (uint32_t n = 0; n < to->count; n++) {
		if (lua_rawgeti(s->L, i, base + n) == LUA_TNIL) {
			zero(s, to, n * p->stride, p->stride);
		} else {
			check(s, mb_view_elem(to, n, &elem, &err), &err);
			put(s, lua_gettop(s->L), &elem, &p->fields[0]);
		}
		lua_pop(s->L, 1);
	}
}

static bool is_named(struct sink *s, int i, const struct mb_field *f)
{
	bool there;

	lua_pushstring(s->L, f->name);
	there = lua_rawget(s->L, i) != LUA_TNIL;
	lua_pop(s->L, 1);
	return there;
}

/* Of members that share their bytes one is enough: is another one named that f overlaps? */
static bool is_covered(struct sink *s, int i, const struct mb_plan *p, const struct mb_field *f)
{
	for (uint32_t n = 0; n < p->nfields; n++) {
		const struct mb_field *g = &p->fields[n];

		if (g != f && g->is_union && g->off < f->end && f->off < g->end &&
		    is_named(s, i, g))
			return true;
	}
	return false;
}

/* What has no bytes (an empty struct, a flexible array) need not be named. */
static void check_all_named(struct sink *s, int i, const struct mb_view *to)
{
	const struct mb_plan *p = to->plan;

	for (uint32_t n = 0; n < p->nfields; n++) {
		const struct mb_field *f = &p->fields[n];

		if (f->end == f->off || is_named(s, i, f) ||
		    (f->is_union && is_covered(s, i, p, f)))
			continue;
		mb_mistake(s->L, "name every field, or use bpf.update to change only some",
			   "store '%s': field '%s' of %s is not named", where(s->L, to, NULL),
			   f->name, p->name);
	}
}

static void check_names(struct sink *s, int i, const struct mb_view *to)
{
	const struct mb_plan *p = to->plan;

	for (lua_pushnil(s->L); lua_next(s->L, i); lua_pop(s->L, 1)) {
		if (lua_type(s->L, -2) != LUA_TSTRING)
			mb_mistake(s->L, NULL, "store '%s': fields of %s have names, not a %s",
				   where(s->L, to, NULL), p->name, luaL_typename(s->L, -2));
		if (!mb_plan_field(p, lua_tostring(s->L, -2)))
			mb_view_no_field(s->L, to, lua_tostring(s->L, -2));
	}
}

/* In the order of the fields: of a union's members the last that is named stays. */
static void put_struct(struct sink *s, int i, const struct mb_view *to)
{
	const struct mb_plan *p = to->plan;

	if (s->dry)
		check_names(s, i, to);
	if (s->how == MB_ENCODE_ASSIGN && s->dry)
		check_all_named(s, i, to);
	if (s->how == MB_ENCODE_INIT)
		zero(s, to, 0, p->size);
	for (uint32_t n = 0; n < p->nfields; n++) {
		lua_pushstring(s->L, p->fields[n].name);
		if (lua_rawget(s->L, i) != LUA_TNIL)
			put(s, lua_gettop(s->L), to, &p->fields[n]);
		lua_pop(s->L, 1);
	}
}

static void put_table(struct sink *s, int i, const struct mb_view *to)
{
	if (to->plan->kind == MB_KIND_ARRAY)
		put_array(s, i, to);
	else
		put_struct(s, i, to);
}

static void put_aggregate(struct sink *s, int i, const struct mb_view *view,
			  const struct mb_field *f)
{
	MB_ERROR(err);
	const struct mb_view *from;
	struct mb_view to;

	luaL_checkstack(s->L, 8, "too deeply nested");
	check(s, mb_view_step(view, f, &to, &err), &err);
	check(s, mb_view_check_store(&to, NULL, &err), &err);
	from = mb_view_test(s->L, i);
	if (from)
		put_view(s, from, &to, view, f);
	else if (lua_type(s->L, i) == LUA_TSTRING)
		put_bytes(s, i, &to, view, f);
	else if (lua_type(s->L, i) != LUA_TTABLE)
		mb_mistake(s->L, NULL, "store '%s': it is %s and takes a table or a view, not a %s",
			   where(s->L, view, f), f->plan->name, luaL_typename(s->L, i));
	else
		put_table(s, i, &to);
}

static void put(struct sink *s, int i, const struct mb_view *view, const struct mb_field *f)
{
	if (f->enc == MB_ENC_NONE)
		put_aggregate(s, i, view, f);
	else
		put_scalar(s, i, view, f);
}

/* A store: what goes where. field NULL: the value is a table for the view as a whole. */
struct job {
	const struct mb_view *view;
	const struct mb_field *field;
	enum mb_encode how;
};

static void pass(lua_State *L, int i, const struct job *job, bool dry)
{
	struct sink s = { L, job->how, dry };

	if (job->field)
		put(&s, i, job->view, job->field);
	else
		put_table(&s, i, job->view);
}

static void encode(lua_State *L, int i, const struct job *job)
{
	i = lua_absindex(L, i);
	if (lua_type(L, i) == LUA_TTABLE)
		pass(L, i, job, true);
	pass(L, i, job, false);
}

void mb_encode_field(lua_State *L, int i, const struct mb_view *view, const struct mb_field *f,
		     enum mb_encode how)
{
	struct job job = { view, f, how };

	encode(L, i, &job);
}

void mb_encode_view(lua_State *L, int i, const struct mb_view *view, enum mb_encode how)
{
	struct job job = { view, NULL, how };

	encode(L, i, &job);
}

/* Raw bytes of the right size always fit, whatever the type; so does a view of that very type. */
static bool encode_whole(lua_State *L, int i, const struct mb_plan *plan, void *to,
			 const char *what)
{
	const struct mb_view *from = NULL;
	MB_ERROR(err);
	const uint8_t *bytes;
	size_t len;

	if (lua_type(L, i) == LUA_TSTRING) {
		bytes = (const uint8_t *)lua_tolstring(L, i, &len);
		if (len != plan->size)
			mb_mistake(L, NULL, "%s: %s has %d bytes, the string %d", what, plan->name,
				   (int)plan->size, (int)len);
	} else if (lua_type(L, i) == LUA_TUSERDATA && (from = mb_view_test(L, i)) &&
		   from->plan == plan) {
		if (mb_view_bytes(from, &bytes, &len, &err) != 0)
			mb_raise(L, &err);
	} else {
		return false;
	}
	/* a record may end within its type's padding */
	memset(to, 0, plan->size);
	memcpy(to, bytes, len < plan->size ? len : plan->size);
	return true;
}

void mb_encode_bytes(lua_State *L, int i, const struct mb_plan *plan, void *to, enum mb_encode how,
		     const char *what)
{
	struct mb_region region;
	struct mb_view view = { &region, plan, 0, 0, plan->count };
	struct mb_field f = whole(plan, what);

	if (plan->enc == MB_ENC_NONE && encode_whole(L, i, plan, to, what))
		return;
	if (mb_encode_integer(L, i, plan, to))
		return;
	memset(&region, 0, sizeof(region));
	region.base = to;
	region.len = plan->size;
	region.refs = 1;
	region.flags = MB_REGION_WRITABLE;
	region.whole = plan;
	mb_encode_field(L, i, &view, &f, how);
}
