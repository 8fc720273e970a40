/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the engine's files share with each other and with nobody else. Include it last: it ends
 * with the list of words that the engine must not use.
 */
#ifndef MB_INTERNAL_H
#define MB_INTERNAL_H

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/attach.h"
#include "engine/engine.h"
#include "engine/kconfig.h"

#ifndef ENOTSUPP
#define ENOTSUPP 524 /* the kernel's own; no libc knows it */
#endif

/* libbpf's version at compile time; what is newer than 1.1 stands behind this. */
#define MB_LIBBPF_AT_LEAST(major, minor)                                                           \
	(LIBBPF_MAJOR_VERSION > (major) ||                                                         \
	 (LIBBPF_MAJOR_VERSION == (major) && LIBBPF_MINOR_VERSION >= (minor)))

#define MB_MAX_DEPTH 32	     /* of nested types */
#define MB_MAX_FIELDS 65534u /* of one aggregate */

/* ---- error.c ---- */

/* Everything that libbpf says between begin and end, in this thread. Nests. */
struct mb_capture {
	struct mb_capture *outer;
	struct mb_capture *externs; /* takes what libbpf resolved externs to, or NULL */
	char *text;
	size_t len, room;
	struct mb_capture *logs; /* where the verifier's words about what it took go; NULL: nowhere */
};
void mb_capture_begin(struct mb_capture *cap);
/* Stop listening. With err: the text becomes its log; without: it is forgotten. */
void mb_capture_end(struct mb_capture *cap, struct mb_error *err);

/* ---- hint.c ---- */

/* The sentence for a failure, or NULL. log may be NULL. */
const char *mb_hint_find(const char *op, int code, const char *log);

/* ---- arena: memory that goes all at once, with its btf ---- */

struct mb_btf {
	uint32_t refs;
	uint32_t ntypes;
	struct btf *btf;
	const struct mb_plan **plans; /* by type id; NULL: not compiled yet */
	struct chunk *chunks;
	struct kept *kept; /* other btfs */
	struct made *made; /* arrays and bags of bytes that we synthesized */
	uint32_t first;	   /* id of its own; those before are vmlinux's, where it is a module's */
	uint32_t *heads, *nexts, mask; /* types by name, once asked for; of many */
	char name[64];
};
/* Take libbpf's over, also on failure. */
int mb_btf_wrap(struct btf *raw, const char *name, struct mb_btf **out, struct mb_error *err);
/* The first own type after id `after` that has this name, of whatever kind; 0: none. */
uint32_t mb_btf_named(struct mb_btf *btf, const char *name, uint32_t after);
void *mb_btf_alloc(struct mb_btf *btf, size_t size);
char *mb_btf_strdup(struct mb_btf *btf, const char *s);
/* Hold another btf for as long as this one lives; takes its reference over. */
int mb_btf_keep(struct mb_btf *btf, struct mb_btf *other);
/* Parts of making a plan. */
int mb_plan_no_memory(struct mb_btf *btf, struct mb_error *err);
struct mb_plan *mb_plan_new(struct mb_btf *btf, uint32_t id, enum mb_kind kind, uint32_t size,
			    struct mb_error *err);
int mb_plan_fill_array(struct mb_btf *btf, struct mb_plan *p, const struct mb_plan *elem,
		       uint32_t stride, uint32_t count, struct mb_error *err);
int mb_plan_fill_fields(struct mb_btf *btf, struct mb_plan *p, struct mb_field *fields, uint32_t n,
			struct mb_error *err);
/* made.c: the same array or text with n elements; -EINVAL for what is neither. */
int mb_plan_resize(const struct mb_plan *plan, uint32_t n, const struct mb_plan **out,
		   struct mb_error *err);
/* Compile; depth counts nesting. */
int mb_plan_compile(struct mb_btf *btf, uint32_t id, unsigned int depth, const struct mb_plan **out,
		    struct mb_error *err);
/* All sections' fields in one plan, each with its part's number. */
int mb_plan_group(struct mb_btf *btf, const struct mb_section *sections, uint32_t n,
		  const struct mb_plan **out, struct mb_error *err);
uint32_t mb_btf_skip(const struct btf *btf, uint32_t id);
/* describe.c: the type's own name, or ""; and as C spells it. */
const char *mb_btf_raw_name(const struct mb_btf *btf, const struct btf_type *t);
void mb_btf_spell(const struct mb_btf *btf, uint32_t id, char *out, size_t room,
		  unsigned int depth);

/* ---- object.c ---- */

enum mb_state { MB_OPEN, MB_LOADED, MB_FAILED, MB_CLOSED };

struct mb_object {
	struct bpf_object *bpf;
	bool borrowed; /* the program's own: not to be closed */
	enum mb_state state;
	uint32_t refs;
	char *name;
	const char *license;	 /* in btf's memory, as the next */
	const char **weak;	 /* undefined weak symbols, NULL at the end */
	struct mb_btf *declared; /* its BTF as in the file, where libbpf's has lost externs' types */
	const uint8_t *relocations; /* .BTF.ext's list of them, in btf's memory */
	size_t relocations_len;
	char *extern_log;	    /* after load: libbpf's words, a line an extern */
	struct mb_kconfig *kconfig; /* what open's option says, or NULL */
	char ended[96];		    /* what its regions' views say when it is over */
	uint32_t log_level;
	struct mb_btf *btf;
	struct mb_section *sections;
	struct bpf_map **section_maps;
	size_t nsections;
	struct mb_region *group;
	const struct mb_plan *group_plan;
	struct mb_map **maps;
	size_t nmaps;
	struct mb_program **progs;
	size_t nprogs;
	struct mb_link *links; /* those attached and not closed */
	bool pin_cleanup;      /* what it pins goes with it: */
	struct mb_own_pin *own_pins;
};

/* object_file.c: the file's bytes, to be freed; its debug sections are zeros. */
int mb_object_file_read(const char *path, uint8_t **out, size_t *len, struct mb_error *err);

/* elf.c: what libbpf does not tell: the license, which externs are weak. */
int mb_elf_read(struct mb_object *obj, const void *bytes, size_t len, struct mb_error *err);

/* relocation.c: keep what .BTF.ext has of them. -ENOMEM, or 0. */
int mb_relocations_keep(struct mb_object *obj, const void *ext, size_t len);

/* section.c */
int mb_sections_open(struct mb_object *obj, struct mb_error *err);
int mb_sections_load(struct mb_object *obj, struct mb_error *err);
void mb_sections_end(struct mb_object *obj, const char *why);
void mb_sections_free(struct mb_object *obj);
/* A section's map behind its region: mapped, or read once where it cannot be. */
int mb_section_map(struct mb_region *region, int fd, size_t len, uint32_t flags, bool write,
		   struct mb_error *err);

/* ---- map.c ---- */

/* Types that the headers of older libbpfs do not name. */
enum { MB_TYPE_CGRP_STORAGE = 32, MB_TYPE_ARENA = 33 };

struct mb_map {
	uint32_t refs;
	int fd; /* -1: its object's, and that is not loaded */
	bool own_fd;
	bool closed;
	bool pin_by_name; /* marked in C */
	struct mb_object *obj;
	struct bpf_map *bpf;
	struct mb_btf *btf;
	const struct mb_map_kind *kind;
	const struct mb_plan *key, *value, *seen; /* seen: the value as user space gets it */
	const char *value_title, *record_name;	  /* in btf; made when needed */
	struct bpf_map_info info;
	const struct mb_reader *drainer;     /* of a ring: who is in the middle of a drain */
	const struct mb_reader *perf_reader; /* of a perf event array: the one it has */
	const struct mb_writer *writer;	     /* of a user ring buffer: the one it has */
	char *name;
	char *pin_path;
	char *want_pin;	  /* of an object: where load pins it, or takes it from */
	uint8_t mismatch; /* enum mb_mismatch, and of which map (0: any) */
	uint32_t mismatch_id;
	bool reused;		  /* a map that was there before */
	struct mb_map *migrates;  /* what it still has to take in, pinned at want_pin */
	struct mb_region *memory; /* of m:mmap(), while a view holds it */
	struct mb_region *image;  /* of a struct_ops map before load, once asked for */
	int lock_fd;		  /* map_edit.c: its program, -1: not made yet, */
	int lock_state_fd;	  /* and what that is given */
	bool kernel_type_tried;
};
/* map_edit.c, map_image.c */
void mb_map_end_lock(struct mb_map *map);
void mb_map_end_image(struct mb_map *map, const char *why); /* why: static */
/* map_type.c: numbers and addresses in the place of bytes, where the map's type says so. */
int mb_map_imply_types(struct mb_map *map, struct mb_error *err);
/* The kernel's own type of a struct_ops map's value, once somebody asks for it. */
void mb_map_kernel_type(struct mb_map *map);
/* memory.c */
void mb_map_end_memory(struct mb_map *map);
bool mb_map_is_frozen(const struct mb_map *map);
/* Put the memory of a map's fd behind a region that has none. -errno, nothing said. */
int mb_region_map(struct mb_region *region, int fd, size_t len, bool write);
int mb_map_from_object(struct mb_object *obj, struct bpf_map *bpf, struct mb_map **out,
		       struct mb_error *err);
/* Takes the fd over, also on failure. */
int mb_map_from_fd(int fd, const char *pin_path, struct mb_map **out, struct mb_error *err);
void mb_map_loaded(struct mb_map *map);
/* Plans by the types of map->btf (0: none), and the kind, from map->info. */
int mb_map_make_plans(struct mb_map *map, uint32_t key_id, uint32_t value_id, struct mb_error *err);
/* Has its type these operations (MB_OP_…), and is it there? */
int mb_map_begin(const struct mb_map *map, const char *op, uint32_t ops, struct mb_error *err);
/* Say what the kernel's refusal means for this type. Returns -code. */
int mb_map_refused(const struct mb_map *map, const char *op, int code, struct mb_error *err);
bool mb_map_is_percpu(uint32_t type);
/* Bytes that the kernel writes for one value. */
size_t mb_map_span(const struct mb_map *map);
const char *mb_map_type_name(uint32_t type);

/* ---- program.c, link.c ---- */

struct mb_program {
	uint32_t refs;
	int fd;
	bool own_fd;
	bool closed;
	struct mb_object *obj;
	struct bpf_program *bpf;
	char *name;
	uint32_t id; /* of one by fd */
	uint32_t type;
	char *log; /* the verifier's words, or NULL */
};
int mb_program_from_object(struct mb_object *obj, struct bpf_program *bpf, struct mb_program **out,
			   struct mb_error *err);
int mb_program_from_fd(int fd, struct mb_program **out, struct mb_error *err);
void mb_program_loaded(struct mb_program *prog);
const char *mb_program_type_name(uint32_t type);

struct mb_link {
	uint32_t refs;
	bool closed;
	struct mb_hook hook;
	struct mb_attach *how;	 /* as the caller said, in one piece of memory; NULL: from a pin */
	struct mb_program *prog; /* counted; NULL: from a pin, or */
	struct mb_map *ops;	 /* counted */
	struct mb_object *obj;	 /* kept while attached */
	struct mb_link *next;	 /* in its object */
	char *name;		 /* of its program */
	char *pin_path;
};
/* Takes fd over, also on failure. */
int mb_link_from_fd(int fd, const char *path, struct mb_link **out, struct mb_error *err);
const char *mb_link_type_name(uint32_t type);
/* 0 or -errno. */
int mb_link_describe(int fd, struct bpf_link_info *info);
/* link.c for replace.c: from now on the link is held by this hook, and is prog's or ops's. name was
 * allocated by the caller. */
void mb_link_take(struct mb_link *link, struct mb_program *prog, struct mb_map *ops, char *name);
/* ops.c: 0, or err is filled. */
int mb_ops_hook(struct mb_map *ops, struct mb_hook *hook, struct mb_error *err);
int mb_ops_update(struct mb_link *link, struct mb_map *ops, struct mb_error *err);

/* ---- lack.c: 0, or err says what this libbpf or kernel has not, and which one has it ---- */

int mb_lack_section(const struct mb_object *obj, const char *section, struct mb_error *err);
int mb_lack_load(const struct mb_object *obj, struct mb_error *err);

/* ---- verifier.c ---- */

/* Say in err->cause what libbpf's and the verifier's words mean: which program, why, which line. */
void mb_verifier_explain(struct mb_error *err);
/* The verifier's words about a program in what libbpf said: a copy, or NULL. */
char *mb_verifier_log_of(const char *said, const char *prog);

/* ---- pin.c ---- */

/* Is path free of what bpffs refuses? */
int mb_pin_name_check(const char *path, const char *op, struct mb_error *err);
/* What is behind a fd: 0, or -errno. */
int mb_pin_kind(int fd, enum mb_pinned_kind *out);
/* Remove the pin of what fd holds, if it is still that one's, and forget its path. */
int mb_pin_remove(char **path, int fd, const char *op, struct mb_error *err);
/* Pin what fd holds, with a record of its owner; obj (or NULL) may want it to go with it. */
int mb_pin_fd(int fd, const char *path, struct mb_object *obj, const char *op,
	      struct mb_error *err);
/* The same for who has the directory's lock. */
int mb_pin_fd_locked(int fd, const char *path, struct mb_object *obj, const char *op,
		     struct mb_error *err);
/* Give the pin of what fd holds another name in the same file system: it is never without one. */
int mb_pin_move(int fd, const char *from, const char *to, struct mb_object *obj, const char *op,
		struct mb_error *err);
/* Put it in the place of what is pinned at path, in one step: of the same kind, and with the id
 * expected (0: any). -EEXIST, -EBUSY. */
int mb_pin_replace(int fd, const char *path, uint32_t expected, struct mb_object *obj,
		   const char *op, struct mb_error *err);
int mb_pin_replace_locked(int fd, const char *path, uint32_t expected, struct mb_object *obj,
			  const char *op, struct mb_error *err);
/* Is it that thing which is pinned at path? */
bool mb_pin_is(const char *path, enum mb_pinned_kind kind, uint32_t id);
/* Remove the pin if it is that thing's, and the record in any case. 0 or -errno. */
int mb_pin_remove_thing(const char *path, enum mb_pinned_kind kind, uint32_t id);
/* -ENOENT, -ENOTDIR, -EINVAL (not in bpffs). */
int mb_pin_dir_check(const char *dir, const char *op, struct mb_error *err);

/* takeover.c: around the load of an object, with the lock of its pin_root between the two. end, which
 * takes NULL, too, undoes what begin and finish did unless it is loaded. */
struct mb_takeover;
int mb_takeover_begin(struct mb_object *obj, struct mb_takeover **out, struct mb_error *err);
int mb_takeover_finish(struct mb_takeover *t, struct mb_error *err);
void mb_takeover_end(struct mb_takeover *t, bool loaded);

/* ---- extern.c, fate.c ---- */

/* The BTF in which an object declares its externs. */
struct mb_btf *mb_externs_btf(const struct mb_object *obj);
/* What libbpf makes of a __kconfig variable of that type; *out: the type without its names. */
enum mb_form {
	MB_FORM_NONE,
	MB_FORM_BOOL,
	MB_FORM_CHAR,
	MB_FORM_INT,
	MB_FORM_TRISTATE,
	MB_FORM_TEXT
};
enum mb_form mb_extern_form(const struct btf *btf, uint32_t id, const struct btf_type **out);
/* Is one of the two files there that libbpf looks for? */
bool mb_libbpf_finds_config(void);

/* ---- small help ---- */

static inline size_t mb_round_up(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

/* errno names as libbpf returns them: pointers NULL with errno, ints negative. */
static inline int mb_errno(void)
{
	return errno ? -errno : -EIO;
}

#pragma GCC poison lua_State luaL_error printf abort exit
#endif
