/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * CO-RE relocations of an object: what its programs ask of the kernel's types. Known from open on.
 */
#ifndef MB_RELOCATION_H
#define MB_RELOCATION_H

#include <stddef.h>
#include <stdint.h>

struct mb_object;

struct mb_relocation {
	const char *section; /* of the code; lives as long as the object */
	const char *kind;    /* "offset", "exists", "size", "type_exists", "enum_value", … */
	char type[96];	     /* "struct task_struct" */
	char field[160];     /* "mm.owner", an enumerator, or "" */
};

struct mb_relocation_iter {
	size_t at;	  /* byte of the list */
	uint32_t left;	  /* of the block at hand */
	uint32_t section; /* its name */
};

/* The next one, from an iterator of zeros on. Returns 1, or 0 after the last. */
int mb_relocation_next(const struct mb_object *obj, struct mb_relocation_iter *it,
		       struct mb_relocation *out);

#endif
