/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The global variables of a program that someone else loaded: its data sections, found by the maps
 * that it uses, typed by the BTF that the kernel keeps.
 */
#include "internal.h"

#define MAX_MAPS 64

struct found {
	struct mb_section sections[MAX_MAPS];
	uint32_t n;
	struct mb_btf *btf; /* of the first; the others are kept by it */
	uint32_t btf_id;
	bool write;
};

static const char *const OP = "read variables of";

static int program_maps(int fd, const char *name, uint32_t *ids, uint32_t *n, struct mb_error *err)
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);

	info.map_ids = (uint64_t)(uintptr_t)ids;
	info.nr_map_ids = *n;
	if (bpf_obj_get_info_by_fd(fd, &info, &len) != 0)
		return mb_fail(err, errno, OP, name, "%s", mb_error_text(errno));
	if (info.nr_map_ids < *n)
		*n = info.nr_map_ids;
	return 0;
}

/* The BTF of a map: one object's maps share it. */
static int btf_of(struct found *f, uint32_t id, struct mb_btf **out, struct mb_error *err)
{
	struct mb_btf *other;
	int rc;

	if (f->btf && f->btf_id == id) {
		*out = f->btf;
		return 0;
	}
	rc = mb_btf_by_id(id, &other, err);
	if (rc)
		return rc;
	if (!f->btf) {
		f->btf = other;
		f->btf_id = id;
	} else if ((rc = mb_btf_keep(f->btf, other)) != 0) {
		return mb_fail(err, rc, OP, other->name, "out of memory");
	}
	*out = other;
	return 0;
}

static int add_section(struct found *f, int fd, const struct bpf_map_info *info,
		       struct mb_error *err)
{
	struct mb_section *s = &f->sections[f->n];
	const struct btf_type *t;
	struct mb_btf *btf = NULL;
	char name[64];
	int rc = btf_of(f, info->btf_id, &btf, err);

	if (rc)
		return rc;
	t = btf__type_by_id(btf->btf, info->btf_value_type_id);
	if (!t || !btf_is_datasec(t))
		return 0;
	rc = mb_btf_plan(btf, info->btf_value_type_id, &s->plan, err);
	if (rc || s->plan->size > info->value_size)
		return rc;
	s->name = mb_btf_raw_name(btf, t);
	snprintf(name, sizeof(name), "%.24s of map %u", s->name, info->id);
	s->region = mb_region_bytes(0, 0, name);
	if (!s->region)
		return mb_fail(err, ENOMEM, OP, name, "out of memory");
	f->n++;
	s->region->fix = f->write ? "constants are fixed when a program is loaded" :
				    "bpf.vars(prog, { write = true }) may write";
	return mb_section_map(s->region, fd, info->value_size, info->map_flags, f->write, err);
}

static int look_at(struct found *f, uint32_t id, struct mb_error *err)
{
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info);
	int fd = bpf_map_get_fd_by_id(id), rc = 0;

	if (fd < 0)
		return errno == ENOENT ? 0 :
					 mb_fail(err, errno, OP, "map", "%s", mb_error_text(errno));
	if (bpf_obj_get_info_by_fd(fd, &info, &len) == 0 && info.type == BPF_MAP_TYPE_ARRAY &&
	    info.max_entries == 1 && info.btf_id && info.btf_value_type_id)
		rc = add_section(f, fd, &info, err);
	close(fd); /* a mapping outlives its fd */
	return rc;
}

static void group_drop(struct mb_region *group)
{
	for (uint32_t i = 0; i < group->nparts; i++) {
		group->parts[i]->group = NULL; /* views of a section may outlive this */
		group->parts[i]->vars = NULL;
		mb_region_unref(group->parts[i]);
	}
	free(group->parts);
	mb_btf_unref(group->owner);
}

static int make_group(struct found *f, const char *name, struct mb_view *out, struct mb_error *err)
{
	struct mb_region *g = mb_region_bytes(0, 0, name);
	const struct mb_plan *plan;
	int rc;

	if (g)
		g->parts = calloc(f->n, sizeof(g->parts[0]));
	if (!g || !g->parts) {
		free(g);
		return mb_fail(err, ENOMEM, OP, name, "out of memory");
	}
	rc = mb_plan_group(f->btf, f->sections, f->n, &plan, err);
	if (rc) {
		free(g->parts);
		free(g);
		return rc;
	}
	for (uint32_t i = 0; i < f->n; i++) {
		g->parts[g->nparts++] = f->sections[i].region;
		f->sections[i].region->group = g;
		f->sections[i].region->vars = plan;
	}
	g->drop = group_drop;
	g->owner = f->btf;
	f->n = 0;
	f->btf = NULL;
	*out = (struct mb_view){ g, plan, g->gen, 0, 0 };
	return 0;
}

int mb_variables_open(const struct mb_program *prog, bool write, struct mb_view *out,
		      struct mb_error *err)
{
	uint32_t ids[MAX_MAPS], n = MAX_MAPS;
	struct found *f;
	int rc = mb_program_check(prog, OP, err);

	if (!rc)
		rc = program_maps(prog->fd, prog->name, ids, &n, err);
	if (rc)
		return rc;
	f = calloc(1, sizeof(*f));
	if (!f)
		return mb_fail(err, ENOMEM, OP, prog->name, "out of memory");
	f->write = write;
	for (uint32_t i = 0; i < n && !rc; i++)
		rc = look_at(f, ids[i], err);
	if (!rc && !f->n) {
		rc = mb_fail(err, ENODATA, OP, prog->name, "it uses no data section with BTF");
		mb_error_hint(err,
			      "compile it with clang -g, and read or write the variable in it");
	}
	if (!rc)
		rc = make_group(f, prog->name, out, err);
	for (uint32_t i = 0; i < f->n; i++)
		mb_region_unref(f->sections[i].region);
	mb_btf_unref(f->btf);
	free(f);
	return rc;
}
