/* SPDX-License-Identifier: MIT */
/*
 * Reservation maps: sets of ranges of huge-page indexes.
 *
 * A shared file's map says for which of its pages a promise was taken from the pool; it stays when
 * the page is there.  A private mapping's map says for which of its pages the promise, which was
 * taken for all of them, has been used up (the other way round, so that it begins empty).
 *
 * Adding is in two steps.  region_chg() tells how much is lacking, and sees to it that the second
 * step cannot fail: region_add(), or region_abort() if there is to be none.
 *
 * Each call takes the map's lock itself; any lock of the engine may be held.
 */
#ifndef VMF_HUGETLB_RESERVE_H
#define VMF_HUGETLB_RESERVE_H

#include "engine/base/list.h"
#include "engine/base/lock.h"
#include "engine/base/memory.h"

struct resv_map {
	const struct engine_memory *memory;
	_Atomic u32 refcount;
	spinlock_t lock;	  /* all below */
	struct list_head regions; /* by index; neither overlapping nor touching */
	struct list_head spare;	  /* one for each region_chg() that is under way */
};

/* Empty, with one reference; NULL: no memory. */
struct resv_map *resv_map_alloc(const struct engine_memory *memory);
void resv_map_get(struct resv_map *m);
void resv_map_put(struct resv_map *m);

/* How many of [from, to) are not in the map, or -ENOMEM. */
s64 region_chg(struct resv_map *m, u64 from, u64 to);
/* Add [from, to), after region_chg(); how many were not in the map. */
s64 region_add(struct resv_map *m, u64 from, u64 to);
void region_abort(struct resv_map *m);
/* Take [from, to) out; how many were in the map, or -ENOMEM (only where a region would be cut in
 * two; nothing has changed). */
s64 region_del(struct resv_map *m, u64 from, u64 to);
/* How many of [from, to) are in the map. */
u64 region_count(struct resv_map *m, u64 from, u64 to);

#endif
