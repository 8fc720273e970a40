/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * struct_ops: a map whose value is a table of functions that the kernel calls (a congestion control, a
 * scheduler). Those of SEC(".struct_ops.link") are held by a link; those of SEC(".struct_ops") stay
 * until their map's element is deleted.
 */
#include "internal.h"

enum { F_LINK = 1 << 13 };

bool mb_map_is_ops(const struct mb_map *map)
{
	return map->info.type == BPF_MAP_TYPE_STRUCT_OPS;
}

static bool has_link(const struct mb_map *ops)
{
	return ops->bpf && bpf_map__map_flags(ops->bpf) & F_LINK;
}

static int failed(const struct mb_map *ops, int rc, struct mb_error *err)
{
	mb_fail(err, -rc, "attach map", ops->name, "%s", mb_error_text(-rc));
	if (rc == -EEXIST)
		mb_error_hint(err, "one of that name is in force");
	else if (rc == -EBUSY)
		mb_error_hint(err,
			      has_link(ops) ? "another one is in force" : "it is in force already");
	else if (rc == -EINVAL)
		mb_error_hint(err,
			      "the kernel misses something in it: a name, or a function that is "
			      "not optional");
	return rc;
}

int mb_ops_hook(struct mb_map *ops, struct mb_hook *hook, struct mb_error *err)
{
	struct mb_capture cap;
	int rc = 0;

	if (!mb_map_is_ops(ops)) {
		mb_fail(err, EINVAL, "attach map", ops->name, "a map of type %s is not attached",
			mb_map_type_name(ops->info.type));
		mb_error_hint(err, "struct_ops maps are; programs are by prog:attach");
		return -EINVAL;
	}
	if (!ops->bpf)
		return mb_fail(err, EOPNOTSUPP, "attach map", ops->name,
			       "only maps of an object of ours can be attached");
	*hook = (struct mb_hook){ .fd = -1, .target = -1, .prog = -1 };
	mb_capture_begin(&cap);
	hook->bpf = bpf_map__attach_struct_ops(ops->bpf);
	if (!hook->bpf)
		rc = failed(ops, mb_errno(), err);
	mb_capture_end(&cap, err);
	if (!rc && has_link(ops))
		hook->fd = bpf_link__fd(hook->bpf);
	return rc;
}

#if MB_LIBBPF_AT_LEAST(1, 2)
/* libbpf fills the map's element only when it attaches or updates itself. One from a pin is none of its
 * links: so let it try to attach, which the kernel refuses since that name is in force. */
static int update_pinned(struct mb_link *link, struct mb_map *ops)
{
	struct bpf_link *tried = bpf_map__attach_struct_ops(ops->bpf);

	if (tried) { /* another name: the link cannot take it */
		bpf_link__destroy(tried);
		return -EINVAL;
	}
	return bpf_link_update(link->hook.fd, ops->fd, NULL) == 0 ? 0 : -errno;
}

int mb_ops_update(struct mb_link *link, struct mb_map *ops, struct mb_error *err)
{
	struct bpf_link_info info;
	int rc;

	if (!ops->bpf)
		return mb_fail(err, EOPNOTSUPP, "update link", link->name,
			       "only maps of an object of ours can be attached");
	if (link->hook.fd < 0 || !has_link(ops)) {
		mb_fail(err, EOPNOTSUPP, "update link", link->name,
			"only those of SEC(\".struct_ops.link\") are swapped in one step");
		mb_error_hint(err,
			      "link:replace attaches the new one and then detaches the old one");
		return -EOPNOTSUPP;
	}
	if (mb_link_describe(link->hook.fd, &info) == 0 && info.type != BPF_LINK_TYPE_STRUCT_OPS)
		return mb_fail(err, EINVAL, "update link", link->name,
			       "it holds a program, and '%s' is a struct_ops map", ops->name);
	rc = link->hook.bpf ? bpf_link__update_map(link->hook.bpf, ops->bpf) :
			      update_pinned(link, ops);
	if (!rc)
		return 0;
	if (rc == -EOPNOTSUPP || rc == -ENOTSUPP) {
		mb_fail(err, EOPNOTSUPP, "update link", link->name,
			"the kernel cannot swap struct_ops of this type");
		mb_error_hint(err, "link:replace with gap = true detaches the old one first");
		return -EOPNOTSUPP;
	}
	mb_fail(err, -rc, "update link", link->name, "%s", mb_error_text(-rc));
	if (rc == -EINVAL)
		mb_error_hint(err, "is it of the same type and name as the one in force?");
	return rc;
}
#else
int mb_ops_update(struct mb_link *link, struct mb_map *ops, struct mb_error *err)
{
	(void)ops;
	mb_fail(err, EOPNOTSUPP, "update link", link->name, "this libbpf cannot swap struct_ops");
	mb_error_hint(err, "libbpf 1.2 and Linux 6.4 can");
	return -EOPNOTSUPP;
}
#endif
