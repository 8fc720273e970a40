/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Test runs: prog:run.
 */
#include "bind.h"

#define MAX_OUT (1u << 20)

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
int mb_program_run_lua(lua_State *L)
{
	struct mb_program *prog = mb_class_check(L, 1, &mb_program_class);
	MB_ERROR(err);
	struct mb_run run = { 0 };

	run_options(L, prog, &run);
	if (mb_program_run(prog, &run, &err) != 0)
		return mb_raise(L, &err);
	push_run(L, &run);
	return 1;
}
