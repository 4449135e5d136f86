/* SPDX-License-Identifier: MIT */
/*
 * An extension and its interpreter.
 *
 *   1. The caller's question is put into a C structure; one thread enters.
 *   2. A protected call finds the handler, makes its arguments, runs it, and turns the answer back
 *      into C: whatever of this fails (no memory for an argument, an answer of the wrong kind) ends
 *      there.
 *   3. While it runs, a hook counts instructions; so does the allocator, in bytes.  When the steps
 *      are used up each instruction is an error: the script may catch it, and meets the next one.
 *   4. What ended it is told in one line, once, and it is not asked again.
 *
 * Why steps bound time: each instruction works on values that EXTENSION_MEMORY bounds, and none of
 * the functions it may call loops longer than its arguments are (library.c).  Two ways around the
 * hook are closed: finalizers, during which Lua calls no hook (library.c refuses them), and
 * coroutines, which have hooks of their own (there are none).
 */
#include <string.h>

#include "extensions/internal.h"

/* Instructions between two looks at the steps. */
#define HOOK_EVERY 100
/* Bytes of memory that are a step. */
#define STEP_BYTES 64

/* Where the handlers are in the interpreter's registry, by address. */
static const char *const event_names[NR_EXTENSION_EVENTS] = {
	[EXTENSION_RECLAIM] = "reclaim",     [EXTENSION_REPOSSESS] = "repossess",
	[EXTENSION_FAULT] = "fault",	     [EXTENSION_BEGIN] = "begin",
	[EXTENSION_TRANSIENT] = "transient",
};

struct extension *extension_of(lua_State *L)
{
	return *(struct extension **)lua_getextraspace(L);
}

/* ---- memory ---- */

/* Before each block.  Lua expects what malloc() aligns to. */
struct block {
	_Alignas(16) size_t bytes; /* with this */
};

static void release(struct extension *x, void *p)
{
	struct block *b = (struct block *)p - 1;

	x->bytes -= b->bytes;
	x->memory.free(x->memory.ctx, b, b->bytes);
}

static void *obtain(struct extension *x, size_t n)
{
	size_t bytes = n + sizeof(struct block);
	struct block *b;

	if (bytes < n || x->bytes + bytes > EXTENSION_MEMORY)
		return NULL;
	b = x->memory.alloc(x->memory.ctx, bytes);
	if (!b)
		return NULL;
	b->bytes = bytes;
	x->bytes += bytes;
	x->steps -= (s64)(bytes / STEP_BYTES);
	return b + 1;
}

/* What lua_newstate() asks for.  A block that is to be smaller stays: that must not fail. */
static void *reallocate(void *arg, void *p, size_t old, size_t new)
{
	struct extension *x = arg;
	void *to;

	if (!new) {
		if (p)
			release(x, p);
		return NULL;
	}
	if (p && new <= old)
		return p;
	to = obtain(x, new);
	if (to && p) {
		memcpy(to, p, old);
		release(x, p);
	}
	return to;
}

/* ---- steps ---- */

static void count_steps(lua_State *L, lua_Debug *ar)
{
	struct extension *x = extension_of(L);

	(void)ar;
	x->steps -= HOOK_EVERY;
	if (x->steps >= 0)
		return;
	lua_sethook(L, count_steps, LUA_MASKCOUNT, 1);
	lua_pushliteral(L, "too many steps");
	lua_error(L);
}

/* ---- what went wrong ---- */

/* One line without anything that a terminal would take for more than text.  The script's own errors
 * begin with its name and their line. */
static void write_line(char *to, const char *name, const char *text)
{
	size_t n = strlen(name), length = 0;
	const char *parts[] = { name, ": ", text };

	for (unsigned i = strncmp(text, name, n) || text[n] != ':' ? 0 : 2; i < 3; i++)
		for (const char *c = parts[i]; *c && length + 1 < EXTENSION_SAYS; c++)
			to[length++] = *c >= ' ' && *c <= '~' ? *c : ' ';
	to[length] = '\0';
}

/* Inside. */
static void say(struct extension *x, const char *text)
{
	if (x->said)
		return;
	write_line(x->says, x->name, text);
	atomic_store(&x->said, true);
}

const char *extension_says(const struct extension *x)
{
	return atomic_load(&x->said) ? x->says : "";
}

bool extension_has_failed(const struct extension *x)
{
	return atomic_load(&x->failed);
}

bool extension_answers(const struct extension *x, enum extension_event event)
{
	return x->answers[event];
}

int extension_error(lua_State *L, const char *text, const char *what)
{
	lua_Debug ar;

	/* In the function that called the one that found it. */
	if (lua_getstack(L, 1, &ar) && lua_getinfo(L, "Sl", &ar) && ar.currentline > 0)
		lua_pushfstring(L, "%s:%d: ", ar.short_src, ar.currentline);
	else
		lua_pushliteral(L, "");
	lua_pushfstring(L, text, what);
	lua_concat(L, 2);
	return lua_error(L);
}

/* ---- calls ---- */

/* A question and its answer. */
struct call {
	enum extension_event event;
	u64 address, space;
	s64 frame;
	bool write, in_range;
	struct page_handle *next;
	void *bytes;
	bool kept; /* a handle of an earlier call is in the answer */
	int result;
};

/* One page, or a table of them, on top of the stack. */
static int take_pages(lua_State *L, struct call *c)
{
	unsigned n = 0;

	if (lua_isnil(L, -1))
		return 0;
	if (pages_handle(L, -1, &c->next[0], &c->kept))
		return 1;
	if (!lua_istable(L, -1))
		return extension_error(L, "reclaim's answer is a %s, not a page",
				       lua_typename(L, lua_type(L, -1)));
	for (; n < MMU_BATCH && lua_rawgeti(L, -1, n + 1) != LUA_TNIL; n++) {
		if (!pages_handle(L, -1, &c->next[n], &c->kept))
			return extension_error(L, "reclaim's answer has a %s among its pages",
					       lua_typename(L, lua_type(L, -1)));
		lua_pop(L, 1);
	}
	return (int)n;
}

static int take_bytes(lua_State *L, struct call *c)
{
	const char *from;
	size_t n;

	if (lua_isnil(L, -1))
		return 0;
	if (lua_type(L, -1) != LUA_TSTRING)
		return extension_error(L, "fault's answer is a %s, not the bytes of a page",
				       lua_typename(L, lua_type(L, -1)));
	from = lua_tolstring(L, -1, &n);
	if (n > PAGE_SIZE)
		return extension_error(L, "fault's answer is longer than %s", "a page");
	memset(c->bytes, 0, PAGE_SIZE);
	memcpy(c->bytes, from, n);
	return 1;
}

static int take_mapped(lua_State *L)
{
	if (!lua_isnil(L, -1) && !lua_isboolean(L, -1))
		return extension_error(L, "fault's answer is a %s, not whether a frame is mapped",
				       lua_typename(L, lua_type(L, -1)));
	return lua_toboolean(L, -1);
}

/* How many. */
static int push_arguments(lua_State *L, const struct call *c)
{
	switch (c->event) {
	case EXTENSION_RECLAIM:
		pages_push(L);
		return 1;
	case EXTENSION_BEGIN:
		services_push_space(L, c->space);
		return 1;
	case EXTENSION_TRANSIENT:
		services_push_frame(L, c->frame);
		return 1;
	case EXTENSION_FAULT:
		lua_pushinteger(L, (lua_Integer)c->address);
		lua_pushboolean(L, c->write);
		if (!c->in_range)
			return 2;
		services_push_space(L, c->space);
		return 3;
	default:
		lua_pushinteger(L, (lua_Integer)c->address);
		return 1;
	}
}

/* The protected call: everything that Lua may fail at. */
static int answer(lua_State *L)
{
	struct call *c = lua_touserdata(L, 1);

	lua_rawgetp(L, LUA_REGISTRYINDEX, &event_names[c->event]);
	lua_call(L, push_arguments(L, c), 1);
	if (c->event == EXTENSION_RECLAIM)
		c->result = take_pages(L, c);
	else if (c->event == EXTENSION_FAULT)
		c->result = c->in_range ? take_mapped(L) : take_bytes(L, c);
	return 0;
}

/* Run it with EXTENSION_STEPS.  0, or what it died of. */
static int run(struct extension *x, lua_CFunction function, void *arg)
{
	lua_State *L = x->lua;
	const char *why;
	int status;

	x->steps = EXTENSION_STEPS;
	x->calls++;
	lua_sethook(L, count_steps, LUA_MASKCOUNT, HOOK_EVERY);
	lua_settop(L, 0);
	lua_pushcfunction(L, function);
	lua_pushlightuserdata(L, arg);
	status = lua_pcall(L, 1, 0, 0);
	if (status == LUA_OK && x->steps >= 0)
		return 0;
	why = lua_gettop(L) && lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
	atomic_store(&x->failed, true);
	if (x->steps < 0) {
		say(x, "took too many steps");
		return -ETIMEDOUT;
	}
	if (status == LUA_ERRMEM) {
		say(x, "took too much memory");
		return -ENOMEM;
	}
	say(x, why ? why : "ended with an error that is no text");
	return -EINVAL;
}

static int ask(struct extension *x, struct lruvec *v, struct call *c)
{
	int err = -ENOENT;

	if (!x->answers[c->event])
		return -ENOENT;
	spin_lock(&x->lock);
	if (!extension_has_failed(x)) {
		x->pages = v;
		err = run(x, answer, c);
		x->pages = NULL;
	}
	spin_unlock(&x->lock);
	return err ? err : c->result;
}

int extension_reclaim(struct extension *x, struct lruvec *v, struct page_handle *next,
		      bool *neighbours)
{
	struct call c = { .event = EXTENSION_RECLAIM, .next = next };
	int n = ask(x, v, &c), good = 0;
	struct page_facts facts;

	if (n <= 0)
		return n;
	*neighbours = x->neighbours;
	for (int i = 0; i < n; i++)
		if (!chosen_look(v, &next[i], &facts))
			next[good++] = next[i];
	if (good)
		return good;
	/* One that was there a moment ago may be gone without a fault of the script's. */
	if (c.kept) {
		spin_lock(&x->lock);
		say(x, "reclaim's answer is a page that is gone");
		spin_unlock(&x->lock);
	}
	return -EBADF;
}

int extension_repossess(struct extension *x, u64 address)
{
	struct call c = { .event = EXTENSION_REPOSSESS, .address = address };

	return ask(x, NULL, &c);
}

int extension_fault(struct extension *x, u64 address, bool write, void *bytes)
{
	struct call c = { .event = EXTENSION_FAULT,
			  .address = address & ~(u64)(PAGE_SIZE - 1),
			  .write = write,
			  .bytes = bytes };

	return ask(x, NULL, &c);
}

int extension_range_fault(struct extension *x, u64 space, u64 address, bool write)
{
	struct call c = { .event = EXTENSION_FAULT,
			  .address = address & ~(u64)(PAGE_SIZE - 1),
			  .space = space,
			  .write = write,
			  .in_range = true };

	return ask(x, NULL, &c);
}

int extension_begin(struct extension *x, u64 space)
{
	struct call c = { .event = EXTENSION_BEGIN, .space = space };

	return ask(x, NULL, &c);
}

int extension_transient(struct extension *x, s64 frame)
{
	struct call c = { .event = EXTENSION_TRANSIENT, .frame = frame };

	return ask(x, NULL, &c);
}

/* ---- loading ---- */

struct source {
	const char *name, *text;
	size_t size;
};

static const char *read_text(lua_State *L, void *arg, size_t *n)
{
	struct source *s = arg;

	(void)L;
	*n = s->size;
	s->size = 0;
	return s->text;
}

/* Is that a word of the table that an extension is?  Takes the value on top of the stack. */
static bool take_field(lua_State *L, const char *name)
{
	struct extension *x = extension_of(L);

	if (!strcmp(name, "neighbours") && lua_isboolean(L, -1)) {
		x->neighbours = lua_toboolean(L, -1);
		lua_pop(L, 1);
		return true;
	}
	for (unsigned i = 0; i < NR_EXTENSION_EVENTS; i++)
		if (!strcmp(name, event_names[i]) && lua_isfunction(L, -1)) {
			lua_rawsetp(L, LUA_REGISTRYINDEX, &event_names[i]);
			x->answers[i] = true;
			return true;
		}
	return false;
}

static int take_table(lua_State *L)
{
	struct extension *x = extension_of(L);
	bool any = false;

	if (!lua_istable(L, -1))
		return extension_error(L, "it returns a %s, not a table with handlers",
				       lua_typename(L, lua_type(L, -1)));
	lua_pushnil(L);
	while (lua_next(L, -2)) {
		if (lua_type(L, -2) != LUA_TSTRING)
			return extension_error(L, "its table has a field without a %s", "name");
		if (!take_field(L, lua_tostring(L, -2)))
			return extension_error(L,
					       "its table has '%s', which is no handler (reclaim, "
					       "repossess, fault, begin, transient) nor neighbours",
					       lua_tostring(L, -2));
	}
	for (unsigned i = 0; i < NR_EXTENSION_EVENTS; i++)
		any |= x->answers[i];
	return any ? 0 : extension_error(L, "its table has no %s", "handler");
}

static int begin(lua_State *L)
{
	struct source *s = lua_touserdata(L, 1);

	library_open(L);
	pages_open(L);
	services_open(L);
	lua_pushfstring(L, "@%s", s->name);
	if (lua_load(L, read_text, s, lua_tostring(L, -1), "t"))
		return lua_error(L);
	lua_call(L, 0, 1);
	return take_table(L);
}

/* What is left of a path. */
static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash[1] ? slash + 1 : path;
}

int extension_load(const struct engine_memory *memory, const char *name, const char *text,
		   size_t size, struct extension **out, char *says)
{
	struct extension *x = memory->alloc(memory->ctx, sizeof(*x));
	struct source s = { .text = text, .size = size };
	int err;

	says[0] = '\0';
	if (!x)
		return -ENOMEM;
	spin_init(&x->lock);
	x->memory = *memory;
	strncpy(x->name, last_part(name), sizeof(x->name) - 1);
	s.name = x->name;
	x->steps = EXTENSION_STEPS;
	x->lua = size <= EXTENSION_TEXT ? lua_newstate(reallocate, x) : NULL;
	if (!x->lua) {
		write_line(says, x->name,
			   size > EXTENSION_TEXT ? "is too long" : "there is no memory for it");
		extension_free(x);
		return size > EXTENSION_TEXT ? -EINVAL : -ENOMEM;
	}
	*(struct extension **)lua_getextraspace(x->lua) = x;
	err = run(x, begin, &s);
	if (err) {
		memcpy(says, x->says, EXTENSION_SAYS);
		extension_free(x);
		return err;
	}
	*out = x;
	return 0;
}

void extension_offer(struct extension *x, const struct extension_services *services)
{
	x->services = services;
}

void extension_free(struct extension *x)
{
	struct engine_memory memory = x->memory;

	if (x->lua)
		lua_close(x->lua);
	memory.free(memory.ctx, x, sizeof(*x));
}
