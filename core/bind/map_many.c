/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Many entries of a map in one call. All of a call's keys and values are checked before the first one
 * is written; a refusal in the midst of it says how many were.
 */
#include <stdio.h>

#include "bind.h"
#include "engine/map_kind.h"

#define MOST INT32_MAX

static struct mb_map *self(lua_State *L)
{
	return mb_class_check(L, 1, &mb_map_class);
}

/* The n of a sequence at index i. */
static uint32_t sequence(lua_State *L, int i)
{
	lua_Unsigned n;

	luaL_checktype(L, i, LUA_TTABLE);
	n = lua_rawlen(L, i);
	luaL_argcheck(L, n <= MOST, i, "too many");
	return (uint32_t)n;
}

/* What is wrong with one of many is told as with one; which one it was stands before that. */
static void raise_partly(lua_State *L, struct mb_error *err, const char *done, uint64_t n,
			 uint32_t of)
{
	char cause[sizeof(err->cause)];

	snprintf(cause, sizeof(cause), "%llu of %u are %s, then: %.400s", (unsigned long long)n, of,
		 done, err->cause);
	memcpy(err->cause, cause, sizeof(cause));
	mb_raise(L, err);
}

/* Push memory with the keys of the sequence at index i. An owner that is gone has no storage: its fd
 * is -1, which no kernel call gets to see. */
static uint8_t *encode_keys(lua_State *L, int i, struct mb_map *map, const struct mb_entry *e,
			    struct mb_fds *fds, uint32_t n, bool absent)
{
	struct mb_region *keys = mb_map_memory_new(L, map, "key", e->key, n, 0);

	for (uint32_t k = 0; k < n; k++) {
		lua_rawgeti(L, i, (lua_Integer)k + 1);
		mb_encode_key(L, lua_gettop(L), e, fds, absent,
			      keys->base + (size_t)k * e->key->size);
		lua_pop(L, 1);
	}
	return keys->base;
}

static bool is_gone(const struct mb_fds *fds, const uint8_t *key)
{
	int fd;

	if (!fds)
		return false;
	memcpy(&fd, key, sizeof(fd));
	return fd < 0;
}

/* ---- get ------------------------------------------------------------------------------------------ */

static int fetch_many(struct mb_map *map, const struct mb_entry *e, const struct mb_fds *fds,
		      const uint8_t *keys, uint8_t *values, uint8_t *found, uint32_t n,
		      uint64_t flags, struct mb_error *err)
{
	if (!fds)
		return mb_map_get_many(map, keys, values, found, n, flags, err);
	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *key = keys + (size_t)i * e->key->size;
		int rc = is_gone(fds, key) ?
				 0 :
				 mb_map_get(map, key, values + (size_t)i * e->value->size, flags,
					    err);

		if (rc < 0)
			return rc;
		found[i] = rc > 0;
	}
	return 0;
}

/* map:get_many(keys [, "lock"]) -> { [i] = value of keys[i] }, found */
int mb_map_get_many_lua(lua_State *L)
{
	struct mb_map *map = self(L);
	struct mb_entry e = mb_entry_of(L, map, MB_OP_GET);
	uint32_t n = sequence(L, 2), count = 0;
	uint64_t flags = mb_map_lock_flag(L, 3);
	struct mb_region *values;
	struct mb_fds *fds;
	uint8_t *keys, *found;
	int values_at;
	MB_ERROR(err);

	lua_settop(L, 2);
	fds = mb_fds_new(L, &e, n);
	keys = encode_keys(L, 2, map, &e, fds, n, true);
	found = lua_newuserdatauv(L, n + 1, 0);
	memset(found, 0, n + 1);
	values = mb_map_memory_new(L, map, "value", e.value, n, MB_REGION_SNAPSHOT);
	values_at = lua_gettop(L);
	if (fetch_many(map, &e, fds, keys, values->base, found, n, flags, &err) != 0)
		return mb_raise(L, &err);
	mb_fds_close(fds);
	lua_createtable(L, (int)n, 0);
	for (uint32_t i = 0; i < n; i++) {
		if (!found[i])
			continue;
		count += mb_push_value(L, map, &e, values, i * e.value->size, values_at);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	lua_pushinteger(L, count);
	return 2;
}

/* ---- set ------------------------------------------------------------------------------------------ */

struct rows {
	uint8_t *keys, *values;
	uint32_t n;
	struct mb_fds *fds;
};

static uint32_t count_pairs(lua_State *L, int i)
{
	uint32_t n = 0;

	luaL_checktype(L, i, LUA_TTABLE);
	for (lua_pushnil(L); lua_next(L, i); lua_pop(L, 1)) {
		luaL_argcheck(L, n < MOST, i, "too many");
		n++;
	}
	return n;
}

static void rows_new(lua_State *L, struct rows *r, struct mb_map *map, const struct mb_entry *e)
{
	r->fds = mb_fds_new(L, e, 2 * r->n);
	r->keys = mb_map_memory_new(L, map, "key", e->key, r->n, 0)->base;
	r->values = mb_map_memory_new(L, map, "value", e->value, r->n, 0)->base;
}

static void encode_row(lua_State *L, struct rows *r, const struct mb_entry *e, uint32_t at, int key,
		       int value)
{
	mb_encode_key(L, key, e, r->fds, false, r->keys + (size_t)at * e->key->size);
	mb_encode_value(L, value, e, r->fds, r->values + (size_t)at * e->value->size);
}

/* { [key] = value }: nothing of the caller's runs in between, but finalizers may. */
static void rows_of_table(lua_State *L, struct rows *r, struct mb_map *map,
			  const struct mb_entry *e)
{
	uint32_t at = 0;

	r->n = count_pairs(L, 2);
	rows_new(L, r, map, e);
	for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
		if (at == r->n)
			mb_mistake(L, NULL, "the table was changed meanwhile");
		encode_row(L, r, e, at++, lua_gettop(L) - 1, lua_gettop(L));
	}
	r->n = at;
}

/* { key, … }, { value, … }: for keys that are tables or views. */
static void rows_of_sequences(lua_State *L, struct rows *r, struct mb_map *map,
			      const struct mb_entry *e)
{
	uint32_t values = sequence(L, 3);

	r->n = sequence(L, 2);
	if (r->n != values)
		mb_mistake(L, NULL, "%d keys and %d values", (int)r->n, (int)values);
	rows_new(L, r, map, e);
	for (uint32_t at = 0; at < r->n; at++) {
		lua_rawgeti(L, 2, (lua_Integer)at + 1);
		lua_rawgeti(L, 3, (lua_Integer)at + 1);
		encode_row(L, r, e, at, lua_gettop(L) - 1, lua_gettop(L));
		lua_pop(L, 2);
	}
}

/* map:set_many({ [key] = value } [, how]) -> stored
 * map:set_many(keys, values [, how]) -> stored */
int mb_map_set_many_lua(lua_State *L)
{
	struct mb_map *map = self(L);
	struct mb_entry e = mb_entry_of(L, map, MB_OP_SET);
	bool two = lua_type(L, 3) == LUA_TTABLE;
	uint64_t flags = mb_map_flags(L, two ? 4 : 3), done;
	struct rows r;
	MB_ERROR(err);

	lua_settop(L, 4);
	if (two)
		rows_of_sequences(L, &r, map, &e);
	else
		rows_of_table(L, &r, map, &e);
	if (mb_map_set_many(map, r.keys, r.values, r.n, flags, &done, &err) != 0)
		raise_partly(L, &err, "stored", done, r.n);
	mb_fds_close(r.fds);
	lua_pushinteger(L, (lua_Integer)done);
	return 1;
}

/* ---- delete ---------------------------------------------------------------------------------------- */

/* map:delete_many(keys) -> deleted */
int mb_map_delete_many_lua(lua_State *L)
{
	struct mb_map *map = self(L);
	struct mb_entry e = mb_entry_of(L, map, MB_OP_DELETE);
	uint32_t n = sequence(L, 2), kept = 0;
	struct mb_fds *fds;
	uint64_t done;
	uint8_t *keys;
	MB_ERROR(err);

	lua_settop(L, 2);
	fds = mb_fds_new(L, &e, n);
	keys = encode_keys(L, 2, map, &e, fds, n, true);
	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *key = keys + (size_t)i * e.key->size;

		if (!is_gone(fds, key))
			memmove(keys + (size_t)kept++ * e.key->size, key, e.key->size);
	}
	if (mb_map_delete_many(map, keys, kept, &done, &err) != 0)
		raise_partly(L, &err, "deleted", done, n);
	mb_fds_close(fds);
	lua_pushinteger(L, (lua_Integer)done);
	return 1;
}
