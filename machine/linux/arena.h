/* SPDX-License-Identifier: MIT */
/*
 * The agent's own memory: one region of address space, at a place that can be told from the
 * program's, and a simple allocator by size classes in it.  Private and anonymous, so that a
 * forked child has a consistent copy of everything the agent knows.
 */
#ifndef VMF_LINUX_ARENA_H
#define VMF_LINUX_ARENA_H

#include "engine/engine.h"

/* Whatever lies in [ARENA_BASE, ARENA_BASE + ARENA_SIZE) is the agent's. */
#define ARENA_BASE 0x600000000000ULL
#define ARENA_SIZE (256ULL << 30)

/* Reserve the region.  0, or a negative errno (something is there, or too little address space). */
int arena_init(void);

/* Zeroed memory, aligned to its size up to a page; NULL when the region is used up. */
void *arena_alloc(u64 bytes);
void arena_free(void *p, u64 bytes);

/* The same, for the engine. */
extern const struct engine_memory arena_memory;

/* Bytes of the arena that may be touched, resident or not; 0 if there is none. */
u64 arena_accessible(void);
/* Bytes of the arena that are resident now.  Costs a walk of the page tables: not for hot paths. */
u64 arena_resident(void);

#endif
