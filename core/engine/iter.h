/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reading what an iterator program writes: bpf_seq_printf's text, bpf_seq_write's records.
 * Conventions as in engine.h.
 */
#ifndef MB_ITER_H
#define MB_ITER_H

#include "engine/engine.h"

struct mb_iter;

/* Start the program behind an iterator's link: it runs as it is read, each time from the beginning.
 * -EINVAL: the link is of another type. */
int mb_iter_open(struct mb_link *link, struct mb_iter **out, struct mb_error *err);
void mb_iter_free(struct mb_iter *iter);
/* Its next bytes, at most n and as many as there are before the end: how many, 0 at the end. */
int64_t mb_iter_read(struct mb_iter *iter, void *to, size_t n, struct mb_error *err);
/* Its next line, without the end of it, in the iterator's own memory until the next call: 1, or 0 at
 * the end. Not to be mixed with mb_iter_read. */
int mb_iter_line(struct mb_iter *iter, const char **line, size_t *len, struct mb_error *err);
/* A type of the program's object, by name. */
int mb_iter_type(const struct mb_link *link, const char *name, const struct mb_plan **out,
		 struct mb_error *err);

#endif
