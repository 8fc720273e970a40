/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The one consumer of a ring or perf buffer: drains and turns, waiting, what was lost. How records
 * lie in memory is ring.c's and perf.c's.
 */
#include <poll.h>
#include <sys/epoll.h>
#include <time.h>

#include "reader.h"

/* ---- making ---------------------------------------------------------------------------------------- */

/* What a loop polls must be gone when the reader closes. A duplicate of the map's fd is the same open
 * file, and stays in whatever epoll it was put into. */
int mb_reader_poll(struct mb_reader *r, int fd, struct mb_error *err)
{
	struct epoll_event readable = { .events = EPOLLIN };

	if (epoll_ctl(r->poll_fd, EPOLL_CTL_ADD, fd, &readable) != 0)
		return mb_fail(err, errno, "read ring", r->name, "%s", mb_error_text(errno));
	return 0;
}

/* The counter that MB_LOST(ring) of moonbee.bpf.h declares: mb_lost_NAME in a section of the map's
 * object. Its memory stays mapped as long as we hold the region, also when the object has closed. */
static void find_lost(struct mb_reader *r)
{
	const struct mb_object *obj = r->map->obj;
	char name[160];

	snprintf(name, sizeof(name), "mb_lost_%s", r->name);
	for (size_t i = 0; obj && i < obj->nsections; i++) {
		const struct mb_section *s = &obj->sections[i];
		const struct mb_field *f = mb_plan_field(s->plan, name);

		if (!f || f->enc != MB_ENC_U64 || f->end > s->region->len)
			continue;
		r->lost_in = mb_region_ref(s->region);
		r->lost_btf = mb_btf_ref(s->plan->btf);
		r->lost_f = f;
		r->counts_lost = true;
		return;
	}
}

static int make(struct mb_reader *r, struct mb_map *map, const struct mb_plan *plan,
		struct mb_error *err)
{
	r->name = strdup(map->name);
	if (!r->name)
		return mb_fail(err, ENOMEM, "read ring", map->name, "out of memory");
	r->page = (size_t)sysconf(_SC_PAGESIZE);
	if (plan) {
		r->btf = mb_btf_ref(plan->btf);
		r->plan = plan;
	}
	r->fd = fcntl(map->fd, F_DUPFD_CLOEXEC, 3);
	if (r->fd < 0)
		return mb_fail(err, errno, "read ring", map->name, "%s", mb_error_text(errno));
	r->poll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (r->poll_fd < 0)
		return mb_fail(err, errno, "read ring", map->name, "%s", mb_error_text(errno));
	find_lost(r);
	return r->kind->open(r, err);
}

/* What texts call a record: in the btf of its type, as views of it outlive the reader. */
static const char *record_name(struct mb_map *map, const struct mb_plan *plan)
{
	if (!map->record_name && plan && map->btf == plan->btf) {
		char name[64];

		snprintf(name, sizeof(name), "a record of '%.40s'", map->name);
		map->record_name = mb_btf_strdup(map->btf, name);
	}
	return map->record_name ? map->record_name : "a record";
}

static void lease_init(struct mb_region *lease, struct mb_map *map, const struct mb_plan *plan)
{
	memset(lease, 0, sizeof(*lease));
	lease->refs = 1; /* for ever: the memory is the caller's */
	lease->flags = MB_REGION_LEASE;
	lease->whole = plan;
	lease->ended = "the record's turn is over";
	lease->name = record_name(map, plan);
}

static const struct mb_reader_kind *kind_of(uint32_t type)
{
	return type == BPF_MAP_TYPE_RINGBUF	     ? &mb_ring_kind :
	       type == BPF_MAP_TYPE_PERF_EVENT_ARRAY ? &mb_perf_kind :
						       NULL;
}

static int no_events(const struct mb_map *map, struct mb_error *err)
{
	mb_fail(err, EINVAL, "read ring", map->name, "a map of type %s has no events",
		mb_map_type_name(map->info.type));
	if (map->info.type == BPF_MAP_TYPE_USER_RINGBUF)
		mb_error_hint(err, "programs read it: write to it by m:writer(type)");
	return -EINVAL;
}

int mb_reader_new(struct mb_map *map, const struct mb_plan *plan, uint32_t pages,
		  struct mb_region *lease, struct mb_reader **out, struct mb_error *err)
{
	int rc = mb_map_check(map, "read ring", err);
	struct mb_reader *r;

	if (rc)
		return rc;
	if (!kind_of(map->info.type))
		return no_events(map, err);
	if (pages && map->info.type == BPF_MAP_TYPE_RINGBUF)
		return mb_fail(err, EINVAL, "read ring", map->name,
			       "a ring's size is its max_entries: pages is for perf buffers");
	r = calloc(1, sizeof(*r));
	if (!r)
		return mb_fail(err, ENOMEM, "read ring", map->name, "out of memory");
	r->kind = kind_of(map->info.type);
	r->pages = pages;
	r->fd = r->poll_fd = -1;
	lease_init(lease, map, plan);
	r->region = lease;
	r->map = mb_map_ref(map);
	rc = make(r, map, plan, err);
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
	r->kind->consume(r);
}

static void end_drain(struct mb_reader *r)
{
	if (r->token && r->kind->end)
		r->kind->end(r);
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
	r->kind->begin(r);
	r->left = max;
	r->map->drainer = r;
	r->token = ++r->last_token;
	*token = r->token;
	return 0;
}

int mb_reader_next(struct mb_reader *r, uint64_t token)
{
	if (r->fd < 0 || token != r->token)
		return 0;
	end_turn(r);
	if (r->left && r->kind->next(r)) {
		r->left--;
		r->in_turn = true;
		return 1;
	}
	mb_reader_end(r, token);
	return 0;
}

/* Take the record at hand, and those like it that follow, at once. */
static void reduce_run(struct mb_reader *r, uint32_t off, const struct mb_field *f,
		       struct mb_reduction *out)
{
	size_t span = r->region->len;
	uint32_t n = r->kind->run ? r->kind->run(r, &span) : 1;

	mb_reduce_run(out, r->region->base + off, f, span, n);
	/* the turn covers all of them; end_turn counts one */
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
	if (r->kind->pending(r) > 0) /* also what was submitted without a wake-up */
		return 1;
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
	return r->kind->pending(r) > 0;
}

/* ---- the end ----------------------------------------------------------------------------------------- */

void mb_reader_close(struct mb_reader *r)
{
	if (r->fd < 0)
		return;
	end_turn(r);
	r->region->gen++;
	r->region->ended = "its reader is closed";
	r->region->base = NULL;
	r->region->len = 0;
	end_drain(r);
	r->kind->close(r);
	if (r->poll_fd >= 0)
		close(r->poll_fd);
	close(r->fd);
	r->fd = r->poll_fd = -1;
	mb_region_unref(r->lost_in);
	mb_btf_unref(r->lost_btf);
	r->lost_in = NULL;
	r->lost_btf = NULL;
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

int mb_reader_fd(struct mb_reader *r)
{
	if (r->fd >= 0 && !r->token && r->kind->end)
		r->kind->end(r); /* what is there already may have been forgotten by a poll */
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
	*out = (struct mb_reader_stats){ .consumed = r->consumed,
					 .pending = r->kind->pending(r),
					 .size = r->size,
					 .counts_lost = r->counts_lost,
					 .lost = r->lost };
	if (r->lost_in) /* no check of its life: the memory is there as long as we hold it */
		out->lost += __atomic_load_n(
			(const uint64_t *)(const void *)(r->lost_in->base + r->lost_f->off),
			__ATOMIC_RELAXED);
	return 0;
}
