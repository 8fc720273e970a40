/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The little that libbpf knows of a file and does not tell: its license, which of its externs are
 * weak, its CO-RE relocations. Comes after check.c, so the file's tables are sound.
 */
#include <gelf.h>

#include "internal.h"

static int read_license(struct mb_object *obj, Elf_Scn *scn, struct mb_error *err)
{
	Elf_Data *data = elf_getdata(scn, NULL);
	char text[128] = "";

	if (data && data->d_buf)
		snprintf(text, sizeof(text), "%.*s",
			 data->d_size < sizeof(text) ? (int)data->d_size : (int)sizeof(text) - 1,
			 (const char *)data->d_buf);
	obj->license = mb_btf_strdup(obj->btf, text);
	return obj->license ? 0 : mb_fail(err, ENOMEM, "open object", obj->name, "out of memory");
}

static int read_weak(struct mb_object *obj, Elf *elf, Elf_Scn *scn, const GElf_Shdr *sh,
		     struct mb_error *err)
{
	Elf_Data *data = elf_getdata(scn, NULL);
	int n = data && sh->sh_entsize ? (int)(sh->sh_size / sh->sh_entsize) : 0;
	size_t found = 0;
	GElf_Sym sym;

	obj->weak = mb_btf_alloc(obj->btf, ((size_t)n + 1) * sizeof(obj->weak[0]));
	if (!obj->weak)
		return mb_fail(err, ENOMEM, "open object", obj->name, "out of memory");
	for (int i = 0; i < n; i++) {
		const char *name;

		if (!gelf_getsym(data, i, &sym) || sym.st_shndx != SHN_UNDEF ||
		    GELF_ST_BIND(sym.st_info) != STB_WEAK)
			continue;
		name = elf_strptr(elf, sh->sh_link, sym.st_name);
		obj->weak[found] = name ? mb_btf_strdup(obj->btf, name) : NULL;
		if (obj->weak[found])
			found++;
	}
	return 0;
}

/* libbpf makes every ksym an int, and kfuncs nameless; what the file says is needed to tell of them. */
static int read_declared(struct mb_object *obj, Elf_Scn *scn, struct mb_error *err)
{
	Elf_Data *data = elf_getdata(scn, NULL);

	if (!data || !data->d_buf || !mb_btf_named(obj->btf, ".ksyms", 0))
		return 0;
	return mb_btf_new(data->d_buf, data->d_size, obj->name, &obj->declared, err);
}

static int read_relocations(struct mb_object *obj, Elf_Scn *scn, struct mb_error *err)
{
	Elf_Data *data = elf_getdata(scn, NULL);

	if (!data || !data->d_buf || mb_relocations_keep(obj, data->d_buf, data->d_size) == 0)
		return 0;
	return mb_fail(err, ENOMEM, "open object", obj->name, "out of memory");
}

int mb_elf_read(struct mb_object *obj, const void *bytes, size_t len, struct mb_error *err)
{
	Elf_Scn *scn = NULL;
	size_t strings = 0;
	Elf *elf;
	int rc = 0;

	elf_version(EV_CURRENT);
	/* libelf takes a char * and does not write to it */
	elf = elf_memory((char *)(uintptr_t)bytes, len);
	if (!elf || elf_getshdrstrndx(elf, &strings) != 0)
		rc = mb_fail(err, ENOEXEC, "open object", obj->name, "libelf refuses it: %s",
			     elf_errmsg(-1));
	while (!rc && (scn = elf_nextscn(elf, scn))) {
		const char *name;
		GElf_Shdr sh;

		if (!gelf_getshdr(scn, &sh))
			continue;
		name = elf_strptr(elf, strings, sh.sh_name);
		if (name && (rc = mb_lack_section(obj, name, err)) != 0)
			break;
		if (name && strcmp(name, "license") == 0)
			rc = read_license(obj, scn, err);
		else if (name && strcmp(name, ".BTF") == 0 && !obj->declared)
			rc = read_declared(obj, scn, err);
		else if (name && strcmp(name, ".BTF.ext") == 0 && !obj->relocations)
			rc = read_relocations(obj, scn, err);
		else if (sh.sh_type == SHT_SYMTAB)
			rc = read_weak(obj, elf, scn, &sh, err);
	}
	elf_end(elf);
	return rc;
}
