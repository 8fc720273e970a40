/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * prog:attach(options), map:attach(): where a program or a struct_ops map goes.
 */
#include <limits.h>

#include "bind.h"

struct options {
	struct mb_attach how;
	lua_Integer offset, cookie, frequency, period, priority, handle, pid, cpu, socket;
	const char *place;
	bool before, after;
};

#define TEXT(name)                                                                                 \
	{                                                                                          \
#name, LUA_TSTRING, offsetof(struct options, how.name)                             \
	}
static const struct mb_option names[] = {
	TEXT(ifname),
	TEXT(mode),
	TEXT(direction),
	TEXT(cgroup),
	TEXT(netns),
	TEXT(tracepoint),
	TEXT(function),
	TEXT(syscall),
	TEXT(binary),
	TEXT(usdt),
	TEXT(event),
	TEXT(family),
	TEXT(hook),
	{ "place", LUA_TSTRING, offsetof(struct options, place) },
	{ "before", MB_OPTION_ANY, 0 },
	{ "after", MB_OPTION_ANY, 0 },
	{ "map", MB_OPTION_ANY, 0 },
	{ "functions", MB_OPTION_ANY, 0 },
	{ "offset", LUA_TNUMBER, offsetof(struct options, offset) },
	{ "cookie", MB_OPTION_BITS, offsetof(struct options, cookie) },
	{ "frequency", LUA_TNUMBER, offsetof(struct options, frequency) },
	{ "period", LUA_TNUMBER, offsetof(struct options, period) },
	{ "priority", MB_OPTION_BITS, offsetof(struct options, priority) },
	{ "handle", LUA_TNUMBER, offsetof(struct options, handle) },
	{ "pid", LUA_TNUMBER, offsetof(struct options, pid) },
	{ "cpu", LUA_TNUMBER, offsetof(struct options, cpu) },
	{ "socket", LUA_TNUMBER, offsetof(struct options, socket) },
	{ "retprobe", LUA_TBOOLEAN, offsetof(struct options, how.retprobe) },
	{ "defrag", LUA_TBOOLEAN, offsetof(struct options, how.defrag) },
	{ NULL, 0, 0 },
};

/* Raw, so that no code of the caller's runs. */
static void push_option(lua_State *L, const char *name)
{
	lua_pushstring(L, name);
	lua_rawget(L, 2);
}

static bool has_option(lua_State *L, const char *name)
{
	bool there;

	if (!lua_istable(L, 2))
		return false;
	push_option(L, name);
	there = !lua_isnil(L, -1);
	lua_pop(L, 1);
	return there;
}

/* ---- options that are no plain values ------------------------------------------------------------------ */

/* before = other, after = other: a link or a program */
static void take_neighbour(lua_State *L, const struct options *o, struct mb_attach *how)
{
	const char *name = o->before ? "before" : "after";
	struct mb_handle *link, *prog;

	if (o->place || (o->before && o->after))
		mb_mistake(L, NULL, "place, before and after exclude each other");
	how->place = o->before ? MB_PLACE_BEFORE : MB_PLACE_AFTER;
	push_option(L, name);
	link = mb_class_test(L, -1, &mb_link_class);
	prog = mb_class_test(L, -1, &mb_program_class);
	if (!link && !prog)
		mb_mistake(L, NULL, "option '%s' of attach is a link or a program, not a %s", name,
			   luaL_typename(L, -1));
	how->near_link = link ? mb_class_check(L, -1, &mb_link_class) : NULL;
	how->near_prog = prog ? mb_class_check(L, -1, &mb_program_class) : NULL;
	if (link && mb_link_fd(how->near_link) < 0)
		mb_mistake(L, NULL, "option '%s' of attach is a link that the kernel knows", name);
}

static void take_place(lua_State *L, const struct options *o, struct mb_attach *how)
{
	if (o->before || o->after)
		take_neighbour(L, o, how);
	else if (o->place && strcmp(o->place, "first") == 0)
		how->place = MB_PLACE_FIRST;
	else if (o->place && strcmp(o->place, "last") == 0)
		how->place = MB_PLACE_LAST;
	else if (o->place)
		mb_mistake(L, NULL, "option 'place' of attach is first or last, not '%s'",
			   o->place);
}

/* functions = { "a", "b" }, or { a = 1, b = 2 }: with a cookie for each */
static void take_functions(lua_State *L, struct mb_attach *how)
{
	const char **list;
	uint64_t *cookies;
	size_t n = 0, room;
	int t;

	push_option(L, "functions");
	t = lua_gettop(L);
	if (!lua_istable(L, t))
		mb_mistake(L, NULL, "option 'functions' of attach is a table, not a %s",
			   luaL_typename(L, t));
	for (lua_pushnil(L); lua_next(L, t); lua_pop(L, 1))
		n++;
	if (!n)
		mb_mistake(L, NULL, "option 'functions' of attach is empty");
	list = lua_newuserdatauv(L, n * sizeof(*list), 0);
	cookies = lua_newuserdatauv(L, n * sizeof(*cookies), 0);
	room = n;
	n = 0;
	for (lua_pushnil(L); lua_next(L, t); lua_pop(L, 1)) {
		bool named = lua_type(L, -2) == LUA_TSTRING;
		int whole = 1;

		if (n == room) /* by a finalizer */
			mb_mistake(L, NULL, "option 'functions' of attach was changed meanwhile");
		cookies[n] = named ? (uint64_t)lua_tointegerx(L, -1, &whole) : 0;
		if (named ? !whole || lua_type(L, -1) != LUA_TNUMBER :
			    lua_type(L, -1) != LUA_TSTRING)
			mb_mistake(L, NULL,
				   "functions of attach are { \"name\", … } or "
				   "{ name = cookie, … }");
		if (n && named != (how->cookies != NULL))
			mb_mistake(L, NULL, "all functions of attach have a cookie, or none");
		list[n++] = lua_tostring(L, named ? -2 : -1);
		how->cookies = named ? cookies : NULL;
	}
	how->functions = list;
	how->nfunctions = n;
}

static void in_range(lua_State *L, const char *name, lua_Integer n, lua_Integer least,
		     lua_Integer most)
{
	if (n < least || n > most)
		mb_mistake(L, NULL, "option '%s' of attach is a whole number from %d to %d", name,
			   (int)least, (int)most);
}

static void take_numbers(lua_State *L, const struct options *o, struct mb_attach *how)
{
	if (o->pid >= 0)
		in_range(L, "pid", o->pid, 1, INT_MAX);
	if (o->cpu >= 0)
		in_range(L, "cpu", o->cpu, 0, 65535);
	if (o->socket >= 0)
		in_range(L, "socket", o->socket, 1, INT_MAX);
	in_range(L, "priority", o->priority, INT_MIN, INT_MAX);
	if (o->handle > UINT32_MAX)
		mb_mistake(L, NULL, "option 'handle' of attach is at most 4294967295");
	how->pid = o->pid > 0 ? (int)o->pid : 0;
	how->cpu = (int)o->cpu + 1;
	how->socket = o->socket > 0 ? (int)o->socket : 0;
	how->priority = o->priority;
	how->handle = (uint32_t)o->handle;
	how->offset = (uint64_t)o->offset;
	how->cookie = (uint64_t)o->cookie;
	how->frequency = (uint64_t)o->frequency;
	how->period = (uint64_t)o->period;
}

/* The table at index 2 as *how. What it points to lies on the stack, or in that table. */
static void read_options(lua_State *L, struct mb_attach *how)
{
	struct options o = { .pid = -1, .cpu = -1, .socket = -1 };
	const char *colon;

	mb_options(L, 2, "attach", names, &o);
	o.before = has_option(L, "before");
	o.after = has_option(L, "after");
	*how = o.how;
	take_numbers(L, &o, how);
	take_place(L, &o, how);
	if (has_option(L, "map")) {
		push_option(L, "map");
		if (!mb_class_test(L, -1, &mb_map_class))
			mb_mistake(L, NULL, "option 'map' of attach is a map, not a %s",
				   luaL_typename(L, -1));
		how->map = mb_class_check(L, -1, &mb_map_class);
	}
	if (has_option(L, "functions"))
		take_functions(L, how);
	colon = how->tracepoint ? strpbrk(how->tracepoint, ":/") : NULL;
	if (colon) { /* "sched:sched_switch" */
		how->category =
			lua_pushlstring(L, how->tracepoint, (size_t)(colon - how->tracepoint));
		how->tracepoint = colon + 1;
	}
}

/* prog:attach([options]) -> link      by its section's name, or as the options say */
int mb_program_attach_lua(lua_State *L)
{
	struct mb_program *prog = mb_class_check(L, 1, &mb_program_class);
	struct mb_attach how;
	struct mb_link *link;
	MB_ERROR(err);

	lua_settop(L, 2);
	read_options(L, &how);
	/* the handle is there first, so that a link never is without one */
	lua_pushnil(L);
	mb_link_push(L, NULL, 1);
	if (mb_program_attach(prog, &how, &link, &err) != 0)
		return mb_raise(L, &err);
	mb_link_anchor(L, -1, link);
	return 1;
}

/* map:attach() -> link       puts a struct_ops map in force */
int mb_map_attach_lua(lua_State *L)
{
	struct mb_map *ops = mb_class_check(L, 1, &mb_map_class);
	struct mb_link *link;
	MB_ERROR(err);

	lua_settop(L, 1);
	mb_link_push(L, NULL, 1);
	if (mb_ops_attach(ops, &link, &err) != 0)
		return mb_raise(L, &err);
	mb_link_anchor(L, -1, link);
	return 1;
}
