/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * map:update and map:edit: read a value, change it, write it back; under its spin lock in one step.
 */
#include "bind.h"
#include "engine/map_kind.h"

/* An edit under a lock begins anew when another writer came in between; so often, then it gives up. */
#define MOST_TRIES 10000

/* What changes the value on top of the stack: the table or function at index 3. */
typedef void (*change_fn)(lua_State *L);

static void change_by_table(lua_State *L)
{
	mb_encode_view(L, 3, mb_view_arg(L, -1), MB_ENCODE_UPDATE);
}

static void change_by_function(lua_State *L)
{
	lua_pushvalue(L, 3);
	lua_pushvalue(L, -2);
	lua_call(L, 1, 0);
}

/* Write back what was read: only if it is still there, where the kernel can tell. */
static int change_once(lua_State *L, struct mb_map *map, const struct mb_entry *e, const void *key,
		       uint64_t flags, change_fn change)
{
	struct mb_region *region = mb_value_view(L, map, e->value, MB_REGION_WRITABLE);
	MB_ERROR(err);
	int rc = mb_map_get(map, key, region->base, 0, &err);

	if (rc > 0) {
		change(L);
		rc = mb_map_set(map, key, region->base, MB_MAP_EXIST | flags, &err);
	}
	return rc < 0 ? mb_raise(L, &err) : rc;
}

/* Under the lock nobody comes in between: if somebody has, it begins anew. */
static int change_locked(lua_State *L, struct mb_map *map, const struct mb_entry *e,
			 const void *key, change_fn change)
{
	void *old = lua_newuserdatauv(L, e->value->size, 0);
	int top = lua_gettop(L), rc;
	MB_ERROR(err);

	for (int tries = 0; tries < MOST_TRIES; tries++) {
		struct mb_region *region = mb_value_view(L, map, e->value, MB_REGION_WRITABLE);

		rc = mb_map_get(map, key, region->base, MB_MAP_LOCK, &err);
		if (rc > 0) {
			memcpy(old, region->base, e->value->size);
			change(L);
			rc = mb_map_swap_locked(map, key, old, region->base, &err);
		}
		if (rc < 0)
			return mb_raise(L, &err);
		if (rc < 2)
			return rc;
		lua_settop(L, top);
	}
	return luaL_error(L, "edit in map '%s': other writers changed the value all the time",
			  mb_map_name(map));
}

static int do_change(lua_State *L, const char *what, int type, change_fn change)
{
	uint64_t small[MB_SMALL / 8];
	struct mb_map *map = mb_class_check(L, 1, &mb_map_class);
	struct mb_entry e = mb_entry_of(L, map, MB_OP_GET | MB_OP_SET);
	uint64_t flags = mb_map_flags(L, 4);
	struct mb_fds *fds;
	void *key;
	int rc = 0;

	luaL_checktype(L, 3, type);
	if (e.value->enc != MB_ENC_NONE || e.kind->holds != MB_HOLDS_DATA)
		mb_mistake(L, "use m:set(key, value)", "%s is for structs, and the value is %s",
			   what, e.value->name);
	luaL_argcheck(L, flags == MB_MAP_ANY || flags == MB_MAP_LOCK, 4,
		      "\"lock\" or nothing: what is changed must be there");
	fds = mb_fds_new(L, &e, 1);
	key = mb_map_buffer(L, small, e.key->size);
	if (!mb_encode_key(L, 2, &e, fds, true, key))
		rc = 0;
	else if (flags & MB_MAP_LOCK)
		rc = change_locked(L, map, &e, key, change);
	else
		rc = change_once(L, map, &e, key, flags, change);
	mb_fds_close(fds);
	lua_pushboolean(L, rc > 0);
	return 1;
}

/* map:update(key, { field = value } [, "lock"]) -> true | false if absent */
int mb_map_update_lua(lua_State *L)
{
	return do_change(L, "update", LUA_TTABLE, change_by_table);
}

/* map:edit(key, fn [, "lock"]) -> true | false if absent      fn gets a copy and changes it */
int mb_map_edit_lua(lua_State *L)
{
	return do_change(L, "edit", LUA_TFUNCTION, change_by_function);
}
