/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A file read once through one fd, and who but root and ourselves could have written it.
 */
#include <limits.h>
#include <sys/statvfs.h>

#include "engine/file.h"
#include "internal.h"

/* ---- who may write it ------------------------------------------------------------------------------ */

static bool is_read_only(const char *path)
{
	struct statvfs fs;

	return statvfs(path, &fs) == 0 && fs.f_flag & ST_RDONLY;
}

/* Others than root and us may change what st describes: its bytes, or a directory's entries. In a
 * sticky directory they cannot touch entries of root's or ours. */
static const char *exposure(const struct stat *st)
{
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return "its owner is another user";
	if (S_ISDIR(st->st_mode) && st->st_mode & S_ISVTX)
		return NULL;
	if (st->st_mode & S_IWOTH)
		return "everybody may write it";
	if (st->st_mode & S_IWGRP && st->st_gid != 0)
		return "its group may write it";
	return NULL;
}

static void look(struct mb_file *file, const char *path, const struct stat *st)
{
	const char *why = exposure(st);

	if (why && !file->exposed[0] && !is_read_only(path))
		snprintf(file->exposed, sizeof(file->exposed), "%.160s: %s", path, why);
}

/* The file itself and each directory up to the root. */
static void look_up(struct mb_file *file, const struct stat *st)
{
	char path[PATH_MAX];
	struct stat dir;
	char *slash;

	look(file, file->path, st);
	snprintf(path, sizeof(path), "%s", file->path);
	while ((slash = strrchr(path, '/'))) {
		slash[slash == path ? 1 : 0] = '\0';
		if (lstat(path, &dir) != 0)
			snprintf(file->exposed, sizeof(file->exposed), "%.160s: %s", path,
				 mb_error_text(errno));
		else
			look(file, path, &dir);
		if (slash == path)
			break;
	}
}

/* ---- reading ----------------------------------------------------------------------------------------- */

int mb_file_read_at(int fd, uint8_t *to, size_t len, uint64_t at)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, to + done, len - done, (off_t)(at + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO; /* it shrinks while we read */
		done += (size_t)n;
	}
	return 0;
}

static int resolve(int fd, char **out)
{
	char link[64], path[PATH_MAX];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		return -errno;
	path[n] = '\0';
	*out = strdup(path);
	return *out ? 0 : -ENOMEM;
}

static int check_kind(const struct stat *st, const char *path, size_t most, const char *op,
		      struct mb_error *err)
{
	if (S_ISDIR(st->st_mode))
		return mb_fail(err, EISDIR, op, path, "it is a directory");
	if (!S_ISREG(st->st_mode))
		return mb_fail(err, EINVAL, op, path, "it is no regular file");
	if (st->st_size < 0 || (uint64_t)st->st_size > most)
		return mb_fail(err, EFBIG, op, path, "it is larger than %zu MiB", most >> 20);
	return 0;
}

int mb_file_open(const char *path, size_t most, const char *op, struct stat *st,
		 struct mb_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), rc;

	if (fd < 0)
		return mb_fail(err, errno, op, path, "%s", mb_error_text(errno));
	rc = fstat(fd, st) == 0 ? check_kind(st, path, most, op, err) :
				  mb_fail(err, errno, op, path, "%s", mb_error_text(errno));
	if (!rc)
		return fd;
	close(fd);
	return rc;
}

bool mb_file_text(const char *path, char *text, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, room - 1);

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	return n > 0;
}

int mb_file_read(const char *path, size_t most, const char *op, struct mb_file *out,
		 struct mb_error *err)
{
	struct mb_file file = { 0 };
	struct stat st;
	int fd = mb_file_open(path, most, op, &st, err), rc = 0;

	if (fd < 0)
		return fd;
	file.bytes = malloc((size_t)st.st_size + 1);
	if (!file.bytes)
		rc = mb_fail(err, ENOMEM, op, path, "out of memory");
	if (!rc) {
		file.len = (size_t)st.st_size;
		file.bytes[file.len] = '\0';
		rc = mb_file_read_at(fd, file.bytes, file.len, 0);
		if (!rc)
			rc = resolve(fd, &file.path);
		if (rc)
			rc = mb_fail(err, rc, op, path, "cannot read it whole: %s",
				     mb_error_text(-rc));
	}
	close(fd);
	if (rc) {
		mb_file_fini(&file);
		return rc;
	}
	look_up(&file, &st);
	*out = file;
	return 0;
}

void mb_file_fini(struct mb_file *file)
{
	free(file->bytes);
	free(file->path);
	file->bytes = NULL;
	file->path = NULL;
}
