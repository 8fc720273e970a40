/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Names in the BPF file system: what may be pinned where, making the way there, opening what is
 * there. It removes nothing but the one file it is told to.
 */
#include <limits.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "engine/hold.h"
#include "engine/owner.h"

#include "internal.h"

#define BPFFS_MAGIC 0xcafe4a11
#define BPFFS "/sys/fs/bpf"

static bool on_bpffs(const char *path)
{
	struct statfs st;

	return statfs(path, &st) == 0 && (uint32_t)st.f_type == BPFFS_MAGIC;
}

/* ---- names ------------------------------------------------------------------------------------------ */

static bool under_bpffs(const char *path)
{
	return strncmp(path, BPFFS, strlen(BPFFS)) == 0 &&
	       (path[strlen(BPFFS)] == '/' || !path[strlen(BPFFS)]);
}

static int part_check(const char *path, const char *part, size_t n, const char *op,
		      struct mb_error *err)
{
	if (n > NAME_MAX)
		return mb_fail(err, ENAMETOOLONG, op, path,
			       "'%.20s…' has %zu letters, at most %d fit", part, n, NAME_MAX);
	if (under_bpffs(path) && memchr(part, '.', n)) {
		mb_fail(err, EINVAL, op, path, "'%.*s' has a dot, and bpffs allows none", (int)n,
			part);
		mb_error_hint(err, "use an underscore instead of the dot");
		return -EINVAL;
	}
	return 0;
}

int mb_pin_name_check(const char *path, const char *op, struct mb_error *err)
{
	const char *p = path;
	int rc;

	if (!*path)
		return mb_fail(err, EINVAL, op, path, "the pin path is empty");
	if (strlen(path) >= PATH_MAX - 32)
		return mb_fail(err, ENAMETOOLONG, op, path, "the pin path is too long");
	if (*path != '/') {
		mb_fail(err, EINVAL, op, path, "the pin path is relative");
		mb_error_hint(err, "give an absolute path, such as " BPFFS "/NAME");
		return -EINVAL;
	}
	while (*p) {
		size_t n = strcspn(p, "/");

		rc = part_check(path, p, n, op, err);
		if (rc)
			return rc;
		p += n;
		p += strspn(p, "/");
	}
	return 0;
}

static int not_bpffs(const char *path, const char *op, struct mb_error *err)
{
	mb_fail(err, EINVAL, op, path, "it is not on a BPF file system");
	mb_error_hint(err, "pin below " BPFFS ", or mount one: mount -t bpf bpf DIRECTORY");
	return -EINVAL;
}

/* ---- the way there ----------------------------------------------------------------------------------- */

static int mount_bpffs(const char *path, struct mb_error *err)
{
	int rc;

	if (!under_bpffs(path) || on_bpffs(BPFFS))
		return 0;
	if (mount("bpf", BPFFS, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") == 0)
		return 0;
	rc = mb_fail(err, errno, "mount bpffs at", BPFFS, "%s", mb_error_text(errno));
	if (geteuid() == 0)
		mb_error_hint(err, "mount it from outside of this container or sandbox: "
				   "mount -t bpf bpf " BPFFS);
	return rc;
}

/* Make one directory below another that is on bpffs. 0, also if it is there. */
static int make_dir(const char *dir, const char *parent, struct mb_error *err)
{
	struct stat st;

	if (stat(dir, &st) == 0)
		return S_ISDIR(st.st_mode) ? 0 :
					     mb_fail(err, ENOTDIR, "prepare pins", dir,
						     "it is there and no directory");
	if (!on_bpffs(parent))
		return not_bpffs(dir, "prepare pins", err);
	if (mkdir(dir, 0700) != 0 && errno != EEXIST)
		return mb_fail(err, errno, "prepare pins", dir, "%s", mb_error_text(errno));
	return 0;
}

int mb_pin_prepare(const char *path, struct mb_error *err)
{
	char dir[PATH_MAX], parent[PATH_MAX];
	int rc = mb_pin_name_check(path, "prepare pins", err);

	if (!rc)
		rc = mount_bpffs(path, err);
	snprintf(dir, sizeof(dir), "%s", path);
	for (char *p = dir + 1; !rc && *p;) {
		char kept;

		p += strcspn(p, "/");
		kept = *p;
		*p = '\0';
		snprintf(parent, sizeof(parent), "%s", dir);
		*strrchr(parent, '/') = '\0';
		rc = make_dir(dir, *parent ? parent : "/", err);
		*p = kept;
		p += strspn(p, "/");
	}
	if (!rc && !on_bpffs(path))
		rc = not_bpffs(path, "prepare pins", err);
	return rc;
}

int mb_pin_check(const char *path, const char *op, struct mb_error *err)
{
	char dir[PATH_MAX];
	struct stat st;
	char *slash;
	int rc = mb_pin_name_check(path, op, err);

	if (rc)
		return rc;
	if (lstat(path, &st) == 0) {
		mb_fail(err, EEXIST, op, path, "something is there already");
		mb_error_hint(err, "choose another name, or unpin what is there");
		return -EEXIST;
	}
	snprintf(dir, sizeof(dir), "%s", path);
	slash = strrchr(dir, '/');
	if (!slash[1])
		return mb_fail(err, EINVAL, op, path, "it ends in a slash: a name is missing");
	slash[slash == dir] = '\0';
	return mb_pin_prepare(dir, err);
}

int mb_pin_dir_check(const char *dir, const char *op, struct mb_error *err)
{
	struct stat st;

	if (stat(dir, &st) != 0)
		return mb_fail(err, errno, op, dir, "%s", mb_error_text(errno));
	if (!S_ISDIR(st.st_mode))
		return mb_fail(err, ENOTDIR, op, dir, "it is no directory");
	return on_bpffs(dir) ? 0 : not_bpffs(dir, op, err);
}

/* Ids are the identity; the info structs of all kinds begin with type and id. */
static int thing_of(int fd, enum mb_pinned_kind *kind, uint32_t *id)
{
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info);
	int rc = mb_pin_kind(fd, kind);

	if (rc)
		return rc;
	if (bpf_obj_get_info_by_fd(fd, &info, &len) != 0)
		return -errno;
	*id = info.id;
	return 0;
}

/* Do two fds hold the same map, program or link? */
static bool same_thing(int a, int b)
{
	enum mb_pinned_kind kind_a, kind_b;
	uint32_t id_a, id_b;

	return thing_of(a, &kind_a, &id_a) == 0 && thing_of(b, &kind_b, &id_b) == 0 &&
	       kind_a == kind_b && id_a == id_b;
}

/* What is pinned at path: 0, or -errno. */
static int thing_at(const char *path, enum mb_pinned_kind *kind, uint32_t *id)
{
	int fd = bpf_obj_get(path), rc;

	if (fd < 0)
		return -errno;
	rc = thing_of(fd, kind, id);
	close(fd);
	return rc;
}

bool mb_pin_is(const char *path, enum mb_pinned_kind kind, uint32_t id)
{
	enum mb_pinned_kind there;
	uint32_t there_id;

	return thing_at(path, &there, &there_id) == 0 && there == kind && there_id == id;
}

int mb_pin_remove_thing(const char *path, enum mb_pinned_kind kind, uint32_t id)
{
	if (mb_pin_is(path, kind, id) && unlink(path) != 0 && errno != ENOENT)
		return -errno;
	mb_owner_forget(path);
	return 0;
}

/* ---- pinning ------------------------------------------------------------------------------------------ */

/* The directory of path, without a slash at its end. */
static void dir_of(const char *path, char *dir, size_t room)
{
	snprintf(dir, room, "%.*s", (int)(strrchr(path, '/') - path), path);
	if (!*dir)
		snprintf(dir, room, "/");
}

/* First the record, then the pin: one without a record would be nobody's for ever. */
static int pin_recorded(int fd, const char *path, struct mb_object *obj, const char *op,
			struct mb_error *err)
{
	bool cleanup = obj && obj->pin_cleanup;
	enum mb_pinned_kind kind;
	uint32_t id;
	int rc = thing_of(fd, &kind, &id);

	if (rc)
		return mb_fail(err, rc, op, path, "%s", mb_error_text(-rc));
	rc = mb_owner_record(path, kind, id, cleanup, op, err);
	if (rc)
		return rc;
	if (bpf_obj_pin(fd, path) != 0) {
		rc = mb_fail(err, errno, op, path, "%s", mb_error_text(errno));
		if (rc != -EEXIST)
			mb_owner_forget(path);
	} else if (cleanup && mb_own_pins_add(&obj->own_pins, kind, id, path) != 0) {
		mb_pin_remove_thing(path, kind, id);
		rc = mb_fail(err, ENOMEM, op, path, "out of memory");
	}
	return rc;
}

int mb_pin_fd_locked(int fd, const char *path, struct mb_object *obj, const char *op,
		     struct mb_error *err)
{
	int rc = mb_pin_check(path, op, err);

	return rc ? rc : pin_recorded(fd, path, obj, op, err);
}

int mb_pin_fd(int fd, const char *path, struct mb_object *obj, const char *op, struct mb_error *err)
{
	char dir[PATH_MAX];
	int rc = mb_pin_check(path, op, err), lock;

	if (rc)
		return rc;
	dir_of(path, dir, sizeof(dir));
	rc = mb_pin_lock(dir, &lock, op, err);
	if (rc)
		return rc;
	rc = mb_pin_fd_locked(fd, path, obj, op, err);
	close(lock);
	return rc;
}

/* Put the new thing beside the old one, then in its place: at each moment one of them is there. */
static int replace(int fd, const char *path, struct mb_object *obj, const char *op,
		   struct mb_error *err)
{
	bool cleanup = obj && obj->pin_cleanup;
	char step[PATH_MAX + 2];
	enum mb_pinned_kind kind;
	uint32_t id;
	int rc;

	snprintf(step, sizeof(step), "%s~", path);
	/* of a process that was killed here: whoever has the lock is alone */
	if (unlink(step) != 0 && errno != ENOENT)
		return mb_fail(err, errno, op, step, "%s", mb_error_text(errno));
	rc = mb_pin_name_check(step, op, err);
	if (!rc)
		rc = pin_recorded(fd, step, NULL, op, err);
	if (rc)
		return rc;
	rc = thing_of(fd, &kind, &id);
	if (!rc && cleanup)
		rc = mb_owner_record(step, kind, id, true, op, err);
	if (!rc && cleanup && mb_own_pins_add(&obj->own_pins, kind, id, path) != 0)
		rc = mb_fail(err, ENOMEM, op, path, "out of memory");
	if (!rc && rename(step, path) != 0)
		rc = mb_fail(err, errno, op, path, "%s", mb_error_text(errno));
	if (rc)
		mb_pin_remove_thing(step, kind, id);
	else
		mb_owner_move(step, path);
	return rc;
}

int mb_pin_replace_locked(int fd, const char *path, uint32_t expected, struct mb_object *obj,
			  const char *op, struct mb_error *err)
{
	enum mb_pinned_kind kind, there;
	uint32_t id, there_id;
	int rc = thing_at(path, &there, &there_id);

	if (rc == -ENOENT)
		return expected ? mb_fail(err, ENOENT, op, path, "its pin is gone") :
				  mb_pin_fd_locked(fd, path, obj, op, err);
	if (rc)
		return mb_fail(err, rc == -EACCES ? EEXIST : rc, op, path, "%s",
			       rc == -EACCES ? "what is there is no pin" : mb_error_text(-rc));
	if (thing_of(fd, &kind, &id) != 0 || kind != there)
		return mb_fail(err, EEXIST, op, path, "what is there is of another kind");
	if (expected && there_id != expected)
		return mb_fail(err, EBUSY, op, path, "another one was pinned there meanwhile");
	return there_id == id ? 0 : replace(fd, path, obj, op, err);
}

int mb_pin_replace(int fd, const char *path, uint32_t expected, struct mb_object *obj,
		   const char *op, struct mb_error *err)
{
	char dir[PATH_MAX];
	int rc = mb_pin_name_check(path, op, err), lock;

	if (rc)
		return rc;
	if (access(path, F_OK) != 0 && errno == ENOENT && !expected)
		return mb_pin_fd(fd, path, obj, op, err);
	dir_of(path, dir, sizeof(dir));
	rc = mb_pin_lock(dir, &lock, op, err);
	if (rc)
		return rc;
	rc = mb_pin_replace_locked(fd, path, expected, obj, op, err);
	close(lock);
	return rc;
}

/* The record at the new name first: a kill leaves one too many, and never a pin without. */
static int move_recorded(int fd, const char *from, const char *to, struct mb_object *obj,
			 const char *op, struct mb_error *err)
{
	bool cleanup = obj && obj->pin_cleanup;
	enum mb_pinned_kind kind;
	uint32_t id;
	int rc = thing_of(fd, &kind, &id);

	if (!rc && !mb_pin_is(from, kind, id))
		rc = -ENOENT;
	if (rc)
		return mb_fail(err, rc, op, from, "%s",
			       rc == -ENOENT ? "its pin is gone" : mb_error_text(-rc));
	rc = mb_owner_record(to, kind, id, cleanup, op, err);
	if (rc)
		return rc;
	if (cleanup && mb_own_pins_add(&obj->own_pins, kind, id, to) != 0)
		rc = mb_fail(err, ENOMEM, op, to, "out of memory");
	else if (rename(from, to) != 0)
		rc = mb_fail(err, errno, op, to, "%s", mb_error_text(errno));
	mb_owner_forget(rc ? to : from);
	return rc;
}

int mb_pin_move(int fd, const char *from, const char *to, struct mb_object *obj, const char *op,
		struct mb_error *err)
{
	char dir[PATH_MAX];
	int rc = mb_pin_check(to, op, err), lock;

	if (rc)
		return rc;
	dir_of(to, dir, sizeof(dir));
	rc = mb_pin_lock(dir, &lock, op, err);
	if (rc)
		return rc;
	rc = mb_pin_check(to, op, err); /* once more, alone */
	if (!rc)
		rc = move_recorded(fd, from, to, obj, op, err);
	close(lock);
	return rc;
}

int mb_pin_remove(char **path, int fd, const char *op, struct mb_error *err)
{
	int there = bpf_obj_get(*path);
	bool ours = there >= 0 && same_thing(there, fd);

	if (there < 0 && errno != ENOENT && !(errno == EACCES && geteuid() == 0))
		return mb_fail(err, errno, op, *path, "%s", mb_error_text(errno));
	if (there >= 0)
		close(there);
	/* another one's pin by now, or none: only forget it */
	if (ours && unlink(*path) != 0 && errno != ENOENT)
		return mb_fail(err, errno, op, *path, "%s", mb_error_text(errno));
	if (ours)
		mb_owner_forget(*path);
	free(*path);
	*path = NULL;
	return 0;
}

/* ---- maps --------------------------------------------------------------------------------------------- */

int mb_map_pin(struct mb_map *map, const char *path, bool over, struct mb_error *err)
{
	int rc = mb_map_check(map, "pin map", err);
	char *kept;

	if (!rc)
		rc = mb_refuse("pin map", map->name, err);
	if (rc)
		return rc;
	/* its own pin may have been taken, and is taken back */
	if (map->pin_path && !(over && strcmp(map->pin_path, path) == 0)) {
		mb_fail(err, EEXIST, "pin map", map->name, "it is pinned at %s", map->pin_path);
		mb_error_hint(err, "m:unpin() first");
		return -EEXIST;
	}
	kept = strdup(path);
	if (!kept)
		return mb_fail(err, ENOMEM, "pin map", map->name, "out of memory");
	rc = over ? mb_pin_replace(map->fd, path, 0, map->obj, "pin map", err) :
		    mb_pin_fd(map->fd, path, map->obj, "pin map", err);
	if (rc) {
		free(kept);
	} else {
		free(map->pin_path);
		map->pin_path = kept;
	}
	return rc;
}

int mb_map_unpin(struct mb_map *map, struct mb_error *err)
{
	int rc = mb_map_check(map, "unpin map", err);

	if (!rc)
		rc = mb_refuse("unpin map", map->name, err);
	if (rc)
		return rc;
	if (!map->pin_path)
		return mb_fail(err, ENOENT, "unpin map", map->name, "it is not pinned by us");
	return mb_pin_remove(&map->pin_path, map->fd, "unpin map", err);
}

/* ---- opening ------------------------------------------------------------------------------------------- */

/* The info call does not say what a fd is, and half-fills the wrong struct: ask /proc. */
int mb_pin_kind(int fd, enum mb_pinned_kind *out)
{
	char name[64], target[64];
	ssize_t n;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	n = readlink(name, target, sizeof(target) - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	if (strstr(target, "bpf-map"))
		*out = MB_PINNED_MAP;
	else if (strstr(target, "bpf-prog"))
		*out = MB_PINNED_PROGRAM;
	else if (strstr(target, "bpf_link") || strstr(target, "bpf-link"))
		*out = MB_PINNED_LINK;
	else
		return -EINVAL;
	return 0;
}

static int open_refused(const char *path, int code, enum mb_pin_access access, struct mb_error *err)
{
	struct stat st;

	if (code == EINVAL && access != MB_PIN_BOTH && on_bpffs(path)) {
		mb_fail(err, code, "open pin", path, "the kernel opens no link %s-only",
			access == MB_PIN_READ ? "read" : "write");
		mb_error_hint(err, "readonly and writeonly are for maps");
		return -EINVAL;
	}
	if (stat(path, &st) == 0 && !on_bpffs(path))
		return not_bpffs(path, "open pin", err);
	if (code == EACCES && geteuid() == 0)
		return mb_fail(err, code, "open pin", path, "it is no pinned map, program or link");
	return mb_fail(err, code, "open pin", path, "%s", mb_error_text(code));
}

int mb_pinned_open(const char *path, enum mb_pin_access access, struct mb_pinned *out,
		   struct mb_error *err)
{
	LIBBPF_OPTS(bpf_obj_get_opts, opts,
		    .file_flags = access == MB_PIN_READ	 ? BPF_F_RDONLY :
				  access == MB_PIN_WRITE ? BPF_F_WRONLY :
							   0);
	struct mb_pinned found = { 0 };
	int fd = bpf_obj_get_opts(path, &opts), rc;

	if (fd < 0)
		return open_refused(path, errno, access, err);
	rc = mb_pin_kind(fd, &found.kind);
	if (rc) {
		close(fd);
		return mb_fail(err, rc, "open pin", path, "cannot tell what it is");
	}
	if (found.kind == MB_PINNED_MAP)
		rc = mb_map_from_fd(fd, path, &found.map, err);
	else if (found.kind == MB_PINNED_PROGRAM)
		rc = mb_program_from_fd(fd, &found.program, err);
	else
		rc = mb_link_from_fd(fd, path, &found.link, err);
	if (!rc)
		*out = found;
	return rc;
}
