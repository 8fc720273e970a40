/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fuzzes mb_check_object: whatever the bytes, it answers, within them. Seeds are real objects
 * (build/fixtures). Needs core/engine/{check,check_btf,check_ext,error,hint}.c only.
 *
 * With -DMB_FUZZ_OPEN also what it lets pass is opened by libbpf (link one with sanitizers): the
 * check's very purpose is that nothing of it makes libbpf crash.
 * With -DMB_FUZZ_MAIN it is a program that runs over the files given, each as often as -n says, and
 * prints what was said of each and the time that one run took.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef MB_FUZZ_OPEN
#include <bpf/libbpf.h>
#endif

#include "engine/engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#ifdef MB_FUZZ_OPEN
static int silent(enum libbpf_print_level level, const char *fmt, va_list args)
{
	(void)level;
	(void)fmt;
	(void)args;
	return 0;
}

static void open_object(const uint8_t *data, size_t size)
{
	struct bpf_object *obj;

	libbpf_set_print(silent);
	obj = bpf_object__open_mem(data, size, NULL);
	if (obj)
		bpf_object__close(obj);
}
#endif

/* What an answer looks like: 0 and nothing said, or a code and what it is about. */
static void expect_answer(int rc, const struct mb_error *err)
{
	if (rc == 0 && err->code == 0)
		return;
	if ((rc == -EINVAL || rc == -ENOEXEC || rc == -ENODATA || rc == -ENOMEM) &&
	    err->code == -rc && err->cause[0] && (err->hint[0] || rc == -ENOMEM))
		return;
	fprintf(stderr, "odd answer %d: %d '%s' '%s'\n", rc, err->code, err->cause, err->hint);
	abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mb_error err = { 0 };
	int rc = mb_check_object(data, size, "input", &err);

	expect_answer(rc, &err);
	mb_error_fini(&err);
#ifdef MB_FUZZ_OPEN
	if (rc == 0)
		open_object(data, size);
#endif
	return 0;
}

#ifdef MB_FUZZ_MAIN
/* In memory of its very size, so that a sanitizer sees a read beyond its end. */
static uint8_t *read_all(const char *path, size_t *size)
{
	FILE *file = fopen(path, "rb");
	uint8_t *data = NULL;
	long len;

	if (!file)
		return NULL;
	if (!fseek(file, 0, SEEK_END) && (len = ftell(file)) >= 0 && !fseek(file, 0, SEEK_SET)) {
		*size = (size_t)len;
		data = malloc(*size ? *size : 1);
		if (data && fread(data, 1, *size, file) != *size) {
			free(data);
			data = NULL;
		}
	}
	fclose(file);
	return data;
}

static double run(const uint8_t *data, size_t size, long times, struct mb_error *err)
{
	struct timespec from, to;

	clock_gettime(CLOCK_MONOTONIC, &from);
	for (long i = 0; i < times; i++) {
		mb_error_fini(err);
		mb_check_object(data, size, "input", err);
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	return ((double)(to.tv_sec - from.tv_sec) * 1e6 +
		(double)(to.tv_nsec - from.tv_nsec) / 1e3) /
	       (double)times;
}

int main(int argc, char **argv)
{
	int first = 1, refused = 0;
	long times = 1;

	if (argc > 2 && strcmp(argv[1], "-n") == 0) {
		times = strtol(argv[2], NULL, 10);
		first = 3;
	}
	for (int i = first; i < argc; i++) {
		struct mb_error err = { 0 };
		size_t size = 0;
		uint8_t *data = read_all(argv[i], &size);
		double us;

		if (!data) {
			fprintf(stderr, "%s: %s\n", argv[i], strerror(errno));
			return 2;
		}
		us = run(data, size, times < 1 ? 1 : times, &err);
		printf("%s: %s (%zu bytes, %.1f us)\n", argv[i], err.code ? err.cause : "ok", size,
		       us);
		refused += err.code != 0;
		LLVMFuzzerTestOneInput(data, size);
		mb_error_fini(&err);
		free(data);
	}
	return refused != 0;
}
#endif
