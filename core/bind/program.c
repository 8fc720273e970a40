/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Programs: autoload, attach, test runs.
 */
#include <limits.h>

#include "bind.h"

#define MAX_OUT (1u << 20)

void mb_program_push(lua_State *L, struct mb_program *prog, int owner)
{
	mb_class_push(L, &mb_program_class, prog, owner);
}

static struct mb_program *self(lua_State *L)
{
	return mb_class_check(L, 1, &mb_program_class);
}

/* ---- attach ---------------------------------------------------------------------------------------- */

struct attach_options {
	const char *ifname, *mode, *cgroup, *tracepoint, *function, *binary;
	lua_Integer pid, offset, cookie;
	bool retprobe;
};

static const struct mb_option attach_options[] = {
	{ "ifname", LUA_TSTRING, offsetof(struct attach_options, ifname) },
	{ "mode", LUA_TSTRING, offsetof(struct attach_options, mode) },
	{ "cgroup", LUA_TSTRING, offsetof(struct attach_options, cgroup) },
	{ "tracepoint", LUA_TSTRING, offsetof(struct attach_options, tracepoint) },
	{ "function", LUA_TSTRING, offsetof(struct attach_options, function) },
	{ "binary", LUA_TSTRING, offsetof(struct attach_options, binary) },
	{ "pid", LUA_TNUMBER, offsetof(struct attach_options, pid) },
	{ "offset", LUA_TNUMBER, offsetof(struct attach_options, offset) },
	{ "cookie", MB_OPTION_BITS, offsetof(struct attach_options, cookie) },
	{ "retprobe", LUA_TBOOLEAN, offsetof(struct attach_options, retprobe) },
	{ NULL, 0, 0 },
};

/* prog:attach([options]) -> link      by its section's name, or as the options say */
int mb_program_attach_lua(lua_State *L)
{
	struct mb_program *prog = self(L);
	struct attach_options o = { .pid = -1 };
	struct mb_attach how = { 0 };
	MB_ERROR(err);
	struct mb_link *link;
	const char *colon;

	lua_settop(L, 2);
	mb_options(L, 2, "attach", attach_options, &o);
	if (o.pid == 0 || o.pid > INT_MAX)
		return mb_mistake(L, NULL,
				  "option 'pid' of attach is a whole number from 1 to 2147483647");
	how = (struct mb_attach){ .ifname = o.ifname,
				  .mode = o.mode,
				  .cgroup = o.cgroup,
				  .tracepoint = o.tracepoint,
				  .function = o.function,
				  .binary = o.binary,
				  .pid = o.pid > 0 ? (int)o.pid : 0,
				  .offset = (uint64_t)o.offset,
				  .cookie = (uint64_t)o.cookie,
				  .retprobe = o.retprobe };
	colon = o.tracepoint ? strpbrk(o.tracepoint, ":/") : NULL;
	if (colon) { /* "sched:sched_switch" */
		how.category = lua_pushlstring(L, o.tracepoint, (size_t)(colon - o.tracepoint));
		how.tracepoint = colon + 1;
	}
	/* the handle is there first, so that a link never is without one */
	lua_pushnil(L);
	mb_link_push(L, NULL, 1);
	if (mb_program_attach(prog, &how, &link, &err) != 0)
		return mb_raise(L, &err);
	mb_link_anchor(L, -1, link);
	return 1;
}

/* ---- test runs ---------------------------------------------------------------------------------------- */

/* Push an option; raw, so that no code of the caller's runs. */
static int push_option(lua_State *L, int i, const char *name)
{
	lua_pushstring(L, name);
	return lua_rawget(L, i);
}

/* The bytes of the string or the view at index i; nil: none. They stay only until Lua makes anything:
 * a finalizer may close what a view looks at. */
static const void *bytes_at(lua_State *L, int i, const char *name, size_t *len)
{
	MB_ERROR(err);
	const struct mb_view *v;
	const uint8_t *bytes = NULL;

	*len = 0;
	if (lua_isnil(L, i))
		return NULL;
	if (lua_type(L, i) == LUA_TSTRING)
		return lua_tolstring(L, i, len);
	v = mb_view_test(L, i);
	if (!v)
		mb_mistake(L, NULL, "option '%s' of run is a string or a view, not a %s", name,
			   luaL_typename(L, i));
	else if (mb_view_bytes(v, &bytes, len, &err) != 0)
		mb_raise(L, &err);
	return bytes;
}

/* data and ctx may be of two types each, so that mb_options cannot read them. */
static void check_names(lua_State *L, int i)
{
	static const char *const names[] = { "data", "ctx", "times", NULL };

	for (lua_pushnil(L); lua_next(L, i); lua_pop(L, 1)) {
		const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
		size_t n = 0;

		while (name && names[n] && strcmp(names[n], name) != 0)
			n++;
		if (!name || !names[n])
			mb_mistake(L, "data, ctx, times", "run has no option '%s'",
				   name ? name : luaL_typename(L, -2));
	}
}

static uint32_t times_at(lua_State *L, int i)
{
	lua_Integer n;
	int whole;

	if (push_option(L, i, "times") == LUA_TNIL)
		return 0;
	n = lua_tointegerx(L, -1, &whole);
	if (lua_type(L, -1) != LUA_TNUMBER || !whole || n < 1 || n > INT32_MAX)
		mb_mistake(L, NULL, "option 'times' of run is a whole number from 1 to 2147483647");
	return (uint32_t)n;
}

/* Skbs and frames can grow by what a program adds; the rest comes back as it went. */
static void *room(lua_State *L, size_t in, size_t *out)
{
	*out = in ? in + 4096 : 0;
	if (*out > MAX_OUT)
		*out = MAX_OUT;
	return *out ? lua_newuserdatauv(L, *out, 0) : NULL;
}

/* What the options at index 2 say; data and ctx stay at indices 3 and 4, their bytes are taken last:
 * making room for what comes back may run finalizers. */
static void run_options(lua_State *L, struct mb_run *run)
{
	lua_settop(L, 2);
	if (lua_isnil(L, 2)) {
		lua_newtable(L);
		lua_replace(L, 2);
	}
	luaL_checktype(L, 2, LUA_TTABLE);
	check_names(L, 2);
	push_option(L, 2, "data");
	push_option(L, 2, "ctx");
	run->times = times_at(L, 2);
	bytes_at(L, 3, "data", &run->data_len);
	bytes_at(L, 4, "ctx", &run->ctx_len);
	run->data_out = room(L, run->data_len, &run->data_out_len);
	if (!lua_isnil(L, 4)) {
		run->ctx_out_len = run->ctx_len;
		run->ctx_out = lua_newuserdatauv(L, run->ctx_len, 0);
	}
	/* as long as before: a view whose memory changed its length has ended */
	run->data = bytes_at(L, 3, "data", &run->data_len);
	run->ctx = bytes_at(L, 4, "ctx", &run->ctx_len);
}

static void push_run(lua_State *L, const struct mb_run *run)
{
	lua_createtable(L, 0, 4);
	lua_pushinteger(L, run->ret);
	lua_setfield(L, -2, "ret");
	lua_pushinteger(L, run->duration_ns);
	lua_setfield(L, -2, "duration_ns");
	if (run->data_out) {
		lua_pushlstring(L, run->data_out, run->data_out_len);
		lua_setfield(L, -2, "data");
	}
	if (run->ctx_out) {
		lua_pushlstring(L, run->ctx_out, run->ctx_out_len);
		lua_setfield(L, -2, "ctx");
	}
}

/* prog:run([{ data =, ctx =, times = }]) -> { ret, data, ctx, duration_ns } */
static int program_run(lua_State *L)
{
	struct mb_program *prog = self(L);
	MB_ERROR(err);
	struct mb_run run = { 0 };

	run_options(L, &run);
	if (mb_program_run(prog, &run, &err) != 0)
		return mb_raise(L, &err);
	push_run(L, &run);
	return 1;
}

/* prog:pin(path) */
static int program_pin(lua_State *L)
{
	MB_ERROR(err);

	if (mb_program_pin(self(L), luaL_checkstring(L, 2), &err) != 0)
		return mb_raise(L, &err);
	return 0;
}

/* ---- class -------------------------------------------------------------------------------------------- */

static int program_get(lua_State *L, void *thing, const char *name)
{
	struct mb_program_info info;
	MB_ERROR(err);

	if (mb_program_info(thing, &info, &err) != 0)
		return mb_raise(L, &err);
	if (strcmp(name, "name") == 0)
		lua_pushstring(L, info.name);
	else if (strcmp(name, "section") == 0)
		lua_pushstring(L, info.section);
	else if (strcmp(name, "type") == 0)
		lua_pushstring(L, info.type);
	else if (strcmp(name, "id") == 0)
		info.id ? lua_pushinteger(L, info.id) : lua_pushnil(L);
	else if (strcmp(name, "fd") == 0)
		info.fd >= 0 ? lua_pushinteger(L, info.fd) : lua_pushnil(L);
	else if (strcmp(name, "autoload") == 0)
		lua_pushboolean(L, info.autoload);
	else if (strcmp(name, "loaded") == 0)
		lua_pushboolean(L, info.loaded);
	else if (strcmp(name, "attaches") == 0)
		lua_pushboolean(L, mb_program_attaches(thing));
	else
		return 0;
	return 1;
}

static int program_set(lua_State *L, void *thing, const char *name)
{
	MB_ERROR(err);

	if (strcmp(name, "autoload") != 0)
		return 0;
	if (!lua_isboolean(L, 3))
		return mb_mistake(L, NULL, "autoload is true or false, not a %s",
				  luaL_typename(L, 3));
	if (mb_program_autoload(thing, lua_toboolean(L, 3), &err) != 0)
		return mb_raise(L, &err);
	return 1;
}

static bool program_closed(const void *thing)
{
	return mb_program_closed(thing);
}

static void program_close(void *thing)
{
	mb_program_close(thing);
}

static void program_unref(void *thing)
{
	mb_program_unref(thing);
}

static const char *program_title(const void *thing)
{
	return mb_program_name(thing);
}

static const luaL_Reg methods[] = {
	{ "attach", mb_program_attach_lua },
	{ "run", program_run },
	{ "pin", program_pin },
	{ NULL, NULL },
};
static const char *const properties[] = { "name",     "section", "type",     "id",     "fd",
					  "autoload", "loaded",	 "attaches", "closed", NULL };

const struct mb_class mb_program_class = {
	.name = "moonbee.program",
	.methods = methods,
	.properties = properties,
	.get = program_get,
	.set = program_set,
	.closed = program_closed,
	.close = program_close,
	.unref = program_unref,
	.title = program_title,
};
