/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bpf.txn: several fields of a variable changed as one.
 */
#include "bind.h"

/* txn(view, fn): fn changes a private copy; then all of it is stored under the sequence lock. What
 * fn raises leaves the variable as it was. */
static int lib_txn(lua_State *L)
{
	const struct mb_view *v = mb_view_arg(L, 1), *copy;
	MB_ERROR(err);

	luaL_checktype(L, 2, LUA_TFUNCTION);
	lua_settop(L, 2);
	if (v->region->parts)
		return mb_mistake(L, "change one: bpf.txn(obj.vars.cfg, fn)",
				  "%s together are not changed as one", v->plan->name);
	mb_view_push_copy(L, v);
	copy = mb_view_arg(L, 3);
	if (mb_txn_begin(v, copy->region->base, &err) != 0)
		return mb_raise(L, &err);
	lua_pushvalue(L, 2);
	lua_pushvalue(L, 3);
	lua_call(L, 1, 0);
	if (mb_txn_commit(v, copy->region->base, &err) != 0)
		return mb_raise(L, &err);
	return 0;
}

const luaL_Reg mb_txn_functions[] = { { "txn", lib_txn }, { NULL, NULL } };
