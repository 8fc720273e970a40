/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * obj.externs and kernel.externs: what an object wants from a kernel, and what becomes of it.
 */
#include "engine/extern.h"
#include "kernel.h"

static const char *const fates[] = {
	[MB_FATE_RESOLVED] = "resolved",
	[MB_FATE_MISSING] = "missing",
	[MB_FATE_CLASH] = "clash",
	[MB_FATE_UNKNOWN] = "unknown",
};

static void set_text(lua_State *L, const char *name, const char *text)
{
	if (!*text)
		return;
	lua_pushstring(L, text);
	lua_setfield(L, -2, name);
}

static void set_flag(lua_State *L, const char *name, bool flag)
{
	lua_pushboolean(L, flag);
	lua_setfield(L, -2, name);
}

static void set_value(lua_State *L, const struct mb_fate *f)
{
	if (f->value == MB_FATE_NO_VALUE)
		return;
	if (f->value == MB_FATE_TEXT)
		lua_pushstring(L, f->text);
	else if (f->value == MB_FATE_BOOL)
		lua_pushboolean(L, f->number != 0);
	else
		lua_pushinteger(L, (lua_Integer)f->number);
	lua_setfield(L, -2, "value");
}

/* differs = { { field, declared, kernel }, … }, where the types do */
static void set_differences(lua_State *L, const struct mb_object *obj, const struct mb_extern *e,
			    const struct mb_fate *f)
{
	struct mb_difference d;
	uint32_t cursor = 0;
	lua_Integer n = 0;

	while (mb_extern_difference(obj, e, f, &cursor, &d)) {
		if (!n)
			lua_newtable(L);
		lua_createtable(L, 0, 3);
		set_text(L, "field", d.field);
		set_text(L, "declared", d.declared);
		set_text(L, "kernel", d.kernel);
		lua_rawseti(L, -2, ++n);
	}
	if (n)
		lua_setfield(L, -2, "differs");
}

static void push_extern(lua_State *L, const struct mb_object *obj, const struct mb_extern *e,
			const struct mb_fate *f)
{
	lua_createtable(L, 0, 12);
	set_text(L, "name", e->name);
	set_text(L, "kind", e->kind);
	set_text(L, "type", e->type);
	set_flag(L, "typed", e->typed);
	set_flag(L, "weak", e->weak);
	set_text(L, "fate", fates[f->state]);
	set_flag(L, "predicted", f->predicted);
	set_text(L, "kernel_type", f->kernel_type);
	set_text(L, "module", f->module);
	set_text(L, "why", f->why);
	if (f->address) {
		lua_pushinteger(L, (lua_Integer)f->address);
		lua_setfield(L, -2, "address");
	}
	set_value(L, f);
	set_differences(L, obj, e, f);
}

static void push_all(lua_State *L, const struct mb_object *obj, const struct mb_target *to)
{
	struct mb_extern e;

	lua_newtable(L);
	for (size_t i = 0; mb_object_extern(obj, i, &e); i++) {
		struct mb_fate f;
		MB_ERROR(err);

		if (mb_extern_fate(obj, &e, to, &f, &err) != 0)
			mb_raise(L, &err);
		push_extern(L, obj, &e, &f);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
}

void mb_externs_push(lua_State *L, const struct mb_object *obj)
{
	struct mb_target to = { 0 };
	struct mb_extern e;
	struct mb_kernel *kernel;

	if (!mb_object_extern(obj, 0, &e)) {
		lua_newtable(L);
		return;
	}
	kernel = mb_kernel_of(L);
	to.types = mb_kernel_types(kernel);
	to.syms = mb_kernel_syms(kernel);
	mb_kernel_config(kernel, &to.config, NULL); /* without: its externs' fate is not known */
	push_all(L, obj, &to);
}

/* ---- of another kernel ------------------------------------------------------------------------------- */

static const char *const OTHER = "moonbee.kernel.other";

static int other_gc(lua_State *L)
{
	struct mb_kbtf **other = lua_touserdata(L, 1), *kb = *other;

	*other = NULL;
	mb_kbtf_free(kb);
	return 0;
}

static struct mb_kbtf *push_other(lua_State *L, const char *path)
{
	struct mb_kbtf **other = lua_newuserdatauv(L, sizeof(*other), 0);
	MB_ERROR(err);

	*other = NULL;
	if (luaL_newmetatable(L, OTHER)) {
		lua_pushcfunction(L, other_gc);
		lua_setfield(L, -2, "__gc");
	}
	lua_setmetatable(L, -2);
	if (mb_kbtf_open(path, other, &err) != 0)
		mb_raise(L, &err);
	return *other;
}

/* externs(object [, { btf = file }]) -> list      raises: what the file is not */
static int kernel_externs(lua_State *L)
{
	static const struct mb_option options[] = { { "btf", LUA_TSTRING, 0 }, { NULL, 0, 0 } };
	struct {
		const char *btf;
	} o = { NULL };
	struct mb_object *obj = mb_class_check(L, 1, &mb_object_class);
	struct mb_target to = { 0 };

	lua_settop(L, 2);
	mb_options(L, 2, "kernel.externs", options, &o);
	if (o.btf) {
		to.types = push_other(L, o.btf);
		push_all(L, obj, &to);
	} else {
		mb_externs_push(L, obj);
	}
	return 1;
}

const luaL_Reg mb_extern_functions[] = { { "externs", kernel_externs }, { NULL, NULL } };
