/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is pinned below a directory: a list of it, and collecting what processes of moonbee left
 * behind. That is found by its records, looked at again, and removed one by one; without a record
 * nothing is touched, and no directory but those of records.
 */
#include <dirent.h>
#include <limits.h>
#include <sys/stat.h>

#include "engine/pins.h"
#include "engine/hold.h"

#include "internal.h"

#define MAX_DEPTH 32

/* ---- directories ---------------------------------------------------------------------------------------- */

static void dir_names_free(char **names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(names[i]);
	free(names);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What is in a directory, sorted: read before anything in it is changed. */
static int dir_names(const char *dir, char ***out, size_t *n)
{
	DIR *d = opendir(dir);
	char **names = NULL;
	size_t count = 0, room = 0;
	struct dirent *e;
	int rc = 0;

	if (!d)
		return -errno;
	while (!rc && (e = readdir(d))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (count == room) {
			char **more = realloc(names, (room = room ? room * 2 : 32) * sizeof(*more));

			rc = more ? 0 : -ENOMEM;
			names = more ? more : names;
		}
		if (!rc && !(names[count++] = strdup(e->d_name))) {
			count--;
			rc = -ENOMEM;
		}
	}
	closedir(d);
	if (rc) {
		dir_names_free(names, count);
		return rc;
	}
	if (count)
		qsort(names, count, sizeof(*names), compare_names);
	*out = names;
	*n = count;
	return 0;
}

/* Call fn(ctx, dir, name) for what is in dir, and for what is in the directories below it. -errno of
 * the first that fails. */
static int walk(const char *dir, unsigned int depth, void *ctx,
		int (*fn)(void *ctx, const char *dir, const char *name, bool record))
{
	const char *base = strrchr(dir, '/');
	bool records = base && strcmp(base + 1, MB_OWNER_DIR) == 0;
	char **names = NULL, path[PATH_MAX];
	struct stat st;
	size_t n = 0;
	int rc = dir_names(dir, &names, &n);

	if (rc)
		return rc == -ENOENT && depth ? 0 : rc; /* somebody was quicker */
	for (size_t i = 0; i < n && !rc; i++) {
		int len = snprintf(path, sizeof(path), "%s/%s", dir, names[i]);

		if (len < 0 || (size_t)len >= sizeof(path) || lstat(path, &st) != 0)
			continue;
		if (!S_ISDIR(st.st_mode))
			rc = fn(ctx, dir, names[i], records);
		else if (depth < MAX_DEPTH)
			rc = walk(path, depth + 1, ctx, fn);
	}
	dir_names_free(names, n);
	return rc;
}

/* ---- the list --------------------------------------------------------------------------------------------- */

struct listing {
	struct mb_pin_row *list;
	size_t n, room;
};

void mb_pins_free(struct mb_pin_row *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(list[i].path);
	free(list);
}

static void describe(struct mb_pin_row *row, const struct mb_pinned *it)
{
	const char *name = "";

	row->kind = it->kind;
	if (it->map) {
		row->id = it->map->info.id;
		row->type = mb_map_type_name(it->map->info.type);
		name = it->map->name;
	} else if (it->program) {
		row->id = it->program->id;
		row->type = mb_program_type_name(it->program->type);
		name = it->program->name;
	} else {
		struct mb_link_info info;

		if (mb_link_info(it->link, &info, NULL) == 0) {
			row->id = info.id;
			row->type = info.type;
			name = info.program ? info.program : "";
		}
	}
	snprintf(row->name, sizeof(row->name), "%s", name);
}

static int list_one(void *ctx, const char *dir, const char *name, bool record)
{
	struct listing *l = ctx;
	struct mb_pin_row row = { .type = "?" };
	struct mb_pinned it = { 0 };
	char path[PATH_MAX];

	if (record)
		return 0;
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (mb_pinned_open(path, MB_PIN_BOTH, &it, NULL) != 0)
		return 0; /* gone, an iterator, or one that we may not open */
	describe(&row, &it);
	mb_map_unref(it.map);
	mb_program_unref(it.program);
	mb_link_unref(it.link);
	row.owned = mb_owner_find(path, row.id, &row.owner) == 1;
	if (l->n == l->room) {
		size_t room = l->room ? l->room * 2 : 32;
		struct mb_pin_row *more = realloc(l->list, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		l->list = more;
		l->room = room;
	}
	row.path = strdup(path);
	if (!row.path)
		return -ENOMEM;
	l->list[l->n++] = row;
	return 0;
}

int mb_pins_list(const char *dir, struct mb_pin_row **out, size_t *n, struct mb_error *err)
{
	struct listing l = { 0 };
	int rc = mb_pin_dir_check(dir, "list pins", err);

	if (rc)
		return rc;
	rc = walk(dir, 0, &l, list_one);
	if (rc) {
		mb_pins_free(l.list, l.n);
		return mb_fail(err, rc, "list pins", dir, "%s", mb_error_text(-rc));
	}
	*out = l.list;
	*n = l.n;
	return 0;
}

/* ---- what was left behind ------------------------------------------------------------------------------------ */

struct collect {
	bool all, dry;
	struct mb_left *list;
	size_t n, room;
};

void mb_left_free(struct mb_left *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(list[i].path);
	free(list);
}

static int found(struct collect *c, const char *path, const struct mb_owner *owner)
{
	struct mb_left *left;

	if (c->n == c->room) {
		size_t room = c->room ? c->room * 2 : 16;
		struct mb_left *more = realloc(c->list, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		c->list = more;
		c->room = room;
	}
	left = &c->list[c->n];
	*left = (struct mb_left){ .path = strdup(path), .owner = *owner };
	if (!left->path)
		return -ENOMEM;
	c->n++;
	if (!c->dry) {
		left->code = -mb_pin_remove_thing(path, owner->kind, owner->id);
		left->removed = !left->code;
	}
	return 0;
}

/* Is it garbage? A pin with a tilde is a step of a replacement by somebody who is gone. */
static bool is_left(const struct collect *c, const struct mb_owner *owner)
{
	if (mb_owner_alive(owner))
		return false;
	return c->all || owner->cleanup || owner->temporary;
}

/* One record: the pin is DIR/NAME. */
static int look(void *ctx, const char *dir, const char *name, bool record)
{
	struct collect *c = ctx;
	char path[PATH_MAX], link[PATH_MAX];
	struct mb_owner owner;
	size_t len = strlen(name);

	snprintf(link, sizeof(link), "%s/%s", dir, name);
	if (!record || mb_owner_read(link, &owner) != 1)
		return 0; /* nobody's that we know */
	owner.temporary = len > 1 && name[len - 1] == '~';
	snprintf(path, sizeof(path), "%.*s/%s", (int)(strrchr(dir, '/') - dir), dir, name);
	if (!mb_pin_is(path, owner.kind, owner.id)) {
		/* gone, or another's by now; of a step, the record may be that of what it became */
		if (!c->dry && !owner.temporary && !mb_owner_alive(&owner))
			mb_owner_forget(path);
		return 0;
	}
	return is_left(c, &owner) ? found(c, path, &owner) : 0;
}

int mb_pins_collect(const char *dir, bool all, bool dry, struct mb_left **out, size_t *n,
		    struct mb_error *err)
{
	struct collect c = { .all = all, .dry = dry };
	int rc = mb_pin_dir_check(dir, "collect pins", err);

	if (!rc && !dry)
		rc = mb_refuse("collect pins", dir, err);
	if (rc)
		return rc;
	rc = walk(dir, 0, &c, look);
	if (rc) {
		mb_left_free(c.list, c.n);
		return mb_fail(err, rc, "collect pins", dir, "%s", mb_error_text(-rc));
	}
	*out = c.list;
	*n = c.n;
	return 0;
}
