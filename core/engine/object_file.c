/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An object's file in memory, read once through one fd: what is checked is what is opened. Debug
 * sections (DWARF: most of a file that was compiled with -g) are left as zeros that no page stands
 * for: neither libbpf nor we look into them.
 */
#include <gelf.h>

#include "engine/file.h"

#include "internal.h"

#define MAX_FILE (256u << 20)
/* Section headers and names beyond these sizes are of no compiler's; such a file is read whole. */
#define MAX_HEADERS 4096
#define MAX_NAMES (1u << 20)
/* A smaller debug section is not worth a system call more. */
#define WORTH 8192

struct gap {
	uint64_t from, to;
};

struct reading {
	int fd;
	size_t len; /* of the file */
	uint8_t *bytes;
	Elf64_Shdr *headers;
	const char *names; /* within bytes */
	struct gap *gaps;  /* by from, apart from each other */
	size_t ngaps;
};

/* Reads the bytes from…to of the file to where they belong. */
static int read_part(const struct reading *r, uint64_t from, uint64_t to)
{
	return mb_file_read_at(r->fd, r->bytes + from, to - from, from);
}

static bool within(const struct reading *r, uint64_t at, uint64_t size)
{
	return at <= r->len && size <= r->len - at;
}

/* Read a part that must lie within the file, for looking at it beforehand. */
static bool read_ahead(const struct reading *r, uint64_t at, uint64_t size)
{
	return size && within(r, at, size) && read_part(r, at, at + size) == 0;
}

static bool is_debug(const char *name)
{
	if (strncmp(name, ".rel", 4) == 0)
		name += 4;
	return strncmp(name, ".debug_", 7) == 0;
}

static int by_from(const void *a, const void *b)
{
	const struct gap *x = a, *y = b;

	return x->from < y->from ? -1 : x->from > y->from;
}

/* The debug sections. Any other section that shares bytes with one makes the file a strange one,
 * which is read whole; so does whatever else is not as a compiler writes it: check.c tells. */
static bool find_gaps(struct reading *r, uint32_t count, uint64_t names_len)
{
	for (uint32_t i = 1; i < count; i++) {
		const Elf64_Shdr *h = &r->headers[i];

		if (h->sh_name >= names_len)
			return false;
		if (h->sh_type != SHT_NOBITS && h->sh_size >= WORTH &&
		    within(r, h->sh_offset, h->sh_size) && is_debug(r->names + h->sh_name))
			r->gaps[r->ngaps++] =
				(struct gap){ h->sh_offset, h->sh_offset + h->sh_size };
	}
	qsort(r->gaps, r->ngaps, sizeof(r->gaps[0]), by_from);
	for (size_t i = 0; i < r->ngaps; i++) {
		const struct gap *gap = &r->gaps[i];

		if (i && gap->from < r->gaps[i - 1].to)
			return false;
		for (uint32_t j = 1; j < count; j++) {
			const Elf64_Shdr *h = &r->headers[j];

			if (h->sh_type != SHT_NOBITS && h->sh_size && h->sh_offset < gap->to &&
			    gap->from < h->sh_offset + h->sh_size &&
			    (h->sh_offset != gap->from || !is_debug(r->names + h->sh_name)))
				return false;
		}
	}
	return r->ngaps;
}

/* Its section headers and their names, when they are plain ones. */
static bool look(struct reading *r)
{
	Elf64_Ehdr e;
	const Elf64_Shdr *names;
	size_t headers_len;

	if (r->len < sizeof(e) || read_part(r, 0, sizeof(e)) != 0)
		return false;
	memcpy(&e, r->bytes, sizeof(e));
	if (memcmp(e.e_ident, ELFMAG, SELFMAG) != 0 || e.e_ident[EI_CLASS] != ELFCLASS64 ||
	    e.e_machine != EM_BPF || e.e_shentsize != sizeof(Elf64_Shdr) || !e.e_shnum ||
	    e.e_shnum > MAX_HEADERS || e.e_shstrndx >= e.e_shnum)
		return false;
	headers_len = e.e_shnum * sizeof(Elf64_Shdr);
	r->gaps = calloc(e.e_shnum, sizeof(r->gaps[0]));
	r->headers = malloc(headers_len); /* copied: in the file they may lie at any address */
	if (!r->gaps || !r->headers || !read_ahead(r, e.e_shoff, headers_len))
		return false;
	memcpy(r->headers, r->bytes + e.e_shoff, headers_len);
	names = &r->headers[e.e_shstrndx];
	if (names->sh_size > MAX_NAMES || !read_ahead(r, names->sh_offset, names->sh_size))
		return false;
	r->names = (const char *)r->bytes + names->sh_offset;
	return !r->names[names->sh_size - 1] && find_gaps(r, e.e_shnum, names->sh_size);
}

static int read_bytes(struct reading *r)
{
	uint64_t at = 0;
	int rc = 0;

	if (!look(r))
		r->ngaps = 0;
	for (size_t i = 0; !rc && i < r->ngaps; i++) {
		rc = read_part(r, at, r->gaps[i].from);
		at = r->gaps[i].to;
	}
	if (!rc)
		rc = read_part(r, at, r->len);
	free(r->headers);
	free(r->gaps);
	return rc;
}

int mb_object_file_read(const char *path, uint8_t **out, size_t *len, struct mb_error *err)
{
	struct reading r = { 0 };
	struct stat st;
	int rc;

	r.fd = mb_file_open(path, MAX_FILE, "open object", &st, err);
	if (r.fd < 0)
		return r.fd;
	r.len = (size_t)st.st_size;
	r.bytes = calloc(1, r.len + 1);
	if (!r.bytes)
		rc = mb_fail(err, ENOMEM, "open object", path, "out of memory");
	else if ((rc = read_bytes(&r)) != 0)
		rc = mb_fail(err, rc, "open object", path, "cannot read it whole");
	close(r.fd);
	if (rc) {
		free(r.bytes);
		return rc;
	}
	*out = r.bytes;
	*len = r.len;
	return 0;
}
