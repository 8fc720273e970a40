/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The service manager's side of things, as sd_notify(3) describes it: telling it our state, giving
 * it descriptors to keep, taking them back.
 */
#ifndef MB_NOTIFY_H
#define MB_NOTIFY_H

#include "engine/engine.h"

#define MB_NOTIFY_FDS 128

/* Tell text ("READY=1\nSTATUS=…"), with n descriptors. 1 told; 0: nobody asked (no NOTIFY_SOCKET). */
int mb_notify(const char *text, const int *fds, size_t n, struct mb_error *err);
/* The i-th descriptor that we were started with: 1, its fd and name; 0 at the end. Only those meant
 * for this process (LISTEN_PID); from now on they are not inherited. */
int mb_notify_passed(size_t i, int *fd, char *name, size_t room);
/* Seconds between two signs of life that it wants (WATCHDOG_USEC, WATCHDOG_PID); 0: none. */
double mb_notify_watchdog(void);

#endif
