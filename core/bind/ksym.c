/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kernel.ksym, ksyms, symbolize: the kernel's symbols.
 */
#include "kernel.h"

#define LONGEST 512 /* the kernel's KSYM_NAME_LEN */

/* A copy on our stack: any string that Lua makes may run a finalizer, and that one may read the symbols
 * anew. */
struct copy {
	char name[LONGEST], module[64];
	uint64_t address;
	char type;
};

static void copy_text(char *to, size_t room, const char *from)
{
	size_t n = from ? strlen(from) : 0;

	if (n >= room)
		n = room - 1;
	if (n)
		memcpy(to, from, n);
	to[n] = '\0';
}

static void copy(struct copy *to, const struct mb_ksym *sym)
{
	copy_text(to->name, sizeof(to->name), sym->name);
	copy_text(to->module, sizeof(to->module), sym->module);
	to->address = sym->address;
	to->type = sym->type;
}

static void push_sym(lua_State *L, const struct copy *sym)
{
	lua_createtable(L, 0, 6);
	lua_pushstring(L, sym->name);
	lua_setfield(L, -2, "name");
	if (sym->address) {
		lua_pushinteger(L, (lua_Integer)sym->address);
		lua_setfield(L, -2, "address");
	}
	lua_pushlstring(L, &sym->type, 1);
	lua_setfield(L, -2, "type");
	if (sym->module[0]) {
		lua_pushstring(L, sym->module);
		lua_setfield(L, -2, "module");
	}
}

/* What BTF adds, if there is one: how C declares it, and that a variable's address is an offset. */
static void add_declaration(lua_State *L, const char *name, const char *module)
{
	struct mb_kbtf *types = mb_kernel_types(mb_kernel_of(L));
	struct mb_kdecl decl;
	char text[512];
	int found = mb_kbtf_find(types, name, MB_KDECL_FUNC, *module, &decl, NULL);

	if (found == 0)
		found = mb_kbtf_find(types, name, MB_KDECL_VAR, *module, &decl, NULL);
	if (found != 1 || strcmp(decl.module ? decl.module : "", module) != 0)
		return;
	mb_kdecl_spell(&decl, text, sizeof(text));
	lua_pushstring(L, text);
	lua_setfield(L, -2, "declaration");
	if (decl.percpu) {
		lua_pushboolean(L, true);
		lua_setfield(L, -2, "percpu");
	}
}

/* Not there: nil and why, which for a variable may be no absence at all. */
static int absent(lua_State *L, struct mb_kernel *kernel, const char *name)
{
	struct mb_kdecl decl;
	MB_ERROR(err);
	int data = mb_ksyms_have_data(mb_kernel_syms(kernel), &err);

	if (data < 0)
		return mb_raise(L, &err);
	if (!data &&
	    mb_kbtf_find(mb_kernel_types(kernel), name, MB_KDECL_VAR, false, &decl, NULL) == 1) {
		mb_ksym_no_variable(mb_kernel_syms(kernel), "find symbol", name, &err);
		return mb_raise(L, &err);
	}
	lua_pushnil(L);
	if (data)
		lua_pushfstring(L, "the kernel has no symbol '%s'", name);
	else
		lua_pushfstring(L,
				"the kernel has no function '%s'; variables are not among its "
				"symbols, as it was built without CONFIG_KALLSYMS_ALL",
				name);
	return 2;
}

static const char *name_arg(lua_State *L, int i)
{
	size_t len;
	const char *name = luaL_checklstring(L, i, &len);

	luaL_argcheck(L, len && strlen(name) == len, i, "it is no symbol's name");
	return name;
}

/* ksym(name [, module]) -> { name, address, type, module, … } | nil, why
 * raises: ENOTUNIQ, EPERM (hidden), ENOTSUP (a variable, without CONFIG_KALLSYMS_ALL) */
static int kernel_ksym(lua_State *L)
{
	const char *name = name_arg(L, 1), *module = luaL_optstring(L, 2, NULL);
	struct mb_kernel *kernel = mb_kernel_of(L);
	struct mb_ksym sym;
	struct copy found;
	MB_ERROR(err);
	int rc = mb_ksym_find(mb_kernel_syms(kernel), name, module, &sym, &err);

	if (rc < 0)
		return mb_raise(L, &err);
	if (!rc)
		return absent(L, kernel, name);
	copy(&found, &sym);
	push_sym(L, &found);
	add_declaration(L, name, found.module);
	return 1;
}

/* symbolize(address) -> name, offset, module | nil      raises: EPERM */
static int kernel_symbolize(lua_State *L)
{
	uint64_t address = (uint64_t)luaL_checkinteger(L, 1), offset;
	struct mb_ksym sym;
	char module[64];
	MB_ERROR(err);
	int rc = mb_ksym_at(mb_kernel_syms(mb_kernel_of(L)), address, &sym, &offset, &err);

	if (rc < 0)
		return mb_raise(L, &err);
	if (!rc)
		return lua_pushnil(L), 1;
	module[0] = '\0';
	if (sym.module)
		copy_text(module, sizeof(module), sym.module);
	lua_pushstring(L, sym.name);
	lua_pushinteger(L, (lua_Integer)offset);
	if (!module[0])
		return 2;
	lua_pushstring(L, module);
	return 3;
}

/* Upvalues: the cursor, the glob. */
static int ksyms_next(lua_State *L)
{
	uint64_t cursor = (uint64_t)lua_tointeger(L, lua_upvalueindex(1));
	struct mb_ksym sym;
	struct copy found;
	MB_ERROR(err);
	int rc = mb_ksym_next(mb_kernel_syms(mb_kernel_of(L)), &cursor,
			      lua_tostring(L, lua_upvalueindex(2)), &sym, &err);

	if (rc < 0)
		return mb_raise(L, &err);
	if (!rc)
		return 0;
	copy(&found, &sym);
	lua_pushinteger(L, (lua_Integer)cursor);
	lua_replace(L, lua_upvalueindex(1));
	push_sym(L, &found);
	return 1;
}

/* ksyms([glob]) -> iterator of { name, address, type, module }, by address; hidden ones have none */
static int kernel_ksyms(lua_State *L)
{
	luaL_optstring(L, 1, NULL);
	lua_settop(L, 1);
	lua_pushinteger(L, 0);
	lua_insert(L, 1);
	lua_pushcclosure(L, ksyms_next, 2);
	return 1;
}

/* ksym_near(name) -> the nearest symbol's name | nil */
static int kernel_ksym_near(lua_State *L)
{
	const char *near = mb_ksym_near(mb_kernel_syms(mb_kernel_of(L)), luaL_checkstring(L, 1));
	char name[LONGEST];

	copy_text(name, sizeof(name), near);
	if (near)
		lua_pushstring(L, name);
	else
		lua_pushnil(L);
	return 1;
}

const luaL_Reg mb_ksym_functions[] = { { "ksym", kernel_ksym },
				       { "ksym_near", kernel_ksym_near },
				       { "ksyms", kernel_ksyms },
				       { "symbolize", kernel_symbolize },
				       { NULL, NULL } };
