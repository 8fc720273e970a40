/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What module.c takes from rundir.c, service.c and handover.c.
 */
#ifndef MB_BIND_SERVICE_H
#define MB_BIND_SERVICE_H

#include "bind.h"

extern const struct mb_class mb_rundir_class;
extern const luaL_Reg mb_rundir_functions[], mb_handover_functions[];
/* Give the module at the top of the stack its tables rundir, service and handover. */
void mb_service_open(lua_State *L);

#endif
