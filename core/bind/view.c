/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Views: typed memory as userdata. A metatable per plan, made when first needed, with what finds a
 * name; views of aggregates are kept in their parent, so that a path allocates nothing the second time.
 */
#include "lookup.h"

struct view_ud {
	struct mb_view v;
	const struct mb_lookup *lookup; /* its metatable's */
	uint32_t last;			/* array: which element's view is kept */
};

static const char marker;		 /* key in a metatable: its lookup */
static const char counted_key, kept_key; /* registry: plan -> metatable, weak values */
static const char recent_key;		 /* registry: the last metatables made */
#define RECENT 64
static const char format_key; /* registry: what tostring calls */

/* What a finalized view looks at. */
static struct mb_region gone = { .gen = UINT64_MAX,
				 .refs = 1,
				 .ended = "the Lua state is closing",
				 .name = "nothing" };

/* ---- names ------------------------------------------------------------------------------------------- */

/* A name at index 2 whose address is not known: a long string, or no field. */
static const struct mb_field *lookup_slow(lua_State *L, const struct view_ud *ud)
{
	const struct mb_lookup *l = ud->lookup;
	const struct mb_field *f = NULL;

	if (!l->plan)
		luaL_error(L, "the Lua state is closing");
	if (lua_type(L, 2) != LUA_TSTRING)
		mb_mistake(L, NULL, "%s has fields by name, not by %s", l->plan->name,
			   luaL_typename(L, 2));
	lua_getiuservalue(L, lua_upvalueindex(1), MB_LOOKUP_UV_NAMES);
	lua_pushvalue(L, 2);
	if (lua_rawget(L, -2) == LUA_TLIGHTUSERDATA)
		f = lua_touserdata(L, -1);
	lua_pop(L, 2);
	if (!f)
		mb_view_no_field(L, &ud->v, lua_tostring(L, 2));
	return f;
}

/* ---- errors ------------------------------------------------------------------------------------------ */

int mb_view_no_field(lua_State *L, const struct mb_view *view, const char *name)
{
	const struct mb_plan *plan = view->plan;
	struct mb_where at = mb_view_where(view, NULL);
	const char *near = mb_plan_near(plan, name), *hint = NULL;
	bool vars = plan->kind == MB_KIND_GROUP || plan->kind == MB_KIND_SECTION;

	for (uint32_t i = 0; i < plan->nhidden && !hint; i++)
		if (strcmp(plan->hidden[i], name) == 0)
			hint = "it is static or hidden in C: only global variables are shown";
	if (!hint && near)
		hint = lua_pushfstring(L, "did you mean '%s'?", near);
	if (!hint && vars)
		hint = "not global, or optimised away? declare it volatile";
	if (vars)
		return mb_mistake(L, hint, "no variable '%s' in the object", name);
	if (strcmp(at.text, plan->name) == 0) /* the whole */
		return mb_mistake(L, hint, "no field '%s' in %s", name, plan->name);
	return mb_mistake(L, hint, "no field '%s' in '%s' (%s)", name, at.text, plan->name);
}

static int raise_check(lua_State *L, const struct mb_view *v, const struct mb_field *f)
{
	MB_ERROR(err);

	mb_view_test(L, 1); /* raises when the state is closing, and the plan may be gone */
	if (mb_view_check(v, f, &err) == 0)
		return luaL_error(L, "no access to '%s'", f && f->name ? f->name : "element");
	return mb_raise(L, &err);
}

static struct view_ud *push_empty(lua_State *L, const struct mb_plan *plan, int owner);

/* ---- loads ------------------------------------------------------------------------------------------- */

/* Push the view of an aggregate, kept in uservalue uv of the parent at index 1. */
static int push_child(lua_State *L, const struct view_ud *parent, const struct mb_view *v,
		      const struct mb_field *f, int uv)
{
	MB_ERROR(err);
	struct view_ud *ud;
	struct mb_view sub;
	int owner = 1; /* of a value in memory of its own: the parent */

	if (mb_view_step(v, f, &sub, &err) != 0)
		return mb_raise(L, &err);
	if (lua_getiuservalue(L, 1, MB_UV_OWNER) != LUA_TNIL)
		owner = lua_gettop(L);
	if (!parent->lookup->counted) { /* nor are its children: the same owner keeps them */
		const struct mb_lookup *l = mb_view_kept_metatable(L, sub.plan);

		mb_view_push_kept(L, &sub, l, lua_gettop(L), owner);
	} else {
		ud = push_empty(L, sub.plan, owner);
		/* once more: making it may have run a finalizer that ended the region */
		if (mb_view_step(v, f, &sub, &err) != 0)
			return mb_raise(L, &err);
		ud->v = sub;
		mb_region_ref(sub.region);
	}
	lua_pushvalue(L, -1);
	lua_setiuservalue(L, 1, uv);
	return 1;
}

static inline int push_loaded(lua_State *L, const struct mb_view *v, const struct mb_field *f)
{
	const uint8_t *base = mb_view_peek(v, f);
	int64_t i;

	if (!base)
		return raise_check(L, v, f);
	if (mb_value_integer(base, f, &i))
		lua_pushinteger(L, i);
	else
		mb_push_field(L, v, f, 0);
	return 1;
}

static inline const struct mb_field *struct_field(lua_State *L, const struct view_ud *ud)
{
	const struct mb_field *f = mb_lookup_fast(ud->lookup, lua_topointer(L, 2));

	return f ? f : lookup_slow(L, ud);
}

/* view.field. Only a view's own metatable holds this function, so that argument 1 is one. */
static int struct_index(lua_State *L)
{
	struct view_ud *ud = lua_touserdata(L, 1);
	const struct mb_field *f = struct_field(L, ud);

	if (f->enc != MB_ENC_NONE)
		return push_loaded(L, &ud->v, f);
	if (ud->v.region->gen == ud->v.born &&
	    lua_getiuservalue(L, 1, MB_UV_OWNER + f->child) == LUA_TUSERDATA) {
		const struct view_ud *kept = lua_touserdata(L, -1);

		if (kept->v.region->gen == kept->v.born) /* else its section was resized */
			return 1;
	}
	return push_child(L, ud, &ud->v, f, MB_UV_OWNER + f->child);
}

static int no_element(lua_State *L, const struct view_ud *ud)
{
	MB_ERROR(err);
	struct mb_view elem;

	if (!ud->lookup->plan)
		return luaL_error(L, "the Lua state is closing");
	if (!lua_isinteger(L, 2))
		return mb_mistake(L, "elements are numbered from 0, as in C", "%s has no '%s'",
				  ud->v.plan->name, luaL_tolstring(L, 2, NULL));
	if (mb_view_elem(&ud->v, (uint64_t)lua_tointeger(L, 2), &elem, &err) == 0)
		return raise_check(L, &ud->v, NULL);
	return mb_raise(L, &err);
}

/* The element that argument 2 names, as a view with one field. */
static inline const struct mb_field *array_elem(lua_State *L, const struct view_ud *ud,
						struct mb_view *elem, uint32_t *index)
{
	lua_Integer i = lua_tointeger(L, 2);

	if (!lua_isinteger(L, 2) && lua_type(L, 2) == LUA_TNUMBER &&
	    (lua_Number)i == lua_tonumber(L, 2)) {
		lua_pushinteger(L, i); /* 3.0 is an index, too */
		lua_replace(L, 2);
	}
	if (ud->v.region->gen != ud->v.born)
		raise_check(L, &ud->v, NULL);
	if (!lua_isinteger(L, 2) || (lua_Unsigned)i >= ud->v.count)
		no_element(L, ud);
	*elem = ud->v;
	elem->off += (uint32_t)i * ud->v.plan->stride;
	*index = (uint32_t)i;
	return &ud->v.plan->fields[0];
}

static int array_index(lua_State *L)
{
	struct view_ud *ud = lua_touserdata(L, 1);
	struct mb_view elem;
	uint32_t i;
	const struct mb_field *f = array_elem(L, ud, &elem, &i);

	if (f->enc != MB_ENC_NONE)
		return push_loaded(L, &elem, f);
	if (ud->last == i && lua_getiuservalue(L, 1, MB_UV_OWNER + 1) == LUA_TUSERDATA)
		return 1;
	push_child(L, ud, &elem, f, MB_UV_OWNER + 1);
	ud->last = i; /* only now: an error would leave the element before there */
	return 1;
}

/* ---- stores ------------------------------------------------------------------------------------------ */

/* Whole numbers into whole numbers without a call; the rest by the careful way. */
static inline int store(lua_State *L, const struct mb_view *v, const struct mb_field *f)
{
	uint8_t *base = mb_view_peek(v, f);

	if (!base || !lua_isinteger(L, 3) || !mb_view_writable(v, f) ||
	    !mb_value_store_integer(base, f, lua_tointeger(L, 3)))
		mb_encode_field(L, 3, v, f, MB_ENCODE_ASSIGN);
	return 0;
}

static int struct_newindex(lua_State *L)
{
	struct view_ud *ud = lua_touserdata(L, 1);

	return store(L, &ud->v, struct_field(L, ud));
}

static int array_newindex(lua_State *L)
{
	struct view_ud *ud = lua_touserdata(L, 1);
	struct mb_view elem;
	uint32_t i;
	const struct mb_field *f = array_elem(L, ud, &elem, &i);

	return store(L, &elem, f);
}

/* ---- walking ------------------------------------------------------------------------------------------ */

static int struct_next(lua_State *L)
{
	const struct mb_view *v = mb_view_arg(L, 1);
	lua_Integer i = lua_tointeger(L, lua_upvalueindex(1));

	if (i >= (lua_Integer)v->plan->nfields)
		return 0;
	lua_pushinteger(L, i + 1);
	lua_replace(L, lua_upvalueindex(1));
	lua_pushstring(L, v->plan->fields[i].name);
	lua_pushvalue(L, -1);
	lua_gettable(L, 1); /* by the usual way: kept views are used again */
	return 2;
}

static int array_next(lua_State *L)
{
	const struct mb_view *v = mb_view_arg(L, 1);
	lua_Integer i = luaL_optinteger(L, 2, -1) + 1;

	if (i < 0 || i >= (lua_Integer)v->count)
		return 0;
	lua_pushinteger(L, i);
	lua_geti(L, 1, i);
	return 2;
}

static int view_pairs(lua_State *L)
{
	const struct mb_view *v = mb_view_arg(L, 1);

	if (v->plan->kind == MB_KIND_ARRAY) {
		lua_pushcfunction(L, array_next);
	} else {
		lua_pushinteger(L, 0);
		lua_pushcclosure(L, struct_next, 1);
	}
	lua_pushvalue(L, 1);
	lua_pushnil(L);
	return 3;
}

static int view_len(lua_State *L)
{
	const struct mb_view *v = mb_view_arg(L, 1);

	if (v->plan->kind != MB_KIND_ARRAY)
		return mb_mistake(L, NULL, "%s is no array and has no length", v->plan->name);
	lua_pushinteger(L, v->count);
	return 1;
}

static int view_tostring(lua_State *L)
{
	const struct mb_view *v = mb_view_arg(L, 1);

	if (v->region->gen != v->born) {
		lua_pushfstring(L, "moonbee.view %s (%s)", v->plan->name,
				v->region->ended ? v->region->ended : "ended");
		return 1;
	}
	if (lua_rawgetp(L, LUA_REGISTRYINDEX, &format_key) != LUA_TFUNCTION) {
		lua_pushfstring(L, "moonbee.view %s", v->plan->name);
		return 1;
	}
	lua_pushvalue(L, 1);
	lua_call(L, 1, 1);
	return 1;
}

static int view_gc(lua_State *L)
{
	struct view_ud *ud = lua_touserdata(L, 1);
	struct mb_region *r = ud->v.region;

	ud->v.region = &gone;
	if (r != &gone)
		mb_region_unref(r);
	return 0;
}

/* ---- metatables --------------------------------------------------------------------------------------- */

/* Registry tables plan -> metatable with weak values: a metatable lives as long as a view has it, and
 * holds the btf that the plan is in, so that an address is never another plan's. */
static void push_cache(lua_State *L, const char *key)
{
	if (lua_rawgetp(L, LUA_REGISTRYINDEX, key) == LUA_TTABLE)
		return;
	lua_pop(L, 1);
	lua_newtable(L);
	lua_createtable(L, 0, 1);
	lua_pushliteral(L, "v");
	lua_setfield(L, -2, "__mode");
	lua_setmetatable(L, -2);
	lua_pushvalue(L, -1);
	lua_rawsetp(L, LUA_REGISTRYINDEX, key);
}

static void metatable_new(lua_State *L, const struct mb_plan *plan, bool counted)
{
	bool array = plan->kind == MB_KIND_ARRAY;
	int lookup;

	mb_lookup_new(L, plan, counted);
	lookup = lua_gettop(L);
	lua_createtable(L, 0, 12);
	lua_pushvalue(L, lookup);
	lua_pushcclosure(L, array ? array_index : struct_index, 1);
	lua_setfield(L, -2, "__index");
	lua_pushvalue(L, lookup);
	lua_pushcclosure(L, array ? array_newindex : struct_newindex, 1);
	lua_setfield(L, -2, "__newindex");
	lua_pushcfunction(L, view_pairs);
	lua_setfield(L, -2, "__pairs");
	lua_pushcfunction(L, view_len);
	lua_setfield(L, -2, "__len");
	lua_pushcfunction(L, view_tostring);
	lua_setfield(L, -2, "__tostring");
	lua_pushliteral(L, "moonbee.view");
	lua_setfield(L, -2, "__name");
	lua_pushliteral(L, "moonbee.view");
	lua_setfield(L, -2, "__metatable");
	if (counted) {
		lua_pushcfunction(L, view_gc);
		lua_setfield(L, -2, "__gc");
	}
	lua_pushvalue(L, lookup);
	lua_rawsetp(L, -2, &marker);
	lua_pushvalue(L, -1);
	lua_setiuservalue(L, lookup, MB_LOOKUP_UV_METATABLE);
	lua_remove(L, lookup);
}

/* The newest metatables stay a while without views: values come and go, and to make a metatable costs
 * more than a value. */
static void keep_recent(lua_State *L)
{
	lua_Integer at;

	if (lua_rawgetp(L, LUA_REGISTRYINDEX, &recent_key) != LUA_TTABLE) {
		lua_pop(L, 1);
		lua_createtable(L, RECENT, 0);
		lua_pushvalue(L, -1);
		lua_rawsetp(L, LUA_REGISTRYINDEX, &recent_key);
	}
	lua_rawgeti(L, -1, 0); /* where the last one went */
	at = lua_tointeger(L, -1) % RECENT + 1;
	lua_pop(L, 1);
	lua_pushinteger(L, at);
	lua_rawseti(L, -2, 0);
	lua_pushvalue(L, -2);
	lua_rawseti(L, -2, at);
	lua_pop(L, 1);
}

static void push_metatable(lua_State *L, const struct mb_plan *plan, bool counted)
{
	push_cache(L, counted ? &counted_key : &kept_key);
	if (lua_rawgetp(L, -1, plan) != LUA_TTABLE) {
		lua_pop(L, 1);
		metatable_new(L, plan, counted);
		keep_recent(L);
		lua_pushvalue(L, -1);
		lua_rawsetp(L, -3, plan);
	}
	lua_remove(L, -2);
}

/* ---- making -------------------------------------------------------------------------------------------- */

static struct mb_lookup *lookup_of(lua_State *L, int metatable)
{
	struct mb_lookup *l;

	lua_rawgetp(L, metatable, &marker);
	l = lua_touserdata(L, -1);
	lua_pop(L, 1);
	return l;
}

/* Without its metatable, whose lookup is l. */
static struct view_ud *view_new(lua_State *L, const struct mb_view *view, const struct mb_lookup *l,
				int owner)
{
	struct view_ud *ud;

	ud = lua_newuserdatauv(L, sizeof(*ud), MB_UV_OWNER + (int)view->plan->nchildren);
	ud->v = *view;
	ud->lookup = l;
	ud->last = UINT32_MAX;
	if (owner) {
		lua_pushvalue(L, owner);
		lua_setiuservalue(L, -2, MB_UV_OWNER);
	}
	return ud;
}

/* A counted view of plan that looks at nothing yet. */
static struct view_ud *push_empty(lua_State *L, const struct mb_plan *plan, int owner)
{
	struct mb_view none = { .region = &gone, .plan = plan };
	struct view_ud *ud;

	if (owner)
		owner = lua_absindex(L, owner);
	luaL_checkstack(L, 8, NULL);
	push_metatable(L, plan, true);
	ud = view_new(L, &none, lookup_of(L, lua_gettop(L)), owner);
	lua_insert(L, -2);
	lua_setmetatable(L, -2);
	return ud;
}

void mb_view_push(lua_State *L, const struct mb_view *view, int owner)
{
	struct view_ud *ud = push_empty(L, view->plan, owner);

	ud->v = *view;
	mb_region_ref(view->region);
}

/* A view, its region and its bytes in one userdata. Lua's own memory outlives all finalizers. */
struct own_ud {
	struct view_ud ud;
	struct mb_region region;
	_Alignas(8) uint8_t bytes[]; /* as userdata is aligned */
};

/* The metatable is yet to come. */
static struct own_ud *own_new(lua_State *L, const struct mb_plan *plan, size_t len, uint32_t flags,
			      const char *title, struct mb_lookup *l)
{
	struct own_ud *own;
	MB_ERROR(err);

	own = lua_newuserdatauv(L, sizeof(*own) + len, MB_UV_OWNER + (int)plan->nchildren);
	memset(own, 0, sizeof(*own) + len);
	own->region.base = own->bytes;
	own->region.len = len;
	own->region.refs = 1; /* for ever */
	own->region.flags = flags;
	own->region.name = title;
	own->ud.lookup = l;
	own->ud.last = UINT32_MAX;
	if (mb_view_init(&own->ud.v, &own->region, 0, plan, &err) != 0)
		mb_raise(L, &err);
	return own;
}

struct mb_view *mb_view_push_new(lua_State *L, const struct mb_plan *plan, size_t len,
				 uint32_t flags, const char *title)
{
	struct own_ud *own;

	luaL_checkstack(L, 8, NULL);
	push_metatable(L, plan, false);
	own = own_new(L, plan, len, flags, title, lookup_of(L, lua_gettop(L)));
	lua_insert(L, -2);
	lua_setmetatable(L, -2);
	return &own->ud.v;
}

struct mb_view *mb_view_push_shaped(lua_State *L, const struct mb_plan *plan, uint32_t flags,
				    const char *title, int handle)
{
	struct mb_lookup *l = NULL;
	struct own_ud *own;

	if (lua_getiuservalue(L, handle, MB_UV_OWN) == LUA_TUSERDATA)
		l = lua_touserdata(L, -1);
	if (!l || l->plan != plan) {
		push_metatable(L, plan, false);
		lua_rawgetp(L, -1, &marker);
		l = lua_touserdata(L, -1);
		lua_pushvalue(L, -1);
		lua_setiuservalue(L, handle, MB_UV_OWN);
	}
	own = own_new(L, plan, plan->size, flags, title, l);
	lua_getiuservalue(L, -2, MB_LOOKUP_UV_METATABLE);
	lua_setmetatable(L, -2);
	return &own->ud.v;
}

const struct mb_lookup *mb_view_kept_metatable(lua_State *L, const struct mb_plan *plan)
{
	push_metatable(L, plan, false);
	return lookup_of(L, lua_gettop(L));
}

void mb_view_push_kept(lua_State *L, const struct mb_view *view, const struct mb_lookup *lookup,
		       int mt, int owner)
{
	view_new(L, view, lookup, owner);
	lua_pushvalue(L, mt);
	lua_setmetatable(L, -2);
}

/* ---- arguments ------------------------------------------------------------------------------------------ */

struct mb_view *mb_view_test(lua_State *L, int i)
{
	struct mb_lookup *l = NULL;

	if (lua_type(L, i) != LUA_TUSERDATA || !lua_getmetatable(L, i))
		return NULL;
	if (lua_rawgetp(L, -1, &marker) == LUA_TUSERDATA)
		l = lua_touserdata(L, -1);
	lua_pop(L, 2);
	if (l && !l->plan)
		luaL_error(L, "the Lua state is closing");
	return l ? &((struct view_ud *)lua_touserdata(L, i))->v : NULL;
}

struct mb_view *mb_view_arg(lua_State *L, int i)
{
	struct mb_view *v = mb_view_test(L, i);

	if (!v)
		luaL_typeerror(L, i, "moonbee.view");
	return v;
}

void mb_view_push_copy(lua_State *L, const struct mb_view *v)
{
	MB_ERROR(err);
	const uint8_t *bytes;
	struct mb_view *copy;
	size_t len;

	if (mb_view_bytes(v, &bytes, &len, &err) != 0)
		mb_raise(L, &err);
	copy = mb_view_push_new(L, v->plan, len > v->plan->size ? len : v->plan->size,
				MB_REGION_WRITABLE, v->plan->name);
	if (mb_plan_tail(v->plan))
		copy->count = (uint32_t)len;
	/* once more: making it may have run a finalizer that closed the object */
	if (mb_view_bytes(v, &bytes, &len, &err) != 0)
		mb_raise(L, &err);
	memcpy(copy->region->base, bytes, len);
}

/* set_format(fn): what tostring(view) calls */
int mb_view_set_format(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TFUNCTION);
	lua_settop(L, 1);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &format_key);
	return 0;
}
