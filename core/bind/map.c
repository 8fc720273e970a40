/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Maps as handles: properties, memory, pins. Entries are map_entry.c's, walking is walk.c's.
 */
#include "bind.h"
#include "engine/hold.h"
#include "engine/map_kind.h"

void mb_map_push(lua_State *L, struct mb_map *map, int owner)
{
	mb_class_push(L, &mb_map_class, map, owner);
}

static struct mb_map *self(lua_State *L)
{
	return mb_class_check(L, 1, &mb_map_class);
}

/* map:count() -> entries, by walking */
static int map_count(lua_State *L)
{
	struct mb_map *map = self(L);
	MB_ERROR(err);
	uint64_t n;

	mb_map_need(L, map, MB_OP_WALK);
	if (mb_map_count(map, &n, &err) != 0)
		return mb_raise(L, &err);
	lua_pushinteger(L, (lua_Integer)n);
	return 1;
}

/* map:clear() -> entries deleted, or set to zero in an array */
static int map_clear(lua_State *L)
{
	struct mb_map *map = self(L);
	MB_ERROR(err);
	uint64_t n;

	mb_map_need(L, map, MB_OP_CLEAR);
	if (mb_map_clear(map, &n, &err) != 0)
		return mb_raise(L, &err);
	lua_pushinteger(L, (lua_Integer)n);
	return 1;
}

/* ---- memory ------------------------------------------------------------------------------------------------- */

/* map:mmap() -> array view of its live memory (BPF_F_MMAPABLE) */
static int map_mmap(lua_State *L)
{
	MB_ERROR(err);
	struct mb_region *seen;
	struct mb_view view;

	if (mb_map_memory(self(L), &view, &err) != 0)
		return mb_raise(L, &err);
	seen = mb_hold_see(view.region);
	mb_region_unref(view.region);
	if (!seen)
		return luaL_error(L, "not enough memory");
	view.region = seen;
	view.born = seen->gen;
	mb_view_push_take(L, &view, 1);
	return 1;
}

/* map:freeze(): no writes from user space any more */
static int map_freeze(lua_State *L)
{
	MB_ERROR(err);

	if (mb_map_freeze(self(L), &err) != 0)
		return mb_raise(L, &err);
	return 0;
}

/* ---- m[k], properties --------------------------------------------------------------------------------------------- */

/* A number, table or view is a key; a string is a method or a property. */
static int map_index(lua_State *L)
{
	const struct mb_class *cls = lua_touserdata(L, lua_upvalueindex(1));

	if (lua_type(L, 2) != LUA_TSTRING)
		return mb_map_get_lua(L);
	lua_pushvalue(L, 2);
	if (lua_rawget(L, lua_upvalueindex(2)) != LUA_TNIL)
		return 1;
	return mb_class_property(L, cls);
}

static int map_newindex(lua_State *L)
{
	struct mb_map *map = self(L);

	if (lua_type(L, 2) == LUA_TSTRING)
		return mb_class_set_property(L, &mb_map_class);
	mb_map_store(L, map);
	return 0;
}

static int map_len(lua_State *L)
{
	return mb_mistake(L, "m:count() walks it, m.max_entries is its size",
			  "the length of a map costs a walk: # is not offered");
}

static void push_type(lua_State *L, const struct mb_plan *plan)
{
	if (plan)
		mb_type_push(L, plan);
	else
		lua_pushnil(L);
}

static int push_info(lua_State *L, const struct mb_map_info *i, const char *name)
{
	if (strcmp(name, "name") == 0)
		lua_pushstring(L, i->name);
	else if (strcmp(name, "type") == 0)
		lua_pushstring(L, i->type);
	else if (strcmp(name, "id") == 0)
		i->id ? lua_pushinteger(L, i->id) : lua_pushnil(L);
	else if (strcmp(name, "fd") == 0)
		i->fd >= 0 ? lua_pushinteger(L, i->fd) : lua_pushnil(L);
	else if (strcmp(name, "key_size") == 0)
		lua_pushinteger(L, i->key_size);
	else if (strcmp(name, "value_size") == 0)
		lua_pushinteger(L, i->value_size);
	else if (strcmp(name, "max_entries") == 0)
		lua_pushinteger(L, i->max_entries);
	else if (strcmp(name, "flags") == 0)
		lua_pushinteger(L, i->flags);
	else if (strcmp(name, "pin_path") == 0)
		lua_pushstring(L, i->pin_path);
	else if (strcmp(name, "pin_by_name") == 0)
		lua_pushboolean(L, i->pin_by_name);
	else if (strcmp(name, "percpu") == 0)
		lua_pushboolean(L, i->percpu);
	else if (strcmp(name, "autocreate") == 0)
		lua_pushboolean(L, i->autocreate);
	else if (strcmp(name, "internal") == 0)
		lua_pushboolean(L, i->internal);
	else
		return 0;
	return 1;
}

/* The value of a struct_ops map, before load: a view into what C initializes. */
static int push_image(lua_State *L, struct mb_map *map)
{
	MB_ERROR(err);
	struct mb_view view;

	if (mb_map_image(map, &view, &err) != 0)
		return mb_raise(L, &err);
	mb_view_push_take(L, &view, 1);
	return 1;
}

/* Its fields are set all at once, or not at all; unnamed ones stay. */
static int set_image(lua_State *L, struct mb_map *map)
{
	MB_ERROR(err);
	struct mb_view view;

	luaL_checktype(L, 3, LUA_TTABLE);
	if (mb_map_image(map, &view, &err) != 0)
		return mb_raise(L, &err);
	mb_view_push_take(L, &view, 1);
	mb_encode_view(L, 3, mb_view_arg(L, -1), MB_ENCODE_UPDATE);
	return 1;
}

static int map_property(lua_State *L, void *thing, const char *name)
{
	const struct mb_plan *key, *seen;
	struct mb_map_info info;
	MB_ERROR(err);

	if (mb_map_info(thing, &info, &err) != 0)
		return mb_raise(L, &err);
	if (strcmp(name, "value") == 0)
		return push_image(L, thing);
	if (mb_map_plans(thing, &key, &seen, &err) != 0)
		return mb_raise(L, &err);
	if (strcmp(name, "key_type") == 0)
		push_type(L, key);
	else if (strcmp(name, "value_type") == 0)
		push_type(L, mb_map_value_plan(thing));
	else
		return push_info(L, &info, name);
	return 1;
}

/* A number of 32 bits, from 1 on, as the value that is to be set. */
static uint32_t size_arg(lua_State *L, const char *name)
{
	int whole;
	lua_Integer n = lua_tointegerx(L, 3, &whole);

	if (lua_type(L, 3) != LUA_TNUMBER || !whole || n < 1 || n > UINT32_MAX)
		mb_mistake(L, NULL, "%s is a whole number from 1 to 4294967295", name);
	return (uint32_t)n;
}

static int map_set_property(lua_State *L, void *thing, const char *name)
{
	MB_ERROR(err);
	int rc;

	if (strcmp(name, "value") == 0)
		return set_image(L, thing);
	if (strcmp(name, "max_entries") == 0) {
		rc = mb_map_resize(thing, size_arg(L, name), &err);
	} else if (strcmp(name, "value_size") == 0) {
		rc = mb_map_set_value_size(thing, size_arg(L, name), &err);
	} else if (strcmp(name, "autocreate") == 0) {
		luaL_checktype(L, 3, LUA_TBOOLEAN);
		rc = mb_map_set_autocreate(thing, lua_toboolean(L, 3), &err);
	} else {
		return 0;
	}
	return rc ? mb_raise(L, &err) : 1;
}

/* ---- class --------------------------------------------------------------------------------------------------------- */

static bool map_closed(const void *thing)
{
	return mb_map_closed(thing);
}

static void map_close(void *thing)
{
	mb_map_close(thing);
}

static void map_unref(void *thing)
{
	mb_map_unref(thing);
}

static const char *map_title(const void *thing)
{
	return mb_map_name(thing);
}

static const luaL_Reg methods[] = {
	{ "get", mb_map_get_lua },
	{ "take", mb_map_take_lua },
	{ "set", mb_map_set_lua },
	{ "update", mb_map_update_lua },
	{ "edit", mb_map_edit_lua },
	{ "delete", mb_map_delete_lua },
	{ "get_many", mb_map_get_many_lua },
	{ "set_many", mb_map_set_many_lua },
	{ "delete_many", mb_map_delete_many_lua },
	{ "push", mb_queue_push_lua },
	{ "pop", mb_queue_pop_lua },
	{ "peek", mb_queue_peek_lua },
	{ "count", map_count },
	{ "clear", map_clear },
	{ "pairs", mb_map_pairs },
	{ "snapshot", mb_map_snapshot },
	{ "sum", mb_map_sum },
	{ "top", mb_map_top },
	{ "pin", mb_map_pin_lua },
	{ "unpin", mb_map_unpin_lua },
	{ "reuse", mb_map_reuse_lua },
	{ "mmap", map_mmap },
	{ "freeze", map_freeze },
	{ "reader", mb_reader_open },
	{ "attach", mb_map_attach_lua },
	{ "writer", mb_writer_open },
	{ NULL, NULL },
};
static const luaL_Reg meta[] = {
	{ "__index", map_index }, { "__newindex", map_newindex },
	{ "__len", map_len },	  { "__pairs", mb_map_pairs },
	{ NULL, NULL },
};
static const char *const properties[] = { "name",     "type",	    "key_type",	   "value_type",
					  "key_size", "value_size", "max_entries", "flags",
					  "id",	      "fd",	    "pin_path",	   "pin_by_name",
					  "internal", "percpu",	    "autocreate",  "value",
					  "closed",   NULL };

const struct mb_class mb_map_class = {
	.name = "moonbee.map",
	.methods = methods,
	.meta = meta,
	.properties = properties,
	.hint = "a string after a dot or in brackets is a property; for keys: m:get(key), "
		"m:set(key, value)",
	.get = map_property,
	.set = map_set_property,
	.closed = map_closed,
	.close = map_close,
	.unref = map_unref,
	.title = map_title,
};
