/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One scalar, loaded and stored by its encoding. Aligned ones of up to 8 bytes never tear. Life and
 * bounds are the view's to check.
 */
#include <float.h>
#include <math.h>

#include "internal.h"

/* ---- memory ------------------------------------------------------------------------------------- */

#define LOAD(type)                                                                                 \
	static inline type load_##type(const uint8_t *p)                                           \
	{                                                                                          \
		type v;                                                                            \
		if ((uintptr_t)p % sizeof(v) == 0)                                                 \
			return __atomic_load_n((const type *)(const void *)p, __ATOMIC_RELAXED);   \
		memcpy(&v, p, sizeof(v));                                                          \
		return v;                                                                          \
	}                                                                                          \
	static inline void store_##type(uint8_t *p, type v)                                        \
	{                                                                                          \
		if ((uintptr_t)p % sizeof(v) == 0)                                                 \
			__atomic_store_n((type *)(void *)p, v, __ATOMIC_RELAXED);                  \
		else                                                                               \
			memcpy(p, &v, sizeof(v));                                                  \
	}

LOAD(uint8_t)
LOAD(uint16_t)
LOAD(uint32_t)
LOAD(uint64_t)

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "bitfields are laid out for little-endian machines"
#endif

/* At most 9 bytes hold a bitfield of 64 bits that starts within a byte. */
static uint64_t load_bits(const uint8_t *p, const struct mb_field *f)
{
	unsigned __int128 wide = 0;

	memcpy(&wide, p, f->end - f->off);
	wide >>= f->shift;
	return f->bits == 64 ? (uint64_t)wide : (uint64_t)wide & ((1ULL << f->bits) - 1);
}

static void store_bits(uint8_t *p, const struct mb_field *f, uint64_t v)
{
	unsigned __int128 wide = 0, mask;

	mask = f->bits == 64 ? UINT64_MAX : (1ULL << f->bits) - 1;
	memcpy(&wide, p, f->end - f->off);
	wide &= ~(mask << f->shift);
	wide |= ((unsigned __int128)v & mask) << f->shift;
	memcpy(p, &wide, f->end - f->off);
}

static int64_t extend(uint64_t v, unsigned int bits)
{
	unsigned int up = 64 - bits;

	return (int64_t)(v << up) >> up;
}

void mb_value_load(const uint8_t *base, const struct mb_field *f, struct mb_value *out)
{
	const uint8_t *p = base + f->off;
	uint64_t u;
	uint32_t w;
	float f32;

	out->kind = MB_VALUE_INT;
	switch ((enum mb_enc)f->enc) {
	case MB_ENC_U8:
		out->i = load_uint8_t(p);
		return;
	case MB_ENC_U16:
		out->i = load_uint16_t(p);
		return;
	case MB_ENC_U32:
		out->i = load_uint32_t(p);
		return;
	case MB_ENC_U64:
		out->kind = MB_VALUE_UINT;
		out->i = (int64_t)load_uint64_t(p);
		return;
	case MB_ENC_S8:
		out->i = (int8_t)load_uint8_t(p);
		return;
	case MB_ENC_S16:
		out->i = (int16_t)load_uint16_t(p);
		return;
	case MB_ENC_S32:
		out->i = (int32_t)load_uint32_t(p);
		return;
	case MB_ENC_S64:
		out->i = (int64_t)load_uint64_t(p);
		return;
	case MB_ENC_BOOL:
		out->kind = MB_VALUE_BOOL;
		out->i = load_uint8_t(p) != 0;
		return;
	case MB_ENC_F32:
		out->kind = MB_VALUE_FLOAT;
		w = load_uint32_t(p);
		memcpy(&f32, &w, sizeof(f32));
		out->f = (double)f32;
		return;
	case MB_ENC_F64:
		out->kind = MB_VALUE_FLOAT;
		u = load_uint64_t(p);
		memcpy(&out->f, &u, sizeof(out->f));
		return;
	case MB_ENC_BITS_U:
		out->i = (int64_t)load_bits(p, f);
		if (f->plan->kind == MB_KIND_BOOL)
			out->kind = MB_VALUE_BOOL;
		else if (f->bits == 64)
			out->kind = MB_VALUE_UINT;
		return;
	case MB_ENC_BITS_S:
		out->i = extend(load_bits(p, f), f->bits);
		return;
	case MB_ENC_CHARS:
		out->kind = MB_VALUE_BYTES;
		out->bytes = (const char *)p;
		out->len = strnlen((const char *)p, f->plan->size);
		return;
	case MB_ENC_TEXT: /* none of it is within the type */
	case MB_ENC_BYTES:
	case MB_ENC_NONE:
		break;
	}
	out->kind = MB_VALUE_BYTES;
	out->bytes = (const char *)p;
	out->len = f->plan->size;
}

/* ---- checks --------------------------------------------------------------------------------------- */

static unsigned int width_of(const struct mb_field *f)
{
	return f->bits ? f->bits : f->plan->size * 8;
}

static int64_t highest(unsigned int bits)
{
	return (int64_t)((1ULL << (bits - 1)) - 1);
}

static const char *name_of(const struct mb_field *f)
{
	return f->name ? f->name : "element";
}

static int out_of_range(const struct mb_field *f, const struct mb_value *v, struct mb_error *err)
{
	unsigned int bits = width_of(f);
	char value[32], type[80];

	if (v->kind == MB_VALUE_FLOAT)
		snprintf(value, sizeof(value), "%g", v->f);
	else
		snprintf(value, sizeof(value), v->kind == MB_VALUE_UINT ? "%llu" : "%lld",
			 (unsigned long long)v->i);
	snprintf(type, sizeof(type), f->bits ? "%.60s : %u" : "%.60s", f->plan->name, f->bits);
	if (f->plan->is_signed)
		return mb_fail(err, ERANGE, "store", name_of(f),
			       "%s is out of range for %s (%lld..%lld)", value, type,
			       (long long)(-highest(bits) - 1), (long long)highest(bits));
	return mb_fail(err, ERANGE, "store", name_of(f), "%s is out of range for %s (0..%llu)",
		       value, type, bits == 64 ? ~0ULL : (1ULL << bits) - 1);
}

static int wrong_kind(const struct mb_field *f, const char *want, const struct mb_value *v,
		      struct mb_error *err)
{
	static const char *const got[] = { "an integer", "an integer", "a number with a fraction",
					   "a boolean", "a string" };
	char number[48] = "";

	if (v->kind == MB_VALUE_FLOAT)
		snprintf(number, sizeof(number), " (%g)", v->f);
	return mb_fail(err, EINVAL, "store", name_of(f), "it is %s and takes %s, not %s%s",
		       f->plan->name, want, got[v->kind], number);
}

static int check_int(const struct mb_field *f, const struct mb_value *v, struct mb_error *err)
{
	unsigned int bits = width_of(f);

	if (f->plan->kind == MB_KIND_BOOL && v->kind == MB_VALUE_BOOL)
		return 0;
	if (f->plan->kind == MB_KIND_BOOL)
		return (v->kind == MB_VALUE_INT || v->kind == MB_VALUE_UINT) &&
				       (v->i == 0 || v->i == 1) ?
			       0 :
			       wrong_kind(f, "a boolean, 0 or 1", v, err);
	if (v->kind == MB_VALUE_FLOAT && isfinite(v->f) && fabs(v->f) >= 0x1p63)
		return out_of_range(f, v, err); /* whole, but larger than any integer */
	if (v->kind != MB_VALUE_INT && v->kind != MB_VALUE_UINT)
		return wrong_kind(f, "an integer", v, err);
	if (bits == 64)
		return f->plan->is_signed && v->kind == MB_VALUE_UINT && v->i < 0 ?
			       out_of_range(f, v, err) :
			       0;
	if (v->kind == MB_VALUE_UINT && v->i < 0)
		return out_of_range(f, v, err);
	if (f->plan->is_signed ? v->i < -highest(bits) - 1 || v->i > highest(bits) :
				 v->i < 0 || (uint64_t)v->i >> bits)
		return out_of_range(f, v, err);
	return 0;
}

static int check_bytes(const struct mb_field *f, const struct mb_value *v, struct mb_error *err)
{
	if (v->kind != MB_VALUE_BYTES)
		return wrong_kind(f, "a string", v, err);
	if (v->len > f->plan->size)
		return mb_fail(err, ERANGE, "store", name_of(f), "%zu bytes do not fit into %s",
			       v->len, f->plan->name);
	if (f->enc == MB_ENC_BYTES && v->len != f->plan->size)
		return mb_fail(err, EINVAL, "store", name_of(f),
			       "%s takes exactly %u bytes, not %zu", f->plan->name, f->plan->size,
			       v->len);
	return 0;
}

static double as_double(const struct mb_value *v)
{
	if (v->kind == MB_VALUE_UINT)
		return (double)(uint64_t)v->i;
	return v->kind == MB_VALUE_FLOAT ? v->f : (double)v->i;
}

static int check_float(const struct mb_field *f, const struct mb_value *v, struct mb_error *err)
{
	if (v->kind == MB_VALUE_BOOL || v->kind == MB_VALUE_BYTES)
		return wrong_kind(f, "a number", v, err);
	if (f->enc == MB_ENC_F32 && isfinite(as_double(v)) && fabs(as_double(v)) > (double)FLT_MAX)
		return mb_fail(err, ERANGE, "store", name_of(f), "%g is out of range for %s",
			       as_double(v), f->plan->name);
	return 0;
}

int mb_value_check(const struct mb_field *f, const struct mb_value *value, struct mb_error *err)
{
	switch ((enum mb_enc)f->enc) {
	case MB_ENC_NONE:
		return wrong_kind(f, "a table or a view", value, err);
	case MB_ENC_TEXT: /* how long it may be is the view's to say */
		return value->kind == MB_VALUE_BYTES ? 0 : wrong_kind(f, "text", value, err);
	case MB_ENC_CHARS:
	case MB_ENC_BYTES:
		return check_bytes(f, value, err);
	case MB_ENC_F32:
	case MB_ENC_F64:
		return check_float(f, value, err);
	default:
		return check_int(f, value, err);
	}
}

/* ---- stores --------------------------------------------------------------------------------------- */

void mb_value_store(uint8_t *base, const struct mb_field *f, const struct mb_value *value)
{
	uint8_t *p = base + f->off;
	double d;
	float f32;
	uint64_t u;
	uint32_t w;

	switch ((enum mb_enc)f->enc) {
	case MB_ENC_BOOL:
	case MB_ENC_U8:
	case MB_ENC_S8:
		store_uint8_t(p, (uint8_t)value->i);
		return;
	case MB_ENC_U16:
	case MB_ENC_S16:
		store_uint16_t(p, (uint16_t)value->i);
		return;
	case MB_ENC_U32:
	case MB_ENC_S32:
		store_uint32_t(p, (uint32_t)value->i);
		return;
	case MB_ENC_U64:
	case MB_ENC_S64:
		store_uint64_t(p, (uint64_t)value->i);
		return;
	case MB_ENC_F32:
		f32 = (float)as_double(value);
		memcpy(&w, &f32, sizeof(w));
		store_uint32_t(p, w);
		return;
	case MB_ENC_F64:
		d = as_double(value);
		memcpy(&u, &d, sizeof(u));
		store_uint64_t(p, u);
		return;
	case MB_ENC_BITS_U:
	case MB_ENC_BITS_S:
		store_bits(p, f, (uint64_t)value->i);
		return;
	case MB_ENC_CHARS:
	case MB_ENC_BYTES:
		/* the tail first: a reader meanwhile sees an end */
		memset(p + value->len, 0, f->plan->size - value->len);
		memcpy(p, value->bytes, value->len);
		return;
	case MB_ENC_TEXT:
	case MB_ENC_NONE:
		return;
	}
}
