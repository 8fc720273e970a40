/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What this kernel can do: yes, no, or unknown. Its BTF is asked first, which needs no privilege and
 * loads nothing; where that cannot tell, or to see what may really be loaded, by probing. Conventions
 * as in engine.h.
 */
#ifndef MB_FEATURE_H
#define MB_FEATURE_H

#include "engine/engine.h"

enum mb_answer { MB_UNKNOWN_YET, MB_NO, MB_YES };

struct mb_feature {
	const char *group; /* "feature", "prog_type", "map_type", "attach_type", "link_type",
			    * "helper", "kfunc" */
	char name[64];
	enum mb_answer state;
	const char *from; /* "btf", "probe", or "" */
	const char *why;  /* of a no or unknown (static), or "" */
};

/* All that is known of, in order of groups; the caller gives them to mb_features_free. probe: load a
 * small program of each type, make a small map of each, and let that decide; it needs privileges. */
int mb_features_read(bool probe, struct mb_feature **out, size_t *n, struct mb_error *err);
void mb_features_free(struct mb_feature *features);

#endif
