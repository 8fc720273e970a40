/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * moonbee.h: a runtime for C programs. Each call is one protected call into the state; what it raises
 * becomes a negative errno and a text. What runs, and how, is Lua's (lua/moonbee/embed.lua).
 */
#include <errno.h>
#include <lualib.h>
#include <stdio.h>

#include "bind.h"
#include "moonbee.h"

struct mb_runtime {
	lua_State *L;
	struct mb_runtime_options options;
};

static const char runtime_key, embed_key, error_key; /* registry */

/* ---- calls --------------------------------------------------------------------------------------- */

/* Still within the protected call: keeps the text, with a traceback, and gives back the errno. */
static int on_error(lua_State *L)
{
	int code = EINVAL;

	if (lua_type(L, 1) == LUA_TSTRING) {
		luaL_traceback(L, L, lua_tostring(L, 1), 1);
	} else {
		if (luaL_getmetafield(L, 1, "__name") == LUA_TSTRING &&
		    strcmp(lua_tostring(L, -1), "moonbee.error") == 0 &&
		    lua_getfield(L, 1, "errno") == LUA_TNUMBER)
			code = (int)lua_tointeger(L, -1);
		luaL_tolstring(L, 1, NULL);
	}
	lua_rawsetp(L, LUA_REGISTRYINDEX, &error_key);
	lua_pushinteger(L, code > 0 ? code : EINVAL);
	return 1;
}

/* Calls fn(data) protected: 0, or a negative errno. The stack stays as it was: a call may come from
 * within another one, by way of the program's log or of a function of its own. */
static int protect(lua_State *L, lua_CFunction fn, void *data)
{
	int top = lua_gettop(L), status, rc = 0;

	if (!lua_checkstack(L, LUA_MINSTACK))
		return -ENOMEM;
	lua_pushcfunction(L, on_error);
	lua_pushcfunction(L, fn);
	lua_pushlightuserdata(L, data);
	status = lua_pcall(L, 1, 0, top + 1);
	if (status == LUA_ERRRUN && lua_isinteger(L, -1)) {
		rc = -(int)lua_tointeger(L, -1);
	} else if (status != LUA_OK) {
		lua_pushnil(L); /* no memory for a text, either */
		lua_rawsetp(L, LUA_REGISTRYINDEX, &error_key);
		rc = -ENOMEM;
	}
	lua_settop(L, top);
	return rc;
}

struct call {
	const char *name; /* of embed.lua's function */
	const char *word; /* its first argument, or NULL */
	const char *const *more;
	int result;
};

static int protected_call(lua_State *L)
{
	struct call *c = lua_touserdata(L, 1);
	int n = 0;

	lua_rawgetp(L, LUA_REGISTRYINDEX, &embed_key);
	lua_getfield(L, -1, c->name);
	if (c->word)
		lua_pushstring(L, c->word), n++;
	for (const char *const *w = c->more; w && *w; w++, n++) {
		luaL_checkstack(L, 4, "too many arguments");
		lua_pushstring(L, *w);
	}
	lua_call(L, n, 1);
	c->result = lua_isinteger(L, -1) ? (int)lua_tointeger(L, -1) : lua_toboolean(L, -1);
	return 0;
}

/* A client of a policy's that goes in the middle of a reply must not take the program with it. */
static int run(struct mb_runtime *rt, struct call *c)
{
	int held = mb_pipe_hold(), rc = protect(rt->L, protected_call, c);

	mb_pipe_release(held);
	return rc ? rc : c->result;
}

/* ---- making ---------------------------------------------------------------------------------------- */

/* core.log(level, text): what the program wants to hear, instead of standard error */
static int host_log(lua_State *L)
{
	const struct mb_runtime *rt = lua_touserdata(L, lua_upvalueindex(1));

	rt->options.log(rt->options.log_ctx, (int)luaL_checkinteger(L, 1), luaL_checkstring(L, 2));
	return 0;
}

static void set_paths(lua_State *L, const char *lua_dir)
{
	lua_getglobal(L, "package");
	lua_getfield(L, -1, "path");
	lua_pushfstring(L, "%s/?.lua;%s/?/init.lua;%s", lua_dir, lua_dir, lua_tostring(L, -1));
	lua_setfield(L, -3, "path");
	lua_pop(L, 2);
}

static int protected_open(lua_State *L)
{
	struct mb_runtime *rt = lua_touserdata(L, 1);
	const char *dir = rt->options.lua_dir;

	luaL_checkversion(L);
	luaL_openlibs(L);
	set_paths(L, dir ? dir : MB_LUADIR);
	luaL_requiref(L, "moonbee.core", luaopen_moonbee_core, 0);
	lua_newtable(L);
	lua_setfield(L, -2, "lent");
	if (rt->options.log) {
		lua_pushlightuserdata(L, rt);
		lua_pushcclosure(L, host_log, 1);
		lua_setfield(L, -2, "log");
	}
	lua_getglobal(L, "require");
	lua_pushliteral(L, "moonbee.embed");
	lua_call(L, 1, 1);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &embed_key);
	return 0;
}

/* The runtime lies in a userdata of its own state, that is gone with it. */
static int protected_new(lua_State *L)
{
	struct mb_runtime **out = lua_touserdata(L, 1);
	struct mb_runtime *rt = lua_newuserdatauv(L, sizeof(*rt), 0);

	memset(rt, 0, sizeof(*rt));
	rt->L = L;
	lua_rawsetp(L, LUA_REGISTRYINDEX, &runtime_key);
	lua_pushliteral(L, ""); /* nothing went wrong yet */
	lua_rawsetp(L, LUA_REGISTRYINDEX, &error_key);
	*out = rt;
	return 0;
}

static void tell(char *why, size_t room, const char *text)
{
	if (why && room)
		snprintf(why, room, "%s", text);
}

MB_API struct mb_runtime *mb_runtime_new(const struct mb_runtime_options *options, char *why,
					 size_t room)
{
	lua_State *L = luaL_newstate();
	struct mb_runtime *rt = NULL;

	tell(why, room, "not enough memory");
	if (!L)
		return NULL;
	if (protect(L, protected_new, &rt) == 0) {
		if (options)
			memcpy(&rt->options, options,
			       options->size < sizeof(*options) ? options->size : sizeof(*options));
		if (protect(L, protected_open, rt) == 0) {
			tell(why, room, "");
			return rt;
		}
		tell(why, room, mb_runtime_error(rt));
	}
	lua_close(L);
	return NULL;
}

MB_API void mb_runtime_free(struct mb_runtime *rt)
{
	struct call c = { .name = "close" };

	if (!rt)
		return;
	run(rt, &c);
	lua_close(rt->L);
}

MB_API const char *mb_runtime_error(const struct mb_runtime *rt)
{
	const char *text = "not enough memory";

	if (lua_rawgetp(rt->L, LUA_REGISTRYINDEX, &error_key) == LUA_TSTRING)
		text = lua_tostring(rt->L, -1); /* the registry keeps it */
	lua_pop(rt->L, 1);
	return text;
}

MB_API lua_State *mb_runtime_state(struct mb_runtime *rt)
{
	return rt->L;
}

/* ---- objects --------------------------------------------------------------------------------------- */

struct lend {
	const char *name;
	struct bpf_object *bpf;
	void (*libbpf)(void);
};

static int protected_lend(lua_State *L)
{
	const struct lend *lend = lua_touserdata(L, 1);
	MB_ERROR(err);

	luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	lua_getfield(L, -1, "moonbee.core");
	lua_getfield(L, -1, "lent");
	if (lua_getfield(L, -1, lend->name) != LUA_TNIL) {
		mb_fail(&err, EEXIST, "lend object", lend->name,
			"one of this name is lent already");
		return mb_raise(L, &err);
	}
	lua_pop(L, 1);
	if (!mb_is_our_libbpf(lend->libbpf)) {
		mb_fail(&err, EXDEV, "lend object", lend->name,
			"it was made by another copy of libbpf than moonbee's");
		mb_error_hint(&err, "link the program and moonbee with the same libbpf, both "
				    "shared or both static");
		return mb_raise(L, &err);
	}
	mb_object_push_lent(L, lend->bpf, lend->name);
	lua_setfield(L, -2, lend->name);
	return 0;
}

MB_API int mb_runtime_lend(struct mb_runtime *rt, const char *name, struct bpf_object *obj,
			   void (*libbpf)(void))
{
	struct lend lend = { name, obj, libbpf };

	return protect(rt->L, protected_lend, &lend);
}

/* ---- running --------------------------------------------------------------------------------------- */

MB_API int mb_runtime_run_file(struct mb_runtime *rt, const char *path, const char *const *args)
{
	struct call c = { .name = "file", .word = path, .more = args };

	return run(rt, &c);
}

MB_API int mb_runtime_run_policy(struct mb_runtime *rt, const char *path,
				 const char *const *options)
{
	struct call c = { .name = "policy", .word = path, .more = options };

	return run(rt, &c);
}

MB_API int mb_runtime_fd(struct mb_runtime *rt)
{
	struct call c = { .name = "fd" };

	return run(rt, &c);
}

MB_API int mb_runtime_timeout_ms(struct mb_runtime *rt)
{
	struct call c = { .name = "timeout" };

	return run(rt, &c);
}

MB_API int mb_runtime_step(struct mb_runtime *rt)
{
	struct call c = { .name = "step" };

	return run(rt, &c);
}

MB_API int mb_runtime_stop(struct mb_runtime *rt)
{
	struct call c = { .name = "stop", .word = "stop" };

	return run(rt, &c);
}

/* ---- require "moonbee" ------------------------------------------------------------------------------- */

/* It may be package.preload's "moonbee" itself, so that require would come back to us. */
MB_API int luaopen_moonbee(lua_State *L)
{
	luaL_requiref(L, "moonbee.core", luaopen_moonbee_core, 0);
	lua_getglobal(L, "package");
	lua_getfield(L, -1, "searchpath");
	lua_pushliteral(L, "moonbee");
	lua_getfield(L, -3, "path");
	lua_call(L, 2, 2);
	if (lua_isnil(L, -2))
		return luaL_error(L, "module 'moonbee' is not in package.path:%s",
				  lua_tostring(L, -1));
	if (luaL_loadfilex(L, lua_tostring(L, -2), "t") != LUA_OK)
		return lua_error(L);
	lua_pushliteral(L, "moonbee");
	lua_call(L, 1, 1);
	return 1;
}
