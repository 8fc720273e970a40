/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A ring buffer's one consumer. Walks the kernel's memory itself, so that a record can be lent for
 * a turn without copy or callback: the place in the ring moves on when the turn ends.
 */
#include <poll.h>
#include <sys/epoll.h>
#include <time.h>

#include "internal.h"

#define RUN 256u  /* records that a reduction takes at once */
#define HEADER 8u /* of a record: length with two flag bits, page offset */

struct mb_reader {
	int fd;
	int poll_fd; /* an epoll of its own: fd is a file of the map's, and others may have it, too */
	char *name;
	struct mb_map *map; /* closed or not */
	struct mb_btf *btf; /* of plan */
	const struct mb_plan *plan;
	struct mb_region *region;
	uint64_t *consumer;	  /* a page of its own, ours to write */
	const uint64_t *producer; /* a page, then the data twice in a row */
	const uint8_t *data;
	size_t size, page;
	uint64_t at;	/* where the record at hand begins */
	uint64_t next;	/* where the one after it begins */
	uint64_t limit; /* of this drain */
	uint64_t left;	/* records that this drain may still take */
	uint64_t token; /* of the drain at hand; 0: none */
	uint64_t last_token;
	uint64_t consumed;
	bool in_turn;
};

/* ---- making ---------------------------------------------------------------------------------------- */

static int map_ring(struct mb_reader *r, struct mb_error *err)
{
	void *at = mmap(NULL, r->page, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);

	if (at == MAP_FAILED)
		return mb_fail(err, errno, "read ring", r->name, "cannot map it: %s",
			       mb_error_text(errno));
	r->consumer = at;
	at = mmap(NULL, r->page + 2 * r->size, PROT_READ, MAP_SHARED, r->fd, (off_t)r->page);
	if (at == MAP_FAILED)
		return mb_fail(err, errno, "read ring", r->name, "cannot map it: %s",
			       mb_error_text(errno));
	r->producer = at;
	r->data = (const uint8_t *)at + r->page;
	return 0;
}

static int make(struct mb_reader *r, struct mb_map *map, const struct mb_plan *plan,
		struct mb_error *err)
{
	r->name = strdup(map->name);
	if (!r->name)
		return mb_fail(err, ENOMEM, "read ring", map->name, "out of memory");
	r->size = map->info.max_entries;
	r->page = (size_t)sysconf(_SC_PAGESIZE);
	if (plan) {
		r->btf = mb_btf_ref(plan->btf);
		r->plan = plan;
	}
	r->fd = fcntl(map->fd, F_DUPFD_CLOEXEC, 3);
	if (r->fd < 0)
		return mb_fail(err, errno, "read ring", map->name, "%s", mb_error_text(errno));
	return map_ring(r, err);
}

/* What a loop polls must be gone when the reader closes. A duplicate of the map's fd is the same open
 * file, and stays in whatever epoll it was put into. */
static int make_poll_fd(struct mb_reader *r, struct mb_error *err)
{
	struct epoll_event readable = { .events = EPOLLIN };

	r->poll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (r->poll_fd < 0 || epoll_ctl(r->poll_fd, EPOLL_CTL_ADD, r->fd, &readable) != 0)
		return mb_fail(err, errno, "read ring", r->name, "%s", mb_error_text(errno));
	return 0;
}

static void lease_init(struct mb_region *lease, const struct mb_map *map,
		       const struct mb_plan *plan)
{
	memset(lease, 0, sizeof(*lease));
	lease->refs = 1; /* for ever: the memory is the caller's */
	lease->flags = MB_REGION_LEASE;
	lease->whole = plan;
	lease->ended = "the record's turn is over";
	snprintf(lease->name, sizeof(lease->name), "a record of '%.40s'", map->name);
}

int mb_reader_new(struct mb_map *map, const struct mb_plan *plan, struct mb_region *lease,
		  struct mb_reader **out, struct mb_error *err)
{
	int rc = mb_map_check(map, "read ring", err);
	struct mb_reader *r;

	if (rc)
		return rc;
	if (map->info.type != BPF_MAP_TYPE_RINGBUF)
		return mb_fail(err, EINVAL, "read ring", map->name,
			       "a map of type %s has no events", mb_map_type_name(map->info.type));
	r = calloc(1, sizeof(*r));
	if (!r)
		return mb_fail(err, ENOMEM, "read ring", map->name, "out of memory");
	r->fd = r->poll_fd = -1;
	lease_init(lease, map, plan);
	r->region = lease;
	r->map = mb_map_ref(map);
	rc = make(r, map, plan, err);
	if (!rc)
		rc = make_poll_fd(r, err);
	if (rc) {
		mb_reader_free(r);
		return rc;
	}
	*out = r;
	return 0;
}

/* ---- turns ------------------------------------------------------------------------------------------ */

static void end_turn(struct mb_reader *r)
{
	if (!r->in_turn)
		return;
	r->in_turn = false;
	r->region->gen++;
	r->consumed++;
	/* never back: another consumer may have gone on meanwhile */
	if (__atomic_load_n(r->consumer, __ATOMIC_RELAXED) == r->at)
		__atomic_store_n(r->consumer, r->next, __ATOMIC_RELEASE);
}

static void end_drain(struct mb_reader *r)
{
	r->token = 0;
	if (r->map->drainer == r)
		r->map->drainer = NULL;
}

void mb_reader_end(struct mb_reader *r, uint64_t token)
{
	if (r->fd < 0 || !token || token != r->token)
		return;
	end_turn(r);
	end_drain(r);
}

int mb_reader_begin(struct mb_reader *r, uint64_t max, uint64_t *token, struct mb_error *err)
{
	if (r->fd < 0)
		return mb_fail(err, EBADF, "read ring", r->name, "the reader is closed");
	if (r->map->drainer) {
		mb_fail(err, EBUSY, "read ring", r->name, "it is being drained%s",
			r->token ? "" : " by another reader");
		mb_error_hint(err,
			      "one drain at a time: let the other loop end, or break out of it");
		return -EBUSY;
	}
	r->limit = __atomic_load_n(r->producer, __ATOMIC_ACQUIRE);
	r->next = __atomic_load_n(r->consumer, __ATOMIC_RELAXED);
	r->left = max;
	r->map->drainer = r;
	r->token = ++r->last_token;
	*token = r->token;
	return 0;
}

int mb_reader_next(struct mb_reader *r, uint64_t token)
{
	uint64_t now;

	if (r->fd < 0 || token != r->token)
		return 0;
	end_turn(r);
	now = __atomic_load_n(r->consumer, __ATOMIC_RELAXED);
	if (now > r->next)
		r->next = now;
	while (r->left && r->next < r->limit) {
		const uint8_t *p = r->data + (r->next & (r->size - 1));
		uint32_t head =
			__atomic_load_n((const uint32_t *)(const void *)p, __ATOMIC_ACQUIRE);
		uint32_t len = head & ~(uint32_t)(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);

		if (head & BPF_RINGBUF_BUSY_BIT) /* reserved and not submitted yet */
			break;
		r->at = r->next;
		r->next += mb_round_up(len + HEADER, 8);
		if (head & BPF_RINGBUF_DISCARD_BIT) {
			__atomic_store_n(r->consumer, r->next, __ATOMIC_RELEASE);
			continue;
		}
		r->region->base = (uint8_t *)(uintptr_t)(p + HEADER);
		r->region->len = len;
		r->left--;
		r->in_turn = true;
		return 1;
	}
	mb_reader_end(r, token);
	return 0;
}

/* How many records from the one at hand on have the same header, up to a bound: they lie in a row,
 * since the data is mapped twice. */
static uint32_t same_records(const struct mb_reader *r, uint32_t head, size_t span)
{
	const uint8_t *p = r->region->base - HEADER;
	uint32_t n = 1;

	while (n < RUN && n <= r->left && r->at + (n + 1) * span <= r->limit &&
	       (r->at & (r->size - 1)) + (n + 1) * span <= 2 * r->size &&
	       __atomic_load_n((const uint32_t *)(const void *)(p + n * span), __ATOMIC_ACQUIRE) ==
		       head)
		n++;
	return n;
}

/* Take the record at hand, and those like it that follow, at once. */
static void reduce_run(struct mb_reader *r, uint32_t off, const struct mb_field *f,
		       struct mb_reduction *out)
{
	uint32_t head = (uint32_t)r->region->len, n;
	size_t span = r->next - r->at;

	n = same_records(r, head, span);
	mb_reduce_run(out, r->region->base + off, f, span, n);
	/* the turn covers all of them; end_turn counts one */
	r->next = r->at + n * span;
	r->consumed += n - 1;
	r->left -= n - 1;
}

int mb_reader_reduce(struct mb_reader *r, uint32_t off, const struct mb_field *f,
		     struct mb_reduction *out, struct mb_error *err)
{
	uint64_t token;
	int rc = mb_reader_begin(r, UINT64_MAX, &token, err);

	while (!rc && mb_reader_next(r, token) > 0) {
		if ((uint64_t)off + f->end <= r->region->len)
			reduce_run(r, off, f, out);
		else
			rc = mb_fail(err, ERANGE, "access", f->name,
				     "it ends at byte %u, but %s has only %zu", off + f->end,
				     r->region->name, r->region->len);
	}
	if (rc)
		mb_reader_end(r, token);
	return rc;
}

/* ---- waiting ---------------------------------------------------------------------------------------- */

static uint64_t pending(const struct mb_reader *r)
{
	return __atomic_load_n(r->producer, __ATOMIC_ACQUIRE) -
	       __atomic_load_n(r->consumer, __ATOMIC_RELAXED);
}

/* One ppoll until a moment (0: for ever) of mb_now_ns's clock. 1, 0 or -errno; -EINTR may be any
 * signal's. */
static int poll_until(struct pollfd *fds, nfds_t n, uint64_t until)
{
	uint64_t now = mb_now_ns(), left = until > now ? until - now : 0;
	struct timespec ts = { .tv_sec = (time_t)(left / 1000000000u),
			       .tv_nsec = (long)(left % 1000000000u) };
	int rc = ppoll(fds, n, until ? &ts : NULL, NULL);

	return rc < 0 ? -errno : rc > 0;
}

int mb_reader_wait(struct mb_reader *r, double seconds, int interrupt_fd, struct mb_error *err)
{
	struct pollfd fds[] = { { .fd = r->poll_fd, .events = POLLIN },
				{ .fd = interrupt_fd, .events = POLLIN } };
	uint64_t until = 0;
	int rc;

	if (r->fd < 0)
		return mb_fail(err, EBADF, "wait for", r->name, "the reader is closed");
	if (seconds != seconds)
		return mb_fail(err, EINVAL, "wait for", r->name, "the time is no number");
	if (seconds >= 0)
		until = mb_now_ns() + (uint64_t)((seconds > 1e9 ? 1e9 : seconds) * 1e9);
	do {
		rc = poll_until(fds, interrupt_fd >= 0 ? 2 : 1, until);
		if (interrupt_fd >= 0 && fds[1].revents)
			return mb_fail(err, EINTR, "wait for", r->name, "interrupted");
	} while (rc == -EINTR && (until || interrupt_fd >= 0));
	if (rc == -EINTR)
		rc = 0; /* without a limit, a signal is the only way out */
	if (rc < 0)
		return mb_fail(err, rc, "wait for", r->name, "%s", mb_error_text(-rc));
	return pending(r) > 0; /* also what was submitted without a wake-up */
}

/* ---- the end ----------------------------------------------------------------------------------------- */

void mb_reader_close(struct mb_reader *r)
{
	if (r->fd < 0)
		return;
	if (r->consumer && r->producer)
		end_turn(r);
	r->region->gen++;
	r->region->ended = "its reader is closed";
	r->region->base = NULL;
	r->region->len = 0;
	end_drain(r);
	if (r->consumer)
		munmap(r->consumer, r->page);
	if (r->producer)
		munmap((void *)(uintptr_t)r->producer, r->page + 2 * r->size);
	r->consumer = NULL;
	r->producer = NULL;
	if (r->poll_fd >= 0)
		close(r->poll_fd);
	close(r->fd);
	r->fd = r->poll_fd = -1;
}

void mb_reader_free(struct mb_reader *r)
{
	if (!r)
		return;
	mb_reader_close(r);
	mb_map_unref(r->map);
	mb_btf_unref(r->btf);
	free(r->name);
	free(r);
}

/* ---- asking ------------------------------------------------------------------------------------------ */

bool mb_reader_closed(const struct mb_reader *r)
{
	return r->fd < 0;
}

int mb_reader_fd(const struct mb_reader *r)
{
	return r->poll_fd;
}

const char *mb_reader_name(const struct mb_reader *r)
{
	return r->name;
}

const struct mb_plan *mb_reader_plan(const struct mb_reader *r)
{
	return r->plan;
}

int mb_reader_stats(struct mb_reader *r, struct mb_reader_stats *out, struct mb_error *err)
{
	if (r->fd < 0)
		return mb_fail(err, EBADF, "describe ring", r->name, "the reader is closed");
	*out = (struct mb_reader_stats){ r->consumed, pending(r), r->size };
	return 0;
}
