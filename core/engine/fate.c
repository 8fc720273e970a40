/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What becomes of an extern, by libbpf's rules: types, symbols, configuration. After load libbpf's own
 * words count: what it resolved each to.
 */
#include <sys/utsname.h>

#include "engine/extern.h"
#include "internal.h"

/* ---- types: libbpf's rule, and what it lets pass ------------------------------------------------------ */

static bool compatible(const struct btf *a, uint32_t ia, const struct btf *b, uint32_t ib,
		       unsigned int depth)
{
	const struct btf_type *ta, *tb;

	ia = mb_btf_skip(a, ia);
	ib = mb_btf_skip(b, ib);
	if (!ia || !ib)
		return !ia && !ib;
	if (depth > MB_MAX_DEPTH)
		return false;
	ta = btf__type_by_id(a, ia);
	tb = btf__type_by_id(b, ib);
	if (btf_kind(ta) != btf_kind(tb))
		return btf_is_any_enum(ta) && btf_is_any_enum(tb);
	switch (btf_kind(ta)) {
	case BTF_KIND_PTR:
		return compatible(a, ta->type, b, tb->type, depth + 1);
	case BTF_KIND_ARRAY:
		return compatible(a, btf_array(ta)->type, b, btf_array(tb)->type, depth + 1);
	case BTF_KIND_FUNC_PROTO:
		if (btf_vlen(ta) != btf_vlen(tb))
			return false;
		for (uint32_t i = 0; i < btf_vlen(ta); i++)
			if (!compatible(a, btf_params(ta)[i].type, b, btf_params(tb)[i].type,
					depth + 1))
				return false;
		return compatible(a, ta->type, b, tb->type, depth + 1);
	default:
		return true;
	}
}

static void place(const struct mb_plan *plan, const struct mb_field *f, char *out, size_t room)
{
	if (!f)
		snprintf(out, room, "%s, %u bytes", plan->name, plan->size);
	else if (f->bits)
		snprintf(out, room, "%.120s : %u at %u:%u", f->plan->name, f->bits, f->off,
			 f->shift);
	else
		snprintf(out, room, "%.120s at %u", f->plan->name, f->off);
}

static bool same_scalar(const struct mb_plan *a, const struct mb_plan *b)
{
	bool names = a->kind == MB_KIND_STRUCT || a->kind == MB_KIND_UNION;

	return a->kind == b->kind && a->size == b->size && a->is_signed == b->is_signed &&
	       (!names || strcmp(a->name, b->name) == 0);
}

static bool same_field(const struct mb_field *a, const struct mb_field *b)
{
	return a->off == b->off && a->bits == b->bits && a->shift == b->shift &&
	       same_scalar(a->plan, b->plan);
}

int mb_extern_difference(const struct mb_object *obj, const struct mb_extern *e,
			 const struct mb_fate *fate, uint32_t *cursor, struct mb_difference *out)
{
	const struct btf_type *t = btf__type_by_id(mb_externs_btf(obj)->btf, e->id);
	const struct mb_plan *mine, *theirs;

	if (!fate->btf || !btf_is_var(t) ||
	    mb_btf_plan(mb_externs_btf(obj), t->type, &mine, NULL) != 0 ||
	    mb_btf_plan((struct mb_btf *)(uintptr_t)fate->btf, fate->type, &theirs, NULL) != 0)
		return 0;
	memset(out, 0, sizeof(*out));
	if (mine->kind != theirs->kind ||
	    (mine->kind != MB_KIND_STRUCT && mine->kind != MB_KIND_UNION)) {
		if ((*cursor)++ || same_scalar(mine, theirs))
			return 0;
		place(mine, NULL, out->declared, sizeof(out->declared));
		place(theirs, NULL, out->kernel, sizeof(out->kernel));
		return 1;
	}
	while (*cursor < mine->nfields) {
		const struct mb_field *f = &mine->fields[(*cursor)++];
		const struct mb_field *g = mb_plan_field(theirs, f->name);

		if (g && same_field(f, g))
			continue;
		snprintf(out->field, sizeof(out->field), "%s", f->name);
		place(mine, f, out->declared, sizeof(out->declared));
		if (g)
			place(theirs, g, out->kernel, sizeof(out->kernel));
		return 1;
	}
	return 0;
}

/* ---- symbols ------------------------------------------------------------------------------------------- */

__attribute__((format(__printf__, 3, 4))) static void
end(struct mb_fate *f, enum mb_fate_state state, const char *fmt, ...)
{
	va_list args;

	f->state = state;
	va_start(args, fmt);
	vsnprintf(f->why, sizeof(f->why), fmt, args);
	va_end(args);
}

static void set_module(struct mb_fate *f, const char *module)
{
	if (module)
		snprintf(f->module, sizeof(f->module), "%s", module);
}

static const char NO_DATA[] = "this kernel has no CONFIG_KALLSYMS_ALL";

/* 1: found, and its address is in *f; else what that means is said. */
static int find_address(const struct mb_target *to, const char *name, struct mb_fate *f)
{
	struct mb_ksym sym;
	MB_ERROR(err);
	int rc = mb_ksym_find(to->syms, name, f->module[0] ? f->module : NULL, &sym, &err);

	if (rc == 1) {
		f->address = sym.address;
		set_module(f, sym.module);
	} else if (rc == 0 && mb_ksyms_have_data(to->syms, NULL) == 0) {
		end(f, MB_FATE_MISSING, "no such function, and of variables nothing is known: %s",
		    NO_DATA);
	} else if (rc == 0) {
		end(f, MB_FATE_MISSING, "the kernel has no such symbol");
	} else {
		end(f, rc == -ENOTUNIQ ? MB_FATE_CLASH : MB_FATE_UNKNOWN, "%.250s", err.cause);
	}
	mb_error_fini(&err);
	return rc;
}

static void typeless(const struct mb_target *to, const struct mb_extern *e, struct mb_fate *f)
{
	struct mb_kdecl decl;

	if (to->syms) {
		find_address(to, e->name, f);
		return;
	}
	if (mb_kbtf_find(to->types, e->name, MB_KDECL_FUNC, false, &decl, NULL) == 1)
		return; /* a function: surely among the symbols */
	if (mb_kbtf_find(to->types, e->name, MB_KDECL_VAR, false, &decl, NULL) == 1)
		end(f, MB_FATE_UNKNOWN, "it is there if that kernel has CONFIG_KALLSYMS_ALL");
	else
		end(f, MB_FATE_UNKNOWN, "that kernel's types do not tell its symbols");
}

static void typed_variable(const struct mb_object *obj, const struct mb_target *to,
			   const struct mb_extern *e, struct mb_fate *f)
{
	const struct btf_type *t = btf__type_by_id(mb_externs_btf(obj)->btf, e->id);
	struct mb_kdecl decl;
	MB_ERROR(err);
	int rc = mb_kbtf_find(to->types, e->name, MB_KDECL_VAR, true, &decl, &err);

	if (rc < 0)
		end(f, MB_FATE_UNKNOWN, "%.250s", err.cause);
	else if (!rc)
		end(f, MB_FATE_MISSING,
		    "the kernel's BTF has no such variable (as a rule it knows per-CPU ones only)");
	mb_error_fini(&err);
	if (rc != 1)
		return;
	f->btf = decl.btf;
	f->type = decl.type;
	set_module(f, decl.module);
	mb_btf_spell(decl.btf, decl.type, f->kernel_type, sizeof(f->kernel_type), 0);
	if (!compatible(mb_externs_btf(obj)->btf, t->type, decl.btf->btf, decl.type, 0)) {
		end(f, MB_FATE_CLASH, "declared as %.100s, but in the kernel it is %.100s", e->type,
		    f->kernel_type);
		return;
	}
	/* the kernel looks the address up itself, whoever may see it; but it must have one */
	if (to->syms && find_address(to, e->name, f) == 0 &&
	    mb_ksyms_have_data(to->syms, NULL) == 0)
		end(f, MB_FATE_MISSING, "no address is known: %s", NO_DATA);
	else if (f->state == MB_FATE_UNKNOWN)
		end(f, MB_FATE_RESOLVED, "%s", "");
}

/* Newer kernels mark those that BPF may call. */
static bool is_kfunc(const struct mb_kdecl *decl)
{
	uint32_t id = mb_btf_named(decl->btf, "bpf_kfunc", 0);

	if (!id)
		return true;
	for (; id; id = mb_btf_named(decl->btf, "bpf_kfunc", id)) {
		const struct btf_type *t = btf__type_by_id(decl->btf->btf, id);

		if (btf_is_decl_tag(t) && t->type == decl->id)
			return true;
	}
	return false;
}

static void kernel_function(const struct mb_object *obj, const struct mb_target *to,
			    const struct mb_extern *e, struct mb_fate *f)
{
	const struct btf_type *t = btf__type_by_id(mb_externs_btf(obj)->btf, e->id);
	struct mb_kdecl decl;
	MB_ERROR(err);
	int rc = mb_kbtf_find(to->types, e->name, MB_KDECL_FUNC, true, &decl, &err);

	if (rc < 0)
		end(f, MB_FATE_UNKNOWN, "%.250s", err.cause);
	else if (!rc)
		end(f, MB_FATE_MISSING, "neither the kernel's BTF nor a loaded module's has it");
	mb_error_fini(&err);
	if (rc != 1)
		return;
	set_module(f, decl.module);
	mb_kdecl_spell(&decl, f->kernel_type, sizeof(f->kernel_type));
	if (!compatible(mb_externs_btf(obj)->btf, t->type, decl.btf->btf, decl.type, 0))
		end(f, MB_FATE_CLASH, "declared as %.100s, but in the kernel it is %.100s", e->type,
		    f->kernel_type);
	else if (!is_kfunc(&decl))
		end(f, MB_FATE_CLASH, "it is a function of the kernel, but none that BPF may call");
	else if (to->syms && find_address(to, e->name, f) != 1)
		end(f, MB_FATE_RESOLVED, "%s", ""); /* by its id: the address is not needed */
}

/* ---- configuration ---------------------------------------------------------------------------------- */

enum mb_form mb_extern_form(const struct btf *btf, uint32_t id, const struct btf_type **out)
{
	const struct btf_type *t = btf__type_by_id(btf, mb_btf_skip(btf, id)), *elem;

	*out = t;
	if (!t)
		return MB_FORM_NONE;
	if (btf_is_int(t) && btf_int_encoding(t) & BTF_INT_BOOL)
		return MB_FORM_BOOL;
	if (btf_is_int(t))
		return t->size == 1 ? MB_FORM_CHAR : MB_FORM_INT;
	if (btf_is_any_enum(t))
		return MB_FORM_TRISTATE;
	if (btf_is_array(t) && mb_extern_form(btf, btf_array(t)->type, &elem) == MB_FORM_CHAR)
		return MB_FORM_TEXT;
	return MB_FORM_NONE;
}

static bool in_range(const struct btf_type *t, const struct mb_kconfig_value *v)
{
	unsigned int bits = t->size * 8;
	bool is_signed = btf_int_encoding(t) & BTF_INT_SIGNED;

	if (bits >= 64)
		return true;
	if (v->negative)
		return is_signed && (int64_t)v->number >= -(1LL << (bits - 1));
	return v->number < 1ULL << (is_signed ? bits - 1 : bits);
}

static void take_value(const struct btf *btf, const struct mb_extern *e, uint32_t type,
		       const struct mb_kconfig_value *v, struct mb_fate *f)
{
	const struct btf_type *t;
	enum mb_form form = mb_extern_form(btf, type, &t);
	bool tri = v->kind == MB_OPTION_TRISTATE;

	f->value = MB_FATE_INT;
	if (form == MB_FORM_BOOL && tri && *v->text != 'm') {
		f->value = MB_FATE_BOOL;
		f->number = *v->text == 'y';
	} else if (form == MB_FORM_TRISTATE && tri) {
		f->number = *v->text == 'y' ? 1 : *v->text == 'm' ? 2 : 0;
	} else if (form == MB_FORM_CHAR && tri) {
		f->number = *v->text;
	} else if ((form == MB_FORM_INT || form == MB_FORM_CHAR) && v->kind == MB_OPTION_INT &&
		   in_range(t, v)) {
		f->number = (int64_t)v->number;
	} else if (form == MB_FORM_TEXT && v->kind == MB_OPTION_TEXT) {
		f->value = MB_FATE_TEXT;
		snprintf(f->text, sizeof(f->text), "%.*s", (int)btf_array(t)->nelems - 1, v->text);
	} else {
		f->value = MB_FATE_NO_VALUE;
		end(f, MB_FATE_CLASH, "it is %.80s, which does not fit %.100s", v->text, e->type);
	}
}

static void zero_value(const struct btf *btf, uint32_t type, struct mb_fate *f)
{
	const struct btf_type *t;
	enum mb_form form = mb_extern_form(btf, type, &t);

	f->value = form == MB_FORM_TEXT ? MB_FATE_TEXT :
		   form == MB_FORM_BOOL ? MB_FATE_BOOL :
					  MB_FATE_INT;
	f->number = 0;
	f->text[0] = '\0';
}

/* As libbpf reckons it; Debian's release says less than its version. */
static int64_t kernel_version(void)
{
	unsigned int major = 0, minor = 0, patch = 0;
	struct utsname uts;
	const char *debian;

	uname(&uts);
	debian = strstr(uts.version, "Debian ");
	if (!debian || sscanf(debian, "Debian %u.%u.%u", &major, &minor, &patch) != 3)
		if (sscanf(uts.release, "%u.%u.%u", &major, &minor, &patch) < 2)
			return 0;
	return (int64_t)(major << 16 | minor << 8 | (patch > 255 ? 255 : patch));
}

/* LINUX_…: libbpf knows these itself. */
static void virtual_option(const struct mb_target *to, const struct mb_extern *e, struct mb_fate *f)
{
	if (!mb_kbtf_running(to->types))
		end(f, MB_FATE_UNKNOWN, "that is known on the kernel itself only");
	else if (strcmp(e->name, "LINUX_KERNEL_VERSION") == 0) {
		f->value = MB_FATE_INT;
		f->number = kernel_version();
	} else if (strcmp(e->name, "LINUX_HAS_BPF_COOKIE") != 0 &&
		   strcmp(e->name, "LINUX_HAS_SYSCALL_WRAPPER") != 0)
		end(f, MB_FATE_MISSING, "libbpf knows no such value");
}

static void option(const struct mb_object *obj, const struct mb_target *to,
		   const struct mb_extern *e, struct mb_fate *f)
{
	const struct btf *btf = mb_externs_btf(obj)->btf;
	uint32_t type = btf__type_by_id(btf, e->id)->type;
	struct mb_kconfig_value v;

	if (strncmp(e->name, "CONFIG_", 7) != 0)
		virtual_option(to, e, f);
	else if (obj->kconfig && mb_kconfig_find(obj->kconfig, e->name, &v))
		take_value(btf, e, type, &v, f);
	else if (!to->config && mb_kbtf_running(to->types))
		end(f, MB_FATE_MISSING, "this kernel shows no configuration");
	else if (!to->config)
		end(f, MB_FATE_UNKNOWN, "that kernel's configuration is not known here");
	else if (mb_kconfig_find(to->config, e->name, &v) && v.set)
		take_value(btf, e, type, &v, f);
	else
		end(f, MB_FATE_MISSING, "the kernel's configuration does not set it");
	if (f->state == MB_FATE_MISSING && e->weak)
		zero_value(btf, type, f);
}

bool mb_libbpf_finds_config(void)
{
	struct utsname uts;
	char path[320];

	uname(&uts);
	snprintf(path, sizeof(path), "/boot/config-%s", uts.release);
	return access("/proc/config.gz", R_OK) == 0 || access(path, R_OK) == 0;
}

/* ---- after load ---------------------------------------------------------------------------------------- */

/* What libbpf said of this extern: "extern (ksym) 'NAME': set to 0x…". NULL: nothing. */
static const char *said_of(const struct mb_object *obj, const char *name, size_t *len)
{
	char key[160];
	const char *at = obj->extern_log;
	int n = snprintf(key, sizeof(key), " '%s': ", name);

	if (!at || n < 0 || n >= (int)sizeof(key))
		return NULL;
	at = strstr(at, key);
	if (!at)
		return NULL;
	at += n;
	*len = strcspn(at, "\n");
	return at;
}

/* "resolved to NAME [id]": of a module, NAME is its. */
static void said_module(const char *said, size_t len, struct mb_fate *f)
{
	char name[64];

	if (len < 12 || strncmp(said, "resolved to ", 12) != 0 ||
	    sscanf(said + 12, "%63[^ [\n] [", name) != 1)
		return;
	if (strcmp(name, "kernel") == 0 || strcmp(name, "vmlinux") == 0)
		f->module[0] = '\0';
	else
		set_module(f, name);
}

static void loaded_option(const struct mb_object *obj, const struct mb_extern *e, struct mb_fate *f)
{
	for (size_t i = 0; i < obj->nsections; i++) {
		const struct mb_section *s = &obj->sections[i];
		const struct mb_field *field;
		struct mb_value v;

		if (strcmp(s->name, ".kconfig") != 0)
			continue;
		field = mb_plan_field(s->plan, e->name);
		if (!field || field->enc == MB_ENC_NONE || field->end > s->region->len)
			return;
		mb_value_load(s->region->base, field, &v);
		f->value = v.kind == MB_VALUE_BOOL  ? MB_FATE_BOOL :
			   v.kind == MB_VALUE_BYTES ? MB_FATE_TEXT :
						      MB_FATE_INT;
		if (v.kind == MB_VALUE_BYTES)
			snprintf(f->text, sizeof(f->text), "%.*s", (int)v.len, v.bytes);
		else
			f->number = v.i;
	}
}

static void loaded(const struct mb_object *obj, const struct mb_extern *e,
		   const struct mb_target *to, struct mb_fate *f)
{
	size_t len = 0;
	const char *said = said_of(obj, e->name, &len);
	bool function = strcmp(e->kind, "kfunc") == 0;
	bool set = said && strncmp(said, "not ", 4) != 0;

	/* where libbpf finds no configuration, it was given zeros for what is nowhere set */
	if (strcmp(e->kind, "kconfig") == 0 && f->state == MB_FATE_MISSING &&
	    !mb_libbpf_finds_config())
		set = false;

	f->predicted = false;
	if (!set) {
		if (f->state == MB_FATE_RESOLVED)
			end(f, MB_FATE_MISSING, "libbpf did not find it");
		f->address = 0;
		f->module[0] = '\0';
	} else {
		f->state = MB_FATE_RESOLVED;
		f->why[0] = '\0';
	}
	if (strcmp(e->kind, "kconfig") == 0)
		loaded_option(obj, e, f);
	else if (set && !e->typed)
		f->address = strstr(said, "0x") ? strtoull(strstr(said, "0x"), NULL, 16) : 0;
	else if (set && function)
		said_module(said, len, f);
	if (set && !e->typed && !f->address && strcmp(e->kind, "ksym") == 0) {
		MB_ERROR(err); /* a 0 that stands for an address that it may not see */
		struct mb_ksym sym;

		if (mb_ksym_find(to->syms, e->name, NULL, &sym, &err) == -EPERM)
			end(f, MB_FATE_UNKNOWN, "%.250s", err.cause);
		mb_error_fini(&err);
	}
}

int mb_extern_fate(const struct mb_object *obj, const struct mb_extern *e,
		   const struct mb_target *target, struct mb_fate *out, struct mb_error *err)
{
	(void)err;
	memset(out, 0, sizeof(*out));
	out->predicted = true;
	if (strcmp(e->kind, "kconfig") == 0)
		option(obj, target, e, out);
	else if (strcmp(e->kind, "kfunc") == 0)
		kernel_function(obj, target, e, out);
	else if (e->typed)
		typed_variable(obj, target, e, out);
	else
		typeless(target, e, out);
	if (obj->state == MB_LOADED && mb_kbtf_running(target->types))
		loaded(obj, e, target, out);
	return 0;
}
