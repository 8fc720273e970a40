/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the kernel holds, by id: lists as plain tables, and handles for one of them.
 */
#include "bind.h"
#include "engine/ids.h"

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

struct rows {
	struct mb_id_row *list;
	size_t n;
};

static void rows_fini(void *memory)
{
	struct rows *rows = memory;

	mb_ids_free(rows->list, rows->n);
}

static void push_map_row(lua_State *L, const struct mb_id_row *row)
{
	set_integer(L, "key_size", row->key_size);
	set_integer(L, "value_size", row->value_size);
	set_integer(L, "max_entries", row->max_entries);
	set_integer(L, "flags", row->flags);
}

static void push_program_row(lua_State *L, const struct mb_id_row *row)
{
	set_integer(L, "uid", row->uid);
	set_integer(L, "loaded_ns", (lua_Integer)row->loaded_ns);
	lua_createtable(L, (int)row->nmaps, 0);
	for (uint32_t i = 0; i < row->nmaps; i++) {
		lua_pushinteger(L, row->maps[i]);
		lua_rawseti(L, -2, i + 1);
	}
	lua_setfield(L, -2, "map_ids");
}

static void push_row(lua_State *L, const struct mb_id_row *row)
{
	lua_createtable(L, 0, 8);
	set_integer(L, "id", row->id);
	set_string(L, "name", row->name);
	set_string(L, "type", row->type);
	if (row->memory)
		set_integer(L, "memory", (lua_Integer)row->memory);
	if (row->kind == MB_PINNED_MAP)
		push_map_row(L, row);
	else if (row->kind == MB_PINNED_PROGRAM)
		push_program_row(L, row);
	else if (row->prog_id)
		set_integer(L, "prog_id", row->prog_id);
}

static int list(lua_State *L, enum mb_pinned_kind kind)
{
	struct rows *rows = mb_scratch_push(L, sizeof(*rows), rows_fini);
	MB_ERROR(err);

	if (mb_ids_list(kind, &rows->list, &rows->n, &err) != 0)
		return mb_raise(L, &err);
	lua_createtable(L, (int)rows->n, 0);
	for (size_t i = 0; i < rows->n; i++) {
		push_row(L, &rows->list[i]);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}

/* maps() -> { { id=, name=, type=, … }, … } */
static int lib_maps(lua_State *L)
{
	return list(L, MB_PINNED_MAP);
}

/* programs() -> { … } */
static int lib_programs(lua_State *L)
{
	return list(L, MB_PINNED_PROGRAM);
}

/* links() -> { … } */
static int lib_links(lua_State *L)
{
	return list(L, MB_PINNED_LINK);
}

static uint32_t id_arg(lua_State *L)
{
	lua_Integer id = luaL_checkinteger(L, 1);

	luaL_argcheck(L, id >= 1 && id <= UINT32_MAX, 1, "an id is a number from 1 on");
	return (uint32_t)id;
}

/* map(id) -> map */
static int lib_map(lua_State *L)
{
	struct mb_map *map;
	MB_ERROR(err);

	if (mb_map_by_id(id_arg(L), &map, &err) != 0)
		return mb_raise(L, &err);
	mb_map_push(L, map, 0);
	return 1;
}

/* link(id) -> link */
static int lib_link(lua_State *L)
{
	struct mb_link *link;
	MB_ERROR(err);

	if (mb_link_by_id(id_arg(L), &link, &err) != 0)
		return mb_raise(L, &err);
	mb_link_push(L, link, 0);
	return 1;
}

struct holders {
	struct mb_holder *list;
	size_t n;
};

static void holders_fini(void *memory)
{
	struct holders *h = memory;

	mb_holders_free(h->list);
}

/* holders() -> { { kind=, id=, pid=, name= }, … }, hidden */
static int lib_holders(lua_State *L)
{
	static const char *const kinds[] = { "map", "program", "link" };
	struct holders *h = mb_scratch_push(L, sizeof(*h), holders_fini);
	MB_ERROR(err);
	size_t hidden;

	if (mb_holders_list(&h->list, &h->n, &hidden, &err) != 0)
		return mb_raise(L, &err);
	lua_createtable(L, (int)h->n, 0);
	for (size_t i = 0; i < h->n; i++) {
		lua_createtable(L, 0, 4);
		set_string(L, "kind", kinds[h->list[i].kind]);
		set_integer(L, "id", h->list[i].id);
		set_integer(L, "pid", h->list[i].pid);
		set_string(L, "name", h->list[i].name);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	lua_pushinteger(L, (lua_Integer)hidden);
	return 2;
}

const luaL_Reg mb_id_functions[] = {
	{ "maps", lib_maps }, { "programs", lib_programs }, { "links", lib_links },
	{ "map", lib_map },   { "link", lib_link },	    { "holders", lib_holders },
	{ NULL, NULL },
};
