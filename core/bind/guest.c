/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is in a guest's state: Lua's libraries without what reaches out of it, the end of its time, and
 * moonbee's classes without what a policy leaves to its host.
 */
#include "bind/guest.h"

#include <lualib.h>
#include <stdio.h>

#include "bind/guest_loop.h"

#define ALL_EVENTS (LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT)
#define SLICE_STEPS 1000
#define PIECE 4096 /* bytes of source between two looks at the time */

MB_THREAD struct guest *mb_guest_now;
const char mb_guest_wait_key;
static const char expired_key; /* its address is the error that ends a call */

/* ---- the end of the time ---------------------------------------------------------------------------------- */

/* Frames of C and of our own Lua ("[moonbee]") tell a policy's author nothing. */
static bool is_shown(const lua_Debug *ar)
{
	return ar->currentline > 0 && ar->short_src[0] != '[';
}

/* "function f", "method x", "main chunk": as the caller names it, if that is the policy's. */
static int name_of(lua_State *L, int level, const lua_Debug *ar, char *to, size_t room)
{
	lua_Debug caller;

	if (*ar->what == 'm')
		return snprintf(to, room, "main chunk");
	if (ar->name && lua_getstack(L, level + 1, &caller) && lua_getinfo(L, "Sl", &caller) &&
	    is_shown(&caller))
		return snprintf(to, room, "%s '%s'", *ar->namewhat ? ar->namewhat : "function",
				ar->name);
	return snprintf(to, room, "function <%s:%d>", ar->short_src, ar->linedefined);
}

/* Nothing here allocates: memory may be what there is none of. */
size_t mb_guest_trace(lua_State *L, int level, char *to, size_t room)
{
	lua_Debug ar;
	size_t len = 0;
	char name[96];

	to[0] = '\0';
	for (int shown = 0; shown < 20 && lua_getstack(L, level, &ar); level++) {
		int n;

		lua_getinfo(L, "Sln", &ar);
		if (!is_shown(&ar))
			continue;
		name_of(L, level, &ar, name, sizeof(name));
		n = snprintf(to + len, room - len, "\n\t%s:%d: in %s", ar.short_src, ar.currentline,
			     name);
		if (n < 0 || (size_t)n >= room - len) {
			to[len] = '\0';
			break;
		}
		len += (size_t)n;
		shown++;
	}
	return len;
}

static void locate_line(lua_State *L, char *to, size_t room)
{
	lua_Debug ar;

	to[0] = '\0';
	for (int level = 0; !to[0] && lua_getstack(L, level, &ar); level++) {
		lua_getinfo(L, "Sl", &ar);
		if (is_shown(&ar))
			snprintf(to, room, "%s:%d", ar.short_src, ar.currentline);
	}
}

/* Where a coroutine of the task's has no line, the task's is told. */
void mb_guest_locate(struct guest *g, lua_State *L)
{
	size_t len;

	locate_line(L, g->where, sizeof(g->where));
	if (!g->where[0] && L != g->task)
		locate_line(g->task, g->where, sizeof(g->where));
	len = mb_guest_trace(L, 0, g->trace, sizeof(g->trace));
	if (L != g->task)
		mb_guest_trace(g->task, 0, g->trace + len, sizeof(g->trace) - len);
	g->where_known = true;
}

static void on_hook(lua_State *L, lua_Debug *ar)
{
	struct guest *g = mb_guest_now;

	(void)ar;
	if (g && g->deadline.over)
		mb_guest_raise(L);
	lua_sethook(L, NULL, 0, 0);
}

/* The first time it begins the time once more: for what is open, and is closed on the way down. */
int mb_guest_raise(lua_State *L)
{
	struct guest *g = mb_guest_now;

	if (!g->where_known)
		mb_guest_locate(g, L);
	if (g->ending) {
		lua_sethook(L, on_hook, ALL_EVENTS, 1); /* whoever caught it goes no further */
	} else {
		g->ending = true;
		lua_sethook(L, NULL, 0, 0);
		mb_deadline_again(&g->deadline);
	}
	lua_pushlightuserdata(L, (void *)(uintptr_t)&expired_key);
	return lua_error(L);
}

bool mb_guest_ending(void)
{
	return mb_guest_now && (mb_guest_now->ending || mb_guest_now->deadline.over);
}

void mb_guest_check_time(lua_State *L)
{
	if (mb_guest_now && mb_guest_now->deadline.over)
		mb_guest_raise(L);
}

void mb_guest_check(lua_State *L)
{
	mb_guest_check_time(L);
	if (mb_guest_ending()) {
		lua_pushlightuserdata(L, (void *)(uintptr_t)&expired_key);
		lua_error(L);
	}
}

void mb_guest_loop(void)
{
	if (mb_guest_now)
		mb_guest_check_time(mb_guest_now->cur);
}

/* As Lua's own interpreter does it in its handler. */
void mb_guest_expire(struct mb_deadline *d)
{
	struct guest *g = (struct guest *)(void *)d;

	if (g == mb_guest_now && g->cur)
		lua_sethook(g->cur, on_hook, ALL_EVENTS, 1);
}

/* Only the task itself can give way: what is within a C function or another coroutine goes on, until
 * the deadline. */
static void on_slice(lua_State *L, lua_Debug *ar)
{
	struct guest *g = mb_guest_now;

	(void)ar;
	if (!g)
		return;
	if (g->deadline.over)
		mb_guest_raise(L);
	if (g->sliced && L == g->task && mb_now_ns() >= g->slice_end && lua_isyieldable(L)) {
		g->gave_way = true;
		lua_yield(L, 0);
	}
}

void mb_guest_slice(lua_State *L)
{
	lua_sethook(L, on_slice, LUA_MASKCOUNT, SLICE_STEPS);
}

/* ---- base library ------------------------------------------------------------------------------------------ */

/* setmetatable(t, mt): no finalizers. Hooks are off in them, so that one could run for ever. Lua looks
 * for one only here. */
static int base_setmetatable(lua_State *L)
{
	int type = lua_type(L, 2);

	luaL_checktype(L, 1, LUA_TTABLE);
	luaL_argexpected(L, type == LUA_TNIL || type == LUA_TTABLE, 2, "nil or table");
	if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL)
		return luaL_error(L, "cannot change a protected metatable");
	if (type == LUA_TTABLE) {
		lua_pushliteral(L, "__gc");
		if (lua_rawget(L, 2) != LUA_TNIL)
			return luaL_error(
				L, "a policy has no finalizers (__gc)\nhint: local x <close> "
				   "= … closes at the end of its block");
	}
	lua_settop(L, 2);
	lua_setmetatable(L, 1);
	return 1;
}

struct source {
	const char *text;
	size_t left;
};

static const char *read_text(lua_State *L, void *ud, size_t *len)
{
	struct source *s = ud;
	const char *piece = s->text;

	mb_guest_check_time(L);
	*len = s->left < PIECE ? s->left : PIECE;
	s->text += *len;
	s->left -= *len;
	return *len ? piece : NULL;
}

#define RESERVED 5 /* stack slot of the piece at hand */

static const char *read_function(lua_State *L, void *ud, size_t *len)
{
	(void)ud;
	mb_guest_check_time(L);
	luaL_checkstack(L, 2, "too many nested functions");
	lua_pushvalue(L, 1);
	lua_call(L, 0, 1);
	if (lua_isnil(L, -1)) {
		lua_pop(L, 1);
		*len = 0;
		return NULL;
	}
	if (!lua_isstring(L, -1))
		luaL_error(L, "reader function must return a string");
	lua_replace(L, RESERVED);
	return lua_tolstring(L, RESERVED, len);
}

/* load(chunk [, name [, mode [, env]]]): text only */
static int base_load(lua_State *L)
{
	struct source s;
	const char *name;
	int status, env = !lua_isnone(L, 4) ? 4 : 0;

	s.text = lua_tolstring(L, 1, &s.left);
	lua_settop(L, RESERVED);
	if (s.text) {
		name = luaL_optstring(L, 2, s.text);
		status = lua_load(L, read_text, &s, name, "t");
	} else {
		name = luaL_optstring(L, 2, "=(load)");
		luaL_checktype(L, 1, LUA_TFUNCTION);
		status = lua_load(L, read_function, NULL, name, "t");
	}
	if (status == LUA_OK) {
		if (env) {
			lua_pushvalue(L, env);
			if (!lua_setupvalue(L, -2, 1))
				lua_pop(L, 1);
		}
		return 1;
	}
	mb_guest_check(L);
	lua_pushnil(L);
	lua_insert(L, -2);
	return 2;
}

/* collectgarbage("count" | "collect" | "step"): what tunes the collector is the host's */
static int base_collectgarbage(lua_State *L)
{
	static const char *const options[] = { "collect", "count", "step", NULL };

	switch (luaL_checkoption(L, 1, "collect", options)) {
	case 0:
		lua_gc(L, LUA_GCCOLLECT);
		lua_pushinteger(L, 0);
		break;
	case 1:
		lua_pushnumber(L, (lua_Number)lua_gc(L, LUA_GCCOUNT) +
					  (lua_Number)lua_gc(L, LUA_GCCOUNTB) / 1024);
		break;
	default:
		lua_pushboolean(L, lua_gc(L, LUA_GCSTEP, 0));
	}
	return 1;
}

/* tonumber of a long text with a base: Lua's own loop is without an end to be had */
static int base_tonumber(lua_State *L)
{
	if (!lua_isnoneornil(L, 2) && lua_type(L, 1) == LUA_TSTRING && lua_rawlen(L, 1) > 4096)
		return luaL_argerror(L, 1, "longer than 4096 letters");
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, lua_gettop(L) - 1, 1);
	return 1;
}

static void open_base(lua_State *L)
{
	static const luaL_Reg ours[] = {
		{ "pcall", mb_guest_pcall },
		{ "xpcall", mb_guest_xpcall },
		{ "setmetatable", base_setmetatable },
		{ "load", base_load },
		{ "collectgarbage", base_collectgarbage },
		{ NULL, NULL },
	};
	static const char *const without[] = { "dofile", "loadfile", "warn", "print" };

	luaL_requiref(L, "_G", luaopen_base, 1);
	luaL_setfuncs(L, ours, 0);
	for (size_t i = 0; i < sizeof(without) / sizeof(without[0]); i++) {
		lua_pushnil(L);
		lua_setfield(L, -2, without[i]);
	}
	lua_getfield(L, -1, "tonumber");
	lua_pushcclosure(L, base_tonumber, 1);
	lua_setfield(L, -2, "tonumber");
	lua_pop(L, 1);
}

bool mb_guest_checked(void)
{
#ifdef MB_GUEST_LIB
	return true;
#else
	return false;
#endif
}

static void open_libraries(lua_State *L)
{
	static const luaL_Reg libraries[] = {
#ifdef MB_GUEST_LIB
		{ "string", mb_guest_open_string },
		{ "table", mb_guest_open_table },
		{ "utf8", mb_guest_open_utf8 },
#else
		{ "string", luaopen_string },
		{ "table", luaopen_table },
		{ "utf8", luaopen_utf8 },
#endif
		{ "math", luaopen_math },
		{ "coroutine", mb_guest_open_coroutine },
		{ NULL, NULL },
	};

	open_base(L);
	for (const luaL_Reg *lib = libraries; lib->name; lib++) {
		luaL_requiref(L, lib->name, lib->func, 1);
		lua_pop(L, 1);
	}
	lua_getglobal(L, "string");
	lua_pushnil(L);
	lua_setfield(L, -2, "dump"); /* there is nobody who would load it */
	lua_pushliteral(L, "");
	lua_getmetatable(L, -1);
	lua_pushboolean(L, false);
	lua_setfield(L, -2, "__metatable");
	lua_settop(L, 0);
}

/* ---- classes -------------------------------------------------------------------------------------------------- */

/* Readers are made by ctx:on, and drained there. What a policy may call, by class. What is not here is the host's to do: loading, closing, pinning,
 * blocking. So is all of a class that is not here. */
static const struct {
	const char *cls;
	const char *methods; /* each between spaces; NULL: all */
} allowed[] = {
	{ "object", " resize " },
	{ "map",
	  " get take set update edit delete get_many set_many delete_many push pop peek pairs sum"
	  " min max hist top count clear snapshot mmap writer add contains stack at " },
	{ "program", " run attach source stream " },
	{ "link", " update detach close read lines records " },
	{ "reader", " drain sum close " },
	{ "writer", " reserve submit discard send close " },
	{ "type", NULL },
};

static int refused(lua_State *L)
{
	return mb_mistake(L, "the host of policies does that: see the keys of a policy's table",
			  "a policy cannot call %s", lua_tostring(L, lua_upvalueindex(1)));
}

static bool is_allowed(const char *cls, const char *name)
{
	for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]); i++) {
		const char *list = allowed[i].methods, *at;
		size_t len = strlen(name);

		if (strcmp(allowed[i].cls, cls) != 0)
			continue;
		for (at = list; at && (at = strstr(at, name)); at += len)
			if (at[-1] == ' ' && at[len] == ' ')
				return true;
		return !list;
	}
	return false;
}

static int with_fds(lua_State *L);
static bool opens_files(const char *name);

/* With a method's name and itself on top. */
static void limit_fds(lua_State *L, int methods)
{
	if (!opens_files(lua_tostring(L, -2)))
		return;
	lua_pushvalue(L, -2);
	lua_pushvalue(L, -2);
	lua_pushvalue(L, -2);
	lua_pushcclosure(L, with_fds, 2);
	lua_settable(L, methods);
}

/* The methods' table is known to the metatable's __index only. */
static void limit_class(lua_State *L, const char *cls)
{
	int mt, methods;

	if (luaL_getmetatable(L, lua_pushfstring(L, "moonbee.%s", cls)) != LUA_TTABLE)
		luaL_error(L, "%s has no metatable", cls);
	mt = lua_gettop(L);
	lua_getfield(L, mt, "__index");
	if (!lua_getupvalue(L, -1, 2) || !lua_istable(L, -1))
		luaL_error(L, "%s has no methods", cls);
	methods = lua_gettop(L);
	for (lua_pushnil(L); lua_next(L, methods); lua_pop(L, 1)) {
		if (is_allowed(cls, lua_tostring(L, -2))) {
			limit_fds(L, methods);
			continue;
		}
		lua_pushvalue(L, -2);
		lua_pushfstring(L, "%s:%s", cls, lua_tostring(L, -1));
		lua_pushcclosure(L, refused, 1);
		lua_settable(L, methods); /* a key that is there: the walk goes on */
	}
	if (!is_allowed(cls, "close")) {
		lua_pushnil(L);
		lua_setfield(L, mt, "__close");
	}
	lua_settop(L, mt - 2);
}

#define FDS_KEPT 64 /* for the host: reloads, logs, connections */

static void check_fds(lua_State *L, const char *what)
{
	if (mb_fds_left() < FDS_KEPT)
		mb_mistake(L, "close what is not used any more, or open it once, in start",
			   "%s: too many files are open (%d are kept for the host)", what,
			   FDS_KEPT);
}

/* Upvalues: the method, its name. */
static int with_fds(lua_State *L)
{
	check_fds(L, lua_tostring(L, lua_upvalueindex(2)));
	lua_pushvalue(L, lua_upvalueindex(1));
	lua_insert(L, 1);
	lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
	return lua_gettop(L);
}

/* These open files each time. */
static bool opens_files(const char *name)
{
	return strcmp(name, "attach") == 0 || strcmp(name, "writer") == 0 ||
	       strcmp(name, "records") == 0 || strcmp(name, "read") == 0 ||
	       strcmp(name, "lines") == 0;
}

static void limit_classes(lua_State *L)
{
	int classes;

	mb_class_list(L);
	classes = lua_gettop(L);
	for (lua_pushnil(L); lua_next(L, classes); lua_settop(L, classes + 1))
		limit_class(L, lua_tostring(L, classes + 1));
	lua_settop(L, classes - 1);
}

static void open_core(lua_State *L)
{
	lua_pushcfunction(L, luaopen_moonbee_core);
	lua_call(L, 0, 1);
	limit_classes(L);
}

/* ---- for guest.lua ---------------------------------------------------------------------------------------------- */

/* sleep(seconds): the host goes on with this task when the time is over */
static int lib_sleep(lua_State *L)
{
	struct guest *g = mb_guest_now;
	lua_Number seconds = luaL_checknumber(L, 1);

	luaL_argcheck(L, seconds >= 0 && seconds <= 1e9, 1, "seconds from 0 to 1e9");
	if (!g || !g->may_wait)
		return luaL_error(L, "ctx.sleep: this may not wait\nhint: handlers may: "
				     "ctx:after(0, function() … end)");
	if (L != g->task)
		return luaL_error(L, "ctx.sleep: only a handler itself can wait, not a coroutine "
				     "within it");
	if (!lua_isyieldable(L))
		return luaL_error(L, "ctx.sleep: a C function below (sort, gsub, a metamethod) "
				     "cannot wait");
	lua_settop(L, 1);
	lua_pushlightuserdata(L, (void *)(uintptr_t)&mb_guest_wait_key);
	lua_insert(L, 1);
	return lua_yield(L, 2);
}

/* host(name, …) -> at most two results: plain data both ways */
static int lib_host(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);

	return mb_guest_call_host(L, name, lua_gettop(L) - 1);
}

/* loading() -> may modules be required now? */
static int lib_loading(lua_State *L)
{
	lua_pushboolean(L, mb_guest_now && mb_guest_now->loading);
	return 1;
}

/* reading() -> may what runs now only read? Whichever coroutine it runs in. */
static int lib_reading(lua_State *L)
{
	lua_pushboolean(L, mb_guest_now && mb_guest_now->reading);
	return 1;
}

/* reader(map, type): as m:reader, which policies have no use for */
static int lib_reader(lua_State *L)
{
	check_fds(L, "ctx:on");
	return mb_reader_open(L);
}

/* turns(drain): each of its records has its own deadline */
static int lib_turns(lua_State *L)
{
	mb_drain_turns(L, 1);
	return 0;
}

static const luaL_Reg functions[] = {
	{ "sleep", lib_sleep },		  { "host", lib_host },	  { "loading", lib_loading },
	{ "reading", lib_reading },	  { "turns", lib_turns }, { "reader", lib_reader },
	{ "columns", mb_reader_columns }, { NULL, NULL },
};

/* A metatable that a policy could reach would get a finalizer of its: C sets metatables without asking.
 * All that are made by name are hidden. */
static void hide_metatables(lua_State *L)
{
	for (lua_pushnil(L); lua_next(L, LUA_REGISTRYINDEX); lua_pop(L, 1)) {
		if (lua_type(L, -2) != LUA_TSTRING || !lua_istable(L, -1))
			continue;
		lua_pushliteral(L, "__name");
		if (lua_rawget(L, -2) == LUA_TSTRING) {
			lua_pushboolean(L, false);
			lua_setfield(L, -3, "__metatable");
		}
		lua_pop(L, 1);
	}
}

void mb_guest_open(lua_State *L)
{
	open_libraries(L);
	open_core(L);
	luaL_newlib(L, functions);
	lua_insert(L, -2);
	lua_setfield(L, -2, "core");
	luaL_requiref(L, "debug", luaopen_debug, 0);
	lua_setfield(L, -2, "debug");
	lua_pushboolean(L, mb_guest_checked());
	lua_setfield(L, -2, "checked");
	lua_pushlightuserdata(L, (void *)(uintptr_t)&mb_plain_function_key);
	lua_setfield(L, -2, "FUNCTION");
	hide_metatables(L);
}
