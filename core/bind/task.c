/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tasks: what runs in a guest, each in a coroutine that the host resumes under a deadline. What came
 * of it is a result for the host, an error too; nothing of a guest's is raised there.
 */
#include "bind/guest.h"

#include <stdio.h>

#define POOL 16 /* idle coroutines that are kept */

/* In the guest's registry, by address. */
const char mb_guest_entries_key;
static const char tasks_key;  /* id -> coroutine that waits */
static const char pool_key;   /* coroutines that are done */
static const char sliced_key; /* id -> true */

enum {
	CALL_MAY_WAIT = 1,
	CALL_LOADING = 2,
	CALL_HANDLES = 4,
	CALL_FUNCTIONS = 8,
	CALL_SLICED = 16,
	CALL_COPY = 32,
	CALL_REFUSE = 64
};

/* One call into the guest, for the parts of it that run protected. */
struct call {
	struct guest *g;
	lua_State *host, *co;
	const char *entry;
	int first, n; /* arguments, or results, on the other side's stack */
	lua_Integer id, flags;
	double seconds;
	int status;
	const char *kind;	/* of an error */
	enum mb_hold_mode mode; /* of the guest before it */
};

/* ---- entering ------------------------------------------------------------------------------------------ */

struct mb_entered mb_guest_enter(struct guest *g, lua_State *cur)
{
	struct mb_entered before = { mb_guest_now, mb_hold_enter(g ? g->hold : NULL),
				     mb_heap_enter(g ? g->heap : NULL) };

	if (g)
		g->cur = cur;
	mb_guest_now = g;
	return before;
}

void mb_guest_leave(struct mb_entered before)
{
	mb_guest_now = before.guest;
	mb_hold_enter(before.hold);
	mb_heap_enter(before.heap);
}

int mb_guest_protect(struct guest *g, lua_CFunction fn, void *ctx)
{
	lua_pushcfunction(g->L, fn);
	lua_pushlightuserdata(g->L, ctx);
	return lua_pcall(g->L, 1, 0, 0);
}

/* What the guest's main thread has on top, as text, pushed in the host. */
void mb_guest_text(lua_State *L, struct guest *g, const char *otherwise)
{
	lua_pushstring(L, lua_type(g->L, -1) == LUA_TSTRING ? lua_tostring(g->L, -1) : otherwise);
	lua_settop(g->L, 0);
}

int mb_tasks_open(lua_State *L)
{
	const void *const keys[] = { &tasks_key, &pool_key, &sliced_key };

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		lua_newtable(L);
		lua_rawsetp(L, LUA_REGISTRYINDEX, keys[i]);
	}
	return 0;
}

/* ---- results --------------------------------------------------------------------------------------------------- */

/* In the guest, protected: (call, error) -> the parts of what it says: text, code, op, subject, cause,
 * hint. Whatever the policy's __tostring does is the policy's. */
static int describe(lua_State *L)
{
	static const char *const parts[] = { "code", "op", "subject", "cause", "hint" };

	lua_settop(L, 2);
	luaL_tolstring(L, 2, NULL);
	if (lua_type(L, 2) != LUA_TTABLE || !lua_getmetatable(L, 2))
		return 1;
	luaL_getmetatable(L, "moonbee.error");
	if (!lua_rawequal(L, -1, -2))
		return lua_settop(L, 3), 1;
	lua_settop(L, 3);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		lua_pushstring(L, parts[i]);
		lua_rawget(L, 2);
		if (lua_type(L, -1) != LUA_TSTRING) {
			lua_pop(L, 1);
			lua_pushnil(L);
		}
	}
	return 6;
}

/* With the error on top of co: its description on the guest's main thread, 6 values, or none. Nothing
 * may be made there unprotected: a guest without memory has no one who would catch that. */
static void describe_error(struct call *c, lua_State *co)
{
	struct guest *g = c->g;
	lua_State *L = g->L;
	int status;

	lua_settop(L, 0);
	c->kind = "error";
	if (mb_guest_ending())
		c->kind = "deadline";
	else if (c->status == LUA_ERRMEM ||
		 (lua_type(co, -1) == LUA_TSTRING &&
		  strcmp(lua_tostring(co, -1), "not enough memory") == 0))
		c->kind = "memory";
	if (*c->kind != 'e')
		return;
	lua_pushcfunction(L, describe);
	lua_pushlightuserdata(L, c);
	lua_xmove(co, L, 1);
	g->cur = L;
	status = lua_pcall(L, 2, 6, 0);
	if (status != LUA_OK) {
		lua_settop(L, 0);
		if (mb_guest_ending())
			c->kind = "deadline";
		else if (status == LUA_ERRMEM)
			c->kind = "memory";
	}
	lua_sethook(L, NULL, 0, 0);
}

/* In the host, protected: copies of the n values on top of the guest's thread. */
static int copy_results(lua_State *L)
{
	struct call *c = lua_touserdata(L, 1);
	int first = lua_gettop(c->co) - c->n + 1;
	enum mb_plain how = c->flags & CALL_FUNCTIONS ? MB_PLAIN_FUNCTIONS : MB_PLAIN_DATA;

	lua_settop(L, 0);
	luaL_checkstack(L, c->n + LUA_MINSTACK, "too many results");
	for (int i = 0; i < c->n; i++)
		mb_plain_push(L, c->co, first + i, how, "what was returned");
	return c->n;
}

static void set(lua_State *L, const char *name, const char *value)
{
	if (!value)
		return;
	lua_pushstring(L, value);
	lua_setfield(L, -2, name);
}

#define MOST_TEXT 16384 /* of what a guest says is wrong */

static void set_part(lua_State *L, const char *name, lua_State *guest, int i)
{
	size_t len;
	const char *text = lua_tolstring(guest, i, &len);

	lua_pushlstring(L, text, len < MOST_TEXT ? len : MOST_TEXT);
	lua_setfield(L, -2, name);
}

/* The guest is idle again. What is pushed in the host after this may raise. */
static void leave(const struct call *c)
{
	if (c->flags & CALL_REFUSE)
		mb_hold_set(c->g->hold, c->mode);
	c->g->host = NULL;
	c->g->task = NULL;
	c->g->cur = NULL;
}

/* "error", { kind =, text =, trace =, where =, code =, … } in the host */
static int push_error(lua_State *L, const struct call *c)
{
	static const char *const names[] = { "text", "code", "op", "subject", "cause", "hint" };
	struct guest *g = c->g;

	lua_pushliteral(L, "error");
	lua_createtable(L, 0, 8);
	set(L, "kind", c->kind);
	set(L, "trace", g->trace);
	if (g->where_known)
		set(L, "where", g->where);
	for (int i = 0; i < 6 && i < lua_gettop(g->L); i++)
		if (lua_type(g->L, i + 1) == LUA_TSTRING)
			set_part(L, names[i], g->L, i + 1);
	if (*c->kind == 'e' && !lua_gettop(g->L))
		set(L, "text", "an error object whose text cannot be had");
	lua_settop(g->L, 0);
	return 2;
}

/* ---- tasks ------------------------------------------------------------------------------------------------------ */

/* In the guest, protected: a coroutine with the entry and copies of the host's arguments on it. */
static int prepare(lua_State *L)
{
	struct call *c = lua_touserdata(L, 1);
	lua_Integer n;

	lua_settop(L, 0);
	lua_rawgetp(L, LUA_REGISTRYINDEX, &pool_key);
	n = (lua_Integer)lua_rawlen(L, 1);
	if (n) {
		lua_rawgeti(L, 1, n);
		lua_pushnil(L);
		lua_rawseti(L, 1, n);
	} else {
		lua_newthread(L);
	}
	c->co = lua_tothread(L, 2);
	lua_rawgetp(L, LUA_REGISTRYINDEX, &tasks_key);
	lua_pushvalue(L, 2);
	lua_rawseti(L, 3, c->id); /* anchored */
	if (c->flags & CALL_SLICED) {
		lua_rawgetp(L, LUA_REGISTRYINDEX, &sliced_key);
		lua_pushboolean(L, true);
		lua_rawseti(L, -2, c->id);
		lua_pop(L, 1);
	}
	lua_rawgetp(L, LUA_REGISTRYINDEX, &mb_guest_entries_key);
	if (lua_getfield(L, -1, c->entry) != LUA_TFUNCTION)
		return luaL_error(L, "the runtime has no '%s'", c->entry);
	luaL_checkstack(c->co, c->n + LUA_MINSTACK, "too many arguments");
	mb_guest_body(L, true);
	lua_xmove(L, c->co, 1);
	for (int i = 0; i < c->n; i++) {
		mb_plain_push(L, c->host, c->first + i,
			      c->flags & CALL_HANDLES ? MB_PLAIN_HANDLES : MB_PLAIN_DATA,
			      "an argument");
		lua_xmove(L, c->co, 1);
	}
	return 0;
}

/* In the guest, protected: the coroutine of a task that waits. */
static int find_task(lua_State *L)
{
	struct call *c = lua_touserdata(L, 1);

	lua_rawgetp(L, LUA_REGISTRYINDEX, &tasks_key);
	lua_rawgeti(L, -1, c->id);
	c->co = lua_tothread(L, -1);
	lua_rawgetp(L, LUA_REGISTRYINDEX, &sliced_key);
	lua_rawgeti(L, -1, c->id);
	if (lua_toboolean(L, -1))
		c->flags |= CALL_SLICED;
	return 0;
}

/* In the guest, protected: it is over; one that ended well is kept for the next. */
static int end_task(lua_State *L)
{
	struct call *c = lua_touserdata(L, 1);
	lua_Integer n;

	lua_rawgetp(L, LUA_REGISTRYINDEX, &tasks_key);
	lua_pushnil(L);
	lua_rawseti(L, -2, c->id);
	lua_rawgetp(L, LUA_REGISTRYINDEX, &sliced_key);
	lua_pushnil(L);
	lua_rawseti(L, -2, c->id);
	if (c->status != LUA_OK || !c->co)
		return 0;
	lua_rawgetp(L, LUA_REGISTRYINDEX, &pool_key);
	n = (lua_Integer)lua_rawlen(L, -1);
	if (n >= POOL)
		return 0;
	luaL_checkstack(c->co, 1, NULL);
	lua_settop(c->co, 0);
	lua_pushthread(c->co);
	lua_xmove(c->co, L, 1);
	lua_rawseti(L, -2, n + 1);
	return 0;
}

static void forget_task(struct call *c)
{
	int top = lua_gettop(c->g->L); /* an error's description may lie there */

	mb_guest_protect(c->g, end_task, c);
	lua_settop(c->g->L, top);
}

/* What a coroutine that ends early has open is closed, in a time of its own. */
static void reset(struct call *c)
{
	struct guest *g = c->g;
	struct mb_entered before = mb_guest_enter(g, c->co);

	g->task = c->co;
	g->may_wait = g->sliced = g->ending = false;
	mb_deadline_begin(&g->deadline, c->seconds);
	lua_resetthread(c->co);
	mb_deadline_end(&g->deadline);
	mb_guest_leave(before);
	lua_settop(c->co, 0);
}

/* The results are in the host, below their number; or it is "error". */
static int finish(struct call *c, lua_State *L, struct mb_entered before)
{
	struct guest *g = c->g;
	int top = lua_gettop(L), status;

	mb_guest_enter(NULL, NULL); /* before is to go back to */
	lua_pushcfunction(L, copy_results);
	lua_pushlightuserdata(L, c);
	status = lua_pcall(L, 1, LUA_MULTRET, 0);
	mb_deadline_end(&g->deadline);
	mb_guest_leave(before);
	if (status == LUA_OK) {
		forget_task(c);
		leave(c);
		lua_pushliteral(L, "done");
		lua_insert(L, top + 1);
		return lua_gettop(L) - top;
	}
	c->status = LUA_ERRRUN;
	forget_task(c);
	leave(c);
	lua_pushliteral(L, "error");
	lua_createtable(L, 0, 2);
	set(L, "kind", "error");
	set(L, "trace", "");
	lua_pushvalue(L, top + 1);
	lua_setfield(L, -2, "text");
	return 2;
}

static int failed(struct call *c, lua_State *L, struct mb_entered before)
{
	struct guest *g = c->g;

	describe_error(c, c->co);
	mb_deadline_end(&g->deadline);
	mb_guest_leave(before);
	lua_sethook(g->L, NULL, 0, 0);
	reset(c);
	forget_task(c);
	leave(c);
	return push_error(L, c);
}

/* It yielded: to wait, to give way, or by a mistake. */
static int yielded(struct call *c, lua_State *L, struct mb_entered before)
{
	struct guest *g = c->g;
	bool waits = c->n == 2 &&
		     lua_touserdata(c->co, -2) == (void *)(uintptr_t)&mb_guest_wait_key;
	lua_Number seconds = waits ? lua_tonumber(c->co, -1) : 0;

	if (waits || g->gave_way) {
		mb_deadline_end(&g->deadline);
		mb_guest_leave(before);
		lua_pop(c->co, c->n);
		leave(c);
		lua_pushstring(L, waits ? "wait" : "more");
		lua_pushnumber(L, seconds);
		lua_pushinteger(L, c->id);
		return 3;
	}
	lua_pop(c->co, c->n);
	mb_guest_trace(c->co, 0, g->trace, sizeof(g->trace));
	mb_deadline_end(&g->deadline);
	mb_guest_leave(before);
	reset(c);
	c->status = LUA_ERRRUN;
	forget_task(c);
	lua_settop(g->L, 0);
	c->kind = "yield";
	leave(c);
	return push_error(L, c);
}

static void set_mode(struct call *c)
{
	if (c->flags & CALL_COPY)
		mb_hold_set(c->g->hold, MB_HOLD_COPY);
	else if (c->flags & CALL_REFUSE)
		c->mode = mb_hold_set(c->g->hold, MB_HOLD_REFUSE);
}

/* Resume the task, and tell the host what came of it. */
static int run(struct call *c, lua_State *L, int nargs)
{
	struct guest *g = c->g;
	struct mb_entered before = mb_guest_enter(g, c->co);

	g->host = L;
	g->task = c->co;
	g->nested = 0;
	g->where_known = g->gave_way = g->ending = false;
	g->trace[0] = '\0';
	g->may_wait = c->flags & CALL_MAY_WAIT;
	g->loading = c->flags & CALL_LOADING;
	g->reading = c->flags & CALL_REFUSE;
	g->sliced = c->flags & CALL_SLICED;
	set_mode(c);
	if (g->sliced) {
		g->slice_end = mb_now_ns() + 1000000u;
		mb_guest_slice(c->co);
	}
	mb_deadline_begin(&g->deadline, c->seconds);
	c->status = lua_resume(c->co, g->L, nargs, &c->n);
	g->cur = g->L;
	lua_sethook(c->co, NULL, 0, 0);
	if (c->status == LUA_OK && g->ending)
		return failed(c, L, before); /* whatever it returned */
	if (c->status == LUA_OK)
		return finish(c, L, before);
	if (c->status == LUA_YIELD)
		return yielded(c, L, before);
	return failed(c, L, before);
}

void mb_guest_idle(lua_State *L, const struct guest *g)
{
	if (g->host)
		luaL_error(L, "the policy runs already: it cannot be called from within itself");
}

/* guest:call(entry, seconds, flags, …) -> "done", results… | "wait" | "more", seconds, task | "error", t */
int mb_task_call(lua_State *L, struct guest *g)
{
	struct call c = { .g = g,
			  .host = L,
			  .entry = luaL_checkstring(L, 2),
			  .seconds = luaL_checknumber(L, 3),
			  .flags = luaL_checkinteger(L, 4),
			  .first = 5,
			  .n = lua_gettop(L) - 4,
			  .id = ++g->last_id };
	struct mb_entered before;

	mb_guest_idle(L, g);
	luaL_checkstack(L, LUA_MINSTACK, NULL);
	before = mb_guest_enter(g, g->L); /* what is bound sees memory through the hold */
	c.status = mb_guest_protect(g, prepare, &c);
	mb_guest_leave(before);
	if (c.status != LUA_OK) {
		mb_guest_text(L, g, "not enough memory");
		c.status = LUA_ERRRUN;
		forget_task(&c);
		lua_pushliteral(L, "error");
		lua_createtable(L, 0, 3);
		lua_pushvalue(L, -3);
		lua_setfield(L, -2, "text");
		set(L, "kind", "error");
		set(L, "trace", "");
		return 2;
	}
	return run(&c, L, c.n);
}

/* guest:resume(task, seconds, flags) -> as call      of one that waits or gave way */
int mb_task_resume(lua_State *L, struct guest *g)
{
	struct call c = { .g = g,
			  .host = L,
			  .id = luaL_checkinteger(L, 2),
			  .seconds = luaL_checknumber(L, 3),
			  .flags = luaL_checkinteger(L, 4) };

	mb_guest_idle(L, g);
	luaL_checkstack(L, LUA_MINSTACK, NULL);
	if (mb_guest_protect(g, find_task, &c) != LUA_OK || !c.co) {
		lua_settop(g->L, 0);
		lua_pushliteral(L, "gone");
		return 1;
	}
	return run(&c, L, 0);
}

/* guest:kill(task, seconds): it waits no longer; what it has open is closed in that time */
int mb_task_kill(lua_State *L, struct guest *g)
{
	struct call c = { .g = g,
			  .host = L,
			  .id = luaL_checkinteger(L, 2),
			  .seconds = luaL_checknumber(L, 3),
			  .status = LUA_ERRRUN };

	mb_guest_idle(L, g);
	if (mb_guest_protect(g, find_task, &c) != LUA_OK || !c.co) {
		lua_settop(g->L, 0);
		return 0;
	}
	g->host = L;
	reset(&c);
	g->host = NULL;
	forget_task(&c);
	return 0;
}

/* In the guest, protected: some task that waits. */
static int any_task(lua_State *L)
{
	struct call *c = lua_touserdata(L, 1);

	lua_rawgetp(L, LUA_REGISTRYINDEX, &tasks_key);
	lua_pushnil(L);
	c->co = NULL;
	if (lua_next(L, -2)) {
		c->co = lua_tothread(L, -1);
		c->id = lua_tointeger(L, -2);
	}
	return 0;
}

#define CLOSE_SECONDS 1.0 /* for all that waits */

/* What waits is closed, for a while; the rest goes with the state. */
void mb_tasks_close(struct guest *g, lua_State *L)
{
	uint64_t end = mb_now_ns() + (uint64_t)(CLOSE_SECONDS * 1e9), now;
	struct call c = { .g = g, .host = L, .status = LUA_ERRRUN };

	g->host = L;
	while ((now = mb_now_ns()) < end && mb_guest_protect(g, any_task, &c) == LUA_OK && c.co) {
		c.seconds = (double)(end - now) / 1e9;
		reset(&c);
		forget_task(&c);
	}
	g->host = NULL;
}
