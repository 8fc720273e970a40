/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A map's entries, one at a time: Lua values <-> keys and values, typed by BTF, or by what the map's
 * type makes of them (maps, programs, owners of storage). Many at once are map_many.c's.
 */
#include <errno.h>
#include <unistd.h>

#include "bind.h"
#include "engine/map_kind.h"

static struct mb_map *self(lua_State *L)
{
	return mb_class_check(L, 1, &mb_map_class);
}

void mb_map_need(lua_State *L, struct mb_map *map, uint32_t ops)
{
	MB_ERROR(err);

	if (!mb_map_kind_has(mb_map_kind(map), ops) && mb_map_allow(map, ops, &err) != 0)
		mb_mistake(L, err.hint[0] ? err.hint : NULL, "%s", err.cause);
}

struct mb_entry mb_entry_of(lua_State *L, struct mb_map *map, uint32_t ops)
{
	struct mb_entry e;
	MB_ERROR(err);

	e.kind = mb_map_kind(map);
	mb_map_need(L, map, ops);
	if (mb_map_plans(map, &e.key, &e.value, &err) != 0)
		mb_raise(L, &err);
	if (!e.value || (!e.key && e.kind->keys != MB_KEYS_NONE))
		mb_mistake(L, NULL, "%s '%s' has no keys or no values", e.kind->name,
			   mb_map_name(map));
	return e;
}

/* ---- memory ---------------------------------------------------------------------------------- */

void *mb_map_buffer(lua_State *L, void *small, size_t n)
{
	return n <= MB_SMALL ? small : lua_newuserdatauv(L, n, 0);
}

static void entitle(char *title, size_t room, const char *what, const char *map)
{
	size_t n = strnlen(what, 16), m = strnlen(map, 40);

	memset(title, 0, room);
	memcpy(title, what, n);
	memcpy(title + n, " of map '", 9);
	memcpy(title + n + 9, map, m);
	title[n + 9 + m] = '\'';
}

struct memory {
	struct mb_region region;
	char title[80];
	_Alignas(8) uint8_t bytes[]; /* as userdata is aligned */
};

struct mb_region *mb_map_memory_new(lua_State *L, struct mb_map *map, const char *what,
				    const struct mb_plan *plan, size_t n, uint32_t flags)
{
	size_t len = n * plan->size;
	struct memory *m;

	if (n > UINT32_MAX / plan->size) /* views count their bytes in 32 bits */
		mb_mistake(L, "do it in parts", "%ss of map '%s': more than 4 GiB in one call",
			   what, mb_map_name(map));
	m = lua_newuserdatauv(L, sizeof(*m) + len, 0);
	memset(m, 0, sizeof(*m) + len);
	m->region.base = m->bytes;
	m->region.len = len;
	m->region.refs = 1; /* for ever: the memory is Lua's */
	m->region.flags = flags;
	m->region.whole = plan;
	m->region.each = plan->size;
	entitle(m->title, sizeof(m->title), what, mb_map_name(map));
	m->region.name = m->title;
	return &m->region;
}

struct mb_region *mb_value_view(lua_State *L, struct mb_map *map, const struct mb_plan *plan,
				uint32_t flags)
{
	return mb_view_push_shaped(L, plan, flags, mb_map_value_title(map), 1)->region;
}

/* ---- descriptors ------------------------------------------------------------------------------- */

static const char *const FDS = "moonbee.fds";

struct mb_fds {
	uint32_t n, room;
	int fd[];
};

void mb_fds_close(struct mb_fds *fds)
{
	for (; fds && fds->n; fds->n--)
		close(fds->fd[fds->n - 1]);
}

static int fds_gc(lua_State *L)
{
	mb_fds_close(lua_touserdata(L, 1));
	return 0;
}

void mb_entry_open(lua_State *L)
{
	luaL_newmetatable(L, FDS);
	lua_pushcfunction(L, fds_gc);
	lua_setfield(L, -2, "__gc");
	lua_pushstring(L, FDS);
	lua_setfield(L, -2, "__metatable");
	lua_pop(L, 1);
}

static bool keys_open(const struct mb_entry *e)
{
	return e->kind->keys == MB_KEYS_TASK || e->kind->keys == MB_KEYS_FILE;
}

struct mb_fds *mb_fds_new(lua_State *L, const struct mb_entry *e, uint32_t n)
{
	struct mb_fds *fds;

	if (!keys_open(e) && e->kind->holds != MB_HOLDS_FILE)
		return NULL;
	fds = lua_newuserdatauv(L, sizeof(*fds) + n * sizeof(fds->fd[0]), 0);
	fds->n = 0;
	fds->room = n;
	luaL_setmetatable(L, FDS);
	return fds;
}

/* Open an owner, or raise. -1: a process that is gone. */
static int open_owner(lua_State *L, struct mb_fds *fds, const char *path, int64_t pid, bool absent)
{
	MB_ERROR(err);
	int fd;

	if (fds->n == fds->room)
		luaL_error(L, "too many descriptors for one call");
	if (mb_owner_open(path, pid, &fd, &err) == 0) {
		fds->fd[fds->n++] = fd;
		return fd;
	}
	if (absent && err.code == ESRCH)
		return -1;
	return mb_raise(L, &err);
}

/* ---- in ------------------------------------------------------------------------------------------- */

static int fd_number(lua_State *L, int i, const char *what)
{
	int whole;
	lua_Integer n = lua_tointegerx(L, i, &whole);

	if (lua_type(L, i) != LUA_TNUMBER || !whole || n < 0 || n > INT32_MAX)
		mb_mistake(L, NULL, "a file descriptor is a number from 0 on, and %s is not: %s",
			   what, luaL_tolstring(L, i, NULL));
	return (int)n;
}

/* A path without a NUL in it, or NULL: no string. */
static const char *path_at(lua_State *L, int i, const char *what)
{
	size_t len;
	const char *path;

	if (lua_type(L, i) != LUA_TSTRING)
		return NULL;
	path = lua_tolstring(L, i, &len);
	if (strlen(path) != len)
		mb_mistake(L, NULL, "%s is a path with a zero byte in it", what);
	return path;
}

/* A process by its id, or { pidfd = fd }. */
static int task_fd(lua_State *L, int i, struct mb_fds *fds, bool absent)
{
	int whole, fd;
	lua_Integer pid;

	if (lua_type(L, i) == LUA_TTABLE) {
		lua_pushliteral(L, "pidfd");
		lua_rawget(L, i);
		fd = fd_number(L, lua_gettop(L), "the key's pidfd");
		lua_pop(L, 1);
		return fd;
	}
	pid = lua_tointegerx(L, i, &whole);
	if (lua_type(L, i) != LUA_TNUMBER || !whole)
		mb_mistake(L, "m:get(pid), or m:get { pidfd = fd }",
			   "the key of task storage is a process, not a %s", luaL_typename(L, i));
	return open_owner(L, fds, NULL, pid, absent);
}

bool mb_encode_key(lua_State *L, int i, const struct mb_entry *e, struct mb_fds *fds, bool absent,
		   void *to)
{
	const char *path;
	int fd;

	if (e->kind->keys == MB_KEYS_PLAIN && mb_encode_integer(L, i, e->key, to))
		return true;
	luaL_checkany(L, i);
	memset(to, 0, e->key->size);
	if (!keys_open(e) || e->key->size != sizeof(fd)) {
		mb_encode_bytes(L, i, e->key, to, MB_ENCODE_INIT, "key");
		return true;
	}
	i = lua_absindex(L, i);
	if (e->kind->keys == MB_KEYS_TASK)
		fd = task_fd(L, i, fds, absent);
	else if ((path = path_at(L, i, "the key")) != NULL)
		fd = open_owner(L, fds, path, 0, false);
	else
		fd = fd_number(L, i, "the key");
	memcpy(to, &fd, sizeof(fd));
	return fd >= 0;
}

/* A map or program is given as such, or as a fd. Those of objects not loaded have none. */
static int thing_fd(lua_State *L, int i, const struct mb_entry *e)
{
	bool map = e->kind->holds == MB_HOLDS_MAP;
	const struct mb_class *cls = map ? &mb_map_class : &mb_program_class;
	MB_ERROR(err);

	if (!mb_class_test(L, i, cls)) {
		if (lua_type(L, i) != LUA_TNUMBER)
			mb_mistake(L, NULL, "%s %s holds %s, not a %s",
				   strchr("aeiou", *e->kind->name) ? "an" : "a", e->kind->name,
				   map ? "maps" : "programs", luaL_typename(L, i));
		return fd_number(L, i, "the value");
	}
	if (map) {
		struct mb_map *inner = mb_class_check(L, i, cls);
		struct mb_map_info info;

		if (mb_map_check(inner, "put into a map", &err) != 0 ||
		    mb_map_info(inner, &info, &err) != 0)
			return mb_raise(L, &err);
		return info.fd;
	}
	struct mb_program *prog = mb_class_check(L, i, cls);
	struct mb_program_info info;

	if (mb_program_check(prog, "put into a map", &err) != 0 ||
	    mb_program_info(prog, &info, &err) != 0)
		return mb_raise(L, &err);
	return info.fd;
}

void mb_encode_value(lua_State *L, int i, const struct mb_entry *e, struct mb_fds *fds, void *to)
{
	enum mb_map_holds holds = e->kind->holds;
	const char *path;
	int fd;

	luaL_checkany(L, i);
	memset(to, 0, e->value->size);
	i = lua_absindex(L, i);
	if (e->value->size != sizeof(fd) || holds == MB_HOLDS_DATA || holds == MB_HOLDS_STACK) {
		mb_encode_bytes(L, i, e->value, to, MB_ENCODE_INIT, "value");
		return;
	}
	if (holds != MB_HOLDS_FILE)
		fd = thing_fd(L, i, e);
	else if ((path = path_at(L, i, "the value")) != NULL)
		fd = open_owner(L, fds, path, 0, false);
	else
		fd = fd_number(L, i, "the value");
	memcpy(to, &fd, sizeof(fd));
}

uint64_t mb_map_flags(lua_State *L, int i)
{
	static const char *const names[] = { "any", "noexist", "exist", "lock", NULL };
	static const uint64_t flags[] = { MB_MAP_ANY, MB_MAP_NOEXIST, MB_MAP_EXIST, MB_MAP_LOCK };

	return lua_isnoneornil(L, i) ? MB_MAP_ANY : flags[luaL_checkoption(L, i, NULL, names)];
}

uint64_t mb_map_lock_flag(lua_State *L, int i)
{
	static const char *const names[] = { "lock", NULL };

	if (lua_isnoneornil(L, i))
		return 0;
	luaL_checkoption(L, i, NULL, names);
	return MB_MAP_LOCK;
}

/* ---- out ------------------------------------------------------------------------------------------ */

/* Handles that nobody has any more hold descriptors until they are collected: those first. */
static int open_id(lua_State *L, bool map, uint32_t id, void **out, struct mb_error *err)
{
	for (bool again = false;; again = true) {
		int rc = map ? mb_map_by_id(id, (struct mb_map **)out, err) :
			       mb_program_by_id(id, (struct mb_program **)out, err);

		if ((rc != -EMFILE && rc != -ENFILE) || again)
			return rc;
		mb_error_fini(err);
		mb_error_init(err);
		lua_gc(L, LUA_GCCOLLECT);
	}
}

/* A map or program by the id that was read; it may be gone meanwhile. */
static bool push_thing(lua_State *L, const struct mb_entry *e, const void *bytes)
{
	bool map = e->kind->holds == MB_HOLDS_MAP;
	MB_ERROR(err);
	uint32_t id;
	void *thing;
	int rc;

	memcpy(&id, bytes, sizeof(id));
	rc = open_id(L, map, id, &thing, &err);
	if (rc == -ENOENT) {
		mb_error_fini(&err);
		lua_pushnil(L);
		return false;
	}
	if (rc)
		mb_raise(L, &err);
	if (map)
		mb_map_push(L, thing, 0);
	else
		mb_program_push(L, thing, 0);
	return true;
}

static void push_data(lua_State *L, const struct mb_view *view, int owner)
{
	const struct mb_lookup *lookup;

	if (view->plan->enc != MB_ENC_NONE) {
		mb_push_view(L, view, 0);
		return;
	}
	owner = lua_absindex(L, owner);
	lookup = mb_view_kept_metatable(L, view->plan);
	mb_view_push_kept(L, view, lookup, lua_gettop(L), owner);
	lua_remove(L, -2);
}

bool mb_push_value(lua_State *L, struct mb_map *map, const struct mb_entry *e,
		   struct mb_region *region, uint32_t off, int owner)
{
	struct mb_view view = { region, e->value, region->gen, off, e->value->count };
	MB_ERROR(err);
	uint32_t depth;

	if (e->kind->holds == MB_HOLDS_MAP || e->kind->holds == MB_HOLDS_PROGRAM)
		return push_thing(L, e, region->base + off);
	if (e->kind->holds == MB_HOLDS_STACK &&
	    (depth = mb_map_stack_depth(map, region->base + off)) > 0) {
		if (mb_plan_array(e->value->fields[0].plan, e->value->stride, depth, &view.plan,
				  &err) != 0)
			mb_raise(L, &err);
		view.count = depth;
	}
	push_data(L, &view, owner);
	return true;
}

/* ---- get ------------------------------------------------------------------------------------------ */

typedef int (*fetch_fn)(struct mb_map *map, const void *key, void *value, uint64_t flags,
			struct mb_error *err);

static int fetch_take(struct mb_map *map, const void *key, void *value, uint64_t flags,
		      struct mb_error *err)
{
	(void)flags;
	return mb_map_take(map, key, value, err);
}

/* Push a scalar that lies in plain memory. */
static void push_scalar(lua_State *L, const struct mb_plan *plan, void *bytes)
{
	struct mb_region region = { .base = bytes, .len = plan->size, .refs = 1 };
	struct mb_view view = { &region, plan, 0, 0, 0 };

	mb_push_view(L, &view, 0);
}

/* What is no plain data: read, and made into what it stands for. */
static void push_fetched_thing(lua_State *L, struct mb_map *map, const struct mb_entry *e,
			       const void *key, fetch_fn fetch, uint64_t flags)
{
	struct mb_region *region =
		mb_map_memory_new(L, map, "value", e->value, 1, MB_REGION_SNAPSHOT);
	MB_ERROR(err);
	int rc = fetch(map, key, region->base, flags, &err);

	if (rc < 0)
		mb_raise(L, &err);
	if (rc)
		mb_push_value(L, map, e, region, 0, -1);
	else
		lua_pushnil(L);
}

/* Push the value, or nil: a scalar as it is, the rest as a snapshot. */
static void push_fetched(lua_State *L, struct mb_map *map, const struct mb_entry *e,
			 const void *key, fetch_fn fetch, uint64_t flags)
{
	MB_ERROR(err);
	uint64_t scalar[MB_SMALL / 8];
	void *to;
	int rc;

	if (e->kind->holds != MB_HOLDS_DATA) {
		push_fetched_thing(L, map, e, key, fetch, flags);
		return;
	}
	if (e->value->enc == MB_ENC_NONE)
		to = mb_value_view(L, map, e->value, MB_REGION_SNAPSHOT)->base;
	else
		to = mb_map_buffer(L, scalar, e->value->size);
	rc = fetch(map, key, to, flags, &err);
	if (rc < 0)
		mb_raise(L, &err);
	if (!rc)
		lua_pushnil(L);
	else if (e->value->enc != MB_ENC_NONE)
		push_scalar(L, e->value, to);
}

static int fetch_by(lua_State *L, uint32_t op, fetch_fn fetch, bool locks)
{
	uint64_t small[MB_SMALL / 8];
	struct mb_map *map = self(L);
	struct mb_entry e = mb_entry_of(L, map, op);
	uint64_t flags = locks ? mb_map_lock_flag(L, 3) : 0;
	struct mb_fds *fds;
	void *key;

	luaL_checkany(L, 2);
	fds = mb_fds_new(L, &e, 1);
	key = mb_map_buffer(L, small, e.key->size);
	if (mb_encode_key(L, 2, &e, fds, true, key))
		push_fetched(L, map, &e, key, fetch, flags);
	else
		lua_pushnil(L);
	mb_fds_close(fds);
	return 1;
}

/* map:get(key [, "lock"]) -> value | nil      a struct's value is a read-only snapshot */
int mb_map_get_lua(lua_State *L)
{
	return fetch_by(L, MB_OP_GET, mb_map_get, true);
}

/* map:take(key) -> value | nil      and it is gone from the map (Linux 5.14) */
int mb_map_take_lua(lua_State *L)
{
	return fetch_by(L, MB_OP_TAKE, fetch_take, false);
}

/* ---- set, delete ---------------------------------------------------------------------------------- */

/* Unnamed fields of a value are 0. */
static int do_set(lua_State *L, struct mb_map *map, int key_at, int value_at, uint64_t flags)
{
	uint64_t small_key[MB_SMALL / 8], small_value[MB_SMALL / 8];
	struct mb_entry e = mb_entry_of(L, map, MB_OP_SET);
	struct mb_fds *fds;
	void *key, *value;
	MB_ERROR(err);
	int rc;

	luaL_checkany(L, key_at);
	luaL_checkany(L, value_at);
	fds = mb_fds_new(L, &e, 2);
	key = mb_map_buffer(L, small_key, e.key->size);
	value = mb_map_buffer(L, small_value, e.value->size);
	mb_encode_key(L, key_at, &e, fds, false, key);
	mb_encode_value(L, value_at, &e, fds, value);
	rc = mb_map_set(map, key, value, flags, &err);
	mb_fds_close(fds);
	if (rc < 0)
		return mb_raise(L, &err);
	return rc;
}

/* map:set(key, value [, "noexist" | "exist" | "lock"]) -> true, or false where presence decides */
int mb_map_set_lua(lua_State *L)
{
	struct mb_map *map = self(L);

	lua_pushboolean(L, do_set(L, map, 2, 3, mb_map_flags(L, 4)));
	return 1;
}

static int do_delete(lua_State *L, struct mb_map *map, int key_at)
{
	uint64_t small[MB_SMALL / 8];
	struct mb_entry e = mb_entry_of(L, map, MB_OP_DELETE);
	struct mb_fds *fds;
	MB_ERROR(err);
	void *key;
	int rc = 0;

	luaL_checkany(L, key_at);
	fds = mb_fds_new(L, &e, 1);
	key = mb_map_buffer(L, small, e.key->size);
	if (mb_encode_key(L, key_at, &e, fds, true, key))
		rc = mb_map_delete(map, key, &err);
	mb_fds_close(fds);
	if (rc < 0)
		return mb_raise(L, &err);
	return rc;
}

/* map:delete(key) -> true | false if absent */
int mb_map_delete_lua(lua_State *L)
{
	lua_pushboolean(L, do_delete(L, self(L), 2));
	return 1;
}

void mb_map_store(lua_State *L, struct mb_map *map)
{
	if (lua_isnil(L, 3))
		do_delete(L, map, 2);
	else
		do_set(L, map, 2, 3, MB_MAP_ANY);
}
