/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A BPF program: what it is, whether it loads, a test run. Where it can be attached is attach.c's.
 */
#include <limits.h>
#include <poll.h>

#include "internal.h"

static const char *const type_names[] = {
	[BPF_PROG_TYPE_SOCKET_FILTER] = "socket_filter",
	[BPF_PROG_TYPE_KPROBE] = "kprobe",
	[BPF_PROG_TYPE_SCHED_CLS] = "sched_cls",
	[BPF_PROG_TYPE_SCHED_ACT] = "sched_act",
	[BPF_PROG_TYPE_TRACEPOINT] = "tracepoint",
	[BPF_PROG_TYPE_XDP] = "xdp",
	[BPF_PROG_TYPE_PERF_EVENT] = "perf_event",
	[BPF_PROG_TYPE_CGROUP_SKB] = "cgroup_skb",
	[BPF_PROG_TYPE_CGROUP_SOCK] = "cgroup_sock",
	[BPF_PROG_TYPE_LWT_IN] = "lwt_in",
	[BPF_PROG_TYPE_LWT_OUT] = "lwt_out",
	[BPF_PROG_TYPE_LWT_XMIT] = "lwt_xmit",
	[BPF_PROG_TYPE_SOCK_OPS] = "sock_ops",
	[BPF_PROG_TYPE_SK_SKB] = "sk_skb",
	[BPF_PROG_TYPE_CGROUP_DEVICE] = "cgroup_device",
	[BPF_PROG_TYPE_SK_MSG] = "sk_msg",
	[BPF_PROG_TYPE_RAW_TRACEPOINT] = "raw_tracepoint",
	[BPF_PROG_TYPE_CGROUP_SOCK_ADDR] = "cgroup_sock_addr",
	[BPF_PROG_TYPE_LWT_SEG6LOCAL] = "lwt_seg6local",
	[BPF_PROG_TYPE_LIRC_MODE2] = "lirc_mode2",
	[BPF_PROG_TYPE_SK_REUSEPORT] = "sk_reuseport",
	[BPF_PROG_TYPE_FLOW_DISSECTOR] = "flow_dissector",
	[BPF_PROG_TYPE_CGROUP_SYSCTL] = "cgroup_sysctl",
	[BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE] = "raw_tracepoint_writable",
	[BPF_PROG_TYPE_CGROUP_SOCKOPT] = "cgroup_sockopt",
	[BPF_PROG_TYPE_TRACING] = "tracing",
	[BPF_PROG_TYPE_STRUCT_OPS] = "struct_ops",
	[BPF_PROG_TYPE_EXT] = "ext",
	[BPF_PROG_TYPE_LSM] = "lsm",
	[BPF_PROG_TYPE_SK_LOOKUP] = "sk_lookup",
	[BPF_PROG_TYPE_SYSCALL] = "syscall",
	[32] = "netfilter", /* newer than the oldest header that we build with */
};

const char *mb_program_type_name(uint32_t type)
{
	const char *name = type < sizeof(type_names) / sizeof(type_names[0]) ? type_names[type] :
									       NULL;

	return name ? name : "unknown";
}

/* ---- making ---------------------------------------------------------------------------------------- */

static struct mb_program *program_new(const char *name, struct mb_error *err)
{
	struct mb_program *prog = calloc(1, sizeof(*prog));

	if (prog) {
		prog->refs = 1;
		prog->fd = -1;
		prog->name = strdup(name);
	}
	if (prog && prog->name)
		return prog;
	free(prog);
	mb_fail(err, ENOMEM, "open program", name, "out of memory");
	return NULL;
}

int mb_program_from_object(struct mb_object *obj, struct bpf_program *bpf, struct mb_program **out,
			   struct mb_error *err)
{
	struct mb_program *prog = program_new(bpf_program__name(bpf), err);

	if (!prog)
		return -ENOMEM;
	prog->obj = obj;
	prog->bpf = bpf;
	prog->type = bpf_program__type(bpf);
	*out = prog;
	return 0;
}

static int describe(struct mb_program *prog, struct bpf_prog_info *info, struct mb_error *err)
{
	uint32_t len = sizeof(*info);

	memset(info, 0, sizeof(*info));
	if (bpf_obj_get_info_by_fd(prog->fd, info, &len) != 0)
		return mb_fail(err, errno, "describe program", prog->name, "%s",
			       mb_error_text(errno));
	return 0;
}

int mb_program_from_fd(int fd, struct mb_program **out, struct mb_error *err)
{
	struct mb_program *prog = program_new("program", err);
	struct bpf_prog_info info;
	char *name;
	int rc;

	if (!prog) {
		close(fd);
		return -ENOMEM;
	}
	prog->fd = fd;
	prog->own_fd = true;
	rc = describe(prog, &info, err);
	name = rc ? NULL : strdup(info.name);
	if (!rc && !name)
		rc = mb_fail(err, ENOMEM, "open program", prog->name, "out of memory");
	if (rc) {
		mb_program_unref(prog);
		return rc;
	}
	free(prog->name);
	prog->name = name;
	prog->id = info.id;
	prog->type = info.type;
	*out = prog;
	return 0;
}

int mb_program_by_id(uint32_t id, struct mb_program **out, struct mb_error *err)
{
	int fd = bpf_prog_get_fd_by_id(id);
	char name[32];

	snprintf(name, sizeof(name), "program %u", id);
	if (fd < 0)
		return mb_fail(err, errno, "open", name, "%s",
			       errno == ENOENT ? "there is no such program" : mb_error_text(errno));
	return mb_program_from_fd(fd, out, err);
}

void mb_program_loaded(struct mb_program *prog)
{
	struct bpf_prog_info info;

	if (prog->closed)
		return;
	prog->fd = bpf_program__fd(prog->bpf);
	if (prog->fd < 0)
		prog->fd = -1;
	else if (describe(prog, &info, NULL) == 0)
		prog->id = info.id;
}

struct mb_program *mb_program_ref(struct mb_program *prog)
{
	prog->refs++;
	return prog;
}

void mb_program_close(struct mb_program *prog)
{
	if (prog->closed)
		return;
	prog->closed = true;
	if (prog->own_fd)
		close(prog->fd);
	prog->fd = -1;
	prog->obj = NULL;
	prog->bpf = NULL;
}

void mb_program_unref(struct mb_program *prog)
{
	if (!prog || --prog->refs)
		return;
	mb_program_close(prog);
	free(prog->name);
	free(prog);
}

/* ---- asking ---------------------------------------------------------------------------------------- */

bool mb_program_closed(const struct mb_program *prog)
{
	return prog->closed;
}

const char *mb_program_name(const struct mb_program *prog)
{
	return prog->name;
}

int mb_program_check(const struct mb_program *prog, const char *op, struct mb_error *err)
{
	if (prog->closed)
		return mb_fail(err, EBADF, op, prog->name, "the program is closed");
	if (prog->fd >= 0)
		return 0;
	if (prog->obj && prog->obj->state == MB_LOADED) {
		mb_fail(err, EINVAL, op, prog->name, "it was left out of the load");
		mb_error_hint(err, "its autoload is false");
	} else if (prog->obj && prog->obj->state == MB_FAILED) {
		mb_fail(err, EINVAL, op, prog->name, "its object failed to load");
		mb_error_hint(err, "open it again: an object can be loaded once");
	} else {
		mb_fail(err, EINVAL, op, prog->name, "its object is not loaded");
		mb_error_hint(err, "call obj:load() first");
	}
	return -EINVAL;
}

int mb_program_info(struct mb_program *prog, struct mb_program_info *out, struct mb_error *err)
{
	if (prog->closed)
		return mb_fail(err, EBADF, "describe program", prog->name, "the program is closed");
	*out = (struct mb_program_info){
		.name = prog->name,
		.section = prog->bpf ? bpf_program__section_name(prog->bpf) : NULL,
		.type = mb_program_type_name(prog->type),
		.id = prog->id,
		.fd = prog->fd,
		.autoload = !prog->bpf || bpf_program__autoload(prog->bpf),
		.loaded = prog->fd >= 0,
	};
	return 0;
}

int mb_program_autoload(struct mb_program *prog, bool on, struct mb_error *err)
{
	if (prog->closed)
		return mb_fail(err, EBADF, "configure program", prog->name,
			       "the program is closed");
	if (!prog->obj || prog->obj->state != MB_OPEN) {
		mb_fail(err, EBUSY, "configure program", prog->name,
			"its object has been loaded already");
		mb_error_hint(err, "autoload can be set between bpf.open and obj:load()");
		return -EBUSY;
	}
	if (bpf_program__set_autoload(prog->bpf, on) != 0)
		return mb_fail(err, errno, "configure program", prog->name, "%s",
			       mb_error_text(errno));
	return 0;
}

int mb_program_pin(struct mb_program *prog, const char *path, struct mb_error *err)
{
	int rc = mb_program_check(prog, "pin program", err);

	return rc ? rc : mb_pin_fd(prog->fd, path, "pin program", err);
}

/* ---- test runs -------------------------------------------------------------------------------------- */

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

/* SIGINT or SIGTERM, and nobody has dealt with it yet. */
static bool interrupted(void)
{
	struct pollfd fd = { .fd = mb_interrupt_fd(), .events = POLLIN };

	return fd.fd >= 0 && poll(&fd, 1, 0) > 0;
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
