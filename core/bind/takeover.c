/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * obj:load() with its pinned maps: what on_mismatch says of those that differ, and the migration of
 * those that it says so of, with the switch of the programs in between. No Lua runs while libbpf does.
 */
#include <errno.h>

#include "bind.h"
#include "engine/migration.h"
#include "engine/takeover.h"

/* ---- on_mismatch ----------------------------------------------------------------------------------------- */

static const char *const words[] = { [MB_MISMATCH_ERROR] = "error",
				     [MB_MISMATCH_REPLACE] = "replace",
				     [MB_MISMATCH_MIGRATE] = "migrate",
				     [MB_MISMATCH_ADOPT] = "adopt",
				     [MB_MISMATCH_KEEP] = "keep" };

int mb_mismatch_word(const char *word)
{
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(words[i], word) == 0)
			return (int)i;
	return -1;
}

static const char *nth_word(const void *ctx, size_t i)
{
	(void)ctx;
	return i < sizeof(words) / sizeof(words[0]) ? words[i] : NULL;
}

int mb_mismatch_unknown(lua_State *L, const char *word)
{
	const char *near = mb_near(word, nth_word, NULL);

	return mb_mistake(
		L,
		near ? lua_pushfstring(L, "did you mean '%s'?", near) :
		       "\"error\", \"replace\", \"migrate\", \"adopt\", \"keep\", or a function",
		"on_mismatch = '%s' is not known", word);
}

static void diff_fini(void *memory)
{
	mb_map_diff_fini(memory);
}

/* Push the differences as a table. */
static void push_diff(lua_State *L, const struct mb_map_diff *diff)
{
	size_t len = mb_map_diff_text(diff, NULL, 0);
	luaL_Buffer text;
	char *to;

	lua_newtable(L);
	mb_diff_push(L, &diff->map, "map");
	mb_diff_push(L, &diff->key, "key");
	mb_diff_push(L, &diff->value, "value");
	to = luaL_buffinitsize(L, &text, len + 1);
	mb_map_diff_text(diff, to, len + 1);
	luaL_pushresultsize(&text, len);
	lua_setfield(L, -2, "text");
}

int mb_map_diff_lua(lua_State *L)
{
	struct mb_map *was = mb_class_check(L, 1, &mb_map_class);
	struct mb_map *is = mb_class_check(L, 2, &mb_map_class);
	struct mb_map_diff *diff;
	MB_ERROR(err);
	int n;

	lua_settop(L, 2);
	diff = mb_scratch_push(L, sizeof(*diff), diff_fini);
	n = mb_map_compare(was, is, diff, &err);
	if (n < 0)
		return mb_raise(L, &err);
	if (!n)
		return 0;
	push_diff(L, diff);
	return 1;
}

/* ask(function, map, old): what the function says of the differences, as a number; nil: none. */
static int ask(lua_State *L)
{
	struct mb_map *map = mb_class_check(L, 2, &mb_map_class);
	struct mb_map *old = mb_class_check(L, 3, &mb_map_class);
	struct mb_map_diff *diff;
	MB_ERROR(err);
	int n, word;

	lua_settop(L, 3);
	diff = mb_scratch_push(L, sizeof(*diff), diff_fini);
	n = mb_map_compare(old, map, diff, &err);
	if (n < 0)
		return mb_raise(L, &err);
	if (!n)
		return 0;
	lua_pushvalue(L, 1);
	push_diff(L, diff);
	lua_pushstring(L, mb_map_name(map));
	lua_setfield(L, -2, "map");
	lua_pushvalue(L, 3);
	lua_call(L, 2, 1);
	word = lua_type(L, -1) == LUA_TSTRING ? mb_mismatch_word(lua_tostring(L, -1)) : -1;
	if (lua_type(L, -1) == LUA_TSTRING && word < 0)
		return mb_mismatch_unknown(L, lua_tostring(L, -1));
	if (word < 0)
		return mb_mistake(L, NULL, "the function of on_mismatch returned a %s, not a word",
				  luaL_typename(L, -1));
	lua_pushinteger(L, word);
	return 1;
}

/* Call the function at index fn for each pinned map that differs. */
static void ask_all(lua_State *L, struct mb_object *obj, int fn)
{
	for (size_t i = 0; i < mb_object_maps(obj); i++) {
		struct mb_map *map = mb_object_map(obj, i), *old;
		struct mb_map_info info;
		MB_ERROR(err);
		int rc = mb_map_pinned_there(map, &old, &err);

		if (rc < 0)
			mb_raise(L, &err);
		if (!rc)
			continue;
		mb_map_push(L, old, 0); /* takes the reference */
		lua_pushcfunction(L, ask);
		lua_pushvalue(L, fn);
		mb_map_push(L, mb_map_ref(map), 1);
		lua_pushvalue(L, -4);
		lua_call(L, 3, 1);
		if (!lua_isnil(L, -1) && mb_map_info(old, &info, NULL) == 0)
			mb_map_on_mismatch(map, (enum mb_mismatch)lua_tointeger(L, -1), info.id);
		mb_map_close(old);
		lua_pop(L, 2);
	}
}

/* ---- migrating at load --------------------------------------------------------------------------------------- */

#define PASSES 2 /* before the switch; the second one is for what changed during the first */

struct moving {
	size_t n;
	struct {
		struct mb_map *map; /* the object's */
		struct mb_migration *migration;
	} maps[];
};

static void moving_fini(void *memory)
{
	struct moving *m = memory;

	for (size_t i = 0; i < m->n; i++)
		mb_migration_free(m->maps[i].migration);
}

static void raise_if(lua_State *L, int rc, struct mb_error *err)
{
	if (rc)
		mb_raise(L, err);
}

/* options.add[name], or options.add where that is no table of names. Pushes it. */
static void push_add(lua_State *L, int options, const char *map)
{
	if (!lua_istable(L, options) || lua_getfield(L, options, "add") != LUA_TTABLE)
		lua_pushnil(L);
	else
		lua_getfield(L, -1, map);
}

static void move_begin(lua_State *L, struct moving *m, struct mb_object *obj, int options)
{
	const char *paths[MB_MAX_ADD];
	MB_ERROR(err);

	for (size_t i = 0; i < mb_object_maps(obj); i++) {
		struct mb_map *map = mb_object_map(obj, i), *old = mb_map_migrates_from(map);
		int top = lua_gettop(L);
		size_t n;

		if (!old)
			continue;
		push_add(L, options, mb_map_name(map));
		n = mb_add_paths(L, lua_gettop(L), paths);
		raise_if(L, mb_migration_new(old, map, paths, n, &m->maps[m->n].migration, &err),
			 &err);
		m->maps[m->n++].map = map;
		lua_settop(L, top);
	}
}

/* migrate(obj, options | nil) -> { name = report } */
static int migrate(lua_State *L)
{
	struct mb_object *obj = mb_class_check(L, 1, &mb_object_class);
	struct moving *m;
	lua_Integer passes = PASSES;
	MB_ERROR(err);

	lua_settop(L, 2);
	m = mb_scratch_push(L, sizeof(*m) + mb_object_maps(obj) * sizeof(m->maps[0]), moving_fini);
	if (lua_istable(L, 2) && lua_getfield(L, 2, "passes") == LUA_TNUMBER)
		passes = lua_tointeger(L, -1);
	move_begin(L, m, obj, 2);
	for (lua_Integer pass = 0; pass < passes; pass++)
		for (size_t i = 0; i < m->n; i++)
			raise_if(L, mb_migration_copy(m->maps[i].migration, &err), &err);
	if (lua_istable(L, 2) && lua_getfield(L, 2, "switch") != LUA_TNIL) {
		lua_pushvalue(L, 1);
		lua_call(L, 1, 0);
	}
	for (size_t i = 0; i < m->n; i++)
		raise_if(L, mb_migration_finish(m->maps[i].migration, &err), &err);
	for (size_t i = 0; i < m->n; i++)
		raise_if(L, mb_map_migrated(m->maps[i].map, &err), &err);
	lua_newtable(L);
	for (size_t i = 0; i < m->n; i++) {
		mb_report_push(L, mb_migration_report(m->maps[i].migration));
		lua_setfield(L, -2, mb_map_name(m->maps[i].map));
	}
	return 1;
}

static bool migrates(struct mb_object *obj)
{
	for (size_t i = 0; i < mb_object_maps(obj); i++)
		if (mb_map_migrates_from(mb_object_map(obj, i)))
			return true;
	return false;
}

void mb_object_load_lua(lua_State *L, struct mb_object *obj, int options)
{
	MB_ERROR(err);

	if (lua_istable(L, options)) {
		if (lua_getfield(L, options, "on_mismatch") == LUA_TFUNCTION)
			ask_all(L, obj, lua_gettop(L));
		lua_pop(L, 1);
	}
	raise_if(L, mb_object_load(obj, &err), &err);
	if (!migrates(obj)) {
		lua_pushnil(L);
		return;
	}
	lua_pushcfunction(L, migrate);
	lua_pushvalue(L, 1);
	if (lua_istable(L, options))
		lua_getfield(L, options, "migrate");
	else
		lua_pushnil(L);
	if (lua_pcall(L, 2, 1, 0) != LUA_OK) {
		mb_object_close(obj); /* the pin still has the old map */
		lua_error(L);
	}
}

/* obj.maps.x:reuse(map [, "adopt" | "keep"]): before load, use that one */
int mb_map_reuse_lua(lua_State *L)
{
	static const char *const how[] = { "error", "adopt", "keep", NULL };
	static const enum mb_mismatch meant[] = { MB_MISMATCH_ERROR, MB_MISMATCH_ADOPT,
						  MB_MISMATCH_KEEP };
	struct mb_map *map = mb_class_check(L, 1, &mb_map_class);
	struct mb_map *other = mb_class_check(L, 2, &mb_map_class);
	MB_ERROR(err);

	raise_if(L, mb_map_reuse(map, other, meant[luaL_checkoption(L, 3, "error", how)], &err),
		 &err);
	return 0;
}
