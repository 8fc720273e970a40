/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * User ring buffers: records from us for a program (bpf_user_ringbuf_drain). Conventions as in
 * engine.h.
 */
#ifndef MB_WRITER_H
#define MB_WRITER_H

#include "engine/engine.h"

struct mb_writer;

/* The one producer of a user ring buffer (Linux 6.1). plan: of the records; NULL: bytes. Holds its own
 * duplicate of the map's fd. -EINVAL: another type of map; -EBUSY: it has a writer. */
int mb_writer_new(struct mb_map *map, const struct mb_plan *plan, struct mb_writer **out,
		  struct mb_error *err);
/* What is reserved and not submitted is discarded, else the program would wait for it for ever. */
void mb_writer_close(struct mb_writer *writer);
void mb_writer_free(struct mb_writer *writer);
bool mb_writer_closed(const struct mb_writer *writer);
const char *mb_writer_name(const struct mb_writer *writer);
const struct mb_plan *mb_writer_plan(const struct mb_writer *writer);
/* Readable when the program has made room since it was last polled. */
int mb_writer_fd(const struct mb_writer *writer);
/* Room for a record of len bytes, zeroed: 1, and *out is the caller's reference on its region; 0: the
 * ring is full; -E2BIG: it never fits. Several may be reserved; the program gets them in the order of
 * their reservation, none before those reserved earlier are submitted or discarded. */
int mb_writer_reserve(struct mb_writer *writer, size_t len, struct mb_region **out,
		      struct mb_error *err);
/* End a reservation: the program gets it, or not (discard). Its views end. -EINVAL: it is not this
 * writer's, or has ended. */
int mb_writer_submit(struct mb_writer *writer, struct mb_region *region, bool discard,
		     struct mb_error *err);
/* Wait until there is room for len bytes: 1; 0 when seconds (< 0: for ever) are over; -EINTR. */
int mb_writer_wait(struct mb_writer *writer, size_t len, double seconds, int interrupt_fd,
		   struct mb_error *err);
struct mb_writer_stats {
	uint64_t submitted, discarded; /* records */
	uint64_t pending;	       /* bytes that the program has not taken yet */
	uint64_t size;		       /* bytes */
};
int mb_writer_stats(struct mb_writer *writer, struct mb_writer_stats *out, struct mb_error *err);

#endif
