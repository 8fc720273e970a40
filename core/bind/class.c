/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Userdata types by table: methods, properties, one way to close. A closed handle stays a handle of
 * its class: it says so in tostring, and raises in every method.
 */
#include "bind.h"

static const char marker; /* its address is the key under which a metatable names its class */

static const char *short_name(const struct mb_class *cls)
{
	return cls->name + strlen("moonbee.");
}

static bool is_closed(const struct mb_class *cls, const struct mb_handle *h)
{
	return !h->thing || (cls->closed && cls->closed(h->thing));
}

static const char *article(const struct mb_class *cls)
{
	return strchr("aeiou", *short_name(cls)) ? "an" : "a";
}

static const struct mb_class *class_of(lua_State *L, int i)
{
	const struct mb_class *cls = NULL;

	if (lua_type(L, i) != LUA_TUSERDATA || !lua_getmetatable(L, i))
		return NULL;
	if (lua_rawgetp(L, -1, &marker) == LUA_TLIGHTUSERDATA)
		cls = lua_touserdata(L, -1);
	lua_pop(L, 2);
	return cls;
}

struct mb_handle *mb_class_test(lua_State *L, int i, const struct mb_class *cls)
{
	struct mb_handle *h = lua_touserdata(L, i);

	/* light ones have no length, and no foreign userdata has the address of our class in it */
	return h && lua_rawlen(L, i) >= sizeof(*h) && h->cls == cls ? h : NULL;
}

void *mb_class_check(lua_State *L, int i, const struct mb_class *cls)
{
	struct mb_handle *h = mb_class_test(L, i, cls);

	if (!h)
		luaL_typeerror(L, i, cls->name);
	else if (is_closed(cls, h))
		mb_mistake(L, NULL,
			   h->thing ? "attempt to use closed %s '%s'" :
				      "attempt to use a closed %s",
			   short_name(cls), h->thing ? cls->title(h->thing) : "");
	return h ? h->thing : NULL;
}

struct mb_handle *mb_class_new(lua_State *L, const struct mb_class *cls, int owner)
{
	struct mb_handle *h;

	if (owner)
		owner = lua_absindex(L, owner);
	h = lua_newuserdatauv(L, sizeof(*h), MB_UV_OWN);
	*h = (struct mb_handle){ cls, NULL };
	luaL_setmetatable(L, cls->name);
	if (owner) {
		lua_pushvalue(L, owner);
		lua_setiuservalue(L, -2, MB_UV_OWNER);
	}
	return h;
}

/* Protected: (class, owner | nil) -> handle. */
static int new_handle(lua_State *L)
{
	mb_class_new(L, lua_touserdata(L, 1), lua_isnil(L, 2) ? 0 : 2);
	return 1;
}

void mb_class_push(lua_State *L, const struct mb_class *cls, void *thing, int owner)
{
	if (owner)
		owner = lua_absindex(L, owner);
	lua_pushcfunction(L, new_handle);
	lua_pushlightuserdata(L, (void *)(uintptr_t)cls);
	if (owner)
		lua_pushvalue(L, owner);
	else
		lua_pushnil(L);
	if (lua_pcall(L, 2, 1, 0) != LUA_OK) {
		cls->unref(thing);
		lua_error(L);
	}
	((struct mb_handle *)lua_touserdata(L, -1))->thing = thing;
}

/* ---- properties ------------------------------------------------------------------------------------ */

static const char *nth_name(const void *ctx, size_t i)
{
	const struct mb_class *cls = ctx;
	size_t n = 0;

	for (; cls->properties && cls->properties[n]; n++)
		if (n == i)
			return cls->properties[n];
	for (size_t m = 0; cls->methods[m].name; m++)
		if (n + m == i)
			return cls->methods[m].name;
	return NULL;
}

static int no_property(lua_State *L, const struct mb_class *cls, const char *name)
{
	const char *near = mb_near(name, nth_name, cls);
	const char *hint = near ? lua_pushfstring(L, "did you mean '%s'?", near) : cls->hint;

	return mb_mistake(L, hint, "%s %s has no '%s'", article(cls), short_name(cls), name);
}

int mb_class_property(lua_State *L, const struct mb_class *cls)
{
	const char *name = lua_tostring(L, 2);
	void *thing;

	if (strcmp(name, "closed") == 0) {
		struct mb_handle *h = mb_class_test(L, 1, cls);

		lua_pushboolean(L, !h || is_closed(cls, h));
		return 1;
	}
	thing = mb_class_check(L, 1, cls);
	if (cls->get && cls->get(L, thing, name))
		return 1;
	return no_property(L, cls, name);
}

int mb_class_set_property(lua_State *L, const struct mb_class *cls)
{
	void *thing = mb_class_check(L, 1, cls);
	const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : luaL_typename(L, 2);

	lua_settop(L, 3);
	if (cls->set && cls->set(L, thing, name))
		return 0;
	for (const char *const *p = cls->properties; p && *p; p++)
		if (strcmp(*p, name) == 0)
			return mb_mistake(L, NULL, "'%s' of %s %s cannot be set", name,
					  article(cls), short_name(cls));
	return no_property(L, cls, name);
}

/* Upvalues: the class, the methods' table. */
static int class_index(lua_State *L)
{
	const struct mb_class *cls = lua_touserdata(L, lua_upvalueindex(1));

	lua_pushvalue(L, 2);
	if (lua_rawget(L, lua_upvalueindex(2)) != LUA_TNIL)
		return 1;
	if (lua_type(L, 2) != LUA_TSTRING)
		return mb_mistake(L, NULL, "%s %s has no index of type %s", article(cls),
				  short_name(cls), luaL_typename(L, 2));
	return mb_class_property(L, cls);
}

static int class_newindex(lua_State *L)
{
	return mb_class_set_property(L, lua_touserdata(L, lua_upvalueindex(1)));
}

/* ---- life -------------------------------------------------------------------------------------------- */

/* close, <close>: ends the thing for all who have it. */
static int class_close(lua_State *L)
{
	const struct mb_class *cls = lua_touserdata(L, lua_upvalueindex(1));
	struct mb_handle *h = mb_class_test(L, 1, cls);

	if (!h)
		return luaL_typeerror(L, 1, cls->name);
	if (h->thing && cls->close)
		cls->close(h->thing);
	return 0;
}

/* __gc: gives this handle's reference back; the last one closes. */
static int class_gc(lua_State *L)
{
	const struct mb_class *cls = lua_touserdata(L, lua_upvalueindex(1));
	struct mb_handle *h = lua_touserdata(L, 1);
	void *thing = h->thing;

	h->thing = NULL;
	if (thing)
		cls->unref(thing);
	return 0;
}

static int class_tostring(lua_State *L)
{
	const struct mb_class *cls = lua_touserdata(L, lua_upvalueindex(1));
	struct mb_handle *h = mb_class_test(L, 1, cls);

	if (!h)
		return luaL_typeerror(L, 1, cls->name);
	if (is_closed(cls, h))
		lua_pushfstring(L, "%s (closed)", cls->name);
	else
		lua_pushfstring(L, "%s '%s'", cls->name, cls->title(h->thing));
	return 1;
}

static const luaL_Reg life[] = {
	{ "__index", class_index }, { "__newindex", class_newindex }, { "__close", class_close },
	{ "__gc", class_gc },	    { "__tostring", class_tostring }, { NULL, NULL },
};

/* Each function gets the class and the methods' table (at index methods) as upvalues. */
static void set_functions(lua_State *L, const struct mb_class *cls, const luaL_Reg *fns,
			  int methods)
{
	for (; fns && fns->name; fns++) {
		lua_pushlightuserdata(L, (void *)(uintptr_t)cls);
		lua_pushvalue(L, methods);
		lua_pushcclosure(L, fns->func, 2);
		lua_setfield(L, -2, fns->name);
	}
}

static const char classes_key;

void mb_class_open(lua_State *L, const struct mb_class *cls)
{
	int methods;

	if (!luaL_newmetatable(L, cls->name)) {
		lua_pop(L, 1);
		return;
	}
	lua_newtable(L);
	methods = lua_gettop(L);
	if (cls->close) {
		lua_pushlightuserdata(L, (void *)(uintptr_t)cls);
		lua_pushcclosure(L, class_close, 1);
		lua_setfield(L, methods, "close");
	}
	set_functions(L, cls, cls->methods, methods); /* may have a close of their own */
	lua_pushvalue(L, methods - 1);
	set_functions(L, cls, life, methods);
	set_functions(L, cls, cls->meta, methods);
	if (!cls->close) {
		lua_pushnil(L);
		lua_setfield(L, -2, "__close");
	}
	lua_pushstring(L, cls->name);
	lua_setfield(L, -2, "__metatable");
	lua_pushlightuserdata(L, (void *)(uintptr_t)cls);
	lua_rawsetp(L, -2, &marker);
	lua_pop(L, 1);
	/* remember the methods for mb_class_list */
	if (lua_rawgetp(L, LUA_REGISTRYINDEX, &classes_key) != LUA_TTABLE) {
		lua_pop(L, 1);
		lua_newtable(L);
		lua_pushvalue(L, -1);
		lua_rawsetp(L, LUA_REGISTRYINDEX, &classes_key);
	}
	lua_pushlightuserdata(L, (void *)(uintptr_t)cls);
	lua_setfield(L, -2, short_name(cls));
	lua_pop(L, 3);
}

/* What a name of a class is: with functions, a method is the function itself. */
static void push_method(lua_State *L, const struct mb_class *cls, const char *name, bool functions)
{
	if (!functions) {
		lua_pushstring(L, "method");
		return;
	}
	luaL_getmetatable(L, cls->name);
	lua_getfield(L, -1, "__index");
	lua_getupvalue(L, -1, 2); /* class_index has the methods there */
	lua_getfield(L, -1, name);
	lua_replace(L, -4);
	lua_pop(L, 2);
}

/* classes([functions]) -> { map = { get = "method" | the function, name = "property", … }, … } */
int mb_class_list(lua_State *L)
{
	bool functions = lua_toboolean(L, 1);

	lua_newtable(L);
	if (lua_rawgetp(L, LUA_REGISTRYINDEX, &classes_key) != LUA_TTABLE)
		return 1;
	for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
		const struct mb_class *cls = lua_touserdata(L, -1);

		lua_newtable(L);
		for (const luaL_Reg *m = cls->methods; m->name; m++) {
			push_method(L, cls, m->name, functions);
			lua_setfield(L, -2, m->name);
		}
		if (cls->close) {
			push_method(L, cls, "close", functions);
			lua_setfield(L, -2, "close");
		}
		for (const char *const *p = cls->properties; p && *p; p++) {
			lua_pushstring(L, "property");
			lua_setfield(L, -2, *p);
		}
		lua_setfield(L, -5, lua_tostring(L, -3));
	}
	lua_pop(L, 1);
	return 1;
}

void mb_class_type(lua_State *L, int i)
{
	const struct mb_class *cls = class_of(L, i);
	const struct mb_handle *h = cls ? lua_touserdata(L, i) : NULL;

	if (!cls)
		lua_pushnil(L);
	else
		lua_pushfstring(L, "%s%s", is_closed(cls, h) ? "closed " : "", short_name(cls));
}
