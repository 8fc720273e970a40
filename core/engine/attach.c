/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where a program goes: by its section's name, or as the caller says. One row per kind of program;
 * what a link does afterwards is link.c's.
 */
#include <linux/perf_event.h>
#include <net/if.h>
#include <sys/syscall.h>

#include "internal.h"

#ifndef XDP_FLAGS_SKB_MODE
#define XDP_FLAGS_SKB_MODE (1U << 1)
#define XDP_FLAGS_DRV_MODE (1U << 2)
#define XDP_FLAGS_HW_MODE (1U << 3)
#endif

/* Either a bpf_link or a plain fd (in *fd) comes out. Returns 0 or -errno. */
typedef int (*attach_fn)(struct mb_program *prog, const struct mb_attach *how,
			 struct bpf_link **link, int *fd, struct mb_error *err);

static int failed(struct mb_program *prog, int code, const char *to, struct mb_error *err)
{
	return mb_fail(err, code, "attach program", prog->name, "%s%s%s", to ? to : "",
		       to ? ": " : "", mb_error_text(code < 0 ? -code : code));
}

static int took(struct mb_program *prog, struct bpf_link *link, const char *to,
		struct bpf_link **out, struct mb_error *err)
{
	if (!link)
		return failed(prog, mb_errno(), to, err);
	*out = link;
	return 0;
}

static int xdp_flags(struct mb_program *prog, const char *mode, uint32_t *out, struct mb_error *err)
{
	if (!mode)
		*out = 0;
	else if (strcmp(mode, "generic") == 0)
		*out = XDP_FLAGS_SKB_MODE;
	else if (strcmp(mode, "native") == 0)
		*out = XDP_FLAGS_DRV_MODE;
	else if (strcmp(mode, "offload") == 0)
		*out = XDP_FLAGS_HW_MODE;
	else
		return mb_fail(err, EINVAL, "attach program", prog->name,
			       "mode is native, generic or offload, not '%s'", mode);
	return 0;
}

static int attach_xdp(struct mb_program *prog, const struct mb_attach *how, struct bpf_link **link,
		      int *fd, struct mb_error *err)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts);
	unsigned int ifindex;
	uint32_t flags = 0;
	int rc = xdp_flags(prog, how->mode, &flags, err);

	(void)link;
	if (rc)
		return rc;
	if (!how->ifname) {
		mb_fail(err, EINVAL, "attach program", prog->name, "it needs an interface");
		mb_error_hint(err, "prog:attach{ ifname = \"eth0\" }");
		return -EINVAL;
	}
	ifindex = if_nametoindex(how->ifname);
	if (!ifindex)
		return mb_fail(err, ENODEV, "attach program", prog->name,
			       "there is no network interface '%s'", how->ifname);
	opts.flags = flags;
	*fd = bpf_link_create(prog->fd, (int)ifindex, BPF_XDP, &opts);
	if (*fd < 0) {
		rc = *fd;
		*fd = -1;
		failed(prog, rc, how->ifname, err);
		if (rc == -EBUSY)
			mb_error_hint(err, "another XDP program is on %s: see `ip link show %s`",
				      how->ifname, how->ifname);
		return rc;
	}
	return 0;
}

/* The number of a tracepoint, from tracefs. */
static int tracepoint_id(struct mb_program *prog, const char *category, const char *name,
			 uint64_t *out, struct mb_error *err)
{
	static const char *const roots[] = { "/sys/kernel/tracing", "/sys/kernel/debug/tracing" };
	char path[512], text[32];
	int fd = -1, code = ENOENT;
	ssize_t n;

	for (size_t i = 0; i < 2 && fd < 0; i++) {
		snprintf(path, sizeof(path), "%s/events/%s/%s/id", roots[i], category, name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 && errno != ENOENT)
			code = errno;
	}
	if (fd < 0 && code == ENOENT) {
		mb_fail(err, ENOENT, "attach program", prog->name, "there is no tracepoint '%s:%s'",
			category, name);
		mb_error_hint(err, "/sys/kernel/tracing/available_events lists them");
		return -ENOENT;
	}
	if (fd < 0)
		return failed(prog, code, path, err);
	n = read(fd, text, sizeof(text) - 1);
	code = n < 0 ? errno : EIO;
	close(fd);
	if (n <= 0)
		return failed(prog, code, path, err);
	text[n] = '\0';
	*out = strtoull(text, NULL, 10);
	return 0;
}

/* By hand and not by libbpf: its link keeps the perf event's fd and switches the event off when it
 * is destroyed, even if a pin should keep it going. The kernel's link holds the event itself. */
static int attach_tracepoint(struct mb_program *prog, const struct mb_attach *how,
			     struct bpf_link **link, int *fd, struct mb_error *err)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .perf_event.bpf_cookie = how->cookie);
	struct perf_event_attr attr = { .type = PERF_TYPE_TRACEPOINT, .size = sizeof(attr) };
	uint64_t id = 0;
	int rc = mb_tracefs_prepare(err), event, made;

	(void)link;
	if (!rc)
		rc = tracepoint_id(prog, how->category, how->tracepoint, &id, err);
	if (rc)
		return rc;
	attr.config = id;
	event = (int)syscall(SYS_perf_event_open, &attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
	if (event < 0)
		return failed(prog, errno, how->tracepoint, err);
	made = bpf_link_create(prog->fd, event, BPF_PERF_EVENT, &opts);
	close(event);
	if (made < 0)
		return failed(prog, made, how->tracepoint, err);
	*fd = made;
	return 0;
}

static int attach_raw(struct mb_program *prog, const struct mb_attach *how, struct bpf_link **link,
		      int *fd, struct mb_error *err)
{
	(void)fd;
	return took(prog, bpf_program__attach_raw_tracepoint(prog->bpf, how->tracepoint),
		    how->tracepoint, link, err);
}

static int attach_kprobe(struct mb_program *prog, const struct mb_attach *how,
			 struct bpf_link **link, int *fd, struct mb_error *err)
{
	LIBBPF_OPTS(bpf_kprobe_opts, opts, .bpf_cookie = how->cookie, .offset = how->offset,
		    .retprobe = how->retprobe);

	(void)fd;
	return took(prog, bpf_program__attach_kprobe_opts(prog->bpf, how->function, &opts),
		    how->function, link, err);
}

static int attach_uprobe(struct mb_program *prog, const struct mb_attach *how,
			 struct bpf_link **link, int *fd, struct mb_error *err)
{
	LIBBPF_OPTS(bpf_uprobe_opts, opts, .bpf_cookie = how->cookie, .retprobe = how->retprobe,
		    .func_name = how->function);

	(void)fd;
	return took(prog,
		    bpf_program__attach_uprobe_opts(prog->bpf, how->pid ? how->pid : -1,
						    how->binary, how->offset, &opts),
		    how->binary, link, err);
}

static int attach_cgroup(struct mb_program *prog, const struct mb_attach *how,
			 struct bpf_link **link, int *fd, struct mb_error *err)
{
	int cgroup = open(how->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;

	(void)fd;
	if (cgroup < 0)
		return failed(prog, errno, how->cgroup, err);
	rc = took(prog, bpf_program__attach_cgroup(prog->bpf, cgroup), how->cgroup, link, err);
	close(cgroup);
	return rc;
}

enum {
	IFNAME = 1,
	MODE = 2,
	CGROUP = 4,
	CATEGORY = 8,
	TRACEPOINT = 16,
	FUNCTION = 32,
	BINARY = 64,
	PID = 128,
	OFFSET = 256,
	RETPROBE = 512,
	COOKIE = 1024,
};

/* Which options say where, and which may come with them, for which types; the first row that fits
 * is taken. */
static const struct row {
	uint32_t type;
	unsigned int must, may;
	attach_fn attach;
} rows[] = {
	{ BPF_PROG_TYPE_XDP, IFNAME, MODE, attach_xdp },
	{ BPF_PROG_TYPE_TRACEPOINT, CATEGORY | TRACEPOINT, COOKIE, attach_tracepoint },
	{ BPF_PROG_TYPE_RAW_TRACEPOINT, TRACEPOINT, 0, attach_raw },
	{ BPF_PROG_TYPE_KPROBE, BINARY, FUNCTION | PID | OFFSET | RETPROBE | COOKIE,
	  attach_uprobe },
	{ BPF_PROG_TYPE_KPROBE, FUNCTION, OFFSET | RETPROBE | COOKIE, attach_kprobe },
	{ BPF_PROG_TYPE_CGROUP_SKB, CGROUP, 0, attach_cgroup },
	{ BPF_PROG_TYPE_CGROUP_SOCK, CGROUP, 0, attach_cgroup },
	{ BPF_PROG_TYPE_CGROUP_SOCK_ADDR, CGROUP, 0, attach_cgroup },
	{ BPF_PROG_TYPE_SOCK_OPS, CGROUP, 0, attach_cgroup },
};

static unsigned int given(const struct mb_attach *how)
{
	return (how->ifname ? IFNAME : 0) | (how->mode ? MODE : 0) | (how->cgroup ? CGROUP : 0) |
	       (how->category ? CATEGORY : 0) | (how->tracepoint ? TRACEPOINT : 0) |
	       (how->function ? FUNCTION : 0) | (how->binary ? BINARY : 0) | (how->pid ? PID : 0) |
	       (how->offset ? OFFSET : 0) | (how->retprobe ? RETPROBE : 0) |
	       (how->cookie ? COOKIE : 0);
}

static const struct row *row_for(const struct mb_program *prog, unsigned int options)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *r = &rows[i];

		if (r->type == prog->type && (options & r->must) == r->must &&
		    !(options & ~(r->must | r->may)))
			return r;
	}
	return NULL;
}

/* No option may pass in silence: say what a program of this type takes. */
static int no_row(struct mb_program *prog, struct mb_error *err)
{
	mb_fail(err, EINVAL, "attach program", prog->name,
		"a program of type %s is not attached by these options",
		mb_program_type_name(prog->type));
	switch (prog->type) {
	case BPF_PROG_TYPE_XDP:
		mb_error_hint(err, "ifname, and mode if you like");
		break;
	case BPF_PROG_TYPE_TRACEPOINT:
		mb_error_hint(err, "tracepoint = \"category:name\", and cookie if you like");
		break;
	case BPF_PROG_TYPE_RAW_TRACEPOINT:
		mb_error_hint(err, "tracepoint = \"name\", and nothing else");
		break;
	case BPF_PROG_TYPE_KPROBE:
		mb_error_hint(err, "function (kprobe), or binary with function or offset (uprobe); "
				   "retprobe, pid, cookie if you like");
		break;
	default:
		if (row_for(prog, CGROUP))
			mb_error_hint(err, "cgroup, and nothing else");
	}
	return -EINVAL;
}

/* ---- by the section's name ---------------------------------------------------------------------------- */

/* "xdp" and "cgroup/…" say what a program is, not where it goes. */
bool mb_program_attaches(const struct mb_program *prog)
{
	const char *section = prog->bpf ? bpf_program__section_name(prog->bpf) : NULL;
	const char *slash = section ? strchr(section, '/') : NULL;

	switch (prog->type) {
	case BPF_PROG_TYPE_TRACING:
	case BPF_PROG_TYPE_LSM:
	case BPF_PROG_TYPE_TRACEPOINT:
	case BPF_PROG_TYPE_RAW_TRACEPOINT:
	case BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE:
	case BPF_PROG_TYPE_KPROBE:
		return slash && slash[1];
	default:
		return false;
	}
}

/* "tracepoint/sched/sched_switch", "tp/…" */
static int attach_named_tracepoint(struct mb_program *prog, const char *section, int *fd,
				   struct mb_error *err)
{
	const char *category = strchr(section, '/') + 1, *slash = strchr(category, '/');
	struct mb_attach how = { 0 };
	char first[128];

	if (!slash || !slash[1])
		return mb_fail(err, EINVAL, "attach program", prog->name,
			       "its section '%s' is no tracepoint/CATEGORY/NAME", section);
	snprintf(first, sizeof(first), "%.*s", (int)(slash - category), category);
	how.category = first;
	how.tracepoint = slash + 1;
	return attach_tracepoint(prog, &how, NULL, fd, err);
}

static int attach_by_section(struct mb_program *prog, struct bpf_link **link, int *fd,
			     struct mb_error *err)
{
	const char *section = bpf_program__section_name(prog->bpf);
	struct mb_capture cap;
	int rc;

	if (!mb_program_attaches(prog)) {
		mb_fail(err, EOPNOTSUPP, "attach program", prog->name,
			"its section '%s' does not say where", section);
		if (prog->type == BPF_PROG_TYPE_XDP)
			mb_error_hint(err, "prog:attach{ ifname = \"eth0\" }");
		else if (prog->type == BPF_PROG_TYPE_SYSCALL)
			mb_error_hint(err, "a syscall program runs by prog:run()");
		else
			mb_error_hint(err, "say where in prog:attach{…}");
		return -EOPNOTSUPP;
	}
	if (prog->type == BPF_PROG_TYPE_TRACEPOINT)
		return attach_named_tracepoint(prog, section, fd, err);
	mb_capture_begin(&cap);
	rc = took(prog, bpf_program__attach(prog->bpf), section, link, err);
	mb_capture_end(&cap, err);
	return rc;
}

int mb_program_attach(struct mb_program *prog, const struct mb_attach *how, struct mb_link **out,
		      struct mb_error *err)
{
	struct bpf_link *link = NULL;
	const struct row *row;
	int fd = -1, rc = mb_program_check(prog, "attach program", err);
	unsigned int options;
	struct mb_capture cap;

	if (rc)
		return rc;
	if (!prog->bpf)
		return mb_fail(err, EOPNOTSUPP, "attach program", prog->name,
			       "only programs of an object of ours can be attached");
	options = how ? given(how) : 0;
	if (!options) {
		rc = attach_by_section(prog, &link, &fd, err);
	} else if (!(row = row_for(prog, options))) {
		rc = no_row(prog, err);
	} else {
		mb_capture_begin(&cap);
		rc = row->attach(prog, how, &link, &fd, err);
		mb_capture_end(&cap, err);
	}
	return rc ? rc : mb_link_new(prog, link, fd, out, err);
}
