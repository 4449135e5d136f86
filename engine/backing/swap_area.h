/* SPDX-License-Identifier: MIT */
/*
 * Swap areas: where slots come from.
 *
 * An area is a store and a table of its slots.  Areas have priorities: a slot is taken from the
 * highest that has one, from areas of one priority in turn.  Slots lie in clusters of 64.  A CPU
 * takes slots from its own cluster one after the other, whoever's pages they are for; so neighbours
 * of a process, which are taken together, get neighbouring slots, and come back together.  A turn
 * is a cluster.
 *
 * All of it is under swap->lock, but where it says otherwise.
 */
#ifndef VMF_BACKING_SWAP_AREA_H
#define VMF_BACKING_SWAP_AREA_H

#include "engine/base/list.h"
#include "engine/backing/store.h"

struct engine;
struct swap;
struct swap_slot;

#define SWAP_CLUSTER 64 /* slots */

struct swap_cluster {
	u64 used;	       /* bit i: slot i is in use, or does not exist */
	struct list_head link; /* one of the area's lists, unless it is full or has users */
	u16 users;	       /* CPUs that take slots from it */
	u16 nr_used;	       /* of its slots */
};

struct swap_area {
	struct store *store;
	struct swap_slot *slots;       /* [store->nr_slots] */
	struct swap_cluster *clusters; /* [nr_clusters] */
	u64 nr_clusters;
	u64 next; /* clusters from here on have never been used; no slot of theirs is looked at */
	struct list_head empty, roomy, crowded; /* clusters with all, half and fewer slots free */
	u64 used;				/* slots */
	unsigned type;				/* its number, in swap entries */
	int prio;				/* the higher goes first */
	_Atomic bool on;			/* slots may be taken; false: it is going */
	_Atomic bool refusing; /* the store had no room when it was last asked for some */
};

/* swap_area_on()'s prio: below all others so far, as Linux does it. */
#define SWAP_PRIO_NEXT (-1)

/*
 * As swapon(2): pages may go to this store, too.  prio: 0 .. 32767, or SWAP_PRIO_NEXT.
 * Returns the area's number; -EINVAL (prio; no slots), -EBUSY (the store is an area already),
 * -EPERM (there are too many), -ENOMEM.  The store is the caller's again after swap_area_off() or
 * engine_fini().
 */
int swap_area_on(struct engine *e, struct store *store, int prio);
/*
 * As swapoff(2): all that is in the area comes back, while programs run, and the area is no
 * more. What cannot be read is marked, so that who touches it gets SIGBUS.  0; -EINVAL (no such
 * area, or it is going already), -ENOMEM (there is no room for it all), -EIO (shared memory that
 * cannot be read): after these two the area is on again, and nothing is lost.  No lock held.
 * (fault/swapoff.c)
 */
int swap_area_off(struct engine *e, unsigned type);

/* ---- for backing/swap.c and fault/swapoff.c ---- */

/* A slot that nobody uses, or -ENOSPC.  cpu: whose cluster it is to come from. */
s64 swap_take_slot(struct swap *s, unsigned cpu);
/* It is nobody's any more, and the store knows. */
void swap_give_slot(struct swap *s, u64 slot);
/* The area gives no slots from now on.  False: there is none, or it is so already.  Lock not held.
 */
bool swap_area_stop(struct swap *s, unsigned type);
/* How many of its slots are in use? */
u64 swap_area_used(struct swap *s, unsigned type);
/* It gives some again. */
void swap_area_start(struct swap *s, unsigned type);
/* It has stopped, and no slot is in use: forget it.  Lock not held. */
void swap_area_free(struct engine *e, unsigned type);
/* All areas, in use or not. */
void swap_areas_fini(struct engine *e);
/* Clusters and counts; panics with a message. */
void swap_area_check(const struct swap_area *a);

#endif
