/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A BPF program: what it is, whether it loads, what the kernel says about it. Where it can be attached
 * is attach.c's, test runs are run.c's.
 */
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
	free(prog->log);
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

int mb_program_pin(struct mb_program *prog, const char *path, bool over, struct mb_error *err)
{
	int rc = mb_program_check(prog, "pin program", err);

	if (rc)
		return rc;
	return over ? mb_pin_replace(prog->fd, path, 0, prog->obj, "pin program", err) :
		      mb_pin_fd(prog->fd, path, prog->obj, "pin program", err);
}

/* ---- what the kernel says of a loaded one ------------------------------------------------------------ */

const char *mb_program_log(const struct mb_program *prog)
{
	return prog->log;
}

int mb_program_stats(struct mb_program *prog, struct mb_program_stats *out, struct mb_error *err)
{
	struct bpf_prog_info info;
	int rc = mb_program_check(prog, "describe program", err);

	if (!rc)
		rc = describe(prog, &info, err);
	if (rc)
		return rc;
	*out = (struct mb_program_stats){ info.run_cnt, info.run_time_ns, info.recursion_misses };
	return 0;
}

/* A line of /proc/self/fdinfo/FD; 0: not there. */
static uint64_t fdinfo(int fd, const char *name)
{
	char path[64], line[128];
	uint64_t value = 0;
	size_t n = strlen(name);
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, name, n) == 0 && line[n] == ':')
			value = strtoull(line + n + 1, NULL, 10);
	if (f)
		fclose(f);
	return value;
}

int mb_program_facts(struct mb_program *prog, struct mb_program_facts *out, struct mb_error *err)
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);
	int rc = mb_program_check(prog, "describe program", err);

	if (rc)
		return rc;
	memset(out, 0, sizeof(*out));
	info.map_ids = (uint64_t)(uintptr_t)out->maps;
	info.nr_map_ids = MB_PROGRAM_MAPS;
	if (bpf_obj_get_info_by_fd(prog->fd, &info, &len) != 0)
		return mb_fail(err, errno, "describe program", prog->name, "%s",
			       mb_error_text(errno));
	for (int i = 0; i < BPF_TAG_SIZE; i++)
		snprintf(out->tag + 2 * i, 3, "%02x", info.tag[i]);
	out->uid = info.created_by_uid;
	out->loaded_ns = info.load_time;
	out->insns = info.xlated_prog_len / 8;
	out->verified_insns = info.verified_insns;
	out->jited = info.jited_prog_len;
	out->memory = fdinfo(prog->fd, "memlock");
	out->btf_id = info.btf_id;
	out->gpl = info.gpl_compatible;
	out->nmaps = info.nr_map_ids < MB_PROGRAM_MAPS ? info.nr_map_ids : MB_PROGRAM_MAPS;
	return 0;
}

/* The kernel's records may be longer than ours: rec bytes each. */
static int read_lines(struct mb_program *prog, uint32_t n, uint32_t rec, void *to,
		      struct mb_error *err)
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);

	info.line_info = (uint64_t)(uintptr_t)to;
	info.nr_line_info = n;
	info.line_info_rec_size = rec;
	if (bpf_obj_get_info_by_fd(prog->fd, &info, &len) != 0)
		return mb_fail(err, errno, "describe program", prog->name, "%s",
			       mb_error_text(errno));
	return 0;
}

static void take_lines(const struct btf *btf, const uint8_t *records, uint32_t rec, size_t n,
		       struct mb_line *out)
{
	for (size_t i = 0; i < n; i++) {
		struct bpf_line_info info;
		const char *file, *text;

		memcpy(&info, records + i * rec, sizeof(info));
		file = btf__name_by_offset(btf, info.file_name_off);
		text = btf__name_by_offset(btf, info.line_off);
		text = text ? text + strspn(text, " \t") : "";
		out[i] = (struct mb_line){ info.insn_off, BPF_LINE_INFO_LINE_NUM(info.line_col),
					   BPF_LINE_INFO_LINE_COL(info.line_col), file ? file : "",
					   text };
	}
}

int mb_program_lines(struct mb_program *prog, struct mb_line **lines, size_t *n,
		     struct mb_btf **btf, struct mb_error *err)
{
	struct bpf_prog_info info;
	uint32_t rec = sizeof(struct bpf_line_info);
	struct mb_line *list;
	uint8_t *records;
	int rc = mb_program_check(prog, "describe program", err);

	if (!rc)
		rc = describe(prog, &info, err);
	if (rc)
		return rc;
	if (!info.btf_id || !info.nr_line_info)
		return mb_fail(err, ENODATA, "describe program", prog->name,
			       "the kernel has no line information about it");
	rc = mb_btf_by_id(info.btf_id, btf, err);
	if (rc)
		return rc;
	if (info.line_info_rec_size > rec)
		rec = info.line_info_rec_size;
	records = calloc(info.nr_line_info, rec);
	list = calloc(info.nr_line_info, sizeof(*list));
	if (!records || !list)
		rc = mb_fail(err, ENOMEM, "describe program", prog->name, "out of memory");
	if (!rc)
		rc = read_lines(prog, info.nr_line_info, rec, records, err);
	if (!rc)
		take_lines((*btf)->btf, records, rec, info.nr_line_info, list);
	free(records);
	if (rc) {
		free(list);
		mb_btf_unref(*btf);
		return rc;
	}
	*lines = list;
	*n = info.nr_line_info;
	return 0;
}

void mb_lines_free(struct mb_line *lines)
{
	free(lines);
}

/* ---- streams ---------------------------------------------------------------------------------------- */

int mb_program_stream(struct mb_program *prog, uint32_t stream, void *to, size_t n,
		      struct mb_error *err)
{
	int rc = mb_program_check(prog, "read stream of", err);

	if (rc)
		return rc;
#if MB_LIBBPF_AT_LEAST(1, 7)
	rc = bpf_prog_stream_read(prog->fd, stream, to, (uint32_t)n, NULL);
	if (rc >= 0)
		return rc;
	if (rc == -EINVAL) {
		mb_fail(err, ENOTSUP, "read stream of", prog->name, "this kernel has no streams");
		mb_error_hint(err,
			      "BPF programs have standard output and error from Linux 6.17 on; "
			      "bpf_printk and bpf.trace_pipe() are everywhere");
		return -ENOTSUP;
	}
	return mb_fail(err, rc, "read stream of", prog->name, "%s", mb_error_text(-rc));
#else
	(void)stream;
	(void)to;
	(void)n;
	return mb_fail(err, ENOTSUP, "read stream of", prog->name,
		       "it needs libbpf 1.7, and this is %s", mb_libbpf_version());
#endif
}
