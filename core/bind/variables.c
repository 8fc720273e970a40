/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bpf.vars and bpf.program: what someone else loaded.
 */
#include "bind.h"

/* Protected: (view, owner | nil) -> view. */
static int push_view(lua_State *L)
{
	mb_view_push(L, lua_touserdata(L, 1), lua_isnil(L, 2) ? 0 : 2);
	return 1;
}

int mb_view_try_take(lua_State *L, const struct mb_view *view, int owner)
{
	int rc;

	if (owner)
		owner = lua_absindex(L, owner);
	lua_pushcfunction(L, push_view);
	lua_pushlightuserdata(L, (void *)(uintptr_t)view);
	if (owner)
		lua_pushvalue(L, owner);
	else
		lua_pushnil(L);
	rc = lua_pcall(L, 2, 1, 0);
	mb_region_unref(view->region); /* the view holds it now */
	return rc;
}

void mb_view_push_take(lua_State *L, const struct mb_view *view, int owner)
{
	if (mb_view_try_take(L, view, owner) != LUA_OK)
		lua_error(L);
}

static void push_by_id(lua_State *L, lua_Integer id)
{
	MB_ERROR(err);
	struct mb_program *prog;

	luaL_argcheck(L, id > 0 && id <= UINT32_MAX, 1, "an id is a number from 1 on");
	if (mb_program_by_id((uint32_t)id, &prog, &err) != 0)
		mb_raise(L, &err);
	mb_program_push(L, prog, 0);
}

static void push_pinned(lua_State *L, const char *path)
{
	MB_ERROR(err);
	struct mb_pinned found;

	if (mb_pinned_open(path, MB_PIN_BOTH, &found, &err) != 0)
		mb_raise(L, &err);
	if (found.kind == MB_PINNED_PROGRAM) {
		mb_program_push(L, found.program, 0);
		return;
	}
	if (found.kind == MB_PINNED_MAP)
		mb_map_unref(found.map);
	else
		mb_link_unref(found.link);
	mb_mistake(L, NULL, "what is pinned at %s is a %s, no program", path,
		   found.kind == MB_PINNED_MAP ? "map" : "link");
}

/* program(id) -> program */
static int lib_program(lua_State *L)
{
	push_by_id(L, luaL_checkinteger(L, 1));
	return 1;
}

/* vars(program | id | pin path [, { write = true }]) -> view of all its global variables */
static int lib_vars(lua_State *L)
{
	struct {
		bool write;
	} o = { false };
	static const struct mb_option options[] = { { "write", LUA_TBOOLEAN, 0 }, { NULL, 0, 0 } };
	struct mb_program *prog;
	MB_ERROR(err);
	struct mb_view view;
	bool ours;
	int rc;

	lua_settop(L, 2);
	mb_options(L, 2, "bpf.vars", options, &o);
	ours = lua_type(L, 1) == LUA_TNUMBER || lua_type(L, 1) == LUA_TSTRING;
	if (ours) {
		if (lua_type(L, 1) == LUA_TNUMBER)
			push_by_id(L, luaL_checkinteger(L, 1));
		else
			push_pinned(L, lua_tostring(L, 1));
		lua_replace(L, 1);
	}
	prog = mb_class_check(L, 1, &mb_program_class);
	rc = mb_variables_open(prog, o.write, &view, &err);
	if (ours) /* the mappings are enough: do not keep the program loaded until a collection */
		mb_program_close(prog);
	if (rc)
		return mb_raise(L, &err);
	mb_view_push_take(L, &view, 0);
	lua_pushvalue(L, -1); /* owner of what is in it: bpf.txn needs all sections */
	lua_setiuservalue(L, -2, MB_UV_OWNER);
	return 1;
}

const luaL_Reg mb_variables_functions[] = { { "program", lib_program },
					    { "vars", lib_vars },
					    { NULL, NULL } };
