/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The kernel at hand: one for all states of a thread, made when first asked for, gone with the last
 * who holds it. What it knows is read when needed, once.
 */
#ifndef MB_KERNEL_H
#define MB_KERNEL_H

#include "engine/kbtf.h"
#include "engine/kconfig.h"
#include "engine/ksym.h"

struct mb_kernel;
struct mb_kmem;

/* This thread's; the caller gets a reference. */
int mb_kernel_get(struct mb_kernel **out, struct mb_error *err);
void mb_kernel_unref(struct mb_kernel *kernel);
/* These belong to the kernel. */
struct mb_ksyms *mb_kernel_syms(struct mb_kernel *kernel);
struct mb_kbtf *mb_kernel_types(struct mb_kernel *kernel);
int mb_kernel_config(struct mb_kernel *kernel, const struct mb_kconfig **out, struct mb_error *err);
/* What reads its memory (kmem.h). -EPERM. */
int mb_kernel_memory(struct mb_kernel *kernel, struct mb_kmem **out, struct mb_error *err);
/* Close it; it is made anew when it is asked for. */
void mb_kernel_release_memory(struct mb_kernel *kernel);

#endif
