/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Tables of options, read by a list of what may be in them. A misspelt option must not pass in
 * silence.
 */
#include "bind.h"

static const char *nth_option(const void *ctx, size_t i)
{
	return ((const struct mb_option *)ctx)[i].name;
}

static void take(lua_State *L, const struct mb_option *o, const char *what, void *to)
{
	char *at = (char *)to + o->at;
	bool bits = o->type == MB_OPTION_BITS;
	int type = bits ? LUA_TNUMBER : o->type;

	if (o->type == MB_OPTION_ANY)
		return;
	if (lua_type(L, -1) != type)
		mb_mistake(L, NULL, "option '%s' of %s is a %s, not a %s", o->name, what,
			   lua_typename(L, type), luaL_typename(L, -1));
	if (o->type == LUA_TSTRING) {
		const char *s = lua_tostring(L, -1);

		memcpy(at, &s, sizeof(s));
	} else if (o->type == LUA_TBOOLEAN) {
		*(bool *)at = lua_toboolean(L, -1);
	} else if (type == LUA_TNUMBER) {
		int whole;
		lua_Integer n = lua_tointegerx(L, -1, &whole);

		if (!whole || (n < 0 && !bits))
			mb_mistake(L, NULL, "option '%s' of %s is a whole number%s", o->name, what,
				   bits ? "" : " from 0 on");
		memcpy(at, &n, sizeof(n));
	}
}

void mb_options(lua_State *L, int i, const char *what, const struct mb_option *options, void *to)
{
	if (lua_isnoneornil(L, i))
		return;
	luaL_checktype(L, i, LUA_TTABLE);
	for (lua_pushnil(L); lua_next(L, i); lua_pop(L, 1)) {
		const struct mb_option *o = options;
		const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : NULL;

		while (name && o->name && strcmp(o->name, name) != 0)
			o++;
		if (!name)
			mb_mistake(L, NULL, "%s has options by name, not by %s", what,
				   luaL_typename(L, -2));
		if (!o->name) {
			const char *near = mb_near(name, nth_option, options);

			mb_mistake(L, near ? lua_pushfstring(L, "did you mean '%s'?", near) : NULL,
				   "%s has no option '%s'", what, name);
		}
		take(L, o, what, to);
	}
}
