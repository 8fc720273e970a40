/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The third list of .BTF.ext, which libbpf reads and does not tell. check_ext.c has walked it with
 * bounds when the file was opened; here types are followed with bounds, too, since the indices in an
 * access string are checked by nobody before the load.
 */
#include "engine/relocation.h"

#include <bpf/btf.h>

#include "internal.h"

enum { RECORD = 16 }; /* instruction, type, access string, kind; more may follow */

static uint32_t word_at(const uint8_t *p, size_t i)
{
	uint32_t word;

	memcpy(&word, p + i * sizeof(word), sizeof(word));
	return word;
}

int mb_relocations_keep(struct mb_object *obj, const void *ext, size_t len)
{
	const uint8_t *h = ext;
	uint32_t header, at, n;
	uint8_t *copy;

	if (len < 8 || (header = word_at(h, 1)) < 32 || header > len)
		return 0;
	at = word_at(h, 6);
	n = word_at(h, 7);
	if (!n || at > len - header || n > len - header - at)
		return 0;
	copy = mb_btf_alloc(obj->btf, n);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, h + header + at, n);
	obj->relocations = copy;
	obj->relocations_len = n;
	return 0;
}

static const char *kind_name(uint32_t kind)
{
	static const char *const names[] = {
		"offset",      "size",	     "exists",	       "signed",      "shift_left",
		"shift_right", "type_id",    "type_id_kernel", "type_exists", "type_size",
		"enum_exists", "enum_value", "type_matches",
	};

	return kind < sizeof(names) / sizeof(names[0]) ? names[kind] : "unknown";
}

static const struct btf_type *resolve(const struct btf *btf, uint32_t id)
{
	const struct btf_type *t = btf__type_by_id(btf, id);

	for (int depth = 0; t && depth < 32; depth++) {
		if (!btf_is_mod(t) && !btf_is_typedef(t))
			return t;
		t = btf__type_by_id(btf, t->type);
	}
	return NULL;
}

static void name_type(const struct btf *btf, uint32_t id, struct mb_relocation *out)
{
	const struct btf_type *t = btf__type_by_id(btf, id);
	const char *name, *tag = "";

	while (t && btf_is_mod(t))
		t = btf__type_by_id(btf, t->type);
	name = t ? btf__name_by_offset(btf, t->name_off) : NULL;
	if (t && btf_is_composite(t))
		tag = btf_is_union(t) ? "union " : "struct ";
	else if (t && btf_is_any_enum(t))
		tag = "enum ";
	snprintf(out->type, sizeof(out->type), "%s%s", tag, name && *name ? name : "(anonymous)");
}

static void append(struct mb_relocation *out, const char *dot, const char *text)
{
	size_t n = strlen(out->field);

	snprintf(out->field + n, sizeof(out->field) - n, "%s%s", n ? dot : "", text);
}

/* A step into t by index; NULL: there is no such thing. */
static const struct btf_type *step(const struct btf *btf, const struct btf_type *t, uint32_t i,
				   struct mb_relocation *out)
{
	char text[16];

	if (btf_is_composite(t) && i < btf_vlen(t)) {
		const struct btf_member *m = btf_members(t) + i;
		const char *name = btf__name_by_offset(btf, m->name_off);

		if (name && *name)
			append(out, ".", name);
		return resolve(btf, m->type);
	}
	if (!btf_is_array(t))
		return NULL;
	snprintf(text, sizeof(text), "[%u]", i);
	append(out, "", text);
	return resolve(btf, btf_array(t)->type);
}

static void name_enumerator(const struct btf *btf, const struct btf_type *t, uint32_t i,
			    struct mb_relocation *out)
{
	const char *name = NULL;

	if (i >= btf_vlen(t))
		return;
	if (btf_is_enum(t))
		name = btf__name_by_offset(btf, btf_enum(t)[i].name_off);
	else
		name = btf__name_by_offset(btf, btf_enum64(t)[i].name_off);
	append(out, "", name ? name : "");
}

/* "0:3:1": an index of the whole, then of members and elements. Of an enum: which one. */
static void name_field(const struct btf *btf, uint32_t id, const char *access,
		       struct mb_relocation *out)
{
	const struct btf_type *t = resolve(btf, id);
	char *end;
	uint32_t i = (uint32_t)strtoul(access, &end, 10);

	if (!t || end == access)
		return;
	if (btf_is_any_enum(t)) {
		name_enumerator(btf, t, i, out);
		return;
	}
	while (t && *end == ':') {
		const char *at = end + 1;

		i = (uint32_t)strtoul(at, &end, 10);
		if (end == at)
			return;
		t = step(btf, t, i, out);
	}
}

int mb_relocation_next(const struct mb_object *obj, struct mb_relocation_iter *it,
		       struct mb_relocation *out)
{
	const struct btf *btf = obj->btf ? obj->btf->btf : NULL;
	const uint8_t *list = obj->relocations;
	size_t len = obj->relocations_len;
	uint32_t size;
	const char *access;

	if (!btf || !list || len < 4)
		return 0;
	size = word_at(list, 0);
	if (size < RECORD)
		return 0;
	if (!it->at)
		it->at = 4;
	while (!it->left) {
		if (len - it->at < 8)
			return 0;
		it->section = word_at(list + it->at, 0);
		it->left = word_at(list + it->at, 1);
		it->at += 8;
	}
	if (len - it->at < size)
		return 0;
	memset(out, 0, sizeof(*out));
	out->section = btf__name_by_offset(btf, it->section);
	out->kind = kind_name(word_at(list + it->at, 3));
	name_type(btf, word_at(list + it->at, 1), out);
	access = btf__name_by_offset(btf, word_at(list + it->at, 2));
	if (access)
		name_field(btf, word_at(list + it->at, 1), access, out);
	it->at += size;
	it->left--;
	return 1;
}
