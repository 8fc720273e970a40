/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lua_State <-> engine. The only layer that raises. A file per userdata; a userdata is made first,
 * closed and with its metatable, and only then something is acquired into it.
 */
#ifndef MB_BIND_H
#define MB_BIND_H

#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

#define MB_API __attribute__((visibility("default")))

/* ---- class.c: userdata types, by table -------------------------------------------------------- */

/* A handle is a userdata with one counted engine thing in it; NULL: closed. */
struct mb_handle {
	const struct mb_class *cls; /* says that it is one, and of which class */
	void *thing;
};

struct mb_class {
	const char *name; /* "moonbee.map" */
	const luaL_Reg *methods;
	const luaL_Reg *meta;	       /* beyond __index, __gc, __close, __tostring, … */
	const char *const *properties; /* names that get knows, NULL at the end */
	const char *hint;	       /* for a name that is none of these, nor near one */
	/* Push the property, or return 0. The thing is there. */
	int (*get)(lua_State *L, void *thing, const char *property);
	/* Set from the value on top; NULL: nothing can be set. 0: no such property. */
	int (*set)(lua_State *L, void *thing, const char *property);
	bool (*closed)(const void *thing);
	void (*close)(void *thing); /* at once; may be called again */
	void (*unref)(void *thing);
	const char *(*title)(const void *thing); /* for tostring and messages */
};

/* Uservalue of every handle and view: what must stay reachable as long as it is. */
enum { MB_UV_OWNER = 1, MB_UV_OWN = 2 };

void mb_class_open(lua_State *L, const struct mb_class *cls);
/* A new handle without thing; the caller puts a counted one in. owner: index, or 0. */
struct mb_handle *mb_class_new(lua_State *L, const struct mb_class *cls, int owner);
/* The same around a counted thing, whose reference it takes over, also when it raises. */
void mb_class_push(lua_State *L, const struct mb_class *cls, void *thing, int owner);
/* The thing of argument i; raises on another type and on a closed one. */
void *mb_class_check(lua_State *L, int i, const struct mb_class *cls);
/* The same, also when closed; NULL: another type. */
struct mb_handle *mb_class_test(lua_State *L, int i, const struct mb_class *cls);
/* What __index and __newindex do for a name at index 2 that is no method. */
int mb_class_property(lua_State *L, const struct mb_class *cls);
int mb_class_set_property(lua_State *L, const struct mb_class *cls);
/* Names of all classes with their methods: for the specs. */
int mb_class_list(lua_State *L);
/* "map", "closed map", or nil: what is at index i? Pushes it. */
void mb_class_type(lua_State *L, int i);

extern const struct mb_class mb_object_class, mb_map_class, mb_program_class, mb_link_class,
	mb_reader_class, mb_writer_class, mb_trace_class, mb_type_class, mb_stats_class;

/* ---- error.c ------------------------------------------------------------------------------------ */

/* Raise what err says: a caller's mistake as text with the caller's line, the world's refusal as an
 * error object. Frees err's log. Never returns. */
int mb_raise(lua_State *L, struct mb_error *err);
/* Push it as an error object and raise nothing; it has no log. */
void mb_error_push(lua_State *L, const struct mb_error *err);
/* A caller's mistake of bind's own. */
int mb_mistake(lua_State *L, const char *hint, const char *fmt, ...)
	__attribute__((format(__printf__, 3, 4)));
int mb_error_new(lua_State *L); /* lib: error{…} */
void mb_error_open(lua_State *L);

/* ---- option.c: tables of options ------------------------------------------------------------------ */

/* Type of an option beside LUA_T…: 64 bits, which a negative integer may stand for. */
#define MB_OPTION_BITS (LUA_NUMTYPES + 1)
/* Of any type: the caller takes it from the table, and says itself what is wrong with it. */
#define MB_OPTION_ANY (LUA_NUMTYPES + 2)

struct mb_option {
	const char *name;
	int type;  /* LUA_T…, or the above */
	size_t at; /* offset in the struct: const char *, bool, lua_Integer (numbers, from 0 on) */
};
/* Read the table at index i (none: nothing) into *to; what it does not know or has another type is a
 * mistake. Strings stay alive with the table. */
void mb_options(lua_State *L, int i, const char *what, const struct mb_option *options, void *to);

/* ---- plan.c: type objects ---------------------------------------------------------------------- */

void mb_type_push(lua_State *L, const struct mb_plan *plan);
/* The plan of the type object at index i, or NULL. */
const struct mb_plan *mb_type_test(lua_State *L, int i);
/* obj.types: pushes it. */
void mb_types_push(lua_State *L, struct mb_btf *btf);
void mb_types_open(lua_State *L);

/* ---- value.c: Lua values <-> typed memory ------------------------------------------------------- */

enum mb_encode {
	MB_ENCODE_INIT,	  /* unnamed fields are 0: a C initializer */
	MB_ENCODE_ASSIGN, /* every field must be named */
	MB_ENCODE_UPDATE, /* only the named ones change */
};

/* Push what f holds: a value, or its view (not cached). */
void mb_push_field(lua_State *L, const struct mb_view *view, const struct mb_field *f, int owner);
/* Push a whole typed thing: scalars as values, aggregates as views. */
void mb_push_view(lua_State *L, const struct mb_view *view, int owner);
/* Write the value at index i to f; all is checked before anything is written. Raises. */
void mb_encode_field(lua_State *L, int i, const struct mb_view *view, const struct mb_field *f,
		     enum mb_encode how);
/* The same from the table at index i to a whole view, which may be a group. */
void mb_encode_view(lua_State *L, int i, const struct mb_view *view, enum mb_encode how);
/* The usual case of mb_encode_bytes without a call: a whole number into one. false: it is none, or one
 * that is refused. */
static inline bool mb_encode_integer(lua_State *L, int i, const struct mb_plan *plan, void *to)
{
	struct mb_field f = { .plan = plan, .end = plan->size, .enc = plan->enc };

	return lua_isinteger(L, i) && mb_value_store_integer(to, &f, lua_tointeger(L, i));
}
/* The same for a whole plan in plain memory of its size: keys and values of maps, T{…}. */
void mb_encode_bytes(lua_State *L, int i, const struct mb_plan *plan, void *to, enum mb_encode how,
		     const char *what);

/* ---- view.c ---------------------------------------------------------------------------------------- */

/* Push a view; takes a reference on its region. owner: index of what must stay reachable, or 0. */
void mb_view_push(lua_State *L, const struct mb_view *view, int owner);
/* The same, and gives back the caller's reference on the region, also when it raises (variables.c). */
void mb_view_push_take(lua_State *L, const struct mb_view *view, int owner);
/* The same without raising: LUA_OK, or a status with its error on top. */
int mb_view_try_take(lua_State *L, const struct mb_view *view, int owner);
/* Push a view of plan over len bytes of its own, zeroed: one piece of memory, no finalizer. title
 * names it in messages, and lives as long as the plan. Raises: too few bytes. */
struct mb_view *mb_view_push_new(lua_State *L, const struct mb_plan *plan, size_t len,
				 uint32_t flags, const char *title);
/* The same for many of one plan, quicker: the handle at that index keeps the metatable. Leaves one
 * more value below it. */
struct mb_view *mb_view_push_shaped(lua_State *L, const struct mb_plan *plan, uint32_t flags,
				    const char *title, int handle);
/* Push a value of its own with the bytes of a view. */
void mb_view_push_copy(lua_State *L, const struct mb_view *view);
int mb_view_set_format(lua_State *L); /* set_format(fn): what tostring(view) calls */
/* Push the metatable for views that hold no reference themselves, since their owner does. With it goes
 * what it knows of the plan's names. */
const struct mb_lookup *mb_view_kept_metatable(lua_State *L, const struct mb_plan *plan);
/* A view by these two (metatable at index mt), whose region lives as long as the userdata at owner.
 * Both indices are absolute. */
void mb_view_push_kept(lua_State *L, const struct mb_view *view, const struct mb_lookup *lookup,
		       int mt, int owner);
struct mb_view *mb_view_test(lua_State *L, int i);
struct mb_view *mb_view_arg(lua_State *L, int i);
/* Raise "no field …" with the nearest name. */
int mb_view_no_field(lua_State *L, const struct mb_view *view, const char *name);

/* ---- map_entry.c, map_edit.c, map_many.c, queue.c: keys and values of maps ------------------------------------- */

struct mb_map_kind;
struct mb_entry {
	const struct mb_map_kind *kind;
	const struct mb_plan *key, *value; /* value: as user space sees it */
};
/* Descriptors of our own that a call gives to the kernel; they end with it, however it ends. */
struct mb_fds;
#define MB_SMALL 256 /* bytes of a key or value that need no userdata */

/* Raise unless the map's type has these operations (MB_OP_…). */
void mb_map_need(lua_State *L, struct mb_map *map, uint32_t ops);
/* The same, and its plans. */
struct mb_entry mb_entry_of(lua_State *L, struct mb_map *map, uint32_t ops);
/* Push a box for n descriptors; where keys and values need none: NULL, and nothing is pushed. */
struct mb_fds *mb_fds_new(lua_State *L, const struct mb_entry *e, uint32_t n);
void mb_fds_close(struct mb_fds *fds);
/* Write the key at index i into to, of its plan's size. false: nothing can have this key, since its
 * owner is gone; only where absence is no failure (absent), else that raises. */
bool mb_encode_key(lua_State *L, int i, const struct mb_entry *e, struct mb_fds *fds, bool absent,
		   void *to);
void mb_encode_value(lua_State *L, int i, const struct mb_entry *e, struct mb_fds *fds, void *to);
/* Push a value that lies in region at off: a number, a view that keeps what is at index owner alive, a
 * handle. false, and nil pushed: it is gone. */
bool mb_push_value(lua_State *L, struct mb_map *map, const struct mb_entry *e,
		   struct mb_region *region, uint32_t off, int owner);
/* Memory for n bytes: small, or a userdata pushed on the stack. */
void *mb_map_buffer(lua_State *L, void *small, size_t n);
/* Push memory for n values or keys; "value of map 'x'" names it in messages. */
struct mb_region *mb_map_memory_new(lua_State *L, struct mb_map *map, const char *what,
				    const struct mb_plan *plan, size_t n, uint32_t flags);
/* Push a view for one value, in memory of its own. */
struct mb_region *mb_value_view(lua_State *L, struct mb_map *map, const struct mb_plan *plan,
				uint32_t flags);
/* "noexist" … at index i; allowed: how many of the list. */
uint64_t mb_map_flags(lua_State *L, int i);
uint64_t mb_map_lock_flag(lua_State *L, int i);
/* map[key] = value | nil, as at indices 2 and 3 */
void mb_map_store(lua_State *L, struct mb_map *map);
int mb_map_get_lua(lua_State *L);
int mb_map_take_lua(lua_State *L);
int mb_map_set_lua(lua_State *L);
int mb_map_update_lua(lua_State *L);
int mb_map_edit_lua(lua_State *L);
int mb_map_delete_lua(lua_State *L);
int mb_map_get_many_lua(lua_State *L);
int mb_map_set_many_lua(lua_State *L);
int mb_map_delete_many_lua(lua_State *L);
int mb_queue_push_lua(lua_State *L);
int mb_queue_pop_lua(lua_State *L);
int mb_queue_peek_lua(lua_State *L);
int mb_map_create_lua(lua_State *L); /* create_map */
void mb_entry_open(lua_State *L);

/* ---- columns.c: chosen fields of a record or of a map's value -------------------------------------- */

#define MB_MAX_COLUMNS 32

/* Where a scalar lies in a whole thing: its aggregate, and the field of that. */
struct mb_column {
	const struct mb_plan *plan;
	const struct mb_field *field;
	uint32_t off;
	uint32_t count;
};

/* Find the columns that the n arguments from index first on name, in a thing of plan (a lease: it may
 * end in a flexible array). Raises. */
void mb_columns_find(lua_State *L, int first, int n, const struct mb_plan *plan, bool lease,
		     struct mb_column *out);
/* Push the n columns of the thing at off in region. gen: the region's when the thing was found there;
 * raises when that has ended, also by a finalizer between two columns. */
void mb_columns_push(lua_State *L, const struct mb_column *columns, int n, struct mb_region *region,
		     uint32_t off, uint64_t gen);

/* ---- map.c, program.c, link.c: handles for things that others have -------------------------------- */

/* Each takes over the reference, also when it raises. */
void mb_map_push(lua_State *L, struct mb_map *map, int owner);
void mb_program_push(lua_State *L, struct mb_program *prog, int owner);
void mb_link_push(lua_State *L, struct mb_link *link, int owner);
/* Let the handles of closed links go. */
void mb_links_sweep(lua_State *L);
/* Put a new link into the handle without one at index i. Cannot raise. */
void mb_link_anchor(lua_State *L, int i, struct mb_link *link);
/* A new handle of an object that others have, too; not its reference. */
void mb_object_push(lua_State *L, struct mb_object *obj);
/* Count each record of the drain at index i as a call of its own to the deadline. */
void mb_drain_turns(lua_State *L, int i);
/* columns(reader, column…): are there such? */
int mb_reader_columns(lua_State *L);
/* map:writer(type), map:reader(type) */
int mb_writer_open(lua_State *L);
int mb_reader_open(lua_State *L);
/* prog:attach(options), map:attach(), obj:attach() */
int mb_program_attach_lua(lua_State *L);
/* prog:run(options) */
int mb_program_run_lua(lua_State *L);
int mb_map_attach_lua(lua_State *L);

/* ---- scratch.c ---------------------------------------------------------------------------------------- */

/* Push memory, zeroed, that lives until the call ends; then fini takes out what is in it. Leaves a
 * to-be-closed value on the stack. */
void *mb_scratch_push(lua_State *L, size_t size, void (*fini)(void *memory));

/* ---- takeover.c, migration.c: pinned maps that differ -------------------------------------------------- */

/* enum mb_mismatch of a word, or -1; and raise for that one. */
int mb_mismatch_word(const char *word);
int mb_mismatch_unknown(lua_State *L, const char *word);
/* obj:load() of the object at index 1: options (index of a table or nil) has on_mismatch, migrate.
 * Pushes reports of migrations by the maps' names, or nil. */
void mb_object_load_lua(lua_State *L, struct mb_object *obj, int options);
int mb_map_diff_lua(lua_State *L);  /* diff(map, map) */
int mb_map_reuse_lua(lua_State *L); /* map:reuse(map) */
int mb_migration_lua(lua_State *L); /* migration(old, new, options) */
extern const struct mb_class mb_migration_class;

#define MB_MAX_ADD 33 /* one more than the engine takes, so that it says so */
struct mb_migration_report;
/* add: true, the path of a counter, or a list of them, which stay alive with the value at index i. */
size_t mb_add_paths(lua_State *L, int i, const char **paths);
void mb_report_push(lua_State *L, const struct mb_migration_report *r);

/* ---- pin.c ------------------------------------------------------------------------------------------------ */

/* Options of pin at index i: in the place of what is there? */
bool mb_pin_over(lua_State *L, int i);
int mb_map_pin_lua(lua_State *L);			     /* map:pin(path, options) */
int mb_map_unpin_lua(lua_State *L);			     /* map:unpin() */
int mb_pinned_lua(lua_State *L);			     /* pinned(path, options) */
extern const luaL_Reg mb_pin_functions[], mb_id_functions[]; /* ids.c */

/* ---- layout.c: differences as data ------------------------------------------------------------------ */

struct mb_diff;
/* Append each difference to the table on top, as one of what ("key", "value"; NULL: nothing said). */
void mb_diff_push(lua_State *L, const struct mb_diff *diff, const char *what);

/* ---- kernel.c, kconfig.c: moonbee.kernel ----------------------------------------------------------- */

/* Put the table of moonbee.kernel's functions into the one on top. */
void mb_kernel_open(lua_State *L);
/* Push obj.externs. */
void mb_externs_push(lua_State *L, const struct mb_object *obj);
/* open's option kconfig at index i as text, which it pushes; NULL: none. */
const char *mb_kconfig_option(lua_State *L, int i);

/* relocation.c: obj.relocations. Pushes it. */
void mb_relocations_push(lua_State *L, const struct mb_object *obj);

/* ---- functions of the module, for module.c's table ------------------------------------------------ */

int mb_object_lua(lua_State *L); /* open */
int mb_stats_lua(lua_State *L);	 /* stats */
/* Push a loaded object of the embedding program's. Raises. */
void mb_object_push_lent(lua_State *L, struct bpf_object *bpf, const char *name);
int mb_trace_lua(lua_State *L); /* trace_pipe */
int mb_link_read(lua_State *L); /* link:read(), and the two others of iterators */
int mb_link_lines(lua_State *L);
int mb_link_records(lua_State *L);
int mb_reader_sum(lua_State *L); /* reader:sum(path) */
int mb_map_sum(lua_State *L);	 /* map:sum([path]) */
int mb_map_top(lua_State *L);	 /* map:top(n [, path]) */
/* Raise what a signal that came means: an error object with its name in it. 0: somebody took it. */
int mb_interrupt_raise(lua_State *L);
extern const luaL_Reg mb_view_functions[], mb_system_functions[], mb_ref_functions[],
	mb_interrupt_functions[], mb_feature_functions[], mb_txn_functions[], mb_reduce_functions[],
	mb_variables_functions[], mb_layout_functions[], mb_runtime_functions[];
void mb_reduce_open(lua_State *L);
void mb_ref_open(lua_State *L);
void mb_drain_open(lua_State *L);
void mb_walk_open(lua_State *L);
void mb_iter_classes(lua_State *L);
int mb_map_pairs(lua_State *L);	   /* map:pairs(columns…) */
int mb_map_snapshot(lua_State *L); /* map:snapshot() */

MB_API int luaopen_moonbee_core(lua_State *L);

#ifndef MB_TESTING
#pragma GCC poison malloc calloc realloc strdup free
#endif
#endif
