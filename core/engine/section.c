/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An object's data sections as regions: libbpf's image before load, a mapping of our own after it.
 * libbpf's pointer is never used after load: before 1.5 it is not the live map, and for a reused
 * map it never is.
 */
#include "engine/hold.h"
#include "internal.h"

/* ---- before load ------------------------------------------------------------------------------------ */

/* The DATASEC knows the whole name; libbpf's map is called like the object and cut to 15 letters. */
static const char *section_name(struct mb_object *obj, struct bpf_map *map)
{
	uint32_t id = bpf_map__btf_value_type_id(map);
	const struct btf_type *t = id ? btf__type_by_id(obj->btf->btf, id) : NULL;
	const char *name = bpf_map__name(map), *dot;

	if (t && btf_is_datasec(t))
		return mb_btf_raw_name(obj->btf, t);
	dot = strchr(name, '.');
	return dot ? dot : name;
}

static int section_plan(struct mb_object *obj, struct bpf_map *map, size_t len,
			const struct mb_plan **out, struct mb_error *err)
{
	uint32_t id = bpf_map__btf_value_type_id(map);
	const struct btf_type *t = id ? btf__type_by_id(obj->btf->btf, id) : NULL;

	if (t && btf_is_datasec(t) && t->size <= len)
		return mb_btf_plan(obj->btf, id, out, err);
	return mb_plan_bytes(&obj->btf, (uint32_t)len, out, err);
}

static int section_open(struct mb_object *obj, struct bpf_map *map, struct mb_section *s,
			struct mb_error *err)
{
	size_t len = 0;
	/* const or not: that differs between libbpf's versions */
	void *image = (void *)(uintptr_t)bpf_map__initial_value(map, &len);
	char name[64];
	int rc;

	s->name = mb_btf_strdup(obj->btf, section_name(obj, map));
	if (!s->name)
		return mb_fail(err, ENOMEM, "open object", obj->name, "out of memory");
	snprintf(name, sizeof(name), "%.24s of '%.30s'", s->name, obj->name);
	s->region = mb_region_bytes(image ? 0 : len, 0, name);
	if (!s->region)
		return mb_fail(err, ENOMEM, "open object", obj->name, "out of memory");
	if (image) {
		s->region->base = image;
		s->region->len = len;
		s->region->flags = MB_REGION_WRITABLE;
	}
	rc = section_plan(obj, map, len, &s->plan, err);
	s->region->whole = rc ? NULL : s->plan;
	if (strncmp(s->name, ".rodata", 7) == 0)
		s->region->fix = "constants are fixed at load: set it before obj:load(), or "
				 "declare it volatile without const to tune it live";
	/* values of the kernel's configuration are libbpf's to fill in */
	if (strcmp(s->name, ".kconfig") == 0)
		s->region->flags = 0;
	return rc;
}

static void group_drop(struct mb_region *group)
{
	for (uint32_t i = 0; i < group->nparts; i++)
		mb_region_unref(group->parts[i]);
	free(group->parts);
}

static int open_group(struct mb_object *obj, struct mb_error *err)
{
	struct mb_region *g = mb_region_bytes(0, 0, obj->name);
	int rc;

	if (!g)
		return mb_fail(err, ENOMEM, "open object", obj->name, "out of memory");
	obj->group = g;
	g->parts = calloc(obj->nsections + 1, sizeof(g->parts[0]));
	if (!g->parts)
		return mb_fail(err, ENOMEM, "open object", obj->name, "out of memory");
	g->drop = group_drop;
	for (size_t i = 0; i < obj->nsections; i++)
		g->parts[g->nparts++] = mb_region_ref(obj->sections[i].region);
	rc = mb_plan_group(obj->btf, obj->sections, (uint32_t)obj->nsections, &obj->group_plan,
			   err);
	for (size_t i = 0; i < obj->nsections; i++) {
		obj->sections[i].region->group = g;
		obj->sections[i].region->vars = obj->group_plan;
	}
	return rc;
}

int mb_sections_open(struct mb_object *obj, struct mb_error *err)
{
	obj->sections = calloc(obj->nmaps + 1, sizeof(obj->sections[0]));
	obj->section_maps = calloc(obj->nmaps + 1, sizeof(obj->section_maps[0]));
	if (!obj->sections || !obj->section_maps)
		return mb_fail(err, ENOMEM, "open object", obj->name, "out of memory");
	for (size_t i = 0; i < obj->nmaps; i++) {
		struct bpf_map *map = obj->maps[i]->bpf;
		size_t n = obj->nsections;
		int rc;

		if (!bpf_map__is_internal(map))
			continue;
		obj->section_maps[n] = map;
		obj->nsections++;
		rc = section_open(obj, map, &obj->sections[n], err);
		if (rc)
			return rc;
	}
	return open_group(obj, err);
}

/* ---- resize ------------------------------------------------------------------------------------------- */

/* libbpf gives the room to whatever is the last of a section: is it f? */
static int check_last(struct mb_object *obj, const struct mb_field *f, const char *name,
		      struct mb_error *err)
{
	const struct mb_section *s = &obj->sections[f->part];

	if (f->plan->kind != MB_KIND_ARRAY && f->plan->kind != MB_KIND_CHARS)
		return mb_fail(err, EINVAL, "resize variable", name, "it is %s, no array",
			       f->plan->name);
	if (strcmp(s->name, ".kconfig") == 0)
		return mb_fail(err, EINVAL, "resize variable", name,
			       "it is the kernel's configuration");
	for (uint32_t i = 0; i < s->plan->nfields; i++)
		if (s->plan->fields[i].off > f->off) {
			mb_fail(err, EINVAL, "resize variable", name, "'%s' comes after it in %s",
				s->plan->fields[i].name, s->name);
			mb_error_hint(err, "give it a section of its own: SEC(\".data.%s\")", name);
			return -EINVAL;
		}
	if (f->off + f->plan->size == s->plan->size)
		return 0;
	mb_fail(err, EINVAL, "resize variable", name,
		"a static or hidden variable comes after it in %s", s->name);
	mb_error_hint(err, "give it a section of its own: SEC(\".data.%s\")", name);
	return -EINVAL;
}

/* The plans are ours, and const to everybody else. */
static void set_size(const struct mb_plan *plan, const char *name, const struct mb_plan *type,
		     uint32_t size)
{
	struct mb_field *f = (struct mb_field *)(uintptr_t)mb_plan_field(plan, name);

	f->plan = type;
	f->end = f->off + type->size;
	if (size)
		((struct mb_plan *)(uintptr_t)plan)->size = size;
}

/* libbpf has moved the image: r takes the old region's place. */
static void new_image(struct mb_object *obj, uint32_t part, struct mb_region *r)
{
	struct mb_region *old = obj->sections[part].region;

	r->base = (void *)(uintptr_t)bpf_map__initial_value(obj->section_maps[part], &r->len);
	r->group = old->group;
	r->vars = old->vars;
	mb_region_end(old, "its section was resized");
	obj->sections[part].region = r;
	mb_region_unref(obj->group->parts[part]);
	obj->group->parts[part] = mb_region_ref(r);
	mb_region_moved(obj->group);
	mb_region_unref(old);
}

/* What is needed is had before libbpf moves the image: there is no way back then. */
static int resize(struct mb_object *obj, const struct mb_field *f, const char *name,
		  const struct mb_plan *type, struct mb_error *err)
{
	const struct mb_section *s = &obj->sections[f->part];
	struct mb_region *r = mb_region_bytes(0, MB_REGION_WRITABLE, s->region->name);
	uint32_t part = f->part, size = f->off + type->size;
	struct mb_capture cap;
	int rc;

	if (!r)
		return mb_fail(err, ENOMEM, "resize variable", name, "out of memory");
	mb_capture_begin(&cap);
	rc = bpf_map__set_value_size(obj->section_maps[part], size);
	if (rc)
		rc = mb_fail(err, rc, "resize variable", name, "libbpf refuses it");
	mb_capture_end(&cap, err);
	if (rc) {
		mb_region_unref(r);
		return rc;
	}
	set_size(s->plan, name, type, size);
	set_size(obj->group_plan, name, type, 0);
	new_image(obj, part, r);
	return 0;
}

int mb_object_resize(struct mb_object *obj, const char *name, uint32_t n, struct mb_error *err)
{
	const struct mb_field *f = mb_plan_field(obj->group_plan, name);
	const struct mb_plan *type;
	int rc = mb_object_check(obj, "resize variable", err);

	if (rc)
		return rc;
	if (obj->state != MB_OPEN) {
		mb_fail(err, EBUSY, "resize variable", name, "the object is loaded already");
		mb_error_hint(err, "resize it between bpf.open and obj:load()");
		return -EBUSY;
	}
	if (!f)
		return mb_fail(err, ENOENT, "resize variable", name, "there is no such variable");
	if (!MB_LIBBPF_AT_LEAST(1, 3))
		return mb_fail(err, ENOTSUP, "resize variable", name,
			       "it needs libbpf 1.3, and this is %s", mb_libbpf_version());
	rc = check_last(obj, f, name, err);
	if (!rc)
		rc = mb_plan_resize(f->plan, n, &type, err);
	return rc ? rc : resize(obj, f, name, type, err);
}

/* ---- after load ------------------------------------------------------------------------------------- */

static void free_copy(struct mb_region *region)
{
	free(region->base);
}

/* A section that cannot be mapped (all its variables static, an old kernel) is read once. */
static int section_copy(struct mb_region *r, int fd, size_t len, struct mb_error *err)
{
	uint8_t *copy = calloc(1, mb_round_up(len, 8));
	uint32_t key = 0;

	if (!copy)
		return mb_fail(err, ENOMEM, "map section", r->name, "out of memory");
	if (bpf_map_lookup_elem(fd, &key, copy) != 0) {
		int code = errno;

		free(copy);
		return mb_fail(err, code, "read section", r->name, "%s", mb_error_text(code));
	}
	r->base = copy;
	r->len = len;
	r->drop = free_copy;
	r->flags = 0;
	return 0;
}

int mb_section_map(struct mb_region *region, int fd, size_t len, uint32_t flags, bool write,
		   struct mb_error *err)
{
	int rc;

	if (!(flags & BPF_F_MMAPABLE))
		return section_copy(region, fd, len, err);
	rc = mb_region_map(region, fd, len, write && !(flags & BPF_F_RDONLY_PROG));
	if (rc == -EACCES || rc == -EPERM) /* someone froze it */
		rc = mb_region_map(region, fd, len, false);
	if (rc == -EINVAL) /* a fd that may not write cannot be mapped */
		return section_copy(region, fd, len, err);
	return rc ? mb_fail(err, rc, "map section", region->name, "%s", mb_error_text(-rc)) : 0;
}

static int section_load(struct mb_section *s, struct bpf_map *map, struct mb_error *err)
{
	size_t len = bpf_map__value_size(map);

	if (len < s->plan->size)
		return mb_fail(err, EINVAL, "map section", s->region->name,
			       "it is %zu bytes, not %u", len, s->plan->size);
	return mb_section_map(s->region, bpf_map__fd(map), len, bpf_map__map_flags(map), true, err);
}

int mb_sections_load(struct mb_object *obj, struct mb_error *err)
{
	for (size_t i = 0; i < obj->nsections; i++) {
		int rc = section_load(&obj->sections[i], obj->section_maps[i], err);

		if (rc)
			return rc;
		mb_region_moved(obj->sections[i].region);
	}
	return 0;
}

/* ---- the end ----------------------------------------------------------------------------------------- */

void mb_sections_end(struct mb_object *obj, const char *why)
{
	/* views may outlive the object: the reason must, too */
	const char *kept = obj->btf ? mb_btf_strdup(obj->btf, why) : NULL;

	if (!kept)
		kept = "its object is closed";
	if (obj->group)
		mb_region_end(obj->group, kept);
	else
		for (size_t i = 0; i < obj->nsections; i++)
			if (obj->sections[i].region)
				mb_region_end(obj->sections[i].region, kept);
}

void mb_sections_free(struct mb_object *obj)
{
	mb_region_unref(obj->group);
	for (size_t i = 0; i < obj->nsections; i++)
		mb_region_unref(obj->sections[i].region);
	free(obj->sections);
	free(obj->section_maps);
}

/* ---- asking ------------------------------------------------------------------------------------------ */

size_t mb_object_sections(const struct mb_object *obj)
{
	return obj->nsections;
}

const struct mb_section *mb_object_section(const struct mb_object *obj, size_t i)
{
	return &obj->sections[i];
}

int mb_object_vars(struct mb_object *obj, struct mb_view *out, struct mb_error *err)
{
	return mb_view_init(out, obj->group, 0, obj->group_plan, err);
}
