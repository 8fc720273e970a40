/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the fuzz targets of types share: bytes of the fuzzer in, BTF out, and the rest of the bytes
 * as a script of what to do with it. An input that begins as BTF does is taken as it is, its script
 * behind it (seeds are the BTF of real objects); any other one is read as a plan to build some, so
 * that most of what comes out makes sense and some words in it lie.
 */
#ifndef MB_FUZZ_BTF_H
#define MB_FUZZ_BTF_H

#include <elf.h>
#include <errno.h>
#include <linux/btf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <bpf/btf.h>

#include "engine/engine.h"

#ifndef EM_BPF
#define EM_BPF 247
#endif
#ifndef BTF_KIND_FLAG
#define BTF_KIND_FLAG (1u << 31)
#endif

#define MAX_RAW (1u << 16)
#define MAX_TYPES 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned int seed);

#define FUZZ_UNUSED __attribute__((unused))

__attribute__((format(__printf__, 3, 4), noreturn)) FUZZ_UNUSED static void
fuzz_fail(const char *file, int line, const char *fmt, ...)
{
	va_list args;

	fprintf(stderr, "moonbee fuzz: %s:%d: ", file, line);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	abort();
}
/* What must hold: else the rest says what does not. */
#define EXPECT(truth, ...) ((truth) ? (void)0 : fuzz_fail(__FILE__, __LINE__, __VA_ARGS__))

/* ---- time ------------------------------------------------------------------------------------- */

/* This process's own time: what others do on the machine must not count. */
FUZZ_UNUSED static double cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- the fuzzer's bytes, one after the other; behind the end, any --------------------------- */

struct input {
	const uint8_t *at, *end;
	uint32_t more; /* where the bytes behind the end come from */
};

FUZZ_UNUSED static struct input input_of(const uint8_t *data, size_t size)
{
	return (struct input){ data, data + size, (uint32_t)size };
}

FUZZ_UNUSED static uint8_t take8(struct input *in)
{
	if (in->at < in->end)
		return *in->at++;
	in->more = in->more * 1664525u + 1013904223u;
	return (uint8_t)(in->more >> 24);
}

FUZZ_UNUSED static uint32_t take16(struct input *in)
{
	uint32_t low = take8(in);

	return low | (uint32_t)take8(in) << 8;
}

FUZZ_UNUSED static uint32_t take32(struct input *in)
{
	uint32_t low = take16(in);

	return low | take16(in) << 16;
}

FUZZ_UNUSED static uint64_t take64(struct input *in)
{
	uint64_t low = take32(in);

	return low | (uint64_t)take32(in) << 32;
}

/* 0 … n - 1 */
FUZZ_UNUSED static uint32_t take_below(struct input *in, uint32_t n)
{
	if (n <= 1)
		return 0;
	return (n <= 256 ? take8(in) : n <= 65536 ? take16(in) : take32(in)) % n;
}

/* ---- building BTF ------------------------------------------------------------------------------- */

struct build {
	struct input *in;
	uint32_t n;		      /* the last type's id */
	uint64_t size[MAX_TYPES * 3]; /* by id; what it should be */
	bool sized[MAX_TYPES * 3];    /* may be a member */
	bool composite[MAX_TYPES * 3];
	size_t types_len, strs_len;
	uint8_t types[MAX_RAW / 2];
	char strs[MAX_RAW / 4];
};

static void put32(struct build *b, uint32_t word)
{
	if (b->types_len + 4 <= sizeof(b->types)) {
		memcpy(b->types + b->types_len, &word, 4);
		b->types_len += 4;
	}
}

static uint32_t put_name(struct build *b, const char *name)
{
	size_t n = strlen(name) + 1;
	uint32_t at = (uint32_t)b->strs_len;

	if (b->strs_len + n > sizeof(b->strs))
		return 0;
	memcpy(b->strs + b->strs_len, name, n);
	b->strs_len += n;
	return at;
}

/* Mostly short names that repeat now and then. */
static uint32_t a_name(struct build *b)
{
	uint8_t what = take8(b->in);
	char name[300];
	size_t n;

	if (what == 255) {
		n = take8(b->in);
		memset(name, 'x', n);
		name[n] = '\0';
	} else {
		snprintf(name, sizeof(name), "%c%u", 'a' + what % 26, what / 26);
	}
	return put_name(b, name);
}

static void put_type(struct build *b, uint32_t name, uint32_t kind, uint32_t vlen, bool flag,
		     uint32_t word)
{
	put32(b, name);
	put32(b, kind << 24 | vlen | (flag ? BTF_KIND_FLAG : 0));
	put32(b, word);
}

/* The id of a type that is there already; seldom any, of one to come, or of none. */
static uint32_t a_type(struct build *b)
{
	uint32_t any = take8(b->in);

	if (any == 255)
		return take32(b->in);
	if (any >= 250)
		return any % 8 ? b->n + any % 8 : 0;
	return b->n > 1 ? 1 + any % (b->n - 1) : 0;
}

static uint64_t size_of(const struct build *b, uint32_t id)
{
	return id <= b->n && id < MAX_TYPES * 3 ? b->size[id] : 0;
}

static void an_int(struct build *b)
{
	static const uint8_t sizes[] = { 4, 8, 1, 2, 16, 4, 8, 1 };
	uint8_t what = take8(b->in);
	uint32_t size = sizes[what & 7], bits, off = 0, encoding = 0;

	switch (what >> 3 & 7) {
	case 0:
	case 1:
		encoding = BTF_INT_SIGNED;
		break;
	case 2:
		encoding = BTF_INT_BOOL;
		size = what & 1 ? size : 1;
		break;
	case 3:
		encoding = BTF_INT_CHAR;
		size = 1;
		break;
	case 4:
		encoding = what & 1 ? take8(b->in) & 15 : BTF_INT_SIGNED;
		break;
	}
	bits = size * 8;
	if (what >> 6 == 3) {
		bits = take_below(b->in, bits + 1);
		off = take_below(b->in, size * 8 - bits + 1);
	}
	put_type(b, encoding == BTF_INT_CHAR ? put_name(b, "char") : a_name(b), BTF_KIND_INT, 0,
		 false, size);
	put32(b, encoding << 24 | off << 16 | bits);
	b->size[b->n] = size;
}

static void an_array(struct build *b)
{
	uint32_t type = a_type(b), n = take8(b->in);

	if (n >= 250)
		n = n == 255 ? take32(b->in) : take16(b->in);
	put_type(b, 0, BTF_KIND_ARRAY, 0, false, 0);
	put32(b, type);
	put32(b, 1);
	put32(b, n);
	b->size[b->n] = size_of(b, type) * n;
}

static void a_struct(struct build *b, bool is_union)
{
	uint8_t how = take8(b->in), tail;
	uint32_t n = take_below(b->in, how & 1 ? 24 : 6);
	bool flag = how & 2, packed = how & 4;
	size_t head = b->types_len;
	uint64_t bit = 0, end = 0;

	put_type(b, how & 8 ? 0 : a_name(b), is_union ? BTF_KIND_UNION : BTF_KIND_STRUCT, n, flag,
		 0);
	for (uint32_t i = 0; i < n; i++) {
		uint8_t mode = take8(b->in);
		uint32_t type = a_type(b), name, bits = 0;
		uint64_t size = size_of(b, type), align = size >= 8 ? 8 : size >= 4 ? 4 : 1;

		name = mode & 3 || (type <= b->n && !b->composite[type] && mode & 64) ? a_name(b) :
											0;
		if (is_union)
			bit = 0;
		if (flag && mode & 4 && size && size <= 8) {
			bits = 1 + take_below(b->in, (uint32_t)size * 8);
		} else if (!(flag && mode & 128)) {
			bit = (bit + 7) / 8 * 8;
			if (!packed)
				bit = (bit + align * 8 - 1) / (align * 8) * (align * 8);
		}
		if ((mode & 0x38) == 0x38)
			bit = mode & 128 ? take32(b->in) : take16(b->in);
		put32(b, name);
		put32(b, type);
		put32(b, flag ? bits << 24 | (uint32_t)(bit & 0xffffff) : (uint32_t)bit);
		bit += bits ? bits : size * 8;
		if (end < bit)
			end = bit;
	}
	end = (end + 7) / 8;
	tail = take8(b->in);
	if (tail >= 224)
		end = tail == 255 ? take32(b->in) : end + tail % 32;
	else if (!packed)
		end = (end + 7) / 8 * 8;
	if (head + 12 <= b->types_len)
		memcpy(b->types + head + 8, &(uint32_t){ (uint32_t)end }, 4);
	b->size[b->n] = end;
	b->composite[b->n] = true;
}

static void an_enum(struct build *b, bool wide)
{
	static const uint8_t sizes[] = { 4, 8, 1, 2 };
	uint8_t how = take8(b->in);
	uint32_t n = how >> 3 & 7, size = how & 4 ? sizes[how & 3] : wide ? 8 : 4;

	put_type(b, how & 64 ? 0 : a_name(b), wide ? BTF_KIND_ENUM64 : BTF_KIND_ENUM, n, how & 128,
		 size);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t value = take8(b->in);

		put32(b, a_name(b));
		put32(b, value & 128 ? value - 256 : value);
		if (wide)
			put32(b, value & 64 ? take32(b->in) : 0);
	}
	b->size[b->n] = size;
}

static void a_wrapper(struct build *b)
{
	static const uint8_t which[] = { BTF_KIND_TYPEDEF,  BTF_KIND_CONST,    BTF_KIND_VOLATILE,
					 BTF_KIND_RESTRICT, BTF_KIND_TYPE_TAG, BTF_KIND_TYPEDEF };
	uint32_t kind = which[take_below(b->in, sizeof(which))], type = a_type(b);
	bool named = kind == BTF_KIND_TYPEDEF || kind == BTF_KIND_TYPE_TAG;

	put_type(b, named ? a_name(b) : 0, kind, 0, false, type);
	b->size[b->n] = size_of(b, type);
	b->composite[b->n] = type <= b->n && b->composite[type];
}

static void a_type_of(struct build *b, uint8_t what)
{
	static const uint8_t sizes[] = { 4, 8, 4, 8, 16, 12, 2, 10 };
	uint32_t type;

	b->n++;
	b->sized[b->n] = true;
	switch (what % 16) {
	case 0:
	case 1:
	case 2:
		an_int(b);
		return;
	case 3:
		type = a_type(b);
		put_type(b, 0, BTF_KIND_PTR, 0, false, type);
		b->size[b->n] = 8;
		return;
	case 4:
	case 5:
		an_array(b);
		return;
	case 6:
	case 7:
	case 8:
		a_struct(b, false);
		return;
	case 9:
		a_struct(b, true);
		return;
	case 10:
		an_enum(b, false);
		return;
	case 11:
		an_enum(b, true);
		return;
	case 12:
	case 13:
		a_wrapper(b);
		return;
	case 14:
		b->size[b->n] = sizes[what >> 4 & 7];
		put_type(b, a_name(b), BTF_KIND_FLOAT, 0, false, (uint32_t)b->size[b->n]);
		return;
	default:
		b->sized[b->n] = false;
		if (what & 16)
			put_type(b, a_name(b), BTF_KIND_FWD, 0, what & 32, 0);
		else
			put_type(b, 0, BTF_KIND_FUNC_PROTO, 0, false, 0);
	}
}

/* Variables of the types so far, and the section that they lie in. */
static void a_section(struct build *b)
{
	uint32_t n = take_below(b->in, 12), last = b->n, first;
	static const char *const names[] = { ".data", ".bss", ".rodata", ".data.x", ".kconfig" };
	uint32_t type[12];
	uint64_t at = 0;
	uint8_t how;

	first = b->n + 1;
	for (uint32_t i = 0; i < n; i++) {
		how = take8(b->in);
		type[i] = last ? 1 + how % last : 0;
		b->n++;
		put_type(b, a_name(b), BTF_KIND_VAR, 0, false, type[i]);
		put32(b, how >= 240 ? how % 4 : BTF_VAR_GLOBAL_ALLOCATED);
	}
	b->n++;
	how = take8(b->in);
	for (uint32_t i = 0; i < n; i++)
		at += (size_of(b, type[i]) + 7) / 8 * 8;
	put_type(b, put_name(b, names[how % 5]), BTF_KIND_DATASEC, n, false,
		 how >= 248 ? take32(b->in) : (uint32_t)at);
	b->size[b->n] = at;
	at = 0;
	for (uint32_t i = 0; i < n; i++) {
		uint64_t size = size_of(b, type[i]);

		put32(b, first + i);
		put32(b, how & 64 && how & 128 ? take32(b->in) : (uint32_t)at);
		put32(b, how & 32 ? take16(b->in) : (uint32_t)size);
		at += (size + 7) / 8 * 8;
	}
}

/* Some words of the types are changed: small numbers, or any. */
static void some_lies(struct build *b, uint32_t n)
{
	for (uint32_t i = 0; i < n && b->types_len >= 4; i++) {
		uint32_t at = take_below(b->in, (uint32_t)b->types_len / 4) * 4, word;
		uint8_t how = take8(b->in);

		memcpy(&word, b->types + at, 4);
		if (how < 100)
			word = how;
		else if (how < 150)
			word ^= 1u << how % 32;
		else if (how < 200)
			word += (uint32_t)(how - 175);
		else
			word = take32(b->in);
		memcpy(b->types + at, &word, 4);
	}
}

static size_t put_header(uint8_t *to, uint32_t types_len, uint32_t strs_len)
{
	struct btf_header h = { .magic = BTF_MAGIC,
				.version = BTF_VERSION,
				.hdr_len = sizeof(h),
				.type_len = types_len,
				.str_off = types_len,
				.str_len = strs_len };

	memcpy(to, &h, sizeof(h));
	return sizeof(h);
}

/* How long BTF that lies there says it is; 0: it is none. */
static size_t raw_length(const uint8_t *data, size_t size)
{
	struct btf_header h;
	uint64_t end;

	if (size < sizeof(h))
		return 0;
	memcpy(&h, data, sizeof(h));
	if (h.magic != BTF_MAGIC)
		return 0;
	end = (uint64_t)h.hdr_len + h.str_off + h.str_len;
	return end < size ? (size_t)end : size;
}

/* The input's BTF in memory of its very size; what is left of the input is the script. */
FUZZ_UNUSED static uint8_t *read_btf(struct input *in, size_t *len)
{
	size_t raw = raw_length(in->at, (size_t)(in->end - in->at)), head;
	struct build *b;
	uint8_t *to, how;

	if (raw) {
		to = malloc(raw);
		memcpy(to, in->at, raw);
		in->at += raw;
		*len = raw;
		return to;
	}
	b = calloc(1, sizeof(*b));
	b->in = in;
	b->strs_len = 1;
	how = take8(in);
	for (uint32_t i = 0, n = 1 + take_below(in, MAX_TYPES - 1); i < n; i++)
		a_type_of(b, take8(in));
	if (how & 16)
		a_section(b);
	if ((how & 3) == 3)
		some_lies(b, 1 + (how >> 2 & 3));
	head = sizeof(struct btf_header);
	*len = head + b->types_len + b->strs_len;
	to = malloc(*len);
	put_header(to, (uint32_t)b->types_len, (uint32_t)b->strs_len);
	memcpy(to + head, b->types, b->types_len);
	memcpy(to + head + b->types_len, b->strs, b->strs_len);
	free(b);
	return to;
}

/* ---- asking check.c ------------------------------------------------------------------------------- */

/* An object with nothing in it but this BTF. */
static uint8_t *wrap(const uint8_t *raw, size_t len, size_t *out)
{
	static const char names[] = "\0.strtab\0.symtab\0.BTF";
	struct {
		Elf64_Ehdr head;
		Elf64_Shdr sec[4];
		Elf64_Sym null;
		char names[sizeof(names) + 7 & ~7u];
	} elf = { 0 };
	uint8_t *to = malloc(sizeof(elf) + len);

	memcpy(elf.head.e_ident, ELFMAG, SELFMAG);
	elf.head.e_ident[EI_CLASS] = ELFCLASS64;
	elf.head.e_ident[EI_DATA] = ELFDATA2LSB;
	elf.head.e_ident[EI_VERSION] = EV_CURRENT;
	elf.head.e_type = ET_REL;
	elf.head.e_machine = EM_BPF;
	elf.head.e_version = EV_CURRENT;
	elf.head.e_ehsize = sizeof(elf.head);
	elf.head.e_shoff = (uint64_t)((uint8_t *)elf.sec - (uint8_t *)&elf);
	elf.head.e_shentsize = sizeof(Elf64_Shdr);
	elf.head.e_shnum = 4;
	elf.head.e_shstrndx = 1;
	memcpy(elf.names, names, sizeof(names));
	elf.sec[1] = (Elf64_Shdr){ .sh_name = 1, .sh_type = SHT_STRTAB, .sh_addralign = 1 };
	elf.sec[1].sh_offset = (uint64_t)((uint8_t *)elf.names - (uint8_t *)&elf);
	elf.sec[1].sh_size = sizeof(names);
	elf.sec[2] = (Elf64_Shdr){ .sh_name = 9, .sh_type = SHT_SYMTAB, .sh_addralign = 8 };
	elf.sec[2].sh_offset = (uint64_t)((uint8_t *)&elf.null - (uint8_t *)&elf);
	elf.sec[2].sh_size = elf.sec[2].sh_entsize = sizeof(elf.null);
	elf.sec[2].sh_link = 1;
	elf.sec[3] = (Elf64_Shdr){ .sh_name = 17, .sh_type = SHT_PROGBITS, .sh_addralign = 1 };
	elf.sec[3].sh_offset = sizeof(elf);
	elf.sec[3].sh_size = len;
	memcpy(to, &elf, sizeof(elf));
	memcpy(to + sizeof(elf), raw, len);
	*out = sizeof(elf) + len;
	return to;
}

/* As an object's BTF comes to the engine: checked, then read. NULL: refused. In the environment
 * MB_FUZZ_UNCHECKED=1: read without having been checked, as the kernel's own BTF is. */
FUZZ_UNUSED static struct mb_btf *open_btf(const uint8_t *raw, size_t len)
{
	static int unchecked = -1;
	struct mb_error err = { 0 };
	struct mb_btf *btf = NULL;
	size_t size;
	uint8_t *elf;
	int rc;

	if (unchecked < 0)
		unchecked = getenv("MB_FUZZ_UNCHECKED") != NULL;
	elf = wrap(raw, len, &size);
	rc = mb_check_object(elf, size, "input", &err);
	free(elf);
	EXPECT(rc == -err.code && (!rc || err.cause[0]), "check: answers %d, says %d '%s'", rc,
	       err.code, err.cause);
	mb_error_fini(&err);
	if (rc && !unchecked)
		return NULL;
	memset(&err, 0, sizeof(err));
	rc = mb_btf_new(raw, len, "input", &btf, &err);
	EXPECT(rc == -err.code && !rc == !!btf, "mb_btf_new: answers %d, says %d '%s'", rc,
	       err.code, err.cause);
	mb_error_fini(&err);
	return btf;
}

/* ---- changing raw BTF ------------------------------------------------------------------------------- */

/* Half of the changes to raw BTF are to one word of its types, mostly to what could stand there. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned int seed)
{
	static const uint32_t words[] = { 0,	     1,		 2,	     7,		 8,
					  31,	     32,	 33,	     64,	 127,
					  0xffff,    0x7fffffff, 0xffffffff, 0x80000000, 0x10000,
					  0x2000000, 0x1fffffff };
	size_t raw = raw_length(data, size);
	struct btf_header h;
	uint32_t at, word;

	if (raw < sizeof(h) || seed & 1)
		return LLVMFuzzerMutate(data, size, max);
	memcpy(&h, data, sizeof(h));
	if (h.hdr_len != sizeof(h) || h.type_off || h.type_len < 4 || h.type_len > raw - sizeof(h))
		return LLVMFuzzerMutate(data, size, max);
	seed >>= 1;
	at = (uint32_t)sizeof(h) + seed / 64 % (h.type_len / 4) * 4;
	memcpy(&word, data + at, 4);
	switch (seed % 5) {
	case 0:
		word = words[seed / 5 % (sizeof(words) / sizeof(words[0]))];
		break;
	case 1:
		word ^= 1u << seed / 5 % 32;
		break;
	case 2:
		word += seed / 5 % 17 - 8;
		break;
	case 3: /* a word from elsewhere in it */
		memcpy(&word, data + sizeof(h) + seed / 3 % (h.type_len / 4) * 4, 4);
		break;
	default: /* any change, to the types only; their length stays */
		LLVMFuzzerMutate(data + at, 4, 4);
		return size;
	}
	memcpy(data + at, &word, 4);
	return size;
}

#endif
