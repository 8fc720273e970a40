/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From one object to the next: its maps and data sections go on being used, and what the kernel
 * keeps for us under a descriptor is taken up again.
 */
#ifndef MB_HANDOVER_H
#define MB_HANDOVER_H

#include "engine/engine.h"

/* The map behind a data section, or NULL. Its object's. */
struct mb_map *mb_handover_section(const struct mb_object *obj, const char *name);
/* Have an open object use the map old in the place of map when it is loaded: same type, sizes, flags
 * and layout of key and value. libbpf takes any, and would then write beyond its end. -EEXIST: it
 * differs; -EBUSY: map's object is loaded already. */
int mb_handover_reuse(struct mb_map *map, struct mb_map *old, struct mb_error *err);
/* What a descriptor of the kernel's holds; the descriptor stays the caller's. */
int mb_handover_adopt(int fd, const char *name, struct mb_pinned *out, struct mb_error *err);
/* Both are on one hook, and the kernel counts runs: how often the first one ran without the second one,
 * until that was attached; the same number twice but where events come without a moment between. */
int mb_handover_alone(const struct mb_program *first, const struct mb_program *second,
		      int64_t *least, int64_t *most, struct mb_error *err);
/* A descriptor that becomes readable when every run of a program that has begun by now has ended
 * (sleepable ones excepted). The caller's to close. */
int mb_handover_grace(int *out, struct mb_error *err);

#endif
