/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Maps: single operations and properties. Keys and values are typed by BTF; walking is walk.c's.
 */
#include <errno.h>

#include "bind.h"

#define SMALL 256

void mb_map_push(lua_State *L, struct mb_map *map, int owner)
{
	mb_class_push(L, &mb_map_class, map, owner);
}

static struct mb_map *self(lua_State *L)
{
	return mb_class_check(L, 1, &mb_map_class);
}

/* ---- keys and values --------------------------------------------------------------------------------- */

struct plans {
	const struct mb_plan *key, *value;
};

static struct plans plans_of(lua_State *L, struct mb_map *map)
{
	MB_ERROR(err);
	struct plans p;

	if (mb_map_plans(map, &p.key, &p.value, &err) != 0)
		mb_raise(L, &err);
	return p;
}

static void need_key(lua_State *L, struct mb_map *map, const struct plans *p)
{
	struct mb_map_info info;

	if (p->key && p->value)
		return;
	mb_map_info(map, &info, NULL);
	mb_mistake(L, strcmp(info.type, "ringbuf") == 0 ? "use m:reader() for its events" : NULL,
		   "%s '%s' has no keys", info.type, info.name);
}

/* Memory for n bytes: the caller's small buffer, or a userdata pushed on the stack. */
static void *buffer(lua_State *L, void *small, size_t n)
{
	return n <= SMALL ? small : lua_newuserdatauv(L, n, 0);
}

static const void *key_arg(lua_State *L, struct mb_map *map, const struct plans *p, int i,
			   void *small)
{
	void *key;

	need_key(L, map, p);
	key = buffer(L, small, p->key->size);
	memset(key, 0, p->key->size);
	luaL_checkany(L, i);
	mb_encode_bytes(L, i, p->key, key, MB_ENCODE_INIT, "key");
	return key;
}

/* Push a view for one value, in memory of its own. */
static struct mb_region *value_view(lua_State *L, struct mb_map *map, const struct mb_plan *plan,
				    uint32_t flags)
{
	static const char before[] = "value of map '";
	const char *name = mb_map_name(map);
	size_t n = strnlen(name, 40);
	char title[64];

	memcpy(title, before, sizeof(before) - 1);
	memcpy(title + sizeof(before) - 1, name, n);
	memcpy(title + sizeof(before) - 1 + n, "'", 2);
	return mb_view_push_new(L, plan, plan->size, flags, title)->region;
}

/* Push a scalar that lies in plain memory. */
static void push_scalar(lua_State *L, const struct mb_plan *plan, void *bytes)
{
	struct mb_region region = { .base = bytes, .len = plan->size, .refs = 1 };
	struct mb_view view = { &region, plan, 0, 0, 0 };

	mb_push_view(L, &view, 0);
}

static uint64_t set_flags(lua_State *L, int i)
{
	static const char *const names[] = { "any", "noexist", "exist", "lock", NULL };
	static const uint64_t flags[] = { MB_MAP_ANY, MB_MAP_NOEXIST, MB_MAP_EXIST, MB_MAP_LOCK };

	return lua_isnoneornil(L, i) ? MB_MAP_ANY : flags[luaL_checkoption(L, i, NULL, names)];
}

/* ---- get ------------------------------------------------------------------------------------------------ */

typedef int (*fetch_fn)(struct mb_map *map, const void *key, void *value, struct mb_error *err);

static int fetch_get(struct mb_map *map, const void *key, void *value, struct mb_error *err)
{
	return mb_map_get(map, key, value, 0, err);
}

/* Push the value, or nil: a scalar as it is, the rest as a snapshot. */
static int push_fetched(lua_State *L, struct mb_map *map, const struct plans *p, const void *key,
			fetch_fn fetch)
{
	MB_ERROR(err);
	uint64_t scalar[SMALL / 8];
	void *to;
	int rc;

	if (p->value->enc == MB_ENC_NONE)
		to = value_view(L, map, p->value, MB_REGION_SNAPSHOT)->base;
	else
		to = buffer(L, scalar, p->value->size);
	rc = fetch(map, key, to, &err);
	if (rc < 0)
		return mb_raise(L, &err);
	if (!rc)
		lua_pushnil(L);
	else if (p->value->enc != MB_ENC_NONE)
		push_scalar(L, p->value, to);
	return 1;
}

static int fetch_by(lua_State *L, fetch_fn fetch)
{
	uint64_t small[SMALL / 8];
	struct mb_map *map = self(L);
	struct plans p = plans_of(L, map);

	return push_fetched(L, map, &p, key_arg(L, map, &p, 2, small), fetch);
}

/* map:get(key) -> value | nil      a struct's value is a read-only snapshot */
static int map_get(lua_State *L)
{
	return fetch_by(L, fetch_get);
}

/* map:take(key) -> value | nil      and it is gone from the map (Linux 5.14) */
static int map_take(lua_State *L)
{
	return fetch_by(L, mb_map_take);
}

/* ---- set -------------------------------------------------------------------------------------------------- */

/* Unnamed fields of a value are 0. */
static int do_set(lua_State *L, struct mb_map *map, int key_at, int value_at, uint64_t flags)
{
	uint64_t small_key[SMALL / 8], small_value[SMALL / 8];
	struct plans p = plans_of(L, map);
	const void *key = key_arg(L, map, &p, key_at, small_key);
	void *value = buffer(L, small_value, p.value->size);
	MB_ERROR(err);
	int rc;

	memset(value, 0, p.value->size);
	luaL_checkany(L, value_at);
	mb_encode_bytes(L, value_at, p.value, value, MB_ENCODE_INIT, "value");
	rc = mb_map_set(map, key, value, flags, &err);
	if (rc < 0)
		return mb_raise(L, &err);
	return rc;
}

/* map:set(key, value [, "noexist" | "exist" | "lock"]) -> true, or false where presence decides */
static int map_set(lua_State *L)
{
	struct mb_map *map = self(L);

	lua_pushboolean(L, do_set(L, map, 2, 3, set_flags(L, 4)));
	return 1;
}

/* Read key's value into a writable view, which is pushed; false if absent. */
static bool read_for_write(lua_State *L, struct mb_map *map, const struct plans *p, const void *key,
			   uint64_t flags, struct mb_region **out)
{
	MB_ERROR(err);
	int rc;

	*out = value_view(L, map, p->value, MB_REGION_WRITABLE);
	rc = mb_map_get(map, key, (*out)->base, flags & MB_MAP_LOCK, &err);
	if (rc < 0)
		mb_raise(L, &err);
	return rc > 0;
}

/* Write back what was read: only if it is still there, where the kernel can tell. */
static int write_back(lua_State *L, struct mb_map *map, const void *key, struct mb_region *region,
		      uint64_t flags)
{
	MB_ERROR(err);
	int rc = mb_map_set(map, key, region->base, MB_MAP_EXIST | flags, &err);

	if (rc < 0)
		return mb_raise(L, &err);
	lua_pushboolean(L, rc > 0);
	return 1;
}

static void need_struct(lua_State *L, const struct plans *p, const char *what)
{
	if (p->value->enc != MB_ENC_NONE)
		mb_mistake(L, "use m:set(key, value)", "%s is for structs, and the value is %s",
			   what, p->value->name);
}

/* map:update(key, { field = value }) -> true | false if absent      read, change, write */
static int map_update(lua_State *L)
{
	uint64_t small[SMALL / 8];
	struct mb_map *map = self(L);
	struct plans p = plans_of(L, map);
	const void *key = key_arg(L, map, &p, 2, small);
	uint64_t flags = set_flags(L, 4);
	struct mb_region *region;

	luaL_checktype(L, 3, LUA_TTABLE);
	need_struct(L, &p, "update");
	if (!read_for_write(L, map, &p, key, flags, &region)) {
		lua_pushboolean(L, false);
		return 1;
	}
	mb_encode_view(L, 3, mb_view_arg(L, -1), MB_ENCODE_UPDATE);
	return write_back(L, map, key, region, flags);
}

/* map:edit(key, fn) -> true | false if absent      fn gets a copy and changes it */
static int map_edit(lua_State *L)
{
	uint64_t small[SMALL / 8];
	struct mb_map *map = self(L);
	struct plans p = plans_of(L, map);
	const void *key = key_arg(L, map, &p, 2, small);
	uint64_t flags = set_flags(L, 4);
	struct mb_region *region;

	luaL_checktype(L, 3, LUA_TFUNCTION);
	need_struct(L, &p, "edit");
	if (!read_for_write(L, map, &p, key, flags, &region)) {
		lua_pushboolean(L, false);
		return 1;
	}
	lua_pushvalue(L, 3);
	lua_pushvalue(L, -2);
	lua_call(L, 1, 0);
	return write_back(L, map, key, region, flags);
}

/* ---- delete, count ------------------------------------------------------------------------------------------ */

static int do_delete(lua_State *L, struct mb_map *map, int key_at)
{
	uint64_t small[SMALL / 8];
	struct plans p = plans_of(L, map);
	const void *key = key_arg(L, map, &p, key_at, small);
	MB_ERROR(err);
	int rc = mb_map_delete(map, key, &err);

	if (rc < 0)
		return mb_raise(L, &err);
	return rc;
}

/* map:delete(key) -> true | false if absent */
static int map_delete(lua_State *L)
{
	lua_pushboolean(L, do_delete(L, self(L), 2));
	return 1;
}

/* map:count() -> entries, by walking */
static int map_count(lua_State *L)
{
	struct mb_map *map = self(L);
	struct plans p = plans_of(L, map);
	MB_ERROR(err);
	uint64_t n;

	need_key(L, map, &p);
	if (mb_map_count(map, &n, &err) != 0)
		return mb_raise(L, &err);
	lua_pushinteger(L, (lua_Integer)n);
	return 1;
}

/* map:clear() -> entries deleted */
static int map_clear(lua_State *L)
{
	struct mb_map *map = self(L);
	struct plans p = plans_of(L, map);
	MB_ERROR(err);
	uint64_t n;

	need_key(L, map, &p);
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
	struct mb_view view;

	if (mb_map_memory(self(L), &view, &err) != 0)
		return mb_raise(L, &err);
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

/* ---- pins ------------------------------------------------------------------------------------------------------ */

/* map:pin(path) */
static int map_pin(lua_State *L)
{
	MB_ERROR(err);

	if (mb_map_pin(self(L), luaL_checkstring(L, 2), &err) != 0)
		return mb_raise(L, &err);
	return 0;
}

/* map:unpin() */
static int map_unpin(lua_State *L)
{
	MB_ERROR(err);

	if (mb_map_unpin(self(L), &err) != 0)
		return mb_raise(L, &err);
	return 0;
}

/* pinned(path [, { readonly = true }]) -> map | program | link */
int mb_pinned_lua(lua_State *L)
{
	struct {
		bool readonly;
	} o = { false };
	static const struct mb_option options[] = { { "readonly", LUA_TBOOLEAN, 0 },
						    { NULL, 0, 0 } };
	const char *path = luaL_checkstring(L, 1);
	MB_ERROR(err);
	struct mb_pinned found;

	lua_settop(L, 2);
	mb_options(L, 2, "pinned", options, &o);
	if (mb_pinned_open(path, o.readonly, &found, &err) != 0)
		return mb_raise(L, &err);
	if (found.kind == MB_PINNED_MAP)
		mb_map_push(L, found.map, 0);
	else if (found.kind == MB_PINNED_PROGRAM)
		mb_program_push(L, found.program, 0);
	else
		mb_link_push(L, found.link, 0);
	return 1;
}

/* ---- m[k], properties --------------------------------------------------------------------------------------------- */

/* A number, table or view is a key; a string is a method or a property. */
static int map_index(lua_State *L)
{
	const struct mb_class *cls = lua_touserdata(L, lua_upvalueindex(1));

	if (lua_type(L, 2) != LUA_TSTRING)
		return map_get(L);
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
	if (lua_isnil(L, 3))
		do_delete(L, map, 2);
	else
		do_set(L, map, 2, 3, MB_MAP_ANY);
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
	else if (strcmp(name, "internal") == 0)
		lua_pushboolean(L, i->internal);
	else
		return 0;
	return 1;
}

static int map_property(lua_State *L, void *thing, const char *name)
{
	struct mb_map_info info;
	MB_ERROR(err);

	if (mb_map_info(thing, &info, &err) != 0)
		return mb_raise(L, &err);
	if (strcmp(name, "key_type") == 0)
		push_type(L, plans_of(L, thing).key);
	else if (strcmp(name, "value_type") == 0)
		push_type(L, mb_map_value_plan(thing));
	else
		return push_info(L, &info, name);
	return 1;
}

static int map_set_property(lua_State *L, void *thing, const char *name)
{
	MB_ERROR(err);
	lua_Integer n;

	int whole;

	if (strcmp(name, "max_entries") != 0)
		return 0;
	n = lua_tointegerx(L, 3, &whole);
	if (lua_type(L, 3) != LUA_TNUMBER || !whole || n < 1 || n > UINT32_MAX)
		return mb_mistake(L, NULL, "max_entries is a whole number from 1 to 4294967295");
	if (mb_map_resize(thing, (uint32_t)n, &err) != 0)
		return mb_raise(L, &err);
	return 1;
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
	{ "get", map_get },	      { "take", map_take },   { "set", map_set },
	{ "update", map_update },     { "edit", map_edit },   { "delete", map_delete },
	{ "count", map_count },	      { "clear", map_clear }, { "pairs", mb_map_pairs },
	{ "sum", mb_map_sum },	      { "top", mb_map_top },  { "pin", map_pin },
	{ "unpin", map_unpin },	      { "mmap", map_mmap },   { "freeze", map_freeze },
	{ "reader", mb_reader_open }, { NULL, NULL },
};
static const luaL_Reg meta[] = {
	{ "__index", map_index }, { "__newindex", map_newindex },
	{ "__len", map_len },	  { "__pairs", mb_map_pairs },
	{ NULL, NULL },
};
static const char *const properties[] = { "name",     "type",	    "key_type",	   "value_type",
					  "key_size", "value_size", "max_entries", "flags",
					  "id",	      "fd",	    "pin_path",	   "pin_by_name",
					  "internal", "percpu",	    "closed",	   NULL };

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
