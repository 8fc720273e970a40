/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Taking pinned maps over at load: the check of what is pinned against what the object declares, by
 * BTF layout too, and which of them the object gets. Nothing at a pin changes before the whole object
 * is loaded; libbpf pins nothing for us, since it looks at sizes only.
 */
#include "engine/takeover.h"

#include <limits.h>

#include "engine/migration.h"
#include "engine/owner.h"

#include "internal.h"

/* ---- what differs ------------------------------------------------------------------------------------ */

void mb_map_diff_fini(struct mb_map_diff *diff)
{
	mb_diff_fini(&diff->map);
	mb_diff_fini(&diff->key);
	mb_diff_fini(&diff->value);
}

static int parameter(struct mb_map_diff *out, const char *name, const char *was, const char *is)
{
	struct mb_difference d = { .change = MB_CHANGE_PARAMETER };

	snprintf(d.field, sizeof(d.field), "%s", name);
	snprintf(d.was, sizeof(d.was), "%s", was);
	snprintf(d.is, sizeof(d.is), "%s", is);
	return mb_diff_add(&out->map, &d);
}

static int number(struct mb_map_diff *out, const char *name, uint64_t was, uint64_t is)
{
	char a[24], b[24];

	if (was == is)
		return 0;
	snprintf(a, sizeof(a), "%llu", (unsigned long long)was);
	snprintf(b, sizeof(b), "%llu", (unsigned long long)is);
	return parameter(out, name, a, b);
}

/* What the kernel will make of a declared size: rings are whole pages and powers of two, and some
 * maps have an entry for each CPU. */
static uint32_t entries_of(const struct mb_map *map)
{
	uint32_t n = map->info.max_entries, page = (uint32_t)sysconf(_SC_PAGE_SIZE), size = page;

	if (map->fd >= 0)
		return n;
	if (map->info.type == BPF_MAP_TYPE_PERF_EVENT_ARRAY && !n)
		return (uint32_t)libbpf_num_possible_cpus();
	if (map->info.type != BPF_MAP_TYPE_RINGBUF && map->info.type != BPF_MAP_TYPE_USER_RINGBUF)
		return n;
	while (size < n && size < 1u << 31)
		size *= 2;
	return size;
}

/* The kernel itself makes these read-only for programs. */
static uint32_t flags_of(const struct mb_map *map)
{
	bool dev = map->info.type == BPF_MAP_TYPE_DEVMAP ||
		   map->info.type == BPF_MAP_TYPE_DEVMAP_HASH;

	return dev ? map->info.map_flags & ~(uint32_t)BPF_F_RDONLY_PROG : map->info.map_flags;
}

static uint64_t extra_of(const struct mb_map *map)
{
	return map->fd < 0 && map->bpf ? bpf_map__map_extra(map->bpf) : map->info.map_extra;
}

static int compare_parameters(const struct mb_map *was, const struct mb_map *is,
			      struct mb_map_diff *out)
{
	int rc = 0;

	if (was->info.type != is->info.type)
		rc = parameter(out, "type", mb_map_type_name(was->info.type),
			       mb_map_type_name(is->info.type));
	if (!rc)
		rc = number(out, "key size", was->info.key_size, is->info.key_size);
	if (!rc)
		rc = number(out, "value size", was->info.value_size, is->info.value_size);
	if (!rc)
		rc = number(out, "max_entries", entries_of(was), entries_of(is));
	if (!rc)
		rc = number(out, "flags", flags_of(was), flags_of(is));
	if (!rc)
		rc = number(out, "map_extra", extra_of(was), extra_of(is));
	return rc;
}

/* Plans that stand for no type are bags of bytes: their sizes are all there is to compare. */
static int compare_layout(const struct mb_plan *was, const struct mb_plan *is, struct mb_diff *out,
			  struct mb_error *err)
{
	return was && is && was->id && is->id ? mb_layout_diff(was, is, out, err) : 0;
}

int mb_map_compare(struct mb_map *was, struct mb_map *is, struct mb_map_diff *out,
		   struct mb_error *err)
{
	struct mb_map_info info;
	int rc = mb_map_info(was, &info, err);

	if (!rc)
		rc = mb_map_info(is, &info, err);
	if (rc)
		return rc;
	out->key_type = was->key ? was->key->name : "";
	out->value_type = was->value ? was->value->name : "";
	if (compare_parameters(was, is, out) != 0)
		return mb_fail(err, ENOMEM, "compare map", is->name, "out of memory");
	rc = compare_layout(was->key, is->key, &out->key, err);
	if (rc >= 0)
		rc = compare_layout(was->value, is->value, &out->value, err);
	return rc < 0 ? rc : (int)(out->map.n + out->key.n + out->value.n);
}

size_t mb_map_diff_text(const struct mb_map_diff *diff, char *to, size_t room)
{
	const struct {
		const struct mb_diff *diff;
		const char *what, *type;
	} parts[] = { { &diff->map, NULL, NULL },
		      { &diff->key, "key", diff->key_type },
		      { &diff->value, "value", diff->value_type } };
	size_t n = 0;

	if (room)
		*to = '\0';
	for (size_t i = 0; i < 3; i++) {
		if (!parts[i].diff->n)
			continue;
		if (n) {
			if (n < room)
				snprintf(to + n, room - n, "; ");
			n += 2;
		}
		n += mb_diff_text(parts[i].diff, parts[i].what, parts[i].type,
				  n < room ? to + n : NULL, n < room ? room - n : 0);
	}
	return n;
}

/* The differences that fit into err's cause; all of them are its log if they do not. */
static int differs(struct mb_map *map, const char *path, const struct mb_map_diff *diff,
		   const char *how, struct mb_error *err)
{
	size_t len = mb_map_diff_text(diff, NULL, 0), room;
	char *text = malloc(len + 1);
	int shown;

	if (!text || !err) {
		free(text);
		return mb_fail(err, EEXIST, "load object", map->obj->name,
			       "map '%s' is pinned at %s, and that one differs", map->name, path);
	}
	mb_map_diff_text(diff, text, len + 1);
	/* libbpf's names and paths are of any length; this much of them is shown */
	room = sizeof(err->cause) - strnlen(map->name, 64) - strnlen(path, 200) - 80;
	shown = (int)len;
	if (len > room)
		for (shown = (int)room; shown > 40 && text[shown] != ';'; shown--)
			;
	mb_fail(err, EEXIST, "load object", map->obj->name,
		"map '%.64s' is pinned at %.200s, and that one differs: %.*s%s", map->name, path,
		shown, text, len > room ? "; …" : "");
	mb_error_hint(err, "%s", how);
	if (len > room) {
		free(err->log);
		err->log = text;
	} else {
		free(text);
	}
	return -EEXIST;
}

/* ---- what is there ------------------------------------------------------------------------------------ */

int mb_map_pinned_there(struct mb_map *map, struct mb_map **out, struct mb_error *err)
{
	struct mb_pinned there = { 0 };
	const char *path = map->want_pin;
	MB_ERROR(why);
	int rc;

	if (!path || map->closed || !map->obj || map->reused)
		return 0;
	rc = mb_pinned_open(path, MB_PIN_BOTH, &there, &why);
	if (rc == -ENOENT)
		return 0;
	if (rc) {
		mb_fail(err, rc, "load object", map->obj->name,
			"map '%s' is to be pinned at %s, which cannot be opened: %s", map->name,
			path, why.cause);
		mb_error_fini(&why);
		return rc;
	}
	if (there.map) {
		*out = there.map;
		return 1;
	}
	mb_fail(err, EEXIST, "load object", map->obj->name,
		"map '%s' is to be pinned at %s, where a %s is", map->name, path,
		there.link ? "link" : "program");
	mb_error_hint(err, "give another pin_root, or remove what is there");
	mb_program_unref(there.program);
	mb_link_unref(there.link);
	return -EEXIST;
}

void mb_map_on_mismatch(struct mb_map *map, enum mb_mismatch what, uint32_t id)
{
	map->mismatch = (uint8_t)what;
	map->mismatch_id = id;
}

static int reuse_fd(struct mb_map *map, int fd, struct mb_error *err)
{
	struct mb_capture cap;
	int rc;

	mb_capture_begin(&cap);
	rc = bpf_map__reuse_fd(map->bpf, fd);
	if (rc)
		rc = mb_fail(err, rc, "load object", map->obj->name,
			     "map '%s' cannot be taken over: %s", map->name, mb_error_text(-rc));
	else
		map->reused = true;
	mb_capture_end(&cap, rc ? err : NULL);
	return rc;
}

/* ---- by hand ---------------------------------------------------------------------------------------------- */

/* Do they differ only in what the pinned one decides? */
static bool only_sizes(const struct mb_map_diff *diff)
{
	for (size_t i = 0; i < diff->map.n; i++)
		if (strcmp(diff->map.list[i].field, "max_entries") != 0 &&
		    strcmp(diff->map.list[i].field, "flags") != 0 &&
		    strcmp(diff->map.list[i].field, "map_extra") != 0)
			return false;
	return true;
}

static const char *needs(enum mb_mismatch how)
{
	return how == MB_MISMATCH_ADOPT ?
		       "on_mismatch = \"adopt\" takes max_entries and flags as they are, nothing "
		       "else" :
		       "on_mismatch = \"keep\" needs the same type and the same sizes of key and "
		       "value";
}

/* Does the word allow these differences? */
static bool allows(enum mb_mismatch how, const struct mb_map_diff *diff)
{
	if (!only_sizes(diff))
		return false;
	return how == MB_MISMATCH_KEEP ||
	       (how == MB_MISMATCH_ADOPT && !diff->key.n && !diff->value.n);
}

static int refuse_reuse(const struct mb_map *map, enum mb_mismatch how,
			const struct mb_map_diff *diff, struct mb_error *err)
{
	char text[400];

	mb_map_diff_text(diff, text, sizeof(text));
	mb_fail(err, EEXIST, "reuse map", map->name, "the other one differs: %s", text);
	if (how != MB_MISMATCH_ERROR)
		mb_error_hint(err, "%s", needs(how));
	return -EEXIST;
}

int mb_map_reuse(struct mb_map *map, struct mb_map *other, enum mb_mismatch how,
		 struct mb_error *err)
{
	struct mb_map_diff diff = { 0 };
	int rc = mb_map_check(other, "reuse map", err);

	if (rc)
		return rc;
	if (map->closed)
		return mb_fail(err, EBADF, "reuse map", map->name, "the map is closed");
	if (!map->bpf || map->obj->state != MB_OPEN) {
		mb_fail(err, EBUSY, "reuse map", map->name, "its object has been loaded already");
		mb_error_hint(err, "m:reuse() is for the time between bpf.open and obj:load()");
		return -EBUSY;
	}
	rc = mb_map_compare(other, map, &diff, err);
	if (rc > 0 && !allows(how, &diff))
		rc = refuse_reuse(map, how, &diff, err);
	else if (rc >= 0)
		rc = reuse_fd(map, other->fd, err);
	mb_map_diff_fini(&diff);
	return rc;
}

/* ---- which one it will be ------------------------------------------------------------------------------- */

enum mb_taking { TAKE_NONE, TAKE_NEW, TAKE_PINNED, TAKE_REPLACE, TAKE_MIGRATE };

static int on_difference(struct mb_map *map, struct mb_map *there, const struct mb_map_diff *diff,
			 struct mb_error *err)
{
	const char *path = map->want_pin;

	if (map->mismatch_id && map->mismatch_id != there->info.id) {
		mb_fail(err, EAGAIN, "load object", map->obj->name,
			"another map '%s' was pinned at %s meanwhile", map->name, path);
		mb_error_hint(err, "load it again");
		return -EAGAIN;
	}
	switch ((enum mb_mismatch)map->mismatch) {
	case MB_MISMATCH_REPLACE:
		return TAKE_REPLACE;
	case MB_MISMATCH_MIGRATE:
		return mb_migration_check(there, map, err) ? -err->code : TAKE_MIGRATE;
	case MB_MISMATCH_KEEP:
	case MB_MISMATCH_ADOPT:
		if (allows((enum mb_mismatch)map->mismatch, diff))
			return TAKE_PINNED;
		return differs(map, path, diff, needs((enum mb_mismatch)map->mismatch), err);
	case MB_MISMATCH_ERROR:
		break;
	}
	return differs(map, path, diff,
		       "set on_mismatch (replace, migrate, adopt, a function), give another "
		       "pin_root, or remove the pin if its data may go",
		       err);
}

static int decide(struct mb_map *map, struct mb_map *there, struct mb_error *err)
{
	struct mb_map_diff diff = { 0 };
	int rc = mb_map_compare(there, map, &diff, err);

	if (rc > 0)
		rc = on_difference(map, there, &diff, err);
	else if (!rc)
		rc = TAKE_PINNED;
	mb_map_diff_fini(&diff);
	return rc;
}

/* ---- load ------------------------------------------------------------------------------------------------ */

struct mb_takeover {
	struct mb_object *obj;
	int lock;
	struct {
		struct mb_map *there;
		enum mb_taking taking;
		bool pinned;
	} maps[];
};

static int prepare(struct mb_takeover *t, struct mb_error *err)
{
	struct mb_object *obj = t->obj;
	char dir[PATH_MAX];
	int rc = 0;

	for (size_t i = 0; i < obj->nmaps && !rc; i++) {
		const char *path = obj->maps[i]->closed || obj->maps[i]->reused ?
					   NULL :
					   obj->maps[i]->want_pin;

		if (!path)
			continue;
		snprintf(dir, sizeof(dir), "%.*s", (int)(strrchr(path, '/') - path), path);
		rc = mb_pin_prepare(dir, err);
		/* all lie in pin_root */
		if (!rc && t->lock < 0)
			rc = mb_pin_lock(dir, &t->lock, "load object", err);
	}
	return rc;
}

static int look(struct mb_takeover *t, size_t i, struct mb_error *err)
{
	struct mb_map *map = t->obj->maps[i];
	int rc;

	if (map->closed || !map->want_pin || map->reused)
		return 0;
	t->maps[i].taking = TAKE_NEW;
	rc = mb_map_pinned_there(map, &t->maps[i].there, err);
	if (rc > 0)
		rc = decide(map, t->maps[i].there, err);
	if (rc > 0)
		t->maps[i].taking = (enum mb_taking)rc;
	return rc < 0 ? rc : 0;
}

int mb_takeover_begin(struct mb_object *obj, struct mb_takeover **out, struct mb_error *err)
{
	struct mb_takeover *t = calloc(1, sizeof(*t) + obj->nmaps * sizeof(t->maps[0]));
	int rc;

	if (!t)
		return mb_fail(err, ENOMEM, "load object", obj->name, "out of memory");
	t->obj = obj;
	t->lock = -1;
	rc = prepare(t, err);
	for (size_t i = 0; i < obj->nmaps && !rc; i++)
		rc = look(t, i, err);
	/* from here on the object is not what it was */
	for (size_t i = 0; i < obj->nmaps && !rc; i++)
		if (t->maps[i].taking == TAKE_PINNED)
			rc = reuse_fd(obj->maps[i], t->maps[i].there->fd, err);
	if (rc) {
		mb_takeover_end(t, false);
		return rc;
	}
	*out = t;
	return 0;
}

/* A pin that was to go with a process that went without it goes with us. */
static int inherit(struct mb_object *obj, const char *path, uint32_t id, struct mb_error *err)
{
	int rc = mb_owner_record(path, MB_PINNED_MAP, id, true, "load object", err);

	if (!rc && mb_own_pins_add(&obj->own_pins, MB_PINNED_MAP, id, path) != 0)
		rc = mb_fail(err, ENOMEM, "load object", obj->name, "out of memory");
	return rc;
}

/* One map of a loaded object to its pin. */
static int finish(struct mb_takeover *t, size_t i, struct mb_error *err)
{
	struct mb_map *map = t->obj->maps[i], *there = t->maps[i].there;
	struct mb_owner owner;
	char *path;
	int rc = 0;

	if (t->maps[i].taking == TAKE_NONE)
		return 0;
	if (t->maps[i].taking == TAKE_MIGRATE) {
		map->migrates = mb_map_ref(there);
		return 0;
	}
	path = strdup(map->want_pin);
	if (!path)
		return mb_fail(err, ENOMEM, "load object", t->obj->name, "out of memory");
	if (t->maps[i].taking == TAKE_NEW)
		rc = mb_pin_fd_locked(map->fd, path, t->obj, "pin map", err);
	else if (t->maps[i].taking == TAKE_REPLACE)
		rc = mb_pin_replace_locked(map->fd, path, there->info.id, t->obj, "pin map", err);
	else if (t->obj->pin_cleanup && mb_owner_find(path, map->info.id, &owner) == 1 &&
		 owner.cleanup && !mb_owner_alive(&owner))
		rc = inherit(t->obj, path, map->info.id, err);
	if (rc) {
		free(path);
		return rc;
	}
	t->maps[i].pinned = t->maps[i].taking != TAKE_PINNED;
	free(map->pin_path);
	map->pin_path = path;
	return 0;
}

int mb_takeover_finish(struct mb_takeover *t, struct mb_error *err)
{
	int rc = 0;

	/* what may fail because somebody was quicker comes before what cannot be undone */
	for (int replaced = 0; replaced < 2; replaced++)
		for (size_t i = 0; i < t->obj->nmaps && !rc; i++)
			if ((t->maps[i].taking == TAKE_REPLACE) == replaced)
				rc = finish(t, i, err);
	return rc;
}

/* Back to what was pinned before, or to nothing. */
static void undo(struct mb_map *map, struct mb_map *there)
{
	if (there)
		mb_pin_replace_locked(there->fd, map->pin_path, map->info.id, NULL, "pin map",
				      NULL);
	else
		mb_pin_remove(&map->pin_path, map->fd, "unpin map", NULL);
}

void mb_takeover_end(struct mb_takeover *t, bool loaded)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->obj->nmaps; i++) {
		struct mb_map *map = t->obj->maps[i];

		if (!loaded && t->maps[i].pinned)
			undo(map, t->maps[i].there);
		if (t->maps[i].there)
			mb_map_unref(t->maps[i].there);
	}
	if (t->lock >= 0)
		close(t->lock);
	free(t);
}

/* ---- after a migration -------------------------------------------------------------------------------------- */

struct mb_map *mb_map_migrates_from(const struct mb_map *map)
{
	return map->closed ? NULL : map->migrates;
}

int mb_map_migrated(struct mb_map *map, struct mb_error *err)
{
	int rc = mb_map_check(map, "pin map", err);
	char *path;

	if (rc)
		return rc;
	if (!map->migrates)
		return mb_fail(err, EINVAL, "pin map", map->name, "it is no map to be migrated");
	path = strdup(map->want_pin);
	if (!path)
		return mb_fail(err, ENOMEM, "pin map", map->name, "out of memory");
	rc = mb_pin_replace(map->fd, path, map->migrates->info.id, map->obj, "pin map", err);
	if (rc) {
		free(path);
		return rc;
	}
	map->pin_path = path;
	mb_map_unref(map->migrates);
	map->migrates = NULL;
	return 0;
}
