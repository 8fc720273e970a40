/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * moonbee's engine: typed views over BPF objects, maps, rings and links, in plain C on libbpf.
 * It knows nothing of Lua, never prints and never exits; what goes wrong is told in a mb_error.
 *
 * Conventions
 *   - int functions return 0 or a negative errno and fill *err (which may be NULL); out parameters
 *     are untouched on error. Functions that answer a question return 1 (yes) or 0 (no).
 *   - Things are counted: NAME_ref takes a reference, NAME_unref gives it back, and the memory goes
 *     with the last one. NAME_close ends the kernel's side at once and may be called again; what
 *     still refers to the thing then gets -EBADF ("closed").
 *   - Counts are plain integers: one thread uses a thing and all that was made from it.
 *
 *   noun          owns                         borrows              after its close
 *   object        bpf_object, maps' fds, links -                    maps, programs, views, readers end
 *   map (own fd)  fd                           -                    every call is refused
 *   map (object)  -                            fd                   (ends with its object)
 *   region        memory or mapping            libbpf's image (*)   gen moves on: views are stale
 *   view          nothing; holder refs region  plan (by its btf)    -
 *   link          fd                           program              detached, unless pinned
 *   reader        a duplicate fd, the mapping  -                    its records are stale
 *   (*) before load only; load rebases the region on a mapping of ours, its generation stays.
 */
#ifndef MB_ENGINE_H
#define MB_ENGINE_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Of each thread, and there from its start: signal handlers read some, and memory that comes with the
 * first use is what gcc 12's leak checker looks for in the wrong place.
 */
#define MB_THREAD _Thread_local __attribute__((tls_model("initial-exec")))

/* ---- error.c, hint.c: what went wrong, and what to do about it ------------------------------ */

/* Caller-allocated, fixed buffers: filling it cannot fail. Only .log is owned (mb_error_fini). */
struct mb_error {
	int code; /* positive errno; 0: no error */
	char op[48];
	char subject[160];
	char cause[512];
	char hint[512];
	char *log; /* libbpf's and the verifier's words, whole; or NULL */
};

/* Declare an error that says nothing yet. Its buffers are not cleared: they are large, and most calls
 * succeed. */
#define MB_ERROR(name)                                                                             \
	struct mb_error name;                                                                      \
	mb_error_init(&name)
static inline void mb_error_init(struct mb_error *err)
{
	err->code = 0;
	err->op[0] = err->subject[0] = err->cause[0] = err->hint[0] = '\0';
	err->log = NULL;
}
void mb_error_fini(struct mb_error *err);
/* Fill *err (NULL is allowed) and return -code; code may come with either sign. A hint from
 * hint.c's table is added where it has a row for (op, code). */
int mb_fail(struct mb_error *err, int code, const char *op, const char *subject, const char *fmt,
	    ...) __attribute__((format(__printf__, 5, 6)));
/* Replace the hint of an error that is filled already. */
void mb_error_hint(struct mb_error *err, const char *fmt, ...)
	__attribute__((format(__printf__, 2, 3)));
/* "EPERM" for 1; never NULL. mb_error_text: the sentence for it. mb_error_code: 1 for "EPERM", 0 for
 * no name. */
const char *mb_error_name(int code);
int mb_error_code(const char *name);
const char *mb_error_text(int code);
/* What a log says about a program that the verifier rejected. The texts lie in the log. */
struct mb_rejection {
	struct mb_words {
		const char *at;
		size_t len;
	} program, source, file,
		reasons[8]; /* source: the C line; file: where the kernel tells (6.9) */
	size_t nreasons;
	long line;	    /* of file; 0: not told */
	long insn;	    /* that it was at; -1: not told */
	uint64_t processed; /* instructions that it walked */
};
/* false: the log is of something else. */
bool mb_rejection_read(const char *log, struct mb_rejection *out);
/* Hear every line that libbpf says (level 0 warn, 1 info, 2 debug); NULL: silence, the default.
 * For the whole process. Lines that belong to a failure are in its error's log in any case. */
void mb_log_listen(void (*fn)(int level, const char *text));

/* ---- check.c: is this file safe to give to libbpf? ------------------------------------------ */

/* Walk the ELF file's headers, .BTF and .BTF.ext with bounds. -EINVAL, -ENOEXEC (not an ELF file,
 * not BPF, foreign byte order), -ENODATA (no BTF). */
int mb_check_object(const void *bytes, size_t len, const char *subject, struct mb_error *err);

/* ---- btf.c, plan.c: types ------------------------------------------------------------------- */

/* How one scalar is loaded and stored. */
enum mb_enc {
	MB_ENC_NONE, /* aggregates: step into them */
	MB_ENC_U8,
	MB_ENC_U16,
	MB_ENC_U32,
	MB_ENC_U64, /* also pointers: the address */
	MB_ENC_S8,
	MB_ENC_S16,
	MB_ENC_S32,
	MB_ENC_S64,
	MB_ENC_BOOL,
	MB_ENC_F32,
	MB_ENC_F64,
	MB_ENC_BITS_U,
	MB_ENC_BITS_S,
	MB_ENC_CHARS, /* char[N]: text up to the first NUL */
	MB_ENC_TEXT,  /* char[] at a struct's end: the same, as long as its memory (mb_view_step) */
	MB_ENC_BYTES, /* what Lua has no number for: __int128, long double */
};

enum mb_kind {
	MB_KIND_INT,
	MB_KIND_BOOL,
	MB_KIND_FLOAT,
	MB_KIND_ENUM,
	MB_KIND_POINTER,
	MB_KIND_CHARS,
	MB_KIND_BYTES,
	MB_KIND_ARRAY,
	MB_KIND_STRUCT,
	MB_KIND_UNION,
	MB_KIND_SECTION, /* a DATASEC: its fields are the variables */
	MB_KIND_GROUP,	 /* all sections of an object together: fields in several regions */
};

struct mb_plan;

struct mb_field {
	const char *name;	    /* NULL for an array's element */
	const struct mb_plan *plan; /* the member's own type */
	uint32_t off;		    /* bytes from the start of the aggregate */
	uint32_t end;		    /* bytes that must be there to touch it */
	uint16_t part;		    /* of a group: which region */
	uint16_t child;		    /* aggregates: 1, 2, … within this plan; scalars 0 */
	uint8_t enc;		    /* enum mb_enc */
	uint8_t bits;		    /* of a bitfield, else 0 */
	uint8_t shift;		    /* of a bitfield: its lowest bit, counted from byte off */
	uint8_t is_union;	    /* shares its bytes with other fields of the same plan */
};

struct mb_enumerator {
	const char *name;
	int64_t value;
};

/* A BTF type, compiled once: plain data. Belongs to its btf. Arrays have one field, the element;
 * flexible ones have count 0 and .flexible. */
struct mb_plan {
	struct mb_btf *btf;
	const char *name; /* as C writes it: "struct flow", "u32", "char[16]" */
	uint32_t id;	  /* BTF type id; 0: made by us */
	enum mb_kind kind;
	uint8_t enc;
	bool is_signed;
	bool flexible;
	uint32_t size;	 /* bytes */
	uint32_t count;	 /* of an array */
	uint32_t stride; /* of an array */
	uint32_t nfields;
	uint32_t nchildren;
	const struct mb_field *fields;
	uint32_t nenums;
	const struct mb_enumerator *enums;
	uint32_t nhidden;
	const char *const *hidden; /* of a section: its static and hidden variables */
};

/* Take raw BTF (copied) under a name for messages. */
int mb_btf_new(const void *raw, size_t len, const char *name, struct mb_btf **out,
	       struct mb_error *err);
/* The BTF that the kernel holds under an id. */
int mb_btf_by_id(uint32_t id, struct mb_btf **out, struct mb_error *err);
struct mb_btf *mb_btf_ref(struct mb_btf *btf);
void mb_btf_unref(struct mb_btf *btf);
/* The plan of a type id; -ENOTSUP for what has no layout (void, functions), -EINVAL for lies. */
int mb_btf_plan(struct mb_btf *btf, uint32_t id, const struct mb_plan **out, struct mb_error *err);
/* By name: "struct flow", "flow" (any kind), "u32", "enum mode", "union u". */
int mb_btf_find(struct mb_btf *btf, const char *name, const struct mb_plan **out,
		struct mb_error *err);
/* The n-th named type with a layout: 1, and its plan's name is in *name ("struct flow"); 0 at the
 * end. *cursor starts at 0. */
int mb_btf_next(struct mb_btf *btf, uint32_t *cursor, const char **name);
/* The nearest of the named types to a misspelt one, or NULL. */
const char *mb_btf_near(struct mb_btf *btf, const char *name);

/* An array of count elements that lie stride bytes apart: map memory, per-CPU values. Owned by
 * elem's btf. */
int mb_plan_array(const struct mb_plan *elem, uint32_t stride, uint32_t count,
		  const struct mb_plan **out, struct mb_error *err);
/* A bag of n bytes: what has no type. Owned by btf, made for it if *btf is NULL. */
int mb_plan_bytes(struct mb_btf **btf, uint32_t n, const struct mb_plan **out,
		  struct mb_error *err);
const struct mb_field *mb_plan_field(const struct mb_plan *plan, const char *name);
/* Does it end in a flexible array? */
bool mb_plan_tail(const struct mb_plan *plan);
/* The bytes that a thing has at least: its type's size, or without the flexible array at its end. */
size_t mb_plan_least(const struct mb_plan *plan);
/* The nearest field's name (edit distance), or NULL if none is near. */
const char *mb_plan_near(const struct mb_plan *plan, const char *name);
const char *mb_plan_enum_name(const struct mb_plan *plan, int64_t value);
int mb_plan_enum_value(const struct mb_plan *plan, const char *name, int64_t *out);
/* What a pointer leads to, by its own BTF: 1 and *out; 0: nothing with a layout. */
int mb_plan_target(const struct mb_plan *pointer, const struct mb_plan **out);
/* Is it a pointer to a function? */
bool mb_plan_callable(const struct mb_plan *plan);
/* Write the C definition with offsets, as snprintf does: at most room bytes, returns the length. */
size_t mb_plan_define(const struct mb_plan *plan, char *to, size_t room);
/* The nearest of n words, or NULL; for "did you mean". */
const char *mb_near(const char *word, const char *(*nth)(const void *ctx, size_t i),
		    const void *ctx);

/* ---- region.c, value.c, view.c, path.c: memory with a type --------------------------------------------- */

enum mb_region_flag {
	MB_REGION_WRITABLE = 1,
	MB_REGION_SNAPSHOT = 2, /* read-only since a store would be lost: says what to use */
	MB_REGION_LEASE = 4,	/* read-only, and gone when its turn ends */
	MB_REGION_HELD = 8,	/* a store is hold.c's to decide */
};

struct shadow;
struct mb_heap;

struct mb_region {
	uint8_t *base;
	size_t len;
	uint64_t gen; /* moves on when what was there has ended */
	uint32_t refs;
	uint32_t flags;
	struct mb_region **parts; /* of a group, else NULL */
	uint32_t nparts;
	void (*drop)(struct mb_region *region);
	void *owner;
	struct mb_region *group;     /* of a section: all of its object's, with */
	const struct mb_plan *vars;  /* their fields */
	const struct mb_plan *whole; /* what lies in it, for paths in texts; or NULL */
	uint32_t each;		     /* bytes of each, where many of them lie in a row; else 0 */
	uint64_t address;	     /* of a copy of kernel memory: where it was; else 0 */
	const char *fix;	     /* what to do about its being read-only (static), or NULL */
	const char *ended;	     /* why: "object 'x' is closed" (static or the owner's) */
	struct mb_heap *account;     /* heap.c: who pays for so many bytes, or NULL */
	size_t paid;
	struct shadow *shadows; /* hold.c */
	const char *name;	/* ".rodata of 'flow'": behind the bytes, or as long-lived */
};

/* count: elements, of an array plan (a flexible array's is known only here); bytes, of a struct that
 * is longer than its type, since it ends in a flexible array. */
struct mb_view {
	struct mb_region *region;
	const struct mb_plan *plan;
	uint64_t born;
	uint32_t off;
	uint32_t count;
};

/* Bytes of our own behind a new region, zeroed; name (copied) is for messages. NULL: out of memory. */
struct mb_region *mb_region_bytes(size_t len, uint32_t flags, const char *name);
struct mb_region *mb_region_ref(struct mb_region *region);
void mb_region_unref(struct mb_region *region);
/* End all views of it. */
void mb_region_end(struct mb_region *region, const char *why);

enum mb_value_kind {
	MB_VALUE_INT,
	MB_VALUE_UINT, /* the bits of an unsigned 64-bit number, in .i */
	MB_VALUE_FLOAT,
	MB_VALUE_BOOL,
	MB_VALUE_BYTES,
};

struct mb_value {
	enum mb_value_kind kind;
	union {
		int64_t i;
		double f;
		const char *bytes;
	};
	size_t len; /* of bytes */
};

/* Load what f describes from the aggregate at base. The caller has checked life and bounds. Not
 * for aggregates. Bytes stay where they are. */
void mb_value_load(const uint8_t *base, const struct mb_field *f, struct mb_value *out);
/* Would this value fit? -ERANGE, -EINVAL (wrong kind of value). */
int mb_value_check(const struct mb_field *f, const struct mb_value *value, struct mb_error *err);
/* Store a value that was checked. */
void mb_value_store(uint8_t *base, const struct mb_field *f, const struct mb_value *value);

/* Store an integer that fits into one of the usual types, without a call; false: not done, ask
 * mb_value_check why. */
static inline bool mb_value_store_integer(uint8_t *base, const struct mb_field *f, int64_t i)
{
	void *p = base + f->off;

	switch (f->enc) {
	case MB_ENC_U64:
	case MB_ENC_S64:
		if ((uintptr_t)p & 7)
			return false;
		__atomic_store_n((int64_t *)p, i, __ATOMIC_RELAXED);
		return true;
	case MB_ENC_U32:
		if ((uintptr_t)p & 3 || i < 0 || i > UINT32_MAX)
			return false;
		__atomic_store_n((uint32_t *)p, (uint32_t)i, __ATOMIC_RELAXED);
		return true;
	case MB_ENC_S32:
		if ((uintptr_t)p & 3 || i < INT32_MIN || i > INT32_MAX)
			return false;
		__atomic_store_n((int32_t *)p, (int32_t)i, __ATOMIC_RELAXED);
		return true;
	default:
		return false;
	}
}

/* A view of plan at offset off. -ERANGE if it does not fit. */
int mb_view_init(struct mb_view *view, struct mb_region *region, uint32_t off,
		 const struct mb_plan *plan, struct mb_error *err);
/* Is what it looks at still there, and is len bytes from off within it? -ESTALE, -ERANGE. */
int mb_view_check(const struct mb_view *view, const struct mb_field *f, struct mb_error *err);
/* The same, and may it be written? -EROFS. */
int mb_view_check_store(const struct mb_view *view, const struct mb_field *f, struct mb_error *err);
/* The field's own view. Checks life and bounds. */
int mb_view_step(const struct mb_view *view, const struct mb_field *f, struct mb_view *out,
		 struct mb_error *err);
/* The view that holds element index as its only field: for arrays. -ERANGE. */
int mb_view_elem(const struct mb_view *view, uint64_t index, struct mb_view *out,
		 struct mb_error *err);
/* Where a path such as cfg.limits[3].rate leads: the view and the field of it to load. */
int mb_view_path(const struct mb_view *view, const char *path, struct mb_view *out,
		 const struct mb_field **field, struct mb_error *err);
/* What a text calls field f of a view (NULL: the view): "cfg.limits[3].rate" from the whole that it
 * lies in, or just its own name or type where that is not known. */
struct mb_where {
	char text[160];
};
struct mb_where mb_view_where(const struct mb_view *view, const struct mb_field *f);
/* Would value fit into f of this view? As mb_value_check, told by the field's path. */
int mb_view_check_value(const struct mb_view *view, const struct mb_field *f,
			const struct mb_value *value, struct mb_error *err);
/* Where f's aggregate starts in memory. Checked by the caller. */
static inline uint8_t *mb_view_at(const struct mb_view *view, const struct mb_field *f)
{
	const struct mb_region *r = view->region;

	return (r->parts ? r->parts[f->part] : r)->base + view->off;
}
/* The hot path: the same with the checks (life, then bounds), or NULL; mb_view_check tells why. */
static inline uint8_t *mb_view_peek(const struct mb_view *view, const struct mb_field *f)
{
	const struct mb_region *r = view->region;

	if (r->gen != view->born)
		return NULL;
	if (r->parts)
		r = r->parts[f->part];
	return (uint64_t)view->off + f->end <= r->len ? r->base + view->off : NULL;
}
static inline bool mb_view_writable(const struct mb_view *view, const struct mb_field *f)
{
	const struct mb_region *r = view->region;

	return (r->parts ? r->parts[f->part] : r)->flags & MB_REGION_WRITABLE;
}
/* The usual integers without a call; false: ask mb_value_load. */
static inline bool mb_value_integer(const uint8_t *base, const struct mb_field *f, int64_t *out)
{
	const void *p = base + f->off;

	switch (f->enc) {
	case MB_ENC_U64:
	case MB_ENC_S64:
		if ((uintptr_t)p & 7)
			return false;
		*out = __atomic_load_n((const int64_t *)p, __ATOMIC_RELAXED);
		return true;
	case MB_ENC_U32:
		if ((uintptr_t)p & 3)
			return false;
		*out = __atomic_load_n((const uint32_t *)p, __ATOMIC_RELAXED);
		return true;
	case MB_ENC_S32:
		if ((uintptr_t)p & 3)
			return false;
		*out = __atomic_load_n((const int32_t *)p, __ATOMIC_RELAXED);
		return true;
	case MB_ENC_U8:
		*out = __atomic_load_n((const uint8_t *)p, __ATOMIC_RELAXED);
		return true;
	default:
		return false;
	}
}
/* The bytes of a view that is no group: a pointer into its region, len in *len. -ESTALE. */
int mb_view_bytes(const struct mb_view *view, const uint8_t **bytes, size_t *len,
		  struct mb_error *err);

/* Atomic read-modify-write of an aligned 1, 2, 4 or 8 byte integer; *value in: the operand, out:
 * the old value. -EINVAL: not aligned or no integer. */
enum mb_atomic {
	MB_ATOMIC_ADD,
	MB_ATOMIC_SUB,
	MB_ATOMIC_AND,
	MB_ATOMIC_OR,
	MB_ATOMIC_XOR,
	MB_ATOMIC_XCHG,
	MB_ATOMIC_CAS
};
int mb_view_atomic(const struct mb_view *view, const struct mb_field *f, enum mb_atomic op,
		   int64_t expect, int64_t *value, struct mb_error *err);

/* ---- txn.c: several fields as one --------------------------------------------------------------- */

/* A whole value of a variable that can be written as one, into bytes (of the view's size): it must
 * have a sequence word (MB_SEQ of moonbee.bpf.h). -ENOENT, -EINVAL, -EROFS, -ESTALE; -EBUSY: it was
 * changed all the time. */
int mb_txn_begin(const struct mb_view *view, void *bytes, struct mb_error *err);
/* Store bytes under the sequence lock. -EBUSY: another process is writing. A word that a writer left
 * odd by dying is taken over after a moment. */
int mb_txn_commit(const struct mb_view *view, const void *bytes, struct mb_error *err);

/* ---- reduce.c: sums, extremes, histograms -------------------------------------------------------- */

enum mb_reduce { MB_REDUCE_SUM, MB_REDUCE_MIN, MB_REDUCE_MAX, MB_REDUCE_HIST };

struct mb_reduction {
	enum mb_reduce op;
	bool is_float, is_signed;
	uint64_t count;
	int64_t i;	      /* sum (wraps as C's does), least or greatest */
	double f;	      /* the same of floats */
	uint64_t negative;    /* of a histogram */
	uint64_t buckets[65]; /* 0: zeros; n: 2^(n-1) <= v < 2^n */
};

/* Is the field a number? -EINVAL. what is for the message. */
int mb_reduce_check(const struct mb_field *f, const char *what, struct mb_error *err);
void mb_reduce_init(struct mb_reduction *r, enum mb_reduce op, const struct mb_field *f);
/* Take in n values that lie stride bytes apart: f of the aggregates at base. Checked by the caller. */
void mb_reduce_run(struct mb_reduction *r, const uint8_t *base, const struct mb_field *f,
		   size_t stride, size_t n);

/* ---- object.c, section.c: an ELF file, open or loaded -------------------------------------- */

struct mb_object;
struct mb_map;
struct mb_program;
struct mb_link;
struct mb_reader;

struct mb_open {
	const char *name;     /* of the object; NULL: from the path */
	const char *pin_root; /* pins the maps marked LIBBPF_PIN_BY_NAME in C; NULL: none */
	const char *kconfig;  /* text that overrides the kernel's configuration */
	const char *btf;      /* path of another kernel's BTF for CO-RE */
	uint32_t log_level;   /* of the verifier */
	bool pin_cleanup;     /* what it pins is unpinned when it is closed */
};

/* Take an object that the program has opened and loaded itself, by the libbpf that we are linked with;
 * it stays the program's: closing it here ends only what was made from it here. -EINVAL: not loaded. */
struct bpf_object;
int mb_object_borrow(struct bpf_object *bpf, const char *name, struct mb_object **out,
		     struct mb_error *err);
/* The address of a function of our libbpf: another copy's is another one. */
bool mb_is_our_libbpf(void (*object_name)(void));

struct mb_section {
	const char *name; /* ".bss" */
	const struct mb_plan *plan;
	struct mb_region *region;
};

/* Read and check a file, or bytes (then path is a name for messages). Nothing reaches the kernel.
 * Needs no privilege. Errors: those of mb_check_object and open(2). */
int mb_object_open(const char *path, const void *bytes, size_t len, const struct mb_open *how,
		   struct mb_object **out, struct mb_error *err);
/* Create maps, load programs, pin what both marks and pin_root ask for. After a failure only close
 * is left. -EACCES with the verifier's log, -EPERM, -EALREADY. Needs CAP_BPF, or root. */
int mb_object_load(struct mb_object *obj, struct mb_error *err);
/* Detach its links, close its maps and programs, end its views. */
void mb_object_close(struct mb_object *obj);
struct mb_object *mb_object_ref(struct mb_object *obj);
void mb_object_unref(struct mb_object *obj);
const char *mb_object_name(const struct mb_object *obj);
const char *mb_object_license(const struct mb_object *obj);
/* "open", "loaded", "failed", "closed" */
const char *mb_object_state(const struct mb_object *obj);
int mb_object_check(const struct mb_object *obj, const char *op, struct mb_error *err);
struct mb_btf *mb_object_btf(const struct mb_object *obj);
size_t mb_object_sections(const struct mb_object *obj);
const struct mb_section *mb_object_section(const struct mb_object *obj, size_t i);
/* Give the array variable name, the last one of its section, n elements; before load. Ends that
 * section's views. -EBUSY after load, -ENOTSUP with libbpf before 1.3. */
int mb_object_resize(struct mb_object *obj, const char *name, uint32_t n, struct mb_error *err);
/* All variables together: the group's plan and region. */
int mb_object_vars(struct mb_object *obj, struct mb_view *out, struct mb_error *err);
size_t mb_object_maps(const struct mb_object *obj);
struct mb_map *mb_object_map(const struct mb_object *obj, size_t i);
size_t mb_object_programs(const struct mb_object *obj);
struct mb_program *mb_object_program(const struct mb_object *obj, size_t i);

/* ---- map.c, map_kind.h, map_iter.c, map_batch.c, queue.c, pin.c ---------------------------------------------------------------- */

enum mb_map_flag { MB_MAP_ANY, MB_MAP_NOEXIST, MB_MAP_EXIST, MB_MAP_LOCK = 4 };

struct mb_map_info {
	const char *name;
	const char *type; /* "hash", "percpu_array", … */
	uint32_t id;
	int fd;
	uint32_t key_size;
	uint32_t value_size;
	uint32_t max_entries;
	uint32_t flags;
	const char *pin_path; /* or NULL */
	bool percpu;
	bool internal; /* a data section */
	bool pin_by_name;
	bool autocreate;
};

struct mb_map *mb_map_ref(struct mb_map *map);
void mb_map_unref(struct mb_map *map);
void mb_map_close(struct mb_map *map);
/* Is it there and loaded? -EBADF, -EINVAL (its object is not loaded). */
int mb_map_check(const struct mb_map *map, const char *op, struct mb_error *err);
bool mb_map_closed(const struct mb_map *map);
const char *mb_map_name(const struct mb_map *map);
/* "value of map 'x'"; lives as long as the value plan's btf. */
const char *mb_map_value_title(const struct mb_map *map);
int mb_map_info(struct mb_map *map, struct mb_map_info *out, struct mb_error *err);
/* Before load only: -EBUSY. */
int mb_map_resize(struct mb_map *map, uint32_t max_entries, struct mb_error *err);
/* The same, also -EINVAL: a type without. Values of another size than their type's are bytes. */
int mb_map_set_value_size(struct mb_map *map, uint32_t size, struct mb_error *err);
/* May load leave it out? Programs that use it are refused by the verifier then. */
int mb_map_set_autocreate(struct mb_map *map, bool on, struct mb_error *err);
/* Plans of its key and of a value as user space sees it (per-CPU: an array by possible CPU). Bytes
 * where it has no BTF; NULL where the type has none. */
int mb_map_plans(struct mb_map *map, const struct mb_plan **key, const struct mb_plan **value,
		 struct mb_error *err);
/* One value of a per-CPU map, or what value is. */
const struct mb_plan *mb_map_value_plan(struct mb_map *map);
/* A type of its object's, or of its own BTF by name: what its records are. */
int mb_map_type(struct mb_map *map, const char *name, const struct mb_plan **out,
		struct mb_error *err);

/* key: key_size bytes. Returns 1 and fills value (the value plan's size), 0 if absent, -errno. */
int mb_map_get(struct mb_map *map, const void *key, void *value, uint64_t flags,
	       struct mb_error *err);
int mb_map_take(struct mb_map *map, const void *key, void *value, struct mb_error *err);
/* 1 done; 0 refused by the key's presence or absence (noexist, exist); -errno. */
int mb_map_set(struct mb_map *map, const void *key, const void *value, uint64_t flags,
	       struct mb_error *err);
/* 1 deleted, 0 absent, -errno. */
int mb_map_delete(struct mb_map *map, const void *key, struct mb_error *err);
/* Many at once; keys lie key_size apart, values the value plan's size. What was done counts also when
 * the call fails: *done says how many, and the rest is untouched.
 * get: found[i] says whether value i was there. set: with MB_MAP_NOEXIST or MB_MAP_EXIST, *done are
 * those that the keys' presence allowed. delete: *done are those that were there. */
int mb_map_get_many(struct mb_map *map, const void *keys, void *values, uint8_t *found, uint32_t n,
		    uint64_t flags, struct mb_error *err);
int mb_map_set_many(struct mb_map *map, const void *keys, const void *values, uint32_t n,
		    uint64_t flags, uint64_t *done, struct mb_error *err);
int mb_map_delete_many(struct mb_map *map, const void *keys, uint32_t n, uint64_t *done,
		       struct mb_error *err);

/* Queues, stacks and bloom filters. push: overwrite drops the oldest where it is full. -E2BIG. */
int mb_queue_push(struct mb_map *map, const void *value, bool overwrite, struct mb_error *err);
/* 1 and the value; 0: empty. Of a bloom filter peek asks: value in, 1: it may be there. */
int mb_queue_pop(struct mb_map *map, void *value, struct mb_error *err);
int mb_queue_peek(struct mb_map *map, void *value, struct mb_error *err);

/* The key of a storage map as the kernel wants it: a fd of our own, of the process with this id, or
 * of the file or cgroup at path. The caller closes it. -ESRCH, -ENOENT. */
int mb_owner_open(const char *path, int64_t pid, int *out, struct mb_error *err);

/* Compare and swap a value with a spin lock, against BPF programs, too: 1 done; 2 it is no longer
 * what was expected; 0 absent. The lock's own bytes do not count. -EINVAL: no lock in it;
 * -EOPNOTSUPP: this kernel cannot; -EFBIG. */
int mb_map_swap_locked(struct mb_map *map, const void *key, const void *expect, const void *value,
		       struct mb_error *err);

/* How many addresses a stack trace's value has. */
uint32_t mb_map_stack_depth(const struct mb_map *map, const void *value);
/* The value of a struct_ops map before load, as a view; the caller gets a reference on its region.
 * -EINVAL: another type; -EBUSY: after load; -ENOTSUP with an old libbpf. */
int mb_map_image(struct mb_map *map, struct mb_view *out, struct mb_error *err);

/* The map that the kernel holds under an id. -ENOENT. Needs CAP_SYS_ADMIN. */
int mb_map_by_id(uint32_t id, struct mb_map **out, struct mb_error *err);

/* Make a map. A type of key or value is a plan (with its BTF), a C name ("u32", "char[16]"), or a
 * number of bytes; all three empty: what the map's type asks for. Errors: the kernel's. */
struct mb_create_type {
	const struct mb_plan *plan;
	const char *name;
	uint32_t bytes;
};
struct mb_create {
	const char *name; /* sanitized: letters, digits, '_' and '.', up to 15 of them */
	const char *type; /* "hash" */
	struct mb_create_type key, value;
	uint32_t max_entries;
	uint32_t flags;	      /* BPF_F_… */
	struct mb_map *inner; /* what maps of maps hold */
};
int mb_map_create(const struct mb_create *how, struct mb_map **out, struct mb_error *err);
/* The bit of a flag's name ("mmapable"), or 0; the n-th name, NULL at the end. */
uint32_t mb_map_flag(const char *name);
const char *mb_map_flag_nth(const void *unused, size_t n);

/* Entries, counted by walking. */
int mb_map_count(struct mb_map *map, uint64_t *out, struct mb_error *err);

/* Delete all entries that a walk finds, set those of arrays to zero, empty a queue; says how many. */
int mb_map_clear(struct mb_map *map, uint64_t *out, struct mb_error *err);

/* The memory of an array made with BPF_F_MMAPABLE, as an array view; the caller gets a reference on
 * its region. Read-only where the map is (frozen, BPF_F_RDONLY_PROG); a map opened read-only cannot
 * be mapped: a copy, read by system calls. Ends with the map. */
int mb_map_memory(struct mb_map *map, struct mb_view *out, struct mb_error *err);
/* No writes from user space from now on. -EBUSY while a writable mapping lives (Linux 5.2). */
int mb_map_freeze(struct mb_map *map, struct mb_error *err);

/* A walk over a map, a batch at a time. Bounded under churn; deleting is safe meanwhile. flags:
 * MB_MAP_LOCK reads each value under its lock. */
struct mb_map_iter;
int mb_map_iter_new(struct mb_map *map, uint64_t flags, struct mb_map_iter **out,
		    struct mb_error *err);
/* The next batch: *n entries; regions hold the keys (stride key_size) and the values (the value
 * plan's size apart); they belong to the caller until it unrefs them. *n == 0: the end. */
int mb_map_iter_next(struct mb_map_iter *iter, struct mb_region **keys, struct mb_region **values,
		     uint32_t *n, struct mb_error *err);
/* After the end: has it seen all that was there all the time, and nothing twice? No, where a walk key
 * by key had to start over since the key at hand was deleted, or was cut short since it did not end. */
bool mb_map_iter_complete(const struct mb_map_iter *iter);
void mb_map_iter_free(struct mb_map_iter *iter);

/* over: in the place of another map that is pinned there, in one step. */
int mb_map_pin(struct mb_map *map, const char *path, bool over, struct mb_error *err);
int mb_map_unpin(struct mb_map *map, struct mb_error *err);

/* Open what is pinned at path: *kind says which of the three it is, and that one is filled. */
enum mb_pinned_kind { MB_PINNED_MAP, MB_PINNED_PROGRAM, MB_PINNED_LINK };
struct mb_pinned {
	enum mb_pinned_kind kind;
	struct mb_map *map;
	struct mb_program *program;
	struct mb_link *link;
};
/* May it be changed through the handle, or looked at? Of maps only. */
enum mb_pin_access { MB_PIN_BOTH, MB_PIN_READ, MB_PIN_WRITE };
int mb_pinned_open(const char *path, enum mb_pin_access access, struct mb_pinned *out,
		   struct mb_error *err);
/* Is there a BPF file system at path, and are its directories there? Makes them (0700), and mounts
 * /sys/fs/bpf where nothing is. */
int mb_pin_prepare(const char *path, struct mb_error *err);
/* May something be pinned here? Checks name, length, file system, and that it is free. */
int mb_pin_check(const char *path, const char *op, struct mb_error *err);

/* ---- program.c, link.c ------------------------------------------------------------------------ */

struct mb_program_info {
	const char *name;
	const char *section;
	const char *type; /* "xdp", "tracepoint", … */
	uint32_t id;	  /* 0 before load */
	int fd;
	bool autoload;
	bool loaded;
};

struct mb_program *mb_program_ref(struct mb_program *prog);
void mb_program_unref(struct mb_program *prog);
void mb_program_close(struct mb_program *prog);
int mb_program_check(const struct mb_program *prog, const char *op, struct mb_error *err);
bool mb_program_closed(const struct mb_program *prog);
const char *mb_program_name(const struct mb_program *prog);
int mb_program_info(struct mb_program *prog, struct mb_program_info *out, struct mb_error *err);
/* Before load only: -EBUSY. */
int mb_program_autoload(struct mb_program *prog, bool on, struct mb_error *err);
int mb_program_pin(struct mb_program *prog, const char *path, bool over, struct mb_error *err);

/* What the verifier said about a program that it took, where its object was opened with a log level;
 * NULL: it was not asked. */
const char *mb_program_log(const struct mb_program *prog);
/* Counted while somebody holds mb_stats (stats.c), or kernel.bpf_stats_enabled is 1. */
struct mb_program_stats {
	uint64_t run_count;
	uint64_t run_time_ns;
	uint64_t recursion_misses; /* runs that were left out, since it ran already on that CPU */
};
int mb_program_stats(struct mb_program *prog, struct mb_program_stats *out, struct mb_error *err);
#define MB_PROGRAM_MAPS 64
struct mb_program_facts {
	char tag[17];
	uint32_t uid;	    /* who loaded it */
	uint64_t loaded_ns; /* when: of mb_now_ns's clock, or the one that counts suspended time */
	uint32_t insns;	    /* after the verifier */
	uint32_t verified_insns; /* that it walked; 0: the kernel does not say (before 5.16) */
	uint32_t jited;		 /* bytes of machine code; 0: none, or not for us */
	uint64_t memory;	 /* bytes that are accounted for it */
	uint32_t btf_id;	 /* 0: none */
	bool gpl;
	uint32_t nmaps;
	uint32_t maps[MB_PROGRAM_MAPS]; /* ids */
};
int mb_program_facts(struct mb_program *prog, struct mb_program_facts *out, struct mb_error *err);
/* What it wrote to its stream (1 standard output, 2 standard error: also the kernel's own words about
 * it) since the last call, at most n bytes: how many; 0: nothing. -ENOTSUP: the kernel has no streams
 * (before 6.17), or libbpf has not (before 1.7). */
int mb_program_stream(struct mb_program *prog, uint32_t stream, void *to, size_t n,
		      struct mb_error *err);
/* Where its instructions come from: n lines, in order; their texts live as long as *btf. The caller
 * gives lines to mb_lines_free and unrefs btf. -ENODATA: it has no BTF. */
struct mb_line {
	uint32_t insn;
	uint32_t line, column;
	const char *file, *text;
};
int mb_program_lines(struct mb_program *prog, struct mb_line **lines, size_t *n,
		     struct mb_btf **btf, struct mb_error *err);
void mb_lines_free(struct mb_line *lines);

/* stats.c: the kernel counts runs of programs and their time as long as one of these is open
 * (Linux 5.8; CAP_SYS_ADMIN). It costs each run of each program some 20 ns. */
struct mb_stats;
int mb_stats_open(struct mb_stats **out, struct mb_error *err);
void mb_stats_close(struct mb_stats *stats);
void mb_stats_free(struct mb_stats *stats);
bool mb_stats_closed(const struct mb_stats *stats);

struct mb_run {
	const void *data; /* packet, in; may be NULL */
	size_t data_len;
	void *data_out;
	size_t data_out_len; /* in: room; out: length */
	const void *ctx;
	size_t ctx_len;
	void *ctx_out;
	size_t ctx_out_len;
	uint32_t times; /* 0: once */
	int cpu;	/* raw tracepoints: where it runs; -1: here */
	bool live; /* xdp: packets are sent on their way as the program says, nothing comes back */
	uint32_t ret;	      /* out */
	uint32_t duration_ns; /* out: of one run, on average */
};
/* A program that the kernel holds, by id. -ENOENT. Needs CAP_SYS_ADMIN. */
int mb_program_by_id(uint32_t id, struct mb_program **out, struct mb_error *err);
/* variables.c: the globals of a loaded program, ours or not, as one group view; the caller gets a
 * reference on its region. write: may they be written? -ENODATA: it has none with BTF. */
int mb_variables_open(const struct mb_program *prog, bool write, struct mb_view *out,
		      struct mb_error *err);
/* What its argument points to, as its C source says: a struct. -EINVAL. */
int mb_program_ctx(const struct mb_program *prog, const struct mb_plan **out, struct mb_error *err);
/* BPF_PROG_TEST_RUN; interrupted ones are run again. */
int mb_program_run(struct mb_program *prog, struct mb_run *run, struct mb_error *err);

/* attach*.c, link.c, replace.c */
#include "engine/link.h"

/* ---- reader.c, ring.c, perf.c: ring and perf buffers -------------------------------------------- */

/* One consumer of a ring buffer, or of a perf event array's buffers: pages (a power of 2; 0: 64) are
 * each CPU's then, and must be 0 for a ring. -EBUSY: a perf event array has one reader. Holds its own duplicate of the fd, so that the map may close.
 * plan: of the records; NULL: bytes. lease: the caller's memory for the region that each record is
 * lent in (base and len change from turn to turn); it must outlive the reader and all views. */
int mb_reader_new(struct mb_map *map, const struct mb_plan *plan, uint32_t pages,
		  struct mb_region *lease, struct mb_reader **out, struct mb_error *err);
void mb_reader_close(struct mb_reader *reader);
void mb_reader_free(struct mb_reader *reader);
bool mb_reader_closed(const struct mb_reader *reader);
/* What is readable as long as records are there: ask for it each time before polling it anew. */
int mb_reader_fd(struct mb_reader *reader);
const char *mb_reader_name(const struct mb_reader *reader);
const struct mb_plan *mb_reader_plan(const struct mb_reader *reader);
/* A drain is one pass over what is there now; one at a time: -EBUSY. Its token names it in the two
 * calls below, which do nothing for one that has ended. */
int mb_reader_begin(struct mb_reader *reader, uint64_t max, uint64_t *token, struct mb_error *err);
/* End the turn of the record before and begin the next one's: 1, or 0 at the end, which closing the
 * reader is, too. */
int mb_reader_next(struct mb_reader *reader, uint64_t token);
void mb_reader_end(struct mb_reader *reader, uint64_t token);
/* Drain what is there into a reduction of field f, off bytes into each record. -ERANGE: a record is
 * too short; it is consumed. */
int mb_reader_reduce(struct mb_reader *reader, uint32_t off, const struct mb_field *f,
		     struct mb_reduction *out, struct mb_error *err);
/* Wait until something is there: 1; 0 when seconds (< 0: for ever) are over; -EINTR when
 * interrupted. interrupt_fd (or -1) ends the wait, too. */
int mb_reader_wait(struct mb_reader *reader, double seconds, int interrupt_fd,
		   struct mb_error *err);
struct mb_reader_stats {
	uint64_t consumed; /* records */
	uint64_t pending;  /* bytes */
	uint64_t size;	   /* bytes; of a perf buffer all CPUs' */
	bool counts_lost;  /* a perf buffer does, a ring where MB_LOST of moonbee.bpf.h stands */
	uint64_t lost;	   /* records that found no room */
};
int mb_reader_stats(struct mb_reader *reader, struct mb_reader_stats *out, struct mb_error *err);

/* ---- system.c: the machine -------------------------------------------------------------------- */

/* CPU ids that can exist / are up; negative errno on failure. */
int mb_cpus_possible(struct mb_error *err);
int mb_cpus_online(uint64_t *mask, size_t words, struct mb_error *err);
/* bpf_ktime_get_ns's clock. */
uint64_t mb_now_ns(void);
/* libbpf's version, "1.7". */
const char *mb_libbpf_version(void);
/* How many files this process may open yet, at least; 0 or less: none. */
long mb_fds_left(void);
/* Mount tracefs where tracepoints need it and nothing is mounted. */
int mb_tracefs_prepare(struct mb_error *err);

/* ---- interrupt.c: SIGINT and SIGTERM for a program of ours -------------------------------------- */

/* From now on the first SIGINT or SIGTERM is remembered, and the fd below becomes readable; on_signal
 * (async-signal-safe, may be NULL) is called; a second one ends the process as usual. SIGPIPE counts
 * when nobody reads our standard output any more, else it is ignored. */
int mb_interrupt_install(void (*on_signal)(void), struct mb_error *err);
int mb_interrupt_fd(void);
/* The signal that came, or 0. The next one still ends the process, until rearm says that this one
 * was dealt with. */
int mb_interrupt_take(void);
void mb_interrupt_rearm(void);
/* Does a signal concern what this thread does now? A loop, for one, only remembers it. */
void mb_interrupt_listen(bool on);
/* It does, and one came that nobody took. */
bool mb_interrupt_pending(void);
/* Set, by a signal handler on this thread too, when what the thread does has to end: a deadline. */
extern MB_THREAD volatile sig_atomic_t mb_stop;
/* Long work asks now and then: that, or a signal. It ends with -EINTR. */
bool mb_stop_asked(void);
/* In a program of somebody else's: until release this thread's writes to pipes and sockets that nobody
 * reads fail with EPIPE only, whatever the program does with SIGPIPE. release takes what hold gave. */
int mb_pipe_hold(void);
void mb_pipe_release(int held);

#endif
