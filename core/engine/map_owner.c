/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whose storage? The kernel takes a fd for a key: of a process, a file, a cgroup. What is read by it
 * is map.c's.
 */
#include <sys/syscall.h>

#include "internal.h"

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL /* Linux 6.9 */
#endif

static int open_task(int64_t pid, int *out, struct mb_error *err)
{
	char name[32];
	int fd;

	snprintf(name, sizeof(name), "%lld", (long long)pid);
	if (pid < 1 || pid > INT32_MAX)
		return mb_fail(err, ESRCH, "find process", name, "there is none with this id");
	fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
	if (fd < 0 && (errno == EINVAL || errno == ENOENT)) /* a thread that leads no process */
		fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, PIDFD_THREAD);
	if (fd < 0 && errno == ESRCH)
		return mb_fail(err, ESRCH, "find process", name, "there is none with this id");
	if (fd < 0)
		return mb_fail(err, errno, "find process", name, "%s", mb_error_text(errno));
	*out = fd;
	return 0;
}

int mb_owner_open(const char *path, int64_t pid, int *out, struct mb_error *err)
{
	int fd;

	if (!path)
		return open_task(pid, out, err);
	/* O_PATH: it is named, not read */
	fd = open(path, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return mb_fail(err, errno, "find file", path, "%s", mb_error_text(errno));
	*out = fd;
	return 0;
}
