/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SIGINT and SIGTERM in the program: while a loop runs it sees them by a fd; else the running Lua
 * code gets "interrupted" as an error, so that what is to be closed is closed.
 */
#include <signal.h>

#include "bind.h"

/* Whose code a signal ends: the main thread of the state that installed it, or the one within call().
 * A signal handler cannot find out which thread runs. */
static lua_State *volatile raise_in;
static lua_State *installed_by; /* a main thread */
static volatile sig_atomic_t held;
/* Within call(): a signal that came is raised again and again, until no pcall is left in it. */
static bool calling;
static int ending;

static const char *name_of(int sig)
{
	return sig == SIGINT ? "SIGINT" : sig == SIGPIPE ? "SIGPIPE" : "SIGTERM";
}

static void on_hook(lua_State *L, lua_Debug *ar);

static void set_hook(lua_State *L)
{
	lua_sethook(L, on_hook, LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
}

int mb_interrupt_raise(lua_State *L)
{
	int sig = mb_interrupt_take();

	if (!sig)
		sig = ending;
	if (!sig)
		return 0;
	if (calling) {
		ending = sig;
		set_hook(raise_in);
	}
	lua_createtable(L, 0, 5);
	lua_pushliteral(L, "EINTR");
	lua_setfield(L, -2, "code");
	lua_pushliteral(L, "run");
	lua_setfield(L, -2, "op");
	lua_pushliteral(L, "script");
	lua_setfield(L, -2, "subject");
	lua_pushliteral(L, "interrupted");
	lua_setfield(L, -2, "cause");
	lua_pushstring(L, name_of(sig));
	lua_setfield(L, -2, "signal");
	luaL_setmetatable(L, "moonbee.error");
	return lua_error(L);
}

static void on_hook(lua_State *L, lua_Debug *ar)
{
	(void)ar;
	lua_sethook(L, NULL, 0, 0);
	mb_interrupt_raise(L);
}

static const char sentinel_key; /* registry: what ends with the state */

/* A signal may come at any time: from here on none raises in a state that is about to end. Another
 * one may have installed since. */
static int sentinel_gc(lua_State *L)
{
	lua_State **main = lua_touserdata(L, 1);

	if (installed_by == *main)
		raise_in = installed_by = NULL, calling = false;
	*main = NULL;
	return 0;
}

/* The main thread, by the sentinel (pushed) that lives as long as it; NULL: the state is closing. */
static lua_State *push_sentinel(lua_State *L)
{
	lua_State **main;

	if (lua_rawgetp(L, LUA_REGISTRYINDEX, &sentinel_key) == LUA_TUSERDATA)
		return *(lua_State **)lua_touserdata(L, -1);
	main = lua_newuserdatauv(L, sizeof(lua_State *), 0);
	lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
	*main = lua_tothread(L, -1);
	lua_pop(L, 1);
	lua_createtable(L, 0, 1);
	lua_pushcfunction(L, sentinel_gc);
	lua_setfield(L, -2, "__gc");
	lua_setmetatable(L, -2);
	lua_pushvalue(L, -1);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &sentinel_key);
	return *main;
}

/* lua_sethook is what Lua's own interpreter calls in its handler, too. */
static void on_signal(void)
{
	lua_State *L = raise_in;

	if (L && !held)
		set_hook(L);
}

/* interrupt.install(): for the program; a library leaves signals alone */
static int lib_install(lua_State *L)
{
	MB_ERROR(err);

	raise_in = installed_by = push_sentinel(L);
	mb_interrupt_listen(true);
	if (mb_interrupt_install(on_signal, &err) != 0)
		return mb_raise(L, &err);
	return 0;
}

/* interrupt.fd() -> fd that is readable when a signal came | nil: not installed */
static int lib_fd(lua_State *L)
{
	if (mb_interrupt_fd() >= 0)
		lua_pushinteger(L, mb_interrupt_fd());
	else
		lua_pushnil(L);
	return 1;
}

/* interrupt.take() -> "SIGINT" | "SIGTERM" | nil */
static int lib_take(lua_State *L)
{
	int sig = mb_interrupt_take();

	if (sig)
		lua_pushstring(L, name_of(sig));
	else
		lua_pushnil(L);
	return 1;
}

/* Signals are for the state that installed: those of other threads leave all of this alone. */
static bool is_ours(lua_State *L)
{
	int top = lua_gettop(L);
	bool ours = raise_in && push_sentinel(L) == installed_by;

	lua_settop(L, top);
	return ours;
}

/* interrupt.hold(on): while on, signals are only remembered */
static int lib_hold(lua_State *L)
{
	if (is_ours(L)) {
		held = lua_toboolean(L, 1);
		mb_interrupt_listen(!held);
	}
	return 0;
}

static void end_call(void)
{
	if (!calling)
		return;
	lua_sethook(raise_in, NULL, 0, 0);
	raise_in = installed_by;
	calling = false;
	ending = 0;
	held = true;
	mb_interrupt_listen(false);
	mb_interrupt_rearm();
}

/* The call has ended, also after a wait. */
static int called(lua_State *L, int status, lua_KContext ours)
{
	if (ours)
		end_call();
	lua_pushboolean(L, status == LUA_OK || status == LUA_YIELD);
	lua_insert(L, 1);
	return lua_gettop(L);
}

/* interrupt.call(fn, …) -> as pcall      within a loop: a signal ends what this thread runs */
static int lib_call(lua_State *L)
{
	bool ours = is_ours(L);

	luaL_checkany(L, 1);
	if (ours && calling)
		return luaL_error(L, "interrupt.call: one call at a time");
	if (ours) {
		raise_in = L;
		calling = true;
		held = false;
		mb_interrupt_listen(true);
	}
	return called(L, lua_pcallk(L, lua_gettop(L) - 1, LUA_MULTRET, 0, ours, called), ours);
}

/* interrupt.swap(thread) -> the one before | nothing: no call      a coroutine of the call's runs now */
static int lib_swap(lua_State *L)
{
	lua_State *before = raise_in, *now = lua_tothread(L, 1);

	if (!calling || !now || !is_ours(L))
		return 0;
	lua_pushthread(before);
	if (before != L)
		lua_xmove(before, L, 1);
	lua_sethook(before, NULL, 0, 0);
	raise_in = now;
	if (ending)
		set_hook(now);
	return 1;
}

/* interrupt.drop(): its coroutine was closed while it waited */
static int lib_drop(lua_State *L)
{
	if (is_ours(L))
		end_call();
	return 0;
}

/* interrupt.rearm(): the signal was dealt with; the next one is a first one again */
static int lib_rearm(lua_State *L)
{
	(void)L;
	mb_interrupt_rearm();
	return 0;
}

/* interrupt.name(err) -> "SIGINT" | "SIGTERM" | nil: was this error an interrupt, and which? */
static int lib_name(lua_State *L)
{
	lua_settop(L, 1);
	if (luaL_getmetafield(L, 1, "__name") != LUA_TSTRING ||
	    strcmp(lua_tostring(L, -1), "moonbee.error") != 0 || !lua_istable(L, 1))
		return 0;
	lua_pushliteral(L, "signal");
	lua_rawget(L, 1);
	return 1;
}

const luaL_Reg mb_interrupt_functions[] = {
	{ "install", lib_install }, { "fd", lib_fd },
	{ "take", lib_take },	    { "hold", lib_hold },
	{ "call", lib_call },	    { "swap", lib_swap },
	{ "drop", lib_drop },	    { "rearm", lib_rearm },
	{ "name", lib_name },	    { NULL, NULL },
};
