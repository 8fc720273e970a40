/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mb_error -> what Lua sees. The world's refusals are error objects (tables of class moonbee.error);
 * a caller's mistakes are text with the caller's line, as Lua's own are.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "bind.h"

static const char *const CLASS = "moonbee.error";

/* ---- text ------------------------------------------------------------------------------------------ */

static void field(lua_State *L, int i, const char *name, const char *otherwise)
{
	if (lua_getfield(L, i, name) == LUA_TNIL) {
		lua_pop(L, 1);
		lua_pushstring(L, otherwise);
	}
	luaL_tolstring(L, -1, NULL);
	lua_remove(L, -2);
}

static int error_tostring(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	field(L, 1, "op", "error");
	field(L, 1, "subject", "?");
	field(L, 1, "cause", "failed");
	field(L, 1, "code", "?");
	lua_pushfstring(L, "%s '%s': %s (%s)", lua_tostring(L, 2), lua_tostring(L, 3),
			lua_tostring(L, 4), lua_tostring(L, 5));
	if (lua_getfield(L, 1, "hint") == LUA_TSTRING)
		lua_pushfstring(L, "%s\nhint: %s", lua_tostring(L, -2), lua_tostring(L, -1));
	else
		lua_pop(L, 1);
	return 1;
}

/* ---- objects ---------------------------------------------------------------------------------------- */

static void set(lua_State *L, const char *name, const char *value)
{
	if (!value || !*value)
		return;
	lua_pushstring(L, value);
	lua_setfield(L, -2, name);
}

static void set_words(lua_State *L, const char *name, const struct mb_words *words)
{
	if (!words->len)
		return;
	lua_pushlstring(L, words->at, words->len);
	lua_setfield(L, -2, name);
}

static void set_number(lua_State *L, const char *name, lua_Integer n)
{
	lua_pushinteger(L, n);
	lua_setfield(L, -2, name);
}

/* .verifier: the log of a rejection, read. */
static void set_rejection(lua_State *L, const char *log)
{
	struct mb_rejection r;

	if (!mb_rejection_read(log, &r))
		return;
	lua_createtable(L, 0, 7);
	set_words(L, "program", &r.program);
	set_words(L, "source", &r.source);
	set_words(L, "file", &r.file);
	if (r.line)
		set_number(L, "line", r.line);
	if (r.insn >= 0)
		set_number(L, "insn", r.insn);
	set_number(L, "processed", (lua_Integer)r.processed);
	lua_createtable(L, (int)r.nreasons, 0);
	for (size_t i = 0; i < r.nreasons; i++) {
		lua_pushlstring(L, r.reasons[i].at, r.reasons[i].len);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
	}
	lua_setfield(L, -2, "reasons");
	lua_setfield(L, -2, "verifier");
}

/* Runs protected, so that the log is freed even when memory is short. */
static int push_object(lua_State *L)
{
	const struct mb_error *err = lua_touserdata(L, 1);

	lua_createtable(L, 0, 7);
	set(L, "code", mb_error_name(err->code));
	lua_pushinteger(L, err->code);
	lua_setfield(L, -2, "errno");
	set(L, "op", err->op);
	lua_pushstring(L, err->subject); /* also when it is an empty path */
	lua_setfield(L, -2, "subject");
	set(L, "cause", err->cause);
	set(L, "hint", err->hint);
	set(L, "log", err->log);
	set_rejection(L, err->log);
	luaL_setmetatable(L, CLASS);
	return 1;
}

void mb_error_push(lua_State *L, const struct mb_error *err)
{
	lua_pushcfunction(L, push_object);
	lua_pushlightuserdata(L, (void *)(uintptr_t)err);
	lua_call(L, 1, 1);
}

/* What only the calling code can have done wrong. */
static bool is_mistake(const struct mb_error *err)
{
	static const char *const ops[] = { "store",   "access", "write", "index",
					   "resolve", "change", "view",	 "read bytes of" };

	if (err->code == EBADF)
		return true;
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		if (strcmp(err->op, ops[i]) == 0)
			return true;
	return false;
}

static int push_text(lua_State *L)
{
	const struct mb_error *err = lua_touserdata(L, 1);

	lua_pushfstring(L, "%s '%s': %s", err->op, err->subject, err->cause);
	if (err->hint[0])
		lua_pushfstring(L, "%s\nhint: %s", lua_tostring(L, -1), err->hint);
	return 1;
}

/* Push "file:line: " of the nearest caller in Lua: pcall, pairs and the like are in between. */
static void push_where(lua_State *L)
{
	lua_Debug ar;

	for (int level = 1; lua_getstack(L, level, &ar); level++) {
		lua_getinfo(L, "Sl", &ar);
		if (ar.currentline > 0) {
			lua_pushfstring(L, "%s:%d: ", ar.short_src, ar.currentline);
			return;
		}
	}
	lua_pushliteral(L, "");
}

int mb_raise(lua_State *L, struct mb_error *err)
{
	bool mistake = is_mistake(err);

	if (err->code == EINTR && mb_interrupt_pending()) {
		mb_error_fini(err);
		return mb_interrupt_raise(L);
	}
	/* C functions need no stack check for as few slots as this: LUA_MINSTACK is there */
	lua_pushcfunction(L, mistake ? push_text : push_object);
	lua_pushlightuserdata(L, err);
	lua_pcall(L, 1, 1, 0);
	mb_error_fini(err);
	if (mistake && lua_type(L, -1) == LUA_TSTRING) {
		push_where(L);
		lua_insert(L, -2);
		lua_concat(L, 2);
	}
	return lua_error(L);
}

int mb_mistake(lua_State *L, const char *hint, const char *fmt, ...)
{
	char text[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	push_where(L);
	if (hint)
		lua_pushfstring(L, "%s%s\nhint: %s", lua_tostring(L, -1), text, hint);
	else
		lua_pushfstring(L, "%s%s", lua_tostring(L, -1), text);
	return lua_error(L);
}

/* error{ code =, op =, subject =, cause =, hint = } -> error object, for modules in Lua */
int mb_error_new(lua_State *L)
{
	static const char *const names[] = { "code",  "errno", "op",  "subject",
					     "cause", "hint",  "log", "verifier" };

	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	lua_createtable(L, 0, 7);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		lua_getfield(L, 1, names[i]);
		lua_setfield(L, -2, names[i]);
	}
	if (lua_getfield(L, -1, "errno") == LUA_TNIL &&
	    lua_getfield(L, -2, "code") == LUA_TSTRING) {
		int code = mb_error_code(lua_tostring(L, -1));

		if (code) {
			lua_pushinteger(L, code);
			lua_setfield(L, 2, "errno");
		}
	}
	lua_settop(L, 2);
	luaL_setmetatable(L, CLASS);
	return 1;
}

void mb_error_open(lua_State *L)
{
	luaL_newmetatable(L, CLASS);
	lua_pushcfunction(L, error_tostring);
	lua_setfield(L, -2, "__tostring");
	lua_pop(L, 1);
}
