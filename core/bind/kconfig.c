/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kernel.config: the running kernel's configuration; and open's option kconfig as text.
 */
#include "kernel.h"

static const struct mb_kconfig *config_of(lua_State *L)
{
	const struct mb_kconfig *config;
	MB_ERROR(err);

	if (mb_kernel_config(mb_kernel_of(L), &config, &err) != 0)
		mb_raise(L, &err);
	return config;
}

/* y and n as truth values, m as it is. */
static void push_value(lua_State *L, const struct mb_kconfig_value *v)
{
	if (v->kind == MB_OPTION_INT)
		lua_pushinteger(L, (lua_Integer)v->number);
	else if (v->kind == MB_OPTION_TEXT || *v->text == 'm')
		lua_pushstring(L, v->text);
	else
		lua_pushboolean(L, *v->text == 'y');
}

/* config(name) -> value | nil */
static int kernel_config(lua_State *L)
{
	struct mb_kconfig_value v;

	if (!mb_kconfig_find(config_of(L), luaL_checkstring(L, 1), &v))
		return lua_pushnil(L), 1;
	push_value(L, &v);
	return 1;
}

/* config_nth(n) -> name without CONFIG_, value | nothing at the end */
static int kernel_config_nth(lua_State *L)
{
	lua_Integer n = luaL_checkinteger(L, 1);
	struct mb_kconfig_value v;

	if (n < 0 || !mb_kconfig_nth(config_of(L), (size_t)n, &v))
		return 0;
	lua_pushstring(L, v.name + strlen("CONFIG_"));
	push_value(L, &v);
	return 2;
}

/* config_path() -> where it was read */
static int kernel_config_path(lua_State *L)
{
	lua_pushstring(L, mb_kconfig_path(config_of(L)));
	return 1;
}

const luaL_Reg mb_kconfig_functions[] = { { "config", kernel_config },
					  { "config_nth", kernel_config_nth },
					  { "config_path", kernel_config_path },
					  { NULL, NULL } };

/* ---- the option ----------------------------------------------------------------------------------- */

/* Push the value at index value as a line has it. */
static void push_form(lua_State *L, int value, const char *name)
{
	size_t len;
	const char *s;

	if (lua_isboolean(L, value)) {
		lua_pushstring(L, lua_toboolean(L, value) ? "y" : "n");
	} else if (lua_isinteger(L, value)) {
		lua_pushfstring(L, "%I", (LUAI_UACINT)lua_tointeger(L, value));
	} else if (lua_type(L, value) == LUA_TSTRING) {
		s = lua_tolstring(L, value, &len);
		if (len != strlen(s) || strpbrk(s, "\"\n"))
			mb_mistake(L, NULL,
				   "option kconfig: the text of %s has a quote, a line's end or a "
				   "NUL in it",
				   name);
		if (strlen(s) == 1 && strchr("ymn", *s))
			lua_pushvalue(L, value);
		else
			lua_pushfstring(L, "\"%s\"", s);
	} else {
		mb_mistake(L, NULL,
			   "option kconfig: %s is a boolean, an integer or a string, not a %s",
			   name, luaL_typename(L, value));
	}
}

/* kconfig = { HZ = 250, CONFIG_BPF = true, LOCALVERSION = "-x", NET = "m" }: pushes it as lines */
static void push_lines(lua_State *L, int i)
{
	int text;

	lua_pushliteral(L, "");
	text = lua_gettop(L);
	for (lua_pushnil(L); lua_next(L, i); lua_pop(L, 1)) {
		int value = lua_gettop(L);
		const char *name;

		if (lua_type(L, value - 1) != LUA_TSTRING)
			mb_mistake(L, NULL, "option kconfig: options go by name, not by %s",
				   luaL_typename(L, value - 1));
		name = lua_tostring(L, value - 1);
		lua_pushvalue(L, text);
		lua_pushstring(L, strncmp(name, "CONFIG_", 7) == 0 ? "" : "CONFIG_");
		lua_pushstring(L, name);
		lua_pushliteral(L, "=");
		push_form(L, value, name);
		lua_pushliteral(L, "\n");
		lua_concat(L, 6);
		lua_replace(L, text);
	}
}

const char *mb_kconfig_option(lua_State *L, int i)
{
	i = lua_absindex(L, i);
	if (lua_isnoneornil(L, i) || lua_type(L, i) == LUA_TSTRING)
		lua_pushvalue(L, i);
	else if (lua_istable(L, i))
		push_lines(L, i);
	else
		mb_mistake(L, NULL, "option 'kconfig' of bpf.open is a string or a table, not a %s",
			   luaL_typename(L, i));
	return lua_tostring(L, -1);
}
