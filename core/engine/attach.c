/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where a program goes: by its section's name, or as the caller says. One row per kind; what a row
 * does is in attach_*.c, what a link does afterwards in link.c.
 */
#include "engine/privilege.h"
#include "internal.h"

/* ---- options ------------------------------------------------------------------------------------------ */

enum {
	IFNAME = 1 << 0,
	MODE = 1 << 1,
	DIRECTION = 1 << 2,
	CGROUP = 1 << 3,
	NETNS = 1 << 4,
	CATEGORY = 1 << 5,
	TRACEPOINT = 1 << 6,
	FUNCTION = 1 << 7,
	SYSCALL = 1 << 8,
	BINARY = 1 << 9,
	USDT = 1 << 10,
	EVENT = 1 << 11,
	FAMILY = 1 << 12,
	HOOK = 1 << 13,
	FUNCTIONS = 1 << 14,
	COOKIES = 1 << 15,
	MAP = 1 << 16,
	PLACE = 1 << 17,
	OFFSET = 1 << 18,
	COOKIE = 1 << 19,
	FREQUENCY = 1 << 20,
	PERIOD = 1 << 21,
	PRIORITY = 1 << 22,
	HANDLE = 1 << 23,
	PID = 1 << 24,
	CPU = 1 << 25,
	SOCKET = 1 << 26,
	RETPROBE = 1 << 27,
	DEFRAG = 1 << 28,
	SELF = 1 << 29, /* no option: the section names what it was loaded for */
	/* what a section may name, too */
	NAMED = TRACEPOINT | CATEGORY | FUNCTION | FUNCTIONS | SYSCALL | BINARY | USDT,
};

/* Names as in a script's options, in the order of the bits. */
static const struct {
	const char *name;
	size_t at;
	size_t size;
} options[] = {
#define OPTION(name, field)                                                                        \
	{                                                                                          \
		name, offsetof(struct mb_attach, field), sizeof(((struct mb_attach *)0)->field)    \
	}
	OPTION("ifname", ifname),
	OPTION("mode", mode),
	OPTION("direction", direction),
	OPTION("cgroup", cgroup),
	OPTION("netns", netns),
	OPTION("", category),
	OPTION("tracepoint", tracepoint),
	OPTION("function", function),
	OPTION("syscall", syscall),
	OPTION("binary", binary),
	OPTION("usdt", usdt),
	OPTION("event", event),
	OPTION("family", family),
	OPTION("hook", hook),
	OPTION("functions", nfunctions),
	OPTION("", cookies),
	OPTION("map", map),
	OPTION("place, before or after", place),
	OPTION("offset", offset),
	OPTION("cookie", cookie),
	OPTION("frequency", frequency),
	OPTION("period", period),
	OPTION("priority", priority),
	OPTION("handle", handle),
	OPTION("pid", pid),
	OPTION("cpu", cpu),
	OPTION("socket", socket),
	OPTION("retprobe", retprobe),
	OPTION("defrag", defrag),
#undef OPTION
};
#define NOPTIONS (sizeof(options) / sizeof(options[0]))

static uint32_t given(const struct mb_attach *how)
{
	static const char zero[16];
	uint32_t bits = 0;

	for (size_t i = 0; i < NOPTIONS; i++)
		if (memcmp((const char *)how + options[i].at, zero, options[i].size) != 0)
			bits |= 1u << i;
	return bits;
}

/* ---- kinds -------------------------------------------------------------------------------------------- */

/* Attach types that the oldest headers that we build with do not know. */
enum {
	ANY = -1,
	KPROBE_MULTI = 42,
	LSM_CGROUP = 43,
	UPROBE_MULTI = 48,
	KPROBE_SESSION = 56,
	UPROBE_SESSION = 57
};
#define PROG_TYPE_NETFILTER 32

/* One row per kind: the type of its programs and what they expect to be attached to; which options say
 * where, and which may come with them; what attaches it; what of the kernel's BTF says that there is
 * such a thing, and what it needs. The first row that fits is taken. */
static const struct kind {
	const char *name;
	uint32_t type;
	int expects;
	uint32_t must, may;
	mb_attach_fn attach;
	const char *enumerator, *needs;
} kinds[] = {
	{ "XDP", BPF_PROG_TYPE_XDP, ANY, IFNAME, MODE, mb_attach_xdp, "BPF_XDP", "Linux 5.9" },
	{ "tc", BPF_PROG_TYPE_SCHED_CLS, ANY, IFNAME, DIRECTION | MODE | PLACE | PRIORITY | HANDLE,
	  mb_attach_tc, NULL, NULL },
	{ "netfilter", PROG_TYPE_NETFILTER, ANY, FAMILY | HOOK, PRIORITY | DEFRAG,
	  mb_attach_netfilter, "BPF_NETFILTER", "Linux 6.4 with CONFIG_NETFILTER_BPF_LINK" },
	{ "sk_lookup", BPF_PROG_TYPE_SK_LOOKUP, ANY, NETNS, 0, mb_attach_netns, "BPF_SK_LOOKUP",
	  "Linux 5.9" },
	{ "flow dissector", BPF_PROG_TYPE_FLOW_DISSECTOR, ANY, NETNS, 0, mb_attach_netns,
	  "BPF_FLOW_DISSECTOR", "Linux 5.8" },
	{ "cgroup", BPF_PROG_TYPE_CGROUP_SKB, ANY, CGROUP, PLACE, mb_attach_cgroup, NULL, NULL },
	{ "cgroup", BPF_PROG_TYPE_CGROUP_SOCK, ANY, CGROUP, PLACE, mb_attach_cgroup, NULL, NULL },
	{ "cgroup", BPF_PROG_TYPE_CGROUP_SOCK_ADDR, ANY, CGROUP, PLACE, mb_attach_cgroup, NULL,
	  NULL },
	{ "cgroup", BPF_PROG_TYPE_SOCK_OPS, ANY, CGROUP, PLACE, mb_attach_cgroup, NULL, NULL },
	{ "cgroup", BPF_PROG_TYPE_CGROUP_DEVICE, ANY, CGROUP, PLACE, mb_attach_cgroup, NULL, NULL },
	{ "cgroup", BPF_PROG_TYPE_CGROUP_SYSCTL, ANY, CGROUP, PLACE, mb_attach_cgroup, NULL, NULL },
	{ "cgroup", BPF_PROG_TYPE_CGROUP_SOCKOPT, ANY, CGROUP, PLACE, mb_attach_cgroup, NULL,
	  NULL },
	{ "sk_msg", BPF_PROG_TYPE_SK_MSG, ANY, MAP, 0, mb_attach_sockmap, NULL, NULL },
	{ "sk_skb", BPF_PROG_TYPE_SK_SKB, ANY, MAP, 0, mb_attach_sockmap, NULL, NULL },
	{ "socket filter", BPF_PROG_TYPE_SOCKET_FILTER, ANY, SOCKET, 0, mb_attach_socket, NULL,
	  NULL },
	{ "sk_reuseport", BPF_PROG_TYPE_SK_REUSEPORT, ANY, SOCKET, 0, mb_attach_socket, NULL,
	  NULL },
	{ "iter", BPF_PROG_TYPE_TRACING, BPF_TRACE_ITER, SELF, MAP | CGROUP | PID, mb_attach_iter,
	  NULL, NULL },
	{ "tracing", BPF_PROG_TYPE_TRACING, ANY, SELF, COOKIE, mb_attach_tracing, NULL, NULL },
	{ "lsm_cgroup", BPF_PROG_TYPE_LSM, LSM_CGROUP, SELF | CGROUP, 0, mb_attach_cgroup,
	  "BPF_LSM_CGROUP", "Linux 6.0" },
	{ "lsm", BPF_PROG_TYPE_LSM, ANY, SELF, COOKIE, mb_attach_tracing, NULL, NULL },
	{ "tracepoint", BPF_PROG_TYPE_TRACEPOINT, ANY, CATEGORY | TRACEPOINT, COOKIE,
	  mb_attach_tracepoint, NULL, NULL },
	{ "raw_tp", BPF_PROG_TYPE_RAW_TRACEPOINT, ANY, TRACEPOINT, COOKIE, mb_attach_raw, NULL,
	  NULL },
	{ "raw_tp.w", BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE, ANY, TRACEPOINT, COOKIE, mb_attach_raw,
	  NULL, NULL },
	/* libbpf expects a USDT program to be attached as uprobe.multi, where the kernel has it */
	{ "usdt", BPF_PROG_TYPE_KPROBE, UPROBE_MULTI, BINARY | USDT, PID | COOKIE, mb_attach_usdt,
	  NULL, NULL },
	{ "uprobe.multi", BPF_PROG_TYPE_KPROBE, UPROBE_MULTI, BINARY,
	  FUNCTION | FUNCTIONS | PID | RETPROBE | COOKIE | COOKIES, mb_attach_umulti,
	  "BPF_TRACE_UPROBE_MULTI", "Linux 6.6" },
	{ "uprobe.session", BPF_PROG_TYPE_KPROBE, UPROBE_SESSION, BINARY,
	  FUNCTION | FUNCTIONS | PID | COOKIE | COOKIES, mb_attach_umulti,
	  "BPF_TRACE_UPROBE_SESSION", "Linux 6.13" },
	{ "kprobe.multi", BPF_PROG_TYPE_KPROBE, KPROBE_MULTI, FUNCTION, RETPROBE | COOKIE,
	  mb_attach_multi, "BPF_TRACE_KPROBE_MULTI", "Linux 5.18 with CONFIG_FPROBE" },
	{ "kprobe.multi", BPF_PROG_TYPE_KPROBE, KPROBE_MULTI, FUNCTIONS,
	  RETPROBE | COOKIE | COOKIES, mb_attach_multi, "BPF_TRACE_KPROBE_MULTI",
	  "Linux 5.18 with CONFIG_FPROBE" },
	{ "kprobe.session", BPF_PROG_TYPE_KPROBE, KPROBE_SESSION, FUNCTION, COOKIE, mb_attach_multi,
	  "BPF_TRACE_KPROBE_SESSION", "Linux 6.10" },
	{ "kprobe.session", BPF_PROG_TYPE_KPROBE, KPROBE_SESSION, FUNCTIONS, COOKIE | COOKIES,
	  mb_attach_multi, "BPF_TRACE_KPROBE_SESSION", "Linux 6.10" },
	{ "usdt", BPF_PROG_TYPE_KPROBE, ANY, BINARY | USDT, PID | COOKIE, mb_attach_usdt, NULL,
	  NULL },
	{ "uprobe", BPF_PROG_TYPE_KPROBE, ANY, BINARY, FUNCTION | PID | OFFSET | RETPROBE | COOKIE,
	  mb_attach_uprobe, NULL, NULL },
	{ "ksyscall", BPF_PROG_TYPE_KPROBE, ANY, SYSCALL, RETPROBE | COOKIE, mb_attach_ksyscall,
	  NULL, NULL },
	{ "kprobe", BPF_PROG_TYPE_KPROBE, ANY, FUNCTION, OFFSET | RETPROBE | COOKIE,
	  mb_attach_kprobe, NULL, NULL },
	{ "perf_event", BPF_PROG_TYPE_PERF_EVENT, ANY, EVENT,
	  FREQUENCY | PERIOD | PID | CPU | COOKIE, mb_attach_perf, NULL, NULL },
};
#define NKINDS (sizeof(kinds) / sizeof(kinds[0]))

/* own: programs that expect just this are of no other kind. */
static bool is_for(const struct kind *kind, const struct mb_program *prog, bool *own)
{
	if (kind->type != prog->type)
		return false;
	if (kind->expects == ANY)
		return !*own;
	if (kind->expects != (int)bpf_program__expected_attach_type(prog->bpf))
		return false;
	*own = true;
	return true;
}

static const struct kind *kind_for(const struct mb_program *prog, uint32_t bits)
{
	bool own = false;

	for (size_t i = 0; i < NKINDS; i++) {
		const struct kind *k = &kinds[i];

		if (is_for(k, prog, &own) && (bits & k->must) == k->must &&
		    !(bits & ~(k->must | k->may | SELF)))
			return k;
	}
	return NULL;
}

/* ---- what a section says ---------------------------------------------------------------------------- */

enum form { FORM_FUNCTION, FORM_SYSCALL, FORM_BINARY, FORM_USDT, FORM_TRACEPOINT, FORM_RAW };

/* What stands before the first slash, without ".s" (sleepable). */
static const struct {
	const char *prefix;
	enum form form;
	bool retprobe;
} sections[] = {
	{ "kprobe", FORM_FUNCTION, false },
	{ "kretprobe", FORM_FUNCTION, true },
	{ "kprobe.multi", FORM_FUNCTION, false },
	{ "kretprobe.multi", FORM_FUNCTION, true },
	{ "kprobe.session", FORM_FUNCTION, false },
	{ "ksyscall", FORM_SYSCALL, false },
	{ "kretsyscall", FORM_SYSCALL, true },
	{ "uprobe", FORM_BINARY, false },
	{ "uretprobe", FORM_BINARY, true },
	{ "uprobe.multi", FORM_BINARY, false },
	{ "uretprobe.multi", FORM_BINARY, true },
	{ "uprobe.session", FORM_BINARY, false },
	{ "usdt", FORM_USDT, false },
	{ "tracepoint", FORM_TRACEPOINT, false },
	{ "tp", FORM_TRACEPOINT, false },
	{ "raw_tracepoint", FORM_RAW, false },
	{ "raw_tp", FORM_RAW, false },
	{ "raw_tracepoint.w", FORM_RAW, false },
	{ "raw_tp.w", FORM_RAW, false },
};

/* "function+0x10", "0x10": takes the number off. */
static void take_offset(struct mb_attach *how, char *text)
{
	char *plus = strchr(text, '+');

	if (plus) {
		how->offset = strtoull(plus + 1, NULL, 0);
		*plus = '\0';
	} else if (*text >= '0' && *text <= '9') {
		how->offset = strtoull(text, NULL, 0);
		*text = '\0';
	}
	how->function = *text ? text : NULL;
}

static void take_section(struct mb_attach *how, enum form form, char *rest)
{
	char *at = strchr(rest, form == FORM_TRACEPOINT ? '/' : ':');

	if (form == FORM_FUNCTION) {
		take_offset(how, rest);
	} else if (form == FORM_SYSCALL) {
		how->syscall = rest;
	} else if (form == FORM_RAW) {
		how->tracepoint = rest;
	} else if (at && at[1]) {
		*at++ = '\0';
		if (form == FORM_TRACEPOINT) {
			how->category = rest;
			how->tracepoint = at;
			return;
		}
		how->binary = rest;
		if (form == FORM_USDT)
			how->usdt = at;
		else
			take_offset(how, at);
	}
}

static bool is_prefix(const char *section, size_t len, const char *prefix)
{
	size_t n = strlen(prefix);

	return strncmp(section, prefix, n) == 0 &&
	       (len == n || (len == n + 2 && strncmp(section + n, ".s", 2) == 0));
}

/* Complete what the caller said by what the section does: where it is, unless the caller names another
 * place, and whether it is a function's return. Gives the bits of the whole. */
static uint32_t complete(struct mb_site *site)
{
	const char *section = bpf_program__section_name(site->prog->bpf);
	size_t len = strcspn(section, "/");
	uint32_t bits = given(&site->how);
	bool names = section[len] && section[len + 1];

	for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
		if (!is_prefix(section, len, sections[i].prefix))
			continue;
		if (names && !(bits & NAMED)) {
			snprintf(site->text, sizeof(site->text), "%s", section + len + 1);
			take_section(&site->how, sections[i].form, site->text);
		}
		site->how.retprobe |= sections[i].retprobe;
		return given(&site->how);
	}
	return bits | (names ? SELF : 0);
}

bool mb_program_attaches(const struct mb_program *prog)
{
	struct mb_site site = { .prog = (struct mb_program *)prog };
	const struct kind *kind;

	if (!prog->bpf || !bpf_program__section_name(prog->bpf))
		return false;
	kind = kind_for(prog, complete(&site));
	/* an iterator over a map needs to know which */
	return kind && !(kind->attach == mb_attach_iter &&
			 (strstr(bpf_program__section_name(prog->bpf), "/bpf_map_elem") ||
			  strstr(bpf_program__section_name(prog->bpf), "/bpf_sk_storage_map")));
}

/* ---- failures ----------------------------------------------------------------------------------------- */

int mb_attach_failed(const struct mb_site *site, int code, const char *where, struct mb_error *err)
{
	int rc = mb_fail(err, code, "attach program", site->prog->name, "%s%s%s",
			 where ? where : "", where ? ": " : "",
			 mb_error_text(code < 0 ? -code : code));

	mb_privilege_explain(mb_privilege_needs(site->prog->type), err);
	return rc;
}

int mb_attach_lacks(const struct mb_site *site, const char *what, const char *needs,
		    struct mb_error *err)
{
	mb_fail(err, EOPNOTSUPP, "attach program", site->prog->name, "there is no %s here", what);
	mb_error_hint(err, "it needs %s", needs);
	return -EOPNOTSUPP;
}

bool mb_kernel_has_enumerator(const char *name)
{
	struct btf *btf = btf__load_vmlinux_btf();
	bool found = false;
	uint32_t n;

	if (!btf)
		return true;
	n = btf__type_cnt(btf);
	for (uint32_t id = 1; id < n && !found; id++) {
		const struct btf_type *t = btf__type_by_id(btf, id);
		const char *of = btf__name_by_offset(btf, t->name_off);

		if (!btf_is_enum(t) || strcmp(of, "bpf_attach_type") != 0)
			continue;
		for (uint16_t i = 0; i < btf_vlen(t) && !found; i++)
			found = strcmp(btf__name_by_offset(btf, btf_enum(t)[i].name_off), name) ==
				0;
	}
	btf__free(btf);
	return found;
}

/* Does the refusal mean that the kernel has nothing of the kind? */
static bool is_lacking(const struct kind *kind, int rc)
{
	return rc == -EOPNOTSUPP || rc == -ENOTSUPP ||
	       (rc == -EINVAL && !mb_kernel_has_enumerator(kind->enumerator));
}

/* "a, b or c": the names of some options. */
static void list(uint32_t bits, const char *and, char *to, size_t room)
{
	bool category = bits & CATEGORY;
	size_t len = 0;

	bits &= ~(uint32_t)(SELF | CATEGORY | COOKIES);
	to[0] = '\0';
	for (size_t i = 0; i < NOPTIONS && len < room; i++)
		if (bits & 1u << i) {
			bits &= ~(1u << i);
			len += (size_t)snprintf(
				to + len, room - len, "%s%s%s", options[i].name,
				category && 1u << i == TRACEPOINT ? " = \"category:name\"" : "",
				!bits		  ? "" :
				bits & (bits - 1) ? ", " :
						    and);
		}
}

/* No option may pass in silence: say what a program of this type takes. */
static int no_kind(const struct mb_site *site, uint32_t bits, struct mb_error *err)
{
	const char *section = bpf_program__section_name(site->prog->bpf);
	char text[400] = "", must[128], may[200];
	bool own = false;
	size_t len = 0;

	for (size_t i = 0; i < NKINDS && len < sizeof(text); i++) {
		const struct kind *k = &kinds[i];

		if (!is_for(k, site->prog, &own))
			continue;
		list(k->must, " and ", must, sizeof(must));
		list(k->may, " or ", may, sizeof(may));
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s%s%s%s (%s)",
					len ? "; " : "", must, *must && *may ? ", " : "",
					*may  ? "perhaps " :
					*must ? "" :
						"nothing",
					may, k->name);
	}
	if (!(bits & ~(uint32_t)SELF))
		mb_fail(err, EOPNOTSUPP, "attach program", site->prog->name,
			"its section '%s' does not say where", section);
	else
		mb_fail(err, EINVAL, "attach program", site->prog->name,
			"a program of type %s is not attached by these options",
			mb_program_type_name(site->prog->type));
	if (site->prog->type == BPF_PROG_TYPE_SYSCALL)
		mb_error_hint(err, "a syscall program runs by prog:run()");
	else if (site->prog->type == BPF_PROG_TYPE_STRUCT_OPS)
		mb_error_hint(err, "its map is attached: obj.maps.NAME:attach()");
	else if (len)
		mb_error_hint(err, "prog:attach takes: %s", text);
	return bits & ~(uint32_t)SELF ? -EINVAL : -EOPNOTSUPP;
}

/* ---- attach ------------------------------------------------------------------------------------------- */

int mb_hook_attach(struct mb_program *prog, const struct mb_attach *how, struct mb_hook *hook,
		   struct mb_error *err)
{
	struct mb_site site = { .prog = prog };
	const struct kind *kind;
	struct mb_capture cap;
	uint32_t bits;
	int rc;

	if (!prog->bpf)
		return mb_fail(err, EOPNOTSUPP, "attach program", prog->name,
			       "only programs of an object of ours can be attached");
	if (how)
		site.how = *how;
	bits = complete(&site);
	kind = kind_for(prog, bits);
	if (!kind)
		return no_kind(&site, bits, err);
	*hook = (struct mb_hook){ .fd = -1, .target = -1, .prog = -1 };
	mb_capture_begin(&cap);
	rc = kind->attach(&site, hook, err);
	mb_capture_end(&cap, err);
	if (rc && kind->enumerator && is_lacking(kind, rc) && !(err && err->hint[0])) {
		if (err)
			mb_error_fini(err);
		rc = mb_attach_lacks(&site, kind->name, kind->needs, err);
	}
	if (rc)
		mb_hook_end(hook);
	return rc;
}
