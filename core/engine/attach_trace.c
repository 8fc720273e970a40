/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Attaching to functions by BTF, to raw tracepoints, to iterators, and to many functions at once.
 */
#include <fnmatch.h>

#include "internal.h"

enum { KPROBE_SESSION = 56, UPROBE_MULTI = 48, UPROBE_SESSION = 57 };

/* Where the section says it is loaded for. */
static const char *target_of(const struct mb_site *site)
{
	const char *slash = strchr(bpf_program__section_name(site->prog->bpf), '/');

	return slash ? slash + 1 : NULL;
}

/* fentry, fexit, fmod_ret, tp_btf, lsm: what to, the kernel knows since the load. */
int mb_attach_tracing(struct mb_site *site, struct mb_hook *hook, struct mb_error *err)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .tracing.cookie = site->how.cookie);
	int rc;

	hook->fd = bpf_link_create(site->prog->fd, 0,
				   bpf_program__expected_attach_type(site->prog->bpf), &opts);
	if (hook->fd >= 0)
		return 0;
	rc = mb_errno();
	hook->fd = -1;
	mb_attach_failed(site, rc, target_of(site), err);
	if (rc == -EBUSY)
		mb_error_hint(err, "something else is traced there in a way that shuts others out");
	else if (rc == -EINVAL && site->how.cookie)
		mb_error_hint(err, "a cookie of a program of this type needs Linux 5.19");
	else if (rc == -EINVAL || rc == -EOPNOTSUPP || rc == -ENOTSUPP)
		mb_error_hint(err,
			      "the function is not one that can be traced (CONFIG_FUNCTION_TRACER, "
			      "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS)");
	return rc;
}

int mb_attach_iter(struct mb_site *site, struct mb_hook *hook, struct mb_error *err)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts);
	union bpf_iter_link_info info = { 0 };
	int cgroup = -1, rc = 0;

	if (site->how.map) {
		rc = mb_map_check(site->how.map, "attach program", err);
		if (rc)
			return rc;
		info.map.map_fd = (uint32_t)site->how.map->fd;
	} else if (site->how.cgroup) {
		cgroup = open(site->how.cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (cgroup < 0)
			return mb_attach_failed(site, errno, site->how.cgroup, err);
		info.cgroup.cgroup_fd = (uint32_t)cgroup;
		info.cgroup.order = BPF_CGROUP_ITER_DESCENDANTS_PRE;
	} else if (site->how.pid) {
		info.task.pid = (uint32_t)site->how.pid;
	}
	if (site->how.map || site->how.cgroup || site->how.pid) {
		opts.iter_info = &info;
		opts.iter_info_len = sizeof(info);
	}
	hook->fd = bpf_link_create(site->prog->fd, 0, BPF_TRACE_ITER, &opts);
	if (hook->fd < 0) {
		rc = mb_errno();
		hook->fd = -1;
	}
	if (cgroup >= 0)
		close(cgroup);
	if (!rc)
		return 0;
	mb_attach_failed(site, rc, target_of(site), err);
	if (rc == -EBADF)
		mb_error_hint(err, "this one goes over a map: prog:attach{ map = obj.maps.NAME }");
	else if (rc == -EINVAL || rc == -EACCES)
		mb_error_hint(err, "the iterator '%s' does not take these options, or not that map",
			      target_of(site));
	return rc;
}

int mb_attach_raw(struct mb_site *site, struct mb_hook *hook, struct mb_error *err)
{
	const char *name = site->how.tracepoint, *near;
	struct mb_names names = { 0 };
	int rc;

#if MB_LIBBPF_AT_LEAST(1, 5)
	LIBBPF_OPTS(bpf_raw_tp_opts, opts, .tp_name = name, .cookie = site->how.cookie);

	hook->fd = bpf_raw_tracepoint_open_opts(site->prog->fd, &opts);
#else
	if (site->how.cookie)
		return mb_attach_lacks(site, "cookie of raw tracepoints", "libbpf 1.5", err);
	hook->fd = bpf_raw_tracepoint_open(name, site->prog->fd);
#endif
	if (hook->fd >= 0)
		return 0;
	rc = mb_errno();
	hook->fd = -1;
	if (rc == -E2BIG && site->how.cookie)
		return mb_attach_lacks(site, "cookie of raw tracepoints", "Linux 6.10", err);
	if (rc != -ENOENT)
		return mb_attach_failed(site, rc, name, err);
	mb_fail(err, ENOENT, "attach program", site->prog->name, "there is no raw tracepoint '%s'",
		name);
	if (mb_names_tracepoints(&names) == 0) {
		for (size_t i = 0; i < names.n; i++) /* without their categories */
			names.name[i] += strcspn(names.name[i], ":") + 1;
		near = mb_names_near(&names, name);
		if (near)
			mb_error_hint(err, "did you mean '%s'?", near);
		mb_names_free(&names);
	}
	return rc;
}

/* ---- many functions at once ----------------------------------------------------------------------------- */

/* What to attach to: the caller's list, or the names that fit a pattern. */
struct many {
	struct mb_names names;
	const char **list;
	unsigned long *offsets;
	__u64 *cookies;
	uint32_t n;
};

static void many_free(struct many *m)
{
	mb_names_free(&m->names);
	free(m->list);
	free(m->offsets);
	free(m->cookies);
}

static int no_function(const struct mb_site *site, const struct mb_names *names, const char *name,
		       struct mb_error *err)
{
	const char *near = mb_names_near(names, name);

	mb_fail(err, ENOENT, "attach program", site->prog->name, "%s%sthere is no function '%s'",
		site->how.binary ? site->how.binary : "", site->how.binary ? ": " : "", name);
	if (near)
		mb_error_hint(err, "did you mean '%s'?", near);
	return -ENOENT;
}

static int no_memory(const struct mb_site *site, struct mb_error *err)
{
	return mb_attach_failed(site, ENOMEM, NULL, err);
}

static int add(const struct mb_site *site, struct many *m, size_t from, size_t cookie)
{
	m->list[m->n] = m->names.name[from];
	m->offsets[m->n] = m->names.offset ? (unsigned long)m->names.offset[from] : 0;
	m->cookies[m->n] = site->how.cookies ? site->how.cookies[cookie] : site->how.cookie;
	m->n++;
	return 0;
}

/* names are read already. */
static int choose(const struct mb_site *site, struct many *m, struct mb_error *err)
{
	size_t room = site->how.nfunctions + (site->how.function ? m->names.n : 0);

	m->list = calloc(room + 1, sizeof(*m->list));
	m->offsets = calloc(room + 1, sizeof(*m->offsets));
	m->cookies = calloc(room + 1, sizeof(*m->cookies));
	if (!m->list || !m->offsets || !m->cookies)
		return no_memory(site, err);
	for (size_t i = 0; i < site->how.nfunctions; i++) {
		long at = mb_names_find(&m->names, site->how.functions[i]);

		if (at < 0)
			return no_function(site, &m->names, site->how.functions[i], err);
		add(site, m, (size_t)at, i);
	}
	for (size_t i = 0; site->how.function && i < m->names.n; i++)
		if (fnmatch(site->how.function, m->names.name[i], 0) == 0)
			add(site, m, i, 0);
	if (!m->n)
		return no_function(site, &m->names, site->how.function, err);
	return 0;
}

int mb_attach_multi(struct mb_site *site, struct mb_hook *hook, struct mb_error *err)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts);
	enum bpf_attach_type type = bpf_program__expected_attach_type(site->prog->bpf);
	struct many m = { 0 };
	int rc = mb_names_kernel(&m.names);

	if (rc)
		return mb_attach_failed(site, rc, "available_filter_functions", err);
	rc = choose(site, &m, err);
	if (!rc) {
		opts.kprobe_multi.syms = m.list;
		opts.kprobe_multi.cnt = m.n;
		opts.kprobe_multi.cookies = site->how.cookie || site->how.cookies ? m.cookies :
										    NULL;
		opts.kprobe_multi.flags = site->how.retprobe ? BPF_F_KPROBE_MULTI_RETURN : 0;
		hook->fd = bpf_link_create(site->prog->fd, 0, type, &opts);
		if (hook->fd < 0) {
			rc = mb_attach_failed(site, mb_errno(),
					      site->how.function ? site->how.function : m.list[0],
					      err);
			hook->fd = -1;
		}
	}
	many_free(&m);
	return rc;
}

#if MB_LIBBPF_AT_LEAST(1, 3)
int mb_attach_umulti(struct mb_site *site, struct mb_hook *hook, struct mb_error *err)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts);
	enum bpf_attach_type type = bpf_program__expected_attach_type(site->prog->bpf);
	struct many m = { 0 };
	char path[4096];
	int rc = mb_binary_find(site->how.binary, path, sizeof(path));

	if (!site->how.function && !site->how.nfunctions)
		return mb_fail(err, EINVAL, "attach program", site->prog->name,
			       "it needs function (a pattern) or functions");
	if (site->how.function && site->how.nfunctions)
		return mb_fail(err, EINVAL, "attach program", site->prog->name,
			       "function and functions exclude each other");
	if (!rc)
		rc = mb_names_binary(path, &m.names);
	if (rc)
		return mb_attach_failed(site, rc, site->how.binary, err);
	rc = choose(site, &m, err);
	if (!rc) {
		opts.uprobe_multi.path = path;
		opts.uprobe_multi.offsets = m.offsets;
		opts.uprobe_multi.cnt = m.n;
		opts.uprobe_multi.cookies = site->how.cookie || site->how.cookies ? m.cookies :
										    NULL;
		opts.uprobe_multi.flags = site->how.retprobe ? 1 :
							       0; /* BPF_F_UPROBE_MULTI_RETURN */
		opts.uprobe_multi.pid = (uint32_t)site->how.pid;
		hook->fd = bpf_link_create(site->prog->fd, 0, type, &opts);
		if (hook->fd < 0) {
			rc = mb_attach_failed(site, mb_errno(), path, err);
			hook->fd = -1;
		}
	}
	many_free(&m);
	return rc;
}
#else
int mb_attach_umulti(struct mb_site *site, struct mb_hook *hook, struct mb_error *err)
{
	(void)hook;
	return mb_attach_lacks(site, "uprobe.multi", "libbpf 1.3", err);
}
#endif
