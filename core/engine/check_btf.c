/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * .BTF, walked with bounds: every type lies within the section, every name and type id exists and
 * is of a kind that may stand there, nothing contains itself, members and variables lie within
 * what they are part of. Up to 1.1 libbpf looks at none of this, and up to 1.7 not at all of it.
 */
#include <linux/btf.h>

#include "check.h"
#include "internal.h"

/* libbpf recurses through nested types (btf__align_of), and so do we. The kernel takes 32 levels. */
#define MAX_HEIGHT 64
/* BTF counts bits in 32 bits, and libbpf and we sizes of sections in 31. */
#define MAX_COMPOSITE (UINT32_MAX / 8)
#define MAX_SECTION ((uint32_t)INT32_MAX)
/* Anonymous members show their own members as if they were their parent's: of one type, and of all
 * in a file, beyond those that it spells out. */
#define MAX_FLAT UINT16_MAX
#define MAX_FLAT_ALL (1u << 20)
#define OPEN UINT16_MAX

/* As in the format's first version, which every kind known here has: newer headers widen them. */
#define INFO_KIND(info) ((info) >> 24 & 0x1f)
#define INFO_VLEN(info) ((info)&0xffff)
#define INFO_KFLAG(info) ((info) >> 31)
#define INFO_RESERVED 0x60ff0000u

enum {
	IS_REF = 1,	/* .type is a type's id, else a size or nothing */
	ITEM_NAMES = 2, /* each item begins with a name */
	ITEM_TYPES = 4, /* then comes a type's id */
	NO_TARGET = 8,	/* types do not refer to it */
	WRAPS = 16,	/* as large as the type that it refers to */
};

static const struct {
	const char *name;
	uint8_t fixed; /* bytes after struct btf_type */
	uint8_t item;  /* then vlen times these */
	uint8_t is;
} kinds[] = {
	[BTF_KIND_UNKN] = { "void", 0, 0, 0 },
	[BTF_KIND_INT] = { "int", 4, 0, 0 },
	[BTF_KIND_PTR] = { "pointer", 0, 0, IS_REF },
	[BTF_KIND_ARRAY] = { "array", 12, 0, 0 },
	[BTF_KIND_STRUCT] = { "struct", 0, 12, ITEM_NAMES | ITEM_TYPES },
	[BTF_KIND_UNION] = { "union", 0, 12, ITEM_NAMES | ITEM_TYPES },
	[BTF_KIND_ENUM] = { "enum", 0, 8, ITEM_NAMES },
	[BTF_KIND_FWD] = { "forward", 0, 0, 0 },
	[BTF_KIND_TYPEDEF] = { "typedef", 0, 0, IS_REF | WRAPS },
	[BTF_KIND_VOLATILE] = { "volatile", 0, 0, IS_REF | WRAPS },
	[BTF_KIND_CONST] = { "const", 0, 0, IS_REF | WRAPS },
	[BTF_KIND_RESTRICT] = { "restrict", 0, 0, IS_REF | WRAPS },
	[BTF_KIND_FUNC] = { "function", 0, 0, IS_REF | NO_TARGET },
	[BTF_KIND_FUNC_PROTO] = { "prototype", 0, 8, IS_REF | ITEM_NAMES | ITEM_TYPES },
	[BTF_KIND_VAR] = { "variable", 4, 0, IS_REF | NO_TARGET },
	[BTF_KIND_DATASEC] = { "section", 0, 12, NO_TARGET },
	[BTF_KIND_FLOAT] = { "float", 0, 0, 0 },
	[BTF_KIND_DECL_TAG] = { "declaration tag", 4, 0, NO_TARGET },
	[BTF_KIND_TYPE_TAG] = { "type tag", 0, 0, IS_REF | WRAPS },
	[BTF_KIND_ENUM64] = { "enum64", 0, 12, ITEM_NAMES },
};

static struct btf_type type_at(const struct mb_check_btf *btf, uint32_t id)
{
	struct btf_type t = { 0 };

	if (id)
		memcpy(&t, btf->types + btf->at[id], sizeof(t));
	return t;
}

/* The word at a byte offset behind a type's struct btf_type. */
static uint32_t word_of(const struct mb_check_btf *btf, uint32_t id, uint32_t off)
{
	uint32_t word;

	memcpy(&word, btf->types + btf->at[id] + sizeof(struct btf_type) + off, sizeof(word));
	return word;
}

uint32_t mb_check_kind(const struct mb_check_btf *btf, uint32_t id)
{
	return INFO_KIND(type_at(btf, id).info);
}

__attribute__((format(__printf__, 3, 4))) static int bad_type(const struct mb_check_btf *btf,
							      uint32_t id, const char *fmt, ...)
{
	char text[200];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	return mb_check_damaged(btf->check, "section '.BTF': type %u (%s) %s", id,
				kinds[mb_check_kind(btf, id)].name, text);
}

/* ---- one type at a time ---------------------------------------------------------------------- */

static int check_name(const struct mb_check_btf *btf, uint32_t id, uint32_t name)
{
	if (name < btf->strs_len)
		return 0;
	return bad_type(btf, id, "has a name at %u, beyond the strings (%u bytes)", name,
			btf->strs_len);
}

static int check_id(const struct mb_check_btf *btf, uint32_t id, uint32_t ref)
{
	if (ref < btf->n)
		return 0;
	return bad_type(btf, id, "refers to type %u of %u", ref, btf->n - 1);
}

static int check_ref(const struct mb_check_btf *btf, uint32_t id, uint32_t ref)
{
	int rc = check_id(btf, id, ref);

	if (rc)
		return rc;
	if (kinds[mb_check_kind(btf, ref)].is & NO_TARGET)
		return bad_type(btf, id, "refers to type %u, a %s", ref,
				kinds[mb_check_kind(btf, ref)].name);
	return 0;
}

static int check_items(const struct mb_check_btf *btf, uint32_t id, const struct btf_type *t)
{
	uint32_t kind = INFO_KIND(t->info), n = INFO_VLEN(t->info);
	int rc = 0;

	for (uint32_t i = 0; i < n && !rc; i++) {
		if (kinds[kind].is & ITEM_NAMES)
			rc = check_name(btf, id, word_of(btf, id, i * kinds[kind].item));
		if (!rc && (kinds[kind].is & ITEM_TYPES))
			rc = check_ref(btf, id, word_of(btf, id, i * kinds[kind].item + 4));
	}
	return rc;
}

/* As the kernel has it; and a bool is a byte everywhere. */
static int check_int(const struct mb_check_btf *btf, uint32_t id, const struct btf_type *t)
{
	uint32_t word = word_of(btf, id, 0), encoding = BTF_INT_ENCODING(word);

	if (!t->size || t->size > 16)
		return bad_type(btf, id, "of %u bytes", t->size);
	if (!BTF_INT_BITS(word) || BTF_INT_OFFSET(word) + BTF_INT_BITS(word) > t->size * 8)
		return bad_type(btf, id, "of %u bytes has %u bits from bit %u", t->size,
				BTF_INT_BITS(word), BTF_INT_OFFSET(word));
	if ((encoding & (encoding - 1)) || encoding > BTF_INT_BOOL ||
	    (encoding == BTF_INT_BOOL && t->size > 1))
		return bad_type(btf, id, "of %u bytes has encoding %#x", t->size, encoding);
	return 0;
}

static int check_type(const struct mb_check_btf *btf, uint32_t id)
{
	struct btf_type t = type_at(btf, id);
	uint32_t kind = INFO_KIND(t.info);
	int rc = check_name(btf, id, t.name_off);

	if (!rc && (kinds[kind].is & IS_REF))
		rc = kind == BTF_KIND_FUNC ? check_id(btf, id, t.type) : check_ref(btf, id, t.type);
	if (!rc && kinds[kind].item)
		rc = check_items(btf, id, &t);
	if (rc)
		return rc;
	if (kind == BTF_KIND_INT) {
		rc = check_int(btf, id, &t);
	} else if (kind == BTF_KIND_ARRAY) {
		rc = check_ref(btf, id, word_of(btf, id, 0));
		if (!rc)
			rc = check_ref(btf, id, word_of(btf, id, 4));
	} else if (kind == BTF_KIND_FUNC) {
		if (mb_check_kind(btf, t.type) != BTF_KIND_FUNC_PROTO)
			rc = bad_type(btf, id, "has type %u, no prototype", t.type);
	} else if (kind == BTF_KIND_VAR) {
		if (!btf->strs[t.name_off])
			rc = bad_type(btf, id, "has no name");
	} else if (kind == BTF_KIND_DECL_TAG) {
		rc = check_id(btf, id, t.type);
	}
	return rc;
}

/* ---- nesting --------------------------------------------------------------------------------- */

/* The i-th type that is part of this one by value. */
static bool part_of(const struct mb_check_btf *btf, uint32_t id, uint32_t i, uint32_t *out)
{
	struct btf_type t = type_at(btf, id);
	uint32_t kind = INFO_KIND(t.info);

	if (kind == BTF_KIND_STRUCT || kind == BTF_KIND_UNION) {
		if (i >= INFO_VLEN(t.info))
			return false;
		*out = word_of(btf, id, i * (uint32_t)sizeof(struct btf_member) + 4);
		return true;
	}
	if (i)
		return false;
	if (kind == BTF_KIND_ARRAY)
		*out = word_of(btf, id, 0);
	else
		*out = t.type;
	return kind == BTF_KIND_ARRAY || (kinds[kind].is & WRAPS);
}

/* Depth first, without recursion: a chain of types may be as long as the file. */
static int check_nesting(const struct mb_check_btf *btf, uint32_t root)
{
	struct {
		uint32_t id, next;
		uint16_t tallest;
	} stack[MAX_HEIGHT], *top = stack;
	uint32_t part;

	*top = (typeof(*top)){ root, 0, 0 };
	btf->height[root] = OPEN;
	for (;;) {
		uint16_t height;

		if (part_of(btf, top->id, top->next, &part)) {
			top->next++;
			height = btf->height[part];
			if (height == OPEN)
				return bad_type(btf, part, "contains itself");
			if (!height) {
				if (top == &stack[MAX_HEIGHT - 1])
					return bad_type(btf, root, "is nested too deeply");
				*++top = (typeof(*top)){ part, 0, 0 };
				btf->height[part] = OPEN;
				continue;
			}
		} else {
			height = (uint16_t)(top->tallest + 1);
			if (height > MAX_HEIGHT)
				return bad_type(btf, top->id, "is nested too deeply");
			btf->height[top->id] = height;
			if (top-- == stack)
				return 0;
		}
		if (top->tallest < height)
			top->tallest = height;
	}
}

/* Bytes of a value; saturates. 0 for what has no size. The nesting is known to end. */
static uint64_t size_of(const struct mb_check_btf *btf, uint32_t id)
{
	uint64_t count = 1;

	for (;;) {
		struct btf_type t = type_at(btf, id);
		uint32_t kind = INFO_KIND(t.info);

		switch (kind) {
		case BTF_KIND_INT:
		case BTF_KIND_FLOAT:
		case BTF_KIND_ENUM:
		case BTF_KIND_ENUM64:
		case BTF_KIND_STRUCT:
		case BTF_KIND_UNION:
			return __builtin_mul_overflow(count, t.size, &count) ? UINT64_MAX : count;
		case BTF_KIND_PTR:
			return __builtin_mul_overflow(count, 8, &count) ? UINT64_MAX : count;
		case BTF_KIND_ARRAY:
			if (__builtin_mul_overflow(count, word_of(btf, id, 8), &count))
				return UINT64_MAX;
			id = word_of(btf, id, 0);
			break;
		default:
			if (!(kinds[kind].is & WRAPS))
				return 0;
			id = t.type;
		}
	}
}

/* ---- members and variables: do they lie within what they are part of? ------------------------ */

static int check_members(const struct mb_check_btf *btf, uint32_t id, const struct btf_type *t)
{
	uint64_t room = (uint64_t)t->size * 8;

	if (t->size > MAX_COMPOSITE)
		return bad_type(btf, id, "of %u bytes is too large", t->size);
	for (uint32_t i = 0; i < INFO_VLEN(t->info); i++) {
		uint32_t at = i * (uint32_t)sizeof(struct btf_member);
		uint32_t off = word_of(btf, id, at + 8);
		uint64_t bits = 0, size;

		if (INFO_KFLAG(t->info)) {
			bits = BTF_MEMBER_BITFIELD_SIZE(off);
			off = BTF_MEMBER_BIT_OFFSET(off);
		}
		/* Without the flag, an offset within a byte is an old compiler's bit field. */
		if (!bits && off % 8 == 0) {
			size = size_of(btf, word_of(btf, id, at + 4));
			bits = size > room / 8 ? room + 1 : size * 8;
		}
		if (off > room || bits > room - off)
			return bad_type(btf, id, "of %u bytes: member %u reaches beyond its end",
					t->size, i);
	}
	return 0;
}

struct datasec {
	const char *name;
	const struct mb_check_section *elf; /* NULL: no such section, as for .ksyms */
	uint64_t room;			    /* in which variables lie; UINT64_MAX: not known */
	uint64_t total;			    /* of the variables' types */
	bool kconfig, struct_ops;
};

static int check_var(const struct mb_check_btf *btf, uint32_t id, uint32_t i, struct datasec *sec)
{
	uint32_t at = i * (uint32_t)sizeof(struct btf_var_secinfo);
	uint32_t var = word_of(btf, id, at);
	uint64_t off = word_of(btf, id, at + 4), size = word_of(btf, id, at + 8), bytes;
	int rc = check_id(btf, id, var);

	if (rc)
		return rc;
	/* Functions stand in .ksyms; in .kconfig, libbpf writes to what it takes for a variable. */
	if (mb_check_kind(btf, var) == BTF_KIND_FUNC && !sec->kconfig)
		return 0;
	if (mb_check_kind(btf, var) != BTF_KIND_VAR)
		return bad_type(btf, id, "'%.64s': entry %u, type %u, is no variable", sec->name, i,
				var);
	/* What is only declared here lies elsewhere; so do static constants that LLVM puts into
	 * .rodata.cst16 and such, though it lists them for .rodata. */
	if (word_of(btf, var, 0) == BTF_VAR_GLOBAL_ALLOCATED && off + size > sec->room)
		return bad_type(btf, id, "'%.64s': variable %u, %llu bytes at %llu, is out of %llu",
				sec->name, i, (unsigned long long)size, (unsigned long long)off,
				(unsigned long long)sec->room);
	/* In these two, libbpf adds up the sizes of types, in 32 bits. Elsewhere a type may be
	 * larger than its variable: LLVM makes a bool of an int that is only 0 or 1. */
	bytes = sec->kconfig || sec->struct_ops ? size_of(btf, type_at(btf, var).type) : 0;
	if (sec->struct_ops && sec->elf && bytes > sec->elf->size)
		return bad_type(btf, id,
				"'%.64s': variable %u, type %u, is larger than the section",
				sec->name, i, var);
	if (bytes > INT32_MAX || (sec->total += bytes) > INT32_MAX)
		return bad_type(btf, id, "'%.64s': variable %u, type %u, is too large", sec->name,
				i, var);
	return 0;
}

/* clang leaves size and offsets 0: libbpf takes them from the ELF file. The static linker fills
 * them in. */
static int check_datasec(const struct mb_check_btf *btf, uint32_t id, const struct btf_type *t)
{
	struct datasec sec = { .name = btf->strs + t->name_off, .room = UINT64_MAX };
	int rc = 0;

	sec.elf = mb_check_find(btf->check, sec.name);
	sec.kconfig = strcmp(sec.name, ".kconfig") == 0;
	sec.struct_ops = strncmp(sec.name, ".struct_ops", 11) == 0 ||
			 strncmp(sec.name, "?.struct_ops", 12) == 0;
	if (t->size > MAX_SECTION)
		return bad_type(btf, id, "'%.64s': of %u bytes is too large", sec.name, t->size);
	if (t->size) {
		sec.room = t->size;
		if (sec.elf && t->size > sec.elf->size)
			return bad_type(btf, id, "'%.64s': of %u bytes, but the section has %llu",
					sec.name, t->size, (unsigned long long)sec.elf->size);
	}
	for (uint32_t i = 0; i < INFO_VLEN(t->info) && !rc; i++)
		rc = check_var(btf, id, i, &sec);
	return rc;
}

/* The struct or union that an anonymous member puts in its place, or 0. */
static uint32_t inlined(const struct mb_check_btf *btf, uint32_t id, uint32_t i)
{
	uint32_t at = i * (uint32_t)sizeof(struct btf_member), part = word_of(btf, id, at + 4);

	if (btf->strs[word_of(btf, id, at)])
		return 0;
	while (kinds[mb_check_kind(btf, part)].is & WRAPS)
		part = type_at(btf, part).type;
	switch (mb_check_kind(btf, part)) {
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		return part;
	default:
		return 0;
	}
}

/* How many members a type has when those of its anonymous members count as its own. A tower of
 * structs, each with the one below twice in it, has more than anyone can walk. */
static int check_flat(const struct mb_check_btf *btf, uint32_t root, uint32_t *total)
{
	struct {
		uint32_t id, next;
	} stack[MAX_HEIGHT], *top = stack;
	uint32_t n = 0;

	*top = (typeof(*top)){ root, 0 };
	for (;;) {
		uint32_t part = 0;

		if (top->next < INFO_VLEN(type_at(btf, top->id).info)) {
			part = inlined(btf, top->id, top->next++);
			/* what the root spells out is bounded by the file */
			if (top > stack && (++n > MAX_FLAT || ++*total > MAX_FLAT_ALL))
				return bad_type(btf, root,
						"has too many members in its anonymous "
						"members");
			if (part) /* the nesting is known to end */
				*++top = (typeof(*top)){ part, 0 };
		} else if (top-- == stack) {
			return 0;
		}
	}
}

static int check_layout(const struct mb_check_btf *btf, uint32_t id)
{
	struct btf_type t = type_at(btf, id);

	switch (INFO_KIND(t.info)) {
	case BTF_KIND_STRUCT:
	case BTF_KIND_UNION:
		return check_members(btf, id, &t);
	case BTF_KIND_DATASEC:
		return check_datasec(btf, id, &t);
	default:
		return 0;
	}
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int bad_btf(const struct mb_check *check, const char *what)
{
	return mb_check_damaged(check, "section '.BTF': %s", what);
}

static int check_header(struct mb_check_btf *btf, const struct mb_check_section *sec)
{
	const struct mb_check *check = btf->check;
	struct btf_header h;
	uint64_t room;

	if (sec->size < sizeof(h))
		return bad_btf(check, "has no header");
	memcpy(&h, sec->data, sizeof(h));
	if (h.magic != BTF_MAGIC)
		return bad_btf(check, "does not begin as BTF does");
	if (h.version != BTF_VERSION || h.flags)
		return bad_btf(check, "is of an unknown version");
	if (h.hdr_len < sizeof(h) || h.hdr_len > sec->size || h.hdr_len % 4)
		return bad_btf(check, "its header's length is wrong");
	room = sec->size - h.hdr_len;
	if (h.type_off % 4 || (uint64_t)h.type_off + h.type_len > h.str_off)
		return bad_btf(check, "its types are out of place");
	if ((uint64_t)h.str_off + h.str_len > room || !h.str_len)
		return bad_btf(check, "its strings are out of place");
	btf->types = sec->data + h.hdr_len + h.type_off;
	btf->types_len = h.type_len;
	btf->strs = (const char *)sec->data + h.hdr_len + h.str_off;
	btf->strs_len = h.str_len;
	if (btf->strs[0] || btf->strs[h.str_len - 1])
		return bad_btf(check, "its strings are not terminated");
	return 0;
}

/* Where does each type begin? Of a type, only its end is looked at. */
static int index_types(struct mb_check_btf *btf)
{
	uint32_t at = 0, room = btf->types_len / (uint32_t)sizeof(struct btf_type) + 1;
	struct btf_type t;

	btf->at = malloc(room * (sizeof(*btf->at) + sizeof(*btf->height)));
	if (!btf->at)
		return mb_fail(btf->check->err, ENOMEM, "open object", btf->check->subject,
			       "out of memory");
	btf->height = (uint16_t *)(btf->at + room);
	memset(btf->height, 0, room * sizeof(*btf->height));
	btf->height[0] = 1;
	btf->at[0] = 0;
	for (btf->n = 1; at < btf->types_len; btf->n++) {
		uint32_t kind, need;

		if (btf->types_len - at < sizeof(t))
			return bad_btf(btf->check, "its last type is cut off");
		memcpy(&t, btf->types + at, sizeof(t));
		kind = INFO_KIND(t.info);
		if (!kind || kind >= sizeof(kinds) / sizeof(kinds[0]) || (t.info & INFO_RESERVED))
			return mb_check_damaged(btf->check,
						"section '.BTF': type %u is of no known kind (%#x)",
						btf->n, t.info);
		need = (uint32_t)sizeof(t) + kinds[kind].fixed +
		       INFO_VLEN(t.info) * kinds[kind].item;
		btf->at[btf->n] = at;
		if (btf->types_len - at < need)
			return bad_type(btf, btf->n, "reaches beyond the end of the types");
		at += need;
	}
	return 0;
}

static int check_all(const struct mb_check_btf *btf)
{
	uint32_t flat = 0;
	int rc = 0;

	for (uint32_t id = 1; id < btf->n && !rc; id++)
		rc = check_type(btf, id);
	for (uint32_t id = 1; id < btf->n && !rc; id++)
		if (!btf->height[id])
			rc = check_nesting(btf, id);
	for (uint32_t id = 1; id < btf->n && !rc; id++)
		rc = check_layout(btf, id);
	for (uint32_t id = 1; id < btf->n && !rc; id++) {
		uint32_t kind = mb_check_kind(btf, id);

		if (kind == BTF_KIND_STRUCT || kind == BTF_KIND_UNION)
			rc = check_flat(btf, id, &flat);
	}
	return rc;
}

int mb_check_types(const struct mb_check *check, const struct mb_check_section *sec,
		   const struct mb_check_section *ext)
{
	struct mb_check_btf btf = { .check = check };
	int rc = check_header(&btf, sec);

	if (!rc)
		rc = index_types(&btf);
	if (!rc)
		rc = check_all(&btf);
	if (!rc && ext)
		rc = mb_check_ext(&btf, ext);
	free(btf.at);
	return rc;
}
