/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Records of whose the pins are, and the lock under which they change. It makes and removes records,
 * never a pin but those on an object's own list.
 */
#include "engine/owner.h"

#include <limits.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "engine/file.h"
#include "internal.h"

static const char *const kinds
	[] = { [MB_PINNED_MAP] = "map", [MB_PINNED_PROGRAM] = "program", [MB_PINNED_LINK] = "link" };

/* ---- processes -------------------------------------------------------------------------------------- */

/* When a process began: field 22 of its stat, after a name that may hold anything. 0: it is gone. */
static uint64_t start_of(int pid)
{
	char path[64], text[1024], *p;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	p = mb_file_text(path, text, sizeof(text)) ? strrchr(text, ')') : NULL;
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	return p ? strtoull(p + 1, NULL, 10) : 0;
}

static uint64_t pid_namespace(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) == 0 ? st.st_ino : 0;
}

bool mb_owner_alive(const struct mb_owner *owner)
{
	uint64_t start;

	if (owner->pidns != pid_namespace())
		return true; /* its number says nothing here */
	start = start_of(owner->pid);
	return start == owner->start && start;
}

bool mb_owner_is_us(const struct mb_owner *owner)
{
	return owner->pid == getpid() && owner->pidns == pid_namespace() &&
	       owner->start == start_of(owner->pid);
}

/* ---- records ------------------------------------------------------------------------------------------ */

/* DIR/NAME -> DIR/_moonbee_owner/NAME; with make, its directory, too. */
static int record_path(const char *path, char *to, size_t room, bool make)
{
	const char *slash = strrchr(path, '/');
	int n;

	if (!slash || !slash[1])
		return -EINVAL;
	n = snprintf(to, room, "%.*s/" MB_OWNER_DIR, (int)(slash - path), path);
	if (n < 0 || (size_t)n >= room)
		return -ENAMETOOLONG;
	if (make && mkdir(to, 0700) != 0 && errno != EEXIST)
		return -errno;
	n += snprintf(to + n, room - (size_t)n, "/%s", slash + 1);
	return (size_t)n < room ? 0 : -ENAMETOOLONG;
}

static bool parse(const char *text, struct mb_owner *out)
{
	unsigned long long start, pidns;
	char kind[16], flags[32];

	if (sscanf(text, "moonbee:1:%15[a-z]:%u:%d:%llu:%llu:%u:%31[a-z-]", kind, &out->id,
		   &out->pid, &start, &pidns, &out->uid, flags) != 7)
		return false;
	out->start = start;
	out->pidns = pidns;
	out->cleanup = strcmp(flags, "cleanup") == 0;
	out->temporary = false;
	for (int k = MB_PINNED_MAP; k <= MB_PINNED_LINK; k++)
		if (strcmp(kind, kinds[k]) == 0) {
			out->kind = (enum mb_pinned_kind)k;
			return true;
		}
	return false;
}

int mb_owner_read(const char *record, struct mb_owner *out)
{
	char text[256];
	ssize_t n = readlink(record, text, sizeof(text) - 1);

	if (n <= 0)
		return 0;
	text[n] = '\0';
	return parse(text, out);
}

int mb_owner_find(const char *path, uint32_t id, struct mb_owner *out)
{
	char record[PATH_MAX + 64];

	if (record_path(path, record, sizeof(record), false) != 0)
		return 0;
	if (mb_owner_read(record, out) && out->id == id)
		return 1;
	/* a replacement that ended between the two renames */
	strcat(record, "~");
	return mb_owner_read(record, out) && out->id == id;
}

int mb_owner_record(const char *path, enum mb_pinned_kind kind, uint32_t id, bool cleanup,
		    const char *op, struct mb_error *err)
{
	char record[PATH_MAX + 64], text[256];
	int rc = record_path(path, record, sizeof(record), true);

	if (rc)
		return mb_fail(err, rc, op, path, "its owner cannot be recorded: %s",
			       mb_error_text(-rc));
	snprintf(text, sizeof(text), "moonbee:1:%s:%u:%d:%llu:%llu:%u:%s", kinds[kind], id,
		 (int)getpid(), (unsigned long long)start_of(getpid()),
		 (unsigned long long)pid_namespace(), (unsigned int)geteuid(),
		 cleanup ? "cleanup" : "kept");
	if (symlink(text, record) == 0)
		return 0;
	/* of a pin that is gone, or of what is to be replaced */
	if (errno == EEXIST && unlink(record) == 0 && symlink(text, record) == 0)
		return 0;
	return mb_fail(err, errno, op, path, "its owner cannot be recorded: %s",
		       mb_error_text(errno));
}

void mb_owner_move(const char *from, const char *to)
{
	char a[PATH_MAX + 64], b[PATH_MAX + 64];

	if (record_path(from, a, sizeof(a), false) == 0 &&
	    record_path(to, b, sizeof(b), true) == 0 && rename(a, b) != 0)
		unlink(b); /* better none than another's */
	mb_owner_forget(from);
}

void mb_owner_forget(const char *path)
{
	char record[PATH_MAX + 64], *slash;

	if (record_path(path, record, sizeof(record), false) != 0)
		return;
	unlink(record);
	slash = strrchr(record, '/');
	*slash = '\0';
	rmdir(record); /* when it is empty */
}

/* ---- the lock ------------------------------------------------------------------------------------------ */

int mb_pin_lock(const char *dir, int *fd, const char *op, struct mb_error *err)
{
	int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int code;

	if (dir_fd >= 0 && flock(dir_fd, LOCK_EX) == 0) {
		*fd = dir_fd;
		return 0;
	}
	code = errno;
	if (dir_fd >= 0)
		close(dir_fd);
	if (code == EINTR)
		return mb_fail(err, code, op, dir, "interrupted while another process changes it");
	return mb_fail(err, code, op, dir, "it cannot be locked: %s", mb_error_text(code));
}

/* ---- an object's own pins --------------------------------------------------------------------------------- */

int mb_own_pins_add(struct mb_own_pin **list, enum mb_pinned_kind kind, uint32_t id,
		    const char *path)
{
	size_t len = strlen(path) + 1;
	struct mb_own_pin *pin = malloc(sizeof(*pin) + len);

	if (!pin)
		return -ENOMEM;
	*pin = (struct mb_own_pin){ *list, kind, id };
	memcpy(pin->path, path, len);
	*list = pin;
	return 0;
}

void mb_own_pins_remove(struct mb_own_pin **list)
{
	while (*list) {
		struct mb_own_pin *pin = *list;
		struct mb_owner owner;

		*list = pin->next;
		/* another process may have taken it over */
		if (mb_owner_find(pin->path, pin->id, &owner) == 1 && mb_owner_is_us(&owner))
			mb_pin_remove_thing(pin->path, pin->kind, pin->id);
		free(pin);
	}
}
