/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pins: map:pin and unpin, opening what is pinned, what is pinned below a directory and what was left
 * behind there. Programs' and links' own methods are theirs.
 */
#include "bind.h"
#include "engine/pins.h"

static const char *const kinds
	[] = { [MB_PINNED_MAP] = "map", [MB_PINNED_PROGRAM] = "program", [MB_PINNED_LINK] = "link" };

bool mb_pin_over(lua_State *L, int i)
{
	static const struct mb_option options[] = { { "replace", LUA_TBOOLEAN, 0 },
						    { NULL, 0, 0 } };
	bool over = false;

	mb_options(L, i, "pin", options, &over);
	return over;
}

/* map:pin(path [, { replace = true }]) */
int mb_map_pin_lua(lua_State *L)
{
	struct mb_map *map = mb_class_check(L, 1, &mb_map_class);
	const char *path = luaL_checkstring(L, 2);
	MB_ERROR(err);

	if (mb_map_pin(map, path, mb_pin_over(L, 3), &err) != 0)
		return mb_raise(L, &err);
	return 0;
}

/* map:unpin() */
int mb_map_unpin_lua(lua_State *L)
{
	MB_ERROR(err);

	if (mb_map_unpin(mb_class_check(L, 1, &mb_map_class), &err) != 0)
		return mb_raise(L, &err);
	return 0;
}

/* pinned(path [, { readonly = true | writeonly = true }]) -> map | program | link */
int mb_pinned_lua(lua_State *L)
{
	struct {
		bool readonly, writeonly;
	} o = { false, false };
	static const struct mb_option options[] = { { "readonly", LUA_TBOOLEAN, 0 },
						    { "writeonly", LUA_TBOOLEAN, sizeof(bool) },
						    { NULL, 0, 0 } };
	const char *path = luaL_checkstring(L, 1);
	MB_ERROR(err);
	struct mb_pinned found;

	lua_settop(L, 2);
	mb_options(L, 2, "pinned", options, &o);
	if (o.readonly && o.writeonly)
		return mb_mistake(L, NULL, "a pin is opened readonly or writeonly, not both");
	if (mb_pinned_open(path,
			   o.readonly  ? MB_PIN_READ :
			   o.writeonly ? MB_PIN_WRITE :
					 MB_PIN_BOTH,
			   &found, &err) != 0)
		return mb_raise(L, &err);
	if (found.kind == MB_PINNED_MAP)
		mb_map_push(L, found.map, 0);
	else if (found.kind == MB_PINNED_PROGRAM)
		mb_program_push(L, found.program, 0);
	else
		mb_link_push(L, found.link, 0);
	return 1;
}

/* ---- lists ------------------------------------------------------------------------------------------------ */

static void set_string(lua_State *L, const char *name, const char *value)
{
	lua_pushstring(L, value);
	lua_setfield(L, -2, name);
}

static void set_integer(lua_State *L, const char *name, lua_Integer value)
{
	lua_pushinteger(L, value);
	lua_setfield(L, -2, name);
}

static void set_boolean(lua_State *L, const char *name, bool value)
{
	lua_pushboolean(L, value);
	lua_setfield(L, -2, name);
}

static void push_owner(lua_State *L, const struct mb_owner *owner)
{
	lua_createtable(L, 0, 4);
	set_integer(L, "pid", owner->pid);
	set_integer(L, "uid", owner->uid);
	set_boolean(L, "alive", mb_owner_alive(owner));
	set_boolean(L, "cleanup", owner->cleanup);
}

struct rows {
	struct mb_pin_row *list;
	size_t n;
};

static void rows_fini(void *memory)
{
	struct rows *rows = memory;

	mb_pins_free(rows->list, rows->n);
}

/* pins([dir]) -> { { path=, kind=, id=, name=, type=, owner= | nil }, … } */
static int lib_pins(lua_State *L)
{
	const char *dir = luaL_optstring(L, 1, "/sys/fs/bpf");
	struct rows *rows = mb_scratch_push(L, sizeof(*rows), rows_fini);
	MB_ERROR(err);

	if (mb_pins_list(dir, &rows->list, &rows->n, &err) != 0)
		return mb_raise(L, &err);
	lua_createtable(L, (int)rows->n, 0);
	for (size_t i = 0; i < rows->n; i++) {
		const struct mb_pin_row *row = &rows->list[i];

		lua_createtable(L, 0, 6);
		set_string(L, "path", row->path);
		set_string(L, "kind", kinds[row->kind]);
		set_integer(L, "id", row->id);
		set_string(L, "name", row->name);
		set_string(L, "type", row->type);
		if (row->owned) {
			push_owner(L, &row->owner);
			lua_setfield(L, -2, "owner");
		}
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}

struct left {
	struct mb_left *list;
	size_t n;
};

static void left_fini(void *memory)
{
	struct left *left = memory;

	mb_left_free(left->list, left->n);
}

/* collect_pins([dir [, { all=, dry= }]]) -> { { path=, kind=, id=, owner=, removed=, error= }, … } */
static int lib_collect_pins(lua_State *L)
{
	struct {
		bool all, dry;
	} o = { false, false };
	static const struct mb_option options[] = { { "all", LUA_TBOOLEAN, 0 },
						    { "dry", LUA_TBOOLEAN, sizeof(bool) },
						    { NULL, 0, 0 } };
	const char *dir = luaL_optstring(L, 1, "/sys/fs/bpf");
	struct left *left;
	MB_ERROR(err);

	lua_settop(L, 2);
	mb_options(L, 2, "collect_pins", options, &o);
	left = mb_scratch_push(L, sizeof(*left), left_fini);
	if (mb_pins_collect(dir, o.all, o.dry, &left->list, &left->n, &err) != 0)
		return mb_raise(L, &err);
	lua_createtable(L, (int)left->n, 0);
	for (size_t i = 0; i < left->n; i++) {
		const struct mb_left *one = &left->list[i];

		lua_createtable(L, 0, 6);
		set_string(L, "path", one->path);
		set_string(L, "kind", kinds[one->owner.kind]);
		set_integer(L, "id", one->owner.id);
		push_owner(L, &one->owner);
		lua_setfield(L, -2, "owner");
		set_boolean(L, "removed", one->removed);
		if (one->code)
			set_string(L, "error", mb_error_text(one->code));
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}

const luaL_Reg mb_pin_functions[] = {
	{ "migration", mb_migration_lua },
	{ "pins", lib_pins },
	{ "collect_pins", lib_collect_pins },
	{ NULL, NULL },
};
