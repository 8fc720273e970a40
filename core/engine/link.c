/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A program where it is attached. Holds its object until it is closed; how it came about is
 * attach.c's, what the kernel tells of it link_info.c's, another program in its place replace.c's.
 */
#include "engine/hold.h"
#include "internal.h"

/* ---- hooks --------------------------------------------------------------------------------------------- */

void mb_hook_end(struct mb_hook *hook)
{
	for (size_t i = 0; i < hook->nmore; i++)
		close(hook->more[i]);
	free(hook->more);
	if (hook->bpf)
		bpf_link__destroy(hook->bpf); /* its fd, too */
	else if (hook->fd >= 0)
		close(hook->fd);
	if (hook->bare)
		hook->bare->end(hook);
	*hook = (struct mb_hook){ .fd = -1, .target = -1, .prog = -1 };
}

/* ---- options, kept --------------------------------------------------------------------------------------- */

static const size_t texts[] = {
	offsetof(struct mb_attach, ifname),	offsetof(struct mb_attach, mode),
	offsetof(struct mb_attach, direction),	offsetof(struct mb_attach, cgroup),
	offsetof(struct mb_attach, netns),	offsetof(struct mb_attach, category),
	offsetof(struct mb_attach, tracepoint), offsetof(struct mb_attach, function),
	offsetof(struct mb_attach, syscall),	offsetof(struct mb_attach, binary),
	offsetof(struct mb_attach, usdt),	offsetof(struct mb_attach, event),
	offsetof(struct mb_attach, family),	offsetof(struct mb_attach, hook),
};
#define NTEXTS (sizeof(texts) / sizeof(texts[0]))

static const char **text_at(struct mb_attach *how, size_t i)
{
	return (const char **)((char *)how + texts[i]);
}

static const char *move(char **to, const char *text)
{
	const char *kept = *to;

	*to = stpcpy(*to, text) + 1;
	return kept;
}

/* The caller's options in one piece of memory. What they point to otherwise (maps, links to be next to)
 * may not be there any more when they are used again. */
static struct mb_attach *how_copy(const struct mb_attach *how)
{
	static const struct mb_attach none;
	struct mb_attach *copy, from = how ? *how : none;
	size_t n = from.nfunctions, size = sizeof(*copy) + n * (sizeof(char *) + sizeof(uint64_t));
	const char **functions;
	char *to;

	for (size_t i = 0; i < NTEXTS; i++)
		size += *text_at(&from, i) ? strlen(*text_at(&from, i)) + 1 : 0;
	for (size_t i = 0; i < n; i++)
		size += strlen(from.functions[i]) + 1;
	copy = malloc(size);
	if (!copy)
		return NULL;
	*copy = from;
	functions = (const char **)(copy + 1);
	to = (char *)(functions + n);
	if (from.cookies)
		copy->cookies = memcpy(to, from.cookies, n * sizeof(uint64_t));
	to += n * sizeof(uint64_t);
	for (size_t i = 0; i < NTEXTS; i++)
		if (*text_at(&from, i))
			*text_at(copy, i) = move(&to, *text_at(&from, i));
	for (size_t i = 0; i < n; i++)
		functions[i] = move(&to, from.functions[i]);
	copy->functions = n ? functions : NULL;
	copy->map = NULL;
	if (copy->near_link || copy->near_prog)
		copy->place = MB_PLACE_ANY;
	copy->near_link = NULL;
	copy->near_prog = NULL;
	return copy;
}

/* ---- making ---------------------------------------------------------------------------------------------- */

static struct mb_link *link_new(const char *name)
{
	struct mb_link *link = calloc(1, sizeof(*link));

	if (link)
		link->name = strdup(name);
	if (!link || !link->name) {
		free(link);
		return NULL;
	}
	link->refs = 1;
	link->hook = (struct mb_hook){ .fd = -1, .target = -1, .prog = -1 };
	return link;
}

static void join_object(struct mb_link *link, struct mb_object *obj)
{
	if (!obj)
		return;
	link->obj = mb_object_ref(obj);
	link->next = obj->links;
	obj->links = link;
}

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

void mb_link_take(struct mb_link *link, struct mb_program *prog, struct mb_map *ops, char *name)
{
	struct mb_object *obj = prog ? prog->obj : ops->obj;
	struct mb_program *old_prog = link->prog;
	struct mb_map *old_ops = link->ops;

	free(link->name);
	link->name = name;
	link->prog = prog ? mb_program_ref(prog) : NULL;
	link->ops = ops ? mb_map_ref(ops) : NULL;
	mb_program_unref(old_prog);
	mb_map_unref(old_ops);
	if (!link->obj || !obj || obj == link->obj) /* one from a pin belongs to no object */
		return;
	leave_object(link);
	join_object(link, obj);
}

static int link_make(struct mb_program *prog, struct mb_map *ops, const struct mb_attach *how,
		     struct mb_link **out, struct mb_error *err)
{
	const char *what = prog ? "attach program" : "attach map";
	const char *name = prog ? prog->name : ops->name;
	struct mb_link *link = link_new(name);
	int rc;

	if (link)
		link->how = how_copy(how);
	if (!link || !link->how) {
		mb_link_unref(link);
		return mb_fail(err, ENOMEM, what, name, "out of memory");
	}
	rc = prog ? mb_hook_attach(prog, how, &link->hook, err) :
		    mb_ops_hook(ops, &link->hook, err);
	if (rc) {
		mb_link_unref(link);
		return rc;
	}
	link->prog = prog ? mb_program_ref(prog) : NULL;
	link->ops = ops ? mb_map_ref(ops) : NULL;
	join_object(link, prog ? prog->obj : ops->obj);
	*out = link;
	return 0;
}

int mb_program_attach(struct mb_program *prog, const struct mb_attach *how, struct mb_link **out,
		      struct mb_error *err)
{
	int rc = mb_program_check(prog, "attach program", err);

	if (!rc)
		rc = mb_refuse("attach program", prog->name, err);
	return rc ? rc : link_make(prog, NULL, how, out, err);
}

int mb_ops_attach(struct mb_map *ops, struct mb_link **out, struct mb_error *err)
{
	int rc = mb_map_check(ops, "attach map", err);

	if (!rc)
		rc = mb_refuse("attach map", ops->name, err);
	return rc ? rc : link_make(NULL, ops, NULL, out, err);
}

int mb_link_from_fd(int fd, const char *path, struct mb_link **out, struct mb_error *err)
{
	const char *slash = path ? strrchr(path, '/') : NULL;
	struct mb_link *link = link_new(slash ? slash + 1 : path ? path : "link");

	if (link) {
		link->hook.fd = fd;
		link->pin_path = path ? strdup(path) : NULL;
	} else {
		close(fd);
	}
	if (!link || (path && !link->pin_path)) {
		mb_link_unref(link);
		return mb_fail(err, ENOMEM, "open link", path ? path : "by id", "out of memory");
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
	free(link->how);
	free(link);
}

/* ---- the end ----------------------------------------------------------------------------------------------- */

void mb_link_close(struct mb_link *link)
{
	struct mb_program *prog = link->prog;
	struct mb_map *ops = link->ops;

	if (link->closed)
		return;
	link->closed = true;
	mb_hook_end(&link->hook);
	link->prog = NULL;
	link->ops = NULL;
	mb_program_unref(prog);
	mb_map_unref(ops);
	leave_object(link);
}

/* Others may hold the link, too; kinds that cannot be detached go with the last (EINVAL: the fd is a perf
 * event's). 0 or -errno. */
static int detach(int fd)
{
	if (fd < 0 || bpf_link_detach(fd) == 0 || errno == EOPNOTSUPP || errno == ENOLINK ||
	    errno == EINVAL)
		return 0;
	return -errno;
}

int mb_link_detach(struct mb_link *link, struct mb_error *err)
{
	int rc;

	if (link->closed)
		return mb_fail(err, EBADF, "detach link", link->name, "the link is closed");
	rc = mb_refuse("detach link", link->name, err);
	if (rc)
		return rc;
	rc = detach(link->hook.fd);
	for (size_t i = 0; i < link->hook.nmore && !rc; i++)
		rc = detach(link->hook.more[i]);
	if (rc)
		return mb_fail(err, rc, "detach link", link->name, "%s", mb_error_text(-rc));
	if (link->pin_path && (rc = mb_link_unpin(link, err)) != 0)
		return rc;
	mb_link_close(link);
	return 0;
}

/* ---- asking ------------------------------------------------------------------------------------------------ */

bool mb_link_closed(const struct mb_link *link)
{
	return link->closed;
}

const char *mb_link_name(const struct mb_link *link)
{
	return link->name;
}

int mb_link_fd(const struct mb_link *link)
{
	return link->hook.nmore ? -1 : link->hook.fd;
}

/* ---- pins -------------------------------------------------------------------------------------------------- */

/* The kernel empties a prog array when nobody in user space holds it any more: the tail calls of a pinned
 * link would go nowhere after this process. */
static int keeps_prog_arrays(struct mb_link *link, struct mb_error *err)
{
	uint32_t ids[64], len = sizeof(struct bpf_prog_info);
	struct bpf_prog_info info = { .nr_map_ids = 64, .map_ids = (uint64_t)(uintptr_t)ids };

	if (!link->prog || !link->obj || link->prog->fd < 0 ||
	    bpf_obj_get_info_by_fd(link->prog->fd, &info, &len) != 0)
		return 0;
	for (uint32_t i = 0; i < info.nr_map_ids && i < 64; i++)
		for (size_t m = 0; m < link->obj->nmaps; m++) {
			const struct mb_map *map = link->obj->maps[m];

			if (map->info.id != ids[i] || map->info.type != BPF_MAP_TYPE_PROG_ARRAY ||
			    map->pin_path)
				continue;
			mb_fail(err, EBUSY, "pin link", link->name,
				"its program tail-calls through '%s', which ends with this process",
				map->name);
			mb_error_hint(err,
				      "pin that map first: the kernel empties a prog array that "
				      "nobody holds");
			return -EBUSY;
		}
	return 0;
}

int mb_link_pin(struct mb_link *link, const char *path, bool over, struct mb_error *err)
{
	char *kept;
	int rc;

	if (link->closed)
		return mb_fail(err, EBADF, "pin link", link->name, "the link is closed");
	if (link->pin_path && !(over && strcmp(link->pin_path, path) == 0))
		return mb_fail(err, EEXIST, "pin link", link->name, "it is pinned at %s",
			       link->pin_path);
	if (mb_link_fd(link) < 0) {
		mb_fail(err, EOPNOTSUPP, "pin link", link->name, "%s",
			link->hook.nmore ? "it is on several CPUs, by a link for each" :
					   "the kernel has no link for it that could be pinned");
		if (link->hook.nmore)
			mb_error_hint(err, "attach it to one CPU at a time, by the option cpu");
		return -EOPNOTSUPP;
	}
	rc = mb_refuse("pin link", link->name, err);
	if (!rc)
		rc = keeps_prog_arrays(link, err);
	if (rc)
		return rc;
	kept = strdup(path);
	if (!kept)
		return mb_fail(err, ENOMEM, "pin link", link->name, "out of memory");
	rc = over ? mb_pin_replace(link->hook.fd, path, 0, link->obj, "pin link", err) :
		    mb_pin_fd(link->hook.fd, path, link->obj, "pin link", err);
	if (rc) {
		free(kept);
	} else {
		free(link->pin_path);
		link->pin_path = kept;
	}
	return rc;
}

int mb_link_move_pin(struct mb_link *link, const char *path, struct mb_error *err)
{
	int rc = mb_refuse("move pin", link->name, err);
	char *kept;

	if (rc)
		return rc;
	if (link->closed)
		return mb_fail(err, EBADF, "move pin", link->name, "the link is closed");
	if (!link->pin_path)
		return mb_fail(err, ENOENT, "move pin", link->name, "it is not pinned by us");
	kept = strdup(path);
	if (!kept)
		return mb_fail(err, ENOMEM, "move pin", link->name, "out of memory");
	rc = mb_pin_move(link->hook.fd, link->pin_path, path, link->obj, "move pin", err);
	if (rc) {
		free(kept);
		return rc;
	}
	free(link->pin_path);
	link->pin_path = kept;
	return 0;
}

int mb_link_unpin(struct mb_link *link, struct mb_error *err)
{
	int rc = mb_refuse("unpin link", link->name, err);

	if (rc)
		return rc;
	if (link->closed)
		return mb_fail(err, EBADF, "unpin link", link->name, "the link is closed");
	if (!link->pin_path)
		return mb_fail(err, ENOENT, "unpin link", link->name, "it is not pinned by us");
	return mb_pin_remove(&link->pin_path, link->hook.fd, "unpin link", err);
}
