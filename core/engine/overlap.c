/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two programs on one hook: how often did the first one run before the second one came? While both are
 * there each event is one run of both, so that the difference of their counts stays as it is. The
 * kernel counts a run at its end and gives the counts one by one, under load.
 */
#include "engine/handover.h"
#include "internal.h"

#define MOST_NS 300000 /* as long as this takes, both are there */
#define SAMPLES 20     /* also where others had the CPU so long */
#define EVENTS 2       /* for each CPU */
#define QUIET 5

static int runs(const struct mb_program *prog, int64_t *out, struct mb_error *err)
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);

	if (bpf_obj_get_info_by_fd(prog->fd, &info, &len) != 0)
		return mb_fail(err, errno, "count runs of", prog->name, "%s", mb_error_text(errno));
	*out = (int64_t)info.run_cnt;
	return 0;
}

struct counts {
	int64_t first[2], second[2];
};

static int sample(const struct mb_program *first, const struct mb_program *second, struct counts *c,
		  struct mb_error *err)
{
	int rc = 0;

	for (int i = 0; !rc && i < 2; i++) {
		rc = runs(second, &c->second[i], err);
		if (!rc)
			rc = runs(first, &c->first[i], err);
	}
	return rc;
}

struct search {
	int64_t low, high; /* what the first one ran alone is within these */
	int64_t quiet_at;  /* runs of the second one at the first quiet moment */
	int quiet, cpus;
	bool sure;
};

/* What the second one has run is between its two numbers when the first one's is read, and an event
 * that only the first one has handled so far may be on each CPU. At a quiet moment, when neither has run
 * meanwhile, there is none, unless an interrupt came just then: so it takes another such moment after
 * some events more. */
static void look(struct search *s, const struct counts *c)
{
	int64_t above = c->first[0] - c->second[0];
	int64_t below = c->first[0] - c->second[1] - s->cpus;

	if (below > s->low)
		s->low = below;
	if (above < s->high) {
		s->high = above;
		s->quiet = 0;
	}
	if (above != s->high || c->first[0] != c->first[1] || c->second[0] != c->second[1])
		return;
	if (s->quiet++ == 0)
		s->quiet_at = c->second[0];
	s->sure = c->second[0] - s->quiet_at >= (int64_t)EVENTS * s->cpus;
}

int mb_handover_alone(const struct mb_program *first, const struct mb_program *second,
		      int64_t *least, int64_t *most, struct mb_error *err)
{
	struct search s = { .low = INT64_MIN, .high = INT64_MAX };
	uint64_t end = mb_now_ns() + MOST_NS;
	struct counts c;

	s.cpus = libbpf_num_possible_cpus();
	for (int i = 0; !s.sure && (i < SAMPLES || mb_now_ns() < end); i++) {
		int rc = sample(first, second, &c, err);

		if (rc)
			return rc;
		look(&s, &c);
	}
	*most = s.high;
	/* without events there was nothing that could have been interrupted */
	*least = s.sure || s.quiet >= QUIET ? s.high : s.low;
	return 0;
}
