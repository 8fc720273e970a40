/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Type objects: a plan as Lua sees it. T.size, T.fields; T{…} makes a value; tostring is the C
 * definition.
 */
#include "bind.h"

/* The counted thing of a type's handle is its btf; the plan is the first thing beside it. */
struct type_ud {
	struct mb_handle handle;
	const struct mb_plan *plan;
};

static const char *const kinds[] = {
	[MB_KIND_INT] = "int",	   [MB_KIND_BOOL] = "bool",	  [MB_KIND_FLOAT] = "float",
	[MB_KIND_ENUM] = "enum",   [MB_KIND_POINTER] = "pointer", [MB_KIND_CHARS] = "chars",
	[MB_KIND_BYTES] = "bytes", [MB_KIND_ARRAY] = "array",	  [MB_KIND_STRUCT] = "struct",
	[MB_KIND_UNION] = "union", [MB_KIND_SECTION] = "section", [MB_KIND_GROUP] = "group",
};

void mb_type_push(lua_State *L, const struct mb_plan *plan)
{
	struct type_ud *ud = lua_newuserdatauv(L, sizeof(*ud), MB_UV_OWN);

	ud->handle = (struct mb_handle){ &mb_type_class, NULL };
	ud->plan = plan;
	luaL_setmetatable(L, mb_type_class.name);
	ud->handle.thing = mb_btf_ref(plan->btf);
}

const struct mb_plan *mb_type_test(lua_State *L, int i)
{
	struct type_ud *ud = (void *)mb_class_test(L, i, &mb_type_class);

	return ud && ud->handle.thing ? ud->plan : NULL;
}

static const struct mb_plan *type_check(lua_State *L, int i)
{
	mb_class_check(L, i, &mb_type_class);
	return ((struct type_ud *)lua_touserdata(L, i))->plan;
}

static void set_integer(lua_State *L, const char *name, lua_Integer n)
{
	lua_pushinteger(L, n);
	lua_setfield(L, -2, name);
}

static void push_fields(lua_State *L, const struct mb_plan *plan)
{
	lua_createtable(L, (int)plan->nfields, 0);
	for (uint32_t i = 0; plan->kind != MB_KIND_ARRAY && i < plan->nfields; i++) {
		const struct mb_field *f = &plan->fields[i];

		lua_createtable(L, 0, 5);
		lua_pushstring(L, f->name);
		lua_setfield(L, -2, "name");
		set_integer(L, "offset", f->off);
		if (f->bits) {
			set_integer(L, "bits", f->bits);
			set_integer(L, "shift", f->shift);
		}
		mb_type_push(L, f->plan);
		lua_setfield(L, -2, "type");
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
}

static void push_enums(lua_State *L, const struct mb_plan *plan)
{
	lua_createtable(L, (int)plan->nenums, 0);
	for (uint32_t i = 0; i < plan->nenums; i++) {
		lua_createtable(L, 0, 2);
		lua_pushstring(L, plan->enums[i].name);
		lua_setfield(L, -2, "name");
		set_integer(L, "value", plan->enums[i].value);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
}

static void push_target(lua_State *L, const struct mb_plan *plan)
{
	const struct mb_plan *target;

	if (mb_plan_target(plan, &target))
		mb_type_push(L, target);
	else
		lua_pushnil(L);
}

static int type_get(lua_State *L, void *thing, const char *name)
{
	const struct mb_plan *plan = ((struct type_ud *)lua_touserdata(L, 1))->plan;

	(void)thing;
	if (strcmp(name, "name") == 0)
		lua_pushstring(L, plan->name);
	else if (strcmp(name, "kind") == 0)
		lua_pushstring(L, kinds[plan->kind]);
	else if (strcmp(name, "size") == 0)
		lua_pushinteger(L, plan->size);
	else if (strcmp(name, "signed") == 0)
		lua_pushboolean(L, plan->is_signed);
	else if (strcmp(name, "flexible") == 0)
		lua_pushboolean(L, plan->flexible);
	else if (strcmp(name, "count") == 0)
		lua_pushinteger(L, plan->count);
	else if (strcmp(name, "stride") == 0)
		lua_pushinteger(L, plan->stride);
	else if (strcmp(name, "elem") == 0 && plan->kind != MB_KIND_ARRAY)
		lua_pushnil(L);
	else if (strcmp(name, "elem") == 0)
		mb_type_push(L, plan->fields[0].plan);
	else if (strcmp(name, "callable") == 0)
		lua_pushboolean(L, mb_plan_callable(plan));
	else if (strcmp(name, "target") == 0)
		push_target(L, plan);
	else if (strcmp(name, "fields") == 0)
		push_fields(L, plan);
	else if (strcmp(name, "enums") == 0)
		push_enums(L, plan);
	else
		return 0;
	return 1;
}

/* T{ field = value } -> a value of the type, in memory of its own */
static int type_call(lua_State *L)
{
	const struct mb_plan *plan = type_check(L, 1);
	struct mb_view *view;

	lua_settop(L, 2);
	if (plan->enc != MB_ENC_NONE)
		return mb_mistake(L, NULL,
				  "%s is no struct, union or array: its values are Lua's own",
				  plan->name);
	view = mb_view_push_new(L, plan, plan->size, MB_REGION_WRITABLE, plan->name);
	if (!lua_isnoneornil(L, 2))
		mb_encode_bytes(L, 2, plan, view->region->base, MB_ENCODE_INIT, plan->name);
	return 1;
}

static int type_tostring(lua_State *L)
{
	const struct mb_plan *plan = type_check(L, 1);
	size_t len = mb_plan_define(plan, NULL, 0);
	luaL_Buffer text;
	char *to = luaL_buffinitsize(L, &text, len + 1);

	mb_plan_define(plan, to, len + 1);
	luaL_pushresultsize(&text, len);
	return 1;
}

/* The same type of the same object, whatever its qualifiers (const, volatile). */
static int type_eq(lua_State *L)
{
	const struct mb_plan *a = mb_type_test(L, 1), *b = mb_type_test(L, 2);

	lua_pushboolean(L, a == b || (a && b && a->btf == b->btf && a->kind == b->kind &&
				      a->fields == b->fields && a->enums == b->enums &&
				      a->size == b->size && strcmp(a->name, b->name) == 0));
	return 1;
}

static const char *type_title(const void *thing)
{
	(void)thing;
	return "";
}

static void type_unref(void *thing)
{
	mb_btf_unref(thing);
}

static const luaL_Reg methods[] = { { NULL, NULL } };
static const luaL_Reg meta[] = { { "__call", type_call },
				 { "__tostring", type_tostring },
				 { "__eq", type_eq },
				 { NULL, NULL } };
static const char *const properties[] = { "name",   "kind",	"size", "signed", "flexible",
					  "count",  "stride",	"elem", "fields", "enums",
					  "target", "callable", NULL };

const struct mb_class mb_type_class = {
	.name = "moonbee.type",
	.methods = methods,
	.meta = meta,
	.properties = properties,
	.get = type_get,
	.unref = type_unref,
	.title = type_title,
};

/* ---- obj.types: all named types of a BTF --------------------------------------------------------- */

static const char *const TYPES = "moonbee.types";

static struct mb_btf *types_check(lua_State *L)
{
	struct mb_handle *h = luaL_checkudata(L, 1, TYPES);

	if (!h->thing)
		luaL_error(L, "attempt to use closed types");
	return h->thing;
}

static int types_index(lua_State *L)
{
	struct mb_btf *btf = types_check(L);
	const struct mb_plan *plan;
	MB_ERROR(err);

	if (mb_btf_find(btf, luaL_checkstring(L, 2), &plan, &err) != 0)
		return mb_raise(L, &err);
	mb_type_push(L, plan);
	return 1;
}

static int types_next(lua_State *L)
{
	struct mb_btf *btf = types_check(L);
	uint32_t cursor = (uint32_t)lua_tointeger(L, lua_upvalueindex(1));
	const struct mb_plan *plan;
	const char *name;

	if (!mb_btf_next(btf, &cursor, &name))
		return 0;
	lua_pushinteger(L, cursor);
	lua_replace(L, lua_upvalueindex(1));
	lua_pushstring(L, name);
	if (mb_btf_plan(btf, cursor, &plan, NULL) != 0)
		return 0;
	mb_type_push(L, plan);
	return 2;
}

static int types_pairs(lua_State *L)
{
	types_check(L);
	lua_pushinteger(L, 0);
	lua_pushcclosure(L, types_next, 1);
	lua_pushvalue(L, 1);
	return 2;
}

static int types_gc(lua_State *L)
{
	struct mb_handle *h = lua_touserdata(L, 1); /* a finalizer must not allocate */
	struct mb_btf *btf = h->thing;

	h->thing = NULL;
	mb_btf_unref(btf);
	return 0;
}

static const luaL_Reg types_meta[] = {
	{ "__index", types_index },
	{ "__pairs", types_pairs },
	{ "__gc", types_gc },
	{ NULL, NULL },
};

void mb_types_push(lua_State *L, struct mb_btf *btf)
{
	struct mb_handle *h = lua_newuserdatauv(L, sizeof(*h), 0);

	*h = (struct mb_handle){ NULL, NULL };
	luaL_setmetatable(L, TYPES);
	h->thing = mb_btf_ref(btf);
}

void mb_types_open(lua_State *L)
{
	luaL_newmetatable(L, TYPES);
	luaL_setfuncs(L, types_meta, 0);
	lua_pushstring(L, TYPES);
	lua_setfield(L, -2, "__metatable");
	lua_pop(L, 1);
}
