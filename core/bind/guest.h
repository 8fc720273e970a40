/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest: a lua_State of its own for code that is not trusted to end or to be modest. runtime.c is
 * what the host sees of it, task.c what runs in it, guest.c and coroutine.c what is there, hostcall.c the
 * way out, plain.c what crosses.
 */
#ifndef MB_GUEST_H
#define MB_GUEST_H

#include "bind/bind.h"
#include "engine/deadline.h"
#include "engine/heap.h"
#include "engine/hold.h"

struct guest {
	struct mb_deadline deadline; /* first: its expire gets it */
	struct mb_heap *heap;
	struct mb_hold *hold;
	lua_State *L;	 /* its main thread; NULL: closed */
	lua_State *host; /* while it runs: who called; the guest's handle is at index 1 there */
	lua_State *volatile cur; /* the coroutine that runs */
	lua_State *task;	 /* the one that the host resumed: only this one may wait */
	int nested;		 /* resumes and closes in one another */
	bool may_wait;
	bool loading;  /* modules may be required */
	bool reading;  /* nothing may be changed */
	bool sliced;   /* the task gives way every millisecond */
	bool gave_way; /* and did */
	bool ending;   /* its time was over: the error goes through all pcalls */
	bool where_known;
	uint64_t slice_end;
	char where[96];	     /* at which line the time was over */
	char trace[1024];    /* and what called that */
	lua_Integer last_id; /* of a task */
	char name[64];
};

/* The guest that runs on this thread, or NULL. */
extern MB_THREAD struct guest *mb_guest_now;

#define MB_GUEST_DEPTH 150 /* of resumes in one another: less than Lua's own limit */

/* ---- guest.c ---- */

/* Open the libraries, and what is there for the host's Lua half (lua/moonbee/guest.lua), whose table
 * is pushed. Protected by the caller. */
void mb_guest_open(lua_State *L);
/* Raise if the time is over. */
void mb_guest_check_time(lua_State *L);
/* Raise if it is, or was, and what failed was ended by that: no pcall of a guest's returns then. */
void mb_guest_check(lua_State *L);
bool mb_guest_ending(void);
int mb_guest_raise(lua_State *L);
/* For the deadline's signal: what runs raises at its next step. */
void mb_guest_expire(struct mb_deadline *d);
/* Every count steps: give way when the slice is over. */
void mb_guest_slice(lua_State *L);
/* Remember where L is: for messages. */
void mb_guest_locate(struct guest *g, lua_State *L);
/* The text of L's calls from level on, only of what has lines: at most room bytes. */
size_t mb_guest_trace(lua_State *L, int level, char *to, size_t room);
/* What ctx.sleep yields: this, then the seconds. */
extern const char mb_guest_wait_key;
/* Libraries that are bounded instead of checked? */
bool mb_guest_checked(void);

/* ---- coroutine.c ---- */

int mb_guest_open_coroutine(lua_State *L);
int mb_guest_pcall(lua_State *L);
int mb_guest_xpcall(lua_State *L);
/* Put the body of a coroutine in the place of the function on top. task: its error is traced. */
void mb_guest_body(lua_State *L, bool task);

/* ---- plain.c ---- */

/* Copies of what is at index i of from, pushed on to. Raises in to: what is no plain data, cycles, too
 * deep. what names it in messages. */
enum mb_plain {
	MB_PLAIN_DATA = 0,
	MB_PLAIN_FUNCTIONS = 1, /* a function stands as a marker, the light userdata below */
	MB_PLAIN_HANDLES = 2,	/* objects, maps, programs, links and types are bound into to */
};
extern const char mb_plain_function_key;
void mb_plain_push(lua_State *to, lua_State *from, int i, enum mb_plain how, const char *what);

/* ---- hostcall.c ---- */

/* Call the host's function of that name with the n values on top of L, which it takes; pushes two
 * results. Raises in L. */
int mb_guest_call_host(lua_State *L, const char *name, int n);

/* ---- task.c ---- */

/* What ran on this thread before a guest did, or the host for it (g NULL). */
struct mb_entered {
	struct guest *guest;
	struct mb_hold *hold;
	struct mb_heap *heap;
};
struct mb_entered mb_guest_enter(struct guest *g, lua_State *cur);
void mb_guest_leave(struct mb_entered before);
/* Run fn(ctx) in the guest's main thread, protected; its results stay there. */
int mb_guest_protect(struct guest *g, lua_CFunction fn, void *ctx);
/* What is on top there, as text, pushed in the host. */
void mb_guest_text(lua_State *L, struct guest *g, const char *otherwise);
/* Raise in the host if the guest runs. */
void mb_guest_idle(lua_State *L, const struct guest *g);

extern const char mb_guest_entries_key; /* registry: what guest.lua returned */
int mb_tasks_open(lua_State *L);
/* (guest, entry, seconds, flags, …) -> "done", results… | "wait" | "more", seconds, task | "error", t */
int mb_task_call(lua_State *L, struct guest *g);
/* (guest, task, seconds, flags) -> the same, or "gone" */
int mb_task_resume(lua_State *L, struct guest *g);
/* (guest, task, seconds): what it has open is closed in that time */
int mb_task_kill(lua_State *L, struct guest *g);
/* The same with all that wait, for a while. */
void mb_tasks_close(struct guest *g, lua_State *L);

#endif
