/* SPDX-License-Identifier: MIT */
/*
 * The fault paths.  Plan of every one of them:
 *
 *   held on entry     mmap_lock or vma->lock for reading; vmf->ptep found, vmf->orig read
 *   1  decide what to bring in (readahead) and get frames: may reclaim, no further lock held
 *   2  fill them
 *   3  page-table lock; is the entry still what it was? otherwise undo all: somebody was first
 *   4  set() in the machine; it may set fewer, or none: undo the rest
 *   5  reverse map, LRU, counters; unlock
 *   held on return    the same, unless VM_FAULT_RETRY
 */
#ifndef VMF_FAULT_INTERNAL_H
#define VMF_FAULT_INTERNAL_H

#include "engine/base/errno.h"
#include "engine/fault/fault.h"
#include "engine/reclaim/internal.h"

/* What takes the place of vmf->orig: write-protected by userfaultfd if that was.  What comes back
 * from the swap area has its mark even where marks mean nothing; so does Linux. */
static inline pte_t keep_uffd_wp(const struct vm_fault_info *vmf, pte_t pte)
{
	if (unlikely(pte_uffd_wp(vmf->orig)) &&
	    ((vmf->vma->flags & VM_UFFD_WP) || pte_is_swap(vmf->orig)))
		return pte_mkuffd_wp(pte);
	return pte;
}

/* A run of pages to bring in together; the one that was asked for is among them. */
struct run {
	u64 start;	/* address of the first */
	unsigned n;	/* pages */
	unsigned asked; /* index of the page asked for: the first, or (downwards) the last */
	bool down;
	int stream;
	u32 clock;
};

/* What to bring in for a fault at vmf->address, within VMA and table.  Where a userfaultfd serves
 * faults: that page alone. */
struct run readahead_plan(struct vm_fault_info *vmf);
/* It was only so much. */
void readahead_done(struct engine *e, const struct run *run);
/* Keep the n pages next to (and with) the page asked for. */
void run_shrink(struct run *run, unsigned n);

/*
 * Frames for a run, in order of address; the page asked for may reclaim, the others only take what
 * is there.  Shrinks the run.  False: not even one.
 */
bool run_alloc(const struct vm_fault_info *vmf, struct run *run, struct page **pages);
void run_free(struct engine *e, struct page **pages, unsigned n, bool staged);
/* The pages, staged and mapped nowhere, are mapped with set() and told of their entries; what these
 * allow goes by the VMA, by whether the page is the one asked for, and by whether it is exclusive.
 * Returns set()'s result.  PTL held. */
int run_set(struct vm_fault_info *vmf, const struct run *run, struct page **pages);
/* After run_set(): LRU and rss for the first n pages. */
void run_account(struct vm_fault_info *vmf, const struct run *run, struct page **pages, unsigned n);
/* set() said `err` and nothing is set; all is undone: what becomes of the fault? */
unsigned set_failed(struct vm_fault_info *vmf, u64 va, int err);

/* There is no last-level table: with VM_FAULT_FALLBACK the fault is to go on with one. */
unsigned do_huge_pmd(struct vm_fault_info *vmf);
/* A first write to anonymous memory with an anon_vma: with VM_FAULT_FALLBACK nothing has come. */
unsigned do_anonymous_folio(struct vm_fault_info *vmf);
unsigned do_anonymous_page(struct vm_fault_info *vmf);
unsigned do_swap_page(struct vm_fault_info *vmf);
unsigned do_wp_page(struct vm_fault_info *vmf);
/* An entry that nobody may access in an area that may be accessed (numa.c). */
unsigned do_numa_page(struct vm_fault_info *vmf);
/* No entry, in a VMA of a file (file.c). */
unsigned do_fault(struct vm_fault_info *vmf);
/* A write to a page of the VMA's file that a shared mapping has read-only (file.c).  The page has
 * a reference of the caller's, which goes. */
unsigned wp_page_shared(struct vm_fault_info *vmf, struct page *page);
/* A fault, or a write to a read-only entry, in an area of persistent memory (dax.c). */
unsigned dax_fault(struct vm_fault_info *vmf);
/* The same where there is no last-level table, but an entry of a PMD table, with its lock
 * (dax_huge.c).  As do_huge_pmd(). */
unsigned dax_huge_fault(struct vm_fault_info *vmf, pte_t *pmdp, spinlock_t *ptl);
/* Drop the lock that the fault came with, and note that. */
void release_fault_lock(struct vm_fault_info *vmf);
/*
 * There was no frame, and reclaim found none: will there be one in a moment?  refused: what
 * store_refusals() said before.
 */
bool frames_in_flight(struct engine *e, u64 refused);
/*
 * The same for who tries again and again, and may have somebody killed in the end (oom.h): zeroed
 * at first, noted before each try, and asked after one that found no frame.
 */
struct shortage {
	u64 refused, hopes, since;
	unsigned tries;
};
void shortage_note(struct engine *e, struct shortage *s);
/* Is it worth another try?  No lock held; may sleep.  may_kill: or else nobody is. */
bool shortage_may_pass(struct mm *mm, struct shortage *s, bool may_kill);
/* As faultin_page(), for a call that needs the page: where there is no memory for it somebody is
 * killed.  After -ENOMEM the VMA may not be there any more. */
int populate_page(struct vma *vma, u64 va, bool write, struct shortage *s);
static inline u64 store_refusals(const struct engine *e)
{
	return atomic_load_explicit(&e->stats->store_full, memory_order_relaxed);
}
/* mm_account_fault: count a fault that succeeded. */
void account_fault(struct mm *mm, unsigned ret, unsigned flags, struct fault_result *res);
/* The entry says present, the machine found nothing. */
unsigned do_vanished_page(struct vm_fault_info *vmf);

#endif
