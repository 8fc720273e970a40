/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reading an iterator program. What comes is a stream of bytes, whatever wrote them: the kernel gives
 * some pages at a time.
 */
#include "engine/iter.h"
#include "engine/link.h"

#include "internal.h"

#define FIRST_ROOM 4096u
#define MAX_LINE (64u << 20)

struct mb_iter {
	int fd;
	char *name;
	char *buf; /* of lines */
	size_t at, len, room;
	bool ended;
};

static const char *const OP = "read iterator";

int mb_iter_open(struct mb_link *link, struct mb_iter **out, struct mb_error *err)
{
	const char *name = mb_link_name(link);
	struct mb_link_info info;
	int rc = mb_link_info(link, &info, err);
	struct mb_iter *iter;

	if (rc)
		return rc;
	if (info.fd < 0 || strcmp(info.type, "iter") != 0) {
		mb_fail(err, EINVAL, OP, name, "a link of type %s gives nothing to read",
			info.type);
		mb_error_hint(err, "only programs of SEC(\"iter/…\") write what can be read");
		return -EINVAL;
	}
	iter = calloc(1, sizeof(*iter));
	if (iter)
		iter->name = strdup(name);
	if (!iter || !iter->name) {
		free(iter);
		return mb_fail(err, ENOMEM, OP, name, "out of memory");
	}
	iter->fd = bpf_iter_create(info.fd);
	if (iter->fd < 0) {
		rc = mb_fail(err, errno, OP, name, "%s", mb_error_text(errno));
		mb_iter_free(iter);
		return rc;
	}
	*out = iter;
	return 0;
}

void mb_iter_free(struct mb_iter *iter)
{
	if (!iter)
		return;
	if (iter->fd >= 0)
		close(iter->fd);
	free(iter->name);
	free(iter->buf);
	free(iter);
}

/* EAGAIN: the kernel has passed over very many objects, and wants to be asked again. */
static ssize_t read_some(struct mb_iter *iter, void *to, size_t n, struct mb_error *err)
{
	ssize_t got;

	do
		got = read(iter->fd, to, n);
	while (got < 0 && (errno == EAGAIN || errno == EINTR) && !mb_stop_asked());
	return got >= 0 ? got :
			  mb_fail(err, errno, OP, iter->name, "%s",
				  errno == EINTR || errno == EAGAIN ? "interrupted" :
								      mb_error_text(errno));
}

int64_t mb_iter_read(struct mb_iter *iter, void *to, size_t n, struct mb_error *err)
{
	size_t done = 0;

	while (done < n && !iter->ended) {
		ssize_t got = read_some(iter, (char *)to + done, n - done, err);

		if (got < 0)
			return got;
		iter->ended = got == 0;
		done += (size_t)got;
	}
	return (int64_t)done;
}

/* More bytes behind those that are there. */
static int fill(struct mb_iter *iter, struct mb_error *err)
{
	ssize_t got;

	if (iter->at) {
		memmove(iter->buf, iter->buf + iter->at, iter->len - iter->at);
		iter->len -= iter->at;
		iter->at = 0;
	}
	if (iter->len == iter->room) {
		size_t room = iter->room ? iter->room * 2 : FIRST_ROOM;
		char *more = room <= MAX_LINE ? realloc(iter->buf, room) : NULL;

		if (!more)
			return mb_fail(err, room <= MAX_LINE ? ENOMEM : EMSGSIZE, OP, iter->name,
				       room <= MAX_LINE ? "out of memory" :
							  "a line of more than 64 MiB");
		iter->buf = more;
		iter->room = room;
	}
	got = read_some(iter, iter->buf + iter->len, iter->room - iter->len, err);
	if (got < 0)
		return (int)got;
	iter->ended = got == 0;
	iter->len += (size_t)got;
	return 0;
}

int mb_iter_line(struct mb_iter *iter, const char **line, size_t *len, struct mb_error *err)
{
	size_t seen = 0;
	int rc;

	for (;;) {
		char *from = iter->buf + iter->at;
		size_t have = iter->len - iter->at;
		char *end = have > seen ? memchr(from + seen, '\n', have - seen) : NULL;

		if (end || (iter->ended && have)) {
			*line = from;
			*len = end ? (size_t)(end - from) : have;
			iter->at += *len + (end != NULL);
			return 1;
		}
		if (iter->ended)
			return 0;
		seen = have;
		rc = fill(iter, err);
		if (rc)
			return rc;
	}
}

int mb_iter_type(const struct mb_link *link, const char *name, const struct mb_plan **out,
		 struct mb_error *err)
{
	if (link->obj && link->obj->btf)
		return mb_btf_find(link->obj->btf, name, out, err);
	mb_fail(err, ENOENT, "find type", name, "the link's object is not at hand");
	mb_error_hint(err, "take the type from an object: obj.types[\"%s\"]", name);
	return -ENOENT;
}
