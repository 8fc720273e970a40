/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Lists of what the kernel holds, by id. Each thing is opened for as long as it takes to ask what it
 * is; nothing is kept open. Who holds it is holder.c's.
 */
#include "engine/ids.h"

#include "engine/file.h"
#include "internal.h"

void mb_ids_free(struct mb_id_row *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(list[i].maps);
	free(list);
}

/* "memlock:	4096" of a fd; 0: not told. */
static uint64_t memory_of(int fd)
{
	char path[64], text[1024], *at;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	at = mb_file_text(path, text, sizeof(text)) ? strstr(text, "memlock:") : NULL;
	return at ? strtoull(at + strlen("memlock:"), NULL, 10) : 0;
}

static int map_row(int fd, struct mb_id_row *row)
{
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &len) != 0)
		return -errno;
	snprintf(row->name, sizeof(row->name), "%s", info.name);
	row->type = mb_map_type_name(info.type);
	row->key_size = info.key_size;
	row->value_size = info.value_size;
	row->max_entries = info.max_entries;
	row->flags = info.map_flags;
	return 0;
}

/* The whole name of a program, from its BTF where there is one: the kernel's has 15 letters. */
static int program_row(int fd, struct mb_id_row *row)
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info), n;

	if (bpf_obj_get_info_by_fd(fd, &info, &len) != 0)
		return -errno;
	snprintf(row->name, sizeof(row->name), "%s", info.name);
	row->type = mb_program_type_name(info.type);
	row->uid = info.created_by_uid;
	row->loaded_ns = info.load_time;
	n = info.nr_map_ids;
	row->maps = n ? calloc(n, sizeof(*row->maps)) : NULL;
	if (n && !row->maps)
		return -ENOMEM;
	memset(&info, 0, sizeof(info));
	info.nr_map_ids = n;
	info.map_ids = (uint64_t)(uintptr_t)row->maps;
	len = sizeof(info);
	if (n && bpf_obj_get_info_by_fd(fd, &info, &len) == 0)
		row->nmaps = info.nr_map_ids < n ? info.nr_map_ids : n;
	return 0;
}

static int link_row(int fd, struct mb_id_row *row)
{
	struct bpf_link_info info = { 0 };
	struct bpf_prog_info prog = { 0 };
	uint32_t len = sizeof(info), prog_len = sizeof(prog);
	int prog_fd;

	if (bpf_obj_get_info_by_fd(fd, &info, &len) != 0)
		return -errno;
	row->type = mb_link_type_name(info.type);
	row->prog_id = info.prog_id;
	prog_fd = info.prog_id ? bpf_prog_get_fd_by_id(info.prog_id) : -1;
	if (prog_fd >= 0 && bpf_obj_get_info_by_fd(prog_fd, &prog, &prog_len) == 0)
		snprintf(row->name, sizeof(row->name), "%s", prog.name);
	if (prog_fd >= 0)
		close(prog_fd);
	return 0;
}

static const struct {
	const char *name;
	int (*next)(uint32_t start, uint32_t *next);
	int (*open)(uint32_t id);
	int (*describe)(int fd, struct mb_id_row *row);
} kinds[] = {
	[MB_PINNED_MAP] = { "maps", bpf_map_get_next_id, bpf_map_get_fd_by_id, map_row },
	[MB_PINNED_PROGRAM] = { "programs", bpf_prog_get_next_id, bpf_prog_get_fd_by_id,
				program_row },
	[MB_PINNED_LINK] = { "links", bpf_link_get_next_id, bpf_link_get_fd_by_id, link_row },
};

/* 1: the row is filled; 0: it went meanwhile. */
static int fill(enum mb_pinned_kind kind, uint32_t id, struct mb_id_row *row)
{
	int fd = kinds[kind].open(id), rc;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	*row = (struct mb_id_row){ .kind = kind, .id = id };
	rc = kinds[kind].describe(fd, row);
	if (!rc && kind != MB_PINNED_LINK)
		row->memory = memory_of(fd);
	close(fd);
	if (rc)
		free(row->maps);
	return rc ? rc : 1;
}

int mb_ids_list(enum mb_pinned_kind kind, struct mb_id_row **out, size_t *n, struct mb_error *err)
{
	struct mb_id_row *list = NULL;
	size_t count = 0, room = 0;
	uint32_t id = 0;
	int rc = 0;

	while (rc >= 0 && kinds[kind].next(id, &id) == 0) {
		if (count == room) {
			struct mb_id_row *more;

			room = room ? room * 2 : 64;
			more = realloc(list, room * sizeof(*more));
			if (!more) {
				rc = -ENOMEM;
				break;
			}
			list = more;
		}
		rc = fill(kind, id, &list[count]);
		count += rc == 1;
	}
	if (rc >= 0 && errno != ENOENT)
		rc = -errno;
	if (rc < 0) {
		mb_ids_free(list, count);
		return mb_fail(err, rc, "list", kinds[kind].name, "%s", mb_error_text(-rc));
	}
	*out = list;
	*n = count;
	return 0;
}

int mb_link_by_id(uint32_t id, struct mb_link **out, struct mb_error *err)
{
	char subject[16];
	int fd = bpf_link_get_fd_by_id(id);

	snprintf(subject, sizeof(subject), "%u", id);
	if (fd < 0)
		return mb_fail(err, errno, "open link", subject, "%s", mb_error_text(errno));
	return mb_link_from_fd(fd, NULL, out, err);
}
