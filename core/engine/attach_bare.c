/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hooks that the kernel has no link for: tc's clsact, sockets, and before Linux 6.10 sockmaps. A link
 * of ours holds the descriptors that it takes to detach them, so that they end like all others; they
 * cannot be pinned.
 */
#include <net/if.h>
#include <sys/socket.h>

#include "internal.h"

#ifndef SO_DETACH_REUSEPORT_BPF
#define SO_DETACH_REUSEPORT_BPF 68
#endif

static int dup_fd(int fd)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

static void drop_fds(struct mb_hook *hook)
{
	if (hook->target >= 0)
		close(hook->target);
	if (hook->prog >= 0)
		close(hook->prog);
	hook->target = hook->prog = -1;
}

/* ---- clsact ------------------------------------------------------------------------------------------- */

static void clsact_end(struct mb_hook *hook)
{
	LIBBPF_OPTS(bpf_tc_hook, at, .ifindex = (int)hook->ifindex,
		    .attach_point = (enum bpf_tc_attach_point)hook->point);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = hook->handle, .priority = hook->priority);

	bpf_tc_detach(&at, &opts);
}

/* The kernel exchanges a filter of the same handle and priority in one step. */
static int clsact_swap(struct mb_hook *hook, struct mb_program *prog)
{
	LIBBPF_OPTS(bpf_tc_hook, at, .ifindex = (int)hook->ifindex,
		    .attach_point = (enum bpf_tc_attach_point)hook->point);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = hook->handle, .priority = hook->priority,
		    .prog_fd = prog->fd, .flags = BPF_TC_F_REPLACE);

	return bpf_tc_attach(&at, &opts);
}

static const struct mb_bare clsact = { "tc", clsact_end, clsact_swap };

int mb_attach_clsact(struct mb_site *site, struct mb_hook *hook, struct mb_error *err)
{
	bool egress = strcmp(site->how.direction, "egress") == 0;
	LIBBPF_OPTS(bpf_tc_hook, at, .ifindex = (int)if_nametoindex(site->how.ifname),
		    .attach_point = egress ? BPF_TC_EGRESS : BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = site->how.handle,
		    .priority = (uint32_t)site->how.priority, .prog_fd = site->prog->fd);
	int rc;

	if (!at.ifindex)
		return mb_fail(err, ENODEV, "attach program", site->prog->name,
			       "there is no network interface '%s'", site->how.ifname);
	if (site->how.place)
		return mb_fail(err, EINVAL, "attach program", site->prog->name,
			       "clsact orders its programs by priority");
	rc = bpf_tc_hook_create(
		&at); /* the queueing discipline: stays, as it may be others', too */
	if (!rc || rc == -EEXIST)
		rc = bpf_tc_attach(&at, &opts);
	if (rc) {
		mb_attach_failed(site, rc, site->how.ifname, err);
		if (rc == -EEXIST)
			mb_error_hint(err, "another filter has that priority and handle");
		return rc;
	}
	hook->bare = &clsact;
	hook->ifindex = (uint32_t)at.ifindex;
	hook->point = at.attach_point;
	hook->handle = opts.handle;
	hook->priority = opts.priority;
	return 0;
}

/* ---- sockmaps ----------------------------------------------------------------------------------------- */

static void sockmap_end(struct mb_hook *hook)
{
	bpf_prog_detach2(hook->prog, hook->target, (enum bpf_attach_type)hook->point);
	drop_fds(hook);
}

/* Attaching again takes the other's place. */
static int sockmap_swap(struct mb_hook *hook, struct mb_program *prog)
{
	int held = dup_fd(prog->fd);

	if (held < 0)
		return -errno;
	if (bpf_prog_attach(prog->fd, hook->target, (enum bpf_attach_type)hook->point, 0) != 0) {
		int rc = -errno;

		close(held);
		return rc;
	}
	close(hook->prog);
	hook->prog = held;
	return 0;
}

static const struct mb_bare sockmap = { "sockmap", sockmap_end, sockmap_swap };

/* The kernel would let a second one take the first one's place in silence. */
static bool is_taken(int map, enum bpf_attach_type type)
{
	LIBBPF_OPTS(bpf_prog_query_opts, query);
	uint32_t ids[1] = { 0 };

	query.prog_ids = ids;
	query.prog_cnt = 1;
	return bpf_prog_query_opts(map, type, &query) == 0 && query.prog_cnt > 0;
}

/* Before Linux 6.10. What it takes to detach is there first. 0 or -errno. */
static int attach_to_map(const struct mb_site *site, int map, enum bpf_attach_type type,
			 struct mb_hook *hook)
{
	int rc = is_taken(map, type) ? -EBUSY : 0;

	if (rc)
		return rc;
	hook->target = dup_fd(map);
	hook->prog = hook->target < 0 ? -1 : dup_fd(site->prog->fd);
	if (hook->prog < 0 || bpf_prog_attach(site->prog->fd, map, type, 0) != 0) {
		rc = mb_errno();
		drop_fds(hook);
		return rc;
	}
	hook->bare = &sockmap;
	hook->point = type;
	return 0;
}

int mb_attach_sockmap(struct mb_site *site, struct mb_hook *hook, struct mb_error *err)
{
	enum bpf_attach_type type = bpf_program__expected_attach_type(site->prog->bpf);
	int rc = mb_map_check(site->how.map, "attach program", err), map;

	if (rc)
		return rc;
	map = site->how.map->fd;
	if (!type) /* sections of libbpf before 1.4 do not say which */
		type = site->prog->type == BPF_PROG_TYPE_SK_MSG ? BPF_SK_MSG_VERDICT :
								  BPF_SK_SKB_VERDICT;
	hook->fd = bpf_link_create(site->prog->fd, map, type, NULL);
	if (hook->fd >= 0)
		return 0;
	rc = mb_errno();
	hook->fd = -1;
	if (rc == -EINVAL || rc == -EOPNOTSUPP)
		rc = attach_to_map(site, map, type, hook);
	if (rc) {
		mb_attach_failed(site, rc, site->how.map->name, err);
		if (rc == -EINVAL)
			mb_error_hint(err, "the map is a sockmap or sockhash");
	}
	return rc;
}

/* ---- sockets ------------------------------------------------------------------------------------------ */

static void socket_end(struct mb_hook *hook)
{
	int none = 0;

	setsockopt(hook->target, SOL_SOCKET, (int)hook->point, &none, sizeof(none));
	drop_fds(hook);
}

static int socket_put(int socket, uint32_t detach, int prog)
{
	int option = detach == SO_DETACH_FILTER ? SO_ATTACH_BPF : SO_ATTACH_REUSEPORT_EBPF;

	return setsockopt(socket, SOL_SOCKET, option, &prog, sizeof(prog)) == 0 ? 0 : -errno;
}

static int socket_swap(struct mb_hook *hook, struct mb_program *prog)
{
	return socket_put(hook->target, hook->point, prog->fd);
}

static const struct mb_bare on_socket = { "socket", socket_end, socket_swap };

int mb_attach_socket(struct mb_site *site, struct mb_hook *hook, struct mb_error *err)
{
	uint32_t detach = site->prog->type == BPF_PROG_TYPE_SOCKET_FILTER ? SO_DETACH_FILTER :
									    SO_DETACH_REUSEPORT_BPF;
	int held = dup_fd(site->how.socket), rc;
	char where[32];

	snprintf(where, sizeof(where), "descriptor %d", site->how.socket);
	if (held < 0)
		return mb_attach_failed(site, errno, where, err);
	rc = socket_put(held, detach, site->prog->fd);
	if (rc) {
		close(held);
		mb_attach_failed(site, rc, where, err);
		if (rc == -ENOTSOCK)
			mb_error_hint(err, "socket is the descriptor of a socket");
		return rc;
	}
	hook->target = held;
	hook->point = detach;
	hook->bare = &on_socket;
	return 0;
}
