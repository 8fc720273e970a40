/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * .BTF.ext, walked with bounds: which function, source line and CO-RE relocation belongs to which
 * instruction. Each kind is a list of blocks, one per section of code, of records of one size.
 */
#include "check.h"
#include "internal.h"

struct records {
	const char *what;
	uint32_t size; /* of a record, at least */
	int type;      /* which of its words is a type's id, and which is a name; 0: none */
	int name;
};

static const struct records known[] = {
	{ "function", 8, 1, 0 },
	{ "line", 16, 0, 1 },
	{ "CO-RE relocation", 16, 1, 2 },
};

static uint32_t word_at(const uint8_t *p, size_t i)
{
	uint32_t word;

	memcpy(&word, p + i * sizeof(word), sizeof(word));
	return word;
}

static int bad_ext(const struct mb_check_btf *btf, const struct records *r, const char *what,
		   uint64_t at)
{
	return mb_check_damaged(btf->check, "section '.BTF.ext': %s records: %s at byte %llu",
				r->what, what, (unsigned long long)at);
}

/* sec: the section of code; NULL: it is not in this file. */
static int check_record(const struct mb_check_btf *btf, const struct records *r,
			const struct mb_check_section *sec, const uint8_t *rec, uint64_t at)
{
	uint32_t insn = word_at(rec, 0);

	if (sec && insn > sec->size)
		return bad_ext(btf, r, "instruction beyond its section's end", at);
	if (insn % 8)
		return bad_ext(btf, r, "instruction at an odd place", at);
	if (r->type) {
		uint32_t id = word_at(rec, (size_t)r->type);

		if (id >= btf->n)
			return bad_ext(btf, r, "type id out of range", at);
		if (r == &known[0] && mb_check_kind(btf, id) != BTF_KIND_FUNC)
			return bad_ext(btf, r, "type is no function", at);
	}
	if (r->name && word_at(rec, (size_t)r->name) >= btf->strs_len)
		return bad_ext(btf, r, "name beyond the strings", at);
	return 0;
}

/* Blocks from here to the end: section's name, count, records. */
static int check_blocks(const struct mb_check_btf *btf, const struct records *r, const uint8_t *ext,
			uint64_t at, uint64_t end, uint32_t size)
{
	while (at < end) {
		const struct mb_check_section *sec;
		uint32_t name, n;
		int rc;

		if (end - at < 8)
			return bad_ext(btf, r, "block cut off", at);
		name = word_at(ext + at, 0);
		n = word_at(ext + at, 1);
		if (name >= btf->strs_len)
			return bad_ext(btf, r, "section's name beyond the strings", at);
		at += 8;
		if ((end - at) / size < n)
			return bad_ext(btf, r, "too many records", at);
		sec = mb_check_find(btf->check, btf->strs + name);
		for (; n; n--, at += size) {
			rc = check_record(btf, r, sec, ext + at, at);
			if (rc)
				return rc;
		}
	}
	return 0;
}

/* One of the three lists: where the header says. */
static int check_list(const struct mb_check_btf *btf, const struct records *r,
		      const struct mb_check_section *sec, uint64_t at, uint32_t len)
{
	uint32_t size;

	if (!len)
		return 0;
	if (at % 4 || at > sec->size || sec->size - at < len || len < 4)
		return bad_ext(btf, r, "out of place", at);
	size = word_at(sec->data + at, 0);
	if (size < r->size || size % 4)
		return bad_ext(btf, r, "wrong size", at);
	return check_blocks(btf, r, sec->data, at + 4, at + len, size);
}

int mb_check_ext(const struct mb_check_btf *btf, const struct mb_check_section *sec)
{
	static const char where[] = "section '.BTF.ext'";
	const uint8_t *h = sec->data;
	uint32_t hdr_len;
	uint16_t magic;
	int rc = 0;

	/* magic, version, flags; header's length; then offset and length of each list */
	if (sec->size < 8)
		return mb_check_damaged(btf->check, "%s: has no header", where);
	memcpy(&magic, h, sizeof(magic));
	if (magic != BTF_MAGIC || h[2] != BTF_VERSION || h[3])
		return mb_check_damaged(btf->check, "%s: does not begin as it should", where);
	hdr_len = word_at(h, 1);
	if (hdr_len < 24 || hdr_len % 4 || hdr_len > sec->size)
		return mb_check_damaged(btf->check, "%s: its header's length is wrong", where);
	/* Without the third before CO-RE. */
	for (size_t i = 0; i < 3 && hdr_len >= 16 + 8 * i && !rc; i++)
		rc = check_list(btf, &known[i], sec, (uint64_t)hdr_len + word_at(h, 2 + 2 * i),
				word_at(h, 3 + 2 * i));
	return rc;
}
