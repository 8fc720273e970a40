/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The kernel's trace pipe, line by line, without blocking.
 */
#include "engine/trace.h"

#include <poll.h>
#include <time.h>

#include "internal.h"

struct mb_trace {
	int fd;
	size_t at, len;
	bool cut; /* the line at hand was longer than the buffer: the rest of it is left out */
	char buf[16384];
};

static const char *const OP = "read", *const PATH = "trace_pipe";

int mb_trace_open(struct mb_trace **out, struct mb_error *err)
{
	struct mb_trace *trace;
	int rc = mb_tracefs_prepare(err);

	if (rc)
		return rc;
	trace = malloc(sizeof(*trace));
	if (!trace)
		return mb_fail(err, ENOMEM, OP, PATH, "out of memory");
	trace->at = trace->len = 0;
	trace->cut = false;
	trace->fd = open("/sys/kernel/tracing/trace_pipe", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (trace->fd < 0 && errno == ENOENT)
		trace->fd = open("/sys/kernel/debug/tracing/trace_pipe",
				 O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (trace->fd < 0) {
		rc = mb_fail(err, errno, OP, PATH, "%s", mb_error_text(errno));
		free(trace);
		return rc;
	}
	*out = trace;
	return 0;
}

void mb_trace_close(struct mb_trace *trace)
{
	if (trace->fd >= 0)
		close(trace->fd);
	trace->fd = -1;
}

void mb_trace_free(struct mb_trace *trace)
{
	if (!trace)
		return;
	mb_trace_close(trace);
	free(trace);
}

bool mb_trace_closed(const struct mb_trace *trace)
{
	return trace->fd < 0;
}

int mb_trace_fd(const struct mb_trace *trace)
{
	return trace->fd;
}

/* A whole line from the buffer: true. One that fills all of it counts as one; its rest is dropped. */
static bool take(struct mb_trace *t, const char **line, size_t *len)
{
	while (t->at < t->len) {
		char *from = t->buf + t->at;
		size_t have = t->len - t->at;
		char *end = memchr(from, '\n', have);
		bool rest = t->cut;

		if (!end && have < sizeof(t->buf))
			return false;
		t->cut = !end;
		*line = from;
		*len = end ? (size_t)(end - from) : have;
		t->at += *len + (end != NULL);
		if (!rest)
			return true;
	}
	return false;
}

int mb_trace_line(struct mb_trace *t, const char **line, size_t *len, struct mb_error *err)
{
	ssize_t got;

	if (t->fd < 0)
		return mb_fail(err, EBADF, OP, PATH, "it is closed");
	while (!take(t, line, len)) {
		memmove(t->buf, t->buf + t->at, t->len - t->at);
		t->len -= t->at;
		t->at = 0;
		got = read(t->fd, t->buf + t->len, sizeof(t->buf) - t->len);
		if (got < 0 && errno == EINTR && !mb_stop_asked())
			continue;
		if (got == 0 || (got < 0 && (errno == EAGAIN || errno == EINTR)))
			return 0;
		if (got < 0)
			return mb_fail(err, errno, OP, PATH, "%s",
				       errno == EBUSY ? "another reader has it" :
							mb_error_text(errno));
		t->len += (size_t)got;
	}
	return 1;
}

int mb_trace_wait(struct mb_trace *t, double seconds, int interrupt_fd, struct mb_error *err)
{
	struct pollfd fds[] = { { .fd = t->fd, .events = POLLIN },
				{ .fd = interrupt_fd, .events = POLLIN } };
	uint64_t until = 0;
	int rc;

	if (t->fd < 0)
		return mb_fail(err, EBADF, "wait for", PATH, "it is closed");
	if (seconds != seconds)
		return mb_fail(err, EINVAL, "wait for", PATH, "the time is no number");
	if (memchr(t->buf + t->at, '\n', t->len - t->at))
		return 1;
	if (seconds >= 0)
		until = mb_now_ns() + (uint64_t)((seconds > 1e9 ? 1e9 : seconds) * 1e9);
	do {
		uint64_t now = mb_now_ns(), left = until > now ? until - now : 0;
		struct timespec ts = { .tv_sec = (time_t)(left / 1000000000u),
				       .tv_nsec = (long)(left % 1000000000u) };

		rc = ppoll(fds, interrupt_fd >= 0 ? 2 : 1, until ? &ts : NULL, NULL);
		if (interrupt_fd >= 0 && rc > 0 && fds[1].revents)
			return mb_fail(err, EINTR, "wait for", PATH, "interrupted");
	} while (rc < 0 && errno == EINTR && (until || interrupt_fd >= 0));
	if (rc < 0 && errno != EINTR)
		return mb_fail(err, errno, "wait for", PATH, "%s", mb_error_text(errno));
	return rc > 0;
}
