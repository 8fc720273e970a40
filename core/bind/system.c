/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Small functions of the module: addresses and byte order, the clock, CPUs.
 */
#include <arpa/inet.h>
#include <endian.h>

#include "bind.h"

/* Text without a NUL in it: what inet_pton sees is all of it. */
static const char *text_arg(lua_State *L, const char *what)
{
	size_t len;
	const char *text = luaL_checklstring(L, 1, &len);

	if (strlen(text) != len)
		luaL_argerror(L, 1, lua_pushfstring(L, "'%s' is no %s", text, what));
	return text;
}

/* ip("10.0.0.1") -> the u32 as it lies in a packet; ip("::1") -> 16 bytes */
static int lib_ip(lua_State *L)
{
	const char *text = text_arg(L, "IP address");
	struct in_addr v4;
	struct in6_addr v6;

	if (inet_pton(AF_INET, text, &v4) == 1) {
		lua_pushinteger(L, v4.s_addr);
		return 1;
	}
	if (inet_pton(AF_INET6, text, &v6) == 1) {
		lua_pushlstring(L, (const char *)&v6, sizeof(v6));
		return 1;
	}
	return luaL_argerror(L, 1, lua_pushfstring(L, "'%s' is no IP address", text));
}

/* iptext(u32 | 16 bytes | view of 4 or 16 bytes) -> text */
static int lib_iptext(lua_State *L)
{
	const struct mb_view *v = mb_view_test(L, 1);
	char text[INET6_ADDRSTRLEN];
	MB_ERROR(err);
	const uint8_t *bytes;
	struct in_addr v4;
	size_t len;

	if (lua_type(L, 1) == LUA_TNUMBER) {
		lua_Integer n = luaL_checkinteger(L, 1);

		luaL_argcheck(L, n >= 0 && n <= UINT32_MAX, 1, "an address has 4 or 16 bytes");
		v4.s_addr = (in_addr_t)n;
		lua_pushstring(L, inet_ntop(AF_INET, &v4, text, sizeof(text)));
		return 1;
	}
	if (!v)
		bytes = (const uint8_t *)luaL_checklstring(L, 1, &len);
	else if (mb_view_bytes(v, &bytes, &len, &err) != 0)
		return mb_raise(L, &err);
	if (len != 4 && len != 16)
		return luaL_argerror(L, 1, "an address has 4 or 16 bytes");
	lua_pushstring(L, inet_ntop(len == 4 ? AF_INET : AF_INET6, bytes, text, sizeof(text)));
	return 1;
}

/* ntoh(value, bits) -> value in this machine's byte order; the same the other way round */
static int lib_ntoh(lua_State *L)
{
	uint64_t v = (uint64_t)luaL_checkinteger(L, 1);
	lua_Integer bits = luaL_checkinteger(L, 2);

	if (bits != 16 && bits != 32 && bits != 64)
		return luaL_argerror(L, 2, "bits is 16, 32 or 64");
	if (bits < 64 && v >> bits)
		return luaL_argerror(
			L, 1, lua_pushfstring(L, "the value has more than %d bits", (int)bits));
	if (bits == 16)
		v = be16toh((uint16_t)v);
	else if (bits == 32)
		v = be32toh((uint32_t)v);
	else
		v = be64toh(v);
	lua_pushinteger(L, (lua_Integer)v);
	return 1;
}

static int lib_now_ns(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)mb_now_ns());
	return 1;
}

/* lpm("10.0.0.0/8") -> the bytes of a bpf_lpm_trie_key: prefix length, then the address */
static int lib_lpm(lua_State *L)
{
	const char *text = text_arg(L, "IP prefix"), *slash = strchr(text, '/');
	uint8_t key[4 + 16];
	uint32_t bits, most;
	size_t len;
	char *end;

	lua_pushlstring(L, text, slash ? (size_t)(slash - text) : strlen(text));
	if (inet_pton(AF_INET, lua_tostring(L, -1), key + 4) == 1)
		len = 4;
	else if (inet_pton(AF_INET6, lua_tostring(L, -1), key + 4) == 1)
		len = 16;
	else
		return luaL_argerror(L, 1, lua_pushfstring(L, "'%s' is no IP prefix", text));
	most = bits = (uint32_t)len * 8;
	if (slash) {
		unsigned long n = strtoul(slash + 1, &end, 10);

		/* strtoul takes signs and blanks, too */
		if (slash[1] < '0' || slash[1] > '9' || *end || n > most)
			return luaL_argerror(L, 1,
					     lua_pushfstring(L, "'%s' is no IP prefix", text));
		bits = (uint32_t)n;
	}
	memcpy(key, &bits, sizeof(bits));
	lua_pushlstring(L, (const char *)key, 4 + len);
	return 1;
}

/* type(x) -> "map", "closed map", "view", … | nil: not one of moonbee's */
static int lib_type(lua_State *L)
{
	luaL_checkany(L, 1);
	if (luaL_getmetafield(L, 1, "__name") == LUA_TSTRING) {
		const char *name = lua_tostring(L, -1);

		if (strcmp(name, "moonbee.view") == 0 || strcmp(name, "moonbee.ref") == 0 ||
		    strcmp(name, "moonbee.error") == 0) {
			lua_pushstring(L, name + strlen("moonbee."));
			return 1;
		}
	}
	mb_class_type(L, 1);
	return 1;
}

const luaL_Reg mb_system_functions[] = {
	{ "ip", lib_ip },   { "iptext", lib_iptext }, { "ntoh", lib_ntoh },
	{ "lpm", lib_lpm }, { "now_ns", lib_now_ns }, { "type", lib_type },
	{ NULL, NULL },
};
