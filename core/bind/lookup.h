/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lookup.c: a plan's fields by the addresses of their names.
 */
#ifndef MB_LOOKUP_H
#define MB_LOOKUP_H

#include "bind.h"

/* A name's place: Lua keeps one copy of each short string, so the address is the name. */
struct mb_slot {
	const void *key; /* lua_topointer of the string */
	const struct mb_field *field;
};

/* What a plan's metatables share. Holds the btf; after the state's end began, plan is NULL. */
struct mb_lookup {
	const struct mb_plan *plan;
	bool counted; /* its views hold a reference on their region */
	uint32_t mask;
	struct mb_slot slots[];
};

enum {
	MB_LOOKUP_UV_NAMES = 1, /* name -> light userdata field: keeps the names, finds long ones */
	MB_LOOKUP_UV_METATABLE, /* of values */
};

/* Push the lookup of a plan. */
void mb_lookup_new(lua_State *L, const struct mb_plan *plan, bool counted);

static inline uint32_t mb_lookup_hash(const void *key, uint32_t mask)
{
	return (uint32_t)((uintptr_t)key * 0x9E3779B97F4A7C15u >> 32) & mask;
}

static inline const struct mb_field *mb_lookup_fast(const struct mb_lookup *l, const void *key)
{
	for (uint32_t i = mb_lookup_hash(key, l->mask);; i = (i + 1) & l->mask) {
		if (l->slots[i].key == key)
			return l->slots[i].field;
		if (!l->slots[i].key)
			return NULL;
	}
}

#endif
