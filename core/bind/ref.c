/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A bound accessor: one scalar, found once, for hot loops and atomics.
 */
#include "bind.h"

/* What Lua has is a table, its methods closures over the userdata: a method of a table is found
 * faster than one of a userdata, and nothing about the caller needs to be asked. `local get =
 * ref.get` is faster still. Methods are made when first used. */
static const char *const CLASS = "moonbee.ref", *const SELF = "moonbee.ref.self";
static const char self_key; /* in the table: the userdata */

struct ref_ud {
	struct mb_view v;
	const struct mb_field *f;
	uint64_t end; /* bytes that its region must have */
	uint32_t at;  /* where in it the scalar starts */
	uint8_t enc;
};

static inline struct ref_ud *self(lua_State *L)
{
	return lua_touserdata(L, lua_upvalueindex(1));
}

/* With the userdata on top: push what a method's closure has, its address, which is found faster,
 * and then itself, which keeps it. */
static void bind_self(lua_State *L)
{
	lua_pushlightuserdata(L, lua_touserdata(L, -1));
	lua_insert(L, -2);
}

static int raise_check(lua_State *L, const struct ref_ud *ud)
{
	MB_ERROR(err);

	if (!ud->v.plan)
		return luaL_error(L, "the Lua state is closing");
	if (mb_view_check(&ud->v, ud->f, &err) == 0)
		return luaL_error(L, "no access to '%s'", ud->f->name ? ud->f->name : "element");
	return mb_raise(L, &err);
}

__attribute__((noinline)) static int get_carefully(lua_State *L, const struct ref_ud *ud)
{
	if (!mb_view_peek(&ud->v, ud->f))
		return raise_check(L, ud);
	mb_push_field(L, &ud->v, ud->f, 0);
	return 1;
}

/* ref:get() -> value      raises: closed or ended memory */
static int ref_get(lua_State *L)
{
	const struct ref_ud *ud = self(L);
	const struct mb_region *r = ud->v.region;
	const void *p;

	/* what mb_view_peek and mb_value_integer do, for one region and one field */
	if (r->gen != ud->v.born || r->len < ud->end)
		return get_carefully(L, ud);
	p = r->base + ud->at;
	if (ud->enc == MB_ENC_U64 && !((uintptr_t)p & 7))
		lua_pushinteger(L, (lua_Integer)__atomic_load_n((const uint64_t *)p,
								__ATOMIC_RELAXED));
	else if (ud->enc == MB_ENC_U32 && !((uintptr_t)p & 3))
		lua_pushinteger(L, __atomic_load_n((const uint32_t *)p, __ATOMIC_RELAXED));
	else
		return get_carefully(L, ud);
	return 1;
}

/* ref:set(value)      raises: out of range, read-only, ended memory */
static int ref_set(lua_State *L)
{
	struct ref_ud *ud = self(L);
	const struct mb_region *r = ud->v.region;

	if (r->gen != ud->v.born || r->len < ud->end)
		return raise_check(L, ud);
	if (r->flags & MB_REGION_WRITABLE && lua_isinteger(L, 2) &&
	    mb_value_store_integer(r->base + ud->v.off, ud->f, lua_tointeger(L, 2)))
		return 0;
	luaL_checkany(L, 2);
	mb_encode_field(L, 2, &ud->v, ud->f, MB_ENCODE_ASSIGN);
	return 0;
}

/* An operand: an integer of any 64 bits, an integral float, or an enumerator's name. */
static int64_t operand(lua_State *L, int i, const struct ref_ud *ud)
{
	int64_t value;

	if (lua_type(L, i) == LUA_TSTRING && ud->f->plan->kind == MB_KIND_ENUM &&
	    mb_plan_enum_value(ud->f->plan, lua_tostring(L, i), &value) == 0)
		return value;
	if (lua_type(L, i) == LUA_TBOOLEAN && ud->f->plan->kind == MB_KIND_BOOL)
		return lua_toboolean(L, i);
	return luaL_checkinteger(L, i);
}

static int atomic(lua_State *L, enum mb_atomic op, int operand_at, int expect_at)
{
	struct ref_ud *ud = self(L);
	MB_ERROR(err);
	int64_t value, expect;

	if (!mb_view_peek(&ud->v, ud->f))
		return raise_check(L, ud);
	value = operand(L, operand_at, ud);
	expect = expect_at ? operand(L, expect_at, ud) : 0;
	if (mb_view_atomic(&ud->v, ud->f, op, expect, &value, &err) != 0)
		return mb_raise(L, &err);
	if (ud->f->enc == MB_ENC_BOOL)
		lua_pushboolean(L, value != 0);
	else
		lua_pushinteger(L, value);
	return 1;
}

/* ref:add(n) -> old      the same for sub, band, bor, bxor, xchg; wraps as C does */
static int ref_add(lua_State *L)
{
	return atomic(L, MB_ATOMIC_ADD, 2, 0);
}

static int ref_sub(lua_State *L)
{
	return atomic(L, MB_ATOMIC_SUB, 2, 0);
}

static int ref_band(lua_State *L)
{
	return atomic(L, MB_ATOMIC_AND, 2, 0);
}

static int ref_bor(lua_State *L)
{
	return atomic(L, MB_ATOMIC_OR, 2, 0);
}

static int ref_bxor(lua_State *L)
{
	return atomic(L, MB_ATOMIC_XOR, 2, 0);
}

static int ref_xchg(lua_State *L)
{
	return atomic(L, MB_ATOMIC_XCHG, 2, 0);
}

/* ref:cas(expected, new) -> old: it was changed if old == expected */
static int ref_cas(lua_State *L)
{
	return atomic(L, MB_ATOMIC_CAS, 3, 2);
}

/* What a collected ref looks at, so that a finalizer that still has it gets an error. */
static struct mb_region gone = { .gen = UINT64_MAX, .refs = 1 };

static int ref_gc(lua_State *L)
{
	struct ref_ud *ud = lua_touserdata(L, 1); /* a finalizer must not allocate: not testudata */
	struct mb_region *region = ud->v.region;

	if (region != &gone) {
		mb_btf_unref(ud->v.plan->btf);
		mb_region_unref(region);
	}
	ud->v.region = &gone;
	ud->v.plan = NULL;
	return 0;
}

static const luaL_Reg methods[] = {
	{ "get", ref_get },   { "set", ref_set }, { "add", ref_add },	{ "sub", ref_sub },
	{ "band", ref_band }, { "bor", ref_bor }, { "bxor", ref_bxor }, { "xchg", ref_xchg },
	{ "cas", ref_cas },   { NULL, NULL },
};

static const char *nth_method(const void *ctx, size_t i)
{
	return ((const luaL_Reg *)ctx)[i].name;
}

/* The first use of a method: bind it to the userdata and keep it in the table. */
static int ref_index(lua_State *L)
{
	const char *name = luaL_tolstring(L, 2, NULL), *near;

	for (const luaL_Reg *m = methods; m->name; m++) {
		if (strcmp(m->name, name) != 0)
			continue;
		lua_rawgetp(L, 1, &self_key);
		if (!luaL_testudata(L, -1, SELF))
			return luaL_typeerror(L, 1, CLASS);
		bind_self(L);
		lua_pushcclosure(L, m->func, 2);
		lua_pushvalue(L, 2);
		lua_pushvalue(L, -2);
		lua_rawset(L, 1);
		return 1;
	}
	near = mb_near(name, nth_method, methods);
	return mb_mistake(L, near ? lua_pushfstring(L, "did you mean '%s'?", near) : NULL,
			  "a ref has no '%s'", name);
}

static int ref_newindex(lua_State *L)
{
	return mb_mistake(L, "ref:set(value) changes what it refers to",
			  "a ref has no fields to set");
}

static int ref_tostring(lua_State *L)
{
	struct ref_ud *ud;

	luaL_checktype(L, 1, LUA_TTABLE);
	lua_rawgetp(L, 1, &self_key);
	ud = luaL_testudata(L, -1, SELF);
	if (ud && ud->v.plan)
		lua_pushfstring(L, "%s '%s'", CLASS, ud->f->name ? ud->f->name : ud->v.plan->name);
	else
		lua_pushstring(L, CLASS);
	return 1;
}

static void push_ref(lua_State *L, const struct mb_view *at, const struct mb_field *f)
{
	struct ref_ud *ud;

	lua_createtable(L, 0, 8); /* with room, so that `get` is found at once */
	ud = lua_newuserdatauv(L, sizeof(*ud), MB_UV_OWN);
	ud->v = *at;
	ud->v.region = &gone;
	ud->f = f;
	ud->end = (uint64_t)at->off + f->end;
	ud->at = at->off + f->off;
	ud->enc = f->enc;
	luaL_setmetatable(L, SELF);
	ud->v.region = mb_region_ref(at->region);
	mb_btf_ref(at->plan->btf);
	lua_pushvalue(L, 1); /* the view, which keeps what it looks at */
	lua_setiuservalue(L, -2, MB_UV_OWNER);
	lua_pushvalue(L, -1);
	lua_rawsetp(L, -3, &self_key);
	bind_self(L);
	lua_pushcclosure(L, ref_get, 2);
	lua_setfield(L, -2, "get");
	luaL_setmetatable(L, CLASS);
}

/* ref(view, path) -> ref      path: "hits", "cfg.limits[3].rate" */
static int lib_ref(lua_State *L)
{
	const struct mb_view *v = mb_view_arg(L, 1);
	const char *path = luaL_checkstring(L, 2);
	MB_ERROR(err);
	const struct mb_field *f;
	struct mb_view at;

	if (v->region->flags & MB_REGION_LEASE)
		return mb_mistake(L, "bpf.copy(ev) makes a value that lasts",
				  "a record lasts for its turn only: no ref on it");
	if (mb_view_path(v, path, &at, &f, &err) != 0 || mb_view_check(&at, f, &err) != 0)
		return mb_raise(L, &err);
	if (f->enc == MB_ENC_NONE)
		return mb_mistake(L, "a view of it does: local v = view.field",
				  "'%s' is %s: a ref is for one scalar", path, f->plan->name);
	if (at.region->parts) { /* one part less to step through at each access */
		at.region = at.region->parts[f->part];
		at.born = at.region->gen;
	}
	push_ref(L, &at, f);
	return 1;
}

const luaL_Reg mb_ref_functions[] = { { "ref", lib_ref }, { NULL, NULL } };

void mb_ref_open(lua_State *L)
{
	luaL_newmetatable(L, SELF);
	lua_pushcfunction(L, ref_gc);
	lua_setfield(L, -2, "__gc");
	lua_pushstring(L, SELF);
	lua_setfield(L, -2, "__metatable");
	lua_pop(L, 1);
	luaL_newmetatable(L, CLASS);
	lua_pushcfunction(L, ref_index);
	lua_setfield(L, -2, "__index");
	lua_pushcfunction(L, ref_newindex);
	lua_setfield(L, -2, "__newindex");
	lua_pushcfunction(L, ref_tostring);
	lua_setfield(L, -2, "__tostring");
	lua_pushstring(L, CLASS);
	lua_setfield(L, -2, "__metatable");
	lua_pop(L, 1);
}
