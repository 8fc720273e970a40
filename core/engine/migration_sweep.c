/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A migration's work: sweeps over the old map take entries to the new one, first while programs write
 * the old map, then, after the switch, until it is quiet.
 */
#include <linux/membarrier.h>
#include <sys/syscall.h>

#include "migrating.h"

/* ---- one entry ------------------------------------------------------------------------------------------------ */

static int convert(struct mb_migration *m, const struct mb_conversion *c, const void *from,
		   void *to, size_t size, struct mb_error *err)
{
	MB_ERROR(why);
	int rc;

	memset(to, 0, size);
	rc = mb_conversion_run(c, from, to, &why);
	if (!rc)
		return 0;
	if (strcmp(why.subject, "value") == 0)
		mb_fail(err, rc, "migrate map", m->from->name, "%s: %s",
			c == m->key ? "a key" : "a value", why.cause);
	else
		mb_fail(err, rc, "migrate map", m->from->name, "field '%s' of a %s: %s",
			why.subject, c == m->key ? "key" : "value", why.cause);
	mb_error_hint(err, "the old map is as it was; give the field a type that holds its values");
	mb_error_fini(&why);
	return rc;
}

static int convert_key(struct mb_migration *m, const void *key, struct mb_error *err)
{
	return convert(m, m->key, key, m->nkey, m->to->info.key_size, err);
}

static int convert_value(struct mb_migration *m, const void *value, void *to, struct mb_error *err)
{
	return convert(m, m->value, value, to, m->to->seen->size, err);
}

static int put(struct mb_migration *m, uint64_t flags, struct mb_error *err)
{
	return mb_map_set(m->to, m->nkey, m->nvalue, flags | m->lock, err);
}

static bool all_zero(const uint8_t *p, size_t n)
{
	return !n || (!*p && memcmp(p, p + 1, n - 1) == 0);
}

/* An array that became shorter: what it has no place for must be empty. */
static bool beyond(const struct mb_migration *m, const void *value)
{
	uint32_t index;

	if (!m->array)
		return false;
	memcpy(&index, m->nkey, sizeof(index));
	return index >= m->to->info.max_entries && all_zero(value, m->from->seen->size);
}

/* Write what waits. It has been remembered as written: if that fails, all is in vain. */
static int flush(struct mb_migration *m, struct mb_error *err)
{
	uint64_t done;
	int rc = m->npending ? mb_map_set_many(m->to, m->pending_keys, m->pending_values,
					       m->npending, m->lock, &done, err) :
			       0;

	m->npending = 0;
	m->broken = m->broken || rc;
	return rc;
}

static int put_later(struct mb_migration *m, struct mb_error *err)
{
	size_t key = m->to->info.key_size, value = m->to->seen->size;

	memcpy(m->pending_keys + m->npending * key, m->nkey, key);
	memcpy(m->pending_values + m->npending * value, m->nvalue, value);
	return ++m->npending == m->room ? flush(m, err) : 0;
}

/* Before the switch: the new map is ours alone. */
static int copy_entry(struct mb_migration *m, const void *key, const void *value, bool known,
		      struct mb_error *err)
{
	bool first = !known && !m->same_key;
	int rc = convert_key(m, key, err);

	if (!rc && beyond(m, value))
		return 0;
	if (!rc)
		rc = convert_value(m, value, m->nvalue, err);
	if (!rc)
		rc = first ? put(m, BPF_NOEXIST, err) : put_later(m, err);
	if (rc < 0)
		return rc;
	if (!rc && first) {
		mb_fail(err, EEXIST, "migrate map", m->from->name,
			"two of its keys would be one in the new layout");
		mb_error_hint(err, "a key must keep the fields that tell its entries apart");
		return -EEXIST;
	}
	m->report.copied++;
	return 0;
}

static int delete_entry(struct mb_migration *m, const void *key, struct mb_error *err)
{
	int rc = convert_key(m, key, err);

	if (!rc)
		rc = mb_map_delete(m->to, m->nkey, err);
	m->report.deleted += rc == 1;
	return rc < 0 ? rc : 0;
}

/* ---- after the switch -------------------------------------------------------------------------------------------- */

/* Is it what we wrote, but for what keep says (0: all counts)? */
static bool untouched(const struct mb_migration *m, const uint8_t *a, const uint8_t *b, int but)
{
	size_t size = m->to->info.value_size, span = m->to->seen->size;
	size_t stride = mb_map_is_percpu(m->to->info.type) ? mb_round_up(size, 8) : size;

	for (size_t at = 0; at < span; at += stride)
		for (size_t i = 0; i < size; i++)
			if (a[at + i] != b[at + i] && !(m->keep[i] & but))
				return false;
	return true;
}

/* What the old map counted since: value (NULL: it is gone, with what it had) against before. */
static bool deltas(const struct mb_migration *m, const uint8_t *before, const uint8_t *value,
		   int64_t *out)
{
	bool any = false;

	for (size_t i = 0; i < m->ncounters; i++) {
		struct mb_value was, is = { .i = 0 };

		mb_value_load(before, &m->counters[i].from, &was);
		if (value)
			mb_value_load(value, &m->counters[i].from, &is);
		out[i] = (int64_t)((uint64_t)is.i - (uint64_t)was.i);
		any = any || out[i];
	}
	return any;
}

/* Sum the counters; store: the rest of the value, too, which is in nvalue. */
static int sum(struct mb_migration *m, const uint8_t *before, const uint8_t *value, bool store,
	       struct mb_error *err)
{
	bool percpu = mb_map_is_percpu(m->to->info.type), any = false;
	size_t from_stride = percpu ? mb_round_up(m->from->info.value_size, 8) : 0;
	size_t to_stride = percpu ? mb_round_up(m->to->info.value_size, 8) : 0;
	size_t n = percpu ? m->to->seen->count : 1;
	int64_t add[MAX_ADDENDS];

	for (size_t cpu = 0; cpu < n; cpu++) {
		bool counted = deltas(m, before + cpu * from_stride,
				      value ? value + cpu * from_stride : NULL, add);
		bool stores = store && memcmp(before + cpu * from_stride, value + cpu * from_stride,
					      m->from->info.value_size) != 0;
		int rc;

		if (!counted && !stores)
			continue;
		rc = mb_sum_run(m->sum, m->nkey, percpu ? (int)cpu : -1, add,
				stores ? m->nvalue + cpu * to_stride : NULL, err);
		if (rc < 0)
			return rc;
		any = any || (rc && counted);
	}
	m->report.summed += any;
	return 0;
}

/* Does a counter of the new map stand lower than when we wrote it? Then a program deleted the entry
 * and made it again: what the old one counted went with the first. */
static bool made_anew(const struct mb_migration *m)
{
	size_t size = m->to->info.value_size, span = m->to->seen->size;
	size_t stride = mb_map_is_percpu(m->to->info.type) ? mb_round_up(size, 8) : size;

	for (size_t at = 0; at < span; at += stride)
		for (size_t i = 0; i < m->ncounters; i++) {
			struct mb_value was, is;

			mb_value_load(m->written + at, &m->counters[i].to, &was);
			mb_value_load(m->there + at, &m->counters[i].to, &is);
			if (m->counters[i].to.plan->is_signed ? is.i < was.i :
								(uint64_t)is.i < (uint64_t)was.i)
				return true;
		}
	return false;
}

/* A key that the old map got since the last pass. */
static int late_new(struct mb_migration *m, const uint8_t *value, struct mb_error *err)
{
	int rc = convert_value(m, value, m->nvalue, err);

	if (!rc)
		rc = put(m, BPF_NOEXIST, err);
	if (rc)
		return rc < 0 ? rc : 0;
	m->report.conflicts++; /* a program was quicker: its value is the later one */
	return m->ncounters ? sum(m, m->zeros, value, false, err) : 0;
}

/* One that changed there since. */
static int late_change(struct mb_migration *m, const uint8_t *before, const uint8_t *value,
		       struct mb_error *err)
{
	int rc = mb_map_get(m->to, m->nkey, m->there, m->lock, err);
	bool same;

	if (rc < 0)
		return rc;
	if (!rc) { /* deleted by a program, later: it stays so */
		m->report.conflicts++;
		return 0;
	}
	rc = convert_value(m, before, m->written, err);
	if (!rc)
		rc = convert_value(m, value, m->nvalue, err);
	if (rc)
		return rc;
	same = untouched(m, m->there, m->written, m->ncounters ? KEEP_ADDEND : 0);
	m->report.conflicts += !same;
	if (m->ncounters)
		return made_anew(m) ? 0 : sum(m, before, value, same, err);
	if (!same)
		return 0;
	rc = put(m, BPF_EXIST, err);
	return rc < 0 ? rc : 0;
}

/* One that was deleted there since. */
static int late_delete(struct mb_migration *m, const uint8_t *before, struct mb_error *err)
{
	int rc = mb_map_get(m->to, m->nkey, m->there, m->lock, err);

	if (rc <= 0)
		return rc;
	rc = convert_value(m, before, m->written, err);
	if (rc)
		return rc;
	if (untouched(m, m->there, m->written, 0)) {
		rc = mb_map_delete(m->to, m->nkey, err);
		return rc < 0 ? rc : 0;
	}
	m->report.conflicts++;
	return m->ncounters ? sum(m, before, NULL, false, err) : 0;
}

static int late_entry(struct mb_migration *m, const void *key, const uint8_t *before,
		      const uint8_t *value, struct mb_error *err)
{
	int rc = convert_key(m, key, err);

	if (rc || beyond(m, value ? value : m->zeros))
		return rc;
	if (!before && m->array) /* it has been there all the time: it was empty */
		before = m->zeros;
	if (!value) {
		m->report.late_deleted++;
		return late_delete(m, before, err);
	}
	if (before) {
		m->report.late_changed++;
		return late_change(m, before, value, err);
	}
	m->report.late_added++;
	return late_new(m, value, err);
}

/* ---- sweeps ---------------------------------------------------------------------------------------------------- */

/* One entry as the old map has it now; remembers it once the new one has it. 1: it was news. */
static int take_in(struct mb_migration *m, const void *key, const void *value, bool late,
		   struct mb_error *err)
{
	struct mb_seen *seen = mb_shadow_find(m->shadow, key);
	bool known = seen && !seen->gone;
	int rc;

	if (known && memcmp(mb_seen_value(m->shadow, seen), value, m->from->seen->size) == 0) {
		seen->pass = m->pass;
		return 0;
	}
	rc = late ? late_entry(m, key, known ? mb_seen_value(m->shadow, seen) : NULL, value, err) :
		    copy_entry(m, key, value, known, err);
	if (rc)
		return rc;
	seen = mb_shadow_put(m->shadow, key, value);
	if (!seen)
		return mb_fail(err, ENOMEM, "migrate map", m->from->name, "out of memory");
	seen->pass = m->pass;
	return 1;
}

/* What this pass did not meet: gone, unless a look says otherwise. */
static int take_out(struct mb_migration *m, struct mb_seen *seen, bool late, struct mb_error *err)
{
	uint8_t *value = malloc(m->from->seen->size);
	int rc = value ? mb_map_get(m->from, mb_seen_key(seen), value, m->from_lock, err) :
			 mb_fail(err, ENOMEM, "migrate map", m->from->name, "out of memory");

	if (rc == 1) {
		rc = take_in(m, mb_seen_key(seen), value, late, err);
	} else if (!rc) {
		rc = late ? late_entry(m, mb_seen_key(seen), mb_seen_value(m->shadow, seen), NULL,
				       err) :
			    delete_entry(m, mb_seen_key(seen), err);
		seen->gone = !rc;
		rc = rc ? rc : 1;
	}
	free(value);
	return rc;
}

static int stopped(struct mb_migration *m, struct mb_error *err)
{
	return mb_fail(err, EINTR, "migrate map", m->name, "interrupted");
}

/* A pass over the old map; *news: how many entries were not as they had been seen. */
static int walk(struct mb_migration *m, bool late, uint64_t *news, struct mb_error *err)
{
	size_t key = m->from->info.key_size, value = m->from->seen->size;
	struct mb_map_iter *it;
	struct mb_region *keys, *values;
	uint32_t n = 1;
	int rc = mb_map_iter_new(m->from, m->from_lock, &it, err);

	if (rc)
		return rc;
	m->report.entries = 0;
	while (!rc && (rc = mb_map_iter_next(it, &keys, &values, &n, err)) == 0 && n) {
		for (uint32_t i = 0; i < n && rc >= 0; i++) {
			rc = take_in(m, keys->base + i * key, values->base + i * value, late, err);
			*news += rc == 1;
		}
		m->report.entries += n;
		rc = rc < 0 ? rc : mb_stop_asked() ? stopped(m, err) : 0;
		mb_region_unref(keys);
		mb_region_unref(values);
	}
	mb_map_iter_free(it);
	return rc;
}

static int sweep_all(struct mb_migration *m, bool late, uint64_t *news, struct mb_error *err)
{
	struct mb_seen *seen;
	int rc = walk(m, late, news, err);

	if (!rc)
		rc = flush(m, err); /* what is deleted next must be there */
	for (size_t i = 0; !rc && (seen = mb_shadow_nth(m->shadow, i)); i++) {
		if (seen->gone || seen->pass == m->pass)
			continue;
		rc = take_out(m, seen, late, err);
		*news += rc == 1;
		rc = rc < 0 ? rc : 0;
	}
	return rc;
}

static int sweep(struct mb_migration *m, bool late, uint64_t *news, struct mb_error *err)
{
	int rc, last;

	if (m->broken)
		return mb_fail(err, EINVAL, "migrate map", m->name,
			       "it failed before: entries are missing in the new map");
	*news = 0;
	m->pass++;
	rc = sweep_all(m, late, news, err);
	last = flush(m, rc ? NULL : err); /* also after a failure: they are taken for written */
	rc = rc ? rc : last;
	m->report.passes += !rc;
	return rc;
}

int mb_migration_copy(struct mb_migration *m, struct mb_error *err)
{
	uint64_t news;
	int rc = mb_map_check(m->from, "migrate map", err);

	if (!rc)
		rc = mb_map_check(m->to, "migrate map", err);
	return rc ? rc : sweep(m, false, &news, err);
}

int mb_migration_finish(struct mb_migration *m, struct mb_error *err)
{
	int rc = mb_map_check(m->from, "migrate map", err);
	uint64_t news = 1;

	if (!rc)
		rc = mb_map_check(m->to, "migrate map", err);
	/* Programs that began before the switch write the old map until they end: wait as the kernel
	 * does for them (of those that may sleep the sweeps below find what they wrote). */
	syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
	for (int i = 0; i < SWEEPS && news && !rc; i++)
		rc = sweep(m, true, &news, err);
	m->report.busy = news != 0;
	return rc;
}
