/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Plain data from one state to another, without text between: booleans, numbers, strings and tables
 * without cycles. A table or a long string that is reached twice stays one, so that the copy takes no
 * more memory than what it is of.
 */
#include "bind/guest.h"

#define MAX_DEPTH 100
#define LONG 64 /* bytes of a string that is remembered; short ones Lua keeps once itself */

const char mb_plain_function_key;

struct copy {
	lua_State *to, *from;
	int seen; /* in to: address of a table or a long string -> its copy, or true while it is made */
	enum mb_plain how;
	const char *what;
};

static void push(struct copy *c, int i, int depth);

/* Reading a table of another state allocates nothing there but room on its stack. */
static void push_table(struct copy *c, int i, int depth)
{
	lua_State *from = c->from, *to = c->to;
	const void *self = lua_topointer(from, i);

	if (lua_rawgetp(to, c->seen, self) == LUA_TTABLE)
		return;
	if (lua_toboolean(to, -1))
		luaL_error(to, "%s holds a table that is within itself: plain data has no cycles",
			   c->what);
	lua_pop(to, 1);
	if (lua_getmetatable(from, i)) {
		lua_pop(from, 1);
		luaL_error(to, "%s holds a table with a metatable, which is no plain data",
			   c->what);
	}
	if (depth >= MAX_DEPTH)
		luaL_error(to, "%s is nested deeper than %d tables", c->what, MAX_DEPTH);
	if (!lua_checkstack(from, 4))
		luaL_error(to, "not enough memory");
	luaL_checkstack(to, 8, "too deep");
	lua_pushboolean(to, true);
	lua_rawsetp(to, c->seen, self);
	lua_newtable(to);
	lua_pushnil(from);
	while (lua_next(from, i)) {
		if (mb_stop_asked())
			luaL_error(to, "%s: no time is left to copy it", c->what);
		push(c, lua_gettop(from) - 1, depth + 1);
		push(c, lua_gettop(from), depth + 1);
		lua_rawset(to, -3);
		lua_pop(from, 1);
	}
	lua_pushvalue(to, -1);
	lua_rawsetp(to, c->seen, self);
}

static bool push_handle(struct copy *c, int i)
{
	lua_State *to = c->to;
	struct mb_handle *h = mb_class_test(c->from, i, &mb_object_class);

	if (h && h->thing)
		return mb_object_push(to, h->thing), true;
	h = mb_class_test(c->from, i, &mb_map_class);
	if (h && h->thing)
		return mb_map_push(to, mb_map_ref(h->thing), 0), true;
	h = mb_class_test(c->from, i, &mb_program_class);
	if (h && h->thing)
		return mb_program_push(to, mb_program_ref(h->thing), 0), true;
	h = mb_class_test(c->from, i, &mb_link_class);
	if (h && h->thing)
		return mb_link_push(to, mb_link_ref(h->thing), 0), true;
	return false;
}

static void push_string(struct copy *c, int i)
{
	lua_State *to = c->to;
	size_t len;
	const char *text = lua_tolstring(c->from, i, &len);

	if (len <= LONG || !c->seen) {
		lua_pushlstring(to, text, len);
		return;
	}
	luaL_checkstack(to, 4, "too deep");
	if (lua_rawgetp(to, c->seen, text) == LUA_TSTRING)
		return;
	lua_pop(to, 1);
	lua_pushlstring(to, text, len);
	lua_pushvalue(to, -1);
	lua_rawsetp(to, c->seen, text);
}

static void refuse(struct copy *c, int i)
{
	bool view = mb_view_test(c->from, i) != NULL;

	luaL_error(c->to, "%s holds a %s, which is no plain data%s", c->what,
		   view ? "view" : luaL_typename(c->from, i),
		   view ? "\nhint: bpf.totable(v) makes a table of it, bpf.bytes(v) a string" : "");
}

static void push(struct copy *c, int i, int depth)
{
	lua_State *from = c->from, *to = c->to;

	switch (lua_type(from, i)) {
	case LUA_TNIL:
	case LUA_TNONE:
		lua_pushnil(to);
		return;
	case LUA_TBOOLEAN:
		lua_pushboolean(to, lua_toboolean(from, i));
		return;
	case LUA_TNUMBER:
		if (lua_isinteger(from, i))
			lua_pushinteger(to, lua_tointeger(from, i));
		else
			lua_pushnumber(to, lua_tonumber(from, i));
		return;
	case LUA_TSTRING:
		push_string(c, i);
		return;
	case LUA_TTABLE:
		push_table(c, i, depth);
		return;
	case LUA_TFUNCTION:
		if (!(c->how & MB_PLAIN_FUNCTIONS))
			refuse(c, i);
		lua_pushlightuserdata(to, (void *)(uintptr_t)&mb_plain_function_key);
		return;
	default:
		if (!(c->how & MB_PLAIN_HANDLES) || !push_handle(c, i))
			refuse(c, i);
	}
}

void mb_plain_push(lua_State *to, lua_State *from, int i, enum mb_plain how, const char *what)
{
	struct copy c = { to, from, 0, how, what };

	luaL_checkstack(to, 8, "too deep");
	i = lua_absindex(from, i);
	if (lua_istable(from, i)) {
		lua_newtable(to);
		c.seen = lua_gettop(to);
	}
	push(&c, i, 0);
	if (c.seen)
		lua_remove(to, c.seen);
}
