/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * require "moonbee.line": a terminal's line, edited by libedit's readline interface, or by GNU
 * readline (make LINE=readline). A module of its own, so that only who edits lines needs the library.
 *
 * The library calls back while it reads a key; nothing of Lua runs then. A callback only notes what
 * happened, and read() tells it. The library knows one terminal, and so does this module.
 */
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include <wchar.h>

#ifdef MB_READLINE
#include <readline/history.h>
#include <readline/readline.h>
#else
#include <editline/readline.h>
#endif

/* Lines come from the library's malloc; bind.h forbids what is needed to give them back. */
static void give_back(char *line)
{
	free(line);
}

#include "bind.h"

enum event { EVENT_NONE, EVENT_LINE, EVENT_END, EVENT_TAB };

static struct {
	bool ready;   /* the library is set up */
	bool editing; /* the terminal is the library's */
	enum event event;
	char *line; /* of EVENT_LINE */
	bool known; /* its modes, as they were found */
	struct termios modes;
} terminal;

/* Between two lines what is typed ahead must not show: the next prompt shows it. */
static void echo(bool on)
{
	struct termios modes = terminal.modes;

	if (!terminal.known)
		return;
	if (!on)
		modes.c_lflag &= ~(tcflag_t)ECHO;
	tcsetattr(STDIN_FILENO, TCSADRAIN, &modes);
}

/* A whole line, or NULL: Ctrl-D on an empty one. */
static void on_line(char *line)
{
	give_back(terminal.line);
	terminal.line = line;
	terminal.event = line ? EVENT_LINE : EVENT_END;
#ifdef MB_READLINE
	/* It would show the next prompt at once; libedit would not give the terminal back from here. */
	rl_callback_handler_remove();
	terminal.editing = false;
#endif
}

static int on_tab(int count, int key)
{
	(void)count;
	(void)key;
	terminal.event = EVENT_TAB;
	return 0;
}

static void set_up(void)
{
	if (terminal.ready)
		return;
	setlocale(LC_CTYPE, ""); /* widths of characters */
	terminal.known = tcgetattr(STDIN_FILENO, &terminal.modes) == 0;
	rl_readline_name = "moonbee";
	rl_catch_signals = 0; /* the loop has them */
	rl_catch_sigwinch = 0;
	rl_initialize();
	using_history();
#ifdef MB_READLINE
	rl_variable_bind("enable-bracketed-paste", "off");
	rl_bind_key('\t', on_tab);
#else
	rl_add_defun("moonbee-complete", on_tab, '\t');
#endif
	terminal.ready = true;
}

static void leave(void)
{
	if (terminal.editing)
		rl_callback_handler_remove();
	terminal.editing = false;
}

/* line.start(prompt): show it and edit a line, until read() has one or stop() */
static int line_start(lua_State *L)
{
	const char *prompt = luaL_checkstring(L, 1);

	set_up();
	leave();
	terminal.event = EVENT_NONE;
	echo(true); /* what the library takes for the user's modes */
	rl_callback_handler_install(prompt, on_line);
	rl_point = rl_end = 0; /* libedit's are those of the line before, until a key comes */
	terminal.editing = true;
	return 0;
}

/* line.stop(): give the terminal back as it was; what was typed is lost */
static int line_stop(lua_State *L)
{
	(void)L;
	leave();
	echo(true);
	return 0;
}

static int push_event(lua_State *L, enum event event)
{
	switch (event) {
	case EVENT_LINE:
		leave();
		echo(false);
		lua_pushliteral(L, "line");
		lua_pushstring(L, terminal.line);
		give_back(terminal.line);
		terminal.line = NULL;
		return 2;
	case EVENT_END:
		leave();
		lua_pushliteral(L, "end");
		return 1;
	case EVENT_TAB:
		lua_pushliteral(L, "tab");
		return 1;
	default:
		lua_pushnil(L);
		return 1;
	}
}

/* line.read() -> nil | "line", text | "end" | "tab"      takes one key; standard input is readable */
static int line_read(lua_State *L)
{
	enum event event;

	if (!terminal.editing)
		return luaL_error(L, "line.read: no line is being edited");
	terminal.event = EVENT_NONE;
	rl_callback_read_char();
	event = terminal.event;
	terminal.event = EVENT_NONE;
	return push_event(L, event);
}

/* line.text() -> what is typed, bytes of it that are before the cursor */
static int line_text(lua_State *L)
{
	if (!terminal.editing || !rl_line_buffer) {
		lua_pushliteral(L, "");
		lua_pushinteger(L, 0);
		return 2;
	}
	lua_pushlstring(L, rl_line_buffer, rl_end > 0 ? (size_t)rl_end : 0);
	lua_pushinteger(L, rl_point);
	return 2;
}

/* line.insert(text): at the cursor; redraw() shows it */
static int line_insert(lua_State *L)
{
	const char *text = luaL_checkstring(L, 1);

	if (terminal.editing)
		rl_insert_text(text);
	return 0;
}

/* line.redraw(): prompt and text, on a row that the caller has emptied */
static int line_redraw(lua_State *L)
{
	(void)L;
	if (!terminal.editing)
		return 0;
	rl_on_new_line();
	rl_forced_update_display();
	fflush(stdout);
	return 0;
}

/* line.resize(): the terminal has another size now */
static int line_resize(lua_State *L)
{
	(void)L;
	if (terminal.ready)
		rl_resize_terminal();
	return 0;
}

/* line.remember(text): the newest line of the history */
static int line_remember(lua_State *L)
{
	const char *text = luaL_checkstring(L, 1);

	set_up();
	add_history(text);
	return 0;
}

/* line.size() -> columns, rows of the terminal at standard output; nothing: it is none */
static int line_size(lua_State *L)
{
	struct winsize size;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
		return 0;
	lua_pushinteger(L, size.ws_col);
	lua_pushinteger(L, size.ws_row);
	return 2;
}

/* line.width(text) -> columns that it takes: wide characters two, combining ones none */
static int line_width(lua_State *L)
{
	size_t len, used, columns = 0;
	const char *text = luaL_checklstring(L, 1, &len);
	mbstate_t state = { 0 };
	wchar_t c;

	for (; len > 0; text += used, len -= used) {
		int width = 1;

		used = mbrtowc(&c, text, len, &state);
		if (used == 0 || used > len) { /* NUL, or no character of this locale */
			used = 1;
			state = (mbstate_t){ 0 };
		} else {
			width = wcwidth(c);
		}
		columns += width < 0 ? 2 : (size_t)width; /* control characters show as ^X */
	}
	lua_pushinteger(L, (lua_Integer)columns);
	return 1;
}

static const luaL_Reg functions[] = {
	{ "start", line_start },
	{ "stop", line_stop },
	{ "read", line_read },
	{ "text", line_text },
	{ "insert", line_insert },
	{ "redraw", line_redraw },
	{ "resize", line_resize },
	{ "size", line_size },
	{ "remember", line_remember },
	{ "width", line_width },
	{ NULL, NULL },
};

/* The end of the state: the terminal is the shell's again. */
static int sentinel_gc(lua_State *L)
{
	(void)L;
	leave();
	echo(true);
	give_back(terminal.line);
	terminal.line = NULL;
	return 0;
}

MB_API int luaopen_moonbee_line(lua_State *L);
MB_API int luaopen_moonbee_line(lua_State *L)
{
	luaL_checkversion(L);
	luaL_newlib(L, functions);
#ifdef MB_READLINE
	lua_pushliteral(L, "readline");
#else
	lua_pushliteral(L, "libedit");
#endif
	lua_setfield(L, -2, "library");
	lua_createtable(L, 0, 1);
	lua_pushcfunction(L, sentinel_gc);
	lua_setfield(L, -2, "__gc");
	lua_setmetatable(L, -2);
	return 1;
}
