/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the files of moonbee.kernel share.
 */
#ifndef MB_BIND_KERNEL_H
#define MB_BIND_KERNEL_H

#include "bind.h"
#include "engine/kernel.h"

/* The kernel at hand, held until the state's end. Raises. */
struct mb_kernel *mb_kernel_of(lua_State *L);
/* The type at index i: a type object, or the name of one of the kernel's. Raises. */
const struct mb_plan *mb_kernel_type_arg(lua_State *L, int i);

extern const luaL_Reg mb_ksym_functions[], mb_kconfig_functions[], mb_extern_functions[],
	mb_kmem_functions[], mb_refresh_functions[];

#endif
