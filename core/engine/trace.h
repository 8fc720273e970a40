/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The kernel's trace pipe: what bpf_printk writes. Conventions as in engine.h.
 */
#ifndef MB_TRACE_H
#define MB_TRACE_H

#include "engine/engine.h"

struct mb_trace;

/* Open trace_pipe; mounts tracefs where nothing is. Lines that one reader has taken no other gets: the
 * pipe is the machine's. -EACCES, -EPERM, -ENOENT (no tracing in this kernel). */
int mb_trace_open(struct mb_trace **out, struct mb_error *err);
void mb_trace_close(struct mb_trace *trace);
void mb_trace_free(struct mb_trace *trace);
bool mb_trace_closed(const struct mb_trace *trace);
int mb_trace_fd(const struct mb_trace *trace);
/* The next line that is there, without its end, in memory until the next call: 1; 0: none now. */
int mb_trace_line(struct mb_trace *trace, const char **line, size_t *len, struct mb_error *err);
/* Wait for a line: 1; 0 when seconds (< 0: for ever) are over; -EINTR. */
int mb_trace_wait(struct mb_trace *trace, double seconds, int interrupt_fd, struct mb_error *err);

#endif
