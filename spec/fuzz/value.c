/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fuzzes values: fields of plans that compiled, and values of any kind for them. What fits is taken
 * and nothing else (told by arithmetic in 128 bits), it reads back as it was stored, the bits beside
 * it stay as they were, and what is refused changes nothing. Memory ends where the field does.
 */
#include <float.h>
#include <math.h>

#include "btf.h"

#define MAX_SIZE 4096u

typedef __int128 wide;

/* ---- what may be stored --------------------------------------------------------------------------- */

static bool is_int(const struct mb_field *f)
{
	return (f->enc >= MB_ENC_U8 && f->enc <= MB_ENC_BOOL) || f->enc == MB_ENC_BITS_U ||
	       f->enc == MB_ENC_BITS_S;
}

static unsigned int bits_of(const struct mb_field *f)
{
	return f->bits ? f->bits : f->plan->size * 8;
}

static double as_double(const struct mb_value *v)
{
	return v->kind == MB_VALUE_FLOAT ? v->f :
	       v->kind == MB_VALUE_UINT	 ? (double)(uint64_t)v->i :
					   (double)v->i;
}

static bool int_fits(const struct mb_field *f, const struct mb_value *v)
{
	wide value = v->kind == MB_VALUE_UINT ? (wide)(uint64_t)v->i : (wide)v->i;
	unsigned int bits = bits_of(f);
	wide high = ((wide)1 << (f->plan->is_signed ? bits - 1 : bits)) - 1;
	wide low = f->plan->is_signed ? -high - 1 : 0;

	if (f->plan->kind == MB_KIND_BOOL)
		return v->kind == MB_VALUE_BOOL ||
		       (v->kind <= MB_VALUE_UINT && (v->i == 0 || v->i == 1));
	if (v->kind > MB_VALUE_UINT)
		return false;
	/* an unsigned one of 64 bits takes Lua's negative integers as the bits that they are */
	return (value >= low && value <= high) || (bits == 64 && !f->plan->is_signed);
}

static bool fits(const struct mb_field *f, const struct mb_value *v)
{
	double d;

	switch (f->enc) {
	case MB_ENC_NONE:
		return false;
	case MB_ENC_F32:
	case MB_ENC_F64:
		if (v->kind == MB_VALUE_BOOL || v->kind == MB_VALUE_BYTES)
			return false;
		d = as_double(v);
		return f->enc == MB_ENC_F64 || !isfinite(d) || fabs(d) <= (double)FLT_MAX;
	case MB_ENC_CHARS:
		return v->kind == MB_VALUE_BYTES && v->len <= f->plan->size;
	case MB_ENC_TEXT: /* the view says how much */
		return v->kind == MB_VALUE_BYTES;
	case MB_ENC_BYTES:
		return v->kind == MB_VALUE_BYTES && v->len == f->plan->size;
	default:
		return int_fits(f, v);
	}
}

/* ---- what must have changed ------------------------------------------------------------------------ */

/* The bits from and to which a field takes its aggregate. */
static void span(const struct mb_field *f, uint64_t *from, uint64_t *to)
{
	*from = (uint64_t)f->off * 8 + f->shift;
	*to = *from + (f->bits ? f->bits : (uint64_t)f->plan->size * 8);
}

static void expect_beside(const struct mb_field *f, const uint8_t *now, const uint8_t *before,
			  uint32_t size)
{
	uint64_t from, to;

	span(f, &from, &to);
	for (uint64_t i = 0; i < size; i++) {
		uint8_t own = 0;

		for (unsigned int b = 0; b < 8; b++)
			if (i * 8 + b >= from && i * 8 + b < to)
				own |= (uint8_t)(1u << b);
		EXPECT(!((now[i] ^ before[i]) & (uint8_t)~own),
		       "%s (bits %llu to %llu): byte %llu beside it changed from %02x to %02x",
		       f->plan->name, (unsigned long long)from, (unsigned long long)to,
		       (unsigned long long)i, before[i], now[i]);
	}
}

static void expect_same(const struct mb_field *f, const struct mb_value *put, const uint8_t *base)
{
	struct mb_value got;
	double want;
	size_t text;
	int64_t i;

	mb_value_load(base, f, &got);
	if (is_int(f)) {
		EXPECT(got.i == put->i, "%s (%u bits, enc %u): %lld reads back as %lld",
		       f->plan->name, bits_of(f), f->enc, (long long)put->i, (long long)got.i);
		EXPECT(f->plan->kind != MB_KIND_BOOL || got.i == 0 || got.i == 1, "%s: %lld",
		       f->plan->name, (long long)got.i);
		if (mb_value_integer(base, f, &i))
			EXPECT(i == put->i, "%s: %lld reads back as %lld", f->plan->name,
			       (long long)put->i, (long long)i);
		return;
	}
	if (f->enc == MB_ENC_F32 || f->enc == MB_ENC_F64) {
		want = as_double(put);
		if (f->enc == MB_ENC_F32)
			want = (double)(float)want;
		EXPECT(got.kind == MB_VALUE_FLOAT &&
			       (got.f == want || (isnan(want) && isnan(got.f))),
		       "%s: %g reads back as %g", f->plan->name, want, got.f);
		return;
	}
	text = f->enc == MB_ENC_CHARS ? strnlen(put->bytes, put->len) : put->len;
	EXPECT(got.kind == MB_VALUE_BYTES && got.len == text &&
		       !memcmp(got.bytes, put->bytes, text),
	       "%s: %zu bytes read back as %zu", f->plan->name, text, got.len);
	EXPECT(!memcmp(base + f->off, put->bytes, put->len), "%s: other bytes", f->plan->name);
	for (size_t n = put->len; n < f->plan->size; n++)
		EXPECT(!base[f->off + n], "%s: old bytes stay behind the text", f->plan->name);
}

/* ---- values ---------------------------------------------------------------------------------------- */

/* Near the limits of some width, mostly of the field's own. */
static int64_t an_integer(struct input *in, const struct mb_field *f)
{
	uint8_t how = take8(in);
	unsigned int bits = how & 1 && bits_of(f) <= 64 ? bits_of(f) : (how >> 1 & 63) + 1;
	uint64_t edge = bits == 64 ? 0 : 1ULL << bits;
	int64_t near = (int64_t)(how >> 5) - 4;

	switch (take8(in) % 6) {
	case 0:
		return (int64_t)take64(in);
	case 1:
		return near;
	case 2:
		return (int64_t)(edge + (uint64_t)near);
	case 3:
		return (int64_t)(edge / 2 + (uint64_t)near);
	case 4:
		return (int64_t)(0 - edge / 2 + (uint64_t)near);
	default:
		return (int64_t)(take64(in) & (edge - 1));
	}
}

static double a_double(struct input *in)
{
	static const double some[] = { 0.0,	0.5,	  1e300,     -1e300,   0x1p63,
				       -0x1p63, 0x1p64,	  FLT_MAX,   -FLT_MAX, 0x1.ffffffp127,
				       0x1p128, INFINITY, -INFINITY, 3.0,      -1.0 };
	uint8_t how = take8(in);
	uint64_t bits;
	double d;

	if (how < 128)
		return some[how % (sizeof(some) / sizeof(some[0]))];
	if (how < 136)
		return NAN;
	bits = take64(in);
	memcpy(&d, &bits, sizeof(d));
	return d;
}

/* Bytes in memory of their very length; the caller frees them. */
static void some_bytes(struct input *in, const struct mb_field *f, struct mb_value *v)
{
	uint8_t how = take8(in);
	char *bytes;

	v->len = how < 128 ? f->plan->size : how < 160 ? f->plan->size + 1 : how % 32;
	if (v->len > MAX_SIZE + 1)
		v->len = how;
	bytes = malloc(v->len ? v->len : 1);
	for (size_t i = 0; i < v->len; i++)
		bytes[i] = (char)(how & 1 ? take8(in) : 'a' + i % 26);
	v->bytes = bytes;
}

static void a_value(struct input *in, const struct mb_field *f, struct mb_value *v)
{
	uint8_t how = take8(in);
	static const enum mb_value_kind usual[] = {
		[MB_ENC_F32] = MB_VALUE_FLOAT,	 [MB_ENC_F64] = MB_VALUE_FLOAT,
		[MB_ENC_CHARS] = MB_VALUE_BYTES, [MB_ENC_BYTES] = MB_VALUE_BYTES,
		[MB_ENC_BOOL] = MB_VALUE_BOOL,	 [MB_ENC_TEXT] = MB_VALUE_BYTES,
	};

	*v = (struct mb_value){ .kind = how < 160 ? usual[f->enc] : how % 5 };
	switch (v->kind) {
	case MB_VALUE_FLOAT:
		v->f = a_double(in);
		break;
	case MB_VALUE_BOOL:
		v->i = take8(in) & 1;
		break;
	case MB_VALUE_BYTES:
		some_bytes(in, f, v);
		break;
	default:
		v->i = an_integer(in, f);
	}
}

/* ---- one store -------------------------------------------------------------------------------------- */

struct memory {
	uint8_t *bytes;	 /* the allocation, its end is the aggregate's */
	uint8_t *base;	 /* the aggregate */
	uint8_t *before; /* what it was */
	uint32_t size;
};

static void memory_reset(struct memory *m)
{
	memcpy(m->base, m->before, m->size);
}

static void expect_untouched(const struct memory *m, const struct mb_field *f, const char *what)
{
	EXPECT(memcmp(m->base, m->before, m->size) == 0, "%s: %s was refused and changed something",
	       f->plan->name, what);
}

static void store(struct memory *m, const struct mb_field *f, const struct mb_value *v)
{
	struct mb_error err = { 0 };
	int rc = mb_value_check(f, v, &err);
	bool ok = fits(f, v);

	EXPECT(!rc == ok, "%s (%u bits, enc %u): kind %u, %lld (%g), %zu bytes: check says %d %s",
	       f->plan->name, bits_of(f), f->enc, v->kind,
	       v->kind <= MB_VALUE_UINT ? (long long)v->i : 0,
	       v->kind == MB_VALUE_FLOAT ? v->f : 0.0, v->kind == MB_VALUE_BYTES ? v->len : 0, rc,
	       err.cause);
	EXPECT(!rc || ((rc == -EINVAL || rc == -ERANGE) && err.code == -rc && err.cause[0] &&
		       err.subject[0]),
	       "%s: refused by %d: %d '%s'", f->plan->name, rc, err.code, err.cause);
	mb_error_fini(&err);
	expect_untouched(m, f, "a value");
	if (!rc) {
		mb_value_store(m->base, f, v);
		expect_beside(f, m->base, m->before, m->size);
		if (f->enc != MB_ENC_TEXT)
			expect_same(f, v, m->base);
		memory_reset(m);
	}
	if (v->kind != MB_VALUE_INT)
		return;
	if (mb_value_store_integer(m->base, f, v->i)) {
		EXPECT(ok, "%s: %lld is stored, though check refuses it", f->plan->name,
		       (long long)v->i);
		expect_beside(f, m->base, m->before, m->size);
		expect_same(f, v, m->base);
		memory_reset(m);
	} else {
		expect_untouched(m, f, "an integer");
	}
}

/* ---- atomics ------------------------------------------------------------------------------------------ */

static uint64_t outcome(enum mb_atomic op, uint64_t old, uint64_t v, bool equal)
{
	switch (op) {
	case MB_ATOMIC_ADD:
		return old + v;
	case MB_ATOMIC_SUB:
		return old - v;
	case MB_ATOMIC_AND:
		return old & v;
	case MB_ATOMIC_OR:
		return old | v;
	case MB_ATOMIC_XOR:
		return old ^ v;
	case MB_ATOMIC_XCHG:
		return v;
	default:
		return equal ? v : old;
	}
}

static void atomic(struct memory *m, const struct mb_plan *p, const struct mb_field *f,
		   struct input *in)
{
	struct mb_region region = { .base = m->base, .len = m->size, .refs = 1 };
	struct mb_view view = { &region, p, 0, 0, p->count };
	enum mb_atomic op = (enum mb_atomic)take_below(in, 7);
	int64_t operand = an_integer(in, f), value = operand, expect;
	struct mb_value old, now;
	struct mb_error err = { 0 };
	uint64_t mask, want;
	int rc;

	EXPECT(mb_view_atomic(&view, f, op, 0, &value, NULL) == -EROFS, "%s: changed read-only",
	       f->plan->name);
	expect_untouched(m, f, "an atomic operation");
	region.flags = MB_REGION_WRITABLE;
	mb_value_load(m->base, f, &old);
	expect = take8(in) & 1 && is_int(f) ? old.i : operand;
	rc = mb_view_atomic(&view, f, op, expect, &value, &err);
	EXPECT(!rc || (rc == -err.code && err.cause[0]), "%s: %d", f->plan->name, rc);
	mb_error_fini(&err);
	if (rc) {
		expect_untouched(m, f, "an atomic operation");
		return;
	}
	EXPECT(is_int(f) && !f->bits, "%s: an atomic operation on it", f->plan->name);
	mask = f->plan->size == 8 ? UINT64_MAX : (1ULL << f->plan->size * 8) - 1;
	/* what was there may be neither true nor false: the bits, then */
	memcpy(&old.i, m->before + f->off, f->plan->size);
	want = outcome(op, (uint64_t)old.i & mask, (uint64_t)operand,
		       ((uint64_t)old.i & mask) == ((uint64_t)expect & mask));
	expect_beside(f, m->base, m->before, m->size);
	mb_value_load(m->base, f, &now);
	now.i = 0;
	memcpy(&now.i, m->base + f->off, f->plan->size);
	EXPECT((uint64_t)now.i == (want & mask), "%s: operation %u on %llx makes %llx, not %llx",
	       f->plan->name, op, (unsigned long long)old.i, (unsigned long long)now.i,
	       (unsigned long long)(want & mask));
	EXPECT(((uint64_t)value & mask) == ((uint64_t)old.i & mask),
	       "%s: the old value %llx is %llx", f->plan->name, (unsigned long long)old.i,
	       (unsigned long long)value);
	memory_reset(m);
}

/* ---- one input -------------------------------------------------------------------------------------- */

static void fields_of(const struct mb_plan *p, struct input *in)
{
	uint8_t how = take8(in), shift = how & 7, seed = take8(in);
	struct memory m = { .size = p->size };
	struct mb_value v;

	m.bytes = malloc(m.size + shift);
	m.base = m.bytes + shift;
	m.before = malloc(m.size);
	for (uint32_t i = 0; i < m.size; i++)
		m.before[i] = how & 8 ? seed : (uint8_t)(i * 73 + seed);
	memory_reset(&m);
	for (int i = 1 + how / 16; i > 0; i--) {
		const struct mb_field *f = &p->fields[take_below(in, p->nfields)];

		if (f->end > m.size) /* an array's element, and there is none */
			continue;
		a_value(in, f, &v);
		store(&m, f, &v);
		if (v.kind == MB_VALUE_BYTES)
			free((void *)(uintptr_t)v.bytes);
		if (f->enc != MB_ENC_NONE && how & 16)
			atomic(&m, p, f, in);
	}
	free(m.bytes);
	free(m.before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = input_of(data, size);
	const struct mb_plan *plans[256], *p;
	size_t len;
	uint8_t *raw = read_btf(&in, &len);
	struct mb_btf *btf = open_btf(raw, len);
	uint32_t n = 0;

	free(raw);
	if (!btf)
		return 0;
	for (uint32_t id = 1; id < 1024 && n < 256; id++)
		if (!mb_btf_plan(btf, id, &p, NULL) && p->nfields && p->size && p->size <= MAX_SIZE)
			plans[n++] = p;
	for (int i = 0; i < 32 && n; i++)
		fields_of(plans[take_below(&in, n)], &in);
	mb_btf_unref(btf);
	return 0;
}
