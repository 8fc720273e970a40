/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What this process may do, as the kernel tells it in /proc and /sys. It asks nothing of BPF.
 */
#include "engine/privilege.h"

#include "internal.h"

#define BIT(cap) (1ULL << (cap))

/* ---- reading ----------------------------------------------------------------------------------------- */

/* The first line of a file, without its end; false: it cannot be read. */
static bool read_line(const char *path, char *to, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, to, room - 1) : -1;

	if (fd >= 0)
		close(fd);
	to[n > 0 ? n : 0] = '\0';
	to[strcspn(to, "\n")] = '\0';
	return n >= 0;
}

static int read_number(const char *path)
{
	char text[32], *end;
	long n;

	if (!read_line(path, text, sizeof(text)))
		return MB_UNKNOWN;
	n = strtol(text, &end, 10);
	return end == text ? MB_UNKNOWN : (int)n;
}

static void read_status(struct mb_privileges *p)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[256];

	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, "CapEff:", 7) == 0)
			p->caps = strtoull(line + 7, NULL, 16);
		else if (strncmp(line, "Seccomp:", 8) == 0)
			p->seccomp = atoi(line + 8);
		else if (strncmp(line, "NoNewPrivs:", 11) == 0)
			p->no_new_privs = atoi(line + 11);
	}
	if (f)
		fclose(f);
}

/* "none [integrity] confidentiality" -> "integrity". Without securityfs the command line may tell. */
static void read_lockdown(struct mb_privileges *p)
{
	char text[4096], *from, *to;

	if (read_line("/sys/kernel/security/lockdown", text, sizeof(text))) {
		from = strchr(text, '[');
		to = from ? strchr(from, ']') : NULL;
		if (to)
			snprintf(p->lockdown, sizeof(p->lockdown), "%.*s", (int)(to - from - 1),
				 from + 1);
	} else if (read_line("/proc/cmdline", text, sizeof(text)) &&
		   (from = strstr(text, "lockdown=")) && (from == text || from[-1] == ' ')) {
		from += strlen("lockdown=");
		snprintf(p->lockdown, sizeof(p->lockdown), "%.*s", (int)strcspn(from, " "), from);
	}
}

void mb_privileges_read(struct mb_privileges *out)
{
	memset(out, 0, sizeof(*out));
	out->uid = geteuid();
	out->seccomp = out->no_new_privs = MB_UNKNOWN;
	read_status(out);
	read_lockdown(out);
	read_line("/sys/kernel/security/lsm", out->lsm, sizeof(out->lsm));
	out->unprivileged_bpf_disabled = read_number("/proc/sys/kernel/unprivileged_bpf_disabled");
	out->perf_event_paranoid = read_number("/proc/sys/kernel/perf_event_paranoid");
	out->kptr_restrict = read_number("/proc/sys/kernel/kptr_restrict");
	out->bpf_stats_enabled = read_number("/proc/sys/kernel/bpf_stats_enabled");
	out->jit_enable = read_number("/proc/sys/net/core/bpf_jit_enable");
	out->jit_harden = read_number("/proc/sys/net/core/bpf_jit_harden");
}

/* ---- what is needed ---------------------------------------------------------------------------------- */

const char *mb_cap_name(enum mb_cap cap)
{
	switch (cap) {
	case MB_CAP_NET_ADMIN:
		return "CAP_NET_ADMIN";
	case MB_CAP_IPC_LOCK:
		return "CAP_IPC_LOCK";
	case MB_CAP_SYS_ADMIN:
		return "CAP_SYS_ADMIN";
	case MB_CAP_SYS_RESOURCE:
		return "CAP_SYS_RESOURCE";
	case MB_CAP_SYSLOG:
		return "CAP_SYSLOG";
	case MB_CAP_PERFMON:
		return "CAP_PERFMON";
	case MB_CAP_BPF:
		return "CAP_BPF";
	}
	return "CAP_?";
}

/* As is_net_admin_prog_type and is_perfmon_prog_type of the kernel's syscall.c have it. */
uint64_t mb_privilege_needs(uint32_t prog_type)
{
	switch (prog_type) {
	case BPF_PROG_TYPE_KPROBE:
	case BPF_PROG_TYPE_TRACEPOINT:
	case BPF_PROG_TYPE_PERF_EVENT:
	case BPF_PROG_TYPE_RAW_TRACEPOINT:
	case BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE:
	case BPF_PROG_TYPE_TRACING:
	case BPF_PROG_TYPE_LSM:
		return BIT(MB_CAP_BPF) | BIT(MB_CAP_PERFMON);
	case BPF_PROG_TYPE_STRUCT_OPS:
	case BPF_PROG_TYPE_EXT:
		return BIT(MB_CAP_BPF) | BIT(MB_CAP_PERFMON) | BIT(MB_CAP_NET_ADMIN);
	case BPF_PROG_TYPE_SOCKET_FILTER:
	case BPF_PROG_TYPE_SYSCALL:
	case BPF_PROG_TYPE_SK_REUSEPORT:
	case BPF_PROG_TYPE_UNSPEC:
		return BIT(MB_CAP_BPF);
	default:
		return BIT(MB_CAP_BPF) | BIT(MB_CAP_NET_ADMIN);
	}
}

/* The names of the missing ones, "CAP_BPF and CAP_PERFMON", and as setcap takes them. */
static uint64_t missing(const struct mb_privileges *p, uint64_t needs, char *names, size_t room,
			char *flags, size_t flags_room)
{
	static const enum mb_cap caps[] = { MB_CAP_BPF, MB_CAP_PERFMON, MB_CAP_NET_ADMIN };
	uint64_t lacks = p->caps & BIT(MB_CAP_SYS_ADMIN) ? 0 : needs & ~p->caps;
	size_t n = 0, m = 0;

	*names = *flags = '\0';
	for (size_t i = 0; i < sizeof(caps) / sizeof(caps[0]); i++) {
		const char *name = mb_cap_name(caps[i]);

		if (!(lacks & BIT(caps[i])))
			continue;
		n += (size_t)snprintf(names + n, room - n, "%s%s", n ? ", " : "", name);
		m += (size_t)snprintf(flags + m, flags_room - m, "%scap_%s", m ? "," : "",
				      name + 4);
	}
	for (char *c = flags; *c; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c - 'A' + 'a');
	return lacks;
}

/* The verifier does not know helpers that this process may not use. */
static bool lacks_helper(const struct mb_error *err)
{
	return err->code == EINVAL && err->log &&
	       (strstr(err->log, "cannot use helper") || strstr(err->log, "unknown func"));
}

void mb_privilege_explain(uint64_t needs, struct mb_error *err)
{
	struct mb_privileges p;
	char names[128], flags[128];

	if (!err || (err->code != EPERM && !lacks_helper(err)))
		return;
	mb_privileges_read(&p);
	if (err->code != EPERM) {
		if (missing(&p, BIT(MB_CAP_PERFMON), names, sizeof(names), flags, sizeof(flags)))
			mb_error_hint(err,
				      "the kernel hides some helpers from who lacks "
				      "CAP_PERFMON: run as root, or setcap cap_bpf,cap_perfmon+ep "
				      "PROGRAM");
		return;
	}
	if (missing(&p, needs, names, sizeof(names), flags, sizeof(flags)))
		mb_error_hint(err,
			      "it lacks %s%s: run as root, or give the program that runs it: "
			      "setcap %s+ep PROGRAM",
			      names,
			      p.unprivileged_bpf_disabled > 0 ?
				      " (kernel.unprivileged_bpf_disabled is set)" :
				      "",
			      flags);
	else if (p.lockdown[0] && strcmp(p.lockdown, "none") != 0)
		mb_error_hint(err,
			      "the capabilities are there, but the kernel is locked down (%s): it "
			      "refuses what can write to its memory, such as fentry, lsm and ext",
			      p.lockdown);
	else if (p.seccomp == 2)
		mb_error_hint(err, "the capabilities are there, but a seccomp filter is on, as "
				   "containers have: it must allow bpf and perf_event_open");
	else
		mb_error_hint(
			err,
			"the capabilities are there: an LSM or the lockdown forbids it%s%s%s, "
			"see moonbee doctor",
			p.lsm[0] ? " (" : "", p.lsm, p.lsm[0] ? ")" : "");
}
