/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Columns: chosen fields as plain values, for rings and walks alike. Paths are resolved once; a row
 * makes no view.
 */
#include "bind.h"

#define MAX_TAIL (64u << 20)

void mb_columns_find(lua_State *L, int first, int n, const struct mb_plan *plan, bool lease,
		     struct mb_column *out)
{
	/* a thing of full size that is never read: only to resolve the paths; what a record has beyond
	 * its type is seen when it is there */
	struct mb_region full = { .len = lease ? plan->size + MAX_TAIL : plan->size,
				  .refs = 1,
				  .flags = lease ? MB_REGION_LEASE : 0 };
	struct mb_view top = { &full, plan, 0, 0, plan->count }, at;

	for (int i = 0; i < n; i++) {
		const char *path = luaL_checkstring(L, first + i);
		const struct mb_field *f;
		MB_ERROR(err);

		if (mb_view_path(&top, path, &at, &f, &err) != 0)
			mb_raise(L, &err);
		if (f->enc == MB_ENC_NONE)
			mb_mistake(L, NULL, "column '%s' is %s: a column is one scalar", path,
				   f->plan->name);
		out[i] = (struct mb_column){ at.plan, f, at.off, at.count };
	}
}

/* Text makes garbage, and so any finalizer may run between two columns. The generation is therefore
 * the row's, taken once: what a finalizer ended is told, never read. */
void mb_columns_push(lua_State *L, const struct mb_column *columns, int n, struct mb_region *region,
		     uint32_t off, uint64_t gen)
{
	luaL_checkstack(L, n + LUA_MINSTACK, "too many columns");
	for (int i = 0; i < n; i++) {
		const struct mb_column *c = &columns[i];
		struct mb_view at = { region, c->plan, gen, off + c->off, c->count };
		const uint8_t *base = mb_view_peek(&at, c->field);
		int64_t value;

		if (base && mb_value_integer(base, c->field, &value))
			lua_pushinteger(L, value);
		else
			mb_push_field(L, &at, c->field, 0); /* raises where it is not there */
	}
}
