/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A program where it is attached. Holds its object until it is closed; how it came about is
 * attach.c's.
 */
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

/* ---- making ---------------------------------------------------------------------------------------- */

static void end_bpf(struct bpf_link *bpf, int fd)
{
	if (bpf)
		bpf_link__destroy(bpf);
	if (fd >= 0)
		close(fd);
}

static struct mb_link *link_new(const char *name, struct bpf_link *bpf, int fd,
				struct mb_error *err)
{
	struct mb_link *link = calloc(1, sizeof(*link));

	if (link)
		link->name = strdup(name);
	if (!link || !link->name) {
		free(link);
		end_bpf(bpf, fd);
		mb_fail(err, ENOMEM, "attach program", name, "out of memory");
		return NULL;
	}
	link->refs = 1;
	link->bpf = bpf;
	link->fd = bpf ? bpf_link__fd(bpf) : fd;
	return link;
}

static void join_object(struct mb_link *link, struct mb_object *obj)
{
	link->obj = mb_object_ref(obj);
	link->next = obj->links;
	obj->links = link;
}

int mb_link_new(struct mb_program *prog, struct bpf_link *bpf, int fd, struct mb_link **out,
		struct mb_error *err)
{
	struct mb_link *link = link_new(prog->name, bpf, fd, err);

	if (!link)
		return -ENOMEM;
	join_object(link, prog->obj);
	*out = link;
	return 0;
}

static int describe(const struct mb_link *link, struct bpf_link_info *info)
{
	uint32_t len = sizeof(*info);

	memset(info, 0, sizeof(*info));
	return bpf_obj_get_info_by_fd(link->fd, info, &len) == 0 ? 0 : -errno;
}

int mb_link_from_fd(int fd, const char *path, struct mb_link **out, struct mb_error *err)
{
	const char *slash = strrchr(path, '/');
	struct mb_link *link = link_new(slash ? slash + 1 : path, NULL, fd, err);

	if (!link)
		return -ENOMEM;
	link->pin_path = strdup(path);
	if (!link->pin_path) {
		mb_link_unref(link);
		return mb_fail(err, ENOMEM, "open pin", path, "out of memory");
	}
	*out = link;
	return 0;
}

struct mb_link *mb_link_ref(struct mb_link *link)
{
	link->refs++;
	return link;
}

void mb_link_unref(struct mb_link *link)
{
	if (!link)
		return;
	if (link->refs == 1)
		mb_link_close(link);
	if (--link->refs)
		return;
	free(link->name);
	free(link->pin_path);
	free(link);
}

/* ---- the end ----------------------------------------------------------------------------------------- */

static void leave_object(struct mb_link *link)
{
	struct mb_object *obj = link->obj;

	if (!obj)
		return;
	for (struct mb_link **at = &obj->links; *at; at = &(*at)->next)
		if (*at == link) {
			*at = link->next;
			break;
		}
	link->obj = NULL;
	mb_object_unref(obj);
}

/* libbpf would switch a perf event (kprobe, uprobe) off although its pin should keep it going. What
 * is disconnected is not closed by it; the perf event's own fd, which it does not tell, stays. */
static void end_pinned(struct mb_link *link)
{
	struct bpf_link_info info;

	if (describe(link, &info) == 0 && info.type != BPF_LINK_TYPE_PERF_EVENT) {
		bpf_link__destroy(link->bpf);
		return;
	}
	bpf_link__disconnect(link->bpf);
	bpf_link__destroy(link->bpf);
	close(link->fd);
}

void mb_link_close(struct mb_link *link)
{
	if (link->fd < 0)
		return;
	if (link->bpf && link->pin_path)
		end_pinned(link);
	else
		end_bpf(link->bpf, link->bpf ? -1 : link->fd);
	link->bpf = NULL;
	link->fd = -1;
	leave_object(link);
}

int mb_link_detach(struct mb_link *link, struct mb_error *err)
{
	int rc;

	if (link->fd < 0)
		return mb_fail(err, EBADF, "detach link", link->name, "the link is closed");
	/* others may hold the link, too; kinds that cannot be detached go with the last (EINVAL: the
	 * fd is a perf event's) */
	if (bpf_link_detach(link->fd) != 0 && errno != EOPNOTSUPP && errno != ENOLINK &&
	    errno != EINVAL)
		return mb_fail(err, errno, "detach link", link->name, "%s", mb_error_text(errno));
	if (link->pin_path && (rc = mb_link_unpin(link, err)) != 0)
		return rc;
	mb_link_close(link);
	return 0;
}

/* ---- asking ------------------------------------------------------------------------------------------ */

bool mb_link_closed(const struct mb_link *link)
{
	return link->fd < 0;
}

const char *mb_link_name(const struct mb_link *link)
{
	return link->name;
}

int mb_link_info(struct mb_link *link, struct mb_link_info *out, struct mb_error *err)
{
	struct bpf_link_info info;
	int rc;

	if (link->fd < 0)
		return mb_fail(err, EBADF, "describe link", link->name, "the link is closed");
	memset(out, 0, sizeof(*out));
	rc = describe(link, &info);
	out->program = link->name;
	out->pin_path = link->pin_path;
	out->fd = link->fd;
	out->type = rc ? "perf_event" : mb_link_type_name(info.type); /* a perf event's own fd */
	if (rc)
		return 0;
	out->id = info.id;
	out->prog_id = info.prog_id;
	if (info.type == BPF_LINK_TYPE_XDP)
		out->ifindex = info.xdp.ifindex;
	return 0;
}

/* ---- operations --------------------------------------------------------------------------------------- */

/* From now on the link is prog's: it lives as long as prog's object, not as the one before. */
static void take_program(struct mb_link *link, struct mb_program *prog, char *name)
{
	free(link->name);
	link->name = name;
	if (!link->obj || !prog->obj || link->obj == prog->obj)
		return;
	leave_object(link);
	join_object(link, prog->obj);
}

int mb_link_update(struct mb_link *link, struct mb_program *prog, struct mb_error *err)
{
	int rc = mb_program_check(prog, "update link", err), code;
	char *name;

	if (rc)
		return rc;
	if (link->fd < 0)
		return mb_fail(err, EBADF, "update link", link->name, "the link is closed");
	name = strdup(prog->name);
	if (!name)
		return mb_fail(err, ENOMEM, "update link", link->name, "out of memory");
	if (bpf_link_update(link->fd, prog->fd, NULL) == 0) {
		take_program(link, prog, name);
		return 0;
	}
	code = errno;
	free(name);
	if (code == EINVAL || code == EOPNOTSUPP || code == ENOTSUPP) {
		struct mb_link_info info;

		mb_link_info(link, &info, NULL);
		mb_fail(err, EOPNOTSUPP, "update link", link->name,
			"the kernel cannot swap '%s' in on a link of type %s", prog->name,
			info.type);
		mb_error_hint(err, "attach the new program, then detach the old link");
		return -EOPNOTSUPP;
	}
	return mb_fail(err, code, "update link", link->name, "%s", mb_error_text(code));
}

int mb_link_pin(struct mb_link *link, const char *path, struct mb_error *err)
{
	char *kept;
	int rc;

	if (link->fd < 0)
		return mb_fail(err, EBADF, "pin link", link->name, "the link is closed");
	if (link->pin_path)
		return mb_fail(err, EEXIST, "pin link", link->name, "it is pinned at %s",
			       link->pin_path);
	kept = strdup(path);
	if (!kept)
		return mb_fail(err, ENOMEM, "pin link", link->name, "out of memory");
	rc = mb_pin_fd(link->fd, path, "pin link", err);
	if (rc)
		free(kept);
	else
		link->pin_path = kept;
	return rc;
}

int mb_link_unpin(struct mb_link *link, struct mb_error *err)
{
	if (link->fd < 0)
		return mb_fail(err, EBADF, "unpin link", link->name, "the link is closed");
	if (!link->pin_path)
		return mb_fail(err, ENOENT, "unpin link", link->name, "it is not pinned by us");
	return mb_pin_remove(&link->pin_path, link->fd, "unpin link", err);
}
