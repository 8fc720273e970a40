/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Test runs of programs: on given data, without a hook.
 */
#include <limits.h>
#include <poll.h>

#include "engine/hold.h"
#include "internal.h"

/* These the kernel runs once a call, and a syscall program's context is written back in place. */
static bool runs_bare(const struct mb_program *prog)
{
	return prog->type == BPF_PROG_TYPE_SYSCALL || prog->type == BPF_PROG_TYPE_RAW_TRACEPOINT ||
	       prog->type == BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE ||
	       prog->type == BPF_PROG_TYPE_TRACING || prog->type == BPF_PROG_TYPE_STRUCT_OPS;
}

static bool is_raw_tracepoint(const struct mb_program *prog)
{
	return prog->type == BPF_PROG_TYPE_RAW_TRACEPOINT ||
	       prog->type == BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE;
}

/* SIGINT or SIGTERM, and nobody has dealt with it yet; or the time of who asked is over. */
static bool interrupted(void)
{
	struct pollfd fd = { .fd = mb_interrupt_fd(), .events = POLLIN };

	return mb_stop_asked() || (fd.fd >= 0 && poll(&fd, 1, 0) > 0);
}

/* 0 or errno. */
static int run_bare(struct mb_program *prog, struct mb_run *run)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);
	uint32_t times = run->times ? run->times : 1;
	uint64_t spent = 0;

	for (uint32_t i = 0; i < times; i++) {
		uint64_t from = mb_now_ns();

		if (run->ctx)
			memcpy(run->ctx_out, run->ctx, run->ctx_len);
		opts.ctx_in = run->ctx ? run->ctx_out : NULL;
		opts.ctx_size_in = (uint32_t)run->ctx_len;
		if (run->cpu >= 0) {
			opts.flags = BPF_F_TEST_RUN_ON_CPU;
			opts.cpu = (uint32_t)run->cpu;
		}
		if (bpf_prog_test_run_opts(prog->fd, &opts) != 0)
			return errno;
		if (i % 1024 == 1023 && interrupted())
			return EINTR;
		spent += mb_now_ns() - from;
	}
	run->ret = opts.retval;
	run->duration_ns = (uint32_t)(spent / times);
	run->data_out_len = 0;
	run->ctx_out_len = run->ctx_len;
	return 0;
}

static int run_packet(struct mb_program *prog, struct mb_run *run)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);
	int code;

	do { /* a signal ends a run in the middle: it counts for nothing, so run it again */
		opts.data_in = run->data;
		opts.data_size_in = (uint32_t)run->data_len;
		opts.ctx_in = run->ctx;
		opts.ctx_size_in = (uint32_t)run->ctx_len;
		if (run->live) {
			opts.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
		} else {
			opts.data_out = run->data_out;
			opts.data_size_out = (uint32_t)run->data_out_len;
			opts.ctx_out = run->ctx_out;
			opts.ctx_size_out = (uint32_t)run->ctx_out_len;
		}
		opts.repeat = (int)run->times;
		code = bpf_prog_test_run_opts(prog->fd, &opts) == 0 ? 0 : errno;
	} while (code == EINTR && !interrupted());
	if (code)
		return code;
	run->ret = opts.retval;
	run->duration_ns = opts.duration;
	run->data_out_len = run->live ? 0 : opts.data_size_out;
	run->ctx_out_len = run->live ? 0 : opts.ctx_size_out;
	return 0;
}

static int check_run(struct mb_program *prog, const struct mb_run *run, struct mb_error *err)
{
	const char *type = mb_program_type_name(prog->type);

	if (runs_bare(prog) && run->data) {
		mb_fail(err, EINVAL, "run program", prog->name, "a program of type %s gets no data",
			type);
		mb_error_hint(err, "what it is called with is its ctx");
		return -EINVAL;
	}
	if (prog->type == BPF_PROG_TYPE_TRACING && run->ctx) {
		mb_fail(err, EINVAL, "run program", prog->name, "a program of type %s gets no ctx",
			type);
		mb_error_hint(err, "the kernel calls its own bpf_fentry_test functions for it");
		return -EINVAL;
	}
	if (run->cpu >= 0 && !is_raw_tracepoint(prog))
		return mb_fail(err, EINVAL, "run program", prog->name,
			       "only raw tracepoints run on a given CPU, and this is a %s", type);
	if (run->live && prog->type != BPF_PROG_TYPE_XDP)
		return mb_fail(err, EINVAL, "run program", prog->name,
			       "only xdp programs run on live packets, and this is a %s", type);
	if (run->times > INT_MAX)
		return mb_fail(err, EINVAL, "run program", prog->name, "times is at most %d",
			       INT_MAX);
	return 0;
}

static void hint_run(struct mb_program *prog, const struct mb_run *run, int code,
		     struct mb_error *err)
{
	const char *type = mb_program_type_name(prog->type);

	if (code == ENOTSUPP || code == EOPNOTSUPP)
		mb_error_hint(err, "the kernel has no test run for programs of type %s", type);
	else if (run->cpu >= 0 && code == ENXIO)
		mb_error_hint(err, "CPU %d is not online", run->cpu);
	else if (code == EINVAL && runs_bare(prog))
		mb_error_hint(err, "is ctx what a program of type %s gets, whole?", type);
	else if (code == EINVAL && prog->type == BPF_PROG_TYPE_SK_LOOKUP)
		mb_error_hint(
			err, run->data ? "a sk_lookup program gets no data, only its ctx" :
					 "a sk_lookup program needs its ctx: struct bpf_sk_lookup");
	else if (code == EINVAL && run->data_len < 14)
		mb_error_hint(err, "an xdp or tc program needs data of at least 14 bytes");
}

int mb_program_run(struct mb_program *prog, struct mb_run *run, struct mb_error *err)
{
	int rc = mb_program_check(prog, "run program", err), code;

	if (!rc)
		rc = mb_refuse("run program", prog->name, err);
	if (!rc)
		rc = check_run(prog, run, err);
	if (rc)
		return rc;
	code = runs_bare(prog) ? run_bare(prog, run) : run_packet(prog, run);
	if (!code)
		return 0;
	mb_fail(err, code, "run program", prog->name, "%s", mb_error_text(code));
	hint_run(prog, run, code, err);
	return -code;
}

int mb_program_ctx(const struct mb_program *prog, const struct mb_plan **out, struct mb_error *err)
{
	const struct btf *btf = prog->obj ? prog->obj->btf->btf : NULL;
	int func = btf ? btf__find_by_name_kind(btf, prog->name, BTF_KIND_FUNC) : -1;
	const struct btf_type *t = func > 0 ? btf__type_by_id(btf, (uint32_t)func) : NULL;
	uint32_t id;

	t = t ? btf__type_by_id(btf, t->type) : NULL; /* its prototype */
	if (t && btf_is_func_proto(t) && btf_vlen(t))
		t = btf__type_by_id(btf, mb_btf_skip(btf, btf_params(t)->type));
	if (t && btf_is_ptr(t)) {
		id = mb_btf_skip(btf, t->type);
		t = btf__type_by_id(btf, id);
		if (t && btf_is_struct(t) && t->size)
			return mb_btf_plan(prog->obj->btf, id, out, err);
	}
	mb_fail(err, EINVAL, "run program", prog->name,
		"its C source does not say what its ctx is: a table says too little");
	mb_error_hint(err, "give ctx as a value, obj.types[\"struct x\"]{ … }, or as bytes");
	return -EINVAL;
}
