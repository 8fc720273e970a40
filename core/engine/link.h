/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where programs are attached, and what keeps them there. Part of engine.h, with its conventions.
 *
 * A link holds its program's object until it is closed. It knows the options that it was attached
 * by, so that another program can take its place also where the kernel cannot swap programs.
 */
#ifndef MB_LINK_H
#define MB_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mb_error;
struct mb_link;
struct mb_map;
struct mb_program;

/* Where among those that are attached there already: tcx, netkit, cgroup. */
enum mb_place { MB_PLACE_ANY, MB_PLACE_FIRST, MB_PLACE_LAST, MB_PLACE_BEFORE, MB_PLACE_AFTER };

/* Where to attach a program. All zero: as its section's name says. */
struct mb_attach {
	const char *ifname; /* network interface */
	const char *mode;   /* xdp: "native", "generic", "offload"; tc: "tcx", "clsact", "netkit" */
	const char *direction;		   /* tc: "ingress", "egress"; netkit: "primary", "peer" */
	const char *cgroup;		   /* path */
	const char *netns;		   /* path, name in /run/netns, or "self" */
	const char *category, *tracepoint; /* tracepoint: both; raw_tp: the second */
	const char *function; /* of the kernel; with binary: of that; a pattern for *.multi */
	const char *syscall;  /* "openat", whatever the kernel's function is called */
	const char *binary;   /* path, or a library's or program's name */
	const char *usdt;     /* with binary: "provider:name" */
	const char *event;    /* "cpu-clock", "cycles", … */
	const char *family;   /* netfilter: "ipv4", "ipv6" */
	const char *hook;     /* netfilter: "prerouting", "input", … */
	const char *const *functions; /* *.multi: these */
	size_t nfunctions;
	const uint64_t *cookies; /* one for each of functions, or NULL */
	struct mb_map *map;	 /* sockmap: on it; iter: over it */
	enum mb_place place;
	const struct mb_link *near_link;    /* before or after which; or: */
	const struct mb_program *near_prog; /* the same */
	uint64_t offset, cookie;
	uint64_t frequency, period; /* event: samples a second, or one each so many */
	int64_t priority;	    /* netfilter, clsact */
	uint32_t handle;	    /* clsact */
	int pid;		    /* uprobe, usdt, event, iter: 0 any */
	int cpu;		    /* event: number + 1; 0: all */
	int socket;		    /* descriptor; 0: none */
	bool retprobe, defrag;
};
/* -EINVAL when the program's type has no such option; -EOPNOTSUPP when its section's name says
 * nothing to attach to, or the kernel or libbpf at hand has not what it takes: err says what does. */
int mb_program_attach(struct mb_program *prog, const struct mb_attach *how, struct mb_link **out,
		      struct mb_error *err);
/* Would mb_program_attach(prog, NULL) know what to do? */
bool mb_program_attaches(const struct mb_program *prog);
/* Put a struct_ops map in force. */
int mb_ops_attach(struct mb_map *ops, struct mb_link **out, struct mb_error *err);
bool mb_map_is_ops(const struct mb_map *map);

/* One thing that the kernel says of a link, beside what all have. */
struct mb_link_fact {
	const char *name; /* NULL: the end */
	bool is_text;
	int64_t number;
	char text[256];
};
#define MB_LINK_FACTS 10
struct mb_link_info {
	uint32_t id; /* 0: the kernel has no link for it */
	uint32_t prog_id;
	const char *type; /* "xdp", "perf_event", … */
	const char *pin_path;
	const char *program; /* name, or NULL */
	int fd;		     /* -1: none */
	struct mb_link_fact facts[MB_LINK_FACTS];
};
struct mb_link *mb_link_ref(struct mb_link *link);
void mb_link_unref(struct mb_link *link);
/* Detach (unless pinned) and close. */
void mb_link_close(struct mb_link *link);
/* Detach now, even if pinned; the pin goes, too. */
int mb_link_detach(struct mb_link *link, struct mb_error *err);
bool mb_link_closed(const struct mb_link *link);
const char *mb_link_name(const struct mb_link *link);
/* The kernel's link; -1: it has none, or several. */
int mb_link_fd(const struct mb_link *link);
int mb_link_info(struct mb_link *link, struct mb_link_info *out, struct mb_error *err);
/* over: in the place of another link that is pinned there, in one step. */
int mb_link_pin(struct mb_link *link, const char *path, bool over, struct mb_error *err);
/* Another name for its pin, in one step. -ENOENT: it has none any more; -EEXIST: something is there. */
int mb_link_move_pin(struct mb_link *link, const char *path, struct mb_error *err);
int mb_link_unpin(struct mb_link *link, struct mb_error *err);

/* replace.c: another program, or for struct_ops another map; the other one is NULL. */

/* Is it of a kind whose programs the kernel swaps in one step? (Of struct_ops those with a link.) */
bool mb_link_updatable(const struct mb_link *link);
/* In one step; -EOPNOTSUPP where the kernel cannot for this kind of link. */
int mb_link_update(struct mb_link *link, struct mb_program *prog, struct mb_map *ops,
		   struct mb_error *err);
/* In one step, or the new one first and then the old one's end, or, only with gap, the other way
 * round. *how (static): "updated", "overlapped", "gap". On failure the old one is in force. A pin
 * goes over to what is new. */
int mb_link_replace(struct mb_link *link, struct mb_program *prog, struct mb_map *ops, bool gap,
		    const char **how, struct mb_error *err);

#endif
