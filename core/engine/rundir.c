/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A policy's run directory. Each step goes by fd from a directory that was checked, so that nobody
 * can put a link or another directory in between.
 */
#include <dirent.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "engine/rundir.h"
#include "internal.h"

#define SOCKET "control.sock" /* what mb_rundir_connect connects to */
#define ASIDE ".new"
#define LOCK "lock"
#define BACKLOG 16
#define MAX_FILE (512u << 20)

struct mb_rundir {
	int fd, lock;
	char path[PATH_MAX];
	char name[33];
};

int mb_rundir_name(const char *name)
{
	size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				"0123456789_-");

	return n >= 1 && n <= 32 && !name[n];
}

/* ---- the directory above ------------------------------------------------------------------------------ */

int mb_rundir_base(char *out, size_t room, struct mb_error *err)
{
	const char *given = getenv("MOONBEE_RUNTIME_DIR"), *xdg = getenv("XDG_RUNTIME_DIR");
	int n;

	if (given && *given)
		n = snprintf(out, room, "%s", given);
	else if (geteuid() == 0)
		n = snprintf(out, room, "/run/moonbee");
	else if (xdg && *xdg == '/')
		n = snprintf(out, room, "%s/moonbee", xdg);
	else {
		mb_fail(err, ENOENT, "open run directory", "XDG_RUNTIME_DIR", "it is not set");
		mb_error_hint(err, "a login session sets it; or give MOONBEE_RUNTIME_DIR, a "
				   "directory of yours with mode 0700");
		return -ENOENT;
	}
	if ((size_t)n < room)
		return 0;
	return mb_fail(err, ENAMETOOLONG, "open run directory", given && *given ? given : xdg,
		       "its path is longer than %zu bytes", room - 1);
}

/* Whose may it be? Ours; and root, who makes nothing there, reaches those of others. */
static int check_private(int fd, const char *path, bool make, struct mb_error *err)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return mb_fail(err, errno, "open run directory", path, "%s", mb_error_text(errno));
	if (st.st_uid != geteuid() && (make || geteuid() != 0))
		mb_fail(err, EPERM, "open run directory", path, "it belongs to user %u",
			(unsigned int)st.st_uid);
	else if (st.st_mode & 077)
		mb_fail(err, EPERM, "open run directory", path, "its mode is %04o, not 0700",
			(unsigned int)st.st_mode & 07777);
	else
		return 0;
	mb_error_hint(err, "only its owner may enter: chmod 0700, or give another one by "
			   "MOONBEE_RUNTIME_DIR");
	return -EPERM;
}

/* Open, and make where make says so, a directory that must be ours alone. */
static int open_private(int at, const char *name, const char *path, bool make, struct mb_error *err)
{
	int fd, rc;

	if (make && mkdirat(at, name, 0700) != 0 && errno != EEXIST)
		return mb_fail(err, errno, "make run directory", path, "%s", mb_error_text(errno));
	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && (errno == ELOOP || errno == ENOTDIR))
		return mb_fail(err, EPERM, "open run directory", path,
			       "it is a link or no directory");
	if (fd < 0)
		return mb_fail(err, errno, "open run directory", path, "%s", mb_error_text(errno));
	rc = check_private(fd, path, make, err);
	if (rc) {
		close(fd);
		return rc;
	}
	return fd;
}

static int open_base(bool make, char *path, size_t room, struct mb_error *err)
{
	int rc = mb_rundir_base(path, room, err);

	return rc ? rc : open_private(AT_FDCWD, path, path, make, err);
}

static int bad_name(const char *name, struct mb_error *err)
{
	mb_fail(err, EINVAL, "open run directory", name, "it is no name of a policy");
	mb_error_hint(err, "a name has 1 to 32 letters, digits, - and _");
	return -EINVAL;
}

/* ---- open --------------------------------------------------------------------------------------------- */

static struct flock whole_file(void)
{
	return (struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_SET };
}

/* The lock is on a file, so that who lists what runs can ask for it without taking it. It is the open
 * file's (OFD), and ends with it. */
static int lock(struct mb_rundir *dir, struct mb_error *err)
{
	struct flock want = whole_file();

	dir->lock = openat(dir->fd, LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (dir->lock >= 0 && fcntl(dir->lock, F_OFD_SETLK, &want) == 0)
		return 0;
	if (dir->lock < 0 || (errno != EAGAIN && errno != EACCES))
		return mb_fail(err, errno, "lock run directory", dir->name, "%s",
			       mb_error_text(errno));
	mb_fail(err, EBUSY, "run policy", dir->name, "a policy of this name is running");
	mb_error_hint(err, "moonbee ctl %s status; or give another --name", dir->name);
	return -EBUSY;
}

int mb_rundir_open(const char *name, struct mb_rundir **out, struct mb_error *err)
{
	struct mb_rundir *dir;
	char base[PATH_MAX - 64];
	int above, rc;

	if (!mb_rundir_name(name))
		return bad_name(name, err);
	above = open_base(true, base, sizeof(base), err);
	if (above < 0)
		return above;
	dir = calloc(1, sizeof(*dir));
	if (!dir) {
		close(above);
		return mb_fail(err, ENOMEM, "open run directory", name, "out of memory");
	}
	dir->lock = -1;
	snprintf(dir->path, sizeof(dir->path), "%s/%s", base, name);
	snprintf(dir->name, sizeof(dir->name), "%s", name);
	rc = dir->fd = open_private(above, name, dir->path, true, err);
	close(above);
	if (rc >= 0)
		rc = lock(dir, err);
	if (rc < 0) {
		mb_rundir_free(dir);
		return rc;
	}
	*out = dir;
	return 0;
}

void mb_rundir_close(struct mb_rundir *dir)
{
	if (dir->lock >= 0)
		close(dir->lock);
	if (dir->fd >= 0)
		close(dir->fd);
	dir->fd = dir->lock = -1;
}

bool mb_rundir_closed(const struct mb_rundir *dir)
{
	return dir->fd < 0;
}

void mb_rundir_free(struct mb_rundir *dir)
{
	mb_rundir_close(dir);
	free(dir);
}

const char *mb_rundir_path(const struct mb_rundir *dir)
{
	return dir->path;
}

const char *mb_rundir_title(const struct mb_rundir *dir)
{
	return dir->name;
}

/* Does a process hold the lock of base/name? */
static bool is_running(int base, const char *name)
{
	struct flock held = whole_file();
	char path[64];
	int fd = -1;

	if (mb_rundir_name(name)) {
		snprintf(path, sizeof(path), "%.32s/" LOCK, name);
		fd = openat(base, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	}
	if (fd < 0)
		return false;
	if (fcntl(fd, F_OFD_GETLK, &held) != 0)
		held.l_type = F_UNLCK;
	close(fd);
	return held.l_type != F_UNLCK;
}

int mb_rundir_next(size_t n, char *name, size_t room, struct mb_error *err)
{
	char base[PATH_MAX];
	int fd = open_base(false, base, sizeof(base), err), found = 0;
	struct dirent *entry;
	DIR *dir;

	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return mb_fail(err, errno, "list run directory", base, "%s", mb_error_text(errno));
	}
	while (!found && (entry = readdir(dir)))
		if (is_running(fd, entry->d_name) && !n--) {
			snprintf(name, room, "%s", entry->d_name);
			found = 1;
		}
	closedir(dir);
	return found;
}

/* ---- files ---------------------------------------------------------------------------------------------- */

static int failed(struct mb_rundir *dir, const char *op, const char *file, int code,
		  struct mb_error *err)
{
	char path[PATH_MAX + 64];

	snprintf(path, sizeof(path), "%s/%s", dir->path, file);
	return mb_fail(err, code, op, path, "%s", mb_error_text(code < 0 ? -code : code));
}

/* A file's name, and nothing that leads elsewhere. */
static int check_file(struct mb_rundir *dir, const char *file, struct mb_error *err)
{
	if (*file && *file != '.' && !strchr(file, '/') && strlen(file) < 64)
		return 0;
	return failed(dir, "open file", file, EINVAL, err);
}

static int write_all(int fd, const uint8_t *bytes, size_t len)
{
	while (len) {
		ssize_t n = write(fd, bytes, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

int mb_rundir_write(struct mb_rundir *dir, const char *file, const void *bytes, size_t len,
		    struct mb_error *err)
{
	int rc = check_file(dir, file, err), fd;
	char aside[80];

	if (rc)
		return rc;
	snprintf(aside, sizeof(aside), "%s" ASIDE, file);
	unlinkat(dir->fd, aside, 0); /* of one that was killed */
	fd = openat(dir->fd, aside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return failed(dir, "write file", file, errno, err);
	rc = write_all(fd, bytes, len);
	close(fd);
	if (!rc && renameat(dir->fd, aside, dir->fd, file) != 0)
		rc = -errno;
	if (rc) {
		unlinkat(dir->fd, aside, 0);
		return failed(dir, "write file", file, rc, err);
	}
	return 0;
}

int mb_rundir_append(struct mb_rundir *dir, const char *file, const void *bytes, size_t len,
		     struct mb_error *err)
{
	int rc = check_file(dir, file, err), fd;

	if (rc)
		return rc;
	fd = openat(dir->fd, file, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return failed(dir, "write file", file, errno, err);
	rc = write_all(fd, bytes, len);
	close(fd);
	return rc ? failed(dir, "write file", file, rc, err) : 0;
}

int mb_rundir_read(struct mb_rundir *dir, const char *file, struct mb_file *out,
		   struct mb_error *err)
{
	struct mb_file found = { 0 };
	int rc = check_file(dir, file, err), fd;
	struct stat st;
	ssize_t n = 0;

	if (rc)
		return rc;
	fd = openat(dir->fd, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT ? 0 : failed(dir, "read file", file, errno, err);
	if (fstat(fd, &st) != 0)
		rc = -errno;
	else if (!S_ISREG(st.st_mode) || st.st_size > MAX_FILE)
		rc = -EINVAL;
	else if (!(found.bytes = malloc((size_t)st.st_size + 1)))
		rc = -ENOMEM;
	else if ((n = read(fd, found.bytes, (size_t)st.st_size)) < 0)
		rc = -errno;
	close(fd);
	if (rc) {
		mb_file_fini(&found);
		return failed(dir, "read file", file, rc, err);
	}
	found.len = (size_t)n;
	*out = found;
	return 1;
}

int mb_rundir_remove(struct mb_rundir *dir, const char *file, struct mb_error *err)
{
	int rc = check_file(dir, file, err);

	if (!rc && unlinkat(dir->fd, file, 0) != 0 && errno != ENOENT)
		rc = failed(dir, "remove file", file, errno, err);
	return rc;
}

/* ---- the socket ----------------------------------------------------------------------------------------- */

/* By way of the directory's fd: short enough for any path, and no name above it is looked up. */
static void address(int dir, const char *file, struct sockaddr_un *to)
{
	memset(to, 0, sizeof(*to));
	to->sun_family = AF_UNIX;
	snprintf(to->sun_path, sizeof(to->sun_path), "/proc/self/fd/%d/%s", dir, file);
}

static int new_socket(void)
{
	return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

int mb_rundir_listen(struct mb_rundir *dir, const char *file, int *out, struct mb_error *err)
{
	int rc = check_file(dir, file, err), fd;
	struct sockaddr_un at;

	if (rc)
		return rc;
	fd = new_socket();
	if (fd < 0)
		return failed(dir, "listen on", file, errno, err);
	unlinkat(dir->fd, file, 0); /* the lock is ours: whoever made it is gone */
	address(dir->fd, file, &at);
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) != 0 || listen(fd, BACKLOG) != 0)
		rc = -errno;
	if (rc) {
		close(fd);
		return failed(dir, "listen on", file, rc, err);
	}
	*out = fd;
	return 0;
}

/* Does nobody listen on the socket at this address any more? */
static bool is_stale(const struct sockaddr_un *at)
{
	struct stat st;
	bool refused;
	int fd;

	if (lstat(at->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
		return false;
	fd = new_socket();
	if (fd < 0)
		return false;
	refused = connect(fd, (const struct sockaddr *)at, sizeof(*at)) != 0 &&
		  errno == ECONNREFUSED;
	close(fd);
	return refused;
}

static int fail_listen(const char *path, int code, struct mb_error *err)
{
	mb_fail(err, code, "listen on", path, "%s", mb_error_text(code));
	if (code == EADDRINUSE)
		mb_error_hint(err, "another process listens there, or it is no socket");
	return -code;
}

/* No link is followed: whoever may rename in that directory puts no other file in between. */
static int set_mode(const char *path, unsigned int mode)
{
	int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC), code = 0;
	struct stat st;
	char by_fd[64];

	if (fd < 0)
		return errno;
	snprintf(by_fd, sizeof(by_fd), "/proc/self/fd/%d", fd);
	if (fstat(fd, &st) != 0)
		code = errno;
	else if (!S_ISSOCK(st.st_mode))
		code = EPERM;
	else if (chmod(by_fd, mode) != 0)
		code = errno;
	close(fd);
	return code;
}

int mb_socket_listen(const char *path, unsigned int mode, int *out, struct mb_error *err)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd, code = 0;

	if (strlen(path) >= sizeof(at.sun_path))
		return mb_fail(err, ENAMETOOLONG, "listen on", path,
			       "a socket's path has at most %zu bytes", sizeof(at.sun_path) - 1);
	memcpy(at.sun_path, path, strlen(path));
	fd = new_socket();
	if (fd < 0)
		return fail_listen(path, errno, err);
	if (is_stale(&at))
		unlink(path);
	/* nobody can connect before listen: then the mode is as it is to be */
	if (fchmod(fd, mode) != 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) != 0) {
		code = errno;
	} else {
		code = set_mode(path, mode); /* more than the umask leaves of it */
		if (!code && listen(fd, BACKLOG) != 0)
			code = errno;
		if (code)
			unlink(path);
	}
	if (code) {
		close(fd);
		return fail_listen(path, code, err);
	}
	*out = fd;
	return 0;
}

int mb_rundir_accept(int fd, struct mb_peer *out, struct mb_error *err)
{
	struct ucred who = { 0 };
	socklen_t len = sizeof(who);
	int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), code;

	if (client < 0 && (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR))
		return 0;
	if (client < 0)
		return mb_fail(err, errno, "accept client", SOCKET, "%s", mb_error_text(errno));
	if (getsockopt(client, SOL_SOCKET, SO_PEERCRED, &who, &len) != 0) {
		code = errno;
		close(client);
		return mb_fail(err, code, "accept client", SOCKET, "%s", mb_error_text(code));
	}
	*out = (struct mb_peer){ client, who.pid, who.uid, who.uid == 0 || who.uid == geteuid() };
	return 1;
}

static int connect_in(int dir, const char *name, int *out, struct mb_error *err)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), code;
	struct sockaddr_un at;

	if (fd < 0)
		return mb_fail(err, errno, "connect to policy", name, "%s", mb_error_text(errno));
	address(dir, SOCKET, &at);
	if (connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0) {
		*out = fd;
		return 0;
	}
	code = errno;
	close(fd);
	if (code == ENOENT || code == ECONNREFUSED)
		return mb_fail(err, ECONNREFUSED, "connect to policy", name, "it does not run");
	return mb_fail(err, code, "connect to policy", name, "%s", mb_error_text(code));
}

int mb_rundir_connect(const char *name, int *out, struct mb_error *err)
{
	char base[PATH_MAX - 64], path[PATH_MAX];
	int above, dir, rc;

	if (!mb_rundir_name(name))
		return bad_name(name, err);
	above = open_base(false, base, sizeof(base), err);
	if (above == -ENOENT)
		return mb_fail(err, ENOENT, "connect to policy", name,
			       "no policy of this name runs");
	if (above < 0)
		return above;
	snprintf(path, sizeof(path), "%s/%s", base, name);
	dir = open_private(above, name, path, false, err);
	close(above);
	if (dir == -ENOENT)
		return mb_fail(err, ENOENT, "connect to policy", name,
			       "no policy of this name runs");
	if (dir < 0)
		return dir;
	rc = connect_in(dir, name, out, err);
	close(dir);
	return rc;
}
