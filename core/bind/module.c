/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * luaopen_moonbee_core: the list of classes and functions, and nothing else.
 */
#include "bind.h"
#include "service.h"

static const luaL_Reg functions[] = {
	{ "open", mb_object_lua },	     { "pinned", mb_pinned_lua },
	{ "create_map", mb_map_create_lua }, { "error", mb_error_new },
	{ "stats", mb_stats_lua },	     { "trace_pipe", mb_trace_lua },
	{ "classes", mb_class_list },	     { NULL, NULL },
};

static const struct mb_class *const classes[] = {
	&mb_object_class, &mb_map_class,   &mb_program_class, &mb_link_class,  &mb_reader_class,
	&mb_writer_class, &mb_trace_class, &mb_type_class,    &mb_stats_class,
};

static void push_cpus(lua_State *L)
{
	uint64_t mask[64];
	int n = mb_cpus_possible(NULL);

	lua_createtable(L, 0, 2);
	lua_pushinteger(L, n);
	lua_setfield(L, -2, "possible");
	lua_newtable(L);
	if (mb_cpus_online(mask, 64, NULL) == 0)
		for (int cpu = 0, i = 1; cpu < 64 * 64; cpu++)
			if (mask[cpu / 64] >> cpu % 64 & 1) {
				lua_pushinteger(L, cpu);
				lua_rawseti(L, -2, i++);
			}
	lua_setfield(L, -2, "online");
}

/* cpus is read when it is first asked for: most scripts never do. */
static int lazy_index(lua_State *L)
{
	if (lua_type(L, 2) != LUA_TSTRING || strcmp(lua_tostring(L, 2), "cpus") != 0)
		return 0;
	push_cpus(L);
	lua_pushvalue(L, 2);
	lua_pushvalue(L, -2);
	lua_rawset(L, 1);
	return 1;
}

MB_API int luaopen_moonbee_core(lua_State *L)
{
	luaL_checkversion(L);
	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++)
		mb_class_open(L, classes[i]);
	mb_class_open(L, &mb_migration_class);
	mb_error_open(L);
	mb_types_open(L);
	mb_ref_open(L);
	mb_drain_open(L);
	mb_walk_open(L);
	mb_iter_classes(L);
	mb_entry_open(L);
	mb_reduce_open(L);
	luaL_newlib(L, functions);
	luaL_setfuncs(L, mb_pin_functions, 0);
	luaL_setfuncs(L, mb_id_functions, 0);
	luaL_setfuncs(L, mb_view_functions, 0);
	luaL_setfuncs(L, mb_ref_functions, 0);
	luaL_setfuncs(L, mb_system_functions, 0);
	luaL_setfuncs(L, mb_txn_functions, 0);
	luaL_setfuncs(L, mb_reduce_functions, 0);
	luaL_setfuncs(L, mb_variables_functions, 0);
	luaL_setfuncs(L, mb_layout_functions, 0);
	luaL_setfuncs(L, mb_feature_functions, 0);
	lua_newtable(L);
	luaL_setfuncs(L, mb_interrupt_functions, 0);
	lua_setfield(L, -2, "interrupt");
	mb_kernel_open(L);
	lua_newtable(L);
	luaL_setfuncs(L, mb_runtime_functions, 0);
	lua_setfield(L, -2, "runtime");
	mb_service_open(L);
	lua_pushliteral(L, MB_VERSION);
	lua_setfield(L, -2, "version");
	lua_pushstring(L, mb_libbpf_version());
	lua_setfield(L, -2, "libbpf_version");
	lua_createtable(L, 0, 1);
	lua_pushcfunction(L, lazy_index);
	lua_setfield(L, -2, "__index");
	lua_setmetatable(L, -2);
	return 1;
}
