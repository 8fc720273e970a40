/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * BPF instructions written at run time: a buffer, and a function for each that we need. Of the engine.
 */
#ifndef MB_KCODE_H
#define MB_KCODE_H

#include <linux/bpf.h>
#include <stdbool.h>
#include <stdint.h>

#define MB_CODE_MAX 160

struct mb_code {
	struct bpf_insn insns[MB_CODE_MAX];
	int n;
	int callback; /* where the function for bpf_loop begins; 0: there is none */
};

enum { R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 };

/* Each appends one instruction; jumps return their place, for mb_code_land. */
void mb_code_mov(struct mb_code *c, int dst, int src);
void mb_code_set(struct mb_code *c, int dst, int32_t value);
void mb_code_alu(struct mb_code *c, int op, int dst, int src);
void mb_code_alu_imm(struct mb_code *c, int op, int dst, int32_t value);
void mb_code_load(struct mb_code *c, int size, int dst, int src, int off);
void mb_code_store(struct mb_code *c, int size, int dst, int off, int src);
void mb_code_map(struct mb_code *c, int dst, int fd, int32_t off);
void mb_code_function(struct mb_code *c, int dst);
void mb_code_call(struct mb_code *c, int helper);
void mb_code_exit(struct mb_code *c, int32_t value);
void mb_code_return(struct mb_code *c);
int mb_code_jump(struct mb_code *c, int op, int dst, int32_t value);
int mb_code_jump_reg(struct mb_code *c, int op, int dst, int src);
/* The jump at place leads to here. */
void mb_code_land(struct mb_code *c, int place);
/* A jump back to place. */
void mb_code_back(struct mb_code *c, int op, int dst, int32_t value, int place);
/* The callback begins here. */
void mb_code_begin_callback(struct mb_code *c);

/* Load it: a fd, or -errno with libbpf's and the verifier's words in *log (freed by the caller). */
int mb_code_program(const struct mb_code *c, enum bpf_prog_type type, const char *name,
		    uint32_t attach_btf_id, char **log);

#endif
