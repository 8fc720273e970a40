/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an object asks for that this libbpf or this kernel has not: said before the load, by name and with
 * the version that has it. libbpf itself says less, or drops it in silence.
 */
#include "internal.h"

enum { F_LINK = 1 << 13 };

/* Sections by their beginnings, and the first libbpf that knows them (its minor version after 1). */
static const struct {
	const char *prefix;
	unsigned int minor;
} sections[] = {
	{ ".struct_ops.link", 2 },
	{ "?.struct_ops", 5 },
	{ "tcx/", 3 },
	{ "tc/ingress", 3 },
	{ "tc/egress", 3 },
	{ "netkit/", 3 },
	{ "netfilter", 3 },
	{ "uprobe.multi", 3 },
	{ "uretprobe.multi", 3 },
	{ "usdt.s", 3 },
	{ "struct_ops.s", 3 },
	{ "cgroup/connect_unix", 3 },
	{ "cgroup/sendmsg_unix", 3 },
	{ "cgroup/recvmsg_unix", 3 },
	{ "cgroup/getpeername_unix", 3 },
	{ "cgroup/getsockname_unix", 3 },
	{ "sk_skb/verdict", 4 },
	{ "kprobe.session", 5 },
	{ "uprobe.session", 6 },
	{ "fsession", 7 },
};

static unsigned int known_since(const char *section)
{
	for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++)
		if (strncmp(section, sections[i].prefix, strlen(sections[i].prefix)) == 0)
			return sections[i].minor;
	return 0;
}

static int lacks(const struct mb_object *obj, const char *op, const char *what, const char *section,
		 unsigned int minor, struct mb_error *err)
{
	mb_fail(err, EOPNOTSUPP, op, obj->name, "libbpf %s does not know the section '%s'%s%s",
		mb_libbpf_version(), section, *what ? " of " : "", what);
	mb_error_hint(err, "libbpf 1.%u does", minor);
	return -EOPNOTSUPP;
}

int mb_lack_section(const struct mb_object *obj, const char *section, struct mb_error *err)
{
	const char *bare = section + (*section == '?');

	/* programs' are told at load, and only if they are to be loaded */
	if (strncmp(bare, ".struct_ops", 11) != 0 || libbpf_major_version() > 1 ||
	    known_since(section) <= libbpf_minor_version())
		return 0;
	return lacks(obj, "open object", "", section, known_since(section), err);
}

int mb_lack_load(const struct mb_object *obj, struct mb_error *err)
{
	for (size_t i = 0; i < obj->nprogs; i++) {
		struct bpf_program *prog = obj->progs[i]->bpf;
		const char *section = prog ? bpf_program__section_name(prog) : NULL;

		if (section && bpf_program__autoload(prog) &&
		    bpf_program__type(prog) == BPF_PROG_TYPE_UNSPEC && known_since(section))
			return lacks(obj, "load object", obj->progs[i]->name, section,
				     known_since(section), err);
	}
	for (size_t i = 0; i < obj->nmaps; i++) {
		const struct mb_map *map = obj->maps[i];

		if (!map->bpf || !mb_map_is_ops(map) || !bpf_map__autocreate(map->bpf) ||
		    !(bpf_map__map_flags(map->bpf) & F_LINK) ||
		    mb_kernel_has_enumerator("BPF_STRUCT_OPS"))
			continue;
		mb_fail(err, EOPNOTSUPP, "load object", obj->name,
			"this kernel has no links for struct_ops, as '%s' wants", map->name);
		mb_error_hint(err, "it needs Linux 6.4; SEC(\".struct_ops\") does without");
		return -EOPNOTSUPP;
	}
	return 0;
}
