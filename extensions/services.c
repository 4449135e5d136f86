/* SPDX-License-Identifier: MIT */
/*
 * The memory services as a script calls them, with SPIN's names:
 *
 *   PhysAddr.Allocate()                        a frame
 *   PhysAddr.Deallocate(frame)
 *   PhysAddr.State(frame)                      "active", "reclaimed", "transient" ...
 *   PhysAddr.ChangeState(frame, state)         "active" or "reclaimed"
 *   PhysAddr.ChangeProtection(frame, rights)   "r", "rw", "rx" or "rwx"
 *   PhysAddr.Read(frame, at, n)                a string
 *   PhysAddr.Write(frame, at, bytes)
 *   VirtAddr.Allocate(space, pages)            a range
 *   VirtAddr.Deallocate(range)
 *   VirtAddr.Address(range)
 *   Translation.AddMapping(space, frame, range, page, rights)
 *   Translation.RemoveMapping(space, range, page)
 *   Translation.ChangeMapping(space, range, page, rights)
 *   Translation.ExamineMapping(space, address) rights, used, written to
 *
 * What has nothing else to give gives true; what cannot be done gives nil and a word that says why.
 *
 * Frames, ranges and spaces are userdata with the handle of whoever offers the services, which no
 * script can make or change; each use is checked there once more, for it may be good no longer.
 * An argument of another kind is an error of the script's.
 */
#include <string.h>

#include "engine/space/mm.h"
#include "extensions/internal.h"

/* Steps that a call is, beside one for each 64 bytes. */
#define CALL_STEPS 50

enum kind { FRAME, RANGE, SPACE, NR_KINDS };

static const char *const kind_names[NR_KINDS] = {
	[FRAME] = "frame",
	[RANGE] = "range",
	[SPACE] = "space",
};

/* Whose numbers are those of enum spin_frame_state. */
static const char *const state_names[] = { "free",	"active", "reclaimed",
					   "transient", "zombie", "pinned" };

static const struct extension_services *services(lua_State *L)
{
	struct extension *x = extension_of(L);

	if (!x->services)
		extension_error(L, "nobody offers %s here", "memory services");
	x->steps -= CALL_STEPS;
	return x->services;
}

/* ---- handles ---- */

static bool is_kind(lua_State *L, int at, enum kind kind)
{
	bool is = false;

	if (lua_isuserdata(L, at) && lua_getmetatable(L, at)) {
		lua_rawgetp(L, LUA_REGISTRYINDEX, &kind_names[kind]);
		is = lua_rawequal(L, -1, -2);
		lua_pop(L, 2);
	}
	return is;
}

static s64 handle_at(lua_State *L, int at, enum kind kind)
{
	const s64 *handle = lua_touserdata(L, at);

	if (!is_kind(L, at, kind)) {
		lua_pushfstring(L, "a %s is needed here, not a %s", kind_names[kind],
				lua_typename(L, lua_type(L, at)));
		extension_error(L, "%s", lua_tostring(L, -1));
	}
	return *handle;
}

/* Where it is: who has no handle yet puts it there, when there is no memory left to run out of. */
static s64 *push_handle(lua_State *L, s64 handle, enum kind kind)
{
	s64 *to = lua_newuserdatauv(L, sizeof(*to), 0);

	*to = handle;
	lua_rawgetp(L, LUA_REGISTRYINDEX, &kind_names[kind]);
	lua_setmetatable(L, -2);
	return to;
}

void services_push_space(lua_State *L, u64 space)
{
	push_handle(L, (s64)space, SPACE);
}

void services_push_frame(lua_State *L, s64 frame)
{
	push_handle(L, frame, FRAME);
}

/* Of one kind, and for the same. */
static int handle_equal(lua_State *L)
{
	bool equal = false;

	for (unsigned kind = 0; kind < NR_KINDS; kind++)
		if (is_kind(L, 1, kind) && is_kind(L, 2, kind))
			equal = handle_at(L, 1, kind) == handle_at(L, 2, kind);
	lua_pushboolean(L, equal);
	return 1;
}

/* `id`: a number that no other handle of the kind has, for tables; it names nothing. */
static int handle_index(lua_State *L)
{
	for (unsigned kind = 0; kind < NR_KINDS; kind++)
		if (is_kind(L, 1, kind) && lua_type(L, 2) == LUA_TSTRING &&
		    !strcmp(lua_tostring(L, 2), "id")) {
			lua_pushinteger(L, handle_at(L, 1, kind));
			return 1;
		}
	return extension_error(L, "it has nothing but an %s", "id");
}

/* ---- other arguments, and results ---- */

static u64 number_at(lua_State *L, int at)
{
	int ok;
	lua_Integer n = lua_tointegerx(L, at, &ok);

	if (!ok)
		extension_error(L, "an integer is needed here, not a %s",
				lua_typename(L, lua_type(L, at)));
	return (u64)n;
}

static const char *string_at(lua_State *L, int at, size_t *n)
{
	if (lua_type(L, at) != LUA_TSTRING)
		extension_error(L, "a string is needed here, not a %s",
				lua_typename(L, lua_type(L, at)));
	return lua_tolstring(L, at, n);
}

static u32 rights_at(lua_State *L, int at)
{
	static const struct {
		const char *name;
		u32 prot;
	} rights[] = { { "r", VM_READ },
		       { "rw", VM_READ | VM_WRITE },
		       { "rx", VM_READ | VM_EXEC },
		       { "rwx", VM_READ | VM_WRITE | VM_EXEC } };
	const char *name = string_at(L, at, NULL);

	for (unsigned i = 0; i < ARRAY_SIZE(rights); i++)
		if (!strcmp(name, rights[i].name))
			return rights[i].prot;
	return (u32)extension_error(L, "'%s' are no rights: r, rw, rx or rwx", name);
}

static const char *why(s64 err)
{
	switch (err) {
	case -EBADF:
		return "gone";
	case -EACCES:
		return "not yours";
	case -ENOMEM:
	case -ENOSPC:
		return "none left";
	case -EEXIST:
		return "taken";
	case -ENOENT:
		return "nothing there";
	case -ESTALE:
		return "stale";
	case -EBUSY:
	case -EAGAIN:
		return "busy";
	default:
		return "not possible";
	}
}

static int refused(lua_State *L, s64 err)
{
	lua_pushnil(L);
	lua_pushstring(L, why(err));
	return 2;
}

static int done(lua_State *L, int err)
{
	if (err < 0)
		return refused(L, err);
	lua_pushboolean(L, true);
	return 1;
}

/* ---- PhysAddr ---- */

static int phys_allocate(lua_State *L)
{
	const struct extension_services *s = services(L);
	s64 *frame = push_handle(L, 0, FRAME);

	*frame = s->allocate_frame(s->arg);
	return *frame > 0 ? 1 : refused(L, *frame);
}

static int phys_deallocate(lua_State *L)
{
	const struct extension_services *s = services(L);

	return done(L, s->deallocate_frame(s->arg, handle_at(L, 1, FRAME)));
}

static int phys_state(lua_State *L)
{
	const struct extension_services *s = services(L);
	int state = s->state(s->arg, handle_at(L, 1, FRAME));

	if (state < 0 || state >= (int)ARRAY_SIZE(state_names))
		return refused(L, state);
	lua_pushstring(L, state_names[state]);
	return 1;
}

static int phys_change_state(lua_State *L)
{
	const struct extension_services *s = services(L);
	s64 frame = handle_at(L, 1, FRAME);
	const char *name = string_at(L, 2, NULL);

	for (unsigned i = 0; i < ARRAY_SIZE(state_names); i++)
		if (!strcmp(name, state_names[i]))
			return done(L, s->change_state(s->arg, frame, (int)i));
	return extension_error(L, "'%s' is no state of a frame", name);
}

static int phys_change_protection(lua_State *L)
{
	const struct extension_services *s = services(L);
	s64 frame = handle_at(L, 1, FRAME);

	return done(L, s->change_protection(s->arg, frame, rights_at(L, 2)));
}

static int phys_read(lua_State *L)
{
	const struct extension_services *s = services(L);
	s64 frame = handle_at(L, 1, FRAME);
	u64 at = number_at(L, 2), n = number_at(L, 3);
	void *bytes;
	int err;

	if (n > PAGE_SIZE)
		return refused(L, -EINVAL);
	bytes = lua_newuserdatauv(L, n ? n : 1, 0);
	err = s->read(s->arg, frame, at, bytes, n);
	if (err)
		return refused(L, err);
	lua_pushlstring(L, bytes, n);
	return 1;
}

static int phys_write(lua_State *L)
{
	const struct extension_services *s = services(L);
	s64 frame = handle_at(L, 1, FRAME);
	u64 at = number_at(L, 2);
	size_t n;
	const char *bytes = string_at(L, 3, &n);

	extension_of(L)->steps -= (s64)(min_of(n, (size_t)PAGE_SIZE) / 64);
	return done(L, s->write(s->arg, frame, at, bytes, n));
}

/* ---- VirtAddr ---- */

static int virt_allocate(lua_State *L)
{
	const struct extension_services *s = services(L);
	u64 space = (u64)handle_at(L, 1, SPACE), pages = number_at(L, 2);
	s64 *range = push_handle(L, 0, RANGE);

	*range = s->allocate_range(s->arg, space, pages);
	return *range > 0 ? 1 : refused(L, *range);
}

static int virt_deallocate(lua_State *L)
{
	const struct extension_services *s = services(L);

	return done(L, s->deallocate_range(s->arg, handle_at(L, 1, RANGE)));
}

static int virt_address(lua_State *L)
{
	const struct extension_services *s = services(L);
	u64 address;
	int err = s->address(s->arg, handle_at(L, 1, RANGE), &address);

	if (err)
		return refused(L, err);
	lua_pushinteger(L, (lua_Integer)address);
	return 1;
}

/* ---- Translation ---- */

static int add_mapping(lua_State *L)
{
	const struct extension_services *s = services(L);
	u64 space = (u64)handle_at(L, 1, SPACE), page;
	s64 frame = handle_at(L, 2, FRAME), range = handle_at(L, 3, RANGE);

	page = number_at(L, 4);
	return done(L, s->add_mapping(s->arg, space, frame, range, page, rights_at(L, 5)));
}

static int remove_mapping(lua_State *L)
{
	const struct extension_services *s = services(L);
	u64 space = (u64)handle_at(L, 1, SPACE);
	s64 range = handle_at(L, 2, RANGE);

	return done(L, s->remove_mapping(s->arg, space, range, number_at(L, 3)));
}

static int change_mapping(lua_State *L)
{
	const struct extension_services *s = services(L);
	u64 space = (u64)handle_at(L, 1, SPACE), page;
	s64 range = handle_at(L, 2, RANGE);

	page = number_at(L, 3);
	return done(L, s->change_mapping(s->arg, space, range, page, rights_at(L, 4)));
}

static int examine_mapping(lua_State *L)
{
	const struct extension_services *s = services(L);
	u64 space = (u64)handle_at(L, 1, SPACE);
	struct extension_examined e;
	int err = s->examine_mapping(s->arg, space, number_at(L, 2), &e);

	if (err)
		return refused(L, err);
	lua_pushfstring(L, "r%s%s", e.prot & VM_WRITE ? "w" : "", e.prot & VM_EXEC ? "x" : "");
	lua_pushboolean(L, e.used);
	lua_pushboolean(L, e.dirty);
	return 3;
}

/* ---- */

struct service {
	const char *name;
	lua_CFunction call;
};

static const struct service phys_addr[] = {
	{ "Allocate", phys_allocate },
	{ "Deallocate", phys_deallocate },
	{ "State", phys_state },
	{ "ChangeState", phys_change_state },
	{ "ChangeProtection", phys_change_protection },
	{ "Read", phys_read },
	{ "Write", phys_write },
	{ NULL, NULL },
};
static const struct service virt_addr[] = {
	{ "Allocate", virt_allocate },
	{ "Deallocate", virt_deallocate },
	{ "Address", virt_address },
	{ NULL, NULL },
};
static const struct service translation[] = {
	{ "AddMapping", add_mapping },
	{ "RemoveMapping", remove_mapping },
	{ "ChangeMapping", change_mapping },
	{ "ExamineMapping", examine_mapping },
	{ NULL, NULL },
};

static void open_service(lua_State *L, const char *name, const struct service *calls)
{
	lua_newtable(L);
	for (; calls->name; calls++) {
		lua_pushcfunction(L, calls->call);
		lua_setfield(L, -2, calls->name);
	}
	lua_setglobal(L, name);
}

void services_open(lua_State *L)
{
	for (unsigned kind = 0; kind < NR_KINDS; kind++) {
		lua_newtable(L);
		lua_pushcfunction(L, handle_index);
		lua_setfield(L, -2, "__index");
		lua_pushcfunction(L, handle_equal);
		lua_setfield(L, -2, "__eq");
		lua_rawsetp(L, LUA_REGISTRYINDEX, &kind_names[kind]);
	}
	open_service(L, "PhysAddr", phys_addr);
	open_service(L, "VirtAddr", virt_addr);
	open_service(L, "Translation", translation);
}
