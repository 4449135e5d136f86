/* SPDX-License-Identifier: MIT */
/*
 * Splitting huge pages: one compound page becomes HUGE_PAGES single pages, and each huge entry that
 * maps it a table.
 *
 *   1  the page lock, so that no entry comes (fork) and nobody else splits; the lock of the family,
 *      so that no VMA in it changes; so the walk meets every entry;
 *   2  each entry is withdrawn: cleared and flushed, with a mark that says "wait" to all who come
 *      (they wait for the page lock), while it still counts as a mapping;
 *   3  nobody can reach the page but by its place on the LRU list and by its head's references: it
 *      is cut, under the lock of the lists;
 *   4  each mark makes place for the table that was kept for it, full of entries with the rights
 *      and the accessed and dirty bits of the huge one.
 *
 * Two sizes of translation for one address are never alive: between 2 and 4 there is none.
 *
 * Special entries are no page's: that of the huge zero page becomes a table of the zero page, one
 * of a device's blocks goes, and what is wanted comes back by faults (as __split_huge_pmd_locked()
 * does with those of files).
 *
 * Linux splits the entry of the space alone that wants it, and the page some time later; here
 * single pages of a compound page are never mapped, which spares all who look at pages the
 * question.
 */
#include "engine/base/check.h"
#include "engine/base/errno.h"
#include "engine/reclaim/internal.h"
#include "engine/space/huge.h"

/* Step 2.  PTL held. */
static void withdraw(struct engine *e, struct rmap_walk *w)
{
	struct mm *mm = w->vma->mm;
	pte_t was = e->mmu->clear_huge(mm, w->va, w->ptep, pmd_mksplitting(pte_read(w->ptep)));

	/* With what the hardware set until now. */
	pte_store(w->ptep, pmd_mksplitting(was));
	e->mmu->flush(mm, w->va, w->va + PMD_SIZE);
}

/* Step 4.  PTL held. */
static void put_back(struct rmap_walk *w)
{
	struct mm *mm = w->vma->mm;
	struct page *table = spare_table_take(mm, w->ptep);
	pte_t *entries = spare_table_entries(mm, table);
	pte_t pmd = pmd_unsplitting(pte_read(w->ptep));

	for (unsigned i = 0; i < HUGE_PAGES; i++)
		pte_store(&entries[i], pmd_small(pmd, i));
	spare_table_link(mm, w->ptep, table);
}

int split_huge_page(struct engine *e, struct page *head)
{
	struct rmap_walk w;
	s32 n = 0;

	VMF_ASSERT(page_test(head, PG_HEAD) && page_test(head, PG_LOCKED) && !is_of_pool(head));
	if (!rmap_begin(e, head, &w))
		return -EBUSY;
	while (rmap_next_place(&w)) {
		spin_lock(w.ptl);
		if (rmap_is_at(&w)) {
			withdraw(e, &w);
			n++;
		}
		spin_unlock(w.ptl);
	}
	if (n) {
		VMF_ASSERT(page_mapcount(head) == n);
		lru_cut(e, head, n);
		stat_add(&e->stats->thp_split, 1);
	}
	while (n && rmap_next_place(&w)) {
		spin_lock(w.ptl);
		if (pmd_is_splitting(pte_read(w.ptep)) && pte_pfn(pte_read(w.ptep)) == w.pfn)
			put_back(&w);
		spin_unlock(w.ptl);
	}
	rmap_end(&w);
	return n ? 0 : -EBUSY;
}

/* PTL held. */
static void split_zero_pmd(struct mm *mm, u64 va, pte_t *pmdp)
{
	struct engine *e = mm->engine;
	struct page *table = spare_table_take(mm, pmdp);
	pte_t *entries = spare_table_entries(mm, table), pmd;

	va &= PMD_MASK;
	pmd = e->mmu->clear_huge(mm, va, pmdp, (pte_t){ 0 });
	e->mmu->flush(mm, va, va + PMD_SIZE);
	pmd = pte_make(e->zero_pfn, pmd.v & ~PTE_PFN_MASK);
	for (unsigned i = 0; i < HUGE_PAGES; i++)
		pte_store(&entries[i], pmd_small(pmd, 0));
	spare_table_link(mm, pmdp, table);
	huge_zero_put(e, 1);
}

void drop_special_pmd(struct mm *mm, u64 va, pte_t *pmdp)
{
	struct engine *e = mm->engine;
	pte_t pmd = e->mmu->clear_huge(mm, va, pmdp, (pte_t){ 0 });

	e->mmu->flush(mm, va, va + PMD_SIZE);
	spare_table_free(mm, spare_table_take(mm, pmdp));
	if (pmd_is_huge_zero(e, pmd))
		huge_zero_put(e, 1);
}

void split_huge_pmd(struct mm *mm, u64 va)
{
	struct engine *e = mm->engine;
	spinlock_t *ptl;
	pte_t *pmdp = pmd_find(mm, va, &ptl);

	while (pmdp && pte_huge(pte_read(pmdp)) && pmd_lock_huge(mm, pmdp, ptl)) {
		pte_t pmd = pte_read(pmdp);
		struct page *page = pfn_page(e, pte_pfn(pmd));

		if (pte_special(pmd) || unlikely(is_of_pool(page))) {
			if (pmd_is_huge_zero(e, pmd))
				split_zero_pmd(mm, va, pmdp);
			else if (pte_special(pmd))
				drop_special_pmd(mm, va & PMD_MASK, pmdp);
			spin_unlock(ptl);
			return;
		}
		page_get(page);
		spin_unlock(ptl);
		page_lock(page);
		if (page_test(page, PG_HEAD))
			split_huge_page(e, page);
		page_unlock(page);
		page_put(e, page);
	}
}

void split_huge_range(struct mm *mm, u64 start, u64 end)
{
	spinlock_t *ptl;
	bool huge;

	while (pmd_next(mm, &start, end, &ptl, &huge)) {
		if (huge)
			split_huge_pmd(mm, start);
		start = (start & PMD_MASK) + PMD_SIZE;
	}
}

void split_page_of(struct engine *e, struct page *page)
{
	struct page *head = pfn_page(e, page_pfn(e, page) & ~(u64)(HUGE_PAGES - 1));
	struct lruvec *v;

	if (!pfn_is_user(e, page_pfn(e, head)))
		return;
	/* Under this lock what is on a list stays what it is. */
	v = lruvec_relock(e, head, NULL);
	if (!page_test(head, PG_HEAD) || head->order != HUGE_ORDER || !page_test(head, PG_LRU) ||
	    !page_tryget(head))
		head = NULL;
	spin_unlock(&v->lock);
	if (!head)
		return;
	page_lock(head);
	if (page_test(head, PG_HEAD))
		split_huge_page(e, head);
	page_unlock(head);
	page_put(e, head);
}
