/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A kernel's BTF, shared by all that ask: vmlinux, then its modules. Only what names lead to is looked
 * at here; plan.c compiles.
 */
#include <dirent.h>
#include <gelf.h>

#include "engine/check.h"
#include "engine/file.h"
#include "engine/kbtf.h"
#include "internal.h"

#define SYSFS "/sys/kernel/btf"
#define MAX_FILE (512u << 20)
#define KNOWN 64 /* names of types that were asked for lately */

struct module {
	char name[64];
	struct mb_btf *btf; /* NULL: not read yet */
	bool refused;
};

struct mb_kbtf {
	struct mb_btf *vmlinux;
	bool running;
	struct module *modules;
	size_t nmodules;
	struct {
		char name[64];
		const struct mb_plan *plan;
	} known[KNOWN];
};

static int no_memory(const char *what, struct mb_error *err)
{
	return mb_fail(err, ENOMEM, "read BTF", what, "out of memory");
}

int mb_kbtf_new(struct mb_kbtf **out, struct mb_error *err)
{
	struct mb_kbtf *kb = calloc(1, sizeof(*kb));

	if (!kb)
		return no_memory("vmlinux", err);
	kb->running = true;
	*out = kb;
	return 0;
}

static void forget_modules(struct mb_kbtf *kb)
{
	for (size_t i = 0; i < kb->nmodules; i++)
		mb_btf_unref(kb->modules[i].btf);
	free(kb->modules);
	kb->modules = NULL;
	kb->nmodules = 0;
}

void mb_kbtf_free(struct mb_kbtf *kb)
{
	if (!kb)
		return;
	forget_modules(kb);
	mb_btf_unref(kb->vmlinux);
	free(kb);
}

bool mb_kbtf_running(const struct mb_kbtf *kb)
{
	return kb->running;
}

/* ---- another kernel's -------------------------------------------------------------------------------- */

static int read_whole(const char *path, uint8_t **out, size_t *len, struct mb_error *err)
{
	struct stat st;
	int fd = mb_file_open(path, MAX_FILE, "read BTF", &st, err), rc;
	uint8_t *bytes;

	if (fd < 0)
		return fd;
	bytes = malloc((size_t)st.st_size + 1);
	if (!bytes)
		rc = no_memory(path, err);
	else if ((rc = mb_file_read_at(fd, bytes, (size_t)st.st_size, 0)) != 0)
		rc = mb_fail(err, rc, "read BTF", path, "cannot read it whole");
	close(fd);
	if (rc) {
		free(bytes);
		return rc;
	}
	*out = bytes;
	*len = (size_t)st.st_size;
	return 0;
}

/* The section .BTF of an ELF file; libelf keeps within the bytes. */
static bool find_section(const uint8_t *bytes, size_t len, struct mb_check_section *out)
{
	Elf_Scn *scn = NULL;
	bool found = false;
	size_t strings;
	Elf *elf;

	elf_version(EV_CURRENT);
	elf = elf_memory((char *)(uintptr_t)bytes, len);
	if (elf && elf_getshdrstrndx(elf, &strings) == 0)
		while (!found && (scn = elf_nextscn(elf, scn))) {
			const char *name;
			GElf_Shdr sh;

			if (!gelf_getshdr(scn, &sh) || sh.sh_type == SHT_NOBITS)
				continue;
			name = elf_strptr(elf, strings, sh.sh_name);
			if (!name || strcmp(name, ".BTF") != 0 || sh.sh_offset > len ||
			    sh.sh_size > len - sh.sh_offset)
				continue;
			out->data = bytes + sh.sh_offset;
			out->size = sh.sh_size;
			found = true;
		}
	elf_end(elf);
	return found;
}

static int take_file(struct mb_kbtf *kb, const char *path, const uint8_t *bytes, size_t len,
		     struct mb_error *err)
{
	struct mb_check check = { .bytes = bytes, .len = len, .subject = path, .err = err };
	struct mb_check_section sec = { .name = ".BTF", .data = bytes, .size = len };
	int rc;

	if (len > SELFMAG && memcmp(bytes, ELFMAG, SELFMAG) == 0 && !find_section(bytes, len, &sec))
		return mb_fail(err, ENODATA, "read BTF", path, "the ELF file has no section .BTF");
	rc = mb_check_types(&check, &sec, NULL);
	return rc ? rc : mb_btf_new(sec.data, sec.size, path, &kb->vmlinux, err);
}

int mb_kbtf_open(const char *path, struct mb_kbtf **out, struct mb_error *err)
{
	struct mb_kbtf *kb = calloc(1, sizeof(*kb));
	uint8_t *bytes = NULL;
	size_t len = 0;
	int rc = kb ? read_whole(path, &bytes, &len, err) : no_memory(path, err);

	if (!rc)
		rc = take_file(kb, path, bytes, len, err);
	free(bytes);
	if (rc) {
		mb_kbtf_free(kb);
		return rc;
	}
	*out = kb;
	return 0;
}

/* ---- the running kernel's ----------------------------------------------------------------------------- */

static int no_vmlinux(int code, struct mb_error *err)
{
	int rc = mb_fail(err, code, "read BTF", "vmlinux", "%s",
			 code == -ENOENT ? "this kernel does not show the types it was built from" :
					   mb_error_text(-code));

	if (code == -ENOENT)
		mb_error_hint(err, "it needs CONFIG_DEBUG_INFO_BTF=y: " SYSFS "/vmlinux");
	return rc;
}

int mb_kbtf_vmlinux(struct mb_kbtf *kb, struct mb_btf **out, struct mb_error *err)
{
	struct mb_capture cap;
	struct btf *raw;
	int rc = 0;

	if (kb->vmlinux) {
		*out = kb->vmlinux;
		return 0;
	}
	mb_capture_begin(&cap);
	errno = 0;
	raw = btf__load_vmlinux_btf();
	if (!raw)
		rc = no_vmlinux(access(SYSFS "/vmlinux", F_OK) ? -ENOENT : mb_errno(), err);
	mb_capture_end(&cap, err);
	if (!rc)
		rc = mb_btf_wrap(raw, "the kernel", &kb->vmlinux, err);
	if (!rc)
		*out = kb->vmlinux;
	return rc;
}

static bool is_listed(const struct mb_kbtf *kb, const char *name)
{
	for (size_t i = 0; i < kb->nmodules; i++)
		if (strcmp(kb->modules[i].name, name) == 0)
			return true;
	return false;
}

/* Each time that vmlinux does not know a name: modules come at any time. What was read of one stays,
 * since plans are in it. */
static void list_modules(struct mb_kbtf *kb)
{
	DIR *dir = kb->running ? opendir(SYSFS) : NULL;
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		struct module *more;

		if (entry->d_name[0] == '.' || strcmp(entry->d_name, "vmlinux") == 0 ||
		    strlen(entry->d_name) >= sizeof(more->name) || is_listed(kb, entry->d_name))
			continue;
		more = realloc(kb->modules, (kb->nmodules + 1) * sizeof(*more));
		if (!more)
			break;
		kb->modules = more;
		memset(&more[kb->nmodules], 0, sizeof(*more));
		strcpy(more[kb->nmodules++].name, entry->d_name);
	}
	if (dir)
		closedir(dir);
}

/* NULL: it has gone, or cannot be read. */
static struct mb_btf *module_btf(struct mb_kbtf *kb, struct module *m)
{
	struct mb_capture cap;
	struct btf *raw;

	if (m->btf || m->refused)
		return m->btf;
	mb_capture_begin(&cap);
	raw = btf__load_module_btf(m->name, kb->vmlinux->btf);
	mb_capture_end(&cap, NULL);
	m->refused = !raw || mb_btf_wrap(raw, m->name, &m->btf, NULL) != 0;
	if (!m->btf)
		return NULL;
	m->btf->first = kb->vmlinux->ntypes;
	if (mb_btf_keep(m->btf, mb_btf_ref(kb->vmlinux)) != 0) {
		mb_btf_unref(m->btf);
		m->btf = NULL;
	}
	return m->btf;
}

/* ---- declarations ----------------------------------------------------------------------------------- */

/* Is the variable in a section of per-CPU variables? */
static bool is_percpu(const struct mb_btf *btf, uint32_t var)
{
	for (uint32_t id = btf->first; id < btf->ntypes; id++) {
		const struct btf_type *t = btf__type_by_id(btf->btf, id);
		const struct btf_var_secinfo *vs;

		if (!btf_is_datasec(t) || !strstr(mb_btf_raw_name(btf, t), "percpu"))
			continue;
		vs = btf_var_secinfos(t);
		for (uint32_t i = 0; i < btf_vlen(t); i++)
			if (vs[i].type == var)
				return true;
	}
	return false;
}

static bool find_in(struct mb_btf *btf, const char *name, enum mb_kdecl_kind kind,
		    struct mb_kdecl *out)
{
	for (uint32_t id = mb_btf_named(btf, name, 0); id; id = mb_btf_named(btf, name, id)) {
		const struct btf_type *t = btf__type_by_id(btf->btf, id);

		if (!(kind == MB_KDECL_VAR ? btf_is_var(t) : btf_is_func(t)))
			continue;
		*out = (struct mb_kdecl){ btf, id, t->type, false, NULL };
		out->percpu = kind == MB_KDECL_VAR && is_percpu(btf, id);
		return true;
	}
	return false;
}

int mb_kbtf_find(struct mb_kbtf *kb, const char *name, enum mb_kdecl_kind kind, bool modules,
		 struct mb_kdecl *out, struct mb_error *err)
{
	struct mb_btf *btf;
	int rc = mb_kbtf_vmlinux(kb, &btf, err);

	if (rc)
		return rc;
	if (find_in(btf, name, kind, out))
		return 1;
	if (!modules)
		return 0;
	list_modules(kb);
	for (size_t i = 0; i < kb->nmodules; i++) {
		btf = module_btf(kb, &kb->modules[i]);
		if (btf && find_in(btf, name, kind, out)) {
			out->module = kb->modules[i].name;
			return 1;
		}
	}
	return 0;
}

struct nearby {
	const struct mb_btf *btf;
	enum mb_kdecl_kind kind;
	size_t len;
};

static const char *nth_decl(const void *ctx, size_t i)
{
	const struct nearby *near = ctx;
	const struct btf_type *t;
	const char *name;
	size_t len;

	if (i + 1 >= near->btf->ntypes)
		return NULL;
	t = btf__type_by_id(near->btf->btf, (uint32_t)i + 1);
	if (!(near->kind == MB_KDECL_VAR ? btf_is_var(t) : btf_is_func(t)))
		return "";
	name = mb_btf_raw_name(near->btf, t);
	len = strlen(name);
	return len > near->len + 2 || len + 2 < near->len ? "" : name;
}

const char *mb_kbtf_near(struct mb_kbtf *kb, const char *name, enum mb_kdecl_kind kind)
{
	struct mb_btf *btf;
	struct nearby near;

	if (mb_kbtf_vmlinux(kb, &btf, NULL) != 0)
		return NULL;
	near = (struct nearby){ btf, kind, strlen(name) };
	return mb_near(name, nth_decl, &near);
}

/* "struct sock *" and "sk", with a space between only where C has one. */
static int spell_one(const struct mb_btf *btf, uint32_t type, const char *name, char *out,
		     size_t room)
{
	char text[128];
	size_t n, dims;

	mb_btf_spell(btf, type, text, sizeof(text), 0);
	dims = strcspn(text, "[");
	n = dims;
	return snprintf(out, room, "%.*s%s%s%s", (int)n, text,
			!*name || (n && text[n - 1] == '*') ? "" : " ", name, text + dims);
}

void mb_kdecl_spell(const struct mb_kdecl *decl, char *out, size_t room)
{
	const struct btf_type *t = btf__type_by_id(decl->btf->btf, decl->id);
	const struct btf_type *proto = btf__type_by_id(decl->btf->btf, decl->type);
	const char *name = mb_btf_raw_name(decl->btf, t);
	const struct btf_param *p;
	size_t n;

	n = (size_t)spell_one(decl->btf, btf_is_func(t) && proto ? proto->type : decl->type, name,
			      out, room);
	if (!btf_is_func(t) || !proto || !btf_is_func_proto(proto))
		return;
	p = btf_params(proto);
	if (n < room)
		n += (size_t)snprintf(out + n, room - n, "(%s", btf_vlen(proto) ? "" : "void");
	for (uint32_t i = 0; i < btf_vlen(proto) && n < room; i++) {
		const char *own = btf__name_by_offset(decl->btf->btf, p[i].name_off);

		n += (size_t)snprintf(out + n, room - n, "%s", i ? ", " : "");
		if (n >= room)
			break;
		if (!p[i].type) /* the last of a function with any number of arguments */
			n += (size_t)snprintf(out + n, room - n, "...");
		else
			n += (size_t)spell_one(decl->btf, p[i].type, own ? own : "", out + n,
					       room - n);
	}
	if (n < room)
		snprintf(out + n, room - n, ")");
}

/* ---- types by name -------------------------------------------------------------------------------------- */

/* Compilers spell integers each in their way; what follows on each other means the same. */
static const char *const spellings[][5] = {
	{ "unsigned long", "long unsigned int", "unsigned long int" },
	{ "long", "long int", "signed long" },
	{ "unsigned long long", "long long unsigned int", "unsigned long long int" },
	{ "long long", "long long int", "signed long long" },
	{ "unsigned int", "unsigned" },
	{ "int", "signed int", "signed" },
	{ "unsigned short", "short unsigned int", "unsigned short int" },
	{ "short", "short int", "signed short" },
	{ "bool", "_Bool" },
};

static uint32_t find_layout(struct mb_btf *btf, const char *name)
{
	const struct mb_plan *plan;

	return mb_btf_find(btf, name, &plan, NULL) == 0 ? plan->id : 0;
}

static uint32_t find_spelling(struct mb_btf *btf, const char *name)
{
	for (size_t i = 0; i < sizeof(spellings) / sizeof(spellings[0]); i++)
		for (size_t k = 0; k < 5 && spellings[i][k]; k++) {
			if (strcmp(spellings[i][k], name) != 0)
				continue;
			for (size_t other = 0; other < 5 && spellings[i][other]; other++) {
				uint32_t id = find_layout(btf, spellings[i][other]);

				if (id)
					return id;
			}
		}
	return 0;
}

static int find_base(struct mb_kbtf *kb, const char *name, struct mb_btf **btf, uint32_t *id,
		     struct mb_error *err)
{
	const struct mb_plan *plan;
	const char *near;
	int rc = mb_kbtf_vmlinux(kb, btf, err);

	if (rc)
		return rc;
	*id = find_layout(*btf, name);
	if (!*id)
		*id = find_spelling(*btf, name);
	if (*id)
		return 0;
	list_modules(kb);
	for (size_t i = 0; i < kb->nmodules; i++) {
		struct mb_btf *own = module_btf(kb, &kb->modules[i]);

		*id = own ? find_layout(own, name) : 0;
		if (*id) {
			*btf = own;
			return 0;
		}
	}
	rc = mb_fail(err, ENOENT, "find type", name, "the kernel's BTF has no such type");
	near = mb_btf_near(*btf, name);
	if (near && mb_btf_find(*btf, near, &plan, NULL) == 0)
		mb_error_hint(err, "did you mean '%s'?", plan->name);
	else
		mb_error_hint(err, "a struct is named so: \"struct sock\"; of a module that is not "
				   "loaded, no type is known");
	return rc;
}

/* A pointer to type id: the BTF's own, where it has one. */
static int pointer_to(struct mb_btf *btf, uint32_t id, const char *name, const struct mb_plan **out,
		      struct mb_error *err)
{
	struct mb_plan *p;

	for (uint32_t i = 1; i < btf->ntypes; i++) {
		const struct btf_type *t = btf__type_by_id(btf->btf, i);

		if (btf_is_ptr(t) && t->type == id)
			return mb_btf_plan(btf, i, out, err);
	}
	p = mb_plan_new(btf, 0, MB_KIND_POINTER, 8, err);
	if (!p || !(p->name = mb_btf_strdup(btf, name)))
		return mb_plan_no_memory(btf, err);
	p->enc = MB_ENC_U64;
	*out = p;
	return 0;
}

/* "[3][4]" behind elem: the last dimension is the innermost. */
static int array_of(const struct mb_plan *elem, const char *dims, const char *name,
		    const struct mb_plan **out, struct mb_error *err)
{
	unsigned long n;
	char *end;
	int rc;

	if (!*dims) {
		*out = elem;
		return 0;
	}
	errno = 0;
	n = *dims == '[' ? strtoul(dims + 1, &end, 0) : 0;
	if (*dims != '[' || end == dims + 1 || *end != ']' || errno || !n || n > INT32_MAX)
		return mb_fail(err, EINVAL, "find type", name,
			       "an array is written so: \"u8[16]\", of 1 element or more");
	rc = array_of(elem, end + 1, name, &elem, err);
	if (rc)
		return rc;
	if (!elem->size)
		return mb_fail(err, EINVAL, "find type", name, "%s has no size", elem->name);
	if (strcmp(elem->name, "char") == 0 && elem->kind == MB_KIND_INT) {
		struct mb_plan *text = mb_plan_new(elem->btf, 0, MB_KIND_CHARS, (uint32_t)n, err);

		if (!text || !(text->name = mb_btf_strdup(elem->btf, name)))
			return mb_plan_no_memory(elem->btf, err);
		text->enc = MB_ENC_CHARS;
		text->count = (uint32_t)n;
		*out = text;
		return 0;
	}
	return mb_plan_array(elem, elem->size, (uint32_t)n, out, err);
}

static void trim(char *s)
{
	size_t n = strlen(s);

	while (n && (s[n - 1] == ' ' || s[n - 1] == '\t'))
		s[--n] = '\0';
}

static int parse_type(struct mb_kbtf *kb, const char *name, const struct mb_plan **out,
		      struct mb_error *err)
{
	size_t n = strcspn(name, "[");
	const struct mb_plan *plan = NULL;
	unsigned int stars = 0;
	struct mb_btf *btf;
	uint32_t id = 0;
	char base[128];
	int rc;

	if (n >= sizeof(base))
		return mb_fail(err, EINVAL, "find type", name, "the name is too long");
	memcpy(base, name, n);
	base[n] = '\0';
	for (trim(base); *base && base[strlen(base) - 1] == '*'; trim(base), stars++)
		base[strlen(base) - 1] = '\0';
	if (stars && strcmp(base, "void") == 0)
		rc = mb_kbtf_vmlinux(kb, &btf, err);
	else
		rc = find_base(kb, base, &btf, &id, err);
	if (!rc && !stars)
		rc = mb_btf_plan(btf, id, &plan, err);
	while (!rc && stars--) {
		rc = pointer_to(btf, id, name, &plan, err);
		id = rc ? 0 : plan->id;
	}
	return rc ? rc : array_of(plan, name + n, name, out, err);
}

int mb_kbtf_type(struct mb_kbtf *kb, const char *name, const struct mb_plan **out,
		 struct mb_error *err)
{
	uint32_t h = 2166136261u;
	int rc;

	for (const char *p = name; *p; p++)
		h = (h ^ (uint8_t)*p) * 16777619u;
	h = (h ^ h >> 16) % KNOWN;
	if (kb->known[h].plan && strcmp(kb->known[h].name, name) == 0) {
		*out = kb->known[h].plan;
		return 0;
	}
	rc = parse_type(kb, name, out, err);
	if (!rc && strlen(name) < sizeof(kb->known[h].name)) {
		strcpy(kb->known[h].name, name);
		kb->known[h].plan = *out;
	}
	return rc;
}

int mb_kbtf_target(struct mb_kbtf *kb, const struct mb_plan *pointer, const struct mb_plan **out,
		   struct mb_error *err)
{
	const struct btf *btf = pointer->btf->btf;
	uint32_t id = mb_btf_skip(btf, pointer->id);
	const struct btf_type *t = btf__type_by_id(btf, id), *to;
	struct mb_btf *vmlinux;
	char name[128];
	int rc;

	if (pointer->kind != MB_KIND_POINTER)
		return mb_fail(err, EINVAL, "follow", pointer->name, "it is no pointer");
	if (!id || !btf_is_ptr(t))
		return 0;
	id = mb_btf_skip(btf, t->type);
	to = btf__type_by_id(btf, id);
	if (!id || !to || btf_is_func_proto(to))
		return 0;
	rc = mb_kbtf_vmlinux(kb, &vmlinux, err);
	if (rc)
		return rc;
	/* where a type is only announced, a module may have it */
	if (btf_kind(to) != BTF_KIND_FWD &&
	    (pointer->btf == vmlinux || pointer->btf->first == vmlinux->ntypes || !to->name_off)) {
		rc = mb_btf_plan(pointer->btf, id, out, err);
		return rc ? rc : 1;
	}
	mb_btf_spell(pointer->btf, id, name, sizeof(name), 0);
	rc = mb_kbtf_type(kb, name, out, err);
	if (rc == -ENOENT && btf_kind(to) == BTF_KIND_FWD) {
		mb_error_fini(err);
		return 0;
	}
	return rc ? rc : 1;
}
