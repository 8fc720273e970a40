/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * flowd: an example of a libbpf daemon that embeds moonbee. It is written as they are, with a skeleton
 * and a loop of its own; what lies between the lines "moonbee" and "end" makes it scriptable, and all
 * else was there before.
 *
 *   flowd INTERFACE [--script FILE | --policy FILE [OPTION…]]
 *   flowd eth0 --script control.lua
 *   flowd eth0 --policy policy.lua --console rw
 */
#include <errno.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "flowd.skel.h"

/* --- moonbee --- */
#include <moonbee.h>

static struct mb_runtime *open_moonbee(struct flowd *flowd, char **argv)
{
	char why[512];
	struct mb_runtime *rt = mb_runtime_new(NULL, why, sizeof(why));
	const char *const *options = (const char *const *)argv + 4;
	int rc;

	if (!rt) {
		fprintf(stderr, "flowd: %s\n", why);
		return NULL;
	}
	rc = mb_runtime_add_object(rt, "flow", flowd->obj);
	if (rc >= 0)
		rc = strcmp(argv[2], "--policy") == 0 ?
			     mb_runtime_run_policy(rt, argv[3], options) :
			     mb_runtime_run_file(rt, argv[3], options);
	if (rc > 0)
		return rt;
	if (rc < 0)
		fprintf(stderr, "flowd: %s\n", mb_runtime_error(rt));
	mb_runtime_free(rt);
	return NULL;
}
/* --- end --- */

enum { TICK, SIGNAL, SCRIPT };

static int watch(int epoll, int fd, uint32_t what)
{
	struct epoll_event e = { .events = EPOLLIN, .data.u32 = what };

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
}

static int ticks(void)
{
	struct itimerspec second = { { 1, 0 }, { 1, 0 } };
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

	timerfd_settime(fd, 0, &second, NULL);
	return fd;
}

static int signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static void serve(struct flowd *flowd, struct mb_runtime *rt)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC), tick = ticks(), signal = signals();
	struct epoll_event e;
	uint64_t n;

	watch(epoll, tick, TICK);
	watch(epoll, signal, SIGNAL);
	/* --- moonbee --- */
	if (rt)
		watch(epoll, mb_runtime_fd(rt), SCRIPT);
	/* --- end --- */
	for (;;) {
		int timeout = -1, ready;

		/* --- moonbee --- */
		if (rt)
			timeout = mb_runtime_timeout_ms(rt);
		/* --- end --- */
		ready = epoll_wait(epoll, &e, 1, timeout);
		if (ready > 0 && e.data.u32 == SIGNAL)
			break;
		if (ready > 0 && e.data.u32 == TICK && read(tick, &n, sizeof(n)) > 0)
			printf("flowd: %llu packets, %llu bytes, sample %u\n",
			       (unsigned long long)flowd->bss->packets,
			       (unsigned long long)flowd->bss->bytes, flowd->data->sample);
		fflush(stdout);
		/* --- moonbee --- */
		if (rt && mb_runtime_step(rt) <= 0) {
			fprintf(stderr, "flowd: script ended: %s\n", mb_runtime_error(rt));
			mb_runtime_free(rt);
			rt = NULL;
		}
		/* --- end --- */
	}
	/* --- moonbee --- */
	mb_runtime_free(rt);
	/* --- end --- */
	close(signal);
	close(tick);
	close(epoll);
}

int main(int argc, char **argv)
{
	struct mb_runtime *rt = NULL;
	struct flowd *flowd;
	int ifindex;

	if (argc < 2 || !(ifindex = (int)if_nametoindex(argv[1]))) {
		fprintf(stderr, "Usage: flowd INTERFACE [--script FILE | --policy FILE]\n");
		return 2;
	}
	flowd = flowd__open_and_load();
	if (!flowd) {
		fprintf(stderr, "flowd: cannot load: %s\n", strerror(errno));
		return 1;
	}
	flowd->links.count = bpf_program__attach_xdp(flowd->progs.count, ifindex);
	if (!flowd->links.count) {
		fprintf(stderr, "flowd: cannot attach to %s: %s\n", argv[1], strerror(errno));
		flowd__destroy(flowd);
		return 1;
	}
	/* --- moonbee --- */
	if (argc > 3)
		rt = open_moonbee(flowd, argv);
	/* --- end --- */
	serve(flowd, rt);
	flowd__destroy(flowd);
	return 0;
}
