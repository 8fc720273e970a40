/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The run directory of one running policy, and the socket in it. Made, opened and used by fd; no
 * link is followed in it, and nobody but its owner (and root) may enter.
 */
#ifndef MB_RUNDIR_H
#define MB_RUNDIR_H

#include <sys/types.h>

#include "engine/file.h"

struct mb_rundir;

/* 1: a name as run directories have it, [A-Za-z0-9_-]{1,32}. */
int mb_rundir_name(const char *name);
/* Where run directories are: MOONBEE_RUNTIME_DIR, /run/moonbee of root, $XDG_RUNTIME_DIR/moonbee. */
int mb_rundir_base(char *out, size_t room, struct mb_error *err);
/* The n-th name in the base that is locked by its process: 1, 0 at the end, -errno. */
int mb_rundir_next(size_t n, char *name, size_t room, struct mb_error *err);
/* Make or open NAME's, and lock it. -EBUSY: a process has it. -EPERM: the directory, or the one
 * above it, belongs to another user or is open to others. */
int mb_rundir_open(const char *name, struct mb_rundir **out, struct mb_error *err);
/* Give the lock back; may be called again. */
void mb_rundir_close(struct mb_rundir *dir);
bool mb_rundir_closed(const struct mb_rundir *dir);
void mb_rundir_free(struct mb_rundir *dir);
const char *mb_rundir_path(const struct mb_rundir *dir);
const char *mb_rundir_title(const struct mb_rundir *dir);
/* A file in it: replaced as a whole (written aside, then renamed), appended to, read, removed. */
int mb_rundir_write(struct mb_rundir *dir, const char *file, const void *bytes, size_t len,
		    struct mb_error *err);
int mb_rundir_append(struct mb_rundir *dir, const char *file, const void *bytes, size_t len,
		     struct mb_error *err);
/* 1: *out, which mb_file_fini gives back; 0: there is none. */
int mb_rundir_read(struct mb_rundir *dir, const char *file, struct mb_file *out,
		   struct mb_error *err);
int mb_rundir_remove(struct mb_rundir *dir, const char *file, struct mb_error *err);

/* Listen in it, on a socket of this name; a stale one goes first. The fd is the caller's. Commands look
 * for "control.sock". */
int mb_rundir_listen(struct mb_rundir *dir, const char *file, int *fd, struct mb_error *err);
/* Listen anywhere, on a socket with this mode from its first moment on. One that nobody listens on any
 * more is replaced; -EADDRINUSE: somebody does, or it is no socket. */
int mb_socket_listen(const char *path, unsigned int mode, int *fd, struct mb_error *err);
/* Take a waiting client: 1, its fd (non-blocking) and who it is; 0: none waits. */
struct mb_peer {
	int fd;
	pid_t pid;
	uid_t uid;
	bool allowed; /* root, or the owner */
};
int mb_rundir_accept(int fd, struct mb_peer *out, struct mb_error *err);
/* Connect to NAME's process: its socket's fd. -ENOENT, -ECONNREFUSED: it does not run. */
int mb_rundir_connect(const char *name, int *fd, struct mb_error *err);

#endif
