/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two layouts of one thing: what differs between them, and how bytes of the one become bytes of the
 * other. Conventions are engine.h's.
 */
#ifndef MB_LAYOUT_H
#define MB_LAYOUT_H

#include "engine/engine.h"

/* ---- layout.c: what differs ----------------------------------------------------------------------- */

enum mb_change {
	MB_CHANGE_ADDED,
	MB_CHANGE_REMOVED,
	MB_CHANGE_MOVED,
	MB_CHANGE_TYPE,	     /* also in size, sign, length; it may have moved, too */
	MB_CHANGE_ENUM,	     /* a name with another number, or one that is gone */
	MB_CHANGE_SIZE,	     /* only that: what is unnamed */
	MB_CHANGE_PARAMETER, /* of a map: type, sizes, flags */
};

struct mb_difference {
	enum mb_change change;
	bool converts;	 /* a conversion carries the value over, if it is in range */
	char field[128]; /* path from the whole: "cfg.limits[].rate"; "": the whole */
	char was[80],
		is[80]; /* types as C writes them; of an enum: "STRICT = 2"; "": there is none */
	uint32_t was_off, is_off; /* bytes from the start of the whole */
	uint8_t was_bit, is_bit;  /* of bitfields: the bit within that byte */
};

struct mb_diff {
	struct mb_difference *list;
	size_t n, room;
};

void mb_diff_fini(struct mb_diff *diff);
/* Add one that was found elsewhere (of a map's parameters); -ENOMEM. */
int mb_diff_add(struct mb_diff *diff, const struct mb_difference *d);
/* Compare by meaning: typedefs, qualifiers, names of structs, an enum for an integer of its size,
 * u8[n] for char[n] make no difference, nor do more names in an enum. Adds what differs to out and
 * returns how much that is; 0: the same layout. -ENOMEM; -E2BIG: too much to compare. */
int mb_layout_diff(const struct mb_plan *was, const struct mb_plan *is, struct mb_diff *out,
		   struct mb_error *err);
bool mb_layout_same(const struct mb_plan *was, const struct mb_plan *is);
/* "field 'rate' u32 at 8 became u64 at 16", as snprintf does. */
size_t mb_difference_text(const struct mb_difference *d, char *to, size_t room);
/* "value struct flow: field 'rate' …; field 'x' added"; what and type may be NULL. */
size_t mb_diff_text(const struct mb_diff *diff, const char *what, const char *type, char *to,
		    size_t room);
/* Is it the kernel's own, which nobody may copy: bpf_spin_lock, bpf_timer, list heads, kptrs …? */
bool mb_layout_managed(const struct mb_plan *plan);
/* Is one of those anywhere inside? */
bool mb_layout_holds_managed(const struct mb_plan *plan);
/* Is a bpf_timer, bpf_wq or bpf_task_work anywhere inside? */
bool mb_layout_holds_timer(const struct mb_plan *plan);

/* Parts of the above that convert.c needs: text or bytes (an array of the smallest integers); two
 * scalars that mean the same at one place. */
bool mb_layout_is_bytes(const struct mb_plan *plan);
bool mb_layout_scalar_same(const struct mb_field *a, const struct mb_field *b);

/* ---- convert.c: bytes of one layout into bytes of another ------------------------------------------- */

/* Compiled once, run many times. Holds both btfs. */
struct mb_conversion;

/* Could a value of the one slot become one of the other? */
bool mb_layout_converts(const struct mb_field *from, const struct mb_field *to);
/* By name, from the one to the other: what both have. -ENOTSUP: a field that both have has no
 * conversion (struct to integer, a union that changed); it is named. */
int mb_conversion_new(const struct mb_plan *from, const struct mb_plan *to,
		      struct mb_conversion **out, struct mb_error *err);
/* The same of one field to another of any two aggregates, whose starts run is given. */
int mb_conversion_slot(const struct mb_field *from, const struct mb_field *to,
		       struct mb_conversion **out, struct mb_error *err);
/* Write to *to (NULL: only check) what *from says; what only *to has stays as it is, and so do fields that the kernel
 * manages. All is checked before anything is written: -ERANGE, and err names field and value. */
int mb_conversion_run(const struct mb_conversion *c, const void *from, void *to,
		      struct mb_error *err);
void mb_conversion_free(struct mb_conversion *c);

#endif
