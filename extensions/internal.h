/* SPDX-License-Identifier: MIT */
/* Between the files of this room. */
#ifndef VMF_EXTENSIONS_INTERNAL_H
#define VMF_EXTENSIONS_INTERNAL_H

#include <lua.h>

#include "engine/base/errno.h"
#include "extensions/extension.h"

struct extension {
	spinlock_t lock; /* somebody is inside: guards all below */
	struct engine_memory memory;
	lua_State *lua;
	s64 steps;				   /* left of this call; below 0: it has to end */
	u64 bytes;				   /* in use */
	u64 calls;				   /* so far, with this one */
	const struct extension_services *services; /* NULL: nobody offers them */
	struct lruvec *pages; /* that can be looked at in this call; NULL: none */
	bool answers[NR_EXTENSION_EVENTS], neighbours;
	_Atomic bool failed, said; /* read anywhere */
	char name[48], says[EXTENSION_SAYS];
};

/* Whose interpreter that is. */
struct extension *extension_of(lua_State *L);
/* An error of the script: its line, and `text`, in which one %s is `what`.  Does not return. */
int extension_error(lua_State *L, const char *text, const char *what);

/* ---- library.c: what the script can call ---- */

/* By a protected call: the functions become the script's globals. */
void library_open(lua_State *L);

/* ---- services.c: the memory services ---- */

void services_open(lua_State *L);
/* Handles, as arguments of events. */
void services_push_space(lua_State *L, u64 space);
void services_push_frame(lua_State *L, s64 frame);

/* ---- pages.c: handles ---- */

void pages_open(lua_State *L);
/* The object that the handler of Reclaim gets. */
void pages_push(lua_State *L);
/* The handle at that place of the stack; false: it is something else.  *kept is set if it was given
 * in an earlier call. */
bool pages_handle(lua_State *L, int at, struct page_handle *h, bool *kept);

#endif
