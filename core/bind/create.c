/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bpf.create_map: a map without an object.
 */
#include "bind.h"
#include "engine/map_kind.h"

/* A type object, a C name, a number of bytes; or nothing. */
static struct mb_create_type type_at(lua_State *L, const char *field)
{
	struct mb_create_type type = { NULL, NULL, 0 };
	lua_Integer n;
	int whole;

	switch (lua_getfield(L, 1, field)) {
	case LUA_TNIL:
		break;
	case LUA_TSTRING:
		type.name = lua_tostring(L, -1);
		break;
	case LUA_TNUMBER:
		n = lua_tointegerx(L, -1, &whole);
		if (!whole || n < 0 || n > INT32_MAX)
			mb_mistake(L, NULL,
				   "option '%s' of create_map is a type or a number of bytes",
				   field);
		type.bytes = (uint32_t)n;
		break;
	default:
		type.plan = mb_type_test(L, lua_gettop(L));
		if (!type.plan)
			mb_mistake(L, "obj.types[\"struct x\"], \"u32\", or a number of bytes",
				   "option '%s' of create_map is no type, but a %s", field,
				   luaL_typename(L, -1));
	}
	return type; /* what it points to stays alive on the stack */
}

static uint32_t flag_bit(lua_State *L, int i)
{
	const char *name = lua_type(L, i) == LUA_TSTRING ? lua_tostring(L, i) : "";
	uint32_t bit = mb_map_flag(name);
	const char *near = bit ? NULL : mb_near(name, mb_map_flag_nth, NULL);

	if (!bit)
		mb_mistake(L, near ? lua_pushfstring(L, "did you mean '%s'?", near) : NULL,
			   "there is no map flag '%s'", luaL_tolstring(L, i, NULL));
	return bit;
}

/* A number, a name, or a sequence of names. */
static uint32_t flags_at(lua_State *L)
{
	uint32_t bits = 0;
	lua_Integer n;
	int whole;

	switch (lua_getfield(L, 1, "flags")) {
	case LUA_TNIL:
		return 0;
	case LUA_TNUMBER:
		n = lua_tointegerx(L, -1, &whole);
		if (!whole || n < 0 || n > UINT32_MAX)
			mb_mistake(L, NULL, "option 'flags' of create_map has 32 bits");
		return (uint32_t)n;
	case LUA_TTABLE:
		for (lua_Integer i = 1; lua_rawgeti(L, -1, i) != LUA_TNIL; i++) {
			bits |= flag_bit(L, lua_gettop(L));
			lua_pop(L, 1);
		}
		return bits;
	default:
		return flag_bit(L, lua_gettop(L));
	}
}

static struct mb_map *inner_at(lua_State *L)
{
	if (lua_getfield(L, 1, "inner") == LUA_TNIL)
		return NULL;
	return mb_class_check(L, lua_gettop(L), &mb_map_class);
}

/* Names and types of all options; those without a place are read above. */
static void read_plain(lua_State *L, struct mb_create *how)
{
	static const char *const known[] = { "name",	    "type",  "key",   "value",
					     "max_entries", "flags", "inner", NULL };
	lua_Integer n;
	int whole;

	for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
		const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "?";
		int i = 0;

		while (known[i] && strcmp(known[i], name) != 0)
			i++;
		if (!known[i])
			mb_mistake(L, "it has name, type, key, value, max_entries, flags, inner",
				   "create_map has no option '%s'", name);
	}
	if (lua_getfield(L, 1, "type") != LUA_TSTRING)
		mb_mistake(L, NULL, "option 'type' of create_map names the map's type");
	how->type = lua_tostring(L, -1);
	how->name = "";
	if (lua_getfield(L, 1, "name") == LUA_TSTRING)
		how->name = lua_tostring(L, -1);
	else if (!lua_isnil(L, -1))
		mb_mistake(L, NULL, "option 'name' of create_map is a string, not a %s",
			   luaL_typename(L, -1));
	if (lua_getfield(L, 1, "max_entries") == LUA_TNIL)
		return;
	n = lua_tointegerx(L, -1, &whole);
	if (lua_type(L, -1) != LUA_TNUMBER || !whole || n < 0 || n > UINT32_MAX)
		mb_mistake(L, NULL, "max_entries is a whole number from 0 to 4294967295");
	how->max_entries = (uint32_t)n;
}

/* create_map{ name =, type =, key =, value =, max_entries =, flags =, inner = } -> map */
int mb_map_create_lua(lua_State *L)
{
	struct mb_create how = { 0 };
	struct mb_map *map;
	MB_ERROR(err);

	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	read_plain(L, &how);
	how.key = type_at(L, "key");
	how.value = type_at(L, "value");
	how.flags = flags_at(L);
	how.inner = inner_at(L);
	if (mb_map_create(&how, &map, &err) != 0)
		return mb_raise(L, &err);
	mb_map_push(L, map, 0);
	return 1;
}
