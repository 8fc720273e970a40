/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Several fields changed as one: the writer of what MB_SEQ(var) of moonbee.bpf.h declares beside a
 * variable, a sequence word and room for its last whole value. BPF programs are the readers; they
 * never wait.
 */
#include "internal.h"

#define PATIENCE_NS 100000000u /* how long another writer may take */
#define TRIES 1000	       /* to read a whole value while others write */

static const char *const OP = "change";

/* A variable that changes as one, where its parts are. */
struct txn {
	const char *name;
	uint32_t *word;
	uint8_t *now, *old;
	size_t size;
};

/* The variable that a view is, by where it lies. */
static const struct mb_field *variable_of(const struct mb_view *view)
{
	const struct mb_region *group = view->region->group;
	const struct mb_plan *vars = group ? view->region->vars : NULL;

	for (uint32_t i = 0; vars && i < vars->nfields; i++) {
		const struct mb_field *f = &vars->fields[i];

		if (group->parts[f->part] == view->region && f->off == view->off &&
		    f->plan->size == view->plan->size)
			return f;
	}
	return NULL;
}

/* The variable of that name with a prefix, where it can be written; NULL. */
static uint8_t *beside(const struct mb_view *view, const char *prefix, const char *name,
		       size_t size, struct mb_error *err)
{
	const struct mb_region *group = view->region->group;
	struct mb_view top = { (struct mb_region *)(uintptr_t)group, view->region->vars, group->gen,
			       0, 0 };
	const struct mb_field *f;
	char full[160];

	snprintf(full, sizeof(full), "%s%.128s", prefix, name);
	f = mb_plan_field(top.plan, full);
	if (!f || f->plan->size != size) {
		mb_fail(err, ENOENT, OP, name, "it has no sequence word");
		mb_error_hint(err,
			      "put MB_SEQ(%s); of moonbee.bpf.h after it in C, and read it by "
			      "MB_SEQ_READ",
			      name);
		return NULL;
	}
	if (mb_view_check_store(&top, f, err) != 0)
		return NULL;
	return mb_view_at(&top, f) + f->off;
}

static int find(const struct mb_view *view, struct txn *t, struct mb_error *err)
{
	int rc = mb_view_check(view, NULL, err);
	const struct mb_field *var;

	if (rc)
		return rc;
	var = variable_of(view);
	if (!var) {
		mb_fail(err, EINVAL, OP, view->plan->name, "it is no global variable");
		mb_error_hint(err, "bpf.txn(obj.vars.cfg, fn) changes a variable as a whole");
		return -EINVAL;
	}
	rc = mb_view_check_store(view, NULL, err);
	if (rc)
		return rc;
	t->name = var->name;
	t->size = view->plan->size;
	t->now = view->region->base + view->off;
	t->word = (uint32_t *)(void *)beside(view, "mb_seq_", t->name, sizeof(*t->word), err);
	t->old = t->word ? beside(view, "mb_old_", t->name, t->size, err) : NULL;
	return t->old ? 0 : -ENOENT;
}

static int busy(const struct txn *t, struct mb_error *err)
{
	mb_fail(err, EBUSY, "change variable", t->name, "another process is writing it");
	mb_error_hint(err, "one process at a time may write it");
	return -EBUSY;
}

/* The two low bits of the word. Readers look at the lowest only. */
enum {
	OLD = 1,    /* the variable is being written: its last whole value is beside it */
	LOCKED = 2, /* by a writer, which first puts that value there */
	NEXT = 4,
};

/* Another process may be writing, for a moment; one that died in the middle left the word locked for
 * ever, and only then is it taken over. */
static int lock(const struct txn *t, uint32_t *mine, struct mb_error *err)
{
	uint32_t seen = __atomic_load_n(t->word, __ATOMIC_RELAXED), first = seen;
	uint64_t since = 0;

	for (;;) {
		bool held = seen & (OLD | LOCKED);

		if (held) {
			uint64_t now = mb_now_ns();

			if (!since)
				since = now;
			if (now - since <= PATIENCE_NS) {
				seen = __atomic_load_n(t->word, __ATOMIC_RELAXED);
				continue;
			}
			if (seen != first)
				return busy(t, err); /* it moves: someone writes all the time */
		}
		*mine = (seen | LOCKED) + (held ? NEXT : 0);
		if (__atomic_compare_exchange_n(t->word, &seen, *mine, false, __ATOMIC_ACQUIRE,
						__ATOMIC_RELAXED))
			return 0;
	}
}

/* From one state to the next. false: we were asleep for so long that we were taken for dead. */
static bool advance(const struct txn *t, uint32_t *mine)
{
	uint32_t next = *mine + 1;
	bool done = __atomic_compare_exchange_n(t->word, mine, next, false, __ATOMIC_RELEASE,
						__ATOMIC_RELAXED);

	*mine = next;
	__atomic_thread_fence(__ATOMIC_RELEASE); /* seen before what we write now */
	return done;
}

/* In the widest steps that the place allows, so that no aligned field tears even for those who read
 * without the lock. */
#define COPY(bits)                                                                                 \
	do {                                                                                       \
		uint##bits##_t v;                                                                  \
                                                                                                   \
		memcpy(&v, from + i, sizeof(v));                                                   \
		__atomic_store_n((uint##bits##_t *)(void *)(to + i), v, __ATOMIC_RELAXED);         \
		i += sizeof(v);                                                                    \
	} while (0)

static void copy_words(uint8_t *to, const uint8_t *from, size_t len)
{
	for (size_t i = 0; i < len;) {
		uintptr_t at = (uintptr_t)(to + i);

		if (!(at & 7) && len - i >= 8)
			COPY(64);
		else if (!(at & 3) && len - i >= 4)
			COPY(32);
		else if (!(at & 1) && len - i >= 2)
			COPY(16);
		else
			COPY(8);
	}
}

/* As MB_SEQ_READ does it. */
int mb_txn_begin(const struct mb_view *view, void *bytes, struct mb_error *err)
{
	struct txn t;
	int rc = find(view, &t, err);

	for (int i = 0; !rc && i < TRIES; i++) {
		uint32_t before = __atomic_load_n(t.word, __ATOMIC_ACQUIRE);

		memcpy(bytes, before & 1 ? t.old : t.now, t.size);
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (__atomic_load_n(t.word, __ATOMIC_RELAXED) == before)
			return 0;
	}
	return rc ? rc : busy(&t, err);
}

int mb_txn_commit(const struct mb_view *view, const void *bytes, struct mb_error *err)
{
	struct txn t;
	int rc = find(view, &t, err);

	while (!rc) {
		uint32_t mine;

		rc = lock(&t, &mine, err);
		if (rc)
			break;
		__atomic_thread_fence(__ATOMIC_RELEASE);
		if (!(mine & OLD)) { /* else it died while it wrote: what is beside is whole */
			copy_words(t.old, t.now, t.size);
			if (!advance(&t, &mine))
				continue;
		}
		copy_words(t.now, bytes, t.size);
		if (advance(&t, &mine))
			break;
	}
	return rc;
}
