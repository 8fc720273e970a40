/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Maps without keys: push, pop and peek of queues, stacks and bloom filters.
 */
#include "bind.h"
#include "engine/map_kind.h"

static struct mb_map *self(lua_State *L)
{
	return mb_class_check(L, 1, &mb_map_class);
}

/* map:push(value [, "overwrite"])      overwrite: drops the oldest where it is full */
int mb_queue_push_lua(lua_State *L)
{
	static const char *const names[] = { "overwrite", NULL };
	uint64_t small[MB_SMALL / 8];
	struct mb_map *map = self(L);
	struct mb_entry e = mb_entry_of(L, map, MB_OP_PUSH);
	bool overwrite = !lua_isnoneornil(L, 3);
	void *value = mb_map_buffer(L, small, e.value->size);
	MB_ERROR(err);

	if (overwrite)
		luaL_checkoption(L, 3, NULL, names);
	mb_encode_value(L, 2, &e, NULL, value);
	if (mb_queue_push(map, value, overwrite, &err) != 0)
		return mb_raise(L, &err);
	return 0;
}

typedef int (*fetch_fn)(struct mb_map *map, void *value, struct mb_error *err);

static int fetch(lua_State *L, struct mb_map *map, const struct mb_entry *e, fetch_fn fn)
{
	struct mb_region *region =
		mb_map_memory_new(L, map, "value", e->value, 1, MB_REGION_SNAPSHOT);
	MB_ERROR(err);
	int rc = fn(map, region->base, &err);

	if (rc < 0)
		return mb_raise(L, &err);
	if (rc)
		mb_push_value(L, map, e, region, 0, -1);
	else
		lua_pushnil(L);
	return 1;
}

/* map:pop() -> value | nil if empty */
int mb_queue_pop_lua(lua_State *L)
{
	struct mb_map *map = self(L);
	struct mb_entry e = mb_entry_of(L, map, MB_OP_POP);

	return fetch(L, map, &e, mb_queue_pop);
}

/* map:peek() -> value | nil      of a bloom filter map:peek(value) -> is it in there, maybe? */
int mb_queue_peek_lua(lua_State *L)
{
	uint64_t small[MB_SMALL / 8];
	struct mb_map *map = self(L);
	struct mb_entry e = mb_entry_of(L, map, MB_OP_PEEK);
	MB_ERROR(err);
	void *value;
	int rc;

	if (e.kind->ops & MB_OP_POP) {
		luaL_argcheck(L, lua_isnoneornil(L, 2), 2, "only a bloom filter is asked for one");
		return fetch(L, map, &e, mb_queue_peek);
	}
	value = mb_map_buffer(L, small, e.value->size);
	mb_encode_value(L, 2, &e, NULL, value);
	rc = mb_queue_peek(map, value, &err);
	if (rc < 0)
		return mb_raise(L, &err);
	lua_pushboolean(L, rc);
	return 1;
}
