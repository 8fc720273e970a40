/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an object wants from the kernel (__ksym, __kconfig), and what becomes of it: before load a
 * prediction for this kernel or another one, after load what libbpf did.
 */
#ifndef MB_EXTERN_H
#define MB_EXTERN_H

#include "engine/kbtf.h"
#include "engine/kconfig.h"
#include "engine/ksym.h"

struct mb_extern {
	const char *name;
	const char *kind; /* "ksym", "kfunc", "kconfig" */
	char type[160];	  /* as declared */
	bool weak;
	bool typed;  /* false: `extern const void name __ksym` */
	uint32_t id; /* of its VAR or FUNC in the object's BTF */
};

/* The i-th, in the order of the object's BTF: 1, or 0 at the end. */
int mb_object_extern(const struct mb_object *obj, size_t i, struct mb_extern *out);

enum mb_fate_state {
	MB_FATE_RESOLVED,
	MB_FATE_MISSING, /* a weak one is 0 then, a strong one keeps the object from loading */
	MB_FATE_CLASH,	 /* it is there, but not as declared */
	MB_FATE_UNKNOWN, /* nobody can tell: .why */
};

enum mb_fate_value { MB_FATE_NO_VALUE, MB_FATE_BOOL, MB_FATE_INT, MB_FATE_TEXT };

struct mb_fate {
	enum mb_fate_state state;
	bool predicted;
	char kernel_type[160];	  /* what the kernel declares, or "" */
	char module[64];	  /* or "" */
	uint64_t address;	  /* 0: not known */
	enum mb_fate_value value; /* of __kconfig, as the program reads it */
	int64_t number;
	char text[256];
	char why[256];		  /* of what is not resolved */
	const struct mb_btf *btf; /* the kernel's, for mb_extern_difference, or NULL */
	uint32_t type;
};

/* A kernel. What is not known of it is NULL. */
struct mb_target {
	struct mb_kbtf *types;
	struct mb_ksyms *syms;
	const struct mb_kconfig *config;
};

/* -errno only where nothing can be said at all. */
int mb_extern_fate(const struct mb_object *obj, const struct mb_extern *e,
		   const struct mb_target *target, struct mb_fate *out, struct mb_error *err);

/* Where the declared type and the kernel's differ: field by field of a struct, else the type itself. */
struct mb_difference {
	char field[128]; /* "" : the type itself */
	char declared[160], kernel[160];
};
/* The next one: 1, or 0. *cursor starts at 0. */
int mb_extern_difference(const struct mb_object *obj, const struct mb_extern *e,
			 const struct mb_fate *fate, uint32_t *cursor, struct mb_difference *out);

/* The configuration as text for libbpf, where it would find no file of the kernel's: what is given
 * first, then what mb_kconfig_new finds, then zeros for weak externs. NULL in *out: not needed. */
int mb_externs_kconfig(const struct mb_object *obj, const char *given, char **out,
		       struct mb_error *err);

/* Say in the error of a failed load which externs were the reason, all together. */
void mb_externs_explain(const struct mb_object *obj, struct mb_error *err);

#endif
