/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an object wants from the kernel: its __ksym and __kconfig externs, as its BTF declares them.
 * What they resolve to is not asked here.
 */
#include "internal.h"

static bool is_weak(const struct mb_object *obj, const char *name)
{
	for (const char **w = obj->weak; w && *w; w++)
		if (strcmp(*w, name) == 0)
			return true;
	return false;
}

static int from_var(const struct mb_object *obj, const struct btf_type *sec, uint32_t type,
		    struct mb_extern *out)
{
	const struct btf *btf = obj->btf->btf;
	const struct btf_type *t = btf__type_by_id(btf, type);
	const char *section = mb_btf_raw_name(obj->btf, sec);

	if (!t || !(btf_is_var(t) || btf_is_func(t)))
		return 0;
	if (strcmp(section, ".ksyms") == 0)
		out->kind = "ksym";
	else if (strcmp(section, ".kconfig") == 0)
		out->kind = "kconfig";
	else
		return 0;
	out->name = mb_btf_raw_name(obj->btf, t);
	out->weak = is_weak(obj, out->name);
	mb_btf_spell(obj->btf, btf_is_func(t) ? 0 : t->type, out->type, sizeof(out->type), 0);
	if (btf_is_func(t))
		snprintf(out->type, sizeof(out->type), "function");
	return 1;
}

int mb_object_extern(const struct mb_object *obj, size_t i, struct mb_extern *out)
{
	const struct btf *btf = obj->btf->btf;

	memset(out, 0, sizeof(*out));
	for (uint32_t id = 1; id < obj->btf->ntypes; id++) {
		const struct btf_type *t = btf__type_by_id(btf, id);

		if (!btf_is_datasec(t))
			continue;
		for (uint32_t v = 0; v < btf_vlen(t); v++)
			if (from_var(obj, t, btf_var_secinfos(t)[v].type, out) && i-- == 0)
				return 1;
	}
	return 0;
}
