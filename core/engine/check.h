/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What check.c (ELF), check_btf.c (.BTF) and check_ext.c (.BTF.ext) share. All that these read
 * comes from a file that nobody vouches for: they copy words out, they never cast pointers.
 */
#ifndef MB_CHECK_H
#define MB_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mb_error;

struct mb_check_section {
	const char *name;
	const uint8_t *data; /* within the file; NULL: the section has no bytes in it */
	uint64_t size;
	uint64_t flags;
	uint64_t entsize;
	uint32_t type;
	uint32_t link;
	uint32_t info;
};

struct mb_check {
	const uint8_t *bytes;
	size_t len;
	const char *subject;
	struct mb_error *err;
	struct mb_check_section *secs; /* by ELF index; the first is none */
	size_t nsecs;
};

/* .BTF, once its every type is known to lie within it. */
struct mb_check_btf {
	const struct mb_check *check;
	const uint8_t *types;
	const char *strs;
	uint32_t types_len;
	uint32_t strs_len;
	uint32_t n;	  /* type ids: 0 (void) to n - 1 */
	uint32_t *at;	  /* by id: where in types it begins */
	uint16_t *height; /* by id: how deeply types are nested in it by value */
};

/* -EINVAL: the cause is fmt's text, with ? for all but printable ASCII. */
int mb_check_damaged(const struct mb_check *check, const char *fmt, ...)
	__attribute__((format(__printf__, 2, 3)));
/* The first section of that name, as libbpf finds it, or NULL. */
const struct mb_check_section *mb_check_find(const struct mb_check *check, const char *name);
/* check_btf.c. ext may be NULL. */
int mb_check_types(const struct mb_check *check, const struct mb_check_section *sec,
		   const struct mb_check_section *ext);
uint32_t mb_check_kind(const struct mb_check_btf *btf, uint32_t id);
/* check_ext.c */
int mb_check_ext(const struct mb_check_btf *btf, const struct mb_check_section *sec);

#endif
