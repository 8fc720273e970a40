/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Another program in a link's place: swapped by the kernel in one step, or attached beside the old one,
 * which then ends, or, only if a gap is allowed, after the old one's end. Until the new one is in force
 * the old one is.
 */
#include "engine/hold.h"
#include "internal.h"

static const char *name_of(const struct mb_program *prog, const struct mb_map *ops)
{
	return prog ? prog->name : ops->name;
}

static int check(const struct mb_link *link, struct mb_program *prog, struct mb_map *ops,
		 const char *op, struct mb_error *err)
{
	int rc = prog ? mb_program_check(prog, op, err) : mb_map_check(ops, op, err);

	if (rc)
		return rc;
	if (link->closed)
		return mb_fail(err, EBADF, op, link->name, "the link is closed");
	rc = mb_refuse(op, link->name, err);
	if (rc)
		return rc;
	if (ops && !mb_map_is_ops(ops))
		return mb_fail(err, EINVAL, op, link->name, "map '%s' is no struct_ops map",
			       ops->name);
	return 0;
}

/* ---- in one step ----------------------------------------------------------------------------------------- */

/* Kinds whose programs the kernel swaps. */
static bool swaps(uint32_t type)
{
	switch (type) {
	case BPF_LINK_TYPE_CGROUP:
	case BPF_LINK_TYPE_ITER:
	case BPF_LINK_TYPE_NETNS:
	case BPF_LINK_TYPE_XDP:
	case BPF_LINK_TYPE_STRUCT_OPS:
	case 11: /* tcx */
	case 13: /* netkit */
	case 14: /* sockmap */
		return true;
	default:
		return false;
	}
}

bool mb_link_updatable(const struct mb_link *link)
{
	struct bpf_link_info info;

	if (link->closed)
		return false;
	if (link->hook.bare)
		return true;
	return link->hook.fd >= 0 && mb_link_describe(link->hook.fd, &info) == 0 &&
	       swaps(info.type);
}

static int cannot(const struct mb_link *link, const char *name, const char *type,
		  struct mb_error *err)
{
	mb_fail(err, EOPNOTSUPP, "update link", link->name,
		"the kernel cannot swap '%s' in on a link of type %s", name, type);
	mb_error_hint(err, "link:replace attaches the new one and then detaches the old one");
	return -EOPNOTSUPP;
}

/* Why did the kernel refuse? */
static int refused(const struct mb_link *link, struct mb_program *prog, uint32_t type, int rc,
		   struct mb_error *err)
{
	struct bpf_prog_info info = { 0 };
	struct bpf_link_info now;
	uint32_t len = sizeof(info);
	int fd;

	if (rc == -EOPNOTSUPP || rc == -ENOTSUPP)
		return cannot(link, prog->name, mb_link_type_name(type), err);
	if (rc == -ENOLINK)
		return mb_fail(err, ENOLINK, "update link", link->name,
			       "what it was attached to has gone");
	fd = mb_link_describe(link->hook.fd, &now) == 0 ? bpf_prog_get_fd_by_id(now.prog_id) : -1;
	if (fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &len) == 0 && info.type != prog->type)
		mb_fail(err, -rc, "update link", link->name,
			"'%s' is of type %s, and the link's of %s", prog->name,
			mb_program_type_name(prog->type), mb_program_type_name(info.type));
	else if (rc == -EINVAL)
		mb_fail(err, EINVAL, "update link", link->name,
			"'%s' was not loaded for what the link is on (its section differs)",
			prog->name);
	else
		mb_fail(err, -rc, "update link", link->name, "%s", mb_error_text(-rc));
	if (fd >= 0)
		close(fd);
	return rc;
}

static int swap_program(struct mb_link *link, struct mb_program *prog, struct mb_error *err)
{
	const struct mb_bare *bare = link->hook.bare;
	struct bpf_link_info info;
	int rc;

	if (bare) {
		if (link->prog && link->prog->type != prog->type)
			return mb_fail(err, EINVAL, "update link", link->name,
				       "'%s' is of type %s, and the link's of %s", prog->name,
				       mb_program_type_name(prog->type),
				       mb_program_type_name(link->prog->type));
		rc = bare->swap(&link->hook, prog);
		return rc ? mb_fail(err, rc, "update link", link->name, "%s", mb_error_text(-rc)) :
			    0;
	}
	if (link->hook.fd < 0)
		return cannot(link, prog->name, link->ops ? "struct_ops" : "usdt", err);
	rc = mb_link_describe(link->hook.fd, &info);
	if (rc)
		return mb_fail(err, rc, "update link", link->name, "%s", mb_error_text(-rc));
	if (!swaps(info.type))
		return cannot(link, prog->name, mb_link_type_name(info.type), err);
	if (info.type == BPF_LINK_TYPE_STRUCT_OPS)
		return mb_fail(err, EINVAL, "update link", link->name,
			       "it takes another struct_ops map, and no program");
	if (bpf_link_update(link->hook.fd, prog->fd, NULL) == 0)
		return 0;
	return refused(link, prog, info.type, -errno, err);
}

int mb_link_update(struct mb_link *link, struct mb_program *prog, struct mb_map *ops,
		   struct mb_error *err)
{
	int rc = check(link, prog, ops, "update link", err);
	char *name;

	if (rc)
		return rc;
	name = strdup(name_of(prog, ops));
	if (!name)
		return mb_fail(err, ENOMEM, "update link", link->name, "out of memory");
	rc = prog ? swap_program(link, prog, err) : mb_ops_update(link, ops, err);
	if (rc)
		free(name);
	else
		mb_link_take(link, prog, ops, name);
	return rc;
}

/* ---- one after the other ----------------------------------------------------------------------------------- */

static int attach(struct mb_link *link, struct mb_program *prog, struct mb_map *ops,
		  struct mb_hook *hook, struct mb_error *err)
{
	return prog ? mb_hook_attach(prog, link->how, hook, err) : mb_ops_hook(ops, hook, err);
}

/* The new link's pin comes beside the old one's and takes its name, so that the path is never without
 * one. */
static int move_pin(const struct mb_link *link, const struct mb_hook *hook, struct mb_error *err)
{
	if (!link->pin_path)
		return 0;
	if (hook->fd < 0 || hook->nmore)
		return mb_fail(err, EOPNOTSUPP, "replace link", link->name,
			       "what takes its place cannot be pinned as it is");
	return mb_pin_replace(hook->fd, link->pin_path, 0, link->obj, "replace link", err);
}

static void take_hook(struct mb_link *link, struct mb_hook *hook, struct mb_program *prog,
		      struct mb_map *ops, char *name)
{
	mb_hook_end(&link->hook);
	link->hook = *hook;
	mb_link_take(link, prog, ops, name);
}

/* The hook takes one at a time. The old one is put back when the new one does not get there. *name is
 * the new one's; NULL: the link has taken it, though perhaps it is pinned no more. */
static int with_gap(struct mb_link *link, struct mb_program *prog, struct mb_map *ops, char **name,
		    struct mb_error *err)
{
	char *pin = link->pin_path ? strdup(link->pin_path) : NULL;
	struct mb_hook hook;
	MB_ERROR(again);
	int rc = 0, back;

	if (link->pin_path && !pin)
		rc = mb_fail(err, ENOMEM, "replace link", link->name, "out of memory");
	else if (pin) /* another one's by now is left alone */
		rc = mb_pin_remove(&link->pin_path, link->hook.fd, "replace link", err);
	if (rc) {
		free(pin);
		return rc;
	}
	mb_hook_end(&link->hook);
	rc = attach(link, prog, ops, &hook, err);
	back = rc ? attach(link, link->prog, link->ops, &hook, &again) : 0;
	if (back) {
		mb_error_hint(err, "nor could the old one be attached again: %s", again.cause);
		mb_error_fini(&again);
		mb_link_close(link);
		free(pin);
		return rc;
	}
	link->hook = hook;
	if (!rc) {
		mb_link_take(link, prog, ops, *name);
		*name = NULL;
	}
	if (pin && mb_pin_fd(hook.fd, pin, link->obj, "pin link", &again) == 0) {
		link->pin_path = pin;
	} else if (pin) {
		if (!rc)
			rc = mb_fail(err, again.code, "replace link", link->name,
				     "it is replaced, but not pinned any more: %s", again.cause);
		mb_error_fini(&again);
		free(pin);
	}
	return rc;
}

static int overlap(struct mb_link *link, struct mb_program *prog, struct mb_map *ops, bool gap,
		   char **name, const char **how, struct mb_error *err)
{
	struct mb_hook hook;
	int rc;

	if (!link->how || (!link->prog && !link->ops)) {
		mb_fail(err, EOPNOTSUPP, "replace link", link->name,
			"it comes from a pin, and the kernel cannot swap programs of its kind");
		mb_error_hint(err, "attach the new program, then detach this link");
		return -EOPNOTSUPP;
	}
	rc = attach(link, prog, ops, &hook, err);
	if (!rc) {
		rc = move_pin(link, &hook, err);
		if (rc) {
			mb_hook_end(&hook);
			return rc;
		}
		take_hook(link, &hook, prog, ops, *name);
		*name = NULL;
		*how = "overlapped";
		return 0;
	}
	if (rc != -EBUSY && rc != -EEXIST)
		return rc;
	if (!gap) {
		mb_error_hint(err, "the old one has to go first: link:replace(…, { gap = true }) "
				   "allows the time without either");
		return rc;
	}
	if (err)
		mb_error_fini(err);
	rc = with_gap(link, prog, ops, name, err);
	if (!rc)
		*how = "gap";
	return rc;
}

int mb_link_replace(struct mb_link *link, struct mb_program *prog, struct mb_map *ops, bool gap,
		    const char **how, struct mb_error *err)
{
	int rc = check(link, prog, ops, "replace link", err);
	struct mb_error refusal;
	char *name;

	if (rc)
		return rc;
	mb_error_init(&refusal);
	rc = mb_link_update(link, prog, ops, &refusal);
	if (!rc) {
		*how = "updated";
		return 0;
	}
	if (rc != -EOPNOTSUPP) {
		if (err)
			*err = refusal;
		else
			mb_error_fini(&refusal);
		return rc;
	}
	mb_error_fini(&refusal);
	name = strdup(name_of(prog, ops));
	if (!name)
		return mb_fail(err, ENOMEM, "replace link", link->name, "out of memory");
	rc = overlap(link, prog, ops, gap, &name, how, err);
	free(name);
	return rc;
}
