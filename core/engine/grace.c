/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The end of all that runs now: a program that was detached may still be at work on another CPU, and
 * has ended when each CPU has gone through a quiet state (an RCU grace period, 10 to 30 ms). A thread
 * waits for it, so that nobody else does.
 */
#include <linux/membarrier.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#include "engine/handover.h"
#include "internal.h"

#define GUESS_US 100000 /* where the kernel does not tell: some grace periods */

static void *wait_for_it(void *arg)
{
	int fd = (int)(intptr_t)arg;
	uint64_t one = 1;

	if (syscall(__NR_membarrier, MEMBARRIER_CMD_GLOBAL, 0) != 0) /* with nohz_full */
		usleep(GUESS_US);
	if (write(fd, &one, sizeof(one)) < 0) {
		/* nobody listens any more */
	}
	close(fd);
	return NULL;
}

/* Its signals are for others. */
static int start(int fd)
{
	pthread_attr_t attr;
	sigset_t all, were;
	pthread_t thread;
	int rc;

	sigfillset(&all);
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_sigmask(SIG_SETMASK, &all, &were);
	rc = pthread_create(&thread, &attr, wait_for_it, (void *)(intptr_t)fd);
	pthread_sigmask(SIG_SETMASK, &were, NULL);
	pthread_attr_destroy(&attr);
	return rc;
}

int mb_handover_grace(int *out, struct mb_error *err)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), theirs, rc;

	theirs = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
	rc = theirs < 0 ? errno : start(theirs);
	if (!rc) {
		*out = fd;
		return 0;
	}
	if (theirs >= 0)
		close(theirs);
	if (fd >= 0)
		close(fd);
	return mb_fail(err, rc, "wait for", "programs that run", "%s", mb_error_text(rc));
}
