/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The machine that we run on: CPUs, clock, mounts. Nothing of BPF objects.
 */
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <time.h>

#include "internal.h"

#define TRACEFS_MAGIC 0x74726163

int mb_cpus_possible(struct mb_error *err)
{
	int n = libbpf_num_possible_cpus();

	return n > 0 ? n :
		       mb_fail(err, n, "count CPUs", "possible",
			       "/sys/devices/system/cpu/possible cannot be read");
}

/* "0-3,5": sets a bit for each. */
static void parse_list(const char *text, uint64_t *mask, size_t words)
{
	while (*text >= '0' && *text <= '9') {
		char *end;
		unsigned long from = strtoul(text, &end, 10), to = from;

		if (*end == '-')
			to = strtoul(end + 1, &end, 10);
		for (unsigned long cpu = from; cpu <= to && cpu < words * 64; cpu++)
			mask[cpu / 64] |= 1ULL << cpu % 64;
		text = *end == ',' ? end + 1 : end;
	}
}

int mb_cpus_online(uint64_t *mask, size_t words, struct mb_error *err)
{
	const char *path = "/sys/devices/system/cpu/online";
	char text[4096];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
	int code = errno;

	if (fd >= 0)
		close(fd);
	if (n < 0)
		return mb_fail(err, code, "count CPUs", path, "%s", mb_error_text(code));
	text[n] = '\0';
	memset(mask, 0, words * sizeof(*mask));
	parse_list(text, mask, words);
	return 0;
}

uint64_t mb_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

const char *mb_libbpf_version(void)
{
	const char *v = libbpf_version_string();

	return *v == 'v' ? v + 1 : v;
}

static bool is_tracefs(const char *path)
{
	struct statfs st;

	return statfs(path, &st) == 0 && (uint32_t)st.f_type == TRACEFS_MAGIC;
}

int mb_tracefs_prepare(struct mb_error *err)
{
	const char *path = "/sys/kernel/tracing";
	int rc;

	if (is_tracefs(path) || is_tracefs("/sys/kernel/debug/tracing"))
		return 0;
	if (mount("tracefs", path, "tracefs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0)
		return 0;
	rc = mb_fail(err, errno, "mount tracefs at", path, "%s", mb_error_text(errno));
	if (geteuid() == 0)
		mb_error_hint(err, "tracepoints need it: mount -t tracefs tracefs %s", path);
	return rc;
}

/* The lowest free number: what is open lies below it, but for gaps. */
long mb_fds_left(void)
{
	int fd = open("/", O_PATH | O_CLOEXEC);
	struct rlimit limit;

	if (fd < 0)
		return 0;
	close(fd);
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
		return INT32_MAX;
	return (long)limit.rlim_cur - fd - 1;
}
