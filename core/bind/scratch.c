/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory for the time of a call that may raise: what is in it goes when the call ends, however it
 * ends.
 */
#include "bind.h"

struct scratch {
	void (*fini)(void *memory);
	_Alignas(8) char memory[];
};

static int scratch_end(lua_State *L)
{
	struct scratch *s = lua_touserdata(L, 1);
	void (*fini)(void *memory) = s->fini;

	s->fini = NULL;
	if (fini)
		fini(s->memory);
	return 0;
}

void *mb_scratch_push(lua_State *L, size_t size, void (*fini)(void *memory))
{
	struct scratch *s = lua_newuserdatauv(L, sizeof(*s) + size, 0);

	s->fini = NULL;
	memset(s->memory, 0, size);
	if (luaL_newmetatable(L, "moonbee.scratch")) {
		lua_pushcfunction(L, scratch_end);
		lua_setfield(L, -2, "__gc");
		lua_pushcfunction(L, scratch_end);
		lua_setfield(L, -2, "__close");
	}
	lua_setmetatable(L, -2);
	lua_toclose(L, -1);
	s->fini = fini;
	return s->memory;
}
