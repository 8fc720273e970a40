/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The value of a struct_ops map before load, as C initializes it: libbpf copies it into the kernel's
 * own struct at load. Attaching is link.c's.
 */
#include "engine/map_kind.h"

#include "internal.h"

void mb_map_end_image(struct mb_map *map, const char *why)
{
	if (!map->image)
		return;
	mb_region_end(map->image, why);
	mb_region_unref(map->image);
	map->image = NULL;
}

static int find_image(struct mb_map *map, uint8_t **base, size_t *len, struct mb_error *err)
{
	*base = NULL;
#if MB_LIBBPF_AT_LEAST(1, 5)
	*base = bpf_map__initial_value(map->bpf, len);
#else
	(void)map;
	*len = 0;
#endif
	if (*base)
		return 0;
	mb_fail(err, ENOTSUP, "set value of", map->name, "libbpf %s does not let it",
		mb_libbpf_version());
	mb_error_hint(err, "it can from 1.5 on");
	return -ENOTSUP;
}

/* The type is that of the variable by which C declares the map. */
static int find_plan(struct mb_map *map, size_t len, const struct mb_plan **out,
		     struct mb_error *err)
{
	const struct btf *btf = map->btf->btf;
	uint32_t n = btf__type_cnt(btf);

	for (uint32_t id = 1; id < n; id++) {
		const struct btf_type *t = btf__type_by_id(btf, id);

		if (!btf_is_var(t) || strcmp(mb_btf_raw_name(map->btf, t), map->name) != 0)
			continue;
		if (mb_btf_plan(map->btf, t->type, out, NULL) == 0 && (*out)->size <= len &&
		    (*out)->kind == MB_KIND_STRUCT)
			return 0;
	}
	return mb_fail(err, ENOENT, "set value of", map->name, "its type is not in the BTF");
}

int mb_map_image(struct mb_map *map, struct mb_view *out, struct mb_error *err)
{
	const struct mb_plan *plan;
	uint8_t *base;
	size_t len;
	int rc;

	if (map->closed)
		return mb_fail(err, EBADF, "set value of", map->name, "the map is closed");
	if (map->info.type != BPF_MAP_TYPE_STRUCT_OPS) {
		mb_fail(err, EINVAL, "set value of", map->name,
			"a map of type %s has no value of its own", map->kind->name);
		mb_error_hint(err,
			      "struct_ops maps have one; others: m:get(key), m:set(key, value)");
		return -EINVAL;
	}
	if (!map->bpf || map->obj->state != MB_OPEN) {
		mb_fail(err, EBUSY, "set value of", map->name,
			"its object has been loaded already");
		mb_error_hint(err,
			      "set it between bpf.open and obj:load(); m:get(0) reads what the "
			      "kernel has");
		return -EBUSY;
	}
	rc = find_image(map, &base, &len, err);
	if (!rc)
		rc = find_plan(map, len, &plan, err);
	if (rc)
		return rc;
	if (!map->image) {
		char name[64];

		snprintf(name, sizeof(name), "value of map '%.40s'", map->name);
		map->image = mb_region_bytes(0, MB_REGION_WRITABLE, name);
		if (!map->image)
			return mb_fail(err, ENOMEM, "set value of", map->name, "out of memory");
		map->image->base = base; /* libbpf's, until the image is ended */
		map->image->len = len;
		map->image->whole = plan;
	}
	mb_region_ref(map->image);
	rc = mb_view_init(out, map->image, 0, plan, err);
	if (rc)
		mb_region_unref(map->image);
	return rc;
}
