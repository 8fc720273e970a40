/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * deadline.c: a limit in wall-clock time for a call that runs on this thread. It knows nothing of
 * what runs: when the time is over, it sets the flag that C loops look at, and calls a function.
 */
#ifndef MB_DEADLINE_H
#define MB_DEADLINE_H

#include "engine/engine.h"

/* One call at hand; nests. Fields are written by the signal's handler, too. */
struct mb_deadline {
	struct mb_deadline *outer;
	uint64_t limit; /* ns */
	volatile uint64_t since;
	volatile uint64_t over_at;     /* when the time was over */
	volatile uint32_t turns, seen; /* of a call that is many in a row */
	volatile bool over;
	volatile bool paused; /* its time goes on, but it is not ended now */
	int stop_before;      /* the flag as it was */
	/* In the handler, at the end of the time and again every few ms: async-signal-safe. */
	void (*expire)(struct mb_deadline *d);
	const char *name; /* for the watchdog */
};

/* Make this thread's timer and take a real-time signal that nobody handles, if that was not done.
 * -EAGAIN: no timer; -EBUSY: all real-time signals are taken. */
int mb_deadline_prepare(struct mb_error *err);
/* Calls may come often: while the timer runs, beginning and ending costs no system call. */
void mb_deadline_begin(struct mb_deadline *d, double seconds);
void mb_deadline_end(struct mb_deadline *d);
/* The innermost call of this thread starts its time anew: it is the next of many. */
void mb_deadline_turn(void);
/* The call gets its time once more. */
void mb_deadline_again(struct mb_deadline *d);
/* While what the call asked for is done by others: nothing is ended, nor is the flag set. */
void mb_deadline_pause(struct mb_deadline *d);
void mb_deadline_resume(struct mb_deadline *d);
/* The call ends as if its time were over. */
void mb_deadline_expire(struct mb_deadline *d);

/* The watchdog: a call that goes on for grace seconds after its time was over is stuck where no flag
 * is looked at. Says so on stderr; then the process becomes the program argv (NULL: none) once more,
 * with MOONBEE_STUCK=name in its environment, or ends with exit code 70. grace 0: no watchdog, the
 * default. For the whole process; may be set on any thread. argv is copied, and each copy is kept:
 * for a process that sets it a few times. -ENOMEM. */
int mb_watchdog_set(double grace, const char *const *argv, struct mb_error *err);

#endif
