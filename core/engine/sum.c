/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two BPF programs, made for one map: look the key up, add atomically, and store the rest or not.
 * They are never attached; a test run with a packet of ours (a header's room, key, deltas, value) is
 * how they are called. They run where the map's own programs do: of a per-CPU map on its CPU.
 */
#include "engine/sum.h"

#include <linux/bpf.h>
#include <sched.h>

#include "internal.h"

#define HEADER 16    /* the kernel looks at what it takes for an Ethernet header */
#define PACKET 3072u /* of a test run at most */

struct mb_sum {
	struct mb_map *map;
	int add, store; /* programs */
	size_t n;
	uint32_t deltas, value, size; /* where they are in the packet, and its length */
	uint8_t packet[PACKET];
	cpu_set_t cpus; /* as they were */
	bool moved;
};

/* ---- instructions --------------------------------------------------------------------------------------- */

struct code {
	struct bpf_insn *insns;
	size_t n, room;
};

static void emit(struct code *c, uint8_t op, uint8_t dst, uint8_t src, int16_t off, int32_t imm)
{
	if (c->n < c->room) {
		struct bpf_insn *i = &c->insns[c->n];

		uint8_t regs = (uint8_t)(dst | src << 4); /* little-endian, as value.c is */

		memset(i, 0, sizeof(*i));
		i->code = op;
		memcpy((uint8_t *)i + 1, &regs, 1);
		i->off = off;
		i->imm = imm;
	}
	c->n++;
}

static uint8_t width(uint32_t size)
{
	return size == 8 ? BPF_DW : size == 4 ? BPF_W : size == 2 ? BPF_H : BPF_B;
}

/* The longest piece from off on that is aligned and may be stored. */
static uint32_t piece(const uint8_t *keep, uint32_t off, uint32_t len)
{
	for (uint32_t size = 8; size > 1; size /= 2) {
		uint32_t i = 0;

		while (i < size && off + i < len && !keep[off + i])
			i++;
		if (off % size == 0 && i == size)
			return size;
	}
	return 1;
}

/* r6: the packet; r0: the value, once found. Ends with 1 when it was. */
static void program(struct code *c, const struct mb_sum *s, const struct mb_addend *addends,
		    const uint8_t *keep, uint32_t value_size, bool store)
{
	size_t to_end, found;

	emit(c, BPF_LDX | BPF_MEM | BPF_W, 6, 1, offsetof(struct __sk_buff, data), 0);
	emit(c, BPF_LDX | BPF_MEM | BPF_W, 3, 1, offsetof(struct __sk_buff, data_end), 0);
	emit(c, BPF_ALU64 | BPF_MOV | BPF_X, 2, 6, 0, 0);
	emit(c, BPF_ALU64 | BPF_ADD | BPF_K, 2, 0, 0, (int32_t)s->size);
	emit(c, BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0);
	to_end = c->n;
	emit(c, BPF_JMP | BPF_JGT | BPF_X, 2, 3, 0, 0);
	emit(c, BPF_ALU64 | BPF_MOV | BPF_X, 2, 6, 0, 0);
	emit(c, BPF_ALU64 | BPF_ADD | BPF_K, 2, 0, 0, HEADER);
	emit(c, BPF_LD | BPF_IMM | BPF_DW, 1, BPF_PSEUDO_MAP_FD, 0, s->map->fd);
	emit(c, 0, 0, 0, 0, 0);
	emit(c, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_map_lookup_elem);
	found = c->n;
	emit(c, BPF_JMP | BPF_JNE | BPF_K, 0, 0, 1, 0);
	emit(c, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	for (uint32_t off = 0, size; store && off < value_size; off += size) {
		size = keep[off] ? 1 : piece(keep, off, value_size);
		if (keep[off])
			continue;
		emit(c, BPF_LDX | BPF_MEM | width(size), 1, 6, (int16_t)(s->value + off), 0);
		emit(c, BPF_STX | BPF_MEM | width(size), 0, 1, (int16_t)off, 0);
	}
	for (size_t i = 0; i < s->n; i++) {
		emit(c, BPF_LDX | BPF_MEM | BPF_DW, 1, 6, (int16_t)(s->deltas + i * 8), 0);
		emit(c, BPF_STX | BPF_ATOMIC | width(addends[i].size), 0, 1,
		     (int16_t)addends[i].off, BPF_ADD);
	}
	emit(c, BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1);
	emit(c, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	if (to_end < c->room) /* to the exit behind the lookup, with r0 == 0 */
		c->insns[to_end].off = (int16_t)(found + 1 - (to_end + 1));
}

static int load(const struct mb_sum *s, const struct mb_addend *addends, const uint8_t *keep,
		bool store, int *fd, struct mb_error *err)
{
	struct code c = { .room = PACKET * 2 + 64 };
	uint32_t value_size = s->map->info.value_size;

	c.insns = calloc(c.room, sizeof(*c.insns));
	if (!c.insns)
		return mb_fail(err, ENOMEM, "sum in map", s->map->name, "out of memory");
	program(&c, s, addends, keep, value_size, store);
	*fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "mb_sum", "GPL", c.insns, c.n, NULL);
	free(c.insns);
	if (*fd >= 0)
		return 0;
	return mb_fail(err, errno, "sum in map", s->map->name,
		       "the kernel refuses a program that adds to its values: %s",
		       mb_error_text(errno));
}

int mb_sum_new(struct mb_map *map, const struct mb_addend *addends, size_t n, const uint8_t *keep,
	       struct mb_sum **out, struct mb_error *err)
{
	struct mb_sum *s;
	size_t size = HEADER + mb_round_up(map->info.key_size, 8) + n * 8 +
		      mb_round_up(map->info.value_size, 8);
	int rc;

	if (size > PACKET)
		return mb_fail(err, ENOTSUP, "sum in map", map->name,
			       "keys and values of together more than %zu bytes cannot be summed",
			       PACKET - HEADER - n * 8);
	s = calloc(1, sizeof(*s));
	if (!s)
		return mb_fail(err, ENOMEM, "sum in map", map->name, "out of memory");
	s->map = mb_map_ref(map);
	s->n = n;
	s->deltas = (uint32_t)(HEADER + mb_round_up(map->info.key_size, 8));
	s->value = s->deltas + (uint32_t)n * 8;
	s->size = (uint32_t)size;
	s->add = s->store = -1;
	rc = load(s, addends, keep, false, &s->add, err);
	if (!rc)
		rc = load(s, addends, keep, true, &s->store, err);
	if (rc) {
		mb_sum_free(s);
		return rc;
	}
	*out = s;
	return 0;
}

void mb_sum_free(struct mb_sum *s)
{
	if (!s)
		return;
	if (s->add >= 0)
		close(s->add);
	if (s->store >= 0)
		close(s->store);
	mb_map_unref(s->map);
	free(s);
}

/* ---- running ---------------------------------------------------------------------------------------------- */

/* One that is not there runs nothing: what it counted may stand in another one's place. */
static void go_to_cpu(struct mb_sum *s, int cpu)
{
	cpu_set_t only;

	if (sched_getaffinity(0, sizeof(s->cpus), &s->cpus) != 0)
		return;
	CPU_ZERO(&only);
	CPU_SET((size_t)cpu, &only);
	s->moved = sched_setaffinity(0, sizeof(only), &only) == 0;
}

int mb_sum_run(struct mb_sum *s, const void *key, int cpu, const int64_t *deltas, const void *value,
	       struct mb_error *err)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = s->packet, .data_size_in = s->size);
	int rc;

	memcpy(s->packet + HEADER, key, s->map->info.key_size);
	memcpy(s->packet + s->deltas, deltas, s->n * 8);
	if (value)
		memcpy(s->packet + s->value, value, s->map->info.value_size);
	if (cpu >= 0)
		go_to_cpu(s, cpu);
	do
		rc = bpf_prog_test_run_opts(value ? s->store : s->add, &opts);
	while (rc != 0 && errno == EINTR);
	if (rc)
		rc = mb_fail(err, errno, "sum in map", s->map->name, "%s", mb_error_text(errno));
	if (s->moved) {
		sched_setaffinity(0, sizeof(s->cpus), &s->cpus);
		s->moved = false;
	}
	return rc ? rc : (int)opts.retval;
}
