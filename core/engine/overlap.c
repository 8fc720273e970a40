/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two programs on one hook: how often did the first one run before the second one came? While both are
 * there each event is one run of both, so that the difference of their counts stays as it is. The
 * kernel counts a run at its end and gives the counts one by one, under load.
 */
#include "engine/handover.h"
#include "internal.h"

#define SAMPLES 24 /* of four reads, 3 to 10 us: as long as this takes, both are there */
#define QUIET 2

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

/* What the second one has run is between its two numbers when the first one's is read, and an event
 * that only the first one has handled so far may be on each CPU. Where neither has run meanwhile, time
 * and again, there is no such event. */
int mb_handover_alone(const struct mb_program *first, const struct mb_program *second,
		      int64_t *least, int64_t *most, struct mb_error *err)
{
	int64_t low = INT64_MIN, high = INT64_MAX;
	int quiet = 0, cpus = libbpf_num_possible_cpus();
	struct counts c = { 0 };

	for (int i = 0; i < SAMPLES && quiet < QUIET; i++) {
		int rc = sample(first, second, &c, err);
		int64_t above = c.first[0] - c.second[0], below = c.first[0] - c.second[1] - cpus;

		if (rc)
			return rc;
		if (above < high)
			quiet = 0;
		if (above <= high && c.first[0] == c.first[1] && c.second[0] == c.second[1])
			quiet++;
		high = above < high ? above : high;
		low = below > low ? below : low;
	}
	*most = high;
	*least = quiet < QUIET ? low : high;
	return 0;
}
