/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Is this file safe to give to libbpf? Walks the ELF file's headers, sections, symbols and
 * relocations with bounds, then hands .BTF on to check_btf.c. It refuses what would make libbpf
 * (1.1 and later) read or write out of bounds or loop for ever; what libbpf refuses well by itself
 * is left to libbpf. It does not judge BPF code: that is the verifier's work.
 */
#include <elf.h>
#include <libelf.h>

#include "check.h"
#include "internal.h"

#ifndef EM_BPF
#define EM_BPF 247
#endif

#define OP "open object"
#define LDIMM64 0x18 /* the one instruction of two slots */

/* libbpf adds sizes and offsets up in 32 bits: nothing may come near the end of these. */
#define MAX_SIZE ((uint64_t)INT32_MAX)

static const bool host_is_big = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;

int mb_check_damaged(const struct mb_check *check, const char *fmt, ...)
{
	char text[400];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	/* Names come from the file, and the text goes to a terminal or into JSON. */
	for (char *p = text; *p; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
	mb_fail(check->err, EINVAL, OP, check->subject, "%s", text);
	mb_error_hint(check->err, "the file is damaged or truncated; build it again");
	return -EINVAL;
}

__attribute__((format(__printf__, 2, 3))) static int not_bpf(const struct mb_check *check,
							     const char *fmt, ...)
{
	char text[160];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	mb_fail(check->err, ENOEXEC, OP, check->subject, "%s", text);
	mb_error_hint(check->err, "BPF objects are made by clang -g -O2 -target bpf -c x.bpf.c");
	return -ENOEXEC;
}

const struct mb_check_section *mb_check_find(const struct mb_check *check, const char *name)
{
	for (size_t i = 1; i < check->nsecs; i++)
		if (strcmp(check->secs[i].name, name) == 0)
			return &check->secs[i];
	return NULL;
}

static bool starts_with(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* ---- the ELF header -------------------------------------------------------------------------- */

static int foreign_machine(const struct mb_check *check, unsigned int machine)
{
	static const struct {
		unsigned int machine;
		const char *name;
	} known[] = {
		{ EM_386, "i386" },	 { EM_X86_64, "x86-64" },	 { EM_ARM, "ARM" },
		{ EM_MIPS, "MIPS" },	 { EM_AARCH64, "AArch64" },	 { EM_PPC, "PowerPC" },
		{ EM_S390, "s390" },	 { EM_PPC64, "64-bit PowerPC" }, { EM_RISCV, "RISC-V" },
		{ EM_SPARCV9, "SPARC" },
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i].machine == machine)
			return not_bpf(check, "is an ELF file for %s, not BPF", known[i].name);
	return not_bpf(check, "is an ELF file for machine %u, not BPF", machine);
}

/* Whose file is it? All that an ELF file of another kind may answer is read from its first 20
 * bytes, which are the same in each kind but for the byte order. */
static int check_kind(const struct mb_check *check)
{
	const uint8_t *b = check->bytes;
	bool big;
	unsigned int machine;

	if (!check->len)
		return not_bpf(check, "is empty");
	if (check->len < SELFMAG || memcmp(b, ELFMAG, SELFMAG) != 0)
		return not_bpf(check, "is not an ELF file");
	if (check->len < sizeof(Elf64_Ehdr))
		return mb_check_damaged(check, "is truncated: %zu bytes of a %zu-byte ELF header",
					check->len, sizeof(Elf64_Ehdr));
	if (check->len > MAX_SIZE)
		return mb_check_damaged(check, "is too large: %zu bytes", check->len);
	if (b[EI_DATA] != ELFDATA2LSB && b[EI_DATA] != ELFDATA2MSB)
		return mb_check_damaged(check, "ELF header: unknown byte order %u", b[EI_DATA]);
	big = b[EI_DATA] == ELFDATA2MSB;
	machine = big ? (unsigned int)(b[18] << 8 | b[19]) : (unsigned int)(b[19] << 8 | b[18]);
	if (machine != EM_BPF)
		return foreign_machine(check, machine);
	if (b[EI_CLASS] != ELFCLASS64)
		return not_bpf(check, "is not a 64-bit ELF file");
	if (big != host_is_big)
		return not_bpf(check, "is %s-endian, this machine is %s-endian",
			       big ? "big" : "little", host_is_big ? "big" : "little");
	return 0;
}

/* Sections beyond what e_shnum can count would be counted in section 0; no BPF object has these,
 * and libbpf takes none. */
static int check_header(const struct mb_check *check)
{
	Elf64_Ehdr h;

	memcpy(&h, check->bytes, sizeof(h));
	if (h.e_type != ET_REL)
		return not_bpf(check, "is not a relocatable object (ELF type %u)", h.e_type);
	if (!h.e_shnum || !h.e_shoff)
		return mb_check_damaged(check, "ELF header: there are no sections");
	if (h.e_shentsize != sizeof(Elf64_Shdr))
		return mb_check_damaged(check, "ELF header: section headers of %u bytes, not %zu",
					h.e_shentsize, sizeof(Elf64_Shdr));
	if (h.e_shoff > check->len || (check->len - h.e_shoff) / sizeof(Elf64_Shdr) < h.e_shnum)
		return mb_check_damaged(
			check, "is truncated: %u section headers from byte %llu, %zu bytes in all",
			h.e_shnum, (unsigned long long)h.e_shoff, check->len);
	if (h.e_shstrndx == SHN_UNDEF || h.e_shstrndx >= h.e_shnum)
		return mb_check_damaged(check, "ELF header: no section %u for section names",
					h.e_shstrndx);
	return 0;
}

/* ---- sections -------------------------------------------------------------------------------- */

static int check_section(const struct mb_check *check, size_t i, const Elf64_Shdr *h,
			 struct mb_check_section *out)
{
	out->type = h->sh_type;
	out->flags = h->sh_flags;
	out->size = h->sh_size;
	out->entsize = h->sh_entsize;
	out->link = h->sh_link;
	out->info = h->sh_info;
	if (h->sh_type == SHT_NULL) {
		out->size = 0;
	} else if (h->sh_type == SHT_NOBITS) {
		if (h->sh_size > MAX_SIZE)
			return mb_check_damaged(check, "section %zu: %llu bytes are too many", i,
						(unsigned long long)h->sh_size);
	} else if (h->sh_offset > check->len || check->len - h->sh_offset < h->sh_size) {
		return mb_check_damaged(
			check, "section %zu: bytes %llu + %llu lie outside the file (%zu bytes)", i,
			(unsigned long long)h->sh_offset, (unsigned long long)h->sh_size,
			check->len);
	} else {
		out->data = check->bytes + h->sh_offset;
	}
	return 0;
}

/* Copied, as libelf's may lie at any address in the file. */
static bool header_of(Elf *elf, size_t i, Elf64_Shdr *out)
{
	const void *h = elf64_getshdr(elf_getscn(elf, i));

	if (h)
		memcpy(out, h, sizeof(*out));
	return h;
}

/* Is it a table of NUL-terminated strings? */
static bool is_strings(const struct mb_check_section *sec)
{
	return sec->type == SHT_STRTAB && sec->size && !sec->data[sec->size - 1] &&
	       !(sec->flags & SHF_COMPRESSED);
}

static int name_sections(const struct mb_check *check, Elf *elf, size_t names)
{
	const struct mb_check_section *strs = &check->secs[names];

	if (!is_strings(strs))
		return mb_check_damaged(check, "section %zu: not a table of section names", names);
	for (size_t i = 1; i < check->nsecs; i++) {
		struct mb_check_section *sec = &check->secs[i];
		Elf64_Shdr h;

		if (!header_of(elf, i, &h) || h.sh_name >= strs->size)
			return mb_check_damaged(check, "section %zu: its name is out of bounds", i);
		sec->name = (const char *)strs->data + h.sh_name;
		/* libelf would unpack string tables behind our back, to any size. */
		if ((sec->flags & SHF_COMPRESSED) && !starts_with(sec->name, ".debug_"))
			return mb_check_damaged(check, "section '%.64s': is compressed", sec->name);
	}
	return 0;
}

/* libelf, not we, says what is a section: libbpf sees the same. */
static int read_sections(struct mb_check *check, Elf *elf)
{
	size_t n, names;
	int rc;

	if (elf_kind(elf) != ELF_K_ELF || elf_getshdrnum(elf, &n) || elf_getshdrstrndx(elf, &names))
		return mb_check_damaged(check, "ELF header: %s", elf_errmsg(-1));
	if (!n || !names || names >= n)
		return mb_check_damaged(check, "ELF header: no section %zu for section names",
					names);
	check->secs = calloc(n, sizeof(*check->secs));
	if (!check->secs)
		return mb_fail(check->err, ENOMEM, OP, check->subject, "out of memory");
	check->nsecs = n;
	check->secs[0].name = "";
	for (size_t i = 1; i < n; i++) {
		Elf64_Shdr h;

		if (!header_of(elf, i, &h))
			return mb_check_damaged(check, "section %zu: %s", i, elf_errmsg(-1));
		rc = check_section(check, i, &h, &check->secs[i]);
		if (rc)
			return rc;
	}
	return name_sections(check, elf, names);
}

/* ---- symbols --------------------------------------------------------------------------------- */

/* Programs and variables are cut out of their section by the symbol's offset and size. */
static int check_symbol(const struct mb_check *check, const struct mb_check_section *symtab,
			uint64_t i, const Elf64_Sym *sym)
{
	const struct mb_check_section *strs = &check->secs[symtab->link], *sec;
	unsigned int type = ELF64_ST_TYPE(sym->st_info);

	if (sym->st_name >= strs->size)
		return mb_check_damaged(check,
					"section '%.64s': symbol %llu's name is out of bounds",
					symtab->name, (unsigned long long)i);
	if (sym->st_shndx >= check->nsecs && sym->st_shndx < SHN_LORESERVE)
		return mb_check_damaged(check, "section '%.64s': symbol %llu is in no section (%u)",
					symtab->name, (unsigned long long)i, sym->st_shndx);
	if (type != STT_FUNC && type != STT_OBJECT)
		return 0;
	if (sym->st_shndx == SHN_UNDEF || sym->st_shndx >= SHN_LORESERVE) {
		if (sym->st_value <= MAX_SIZE && sym->st_size <= MAX_SIZE)
			return 0;
		return mb_check_damaged(check, "section '%.64s': symbol %llu's value is absurd",
					symtab->name, (unsigned long long)i);
	}
	sec = &check->secs[sym->st_shndx];
	if (sym->st_value > sec->size || sym->st_size > sec->size - sym->st_value)
		return mb_check_damaged(
			check, "section '%.64s': symbol %llu reaches out of section '%.64s'",
			symtab->name, (unsigned long long)i, sec->name);
	/* libbpf relocates both of its slots, wherever the function ends. */
	if (type == STT_FUNC && sec->data && (sec->flags & SHF_EXECINSTR) && sym->st_size >= 8 &&
	    sec->data[sym->st_value + sym->st_size - 8] == LDIMM64)
		return mb_check_damaged(check,
					"section '%.64s': function at %llu ends within an "
					"instruction",
					sec->name, (unsigned long long)sym->st_value);
	return 0;
}

static int check_symtab(const struct mb_check *check, const struct mb_check_section *sec)
{
	uint64_t n = sec->size / sizeof(Elf64_Sym);
	Elf64_Sym sym;
	int rc;

	if (sec->entsize != sizeof(sym) || sec->size % sizeof(sym))
		return mb_check_damaged(check,
					"section '%.64s': symbols of %llu bytes, %llu in all",
					sec->name, (unsigned long long)sec->entsize,
					(unsigned long long)sec->size);
	if (!sec->link || sec->link >= check->nsecs || !is_strings(&check->secs[sec->link]))
		return mb_check_damaged(check, "section '%.64s': section %u has no symbol names",
					sec->name, sec->link);
	for (uint64_t i = 0; i < n; i++) {
		memcpy(&sym, sec->data + i * sizeof(sym), sizeof(sym));
		rc = check_symbol(check, sec, i, &sym);
		if (rc)
			return rc;
	}
	return 0;
}

static int check_symbols(const struct mb_check *check, size_t *out)
{
	size_t found = 0;

	for (size_t i = 1; i < check->nsecs; i++) {
		if (check->secs[i].type != SHT_SYMTAB)
			continue;
		if (found)
			return mb_check_damaged(check, "section %zu: a second symbol table", i);
		found = i;
	}
	if (!found) {
		mb_check_damaged(check, "has no symbol table");
		mb_error_hint(check->err,
			      "it was stripped too far: llvm-strip -g keeps what is needed");
		return -EINVAL;
	}
	*out = found;
	return check_symtab(check, &check->secs[found]);
}

/* ---- relocations ----------------------------------------------------------------------------- */

static int check_relocs(const struct mb_check *check, const struct mb_check_section *sec,
			uint64_t nsyms)
{
	const struct mb_check_section *target = &check->secs[sec->info];
	uint64_t n = sec->size / sizeof(Elf64_Rel);
	unsigned int width = target->flags & SHF_EXECINSTR ? 8 : 4;
	Elf64_Rel rel;

	for (uint64_t i = 0; i < n; i++) {
		memcpy(&rel, sec->data + i * sizeof(rel), sizeof(rel));
		if (ELF64_R_SYM(rel.r_info) >= nsyms)
			return mb_check_damaged(
				check, "section '%.64s': relocation %llu has no symbol %llu",
				sec->name, (unsigned long long)i,
				(unsigned long long)ELF64_R_SYM(rel.r_info));
		if (target->size < width || rel.r_offset > target->size - width)
			return mb_check_damaged(
				check, "section '%.64s': relocation %llu at %llu is out of '%.64s'",
				sec->name, (unsigned long long)i, (unsigned long long)rel.r_offset,
				target->name);
	}
	return 0;
}

static int check_relocations(const struct mb_check *check, size_t symtab)
{
	uint64_t nsyms = check->secs[symtab].size / sizeof(Elf64_Sym);

	for (size_t i = 1; i < check->nsecs; i++) {
		const struct mb_check_section *sec = &check->secs[i];
		int rc;

		/* Offsets into debug information count its unpacked bytes; libbpf reads none. */
		if (sec->type != SHT_REL || starts_with(sec->name, ".rel.debug_"))
			continue;
		if (sec->entsize != sizeof(Elf64_Rel) || sec->size % sizeof(Elf64_Rel))
			return mb_check_damaged(
				check, "section '%.64s': relocations of %llu bytes, %llu in all",
				sec->name, (unsigned long long)sec->entsize,
				(unsigned long long)sec->size);
		if (sec->info >= check->nsecs || sec->link != symtab)
			return mb_check_damaged(
				check, "section '%.64s': relocates section %u by symbols of %u",
				sec->name, sec->info, sec->link);
		rc = check_relocs(check, sec, nsyms);
		if (rc)
			return rc;
	}
	return 0;
}

/* ---- all of it ------------------------------------------------------------------------------- */

/* libbpf takes the last of several, or the first: there must be one. */
static int find_single(const struct mb_check *check, const char *name,
		       const struct mb_check_section **out)
{
	*out = NULL;
	for (size_t i = 1; i < check->nsecs; i++) {
		const struct mb_check_section *sec = &check->secs[i];

		if (strcmp(sec->name, name) != 0)
			continue;
		if (*out)
			return mb_check_damaged(check, "section '%s': there are two", name);
		if (sec->type != SHT_PROGBITS)
			return mb_check_damaged(check, "section '%s': of section type %u", name,
						sec->type);
		*out = sec;
	}
	return 0;
}

static int check_btf(const struct mb_check *check)
{
	const struct mb_check_section *btf, *ext;
	int rc;

	rc = find_single(check, ".BTF", &btf);
	if (!rc)
		rc = find_single(check, ".BTF.ext", &ext);
	if (rc)
		return rc;
	if (!btf) {
		mb_fail(check->err, ENODATA, OP, check->subject, "has no BTF");
		mb_error_hint(check->err, "compile with clang -g -O2 -target bpf");
		return -ENODATA;
	}
	return mb_check_types(check, btf, ext);
}

static int check_elf(struct mb_check *check)
{
	size_t symtab = 0;
	Elf *elf;
	int rc;

	if (elf_version(EV_CURRENT) == EV_NONE)
		return mb_fail(check->err, EINVAL, OP, check->subject, "libelf: %s",
			       elf_errmsg(-1));
	/* libelf's argument is not const, but reading leaves the bytes alone. */
	elf = elf_memory((char *)(uintptr_t)check->bytes, check->len);
	if (!elf)
		return mb_check_damaged(check, "ELF header: %s", elf_errmsg(-1));
	rc = read_sections(check, elf);
	elf_end(elf);
	if (!rc)
		rc = check_symbols(check, &symtab);
	if (!rc)
		rc = check_relocations(check, symtab);
	if (!rc)
		rc = check_btf(check);
	free(check->secs);
	return rc;
}

int mb_check_object(const void *bytes, size_t len, const char *subject, struct mb_error *err)
{
	struct mb_check check = { .bytes = bytes, .len = len, .subject = subject, .err = err };
	int rc = check_kind(&check);

	if (!rc)
		rc = check_header(&check);
	return rc ? rc : check_elf(&check);
}
