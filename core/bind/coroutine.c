/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pcall, xpcall and the coroutine library of a guest. They do what Lua's own do, and two things more:
 * the guest always knows which coroutine runs, since a hook belongs to one; and an error that came
 * with the end of the time goes through all of them.
 */
#include "bind/guest.h"

/* ---- pcall ------------------------------------------------------------------------------------------- */

static int finish(lua_State *L, int status, lua_KContext extra)
{
	if (status == LUA_OK || status == LUA_YIELD)
		return lua_gettop(L) - (int)extra;
	mb_guest_check(L);
	lua_pushboolean(L, false);
	lua_pushvalue(L, -2);
	return 2;
}

/* An error in a coroutine is caught without C's stack, so that Lua lets pcalls nest until its own stack
 * is full; to unwind each then costs as much as there are calls below it. */
#define MOST_CALLS 4000

static void check_depth(lua_State *L)
{
	lua_Debug ar;

	if (lua_getstack(L, MOST_CALLS, &ar))
		luaL_error(L, "stack overflow (a pcall at more than %d calls)", MOST_CALLS);
}

/* pcall(f, …) -> true, results… | false, error */
int mb_guest_pcall(lua_State *L)
{
	luaL_checkany(L, 1);
	check_depth(L);
	lua_pushboolean(L, true);
	lua_insert(L, 1);
	return finish(L, lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 0, 0, finish), 0);
}

/* A message handler that is called within the hook of an expired call would run without any hook. */
static int handle(lua_State *L)
{
	if (mb_guest_ending())
		return 1;
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, lua_gettop(L) - 1, 1);
	return 1;
}

/* xpcall(f, handler, …) */
int mb_guest_xpcall(lua_State *L)
{
	int n = lua_gettop(L);

	luaL_checktype(L, 2, LUA_TFUNCTION);
	check_depth(L);
	lua_pushvalue(L, 2);
	lua_pushcclosure(L, handle, 1);
	lua_replace(L, 2);
	lua_pushboolean(L, true);
	lua_pushvalue(L, 1);
	lua_rotate(L, 3, 2);
	return finish(L, lua_pcallk(L, n - 2, LUA_MULTRET, 2, 2, finish), 2);
}

/* ---- bodies ------------------------------------------------------------------------------------------ */

static int body_ends(lua_State *L, int status, lua_KContext extra)
{
	if (status == LUA_OK || status == LUA_YIELD)
		return lua_gettop(L) - (int)extra;
	return lua_error(L);
}

static int note_trace(lua_State *L)
{
	struct guest *g = mb_guest_now;

	if (g && !g->where_known)
		mb_guest_trace(L, 1, g->trace, sizeof(g->trace));
	return 1;
}

/* What every coroutine of a guest's runs first: upvalue 1, called as by pcall, whose error it passes
 * on. One that a hook raised leaves hooks off for good in a coroutine that it ends, and what that has
 * open could then run for ever when it is closed. Caught here, all is closed with hooks on. */
static int body(lua_State *L)
{
	int n = lua_gettop(L), handler = lua_toboolean(L, lua_upvalueindex(2));

	if (handler) {
		lua_pushcfunction(L, note_trace);
		lua_insert(L, 1);
	}
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, handler + 1);
	return body_ends(L, lua_pcallk(L, n, LUA_MULTRET, handler, handler, body_ends), handler);
}

void mb_guest_body(lua_State *L, bool task)
{
	lua_pushboolean(L, task);
	lua_pushcclosure(L, body, 2);
}

/* ---- coroutines ------------------------------------------------------------------------------------------ */

/* Enter co, which is resumed or closed by L. */
static lua_State *enter(lua_State *L, struct guest *g, lua_State *co)
{
	lua_State *before = g->cur;

	if (g->nested >= MB_GUEST_DEPTH)
		luaL_error(L, "C stack overflow: %d coroutines in one another", g->nested);
	g->nested++;
	g->cur = co;
	return before;
}

static void leave(lua_State *L, struct guest *g, lua_State *before)
{
	g->cur = before;
	g->nested--;
	mb_guest_check_time(L);
}

static struct guest *guest(lua_State *L)
{
	if (!mb_guest_now)
		luaL_error(L, "no policy runs");
	return mb_guest_now;
}

static lua_State *get_co(lua_State *L)
{
	lua_State *co = lua_tothread(L, 1);

	luaL_argexpected(L, co, 1, "coroutine");
	return co;
}

/* Returns the number of results on L, or -1 with the error there. */
static int resume(lua_State *L, lua_State *co, int n)
{
	struct guest *g = guest(L);
	lua_State *before;
	int status, results = 0;

	if (!lua_checkstack(co, n)) {
		lua_pushliteral(L, "too many arguments to resume");
		return -1;
	}
	before = enter(L, g, co);
	lua_xmove(L, co, n);
	status = lua_resume(co, L, n, &results);
	leave(L, g, before);
	if (status != LUA_OK && status != LUA_YIELD) {
		mb_guest_check(L);
		lua_xmove(co, L, 1);
		return -1;
	}
	if (!lua_checkstack(L, results + 1)) {
		lua_pop(co, results);
		lua_pushliteral(L, "too many results to resume");
		return -1;
	}
	lua_xmove(co, L, results);
	return results;
}

static int co_resume(lua_State *L)
{
	int r = resume(L, get_co(L), lua_gettop(L) - 1);

	lua_pushboolean(L, r >= 0);
	lua_insert(L, r < 0 ? -2 : -(r + 1));
	return r < 0 ? 2 : r + 1;
}

/* Run the to-be-closed variables of co: it is what runs then. 5.4.4 counts the C calls of that from
 * where co was, so that without a limit of ours they could end the C stack. */
static int reset(lua_State *L, lua_State *co)
{
	struct guest *g = guest(L);
	lua_State *before = enter(L, g, co);
	int status = lua_resetthread(co);

	leave(L, g, before);
	if (status != LUA_OK)
		mb_guest_check(L);
	return status;
}

static int wrapped(lua_State *L)
{
	lua_State *co = lua_tothread(L, lua_upvalueindex(1));
	int r = resume(L, co, lua_gettop(L)), status;

	if (r >= 0)
		return r;
	status = lua_status(co);
	if (status != LUA_OK && status != LUA_YIELD) {
		lua_pop(L, 1);
		status = reset(L, co);
		lua_xmove(co, L, 1);
	}
	if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
		luaL_where(L, 1);
		lua_insert(L, -2);
		lua_concat(L, 2);
	}
	return lua_error(L);
}

static int co_create(lua_State *L)
{
	lua_State *co;

	luaL_checktype(L, 1, LUA_TFUNCTION);
	co = lua_newthread(L);
	lua_pushvalue(L, 1);
	mb_guest_body(L, false);
	lua_xmove(L, co, 1);
	return 1;
}

static int co_wrap(lua_State *L)
{
	co_create(L);
	lua_pushcclosure(L, wrapped, 1);
	return 1;
}

static int co_yield (lua_State *L)
{
	return lua_yield(L, lua_gettop(L));
}

static const char *status_of(lua_State *L, lua_State *co)
{
	lua_Debug ar;

	if (L == co)
		return "running";
	switch (lua_status(co)) {
	case LUA_YIELD:
		return "suspended";
	case LUA_OK:
		if (lua_getstack(co, 0, &ar))
			return "normal";
		return lua_gettop(co) == 0 ? "dead" : "suspended";
	default:
		return "dead";
	}
}

static int co_status(lua_State *L)
{
	lua_pushstring(L, status_of(L, get_co(L)));
	return 1;
}

static int co_isyieldable(lua_State *L)
{
	lua_State *co = lua_isnone(L, 1) ? L : get_co(L);

	lua_pushboolean(L, lua_isyieldable(co));
	return 1;
}

static int co_running(lua_State *L)
{
	lua_pushboolean(L, lua_pushthread(L));
	return 2;
}

static int co_close(lua_State *L)
{
	lua_State *co = get_co(L);
	const char *status = status_of(L, co);

	if (*status != 'd' && *status != 's')
		return luaL_error(L, "cannot close a %s coroutine", status);
	if (reset(L, co) == LUA_OK) {
		lua_pushboolean(L, true);
		return 1;
	}
	lua_pushboolean(L, false);
	lua_xmove(co, L, 1);
	return 2;
}

static const luaL_Reg functions[] = {
	{ "create", co_create },   { "resume", co_resume }, { "wrap", co_wrap },
	{ "yield", co_yield },	   { "status", co_status }, { "isyieldable", co_isyieldable },
	{ "running", co_running }, { "close", co_close },   { NULL, NULL },
};

int mb_guest_open_coroutine(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
