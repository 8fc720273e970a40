/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A running policy's directory and socket: core.rundir, for lua/moonbee/policy and its kin.
 */
#include <errno.h>
#include <limits.h>
#include <unistd.h>

#include "bind.h"
#include "engine/rundir.h"
#include "service.h"

static struct mb_rundir *self(lua_State *L)
{
	return mb_class_check(L, 1, &mb_rundir_class);
}

/* open(name) -> rundir      raises: another process has it (EBUSY), it is open to others (EPERM) */
static int lib_open(lua_State *L)
{
	size_t len;
	const char *name = luaL_checklstring(L, 1, &len);
	struct mb_handle *h = mb_class_new(L, &mb_rundir_class, 0);
	struct mb_rundir *dir;
	MB_ERROR(err);

	/* one with a NUL in it is not the name that it begins with */
	if (mb_rundir_open(strlen(name) == len ? name : "", &dir, &err) != 0)
		return mb_raise(L, &err);
	h->thing = dir;
	return 1;
}

/* valid(name) -> is it a name that a run directory may have? */
static int lib_valid(lua_State *L)
{
	size_t len;
	const char *name = luaL_checklstring(L, 1, &len);

	lua_pushboolean(L, strlen(name) == len && mb_rundir_name(name));
	return 1;
}

/* running() -> names of the policies that run */
static int lib_running(lua_State *L)
{
	char name[64];
	MB_ERROR(err);
	int rc;

	lua_newtable(L);
	for (size_t i = 0; (rc = mb_rundir_next(i, name, sizeof(name), &err)) > 0; i++) {
		lua_pushstring(L, name);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return rc < 0 ? mb_raise(L, &err) : 1;
}

/* connect(name) -> fd of a connection to its process */
static int lib_connect(lua_State *L)
{
	MB_ERROR(err);
	int fd;

	if (mb_rundir_connect(luaL_checkstring(L, 1), &fd, &err) != 0)
		return mb_raise(L, &err);
	lua_pushinteger(L, fd);
	return 1;
}

/* accept(listening fd) -> fd, pid, uid, allowed | nil: nobody waits */
static int lib_accept(lua_State *L)
{
	MB_ERROR(err);
	struct mb_peer peer;
	int rc = mb_rundir_accept((int)luaL_checkinteger(L, 1), &peer, &err);

	if (rc < 0)
		return mb_raise(L, &err);
	if (!rc)
		return 0;
	lua_pushinteger(L, peer.fd);
	lua_pushinteger(L, peer.pid);
	lua_pushinteger(L, peer.uid);
	lua_pushboolean(L, peer.allowed);
	return 4;
}

/* listen(path, mode) -> fd of a socket there */
static int lib_listen(lua_State *L)
{
	size_t len;
	const char *path = luaL_checklstring(L, 1, &len);
	lua_Integer mode = luaL_checkinteger(L, 2);
	MB_ERROR(err);
	int fd;

	luaL_argcheck(L, strlen(path) == len, 1, "a path has no NUL");
	luaL_argcheck(L, mode >= 0 && mode <= 0777, 2, "permissions");
	if (mb_socket_listen(path, (unsigned int)mode, &fd, &err) != 0)
		return mb_raise(L, &err);
	lua_pushinteger(L, fd);
	return 1;
}

/* close_fd(fd): one that accept, connect or listen gave, and nobody else has taken over */
static int lib_close_fd(lua_State *L)
{
	lua_Integer fd = luaL_checkinteger(L, 1);

	luaL_argcheck(L, fd > 2 && fd <= INT_MAX, 1, "no fd of ours");
	close((int)fd);
	return 0;
}

/* ---- methods ------------------------------------------------------------------------------------------ */

/* rundir:write(file, bytes): the file as a whole */
static int rundir_write(lua_State *L)
{
	struct mb_rundir *dir = self(L);
	MB_ERROR(err);
	size_t len;
	const char *bytes = luaL_checklstring(L, 3, &len);

	if (mb_rundir_write(dir, luaL_checkstring(L, 2), bytes, len, &err) != 0)
		return mb_raise(L, &err);
	return 0;
}

/* rundir:append(file, bytes) */
static int rundir_append(lua_State *L)
{
	struct mb_rundir *dir = self(L);
	MB_ERROR(err);
	size_t len;
	const char *bytes = luaL_checklstring(L, 3, &len);

	if (mb_rundir_append(dir, luaL_checkstring(L, 2), bytes, len, &err) != 0)
		return mb_raise(L, &err);
	return 0;
}

static int push_bytes(lua_State *L)
{
	const struct mb_file *file = lua_touserdata(L, 1);

	lua_pushlstring(L, (const char *)file->bytes, file->len);
	return 1;
}

/* rundir:read(file) -> bytes | nil */
static int rundir_read(lua_State *L)
{
	struct mb_rundir *dir = self(L);
	struct mb_file file;
	MB_ERROR(err);
	int rc = mb_rundir_read(dir, luaL_checkstring(L, 2), &file, &err);

	if (rc < 0)
		return mb_raise(L, &err);
	if (!rc)
		return 0;
	lua_pushcfunction(L, push_bytes);
	lua_pushlightuserdata(L, &file);
	rc = lua_pcall(L, 1, 1, 0);
	mb_file_fini(&file);
	return rc == LUA_OK ? 1 : lua_error(L);
}

/* rundir:remove(file): also when there is none */
static int rundir_remove(lua_State *L)
{
	struct mb_rundir *dir = self(L);
	MB_ERROR(err);

	if (mb_rundir_remove(dir, luaL_checkstring(L, 2), &err) != 0)
		return mb_raise(L, &err);
	return 0;
}

/* rundir:listen([file]) -> fd of a socket in it; the control socket's */
static int rundir_listen(lua_State *L)
{
	struct mb_rundir *dir = self(L);
	MB_ERROR(err);
	int fd;

	if (mb_rundir_listen(dir, luaL_optstring(L, 2, "control.sock"), &fd, &err) != 0)
		return mb_raise(L, &err);
	lua_pushinteger(L, fd);
	return 1;
}

/* ---- class --------------------------------------------------------------------------------------------- */

static int rundir_get(lua_State *L, void *thing, const char *name)
{
	if (strcmp(name, "path") == 0)
		lua_pushstring(L, mb_rundir_path(thing));
	else if (strcmp(name, "name") == 0)
		lua_pushstring(L, mb_rundir_title(thing));
	else
		return 0;
	return 1;
}

static bool rundir_closed(const void *thing)
{
	return mb_rundir_closed(thing);
}

static void rundir_close(void *thing)
{
	mb_rundir_close(thing);
}

static void rundir_unref(void *thing)
{
	mb_rundir_free(thing);
}

static const char *rundir_title(const void *thing)
{
	return mb_rundir_title(thing);
}

static const luaL_Reg methods[] = {
	{ "write", rundir_write },   { "append", rundir_append }, { "read", rundir_read },
	{ "remove", rundir_remove }, { "listen", rundir_listen }, { NULL, NULL },
};
static const char *const properties[] = { "path", "name", NULL };

const struct mb_class mb_rundir_class = {
	.name = "moonbee.rundir",
	.methods = methods,
	.properties = properties,
	.get = rundir_get,
	.closed = rundir_closed,
	.close = rundir_close,
	.unref = rundir_unref,
	.title = rundir_title,
};

const luaL_Reg mb_rundir_functions[] = {
	{ "open", lib_open },	      { "valid", lib_valid },	{ "running", lib_running },
	{ "connect", lib_connect },   { "listen", lib_listen }, { "accept", lib_accept },
	{ "close_fd", lib_close_fd }, { NULL, NULL },
};
