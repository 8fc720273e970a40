/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a new object takes over from the one before it. Every check that libbpf leaves to its caller
 * is here: bpf_map__reuse_fd takes a map of any type and size.
 */
#include "engine/handover.h"
#include "engine/layout.h"
#include "internal.h"

struct mb_map *mb_handover_section(const struct mb_object *obj, const char *name)
{
	for (size_t i = 0; i < obj->nsections; i++) {
		if (strcmp(obj->sections[i].name, name) != 0)
			continue;
		for (size_t j = 0; j < obj->nmaps; j++)
			if (obj->maps[j]->bpf == obj->section_maps[i])
				return obj->maps[j];
	}
	return NULL;
}

static int differs(const struct mb_map *map, const char *what, struct mb_error *err)
{
	return mb_fail(err, EEXIST, "reuse map", map->name, "its %s differs from the one before",
		       what);
}

static int check_layout(struct mb_map *map, struct mb_map *old, struct mb_error *err)
{
	const struct mb_plan *key, *value, *old_key, *old_value;
	int rc = mb_map_plans(map, &key, &value, err);

	if (!rc)
		rc = mb_map_plans(old, &old_key, &old_value, err);
	if (rc)
		return rc;
	if (key && old_key && !mb_layout_same(old_key, key))
		return differs(map, "key's layout", err);
	/* of per-CPU maps: of one CPU's */
	value = mb_map_value_plan(map);
	old_value = mb_map_value_plan(old);
	if (value && old_value && !mb_layout_same(old_value, value))
		return differs(map, "value's layout", err);
	return 0;
}

static int check_shape(struct mb_map *map, struct mb_map *old, struct mb_error *err)
{
	struct mb_map_info is, was;
	int rc = mb_map_info(map, &is, err);

	if (!rc)
		rc = mb_map_info(old, &was, err);
	if (rc)
		return rc;
	if (strcmp(is.type, was.type) != 0)
		return differs(map, "type", err);
	if (is.key_size != was.key_size)
		return differs(map, "key's size", err);
	if (is.value_size != was.value_size)
		return differs(map, "value's size", err);
	if (is.max_entries != was.max_entries)
		return differs(map, "max_entries", err);
	if (is.flags != was.flags)
		return differs(map, "flags", err);
	return 0;
}

int mb_handover_reuse(struct mb_map *map, struct mb_map *old, struct mb_error *err)
{
	struct mb_capture cap;
	int rc = mb_map_check(old, "reuse map", err);

	if (rc)
		return rc;
	if (!map->obj || !map->bpf || map->obj->state != MB_OPEN)
		return mb_fail(err, EBUSY, "reuse map", map->name, "its object is not open");
	rc = check_shape(map, old, err);
	if (!rc)
		rc = check_layout(map, old, err);
	if (rc)
		return rc;
	mb_capture_begin(&cap);
	rc = bpf_map__reuse_fd(map->bpf, old->fd);
	if (rc)
		rc = mb_fail(err, rc, "reuse map", map->name, "%s", mb_error_text(-rc));
	mb_capture_end(&cap, err);
	return rc;
}

int mb_handover_adopt(int fd, const char *name, struct mb_pinned *out, struct mb_error *err)
{
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 3), rc;
	struct mb_pinned found = { 0 };

	if (own < 0)
		return mb_fail(err, errno, "adopt descriptor", name, "%s", mb_error_text(errno));
	rc = mb_pin_kind(own, &found.kind);
	if (rc) {
		close(own);
		return mb_fail(err, rc, "adopt descriptor", name, "it is nothing of BPF's");
	}
	if (found.kind == MB_PINNED_MAP)
		rc = mb_map_from_fd(own, NULL, &found.map, err);
	else if (found.kind == MB_PINNED_PROGRAM)
		rc = mb_program_from_fd(own, &found.program, err);
	else
		rc = mb_link_from_fd(own, name, &found.link, err);
	if (rc)
		return rc;
	if (found.link) { /* it is pinned nowhere */
		free(found.link->pin_path);
		found.link->pin_path = NULL;
	}
	*out = found;
	return 0;
}
