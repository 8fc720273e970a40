/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Iterators: link:read, link:lines, link:records. Each call starts the program anew; it runs as it is
 * read.
 */
#include <errno.h>

#include "bind.h"
#include "engine/iter.h"

#define BATCH 256u /* records that are read at once */

/* The state of a for loop, and its closing value. */
struct iter_ud {
	struct mb_iter *iter; /* NULL: over */
	const struct mb_plan *plan;
	struct mb_region *batch; /* of records; views of them hold it, too */
	uint32_t at, n;
	bool busy; /* a step is reading the batch */
	int ncolumns;
	struct mb_column columns[];
};

enum { UV_LINK = 1, UV_TYPE };

static const char *const ITER = "moonbee.iter";

static void drop_batch(struct iter_ud *ud)
{
	mb_region_unref(ud->batch);
	ud->batch = NULL;
	ud->at = ud->n = 0;
}

/* A step makes Lua values, and so a finalizer may end the loop in the midst of it: the step then drops
 * the batch itself. */
static void end(struct iter_ud *ud)
{
	mb_iter_free(ud->iter);
	ud->iter = NULL;
	if (!ud->busy)
		drop_batch(ud);
}

static int iter_close(lua_State *L)
{
	end(luaL_checkudata(L, 1, ITER));
	return 0;
}

/* Nobody can be in a step of what is collected; one that raised has left its mark. */
static int iter_gc(lua_State *L)
{
	struct iter_ud *ud = luaL_checkudata(L, 1, ITER);

	ud->busy = false;
	end(ud);
	return 0;
}

/* The userdata first, so that nothing is without an owner. */
static struct iter_ud *push_iter(lua_State *L, int ncolumns)
{
	struct mb_link *link = mb_class_check(L, 1, &mb_link_class);
	struct iter_ud *ud = lua_newuserdatauv(
		L, sizeof(*ud) + (size_t)ncolumns * sizeof(ud->columns[0]), UV_TYPE);
	MB_ERROR(err);

	memset(ud, 0, sizeof(*ud));
	luaL_setmetatable(L, ITER);
	lua_pushvalue(L, 1);
	lua_setiuservalue(L, -2, UV_LINK);
	if (mb_iter_open(link, &ud->iter, &err) != 0)
		mb_raise(L, &err);
	return ud;
}

/* ---- text -------------------------------------------------------------------------------------------- */

/* link:read() -> all of it */
int mb_link_read(lua_State *L)
{
	struct iter_ud *ud = push_iter(L, 0);
	MB_ERROR(err);
	luaL_Buffer b;
	int64_t n;

	luaL_buffinit(L, &b);
	do {
		n = mb_iter_read(ud->iter, luaL_prepbuffsize(&b, 65536), 65536, &err);
		if (n < 0)
			return mb_raise(L, &err);
		luaL_addsize(&b, (size_t)n);
	} while (n > 0);
	luaL_pushresult(&b);
	end(ud);
	return 1;
}

static int next_line(lua_State *L)
{
	struct iter_ud *ud = luaL_checkudata(L, 1, ITER);
	const char *line;
	MB_ERROR(err);
	size_t len;
	int rc = ud->iter ? mb_iter_line(ud->iter, &line, &len, &err) : 0;

	if (rc < 0)
		return mb_raise(L, &err);
	if (!rc)
		return 0;
	lua_pushlstring(L, line, len);
	return 1;
}

/* The four values of a for loop, of the userdata on top. */
static int loop_values(lua_State *L, lua_CFunction step)
{
	lua_pushcfunction(L, step);
	lua_pushvalue(L, -2);
	lua_pushnil(L);
	lua_pushvalue(L, -2 - 2);
	return 4;
}

/* for line in link:lines() */
int mb_link_lines(lua_State *L)
{
	push_iter(L, 0);
	return loop_values(L, next_line);
}

/* ---- records ----------------------------------------------------------------------------------------- */

static const struct mb_plan *plan_arg(lua_State *L, int i)
{
	const struct mb_plan *plan = mb_type_test(L, i);
	MB_ERROR(err);

	if (!plan && mb_iter_type(mb_class_check(L, 1, &mb_link_class), luaL_checkstring(L, i),
				  &plan, &err) != 0)
		mb_raise(L, &err);
	if (plan->enc != MB_ENC_NONE || !plan->size)
		mb_mistake(L, NULL, "records are structs, not %s", plan->name);
	return plan;
}

/* Read the next batch: is there a record? */
static bool next_batch(lua_State *L, struct iter_ud *ud)
{
	size_t size = ud->plan->size;
	MB_ERROR(err);
	int64_t n;

	drop_batch(ud);
	ud->batch = mb_region_bytes(size * BATCH, MB_REGION_SNAPSHOT, "a record of an iterator");
	if (!ud->batch)
		luaL_error(L, "not enough memory");
	ud->batch->whole = ud->plan;
	ud->batch->each = (uint32_t)size;
	n = mb_iter_read(ud->iter, ud->batch->base, size * BATCH, &err);
	if (n < 0)
		mb_raise(L, &err);
	if ((size_t)n % size) {
		mb_iter_free(ud->iter);
		ud->iter = NULL;
		luaL_error(
			L,
			"the iterator's output ends within a record: %s has %d bytes, and %d are left",
			ud->plan->name, (int)size, (int)((size_t)n % size));
	}
	ud->n = (uint32_t)((size_t)n / size);
	return ud->n > 0;
}

static int push_record(lua_State *L, const struct iter_ud *ud, uint32_t off)
{
	struct mb_view view = { ud->batch, ud->plan, ud->batch->gen, off, 0 };

	if (!ud->ncolumns) {
		mb_view_push(L, &view, 0);
		return 1;
	}
	mb_columns_push(L, ud->columns, ud->ncolumns, ud->batch, off, ud->batch->gen);
	return ud->ncolumns;
}

static int next_record(lua_State *L)
{
	struct iter_ud *ud = luaL_checkudata(L, 1, ITER);
	int n;

	if (ud->busy)
		return mb_mistake(L, NULL, "a step of this loop was not finished");
	if (!ud->iter || (ud->at == ud->n && !next_batch(L, ud)))
		return 0;
	ud->busy = true;
	n = push_record(L, ud, ud->at++ * ud->plan->size);
	ud->busy = false;
	if (!ud->iter)
		drop_batch(ud);
	return n;
}

/* for rec in link:records(type) / for a, b in link:records(type, "a", "b") */
int mb_link_records(lua_State *L)
{
	const struct mb_plan *plan = plan_arg(L, 2);
	int n = lua_gettop(L) - 2;
	struct iter_ud *ud;

	if (n > MB_MAX_COLUMNS)
		return luaL_error(L, "at most %d columns", MB_MAX_COLUMNS);
	ud = push_iter(L, n);
	ud->plan = plan;
	mb_type_push(L, plan); /* keeps the plan */
	lua_setiuservalue(L, -2, UV_TYPE);
	if (n)
		mb_columns_find(L, 3, n, plan, false, ud->columns);
	ud->ncolumns = n;
	return loop_values(L, next_record);
}

void mb_iter_classes(lua_State *L)
{
	luaL_newmetatable(L, ITER);
	lua_pushcfunction(L, iter_close);
	lua_setfield(L, -2, "__close");
	lua_pushcfunction(L, iter_gc);
	lua_setfield(L, -2, "__gc");
	lua_pushstring(L, ITER);
	lua_setfield(L, -2, "__metatable");
	lua_pop(L, 1);
}
