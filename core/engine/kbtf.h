/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The types of a kernel: vmlinux's BTF, and its modules' where that does not know. Large, hence read
 * when first asked for, and types are compiled one by one.
 */
#ifndef MB_KBTF_H
#define MB_KBTF_H

#include "engine/engine.h"

struct mb_kbtf;

/* Of the running kernel. Reads nothing yet. */
int mb_kbtf_new(struct mb_kbtf **out, struct mb_error *err);
/* Of another one: raw BTF (as /sys/kernel/btf/vmlinux), or an ELF file with a section .BTF. Checked
 * before libbpf sees it: -EINVAL. */
int mb_kbtf_open(const char *path, struct mb_kbtf **out, struct mb_error *err);
void mb_kbtf_free(struct mb_kbtf *kb);
bool mb_kbtf_running(const struct mb_kbtf *kb);

/* vmlinux's; belongs to kb. -ENOENT: this kernel has no BTF. */
int mb_kbtf_vmlinux(struct mb_kbtf *kb, struct mb_btf **out, struct mb_error *err);

/* A type as C writes it: "struct sock", "u64", "unsigned long", "u8[16]", "struct file *". -ENOENT
 * with the nearest name. */
int mb_kbtf_type(struct mb_kbtf *kb, const char *name, const struct mb_plan **out,
		 struct mb_error *err);
/* What a pointer's plan leads to: 1; 0: nothing with a layout (void, functions). A type of a program's
 * own BTF is looked up by its name: the program may know a few of its fields only. */
int mb_kbtf_target(struct mb_kbtf *kb, const struct mb_plan *pointer, const struct mb_plan **out,
		   struct mb_error *err);

/* What the kernel declares under a name. */
struct mb_kdecl {
	struct mb_btf *btf; /* whose ids these are; kb's */
	uint32_t id;	    /* of the VAR or FUNC */
	uint32_t type;	    /* of the variable; the FUNC_PROTO of a function */
	bool percpu;
	const char *module; /* NULL: vmlinux; kb's */
};
enum mb_kdecl_kind { MB_KDECL_VAR, MB_KDECL_FUNC };
/* 1, 0 (not there), -errno. modules: look there, too. */
int mb_kbtf_find(struct mb_kbtf *kb, const char *name, enum mb_kdecl_kind kind, bool modules,
		 struct mb_kdecl *out, struct mb_error *err);
/* The nearest name of that kind in vmlinux, or NULL. */
const char *mb_kbtf_near(struct mb_kbtf *kb, const char *name, enum mb_kdecl_kind kind);
/* As C declares it: "int tcp_v4_rcv(struct sk_buff *skb)". */
void mb_kdecl_spell(const struct mb_kdecl *decl, char *out, size_t room);

#endif
