/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the files of moonbee.kernel share.
 */
#ifndef MB_BIND_KERNEL_H
#define MB_BIND_KERNEL_H

#include "bind.h"
#include "engine/kernel.h"
#include "engine/kmem.h"

/* The kernel at hand, held until the state's end. Raises. */
struct mb_kernel *mb_kernel_of(lua_State *L);
/* The type at index i: a type object, or the name of one of the kernel's. Raises. */
const struct mb_plan *mb_kernel_type_arg(lua_State *L, int i);

/* ---- kmem.c: the kernel's memory ---- */

/* What reads it. Not to be kept beyond a call that may allocate: a finalizer may call kernel.release. */
struct mb_kmem *mb_kmem_of(lua_State *L);
/* The address that argument i names (a number, a symbol, a view); plan: its own type, or NULL. Raises. */
uint64_t mb_kmem_address_arg(lua_State *L, int i, const struct mb_plan **plan);
/* Push the thing of plan at address: a value, or a view. Raises EFAULT. */
void mb_kmem_push(lua_State *L, uint64_t address, const struct mb_plan *plan);
/* Push a view of zeros that says it was read there. */
struct mb_view *mb_kmem_push_empty(lua_State *L, const struct mb_plan *plan, uint64_t address);
/* The member of plan whose path is argument i, and how far in it lies. Raises. */
const struct mb_field *mb_kmem_member(lua_State *L, const struct mb_plan *plan, int i,
				      uint64_t *off);

extern const luaL_Reg mb_ksym_functions[], mb_kconfig_functions[], mb_extern_functions[],
	mb_kmem_functions[], mb_kwalk_functions[], mb_refresh_functions[];

#endif
