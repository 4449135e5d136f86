/* SPDX-License-Identifier: MIT */
/* Between the files of this room. */
#ifndef VMF_SPIN_INTERNAL_H
#define VMF_SPIN_INTERNAL_H

#include "systems/common/engine_system.h"
#include "systems/spin/spin.h"

/* Extensions by their numbers; SPIN_KERNEL is 0. */
#define SPIN_ADDRESS_SPACE 1
#define SPIN_USERS	   2 /* the one that a user has loaded */
#define SPIN_ATTACKER	   7

struct spin_lua;
struct spin_services;

struct spin {
	struct engine_system base;
	struct spin_dispatcher *dispatcher;
	u32 owners[PROGRAM_PROCESSES]; /* of each space: an extension */
	u32 memory_owner;	       /* who may say which pages go */
	/* What handlers name each space by, and the last that was given: never one that was
	 * another's, for a handler may be there longer than its space. */
	u64 keys[PROGRAM_PROCESSES], last_key;
	s64 handles[PROGRAM_PROCESSES][NR_SPIN_TRAPS];
	struct reclaim_chooser chooser; /* raises Reclaim */
	struct spin_services *services; /* memory.h */
	struct spin_lua *lua;		/* the user's extension, or NULL */
};

static inline struct spin *spin_of(struct program *p)
{
	return container_of(engine_system_of_program(p), struct spin, base);
}

static inline struct spin *spin_of_system(struct system *s)
{
	return container_of(engine_system_of(s), struct spin, base);
}

/* The space of that key; NULL: nobody's, or nobody's any more. */
struct mm *spin_space_of(struct spin *s, u64 key);

/* ---- address_space.c: the memory services, and the engine over them ---- */

/* 0, -ENOMEM.  The engine has no space with pages yet. */
int spin_services_create(struct spin *s);
/* What extensions have goes; then, when the engine has ended, the rest. */
void spin_services_end(struct spin *s);
void spin_services_destroy(struct spin_services *m);
/* What a space that ends has of extensions. */
void spin_services_end_space(struct spin *s, unsigned process);

/* ---- lua.c: the extension that a user has loaded ---- */

/* Load it, for all spaces there are and all memory.  0, -ENOMEM, -ENOSPC; -EINVAL, -ETIMEDOUT: it
 * is no extension. */
int spin_lua_begin(struct spin *s, const struct system_extension *text);
void spin_lua_end(struct spin *s);
/* Its handlers for a process that has begun, or is about to end.  0, -ENOSPC. */
int spin_lua_begin_space(struct spin *s, unsigned process);
void spin_lua_end_space(struct spin *s, unsigned process);
/* "": nothing went wrong. */
const char *spin_lua_says(struct spin *s);
/* What came of its handlers last, as extension_reclaim() and others. */
int spin_lua_last(struct spin *s);

/* ---- attacks.c ---- */

#define NR_SPIN_ATTACKS 28
extern const struct system_attack spin_attacks[NR_SPIN_ATTACKS];

#endif
