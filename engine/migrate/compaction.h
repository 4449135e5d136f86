/* SPDX-License-Identifier: MIT */
/*
 * Compaction: moving pages together, so that free frames lie together, too.
 *
 * There may be plenty of free frames and no block of 2^order side by side.  One scanner goes up
 * from the bottom of the zone and collects pages that can be moved, another goes down from the top
 * and collects free frames for them; where they meet the zone is compact, as far as it can be.
 * Huge pages, and what migrate_get() refuses, stay where they are.
 *
 * The allocator asks (direct compaction) before it reclaims for a block, and between rounds of
 * that.  Names and rules are Linux's (mm/compaction.c), as far as they show.
 */
#ifndef VMF_MIGRATE_COMPACTION_H
#define VMF_MIGRATE_COMPACTION_H

#include "engine/engine.h"
#include "engine/migrate/migrate.h"

/* Frames of a block that the scanners deal with at a time: 2 MiB. */
#define PAGEBLOCK_ORDER 9
#define PAGEBLOCK_PAGES (1ULL << PAGEBLOCK_ORDER)

#define COMPACT_MAX_DEFER_SHIFT 6u

enum compact_result {
	COMPACT_SKIPPED,   /* there is too little memory free: to be reclaimed first */
	COMPACT_DEFERRED,  /* it has failed of late, and is not tried this time */
	COMPACT_CONTENDED, /* somebody else is at it */
	COMPACT_COMPLETE,  /* the scanners have met, and there is no block */
	COMPACT_PARTIAL,   /* the same, but they did not begin at the ends */
	COMPACT_SUCCESS,   /* there is a block now */
};

/* Registers itself as the allocator's callback, if frames can be moved. */
void compaction_init(struct engine *e);

/* Make a block of 2^order free.  Pages that are locked or in use are left.  Locks as for direct
 * reclaim. */
enum compact_result try_to_compact(struct engine *e, struct zone *z, unsigned order);

/* On each node move all that can be moved together, waiting for pages that are locked: by hand, as
 * /proc/sys/vm/compact_memory.  Returns pages moved.  No lock held but mmap_lock for reading. */
u64 compact_memory(struct engine *e);

#endif
