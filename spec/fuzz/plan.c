/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fuzzes types: whatever BTF says, each type compiles to a plan that is sound or is refused; names
 * and definitions stay within their room; what is listed is found by its name; and all of it takes
 * less than a second.
 */
#include "btf.h"

#define TOO_LONG 1.0 /* seconds of one input */

struct seen {
	const struct mb_plan *plan[1024];
	uint32_t n;
};

static bool first_time(struct seen *seen, const struct mb_plan *plan)
{
	for (uint32_t i = 0; i < seen->n; i++)
		if (seen->plan[i] == plan)
			return false;
	if (seen->n == sizeof(seen->plan) / sizeof(seen->plan[0]))
		return false;
	seen->plan[seen->n++] = plan;
	return true;
}

/* ---- what a plan must be ----------------------------------------------------------------------- */

static void check_scalar(const struct mb_plan *p)
{
	static const struct {
		uint8_t size; /* 0: any */
		bool is_signed;
	} encs[] = {
		[MB_ENC_U8] = { 1, false },    [MB_ENC_U16] = { 2, false },
		[MB_ENC_U32] = { 4, false },   [MB_ENC_U64] = { 8, false },
		[MB_ENC_S8] = { 1, true },     [MB_ENC_S16] = { 2, true },
		[MB_ENC_S32] = { 4, true },    [MB_ENC_S64] = { 8, true },
		[MB_ENC_BOOL] = { 1, false },  [MB_ENC_F32] = { 4, true },
		[MB_ENC_F64] = { 8, true },    [MB_ENC_CHARS] = { 0, false },
		[MB_ENC_BYTES] = { 0, false }, [MB_ENC_TEXT] = { 0, false },
	};

	EXPECT(p->enc > MB_ENC_NONE && p->enc < sizeof(encs) / sizeof(encs[0]) &&
		       p->enc != MB_ENC_BITS_U && p->enc != MB_ENC_BITS_S,
	       "%s: encoding %u", p->name, p->enc);
	EXPECT(!p->size == (p->enc == MB_ENC_TEXT) && p->size <= INT32_MAX, "%s: size %u", p->name,
	       p->size);
	EXPECT(!encs[p->enc].size || encs[p->enc].size == p->size, "%s: %u bytes, encoding %u",
	       p->name, p->size, p->enc);
	EXPECT(!encs[p->enc].size || encs[p->enc].is_signed == p->is_signed,
	       "%s: sign and encoding %u differ", p->name, p->enc);
	EXPECT(!p->nfields && !p->nchildren && p->flexible == (p->enc == MB_ENC_TEXT),
	       "%s: a scalar with parts", p->name);
	EXPECT((p->enc != MB_ENC_CHARS && p->enc != MB_ENC_TEXT) ||
		       (p->kind == MB_KIND_CHARS && p->count == p->size),
	       "%s: %u characters in %u bytes", p->name, p->count, p->size);
}

static void check_array(const struct mb_plan *p)
{
	const struct mb_field *f = p->fields;

	EXPECT(p->nfields == 1 && f && f->plan && !f->name, "%s: no element", p->name);
	EXPECT(p->stride && p->stride >= f->plan->size && f->plan->size, "%s: %u bytes each %u",
	       p->name, f->plan->size, p->stride);
	EXPECT((uint64_t)p->stride * p->count == p->size && p->size <= INT32_MAX,
	       "%s: %u of %u, %u in all", p->name, p->count, p->stride, p->size);
	EXPECT(p->flexible == !p->count, "%s: flexible with %u", p->name, p->count);
	EXPECT(!f->off && f->end == f->plan->size && f->enc == f->plan->enc && !f->bits,
	       "%s: element at %u to %u", p->name, f->off, f->end);
	EXPECT(f->child == (f->enc == MB_ENC_NONE) && p->nchildren == f->child,
	       "%s: child %u of %u", p->name, f->child, p->nchildren);
}

static void check_bits(const struct mb_plan *p, const struct mb_field *f)
{
	uint64_t from = (uint64_t)f->off * 8 + f->shift;

	EXPECT(f->bits && f->bits <= 64 && f->shift < 8, "%s.%s: bits %u, shift %u", p->name,
	       f->name, f->bits, f->shift);
	EXPECT(from + f->bits <= (uint64_t)f->end * 8 && f->end > f->off && f->end - f->off <= 9,
	       "%s.%s: bits %u from %u:%u, end %u", p->name, f->name, f->bits, f->off, f->shift,
	       f->end);
	EXPECT(f->bits <= f->plan->size * 8, "%s.%s: %u bits of %s", p->name, f->name, f->bits,
	       f->plan->name);
	EXPECT((f->enc == MB_ENC_BITS_S) == f->plan->is_signed, "%s.%s: sign", p->name, f->name);
}

static void check_fields(const struct mb_plan *p)
{
	uint32_t children = 0;

	EXPECT(p->enc == MB_ENC_NONE && p->size <= INT32_MAX, "%s: enc %u, size %u", p->name,
	       p->enc, p->size);
	for (uint32_t i = 0; i < p->nfields; i++) {
		const struct mb_field *f = &p->fields[i];

		EXPECT(f->name && f->plan, "%s: field %u has no name or type", p->name, i);
		EXPECT(f->off <= f->end && f->end <= p->size, "%s.%s: %u to %u of %u", p->name,
		       f->name, f->off, f->end, p->size);
		if (f->enc == MB_ENC_BITS_U || f->enc == MB_ENC_BITS_S) {
			check_bits(p, f);
		} else {
			EXPECT(f->enc == f->plan->enc && !f->bits && !f->shift,
			       "%s.%s: encoding %u of %u", p->name, f->name, f->enc, f->plan->enc);
			EXPECT(f->end - f->off >= f->plan->size &&
				       (p->kind == MB_KIND_SECTION ||
					f->end - f->off == f->plan->size),
			       "%s.%s: %u to %u, but %u bytes", p->name, f->name, f->off, f->end,
			       f->plan->size);
		}
		if (f->enc == MB_ENC_NONE)
			children++;
		EXPECT(f->child == (f->enc == MB_ENC_NONE ? children : 0),
		       "%s.%s: child %u, not %u", p->name, f->name, f->child, children);
	}
	EXPECT(p->nchildren == children, "%s: %u children, not %u", p->name, p->nchildren,
	       children);
}

static void check_plan(struct seen *seen, const struct mb_plan *p, unsigned int depth)
{
	EXPECT(depth < 80, "plans nest without end at %s", p->name);
	if (!first_time(seen, p))
		return;
	EXPECT(p->name && p->btf, "a plan without name or BTF");
	switch (p->kind) {
	case MB_KIND_ARRAY:
		check_array(p);
		break;
	case MB_KIND_STRUCT:
	case MB_KIND_UNION:
	case MB_KIND_SECTION:
		check_fields(p);
		break;
	case MB_KIND_GROUP:
		fuzz_fail(__FILE__, __LINE__, "%s: a group", p->name);
	default:
		check_scalar(p);
	}
	for (uint32_t i = 0; i < p->nfields; i++)
		check_plan(seen, p->fields[i].plan, depth + 1);
}

/* ---- the same once more, in the plainest way ---------------------------------------------------- */

struct members {
	const struct btf *btf;
	const struct mb_plan *plan;
	uint32_t at; /* the plan's field that comes next */
};

/* Through typedefs and qualifiers, at most as many as the engine goes. */
static uint32_t skip(const struct btf *btf, uint32_t id)
{
	const struct btf_type *t = btf__type_by_id(btf, id);

	for (int i = 0; t && i < 32; i++) {
		if (!btf_is_mod(t) && !btf_is_typedef(t))
			return id;
		id = t->type;
		t = btf__type_by_id(btf, id);
	}
	return 0;
}

/* Has a value of it any bytes that can be shown? An array of nothing has not. */
static bool has_layout(const struct btf *btf, uint32_t id)
{
	const struct btf_type *t = btf__type_by_id(btf, id = skip(btf, id)), *elem;

	if (!id || btf_is_fwd(t) || btf_is_func_proto(t))
		return false;
	if (!btf_is_array(t))
		return true;
	if (!has_layout(btf, btf_array(t)->type))
		return false;
	elem = btf__type_by_id(btf, skip(btf, btf_array(t)->type));
	return btf_is_array(elem) ? btf_array(elem)->nelems : btf_is_ptr(elem) || elem->size;
}

/* Each named member whose type has a layout is the next field, where BTF says it is. */
static void compare_members(struct members *m, const struct btf_type *t, uint64_t base)
{
	for (uint32_t i = 0; i < btf_vlen(t); i++) {
		const struct btf_member *member = btf_members(t) + i;
		const char *name = btf__name_by_offset(m->btf, member->name_off);
		const struct btf_type *mt = btf__type_by_id(m->btf, skip(m->btf, member->type));
		uint64_t bit = base + btf_member_bit_offset(t, i);
		uint32_t bits = btf_member_bitfield_size(t, i);
		const struct mb_field *f;

		if (!*name && btf_is_composite(mt)) {
			compare_members(m, mt, bit);
			continue;
		}
		if (!*name)
			continue;
		f = m->at < m->plan->nfields ? &m->plan->fields[m->at] : NULL;
		if (!has_layout(m->btf, member->type))
			continue;
		EXPECT(f && strcmp(f->name, name) == 0, "%s: %s is missing, field %u is %s",
		       m->plan->name, name, m->at, f ? f->name : "none");
		m->at++;
		if (!bits && f->bits) { /* of the old kind */
			bits = btf_int_bits(mt);
			bit += btf_int_offset(mt);
		}
		EXPECT((uint64_t)f->off * 8 + f->shift == bit && f->bits == bits,
		       "%s.%s: at %u:%u (%u bits), BTF has it at bit %llu (%u bits)", m->plan->name,
		       name, f->off, f->shift, f->bits, (unsigned long long)bit, bits);
	}
}

static void compare(const struct btf *raw, uint32_t id, const struct mb_plan *p)
{
	const struct btf_type *t = btf__type_by_id(raw, skip(raw, id));
	struct members m = { raw, p, 0 };
	int64_t size;

	if (p->kind != MB_KIND_STRUCT && p->kind != MB_KIND_UNION) {
		size = btf__resolve_size(raw, id);
		EXPECT(p->kind == MB_KIND_SECTION || size < 0 || size == p->size ||
			       p->kind == MB_KIND_POINTER,
		       "%s: %u bytes, libbpf has %lld", p->name, p->size, (long long)size);
		return;
	}
	EXPECT(t && btf_is_composite(t) && t->size == p->size, "%s: %u bytes", p->name, p->size);
	compare_members(&m, t, 0);
	EXPECT(m.at == p->nfields, "%s: field %u of %u is not in BTF", p->name, m.at, p->nfields);
}

/* ---- asking a plan --------------------------------------------------------------------------------- */

static void define(const struct mb_plan *p, size_t room)
{
	size_t want = mb_plan_define(p, NULL, 0), got;
	char *to = malloc(room ? room : 1);

	got = mb_plan_define(p, to, room);
	EXPECT(got == want, "%s: a definition of %zu bytes, then of %zu", p->name, want, got);
	if (room)
		EXPECT(strnlen(to, room) == (want < room ? want : room - 1),
		       "%s: %zu bytes of %zu written into %zu", p->name, strnlen(to, room), want,
		       room);
	free(to);
}

static void ask(const struct mb_plan *p, struct input *in)
{
	size_t len = mb_plan_define(p, NULL, 0);
	int64_t value;

	define(p, len + 1);
	define(p, len);
	define(p, take8(in));
	mb_plan_near(p, "a1b");
	for (uint32_t i = 0; i < p->nfields && i < 64 && p->fields[i].name; i++) {
		const struct mb_field *f = mb_plan_field(p, p->fields[i].name);

		EXPECT(f && f <= &p->fields[i] && strcmp(f->name, p->fields[i].name) == 0,
		       "%s: field %s is not found", p->name, p->fields[i].name);
	}
	for (uint32_t i = 0; i < p->nenums; i++) {
		EXPECT(!mb_plan_enum_value(p, p->enums[i].name, &value), "%s: %s is not found",
		       p->name, p->enums[i].name);
		EXPECT(mb_plan_enum_name(p, p->enums[i].value), "%s: %lld has no name", p->name,
		       (long long)p->enums[i].value);
	}
}

static void derive(struct seen *seen, const struct mb_plan *p, struct input *in)
{
	uint32_t stride = p->size + take8(in) % 16, count = take16(in);
	const struct mb_plan *array, *again;
	struct mb_error err = { 0 };
	int rc;

	if (!p->size)
		return;
	rc = mb_plan_array(p, stride, count + 1, &array, &err);
	EXPECT(rc == -err.code, "%s: an array of it: %d, %d", p->name, rc, err.code);
	if (!rc) {
		check_plan(seen, array, 0);
		EXPECT(!mb_plan_array(p, stride, count + 1, &again, NULL) && again == array,
		       "%s: another array of it", p->name);
		define(array, 64);
	}
	mb_error_fini(&err);
}

/* ---- one input ------------------------------------------------------------------------------------- */

static void compile_all(struct mb_btf *btf, const struct btf *raw, struct input *in)
{
	static struct seen seen;

	seen.n = 0;
	for (uint32_t id = 0; id < btf__type_cnt(raw) + 2; id++) {
		const struct mb_plan *p = NULL, *again;
		struct mb_error err = { 0 };
		int rc = mb_btf_plan(btf, id, &p, &err);

		EXPECT((!rc || rc == -err.code) && !rc == !!p, "type %u: answers %d, says %d", id,
		       rc, err.code);
		EXPECT(!rc || rc == -ENOTSUP || rc == -EINVAL || rc == -EFBIG || rc == -E2BIG,
		       "type %u: %s '%s'", id, mb_error_name(-rc), err.cause);
		mb_error_fini(&err);
		if (rc)
			continue;
		EXPECT(!mb_btf_plan(btf, id, &again, NULL) && p == again, "type %u: two plans", id);
		check_plan(&seen, p, 0);
		compare(raw, id, p);
		if (id < 256) {
			ask(p, in);
			derive(&seen, p, in);
		}
	}
}

/* "flow" is also found as "struct flow", whichever comes first. */
static bool same_name(const char *found, const char *name)
{
	const char *bare = strchr(found, ' ');

	return strcmp(found, name) == 0 || (bare && strcmp(bare + 1, name) == 0);
}

static void find_all(struct mb_btf *btf)
{
	uint32_t cursor = 0, last = 0, n = 0;
	const char *name;

	while (n++ < 256 && mb_btf_next(btf, &cursor, &name)) {
		const struct mb_plan *p;
		struct mb_error err = { 0 };
		int rc;

		EXPECT(cursor > last, "the list stands still at %u", cursor);
		last = cursor;
		if (strlen(name) > 150 || strcmp(name, "?") == 0 || strstr(name, "(anonymous)"))
			continue; /* cut off, or an empty name that has a place */
		rc = mb_btf_find(btf, name, &p, &err);
		EXPECT(rc != -ENOENT, "'%s' is listed, but not found", name);
		EXPECT(rc || same_name(p->name, name) || strchr(name, ' '), "'%s' is found as '%s'",
		       name, p->name);
		mb_error_fini(&err);
		mb_btf_near(btf, name);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = input_of(data, size);
	double from = cpu_seconds();
	size_t len;
	uint8_t *raw = read_btf(&in, &len);
	struct mb_btf *btf = open_btf(raw, len);

	if (btf) {
		struct btf *plain = btf__new(raw, (uint32_t)len);

		compile_all(btf, plain, &in);
		find_all(btf);
		btf__free(plain);
		mb_btf_unref(btf);
	}
	free(raw);
	EXPECT(cpu_seconds() - from < TOO_LONG, "it took %.1f s", cpu_seconds() - from);
	return 0;
}
