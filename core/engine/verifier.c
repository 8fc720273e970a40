/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The log of a refused load, read for its reader: which program, what the verifier minded, and the
 * source line it was at. The log itself stays whole in the error.
 */
#include "internal.h"

#define LOG_BEGINS "-- BEGIN PROG LOAD LOG --"

static bool next_line(const char **rest, struct mb_words *out)
{
	if (!**rest)
		return false;
	out->at = *rest;
	out->len = strcspn(*rest, "\n");
	*rest += out->len + ((*rest)[out->len] == '\n');
	return true;
}

static bool starts(const struct mb_words *l, const char *with)
{
	size_t n = strlen(with);

	return l->len >= n && strncmp(l->at, with, n) == 0;
}

/* "12: (61) r0 = …", "from 3 to 9: …", "R0=…", "; source": what the verifier walked, not what it
 * said about it. */
static bool is_state(const struct mb_words *l)
{
	size_t digits = 0;

	while (digits < l->len && l->at[digits] >= '0' && l->at[digits] <= '9')
		digits++;
	return !l->len || l->at[0] == ';' || (digits && digits < l->len && l->at[digits] == ':') ||
	       starts(l, "from ") || starts(l, "processed ") || starts(l, "verification time") ||
	       starts(l, "stack depth") || starts(l, "mark_precise") || starts(l, "func#") ||
	       starts(l, "-- ") || starts(l, "max_states") || starts(l, "arg#");
}

/* "12: (61) r0 = …" */
static bool is_insn(const struct mb_words *l, long *insn)
{
	char *end;
	long n;

	if (!l->len || l->at[0] < '0' || l->at[0] > '9')
		return false;
	n = strtol(l->at, &end, 10);
	if (end[0] != ':' || end[1] != ' ' || end[2] != '(')
		return false;
	*insn = n;
	return true;
}

/* "text @ file.bpf.c:22" */
static void take_source(const struct mb_words *l, struct mb_rejection *out)
{
	const char *end = l->at + l->len, *at = NULL, *colon;

	out->source = (struct mb_words){ l->at + 2, l->len - 2 };
	out->file = (struct mb_words){ NULL, 0 };
	out->line = 0;
	for (const char *p = l->at; p + 3 < end; p++)
		if (memcmp(p, " @ ", 3) == 0)
			at = p;
	colon = at ? memrchr(at, ':', (size_t)(end - at)) : NULL;
	if (!colon || colon[1] < '0' || colon[1] > '9')
		return;
	out->source.len = (size_t)(at - out->source.at);
	out->file = (struct mb_words){ at + 3, (size_t)(colon - at - 3) };
	out->line = strtol(colon + 1, NULL, 10);
}

static void take_reason(const struct mb_words *l, struct mb_rejection *out)
{
	if (out->nreasons < sizeof(out->reasons) / sizeof(out->reasons[0]))
		out->reasons[out->nreasons++] = *l;
}

/* What stands after the last instruction that it walked is why it stopped there. */
static void find_words(const char *log, struct mb_rejection *out)
{
	const char *rest = strstr(log, LOG_BEGINS);
	struct mb_words l;

	out->insn = -1;
	rest = rest ? rest : log;
	next_line(&rest, &l);
	while (next_line(&rest, &l)) {
		if (starts(&l, "-- END PROG LOAD LOG --"))
			break;
		if (starts(&l, "processed "))
			out->processed = strtoull(l.at + strlen("processed "), NULL, 10);
		else if (starts(&l, "; "))
			take_source(&l, out);
		else if (is_insn(&l, &out->insn))
			out->nreasons = 0;
		else if (!is_state(&l))
			take_reason(&l, out);
	}
}

/* "libbpf: prog 'NAME': BPF program load failed: …" */
static bool find_program(const char *log, struct mb_words *name)
{
	const char *said = strstr(log, "BPF program load failed"), *open, *from = NULL;

	for (const char *p = log; said && (p = strstr(p, "prog '")) && p < said; p++)
		from = p;
	if (!from)
		return false;
	open = from + strlen("prog '");
	*name = (struct mb_words){ open, strcspn(open, "'\n") };
	return true;
}

bool mb_rejection_read(const char *log, struct mb_rejection *out)
{
	memset(out, 0, sizeof(*out));
	if (!log || !strstr(log, LOG_BEGINS) || !find_program(log, &out->program))
		return false;
	find_words(log, out);
	return true;
}

__attribute__((format(__printf__, 2, 3))) static void add(struct mb_error *err, const char *fmt,
							  ...)
{
	size_t n = strlen(err->cause);
	va_list args;

	va_start(args, fmt);
	vsnprintf(err->cause + n, sizeof(err->cause) - n, fmt, args);
	va_end(args);
}

static int at_most(size_t len, size_t most)
{
	return (int)(len > most ? most : len);
}

static void explain_verifier(struct mb_error *err, const struct mb_rejection *r)
{
	snprintf(err->cause, sizeof(err->cause), "program '%.*s' was rejected by the verifier",
		 (int)r->program.len, r->program.at);
	for (size_t i = 0; i < r->nreasons && i < 3; i++)
		add(err, "%s %.*s", i ? ";" : ":", at_most(r->reasons[i].len, 120),
		    r->reasons[i].at);
	if (!r->source.len)
		return;
	add(err, "\n  at: %.*s", at_most(r->source.len, 120), r->source.at);
	if (r->file.len)
		add(err, " @ %.*s:%ld", at_most(r->file.len, 64), r->file.at, r->line);
}

/* Follows from something else, or says less than the errno does. */
static bool is_echo(const struct mb_words *l)
{
	return starts(l, "failed to load object") || starts(l, "Failed to bump RLIMIT_MEMLOCK") ||
	       starts(l, "Error in bpf_object__probe_loading");
}

/* libbpf says the cause first and what follows from it later. */
static void explain_other(struct mb_error *err)
{
	const char *rest = err->log;
	struct mb_words l;

	while (next_line(&rest, &l)) {
		if (starts(&l, "libbpf: "))
			l = (struct mb_words){ l.at + 8, l.len - 8 };
		if (l.len && !is_echo(&l)) {
			snprintf(err->cause, sizeof(err->cause), "%.*s",
				 l.len > 400 ? 400 : (int)l.len, l.at);
			return;
		}
	}
}

char *mb_verifier_log_of(const char *said, const char *prog)
{
	static const char begin[] = "': -- BEGIN PROG LOAD LOG --\n",
			  end[] = "-- END PROG LOAD LOG --";
	size_t n = strlen(prog);

	for (const char *p = said; p && (p = strstr(p, "prog '")); p++) {
		const char *name = p + strlen("prog '"), *from = name + n + strlen(begin), *to;

		if (strncmp(name, prog, n) != 0 || strncmp(name + n, begin, strlen(begin)) != 0)
			continue;
		to = strstr(from, end);
		return to ? strndup(from, (size_t)(to - from)) : strdup(from);
	}
	return NULL;
}

void mb_verifier_explain(struct mb_error *err)
{
	struct mb_rejection rejection;

	if (!err->log)
		return;
	if (mb_rejection_read(err->log, &rejection))
		explain_verifier(err, &rejection);
	else
		explain_other(err);
}
