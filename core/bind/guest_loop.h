/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What .ci/lualib.sh puts into the loops of Lua's own libraries for a policy's state.
 */
#ifndef MB_GUEST_LOOP_H
#define MB_GUEST_LOOP_H

#include <lua.h>

#include "engine/engine.h"

/* The call at hand raises, if its time is over. */
void mb_guest_loop(void);
#define MB_LOOP ((void)(mb_stop && (mb_guest_loop(), 0)))

int mb_guest_open_string(lua_State *L);
int mb_guest_open_table(lua_State *L);
int mb_guest_open_utf8(lua_State *L);

#endif
