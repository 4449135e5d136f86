/* SPDX-License-Identifier: MIT */
/*
 * Handles of pages as a script has them: userdata that hold a page_handle, which no script can make
 * or change, and whose every use is checked by the engine.
 *
 *   pages:oldest() pages:newest() pages:count()
 *   page:older() page:newer()     nil at the end, and of a page that is gone
 *   page:used()                   since this was last asked; nil of a page that is gone
 *   page.address page.index page.stamp page.file page.dirty      nil of a page that is gone
 *   page.there                    is it?
 *
 * A handle may be kept as long as one likes.  Pages can be looked at during Reclaim only.
 */
#include <string.h>

#include "extensions/internal.h"

/* In the registry, by address: the metatables. */
static const char one_page, all_pages;

/* What such userdata holds. */
struct held {
	struct page_handle page;
	u64 since; /* the call in which it was given */
};

static struct held *page_at(lua_State *L, int at)
{
	struct held *h = lua_touserdata(L, at);
	bool is = false;

	if (lua_isuserdata(L, at) && lua_getmetatable(L, at)) {
		lua_rawgetp(L, LUA_REGISTRYINDEX, &one_page);
		is = lua_rawequal(L, -1, -2);
		lua_pop(L, 2);
	}
	return is ? h : NULL;
}

bool pages_handle(lua_State *L, int at, struct page_handle *h, bool *kept)
{
	struct held *found = page_at(L, at);

	if (!found)
		return false;
	*h = found->page;
	*kept |= found->since != extension_of(L)->calls;
	return true;
}

/* The argument of a method. */
static struct page_handle *needed(lua_State *L)
{
	struct held *h = page_at(L, 1);

	if (!h)
		extension_error(L, "a page is needed here, not a %s",
				lua_typename(L, lua_type(L, 1)));
	return &h->page;
}

static struct lruvec *pages_of(lua_State *L)
{
	struct extension *x = extension_of(L);

	if (!x->pages)
		extension_error(L, "pages can be looked at in %s only", "reclaim");
	return x->pages;
}

/* A handle as the result of a method, or nil. */
static int give(lua_State *L, int err, const struct page_handle *h)
{
	struct held *to;

	if (err) {
		lua_pushnil(L);
		return 1;
	}
	to = lua_newuserdatauv(L, sizeof(*to), 0);
	*to = (struct held){ .page = *h, .since = extension_of(L)->calls };
	lua_rawgetp(L, LUA_REGISTRYINDEX, &one_page);
	lua_setmetatable(L, -2);
	return 1;
}

static int pages_oldest(lua_State *L)
{
	struct page_handle h;

	return give(L, chosen_oldest(pages_of(L), &h), &h);
}

static int pages_newest(lua_State *L)
{
	struct page_handle h;

	return give(L, chosen_newest(pages_of(L), &h), &h);
}

static int pages_count(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)chosen_length(pages_of(L)));
	return 1;
}

static int page_older(lua_State *L)
{
	struct page_handle next;

	return give(L, chosen_older(pages_of(L), needed(L), &next), &next);
}

static int page_newer(lua_State *L)
{
	struct page_handle next;

	return give(L, chosen_newer(pages_of(L), needed(L), &next), &next);
}

static int page_used(lua_State *L)
{
	int used = chosen_used(pages_of(L), needed(L));

	/* Who is at it uses it. */
	if (used == -EBADF)
		lua_pushnil(L);
	else
		lua_pushboolean(L, used);
	return 1;
}

static int page_equal(lua_State *L)
{
	struct held *a = page_at(L, 1), *b = page_at(L, 2);

	lua_pushboolean(L, a && b && a->page.pfn == b->page.pfn && a->page.stamp == b->page.stamp);
	return 1;
}

static void push_fact(lua_State *L, const char *name, const struct page_facts *f)
{
	if (!strcmp(name, "address"))
		lua_pushinteger(L, (lua_Integer)(f->index * PAGE_SIZE));
	else if (!strcmp(name, "index"))
		lua_pushinteger(L, (lua_Integer)f->index);
	else if (!strcmp(name, "stamp"))
		lua_pushinteger(L, (lua_Integer)f->stamp);
	else if (!strcmp(name, "file"))
		lua_pushboolean(L, f->file);
	else if (!strcmp(name, "dirty"))
		lua_pushboolean(L, f->dirty);
	else
		extension_error(L, "a page has no '%s'", name);
}

static int page_index(lua_State *L)
{
	static const struct {
		const char *name;
		lua_CFunction call;
	} methods[] = { { "older", page_older }, { "newer", page_newer }, { "used", page_used } };
	struct page_handle *h = needed(L);
	struct page_facts facts = { 0 };
	const char *name;
	int err;

	if (lua_type(L, 2) != LUA_TSTRING)
		return extension_error(L, "a page has no %s", "numbers");
	name = lua_tostring(L, 2);
	for (unsigned i = 0; i < ARRAY_SIZE(methods); i++)
		if (!strcmp(name, methods[i].name)) {
			lua_pushcfunction(L, methods[i].call);
			return 1;
		}
	err = chosen_look(pages_of(L), h, &facts);
	if (!strcmp(name, "there")) {
		lua_pushboolean(L, !err);
		return 1;
	}
	push_fact(L, name, &facts);
	if (err)
		lua_pushnil(L);
	return 1;
}

/* A table of methods on top of the stack becomes the __index of a kind. */
static void new_kind(lua_State *L, const void *kind)
{
	lua_newtable(L);
	lua_insert(L, -2);
	lua_setfield(L, -2, "__index");
	lua_rawsetp(L, LUA_REGISTRYINDEX, kind);
}

void pages_open(lua_State *L)
{
	lua_pushcfunction(L, page_index);
	new_kind(L, &one_page);
	lua_rawgetp(L, LUA_REGISTRYINDEX, &one_page);
	lua_pushcfunction(L, page_equal);
	lua_setfield(L, -2, "__eq");
	lua_pop(L, 1);

	lua_newtable(L);
	lua_pushcfunction(L, pages_oldest);
	lua_setfield(L, -2, "oldest");
	lua_pushcfunction(L, pages_newest);
	lua_setfield(L, -2, "newest");
	lua_pushcfunction(L, pages_count);
	lua_setfield(L, -2, "count");
	new_kind(L, &all_pages);
}

void pages_push(lua_State *L)
{
	lua_newuserdatauv(L, 1, 0);
	lua_rawgetp(L, LUA_REGISTRYINDEX, &all_pages);
	lua_setmetatable(L, -2);
}
