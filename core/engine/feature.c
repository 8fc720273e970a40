/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What this kernel can do. Its BTF names the enumerators of each list (types of maps, of programs, …),
 * and the functions that only a kernel built with an option has.
 */
#include "engine/feature.h"

#include "engine/kernel.h"
#include "internal.h"

struct list {
	struct mb_feature *items;
	size_t n, room;
	const struct btf *btf; /* the kernel's, or NULL: it has none */
	bool probe;
	bool full; /* out of memory */
};

static struct mb_feature *add(struct list *l, const char *group, const char *name)
{
	struct mb_feature *f;

	if (l->n == l->room) {
		size_t room = l->room ? l->room * 2 : 512;
		struct mb_feature *more = realloc(l->items, room * sizeof(*more));

		if (!more) {
			l->full = true;
			return NULL;
		}
		l->items = more;
		l->room = room;
	}
	f = &l->items[l->n++];
	*f = (struct mb_feature){ .group = group, .from = "", .why = "" };
	snprintf(f->name, sizeof(f->name), "%s", name);
	return f;
}

/* ---- what BTF tells ---------------------------------------------------------------------------------- */

static bool has(const struct list *l, const char *name, uint32_t kind)
{
	return btf__find_by_name_kind(l->btf, name, kind) > 0;
}

/* Is there an enumerator of this name in an enum of this name? */
static bool has_enumerator(const struct list *l, const char *in, const char *name)
{
	int id = btf__find_by_name_kind(l->btf, in, BTF_KIND_ENUM);
	const struct btf_type *t = id > 0 ? btf__type_by_id(l->btf, (uint32_t)id) : NULL;

	for (uint32_t i = 0; t && i < btf_vlen(t); i++)
		if (strcmp(btf__name_by_offset(l->btf, btf_enum(t)[i].name_off), name) == 0)
			return true;
	return false;
}

/* A feature, and what in the kernel's BTF is there only with it. */
static const struct row {
	const char *name;
	const char *func;	     /* a function, or */
	const char *type;	     /* a struct, or */
	const char *in, *enumerator; /* an enumerator */
	const char *lacks;	     /* what a kernel without it lacks */
} rows[] = {
	{ "ring_buffer", .in = "bpf_map_type", .enumerator = "BPF_MAP_TYPE_RINGBUF",
	  .lacks = "needs Linux 5.8" },
	{ "user_ring_buffer", .in = "bpf_map_type", .enumerator = "BPF_MAP_TYPE_USER_RINGBUF",
	  .lacks = "needs Linux 6.1" },
	{ "arena", .in = "bpf_map_type", .enumerator = "BPF_MAP_TYPE_ARENA",
	  .lacks = "needs Linux 6.9" },
	{ "batch", .in = "bpf_cmd", .enumerator = "BPF_MAP_LOOKUP_BATCH",
	  .lacks = "needs Linux 5.6" },
	{ "stats", .in = "bpf_cmd", .enumerator = "BPF_ENABLE_STATS", .lacks = "needs Linux 5.8" },
	{ "links", .in = "bpf_cmd", .enumerator = "BPF_LINK_CREATE", .lacks = "needs Linux 5.7" },
	{ "token", .in = "bpf_cmd", .enumerator = "BPF_TOKEN_CREATE", .lacks = "needs Linux 6.9" },
	{ "streams", .in = "bpf_cmd", .enumerator = "BPF_PROG_STREAM_READ_BY_FD",
	  .lacks = "needs Linux 6.17" },
	{ "loop", .in = "bpf_func_id", .enumerator = "BPF_FUNC_loop", .lacks = "needs Linux 5.17" },
	{ "timers", .in = "bpf_func_id", .enumerator = "BPF_FUNC_timer_init",
	  .lacks = "needs Linux 5.15" },
	{ "cookies", .in = "bpf_func_id", .enumerator = "BPF_FUNC_get_attach_cookie",
	  .lacks = "needs Linux 5.15" },
	{ "dynptr", .in = "bpf_func_id", .enumerator = "BPF_FUNC_dynptr_from_mem",
	  .lacks = "needs Linux 5.19" },
	{ "kprobe", .func = "register_kprobe", .lacks = "needs CONFIG_KPROBES" },
	{ "kprobe_multi", .func = "bpf_kprobe_multi_link_attach",
	  .lacks = "needs CONFIG_FPROBE and Linux 5.18" },
	{ "uprobe", .func = "uprobe_register", .lacks = "needs CONFIG_UPROBES" },
	{ "uprobe_multi", .func = "bpf_uprobe_multi_link_attach",
	  .lacks = "needs CONFIG_UPROBES and Linux 6.6" },
	{ "trampoline", .func = "bpf_trampoline_link_prog",
	  .lacks = "needs CONFIG_BPF_JIT and Linux 5.5" },
	{ "lsm", .func = "bpf_lsm_file_open", .lacks = "needs CONFIG_BPF_LSM" },
	{ "iterators", .func = "bpf_iter_link_attach", .lacks = "needs Linux 5.8" },
	{ "xdp_links", .func = "bpf_xdp_link_attach", .lacks = "needs Linux 5.9" },
	{ "tcx", .func = "tcx_link_attach", .lacks = "needs CONFIG_NET_XGRESS and Linux 6.6" },
	{ "netkit", .func = "netkit_link_attach", .lacks = "needs CONFIG_NETKIT and Linux 6.7" },
	{ "netfilter", .func = "bpf_nf_link_attach",
	  .lacks = "needs CONFIG_NETFILTER_BPF_LINK and Linux 6.4" },
	{ "cgroup", .func = "cgroup_bpf_prog_attach", .lacks = "needs CONFIG_CGROUP_BPF" },
	{ "struct_ops", .type = "bpf_struct_ops_map", .lacks = "needs Linux 5.6" },
	{ "struct_ops_links", .func = "bpf_struct_ops_link_create", .lacks = "needs Linux 6.4" },
	{ "sched_ext", .type = "sched_ext_ops",
	  .lacks = "needs CONFIG_SCHED_CLASS_EXT and Linux 6.12" },
};

static void add_rows(struct list *l)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *row = &rows[i];
		struct mb_feature *f = add(l, "feature", row->name);
		bool there;

		if (!f)
			return;
		if (!l->btf) {
			f->why = "the kernel has no BTF to tell";
			continue;
		}
		there = row->func ? has(l, row->func, BTF_KIND_FUNC) :
			row->type ? has(l, row->type, BTF_KIND_STRUCT) :
				    has_enumerator(l, row->in, row->enumerator);
		f->state = there ? MB_YES : MB_NO;
		f->from = "btf";
		f->why = there ? "" : row->lacks;
	}
}

/* Of an enum in the kernel's BTF: its enumerators with this prefix, as names in small letters. */
static void lower_name(const char *from, char *to, size_t room)
{
	size_t n = 0;

	for (; from[n] && n + 1 < room; n++)
		to[n] = (char)(from[n] >= 'A' && from[n] <= 'Z' ? from[n] - 'A' + 'a' : from[n]);
	to[n] = '\0';
}

static bool is_marker(const char *name)
{
	return strcmp(name, "unspec") == 0 || strncmp(name, "max_", 4) == 0 ||
	       strncmp(name, "__", 2) == 0;
}

/* libbpf knows a name for each number; kernels that are newer know more. */
typedef const char *(*name_fn)(int number);

static const char *map_name(int i)
{
	return libbpf_bpf_map_type_str((enum bpf_map_type)i);
}

static const char *prog_name(int i)
{
	return libbpf_bpf_prog_type_str((enum bpf_prog_type)i);
}

static const char *attach_name(int i)
{
	return libbpf_bpf_attach_type_str((enum bpf_attach_type)i);
}

static const char *link_name(int i)
{
	return libbpf_bpf_link_type_str((enum bpf_link_type)i);
}

static int probe_map(int i)
{
	/* libbpf says of struct_ops that it is not there where it is */
	return i == BPF_MAP_TYPE_STRUCT_OPS ? -EOPNOTSUPP :
					      libbpf_probe_bpf_map_type((enum bpf_map_type)i, NULL);
}

static int probe_prog(int i)
{
	return libbpf_probe_bpf_prog_type((enum bpf_prog_type)i, NULL);
}

static const struct enumeration {
	const char *group, *in, *prefix;
	name_fn name;
	int (*probe)(int number);
} enumerations[] = {
	{ "prog_type", "bpf_prog_type", "BPF_PROG_TYPE_", prog_name, probe_prog },
	{ "map_type", "bpf_map_type", "BPF_MAP_TYPE_", map_name, probe_map },
	{ "attach_type", "bpf_attach_type", "", attach_name, NULL },
	{ "link_type", "bpf_link_type", "BPF_LINK_TYPE_", link_name, NULL },
};

static void probe(struct mb_feature *f, const struct enumeration *e, int number)
{
	struct mb_capture cap;
	int rc;

	mb_capture_begin(&cap);
	rc = e->probe(number);
	mb_capture_end(&cap, NULL);
	if (rc < 0) {
		if (f->state == MB_UNKNOWN_YET)
			f->why = rc == -EPERM ? "asking needs privileges" : "it cannot be probed";
		return;
	}
	/* BTF names it, and it is refused: left out of the build, or forbidden */
	f->why = rc ? "" : f->state == MB_YES ? "known to the kernel, but refused" : "refused";
	f->state = rc ? MB_YES : MB_NO;
	f->from = "probe";
}

/* Does the kernel's enum have this number? -1: it has no such enum. */
static int enum_has(const struct list *l, const struct enumeration *e, int number)
{
	int id = l->btf ? btf__find_by_name_kind(l->btf, e->in, BTF_KIND_ENUM) : -1;
	const struct btf_type *t = id > 0 ? btf__type_by_id(l->btf, (uint32_t)id) : NULL;

	if (!t)
		return -1;
	for (uint32_t i = 0; i < btf_vlen(t); i++) {
		const char *name = btf__name_by_offset(l->btf, btf_enum(t)[i].name_off);

		if (btf_enum(t)[i].val == number && strncmp(name, "__MAX", 5) != 0)
			return 1;
	}
	return 0;
}

static void add_enumeration(struct list *l, const struct enumeration *e)
{
	const char *name;

	for (int i = 0; (name = e->name(i)) != NULL; i++) {
		int there;
		struct mb_feature *f;

		if (strcmp(name, "unspec") == 0)
			continue;
		f = add(l, e->group, name);
		if (!f)
			return;
		there = enum_has(l, e, i);
		if (there >= 0) {
			f->state = there ? MB_YES : MB_NO;
			f->from = "btf";
			f->why = there ? "" : "this kernel is older than that";
		} else {
			f->why = "the kernel has no BTF to tell";
		}
		if (e->probe && (l->probe || there < 0) && there != 0)
			probe(f, e, i);
	}
}

static void add_helpers(struct list *l)
{
	int id = l->btf ? btf__find_by_name_kind(l->btf, "bpf_func_id", BTF_KIND_ENUM) : -1;
	const struct btf_type *t = id > 0 ? btf__type_by_id(l->btf, (uint32_t)id) : NULL;

	for (uint32_t i = 0; t && i < btf_vlen(t); i++) {
		const char *name = btf__name_by_offset(l->btf, btf_enum(t)[i].name_off);
		char lower[64];
		struct mb_feature *f;

		if (strncmp(name, "BPF_FUNC_", 9) != 0)
			continue;
		lower_name(name + 9, lower, sizeof(lower));
		if (is_marker(lower))
			continue;
		f = add(l, "helper", lower);
		if (!f)
			return;
		f->state = MB_YES;
		f->from = "btf";
	}
}

/* Functions that carry the mark of a kfunc (Linux 6.9; before, nothing tells). */
static void add_kfuncs(struct list *l)
{
	uint32_t n = l->btf ? btf__type_cnt(l->btf) : 0;

	for (uint32_t id = 1; id < n; id++) {
		const struct btf_type *t = btf__type_by_id(l->btf, id), *func;
		struct mb_feature *f;

		if (!btf_is_decl_tag(t) || btf_decl_tag(t)->component_idx != -1 ||
		    strcmp(btf__name_by_offset(l->btf, t->name_off), "bpf_kfunc") != 0)
			continue;
		func = btf__type_by_id(l->btf, t->type);
		f = func && btf_is_func(func) ?
			    add(l, "kfunc", btf__name_by_offset(l->btf, func->name_off)) :
			    NULL;
		if (l->full)
			return;
		if (f) {
			f->state = MB_YES;
			f->from = "btf";
		}
	}
}

/* ---- all -------------------------------------------------------------------------------------------- */

int mb_features_read(bool ask, struct mb_feature **out, size_t *n, struct mb_error *err)
{
	struct list l = { .probe = ask };
	struct mb_kernel *kernel;
	struct mb_btf *btf;
	int rc = mb_kernel_get(&kernel, err);

	if (rc)
		return rc;
	if (mb_kbtf_vmlinux(mb_kernel_types(kernel), &btf, NULL) == 0)
		l.btf = btf->btf;
	add_rows(&l);
	for (size_t i = 0; i < sizeof(enumerations) / sizeof(enumerations[0]); i++)
		add_enumeration(&l, &enumerations[i]);
	add_helpers(&l);
	add_kfuncs(&l);
	mb_kernel_unref(kernel);
	if (l.full) {
		free(l.items);
		return mb_fail(err, ENOMEM, "list features of", "the kernel", "out of memory");
	}
	*out = l.items;
	*n = l.n;
	return 0;
}

void mb_features_free(struct mb_feature *features)
{
	free(features);
}
