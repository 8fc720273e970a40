/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Names that programs attach to: functions of a binary and of the kernel, tracepoints. They are read
 * where one is to be found, or to tell the nearest to one that is not there.
 */
#include <gelf.h>
#include <libelf.h>
#include <limits.h>
#include <sys/stat.h>

#include "internal.h"

/* ---- lists of names ------------------------------------------------------------------------------------ */

void mb_names_free(struct mb_names *names)
{
	free(names->text);
	free(names->name);
	free(names->offset);
	memset(names, 0, sizeof(*names));
}

/* The name stays where it is. */
static int add(struct mb_names *names, const char *name)
{
	if (names->n == names->room) {
		size_t room = names->room ? names->room * 2 : 1024;
		const char **more = realloc(names->name, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		names->name = more;
		names->room = room;
	}
	names->name[names->n++] = name;
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

long mb_names_find(const struct mb_names *names, const char *name)
{
	const char **at =
		names->n ? bsearch(&name, names->name, names->n, sizeof(*names->name), by_name) :
			   NULL;

	return at ? at - names->name : -1;
}

static const char *nth(const void *ctx, size_t i)
{
	const struct mb_names *names = ctx;

	return i < names->n ? names->name[i] : NULL;
}

const char *mb_names_near(const struct mb_names *names, const char *name)
{
	return mb_near(name, nth, names);
}

static void unique(struct mb_names *names)
{
	size_t n = 0;

	qsort(names->name, names->n, sizeof(*names->name), by_name);
	for (size_t i = 0; i < names->n; i++)
		if (!n || strcmp(names->name[n - 1], names->name[i]) != 0)
			names->name[n++] = names->name[i];
	names->n = n;
}

/* ---- the kernel's --------------------------------------------------------------------------------------- */

/* The whole of a file that says no size. NULL: errno. */
static char *whole_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0, room = 1u << 16;
	char *text = NULL, *more;
	ssize_t n = 1;

	while (fd >= 0 && n > 0) {
		more = realloc(text, room + 1);
		if (!more) {
			errno = ENOMEM;
			n = -1;
			break;
		}
		text = more;
		n = read(fd, text + len, room - len);
		if (n > 0)
			len += (size_t)n;
		if (len == room)
			room *= 2;
	}
	if (fd >= 0)
		close(fd);
	if (fd < 0 || n < 0) {
		free(text);
		return NULL;
	}
	text[len] = '\0';
	return text;
}

/* A name in each line, up to a blank; take (or NULL) says where in the line it is, NULL: not. */
static int read_lines(const char *path, char *(*take)(char *line), struct mb_names *out)
{
	char *line = out->text = whole_file(path), *next;
	int rc = 0;

	if (!out->text)
		return -errno;
	for (; *line && !rc; line = next) {
		char *name;

		next = line + strcspn(line, "\n");
		if (*next)
			*next++ = '\0';
		name = take ? take(line) : line;
		if (!name)
			continue;
		name[strcspn(name, " \t")] = '\0';
		rc = add(out, name);
	}
	if (rc)
		mb_names_free(out);
	else
		unique(out);
	return rc;
}

/* Of kallsyms: "ffff… t name [module]". */
static char *function_of(char *line)
{
	char *kind = strchr(line, ' ');

	return kind && (kind[1] == 't' || kind[1] == 'T') && kind[2] == ' ' ? kind + 3 : NULL;
}

static char *probeable(char *line)
{
	return strncmp(line, "__ftrace_invalid_address", 24) == 0 ? NULL : line;
}

int mb_names_kernel(struct mb_names *out)
{
	mb_tracefs_prepare(NULL);
	if (read_lines("/sys/kernel/tracing/available_filter_functions", probeable, out) == 0)
		return 0;
	return read_lines("/proc/kallsyms", function_of, out);
}

int mb_names_tracepoints(struct mb_names *out)
{
	mb_tracefs_prepare(NULL);
	return read_lines("/sys/kernel/tracing/available_events", NULL, out);
}

/* ---- a binary's ------------------------------------------------------------------------------------------ */

struct function {
	const char *name;
	uint64_t offset;
};

static int by_function(const void *a, const void *b)
{
	return strcmp(((const struct function *)a)->name, ((const struct function *)b)->name);
}

/* Where in the file an address is, by the segment that holds it. */
static bool file_offset(Elf *elf, uint64_t address, uint64_t *out)
{
	size_t n = 0;
	GElf_Phdr ph;

	if (elf_getphdrnum(elf, &n) != 0)
		return false;
	for (size_t i = 0; i < n; i++)
		if (gelf_getphdr(elf, (int)i, &ph) && ph.p_type == PT_LOAD && ph.p_flags & PF_X &&
		    address >= ph.p_vaddr && address - ph.p_vaddr < ph.p_filesz) {
			*out = address - ph.p_vaddr + ph.p_offset;
			return true;
		}
	return false;
}

/* The functions of one symbol table; what lies outside the file is left out. */
static int read_table(Elf *elf, Elf_Scn *scn, const GElf_Shdr *head, struct function **list,
		      size_t *n)
{
	Elf_Data *data = elf_getdata(scn, NULL);
	size_t count = data && head->sh_entsize ? data->d_size / head->sh_entsize : 0;
	struct function *more;
	GElf_Sym sym;

	if (count > INT_MAX)
		return -EINVAL;
	more = realloc(*list, (*n + count + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	*list = more;
	for (size_t i = 0; i < count; i++) {
		struct function *f = &more[*n];

		if (!gelf_getsym(data, (int)i, &sym) || GELF_ST_TYPE(sym.st_info) != STT_FUNC ||
		    sym.st_shndx == SHN_UNDEF || !sym.st_value)
			continue;
		f->name = elf_strptr(elf, head->sh_link, sym.st_name);
		if (f->name && *f->name && file_offset(elf, sym.st_value, &f->offset))
			(*n)++;
	}
	return 0;
}

/* Copies names: they end with the file. Of one name the first counts. */
static int keep(const struct function *list, size_t n, struct mb_names *out)
{
	size_t bytes = 1;
	char *to;

	for (size_t i = 0; i < n; i++)
		bytes += strlen(list[i].name) + 1;
	out->text = to = malloc(bytes);
	out->offset = calloc(n + 1, sizeof(*out->offset));
	if (!out->text || !out->offset)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		if (out->n && strcmp(out->name[out->n - 1], list[i].name) == 0)
			continue;
		if (add(out, to) != 0)
			return -ENOMEM;
		out->offset[out->n - 1] = list[i].offset;
		to = stpcpy(to, list[i].name) + 1;
	}
	return 0;
}

int mb_names_binary(const char *path, struct mb_names *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;
	struct function *list = NULL;
	Elf_Scn *scn = NULL;
	GElf_Shdr head;
	size_t n = 0;
	Elf *elf;

	if (fd < 0)
		return -errno;
	elf_version(EV_CURRENT);
	elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
	if (!elf || elf_kind(elf) != ELF_K_ELF)
		rc = -ENOEXEC;
	while (!rc && (scn = elf_nextscn(elf, scn)))
		if (gelf_getshdr(scn, &head) &&
		    (head.sh_type == SHT_SYMTAB || head.sh_type == SHT_DYNSYM))
			rc = read_table(elf, scn, &head, &list, &n);
	if (!rc && n)
		qsort(list, n, sizeof(*list), by_function);
	if (!rc)
		rc = keep(list, n, out);
	if (rc)
		mb_names_free(out);
	free(list);
	elf_end(elf);
	close(fd);
	return rc;
}

/* ---- where a binary is ----------------------------------------------------------------------------------- */

static bool is_file(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* The name in one of the directories of a list with colons; an empty list has none. */
static bool look_in(const char *list, const char *name, char *path, size_t room)
{
	while (list && *list) {
		int len = (int)strcspn(list, ":");

		if (snprintf(path, room, "%.*s/%s", len, list, name) < (int)room && is_file(path))
			return true;
		list += len + (list[len] == ':');
	}
	return false;
}

/* The directory that this process's own libc is in: of a multiarch system the right one. */
static void own_library_dir(char *to, size_t room)
{
	char line[PATH_MAX + 128];
	FILE *maps = fopen("/proc/self/maps", "re");
	char *slash;

	to[0] = '\0';
	while (maps && !to[0] && fgets(line, sizeof(line), maps)) {
		char *path = strchr(line, '/');

		if (path && strstr(path, "/libc.so") && (slash = strrchr(path, '/')))
			snprintf(to, room, "%.*s", (int)(slash - path), path);
	}
	if (maps)
		fclose(maps);
}

int mb_binary_find(const char *name, char *path, size_t room)
{
	char own[PATH_MAX];

	if (strchr(name, '/')) {
		if (!realpath(name, own))
			return -errno;
		return snprintf(path, room, "%s", own) < (int)room ? 0 : -ENAMETOOLONG;
	}
	if (!strstr(name, ".so"))
		return look_in(getenv("PATH"), name, path, room) ||
				       look_in("/usr/bin:/usr/sbin:/bin:/sbin", name, path, room) ?
			       0 :
			       -ENOENT;
	own_library_dir(own, sizeof(own));
	return look_in(getenv("LD_LIBRARY_PATH"), name, path, room) ||
			       look_in(own, name, path, room) ||
			       look_in("/usr/local/lib:/usr/lib64:/usr/lib:/lib64:/lib", name, path,
				       room) ?
		       0 :
		       -ENOENT;
}
