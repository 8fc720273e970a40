/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a type says of itself: its name as C spells it, its fields and enumerators by name, its
 * definition. It compiles nothing (plan.c) and reads no values.
 */
#include "internal.h"

/* ---- names ---------------------------------------------------------------------------------- */

const char *mb_btf_raw_name(const struct mb_btf *btf, const struct btf_type *t)
{
	const char *s = t->name_off ? btf__name_by_offset(btf->btf, t->name_off) : NULL;

	return s ? s : "";
}

void mb_btf_spell(const struct mb_btf *btf, uint32_t id, char *out, size_t room, unsigned int depth)
{
	const struct btf_type *t = btf__type_by_id(btf->btf, id);
	const char *name = t ? mb_btf_raw_name(btf, t) : "";
	const struct btf_type *to;
	char inner[128];
	size_t dims;

	if (!id || !t || depth > MB_MAX_DEPTH) {
		snprintf(out, room, "void");
		return;
	}
	switch (btf_kind(t)) {
	case BTF_KIND_STRUCT:
		snprintf(out, room, "struct %s", *name ? name : "(anonymous)");
		return;
	case BTF_KIND_UNION:
		snprintf(out, room, "union %s", *name ? name : "(anonymous)");
		return;
	case BTF_KIND_ENUM:
	case BTF_KIND_ENUM64:
		snprintf(out, room, "enum %s", *name ? name : "(anonymous)");
		return;
	case BTF_KIND_FWD:
		snprintf(out, room, "%s %s", btf_kflag(t) ? "union" : "struct", name);
		return;
	case BTF_KIND_PTR:
		mb_btf_spell(btf, t->type, inner, sizeof(inner), depth + 1);
		to = btf__type_by_id(btf->btf, t->type);
		/* a function's name says so itself */
		snprintf(out, room, to && btf_is_func_proto(to) ? "%s" : "%s *", inner);
		return;
	case BTF_KIND_ARRAY:
		mb_btf_spell(btf, btf_array(t)->type, inner, sizeof(inner), depth + 1);
		/* the outer dimension comes first: u32[3][4] is three times u32[4] */
		dims = strcspn(inner, "[");
		snprintf(out, room, "%.*s[%u]%s", (int)dims, inner, btf_array(t)->nelems,
			 inner + dims);
		return;
	case BTF_KIND_FUNC_PROTO:
		snprintf(out, room, "void (*)()");
		return;
	case BTF_KIND_CONST:
	case BTF_KIND_VOLATILE:
	case BTF_KIND_RESTRICT:
	case BTF_KIND_TYPE_TAG:
		mb_btf_spell(btf, t->type, out, room, depth + 1);
		return;
	default:
		snprintf(out, room, "%s", *name ? name : "?");
	}
}

/* ---- asking ---------------------------------------------------------------------------------------- */

const struct mb_field *mb_plan_field(const struct mb_plan *plan, const char *name)
{
	for (uint32_t i = 0; i < plan->nfields; i++)
		if (plan->fields[i].name && strcmp(plan->fields[i].name, name) == 0)
			return &plan->fields[i];
	return NULL;
}

static const char *nth_field(const void *ctx, size_t i)
{
	const struct mb_plan *p = ctx;

	if (i >= p->nfields)
		return NULL;
	return p->fields[i].name ? p->fields[i].name : "";
}

const char *mb_plan_near(const struct mb_plan *plan, const char *name)
{
	return mb_near(name, nth_field, plan);
}

const char *mb_plan_enum_name(const struct mb_plan *plan, int64_t value)
{
	for (uint32_t i = 0; i < plan->nenums; i++)
		if (plan->enums[i].value == value)
			return plan->enums[i].name;
	return NULL;
}

int mb_plan_enum_value(const struct mb_plan *plan, const char *name, int64_t *out)
{
	for (uint32_t i = 0; i < plan->nenums; i++)
		if (strcmp(plan->enums[i].name, name) == 0) {
			*out = plan->enums[i].value;
			return 0;
		}
	return -ENOENT;
}

/* The id that a pointer leads to; 0: void, or none. */
static uint32_t target_id(const struct mb_plan *p)
{
	const struct btf *btf = p->btf->btf;
	const struct btf_type *t = btf__type_by_id(btf, mb_btf_skip(btf, p->id));

	return p->kind == MB_KIND_POINTER && t && btf_is_ptr(t) ? mb_btf_skip(btf, t->type) : 0;
}

int mb_plan_target(const struct mb_plan *pointer, const struct mb_plan **out)
{
	uint32_t id = target_id(pointer);

	return id && mb_btf_plan(pointer->btf, id, out, NULL) == 0;
}

bool mb_plan_callable(const struct mb_plan *plan)
{
	const struct btf_type *to = btf__type_by_id(plan->btf->btf, target_id(plan));

	return to && btf_is_func_proto(to);
}

/* ---- the C definition ------------------------------------------------------------------------ */

struct text {
	char *to;
	size_t room, len;
};

__attribute__((format(__printf__, 2, 3))) static void add(struct text *t, const char *fmt, ...)
{
	size_t left = t->len < t->room ? t->room - t->len : 0;
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(left ? t->to + t->len : NULL, left, fmt, args);
	va_end(args);
	t->len += n > 0 ? (size_t)n : 0;
}

/* "int (*show)(struct seq_file *, void *)": the field's name stands in the middle. */
static void define_function(struct text *t, const struct mb_field *f, const struct btf_type *proto)
{
	const struct mb_btf *btf = f->plan->btf;
	const struct btf_param *p = btf_params(proto);
	char type[128];

	mb_btf_spell(btf, proto->type, type, sizeof(type), 0);
	add(t, "\t%s%s(*%s)(%s", type, type[strlen(type) - 1] == '*' ? "" : " ", f->name,
	    btf_vlen(proto) ? "" : "void");
	for (uint32_t i = 0; i < btf_vlen(proto); i++) {
		mb_btf_spell(btf, p[i].type, type, sizeof(type), 0);
		add(t, "%s%s", i ? ", " : "", p[i].type ? type : "...");
	}
	add(t, "); /* %u */\n", f->off);
}

static void define_fields(struct text *t, const struct mb_plan *plan)
{
	for (uint32_t i = 0; i < plan->nfields; i++) {
		const struct mb_field *f = &plan->fields[i];
		const char *type = f->plan->name, *dims = strchr(type, '[');
		size_t n = dims ? (size_t)(dims - type) : strlen(type);
		bool star = n && type[n - 1] == '*';

		if (strcmp(type, "void (*)()") == 0 && mb_plan_callable(f->plan)) {
			define_function(t, f,
					btf__type_by_id(f->plan->btf->btf, target_id(f->plan)));
			continue;
		}
		add(t, "\t%.*s%s%s%s", (int)n, type, star ? "" : " ", f->name, dims ? dims : "");
		if (f->bits)
			add(t, " : %u; /* %u:%u */\n", f->bits, f->off, f->shift);
		else
			add(t, "; /* %u */\n", f->off);
	}
}

size_t mb_plan_define(const struct mb_plan *plan, char *to, size_t room)
{
	struct text t = { to, room, 0 };

	switch (plan->kind) {
	case MB_KIND_STRUCT:
	case MB_KIND_UNION:
	case MB_KIND_SECTION:
	case MB_KIND_GROUP:
		add(&t, "%s {\n", plan->name);
		define_fields(&t, plan);
		add(&t, "}; /* %u bytes */", plan->size);
		break;
	case MB_KIND_ENUM:
		add(&t, "%s {\n", plan->name);
		for (uint32_t i = 0; i < plan->nenums; i++)
			add(&t, plan->is_signed ? "\t%s = %lld,\n" : "\t%s = %llu,\n",
			    plan->enums[i].name, (long long)plan->enums[i].value);
		add(&t, "}; /* %u bytes */", plan->size);
		break;
	default:
		add(&t, "%s; /* %u bytes */", plan->name, plan->size);
	}
	return t.len;
}
