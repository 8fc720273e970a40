/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bpf.trace_pipe(): what bpf_printk writes, as lines. A source for loop.on, as readers are.
 */
#include <errno.h>

#include "bind.h"
#include "engine/trace.h"

/* trace_pipe() -> trace */
int mb_trace_lua(lua_State *L)
{
	struct mb_handle *ud = mb_class_new(L, &mb_trace_class, 0);
	struct mb_trace *trace;
	MB_ERROR(err);

	if (mb_trace_open(&trace, &err) != 0)
		return mb_raise(L, &err);
	ud->thing = trace;
	return 1;
}

static struct mb_trace *self(lua_State *L)
{
	return mb_class_check(L, 1, &mb_trace_class);
}

/* A step of the loop: the trace is upvalue 1, the lines that are left upvalue 2. */
static int next_line(lua_State *L)
{
	struct mb_handle *ud = mb_class_test(L, lua_upvalueindex(1), &mb_trace_class);
	lua_Integer left = lua_tointeger(L, lua_upvalueindex(2));
	const char *line;
	MB_ERROR(err);
	size_t len;
	int rc;

	if (!ud || !ud->thing || mb_trace_closed(ud->thing) || left == 0)
		return 0;
	rc = mb_trace_line(ud->thing, &line, &len, &err);
	if (rc < 0)
		return mb_raise(L, &err);
	if (!rc)
		return 0;
	lua_pushinteger(L, left - 1);
	lua_replace(L, lua_upvalueindex(2));
	lua_pushlstring(L, line, len);
	return 1;
}

/* for line in trace:drain([{ max = n }]) */
static int trace_drain(lua_State *L)
{
	struct {
		lua_Integer max;
	} o = { -1 };
	static const struct mb_option options[] = { { "max", LUA_TNUMBER, 0 }, { NULL, 0, 0 } };

	self(L);
	mb_options(L, 2, "drain", options, &o);
	lua_pushvalue(L, 1);
	lua_pushinteger(L, o.max);
	lua_pushcclosure(L, next_line, 2);
	return 1;
}

/* trace:wait([seconds]) -> true when a line is there, false when the time is over */
static int trace_wait(lua_State *L)
{
	struct mb_trace *trace = self(L);
	MB_ERROR(err);
	int rc = mb_trace_wait(trace, luaL_optnumber(L, 2, -1), mb_interrupt_fd(), &err);

	if (rc < 0 && rc != -EINTR)
		return mb_raise(L, &err);
	lua_pushboolean(L, rc > 0); /* interrupted: the hook raises as soon as Lua runs again */
	return 1;
}

/* ---- class -------------------------------------------------------------------------------------------- */

static int trace_get(lua_State *L, void *thing, const char *name)
{
	if (strcmp(name, "fd") == 0)
		lua_pushinteger(L, mb_trace_fd(thing));
	else if (strcmp(name, "name") == 0)
		lua_pushliteral(L, "trace_pipe");
	else
		return 0;
	return 1;
}

static bool trace_closed(const void *thing)
{
	return mb_trace_closed(thing);
}

static void trace_close(void *thing)
{
	mb_trace_close(thing);
}

static void trace_unref(void *thing)
{
	mb_trace_free(thing);
}

static const char *trace_title(const void *thing)
{
	(void)thing;
	return "trace_pipe";
}

static const luaL_Reg methods[] = {
	{ "drain", trace_drain },
	{ "wait", trace_wait },
	{ NULL, NULL },
};
static const char *const properties[] = { "fd", "name", "closed", NULL };

const struct mb_class mb_trace_class = {
	.name = "moonbee.trace",
	.methods = methods,
	.properties = properties,
	.get = trace_get,
	.closed = trace_closed,
	.close = trace_close,
	.unref = trace_unref,
	.title = trace_title,
};
