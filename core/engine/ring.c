/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Ring buffers: walks the kernel's memory itself, so that a record can be lent for a turn without
 * copy or callback. The place in the ring moves on when the turn ends.
 */
#include "reader.h"

#define RUN 256u  /* records that are taken together at most */
#define HEADER 8u /* of a record: length with two flag bits, page offset */

static int ring_open(struct mb_reader *r, struct mb_error *err)
{
	void *at;

	r->size = r->map->info.max_entries;
	at = mmap(NULL, r->page, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
	if (at == MAP_FAILED)
		return mb_fail(err, errno, "read ring", r->name, "cannot map it: %s",
			       mb_error_text(errno));
	r->ring.consumer = at;
	at = mmap(NULL, r->page + 2 * r->size, PROT_READ, MAP_SHARED, r->fd, (off_t)r->page);
	if (at == MAP_FAILED)
		return mb_fail(err, errno, "read ring", r->name, "cannot map it: %s",
			       mb_error_text(errno));
	r->ring.producer = at;
	r->ring.data = (const uint8_t *)at + r->page;
	return mb_reader_poll(r, r->fd, err);
}

static void ring_begin(struct mb_reader *r)
{
	r->ring.limit = __atomic_load_n(r->ring.producer, __ATOMIC_ACQUIRE);
	r->ring.next = __atomic_load_n(r->ring.consumer, __ATOMIC_RELAXED);
}

static int ring_next(struct mb_reader *r)
{
	struct mb_ring *ring = &r->ring;
	uint64_t now = __atomic_load_n(ring->consumer, __ATOMIC_RELAXED);

	if (now > ring->next) /* another consumer has gone on */
		ring->next = now;
	while (ring->next < ring->limit) {
		const uint8_t *p = ring->data + (ring->next & (r->size - 1));
		uint32_t head =
			__atomic_load_n((const uint32_t *)(const void *)p, __ATOMIC_ACQUIRE);
		uint32_t len = head & ~(uint32_t)(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);

		if (head & BPF_RINGBUF_BUSY_BIT) /* reserved and not submitted yet */
			break;
		if (len > r->size - HEADER) /* no record: another consumer left the place askew */
			break;
		ring->at = ring->next;
		ring->next += mb_round_up(len + HEADER, 8);
		if (head & BPF_RINGBUF_DISCARD_BIT) {
			__atomic_store_n(ring->consumer, ring->next, __ATOMIC_RELEASE);
			continue;
		}
		r->region->base = (uint8_t *)(uintptr_t)(p + HEADER);
		r->region->len = len;
		return 1;
	}
	return 0;
}

static void ring_consume(struct mb_reader *r)
{
	/* never back: another consumer may have gone on meanwhile */
	if (__atomic_load_n(r->ring.consumer, __ATOMIC_RELAXED) == r->ring.at)
		__atomic_store_n(r->ring.consumer, r->ring.next, __ATOMIC_RELEASE);
}

/* Records with the same header lie in a row, since the data is mapped twice. */
static uint32_t ring_run(struct mb_reader *r, size_t *out)
{
	struct mb_ring *ring = &r->ring;
	const uint8_t *p = r->region->base - HEADER;
	uint32_t head = (uint32_t)r->region->len, n = 1;
	size_t span = ring->next - ring->at;

	while (n < RUN && n <= r->left && ring->at + (n + 1) * span <= ring->limit &&
	       (ring->at & (r->size - 1)) + (n + 1) * span <= 2 * r->size &&
	       __atomic_load_n((const uint32_t *)(const void *)(p + n * span), __ATOMIC_ACQUIRE) ==
		       head)
		n++;
	ring->next = ring->at + n * span;
	*out = span;
	return n;
}

static uint64_t ring_pending(const struct mb_reader *r)
{
	return __atomic_load_n(r->ring.producer, __ATOMIC_ACQUIRE) -
	       __atomic_load_n(r->ring.consumer, __ATOMIC_RELAXED);
}

static void ring_close(struct mb_reader *r)
{
	if (r->ring.consumer)
		munmap(r->ring.consumer, r->page);
	if (r->ring.producer)
		munmap((void *)(uintptr_t)r->ring.producer, r->page + 2 * r->size);
	r->ring.consumer = NULL;
	r->ring.producer = NULL;
}

const struct mb_reader_kind mb_ring_kind = {
	.open = ring_open,
	.begin = ring_begin,
	.next = ring_next,
	.consume = ring_consume,
	.run = ring_run,
	.pending = ring_pending,
	.close = ring_close,
};
