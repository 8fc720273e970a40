/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Types that C does not declare, and the map's own type implies: indices, ids and descriptors are
 * numbers; stack traces are addresses. Names of addresses are the kernel part's.
 */
#include "engine/map_kind.h"

#include "internal.h"

#define BUILD_ID_ENTRY 32u /* struct bpf_stack_build_id */

/* One frame of a stack; its id, or a negative errno. */
static int add_frame(struct btf *btf, bool build_ids)
{
	int u64 = btf__add_int(btf, "__u64", 8, 0), s32, u8, array, id;

	if (!build_ids)
		return u64;
	s32 = btf__add_int(btf, "__s32", 4, BTF_INT_SIGNED);
	u8 = btf__add_int(btf, "__u8", 1, 0);
	array = btf__add_array(btf, s32, u8, 20);
	id = btf__add_struct(btf, "bpf_stack_build_id", BUILD_ID_ENTRY);
	if (u64 < 0 || s32 < 0 || u8 < 0 || array < 0 || id < 0 ||
	    btf__add_field(btf, "status", s32, 0, 0) ||
	    btf__add_field(btf, "build_id", array, 32, 0) ||
	    btf__add_field(btf, "offset", u64, 192, 0))
		return -ENOMEM;
	return id;
}

/* A BTF of a number (id 1) and a frame. It lives as long as the map's own, or takes that place where
 * there is none. */
static int make_types(struct mb_map *map, bool build_ids, uint32_t *frame, struct mb_btf **out,
		      struct mb_error *err)
{
	struct btf *made = btf__new_empty();
	const void *raw = NULL;
	uint32_t len;
	int id = -ENOMEM, rc;

	if (made && btf__add_int(made, "__u32", 4, 0) == 1)
		id = add_frame(made, build_ids);
	if (id >= 0)
		raw = btf__raw_data(made, &len);
	rc = raw ? mb_btf_new(raw, len, map->name, out, err) :
		   mb_fail(err, ENOMEM, "open map", map->name, "out of memory");
	btf__free(made);
	if (rc)
		return rc;
	*frame = (uint32_t)id;
	if (!map->btf)
		map->btf = *out;
	else if (mb_btf_keep(map->btf, *out) != 0)
		return mb_fail(err, ENOMEM, "open map", map->name, "out of memory");
	return 0;
}

static bool has_number_key(const struct mb_map *map)
{
	const struct mb_map_kind *kind = map->kind;

	return map->info.key_size == 4 &&
	       (kind->indexed || kind->holds == MB_HOLDS_STACK ||
		map->info.type == BPF_MAP_TYPE_STRUCT_OPS ||
		(kind->keys != MB_KEYS_PLAIN && kind->keys != MB_KEYS_NONE));
}

static int stack_plan(struct mb_map *map, struct mb_btf *btf, uint32_t frame,
		      const struct mb_plan **out, struct mb_error *err)
{
	const struct mb_plan *plan;
	int rc = mb_btf_plan(btf, frame, &plan, err);

	if (rc || map->info.value_size % plan->size != 0)
		return rc;
	return mb_plan_array(plan, plan->size, map->info.value_size / plan->size, out, err);
}

int mb_map_imply_types(struct mb_map *map, struct mb_error *err)
{
	bool key = map->key && map->key->kind == MB_KIND_BYTES && has_number_key(map);
	bool stack = map->value && map->value->kind == MB_KIND_BYTES &&
		     map->kind->holds == MB_HOLDS_STACK;
	bool thing = map->value && map->value->kind == MB_KIND_BYTES && map->value->size == 4 &&
		     map->kind->holds != MB_HOLDS_DATA && !stack;
	struct mb_btf *btf = NULL;
	uint32_t frame = 0;
	int rc;

	if (!key && !stack && !thing)
		return 0;
	rc = make_types(map, map->info.map_flags & BPF_F_STACK_BUILD_ID, &frame, &btf, err);
	if (!rc && key)
		rc = mb_btf_plan(btf, 1, &map->key, err);
	if (!rc && thing)
		rc = mb_btf_plan(btf, 1, &map->value, err);
	if (!rc && stack)
		rc = stack_plan(map, btf, frame, &map->value, err);
	return rc;
}

/* A struct_ops map's value once loaded is the kernel's struct, of the kernel's BTF, which is large: it is
 * read when somebody asks. One that cannot be read (a module's) leaves the value bytes. */
void mb_map_kernel_type(struct mb_map *map)
{
	uint32_t type = map->info.btf_vmlinux_value_type_id;
	const struct mb_plan *plan;
	struct mb_btf *btf;
	struct btf *vmlinux;
	bool there = false;

	if (map->info.type != BPF_MAP_TYPE_STRUCT_OPS || map->fd < 0 || !type || !map->btf ||
	    !map->value || map->value->kind != MB_KIND_BYTES || map->kernel_type_tried)
		return;
	map->kernel_type_tried = true;
	vmlinux = btf__load_vmlinux_btf();
	if (vmlinux) {
		uint32_t len;
		const void *raw = btf__raw_data(vmlinux, &len);

		there = raw && mb_btf_new(raw, len, "vmlinux", &btf, NULL) == 0;
	}
	btf__free(vmlinux);
	if (!there)
		return;
	if (mb_btf_plan(btf, type, &plan, NULL) != 0 || plan->size != map->info.value_size)
		mb_btf_unref(btf);
	else if (mb_btf_keep(map->btf, btf) == 0) {
		map->value = map->seen = plan;
		if (map->value_title) /* where its views have it, too */
			map->value_title = mb_btf_strdup(btf, map->value_title);
	}
}

uint32_t mb_map_stack_depth(const struct mb_map *map, const void *value)
{
	const struct mb_plan *plan = map->seen;
	uint32_t n = 0;

	if (plan->kind != MB_KIND_ARRAY)
		return 0;
	for (; n < plan->count; n++) {
		const uint8_t *at = (const uint8_t *)value + (size_t)n * plan->stride;
		uint64_t word = 0;

		/* an address, or a status that is 0 at the end */
		memcpy(&word, at, plan->stride == 8 ? 8 : 4);
		if (!word)
			break;
	}
	return n;
}
