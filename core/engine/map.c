/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A map: what it is and its single operations. Walking is map_iter.c's, pins are pin.c's.
 */
#include "engine/hold.h"
#include "engine/map_kind.h"

#include "internal.h"

const char *mb_map_type_name(uint32_t type)
{
	return mb_map_kind_of(type)->name;
}

bool mb_map_is_percpu(uint32_t type)
{
	return mb_map_kind_of(type)->percpu;
}

size_t mb_map_span(const struct mb_map *map)
{
	if (!map->kind->percpu)
		return map->info.value_size;
	return mb_round_up(map->info.value_size, 8) * (size_t)libbpf_num_possible_cpus();
}

/* ---- making ---------------------------------------------------------------------------------------- */

static struct mb_map *map_new(const char *name, struct mb_error *err)
{
	struct mb_map *map = calloc(1, sizeof(*map));

	if (map) {
		map->refs = 1;
		map->fd = -1;
		map->lock_fd = map->lock_state_fd = -1;
		map->kind = mb_map_kind_of(BPF_MAP_TYPE_UNSPEC);
		map->name = strdup(name);
	}
	if (map && map->name)
		return map;
	free(map);
	mb_fail(err, ENOMEM, "open map", name, "out of memory");
	return NULL;
}

/* The type's plan if it has one of that very size, else bytes. */
static int plan_of(struct mb_map *map, uint32_t id, uint32_t size, const struct mb_plan **out,
		   struct mb_error *err)
{
	*out = NULL;
	if (!size)
		return 0;
	if (id && map->btf && mb_btf_plan(map->btf, id, out, NULL) == 0 && (*out)->size == size)
		return 0;
	return mb_plan_bytes(&map->btf, size, out, err);
}

int mb_map_make_plans(struct mb_map *map, uint32_t key_id, uint32_t value_id, struct mb_error *err)
{
	uint32_t value_size = map->info.value_size;
	int rc;

	map->kind = mb_map_kind_of(map->info.type);
	rc = plan_of(map, key_id, map->info.key_size, &map->key, err);
	if (!rc)
		rc = plan_of(map, value_id, value_size, &map->value, err);
	if (!rc)
		rc = mb_map_imply_types(map, err);
	map->seen = map->value;
	if (!rc && map->value && !map->value_title) {
		char title[64];

		snprintf(title, sizeof(title), "value of map '%.40s'", map->name);
		/* views live on without the map, and hold the btf of their type only */
		map->value_title = mb_btf_strdup(map->value->btf, title);
	}
	if (!rc && map->value && map->kind->percpu) {
		int n = mb_cpus_possible(err);

		rc = n < 0 ? n :
			     mb_plan_array(map->value, (uint32_t)mb_round_up(value_size, 8),
					   (uint32_t)n, &map->seen, err);
	}
	return rc;
}

/* What the ELF file says; load may change it (a ring's size, a reused map's id). */
static void declared(struct mb_map *map)
{
	struct bpf_map_info *i = &map->info;

	i->type = bpf_map__type(map->bpf);
	i->key_size = bpf_map__key_size(map->bpf);
	i->value_size = bpf_map__value_size(map->bpf);
	i->max_entries = bpf_map__max_entries(map->bpf);
	i->map_flags = bpf_map__map_flags(map->bpf);
	map->kind = mb_map_kind_of(i->type);
}

int mb_map_from_object(struct mb_object *obj, struct bpf_map *bpf, struct mb_map **out,
		       struct mb_error *err)
{
	struct mb_map *map = map_new(bpf_map__name(bpf), err);
	int rc;

	if (!map)
		return -ENOMEM;
	map->obj = obj;
	map->bpf = bpf;
	map->btf = mb_btf_ref(obj->btf);
	map->pin_by_name = bpf_map__pin_path(bpf) != NULL;
	declared(map);
	rc = mb_map_make_plans(map, bpf_map__btf_key_type_id(bpf), bpf_map__btf_value_type_id(bpf),
			       err);
	if (rc) {
		mb_map_unref(map);
		return rc;
	}
	*out = map;
	return 0;
}

static int refresh(struct mb_map *map, struct mb_error *err)
{
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info);

	if (bpf_obj_get_info_by_fd(map->fd, &info, &len) != 0)
		return mb_fail(err, errno, "describe map", map->name, "%s", mb_error_text(errno));
	map->info = info;
	return 0;
}

int mb_map_from_fd(int fd, const char *pin_path, struct mb_map **out, struct mb_error *err)
{
	struct mb_map *map = map_new("map", err);
	char *name, id[16];
	int rc;

	if (!map) {
		close(fd);
		return -ENOMEM;
	}
	map->fd = fd;
	map->own_fd = true;
	rc = refresh(map, err);
	snprintf(id, sizeof(id), "#%u", map->info.id); /* those without a name */
	name = rc ? NULL : strdup(map->info.name[0] ? map->info.name : id);
	if (name) {
		free(map->name);
		map->name = name;
	}
	/* types need CAP_SYS_ADMIN; with CAP_BPF alone keys and values are bytes */
	if (!rc && map->info.btf_id &&
	    (rc = mb_btf_by_id(map->info.btf_id, &map->btf, err)) == -EPERM) {
		mb_error_fini(err);
		rc = 0;
	}
	if (!rc)
		rc = mb_map_make_plans(map, map->info.btf_key_type_id, map->info.btf_value_type_id,
				       err);
	if (!rc && pin_path && !(map->pin_path = strdup(pin_path)))
		rc = mb_fail(err, ENOMEM, "open map", map->name, "out of memory");
	if (rc) {
		mb_map_unref(map);
		return rc;
	}
	*out = map;
	return 0;
}

int mb_map_by_id(uint32_t id, struct mb_map **out, struct mb_error *err)
{
	int fd = bpf_map_get_fd_by_id(id);
	char name[32];

	snprintf(name, sizeof(name), "%u", id);
	if (fd < 0)
		return mb_fail(err, errno, "open map", name, "%s",
			       errno == ENOENT ? "there is no map with this id" :
						 mb_error_text(errno));
	return mb_map_from_fd(fd, NULL, out, err);
}

/* Load may change the sizes: libbpf gives a struct_ops map the kernel's own value. What was declared
 * is no type for that. */
static void remake_plans(struct mb_map *map)
{
	uint32_t key = map->key ? map->key->size : 0, value = map->value ? map->value->size : 0;

	if (key == map->info.key_size && value == map->info.value_size)
		return;
	if (mb_map_make_plans(map, 0, 0, NULL) != 0)
		map->key = map->seen = NULL; /* as of a map without keys */
}

void mb_map_loaded(struct mb_map *map)
{
	if (map->closed)
		return;
	mb_map_end_image(map, "its object has been loaded");
	/* one that was left out has a descriptor of libbpf's that is no map's */
	map->fd = bpf_map__autocreate(map->bpf) ? bpf_map__fd(map->bpf) : -1;
	if (map->fd >= 0 && refresh(map, NULL) != 0)
		declared(map);
	remake_plans(map);
	if (bpf_map__is_pinned(map->bpf)) { /* of somebody else's object; ours are takeover.c's */
		const char *path = bpf_map__pin_path(map->bpf);

		free(map->pin_path);
		map->pin_path = path ? strdup(path) : NULL;
	}
}

struct mb_map *mb_map_ref(struct mb_map *map)
{
	map->refs++;
	return map;
}

void mb_map_close(struct mb_map *map)
{
	if (map->closed)
		return;
	map->closed = true;
	mb_map_end_memory(map);
	mb_map_end_image(map, "its map is closed");
	mb_map_end_lock(map);
	if (map->own_fd)
		close(map->fd);
	map->fd = -1;
	map->obj = NULL;
	map->bpf = NULL;
}

void mb_map_unref(struct mb_map *map)
{
	if (!map || --map->refs)
		return;
	mb_map_close(map);
	mb_btf_unref(map->btf);
	free(map->name);
	free(map->pin_path);
	free(map->want_pin);
	mb_map_unref(map->migrates);
	free(map);
}

/* ---- asking ---------------------------------------------------------------------------------------- */

bool mb_map_closed(const struct mb_map *map)
{
	return map->closed;
}

const char *mb_map_name(const struct mb_map *map)
{
	return map->name;
}

const char *mb_map_value_title(const struct mb_map *map)
{
	return map->value_title;
}

int mb_map_check(const struct mb_map *map, const char *op, struct mb_error *err)
{
	if (map->closed)
		return mb_fail(err, EBADF, op, map->name, "the map is closed");
	/* the kernel writes as many bytes as it thinks a value has */
	if (map->fd >= 0 && map->seen && map->seen->size != mb_map_span(map))
		return mb_fail(err, EINVAL, op, map->name,
			       "its values are not of the size declared");
	if (map->fd >= 0)
		return 0;
	if (map->obj && map->obj->state == MB_FAILED) {
		mb_fail(err, EINVAL, op, map->name, "its object failed to load");
		mb_error_hint(err, "open it again: an object can be loaded once");
	} else if (map->obj && map->obj->state == MB_LOADED) {
		mb_fail(err, EINVAL, op, map->name, "it was not created");
		mb_error_hint(err, "its autocreate is false");
	} else {
		mb_fail(err, EINVAL, op, map->name, "its object is not loaded");
		mb_error_hint(err, "call obj:load() first");
	}
	return -EINVAL;
}

int mb_map_info(struct mb_map *map, struct mb_map_info *out, struct mb_error *err)
{
	if (map->closed)
		return mb_fail(err, EBADF, "describe map", map->name, "the map is closed");
	if (map->fd < 0)
		declared(map);
	*out = (struct mb_map_info){
		.name = map->name,
		.type = mb_map_type_name(map->info.type),
		.id = map->info.id,
		.fd = map->fd,
		.key_size = map->info.key_size,
		.value_size = map->info.value_size,
		.max_entries = map->info.max_entries,
		.flags = map->info.map_flags,
		.pin_path = map->pin_path,
		.percpu = map->kind->percpu,
		.internal = map->bpf && bpf_map__is_internal(map->bpf),
		.pin_by_name = map->pin_by_name,
		.autocreate = !map->bpf || bpf_map__autocreate(map->bpf),
	};
	return 0;
}

/* What a map is can be said between open and load only. */
static int check_open(const struct mb_map *map, const char *op, const char *what,
		      struct mb_error *err)
{
	if (map->closed)
		return mb_fail(err, EBADF, op, map->name, "the map is closed");
	if (map->bpf && map->obj->state == MB_OPEN)
		return 0;
	mb_fail(err, EBUSY, op, map->name, "its object has been loaded already");
	mb_error_hint(err, "%s can be set between bpf.open and obj:load()", what);
	return -EBUSY;
}

int mb_map_resize(struct mb_map *map, uint32_t max_entries, struct mb_error *err)
{
	int rc = check_open(map, "resize map", "max_entries", err);

	if (rc)
		return rc;
	rc = bpf_map__set_max_entries(map->bpf, max_entries);
	if (rc)
		return mb_fail(err, rc, "resize map", map->name, "%s", mb_error_text(-rc));
	declared(map);
	return 0;
}

int mb_map_set_value_size(struct mb_map *map, uint32_t size, struct mb_error *err)
{
	int rc = check_open(map, "resize values of map", "value_size", err);

	if (rc)
		return rc;
	if (map->info.type == BPF_MAP_TYPE_STRUCT_OPS || !map->info.value_size)
		return mb_fail(err, EINVAL, "resize values of map", map->name,
			       "a map of type %s has no size of values to set", map->kind->name);
	rc = bpf_map__set_value_size(map->bpf, size);
	if (rc)
		return mb_fail(err, rc, "resize values of map", map->name, "%s",
			       mb_error_text(-rc));
	declared(map);
	return mb_map_make_plans(map, bpf_map__btf_key_type_id(map->bpf),
				 bpf_map__btf_value_type_id(map->bpf), err);
}

int mb_map_set_autocreate(struct mb_map *map, bool on, struct mb_error *err)
{
	int rc = check_open(map, "leave out map", "autocreate", err);

	if (rc)
		return rc;
	rc = bpf_map__set_autocreate(map->bpf, on);
	return rc ? mb_fail(err, rc, "leave out map", map->name, "%s", mb_error_text(-rc)) : 0;
}

int mb_map_plans(struct mb_map *map, const struct mb_plan **key, const struct mb_plan **value,
		 struct mb_error *err)
{
	if (map->closed)
		return mb_fail(err, EBADF, "describe map", map->name, "the map is closed");
	if (map->info.type == BPF_MAP_TYPE_STRUCT_OPS)
		mb_map_kernel_type(map);
	*key = map->key;
	*value = map->seen;
	return 0;
}

const struct mb_plan *mb_map_value_plan(struct mb_map *map)
{
	mb_map_kernel_type(map);
	return map->value;
}

int mb_map_type(struct mb_map *map, const char *name, const struct mb_plan **out,
		struct mb_error *err)
{
	if (map->closed)
		return mb_fail(err, EBADF, "describe map", map->name, "the map is closed");
	if (!map->btf) {
		mb_fail(err, ENOENT, "find type", name, "map '%s' has no BTF", map->name);
		mb_error_hint(err, "take the type from an object: obj.types[\"%s\"]", name);
		return -ENOENT;
	}
	return mb_btf_find(map->btf, name, out, err);
}

/* ---- operations ------------------------------------------------------------------------------------- */

/* What to do about a refusal that the type explains, or NULL. */
static const char *hint_of(const struct mb_map *map, const char *op, int code)
{
	const struct mb_map_kind *kind = map->kind;
	bool set = strncmp(op, "set", 3) == 0;

	if (code == EPERM && geteuid() == 0)
		return "the map was opened or made read-only or write-only, or frozen";
	if (set && kind->holds == MB_HOLDS_MAP && code == EINVAL)
		return "an inner map must be like the one declared: type, sizes and flags, of "
		       "arrays max_entries, too";
	if (set && kind->holds == MB_HOLDS_PROGRAM && code == EINVAL)
		return "a program array takes programs that are alike: of the type of those that "
		       "call it";
	if (set && kind->sockets && (code == EOPNOTSUPP || code == EINVAL))
		return "the kernel takes TCP sockets that are connected or listen, UDP ones that "
		       "are bound";
	if (set && code == ENOENT &&
	    (map->info.type == BPF_MAP_TYPE_CGROUP_STORAGE ||
	     map->info.type == BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE))
		return "an entry is there when a program that uses the map is attached to that "
		       "cgroup";
	return NULL;
}

int mb_map_refused(const struct mb_map *map, const char *op, int code, struct mb_error *err)
{
	/* a full trie says ENOSPC */
	bool no_room = (code == E2BIG || code == ENOSPC) && strncmp(op, "set", 3) == 0;
	bool indexed = map->kind->indexed;
	const char *hint = hint_of(map, op, code);
	int rc = mb_fail(err, code, op, map->name, "%s",
			 code == EBADF ? "the descriptor is not open, or of something else" :
			 !no_room      ? mb_error_text(code) :
			 indexed       ? "there is no such key" :
					 "it is full");

	if (no_room && indexed)
		mb_error_hint(err, "%s %s of %u entries has the keys 0 to %u",
			      strchr("aeiou", *map->kind->name) ? "an" : "a", map->kind->name,
			      map->info.max_entries, map->info.max_entries - 1);
	else if (no_room)
		mb_error_hint(err,
			      "it has room for %u entries: raise max_entries before load, or "
			      "delete some",
			      map->info.max_entries);
	else if (hint)
		mb_error_hint(err, "%s", hint);
	else if (code == EINVAL || code == EOPNOTSUPP || code == ENOTSUPP)
		mb_error_hint(err, "a map of type %s may not have this operation or flag",
			      map->kind->name);
	return rc;
}

int mb_map_begin(const struct mb_map *map, const char *op, uint32_t ops, struct mb_error *err)
{
	int rc = mb_map_kind_has(map->kind, ops) ? 0 : mb_map_allow(map, ops, err);

	if (!rc && ops & MB_OP_WRITES)
		rc = mb_refuse(op, map->name, err);
	return rc ? rc : mb_map_check(map, op, err);
}

int mb_map_get(struct mb_map *map, const void *key, void *value, uint64_t flags,
	       struct mb_error *err)
{
	int rc = mb_map_begin(map, "get from map", MB_OP_GET, err);

	if (rc)
		return rc;
	if (bpf_map_lookup_elem_flags(map->fd, key, value, flags) == 0)
		return 1;
	return errno == ENOENT ? 0 : mb_map_refused(map, "get from map", errno, err);
}

int mb_map_take(struct mb_map *map, const void *key, void *value, struct mb_error *err)
{
	int rc = mb_map_begin(map, "take from map", MB_OP_TAKE, err);

	if (rc)
		return rc;
	if (bpf_map_lookup_and_delete_elem(map->fd, key, value) == 0)
		return 1;
	return errno == ENOENT ? 0 : mb_map_refused(map, "take from map", errno, err);
}

int mb_map_set(struct mb_map *map, const void *key, const void *value, uint64_t flags,
	       struct mb_error *err)
{
	int rc = mb_map_begin(map, "set in map", MB_OP_SET, err);

	if (rc)
		return rc;
	if (bpf_map_update_elem(map->fd, key, value, flags) == 0)
		return 1;
	if ((errno == EEXIST && flags & BPF_NOEXIST) || (errno == ENOENT && flags & BPF_EXIST))
		return 0;
	return mb_map_refused(map, "set in map", errno, err);
}

int mb_map_delete(struct mb_map *map, const void *key, struct mb_error *err)
{
	int rc = mb_map_begin(map, "delete from map", MB_OP_DELETE, err);

	if (rc)
		return rc;
	if (bpf_map_delete_elem(map->fd, key) == 0)
		return 1;
	return errno == ENOENT ? 0 : mb_map_refused(map, "delete from map", errno, err);
}
