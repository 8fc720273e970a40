/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * moonbee.h as a C program uses it, also wrongly. Prints a line for each check; the spec reads them.
 *   api CASE [ARGUMENT…]
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <moonbee.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void on_log(void *ctx, int level, const char *line)
{
	printf("log %s %d: %.60s\n", (const char *)ctx, level, line);
}

static struct mb_runtime *make(void)
{
	struct mb_runtime_options o = { .size = sizeof(o),
					.log = on_log,
					.log_ctx = (void *)"here" };
	char why[256];
	struct mb_runtime *rt = mb_runtime_new(&o, why, sizeof(why));

	if (!rt)
		printf("no runtime: %s\n", why);
	return rt;
}

/* Turns it until it has ended, or for at most n steps. */
static int turn(struct mb_runtime *rt, int n)
{
	int rc = 1;

	while (n-- > 0 && rc > 0) {
		struct pollfd p = { .fd = mb_runtime_fd(rt), .events = POLLIN };

		poll(&p, 1, mb_runtime_timeout_ms(rt));
		rc = mb_runtime_step(rt);
	}
	return rc;
}

static int run(int argc, char **argv)
{
	struct mb_runtime *rt = make();
	int rc;

	if (!rt)
		return 1;
	printf("before: %d %d %d '%s'\n", mb_runtime_fd(rt), mb_runtime_timeout_ms(rt),
	       mb_runtime_step(rt), mb_runtime_error(rt));
	rc = mb_runtime_run_file(rt, argv[0], argc > 1 ? (const char *const *)argv + 1 : NULL);
	printf("run: %d\n", rc);
	if (rc > 0) {
		printf("again: %d\n", mb_runtime_run_file(rt, argv[0], NULL));
		rc = turn(rt, 1000);
		printf("turned: %d\n", rc);
	}
	if (rc < 0)
		printf("error: %s\n", mb_runtime_error(rt));
	mb_runtime_free(rt);
	return 0;
}

static int stop(int argc, char **argv)
{
	struct mb_runtime *rt = make();

	(void)argc;
	printf("run: %d\n", mb_runtime_run_file(rt, argv[0], NULL));
	printf("step: %d\n", mb_runtime_step(rt));
	printf("stop: %d\n", mb_runtime_stop(rt));
	printf("once more: %d\n", mb_runtime_stop(rt));
	mb_runtime_free(rt);
	return 0;
}

static int free_while_running(int argc, char **argv)
{
	struct mb_runtime *rt = make();

	(void)argc;
	printf("run: %d\n", mb_runtime_run_file(rt, argv[0], NULL));
	mb_runtime_free(rt);
	mb_runtime_free(NULL);
	printf("freed\n");
	return 0;
}

static void other_libbpf(void)
{
}

static int lend(int argc, char **argv)
{
	struct bpf_object *obj = bpf_object__open(argv[0]);
	struct bpf_map *map;
	struct mb_runtime *rt = make();
	__u32 zero = 0;
	char value[4096];

	printf("unloaded: %d\n", mb_runtime_add_object(rt, "early", obj));
	printf("error: %s\n", mb_runtime_error(rt));
	if (bpf_object__load(obj) != 0)
		return 1;
	printf("lent: %d\n", mb_runtime_add_object(rt, "one", obj));
	printf("twice: %d\n", mb_runtime_add_object(rt, "one", obj));
	printf("other: %d\n", mb_runtime_lend(rt, "two", obj, other_libbpf));
	printf("error: %s\n", mb_runtime_error(rt));
	if (argc > 1)
		printf("run: %d %s\n", mb_runtime_run_file(rt, argv[1], NULL),
		       mb_runtime_error(rt));
	mb_runtime_free(rt);
	map = bpf_object__find_map_by_name(obj, ".bss");
	printf("whole: %d\n", map ? bpf_map_lookup_elem(bpf_map__fd(map), &zero, value) : -1);
	bpf_object__close(obj);
	return 0;
}

static int no_lua(int argc, char **argv)
{
	struct mb_runtime_options o = { .size = sizeof(o), .lua_dir = argv[0] };
	char why[256] = "", few[8] = "";

	(void)argc;
	printf("none: %d\n", mb_runtime_new(&o, why, sizeof(why)) == NULL);
	printf("why: %.60s\n", why);
	printf("none: %d\n", mb_runtime_new(&o, few, sizeof(few)) == NULL);
	printf("few: %s\n", few);
	return 0;
}

/* A program that has a Lua state of its own. */
static int own_state(int argc, char **argv)
{
	lua_State *L = luaL_newstate();

	(void)argc;
	luaL_openlibs(L);
	luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
	lua_pushcfunction(L, luaopen_moonbee);
	lua_setfield(L, -2, "moonbee");
	if (luaL_dostring(L, argv[0]) != LUA_OK)
		printf("error: %s\n", lua_tostring(L, -1));
	lua_close(L);
	return 0;
}

static int heard;

__attribute__((format(printf, 2, 0))) static int on_print(enum libbpf_print_level level,
							  const char *fmt, va_list args)
{
	(void)fmt, (void)args;
	heard += level != LIBBPF_DEBUG;
	return 0;
}

/* A program that listens to libbpf: what moonbee's calls say is in moonbee's errors. */
static int printer(int argc, char **argv)
{
	struct mb_runtime *rt;

	libbpf_set_print(on_print);
	rt = make();
	if (!rt)
		return 1;
	printf("run: %d", mb_runtime_run_file(rt, argv[0], (const char *const *)argv + 1));
	printf(", heard %d\n", heard);
	bpf_object__close(bpf_object__open_file("/nonexistent", NULL));
	printf("heard %d\n", heard);
	mb_runtime_free(rt);
	return argc < 1;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*fn)(int argc, char **argv);
	} cases[] = {
		{ "run", run },		{ "stop", stop },     { "free", free_while_running },
		{ "lend", lend },	{ "no_lua", no_lua }, { "own_state", own_state },
		{ "printer", printer },
	};

	setvbuf(stdout, NULL, _IOLBF, 0);
	libbpf_set_print(NULL);
	for (size_t i = 0; argc > 2 && i < sizeof(cases) / sizeof(cases[0]); i++)
		if (strcmp(cases[i].name, argv[1]) == 0)
			return cases[i].fn(argc - 2, argv + 2);
	return 2;
}
