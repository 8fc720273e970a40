/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Internals for the specs and benchmarks; never part of the product.
 */
#include <stdlib.h>

#define MB_TESTING /* allocators are what it is about */
#include "bind.h"

MB_API int luaopen_mb_testing(lua_State *L);

/* What a call of C costs at least. */
static int lib_nop(lua_State *L)
{
	(void)L;
	return 0;
}

struct quota {
	long left; /* allocations until one fails; < 0: none fails */
	bool failed;
};

static void *limited(void *ud, void *ptr, size_t osize, size_t nsize)
{
	struct quota *q = ud;

	(void)osize;
	if (!nsize) {
		(free)(ptr);
		return NULL;
	}
	if (q->left >= 0 && (!ptr || nsize > osize) && q->left-- == 0) {
		q->failed = true;
		q->left = 0; /* and all after it */
		return NULL;
	}
	return (realloc)(ptr, nsize);
}

/* oom(source, n) -> ok, message, failed: run source in a state of its own, of which allocation n and
 * all after it fail. The chunk gets require "moonbee.core" as its argument. */
static int lib_oom(lua_State *L)
{
	const char *source = luaL_checkstring(L, 1);
	lua_Integer n = luaL_checkinteger(L, 2);
	struct quota q = { -1, false };
	lua_State *S = lua_newstate(limited, &q);
	bool ok;

	if (!S)
		return luaL_error(L, "no state");
	luaL_requiref(S, "_G", luaopen_moonbee_core, 0); /* its metatables, before the quota */
	lua_setglobal(S, "bpf");
	ok = luaL_loadstring(S, source) == LUA_OK;
	lua_gc(S, LUA_GCSTOP); /* Lua forgets finalizers that it has no memory to call */
	q.left = (long)n;
	if (ok) {
		lua_getglobal(S, "bpf");
		ok = lua_pcall(S, 1, 0, 0) == LUA_OK;
	}
	q.left = -1;
	lua_pushboolean(L, ok);
	lua_pushstring(L, ok ? NULL : luaL_tolstring(S, -1, NULL));
	lua_pushboolean(L, q.failed);
	lua_close(S);
	return 3;
}

static const luaL_Reg functions[] = { { "nop", lib_nop }, { "oom", lib_oom }, { NULL, NULL } };

MB_API int luaopen_mb_testing(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
