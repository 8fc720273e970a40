/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The module's functions over views: bpf.update, bpf.copy and the like. Views have no methods, since
 * every name belongs to the C struct.
 */
#include "bind.h"

/* update(view, { field = value }): checks all, then writes only what is named */
static int lib_update(lua_State *L)
{
	const struct mb_view *v = mb_view_arg(L, 1);

	luaL_checktype(L, 2, LUA_TTABLE);
	lua_settop(L, 2);
	mb_encode_view(L, 2, v, MB_ENCODE_UPDATE);
	return 0;
}

/* copy(view) -> a value of its own */
static int lib_copy(lua_State *L)
{
	mb_view_push_copy(L, mb_view_arg(L, 1));
	return 1;
}

/* bytes(view) -> string */
static int lib_bytes(lua_State *L)
{
	const struct mb_view *v = mb_view_arg(L, 1);
	MB_ERROR(err);
	const uint8_t *bytes;
	size_t len;

	if (mb_view_bytes(v, &bytes, &len, &err) != 0)
		return mb_raise(L, &err);
	lua_pushlstring(L, (const char *)bytes, len);
	return 1;
}

/* cast(T, bytes) -> a value of type T with those bytes */
static int lib_cast(lua_State *L)
{
	const struct mb_plan *plan = mb_type_test(L, 1);
	struct mb_view *view;
	size_t len;
	const char *bytes = luaL_checklstring(L, 2, &len);

	if (!plan)
		return luaL_typeerror(L, 1, "moonbee.type");
	view = mb_view_push_new(L, plan,
				len < plan->size && len >= mb_plan_least(plan) ? plan->size : len,
				MB_REGION_WRITABLE, plan->name);
	if (mb_plan_tail(plan))
		view->count = (uint32_t)len;
	memcpy(view->region->base, bytes, len);
	if (plan->enc != MB_ENC_NONE)
		mb_push_view(L, view, 0);
	return 1;
}

/* sizeof(view | T) -> bytes */
static int lib_sizeof(lua_State *L)
{
	const struct mb_plan *plan = mb_type_test(L, 1);

	if (!plan) {
		const struct mb_view *v = mb_view_arg(L, 1);

		plan = v->plan;
		if (v->region->parts)
			return mb_mistake(L, NULL, "%s lie in several sections and have no size",
					  plan->name);
		if (plan->flexible) {
			lua_pushinteger(L, (lua_Integer)v->count * plan->stride);
			return 1;
		}
	}
	lua_pushinteger(L, plan->size);
	return 1;
}

/* typeof(view) -> type */
static int lib_typeof(lua_State *L)
{
	mb_type_push(L, mb_view_arg(L, 1)->plan);
	return 1;
}

/* has(view, name) -> boolean */
static int lib_has(lua_State *L)
{
	const struct mb_view *v = mb_view_arg(L, 1);

	lua_pushboolean(L, v->plan->kind != MB_KIND_ARRAY &&
				   mb_plan_field(v->plan, luaL_checkstring(L, 2)) != NULL);
	return 1;
}

/* enum(view, name) -> the enumerator's name | nil */
static int lib_enum(lua_State *L)
{
	const struct mb_view *v = mb_view_arg(L, 1);
	const char *path = luaL_checkstring(L, 2), *name;
	const struct mb_field *f;
	MB_ERROR(err);
	struct mb_view at;

	if (mb_view_path(v, path, &at, &f, &err) != 0)
		return mb_raise(L, &err);
	if (f->plan->kind != MB_KIND_ENUM)
		return mb_mistake(L, NULL, "'%s' is %s, no enum", path, f->plan->name);
	mb_push_field(L, &at, f, 0);
	name = mb_plan_enum_name(f->plan, lua_tointeger(L, -1));
	if (name)
		lua_pushstring(L, name);
	else
		lua_pushnil(L);
	return 1;
}

const luaL_Reg mb_view_functions[] = {
	{ "update", lib_update }, { "copy", lib_copy },
	{ "bytes", lib_bytes },	  { "key", lib_bytes },
	{ "cast", lib_cast },	  { "sizeof", lib_sizeof },
	{ "typeof", lib_typeof }, { "has", lib_has },
	{ "enum", lib_enum },	  { "set_format", mb_view_set_format },
	{ NULL, NULL },
};
