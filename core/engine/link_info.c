/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the kernel tells of a link, as names and values. A new kind of link is a row in type_names and,
 * if it has something to tell, one in tellers.
 */
#include <net/if.h>

#include "internal.h"

static const char *const type_names[] = {
	[BPF_LINK_TYPE_RAW_TRACEPOINT] = "raw_tracepoint",
	[BPF_LINK_TYPE_TRACING] = "tracing",
	[BPF_LINK_TYPE_CGROUP] = "cgroup",
	[BPF_LINK_TYPE_ITER] = "iter",
	[BPF_LINK_TYPE_NETNS] = "netns",
	[BPF_LINK_TYPE_XDP] = "xdp",
	[BPF_LINK_TYPE_PERF_EVENT] = "perf_event",
	[BPF_LINK_TYPE_KPROBE_MULTI] = "kprobe_multi",
	[BPF_LINK_TYPE_STRUCT_OPS] = "struct_ops",
	[10] = "netfilter", /* the rest is newer than the oldest header that we build with */
	[11] = "tcx",
	[12] = "uprobe_multi",
	[13] = "netkit",
	[14] = "sockmap",
};

const char *mb_link_type_name(uint32_t type)
{
	const char *name = type < sizeof(type_names) / sizeof(type_names[0]) ? type_names[type] :
									       NULL;

	return name ? name : "unknown";
}

int mb_link_describe(int fd, struct bpf_link_info *info)
{
	uint32_t len = sizeof(*info);

	memset(info, 0, sizeof(*info));
	return bpf_obj_get_info_by_fd(fd, info, &len) == 0 ? 0 : -errno;
}

/* struct bpf_link_info as newer kernels fill it. Those that headers lack are written out here. */
union words {
	struct bpf_link_info info;
	struct {
		uint32_t type, id, prog_id, unused;
		union {
			struct { /* tcx, netkit: 1 and 2; sockmap: 1 and 2; struct_ops: 1; xdp: 1 */
				uint32_t first, second;
			} pair;
			struct {
				uint64_t id;
				uint32_t attach_type;
			} cgroup;
			struct {
				uint32_t pf, hook;
				int32_t priority;
				uint32_t flags;
			} netfilter;
			struct {
				uint64_t addrs;
				uint32_t count, flags;
				uint64_t missed, cookies;
			} kprobe_multi;
			struct {
				uint64_t path, offsets, ref_ctr_offsets, cookies;
				uint32_t path_size, count, flags, pid;
			} uprobe_multi;
			struct {
				uint64_t name;
				uint32_t name_len, unused;
				uint64_t cookie;
			} raw_tracepoint;
			struct {
				uint32_t attach_type, target_obj_id, target_btf_id, unused;
				uint64_t cookie;
			} tracing;
			struct {
				uint64_t name;
				uint32_t name_len, map_id;
			} iter;
			struct {
				uint32_t kind, unused;
				uint64_t name; /* or config */
				uint32_t name_len, offset;
				uint64_t a, b, c; /* by kind */
			} perf;
		};
	};
	char room[256]; /* for kernels to come; the kernel says no to what is not 0 there */
};

static struct mb_link_fact *next_fact(struct mb_link_info *out, const char *name)
{
	size_t n = 0;

	while (n < MB_LINK_FACTS - 1 && out->facts[n].name)
		n++;
	out->facts[n].name = name;
	return &out->facts[n];
}

static void number(struct mb_link_info *out, const char *name, int64_t n)
{
	next_fact(out, name)->number = n;
}

static void text(struct mb_link_info *out, const char *name, const char *value)
{
	struct mb_link_fact *fact = value && *value ? next_fact(out, name) : NULL;

	if (!fact)
		return;
	fact->is_text = true;
	snprintf(fact->text, sizeof(fact->text), "%s", value);
}

static void attach_type(struct mb_link_info *out, uint32_t type)
{
	text(out, "attach", libbpf_bpf_attach_type_str((enum bpf_attach_type)type));
}

/* Ask once more, with room for the name that *at is to point to. */
static bool ask_name(int fd, union words *w, uint64_t *at, uint32_t *len, char *name, size_t room)
{
	uint32_t size = sizeof(*w);

	name[0] = '\0';
	*at = (uint64_t)(uintptr_t)name;
	*len = (uint32_t)room;
	return bpf_obj_get_info_by_fd(fd, w, &size) == 0 || errno == ENOSPC;
}

static void interface(struct mb_link_info *out, uint32_t ifindex)
{
	char name[IF_NAMESIZE];

	if (!ifindex)
		return;
	number(out, "ifindex", ifindex);
	text(out, "ifname", if_indextoname(ifindex, name));
}

static void tell_xdp(int fd, union words *w, struct mb_link_info *out)
{
	(void)fd;
	interface(out, w->pair.first);
}

static void tell_tcx(int fd, union words *w, struct mb_link_info *out)
{
	(void)fd;
	interface(out, w->pair.first);
	attach_type(out, w->pair.second);
}

static void tell_cgroup(int fd, union words *w, struct mb_link_info *out)
{
	(void)fd;
	number(out, "cgroup_id", (int64_t)w->cgroup.id);
	attach_type(out, w->cgroup.attach_type);
}

static void tell_netns(int fd, union words *w, struct mb_link_info *out)
{
	(void)fd;
	number(out, "netns", w->pair.first);
	attach_type(out, w->pair.second);
}

static void tell_map(int fd, union words *w, struct mb_link_info *out)
{
	(void)fd;
	number(out, "map_id", w->pair.first);
	if (w->type == 14)
		attach_type(out, w->pair.second);
}

static void tell_netfilter(int fd, union words *w, struct mb_link_info *out)
{
	static const char *const hooks[] = { "prerouting", "input", "forward", "output",
					     "postrouting" };

	(void)fd;
	text(out, "family", w->netfilter.pf == 2 ? "ipv4" : w->netfilter.pf == 10 ? "ipv6" : NULL);
	text(out, "hook", w->netfilter.hook < 5 ? hooks[w->netfilter.hook] : NULL);
	number(out, "priority", w->netfilter.priority);
}

static void tell_raw(int fd, union words *w, struct mb_link_info *out)
{
	char name[128];

	if (ask_name(fd, w, &w->raw_tracepoint.name, &w->raw_tracepoint.name_len, name,
		     sizeof(name)))
		text(out, "tracepoint", name);
	if (w->raw_tracepoint.cookie)
		number(out, "cookie", (int64_t)w->raw_tracepoint.cookie);
}

static void tell_tracing(int fd, union words *w, struct mb_link_info *out)
{
	(void)fd;
	attach_type(out, w->tracing.attach_type);
	number(out, "target_btf_id", w->tracing.target_btf_id);
	if (w->tracing.cookie)
		number(out, "cookie", (int64_t)w->tracing.cookie);
}

static void tell_iter(int fd, union words *w, struct mb_link_info *out)
{
	char name[64];

	if (ask_name(fd, w, &w->iter.name, &w->iter.name_len, name, sizeof(name)))
		text(out, "iterator", name);
	if (w->iter.map_id)
		number(out, "map_id", w->iter.map_id);
}

static void tell_kprobe_multi(int fd, union words *w, struct mb_link_info *out)
{
	(void)fd;
	number(out, "count", w->kprobe_multi.count);
	number(out, "missed", (int64_t)w->kprobe_multi.missed);
}

static void tell_uprobe_multi(int fd, union words *w, struct mb_link_info *out)
{
	char path[240];

	w->uprobe_multi.count = 0;
	if (ask_name(fd, w, &w->uprobe_multi.path, &w->uprobe_multi.path_size, path, sizeof(path)))
		text(out, "binary", path);
	number(out, "count", w->uprobe_multi.count);
	if (w->uprobe_multi.pid)
		number(out, "pid", w->uprobe_multi.pid);
}

/* Linux 6.6; before that the kind is 0. */
static void tell_perf(int fd, union words *w, struct mb_link_info *out)
{
	static const char *const names[] = { NULL,	 "binary",     "binary", "function",
					     "function", "tracepoint", NULL };
	uint32_t kind = w->perf.kind;
	uint64_t cookie;
	char name[240];

	if (kind < 1 || kind > 5 ||
	    !ask_name(fd, w, &w->perf.name, &w->perf.name_len, name, sizeof(name)))
		return;
	text(out, names[kind], name);
	if (kind < 5 && w->perf.offset)
		number(out, "offset", w->perf.offset);
	if (kind == 2 || kind == 4)
		number(out, "retprobe", 1);
	if (kind == 3 || kind == 4)
		number(out, "missed", (int64_t)w->perf.b);
	cookie = kind == 3 || kind == 4 ? w->perf.c : w->perf.a;
	if (cookie)
		number(out, "cookie", (int64_t)cookie);
}

static void (*const tellers[])(int fd, union words *w, struct mb_link_info *out) = {
	[BPF_LINK_TYPE_RAW_TRACEPOINT] = tell_raw,
	[BPF_LINK_TYPE_TRACING] = tell_tracing,
	[BPF_LINK_TYPE_CGROUP] = tell_cgroup,
	[BPF_LINK_TYPE_ITER] = tell_iter,
	[BPF_LINK_TYPE_NETNS] = tell_netns,
	[BPF_LINK_TYPE_XDP] = tell_xdp,
	[BPF_LINK_TYPE_PERF_EVENT] = tell_perf,
	[BPF_LINK_TYPE_KPROBE_MULTI] = tell_kprobe_multi,
	[BPF_LINK_TYPE_STRUCT_OPS] = tell_map,
	[10] = tell_netfilter,
	[11] = tell_tcx,
	[12] = tell_uprobe_multi,
	[13] = tell_tcx,
	[14] = tell_map,
};

/* What we know of hooks that the kernel has no link for. */
static void tell_bare(const struct mb_link *link, struct mb_link_info *out)
{
	const struct mb_hook *hook = &link->hook;

	out->type = hook->bare ? hook->bare->type : link->ops ? "struct_ops" : "usdt";
	out->prog_id = link->prog ? link->prog->id : 0;
	interface(out, hook->ifindex);
	if (hook->handle) {
		text(out, "attach", hook->point == BPF_TC_EGRESS ? "tc_egress" : "tc_ingress");
		number(out, "handle", hook->handle);
		number(out, "priority", hook->priority);
	}
	if (link->ops)
		number(out, "map_id", link->ops->info.id);
}

int mb_link_info(struct mb_link *link, struct mb_link_info *out, struct mb_error *err)
{
	int fd = link->hook.fd;
	union words w = { .room = "" };
	uint32_t len = sizeof(w);

	if (link->closed)
		return mb_fail(err, EBADF, "describe link", link->name, "the link is closed");
	memset(out, 0, sizeof(*out));
	out->program = link->name;
	out->pin_path = link->pin_path;
	out->fd = fd;
	if (fd < 0) {
		tell_bare(link, out);
		return 0;
	}
	if (bpf_obj_get_info_by_fd(fd, &w, &len) != 0)
		return mb_fail(err, errno, "describe link", link->name, "%s", mb_error_text(errno));
	out->type = mb_link_type_name(w.type);
	out->id = w.id;
	out->prog_id = w.prog_id;
	if (w.type < sizeof(tellers) / sizeof(tellers[0]) && tellers[w.type])
		tellers[w.type](fd, &w, out);
	if (link->hook.nmore)
		number(out, "links", (int64_t)link->hook.nmore + 1);
	return 0;
}
