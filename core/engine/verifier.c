/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The log of a refused load, read for its reader: which program, what the verifier minded, and the
 * source line it was at. The log itself stays whole in the error.
 */
#include "internal.h"

struct line {
	const char *at;
	size_t len;
};

static bool next_line(const char **rest, struct line *out)
{
	if (!**rest)
		return false;
	out->at = *rest;
	out->len = strcspn(*rest, "\n");
	*rest += out->len + ((*rest)[out->len] == '\n');
	return true;
}

static bool starts(const struct line *l, const char *with)
{
	size_t n = strlen(with);

	return l->len >= n && strncmp(l->at, with, n) == 0;
}

/* "12: (61) r0 = …", "from 3 to 9: …", "R0=…", "; source": what the verifier walked, not what it
 * said about it. */
static bool is_state(const struct line *l)
{
	size_t digits = 0;

	while (digits < l->len && l->at[digits] >= '0' && l->at[digits] <= '9')
		digits++;
	return !l->len || l->at[0] == ';' || (digits && digits < l->len && l->at[digits] == ':') ||
	       starts(l, "from ") || starts(l, "processed ") || starts(l, "verification time") ||
	       starts(l, "stack depth") || starts(l, "mark_precise") || starts(l, "func#") ||
	       starts(l, "-- ") || starts(l, "max_states") || starts(l, "arg#");
}

static void find_words(const char *log, struct line *reason, struct line *source)
{
	const char *rest = strstr(log, "-- BEGIN PROG LOAD LOG --");
	struct line l;

	rest = rest ? rest : log;
	next_line(&rest, &l);
	while (next_line(&rest, &l)) {
		if (starts(&l, "-- END PROG LOAD LOG --"))
			break;
		if (starts(&l, "; "))
			*source = (struct line){ l.at + 2, l.len - 2 };
		else if (!is_state(&l))
			*reason = l;
	}
}

/* "libbpf: prog 'NAME': BPF program load failed: …" */
static bool find_program(const char *log, struct line *name)
{
	const char *said = strstr(log, "BPF program load failed"), *open, *from = NULL;

	for (const char *p = log; said && (p = strstr(p, "prog '")) && p < said; p++)
		from = p;
	if (!from)
		return false;
	open = from + strlen("prog '");
	*name = (struct line){ open, strcspn(open, "'\n") };
	return true;
}

static void explain_verifier(struct mb_error *err, const struct line *prog)
{
	struct line reason = { "", 0 }, source = { "", 0 };
	size_t n;

	find_words(err->log, &reason, &source);
	snprintf(err->cause, sizeof(err->cause), "program '%.*s' was rejected by the verifier",
		 (int)prog->len, prog->at);
	n = strlen(err->cause);
	if (reason.len)
		snprintf(err->cause + n, sizeof(err->cause) - n, ": %.*s",
			 reason.len > 200 ? 200 : (int)reason.len, reason.at);
	n = strlen(err->cause);
	if (source.len)
		snprintf(err->cause + n, sizeof(err->cause) - n, "\n  at: %.*s",
			 source.len > 160 ? 160 : (int)source.len, source.at);
}

/* Follows from something else, or says less than the errno does. */
static bool is_echo(const struct line *l)
{
	return starts(l, "failed to load object") || starts(l, "Failed to bump RLIMIT_MEMLOCK") ||
	       starts(l, "Error in bpf_object__probe_loading");
}

/* libbpf says the cause first and what follows from it later. */
static void explain_other(struct mb_error *err)
{
	const char *rest = err->log;
	struct line l;

	while (next_line(&rest, &l)) {
		if (starts(&l, "libbpf: "))
			l = (struct line){ l.at + 8, l.len - 8 };
		if (l.len && !is_echo(&l)) {
			snprintf(err->cause, sizeof(err->cause), "%.*s",
				 l.len > 400 ? 400 : (int)l.len, l.at);
			return;
		}
	}
}

void mb_verifier_explain(struct mb_error *err)
{
	struct line prog;

	if (!err->log)
		return;
	if (find_program(err->log, &prog) && strstr(err->log, "-- BEGIN PROG LOAD LOG --"))
		explain_verifier(err, &prog);
	else
		explain_other(err);
}
