/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Readers and drains. A drain is the state of a for loop: each step ends the turn of the record
 * before and lends the next one, as a fresh view or as chosen columns. It is the loop's closing
 * value, too, so that break and errors end the turn.
 */
#include <errno.h>

#include "bind.h"
#include "engine/deadline.h"

/* The lease is in the userdata: views of records keep that alive, and need no count. */
struct reader_ud {
	struct mb_handle handle;
	struct mb_region lease;
};

struct drain_ud {
	const void *magic;
	struct mb_reader *reader; /* kept by uservalue UV_READER */
	struct mb_region *lease;
	uint64_t token;
	const struct mb_lookup *lookup; /* of views */
	bool turns;			/* each record is a call of its own to the deadline */
	int ncolumns;
	struct mb_column columns[];
};

enum { UV_READER = 1, UV_LAST = UV_READER };

static const char *const DRAIN = "moonbee.drain";
static const char magic;

/* ---- readers ---------------------------------------------------------------------------------------- */

static const struct mb_plan *find_plan(lua_State *L, int i, struct mb_map *map)
{
	const struct mb_plan *plan = mb_type_test(L, i);
	MB_ERROR(err);

	if (plan || lua_isnoneornil(L, i))
		return plan;
	if (mb_map_type(map, luaL_checkstring(L, i), &plan, &err) != 0)
		mb_raise(L, &err);
	return plan;
}

static uint32_t option_pages(lua_State *L, int i)
{
	struct {
		lua_Integer pages;
	} o = { 0 };
	static const struct mb_option options[] = { { "pages", LUA_TNUMBER, 0 }, { NULL, 0, 0 } };

	mb_options(L, i, "reader", options, &o);
	return o.pages > UINT32_MAX ? UINT32_MAX : (uint32_t)o.pages;
}

/* map:reader([type [, { pages = n }]]) -> reader      of a ring or perf buffer; without a type: bytes */
int mb_reader_open(lua_State *L)
{
	struct mb_map *map = mb_class_check(L, 1, &mb_map_class);
	MB_ERROR(err);
	struct mb_reader *reader;
	const struct mb_plan *plan = find_plan(L, 2, map);
	uint32_t pages = option_pages(L, 3);
	struct reader_ud *ud = lua_newuserdatauv(L, sizeof(*ud), MB_UV_OWN);

	if (plan && plan->enc != MB_ENC_NONE)
		return mb_mistake(L, NULL, "records are structs, not %s", plan->name);
	memset(ud, 0, sizeof(*ud));
	ud->handle.cls = &mb_reader_class;
	luaL_setmetatable(L, mb_reader_class.name);
	lua_pushvalue(L, 1);
	lua_setiuservalue(L, -2, MB_UV_OWNER);
	if (mb_reader_new(map, plan, pages, &ud->lease, &reader, &err) != 0)
		return mb_raise(L, &err);
	ud->handle.thing = reader;
	return 1;
}

static struct mb_reader *self(lua_State *L)
{
	return mb_class_check(L, 1, &mb_reader_class);
}

/* reader:wait([seconds]) -> true when something is there, false when the time is over */
static int reader_wait(lua_State *L)
{
	MB_ERROR(err);
	double seconds = luaL_optnumber(L, 2, -1);
	int rc = mb_reader_wait(self(L), seconds, mb_interrupt_fd(), &err);

	if (rc < 0 && rc != -EINTR)
		return mb_raise(L, &err);
	lua_pushboolean(L, rc > 0); /* interrupted: the hook raises as soon as Lua runs again */
	return 1;
}

static void push_stats(lua_State *L, struct mb_reader *reader)
{
	struct mb_reader_stats stats;
	MB_ERROR(err);

	if (mb_reader_stats(reader, &stats, &err) != 0)
		mb_raise(L, &err);
	lua_createtable(L, 0, 4);
	if (stats.counts_lost) {
		lua_pushinteger(L, (lua_Integer)stats.lost);
		lua_setfield(L, -2, "lost");
	}
	lua_pushinteger(L, (lua_Integer)stats.consumed);
	lua_setfield(L, -2, "consumed");
	lua_pushinteger(L, (lua_Integer)stats.pending);
	lua_setfield(L, -2, "pending");
	lua_pushinteger(L, (lua_Integer)stats.size);
	lua_setfield(L, -2, "size");
}

/* ---- drains ------------------------------------------------------------------------------------------ */

static inline struct drain_ud *drain_self(lua_State *L, int i)
{
	struct drain_ud *d = lua_touserdata(L, i);

	if (!d || lua_rawlen(L, i) < sizeof(*d) || d->magic != &magic)
		luaL_typeerror(L, i, DRAIN);
	return d;
}

static int drain_close(lua_State *L)
{
	struct drain_ud *d = drain_self(L, 1);

	if (d->reader)
		mb_reader_end(d->reader, d->token);
	d->reader = NULL;
	return 0;
}

static inline bool next_record(struct drain_ud *d)
{
	if (d->turns)
		mb_deadline_turn();
	return d->reader && mb_reader_next(d->reader, d->token) > 0;
}

void mb_drain_turns(lua_State *L, int i)
{
	drain_self(L, i)->turns = true;
}

int mb_reader_columns(lua_State *L)
{
	struct mb_column columns[MB_MAX_COLUMNS];
	const struct mb_plan *plan = mb_reader_plan(self(L));
	int n = lua_gettop(L) - 1;

	if (n > MB_MAX_COLUMNS)
		return luaL_error(L, "at most %d columns", MB_MAX_COLUMNS);
	if (n && !plan)
		return mb_mistake(L, "the type of the records comes before the columns",
				  "a reader without type has no columns");
	if (n)
		mb_columns_find(L, 2, n, plan, true, columns);
	return 0;
}

/* Upvalues of next_view: the drain, the reader, which views keep, and their metatable. */
enum { UP_DRAIN = 1, UP_READER, UP_METATABLE, UP_LAST = UP_METATABLE };

/* for ev in …: a fresh view each turn, on the record itself */
static int next_view(lua_State *L)
{
	struct drain_ud *d = lua_touserdata(L, lua_upvalueindex(UP_DRAIN));
	struct mb_view view;

	if (!next_record(d))
		return 0;
	view = (struct mb_view){ d->lease, mb_reader_plan(d->reader), d->lease->gen, 0, 0 };
	mb_view_push_kept(L, &view, d->lookup, lua_upvalueindex(UP_METATABLE),
			  lua_upvalueindex(UP_READER));
	return 1;
}

/* without a type: the record's bytes */
static int next_bytes(lua_State *L)
{
	struct drain_ud *d = drain_self(L, 1);

	if (!next_record(d))
		return 0;
	lua_pushlstring(L, (const char *)d->lease->base, d->lease->len);
	return 1;
}

/* for a, b in …: chosen fields as values, no view is made */
static int next_columns(lua_State *L)
{
	struct drain_ud *d = drain_self(L, 1);

	if (!next_record(d))
		return 0;
	mb_columns_push(L, d->columns, d->ncolumns, d->lease, 0, d->lease->gen);
	return d->ncolumns;
}

static uint64_t option_max(lua_State *L, int i)
{
	struct {
		lua_Integer max;
	} o = { -1 };
	static const struct mb_option options[] = { { "max", LUA_TNUMBER, 0 }, { NULL, 0, 0 } };

	mb_options(L, i, "drain", options, &o);
	return o.max >= 0 ? (uint64_t)o.max : UINT64_MAX;
}

/* reader:drain([{ max = n }] [, column, …]) -> the four values of a for loop */
static int reader_drain(lua_State *L)
{
	struct mb_reader *reader = self(L);
	struct reader_ud *ud = lua_touserdata(L, 1);
	int first = lua_istable(L, 2) ? 3 : 2, n = lua_gettop(L) - first + 1;
	uint64_t max = first == 3 ? option_max(L, 2) : UINT64_MAX;
	const struct mb_plan *plan = mb_reader_plan(reader);
	MB_ERROR(err);
	struct drain_ud *d;

	if (n < 0)
		n = 0;
	if (n > MB_MAX_COLUMNS)
		return luaL_error(L, "at most %d columns", MB_MAX_COLUMNS);
	if (n && !plan)
		return mb_mistake(L, "m:reader(\"struct event\") says what a record is",
				  "a reader without type has no columns");
	d = lua_newuserdatauv(L, sizeof(*d) + (size_t)n * sizeof(d->columns[0]), UV_LAST);
	memset(d, 0, sizeof(*d));
	d->magic = &magic;
	luaL_setmetatable(L, DRAIN);
	lua_pushvalue(L, 1);
	lua_setiuservalue(L, -2, UV_READER);
	d->lease = &ud->lease;
	d->reader = reader;
	if (n) {
		mb_columns_find(L, first, n, plan, true, d->columns);
		d->ncolumns = n;
		lua_pushcfunction(L, next_columns);
	} else if (plan) {
		lua_pushvalue(L, -1);
		lua_pushvalue(L, 1);
		d->lookup = mb_view_kept_metatable(L, plan);
		lua_pushcclosure(L, next_view, UP_LAST);
	} else {
		lua_pushcfunction(L, next_bytes);
	}
	lua_pushvalue(L, -2);
	lua_pushnil(L);
	lua_pushvalue(L, -2);
	if (mb_reader_begin(reader, max, &d->token, &err) != 0)
		return mb_raise(L, &err);
	return 4;
}

static int drain_gc(lua_State *L)
{
	struct drain_ud *d = drain_self(L, 1);

	/* at the state's end the reader may have gone first */
	if (d->reader && lua_getiuservalue(L, 1, UV_READER) == LUA_TUSERDATA) {
		struct reader_ud *ud = lua_touserdata(L, -1);

		if (ud->handle.thing == d->reader)
			mb_reader_end(d->reader, d->token);
	}
	d->reader = NULL;
	return 0;
}

void mb_drain_open(lua_State *L)
{
	luaL_newmetatable(L, DRAIN);
	lua_pushcfunction(L, drain_close);
	lua_setfield(L, -2, "__close");
	lua_pushcfunction(L, drain_gc);
	lua_setfield(L, -2, "__gc");
	lua_pushstring(L, DRAIN);
	lua_setfield(L, -2, "__metatable");
	lua_pop(L, 1);
}

/* ---- class -------------------------------------------------------------------------------------------- */

static int reader_get(lua_State *L, void *thing, const char *name)
{
	if (strcmp(name, "fd") == 0)
		lua_pushinteger(L, mb_reader_fd(thing));
	else if (strcmp(name, "name") == 0)
		lua_pushstring(L, mb_reader_name(thing));
	else if (strcmp(name, "stats") == 0)
		push_stats(L, thing);
	else
		return 0;
	return 1;
}

static bool reader_closed(const void *thing)
{
	return mb_reader_closed(thing);
}

static void reader_close(void *thing)
{
	mb_reader_close(thing);
}

static void reader_unref(void *thing)
{
	mb_reader_free(thing);
}

static const char *reader_title(const void *thing)
{
	return mb_reader_name(thing);
}

static const luaL_Reg methods[] = {
	{ "drain", reader_drain },
	{ "wait", reader_wait },
	{ "sum", mb_reader_sum },
	{ NULL, NULL },
};
static const char *const properties[] = { "fd", "name", "stats", "closed", NULL };

const struct mb_class mb_reader_class = {
	.name = "moonbee.reader",
	.methods = methods,
	.properties = properties,
	.get = reader_get,
	.closed = reader_closed,
	.close = reader_close,
	.unref = reader_unref,
	.title = reader_title,
};
