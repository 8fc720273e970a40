/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * obj.relocations: what an object's programs ask of the kernel's types.
 */
#include "bind.h"

#include "engine/relocation.h"

static void set_text(lua_State *L, const char *name, const char *text)
{
	if (!text || !*text)
		return;
	lua_pushstring(L, text);
	lua_setfield(L, -2, name);
}

void mb_relocations_push(lua_State *L, const struct mb_object *obj)
{
	struct mb_relocation_iter it = { 0 };
	struct mb_relocation r;
	lua_Integer n = 0;

	lua_newtable(L);
	while (mb_relocation_next(obj, &it, &r)) {
		lua_createtable(L, 0, 4);
		set_text(L, "section", r.section);
		set_text(L, "kind", r.kind);
		set_text(L, "type", r.type);
		set_text(L, "field", r.field);
		lua_rawseti(L, -2, ++n);
	}
}
