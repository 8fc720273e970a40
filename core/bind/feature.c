/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What this kernel can do, and what this process may: plain tables for feature.lua and doctor.lua.
 */
#include "bind.h"
#include "engine/feature.h"
#include "engine/privilege.h"

static void set_text(lua_State *L, const char *name, const char *value)
{
	if (!*value)
		return;
	lua_pushstring(L, value);
	lua_setfield(L, -2, name);
}

struct found {
	struct mb_feature *list;
	size_t n;
};

/* Protected: the list is the engine's. */
static int push_features(lua_State *L)
{
	static const char *const words[] = { "unknown", "no", "yes" };
	const struct found *found = lua_touserdata(L, 1);

	lua_createtable(L, (int)found->n, 0);
	for (size_t i = 0; i < found->n; i++) {
		const struct mb_feature *f = &found->list[i];

		lua_createtable(L, 0, 5);
		set_text(L, "group", f->group);
		set_text(L, "name", f->name);
		set_text(L, "state", words[f->state]);
		set_text(L, "from", f->from);
		set_text(L, "why", f->why);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	return 1;
}

/* features(probe) -> { { group =, name =, state =, from =, why = }, … } */
static int lib_features(lua_State *L)
{
	struct found found;
	MB_ERROR(err);
	int rc;

	if (mb_features_read(lua_toboolean(L, 1), &found.list, &found.n, &err) != 0)
		return mb_raise(L, &err);
	lua_pushcfunction(L, push_features);
	lua_pushlightuserdata(L, &found);
	rc = lua_pcall(L, 1, 1, 0);
	mb_features_free(found.list);
	return rc == LUA_OK ? 1 : lua_error(L);
}

static void set_number(lua_State *L, const char *name, int value)
{
	if (value == MB_UNKNOWN)
		return;
	lua_pushinteger(L, value);
	lua_setfield(L, -2, name);
}

/* privileges() -> { uid =, caps = { CAP_BPF = true, … }, lockdown =, … }; what cannot be read is nil */
static int lib_privileges(lua_State *L)
{
	static const enum mb_cap caps[] = { MB_CAP_NET_ADMIN,	 MB_CAP_IPC_LOCK, MB_CAP_SYS_ADMIN,
					    MB_CAP_SYS_RESOURCE, MB_CAP_SYSLOG,	  MB_CAP_PERFMON,
					    MB_CAP_BPF };
	struct mb_privileges p;

	mb_privileges_read(&p);
	lua_createtable(L, 0, 12);
	lua_pushinteger(L, p.uid);
	lua_setfield(L, -2, "uid");
	lua_createtable(L, 0, 7);
	for (size_t i = 0; i < sizeof(caps) / sizeof(caps[0]); i++) {
		lua_pushboolean(L, p.caps >> caps[i] & 1);
		lua_setfield(L, -2, mb_cap_name(caps[i]));
	}
	lua_setfield(L, -2, "caps");
	set_number(L, "seccomp", p.seccomp);
	set_number(L, "no_new_privs", p.no_new_privs);
	set_number(L, "unprivileged_bpf_disabled", p.unprivileged_bpf_disabled);
	set_number(L, "perf_event_paranoid", p.perf_event_paranoid);
	set_number(L, "kptr_restrict", p.kptr_restrict);
	set_number(L, "bpf_stats_enabled", p.bpf_stats_enabled);
	set_number(L, "jit_enable", p.jit_enable);
	set_number(L, "jit_harden", p.jit_harden);
	set_text(L, "lockdown", p.lockdown);
	set_text(L, "lsm", p.lsm);
	return 1;
}

const luaL_Reg mb_feature_functions[] = {
	{ "features", lib_features },
	{ "privileges", lib_privileges },
	{ NULL, NULL },
};
