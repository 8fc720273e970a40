/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bpf.stats(): the kernel counts as long as this is open.
 */
#include "bind.h"

/* stats() -> stats */
int mb_stats_lua(lua_State *L)
{
	struct mb_handle *ud = mb_class_new(L, &mb_stats_class, 0);
	struct mb_stats *stats;
	MB_ERROR(err);

	if (mb_stats_open(&stats, &err) != 0)
		return mb_raise(L, &err);
	ud->thing = stats;
	return 1;
}

static bool stats_closed(const void *thing)
{
	return mb_stats_closed(thing);
}

static void stats_close(void *thing)
{
	mb_stats_close(thing);
}

static void stats_unref(void *thing)
{
	mb_stats_free(thing);
}

static const char *stats_title(const void *thing)
{
	(void)thing;
	return "of programs";
}

static int stats_get(lua_State *L, void *thing, const char *name)
{
	if (strcmp(name, "name") != 0)
		return 0;
	lua_pushstring(L, stats_title(thing));
	return 1;
}

static const luaL_Reg methods[] = { { NULL, NULL } };
static const char *const properties[] = { "name", "closed", NULL };

const struct mb_class mb_stats_class = {
	.name = "moonbee.stats",
	.methods = methods,
	.properties = properties,
	.get = stats_get,
	.closed = stats_closed,
	.close = stats_close,
	.unref = stats_unref,
	.title = stats_title,
};
