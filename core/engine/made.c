/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Plans that no type of a BTF stands for: arrays by stride, bags of bytes, all sections together.
 */
#include "internal.h"

/* Kept by shape, so that asking again costs nothing and the btf does not grow. */
struct made {
	struct made *next;
	const struct mb_plan *elem; /* NULL: a bag of bytes */
	uint32_t stride, count;
	struct mb_plan *plan;
};

static int make(struct mb_btf *btf, const struct mb_plan *elem, uint32_t stride, uint32_t count,
		const struct mb_plan **out, struct mb_error *err)
{
	struct made *m;
	struct mb_plan *p;
	char name[192];
	const char *of;
	size_t dims;
	int rc = 0;

	for (m = btf->made; m; m = m->next)
		if (m->elem == elem && m->stride == stride && m->count == count) {
			*out = m->plan;
			return 0;
		}
	m = mb_btf_alloc(btf, sizeof(*m));
	p = m ? mb_plan_new(btf, 0, elem ? MB_KIND_ARRAY : MB_KIND_BYTES, 0, err) : NULL;
	if (!p)
		return mb_plan_no_memory(btf, err);
	of = elem ? elem->name : "bytes";
	dims = strcspn(of, "[");
	snprintf(name, sizeof(name), "%.*s[%u]%s", (int)dims, of, count, of + dims);
	p->name = mb_btf_strdup(btf, name);
	if (!p->name)
		return mb_plan_no_memory(btf, err);
	if (elem) {
		rc = mb_plan_fill_array(btf, p, elem, stride, count, err);
		p->flexible = false;
	} else {
		p->enc = MB_ENC_BYTES;
		p->size = count;
	}
	if (rc)
		return rc;
	*m = (struct made){ btf->made, elem, stride, count, p };
	btf->made = m;
	*out = p;
	return 0;
}

int mb_plan_resize(const struct mb_plan *plan, uint32_t n, const struct mb_plan **out,
		   struct mb_error *err)
{
	struct mb_plan *p;
	char name[160];

	if (!n || n > INT32_MAX)
		return mb_fail(err, ERANGE, "resize", plan->name, "from 1 element on");
	if (plan->kind == MB_KIND_ARRAY)
		return make(plan->btf, plan->fields[0].plan, plan->stride, n, out, err);
	if (plan->kind != MB_KIND_CHARS)
		return mb_fail(err, EINVAL, "resize", plan->name, "it is no array");
	p = mb_btf_alloc(plan->btf, sizeof(*p));
	snprintf(name, sizeof(name), "%.*s[%u]", (int)strcspn(plan->name, "["), plan->name, n);
	if (p) {
		*p = *plan;
		p->name = mb_btf_strdup(plan->btf, name);
	}
	if (!p || !p->name)
		return mb_plan_no_memory(plan->btf, err);
	p->count = p->size = n;
	*out = p;
	return 0;
}

int mb_plan_array(const struct mb_plan *elem, uint32_t stride, uint32_t count,
		  const struct mb_plan **out, struct mb_error *err)
{
	return make(elem->btf, elem, stride, count, out, err);
}

int mb_plan_bytes(struct mb_btf **btf, uint32_t n, const struct mb_plan **out, struct mb_error *err)
{
	int rc = *btf ? 0 : mb_btf_new(NULL, 0, "none", btf, err);

	return rc ? rc : make(*btf, NULL, 1, n, out, err);
}

/* Room for the fields of all sections, freed by the caller, and for their hidden names. */
static struct mb_field *group_room(struct mb_btf *btf, const struct mb_section *sections,
				   uint32_t n, const char ***hidden)
{
	size_t nfields = 0, nhidden = 0;

	for (uint32_t s = 0; s < n; s++) {
		nfields += sections[s].plan->nfields;
		nhidden += sections[s].plan->nhidden;
	}
	*hidden = mb_btf_alloc(btf, nhidden * sizeof(**hidden));
	return *hidden ? calloc(nfields + 1, sizeof(struct mb_field)) : NULL;
}

int mb_plan_group(struct mb_btf *btf, const struct mb_section *sections, uint32_t n,
		  const struct mb_plan **out, struct mb_error *err)
{
	struct mb_plan *p = mb_plan_new(btf, 0, MB_KIND_GROUP, 0, err);
	struct mb_field *fields;
	const char **hidden;
	uint32_t count = 0;
	int rc;

	if (!p)
		return -ENOMEM;
	p->name = "variables";
	fields = group_room(btf, sections, n, &hidden);
	if (!fields)
		return mb_plan_no_memory(btf, err);
	for (uint32_t s = 0; s < n; s++) {
		const struct mb_plan *sp = sections[s].plan;

		for (uint32_t i = 0; sp->kind == MB_KIND_SECTION && i < sp->nfields; i++) {
			fields[count] = sp->fields[i];
			fields[count++].part = (uint16_t)s;
		}
		for (uint32_t i = 0; i < sp->nhidden; i++)
			hidden[p->nhidden++] = sp->hidden[i];
	}
	p->hidden = hidden;
	rc = mb_plan_fill_fields(btf, p, fields, count, err);
	free(fields);
	*out = p;
	return rc;
}
