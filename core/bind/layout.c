/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two layouts as Lua sees them: diff tells what differs, carry takes values over by name.
 */
#include <errno.h>

#include "bind.h"
#include "engine/layout.h"

/* ---- differences as a table ---------------------------------------------------------------------- */

static const char *const changes[] = {
	[MB_CHANGE_ADDED] = "added",	     [MB_CHANGE_REMOVED] = "removed",
	[MB_CHANGE_MOVED] = "moved",	     [MB_CHANGE_TYPE] = "type",
	[MB_CHANGE_ENUM] = "enum",	     [MB_CHANGE_SIZE] = "size",
	[MB_CHANGE_PARAMETER] = "parameter",
};

static void set_text(lua_State *L, const char *name, const char *text)
{
	if (!*text)
		return;
	lua_pushstring(L, text);
	lua_setfield(L, -2, name);
}

static void set_place(lua_State *L, const char *name, bool there, uint32_t off)
{
	if (!there)
		return; /* a map's parameter, one that was added, one that is gone */
	lua_pushinteger(L, off);
	lua_setfield(L, -2, name);
}

static void push_difference(lua_State *L, const struct mb_difference *d, const char *what)
{
	char text[512];

	lua_createtable(L, 0, 9);
	if (what)
		set_text(L, "what", what);
	set_text(L, "change", changes[d->change]);
	lua_pushstring(L, d->field);
	lua_setfield(L, -2, "field");
	set_text(L, "was", d->was);
	set_text(L, "is", d->is);
	set_place(L, "was_offset", d->change != MB_CHANGE_ADDED && d->change != MB_CHANGE_PARAMETER,
		  d->was_off);
	set_place(L, "is_offset",
		  d->change != MB_CHANGE_REMOVED && d->change != MB_CHANGE_PARAMETER, d->is_off);
	lua_pushboolean(L, d->converts);
	lua_setfield(L, -2, "converts");
	mb_difference_text(d, text, sizeof(text));
	set_text(L, "text", text);
}

void mb_diff_push(lua_State *L, const struct mb_diff *diff, const char *what)
{
	for (size_t i = 0; i < diff->n; i++) {
		push_difference(L, &diff->list[i], what);
		lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
	}
}

/* ---- diff ------------------------------------------------------------------------------------------- */

static const struct mb_plan *plan_arg(lua_State *L, int i)
{
	const struct mb_plan *plan = mb_type_test(L, i);
	struct mb_view *view = plan ? NULL : mb_view_test(L, i);

	if (view)
		return view->plan;
	if (!plan)
		luaL_typeerror(L, i, "type, view or map");
	return plan;
}

struct scratch {
	struct mb_diff diff;
	struct mb_conversion *conversion;
};

static void scratch_fini(void *memory)
{
	struct scratch *s = memory;

	mb_diff_fini(&s->diff);
	mb_conversion_free(s->conversion);
}

/* diff(was, is) -> nil | { {change=, field=, …}, …, text= } */
static int lib_diff(lua_State *L)
{
	const struct mb_plan *was, *is;
	MB_ERROR(err);
	struct scratch *s;
	luaL_Buffer text;
	size_t len;
	char *to;
	int n;

	if (mb_class_test(L, 1, &mb_map_class))
		return mb_map_diff_lua(L);
	was = plan_arg(L, 1);
	is = plan_arg(L, 2);
	lua_settop(L, 2);
	s = mb_scratch_push(L, sizeof(struct scratch), scratch_fini);
	n = mb_layout_diff(was, is, &s->diff, &err);
	if (n < 0)
		return mb_raise(L, &err);
	if (!n)
		return 0;
	lua_createtable(L, n, 1);
	mb_diff_push(L, &s->diff, NULL);
	len = mb_diff_text(&s->diff, NULL, NULL, NULL, 0);
	to = luaL_buffinitsize(L, &text, len + 1);
	mb_diff_text(&s->diff, NULL, NULL, to, len + 1);
	luaL_pushresultsize(&text, len);
	lua_setfield(L, -2, "text");
	return 1;
}

/* ---- carry -------------------------------------------------------------------------------------------- */

struct carry {
	lua_State *L;
	const struct mb_view *to, *from;
	struct scratch *scratch;
	bool check; /* only */
	int carried, refused;
};

static bool by_field(const struct mb_plan *p)
{
	return p->kind == MB_KIND_STRUCT || p->kind == MB_KIND_SECTION || p->kind == MB_KIND_GROUP;
}

static void refuse(struct carry *c, const char *name, const char *why)
{
	lua_pushstring(c->L, why);
	lua_setfield(c->L, c->refused, name);
}

static void refuse_error(struct carry *c, const char *name, struct mb_error *err, const char *whole)
{
	bool path = err->subject[0] && strcmp(err->subject, "value") != 0 &&
		    strcmp(err->subject, whole) != 0;

	if (path)
		lua_pushfstring(c->L, "field '%s': %s", err->subject, err->cause);
	else
		lua_pushstring(c->L, err->cause);
	lua_setfield(c->L, c->refused, name);
	mb_error_fini(err);
}

/* A variable that ends in a flexible array is longer than its type: only as it is. */
static int carry_long(struct carry *c, const struct mb_field *from, const struct mb_field *to,
		      struct mb_error *err)
{
	uint32_t len = to->end - to->off;

	if (from->end - from->off != len || !mb_layout_same(from->plan, to->plan) ||
	    mb_layout_holds_managed(to->plan))
		return mb_fail(err, ENOTSUP, "convert", to->plan->name,
			       "it ends in an array whose length is not in its type");
	if (!c->check)
		memcpy(mb_view_at(c->to, to) + to->off, mb_view_at(c->from, from) + from->off, len);
	return 0;
}

static int carry_slot(struct carry *c, const struct mb_field *from, const struct mb_field *to,
		      struct mb_error *err)
{
	struct mb_conversion **conversion = &c->scratch->conversion;
	int rc = mb_view_check(c->from, from, err);

	if (!rc)
		rc = mb_view_check_store(c->to, to, err);
	if (rc)
		return rc;
	if (!to->bits && !from->bits &&
	    (to->end - to->off > to->plan->size || from->end - from->off > from->plan->size))
		return carry_long(c, from, to, err);
	rc = mb_conversion_slot(from, to, conversion, err);
	if (!rc)
		rc = mb_conversion_run(*conversion, mb_view_at(c->from, from),
				       c->check ? NULL : mb_view_at(c->to, to), err);
	mb_conversion_free(*conversion);
	*conversion = NULL;
	return rc;
}

static void carry_field(struct carry *c, const char *name, bool named)
{
	const struct mb_field *to = mb_plan_field(c->to->plan, name);
	const struct mb_field *from = mb_plan_field(c->from->plan, name);
	MB_ERROR(err);

	if (!from || !to) {
		if (named)
			refuse(c, name, from ? "it is gone" : "there was none");
		return;
	}
	if (!named && !mb_view_writable(c->to, to))
		return;
	if (mb_layout_managed(to->plan) || mb_layout_managed(from->plan)) {
		refuse(c, name, "it is the kernel's own");
		return;
	}
	if (carry_slot(c, from, to, &err) != 0) {
		refuse_error(c, name, &err, to->plan->name);
		return;
	}
	lua_pushstring(c->L, name);
	lua_rawseti(c->L, c->carried, (lua_Integer)lua_rawlen(c->L, c->carried) + 1);
}

static void carry_names(struct carry *c, int names)
{
	lua_Integer n = luaL_len(c->L, names);

	for (lua_Integer i = 1; i <= n; i++) {
		if (lua_geti(c->L, names, i) != LUA_TSTRING)
			mb_mistake(c->L, NULL, "names of carry are strings, not %s",
				   luaL_typename(c->L, -1));
		carry_field(c, lua_tostring(c->L, -1), true);
		lua_pop(c->L, 1);
	}
}

struct carry_options {
	bool check;
};

static const struct mb_option carry_options[] = {
	{ "names", LUA_TTABLE, 0 },
	{ "check", LUA_TBOOLEAN, offsetof(struct carry_options, check) },
	{ NULL, 0, 0 },
};

/* carry(to, from [, { names=, check= }]) -> carried, refused */
static int lib_carry(lua_State *L)
{
	struct carry c = { .L = L, .to = mb_view_arg(L, 1), .from = mb_view_arg(L, 2) };
	struct carry_options o = { 0 };

	lua_settop(L, 3);
	mb_options(L, 3, "carry", carry_options, &o);
	c.check = o.check;
	if (!by_field(c.to->plan) || !by_field(c.from->plan))
		return mb_mistake(L, NULL, "carry takes structs, sections or all variables, not %s",
				  by_field(c.to->plan) ? c.from->plan->name : c.to->plan->name);
	if (lua_isnil(L, 3))
		lua_pushnil(L);
	else
		lua_getfield(L, 3, "names");
	lua_newtable(L);
	lua_newtable(L);
	c.carried = 5;
	c.refused = 6;
	c.scratch = mb_scratch_push(L, sizeof(struct scratch), scratch_fini);
	if (!lua_isnil(L, 4))
		carry_names(&c, 4);
	else
		for (uint32_t i = 0; i < c.to->plan->nfields; i++)
			carry_field(&c, c.to->plan->fields[i].name, false);
	lua_pushvalue(L, 5);
	lua_pushvalue(L, 6);
	return 2;
}

const luaL_Reg mb_layout_functions[] = {
	{ "diff", lib_diff },
	{ "carry", lib_carry },
	{ NULL, NULL },
};
