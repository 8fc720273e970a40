/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the kernel holds, whoever made it: maps, programs and links by id, and the processes that hold
 * them. Conventions are engine.h's.
 */
#ifndef MB_IDS_H
#define MB_IDS_H

#include "engine/engine.h"

struct mb_id_row {
	enum mb_pinned_kind kind;
	uint32_t id;
	char name[64]; /* "" when it has none; of a link its program's */
	const char *type;
	uint64_t memory; /* bytes that the kernel charges for it; 0: not told */
	/* maps */
	uint32_t key_size, value_size, max_entries, flags;
	bool frozen;
	/* programs */
	uint32_t uid;
	uint64_t loaded_ns; /* bpf_ktime_get_boot_ns's clock */
	uint32_t nmaps, *maps;
	/* links */
	uint32_t prog_id;
};
/* All of a kind, by id; what goes meanwhile is left out. -EPERM: needs CAP_SYS_ADMIN. The caller frees
 * with mb_ids_free. */
int mb_ids_list(enum mb_pinned_kind kind, struct mb_id_row **out, size_t *n, struct mb_error *err);
void mb_ids_free(struct mb_id_row *list, size_t n);
/* A link by id, of which closing the handle leaves the link as it is. -ENOENT. */
int mb_link_by_id(uint32_t id, struct mb_link **out, struct mb_error *err);

/* A process that has a fd of one of them. */
struct mb_holder {
	enum mb_pinned_kind kind;
	uint32_t id;
	int pid;
	char name[32]; /* the process's */
};
/* All holders among the processes that we may look into, each once; *hidden says how many we may not.
 * From /proc. */
int mb_holders_list(struct mb_holder **out, size_t *n, size_t *hidden, struct mb_error *err);
void mb_holders_free(struct mb_holder *list);

#endif
