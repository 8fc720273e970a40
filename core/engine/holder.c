/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which processes hold maps, programs and links: from the fds in /proc. A process that has only a
 * mapping of a map's memory is not seen.
 */
#include <ctype.h>
#include <dirent.h>

#include "engine/ids.h"

#include "internal.h"

struct holders {
	struct mb_holder *list;
	size_t n, room, hidden;
};

/* The first bytes of a small file; "" if it cannot be read. */
static void read_text(const char *path, char *to, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, to, room - 1);

	if (fd >= 0)
		close(fd);
	to[n > 0 ? n : 0] = '\0';
}

static bool kind_of(const char *target, enum mb_pinned_kind *kind, const char **key)
{
	static const struct {
		const char *target, *key;
		enum mb_pinned_kind kind;
	} rows[] = { { "anon_inode:bpf-map", "map_id:", MB_PINNED_MAP },
		     { "anon_inode:bpf-prog", "prog_id:", MB_PINNED_PROGRAM },
		     { "anon_inode:bpf_link", "link_id:", MB_PINNED_LINK },
		     { "anon_inode:bpf-link", "link_id:", MB_PINNED_LINK } };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcmp(target, rows[i].target) == 0) {
			*kind = rows[i].kind;
			*key = rows[i].key;
			return true;
		}
	return false;
}

static int add(struct holders *h, enum mb_pinned_kind kind, uint32_t id, int pid)
{
	char path[64];
	struct mb_holder *one;

	for (size_t i = h->n; i-- > 0 && h->list[i].pid == pid;)
		if (h->list[i].kind == kind && h->list[i].id == id)
			return 0;
	if (h->n == h->room) {
		size_t room = h->room ? h->room * 2 : 64;
		struct mb_holder *more = realloc(h->list, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		h->list = more;
		h->room = room;
	}
	one = &h->list[h->n++];
	*one = (struct mb_holder){ .kind = kind, .id = id, .pid = pid };
	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	read_text(path, one->name, sizeof(one->name));
	one->name[strcspn(one->name, "\n")] = '\0';
	return 0;
}

static int look_at_fd(struct holders *h, int pid, const char *fd)
{
	char path[320], text[1024];
	enum mb_pinned_kind kind;
	const char *key, *at;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/fd/%s", pid, fd);
	n = readlink(path, text, sizeof(text) - 1);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	if (!kind_of(text, &kind, &key))
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%s", pid, fd);
	read_text(path, text, sizeof(text));
	/* a program's line may be one of a map's that belongs to it: take the one at a line's start */
	at = strncmp(text, key, strlen(key)) == 0 ? text : strstr(text, "\n");
	while (at && strncmp(at + (*at == '\n'), key, strlen(key)) != 0)
		at = strchr(at + 1, '\n');
	if (!at)
		return 0;
	at += (*at == '\n') + strlen(key);
	return add(h, kind, (uint32_t)strtoul(at, NULL, 10), pid);
}

static int look_at_process(struct holders *h, int pid)
{
	char path[64];
	struct dirent *e;
	DIR *fds;
	int rc = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	fds = opendir(path);
	if (!fds) {
		h->hidden += errno == EACCES || errno == EPERM;
		return 0; /* it may have ended */
	}
	while (!rc && (e = readdir(fds)))
		if (isdigit((unsigned char)e->d_name[0]))
			rc = look_at_fd(h, pid, e->d_name);
	closedir(fds);
	return rc;
}

static int by_pid(const void *a, const void *b)
{
	const struct mb_holder *x = a, *y = b;

	return x->pid != y->pid	  ? (x->pid < y->pid ? -1 : 1) :
	       x->kind != y->kind ? (x->kind < y->kind ? -1 : 1) :
				    (x->id > y->id) - (x->id < y->id);
}

int mb_holders_list(struct mb_holder **out, size_t *n, size_t *hidden, struct mb_error *err)
{
	struct holders h = { 0 };
	DIR *proc = opendir("/proc");
	struct dirent *e;
	int rc = 0;

	if (!proc)
		return mb_fail(err, errno, "list holders", "/proc", "%s", mb_error_text(errno));
	while (!rc && (e = readdir(proc)))
		if (isdigit((unsigned char)e->d_name[0]))
			rc = look_at_process(&h, atoi(e->d_name));
	closedir(proc);
	if (rc) {
		free(h.list);
		return mb_fail(err, ENOMEM, "list holders", "/proc", "out of memory");
	}
	if (h.n)
		qsort(h.list, h.n, sizeof(*h.list), by_pid);
	*out = h.list;
	*n = h.n;
	*hidden = h.hidden;
	return 0;
}

void mb_holders_free(struct mb_holder *list)
{
	free(list);
}
