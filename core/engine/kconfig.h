/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The configuration that the running kernel was built with: /proc/config.gz, or a file of the
 * distribution's.
 */
#ifndef MB_KCONFIG_H
#define MB_KCONFIG_H

#include "engine/engine.h"

struct mb_kconfig;

enum mb_option_kind {
	MB_OPTION_TRISTATE, /* .text is "y", "m" or "n"; also for "is not set" */
	MB_OPTION_INT,	    /* .number has its bits; .negative */
	MB_OPTION_TEXT,	    /* .text without quotes and backslashes */
};

struct mb_kconfig_value {
	enum mb_option_kind kind;
	const char *name; /* "CONFIG_HZ" */
	const char *text;
	uint64_t number;
	bool negative;
	bool set; /* false: "is not set" */
};

/* Read the file that is there first. -ENOENT names all the places; -EINVAL: damaged. */
int mb_kconfig_new(struct mb_kconfig **out, struct mb_error *err);
/* From text; later lines of a name do not count, as with libbpf. */
int mb_kconfig_parse(const char *text, size_t len, struct mb_kconfig **out, struct mb_error *err);
void mb_kconfig_free(struct mb_kconfig *config);
/* Where it was read. */
const char *mb_kconfig_path(const struct mb_kconfig *config);
/* The whole text of the file, for libbpf. */
const char *mb_kconfig_text(const struct mb_kconfig *config);
/* name: with or without CONFIG_. 1 and *out, or 0. */
int mb_kconfig_find(const struct mb_kconfig *config, const char *name,
		    struct mb_kconfig_value *out);
/* The n-th by name, from 0: 1, or 0 at the end. */
int mb_kconfig_nth(const struct mb_kconfig *config, size_t n, struct mb_kconfig_value *out);
/* The nearest name, or NULL. */
const char *mb_kconfig_near(const struct mb_kconfig *config, const char *name);

#endif
