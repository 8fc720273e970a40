/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * All tasks, by the kernel's own iterator over them: it walks by process id and holds each task while
 * our program copies it, so that none is missed, seen twice or read after its end.
 */
#include "engine/kcode.h"
#include "engine/kmem.h"
#include "internal.h"

#define RECORD_MAX (28u << 10) /* the iterator's buffer is 8 pages */

struct places {
	const struct mb_plan *task;
	int pid, tgid, parent;
	uint32_t iter; /* id of bpf_iter_task */
};

static int no_field(struct mb_error *err, const char *what)
{
	int rc = mb_fail(err, ENOTSUP, "list", "tasks", "this kernel's BTF has no %s", what);

	mb_error_hint(err, "task iterators came with Linux 5.8");
	return rc;
}

static int find_field(const struct mb_plan *plan, const char *name, int *off)
{
	const struct mb_field *f = mb_plan_field(plan, name);

	*off = f ? (int)f->off : 0;
	return f && f->off < INT16_MAX ? 0 : -ENOENT;
}

static int find_places(struct mb_kbtf *types, struct places *p, struct mb_error *err)
{
	struct mb_kdecl iter;
	int rc = mb_kbtf_type(types, "struct task_struct", &p->task, err);

	if (rc)
		return rc;
	rc = mb_kbtf_find(types, "bpf_iter_task", MB_KDECL_FUNC, false, &iter, err);
	if (rc < 0)
		return rc;
	if (!rc)
		return no_field(err, "function bpf_iter_task");
	p->iter = iter.id;
	if (find_field(p->task, "pid", &p->pid) || find_field(p->task, "tgid", &p->tgid) ||
	    find_field(p->task, "real_parent", &p->parent) || p->task->size > RECORD_MAX)
		return no_field(err, "struct task_struct as we know it");
	return 0;
}

/* For each task that the iterator shows: copy it behind the record's head, and give the record out. */
static void write_program(struct mb_code *c, const struct places *p, bool threads, int map)
{
	int32_t head = (int32_t)sizeof(struct mb_task);
	int none, thread = -1;

	mb_code_mov(c, R6, R1);
	mb_code_load(c, BPF_DW, R7, R6, 8); /* bpf_iter__task.task: NULL at the end */
	none = mb_code_jump(c, BPF_JEQ, R7, 0);
	if (!threads) {
		mb_code_load(c, BPF_W, R1, R7, p->pid);
		mb_code_load(c, BPF_W, R2, R7, p->tgid);
		thread = mb_code_jump_reg(c, BPF_JNE, R1, R2);
	}
	mb_code_map(c, R9, map, 0);
	mb_code_store(c, BPF_DW, R9, 0, R7);
	mb_code_load(c, BPF_DW, R3, R7, p->parent);
	mb_code_alu_imm(c, BPF_ADD, R3, p->tgid);
	mb_code_map(c, R1, map, offsetof(struct mb_task, ppid));
	mb_code_set(c, R2, 4);
	mb_code_call(c, BPF_FUNC_probe_read_kernel);
	mb_code_map(c, R1, map, head);
	mb_code_set(c, R2, (int32_t)p->task->size);
	mb_code_mov(c, R3, R7);
	mb_code_call(c, BPF_FUNC_probe_read_kernel);
	mb_code_store(c, BPF_W, R9, offsetof(struct mb_task, code), R0);
	mb_code_load(c, BPF_DW, R1, R6, 0); /* meta, */
	mb_code_load(c, BPF_DW, R1, R1, 0); /* its seq_file */
	mb_code_map(c, R2, map, 0);
	mb_code_set(c, R3, head + (int32_t)p->task->size);
	mb_code_call(c, BPF_FUNC_seq_write);
	mb_code_land(c, none);
	if (thread >= 0)
		mb_code_land(c, thread);
	mb_code_exit(c, 0);
}

/* All that the iterator gives, until its end. */
static int read_all(int fd, uint8_t **out, size_t *len, struct mb_error *err)
{
	size_t room = 0, n = 0;
	uint8_t *bytes = NULL;
	ssize_t got = 0;
	int rc = 0;

	do {
		n += (size_t)got;
		if (room - n < (64u << 10)) {
			uint8_t *more = realloc(bytes, room = room ? room * 2 : 1u << 20);

			if (!more) {
				rc = mb_fail(err, ENOMEM, "list", "tasks", "out of memory");
				break;
			}
			bytes = more;
		}
		got = read(fd, bytes + n, room - n);
		if (got < 0 && (errno == EINTR || errno == EAGAIN))
			got = 0;
		else if (got < 0)
			rc = mb_fail(err, errno, "list", "tasks", "%s", mb_error_text(errno));
		else if (got == 0)
			break;
	} while (!rc);
	if (rc) {
		free(bytes);
		return rc;
	}
	*out = bytes;
	*len = n;
	return 0;
}

static int iterate(int prog, uint8_t **out, size_t *len, struct mb_error *err)
{
	int link = bpf_link_create(prog, 0, BPF_TRACE_ITER, NULL), iter, rc;

	if (link < 0)
		return mb_fail(err, mb_errno(), "list", "tasks", "the kernel makes no iterator: %s",
			       mb_error_text(-mb_errno()));
	iter = bpf_iter_create(link);
	rc = iter < 0 ? mb_fail(err, mb_errno(), "list", "tasks",
				"the kernel makes no iterator: %s", mb_error_text(-mb_errno())) :
			read_all(iter, out, len, err);
	if (iter >= 0)
		close(iter);
	close(link);
	return rc;
}

int mb_kmem_tasks(struct mb_kernel *kernel, bool threads, const struct mb_plan **plan,
		  uint8_t **out, size_t *stride, size_t *n, struct mb_error *err)
{
	struct mb_code c = { .n = 0 };
	struct places p;
	size_t len = 0, each;
	char *log = NULL;
	int map, prog, rc;

	rc = find_places(mb_kernel_types(kernel), &p, err);
	if (rc)
		return rc;
	each = sizeof(struct mb_task) + p.task->size;
	map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "moonbee_task", 4, (uint32_t)each, 1, NULL);
	if (map < 0)
		return mb_kmem_explain(err, mb_errno(), NULL);
	write_program(&c, &p, threads, map);
	prog = mb_code_program(&c, BPF_PROG_TYPE_TRACING, "moonbee_task", p.iter, &log);
	rc = prog < 0 ? mb_kmem_explain(err, prog, log) : iterate(prog, out, &len, err);
	free(log);
	if (prog >= 0)
		close(prog);
	close(map);
	if (rc)
		return rc;
	*plan = p.task;
	*stride = each;
	*n = len / each;
	return 0;
}
