/* SPDX-License-Identifier: MIT */
/*
 * Clustered objects (Gamsa et al., OSDI 1999): one reference, and behind it a representative for
 * each CPU, or one for several.
 *
 *   1. Who calls an object looks its reference up in the translation table of the CPU that it runs
 * on: there is the representative to call.
 *   2. The first call from a CPU finds nothing there.  The object's miss handler makes a
 * representative for the CPU, or says whose the CPU is to share; the table has it from then on.
 *   3. An object is destroyed in two steps.  Its reference goes from all tables, so that no new
 * call finds it; and when every CPU that was in a call then has come out of it, the memory goes. So
 * a call needs no lock and no count to keep its object.
 *
 * Calls are made between co_enter() and co_exit(), by the thread that drives the CPU.  A reference
 * is never used again for another object.
 *
 * Who reaches a representative of another CPU's counts that (PAID_REMOTE, co_reach()); here, too:
 * a miss reaches the root, which is at the CPU that made the object, and whoever destroys an object
 * reaches the tables that have it.  What never changes after an object is made counts for nothing:
 * each CPU's cache has its copy.
 *
 * Locks: co_system.lock guards the list of all objects, misses and destruction; nothing is taken
 * under it, and any lock of the engine may be held.
 */
#ifndef VMF_SYSTEMS_CLUSTERED_H
#define VMF_SYSTEMS_CLUSTERED_H

#include "engine/base/list.h"
#include "engine/base/lock.h"
#include "engine/base/types.h"

struct co_root;

typedef u64 co_ref; /* 0: none */

#define CO_MOST 16384 /* objects at a time */

/* Begins each representative. */
struct co_rep {
	struct co_root *root;
	unsigned cpu; /* in whose memory it is */
	_Atomic bool made;
};

struct co_type {
	const char *name;
	size_t size, rep_size; /* bytes: the root, which begins with struct co_root; each of its
				* representatives */
	/*
	 * The miss handler: which CPU's representative is `cpu` to have?  Called once for each CPU
	 * with co_system.lock held.
	 */
	unsigned (*miss)(struct co_root *root, unsigned cpu);
	/* A representative, zeroed but for its head, is needed: fill it from the root.  NULL:
	 * nothing is to be filled.  co_system.lock held. */
	void (*make)(struct co_rep *rep);
	/* Nobody is in a call of it any more: what it has is to go; its own memory goes after.
	 * NULL: it has nothing. */
	void (*fini)(struct co_root *root);
};

struct co_root {
	const struct co_type *type;
	struct co_system *system;
	co_ref ref;	       /* 0: it is destroyed; co_system.lock to change it */
	unsigned place;	       /* in all tables */
	unsigned home;	       /* the CPU that made it */
	struct list_head link; /* once destroyed: system->dying */
	u64 *seen;	       /* once destroyed: each CPU's count then */
};

struct co_entry {
	_Atomic co_ref ref; /* 0: none.  Written under co_system.lock */
	const struct co_type *type;
	struct co_rep *rep;
};

struct co_cpu {
	_Alignas(64) _Atomic u64 calls; /* odd: it is in a call */
	unsigned depth;			/* the CPU's own */
	struct co_entry *table;		/* [CO_MOST] */
};

struct co_system {
	unsigned nr_cpus;
	struct co_cpu *cpus;
	spinlock_t lock;	  /* guards all below */
	struct co_root **objects; /* [CO_MOST] */
	u32 *generations;	  /* how often each place was used */
	unsigned last;		  /* place given */
	struct list_head dying;
	u64 nr_alive, nr_dying;
};

/* 0, -ENOMEM. */
int co_init(struct co_system *s, unsigned nr_cpus);
/* Destroys what is left.  Nobody is in a call. */
void co_fini(struct co_system *s);

/* The CPU is in a call (or a call of the system made of several) until co_exit(); may be nested.
 * What is found by a reference meanwhile stays. */
void co_enter(struct co_system *s, unsigned cpu);
void co_exit(struct co_system *s, unsigned cpu);

/* A new object: zeroed memory for it and its representatives, with a reference that nobody knows.
 * NULL: no memory, or too many objects. */
struct co_root *co_create(struct co_system *s, const struct co_type *type, unsigned cpu);
/*
 * Call the object: *rep is who is to do it on this CPU.  0; -EBADF: there is no such object (any
 * more); -EINVAL: it is of another type.  Within co_enter().
 */
int co_call(struct co_system *s, unsigned cpu, co_ref ref, const struct co_type *type,
	    struct co_rep **rep);
/* Can this CPU, which has called it, call it still?  Without a call. */
bool co_is_known(const struct co_system *s, unsigned cpu, co_ref ref);
/* No call finds it from now on; its memory goes when nobody is in a call of it.  0, -EBADF. */
int co_destroy(struct co_system *s, unsigned cpu, co_ref ref);
/* Let go what nobody is in a call of any more.  Objects that are still waited for.  No lock held,
 * and the caller in no call. */
u64 co_collect(struct co_system *s);

/* The representative of that CPU, for who must reach another's; it is made if need be. */
struct co_rep *co_rep_at(struct co_root *root, unsigned cpu);
/* `cpu` uses what is in the memory of another (or its own). */
void co_reach(unsigned cpu, unsigned other);

#endif
