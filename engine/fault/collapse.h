/* SPDX-License-Identifier: MIT */
/*
 * Making huge pages of single ones: for MADV_COLLAPSE, and in the background.
 */
#ifndef VMF_FAULT_COLLAPSE_H
#define VMF_FAULT_COLLAPSE_H

#include "engine/engine.h"

/* What became of 2 MiB of addresses; Linux's names. */
enum scan_result {
	SCAN_FAIL,
	SCAN_SUCCEED,
	SCAN_PMD_NULL,		   /* there is no table of PMD entries, */
	SCAN_PMD_NONE,		   /* or nothing in it */
	SCAN_PMD_MAPPED,	   /* it is huge already */
	SCAN_EXCEED_NONE_PTE,	   /* too much that was never touched, */
	SCAN_EXCEED_SWAP_PTE,	   /* that is swapped out, */
	SCAN_EXCEED_SHARED_PTE,	   /* that others have, too */
	SCAN_PTE_NON_PRESENT,	   /* a marker, or what was swapped out again meanwhile */
	SCAN_PTE_UFFD_WP,	   /* a userfaultfd watches over a page */
	SCAN_LACK_REFERENCED_PAGE, /* none was used lately */
	SCAN_PAGE_COUNT,	   /* somebody is at a page just now, */
	SCAN_PAGE_LOCK,		   /* or has it locked, */
	SCAN_PAGE_LRU,		   /* or it is on no list */
	SCAN_VMA_NULL,		   /* the area is gone, */
	SCAN_ADDRESS_RANGE,	   /* does not hold all of it, */
	SCAN_VMA_CHECK,		   /* or is not for huge pages */
	SCAN_ALLOC_HUGE_PAGE_FAIL, /* no frames in one piece */
};

/*
 * MADV_COLLAPSE: a huge page for each 2 MiB that [start, end) holds, whatever the settings are.
 * mmap_lock held for reading; dropped meanwhile, and the VMA may be gone then.  0, or -EINVAL (the
 * area, or what is in it, is not for huge pages), -ENOMEM (none can be had), -EAGAIN (a page is
 * busy).
 */
int madvise_collapse(struct vma *vma, u64 start, u64 end);

/*
 * A slice of background work: look at about `pages` entries of areas that may have huge pages, in
 * one space after the other, and make huge pages where config.collapse allows it.  How many were
 * made.  No lock held; any thread, one at a time (another returns at once).
 */
unsigned khugepaged_scan(struct engine *e, u64 pages);

#endif
