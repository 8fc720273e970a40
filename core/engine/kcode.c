/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writes and loads BPF programs without an object file. bpf_loop wants its callback as a function that
 * BTF knows: that BTF is made here, too.
 */
#include "engine/kcode.h"
#include "internal.h"

#define LOG_ROOM 65536

static void put(struct mb_code *c, int op, int dst, int src, int off, int32_t imm)
{
	if (c->n >= MB_CODE_MAX)
		return; /* the verifier refuses what has no end */
	c->insns[c->n++] = (struct bpf_insn){ .code = (uint8_t)op,
					      .dst_reg = (uint8_t)(dst & 15),
					      .src_reg = (uint8_t)(src & 15),
					      .off = (int16_t)off,
					      .imm = imm };
}

void mb_code_mov(struct mb_code *c, int dst, int src)
{
	put(c, BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0);
}

void mb_code_set(struct mb_code *c, int dst, int32_t value)
{
	put(c, BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, value);
}

void mb_code_alu(struct mb_code *c, int op, int dst, int src)
{
	put(c, BPF_ALU64 | op | BPF_X, dst, src, 0, 0);
}

void mb_code_alu_imm(struct mb_code *c, int op, int dst, int32_t value)
{
	put(c, BPF_ALU64 | op | BPF_K, dst, 0, 0, value);
}

void mb_code_load(struct mb_code *c, int size, int dst, int src, int off)
{
	put(c, BPF_LDX | size | BPF_MEM, dst, src, off, 0);
}

void mb_code_store(struct mb_code *c, int size, int dst, int off, int src)
{
	put(c, BPF_STX | size | BPF_MEM, dst, src, off, 0);
}

void mb_code_map(struct mb_code *c, int dst, int fd, int32_t off)
{
	put(c, BPF_LD | BPF_DW | BPF_IMM, dst, BPF_PSEUDO_MAP_VALUE, 0, fd);
	put(c, 0, 0, 0, 0, off);
}

/* The callback's place is not known yet: set when it begins. */
void mb_code_function(struct mb_code *c, int dst)
{
	put(c, BPF_LD | BPF_DW | BPF_IMM, dst, BPF_PSEUDO_FUNC, 0, 0);
	put(c, 0, 0, 0, 0, 0);
}

void mb_code_call(struct mb_code *c, int helper)
{
	put(c, BPF_JMP | BPF_CALL, 0, 0, 0, helper);
}

void mb_code_return(struct mb_code *c)
{
	put(c, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

void mb_code_exit(struct mb_code *c, int32_t value)
{
	mb_code_set(c, R0, value);
	mb_code_return(c);
}

int mb_code_jump(struct mb_code *c, int op, int dst, int32_t value)
{
	put(c, BPF_JMP | op | BPF_K, dst, 0, 0, value);
	return c->n - 1;
}

int mb_code_jump_reg(struct mb_code *c, int op, int dst, int src)
{
	put(c, BPF_JMP | op | BPF_X, dst, src, 0, 0);
	return c->n - 1;
}

void mb_code_land(struct mb_code *c, int place)
{
	c->insns[place].off = (int16_t)(c->n - place - 1);
}

void mb_code_back(struct mb_code *c, int op, int dst, int32_t value, int place)
{
	put(c, BPF_JMP | op | BPF_K, dst, 0, place - c->n - 1, value);
}

void mb_code_begin_callback(struct mb_code *c)
{
	c->callback = c->n;
	for (int i = 0; i < c->n; i++)
		if (c->insns[i].code == (BPF_LD | BPF_DW | BPF_IMM) &&
		    c->insns[i].src_reg == BPF_PSEUDO_FUNC)
			c->insns[i].imm = c->n - i - 1;
}

/* "int main(void *)" and "static int step(unsigned int, void *)". Ids of the functions in *ids. */
static struct btf *make_btf(uint32_t ids[2])
{
	struct btf *btf = btf__new_empty();
	int u32, any, proto, id = -1;

	if (!btf)
		return NULL;
	u32 = btf__add_int(btf, "int", 4, BTF_INT_SIGNED);
	any = btf__add_ptr(btf, 0);
	proto = btf__add_func_proto(btf, u32);
	if (proto > 0 && btf__add_func_param(btf, "ctx", any) == 0)
		id = btf__add_func(btf, "moonbee", BTF_FUNC_GLOBAL, proto);
	ids[0] = (uint32_t)id;
	if (id > 0) {
		id = -1;
		proto = btf__add_func_proto(btf, u32);
		if (proto > 0 && btf__add_func_param(btf, "i", u32) == 0 &&
		    btf__add_func_param(btf, "ctx", any) == 0)
			id = btf__add_func(btf, "step", BTF_FUNC_STATIC, proto);
	}
	ids[1] = (uint32_t)id;
	if (id > 0 && btf__load_into_kernel(btf) == 0)
		return btf;
	btf__free(btf);
	return NULL;
}

int mb_code_program(const struct mb_code *c, enum bpf_prog_type type, const char *name,
		    uint32_t attach_btf_id, char **log)
{
	struct bpf_func_info info[2] = { { 0, 0 }, { (uint32_t)c->callback, 0 } };
	LIBBPF_OPTS(bpf_prog_load_opts, opts);
	struct mb_capture cap;
	struct btf *btf = NULL;
	uint32_t ids[2];
	int fd;

	*log = NULL;
	mb_capture_begin(&cap);
	if (c->callback) {
		errno = 0;
		btf = make_btf(ids);
		if (!btf) {
			fd = mb_errno();
			mb_capture_end(&cap, NULL);
			return fd;
		}
		info[0].type_id = ids[0];
		info[1].type_id = ids[1];
		opts.prog_btf_fd = (uint32_t)btf__fd(btf);
		opts.func_info = info;
		opts.func_info_cnt = 2;
		opts.func_info_rec_size = sizeof(info[0]);
	}
	if (type == BPF_PROG_TYPE_SYSCALL)
		opts.prog_flags = BPF_F_SLEEPABLE;
	if (type == BPF_PROG_TYPE_TRACING)
		opts.expected_attach_type = BPF_TRACE_ITER;
	opts.attach_btf_id = attach_btf_id;
	*log = calloc(1, LOG_ROOM);
	opts.log_buf = *log;
	opts.log_size = *log ? LOG_ROOM : 0;
	/* the helpers that read memory are for programs whose license says GPL, among others */
	fd = bpf_prog_load(type, name, "Dual BSD/GPL", c->insns, (size_t)c->n, &opts);
	if (fd < 0)
		fd = mb_errno();
	mb_capture_end(&cap, NULL);
	btf__free(btf);
	return fd;
}
