/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What this process may do, and what stands in its way: capabilities, sysctls, lockdown, seccomp.
 * Conventions as in engine.h.
 */
#ifndef MB_PRIVILEGE_H
#define MB_PRIVILEGE_H

#include "engine/engine.h"

/* Bits of .caps that BPF knows of, by their numbers in <linux/capability.h>. */
enum mb_cap {
	MB_CAP_NET_ADMIN = 12,
	MB_CAP_IPC_LOCK = 14,
	MB_CAP_SYS_ADMIN = 21,
	MB_CAP_SYS_RESOURCE = 24,
	MB_CAP_SYSLOG = 34,
	MB_CAP_PERFMON = 38,
	MB_CAP_BPF = 39,
};

#define MB_UNKNOWN (-1) /* of the numbers below: it cannot be read */

struct mb_privileges {
	uint64_t caps; /* effective ones, a bit each */
	uint32_t uid;  /* effective */
	int seccomp;   /* 0 none, 1 strict, 2 a filter */
	int no_new_privs;
	int unprivileged_bpf_disabled; /* 0: everybody may load (some); 1, 2: not */
	int perf_event_paranoid;
	int kptr_restrict;
	int bpf_stats_enabled;
	int jit_enable, jit_harden;
	char lockdown[32]; /* "none", "integrity", "confidentiality"; "": it cannot be read */
	char lsm[256];	   /* "lockdown,capability,bpf"; "": it cannot be read */
};

/* Never fails: what cannot be read is unknown. */
void mb_privileges_read(struct mb_privileges *out);
/* "CAP_BPF" */
const char *mb_cap_name(enum mb_cap cap);
/* The capabilities that loading programs of this type (enum bpf_prog_type) asks for, a bit each; that
 * CAP_SYS_ADMIN stands for all of them is up to the caller. */
uint64_t mb_privilege_needs(uint32_t prog_type);
/* Replace the hint of a load's error with EPERM by what is missing for these: capabilities, or what
 * else stands in the way; of a rejection, where a helper is hidden from who lacks CAP_PERFMON. Does
 * nothing for other errors. */
void mb_privilege_explain(uint64_t needs, struct mb_error *err);

#endif
