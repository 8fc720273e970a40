/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * core.runtime: a guest as the host has it. What runs in the guest runs in a coroutine that the host
 * resumes, under a deadline; what comes back are plain data. Errors of the guest's are results here,
 * never raised.
 */
#include "bind/guest.h"

#include <stdio.h>

#define POOL 16 /* idle coroutines that are kept */

static const char *const CLASS = "moonbee.guest";

/* In the guest's registry, by address. */
static const char entries_key; /* what guest.lua returned: functions by name */
static const char tasks_key;   /* id -> coroutine that waits */
static const char pool_key;    /* coroutines that are done */
static const char sliced_key;  /* id -> true */

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
	const char *kind; /* of an error */
};

/* ---- entering ------------------------------------------------------------------------------------------ */

struct entered {
	struct guest *guest;
	struct mb_hold *hold;
};

static struct entered enter(struct guest *g, lua_State *cur)
{
	struct entered before = { mb_guest_now, NULL };

	before.hold = mb_hold_enter(g ? g->hold : NULL);
	if (g)
		g->cur = cur;
	mb_guest_now = g;
	return before;
}

static void leave(struct entered before)
{
	mb_guest_now = before.guest;
	mb_hold_enter(before.hold);
}

/* Run fn(call) in the guest's main thread; its results stay there. */
static int protect(struct call *c, lua_CFunction fn, int results)
{
	lua_State *L = c->g->L;

	lua_pushcfunction(L, fn);
	lua_pushlightuserdata(L, c);
	return lua_pcall(L, 1, results, 0);
}

/* ---- calls out of the guest ------------------------------------------------------------------------------ */

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
	struct entered before;
	int top, status, rc;

	if (!host)
		return luaL_error(L, "the host has ended");
	if (!lua_checkstack(host, LUA_MINSTACK))
		return luaL_error(L, "the host has no room");
	top = lua_gettop(host);
	mb_deadline_pause(&g->deadline);
	before = enter(NULL, NULL);
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
	leave(before);
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

/* ---- making ------------------------------------------------------------------------------------------------ */

static struct guest *self(lua_State *L)
{
	struct guest *g = luaL_checkudata(L, 1, CLASS);

	if (!g->L)
		luaL_error(L, "attempt to use a closed runtime");
	return g;
}

static int make_tables(lua_State *L)
{
	const void *const keys[] = { &tasks_key, &pool_key, &sliced_key };

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		lua_newtable(L);
		lua_rawsetp(L, LUA_REGISTRYINDEX, keys[i]);
	}
	return 0;
}

static int runtime_close(lua_State *L);
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
		lua_pushcfunction(L, runtime_close);
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
	g->L = g->hold ? lua_newstate(mb_heap_alloc, &g->heap) : NULL;
	if (!g->L)
		return luaL_error(L, "not enough memory");
	lua_pushcfunction(g->L, make_tables);
	if (lua_pcall(g->L, 0, 0, 0) != LUA_OK)
		return luaL_error(L, "not enough memory");
	return 1;
}

/* In the guest, protected: open the libraries, run the Lua half, remember what it gives. */
static int open_guest(lua_State *L)
{
	struct call *c = lua_touserdata(L, 1);
	size_t len;
	const char *text = lua_tolstring(c->host, 2, &len);

	lua_settop(L, 0);
	mb_guest_open(L);
	if (luaL_loadbufferx(L, text, len, lua_tostring(c->host, 3), "t") != LUA_OK)
		return lua_error(L);
	lua_insert(L, 1);
	lua_call(L, 1, 1);
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &entries_key);
	return 0;
}

/* What the guest's main thread has on top, as text, pushed in the host. */
static void push_text(lua_State *L, struct guest *g, const char *otherwise)
{
	lua_pushstring(L, lua_type(g->L, -1) == LUA_TSTRING ? lua_tostring(g->L, -1) : otherwise);
	lua_settop(g->L, 0);
}

/* guest:open(source, chunkname, memory): the Lua half; from now on so many bytes more and no others */
static int runtime_open(lua_State *L)
{
	struct guest *g = self(L);
	struct call c = { .g = g, .host = L };
	lua_Integer memory = luaL_checkinteger(L, 4);
	struct entered before;
	int status;

	luaL_checkstring(L, 2);
	luaL_checkstring(L, 3);
	luaL_argcheck(L, memory > 0, 4, "bytes");
	g->host = L;
	before = enter(g, g->L);
	mb_deadline_begin(&g->deadline, 60);
	status = protect(&c, open_guest, 0);
	mb_deadline_end(&g->deadline);
	leave(before);
	g->host = NULL;
	if (status != LUA_OK) {
		push_text(L, g, "the runtime's Lua half failed");
		return lua_error(L);
	}
	lua_gc(g->L, LUA_GCCOLLECT);
	g->heap.limit = g->heap.used + (size_t)memory;
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

/* With the error on top of co: its description on the guest's main thread, 6 values. */
static void describe_error(struct call *c, lua_State *co)
{
	struct guest *g = c->g;
	lua_State *L = g->L;

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
	if (lua_pcall(L, 2, 6, 0) != LUA_OK) {
		bool over = mb_guest_ending();

		lua_settop(L, 0);
		if (over)
			c->kind = "deadline";
		else
			lua_pushliteral(L, "an error object whose text cannot be had");
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
	lua_rawgetp(L, LUA_REGISTRYINDEX, &entries_key);
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

	protect(c, end_task, 0);
	lua_settop(c->g->L, top);
}

/* What a coroutine that ends early has open is closed, in a time of its own. */
static void reset(struct call *c)
{
	struct guest *g = c->g;
	struct entered before = enter(g, c->co);

	g->task = c->co;
	g->may_wait = g->sliced = g->ending = false;
	mb_deadline_begin(&g->deadline, c->seconds);
	lua_resetthread(c->co);
	mb_deadline_end(&g->deadline);
	leave(before);
	lua_settop(c->co, 0);
}

/* The results are in the host, below their number; or it is "error". */
static int finish(struct call *c, lua_State *L, struct entered before)
{
	struct guest *g = c->g;
	int top = lua_gettop(L), status;

	mb_guest_now = NULL;
	mb_hold_enter(NULL);
	lua_pushcfunction(L, copy_results);
	lua_pushlightuserdata(L, c);
	status = lua_pcall(L, 1, LUA_MULTRET, 0);
	mb_deadline_end(&g->deadline);
	leave(before);
	if (status == LUA_OK) {
		forget_task(c);
		lua_pushliteral(L, "done");
		lua_insert(L, top + 1);
		return lua_gettop(L) - top;
	}
	c->status = LUA_ERRRUN;
	forget_task(c);
	lua_pushliteral(L, "error");
	lua_createtable(L, 0, 2);
	set(L, "kind", "error");
	set(L, "trace", "");
	lua_pushvalue(L, top + 1);
	lua_setfield(L, -2, "text");
	return 2;
}

static int failed(struct call *c, lua_State *L, struct entered before)
{
	struct guest *g = c->g;

	describe_error(c, c->co);
	mb_deadline_end(&g->deadline);
	leave(before);
	lua_sethook(g->L, NULL, 0, 0);
	reset(c);
	forget_task(c);
	g->task = NULL;
	return push_error(L, c);
}

/* It yielded: to wait, to give way, or by a mistake. */
static int yielded(struct call *c, lua_State *L, struct entered before)
{
	struct guest *g = c->g;
	bool waits = c->n == 2 &&
		     lua_touserdata(c->co, -2) == (void *)(uintptr_t)&mb_guest_wait_key;
	lua_Number seconds = waits ? lua_tonumber(c->co, -1) : 0;

	if (waits || g->gave_way) {
		mb_deadline_end(&g->deadline);
		leave(before);
		lua_pop(c->co, c->n);
		lua_pushstring(L, waits ? "wait" : "more");
		lua_pushnumber(L, seconds);
		lua_pushinteger(L, c->id);
		return 3;
	}
	lua_pop(c->co, c->n);
	mb_guest_trace(c->co, 0, g->trace, sizeof(g->trace));
	mb_deadline_end(&g->deadline);
	leave(before);
	reset(c);
	c->status = LUA_ERRRUN;
	forget_task(c);
	lua_settop(g->L, 0);
	c->kind = "yield";
	return push_error(L, c);
}

static void set_mode(struct call *c, enum mb_hold_mode *before)
{
	*before = MB_HOLD_OFF;
	if (c->flags & CALL_COPY)
		mb_hold_set(c->g->hold, MB_HOLD_COPY);
	else if (c->flags & CALL_REFUSE)
		*before = mb_hold_set(c->g->hold, MB_HOLD_REFUSE);
}

/* Resume the task, and tell the host what came of it. */
static int run(struct call *c, lua_State *L, int nargs)
{
	struct guest *g = c->g;
	struct entered before = enter(g, c->co);
	enum mb_hold_mode mode;
	int n;

	g->host = L;
	g->task = c->co;
	g->nested = 0;
	g->where_known = g->gave_way = g->ending = false;
	g->trace[0] = '\0';
	g->may_wait = c->flags & CALL_MAY_WAIT;
	g->loading = c->flags & CALL_LOADING;
	g->sliced = c->flags & CALL_SLICED;
	set_mode(c, &mode);
	if (g->sliced) {
		g->slice_end = mb_now_ns() + 1000000u;
		mb_guest_slice(c->co);
	}
	mb_deadline_begin(&g->deadline, c->seconds);
	c->status = lua_resume(c->co, g->L, nargs, &c->n);
	g->cur = g->L;
	lua_sethook(c->co, NULL, 0, 0);
	if (c->status == LUA_OK && g->ending)
		n = failed(c, L, before); /* whatever it returned */
	else if (c->status == LUA_OK)
		n = finish(c, L, before);
	else if (c->status == LUA_YIELD)
		n = yielded(c, L, before);
	else
		n = failed(c, L, before);
	if (c->flags & CALL_REFUSE)
		mb_hold_set(g->hold, mode);
	g->host = NULL;
	g->task = NULL;
	g->cur = NULL;
	return n;
}

static void check_idle(lua_State *L, const struct guest *g)
{
	if (g->host)
		luaL_error(L, "the policy runs already: it cannot be called from within itself");
}

/* guest:call(entry, seconds, flags, …) -> "done", results… | "wait" | "more", seconds, task | "error", t */
static int runtime_call(lua_State *L)
{
	struct guest *g = self(L);
	struct call c = { .g = g,
			  .host = L,
			  .entry = luaL_checkstring(L, 2),
			  .seconds = luaL_checknumber(L, 3),
			  .flags = luaL_checkinteger(L, 4),
			  .first = 5,
			  .n = lua_gettop(L) - 4,
			  .id = ++g->last_id };
	struct entered before;

	check_idle(L, g);
	luaL_checkstack(L, LUA_MINSTACK, NULL);
	before = enter(g, g->L); /* what is bound sees memory through the hold */
	c.status = protect(&c, prepare, 0);
	leave(before);
	if (c.status != LUA_OK) {
		push_text(L, g, "not enough memory");
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
static int runtime_resume(lua_State *L)
{
	struct guest *g = self(L);
	struct call c = { .g = g,
			  .host = L,
			  .id = luaL_checkinteger(L, 2),
			  .seconds = luaL_checknumber(L, 3),
			  .flags = luaL_checkinteger(L, 4) };

	check_idle(L, g);
	luaL_checkstack(L, LUA_MINSTACK, NULL);
	if (protect(&c, find_task, 0) != LUA_OK || !c.co) {
		lua_settop(g->L, 0);
		lua_pushliteral(L, "gone");
		return 1;
	}
	return run(&c, L, 0);
}

/* guest:kill(task, seconds): it waits no longer; what it has open is closed in that time */
static int runtime_kill(lua_State *L)
{
	struct guest *g = self(L);
	struct call c = { .g = g,
			  .host = L,
			  .id = luaL_checkinteger(L, 2),
			  .seconds = luaL_checknumber(L, 3),
			  .status = LUA_ERRRUN };

	check_idle(L, g);
	if (protect(&c, find_task, 0) != LUA_OK || !c.co) {
		lua_settop(g->L, 0);
		return 0;
	}
	g->host = L;
	reset(&c);
	g->host = NULL;
	forget_task(&c);
	return 0;
}

/* ---- the rest ----------------------------------------------------------------------------------------------------- */

/* guest:commit() -> { path, … }: what start stored is stored now; at most some KB of names */
static int runtime_commit(lua_State *L)
{
	struct guest *g = self(L);
	char paths[8192], *at = paths, *end;

	check_idle(L, g);
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

	lua_pushinteger(L, (lua_Integer)g->heap.used);
	lua_pushinteger(L, (lua_Integer)g->heap.peak);
	lua_pushinteger(L, (lua_Integer)g->heap.limit);
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
static void close_tasks(struct guest *g, lua_State *L)
{
	uint64_t end = mb_now_ns() + (uint64_t)(CLOSE_SECONDS * 1e9), now;
	struct call c = { .g = g, .host = L, .status = LUA_ERRRUN };

	g->host = L;
	while ((now = mb_now_ns()) < end && protect(&c, any_task, 0) == LUA_OK && c.co) {
		c.seconds = (double)(end - now) / 1e9;
		reset(&c);
		forget_task(&c);
	}
	g->host = NULL;
}

/* guest:close(), __gc: idempotent. Of finalizers there are only ours. */
static int runtime_close(lua_State *L)
{
	struct guest *g = luaL_checkudata(L, 1, CLASS);
	struct entered before;
	lua_State *state = g->L;

	if (state) {
		check_idle(L, g);
		if (lua_checkstack(L, LUA_MINSTACK))
			close_tasks(g, L);
		mb_hold_drop(g->hold);
		g->L = NULL;
		before = enter(NULL, NULL);
		lua_close(state);
		leave(before);
	}
	mb_hold_free(g->hold);
	g->hold = NULL;
	lua_pushnil(L);
	lua_rawsetp(L, LUA_REGISTRYINDEX, g);
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
