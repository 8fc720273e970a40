/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Shadows of regions, and what a policy's start stores before anybody knows whether it succeeds. A
 * shadow has its own generation, which ends with the live region's; it follows where that one's bytes
 * lie.
 */
#include "engine/hold.h"
#include "internal.h"

#define MAX_PATH 200 /* of a changed field; the rest is cut off */

struct shadow {
	struct mb_region r; /* first: freed as a region */
	struct mb_region *live;
	uint64_t live_gen;
	struct shadow *beside; /* of the same live region */
	struct shadow *next;   /* of the same hold */
	struct mb_hold *hold;
	uint8_t *copy, *before; /* of the section: with our stores, and as it was */
};

struct mb_hold {
	enum mb_hold_mode mode;
	struct shadow *first;
};

static MB_THREAD struct mb_hold *entered;

/* ---- shadows ---------------------------------------------------------------------------------------- */

static bool is_section(const struct shadow *s)
{
	return s->live->group && !s->live->parts;
}

static void drop_copy(struct shadow *s)
{
	free(s->copy);
	free(s->before);
	s->copy = s->before = NULL;
}

/* Follow the live region. */
static void follow(struct shadow *s)
{
	const struct mb_region *live = s->live;
	bool open = !s->hold || s->hold->mode == MB_HOLD_OFF;
	uint32_t flags = live->flags & ~(uint32_t)MB_REGION_HELD;

	s->r.ended = live->ended;
	s->r.whole = live->whole;
	s->r.each = live->each;
	if (live->gen != s->live_gen) {
		s->live_gen = live->gen;
		s->r.gen++;
		drop_copy(s);
	}
	if (flags & MB_REGION_WRITABLE && !open && !(s->copy && s->hold->mode == MB_HOLD_COPY))
		flags = (flags & ~(uint32_t)MB_REGION_WRITABLE) | MB_REGION_HELD;
	s->r.flags = flags;
	if (s->copy)
		return;
	s->r.base = live->base;
	s->r.len = live->len;
}

static struct shadow **place_in_hold(struct mb_hold *hold, const struct shadow *s)
{
	struct shadow **at = &hold->first;

	while (*at && *at != s)
		at = &(*at)->next;
	return at;
}

static void drop_shadow(struct mb_region *region)
{
	struct shadow *s = (struct shadow *)(void *)region, **at = &s->live->shadows;

	while (*at && *at != s)
		at = &(*at)->beside;
	if (*at)
		*at = s->beside;
	if (s->hold && *(at = place_in_hold(s->hold, s)))
		*at = s->next;
	for (uint32_t i = 0; i < s->r.nparts; i++)
		mb_region_unref(s->r.parts[i]);
	free(s->r.parts);
	drop_copy(s);
	mb_region_unref(s->live);
}

static struct shadow *find(const struct mb_hold *hold, const struct mb_region *live)
{
	struct shadow *s = live->shadows;

	while (s && s->hold != hold)
		s = s->beside;
	return s;
}

static struct shadow *make(struct mb_hold *hold, struct mb_region *live)
{
	struct shadow *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->r.refs = 1;
	s->r.drop = drop_shadow;
	s->r.fix = live->fix;
	s->r.vars = live->vars;
	s->r.name = live->name; /* lives as long */
	s->live = mb_region_ref(live);
	s->live_gen = live->gen;
	s->hold = hold;
	s->next = hold->first;
	hold->first = s;
	s->beside = live->shadows;
	live->shadows = s;
	follow(s);
	return s;
}

/* A group's parts are shadows, too, and go with it. */
static bool follow_parts(struct shadow *group)
{
	struct mb_region **parts = group->live->parts;

	for (uint32_t i = 0; i < group->r.nparts; i++) {
		struct shadow *old = (struct shadow *)(void *)group->r.parts[i], *part;

		if (old && old->live == parts[i])
			continue;
		part = make(group->hold, parts[i]);
		if (!part)
			return false;
		part->r.group = &group->r;
		group->r.parts[i] = &part->r;
		if (old)
			mb_region_unref(&old->r);
	}
	return true;
}

static struct shadow *make_group(struct mb_hold *hold, struct mb_region *live)
{
	struct shadow *s = make(hold, live);

	if (!s)
		return NULL;
	s->r.parts = calloc(live->nparts + 1, sizeof(s->r.parts[0]));
	s->r.nparts = s->r.parts ? live->nparts : 0;
	if (s->r.parts && follow_parts(s))
		return s;
	mb_region_unref(&s->r);
	return NULL;
}

struct mb_region *mb_hold_region(struct mb_hold *hold, struct mb_region *live)
{
	struct shadow *s = find(hold, live);

	if (s)
		return mb_region_ref(&s->r);
	/* a section comes with its group, which the hold keeps: a transaction looks for the word that
	 * lies beside the variable */
	if (live->parts || live->group) {
		if (!make_group(hold, live->parts ? live : live->group))
			return NULL;
		s = find(hold, live);
		return s ? mb_region_ref(&s->r) : NULL;
	}
	s = make(hold, live);
	return s ? &s->r : NULL;
}

void mb_region_moved(struct mb_region *live)
{
	for (struct shadow *s = live->shadows; s; s = s->beside) {
		if (s->r.parts && s->hold)
			follow_parts(s);
		follow(s);
	}
}

/* ---- the hold ------------------------------------------------------------------------------------------ */

struct mb_hold *mb_hold_new(void)
{
	return calloc(1, sizeof(struct mb_hold));
}

void mb_hold_free(struct mb_hold *hold)
{
	if (!hold)
		return;
	mb_hold_drop(hold);
	while (hold->first) {
		struct shadow *s = hold->first;

		hold->first = s->next;
		s->hold = NULL;
		s->next = NULL;
		if (!s->r.parts)
			continue;
		/* the hold's own reference; what is behind may go, this list's next does not */
		for (uint32_t i = 0; i < s->r.nparts; i++) {
			struct shadow *part = (struct shadow *)(void *)s->r.parts[i];

			part->r.group = NULL;
			if (part->hold)
				*place_in_hold(hold, part) = part->next;
			part->hold = NULL;
		}
		mb_region_unref(&s->r);
	}
	free(hold);
}

enum mb_hold_mode mb_hold_set(struct mb_hold *hold, enum mb_hold_mode mode)
{
	enum mb_hold_mode before = hold->mode;

	hold->mode = mode;
	for (struct shadow *s = hold->first; s; s = s->next)
		follow(s);
	return before;
}

struct mb_hold *mb_hold_enter(struct mb_hold *hold)
{
	struct mb_hold *before = entered;

	entered = hold;
	return before;
}

struct mb_region *mb_hold_see(struct mb_region *live)
{
	return entered ? mb_hold_region(entered, live) : mb_region_ref(live);
}

static int refuse(const struct mb_hold *hold, int code, const char *op, const char *subject,
		  struct mb_error *err)
{
	if (hold->mode == MB_HOLD_COPY) {
		mb_fail(err, code, op, subject, "a policy's start may not: it may yet fail");
		mb_error_hint(err, "put it into ctx:after(0, fn), which runs once the policy is in "
				   "force");
	} else {
		mb_fail(err, code, op, subject, "what runs here may only read");
		mb_error_hint(err, "save, a metric's read and a read-only console change nothing");
	}
	return -code;
}

int mb_refuse(const char *op, const char *subject, struct mb_error *err)
{
	if (!entered || entered->mode == MB_HOLD_OFF)
		return 0;
	return refuse(entered, EPERM, op, subject, err);
}

int mb_hold_store(struct mb_region *shadow, const char *what, struct mb_error *err)
{
	struct shadow *s = (struct shadow *)(void *)shadow;

	if (!s->hold || s->hold->mode != MB_HOLD_COPY || !is_section(s))
		return s->hold ? refuse(s->hold, EROFS, "write", what, err) :
				 mb_fail(err, EROFS, "write", what, "its policy has ended");
	s->copy = malloc(s->r.len + 1);
	s->before = malloc(s->r.len + 1);
	if (!s->copy || !s->before) {
		drop_copy(s);
		return mb_fail(err, ENOMEM, "write", what, "out of memory");
	}
	memcpy(s->before, s->live->base, s->r.len);
	memcpy(s->copy, s->before, s->r.len);
	s->r.base = s->copy;
	follow(s);
	return 0;
}

int mb_hold_atomic(const struct mb_region *region, const char *what, struct mb_error *err)
{
	const struct shadow *s = (const struct shadow *)(const void *)region;

	if (region->drop != drop_shadow || !s->hold || s->hold->mode == MB_HOLD_OFF)
		return 0;
	return refuse(s->hold, EROFS, "change", what, err);
}

/* ---- commit -------------------------------------------------------------------------------------------- */

struct commit {
	const uint8_t *now, *before; /* of the copy's start */
	uint8_t *to;		     /* what stands for the section's start */
	char path[MAX_PATH];
	char **paths; /* where the next one goes */
	size_t *room; /* with the NUL */
	bool quiet;
};

static bool same(const struct commit *c, size_t off, size_t len)
{
	return memcmp(c->now + off, c->before + off, len) == 0;
}

static void tell(const struct commit *c)
{
	size_t len = strlen(c->path);

	if (c->quiet || *c->room < len + 2)
		return;
	memcpy(*c->paths, c->path, len);
	memcpy(*c->paths + len, "\n", 2);
	*c->paths += len + 1;
	*c->room -= len + 1;
}

static void store_plan(struct commit *c, const struct mb_plan *plan, size_t off, size_t path);

/* The field f of an aggregate off bytes into the section; its path is complete. */
static void store_field(struct commit *c, const struct mb_field *f, size_t off, size_t path)
{
	struct mb_value now, before;

	if (same(c, off + f->off, f->end - f->off))
		return;
	if (f->enc == MB_ENC_NONE) {
		store_plan(c, f->plan, off + f->off, path);
		return;
	}
	mb_value_load(c->now + off, f, &now);
	if (f->bits) { /* its neighbours share its bytes */
		mb_value_load(c->before + off, f, &before);
		if (now.i == before.i)
			return;
	}
	mb_value_store(c->to + off, f, &now);
	tell(c);
}

static void store_plan(struct commit *c, const struct mb_plan *plan, size_t off, size_t path)
{
	if (plan->kind == MB_KIND_ARRAY) {
		for (uint32_t i = 0; i < plan->count; i++) {
			int n = snprintf(c->path + path, MAX_PATH - path, "[%u]", i);

			store_field(c, &plan->fields[0], off + (size_t)i * plan->stride,
				    path + (size_t)n < MAX_PATH ? path + (size_t)n : MAX_PATH - 1);
		}
		c->path[path] = '\0';
		return;
	}
	if (plan->kind == MB_KIND_UNION || !plan->nfields) {
		memcpy(c->to + off, c->now + off, plan->size);
		tell(c);
		return;
	}
	for (uint32_t i = 0; i < plan->nfields; i++) {
		const struct mb_field *f = &plan->fields[i];
		int n = snprintf(c->path + path, MAX_PATH - path, ".%s", f->name);

		store_field(c, f, off,
			    path + (size_t)n < MAX_PATH ? path + (size_t)n : MAX_PATH - 1);
	}
	c->path[path] = '\0';
}

/* Its own sequence word makes a variable change as one; without it, or where another process holds
 * that for too long, field by field. */
static void store_variable(struct commit *c, struct mb_region *live, const struct mb_field *f)
{
	struct mb_view view = { live, f->plan, live->gen, f->off, f->plan->count };
	int n = snprintf(c->path, MAX_PATH, "%s", f->name);
	size_t path = (size_t)n < MAX_PATH ? (size_t)n : MAX_PATH - 1;
	uint8_t *direct = c->to, *whole;

	if (same(c, f->off, f->end - f->off) || strncmp(f->name, "mb_seq_", 7) == 0 ||
	    strncmp(f->name, "mb_old_", 7) == 0)
		return;
	whole = f->enc == MB_ENC_NONE ? malloc(f->off + f->plan->size) : NULL;
	if (whole && mb_txn_begin(&view, whole + f->off, NULL) == 0) {
		c->to = whole;
		store_field(c, f, 0, path);
		c->to = direct;
		if (mb_txn_commit(&view, whole + f->off, NULL) == 0) {
			free(whole);
			return;
		}
		c->quiet = true; /* they were named */
	}
	free(whole);
	store_field(c, f, 0, path);
}

static void store_section(struct shadow *s, char **paths, size_t *room)
{
	const struct mb_region *group = s->live->group;
	const struct mb_plan *vars = s->live->vars;

	if (s->live->gen != s->live_gen || !(s->live->flags & MB_REGION_WRITABLE))
		return;
	for (uint32_t i = 0; vars && i < vars->nfields; i++) {
		struct commit c = { .now = s->copy,
				    .before = s->before,
				    .to = s->live->base,
				    .paths = paths,
				    .room = room };

		if (group->parts[vars->fields[i].part] == s->live)
			store_variable(&c, s->live, &vars->fields[i]);
	}
}

void mb_hold_commit(struct mb_hold *hold, char *paths, size_t room)
{
	struct mb_hold *before = mb_hold_enter(NULL);

	*paths = '\0';
	for (struct shadow *s = hold->first; s; s = s->next)
		if (s->copy)
			store_section(s, &paths, &room);
	mb_hold_enter(before);
	mb_hold_drop(hold);
}

void mb_hold_drop(struct mb_hold *hold)
{
	for (struct shadow *s = hold->first; s; s = s->next)
		drop_copy(s);
	mb_hold_set(hold, MB_HOLD_OFF);
}
