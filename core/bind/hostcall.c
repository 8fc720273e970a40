/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Calls out of a guest: functions of the host's that it may call by name. They run in the host's
 * state, without a guest's limits, and get and give plain data.
 */
#include "bind/guest.h"

struct out {
	struct guest *g;
	lua_State *guest, *host;
	const char *name;
	int first, n;
};

/* In the host, protected: functions[name](…) */
static int call_out(lua_State *L)
{
	struct out *o = lua_touserdata(L, 1);

	lua_settop(L, 0);
	luaL_checkstack(L, o->n + LUA_MINSTACK, "too many arguments");
	if (lua_rawgetp(L, LUA_REGISTRYINDEX, o->g) != LUA_TTABLE)
		return luaL_error(L, "the host has ended");
	if (lua_getfield(L, 1, o->name) != LUA_TFUNCTION)
		return luaL_error(L, "the host knows no '%s'", o->name);
	for (int i = 0; i < o->n; i++)
		mb_plain_push(L, o->guest, o->first + i, MB_PLAIN_FUNCTIONS, "an argument");
	lua_call(L, o->n, 2);
	return 2;
}

static int to_text(lua_State *L)
{
	luaL_tolstring(L, 1, NULL);
	return 1;
}

/* In the guest, protected: the values on top of the host's stack. */
static int pull(lua_State *L)
{
	struct out *o = lua_touserdata(L, 1);
	int top = lua_gettop(o->host);

	lua_settop(L, 0);
	for (int i = 0; i < o->n; i++)
		mb_plain_push(L, o->host, top - o->n + 1 + i, MB_PLAIN_DATA, "the host's answer");
	return o->n;
}

int mb_guest_call_host(lua_State *L, const char *name, int n)
{
	struct guest *g = mb_guest_now;
	lua_State *host = g ? g->host : NULL;
	struct out o = { g, L, host, name, lua_gettop(L) - n + 1, n };
	struct mb_entered before;
	int top, status, rc;

	if (!host)
		return luaL_error(L, "the host has ended");
	if (!lua_checkstack(host, LUA_MINSTACK))
		return luaL_error(L, "the host has no room");
	top = lua_gettop(host);
	mb_deadline_pause(&g->deadline);
	before = mb_guest_enter(NULL, NULL);
	lua_pushcfunction(host, call_out);
	lua_pushlightuserdata(host, &o);
	status = lua_pcall(host, 1, 2, 0);
	if (status != LUA_OK) {
		lua_pushcfunction(host, to_text);
		lua_insert(host, -2);
		if (lua_pcall(host, 1, 1, 0) != LUA_OK || lua_type(host, -1) != LUA_TSTRING) {
			lua_pop(host, 1);
			lua_pushnil(host);
		}
	}
	mb_guest_leave(before);
	mb_deadline_resume(&g->deadline);
	o.n = status == LUA_OK ? 2 : 1;
	lua_pushcfunction(L, pull);
	lua_pushlightuserdata(L, &o);
	rc = lua_pcall(L, 1, o.n, 0);
	lua_settop(host, top);
	mb_guest_check_time(L);
	if (rc != LUA_OK || status != LUA_OK)
		return lua_error(L);
	return 2;
}
