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
		mb_mistake(L, NULL, "option '%s' of run is a string%s or a view, not a %s", name,
			   strcmp(name, "ctx") == 0 ? ", a table" : "", luaL_typename(L, i));
	else if (mb_view_bytes(v, &bytes, len, &err) != 0)
		mb_raise(L, &err);
	return bytes;
}

/* data and ctx may be of two types each, so that mb_options cannot read them. */
static void check_names(lua_State *L, int i)
{
	static const char *const names[] = { "data", "ctx", "times", "cpu", "live", NULL };

	for (lua_pushnil(L); lua_next(L, i); lua_pop(L, 1)) {
		const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;
		size_t n = 0;

		while (name && names[n] && strcmp(names[n], name) != 0)
			n++;
		if (!name || !names[n])
			mb_mistake(L, "data, ctx, times, cpu, live", "run has no option '%s'",
				   name ? name : luaL_typename(L, -2));
	}
}

static lua_Integer number_at(lua_State *L, int i, const char *name, lua_Integer least,
			     lua_Integer otherwise)
{
	lua_Integer n;
	int whole;

	if (push_option(L, i, name) == LUA_TNIL)
		return otherwise;
	n = lua_tointegerx(L, -1, &whole);
	if (lua_type(L, -1) != LUA_TNUMBER || !whole || n < least || n > INT32_MAX)
		mb_mistake(L, NULL, "option '%s' of run is a whole number from %d to 2147483647",
			   name, (int)least);
	return n;
}

/* ctx as a table: a value of the struct that the program's source names; of a list of numbers, for
 * programs whose ctx is just words (raw tracepoints), the bytes. Replaces what is at index i. */
static void ctx_from_table(lua_State *L, int i, struct mb_program *prog, size_t data_len)
{
	const struct mb_plan *plan;
	const struct mb_field *end;
	MB_ERROR(err);
	luaL_Buffer b;

	if (lua_rawlen(L, i) > 0) {
		lua_Integer n = (lua_Integer)lua_rawlen(L, i);

		luaL_buffinit(L, &b);
		for (lua_Integer k = 1; k <= n; k++) {
			uint64_t word;
			int whole;

			lua_rawgeti(L, i, k);
			word = (uint64_t)lua_tointegerx(L, -1, &whole);
			if (!whole)
				mb_mistake(L, NULL, "word %d of ctx is no integer", (int)k);
			lua_pop(L, 1);
			luaL_addlstring(&b, (const char *)&word, sizeof(word));
		}
		luaL_pushresult(&b);
	} else {
		if (mb_program_ctx(prog, &plan, &err) != 0)
			mb_raise(L, &err);
		mb_encode_view(L, i,
			       mb_view_push_new(L, plan, plan->size, MB_REGION_WRITABLE, "ctx"),
			       MB_ENCODE_INIT);
		/* of a packet: the kernel wants to be told its length once more */
		end = mb_plan_field(plan, "data_end");
		if (end && strcmp(plan->name, "struct xdp_md") == 0) {
			lua_pushinteger(L, (lua_Integer)data_len);
			mb_encode_field(L, -1, mb_view_test(L, -2), end, MB_ENCODE_ASSIGN);
			lua_pop(L, 1);
		}
	}
	lua_replace(L, i);
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
static void run_options(lua_State *L, struct mb_program *prog, struct mb_run *run)
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
	run->times = (uint32_t)number_at(L, 2, "times", 1, 0);
	run->cpu = (int)number_at(L, 2, "cpu", 0, -1);
	push_option(L, 2, "live");
	run->live = lua_toboolean(L, -1);
	bytes_at(L, 3, "data", &run->data_len);
	if (lua_istable(L, 4))
		ctx_from_table(L, 4, prog, run->data_len);
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

/* What went typed comes back typed. */
static void push_ctx(lua_State *L, const struct mb_run *run)
{
	const struct mb_view *in = lua_isuserdata(L, 4) ? mb_view_test(L, 4) : NULL;
	struct mb_view *out;

	if (!in || run->ctx_out_len < in->plan->size) {
		lua_pushlstring(L, run->ctx_out, run->ctx_out_len);
		return;
	}
	out = mb_view_push_new(L, in->plan, run->ctx_out_len, MB_REGION_WRITABLE, "ctx");
	memcpy(out->region->base, run->ctx_out, run->ctx_out_len);
}

static void push_run(lua_State *L, const struct mb_run *run)
{
	lua_createtable(L, 0, 4);
	lua_pushinteger(L, run->ret);
	lua_setfield(L, -2, "ret");
	lua_pushinteger(L, run->duration_ns);
	lua_setfield(L, -2, "duration_ns");
	if (run->data_out && !run->live) {
		lua_pushlstring(L, run->data_out, run->data_out_len);
		lua_setfield(L, -2, "data");
	}
	if (run->ctx_out && !run->live) {
		push_ctx(L, run);
		lua_setfield(L, -2, "ctx");
	}
}

/* prog:run([{ data =, ctx =, times =, cpu =, live = }]) -> { ret, data, ctx, duration_ns } */
static int program_run(lua_State *L)
{
	struct mb_program *prog = self(L);
	MB_ERROR(err);
	struct mb_run run = { 0 };

	run_options(L, prog, &run);
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
