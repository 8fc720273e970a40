/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The rows of `make bench` in C: a libbpf skeleton, plain loops. Every other peer does this work.
 *
 *   c OBJECT globals|maps|iter100k|iter1m|array|ring|start
 *
 * OBJECT is for the other peers; here it is in the skeleton. Prints a JSON line per figure:
 * {"row": "globals.read", "ns": 0.4}. Loops are timed by the process's CPU time, the best of some
 * repetitions.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "bench.h"
#include "bench.skel.h"

#define BATCH 4096
#define EVENTS 100000

static void check(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "bench: c: %s (%s)\n", what, strerror(errno));
	exit(1);
}

static double clock_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* The best of all repetitions of one loop. */
struct timer {
	double start, best;
};

static void timer_start(struct timer *t)
{
	t->start = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

static void timer_stop(struct timer *t)
{
	double took = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - t->start;

	if (t->best == 0 || took < t->best)
		t->best = took;
}

static void report(const char *row, const struct timer *t, double operations)
{
	printf("{\"row\": \"%s\", \"ns\": %.4f}\n", row, t->best / operations);
}

static void run(struct bpf_program *prog)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);

	check(bpf_prog_test_run_opts(bpf_program__fd(prog), &opts) == 0, "test run");
}

static struct bench *load(__u32 flows, __u32 samples, __u32 ring)
{
	struct bench *skel = bench__open();

	check(skel, "open");
	bpf_map__set_max_entries(skel->maps.flows, flows);
	bpf_map__set_max_entries(skel->maps.samples, samples);
	bpf_map__set_max_entries(skel->maps.events, ring);
	check(bench__load(skel) == 0, "load");
	return skel;
}

static void fill(struct bench *skel, struct bpf_program *prog, __u64 n)
{
	skel->data_knobs->n = n;
	run(prog);
	check(skel->data_knobs->failed == 0, "fill");
}

/* ---- globals -------------------------------------------------------------------------------------- */

static void globals(void)
{
	struct bench *skel = load(1, 1, 4096);
	volatile __u64 *x = &skel->data_knobs->x;
	volatile struct limit *limits = (void *)skel->data_knobs->limits;
	struct timer read = { 0 }, write = { 0 }, nested = { 0 };
	const int n = 10000000;
	__u64 sum = 0;

	for (int rep = 0; rep < 5; rep++) {
		timer_start(&read);
		for (int i = 0; i < n; i++)
			sum += *x;
		timer_stop(&read);
		timer_start(&write);
		for (int i = 0; i < n; i++)
			*x = i;
		timer_stop(&write);
		limits[3].rate = 7;
		timer_start(&nested);
		for (int i = 0; i < n; i++)
			sum += limits[3].rate;
		timer_stop(&nested);
	}
	check(sum, "sum");
	run(skel->progs.mirror);
	check(skel->data_knobs->seen_x == n - 1 && skel->data_knobs->seen_rate == 7, "mirror");
	report("globals.read", &read, n);
	report("globals.write", &write, n);
	report("globals.nested", &nested, n);
	bench__destroy(skel);
}

/* ---- maps ------------------------------------------------------------------------------------------- */

static void maps(void)
{
	const int n = 100000;
	struct bench *skel = load(n, 1, 4096);
	int fd = bpf_map__fd(skel->maps.flows);
	struct timer get = { 0 }, set = { 0 }, delete = { 0 };
	struct flow flow = { 0 };
	__u64 sum = 0;

	for (int rep = 0; rep < 3; rep++) {
		fill(skel, skel->progs.fill, n);
		timer_start(&get);
		for (int i = 0; i < n; i++) {
			__u64 key = i & 1023;

			check(bpf_map_lookup_elem(fd, &key, &flow) == 0, "lookup");
			sum += flow.bytes;
		}
		timer_stop(&get);
		timer_start(&set);
		for (int i = 0; i < n; i++) {
			__u64 key = i & 1023;

			flow.bytes = i;
			check(bpf_map_update_elem(fd, &key, &flow, BPF_ANY) == 0, "update");
		}
		timer_stop(&set);
		timer_start(&delete);
		for (int i = 0; i < n; i++) {
			__u64 key = i;

			check(bpf_map_delete_elem(fd, &key) == 0, "delete");
		}
		timer_stop(&delete);
	}
	check(sum, "sum");
	report("maps.get", &get, n);
	report("maps.set", &set, n);
	report("maps.delete", &delete, n);
	bench__destroy(skel);
}

/* ---- iteration -------------------------------------------------------------------------------------- */

static __u64 walk(int fd, __u64 *keys, struct flow *values, __u64 *count)
{
	__u64 sum = 0;
	__u32 at, n;
	void *in = NULL;
	int rc;

	*count = 0;
	do {
		n = BATCH;
		rc = bpf_map_lookup_batch(fd, in, &at, keys, values, &n, NULL);
		check(rc == 0 || errno == ENOENT, "lookup batch");
		for (__u32 i = 0; i < n; i++)
			sum += values[i].bytes;
		*count += n;
		in = &at;
	} while (rc == 0);
	return sum;
}

static void iterate(const char *row, __u64 n, int reps)
{
	struct bench *skel = load(n, 1, 4096);
	__u64 *keys = calloc(BATCH, sizeof(*keys)), count, sum;
	struct flow *values = calloc(BATCH, sizeof(*values));
	struct timer batch = { 0 };

	fill(skel, skel->progs.fill, n);
	while (reps-- > 0) {
		timer_start(&batch);
		sum = walk(bpf_map__fd(skel->maps.flows), keys, values, &count);
		timer_stop(&batch);
		check(count == n && sum == n * (n - 1), "count");
	}
	report(row, &batch, n);
	free(keys);
	free(values);
	bench__destroy(skel);
}

static void iterate_small(void)
{
	iterate("iter.100k.batch", 100000, 5);
}

static void iterate_large(void)
{
	iterate("iter.1m.batch", 1000000, 2);
}

/* ---- array ------------------------------------------------------------------------------------------ */

static void array(void)
{
	const __u64 n = 1 << 20;
	struct bench *skel = load(1, n, 4096);
	__u64 *samples = mmap(NULL, n * sizeof(*samples), PROT_READ | PROT_WRITE, MAP_SHARED,
			      bpf_map__fd(skel->maps.samples), 0);
	struct timer t = { 0 };

	check(samples != MAP_FAILED, "mmap");
	fill(skel, skel->progs.fill_samples, n);
	for (int rep = 0; rep < 20; rep++) {
		__u64 sum = 0;

		timer_start(&t);
		for (__u64 i = 0; i < n; i++)
			sum += samples[i];
		timer_stop(&t);
		check(sum == n * (n - 1) / 2, "sum");
	}
	report("array.sum", &t, n);
	munmap(samples, n * sizeof(*samples));
	bench__destroy(skel);
}

/* ---- ring ------------------------------------------------------------------------------------------- */

struct totals {
	__u64 count, sum;
};

static int on_event1(void *ctx, void *data, size_t size)
{
	struct totals *t = ctx;
	const struct event *e = data;

	(void)size;
	t->count++;
	t->sum += e->len;
	return 0;
}

static int on_event5(void *ctx, void *data, size_t size)
{
	struct totals *t = ctx;
	const struct event *e = data;

	(void)size;
	t->count++;
	t->sum += e->len + e->pid + e->time_ns + e->port + e->bytes;
	return 0;
}

static void drain(struct bench *skel, const char *row, ring_buffer_sample_fn fn)
{
	struct totals t = { 0 };
	struct ring_buffer *ring = ring_buffer__new(bpf_map__fd(skel->maps.events), fn, &t, NULL);
	struct timer timer = { 0 };

	check(ring, "ring");
	for (int rep = 0; rep < 7; rep++) {
		t = (struct totals){ 0 };
		fill(skel, skel->progs.emit, EVENTS);
		timer_start(&timer);
		ring_buffer__consume(ring);
		timer_stop(&timer);
		check(t.count == EVENTS && t.sum, "count");
	}
	report(row, &timer, EVENTS);
	ring_buffer__free(ring);
}

static void ring(void)
{
	struct bench *skel = load(1, 1, 8 << 20);

	drain(skel, "ring.fields1", on_event1);
	drain(skel, "ring.fields5", on_event5);
	bench__destroy(skel);
}

/* ---- start ------------------------------------------------------------------------------------------ */

static long peak_kb(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];
	long kb = 0;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "VmHWM: %ld", &kb) == 1)
			break;
	if (f)
		fclose(f);
	return kb;
}

/* When it is attached, by the clock of the one who started us; then the peak of resident memory. */
static void start(void)
{
	struct bench *skel = bench__open();
	struct bpf_program *prog;

	check(skel, "open");
	bpf_object__for_each_program(prog, skel->obj)
		bpf_program__set_autoload(prog, prog == skel->progs.on_switch);
	check(bench__load(skel) == 0, "load");
	check(bpf_program__attach(skel->progs.on_switch) != NULL, "attach");
	printf("{\"row\": \"start.attached\", \"at_ns\": %.0f}\n", clock_ns(CLOCK_MONOTONIC));
	printf("{\"row\": \"start.rss\", \"kb\": %ld}\n", peak_kb());
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} rows[] = {
		{ "globals", globals },	     { "maps", maps },	 { "iter100k", iterate_small },
		{ "iter1m", iterate_large }, { "array", array }, { "ring", ring },
		{ "start", start },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (argc == 3 && strcmp(argv[2], rows[i].name) == 0) {
			rows[i].run();
			return 0;
		}
	}
	fprintf(stderr, "usage: c OBJECT globals|maps|iter100k|iter1m|array|ring|start\n");
	return 2;
}
