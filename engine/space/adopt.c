/* SPDX-License-Identifier: MIT */
/*
 * Pages that are in the machine without the engine's having put them there: before it took over,
 * or behind its back.  The entry is written without asking the machine, in which nothing changes.
 */
#include "engine/reclaim/internal.h"
#include "engine/space/internal.h"

int adopt_page(struct mm *mm, struct vma *vma, u64 va)
{
	struct engine *e = mm->engine;
	struct page *page;
	spinlock_t *ptl;
	pte_t *ptep, old;

	if (!vma || va < vma->start || va >= vma->end || (vma->flags & VM_SHARED))
		return -EFAULT;
	if (anon_vma_prepare(vma))
		return -ENOMEM;
	ptep = pte_alloc(mm, va, &ptl);
	if (!ptep)
		return -ENOMEM;
	if (pte_mapped(pte_read(ptep)))
		return -EEXIST;
	/* The page is there already: it is counted first and room is made for it later, if it can.
	 */
	page = page_alloc(e, ZONE_USER, 0, ALLOC_NORECLAIM | ALLOC_RESERVE);
	if (!page)
		page = page_alloc(e, ZONE_USER, 0, 0);
	if (!page)
		return -ENOMEM;
	page_set(page, PG_DIRTY | PG_ANON_EXCLUSIVE);

	spin_lock(ptl);
	old = pte_read(ptep);
	if (pte_mapped(old)) {
		spin_unlock(ptl);
		page_put(e, page);
		return -EEXIST;
	}
	pte_store(ptep, pte_make(page_pfn(e, page), vma_pte_bits(vma) | PTE_ACCESSED | PTE_DIRTY));
	page_add_anon_rmap(page, vma, va);
	lru_add(e, page);
	atomic_fetch_add_explicit(&mm->rss, 1, memory_order_relaxed);
	spin_unlock(ptl);
	if (pte_is_swap(old)) {
		atomic_fetch_sub_explicit(&mm->swapped, 1, memory_order_relaxed);
		swap_put(&e->swap, pte_to_swp(old).v);
	}
	return 0;
}
