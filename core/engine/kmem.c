/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Reads kernel memory by BPF programs of our own. They share one map, which is mapped here too: what is
 * to be read goes in through it, what was read comes out. It never writes to the kernel, follows no
 * types and holds no locks: what changes while it is read is read as it is.
 */
#include "engine/kcode.h"
#include "engine/kmem.h"
#include "internal.h"

#define BOUNDED 256 /* turns that the verifier unrolls */

/* Where things are in the map's value. */
enum {
	H_ADDRESS = 0, /* the header: of a single read */
	H_LEN = 8,
	H_COUNT = 16, /* turns of a run */
	H_AT = 24,    /* of a list: where the walk is, */
	H_END = 32,   /* where it ends, */
	H_STEP = 40,  /* how far in the next pointer is, */
	H_NEXT = 48,  /* where that leads, */
	H_STATE = 56, /* enum state, */
	H_CODE = 64,  /* and what reading it returned */
	ADDRESSES = 4096,
	SPECS = ADDRESSES +
		MB_KMEM_SLOTS * 8, /* offset in the data, and length in the upper half */
	CODES = SPECS + MB_KMEM_SLOTS * 8,
	DATA = CODES + MB_KMEM_SLOTS * 4,
	TOTAL = DATA + MB_KMEM_DATA + MB_KMEM_LONGEST,
};

enum state { GOING, ARRIVED, FAULT, NOTHING, ODD };

enum which { ONE, EIGHT, MANY, WALK, CURRENT, PROGRAMS };

struct mb_kmem {
	int map;
	int progs[PROGRAMS]; /* -1: not made yet */
	uint8_t *at;	     /* the map's value, mapped */
	size_t len;
	enum mb_kmem_way way;
	bool syscall;	/* the type that they have */
	uint32_t turns; /* of one run */
};

static uint64_t *word(struct mb_kmem *m, size_t off)
{
	return (uint64_t *)(void *)(m->at + off);
}

/* ---- programs --------------------------------------------------------------------------------------- */

/* r0 = bpf_probe_read_kernel(data, length, address) */
static void write_one(struct mb_code *c, int map)
{
	int bad;

	mb_code_map(c, R6, map, 0);
	mb_code_load(c, BPF_DW, R3, R6, H_ADDRESS);
	mb_code_load(c, BPF_W, R2, R6, H_LEN);
	bad = mb_code_jump(c, BPF_JGT, R2, MB_KMEM_LONGEST);
	mb_code_map(c, R1, map, DATA);
	mb_code_call(c, BPF_FUNC_probe_read_kernel);
	mb_code_return(c);
	mb_code_land(c, bad);
	mb_code_exit(c, -E2BIG);
}

/* The element at off of an array of elements of 1 << shift bytes: r dst points to it. r7: which. */
static void point(struct mb_code *c, int dst, int map, int32_t off, int shift)
{
	mb_code_mov(c, R8, R7);
	mb_code_alu_imm(c, BPF_LSH, R8, shift);
	mb_code_map(c, dst, map, off);
	mb_code_alu(c, BPF_ADD, dst, R8);
}

/* One turn of many reads: r7 says which. Uses r8, r9. */
static void turn_eight(struct mb_code *c, int map)
{
	point(c, R3, map, ADDRESSES, 3);
	mb_code_load(c, BPF_DW, R3, R3, 0);
	point(c, R1, map, DATA, 3);
	mb_code_set(c, R2, 8);
	mb_code_call(c, BPF_FUNC_probe_read_kernel);
	mb_code_mov(c, R9, R0);
	point(c, R1, map, CODES, 2);
	mb_code_store(c, BPF_W, R1, 0, R9);
}

static void turn_many(struct mb_code *c, int map)
{
	int longer;

	point(c, R3, map, ADDRESSES, 3);
	mb_code_load(c, BPF_DW, R3, R3, 0);
	point(c, R9, map, SPECS, 3);
	mb_code_load(c, BPF_DW, R9, R9, 0);
	mb_code_mov(c, R2, R9);
	mb_code_alu_imm(c, BPF_RSH, R2, 32);
	longer = mb_code_jump(c, BPF_JGT, R2, MB_KMEM_LONGEST);
	mb_code_alu_imm(c, BPF_AND, R9, MB_KMEM_DATA - 1);
	mb_code_map(c, R1, map, DATA);
	mb_code_alu(c, BPF_ADD, R1, R9);
	mb_code_call(c, BPF_FUNC_probe_read_kernel);
	mb_code_mov(c, R9, R0);
	point(c, R1, map, CODES, 2);
	mb_code_store(c, BPF_W, R1, 0, R9);
	mb_code_land(c, longer);
}

/* Set the state and stop, when the jump that comes before was not taken. */
static int stop_with(struct mb_code *c, enum state state)
{
	mb_code_set(c, R1, state);
	mb_code_store(c, BPF_DW, R9, H_STATE, R1);
	return mb_code_jump(c, BPF_JA, 0, 0);
}

/* One step along a list. Returns in stops the places of jumps that end the walk. */
static int turn_walk(struct mb_code *c, int map, int stops[4])
{
	int readable, other, there, even;

	mb_code_map(c, R9, map, 0);
	point(c, R1, map, ADDRESSES, 3);
	mb_code_load(c, BPF_DW, R3, R9, H_AT);
	mb_code_store(c, BPF_DW, R1, 0, R3);
	mb_code_load(c, BPF_DW, R1, R9, H_STEP);
	mb_code_alu(c, BPF_ADD, R3, R1);
	mb_code_map(c, R1, map, H_NEXT);
	mb_code_set(c, R2, 8);
	mb_code_call(c, BPF_FUNC_probe_read_kernel);
	readable = mb_code_jump(c, BPF_JEQ, R0, 0);
	mb_code_store(c, BPF_DW, R9, H_CODE, R0);
	stops[0] = stop_with(c, FAULT);
	mb_code_land(c, readable);
	mb_code_mov(c, R2, R7);
	mb_code_alu_imm(c, BPF_ADD, R2, 1);
	mb_code_store(c, BPF_DW, R9, H_COUNT + 0, R2);
	mb_code_load(c, BPF_DW, R3, R9, H_NEXT);
	mb_code_store(c, BPF_DW, R9, H_AT, R3);
	mb_code_load(c, BPF_DW, R2, R9, H_END);
	other = mb_code_jump_reg(c, BPF_JNE, R3, R2);
	stops[1] = stop_with(c, ARRIVED);
	mb_code_land(c, other);
	there = mb_code_jump(c, BPF_JNE, R3, 0);
	stops[2] = stop_with(c, NOTHING);
	mb_code_land(c, there);
	mb_code_alu_imm(c, BPF_AND, R3, 1);
	even = mb_code_jump(c, BPF_JEQ, R3, 0);
	stops[3] = stop_with(c, ODD);
	mb_code_land(c, even);
	return 4;
}

static int write_turn(struct mb_code *c, enum which which, int map, int stops[4])
{
	if (which == WALK)
		return turn_walk(c, map, stops);
	(which == EIGHT ? turn_eight : turn_many)(c, map);
	return 0;
}

/* for (r7 = 0; r7 < count; r7++) turn: by bpf_loop, */
static void write_loop(struct mb_code *c, enum which which, int map)
{
	int stops[4], n, beyond;

	mb_code_map(c, R1, map, 0);
	mb_code_load(c, BPF_W, R1, R1, H_COUNT);
	mb_code_function(c, R2);
	mb_code_set(c, R3, 0);
	mb_code_set(c, R4, 0);
	mb_code_call(c, BPF_FUNC_loop);
	mb_code_exit(c, 0);
	mb_code_begin_callback(c);
	mb_code_mov(c, R7, R1);
	beyond = mb_code_jump(c, BPF_JGT, R7, MB_KMEM_SLOTS - 1);
	n = write_turn(c, which, map, stops);
	mb_code_exit(c, 0);
	mb_code_land(c, beyond);
	for (int i = 0; i < n; i++)
		mb_code_land(c, stops[i]);
	mb_code_exit(c, 1);
}

/* or by a loop that the verifier follows. */
static void write_bounded(struct mb_code *c, enum which which, int map)
{
	int stops[4], n, top, done;

	mb_code_map(c, R6, map, 0);
	mb_code_load(c, BPF_W, R6, R6, H_COUNT);
	mb_code_set(c, R7, 0);
	top = c->n;
	done = mb_code_jump_reg(c, BPF_JGE, R7, R6);
	n = write_turn(c, which, map, stops);
	mb_code_alu_imm(c, BPF_ADD, R7, 1);
	mb_code_back(c, BPF_JLT, R7, BOUNDED, top);
	mb_code_land(c, done);
	for (int i = 0; i < n; i++)
		mb_code_land(c, stops[i]);
	mb_code_exit(c, 0);
}

static void write_current(struct mb_code *c, int map)
{
	mb_code_call(c, BPF_FUNC_get_current_task);
	mb_code_map(c, R6, map, 0);
	mb_code_store(c, BPF_DW, R6, H_AT, R0);
	mb_code_exit(c, 0);
}

static int write_program(struct mb_kmem *m, enum which which, char **log)
{
	struct mb_code c = { .n = 0 };

	if (which == ONE)
		write_one(&c, m->map);
	else if (which == CURRENT)
		write_current(&c, m->map);
	else if (m->way == MB_KMEM_BOUNDED)
		write_bounded(&c, which, m->map);
	else
		write_loop(&c, which, m->map);
	return mb_code_program(&c,
			       m->syscall ? BPF_PROG_TYPE_SYSCALL : BPF_PROG_TYPE_RAW_TRACEPOINT,
			       "moonbee_read", 0, log);
}

static bool says(const char *log, const char *words)
{
	return log && strstr(log, words);
}

/* Does the kernel not know bpf_loop (5.17), or the callback's reference? */
static bool lacks_loop(const char *log)
{
	return says(log, "unknown func") || says(log, "invalid func") ||
	       says(log, "unrecognized bpf_ld_imm64") || says(log, "unknown opcode");
}

static int get_program(struct mb_kmem *m, enum which which, struct mb_error *err)
{
	char *log;
	int fd;

	if (m->progs[which] >= 0)
		return 0;
	fd = write_program(m, which, &log);
	if (fd == -EINVAL && m->syscall && which == ONE && m->way == MB_KMEM_BEST &&
	    !says(log, "func")) {
		free(log); /* the type may be unknown: before Linux 5.14 */
		m->syscall = false;
		fd = write_program(m, which, &log);
	}
	if (fd < 0 && which != ONE && which != CURRENT && m->way != MB_KMEM_BOUNDED &&
	    m->progs[ONE] >= 0 && lacks_loop(log)) {
		free(log);
		m->way = MB_KMEM_BOUNDED;
		m->turns = BOUNDED;
		fd = write_program(m, which, &log);
	}
	if (fd < 0)
		fd = mb_kmem_explain(err, fd, log);
	else
		m->progs[which] = fd;
	free(log);
	return fd < 0 ? fd : 0;
}

static int run(struct mb_kmem *m, enum which which, uint32_t *ret, struct mb_error *err)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);

	while (bpf_prog_test_run_opts(m->progs[which], &opts) != 0)
		if (errno != EINTR && errno != EAGAIN)
			return mb_fail(err, errno, "read", "kernel memory",
				       "the kernel does not run the program: %s",
				       mb_error_text(errno));
	if (ret)
		*ret = opts.retval;
	return 0;
}

/* ---- life --------------------------------------------------------------------------------------------- */

static int make_map(struct mb_kmem *m, struct mb_error *err)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE);
	int code;

	m->map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "moonbee_read", 4, TOTAL, 1, &opts);
	if (m->map < 0)
		return mb_kmem_explain(err, mb_errno(), NULL);
	m->len = mb_round_up(mb_round_up(TOTAL, 8), (size_t)sysconf(_SC_PAGESIZE));
	m->at = mmap(NULL, m->len, PROT_READ | PROT_WRITE, MAP_SHARED, m->map, 0);
	if (m->at != MAP_FAILED)
		return 0;
	code = errno;
	m->at = NULL;
	return mb_fail(err, code, "read", "kernel memory", "cannot map our own map: %s",
		       mb_error_text(code));
}

int mb_kmem_new(enum mb_kmem_way way, struct mb_kmem **out, struct mb_error *err)
{
	struct mb_kmem *m = calloc(1, sizeof(*m));
	int rc;

	if (!m)
		return mb_fail(err, ENOMEM, "read", "kernel memory", "out of memory");
	m->map = -1;
	m->way = way;
	m->syscall = way == MB_KMEM_BEST;
	m->turns = way == MB_KMEM_BOUNDED ? BOUNDED : MB_KMEM_SLOTS;
	for (int i = 0; i < PROGRAMS; i++)
		m->progs[i] = -1;
	rc = make_map(m, err);
	if (!rc)
		rc = get_program(m, ONE, err);
	if (rc) {
		mb_kmem_free(m);
		return rc;
	}
	*out = m;
	return 0;
}

void mb_kmem_free(struct mb_kmem *m)
{
	if (!m)
		return;
	for (int i = 0; i < PROGRAMS; i++)
		if (m->progs[i] >= 0)
			close(m->progs[i]);
	if (m->at)
		munmap(m->at, m->len);
	if (m->map >= 0)
		close(m->map);
	free(m);
}

/* ---- what stands in the way -------------------------------------------------------------------------- */

static bool locked_down(void)
{
	char text[128] = "";
	int fd = open("/sys/kernel/security/lockdown", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;

	if (fd >= 0)
		close(fd);
	return n > 0 && strstr(text, "[confidentiality]");
}

/* Bits of CapEff in /proc/self/status. */
static bool has_capability(int bit)
{
	FILE *status = fopen("/proc/self/status", "re");
	unsigned long long mask = ~0ULL;
	char line[256];

	while (status && fgets(line, sizeof(line), status))
		if (sscanf(line, "CapEff: %llx", &mask) == 1)
			break;
	if (status)
		fclose(status);
	return mask >> bit & 1;
}

int mb_kmem_explain(struct mb_error *err, int code, const char *log)
{
	return mb_kmem_refused(err, code, log, locked_down());
}

int mb_kmem_refused(struct mb_error *err, int code, const char *log, bool locked)
{
	enum { SYS_ADMIN = 21, PERFMON = 38, BPF = 39 };
	bool admin = has_capability(SYS_ADMIN);
	bool helper = says(log, "unknown func") || says(log, "cannot use helper");
	int rc;

	if (locked && (helper || code == -EPERM)) {
		rc = mb_fail(
			err, EPERM, "read", "kernel memory",
			"the kernel is locked down (confidentiality): nobody may read its memory");
		mb_error_hint(err, "see /sys/kernel/security/lockdown; only a boot without "
				   "lockdown=confidentiality changes it");
	} else if (!admin && (!has_capability(BPF) || !has_capability(PERFMON)) &&
		   (helper || code == -EPERM)) {
		rc = mb_fail(err, EPERM, "read", "kernel memory", "it needs %s%s%s",
			     has_capability(BPF) ? "" : "CAP_BPF",
			     !has_capability(BPF) && !has_capability(PERFMON) ? " and " : "",
			     has_capability(PERFMON) ? "" : "CAP_PERFMON");
		mb_error_hint(err, "run as root, or with these capabilities");
	} else if (helper) {
		rc = mb_fail(err, ENOTSUP, "read", "kernel memory",
			     "this kernel lacks a helper for it: %.*s", (int)strcspn(log, "\n"),
			     log);
		mb_error_hint(err, "bpf_probe_read_kernel came with Linux 5.5");
	} else {
		rc = mb_fail(err, code, "read", "kernel memory",
			     "the kernel refuses our program: %s", mb_error_text(-code));
	}
	if (err && log && *log && !err->log)
		err->log = strdup(log);
	return rc;
}

int mb_kmem_fault(struct mb_error *err, uint64_t address, int code)
{
	char subject[40];

	if (code < 0)
		code = -code;
	snprintf(subject, sizeof(subject), "0x%llx", (unsigned long long)address);
	return mb_fail(err, code, "read kernel memory at", subject, "%s",
		       code == ERANGE ? "it is no address of the kernel's" :
		       code == EFAULT ? "nothing can be read there" :
					mb_error_text(code));
}

/* ---- reading ----------------------------------------------------------------------------------------------- */

int mb_kmem_read(struct mb_kmem *m, uint64_t address, void *to, size_t len, struct mb_error *err)
{
	uint8_t *start = to, *whole = NULL;
	int rc = 0;

	/* in one piece, so that a fault in the middle has changed nothing */
	if (len > MB_KMEM_LONGEST && !(start = whole = malloc(len)))
		return mb_fail(err, ENOMEM, "read", "kernel memory", "out of memory");
	for (size_t done = 0; !rc && done < len;) {
		size_t n = len - done > MB_KMEM_LONGEST ? MB_KMEM_LONGEST : len - done;
		uint32_t ret;

		*word(m, H_ADDRESS) = address + done;
		*word(m, H_LEN) = n;
		rc = run(m, ONE, &ret, err);
		if (!rc && ret)
			rc = mb_kmem_fault(err, address + done, (int)ret);
		if (!rc)
			memcpy(start + done, m->at + DATA, n);
		done += n;
	}
	if (whole) {
		if (!rc)
			memcpy(to, whole, len);
		free(whole);
	}
	return rc;
}

static int run_some(struct mb_kmem *m, enum which which, const uint64_t *addresses, size_t n,
		    size_t each, uint8_t *to, int32_t *codes, struct mb_error *err)
{
	uint64_t *specs = word(m, SPECS);
	int rc;

	memcpy(m->at + ADDRESSES, addresses, n * sizeof(*addresses));
	*word(m, H_COUNT) = n;
	for (size_t i = 0; which == MANY && i < n; i++)
		specs[i] = (uint64_t)each << 32 | i * each;
	rc = run(m, which, NULL, err);
	if (rc)
		return rc;
	memcpy(to, m->at + DATA, n * each);
	memcpy(codes, m->at + CODES, n * sizeof(*codes));
	return 0;
}

int mb_kmem_read_many(struct mb_kmem *m, const uint64_t *addresses, size_t n, size_t each, void *to,
		      int32_t *codes, struct mb_error *err)
{
	enum which which = each == 8 ? EIGHT : MANY;
	size_t most;
	int rc = get_program(m, which, err);

	if (rc)
		return rc;
	if (!each || each > MB_KMEM_LONGEST)
		return mb_fail(err, E2BIG, "read", "kernel memory",
			       "many things at once are of 1 to %d bytes each", MB_KMEM_LONGEST);
	most = MB_KMEM_DATA / each < m->turns ? MB_KMEM_DATA / each : m->turns;
	for (size_t done = 0; !rc && done < n; done += most)
		rc = mb_stop_asked() ?
			     mb_fail(err, EINTR, "read", "kernel memory", "interrupted") :
			     run_some(m, which, addresses + done, n - done < most ? n - done : most,
				      each, (uint8_t *)to + done * each, codes + done, err);
	return rc;
}

int mb_kmem_current(struct mb_kmem *m, uint64_t *task, struct mb_error *err)
{
	int rc = get_program(m, CURRENT, err);

	if (!rc)
		rc = run(m, CURRENT, NULL, err);
	if (!rc)
		*task = *word(m, H_AT);
	return rc;
}

void mb_kmem_release(void *memory)
{
	free(memory);
}

/* ---- lists ---------------------------------------------------------------------------------------------------- */

static int list_ended(struct mb_kmem *m, uint64_t end, bool *more, struct mb_error *err)
{
	*more = false;
	switch (*word(m, H_STATE)) {
	case GOING:
		*more = true;
		return 0;
	case ARRIVED:
		return 0;
	case FAULT:
		return mb_kmem_fault(err, *word(m, H_AT) + *word(m, H_STEP), (int)*word(m, H_CODE));
	case ODD:
		if (!end)
			return 0;
		return mb_fail(
			err, EINVAL, "walk", "list",
			"it leads to 0x%llx, which is no element: it is changing, or no list",
			(unsigned long long)*word(m, H_AT));
	default:
		return mb_fail(
			err, EINVAL, "walk", "list",
			"it ends in NULL before it comes back to its head: it is changing, or "
			"no list");
	}
}

int mb_kmem_list(struct mb_kmem *m, uint64_t first, uint64_t end, uint32_t next, uint64_t **out,
		 size_t *n, struct mb_error *err)
{
	uint64_t *found = NULL;
	size_t count = 0;
	bool more = first != end && !(!end && first & 1);
	int rc = get_program(m, WALK, err);

	*word(m, H_AT) = first;
	*word(m, H_END) = end;
	*word(m, H_STEP) = next;
	while (!rc && more) {
		uint64_t *room = realloc(found, (count + m->turns) * sizeof(*found));
		size_t step;

		if (!room) {
			rc = mb_fail(err, ENOMEM, "walk", "list", "out of memory");
			break;
		}
		found = room;
		if (mb_stop_asked()) {
			rc = mb_fail(err, EINTR, "walk", "list", "interrupted");
			break;
		}
		*word(m, H_STATE) = GOING;
		*word(m, H_COUNT) = m->turns;
		rc = run(m, WALK, NULL, err);
		if (!rc)
			rc = list_ended(m, end, &more, err);
		if (rc)
			break;
		step = (size_t)*word(m, H_COUNT);
		memcpy(found + count, m->at + ADDRESSES, step * sizeof(*found));
		count += step;
		if (more && count >= MB_KMEM_LIST_MAX) {
			rc = mb_fail(err, ELOOP, "walk", "list",
				     "after %zu elements it has not come back to its head: it is "
				     "changing, or no list",
				     count);
		}
	}
	if (rc) {
		free(found);
		return rc;
	}
	*out = found;
	*n = count;
	return 0;
}
