/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The one producer of a user ring buffer. The program's side of the protocol is the kernel's
 * (__bpf_user_ringbuf_peek): it stops at a record that is still busy, and passes over discarded ones.
 */
#include <poll.h>
#include <sys/epoll.h>
#include <time.h>

#include "engine/hold.h"
#include "engine/writer.h"
#include "internal.h"

#define HEADER 8u /* of a record: length with two flag bits, and 4 bytes that nobody reads */

struct reservation {
	struct reservation *next;
	struct mb_region *region; /* ours: views of the record */
	uint8_t *header;
};

struct mb_writer {
	int fd;
	int poll_fd; /* an epoll: told by each drain that made room, once */
	char *name;
	struct mb_map *map;
	struct mb_btf *btf;
	const struct mb_plan *plan;
	const uint64_t *consumer; /* a page of its own, the kernel's to write */
	uint64_t *producer;	  /* a page, then the data twice in a row */
	uint8_t *data;
	size_t size, page;
	struct reservation *reserved;
	uint64_t submitted, discarded;
};

static const char *const OP = "write ring";

/* ---- making ---------------------------------------------------------------------------------------- */

static int map_ring(struct mb_writer *w, struct mb_error *err)
{
	void *at = mmap(NULL, w->page, PROT_READ, MAP_SHARED, w->fd, 0);

	if (at == MAP_FAILED)
		return mb_fail(err, errno, OP, w->name, "cannot map it: %s", mb_error_text(errno));
	w->consumer = at;
	at = mmap(NULL, w->page + 2 * w->size, PROT_READ | PROT_WRITE, MAP_SHARED, w->fd,
		  (off_t)w->page);
	if (at == MAP_FAILED)
		return mb_fail(err, errno, OP, w->name, "cannot map it: %s", mb_error_text(errno));
	w->producer = at;
	w->data = (uint8_t *)at + w->page;
	return 0;
}

static int make(struct mb_writer *w, struct mb_map *map, const struct mb_plan *plan,
		struct mb_error *err)
{
	struct epoll_event room = { .events = EPOLLOUT | EPOLLET };

	w->name = strdup(map->name);
	if (!w->name)
		return mb_fail(err, ENOMEM, OP, map->name, "out of memory");
	w->size = map->info.max_entries;
	w->page = (size_t)sysconf(_SC_PAGESIZE);
	if (plan) {
		w->btf = mb_btf_ref(plan->btf);
		w->plan = plan;
	}
	w->fd = fcntl(map->fd, F_DUPFD_CLOEXEC, 3);
	if (w->fd < 0)
		return mb_fail(err, errno, OP, w->name, "%s", mb_error_text(errno));
	w->poll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (w->poll_fd < 0 || epoll_ctl(w->poll_fd, EPOLL_CTL_ADD, w->fd, &room) != 0)
		return mb_fail(err, errno, OP, w->name, "%s", mb_error_text(errno));
	return map_ring(w, err);
}

int mb_writer_new(struct mb_map *map, const struct mb_plan *plan, struct mb_writer **out,
		  struct mb_error *err)
{
	int rc = mb_map_check(map, OP, err);
	struct mb_writer *w;

	if (!rc)
		rc = mb_refuse(OP, map->name, err);
	if (rc)
		return rc;
	if (map->info.type != BPF_MAP_TYPE_USER_RINGBUF) {
		mb_fail(err, EINVAL, OP, map->name, "a map of type %s takes no records from us",
			mb_map_type_name(map->info.type));
		mb_error_hint(err, "in C: __uint(type, BPF_MAP_TYPE_USER_RINGBUF); (Linux 6.1)");
		return -EINVAL;
	}
	if (map->writer) {
		mb_fail(err, EBUSY, OP, map->name, "it has a writer");
		mb_error_hint(err, "a user ring buffer has one: use that, or close it first");
		return -EBUSY;
	}
	w = calloc(1, sizeof(*w));
	if (!w)
		return mb_fail(err, ENOMEM, OP, map->name, "out of memory");
	w->fd = w->poll_fd = -1;
	w->map = mb_map_ref(map);
	map->writer = w;
	rc = make(w, map, plan, err);
	if (rc) {
		mb_writer_free(w);
		return rc;
	}
	*out = w;
	return 0;
}

/* ---- records ----------------------------------------------------------------------------------------- */

static uint64_t pending(const struct mb_writer *w)
{
	return __atomic_load_n(w->producer, __ATOMIC_RELAXED) -
	       __atomic_load_n(w->consumer, __ATOMIC_ACQUIRE);
}

static size_t span_of(size_t len)
{
	return mb_round_up(len + HEADER, 8);
}

static int check_len(const struct mb_writer *w, size_t len, const char *op, struct mb_error *err)
{
	if (w->fd < 0)
		return mb_fail(err, EBADF, op, w->name, "the writer is closed");
	if (!len || len > w->size - HEADER)
		return mb_fail(err, E2BIG, op, w->name,
			       "a record of %zu bytes never fits: 1 to %zu bytes do", len,
			       w->size - HEADER);
	return 0;
}

static void set_header(uint8_t *header, uint32_t value)
{
	__atomic_store_n((uint32_t *)(void *)header, value, __ATOMIC_RELEASE);
}

int mb_writer_reserve(struct mb_writer *w, size_t len, struct mb_region **out, struct mb_error *err)
{
	int rc = check_len(w, len, OP, err);
	struct reservation *res;
	uint64_t at;

	if (!rc)
		rc = mb_refuse(OP, w->name, err);
	if (rc)
		return rc;
	if (w->size - pending(w) < span_of(len))
		return 0;
	res = calloc(1, sizeof(*res));
	if (res)
		res->region = mb_region_bytes(0, MB_REGION_WRITABLE, "a reserved record");
	if (!res || !res->region) {
		free(res);
		return mb_fail(err, ENOMEM, OP, w->name, "out of memory");
	}
	at = __atomic_load_n(w->producer, __ATOMIC_RELAXED);
	res->header = w->data + (at & (w->size - 1));
	res->region->base = res->header + HEADER;
	res->region->len = len;
	res->region->whole = w->plan;
	memset(res->header, 0, span_of(len));
	set_header(res->header, (uint32_t)len | BPF_RINGBUF_BUSY_BIT);
	__atomic_store_n(w->producer, at + span_of(len), __ATOMIC_RELEASE);
	res->next = w->reserved;
	w->reserved = res;
	*out = mb_region_ref(res->region);
	return 1;
}

static void end_reservation(struct mb_writer *w, struct reservation *res, bool discard)
{
	uint32_t len = (uint32_t)res->region->len;

	set_header(res->header, discard ? len | BPF_RINGBUF_DISCARD_BIT : len);
	if (discard)
		w->discarded++;
	else
		w->submitted++;
	mb_region_end(res->region, discard ? "it was discarded" : "it was submitted");
	res->region->base = NULL;
	res->region->len = 0;
	mb_region_unref(res->region);
	free(res);
}

int mb_writer_submit(struct mb_writer *w, struct mb_region *region, bool discard,
		     struct mb_error *err)
{
	struct reservation **at = &w->reserved, *res;

	if (w->fd < 0)
		return mb_fail(err, EBADF, OP, w->name, "the writer is closed");
	if (mb_refuse(OP, w->name, err) != 0)
		return -EPERM;
	while (*at && (*at)->region != region)
		at = &(*at)->next;
	if (!*at) {
		mb_fail(err, EINVAL, OP, w->name, "that is no record that it has reserved");
		mb_error_hint(err, "what w:reserve() gave, once: w:submit(v) or w:discard(v)");
		return -EINVAL;
	}
	res = *at;
	*at = res->next;
	end_reservation(w, res, discard);
	return 0;
}

/* ---- waiting ----------------------------------------------------------------------------------------- */

/* 1 told, 0 late, -errno. */
static int poll_until(int poll_fd, int interrupt_fd, uint64_t until)
{
	struct pollfd fds[] = { { .fd = poll_fd, .events = POLLIN },
				{ .fd = interrupt_fd, .events = POLLIN } };
	uint64_t now = mb_now_ns(), left = until > now ? until - now : 0;
	struct timespec ts = { .tv_sec = (time_t)(left / 1000000000u),
			       .tv_nsec = (long)(left % 1000000000u) };
	struct epoll_event event;
	int rc = ppoll(fds, interrupt_fd >= 0 ? 2 : 1, until ? &ts : NULL, NULL);

	if (rc < 0)
		return -errno;
	if (interrupt_fd >= 0 && fds[1].revents)
		return -ECANCELED;
	if (fds[0].revents)
		epoll_wait(poll_fd, &event, 1, 0); /* this news is used up */
	return rc > 0;
}

int mb_writer_wait(struct mb_writer *w, size_t len, double seconds, int interrupt_fd,
		   struct mb_error *err)
{
	int rc = check_len(w, len, "wait for", err);
	uint64_t until = 0;

	if (rc)
		return rc;
	if (seconds != seconds)
		return mb_fail(err, EINVAL, "wait for", w->name, "the time is no number");
	if (seconds >= 0)
		until = mb_now_ns() + (uint64_t)((seconds > 1e9 ? 1e9 : seconds) * 1e9);
	while (w->size - pending(w) < span_of(len)) {
		rc = poll_until(w->poll_fd, interrupt_fd, until);
		if (rc == -ECANCELED)
			return mb_fail(err, EINTR, "wait for", w->name, "interrupted");
		if (rc == -EINTR && (until || interrupt_fd >= 0))
			continue;
		if (rc < 0 && rc != -EINTR)
			return mb_fail(err, rc, "wait for", w->name, "%s", mb_error_text(-rc));
		if (rc <= 0)
			return w->size - pending(w) >= span_of(len);
	}
	return 1;
}

/* ---- the end ----------------------------------------------------------------------------------------- */

void mb_writer_close(struct mb_writer *w)
{
	struct reservation *res;

	if (w->fd < 0)
		return;
	while ((res = w->reserved) != NULL) {
		w->reserved = res->next;
		end_reservation(w, res, true);
	}
	if (w->consumer)
		munmap((void *)(uintptr_t)w->consumer, w->page);
	if (w->producer)
		munmap(w->producer, w->page + 2 * w->size);
	if (w->poll_fd >= 0)
		close(w->poll_fd);
	close(w->fd);
	w->fd = w->poll_fd = -1;
	if (w->map->writer == w)
		w->map->writer = NULL;
}

void mb_writer_free(struct mb_writer *w)
{
	if (!w)
		return;
	mb_writer_close(w);
	if (w->map->writer == w) /* it never opened */
		w->map->writer = NULL;
	mb_map_unref(w->map);
	mb_btf_unref(w->btf);
	free(w->name);
	free(w);
}

/* ---- asking ------------------------------------------------------------------------------------------ */

bool mb_writer_closed(const struct mb_writer *w)
{
	return w->fd < 0;
}

const char *mb_writer_name(const struct mb_writer *w)
{
	return w->name;
}

const struct mb_plan *mb_writer_plan(const struct mb_writer *w)
{
	return w->plan;
}

int mb_writer_fd(const struct mb_writer *w)
{
	return w->poll_fd;
}

int mb_writer_stats(struct mb_writer *w, struct mb_writer_stats *out, struct mb_error *err)
{
	if (w->fd < 0)
		return mb_fail(err, EBADF, "describe ring", w->name, "the writer is closed");
	*out = (struct mb_writer_stats){ w->submitted, w->discarded, pending(w), w->size };
	return 0;
}
