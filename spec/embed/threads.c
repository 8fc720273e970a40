/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two runtimes on two threads of one process, made, run and freed again and again: they share nothing.
 * Built with the thread sanitizer (make tsan), which ends the program with 66 when they do.
 *   threads SCRIPT ROUNDS OBJECT
 */
#include <moonbee.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct work {
	char **argv;
	int rounds;
	int done;
};

static int round_of(const struct work *w)
{
	const char *const args[] = { w->argv[3], NULL };
	char why[256];
	struct mb_runtime *rt = mb_runtime_new(NULL, why, sizeof(why));
	int rc;

	if (!rt) {
		fprintf(stderr, "threads: %s\n", why);
		return -1;
	}
	rc = mb_runtime_run_file(rt, w->argv[1], args);
	while (rc > 0) {
		struct pollfd p = { .fd = mb_runtime_fd(rt), .events = POLLIN };

		poll(&p, 1, mb_runtime_timeout_ms(rt));
		rc = mb_runtime_step(rt);
	}
	if (rc < 0)
		fprintf(stderr, "threads: %s\n", mb_runtime_error(rt));
	mb_runtime_free(rt);
	return rc;
}

static void *work(void *arg)
{
	struct work *w = arg;

	while (w->done < w->rounds && round_of(w) == 0)
		w->done++;
	return NULL;
}

int main(int argc, char **argv)
{
	struct work works[2];
	pthread_t threads[2];
	int done = 0;

	if (argc < 4)
		return 2;
	for (int i = 0; i < 2; i++) {
		works[i] = (struct work){ argv, atoi(argv[2]), 0 };
		pthread_create(&threads[i], NULL, work, &works[i]);
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		done += works[i].done;
	}
	printf("%d of %d rounds\n", done, 2 * atoi(argv[2]));
	return done == 2 * atoi(argv[2]) ? 0 : 1;
}
