/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kernel.list, tasks, current: walks through the kernel's memory.
 */
#include "kernel.h"

static void raise_if(lua_State *L, int rc, struct mb_error *err)
{
	if (rc < 0)
		mb_raise(L, err);
}

/* ---- lists -------------------------------------------------------------------------------------------- */

/* Upvalues of the walk: the addresses (a userdata), the type, the next index. */
enum { WALK_LIST = 1, WALK_TYPE, WALK_INDEX };

static int list_next(lua_State *L)
{
	const uint64_t *list = lua_touserdata(L, lua_upvalueindex(WALK_LIST));
	size_t n = (size_t)lua_rawlen(L, lua_upvalueindex(WALK_LIST)) / sizeof(*list);
	size_t i = (size_t)lua_tointeger(L, lua_upvalueindex(WALK_INDEX));

	if (i >= n)
		return 0;
	lua_pushinteger(L, (lua_Integer)i + 1);
	lua_replace(L, lua_upvalueindex(WALK_INDEX));
	mb_kmem_push(L, list[i], mb_type_test(L, lua_upvalueindex(WALK_TYPE)));
	return 1;
}

static bool is_struct(const struct mb_plan *plan, const char *name)
{
	return plan && plan->kind == MB_KIND_STRUCT && strcmp(plan->name, name) == 0;
}

/* Protected: (bytes) -> userdata */
static int new_bytes(lua_State *L)
{
	lua_newuserdatauv(L, (size_t)lua_tointeger(L, 1), 0);
	return 1;
}

/* list(head, type, member) -> iterator of views. By the member's type: list_head, which comes back to its
 * head; hlist_node, llist_node and pointers to the next one, which end with NULL. */
static int kernel_list(lua_State *L)
{
	const struct mb_plan *head_plan, *plan = mb_kernel_type_arg(L, 2);
	uint64_t head = mb_kmem_address_arg(L, 1, &head_plan), first, off, *found = NULL;
	const struct mb_field *f;
	struct mb_kmem *memory;
	bool circular, chain;
	MB_ERROR(err);
	size_t n = 0;
	void *list;
	int rc;

	lua_settop(L, 3);
	f = mb_kmem_member(L, plan, 3, &off);
	circular = is_struct(f->plan, "struct list_head");
	chain = f->plan->kind == MB_KIND_POINTER;
	if (!circular && !chain && !is_struct(f->plan, "struct hlist_node") &&
	    !is_struct(f->plan, "struct llist_node") &&
	    !is_struct(f->plan, "struct hlist_nulls_node"))
		return mb_mistake(
			L, NULL,
			"'%s' is %s: a list's member is a struct list_head, hlist_node or "
			"llist_node, or a pointer",
			lua_tostring(L, 3), f->plan->name);
	memory = mb_kmem_of(L);
	first = head; /* of a chain: the address of the first one itself */
	if (!chain)
		raise_if(L, mb_kmem_read(memory, head, &first, sizeof(first), &err), &err);
	rc = mb_kmem_list(memory, first, circular ? head : 0, chain ? (uint32_t)off : 0, &found, &n,
			  &err);
	raise_if(L, rc, &err);
	/* protected, so that the engine's memory is given back also when Lua has none */
	lua_pushcfunction(L, new_bytes);
	lua_pushinteger(L, (lua_Integer)(n * sizeof(*found)));
	if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
		mb_kmem_release(found);
		return lua_error(L);
	}
	list = lua_touserdata(L, -1);
	for (size_t i = 0; i < n; i++)
		((uint64_t *)list)[i] = found[i] - (chain ? 0 : off);
	mb_kmem_release(found);
	mb_type_push(L, plan);
	lua_pushinteger(L, 0);
	lua_pushcclosure(L, list_next, 3);
	return 1;
}

/* ---- tasks -------------------------------------------------------------------------------------------- */

static const char *const TASKS = "moonbee.kernel.tasks";

struct tasks {
	uint8_t *records;
	size_t n, stride, at;
	const struct mb_plan *plan;
};

static int tasks_gc(lua_State *L)
{
	struct tasks *tasks = lua_touserdata(L, 1);
	uint8_t *records = tasks->records;

	tasks->records = NULL;
	tasks->n = 0;
	mb_kmem_release(records);
	return 0;
}

/* Upvalues: the tasks, the type (which keeps the plan). Gives the records back at the end. */
static int tasks_next(lua_State *L)
{
	struct tasks *tasks = lua_touserdata(L, lua_upvalueindex(1));
	struct mb_view *view;
	struct mb_task head;
	const uint8_t *record;
	uint8_t *all;

	while (tasks->at < tasks->n) {
		record = tasks->records + tasks->at++ * tasks->stride;
		memcpy(&head, record, sizeof(head));
		if (head.code)
			continue; /* never seen: the iterator holds it */
		view = mb_kmem_push_empty(L, tasks->plan, head.address);
		memcpy(view->region->base, record + sizeof(head), tasks->plan->size);
		lua_pushinteger(L, head.ppid);
		return 2;
	}
	all = tasks->records;
	tasks->records = NULL;
	tasks->n = 0;
	mb_kmem_release(all);
	return 0;
}

/* tasks([{ threads = true }]) -> iterator of view of struct task_struct, parent's process id */
static int kernel_tasks(lua_State *L)
{
	static const struct mb_option options[] = { { "threads", LUA_TBOOLEAN, 0 },
						    { NULL, 0, 0 } };
	struct {
		bool threads;
	} o = { false };
	struct tasks *tasks;
	MB_ERROR(err);

	lua_settop(L, 1);
	mb_options(L, 1, "kernel.tasks", options, &o);
	tasks = lua_newuserdatauv(L, sizeof(*tasks), 0);
	memset(tasks, 0, sizeof(*tasks));
	if (luaL_newmetatable(L, TASKS)) {
		lua_pushcfunction(L, tasks_gc);
		lua_setfield(L, -2, "__gc");
	}
	lua_setmetatable(L, -2);
	raise_if(L,
		 mb_kmem_tasks(mb_kernel_of(L), o.threads, &tasks->plan, &tasks->records,
			       &tasks->stride, &tasks->n, &err),
		 &err);
	mb_type_push(L, tasks->plan);
	lua_pushcclosure(L, tasks_next, 2);
	return 1;
}

/* current() -> view of the struct task_struct that asks */
static int kernel_current(lua_State *L)
{
	const struct mb_plan *plan;
	uint64_t task;
	MB_ERROR(err);

	raise_if(L, mb_kmem_current(mb_kmem_of(L), &task, &err), &err);
	raise_if(L,
		 mb_kbtf_type(mb_kernel_types(mb_kernel_of(L)), "struct task_struct", &plan, &err),
		 &err);
	mb_kmem_push(L, task, plan);
	return 1;
}

const luaL_Reg mb_kwalk_functions[] = { { "list", kernel_list },
					{ "tasks", kernel_tasks },
					{ "current", kernel_current },
					{ NULL, NULL } };
