/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * for k, v in pairs(map): a batch at a time underneath. Views of one batch share its memory, which is
 * Lua's, so that they need no finalizer; with columns no view of a value is made at all.
 */
#include "bind.h"
#include "engine/map_kind.h"

static const char *const CLASS = "moonbee.walk";

/* Uservalues: what the walk keeps. */
enum { UV_MAP = 1, UV_BATCH, UV_LAST = UV_BATCH };

/* Upvalues of a step: its walk, whatever it is called with; the metatables of views, or nil. */
enum { UP_WALK = 1, UP_KEY, UP_VALUE, UP_LAST = UP_VALUE };

static const char magic; /* its address marks a walk: cheaper to ask than the metatable */

struct walk_ud {
	const void *magic;
	struct mb_map_iter *iter;
	struct mb_region *keys, *values; /* the batch at hand */
	uint32_t n, i;
	struct mb_map *map; /* UV_MAP keeps it */
	struct mb_entry e;
	const struct mb_lookup *key, *value; /* of views; NULL: they are none */
	bool complete;			     /* at the end: it has seen all */
	bool busy;			     /* a step is reading the batch */
	bool lasting;			     /* views are made: the batch moves into Lua's memory */
	int ncolumns;
	struct mb_column columns[];
};

/* Any userdata may come as self; its size is asked before a look inside. */
static inline struct walk_ud *self(lua_State *L)
{
	struct walk_ud *w = lua_touserdata(L, 1);

	if (!w || lua_rawlen(L, 1) < sizeof(*w) || w->magic != &magic)
		luaL_typeerror(L, 1, CLASS);
	return w;
}

static void drop_batch(struct walk_ud *w)
{
	mb_region_unref(w->keys);
	mb_region_unref(w->values);
	w->keys = w->values = NULL;
	w->n = w->i = 0;
}

/* A step makes Lua values, and so a finalizer may close the walk in the midst of it: the step then
 * drops the batch itself. */
static int close_walk(struct walk_ud *w)
{
	struct mb_map_iter *iter = w->iter;

	w->complete = iter && mb_map_iter_complete(iter);
	w->iter = NULL;
	if (!w->busy)
		drop_batch(w);
	mb_map_iter_free(iter);
	return 0;
}

static int walk_close(lua_State *L)
{
	return close_walk(self(L));
}

/* Nobody can be in a step of what is collected; one that raised has left its mark. */
static int walk_gc(lua_State *L)
{
	struct walk_ud *w = self(L);

	w->busy = false;
	return close_walk(w);
}

/* A batch for views: the regions and their bytes in one userdata, which the views keep. */
struct batch_ud {
	struct mb_region keys, values;
	_Alignas(8) uint8_t bytes[]; /* as userdata is aligned */
};

static void move_region(struct mb_region *to, const struct mb_region *from, uint8_t *bytes)
{
	*to = *from;
	to->base = bytes;
	to->refs = 2; /* one more than the walk gives back: the memory is Lua's */
	to->drop = NULL;
	memcpy(bytes, from->base, from->len);
}

/* The engine's batch, which the walk holds meanwhile, becomes Lua's. */
static void move_batch(lua_State *L, struct walk_ud *w)
{
	size_t keys = (w->keys->len + 7) & ~(size_t)7;
	struct batch_ud *b = lua_newuserdatauv(L, sizeof(*b) + keys + w->values->len, 0);

	move_region(&b->keys, w->keys, b->bytes);
	move_region(&b->values, w->values, b->bytes + keys);
	lua_setiuservalue(L, lua_upvalueindex(UP_WALK), UV_BATCH);
	mb_region_unref(w->keys);
	mb_region_unref(w->values);
	w->keys = &b->keys;
	w->values = &b->values;
}

#define AT_BATCH 2 /* on a step's stack: the batch, which views keep */

/* Key or value number i of the batch: a value, or a view that keeps the batch. */
static void push_part(lua_State *L, struct mb_region *region, const struct mb_plan *plan,
		      uint32_t i, const struct mb_lookup *lookup, int upvalue)
{
	struct mb_view view = { region, plan, region->gen, i * plan->size, plan->count };

	if (lookup)
		mb_view_push_kept(L, &view, lookup, lua_upvalueindex(upvalue), AT_BATCH);
	else
		mb_push_view(L, &view, 0);
}

/* A map or program, which may be gone meanwhile, or a stack: what the bytes stand for. */
static bool push_thing(lua_State *L, struct walk_ud *w)
{
	return mb_push_value(L, w->map, &w->e, w->values, w->i * w->e.value->size, AT_BATCH);
}

/* The entry at hand: its key, then its value or the columns of that. 0: it is gone. */
static int push_entry(lua_State *L, struct walk_ud *w)
{
	if (w->lasting)
		lua_getiuservalue(L, lua_upvalueindex(UP_WALK), UV_BATCH);
	push_part(L, w->keys, w->e.key, w->i, w->key, UP_KEY);
	if (w->e.kind->holds != MB_HOLDS_DATA)
		return push_thing(L, w) ? 2 : 0;
	if (!w->ncolumns) {
		push_part(L, w->values, w->e.value, w->i, w->value, UP_VALUE);
		return 2;
	}
	mb_columns_push(L, w->columns, w->ncolumns, w->values, w->i * w->e.value->size,
			w->values->gen);
	return 1 + w->ncolumns;
}

/* Make the next entry the one at hand; false: the end. */
static bool advance(lua_State *L, struct walk_ud *w)
{
	MB_ERROR(err);

	if (w->i < w->n)
		return true;
	drop_batch(w);
	if (mb_map_iter_next(w->iter, &w->keys, &w->values, &w->n, &err) != 0)
		mb_raise(L, &err);
	if (!w->n)
		return false;
	w->busy = true;
	if (w->lasting)
		move_batch(L, w);
	return true;
}

static int walk_next(lua_State *L)
{
	struct walk_ud *w = lua_touserdata(L, lua_upvalueindex(UP_WALK));
	int n = 0;

	if (!w->iter)
		return 0;
	if (w->busy) /* the step below this one reads the batch still */
		return mb_mistake(L, NULL, "a step of this walk was not finished");
	while (!n) {
		if (!w->iter || !advance(L, w))
			return close_walk(w);
		w->busy = true;
		lua_settop(L, 1);
		n = push_entry(L, w);
		w->busy = false;
		w->i++;
	}
	if (!w->iter)
		drop_batch(w);
	return n;
}

/* Push the metatable of the views that the walk will make, or nil: it makes none of plan. */
static const struct mb_lookup *push_metatable(lua_State *L, struct walk_ud *w,
					      const struct mb_plan *plan)
{
	if (!plan || plan->enc != MB_ENC_NONE) {
		lua_pushnil(L);
		return NULL;
	}
	w->lasting = true;
	return mb_view_kept_metatable(L, plan);
}

/* Push a walk over the map at index 1, for n columns named from index 2 on, and its step. */
static struct walk_ud *walk_new(lua_State *L, int n, uint64_t flags)
{
	struct mb_map *map = mb_class_check(L, 1, &mb_map_class);
	struct mb_entry e = mb_entry_of(L, map, MB_OP_GET | MB_OP_WALK);
	struct walk_ud *w;
	MB_ERROR(err);

	w = lua_newuserdatauv(L, sizeof(*w) + (size_t)n * sizeof(w->columns[0]), UV_LAST);
	memset(w, 0, sizeof(*w));
	w->magic = &magic;
	luaL_setmetatable(L, CLASS);
	lua_pushvalue(L, 1);
	lua_setiuservalue(L, -2, UV_MAP);
	w->map = map;
	w->e = e;
	if (mb_map_iter_new(map, flags, &w->iter, &err) != 0)
		mb_raise(L, &err);
	if (n && (e.value->enc != MB_ENC_NONE || e.kind->holds != MB_HOLDS_DATA))
		mb_mistake(L, NULL, "columns are for structs, and the value is %s", e.value->name);
	mb_columns_find(L, 2, n, e.value, false, w->columns);
	w->ncolumns = n;
	w->lasting = e.kind->holds == MB_HOLDS_STACK;
	lua_pushvalue(L, -1);
	w->key = push_metatable(L, w, e.key);
	w->value = push_metatable(L, w, n || e.kind->holds != MB_HOLDS_DATA ? NULL : e.value);
	lua_pushcclosure(L, walk_next, UP_LAST);
	return w;
}

/* map:pairs([column, …]) -> the values of a for loop: key, then the value or its columns */
int mb_map_pairs(lua_State *L)
{
	int n = lua_gettop(L) - 1;

	if (n > MB_MAX_COLUMNS)
		return luaL_error(L, "at most %d columns", MB_MAX_COLUMNS);
	walk_new(L, n < 0 ? 0 : n, 0);
	lua_pushvalue(L, -2);
	lua_pushnil(L);
	lua_pushvalue(L, -2);
	return 4;
}

/* map:snapshot(["lock"]) -> { { key =, value = }, … }, complete */
int mb_map_snapshot(lua_State *L)
{
	struct walk_ud *w;
	lua_Integer n = 0;
	uint64_t flags;
	bool complete;

	mb_class_check(L, 1, &mb_map_class);
	flags = mb_map_lock_flag(L, 2);
	lua_settop(L, 1);
	w = walk_new(L, 0, flags);
	lua_newtable(L);
	for (;;) {
		/* the end closes the walk, and with it goes what it knows */
		lua_pushvalue(L, 3);
		lua_pushvalue(L, 2);
		lua_call(L, 1, 2);
		if (lua_isnil(L, -2))
			break;
		lua_createtable(L, 0, 2);
		lua_insert(L, -3);
		lua_setfield(L, -3, "value");
		lua_setfield(L, -2, "key");
		lua_rawseti(L, 4, ++n);
	}
	complete = w->complete;
	lua_settop(L, 4);
	lua_pushboolean(L, complete);
	return 2;
}

void mb_walk_open(lua_State *L)
{
	luaL_newmetatable(L, CLASS);
	lua_pushcfunction(L, walk_close);
	lua_setfield(L, -2, "__close");
	lua_pushcfunction(L, walk_gc);
	lua_setfield(L, -2, "__gc");
	lua_pushstring(L, CLASS);
	lua_setfield(L, -2, "__metatable");
	lua_pop(L, 1);
}
