/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Between attach*.c, which know how each kind of program is attached, and link.c, which keeps what
 * came of it. A new kind is one row in attach.c's table and, where no function of attach_*.c does it
 * already, one function.
 */
#ifndef MB_ATTACH_H
#define MB_ATTACH_H

#include "engine/engine.h"

struct bpf_link;
struct mb_hook;

/* A hook that the kernel has no link for: how it ends, and how it takes another program. */
struct mb_bare {
	const char *type; /* as a link's */
	void (*end)(struct mb_hook *hook);
	int (*swap)(struct mb_hook *hook, struct mb_program *prog); /* 0, -errno */
};

/* What keeps a program attached. */
struct mb_hook {
	int fd;		      /* the kernel's link, or -1 */
	int *more;	      /* further ones: a perf event has one for each CPU */
	size_t nmore;	      /* of them */
	struct bpf_link *bpf; /* libbpf's: struct_ops, USDT; fd is its own, or -1 */
	const struct mb_bare *bare;
	int target, prog; /* bare: descriptors of its own of what it is on and of its program */
	uint32_t ifindex, point, handle, priority; /* tc; point: also a map's attach type */
};

/* A program, where it goes, and room for what its section says of that. */
struct mb_site {
	struct mb_program *prog;
	struct mb_attach how;
	char text[512];
};

typedef int (*mb_attach_fn)(struct mb_site *site, struct mb_hook *hook, struct mb_error *err);

/* attach.c */
int mb_hook_attach(struct mb_program *prog, const struct mb_attach *how, struct mb_hook *hook,
		   struct mb_error *err);
/* Fill err: where it was to be attached, and why not. Returns -code. */
int mb_attach_failed(const struct mb_site *site, int code, const char *where, struct mb_error *err);
/* The same for what is missing: kernel version or option, or libbpf version. */
int mb_attach_lacks(const struct mb_site *site, const char *what, const char *needs,
		    struct mb_error *err);
/* Has the kernel's BTF that enumerator, as BPF_TCX_INGRESS? Also 1 where it has no BTF. */
bool mb_kernel_has_enumerator(const char *name);

/* attach_net.c */
int mb_attach_xdp(struct mb_site *site, struct mb_hook *hook, struct mb_error *err);
int mb_attach_tc(struct mb_site *site, struct mb_hook *hook, struct mb_error *err);
int mb_attach_netfilter(struct mb_site *site, struct mb_hook *hook, struct mb_error *err);
int mb_attach_netns(struct mb_site *site, struct mb_hook *hook, struct mb_error *err);
int mb_attach_cgroup(struct mb_site *site, struct mb_hook *hook, struct mb_error *err);
/* attach_bare.c: what older kernels, or all, have no links for */
int mb_attach_clsact(struct mb_site *site, struct mb_hook *hook, struct mb_error *err);
int mb_attach_sockmap(struct mb_site *site, struct mb_hook *hook, struct mb_error *err);
int mb_attach_socket(struct mb_site *site, struct mb_hook *hook, struct mb_error *err);
/* attach_trace.c */
int mb_attach_tracing(struct mb_site *site, struct mb_hook *hook, struct mb_error *err);
int mb_attach_iter(struct mb_site *site, struct mb_hook *hook, struct mb_error *err);
int mb_attach_raw(struct mb_site *site, struct mb_hook *hook, struct mb_error *err);
int mb_attach_multi(struct mb_site *site, struct mb_hook *hook, struct mb_error *err);
int mb_attach_umulti(struct mb_site *site, struct mb_hook *hook, struct mb_error *err);
/* attach_perf.c */
int mb_attach_tracepoint(struct mb_site *site, struct mb_hook *hook, struct mb_error *err);
int mb_attach_kprobe(struct mb_site *site, struct mb_hook *hook, struct mb_error *err);
int mb_attach_ksyscall(struct mb_site *site, struct mb_hook *hook, struct mb_error *err);
int mb_attach_uprobe(struct mb_site *site, struct mb_hook *hook, struct mb_error *err);
int mb_attach_usdt(struct mb_site *site, struct mb_hook *hook, struct mb_error *err);
int mb_attach_perf(struct mb_site *site, struct mb_hook *hook, struct mb_error *err);

/* symbol.c: names to attach to */

/* Where a program or library called name is: a path stays as it is; another is looked for as the
 * loader and the shell do. -ENOENT. */
int mb_binary_find(const char *name, char *path, size_t room);
/* Names, sorted, each once, with their offsets in the file; nothing for the kernel's. */
struct mb_names {
	char *text; /* of all */
	const char **name;
	uint64_t *offset;
	size_t n, room;
};
void mb_names_free(struct mb_names *names);
/* The functions of an ELF file; of the kernel that kprobes can take; its tracepoints ("sched:x").
 * Returns 0 or -errno. */
int mb_names_binary(const char *path, struct mb_names *out);
int mb_names_kernel(struct mb_names *out);
int mb_names_tracepoints(struct mb_names *out);
/* The place of a name, or -1; the nearest other name, or NULL. */
long mb_names_find(const struct mb_names *names, const char *name);
const char *mb_names_near(const struct mb_names *names, const char *name);

/* link.c */
void mb_hook_end(struct mb_hook *hook);

#endif
