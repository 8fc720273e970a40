/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What differs between two layouts, by meaning, told as data and as text. It touches no values; that
 * is convert.c's.
 */
#include "engine/layout.h"

#include "internal.h"

/* Types can be nested so that they have more members than anybody could look at. */
#define MAX_COMPARED (1u << 20)

/* ---- what belongs to the kernel ------------------------------------------------------------------- */

static const char *const managed[] = {
	"bpf_timer",	 "bpf_wq",	  "bpf_task_work", "bpf_spin_lock", "bpf_res_spin_lock",
	"bpf_list_head", "bpf_list_node", "bpf_rb_root",   "bpf_rb_node",   "bpf_refcount"
};
#define TIMERS 3 /* the first ones */

static const char *const tags[] = { "kptr", "kptr_ref", "kptr_untrusted", "percpu_kptr", "uptr" };

/* Which of the managed structs is it? -1: none. By the type's own name, whatever its typedef. */
static int managed_struct(const struct mb_plan *plan)
{
	const struct btf_type *t;
	const char *name;

	if (plan->kind != MB_KIND_STRUCT || !plan->id)
		return -1;
	t = btf__type_by_id(plan->btf->btf, mb_btf_skip(plan->btf->btf, plan->id));
	name = t ? mb_btf_raw_name(plan->btf, t) : "";
	for (size_t i = 0; i < sizeof(managed) / sizeof(managed[0]); i++)
		if (strcmp(name, managed[i]) == 0)
			return (int)i;
	return -1;
}

/* The tag that makes a pointer one that the kernel counts: "kptr", or NULL. */
static const char *kptr_tag(const struct mb_plan *plan)
{
	const struct btf *btf = plan->btf->btf;
	const struct btf_type *t;

	if (plan->kind != MB_KIND_POINTER || !plan->id)
		return NULL;
	t = btf__type_by_id(btf, mb_btf_skip(btf, plan->id));
	for (int hops = 0; t && hops < MB_MAX_DEPTH; hops++) {
		if (btf_kind(t) == BTF_KIND_TYPE_TAG)
			for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++)
				if (strcmp(mb_btf_raw_name(plan->btf, t), tags[i]) == 0)
					return tags[i];
		if (!btf_is_ptr(t) && !btf_is_mod(t))
			return NULL;
		if (btf_is_ptr(t) && hops)
			return NULL; /* the pointer's pointer */
		t = btf__type_by_id(btf, t->type);
	}
	return NULL;
}

bool mb_layout_managed(const struct mb_plan *plan)
{
	return managed_struct(plan) >= 0 || kptr_tag(plan) != NULL;
}

static bool holds(const struct mb_plan *plan, bool timers, uint32_t *budget)
{
	int which = managed_struct(plan);

	if (which >= 0 ? !timers || which < TIMERS : !timers && kptr_tag(plan))
		return true;
	if (plan->enc != MB_ENC_NONE || which >= 0)
		return false;
	for (uint32_t i = 0; i < plan->nfields; i++) {
		if (!*budget)
			return true; /* better too careful */
		--*budget;
		if (holds(plan->fields[i].plan, timers, budget))
			return true;
	}
	return false;
}

bool mb_layout_holds_managed(const struct mb_plan *plan)
{
	uint32_t budget = MAX_COMPARED;

	return holds(plan, false, &budget);
}

bool mb_layout_holds_timer(const struct mb_plan *plan)
{
	uint32_t budget = MAX_COMPARED;

	return holds(plan, true, &budget);
}

/* ---- a list of differences -------------------------------------------------------------------------- */

void mb_diff_fini(struct mb_diff *diff)
{
	free(diff->list);
	*diff = (struct mb_diff){ 0 };
}

int mb_diff_add(struct mb_diff *diff, const struct mb_difference *d)
{
	if (diff->n == diff->room) {
		size_t room = diff->room ? diff->room * 2 : 8;
		struct mb_difference *more = realloc(diff->list, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		diff->list = more;
		diff->room = room;
	}
	diff->list[diff->n++] = *d;
	return 0;
}

/* ---- comparing ---------------------------------------------------------------------------------------- */

/* One walk through two types at once. out NULL: only whether they differ. */
struct walk {
	struct mb_diff *out;
	int found;
	uint32_t left; /* of the budget */
	char path[128];
};

/* The same named thing in both: its fields, and where their aggregates start. */
struct slot {
	const struct mb_field *was, *is;
	uint32_t was_base, is_base;
};

static void type_text(const struct mb_field *f, char *to, size_t room)
{
	snprintf(to, room, f->bits ? "%.70s : %u" : "%.78s", f->plan->name, f->bits);
}

static int found(struct walk *w, const struct slot *s, enum mb_change change, const char *was,
		 const char *is)
{
	struct mb_difference d = { .change = change };

	w->found++;
	if (!w->out)
		return 0;
	snprintf(d.field, sizeof(d.field), "%s", w->path);
	if (s->was) {
		type_text(s->was, d.was, sizeof(d.was));
		d.was_off = s->was_base + s->was->off;
		d.was_bit = s->was->shift;
	}
	if (s->is) {
		type_text(s->is, d.is, sizeof(d.is));
		d.is_off = s->is_base + s->is->off;
		d.is_bit = s->is->shift;
	}
	d.converts = s->was && s->is && mb_layout_converts(s->was, s->is);
	if (change == MB_CHANGE_SIZE) {
		snprintf(d.was, sizeof(d.was), "%u bytes", s->was->plan->size);
		snprintf(d.is, sizeof(d.is), "%u bytes", s->is->plan->size);
	}
	if (change == MB_CHANGE_ENUM) {
		snprintf(d.was, sizeof(d.was), "%s", was);
		snprintf(d.is, sizeof(d.is), "%s", is);
	}
	return mb_diff_add(w->out, &d);
}

static bool moved(const struct slot *s)
{
	return s->was->off != s->is->off || s->was->shift != s->is->shift;
}

static bool is_struct(const struct mb_plan *p)
{
	return p->kind == MB_KIND_STRUCT || p->kind == MB_KIND_SECTION || p->kind == MB_KIND_GROUP;
}

/* Text or bytes: an array of the smallest integers. */
bool mb_layout_is_bytes(const struct mb_plan *p)
{
	const struct mb_plan *elem = p->kind == MB_KIND_ARRAY ? p->fields[0].plan : NULL;

	return p->kind == MB_KIND_CHARS ||
	       (elem && p->count && elem->kind == MB_KIND_INT && elem->size == 1);
}

/* Do two scalars of one place mean the same? */
bool mb_layout_scalar_same(const struct mb_field *a, const struct mb_field *b)
{
	const struct mb_plan *p = a->plan, *q = b->plan;

	if (a->enc != b->enc || a->bits != b->bits)
		return false;
	if ((p->kind == MB_KIND_BOOL) != (q->kind == MB_KIND_BOOL) ||
	    (p->kind == MB_KIND_POINTER) != (q->kind == MB_KIND_POINTER) ||
	    (p->kind == MB_KIND_FLOAT) != (q->kind == MB_KIND_FLOAT))
		return false;
	return a->bits || p->size == q->size;
}

static int compare_slot(struct walk *w, const struct slot *s);

/* Names that have another number, or none any more. */
static int compare_enums(struct walk *w, const struct slot *s)
{
	const struct mb_plan *a = s->was->plan, *b = s->is->plan;

	for (uint32_t i = 0; i < a->nenums; i++) {
		char was[80], is[80] = "";
		const char *other;
		int64_t value;
		int rc;

		if (mb_plan_enum_value(b, a->enums[i].name, &value) == 0) {
			if (value == a->enums[i].value)
				continue;
			snprintf(is, sizeof(is), "%.50s = %lld", a->enums[i].name,
				 (long long)value);
		} else if ((other = mb_plan_enum_name(b, a->enums[i].value))) {
			snprintf(is, sizeof(is), "%.50s = %lld", other,
				 (long long)a->enums[i].value);
		}
		snprintf(was, sizeof(was), "%.50s = %lld", a->enums[i].name,
			 (long long)a->enums[i].value);
		rc = found(w, s, MB_CHANGE_ENUM, was, is);
		if (rc)
			return rc;
	}
	return 0;
}

/* Append to the path; returns what to cut it back to. */
static size_t path_push(struct walk *w, const char *dot, const char *name)
{
	size_t n = strlen(w->path);

	snprintf(w->path + n, sizeof(w->path) - n, "%s%s", n ? dot : "", name);
	return n;
}

/* The field of that name; in the same order as before it is the next one. */
static const struct mb_field *field_from(const struct mb_plan *p, const char *name, uint32_t *next)
{
	for (uint32_t n = 0; n < p->nfields; n++) {
		uint32_t i = (*next + n) % p->nfields;

		if (p->fields[i].name && strcmp(p->fields[i].name, name) == 0) {
			*next = i + 1;
			return &p->fields[i];
		}
	}
	return NULL;
}

static int compare_members(struct walk *w, const struct slot *s)
{
	const struct mb_plan *a = s->was->plan, *b = s->is->plan;
	uint32_t was_at = s->was_base + s->was->off, is_at = s->is_base + s->is->off, next = 0;
	int before = w->found, rc = 0;

	for (uint32_t i = 0; i < a->nfields && !rc; i++) {
		const struct mb_field *f = &a->fields[i];
		const struct mb_field *g = field_from(b, f->name, &next);
		struct slot inner = { f, g, was_at, is_at };
		size_t cut = path_push(w, ".", f->name);

		rc = g ? compare_slot(w, &inner) : found(w, &inner, MB_CHANGE_REMOVED, NULL, NULL);
		w->path[cut] = '\0';
	}
	next = 0;
	for (uint32_t i = 0; i < b->nfields && !rc; i++) {
		const struct mb_field *g = &b->fields[i];
		struct slot inner = { NULL, g, was_at, is_at };
		size_t cut;

		if (field_from(a, g->name, &next))
			continue;
		cut = path_push(w, ".", g->name);
		rc = found(w, &inner, MB_CHANGE_ADDED, NULL, NULL);
		w->path[cut] = '\0';
	}
	if (!rc && w->found == before && a->size != b->size && a->kind != MB_KIND_GROUP)
		rc = found(w, s, MB_CHANGE_SIZE, NULL, NULL);
	return rc;
}

/* Is what differs between two elements, if anything, told of their parts? */
static bool alike(const struct mb_field *f, const struct mb_field *g)
{
	const struct mb_plan *a = f->plan, *b = g->plan;

	if (a->enc == MB_ENC_NONE && b->enc == MB_ENC_NONE)
		return a->kind != MB_KIND_ARRAY && b->kind != MB_KIND_ARRAY;
	return mb_layout_scalar_same(f, g) && !kptr_tag(a) == !kptr_tag(b);
}

/* Arrays: all dimensions at once, then what the innermost element is. */
static int compare_arrays(struct walk *w, const struct slot *s)
{
	const struct mb_field *f = s->was, *g = s->is;
	struct slot elem = *s;
	bool same = true;
	size_t cut = strlen(w->path);
	int rc = 0;

	while (f->plan->kind == MB_KIND_ARRAY && g->plan->kind == MB_KIND_ARRAY) {
		same = same && f->plan->count == g->plan->count &&
		       f->plan->flexible == g->plan->flexible;
		elem.was_base += f->off;
		elem.is_base += g->off;
		f = &f->plan->fields[0];
		g = &g->plan->fields[0];
		path_push(w, "", "[]");
	}
	elem.was = f;
	elem.is = g;
	if (alike(f, g))
		rc = compare_slot(w, &elem);
	else
		same = false; /* other numbers or texts, more dimensions: told of the whole array */
	w->path[cut] = '\0';
	if (!rc && !same)
		rc = found(w, s, MB_CHANGE_TYPE, NULL, NULL);
	else if (!rc && moved(s))
		rc = found(w, s, MB_CHANGE_MOVED, NULL, NULL);
	return rc;
}

static int compare_scalars(struct walk *w, const struct slot *s)
{
	const struct mb_plan *a = s->was->plan, *b = s->is->plan;
	int rc = 0;

	if (!mb_layout_scalar_same(s->was, s->is))
		return found(w, s, MB_CHANGE_TYPE, NULL, NULL);
	if (moved(s))
		rc = found(w, s, MB_CHANGE_MOVED, NULL, NULL);
	if (!rc && a->kind == MB_KIND_ENUM && b->kind == MB_KIND_ENUM)
		rc = compare_enums(w, s);
	return rc;
}

static int compare_slot(struct walk *w, const struct slot *s)
{
	const struct mb_plan *a = s->was->plan, *b = s->is->plan;
	int kind_a = managed_struct(a), kind_b = managed_struct(b);
	const char *tag_a = kptr_tag(a), *tag_b = kptr_tag(b);
	int rc = 0;

	if (!w->left)
		return -E2BIG;
	w->left--;
	if (kind_a != kind_b || !tag_a != !tag_b || (tag_a && strcmp(tag_a, tag_b) != 0))
		return found(w, s, MB_CHANGE_TYPE, NULL, NULL);
	if (kind_a >= 0)
		return moved(s) ? found(w, s, MB_CHANGE_MOVED, NULL, NULL) : 0;
	if (mb_layout_is_bytes(a) && mb_layout_is_bytes(b)) {
		if (a->size != b->size)
			return found(w, s, MB_CHANGE_TYPE, NULL, NULL);
		return moved(s) ? found(w, s, MB_CHANGE_MOVED, NULL, NULL) : 0;
	}
	if (a->enc != MB_ENC_NONE && b->enc != MB_ENC_NONE)
		return compare_scalars(w, s);
	if (a->kind == MB_KIND_ARRAY && b->kind == MB_KIND_ARRAY)
		return compare_arrays(w, s);
	if (is_struct(a) != is_struct(b) ||
	    (a->kind == MB_KIND_UNION) != (b->kind == MB_KIND_UNION) || a->enc != b->enc ||
	    a->kind == MB_KIND_ARRAY || b->kind == MB_KIND_ARRAY)
		return found(w, s, MB_CHANGE_TYPE, NULL, NULL);
	if (moved(s))
		rc = found(w, s, MB_CHANGE_MOVED, NULL, NULL);
	return rc ? rc : compare_members(w, s);
}

/* A whole type as if it were the only field of something. */
static struct mb_field whole(const struct mb_plan *p)
{
	return (struct mb_field){ .plan = p, .end = p->size, .enc = p->enc };
}

int mb_layout_diff(const struct mb_plan *was, const struct mb_plan *is, struct mb_diff *out,
		   struct mb_error *err)
{
	struct mb_field a = whole(was), b = whole(is);
	struct slot s = { &a, &b, 0, 0 };
	struct walk w = { .out = out, .left = MAX_COMPARED };
	int rc = compare_slot(&w, &s);

	if (rc == -ENOMEM)
		return mb_fail(err, ENOMEM, "compare types", was->name, "out of memory");
	if (rc)
		return mb_fail(err, E2BIG, "compare types", was->name, "it has too many fields");
	return w.found;
}

bool mb_layout_same(const struct mb_plan *was, const struct mb_plan *is)
{
	struct mb_field a = whole(was), b = whole(is);
	struct slot s = { &a, &b, 0, 0 };
	struct walk w = { .left = MAX_COMPARED };

	return was == is || (compare_slot(&w, &s) == 0 && !w.found);
}

/* ---- as text ------------------------------------------------------------------------------------------ */

/* "at 8", "at 8 bit 3" */
static void place_text(uint32_t off, uint8_t bit, char *to, size_t room)
{
	snprintf(to, room, bit ? "at %u bit %u" : "at %u", off, bit);
}

size_t mb_difference_text(const struct mb_difference *d, char *to, size_t room)
{
	char name[160] = "it", was[32], is[32];
	int n = 0;

	if (*d->field)
		snprintf(name, sizeof(name), "field '%s'", d->field);
	place_text(d->was_off, d->was_bit, was, sizeof(was));
	place_text(d->is_off, d->is_bit, is, sizeof(is));
	switch (d->change) {
	case MB_CHANGE_ADDED:
		n = snprintf(to, room, "%s added", name);
		break;
	case MB_CHANGE_REMOVED:
		n = snprintf(to, room, "%s is gone", name);
		break;
	case MB_CHANGE_MOVED:
		n = snprintf(to, room, "%s %s moved from %s to %s", name, d->was, was + 3, is + 3);
		break;
	case MB_CHANGE_TYPE:
		n = *d->field ? snprintf(to, room, "%s %s %s became %s %s", name, d->was, was,
					 d->is, is) :
				snprintf(to, room, "%s was %s and is %s", name, d->was, d->is);
		break;
	case MB_CHANGE_ENUM:
		n = *d->is ? snprintf(to, room, "%s: %s became %s", name, d->was, d->is) :
			     snprintf(to, room, "%s: %s is gone", name, d->was);
		break;
	case MB_CHANGE_SIZE:
		n = snprintf(to, room, "%s had %s and has %s", name, d->was, d->is);
		break;
	case MB_CHANGE_PARAMETER:
		n = snprintf(to, room, "%s %s there, %s here", d->field, d->was, d->is);
		break;
	}
	return n < 0 ? 0 : (size_t)n;
}

static size_t append(char *to, size_t room, size_t n, const char *text)
{
	int more = snprintf(n < room ? to + n : NULL, n < room ? room - n : 0, "%s", text);

	return n + (size_t)(more > 0 ? more : 0);
}

size_t mb_diff_text(const struct mb_diff *diff, const char *what, const char *type, char *to,
		    size_t room)
{
	char text[512];
	size_t n = 0;

	if (room)
		*to = '\0';
	if (what) {
		snprintf(text, sizeof(text), "%.80s%s%.160s: ", what, type ? " " : "",
			 type ? type : "");
		n = append(to, room, n, text);
	}
	for (size_t i = 0; i < diff->n; i++) {
		mb_difference_text(&diff->list[i], text, sizeof(text));
		if (i)
			n = append(to, room, n, "; ");
		n = append(to, room, n, text);
	}
	return n;
}
