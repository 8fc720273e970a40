/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Programs: autoload, what they are. Test runs are run.c's, where they go is attach.c's.
 */
#include "bind.h"

void mb_program_push(lua_State *L, struct mb_program *prog, int owner)
{
	mb_class_push(L, &mb_program_class, prog, owner);
}

static struct mb_program *self(lua_State *L)
{
	return mb_class_check(L, 1, &mb_program_class);
}

/* prog:pin(path [, { replace = true }]) */
static int program_pin(lua_State *L)
{
	struct mb_program *prog = self(L);
	const char *path = luaL_checkstring(L, 2);
	MB_ERROR(err);

	if (mb_program_pin(prog, path, mb_pin_over(L, 3), &err) != 0)
		return mb_raise(L, &err);
	return 0;
}

/* ---- what the kernel says --------------------------------------------------------------------------- */

static void set_integer(lua_State *L, const char *name, uint64_t value)
{
	lua_pushinteger(L, (lua_Integer)value);
	lua_setfield(L, -2, name);
}

static void push_stats(lua_State *L, struct mb_program *prog)
{
	struct mb_program_stats stats;
	MB_ERROR(err);

	if (mb_program_stats(prog, &stats, &err) != 0)
		mb_raise(L, &err);
	lua_createtable(L, 0, 3);
	set_integer(L, "run_count", stats.run_count);
	set_integer(L, "run_time_ns", stats.run_time_ns);
	set_integer(L, "recursion_misses", stats.recursion_misses);
}

static void push_facts(lua_State *L, struct mb_program *prog)
{
	struct mb_program_facts facts;
	MB_ERROR(err);

	if (mb_program_facts(prog, &facts, &err) != 0)
		mb_raise(L, &err);
	lua_createtable(L, 0, 10);
	lua_pushstring(L, facts.tag);
	lua_setfield(L, -2, "tag");
	set_integer(L, "uid", facts.uid);
	set_integer(L, "loaded_ns", facts.loaded_ns);
	set_integer(L, "insns", facts.insns);
	if (facts.verified_insns)
		set_integer(L, "verified_insns", facts.verified_insns);
	set_integer(L, "jited", facts.jited);
	set_integer(L, "memory", facts.memory);
	if (facts.btf_id)
		set_integer(L, "btf_id", facts.btf_id);
	lua_pushboolean(L, facts.gpl);
	lua_setfield(L, -2, "gpl");
	lua_createtable(L, (int)facts.nmaps, 0);
	for (uint32_t i = 0; i < facts.nmaps; i++) {
		lua_pushinteger(L, facts.maps[i]);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	lua_setfield(L, -2, "maps");
}

struct lines {
	struct mb_line *list;
	size_t n;
	struct mb_btf *btf;
};

/* Protected: what it pushes may not fit into memory, and the lines are the engine's. */
static int push_lines(lua_State *L)
{
	const struct lines *lines = lua_touserdata(L, 1);

	lua_createtable(L, (int)lines->n, 0);
	for (size_t i = 0; i < lines->n; i++) {
		const struct mb_line *l = &lines->list[i];

		lua_createtable(L, 0, 5);
		set_integer(L, "insn", l->insn);
		set_integer(L, "line", l->line);
		set_integer(L, "column", l->column);
		lua_pushstring(L, l->file);
		lua_setfield(L, -2, "file");
		lua_pushstring(L, l->text);
		lua_setfield(L, -2, "text");
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}

/* prog:lines() -> { { insn =, file =, line =, column =, text = }, … } */
static int program_lines(lua_State *L)
{
	struct lines lines;
	MB_ERROR(err);
	int rc;

	if (mb_program_lines(self(L), &lines.list, &lines.n, &lines.btf, &err) != 0)
		return mb_raise(L, &err);
	lua_pushcfunction(L, push_lines);
	lua_pushlightuserdata(L, &lines);
	rc = lua_pcall(L, 1, 1, 0);
	mb_lines_free(lines.list);
	mb_btf_unref(lines.btf);
	return rc == LUA_OK ? 1 : lua_error(L);
}

/* prog:stream("stdout" | "stderr") -> text that is there, "" when none */
static int program_stream(lua_State *L)
{
	static const char *const names[] = { "stdout", "stderr", NULL };
	struct mb_program *prog = self(L);
	uint32_t which = (uint32_t)luaL_checkoption(L, 2, "stdout", names) + 1;
	MB_ERROR(err);
	luaL_Buffer b;
	int n;

	luaL_buffinit(L, &b);
	do {
		n = mb_program_stream(prog, which, luaL_prepbuffsize(&b, 4096), 4096, &err);
		if (n < 0)
			return mb_raise(L, &err);
		luaL_addsize(&b, (size_t)n);
	} while (n > 0);
	luaL_pushresult(&b);
	return 1;
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
	else if (strcmp(name, "stats") == 0)
		push_stats(L, thing);
	else if (strcmp(name, "info") == 0)
		push_facts(L, thing);
	else if (strcmp(name, "log") == 0)
		lua_pushstring(L, mb_program_log(thing));
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
	{ "attach", mb_program_attach_lua }, { "run", mb_program_run_lua }, { "pin", program_pin },
	{ "lines", program_lines },	     { "stream", program_stream },  { NULL, NULL },
};
static const char *const properties[] = { "name",     "section", "type",     "id",    "fd",
					  "autoload", "loaded",	 "attaches", "stats", "info",
					  "log",      "closed",	 NULL };

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
