/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writers of user ring buffers: reserve a typed record, fill it in place, submit it.
 */
#include <errno.h>

#include "bind.h"
#include "engine/writer.h"

static const struct mb_plan *find_plan(lua_State *L, int i, struct mb_map *map)
{
	const struct mb_plan *plan = mb_type_test(L, i);
	MB_ERROR(err);

	if (!plan && !lua_isnoneornil(L, i) &&
	    mb_map_type(map, luaL_checkstring(L, i), &plan, &err) != 0)
		mb_raise(L, &err);
	if (plan && plan->enc != MB_ENC_NONE)
		mb_mistake(L, NULL, "records are structs, not %s", plan->name);
	return plan;
}

/* map:writer([type]) -> writer      of a user ring buffer; without a type: bytes */
int mb_writer_open(lua_State *L)
{
	struct mb_map *map = mb_class_check(L, 1, &mb_map_class);
	const struct mb_plan *plan = find_plan(L, 2, map);
	struct mb_handle *ud = mb_class_new(L, &mb_writer_class, 1);
	struct mb_writer *writer;
	MB_ERROR(err);

	if (mb_writer_new(map, plan, &writer, &err) != 0)
		return mb_raise(L, &err);
	ud->thing = writer;
	return 1;
}

static struct mb_writer *self(lua_State *L)
{
	return mb_class_check(L, 1, &mb_writer_class);
}

/* How long a record is: the argument, or its type's size. */
static size_t length_arg(lua_State *L, int i, const struct mb_plan *plan)
{
	lua_Integer n = luaL_optinteger(L, i, plan ? (lua_Integer)mb_plan_least(plan) : 0);
	lua_Integer least = plan ? (lua_Integer)mb_plan_least(plan) : 1;

	if (lua_isnoneornil(L, i) && plan && plan->size > (uint32_t)n)
		n = plan->size;
	if (n < least)
		mb_mistake(L, NULL, "a record has at least %d bytes, not %lld", (int)least,
			   (long long)n);
	return (size_t)n;
}

/* writer:reserve([bytes]) -> view | nil: the ring is full */
static int writer_reserve(lua_State *L)
{
	struct mb_writer *writer = self(L);
	const struct mb_plan *plan = mb_writer_plan(writer);
	size_t len = length_arg(L, 2, plan);
	struct mb_view view = { 0 };
	MB_ERROR(err);
	int rc;

	if (!plan)
		return mb_mistake(L, "m:writer(\"struct command\") says what a record is",
				  "a writer without type reserves nothing: use w:send(bytes)");
	rc = mb_writer_reserve(writer, len, &view.region, &err);
	if (rc < 0)
		return mb_raise(L, &err);
	if (!rc)
		return 0;
	view.plan = plan;
	view.born = view.region->gen;
	view.count = mb_plan_tail(plan) ? (uint32_t)len : 0;
	if (mb_view_try_take(L, &view, 1) == LUA_OK)
		return 1;
	mb_writer_submit(writer, view.region, true,
			 NULL); /* nobody else can: it would block the ring */
	return lua_error(L);
}

static int end_reservation(lua_State *L, bool discard)
{
	struct mb_writer *writer = self(L);
	const struct mb_view *view = mb_view_arg(L, 2);
	MB_ERROR(err);

	if (view->region->gen != view->born || view->off)
		return mb_mistake(L, NULL, "that is no record that it has reserved%s",
				  view->region->ended ? ": it has ended" : "");
	if (mb_writer_submit(writer, view->region, discard, &err) != 0)
		return mb_raise(L, &err);
	return 0;
}

/* writer:submit(view) */
static int writer_submit(lua_State *L)
{
	return end_reservation(L, false);
}

/* writer:discard(view) */
static int writer_discard(lua_State *L)
{
	return end_reservation(L, true);
}

/* The bytes of what is to be sent: a string, a view, or a table for the type. Raises. */
static const void *bytes_arg(lua_State *L, int i, const struct mb_plan *plan, size_t *len)
{
	const uint8_t *bytes = NULL;
	const struct mb_view *v;
	MB_ERROR(err);

	if (lua_type(L, i) == LUA_TSTRING)
		return lua_tolstring(L, i, len);
	if (lua_istable(L, i)) {
		if (!plan)
			mb_mistake(L, "m:writer(\"struct command\") says what a record is",
				   "a writer without type sends strings and views, no tables");
		mb_encode_view(
			L, i, mb_view_push_new(L, plan, plan->size, MB_REGION_WRITABLE, plan->name),
			MB_ENCODE_INIT);
		lua_replace(L, i);
	}
	v = mb_view_arg(L, i);
	if (mb_view_bytes(v, &bytes, len, &err) != 0)
		mb_raise(L, &err);
	return bytes;
}

/* writer:send(table | bytes | view) -> true | false: the ring is full */
static int writer_send(lua_State *L)
{
	struct mb_writer *writer = self(L);
	const struct mb_plan *plan = mb_writer_plan(writer);
	struct mb_region *region;
	const void *bytes;
	size_t len = 0;
	MB_ERROR(err);
	int rc;

	lua_settop(L, 2);
	bytes = bytes_arg(L, 2, plan, &len);
	if (plan && len < mb_plan_least(plan))
		return mb_mistake(L, NULL, "%s has %d bytes, and this has %d", plan->name,
				  (int)mb_plan_least(plan), (int)len);
	rc = mb_writer_reserve(writer, len, &region, &err);
	if (rc > 0) {
		memcpy(region->base, bytes, len);
		if (mb_writer_submit(writer, region, false, &err) != 0)
			rc = -1;
		mb_region_unref(region);
	}
	if (rc < 0)
		return mb_raise(L, &err);
	lua_pushboolean(L, rc > 0);
	return 1;
}

/* writer:wait([seconds [, bytes]]) -> true when there is room, false when the time is over */
static int writer_wait(lua_State *L)
{
	struct mb_writer *writer = self(L);
	double seconds = luaL_optnumber(L, 2, -1);
	size_t len = lua_isnoneornil(L, 3) && !mb_writer_plan(writer) ?
			     1 :
			     length_arg(L, 3, mb_writer_plan(writer));
	MB_ERROR(err);
	int rc = mb_writer_wait(writer, len, seconds, mb_interrupt_fd(), &err);

	if (rc < 0 && rc != -EINTR)
		return mb_raise(L, &err);
	lua_pushboolean(L, rc > 0); /* interrupted: the hook raises as soon as Lua runs again */
	return 1;
}

static void push_stats(lua_State *L, struct mb_writer *writer)
{
	struct mb_writer_stats stats;
	MB_ERROR(err);

	if (mb_writer_stats(writer, &stats, &err) != 0)
		mb_raise(L, &err);
	lua_createtable(L, 0, 4);
	lua_pushinteger(L, (lua_Integer)stats.submitted);
	lua_setfield(L, -2, "submitted");
	lua_pushinteger(L, (lua_Integer)stats.discarded);
	lua_setfield(L, -2, "discarded");
	lua_pushinteger(L, (lua_Integer)stats.pending);
	lua_setfield(L, -2, "pending");
	lua_pushinteger(L, (lua_Integer)stats.size);
	lua_setfield(L, -2, "size");
}

/* ---- class -------------------------------------------------------------------------------------------- */

static int writer_get(lua_State *L, void *thing, const char *name)
{
	if (strcmp(name, "fd") == 0)
		lua_pushinteger(L, mb_writer_fd(thing));
	else if (strcmp(name, "name") == 0)
		lua_pushstring(L, mb_writer_name(thing));
	else if (strcmp(name, "stats") == 0)
		push_stats(L, thing);
	else
		return 0;
	return 1;
}

static bool writer_closed(const void *thing)
{
	return mb_writer_closed(thing);
}

static void writer_close(void *thing)
{
	mb_writer_close(thing);
}

static void writer_unref(void *thing)
{
	mb_writer_free(thing);
}

static const char *writer_title(const void *thing)
{
	return mb_writer_name(thing);
}

static const luaL_Reg methods[] = {
	{ "reserve", writer_reserve }, { "submit", writer_submit }, { "discard", writer_discard },
	{ "send", writer_send },       { "wait", writer_wait },	    { NULL, NULL },
};
static const char *const properties[] = { "fd", "name", "stats", "closed", NULL };

const struct mb_class mb_writer_class = {
	.name = "moonbee.writer",
	.methods = methods,
	.properties = properties,
	.get = writer_get,
	.closed = writer_closed,
	.close = writer_close,
	.unref = writer_unref,
	.title = writer_title,
};
