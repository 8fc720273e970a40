/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The kernel's symbols, from /proc/kallsyms: name -> address, address -> name. One index, read at once
 * and looked at again when modules have come or gone. It knows nothing of types (kernel.h).
 */
#ifndef MB_KSYM_H
#define MB_KSYM_H

#include "engine/engine.h"

struct mb_ksyms;

struct mb_ksym {
	const char *name;   /* ends with the index's next reading: copy what is to stay */
	uint64_t address;   /* 0: hidden */
	char type;	    /* as nm's: 'T', 't', 'D', … */
	const char *module; /* NULL: the kernel itself */
};

/* Reads nothing yet. */
int mb_ksyms_new(struct mb_ksyms **out, struct mb_error *err);
void mb_ksyms_free(struct mb_ksyms *syms);

/* Where is name? 1 and *out; 0: there is no such symbol. module: NULL any, "vmlinux" the kernel itself.
 * -ENOTUNIQ: at several addresses, which the error lists; -EPERM: there, but the kernel hides addresses
 * from us: the error says by what. */
int mb_ksym_find(struct mb_ksyms *syms, const char *name, const char *module, struct mb_ksym *out,
		 struct mb_error *err);
/* What is at address? 1, the symbol that it lies in, and how far in; 0: none. -EPERM. */
int mb_ksym_at(struct mb_ksyms *syms, uint64_t address, struct mb_ksym *out, uint64_t *offset,
	       struct mb_error *err);
/* The next symbol in the order of addresses whose name fits glob (NULL: all): 1, or 0 at the end.
 * *cursor starts at 0. Hidden addresses are no failure here: they are 0. A reading in between ends
 * the walk: -ESTALE. */
int mb_ksym_next(struct mb_ksyms *syms, uint64_t *cursor, const char *glob, struct mb_ksym *out,
		 struct mb_error *err);
/* Are variables among the symbols (CONFIG_KALLSYMS_ALL)? 1, 0, -errno. */
int mb_ksyms_have_data(struct mb_ksyms *syms, struct mb_error *err);
/* The nearest name, or NULL. */
const char *mb_ksym_near(struct mb_ksyms *syms, const char *name);
/* Say in err why a variable has no address: -ENOTSUP without CONFIG_KALLSYMS_ALL, else -ENOENT. */
int mb_ksym_no_variable(struct mb_ksyms *syms, const char *op, const char *name,
			struct mb_error *err);

#endif
