/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bpf.migration: what one map holds into another of a changed layout, step by step. Migrations at
 * load are takeover.c's.
 */
#include <errno.h>

#include "bind.h"
#include "engine/migration.h"

/* ---- counters that are summed ---------------------------------------------------------------------------- */

size_t mb_add_paths(lua_State *L, int i, const char **paths)
{
	size_t n = 0;

	if (lua_isnil(L, i) || (lua_isboolean(L, i) && !lua_toboolean(L, i)))
		return 0;
	if (lua_isboolean(L, i)) {
		paths[0] = "";
		return 1;
	}
	if (lua_type(L, i) == LUA_TSTRING) {
		paths[0] = lua_tostring(L, i);
		return 1;
	}
	if (!lua_istable(L, i))
		mb_mistake(L, NULL, "add is true, a path of a counter or a list of them, not a %s",
			   luaL_typename(L, i));
	for (; n < MB_MAX_ADD && lua_rawgeti(L, i, (lua_Integer)n + 1) != LUA_TNIL; n++) {
		if (lua_type(L, -1) != LUA_TSTRING)
			mb_mistake(L, NULL, "paths of counters are strings, not %s",
				   luaL_typename(L, -1));
		paths[n] = lua_tostring(L, -1);
		lua_pop(L, 1);
	}
	if (n < MB_MAX_ADD)
		lua_pop(L, 1);
	return n;
}

static void set_count(lua_State *L, const char *name, uint64_t n)
{
	lua_pushinteger(L, (lua_Integer)n);
	lua_setfield(L, -2, name);
}

void mb_report_push(lua_State *L, const struct mb_migration_report *r)
{
	lua_createtable(L, 0, 8);
	set_count(L, "passes", r->passes);
	set_count(L, "entries", r->entries);
	set_count(L, "copied", r->copied);
	set_count(L, "deleted", r->deleted);
	set_count(L, "conflicts", r->conflicts);
	set_count(L, "summed", r->summed);
	lua_pushboolean(L, r->busy);
	lua_setfield(L, -2, "busy");
	lua_createtable(L, 0, 3);
	set_count(L, "added", r->late_added);
	set_count(L, "changed", r->late_changed);
	set_count(L, "deleted", r->late_deleted);
	lua_setfield(L, -2, "late");
}

/* ---- bpf.migration ---------------------------------------------------------------------------------------------- */

/* migration(old, new [, { add= }]) -> migration */
int mb_migration_lua(lua_State *L)
{
	static const struct mb_option options[] = { { "add", MB_OPTION_ANY, 0 }, { NULL, 0, 0 } };
	struct mb_map *from = mb_class_check(L, 1, &mb_map_class);
	struct mb_map *to = mb_class_check(L, 2, &mb_map_class);
	struct mb_migration *migration;
	const char *paths[MB_MAX_ADD];
	struct mb_handle *h;
	MB_ERROR(err);
	size_t n;

	lua_settop(L, 3);
	mb_options(L, 3, "migration", options, NULL);
	if (lua_isnil(L, 3))
		lua_pushnil(L);
	else
		lua_getfield(L, 3, "add");
	n = mb_add_paths(L, 4, paths);
	h = mb_class_new(L, &mb_migration_class, 0);
	if (mb_migration_new(from, to, paths, n, &migration, &err) != 0)
		return mb_raise(L, &err);
	h->thing = migration;
	return 1;
}

static int run(lua_State *L, int (*fn)(struct mb_migration *m, struct mb_error *err))
{
	struct mb_migration *m = mb_class_check(L, 1, &mb_migration_class);
	MB_ERROR(err);

	if (fn(m, &err) != 0)
		return mb_raise(L, &err);
	mb_report_push(L, mb_migration_report(m));
	return 1;
}

/* migration:copy() -> report */
static int migration_copy(lua_State *L)
{
	return run(L, mb_migration_copy);
}

/* migration:finish() -> report */
static int migration_finish(lua_State *L)
{
	return run(L, mb_migration_finish);
}

static bool migration_closed(const void *thing)
{
	return mb_migration_closed(thing);
}

/* migration:close(), <close>, the collector */
static void migration_close(void *thing)
{
	mb_migration_close(thing);
}

static void migration_unref(void *thing)
{
	mb_migration_free(thing);
}

static const char *migration_title(const void *thing)
{
	return mb_migration_name(thing);
}

static int migration_get(lua_State *L, void *thing, const char *name)
{
	if (strcmp(name, "name") == 0)
		lua_pushstring(L, mb_migration_name(thing));
	else if (strcmp(name, "report") == 0)
		mb_report_push(L, mb_migration_report(thing));
	else
		return 0;
	return 1;
}

static const luaL_Reg methods[] = {
	{ "copy", migration_copy },
	{ "finish", migration_finish },
	{ NULL, NULL },
};
static const char *const properties[] = { "name", "report", "closed", NULL };

const struct mb_class mb_migration_class = {
	.name = "moonbee.migration",
	.methods = methods,
	.properties = properties,
	.get = migration_get,
	.closed = migration_closed,
	.close = migration_close,
	.unref = migration_unref,
	.title = migration_title,
};
