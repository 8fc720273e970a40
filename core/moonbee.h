/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * moonbee in a C program: control scripts, policies and a console for a daemon that loads BPF by libbpf
 * itself. Link with what `pkg-config --libs moonbee` says.
 *
 *	struct mb_runtime *rt = mb_runtime_new(NULL, why, sizeof(why));
 *
 *	mb_runtime_add_object(rt, "flow", skel->obj);
 *	if (mb_runtime_run_policy(rt, "/etc/flow/policy.lua", NULL) < 0)
 *		fprintf(stderr, "%s\n", mb_runtime_error(rt));
 *	for (;;) {
 *		// poll mb_runtime_fd(rt) for reading, for at most mb_runtime_timeout_ms(rt)
 *		if (mb_runtime_step(rt) <= 0)
 *			break;
 *	}
 *	mb_runtime_free(rt);
 *
 * A runtime is a Lua state with moonbee in it. It belongs to one thread, that which made it; several of
 * them, each on a thread of its own, share nothing. No function prints, exits or raises. int functions
 * return 0 or more, or a negative errno; mb_runtime_error then tells why.
 *
 * Signals: SIGHUP, SIGINT and SIGTERM stay the program's (SIGHUP does not reload a policy here: the
 * file's change does, or `moonbee ctl NAME reload`). SIGPIPE is held back in the thread that calls, for
 * as long as a call lasts. The first policy takes one real-time signal that nobody handles, for its
 * deadlines, on its own thread.
 */
#ifndef MOONBEE_H
#define MOONBEE_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct bpf_object;
struct lua_State;
struct mb_runtime;

/*
 * For a program that has a Lua 5.4 state of its own: what require "moonbee" gives. It needs moonbee's
 * Lua files in package.path. As any Lua module's, its functions raise.
 */
int luaopen_moonbee(struct lua_State *L);

struct mb_runtime_options {
	size_t size;	     /* sizeof(struct mb_runtime_options): later versions add fields */
	const char *lua_dir; /* where moonbee's Lua files are; NULL: where they were installed */
	/* What scripts and handlers report (an error in a handler, a policy's log) goes here, a line
	 * each, without its end; NULL: to standard error. level: 0 error, 1 warning, 2 info, 3 debug. */
	void (*log)(void *ctx, int level, const char *line);
	void *log_ctx;
};

/*
 * Make a runtime. options may be NULL. On failure NULL, and the reason is in why (at most room bytes;
 * why may be NULL). Needs no privilege. It is ended by mb_runtime_free.
 */
struct mb_runtime *mb_runtime_new(const struct mb_runtime_options *options, char *why, size_t room);

/*
 * Lend a loaded object, a skeleton's too (skel->obj), to the runtime's Lua side, which sees it as
 * require("moonbee").lent.NAME: its variables (mapped once more), maps, programs and links work there.
 * Nothing of it is closed, unpinned or detached by us, and links that Lua makes end with the runtime.
 * Close it only after mb_runtime_free. -EINVAL: not loaded, no BTF; -EEXIST: the name is taken;
 * -EXDEV: it was made by another copy of libbpf than ours (one is linked statically): link both with
 * the same libbpf.
 */
#define mb_runtime_add_object(rt, name, obj)                                                       \
	mb_runtime_lend(rt, name, obj, (void (*)(void))bpf_object__name)
int mb_runtime_lend(struct mb_runtime *rt, const char *name, struct bpf_object *obj,
		    void (*libbpf)(void));

/*
 * Run a control script, as `moonbee run FILE` does, up to its loop.run() or its end: 1 while it runs
 * (then step it), 0 when it has ended. It sees its arguments (NULL, or up to a NULL) as `...` and arg.
 * One at a time: -EBUSY. -ENOENT, -EINVAL: no such file, a mistake in it, an error raised.
 */
int mb_runtime_run_file(struct mb_runtime *rt, const char *path, const char *const *args);

/*
 * Run a policy, as `moonbee policy FILE OPTION…` does: reloading, its control socket and its console
 * included. Returns as mb_runtime_run_file. Its file may say object = "@NAME" for one that was lent.
 */
int mb_runtime_run_policy(struct mb_runtime *rt, const char *path, const char *const *options);

/*
 * For the program's own loop: when fd is readable (EPOLLIN, level-triggered), or timeout_ms (-1: none)
 * have passed, call step, which handles what is due and returns at once: 1 while the script or policy
 * runs, 0 when it has ended, or a negative errno when it ended by an error. timeout_ms changes with each
 * step. Without anything that runs, they return -1, -1 and 0.
 */
int mb_runtime_fd(struct mb_runtime *rt);
int mb_runtime_timeout_ms(struct mb_runtime *rt);
int mb_runtime_step(struct mb_runtime *rt);

/*
 * End what runs, as Ctrl-C does for the program moonbee: loop.run() returns "stop", <close> runs, a
 * policy's stop is called. Returns as step: 1 if it still has something to do.
 */
int mb_runtime_stop(struct mb_runtime *rt);

/* What went wrong last, with a hint and a traceback where there is one; "" before. Until the next call. */
const char *mb_runtime_error(const struct mb_runtime *rt);

/* The Lua state, to add functions of the program's own to before something runs. Not while it runs. */
struct lua_State *mb_runtime_state(struct mb_runtime *rt);

/* End all of it: what runs is stopped, links made by it are detached, its objects closed. NULL is
 * allowed. */
void mb_runtime_free(struct mb_runtime *rt);

#ifdef __cplusplus
}
#endif

#endif
