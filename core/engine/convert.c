/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bytes of one layout into bytes of another, field by field by name. Two plans are compiled once to
 * a list of steps; a step that may fail is run twice, to check before anything is written. What the
 * kernel manages is never touched.
 */
#include <math.h>

#include "engine/layout.h"

#include "internal.h"

#define MAX_STEPS (1u << 20)

enum step_op {
	STEP_COPY,   /* len bytes as they are */
	STEP_SCALAR, /* by way of mb_value, with its range checks */
	STEP_ENUM,   /* the same, by the enumerator's name */
	STEP_TEXT,   /* char[] of another length: what counts ends at its NUL */
	STEP_BYTES,  /* the same of small integers: all of them count */
	STEP_ARRAY,  /* the next nsteps steps, for each element */
};

struct step {
	enum step_op op;
	uint32_t from, to; /* where, from the start of the aggregate that the steps are for */
	uint32_t len;	   /* copy: bytes; bytes, array: of the source */
	uint32_t to_len;
	uint32_t nsteps;
	uint32_t from_stride, to_stride;
	struct mb_field ff, tf; /* scalars: at 0 */
	char *name;		/* the path, for messages */
};

struct mb_conversion {
	struct step *steps;
	uint32_t n, room;
	bool checks; /* a step may refuse */
	struct mb_btf *from_btf, *to_btf;
};

/* ---- what can become what ------------------------------------------------------------------------------ */

static bool is_struct(const struct mb_plan *p)
{
	return p->kind == MB_KIND_STRUCT || p->kind == MB_KIND_SECTION;
}

static bool is_number(const struct mb_field *f)
{
	switch (f->plan->kind) {
	case MB_KIND_INT:
	case MB_KIND_BOOL:
	case MB_KIND_ENUM:
		return true;
	case MB_KIND_FLOAT:
		return f->enc == MB_ENC_F32 || f->enc == MB_ENC_F64;
	default:
		return false;
	}
}

/* Would the same bytes at another place do? */
static bool copies(const struct mb_field *from, const struct mb_field *to)
{
	const struct mb_plan *p = from->plan, *q = to->plan;

	if (from->bits || to->bits)
		return false; /* they start within a byte */
	if (mb_layout_is_bytes(p) && mb_layout_is_bytes(q))
		return p->size == q->size;
	if (p->flexible || q->flexible)
		return false;
	if (p->enc != MB_ENC_NONE && !mb_layout_scalar_same(from, to))
		return false;
	return p->size == q->size && mb_layout_same(p, q) && !mb_layout_holds_managed(p);
}

static bool scalar_converts(const struct mb_field *from, const struct mb_field *to)
{
	return mb_layout_scalar_same(from, to) || (is_number(from) && is_number(to));
}

bool mb_layout_converts(const struct mb_field *from, const struct mb_field *to)
{
	const struct mb_plan *p = from->plan, *q = to->plan;

	if (mb_layout_managed(p) || mb_layout_managed(q))
		return false;
	if (mb_layout_is_bytes(p) && mb_layout_is_bytes(q))
		return true;
	if (from->is_union || to->is_union)
		return copies(from, to);
	if (p->enc != MB_ENC_NONE || q->enc != MB_ENC_NONE)
		return p->enc != MB_ENC_NONE && q->enc != MB_ENC_NONE && scalar_converts(from, to);
	if (p->kind == MB_KIND_ARRAY && q->kind == MB_KIND_ARRAY)
		return !p->flexible && !q->flexible &&
		       mb_layout_converts(&p->fields[0], &q->fields[0]);
	return is_struct(p) && is_struct(q);
}

/* ---- compiling ------------------------------------------------------------------------------------------ */

struct compile {
	struct mb_conversion *c;
	struct mb_error *err;
	const char *whole; /* the target's type, for messages */
	uint32_t barrier;  /* copies before this step are not for the same aggregate */
	char path[128];
};

static int no_memory(struct compile *k)
{
	return mb_fail(k->err, ENOMEM, "convert", k->whole, "out of memory");
}

static int no_way(struct compile *k, const struct mb_field *from, const struct mb_field *to)
{
	mb_fail(k->err, ENOTSUP, "convert", k->whole,
		"field '%s' was %s and is %s: no way leads there", k->path, from->plan->name,
		to->plan->name);
	mb_error_hint(k->err, from->is_union || to->is_union ?
				      "which field of a union holds the value is not known: unions "
				      "must stay as they were" :
				      "give the changed field another name");
	return -ENOTSUP;
}

/* Room for one more step, cleared. */
static struct step *step_new(struct compile *k, enum step_op op, uint32_t from, uint32_t to)
{
	struct mb_conversion *c = k->c;
	struct step *s;

	if (c->n == c->room) {
		uint32_t room = c->room ? c->room * 2 : 16;
		struct step *more = room > MAX_STEPS ? NULL :
						       realloc(c->steps, room * sizeof(*more));

		if (!more)
			return NULL;
		c->steps = more;
		c->room = room;
	}
	s = &c->steps[c->n];
	memset(s, 0, sizeof(*s));
	s->op = op;
	s->from = from;
	s->to = to;
	if (op != STEP_COPY) {
		s->name = strdup(k->path);
		if (!s->name)
			return NULL;
	}
	c->n++;
	return s;
}

static int add_copy(struct compile *k, uint32_t from, uint32_t to, uint32_t len)
{
	struct step *last = k->c->n > k->barrier ? &k->c->steps[k->c->n - 1] : NULL;

	if (last && last->op == STEP_COPY && last->from + last->len == from &&
	    last->to + last->len == to) {
		last->len += len;
		return 0;
	}
	last = step_new(k, STEP_COPY, from, to);
	if (!last)
		return no_memory(k);
	last->len = len;
	return 0;
}

static int add_bytes(struct compile *k, const struct mb_plan *p, const struct mb_plan *q,
		     uint32_t from, uint32_t to)
{
	bool text = p->kind == MB_KIND_CHARS;
	struct step *s = step_new(k, text ? STEP_TEXT : STEP_BYTES, from, to);

	if (!s)
		return no_memory(k);
	s->len = p->size;
	s->to_len = q->size;
	k->c->checks = k->c->checks || p->size > q->size;
	return 0;
}

/* Does a name of the one enum mean another number in the other, or nothing? */
static bool enum_differs(const struct mb_plan *a, const struct mb_plan *b)
{
	int64_t value;

	for (uint32_t i = 0; i < a->nenums; i++)
		if (mb_plan_enum_value(b, a->enums[i].name, &value) != 0 ||
		    value != a->enums[i].value)
			return true;
	return false;
}

static int add_scalar(struct compile *k, const struct mb_field *from, const struct mb_field *to,
		      uint32_t from_at, uint32_t to_at)
{
	bool by_name = from->plan->kind == MB_KIND_ENUM && to->plan->kind == MB_KIND_ENUM &&
		       enum_differs(from->plan, to->plan);
	struct step *s = step_new(k, by_name ? STEP_ENUM : STEP_SCALAR, from_at, to_at);

	if (!s)
		return no_memory(k);
	s->ff = *from;
	s->tf = *to;
	s->ff.end -= s->ff.off;
	s->tf.end -= s->tf.off;
	s->ff.off = s->tf.off = 0;
	k->c->checks = true;
	return 0;
}

static int add_field(struct compile *k, const struct mb_field *from, const struct mb_field *to,
		     uint32_t from_base, uint32_t to_base);

static int add_array(struct compile *k, const struct mb_field *from, const struct mb_field *to,
		     uint32_t from_at, uint32_t to_at)
{
	const struct mb_plan *p = from->plan, *q = to->plan;
	struct step *s = step_new(k, STEP_ARRAY, from_at, to_at);
	uint32_t at = k->c->n - 1;
	size_t cut = strlen(k->path);
	int rc;

	if (!s)
		return no_memory(k);
	s->len = p->count;
	s->to_len = q->count;
	s->from_stride = p->stride;
	s->to_stride = q->stride;
	k->c->checks = k->c->checks || p->count > q->count;
	snprintf(k->path + cut, sizeof(k->path) - cut, "[]");
	k->barrier = k->c->n;
	rc = add_field(k, &p->fields[0], &q->fields[0], 0, 0);
	k->barrier = k->c->n;
	k->path[cut] = '\0';
	k->c->steps[at].nsteps = k->c->n - at - 1;
	return rc;
}

static int add_members(struct compile *k, const struct mb_plan *p, const struct mb_plan *q,
		       uint32_t from_at, uint32_t to_at)
{
	uint32_t next = 0;
	int rc = 0;

	for (uint32_t i = 0; i < q->nfields && !rc; i++) {
		const struct mb_field *to = &q->fields[i], *from = NULL;
		size_t cut = strlen(k->path);

		for (uint32_t n = 0; n < p->nfields && !from; n++) {
			uint32_t j = (next + n) % p->nfields;

			if (strcmp(p->fields[j].name, to->name) == 0) {
				from = &p->fields[j];
				next = j + 1;
			}
		}
		if (!from)
			continue;
		snprintf(k->path + cut, sizeof(k->path) - cut, "%s%s", cut ? "." : "", to->name);
		rc = add_field(k, from, to, from_at, to_at);
		k->path[cut] = '\0';
	}
	return rc;
}

static int add_field(struct compile *k, const struct mb_field *from, const struct mb_field *to,
		     uint32_t from_base, uint32_t to_base)
{
	const struct mb_plan *p = from->plan, *q = to->plan;
	uint32_t from_at = from_base + from->off, to_at = to_base + to->off;

	if (mb_layout_managed(p) || mb_layout_managed(q))
		return 0;
	if (copies(from, to))
		return add_copy(k, from_at, to_at, q->size);
	if (!mb_layout_converts(from, to))
		return no_way(k, from, to);
	if (mb_layout_is_bytes(p) && mb_layout_is_bytes(q))
		return add_bytes(k, p, q, from_at, to_at);
	if (p->enc != MB_ENC_NONE)
		return add_scalar(k, from, to, from_at, to_at);
	if (p->kind == MB_KIND_ARRAY)
		return add_array(k, from, to, from_at, to_at);
	return add_members(k, p, q, from_at, to_at);
}

int mb_conversion_slot(const struct mb_field *from, const struct mb_field *to,
		       struct mb_conversion **out, struct mb_error *err)
{
	struct mb_conversion *c = calloc(1, sizeof(*c));
	struct compile k = { .c = c, .err = err, .whole = to->plan->name };
	int rc;

	if (!c)
		return no_memory(&k);
	c->from_btf = mb_btf_ref(from->plan->btf);
	c->to_btf = mb_btf_ref(to->plan->btf);
	rc = add_field(&k, from, to, 0, 0);
	if (rc) {
		mb_conversion_free(c);
		return rc;
	}
	*out = c;
	return 0;
}

int mb_conversion_new(const struct mb_plan *from, const struct mb_plan *to,
		      struct mb_conversion **out, struct mb_error *err)
{
	struct mb_field f = { .plan = from, .end = from->size, .enc = from->enc };
	struct mb_field g = { .plan = to, .end = to->size, .enc = to->enc };

	return mb_conversion_slot(&f, &g, out, err);
}

void mb_conversion_free(struct mb_conversion *c)
{
	if (!c)
		return;
	for (uint32_t i = 0; i < c->n; i++)
		free(c->steps[i].name);
	free(c->steps);
	mb_btf_unref(c->from_btf);
	mb_btf_unref(c->to_btf);
	free(c);
}

/* ---- running -------------------------------------------------------------------------------------------- */

static const char *path_of(const struct step *s)
{
	return *s->name ? s->name : "value";
}

/* A number as the target's kind wants it. */
static int adapt(const struct step *s, struct mb_value *v, struct mb_error *err)
{
	bool to_float = s->tf.plan->kind == MB_KIND_FLOAT;

	if (v->kind == MB_VALUE_FLOAT && !to_float) {
		double f = v->f; /* the least and the first beyond the greatest are exact */

		if (!(f >= -0x1p63 && f < 0x1p64) || f != trunc(f))
			return mb_fail(err, ERANGE, "convert", path_of(s),
				       "%g does not fit into %s", f, s->tf.plan->name);
		v->i = f < 0x1p63 ? (int64_t)f : (int64_t)(uint64_t)f;
		v->kind = f < 0x1p63 ? MB_VALUE_INT : MB_VALUE_UINT;
	} else if (v->kind != MB_VALUE_FLOAT && to_float) {
		bool is_unsigned = v->kind == MB_VALUE_UINT;
		double d = is_unsigned ? (double)(uint64_t)v->i : (double)v->i;
		bool exact = is_unsigned ? d < 0x1p64 && (uint64_t)d == (uint64_t)v->i :
					   d < 0x1p63 && (int64_t)d == v->i;

		if (!exact || (s->tf.enc == MB_ENC_F32 && (double)(float)d != d))
			return mb_fail(err, ERANGE, "convert", path_of(s),
				       is_unsigned ? "%llu has more digits than %s" :
						     "%lld has more digits than %s",
				       (unsigned long long)v->i, s->tf.plan->name);
		v->kind = MB_VALUE_FLOAT;
		v->f = d;
	} else if (v->kind == MB_VALUE_BOOL) {
		v->kind = MB_VALUE_INT;
	}
	return 0;
}

static int step_enum(const struct step *s, struct mb_value *v, struct mb_error *err)
{
	const struct mb_plan *a = s->ff.plan, *b = s->tf.plan;
	const char *name = NULL;
	int64_t value;

	for (uint32_t i = 0; i < a->nenums; i++) {
		if (a->enums[i].value != v->i)
			continue;
		name = a->enums[i].name;
		if (mb_plan_enum_value(b, name, &value) == 0) {
			v->i = value;
			v->kind = value < 0 || b->is_signed ? MB_VALUE_INT : MB_VALUE_UINT;
			return 0;
		}
	}
	if (!name)
		return 0; /* a number without a name stays one */
	return mb_fail(err, ERANGE, "convert", path_of(s), "%s (%lld) is no more in %s", name,
		       (long long)v->i, b->name);
}

static int step_scalar(const struct step *s, const uint8_t *from, uint8_t *to, struct mb_error *err)
{
	MB_ERROR(why);
	struct mb_value v;
	int rc = 0;

	mb_value_load(from, &s->ff, &v);
	if (s->op == STEP_ENUM)
		rc = step_enum(s, &v, err);
	if (!rc)
		rc = adapt(s, &v, err);
	if (rc)
		return rc;
	/* a store takes a negative number as the bits of an unsigned one; here it is a number */
	if (v.kind == MB_VALUE_INT && v.i < 0 && s->tf.enc == MB_ENC_U64)
		rc = mb_fail(&why, ERANGE, "convert", path_of(s), "%lld is out of range for %s",
			     (long long)v.i, s->tf.plan->name);
	else
		rc = mb_value_check(&s->tf, &v, &why);
	if (rc)
		return mb_fail(err, ERANGE, "convert", path_of(s), "%s", why.cause);
	if (to)
		mb_value_store(to, &s->tf, &v);
	return 0;
}

static bool zeros(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i])
			return false;
	return true;
}

static int step_bytes(const struct step *s, const uint8_t *from, uint8_t *to, struct mb_error *err)
{
	uint32_t n = s->len < s->to_len ? s->len : s->to_len;
	size_t counts = s->len;

	if (s->op == STEP_TEXT)
		counts = strnlen((const char *)from, s->len);
	else
		while (counts && !from[counts - 1])
			counts--;
	if (counts > s->to_len)
		return mb_fail(err, ERANGE, "convert", path_of(s), "%zu bytes do not fit into %u",
			       counts, s->to_len);
	if (to) {
		memcpy(to, from, n);
		memset(to + n, 0, s->to_len - n);
	}
	return 0;
}

static int run_steps(const struct step *s, uint32_t n, const uint8_t *from, uint8_t *to,
		     struct mb_error *err);

static int step_array(const struct step *s, const uint8_t *from, uint8_t *to, struct mb_error *err)
{
	uint32_t n = s->len < s->to_len ? s->len : s->to_len;
	int rc = 0;

	for (uint32_t i = n; i < s->len; i++)
		if (!zeros(from + (size_t)i * s->from_stride, s->from_stride))
			return mb_fail(err, ERANGE, "convert", path_of(s),
				       "element %u is not zero, and there are only %u now", i,
				       s->to_len);
	for (uint32_t i = 0; i < n && !rc; i++)
		rc = run_steps(s + 1, s->nsteps, from + (size_t)i * s->from_stride,
			       to ? to + (size_t)i * s->to_stride : NULL, err);
	return rc;
}

/* to NULL: only check. */
static int run_steps(const struct step *s, uint32_t n, const uint8_t *from, uint8_t *to,
		     struct mb_error *err)
{
	for (const struct step *end = s + n; s < end; s++) {
		const uint8_t *f = from + s->from;
		uint8_t *t = to ? to + s->to : NULL;
		int rc = 0;

		switch (s->op) {
		case STEP_COPY:
			if (t)
				memcpy(t, f, s->len);
			break;
		case STEP_SCALAR:
		case STEP_ENUM:
			rc = step_scalar(s, f, t, err);
			break;
		case STEP_TEXT:
		case STEP_BYTES:
			rc = step_bytes(s, f, t, err);
			break;
		case STEP_ARRAY:
			rc = step_array(s, f, t, err);
			s += s->nsteps;
			break;
		}
		if (rc)
			return rc;
	}
	return 0;
}

int mb_conversion_run(const struct mb_conversion *c, const void *from, void *to,
		      struct mb_error *err)
{
	int rc = c->checks ? run_steps(c->steps, c->n, from, NULL, err) : 0;

	return rc || !to ? rc : run_steps(c->steps, c->n, from, to, err);
}
