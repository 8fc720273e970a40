/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kernel.read and its kin: the kernel's memory as values and views. A view of it is a copy of one
 * moment, which knows where it was; bpf.refresh reads it again.
 */
#include <errno.h>

#include "kernel.h"

static const char TITLE[] = "kernel memory";
static const char FIX[] =
	"moonbee only reads the kernel; bpf.copy(view) makes a value that can be changed";

/* Not to be kept beyond a call that may allocate: a finalizer may call kernel.release. */
struct mb_kmem *mb_kmem_of(lua_State *L)
{
	struct mb_kmem *memory;
	MB_ERROR(err);

	if (mb_kernel_memory(mb_kernel_of(L), &memory, &err) != 0)
		mb_raise(L, &err);
	return memory;
}

static void raise_if(lua_State *L, int rc, struct mb_error *err)
{
	if (rc < 0)
		mb_raise(L, err);
}

/* ---- where a thing is ---------------------------------------------------------------------------------- */

static uint64_t address_of(const struct mb_view *v)
{
	return v->region->address ? v->region->address + v->off : 0;
}

static uint64_t view_address(lua_State *L, const struct mb_view *v)
{
	MB_ERROR(err);

	raise_if(L, mb_view_check(v, NULL, &err), &err);
	if (!v->region->address)
		mb_mistake(L, NULL, "this %s is no view of the kernel's memory", v->plan->name);
	return address_of(v);
}

/* A variable's address by its name. percpu: is it meant to be a per-CPU one? */
static uint64_t symbol_address(lua_State *L, const char *name, bool percpu, struct mb_kdecl *decl)
{
	struct mb_kernel *kernel = mb_kernel_of(L);
	struct mb_ksym sym;
	MB_ERROR(err);
	int found = mb_kbtf_find(mb_kernel_types(kernel), name, MB_KDECL_VAR, true, decl, &err), rc;

	raise_if(L, found, &err);
	if (!found)
		decl->btf = NULL;
	else if (decl->percpu && !percpu)
		mb_mistake(L, lua_pushfstring(L, "kernel.percpu('%s', cpu)", name),
			   "'%s' is a per-CPU variable: there is one for each CPU", name);
	rc = mb_ksym_find(mb_kernel_syms(kernel), name, found ? decl->module : NULL, &sym, &err);
	raise_if(L, rc, &err);
	if (!rc) {
		mb_ksym_no_variable(mb_kernel_syms(kernel), "read variable", name, &err);
		mb_raise(L, &err);
	}
	return sym.address;
}

/* The address that argument i names; plan: its own type, if that is known. */
uint64_t mb_kmem_address_arg(lua_State *L, int i, const struct mb_plan **plan)
{
	const struct mb_view *v;
	struct mb_kdecl decl;
	uint64_t address;
	int whole;
	MB_ERROR(err);

	*plan = NULL;
	if (lua_type(L, i) == LUA_TNUMBER) {
		address = (uint64_t)lua_tointegerx(L, i, &whole);
		luaL_argcheck(L, whole, i, "an address is a whole number");
		return address;
	}
	if (lua_type(L, i) == LUA_TSTRING) {
		address = symbol_address(L, lua_tostring(L, i), false, &decl);
		if (decl.btf)
			raise_if(L, mb_btf_plan(decl.btf, decl.type, plan, &err), &err);
		return address;
	}
	v = mb_view_test(L, i);
	if (!v)
		luaL_argerror(
			L, i,
			lua_pushfstring(L,
					"an address is expected, a symbol's name or a view of "
					"the kernel's memory, not a %s",
					luaL_typename(L, i)));
	*plan = v->plan;
	return view_address(L, v);
}

/* ---- reading ------------------------------------------------------------------------------------------- */

/* Push what bytes hold, which are of a scalar. */
static void push_scalar(lua_State *L, const struct mb_plan *plan, void *bytes)
{
	struct mb_region region = { .base = bytes, .len = plan->size, .refs = 1, .name = TITLE };
	struct mb_view view = { &region, plan, 0, 0, plan->count };

	mb_push_view(L, &view, 0);
}

struct mb_view *mb_kmem_push_empty(lua_State *L, const struct mb_plan *plan, uint64_t address)
{
	struct mb_view *view = mb_view_push_new(L, plan, plan->size, 0, TITLE);

	view->region->address = address;
	view->region->fix = FIX;
	return view;
}

/* Push the thing of plan at address: a value, or a view. Raises EFAULT. */
void mb_kmem_push(lua_State *L, uint64_t address, const struct mb_plan *plan)
{
	struct mb_view *view;
	uint64_t word[2];
	MB_ERROR(err);

	if (!plan->size)
		mb_mistake(L, NULL, "%s has no size: nothing to read", plan->name);
	if (plan->enc != MB_ENC_NONE && plan->size <= sizeof(word)) {
		raise_if(L, mb_kmem_read(mb_kmem_of(L), address, word, plan->size, &err), &err);
		push_scalar(L, plan, word);
		return;
	}
	view = mb_kmem_push_empty(L, plan, address);
	raise_if(L, mb_kmem_read(mb_kmem_of(L), address, view->region->base, plan->size, &err),
		 &err);
	if (plan->enc != MB_ENC_NONE)
		mb_push_view(L, view, 0); /* text, or bytes: a string */
}

/* read(address | symbol | view [, type]) -> value | view      raises: EFAULT, ERANGE, EPERM, … */
static int kernel_read(lua_State *L)
{
	const struct mb_plan *plan;
	uint64_t address;

	lua_settop(L, 2);
	address = mb_kmem_address_arg(L, 1, &plan);
	if (!lua_isnil(L, 2))
		plan = mb_kernel_type_arg(L, 2);
	if (!plan && lua_type(L, 1) == LUA_TSTRING)
		return mb_mistake(L, "kernel.read(symbol, \"unsigned long\")",
				  "the kernel's BTF does not know the type of '%s'",
				  lua_tostring(L, 1));
	if (!plan)
		return mb_mistake(L, "kernel.read(address, \"unsigned long\")",
				  "the type at that address is not known");
	mb_kmem_push(L, address, plan);
	return 1;
}

/* cast(address | symbol | view, type) -> view | value: what is there, as another type */
static int kernel_cast(lua_State *L)
{
	const struct mb_plan *own, *plan = mb_kernel_type_arg(L, 2);

	mb_kmem_push(L, mb_kmem_address_arg(L, 1, &own), plan);
	return 1;
}

/* How far in a member lies, by its path. */
const struct mb_field *mb_kmem_member(lua_State *L, const struct mb_plan *plan, int i,
				      uint64_t *off)
{
	struct mb_region full = { .len = plan->size, .refs = 1, .name = plan->name };
	struct mb_view top = { &full, plan, 0, 0, plan->count }, at;
	const struct mb_field *f;
	MB_ERROR(err);

	raise_if(L, mb_view_path(&top, luaL_checkstring(L, i), &at, &f, &err), &err);
	if (f->bits)
		mb_mistake(L, NULL, "'%s' is a bitfield and has no address", lua_tostring(L, i));
	*off = at.off + f->off;
	return f;
}

/* container_of(view | address, type, member) -> the view of the struct that it is in */
static int kernel_container_of(lua_State *L)
{
	const struct mb_plan *own, *plan = mb_kernel_type_arg(L, 2);
	uint64_t off;

	mb_kmem_member(L, plan, 3, &off);
	mb_kmem_push(L, mb_kmem_address_arg(L, 1, &own) - off, plan);
	return 1;
}

/* address(view [, path]) -> integer | nil: where in the kernel it was read */
static int kernel_address(lua_State *L)
{
	const struct mb_view *v = mb_view_arg(L, 1);
	const struct mb_field *f;
	struct mb_view at = *v;
	uint64_t off = 0;
	MB_ERROR(err);

	if (!v->region->address)
		return lua_pushnil(L), 1;
	if (!lua_isnoneornil(L, 2)) {
		raise_if(L, mb_view_path(v, luaL_checkstring(L, 2), &at, &f, &err), &err);
		off = f->off;
	}
	lua_pushinteger(L, (lua_Integer)(address_of(&at) + off));
	return 1;
}

/* refresh(view) -> the same view, read again      raises: EFAULT; the view is as it was then */
static int lib_refresh(lua_State *L)
{
	const struct mb_view *v = mb_view_arg(L, 1);
	struct mb_region *r = v->region;
	MB_ERROR(err);

	view_address(L, v);
	raise_if(L, mb_kmem_read(mb_kmem_of(L), r->address, r->base, r->len, &err), &err);
	lua_settop(L, 1);
	return 1;
}

/* ---- text ---------------------------------------------------------------------------------------------- */

#define PAGE 4096u

/* Page by page: the next one need not be there. */
static void push_text(lua_State *L, uint64_t address, size_t max)
{
	luaL_Buffer text;
	size_t done = 0;

	luaL_buffinit(L, &text);
	while (done < max) {
		uint64_t at = address + done;
		size_t n = PAGE - at % PAGE;
		MB_ERROR(err);
		char *to, *end;

		if (n > max - done)
			n = max - done;
		to = luaL_prepbuffsize(&text, n);
		raise_if(L, mb_kmem_read(mb_kmem_of(L), at, to, n, &err), &err);
		end = memchr(to, '\0', n);
		luaL_addsize(&text, end ? (size_t)(end - to) : n);
		if (end)
			break;
		done += n;
	}
	luaL_pushresult(&text);
}

/* string(address | view [, max]) -> the text there, up to its NUL */
static int kernel_string(lua_State *L)
{
	const struct mb_plan *plan;
	lua_Integer max = luaL_optinteger(L, 2, PAGE);

	luaL_argcheck(L, max > 0 && max <= 1 << 20, 2, "1 to 1048576 bytes");
	push_text(L, mb_kmem_address_arg(L, 1, &plan), (size_t)max);
	return 1;
}

/* ---- pointers ------------------------------------------------------------------------------------------ */

/* The pointer that the path at index 3 leads to in the view at index 2: its value. */
static uint64_t pointer_at(lua_State *L, const struct mb_plan **plan)
{
	const struct mb_view *v = mb_view_test(L, 2);
	const char *path = lua_tostring(L, 3);
	const struct mb_field *f;
	struct mb_view at;
	uint64_t address;
	MB_ERROR(err);

	if (!v)
		mb_mistake(L, NULL, "'%s': what the pointer before it leads to is no struct", path);
	raise_if(L, mb_view_path(v, path, &at, &f, &err), &err);
	if (f->plan->kind != MB_KIND_POINTER)
		mb_mistake(L, NULL, "'%s' is %s, no pointer", path, f->plan->name);
	mb_push_field(L, &at, f, 0);
	address = (uint64_t)lua_tointeger(L, -1);
	lua_pop(L, 1);
	*plan = f->plan;
	return address;
}

/* Put what that pointer leads to in the place of the view at index 2; false: NULL. */
static bool follow(lua_State *L)
{
	const struct mb_plan *pointer, *target;
	uint64_t address = pointer_at(L, &pointer);
	MB_ERROR(err);
	int rc;

	if (!address)
		return false;
	rc = mb_kbtf_target(mb_kernel_types(mb_kernel_of(L)), pointer, &target, &err);
	raise_if(L, rc, &err);
	if (!rc)
		mb_mistake(L, "kernel.read(view.field, type) with a type of yours",
			   "'%s' is %s: what it leads to has no type that is known",
			   lua_tostring(L, 3), pointer->name);
	if (target->kind == MB_KIND_INT && target->size == 1 && strcmp(target->name, "char") == 0)
		push_text(L, address, PAGE);
	else
		mb_kmem_push(L, address, target);
	lua_replace(L, 2);
	lua_settop(L, 2);
	return true;
}

/* deref(view, "files->fdt->fd") -> what the last pointer leads to | nil where one is NULL */
static int kernel_deref(lua_State *L)
{
	const char *path = luaL_checkstring(L, 2);

	mb_view_arg(L, 1);
	lua_settop(L, 2);
	lua_insert(L, 1); /* the path; then the view, then the step */
	while (path) {
		const char *arrow = strstr(path, "->");

		lua_pushlstring(L, path, arrow ? (size_t)(arrow - path) : strlen(path));
		if (!follow(L))
			return lua_pushnil(L), 1;
		path = arrow ? arrow + 2 : NULL;
	}
	return 1;
}

/* ---- per-CPU variables --------------------------------------------------------------------------------- */

/* Where this kernel's per-CPU memory is, from the variable's address in the symbol table. Without SMP
 * there is one CPU, and no such table. */
static uint64_t cpu_offset(lua_State *L, lua_Integer cpu)
{
	struct mb_kernel *kernel = mb_kernel_of(L);
	struct mb_ksym table;
	uint64_t offset;
	MB_ERROR(err);
	int rc = mb_ksym_find(mb_kernel_syms(kernel), "__per_cpu_offset", "vmlinux", &table, &err);

	raise_if(L, rc, &err);
	if (!rc)
		return 0;
	raise_if(L,
		 mb_kmem_read(mb_kmem_of(L), table.address + (uint64_t)cpu * sizeof(offset),
			      &offset, sizeof(offset), &err),
		 &err);
	return offset;
}

/* percpu(symbol [, cpu [, type]]) -> value | view of that CPU's; without cpu { [0] = …, … } */
static int kernel_percpu(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);
	const struct mb_plan *plan = NULL;
	struct mb_kdecl decl;
	uint64_t address;
	MB_ERROR(err);
	int cpus = mb_cpus_possible(&err);
	lua_Integer cpu = luaL_optinteger(L, 2, 0);

	raise_if(L, cpus, &err);
	lua_settop(L, 3);
	if (cpu < 0 || cpu >= cpus)
		return luaL_argerror(
			L, 2, lua_pushfstring(L, "a CPU is a number from 0 to %d", cpus - 1));
	if (!lua_isnil(L, 3))
		plan = mb_kernel_type_arg(L, 3);
	address = symbol_address(L, name, true, &decl);
	if (decl.btf && !decl.percpu)
		return mb_mistake(L, lua_pushfstring(L, "kernel.read('%s')", name),
				  "'%s' is no per-CPU variable", name);
	if (!plan && decl.btf)
		raise_if(L, mb_btf_plan(decl.btf, decl.type, &plan, &err), &err);
	if (!plan)
		return mb_mistake(L, "kernel.percpu(name, cpu, type)",
				  "the kernel's BTF knows no per-CPU variable '%s'", name);
	if (!lua_isnil(L, 2)) {
		mb_kmem_push(L, address + cpu_offset(L, cpu), plan);
		return 1;
	}
	lua_createtable(L, cpus, 1);
	for (cpu = 0; cpu < cpus; cpu++) {
		mb_kmem_push(L, address + cpu_offset(L, cpu), plan);
		lua_rawseti(L, 4, cpu);
	}
	return 1;
}

/* ---- many --------------------------------------------------------------------------------------------- */

/* A chunk of read_many, on its way from Lua to the engine and back: in a userdata, since any error that
 * is made meanwhile may run a finalizer that reads, too. */
struct many {
	uint64_t addresses[MB_KMEM_SLOTS];
	int32_t codes[MB_KMEM_SLOTS];
	_Alignas(8) uint8_t bytes[];
};

static void take_addresses(lua_State *L, struct many *many, lua_Integer first, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int whole;

		lua_rawgeti(L, 1, first + (lua_Integer)i);
		many->addresses[i] = (uint64_t)lua_tointegerx(L, -1, &whole);
		if (!whole)
			mb_mistake(L, NULL, "kernel.read_many: address %d is a %s, no whole number",
				   (int)(first + (lua_Integer)i), luaL_typename(L, -1));
		lua_pop(L, 1);
	}
}

/* faults[index] = error */
static void add_fault(lua_State *L, int faults, lua_Integer index, uint64_t address, int code)
{
	MB_ERROR(err);

	mb_kmem_fault(&err, address, code);
	if (lua_isnil(L, faults)) {
		lua_newtable(L);
		lua_replace(L, faults);
	}
	mb_error_push(L, &err);
	lua_rawseti(L, faults, index);
}

static void push_one(lua_State *L, const struct many *many, const struct mb_plan *plan, size_t i)
{
	const uint8_t *bytes = many->bytes + i * plan->size;

	if (plan->enc == MB_ENC_U64 || plan->enc == MB_ENC_S64) {
		lua_Integer value;

		memcpy(&value, bytes, sizeof(value));
		lua_pushinteger(L, value);
	} else if (plan->enc != MB_ENC_NONE) {
		push_scalar(L, plan, (void *)(uintptr_t)bytes);
	} else {
		struct mb_view *view = mb_kmem_push_empty(L, plan, many->addresses[i]);

		memcpy(view->region->base, bytes, plan->size);
	}
}

/* read_many(addresses, type) -> values, faults | nil: values[i] is false where faults[i] is the error */
static int kernel_read_many(lua_State *L)
{
	enum { VALUES = 3, FAULTS, MANY };
	const struct mb_plan *plan;
	struct many *many;
	lua_Integer n;
	size_t most;

	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 2);
	plan = mb_kernel_type_arg(L, 2);
	n = (lua_Integer)lua_rawlen(L, 1);
	if (!plan->size || plan->size > MB_KMEM_LONGEST)
		return mb_mistake(L, NULL,
				  "kernel.read_many reads things of 1 to %d bytes, and %s has %d",
				  MB_KMEM_LONGEST, plan->name, (int)plan->size);
	most = MB_KMEM_DATA / plan->size < MB_KMEM_SLOTS ? MB_KMEM_DATA / plan->size :
							   MB_KMEM_SLOTS;
	lua_createtable(L, n > INT32_MAX ? 0 : (int)n, 0);
	lua_pushnil(L);
	many = lua_newuserdatauv(L, sizeof(*many) + most * plan->size, 0);
	for (lua_Integer done = 0; done < n; done += (lua_Integer)most) {
		size_t some = (size_t)(n - done) < most ? (size_t)(n - done) : most;
		MB_ERROR(err);

		take_addresses(L, many, done + 1, some);
		raise_if(L,
			 mb_kmem_read_many(mb_kmem_of(L), many->addresses, some, plan->size,
					   many->bytes, many->codes, &err),
			 &err);
		for (size_t i = 0; i < some; i++) {
			if (many->codes[i]) {
				add_fault(L, FAULTS, done + (lua_Integer)i + 1, many->addresses[i],
					  many->codes[i]);
				lua_pushboolean(L, false);
			} else {
				push_one(L, many, plan, i);
			}
			lua_rawseti(L, VALUES, done + (lua_Integer)i + 1);
		}
	}
	lua_settop(L, FAULTS);
	return 2;
}

/* release(): gives back the programs and the map that read memory; the next read makes new ones */
static int kernel_release(lua_State *L)
{
	mb_kernel_release_memory(mb_kernel_of(L));
	return 0;
}

const luaL_Reg mb_kmem_functions[] = {
	{ "release", kernel_release },
	{ "read", kernel_read },
	{ "read_many", kernel_read_many },
	{ "cast", kernel_cast },
	{ "container_of", kernel_container_of },
	{ "address", kernel_address },
	{ "string", kernel_string },
	{ "deref", kernel_deref },
	{ "percpu", kernel_percpu },
	{ NULL, NULL },
};

const luaL_Reg mb_refresh_functions[] = { { "refresh", lib_refresh }, { NULL, NULL } };
