/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SIGINT and SIGTERM in a program of ours: the first one is a wish that can be waited for, the
 * second one is an order. SIGPIPE is a wish, too, where it was our output that nobody reads. Process-wide by its nature; a library user who does not install it is
 * left alone.
 */
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>

#include "internal.h"

static volatile sig_atomic_t came;   /* and was not taken yet */
static volatile sig_atomic_t armed;  /* one came: the next one kills */
static volatile sig_atomic_t broken; /* so did our output's reader */
static int wake_fd = -1;
static void (*tell)(void);
static MB_THREAD bool listening;
MB_THREAD volatile sig_atomic_t mb_stop;

static void wish(int sig)
{
	uint64_t one = 1;

	came = sig;
	if (write(wake_fd, &one, sizeof(one)) < 0)
		came = sig; /* nothing else can be done here */
	if (tell)
		tell();
}

static void on_signal(int sig)
{
	int kept = errno;

	if (armed) {
		signal(sig, SIG_DFL);
		raise(sig);
		return;
	}
	armed = 1;
	wish(sig);
	errno = kept;
}

/* Somebody's pipe or socket broke. Only when it is our output does the program end by it: what it
 * prints goes nowhere. */
static void on_pipe(int sig)
{
	struct pollfd out = { .fd = STDOUT_FILENO };
	int kept = errno;

	if (!broken && poll(&out, 1, 0) > 0 && out.revents & POLLERR) {
		broken = 1;
		wish(sig);
	}
	errno = kept;
}

int mb_interrupt_install(void (*hear)(void), struct mb_error *err)
{
	struct sigaction act = { .sa_handler = on_signal };
	struct sigaction pipe = { .sa_handler = on_pipe, .sa_flags = SA_RESTART };

	if (wake_fd < 0)
		wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (wake_fd < 0)
		return mb_fail(err, errno, "watch signals", "SIGINT", "%s", mb_error_text(errno));
	tell = hear;
	sigemptyset(&act.sa_mask);
	sigemptyset(&pipe.sa_mask);
	if (sigaction(SIGINT, &act, NULL) != 0 || sigaction(SIGTERM, &act, NULL) != 0 ||
	    sigaction(SIGPIPE, &pipe, NULL) != 0)
		return mb_fail(err, errno, "watch signals", "SIGINT", "%s", mb_error_text(errno));
	return 0;
}

int mb_interrupt_fd(void)
{
	return wake_fd;
}

int mb_interrupt_take(void)
{
	int sig = came;
	uint64_t n;

	if (sig && read(wake_fd, &n, sizeof(n)) < 0)
		n = 0;
	came = 0;
	return sig;
}

void mb_interrupt_rearm(void)
{
	armed = 0;
}

void mb_interrupt_listen(bool on)
{
	listening = on;
}

bool mb_interrupt_pending(void)
{
	return listening && came;
}

bool mb_stop_asked(void)
{
	return mb_stop || mb_interrupt_pending();
}

/* ---- SIGPIPE in a program of somebody else's ---------------------------------------------------------- */

enum { HELD = 1, BLOCKED = 2 };

static sigset_t only_pipe(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	return set;
}

/* One that waits already is the program's: that is blocked then, and stays so. */
int mb_pipe_hold(void)
{
	sigset_t set = only_pipe(), before;

	if (sigpending(&before) != 0 || sigismember(&before, SIGPIPE))
		return 0;
	if (pthread_sigmask(SIG_BLOCK, &set, &before) != 0)
		return 0;
	return sigismember(&before, SIGPIPE) ? HELD : HELD | BLOCKED;
}

void mb_pipe_release(int held)
{
	static const struct timespec at_once;
	sigset_t set = only_pipe();

	if (held & HELD)
		while (sigtimedwait(&set, NULL, &at_once) < 0 && errno == EINTR)
			;
	if (held & BLOCKED)
		pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}
