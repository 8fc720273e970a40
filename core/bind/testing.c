/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Internals for the specs and benchmarks; never part of the product.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MB_TESTING /* allocators are what it is about */
#include "engine/kmem.h"
#include "bind.h"

MB_API int luaopen_mb_testing(lua_State *L);

/* What a call of C costs at least. */
static int lib_nop(lua_State *L)
{
	(void)L;
	return 0;
}

struct quota {
	long left; /* allocations until one fails; < 0: none fails */
	bool failed;
};

static void *limited(void *ud, void *ptr, size_t osize, size_t nsize)
{
	struct quota *q = ud;

	(void)osize;
	if (!nsize) {
		(free)(ptr);
		return NULL;
	}
	if (q->left >= 0 && (!ptr || nsize > osize) && q->left-- == 0) {
		q->failed = true;
		q->left = 0; /* and all after it */
		return NULL;
	}
	return (realloc)(ptr, nsize);
}

/* oom(source, n) -> ok, message, failed: run source in a state of its own, of which allocation n and
 * all after it fail. The chunk gets require "moonbee.core" as its argument. */
static int lib_oom(lua_State *L)
{
	const char *source = luaL_checkstring(L, 1);
	lua_Integer n = luaL_checkinteger(L, 2);
	struct quota q = { -1, false };
	lua_State *S = lua_newstate(limited, &q);
	bool ok;

	if (!S)
		return luaL_error(L, "no state");
	luaL_requiref(S, "_G", luaopen_moonbee_core, 0); /* its metatables, before the quota */
	lua_setglobal(S, "bpf");
	ok = luaL_loadstring(S, source) == LUA_OK;
	lua_gc(S, LUA_GCSTOP); /* Lua forgets finalizers that it has no memory to call */
	q.left = (long)n;
	if (ok) {
		lua_getglobal(S, "bpf");
		ok = lua_pcall(S, 1, 0, 0) == LUA_OK;
	}
	q.left = -1;
	lua_pushboolean(L, ok);
	lua_pushstring(L, ok ? NULL : luaL_tolstring(S, -1, NULL));
	lua_pushboolean(L, q.failed);
	lua_close(S);
	return 3;
}

/* kmem(way, address, addresses, tasks) -> u64, { u64 }, { u32 }, { code }, length of the list at tasks:
 * the same reads by programs of an older kernel's kind */
static int lib_kmem(lua_State *L)
{
	static const char *const ways[] = { "best", "raw_tp", "bounded", NULL };
	enum { MOST = 4096 };
	int way = luaL_checkoption(L, 1, NULL, ways);
	uint64_t address = (uint64_t)luaL_checkinteger(L, 2), one = 0, first = 0;
	uint64_t tasks = (uint64_t)luaL_checkinteger(L, 4), *list = NULL;
	uint64_t *from = lua_newuserdatauv(L, MOST * 8, 0),
		 *eight = lua_newuserdatauv(L, MOST * 8, 0);
	uint32_t *four = lua_newuserdatauv(L, MOST * 4, 0);
	int32_t *codes = lua_newuserdatauv(L, MOST * 4, 0);
	size_t n = lua_rawlen(L, 3), length = 0;
	struct mb_kmem *m = NULL;
	MB_ERROR(err);
	int rc;

	luaL_argcheck(L, n <= MOST, 3, "too many");
	for (size_t i = 0; i < n; i++) {
		lua_rawgeti(L, 3, (lua_Integer)i + 1);
		from[i] = (uint64_t)lua_tointeger(L, -1);
		lua_pop(L, 1);
	}
	rc = mb_kmem_new((enum mb_kmem_way)way, &m, &err);
	if (!rc)
		rc = mb_kmem_read(m, address, &one, sizeof(one), &err);
	if (!rc)
		rc = mb_kmem_read_many(m, from, n, 4, four, codes, &err);
	if (!rc)
		rc = mb_kmem_read_many(m, from, n, 8, eight, codes, &err);
	if (!rc)
		rc = mb_kmem_read(m, tasks, &first, sizeof(first), &err);
	if (!rc)
		rc = mb_kmem_list(m, first, tasks, 0, &list, &length, &err);
	mb_kmem_release(list);
	mb_kmem_free(m);
	if (rc)
		return mb_raise(L, &err);
	lua_pushinteger(L, (lua_Integer)one);
	for (int i = 0; i < 3; i++)
		lua_newtable(L);
	for (size_t i = 0; i < n; i++) {
		lua_pushinteger(L, (lua_Integer)eight[i]);
		lua_rawseti(L, -4, (lua_Integer)i + 1);
		lua_pushinteger(L, four[i]);
		lua_rawseti(L, -3, (lua_Integer)i + 1);
		lua_pushinteger(L, codes[i]);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	lua_pushinteger(L, (lua_Integer)length);
	return 5;
}

/* kmem_explain(code, log, locked) -> what is said when the kernel refuses our program */
static int lib_kmem_explain(lua_State *L)
{
	MB_ERROR(err);

	mb_kmem_refused(&err, -(int)luaL_checkinteger(L, 1), luaL_checkstring(L, 2),
			lua_toboolean(L, 3));
	lua_pushfstring(L, "%s '%s': %s (%s)\nhint: %s", err.op, err.subject, err.cause,
			mb_error_name(err.code), err.hint);
	mb_error_fini(&err);
	return 1;
}

/* probe([n]): passes a USDT probe, moonbee:probe, with n. The note is as <sys/sdt.h> would write it. */
static int lib_probe(lua_State *L)
{
	int64_t n = luaL_optinteger(L, 1, 0);

	__asm__ volatile("990: nop\n"
			 ".pushsection .note.stapsdt, \"?\", \"note\"\n"
			 ".balign 4\n"
			 ".4byte 992f - 991f, 994f - 993f, 3\n"
			 "991: .asciz \"stapsdt\"\n"
			 "992: .balign 4\n"
			 "993: .8byte 990b, _.stapsdt.base, 0\n"
			 ".asciz \"moonbee\"\n"
			 ".asciz \"probe\"\n"
			 ".asciz \"-8@%0\"\n"
			 "994: .balign 4\n"
			 ".popsection\n"
			 ".ifndef _.stapsdt.base\n"
			 ".pushsection .stapsdt.base, \"aG\", \"progbits\", .stapsdt.base, comdat\n"
			 ".weak _.stapsdt.base\n"
			 ".hidden _.stapsdt.base\n"
			 "_.stapsdt.base: .space 1\n"
			 ".size _.stapsdt.base, 1\n"
			 ".popsection\n"
			 ".endif\n"
			 :
			 : "r"(n));
	return 0;
}

/* ---- a service manager ------------------------------------------------------------------------------ */

/* notify_socket(name) -> fd: what NOTIFY_SOCKET=name leads to; "@…": abstract */
static int lib_notify_socket(lua_State *L)
{
	size_t len;
	const char *name = luaL_checklstring(L, 1, &len);
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	luaL_argcheck(L, len < sizeof(at.sun_path), 1, "too long");
	memcpy(at.sun_path, name, len);
	if (*name == '@')
		at.sun_path[0] = '\0';
	if (fd < 0 || bind(fd, (struct sockaddr *)&at,
			   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) != 0)
		return luaL_error(L, "notify_socket: %s", strerror(errno));
	lua_pushinteger(L, fd);
	return 1;
}

/* notify_receive(fd) -> text, { fd, … } | nil: nothing came */
static int lib_notify_receive(lua_State *L)
{
	_Alignas(struct cmsghdr) char control[4096];
	char text[4096];
	struct iovec bytes = { text, sizeof(text) };
	struct msghdr msg = { .msg_iov = &bytes,
			      .msg_iovlen = 1,
			      .msg_control = control,
			      .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg((int)luaL_checkinteger(L, 1), &msg, MSG_CMSG_CLOEXEC);
	lua_Integer count = 0;

	if (n < 0)
		return 0;
	lua_pushlstring(L, text, (size_t)n);
	lua_newtable(L);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
		for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			lua_pushinteger(L, fd);
			lua_rawseti(L, -2, ++count);
		}
	return 2;
}

static int lib_close_fd(lua_State *L)
{
	close((int)luaL_checkinteger(L, 1));
	return 0;
}

static const luaL_Reg functions[] = {
	{ "kmem", lib_kmem },
	{ "kmem_explain", lib_kmem_explain },
	{ "nop", lib_nop },
	{ "oom", lib_oom },
	{ "probe", lib_probe },
	{ "notify_socket", lib_notify_socket },
	{ "notify_receive", lib_notify_receive },
	{ "close_fd", lib_close_fd },
	{ NULL, NULL },
};

MB_API int luaopen_mb_testing(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
