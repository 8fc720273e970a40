/* SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only */
/*
 * Every execve(2) and execveat(2), with arguments and result. execsnoop.lua loads and prints.
 *
 * One that succeeds is reported by sched_process_exec, with the arguments as they lie in the new
 * process (those of a script thus begin with its interpreter): the kernel has just written them
 * there, so they can always be read. One that fails is reported as the call returns, since the
 * caller's memory is untouched; an argument that is not in memory then counts as unread.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define ARGS_SIZE 2048 /* bytes of arguments, each with its NUL, in a record */
#define ARG_SIZE 512   /* of one argument of a call that fails */
#define ARGS_MAX 64    /* arguments of a call that fails */
#define FILE_SIZE 256

struct event {
	__u64 ts_ns;
	__u32 pid;
	__u32 ppid;
	__u32 uid;
	__s32 ret;	 /* 0, or a negative errno */
	__u32 args_size; /* bytes of args in use */
	__u8 truncated;	 /* not all of the arguments are here */
	__u8 unread;	 /* arguments that could not be read */
	char comm[16];
	char file[FILE_SIZE];
	__u8 args[ARGS_SIZE];
};

/* What a call was given, in the caller's memory. */
struct call {
	const char *file;
	const char *const *argv;
};

/* Calls under way, by task: its address stays when a thread that is no leader execs, its id not. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, __u64);
	__type(value, struct call);
	__uint(max_entries, 4096);
} calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 2 * 1024 * 1024);
} events SEC(".maps");

/* Constants: set before load. */
const volatile bool only_uid = false;
const volatile __u32 uid = 0;

__u64 lost; /* events that the ring had no room for */

static __always_inline bool wanted(void)
{
	return !only_uid || (__u32)bpf_get_current_uid_gid() == uid;
}

/* Not inlined: a function's parameter brings struct event into the object's BTF. */
static __noinline int fill(struct event *e, __s32 ret)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	e->ts_ns = bpf_ktime_get_ns();
	e->pid = bpf_get_current_pid_tgid() >> 32;
	e->ppid = BPF_CORE_READ(task, real_parent, tgid);
	e->uid = bpf_get_current_uid_gid();
	e->ret = ret;
	e->args_size = 0;
	e->truncated = 0;
	e->unread = 0;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	return 0;
}

static __always_inline struct event *event_new(__s32 ret)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (e)
		fill(e, ret);
	else
		__sync_fetch_and_add(&lost, 1);
	return e;
}

/* The argument area of the process that the call made. */
static __always_inline void args_of_process(struct event *e)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	unsigned long start = BPF_CORE_READ(task, mm, arg_start);
	unsigned long size = BPF_CORE_READ(task, mm, arg_end) - start;

	if (size > ARGS_SIZE) {
		size = ARGS_SIZE;
		e->truncated = 1;
	}
	if (bpf_probe_read_user(e->args, size, (void *)start))
		e->unread = 1;
	else
		e->args_size = size;
}

/* One argument of a call that failed. False: there is no room for more. */
static __always_inline bool arg_read(struct event *e, const char *arg)
{
	__u32 at = e->args_size;
	char next = 0;
	long n;

	if (at > ARGS_SIZE - ARG_SIZE) {
		e->truncated = 1;
		return false;
	}
	n = bpf_probe_read_user_str(&e->args[at], ARG_SIZE, arg);
	if (n <= 0) {
		e->unread++;
		e->args[at] = 0;
		n = 1;
	} else if (n == ARG_SIZE) {
		/* Cut, unless it ends just there. */
		bpf_probe_read_user(&next, 1, arg + ARG_SIZE - 1);
		if (next)
			e->truncated = 1;
	}
	e->args_size = at + n;
	return true;
}

static __always_inline void args_of_call(struct event *e, const char *const *argv)
{
	const char *arg;

	for (int i = 0; i < ARGS_MAX; i++) {
		if (bpf_probe_read_user(&arg, sizeof(arg), &argv[i])) {
			e->unread++;
			return;
		}
		if (!arg || !arg_read(e, arg))
			return;
	}
	/* A further one, or the end of the list? */
	if (!bpf_probe_read_user(&arg, sizeof(arg), &argv[ARGS_MAX]) && arg)
		e->truncated = 1;
}

static __always_inline int enter(const void *file, const void *argv)
{
	struct call call = { .file = file, .argv = argv };
	__u64 task = bpf_get_current_task();

	if (wanted())
		bpf_map_update_elem(&calls, &task, &call, BPF_ANY);
	return 0;
}

static __always_inline int leave(long ret)
{
	__u64 task = bpf_get_current_task();
	struct call *call = bpf_map_lookup_elem(&calls, &task);
	struct event *e;

	if (!call)
		return 0;
	if (ret < 0) {
		e = event_new(ret);
		if (e) {
			if (bpf_probe_read_user_str(e->file, FILE_SIZE, call->file) < 0)
				e->file[0] = 0;
			args_of_call(e, call->argv);
			bpf_ringbuf_submit(e, 0);
		}
	}
	bpf_map_delete_elem(&calls, &task);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_execve")
int enter_execve(struct trace_event_raw_sys_enter *ctx)
{
	return enter((void *)ctx->args[0], (void *)ctx->args[1]);
}

SEC("tracepoint/syscalls/sys_enter_execveat")
int enter_execveat(struct trace_event_raw_sys_enter *ctx)
{
	return enter((void *)ctx->args[1], (void *)ctx->args[2]);
}

SEC("tracepoint/syscalls/sys_exit_execve")
int exit_execve(struct trace_event_raw_sys_exit *ctx)
{
	return leave(ctx->ret);
}

SEC("tracepoint/syscalls/sys_exit_execveat")
int exit_execveat(struct trace_event_raw_sys_exit *ctx)
{
	return leave(ctx->ret);
}

SEC("tracepoint/sched/sched_process_exec")
int on_exec(struct trace_event_raw_sched_process_exec *ctx)
{
	struct event *e;
	void *file;

	if (!wanted())
		return 0;
	e = event_new(0);
	if (!e)
		return 0;
	file = (void *)ctx + (ctx->__data_loc_filename & 0xffff);
	if (bpf_probe_read_kernel_str(e->file, FILE_SIZE, file) < 0)
		e->file[0] = 0;
	args_of_process(e);
	bpf_ringbuf_submit(e, 0);
	return 0;
}
