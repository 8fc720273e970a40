/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bpf.open and the object: its options, sections as views, maps and programs by name.
 */
#include <errno.h>

#include "bind.h"
#include "engine/hold.h"
#include "engine/takeover.h"

/* The verifier's levels are bits: instructions, all paths, statistics, a buffer that does not wrap. */
#define LOG_LEVELS 15

/* Uservalues beyond the owner: what was made once and is given out again. */
enum {
	UV_MAPS = MB_UV_OWN,
	UV_PROGS,
	UV_VARS,
	UV_SECTIONS,
	UV_TYPES,
	UV_LOADING,
	UV_REPORTS,
	UV_LAST = UV_REPORTS
};

static void raise_if(lua_State *L, int rc, struct mb_error *err)
{
	if (rc)
		mb_raise(L, err);
}

/* ---- tables by name ----------------------------------------------------------------------------------- */

/* What is by name lies in a table that scripts never see; they get an empty one before it, which
 * cannot be changed. The hidden table's keys are all strings. */

/* Upvalues of its functions: the hidden table, "map", the object's name. */
enum { NAMED = 1, NAMED_WHAT, NAMED_OBJECT };

static const char named_key; /* in the metatable: the hidden table */

struct names {
	lua_State *L; /* on its stack: the last key */
	int table;
};

/* For mb_near, which asks in order: the next key. */
static const char *nth_key(const void *ctx, size_t i)
{
	const struct names *names = ctx;

	if (!i) {
		lua_settop(names->L, names->table);
		lua_pushnil(names->L);
	}
	if (!lua_next(names->L, names->table))
		return NULL;
	lua_pop(names->L, 1);
	return lua_tostring(names->L, -1);
}

static int named_missing(lua_State *L)
{
	const char *name = luaL_tolstring(L, 2, NULL), *near;
	struct names names = { L, lua_gettop(L) + 1 };

	lua_pushvalue(L, lua_upvalueindex(NAMED));
	near = mb_near(name, nth_key, &names);
	return mb_mistake(L, near ? lua_pushfstring(L, "did you mean '%s'?", near) : NULL,
			  "object '%s' has no %s '%s'",
			  lua_tostring(L, lua_upvalueindex(NAMED_OBJECT)),
			  lua_tostring(L, lua_upvalueindex(NAMED_WHAT)), name);
}

static int named_index(lua_State *L)
{
	lua_pushvalue(L, 2);
	if (lua_rawget(L, lua_upvalueindex(NAMED)) != LUA_TNIL)
		return 1;
	return named_missing(L);
}

static int named_frozen(lua_State *L)
{
	return mb_mistake(L, NULL, "the table of %ss cannot be changed",
			  lua_tostring(L, lua_upvalueindex(NAMED_WHAT)));
}

static int named_next(lua_State *L)
{
	lua_settop(L, 2);
	return lua_next(L, lua_upvalueindex(NAMED)) ? 2 : 0;
}

/* The state of the loop is nil: the hidden table is not given away. */
static int named_pairs(lua_State *L)
{
	lua_pushvalue(L, lua_upvalueindex(NAMED));
	lua_pushcclosure(L, named_next, 1);
	return 1;
}

/* Put an empty table with the metatable in the place of the table on top. */
static void named_finish(lua_State *L, const char *what, const char *object)
{
	static const luaL_Reg functions[] = { { "__index", named_index },
					      { "__newindex", named_frozen },
					      { "__pairs", named_pairs },
					      { NULL, NULL } };
	int named = lua_gettop(L);

	lua_newtable(L);
	lua_createtable(L, 0, 5);
	lua_pushvalue(L, named);
	lua_pushstring(L, what);
	lua_pushstring(L, object);
	luaL_setfuncs(L, functions, 3);
	lua_pushboolean(L, false);
	lua_setfield(L, -2, "__metatable");
	lua_pushvalue(L, named);
	lua_rawsetp(L, -2, &named_key);
	lua_setmetatable(L, -2);
	lua_replace(L, named);
}

static void push_maps(lua_State *L, struct mb_object *obj)
{
	lua_newtable(L);
	for (size_t i = 0; i < mb_object_maps(obj); i++) {
		struct mb_map *map = mb_object_map(obj, i);
		struct mb_map_info info;

		if (mb_map_info(map, &info, NULL) != 0 || info.internal)
			continue;
		mb_map_push(L, mb_map_ref(map), 1);
		lua_setfield(L, -2, info.name);
	}
	named_finish(L, "map", mb_object_name(obj));
}

static void push_progs(lua_State *L, struct mb_object *obj)
{
	lua_newtable(L);
	for (size_t i = 0; i < mb_object_programs(obj); i++) {
		struct mb_program *prog = mb_object_program(obj, i);

		mb_program_push(L, mb_program_ref(prog), 1);
		lua_setfield(L, -2, mb_program_name(prog));
	}
	named_finish(L, "program", mb_object_name(obj));
}

/* A guest's stores may have to wait: it looks at the same memory through a hold. The view gets a
 * reference of its own. */
static void see(lua_State *L, struct mb_view *view)
{
	struct mb_region *seen = mb_hold_see(view->region);

	if (!seen)
		luaL_error(L, "not enough memory");
	view->region = seen;
	view->born = seen ? seen->gen : 0;
}

static void push_sections(lua_State *L, struct mb_object *obj)
{
	lua_newtable(L);
	for (size_t i = 0; i < mb_object_sections(obj); i++) {
		const struct mb_section *s = mb_object_section(obj, i);
		MB_ERROR(err);
		struct mb_view view;

		raise_if(L, mb_view_init(&view, s->region, 0, s->plan, &err), &err);
		if (s->plan->enc == MB_ENC_NONE) {
			see(L, &view);
			mb_view_push_take(L, &view, 1);
		} else {
			mb_push_view(L, &view, 1); /* bytes: without types */
		}
		lua_setfield(L, -2, s->name);
	}
	named_finish(L, "section", mb_object_name(obj));
}

static void push_vars(lua_State *L, struct mb_object *obj)
{
	MB_ERROR(err);
	struct mb_view view;

	raise_if(L, mb_object_vars(obj, &view, &err), &err);
	see(L, &view);
	mb_view_push_take(L, &view, 1);
}

static void push_types(lua_State *L, struct mb_object *obj)
{
	mb_types_push(L, mb_object_btf(obj));
}

/* ---- properties ----------------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	int uv;
	void (*push)(lua_State *L, struct mb_object *obj);
} made[] = {
	{ "vars", UV_VARS, push_vars },	   { "maps", UV_MAPS, push_maps },
	{ "progs", UV_PROGS, push_progs }, { "sections", UV_SECTIONS, push_sections },
	{ "types", UV_TYPES, push_types },
};

/* obj.bss stands for obj.sections[".bss"]; nil if the object has none */
static int push_section(lua_State *L, const char *name)
{
	lua_getfield(L, 1, "sections");
	lua_getmetatable(L, -1);
	lua_rawgetp(L, -1, &named_key);
	lua_pushfstring(L, ".%s", name);
	lua_rawget(L, -2);
	return 1;
}

static int object_get(lua_State *L, void *thing, const char *name)
{
	struct mb_object *obj = thing;

	for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++) {
		if (strcmp(made[i].name, name) != 0)
			continue;
		if (lua_getiuservalue(L, 1, made[i].uv) == LUA_TNIL) {
			made[i].push(L, obj);
			lua_pushvalue(L, -1);
			lua_setiuservalue(L, 1, made[i].uv);
		}
		return 1;
	}
	if (strcmp(name, "bss") == 0 || strcmp(name, "data") == 0 || strcmp(name, "rodata") == 0)
		return push_section(L, name);
	if (strcmp(name, "migrated") == 0) {
		lua_getiuservalue(L, 1, UV_REPORTS);
		return 1;
	}
	if (strcmp(name, "externs") == 0)
		mb_externs_push(L, obj);
	else if (strcmp(name, "relocations") == 0)
		mb_relocations_push(L, obj);
	else if (strcmp(name, "name") == 0)
		lua_pushstring(L, mb_object_name(obj));
	else if (strcmp(name, "state") == 0)
		lua_pushstring(L, mb_object_state(obj));
	else if (strcmp(name, "license") == 0)
		lua_pushstring(L, mb_object_license(obj));
	else
		return 0;
	return 1;
}

/* ---- methods --------------------------------------------------------------------------------------------- */

/* obj:load() -> obj      raises: the verifier's no, the kernel's no, a pin that differs */
static int object_load(lua_State *L)
{
	struct mb_object *obj = mb_class_check(L, 1, &mb_object_class);

	lua_settop(L, 1);
	lua_getiuservalue(L, 1, UV_LOADING);
	mb_object_load_lua(L, obj, 2);
	lua_setiuservalue(L, 1, UV_REPORTS);
	lua_settop(L, 1);
	return 1;
}

/* obj:resize(name, n): elements of the last array variable of a section; before load */
static int object_resize(lua_State *L)
{
	struct mb_object *obj = mb_class_check(L, 1, &mb_object_class);
	lua_Integer n = luaL_checkinteger(L, 3);
	MB_ERROR(err);

	luaL_argcheck(L, n > 0 && n <= INT32_MAX, 3, "from 1 element on");
	raise_if(L, mb_object_resize(obj, luaL_checkstring(L, 2), (uint32_t)n, &err), &err);
	lua_pushnil(L); /* made of the old region */
	lua_setiuservalue(L, 1, UV_SECTIONS);
	return 0;
}

/* Close the links that are in the table at index i: an attach that fails leaves nothing behind. */
static void close_links(lua_State *L, int i)
{
	for (lua_pushnil(L); lua_next(L, i); lua_pop(L, 1)) {
		struct mb_handle *h = mb_class_test(L, -1, &mb_link_class);

		if (h && h->thing)
			mb_link_close(h->thing);
	}
}

/* Call attach of what obj's table at index i has under a name, and put its link into the table at index 2
 * under that; a failure takes back what is in there already. */
static void attach_one(lua_State *L, int i, const char *name, lua_CFunction attach)
{
	lua_pushcfunction(L, attach);
	lua_getfield(L, i, name);
	if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
		close_links(L, 2);
		lua_error(L);
	}
	lua_setfield(L, 2, name);
}

static int not_loaded(lua_State *L, const struct mb_object *obj)
{
	bool open = strcmp(mb_object_state(obj), "open") == 0;
	MB_ERROR(err);

	mb_fail(&err, EINVAL, "attach object", mb_object_name(obj), "it is %s",
		open ? "not loaded" : "one that failed to load");
	mb_error_hint(&err, open ? "call obj:load() first" :
				   "open it again: an object can be loaded once");
	return mb_raise(L, &err);
}

/* obj:attach() -> { name = link, … }: all that know where, all or none */
static int object_attach(lua_State *L)
{
	struct mb_object *obj = mb_class_check(L, 1, &mb_object_class);

	if (strcmp(mb_object_state(obj), "loaded") != 0)
		return not_loaded(L, obj);
	lua_settop(L, 1);
	lua_newtable(L);
	lua_getfield(L, 1, "progs");
	lua_getfield(L, 1, "maps");
	for (size_t i = 0; i < mb_object_programs(obj); i++) {
		struct mb_program *prog = mb_object_program(obj, i);
		struct mb_program_info info;

		if (mb_program_info(prog, &info, NULL) == 0 && info.autoload &&
		    mb_program_attaches(prog))
			attach_one(L, 3, info.name, mb_program_attach_lua);
	}
	for (size_t i = 0; i < mb_object_maps(obj); i++) {
		struct mb_map *map = mb_object_map(obj, i);
		struct mb_map_info info;

		if (mb_map_is_ops(map) && mb_map_info(map, &info, NULL) == 0 && info.fd >= 0)
			attach_one(L, 4, info.name, mb_map_attach_lua);
	}
	lua_settop(L, 2);
	return 1;
}

/* obj:close(), <close>: its links' handles need not wait for the next sweep */
static int object_end(lua_State *L)
{
	struct mb_handle *h = mb_class_test(L, 1, &mb_object_class);

	if (!h)
		return luaL_typeerror(L, 1, mb_object_class.name);
	if (h->thing)
		mb_object_close(h->thing);
	mb_links_sweep(L);
	return 0;
}

/* ---- open -------------------------------------------------------------------------------------------------- */

struct options {
	const char *name, *pin_root, *btf;
	bool bytes, pin_cleanup;
	lua_Integer log_level;
};

static const struct mb_option options[] = {
	{ "name", LUA_TSTRING, offsetof(struct options, name) },
	{ "pin_root", LUA_TSTRING, offsetof(struct options, pin_root) },
	{ "on_mismatch", MB_OPTION_ANY, 0 },
	{ "migrate", LUA_TTABLE, 0 },
	{ "pin_cleanup", LUA_TBOOLEAN, offsetof(struct options, pin_cleanup) },
	{ "btf", LUA_TSTRING, offsetof(struct options, btf) },
	{ "kconfig", MB_OPTION_ANY, 0 },
	{ "bytes", LUA_TBOOLEAN, offsetof(struct options, bytes) },
	{ "log_level", LUA_TNUMBER, offsetof(struct options, log_level) },
	{ "vars", LUA_TTABLE, 0 },
	{ "max_entries", LUA_TTABLE, 0 },
	{ NULL, 0, 0 },
};

/* opts.vars = { name = value }: before load, constants too */
static void apply_vars(lua_State *L, int obj)
{
	if (lua_getfield(L, 2, "vars") == LUA_TTABLE) {
		lua_getfield(L, obj, "vars");
		for (lua_pushnil(L); lua_next(L, -3);) {
			lua_pushvalue(L, -2);
			lua_insert(L, -2);
			lua_settable(L, -4);
		}
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
}

/* opts.max_entries = { map = n } */
static void apply_max_entries(lua_State *L, int obj)
{
	if (lua_getfield(L, 2, "max_entries") == LUA_TTABLE) {
		lua_getfield(L, obj, "maps");
		for (lua_pushnil(L); lua_next(L, -3); lua_pop(L, 1)) {
			lua_pushvalue(L, -2);
			lua_gettable(L, -4);
			lua_pushvalue(L, -2);
			lua_setfield(L, -2, "max_entries");
			lua_pop(L, 1);
		}
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
}

/* opts.on_mismatch: a word or a function; opts.migrate: its own options. */
static void check_loading(lua_State *L)
{
	static const struct mb_option migrate[] = { { "add", LUA_TTABLE, 0 },
						    { "switch", LUA_TFUNCTION, 0 },
						    { "passes", MB_OPTION_ANY, 0 },
						    { NULL, 0, 0 } };

	if (!lua_istable(L, 2))
		return;
	if (lua_getfield(L, 2, "on_mismatch") == LUA_TSTRING) {
		if (mb_mismatch_word(lua_tostring(L, -1)) < 0)
			mb_mismatch_unknown(L, lua_tostring(L, -1));
	} else if (!lua_isnil(L, -1) && !lua_isfunction(L, -1)) {
		mb_mistake(L, NULL,
			   "option 'on_mismatch' of bpf.open is a string or a function, "
			   "not a %s",
			   luaL_typename(L, -1));
	}
	lua_getfield(L, 2, "migrate");
	mb_options(L, lua_gettop(L), "migrate", migrate, NULL);
	if (lua_istable(L, -1) && lua_getfield(L, -1, "passes") != LUA_TNIL &&
	    (!lua_isinteger(L, -1) || lua_tointeger(L, -1) < 1 || lua_tointeger(L, -1) > 100))
		mb_mistake(L, NULL, "option 'passes' of migrate is a whole number from 1 to 100");
	lua_settop(L, 2);
}

/* What load needs of the options is kept for it; words go to the maps at once. (path, options, object) */
static void keep_loading(lua_State *L, struct mb_object *obj)
{
	lua_newtable(L);
	lua_getfield(L, 2, "migrate");
	lua_setfield(L, -2, "migrate");
	if (lua_getfield(L, 2, "on_mismatch") == LUA_TSTRING) {
		int word = mb_mismatch_word(lua_tostring(L, -1));

		for (size_t i = 0; i < mb_object_maps(obj); i++)
			mb_map_on_mismatch(mb_object_map(obj, i), (enum mb_mismatch)word, 0);
	}
	lua_setfield(L, -2, "on_mismatch");
	lua_setiuservalue(L, 3, UV_LOADING);
}

/* Push a handle that is yet without its object. */
static struct mb_handle *handle_new(lua_State *L)
{
	struct mb_handle *h = lua_newuserdatauv(L, sizeof(*h), UV_LAST);

	*h = (struct mb_handle){ &mb_object_class, NULL };
	luaL_setmetatable(L, mb_object_class.name);
	return h;
}

void mb_object_push(lua_State *L, struct mb_object *obj)
{
	struct mb_handle *h = handle_new(L);

	h->thing = mb_object_ref(obj);
}

/* Protected, so that a wrong option closes the object at once: (path, options, object). */
static int apply(lua_State *L)
{
	if (lua_istable(L, 2)) {
		apply_vars(L, 3);
		apply_max_entries(L, 3);
		keep_loading(L, ((struct mb_handle *)lua_touserdata(L, 3))->thing);
	}
	return 0;
}

void mb_object_push_lent(lua_State *L, struct bpf_object *bpf, const char *name)
{
	struct mb_handle *h = handle_new(L);
	struct mb_object *obj;
	MB_ERROR(err);

	raise_if(L, mb_object_borrow(bpf, name, &obj, &err), &err);
	h->thing = obj;
}

/* open(path | bytes [, options]) -> object      raises: what mb_object_open does */
int mb_object_lua(lua_State *L)
{
	struct options o = { 0 };
	struct mb_open how;
	MB_ERROR(err);
	struct mb_object *obj = NULL;
	struct mb_handle *h;
	size_t len;
	const char *text = luaL_checklstring(L, 1, &len);

	lua_settop(L, 2);
	mb_options(L, 2, "bpf.open", options, &o);
	check_loading(L);
	if (o.log_level > LOG_LEVELS)
		return mb_mistake(L, NULL,
				  "option 'log_level' of bpf.open is a whole number from 0 to %d",
				  LOG_LEVELS);
	if (!o.bytes && strlen(text) != len)
		return mb_mistake(L, "bytes of an object need { bytes = true }",
				  "the path has a NUL in it");
	h = handle_new(L);
	how = (struct mb_open){ o.name,	      o.pin_root, NULL, o.btf, (uint32_t)o.log_level,
				o.pin_cleanup };
	if (lua_istable(L, 2)) {
		lua_getfield(L, 2, "kconfig");
		how.kconfig = mb_kconfig_option(L, -1);
	}
	raise_if(L,
		 mb_object_open(o.bytes ? (o.name ? o.name : "bytes") : text, o.bytes ? text : NULL,
				len, &how, &obj, &err),
		 &err);
	h->thing = obj;
	lua_pushcfunction(L, apply);
	lua_pushvalue(L, 1);
	lua_pushvalue(L, 2);
	lua_pushvalue(L, 3);
	if (lua_pcall(L, 3, 0, 0) != LUA_OK) {
		mb_object_close(obj);
		return lua_error(L);
	}
	lua_settop(L, 3);
	return 1;
}

/* ---- class -------------------------------------------------------------------------------------------------- */

static bool object_closed(const void *thing)
{
	return strcmp(mb_object_state(thing), "closed") == 0;
}

static void object_close(void *thing)
{
	mb_object_close(thing);
}

static void object_unref(void *thing)
{
	mb_object_unref(thing);
}

static const char *object_title(const void *thing)
{
	return mb_object_name(thing);
}

static const luaL_Reg methods[] = {
	{ "load", object_load }, { "attach", object_attach },
	{ "close", object_end }, { "resize", object_resize },
	{ NULL, NULL },
};
static const luaL_Reg meta[] = { { "__close", object_end }, { NULL, NULL } };
static const char *const properties[] = { "vars",	 "bss",	     "data",   "rodata",
					  "sections",	 "maps",     "progs",  "types",
					  "externs",	 "name",     "state",  "license",
					  "relocations", "migrated", "closed", NULL };

const struct mb_class mb_object_class = {
	.name = "moonbee.object",
	.methods = methods,
	.meta = meta,
	.properties = properties,
	.get = object_get,
	.closed = object_closed,
	.close = object_close,
	.unref = object_unref,
	.title = object_title,
};
