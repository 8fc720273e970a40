/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Perf event arrays: a buffer per CPU, walked one after the other. A record is copied before it is
 * lent: in the buffer it may be cut in two by the end, and lies askew (4 bytes after an address that
 * is a multiple of 8).
 */
#include <linux/perf_event.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "reader.h"

#define MAX_RECORD 65536u /* a record's length has 16 bits */
#define MAX_CPUS 4096u

struct cpu_buffer {
	uint32_t cpu;
	int fd;
	bool connected;			   /* the map has it: else that place is another's */
	struct perf_event_mmap_page *page; /* then the data */
	uint64_t next;			   /* where the record after the one at hand begins */
	uint64_t limit;			   /* of this drain */
};

struct mb_perf {
	struct cpu_buffer *cpus;
	uint32_t n;
	uint32_t first; /* where this drain began: each time it is another CPU's turn */
	uint32_t done;	/* CPUs that this drain is through with */
	size_t data;	/* bytes of one CPU's */
	int more;	/* an eventfd: something was left */
	bool told;	/* and it says so */
	uint64_t record[MAX_RECORD / 8];
};

static const char *const OP = "read perf buffer";

/* ---- opening --------------------------------------------------------------------------------------- */

static int refused(struct mb_reader *r, uint32_t cpu, const char *what, struct mb_error *err)
{
	int code = errno;

	mb_fail(err, code, OP, r->name, "cannot %s the buffer of CPU %u: %s", what, cpu,
		mb_error_text(code));
	if (code == EPERM && strcmp(what, "map") == 0)
		mb_error_hint(err, "more locked memory than kernel.perf_event_mlock_kb allows: "
				   "fewer pages, or run with CAP_IPC_LOCK");
	else if (code == EACCES || code == EPERM)
		mb_error_hint(err, "it needs CAP_PERFMON (see kernel.perf_event_paranoid)");
	return -code;
}

static int open_cpu(struct mb_reader *r, uint32_t cpu, struct mb_error *err)
{
	struct perf_event_attr attr = { .type = PERF_TYPE_SOFTWARE,
					.size = sizeof(attr),
					.config = PERF_COUNT_SW_BPF_OUTPUT,
					.sample_type = PERF_SAMPLE_RAW,
					.sample_period = 1,
					.wakeup_events = 1 };
	struct cpu_buffer *b = &r->perf->cpus[r->perf->n];
	long fd = syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
	void *at;

	if (fd < 0 && errno == ENODEV) /* it went offline */
		return 0;
	if (fd < 0)
		return refused(r, cpu, "open", err);
	*b = (struct cpu_buffer){ .cpu = cpu, .fd = (int)fd };
	r->perf->n++;
	at = mmap(NULL, r->page + r->perf->data, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd, 0);
	if (at == MAP_FAILED)
		return refused(r, cpu, "map", err);
	b->page = at;
	if (bpf_map_update_elem(r->fd, &cpu, &b->fd, BPF_ANY) != 0)
		return refused(r, cpu, "connect", err);
	b->connected = true;
	if (ioctl(b->fd, PERF_EVENT_IOC_ENABLE, 0) != 0)
		return refused(r, cpu, "start", err);
	return mb_reader_poll(r, b->fd, err);
}

static int open_all(struct mb_reader *r, struct mb_error *err)
{
	uint64_t online[MAX_CPUS / 64];
	int rc = mb_cpus_online(online, MAX_CPUS / 64, err);

	r->perf->cpus = calloc(MAX_CPUS, sizeof(r->perf->cpus[0]));
	if (!rc && !r->perf->cpus)
		rc = mb_fail(err, ENOMEM, OP, r->name, "out of memory");
	for (uint32_t cpu = 0; !rc && cpu < MAX_CPUS && cpu < r->map->info.max_entries; cpu++)
		if (online[cpu / 64] >> cpu % 64 & 1)
			rc = open_cpu(r, cpu, err);
	return rc;
}

static int perf_open(struct mb_reader *r, struct mb_error *err)
{
	uint32_t pages = r->pages ? r->pages : 64;

	if (r->map->perf_reader) {
		mb_fail(err, EBUSY, OP, r->name, "it has a reader");
		mb_error_hint(err, "a perf event array has one reader: close the other first");
		return -EBUSY;
	}
	if (pages & (pages - 1) || pages > 1u << 16)
		return mb_fail(err, EINVAL, OP, r->name,
			       "pages is a power of 2, at most 65536, not %u", pages);
	r->perf = calloc(1, sizeof(*r->perf));
	if (!r->perf)
		return mb_fail(err, ENOMEM, OP, r->name, "out of memory");
	r->map->perf_reader = r;
	r->counts_lost = true;
	r->perf->data = pages * r->page;
	r->perf->more = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->perf->more < 0)
		return mb_fail(err, errno, OP, r->name, "%s", mb_error_text(errno));
	if (mb_reader_poll(r, r->perf->more, err) != 0)
		return -err->code;
	if (open_all(r, err) != 0)
		return -err->code;
	r->size = r->perf->n * r->perf->data;
	return 0;
}

/* ---- records ----------------------------------------------------------------------------------------- */

/* Polling such a descriptor forgets that it was readable. What was left behind is told by another
 * one, so that whoever polls the reader's is told until nothing is left. */
static void tell_more(struct mb_reader *r, bool more)
{
	uint64_t n = 1;
	ssize_t rc;

	if (r->perf->told == more)
		return;
	rc = more ? write(r->perf->more, &n, sizeof(n)) : read(r->perf->more, &n, sizeof(n));
	if (rc == sizeof(n))
		r->perf->told = more;
}

static uint64_t head_of(const struct cpu_buffer *b)
{
	return __atomic_load_n(&b->page->data_head, __ATOMIC_ACQUIRE);
}

static void perf_begin(struct mb_reader *r)
{
	struct mb_perf *perf = r->perf;

	perf->first = perf->n ? (perf->first + 1) % perf->n : 0;
	perf->done = 0;
	for (uint32_t i = 0; i < perf->n; i++) {
		perf->cpus[i].next = perf->cpus[i].page->data_tail;
		perf->cpus[i].limit = head_of(&perf->cpus[i]);
	}
}

static void copy_out(const struct mb_reader *r, const struct cpu_buffer *b, uint64_t from, void *to,
		     size_t len)
{
	const uint8_t *data = (const uint8_t *)b->page + r->page;
	size_t at = from & (r->perf->data - 1), first = r->perf->data - at;

	if (first > len)
		first = len;
	memcpy(to, data + at, first);
	memcpy((uint8_t *)to + first, data, len - first);
}

static struct cpu_buffer *at_hand(const struct mb_reader *r)
{
	return &r->perf->cpus[(r->perf->first + r->perf->done) % r->perf->n];
}

static void move_on(struct cpu_buffer *b)
{
	__atomic_store_n(&b->page->data_tail, b->next, __ATOMIC_RELEASE);
}

/* The next record of one CPU: 1 a sample, 0 none. */
static int next_of(struct mb_reader *r, struct cpu_buffer *b)
{
	struct perf_event_header head;
	struct {
		uint64_t id, lost;
	} lost;
	uint32_t len = 0;

	while (b->next + sizeof(head) <= b->limit) {
		uint64_t at = b->next;

		copy_out(r, b, at, &head, sizeof(head));
		if (head.size < sizeof(head) || at + head.size > b->limit)
			break; /* the kernel writes no such thing */
		b->next += head.size;
		if (head.type == PERF_RECORD_LOST && head.size >= sizeof(head) + sizeof(lost)) {
			copy_out(r, b, at + sizeof(head), &lost, sizeof(lost));
			r->lost += lost.lost;
		}
		if (head.type == PERF_RECORD_SAMPLE && head.size >= sizeof(head) + sizeof(len)) {
			copy_out(r, b, at + sizeof(head), &len, sizeof(len));
			if (len > head.size - sizeof(head) - sizeof(len))
				len = (uint32_t)(head.size - sizeof(head) - sizeof(len));
			copy_out(r, b, at + sizeof(head) + sizeof(len), r->perf->record, len);
			r->region->base = (uint8_t *)r->perf->record;
			r->region->len = len;
			return 1;
		}
		move_on(b);
	}
	return 0;
}

static int perf_next(struct mb_reader *r)
{
	for (; r->perf->done < r->perf->n; r->perf->done++)
		if (next_of(r, at_hand(r)))
			return 1;
	return 0;
}

static void perf_consume(struct mb_reader *r)
{
	move_on(at_hand(r));
}

static uint64_t perf_pending(const struct mb_reader *r)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < r->perf->n; i++)
		sum += head_of(&r->perf->cpus[i]) - r->perf->cpus[i].page->data_tail;
	return sum;
}

static void perf_end(struct mb_reader *r)
{
	tell_more(r, perf_pending(r) > 0);
}

/* ---- the end ------------------------------------------------------------------------------------------ */

static void perf_close(struct mb_reader *r)
{
	struct mb_perf *perf = r->perf;

	if (!perf)
		return;
	for (uint32_t i = 0; i < perf->n; i++) {
		struct cpu_buffer *b = &perf->cpus[i];

		/* the map would keep the event as long as its own file is open */
		if (b->connected)
			bpf_map_delete_elem(r->fd, &b->cpu);
		if (b->page)
			munmap(b->page, r->page + perf->data);
		close(b->fd);
	}
	if (perf->more > 0)
		close(perf->more);
	if (r->map->perf_reader == r)
		r->map->perf_reader = NULL;
	free(perf->cpus);
	free(perf);
	r->perf = NULL;
}

const struct mb_reader_kind mb_perf_kind = {
	.open = perf_open,
	.begin = perf_begin,
	.next = perf_next,
	.consume = perf_consume,
	.end = perf_end,
	.pending = perf_pending,
	.close = perf_close,
};
