/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Links: attached until they are closed. One that a script lost sight of stays attached, so the
 * state holds every open one itself; they end by close, detach, <close>, or with the state.
 */
#include "bind.h"
#include "engine/hold.h"

static const char links_key; /* registry: light userdata link -> its handle */

static void push_links(lua_State *L)
{
	if (lua_rawgetp(L, LUA_REGISTRYINDEX, &links_key) == LUA_TTABLE)
		return;
	lua_pop(L, 1);
	lua_newtable(L);
	lua_pushvalue(L, -1);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &links_key);
}

/* What is closed may be collected. Also drops handles whose attach failed. */
void mb_links_sweep(lua_State *L)
{
	push_links(L);
	for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
		struct mb_handle *h = lua_touserdata(L, -1);

		if (!h->thing || mb_link_closed(h->thing)) {
			lua_pushnil(L);
			lua_rawsetp(L, -4, h);
		}
	}
	lua_pop(L, 1);
}

/* The handle owns the link before it gets its place in the table: without memory for that, the
 * handle's finalizer gives the link back. */
void mb_link_push(lua_State *L, struct mb_link *link, int owner)
{
	mb_class_push(L, &mb_link_class, link, owner);
	mb_links_sweep(L); /* others may have ended with their object */
	push_links(L);
	lua_pushvalue(L, -2);
	lua_rawsetp(L, -2, lua_touserdata(L, -3));
	lua_pop(L, 1);
}

void mb_link_anchor(lua_State *L, int i, struct mb_link *link)
{
	struct mb_handle *h = lua_touserdata(L, i);

	h->thing = link;
}

static struct mb_link *self(lua_State *L)
{
	return mb_class_check(L, 1, &mb_link_class);
}

/* ---- methods ------------------------------------------------------------------------------------------ */

/* What is to take over, at index 2: a program or a struct_ops map; the other one is NULL. */
static void take_new(lua_State *L, struct mb_program **prog, struct mb_map **ops)
{
	bool is_map = mb_class_test(L, 2, &mb_map_class);

	*prog = is_map ? NULL : mb_class_check(L, 2, &mb_program_class);
	*ops = is_map ? mb_class_check(L, 2, &mb_map_class) : NULL;
}

/* The new one must stay as long as its link. */
static void keep_new(lua_State *L)
{
	lua_pushvalue(L, 2);
	lua_setiuservalue(L, 1, MB_UV_OWNER);
}

/* link:update(prog): atomic; raises where the kernel cannot */
static int link_update(lua_State *L)
{
	MB_ERROR(err);
	struct mb_link *link = self(L);
	struct mb_program *prog;
	struct mb_map *ops;

	take_new(L, &prog, &ops);
	if (mb_link_update(link, prog, ops, &err) != 0)
		return mb_raise(L, &err);
	keep_new(L);
	return 0;
}

static const struct mb_option replace_options[] = {
	{ "gap", LUA_TBOOLEAN, 0 },
	{ NULL, 0, 0 },
};

/* link:replace(prog [, { gap = true }]) -> "updated" | "overlapped" | "gap" */
static int link_replace(lua_State *L)
{
	MB_ERROR(err);
	struct mb_link *link = self(L);
	struct mb_program *prog;
	const char *how = NULL;
	struct mb_map *ops;
	bool gap = false;

	take_new(L, &prog, &ops);
	mb_options(L, 3, "replace", replace_options, &gap);
	if (mb_link_replace(link, prog, ops, gap, &how, &err) != 0)
		return mb_raise(L, &err);
	keep_new(L);
	lua_pushstring(L, how);
	return 1;
}

/* link:detach(): now, also when pinned */
static int link_detach(lua_State *L)
{
	MB_ERROR(err);

	if (mb_link_detach(self(L), &err) != 0)
		return mb_raise(L, &err);
	mb_links_sweep(L);
	return 0;
}

/* link:close(): detaches, unless pinned */
static int link_close(lua_State *L)
{
	struct mb_handle *h = mb_class_test(L, 1, &mb_link_class);
	MB_ERROR(err);

	if (!h)
		return luaL_typeerror(L, 1, mb_link_class.name);
	if (h->thing && !mb_link_closed(h->thing) &&
	    mb_refuse("close link", mb_link_name(h->thing), &err) != 0)
		return mb_raise(L, &err);
	if (h->thing)
		mb_link_close(h->thing);
	mb_links_sweep(L);
	return 0;
}

/* link:pin(path [, { replace = true }]) */
static int link_pin(lua_State *L)
{
	struct mb_link *link = self(L);
	const char *path = luaL_checkstring(L, 2);
	MB_ERROR(err);

	if (mb_link_pin(link, path, mb_pin_over(L, 3), &err) != 0)
		return mb_raise(L, &err);
	return 0;
}

/* link:unpin() */
static int link_unpin(lua_State *L)
{
	MB_ERROR(err);

	if (mb_link_unpin(self(L), &err) != 0)
		return mb_raise(L, &err);
	return 0;
}

/* ---- class -------------------------------------------------------------------------------------------- */

/* nil for what is not there */
static void push_number(lua_State *L, int64_t n, bool there)
{
	if (there)
		lua_pushinteger(L, n);
	else
		lua_pushnil(L);
}

static void push_info(lua_State *L, const struct mb_link_info *info)
{
	lua_createtable(L, 0, 10);
	push_number(L, info->id, info->id != 0);
	lua_setfield(L, -2, "id");
	lua_pushstring(L, info->type);
	lua_setfield(L, -2, "type");
	push_number(L, info->prog_id, info->prog_id != 0);
	lua_setfield(L, -2, "prog_id");
	lua_pushstring(L, info->program);
	lua_setfield(L, -2, "program");
	lua_pushstring(L, info->pin_path);
	lua_setfield(L, -2, "pin_path");
	for (const struct mb_link_fact *fact = info->facts; fact->name; fact++) {
		if (fact->is_text)
			lua_pushstring(L, fact->text);
		else
			lua_pushinteger(L, fact->number);
		lua_setfield(L, -2, fact->name);
	}
}

static int link_get(lua_State *L, void *thing, const char *name)
{
	MB_ERROR(err);
	struct mb_link_info info;

	if (mb_link_info(thing, &info, &err) != 0)
		return mb_raise(L, &err);
	if (strcmp(name, "name") == 0)
		lua_pushstring(L, mb_link_name(thing));
	else if (strcmp(name, "id") == 0)
		push_number(L, info.id, info.id != 0);
	else if (strcmp(name, "fd") == 0)
		push_number(L, info.fd, info.fd >= 0);
	else if (strcmp(name, "type") == 0)
		lua_pushstring(L, info.type);
	else if (strcmp(name, "prog_id") == 0)
		push_number(L, info.prog_id, info.prog_id != 0);
	else if (strcmp(name, "pin_path") == 0)
		lua_pushstring(L, info.pin_path);
	else if (strcmp(name, "updatable") == 0)
		lua_pushboolean(L, mb_link_updatable(thing));
	else if (strcmp(name, "info") == 0)
		push_info(L, &info);
	else
		return 0;
	return 1;
}

static bool link_closed(const void *thing)
{
	return mb_link_closed(thing);
}

static void link_end(void *thing)
{
	mb_link_close(thing);
}

static void link_unref(void *thing)
{
	mb_link_unref(thing);
}

static const char *link_title(const void *thing)
{
	return mb_link_name(thing);
}

static const luaL_Reg methods[] = {
	{ "update", link_update },  { "replace", link_replace },
	{ "detach", link_detach },  { "pin", link_pin },
	{ "unpin", link_unpin },    { "read", mb_link_read },
	{ "lines", mb_link_lines }, { "records", mb_link_records },
	{ "close", link_close },    { NULL, NULL },
};
static const luaL_Reg meta[] = { { "__close", link_close }, { NULL, NULL } };
static const char *const properties[] = { "name",     "id",   "fd",	   "type",   "prog_id",
					  "pin_path", "info", "updatable", "closed", NULL };

const struct mb_class mb_link_class = {
	.name = "moonbee.link",
	.methods = methods,
	.meta = meta,
	.properties = properties,
	.get = link_get,
	.closed = link_closed,
	.close = link_end,
	.unref = link_unref,
	.title = link_title,
};
