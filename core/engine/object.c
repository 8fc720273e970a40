/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An ELF file of BPF programs: open, configure, load, close. Its data sections as memory are
 * section.c's; maps, programs and links have files of their own.
 */
#include "engine/extern.h"
#include "engine/owner.h"
#include "engine/privilege.h"

#include "internal.h"

/* ---- open ------------------------------------------------------------------------------------------ */

/* As libbpf names objects: the file's name up to the first dot. */
static void base_name(const char *path, char *out, size_t room)
{
	const char *slash = strrchr(path, '/');

	snprintf(out, room, "%s", slash ? slash + 1 : path);
	out[strcspn(out, ".")] = '\0';
	if (!*out)
		snprintf(out, room, "object");
}

/* Lines that libbpf would only stumble over at load, perhaps without a word. */
static int check_kconfig(struct mb_object *obj, const char *text, struct mb_error *err)
{
	for (const char *line = text; line && *line;) {
		size_t n = strcspn(line, "\n");
		const char *eq = memchr(line, '=', n);

		if (n && *line != '#' &&
		    (strncmp(line, "CONFIG_", 7) != 0 || !eq || eq == line + 7 ||
		     eq + 1 == line + n)) {
			int rc = mb_fail(err, EINVAL, "open object", obj->name,
					 "option kconfig: '%.*s' is no line of a configuration",
					 n > 80 ? 80 : (int)n, line);

			mb_error_hint(err, "lines are CONFIG_NAME=value: y, n, m, a number, or "
					   "\"text\"");
			return rc;
		}
		line += n + (line[n] == '\n');
	}
	return text ? mb_kconfig_parse(text, strlen(text), &obj->kconfig, err) : 0;
}

static int no_memory(const char *name, struct mb_error *err)
{
	return mb_fail(err, ENOMEM, "open object", name, "out of memory");
}

static int take_btf(struct mb_object *obj, struct mb_error *err)
{
	const struct btf *btf = bpf_object__btf(obj->bpf);
	uint32_t len = 0;
	const void *raw = btf ? btf__raw_data(btf, &len) : NULL;

	if (!raw)
		return mb_fail(err, ENODATA, "open object", obj->name, "it has no BTF");
	return mb_btf_new(raw, len, obj->name, &obj->btf, err);
}

static int keep_pin(struct mb_map *map, bool pins, struct mb_error *err)
{
	if (pins && !(map->want_pin = strdup(bpf_map__pin_path(map->bpf))))
		return no_memory(map->name, err);
	bpf_map__set_pin_path(map->bpf, NULL);
	return 0;
}

static int take_maps(struct mb_object *obj, bool pins, struct mb_error *err)
{
	struct bpf_map *map;
	size_t n = 0;
	int rc;

	bpf_object__for_each_map(map, obj->bpf)
		n++;
	obj->maps = calloc(n + 1, sizeof(obj->maps[0]));
	if (!obj->maps)
		return no_memory(obj->name, err);
	bpf_object__for_each_map(map, obj->bpf) {
		rc = mb_map_from_object(obj, map, &obj->maps[obj->nmaps], err);
		if (rc)
			return rc;
		obj->nmaps++;
		/* libbpf would pin in the root of bpffs when no pin root is given, and take over what
		 * has the same sizes: takeover.c does that */
		rc = bpf_map__pin_path(map) && !obj->borrowed ?
			     keep_pin(obj->maps[obj->nmaps - 1], pins, err) :
			     0;
		if (rc)
			return rc;
	}
	return 0;
}

static int take_programs(struct mb_object *obj, struct mb_error *err)
{
	struct bpf_program *prog;
	size_t n = 0;
	int rc;

	bpf_object__for_each_program(prog, obj->bpf)
		n++;
	obj->progs = calloc(n + 1, sizeof(obj->progs[0]));
	if (!obj->progs)
		return no_memory(obj->name, err);
	bpf_object__for_each_program(prog, obj->bpf) {
		rc = mb_program_from_object(obj, prog, &obj->progs[obj->nprogs], err);
		if (rc)
			return rc;
		obj->nprogs++;
	}
	return 0;
}

static int open_bytes(struct mb_object *obj, const void *bytes, size_t len,
		      const struct mb_open *how, const char *kconfig, struct mb_error *err)
{
	LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = obj->name,
		    .pin_root_path = how->pin_root, .kconfig = kconfig, .btf_custom_path = how->btf,
		    .kernel_log_level = how->log_level);
	struct mb_capture cap;
	const char *line;
	int rc = 0;

	mb_capture_begin(&cap);
	errno = 0;
	obj->bpf = bpf_object__open_mem(bytes, len, &opts);
	if (!obj->bpf) {
		line = cap.text ? cap.text : "libbpf refuses it";
		if (strncmp(line, "libbpf: ", 8) == 0)
			line += 8;
		rc = mb_fail(err, mb_errno(), "open object", obj->name, "%.*s",
			     (int)strcspn(line, "\n"), line);
		mb_error_hint(err, "%s", ""); /* the file is there: the table's hints mislead */
	}
	mb_capture_end(&cap, err);
	return rc;
}

/* libbpf insists on one of two files, even where the option kconfig or a third file says all. There it
 * is given all as text, for which it must be opened once more. */
static int open_without_config(struct mb_object *obj, const void *bytes, size_t len,
			       const struct mb_open *how, struct mb_error *err)
{
	char *text = NULL;
	int rc = mb_externs_kconfig(obj, how->kconfig, &text, err);

	if (rc || !text)
		return rc;
	bpf_object__close(obj->bpf);
	obj->bpf = NULL;
	rc = open_bytes(obj, bytes, len, how, text, err);
	free(text);
	return rc;
}

static int open_steps(struct mb_object *obj, const void *bytes, size_t len,
		      const struct mb_open *how, struct mb_error *err)
{
	int rc = check_kconfig(obj, how->kconfig, err);

	if (!rc)
		rc = open_bytes(obj, bytes, len, how, how->kconfig, err);
	if (!rc)
		rc = take_btf(obj, err);
	if (!rc)
		rc = mb_elf_read(obj, bytes, len, err);
	if (!rc)
		rc = open_without_config(obj, bytes, len, how, err);
	if (!rc)
		rc = take_maps(obj, how->pin_root != NULL, err);
	if (!rc)
		rc = take_programs(obj, err);
	if (!rc)
		rc = mb_sections_open(obj, err);
	return rc;
}

static struct mb_object *object_new(const char *name)
{
	struct mb_object *obj = calloc(1, sizeof(*obj));

	if (!obj)
		return NULL;
	obj->refs = 1;
	obj->name = strdup(name);
	snprintf(obj->ended, sizeof(obj->ended), "object '%.64s' is closed", name);
	if (obj->name)
		return obj;
	free(obj);
	return NULL;
}

int mb_object_open(const char *path, const void *bytes, size_t len, const struct mb_open *how,
		   struct mb_object **out, struct mb_error *err)
{
	static const struct mb_open defaults;
	uint8_t *file = NULL;
	struct mb_object *obj;
	char name[64];
	int rc = 0;

	if (!how)
		how = &defaults;
	if (how->pin_root && (rc = mb_pin_name_check(how->pin_root, "open object", err)) != 0)
		return rc;
	if (!bytes)
		rc = mb_object_file_read(path, &file, &len, err);
	if (!rc)
		rc = mb_check_object(file ? file : bytes, len, path, err);
	if (rc) {
		free(file);
		return rc;
	}
	if (how->name)
		snprintf(name, sizeof(name), "%s", how->name);
	else
		base_name(path, name, sizeof(name));
	obj = object_new(name);
	if (obj) {
		obj->log_level = how->log_level;
		obj->pin_cleanup = how->pin_cleanup;
	}
	rc = obj ? open_steps(obj, file ? file : bytes, len, how, err) : no_memory(name, err);
	free(file);
	if (rc) {
		mb_object_unref(obj);
		return rc;
	}
	*out = obj;
	return 0;
}

/* ---- load ------------------------------------------------------------------------------------------ */

static const char *const words[] = { "open", "loaded", "failed", "closed" };

int mb_object_check(const struct mb_object *obj, const char *op, struct mb_error *err)
{
	if (obj->state != MB_CLOSED)
		return 0;
	return mb_fail(err, EBADF, op, obj->name, "the object is closed");
}

/* The capabilities that its programs need. */
static uint64_t needs_of(const struct mb_object *obj)
{
	uint64_t needs = mb_privilege_needs(BPF_PROG_TYPE_UNSPEC);

	for (size_t i = 0; i < obj->nprogs; i++)
		if (!obj->progs[i]->closed && bpf_program__autoload(obj->progs[i]->bpf))
			needs |= mb_privilege_needs(bpf_program__type(obj->progs[i]->bpf));
	return needs;
}

static int load_bpf(struct mb_object *obj, struct mb_error *err)
{
	struct mb_capture cap, externs = { 0 }, logs = { 0 };
	int rc;

	mb_capture_begin(&cap);
	cap.externs = &externs;
	cap.logs = obj->log_level ? &logs : NULL;
	rc = bpf_object__load(obj->bpf);
	if (rc)
		rc = mb_fail(err, rc, "load object", obj->name, "%s", mb_error_text(-rc));
	mb_capture_end(&cap, err);
	obj->extern_log = externs.text;
	for (size_t i = 0; !rc && logs.text && i < obj->nprogs; i++)
		obj->progs[i]->log = mb_verifier_log_of(logs.text, obj->progs[i]->name);
	free(logs.text);
	if (rc && err) {
		mb_verifier_explain(err);
		mb_privilege_explain(needs_of(obj), err);
		mb_externs_explain(obj, err);
	}
	return rc;
}

static void took_load(struct mb_object *obj)
{
	obj->state = MB_LOADED;
	for (size_t i = 0; i < obj->nmaps; i++)
		mb_map_loaded(obj->maps[i]);
	for (size_t i = 0; i < obj->nprogs; i++)
		mb_program_loaded(obj->progs[i]);
}

int mb_object_load(struct mb_object *obj, struct mb_error *err)
{
	struct mb_takeover *takeover;
	int rc = mb_object_check(obj, "load object", err);

	if (rc)
		return rc;
	if (obj->state == MB_LOADED)
		return mb_fail(err, EALREADY, "load object", obj->name, "it is loaded already");
	if (obj->state == MB_FAILED) {
		mb_fail(err, EALREADY, "load object", obj->name, "it failed to load before");
		mb_error_hint(err, "open it again: an object can be loaded once");
		return -EALREADY;
	}
	rc = mb_lack_load(obj, err);
	if (!rc)
		rc = mb_takeover_begin(obj, &takeover, err);
	if (rc)
		return rc; /* nothing has changed in the object: it can be tried again */
	rc = load_bpf(obj, err);
	if (!rc) {
		took_load(obj);
		rc = mb_sections_load(obj, err);
	}
	if (!rc)
		rc = mb_takeover_finish(takeover, err);
	mb_takeover_end(takeover, !rc);
	if (rc) {
		obj->state = MB_FAILED;
		snprintf(obj->ended, sizeof(obj->ended), "object '%.64s' failed to load",
			 obj->name);
		mb_sections_end(obj, obj->ended);
	}
	return rc;
}

/* ---- borrow ---------------------------------------------------------------------------------------- */

static bool is_loaded(const struct mb_object *obj)
{
	struct bpf_program *prog;
	struct bpf_map *map;

	bpf_object__for_each_map(map, obj->bpf)
		if (bpf_map__fd(map) >= 0)
			return true;
	bpf_object__for_each_program(prog, obj->bpf)
		if (bpf_program__fd(prog) >= 0)
			return true;
	return false;
}

static int borrow_steps(struct mb_object *obj, struct mb_error *err)
{
	int rc;

	if (!is_loaded(obj)) {
		mb_fail(err, EINVAL, "lend object", obj->name, "it is not loaded");
		mb_error_hint(err, "lend it after bpf_object__load or the skeleton's load");
		return -EINVAL;
	}
	rc = take_btf(obj, err);
	if (!rc)
		rc = take_maps(obj, true, err);
	if (!rc)
		rc = take_programs(obj, err);
	if (!rc)
		rc = mb_sections_open(obj, err);
	if (rc)
		return rc;
	took_load(obj);
	return mb_sections_load(obj, err);
}

int mb_object_borrow(struct bpf_object *bpf, const char *name, struct mb_object **out,
		     struct mb_error *err)
{
	struct mb_object *obj = object_new(name);
	int rc;

	if (!obj)
		return no_memory(name, err);
	obj->bpf = bpf;
	obj->borrowed = true;
	rc = borrow_steps(obj, err);
	if (rc)
		mb_object_unref(obj);
	else
		*out = obj;
	return rc;
}

bool mb_is_our_libbpf(void (*object_name)(void))
{
	return object_name == (void (*)(void))bpf_object__name;
}

/* ---- close ----------------------------------------------------------------------------------------- */

void mb_object_close(struct mb_object *obj)
{
	if (obj->state == MB_CLOSED)
		return;
	obj->refs++; /* the last link may hold the last reference */
	while (obj->links)
		mb_link_close(obj->links);
	obj->state = MB_CLOSED;
	snprintf(obj->ended, sizeof(obj->ended), "object '%.64s' is closed",
		 obj->name ? obj->name : "?");
	mb_sections_end(obj, obj->ended);
	for (size_t i = 0; i < obj->nmaps; i++)
		mb_map_close(obj->maps[i]);
	for (size_t i = 0; i < obj->nprogs; i++)
		mb_program_close(obj->progs[i]);
	mb_own_pins_remove(&obj->own_pins);
	if (!obj->borrowed)
		bpf_object__close(obj->bpf);
	obj->bpf = NULL;
	mb_object_unref(obj);
}

struct mb_object *mb_object_ref(struct mb_object *obj)
{
	obj->refs++;
	return obj;
}

void mb_object_unref(struct mb_object *obj)
{
	if (!obj)
		return;
	if (obj->refs == 1)
		mb_object_close(obj);
	if (--obj->refs)
		return;
	for (size_t i = 0; i < obj->nmaps; i++)
		mb_map_unref(obj->maps[i]);
	for (size_t i = 0; i < obj->nprogs; i++)
		mb_program_unref(obj->progs[i]);
	mb_sections_free(obj);
	mb_btf_unref(obj->btf);
	mb_btf_unref(obj->declared);
	mb_kconfig_free(obj->kconfig);
	free(obj->extern_log);
	free(obj->maps);
	free(obj->progs);
	free(obj->name);
	free(obj);
}

/* ---- asking ---------------------------------------------------------------------------------------- */

const char *mb_object_name(const struct mb_object *obj)
{
	return obj->name;
}

const char *mb_object_license(const struct mb_object *obj)
{
	return obj->license ? obj->license : "";
}

const char *mb_object_state(const struct mb_object *obj)
{
	return words[obj->state];
}

struct mb_btf *mb_object_btf(const struct mb_object *obj)
{
	return obj->btf;
}

size_t mb_object_maps(const struct mb_object *obj)
{
	return obj->nmaps;
}

struct mb_map *mb_object_map(const struct mb_object *obj, size_t i)
{
	return obj->maps[i];
}

size_t mb_object_programs(const struct mb_object *obj)
{
	return obj->nprogs;
}

struct mb_program *mb_object_program(const struct mb_object *obj, size_t i)
{
	return obj->progs[i];
}
