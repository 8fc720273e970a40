/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One timer per thread, whose signal goes to that thread: what the handler does is then never in a
 * race with the thread itself. The timer runs on from call to call and is set anew only when it
 * fires, so that short calls pay nothing for it.
 */
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#include "engine/deadline.h"
#include "internal.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define TICK_MIN 200000u  /* ns: a signal at most this often */
#define TICK_OVER 5000000 /* after the end, until the call gives up */
#define EX_STUCK 70	  /* EX_SOFTWARE of sysexits.h */

static MB_THREAD struct {
	struct mb_deadline *volatile now;
	volatile uint64_t next; /* when the timer fires; 0: it does not run */
	timer_t timer;
	bool made;
} here;

static pthread_mutex_t taking = PTHREAD_MUTEX_INITIALIZER;
static int signal_number;	 /* 0: not taken yet */
static pthread_key_t thread_end; /* there is one once that is taken */

/* ---- watchdog ---------------------------------------------------------------------------------------- */

/* What is in force is never changed nor freed: a handler, on any thread, may be at it. */
struct watchdog {
	struct watchdog *before;
	uint64_t grace;
	char **argv; /* NULL: the process ends */
	char **envp; /* its last one is: */
	char *stuck; /* "MOONBEE_STUCK=…", with room */
};

static struct watchdog *watchdog; /* NULL: none */

#define STUCK "MOONBEE_STUCK="
#define STUCK_ROOM 128

static void say(const char *text)
{
	if (write(STDERR_FILENO, text, strlen(text)) < 0)
		return;
}

/* In the handler, and for good. */
static void restart(const struct watchdog *w, const char *name)
{
	sigset_t none;

	say("moonbee: '");
	say(name ? name : "?");
	say("' is stuck after its deadline: ");
	if (w->argv) {
		say("the program starts anew\n");
		strncpy(w->stuck + strlen(STUCK), name ? name : "?", STUCK_ROOM - sizeof(STUCK));
		sigemptyset(&none);
		pthread_sigmask(SIG_SETMASK, &none, NULL); /* exec would keep ours blocked */
		execve("/proc/self/exe", w->argv, w->envp);
		say("moonbee: that failed, ");
	}
	say("the program ends\n");
	_exit(EX_STUCK);
}

static void free_list(char **list)
{
	for (char **p = list; p && *p; p++)
		free(*p);
	free(list);
}

/* A copy of a NULL-ended list, with one more place; NULL: out of memory. */
static char **copy_list(const char *const *list)
{
	size_t n = 0;
	char **copy;

	while (list && list[n]) /* environ after clearenv: NULL */
		n++;
	copy = calloc(n + 2, sizeof(*copy));
	for (size_t i = 0; copy && i < n; i++) {
		copy[i] = strdup(list[i]);
		if (!copy[i]) {
			free_list(copy);
			return NULL;
		}
	}
	return copy;
}

extern char **environ;

static void free_watchdog(struct watchdog *w)
{
	free_list(w->argv);
	free_list(w->envp);
	free(w);
}

static int fill_watchdog(struct watchdog *w, const char *const *argv)
{
	size_t n = 0;

	w->argv = copy_list(argv);
	w->envp = copy_list((const char *const *)environ);
	w->stuck = calloc(1, STUCK_ROOM);
	if (!w->argv || !w->envp || !w->stuck) {
		free(w->stuck);
		return -ENOMEM;
	}
	memcpy(w->stuck, STUCK, sizeof(STUCK));
	while (w->envp[n] && strncmp(w->envp[n], STUCK, strlen(STUCK)) != 0)
		n++;
	free(w->envp[n]);
	w->envp[n] = w->stuck;
	return 0;
}

int mb_watchdog_set(double grace, const char *const *argv, struct mb_error *err)
{
	struct watchdog *w = calloc(1, sizeof(*w));

	if (!w || (argv && fill_watchdog(w, argv) != 0)) {
		if (w)
			free_watchdog(w);
		return mb_fail(err, ENOMEM, "watch", "process", "out of memory");
	}
	w->grace = grace > 0 ? (uint64_t)(grace * 1e9) : 0;
	w->before = __atomic_load_n(&watchdog, __ATOMIC_ACQUIRE);
	while (!__atomic_compare_exchange_n(&watchdog, &w->before, w, false, __ATOMIC_ACQ_REL,
					    __ATOMIC_ACQUIRE))
		;
	return 0;
}

/* ---- the timer ------------------------------------------------------------------------------------------ */

static void fire_in(uint64_t ns)
{
	struct itimerspec at = { .it_value = { .tv_sec = (time_t)(ns / 1000000000u),
					       .tv_nsec = (long)(ns % 1000000000u) } };

	timer_settime(here.timer, 0, &at, NULL);
}

static uint64_t clamp(uint64_t ns)
{
	return ns < TICK_MIN ? TICK_MIN : ns;
}

/* How long until the call at hand has to be looked at. A call of many turns is looked at more often:
 * what is known is only that a turn began since the last look. */
static uint64_t look_in(const struct mb_deadline *d, uint64_t now)
{
	uint64_t end = d->since + d->limit, left = end > now ? end - now : 0;

	if (d->over)
		return TICK_OVER;
	return clamp(left > d->limit / 4 && d->turns ? d->limit / 4 : left);
}

static void expire(struct mb_deadline *d, uint64_t now)
{
	const struct watchdog *w;

	if (!d->over) {
		d->over = true;
		d->over_at = now;
	}
	if (d->paused)
		return;
	mb_stop = 1;
	w = __atomic_load_n(&watchdog, __ATOMIC_ACQUIRE);
	if (w && w->grace && now - d->over_at > w->grace)
		restart(w, d->name);
	if (d->expire)
		d->expire(d);
}

static void on_tick(int sig)
{
	struct mb_deadline *d = here.now;
	int kept = errno;
	uint64_t now, next;

	(void)sig;
	if (!d) { /* nothing runs: the next call sets the timer */
		here.next = 0;
		return;
	}
	now = mb_now_ns();
	if (d->turns != d->seen && !d->over) {
		d->seen = d->turns;
		d->since = now;
	}
	if (d->over || now - d->since >= d->limit)
		expire(d, now);
	next = look_in(d, now);
	here.next = now + next;
	fire_in(next);
	errno = kept;
}

/* A child of fork has no timers. */
static void after_fork(void)
{
	here.made = false;
	here.next = 0;
}

/* The kernel keeps a thread's timers until the process ends. */
static void drop_timer(void *unused)
{
	(void)unused;
	if (here.made)
		timer_delete(here.timer);
	here.made = false;
	here.next = 0;
}

static int take_signal(struct mb_error *err)
{
	struct sigaction act = { .sa_handler = on_tick, .sa_flags = SA_RESTART }, old;

	if (pthread_key_create(&thread_end, drop_timer) != 0)
		return mb_fail(err, EAGAIN, "limit", "process", "no more thread-specific data");
	sigemptyset(&act.sa_mask);
	for (int sig = SIGRTMAX - 1; sig > SIGRTMIN; sig--) {
		if (sigaction(sig, NULL, &old) != 0 || old.sa_handler != SIG_DFL)
			continue;
		if (sigaction(sig, &act, NULL) != 0)
			continue;
		signal_number = sig;
		pthread_atfork(NULL, NULL, after_fork);
		return 0;
	}
	pthread_key_delete(thread_end);
	return mb_fail(err, EBUSY, "limit", "process", "all real-time signals are taken");
}

int mb_deadline_prepare(struct mb_error *err)
{
	struct sigevent how = { .sigev_notify = SIGEV_THREAD_ID };
	sigset_t ours;
	int rc;

	if (here.made)
		return 0;
	pthread_mutex_lock(&taking); /* threads may come here at once */
	rc = signal_number ? 0 : take_signal(err);
	pthread_mutex_unlock(&taking);
	if (rc)
		return rc;
	how.sigev_signo = signal_number;
	how.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
	if (timer_create(CLOCK_MONOTONIC, &how, &here.timer) != 0)
		return mb_fail(err, errno, "limit", "process", "no timer: %s",
			       mb_error_text(errno));
	sigemptyset(&ours);
	sigaddset(&ours, signal_number);
	pthread_sigmask(SIG_UNBLOCK, &ours, NULL);
	here.made = true;
	pthread_setspecific(thread_end, &here);
	return 0;
}

/* ---- calls ---------------------------------------------------------------------------------------------- */

/* The timer fires by the time that d has to be looked at. */
static void watch(const struct mb_deadline *d, uint64_t now)
{
	uint64_t next = look_in(d, now);

	if (here.next && here.next <= now + next) /* it looks early enough */
		return;
	here.next = now + next;
	fire_in(next);
}

void mb_deadline_begin(struct mb_deadline *d, double seconds)
{
	uint64_t now = mb_now_ns();

	d->outer = here.now;
	d->limit = seconds > 0 && seconds < 1e9 ? (uint64_t)(seconds * 1e9) : (uint64_t)1e18;
	d->since = now;
	d->over_at = 0;
	d->turns = d->seen = 0;
	d->over = d->paused = false;
	d->stop_before = mb_stop;
	mb_stop = 0;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	here.now = d;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	watch(d, now);
}

void mb_deadline_end(struct mb_deadline *d)
{
	here.now = d->outer;
	d->over = false;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	mb_stop = d->stop_before;
	if (d->outer) /* the timer may have been set by this one's time alone */
		watch(d->outer, mb_now_ns());
}

void mb_deadline_again(struct mb_deadline *d)
{
	d->since = mb_now_ns();
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	d->over = false;
	mb_stop = 0;
}

void mb_deadline_pause(struct mb_deadline *d)
{
	d->paused = true;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	mb_stop = 0;
}

void mb_deadline_resume(struct mb_deadline *d)
{
	d->paused = false;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (d->over)
		mb_stop = 1;
}

void mb_deadline_turn(void)
{
	struct mb_deadline *d = here.now;

	if (d)
		d->turns++;
}

void mb_deadline_expire(struct mb_deadline *d)
{
	expire(d, mb_now_ns());
}
