/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the metatables of one plan share: a name is found by its address in a table of the plan's
 * interned names, without comparing strings.
 */
#include "lookup.h"

static int lookup_gc(lua_State *L)
{
	struct mb_lookup *l = lua_touserdata(L, 1);
	const struct mb_plan *plan = l->plan;

	l->plan = NULL;
	memset(l->slots, 0, (l->mask + 1) * sizeof(l->slots[0]));
	if (plan)
		mb_btf_unref(plan->btf);
	return 0;
}

void mb_lookup_new(lua_State *L, const struct mb_plan *plan, bool counted)
{
	uint32_t n = plan->kind == MB_KIND_ARRAY ? 0 : plan->nfields, size = 4;
	struct mb_lookup *l;

	while (size < 2 * n)
		size *= 2;
	l = lua_newuserdatauv(L, sizeof(*l) + size * sizeof(l->slots[0]), 2);
	memset(l, 0, sizeof(*l) + size * sizeof(l->slots[0]));
	l->mask = size - 1;
	lua_createtable(L, 0, 1);
	lua_pushcfunction(L, lookup_gc);
	lua_setfield(L, -2, "__gc");
	lua_setmetatable(L, -2);
	l->plan = plan;
	l->counted = counted;
	mb_btf_ref(plan->btf);
	lua_createtable(L, 0, (int)n);
	for (uint32_t i = 0; i < n; i++) {
		const struct mb_field *f = &plan->fields[i];
		const void *key;
		uint32_t at;

		lua_pushstring(L, f->name);
		key = lua_topointer(L, -1);
		at = mb_lookup_hash(key, l->mask);
		lua_pushlightuserdata(L, (void *)(uintptr_t)f);
		lua_rawset(L, -3);
		while (l->slots[at].key && l->slots[at].key != key)
			at = (at + 1) & l->mask;
		if (!l->slots[at].key)
			l->slots[at] = (struct mb_slot){ key, f };
	}
	lua_setiuservalue(L, -2, MB_LOOKUP_UV_NAMES);
}
