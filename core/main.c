/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The program: a Lua state with moonbee in it, and the way to the Lua side. Commands are Lua's
 * (lua/moonbee/cli.lua); nothing of BPF is here.
 */
#include <limits.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bind/bind.h"

struct host {
	int argc;
	char **argv;
	int status;
};

/* The tree that the program stands in, if it is one: some directory above it has our modules. */
static bool find_tree(char *root, size_t room)
{
	char module[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", root, room - 1);

	if (n <= 0)
		return false;
	root[n] = '\0';
	for (int up = 0; up < 4; up++) {
		char *slash = strrchr(root, '/');

		if (!slash || slash == root)
			return false;
		*slash = '\0';
		if (snprintf(module, sizeof(module), "%s/lua/moonbee/cli.lua", root) <
			    (int)sizeof(module) &&
		    access(module, R_OK) == 0)
			return true;
	}
	return false;
}

static void prepend(lua_State *L, const char *field, const char *what)
{
	lua_getglobal(L, "package");
	lua_getfield(L, -1, field);
	lua_pushfstring(L, "%s;%s", what, lua_tostring(L, -1));
	lua_setfield(L, -3, field);
	lua_pop(L, 2);
}

static void open_moonbee(lua_State *L)
{
	char root[PATH_MAX];
	bool tree = find_tree(root, sizeof(root));
	char exe[PATH_MAX] = "";

	luaL_requiref(L, "moonbee.core", luaopen_moonbee_core, 0);
	if (tree) {
		ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
		char *slash;

		exe[n > 0 ? n : 0] = '\0';
		slash = strrchr(exe, '/');
		if (slash)
			*slash = '\0';
		lua_pushfstring(L, "%s/lua/?.lua;%s/lua/?/init.lua", root, root);
		prepend(L, "path", lua_tostring(L, -1));
		lua_pushfstring(L, "%s/lib/?.so", exe);
		prepend(L, "cpath", lua_tostring(L, -1));
		lua_pop(L, 2);
		lua_pushfstring(L, "%s/scripts", root);
		lua_setfield(L, -2, "scripts_dir");
		lua_pushstring(L, exe);
		lua_setfield(L, -2, "build_dir");
	} else {
		prepend(L, "path", MB_LUADIR "/?.lua;" MB_LUADIR "/?/init.lua");
		prepend(L, "cpath", MB_LUACDIR "/?.so");
		lua_pushliteral(L, MB_DATADIR "/scripts");
		lua_setfield(L, -2, "scripts_dir");
	}
	lua_getfield(L, -1, "interrupt");
	lua_getfield(L, -1, "install");
	lua_call(L, 0, 0);
	lua_pop(L, 2);
}

/* An error's text with a traceback; error objects say it themselves. */
static int on_error(lua_State *L)
{
	if (lua_type(L, 1) == LUA_TSTRING)
		luaL_traceback(L, L, lua_tostring(L, 1), 1);
	else
		luaL_tolstring(L, 1, NULL);
	return 1;
}

static int protected_main(lua_State *L)
{
	struct host *host = lua_touserdata(L, 1);

	luaL_checkversion(L);
	luaL_openlibs(L);
	setvbuf(stdout, NULL, _IOLBF,
		0); /* who reads a tool through a pipe wants lines as they come */
	open_moonbee(L);
	lua_getglobal(L, "require");
	lua_pushliteral(L, "moonbee.cli");
	lua_call(L, 1, 1);
	lua_getfield(L, -1, "main");
	lua_createtable(L, host->argc, 1);
	for (int i = 0; i < host->argc; i++) {
		lua_pushstring(L, host->argv[i]);
		lua_rawseti(L, -2, i);
	}
	lua_call(L, 1, 1);
	host->status = (int)luaL_optinteger(L, -1, EXIT_FAILURE);
	return 0;
}

int main(int argc, char **argv)
{
	struct host host = { argc, argv, EXIT_FAILURE };
	lua_State *L = luaL_newstate();

	if (!L) {
		fprintf(stderr, "moonbee: not enough memory\n");
		return EXIT_FAILURE;
	}
	lua_pushcfunction(L, on_error);
	lua_pushcfunction(L, protected_main);
	lua_pushlightuserdata(L, &host);
	if (lua_pcall(L, 1, 0, 1) != LUA_OK) {
		fprintf(stderr, "moonbee: %s\n", lua_tostring(L, -1));
		host.status = EXIT_FAILURE;
	}
	lua_close(L);
	return host.status;
}
