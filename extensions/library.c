/* SPDX-License-Identifier: MIT */
/*
 * What a script can call, beside its handles: values in, values out.
 *
 * These are functions of our own with the names of Lua's, not Lua's libraries, for those hold
 * functions that loop for as long as an argument says (string.rep of nothing, table.move, patterns)
 * while no instruction is counted, or that tell of the process they are in.
 */
#include <string.h>

#include "extensions/internal.h"

/* Pieces that concat() and unpack() take at once. */
#define MOST_PIECES 512

static lua_Integer integer_at(lua_State *L, int at)
{
	int ok;
	lua_Integer n = lua_tointegerx(L, at, &ok);

	if (!ok)
		extension_error(L, "an integer is needed here, not a %s",
				lua_typename(L, lua_type(L, at)));
	return n;
}

static lua_Integer integer_or(lua_State *L, int at, lua_Integer otherwise)
{
	return lua_isnoneornil(L, at) ? otherwise : integer_at(L, at);
}

static void table_at(lua_State *L, int at)
{
	if (!lua_istable(L, at))
		extension_error(L, "a table is needed here, not a %s",
				lua_typename(L, lua_type(L, at)));
}

static const char *string_at(lua_State *L, int at, size_t *n)
{
	if (lua_type(L, at) != LUA_TSTRING)
		extension_error(L, "a string is needed here, not a %s",
				lua_typename(L, lua_type(L, at)));
	return lua_tolstring(L, at, n);
}

/* ---- the language's own ---- */

static int lib_error(lua_State *L)
{
	if (lua_type(L, 1) == LUA_TSTRING)
		return extension_error(L, "%s", lua_tostring(L, 1));
	lua_settop(L, 1);
	return lua_error(L);
}

static int lib_assert(lua_State *L)
{
	if (lua_toboolean(L, 1))
		return lua_gettop(L);
	if (lua_type(L, 2) == LUA_TSTRING)
		return extension_error(L, "%s", lua_tostring(L, 2));
	return extension_error(L, "%s", "assertion failed");
}

static int lib_type(lua_State *L)
{
	lua_pushstring(L, lua_typename(L, lua_type(L, 1)));
	return 1;
}

/* Never an address. */
static int lib_tostring(lua_State *L)
{
	lua_settop(L, 1);
	if (lua_type(L, 1) == LUA_TNUMBER)
		lua_tostring(L, 1);
	else if (lua_type(L, 1) == LUA_TBOOLEAN)
		lua_pushstring(L, lua_toboolean(L, 1) ? "true" : "false");
	else if (lua_type(L, 1) != LUA_TSTRING)
		lua_pushstring(L, lua_typename(L, lua_type(L, 1)));
	return 1;
}

static int lib_tonumber(lua_State *L)
{
	size_t n;

	lua_settop(L, 1);
	if (lua_type(L, 1) == LUA_TNUMBER)
		return 1;
	if (lua_type(L, 1) != LUA_TSTRING || !lua_stringtonumber(L, lua_tolstring(L, 1, &n)))
		lua_pushnil(L);
	return 1;
}

static int lib_next(lua_State *L)
{
	table_at(L, 1);
	lua_settop(L, 2);
	return lua_next(L, 1) ? 2 : (lua_pushnil(L), 1);
}

static int lib_pairs(lua_State *L)
{
	table_at(L, 1);
	lua_pushcfunction(L, lib_next);
	lua_pushvalue(L, 1);
	lua_pushnil(L);
	return 3;
}

static int next_index(lua_State *L)
{
	lua_Integer i = integer_at(L, 2) + 1;

	lua_pushinteger(L, i);
	return lua_geti(L, 1, i) == LUA_TNIL ? 1 : 2;
}

static int lib_ipairs(lua_State *L)
{
	table_at(L, 1);
	lua_pushcfunction(L, next_index);
	lua_pushvalue(L, 1);
	lua_pushinteger(L, 0);
	return 3;
}

static int lib_select(lua_State *L)
{
	lua_Integer n = lua_gettop(L), i;

	if (lua_type(L, 1) == LUA_TSTRING && *lua_tostring(L, 1) == '#') {
		lua_pushinteger(L, n - 1);
		return 1;
	}
	i = integer_at(L, 1);
	if (i < 1)
		return extension_error(L, "select counts from %s", "1");
	return i < n ? (int)(n - i) : 0;
}

/* Out of steps is not to be caught. */
static int lib_pcall(lua_State *L)
{
	int status;

	if (!lua_gettop(L))
		return extension_error(L, "pcall of %s", "nothing");
	lua_pushboolean(L, true);
	lua_insert(L, 1);
	status = lua_pcall(L, lua_gettop(L) - 2, LUA_MULTRET, 0);
	if (extension_of(L)->steps < 0)
		return extension_error(L, "too many %s", "steps");
	if (status == LUA_OK)
		return lua_gettop(L);
	lua_pushboolean(L, false);
	lua_insert(L, -2);
	return 2;
}

/* Without finalizers: no hook is called while one runs. */
static int lib_setmetatable(lua_State *L)
{
	table_at(L, 1);
	if (!lua_isnil(L, 2)) {
		table_at(L, 2);
		lua_pushliteral(L, "__gc");
		if (lua_rawget(L, 2) != LUA_TNIL)
			return extension_error(L, "a metatable with %s is not allowed", "__gc");
	}
	lua_settop(L, 2);
	lua_setmetatable(L, 1);
	return 1;
}

static int lib_getmetatable(lua_State *L)
{
	/* Of the script's own things only. */
	if (!lua_istable(L, 1) || !lua_getmetatable(L, 1))
		lua_pushnil(L);
	return 1;
}

static int lib_rawget(lua_State *L)
{
	table_at(L, 1);
	lua_settop(L, 2);
	lua_rawget(L, 1);
	return 1;
}

static int lib_rawset(lua_State *L)
{
	table_at(L, 1);
	lua_settop(L, 3);
	lua_rawset(L, 1);
	return 1;
}

static int lib_rawlen(lua_State *L)
{
	table_at(L, 1);
	lua_pushinteger(L, (lua_Integer)lua_rawlen(L, 1));
	return 1;
}

static int lib_rawequal(lua_State *L)
{
	lua_settop(L, 2);
	lua_pushboolean(L, lua_rawequal(L, 1, 2));
	return 1;
}

/* ---- math ---- */

static int lib_tointeger(lua_State *L)
{
	int ok;
	lua_Integer n = lua_tointegerx(L, 1, &ok);

	if (ok)
		lua_pushinteger(L, n);
	else
		lua_pushnil(L);
	return 1;
}

/* The integer below, if there is one. */
static int lib_floor(lua_State *L)
{
	int ok;
	lua_Integer n;

	lua_settop(L, 1);
	if (!lua_isinteger(L, 1)) {
		lua_pushinteger(L, 1);
		lua_arith(L, LUA_OPIDIV);
	}
	n = lua_tointegerx(L, 1, &ok);
	if (ok)
		lua_pushinteger(L, n);
	return 1;
}

static int lib_abs(lua_State *L)
{
	lua_settop(L, 1);
	lua_pushinteger(L, 0);
	if (lua_compare(L, 1, 2, LUA_OPLT)) {
		lua_pop(L, 1);
		lua_arith(L, LUA_OPUNM);
	}
	lua_settop(L, 1);
	return 1;
}

/* The one of the arguments that is before (after) all others. */
static int extreme(lua_State *L, bool most)
{
	int best = 1, n = lua_gettop(L);

	if (!n)
		return extension_error(L, "a %s is needed here", "number");
	for (int i = 2; i <= n; i++)
		if (most ? lua_compare(L, best, i, LUA_OPLT) : lua_compare(L, i, best, LUA_OPLT))
			best = i;
	lua_pushvalue(L, best);
	return 1;
}

static int lib_max(lua_State *L)
{
	return extreme(L, true);
}

static int lib_min(lua_State *L)
{
	return extreme(L, false);
}

/* ---- strings ---- */

/* First and last of bytes [from, to], 1 and up, of n; negative: from the end.  How many. */
static size_t part(lua_State *L, size_t n, lua_Integer to_usual, size_t *from)
{
	lua_Integer size = (lua_Integer)n, a = integer_or(L, 2, 1), b = integer_or(L, 3, to_usual);

	if (a < 0)
		a = max_of(size + a + 1, (lua_Integer)1);
	a = max_of(a, (lua_Integer)1);
	if (b < 0)
		b = size + b + 1;
	b = min_of(b, size);
	*from = (size_t)a - 1;
	return b >= a ? (size_t)(b - a + 1) : 0;
}

static int lib_sub(lua_State *L)
{
	size_t n, from;
	const char *s = string_at(L, 1, &n);

	n = part(L, n, -1, &from);
	lua_pushlstring(L, n ? s + from : s, n);
	return 1;
}

static int lib_byte(lua_State *L)
{
	size_t n, from;
	const char *s = string_at(L, 1, &n);

	n = part(L, n, integer_or(L, 2, 1), &from);
	if (n > MOST_PIECES || !lua_checkstack(L, (int)n))
		return extension_error(L, "too many bytes at %s", "once");
	for (size_t i = 0; i < n; i++)
		lua_pushinteger(L, (unsigned char)s[from + i]);
	return (int)n;
}

static int lib_len(lua_State *L)
{
	size_t n;

	string_at(L, 1, &n);
	lua_pushinteger(L, (lua_Integer)n);
	return 1;
}

/* Memory of the interpreter's to make a string in. */
static char *room(lua_State *L, size_t n)
{
	return lua_newuserdatauv(L, n ? n : 1, 0);
}

static int lib_char(lua_State *L)
{
	int n = lua_gettop(L);
	char *to = room(L, (size_t)n);

	for (int i = 0; i < n; i++)
		to[i] = (char)integer_at(L, i + 1);
	lua_pushlstring(L, to, (size_t)n);
	return 1;
}

static int lib_rep(lua_State *L)
{
	size_t n;
	const char *s = string_at(L, 1, &n);
	lua_Integer times = max_of(integer_at(L, 2), (lua_Integer)0);
	char *to;

	if (!n)
		times = 0;
	if (n && (u64)times > EXTENSION_MEMORY / n)
		return extension_error(L, "the string would be too %s", "long");
	to = room(L, n * (size_t)times);
	for (lua_Integer i = 0; i < times; i++)
		memcpy(to + (size_t)i * n, s, n);
	lua_pushlstring(L, to, n * (size_t)times);
	return 1;
}

/* The eight bytes of an integer in memory, the lowest first. */
static int lib_word(lua_State *L)
{
	u64 n = (u64)integer_at(L, 1);
	char to[8];

	for (unsigned i = 0; i < 8; i++)
		to[i] = (char)(n >> 8 * i);
	lua_pushlstring(L, to, sizeof(to));
	return 1;
}

/* ---- tables ---- */

static int lib_insert(lua_State *L)
{
	table_at(L, 1);
	if (lua_gettop(L) != 2)
		return extension_error(L, "table.insert takes a table and %s", "a value");
	lua_rawseti(L, 1, (lua_Integer)lua_rawlen(L, 1) + 1);
	return 0;
}

static int lib_remove(lua_State *L)
{
	lua_Integer n;

	table_at(L, 1);
	lua_settop(L, 1);
	n = (lua_Integer)lua_rawlen(L, 1);
	lua_rawgeti(L, 1, n);
	lua_pushnil(L);
	lua_rawseti(L, 1, n);
	return 1;
}

/* The values 1 to n of a table, on the stack. */
static int spread(lua_State *L)
{
	lua_Integer n;

	table_at(L, 1);
	n = (lua_Integer)lua_rawlen(L, 1);
	if (n > MOST_PIECES || !lua_checkstack(L, (int)n + 4))
		return extension_error(L, "the table is too %s", "long");
	for (lua_Integer i = 1; i <= n; i++)
		lua_rawgeti(L, 1, i);
	return (int)n;
}

static int lib_unpack(lua_State *L)
{
	return spread(L);
}

static int lib_concat(lua_State *L)
{
	lua_settop(L, 1);
	lua_concat(L, spread(L));
	return 1;
}

/* ---- */

struct function {
	const char *name;
	lua_CFunction call;
};

static const struct function globals[] = {
	{ "assert", lib_assert },
	{ "error", lib_error },
	{ "getmetatable", lib_getmetatable },
	{ "ipairs", lib_ipairs },
	{ "next", lib_next },
	{ "pairs", lib_pairs },
	{ "pcall", lib_pcall },
	{ "rawequal", lib_rawequal },
	{ "rawget", lib_rawget },
	{ "rawlen", lib_rawlen },
	{ "rawset", lib_rawset },
	{ "select", lib_select },
	{ "setmetatable", lib_setmetatable },
	{ "tonumber", lib_tonumber },
	{ "tostring", lib_tostring },
	{ "type", lib_type },
	{ NULL, NULL },
};
static const struct function maths[] = {
	{ "abs", lib_abs }, { "floor", lib_floor },	    { "max", lib_max },
	{ "min", lib_min }, { "tointeger", lib_tointeger }, { NULL, NULL },
};
static const struct function strings[] = {
	{ "byte", lib_byte }, { "char", lib_char }, { "len", lib_len }, { "rep", lib_rep },
	{ "sub", lib_sub },   { "word", lib_word }, { NULL, NULL },
};
static const struct function tables[] = {
	{ "concat", lib_concat }, { "insert", lib_insert }, { "remove", lib_remove },
	{ "unpack", lib_unpack }, { NULL, NULL },
};

/* Into the table on top of the stack. */
static void add(lua_State *L, const struct function *f)
{
	for (; f->name; f++) {
		lua_pushcfunction(L, f->call);
		lua_setfield(L, -2, f->name);
	}
}

void library_open(lua_State *L)
{
	lua_pushglobaltable(L);
	add(L, globals);
	lua_newtable(L);
	add(L, maths);
	lua_pushinteger(L, LUA_MAXINTEGER);
	lua_setfield(L, -2, "maxinteger");
	lua_pushinteger(L, LUA_MININTEGER);
	lua_setfield(L, -2, "mininteger");
	lua_setfield(L, -2, "math");
	lua_newtable(L);
	add(L, tables);
	lua_setfield(L, -2, "table");
	/* Strings have these as methods, too. */
	lua_newtable(L);
	add(L, strings);
	lua_pushliteral(L, "");
	lua_newtable(L);
	lua_pushvalue(L, -3);
	lua_setfield(L, -2, "__index");
	lua_setmetatable(L, -2);
	lua_pop(L, 1);
	lua_setfield(L, -2, "string");
	lua_pop(L, 1);
}
