/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a policy's process needs of the system: files read once, and the service manager.
 */
#include <errno.h>

#include "bind.h"
#include "engine/file.h"
#include "engine/notify.h"
#include "service.h"

#define MAX_FILE (256u << 20)

/* ---- files --------------------------------------------------------------------------------------------- */

static int push_file(lua_State *L)
{
	const struct mb_file *file = lua_touserdata(L, 1);

	lua_pushlstring(L, (const char *)file->bytes, file->len);
	lua_pushstring(L, file->path);
	lua_pushstring(L, file->exposed[0] ? file->exposed : NULL);
	return 3;
}

/* read_file(path [, op]) -> bytes, real path, who else may write it | nil */
static int lib_read_file(lua_State *L)
{
	size_t len;
	const char *path = luaL_checklstring(L, 1, &len);
	struct mb_file file;
	MB_ERROR(err);
	int rc;

	luaL_argcheck(L, strlen(path) == len, 1, "the path has a NUL in it");
	if (mb_file_read(path, MAX_FILE, luaL_optstring(L, 2, "read file"), &file, &err) != 0)
		return mb_raise(L, &err);
	lua_pushcfunction(L, push_file);
	lua_pushlightuserdata(L, &file);
	rc = lua_pcall(L, 1, 3, 0);
	mb_file_fini(&file);
	return rc == LUA_OK ? 3 : lua_error(L);
}

/* ---- the service manager --------------------------------------------------------------------------------- */

/* notify(text [, { fd, … }]) -> was there somebody to tell? */
static int lib_notify(lua_State *L)
{
	const char *text = luaL_checkstring(L, 1);
	int fds[MB_NOTIFY_FDS];
	MB_ERROR(err);
	size_t n = 0;
	int rc;

	if (!lua_isnoneornil(L, 2)) {
		luaL_checktype(L, 2, LUA_TTABLE);
		n = (size_t)luaL_len(L, 2);
		luaL_argcheck(L, n <= MB_NOTIFY_FDS, 2, "too many descriptors");
		for (size_t i = 0; i < n; i++) {
			lua_rawgeti(L, 2, (lua_Integer)i + 1);
			fds[i] = (int)luaL_checkinteger(L, -1);
			lua_pop(L, 1);
		}
	}
	rc = mb_notify(text, fds, n, &err);
	if (rc < 0)
		return mb_raise(L, &err);
	lua_pushboolean(L, rc);
	return 1;
}

/* passed() -> { { fd =, name = }, … }: descriptors that we were started with */
static int lib_passed(lua_State *L)
{
	char name[256];
	int fd;

	lua_newtable(L);
	for (size_t i = 0; mb_notify_passed(i, &fd, name, sizeof(name)); i++) {
		lua_createtable(L, 0, 2);
		lua_pushinteger(L, fd);
		lua_setfield(L, -2, "fd");
		lua_pushstring(L, name);
		lua_setfield(L, -2, "name");
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}

/* watchdog() -> seconds | nil */
static int lib_watchdog(lua_State *L)
{
	double seconds = mb_notify_watchdog();

	if (seconds <= 0)
		return 0;
	lua_pushnumber(L, seconds);
	return 1;
}

static const luaL_Reg functions[] = {
	{ "read_file", lib_read_file }, { "notify", lib_notify }, { "passed", lib_passed },
	{ "watchdog", lib_watchdog },	{ NULL, NULL },
};

void mb_service_open(lua_State *L)
{
	mb_class_open(L, &mb_rundir_class);
	lua_newtable(L);
	luaL_setfuncs(L, mb_rundir_functions, 0);
	lua_setfield(L, -2, "rundir");
	lua_newtable(L);
	luaL_setfuncs(L, functions, 0);
	lua_setfield(L, -2, "service");
	lua_newtable(L);
	luaL_setfuncs(L, mb_handover_functions, 0);
	lua_setfield(L, -2, "handover");
}
