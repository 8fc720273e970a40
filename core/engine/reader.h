/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A reader's inside, for reader.c (turns and drains), ring.c (ring buffers) and perf.c (perf event
 * arrays). engine.h has what others use.
 */
#ifndef MB_READER_H
#define MB_READER_H

#include "internal.h"

struct mb_reader;
struct mb_perf;

/* What a kind of buffer does. Only of an open reader, but for close. */
struct mb_reader_kind {
	int (*open)(struct mb_reader *r, struct mb_error *err);
	/* A drain begins: what is there now is its limit. */
	void (*begin)(struct mb_reader *r);
	/* Put the next record behind r->region: 1, or 0 at the limit. */
	int (*next)(struct mb_reader *r);
	/* The record at hand is consumed. */
	void (*consume)(struct mb_reader *r);
	/* A drain is over. NULL: nothing to do. */
	void (*end)(struct mb_reader *r);
	/* How many records from the one at hand on are like it and lie in a row, *span bytes apart: taken
	 * together, its turn covers all of them. NULL: one. */
	uint32_t (*run)(struct mb_reader *r, size_t *span);
	uint64_t (*pending)(const struct mb_reader *r); /* bytes */
	void (*close)(struct mb_reader *r);		/* also of one that opened by half */
};

struct mb_ring {
	uint64_t *consumer;	  /* a page of its own, ours to write */
	const uint64_t *producer; /* a page, then the data twice in a row */
	const uint8_t *data;
	uint64_t at;	/* where the record at hand begins */
	uint64_t next;	/* where the one after it begins */
	uint64_t limit; /* of this drain */
};

struct mb_reader {
	const struct mb_reader_kind *kind;
	int fd;
	int poll_fd; /* an epoll of its own: fd is a file of the map's, and others may have it, too */
	char *name;
	struct mb_map *map; /* closed or not */
	struct mb_btf *btf; /* of plan */
	const struct mb_plan *plan;
	struct mb_region *region;
	size_t size, page;
	uint32_t pages; /* per CPU, of a perf buffer */
	union {
		struct mb_ring ring;
		struct mb_perf *perf;
	};
	uint64_t left;	/* records that this drain may still take */
	uint64_t token; /* of the drain at hand; 0: none */
	uint64_t last_token;
	uint64_t consumed;
	bool in_turn;
	bool counts_lost;
	uint64_t lost;		       /* as far as the buffer itself tells */
	struct mb_region *lost_in;     /* the section with the ring's counter, or NULL */
	const struct mb_field *lost_f; /* of btf_lost */
	struct mb_btf *lost_btf;
};

extern const struct mb_reader_kind mb_ring_kind, mb_perf_kind;

/* Let poll_fd be readable when fd is. */
int mb_reader_poll(struct mb_reader *r, int fd, struct mb_error *err);

#endif
