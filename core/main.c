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
#include "engine/heap.h"

struct host {
	int argc;
	char **argv;
	int status;
};

#define LUA_SHARE "share/lua/" LUA_VERSION_MAJOR "." LUA_VERSION_MINOR
#define LUA_LIB "lib/lua/" LUA_VERSION_MAJOR "." LUA_VERSION_MINOR

/* The nearest of so many directories above the program that has this file. */
static bool find_above(const char *file, int levels, char *root, size_t room)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", root, room - 1);

	if (n <= 0)
		return false;
	root[n] = '\0';
	for (int up = 0; up < levels; up++) {
		char *slash = strrchr(root, '/');

		if (!slash || slash == root)
			return false;
		*slash = '\0';
		if (snprintf(path, sizeof(path), "%s/%s", root, file) < (int)sizeof(path) &&
		    access(path, R_OK) == 0)
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

static void prepend_dirs(lua_State *L, const char *lua, const char *modules)
{
	lua_pushfstring(L, "%s/?.lua;%s/?/init.lua", lua, lua);
	prepend(L, "path", lua_tostring(L, -1));
	lua_pushfstring(L, "%s/?.so", modules);
	prepend(L, "cpath", lua_tostring(L, -1));
	lua_pop(L, 2);
}

/* The tree that the program was built in; false: it stands in none. */
static bool use_tree(lua_State *L, int core)
{
	char root[PATH_MAX], build[PATH_MAX];

	if (!find_above("lua/moonbee/cli.lua", 4, root, sizeof(root)) ||
	    !find_above(".", 1, build, sizeof(build)))
		return false;
	prepend_dirs(L, lua_pushfstring(L, "%s/lua", root), lua_pushfstring(L, "%s/lib", build));
	lua_pop(L, 2);
	lua_pushfstring(L, "%s/scripts", root);
	lua_setfield(L, core, "scripts_dir");
	lua_pushstring(L, build);
	lua_setfield(L, core, "build_dir");
	return true;
}

/*
 * Where it was installed. What lies under the program's own prefix goes first: what was installed may
 * have been moved, as LuaRocks does, and another moonbee may be where this one was to be.
 */
static void use_installed(lua_State *L, int core)
{
	char root[PATH_MAX];

	prepend_dirs(L, MB_LUADIR, MB_LUACDIR);
	lua_pushliteral(L, MB_DATADIR "/scripts");
	if (find_above(LUA_SHARE "/moonbee/cli.lua", 2, root, sizeof(root))) {
		const char *scripts;

		prepend_dirs(L, lua_pushfstring(L, "%s/" LUA_SHARE, root),
			     lua_pushfstring(L, "%s/" LUA_LIB, root));
		lua_pop(L, 2);
		scripts = lua_pushfstring(L, "%s/share/moonbee/scripts", root);
		if (access(scripts, R_OK) == 0)
			lua_replace(L, -2);
		else
			lua_pop(L, 1);
	}
	lua_setfield(L, core, "scripts_dir");
}

static void open_moonbee(lua_State *L)
{
	int core = lua_gettop(L) + 1;

	luaL_requiref(L, "moonbee.core", luaopen_moonbee_core, 0);
	if (!use_tree(L, core))
		use_installed(L, core);
	lua_getfield(L, core, "interrupt");
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

/* warn(), as lua5.4 has it: off until warn "@on"; a message may come in parts. */
static void on_warning(void *ud, const char *part, int more)
{
	static bool on, within;

	(void)ud;
	if (!within && !more && *part == '@') {
		on = strcmp(part, "@on") == 0 || (on && strcmp(part, "@off") != 0);
		return;
	}
	if (on)
		fprintf(stderr, "%s%s%s", within ? "" : "moonbee: warning: ", part,
			more ? "" : "\n");
	within = more;
}

int main(int argc, char **argv)
{
	struct host host = { argc, argv, EXIT_FAILURE };
	struct mb_heap *heap = mb_heap_new();
	lua_State *L = heap ? lua_newstate(mb_heap_alloc, heap) : NULL;

	if (!L) {
		fprintf(stderr, "moonbee: not enough memory\n");
		return EXIT_FAILURE;
	}
	lua_setwarnf(L, on_warning, NULL);
	lua_pushcfunction(L, on_error);
	lua_pushcfunction(L, protected_main);
	lua_pushlightuserdata(L, &host);
	if (lua_pcall(L, 1, 0, 1) != LUA_OK) {
		fprintf(stderr, "moonbee: %s\n", lua_tostring(L, -1));
		host.status = EXIT_FAILURE;
	}
	lua_close(L);
	mb_heap_unref(heap);
	return host.status;
}
