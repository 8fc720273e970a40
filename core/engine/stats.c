/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Statistics of program runs, on demand: the kernel counts as long as the descriptor is open.
 */
#include "internal.h"

struct mb_stats {
	int fd;
};

int mb_stats_open(struct mb_stats **out, struct mb_error *err)
{
	struct mb_stats *stats = calloc(1, sizeof(*stats));

	if (!stats)
		return mb_fail(err, ENOMEM, "count runs of", "programs", "out of memory");
	stats->fd = bpf_enable_stats(BPF_STATS_RUN_TIME);
	if (stats->fd < 0) {
		int rc = mb_fail(err, errno, "count runs of", "programs", "%s",
				 mb_error_text(errno));

		free(stats);
		return rc;
	}
	*out = stats;
	return 0;
}

void mb_stats_close(struct mb_stats *stats)
{
	if (stats->fd >= 0)
		close(stats->fd);
	stats->fd = -1;
}

void mb_stats_free(struct mb_stats *stats)
{
	if (!stats)
		return;
	mb_stats_close(stats);
	free(stats);
}

bool mb_stats_closed(const struct mb_stats *stats)
{
	return stats->fd < 0;
}
