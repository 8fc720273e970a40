/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A kernel configuration: found, unpacked, split into lines, sorted by name. What an extern makes of a
 * value is extern.c's.
 */
#include <sys/utsname.h>
#include <zlib.h>

#include "engine/kconfig.h"
#include "internal.h"

#define MAX_TEXT (64u << 20)
#define PREFIX "CONFIG_"

struct option {
	const char *name;  /* with the prefix */
	const char *value; /* NULL: is not set */
	uint32_t line;
	bool quoted; /* a string, of which the quotes are gone */
};

struct mb_kconfig {
	char *text;  /* as it was */
	char *lines; /* the same, cut into strings */
	struct option *options;
	size_t n;
	char path[320];
};

static int parse(struct mb_kconfig *c);

/* ---- reading ------------------------------------------------------------------------------------ */

/* Packed or not: zlib reads both. */
static int read_file(const char *path, char **out, struct mb_error *err)
{
	gzFile file = (errno = 0, gzopen(path, "rbe"));
	size_t room = 0, len = 0;
	char *text = NULL;
	int n = 0, rc = 0;

	if (!file)
		return errno ? -errno : -ENOMEM;
	do {
		char *more = NULL;

		len += (size_t)n;
		if (room - len < 65536) {
			room = room ? room * 2 : 1u << 19;
			more = room > MAX_TEXT ? NULL : realloc(text, room);
			if (!more) {
				rc = mb_fail(err, room > MAX_TEXT ? EFBIG : ENOMEM,
					     "read kernel configuration", path,
					     room > MAX_TEXT ? "it is larger than 64 MiB" :
							       "out of memory");
				break;
			}
			text = more;
		}
		n = gzread(file, text + len, (unsigned int)(room - len - 1));
	} while (n > 0);
	if (!rc && n < 0)
		rc = mb_fail(err, EINVAL, "read kernel configuration", path, "it is damaged: %s",
			     gzerror(file, &n));
	gzclose(file);
	if (rc) {
		free(text);
		return rc;
	}
	text[len] = '\0';
	*out = text;
	return 0;
}

static const char *const places[] = { "/proc/config.gz",
				      "/boot/config-%s",
				      "/lib/modules/%s/config",
				      "/lib/modules/%s/build/.config",
				      "/usr/lib/modules/%s/config",
				      "/usr/lib/kernel/config-%s" };

static int nowhere(const char *release, struct mb_error *err)
{
	int rc = mb_fail(err, ENOENT, "read kernel configuration", release,
			 "neither /proc/config.gz, /boot/config-%.64s nor "
			 "/lib/modules/%.64s/config is there",
			 release, release);

	mb_error_hint(err, "a kernel with CONFIG_IKCONFIG_PROC=y shows it (perhaps after modprobe "
			   "configs); values for an object: bpf.open(path, { kconfig = … })");
	return rc;
}

static int take(char *text, const char *path, struct mb_kconfig **out, struct mb_error *err)
{
	struct mb_kconfig *c = calloc(1, sizeof(*c));
	int rc = 0;

	if (c)
		c->text = text;
	else
		free(text);
	if (c)
		snprintf(c->path, sizeof(c->path), "%s", path);
	if (!c || parse(c) != 0) {
		mb_kconfig_free(c);
		rc = mb_fail(err, ENOMEM, "read kernel configuration", path, "out of memory");
	} else {
		*out = c;
	}
	return rc;
}

int mb_kconfig_new(struct mb_kconfig **out, struct mb_error *err)
{
	struct utsname uts;
	char path[320];

	uname(&uts);
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		const char *hole = strstr(places[i], "%s");
		char *text = NULL;
		int rc;

		snprintf(path, sizeof(path), "%.*s%s%s",
			 hole ? (int)(hole - places[i]) : (int)strlen(places[i]), places[i],
			 hole ? uts.release : "", hole ? hole + 2 : "");
		rc = read_file(path, &text, err);
		if (!rc)
			return take(text, path, out, err);
		if (rc == -EACCES)
			return mb_fail(err, rc, "read kernel configuration", path, "%s",
				       mb_error_text(-rc));
		if (err && err->code && rc != -ENOENT)
			return rc;
	}
	return nowhere(uts.release, err);
}

int mb_kconfig_parse(const char *text, size_t len, struct mb_kconfig **out, struct mb_error *err)
{
	char *copy = malloc(len + 1);

	if (!copy)
		return mb_fail(err, ENOMEM, "read kernel configuration", "text", "out of memory");
	memcpy(copy, text, len);
	copy[len] = '\0';
	return take(copy, "text", out, err);
}

void mb_kconfig_free(struct mb_kconfig *config)
{
	if (!config)
		return;
	free(config->text);
	free(config->lines);
	free(config->options);
	free(config);
}

/* ---- lines --------------------------------------------------------------------------------------- */

/* '"a \"b\""' becomes 'a "b"'. */
static bool unquote(char *value)
{
	char *to = value, *from = value + 1;
	size_t n = strlen(value);

	if (n < 2 || value[0] != '"' || value[n - 1] != '"')
		return false;
	value[n - 1] = '\0';
	while (*from) {
		if (*from == '\\' && from[1])
			from++;
		*to++ = *from++;
	}
	*to = '\0';
	return true;
}

/* "CONFIG_HZ=250", "# CONFIG_X is not set"; else false. Cuts the line. */
static bool parse_line(char *line, struct option *out)
{
	static const char unset[] = " is not set";
	size_t n = strlen(line);
	char *eq;

	while (n && (line[n - 1] == '\r' || line[n - 1] == ' ' || line[n - 1] == '\t'))
		line[--n] = '\0';
	if (strncmp(line, "# " PREFIX, 2 + strlen(PREFIX)) == 0) {
		if (n < sizeof(unset) || strcmp(line + n - strlen(unset), unset) != 0)
			return false;
		line[n - strlen(unset)] = '\0';
		out->name = line + 2;
		out->value = NULL;
		return !strchr(out->name, ' ');
	}
	eq = strchr(line, '=');
	if (strncmp(line, PREFIX, strlen(PREFIX)) != 0 || !eq || !eq[1])
		return false;
	*eq = '\0';
	out->name = line;
	out->value = eq + 1;
	out->quoted = unquote(eq + 1);
	return true;
}

static int by_name(const void *left, const void *right)
{
	const struct option *a = left, *b = right;
	int order = strcmp(a->name, b->name);

	return order ? order : a->line < b->line ? -1 : a->line > b->line;
}

static int parse(struct mb_kconfig *c)
{
	size_t lines = 1, kept = 0;
	uint32_t number = 0;
	char *line, *rest;

	for (const char *p = c->text; (p = strchr(p, '\n')); p++)
		lines++;
	c->lines = strdup(c->text);
	c->options = calloc(lines, sizeof(*c->options));
	if (!c->lines || !c->options)
		return -ENOMEM;
	rest = c->lines;
	while ((line = strsep(&rest, "\n"))) {
		struct option *o = &c->options[c->n];

		if (!parse_line(line, o))
			continue;
		o->line = number++;
		c->n++;
	}
	qsort(c->options, c->n, sizeof(*c->options), by_name);
	for (size_t i = 0; i < c->n; i++)
		if (!kept || strcmp(c->options[kept - 1].name, c->options[i].name) != 0)
			c->options[kept++] = c->options[i];
	c->n = kept;
	return 0;
}

/* ---- asking --------------------------------------------------------------------------------------- */

const char *mb_kconfig_path(const struct mb_kconfig *config)
{
	return config->path;
}

const char *mb_kconfig_text(const struct mb_kconfig *config)
{
	return config->text;
}

static void interpret(const struct option *o, struct mb_kconfig_value *out)
{
	const char *v = o->value ? o->value : "n";
	char *end;

	memset(out, 0, sizeof(*out));
	out->name = o->name;
	out->text = v;
	out->set = o->value != NULL;
	if (o->quoted) {
		out->kind = MB_OPTION_TEXT;
		return;
	}
	if (strcmp(v, "y") == 0 || strcmp(v, "n") == 0 || strcmp(v, "m") == 0)
		return;
	errno = 0;
	out->negative = *v == '-';
	out->number = out->negative ? (uint64_t)strtoll(v, &end, 0) : strtoull(v, &end, 0);
	out->kind = *end || errno || end == v ? MB_OPTION_TEXT : MB_OPTION_INT;
}

int mb_kconfig_nth(const struct mb_kconfig *config, size_t n, struct mb_kconfig_value *out)
{
	if (n >= config->n)
		return 0;
	interpret(&config->options[n], out);
	return 1;
}

int mb_kconfig_find(const struct mb_kconfig *config, const char *name, struct mb_kconfig_value *out)
{
	size_t low = 0, high = config->n, skip = 0;

	if (strncmp(name, PREFIX, strlen(PREFIX)) != 0)
		skip = strlen(PREFIX);
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = strcmp(config->options[mid].name + skip, name);

		if (!order)
			return mb_kconfig_nth(config, mid, out);
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return 0;
}

static const char *nth_name(const void *ctx, size_t i)
{
	const struct mb_kconfig *c = ctx;

	return i < c->n ? c->options[i].name + strlen(PREFIX) : NULL;
}

const char *mb_kconfig_near(const struct mb_kconfig *config, const char *name)
{
	if (strncmp(name, PREFIX, strlen(PREFIX)) == 0)
		name += strlen(PREFIX);
	return mb_near(name, nth_name, config);
}
