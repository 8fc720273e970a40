/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Attaching to perf events: tracepoints, kprobes, uprobes, clocks and counters. By hand and not by
 * libbpf: its links keep the perf event's descriptor and switch the event off when they are destroyed,
 * even if a pin should keep it going. The kernel's link holds the event itself. Only USDT, which needs
 * libbpf's own maps, is libbpf's.
 */
#include <linux/perf_event.h>
#include <sys/syscall.h>

#include "internal.h"

/* An event for one process or CPU, and the kernel's link on it: the link's descriptor, or -errno. */
static int link_event(const struct mb_site *site, struct perf_event_attr *attr, int pid, int cpu)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .perf_event.bpf_cookie = site->how.cookie);
	int event, link, code;

	attr->size = sizeof(*attr);
	event = (int)syscall(SYS_perf_event_open, attr, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
	if (event < 0) /* EACCES: kernel.perf_event_paranoid, for who lacks CAP_PERFMON */
		return errno == EACCES ? -EPERM : -errno;
	link = bpf_link_create(site->prog->fd, event, BPF_PERF_EVENT, &opts);
	code = link < 0 ? mb_errno() : 0;
	close(event);
	return code ? code : link;
}

/* Text of a small file, without the end of its line; NULL: it cannot be read (errno). */
static char *small_file(const char *path, char *to, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), code;
	ssize_t n;

	if (fd < 0)
		return NULL;
	n = read(fd, to, room - 1);
	code = n < 0 ? errno : EIO;
	close(fd);
	if (n <= 0) {
		errno = code;
		return NULL;
	}
	to[n] = '\0';
	to[strcspn(to, "\n")] = '\0';
	return to;
}

/* ---- tracepoints -------------------------------------------------------------------------------------- */

static int no_tracepoint(const struct mb_site *site, struct mb_error *err)
{
	struct mb_names names = { 0 };
	const char *near = NULL;
	char whole[256];

	snprintf(whole, sizeof(whole), "%s:%s", site->how.category, site->how.tracepoint);
	mb_fail(err, ENOENT, "attach program", site->prog->name, "there is no tracepoint '%s'",
		whole);
	if (mb_names_tracepoints(&names) == 0)
		near = mb_names_near(&names, whole);
	if (near)
		mb_error_hint(err,
			      "did you mean '%s'? /sys/kernel/tracing/available_events lists them",
			      near);
	else
		mb_error_hint(err, "/sys/kernel/tracing/available_events lists them");
	mb_names_free(&names);
	return -ENOENT;
}

int mb_attach_tracepoint(struct mb_site *site, struct mb_hook *hook, struct mb_error *err)
{
	static const char *const roots[] = { "/sys/kernel/tracing", "/sys/kernel/debug/tracing" };
	struct perf_event_attr attr = { .type = PERF_TYPE_TRACEPOINT };
	char path[512], text[32], *id = NULL;
	int rc = mb_tracefs_prepare(err), code = ENOENT;

	if (rc)
		return rc;
	for (size_t i = 0; i < 2 && !id; i++) {
		snprintf(path, sizeof(path), "%s/events/%s/%s/id", roots[i], site->how.category,
			 site->how.tracepoint);
		id = small_file(path, text, sizeof(text));
		if (!id && errno != ENOENT)
			code = errno;
	}
	if (!id)
		return code == ENOENT ? no_tracepoint(site, err) :
					mb_attach_failed(site, code, path, err);
	attr.config = strtoull(id, NULL, 10);
	hook->fd = link_event(site, &attr, -1, 0);
	if (hook->fd >= 0)
		return 0;
	rc = hook->fd;
	hook->fd = -1;
	return mb_attach_failed(site, rc, site->how.tracepoint, err);
}

/* ---- kprobes and uprobes ---------------------------------------------------------------------------- */

/* The number of a perf event source, and its bit for "at the return". */
static int source(const struct mb_site *site, const char *name, struct perf_event_attr *attr,
		  struct mb_error *err)
{
	char path[128], text[32];
	bool kprobe = strcmp(name, "kprobe") == 0;

	snprintf(path, sizeof(path), "/sys/bus/event_source/devices/%s/type", name);
	if (!small_file(path, text, sizeof(text)))
		return errno == ENOENT ?
			       mb_attach_lacks(site, name,
					       kprobe ? "a kernel with CONFIG_KPROBE_EVENTS" :
							"a kernel with CONFIG_UPROBE_EVENTS",
					       err) :
			       mb_attach_failed(site, errno, path, err);
	attr->type = (uint32_t)strtoul(text, NULL, 10);
	snprintf(path, sizeof(path), "/sys/bus/event_source/devices/%s/format/retprobe", name);
	if (site->how.retprobe) {
		if (!small_file(path, text, sizeof(text)) || strncmp(text, "config:", 7) != 0)
			return mb_attach_failed(site, errno, path, err);
		attr->config |= 1ull << strtoul(text + 7, NULL, 10);
	}
	return 0;
}

static int kprobe(struct mb_site *site, const char *function, struct mb_hook *hook,
		  struct mb_error *err)
{
	struct perf_event_attr attr = { 0 };
	int rc = source(site, "kprobe", &attr, err);

	if (rc)
		return rc;
	attr.config1 = (uint64_t)(uintptr_t)function;
	attr.config2 = site->how.offset;
	rc = link_event(site, &attr, -1, 0);
	if (rc < 0)
		return rc;
	hook->fd = rc;
	return 0;
}

static int no_kernel_function(const struct mb_site *site, const char *function,
			      struct mb_error *err)
{
	struct mb_names names = { 0 };
	const char *near = NULL;

	mb_fail(err, ENOENT, "attach program", site->prog->name,
		"the kernel has no function '%s', or none that can be probed", function);
	if (mb_names_kernel(&names) == 0)
		near = mb_names_near(&names, function);
	if (near)
		mb_error_hint(err, "did you mean '%s'?", near);
	mb_names_free(&names);
	return -ENOENT;
}

int mb_attach_kprobe(struct mb_site *site, struct mb_hook *hook, struct mb_error *err)
{
	const char *function = site->how.function;
	int rc = kprobe(site, function, hook, err);

	if (!rc || (err && err->code))
		return rc;
	if (rc == -ENOENT)
		return no_kernel_function(site, function, err);
	mb_attach_failed(site, rc, function, err);
	if (rc == -EINVAL && site->how.retprobe && site->how.offset)
		mb_error_hint(err, "the return of a function has no offset");
	else if (rc == -EADDRNOTAVAIL)
		mb_error_hint(err, "several functions have that name");
	else if (rc == -EINVAL || rc == -EILSEQ)
		mb_error_hint(err,
			      "the kernel lets nobody probe that function, or that place in it");
	return rc;
}

/* Most architectures wrap system calls in functions of their own prefix. */
int mb_attach_ksyscall(struct mb_site *site, struct mb_hook *hook, struct mb_error *err)
{
	static const char *const prefixes[] = {
#if defined(__x86_64__)
		"__x64_sys_",
#elif defined(__aarch64__)
		"__arm64_sys_",
#elif defined(__s390x__)
		"__s390x_sys_",
#elif defined(__riscv)
		"__riscv_sys_",
#endif
		"__se_sys_",
		"sys_",
	};
	char name[128];
	int rc = -ENOENT;

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]) && rc == -ENOENT; i++) {
		snprintf(name, sizeof(name), "%s%s", prefixes[i], site->how.syscall);
		rc = kprobe(site, name, hook, err);
	}
	if (!rc || (err && err->code))
		return rc;
	if (rc == -ENOENT) {
		snprintf(name, sizeof(name), "%s%s", prefixes[0], site->how.syscall);
		return no_kernel_function(site, name, err);
	}
	return mb_attach_failed(site, rc, site->how.syscall, err);
}

/* Where in the file: an offset, or a function's and perhaps more. */
static int offset_of(const struct mb_site *site, const char *path, uint64_t *out,
		     struct mb_error *err)
{
	struct mb_names names = { 0 };
	const char *near;
	long at;
	int rc = 0;

	*out = site->how.offset;
	if (!site->how.function)
		return 0;
	rc = mb_names_binary(path, &names);
	if (rc)
		return mb_attach_failed(site, rc, path, err);
	at = mb_names_find(&names, site->how.function);
	if (at >= 0) {
		*out += names.offset[at];
	} else {
		near = mb_names_near(&names, site->how.function);
		rc = mb_fail(err, ENOENT, "attach program", site->prog->name,
			     "%s has no function '%s'", path, site->how.function);
		if (near)
			mb_error_hint(err, "did you mean '%s'?", near);
		else if (!names.n)
			mb_error_hint(err, "it names none (stripped?); give an offset");
	}
	mb_names_free(&names);
	return rc;
}

static int no_binary(const struct mb_site *site, struct mb_error *err)
{
	mb_fail(err, ENOENT, "attach program", site->prog->name,
		"there is no program or library '%s'", site->how.binary);
	mb_error_hint(err, "binary is a path, a library's name (libc.so.6), or a program in PATH");
	return -ENOENT;
}

int mb_attach_uprobe(struct mb_site *site, struct mb_hook *hook, struct mb_error *err)
{
	struct perf_event_attr attr = { 0 };
	char path[4096];
	uint64_t offset = 0;
	int rc = mb_binary_find(site->how.binary, path, sizeof(path));

	if (rc)
		return rc == -ENOENT ? no_binary(site, err) :
				       mb_attach_failed(site, rc, site->how.binary, err);
	rc = offset_of(site, path, &offset, err);
	if (!rc)
		rc = source(site, "uprobe", &attr, err);
	if (rc)
		return rc;
	attr.config1 = (uint64_t)(uintptr_t)path;
	attr.config2 = offset;
	rc = link_event(site, &attr, site->how.pid ? site->how.pid : -1, site->how.pid ? -1 : 0);
	if (rc >= 0) {
		hook->fd = rc;
		return 0;
	}
	mb_attach_failed(site, rc, path, err);
	if (rc == -ESRCH)
		mb_error_hint(err, "there is no process %d", site->how.pid);
	else if (rc == -EINVAL || rc == -EIO)
		mb_error_hint(err, "is offset %#llx that of an instruction?",
			      (unsigned long long)offset);
	return rc;
}

int mb_attach_usdt(struct mb_site *site, struct mb_hook *hook, struct mb_error *err)
{
	LIBBPF_OPTS(bpf_usdt_opts, opts, .usdt_cookie = site->how.cookie);
	const char *colon = strchr(site->how.usdt, ':');
	char provider[128], path[4096];
	int rc;

	if (!colon || !colon[1] || colon - site->how.usdt >= (long)sizeof(provider))
		return mb_fail(err, EINVAL, "attach program", site->prog->name,
			       "usdt is 'provider:name', not '%s'", site->how.usdt);
	snprintf(provider, sizeof(provider), "%.*s", (int)(colon - site->how.usdt), site->how.usdt);
	rc = mb_binary_find(site->how.binary, path, sizeof(path));
	if (rc)
		return no_binary(site, err);
	hook->bpf = bpf_program__attach_usdt(site->prog->bpf, site->how.pid ? site->how.pid : -1,
					     path, provider, colon + 1, &opts);
	if (hook->bpf)
		return 0;
	rc = mb_errno();
	if (rc != -ENOENT)
		return mb_attach_failed(site, rc, path, err);
	mb_fail(err, ENOENT, "attach program", site->prog->name, "%s has no probe '%s'", path,
		site->how.usdt);
	mb_error_hint(err, "`readelf -n %s` lists its probes (stapsdt)", path);
	return rc;
}

/* ---- clocks and counters ------------------------------------------------------------------------------- */

/* counts: the program runs at each one, unless the caller says otherwise; else 99 times a second. */
static const struct event {
	const char *name;
	uint32_t type;
	uint64_t config;
	bool counts;
} events[] = {
	{ "cpu-clock", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK, false },
	{ "task-clock", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_TASK_CLOCK, false },
	{ "page-faults", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS, true },
	{ "minor-faults", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS_MIN, true },
	{ "major-faults", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS_MAJ, true },
	{ "context-switches", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CONTEXT_SWITCHES, true },
	{ "cpu-migrations", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_MIGRATIONS, true },
	{ "alignment-faults", PERF_TYPE_SOFTWARE, PERF_COUNT_SW_ALIGNMENT_FAULTS, true },
	{ "cycles", PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES, false },
	{ "instructions", PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS, false },
	{ "cache-references", PERF_TYPE_HARDWARE, PERF_COUNT_HW_CACHE_REFERENCES, false },
	{ "cache-misses", PERF_TYPE_HARDWARE, PERF_COUNT_HW_CACHE_MISSES, false },
	{ "branches", PERF_TYPE_HARDWARE, PERF_COUNT_HW_BRANCH_INSTRUCTIONS, false },
	{ "branch-misses", PERF_TYPE_HARDWARE, PERF_COUNT_HW_BRANCH_MISSES, false },
	{ "bus-cycles", PERF_TYPE_HARDWARE, PERF_COUNT_HW_BUS_CYCLES, false },
	{ "ref-cycles", PERF_TYPE_HARDWARE, PERF_COUNT_HW_REF_CPU_CYCLES, false },
};
#define NEVENTS (sizeof(events) / sizeof(events[0]))

static const char *nth_event(const void *ctx, size_t i)
{
	(void)ctx;
	return i < NEVENTS ? events[i].name : NULL;
}

static int no_event(const struct mb_site *site, struct mb_error *err)
{
	const char *near = mb_near(site->how.event, nth_event, NULL);

	mb_fail(err, EINVAL, "attach program", site->prog->name, "there is no event '%s'",
		site->how.event);
	mb_error_hint(err, "did you mean '%s'?", near ? near : "cpu-clock");
	return -EINVAL;
}

/* One more link in the hook. 0 or -errno. */
static int take(struct mb_hook *hook, int fd)
{
	int *more;

	if (fd < 0)
		return fd;
	if (hook->fd < 0) {
		hook->fd = fd;
		return 0;
	}
	more = realloc(hook->more, (hook->nmore + 1) * sizeof(*more));
	if (!more) {
		close(fd);
		return -ENOMEM;
	}
	hook->more = more;
	hook->more[hook->nmore++] = fd;
	return 0;
}

int mb_attach_perf(struct mb_site *site, struct mb_hook *hook, struct mb_error *err)
{
	struct perf_event_attr attr = { 0 };
	uint64_t online[64] = { 0 };
	size_t i = 0;
	int rc = 0, cpu = site->how.cpu - 1;

	while (i < NEVENTS && strcmp(events[i].name, site->how.event) != 0)
		i++;
	if (i == NEVENTS)
		return no_event(site, err);
	if (site->how.frequency && site->how.period)
		return mb_fail(err, EINVAL, "attach program", site->prog->name,
			       "frequency and period exclude each other");
	attr.type = events[i].type;
	attr.config = events[i].config;
	attr.freq = !site->how.period && (site->how.frequency || !events[i].counts);
	attr.sample_freq = site->how.frequency ? site->how.frequency :
			   site->how.period    ? site->how.period :
			   events[i].counts    ? 1 :
						 99;
	if (cpu >= 0 || site->how.pid) {
		rc = take(hook, link_event(site, &attr, site->how.pid ? site->how.pid : -1, cpu));
	} else {
		if (mb_cpus_online(online, 64, err) < 0)
			return -EIO;
		for (cpu = 0; cpu < 64 * 64 && !rc; cpu++)
			if (online[cpu / 64] & 1ull << (cpu % 64))
				rc = take(hook, link_event(site, &attr, -1, cpu));
	}
	if (!rc)
		return 0;
	mb_attach_failed(site, rc, site->how.event, err);
	if (rc == -ENOENT || rc == -EOPNOTSUPP)
		mb_error_hint(err, "this machine has no such counter; cpu-clock needs none");
	else if (rc == -EINVAL && site->how.frequency)
		mb_error_hint(err, "/proc/sys/kernel/perf_event_max_sample_rate is the highest "
				   "frequency");
	return rc;
}
