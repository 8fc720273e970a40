/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * /proc/kallsyms as an index: the text stays as the names' memory, an array is sorted by address, a
 * hash table finds names. It does not guess: an address between symbols belongs to the one before it
 * only within the kernel's own sections, or close behind a module's symbol.
 */
#include <ctype.h>
#include <fnmatch.h>
#include <time.h>

#include "engine/ksym.h"
#include "internal.h"

#define PATH "/proc/kallsyms"
#define MAX_MODULES 4096
#define TAIL (64u << 10) /* bytes that the last symbol of a module may have */
#define RECHECK_NS 250000000u

struct sym {
	uint64_t address;
	uint32_t name;	 /* offset in the text */
	uint16_t module; /* 0: the kernel */
	char type;
};

struct span {
	uint64_t from, to;
};

struct mb_ksyms {
	char *text; /* NULL: not read yet */
	size_t len;
	struct sym *syms; /* by address, then by place in the file */
	uint32_t n;
	uint32_t *table; /* by name: index + 1 */
	uint32_t mask;
	const char *modules[MAX_MODULES];
	uint32_t nmodules;   /* modules[0] is none */
	struct span core[2]; /* where the kernel's own symbols reach */
	bool hidden, data;
	uint64_t generation;
	uint64_t loaded;	      /* what /proc/modules was */
	uint64_t read_at, checked_at; /* ns */
};

int mb_ksyms_new(struct mb_ksyms **out, struct mb_error *err)
{
	*out = calloc(1, sizeof(**out));
	return *out ? 0 : mb_fail(err, ENOMEM, "read", PATH, "out of memory");
}

static void forget(struct mb_ksyms *s)
{
	free(s->text);
	free(s->syms);
	free(s->table);
	s->text = NULL;
	s->syms = NULL;
	s->table = NULL;
	s->n = s->nmodules = 0;
}

void mb_ksyms_free(struct mb_ksyms *syms)
{
	if (!syms)
		return;
	forget(syms);
	free(syms);
}

/* ---- reading ------------------------------------------------------------------------------------ */

/* Whole, whatever its size: files of /proc tell none. */
static int read_text(const char *path, char **out, size_t *len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;
	size_t room = 0, n = 0;
	char *text = NULL;

	if (fd < 0)
		return -errno;
	for (;;) {
		ssize_t got;

		if (room - n < 65536) {
			char *more = realloc(text, room = room ? room * 2 : 1u << 20);

			if (!more) {
				rc = -ENOMEM;
				break;
			}
			text = more;
		}
		got = read(fd, text + n, room - n - 1);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			rc = -errno;
		if (got <= 0)
			break;
		n += (size_t)got;
		if (n > UINT32_MAX / 2) {
			rc = -EFBIG;
			break;
		}
	}
	close(fd);
	if (rc) {
		free(text);
		return rc;
	}
	text[n] = '\0';
	*out = text;
	*len = n;
	return 0;
}

static uint64_t hash_bytes(const char *s, size_t n)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < n; i++)
		h = (h ^ (uint8_t)s[i]) * 0x100000001b3u;
	return h;
}

/* Which modules are there, and where? Their use counts, which change all the time, do not matter. */
static uint64_t modules_now(void)
{
	uint64_t h = 1;
	char *text;
	size_t len;

	if (read_text("/proc/modules", &text, &len) != 0)
		return 0; /* a kernel without modules */
	for (char *line = text; *line;) {
		size_t n = strcspn(line, "\n"), name = strcspn(line, " \n");

		h = h * 31 + hash_bytes(line, name);
		line += n;
		for (size_t back = 0; back < n && line[-1 - (ssize_t)back] != ' '; back++)
			h = h * 31 + (uint8_t)line[-1 - (ssize_t)back];
		line += *line == '\n';
	}
	free(text);
	return h;
}

static uint16_t module_index(struct mb_ksyms *s, const char *name)
{
	if (s->nmodules && strcmp(s->modules[s->nmodules], name) == 0)
		return (uint16_t)s->nmodules; /* they come in rows */
	for (uint32_t i = 1; i <= s->nmodules; i++)
		if (strcmp(s->modules[i], name) == 0)
			return (uint16_t)i;
	if (s->nmodules + 1 >= MAX_MODULES)
		return (uint16_t)s->nmodules;
	s->modules[++s->nmodules] = name;
	return (uint16_t)s->nmodules;
}

/* "ffffffff81000000 T _text" or, of a module, with "\t[name]" behind it. Ends the line's strings. */
static bool parse_line(struct mb_ksyms *s, char *line, struct sym *out)
{
	size_t end = strcspn(line, "\n");
	char *at, *name, *tab;

	line[end] = '\0';
	out->address = strtoull(line, &at, 16);
	if (at == line || at[0] != ' ' || !at[1] || at[2] != ' ' || !at[3])
		return false;
	out->type = at[1];
	name = at + 3;
	out->name = (uint32_t)(name - s->text);
	out->module = 0;
	tab = strchr(name, '\t');
	if (!tab)
		return true;
	*tab = '\0';
	if (tab[1] == '[' && tab[2]) {
		tab[strlen(tab + 1)] = '\0'; /* its ']' */
		out->module = module_index(s, tab + 2);
	}
	return *name != '\0';
}

static int by_address(const void *left, const void *right)
{
	const struct sym *a = left, *b = right;

	if (a->address != b->address)
		return a->address < b->address ? -1 : 1;
	return a->name < b->name ? -1 : a->name > b->name;
}

static int parse(struct mb_ksyms *s)
{
	size_t lines = 0;
	bool any = false, sorted = true;

	for (const char *p = s->text; (p = strchr(p, '\n')); p++)
		lines++;
	s->syms = malloc((lines + 1) * sizeof(*s->syms));
	if (!s->syms)
		return -ENOMEM;
	s->data = false;
	for (char *line = s->text; *line && s->n <= lines;) {
		size_t len = strcspn(line, "\n");
		struct sym *to = &s->syms[s->n];

		len += line[len] == '\n';
		if (parse_line(s, line, to)) {
			any |= to->address != 0;
			if (s->n && to->address < to[-1].address)
				sorted = false;
			s->n++;
		}
		line += len;
	}
	s->hidden = s->n && !any;
	if (!sorted)
		qsort(s->syms, s->n, sizeof(*s->syms), by_address);
	return 0;
}

static const char *name_of(const struct mb_ksyms *s, uint32_t i)
{
	return s->text + s->syms[i].name;
}

static uint32_t slot_of(const struct mb_ksyms *s, const char *name)
{
	uint64_t h = hash_bytes(name, strlen(name));

	return (uint32_t)(h ^ h >> 32) & s->mask;
}

/* Symbols of one name follow each other in the table, in the order of their addresses. */
static int index_names(struct mb_ksyms *s)
{
	uint32_t size = 16;

	while (size < s->n * 2)
		size *= 2;
	s->mask = size - 1;
	s->table = calloc(size, sizeof(*s->table));
	if (!s->table)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->n; i++) {
		uint32_t at = slot_of(s, name_of(s, i));

		while (s->table[at])
			at = (at + 1) & s->mask;
		s->table[at] = i + 1;
	}
	return 0;
}

static uint64_t address_of(const struct mb_ksyms *s, const char *name)
{
	for (uint32_t at = slot_of(s, name); s->table[at]; at = (at + 1) & s->mask) {
		const struct sym *sym = &s->syms[s->table[at] - 1];

		if (!sym->module && strcmp(s->text + sym->name, name) == 0)
			return sym->address;
	}
	return 0;
}

/* As the kernel's own look-up has it: text and init text; with variables, all of the image. */
static void find_spans(struct mb_ksyms *s)
{
	uint64_t from = address_of(s, "_text"), end = address_of(s, "_end");

	memset(s->core, 0, sizeof(s->core));
	/* what every kernel with variables among its symbols has, and no other */
	s->data = address_of(s, "jiffies_64") || address_of(s, "init_task") ||
		  address_of(s, "linux_banner");
	if (s->hidden)
		for (uint32_t i = 0; i < s->n && !s->data; i++)
			s->data = strcmp(name_of(s, i), "jiffies_64") == 0 ||
				  strcmp(name_of(s, i), "init_task") == 0;
	if (!from)
		from = address_of(s, "_stext");
	if (s->data && from && end) {
		s->core[0] = (struct span){ from, end };
		return;
	}
	s->core[0] = (struct span){ from, address_of(s, "_etext") };
	s->core[1] = (struct span){ address_of(s, "_sinittext"), address_of(s, "_einittext") };
}

static int fill(struct mb_ksyms *s, struct mb_error *err)
{
	uint64_t loaded = modules_now();
	int rc = read_text(PATH, &s->text, &s->len);

	if (rc == -ENOENT) {
		rc = mb_fail(err, ENOENT, "read", PATH, "the kernel has no symbol table there");
		mb_error_hint(err, "it needs CONFIG_KALLSYMS, and /proc mounted");
		return rc;
	}
	if (!rc)
		rc = parse(s);
	if (!rc)
		rc = index_names(s);
	if (rc) {
		forget(s);
		return mb_fail(err, rc, "read", PATH, "%s", mb_error_text(-rc));
	}
	find_spans(s);
	s->loaded = loaded;
	s->generation++;
	s->read_at = s->checked_at = mb_now_ns();
	return 0;
}

static int ensure(struct mb_ksyms *s, struct mb_error *err)
{
	return s->text ? 0 : fill(s, err);
}

/* May what was found (or not) be out of date? Then read again: 1; 0: it is as good as it gets. bpf:
 * could it be a BPF program's, of which no list tells? */
static int again(struct mb_ksyms *s, bool bpf, struct mb_error *err)
{
	uint64_t now = mb_now_ns();
	int rc;

	if (bpf && now - s->read_at > RECHECK_NS)
		goto read;
	if (now - s->checked_at < RECHECK_NS)
		return 0;
	s->checked_at = now;
	if (modules_now() == s->loaded)
		return 0;
read:
	forget(s);
	rc = fill(s, err);
	return rc ? rc : 1;
}

/* ---- what hides addresses ------------------------------------------------------------------------ */

static int read_number(const char *path)
{
	char text[32] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;

	if (fd >= 0)
		close(fd);
	return n > 0 ? atoi(text) : -1;
}

static int fail_hidden(const char *op, const char *subject, struct mb_error *err)
{
	int restrict_ = read_number("/proc/sys/kernel/kptr_restrict");
	int paranoid = read_number("/proc/sys/kernel/perf_event_paranoid");

	if (restrict_ >= 2) {
		mb_fail(err, EPERM, op, subject,
			"the kernel hides its addresses from everybody: kernel.kptr_restrict is %d",
			restrict_);
		mb_error_hint(err, "as root: sysctl kernel.kptr_restrict=1");
	} else if (restrict_ == 1) {
		mb_fail(err, EPERM, op, subject,
			"the kernel hides its addresses from who lacks CAP_SYSLOG: "
			"kernel.kptr_restrict is 1");
		mb_error_hint(err, "run it with CAP_SYSLOG (root has it)");
	} else {
		mb_fail(err, EPERM, op, subject,
			"the kernel hides its addresses from who lacks CAP_SYSLOG, as long as "
			"kernel.perf_event_paranoid is %d",
			paranoid);
		mb_error_hint(err, "run it with CAP_SYSLOG (root has it), or set "
				   "kernel.perf_event_paranoid to 1");
	}
	return -EPERM;
}

/* ---- asking --------------------------------------------------------------------------------------- */

static void put(const struct mb_ksyms *s, uint32_t i, struct mb_ksym *out)
{
	const struct sym *sym = &s->syms[i];

	*out = (struct mb_ksym){ s->text + sym->name, sym->address, sym->type,
				 sym->module ? s->modules[sym->module] : NULL };
}

static bool is_in(const struct mb_ksyms *s, const struct sym *sym, const char *module)
{
	if (!module)
		return true;
	if (!sym->module)
		return strcmp(module, "vmlinux") == 0;
	return strcmp(s->modules[sym->module], module) == 0;
}

/* A name's symbols, each address once. */
struct same {
	uint32_t first, count;
	bool modules;
	char list[384];
	size_t len;
};

static void collect(const struct mb_ksyms *s, const char *name, const char *module,
		    struct same *out)
{
	uint64_t last = 0;

	memset(out, 0, sizeof(*out));
	for (uint32_t at = slot_of(s, name); s->table[at]; at = (at + 1) & s->mask) {
		uint32_t i = s->table[at] - 1;
		const struct sym *sym = &s->syms[i];

		if (strcmp(s->text + sym->name, name) != 0 || !is_in(s, sym, module))
			continue;
		if (out->count && (sym->address == last || s->hidden))
			continue;
		if (!out->count)
			out->first = i;
		out->count++;
		out->modules |= sym->module != 0;
		last = sym->address;
		if (out->len + 64 < sizeof(out->list))
			out->len += (size_t)snprintf(out->list + out->len,
						     sizeof(out->list) - out->len,
						     "%s0x%llx%s%.24s", out->len ? ", " : "",
						     (unsigned long long)sym->address,
						     sym->module ? " of " : "",
						     sym->module ? s->modules[sym->module] : "");
		else if (out->len && out->list[out->len - 1] != '.')
			out->len += (size_t)snprintf(out->list + out->len,
						     sizeof(out->list) - out->len, ", ...");
	}
}

int mb_ksym_find(struct mb_ksyms *s, const char *name, const char *module, struct mb_ksym *out,
		 struct mb_error *err)
{
	struct same same;
	int rc = ensure(s, err);

	if (rc)
		return rc;
	collect(s, name, module, &same);
	if (!same.count || s->syms[same.first].module) {
		rc = again(s, strncmp(name, "bpf_", 4) == 0, err);
		if (rc < 0)
			return rc;
		if (rc)
			collect(s, name, module, &same);
	}
	if (!same.count)
		return 0;
	if (s->hidden)
		return fail_hidden("find symbol", name, err);
	if (same.count > 1) {
		rc = mb_fail(err, ENOTUNIQ, "find symbol", name, "%u symbols have that name: %s",
			     same.count, same.list);
		mb_error_hint(
			err, "%s",
			same.modules ?
				"name the module, or 'vmlinux' for the kernel itself" :
				"it is static in several files: take the address that is meant");
		return rc;
	}
	put(s, same.first, out);
	return 1;
}

static bool in_core(const struct mb_ksyms *s, uint64_t address)
{
	for (int i = 0; i < 2; i++)
		if (address >= s->core[i].from && address < s->core[i].to)
			return true;
	return false;
}

/* The last symbol at or below address; of several there, the first. */
static bool below(const struct mb_ksyms *s, uint64_t address, uint32_t *out)
{
	uint32_t low = 0, high = s->n;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (s->syms[mid].address <= address)
			low = mid + 1;
		else
			high = mid;
	}
	if (!low)
		return false;
	low--;
	while (low && s->syms[low - 1].address == s->syms[low].address)
		low--;
	*out = low;
	return true;
}

static bool locate(const struct mb_ksyms *s, uint64_t address, uint32_t *out)
{
	const struct sym *sym;

	if (!below(s, address, out))
		return false;
	sym = &s->syms[*out];
	if (in_core(s, address))
		return !sym->module;
	return sym->module && address - sym->address < TAIL;
}

int mb_ksym_at(struct mb_ksyms *s, uint64_t address, struct mb_ksym *out, uint64_t *offset,
	       struct mb_error *err)
{
	char text[24];
	uint32_t i;
	bool found;
	int rc = ensure(s, err);

	if (rc)
		return rc;
	if (s->hidden) {
		snprintf(text, sizeof(text), "0x%llx", (unsigned long long)address);
		return fail_hidden("symbolize", text, err);
	}
	found = locate(s, address, &i);
	if (!found || s->syms[i].module) {
		rc = again(s, !found && address >> 63, err);
		if (rc < 0)
			return rc;
		if (rc)
			found = locate(s, address, &i);
	}
	if (!found)
		return 0;
	put(s, i, out);
	*offset = address - out->address;
	return 1;
}

int mb_ksym_next(struct mb_ksyms *s, uint64_t *cursor, const char *glob, struct mb_ksym *out,
		 struct mb_error *err)
{
	int rc = ensure(s, err);
	uint64_t at;

	if (rc)
		return rc;
	if (!*cursor) {
		rc = again(s, false, err);
		if (rc < 0)
			return rc;
		*cursor = s->generation << 32;
	}
	if (*cursor >> 32 != (s->generation & UINT32_MAX))
		return mb_fail(err, ESTALE, "list symbols", glob ? glob : "*",
			       "modules have come or gone meanwhile");
	for (at = *cursor & UINT32_MAX; at < s->n; at++)
		if (!glob || fnmatch(glob, name_of(s, (uint32_t)at), 0) == 0)
			break;
	if (at >= s->n)
		return 0;
	*cursor = s->generation << 32 | (at + 1);
	put(s, (uint32_t)at, out);
	return 1;
}

int mb_ksyms_have_data(struct mb_ksyms *s, struct mb_error *err)
{
	int rc = ensure(s, err);

	return rc ? rc : s->data;
}

struct nearby {
	const struct mb_ksyms *s;
	size_t len;
};

/* Those of another length cannot be near, and to measure is slow. */
static const char *nth_name(const void *ctx, size_t i)
{
	const struct nearby *near = ctx;
	const char *name;
	size_t len;

	if (i >= near->s->n)
		return NULL;
	name = name_of(near->s, (uint32_t)i);
	len = strlen(name);
	return len > near->len + 2 || len + 2 < near->len ? "" : name;
}

const char *mb_ksym_near(struct mb_ksyms *s, const char *name)
{
	struct nearby near = { s, strlen(name) };

	return ensure(s, NULL) ? NULL : mb_near(name, nth_name, &near);
}

int mb_ksym_no_variable(struct mb_ksyms *s, const char *op, const char *name, struct mb_error *err)
{
	int data = mb_ksyms_have_data(s, err);
	const char *near;

	if (data < 0)
		return data;
	if (!data) {
		data = mb_fail(
			err, ENOTSUP, op, name,
			"this kernel was built without CONFIG_KALLSYMS_ALL: its symbol table "
			"has functions only, so that no variable's address is known");
		mb_error_hint(err, "functions, tasks and what they lead to can be read; variables "
				   "need a kernel with CONFIG_KALLSYMS_ALL=y");
		return data;
	}
	data = mb_fail(err, ENOENT, op, name, "the kernel has no such symbol");
	near = mb_ksym_near(s, name);
	if (near)
		mb_error_hint(err, "did you mean '%s'?", near);
	return data;
}
