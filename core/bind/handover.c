/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a policy's new object takes over from the one before: core.handover.
 */
#include <limits.h>

#include "bind.h"
#include "engine/handover.h"
#include "engine/layout.h"
#include "service.h"

/* section(obj, name) -> map | nil: the map behind a data section */
static int lib_section(lua_State *L)
{
	struct mb_object *obj = mb_class_check(L, 1, &mb_object_class);
	struct mb_map *map = mb_handover_section(obj, luaL_checkstring(L, 2));

	if (!map)
		return 0;
	mb_map_push(L, mb_map_ref(map), 1);
	return 1;
}

/* reuse(map, old): map's object, when it is loaded, uses old in its place */
static int lib_reuse(lua_State *L)
{
	struct mb_map *map = mb_class_check(L, 1, &mb_map_class);
	struct mb_map *old = mb_class_check(L, 2, &mb_map_class);
	MB_ERROR(err);

	if (mb_handover_reuse(map, old, &err) != 0)
		return mb_raise(L, &err);
	return 0;
}

/* has_timer(map): does its value hold a timer, or another thing that runs later by itself? */
static int lib_has_timer(lua_State *L)
{
	struct mb_map *map = mb_class_check(L, 1, &mb_map_class);
	const struct mb_plan *value = mb_map_value_plan(map);

	lua_pushboolean(L, value && mb_layout_holds_timer(value));
	return 1;
}

/* adopt(fd, name) -> map | program | link, with a descriptor of its own */
static int lib_adopt(lua_State *L)
{
	lua_Integer fd = luaL_checkinteger(L, 1);
	struct mb_pinned found;
	MB_ERROR(err);

	luaL_argcheck(L, fd >= 0 && fd <= INT_MAX, 1, "no descriptor");
	if (mb_handover_adopt((int)fd, luaL_checkstring(L, 2), &found, &err) != 0)
		return mb_raise(L, &err);
	if (found.kind == MB_PINNED_MAP)
		mb_map_push(L, found.map, 0);
	else if (found.kind == MB_PINNED_PROGRAM)
		mb_program_push(L, found.program, 0);
	else
		mb_link_push(L, found.link, 0);
	return 1;
}

/* move_pin(link, path): another name for its pin; it is never without one */
static int lib_move_pin(lua_State *L)
{
	MB_ERROR(err);

	if (mb_link_move_pin(mb_class_check(L, 1, &mb_link_class), luaL_checkstring(L, 2), &err) !=
	    0)
		return mb_raise(L, &err);
	return 0;
}

/* pin_dir(path): make the directory where pins will be; raises where there can be none */
static int lib_pin_dir(lua_State *L)
{
	MB_ERROR(err);

	if (mb_pin_prepare(luaL_checkstring(L, 1), &err) != 0)
		return mb_raise(L, &err);
	return 0;
}

/* alone(prog, other) -> least, most: runs of prog's before other was attached beside it */
static int lib_alone(lua_State *L)
{
	struct mb_program *first = mb_class_check(L, 1, &mb_program_class);
	struct mb_program *second = mb_class_check(L, 2, &mb_program_class);
	int64_t least, most;
	MB_ERROR(err);

	if (mb_handover_alone(first, second, &least, &most, &err) != 0)
		return mb_raise(L, &err);
	lua_pushinteger(L, least);
	lua_pushinteger(L, most);
	return 2;
}

/* grace() -> fd that becomes readable when what runs now has ended; the caller closes it */
static int lib_grace(lua_State *L)
{
	MB_ERROR(err);
	int fd;

	if (mb_handover_grace(&fd, &err) != 0)
		return mb_raise(L, &err);
	lua_pushinteger(L, fd);
	return 1;
}

const luaL_Reg mb_handover_functions[] = {
	{ "section", lib_section }, { "reuse", lib_reuse },	  { "has_timer", lib_has_timer },
	{ "adopt", lib_adopt },	    { "move_pin", lib_move_pin }, { "pin_dir", lib_pin_dir },
	{ "alone", lib_alone },	    { "grace", lib_grace },	  { NULL, NULL },
};
