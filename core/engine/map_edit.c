/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Compare and swap of a value with a spin lock. From user space BPF_F_LOCK guards one copy in or one
 * copy out, and what BPF programs change between the two is lost. So a small program of ours, made
 * for the map at hand, does both under the lock; a test run is what calls it. It lives with the map.
 */
#include "engine/map_kind.h"

#include "internal.h"

#define LOCK_SIZE 4u	 /* of struct bpf_spin_lock */
#define MOST_BYTES 8192u /* of a value: jumps and offsets are 16 bits wide */

enum { ABSENT, SWAPPED, CHANGED };

/* ---- the program ------------------------------------------------------------------------------ */

struct code {
	struct bpf_insn *insns;
	uint32_t n;
};

static void emit(struct code *c, uint8_t op, uint8_t dst, uint8_t src, int32_t off, int32_t imm)
{
	struct bpf_insn insn = { .code = op, .off = (int16_t)off, .imm = imm };
	/* two bitfields of 4 bits; value.c sees to it that the machine is little-endian */
	uint8_t regs = (uint8_t)(dst | src << 4);

	memcpy((uint8_t *)&insn + 1, &regs, 1);
	c->insns[c->n++] = insn;
}

static void emit_fd(struct code *c, uint8_t dst, uint8_t pseudo, int fd)
{
	emit(c, BPF_LD | BPF_DW | BPF_IMM, dst, pseudo, 0, fd);
	emit(c, 0, 0, 0, 0, 0);
}

/* r1 = the lock; call spin_lock or spin_unlock */
static void emit_lock(struct code *c, uint32_t at, int helper)
{
	emit(c, BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_1, BPF_REG_7, 0, 0);
	emit(c, BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_1, 0, 0, (int32_t)at);
	emit(c, BPF_JMP | BPF_CALL, 0, 0, 0, helper);
}

/* The widest piece that starts at off, is aligned, ends by end, and does not touch the lock. */
static uint32_t piece(uint32_t off, uint32_t end, uint32_t lock)
{
	uint32_t n = 8;

	while (n && (off % n || off + n > end || (off < lock + LOCK_SIZE && lock < off + n)))
		n /= 2;
	return n; /* 0: within the lock */
}

static uint8_t width(uint32_t n)
{
	return n == 8 ? BPF_DW : n == 4 ? BPF_W : n == 2 ? BPF_H : BPF_B;
}

/* State: the key, what is expected, what is to be stored; each at a multiple of 8. */
struct layout {
	uint32_t expect, value, size, lock;
};

static struct layout layout_of(const struct mb_map *map, uint32_t lock)
{
	uint32_t key = (uint32_t)mb_round_up(map->info.key_size, 8);
	uint32_t value = (uint32_t)mb_round_up(map->info.value_size, 8);

	return (struct layout){ key, key + value, key + 2 * value, lock };
}

/* r7: the entry, r8: the state, r6: bits in which the entry is not what was expected */
static void emit_compare(struct code *c, const struct mb_map *map, const struct layout *l)
{
	for (uint32_t off = 0, n; off < map->info.value_size; off += n ? n : 1) {
		n = piece(off, map->info.value_size, l->lock);
		if (!n)
			continue;
		emit(c, BPF_LDX | BPF_MEM | width(n), BPF_REG_1, BPF_REG_7, (int32_t)off, 0);
		emit(c, BPF_LDX | BPF_MEM | width(n), BPF_REG_2, BPF_REG_8,
		     (int32_t)(l->expect + off), 0);
		emit(c, BPF_ALU64 | BPF_XOR | BPF_X, BPF_REG_1, BPF_REG_2, 0, 0);
		emit(c, BPF_ALU64 | BPF_OR | BPF_X, BPF_REG_6, BPF_REG_1, 0, 0);
	}
}

static void emit_store(struct code *c, const struct mb_map *map, const struct layout *l)
{
	for (uint32_t off = 0, n; off < map->info.value_size; off += n ? n : 1) {
		n = piece(off, map->info.value_size, l->lock);
		if (!n)
			continue;
		emit(c, BPF_LDX | BPF_MEM | width(n), BPF_REG_2, BPF_REG_8,
		     (int32_t)(l->value + off), 0);
		emit(c, BPF_STX | BPF_MEM | width(n), BPF_REG_7, BPF_REG_2, (int32_t)off, 0);
	}
}

static void emit_program(struct code *c, const struct mb_map *map, const struct layout *l)
{
	uint32_t differs;

	emit_fd(c, BPF_REG_8, BPF_PSEUDO_MAP_VALUE, map->lock_state_fd);
	emit_fd(c, BPF_REG_1, BPF_PSEUDO_MAP_FD, map->fd);
	emit(c, BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_2, BPF_REG_8, 0, 0);
	emit(c, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_map_lookup_elem);
	emit(c, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_0, 0, 1, 0);
	emit(c, BPF_JMP | BPF_EXIT, 0, 0, 0, 0); /* r0 is 0: ABSENT */
	emit(c, BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_7, BPF_REG_0, 0, 0);
	emit_lock(c, l->lock, BPF_FUNC_spin_lock);
	emit(c, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_6, 0, 0, 0);
	emit(c, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_9, 0, 0, CHANGED);
	emit_compare(c, map, l);
	differs = c->n;
	emit(c, BPF_JMP | BPF_JNE | BPF_K, BPF_REG_6, 0, 0, 0);
	emit_store(c, map, l);
	emit(c, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_9, 0, 0, SWAPPED);
	c->insns[differs].off = (int16_t)(c->n - differs - 1);
	emit_lock(c, l->lock, BPF_FUNC_spin_unlock);
	emit(c, BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_0, BPF_REG_9, 0, 0);
	emit(c, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

/* ---- making it ------------------------------------------------------------------------------------ */

/* Where the lock lies, or -1. The kernel wants it at the top of the value. */
static int64_t find_lock(const struct mb_map *map)
{
	const struct mb_plan *p = map->value;

	for (uint32_t i = 0; p && p->kind == MB_KIND_STRUCT && i < p->nfields; i++)
		if (strcmp(p->fields[i].plan->name, "struct bpf_spin_lock") == 0)
			return p->fields[i].off;
	return -1;
}

static int no_program(struct mb_map *map, int code, struct mb_error *err)
{
	mb_fail(err, code, "edit in map", map->name,
		"the kernel takes no program that holds its lock: %s", mb_error_text(code));
	if (code == EPERM)
		mb_error_hint(err, "it needs CAP_BPF and CAP_NET_ADMIN (or root)");
	else
		mb_error_hint(err, "m:edit without \"lock\" is not atomic, and works everywhere");
	return -code;
}

static int load(struct mb_map *map, const struct layout *l, struct mb_error *err)
{
	/* per piece 6 instructions; few are narrower than 8 bytes: beside the lock and at the end */
	size_t room = 64 + 6 * ((size_t)map->info.value_size / 8 + 16);
	LIBBPF_OPTS(bpf_map_create_opts, state_opts);
	LIBBPF_OPTS(bpf_prog_load_opts, opts);
	struct code c = { calloc(room, sizeof(*c.insns)), 0 };
	int code = 0;

	if (!c.insns)
		return mb_fail(err, ENOMEM, "edit in map", map->name, "out of memory");
	map->lock_state_fd =
		bpf_map_create(BPF_MAP_TYPE_ARRAY, "mb_lock_state", 4, l->size, 1, &state_opts);
	if (map->lock_state_fd < 0)
		code = errno;
	if (!code) {
		emit_program(&c, map, l);
		map->lock_fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "mb_lock_swap",
					     "Dual BSD/GPL", c.insns, c.n, &opts);
		if (map->lock_fd < 0)
			code = errno;
	}
	free(c.insns);
	if (!code)
		return 0;
	mb_map_end_lock(map);
	return no_program(map, code, err);
}

void mb_map_end_lock(struct mb_map *map)
{
	if (map->lock_fd >= 0)
		close(map->lock_fd);
	if (map->lock_state_fd >= 0)
		close(map->lock_state_fd);
	map->lock_fd = map->lock_state_fd = -1;
}

/* ---- using it --------------------------------------------------------------------------------------- */

static int run(struct mb_map *map, const struct layout *l, const void *key, const void *expect,
	       const void *value, struct mb_error *err)
{
	uint8_t packet[64] = { 0 }, *state = calloc(1, l->size);
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = packet, .data_size_in = sizeof(packet));
	uint32_t zero = 0;
	int code = 0;

	if (!state)
		return mb_fail(err, ENOMEM, "edit in map", map->name, "out of memory");
	memcpy(state, key, map->info.key_size);
	memcpy(state + l->expect, expect, map->info.value_size);
	memcpy(state + l->value, value, map->info.value_size);
	if (bpf_map_update_elem(map->lock_state_fd, &zero, state, BPF_ANY) != 0)
		code = errno;
	while (!code && bpf_prog_test_run_opts(map->lock_fd, &opts) != 0)
		code = errno == EINTR ? 0 : errno;
	free(state);
	if (code)
		return mb_fail(err, code, "edit in map", map->name, "%s", mb_error_text(code));
	return (int)opts.retval;
}

/* What user space may not write by a system call, it may not write by a program either. */
static int check_writable(struct mb_map *map, struct mb_error *err)
{
	int mode = fcntl(map->fd, F_GETFL);

	if ((mode >= 0 && (mode & O_ACCMODE) == O_RDONLY) || mb_map_is_frozen(map))
		return mb_map_refused(map, "edit in map", EPERM, err);
	return 0;
}

int mb_map_swap_locked(struct mb_map *map, const void *key, const void *expect, const void *value,
		       struct mb_error *err)
{
	int rc = mb_map_begin(map, "edit in map", MB_OP_GET | MB_OP_SET, err);
	int64_t lock = find_lock(map);
	struct layout l;

	if (rc)
		return rc;
	if (lock < 0) {
		mb_fail(err, EINVAL, "edit in map", map->name, "its values have no spin lock");
		mb_error_hint(err, "in C: struct bpf_spin_lock lock; as a member of the value");
		return -EINVAL;
	}
	if (map->info.value_size > MOST_BYTES || map->info.key_size > MOST_BYTES / 2)
		return mb_fail(err, EFBIG, "edit in map", map->name,
			       "values of up to %u bytes can be edited under their lock",
			       MOST_BYTES);
	l = layout_of(map, (uint32_t)lock);
	rc = check_writable(map, err);
	if (rc)
		return rc;
	if (map->lock_fd < 0 && (rc = load(map, &l, err)) != 0)
		return rc;
	return run(map, &l, key, expect, value, err);
}
