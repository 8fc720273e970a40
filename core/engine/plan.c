/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * BTF type -> plan: a table of fields, compiled once and checked once, so that an access needs no
 * more than the view's life and bounds. Types lie (damaged or hostile BTF): every offset, width
 * and count is proven here. It does not touch memory that has values in it.
 */
#include "internal.h"

#define MAX_STRUCT (256u << 20) /* bytes: bit offsets fit into 32 bits */
#define MAX_MEMBERS (1u << 20)	/* walked, with those of anonymous members, for one type */

/* ---- making ---------------------------------------------------------------------------------- */

int mb_plan_no_memory(struct mb_btf *btf, struct mb_error *err)
{
	return mb_fail(err, ENOMEM, "compile type", btf->name, "out of memory");
}

static int lie(struct mb_btf *btf, uint32_t id, struct mb_error *err, const char *what)
{
	char name[128];

	mb_btf_spell(btf, id, name, sizeof(name), 0);
	return mb_fail(err, EINVAL, "compile type", name, "its BTF (type %u of %s) is wrong: %s",
		       id, btf->name, what);
}

/* By the way that led there; another way may be shorter. */
static int too_deep(struct mb_btf *btf, uint32_t id, struct mb_error *err)
{
	char name[128];

	mb_btf_spell(btf, id, name, sizeof(name), 0);
	return mb_fail(err, ELOOP, "compile type", name, "it nests deeper than %d levels",
		       MB_MAX_DEPTH);
}

struct mb_plan *mb_plan_new(struct mb_btf *btf, uint32_t id, enum mb_kind kind, uint32_t size,
			    struct mb_error *err)
{
	struct mb_plan *p = mb_btf_alloc(btf, sizeof(*p));
	char name[160] = "";

	if (id)
		mb_btf_spell(btf, id, name, sizeof(name), 0);
	if (!p || !(p->name = mb_btf_strdup(btf, name))) {
		mb_plan_no_memory(btf, err);
		return NULL;
	}
	p->btf = btf;
	p->id = id;
	p->kind = kind;
	p->size = size;
	return p;
}

static enum mb_enc int_enc(uint32_t size, bool is_signed)
{
	switch (size) {
	case 1:
		return is_signed ? MB_ENC_S8 : MB_ENC_U8;
	case 2:
		return is_signed ? MB_ENC_S16 : MB_ENC_U16;
	case 4:
		return is_signed ? MB_ENC_S32 : MB_ENC_U32;
	case 8:
		return is_signed ? MB_ENC_S64 : MB_ENC_U64;
	default:
		return MB_ENC_BYTES;
	}
}

static int compile_int(struct mb_btf *btf, uint32_t id, const struct btf_type *t,
		       struct mb_plan **out, struct mb_error *err)
{
	uint32_t encoding = btf_int_encoding(t);
	struct mb_plan *p;

	if (!t->size || t->size > 16)
		return lie(btf, id, err, "an integer's size");
	if (!btf_int_bits(t) || btf_int_bits(t) > 128 ||
	    btf_int_offset(t) + btf_int_bits(t) > t->size * 8)
		return lie(btf, id, err, "an integer's width");
	p = mb_plan_new(btf, id, MB_KIND_INT, t->size, err);
	if (!p)
		return -ENOMEM;
	p->is_signed = encoding & BTF_INT_SIGNED;
	if (encoding & BTF_INT_BOOL && t->size == 1) {
		p->kind = MB_KIND_BOOL;
		p->enc = MB_ENC_BOOL;
		p->is_signed = false;
	} else {
		p->enc = (uint8_t)int_enc(t->size, p->is_signed);
		if (p->enc == MB_ENC_BYTES)
			p->kind = MB_KIND_BYTES;
	}
	*out = p;
	return 0;
}

static int compile_float(struct mb_btf *btf, uint32_t id, const struct btf_type *t,
			 struct mb_plan **out, struct mb_error *err)
{
	struct mb_plan *p;

	if (!t->size || t->size > 16)
		return lie(btf, id, err, "a float's size");
	p = mb_plan_new(btf, id, MB_KIND_FLOAT, t->size, err);
	if (!p)
		return -ENOMEM;
	p->enc = t->size == 4 ? MB_ENC_F32 : t->size == 8 ? MB_ENC_F64 : MB_ENC_BYTES;
	p->is_signed = true;
	if (p->enc == MB_ENC_BYTES)
		p->kind = MB_KIND_BYTES;
	*out = p;
	return 0;
}

/* Older clangs do not say that an enum is signed. Small negative values (errno's range) do. */
static bool enum_signed(const struct btf_type *t)
{
	if (btf_kflag(t) || btf_is_enum64(t))
		return btf_kflag(t);
	for (uint32_t i = 0; i < btf_vlen(t); i++)
		if (btf_enum(t)[i].val < 0 && btf_enum(t)[i].val >= -4096)
			return true;
	return false;
}

static int64_t enum_value(const struct btf_type *t, uint32_t i, bool is_signed)
{
	if (btf_is_enum64(t)) {
		const struct btf_enum64 *e = btf_enum64(t) + i;

		return (int64_t)((uint64_t)e->val_hi32 << 32 | e->val_lo32);
	}
	return is_signed ? (int64_t)btf_enum(t)[i].val : (int64_t)(uint32_t)btf_enum(t)[i].val;
}

static int compile_enum(struct mb_btf *btf, uint32_t id, const struct btf_type *t,
			struct mb_plan **out, struct mb_error *err)
{
	uint32_t n = btf_vlen(t);
	struct mb_enumerator *e;
	bool is_signed = enum_signed(t);
	struct mb_plan *p;

	if (t->size != 1 && t->size != 2 && t->size != 4 && t->size != 8)
		return lie(btf, id, err, "an enum's size");
	p = mb_plan_new(btf, id, MB_KIND_ENUM, t->size, err);
	e = p ? mb_btf_alloc(btf, n * sizeof(*e)) : NULL;
	if (!e)
		return mb_plan_no_memory(btf, err);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t off = btf_is_enum64(t) ? btf_enum64(t)[i].name_off :
						  btf_enum(t)[i].name_off;
		const char *name = btf__name_by_offset(btf->btf, off);

		e[i].name = mb_btf_strdup(btf, name ? name : "");
		if (!e[i].name)
			return mb_plan_no_memory(btf, err);
		e[i].value = enum_value(t, i, is_signed);
	}
	p->is_signed = is_signed;
	p->enc = (uint8_t)int_enc(t->size, is_signed);
	p->enums = e;
	p->nenums = n;
	*out = p;
	return 0;
}

static int compile_pointer(struct mb_btf *btf, uint32_t id, struct mb_plan **out,
			   struct mb_error *err)
{
	struct mb_plan *p = mb_plan_new(btf, id, MB_KIND_POINTER, 8, err);

	if (!p)
		return -ENOMEM;
	p->enc = MB_ENC_U64;
	*out = p;
	return 0;
}

/* ---- aggregates -------------------------------------------------------------------------------- */

/* The field that plan makes when it lies off bytes into an aggregate. */
static void field_init(struct mb_field *f, const char *name, const struct mb_plan *plan,
		       uint32_t off)
{
	memset(f, 0, sizeof(*f));
	f->name = name;
	f->plan = plan;
	f->off = off;
	f->end = off + plan->size;
	f->enc = plan->enc;
}

static bool is_char(const struct mb_btf *btf, uint32_t id)
{
	const struct btf_type *t = btf__type_by_id(btf->btf, mb_btf_skip(btf->btf, id));

	return t && btf_is_int(t) && t->size == 1 &&
	       (btf_int_encoding(t) & BTF_INT_CHAR || strcmp(mb_btf_raw_name(btf, t), "char") == 0);
}

int mb_plan_fill_array(struct mb_btf *btf, struct mb_plan *p, const struct mb_plan *elem,
		       uint32_t stride, uint32_t count, struct mb_error *err)
{
	struct mb_field *f = mb_btf_alloc(btf, sizeof(*f));
	uint64_t size = (uint64_t)stride * count;

	if (!f)
		return mb_plan_no_memory(btf, err);
	if (size > INT32_MAX)
		return mb_fail(err, EFBIG, "compile type", p->name, "it is larger than 2 GiB");
	field_init(f, NULL, elem, 0);
	f->child = elem->enc == MB_ENC_NONE;
	p->fields = f;
	p->nfields = 1;
	p->nchildren = f->child;
	p->count = count;
	p->stride = stride;
	p->size = (uint32_t)size;
	p->flexible = count == 0;
	return 0;
}

static int compile_array(struct mb_btf *btf, uint32_t id, const struct btf_type *t,
			 unsigned int depth, struct mb_plan **out, struct mb_error *err)
{
	const struct btf_array *a = btf_array(t);
	uint32_t type = a->type, n = a->nelems;
	const struct mb_plan *elem;
	struct mb_plan *p;
	int rc;

	if (is_char(btf, type)) {
		if (n > INT32_MAX)
			return lie(btf, id, err, "an array's length");
		p = mb_plan_new(btf, id, MB_KIND_CHARS, n, err);
		if (!p)
			return -ENOMEM;
		p->enc = n ? MB_ENC_CHARS : MB_ENC_TEXT;
		p->flexible = !n;
		p->stride = n ? 0 : 1;
		p->count = n;
		*out = p;
		return 0;
	}
	rc = mb_plan_compile(btf, type, depth + 1, &elem, err);
	if (rc)
		return rc;
	if (!elem->size)
		return mb_fail(err, ENOTSUP, "compile type", btf->name,
			       "an array of things without size has no layout");
	p = mb_plan_new(btf, id, MB_KIND_ARRAY, 0, err);
	if (!p)
		return -ENOMEM;
	*out = p;
	return mb_plan_fill_array(btf, p, elem, elem->size, n, err);
}

/* Where the members of a struct are collected; anonymous ones flatten into their parent. */
struct gather {
	struct mb_btf *btf;
	struct mb_field *fields;
	uint32_t n, room;
	uint32_t size; /* of the outermost aggregate */
	uint32_t id;
	uint32_t walked;
	struct mb_error *err;
};

static struct mb_field *gather_one(struct gather *g)
{
	if (g->n == g->room) {
		uint32_t room = g->room ? g->room * 2 : 16;
		struct mb_field *more = realloc(g->fields, room * sizeof(*more));

		if (!more || room > MB_MAX_FIELDS * 2) {
			if (more)
				g->fields = more;
			return NULL;
		}
		g->fields = more;
		g->room = room;
	}
	return &g->fields[g->n++];
}

/* A bitfield: its width, and the byte and bit where it starts. BTF has two ways to say it: in the
 * member's offset (kind_flag), or in the integer's own offset and width. */
static int bitfield(struct gather *g, struct mb_field *f, uint32_t bit_off, uint32_t bits)
{
	const struct mb_plan *p = f->plan;

	if (p->kind != MB_KIND_INT && p->kind != MB_KIND_ENUM && p->kind != MB_KIND_BOOL)
		return lie(g->btf, g->id, g->err, "a bitfield that is no integer");
	if (!bits || bits > 64 || bits > p->size * 8)
		return lie(g->btf, g->id, g->err, "a bitfield's width");
	f->off = bit_off / 8;
	f->shift = (uint8_t)(bit_off % 8);
	f->bits = (uint8_t)bits;
	f->end = (bit_off + bits + 7) / 8;
	f->enc = p->is_signed ? MB_ENC_BITS_S : MB_ENC_BITS_U;
	if (f->end > g->size)
		return lie(g->btf, g->id, g->err, "a bitfield outside its struct");
	return 0;
}

static int gather_members(struct gather *g, const struct btf_type *t, uint32_t base_bits,
			  unsigned int depth, bool in_union);

static int gather_member(struct gather *g, const struct btf_type *t, uint32_t i, uint32_t base_bits,
			 unsigned int depth, bool in_union)
{
	const struct btf_member *m = btf_members(t) + i;
	uint32_t type = m->type, at = btf_member_bit_offset(t, i);
	uint32_t bits = btf_member_bitfield_size(t, i);
	const char *name = btf__name_by_offset(g->btf->btf, m->name_off);
	uint32_t under = mb_btf_skip(g->btf->btf, type);
	const struct btf_type *mt = btf__type_by_id(g->btf->btf, under);
	uint64_t bit_off = (uint64_t)base_bits + at;
	struct mb_field *f;
	const struct mb_plan *plan;
	int rc;

	if (++g->walked > MAX_MEMBERS)
		return lie(g->btf, g->id, g->err, "too many members");
	if (!mt || bit_off + bits > (uint64_t)g->size * 8)
		return lie(g->btf, g->id, g->err, "a member outside its struct");
	if (name && !*name && btf_is_composite(mt))
		return gather_members(g, mt, (uint32_t)bit_off, depth + 1, in_union);
	if (!name || !*name)
		return 0; /* padding: int : 3; */
	rc = mb_plan_compile(g->btf, type, depth + 1, &plan, g->err);
	if (rc == -ENOTSUP) { /* a member of a type without layout: named, but not reachable */
		mb_error_fini(g->err);
		return 0;
	}
	if (rc)
		return rc;
	if (!bits && btf_is_int(mt) &&
	    (btf_int_bits(mt) != mt->size * 8 || btf_int_offset(mt) || bit_off % 8)) {
		bits = btf_int_bits(mt);
		bit_off += btf_int_offset(mt);
	}
	f = gather_one(g);
	if (!f)
		return mb_plan_no_memory(g->btf, g->err);
	field_init(f, mb_btf_strdup(g->btf, name), plan, (uint32_t)(bit_off / 8));
	f->is_union = in_union;
	if (!f->name)
		return mb_plan_no_memory(g->btf, g->err);
	if (bits)
		return bitfield(g, f, (uint32_t)bit_off, bits);
	if (bit_off % 8 || (uint64_t)f->off + plan->size > g->size)
		return lie(g->btf, g->id, g->err, "a member outside its struct");
	return 0;
}

static int gather_members(struct gather *g, const struct btf_type *t, uint32_t base_bits,
			  unsigned int depth, bool in_union)
{
	if (depth > MB_MAX_DEPTH)
		return too_deep(g->btf, g->id, g->err);
	for (uint32_t i = 0; i < btf_vlen(t); i++) {
		int rc = gather_member(g, t, i, base_bits, depth, in_union || btf_is_union(t));

		if (rc)
			return rc;
	}
	return 0;
}

int mb_plan_fill_fields(struct mb_btf *btf, struct mb_plan *p, struct mb_field *fields, uint32_t n,
			struct mb_error *err)
{
	uint32_t children = 0;

	for (uint32_t i = 0; i < n; i++)
		if (fields[i].enc == MB_ENC_NONE)
			fields[i].child = (uint16_t)++children;
	if (n > MB_MAX_FIELDS)
		return mb_fail(err, E2BIG, "compile type", p->name, "it has too many fields");
	p->fields = mb_btf_alloc(btf, n * sizeof(*fields));
	if (!p->fields)
		return mb_plan_no_memory(btf, err);
	if (n)
		memcpy((void *)(uintptr_t)p->fields, fields, n * sizeof(*fields));
	p->nfields = n;
	p->nchildren = children;
	return 0;
}

static int compile_composite(struct mb_btf *btf, uint32_t id, const struct btf_type *t,
			     unsigned int depth, struct mb_plan **out, struct mb_error *err)
{
	struct gather g = { .btf = btf, .size = t->size, .id = id, .err = err };
	struct mb_plan *p;
	int rc;

	if (t->size > MAX_STRUCT)
		return lie(btf, id, err, "its size");
	p = mb_plan_new(btf, id, btf_is_union(t) ? MB_KIND_UNION : MB_KIND_STRUCT, t->size, err);
	if (!p)
		return -ENOMEM;
	rc = gather_members(&g, t, 0, depth, false);
	if (!rc)
		rc = mb_plan_fill_fields(btf, p, g.fields, g.n, err);
	free(g.fields);
	*out = p;
	return rc;
}

/* A section: global variables are fields; static and hidden ones are only remembered by name. */
static int compile_section(struct mb_btf *btf, uint32_t id, const struct btf_type *t,
			   unsigned int depth, struct mb_plan **out, struct mb_error *err)
{
	const struct btf_var_secinfo *vs = btf_var_secinfos(t);
	struct gather g = { .btf = btf, .size = t->size, .id = id, .err = err };
	struct mb_plan *p = mb_plan_new(btf, id, MB_KIND_SECTION, t->size, err);
	const char **hidden = p ? mb_btf_alloc(btf, btf_vlen(t) * sizeof(*hidden)) : NULL;
	int rc = 0;

	if (t->size > INT32_MAX)
		return lie(btf, id, err, "its size");
	if (!hidden)
		return mb_plan_no_memory(btf, err);
	for (uint32_t i = 0; i < btf_vlen(t) && !rc; i++) {
		const struct btf_type *var = btf__type_by_id(btf->btf, vs[i].type);
		const struct mb_plan *plan;
		struct mb_field *f;
		char *name;

		if (!var || !btf_is_var(var))
			continue; /* .ksyms holds functions, too */
		name = mb_btf_strdup(btf, mb_btf_raw_name(btf, var));
		if (!name) {
			rc = mb_plan_no_memory(btf, err);
			break;
		}
		if (btf_var(var)->linkage == BTF_VAR_STATIC) {
			hidden[p->nhidden++] = name;
			continue;
		}
		rc = mb_plan_compile(btf, var->type, depth + 1, &plan, err);
		if (rc == -ENOTSUP) {
			mb_error_fini(err);
			rc = 0;
			continue;
		}
		if (rc)
			break;
		if ((uint64_t)vs[i].offset + plan->size > t->size) {
			rc = lie(btf, id, err, "a variable outside its section");
			break;
		}
		f = gather_one(&g);
		if (!f) {
			rc = mb_plan_no_memory(btf, err);
			break;
		}
		field_init(f, name, plan, vs[i].offset);
		/* one that ends in a flexible array is longer than its type */
		if (vs[i].size > plan->size && (uint64_t)vs[i].offset + vs[i].size <= t->size)
			f->end = vs[i].offset + vs[i].size;
	}
	p->hidden = hidden;
	if (!rc)
		rc = mb_plan_fill_fields(btf, p, g.fields, g.n, err);
	free(g.fields);
	*out = p;
	return rc;
}

static int compile_kind(struct mb_btf *btf, uint32_t id, const struct btf_type *t,
			unsigned int depth, struct mb_plan **out, struct mb_error *err)
{
	switch (btf_kind(t)) {
	case BTF_KIND_INT:
		return compile_int(btf, id, t, out, err);
	case BTF_KIND_FLOAT:
		return compile_float(btf, id, t, out, err);
	case BTF_KIND_ENUM:
	case BTF_KIND_ENUM64:
		return compile_enum(btf, id, t, out, err);
	case BTF_KIND_PTR:
		return compile_pointer(btf, id, out, err);
	case BTF_KIND_ARRAY:
		return compile_array(btf, id, t, depth, out, err);
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		return compile_composite(btf, id, t, depth, out, err);
	case BTF_KIND_DATASEC:
		return compile_section(btf, id, t, depth, out, err);
	default:
		return mb_fail(err, ENOTSUP, "compile type", mb_btf_raw_name(btf, t),
			       "type %u of %s has no layout", id, btf->name);
	}
}

/* A typedef's plan is its type's under another name. */
static int compile_alias(struct mb_btf *btf, uint32_t id, const struct mb_plan *of,
			 const struct mb_plan **out, struct mb_error *err)
{
	struct mb_plan *p = mb_plan_new(btf, id, of->kind, of->size, err);
	const char *name;

	if (!p)
		return -ENOMEM;
	name = p->name;
	*p = *of;
	p->name = name;
	p->id = id;
	*out = p;
	return 0;
}

/* A type that was refused is refused again without work: a plan without btf stands for the no. */
static void remember_refusal(struct mb_btf *btf, uint32_t id, int rc, const struct mb_error *why)
{
	struct mb_plan *p;

	if (rc == -ENOMEM || rc == -ELOOP || !why)
		return;
	p = mb_btf_alloc(btf, sizeof(*p));
	if (!p || !(p->name = mb_btf_strdup(btf, why->cause)))
		return;
	p->size = (uint32_t)why->code;
	btf->plans[id] = p;
}

static int refuse_again(struct mb_btf *btf, uint32_t id, struct mb_error *err)
{
	const struct mb_plan *p = btf->plans[id];
	char name[128];

	mb_btf_spell(btf, id, name, sizeof(name), 0);
	return mb_fail(err, (int)p->size, "compile type", name, "%s", p->name);
}

int mb_plan_compile(struct mb_btf *btf, uint32_t id, unsigned int depth, const struct mb_plan **out,
		    struct mb_error *err)
{
	const struct btf_type *t;
	uint32_t under;
	int rc;

	if (id >= btf->ntypes)
		return mb_fail(err, EINVAL, "compile type", btf->name, "no type %u", id);
	if (btf->plans[id] && btf->plans[id]->btf) {
		*out = btf->plans[id];
		return 0;
	}
	if (btf->plans[id])
		return refuse_again(btf, id, err);
	if (depth > MB_MAX_DEPTH)
		return too_deep(btf, id, err);
	under = mb_btf_skip(btf->btf, id);
	t = btf__type_by_id(btf->btf, under);
	if (!under || !t)
		return mb_fail(err, ENOTSUP, "compile type", btf->name, "void has no layout");
	if (under != id) {
		const struct mb_plan *of;

		rc = mb_plan_compile(btf, under, depth + 1, &of, err);
		if (!rc)
			rc = compile_alias(btf, id, of, out, err);
	} else {
		struct mb_plan *p = NULL;

		rc = compile_kind(btf, id, t, depth, &p, err);
		if (!rc)
			*out = p;
	}
	if (!rc)
		btf->plans[id] = *out;
	else
		remember_refusal(btf, id, rc, err);
	return rc;
}

int mb_btf_plan(struct mb_btf *btf, uint32_t id, const struct mb_plan **out, struct mb_error *err)
{
	MB_ERROR(why);
	int rc = mb_plan_compile(btf, id, 0, out, &why);

	if (rc && err) {
		mb_error_fini(err);
		*err = why;
	}
	return rc;
}
