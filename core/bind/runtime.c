/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core.runtime: a guest as the host has it: made, opened with its Lua half, given a limit, closed. What
 * runs in it is task.c's.
 */
#include "bind/guest.h"

#include <stdio.h>

static const char *const CLASS = "moonbee.guest";

/* ---- making ------------------------------------------------------------------------------------------------ */

static struct guest *self(lua_State *L)
{
	struct guest *g = luaL_checkudata(L, 1, CLASS);

	if (!g->L)
		luaL_error(L, "attempt to use a closed runtime");
	return g;
}

static int runtime_gc(lua_State *L);
static const luaL_Reg *methods_of(void);

/* new(name, functions) -> guest      functions: what the guest may call, by name */
static int runtime_new(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);
	MB_ERROR(err);
	struct guest *g;

	luaL_checktype(L, 2, LUA_TTABLE);
	g = lua_newuserdatauv(L, sizeof(*g), 0);
	memset(g, 0, sizeof(*g));
	if (luaL_newmetatable(L, CLASS)) {
		lua_pushcfunction(L, runtime_gc);
		lua_setfield(L, -2, "__gc");
		lua_newtable(L);
		luaL_setfuncs(L, methods_of(), 0);
		lua_setfield(L, -2, "__index");
		lua_pushstring(L, CLASS);
		lua_setfield(L, -2, "__metatable");
	}
	lua_setmetatable(L, -2);
	snprintf(g->name, sizeof(g->name), "%s", name);
	g->deadline.expire = mb_guest_expire;
	g->deadline.name = g->name;
	if (mb_deadline_prepare(&err) != 0)
		return mb_raise(L, &err);
	lua_pushvalue(L, 2);
	lua_rawsetp(L, LUA_REGISTRYINDEX, g);
	g->hold = mb_hold_new();
	g->heap = mb_heap_new();
	g->L = g->hold && g->heap ? lua_newstate(mb_heap_alloc, g->heap) : NULL;
	if (!g->L)
		return luaL_error(L, "not enough memory");
	lua_pushcfunction(g->L, mb_tasks_open);
	if (lua_pcall(g->L, 0, 0, 0) != LUA_OK)
		return luaL_error(L, "not enough memory");
	return 1;
}

/* In the guest, protected: open the libraries, run the Lua half, remember what it gives. */
static int open_guest(lua_State *L)
{
	struct guest *g = lua_touserdata(L, 1);
	size_t len;
	const char *text = lua_tolstring(g->host, 2, &len);

	lua_settop(L, 0);
	mb_guest_open(L);
	if (luaL_loadbufferx(L, text, len, lua_tostring(g->host, 3), "t") != LUA_OK)
		return lua_error(L);
	lua_insert(L, 1);
	lua_call(L, 1, 1);
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &mb_guest_entries_key);
	return 0;
}

/* guest:open(source, chunkname, memory): the Lua half; from now on so many bytes more and no others */
static int runtime_open(lua_State *L)
{
	struct guest *g = self(L);
	lua_Integer memory = luaL_checkinteger(L, 4);
	struct mb_entered before;
	int status;

	luaL_checkstring(L, 2);
	luaL_checkstring(L, 3);
	luaL_argcheck(L, memory > 0, 4, "bytes");
	g->host = L;
	before = mb_guest_enter(g, g->L);
	mb_deadline_begin(&g->deadline, 60);
	status = mb_guest_protect(g, open_guest, g);
	mb_deadline_end(&g->deadline);
	mb_guest_leave(before);
	g->host = NULL;
	if (status != LUA_OK) {
		mb_guest_text(L, g, "the runtime's Lua half failed");
		return lua_error(L);
	}
	lua_gc(g->L, LUA_GCCOLLECT);
	g->heap->limit = g->heap->used + (size_t)memory;
	return 0;
}

/* ---- the rest ----------------------------------------------------------------------------------------------------- */

/* guest:call(entry, seconds, flags, …), guest:resume(task, seconds, flags), guest:kill(task, seconds) */
static int runtime_call(lua_State *L)
{
	return mb_task_call(L, self(L));
}

static int runtime_resume(lua_State *L)
{
	return mb_task_resume(L, self(L));
}

static int runtime_kill(lua_State *L)
{
	return mb_task_kill(L, self(L));
}

/* guest:commit() -> { path, … }: what start stored is stored now; at most some KB of names */
static int runtime_commit(lua_State *L)
{
	struct guest *g = self(L);
	char paths[8192], *at = paths, *end;

	mb_guest_idle(L, g);
	mb_hold_commit(g->hold, paths, sizeof(paths));
	lua_newtable(L);
	for (lua_Integer i = 1; (end = strchr(at, '\n')) != NULL; i++, at = end + 1) {
		lua_pushlstring(L, at, (size_t)(end - at));
		lua_rawseti(L, -2, i);
	}
	return 1;
}

/* guest:drop(): what start stored is forgotten */
static int runtime_drop(lua_State *L)
{
	mb_hold_drop(self(L)->hold);
	return 0;
}

/* guest:memory() -> used, peak, limit: bytes */
static int runtime_memory(lua_State *L)
{
	const struct guest *g = luaL_checkudata(L, 1, CLASS);

	lua_pushinteger(L, (lua_Integer)g->heap->used);
	lua_pushinteger(L, (lua_Integer)g->heap->peak);
	lua_pushinteger(L, (lua_Integer)g->heap->limit);
	return 3;
}

/* guest:interrupt(): what runs in it ends now, as by its deadline */
static int runtime_interrupt(lua_State *L)
{
	struct guest *g = self(L);

	if (g->host)
		mb_deadline_expire(&g->deadline);
	return 0;
}

/* guest:close(): idempotent. Of finalizers there are only ours. */
static int runtime_close(lua_State *L)
{
	struct guest *g = luaL_checkudata(L, 1, CLASS);
	struct mb_entered before;
	lua_State *state = g->L;

	if (state) {
		mb_guest_idle(L, g);
		if (lua_checkstack(L, LUA_MINSTACK))
			mb_tasks_close(g, L);
		mb_hold_drop(g->hold);
		g->L = NULL;
		before = mb_guest_enter(NULL, NULL);
		lua_close(state);
		mb_guest_leave(before);
	}
	mb_hold_free(g->hold);
	g->hold = NULL;
	lua_pushnil(L);
	lua_rawsetp(L, LUA_REGISTRYINDEX, g);
	return 0;
}

static int runtime_gc(lua_State *L)
{
	struct guest *g = lua_touserdata(L, 1);

	runtime_close(L);
	mb_heap_unref(g->heap);
	g->heap = NULL;
	return 0;
}

/* checked() -> can string, table and utf8 be ended by a deadline? (else they have bounds) */
static int runtime_checked(lua_State *L)
{
	lua_pushboolean(L, mb_guest_checked());
	return 1;
}

/* marker() -> what stands for a function in a description */
static int runtime_marker(lua_State *L)
{
	lua_pushlightuserdata(L, (void *)(uintptr_t)&mb_plain_function_key);
	return 1;
}

#define MAX_ARGV 64

/* watchdog(seconds [, argv]): see mb_watchdog_set */
static int runtime_watchdog(lua_State *L)
{
	const char *argv[MAX_ARGV + 1] = { NULL };
	lua_Number seconds = luaL_checknumber(L, 1);
	lua_Integer n;
	MB_ERROR(err);

	luaL_argcheck(L, seconds >= 0 && seconds <= 1e6, 1, "seconds from 0 to 1e6");
	if (!lua_isnoneornil(L, 2)) {
		luaL_checktype(L, 2, LUA_TTABLE);
		n = luaL_len(L, 2);
		luaL_argcheck(L, n > 0 && n <= MAX_ARGV, 2, "from 1 to 64 words");
		luaL_checkstack(L, (int)n, NULL);
		for (int i = 0; i < n; i++) {
			lua_rawgeti(L, 2, i + 1);
			argv[i] = luaL_checkstring(L, -1);
		}
	}
	if (mb_watchdog_set(seconds, argv[0] ? argv : NULL, &err) != 0)
		return mb_raise(L, &err);
	return 0;
}

static const luaL_Reg methods[] = {
	{ "open", runtime_open },     { "call", runtime_call },
	{ "resume", runtime_resume }, { "kill", runtime_kill },
	{ "commit", runtime_commit }, { "drop", runtime_drop },
	{ "memory", runtime_memory }, { "interrupt", runtime_interrupt },
	{ "close", runtime_close },   { NULL, NULL },
};

static const luaL_Reg *methods_of(void)
{
	return methods;
}

const luaL_Reg mb_runtime_functions[] = {
	{ "new", runtime_new },
	{ "checked", runtime_checked },
	{ "marker", runtime_marker },
	{ "watchdog", runtime_watchdog },
	{ NULL, NULL },
};
