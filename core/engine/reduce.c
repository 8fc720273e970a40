/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sums, extremes and histograms over many values of one kind: arrays, whole maps, rings. The usual
 * widths have plain loops that the compiler turns into vectors; the rest goes value by value.
 */
#include <math.h>

#include "internal.h"

void mb_reduce_init(struct mb_reduction *r, enum mb_reduce op, const struct mb_field *field)
{
	memset(r, 0, sizeof(*r));
	r->op = op;
	r->is_float = field->enc == MB_ENC_F32 || field->enc == MB_ENC_F64;
	r->is_signed = field->plan->is_signed;
}

static void add_int(struct mb_reduction *r, int64_t v)
{
	bool less = r->is_signed ? v < r->i : (uint64_t)v < (uint64_t)r->i;

	switch (r->op) {
	case MB_REDUCE_SUM:
		r->i = (int64_t)((uint64_t)r->i + (uint64_t)v);
		break;
	case MB_REDUCE_MIN:
		if (!r->count || less)
			r->i = v;
		break;
	case MB_REDUCE_MAX:
		if (!r->count || (!less && v != r->i))
			r->i = v;
		break;
	case MB_REDUCE_HIST:
		if (r->is_signed && v < 0)
			r->negative++;
		else
			r->buckets[v ? 64 - __builtin_clzll((uint64_t)v) : 0]++;
		break;
	}
	r->count++;
}

/* What is no number is neither least nor greatest, and in no bucket. */
static void add_float(struct mb_reduction *r, double v)
{
	bool first = !r->count || isnan(r->f);

	switch (r->op) {
	case MB_REDUCE_SUM:
		r->f += v;
		break;
	case MB_REDUCE_MIN:
		if (first || v < r->f)
			r->f = v;
		break;
	case MB_REDUCE_MAX:
		if (first || v > r->f)
			r->f = v;
		break;
	case MB_REDUCE_HIST:
		if (v < 0)
			r->negative++;
		else if (!isnan(v))
			r->buckets[v < 1       ? 0 :
				   v >= 0x1p63 ? 64 :
						 64 - __builtin_clzll((uint64_t)v)]++;
		break;
	}
	r->count++;
}

static void add_value(struct mb_reduction *r, const uint8_t *base, const struct mb_field *f)
{
	struct mb_value v;

	mb_value_load(base, f, &v);
	if (v.kind == MB_VALUE_FLOAT)
		add_float(r, v.f);
	else
		add_int(r, v.i);
}

#define SUM(name, type)                                                                            \
	static uint64_t sum_##name(const uint8_t *p, size_t stride, size_t n)                      \
	{                                                                                          \
		uint64_t total = 0;                                                                \
                                                                                                   \
		if (stride == sizeof(type)) {                                                      \
			const type *v = (const void *)p;                                           \
                                                                                                   \
			for (size_t i = 0; i < n; i++)                                             \
				total += (uint64_t)v[i];                                           \
			return total;                                                              \
		}                                                                                  \
		for (size_t i = 0; i < n; i++, p += stride)                                        \
			total += (uint64_t) * (const type *)(const void *)p;                       \
		return total;                                                                      \
	}

SUM(u8, uint8_t)
SUM(u16, uint16_t)
SUM(u32, uint32_t)
SUM(s32, int32_t)
SUM(u64, uint64_t)

/* The sum of n aligned integers, if their width has a loop. */
static bool sum_fast(struct mb_reduction *r, const uint8_t *base, const struct mb_field *f,
		     size_t stride, size_t n)
{
	const uint8_t *p = base + f->off;
	uint64_t total;

	if (r->op != MB_REDUCE_SUM || ((uintptr_t)p | stride) % (f->plan->size ? f->plan->size : 1))
		return false;
	switch (f->enc) {
	case MB_ENC_U8:
		total = sum_u8(p, stride, n);
		break;
	case MB_ENC_U16:
		total = sum_u16(p, stride, n);
		break;
	case MB_ENC_U32:
		total = sum_u32(p, stride, n);
		break;
	case MB_ENC_S32:
		total = sum_s32(p, stride, n);
		break;
	case MB_ENC_U64:
	case MB_ENC_S64:
		total = sum_u64(p, stride, n);
		break;
	default:
		return false;
	}
	r->i = (int64_t)((uint64_t)r->i + total);
	r->count += n;
	return true;
}

void mb_reduce_run(struct mb_reduction *r, const uint8_t *base, const struct mb_field *f,
		   size_t stride, size_t n)
{
	if (sum_fast(r, base, f, stride, n))
		return;
	for (size_t i = 0; i < n; i++)
		add_value(r, base + i * stride, f);
}

int mb_reduce_check(const struct mb_field *f, const char *what, struct mb_error *err)
{
	switch ((enum mb_enc)f->enc) {
	case MB_ENC_NONE:
	case MB_ENC_CHARS:
	case MB_ENC_TEXT:
	case MB_ENC_BYTES:
		mb_fail(err, EINVAL, "reduce", what, "%s is no number", f->plan->name);
		if (f->plan->kind == MB_KIND_STRUCT)
			mb_error_hint(err, "name a field of it: bpf.sum(arr, \"field\")");
		return -EINVAL;
	default:
		return 0;
	}
}
