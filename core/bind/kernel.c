/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * moonbee.kernel's native side: holds the engine's kernel for this state, and the kernel's types. Its
 * symbols, configuration and memory are in files of their own.
 */
#include "kernel.h"

static const char *const HOLDER = "moonbee.kernel";
static const char holder_key; /* registry: the holder */

static int holder_gc(lua_State *L)
{
	struct mb_kernel **holder = lua_touserdata(L, 1);
	struct mb_kernel *kernel = *holder;

	*holder = NULL;
	mb_kernel_unref(kernel);
	return 0;
}

struct mb_kernel *mb_kernel_of(lua_State *L)
{
	struct mb_kernel **holder;
	MB_ERROR(err);

	if (lua_rawgetp(L, LUA_REGISTRYINDEX, &holder_key) == LUA_TUSERDATA) {
		holder = lua_touserdata(L, -1);
		lua_pop(L, 1);
		if (!*holder)
			luaL_error(L, "the Lua state is closing");
		return *holder;
	}
	lua_pop(L, 1);
	holder = lua_newuserdatauv(L, sizeof(struct mb_kernel *), 0);
	*holder = NULL;
	if (luaL_newmetatable(L, HOLDER)) {
		lua_pushcfunction(L, holder_gc);
		lua_setfield(L, -2, "__gc");
		lua_pushstring(L, HOLDER);
		lua_setfield(L, -2, "__metatable");
	}
	lua_setmetatable(L, -2);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &holder_key);
	lua_rawgetp(L, LUA_REGISTRYINDEX, &holder_key);
	holder = lua_touserdata(L, -1);
	lua_pop(L, 1);
	if (!*holder && mb_kernel_get(holder, &err) != 0)
		mb_raise(L, &err);
	return *holder;
}

const struct mb_plan *mb_kernel_type_arg(lua_State *L, int i)
{
	const struct mb_plan *plan = mb_type_test(L, i);
	MB_ERROR(err);

	if (plan)
		return plan;
	if (lua_type(L, i) != LUA_TSTRING)
		luaL_argerror(L, i,
			      lua_pushfstring(L, "a type is expected, or its name, not a %s",
					      luaL_typename(L, i)));
	if (mb_kbtf_type(mb_kernel_types(mb_kernel_of(L)), lua_tostring(L, i), &plan, &err) != 0)
		mb_raise(L, &err);
	return plan;
}

/* type(name) -> type of the kernel's BTF      raises: ENOENT with a near name */
static int kernel_type(lua_State *L)
{
	luaL_checkstring(L, 1);
	mb_type_push(L, mb_kernel_type_arg(L, 1));
	return 1;
}

/* types() -> vmlinux's types, for pairs */
static int kernel_types(lua_State *L)
{
	struct mb_btf *btf;
	MB_ERROR(err);

	if (mb_kbtf_vmlinux(mb_kernel_types(mb_kernel_of(L)), &btf, &err) != 0)
		return mb_raise(L, &err);
	mb_types_push(L, btf);
	return 1;
}

static const luaL_Reg functions[] = { { "type", kernel_type },
				      { "types", kernel_types },
				      { NULL, NULL } };

void mb_kernel_open(lua_State *L)
{
	luaL_setfuncs(L, mb_refresh_functions, 0);
	luaL_newlib(L, functions);
	luaL_setfuncs(L, mb_kmem_functions, 0);
	luaL_setfuncs(L, mb_kwalk_functions, 0);
	luaL_setfuncs(L, mb_ksym_functions, 0);
	luaL_setfuncs(L, mb_kconfig_functions, 0);
	luaL_setfuncs(L, mb_extern_functions, 0);
	lua_setfield(L, -2, "kernel");
}
