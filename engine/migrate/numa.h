/* SPDX-License-Identifier: MIT */
/*
 * Moving a program's pages from node to node, because it asks for it: mbind(2), move_pages(2),
 * migrate_pages(2), with Linux's errors.  Masks and maxnode as in space/mempolicy.h.
 *
 * A transparent huge page of which anything has to go is split.  Pages of a pool are left: mbind
 * and migrate_pages count them as such, move_pages says -EBUSY.
 *
 * Pages that others map, too, are left unless the caller may move them and says so.  Where no page
 * can be moved (can_migrate()) all are left.
 */
#ifndef VMF_MIGRATE_NUMA_H
#define VMF_MIGRATE_NUMA_H

#include "engine/engine.h"

/* What areas of [start, start + len) get their memory from, and pages of shared memory that they
 * map, whoever brings them in (backing/shared_policy.h); with MPOL_MF_MOVE pages that are elsewhere
 * move there, and with MPOL_MF_STRICT it is an error (-EIO) if any is left.  0, -EINVAL, -EPERM,
 * -EFAULT (there is a hole), -ENOMEM.  Takes mmap_lock for writing. */
int do_mbind(struct mm *mm, u64 start, u64 len, u64 mode, const u64 *nmask, u64 maxnode, u64 flags);

/*
 * Move the page at each of `n` addresses to nodes[i], or (nodes is NULL) tell where it is.
 * status[i]: its node, or -ENOENT (no page), -EFAULT (no area, or the zero page), -EACCES (others
 * map it, too), -EBUSY.  0, or how many could not be moved, or -EINVAL, -EPERM, -ENODEV (no such
 * node: what was before it has been dealt with).  Takes mmap_lock for reading.
 */
s64 do_move_pages(struct mm *mm, u64 n, const u64 *pages, const int *nodes, int *status, u64 flags);

/* Move all pages from `from` nodes to `to` nodes: from the n-th to the n-th.  How many were left,
 * or -EINVAL, -EPERM.  Takes mmap_lock for reading. */
s64 do_migrate_pages(struct mm *mm, u64 maxnode, const u64 *from, const u64 *to);

#endif
