/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Paths such as cfg.limits[3].rate: where one leads, and, for what is told about a field, which one
 * leads to it. A view does not know how it was reached; its region knows the type of the whole, so the
 * way there is searched again, only when there is something to tell.
 */
#include <stdarg.h>

#include "internal.h"

/* ---- from a path to a field --------------------------------------------------------------------- */

struct walk {
	const char *path, *at;
	struct mb_view view;
	const struct mb_field *field; /* the last step, not yet taken */
	struct mb_error *err;
};

static int walk_take(struct walk *w)
{
	struct mb_view next;
	int rc;

	if (!w->field)
		return 0;
	if (w->field->enc != MB_ENC_NONE)
		return mb_fail(w->err, EINVAL, "resolve", w->path, "'%s' is %s and has no members",
			       mb_view_where(&w->view, w->field).text, w->field->plan->name);
	rc = mb_view_step(&w->view, w->field, &next, w->err);
	w->view = next;
	w->field = NULL;
	return rc;
}

static int walk_name(struct walk *w)
{
	size_t n = strcspn(w->at, ".[");
	bool hidden = false;
	const char *near;
	char name[128];
	int rc = walk_take(w);

	if (rc)
		return rc;
	if (!n || n >= sizeof(name))
		return mb_fail(w->err, EINVAL, "resolve", w->path, "a name is missing in it");
	memcpy(name, w->at, n);
	name[n] = '\0';
	w->at += n;
	w->field = w->view.plan->kind == MB_KIND_ARRAY ? NULL : mb_plan_field(w->view.plan, name);
	if (w->field)
		return 0;
	rc = mb_fail(w->err, ENOENT, "resolve", w->path, "no field '%s' in %s", name,
		     w->view.plan->name);
	near = mb_plan_near(w->view.plan, name);
	for (uint32_t i = 0; i < w->view.plan->nhidden; i++)
		if (strcmp(w->view.plan->hidden[i], name) == 0)
			hidden = true;
	if (hidden)
		mb_error_hint(w->err,
			      "it is static or hidden in C: only global variables are shown");
	else if (near)
		mb_error_hint(w->err, "did you mean '%s'?", near);
	return rc;
}

static int walk_index(struct walk *w)
{
	unsigned long long index;
	struct mb_view elem;
	char *end;
	int rc = walk_take(w);

	if (rc)
		return rc;
	errno = 0;
	index = strtoull(w->at + 1, &end, 10);
	if (w->at[1] < '0' || w->at[1] > '9' || *end != ']' || errno)
		return mb_fail(w->err, EINVAL, "resolve", w->path, "an index like [3] is expected");
	w->at = end + 1;
	rc = mb_view_elem(&w->view, index, &elem, w->err);
	if (rc)
		return rc;
	w->view = elem;
	w->field = &w->view.plan->fields[0];
	return 0;
}

int mb_view_path(const struct mb_view *view, const char *path, struct mb_view *out,
		 const struct mb_field **field, struct mb_error *err)
{
	struct walk w = { .path = path, .at = path, .view = *view, .err = err };
	int rc = 0;

	if (*w.at != '[')
		rc = walk_name(&w);
	while (!rc && *w.at) {
		if (*w.at == '[') {
			rc = walk_index(&w);
		} else if (*w.at == '.') {
			w.at++;
			rc = walk_name(&w);
		} else {
			rc = mb_fail(err, EINVAL, "resolve", path, "'%c' is not expected there",
				     *w.at);
		}
	}
	if (rc)
		return rc;
	*out = w.view;
	*field = w.field;
	return 0;
}

/* ---- from a field to its path --------------------------------------------------------------------- */

struct search {
	const struct mb_view *view;
	const struct mb_field *field; /* NULL: the view itself */
	unsigned int depth;
	size_t len;
	struct mb_where *out;
};

static void append(struct search *s, const char *fmt, ...)
	__attribute__((format(__printf__, 2, 3)));
static void append(struct search *s, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(s->out->text + s->len, sizeof(s->out->text) - s->len, fmt, ap);
	va_end(ap);
	if (n > 0)
		s->len += (size_t)n;
	if (s->len >= sizeof(s->out->text))
		s->len = sizeof(s->out->text) - 1;
}

static void append_name(struct search *s, const char *name)
{
	append(s, s->len ? ".%s" : "%s", name);
}

static bool owns(const struct mb_plan *p, const struct mb_field *f)
{
	return f >= p->fields && f < p->fields + p->nfields;
}

static bool search(struct search *s, const struct mb_plan *p, uint64_t at);

static bool search_array(struct search *s, const struct mb_plan *p, uint64_t at)
{
	uint64_t i = p->stride ? (s->view->off - at) / p->stride : 0;

	if (!p->flexible && i >= p->count)
		return false;
	append(s, "[%llu]", (unsigned long long)i);
	if (s->field == &p->fields[0] && s->view->plan == p)
		return true;
	return search(s, p->fields[0].plan, at + i * p->stride);
}

/* Members of a union begin at one place: each is tried. */
static bool search_members(struct search *s, const struct mb_plan *p, uint64_t at)
{
	size_t len = s->len;

	for (uint32_t i = 0; i < p->nfields; i++) {
		const struct mb_field *f = &p->fields[i];

		if (f->enc != MB_ENC_NONE || s->view->off < at + f->off ||
		    (s->view->off >= at + f->end && f->end > f->off && !f->plan->flexible))
			continue;
		append_name(s, f->name);
		if (search(s, f->plan, at + f->off))
			return true;
		s->len = len;
		s->out->text[len] = '\0';
	}
	return false;
}

/* Is what is sought in a thing of type p, at bytes from the whole's start? Appends the way there. */
static bool search(struct search *s, const struct mb_plan *p, uint64_t at)
{
	bool found;

	if (at == s->view->off && p == s->view->plan && !s->field)
		return true;
	if (p->enc != MB_ENC_NONE || s->depth == 32)
		return false;
	s->depth++;
	if (p->kind == MB_KIND_ARRAY) {
		found = search_array(s, p, at);
	} else if (at == s->view->off && s->field && owns(p, s->field)) {
		append_name(s, s->field->name);
		found = true;
	} else {
		found = search_members(s, p, at);
	}
	s->depth--;
	return found;
}

struct mb_where mb_view_where(const struct mb_view *view, const struct mb_field *f)
{
	const struct mb_region *r = view->region;
	struct mb_where where = { "" };
	struct search s = { .view = view, .field = f, .out = &where };
	uint64_t start = r->each ? view->off - view->off % r->each : 0;

	if (r->whole && !r->parts && search(&s, r->whole, start) && s.len)
		return where;
	snprintf(where.text, sizeof(where.text), "%s",
		 !f	 ? view->plan->name :
		 f->name ? f->name :
			   "element");
	return where;
}
