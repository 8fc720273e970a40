/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Files that are read whole and once: what was checked is what is used.
 */
#ifndef MB_FILE_H
#define MB_FILE_H

#include <sys/stat.h>

#include "engine/engine.h"

struct mb_file {
	uint8_t *bytes; /* ends with a NUL that len does not count */
	size_t len;
	char *path;	   /* where it really lies, links resolved */
	char exposed[256]; /* who else may write it, or a directory above it; "": nobody */
};

/* Read path through one fd. most: bytes. -ENOENT, -EISDIR, -EINVAL (no regular file), -EFBIG. */
int mb_file_read(const char *path, size_t most, const char *op, struct mb_file *out,
		 struct mb_error *err);
void mb_file_fini(struct mb_file *file);
/* Open a regular file of at most that size, which st describes. The fd, or -errno. */
int mb_file_open(const char *path, size_t most, const char *op, struct stat *st,
		 struct mb_error *err);
/* A file of /proc, as text: as much as has room. false: it cannot be read, or is empty. */
bool mb_file_text(const char *path, char *text, size_t room);
/* Read len bytes from byte at on, or -errno; -EIO: there are fewer. */
int mb_file_read_at(int fd, uint8_t *to, size_t len, uint64_t at);

#endif
