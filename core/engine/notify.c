/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sd_notify's protocol: datagrams to the socket that NOTIFY_SOCKET names. A few lines, which
 * sd_notify(3) invites programs to write for themselves; libsystemd would be a library for them.
 */
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "engine/notify.h"
#include "internal.h"

#define FIRST_FD 3
#define PATIENCE_MS 200

static int address(const char *path, struct sockaddr_un *to, socklen_t *len, struct mb_error *err)
{
	size_t n = strlen(path);

	memset(to, 0, sizeof(*to));
	to->sun_family = AF_UNIX;
	if ((*path != '/' && *path != '@') || n >= sizeof(to->sun_path))
		return mb_fail(err, EINVAL, "notify", path, "NOTIFY_SOCKET is no socket's name");
	memcpy(to->sun_path, path, n);
	if (*path == '@')
		to->sun_path[0] = '\0';
	*len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
	return 0;
}

static void put_fds(struct msghdr *msg, char *room, const int *fds, size_t n)
{
	struct cmsghdr *c;

	msg->msg_control = room;
	msg->msg_controllen = CMSG_SPACE(n * sizeof(int));
	c = CMSG_FIRSTHDR(msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(c), fds, n * sizeof(int));
}

/* Its queue may be full (ten datagrams, as a rule): a moment is given to a manager that reads, and no
 * more, so that one that hangs does not stop us. */
static int send_soon(int fd, const struct msghdr *msg)
{
	struct pollfd room = { .fd = fd, .events = POLLOUT };

	for (int tries = 0; tries < 2; tries++) {
		if (sendmsg(fd, msg, MSG_NOSIGNAL) >= 0)
			return 0;
		if (errno != EAGAIN || poll(&room, 1, PATIENCE_MS) < 0)
			break;
	}
	return -errno;
}

int mb_notify(const char *text, const int *fds, size_t n, struct mb_error *err)
{
	_Alignas(struct cmsghdr) char room[CMSG_SPACE(MB_NOTIFY_FDS * sizeof(int))] = { 0 };
	const char *path = getenv("NOTIFY_SOCKET");
	struct iovec bytes = { (void *)(uintptr_t)text, strlen(text) };
	struct msghdr msg = { .msg_iov = &bytes, .msg_iovlen = 1 };
	struct sockaddr_un to;
	socklen_t len = 0;
	int fd, rc, code;

	if (!path || !*path)
		return 0;
	if (n > MB_NOTIFY_FDS)
		return mb_fail(err, E2BIG, "notify", path, "more than %d descriptors at once",
			       MB_NOTIFY_FDS);
	rc = address(path, &to, &len, err);
	if (rc)
		return rc;
	if (n)
		put_fds(&msg, room, fds, n);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return mb_fail(err, errno, "notify", path, "%s", mb_error_text(errno));
	rc = connect(fd, (struct sockaddr *)&to, len) != 0 ? -errno : send_soon(fd, &msg);
	code = -rc;
	close(fd);
	return rc ? mb_fail(err, code, "notify", path, "%s", mb_error_text(code)) : 1;
}

static long number(const char *name)
{
	const char *text = getenv(name);
	char *end;
	long n;

	if (!text || *text < '0' || *text > '9')
		return -1;
	errno = 0;
	n = strtol(text, &end, 10);
	return *end || errno ? -1 : n;
}

int mb_notify_passed(size_t i, int *fd, char *name, size_t room)
{
	long count = number("LISTEN_FDS");
	const char *at = getenv("LISTEN_FDNAMES");

	if (number("LISTEN_PID") != getpid() || count <= 0 || i >= (size_t)count ||
	    count > INT_MAX - FIRST_FD)
		return 0;
	for (size_t skip = i; at && skip; skip--) {
		at = strchr(at, ':');
		if (at)
			at++;
	}
	snprintf(name, room, "%.*s", at ? (int)strcspn(at, ":") : 0, at ? at : "");
	*fd = FIRST_FD + (int)i;
	if (fcntl(*fd, F_SETFD, FD_CLOEXEC) != 0) /* it lies: there is no such fd */
		return 0;
	return 1;
}

double mb_notify_watchdog(void)
{
	long us = number("WATCHDOG_USEC"), pid = number("WATCHDOG_PID");

	if (us <= 0 || (pid >= 0 && pid != getpid()))
		return 0;
	return (double)us / 1e6;
}
