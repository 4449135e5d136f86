/* SPDX-License-Identifier: MIT */
/*
 * Huge pages: an entry of a PMD table that maps 2 MiB at once.
 *
 * Such an entry maps a compound page of order HUGE_ORDER, or (special) the huge zero page or blocks
 * of a device (fault/dax_huge.c), which count nothing.  Of a page it has
 * one reference and counts one mapping of the head; it is an entry of one VMA, which covers all of
 * it.  The lock of the PMD table guards it, and its change to a table or back.  With each of them
 * its PMD table keeps one empty table, so that it can be split without memory.
 *
 * Single pages of a compound page are mapped by nobody: who wants to treat a part of it apart
 * splits it, that is, the page into single pages and all entries that map it into tables
 * (split.c).  So a walk over last-level tables never meets a part of a compound page; one over a
 * range of addresses either knows huge entries (pmd_next()) or has them split under its feet
 * (pte_next_table(), pte_alloc()).
 *
 * Where a pool's huge pages are mapped (is_of_pool()) none of this may be asked for.
 */
#ifndef VMF_SPACE_HUGE_H
#define VMF_SPACE_HUGE_H

#include "engine/engine.h"
#include "engine/mmu/walk.h"

#define HUGE_ORDER 9
#define HUGE_PAGES (1u << HUGE_ORDER)

/* ---- table.c ---- */

/* The entry of va at a level from LEVEL_PTE to LEVEL_PUD, and the lock of its table; NULL: no such
 * table, or a huge page is there at a higher level.  As pte_find(). */
pte_t *entry_find(struct mm *mm, u64 va, enum mmu_level level, spinlock_t **ptl);
/* The same, making the tables that are missing; a huge page that is there is split for that.
 * NULL: no memory. */
pte_t *entry_alloc(struct mm *mm, u64 va, enum mmu_level level, spinlock_t **ptl);
/* The PMD-level entry of va and the lock of its table; NULL: no such table.  As pte_find(). */
pte_t *pmd_find(struct mm *mm, u64 va, spinlock_t **ptl);
/* The same, making the tables that are missing.  NULL: no memory. */
pte_t *pmd_alloc(struct mm *mm, u64 va, spinlock_t **ptl);
/* What the entry of va says, as read without a lock; in a huge page: what it would say. */
pte_t pte_peek(struct mm *mm, u64 va);
/* As pte_next_table(), but huge entries are given, too: then *huge is set and the result is the
 * PMD-level entry.  Nothing is split. */
pte_t *pmd_next(struct mm *mm, u64 *va, u64 end, spinlock_t **ptl, bool *huge);
/* Of an entry that was seen to be huge: true, and its table is locked; false, and it is not: it is
 * not huge any more.  Waits for a split to end; no page lock, rmap lock or page-table lock held. */
bool pmd_lock_huge(struct mm *mm, pte_t *pmdp, spinlock_t *ptl);
/* The same without waiting, for those who may not: false also while it is being split. */
bool pmd_trylock_huge(pte_t *pmdp, spinlock_t *ptl);

/* An empty table to keep with a huge entry to come; NULL: no memory. */
struct page *spare_table_new(struct mm *mm);
/* It was not needed. */
void spare_table_free(struct mm *mm, struct page *spare);
/* Keep it with the PMD table of pmdp; get one back.  The table's lock held. */
void spare_table_put(struct mm *mm, pte_t *pmdp, struct page *spare);
struct page *spare_table_take(struct mm *mm, pte_t *pmdp);
/* Its entries. */
pte_t *spare_table_entries(struct mm *mm, struct page *spare);
/* Put the table down in place of what pmdp has. */
void spare_table_link(struct mm *mm, pte_t *pmdp, struct page *spare);

/* The first 2 MiB within [start, end) whose last-level table is there and empty; end: none. */
u64 find_empty_table(struct mm *mm, u64 start, u64 end);
/* Free all such tables, so that huge pages may come there.  [start, end) lies in the VMA.
 * mmap_lock held for writing, the VMA drained. */
void free_empty_tables(struct vma *vma, u64 start, u64 end);
/* Before move_tables(), which cannot: split what cannot move as it is.  0, -ENOMEM.  mmap_lock held
 * for writing, and the VMAs drained. */
int prepare_huge_move(struct mm *mm, u64 from, u64 to, u64 len);

/* ---- split.c ---- */

/*
 * Split what is huge at va: the page, and so all entries that map it, in whatever space.  When it
 * returns there is a table or nothing (an
 * entry that maps a device's blocks is dropped; or, without mmap_lock for writing, a huge page that
 * has come since).  Cannot fail; a page of a pool stays as it is.  mmap_lock or a VMA lock over va
 * held; no page lock, rmap lock or page-table lock.
 */
void split_huge_pmd(struct mm *mm, u64 va);
/* The special huge entry goes, flushed, and with it its spare table.  va is its own.  PTL held. */
void drop_special_pmd(struct mm *mm, u64 va, pte_t *pmdp);
/* The same for all that [start, end) has a part of. */
void split_huge_range(struct mm *mm, u64 start, u64 end);
/* Split a compound page that is mapped by huge entries.  0; -EBUSY: it is mapped nowhere.  Page
 * lock and a reference held; no rmap lock or page-table lock. */
int split_huge_page(struct engine *e, struct page *head);
/* Split the page that the frame belongs to, if it is compound and on an LRU list.  No lock held. */
void split_page_of(struct engine *e, struct page *page);

/* ---- engine/fault/huge.c ---- */

/* May the VMA get huge pages by itself, by its flags and the engine's setting? */
bool thp_allowed(const struct vma *vma);
/* Has the machine any, of the engine's or of the host's? */
static inline bool has_huge_pages(const struct engine *e)
{
	return e->mmu->set_huge || e->mmu->collapse;
}
/* Does the huge page that va would be in lie within the VMA? */
bool thp_fits(const struct vma *vma, u64 va);
/* 2 MiB of frames in one piece for what is around va, by the policy of the area, or NULL.  Nothing
 * is reclaimed for it; where MADV_HUGEPAGE asks for it pages may be moved for it.  mmap_lock or the
 * VMA's held. */
struct page *huge_page_alloc(const struct vma *vma, u64 va);
/* Fill it with zeros. */
void huge_page_clear(struct engine *e, struct page *page);

/* ---- huge_zero.c ---- */

/* The huge page of zeros, which one entry more is to map; NULL: none is to be had. */
struct page *huge_zero_get(struct engine *e);
/* n entries that mapped it, or were to, are gone, and flushed. */
void huge_zero_put(struct engine *e, u64 n);
/* Does the huge entry map it?  A special one that does not maps a device.  PTL held. */
static inline bool pmd_is_huge_zero(const struct engine *e, pte_t pmd)
{
	const struct page *zero = __atomic_load_n(&e->huge_zero, __ATOMIC_RELAXED);

	return pte_special(pmd) && zero && pte_pfn(pmd) == page_pfn(e, zero);
}
/* If nobody maps it, it goes.  Frames freed. */
u64 huge_zero_shrink(struct engine *e);

#endif
