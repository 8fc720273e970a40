/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What to do about a failure: a table of (operation, errno, words in the log) -> one sentence. The
 * first row that fits wins. A hint that needs names is given where the failure is, not here.
 */
#include "internal.h"

struct row {
	const char *op;	 /* a prefix of the operation, or NULL: any */
	int code;	 /* 0: any */
	const char *log; /* words in libbpf's or the verifier's log, or NULL */
	bool (*when)(void);
	const char *hint;
};

static bool is_root(void)
{
	return geteuid() == 0;
}

static bool not_root(void)
{
	return geteuid() != 0;
}

static const struct row rows[] = {
	{ "load", 0, "invalid mem access 'map_value_or_null'", NULL,
	  "check the result of bpf_map_lookup_elem for NULL before using it" },
	{ "load", 0, "invalid access to map value", NULL,
	  "bound the offset or index before it is used in a map value or global variable" },
	{ "load", 0, "invalid access to packet", NULL,
	  "compare the pointer with ctx->data_end before reading the packet" },
	{ "load", 0, "back-edge", NULL,
	  "bound the loop by a constant, or use bpf_loop() (Linux 5.17)" },
	{ "load", 0, "program is too large", NULL,
	  "the verifier gave up: simplify branches, bound loops, or split it by tail calls" },
	{ "load", 0, "cannot call GPL-restricted function", NULL,
	  "declare char LICENSE[] SEC(\"license\") = \"GPL\" (or \"Dual BSD/GPL\")" },
	{ "load", 0, "unknown func", NULL,
	  "this kernel lacks that helper for this program type, or lockdown has removed it" },
	{ "load", 0, "failed to find kernel BTF type ID of", NULL,
	  "this kernel has no such function or tracepoint; autoload = false leaves the program out" },
	{ "load", 0, "missing BPF prog type", NULL,
	  "the section's name says nothing to this libbpf: see SEC() names in its documentation" },
	{ NULL, EPERM, NULL, not_root,
	  "run as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN" },
	{ NULL, EACCES, NULL, not_root, "run as root, or ask the owner of the path for access" },
	{ "load", ENOENT, "vmlinux", NULL,
	  "CO-RE needs the kernel's BTF in /sys/kernel/btf/vmlinux; give another by the option btf" },
	{ "pin", EPERM, NULL, is_root,
	  "bpffs refuses names with dots and files; choose a plain name" },
	{ "attach", EBUSY, NULL, NULL, "something else is attached there; detach it first" },
	{ "attach", ENODEV, NULL, NULL, "no such network interface; see `ip link`" },
	{ "attach", EEXIST, NULL, NULL,
	  "something is attached there without a link; detach it first" },
	{ "set", E2BIG, NULL, NULL,
	  "the map is full; raise max_entries before load, or delete entries" },
	{ "open", ENOENT, NULL, NULL,
	  "check the path; relative ones start at the working directory" },
};

static bool fits(const struct row *row, const char *op, int code, const char *log)
{
	if (row->op && strncmp(op, row->op, strlen(row->op)) != 0)
		return false;
	if (row->code && row->code != code)
		return false;
	if (row->log && !(log && strstr(log, row->log)))
		return false;
	return !row->when || row->when();
}

const char *mb_hint_find(const char *op, int code, const char *log)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (fits(&rows[i], op, code, log))
			return rows[i].hint;
	return NULL;
}
