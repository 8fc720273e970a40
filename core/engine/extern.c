/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Externs: what an object's BTF declares; what libbpf has to be given where it finds no configuration;
 * which of them a failed load failed by. Their fate is fate.c's.
 */
#include "engine/extern.h"
#include "engine/kernel.h"
#include "internal.h"

/* ---- declared ---------------------------------------------------------------------------------- */

struct mb_btf *mb_externs_btf(const struct mb_object *obj)
{
	return obj->declared ? obj->declared : obj->btf;
}

static bool is_weak(const struct mb_object *obj, const char *name)
{
	for (const char **w = obj->weak; w && *w; w++)
		if (strcmp(*w, name) == 0)
			return true;
	return false;
}

static int from_var(const struct mb_object *obj, const struct btf_type *sec, uint32_t id,
		    struct mb_extern *out)
{
	const struct btf *btf = mb_externs_btf(obj)->btf;
	const struct btf_type *t = btf__type_by_id(btf, id);
	const char *section = mb_btf_raw_name(mb_externs_btf(obj), sec);
	struct mb_kdecl decl = { mb_externs_btf(obj), id, t ? t->type : 0, false, NULL };

	if (!t || !(btf_is_var(t) || btf_is_func(t)))
		return 0;
	if (strcmp(section, ".ksyms") == 0)
		out->kind = btf_is_func(t) ? "kfunc" : "ksym";
	else if (strcmp(section, ".kconfig") == 0)
		out->kind = "kconfig";
	else
		return 0;
	out->id = id;
	out->name = mb_btf_raw_name(mb_externs_btf(obj), t);
	out->weak = is_weak(obj, out->name);
	out->typed = btf_is_func(t) || mb_btf_skip(btf, t->type) != 0;
	if (btf_is_func(t))
		mb_kdecl_spell(&decl, out->type, sizeof(out->type));
	else
		mb_btf_spell(mb_externs_btf(obj), t->type, out->type, sizeof(out->type), 0);
	return 1;
}

int mb_object_extern(const struct mb_object *obj, size_t i, struct mb_extern *out)
{
	const struct btf *btf = mb_externs_btf(obj)->btf;

	memset(out, 0, sizeof(*out));
	for (uint32_t id = 1; id < mb_externs_btf(obj)->ntypes; id++) {
		const struct btf_type *t = btf__type_by_id(btf, id);

		if (!btf_is_datasec(t))
			continue;
		for (uint32_t v = 0; v < btf_vlen(t); v++)
			if (from_var(obj, t, btf_var_secinfos(t)[v].type, out) && i-- == 0)
				return 1;
	}
	return 0;
}

/* ---- without a file ------------------------------------------------------------------------------------ */

/* A line that makes e zero, if it is weak and nowhere set. */
static void add_zero(FILE *text, const struct mb_object *obj, const struct mb_kconfig *config,
		     const struct mb_extern *e)
{
	const struct btf *btf = mb_externs_btf(obj)->btf;
	const struct btf_type *t;
	struct mb_kconfig_value v;
	enum mb_form form = mb_extern_form(btf, btf__type_by_id(btf, e->id)->type, &t);

	if (!e->weak || strncmp(e->name, "CONFIG_", 7) != 0 ||
	    (obj->kconfig && mb_kconfig_find(obj->kconfig, e->name, &v) && v.set) ||
	    (config && mb_kconfig_find(config, e->name, &v) && v.set))
		return;
	fprintf(text, "%s=%s\n", e->name,
		form == MB_FORM_TEXT				 ? "\"\"" :
		form == MB_FORM_BOOL || form == MB_FORM_TRISTATE ? "n" :
								   "0");
}

static bool wants_config(const struct mb_object *obj)
{
	struct mb_extern e;

	if (!mb_btf_named(obj->btf, ".kconfig", 0))
		return false;
	for (size_t i = 0; mb_object_extern(obj, i, &e); i++)
		if (strncmp(e.name, "CONFIG_", 7) == 0 && strcmp(e.kind, "kconfig") == 0)
			return true;
	return false;
}

int mb_externs_kconfig(const struct mb_object *obj, const char *given, char **out,
		       struct mb_error *err)
{
	struct mb_kconfig *config = NULL;
	struct mb_extern e;
	size_t len = 0;
	FILE *text;

	*out = NULL;
	if (!wants_config(obj) || mb_libbpf_finds_config())
		return 0;
	text = open_memstream(out, &len);
	if (!text)
		return mb_fail(err, ENOMEM, "open object", obj->name, "out of memory");
	mb_kconfig_new(&config, NULL); /* none at all: zeros for those who can do without */
	fprintf(text, "%s\n%s\n", given ? given : "", config ? mb_kconfig_text(config) : "");
	for (size_t i = 0; mb_object_extern(obj, i, &e); i++)
		if (strcmp(e.kind, "kconfig") == 0)
			add_zero(text, obj, config, &e);
	mb_kconfig_free(config);
	if (fclose(text) != 0) {
		free(*out);
		*out = NULL;
		return mb_fail(err, ENOMEM, "open object", obj->name, "out of memory");
	}
	return 0;
}

/* ---- a failed load ---------------------------------------------------------------------------------------- */

static const char *near_of(const struct mb_target *to, const struct mb_extern *e)
{
	if (strcmp(e->kind, "kconfig") == 0)
		return to->config ? mb_kconfig_near(to->config, e->name) : NULL;
	if (strcmp(e->kind, "kfunc") == 0)
		return mb_kbtf_near(to->types, e->name, MB_KDECL_FUNC);
	return e->typed ? mb_kbtf_near(to->types, e->name, MB_KDECL_VAR) :
			  mb_ksym_near(to->syms, e->name);
}

struct list {
	char text[512];
	size_t len;
	unsigned int n, left;
};

static void list_add(struct list *list, const struct mb_target *to, const struct mb_extern *e,
		     const struct mb_fate *f)
{
	const char *near = f->state == MB_FATE_MISSING ? near_of(to, e) : NULL;
	const char *prefix = near && strcmp(e->kind, "kconfig") == 0 ? "CONFIG_" : "";
	char one[sizeof(list->text)]; /* what is cut does not fit below, either */
	int n;

	n = snprintf(one, sizeof(one), "%s'%s' (%s): %s%s%s%s%s", list->n ? "; " : "", e->name,
		     e->kind, f->why, near ? ", did you mean '" : "", near ? prefix : "",
		     near ? near : "", near ? "'?" : "");
	list->n++;
	if (n < 0 || list->len + (size_t)n + 24 >= sizeof(list->text)) {
		n = snprintf(one, sizeof(one), "%s'%s'", list->n > 1 ? "; " : "", e->name);
		if (list->len + (size_t)n + 24 >= sizeof(list->text)) {
			list->left++;
			return;
		}
	}
	memcpy(list->text + list->len, one, (size_t)n + 1);
	list->len += (size_t)n;
}

static void explain(const struct mb_object *obj, const struct mb_target *to, struct mb_error *err)
{
	struct list list = { .n = 0 };
	struct mb_extern e;
	struct mb_fate f;

	for (size_t i = 0; mb_object_extern(obj, i, &e); i++) {
		bool kills;

		mb_extern_fate(obj, &e, to, &f, NULL);
		kills = f.state == MB_FATE_MISSING || f.state == MB_FATE_CLASH;
		/* a weak one that is missing does no harm, save where libbpf thinks that it is there;
		 * nor does a weak function of another kind, which libbpf takes for missing */
		if (e.weak && (strcmp(e.kind, "kfunc") == 0 ||
			       (f.state == MB_FATE_MISSING && !f.kernel_type[0])))
			kills = false;
		if (kills)
			list_add(&list, to, &e, &f);
	}
	if (!list.n)
		return;
	if (list.left)
		snprintf(list.text + list.len, sizeof(list.text) - list.len, "; and %u more",
			 list.left);
	snprintf(err->cause, sizeof(err->cause), "%s", list.text);
	mb_error_hint(err,
		      list.n > 1 ?
			      "this kernel lacks them; what a program can do without is declared "
			      "__weak, and tested before use" :
			      "what a program can do without is declared __weak, and tested "
			      "before use");
}

void mb_externs_explain(const struct mb_object *obj, struct mb_error *err)
{
	struct mb_target to = { 0 };
	struct mb_kernel *kernel;
	struct mb_extern e;

	if (!err || !mb_object_extern(obj, 0, &e) || mb_kernel_get(&kernel, NULL) != 0)
		return;
	to.types = mb_kernel_types(kernel);
	to.syms = mb_kernel_syms(kernel);
	mb_kernel_config(kernel, &to.config, NULL);
	if (strstr(err->log ? err->log : "", "extern ") ||
	    strstr(err->log ? err->log : "", "kernel symbol") ||
	    strstr(err->log ? err->log : "", "Kconfig"))
		explain(obj, &to, err);
	mb_kernel_unref(kernel);
}
